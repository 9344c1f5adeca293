//! LSTM, GRU, RNN.
//!
//! The input is projected by all gates at once, one matrix product for the whole sequence; the loop over steps is [`Op::Recurrent`]. A layer of
//! two directions is two of them.

use super::{Builder, Call};
use crate::error::Result;
use crate::ir::{Activation, Binary, Cell, DType, Data, Expr, Node, Op, Operand, Packing};

/// Lowers a node; `None` where its operator is none of these.
pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    if !matches!(call.op, "LSTM" | "GRU" | "RNN") {
        return Ok(None);
    }
    let layer = Layer::read(builder, call)?;
    let mut outputs = Vec::new();
    for direction in 0..layer.directions {
        outputs.push(one_direction(builder, call, &layer, direction)?);
    }
    // Without the axis of directions: all states [steps, rows, hidden], last state and cell [rows, hidden].
    let mut joined = Vec::new();
    for (index, axis) in [(0, 1), (1, 0), (2, 0)] {
        let parts: Vec<Operand> =
            outputs.iter().filter_map(|outputs| outputs.get(index)).map(|part| part.unsqueezed(axis)).collect();
        match &parts[..] {
            [] => {}
            [part] => joined.push(part.clone()),
            [first, ..] => {
                let mut shape = first.shape.clone();
                shape[axis] = parts.len();
                joined.push(builder.add(&call.name, Op::Concat { axis }, parts, DType::F32, &shape)?);
            }
        }
    }
    if layer.is_batch_first {
        for (output, order) in joined.iter_mut().zip([&[2, 0, 1, 3][..], &[1, 0, 2], &[1, 0, 2]]) {
            *output = output.transposed(order);
        }
    }
    Ok(Some(joined))
}

/// What the node says of all directions.
struct Layer {
    /// `[steps, rows, features]`.
    x: Operand,
    steps: usize,
    rows: usize,
    hidden: usize,
    directions: usize,
    is_backward: bool,
    is_batch_first: bool,
    /// One per direction.
    cells: Vec<Cell>,
    clip: Option<f32>,
}

impl Layer {
    fn read(builder: &Builder, call: &Call<'_>) -> Result<Self> {
        let is_batch_first = call.int("layout", 0) == 1;
        let (x, r) = (call.input(0)?, call.input(2)?);
        call.input(1)?;
        for (index, input) in call.inputs.iter().enumerate() {
            let dtype = input.as_ref().map_or(DType::F32, |input| builder.graph.dtype(input));
            if dtype != DType::F32 && index != 4 {
                return Err(call.error(format!("input {index} is {}, expected float32", dtype.name())));
            }
        }
        let (directions, is_backward) = match call.text("direction").as_deref() {
            None | Some("forward") => (1, false),
            Some("reverse") => (1, true),
            Some("bidirectional") => (2, false),
            Some(other) => {
                let accepted = "`forward`, `reverse` or `bidirectional`";
                return Err(call.error(format!("`direction` is `{other}`, expected {accepted}")));
            }
        };
        let hidden = r.shape.last().copied().unwrap_or(0);
        if let Ok(given) = usize::try_from(call.int("hidden_size", 0))
            && given != 0
            && given != hidden
        {
            return Err(call.error(format!("`hidden_size` is {given}, but input 2 has shape {:?}", r.shape)));
        }
        let cells = (0..directions).map(|direction| cell(call, direction, directions)).collect::<Result<Vec<_>>>()?;
        let gates = cells[0].gates();
        let x = if is_batch_first && x.rank() == 3 { x.transposed(&[1, 0, 2]) } else { x.clone() };
        let &[steps, rows, features] = &x.shape[..] else {
            return Err(call.error(format!("input 0 has shape {:?}, expected three dimensions", x.shape)));
        };
        let columns = gates.saturating_mul(hidden);
        let expect = |index: usize, expected: &[usize]| match call.optional(index) {
            Some(input) if input.shape != expected => {
                Err(call.error(format!("input {index} has shape {:?}, expected {expected:?}", input.shape)))
            }
            _ => Ok(()),
        };
        let states = if is_batch_first { [rows, directions, hidden] } else { [directions, rows, hidden] };
        expect(1, &[directions, columns, features])?;
        expect(2, &[directions, columns, hidden])?;
        expect(3, &[directions, columns.saturating_mul(2)])?;
        expect(5, &states)?;
        if call.op == "LSTM" {
            expect(6, &states)?;
            expect(7, &[directions, hidden.saturating_mul(3)])?;
        }
        if let Some(lengths) = call.optional(4) {
            let is_whole = match builder.graph.constant(lengths) {
                Some(Data::I32(lengths)) => lengths.iter().all(|length| *length as usize == steps),
                _ => false,
            };
            if !is_whole {
                return Err(call.error(format!("`sequence_lens` is given, expected none, or {steps} for every row")));
            }
        }
        let clip = call.has("clip").then(|| call.float("clip", 0.0)).filter(|clip| *clip > 0.0);
        Ok(Self { x, steps, rows, hidden, directions, is_backward, is_batch_first, cells, clip })
    }
}

/// Lowers one direction: all states, last state, and last cell of an LSTM, without the axis of directions.
fn one_direction(builder: &mut Builder, call: &Call<'_>, layer: &Layer, direction: usize) -> Result<Vec<Operand>> {
    let pick = |index: usize, axis: usize| {
        call.optional(index).map(|input| input.sliced(axis, direction, 1, 1).squeezed(axis))
    };
    let cell = layer.cells[direction].clone();
    let (hidden, columns) = (layer.hidden, cell.gates() * layer.hidden);
    let (Some(w), Some(r)) = (pick(1, 0), pick(2, 0)) else { return Err(call.error("weights are missing")) };
    // Steps and rows become one dimension, in the order in which they lie in memory.
    let features = layer.x.shape[2];
    let total = layer.steps * layer.rows;
    let swapped = layer.x.transposed(&[1, 0, 2]);
    let (flat, is_swapped) = match (layer.x.reshaped(&[total, features]), swapped.reshaped(&[total, features])) {
        (Some(flat), _) => (flat, false),
        (None, Some(flat)) => (flat, true),
        (None, None) => (builder.reshaped(call, &layer.x, &[total, features])?, false),
    };
    let product = Op::MatMul { epilogue: Expr::Result, packing: Packing::None };
    let inputs = vec![flat, w.transposed(&[1, 0])];
    let mut projected = builder.add(&call.name, product, inputs, DType::F32, &[total, columns])?;
    let sum = Expr::binary(Binary::Add, Expr::Input(0), Expr::Input(1));
    // The candidate of a GRU that is reset after its product keeps its recurrent bias apart.
    let is_apart = matches!(cell, Cell::Gru { linear_before_reset: true, .. });
    let mut apart = None;
    if let Some(bias) = pick(3, 0) {
        let (of_input, of_state) = (bias.sliced(0, 0, 1, columns), bias.sliced(0, columns, 1, columns));
        let bias = if is_apart {
            apart = Some(of_state.sliced(0, 2 * hidden, 1, hidden));
            let others = builder.map(
                call,
                sum.clone(),
                &[&of_input.sliced(0, 0, 1, 2 * hidden), &of_state.sliced(0, 0, 1, 2 * hidden)],
            )?;
            let candidate = of_input.sliced(0, 2 * hidden, 1, hidden);
            builder.add(&call.name, Op::Concat { axis: 0 }, vec![others, candidate], DType::F32, &[columns])?
        } else {
            builder.map(call, sum.clone(), &[&of_input, &of_state])?
        };
        projected = builder.map(call, sum, &[&projected, &bias])?;
    }
    let projected = if is_swapped {
        Operand::whole(projected.value, &[layer.rows, layer.steps, columns]).transposed(&[1, 0, 2])
    } else {
        Operand::whole(projected.value, &[layer.steps, layer.rows, columns])
    };
    let zeros = |builder: &mut Builder| -> Result<Operand> {
        let zero = builder.graph.add_constant(format!("{}.zero", call.name), &[], Data::F32(vec![0.0]))?;
        Ok(Operand { value: zero, offset: 0, shape: vec![layer.rows, hidden], strides: vec![0, 0] })
    };
    let axis = usize::from(layer.is_batch_first);
    let mut inputs = vec![projected, r.transposed(&[1, 0])];
    inputs.push(match pick(5, axis) {
        Some(state) => state,
        None => zeros(builder)?,
    });
    let is_lstm = matches!(cell, Cell::Lstm { .. });
    if is_lstm {
        inputs.push(match pick(6, axis) {
            Some(state) => state,
            None => zeros(builder)?,
        });
        inputs.extend(pick(7, 0));
    }
    if is_apart {
        inputs.push(match apart {
            Some(bias) => bias,
            None => zeros(builder)?.sliced(0, 0, 1, 1).squeezed(0),
        });
    }
    let shapes: [&[usize]; 3] = [&[layer.steps, layer.rows, hidden], &[layer.rows, hidden], &[layer.rows, hidden]];
    let mut outputs = Vec::new();
    for shape in &shapes[..if is_lstm { 3 } else { 2 }] {
        outputs.push(builder.graph.add_value(&call.name, DType::F32, shape)?);
    }
    let reverse = layer.is_backward || direction == 1;
    builder.graph.nodes.push(Node {
        name: call.name.clone(),
        op: Op::Recurrent { cell, hidden, reverse, clip: layer.clip, packing: Packing::None },
        inputs,
        outputs: outputs.iter().copied().map(Some).collect(),
    });
    Ok(outputs.into_iter().map(|id| builder.graph.whole(id)).collect())
}

fn cell(call: &Call<'_>, direction: usize, directions: usize) -> Result<Cell> {
    let defaults: &[&str] = match call.op {
        "LSTM" => &["Sigmoid", "Tanh", "Tanh"],
        "GRU" => &["Sigmoid", "Tanh"],
        _ => &["Tanh"],
    };
    let count = defaults.len();
    let given = call.texts("activations");
    if !given.is_empty() && given.len() != count * directions {
        let expected = count * directions;
        return Err(call.error(format!("`activations` has {} names, expected {expected}", given.len())));
    }
    let names: Vec<String> = match given.is_empty() {
        true => defaults.iter().map(ToString::to_string).cycle().take(count * directions).collect(),
        false => given,
    };
    let mut alphas = call.floats("activation_alpha").unwrap_or_default().iter().copied();
    let mut betas = call.floats("activation_beta").unwrap_or_default().iter().copied();
    let mut activations = Vec::new();
    for name in &names {
        activations.push(activation(call, name, &mut alphas, &mut betas)?);
    }
    let own = &activations[direction * count..];
    Ok(match call.op {
        "LSTM" => Cell::Lstm { activations: [own[0], own[1], own[2]], input_forget: call.int("input_forget", 0) != 0 },
        "GRU" => {
            Cell::Gru { activations: [own[0], own[1]], linear_before_reset: call.int("linear_before_reset", 0) != 0 }
        }
        _ => Cell::Rnn { activation: own[0] },
    })
}

/// An activation by its name. Those with parameters take the next ones of the lists, in the order of the activations.
fn activation(
    call: &Call<'_>,
    name: &str,
    alphas: &mut impl Iterator<Item = f32>,
    betas: &mut impl Iterator<Item = f32>,
) -> Result<Activation> {
    let mut alpha = |default: f32| alphas.next().unwrap_or(default);
    let mut beta = |default: f32| betas.next().unwrap_or(default);
    Ok(match name.to_lowercase().as_str() {
        "sigmoid" => Activation::Sigmoid,
        "tanh" => Activation::Tanh,
        "relu" => Activation::Relu,
        "softsign" => Activation::Softsign,
        "softplus" => Activation::Softplus,
        "affine" => Activation::Affine(alpha(1.0), beta(0.0)),
        "leakyrelu" => Activation::LeakyRelu(alpha(0.01)),
        "thresholdedrelu" => Activation::ThresholdedRelu(alpha(1.0)),
        "scaledtanh" => Activation::ScaledTanh(alpha(1.0), beta(1.0)),
        "hardsigmoid" => Activation::HardSigmoid(alpha(0.2), beta(0.5)),
        "elu" => Activation::Elu(alpha(1.0)),
        _ => return Err(call.error(format!("activation `{name}` is not lowered"))),
    })
}

#[cfg(test)]
mod tests;
