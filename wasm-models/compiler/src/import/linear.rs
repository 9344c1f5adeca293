//! Matrix products and convolutions.

use super::{Builder, Call};
use crate::error::Result;
use crate::ir::{DType, Expr, Op, Operand, Packing};

pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    if call.op != "MatMul" {
        return Ok(None);
    }
    let (a, b) = (call.input(0)?.clone(), call.input(1)?.clone());
    if a.rank() != 2 || b.rank() != 2 || a.shape[1] != b.shape[0] {
        return Err(call.error(format!("shapes {:?} and {:?} are not lowered", a.shape, b.shape)));
    }
    let shape = [a.shape[0], b.shape[1]];
    let op = Op::MatMul { epilogue: Expr::Result, packing: Packing::None };
    Ok(Some(vec![builder.add(&call.name, op, vec![a, b], DType::F32, &shape)?]))
}
