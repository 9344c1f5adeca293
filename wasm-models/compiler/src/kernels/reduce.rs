//! Sums, means, extremes.
//!
//! The order of a float's sum depends only on the sizes of the reduced dimensions: element `i` of the last of them goes to partial sum
//! `i % 4`, and the four are added as `(0 + 2) + (1 + 3)`. The partial sums are the lanes of a vector, or, where that reads memory in
//! order, four vectors whose lanes are four results.

#[cfg(test)]
mod tests;

use super::Cx;
use super::loops::{Strided, merge, nest, pieces};
use super::rows::{Row, across, combined, filled};
use super::scalar::{self, Number};
use crate::emit::{At, F32x4, Func, I32, I64, Local as _};
use crate::error::{CompileError, Result};
use crate::ir::{Binary, DType, Expr, Node, Operand, Reduction, Scalar, row_major};

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node, kind: Reduction, axes: usize) -> Result<()> {
    let ([input], Some(output)) = (&node.inputs[..], node.outputs[0]) else { return Ok(()) };
    let Some(kept) = input.rank().checked_sub(axes) else {
        let rank = input.rank();
        return Err(CompileError::node(&node.name, format!("{axes} dimensions of {rank} are reduced")));
    };
    let shape = &input.shape[..kept];
    if shape.contains(&0) {
        return Ok(());
    }
    let dtype = cx.dtype(input);
    let (to, from) = (f.address(cx.result(output)), f.address(cx.address(input)));
    let size = dtype.size();
    let mut operands = [
        Strided::new(to, &row_major(shape), cx.graph.value(output).dtype.size()),
        Strided::new(from, &input.strides[..kept], size),
    ];
    let shape = merge(shape, &mut operands);
    let reduced = Reduced::new(input, kept, size);
    if dtype != DType::F32 || matches!(kind, Reduction::ArgMax | Reduction::ArgMin) {
        return nest(f, &shape, &operands, &mut |f, pointers| scalar_result(f, kind, dtype, &reduced, pointers))
            .map_err(|error| CompileError::node(&node.name, error.reason));
    }
    let last = shape.len() - 1;
    let contiguous = [&operands[0], &operands[1]].iter().all(|operand| operand.strides[last] == 4);
    if contiguous && shape[last] >= 4 && reduced.strides.last() != Some(&4) {
        return nest(f, &shape[..last], &operands, &mut |f, pointers| {
            four_results(f, kind, &reduced, pointers, shape[last])
        });
    }
    let slack = cx.graph.value(input.value).data.is_none();
    nest(f, &shape, &operands, &mut |f, pointers| one_result(f, kind, &reduced, pointers, slack))
}

/// The dimensions that go: at least one.
struct Reduced {
    shape: Vec<usize>,
    /// In bytes.
    strides: Vec<isize>,
    /// Number of elements.
    count: usize,
}

impl Reduced {
    /// Dimensions are joined where that does not change which partial sum an element goes to.
    fn new(input: &Operand, kept: usize, size: usize) -> Self {
        let (mut shape, mut strides) = (Vec::<usize>::new(), Vec::<isize>::new());
        for axis in (kept..input.rank()).rev().filter(|&axis| input.shape[axis] != 1) {
            let (count, stride) = (input.shape[axis], input.strides[axis] * size as isize);
            match (shape.last_mut(), strides.last()) {
                (Some(inner), Some(step)) if stride == step * *inner as isize && inner.is_multiple_of(4) => {
                    *inner *= count
                }
                _ => {
                    shape.push(count);
                    strides.push(stride);
                }
            }
        }
        if shape.is_empty() {
            shape.push(1);
            strides.push(0);
        }
        shape.reverse();
        strides.reverse();
        let count = shape.iter().product();
        Self { shape, strides, count }
    }

    /// All but the last dimension, with pointers to its first elements.
    fn outer(
        &self,
        f: &mut Func,
        pointer: I32,
        body: &mut dyn FnMut(&mut Func, I32, usize, isize) -> Result<()>,
    ) -> Result<()> {
        let last = self.shape.len() - 1;
        let operand = Strided { pointer, strides: self.strides.clone() };
        nest(f, &self.shape[..last], &[operand], &mut |f, pointers| {
            body(f, pointers[0], self.shape[last], self.strides[last])
        })
    }
}

/// Combines two lists of four numbers.
type Combine = fn(&mut Func, F32x4, F32x4) -> F32x4;

/// What nothing reduces to, and how two become one.
fn combine(kind: Reduction) -> (f32, Combine) {
    match kind {
        Reduction::Sum | Reduction::Mean => (0.0, Func::add),
        Reduction::Prod => (1.0, Func::mul),
        Reduction::Min | Reduction::ArgMin => (f32::INFINITY, Func::pmin),
        Reduction::Max | Reduction::ArgMax => (f32::NEG_INFINITY, Func::pmax),
    }
}

fn finished(f: &mut Func, kind: Reduction, total: F32x4, count: usize) -> F32x4 {
    if kind != Reduction::Mean {
        return total;
    }
    let count = f.splat(count as f32);
    f.div(total, count)
}

/// Lanes are partial sums.
fn one_result(f: &mut Func, kind: Reduction, reduced: &Reduced, pointers: &[I32], slack: bool) -> Result<()> {
    let (identity, op) = combine(kind);
    let identity = f.splat(identity);
    let sum = f.copy(identity);
    reduced.outer(f, pointers[1], &mut |f, pointer, count, stride| {
        Row { pointer, stride, count, slack }.pieces(f, 4, &[], &mut |f, piece| {
            let values = filled(f, piece.values, piece.count, identity);
            let next = op(f, sum, values);
            f.set(sum, next);
        })
    })?;
    let total = across(f, sum, op);
    let total = finished(f, kind, total, reduced.count);
    f.store_lanes(At::from(pointers[0], 0), total, 1);
    Ok(())
}

/// Lanes are results: `results` of them (at least 4) follow one another.
fn four_results(f: &mut Func, kind: Reduction, reduced: &Reduced, pointers: &[I32], results: usize) -> Result<()> {
    let (identity, op) = combine(kind);
    let (to, from) = (f.copy(pointers[0]), f.copy(pointers[1]));
    let four = |f: &mut Func| -> Result<()> {
        let sums: Vec<F32x4> = (0..4).map(|_| f.splat(identity)).collect();
        reduced.outer(f, from, &mut |f, pointer, count, stride| {
            let pointer = f.copy(pointer);
            let add = |f: &mut Func, part: usize| {
                let values = f.load_f32x4(At::from(pointer, 0));
                let next = op(f, sums[part], values);
                f.set(sums[part], next);
                f.advance(pointer, stride as i32);
            };
            f.repeat(count / 4, |f| (0..4).for_each(|part| f.scope(|f| add(f, part))));
            (0..count % 4).for_each(|part| f.scope(|f| add(f, part)));
            Ok(())
        })?;
        let total = combined(f, &[sums[0], sums[2], sums[1], sums[3]], op);
        let total = finished(f, kind, total, reduced.count);
        f.store_f32x4(At::from(to, 0), total);
        Ok(())
    };
    pieces(f, results / 4, 1, &[(to, 16), (from, 16)], &mut |f, _| four(f))?;
    if !results.is_multiple_of(4) {
        // The last four, some of them for the second time.
        let back = 4 * ((results % 4) as i32 - 4);
        f.advance(to, back);
        f.advance(from, back);
        f.scope(four)?;
    }
    Ok(())
}

/// One element after the other.
fn scalar_result(f: &mut Func, kind: Reduction, dtype: DType, reduced: &Reduced, pointers: &[I32]) -> Result<()> {
    let start = match kind {
        Reduction::Sum | Reduction::Mean => Scalar::of(dtype, 0.0),
        Reduction::Prod => Scalar::of(dtype, 1.0),
        // Saturates: the smallest and the largest integer.
        Reduction::Min | Reduction::ArgMin => Scalar::of(dtype, f64::INFINITY),
        Reduction::Max | Reduction::ArgMax if dtype == DType::Bool => Scalar::Bool(false),
        Reduction::Max | Reduction::ArgMax => Scalar::of(dtype, f64::NEG_INFINITY),
    };
    let total = scalar::constant(f, start);
    let (place, best): (I64, I64) = (f.i64(0), f.i64(0));
    let (input, known) = (Expr::Input(0), Expr::Input(1));
    let next = |op| Expr::binary(op, Expr::Input(1), Expr::Input(0));
    let expr = match kind {
        Reduction::Sum | Reduction::Mean => next(Binary::Add),
        Reduction::Prod => next(Binary::Mul),
        Reduction::Min => next(Binary::Min),
        Reduction::Max => next(Binary::Max),
        Reduction::ArgMin => Expr::binary(Binary::Less, input, known),
        Reduction::ArgMax => Expr::binary(Binary::Less, known, input),
    };
    let is_index = matches!(kind, Reduction::ArgMin | Reduction::ArgMax);
    reduced.outer(f, pointers[1], &mut |f, pointer, count, stride| {
        let pointer = f.copy(pointer);
        pieces(f, count, 1, &[(pointer, stride as i32)], &mut |f, _| {
            let value = scalar::load(f, dtype, At::from(pointer, 0));
            let result = scalar::number(f, &expr, &mut |_, leaf| {
                if leaf == super::expr::Leaf::Input(0) { value } else { total }
            })?;
            match result {
                Number::Bool(better) if is_index => {
                    f.when(better, |f| {
                        scalar::assign(f, total, value);
                        f.set(best, place);
                    });
                    f.sink().local_get(place.index()).i64_const(1).i64_add().local_set(place.index());
                }
                _ => scalar::assign(f, total, result),
            }
            Ok(())
        })
    })?;
    let to = At::from(pointers[0], 0);
    if is_index {
        f.store_i64(to, best);
        return Ok(());
    }
    let mut result = total;
    if kind == Reduction::Mean {
        let mean = Expr::binary(Binary::Div, Expr::Input(0), Expr::Const(Scalar::of(dtype, reduced.count as f64)));
        result = scalar::number(f, &mean, &mut |_, _| total)?;
    }
    scalar::store(f, to, result);
    Ok(())
}
