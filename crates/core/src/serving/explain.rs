//! Why a prediction is what it is, by occlusion (Zeiler, Fergus: Visualizing and Understanding Convolutional Networks,
//! 2014): one input at a time is replaced by what it is on average, and the change of the answer is its attribution.

use serde::{Deserialize, Serialize};

use super::{Served, best};
use crate::contract::{InputKind, InputSpec, Task};
use crate::error::{Error, Result};
use crate::ports::Tensor;

/// Why a prediction is what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// `occlusion`: every input is replaced by its mean over the training windows, one at a time.
    pub method: String,
    /// The class whose probability is explained, or `value`.
    pub output: String,
    /// Its probability, or the value.
    pub prediction: f64,
    /// The inputs, the largest effect first.
    pub attributions: Vec<Attribution>,
}

/// What one input did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// Name of the feature, or of the input that holds the window's bars.
    pub name: String,
    /// The feature's value; none of a block of bars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// How much the prediction falls where the input is replaced.
    pub attribution: f64,
}

/// The first row of every tensor.
pub(super) fn first_row(tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    let first = |tensor: &Tensor| {
        let mut shape = tensor.shape().to_vec();
        let num_rows = std::mem::replace(shape.first_mut().ok_or_else(|| Error::internal("no batch"))?, 1);
        Tensor::new(shape, tensor.data()[..tensor.data().len() / num_rows.max(1)].to_vec())
    };
    tensors.iter().map(first).collect()
}

/// Whether zero is the training mean of the encoded input.
fn has_zero_mean(input: &InputSpec) -> bool {
    input.scaling.is_some()
}

pub(super) fn occlusion(served: &Served, row: &[Tensor], features: &[f64], outputs: &[f64]) -> Result<Explanation> {
    let manifest = &served.manifest;
    // (input, first number, numbers, name, value)
    let mut blocks = Vec::new();
    for (input, spec) in manifest.inputs.iter().enumerate().filter(|(_, spec)| has_zero_mean(spec)) {
        match (spec.kind, &manifest.feature_set) {
            (InputKind::Features, Some(set)) => {
                for (place, feature) in set.features().iter().enumerate() {
                    let value = features.get(place).copied().filter(|value| value.is_finite());
                    blocks.push((input, place, 1, feature.name.to_owned(), value));
                }
            }
            _ => blocks.push((input, 0, row[input].data().len(), spec.name.clone(), None)),
        }
    }
    let (place, output) = match manifest.task {
        Task::Classification => {
            let class = best(outputs);
            (class, manifest.classes.get(class).cloned().unwrap_or_default())
        }
        Task::Regression => (0, "value".to_owned()),
    };
    let prediction = outputs.get(place).copied().ok_or_else(|| Error::internal("no output"))?;
    let mut attributions = Vec::with_capacity(blocks.len());
    if !blocks.is_empty() {
        let batch = row.iter().enumerate().map(|(input, tensor)| {
            let mut data = tensor.data().repeat(blocks.len());
            let size = tensor.data().len();
            for (number, (occluded, first, count, ..)) in blocks.iter().enumerate() {
                if *occluded == input {
                    data[number * size + first..number * size + first + count].fill(0.0);
                }
            }
            let mut shape = tensor.shape().to_vec();
            shape[0] = blocks.len();
            Tensor::new(shape, data)
        });
        let changed = served.run(batch.collect::<Result<_>>()?, blocks.len())?;
        for ((.., name, value), changed) in blocks.into_iter().zip(changed.chunks(outputs.len())) {
            attributions.push(Attribution { name, value, attribution: prediction - changed[place] });
        }
    }
    attributions.sort_by(|a, b| b.attribution.abs().total_cmp(&a.attribution.abs()));
    Ok(Explanation { method: "occlusion".into(), output, prediction, attributions })
}
