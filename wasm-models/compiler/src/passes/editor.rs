//! What passes need to know of a graph while they change it.

use crate::error::Result;
use crate::ir::{DType, Data, Expr, Graph, Node, Op, Operand, Scalar, ValueId};

/// A graph with the readers of its values counted and their writers known. Nodes keep their places; removed ones write nothing.
pub(super) struct Editor<'a> {
    pub(super) graph: &'a mut Graph,
    reads: Vec<usize>,
    writers: Vec<Option<usize>>,
    is_output: Vec<bool>,
}

impl<'a> Editor<'a> {
    pub(super) fn new(graph: &'a mut Graph) -> Self {
        let len = graph.values.len();
        let (mut reads, mut writers, mut is_output) = (vec![0; len], vec![None; len], vec![false; len]);
        for (index, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|input| reads[input.value.0] += 1);
            node.outputs.iter().flatten().for_each(|output| writers[output.0] = Some(index));
        }
        graph.outputs.iter().for_each(|(_, id)| is_output[id.0] = true);
        Self { graph, reads, writers, is_output }
    }

    pub(super) fn len(&self) -> usize {
        self.graph.nodes.len()
    }

    pub(super) fn node(&self, index: usize) -> &Node {
        &self.graph.nodes[index]
    }

    /// Operands of nodes that read a value.
    pub(super) fn reads(&self, value: ValueId) -> usize {
        self.reads[value.0]
    }

    /// The node that writes a value.
    pub(super) fn writer(&self, value: ValueId) -> Option<usize> {
        self.writers[value.0]
    }

    pub(super) fn is_output(&self, value: ValueId) -> bool {
        self.is_output[value.0]
    }

    /// The node that writes what only this operand reads.
    pub(super) fn own_writer(&self, operand: &Operand) -> Option<usize> {
        if self.reads(operand.value) != 1 || self.is_output(operand.value) {
            return None;
        }
        self.writer(operand.value)
    }

    /// Replaces what a node computes and reads.
    pub(super) fn replace(&mut self, index: usize, op: Op, inputs: Vec<Operand>) {
        inputs.iter().for_each(|input| self.reads[input.value.0] += 1);
        let node = &mut self.graph.nodes[index];
        node.op = op;
        for old in std::mem::replace(&mut node.inputs, inputs) {
            self.reads[old.value.0] -= 1;
        }
        self.tidy(index);
    }

    /// Replaces an operand.
    pub(super) fn redirect(&mut self, index: usize, input: usize, operand: Operand) {
        self.reads[operand.value.0] += 1;
        let old = std::mem::replace(&mut self.graph.nodes[index].inputs[input], operand);
        self.reads[old.value.0] -= 1;
    }

    /// Lets a node write a value that another one wrote.
    pub(super) fn take_output(&mut self, index: usize, output: ValueId) {
        self.graph.nodes[index].outputs = vec![Some(output)];
        self.writers[output.0] = Some(index);
    }

    /// Takes a node out; another one has its output, or nobody reads it.
    pub(super) fn remove(&mut self, index: usize) {
        let node = &mut self.graph.nodes[index];
        node.op = Op::Map(Expr::Const(Scalar::Bool(false)));
        let (inputs, outputs) = (std::mem::take(&mut node.inputs), std::mem::take(&mut node.outputs));
        inputs.iter().for_each(|input| self.reads[input.value.0] -= 1);
        for output in outputs.into_iter().flatten() {
            if self.writers[output.0] == Some(index) {
                self.writers[output.0] = None;
            }
        }
    }

    pub(super) fn add_constant(&mut self, name: &str, shape: &[usize], data: Data) -> Result<Operand> {
        let id = self.graph.add_constant(name, shape, data)?;
        self.grow();
        Ok(Operand::whole(id, shape))
    }

    pub(super) fn add_value(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Result<ValueId> {
        let id = self.graph.add_value(name, dtype, shape)?;
        self.grow();
        Ok(id)
    }

    fn grow(&mut self) {
        self.reads.push(0);
        self.writers.push(None);
        self.is_output.push(false);
    }

    /// Drops inputs of a node's expression that are equal to others, or that it does not use.
    pub(super) fn tidy(&mut self, index: usize) {
        let node = &mut self.graph.nodes[index];
        let first = first_leaf(&node.op);
        let Some(expr) = expression(&mut node.op) else { return };
        let mut kept = Vec::<Operand>::new();
        *expr = expr.map_leaves(&mut |leaf| match leaf {
            Expr::Input(old) => {
                let operand = &node.inputs[*old];
                let place = kept.iter().position(|other| other == operand).unwrap_or_else(|| {
                    kept.push(operand.clone());
                    kept.len() - 1
                });
                Expr::Input(first + place)
            }
            other => other.clone(),
        });
        kept.iter().for_each(|input| self.reads[input.value.0] += 1);
        for old in node.inputs.splice(first.., kept) {
            self.reads[old.value.0] -= 1;
        }
    }

    /// Removes what no output needs.
    pub(super) fn finish(self) {
        let mut needed = self.is_output;
        let graph = self.graph;
        let mut kept = Vec::new();
        for mut node in std::mem::take(&mut graph.nodes).into_iter().rev() {
            let is_needed = |id: &Option<ValueId>| id.is_some_and(|id| needed[id.0]);
            if !node.outputs.iter().any(is_needed) {
                continue;
            }
            if matches!(node.op, Op::Recurrent { .. }) {
                node.outputs.iter_mut().for_each(|output| *output = output.filter(|id| needed[id.0]));
            }
            node.inputs.iter().for_each(|input| needed[input.value.0] = true);
            kept.push(node);
        }
        kept.reverse();
        graph.nodes = kept;
    }
}

/// The expression of a Map or an epilogue.
pub(super) fn expression(op: &mut Op) -> Option<&mut Expr> {
    match op {
        Op::Map(expr) | Op::MatMul { epilogue: expr, .. } | Op::Conv { epilogue: expr, .. } => Some(expr),
        _ => None,
    }
}

/// The first input that the expression of a node reads.
pub(super) fn first_leaf(op: &Op) -> usize {
    if matches!(op, Op::Map(_)) { 0 } else { 2 }
}

/// How often an expression reads an input.
pub(super) fn uses(expr: &Expr, leaf: &Expr) -> usize {
    let mut count = 0;
    let _ = expr.map_leaves(&mut |other| {
        count += usize::from(other == leaf);
        other.clone()
    });
    count
}

/// The number of functions in an expression, and whether all are such that one instruction does them.
pub(super) fn cost(expr: &Expr) -> (usize, bool) {
    use crate::ir::{Binary, Unary};
    let (own, parts): (bool, Vec<&Expr>) = match expr {
        Expr::Input(_) | Expr::Result | Expr::Const(_) => return (0, true),
        Expr::Unary(op, x) => (matches!(op, Unary::Neg | Unary::Abs | Unary::Relu | Unary::Not), vec![x.as_ref()]),
        Expr::Binary(op, a, b) => {
            (!matches!(op, Binary::Div | Binary::Pow | Binary::Mod | Binary::Rem), vec![a.as_ref(), b.as_ref()])
        }
        Expr::Select(c, a, b) => (true, vec![c.as_ref(), a.as_ref(), b.as_ref()]),
        Expr::Cast(_, x) => (false, vec![x.as_ref()]),
    };
    parts.into_iter().map(cost).fold((1, own), |(n, cheap), (more, other)| (n + more, cheap && other))
}

/// Whether a kernel reads a view along its last dimension in steps of one element.
pub(super) fn is_dense(view: &Operand) -> bool {
    match (view.shape.last(), view.strides.last()) {
        (Some(size), Some(stride)) => *size <= 1 || matches!(stride, 0 | 1),
        _ => true,
    }
}
