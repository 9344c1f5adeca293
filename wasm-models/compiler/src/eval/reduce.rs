//! Reductions, softmax, normalisation.

use super::{Input, Numbers, Output};
use crate::ir::{DType, Data, Reduction};

pub(super) fn reduce(kind: Reduction, axes: usize, input: &Input, output: &Output) -> Data {
    let size: usize = input.shape[input.shape.len() - axes..].iter().product();
    // Nothing is left to divide where the reduced axes are empty.
    let runs = |len: usize| (0..output.len()).map(move |index| (index * size).min(len)..((index + 1) * size).min(len));
    let numbers = match Numbers::of(&input.data) {
        Numbers::Float(data) => {
            let best = |run: &[f64], wins: fn(f64, f64) -> bool| {
                let mut best = 0;
                for (index, x) in run.iter().enumerate() {
                    if wins(*x, run[best]) || (x.is_nan() && !run[best].is_nan()) {
                        best = index;
                    }
                }
                best
            };
            let run = |run: std::ops::Range<usize>| {
                let run = &data[run];
                match kind {
                    Reduction::Sum => run.iter().sum(),
                    Reduction::Mean => run.iter().sum::<f64>() / run.len() as f64,
                    Reduction::Prod => run.iter().product(),
                    Reduction::Min if run.is_empty() => f64::INFINITY,
                    Reduction::Max if run.is_empty() => f64::NEG_INFINITY,
                    Reduction::Min => run[best(run, |a, b| a < b)],
                    Reduction::Max => run[best(run, |a, b| a > b)],
                    Reduction::ArgMin => best(run, |a, b| a < b) as f64,
                    Reduction::ArgMax => best(run, |a, b| a > b) as f64,
                }
            };
            Numbers::Float(runs(data.len()).map(run).collect())
        }
        Numbers::Int(data) => {
            let limits = match input.data.dtype() {
                DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
                DType::I8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
                DType::Bool => (0, 1),
                _ => (i64::MIN, i64::MAX),
            };
            let best = |run: &[i64], wins: fn(i64, i64) -> bool| {
                (1..run.len()).fold(0, |best, index| if wins(run[index], run[best]) { index } else { best })
            };
            let run = |run: std::ops::Range<usize>| {
                let run = &data[run];
                match kind {
                    Reduction::Sum => run.iter().fold(0, |sum, x| i64::wrapping_add(sum, *x)),
                    Reduction::Mean => {
                        run.iter().fold(0, |sum, x| i64::wrapping_add(sum, *x)) / (run.len() as i64).max(1)
                    }
                    Reduction::Prod => run.iter().fold(1, |product, x| i64::wrapping_mul(product, *x)),
                    Reduction::Min if run.is_empty() => limits.1,
                    Reduction::Max if run.is_empty() => limits.0,
                    Reduction::Min => run[best(run, |a, b| a < b)],
                    Reduction::Max => run[best(run, |a, b| a > b)],
                    Reduction::ArgMin => best(run, |a, b| a < b) as i64,
                    Reduction::ArgMax => best(run, |a, b| a > b) as i64,
                }
            };
            Numbers::Int(runs(data.len()).map(run).collect())
        }
    };
    numbers.to(output.dtype)
}

pub(super) fn softmax(log: bool, input: &Input, output: &Output) -> Data {
    let mut data = Numbers::of(&input.data).floats();
    let size = input.shape.last().copied().unwrap_or(1).max(1);
    for run in data.chunks_mut(size) {
        let max = run.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = run.iter().map(|x| libm::exp(x - max)).sum();
        for x in run {
            *x = if log { *x - max - libm::log(sum) } else { libm::exp(*x - max) / sum };
        }
    }
    Numbers::Float(data).to(output.dtype)
}

pub(super) fn normalize(epsilon: f32, inputs: &[Input], output: &Output) -> Data {
    let mut data = Numbers::of(&inputs[0].data).floats();
    let size = inputs[0].shape.last().copied().unwrap_or(1).max(1);
    let scale = inputs.get(1).map(|scale| Numbers::of(&scale.data).floats());
    let bias = inputs.get(2).map(|bias| Numbers::of(&bias.data).floats());
    for run in data.chunks_mut(size) {
        let mean = run.iter().sum::<f64>() / size as f64;
        let variance = run.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / size as f64;
        let factor = 1.0 / (variance + f64::from(epsilon)).sqrt();
        for (index, x) in run.iter_mut().enumerate() {
            *x = (*x - mean) * factor * scale.as_ref().map_or(1.0, |scale| scale[index])
                + bias.as_ref().map_or(0.0, |bias| bias[index]);
        }
    }
    Numbers::Float(data).to(output.dtype)
}
