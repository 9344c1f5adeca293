use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::contract::paths;
use crate::error::{Error, Result};

/// Numbers of a shape, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Tensor {
    /// Makes a tensor.
    ///
    /// # Errors
    /// `Internal` where the data's length is not the product of the shape.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Result<Self> {
        if shape.iter().product::<usize>() != data.len() {
            return Err(Error::internal(format!("a tensor of shape {shape:?} cannot hold {} numbers", data.len())));
        }
        Ok(Self { shape, data })
    }

    /// Its shape; the first dimension is the batch.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its numbers.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Its numbers, taken out.
    #[must_use]
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// Number of rows: the first dimension.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }
}

/// A model that is ready to answer.
pub trait LoadedModel: Send + Sync + fmt::Debug {
    /// Names and shapes of the inputs, without the batch dimension; `None` where the model leaves a size open.
    fn inputs(&self) -> &[(String, Vec<Option<usize>>)];

    /// Names and shapes of the outputs, without the batch dimension.
    fn outputs(&self) -> &[(String, Vec<Option<usize>>)];

    /// Computes the outputs, in the order of [`LoadedModel::outputs`]; `inputs` come in the order of
    /// [`LoadedModel::inputs`] and share one batch size. Blocks: it is pure computation.
    ///
    /// # Errors
    /// `Invalid` where number or shapes of the inputs do not fit, `Internal` where the model fails.
    fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>>;
}

/// How a model is stored in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelFormat {
    /// A graph of operators, as it was registered.
    Onnx,
    /// A WebAssembly module: code and weights for every machine.
    Wasm,
    /// Machine code that wasmtime made of such a module, for one kind of machine and one version of wasmtime.
    Cwasm,
}

impl fmt::Display for ModelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Onnx => "onnx",
            Self::Wasm => "wasm",
            Self::Cwasm => "cwasm",
        })
    }
}

/// A file that a model can be loaded from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name: `model.onnx`, `model.wasm`, `x86_64-avx2.cwasm`.
    pub file: String,
    /// How the model is stored in it.
    pub format: ModelFormat,
    /// The machines that its code is for: `x86_64-avx2`, `aarch64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What its code needs: `wasmtime 48.0.8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Hash of the settings that its code was made with, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compatibility: Option<String>,
}

impl Artifact {
    /// The model file of every package.
    #[must_use]
    pub fn onnx() -> Self {
        Self {
            file: paths::MODEL_ONNX.into(),
            format: ModelFormat::Onnx,
            target: None,
            runtime: None,
            compatibility: None,
        }
    }
}

/// Loads models of some formats.
pub trait Engine: Send + Sync + fmt::Debug {
    /// Its name in manifests, metrics and answers: `native`, `wasm`.
    fn name(&self) -> &'static str;

    /// The artifact that it loads best on this machine, if any.
    fn choose<'a>(&self, artifacts: &'a [Artifact]) -> Option<&'a Artifact>;

    /// Loads an artifact that it chose. The caller has verified `bytes`: signature and digest. Blocks: it is pure
    /// computation.
    ///
    /// # Errors
    /// `Invalid` where it does not load such an artifact, where the bytes are no model, or where they use an operator that
    /// this engine lacks; the message names it.
    fn load(&self, artifact: &Artifact, bytes: &[u8]) -> Result<Arc<dyn LoadedModel>>;
}
