use std::collections::BTreeMap;

use moola_market::features::FeatureSet;
use moola_market::labels::LabelSpec;
use moola_market::windows::Scaling;
use serde::{Deserialize, Serialize};

use crate::ports::Signature;

/// Version of the documents in this module.
pub const FORMAT_VERSION: u32 = 1;

/// What a model predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One of several classes.
    Classification,
    /// A number.
    Regression,
}

/// What an input is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// The window's bars, encoded: shape `[window, 4]`; see `moola_market::windows::encode`.
    Bars,
    /// The window's prices as they are (open, high, low, close): shape `[window, 4]` or flat `[4 * window]`.
    RawBars,
    /// The feature set at the window's last bar: shape `[features]`.
    Features,
}

/// One input of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// Its name in the graph.
    pub name: String,
    /// What it is made of.
    pub kind: InputKind,
    /// Shape without the batch.
    pub shape: Vec<usize>,
    /// Standardisation, fitted on the training fold, one entry per channel; applied before the graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// What stands in for a missing feature (before scaling), by name; any other missing feature is an error.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<String, f64>,
}

/// One output of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// Its name in the graph.
    pub name: String,
    /// Shape without the batch: `[classes]`, or `[1]` for a regression.
    pub shape: Vec<usize>,
}

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Length.
    pub size_bytes: u64,
    /// SHA-256, in hex.
    pub sha256: String,
}

/// Describes a model package: `models/<model>/<version>/manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelManifest {
    /// Shape of this document.
    pub format_version: u32,
    /// Registered model.
    pub model: String,
    /// Its version.
    pub version: u32,
    /// What it predicts.
    pub task: Task,
    /// Inputs in the graph's order.
    pub inputs: Vec<InputSpec>,
    /// The output that holds the prediction.
    pub output: OutputSpec,
    /// Names of the classes, of a classification.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Bars of a window.
    pub window_bars: usize,
    /// Bars that a prediction is computed from, window included: more than `window_bars` where the features need
    /// history.
    pub history_bars: usize,
    /// The feature set; its hash is checked against the code that serves.
    #[serde(default)]
    pub feature_set: Option<FeatureSet>,
    /// What was predicted in training.
    #[serde(default)]
    pub label: Option<LabelSpec>,
    /// The engine that serves it: `native` or `wasm`.
    pub engine: String,
    /// The package's other files.
    pub files: BTreeMap<String, FileDigest>,
    /// Where it came from.
    pub lineage: Lineage,
    /// When it was registered.
    pub created_ms: i64,
}

/// Where a version came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The run that trained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Dataset it was trained on, `name@version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// SHA-256 of the file that the dataset was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_sha256: Option<String>,
    /// Version of the code that trained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_version: Option<String>,
    /// The version in production that it was meant to replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_version: Option<u32>,
    /// Program that wrote the model file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
}

/// Signs a package: `models/<model>/<version>/signature.json`.
///
/// What is signed is the manifest's bytes; the manifest holds the digests of all other files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSignature {
    /// SHA-256 of the manifest, in hex.
    pub manifest_sha256: String,
    /// The signature over the manifest's bytes.
    pub signature: Signature,
}
