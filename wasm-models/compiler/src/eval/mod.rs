//! Computes nodes of the IR directly and slowly: folds constants, and says in tests what a kernel should give.

mod map;
mod recurrent;

use std::collections::HashMap;

use crate::error::{CompileError, Result};
use crate::ir::{DType, Data, Graph, Node, Op, ValueId};

/// An input of a node: its elements in the order of the view, and its shape.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

/// The outputs of a node, those that nobody reads included where that is simplest.
pub(crate) fn node(node: &Node, inputs: &[Input], output_types: &[DType]) -> Result<Vec<Data>> {
    match &node.op {
        Op::Map(expr) => map::eval(expr, inputs, output_types[0]).map(|data| vec![data]),
        Op::Recurrent { .. } => recurrent::eval(node, inputs),
        _ => Err(CompileError::node(&node.name, "cannot be computed when compiling")),
    }
}

/// All outputs of a graph.
#[cfg(test)]
pub(crate) fn graph(graph: &Graph, inputs: &[Data]) -> Vec<Data> {
    let mut known: HashMap<ValueId, Data> = graph.inputs.iter().copied().zip(inputs.iter().cloned()).collect();
    for (index, value) in graph.values.iter().enumerate() {
        if let Some(data) = &value.data {
            known.insert(ValueId(index), (**data).clone());
        }
    }
    for it in &graph.nodes {
        let inputs: Vec<Input> = it
            .inputs
            .iter()
            .map(|input| Input { shape: input.shape.clone(), data: known[&input.value].pick(input.positions()) })
            .collect();
        let types: Vec<DType> = it.outputs.iter().map(|id| id.map_or(DType::F32, |id| graph.value(id).dtype)).collect();
        let results = node(it, &inputs, &types).expect("a node that can be computed");
        for (id, data) in it.outputs.iter().zip(results) {
            if let Some(id) = id {
                known.insert(*id, data);
            }
        }
    }
    graph.outputs.iter().map(|(_, id)| known[id].clone()).collect()
}
