//! Tree ensembles.

use super::Input;
use crate::ir::{Aggregate, Data, Test, TreeNode, Trees};

pub(super) fn eval(trees: &Trees, input: &Input) -> Data {
    let num_features = input.shape[1];
    match &input.data {
        Data::F64(rows) => Data::F64(scores(trees, rows, num_features, |sum| sum)),
        Data::F32(rows) => {
            let rows: Vec<f64> = rows.iter().map(|x| f64::from(*x)).collect();
            let rounded = scores(trees, &rows, num_features, |sum| f64::from(sum as f32));
            Data::F32(rounded.into_iter().map(|score| score as f32).collect())
        }
        other => other.clone(),
    }
}

/// Scores of all rows; `round` is the precision of sums.
fn scores(trees: &Trees, rows: &[f64], num_features: usize, round: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut all = Vec::new();
    for row in rows.chunks(num_features.max(1)) {
        let mut scores = vec![None::<f64>; trees.num_scores];
        for tree in &trees.trees {
            for (score, weight) in leaf(tree, row) {
                let old = scores[*score];
                scores[*score] = Some(match (trees.aggregate, old) {
                    (_, None) => *weight,
                    (Aggregate::Sum | Aggregate::Average, Some(old)) => round(old + weight),
                    (Aggregate::Min, Some(old)) => old.min(*weight),
                    (Aggregate::Max, Some(old)) => old.max(*weight),
                });
            }
        }
        all.extend(scores.into_iter().zip(&trees.base).map(|(score, base)| {
            let mut score = score.unwrap_or(0.0);
            if trees.aggregate == Aggregate::Average {
                score = round(score / trees.trees.len() as f64);
            }
            round(score + base)
        }));
    }
    all
}

fn leaf<'a>(tree: &'a [TreeNode], row: &[f64]) -> &'a [(usize, f64)] {
    let mut at = 0;
    loop {
        match &tree[at] {
            TreeNode::Leaf(weights) => return weights,
            TreeNode::Branch { feature, test, threshold, nan_passes, yes, no } => {
                let (x, t) = (row[*feature], *threshold);
                let passes = match test {
                    Test::LessOrEqual => x <= t,
                    Test::Less => x < t,
                    Test::GreaterOrEqual => x >= t,
                    Test::Greater => x > t,
                    Test::Equal => x == t,
                    Test::NotEqual => x != t,
                };
                at = if passes || (*nan_passes && x.is_nan()) { *yes } else { *no };
            }
        }
    }
}
