//! Expressions.

use super::{Input, Numbers, Output};
use crate::error::{CompileError, Result};
use crate::ir::{Binary, DType, Data, Expr, Scalar, Unary};

/// An expression for all elements; `result` is what [`Expr::Result`] stands for.
pub(super) fn eval(expr: &Expr, inputs: &[Input], result: Option<Data>, output: &Output) -> Result<Data> {
    match (expr, result) {
        (Expr::Result, Some(result)) => Ok(result),
        (Expr::Input(index), _) => Ok(inputs[*index].data.clone()),
        (expr, result) => Context { inputs, result, len: output.len() }.eval(expr),
    }
}

struct Context<'a> {
    inputs: &'a [Input],
    result: Option<Data>,
    len: usize,
}

impl Context<'_> {
    fn eval(&self, expr: &Expr) -> Result<Data> {
        Ok(match expr {
            Expr::Input(index) => self.inputs[*index].data.clone(),
            Expr::Result => {
                self.result.clone().ok_or_else(|| CompileError::model("nothing gives the result of an expression"))?
            }
            Expr::Const(scalar) => constant(*scalar, self.len),
            Expr::Unary(op, x) => unary(*op, &self.eval(x)?)?,
            Expr::Binary(op, a, b) => binary(*op, &self.eval(a)?, &self.eval(b)?)?,
            Expr::Select(condition, yes, no) => {
                let (yes, no) = (self.eval(yes)?, self.eval(no)?);
                let Data::Bool(condition) = self.eval(condition)? else {
                    return Err(CompileError::model("the condition of a choice is no bool"));
                };
                if yes.dtype() != no.dtype() {
                    return Err(mixed("a choice", yes.dtype(), no.dtype()));
                }
                let dtype = yes.dtype();
                match (Numbers::of(&yes), Numbers::of(&no)) {
                    (Numbers::Float(yes), Numbers::Float(no)) => {
                        Numbers::Float(choose(&condition, &yes, &no)).to(dtype)
                    }
                    (Numbers::Int(yes), Numbers::Int(no)) => Numbers::Int(choose(&condition, &yes, &no)).to(dtype),
                    _ => return Err(mixed("a choice", dtype, no.dtype())),
                }
            }
            Expr::Cast(dtype, x) => Numbers::of(&self.eval(x)?).to(*dtype),
        })
    }
}

fn mixed(what: &str, a: DType, b: DType) -> CompileError {
    CompileError::model(format!("{what} mixes {} and {}", a.name(), b.name()))
}

fn choose<T: Copy>(condition: &[bool], yes: &[T], no: &[T]) -> Vec<T> {
    condition.iter().zip(yes.iter().zip(no)).map(|(condition, (yes, no))| if *condition { *yes } else { *no }).collect()
}

fn constant(scalar: Scalar, len: usize) -> Data {
    match scalar {
        Scalar::F32(x) => Data::F32(vec![x; len]),
        Scalar::F64(x) => Data::F64(vec![x; len]),
        Scalar::I32(x) => Data::I32(vec![x; len]),
        Scalar::I64(x) => Data::I64(vec![x; len]),
        Scalar::Bool(x) => Data::Bool(vec![x; len]),
    }
}

fn unary(op: Unary, x: &Data) -> Result<Data> {
    let dtype = x.dtype();
    let refused = || CompileError::model(format!("`{op:?}` is not computed of {}", dtype.name()));
    match (op, Numbers::of(x)) {
        (Unary::IsNan, Numbers::Float(x)) => Ok(Data::Bool(x.into_iter().map(f64::is_nan).collect())),
        (Unary::Not, Numbers::Int(x)) if dtype == DType::Bool => {
            Ok(Data::Bool(x.into_iter().map(|x| x == 0).collect()))
        }
        (_, Numbers::Float(x)) => {
            let function = float(op).ok_or_else(refused)?;
            Ok(Numbers::Float(x.into_iter().map(function).collect()).to(dtype))
        }
        (_, Numbers::Int(x)) => {
            let function: fn(i64) -> i64 = match op {
                Unary::Neg => i64::wrapping_neg,
                Unary::Abs => i64::wrapping_abs,
                Unary::Sign => i64::signum,
                Unary::Relu => |x| x.max(0),
                _ => return Err(refused()),
            };
            Ok(Numbers::Int(x.into_iter().map(function).collect()).to(dtype))
        }
    }
}

fn float(op: Unary) -> Option<fn(f64) -> f64> {
    Some(match op {
        Unary::Neg => |x| -x,
        Unary::Abs => f64::abs,
        Unary::Sqrt => f64::sqrt,
        Unary::Reciprocal => |x| 1.0 / x,
        Unary::Exp => libm::exp,
        Unary::Log => libm::log,
        Unary::Sin => libm::sin,
        Unary::Cos => libm::cos,
        Unary::Tanh => libm::tanh,
        Unary::Sigmoid => |x| 1.0 / (1.0 + libm::exp(-x)),
        Unary::Erf => libm::erf,
        Unary::Floor => f64::floor,
        Unary::Ceil => f64::ceil,
        Unary::Round => f64::round_ties_even,
        Unary::Sign => |x| if x.is_nan() || x == 0.0 { x } else { x.signum() },
        // NaN stays NaN.
        Unary::Relu => |x| if x < 0.0 { 0.0 } else { x },
        Unary::Softplus => |x| x.max(0.0) + libm::log1p(libm::exp(-x.abs())),
        Unary::Not | Unary::IsNan => return None,
    })
}

fn binary(op: Binary, a: &Data, b: &Data) -> Result<Data> {
    let dtype = a.dtype();
    if dtype != b.dtype() {
        return Err(mixed(&format!("`{op:?}`"), dtype, b.dtype()));
    }
    match (Numbers::of(a), Numbers::of(b)) {
        (Numbers::Float(a), Numbers::Float(b)) if op.compares() => {
            let holds: fn(f64, f64) -> bool = match op {
                Binary::Equal => |a, b| a == b,
                Binary::Less => |a, b| a < b,
                _ => |a, b| a <= b,
            };
            Ok(Data::Bool(a.into_iter().zip(b).map(|(a, b)| holds(a, b)).collect()))
        }
        (Numbers::Int(a), Numbers::Int(b)) if op.compares() => {
            let holds: fn(i64, i64) -> bool = match op {
                Binary::Equal => |a, b| a == b,
                Binary::Less => |a, b| a < b,
                _ => |a, b| a <= b,
            };
            Ok(Data::Bool(a.into_iter().zip(b).map(|(a, b)| holds(a, b)).collect()))
        }
        (Numbers::Float(a), Numbers::Float(b)) => {
            let function: fn(f64, f64) -> f64 = match op {
                Binary::Add => |a, b| a + b,
                Binary::Sub => |a, b| a - b,
                Binary::Mul => |a, b| a * b,
                Binary::Div => |a, b| a / b,
                Binary::Pow => libm::pow,
                // NaN wins.
                Binary::Min => |a, b| if a.is_nan() || a < b { a } else { b },
                Binary::Max => |a, b| if a.is_nan() || a > b { a } else { b },
                Binary::Mod => floor_mod,
                Binary::Rem => libm::fmod,
                _ => return Err(CompileError::model(format!("`{op:?}` is not computed of {}", dtype.name()))),
            };
            Ok(Numbers::Float(a.into_iter().zip(b).map(|(a, b)| function(a, b)).collect()).to(dtype))
        }
        (Numbers::Int(a), Numbers::Int(b)) => {
            if matches!(op, Binary::Div | Binary::Mod | Binary::Rem) && b.contains(&0) {
                return Err(CompileError::model("an integer is divided by zero"));
            }
            let function: fn(i64, i64) -> i64 = match op {
                Binary::Add => i64::wrapping_add,
                Binary::Sub => i64::wrapping_sub,
                Binary::Mul => i64::wrapping_mul,
                Binary::Div => i64::wrapping_div,
                Binary::Pow => int_pow,
                Binary::Min => i64::min,
                Binary::Max => i64::max,
                Binary::Mod => |a, b| a.wrapping_rem(b).wrapping_add(b).wrapping_rem(b),
                Binary::Rem => i64::wrapping_rem,
                Binary::And => |a, b| a & b,
                Binary::Or => |a, b| a | b,
                _ => |a, b| a ^ b,
            };
            Ok(Numbers::Int(a.into_iter().zip(b).map(|(a, b)| function(a, b)).collect()).to(dtype))
        }
        _ => Err(mixed(&format!("`{op:?}`"), dtype, b.dtype())),
    }
}

fn floor_mod(a: f64, b: f64) -> f64 {
    let rest = libm::fmod(a, b);
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
}

fn int_pow(base: i64, exponent: i64) -> i64 {
    match (base, u32::try_from(exponent)) {
        (_, Ok(exponent)) => base.wrapping_pow(exponent),
        (1, _) => 1,
        (-1, _) => 1 - 2 * (exponent & 1),
        // A fraction, or an overflow.
        _ => 0,
    }
}
