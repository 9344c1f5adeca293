use std::fmt;
use std::sync::Arc;

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

/// Loads models of one format.
pub trait Engine: Send + Sync + fmt::Debug {
    /// Its name in manifests, metrics and answers: `native`, `wasm`.
    fn name(&self) -> &'static str;

    /// Loads a model. Blocks: it is pure computation.
    ///
    /// # Errors
    /// `Invalid` where the bytes are no model or use an operator that this engine lacks; the message names it.
    fn load(&self, model: &[u8]) -> Result<Arc<dyn LoadedModel>>;
}
