//! Code for each operation of the IR.
//!
//! A node becomes a function without parameters: all addresses are known. Loops have constant counts, so a module ends by
//! construction. The sum order of a row does not depend on the number of rows.

#[cfg(test)]
mod bench;
mod concat;
mod conv;
mod copy;
mod expr;
mod gather;
mod loops;
mod map;
mod math;
pub(crate) mod matmul;
mod micro;
mod normalize;
mod pad;
mod product;
pub(crate) mod recurrent;
mod reduce;
mod repack;
mod rows;
mod scalar;
mod softmax;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod testing;
mod trees;

use crate::emit::Func;
use crate::error::Result;
use crate::ir::{DType, Graph, Node, Op, Operand, ValueId};
use crate::plan::Plan;

/// Bytes that a kernel may read behind a value, or write behind one that it owns: of scratch memory and results, not of constants.
pub(crate) const SLACK: usize = 16;

/// What a kernel knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cx<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) plan: &'a Plan,
    /// The node's place in the graph.
    pub(crate) index: usize,
}

impl Cx<'_> {
    /// The address of the first element of an operand.
    pub(crate) fn address(&self, operand: &Operand) -> u32 {
        self.plan.address(operand.value) + (operand.offset * self.dtype(operand).size()) as u32
    }

    /// The address of a value.
    pub(crate) fn result(&self, value: ValueId) -> u32 {
        self.plan.address(value)
    }

    /// The address of the node's scratch memory.
    pub(crate) fn scratch(&self) -> u32 {
        self.plan.scratch(self.index)
    }

    /// The type of an operand.
    pub(crate) fn dtype(&self, operand: &Operand) -> DType {
        self.graph.dtype(operand)
    }
}

/// Bytes of scratch memory that a node's kernel needs.
pub(crate) fn scratch_bytes(graph: &Graph, node: &Node) -> usize {
    match &node.op {
        Op::MatMul { packing, .. } => matmul::scratch_bytes(graph, node, *packing),
        Op::Conv { packing, .. } => conv::scratch_bytes(graph, node, *packing),
        Op::Recurrent { .. } => recurrent::scratch_bytes(graph, node),
        Op::Trees(trees) => trees::scratch_bytes(graph, node, trees),
        _ => 0,
    }
}

/// Writes the code of a node.
pub(crate) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node) -> Result<()> {
    match &node.op {
        Op::Map(expr) => map::emit(f, cx, node, expr),
        Op::MatMul { epilogue, packing } => matmul::emit(f, cx, node, epilogue, *packing),
        Op::Conv { .. } => conv::emit(f, cx, node),
        Op::Recurrent { .. } => recurrent::emit(f, cx, node),
        Op::Reduce { kind, axes } => reduce::emit(f, cx, node, *kind, *axes),
        Op::Softmax { log } => softmax::emit(f, cx, node, *log),
        Op::Normalize { epsilon } => normalize::emit(f, cx, node, *epsilon),
        Op::Gather { axis } => gather::emit(f, cx, node, *axis),
        Op::Concat { axis } => concat::emit(f, cx, node, *axis),
        Op::Pad { before, fill } => pad::emit(f, cx, node, before, *fill),
        Op::Trees(trees) => trees::emit(f, cx, node, trees),
    }
}
