//! Element by element.

use super::Cx;
use crate::emit::{At, F32, Func};
use crate::error::{CompileError, Result};
use crate::ir::{Binary, DType, Expr, Node, Scalar, Unary};

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node, expr: &Expr) -> Result<()> {
    let Some(output) = node.outputs[0] else { return Ok(()) };
    if cx.graph.value(output).dtype != DType::F32 {
        return Err(CompileError::node(&node.name, "only float32 so far"));
    }
    let to = f.address(cx.result(output));
    let from: Vec<_> = node.inputs.iter().map(|input| f.address(cx.address(input))).collect();
    let shape = cx.graph.value(output).shape.clone();
    walk(
        f,
        &shape,
        0,
        &mut |f, axis| {
            let mut steps: Vec<_> = Vec::new();
            for (input, pointer) in node.inputs.iter().zip(&from) {
                let back: isize =
                    (axis + 1..shape.len()).map(|a| input.strides[a] * shape[a] as isize).sum::<isize>() * 0;
                steps.push((*pointer, (input.strides[axis] + back) as i32 * 4));
            }
            let _ = f;
            steps
        },
        &from,
        node,
        &shape,
        &mut |f| {
            let value = scalar(f, &from, expr);
            f.store_f32(At::from(to, 0), value);
            f.advance(to, 4);
        },
    );
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn walk(
    f: &mut Func,
    shape: &[usize],
    axis: usize,
    steps: &mut dyn FnMut(&mut Func, usize) -> Vec<(crate::emit::I32, i32)>,
    from: &[crate::emit::I32],
    node: &Node,
    whole: &[usize],
    body: &mut dyn FnMut(&mut Func),
) {
    if axis == whole.len() {
        return body(f);
    }
    let moves = steps(f, axis);
    f.walk(shape[axis], &moves, |f| walk(f, shape, axis + 1, steps, from, node, whole, body));
    for (input, pointer) in node.inputs.iter().zip(from) {
        f.advance(*pointer, -(input.strides[axis] as i32 * whole[axis] as i32 * 4));
    }
}

fn scalar(f: &mut Func, from: &[crate::emit::I32], expr: &Expr) -> F32 {
    match expr {
        Expr::Input(index) => f.load_f32(At::from(from[*index], 0)),
        Expr::Const(Scalar::F32(value)) => f.f32(*value),
        Expr::Unary(Unary::Relu, x) => {
            let x = scalar(f, from, x);
            let zero = f.f32(0.0);
            f.op2(x, zero, |s| {
                s.f32_max();
            })
        }
        Expr::Binary(op, a, b) => {
            let (a, b) = (scalar(f, from, a), scalar(f, from, b));
            f.op2(a, b, |s| {
                match op {
                    Binary::Add => s.f32_add(),
                    Binary::Sub => s.f32_sub(),
                    _ => s.f32_mul(),
                };
            })
        }
        _ => f.f32(0.0),
    }
}
