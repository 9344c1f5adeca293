//! Layouts: values in the order in which their writers and readers walk over them, channels last between convolutions.

use super::editor::is_dense;
use super::fuse;
use crate::error::Result;
use crate::ir::{Expr, Graph, Node, Op, Operand, Packing, ValueId};

/// Shorter last dimensions leave lanes of a vector empty.
const LANES: usize = 4;

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    // A change makes its neighbours worth changing: chains settle from their ends.
    for _ in 0..4 {
        let readers = readers(graph);
        let mut changed = false;
        for index in 0..graph.nodes.len() {
            changed |= permute(graph, &readers, index);
        }
        if !changed {
            break;
        }
    }
    // What stood transposed to a convolution may be its epilogue now.
    fuse::run(graph)?;
    dense_inputs(graph)
}

fn readers(graph: &Graph) -> Vec<Vec<(usize, usize)>> {
    let mut readers = vec![Vec::new(); graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        for (input, operand) in node.inputs.iter().enumerate() {
            readers[operand.value.0].push((index, input));
        }
    }
    readers
}

/// Computes a Map, Pad or Concat with its dimensions in another order where fewer elements are read in strides then.
fn permute(graph: &mut Graph, readers: &[Vec<(usize, usize)>], index: usize) -> bool {
    let node = &graph.nodes[index];
    let (Op::Map(_) | Op::Pad { .. } | Op::Concat { .. }, [Some(output)]) = (&node.op, &node.outputs[..]) else {
        return false;
    };
    let output = *output;
    let shape = &graph.value(output).shape;
    if shape.len() < 2 || graph.value(output).is_empty() || graph.outputs.iter().any(|(_, id)| *id == output) {
        return false;
    }
    let same: Vec<usize> = (0..shape.len()).collect();
    let Some(mut best) = cost(graph, &readers[output.0], index, output, &same) else { return false };
    let mut found = None;
    for order in orders(graph, node, shape) {
        let narrows = shape[order[order.len() - 1]] < LANES.min(shape[shape.len() - 1]);
        if let Some(cost) =
            cost(graph, &readers[output.0], index, output, &order).filter(|cost| *cost < best && !narrows)
        {
            best = cost;
            found = Some(order);
        }
    }
    let Some(order) = found else { return false };
    apply(graph, &readers[output.0], index, output, &order);
    true
}

/// Orders that make an input contiguous, or a dimension the last one.
fn orders(graph: &Graph, node: &Node, shape: &[usize]) -> Vec<Vec<usize>> {
    let mut orders = Vec::new();
    for input in node.inputs.iter().filter(|input| graph.value(input.value).data.is_none()) {
        let mut order: Vec<usize> = (0..shape.len()).collect();
        order.sort_by_key(|&axis| std::cmp::Reverse(input.strides[axis].unsigned_abs()));
        orders.push(order);
    }
    for last in 0..shape.len() - 1 {
        let mut order: Vec<usize> = (0..shape.len()).filter(|axis| *axis != last).collect();
        order.push(last);
        orders.push(order);
    }
    orders.dedup();
    orders
}

/// How a reader sees a value that is stored in another order.
fn seen(view: &Operand, output: ValueId, shape: &[usize], order: &[usize]) -> Option<Operand> {
    let stored: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let mut inverse = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, &axis)| inverse[axis] = place);
    view.composed(&Operand::whole(output, &stored).transposed(&inverse))
}

/// Elements that are read in strides; `None` where a reader's view would be no view.
fn cost(graph: &Graph, readers: &[(usize, usize)], index: usize, output: ValueId, order: &[usize]) -> Option<usize> {
    let of = |view: &Operand| if is_dense(view) { 0 } else { view.len() };
    let inputs = graph.nodes[index].inputs.iter().map(|input| of(&input.transposed(order))).sum::<usize>();
    let shape = &graph.value(output).shape;
    let mut total = inputs;
    for &(reader, input) in readers {
        let reader = &graph.nodes[reader];
        let view = seen(&reader.inputs[input], output, shape, order)?;
        let times = if matches!(reader.op, Op::Conv { .. }) { 2 } else { 1 };
        total = total.saturating_add(of(&view) * times);
    }
    Some(total)
}

fn apply(graph: &mut Graph, readers: &[(usize, usize)], index: usize, output: ValueId, order: &[usize]) {
    let shape = graph.value(output).shape.clone();
    for &(reader, input) in readers {
        let operand = &mut graph.nodes[reader].inputs[input];
        if let Some(view) = seen(operand, output, &shape, order) {
            *operand = view;
        }
    }
    let node = &mut graph.nodes[index];
    for input in &mut node.inputs {
        *input = input.transposed(order);
    }
    match &mut node.op {
        Op::Pad { before, .. } => *before = order.iter().map(|&axis| before[axis]).collect(),
        Op::Concat { axis } => *axis = order.iter().position(|own| own == axis).unwrap_or(*axis),
        _ => {}
    }
    graph.values[output.0].shape = order.iter().map(|&axis| shape[axis]).collect();
}

/// Copies the inputs of convolutions that are not contiguous along the channels: each element is read for every tap and panel.
fn dense_inputs(graph: &mut Graph) -> Result<()> {
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for mut node in std::mem::take(&mut graph.nodes) {
        if matches!(node.op, Op::Conv { packing: Packing::None, .. }) && !is_dense(&node.inputs[0]) {
            let input = &node.inputs[0];
            let name = format!("{}.input", node.name);
            let copy = graph.add_value(&name, graph.dtype(input), &input.shape)?;
            let whole = Operand::whole(copy, &input.shape);
            let input = std::mem::replace(&mut node.inputs[0], whole);
            nodes.push(Node { name, op: Op::Map(Expr::Input(0)), inputs: vec![input], outputs: vec![Some(copy)] });
        }
        nodes.push(node);
    }
    graph.nodes = nodes;
    Ok(())
}

#[cfg(test)]
mod tests;
