//! Operations that compute some indices of their outputs alone.

use super::super::axes;
use super::{Run, gcd};
use crate::ir::{Graph, Node, Op, Operand, Packing};

/// What a node can restrict itself to: at least the needed indices.
pub(super) fn possible(graph: &Graph, node: &Node, need: &[Run]) -> Vec<Run> {
    let Some(output) = node.outputs.iter().flatten().next() else { return need.to_vec() };
    let shape = &graph.value(*output).shape;
    let axes = axes::of_inputs(graph, node);
    // Inputs of an epilogue follow.
    let main = match node.op {
        Op::MatMul { .. } | Op::Conv { .. } => &axes[..2],
        _ => &axes[..],
    };
    let runs = need.iter().zip(shape).enumerate().map(|(axis, (&run, &size))| {
        // Kernels compute four neighbours of the last dimension at a time.
        let run = if axis + 1 == shape.len() && run.count > 1 { run.dense() } else { run };
        let follows = axes.is_empty() || main.iter().flatten().any(|of| *of == Some(axis));
        let can = match &node.op {
            Op::Conv { .. } if axis == 1 => window(node, run).is_some(),
            Op::MatMul { packing, .. } | Op::Conv { packing, .. } if *packing != Packing::None => false,
            Op::Concat { axis: along } if axis == *along => true,
            Op::Pad { before, .. } => follows || run.inside(before[axis], node.inputs[0].shape[axis]).is_some(),
            _ => follows,
        };
        if can && run.count > 0 { run } else { Run::all(size) }
    });
    runs.collect()
}

/// The node for these indices of its output alone; `None` where nothing changes.
pub(super) fn restricted(graph: &Graph, node: &Node, runs: &[Run]) -> Option<(Op, Vec<Operand>)> {
    let mut op = node.op.clone();
    let mut inputs = node.inputs.clone();
    for (input, axes) in inputs.iter_mut().zip(axes::of_inputs(graph, node)) {
        for (own, axis) in axes.into_iter().enumerate() {
            if let Some(axis) = axis {
                *input = part(input, own, runs[axis]);
            }
        }
    }
    match &mut op {
        Op::Conv { stride, dilation, before, .. } => {
            if let Some(window) = window(node, runs[1]) {
                inputs[0] = part(&inputs[0], 1, window.input);
                (*stride, *dilation, *before) = (window.stride, window.dilation, window.before);
            }
        }
        Op::Concat { axis } => {
            let mut from = 0;
            let parts = inputs.into_iter().filter_map(|input| {
                let size = input.shape[*axis];
                from += size;
                let (_, run) = runs[*axis].inside(from - size, size)?;
                Some(part(&input, *axis, run))
            });
            inputs = parts.collect();
        }
        Op::Pad { before, .. } => {
            for (axis, before) in before.iter_mut().enumerate() {
                if axes::of_inputs(graph, node)[0][axis].is_none()
                    && let Some((skipped, run)) = runs[axis].inside(*before, node.inputs[0].shape[axis])
                {
                    inputs[0] = part(&inputs[0], axis, run);
                    *before = skipped;
                }
            }
        }
        _ => {}
    }
    (op != node.op || inputs != node.inputs).then_some((op, inputs))
}

fn part(view: &Operand, axis: usize, run: Run) -> Operand {
    if run == Run::all(view.shape[axis]) {
        view.clone()
    } else {
        view.sliced(axis, run.start, run.step as isize, run.count)
    }
}

/// What a convolution reads for some positions.
struct Window {
    input: Run,
    stride: usize,
    dilation: usize,
    before: usize,
}

/// `None` where it reads nothing but zeros.
fn window(node: &Node, output: Run) -> Option<Window> {
    let Op::Conv { stride, dilation, before, .. } = node.op else { return None };
    let (length, taps) = (node.inputs[0].shape[1] as i128, node.inputs[1].shape[0]);
    if taps == 0 || output.count == 0 {
        return None;
    }
    let stride = if output.count > 1 { stride.checked_mul(output.step)? } else { 0 };
    let dilation = if taps > 1 { dilation } else { 0 };
    let step = gcd(stride, dilation).max(1);
    let (wide, own) = (step as i128, |x: usize| x as i128);
    let Op::Conv { stride: original, .. } = node.op else { return None };
    let base = own(output.start) * own(original) - own(before);
    let first = if base < 0 { base.rem_euclid(wide) } else { base };
    let wanted = base + own(output.count - 1) * own(stride) + own(taps - 1) * own(dilation);
    let there = first + (length - 1 - first).div_euclid(wide) * wide;
    let last = wanted.min(there);
    if first >= length || last < first {
        return None;
    }
    let input = Run { start: first as usize, step, count: ((last - first) / wide) as usize + 1 };
    Some(Window {
        input,
        stride: (stride / step).max(1),
        dilation: (dilation / step).max(1),
        before: ((first - base) / wide) as usize,
    })
}
