//! What classifiers and transforms give. The numbers are those of onnxruntime 1.31.1, to four digits.

use super::*;
use crate::testkit::assert_close;

type Leaves<'a> = [&'a [(i64, f64)]; 2];

/// A stump: `x <= 0` goes to the first leaf, else to the second; weights are `(score, weight)`.
fn stump(leaves: Leaves<'_>) -> File {
    let weights = leaves
        .iter()
        .enumerate()
        .flat_map(|(leaf, weights)| weights.iter().map(move |(score, weight)| (0, leaf as i64 + 1, *score, *weight)));
    File {
        features: 1,
        nodes: vec![Listed::branch(0, 0, 0, "BRANCH_LEQ", 0.0, 1, 2), Listed::leaf(0, 1), Listed::leaf(0, 2)],
        weights: weights.collect(),
        ..File::default()
    }
}

/// Labels and scores of `x = -1` and `x = 1`.
fn check(file: &File, labels: [i64; 2], scores: &[f32]) {
    let answers = file.answers(&Data::F32(vec![-1.0, 1.0, -1.0, 1.0]));
    assert_eq!(answers[0], Data::I64(labels.repeat(2)), "{file:?}");
    assert_close(floats(&answers[1]), &scores.repeat(2), 1e-4);
}

fn two_classes(leaves: Leaves<'_>, base: &[f32], transform: &'static str) -> File {
    File { classes: vec![10, 20], base: base.to_vec(), transform: Some(transform), ..stump(leaves) }
}

#[test]
fn one_score_stands_for_two_classes() {
    let positive: Leaves<'_> = [&[(0, 0.2)], &[(0, 0.7)]];
    let mixed: Leaves<'_> = [&[(0, -0.2)], &[(0, 0.7)]];
    check(&two_classes(positive, &[], "NONE"), [10, 20], &[0.8, 0.2, 0.3, 0.7]);
    check(&two_classes(positive, &[], "SOFTMAX"), [10, 20], &[0.8, 0.2, 0.3, 0.7]);
    check(&two_classes(positive, &[], "LOGISTIC"), [10, 20], &[0.4502, 0.5498, 0.3318, 0.6682]);
    check(&two_classes(positive, &[0.25], "NONE"), [10, 20], &[0.55, 0.45, 0.05, 0.95]);
    check(&two_classes(mixed, &[], "NONE"), [10, 20], &[0.2, -0.2, -0.7, 0.7]);
    check(&two_classes(mixed, &[], "LOGISTIC"), [10, 20], &[0.5498, 0.4502, 0.3318, 0.6682]);
    check(&two_classes(mixed, &[0.25], "NONE"), [20, 20], &[-0.05, 0.05, -0.95, 0.95]);
    check(&two_classes(mixed, &[0.25], "LOGISTIC"), [20, 20], &[0.4875, 0.5125, 0.2789, 0.7211]);
    let error = two_classes(mixed, &[], "PROBIT").import().expect_err("no second score");
    assert!(error.to_string().contains("`PROBIT` with a single score"), "{error}");
}

#[test]
fn two_base_values_make_two_scores() {
    let positive: Leaves<'_> = [&[(0, 0.2)], &[(0, 0.7)]];
    check(&two_classes(positive, &[0.25, 0.5], "NONE"), [10, 20], &[0.45, 0.5, 0.95, 0.5]);
    check(&two_classes(positive, &[0.25, 0.5], "LOGISTIC"), [10, 20], &[0.6106, 0.6225, 0.7211, 0.6225]);
}

#[test]
fn weights_of_the_second_class_alone() {
    let positive: Leaves<'_> = [&[(1, 0.2)], &[(1, 0.7)]];
    let mixed: Leaves<'_> = [&[(1, -0.2)], &[(1, 0.7)]];
    check(&two_classes(positive, &[], "NONE"), [10, 20], &[0.0, 0.2, 0.0, 0.7]);
    check(&two_classes(positive, &[], "LOGISTIC"), [10, 20], &[0.5, 0.5498, 0.5, 0.6682]);
    check(&two_classes(mixed, &[], "SOFTMAX"), [10, 20], &[0.5498, 0.4502, 0.3318, 0.6682]);
    check(&two_classes(mixed, &[], "SOFTMAX_ZERO"), [10, 20], &[0.0, 1.0, 0.0, 1.0]);
}

#[test]
fn both_classes_have_weights() {
    let both: Leaves<'_> = [&[(0, 0.9), (1, 0.1)], &[(0, 0.3), (1, 0.7)]];
    check(&two_classes(both, &[], "NONE"), [10, 20], &[0.9, 0.1, 0.3, 0.7]);
    check(&two_classes(both, &[], "SOFTMAX"), [10, 20], &[0.69, 0.31, 0.4013, 0.5987]);
    check(&two_classes(both, &[], "PROBIT"), [10, 20], &[1.2817, -1.2817, -0.5244, 0.5244]);
    let error = two_classes(both, &[0.5], "NONE").import().expect_err("one base value");
    assert!(error.to_string().contains("`base_values` has 1 entry"), "{error}");
}

#[test]
fn classes_without_weights_are_not_answered() {
    let file = File { classes: vec![10, 20, 30], ..stump([&[(1, -0.2), (2, -0.3)], &[(1, -0.8), (2, -0.7)]]) };
    check(&file, [20, 30], &[0.0, -0.2, -0.3, 0.0, -0.8, -0.7]);
    let file = File { classes: vec![10, 20, 30], ..stump([&[(1, -0.2)], &[(2, -0.7)]]) };
    let file = File { base: vec![0.1, -0.2, 0.3], transform: Some("SOFTMAX_ZERO"), ..file };
    check(&file, [30, 10], &[0.3536, 0.2145, 0.4319, 0.426, 0.3156, 0.2584]);
}

#[test]
fn labels_may_be_text() {
    let file = File { texts: vec!["down", "flat", "up"], ..stump([&[(1, 1.0)], &[(2, 1.0)]]) };
    let imported = file.import().expect("imports");
    assert_eq!(imported.interface.outputs[0].labels, ["down", "flat", "up"]);
    check(&file, [1, 2], &[0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    let file = File { texts: vec!["down", "up"], ..stump([&[(0, -1.0)], &[(0, 1.0)]]) };
    check(&file, [0, 1], &[1.0, -1.0, -1.0, 1.0]);
}

#[test]
fn transforms_of_regressors() {
    for (transform, expected) in [
        ("NONE", [0.45, 0.525]),
        ("LOGISTIC", [0.6106, 0.6283]),
        ("SOFTMAX", [0.4813, 0.5187]),
        ("SOFTMAX_ZERO", [0.4813, 0.5187]),
        ("PROBIT", [-0.1257, 0.0627]),
    ] {
        let file = File {
            targets: 2,
            base: vec![0.25, 0.125],
            transform: Some(transform),
            ..stump([&[(0, 0.2), (1, 0.4)], &[(0, 0.4), (1, 0.01)]])
        };
        let answers = file.answers(&Data::F32(vec![-1.0, 1.0, -1.0, 1.0]));
        assert_close(&floats(&answers[0])[..2], &expected, 1e-3);
    }
}

#[test]
fn integers_are_cast() {
    let file = File { targets: 1, dtype: Some(DType::I64), ..stump([&[(0, 1.0)], &[(0, 2.0)]]) };
    let imported = file.import().expect("imports");
    let answer = crate::eval::graph(&imported.graphs[0].1, &[Data::I64(vec![-3, 0, 1, 4])]);
    assert_eq!(answer, [Data::F32(vec![1.0, 1.0, 2.0, 2.0])]);
}
