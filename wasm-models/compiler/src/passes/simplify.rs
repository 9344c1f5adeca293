//! Simplification: what is constant, copied, or never read.

use super::editor::{Editor, cost, expression, first_leaf, is_dense};
use crate::error::Result;
use crate::eval;
use crate::ir::{Binary, DType, Data, Expr, Graph, Node, Op, Operand, Packing, Scalar, Unary};

/// Most elements of a constant that is computed when compiling, unless what it is computed from is larger.
const MAX_FOLDED: usize = 1 << 16;

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let mut editor = Editor::new(graph);
    let mut work = 0;
    for index in 0..editor.len() {
        if fold(&mut editor, index, &mut work) {
            continue;
        }
        for input in 0..editor.node(index).inputs.len() {
            skip_copies(&mut editor, index, input);
        }
        move_only(&mut editor, index);
        absorb_padding(&mut editor, index);
        constants_into_expression(&mut editor, index);
        write_output_directly(&mut editor, index);
    }
    editor.finish();
    Ok(())
}

/// Computes a node whose inputs are constants; `spent` is the work for the nodes before.
fn fold(editor: &mut Editor<'_>, index: usize, spent: &mut usize) -> bool {
    let graph = &*editor.graph;
    let node = editor.node(index);
    let [Some(output)] = node.outputs[..] else { return false };
    let value = graph.value(output);
    let known: usize = node.inputs.iter().map(|input| graph.value(input.value).len()).sum();
    let is_large = value.len().max(node.inputs.iter().map(Operand::len).max().unwrap_or(0)) > known.max(MAX_FOLDED);
    if editor.is_output(output) || node.inputs.is_empty() || is_large || matches!(node.op, Op::Recurrent { .. }) {
        return false;
    }
    let inputs =
        node.inputs.iter().map(|input| Some(eval::Input { shape: input.shape.clone(), data: graph.constant(input)? }));
    let work = if node.inputs.iter().all(|input| graph.value(input.value).data.is_some()) {
        eval::work(node, value.len()).and_then(|work| work.checked_add(*spent))
    } else {
        None
    };
    let Some(work) = work.filter(|work| *work <= eval::MAX_WORK) else { return false };
    let Some(inputs) = inputs.collect::<Option<Vec<_>>>() else { return false };
    *spent = work;
    let as_output = eval::Output { dtype: value.dtype, shape: value.shape.clone() };
    let Ok(results) = eval::node(node, &inputs, &[as_output]) else { return false };
    let Some(data) = results.into_iter().next().filter(|data| data.len() == value.len() && data.dtype() == value.dtype)
    else {
        return false;
    };
    editor.graph.values[output.0].data = Some(std::sync::Arc::new(data));
    editor.remove(index);
    true
}

/// Lets an operand read what a copy reads.
fn skip_copies(editor: &mut Editor<'_>, index: usize, input: usize) {
    let operand = &editor.node(index).inputs[input];
    let Some(writer) = editor.writer(operand.value) else { return };
    let copy = editor.node(writer);
    if copy.op != Op::Map(Expr::Input(0)) {
        return;
    }
    let Some(view) = operand.composed(&copy.inputs[0]) else { return };
    if accepts(editor, index, input, &view) {
        editor.redirect(index, input, view);
    }
}

/// Whether a node reads a view as well as the operand that it has.
pub(super) fn accepts(editor: &Editor<'_>, index: usize, input: usize, view: &Operand) -> bool {
    let node = editor.node(index);
    let operand = &node.inputs[input];
    if is_dense(view) || !is_dense(operand) {
        return true;
    }
    // Elements that are read once may as well be read where they are.
    let once = editor.reads(operand.value) == 1 && operand.len() <= editor.graph.value(operand.value).len();
    once && !matches!(node.op, Op::Conv { .. } | Op::Recurrent { .. })
}

/// Joins of one, padding with nothing, and picks at constant places are copies of views.
fn move_only(editor: &mut Editor<'_>, index: usize) {
    let node = editor.node(index);
    let view = match &node.op {
        Op::Concat { axis } => {
            let kept: Vec<Operand> = node.inputs.iter().filter(|input| !input.is_empty()).cloned().collect();
            if kept.len() != 1 {
                if !kept.is_empty() && kept.len() < node.inputs.len() {
                    let op = Op::Concat { axis: *axis };
                    editor.replace(index, op, kept);
                }
                return;
            }
            kept[0].clone()
        }
        Op::Pad { .. } => {
            let input = &node.inputs[0];
            let is_equal = node.outputs[0].is_some_and(|id| editor.graph.value(id).shape == input.shape);
            if !is_equal {
                return;
            }
            input.clone()
        }
        Op::Gather { axis } => match picked(editor.graph, node, *axis) {
            Some(view) => view,
            None => return,
        },
        _ => return,
    };
    editor.replace(index, Op::Map(Expr::Input(0)), vec![view]);
}

/// The view that a Gather at constant, evenly spaced places reads.
fn picked(graph: &Graph, node: &Node, axis: usize) -> Option<Operand> {
    let (data, indices) = (&node.inputs[0], &node.inputs[1]);
    let Data::I64(places) = graph.constant(indices)? else { return None };
    let size = i64::try_from(data.shape[axis]).ok()?;
    let places = places.iter().map(|&place| if place < 0 { place.checked_add(size) } else { Some(place) });
    let places: Vec<i64> = places.collect::<Option<_>>()?;
    let start = *places.first()?;
    let step = places.get(1).map_or(1, |second| second - start);
    let is_even = places.iter().enumerate().all(|(i, place)| *place == start + step * i as i64);
    if !is_even || places.iter().any(|place| !(0..size).contains(place)) {
        return None;
    }
    let view = data.sliced(axis, start as usize, step as isize, places.len());
    view.reshaped_axis(axis, &indices.shape)
}

/// A convolution takes the zeros that were put around its input as its own.
fn absorb_padding(editor: &mut Editor<'_>, index: usize) {
    let node = editor.node(index);
    let Op::Conv { before, .. } = node.op else { return };
    let input = &node.inputs[0];
    let Some(writer) = editor.writer(input.value) else { return };
    let Op::Pad { before: padding, fill } = &editor.node(writer).op else { return };
    let padded = editor.graph.value(input.value);
    let inner = &editor.node(writer).inputs[0];
    // The input is the whole padded value, its dimensions in some order.
    let strides = crate::ir::row_major(&padded.shape);
    let axis_of = |axis: usize| {
        let matches = |own: &usize| padded.shape[*own] == input.shape[axis] && strides[*own] == input.strides[axis];
        (0..padded.shape.len()).find(|own| padded.shape[*own] > 1 && matches(own))
    };
    if !matches!(fill, Scalar::F32(fill) if *fill == 0.0) || input.offset != 0 || input.len() != padded.len() {
        return;
    }
    let mut view =
        Operand { value: inner.value, offset: inner.offset, shape: input.shape.clone(), strides: vec![0; 3] };
    let mut seen = Vec::new();
    let mut zeros = 0;
    for axis in 0..3 {
        if input.shape[axis] == 1 {
            continue;
        }
        let Some(own) = axis_of(axis).filter(|own| !seen.contains(own)) else { return };
        seen.push(own);
        view.shape[axis] = inner.shape[own];
        view.strides[axis] = inner.strides[own];
        if axis == 1 {
            zeros = padding[own];
        } else if inner.shape[own] != padded.shape[own] {
            return;
        }
    }
    // Padded dimensions of size 1 were empty before.
    if view.is_empty() || view.len() != inner.len() || (!is_dense(&view) && is_dense(input)) {
        return;
    }
    let (mut op, mut inputs) = (node.op.clone(), node.inputs.clone());
    let Some(total) = before.checked_add(zeros) else { return };
    if let Op::Conv { before, .. } = &mut op {
        *before = total;
    }
    inputs[0] = view;
    editor.replace(index, op, inputs);
}

/// Operands that are one number become part of the expression, and the expression is simplified.
fn constants_into_expression(editor: &mut Editor<'_>, index: usize) {
    let node = editor.node(index);
    let (mut op, inputs) = (node.op.clone(), node.inputs.clone());
    let first = first_leaf(&op);
    let Some(expr) = expression(&mut op) else { return };
    let graph = &*editor.graph;
    let numbers: Vec<Option<Scalar>> =
        inputs.iter().enumerate().map(|(at, input)| if at < first { None } else { number(graph, input) }).collect();
    let types: Vec<DType> = inputs.iter().map(|input| graph.dtype(input)).collect();
    let filled = expr.map_leaves(&mut |leaf| match leaf {
        Expr::Input(at) => numbers[*at].map_or_else(|| leaf.clone(), Expr::Const),
        other => other.clone(),
    });
    let result = types.first().copied().unwrap_or(DType::F32);
    let simple = simpler(&filled, &types, result);
    if simple != *expr {
        *expr = simple;
        editor.replace(index, op, inputs);
    } else {
        editor.tidy(index);
    }
}

/// The number that every element of a constant operand is.
fn number(graph: &Graph, operand: &Operand) -> Option<Scalar> {
    let data = graph.value(operand.value).data.as_ref()?;
    if operand.is_empty() {
        return None;
    }
    let moves = operand.shape.iter().zip(&operand.strides).any(|(size, stride)| *size > 1 && *stride != 0);
    let first = data.pick(std::iter::once(operand.offset));
    if moves {
        let bytes = first.to_bytes();
        let is_equal = |at: usize| data.pick(std::iter::once(at)).to_bytes() == bytes;
        if !operand.positions().all(is_equal) {
            return None;
        }
    }
    scalar(&first)
}

fn scalar(data: &Data) -> Option<Scalar> {
    Some(match data {
        Data::F32(x) => Scalar::F32(*x.first()?),
        Data::F64(x) => Scalar::F64(*x.first()?),
        Data::I32(x) => Scalar::I32(*x.first()?),
        Data::I64(x) => Scalar::I64(*x.first()?),
        Data::Bool(x) => Scalar::Bool(*x.first()?),
        Data::I8(_) => return None,
    })
}

/// An expression with the same value (but for rounding where constants are joined).
pub(super) fn simpler(expr: &Expr, types: &[DType], result: DType) -> Expr {
    let again = |x: &Expr| simpler(x, types, result);
    let expr = match expr {
        Expr::Input(_) | Expr::Result | Expr::Const(_) => return expr.clone(),
        Expr::Unary(op, x) => Expr::unary(*op, again(x)),
        Expr::Binary(op, a, b) => Expr::binary(*op, again(a), again(b)),
        Expr::Select(c, a, b) => Expr::select(again(c), again(a), again(b)),
        Expr::Cast(dtype, x) => Expr::Cast(*dtype, Box::new(again(x))),
    };
    if let Some(number) = folded(&expr, types, result) {
        return Expr::Const(number);
    }
    match &expr {
        Expr::Cast(dtype, x) if x.dtype(types, result) == *dtype => (**x).clone(),
        Expr::Select(c, a, b) => match **c {
            Expr::Const(Scalar::Bool(true)) => (**a).clone(),
            Expr::Const(Scalar::Bool(false)) => (**b).clone(),
            _ => expr,
        },
        Expr::Binary(op, a, b) => binary(*op, a, b).unwrap_or(expr),
        _ => expr,
    }
}

fn binary(op: Binary, a: &Expr, b: &Expr) -> Option<Expr> {
    // Constants of what commutes stand second.
    if let (Expr::Const(_), Binary::Add | Binary::Mul) = (a, op) {
        return Some(binary(op, b, a).unwrap_or_else(|| Expr::binary(op, b.clone(), a.clone())));
    }
    let Expr::Const(number) = b else { return None };
    let (value, is_float) = match *number {
        Scalar::F32(x) => (f64::from(x), true),
        Scalar::F64(x) => (x, true),
        Scalar::I32(x) => (f64::from(x), false),
        Scalar::I64(x) if x.unsigned_abs() < 1 << 50 => (x as f64, false),
        _ => return None,
    };
    let is_positive_zero = value == 0.0 && value.is_sign_positive();
    match op {
        // Minus zero plus zero is zero: adding it is no copy.
        Binary::Add if value == 0.0 && (!is_float || !is_positive_zero) => Some(a.clone()),
        Binary::Sub if is_positive_zero => Some(a.clone()),
        Binary::Mul | Binary::Div | Binary::Pow if value == 1.0 => Some(a.clone()),
        Binary::Pow if is_float && value == 0.5 => Some(Expr::unary(Unary::Sqrt, a.clone())),
        Binary::Pow if is_float && value == 2.0 && cost(a).0 == 0 => {
            Some(Expr::binary(Binary::Mul, a.clone(), a.clone()))
        }
        // Powers of two have exact inverses.
        Binary::Div if is_float && value.abs() >= 1e-9 && value.abs() <= 1e9 && value.to_bits() << 12 == 0 => {
            Some(Expr::binary(Binary::Mul, a.clone(), Expr::Const(Scalar::of(number.dtype(), 1.0 / value))))
        }
        Binary::Mul if is_float => {
            let Expr::Binary(Binary::Mul, x, inner) = a else { return None };
            let product = match (&**inner, number) {
                (Expr::Const(Scalar::F32(x)), Scalar::F32(y)) => Scalar::F32(x * y),
                (Expr::Const(Scalar::F64(x)), Scalar::F64(y)) => Scalar::F64(x * y),
                _ => return None,
            };
            // One factor for two must not overflow where they do not, nor lose digits.
            let is_normal = match product {
                Scalar::F32(x) => x.is_normal(),
                Scalar::F64(x) => x.is_normal(),
                _ => false,
            };
            is_normal.then(|| Expr::binary(Binary::Mul, (**x).clone(), Expr::Const(product)))
        }
        _ => None,
    }
}

/// The number that an expression of constants is.
fn folded(expr: &Expr, types: &[DType], result: DType) -> Option<Scalar> {
    let is_constant = |x: &Expr| matches!(x, Expr::Const(_));
    let all = match expr {
        Expr::Unary(_, x) | Expr::Cast(_, x) => is_constant(x),
        Expr::Binary(_, a, b) => is_constant(a) && is_constant(b),
        Expr::Select(c, a, b) => is_constant(c) && is_constant(a) && is_constant(b),
        _ => false,
    };
    let dtype = expr.dtype(types, result);
    if !all || dtype == DType::I8 {
        return None;
    }
    let node = Node { name: String::new(), op: Op::Map(expr.clone()), inputs: vec![], outputs: vec![] };
    let data = eval::node(&node, &[], &[eval::Output { dtype, shape: vec![] }]).ok()?.into_iter().next()?;
    scalar(&data).filter(|number| number.dtype() == dtype)
}

/// A copy of a whole value that is an output: who wrote the value writes the output.
fn write_output_directly(editor: &mut Editor<'_>, index: usize) {
    let node = editor.node(index);
    let ([Some(output)], [input], Op::Map(Expr::Input(0))) = (&node.outputs[..], &node.inputs[..], &node.op) else {
        return;
    };
    let (output, input) = (*output, input.clone());
    let (old, new) = (editor.graph.value(input.value), editor.graph.value(output));
    let is_whole = input.offset == 0 && input.len() == old.len() && input.is_contiguous() && old.shape == new.shape;
    let Some(writer) = editor.writer(input.value).filter(|_| is_whole && !editor.is_output(input.value)) else {
        return;
    };
    if editor.node(writer).outputs.len() != 1 {
        return;
    }
    editor.remove(index);
    editor.take_output(writer, output);
    for reader in writer + 1..editor.len() {
        for at in 0..editor.node(reader).inputs.len() {
            if editor.node(reader).inputs[at].value == input.value {
                let view = Operand { value: output, ..editor.node(reader).inputs[at].clone() };
                editor.redirect(reader, at, view);
            }
        }
    }
}

/// Whether the second input of a product is a constant as it was in the graph, and only this product reads it.
pub(super) fn own_weights(editor: &Editor<'_>, node: &Node) -> bool {
    let packing = match &node.op {
        Op::MatMul { packing, .. } | Op::Conv { packing, .. } => *packing,
        _ => return false,
    };
    let value = editor.graph.value(node.inputs[1].value);
    packing == Packing::None && value.dtype == DType::F32 && value.data.is_some()
}

#[cfg(test)]
mod tests;
