//! Against sums in double precision, over shapes, strides, epilogues and both variants.

use proptest::prelude::*;

use crate::ir::{Binary, DType, Data, Expr, Graph, Node, Op, Operand, Packing, Unary, ValueId};
use crate::testkit::{Running, assert_close, compile_as_it_is, compile_graph};
use crate::{Options, Variant};

/// Numbers between -1 and 1, the same for the same seed.
pub(crate) fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// How an operand lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    Whole,
    /// The last two axes in the other order.
    Transposed,
    /// Every second element of the last axis, of a larger tensor.
    Sparse,
    /// The second axis from the end runs backwards.
    Backwards,
    /// The last axis runs backwards.
    LastBackwards,
    /// The first axis repeats.
    Repeated,
}

pub(crate) const LIES: [Lie; 6] =
    [Lie::Whole, Lie::Transposed, Lie::Sparse, Lie::Backwards, Lie::LastBackwards, Lie::Repeated];

/// An operand of a shape (rank 2 or more); a constant, or an input whose numbers are added to `inputs`.
pub(crate) fn operand(
    graph: &mut Graph,
    inputs: &mut Vec<Data>,
    shape: &[usize],
    lie: Lie,
    is_constant: bool,
) -> Operand {
    let (rank, mut stored) = (shape.len(), shape.to_vec());
    match lie {
        Lie::Transposed => stored.swap(rank - 2, rank - 1),
        Lie::Sparse => stored[rank - 1] = 2 * shape[rank - 1] + 1,
        Lie::Repeated => stored[0] = 1,
        _ => {}
    }
    let seed = graph.values.len() as u64 + 1;
    let data = Data::F32(numbers(seed, stored.iter().product()));
    let id = if is_constant {
        graph.add_constant(format!("c{seed}"), &stored, data).expect("a constant")
    } else {
        let id = graph.add_value(format!("x{seed}"), DType::F32, &stored).expect("a value");
        graph.inputs.push(id);
        inputs.push(data);
        id
    };
    let whole = Operand::whole(id, &stored);
    let order = |a: usize, b: usize| {
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(a, b);
        order
    };
    match lie {
        Lie::Whole => whole,
        Lie::Transposed => whole.transposed(&order(rank - 2, rank - 1)),
        Lie::Sparse => whole.sliced(rank - 1, 1, 2, shape[rank - 1]),
        Lie::Backwards => whole.sliced(rank - 2, shape[rank - 2] - 1, -1, shape[rank - 2]),
        Lie::LastBackwards => whole.sliced(rank - 1, shape[rank - 1] - 1, -1, shape[rank - 1]),
        Lie::Repeated => whole.broadcast(shape).expect("broadcasts"),
    }
}

/// The numbers of an operand, in the view's order.
pub(crate) fn view(graph: &Graph, inputs: &[Data], operand: &Operand) -> Vec<f32> {
    let data = graph.constant(operand).unwrap_or_else(|| {
        let place = graph.inputs.iter().position(|id| *id == operand.value).expect("an input");
        inputs[place].pick(operand.positions())
    });
    match data {
        Data::F32(data) => data,
        other => panic!("{other:?}"),
    }
}

/// What an expression gives for one element.
pub(crate) fn expression(expr: &Expr, result: f64, inputs: &dyn Fn(usize) -> f64) -> f64 {
    match expr {
        Expr::Result => result,
        Expr::Input(index) => inputs(*index),
        Expr::Unary(Unary::Relu, x) => expression(x, result, inputs).max(0.0),
        Expr::Unary(Unary::Tanh, x) => expression(x, result, inputs).tanh(),
        Expr::Binary(Binary::Add, a, b) => expression(a, result, inputs) + expression(b, result, inputs),
        Expr::Binary(Binary::Mul, a, b) => expression(a, result, inputs) * expression(b, result, inputs),
        other => panic!("{other:?}"),
    }
}

/// `tanh(result + in 2) * in 3`, or as much of it as there are inputs.
pub(crate) fn epilogue(extras: usize) -> Expr {
    let mut expr = Expr::Result;
    if extras > 0 {
        expr = Expr::unary(Unary::Tanh, Expr::binary(Binary::Add, expr, Expr::Input(2)));
    }
    if extras > 1 {
        expr = Expr::binary(Binary::Mul, expr, Expr::Input(3));
    }
    expr
}

pub(crate) fn output(graph: &mut Graph, op: Op, inputs: Vec<Operand>, shape: &[usize]) -> ValueId {
    let dtype = graph.dtype(&inputs[0]);
    let id = graph.add_value("y", dtype, shape).expect("a value");
    graph.nodes.push(Node { name: "node".into(), op, inputs, outputs: vec![Some(id)] });
    graph.outputs.push(("y".into(), id));
    id
}

fn product(graph: &Graph, inputs: &[Data]) -> Vec<f32> {
    let node = &graph.nodes[0];
    let Op::MatMul { epilogue, .. } = &node.op else { panic!("a matrix product") };
    let (a, b) = (&node.inputs[0], &node.inputs[1]);
    let (m, k, n) = (a.shape[a.rank() - 2], a.shape[a.rank() - 1], b.shape[b.rank() - 1]);
    let numbers: Vec<Vec<f32>> = node.inputs.iter().map(|input| view(graph, inputs, input)).collect();
    let len = graph.value(graph.outputs[0].1).len();
    (0..len)
        .map(|place| {
            let (batch, row, column) = (place / (m * n), place / n % m, place % n);
            let term = |i: usize| {
                f64::from(numbers[0][(batch * m + row) * k + i]) * f64::from(numbers[1][(batch * k + i) * n + column])
            };
            let sum = (0..k).map(term).sum::<f64>();
            expression(epilogue, sum, &|index| f64::from(numbers[index][place])) as f32
        })
        .collect()
}

fn floats(data: &Data) -> &[f32] {
    match data {
        Data::F32(data) => data,
        other => panic!("{other:?}"),
    }
}

/// Compiles with and without packing, in both variants; all must be close to `expected`.
pub(crate) fn check(graph: &Graph, inputs: &[Data], expected: &[f32]) {
    let mut exact = Vec::new();
    for variant in [Variant::Simd128, Variant::RelaxedSimd] {
        let options = Options { variant, ..Options::default() };
        for wasm in [compile_as_it_is(graph, &options), compile_graph(graph, &options)] {
            let actual = Running::new(&wasm).run(1, inputs);
            assert_close(floats(&actual[0]), expected, 1e-5);
            if variant == Variant::Simd128 {
                exact.push(actual);
            }
        }
    }
    assert_eq!(exact[0], exact[1], "packing changes nothing");
}

fn matmul(extras: usize) -> Op {
    Op::MatMul { epilogue: epilogue(extras), packing: Packing::None }
}

/// A product of `[batch, m, k]` and `[batch, k, n]` with up to two inputs of the epilogue.
fn case(batch: &[usize], m: usize, k: usize, n: usize, lies: [Lie; 4], is_constant: bool, extras: usize) {
    let (mut graph, mut inputs) = (Graph::default(), Vec::new());
    let shape = |rows: usize, columns: usize| [batch, &[rows, columns]].concat();
    let a = operand(&mut graph, &mut inputs, &shape(m, k), lies[0], false);
    let b = operand(&mut graph, &mut inputs, &shape(k, n), lies[1], is_constant);
    let mut operands = vec![a, b];
    for extra in 0..extras {
        operands.push(operand(&mut graph, &mut inputs, &shape(m, n), lies[2 + extra], is_constant && extra == 0));
    }
    output(&mut graph, matmul(extras), operands, &shape(m, n));
    check(&graph, &inputs, &product(&graph, &inputs));
}

const SIZES: [usize; 12] = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 33, 64];

#[test]
fn every_size_of_every_dimension() {
    for size in SIZES {
        case(&[], size, 9, 12, [Lie::Whole; 4], true, 1);
        case(&[], 5, size, 12, [Lie::Whole; 4], true, 0);
        case(&[], 5, 9, size, [Lie::Whole; 4], true, 2);
        case(&[2], 1, 9, size, [Lie::Whole; 4], false, 0);
    }
}

#[test]
fn every_way_to_lie() {
    for lie in LIES {
        for is_constant in [true, false] {
            case(&[3], 6, 7, 10, [lie, Lie::Whole, Lie::Whole, Lie::Whole], is_constant, 1);
            case(&[3], 6, 9, 11, [Lie::Whole, lie, Lie::Whole, Lie::Whole], is_constant, 0);
            case(&[2], 9, 5, 8, [Lie::Whole, Lie::Whole, lie, Lie::Repeated], is_constant, 2);
        }
    }
}

#[test]
fn no_terms_give_zero_and_no_rows_nothing() {
    case(&[], 3, 0, 5, [Lie::Whole; 4], false, 1);
    case(&[], 0, 3, 5, [Lie::Whole; 4], true, 1);
    case(&[], 3, 3, 0, [Lie::Whole; 4], true, 0);
    case(&[0], 3, 3, 5, [Lie::Whole; 4], true, 0);
}

#[test]
fn a_row_has_the_same_bits_among_any_number_of_rows() {
    let (k, n) = (37, 21);
    let weights = Data::F32(numbers(1, k * n));
    let rows = numbers(2, 9 * k);
    let run = |m: usize, rows: &[f32]| {
        let mut graph = Graph::default();
        let x = graph.add_value("x", DType::F32, &[m, k]).expect("a value");
        graph.inputs.push(x);
        let w = graph.add_constant("w", &[k, n], weights.clone()).expect("a constant");
        let operands = vec![graph.whole(x), graph.whole(w)];
        output(&mut graph, matmul(0), operands, &[m, n]);
        let wasm = compile_graph(&graph, &Options::default());
        floats(&Running::new(&wasm).run(1, &[Data::F32(rows.to_vec())])[0]).to_vec()
    };
    let single: Vec<f32> = rows.chunks(k).flat_map(|row| run(1, row)).collect();
    for m in 2..=9 {
        assert_eq!(run(m, &rows[..m * k]), single[..m * n], "{m} rows");
    }
}

#[test]
fn other_types_are_exact() {
    let (m, k, n) = (3, 5, 4);
    let whole = |f: &dyn Fn(i64) -> Data, len: usize| f(len as i64);
    let kinds: [&dyn Fn(i64) -> Data; 3] = [
        &|len| Data::F64((0..len).map(|i| (i * i - 7 * i) as f64 * 0.5).collect()),
        &|len| Data::I64((0..len).map(|i| i * i - 7 * i).collect()),
        &|len| Data::I32((0..len).map(|i| (i * i - 7 * i) as i32).collect()),
    ];
    for kind in kinds {
        let (a, b) = (whole(kind, 2 * m * k), whole(kind, 2 * n * k));
        let mut graph = Graph::default();
        let x = graph.add_value("x", a.dtype(), &[2, m, k]).expect("a value");
        let y = graph.add_value("y", a.dtype(), &[2, n, k]).expect("a value");
        graph.inputs = vec![x, y];
        let operands = vec![graph.whole(x), graph.whole(y).transposed(&[0, 2, 1])];
        output(&mut graph, matmul(0), operands, &[2, m, n]);
        let number = |data: &Data, place: usize| match data {
            Data::F64(data) => data[place],
            Data::I64(data) => data[place] as f64,
            Data::I32(data) => f64::from(data[place]),
            other => panic!("{other:?}"),
        };
        let sum = |place: usize| -> f64 {
            let (batch, row, column) = (place / (m * n), place / n % m, place % n);
            (0..k).map(|i| number(&a, (batch * m + row) * k + i) * number(&b, (batch * n + column) * k + i)).sum()
        };
        let actual = Running::new(&compile_graph(&graph, &Options::default())).run(1, &[a.clone(), b.clone()]);
        for place in 0..2 * m * n {
            assert_eq!(number(&actual[0], place), sum(place), "{} number {place}", a.dtype().name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_product(
        batch in proptest::collection::vec(1usize..4, 0..3),
        (m, k, n) in (1usize..20, 1usize..40, 1usize..40),
        lies in proptest::array::uniform4(proptest::sample::select(&LIES[..])),
        is_constant: bool,
        extras in 0usize..3,
    ) {
        case(&batch, m, k, n, lies, is_constant, extras);
    }
}
