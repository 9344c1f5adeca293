//! Packing of tree ensembles: every test becomes `feature <= threshold`, and the nodes a table that a branch-free descent walks.
//!
//! `x < t` is `x <=` the number below `t`, `x >= t` is not `x < t`, and `x == t` is two tests. A row is read through slots: slot 0 is
//! NaN, which fails every test, then come the features, then, where needed, the features with negative infinity for NaN, which passes
//! every test. So where NaN goes costs nothing: the branch names one slot or the other.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::{CompileError, Result};
use crate::ir::{
    Aggregate, DType, Data, Graph, MAX_ELEMENTS, Op, Operand, Test, TreeForm, TreeNode, TreeRun, TreeTable, Trees,
};

/// Deepest trees that are filled up.
const MAX_COMPLETE_DEPTH: usize = 8;
/// Bytes that filling up may cost.
const COMPLETE_SLACK: usize = 32 << 10;
/// Most runs of scores with different numbers of trees; each is code of its own.
const MAX_RUNS: usize = 16;

/// Packs all tree ensembles of a graph.
pub(crate) fn run(graph: &mut Graph) -> Result<()> {
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Op::Trees(trees) = &node.op else { continue };
        if trees.table.is_some() {
            continue;
        }
        let name = node.name.clone();
        let input = &node.inputs[0];
        let (table, bytes) = Packer { trees, dtype: graph.dtype(input), num_features: input.shape[1] }
            .pack()
            .ok_or_else(|| CompileError::node(&name, "the table of its trees takes too much memory"))?;
        let trees = Trees { table: Some(table), ..(**trees).clone() };
        let words: Vec<i32> = bytes.as_chunks::<4>().0.iter().map(|word| i32::from_le_bytes(*word)).collect();
        let shape = [words.len()];
        let constant = graph.add_constant(format!("{name} table"), &shape, Data::I32(words))?;
        let node = &mut graph.nodes[index];
        node.op = Op::Trees(Arc::new(trees));
        node.inputs.truncate(1);
        node.inputs.push(Operand::whole(constant, &shape));
    }
    Ok(())
}

/// What an aggregate starts from: 0 of a sum, infinity where nothing was compared yet.
pub(crate) fn neutral(aggregate: Aggregate) -> f64 {
    match aggregate {
        Aggregate::Sum | Aggregate::Average => 0.0,
        Aggregate::Min => f64::INFINITY,
        Aggregate::Max => f64::NEG_INFINITY,
    }
}

/// A node whose test is `slot <= threshold`.
enum Packed<'a> {
    Branch { feature: usize, nan_passes: bool, threshold: f64, children: [usize; 2] },
    Leaf(&'a [(usize, f64)]),
}

/// An entry of the linked form.
#[derive(Clone, Copy, Default)]
struct Entry {
    threshold: f64,
    /// Where the weights lie, of a leaf with several.
    offset: Option<usize>,
    slot: usize,
    distance: i64,
}

struct Packer<'a> {
    trees: &'a Trees,
    dtype: DType,
    num_features: usize,
}

impl Packer<'_> {
    /// The table, or `None` where it is too large.
    fn pack(&self) -> Option<(TreeTable, Vec<u8>)> {
        let packed: Vec<Vec<Packed<'_>>> = self.trees.trees.iter().map(|tree| self.packed(tree)).collect();
        let maps_nan = packed.iter().flatten().any(|node| matches!(node, Packed::Branch { nan_passes: true, .. }));
        let (runs, order, leaf_weights) = self.order();
        let is_leaf = |node: &&Packed<'_>| matches!(node, Packed::Leaf(_));
        let num_nodes: usize = packed.iter().map(Vec::len).sum();
        let num_leaves = packed.iter().flatten().filter(is_leaf).count();
        let depth = packed.iter().map(|tree| depths(tree).first().copied().unwrap_or(0)).max().unwrap_or(0);
        let num_weights = num_leaves.checked_mul(leaf_weights).filter(|weights| *weights <= MAX_ELEMENTS)?;
        let weights_bytes = 8 * (num_nodes - num_leaves) + 4 * num_weights;
        let linked_bytes = 8 * num_nodes + if leaf_weights > 1 { 4 * num_weights } else { 0 };
        let is_complete = self.dtype == DType::F32 && depth <= MAX_COMPLETE_DEPTH && {
            let per_tree = ((8 + 4 * leaf_weights as u128) << depth) - 8;
            order.len() as u128 * per_tree <= linked_bytes.max(weights_bytes + COMPLETE_SLACK) as u128
        };
        let mut bytes = Vec::new();
        let form = if is_complete {
            self.complete(&packed, &order, depth, leaf_weights, &mut bytes)
        } else {
            self.linked(&packed, &runs, &order, leaf_weights, &mut bytes)?
        };
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        let base = bytes.len();
        self.trees.base.iter().for_each(|base| self.put_number(&mut bytes, *base));
        // The kernel reads four numbers at a time.
        bytes.resize(bytes.len().next_multiple_of(16) + 16, 0);
        Some((TreeTable { form, leaf_weights, runs, base, maps_nan }, bytes))
    }

    /// Rewrites the tests of a tree.
    fn packed<'t>(&self, tree: &'t [TreeNode]) -> Vec<Packed<'t>> {
        // Tests for (in)equality become two nodes.
        let is_double =
            |node: &TreeNode| usize::from(matches!(node, TreeNode::Branch { test: Test::Equal | Test::NotEqual, .. }));
        let mut places = Vec::with_capacity(tree.len());
        let mut next = 0;
        for node in tree {
            places.push(next);
            next += 1 + is_double(node);
        }
        let mut packed = Vec::with_capacity(next);
        for (node, place) in tree.iter().zip(&places) {
            let second = place + 1;
            let (feature, test, threshold, nan_passes, yes, no) = match node {
                TreeNode::Leaf(weights) => {
                    packed.push(Packed::Leaf(weights));
                    continue;
                }
                TreeNode::Branch { feature, test, threshold, nan_passes, yes, no } => {
                    (*feature, *test, *threshold, *nan_passes, places[*yes], places[*no])
                }
            };
            let below = self.below(threshold);
            let mut branch = |threshold: f64, nan_passes: bool, fail: usize, pass: usize| {
                // No number is `<=` NaN, but what stands for NaN has to be.
                let threshold = if nan_passes && threshold.is_nan() { f64::NEG_INFINITY } else { threshold };
                packed.push(Packed::Branch { feature, nan_passes, threshold, children: [fail, pass] });
            };
            // `x >= NaN` never holds, so its opposite always does.
            let unless_nan = |limit: f64| if threshold.is_nan() { f64::INFINITY } else { limit };
            match test {
                Test::LessOrEqual => branch(threshold, nan_passes, no, yes),
                Test::Less => branch(below, nan_passes, no, yes),
                Test::Greater => branch(unless_nan(threshold), !nan_passes, yes, no),
                Test::GreaterOrEqual => branch(unless_nan(below), !nan_passes, yes, no),
                Test::Equal => {
                    branch(threshold, nan_passes, no, second);
                    branch(below, false, yes, no);
                }
                Test::NotEqual => {
                    branch(threshold, false, yes, second);
                    branch(below, false, no, yes);
                }
            }
        }
        packed
    }

    /// The largest number below another; NaN where there is none.
    fn below(&self, number: f64) -> f64 {
        match self.dtype {
            _ if number == f64::NEG_INFINITY => f64::NAN,
            DType::F32 => f64::from((number as f32).next_down()),
            _ => number.next_down(),
        }
    }

    /// The trees in the order of the table (`None` for one that says nothing), their runs, and the number of weights of a leaf.
    fn order(&self) -> (Vec<TreeRun>, Vec<Option<usize>>, usize) {
        let (trees, num_scores) = (&self.trees.trees, self.trees.num_scores);
        let all = || (0..trees.len()).map(Some).collect::<Vec<_>>();
        let together = |weights| (vec![TreeRun { scores: 1, trees: trees.len() }], all(), weights);
        if num_scores <= 1 {
            return together(1);
        }
        let mut by_score = vec![Vec::new(); num_scores];
        for (index, tree) in trees.iter().enumerate() {
            let mut scores = tree.iter().filter_map(|node| match node {
                TreeNode::Leaf(weights) => Some(weights.iter().map(|(score, _)| *score)),
                TreeNode::Branch { .. } => None,
            });
            let mut scores = scores.by_ref().flatten();
            let first = scores.next().unwrap_or(0);
            if scores.any(|score| score != first) {
                return together(num_scores);
            }
            by_score[first].push(Some(index));
        }
        let mut runs = Vec::<TreeRun>::new();
        for trees in &by_score {
            match runs.last_mut() {
                Some(run) if run.trees == trees.len() => run.scores += 1,
                _ => runs.push(TreeRun { scores: 1, trees: trees.len() }),
            }
        }
        if runs.len() > MAX_RUNS {
            let most = by_score.iter().map(Vec::len).max().unwrap_or(0);
            if most.saturating_mul(num_scores) > 2 * trees.len() {
                return together(num_scores);
            }
            by_score.iter_mut().for_each(|trees| trees.resize(most, None));
            runs = vec![TreeRun { scores: num_scores, trees: most }];
        }
        (runs, by_score.concat(), 1)
    }

    fn complete(
        &self,
        packed: &[Vec<Packed<'_>>],
        order: &[Option<usize>],
        depth: usize,
        leaf_weights: usize,
        bytes: &mut Vec<u8>,
    ) -> TreeForm {
        let entries = |level: usize| order.len() << level;
        let levels: Vec<usize> = (0..depth).map(|level| 8 * (entries(level) - order.len())).collect();
        let leaves = 8 * (entries(depth) - order.len());
        bytes.resize(leaves, 0);
        let neutral = (neutral(self.trees.aggregate) as f32).to_le_bytes();
        bytes.extend(neutral.repeat(entries(depth) * leaf_weights));
        for (number, tree) in order.iter().enumerate() {
            let Some(tree) = tree.map(|tree| &packed[tree]) else { continue };
            let mut todo = vec![(0, 0, number)];
            while let Some((node, level, place)) = todo.pop() {
                match &tree[node] {
                    Packed::Branch { feature, nan_passes, threshold, children } => {
                        let entry = &mut bytes[levels[level] + 8 * place..][..8];
                        entry[..4].copy_from_slice(&((4 * self.slot(*feature, *nan_passes)) as u32).to_le_bytes());
                        entry[4..].copy_from_slice(&(*threshold as f32).to_le_bytes());
                        todo.extend((0..2).map(|way| (children[way], level + 1, 2 * place + way)));
                    }
                    // Below it, slot 0 leads to the left at every level.
                    Packed::Leaf(weights) => {
                        let leaf = place << (depth - level);
                        for (score, weight) in *weights {
                            let column = if leaf_weights > 1 { *score } else { 0 };
                            let at = leaves + 4 * (leaf * leaf_weights + column);
                            bytes[at..at + 4].copy_from_slice(&(*weight as f32).to_le_bytes());
                        }
                    }
                }
            }
        }
        TreeForm::Complete { levels, leaves }
    }

    /// `None` where offsets do not fit.
    fn linked(
        &self,
        packed: &[Vec<Packed<'_>>],
        runs: &[TreeRun],
        order: &[Option<usize>],
        leaf_weights: usize,
        bytes: &mut Vec<u8>,
    ) -> Option<TreeForm> {
        let mut weights = Vec::new();
        let mut entries = Vec::<Entry>::new();
        let mut chunks = Vec::new();
        let mut rest = order;
        for run in runs {
            for _ in 0..run.scores {
                let (trees, others) = rest.split_at(run.trees);
                rest = others;
                for trees in trees.chunks(4) {
                    let mut steps = 1;
                    let mut roots = [0; 4];
                    for (root, tree) in roots.iter_mut().zip(trees.iter().copied().chain([None; 4])) {
                        *root = entries.len();
                        match tree {
                            Some(tree) => {
                                steps = steps.max(self.link(&packed[tree], leaf_weights, &mut entries, &mut weights));
                            }
                            None => entries.push(self.leaf(&[], leaf_weights, &mut weights)),
                        }
                    }
                    chunks.push((steps, roots));
                }
            }
        }
        let slots = 1 + 2 * self.num_features;
        let is_short = |entry: &Entry| i16::try_from(entry.distance).is_ok();
        let is_narrow = self.dtype == DType::F32 && 4 * slots <= usize::from(u16::MAX) && entries.iter().all(is_short);
        let stride = entry_bytes(self.dtype, is_narrow);
        if entries.len().max(weights.len()) > MAX_ELEMENTS {
            return None;
        }
        for (steps, roots) in &chunks {
            // The kernel takes two steps in each turn.
            bytes.extend((steps.div_ceil(2) as u32).to_le_bytes());
            roots.iter().for_each(|root| bytes.extend(((root * stride) as u32).to_le_bytes()));
        }
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        let nodes = bytes.len();
        for entry in &entries {
            match entry.offset {
                Some(offset) => {
                    bytes.extend((offset as u32).to_le_bytes());
                    bytes.resize(bytes.len() + self.dtype.size() - 4, 0);
                }
                None => self.put_number(bytes, entry.threshold),
            }
            let slot = self.dtype.size() * entry.slot;
            if is_narrow {
                bytes.extend((slot as u16).to_le_bytes());
                bytes.extend((entry.distance as i16).to_le_bytes());
            } else {
                bytes.extend((slot as u32).to_le_bytes());
                bytes.extend((entry.distance as i32).to_le_bytes());
            }
        }
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        let leaves = bytes.len();
        weights.iter().for_each(|weight| self.put_number(bytes, *weight));
        Some(TreeForm::Linked { is_narrow, chunks: 0, nodes, leaves })
    }

    /// Appends a tree, breadth first, siblings side by side, and returns the number of steps to its deepest leaf.
    fn link(
        &self,
        tree: &[Packed<'_>],
        leaf_weights: usize,
        entries: &mut Vec<Entry>,
        weights: &mut Vec<f64>,
    ) -> usize {
        let mut places = vec![None; tree.len()];
        let mut steps = vec![0; tree.len()];
        let mut pairs = vec![0; tree.len()];
        let mut todo = VecDeque::from([(0, entries.len())]);
        entries.push(Entry::default());
        while let Some((node, at)) = todo.pop_front() {
            // A child that two nodes share: slot 0 leads there from its second place.
            if let Some(place) = places[node] {
                entries[at] = Entry { distance: place as i64 - at as i64, ..Entry::default() };
                continue;
            }
            places[node] = Some(at);
            entries[at] = match &tree[node] {
                Packed::Leaf(leaf) => self.leaf(leaf, leaf_weights, weights),
                Packed::Branch { feature, nan_passes, threshold, children } => {
                    let pair = entries.len();
                    pairs[node] = pair;
                    entries.extend([Entry::default(); 2]);
                    todo.extend((0..2).map(|way| (children[way], pair + way)));
                    let slot = self.slot(*feature, *nan_passes);
                    Entry { threshold: *threshold, offset: None, slot, distance: pair as i64 - at as i64 }
                }
            };
        }
        for (index, node) in tree.iter().enumerate().rev() {
            if let Packed::Branch { children, .. } = node {
                let below = (0..2).map(|way| {
                    let is_elsewhere = places[children[way]] != Some(pairs[index] + way);
                    steps[children[way]] + usize::from(is_elsewhere)
                });
                steps[index] = 1 + below.max().unwrap_or(0);
            }
        }
        steps.first().copied().unwrap_or(0)
    }

    fn leaf(&self, leaf: &[(usize, f64)], leaf_weights: usize, weights: &mut Vec<f64>) -> Entry {
        let neutral = neutral(self.trees.aggregate);
        if leaf_weights == 1 {
            return Entry { threshold: leaf.first().map_or(neutral, |(_, weight)| *weight), ..Entry::default() };
        }
        let start = weights.len();
        weights.resize(start + leaf_weights, neutral);
        leaf.iter().for_each(|(score, weight)| weights[start + score] = *weight);
        Entry { offset: Some(start * self.dtype.size()), ..Entry::default() }
    }

    fn slot(&self, feature: usize, nan_passes: bool) -> usize {
        1 + feature + if nan_passes { self.num_features } else { 0 }
    }

    fn put_number(&self, bytes: &mut Vec<u8>, number: f64) {
        match self.dtype {
            DType::F32 => bytes.extend((number as f32).to_le_bytes()),
            _ => bytes.extend(number.to_le_bytes()),
        }
    }
}

/// Bytes of an entry of the linked form.
pub(crate) fn entry_bytes(dtype: DType, is_narrow: bool) -> usize {
    dtype.size() + if is_narrow { 4 } else { 8 }
}

/// For each node the steps to its deepest leaf.
fn depths(tree: &[Packed<'_>]) -> Vec<usize> {
    let mut depths = vec![0; tree.len()];
    for (index, node) in tree.iter().enumerate().rev() {
        if let Packed::Branch { children: [fail, pass], .. } = node {
            depths[index] = 1 + depths[*fail].max(depths[*pass]);
        }
    }
    depths
}
