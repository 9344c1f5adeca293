//! Matrix products.

use super::Cx;
use super::product::{Extra, Layout, Product, Stream};
use super::repack::Repack;
use crate::emit::{At, F64, Func, I32, I64, Local};
use crate::error::{CompileError, Result};
use crate::ir::{DType, Expr, Graph, Node, Operand, Packing};

/// Bytes of scratch memory: weights that cannot be read in place are copied.
pub(super) fn scratch_bytes(graph: &Graph, node: &Node, packing: Packing) -> usize {
    let [_, b, ..] = &node.inputs[..] else { return 0 };
    let is_constant = graph.value(b.value).data.is_some();
    if graph.dtype(b) != DType::F32 || packing != Packing::None || reads_in_place(b, is_constant) {
        return 0;
    }
    Repack::bytes(b.shape[b.rank() - 2], b.shape[b.rank() - 1])
}

/// Whether rows of `[.., k, n]` are read as they are: columns follow one another, and no load reaches behind a constant's end.
pub(super) fn reads_in_place(b: &Operand, is_constant: bool) -> bool {
    let (k, n) = (b.rank() - 2, b.rank() - 1);
    b.strides[n] == 1 && b.strides[k] >= 0 && (!is_constant || b.shape[n].is_multiple_of(4))
}

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node, epilogue: &Expr, packing: Packing) -> Result<()> {
    let [a, b, extras @ ..] = &node.inputs[..] else {
        return Err(CompileError::node(&node.name, "a matrix product without two inputs, expected two"));
    };
    let Some(output) = node.outputs[0] else { return Ok(()) };
    let shape = &cx.graph.value(output).shape;
    let rank = a.rank();
    if rank < 2 || b.rank() != rank || shape.len() != rank {
        let reason = format!("shapes {:?} and {:?} are not lowered, expected equal ranks from 2 on", a.shape, b.shape);
        return Err(CompileError::node(&node.name, reason));
    }
    let dtype = cx.dtype(a);
    if dtype != DType::F32 {
        return plain(f, cx, node, epilogue, dtype);
    }
    let (m, n) = (rank - 2, rank - 1);
    let k = a.shape[n];
    let is_i8 = cx.dtype(b) == DType::I8;
    let is_constant = cx.graph.value(b.value).data.is_some();
    let (layout, repack) = match packing {
        Packing::Panels { width } => (Layout::panels(k, width, is_i8), None),
        Packing::None if is_i8 => {
            return Err(CompileError::node(&node.name, "8-bit weights that are not packed, expected panels"));
        }
        Packing::None if reads_in_place(b, is_constant) => (Layout::rows(bytes(b.strides[m])), None),
        Packing::None => {
            let repack =
                Repack { to: cx.scratch(), depth: vec![(k, bytes(b.strides[m]))], column: bytes(b.strides[n]) };
            (Layout::panels(k, 4, false), Some(repack))
        }
    };
    // The weights do not move with the row; where packed, they are the same for the whole batch.
    let weights = match packing {
        Packing::None => {
            let steps = b.strides[..m].iter().map(|stride| bytes(*stride)).chain([0]).collect();
            Stream { at: cx.address(b), steps }
        }
        Packing::Panels { .. } => Stream { at: cx.address(b), steps: vec![0; rank - 1] },
    };
    let out_strides = crate::ir::row_major(shape);
    Product {
        axes: shape[..n].to_vec(),
        n: shape[n],
        depth: vec![(k, bytes(a.strides[n]))],
        a: stream(cx, a),
        by_column: false,
        weights,
        layout,
        repack,
        out: Stream { at: cx.result(output), steps: out_strides[..n].iter().map(|stride| bytes(*stride)).collect() },
        epilogue,
        extras: extras.iter().map(|extra| extra_input(cx, node, extra)).collect::<Result<_>>()?,
        first_extra: 2,
    }
    .emit(f)
}

/// Bytes of a stride of floats.
pub(super) fn bytes(stride: isize) -> i32 {
    (stride as i32).wrapping_mul(4)
}

/// An operand's place and its steps along all axes but the last.
pub(super) fn stream(cx: &Cx<'_>, operand: &Operand) -> Stream {
    let axes = operand.rank() - 1;
    Stream { at: cx.address(operand), steps: operand.strides[..axes].iter().map(|stride| bytes(*stride)).collect() }
}

/// An input of the epilogue.
pub(super) fn extra_input(cx: &Cx<'_>, node: &Node, operand: &Operand) -> Result<Extra> {
    if cx.dtype(operand) != DType::F32 {
        let reason = format!("an epilogue with an input of type {}, expected float32", cx.dtype(operand).name());
        return Err(CompileError::node(&node.name, reason));
    }
    Ok(Extra {
        stream: stream(cx, operand),
        column: bytes(operand.strides[operand.rank() - 1]),
        is_constant: cx.graph.value(operand.value).data.is_some(),
    })
}

/// Types other than float32: one number after another.
fn plain(f: &mut Func, cx: &Cx<'_>, node: &Node, epilogue: &Expr, dtype: DType) -> Result<()> {
    if *epilogue != Expr::Result {
        let reason = format!("an epilogue of a product of type {}, expected float32", dtype.name());
        return Err(CompileError::node(&node.name, reason));
    }
    match dtype {
        DType::F64 => plain_loops::<F64>(f, cx, node, 8),
        DType::I64 => plain_loops::<I64>(f, cx, node, 8),
        DType::I32 => plain_loops::<I32>(f, cx, node, 4),
        _ => {
            let reason = format!("a product of type {}, expected a float, int32 or int64", dtype.name());
            return Err(CompileError::node(&node.name, reason));
        }
    }
    Ok(())
}

trait Number: Local {
    fn zero(f: &mut Func) -> Self;
    fn add_product(f: &mut Func, sum: Self, a: At, b: At);
    fn store(f: &mut Func, at: At, value: Self);
}

macro_rules! numbers {
    ($($name:ty: $zero:ident $load:ident $mul:ident $add:ident $store:ident $align:expr;)*) => {$(
        impl Number for $name {
            fn zero(f: &mut Func) -> Self {
                f.$zero(Default::default())
            }
            fn add_product(f: &mut Func, sum: Self, a: At, b: At) {
                for at in [a, b] {
                    let place = f.place(at, $align);
                    f.sink().$load(place);
                }
                f.sink().$mul();
                f.get(sum);
                f.sink().$add().local_set(sum.index());
            }
            fn store(f: &mut Func, at: At, value: Self) {
                let place = f.place(at, $align);
                f.get(value);
                f.sink().$store(place);
            }
        }
    )*};
}

numbers! {
    F64: f64 f64_load f64_mul f64_add f64_store 3;
    I64: i64 i64_load i64_mul i64_add i64_store 3;
    I32: i32 i32_load i32_mul i32_add i32_store 2;
}

fn plain_loops<T: Number>(f: &mut Func, cx: &Cx<'_>, node: &Node, size: isize) {
    let (a, b) = (&node.inputs[0], &node.inputs[1]);
    let Some(output) = node.outputs[0] else { return };
    let (m, n) = (a.rank() - 2, a.rank() - 1);
    // Steps of both inputs along the axes of the output; the columns move only the second, the rows only the first.
    let steps = |operand: &Operand, fixed: usize| -> Vec<i32> {
        (0..=n).map(|axis| if axis == fixed { 0 } else { (operand.strides[axis] * size) as i32 }).collect()
    };
    let (a_steps, b_steps) = (steps(a, n), steps(b, m));
    let pointers = [f.address(cx.address(a)), f.address(cx.address(b)), f.address(cx.result(output))];
    let depth = (a.shape[n], (a.strides[n] * size) as i32, (b.strides[m] * size) as i32);
    let shape = &cx.graph.value(output).shape;
    plain_axis::<T>(f, shape, &a_steps, &b_steps, depth, size as i32, pointers);
}

fn plain_axis<T: Number>(
    f: &mut Func,
    shape: &[usize],
    a_steps: &[i32],
    b_steps: &[i32],
    depth: (usize, i32, i32),
    size: i32,
    pointers: [I32; 3],
) {
    let [a, b, to] = pointers;
    let Some((&count, inner)) = shape.split_first() else {
        let sum = T::zero(f);
        let (x, y) = (f.copy(a), f.copy(b));
        f.walk(depth.0, &[(x, depth.1), (y, depth.2)], |f| T::add_product(f, sum, At::from(x, 0), At::from(y, 0)));
        T::store(f, At::from(to, 0), sum);
        return f.advance(to, size);
    };
    f.walk(count, &[(a, a_steps[0]), (b, b_steps[0])], |f| {
        plain_axis::<T>(f, inner, &a_steps[1..], &b_steps[1..], depth, size, pointers);
    });
    f.advance(a, (count as i32).wrapping_mul(a_steps[0]).wrapping_neg());
    f.advance(b, (count as i32).wrapping_mul(b_steps[0]).wrapping_neg());
}

#[cfg(test)]
pub(crate) mod tests;
