//! The samples of a run, encoded.

use moola_core::contract::{InputKind, InputSpec, Task, TrainingSpec};
use moola_core::samples::{self, SampleSet};
use moola_core::{Error, Result, inputs};
use moola_market::Bars;

use crate::model::{Batch, Shape};

/// Windows that are encoded at a time.
const ENCODE_ROWS: usize = 1024;

/// The samples of a run, encoded once: `4 * window_bars * 4` bytes each.
#[derive(Debug, Clone)]
pub struct Data {
    /// Samples and folds.
    pub set: SampleSet,
    /// The inputs, fitted to the training fold.
    pub inputs: Vec<InputSpec>,
    /// Features before scaling, NaN where missing, `[samples, features]`.
    pub raw_features: Vec<f64>,
    /// Mean and standard deviation of the target of a regression over the training fold.
    pub target: (f64, f64),
    bars: Vec<f32>,
    features: Vec<f32>,
}

impl Data {
    /// Makes and encodes the samples of `spec`; `needs_features` is false for a model of the bars alone.
    ///
    /// # Errors
    /// Those of [`samples::build`], [`inputs::fit`] and [`inputs::encode`]; `Invalid` where the target never changes.
    pub fn new(spec: &TrainingSpec, bars: &Bars, needs_features: bool) -> Result<Self> {
        let set = samples::build(spec, bars)?;
        let window_bars = spec.window.bars;
        let feature_set = if needs_features { set.feature_set.as_ref() } else { None };
        let all: Vec<usize> = set.samples.iter().map(|sample| sample.end).collect();
        let plain = inputs::standard(window_bars, feature_set);
        let inputs = inputs::fit(&plain, feature_set, window_bars, bars, &set.ends(&set.train), &all)?;
        let (mut windows, mut features, mut raw_features) = (Vec::new(), Vec::new(), Vec::new());
        for ends in all.chunks(ENCODE_ROWS) {
            let encoded = inputs::encode(&inputs, feature_set, window_bars, bars, ends)?;
            raw_features.extend(encoded.features);
            for (input, tensor) in inputs.iter().zip(encoded.tensors) {
                let list = if input.kind == InputKind::Features { &mut features } else { &mut windows };
                list.extend(tensor.into_data());
            }
        }
        let target = if set.task() == Task::Regression { spread(&set.targets(&set.train))? } else { (0.0, 1.0) };
        Ok(Self { set, inputs, raw_features, target, bars: windows, features })
    }

    /// Sizes of the inputs and of the output.
    #[must_use]
    pub fn shape(&self, spec: &TrainingSpec) -> Shape {
        let num_rows = self.set.samples.len().max(1);
        let num_channels = self.bars.len() / num_rows / spec.window.bars.max(1);
        let num_outputs = self.set.classes.len().max(1);
        let num_features = self.features.len() / num_rows;
        Shape::new(&spec.model, self.set.task(), spec.window.bars, num_channels, num_features, num_outputs)
    }

    /// The inputs of the samples `rows`.
    #[must_use]
    pub fn batch(&self, rows: &[usize]) -> Batch {
        let num_samples = self.set.samples.len().max(1);
        let pick = |data: &[f32]| {
            let size = data.len() / num_samples;
            let mut picked = Vec::with_capacity(rows.len() * size);
            rows.iter().for_each(|row| picked.extend_from_slice(&data[row * size..(row + 1) * size]));
            picked
        };
        Batch { num_rows: rows.len(), bars: pick(&self.bars), features: pick(&self.features), masks: None }
    }
}

fn spread(targets: &[f64]) -> Result<(f64, f64)> {
    let count = targets.len().max(1) as f64;
    let mean = targets.iter().sum::<f64>() / count;
    let std = (targets.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    if std > 0.0 && std.is_finite() {
        return Ok((mean, std));
    }
    Err(Error::invalid("target", format!("{mean} in every training sample"), "a target that changes"))
}
