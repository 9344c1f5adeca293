//! Operators of `ai.onnx.ml`, tree ensembles aside.

use super::{Builder, Call};
use crate::error::Result;
use crate::ir::Operand;

/// Lowers a node; `None` where its operator is none of these.
pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    let _ = (builder, call);
    Ok(None)
}
