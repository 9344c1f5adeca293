use super::*;
use crate::ir::{Binary, Expr, Operand, Reduction, Scalar, Unary};

/// Computes one operation of constants.
fn run(op: Op, inputs: &[(&[usize], Data)], dtype: DType, shape: &[usize]) -> Result<Data> {
    let inputs: Vec<Input> =
        inputs.iter().map(|(shape, data)| Input { shape: shape.to_vec(), data: data.clone() }).collect();
    let it = Node { name: "it".into(), op, inputs: Vec::new(), outputs: Vec::new() };
    node(&it, &inputs, &[Output { dtype, shape: shape.to_vec() }]).map(|mut outputs| outputs.remove(0))
}

fn f32s(numbers: &[f32]) -> Data {
    Data::F32(numbers.to_vec())
}

fn unary(op: Unary, x: Data) -> Data {
    let shape = [x.len()];
    let dtype = if op == Unary::IsNan { DType::Bool } else { x.dtype() };
    run(Op::Map(Expr::unary(op, Expr::Input(0))), &[(&shape, x)], dtype, &shape).expect("a result")
}

fn binary(op: Binary, a: Data, b: Data) -> Result<Data> {
    let shape = [a.len()];
    let dtype = if op.compares() { DType::Bool } else { a.dtype() };
    run(Op::Map(Expr::binary(op, Expr::Input(0), Expr::Input(1))), &[(&shape, a), (&shape, b)], dtype, &shape)
}

#[test]
fn functions_of_one_number() {
    let cases: [(Unary, &[f32], &[f32]); 14] = [
        (Unary::Neg, &[1.5, -2.0], &[-1.5, 2.0]),
        (Unary::Sqrt, &[4.0, 2.0], &[2.0, std::f32::consts::SQRT_2]),
        (Unary::Reciprocal, &[4.0, 0.0], &[0.25, f32::INFINITY]),
        (Unary::Exp, &[0.0, 1.0, -200.0], &[1.0, 2.718_281_7, 0.0]),
        (Unary::Log, &[1.0, 0.0], &[0.0, f32::NEG_INFINITY]),
        (Unary::Sin, &[0.5], &[0.479_425_55]),
        (Unary::Cos, &[0.5], &[0.877_582_55]),
        (Unary::Tanh, &[0.5, 100.0], &[0.462_117_16, 1.0]),
        (Unary::Sigmoid, &[0.0, -2.0], &[0.5, 0.119_202_92]),
        (Unary::Erf, &[0.5, -9.0], &[0.520_499_9, -1.0]),
        (Unary::Round, &[0.5, 1.5, -2.5, 2.6], &[0.0, 2.0, -2.0, 3.0]),
        (Unary::Sign, &[-3.0, 0.0, 2.0], &[-1.0, 0.0, 1.0]),
        (Unary::Relu, &[-3.0, 2.0], &[0.0, 2.0]),
        (Unary::Softplus, &[0.0, 100.0], &[std::f32::consts::LN_2, 100.0]),
    ];
    for (op, x, expected) in cases {
        assert_eq!(unary(op, f32s(x)), f32s(expected), "{op:?}");
    }
    assert_eq!(unary(Unary::Abs, Data::I32(vec![-3, 3])), Data::I32(vec![3, 3]));
    assert_eq!(unary(Unary::Not, Data::Bool(vec![true, false])), Data::Bool(vec![false, true]));
    assert_eq!(unary(Unary::IsNan, f32s(&[f32::NAN, 1.0])), Data::Bool(vec![true, false]));
}

#[test]
fn functions_of_two_numbers() {
    let pairs = || (Data::I64(vec![7, -7, 7, -7]), Data::I64(vec![3, 3, -3, -3]));
    let cases = [
        (Binary::Div, [2, -2, -2, 2]),
        (Binary::Mod, [1, 2, -2, -1]),
        (Binary::Rem, [1, -1, 1, -1]),
        (Binary::Min, [3, -7, -3, -7]),
        (Binary::Pow, [343, -343, 0, 0]),
        (Binary::And, [3, 1, 5, -7]),
    ];
    for (op, expected) in cases {
        let (a, b) = pairs();
        assert_eq!(binary(op, a, b), Ok(Data::I64(expected.to_vec())), "{op:?}");
    }
    let (a, b) = pairs();
    assert_eq!(binary(Binary::Less, a, b), Ok(Data::Bool(vec![false, true, false, true])));
    assert!(binary(Binary::Div, Data::I64(vec![1]), Data::I64(vec![0])).is_err());
    assert!(binary(Binary::Add, Data::I64(vec![1]), Data::I32(vec![0])).is_err());
    assert_eq!(binary(Binary::Mod, f32s(&[-7.5]), f32s(&[2.0])), Ok(f32s(&[0.5])));
    assert_eq!(binary(Binary::Add, Data::I32(vec![i32::MAX]), Data::I32(vec![1])), Ok(Data::I32(vec![i32::MIN])));
    let Ok(Data::F32(largest)) = binary(Binary::Max, f32s(&[f32::NAN, 1.0]), f32s(&[1.0, f32::NAN])) else { panic!() };
    assert!(largest.iter().all(|x| x.is_nan()));
}

#[test]
fn choices_and_casts() {
    let expr =
        Expr::select(Expr::Input(0), Expr::Cast(DType::I64, Box::new(Expr::Input(1))), Expr::Const(Scalar::I64(9)));
    let inputs: [(&[usize], Data); 2] =
        [(&[3], Data::Bool(vec![true, false, true])), (&[3], f32s(&[-1.7, 5.0, f32::NAN]))];
    assert_eq!(run(Op::Map(expr), &inputs, DType::I64, &[3]), Ok(Data::I64(vec![-1, 9, 0])));
}

#[test]
fn products() {
    let matmul =
        Op::MatMul { epilogue: Expr::binary(Binary::Add, Expr::Result, Expr::Input(2)), packing: Packing::None };
    let inputs: [(&[usize], Data); 3] = [
        (&[2, 1, 2], f32s(&[1.0, 2.0, 3.0, 4.0])),
        (&[2, 2, 2], f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])),
        (&[2, 1, 2], f32s(&[0.5; 4])),
    ];
    assert_eq!(run(matmul, &inputs, DType::F32, &[2, 1, 2]), Ok(f32s(&[7.5, 10.5, 43.5, 50.5])));

    let conv =
        Op::Conv { stride: 1, dilation: 2, before: 2, groups: 2, epilogue: Expr::Result, packing: Packing::None };
    let inputs: [(&[usize], Data); 2] =
        [(&[1, 3, 2], f32s(&[1.0, 10.0, 2.0, 20.0, 3.0, 30.0])), (&[2, 1, 2], f32s(&[1.0, 2.0, 3.0, 4.0]))];
    // y[t] = w[0] * x[t - 2] + w[1] * x[t], each channel by itself.
    assert_eq!(run(conv, &inputs, DType::F32, &[1, 3, 2]), Ok(f32s(&[3.0, 40.0, 6.0, 80.0, 10.0, 140.0])));
}

#[test]
fn reductions() {
    let x = || f32s(&[3.0, 1.0, 3.0, -1.0, 5.0, -1.0]);
    let reduce = |kind, dtype| run(Op::Reduce { kind, axes: 1 }, &[(&[2, 3], x())], dtype, &[2]).expect("a result");
    assert_eq!(reduce(Reduction::Sum, DType::F32), f32s(&[7.0, 3.0]));
    assert_eq!(reduce(Reduction::Mean, DType::F32), f32s(&[7.0 / 3.0, 1.0]));
    assert_eq!(reduce(Reduction::Prod, DType::F32), f32s(&[9.0, 5.0]));
    assert_eq!(reduce(Reduction::Min, DType::F32), f32s(&[1.0, -1.0]));
    assert_eq!(reduce(Reduction::Max, DType::F32), f32s(&[3.0, 5.0]));
    assert_eq!(reduce(Reduction::ArgMax, DType::I64), Data::I64(vec![0, 1]));
    assert_eq!(reduce(Reduction::ArgMin, DType::I64), Data::I64(vec![1, 0]));
    let all = Op::Reduce { kind: Reduction::Max, axes: 2 };
    assert_eq!(run(all, &[(&[2, 2], Data::I32(vec![-4, -2, -3, -9]))], DType::I32, &[]), Ok(Data::I32(vec![-2])));
    let nothing = Op::Reduce { kind: Reduction::Min, axes: 1 };
    assert_eq!(run(nothing, &[(&[2, 0], Data::I32(vec![]))], DType::I32, &[2]), Ok(Data::I32(vec![i32::MAX; 2])));
}

#[test]
fn softmax_and_normalisation() {
    let x: [(&[usize], Data); 1] = [(&[1, 2], f32s(&[1000.0, 1000.0 + 3.0f32.ln()]))];
    let Ok(Data::F32(y)) = run(Op::Softmax { log: false }, &x, DType::F32, &[1, 2]) else { panic!() };
    crate::testkit::assert_close(&y, &[0.25, 0.75], 1e-4);
    let Ok(Data::F32(y)) = run(Op::Softmax { log: true }, &x, DType::F32, &[1, 2]) else { panic!() };
    crate::testkit::assert_close(&y, &[0.25f32.ln(), 0.75f32.ln()], 1e-4);
    let inputs: [(&[usize], Data); 3] =
        [(&[1, 2], f32s(&[1.0, 3.0])), (&[2], f32s(&[2.0, 3.0])), (&[2], f32s(&[0.5, 0.25]))];
    let y = run(Op::Normalize { epsilon: 0.0 }, &inputs, DType::F32, &[1, 2]);
    assert_eq!(y, Ok(f32s(&[-1.5, 3.25])));
}

#[test]
fn movement() {
    let x = || Data::I64((0..6).collect());
    let gather = |indices: Vec<i64>, shape: &[usize]| {
        run(Op::Gather { axis: 1 }, &[(&[2, 3], x()), (&[2], Data::I64(indices))], DType::I64, shape)
    };
    assert_eq!(gather(vec![2, -3], &[2, 2]), Ok(Data::I64(vec![2, 0, 5, 3])));
    assert!(gather(vec![3, 0], &[2, 2]).is_err());
    assert!(gather(vec![i64::MIN, 0], &[2, 2]).is_err());
    let both: [(&[usize], Data); 2] = [(&[2, 3], x()), (&[2, 1], Data::I64(vec![7, 8]))];
    assert_eq!(run(Op::Concat { axis: 1 }, &both, DType::I64, &[2, 4]), Ok(Data::I64(vec![0, 1, 2, 7, 3, 4, 5, 8])));
    let pad = Op::Pad { before: vec![0, 1], fill: Scalar::I64(9) };
    let padded = run(pad, &[(&[2, 3], x())], DType::I64, &[2, 5]);
    assert_eq!(padded, Ok(Data::I64(vec![9, 0, 1, 2, 9, 9, 3, 4, 5, 9])));
}

#[test]
fn a_graph_reads_views() {
    let mut graph = Graph::default();
    let x = graph.add_value("x", DType::F32, &[2, 3]).expect("a value");
    graph.inputs.push(x);
    let y = graph.add_value("y", DType::F32, &[3, 2]).expect("a value");
    graph.nodes.push(Node {
        name: "y".into(),
        op: Op::Map(Expr::unary(Unary::Neg, Expr::Input(0))),
        inputs: vec![Operand::whole(x, &[2, 3]).transposed(&[1, 0])],
        outputs: vec![Some(y)],
    });
    graph.outputs.push(("y".into(), y));
    let results = super::graph(&graph, &[f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]);
    assert_eq!(results, [f32s(&[-1.0, -4.0, -2.0, -5.0, -3.0, -6.0])]);
}
