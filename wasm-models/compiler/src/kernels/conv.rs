//! Convolutions along one axis.
//!
//! There is no matrix of windows: a row of the product is an output position, and `k` runs over taps and channels in place. The
//! output is cut into segments of positions that read the same taps inside the input, so no load needs a check. Where that would be
//! many segments, the input is copied into scratch memory with its zeros.

use super::Cx;
use super::matmul::{bytes, extra_input, stream};
use super::product::{Layout, Product, Stream};
use super::repack::Repack;
use crate::emit::{At, Func};
use crate::error::{CompileError, Result};
use crate::ir::{DType, Graph, MAX_ELEMENTS, Node, Op, Operand, Packing, row_major};

/// Beyond so many segments the input is copied.
const MAX_SEGMENTS: usize = 5;

/// Output positions that read the same taps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    start: usize,
    len: usize,
    first_tap: usize,
    taps: usize,
}

/// The numbers of a convolution.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    stride: usize,
    dilation: usize,
    before: usize,
    groups: usize,
    taps: usize,
    /// Input positions.
    length: usize,
    /// Output positions.
    positions: usize,
}

impl Geometry {
    fn of(graph: &Graph, node: &Node) -> Option<Self> {
        let (Op::Conv { stride, dilation, before, groups, .. }, [x, w, ..]) = (&node.op, &node.inputs[..]) else {
            return None;
        };
        let output = graph.value(node.outputs.first().copied().flatten()?);
        let fits = x.rank() == 3 && w.rank() == 3 && output.shape.len() == 3 && *groups > 0;
        fits.then(|| Self {
            stride: *stride,
            dilation: *dilation,
            before: *before,
            groups: *groups,
            taps: w.shape[0],
            length: x.shape[1],
            positions: output.shape[1],
        })
    }

    /// The segments, or `None` where there are more than [`MAX_SEGMENTS`].
    fn segments(&self) -> Option<Vec<Segment>> {
        let mut segments = Vec::<Segment>::new();
        let mut position = 0;
        while position < self.positions {
            // Positions of the input relative to the first tap, with the zeros before it.
            let start = position as i128 * self.stride as i128 - self.before as i128;
            let dilation = self.dilation.max(1) as i128;
            // The number of taps that lie before `limit`.
            let below =
                |limit: i128| ((limit - start).max(0) + dilation - 1).div_euclid(dilation).min(self.taps as i128);
            let limits = [0, self.length as i128];
            let [first_tap, end] = limits.map(|limit| below(limit) as usize);
            // The first position where one tap less lies before a limit.
            let changes =
                limits.into_iter().zip([first_tap, end]).filter(|(_, taps)| *taps > 0).map(|(limit, taps)| {
                    let start = limit - (taps as i128 - 1) * dilation + self.before as i128;
                    (start + self.stride.max(1) as i128 - 1).div_euclid(self.stride.max(1) as i128)
                });
            let next = changes.min().unwrap_or(i128::MAX).clamp(position as i128 + 1, self.positions as i128) as usize;
            let (taps, len) = (end.saturating_sub(first_tap), next - position);
            let number = segments.len();
            match segments.last_mut() {
                Some(last) if last.first_tap == first_tap && last.taps == taps => last.len += len,
                Some(last) if last.taps == 0 && taps == 0 => last.len += len,
                _ if number == MAX_SEGMENTS => return None,
                _ => segments.push(Segment { start: position, len, first_tap, taps }),
            }
            position = next;
        }
        Some(segments)
    }

    /// Positions of the input with its zeros, as far as they are read.
    fn padded(&self) -> usize {
        let last = (self.taps - 1).saturating_mul(self.dilation);
        (self.positions - 1).saturating_mul(self.stride).saturating_add(last).saturating_add(1)
    }
}

/// Whether every output channel reads one input channel, its own.
fn is_depthwise(graph: &Graph, node: &Node, groups: usize) -> bool {
    let (x, w) = (&node.inputs[0], &node.inputs[1]);
    groups > 1 && w.shape[1] == 1 && w.shape[2] == groups && x.strides[2] == 1 && graph.value(x.value).data.is_none()
}

/// Bytes of scratch memory for the weights, where they are copied.
fn weight_bytes(graph: &Graph, node: &Node, packing: Packing, groups: usize) -> usize {
    let w = &node.inputs[1];
    let columns = if is_depthwise(graph, node, groups) { groups } else { w.shape[2] / groups };
    if packing != Packing::None || in_place(graph, w, columns) {
        return 0;
    }
    Repack::bytes(w.shape[0] * w.shape[1], columns).next_multiple_of(64)
}

/// Whether weights `[taps, in, out]` are read as they are.
fn in_place(graph: &Graph, w: &Operand, columns: usize) -> bool {
    let is_constant = graph.value(w.value).data.is_some();
    let follows = w.shape[0] <= 1 || w.shape[1] <= 1 || w.strides[0] == w.strides[1] * w.shape[1] as isize;
    w.strides[2] == 1 && follows && step(w) >= 0 && (!is_constant || columns.is_multiple_of(4))
}

/// Elements from one `k` to the next, of weights that are read in place.
fn step(w: &Operand) -> isize {
    if w.shape[1] > 1 { w.strides[1] } else { w.strides[0] }
}

/// Bytes of scratch memory: weights and the input with its zeros, where they are copied.
pub(super) fn scratch_bytes(graph: &Graph, node: &Node, packing: Packing) -> usize {
    let Some(geometry) = Geometry::of(graph, node) else { return 0 };
    let weights = weight_bytes(graph, node, packing, geometry.groups);
    if geometry.taps == 0 || geometry.positions == 0 || geometry.segments().is_some() {
        return weights;
    }
    let x = &node.inputs[0];
    let input = geometry.padded().saturating_mul(4 * x.shape[0] * x.shape[2]);
    // Whole vectors are read at the end of the copy.
    weights.saturating_add(input).saturating_add(super::SLACK).min(4 * MAX_ELEMENTS)
}

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node) -> Result<()> {
    let Op::Conv { epilogue, packing, .. } = &node.op else { return Ok(()) };
    let Some(output) = node.outputs.first().copied().flatten() else { return Ok(()) };
    let Some(geometry) = Geometry::of(cx.graph, node) else {
        return Err(CompileError::node(
            &node.name,
            "a convolution of other ranks than 3, expected one spatial dimension",
        ));
    };
    let (x, w) = (&node.inputs[0], &node.inputs[1]);
    if cx.dtype(x) != DType::F32 || cx.dtype(w) != DType::F32 {
        let reason = format!("a convolution of {} by {}, expected float32", cx.dtype(x).name(), cx.dtype(w).name());
        return Err(CompileError::node(&node.name, reason));
    }
    let shape = &cx.graph.value(output).shape;
    let (groups, inputs, outputs) = (geometry.groups, w.shape[1], w.shape[2]);
    if outputs % groups != 0 || x.shape[2] != groups * inputs || shape[2] != outputs {
        let reason = format!("{} channels by weights {:?} in {groups} groups do not fit", x.shape[2], w.shape);
        return Err(CompileError::node(&node.name, reason));
    }
    if shape.contains(&0) {
        return Ok(());
    }
    let by_column = is_depthwise(cx.graph, node, groups);
    // The axes of rows are batch, group and position; a depthwise convolution has one group of many columns.
    let (groups, n) = if by_column { (1, outputs) } else { (groups, outputs / groups) };
    let k = geometry.taps * inputs;
    let (layout, repack) = match packing {
        Packing::Panels { width } => (Layout::panels(k, *width, false), None),
        Packing::None if in_place(cx.graph, w, n) => (Layout::rows(bytes(step(w))), None),
        Packing::None => {
            let depth = vec![(geometry.taps, bytes(w.strides[0])), (inputs, bytes(w.strides[1]))];
            (Layout::panels(k, 4, false), Some(Repack { to: cx.scratch(), depth, column: bytes(w.strides[2]) }))
        }
    };
    let (x, geometry, segments) = match geometry.segments() {
        Some(segments) => (View::of(cx, x), geometry, segments),
        None => {
            let to = cx.scratch() + weight_bytes(cx.graph, node, *packing, geometry.groups) as u32;
            let view = pad(f, cx, node, &geometry, to)?;
            let all = Segment { start: 0, len: geometry.positions, first_tap: 0, taps: geometry.taps };
            (view, Geometry { before: 0, ..geometry }, vec![all])
        }
    };
    let out_strides = row_major(shape);
    let steps = |batch: i32, channel: i32, position: i32| vec![batch, channel.wrapping_mul(n as i32), position];
    for segment in segments {
        let Segment { start, len, first_tap, taps } = segment;
        let from =
            if taps == 0 { 0 } else { start * geometry.stride + first_tap * geometry.dilation - geometry.before };
        let channel = if by_column { 0 } else { x.channel.wrapping_mul(inputs as i32) };
        let column = bytes(w.strides[2]).wrapping_mul(n as i32);
        // A segment that begins at a later tap reads a part of `k`: copied weights are then copied from there.
        let weights_at = match packing {
            Packing::Panels { .. } => cx.address(w) + (first_tap * inputs) as u32 * layout.step as u32,
            Packing::None => moved(cx.address(w), first_tap, bytes(w.strides[0])),
        };
        let mut extras = Vec::new();
        for operand in &node.inputs[2..] {
            let mut extra = extra_input(cx, node, operand)?;
            extra.stream.at = moved(extra.stream.at, start, bytes(operand.strides[1]));
            extra.stream.steps = steps(bytes(operand.strides[0]), extra.column, bytes(operand.strides[1]));
            extras.push(extra);
        }
        let repack =
            repack.clone().map(|repack| Repack { depth: vec![(taps, repack.depth[0].1), repack.depth[1]], ..repack });
        let layout = if repack.is_some() { Layout::panels(taps * inputs, 4, false) } else { layout };
        Product {
            axes: vec![shape[0], groups, len],
            n,
            depth: vec![
                (taps, x.position.wrapping_mul(geometry.dilation as i32)),
                if by_column { (1, 0) } else { (inputs, x.channel) },
            ],
            a: Stream {
                at: moved(x.at, from, x.position),
                steps: vec![x.batch, channel, x.position.wrapping_mul(geometry.stride as i32)],
            },
            by_column,
            weights: Stream { at: weights_at, steps: vec![0, if groups > 1 { column } else { 0 }, 0] },
            layout,
            repack,
            out: Stream {
                at: moved(cx.result(output), start, bytes(out_strides[1])),
                steps: steps(bytes(out_strides[0]), 4, bytes(out_strides[1])),
            },
            epilogue,
            extras,
            first_extra: 2,
        }
        .emit(f)?;
    }
    Ok(())
}

/// An address `count` steps on.
fn moved(address: u32, count: usize, step: i32) -> u32 {
    address.wrapping_add_signed((count as i32).wrapping_mul(step))
}

/// The input in memory: bytes from one to the next.
#[derive(Debug, Clone, Copy)]
struct View {
    at: u32,
    batch: i32,
    position: i32,
    channel: i32,
}

impl View {
    fn of(cx: &Cx<'_>, x: &Operand) -> Self {
        let Stream { at, steps } = stream(cx, x);
        Self { at, batch: steps[0], position: steps[1], channel: bytes(x.strides[2]) }
    }
}

/// Copies the input with its zeros to scratch memory.
fn pad(f: &mut Func, cx: &Cx<'_>, node: &Node, geometry: &Geometry, to: u32) -> Result<View> {
    let x = &node.inputs[0];
    let (batch, channels, padded) = (x.shape[0], x.shape[2], geometry.padded());
    let total = padded.checked_mul(batch * channels).filter(|total| *total <= MAX_ELEMENTS);
    let Some(total) = total else {
        let reason = format!("{padded} positions with padding are more than expected, at most {MAX_ELEMENTS} numbers");
        return Err(CompileError::node(&node.name, reason));
    };
    f.sink().i32_const(to.cast_signed()).i32_const(0).i32_const(4 * total as i32).memory_fill(0);
    let from = View::of(cx, x);
    let view = View { at: to, batch: (4 * padded * channels) as i32, position: 4 * channels as i32, channel: 4 };
    let count = geometry.length.min(padded.saturating_sub(geometry.before));
    if count == 0 {
        return Ok(view);
    }
    f.scope(|f| {
        let (source, target) = (f.address(from.at), f.address(moved(view.at, geometry.before, view.position)));
        f.walk(batch, &[(source, from.batch), (target, view.batch)], |f| {
            if from.channel == 4 && from.position == view.position {
                return f.copy_memory(target, source, (4 * count * channels) as u32);
            }
            let (source, target) = (f.copy(source), f.copy(target));
            f.walk(count, &[(source, from.position), (target, view.position)], |f| {
                let (source, target) = (f.copy(source), f.copy(target));
                f.walk(channels, &[(source, from.channel), (target, 4)], |f| {
                    let value = f.load_f32(At::from(source, 0));
                    f.store_f32(At::from(target, 0), value);
                });
            });
        });
    });
    Ok(view)
}

#[cfg(test)]
mod tests;
