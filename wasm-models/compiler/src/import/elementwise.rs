//! What computes element by element.

use super::{Builder, Call};
use crate::error::Result;
use crate::ir::{Binary, Expr, Operand, Unary};

pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    let binary = match call.op {
        "Add" => Some(Binary::Add),
        "Sub" => Some(Binary::Sub),
        "Mul" => Some(Binary::Mul),
        _ => None,
    };
    if let Some(op) = binary {
        let expr = Expr::binary(op, Expr::Input(0), Expr::Input(1));
        return Ok(Some(vec![builder.map(call, expr, &[call.input(0)?, call.input(1)?])?]));
    }
    let unary = match call.op {
        "Relu" => Unary::Relu,
        _ => return Ok(None),
    };
    Ok(Some(vec![builder.map(call, Expr::unary(unary, Expr::Input(0)), &[call.input(0)?])?]))
}
