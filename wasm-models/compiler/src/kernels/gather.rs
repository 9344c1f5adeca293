//! Picking by indices.

#[cfg(test)]
mod tests;

use super::loops::{Strided, merge, nest};
use super::{Cx, copy};
use crate::emit::{At, Func, I32, I64, Local as _};
use crate::error::{CompileError, Result};
use crate::ir::{DType, Data, Node, row_major};
use crate::module::STATUS;

/// What `run` answers where an index is out of range.
const OUT_OF_RANGE: i32 = 2;

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node, axis: usize) -> Result<()> {
    let ([data, indices], Some(output)) = (&node.inputs[..], node.outputs[0]) else { return Ok(()) };
    let value = cx.graph.value(output);
    if value.is_empty() {
        return Ok(());
    }
    let index_type = cx.dtype(indices);
    if !matches!(index_type, DType::I64 | DType::I32) {
        let name = index_type.name();
        return Err(CompileError::node(&node.name, format!("indices are {name}, expected int64 or int32")));
    }
    let (size, entries) = (cx.dtype(data).size(), data.shape[axis]);
    let known: Option<Vec<i64>> = cx.graph.constant(indices).map(|indices| match indices {
        Data::I32(indices) => indices.into_iter().map(i64::from).collect(),
        Data::I64(indices) => indices,
        _ => Vec::new(),
    });
    let range = -(entries as i64)..entries as i64;
    if let Some(index) = known.iter().flatten().find(|index| !range.contains(index)) {
        return Err(CompileError::node(&node.name, format!("index {index} is out of range for {entries} entries")));
    }
    let check = match &known {
        Some(known) if known.iter().all(|index| *index >= 0) => Check::Nothing,
        Some(_) => Check::Sign,
        None => Check::Range,
    };
    if entries == 0 {
        f.sink().i32_const(OUT_OF_RANGE).global_set(STATUS);
        return Ok(());
    }
    // Dimensions before `axis`, of the indices, behind `axis`.
    let loops = axis + indices.rank();
    let zeros = |count: usize| vec![0isize; count];
    let strides = row_major(&value.shape);
    let (outer_strides, inner_strides) = strides.split_at(loops);
    let from = [&data.strides[..axis], &zeros(indices.rank())[..]].concat();
    let which = [&zeros(axis)[..], &indices.strides[..]].concat();
    let pointers = [cx.result(output), cx.address(data), cx.address(indices)].map(|address| f.address(address));
    let mut operands = [
        Strided::new(pointers[0], outer_strides, size),
        Strided::new(pointers[1], &from, size),
        Strided::new(pointers[2], &which, index_type.size()),
    ];
    let shape = merge(&value.shape[..loops], &mut operands);
    let step = data.strides[axis] * size as isize;
    nest(f, &shape, &operands, &mut |f, pointers| {
        let index = load_index(f, At::from(pointers[2], 0), index_type, entries, check);
        let from = f.indexed(pointers[1], index, step as i32);
        let to = Strided::new(pointers[0], inner_strides, size);
        let from = Strided::new(from, &data.strides[axis + 1..], size);
        copy::emit(f, &value.shape[loops..], size, &to, &from)
    })
}

/// What an index is checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    /// It may be negative.
    Sign,
    /// It may be anything.
    Range,
}

/// An index from 0 to `entries - 1`.
fn load_index(f: &mut Func, at: At, dtype: DType, entries: usize, check: Check) -> I32 {
    let index: I64 = if dtype == DType::I32 {
        let index = f.load_i32(at);
        f.op1(index, |s| {
            s.i64_extend_i32_s();
        })
    } else {
        f.load_i64(at)
    };
    let entries = entries as i64;
    if check != Check::Nothing {
        // From the end where it is negative.
        f.get(index);
        f.sink().i64_const(entries).i64_const(0);
        f.get(index);
        f.sink().i64_const(0).i64_lt_s().select().i64_add().local_set(index.index());
    }
    if check == Check::Range {
        f.get(index);
        f.sink().i64_const(entries).i64_ge_u();
        let outside: I32 = f.take();
        f.when(outside, |f| {
            f.sink().i32_const(OUT_OF_RANGE).global_set(STATUS);
            f.sink().i64_const(0).local_set(index.index());
        });
    }
    f.op1(index, |s| {
        s.i32_wrap_i64();
    })
}
