use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::FileDigest;
use crate::error::{Error, Result};
use crate::ports::{Artifact, Signature};

/// Which engine a version is built for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineChoice {
    /// The one that the benchmark chooses.
    #[default]
    Auto,
    /// The compiled model.
    Wasm,
    /// The ONNX file.
    Native,
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Wasm => "wasm",
            Self::Native => "native",
        })
    }
}

impl FromStr for EngineChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let choice = [Self::Auto, Self::Wasm, Self::Native].into_iter().find(|choice| choice.to_string() == text);
        choice.ok_or_else(|| Error::invalid("engine", text, "one of `auto`, `wasm`, `native`"))
    }
}

/// What decided on a build's engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineGround {
    /// An operator asked for it.
    Override,
    /// The compiler refused the model, or its result cannot be run where it was made.
    Refused,
    /// The engines answered differently.
    Differs,
    /// The benchmark.
    Benchmark,
    /// There was nothing to compare the compiled model with: the native engine cannot run it.
    Alone,
}

/// A compiled file of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildFile {
    /// What it is.
    #[serde(flatten)]
    pub artifact: Artifact,
    /// What it holds.
    #[serde(flatten)]
    pub digest: FileDigest,
}

/// Medians of an engine's times for a batch, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatchTimes {
    /// Of one row.
    pub batch_1_us: f64,
    /// Of 32 rows; of one call each where the model takes one row at a time.
    pub batch_32_us: f64,
}

/// The two engines side by side, on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Benchmark {
    /// The greatest difference of an output, as a share of the output's scale.
    pub max_difference: f64,
    /// Times of the ONNX file.
    pub native: BatchTimes,
    /// Times of the compiled model.
    pub wasm: BatchTimes,
}

impl Benchmark {
    /// The batch for which the compiled model takes more than `max_slowdown` times as long as the native engine, and at least
    /// `negligible_us` longer, in words; `None` where there is none.
    #[must_use]
    pub fn too_slow(&self, max_slowdown: f64, negligible_us: f64) -> Option<String> {
        let batches = [
            ("a row", self.wasm.batch_1_us, self.native.batch_1_us),
            ("32 rows", self.wasm.batch_32_us, self.native.batch_32_us),
        ];
        let is_too_slow =
            |(_, wasm, native): &(&str, f64, f64)| *wasm > native * max_slowdown && wasm - native >= negligible_us;
        let (rows, wasm, native) = batches.into_iter().find(is_too_slow)?;
        Some(format!("{:.2} times as slow for {rows}, over {max_slowdown}", wasm / native.max(f64::MIN_POSITIVE)))
    }
}

/// Describes what was made of a version so that it can serve: `models/<model>/<version>/builds/<build>/build.json`. A
/// version's package never changes; its build does, with the compiler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildManifest {
    /// Shape of this document.
    pub format_version: u32,
    /// Its id: a digest of what it is made from and for.
    pub build: String,
    /// Registered model.
    pub model: String,
    /// The version.
    pub version: u32,
    /// SHA-256 of the package's manifest, in hex.
    pub manifest_sha256: String,
    /// What the compiler's result depends on besides the package.
    pub fingerprint: String,
    /// What was asked for.
    pub choice: EngineChoice,
    /// The engine that serves: `native` or `wasm`.
    pub engine: String,
    /// What decided so.
    pub ground: EngineGround,
    /// The same in words.
    pub reason: String,
    /// The engines side by side, where both could run the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<Benchmark>,
    /// The compiled files; the native engine takes the package's `model.onnx`.
    pub files: Vec<BuildFile>,
    /// When it was made.
    pub created_ms: i64,
}

/// Signs a build: `models/<model>/<version>/builds/<build>/signature.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildSignature {
    /// SHA-256 of `build.json`, in hex.
    pub build_sha256: String,
    /// The signature over its bytes.
    pub signature: Signature,
}
