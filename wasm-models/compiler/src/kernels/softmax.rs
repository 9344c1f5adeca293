//! Softmax along the last dimension.

#[cfg(test)]
mod tests;

use super::loops::{Strided, merge, nest};
use super::rows::{Row, across, combined, filled};
use super::{Cx, math};
use crate::emit::{F32x4, Func};
use crate::error::{CompileError, Result};
use crate::ir::{DType, Node, row_major};

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node, log: bool) -> Result<()> {
    let ([input], Some(output)) = (&node.inputs[..], node.outputs[0]) else { return Ok(()) };
    if cx.dtype(input) != DType::F32 {
        let dtype = cx.dtype(input).name();
        return Err(CompileError::node(&node.name, format!("a softmax of {dtype} is not lowered, expected float32")));
    }
    let Some(last) = input.rank().checked_sub(1) else {
        return Err(CompileError::node(&node.name, "a softmax of a scalar, expected at least one dimension"));
    };
    if input.is_empty() {
        return Ok(());
    }
    let (to, from) = (f.address(cx.result(output)), f.address(cx.address(input)));
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
        let target = Row { pointer: pointers[0], stride: 4, slack: true, ..row };
        softmax(f, row, target, log)
    })
}

/// The row behind the target is written later, so that whole vectors can be stored.
fn softmax(f: &mut Func, row: Row, target: Row, log: bool) -> Result<()> {
    let bottom = f.splat(f32::NEG_INFINITY);
    let all: Vec<F32x4> = (0..(row.count / 4).clamp(1, 4)).map(|_| f.copy(bottom)).collect();
    row.pieces(f, all.len(), &[], &mut |f, piece| {
        let values = filled(f, piece.values, piece.count, bottom);
        let larger = f.pmax(all[piece.number], values);
        f.set(all[piece.number], larger);
    })?;
    let max = combined(f, &all, Func::pmax);
    let max = across(f, max, Func::pmax);
    let zero = f.splat(0.0);
    let sums: Vec<F32x4> = (0..(row.count / 4).clamp(1, 2)).map(|_| f.copy(zero)).collect();
    row.pieces(f, sums.len(), &[target.pointer], &mut |f, piece| {
        let distance = f.sub(piece.values, max);
        let power = math::exp_or_zero(f, distance);
        if !log {
            f.store_f32x4(piece.at(0), power);
        }
        let power = filled(f, power, piece.count, zero);
        let sum = f.add(sums[piece.number], power);
        f.set(sums[piece.number], sum);
    })?;
    let sum = combined(f, &sums, Func::add);
    let sum = across(f, sum, Func::add);
    if log {
        let sum = math::log(f, sum);
        return row.pieces(f, 4, &[target.pointer], &mut |f, piece| {
            let distance = f.sub(piece.values, max);
            let result = f.sub(distance, sum);
            f.store_f32x4(piece.at(0), result);
        });
    }
    let one = f.splat(1.0);
    let scale = f.div(one, sum);
    target.pieces(f, 4, &[target.pointer], &mut |f, piece| {
        let result = f.mul(piece.values, scale);
        f.store_f32x4(piece.at(0), result);
    })
}
