//! Layer normalisation along the last dimension.

#[cfg(test)]
mod tests;

use super::Cx;
use super::loops::{Strided, merge, nest, places};
use super::rows::{Row, across, combined, filled};
use crate::emit::{At, F32x4, Func, I32};
use crate::error::{CompileError, Result};
use crate::ir::{DType, Node, Operand, row_major};

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node, epsilon: f32) -> Result<()> {
    let ([input, affine @ ..], Some(output)) = (&node.inputs[..], node.outputs[0]) else { return Ok(()) };
    if let Some(other) = node.inputs.iter().find(|operand| cx.dtype(operand) != DType::F32) {
        let dtype = cx.dtype(other).name();
        return Err(CompileError::node(&node.name, format!("normalising {dtype} is not lowered, expected float32")));
    }
    let Some(last) = input.rank().checked_sub(1) else {
        return Err(CompileError::node(&node.name, "normalising a scalar, expected at least one dimension"));
    };
    if input.is_empty() {
        return Ok(());
    }
    let (to, from) = (f.address(cx.result(output)), f.address(cx.address(input)));
    let affine: Vec<Affine<'_>> = affine
        .iter()
        .map(|operand| Affine {
            pointer: f.address(cx.address(operand)),
            operand,
            slack: cx.graph.value(operand.value).data.is_none(),
        })
        .collect();
    let mut operands =
        [Strided::new(to, &row_major(&input.shape)[..last], 4), Strided::new(from, &input.strides[..last], 4)];
    let outer = merge(&input.shape[..last], &mut operands);
    nest(f, &outer, &operands, &mut |f, pointers| {
        let row = Row {
            pointer: pointers[1],
            stride: input.strides[last] * 4,
            count: input.shape[last],
            slack: cx.graph.value(input.value).data.is_none(),
        };
        normalize(f, row, pointers[0], &affine, epsilon)
    })
}

/// The scale or the bias: as long as a row.
struct Affine<'a> {
    pointer: I32,
    operand: &'a Operand,
    slack: bool,
}

/// The sum of what `term` makes of the row; it must be 0 behind its end.
fn sum(f: &mut Func, row: Row, term: &mut dyn FnMut(&mut Func, F32x4, usize) -> F32x4) -> Result<F32x4> {
    let zero = f.splat(0.0);
    let sums: Vec<F32x4> = (0..(row.count / 4).clamp(1, 4)).map(|_| f.copy(zero)).collect();
    row.pieces(f, sums.len(), &[], &mut |f, piece| {
        let term = term(f, piece.values, piece.count);
        let sum = f.add(sums[piece.number], term);
        f.set(sums[piece.number], sum);
    })?;
    let sum = combined(f, &sums, Func::add);
    Ok(across(f, sum, Func::add))
}

/// The row behind the target is written later, so that whole vectors can be stored.
fn normalize(f: &mut Func, row: Row, target: I32, affine: &[Affine<'_>], epsilon: f32) -> Result<()> {
    let (zero, count) = (f.splat(0.0), f.splat(row.count as f32));
    let total = sum(f, row, &mut |f, values, count| filled(f, values, count, zero))?;
    let mean = f.div(total, count);
    let total = sum(f, row, &mut |f, values, count| {
        let distance = f.sub(values, mean);
        let distance = filled(f, distance, count, zero);
        f.mul(distance, distance)
    })?;
    let variance = f.div(total, count);
    let epsilon = f.splat(epsilon);
    let variance = f.add(variance, epsilon);
    let deviation = f.sqrt(variance);
    let one = f.splat(1.0);
    let factor = f.div(one, deviation);
    let others: Vec<I32> = std::iter::once(target).chain(affine.iter().map(|affine| affine.pointer)).collect();
    row.pieces(f, 2, &others, &mut |f, piece| {
        let distance = f.sub(piece.values, mean);
        let normal = f.mul(distance, factor);
        let load = |f: &mut Func, index: usize| {
            affine.get(index).map(|affine: &Affine<'_>| match affine.operand.strides[0] {
                1 if affine.slack => f.load_f32x4(piece.at(index + 1)),
                1 => f.load_lanes(piece.at(index + 1), piece.count),
                0 => f.load_splat(At::from(affine.pointer, 0)),
                stride => {
                    // As far from the first as the place of a contiguous row is, times the stride.
                    let far = f.op2(piece.pointer(index + 1), affine.pointer, |s| {
                        s.i32_sub();
                    });
                    let pointer = f.indexed(affine.pointer, far, stride as i32);
                    let places = places(f, pointer, stride * 4, 4 * piece.number, piece.count);
                    f.gather_f32x4(std::array::from_fn(|lane| places[lane.min(piece.count - 1)]))
                }
            })
        };
        let (scale, bias) = (load(f, 0), load(f, 1));
        let result = match (scale, bias) {
            (None, _) => normal,
            (Some(scale), None) => f.mul(normal, scale),
            (Some(scale), Some(bias)) => f.mul_add(normal, scale, bias),
        };
        f.store_f32x4(piece.at(0), result);
    })
}
