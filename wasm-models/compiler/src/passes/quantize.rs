//! Weight-only INT8: weights of matrix products with a scale per column.
//!
//! A weight becomes the nearest multiple of its column's scale, the largest absolute weight divided by 127; so it is off by half a
//! scale at most, and a sum by half a scale times the sum of `|x|`. The product is of floats; the epilogue multiplies by the scale.

use std::collections::HashMap;

use super::pack;
use crate::error::Result;
use crate::ir::{Binary, Data, Expr, Graph, Op, Operand, ValueId};

/// Smaller matrices gain nothing.
const MIN_WEIGHTS: usize = 256;

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    // Weights that several nodes share are quantised once.
    let mut known = HashMap::new();
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (Op::MatMul { .. }, Some(output)) = (&node.op, node.outputs[0]) else { continue };
        let Some((view, k, n)) = pack::weights(graph, &node.op, &node.inputs) else { continue };
        if k * n < MIN_WEIGHTS {
            continue;
        }
        let (weights, scale) = match known.get(&view) {
            Some(ids) => *ids,
            None => match quantized(graph, &view, k, n)? {
                Some(ids) => ids,
                None => continue,
            },
        };
        known.insert(view, (weights, scale));
        let weights = Operand::whole(weights, &[k, n]).broadcast(&graph.nodes[index].inputs[1].shape);
        let scale = Operand::whole(scale, &[n]).broadcast(&graph.value(output).shape);
        let node = &mut graph.nodes[index];
        let (Some(weights), Some(scale), Op::MatMul { epilogue, .. }) = (weights, scale, &mut node.op) else {
            continue;
        };
        let scaled = Expr::binary(Binary::Mul, Expr::Result, Expr::Input(node.inputs.len()));
        *epilogue = epilogue.map_leaves(&mut |leaf| if *leaf == Expr::Result { scaled.clone() } else { leaf.clone() });
        node.inputs[1] = weights;
        node.inputs.push(scale);
    }
    Ok(())
}

/// The weights `[k, n]` as bytes, and the scales `[n]`; `None` where they are no finite floats.
fn quantized(graph: &mut Graph, view: &Operand, k: usize, n: usize) -> Result<Option<(ValueId, ValueId)>> {
    let Some(Data::F32(data)) = graph.constant(view) else { return Ok(None) };
    if !data.iter().all(|weight| weight.is_finite()) {
        return Ok(None);
    }
    let mut scales = vec![0f32; n];
    for row in data.chunks_exact(n) {
        for (scale, weight) in scales.iter_mut().zip(row) {
            *scale = scale.max(weight.abs() / 127.0);
        }
    }
    let byte = |(place, weight): (usize, &f32)| match scales[place % n] {
        // All weights of the column are 0, or so small that their scale is.
        0.0 => 0,
        scale => (weight / scale).round_ties_even().clamp(-127.0, 127.0) as i8,
    };
    let bytes = data.iter().enumerate().map(byte).collect();
    let name = graph.value(view.value).name.clone();
    let weights = graph.add_constant(format!("{name} in 8 bits"), &[k, n], Data::I8(bytes))?;
    let scale = graph.add_constant(format!("scale of {name}"), &[n], Data::F32(scales))?;
    Ok(Some((weights, scale)))
}

#[cfg(test)]
mod tests;
