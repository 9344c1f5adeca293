//! The training container: models, training loop, evaluation and ONNX export.
//!
//! [`run()`] does one run of the container contract: `runs/<run>/spec.json` in, checkpoints, progress, artifacts and
//! `result.json` out. A run that is killed and started again continues from its last checkpoint and ends with the same
//! weights, bit by bit, as one that was not.

mod data;
mod display;
mod error;
mod evaluate;
pub mod fit;
pub mod lstm;
pub mod model;
pub mod optimizer;
mod progress;
mod run;
mod state;
mod storage;

pub use data::Data;
pub use error::{EXIT_DONE, EXIT_FAILED, EXIT_USAGE, Stop};
pub use evaluate::predictions;
pub use run::{Options, code_version, keep_freed_memory, run};
