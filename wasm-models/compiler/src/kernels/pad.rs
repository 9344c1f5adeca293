//! A tensor inside a larger one.

#[cfg(test)]
mod tests;

use super::loops::{Strided, pieces};
use super::{Cx, copy, scalar};
use crate::emit::{At, Func};
use crate::error::Result;
use crate::ir::{Node, Scalar, row_major};

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node, before: &[usize], fill: Scalar) -> Result<()> {
    let ([input], Some(output)) = (&node.inputs[..], node.outputs[0]) else { return Ok(()) };
    let value = cx.graph.value(output);
    if value.is_empty() {
        return Ok(());
    }
    let (size, strides) = (value.dtype.size(), row_major(&value.shape));
    f.scope(|f| fill_all(f, cx.result(output), value.len(), size, fill))?;
    if input.is_empty() {
        return Ok(());
    }
    let offset: usize = before.iter().zip(&strides).map(|(before, stride)| before * *stride as usize).sum();
    let to = f.address(cx.result(output) + (offset * size) as u32);
    let from = f.address(cx.address(input));
    copy::emit(f, &input.shape, size, &Strided::new(to, &strides, size), &Strided::new(from, &input.strides, size))
}

fn fill_all(f: &mut Func, address: u32, count: usize, size: usize, fill: Scalar) -> Result<()> {
    let to = f.address(address);
    let byte = match fill {
        Scalar::Bool(fill) => Some(i32::from(fill)),
        // The bits, so that -0 is not 0.
        Scalar::F32(fill) => (fill.to_bits() == 0).then_some(0),
        Scalar::F64(fill) => (fill.to_bits() == 0).then_some(0),
        Scalar::I32(fill) => (fill == 0).then_some(0),
        Scalar::I64(fill) => (fill == 0).then_some(0),
    };
    if let Some(byte) = byte {
        f.get(to);
        f.sink().i32_const(byte).i32_const((count * size) as i32).memory_fill(0);
        return Ok(());
    }
    let number = scalar::constant(f, fill);
    pieces(f, count, 4, &[(to, size as i32)], &mut |f, piece| {
        scalar::store(f, At::from(to, (piece * size) as u32), number);
        Ok(())
    })
}
