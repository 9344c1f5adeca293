//! Which expressions are lowered for which types.

use crate::ir::{Binary, DType, Expr, Unary};

/// The type of an expression, or why there is none; `inputs` are the types of what it reads.
pub(super) fn of(expr: &Expr, inputs: &[DType]) -> Result<DType, String> {
    let refused = |what: String, dtype: DType, expected: &str| {
        Err(format!("{what} of {} is not lowered, expected {expected}", dtype.name()))
    };
    match expr {
        // A copy keeps its type.
        Expr::Input(index) => inputs.get(*index).copied().ok_or_else(|| format!("input {index} is missing")),
        Expr::Result => Err("there is no result yet".into()),
        Expr::Const(number) => Ok(number.dtype()),
        Expr::Unary(op, x) => {
            let dtype = of(x, inputs)?;
            let is_number = !matches!(dtype, DType::Bool | DType::I8);
            match op {
                Unary::Not if dtype == DType::Bool => Ok(dtype),
                Unary::Not => refused("`Not`".into(), dtype, "bool"),
                Unary::IsNan if dtype.is_float() => Ok(DType::Bool),
                Unary::Neg | Unary::Abs | Unary::Sign | Unary::Relu if is_number => Ok(dtype),
                _ if dtype.is_float() => Ok(dtype),
                _ => refused(format!("`{op:?}`"), dtype, "float32 or float64"),
            }
        }
        Expr::Binary(op, a, b) => {
            let (dtype, other) = (of(a, inputs)?, of(b, inputs)?);
            if dtype != other {
                return Err(format!("`{op:?}` of {} and {}, expected one type", dtype.name(), other.name()));
            }
            match (op, dtype) {
                (_, DType::I8) => refused(format!("`{op:?}`"), dtype, super::tensor::ACCEPTED),
                (Binary::And | Binary::Or | Binary::Xor, DType::Bool) => Ok(dtype),
                (Binary::And | Binary::Or | Binary::Xor, _) => refused(format!("`{op:?}`"), dtype, "bool"),
                (op, _) if op.compares() => Ok(DType::Bool),
                (_, DType::Bool) => refused(format!("`{op:?}`"), dtype, "numbers"),
                _ => Ok(dtype),
            }
        }
        Expr::Select(condition, yes, no) => {
            let (condition, dtype, other) = (of(condition, inputs)?, of(yes, inputs)?, of(no, inputs)?);
            match condition {
                DType::Bool if dtype == other && dtype != DType::I8 => Ok(dtype),
                DType::Bool => {
                    Err(format!("a choice between {} and {}, expected one type", dtype.name(), other.name()))
                }
                _ => Err(format!("a condition is {}, expected bool", condition.name())),
            }
        }
        Expr::Cast(dtype, x) => {
            let from = of(x, inputs)?;
            if *dtype == DType::I8 { refused("a cast".into(), from, "another type") } else { Ok(*dtype) }
        }
    }
}
