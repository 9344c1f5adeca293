use std::fmt;

use super::Artifact;
use crate::error::Result;

/// What is compiled.
#[derive(Debug, Clone, Copy)]
pub struct CompileRequest<'a> {
    /// The model.
    pub onnx: &'a [u8],
    /// Registered model.
    pub model: &'a str,
    /// Its version.
    pub version: u32,
    /// Hash of the feature set that its inputs are made of.
    pub feature_set_hash: Option<&'a str>,
}

/// A file that was compiled.
#[derive(Debug, Clone)]
pub struct CompiledFile {
    /// What it is.
    pub artifact: Artifact,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Makes the compiled forms of a version.
pub trait Compiler: Send + Sync + fmt::Debug {
    /// Everything that the result depends on besides the request: versions of compiler and runtime, targets. Another value
    /// makes a build stale.
    fn fingerprint(&self) -> &str;

    /// Compiles. Blocks: it is pure computation. The same request gives the same bytes.
    ///
    /// # Errors
    /// `Invalid` where the model uses what the compiler does not lower; the message names node, operator and reason.
    fn compile(&self, request: &CompileRequest<'_>) -> Result<Vec<CompiledFile>>;
}
