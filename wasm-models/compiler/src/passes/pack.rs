//! Packing: constant weights in the order in which kernels read them.

use std::collections::HashMap;

use crate::error::Result;
use crate::ir::{Data, Graph, Op, Operand, Packing, ValueId};

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    // Weights that several nodes share are packed once.
    let mut known = HashMap::new();
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Some((weights, k, n)) = weights(graph, &node.op, &node.inputs) else { continue };
        let width = width(n);
        let id = match known.get(&(weights.clone(), width)) {
            Some(id) => *id,
            None => packed(graph, &weights, (k, n), width)?,
        };
        known.insert((weights, width), id);
        let node = &mut graph.nodes[index];
        let input = &mut node.inputs[1];
        *input = Operand { value: id, offset: 0, shape: input.shape.clone(), strides: vec![0; input.rank()] };
        if let Op::MatMul { packing, .. } | Op::Conv { packing, .. } = &mut node.op {
            *packing = Packing::Panels { width };
        }
    }
    super::pack_trees::run(graph)
}

/// The view `[k, n]` of a node's weights, where its kernel reads panels of [`width`].
pub(super) fn weights(graph: &Graph, op: &Op, inputs: &[Operand]) -> Option<(Operand, usize, usize)> {
    let input = inputs.get(1)?;
    let data = graph.value(input.value).data.as_ref()?;
    if !matches!(**data, Data::F32(_) | Data::I8(_)) || input.is_empty() {
        return None;
    }
    let (mut view, rank) = (input.clone(), input.rank());
    match op {
        Op::MatMul { packing: Packing::None, .. } => {
            // The same for the whole batch.
            let batch = rank.checked_sub(2)?;
            if input.shape[..batch].iter().zip(&input.strides).any(|(size, stride)| *size != 1 && *stride != 0) {
                return None;
            }
            for _ in 0..batch {
                view = view.squeezed(0);
            }
        }
        Op::Conv { groups: 1, packing: Packing::None, .. } if rank == 3 => {
            let shape = [input.shape[0] * input.shape[1], input.shape[2]];
            view = match view.reshaped(&shape) {
                Some(view) => view,
                // Strides cannot say it: `[taps, in, out]` is packed as it is; only its order counts.
                None => view,
            };
        }
        _ => return None,
    }
    let n = view.shape[view.rank() - 1];
    let k = view.len() / n;
    Some((view, k, n))
}

/// Columns of a panel.
fn width(n: usize) -> usize {
    if n <= 4 { 4 } else { 8 }
}

/// Adds a constant `[n / width][k][width]` of a view `[.., n]` whose other axes make `k`.
pub(super) fn packed(graph: &mut Graph, view: &Operand, (k, n): (usize, usize), width: usize) -> Result<ValueId> {
    let panels = n.div_ceil(width);
    let places = (0..panels * k * width).map(|place| {
        let (panel, row, column) = (place / (k * width), place / width % k, place % width);
        let column = panel * width + column;
        (column < n).then_some(row * n + column)
    });
    let data = match graph.constant(view) {
        Some(Data::F32(data)) => Data::F32(places.map(|place| place.map_or(0.0, |place| data[place])).collect()),
        Some(Data::I8(data)) => Data::I8(places.map(|place| place.map_or(0, |place| data[place])).collect()),
        _ => {
            return Err(crate::CompileError::model("weights that are no constant of floats or bytes cannot be packed"));
        }
    };
    let name = format!("{} in panels of {width}", graph.value(view.value).name);
    graph.add_constant(name, &[panels, k, width], data)
}

#[cfg(test)]
mod tests;
