//! Joining tensors.

use super::Cx;
use crate::emit::Func;
use crate::error::{CompileError, Result};
use crate::ir::Node;

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node) -> Result<()> {
    let _ = (f, cx);
    Err(CompileError::node(&node.name, "there is no kernel for it yet"))
}
