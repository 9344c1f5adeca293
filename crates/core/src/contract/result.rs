use serde::{Deserialize, Serialize};

use super::{InputSpec, OutputSpec, Task};
use crate::stats::{ClassificationMetrics, RegressionMetrics};

/// How a run ended: `runs/<run>/result.json`, written last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Shape of this document.
    pub format_version: u32,
    /// The run.
    pub run_id: String,
    /// How it ended.
    pub outcome: RunOutcome,
    /// What was learnt; `None` where it failed.
    #[serde(default)]
    pub model: Option<TrainedModel>,
    /// Metrics by fold.
    #[serde(default)]
    pub metrics: Option<FoldMetrics>,
    /// Samples of each fold: train, validation, test.
    #[serde(default)]
    pub num_samples: [usize; 3],
    /// Epochs run.
    pub epochs: usize,
    /// The epoch whose weights were kept, from 1.
    pub best_epoch: usize,
    /// Optimiser steps.
    pub steps: u64,
    /// Seconds of training, summed over attempts.
    pub duration_secs: f64,
    /// Windows per second while training.
    pub windows_per_sec: f64,
    /// Largest resident memory of the last attempt.
    pub peak_memory_bytes: u64,
    /// Attempts that it took.
    pub attempts: u32,
    /// Version of the code.
    pub code_version: String,
    /// Operating system, processor, threads, back-end.
    pub environment: std::collections::BTreeMap<String, String>,
    /// What deserves a look: unusual metrics, dropped samples.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum RunOutcome {
    /// A model was trained.
    Completed,
    /// It cannot succeed by being tried again.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What the artifacts of a run hold: everything that a package's manifest needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedModel {
    /// What it predicts.
    pub task: Task,
    /// Inputs in the graph's order.
    pub inputs: Vec<InputSpec>,
    /// Outputs in the graph's order.
    pub outputs: Vec<OutputSpec>,
    /// Names of the classes, of a classification.
    pub classes: Vec<String>,
    /// Bars of a window.
    pub window_bars: usize,
    /// The feature set; `None` where there is no such input.
    pub feature_set: Option<moola_market::features::FeatureSet>,
}

/// Metrics of the model and of the naive baseline on the same samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum FoldMetrics {
    /// Of a classification.
    Classification {
        /// The model on the training fold.
        train: Box<ClassificationMetrics>,
        /// The model on the validation fold.
        validation: Box<ClassificationMetrics>,
        /// The model on the test fold.
        test: Box<ClassificationMetrics>,
        /// The baselines on the test fold, by name.
        baselines: std::collections::BTreeMap<String, ClassificationMetrics>,
    },
    /// Of a regression.
    Regression {
        /// The model on the training fold.
        train: Box<RegressionMetrics>,
        /// The model on the validation fold.
        validation: Box<RegressionMetrics>,
        /// The model on the test fold.
        test: Box<RegressionMetrics>,
        /// The baselines on the test fold, by name.
        baselines: std::collections::BTreeMap<String, RegressionMetrics>,
    },
}

/// One line of `runs/<run>/progress/<n>.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Progress {
    /// After an optimiser step.
    Step(StepProgress),
    /// After an epoch.
    Epoch(EpochProgress),
}

/// After an optimiser step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepProgress {
    /// The step, from 1.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: usize,
    /// Loss of the batch.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Step size.
    pub learning_rate: f64,
}

/// After an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochProgress {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Mean loss over the training fold.
    pub train_loss: f64,
    /// Loss on the validation fold.
    pub validation_loss: f64,
    /// Accuracy (classification) or R2 (regression) on the validation fold.
    pub validation_score: f64,
    /// Seconds of this epoch.
    pub duration_secs: f64,
}
