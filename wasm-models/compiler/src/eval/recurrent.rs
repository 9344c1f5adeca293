//! Recurrent layers.

use super::Input;
use crate::error::{CompileError, Result};
use crate::ir::{Activation, Cell, Data, Node, Op};

pub(super) fn eval(node: &Node, inputs: &[Input]) -> Result<Vec<Data>> {
    let Op::Recurrent { cell, hidden, reverse, clip, .. } = &node.op else {
        return Err(CompileError::node(&node.name, "is no recurrent layer"));
    };
    let numbers = inputs.iter().map(|input| match &input.data {
        Data::F32(data) => Ok(data.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>()),
        Data::I8(data) => Ok(data.iter().map(|x| f64::from(*x)).collect()),
        other => Err(CompileError::node(&node.name, format!("an input is {}", other.dtype().name()))),
    });
    let mut numbers = numbers.collect::<Result<Vec<_>>>()?;
    if let Data::I8(_) = inputs[1].data {
        let scales = numbers.pop().unwrap_or_default();
        let columns = scales.len();
        numbers[1].iter_mut().enumerate().for_each(|(place, weight)| *weight *= scales[place % columns]);
    }
    let (hidden, gates) = (*hidden, cell.gates());
    let (steps, rows) = (inputs[0].shape[0], inputs[0].shape[1]);
    let is_lstm = matches!(cell, Cell::Lstm { .. });
    let (x, weights) = (&numbers[0], &numbers[1]);
    let mut state = numbers[2].clone();
    let mut memory = if is_lstm { numbers[3].clone() } else { Vec::new() };
    let extra = numbers.get(if is_lstm { 4 } else { 3 });
    let mut all = vec![0f32; steps * rows * hidden];
    let limited = |x: f64| clip.map_or(x, |clip| x.clamp(-f64::from(clip), f64::from(clip)));
    for number in 0..steps {
        let step = if *reverse { steps - 1 - number } else { number };
        for row in 0..rows {
            let before = state[row * hidden..(row + 1) * hidden].to_vec();
            let projected = |gate: usize, unit: usize| x[((step * rows + row) * gates + gate) * hidden + unit];
            let product = |input: &[f64], gate: usize, unit: usize| -> f64 {
                (0..hidden).map(|k| input[k] * weights[k * gates * hidden + gate * hidden + unit]).sum()
            };
            let sum = |gate: usize, unit: usize| projected(gate, unit) + product(&before, gate, unit);
            let next: Vec<f64> = match cell {
                Cell::Rnn { activation } => (0..hidden).map(|unit| apply(activation, limited(sum(0, unit)))).collect(),
                Cell::Gru { activations: [f, g], linear_before_reset } => {
                    let r: Vec<f64> = (0..hidden).map(|unit| apply(f, limited(sum(1, unit)))).collect();
                    let reset: Vec<f64> = before.iter().zip(&r).map(|(h, r)| h * r).collect();
                    let unit = |unit: usize| {
                        let z = apply(f, limited(sum(0, unit)));
                        let inner = if *linear_before_reset {
                            let bias = extra.map_or(0.0, |bias| bias[unit]);
                            projected(2, unit) + r[unit] * (product(&before, 2, unit) + bias)
                        } else {
                            projected(2, unit) + product(&reset, 2, unit)
                        };
                        (1.0 - z) * apply(g, limited(inner)) + z * before[unit]
                    };
                    (0..hidden).map(unit).collect()
                }
                Cell::Lstm { activations: [f, g, h], input_forget } => {
                    let mut unit = |unit: usize| {
                        let peephole = |which: usize| extra.map_or(0.0, |list| list[which * hidden + unit]);
                        let c = memory[row * hidden + unit];
                        let i = apply(f, limited(sum(0, unit) + peephole(0) * c));
                        let forget = apply(f, limited(sum(2, unit) + peephole(2) * c));
                        let forget = if *input_forget { 1.0 - i } else { forget };
                        let c = forget * c + i * apply(g, limited(sum(3, unit)));
                        memory[row * hidden + unit] = c;
                        apply(f, limited(sum(1, unit) + peephole(1) * c)) * apply(h, c)
                    };
                    (0..hidden).map(&mut unit).collect()
                }
            };
            // Between steps the kernel keeps 32 bits; here the exact state goes on.
            for (unit, value) in next.iter().enumerate() {
                all[(step * rows + row) * hidden + unit] = *value as f32;
            }
            state[row * hidden..(row + 1) * hidden].copy_from_slice(&next);
        }
    }
    let single = |numbers: Vec<f64>| Data::F32(numbers.into_iter().map(|x| x as f32).collect());
    let mut outputs = vec![Data::F32(all), single(state)];
    if is_lstm {
        outputs.push(single(memory));
    }
    Ok(outputs)
}

fn apply(activation: &Activation, x: f64) -> f64 {
    match *activation {
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Relu => x.max(0.0),
        Activation::Affine(alpha, beta) => f64::from(alpha) * x + f64::from(beta),
        Activation::LeakyRelu(alpha) => {
            if x >= 0.0 {
                x
            } else {
                f64::from(alpha) * x
            }
        }
        Activation::ScaledTanh(alpha, beta) => f64::from(alpha) * (f64::from(beta) * x).tanh(),
        Activation::HardSigmoid(alpha, beta) => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
        Activation::Elu(alpha) => {
            if x >= 0.0 {
                x
            } else {
                f64::from(alpha) * x.exp_m1()
            }
        }
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Activation::ThresholdedRelu(alpha) => {
            if x > f64::from(alpha) {
                x
            } else {
                0.0
            }
        }
    }
}
