//! Tree ensembles of `ai.onnx.ml`.
//!
//! Where ONNX leaves something open, onnxruntime decides, as converters are tested with it:
//!
//! - NaN fails a test, unless `nodes_missing_value_tracks_true` says otherwise. The root of a tree is the node that no other names.
//! - Two classes with weights for class 0 alone: the sum is the score of the second class. The label is the second where the score is above
//!   0.5, or above 0 if any weight is negative; the scores are `[1 - s, s]`, `[-s, s]` if any weight is negative, or for `LOGISTIC`
//!   `[sigmoid(-s), sigmoid(s)]`.
//! - Other classifiers answer the class with the largest score, of equals the first; classes that no leaf names do not take part, unless they have
//!   base values. (Of two classes onnxruntime answers the second wherever its score is above 0.)
//! - A score that no leaf gives is 0 and its base value. `SOFTMAX` of a single score is the score.
//!
//! Thresholds may be doubles. Of a float32 input they are rounded so that every comparison has the outcome that the double gives; leaf weights are
//! rounded to the nearest. Of a float64 input everything is computed in float64. Integers are cast to float32 first.

mod build;
mod ensemble;
pub(super) mod labels;
mod nodes;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::ml::scores::{PostTransform, post_transform};
use super::{Builder, Call, ml};
use crate::error::Result;
use crate::ir::{Aggregate, DType, Expr, Op, Operand, TreeNode, Trees};

/// Most nodes of all trees of an ensemble, and most weights of their leaves.
const MAX_NODES: usize = 4 << 20;
/// Most branches from a root to a leaf.
const MAX_DEPTH: usize = 4096;
/// Most scores of a row.
const MAX_SCORES: usize = 1 << 16;

/// Lowers a node; `None` where its operator is none of these.
pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    match call.op {
        "TreeEnsembleClassifier" => classifier(builder, call),
        "TreeEnsembleRegressor" => regressor(builder, call),
        "TreeEnsemble" => ensemble::import(builder, call),
        _ => return Ok(None),
    }
    .map(Some)
}

fn regressor(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Operand>> {
    let x = ml::table(builder, call, true)?;
    let num_targets = num_scores(call, "n_targets")?;
    let aggregate = match call.text("aggregate_function").as_deref() {
        None | Some("SUM") => Aggregate::Sum,
        Some("AVERAGE") => Aggregate::Average,
        Some("MIN") => Aggregate::Min,
        Some("MAX") => Aggregate::Max,
        Some(other) => {
            let expected = "expected `SUM`, `AVERAGE`, `MIN` or `MAX`";
            return Err(call.error(format!("attribute `aggregate_function` is `{other}`, {expected}")));
        }
    };
    let transform = PostTransform::read(call)?;
    let trees = nodes::read(builder, call, &x, "target", num_targets, aggregate)?;
    let base = base_values(call, builder.graph.dtype(&x), &[num_targets])?;
    let base = if base.is_empty() { vec![0.0; num_targets] } else { base };
    let scores = add(builder, call, &x, Trees { trees, num_scores: num_targets, base, aggregate, table: None })?;
    let scores = ml::cast(builder, call, scores, DType::F32)?;
    Ok(vec![post_transform(builder, call, transform, scores)?])
}

fn classifier(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Operand>> {
    let x = ml::table(builder, call, true)?;
    let labels = ml::scores::Labels::read(call, "classlabels_int64s")?;
    let num_classes = labels.len();
    if !(2..=MAX_SCORES).contains(&num_classes) {
        return Err(call.error(format!("there are {num_classes} class labels, expected 2 to {MAX_SCORES}")));
    }
    let transform = PostTransform::read(call)?;
    let mut trees = nodes::read(builder, call, &x, "class", num_classes, Aggregate::Sum)?;
    let accepted: &[usize] = if num_classes == 2 { &[1, 2] } else { &[num_classes] };
    let base = base_values(call, builder.graph.dtype(&x), accepted)?;
    let mut is_scored = vec![false; num_classes];
    let mut is_positive = true;
    for (class, weight) in leaves(&mut trees).flatten() {
        is_scored[*class] = true;
        is_positive &= *weight >= 0.0;
    }
    if num_classes == 2 && !is_scored[1] && base.len() < 2 {
        let base = vec![base.first().copied().unwrap_or(0.0)];
        let score =
            add(builder, call, &x, Trees { trees, num_scores: 1, base, aggregate: Aggregate::Sum, table: None })?;
        let score = ml::cast(builder, call, score, DType::F32)?;
        return labels::of_one_score(builder, call, &labels, &score, is_positive, transform);
    }
    if base.len() == 1 {
        return Err(
            call.error("attribute `base_values` has 1 entry, expected one for each of the 2 classes that have weights")
        );
    }
    let has_base = !base.is_empty();
    let base = if has_base { base } else { vec![0.0; num_classes] };
    let trees = Trees { trees, num_scores: num_classes, base, aggregate: Aggregate::Sum, table: None };
    let scores = add(builder, call, &x, trees)?;
    let scores = ml::cast(builder, call, scores, DType::F32)?;
    // As onnxruntime has it: two classes, one of which has weights.
    let label = if num_classes == 2 && is_scored[0] != is_scored[1] {
        let column = usize::from(is_scored[1]);
        let deciding = scores.sliced(1, column, 1, 1).squeezed(1);
        labels::above(builder, call, &labels, &deciding, if is_positive { 0.5 } else { 0.0 })?
    } else {
        let takes_part = |class: usize| has_base || is_scored[class];
        labels::largest(builder, call, &labels, &scores, takes_part)?
    };
    let scores = post_transform(builder, call, transform, scores)?;
    Ok(vec![label, scores])
}

fn leaves(trees: &mut [Vec<TreeNode>]) -> impl Iterator<Item = &mut Vec<(usize, f64)>> {
    trees.iter_mut().flatten().filter_map(|node| match node {
        TreeNode::Leaf(weights) => Some(weights),
        TreeNode::Branch { .. } => None,
    })
}

/// Adds the node of an ensemble.
fn add(builder: &mut Builder, call: &Call<'_>, x: &Operand, trees: Trees) -> Result<Operand> {
    let (dtype, shape) = (builder.graph.dtype(x), [x.shape[0], trees.num_scores]);
    builder.add(&call.name, Op::Trees(Arc::new(trees)), vec![x.clone()], dtype, &shape)
}

/// A number of scores.
fn num_scores(call: &Call<'_>, name: &str) -> Result<usize> {
    let given = call.int(name, 0);
    usize::try_from(given)
        .ok()
        .filter(|count| (1..=MAX_SCORES).contains(count))
        .ok_or_else(|| call.error(format!("attribute `{name}` is {given}, expected 1 to {MAX_SCORES}")))
}

/// The base values: none, or as many as one of `accepted` says.
fn base_values(call: &Call<'_>, dtype: DType, accepted: &[usize]) -> Result<Vec<f64>> {
    let base = nodes::numbers(call, "base_values")?.unwrap_or_default();
    if !base.is_empty() && !accepted.contains(&base.len()) {
        return Err(
            call.error(format!("attribute `base_values` has {} entries, expected none or {accepted:?}", base.len()))
        );
    }
    base.into_iter().map(|value| build::weight(call, dtype, "base_values", value)).collect()
}

/// An expression over the operand itself.
fn map_one(builder: &mut Builder, call: &Call<'_>, x: &Operand, expr: Expr) -> Result<Operand> {
    builder.map(call, expr, &[x])
}
