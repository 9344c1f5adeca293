use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{FEATURE_UNITS, Shape};

/// One tensor of weights in [`Parameters::data`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) offset: usize,
}

impl Entry {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// All weights of a model, one after the other in one list: what the optimiser, the checkpoints and the export handle.
///
/// # Invariants
/// The entries fill the list in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    entries: Vec<Entry>,
    data: Vec<f32>,
}

impl Parameters {
    /// Makes the weights of a new model.
    ///
    /// Encoder: uniform in ±1/√hidden, the bias of the forget gate 1 (Jozefowicz et al. 2015). Others: uniform in
    /// ±√(6 / (fan in + fan out)) (Glorot and Bengio 2010), biases 0.
    #[must_use]
    pub fn new(shape: &Shape, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut parameters = Self { entries: Vec::new(), data: Vec::new() };
        let (hidden, width) = (shape.hidden_size, shape.width());
        let head_width = width / shape.num_heads;
        let recurrent = 1.0 / (hidden as f32).sqrt();
        let glorot = |inputs: usize, outputs: usize| (6.0 / (inputs + outputs) as f32).sqrt();
        let mut add = |name: &str, shape: &[usize], limit: f32| parameters.add(name, shape, limit, &mut random);
        for layer in 0..shape.num_layers {
            let inputs = if layer == 0 { shape.num_channels } else { width };
            add(&format!("encoder.{layer}.w"), &[2, 4 * hidden, inputs], recurrent);
            add(&format!("encoder.{layer}.r"), &[2, 4 * hidden, hidden], recurrent);
            add(&format!("encoder.{layer}.b"), &[2, 4 * hidden], 0.0);
        }
        add("attention.query", &[width, width], glorot(width, width));
        add("attention.query_bias", &[width], 0.0);
        add("attention.key", &[shape.num_heads, head_width, width], glorot(width, width));
        add("attention.value", &[shape.num_heads, width, head_width], glorot(width, width));
        add("attention.output", &[width, width], glorot(width, width));
        add("attention.output_bias", &[width], 0.0);
        if shape.num_features > 0 {
            add("features.weight", &[shape.num_features, FEATURE_UNITS], glorot(shape.num_features, FEATURE_UNITS));
            add("features.bias", &[FEATURE_UNITS], 0.0);
        }
        let (inputs, outputs) = (shape.head_inputs(), shape.num_outputs);
        add("head.weight", &[inputs, outputs], glorot(inputs, outputs));
        add("head.bias", &[outputs], 0.0);
        for layer in 0..shape.num_layers {
            if let Some(entry) = parameters.entries.iter().find(|entry| entry.name == format!("encoder.{layer}.b")) {
                for direction in 0..2 {
                    let forget = entry.offset + (direction * 4 + 2) * hidden;
                    parameters.data[forget..forget + hidden].fill(1.0);
                }
            }
        }
        parameters
    }

    fn add(&mut self, name: &str, shape: &[usize], limit: f32, random: &mut ChaCha8Rng) {
        let entry = Entry { name: name.to_owned(), shape: shape.to_vec(), offset: self.data.len() };
        self.data.extend((0..entry.len()).map(|_| {
            let share: f32 = random.random();
            if limit > 0.0 { (2.0 * share - 1.0) * limit } else { 0.0 }
        }));
        self.entries.push(entry);
    }

    /// All numbers.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All numbers, to change them.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Name and numbers of each tensor.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.entries.iter().map(|entry| (entry.name.as_str(), self.numbers(entry)))
    }

    /// Name and size of each tensor, in order.
    pub fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.len()))
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn numbers(&self, entry: &Entry) -> &[f32] {
        &self.data[entry.offset..entry.offset + entry.len()]
    }

    /// Shape and numbers of the tensor `name`; empty where there is none.
    pub(super) fn get(&self, name: &str) -> (&[usize], &[f32]) {
        let entry = self.entries.iter().find(|entry| entry.name == name);
        entry.map_or((&[], &[]), |entry| (entry.shape.as_slice(), self.numbers(entry)))
    }
}
