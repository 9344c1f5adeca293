//! Matrix products.

use super::builder::broadcast_shape;
use super::{Builder, Call};
use crate::error::Result;
use crate::ir::{Binary, Expr, Op, Operand, Packing, Scalar};

pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    match call.op {
        "MatMul" => matmul(builder, call).map(|output| Some(vec![output])),
        "Gemm" => gemm(builder, call).map(|output| Some(vec![output])),
        _ => Ok(None),
    }
}

fn matmul(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let (mut a, mut b) = (call.input(0)?.clone(), call.input(1)?.clone());
    let (is_row, is_column) = (a.rank() == 1, b.rank() == 1);
    if is_row {
        a = a.unsqueezed(0);
    }
    if is_column {
        b = b.unsqueezed(1);
    }
    let product = product(builder, call, &a, &b)?;
    let product = if is_column { product.squeezed(product.rank() - 1) } else { product };
    Ok(if is_row { product.squeezed(product.rank() - 1 - usize::from(!is_column)) } else { product })
}

/// The product of tensors of two or more dimensions whose leading dimensions broadcast.
pub(super) fn product(builder: &mut Builder, call: &Call<'_>, a: &Operand, b: &Operand) -> Result<Operand> {
    let wrong = || call.error(format!("shapes {:?} and {:?} do not multiply", a.shape, b.shape));
    let types = (builder.graph.dtype(a), builder.graph.dtype(b));
    if types.0 != types.1 || matches!(types.0, crate::ir::DType::Bool | crate::ir::DType::I8) {
        let names = format!("{} and {}", types.0.name(), types.1.name());
        return Err(call.error(format!("the inputs are {names}, expected the same type of numbers")));
    }
    let (Some((&[m, k], a_batch)), Some((&[inner, n], b_batch))) = (
        a.shape.split_last_chunk::<2>().map(|(batch, last)| (last, batch)),
        b.shape.split_last_chunk::<2>().map(|(batch, last)| (last, batch)),
    ) else {
        return Err(wrong());
    };
    if k != inner {
        return Err(wrong());
    }
    let batch = broadcast_shape([a_batch, b_batch].into_iter()).ok_or_else(wrong)?;
    let shape = |last: [usize; 2]| [batch.as_slice(), &last].concat();
    let (Some(a), Some(b)) = (a.broadcast(&shape([m, k])), b.broadcast(&shape([k, n]))) else { return Err(wrong()) };
    let op = Op::MatMul { epilogue: Expr::Result, packing: Packing::None };
    builder.add(&call.name, op, vec![a, b], types.0, &shape([m, n]))
}

fn gemm(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let (mut a, mut b) = (call.input(0)?.clone(), call.input(1)?.clone());
    if a.rank() != 2 || b.rank() != 2 {
        return Err(call.error(format!("shapes {:?} and {:?}, expected two dimensions each", a.shape, b.shape)));
    }
    if call.int("transA", 0) != 0 {
        a = a.transposed(&[1, 0]);
    }
    if call.int("transB", 0) != 0 {
        b = b.transposed(&[1, 0]);
    }
    let product = product(builder, call, &a, &b)?;
    let dtype = builder.graph.dtype(&product);
    let scaled = |factor: f32, x: Expr| {
        if factor == 1.0 { x } else { Expr::binary(Binary::Mul, Expr::Const(Scalar::of(dtype, f64::from(factor))), x) }
    };
    let (alpha, beta) = (call.float("alpha", 1.0), call.float("beta", 1.0));
    if !dtype.is_float() && (alpha.fract() != 0.0 || beta.fract() != 0.0) {
        return Err(call.error(format!("`alpha` and `beta` are {alpha} and {beta} for integers, expected integers")));
    }
    let result = scaled(alpha, Expr::Input(0));
    match call.optional(2).filter(|_| beta != 0.0) {
        Some(c) => {
            if broadcast_shape([c.shape.as_slice(), &product.shape].into_iter()).as_ref() != Some(&product.shape) {
                return Err(call.error(format!("C of shape {:?} does not broadcast to {:?}", c.shape, product.shape)));
            }
            let sum = Expr::binary(Binary::Add, result, scaled(beta, Expr::Input(1)));
            builder.map(call, sum, &[&product, c])
        }
        None if alpha == 1.0 => Ok(product),
        None => builder.map(call, result, &[&product]),
    }
}
