//! Bars to the inputs of a model: the one encoding that training, evaluation and serving share.

mod check;
#[cfg(test)]
mod tests;

pub(crate) use check::{check_model, warm_model};
use moola_market::Bars;
use moola_market::features::{self, FeatureSet};
use moola_market::windows::{self, NUM_CHANNELS, Scaling};

use crate::contract::{InputKind, InputSpec, ModelManifest, Task};
use crate::error::{Error, Result};
use crate::ports::{LoadedModel, Tensor};

/// How far from 1 the probabilities of a row may sum.
const SUM_TOLERANCE: f64 = 1e-3;

/// Inputs of a model for some windows.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedInputs {
    /// One for each input, the batch first.
    pub tensors: Vec<Tensor>,
    /// The features as they were computed, before scaling, NaN where missing: row-major `[windows, features]`; empty
    /// where no input is made of features.
    pub features: Vec<f64>,
}

/// The inputs of a model of windows of `window_bars` bars and features of `feature_set`, not fitted yet: `bars`, and
/// `features` where there is a feature set.
#[must_use]
pub fn standard(window_bars: usize, feature_set: Option<&FeatureSet>) -> Vec<InputSpec> {
    let input = |name: &str, kind, shape| InputSpec {
        name: name.into(),
        kind,
        shape,
        scaling: None,
        missing: std::collections::BTreeMap::new(),
    };
    let mut inputs = vec![input("bars", InputKind::Bars, vec![window_bars, NUM_CHANNELS])];
    if let Some(set) = feature_set {
        inputs.push(input("features", InputKind::Features, vec![set.len()]));
    }
    inputs
}

/// Fits the scaling of `inputs` to the windows that end at `train_ends`, and nothing else.
///
/// A feature that is missing somewhere among `all_ends` gets its mean over the training windows as a stand-in.
///
/// # Errors
/// `Invalid` where a feature has no value in any training window; those of [`encode`].
pub fn fit(
    inputs: &[InputSpec],
    feature_set: Option<&FeatureSet>,
    window_bars: usize,
    bars: &Bars,
    train_ends: &[usize],
    all_ends: &[usize],
) -> Result<Vec<InputSpec>> {
    let mut fitted = inputs.to_vec();
    for input in &mut fitted {
        input.scaling = None;
        if input.kind == InputKind::Features {
            let set = set_of(input, feature_set)?;
            let is_missing = missing_columns(&features::compute_at_many(set, bars, all_ends)?, set.len());
            let train = features::compute_at_many(set, bars, train_ends)?;
            for (column, definition) in set.features().iter().enumerate().filter(|(column, _)| is_missing[*column]) {
                let values = train.iter().skip(column).step_by(set.len()).filter(|value| value.is_finite());
                let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
                if count == 0 {
                    let name = format!("feature {}", definition.name);
                    let expected = "a value in at least one training window (does the data carry volume?)";
                    return Err(Error::invalid(&name, "missing", expected));
                }
                input.missing.insert(definition.name.to_owned(), sum / count as f64);
            }
        }
        let encoded = encode(std::slice::from_ref(input), feature_set, window_bars, bars, train_ends)?;
        let width = input.shape.last().copied().unwrap_or(0);
        let tensor = encoded.tensors.first().ok_or_else(|| Error::internal("an input was not encoded"))?;
        input.scaling = Some(Scaling::fit(tensor.data(), width)?);
    }
    Ok(fitted)
}

fn missing_columns(values: &[f64], width: usize) -> Vec<bool> {
    let mut is_missing = vec![false; width];
    for row in values.chunks_exact(width) {
        for (flag, value) in is_missing.iter_mut().zip(row) {
            *flag |= !value.is_finite();
        }
    }
    is_missing
}

/// Encodes the windows of `window_bars` bars that end at `ends`.
///
/// # Errors
/// `Invalid` where `ends` is empty, an input's shape does not fit what it is made of, a price is not above zero, too few
/// bars stand before an end, or a feature is missing that has no stand-in.
pub fn encode(
    inputs: &[InputSpec],
    feature_set: Option<&FeatureSet>,
    window_bars: usize,
    bars: &Bars,
    ends: &[usize],
) -> Result<EncodedInputs> {
    if ends.is_empty() {
        return Err(Error::invalid("windows", 0, "at least 1"));
    }
    let mut encoded = EncodedInputs { tensors: Vec::with_capacity(inputs.len()), features: Vec::new() };
    for input in inputs {
        let mut data = match input.kind {
            InputKind::Bars => windows::encode_many(bars, ends, window_bars)?,
            InputKind::RawBars => raw_bars(bars, ends, window_bars)?,
            InputKind::Features => {
                let set = set_of(input, feature_set)?;
                let values = features::compute_at_many(set, bars, ends)?;
                let data = with_defaults(input, set, &values, bars, ends)?;
                encoded.features = values;
                data
            }
        };
        let size = data.len() / ends.len();
        if input.shape.iter().product::<usize>() != size {
            let expected = format!("a shape of {size} numbers");
            return Err(Error::invalid(
                &format!("inputs.{}.shape", input.name),
                format!("{:?}", input.shape),
                expected,
            ));
        }
        if let Some(scaling) = &input.scaling {
            if !size.is_multiple_of(scaling.mean.len().max(1)) {
                let given = scaling.mean.len();
                return Err(Error::invalid(&format!("inputs.{}.scaling", input.name), given, "one entry per channel"));
            }
            scaling.apply(&mut data)?;
        }
        let shape = std::iter::once(ends.len()).chain(input.shape.iter().copied()).collect();
        encoded.tensors.push(Tensor::new(shape, data)?);
    }
    Ok(encoded)
}

fn set_of<'a>(input: &InputSpec, feature_set: Option<&'a FeatureSet>) -> Result<&'a FeatureSet> {
    feature_set
        .ok_or_else(|| Error::invalid("feature_set", "none", format!("the feature set of input `{}`", input.name)))
}

fn raw_bars(bars: &Bars, ends: &[usize], window_bars: usize) -> Result<Vec<f32>> {
    // Encoding checks the places and the prices; the numbers themselves are the prices.
    let mut data = windows::encode_many(bars, ends, window_bars)?;
    let columns = [bars.open(), bars.high(), bars.low(), bars.close()];
    for (window, end) in data.chunks_exact_mut(window_bars * NUM_CHANNELS).zip(ends) {
        for (index, row) in window.chunks_exact_mut(NUM_CHANNELS).enumerate() {
            let bar = end + 1 + index - window_bars;
            row.iter_mut().zip(columns).for_each(|(value, column)| *value = column[bar] as f32);
        }
    }
    Ok(data)
}

fn with_defaults(input: &InputSpec, set: &FeatureSet, values: &[f64], bars: &Bars, ends: &[usize]) -> Result<Vec<f32>> {
    let defaults: Vec<Option<f64>> =
        set.features().iter().map(|feature| input.missing.get(feature.name).copied()).collect();
    let mut data = Vec::with_capacity(values.len());
    for (row, end) in values.chunks_exact(set.len()).zip(ends) {
        for ((value, default), feature) in row.iter().zip(&defaults).zip(set.features()) {
            let value = if value.is_finite() { Some(*value) } else { *default };
            let Some(value) = value else {
                let name = format!("feature {}", feature.name);
                let given = format!("missing at bar {end} ({} ms)", bars.time_ms()[*end]);
                return Err(Error::invalid(&name, given, "a value, since training knew no window without one"));
            };
            data.push(value as f32);
        }
    }
    Ok(data)
}

/// Reads the prediction out of what a model answered, row-major `[windows, classes]` or `[windows]`.
///
/// # Errors
/// `Invalid` where the output that the manifest names is absent, has another shape, holds a number that is not finite, or
/// rows that are no probabilities.
pub fn read_output(
    manifest: &ModelManifest,
    model: &dyn LoadedModel,
    outputs: Vec<Tensor>,
    num_windows: usize,
) -> Result<Vec<f64>> {
    let name = &manifest.output.name;
    let place = model.outputs().iter().position(|(output, _)| output == name);
    let Some(output) = place.and_then(|place| outputs.into_iter().nth(place)) else {
        let names: Vec<&str> = model.outputs().iter().map(|(name, _)| name.as_str()).collect();
        return Err(Error::invalid("output.name", name, format!("an output of the model: `{}`", names.join("`, `"))));
    };
    let width = match manifest.task {
        Task::Classification => manifest.classes.len(),
        Task::Regression => 1,
    };
    if output.num_rows() != num_windows || output.data().len() != num_windows * width {
        let expected = format!("[{num_windows}, {width}]");
        return Err(Error::invalid(&format!("shape of output {name}"), format!("{:?}", output.shape()), expected));
    }
    let values: Vec<f64> = output.data().iter().map(|&value| f64::from(value)).collect();
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(Error::invalid(&format!("output {name}"), value, "finite numbers"));
    }
    if manifest.task == Task::Classification {
        let is_distribution = |row: &[f64]| {
            (row.iter().sum::<f64>() - 1.0).abs() <= SUM_TOLERANCE
                && row.iter().all(|p| (-SUM_TOLERANCE..=1.0 + SUM_TOLERANCE).contains(p))
        };
        if let Some(row) = values.chunks_exact(width.max(1)).find(|row| !is_distribution(row)) {
            return Err(Error::invalid(&format!("output {name}"), format!("{row:?}"), "probabilities that sum to 1"));
        }
    }
    Ok(values)
}
