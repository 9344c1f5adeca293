//! Splits a product whose columns are needed at different positions: queries, keys and values that one product makes, of which the
//! queries are needed at the last position alone. Fusion joins again what is still alike.

use super::{Pass, Run, restrict, shrunk, touched};
use crate::error::Result;
use crate::ir::{Node, Op, Operand};

/// Columns that the same readers read, and what they read of the other dimensions.
struct Group {
    runs: Vec<Run>,
    /// Places in the list of readers.
    readers: Vec<usize>,
}

impl Pass<'_> {
    /// Splits a node by columns where that saves work, and returns the nodes that it has become; they stand behind all others.
    pub(super) fn split(&mut self, index: usize) -> Result<Vec<usize>> {
        let node = &self.graph.nodes[index];
        let ([Some(output)], Op::Map(_) | Op::MatMul { .. }) = (&node.outputs[..], &node.op) else {
            return Ok(Vec::new());
        };
        let output = *output;
        let Some(groups) = self.groups(index) else { return Ok(Vec::new()) };
        let (node, value) = (node.clone(), self.graph.value(output).clone());
        let columns = value.shape.len() - 1;
        let mut parts = Vec::new();
        for group in groups {
            let mut runs: Vec<Run> = value.shape.iter().map(|size| Run::all(*size)).collect();
            runs[columns] = group.runs[columns];
            let Some((op, inputs)) = restrict::restricted(self.graph, &node, &runs) else { return Ok(Vec::new()) };
            let views = group.readers.iter().map(|&place| {
                let (reader, input) = self.readers[output.0][place];
                let view = shrunk(&self.graph.nodes[reader].inputs[input], &value.shape, &runs)?;
                Some((reader, input, view))
            });
            let Some(views) = views.collect::<Option<Vec<_>>>() else { return Ok(Vec::new()) };
            parts.push((runs[columns].count, op, inputs, views));
        }
        self.readers[output.0].clear();
        let mut members = Vec::new();
        for (width, op, inputs, views) in parts {
            let mut shape = value.shape.clone();
            shape[columns] = width;
            let id = self.graph.add_value(&value.name, value.dtype, &shape)?;
            self.readers.push(Vec::new());
            self.is_output.push(false);
            for (reader, input, view) in views {
                self.graph.nodes[reader].inputs[input] = Operand { value: id, ..view };
                self.readers[id.0].push((reader, input));
            }
            members.push(self.graph.nodes.len());
            self.places.push(index);
            self.graph.nodes.push(Node { name: node.name.clone(), op, inputs, outputs: vec![Some(id)] });
        }
        Ok(members)
    }

    /// Groups of columns that no reader reads together, if they differ in what is read of the other dimensions.
    fn groups(&self, index: usize) -> Option<Vec<Group>> {
        let node = &self.graph.nodes[index];
        let output = (*node.outputs.first()?)?;
        let shape = &self.graph.value(output).shape;
        let columns = shape.len().checked_sub(1)?;
        let is_constant = node.inputs.get(1).is_some_and(|weights| self.graph.value(weights.value).data.is_some());
        if self.is_output[output.0] || columns == 0 || (matches!(node.op, Op::MatMul { .. }) && !is_constant) {
            return None;
        }
        let mut groups = Vec::<Group>::new();
        for (place, operand) in self.operands(output).enumerate() {
            let mut runs = touched(operand, shape)?;
            runs[columns] = runs[columns].dense();
            let mut group = Group { runs, readers: vec![place] };
            let meets = |other: &Group| {
                let (a, b) = (group.runs[columns], other.runs[columns]);
                a.start <= b.last() && b.start <= a.last()
            };
            let (met, apart): (Vec<Group>, Vec<Group>) = groups.into_iter().partition(meets);
            groups = apart;
            for other in met {
                group.runs = group.runs.iter().zip(other.runs).map(|(a, b)| a.union(b)).collect();
                group.readers.extend(other.readers);
            }
            groups.push(group);
        }
        let differs = groups.iter().any(|group| group.runs[..columns] != groups[0].runs[..columns]);
        differs.then_some(groups)
    }
}
