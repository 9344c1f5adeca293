//! Joining tensors.

#[cfg(test)]
mod tests;

use super::loops::Strided;
use super::{Cx, copy};
use crate::emit::Func;
use crate::error::Result;
use crate::ir::{Node, row_major};

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node, axis: usize) -> Result<()> {
    let Some(output) = node.outputs[0] else { return Ok(()) };
    let value = cx.graph.value(output);
    let (size, strides) = (value.dtype.size(), row_major(&value.shape));
    let mut before = 0;
    for input in node.inputs.iter().filter(|input| !input.is_empty()) {
        f.scope(|f| {
            let to = f.address(cx.result(output) + (before * strides[axis] as usize * size) as u32);
            let from = f.address(cx.address(input));
            let (to, from) = (Strided::new(to, &strides, size), Strided::new(from, &input.strides, size));
            copy::emit(f, &input.shape, size, &to, &from)
        })?;
        before += input.shape[axis];
    }
    Ok(())
}
