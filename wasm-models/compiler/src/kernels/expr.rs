//! Expressions of floats, four elements at a time. Conditions are masks.

use super::math;
use crate::emit::{F32x4, Func};
use crate::error::{CompileError, Result};
use crate::ir::{Binary, DType, Expr, Scalar, Unary};

/// An input of an expression, or the result of the operation that it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    Input(usize),
    Result,
}

/// Whether [`f32x4`] computes an expression of inputs of these types; [`Expr::Result`] is an `F32`. Else see [`super::scalar`].
pub(super) fn is_vector(expr: &Expr, inputs: &[DType]) -> bool {
    let is = |x: &Expr, dtype| x.dtype(inputs, DType::F32) == dtype && is_vector(x, inputs);
    match expr {
        Expr::Input(index) => matches!(inputs[*index], DType::F32 | DType::Bool),
        Expr::Result => true,
        Expr::Const(number) => matches!(number, Scalar::F32(_) | Scalar::Bool(_)),
        Expr::Unary(Unary::Not, x) => is(x, DType::Bool),
        Expr::Unary(_, x) => is(x, DType::F32),
        Expr::Binary(Binary::And | Binary::Or | Binary::Xor, a, b) => is(a, DType::Bool) && is(b, DType::Bool),
        Expr::Binary(_, a, b) => is(a, DType::F32) && is(b, DType::F32),
        Expr::Select(c, a, b) => {
            is(c, DType::Bool) && (is(a, DType::F32) && is(b, DType::F32) || is(a, DType::Bool) && is(b, DType::Bool))
        }
        Expr::Cast(DType::F32, x) => is(x, DType::Bool),
        Expr::Cast(DType::Bool, x) => is(x, DType::F32),
        Expr::Cast(..) => false,
    }
}

/// Evaluates an expression for four elements where [`is_vector`] holds. `leaf` gives the four elements of an input: floats, or masks of an
/// input of `Bool`s. So is the result.
pub(super) fn f32x4(f: &mut Func, expr: &Expr, leaf: &mut dyn FnMut(&mut Func, Leaf) -> F32x4) -> Result<F32x4> {
    Ok(match expr {
        Expr::Input(index) => leaf(f, Leaf::Input(*index)),
        Expr::Result => leaf(f, Leaf::Result),
        Expr::Const(Scalar::F32(value)) => f.splat(*value),
        Expr::Const(Scalar::Bool(value)) => f.splat_i32(-i32::from(*value)).floats(),
        Expr::Unary(op, x) => {
            let x = f32x4(f, x, leaf)?;
            unary(f, *op, x)
        }
        Expr::Binary(Binary::Pow, x, power) if constant(power).is_some_and(is_simple_power) => {
            let x = f32x4(f, x, leaf)?;
            simple_power(f, x, constant(power).unwrap_or(1.0))
        }
        // `pmin` and `pmax` keep a NaN of their first operand.
        Expr::Binary(op @ (Binary::Min | Binary::Max), a, b) if [a, b].iter().any(|x| is_finite(x)) => {
            let (x, limit) = if is_finite(b) { (a, b) } else { (b, a) };
            let (x, limit) = (f32x4(f, x, leaf)?, f32x4(f, limit, leaf)?);
            if *op == Binary::Min { f.pmin(x, limit) } else { f.pmax(x, limit) }
        }
        Expr::Binary(op, a, b) => {
            let (a, b) = (f32x4(f, a, leaf)?, f32x4(f, b, leaf)?);
            binary(f, *op, a, b)
        }
        Expr::Select(c, a, b) => {
            let c = f32x4(f, c, leaf)?;
            let (a, b) = (f32x4(f, a, leaf)?, f32x4(f, b, leaf)?);
            f.select(c.bits(), a, b)
        }
        Expr::Cast(DType::F32, x) => {
            let (x, one) = (f32x4(f, x, leaf)?, f.splat(1.0));
            f.and(x.bits(), one.bits()).floats()
        }
        Expr::Cast(DType::Bool, x) => {
            let (x, zero) = (f32x4(f, x, leaf)?, f.splat(0.0));
            f.not_equal(x, zero).floats()
        }
        Expr::Const(_) | Expr::Cast(..) => {
            return Err(CompileError::model(format!("`{expr:?}` has no vector form, expected float32 and bool alone")));
        }
    })
}

fn constant(expr: &Expr) -> Option<f32> {
    match expr {
        Expr::Const(Scalar::F32(value)) => Some(*value),
        _ => None,
    }
}

fn is_finite(expr: &Expr) -> bool {
    constant(expr).is_some_and(f32::is_finite)
}

/// Whether a power needs no logarithm.
fn is_simple_power(power: f32) -> bool {
    power.abs() == 0.5 || power.abs() <= 8.0 && power.fract() == 0.0
}

fn simple_power(f: &mut Func, x: F32x4, power: f32) -> F32x4 {
    if power.abs() != 0.5 {
        return math::whole_power(f, x, power as i32);
    }
    let root = f.sqrt(x);
    math::whole_power(f, root, power.signum() as i32)
}

/// A function of four floats or masks.
pub(super) fn unary(f: &mut Func, op: Unary, x: F32x4) -> F32x4 {
    match op {
        Unary::Neg => f.neg(x),
        Unary::Abs => f.abs(x),
        Unary::Sqrt => f.sqrt(x),
        Unary::Reciprocal => math::whole_power(f, x, -1),
        Unary::Exp => math::exp_full(f, x),
        Unary::Log => math::log(f, x),
        Unary::Sin => math::sin_cos(f, x, false),
        Unary::Cos => math::sin_cos(f, x, true),
        Unary::Tanh => math::tanh(f, x),
        Unary::Sigmoid => math::sigmoid(f, x),
        Unary::Erf => math::erf(f, x),
        Unary::Floor => f.floor(x),
        Unary::Ceil => f.ceil(x),
        Unary::Round => f.nearest(x),
        Unary::Sign => math::sign(f, x),
        Unary::Relu => {
            let zero = f.splat(0.0);
            f.pmax(x, zero)
        }
        Unary::Softplus => math::softplus(f, x),
        Unary::Not => f.not(x.bits()).floats(),
        Unary::IsNan => f.not_equal(x, x).floats(),
    }
}

/// A function of two times four floats or masks.
pub(super) fn binary(f: &mut Func, op: Binary, a: F32x4, b: F32x4) -> F32x4 {
    match op {
        Binary::Add => f.add(a, b),
        Binary::Sub => f.sub(a, b),
        Binary::Mul => f.mul(a, b),
        Binary::Div => f.div(a, b),
        Binary::Pow => math::pow(f, a, b),
        Binary::Min => f.min(a, b),
        Binary::Max => f.max(a, b),
        Binary::Mod => math::remainder(f, a, b, true),
        Binary::Rem => math::remainder(f, a, b, false),
        Binary::And => f.and(a.bits(), b.bits()).floats(),
        Binary::Or => f.or(a.bits(), b.bits()).floats(),
        Binary::Xor => f.xor(a.bits(), b.bits()).floats(),
        Binary::Equal => f.equal(a, b).floats(),
        Binary::Less => f.less(a, b).floats(),
        Binary::LessOrEqual => f.less_or_equal(a, b).floats(),
    }
}

/// About how many instructions an expression takes.
pub(super) fn cost(expr: &Expr) -> usize {
    match expr {
        Expr::Input(_) | Expr::Result | Expr::Const(_) => 0,
        Expr::Cast(_, x) => 1 + cost(x),
        Expr::Unary(op, x) => {
            cost(x)
                + match op {
                    Unary::Exp | Unary::Log | Unary::Sin | Unary::Cos | Unary::Tanh | Unary::Sigmoid | Unary::Erf => 25,
                    Unary::Softplus => 60,
                    Unary::Reciprocal | Unary::Sqrt | Unary::Sign => 4,
                    _ => 1,
                }
        }
        Expr::Binary(op, a, b) => {
            cost(a)
                + cost(b)
                + match op {
                    Binary::Pow if !constant(b).is_some_and(is_simple_power) => 200,
                    Binary::Pow | Binary::Min | Binary::Max | Binary::Div => 4,
                    Binary::Mod | Binary::Rem => 20,
                    _ => 1,
                }
        }
        Expr::Select(c, a, b) => 1 + cost(c) + cost(a) + cost(b),
    }
}
