//! Builds trees of the IR from the nodes of a file: finds cycles, orders nodes, spells out sets.

use std::collections::HashMap;

use super::super::Call;
use super::{MAX_DEPTH, MAX_NODES};
use crate::error::Result;
use crate::ir::{DType, Test, TreeNode};

/// A node of a file; children are keys.
pub(super) enum FileNode<'a> {
    Branch { feature: i64, test: FileTest<'a>, nan_passes: bool, yes: usize, no: usize },
    Leaf(Vec<(usize, f64)>),
}

pub(super) enum FileTest<'a> {
    Compare(Test, f64),
    /// Whether the feature is one of these.
    Member(&'a [f64]),
}

/// Where the nodes of a tree come from.
pub(super) trait Source {
    /// What a key stands for.
    fn node(&self, key: usize) -> Result<FileNode<'_>>;
    /// What to call it in messages.
    fn name(&self, key: usize) -> String;
}

/// Builds the trees of one ensemble.
pub(super) struct Trees<'a, S> {
    pub(super) call: &'a Call<'a>,
    pub(super) source: S,
    pub(super) dtype: DType,
    pub(super) num_features: usize,
    /// Nodes so far.
    pub(super) num_nodes: usize,
}

impl<S: Source> Trees<'_, S> {
    /// The tree from a root on, each node before its children; and how many nodes of the file it has.
    pub(super) fn build(&mut self, root: usize) -> Result<(Vec<TreeNode>, usize)> {
        let order = self.order(root)?;
        let mut places = HashMap::with_capacity(order.len());
        let mut next = 0;
        let mut depths = HashMap::<usize, usize>::with_capacity(order.len());
        let mut nodes = Vec::with_capacity(order.len());
        for &key in &order {
            let node = self.source.node(key)?;
            places.insert(key, next);
            next += self.size(&node);
            nodes.push(node);
        }
        self.num_nodes += next;
        if self.num_nodes > MAX_NODES {
            return Err(self.call.error(format!("the ensemble has more than {MAX_NODES} nodes")));
        }
        let mut tree = Vec::with_capacity(next);
        for (key, node) in order.iter().zip(nodes) {
            let depth = depths.get(key).copied().unwrap_or(0);
            match node {
                FileNode::Leaf(weights) => tree.push(TreeNode::Leaf(weights)),
                FileNode::Branch { feature, test, nan_passes, yes, no } => {
                    if depth >= MAX_DEPTH {
                        let name = self.source.name(*key);
                        return Err(self
                            .call
                            .error(format!("{name} is {depth} branches deep, expected at most {MAX_DEPTH}")));
                    }
                    for child in [yes, no] {
                        let child = depths.entry(child).or_insert(0);
                        *child = (*child).max(depth + 1);
                    }
                    let feature = self.feature(*key, feature)?;
                    let (yes, no) = (places[&yes], places[&no]);
                    match test {
                        FileTest::Compare(test, threshold) => {
                            let threshold = exact(self.dtype, test, threshold);
                            tree.push(TreeNode::Branch { feature, test, threshold, nan_passes, yes, no });
                        }
                        FileTest::Member(members) => {
                            let members = self.members(members);
                            let branch = |test, threshold, nan_passes, yes, no| TreeNode::Branch {
                                feature,
                                test,
                                threshold,
                                nan_passes,
                                yes,
                                no,
                            };
                            member(&mut tree, &members, &|tree, at| match at {
                                Search::Is(value) => branch(Test::Equal, value, nan_passes, yes, no),
                                // NaN goes right until the last member decides.
                                Search::Split(value, right) => {
                                    branch(Test::LessOrEqual, value, false, tree.len() + 1, right)
                                }
                            });
                        }
                    }
                }
            }
        }
        Ok((tree, order.len()))
    }

    /// All keys below a root, each before its children.
    fn order(&self, root: usize) -> Result<Vec<usize>> {
        // Whether all below a key is done, for keys that were met.
        let mut is_done = HashMap::new();
        let mut order = Vec::new();
        let mut todo = vec![(root, false)];
        while let Some((key, is_left)) = todo.pop() {
            if is_left {
                is_done.insert(key, true);
                order.push(key);
                continue;
            }
            match is_done.get(&key) {
                Some(true) => continue,
                Some(false) => {
                    return Err(self.call.error(format!("{} is its own descendant", self.source.name(key))));
                }
                None => {}
            }
            is_done.insert(key, false);
            if is_done.len() > MAX_NODES {
                return Err(self.call.error(format!("the ensemble has more than {MAX_NODES} nodes")));
            }
            todo.push((key, true));
            if let FileNode::Branch { yes, no, .. } = self.source.node(key)? {
                todo.extend([(no, false), (yes, false)]);
            }
        }
        order.reverse();
        Ok(order)
    }

    /// Nodes of the IR that a node becomes.
    fn size(&self, node: &FileNode<'_>) -> usize {
        match node {
            FileNode::Branch { test: FileTest::Member(members), .. } => 2 * self.members(members).len() - 1,
            _ => 1,
        }
    }

    /// The members in order, each once; at least one.
    fn members(&self, members: &[f64]) -> Vec<f64> {
        let mut members: Vec<f64> = members
            .iter()
            .map(|value| exact(self.dtype, Test::Equal, *value))
            .filter(|value| !value.is_nan())
            .collect();
        members.sort_by(f64::total_cmp);
        members.dedup_by(|a, b| a == b);
        if members.is_empty() {
            members.push(f64::NAN);
        }
        members
    }

    fn feature(&self, key: usize, feature: i64) -> Result<usize> {
        usize::try_from(feature).ok().filter(|feature| *feature < self.num_features).ok_or_else(|| {
            let name = self.source.name(key);
            let reason = format!(
                "attribute `nodes_featureids`: {name} tests feature {feature}, expected one of {} features",
                self.num_features
            );
            self.call.error(reason)
        })
    }
}

/// A step of a search for a member.
enum Search {
    /// The only member that is left.
    Is(f64),
    /// Whether it is in the left half, whose last member this is; then where the right half begins.
    Split(f64, usize),
}

fn member(tree: &mut Vec<TreeNode>, members: &[f64], node: &impl Fn(&[TreeNode], Search) -> TreeNode) {
    if let [only] = members {
        let is = node(tree, Search::Is(*only));
        return tree.push(is);
    }
    let (left, right) = members.split_at(members.len() / 2);
    let split = node(tree, Search::Split(left[left.len() - 1], tree.len() + 2 * left.len()));
    tree.push(split);
    member(tree, left, node);
    member(tree, right, node);
}

/// The threshold in the type of the features, such that each of them compares with it as with the original.
fn exact(dtype: DType, test: Test, threshold: f64) -> f64 {
    let near = threshold as f32;
    let rounded = f64::from(near);
    if dtype == DType::F64 || rounded == threshold || threshold.is_nan() {
        return threshold;
    }
    f64::from(match test {
        Test::LessOrEqual | Test::Greater if rounded > threshold => near.next_down(),
        Test::Less | Test::GreaterOrEqual if rounded < threshold => near.next_up(),
        Test::Equal | Test::NotEqual => f32::NAN,
        _ => near,
    })
}

/// A weight in the type of the scores.
pub(super) fn weight(call: &Call<'_>, dtype: DType, attribute: &str, weight: f64) -> Result<f64> {
    let rounded = if dtype == DType::F64 { weight } else { f64::from(weight as f32) };
    if rounded.is_finite() {
        return Ok(rounded);
    }
    Err(call.error(format!("attribute `{attribute}` holds {weight}, expected a finite {}", dtype.name())))
}
