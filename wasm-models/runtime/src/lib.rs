//! Runs compiled models with wasmtime.
//!
//! A compiled model is a WebAssembly module that follows `docs/wasm-abi.md`. [`WasmEngine`] loads the machine code that
//! was made of it for this kind of machine ([`Target`]), and runs every request in a fresh instance: a module that
//! loops, traps or wants more memory fails its own request. There is no compiler in this crate unless the feature
//! `compiler` is on; with it, [`WasmEngine`] takes modules too, [`precompile`] makes machine code for every target, and
//! [`WasmCompiler`] makes both from ONNX.

#[cfg(feature = "compiler")]
mod compiler;
mod container;
mod convert;
mod engine;
mod layout;
mod model;
mod settings;
mod ticker;

#[cfg(feature = "compiler")]
pub use compiler::{WasmCompiler, precompile};
pub use engine::{Instances, WasmConfig, WasmEngine};
pub use settings::{RUNTIME, TARGETS, Target};

use moola_core::{Error, ErrorKind};

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
