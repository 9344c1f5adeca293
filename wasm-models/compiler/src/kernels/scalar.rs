//! Expressions of one element, of any type. 32-bit floats go through the functions of four, so that both give the same bits.

#[cfg(test)]
mod tests;

use super::expr::{self, Leaf};
use super::math::double;
use crate::emit::{At, F32x4, F64, F64x2, Func, I32, I64, Local as _};
use crate::error::{CompileError, Result};
use crate::ir::{Binary, DType, Expr, Scalar, Unary};

/// A number of some type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    /// In the first lane.
    F32(F32x4),
    F64(F64),
    I32(I32),
    I64(I64),
    /// 0 or 1.
    Bool(I32),
}

impl Number {
    fn dtype(self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::I32(_) => DType::I32,
            Self::I64(_) => DType::I64,
            Self::Bool(_) => DType::Bool,
        }
    }
}

fn refuse<T>(what: impl std::fmt::Debug, dtype: DType, accepted: &str) -> Result<T> {
    Err(CompileError::model(format!("`{what:?}` of {} is not lowered, expected {accepted}", dtype.name())))
}

/// Loads an element.
pub(super) fn load(f: &mut Func, dtype: DType, at: At) -> Number {
    match dtype {
        DType::F32 => Number::F32(f.load_splat(at)),
        DType::F64 => {
            let place = f.place(at, 3);
            f.sink().f64_load(place);
            Number::F64(f.take())
        }
        DType::I32 => Number::I32(f.load_i32(at)),
        DType::I64 => Number::I64(f.load_i64(at)),
        DType::Bool => {
            let place = f.place(at, 0);
            f.sink().i32_load8_u(place);
            Number::Bool(f.take())
        }
        DType::I8 => {
            let place = f.place(at, 0);
            f.sink().i32_load8_s(place);
            Number::I32(f.take())
        }
    }
}

/// Stores an element.
pub(super) fn store(f: &mut Func, at: At, number: Number) {
    match number {
        Number::F32(x) => f.store_lanes(at, x, 1),
        Number::F64(x) => {
            let place = f.place(at, 3);
            f.get(x);
            f.sink().f64_store(place);
        }
        Number::I32(x) => f.store_i32(at, x),
        Number::I64(x) => f.store_i64(at, x),
        Number::Bool(x) => {
            let place = f.place(at, 0);
            f.get(x);
            f.sink().i32_store8(place);
        }
    }
}

/// A number that is known now.
pub(super) fn constant(f: &mut Func, number: Scalar) -> Number {
    match number {
        Scalar::F32(x) => Number::F32(f.splat(x)),
        Scalar::F64(x) => Number::F64(f.f64(x)),
        Scalar::I32(x) => Number::I32(f.i32(x)),
        Scalar::I64(x) => Number::I64(f.i64(x)),
        Scalar::Bool(x) => Number::Bool(f.i32(i32::from(x))),
    }
}

/// Changes a number to another of its type.
pub(super) fn assign(f: &mut Func, target: Number, from: Number) {
    match (target, from) {
        (Number::F32(target), Number::F32(from)) => f.set(target, from),
        (Number::F64(target), Number::F64(from)) => f.set(target, from),
        (Number::I64(target), Number::I64(from)) => f.set(target, from),
        (Number::I32(target), Number::I32(from)) | (Number::Bool(target), Number::Bool(from)) => f.set(target, from),
        _ => debug_assert!(false, "numbers of two types"),
    }
}

/// Evaluates an expression for one element; `leaf` gives the element of an input.
pub(super) fn number(f: &mut Func, expr: &Expr, leaf: &mut dyn FnMut(&mut Func, Leaf) -> Number) -> Result<Number> {
    match expr {
        Expr::Input(index) => Ok(leaf(f, Leaf::Input(*index))),
        Expr::Result => Ok(leaf(f, Leaf::Result)),
        Expr::Const(value) => Ok(constant(f, *value)),
        Expr::Unary(op, x) => {
            let x = number(f, x, leaf)?;
            unary(f, *op, x)
        }
        Expr::Binary(op, a, b) => {
            let numbers = [number(f, a, leaf)?, number(f, b, leaf)?];
            if let [Number::F32(x), Number::F32(y)] = numbers {
                // Constants matter for powers and extremes: the vector form decides.
                let known =
                    |side: &Expr, index| if let Expr::Const(_) = side { side.clone() } else { Expr::Input(index) };
                let form = Expr::binary(*op, known(a, 0), known(b, 1));
                let result = expr::f32x4(f, &form, &mut |_, leaf| if leaf == Leaf::Input(0) { x } else { y })?;
                return Ok(if op.compares() { Number::Bool(f.first_mask(result.bits())) } else { Number::F32(result) });
            }
            binary(f, *op, numbers[0], numbers[1])
        }
        Expr::Select(c, a, b) => {
            let condition = number(f, c, leaf)?;
            let (a, b) = (number(f, a, leaf)?, number(f, b, leaf)?);
            select(f, condition, a, b)
        }
        Expr::Cast(dtype, x) => {
            let x = number(f, x, leaf)?;
            cast(f, x, *dtype)
        }
    }
}

fn select(f: &mut Func, condition: Number, a: Number, b: Number) -> Result<Number> {
    let Number::Bool(condition) = condition else { return refuse("Select", condition.dtype(), "a bool") };
    Ok(match (a, b) {
        (Number::F32(a), Number::F32(b)) => {
            let mask = f.splat_mask(condition);
            Number::F32(f.select(mask, a, b))
        }
        (Number::F64(a), Number::F64(b)) => Number::F64(choose(f, condition, a, b)),
        (Number::I32(a), Number::I32(b)) => Number::I32(choose(f, condition, a, b)),
        (Number::I64(a), Number::I64(b)) => Number::I64(choose(f, condition, a, b)),
        (Number::Bool(a), Number::Bool(b)) => Number::Bool(choose(f, condition, a, b)),
        _ => return refuse("Select", b.dtype(), a.dtype().name()),
    })
}

fn choose<T: crate::emit::Local>(f: &mut Func, condition: I32, a: T, b: T) -> T {
    f.get(a);
    f.get(b);
    f.get(condition);
    f.sink().select();
    f.take()
}

/// Another type; see [`Expr::Cast`].
pub(super) fn cast(f: &mut Func, x: Number, to: DType) -> Result<Number> {
    // The number alone on the stack; then one instruction turns it into the other type.
    match x {
        Number::F32(x) => {
            f.get(x);
            f.sink().f32x4_extract_lane(0);
        }
        Number::F64(x) => f.get(x),
        Number::I32(x) | Number::Bool(x) => f.get(x),
        Number::I64(x) => f.get(x),
    }
    let mut s = f.sink();
    match (x.dtype(), to) {
        (_, DType::I8) => return refuse("Cast", x.dtype(), "a type that is not int8"),
        (DType::F32, DType::F32) => s.f32x4_splat(),
        (DType::F32, DType::F64) => s.f64_promote_f32(),
        (DType::F32, DType::I32) => s.i32_trunc_sat_f32_s(),
        (DType::F32, DType::I64) => s.i64_trunc_sat_f32_s(),
        (DType::F32, DType::Bool) => s.f32_const(0.0.into()).f32_ne(),
        (DType::F64, DType::F32) => s.f32_demote_f64().f32x4_splat(),
        (DType::F64, DType::I32) => s.i32_trunc_sat_f64_s(),
        (DType::F64, DType::I64) => s.i64_trunc_sat_f64_s(),
        (DType::F64, DType::Bool) => s.f64_const(0.0.into()).f64_ne(),
        (DType::I64, DType::F32) => s.f32_convert_i64_s().f32x4_splat(),
        (DType::I64, DType::F64) => s.f64_convert_i64_s(),
        (DType::I64, DType::I32) => s.i32_wrap_i64(),
        (DType::I64, DType::Bool) => s.i64_const(0).i64_ne(),
        (_, DType::F32) => s.f32_convert_i32_s().f32x4_splat(),
        (_, DType::F64) => match x {
            Number::F64(_) => &mut s,
            _ => s.f64_convert_i32_s(),
        },
        (_, DType::I64) => match x {
            Number::I64(_) => &mut s,
            _ => s.i64_extend_i32_s(),
        },
        (DType::I32, DType::Bool) => s.i32_const(0).i32_ne(),
        _ => &mut s,
    };
    Ok(match to {
        DType::F32 => Number::F32(f.take()),
        DType::F64 => Number::F64(f.take()),
        DType::I64 => Number::I64(f.take()),
        DType::Bool => Number::Bool(f.take()),
        DType::I32 | DType::I8 => Number::I32(f.take()),
    })
}

fn unary(f: &mut Func, op: Unary, x: Number) -> Result<Number> {
    match x {
        Number::F32(x) => {
            let result = expr::unary(f, op, x);
            Ok(if op == Unary::IsNan { Number::Bool(f.first_mask(result.bits())) } else { Number::F32(result) })
        }
        Number::F64(x) => unary_f64(f, op, x),
        Number::Bool(x) if op == Unary::Not => Ok(Number::Bool(f.op1(x, |s| {
            s.i32_eqz();
        }))),
        Number::I32(x) => {
            // With 64 bits nothing overflows; the low half is the result.
            let wide: I64 = f.op1(x, |s| {
                s.i64_extend_i32_s();
            });
            let result = unary_i64(f, op, wide, DType::I32)?;
            Ok(Number::I32(f.op1(result, |s| {
                s.i32_wrap_i64();
            })))
        }
        Number::I64(x) => Ok(Number::I64(unary_i64(f, op, x, DType::I64)?)),
        Number::Bool(_) => refuse(op, DType::Bool, "a number"),
    }
}

fn unary_i64(f: &mut Func, op: Unary, x: I64, dtype: DType) -> Result<I64> {
    let zero = f.i64(0);
    let negative: I64 = f.op2(zero, x, |s| {
        s.i64_sub();
    });
    let below: I32 = f.op2(x, zero, |s| {
        s.i64_lt_s();
    });
    Ok(match op {
        Unary::Neg => negative,
        Unary::Abs => choose(f, below, negative, x),
        Unary::Relu => choose(f, below, zero, x),
        Unary::Floor | Unary::Ceil | Unary::Round => x,
        Unary::Sign => {
            f.get(x);
            f.sink().i64_const(0).i64_gt_s();
            f.get(below);
            f.sink().i32_sub().i64_extend_i32_s();
            f.take()
        }
        _ => return refuse(op, dtype, "a float"),
    })
}

fn unary_f64(f: &mut Func, op: Unary, x: F64) -> Result<Number> {
    let function: fn(&mut Func, F64x2) -> F64x2 = match op {
        Unary::Exp => double::exp,
        Unary::Log => double::log,
        Unary::Tanh => double::tanh,
        Unary::Sigmoid => double::sigmoid,
        Unary::Softplus => double::softplus,
        Unary::Sin | Unary::Cos | Unary::Erf | Unary::Not => return refuse(op, DType::F64, "float32"),
        _ => {
            f.get(x);
            let mut s = f.sink();
            match op {
                Unary::Neg => s.f64_neg(),
                Unary::Abs => s.f64_abs(),
                Unary::Sqrt => s.f64_sqrt(),
                Unary::Floor => s.f64_floor(),
                Unary::Ceil => s.f64_ceil(),
                Unary::Round => s.f64_nearest(),
                Unary::Relu => s.f64_const(0.0.into()).f64_max(),
                Unary::IsNan => s.local_get(x.index()).f64_ne(),
                Unary::Sign => {
                    // 1, -1, or the number itself: 0 or NaN.
                    s.drop();
                    s.f64_const(1.0.into()).local_get(x.index()).f64_copysign().local_get(x.index());
                    s.local_get(x.index()).f64_const(0.0.into()).f64_lt();
                    s.local_get(x.index()).f64_const(0.0.into()).f64_gt().i32_or().select()
                }
                _ => {
                    // The reciprocal.
                    s.drop();
                    s.f64_const(1.0.into()).local_get(x.index()).f64_div()
                }
            };
            return Ok(if op == Unary::IsNan { Number::Bool(f.take()) } else { Number::F64(f.take()) });
        }
    };
    let twice = f.splat_f64(x);
    let result = function(f, twice);
    Ok(Number::F64(first(f, result)))
}

fn first(f: &mut Func, x: F64x2) -> F64 {
    f.op1(x, |s| {
        s.f64x2_extract_lane(0);
    })
}

fn binary(f: &mut Func, op: Binary, a: Number, b: Number) -> Result<Number> {
    match (a, b) {
        (Number::F64(a), Number::F64(b)) => binary_f64(f, op, a, b),
        (Number::I32(a), Number::I32(b)) => {
            let [a, b] = [a, b].map(|x| -> I64 {
                f.op1(x, |s| {
                    s.i64_extend_i32_s();
                })
            });
            // Sums and products are right in their low half; so is everything else, except powers, whose low half is right as well.
            Ok(match binary_i64(f, op, a, b, DType::I32)? {
                Number::I64(x) => Number::I32(f.op1(x, |s| {
                    s.i32_wrap_i64();
                })),
                other => other,
            })
        }
        (Number::I64(a), Number::I64(b)) => binary_i64(f, op, a, b, DType::I64),
        (Number::Bool(a), Number::Bool(b)) => {
            f.get(a);
            f.get(b);
            let mut s = f.sink();
            match op {
                Binary::And | Binary::Min | Binary::Mul => s.i32_and(),
                Binary::Or | Binary::Max | Binary::Add => s.i32_or(),
                Binary::Xor => s.i32_xor(),
                Binary::Equal => s.i32_eq(),
                Binary::Less => s.i32_lt_u(),
                Binary::LessOrEqual => s.i32_le_u(),
                _ => return refuse(op, DType::Bool, "a number"),
            };
            Ok(Number::Bool(f.take()))
        }
        _ => refuse(op, b.dtype(), &format!("{} on both sides", a.dtype().name())),
    }
}

fn binary_f64(f: &mut Func, op: Binary, a: F64, b: F64) -> Result<Number> {
    if matches!(op, Binary::Pow | Binary::Mod | Binary::Rem) {
        let (a, b) = (f.splat_f64(a), f.splat_f64(b));
        let result = match op {
            Binary::Pow => double::pow(f, a, b),
            _ => double::remainder(f, a, b, op == Binary::Mod),
        };
        return Ok(Number::F64(first(f, result)));
    }
    f.get(a);
    f.get(b);
    let mut s = f.sink();
    match op {
        Binary::Add => s.f64_add(),
        Binary::Sub => s.f64_sub(),
        Binary::Mul => s.f64_mul(),
        Binary::Div => s.f64_div(),
        Binary::Min => s.f64_min(),
        Binary::Max => s.f64_max(),
        Binary::Equal => s.f64_eq(),
        Binary::Less => s.f64_lt(),
        Binary::LessOrEqual => s.f64_le(),
        _ => return refuse(op, DType::F64, "bool"),
    };
    Ok(if op.compares() { Number::Bool(f.take()) } else { Number::F64(f.take()) })
}

fn binary_i64(f: &mut Func, op: Binary, a: I64, b: I64, dtype: DType) -> Result<Number> {
    let simple = |f: &mut Func, op: Binary| -> I64 {
        f.op2(a, b, |s| {
            match op {
                Binary::Add => s.i64_add(),
                Binary::Sub => s.i64_sub(),
                Binary::Mul => s.i64_mul(),
                Binary::And => s.i64_and(),
                Binary::Or => s.i64_or(),
                _ => s.i64_xor(),
            };
        })
    };
    if op.compares() {
        return Ok(Number::Bool(f.op2(a, b, |s| {
            match op {
                Binary::Equal => s.i64_eq(),
                Binary::Less => s.i64_lt_s(),
                _ => s.i64_le_s(),
            };
        })));
    }
    Ok(Number::I64(match op {
        Binary::Min | Binary::Max => {
            let less: I32 = f.op2(a, b, |s| {
                s.i64_lt_s();
            });
            if op == Binary::Min { choose(f, less, a, b) } else { choose(f, less, b, a) }
        }
        Binary::Pow => power_i64(f, a, b),
        Binary::Div | Binary::Mod | Binary::Rem => {
            // By 0 the result is 0; by -1 nothing is divided: the smallest number would trap.
            f.get(b);
            f.sink().i64_const(1).i64_add().i64_const(2).i64_lt_u();
            let special: I32 = f.take();
            let one = f.i64(1);
            let divisor = choose(f, special, one, b);
            if op == Binary::Div {
                let quotient: I64 = f.op2(a, divisor, |s| {
                    s.i64_div_s();
                });
                let product = simple(f, Binary::Mul);
                choose(f, special, product, quotient)
            } else {
                let rest: I64 = f.op2(a, divisor, |s| {
                    s.i64_rem_s();
                });
                if op == Binary::Rem {
                    rest
                } else {
                    // With the other sign than the divisor: one divisor more.
                    f.get(rest);
                    f.get(divisor);
                    f.sink().i64_xor().i64_const(0).i64_lt_s();
                    f.get(rest);
                    f.sink().i64_const(0).i64_ne().i32_and();
                    let differs: I32 = f.take();
                    let moved: I64 = f.op2(rest, divisor, |s| {
                        s.i64_add();
                    });
                    choose(f, differs, moved, rest)
                }
            }
        }
        Binary::And | Binary::Or | Binary::Xor if dtype != DType::I64 && dtype != DType::I32 => {
            return refuse(op, dtype, "bool");
        }
        _ => simple(f, op),
    }))
}

/// `base^exponent` by squaring. Below 0 the result is 0, unless the base is 1 or -1.
fn power_i64(f: &mut Func, base: I64, exponent: I64) -> I64 {
    f.get(base);
    f.sink().i64_const(1).i64_add().i64_const(3).i64_lt_u();
    // -1, 0 or 1: the sign of the exponent does not matter (but 0 to a negative power is 0 here).
    let small: I32 = f.take();
    f.get(exponent);
    f.sink().i64_const(0).i64_lt_s();
    let below: I32 = f.take();
    let zero = f.i64(0);
    let negative: I64 = f.op2(zero, exponent, |s| {
        s.i64_sub();
    });
    let left = choose(f, below, negative, exponent);
    let (square, result) = (f.copy(base), f.i64(1));
    f.repeat(63, |f| {
        f.get(result);
        f.get(square);
        f.sink().i64_const(1);
        f.get(left);
        f.sink().i64_const(1).i64_and().i32_wrap_i64().select().i64_mul().local_set(result.index());
        f.get(square);
        f.get(square);
        f.sink().i64_mul().local_set(square.index());
        f.get(left);
        f.sink().i64_const(1).i64_shr_u().local_set(left.index());
    });
    let fraction: I32 = f.op2(below, small, |s| {
        s.i32_gt_u();
    });
    choose(f, fraction, zero, result)
}
