//! The model family SimpleLSTM: sizes, weights, forward pass, export.

mod export;
mod forward;
mod parameters;
#[cfg(test)]
mod tests;

use moola_core::contract::{ModelSpec, Task};

pub use export::{Metadata, export, export_naive, output_name};
pub use forward::{Batch, Weights, forward, numbers};
pub use parameters::Parameters;

/// Units that the features are mapped to.
pub const FEATURE_UNITS: usize = 32;

/// Everything that the shapes of the weights depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Classification or regression.
    pub task: Task,
    /// Bars of a window.
    pub window_bars: usize,
    /// Numbers per bar.
    pub num_channels: usize,
    /// Numbers of the second input; 0 for none.
    pub num_features: usize,
    /// Classes, or 1.
    pub num_outputs: usize,
    /// Units per direction of the encoder.
    pub hidden_size: usize,
    /// Layers of the encoder.
    pub num_layers: usize,
    /// Heads of the attention.
    pub num_heads: usize,
}

impl Shape {
    /// The shape of a model of `spec`.
    #[must_use]
    pub fn new(
        spec: &ModelSpec,
        task: Task,
        window_bars: usize,
        num_channels: usize,
        num_features: usize,
        num_outputs: usize,
    ) -> Self {
        Self {
            task,
            window_bars,
            num_channels,
            num_features,
            num_outputs,
            hidden_size: spec.hidden_size,
            num_layers: spec.num_layers,
            num_heads: spec.num_heads,
        }
    }

    /// Width of the encoder: both directions.
    #[must_use]
    pub fn width(&self) -> usize {
        2 * self.hidden_size
    }

    /// Units that the head reads.
    #[must_use]
    pub fn head_inputs(&self) -> usize {
        self.width() + if self.num_features > 0 { FEATURE_UNITS } else { 0 }
    }
}
