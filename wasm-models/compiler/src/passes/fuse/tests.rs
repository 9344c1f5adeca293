use super::super::dump::text;
use super::super::testing::{Net, assert_close};
use super::*;
use crate::ir::{Binary, DType, Data, Expr, Op, Operand, Reduction, Unary};

fn fused(net: Net, outputs: &[&Operand]) -> Graph {
    let before = net.outputs(outputs);
    let mut after = before.clone();
    simplify::run(&mut after).expect("simplifies");
    run(&mut after).expect("fuses");
    assert_close(&before, &after);
    after
}

fn gelu(net: &mut Net, x: &Operand) -> Operand {
    let root = net.constant(&[], vec![std::f32::consts::SQRT_2]);
    let (one, half) = (net.constant(&[], vec![1.0]), net.constant(&[], vec![0.5]));
    let y = net.binary(Binary::Div, x, &root);
    let y = net.unary(Unary::Erf, &y);
    let y = net.add(&y, &one);
    let y = net.binary(Binary::Mul, x, &y);
    net.binary(Binary::Mul, &y, &half)
}

#[test]
fn bias_activation_and_residual_join_the_product() {
    let mut net = Net::default();
    let x = net.input(&[2, 5, 8]);
    let (w, b, v, c) = (net.weights(&[8, 16]), net.weights(&[16]), net.weights(&[16, 8]), net.weights(&[8]));
    let y = net.matmul(&x, &w);
    let y = net.add(&y, &b);
    let y = gelu(&mut net, &y);
    let y = net.matmul(&y, &v);
    let y = net.add(&y, &c);
    let y = net.add(&y, &x);
    let y = net.normalize(&y);
    let after = fused(net, &[&y]);
    let shown = text(&after);
    assert!(shown.contains("] = (matmul(a, b) + c) + d |") || shown.contains("] = matmul(a, b) + c + d |"), "{shown}");
    assert!(shown.contains("with result = matmul(a, b) | a = %0 as [10, 8], b = const"), "{shown}");
    assert_eq!(after.nodes.len(), 3);
}

#[test]
fn layer_normalisation_is_found_with_scale_and_shift() {
    for pow in [true, false] {
        let mut net = Net::default();
        let x = net.input(&[2, 5, 8]);
        let x = net.unary(Unary::Tanh, &x);
        let (scale, shift) = (net.weights(&[8]), net.weights(&[8]));
        let (two, epsilon) = (net.constant(&[], vec![2.0]), net.constant(&[1], vec![1e-5]));
        let mean = net.reduce(Reduction::Mean, &x, 1);
        let d = net.binary(Binary::Sub, &x, &mean.unsqueezed(2));
        let squares = if pow { net.binary(Binary::Pow, &d, &two) } else { net.binary(Binary::Mul, &d, &d) };
        let variance = net.reduce(Reduction::Mean, &squares, 1);
        let y = net.add(&variance, &epsilon);
        let y = net.unary(Unary::Sqrt, &y);
        let y = net.binary(Binary::Div, &d, &y.unsqueezed(2));
        let y = net.binary(Binary::Mul, &y, &scale);
        let y = net.add(&y, &shift);
        let y = net.unary(Unary::Relu, &y);
        let after = fused(net, &[&y]);
        assert_eq!(after.nodes.len(), 3, "{}", text(&after));
        assert!(matches!(after.nodes[1].op, Op::Normalize { epsilon } if epsilon == 1e-5));
        assert_eq!(after.nodes[1].inputs.len(), 3);
    }
}

#[test]
fn a_mean_of_other_numbers_is_no_normalisation() {
    let mut net = Net::default();
    let (x, z) = (net.input(&[2, 8]), net.input(&[2, 8]));
    let epsilon = net.constant(&[1], vec![1e-5]);
    let mean = net.reduce(Reduction::Mean, &z, 1);
    let d = net.binary(Binary::Sub, &x, &mean.unsqueezed(1));
    let squares = net.binary(Binary::Mul, &d, &d);
    let variance = net.reduce(Reduction::Mean, &squares, 1);
    let y = net.add(&variance, &epsilon);
    let y = net.unary(Unary::Sqrt, &y);
    let y = net.binary(Binary::Div, &d, &y.unsqueezed(1));
    let after = fused(net, &[&y]);
    assert!(after.nodes.iter().all(|node| !matches!(node.op, Op::Normalize { .. })));
}

#[test]
fn attention_becomes_one_projection_two_products_and_a_softmax() {
    let (rows, tokens, heads, size) = (2, 5, 2, 4);
    let mut net = Net::default();
    let x = net.input(&[rows, tokens, heads * size]);
    let scale = net.constant(&[], vec![0.5]);
    let mask = net.weights(&[tokens, tokens]);
    let mut parts = Vec::new();
    for part in 0..3 {
        let (w, b) = (net.weights(&[heads * size, heads * size]), net.weights(&[heads * size]));
        let y = net.matmul(&x, &w);
        let y = net.add(&y, &b);
        let y = y.reshaped(&[rows, tokens, heads, size]).expect("contiguous").transposed(&[0, 2, 1, 3]);
        let y = net.copy(&y);
        // The scale of the queries, as PyTorch exports it.
        parts.push(if part == 0 { net.binary(Binary::Mul, &y, &scale) } else { y });
    }
    let scores = net.matmul(&parts[0], &parts[1].transposed(&[0, 1, 3, 2]));
    let scores = net.add(&scores, &mask);
    let scores = net.softmax(&scores);
    let y = net.matmul(&scores, &parts[2]);
    let y = net.copy(&y.transposed(&[0, 2, 1, 3])).reshaped(&[rows, tokens, heads * size]).expect("contiguous");
    let w = net.weights(&[heads * size, heads * size]);
    let y = net.matmul(&y, &w);
    let y = net.add(&y, &x);
    let after = fused(net, &[&y]);
    let shown = text(&after);
    let products = after.nodes.iter().filter(|node| matches!(node.op, Op::MatMul { .. })).count();
    // One copy joins the heads.
    assert_eq!((products, after.nodes.len()), (4, 6), "{shown}");
    assert!(shown.contains("matmul(a, b) * 0.5 + c"), "{shown}");
}

#[test]
fn batch_normalisation_moves_into_the_weights() {
    let mut net = Net::default();
    let x = net.input(&[2, 9, 3]);
    let (w, b, scale, shift) = (net.weights(&[2, 3, 4]), net.weights(&[4]), net.weights(&[4]), net.weights(&[4]));
    let y = net.causal(&x, &w, 2);
    let y = net.add(&y, &b);
    let y = net.binary(Binary::Mul, &y, &scale);
    let y = net.add(&y, &shift);
    let y = net.unary(Unary::Relu, &y);
    let after = fused(net, &[&y]);
    assert_eq!(after.nodes.len(), 1);
    assert!(text(&after).contains("= relu(conv(a, b; dilation 2, before 2) + c) |"), "{}", text(&after));
}

#[test]
fn shared_weights_are_not_scaled() {
    let mut net = Net::default();
    let x = net.input(&[2, 3]);
    let (w, scale) = (net.weights(&[3, 3]), net.weights(&[3]));
    let y = net.matmul(&x, &w);
    let y = net.binary(Binary::Mul, &y, &scale);
    let y = net.matmul(&y, &w);
    let after = fused(net, &[&y]);
    assert!(text(&after).contains("= matmul(a, b) * c |"), "{}", text(&after));
}

#[test]
fn nothing_is_computed_twice() {
    // A broadcast reader, two readers, an output.
    let mut net = Net::default();
    let (x, small) = (net.input(&[4, 3]), net.input(&[3]));
    let narrow = net.unary(Unary::Exp, &small);
    let y = net.add(&x, &narrow);
    let shared = net.unary(Unary::Exp, &y);
    let (a, b) = (net.unary(Unary::Neg, &shared), net.unary(Unary::Abs, &shared));
    let shown = net.unary(Unary::Tanh, &a);
    let last = net.unary(Unary::Neg, &shown);
    let after = fused(net, &[&a, &b, &shown, &last]);
    assert_eq!(text(&after).matches("exp(").count(), 2);
    assert_eq!(text(&after).matches("tanh(").count(), 1);
}

#[test]
fn directions_of_a_recurrent_layer_share_a_projection() {
    let mut net = Net::default();
    let x = net.input(&[2, 6, 3]);
    let x = x.transposed(&[1, 0, 2]);
    let mut ends = Vec::new();
    for reverse in [false, true] {
        let (w, b, r) = (net.weights(&[3, 4]), net.weights(&[4]), net.weights(&[4, 4]));
        let zeros = net.constant(&[1, 1], vec![0.0]).broadcast(&[2, 4]).expect("one");
        let y = net.matmul(&x, &w);
        let y = net.add(&y, &b);
        let cell = crate::ir::Cell::Rnn { activation: crate::ir::Activation::Tanh };
        let op = Op::Recurrent { cell, hidden: 4, reverse, clip: None, packing: crate::ir::Packing::None };
        ends.push(net.node(op, &[&y, &r, &zeros], DType::F32, &[6, 2, 4]));
    }
    let joined = net.node(Op::Concat { axis: 2 }, &[&ends[0], &ends[1]], DType::F32, &[6, 2, 8]);
    let mut after = net.outputs(&[&joined]);
    simplify::run(&mut after).expect("simplifies");
    run(&mut after).expect("fuses");
    crate::ir::verify(&after, "fuse").expect("valid");
    assert!(
        text(&after).contains("[12, 8] = matmul(a, b) + c |")
            || text(&after).contains("[6, 2, 8] = matmul(a, b) + c |"),
        "{}",
        text(&after)
    );
    assert_eq!(after.nodes.len(), 4, "{}", text(&after));
    assert!(text(&after).contains("as [6, 2, 4] from 4 by [16, 8, 1]"), "{}", text(&after));
}

#[test]
fn a_map_of_a_comparison_stays_behind_the_product() {
    let mut net = Net::default();
    let x = net.input(&[2, 3]);
    let w = net.weights(&[3, 3]);
    let y = net.matmul(&x, &w);
    let expr = Expr::binary(Binary::Less, Expr::Input(0), Expr::f32(0.0));
    let y = net.node(Op::Map(expr), &[&y], DType::Bool, &[2, 3]);
    assert_eq!(fused(net, &[&y]).nodes.len(), 2);
}

#[test]
fn factors_that_make_weights_infinite_stay() {
    let scaled = |weight: f32| {
        let mut net = Net::default();
        let x = net.input(&[2, 3]);
        let w = net.constant(&[3, 2], vec![weight; 6]);
        let factor = net.constant(&[1], vec![1e30]);
        let y = net.matmul(&x, &w);
        let y = net.binary(Binary::Mul, &y, &factor);
        let mut graph = net.outputs(&[&y]);
        run(&mut graph).expect("fuses");
        graph
    };
    let weights = |graph: &Graph| graph.constant(&graph.nodes[0].inputs[1]);
    assert_eq!(weights(&scaled(2.0)), Some(Data::F32(vec![2e30; 6])));
    assert_eq!(weights(&scaled(1e20)), Some(Data::F32(vec![1e20; 6])));
}
