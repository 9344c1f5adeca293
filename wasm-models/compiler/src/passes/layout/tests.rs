use super::super::dump::text;
use super::super::testing::{Net, assert_close};
use super::super::{fuse, simplify};
use super::*;
use crate::ir::{DType, Reduction, Scalar, Unary};

fn laid_out(net: Net, outputs: &[&Operand]) -> Graph {
    let before = net.outputs(outputs);
    let mut after = before.clone();
    for pass in [simplify::run, fuse::run, run] {
        pass(&mut after).expect("the pass");
    }
    assert_close(&before, &after);
    after
}

/// As ONNX has it: `[batch, channels, length]` around a convolution that is channels last here.
fn conv(net: &mut Net, x: &Operand, channels: usize, dilation: usize) -> Operand {
    let w = net.weights(&[2, x.shape[1], channels]);
    net.causal(&x.transposed(&[0, 2, 1]), &w, dilation).transposed(&[0, 2, 1])
}

#[test]
fn residual_blocks_of_convolutions_stay_channels_last() {
    let mut net = Net::default();
    let x = net.input(&[2, 9, 8]);
    let mut y = conv(&mut net, &x.transposed(&[0, 2, 1]), 8, 1);
    for dilation in [2, 4] {
        let bias = net.weights(&[8, 1]);
        let z = conv(&mut net, &y, 8, dilation);
        let z = net.add(&z, &bias);
        let z = net.unary(Unary::Relu, &z);
        y = net.add(&z, &y);
    }
    let y = net.reduce(Reduction::Mean, &y, 1);
    let after = laid_out(net, &[&y]);
    let shown = text(&after);
    // Each block is one convolution with an epilogue.
    assert_eq!(after.nodes.len(), 4, "{shown}");
    assert_eq!(shown.matches("= relu(conv(").count() + shown.matches("= c + relu(conv(").count(), 2, "{shown}");
    assert!(
        after.nodes[..3]
            .iter()
            .all(|node| node.inputs.iter().all(|input| input.is_contiguous() || input.strides[1] == 0)),
        "{shown}"
    );
}

#[test]
fn padding_and_joins_between_convolutions_follow() {
    let mut net = Net::default();
    let x = net.input(&[1, 9, 8]);
    let y = conv(&mut net, &x.transposed(&[0, 2, 1]), 8, 1);
    let z = conv(&mut net, &y, 8, 2);
    let y = net.node(Op::Concat { axis: 1 }, &[&y, &z], DType::F32, &[1, 16, 9]);
    let y = net.node(Op::Pad { before: vec![0, 0, 2], fill: Scalar::F32(1.0) }, &[&y], DType::F32, &[1, 16, 11]);
    let y = conv(&mut net, &y, 8, 1).transposed(&[0, 2, 1]);
    let y = net.copy(&y);
    let after = laid_out(net, &[&y]);
    let shown = text(&after);
    assert!(shown.contains("concat(axis 2)") && shown.contains("before [0, 2, 0]"), "{shown}");
    assert!(after.nodes.iter().all(|node| node.inputs.iter().all(is_dense)), "{shown}");
}

#[test]
fn an_input_with_channels_first_is_copied_once_for_a_convolution() {
    let mut net = Net::default();
    let x = net.input(&[1, 8, 9]);
    let y = conv(&mut net, &x, 8, 1);
    let y = net.copy(&y);
    let after = laid_out(net, &[&y]);
    let expected = "a | a = %0 as [1, 9, 8] by [72, 1, 9]";
    assert!(text(&after).contains(expected), "{}", text(&after));
    assert!(is_dense(&after.nodes[1].inputs[0]));
}
