//! Demand pruning: computes only what the outputs need, such as the last time step.
//!
//! Nodes are visited from the last to the first. What the readers of a value touch is, for each of its dimensions, a progression
//! of indices; the node then computes these alone, and its value and its readers' views shrink. Each number that is still
//! computed is computed as before, so the outputs keep their bits.

mod restrict;
mod split;

use super::simplify;
use crate::error::Result;
use crate::ir::{Graph, Op, Operand, ValueId, row_major};

/// The indices `start, start + step, ..` of a dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    start: usize,
    step: usize,
    count: usize,
}

impl Run {
    fn all(size: usize) -> Self {
        Self { start: 0, step: 1, count: size }
    }

    fn last(self) -> usize {
        self.start + self.count.saturating_sub(1) * self.step
    }

    /// All indices from the first to the last.
    fn dense(self) -> Self {
        Self { start: self.start, step: 1, count: self.last() - self.start + 1 }
    }

    /// The smallest progression that holds both.
    fn union(self, other: Self) -> Self {
        let step = [self, other].iter().filter(|run| run.count > 1).fold(0, |step, run| gcd(step, run.step));
        let step = gcd(step, self.start.abs_diff(other.start)).max(1);
        let (start, last) = (self.start.min(other.start), self.last().max(other.last()));
        Self { start, step, count: (last - start) / step + 1 }
    }

    /// The part in `from..from + size`, as indices from there, and how many elements of the progression come before it.
    fn inside(self, from: usize, size: usize) -> Option<(usize, Self)> {
        let before = from.saturating_sub(self.start).div_ceil(self.step);
        let first = self.start + before * self.step;
        let end = (from + size).min(self.last() + 1);
        (first < end).then(|| {
            let count = (end - 1 - first) / self.step + 1;
            (before, Self { start: first - from, step: self.step, count })
        })
    }
}

fn gcd(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let (nodes, values) = (graph.nodes.len(), graph.values.len());
    let mut pass =
        Pass { readers: vec![Vec::new(); values], is_output: vec![false; values], places: (0..nodes).collect(), graph };
    for (_, id) in &pass.graph.outputs {
        pass.is_output[id.0] = true;
    }
    for index in (0..nodes).rev() {
        let parts = pass.split(index)?;
        for index in parts.into_iter().chain([index]) {
            pass.visit(index);
            for (input, operand) in pass.graph.nodes[index].inputs.iter().enumerate() {
                pass.readers[operand.value.0].push((index, input));
            }
        }
    }
    let mut nodes: Vec<_> = pass.places.into_iter().zip(std::mem::take(&mut pass.graph.nodes)).collect();
    nodes.sort_by_key(|(place, _)| *place);
    let nodes = nodes.into_iter().map(|(_, node)| node);
    pass.graph.nodes = nodes.filter(|node| !node.outputs.is_empty()).collect();
    simplify::run(pass.graph)
}

struct Pass<'a> {
    graph: &'a mut Graph,
    /// Nodes behind the current one, with the inputs that read a value.
    readers: Vec<Vec<(usize, usize)>>,
    is_output: Vec<bool>,
    /// Where each node belongs in the order of the graph.
    places: Vec<usize>,
}

impl Pass<'_> {
    fn is_read(&self, id: ValueId) -> bool {
        self.is_output[id.0] || !self.readers[id.0].is_empty()
    }

    fn visit(&mut self, index: usize) {
        let node = &self.graph.nodes[index];
        if !node.outputs.iter().flatten().any(|id| self.is_read(*id)) {
            self.graph.nodes[index].inputs.clear();
            self.graph.nodes[index].outputs.clear();
        } else if matches!(node.op, Op::Recurrent { .. }) {
            self.recurrent(index);
        } else if let [Some(output)] = node.outputs[..] {
            let need = self.need(output);
            let wanted = restrict::possible(self.graph, &self.graph.nodes[index], &need);
            let kept = self.representable(output, wanted);
            if let Some((op, inputs)) = restrict::restricted(self.graph, &self.graph.nodes[index], &kept) {
                self.shrink(output, &kept);
                let node = &mut self.graph.nodes[index];
                (node.op, node.inputs) = (op, inputs);
            }
        }
    }

    /// What readers touch of each dimension of a value.
    fn need(&self, id: ValueId) -> Vec<Run> {
        let shape = &self.graph.value(id).shape;
        let all = || shape.iter().map(|size| Run::all(*size)).collect::<Vec<_>>();
        if self.is_output[id.0] {
            return all();
        }
        let mut need: Option<Vec<Run>> = None;
        for operand in self.operands(id).filter(|operand| !operand.is_empty()) {
            let Some(touched) = touched(operand, shape) else { return all() };
            need = Some(match need {
                Some(need) => need.into_iter().zip(touched).map(|(a, b)| a.union(b)).collect(),
                None => touched,
            });
        }
        need.unwrap_or_else(all)
    }

    fn operands(&self, id: ValueId) -> impl Iterator<Item = &Operand> {
        self.readers[id.0].iter().map(|&(node, input)| &self.graph.nodes[node].inputs[input])
    }

    /// The runs, widened until all readers' views of what is kept are views.
    fn representable(&self, id: ValueId, mut runs: Vec<Run>) -> Vec<Run> {
        let shape = &self.graph.value(id).shape;
        let fits = |runs: &[Run]| self.operands(id).all(|operand| shrunk(operand, shape, runs).is_some());
        for axis in (0..shape.len()).rev() {
            if fits(&runs) {
                return runs;
            }
            runs[axis] = Run::all(shape[axis]);
        }
        runs
    }

    /// Makes a value hold the given indices alone.
    fn shrink(&mut self, id: ValueId, runs: &[Run]) {
        let shape = self.graph.value(id).shape.clone();
        if runs.iter().zip(&shape).all(|(run, size)| *run == Run::all(*size)) {
            return;
        }
        for &(node, input) in &self.readers[id.0] {
            let operand = &mut self.graph.nodes[node].inputs[input];
            if let Some(view) = shrunk(operand, &shape, runs) {
                *operand = view;
            }
        }
        self.graph.values[id.0].shape = runs.iter().map(|run| run.count).collect();
    }

    /// A recurrent layer runs only the steps before those that are read, and stores the states only where several are read.
    fn recurrent(&mut self, index: usize) {
        let node = &self.graph.nodes[index];
        let Op::Recurrent { reverse, .. } = node.op else { return };
        let steps = node.inputs[0].shape[0];
        let mut outputs = node.outputs.clone();
        outputs.iter_mut().for_each(|output| *output = output.filter(|id| self.is_read(*id)));
        outputs.resize(outputs.len().max(2), None);
        let ends_are_read = outputs[1..].iter().any(Option::is_some);
        if let Some(all) = outputs[0].filter(|_| steps > 0) {
            let shape = self.graph.value(all).shape.clone();
            let read = self.need(all)[0].dense();
            // States up to the last that is read, in the order of time.
            let (first, last) = match (ends_are_read, reverse) {
                (true, _) => (0, steps - 1),
                (false, false) => (0, read.last()),
                (false, true) => (read.start, steps - 1),
            };
            let end = if reverse { first } else { last };
            let mut runs: Vec<Run> = shape.iter().map(|size| Run::all(*size)).collect();
            let ends_there = read == Run { start: end, step: 1, count: 1 } && !self.is_output[all.0];
            runs[0] = if ends_there { read } else { Run { start: first, step: 1, count: last - first + 1 } };
            let kept = self.representable(all, runs.clone());
            if kept == runs {
                self.shrink(all, &runs);
                let input = &mut self.graph.nodes[index].inputs[0];
                *input = input.sliced(0, first, 1, last - first + 1);
                if ends_there {
                    outputs[0] = None;
                    self.use_last_state(&mut outputs[1], all, &shape[1..]);
                }
            }
        }
        self.graph.nodes[index].outputs = outputs;
    }

    /// Lets readers of the one state that is kept of all read the last state.
    fn use_last_state(&mut self, last: &mut Option<ValueId>, all: ValueId, shape: &[usize]) {
        let Some(last) = *last else {
            self.graph.values[all.0].shape = shape.to_vec();
            *last = Some(all);
            return;
        };
        for (node, input) in std::mem::take(&mut self.readers[all.0]) {
            self.graph.nodes[node].inputs[input].value = last;
            self.readers[last.0].push((node, input));
        }
    }
}

/// The indices of each dimension of a value of this shape that a view touches.
fn touched(operand: &Operand, shape: &[usize]) -> Option<Vec<Run>> {
    let digits = operand.digits(shape)?;
    let runs = digits.start.iter().enumerate().map(|(axis, &start)| {
        let (mut low, mut high, mut step) = (start, start, 0);
        for part in digits.parts.iter().filter(|part| part.size > 1) {
            let moved = part.steps[axis];
            let far = (part.size - 1) * moved.unsigned_abs();
            if moved < 0 {
                low -= far;
            } else {
                high += far;
            }
            step = gcd(step, moved.unsigned_abs());
        }
        let step = step.max(1);
        Run { start: low, step, count: (high - low) / step + 1 }
    });
    Some(runs.collect())
}

/// A view of a value as a view of the indices that are kept of it.
fn shrunk(operand: &Operand, shape: &[usize], runs: &[Run]) -> Option<Operand> {
    if operand.is_empty() {
        return Some(Operand { offset: 0, strides: vec![0; operand.rank()], ..operand.clone() });
    }
    if runs.iter().zip(shape).all(|(run, size)| *run == Run::all(*size)) {
        return Some(operand.clone());
    }
    let digits = operand.digits(shape)?;
    let weights = row_major(&runs.iter().map(|run| run.count).collect::<Vec<_>>());
    let offset: usize = (0..shape.len())
        .map(|axis| (digits.start[axis] - runs[axis].start) / runs[axis].step * weights[axis].unsigned_abs())
        .sum();
    let strides = digits.merged(operand.rank(), |part| {
        (0..shape.len()).map(|axis| part.steps[axis] / runs[axis].step as isize * weights[axis]).sum()
    })?;
    Some(Operand { value: operand.value, offset, shape: operand.shape.clone(), strides })
}

#[cfg(test)]
mod tests;
