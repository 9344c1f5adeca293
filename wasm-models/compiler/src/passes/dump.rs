//! The IR as text.

use std::fmt::Write as _;

use crate::ir::{Graph, Operand};

/// One line per input, node and output.
pub(crate) fn text(graph: &Graph) -> String {
    let mut text = String::new();
    for &input in &graph.inputs {
        let value = graph.value(input);
        let _ = writeln!(text, "{input} = input `{}`: {} {:?}", value.name, value.dtype.name(), value.shape);
    }
    for node in &graph.nodes {
        let outputs = node.outputs.iter().map(|output| match output {
            Some(id) => format!("{id}: {} {:?}", graph.value(*id).dtype.name(), graph.value(*id).shape),
            None => "_".to_owned(),
        });
        let inputs = node.inputs.iter().map(|input| operand(graph, input));
        let (outputs, inputs) = (outputs.collect::<Vec<_>>().join(", "), inputs.collect::<Vec<_>>().join(", "));
        let _ = writeln!(text, "{outputs} = {:?}({inputs})  # {}", node.op, node.name);
    }
    for (name, id) in &graph.outputs {
        let _ = writeln!(text, "output `{name}` = {id}");
    }
    text
}

fn operand(graph: &Graph, operand: &Operand) -> String {
    let value = graph.value(operand.value);
    let kind = if value.data.is_some() { "const " } else { "" };
    if operand.offset == 0 && operand.shape == value.shape && operand.is_contiguous() {
        return format!("{kind}{} {:?}", operand.value, value.shape);
    }
    format!("{kind}{} {:?} +{} by {:?}", operand.value, operand.shape, operand.offset, operand.strides)
}
