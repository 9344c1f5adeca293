//! Layer normalisation written as means, squares and roots, as exporters before opset 17 do.

use super::super::editor::Editor;
use crate::ir::{Binary, DType, Expr, Op, Operand, Reduction, Scalar, Unary};

/// Replaces `d / sqrt(mean(d * d) + epsilon)` with `d = x - mean(x)`, along the last dimension.
pub(super) fn find(editor: &mut Editor<'_>) {
    for index in 0..editor.len() {
        if let Some((x, epsilon)) = normalized(editor, index).filter(|(x, _)| editor.graph.dtype(x) == DType::F32) {
            editor.replace(index, Op::Normalize { epsilon }, vec![x]);
        }
    }
}

/// An expression of operands, and what they read.
struct Seen {
    expr: Expr,
    operands: Vec<Operand>,
}

/// What an operand is as an expression, through a few Maps; the operand itself where no Map writes it.
fn seen(editor: &Editor<'_>, operand: &Operand, depth: usize) -> Seen {
    let itself = || Seen { expr: Expr::Input(0), operands: vec![operand.clone()] };
    let Some(writer) = editor.writer(operand.value).map(|writer| editor.node(writer)) else { return itself() };
    let Op::Map(expr) = &writer.op else { return itself() };
    let views = writer.inputs.iter().map(|view| operand.composed(view)).collect::<Option<Vec<_>>>();
    let Some(views) = views.filter(|_| depth > 0) else { return itself() };
    let mut operands = Vec::new();
    let inner: Vec<Expr> = views
        .iter()
        .map(|view| {
            let seen = seen(editor, view, depth - 1);
            let shift = operands.len();
            operands.extend(seen.operands);
            seen.expr.map_leaves(&mut |leaf| match leaf {
                Expr::Input(at) => Expr::Input(at + shift),
                other => other.clone(),
            })
        })
        .collect();
    let expr = expr.map_leaves(&mut |leaf| match leaf {
        Expr::Input(at) => inner[*at].clone(),
        other => other.clone(),
    });
    Seen { expr, operands }
}

fn normalized(editor: &Editor<'_>, index: usize) -> Option<(Operand, f32)> {
    let node = editor.node(index);
    let Op::Map(Expr::Binary(op, a, b)) = &node.op else { return None };
    let (Expr::Input(a), Expr::Input(b)) = (&**a, &**b) else { return None };
    let (mut view, mut deviation) = (&node.inputs[*a], seen(editor, &node.inputs[*b], 3));
    let variance = match op {
        Binary::Div => root(&deviation.expr)?,
        Binary::Mul => {
            let mut inverse = reciprocal(&deviation.expr);
            if inverse.is_none() {
                (view, deviation) = (&node.inputs[*b], seen(editor, &node.inputs[*a], 3));
                inverse = reciprocal(&deviation.expr);
            }
            root(&inverse?)?
        }
        _ => return None,
    };
    let (Expr::Input(variance), epsilon) = with_epsilon(&variance)? else { return None };
    let squares = mean_of(editor, &deviation.operands[variance], view)?;
    let square = seen(editor, &squares, 1);
    let of = match &square.expr {
        Expr::Binary(Binary::Mul, a, b) => match (&**a, &**b) {
            (Expr::Input(a), Expr::Input(b)) if square.operands[*a] == square.operands[*b] => *a,
            _ => return None,
        },
        Expr::Binary(Binary::Pow, a, two) => match (&**a, &**two) {
            (Expr::Input(a), Expr::Const(Scalar::F32(2.0))) => *a,
            _ => return None,
        },
        _ => return None,
    };
    if !same_elements(&square.operands[of], view) {
        return None;
    }
    let centered = seen(editor, view, 1);
    let Expr::Binary(Binary::Sub, x, mean) = &centered.expr else { return None };
    let (Expr::Input(x), Expr::Input(mean)) = (&**x, &**mean) else { return None };
    let x = &centered.operands[*x];
    let of_mean = mean_of(editor, &centered.operands[*mean], x)?;
    (same_elements(&of_mean, x) && x.shape.last().is_some_and(|size| *size > 0)).then(|| (x.clone(), epsilon))
}

fn root(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Unary(Unary::Sqrt, x) => Some((**x).clone()),
        _ => None,
    }
}

fn reciprocal(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Unary(Unary::Reciprocal, x) => Some((**x).clone()),
        Expr::Binary(Binary::Div, one, x) if **one == Expr::f32(1.0) => Some((**x).clone()),
        _ => None,
    }
}

fn with_epsilon(variance: &Expr) -> Option<(Expr, f32)> {
    let Expr::Binary(Binary::Add, a, b) = variance else { return None };
    match (&**a, &**b) {
        (x, Expr::Const(Scalar::F32(epsilon))) | (Expr::Const(Scalar::F32(epsilon)), x) => Some((x.clone(), *epsilon)),
        _ => None,
    }
}

/// What a mean along the last dimension is taken of, if `mean` repeats it in the shape of `like`.
fn mean_of(editor: &Editor<'_>, mean: &Operand, like: &Operand) -> Option<Operand> {
    let writer = editor.node(editor.writer(mean.value)?);
    let Op::Reduce { kind: Reduction::Mean, axes } = writer.op else { return None };
    let read = &writer.inputs[0];
    let (outer, inner) = read.shape.split_at(read.rank() - axes);
    // One number for each index but the last, in order.
    let (stride, strides) = mean.strides.split_last()?;
    let (last, shape) = mean.shape.split_last()?;
    let rows = Operand { value: mean.value, offset: mean.offset, shape: shape.to_vec(), strides: strides.to_vec() };
    let matches = (*stride == 0 || *last == 1)
        && mean.shape == like.shape
        && *last == inner.iter().product::<usize>()
        && mean.offset == 0
        && rows.is_contiguous()
        && rows.len() == outer.iter().product::<usize>();
    if matches { read.reshaped(&like.shape) } else { None }
}

fn same_elements(a: &Operand, b: &Operand) -> bool {
    let moves = |view: &Operand| -> Vec<(usize, isize)> {
        let axes = view.shape.iter().copied().zip(view.strides.iter().copied());
        axes.filter(|(size, _)| *size != 1).collect()
    };
    a.value == b.value && a.offset == b.offset && a.shape == b.shape && moves(a) == moves(b)
}
