//! What computes element by element.

use super::{Builder, Call, tensor};
use crate::error::Result;
use crate::ir::{Binary, DType, Data, Expr, Operand, Scalar, Unary};

pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    if call.int("broadcast", 0) != 0 {
        return Err(call.error("broadcasting by attributes (before operator set 7) is not lowered"));
    }
    let result = match call.op {
        "Identity" => call.input(0)?.clone(),
        "Dropout" => return dropout(builder, call).map(Some),
        "Add" | "Sub" | "Mul" | "Div" | "And" | "Or" | "Xor" | "Equal" | "Less" | "LessOrEqual" | "Greater"
        | "GreaterOrEqual" => {
            let (a, b) = (Expr::Input(0), Expr::Input(1));
            let expr = match call.op {
                "Add" => Expr::binary(Binary::Add, a, b),
                "Sub" => Expr::binary(Binary::Sub, a, b),
                "Mul" => Expr::binary(Binary::Mul, a, b),
                "Div" => Expr::binary(Binary::Div, a, b),
                "And" => Expr::binary(Binary::And, a, b),
                "Or" => Expr::binary(Binary::Or, a, b),
                "Xor" => Expr::binary(Binary::Xor, a, b),
                "Equal" => Expr::binary(Binary::Equal, a, b),
                "Less" => Expr::binary(Binary::Less, a, b),
                "LessOrEqual" => Expr::binary(Binary::LessOrEqual, a, b),
                "Greater" => Expr::binary(Binary::Less, b, a),
                _ => Expr::binary(Binary::LessOrEqual, b, a),
            };
            builder.map(call, expr, &[call.input(0)?, call.input(1)?])?
        }
        "Pow" => pow(builder, call)?,
        "Mod" => {
            let dtype = builder.graph.dtype(call.input(0)?);
            let op = if call.int("fmod", 0) != 0 { Binary::Rem } else { Binary::Mod };
            if op == Binary::Mod && dtype.is_float() {
                return Err(call.error("`fmod` is 0 for floats, expected 1"));
            }
            builder.map(call, Expr::binary(op, Expr::Input(0), Expr::Input(1)), &[call.input(0)?, call.input(1)?])?
        }
        "Sum" | "Mean" | "Min" | "Max" => variadic(builder, call)?,
        "Where" => {
            let expr = Expr::select(Expr::Input(0), Expr::Input(1), Expr::Input(2));
            builder.map(call, expr, &[call.input(0)?, call.input(1)?, call.input(2)?])?
        }
        "Cast" => {
            let code = call.int("to", 0);
            let dtype = i32::try_from(code).ok().and_then(tensor::dtype);
            let dtype = dtype.ok_or_else(|| {
                call.error(format!(
                    "a cast to type {} is not lowered, expected {}",
                    tensor::name(code),
                    tensor::ACCEPTED
                ))
            })?;
            cast(builder, call, call.input(0)?, dtype)?
        }
        "CastLike" => {
            let dtype = builder.graph.dtype(call.input(1)?);
            cast(builder, call, call.input(0)?, dtype)?
        }
        "Clip" => clip(builder, call)?,
        "PRelu" => {
            let (x, slope) = (call.input(0)?, call.input(1)?);
            let zero = Expr::Const(Scalar::of(builder.graph.dtype(x), 0.0));
            let negative = Expr::binary(Binary::Less, Expr::Input(0), zero);
            let scaled = Expr::binary(Binary::Mul, Expr::Input(1), Expr::Input(0));
            let result = builder.map(call, Expr::select(negative, scaled, Expr::Input(0)), &[x, slope])?;
            if result.shape != x.shape {
                let (slope, x) = (&slope.shape, &x.shape);
                return Err(call.error(format!("a slope of shape {slope:?} does not broadcast to {x:?}")));
            }
            result
        }
        _ => {
            let dtype = match call.optional(0) {
                Some(x) => builder.graph.dtype(x),
                None => return Ok(None),
            };
            let Some(expr) = function(call, dtype)? else { return Ok(None) };
            builder.map(call, expr, &[call.input(0)?])?
        }
    };
    Ok(Some(vec![result]))
}

/// A change of type.
pub(super) fn cast(builder: &mut Builder, call: &Call<'_>, x: &Operand, dtype: DType) -> Result<Operand> {
    if builder.graph.dtype(x) == dtype {
        return Ok(x.clone());
    }
    builder.map(call, Expr::Cast(dtype, Box::new(Expr::Input(0))), &[x])
}

/// A function of one tensor.
fn function(call: &Call<'_>, dtype: DType) -> Result<Option<Expr>> {
    let x = || Expr::Input(0);
    let number = |value: f64| Expr::Const(Scalar::of(dtype, value));
    let unary = Expr::unary;
    let add = |a, b| Expr::binary(Binary::Add, a, b);
    let sub = |a, b| Expr::binary(Binary::Sub, a, b);
    let mul = |a, b| Expr::binary(Binary::Mul, a, b);
    let div = |a, b| Expr::binary(Binary::Div, a, b);
    let less = |a, b| Expr::binary(Binary::Less, a, b);
    let limit = |x| Expr::binary(Binary::Max, Expr::binary(Binary::Min, x, number(1.0)), number(0.0));
    let alpha = |default: f32| number(f64::from(call.float("alpha", default)));
    let exp = |x| Expr::unary(Unary::Exp, x);
    let simple = |op| Ok(Some(Expr::unary(op, Expr::Input(0))));
    let expr = match call.op {
        "Neg" => return simple(Unary::Neg),
        "Abs" => return simple(Unary::Abs),
        "Sqrt" => return simple(Unary::Sqrt),
        "Reciprocal" => return simple(Unary::Reciprocal),
        "Exp" => return simple(Unary::Exp),
        "Log" => return simple(Unary::Log),
        "Sin" => return simple(Unary::Sin),
        "Cos" => return simple(Unary::Cos),
        "Tanh" => return simple(Unary::Tanh),
        "Sigmoid" => return simple(Unary::Sigmoid),
        "Erf" => return simple(Unary::Erf),
        "Floor" => return simple(Unary::Floor),
        "Ceil" => return simple(Unary::Ceil),
        "Round" => return simple(Unary::Round),
        "Sign" => return simple(Unary::Sign),
        "Relu" => return simple(Unary::Relu),
        "Softplus" => return simple(Unary::Softplus),
        "Not" => return simple(Unary::Not),
        "IsNaN" => return simple(Unary::IsNan),
        "Tan" => div(unary(Unary::Sin, x()), unary(Unary::Cos, x())),
        "Sinh" => mul(sub(exp(x()), exp(unary(Unary::Neg, x()))), number(0.5)),
        "Cosh" => mul(add(exp(x()), exp(unary(Unary::Neg, x()))), number(0.5)),
        "Asinh" => {
            let size = unary(Unary::Abs, x());
            let root = unary(Unary::Sqrt, add(mul(x(), x()), number(1.0)));
            mul(unary(Unary::Sign, x()), unary(Unary::Log, add(size, root)))
        }
        "Acosh" => unary(Unary::Log, add(x(), unary(Unary::Sqrt, sub(mul(x(), x()), number(1.0))))),
        "Atanh" => mul(unary(Unary::Log, div(add(number(1.0), x()), sub(number(1.0), x()))), number(0.5)),
        "IsInf" => {
            let equal = |value| Expr::binary(Binary::Equal, x(), number(value));
            let sides = (call.int("detect_negative", 1) != 0, call.int("detect_positive", 1) != 0);
            if !dtype.is_float() {
                return Err(call.error(format!("the input is {}, expected float32 or float64", dtype.name())));
            }
            match sides {
                (true, true) => Expr::binary(Binary::Or, equal(f64::NEG_INFINITY), equal(f64::INFINITY)),
                (true, false) => equal(f64::NEG_INFINITY),
                (false, true) => equal(f64::INFINITY),
                (false, false) => less(x(), x()),
            }
        }
        "HardSigmoid" => limit(add(mul(alpha(0.2), x()), number(f64::from(call.float("beta", 0.5))))),
        "HardSwish" => mul(x(), limit(add(mul(number(1.0 / 6.0), x()), number(0.5)))),
        "LeakyRelu" => Expr::select(less(x(), number(0.0)), mul(alpha(0.01), x()), x()),
        "Elu" => Expr::select(less(x(), number(0.0)), mul(alpha(1.0), sub(exp(x()), number(1.0))), x()),
        "Selu" => {
            let defaults = if call.version < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
            let gamma = number(f64::from(call.float("gamma", defaults.1)));
            let negative = mul(alpha(defaults.0), sub(exp(x()), number(1.0)));
            mul(gamma, Expr::select(less(number(0.0), x()), x(), negative))
        }
        "Celu" => {
            let negative = mul(alpha(1.0), sub(exp(div(x(), alpha(1.0))), number(1.0)));
            Expr::select(less(x(), number(0.0)), negative, x())
        }
        "ThresholdedRelu" => Expr::select(less(alpha(1.0), x()), x(), number(0.0)),
        "Shrink" => {
            let (bias, lambda) = (f64::from(call.float("bias", 0.0)), f64::from(call.float("lambd", 0.5)));
            let above = Expr::select(less(number(lambda), x()), sub(x(), number(bias)), number(0.0));
            Expr::select(less(x(), number(-lambda)), add(x(), number(bias)), above)
        }
        "Softsign" => div(x(), add(number(1.0), unary(Unary::Abs, x()))),
        "Gelu" => {
            let inner = match call.text("approximate").as_deref() {
                None | Some("none") => unary(Unary::Erf, mul(x(), number(std::f64::consts::FRAC_1_SQRT_2))),
                Some("tanh") => {
                    let cube = mul(mul(mul(x(), x()), x()), number(0.044_715));
                    let factor = (2.0 / std::f64::consts::PI).sqrt();
                    unary(Unary::Tanh, mul(number(factor), add(x(), cube)))
                }
                Some(other) => return Err(call.error(format!("`approximate` is `{other}`, expected `none` or `tanh`"))),
            };
            mul(mul(number(0.5), x()), add(number(1.0), inner))
        }
        "Mish" => mul(x(), unary(Unary::Tanh, unary(Unary::Softplus, x()))),
        "Swish" => mul(x(), unary(Unary::Sigmoid, mul(alpha(1.0), x()))),
        _ => return Ok(None),
    };
    if dtype.is_float() {
        Ok(Some(expr))
    } else {
        Err(call.error(format!("the input is {}, expected float32 or float64", dtype.name())))
    }
}

fn variadic(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let op = match call.op {
        "Min" => Binary::Min,
        "Max" => Binary::Max,
        _ => Binary::Add,
    };
    let mut result = call.input(0)?.clone();
    for index in 1..call.inputs.len() {
        let expr = Expr::binary(op, Expr::Input(0), Expr::Input(1));
        result = builder.map(call, expr, &[&result, call.input(index)?])?;
    }
    if call.op == "Mean" {
        let dtype = builder.graph.dtype(&result);
        let count = Expr::Const(Scalar::of(dtype, call.inputs.len() as f64));
        result = builder.map(call, Expr::binary(Binary::Div, Expr::Input(0), count), &[&result])?;
    }
    Ok(result)
}

/// The number of a constant with one element.
pub(super) fn only_number(builder: &Builder, operand: &Operand) -> Option<f64> {
    if operand.len() != 1 {
        return None;
    }
    match builder.graph.constant(operand)? {
        Data::F32(data) => data.first().map(|x| f64::from(*x)),
        Data::F64(data) => data.first().copied(),
        Data::I32(data) => data.first().map(|x| f64::from(*x)),
        // Larger ones are not exact.
        Data::I64(data) => data.first().filter(|x| x.unsigned_abs() <= 1 << 53).map(|x| *x as f64),
        Data::Bool(data) => data.first().map(|x| f64::from(u8::from(*x))),
        Data::I8(data) => data.first().map(|x| f64::from(*x)),
    }
}

fn pow(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let (base, exponent) = (call.input(0)?, call.input(1)?.clone());
    let dtype = builder.graph.dtype(base);
    let x = || Expr::Input(0);
    let square = || Expr::binary(Binary::Mul, x(), x());
    if dtype.is_float()
        && exponent.rank() <= base.rank()
        && let Some(number) = only_number(builder, &exponent)
    {
        let expr = match number {
            0.5 => Some(Expr::unary(Unary::Sqrt, x())),
            -1.0 => Some(Expr::unary(Unary::Reciprocal, x())),
            1.0 => Some(x()),
            2.0 => Some(square()),
            3.0 => Some(Expr::binary(Binary::Mul, square(), x())),
            _ => None,
        };
        if let Some(expr) = expr {
            return builder.map(call, expr, &[base]);
        }
    }
    let other = builder.graph.dtype(&exponent);
    let pow = |a, b| Expr::binary(Binary::Pow, a, b);
    let to = |dtype, x| Expr::Cast(dtype, Box::new(x));
    let expr = match (dtype.is_float(), other.is_float()) {
        _ if dtype == other => pow(x(), Expr::Input(1)),
        (false, true) => to(dtype, pow(to(other, x()), Expr::Input(1))),
        _ => pow(x(), to(dtype, Expr::Input(1))),
    };
    builder.map(call, expr, &[base, &exponent])
}

fn clip(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?.clone();
    let mut inputs = vec![&x];
    let mut expr = Expr::Input(0);
    if call.version < 11 {
        let dtype = builder.graph.dtype(&x);
        for (name, op) in [("min", Binary::Max), ("max", Binary::Min)] {
            if call.has(name) {
                let limit = Scalar::of(dtype, f64::from(call.float(name, 0.0)));
                expr = Expr::binary(op, expr, Expr::Const(limit));
            }
        }
        return builder.map(call, expr, &inputs);
    }
    for (index, op) in [(1, Binary::Max), (2, Binary::Min)] {
        if let Some(limit) = call.optional(index) {
            if limit.len() != 1 {
                return Err(call.error(format!("input {index} has shape {:?}, expected a scalar", limit.shape)));
            }
            expr = Expr::binary(op, expr, Expr::Input(inputs.len()));
            inputs.push(limit);
        }
    }
    let limits: Vec<Operand> = inputs
        .iter()
        .skip(1)
        .map(|limit| Operand { shape: Vec::new(), strides: Vec::new(), ..(*limit).clone() })
        .collect();
    let inputs: Vec<&Operand> = std::iter::once(&x).chain(&limits).collect();
    builder.map(call, expr, &inputs)
}

/// Does nothing, as always in inference.
fn dropout(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Operand>> {
    let x = call.input(0)?.clone();
    if let Some(training) = call.optional(2)
        && only_number(builder, training) != Some(0.0)
        && call.optional(1).is_none_or(|ratio| only_number(builder, ratio) != Some(0.0))
    {
        return Err(call.error("input 2 (`training_mode`) may be true, expected the constant false"));
    }
    let mut outputs = vec![x.clone()];
    if call.wants(1) {
        let mask = builder.constant(&call.name, &[], Data::Bool(vec![true]))?;
        outputs.extend(mask.broadcast(&x.shape));
    }
    Ok(outputs)
}
