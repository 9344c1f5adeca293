//! Element by element.

#[cfg(test)]
mod tests;

use super::loops::{Strided, merge, nest, pieces, places};
use super::scalar::{self, Number};
use super::{Cx, copy, expr};
use crate::emit::{At, F32x4, Func, I32};
use crate::error::{CompileError, Result};
use crate::ir::{DType, Expr, Node, row_major};

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node, expr: &Expr) -> Result<()> {
    let Some(output) = node.outputs[0] else { return Ok(()) };
    let value = cx.graph.value(output);
    if value.is_empty() {
        return Ok(());
    }
    let types: Vec<DType> = node.inputs.iter().map(|input| cx.dtype(input)).collect();
    let dtype = expr.dtype(&types, DType::F32);
    if dtype != value.dtype {
        let (result, wanted) = (dtype.name(), value.dtype.name());
        return Err(CompileError::node(&node.name, format!("the expression gives {result}, expected {wanted}")));
    }
    let to = f.address(cx.result(output));
    let mut operands = vec![Strided::new(to, &row_major(&value.shape), dtype.size())];
    for (input, dtype) in node.inputs.iter().zip(&types) {
        let pointer = f.address(cx.address(input));
        operands.push(Strided::new(pointer, &input.strides, dtype.size()));
    }
    if let Expr::Input(index) = expr {
        return copy::emit(f, &value.shape, dtype.size(), &operands[0], &operands[index + 1]);
    }
    let shape = merge(&value.shape, &mut operands);
    let (outer, last) = shape.split_at(shape.len() - 1);
    let strides: Vec<isize> = operands.iter().map(|operand| operand.strides[outer.len()]).collect();
    let row = Row { expr, dtype, types: &types, strides: &strides, count: last[0] };
    let is_vector = expr::is_vector(expr, &types);
    nest(f, outer, &operands, &mut |f, pointers| {
        if is_vector { row.vector(f, pointers) } else { row.scalar(f, pointers) }
    })
}

/// A run of elements along the last axis. Pointers and strides begin with those of the output.
struct Row<'a> {
    expr: &'a Expr,
    dtype: DType,
    types: &'a [DType],
    strides: &'a [isize],
    count: usize,
}

impl Row<'_> {
    fn scalar(&self, f: &mut Func, pointers: &[I32]) -> Result<()> {
        let pointers: Vec<I32> = pointers.iter().map(|pointer| f.copy(*pointer)).collect();
        let moves: Vec<(I32, i32)> = pointers.iter().copied().zip(self.strides.iter().map(|s| *s as i32)).collect();
        pieces(f, self.count, 1, &moves, &mut |f, _| {
            let value = scalar::number(f, self.expr, &mut |f, leaf| match leaf {
                expr::Leaf::Input(index) => scalar::load(f, self.types[index], At::from(pointers[index + 1], 0)),
                expr::Leaf::Result => Number::F32(f.splat(0.0)),
            })?;
            scalar::store(f, At::from(pointers[0], 0), value);
            Ok(())
        })
    }

    fn vector(&self, f: &mut Func, pointers: &[I32]) -> Result<()> {
        let pointers: Vec<I32> = pointers.iter().map(|pointer| f.copy(*pointer)).collect();
        // What repeats along the row is loaded once.
        let splats: Vec<Option<F32x4>> = (0..self.types.len())
            .map(|index| (self.strides[index + 1] == 0).then(|| self.load(f, &pointers, index, 0, 4)))
            .collect();
        if self.count < 4 {
            return self.piece(f, &pointers, &splats, 0, self.count);
        }
        let moves: Vec<(I32, i32)> = pointers.iter().copied().zip(self.strides.iter().map(|s| *s as i32 * 4)).collect();
        let unroll = match expr::cost(self.expr) {
            0..=4 => 4,
            5..=12 => 2,
            _ => 1,
        };
        pieces(f, self.count / 4, unroll, &moves, &mut |f, piece| self.piece(f, &pointers, &splats, piece * 4, 4))?;
        let rest = self.count % 4;
        if rest > 0 {
            // The last four, some of them for the second time.
            for (&pointer, stride) in pointers.iter().zip(self.strides) {
                f.advance(pointer, (rest as isize - 4) as i32 * *stride as i32);
            }
            f.scope(|f| self.piece(f, &pointers, &splats, 0, 4))?;
        }
        Ok(())
    }

    /// Elements `first..first + count`, at most four.
    fn piece(
        &self,
        f: &mut Func,
        pointers: &[I32],
        splats: &[Option<F32x4>],
        first: usize,
        count: usize,
    ) -> Result<()> {
        let mut known = splats.to_vec();
        let result = expr::f32x4(f, self.expr, &mut |f, leaf| match leaf {
            expr::Leaf::Input(index) => {
                *known[index].get_or_insert_with(|| self.load(f, pointers, index, first, count))
            }
            expr::Leaf::Result => f.splat(0.0),
        })?;
        let at = At::from(pointers[0], (first * self.dtype.size()) as u32);
        match self.dtype {
            DType::Bool => f.store_masks(at, result.bits(), count),
            _ => f.store_lanes(at, result, count),
        }
        Ok(())
    }

    fn load(&self, f: &mut Func, pointers: &[I32], index: usize, first: usize, count: usize) -> F32x4 {
        let (pointer, stride, dtype) = (pointers[index + 1], self.strides[index + 1], self.types[index]);
        if stride == dtype.size() as isize && count == 4 {
            let at = At::from(pointer, (first * dtype.size()) as u32);
            return if dtype == DType::Bool { f.load_masks(at).floats() } else { f.load_f32x4(at) };
        }
        if stride == 0 && dtype == DType::F32 {
            return f.load_splat(At::from(pointer, 0));
        }
        let places = places(f, pointer, stride, first, count);
        if dtype == DType::Bool {
            return f.gather_masks(&places).floats();
        }
        f.gather_f32x4(std::array::from_fn(|lane| places[lane.min(count - 1)]))
    }
}
