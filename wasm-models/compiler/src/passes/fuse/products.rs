//! Matrix products: scales of their inputs, and their shapes.

use super::super::editor::{Editor, expression};
use super::super::simplify::accepts;
use crate::ir::{Binary, DType, Expr, Graph, Op, Packing, Scalar};

/// A factor of an input becomes one of the product: `(c * a) b = c * (a b)`.
pub(super) fn scales_behind_products(editor: &mut Editor<'_>) {
    for index in 0..editor.len() {
        for input in 0..2 {
            scale_behind_product(editor, index, input);
        }
    }
}

fn scale_behind_product(editor: &mut Editor<'_>, index: usize, input: usize) {
    let node = editor.node(index);
    let Op::MatMul { packing: Packing::None, .. } = node.op else { return };
    let operand = &node.inputs[input];
    let Some(writer) = editor.own_writer(operand) else { return };
    let map = editor.node(writer);
    let Op::Map(Expr::Binary(scaling @ (Binary::Mul | Binary::Div), x, factor)) = &map.op else { return };
    let (Expr::Input(x), Expr::Const(Scalar::F32(_))) = (&**x, &**factor) else { return };
    let Some(view) = operand.composed(&map.inputs[*x]) else { return };
    if !accepts(editor, index, input, &view) {
        return;
    }
    let scaled = Expr::binary(*scaling, Expr::Result, (**factor).clone());
    let (mut op, mut inputs) = (node.op.clone(), node.inputs.clone());
    let Some(epilogue) = expression(&mut op) else { return };
    *epilogue = epilogue.map_leaves(&mut |leaf| if *leaf == Expr::Result { scaled.clone() } else { leaf.clone() });
    inputs[input] = view;
    editor.replace(index, op, inputs);
    editor.remove(writer);
}

/// Several products with the same second input are one with more rows.
pub(super) fn flatten(graph: &mut Graph) {
    for index in 0..graph.nodes.len() {
        flatten_product(graph, index);
    }
}

fn flatten_product(graph: &mut Graph, index: usize) {
    let node = &graph.nodes[index];
    let (Op::MatMul { packing: Packing::None, .. }, [Some(output)]) = (&node.op, &node.outputs[..]) else { return };
    let (output, b) = (*output, &node.inputs[1]);
    let batch = b.rank() - 2;
    let is_shared = b.shape[..batch].iter().zip(&b.strides).all(|(size, stride)| *size == 1 || *stride == 0);
    let is_output = graph.outputs.iter().any(|(_, id)| *id == output);
    if batch == 0 || !is_shared || is_output || graph.value(output).dtype == DType::I8 {
        return;
    }
    let shape = &graph.value(output).shape;
    let (m, n, k) = (shape[..=batch].iter().product(), shape[batch + 1], b.shape[batch]);
    let mut one = b.clone();
    one.shape.drain(..batch);
    one.strides.drain(..batch);
    let Some(a) = node.inputs[0].reshaped(&[m, k]) else { return };
    let Some(others) = node.inputs[2..].iter().map(|input| input.reshaped(&[m, n])).collect::<Option<Vec<_>>>() else {
        return;
    };
    graph.nodes[index].inputs = [a, one].into_iter().chain(others).collect();
    graph.values[output.0].shape = vec![m, n];
}
