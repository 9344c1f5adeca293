//! Recurrent layers: one matrix-vector product per step, gates at once.
//!
//! The recurrent weights are packed by blocks of four units ([`pack`]): for each input unit the four columns of every gate follow one
//! another, so that a tile keeps all gates of its units in registers and the activations need no memory in between. Every sum
//! begins with the projected input and adds the products in the order of the input units.

use super::{Cx, math};
use crate::emit::{At, F32x4, Func, I32};
use crate::error::{CompileError, Result};
use crate::ir::{Activation, Cell, DType, Data, Graph, Node, Op, Operand, Packing};

/// Most accumulators of a tile: more of them spill.
const MAX_ACCUMULATORS: usize = 8;
/// Steps of the sum that are written out one after another.
const UNROLL: usize = 4;
const LANES: usize = 4;
/// Columns of a panel.
pub(crate) const WIDTH: usize = LANES;

/// Gates that are computed together; a second group waits for the first.
fn gate_groups(cell: &Cell) -> &'static [&'static [usize]] {
    match cell {
        Cell::Lstm { .. } => &[&[0, 1, 2, 3]],
        Cell::Gru { linear_before_reset: true, .. } => &[&[0, 1, 2]],
        Cell::Gru { .. } => &[&[0, 1], &[2]],
        Cell::Rnn { .. } => &[&[0]],
    }
}

/// The recurrent weights `[hidden, gates * hidden]` as the kernel reads them: for each group of gates, for each block of four units,
/// for each input unit, for each gate of the group, four columns (zeros where there are fewer units).
pub(crate) fn pack(cell: &Cell, hidden: usize, weights: &Data) -> Data {
    let columns = cell.gates() * hidden;
    let places = gate_groups(cell).iter().flat_map(move |group| {
        (0..hidden.div_ceil(LANES)).flat_map(move |block| {
            (0..hidden).flat_map(move |input| {
                group.iter().flat_map(move |gate| {
                    (block * LANES..(block + 1) * LANES)
                        .map(move |unit| (unit < hidden).then(|| input * columns + gate * hidden + unit))
                })
            })
        })
    });
    match weights {
        Data::I8(data) => Data::I8(places.map(|place| place.map_or(0, |place| data[place])).collect()),
        Data::F32(data) => Data::F32(places.map(|place| place.map_or(0.0, |place| data[place])).collect()),
        other => other.clone(),
    }
}

/// Number of elements of packed weights.
fn packed_len(cell: &Cell, hidden: usize) -> usize {
    cell.gates() * hidden * hidden.next_multiple_of(LANES)
}

/// The sizes of a layer, and where its parts lie in the scratch memory.
struct Layer<'a> {
    cell: &'a Cell,
    clip: Option<f32>,
    reverse: bool,
    steps: usize,
    rows: usize,
    hidden: usize,
    /// Bytes per element of the weights.
    weight_bytes: usize,
    scratch: Scratch,
}

/// Offsets in the scratch memory.
struct Scratch {
    states: [usize; 2],
    cell: usize,
    /// Between the groups of gates: update gate, then reset gate times state.
    between: [usize; 2],
    weights: Option<usize>,
    projected: Option<usize>,
    /// Copies of what is added per column, where it does not lie in order.
    extra: Vec<Option<usize>>,
    size: usize,
}

fn layer<'a>(graph: &Graph, node: &'a Node) -> Option<Layer<'a>> {
    let Op::Recurrent { cell, hidden, reverse, clip, packing } = &node.op else { return None };
    let (x, weights) = (node.inputs.first()?, node.inputs.get(1)?);
    let (steps, rows) = (*x.shape.first()?, *x.shape.get(1)?);
    let mut size = 0;
    let mut take = |bytes: usize| {
        let at = size;
        size = (size + bytes + super::SLACK).next_multiple_of(64);
        at
    };
    let state = rows * hidden * 4;
    let scratch = Scratch {
        states: [take(state), take(state)],
        cell: take(state),
        between: [take(state), take(state)],
        weights: (*packing == Packing::None).then(|| take(packed_len(cell, *hidden) * 4)),
        projected: (!is_readable(x)).then(|| take(x.len() * 4)),
        extra: extra(cell, node).iter().map(|it| (!it.is_contiguous()).then(|| take(it.len() * 4))).collect(),
        size: 0,
    };
    let weight_bytes = graph.dtype(weights).size();
    Some(Layer {
        cell,
        clip: *clip,
        reverse: *reverse,
        steps,
        rows,
        hidden: *hidden,
        weight_bytes,
        scratch: Scratch { size, ..scratch },
    })
}

/// Peepholes, recurrent bias, scales: the inputs behind the states.
fn extra<'a>(cell: &Cell, node: &'a Node) -> &'a [Operand] {
    let states = if matches!(cell, Cell::Lstm { .. }) { 2 } else { 1 };
    node.inputs.get(2 + states..).unwrap_or_default()
}

/// Whether the kernel reads the projected input where it lies.
fn is_readable(x: &Operand) -> bool {
    x.strides.last() == Some(&1) && x.strides.get(1).is_some_and(|stride| *stride >= 0)
}

/// Bytes of scratch memory.
pub(super) fn scratch_bytes(graph: &Graph, node: &Node) -> usize {
    layer(graph, node).map_or(0, |layer| layer.scratch.size)
}

/// The pointers of a step.
#[derive(Clone, Copy)]
struct Step {
    projected: I32,
    before: I32,
    after: I32,
}

/// What a tile covers, and where it is.
struct Tile {
    rows: usize,
    blocks: usize,
    /// Units of the last block.
    last_units: usize,
    projected: I32,
    /// What the weights are multiplied with, from its first unit: the state before the step, or what was made of it.
    input: I32,
    /// The state before the step at the tile's units; likewise all that follows.
    before: I32,
    after: I32,
    cell: I32,
    between: [I32; 2],
    /// Vectors of `[gates * hidden]` or `[hidden]` at the tile's units: peepholes, recurrent bias, scales.
    extra: Vec<I32>,
}

/// Four numbers of a gate.
type PerGate<'a> = dyn Fn(&mut Func, usize) -> F32x4 + 'a;
/// Numbers of a tile: `[row][block][gate of the group]`.
type Gates = Vec<Vec<Vec<F32x4>>>;

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node) -> Result<()> {
    let Some(layer) = layer(cx.graph, node) else {
        return Err(CompileError::node(&node.name, "is no recurrent layer with its inputs"));
    };
    let is_lstm = matches!(layer.cell, Cell::Lstm { .. });
    let states = &node.inputs[2..];
    let at = |offset: usize| cx.scratch() + offset as u32;
    let [all, last, last_cell] = [0, 1, 2].map(|index| node.outputs.get(index).copied().flatten());

    let weights = match layer.scratch.weights {
        None => cx.address(&node.inputs[1]),
        Some(offset) => {
            pack_at_run_time(f, cx, &layer, &node.inputs[1], at(offset))?;
            at(offset)
        }
    };
    let x = &node.inputs[0];
    let (projected, x_strides) = match layer.scratch.projected {
        None => (cx.address(x), x.strides.clone()),
        Some(offset) => {
            copy(f, cx, x, at(offset));
            (at(offset), crate::ir::row_major(&x.shape))
        }
    };
    let mut extras = Vec::new();
    for (operand, copied) in extra(layer.cell, node).iter().zip(&layer.scratch.extra) {
        extras.push(copied.map_or_else(|| cx.address(operand), at));
        if let Some(offset) = *copied {
            copy(f, cx, operand, at(offset));
        }
    }
    copy(f, cx, &states[0], at(layer.scratch.states[0]));
    let cell_at = last_cell.map_or(at(layer.scratch.cell), |id| cx.result(id));
    if is_lstm {
        copy(f, cx, &states[1], cell_at);
    }
    let row_stride = x_strides[1] as usize * 4;
    let state_bytes = layer.rows * layer.hidden * 4;
    f.scope(|f| {
        let first_step = if layer.reverse { layer.steps.saturating_sub(1) } else { 0 };
        let direction = if layer.reverse { -1 } else { 1 };
        let step = Step {
            projected: f.address(projected.wrapping_add_signed((x_strides[0] * first_step as isize * 4) as i32)),
            before: f.address(at(layer.scratch.states[0])),
            after: match all {
                Some(id) => f.address(cx.result(id) + (first_step * state_bytes) as u32),
                None => f.address(at(layer.scratch.states[1])),
            },
        };
        let mut result = Ok(());
        f.repeat(layer.steps, |f| {
            result = one_step(f, cx, &layer, step, row_stride, weights, cell_at, &extras);
            f.advance(step.projected, x_strides[0] as i32 * 4 * direction);
            if all.is_some() {
                f.set(step.before, step.after);
                f.advance(step.after, state_bytes as i32 * direction);
            } else {
                let before = f.copy(step.before);
                f.set(step.before, step.after);
                f.set(step.after, before);
            }
        });
        if let Some(id) = last {
            let to = f.address(cx.result(id));
            f.copy_memory(to, step.before, state_bytes as u32);
        }
        result
    })
}

#[allow(clippy::too_many_arguments)]
fn one_step(
    f: &mut Func,
    cx: &Cx<'_>,
    layer: &Layer<'_>,
    step: Step,
    row_stride: usize,
    weights: u32,
    cell_at: u32,
    extra: &[u32],
) -> Result<()> {
    let blocks = layer.hidden.div_ceil(LANES);
    let mut start = weights;
    let mut result = Ok(());
    for (number, group) in gate_groups(layer.cell).iter().enumerate() {
        let block_bytes = layer.hidden * group.len() * LANES * layer.weight_bytes;
        let tile_rows = (MAX_ACCUMULATORS / group.len()).clamp(1, layer.rows.max(1)).min(4);
        let tile_blocks = (MAX_ACCUMULATORS / (group.len() * tile_rows)).clamp(1, blocks.max(1));
        f.scope(|f| {
            let panel = f.address(start);
            let units = f.i32(0);
            // The last block stands alone where it is not full, so that its stores can be shorter.
            let full = layer.hidden / LANES / tile_blocks;
            let mut parts = vec![(full, tile_blocks, LANES)];
            let rest = blocks - full * tile_blocks;
            if rest > 0 {
                let last = layer.hidden - (blocks - 1) * LANES;
                if rest > 1 && last < LANES {
                    parts.push((1, rest - 1, LANES));
                    parts.push((1, 1, last));
                } else {
                    parts.push((1, rest, last));
                }
            }
            for (count, num_blocks, last_units) in parts {
                f.walk(
                    count,
                    &[(panel, (num_blocks * block_bytes) as i32), (units, (num_blocks * LANES * 4) as i32)],
                    |f| {
                        let shift = |f: &mut Func, base: I32| -> I32 {
                            f.op2(base, units, |s| {
                                s.i32_add();
                            })
                        };
                        let fixed = |f: &mut Func, base: u32| -> I32 {
                            f.get(units);
                            f.sink().i32_const(base.cast_signed()).i32_add();
                            f.take()
                        };
                        let mut tile = Tile {
                            rows: tile_rows,
                            blocks: num_blocks,
                            last_units,
                            projected: shift(f, step.projected),
                            input: match number {
                                0 => f.copy(step.before),
                                _ => f.address(cx.scratch() + layer.scratch.between[1] as u32),
                            },
                            before: shift(f, step.before),
                            after: shift(f, step.after),
                            cell: fixed(f, cell_at),
                            between: layer.scratch.between.map(|offset| fixed(f, cx.scratch() + offset as u32)),
                            extra: extra.iter().map(|&address| fixed(f, address)).collect(),
                        };
                        let row_bytes = (layer.hidden * 4) as i32;
                        let rows = [(layer.rows / tile_rows, tile_rows), (1, layer.rows % tile_rows)];
                        for (count, rows) in rows.into_iter().filter(|(_, rows)| *rows > 0) {
                            tile.rows = rows;
                            let bytes = rows as i32 * row_bytes;
                            let moving = [
                                (tile.projected, (rows * row_stride) as i32),
                                (tile.input, bytes),
                                (tile.before, bytes),
                                (tile.after, bytes),
                                (tile.cell, bytes),
                                (tile.between[0], bytes),
                                (tile.between[1], bytes),
                            ];
                            f.walk(count, &moving, |f| {
                                let done = one_tile(f, layer, &tile, number, group, panel, row_stride, block_bytes);
                                if done.is_err() {
                                    result = done;
                                }
                            });
                        }
                    },
                );
            }
        });
        start += (blocks * block_bytes) as u32;
    }
    result
}

#[allow(clippy::too_many_arguments)]
fn one_tile(
    f: &mut Func,
    layer: &Layer<'_>,
    tile: &Tile,
    number: usize,
    group: &[usize],
    panel: I32,
    row_stride: usize,
    block_bytes: usize,
) -> Result<()> {
    let is_int8 = layer.weight_bytes == 1;
    // The candidate of a GRU that is reset afterwards keeps the products apart from the projected input.
    let is_apart = |gate: usize| matches!(layer.cell, Cell::Gru { linear_before_reset: true, .. }) && gate == 2;
    let projected = |f: &mut Func, row: usize, block: usize, gate: usize| -> F32x4 {
        let offset = row * row_stride + (gate * layer.hidden + block * LANES) * 4;
        f.load_f32x4(At::from(tile.projected, offset as u32))
    };
    let extra = |f: &mut Func, list: I32, block: usize, gate: usize| -> F32x4 {
        f.load_f32x4(At::from(list, ((gate * layer.hidden + block * LANES) * 4) as u32))
    };
    let mut gates = Gates::new();
    for row in 0..tile.rows {
        let mut blocks = Vec::new();
        for block in 0..tile.blocks {
            let mut sums = Vec::new();
            for &gate in group {
                sums.push(if is_int8 || is_apart(gate) { f.splat(0.0) } else { projected(f, row, block, gate) });
            }
            blocks.push(sums);
        }
        gates.push(blocks);
    }
    products(f, layer, tile, group.len(), panel, block_bytes, &gates);
    for (row, blocks) in gates.iter().enumerate() {
        for (block, sums) in blocks.iter().enumerate() {
            f.scope(|f| {
                let mut values = Vec::new();
                for (&sum, &gate) in sums.iter().zip(group) {
                    let mut value = sum;
                    if is_int8 {
                        let Some(&scales) = tile.extra.last() else {
                            return Err(CompileError::model("8-bit recurrent weights lack their scales"));
                        };
                        let scale = extra(f, scales, block, gate);
                        value = f.mul(value, scale);
                        if !is_apart(gate) {
                            let projected = projected(f, row, block, gate);
                            value = f.add(projected, value);
                        }
                    }
                    values.push(value);
                }
                let at = At::from(tile.after, (row * layer.hidden * 4 + block * LANES * 4) as u32);
                let offset = (row * layer.hidden * 4 + block * LANES * 4) as u32;
                let units = if block + 1 == tile.blocks { tile.last_units } else { LANES };
                let place = Place { at, offset, units };
                let peephole = |f: &mut Func, gate: usize| extra(f, tile.extra[0], block, gate);
                match layer.cell {
                    Cell::Lstm { activations, input_forget } => {
                        let has_peepholes = tile.extra.len() > usize::from(is_int8);
                        let peephole: Option<&PerGate<'_>> = has_peepholes.then_some(&peephole);
                        lstm(f, layer, tile, &values, &place, activations, *input_forget, peephole);
                    }
                    Cell::Gru { activations, linear_before_reset: true } => {
                        let candidate = projected(f, row, block, 2);
                        let bias = extra(f, tile.extra[0], block, 0);
                        let (z, r) =
                            (gate(f, layer, &activations[0], values[0]), gate(f, layer, &activations[0], values[1]));
                        let inner = f.add(values[2], bias);
                        let inner = f.mul_add(r, inner, candidate);
                        let candidate = gate(f, layer, &activations[1], inner);
                        gru_state(f, tile, z, candidate, &place);
                    }
                    Cell::Gru { activations, .. } if number == 0 => {
                        let (z, r) =
                            (gate(f, layer, &activations[0], values[0]), gate(f, layer, &activations[0], values[1]));
                        let before = f.load_f32x4(At::from(tile.before, offset));
                        let reset = f.mul(r, before);
                        f.store_lanes(At::from(tile.between[0], offset), z, units);
                        f.store_lanes(At::from(tile.between[1], offset), reset, units);
                    }
                    Cell::Gru { activations, .. } => {
                        let z = f.load_f32x4(At::from(tile.between[0], offset));
                        let candidate = gate(f, layer, &activations[1], values[0]);
                        gru_state(f, tile, z, candidate, &place);
                    }
                    Cell::Rnn { activation } => {
                        let state = gate(f, layer, activation, values[0]);
                        f.store_lanes(at, state, units);
                    }
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Where a tile's four units of a row are.
struct Place {
    /// The new state.
    at: At,
    /// In the tile's other states.
    offset: u32,
    units: usize,
}

/// Adds the products of a tile's rows with its columns.
#[allow(clippy::needless_range_loop)]
fn products(
    f: &mut Func,
    layer: &Layer<'_>,
    tile: &Tile,
    num_gates: usize,
    panel: I32,
    block_bytes: usize,
    sums: &Gates,
) {
    let vector_bytes = LANES * layer.weight_bytes;
    let body = |f: &mut Func, input: I32, panel: I32, count: usize| {
        let at = |row: usize, unit: usize| At::from(input, ((row * layer.hidden + unit) * 4) as u32);
        // Four states are loaded together and spread by shuffles: measured, that beats four loads.
        let fours: Vec<F32x4> =
            if count == LANES { (0..tile.rows).map(|row| f.load_f32x4(at(row, 0))).collect() } else { Vec::new() };
        for unit in 0..count {
            f.scope(|f| {
                let state = |f: &mut Func, row: usize| match fours.get(row) {
                    Some(four) => f.shuffle(*four, [unit as u8; LANES]),
                    None => f.load_splat(at(row, unit)),
                };
                let states: Vec<F32x4> = (0..tile.rows).map(|row| state(f, row)).collect();
                for block in 0..tile.blocks {
                    f.scope(|f| {
                        for gate in 0..num_gates {
                            let offset = block * block_bytes + (unit * num_gates + gate) * vector_bytes;
                            let at = At::from(panel, offset as u32);
                            let weights =
                                if layer.weight_bytes == 1 { f.load_i8x4_as_f32x4(at) } else { f.load_f32x4(at) };
                            for (row, &state) in states.iter().enumerate() {
                                f.accumulate(sums[row][block][gate], state, weights);
                            }
                        }
                        f.fence();
                    });
                }
            });
        }
    };
    f.fenced(|f| {
        let (input, panel) = (f.copy(tile.input), f.copy(panel));
        let bytes = (UNROLL * num_gates * vector_bytes) as i32;
        f.walk(layer.hidden / UNROLL, &[(input, UNROLL as i32 * 4), (panel, bytes)], |f| {
            body(f, input, panel, UNROLL);
        });
        body(f, input, panel, layer.hidden % UNROLL);
    });
}

#[allow(clippy::too_many_arguments)]
fn lstm(
    f: &mut Func,
    layer: &Layer<'_>,
    tile: &Tile,
    gates: &[F32x4],
    place: &Place,
    activations: &[Activation; 3],
    input_forget: bool,
    peephole: Option<&PerGate<'_>>,
) {
    let [mut input, mut output, mut forget, candidate] = [gates[0], gates[1], gates[2], gates[3]];
    let cell_at = At::from(tile.cell, place.offset);
    let before = f.load_f32x4(cell_at);
    if let Some(peephole) = peephole {
        let (p, q) = (peephole(f, 0), peephole(f, 2));
        input = f.mul_add(p, before, input);
        forget = f.mul_add(q, before, forget);
    }
    let input = gate(f, layer, &activations[0], input);
    let forget = if input_forget {
        let one = f.splat(1.0);
        f.sub(one, input)
    } else {
        gate(f, layer, &activations[0], forget)
    };
    let candidate = gate(f, layer, &activations[1], candidate);
    let kept = f.mul(forget, before);
    let cell = f.mul_add(input, candidate, kept);
    f.store_lanes(cell_at, cell, place.units);
    if let Some(peephole) = peephole {
        let p = peephole(f, 1);
        output = f.mul_add(p, cell, output);
    }
    let output = gate(f, layer, &activations[0], output);
    let shown = activate(f, &activations[2], cell);
    let state = f.mul(output, shown);
    f.store_lanes(place.at, state, place.units);
}

/// `(1 - z) * candidate + z * before`.
fn gru_state(f: &mut Func, tile: &Tile, z: F32x4, candidate: F32x4, place: &Place) {
    let before = f.load_f32x4(At::from(tile.before, place.offset));
    let one = f.splat(1.0);
    let rest = f.sub(one, z);
    let kept = f.mul(z, before);
    let state = f.mul_add(rest, candidate, kept);
    f.store_lanes(place.at, state, place.units);
}

/// The activation of a pre-activation, which is limited first.
fn gate(f: &mut Func, layer: &Layer<'_>, activation: &Activation, x: F32x4) -> F32x4 {
    let Some(limit) = layer.clip else { return activate(f, activation, x) };
    let (low, high) = (f.splat(-limit), f.splat(limit));
    let x = f.pmax(x, low);
    let x = f.pmin(x, high);
    activate(f, activation, x)
}

fn activate(f: &mut Func, activation: &Activation, x: F32x4) -> F32x4 {
    let positive = |f: &mut Func, x: F32x4| {
        let zero = f.splat(0.0);
        f.op2::<crate::emit::I32x4>(x, zero, |s| {
            s.f32x4_ge();
        })
    };
    match *activation {
        Activation::Sigmoid => math::sigmoid(f, x),
        Activation::Tanh => math::tanh(f, x),
        Activation::Relu => {
            let zero = f.splat(0.0);
            f.pmax(x, zero)
        }
        Activation::Affine(alpha, beta) => {
            let (alpha, beta) = (f.splat(alpha), f.splat(beta));
            f.mul_add(x, alpha, beta)
        }
        Activation::LeakyRelu(alpha) => {
            let alpha = f.splat(alpha);
            let (small, mask) = (f.mul(x, alpha), positive(f, x));
            f.select(mask, x, small)
        }
        Activation::ScaledTanh(alpha, beta) => {
            let (alpha, beta) = (f.splat(alpha), f.splat(beta));
            let inner = f.mul(x, beta);
            let value = math::tanh(f, inner);
            f.mul(value, alpha)
        }
        Activation::HardSigmoid(alpha, beta) => {
            let (alpha, beta) = (f.splat(alpha), f.splat(beta));
            let (zero, one) = (f.splat(0.0), f.splat(1.0));
            let value = f.mul_add(x, alpha, beta);
            let value = f.pmax(value, zero);
            f.pmin(value, one)
        }
        Activation::Elu(alpha) => {
            let (alpha, one) = (f.splat(alpha), f.splat(1.0));
            let value = math::exp(f, x);
            let value = f.sub(value, one);
            let (value, mask) = (f.mul(value, alpha), positive(f, x));
            f.select(mask, x, value)
        }
        Activation::Softsign => {
            let one = f.splat(1.0);
            let size: F32x4 = f.op1(x, |s| {
                s.f32x4_abs();
            });
            let size = f.add(size, one);
            f.div(x, size)
        }
        Activation::Softplus => math::softplus(f, x),
        Activation::ThresholdedRelu(alpha) => {
            let (alpha, zero) = (f.splat(alpha), f.splat(0.0));
            let mask = f.op2(x, alpha, |s| {
                s.f32x4_gt();
            });
            f.select(mask, x, zero)
        }
    }
}

/// Copies an operand to a place, row-major.
fn copy(f: &mut Func, cx: &Cx<'_>, operand: &Operand, to: u32) {
    f.scope(|f| {
        let (to, from) = (f.address(to), f.address(cx.address(operand)));
        if operand.is_contiguous() {
            return f.copy_memory(to, from, (operand.len() * 4) as u32);
        }
        copy_axes(f, operand, 0, to, from);
    });
}

fn copy_axes(f: &mut Func, operand: &Operand, axis: usize, to: I32, from: I32) {
    if axis == operand.rank() {
        let value = f.load_f32(At::from(from, 0));
        f.store_f32(At::from(to, 0), value);
        return f.advance(to, 4);
    }
    let bytes = operand.strides[axis] as i32 * 4;
    f.walk(operand.shape[axis], &[(from, bytes)], |f| copy_axes(f, operand, axis + 1, to, from));
    f.advance(from, -bytes * operand.shape[axis] as i32);
}

/// Packs weights that are no constants; see [`pack`].
fn pack_at_run_time(f: &mut Func, cx: &Cx<'_>, layer: &Layer<'_>, weights: &Operand, to: u32) -> Result<()> {
    if cx.dtype(weights) != DType::F32 {
        return Err(CompileError::model("computed recurrent weights are not float32"));
    }
    let hidden = layer.hidden;
    let [input_bytes, column_bytes] = [weights.strides[0], weights.strides[1]].map(|stride| stride as i32 * 4);
    f.scope(|f| {
        let to = f.address(to);
        for group in gate_groups(layer.cell) {
            let mut parts = vec![(hidden / LANES, LANES, 0)];
            if !hidden.is_multiple_of(LANES) {
                parts.push((1, hidden % LANES, hidden / LANES));
            }
            for (blocks, units, first_block) in parts {
                let start = cx.address(weights).wrapping_add_signed(first_block as i32 * LANES as i32 * column_bytes);
                f.scope(|f| {
                    let block = f.address(start);
                    f.walk(blocks, &[(block, LANES as i32 * column_bytes)], |f| {
                        let input = f.copy(block);
                        f.walk(hidden, &[(input, input_bytes)], |f| {
                            for &gate in *group {
                                let zero = f.f32(0.0);
                                for lane in 0..LANES {
                                    let column = gate * hidden + lane;
                                    let from = f.moved(input, column as i32 * column_bytes);
                                    let value = if lane < units { f.load_f32(At::from(from, 0)) } else { zero };
                                    f.store_f32(At::from(to, lane as u32 * 4), value);
                                }
                                f.advance(to, LANES as i32 * 4);
                            }
                        });
                    });
                });
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests;
