use moola_market::{Interval, labels::LabelSpec};
use serde::{Deserialize, Serialize};

use super::FORMAT_VERSION;
use crate::error::{Error, Result};
use crate::names::check_name;

/// What a training container is told to do: `runs/<run>/spec.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSpec {
    /// Shape of this document.
    #[serde(default = "format_version")]
    pub format_version: u32,
    /// The run that this is; names the folder `runs/<run>/`.
    pub run_id: String,
    /// The registered model that the result becomes a version of.
    pub model_name: String,
    /// Which bars.
    pub dataset: DatasetRef,
    /// Which samples.
    pub window: WindowSpec,
    /// What is predicted.
    pub label: LabelSpec,
    /// Which of them train, validate and test.
    #[serde(default)]
    pub split: SplitSpec,
    /// Which model.
    #[serde(default)]
    pub model: ModelSpec,
    /// How it is fitted.
    #[serde(default)]
    pub optimizer: OptimizerSpec,
    /// What it may use.
    #[serde(default)]
    pub resources: ResourceSpec,
    /// Seeds every random choice.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Ties the run to what caused it.
    #[serde(default)]
    pub correlation_id: Option<String>,
}

fn format_version() -> u32 {
    FORMAT_VERSION
}

fn default_seed() -> u64 {
    1337
}

/// A dataset version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetRef {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its bars, in hex, checked before use.
    pub sha256: String,
    /// Instrument.
    pub symbol: String,
    /// Length of a bar.
    pub interval: Interval,
}

/// Which samples are made of the bars.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowSpec {
    /// Bars of a window.
    pub bars: usize,
    /// A window every so many bars.
    pub stride: usize,
    /// Name of a feature set: the second input. Empty for none.
    pub feature_set: String,
    /// At most this many windows, the most recent ones; 0 for all.
    pub max_windows: usize,
}

impl Default for WindowSpec {
    fn default() -> Self {
        Self { bars: moola_market::windows::WINDOW_BARS, stride: 1, feature_set: "core".into(), max_windows: 0 }
    }
}

/// Shares of the samples in order of time; the rest is the test set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitSpec {
    /// Share that trains.
    pub train: f64,
    /// Share that validates: stops early, chooses.
    pub validation: f64,
    /// Bars left out after a border, on top of the purge of overlapping windows and labels.
    pub embargo_bars: usize,
}

impl Default for SplitSpec {
    fn default() -> Self {
        Self { train: 0.7, validation: 0.15, embargo_bars: 0 }
    }
}

/// Which kind of model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Bidirectional LSTM encoder, multi-head self-attention, engineered features as second input, head.
    SimpleLstm,
    /// The naive baseline alone: class frequencies of the training fold, or their mean.
    Naive,
}

/// The model's sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSpec {
    /// Which kind.
    pub architecture: Architecture,
    /// Units per direction of the encoder.
    pub hidden_size: usize,
    /// Layers of the encoder.
    pub num_layers: usize,
    /// Heads of the attention; divides twice the hidden size.
    pub num_heads: usize,
    /// Share of activations dropped while training.
    pub dropout: f64,
}

impl Default for ModelSpec {
    fn default() -> Self {
        Self { architecture: Architecture::SimpleLstm, hidden_size: 32, num_layers: 1, num_heads: 4, dropout: 0.1 }
    }
}

/// How the model is fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerSpec {
    /// Most passes over the training samples.
    pub epochs: usize,
    /// Samples per step.
    pub batch_size: usize,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm; 0 for never.
    pub max_gradient_norm: f64,
    /// Stop after so many epochs without a better validation loss; 0 for never.
    pub patience: usize,
    /// Whether rare classes weigh more: inverse frequency, mean 1.
    pub class_weights: bool,
    /// A checkpoint every so many steps, and after every epoch.
    pub checkpoint_steps: usize,
}

impl Default for OptimizerSpec {
    fn default() -> Self {
        Self {
            epochs: 12,
            batch_size: 128,
            learning_rate: 1e-3,
            weight_decay: 1e-4,
            max_gradient_norm: 1.0,
            patience: 3,
            class_weights: false,
            checkpoint_steps: 200,
        }
    }
}

/// What the job may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceSpec {
    /// Which queue.
    pub queue: String,
    /// Attempts in all.
    pub attempts: u32,
    /// Limit of each attempt.
    pub timeout_secs: Option<u64>,
}

impl Default for ResourceSpec {
    fn default() -> Self {
        Self { queue: "cpu".into(), attempts: 3, timeout_secs: None }
    }
}

impl TrainingSpec {
    /// Checks every number.
    ///
    /// # Errors
    /// `Invalid` with the field's path, its value and what is accepted.
    pub fn validate(&self) -> Result<()> {
        fn check<T: PartialOrd + std::fmt::Display + Copy>(field: &str, value: T, low: T, high: T) -> Result<()> {
            if value >= low && value <= high {
                return Ok(());
            }
            Err(Error::invalid(field, value, format!("a number from {low} to {high}")))
        }
        if self.format_version != FORMAT_VERSION {
            return Err(Error::invalid("format_version", self.format_version, FORMAT_VERSION));
        }
        check("window.bars", self.window.bars, 2, 10_000)?;
        check("window.stride", self.window.stride, 1, 100_000)?;
        check("split.train", self.split.train, 0.1, 0.95)?;
        check("split.validation", self.split.validation, 0.01, 0.5)?;
        let test = 1.0 - self.split.train - self.split.validation;
        check("split.train + split.validation", 1.0 - test, 0.0, 0.99)?;
        check("split.embargo_bars", self.split.embargo_bars, 0, 1_000_000)?;
        check("model.hidden_size", self.model.hidden_size, 1, 4096)?;
        check("model.num_layers", self.model.num_layers, 1, 8)?;
        check("model.num_heads", self.model.num_heads, 1, 64)?;
        if !(2 * self.model.hidden_size).is_multiple_of(self.model.num_heads) {
            let expected = format!("a divisor of twice `model.hidden_size`, {}", 2 * self.model.hidden_size);
            return Err(Error::invalid("model.num_heads", self.model.num_heads, expected));
        }
        check("model.dropout", self.model.dropout, 0.0, 0.9)?;
        check("optimizer.epochs", self.optimizer.epochs, 1, 10_000)?;
        check("optimizer.batch_size", self.optimizer.batch_size, 1, 65_536)?;
        check("optimizer.learning_rate", self.optimizer.learning_rate, 1e-8, 1.0)?;
        check("optimizer.weight_decay", self.optimizer.weight_decay, 0.0, 1.0)?;
        check("optimizer.max_gradient_norm", self.optimizer.max_gradient_norm, 0.0, 1e6)?;
        check("optimizer.checkpoint_steps", self.optimizer.checkpoint_steps, 1, 1_000_000)?;
        check("resources.attempts", self.resources.attempts, 1, 10)?;
        if let Some(timeout_secs) = self.resources.timeout_secs {
            check("resources.timeout_secs", timeout_secs, 60, 30 * 24 * 3600)?;
        }
        check_name("resources.queue", &self.resources.queue)?;
        self.label.check()?;
        check("label.horizon", self.label.horizon(), 0, 100_000)?;
        Ok(())
    }
}
