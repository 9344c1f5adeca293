//! The weights of recurrent layers: packed for the kernel, and as 8-bit integers where they are asked for.

use crate::error::Result;
use crate::ir::{Data, Graph, Op, Operand, Packing};
use crate::kernels::recurrent;

/// Packs constant weights.
pub(super) fn pack(graph: &mut Graph) -> Result<()> {
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Op::Recurrent { cell, hidden, packing: Packing::None, .. } = &node.op else { continue };
        let Some(weights) = graph.constant(&node.inputs[1]) else { continue };
        let packed = recurrent::pack(cell, *hidden, &weights);
        replace(graph, index, "packed", packed)?;
        if let Op::Recurrent { packing, .. } = &mut graph.nodes[index].op {
            *packing = Packing::Panels { width: recurrent::WIDTH };
        }
    }
    Ok(())
}

/// Makes constant weights 8-bit integers, symmetric, with a scale per column as the node's last input.
pub(super) fn quantize(graph: &mut Graph) -> Result<()> {
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Op::Recurrent { packing: Packing::None, .. } = &node.op else { continue };
        let Some(Data::F32(weights)) = graph.constant(&node.inputs[1]) else { continue };
        let columns = node.inputs[1].shape[1];
        let scales: Vec<f32> = (0..columns)
            .map(|column| weights.iter().skip(column).step_by(columns).fold(0f32, |most, x| most.max(x.abs())) / 127.0)
            .collect();
        let steps = weights.iter().enumerate().map(|(place, weight)| match scales[place % columns] {
            0.0 => 0,
            scale => (weight / scale).round_ties_even() as i8,
        });
        let (steps, name) = (Data::I8(steps.collect()), format!("{}.scales", node.name));
        replace(graph, index, "int8", steps)?;
        let scales = graph.add_constant(name, &[columns], Data::F32(scales))?;
        let scales = graph.whole(scales);
        graph.nodes[index].inputs.push(scales);
    }
    Ok(())
}

/// Gives a node other weights of the same shape.
fn replace(graph: &mut Graph, index: usize, what: &str, weights: Data) -> Result<()> {
    let shape = graph.nodes[index].inputs[1].shape.clone();
    let name = format!("{}.{what}", graph.value(graph.nodes[index].inputs[1].value).name);
    let id = graph.add_constant(name, &[weights.len()], weights)?;
    graph.nodes[index].inputs[1] = Operand::whole(id, &shape);
    Ok(())
}
