use super::super::dump::text;
use super::super::testing::{Net, assert_same};
use super::*;

fn simplified(net: Net, outputs: &[&Operand]) -> Graph {
    let before = net.outputs(outputs);
    let mut after = before.clone();
    run(&mut after).expect("simplifies");
    assert_same(&before, &after);
    after
}

#[test]
fn copies_of_views_go() {
    let mut net = Net::default();
    let x = net.input(&[2, 3, 4]);
    let y = net.copy(&x.transposed(&[0, 2, 1]));
    let y = net.copy(&y.reshaped(&[8, 3]).expect("contiguous"));
    let y = net.copy(&y.sliced(0, 1, 3, 2));
    let y = net.unary(Unary::Abs, &y);
    let expected = "\
%0: float32 [2, 3, 4] = input `x0`
%4: float32 [2, 3] = abs(a) | a = %1 as [2, 3] from 3 by [9, 1]  # node3
output `y0` = %4
";
    // Two dimensions of which one is transposed are no view: the first copy stays.
    let after = simplified(net, &[&y]);
    assert_eq!(after.nodes.len(), 2);
    assert_eq!(text(&after).lines().last(), expected.lines().last());
    assert_eq!(text(&after).lines().nth(2), expected.lines().nth(1));
}

#[test]
fn constants_become_numbers_and_neutral_ones_go() {
    let mut net = Net::default();
    let x = net.input(&[2, 3]);
    let (one, zero, two) =
        (net.constant(&[], vec![1.0]), net.constant(&[2, 1], vec![0.0, 0.0]), net.constant(&[3], vec![2.0; 3]));
    let y = net.binary(Binary::Mul, &x, &one);
    let y = net.binary(Binary::Sub, &y, &zero);
    let y = net.binary(Binary::Div, &y, &two);
    let y = net.binary(Binary::Pow, &y, &two);
    let negative = net.constant(&[1], vec![-1.5]);
    let two = net.binary(Binary::Sub, &two, &negative.broadcast(&[3]).expect("one"));
    let y = net.add(&y, &two);
    let after = simplified(net, &[&y]);
    let expected = "\
%0: float32 [2, 3] = input `x0`
%6: float32 [2, 3] = a * 0.5 | a = %0  # node2
%7: float32 [2, 3] = a * a | a = %6  # node3
%10: float32 [2, 3] = a + 3.5 | a = %7  # node5
output `y0` = %10
";
    assert_eq!(text(&after), expected);
}

#[test]
fn adding_zero_stays_because_of_minus_zero() {
    let mut net = Net::default();
    let x = net.input(&[2]);
    let (plus, minus) = (net.constant(&[1], vec![0.0]), net.constant(&[1], vec![-0.0]));
    let y = net.add(&x, &plus);
    let y = net.add(&minus.broadcast(&[2]).expect("one"), &y);
    assert!(text(&simplified(net, &[&y])).contains("= a + 0.0 | a = %0"));
}

#[test]
fn gathers_at_even_places_are_views() {
    let mut net = Net::default();
    let x = net.input(&[2, 6, 3]);
    let mut at = |places: Vec<i64>, shape: &[usize]| {
        let id = net.graph.add_constant("i", shape, Data::I64(places)).expect("as many");
        let indices = net.graph.whole(id);
        let shape = [&[2][..], shape, &[3]].concat();
        let y = net.node(Op::Gather { axis: 1 }, &[&x, &indices], DType::F32, &shape);
        net.unary(Unary::Neg, &y)
    };
    let last = at(vec![-1], &[]);
    let back = at(vec![5, 4, -3, 2], &[2, 2]);
    let uneven = at(vec![0, 1, 3], &[3]);
    let after = simplified(net, &[&last, &back, &uneven]);
    let gathers = after.nodes.iter().filter(|node| matches!(node.op, Op::Gather { .. })).count();
    assert_eq!((gathers, after.nodes.len()), (1, 4), "{}", text(&after));
    assert!(text(&after).contains("as [2, 3] from 15 by [18, 1]"));
}

#[test]
fn a_convolution_takes_the_padding_before_it() {
    let mut net = Net::default();
    let x = net.input(&[2, 3, 7]);
    let w = net.weights(&[2, 3, 4]);
    let x = net.node(Op::Pad { before: vec![0, 0, 4], fill: Scalar::F32(0.0) }, &[&x], DType::F32, &[2, 3, 11]);
    let op = Op::Conv { stride: 1, dilation: 4, before: 0, groups: 1, epilogue: Expr::Result, packing: Packing::None };
    let y = net.node(op, &[&x.transposed(&[0, 2, 1]), &w], DType::F32, &[2, 7, 4]);
    let after = simplified(net, &[&y]);
    assert_eq!(after.nodes.len(), 1);
    assert!(text(&after).contains("conv(a, b; dilation 4, before 4) | a = %0 as [2, 7, 3] by [21, 1, 7]"));
}

#[test]
fn outputs_that_copy_are_written_directly() {
    let mut net = Net::default();
    let x = net.input(&[2, 3]);
    let y = net.unary(Unary::Tanh, &x);
    let z = net.unary(Unary::Abs, &y);
    let copy = net.copy(&y);
    let after = simplified(net, &[&copy, &z]);
    assert_eq!(after.nodes.len(), 2);
    // Both outputs are the same numbers: one of them stays a copy.
    let mut net = Net::default();
    let x = net.input(&[2, 3]);
    let y = net.unary(Unary::Tanh, &x);
    let after = simplified(net, &[&y, &y]);
    assert_eq!(after.nodes.len(), 2);
}

#[test]
fn factors_are_joined_where_their_product_is_normal() {
    let of = |a: f32, b: f32| {
        let mut net = Net::default();
        let x = net.input(&[2, 3]);
        let (a, b) = (net.constant(&[1], vec![a]), net.constant(&[1], vec![b]));
        let y = net.binary(Binary::Mul, &x, &a);
        let y = net.binary(Binary::Mul, &y, &b);
        let mut graph = net.outputs(&[&y]);
        run(&mut graph).expect("simplifies");
        super::super::fuse::run(&mut graph).expect("fuses");
        text(&graph)
    };
    assert!(of(2.0, 3.0).contains("a * 6.0"), "{}", of(2.0, 3.0));
    for (a, b) in [(1e30, 1e30), (1e-30, 1e-30), (1e-20, 1e-20)] {
        let text = of(a, b);
        assert_eq!(text.matches('*').count(), 2, "{text}");
    }
}

#[test]
fn constants_that_take_too_long_stay_nodes() {
    let (rows, depth) = (1 << 10, 1 << 10);
    let mut net = Net::default();
    let x = net.input(&[rows, rows]);
    let (a, b) =
        (net.constant(&[rows, depth], vec![0.0; rows * depth]), net.constant(&[depth, rows], vec![0.0; rows * depth]));
    let product = net.matmul(&a, &b);
    let y = net.add(&x, &product);
    let mut graph = net.outputs(&[&y]);
    run(&mut graph).expect("simplifies");
    assert_eq!(graph.nodes.len(), 2, "{}", text(&graph));
}
