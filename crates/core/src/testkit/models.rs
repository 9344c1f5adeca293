//! Engines and a compiler of a toy format, for tests of what happens around them; the real ones are leaves of the workspace.
//!
//! A model is text: a share, by which the last number of its only input is multiplied. After it words may follow that make the
//! compiler refuse the model (`refused`), panic (`panics`), or compile something that answers wrongly (`wrong`) or slowly
//! (`slow`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::ports::{Artifact, CompileRequest, CompiledFile, Compiler, Engine, LoadedModel, ModelFormat, Tensor};

const COMPILED: &str = "compiled ";

/// An engine of toy models of windows of `window` bars.
#[derive(Debug)]
pub struct ToyEngine {
    is_wasm: bool,
    window: usize,
    loads: Mutex<Vec<String>>,
}

impl ToyEngine {
    /// Loads the text itself, as `native`.
    #[must_use]
    pub fn native(window: usize) -> Arc<Self> {
        Arc::new(Self { is_wasm: false, window, loads: Mutex::default() })
    }

    /// Loads what [`ToyCompiler`] made of it, as `wasm`.
    #[must_use]
    pub fn wasm(window: usize) -> Arc<Self> {
        Arc::new(Self { is_wasm: true, window, loads: Mutex::default() })
    }

    /// All bytes that it was ever given to load.
    #[must_use]
    pub fn loads(&self) -> Vec<String> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Engine for ToyEngine {
    fn name(&self) -> &'static str {
        if self.is_wasm { "wasm" } else { "native" }
    }

    fn choose<'a>(&self, artifacts: &'a [Artifact]) -> Option<&'a Artifact> {
        artifacts.iter().find(|artifact| match artifact.format {
            ModelFormat::Cwasm => self.is_wasm && artifact.target.as_deref() == Some("toy"),
            ModelFormat::Onnx => !self.is_wasm,
            ModelFormat::Wasm => false,
        })
    }

    fn load(&self, _: &Artifact, bytes: &[u8]) -> Result<Arc<dyn LoadedModel>> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
        let model = if self.is_wasm { text.strip_prefix(COMPILED) } else { Some(text.as_str()) };
        let share = model.and_then(|model| model.split(' ').next()?.parse().ok());
        Ok(Arc::new(ToyModel {
            share: share.ok_or_else(|| Error::invalid("model", &text, "a number, compiled for the engine `wasm`"))?,
            is_slow: self.is_wasm && text.ends_with("slow"),
            inputs: vec![("bars".into(), vec![Some(self.window), Some(4)])],
            outputs: vec![("prediction".into(), vec![Some(1)])],
        }))
    }
}

#[derive(Debug)]
struct ToyModel {
    share: f32,
    is_slow: bool,
    inputs: Vec<(String, Vec<Option<usize>>)>,
    outputs: Vec<(String, Vec<Option<usize>>)>,
}

impl LoadedModel for ToyModel {
    fn inputs(&self) -> &[(String, Vec<Option<usize>>)] {
        &self.inputs
    }

    fn outputs(&self) -> &[(String, Vec<Option<usize>>)] {
        &self.outputs
    }

    fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let input = inputs.first().ok_or_else(|| Error::invalid("inputs", "[]", "one"))?;
        if self.is_slow {
            std::thread::sleep(Duration::from_millis(2));
        }
        let row_len = input.data().len() / input.num_rows().max(1);
        let last = input.data().chunks_exact(row_len.max(1)).filter_map(|row| row.last());
        let forecasts: Vec<f32> = last.map(|last| self.share * last).collect();
        Ok(vec![Tensor::new(vec![forecasts.len(), 1], forecasts)?])
    }
}

/// Compiles toy models for the machines `toy` and `other`.
#[derive(Debug)]
pub struct ToyCompiler {
    fingerprint: String,
}

impl ToyCompiler {
    /// Makes a compiler of this fingerprint; it stands in what it compiles.
    #[must_use]
    pub fn new(fingerprint: &str) -> Arc<Self> {
        Arc::new(Self { fingerprint: fingerprint.into() })
    }
}

impl Compiler for ToyCompiler {
    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn compile(&self, request: &CompileRequest<'_>) -> Result<Vec<CompiledFile>> {
        let text = String::from_utf8_lossy(request.onnx);
        let (share, flaw) = text.split_once(' ').unwrap_or((&text, ""));
        assert!(flaw != "panics", "a compiler that panics, as a test wants it");
        if flaw == "refused" {
            return Err(Error::invalid("node `n`", "Refused", "an operator that the toy compiler lowers"));
        }
        let share = if flaw == "wrong" { "0.5" } else { share };
        let file = |file: &str, format, target: Option<&str>| CompiledFile {
            artifact: Artifact {
                file: file.into(),
                format,
                target: target.map(str::to_owned),
                runtime: target.map(|_| self.fingerprint.clone()),
                compatibility: None,
            },
            bytes: format!("{COMPILED}{share} for {file} by {} {flaw}", self.fingerprint).into_bytes(),
        };
        Ok(vec![
            file("model.wasm", ModelFormat::Wasm, None),
            file("other.cwasm", ModelFormat::Cwasm, Some("other")),
            file("toy.cwasm", ModelFormat::Cwasm, Some("toy")),
        ])
    }
}
