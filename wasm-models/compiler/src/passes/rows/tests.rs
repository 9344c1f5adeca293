use super::super::testing::Net;
use super::*;
use crate::ir::{Binary, DType, Data, Expr, Reduction};

const ROWS: usize = 4;

fn refused(net: Net, output: &Operand) -> String {
    check(&net.outputs(&[output]), ROWS).expect_err("mixes rows").to_string()
}

#[test]
fn attention_with_merged_heads_keeps_rows_apart() {
    let mut net = Net::default();
    let (tokens, heads, size) = (5, 2, 3);
    let x = net.input(&[ROWS, tokens, heads * size]);
    let flat = x.reshaped(&[ROWS * tokens, heads * size]).expect("contiguous");
    let w = net.weights(&[heads * size, heads * size]);
    let split = |y: &Operand| y.reshaped(&[ROWS, tokens, heads, size]).expect("contiguous").transposed(&[0, 2, 1, 3]);
    let (q, k, v) = (net.matmul(&flat, &w), net.matmul(&flat, &w), net.matmul(&flat, &w));
    // Rows and heads become one dimension, as PyTorch exports it.
    let mut merged = |y: &Operand| {
        let y = net.copy(&split(y));
        y.reshaped(&[ROWS * heads, tokens, size]).expect("contiguous")
    };
    let (q, k, v) = (merged(&q), merged(&k), merged(&v));
    let scores = net.matmul(&q, &k.transposed(&[0, 2, 1]));
    let scores = net.softmax(&scores);
    let y = net.matmul(&scores, &v);
    let y = y.reshaped(&[ROWS, heads, tokens, size]).expect("contiguous").transposed(&[0, 2, 1, 3]);
    let y = net.copy(&y);
    let y = y.reshaped(&[ROWS, tokens, heads * size]).expect("contiguous");
    let y = net.add(&y, &x);
    let y = net.normalize(&y);
    let last = y.sliced(1, tokens - 1, 1, 1).squeezed(1);
    check(&net.outputs(&[&last]), ROWS).expect("rows apart");
}

#[test]
fn what_reads_other_rows_is_refused() {
    let expected = "node `node0`: mixes the rows of a batch, expected rows that do not depend on one another";
    let mut net = Net::default();
    let x = net.input(&[ROWS, 3]);
    let y = net.add(&x, &x.sliced(0, ROWS - 1, -1, ROWS));
    assert_eq!(refused(net, &y), expected);

    let mut net = Net::default();
    let x = net.input(&[ROWS, 3]);
    let y = net.add(&x, &x.sliced(0, 0, 1, 1));
    assert_eq!(refused(net, &y), expected);

    // Normalised over the batch.
    let mut net = Net::default();
    let x = net.input(&[ROWS, 3]);
    let mean = net.reduce(Reduction::Mean, &x.transposed(&[1, 0]), 1);
    let y = net.binary(Binary::Sub, &x, &mean.unsqueezed(0));
    assert_eq!(refused(net, &y), expected);

    // Products of rows with rows.
    let mut net = Net::default();
    let x = net.input(&[ROWS, 3]);
    let y = net.matmul(&x, &x.transposed(&[1, 0]));
    assert_eq!(refused(net, &y), expected);

    // Each answer joins the features of several rows.
    let mut net = Net::default();
    let x = net.input(&[ROWS, 8]);
    let y = net.softmax(&x.reshaped(&[2, 16]).expect("contiguous"));
    let y = y.reshaped(&[ROWS, 8]).expect("contiguous");
    assert_eq!(refused(net, &y), expected);
}

#[test]
fn rows_that_end_in_another_dimension_are_refused() {
    let mut net = Net::default();
    let x = net.input(&[ROWS, ROWS]);
    let y = net.copy(&x.transposed(&[1, 0]));
    assert_eq!(refused(net, &y), "output `y0` does not have the rows as its first dimension");
}

#[test]
fn constants_must_be_the_same_for_each_row() {
    let mut net = Net::default();
    let x = net.input(&[ROWS, 2]);
    let equal = net.constant(&[ROWS, 2], [1.0, 2.0].repeat(ROWS));
    let y = net.add(&x, &equal);
    check(&net.outputs(&[&y, &equal]), ROWS).expect("rows apart");

    let mut net = Net::default();
    let x = net.input(&[ROWS, 2]);
    let other = net.weights(&[ROWS, 2]);
    let y = net.add(&x, &other);
    assert!(refused(net, &y).contains("constants that differ"));

    let mut net = Net::default();
    net.input(&[ROWS, 2]);
    let other = net.weights(&[ROWS, 2]);
    assert!(refused(net, &other).contains("differs between rows"));
}

#[test]
fn joins_and_picks_keep_rows_apart_along_other_dimensions() {
    let mut net = Net::default();
    let x = net.input(&[ROWS, 3]);
    let zeros = net.constant(&[1], vec![0.0]);
    let zeros = zeros.broadcast(&[ROWS, 2]).expect("one number");
    let y = net.node(Op::Concat { axis: 1 }, &[&x, &zeros], DType::F32, &[ROWS, 5]);
    let indices = net.graph.add_constant("i", &[2], Data::I64(vec![0, -1])).expect("two");
    let indices = net.graph.whole(indices);
    let y = net.node(Op::Gather { axis: 1 }, &[&y, &indices], DType::F32, &[ROWS, 2]);
    let whole = net.graph.clone();
    check(&Net { graph: whole }.outputs(&[&y]), ROWS).expect("rows apart");
    let y = net.node(Op::Gather { axis: 0 }, &[&y, &indices], DType::F32, &[2, 2]);
    let mut net = Net { graph: net.graph };
    let y = net.map(Expr::Input(0), &[&y.sliced(0, 0, 0, ROWS)]);
    assert!(refused(net, &y).contains("node `node2`: mixes"));
}

#[test]
fn a_recurrent_layer_keeps_rows_apart() {
    let mut net = Net::default();
    let (steps, hidden) = (5, 3);
    let x = net.input(&[ROWS, steps, hidden]);
    let (w, zeros) = (net.weights(&[hidden, hidden]), net.constant(&[1, 1], vec![0.0]));
    let zeros = zeros.broadcast(&[ROWS, hidden]).expect("one number");
    let op = Op::Recurrent {
        cell: crate::ir::Cell::Rnn { activation: crate::ir::Activation::Tanh },
        hidden,
        reverse: false,
        clip: None,
        packing: crate::ir::Packing::None,
    };
    let y = net.node(op.clone(), &[&x.transposed(&[1, 0, 2]), &w, &zeros], DType::F32, &[steps, ROWS, hidden]);
    let graph = net.graph.clone();
    check(&Net { graph }.outputs(&[&y.transposed(&[1, 0, 2])]), ROWS).expect("rows apart");
    // Rows in the place of steps.
    let zeros = net.constant(&[steps, hidden], vec![0.0; steps * hidden]);
    let y = net.node(op, &[&x, &w, &zeros], DType::F32, &[ROWS, steps, hidden]);
    assert!(refused(net, &y).contains("mixes"));
}
