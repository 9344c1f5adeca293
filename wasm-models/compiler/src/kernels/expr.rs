//! Expressions, four elements at a time or one by one.

use super::math;
use crate::emit::{F32x4, Func};
use crate::error::{CompileError, Result};
use crate::ir::{Binary, Expr, Scalar, Unary};

/// An input of an expression, or the result of the operation that it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    Input(usize),
    Result,
}

/// Evaluates an expression of floats for four elements; `leaf` gives the four elements of an input.
pub(super) fn f32x4(f: &mut Func, expr: &Expr, leaf: &mut dyn FnMut(&mut Func, Leaf) -> F32x4) -> Result<F32x4> {
    Ok(match expr {
        Expr::Input(index) => leaf(f, Leaf::Input(*index)),
        Expr::Result => leaf(f, Leaf::Result),
        Expr::Const(Scalar::F32(value)) => f.splat(*value),
        Expr::Unary(op, x) => {
            let x = f32x4(f, x, leaf)?;
            match op {
                Unary::Relu => {
                    let zero = f.splat(0.0);
                    f.pmax(x, zero)
                }
                Unary::Tanh => math::tanh(f, x),
                Unary::Sigmoid => math::sigmoid(f, x),
                Unary::Exp => math::exp(f, x),
                _ => return Err(CompileError::model(format!("`{op:?}` is not lowered yet"))),
            }
        }
        Expr::Binary(op, a, b) => {
            let (a, b) = (f32x4(f, a, leaf)?, f32x4(f, b, leaf)?);
            match op {
                Binary::Add => f.add(a, b),
                Binary::Sub => f.sub(a, b),
                Binary::Mul => f.mul(a, b),
                Binary::Div => f.div(a, b),
                Binary::Min => f.min(a, b),
                Binary::Max => f.max(a, b),
                _ => return Err(CompileError::model(format!("`{op:?}` is not lowered yet"))),
            }
        }
        _ => return Err(CompileError::model("such an expression is not lowered yet")),
    })
}
