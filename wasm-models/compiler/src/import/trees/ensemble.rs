//! TreeEnsemble: branches and leaves in lists of their own, trees by their roots.

use super::super::ml::scores::{PostTransform, post_transform};
use super::super::{Builder, Call, ml};
use super::build::{self, FileNode, FileTest, Source};
use super::nodes::{doubles, expect_len};
use super::{MAX_NODES, add, num_scores};
use crate::error::Result;
use crate::ir::{Aggregate, Operand, Test, Trees};

/// Keys are twice the place in the list, and 1 more for a leaf.
struct Lists<'a> {
    call: &'a Call<'a>,
    features: &'a [i64],
    splits: Vec<f64>,
    /// `None` stands for membership.
    tests: Vec<Option<Test>>,
    members: Vec<Vec<f64>>,
    nan_passes: &'a [i64],
    /// Of `yes` and `no`: places, and whether they are of leaves.
    children: [(&'a [i64], &'a [i64]); 2],
    leaves: Vec<(usize, f64)>,
}

impl Lists<'_> {
    fn key(&self, attribute: &str, place: i64, is_leaf: bool) -> Result<usize> {
        let count = if is_leaf { self.leaves.len() } else { self.tests.len() };
        let place = usize::try_from(place).ok().filter(|place| *place < count).ok_or_else(|| {
            let kind = if is_leaf { "leaves" } else { "nodes" };
            self.call.error(format!("attribute `{attribute}` holds {place}, expected one of {count} {kind}"))
        })?;
        Ok(2 * place + usize::from(is_leaf))
    }
}

impl Source for Lists<'_> {
    fn node(&self, key: usize) -> Result<FileNode<'_>> {
        let place = key / 2;
        if key % 2 == 1 {
            return Ok(FileNode::Leaf(vec![self.leaves[place]]));
        }
        let child = |way: usize, name: &str| {
            let (places, are_leaves) = self.children[way];
            self.key(name, places[place], are_leaves[place] != 0)
        };
        Ok(FileNode::Branch {
            feature: self.features[place],
            test: match self.tests[place] {
                Some(test) => FileTest::Compare(test, self.splits[place]),
                None => FileTest::Member(&self.members[place]),
            },
            nan_passes: self.nan_passes.get(place).is_some_and(|passes| *passes != 0),
            yes: child(0, "nodes_truenodeids")?,
            no: child(1, "nodes_falsenodeids")?,
        })
    }

    fn name(&self, key: usize) -> String {
        format!("{} {}", if key % 2 == 1 { "leaf" } else { "node" }, key / 2)
    }
}

pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Operand>> {
    let x = ml::table(builder, call, true)?;
    let dtype = builder.graph.dtype(&x);
    let num_targets = num_scores(call, "n_targets")?;
    let aggregate = match call.int("aggregate_function", 1) {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(call.error(format!("attribute `aggregate_function` is {other}, expected 0 to 3"))),
    };
    let transform = match call.int("post_transform", 0) {
        0 => PostTransform::None,
        1 => PostTransform::Softmax,
        2 => PostTransform::Logistic,
        3 => PostTransform::SoftmaxZero,
        4 => PostTransform::Probit,
        other => return Err(call.error(format!("attribute `post_transform` is {other}, expected 0 to 4"))),
    };
    let lists = lists(call, num_targets, dtype)?;
    let roots = call.ints("tree_roots").unwrap_or_default();
    if roots.is_empty() {
        return Err(call.error("attribute `tree_roots` is empty, expected a root"));
    }
    let mut trees = build::Trees { call, source: lists, dtype, num_features: x.shape[1], num_nodes: 0 };
    let mut all = Vec::new();
    for &root in roots {
        let lists = &trees.source;
        let key = lists.key("tree_roots", root, false)?;
        // A tree that is a leaf has a root both of whose children are that leaf.
        let [(yes, yes_leaf), (no, no_leaf)] = lists.children;
        let place = key / 2;
        let is_leaf = yes[place] == no[place] && yes_leaf[place] != 0 && no_leaf[place] != 0;
        let key = if is_leaf { lists.key("nodes_truenodeids", yes[place], true)? } else { key };
        all.push(trees.build(key)?.0);
    }
    let base = vec![0.0; num_targets];
    let scores = add(builder, call, &x, Trees { trees: all, num_scores: num_targets, base, aggregate, table: None })?;
    if transform == PostTransform::None {
        return Ok(vec![scores]);
    }
    // Transforms are functions of float32, as onnxruntime has them.
    let scores = ml::cast(builder, call, scores, crate::ir::DType::F32)?;
    let scores = post_transform(builder, call, transform, scores)?;
    Ok(vec![ml::cast(builder, call, scores, dtype)?])
}

fn lists<'a>(call: &'a Call<'a>, num_targets: usize, dtype: crate::ir::DType) -> Result<Lists<'a>> {
    let features = call.ints("nodes_featureids").unwrap_or_default();
    let count = features.len();
    if count == 0 || count > MAX_NODES {
        return Err(call.error(format!("attribute `nodes_featureids` has {count} entries, expected 1 to {MAX_NODES}")));
    }
    let ints = |name: &str| {
        let ints = call.ints(name).unwrap_or_default();
        expect_len(call, name, ints.len(), count, "nodes_featureids").map(|()| ints)
    };
    let splits = doubles(call, "nodes_splits")?.unwrap_or_default();
    expect_len(call, "nodes_splits", splits.len(), count, "nodes_featureids")?;
    let modes = modes(call);
    expect_len(call, "nodes_modes", modes.len(), count, "nodes_featureids")?;
    let tests = modes.iter().map(|mode| test(call, *mode)).collect::<Result<Vec<_>>>()?;
    let nan_passes = call.ints("nodes_missing_value_tracks_true").unwrap_or_default();
    if !nan_passes.is_empty() {
        expect_len(call, "nodes_missing_value_tracks_true", nan_passes.len(), count, "nodes_featureids")?;
    }
    // Sets follow one another, each closed by NaN.
    let all_members = doubles(call, "membership_values")?.unwrap_or_default();
    let num_sets = tests.iter().filter(|test| test.is_none()).count();
    let num_ends = all_members.iter().filter(|member| member.is_nan()).count();
    if num_sets != num_ends || all_members.last().is_some_and(|last| !last.is_nan()) {
        let reason =
            format!("attribute `membership_values` holds {num_ends} sets, each closed by NaN, expected {num_sets}");
        return Err(call.error(reason));
    }
    let mut sets = all_members.split(|member| member.is_nan());
    let members = tests.iter().map(|test| match test {
        Some(_) => Vec::new(),
        None => sets.next().unwrap_or_default().to_vec(),
    });
    let members = members.collect();
    let targets = call.ints("leaf_targetids").unwrap_or_default();
    let weights = doubles(call, "leaf_weights")?.unwrap_or_default();
    expect_len(call, "leaf_weights", weights.len(), targets.len(), "leaf_targetids")?;
    let leaves = targets.iter().zip(weights).map(|(target, weight)| {
        let target = usize::try_from(*target).ok().filter(|target| *target < num_targets).ok_or_else(|| {
            call.error(format!("attribute `leaf_targetids` holds {target}, expected 0 to {}", num_targets - 1))
        })?;
        Ok((target, build::weight(call, dtype, "leaf_weights", weight)?))
    });
    let leaves = leaves.collect::<Result<_>>()?;
    let children = [
        (ints("nodes_truenodeids")?, ints("nodes_trueleafs")?),
        (ints("nodes_falsenodeids")?, ints("nodes_falseleafs")?),
    ];
    Ok(Lists { call, features, splits, tests, members, nan_passes, children, leaves })
}

/// Modes are a tensor of bytes.
fn modes(call: &Call<'_>) -> Vec<i64> {
    let Some(tensor) = call.tensor("nodes_modes") else { return Vec::new() };
    if tensor.raw_data.is_empty() {
        return tensor.int32_data.iter().map(|mode| i64::from(*mode)).collect();
    }
    tensor.raw_data.iter().map(|mode| i64::from(*mode)).collect()
}

fn test(call: &Call<'_>, mode: i64) -> Result<Option<Test>> {
    Ok(Some(match mode {
        0 => Test::LessOrEqual,
        1 => Test::Less,
        2 => Test::GreaterOrEqual,
        3 => Test::Greater,
        4 => Test::Equal,
        5 => Test::NotEqual,
        6 => return Ok(None),
        _ => return Err(call.error(format!("attribute `nodes_modes` holds {mode}, expected 0 to 6"))),
    }))
}
