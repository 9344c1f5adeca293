use std::collections::HashMap;

use super::Call;
use crate::error::{CompileError, Result};
use crate::ir::{DType, Expr, Graph, Node, Op, Operand, ValueId};

/// Builds the IR of one graph.
#[derive(Debug)]
pub(crate) struct Builder {
    pub(crate) graph: Graph,
    /// Versions of the operator sets by domain.
    pub(crate) opsets: HashMap<String, i64>,
    /// Texts that the numbers of an output index, by its name.
    pub(crate) labels: HashMap<String, Vec<String>>,
    known: HashMap<String, Operand>,
}

impl Builder {
    pub(crate) fn new(opsets: HashMap<String, i64>) -> Self {
        Self { graph: Graph::default(), opsets, labels: HashMap::new(), known: HashMap::new() }
    }

    /// Gives an operand a name of the ONNX graph.
    pub(crate) fn define(&mut self, name: &str, operand: Operand) -> Result<()> {
        match self.known.insert(name.to_owned(), operand) {
            Some(_) => Err(CompileError::model(format!("value `{name}` is defined twice"))),
            None => Ok(()),
        }
    }

    /// What a name of the ONNX graph stands for.
    pub(crate) fn find(&self, name: &str) -> Result<Operand> {
        let found = self.known.get(name).cloned();
        found.ok_or_else(|| CompileError::model(format!("value `{name}` is read before it is defined")))
    }

    /// Adds a node with one output and returns the output.
    pub(crate) fn add(
        &mut self,
        name: &str,
        op: Op,
        inputs: Vec<Operand>,
        dtype: DType,
        shape: &[usize],
    ) -> Result<Operand> {
        let output = self.graph.add_value(name, dtype, shape)?;
        self.graph.nodes.push(Node { name: name.to_owned(), op, inputs, outputs: vec![Some(output)] });
        Ok(Operand::whole(output, shape))
    }

    /// An expression over operands that are broadcast to one shape.
    pub(crate) fn map(&mut self, call: &Call<'_>, expr: Expr, inputs: &[&Operand]) -> Result<Operand> {
        let shape = broadcast_shape(inputs.iter().map(|input| input.shape.as_slice())).ok_or_else(|| {
            let shapes = inputs.iter().map(|input| format!("{:?}", input.shape)).collect::<Vec<_>>().join(", ");
            call.error(format!("shapes {shapes} do not broadcast"))
        })?;
        let types: Vec<DType> = inputs.iter().map(|input| self.graph.dtype(input)).collect();
        let dtype = expr.dtype(&types, DType::F32);
        let views = inputs.iter().filter_map(|input| input.broadcast(&shape)).collect();
        self.add(&call.name, Op::Map(expr), views, dtype, &shape)
    }

    /// The operand as a whole value that a node wrote; copies where it is a view, a constant or an input.
    pub(crate) fn materialized(&mut self, name: &str, operand: &Operand) -> Result<ValueId> {
        let value = self.graph.value(operand.value);
        let is_written = self.graph.nodes.iter().any(|node| node.outputs.contains(&Some(operand.value)));
        let is_output = self.graph.outputs.iter().any(|(_, id)| *id == operand.value);
        if is_written
            && !is_output
            && operand.len() == value.len()
            && value.shape == operand.shape
            && operand.is_contiguous()
        {
            return Ok(operand.value);
        }
        let dtype = value.dtype;
        Ok(self.add(name, Op::Map(Expr::Input(0)), vec![operand.clone()], dtype, &operand.shape)?.value)
    }
}

/// The shape that all broadcast to (aligned at the last axes).
pub(crate) fn broadcast_shape<'a>(shapes: impl Iterator<Item = &'a [usize]>) -> Option<Vec<usize>> {
    let mut all = Vec::<usize>::new();
    for shape in shapes {
        while all.len() < shape.len() {
            all.insert(0, 1);
        }
        let missing = all.len() - shape.len();
        for (size, &other) in all[missing..].iter_mut().zip(shape) {
            match (*size, other) {
                (a, b) if a == b => {}
                (1, other) => *size = other,
                (_, 1) => {}
                _ => return None,
            }
        }
    }
    Some(all)
}
