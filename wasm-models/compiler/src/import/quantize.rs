//! Dequantised weights.

use super::{Builder, Call};
use crate::error::Result;
use crate::ir::{Binary, Expr, Operand};

/// Lowers a node; `None` where its operator is none of these. Of constants, the result is a constant.
pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    if call.op != "DequantizeLinear" {
        return Ok(None);
    }
    let (x, scale) = (call.input(0)?.clone(), call.input(1)?.clone());
    let dtype = builder.graph.dtype(&scale);
    if !dtype.is_float() {
        return Err(call.error(format!("the scale is {}, expected float32 or float64", dtype.name())));
    }
    if call.int("block_size", 0) != 0 {
        return Err(
            call.error("`block_size` is not lowered, expected a scale for all or for each entry of a dimension")
        );
    }
    let axis = if scale.len() == 1 { None } else { Some(call.axis(call.int("axis", 1), x.rank())?) };
    // Next to the dimension that it belongs to.
    let placed = |it: &Operand, what: &str| match axis {
        _ if it.len() == 1 => Ok(Operand { shape: Vec::new(), strides: Vec::new(), ..it.clone() }),
        Some(axis) if it.shape == [x.shape[axis]] => {
            Ok((axis + 1..x.rank()).fold(it.clone(), |it, _| it.unsqueezed(it.rank())))
        }
        _ => Err(call.error(format!("a {what} of shape {:?} does not fit {:?}", it.shape, x.shape))),
    };
    let scale = placed(&scale, "scale")?;
    let float = |index| Expr::Cast(dtype, Box::new(Expr::Input(index)));
    let result = match call.optional(2) {
        Some(zero) => {
            let zero = placed(zero, "zero point")?;
            let shifted = Expr::binary(Binary::Sub, float(0), float(2));
            builder.map(call, Expr::binary(Binary::Mul, shifted, Expr::Input(1)), &[&x, &scale, &zero])?
        }
        None => builder.map(call, Expr::binary(Binary::Mul, float(0), Expr::Input(1)), &[&x, &scale])?,
    };
    Ok(Some(vec![result]))
}
