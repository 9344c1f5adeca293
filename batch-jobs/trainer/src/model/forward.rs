use burn::tensor::activation::{relu, softmax};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};

use super::{Parameters, Shape};
use crate::lstm::{LstmBackend, lstm};

/// Inputs of some samples, and what dropout keeps of them.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Samples.
    pub num_rows: usize,
    /// Encoded windows, `[num_rows, window_bars, channels]`.
    pub bars: Vec<f32>,
    /// Scaled features, `[num_rows, features]`; empty for none.
    pub features: Vec<f32>,
    /// Factors of what the head reads, 0 or 1 / (1 - dropout), `[num_rows, head inputs]`; `None` drops nothing.
    pub masks: Option<Vec<f32>>,
}

/// The weights as tensors of a back-end, flat, in the order of [`Parameters`].
#[derive(Debug)]
pub struct Weights<B: Backend> {
    tensors: Vec<(String, Vec<usize>, Tensor<B, 1>)>,
    device: B::Device,
}

impl<B: Backend> Weights<B> {
    /// Copies the weights to `device`.
    #[must_use]
    pub fn new(parameters: &Parameters, device: &B::Device) -> Self {
        let tensors = parameters.entries().iter().map(|entry| {
            let data = parameters.numbers(entry).to_vec();
            let size = data.len();
            (entry.name.clone(), entry.shape.clone(), Tensor::from_data(TensorData::new(data, [size]), device))
        });
        Self { tensors: tensors.collect(), device: device.clone() }
    }

    /// Asks for gradients of all weights.
    #[must_use]
    pub fn require_grad(mut self) -> Self {
        for (_, _, tensor) in &mut self.tensors {
            *tensor = tensor.clone().require_grad();
        }
        self
    }

    fn get<const D: usize>(&self, name: &str) -> Tensor<B, D> {
        match self.tensors.iter().find(|(entry, _, _)| entry == name) {
            Some((_, shape, tensor)) => {
                let mut sizes = [1; D];
                sizes.iter_mut().rev().zip(shape.iter().rev()).for_each(|(size, wanted)| *size = *wanted);
                tensor.clone().reshape(sizes)
            }
            None => unreachable!("weights of this model have no `{name}`"),
        }
    }
}

impl<B: AutodiffBackend> Weights<B> {
    /// The gradients of all weights, one after the other.
    #[must_use]
    pub fn gradients(&self, gradients: &B::Gradients) -> Vec<f32> {
        let mut all = Vec::new();
        for (_, shape, tensor) in &self.tensors {
            let size = shape.iter().product::<usize>();
            match tensor.grad(gradients) {
                Some(gradient) => all.extend(numbers(gradient)),
                None => all.resize(all.len() + size, 0.0),
            }
        }
        all
    }
}

/// The numbers of a tensor, row-major.
#[must_use]
pub fn numbers<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap_or_default()
}

/// Runs the model.
///
/// The encoder reads the bars in both directions. One query per head, made of the last state of either direction, attends
/// over all steps: only that row of a self-attention is read by the head, so the other rows are not computed, and keys
/// and values are never made: the query is taken through the key's weights, the weighted mean of the states through the
/// value's. What it gathers is added to the last states; with the mapped features it is what the head reads.
///
/// # Shapes
/// Returns `[num_rows, num_outputs]`: logits of a classification, standardised numbers of a regression.
#[must_use]
pub fn forward<B: LstmBackend>(shape: &Shape, weights: &Weights<B>, batch: Batch) -> Tensor<B, 2> {
    let device = &weights.device;
    let (rows, steps, hidden, width) = (batch.num_rows, shape.window_bars, shape.hidden_size, shape.width());
    let (heads, head_width) = (shape.num_heads, width / shape.num_heads);
    let data = TensorData::new(batch.bars, [rows, steps, shape.num_channels]);
    let mut states = Tensor::<B, 3>::from_data(data, device);
    for layer in 0..shape.num_layers {
        let [w, r] = ["w", "r"].map(|part| weights.get::<3>(&format!("encoder.{layer}.{part}")));
        states = lstm(states, w, r, weights.get(&format!("encoder.{layer}.b")));
    }
    let forward_last = states.clone().slice([0..rows, steps - 1..steps, 0..hidden]);
    let backward_last = states.clone().slice([0..rows, 0..1, hidden..width]);
    let last = Tensor::cat(vec![forward_last, backward_last], 2).reshape([rows, width]);

    let query = last.clone().matmul(weights.get("attention.query")) + weights.get::<2>("attention.query_bias");
    let query = (query * (1.0 / (head_width as f32).sqrt())).reshape([rows, heads, head_width]).swap_dims(0, 1);
    let query = query.matmul(weights.get::<3>("attention.key")).permute([1, 2, 0]); // [rows, width, heads]
    // The states on the left: so the gradient of this product comes in their own layout.
    let scores = softmax(states.clone().matmul(query), 1).swap_dims(1, 2); // [rows, heads, steps]
    let gathered = scores.matmul(states).swap_dims(0, 1); // [heads, rows, width]
    let gathered = gathered.matmul(weights.get::<3>("attention.value")).swap_dims(0, 1).reshape([rows, width]);
    let gathered = gathered.matmul(weights.get("attention.output")) + weights.get::<2>("attention.output_bias");

    let mut read = last + gathered;
    if shape.num_features > 0 {
        let features = Tensor::<B, 2>::from_data(TensorData::new(batch.features, [rows, shape.num_features]), device);
        let features = features.matmul(weights.get("features.weight")) + weights.get::<2>("features.bias");
        read = Tensor::cat(vec![read, relu(features)], 1);
    }
    if let Some(masks) = batch.masks {
        read = read * Tensor::<B, 2>::from_data(TensorData::new(masks, [rows, shape.head_inputs()]), device);
    }
    read.matmul(weights.get("head.weight")) + weights.get::<2>("head.bias")
}
