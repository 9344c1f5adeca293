use super::*;

/// A convolution by its definition: `x` is `[batch, in, height, width]`, `w` is `[out, in / groups, taps, taps]`.
fn conv2(
    x: [usize; 4],
    w: [usize; 4],
    stride: [usize; 2],
    dilation: [usize; 2],
    pads: [usize; 4],
    groups: usize,
) -> Vec<f32> {
    let (data, weights) = (numbers(x.iter().product(), 7), numbers(w.iter().product(), 5));
    let out = |axis: usize| {
        (x[2 + axis] + pads[axis] + pads[2 + axis] - dilation[axis] * (w[2 + axis] - 1) - 1) / stride[axis] + 1
    };
    let mut y = Vec::new();
    for (n, m) in (0..x[0]).flat_map(|n| (0..w[0]).map(move |m| (n, m))) {
        for (i, j) in (0..out(0)).flat_map(|i| (0..out(1)).map(move |j| (i, j))) {
            let mut sum = 0.0;
            for c in 0..w[1] {
                let channel = m / (w[0] / groups) * w[1] + c;
                for (a, b) in (0..w[2]).flat_map(|a| (0..w[3]).map(move |b| (a, b))) {
                    let row = (i * stride[0] + a * dilation[0]).wrapping_sub(pads[0]);
                    let column = (j * stride[1] + b * dilation[1]).wrapping_sub(pads[1]);
                    if row < x[2] && column < x[3] {
                        sum += data[((n * x[1] + channel) * x[2] + row) * x[3] + column]
                            * weights[((m * w[1] + c) * w[2] + a) * w[3] + b];
                    }
                }
            }
            y.push(sum);
        }
    }
    y
}

fn numbers(len: usize, factor: usize) -> Vec<f32> {
    (0..len).map(|index| ((index * factor) % 11) as f32 - 5.0).collect()
}

#[test]
fn along_one_dimension() {
    let check = |length: usize,
                 channels: usize,
                 w: [usize; 3],
                 stride: usize,
                 dilation: usize,
                 pads: [usize; 2],
                 groups: usize| {
        let attributes = [
            ("strides", Attr::Ints(&[stride as i64])),
            ("dilations", Attr::Ints(&[dilation as i64])),
            ("pads", Attr::Ints(&[pads[0] as i64, pads[1] as i64])),
            ("group", Attr::Int(groups as i64)),
        ];
        let shape = [2, channels, length];
        let x: Tensor<'_> = (&shape, Data::F32(numbers(2 * channels * length, 7)));
        let weights: Tensor<'_> = (&w, Data::F32(numbers(w.iter().product(), 5)));
        let bias_shape = [w[0]];
        let bias: Tensor<'_> = (&bias_shape, count(w[0]));
        let y = case(11, "Conv", &attributes).run(&[x], &[weights, bias]);
        let four = ([2, channels, 1, length], [w[0], w[1], 1, w[2]]);
        let mut expected = conv2(four.0, four.1, [1, stride], [1, dilation], [0, pads[0], 0, pads[1]], groups);
        let positions = expected.len() / 2 / w[0];
        expected.iter_mut().enumerate().for_each(|(index, y)| *y += (index / positions % w[0]) as f32);
        assert_eq!(y, Data::F32(expected), "{w:?}");
    };
    check(5, 3, [4, 3, 1], 1, 1, [0, 0], 1);
    check(7, 2, [3, 2, 3], 1, 2, [4, 0], 1);
    check(8, 2, [3, 2, 3], 2, 1, [1, 1], 1);
    check(6, 4, [6, 2, 2], 1, 1, [0, 1], 2);
    check(6, 3, [3, 1, 3], 1, 1, [1, 1], 3);
}

#[test]
fn along_two_dimensions() {
    let check = |x: [usize; 4], w: [usize; 4], stride: [i64; 2], dilation: [i64; 2], pads: [i64; 4], groups: usize| {
        let attributes = [
            ("strides", Attr::Ints(&stride)),
            ("dilations", Attr::Ints(&dilation)),
            ("pads", Attr::Ints(&pads)),
            ("group", Attr::Int(groups as i64)),
        ];
        let data: Tensor<'_> = (&x, Data::F32(numbers(x.iter().product(), 7)));
        let weights: Tensor<'_> = (&w, Data::F32(numbers(w.iter().product(), 5)));
        let y = case(11, "Conv", &attributes).run(&[data], &[weights]);
        let size = |numbers: [i64; 2]| numbers.map(|x| x as usize);
        let expected = conv2(x, w, size(stride), size(dilation), pads.map(|x| x as usize), groups);
        assert_eq!(y, Data::F32(expected), "{x:?} {w:?}");
    };
    check([2, 3, 4, 5], [2, 3, 1, 1], [1, 1], [1, 1], [0; 4], 1);
    check([2, 3, 4, 5], [2, 3, 1, 1], [2, 3], [1, 1], [0; 4], 1);
    check([2, 3, 4, 5], [2, 3, 3, 1], [2, 2], [1, 1], [1, 0, 1, 0], 1);
    check([1, 2, 5, 4], [3, 2, 3, 2], [1, 2], [2, 1], [1, 0, 2, 1], 1);
    check([2, 4, 3, 3], [4, 2, 2, 2], [1, 1], [1, 1], [0, 1, 1, 0], 2);
}

#[test]
fn automatic_padding() {
    let run = |mode, stride: i64| {
        let attributes = [("auto_pad", Attr::Text(mode)), ("strides", Attr::Ints(&[stride]))];
        let x: Tensor<'_> = (&[1, 1, 5], f32s(&[1.0, 2.0, 3.0, 4.0, 5.0]));
        case(11, "Conv", &attributes).run(&[x], &[(&[1, 1, 2], f32s(&[10.0, 1.0]))])
    };
    assert_eq!(run("SAME_UPPER", 1), f32s(&[12.0, 23.0, 34.0, 45.0, 50.0]));
    assert_eq!(run("SAME_LOWER", 1), f32s(&[1.0, 12.0, 23.0, 34.0, 45.0]));
    assert_eq!(run("SAME_UPPER", 2), f32s(&[12.0, 34.0, 50.0]));
    assert_eq!(run("VALID", 2), f32s(&[12.0, 34.0]));
}

#[test]
fn a_stack_of_convolutions_keeps_channels_last() {
    let model = OnnxModel::new(17)
        .input("x", DType::F32, &[Some(1), Some(2), Some(6)])
        .constant("w", &[3, 2, 1], &count(6))
        .constant("v", &[2, 3, 1], &count(6))
        .node("Conv", &["x", "w"], &["a"], &[])
        .node("Relu", &["a"], &["b"], &[])
        .node("Conv", &["b", "v"], &["c"], &[])
        .node("Transpose", &["c"], &["y"], &[("perm", Attr::Ints(&[0, 2, 1]))])
        .output("y");
    let imported = import(&model.bytes(), &Options::default()).expect("imports");
    let graph = &imported.graphs[0].1;
    assert_eq!(graph.nodes.len(), 3, "{graph:?}");
    assert!(graph.nodes[1..].iter().all(|node| node.inputs[0].is_contiguous()), "{graph:?}");
}

#[test]
fn impossible_convolutions_are_refused() {
    let x = || -> Tensor<'static> { (&[1, 2, 3], count(6)) };
    let refused = |attributes: &[(&str, Attr<'_>)], w: &[usize]| {
        case(11, "Conv", attributes).refusal(&[x()], &[(w, count(w.iter().product()))])
    };
    assert!(refused(&[], &[1, 2, 4]).contains("shorter than the kernel"));
    assert!(refused(&[], &[1, 3, 1]).contains("do not fit the groups"));
    assert!(refused(&[("group", Attr::Int(0))], &[1, 2, 1]).contains("`group`"));
    assert!(refused(&[("strides", Attr::Ints(&[0]))], &[1, 2, 1]).contains("`strides`"));
    assert!(refused(&[("pads", Attr::Ints(&[i64::MAX, 0]))], &[1, 2, 1]).contains("`pads`"));
    assert!(refused(&[("dilations", Attr::Ints(&[1 << 26]))], &[1, 2, 3]).contains("shorter"));
    assert!(refused(&[], &[1, 2, 0]).contains("size 0"));
    assert!(refused(&[], &[1, 2]).contains("dimensions"));
}

#[test]
fn pooling() {
    let x = || -> Tensor<'static> { (&[1, 1, 5], f32s(&[1.0, 5.0, 2.0, 4.0, 3.0])) };
    let run = |op, attributes: &[(&str, Attr<'_>)]| case(19, op, attributes).run(&[x()], &[]);
    let kernel = || ("kernel_shape", Attr::Ints(&[2]));
    assert_eq!(run("MaxPool", &[kernel()]), f32s(&[5.0, 5.0, 4.0, 4.0]));
    let padded = || [kernel(), ("pads", Attr::Ints(&[1, 1])), ("strides", Attr::Ints(&[2]))];
    assert_eq!(run("MaxPool", &padded()), f32s(&[1.0, 5.0, 4.0]));
    assert_eq!(run("MaxPool", &[kernel(), ("dilations", Attr::Ints(&[3]))]), f32s(&[4.0, 5.0]));
    assert_eq!(run("AveragePool", &[kernel()]), f32s(&[3.0, 3.5, 3.0, 3.5]));
    assert_eq!(run("AveragePool", &padded()), f32s(&[1.0, 3.5, 3.5]));
    let [a, b, c] = padded();
    assert_eq!(run("AveragePool", &[a, b, c, ("count_include_pad", Attr::Int(1))]), f32s(&[0.5, 3.5, 3.5]));
    let up = || [kernel(), ("strides", Attr::Ints(&[2])), ("ceil_mode", Attr::Int(1))];
    assert_eq!(run("MaxPool", &up()), f32s(&[5.0, 4.0, 3.0]));
    assert_eq!(run("AveragePool", &up()), f32s(&[3.0, 3.0, 3.0]));
    let image: Tensor<'_> = (&[1, 1, 2, 3], count(6));
    let y = case(19, "MaxPool", &[("kernel_shape", Attr::Ints(&[2, 2]))]).run(&[image.clone()], &[]);
    assert_eq!(y, f32s(&[4.0, 5.0]));
    assert_eq!(case(1, "GlobalAveragePool", &[]).run(&[image.clone()], &[]), f32s(&[2.5]));
    assert_eq!(case(1, "GlobalMaxPool", &[]).run(&[image], &[]), f32s(&[5.0]));
}

#[test]
fn dequantised_weights_are_floats() {
    let x: Tensor<'_> = (&[1, 2], f32s(&[1.0, 2.0]));
    let model = |axis: i64, scale: Tensor<'_>, zero: Tensor<'_>| {
        OnnxModel::new(13)
            .input("x", DType::F32, &[Some(1), Some(2)])
            .constant("q", &[2, 2], &Data::I8(vec![-128, 1, 2, 127]))
            .constant("scale", scale.0, &scale.1)
            .constant("zero", zero.0, &zero.1)
            .node("DequantizeLinear", &["q", "scale", "zero"], &["w"], &[("axis", Attr::Int(axis))])
            .node("MatMul", &["x", "w"], &["y"], &[])
            .output("y")
    };
    let all = model(1, (&[], f32s(&[0.5])), (&[], Data::I8(vec![2])));
    assert_eq!(run(all, &[x.1.clone()]), [f32s(&[-65.0, 124.5])]);
    let columns = || model(1, (&[2], f32s(&[0.5, 2.0])), (&[2], Data::I8(vec![0, 1])));
    assert_eq!(run(columns(), &[x.1.clone()]), [f32s(&[-62.0, 504.0])]);
    let rows = model(0, (&[2], f32s(&[0.5, 2.0])), (&[2], Data::I8(vec![0, 0])));
    assert_eq!(run(rows, &[x.1]), [f32s(&[-56.0, 508.5])]);
    let imported = import(&columns().bytes(), &Options::default()).expect("imports");
    assert_eq!(imported.graphs[0].1.nodes.len(), 1);
    let odd = model(1, (&[3], f32s(&[1.0; 3])), (&[], Data::I8(vec![0])));
    assert!(refusal(odd).contains("does not fit"));
}
