use super::*;

fn x() -> Tensor<'static> {
    (&[2, 3], f32s(&[1.0, -2.0, 3.0, 0.5, 4.0, -1.0]))
}

fn along(op: &str, axis: i64) -> Data {
    let new = op == "ReduceSum";
    let by_attribute = case(11, op, &[("axes", Attr::Ints(&[0]))]).run(&[x()], &[]);
    if axis == 0 && !new {
        return by_attribute;
    }
    case(18, op, &[]).run(&[x()], &[(&[1], i64s(&[axis]))])
}

#[test]
fn reductions_of_all_kinds() {
    close(&along("ReduceSum", 1), &[2.0, 3.5]);
    close(&along("ReduceMean", 1), &[2.0 / 3.0, 3.5 / 3.0]);
    close(&along("ReduceMax", -1), &[3.0, 4.0]);
    close(&along("ReduceMin", 0), &[0.5, -2.0, -1.0]);
    close(&along("ReduceProd", 1), &[-6.0, -2.0]);
    close(&along("ReduceL1", 1), &[6.0, 5.5]);
    close(&along("ReduceL2", 0), &[1.25f32.sqrt(), 20f32.sqrt(), 10f32.sqrt()]);
    close(&along("ReduceSumSquare", 1), &[14.0, 17.25]);
    close(&along("ReduceLogSum", 1), &[2f32.ln(), 3.5f32.ln()]);
    let expected = |row: [f32; 3]| row.map(f32::exp).iter().sum::<f32>().ln();
    close(&along("ReduceLogSumExp", 1), &[expected([1.0, -2.0, 3.0]), expected([0.5, 4.0, -1.0])]);
}

#[test]
fn reductions_keep_or_drop_dimensions() {
    let shape = |opset, attributes: &[(&str, Attr<'_>)], axes: &[Tensor<'_>]| {
        let model = case(opset, "ReduceSum", attributes).model(&[(&[2, 3, 4], count(24))], axes, 1);
        let imported = import(&model.bytes(), &Options::default()).expect("imports");
        let graph = &imported.graphs[imported.graphs.len() - 1].1;
        graph.value(graph.outputs[0].1).shape.clone()
    };
    let axes: [Tensor<'_>; 1] = [(&[2], i64s(&[-1, 0]))];
    assert_eq!(shape(13, &[], &axes), [1, 3, 1]);
    assert_eq!(shape(13, &[("keepdims", Attr::Int(0))], &axes), [3]);
    assert_eq!(shape(13, &[], &[]), [1, 1, 1]);
    assert_eq!(shape(13, &[("noop_with_empty_axes", Attr::Int(1))], &[]), [2, 3, 4]);
    assert_eq!(shape(11, &[("axes", Attr::Ints(&[1])), ("keepdims", Attr::Int(0))], &[]), [2, 4]);
    let no_axes: [Tensor<'_>; 1] = [(&[0], i64s(&[]))];
    assert_eq!(shape(13, &[("keepdims", Attr::Int(0))], &no_axes), [0usize; 0]);
    let squares = case(18, "ReduceSumSquare", &[("noop_with_empty_axes", Attr::Int(1))]).run(&[x()], &[]);
    assert_eq!(squares, f32s(&[1.0, 4.0, 9.0, 0.25, 16.0, 1.0]));
    let refused = case(13, "ReduceSum", &[]).refusal(&[x()], &[(&[1], i64s(&[2]))]);
    assert!(refused.contains("axis 2 is out of range"), "{refused}");
}

#[test]
fn large_numbers_do_not_overflow_a_log_sum_exp() {
    let x: Tensor<'_> = (&[2, 2], f32s(&[1000.0, 1000.0, f32::NEG_INFINITY, f32::NEG_INFINITY]));
    let y = case(18, "ReduceLogSumExp", &[]).run(&[x], &[(&[1], i64s(&[1]))]);
    assert_eq!(y, f32s(&[1000.0 + std::f32::consts::LN_2, f32::NEG_INFINITY]));
}

#[test]
fn reductions_of_other_types() {
    let ints = case(18, "ReduceMax", &[]).run(&[(&[3], i64s(&[-5, -2, -9]))], &[]);
    assert_eq!(ints, i64s(&[-2]));
    let bools = case(20, "ReduceMin", &[]).run(&[(&[2], Data::Bool(vec![true, false]))], &[]);
    assert_eq!(bools, Data::Bool(vec![false]));
    let refused = case(18, "ReduceSum", &[]).refusal(&[(&[1], Data::Bool(vec![true]))], &[]);
    assert!(refused.contains("bool"), "{refused}");
}

#[test]
fn indices_of_extremes() {
    let x = || -> Tensor<'static> { (&[2, 3], f32s(&[3.0, 1.0, 3.0, -1.0, -1.0, 5.0])) };
    let run = |op, attributes: &[(&str, Attr<'_>)]| case(13, op, attributes).run(&[x()], &[]);
    assert_eq!(run("ArgMax", &[("axis", Attr::Int(1))]), i64s(&[0, 2]));
    assert_eq!(run("ArgMax", &[("axis", Attr::Int(-1)), ("select_last_index", Attr::Int(1))]), i64s(&[2, 2]));
    assert_eq!(run("ArgMin", &[("axis", Attr::Int(1)), ("select_last_index", Attr::Int(1))]), i64s(&[1, 1]));
    assert_eq!(run("ArgMin", &[("keepdims", Attr::Int(0))]), i64s(&[1, 1, 0]));
}

#[test]
fn softmax_before_and_after_version_13() {
    let x = || -> Tensor<'static> { (&[2, 2, 2], f32s(&[0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0])) };
    let softmax = |numbers: &[f32]| {
        let sum: f32 = numbers.iter().map(|x| x.exp()).sum();
        numbers.iter().map(|x| x.exp() / sum).collect::<Vec<_>>()
    };
    let all = [softmax(&[0.0, 1.0, 2.0, 3.0]), vec![0.25; 4]].concat();
    close(&case(11, "Softmax", &[]).run(&[x()], &[]), &all);
    let last = [softmax(&[0.0, 1.0]), softmax(&[2.0, 3.0]), vec![0.5; 4]].concat();
    close(&case(13, "Softmax", &[]).run(&[x()], &[]), &last);
    let (low, high) = (softmax(&[0.0, 2.0])[0], softmax(&[0.0, 2.0])[1]);
    let middle = [[low, low, high, high], [0.5; 4]].concat();
    close(&case(13, "Softmax", &[("axis", Attr::Int(1))]).run(&[x()], &[]), &middle);
    let logs: Vec<f32> = last.iter().map(|x| x.ln()).collect();
    close(&case(13, "LogSoftmax", &[]).run(&[x()], &[]), &logs);
    let hard = case(13, "Hardmax", &[("axis", Attr::Int(1))]).run(&[x()], &[]);
    assert_eq!(hard, f32s(&[0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]));
    let hard = case(11, "Hardmax", &[]).run(&[x()], &[]);
    assert_eq!(hard, f32s(&[0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]));
}

/// `(x - mean) / sqrt(variance + epsilon)`.
fn normalized(x: &[f32], epsilon: f32) -> Vec<f32> {
    let count = x.len() as f32;
    let mean = x.iter().sum::<f32>() / count;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count;
    x.iter().map(|x| (x - mean) / (variance + epsilon).sqrt()).collect()
}

#[test]
fn layer_normalization_along_any_dimensions() {
    let numbers: Vec<f32> = (0..12).map(|x| ((x * 7) % 12) as f32).collect();
    let x = || -> Tensor<'static> { (&[2, 2, 3], f32s(&numbers)) };
    let scale: Tensor<'_> = (&[3], f32s(&[1.0, 2.0, 3.0]));
    let bias: Tensor<'_> = (&[3], f32s(&[0.0, 1.0, 2.0]));
    let y = case(17, "LayerNormalization", &[]).run(&[x()], &[scale.clone(), bias.clone()]);
    let expected = numbers.chunks(3).flat_map(|row| {
        normalized(row, 1e-5).into_iter().enumerate().map(|(i, x)| x * (i + 1) as f32 + i as f32).collect::<Vec<_>>()
    });
    close(&y, &expected.collect::<Vec<_>>());
    // A scale that varies along the last dimension alone, of two that are normalised; mean and 1 / deviation are outputs.
    let attributes = [("axis", Attr::Int(1)), ("epsilon", Attr::Float(0.1))];
    let outputs = case(17, "LayerNormalization", &attributes).runs(&[x()], &[scale, bias], 3);
    let expected = numbers.chunks(6).flat_map(|row| {
        let row = normalized(row, 0.1).into_iter().enumerate();
        row.map(|(i, x)| x * (i % 3 + 1) as f32 + (i % 3) as f32).collect::<Vec<_>>()
    });
    close(&outputs[0], &expected.collect::<Vec<_>>());
    let mean = |row: &[f32]| row.iter().sum::<f32>() / 6.0;
    let deviation = |row: &[f32]| 1.0 / (row.iter().map(|x| (x - mean(row)).powi(2)).sum::<f32>() / 6.0 + 0.1).sqrt();
    close(&outputs[1], &numbers.chunks(6).map(mean).collect::<Vec<_>>());
    close(&outputs[2], &numbers.chunks(6).map(deviation).collect::<Vec<_>>());
    // A scale that varies along a dimension that is not normalised.
    let outer: Tensor<'_> = (&[2, 1, 1], f32s(&[1.0, 2.0]));
    let y = case(17, "LayerNormalization", &[]).run(&[x()], &[outer]);
    let expected = numbers.chunks(3).enumerate().flat_map(|(row, numbers)| {
        normalized(numbers, 1e-5).into_iter().map(|x| x * (row / 2 + 1) as f32).collect::<Vec<_>>()
    });
    close(&y, &expected.collect::<Vec<_>>());
}

#[test]
fn group_and_instance_normalization() {
    let numbers: Vec<f32> = (0..16).map(|x| ((x * 5) % 16) as f32).collect();
    let x = || -> Tensor<'static> { (&[1, 4, 4], f32s(&numbers)) };
    let per = |count: usize| -> [Tensor<'static>; 2] {
        const SHAPES: [&[usize]; 5] = [&[0], &[1], &[2], &[3], &[4]];
        let numbers = (0..count).map(|x| x as f32 + 1.0).collect();
        [(SHAPES[count], Data::F32(numbers)), (SHAPES[count], f32s(&vec![0.5; count]))]
    };
    let scaled = |size: usize, factor: fn(usize) -> usize| {
        let rows = numbers.chunks(size).flat_map(|row| normalized(row, 1e-5));
        rows.enumerate().map(|(index, x)| x * factor(index) as f32 + 0.5).collect::<Vec<_>>()
    };
    let y = case(22, "InstanceNormalization", &[]).run(&[x()], &per(4));
    close(&y, &scaled(4, |index| index / 4 + 1));
    let y = case(18, "GroupNormalization", &[("num_groups", Attr::Int(2))]).run(&[x()], &per(2));
    close(&y, &scaled(8, |index| index / 8 + 1));
    let y = case(21, "GroupNormalization", &[("num_groups", Attr::Int(2))]).run(&[x()], &per(4));
    close(&y, &scaled(8, |index| index / 4 + 1));
    let refused = case(21, "GroupNormalization", &[("num_groups", Attr::Int(3))]).refusal(&[x()], &per(4));
    assert!(refused.contains("does not divide 4 channels"), "{refused}");
}

#[test]
fn other_normalizations() {
    let x = || -> Tensor<'static> { (&[1, 2, 2], f32s(&[3.0, -4.0, 0.0, 0.0])) };
    close(&case(22, "LpNormalization", &[]).run(&[x()], &[]), &[0.6, -0.8, 0.0, 0.0]);
    close(&case(22, "LpNormalization", &[("p", Attr::Int(1))]).run(&[x()], &[]), &[3.0 / 7.0, -4.0 / 7.0, 0.0, 0.0]);
    let rms = (12.5f32 + 1e-5).sqrt();
    let y = case(23, "RMSNormalization", &[]).run(&[x()], &[(&[2], f32s(&[1.0, 2.0]))]);
    close(&y, &[3.0 / rms, -8.0 / rms, 0.0, 0.0]);
    let y = case(13, "MeanVarianceNormalization", &[("axes", Attr::Ints(&[2]))]).run(&[x()], &[]);
    close(&y, &[1.0, -1.0, 0.0, 0.0]);
}

#[test]
fn batch_normalization_is_one_map() {
    let parameters = || -> [Tensor<'static>; 4] {
        [(&[2], f32s(&[1.0, 2.0])), (&[2], f32s(&[0.5, -0.5])), (&[2], f32s(&[1.0, 3.0])), (&[2], f32s(&[4.0, 0.25]))]
    };
    let x = || -> Tensor<'static> { (&[1, 2, 2], f32s(&[1.0, 3.0, 3.0, 4.0])) };
    let case15 = case(15, "BatchNormalization", &[("epsilon", Attr::Float(0.0))]);
    let expected = [0.5, 1.5, -0.5, 3.5];
    close(&case15.run(&[x()], &parameters()), &expected);
    let imported = import(&case15.model(&[x()], &parameters(), 1).bytes(), &Options::default()).expect("imports");
    assert_eq!(imported.graphs[0].1.nodes.len(), 1);
    let old = case(7, "BatchNormalization", &[("epsilon", Attr::Float(0.0)), ("spatial", Attr::Int(1))]);
    close(&old.run(&[x()], &parameters()), &expected);
    let training = case(15, "BatchNormalization", &[("training_mode", Attr::Int(1))]);
    assert!(training.refusal(&[x()], &parameters()).contains("training"));
    let short: [Tensor<'_>; 4] = std::array::from_fn(|_| -> Tensor<'_> { (&[3], f32s(&[1.0; 3])) });
    assert!(case15.refusal(&[x()], &short).contains("expected [2]"));
}
