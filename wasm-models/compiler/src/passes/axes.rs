//! Which dimensions of an operation's inputs are dimensions of its output.

use crate::ir::{Cell, Graph, Node, Op};

/// For each input and each of its dimensions, the dimension of the output that it is: an element of the output reads the input
/// at its own index there. `None` where it reads at others. Of [`Op::Recurrent`], the output is `[steps, batch, hidden]`.
pub(super) fn of_inputs(graph: &Graph, node: &Node) -> Vec<Vec<Option<usize>>> {
    let inputs = node.inputs.iter().enumerate();
    inputs.map(|(index, input)| (0..input.rank()).map(|axis| of_input(graph, node, index, axis)).collect()).collect()
}

fn of_input(graph: &Graph, node: &Node, input: usize, axis: usize) -> Option<usize> {
    let rank = node.inputs[input].rank();
    match &node.op {
        Op::Map(_) => Some(axis),
        Op::MatMul { .. } => match input {
            0 => (axis + 1 < rank).then_some(axis),
            1 => (axis + 2 != rank).then_some(axis),
            _ => Some(axis),
        },
        Op::Conv { groups, .. } => match input {
            0 => (axis == 0).then_some(0),
            1 => (axis == 2 && *groups == 1).then_some(2),
            _ => Some(axis),
        },
        Op::Recurrent { cell, .. } => match input {
            0 => (axis == 1).then_some(1),
            2 => (axis == 0).then_some(1),
            3 if matches!(cell, Cell::Lstm { .. }) => (axis == 0).then_some(1),
            _ => None,
        },
        Op::Reduce { axes, .. } => (axis + axes < rank).then_some(axis),
        Op::Softmax { .. } | Op::Normalize { .. } => (input == 0 && axis + 1 < rank).then_some(axis),
        Op::Gather { axis: along } => match input {
            0 if axis < *along => Some(axis),
            0 if axis == *along => None,
            0 => Some(axis + node.inputs.get(1)?.rank() - 1),
            _ => Some(along + axis),
        },
        Op::Concat { axis: along } => (axis != *along).then_some(axis),
        Op::Pad { before, .. } => {
            let output = graph.value((*node.outputs.first()?)?);
            (before[axis] == 0 && output.shape[axis] == node.inputs[0].shape[axis]).then_some(axis)
        }
        Op::Trees(_) => (axis == 0).then_some(0),
    }
}
