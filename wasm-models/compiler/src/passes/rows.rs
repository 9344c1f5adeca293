//! Proves that the rows of a graph do not depend on one another.
//!
//! Of a value that holds rows, the row of an element is `(position / stride) % rows` for some stride: that survives Reshape, even
//! where the rows become part of another dimension. Each operation is followed from its inputs' rows to its output's.

use super::axes;
use crate::error::{CompileError, Result};
use crate::ir::{Graph, Node, Op, Operand};

/// Checks a graph whose inputs and outputs have `rows` (more than 1) as their first dimension.
///
/// # Errors
/// Names the node that mixes rows.
pub(crate) fn check(graph: &Graph, rows: usize) -> Result<()> {
    if rows < 2 {
        return Ok(());
    }
    // Elements from one row to the next, of values that hold rows.
    let mut strides = vec![None::<usize>; graph.values.len()];
    for id in &graph.inputs {
        strides[id.0] = Some(graph.value(*id).len() / rows).filter(|stride| *stride > 0);
    }
    for node in &graph.nodes {
        follow(graph, node, rows, &mut strides)?;
    }
    for (name, id) in &graph.outputs {
        let value = graph.value(*id);
        let wrong = |reason: &str| Err(CompileError::model(format!("output `{name}` {reason}")));
        match strides[id.0] {
            Some(stride) if stride * rows != value.len() => {
                return wrong("does not have the rows as its first dimension");
            }
            Some(_) => {}
            None if value.is_empty() => {}
            None => {
                let writer = graph.nodes.iter().find(|node| node.outputs.contains(&Some(*id)));
                let copies = |node: &Node| matches!(node.op, Op::Map(_)) && value.shape.first() == Some(&rows);
                let is_equal = |input: &Operand| is_equal_for_rows(graph, input, 0, 1, rows);
                if !writer.is_some_and(|node| copies(node) && node.inputs.iter().all(is_equal)) {
                    return wrong("does not depend on the inputs, and differs between rows");
                }
            }
        }
    }
    Ok(())
}

fn follow(graph: &Graph, node: &Node, rows: usize, strides: &mut [Option<usize>]) -> Result<()> {
    let mixes =
        || CompileError::node(&node.name, "mixes the rows of a batch, expected rows that do not depend on one another");
    let shape = match node.op {
        Op::Recurrent { hidden, .. } => vec![node.inputs[0].shape[0], node.inputs[0].shape[1], hidden],
        _ => node.outputs.iter().flatten().next().map_or(Vec::new(), |id| graph.value(*id).shape.clone()),
    };
    let axes = axes::of_inputs(graph, node);
    // The dimension of the output that holds the rows, and how many elements of it are one row's.
    let mut found = None;
    for (input, axes) in node.inputs.iter().zip(&axes) {
        let Some(stride) = strides[input.value.0].filter(|_| !input.is_empty()) else { continue };
        let (axis, minor) = row_axis(graph, input, stride, rows).ok_or_else(mixes)?;
        let place = (axes[axis].ok_or_else(mixes)?, minor);
        if found.is_some_and(|found| found != place) {
            return Err(mixes());
        }
        found = Some(place);
    }
    let Some((axis, minor)) = found else { return Ok(()) };
    for (input, axes) in node.inputs.iter().zip(&axes).filter(|(input, _)| strides[input.value.0].is_none()) {
        if let Some(own) = axes.iter().position(|place| *place == Some(axis))
            && !is_equal_for_rows(graph, input, own, minor, rows)
        {
            let reason = "reads constants that differ between the rows of a batch, expected the same for each row";
            return Err(CompileError::node(&node.name, reason));
        }
    }
    let stride = minor * shape[axis + 1..].iter().product::<usize>();
    for output in node.outputs.iter().flatten() {
        strides[output.0] = Some(stride).filter(|stride| *stride > 0);
    }
    Ok(())
}

/// The dimension of a view along which the rows lie, and how many of its elements one row has: the row is `i[axis] / minor % rows`.
fn row_axis(graph: &Graph, view: &Operand, stride: usize, rows: usize) -> Option<(usize, usize)> {
    let len = graph.value(view.value).len();
    let digits = view.digits(&[len / (rows * stride), rows, stride])?;
    let mut parts = digits.parts.iter().filter(|part| part.steps[1] != 0);
    let part = parts.next()?;
    let all = part.size == rows && part.steps[1] == 1 && parts.next().is_none();
    all.then_some((part.axis, part.minor))
}

/// Whether a view of what holds no rows reads the same for each row.
fn is_equal_for_rows(graph: &Graph, view: &Operand, axis: usize, minor: usize, rows: usize) -> bool {
    if view.strides[axis] == 0 || view.is_empty() {
        return true;
    }
    let Some(data) = &graph.value(view.value).data else { return false };
    let inner: usize = view.shape[axis + 1..].iter().product();
    let first = view.positions().enumerate().map(|(flat, at)| {
        let row = flat / inner % view.shape[axis] / minor % rows;
        at.wrapping_add_signed(-view.strides[axis] * (minor * row) as isize)
    });
    data.pick(view.positions()).to_bytes() == data.pick(first).to_bytes()
}

#[cfg(test)]
mod tests;
