//! Maps become part of the Maps, products and convolutions next to them.

use super::super::editor::{Editor, cost, expression, is_dense, uses};
use crate::ir::{DType, Expr, Op, Operand, Packing, Scalar};

/// Most operands of an expression: each is a pointer that a kernel moves.
const MAX_OPERANDS: usize = 8;
/// Most functions in an expression.
const MAX_FUNCTIONS: usize = 64;

/// A Map that alone reads what another Map writes computes it itself.
pub(super) fn into_maps(editor: &mut Editor<'_>) {
    for index in 0..editor.len() {
        let mut input = 0;
        while input < editor.node(index).inputs.len() {
            if into_map(editor, index, input) {
                input = 0;
            } else {
                input += 1;
            }
        }
    }
}

fn into_map(editor: &mut Editor<'_>, index: usize, input: usize) -> bool {
    let node = editor.node(index);
    let Op::Map(outer) = &node.op else { return false };
    let operand = &node.inputs[input];
    let Some(writer) = editor.own_writer(operand) else { return false };
    let Op::Map(inner) = &editor.node(writer).op else { return false };
    let read = &editor.node(writer).inputs;
    let (functions, is_cheap) = cost(inner);
    let times = uses(outer, &Expr::Input(input));
    let recomputes =
        operand.len() > editor.graph.value(operand.value).len() || (times > 1 && !(is_cheap && functions <= 2));
    let is_large =
        node.inputs.len() + read.len() - 1 > MAX_OPERANDS || cost(outer).0 + times * functions > MAX_FUNCTIONS;
    if recomputes || is_large {
        return false;
    }
    let Some(views) = read.iter().map(|view| operand.composed(view)).collect::<Option<Vec<_>>>() else { return false };
    // Reading several operands in strides costs more than a copy.
    let strided = views.iter().filter(|view| !is_dense(view)).count();
    let was_strided = read.iter().filter(|view| !is_dense(view)).count();
    if is_dense(operand) && strided > was_strided || !is_dense(operand) && strided > 1 {
        return false;
    }
    let mut inputs = node.inputs.clone();
    let shift = inputs.len();
    inputs.extend(views);
    let moved = inner.map_leaves(&mut |leaf| match leaf {
        Expr::Input(at) => Expr::Input(at + shift),
        other => other.clone(),
    });
    let expr = outer.map_leaves(&mut |leaf| if *leaf == Expr::Input(input) { moved.clone() } else { leaf.clone() });
    editor.replace(index, Op::Map(expr), inputs);
    editor.remove(writer);
    true
}

/// A Map that alone reads a product or convolution, element for element, becomes its epilogue.
pub(super) fn into_epilogues(editor: &mut Editor<'_>) {
    for index in 0..editor.len() {
        let node = editor.node(index);
        if !matches!(node.op, Op::Map(_)) {
            continue;
        }
        let mut order: Vec<usize> = (0..node.inputs.len()).collect();
        // The latest first: what it reads need not stay longer.
        order.sort_by_key(|&input| std::cmp::Reverse(editor.writer(node.inputs[input].value)));
        let _ = order.into_iter().any(|input| into_epilogue(editor, index, input));
    }
}

fn into_epilogue(editor: &mut Editor<'_>, index: usize, input: usize) -> bool {
    let node = editor.node(index);
    let (Op::Map(outer), [Some(output)]) = (&node.op, &node.outputs[..]) else { return false };
    let (operand, output) = (&node.inputs[input], *output);
    let Some(writer) = editor.own_writer(operand) else { return false };
    let product = editor.node(writer);
    let packing = match &product.op {
        Op::MatMul { packing, .. } | Op::Conv { packing, .. } => *packing,
        _ => return false,
    };
    let mut op = product.op.clone();
    let Some(epilogue) = expression(&mut op) else { return false };
    let value = editor.graph.value(operand.value);
    let result = editor.graph.value(output);
    let is_whole = operand.offset == 0 && operand.len() == value.len() && operand.is_contiguous();
    let (functions, is_cheap) = cost(epilogue);
    let times = uses(outer, &Expr::Input(input));
    if !is_whole
        || packing != Packing::None
        || value.dtype != DType::F32
        || result.dtype != DType::F32
        || !is_of_floats(outer, node.inputs.iter().map(|input| editor.graph.dtype(input)))
        || (times > 1 && !(is_cheap && functions <= 2))
        || product.inputs.len() - 2 + node.inputs.len() - 1 > MAX_OPERANDS
        || cost(outer).0 + times * functions > MAX_FUNCTIONS
        || (value.shape != result.shape && editor.is_output(output))
    {
        return false;
    }
    // The result has the product's shape: its readers see the same elements in the same order.
    let shape = value.shape.clone();
    let others = node.inputs.iter().enumerate().map(|(at, other)| {
        if at == input { Some(Operand::whole(operand.value, &shape)) } else { other.reshaped(&shape) }
    });
    let Some(others) = others.collect::<Option<Vec<_>>>() else { return false };
    let mut inputs = product.inputs.clone();
    let shift = inputs.len();
    let own = epilogue.clone();
    *epilogue = outer.map_leaves(&mut |leaf| match leaf {
        Expr::Input(at) if *at == input => own.clone(),
        Expr::Input(at) => Expr::Input(at + shift),
        other => other.clone(),
    });
    inputs.extend(others);
    // `tidy` drops the product itself, which the epilogue does not read as an input.
    editor.replace(index, op, inputs);
    editor.remove(writer);
    editor.graph.values[output.0].shape = shape;
    true
}

/// Whether an expression reads floats alone, and computes with floats and conditions, as epilogues do.
fn is_of_floats(expr: &Expr, mut inputs: impl Iterator<Item = DType>) -> bool {
    fn parts(expr: &Expr) -> bool {
        match expr {
            Expr::Input(_) | Expr::Result => true,
            Expr::Const(number) => matches!(number, Scalar::F32(_) | Scalar::Bool(_)),
            Expr::Unary(_, x) => parts(x),
            Expr::Binary(_, a, b) => parts(a) && parts(b),
            Expr::Select(c, a, b) => parts(c) && parts(a) && parts(b),
            Expr::Cast(dtype, x) => matches!(dtype, DType::F32 | DType::Bool) && parts(x),
        }
    }
    inputs.all(|dtype| dtype == DType::F32) && parts(expr)
}
