//! Loads, checks and runs ONNX models with tract, and writes ONNX graphs.
//!
//! - [`writer`] builds a model from numbers.
//! - [`inspect`] reads what a file contains, [`check`] says whether it can be served.
//! - [`TractEngine`] is the `native` [`Engine`](moola_core::ports::Engine) and the parity oracle of the compiled models.

mod engine;
mod inspect;
mod lower;
pub mod writer;

pub use engine::TractEngine;
pub use inspect::{MAX_ELEMENTS, MAX_MODEL_BYTES, ModelInfo, OPSETS, TensorInfo, check, inspect};
