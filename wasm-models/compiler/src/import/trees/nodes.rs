//! The nodes of TreeEnsembleClassifier and TreeEnsembleRegressor.

use std::collections::HashMap;

use super::super::{Builder, Call, tensor};
use super::build::{self, FileNode, FileTest, Source};
use super::{MAX_NODES, leaves};
use crate::error::Result;
use crate::ir::{Aggregate, DType, Data, Operand, Test, TreeNode};

/// Numbers of an attribute, or of the tensor beside it; `None` where there is neither.
pub(super) fn numbers(call: &Call<'_>, name: &str) -> Result<Option<Vec<f64>>> {
    let floats = call.floats(name).filter(|floats| !floats.is_empty());
    let other = format!("{name}_as_tensor");
    let doubles = doubles(call, &other)?;
    match (floats, doubles) {
        (Some(_), Some(_)) => {
            Err(call.error(format!("attributes `{name}` and `{other}` are both given, expected one")))
        }
        (Some(floats), None) => Ok(Some(floats.iter().map(|x| f64::from(*x)).collect())),
        (None, doubles) => Ok(doubles),
    }
}

/// Numbers of an attribute that is a tensor.
pub(super) fn doubles(call: &Call<'_>, name: &str) -> Result<Option<Vec<f64>>> {
    let Some(tensor) = call.tensor(name) else { return Ok(None) };
    let (_, data) =
        tensor::read(tensor).map_err(|error| call.error(format!("attribute `{name}`: {}", error.reason)))?;
    match data {
        Data::F32(data) => Ok(Some(data.into_iter().map(f64::from).collect())),
        Data::F64(data) => Ok(Some(data)),
        other => {
            let kind = other.dtype().name();
            Err(call.error(format!("attribute `{name}` is {kind}, expected float32 or float64")))
        }
    }
}

/// An error unless `len` is the length of the other attributes.
pub(super) fn expect_len(call: &Call<'_>, name: &str, len: usize, expected: usize, like: &str) -> Result<()> {
    if len == expected {
        return Ok(());
    }
    Err(call.error(format!("attribute `{name}` has {len} entries, expected {expected} like `{like}`")))
}

struct Nodes<'a> {
    call: &'a Call<'a>,
    trees: &'a [i64],
    ids: &'a [i64],
    features: &'a [i64],
    tests: Vec<Option<Test>>,
    values: Vec<f64>,
    nan_passes: &'a [i64],
    children: Vec<[usize; 2]>,
    weights: HashMap<usize, Vec<(usize, f64)>>,
}

impl Source for Nodes<'_> {
    fn node(&self, key: usize) -> Result<FileNode<'_>> {
        let Some(test) = self.tests[key] else {
            return Ok(FileNode::Leaf(self.weights.get(&key).cloned().unwrap_or_default()));
        };
        Ok(FileNode::Branch {
            feature: self.features[key],
            test: FileTest::Compare(test, self.values[key]),
            nan_passes: self.nan_passes.get(key).is_some_and(|passes| *passes != 0),
            yes: self.children[key][0],
            no: self.children[key][1],
        })
    }

    fn name(&self, key: usize) -> String {
        format!("node {} of tree {}", self.ids[key], self.trees[key])
    }
}

/// Reads the trees; `prefix` is that of the attributes of weights.
pub(super) fn read(
    builder: &Builder,
    call: &Call<'_>,
    x: &Operand,
    prefix: &str,
    num_scores: usize,
    aggregate: Aggregate,
) -> Result<Vec<Vec<TreeNode>>> {
    let trees = call.ints("nodes_treeids").unwrap_or_default();
    let count = trees.len();
    if count == 0 || count > MAX_NODES {
        return Err(call.error(format!("attribute `nodes_treeids` has {count} entries, expected 1 to {MAX_NODES}")));
    }
    let ints = |name: &str| {
        let ints = call.ints(name).unwrap_or_default();
        expect_len(call, name, ints.len(), count, "nodes_treeids").map(|()| ints)
    };
    let tests = call.texts("nodes_modes").iter().map(|mode| test(call, mode)).collect::<Result<Vec<_>>>()?;
    expect_len(call, "nodes_modes", tests.len(), count, "nodes_treeids")?;
    let values = numbers(call, "nodes_values")?.unwrap_or_default();
    expect_len(call, "nodes_values", values.len(), count, "nodes_treeids")?;
    let nan_passes = call.ints("nodes_missing_value_tracks_true").unwrap_or_default();
    if !nan_passes.is_empty() {
        expect_len(call, "nodes_missing_value_tracks_true", nan_passes.len(), count, "nodes_treeids")?;
    }
    let (ids, features) = (ints("nodes_nodeids")?, ints("nodes_featureids")?);
    let mut index = HashMap::with_capacity(count);
    for (key, (tree, id)) in trees.iter().zip(ids).enumerate() {
        if index.insert((*tree, *id), key).is_some() {
            return Err(call.error(format!("attribute `nodes_nodeids`: node {id} of tree {tree} is there twice")));
        }
    }
    let mut children = vec![[0; 2]; count];
    let mut is_child = vec![false; count];
    for (way, name) in ["nodes_truenodeids", "nodes_falsenodeids"].into_iter().enumerate() {
        for (key, child) in ints(name)?.iter().enumerate().filter(|(key, _)| tests[*key].is_some()) {
            let found = index.get(&(trees[key], *child)).copied().ok_or_else(|| {
                let (id, tree) = (ids[key], trees[key]);
                call.error(format!(
                    "attribute `{name}`: node {id} of tree {tree} leads to node {child}, which the tree lacks"
                ))
            })?;
            children[key][way] = found;
            is_child[found] = true;
        }
    }
    let dtype = builder.graph.dtype(x);
    let weights = weights(call, prefix, num_scores, dtype, &index, &tests)?;
    let nodes = Nodes { call, trees, ids, features, tests, values, nan_passes, children, weights };
    nodes.build(dtype, x.shape[1], &is_child, aggregate)
}

impl Nodes<'_> {
    fn build(
        self,
        dtype: DType,
        num_features: usize,
        is_child: &[bool],
        aggregate: Aggregate,
    ) -> Result<Vec<Vec<TreeNode>>> {
        // Trees in the order in which the file names them first, with their roots.
        let mut roots = Vec::<(i64, Vec<usize>)>::new();
        let mut places = HashMap::new();
        for (key, tree) in self.trees.iter().enumerate() {
            let place = *places.entry(*tree).or_insert_with(|| {
                roots.push((*tree, Vec::new()));
                roots.len() - 1
            });
            if !is_child[key] {
                roots[place].1.push(key);
            }
        }
        let (call, count) = (self.call, self.trees.len());
        let mut builder = build::Trees { call, source: self, dtype, num_features, num_nodes: 0 };
        let mut all = Vec::with_capacity(roots.len());
        let mut num_reached = 0;
        for (tree, roots) in roots {
            let root = match roots.as_slice() {
                [] => return Err(call.error(format!("tree {tree} has no root: every node is a child"))),
                [root] => *root,
                [first, second, ..] => {
                    let (first, second) = (builder.source.name(*first), builder.source.name(*second));
                    return Err(call.error(format!("{first} and {second} are both roots, expected one in each tree")));
                }
            };
            let (nodes, reached) = builder.build(root)?;
            num_reached += reached;
            all.push(nodes);
        }
        if num_reached < count {
            let lost = count - num_reached;
            return Err(call.error(format!("{lost} nodes cannot be reached from the roots of their trees")));
        }
        for leaf in leaves(&mut all) {
            merge(leaf, aggregate);
        }
        Ok(all)
    }
}

/// Weights of leaves by node.
fn weights(
    call: &Call<'_>,
    prefix: &str,
    num_scores: usize,
    dtype: DType,
    index: &HashMap<(i64, i64), usize>,
    tests: &[Option<Test>],
) -> Result<HashMap<usize, Vec<(usize, f64)>>> {
    let names = ["ids", "nodeids", "treeids", "weights"].map(|name| format!("{prefix}_{name}"));
    let ids = call.ints(&names[0]).unwrap_or_default();
    let (nodes, trees) = (call.ints(&names[1]).unwrap_or_default(), call.ints(&names[2]).unwrap_or_default());
    let numbers = numbers(call, &names[3])?.unwrap_or_default();
    if ids.is_empty() || ids.len() > MAX_NODES {
        return Err(call.error(format!(
            "attribute `{}` has {} entries, expected 1 to {MAX_NODES}",
            names[0],
            ids.len()
        )));
    }
    for (name, len) in [(&names[1], nodes.len()), (&names[2], trees.len()), (&names[3], numbers.len())] {
        expect_len(call, name, len, ids.len(), &names[0])?;
    }
    let mut weights = HashMap::<usize, Vec<(usize, f64)>>::new();
    for (((score, node), tree), number) in ids.iter().zip(nodes).zip(trees).zip(numbers) {
        let key =
            index.get(&(*tree, *node)).copied().filter(|key| tests[*key].is_none()).ok_or_else(|| {
                call.error(format!("attribute `{}`: node {node} of tree {tree} is no leaf", names[1]))
            })?;
        let score = usize::try_from(*score).ok().filter(|score| *score < num_scores).ok_or_else(|| {
            call.error(format!("attribute `{}` holds {score}, expected 0 to {}", names[0], num_scores - 1))
        })?;
        weights.entry(key).or_default().push((score, build::weight(call, dtype, &names[3], number)?));
    }
    Ok(weights)
}

/// Sorts the weights of a leaf by score and joins those of one score.
pub(super) fn merge(leaf: &mut Vec<(usize, f64)>, aggregate: Aggregate) {
    leaf.sort_by_key(|(score, _)| *score);
    leaf.dedup_by(|next, first| {
        let is_same = next.0 == first.0;
        if is_same {
            first.1 = match aggregate {
                Aggregate::Sum | Aggregate::Average => first.1 + next.1,
                Aggregate::Min => first.1.min(next.1),
                Aggregate::Max => first.1.max(next.1),
            };
        }
        is_same
    });
}

/// The test of a mode, `None` of a leaf.
fn test(call: &Call<'_>, mode: &str) -> Result<Option<Test>> {
    Ok(Some(match mode {
        "LEAF" => return Ok(None),
        "BRANCH_LEQ" => Test::LessOrEqual,
        "BRANCH_LT" => Test::Less,
        "BRANCH_GTE" => Test::GreaterOrEqual,
        "BRANCH_GT" => Test::Greater,
        "BRANCH_EQ" => Test::Equal,
        "BRANCH_NEQ" => Test::NotEqual,
        _ => {
            let accepted = "BRANCH_LEQ, BRANCH_LT, BRANCH_GTE, BRANCH_GT, BRANCH_EQ, BRANCH_NEQ or LEAF";
            return Err(call.error(format!("attribute `nodes_modes` holds `{mode}`, expected {accepted}")));
        }
    }))
}
