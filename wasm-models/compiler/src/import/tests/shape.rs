use super::*;

fn x23() -> Tensor<'static> {
    (&[2, 3], count(6))
}

/// The shape and the numbers of an output.
fn shaped(case: &Case<'_>, inputs: &[Tensor<'_>], constants: &[Tensor<'_>]) -> (Vec<usize>, Data) {
    let model = case.model(inputs, constants, 1);
    let imported = import(&model.bytes(), &Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let graph = &imported.graphs[imported.graphs.len() - 1].1;
    let data: Vec<Data> = inputs.iter().map(|(_, data)| data.clone()).collect();
    (graph.value(graph.outputs[0].1).shape.clone(), crate::eval::graph(graph, &data).remove(0))
}

#[test]
fn transpose_and_flatten() {
    assert_eq!(shaped(&case(13, "Transpose", &[]), &[x23()], &[]), (vec![3, 2], f32s(&[0.0, 3.0, 1.0, 4.0, 2.0, 5.0])));
    let perm = [("perm", Attr::Ints(&[1, 0]))];
    assert_eq!(shaped(&case(13, "Transpose", &perm), &[x23()], &[]).0, [3, 2]);
    let refused = case(13, "Transpose", &[("perm", Attr::Ints(&[0, 0]))]).refusal(&[x23()], &[]);
    assert!(refused.contains("each of 2 dimensions once"), "{refused}");
    let flat = |axis| shaped(&case(13, "Flatten", &[("axis", Attr::Int(axis))]), &[(&[2, 3, 2], count(12))], &[]).0;
    assert_eq!([flat(0), flat(1), flat(2), flat(3), flat(-1)], [[1, 12], [2, 6], [6, 2], [12, 1], [6, 2]]);
}

#[test]
fn reshape_in_all_versions() {
    let x = || -> Tensor<'static> { (&[2, 3, 4], count(24)) };
    let shape = |wanted: &[i64]| shaped(&case(14, "Reshape", &[]), &[x()], &[(&[wanted.len()], i64s(wanted))]);
    assert_eq!(shape(&[0, -1]), (vec![2, 12], count(24)));
    assert_eq!(shape(&[-1]).0, [24]);
    assert_eq!(shape(&[4, 0, 2]).0, [4, 3, 2]);
    let old = case(1, "Reshape", &[("shape", Attr::Ints(&[6, 4]))]);
    assert_eq!(shaped(&old, &[x()], &[]).0, [6, 4]);
    let empty = case(14, "Reshape", &[("allowzero", Attr::Int(1))]);
    assert_eq!(shaped(&empty, &[], &[(&[0, 3], f32s(&[])), (&[2], i64s(&[3, 0]))]).0, [3, 0]);
    for wanted in [&[5, -1][..], &[-1, -1], &[-2, 12], &[2, 3, 4, 0], &[i64::MAX, i64::MAX]] {
        let refused = case(14, "Reshape", &[]).refusal(&[x()], &[(&[wanted.len()], i64s(wanted))]);
        assert!(refused.contains("`Reshape`"), "{refused}");
    }
    let refused = case(14, "Reshape", &[]).refusal(&[x(), (&[1], i64s(&[24]))], &[]);
    assert!(refused.contains("input 1 is computed, expected a constant"), "{refused}");
}

#[test]
fn a_reshape_of_a_transpose_copies() {
    let model = OnnxModel::new(13)
        .input("x", DType::F32, &[Some(2), Some(3)])
        .constant("shape", &[1], &i64s(&[-1]))
        .node("Transpose", &["x"], &["t"], &[])
        .node("Reshape", &["t", "shape"], &["y"], &[])
        .output("y");
    assert_eq!(run(model, &[count(6)]), [f32s(&[0.0, 3.0, 1.0, 4.0, 2.0, 5.0])]);
}

#[test]
fn squeeze_and_unsqueeze_in_all_versions() {
    let x = || -> Tensor<'static> { (&[1, 3, 1], count(3)) };
    let axes = |axes: &[i64]| -> Tensor<'static> { (&[1], i64s(axes)) };
    assert_eq!(shaped(&case(13, "Squeeze", &[]), &[x()], &[]).0, [3]);
    assert_eq!(shaped(&case(13, "Squeeze", &[]), &[x()], &[axes(&[-1])]).0, [1, 3]);
    assert_eq!(shaped(&case(11, "Squeeze", &[("axes", Attr::Ints(&[0, 2]))]), &[x()], &[]).0, [3]);
    assert_eq!(shaped(&case(13, "Unsqueeze", &[]), &[x23()], &[(&[2], i64s(&[-1, 0]))]).0, [1, 2, 3, 1]);
    assert_eq!(shaped(&case(11, "Unsqueeze", &[("axes", Attr::Ints(&[1]))]), &[x23()], &[]).0, [2, 1, 3]);
    assert!(case(13, "Squeeze", &[]).refusal(&[x()], &[axes(&[1])]).contains("is not 1"));
    assert!(case(13, "Unsqueeze", &[]).refusal(&[x23()], &[axes(&[5])]).contains("out of range"));
    assert!(case(13, "Unsqueeze", &[]).refusal(&[x23()], &[(&[2], i64s(&[1, 1]))]).contains("twice"));
}

#[test]
fn slices_clamp_and_run_backwards() {
    let x = || -> Tensor<'static> { (&[5], count(5)) };
    let slice = |start: i64, end: i64, step: i64| {
        let constants: [Tensor<'_>; 4] =
            [(&[1], i64s(&[start])), (&[1], i64s(&[end])), (&[1], i64s(&[-1])), (&[1], i64s(&[step]))];
        case(13, "Slice", &[]).run(&[x()], &constants)
    };
    assert_eq!(slice(1, 4, 2), f32s(&[1.0, 3.0]));
    assert_eq!(slice(-2, i64::MAX, 1), f32s(&[3.0, 4.0]));
    assert_eq!(slice(i64::MAX, i64::MIN, -2), f32s(&[4.0, 2.0, 0.0]));
    assert_eq!(slice(3, 0, -1), f32s(&[3.0, 2.0, 1.0]));
    assert_eq!(slice(3, 3, 1), f32s(&[]));
    assert_eq!(slice(4, 1, 1), f32s(&[]));
    assert_eq!(slice(2, 3, i64::MAX), f32s(&[2.0]));
    assert_eq!(slice(4, i64::MIN, i64::MIN), f32s(&[4.0]));
    let old = [("starts", Attr::Ints(&[0, 1])), ("ends", Attr::Ints(&[1, 1000]))];
    assert_eq!(case(9, "Slice", &old).run(&[x23()], &[]), f32s(&[1.0, 2.0]));
    let zero: [Tensor<'_>; 4] = [(&[1], i64s(&[0])), (&[1], i64s(&[1])), (&[1], i64s(&[0])), (&[1], i64s(&[0]))];
    assert!(case(13, "Slice", &[]).refusal(&[x()], &zero).contains("a step is 0"));
}

#[test]
fn splits_in_all_versions() {
    let x = || -> Tensor<'static> { (&[5], count(5)) };
    let parts = [f32s(&[0.0, 1.0]), f32s(&[2.0, 3.0, 4.0])];
    assert_eq!(case(13, "Split", &[]).runs(&[x()], &[(&[2], i64s(&[2, 3]))], 2), parts);
    assert_eq!(case(11, "Split", &[("split", Attr::Ints(&[2, 3]))]).runs(&[x()], &[], 2), parts);
    let uneven = case(18, "Split", &[("num_outputs", Attr::Int(2))]).runs(&[x()], &[], 2);
    assert_eq!(uneven, [f32s(&[0.0, 1.0, 2.0]), f32s(&[3.0, 4.0])]);
    let equal = case(13, "Split", &[("axis", Attr::Int(-1))]).runs(&[(&[1, 4], count(4))], &[], 2);
    assert_eq!(equal, [f32s(&[0.0, 1.0]), f32s(&[2.0, 3.0])]);
    assert!(refusal(case(13, "Split", &[]).model(&[x()], &[], 2)).contains("equal parts"));
    assert!(case(13, "Split", &[]).refusal(&[x()], &[(&[2], i64s(&[2, 2]))]).contains("do not add up"));
}

#[test]
fn expand_tile_and_concat() {
    let x: Tensor<'_> = (&[2, 1], f32s(&[1.0, 2.0]));
    let expanded = shaped(&case(13, "Expand", &[]), &[x.clone()], &[(&[3], i64s(&[2, 1, 2]))]);
    assert_eq!(expanded, (vec![2, 2, 2], f32s(&[1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0])));
    let huge = case(13, "Expand", &[]).refusal(&[x.clone()], &[(&[2], i64s(&[2, 1 << 40]))]);
    assert!(huge.contains("at most"), "{huge}");
    let tiled = shaped(&case(13, "Tile", &[]), &[x.clone()], &[(&[2], i64s(&[2, 3]))]);
    assert_eq!(tiled.0, [4, 3]);
    assert_eq!(tiled.1, f32s(&[1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]));
    assert!(case(13, "Tile", &[]).refusal(&[x.clone()], &[(&[2], i64s(&[i64::MAX, 3]))]).contains("at most"));
    let axis = [("axis", Attr::Int(-1))];
    let joined = shaped(&case(13, "Concat", &axis), &[x.clone()], &[x23()]);
    assert_eq!(joined, (vec![2, 4], f32s(&[1.0, 0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 5.0])));
    assert!(case(13, "Concat", &[("axis", Attr::Int(0))]).refusal(&[x], &[x23()]).contains("do not join"));
}

#[test]
fn gather_by_known_and_unknown_indices() {
    let gather = |indices: &[i64], shape: &[usize]| {
        shaped(&case(13, "Gather", &[("axis", Attr::Int(1))]), &[x23()], &[(shape, i64s(indices))])
    };
    assert_eq!(gather(&[-1], &[]), (vec![2], f32s(&[2.0, 5.0])));
    assert_eq!(gather(&[2, 0], &[2, 1]), (vec![2, 2, 1], f32s(&[2.0, 0.0, 5.0, 3.0])));
    assert_eq!(gather(&[2, 2, 2], &[3]).1, f32s(&[2.0, 2.0, 2.0, 5.0, 5.0, 5.0]));
    assert_eq!(gather(&[0, 2, 1], &[3]).1, f32s(&[0.0, 2.0, 1.0, 3.0, 5.0, 4.0]));
    assert_eq!(gather(&[], &[0]), (vec![2, 0], f32s(&[])));
    let given = case(13, "Gather", &[]).run(&[x23(), (&[1], Data::I32(vec![-1]))], &[]);
    assert_eq!(given, f32s(&[3.0, 4.0, 5.0]));
    let refused = case(13, "Gather", &[]).refusal(&[x23()], &[(&[1], i64s(&[2]))]);
    assert!(refused.contains("index 2 is out of range"), "{refused}");
}

#[test]
fn pads_of_all_modes() {
    let x = || -> Tensor<'static> { (&[3], f32s(&[1.0, 2.0, 3.0])) };
    let pads = |pads: &[i64]| -> Tensor<'static> { (&[2], i64s(pads)) };
    let pad = |mode, numbers: &[i64]| case(19, "Pad", &[("mode", Attr::Text(mode))]).run(&[x()], &[pads(numbers)]);
    assert_eq!(pad("constant", &[1, 2]), f32s(&[0.0, 1.0, 2.0, 3.0, 0.0, 0.0]));
    assert_eq!(pad("constant", &[-1, 1]), f32s(&[2.0, 3.0, 0.0]));
    assert_eq!(pad("reflect", &[2, 1]), f32s(&[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]));
    assert_eq!(pad("edge", &[2, 1]), f32s(&[1.0, 1.0, 1.0, 2.0, 3.0, 3.0]));
    assert_eq!(pad("wrap", &[2, 1]), f32s(&[2.0, 3.0, 1.0, 2.0, 3.0, 1.0]));
    assert_eq!(pad("wrap", &[4, 0]), f32s(&[3.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0]));
    let old = [("pads", Attr::Ints(&[0, 1, 0, 0])), ("value", Attr::Float(7.0))];
    assert_eq!(case(2, "Pad", &old).run(&[(&[2, 1], count(2))], &[]), f32s(&[7.0, 0.0, 7.0, 1.0]));
    let constants: [Tensor<'_>; 3] = [pads(&[1, 0]), (&[], f32s(&[9.0])), (&[1], i64s(&[-1]))];
    assert_eq!(case(18, "Pad", &[]).run(&[(&[2, 1], count(2))], &constants), f32s(&[9.0, 0.0, 9.0, 1.0]));
    assert!(case(13, "Pad", &[]).refusal(&[x()], &[pads(&[-2, -2])]).contains("cuts 4 of 3"));
    assert!(case(13, "Pad", &[]).refusal(&[x()], &[pads(&[i64::MAX, 0])]).contains("too large"));
    assert!(case(13, "Pad", &[("mode", Attr::Text("odd"))]).refusal(&[x()], &[pads(&[1, 0])]).contains("`odd`"));
}

#[test]
fn constants_and_shapes() {
    let run0 = |case: Case<'_>, constants: &[Tensor<'_>]| case.run(&[], constants);
    assert_eq!(run0(case(13, "Constant", &[("value_ints", Attr::Ints(&[1, 2]))]), &[]), i64s(&[1, 2]));
    assert_eq!(run0(case(13, "Constant", &[("value_float", Attr::Float(1.5))]), &[]), f32s(&[1.5]));
    assert_eq!(run0(case(9, "ConstantOfShape", &[]), &[(&[2], i64s(&[1, 2]))]), f32s(&[0.0; 2]));
    assert_eq!(case(13, "Shape", &[]).run(&[x23()], &[]), i64s(&[2, 3]));
    assert_eq!(case(15, "Shape", &[("start", Attr::Int(-1))]).run(&[x23()], &[]), i64s(&[3]));
    assert_eq!(case(15, "Shape", &[("start", Attr::Int(2)), ("end", Attr::Int(1))]).run(&[x23()], &[]), i64s(&[]));
    assert_eq!(case(13, "Size", &[]).run(&[x23()], &[]), i64s(&[6]));
    let range = |numbers: [i64; 3]| run0(case(11, "Range", &[]), &numbers.map(|x| -> Tensor<'_> { (&[], i64s(&[x])) }));
    assert_eq!(range([1, 8, 3]), i64s(&[1, 4, 7]));
    assert_eq!(range([3, 0, -1]), i64s(&[3, 2, 1]));
    assert_eq!(range([3, 5, -1]), i64s(&[]));
    let floats = [0.0, 1.0, 0.4].map(|x| -> Tensor<'_> { (&[], f32s(&[x])) });
    close(&run0(case(11, "Range", &[]), &floats), &[0.0, 0.4, 0.8]);
    let zero = [1, 2, 0].map(|x| -> Tensor<'_> { (&[], i64s(&[x])) });
    assert!(case(11, "Range", &[]).refusal(&[], &zero).contains("the step is 0"));
}

#[test]
fn triangles_and_one_hots() {
    let x: Tensor<'_> = (&[2, 3], f32s(&[1.0; 6]));
    let upper = case(14, "Trilu", &[]).run(&[x.clone()], &[(&[], i64s(&[1]))]);
    assert_eq!(upper, f32s(&[0.0, 1.0, 1.0, 0.0, 0.0, 1.0]));
    let lower = case(14, "Trilu", &[("upper", Attr::Int(0))]).run(&[x.clone()], &[]);
    assert_eq!(lower, f32s(&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0]));
    let eye = case(9, "EyeLike", &[("dtype", Attr::Int(7))]).run(&[x], &[]);
    assert_eq!(eye, i64s(&[1, 0, 0, 0, 1, 0]));
    let constants: [Tensor<'_>; 2] = [(&[], i64s(&[3])), (&[2], f32s(&[-1.0, 1.0]))];
    let hot = case(11, "OneHot", &[]).run(&[(&[2], i64s(&[-1, 0]))], &constants);
    assert_eq!(hot, f32s(&[-1.0, -1.0, 1.0, 1.0, -1.0, -1.0]));
}

#[test]
fn blocks_of_images() {
    let x: Tensor<'_> = (&[1, 4, 1, 2], count(8));
    let size = [("blocksize", Attr::Int(2))];
    let y = shaped(&case(13, "DepthToSpace", &size), &[x], &[]);
    assert_eq!(y, (vec![1, 1, 2, 4], f32s(&[0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0])));
    let back = shaped(&case(13, "SpaceToDepth", &size), &[(&[1, 1, 2, 4], y.1)], &[]);
    assert_eq!(back, (vec![1, 4, 1, 2], count(8)));
}
