//! Modules in text form.

use std::sync::Arc;

use moola_core::Result;
use moola_core::ports::{Artifact, Engine, LoadedModel, ModelFormat, Tensor};
use moola_wasm_runtime::{RUNTIME, Target, WasmConfig, WasmEngine};

/// Inputs `x` of [rows, 3] at 1024, outputs `y` of [rows, 3] at 2048, at most 8 rows.
pub(crate) const DESCRIPTOR: &str = r#"{"abi": 1, "max_rows": 8,
 "inputs": [{"name": "x", "type": "float32", "shape": [null, 3], "offset": 1024, "row_bytes": 12}],
 "outputs": [{"name": "y", "type": "float32", "shape": [null, 3], "offset": 2048, "row_bytes": 12}]}"#;

/// y = 2x + 1.
pub(crate) const AFFINE: &str = r"
  (if (i32.or (i32.lt_s (local.get $rows) (i32.const 1)) (i32.gt_s (local.get $rows) (i32.const 8)))
    (then (return (i32.const 1))))
  (local.set $end (i32.mul (local.get $rows) (i32.const 12)))
  (loop $next
    (f32.store offset=2048 (local.get $at)
      (f32.add (f32.mul (f32.load offset=1024 (local.get $at)) (f32.const 2)) (f32.const 1)))
    (local.set $at (i32.add (local.get $at) (i32.const 4)))
    (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
  (i32.const 0)";

/// Parts of a module.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) descriptor: String,
    pub(crate) descriptor_len: Option<u32>,
    pub(crate) abi: String,
    pub(crate) memory: String,
    pub(crate) run: String,
    /// Fields of their own.
    pub(crate) more: String,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            descriptor: DESCRIPTOR.to_owned(),
            descriptor_len: None,
            abi: r#"(global (export "abi") i32 (i32.const 1))"#.to_owned(),
            memory: "1 1".to_owned(),
            run: format!(
                r#"(func $run (export "run") (param $rows i32) (result i32) (local $at i32) (local $end i32) {AFFINE})"#
            ),
            more: String::new(),
        }
    }
}

impl Text {
    /// A module whose `run` does `body` first, then y = 2x + 1.
    pub(crate) fn doing(body: &str) -> Self {
        let mut text = Self::default();
        text.run = text.run.replace("(local $end i32)", &format!("(local $end i32) {body}"));
        text
    }

    pub(crate) fn wasm(&self) -> Vec<u8> {
        let Self { descriptor, abi, memory, run, more, .. } = self;
        let len = self.descriptor_len.unwrap_or(descriptor.len() as u32);
        let descriptor = descriptor.replace('"', "\\22").replace('\n', "\\0a");
        let text = format!(
            r#"(module {more} {abi}
              (memory (export "memory") {memory})
              (global (export "descriptor") i32 (i32.const 16))
              (global (export "descriptor_len") i32 (i32.const {len}))
              (data (i32.const 16) "{descriptor}")
              {run})"#
        );
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }
}

pub(crate) fn engine() -> WasmEngine {
    WasmEngine::new(WasmConfig { deadline_ms: 50, ..WasmConfig::default() }).expect("an engine")
}

pub(crate) fn wasm_artifact() -> Artifact {
    Artifact { file: "model.wasm".into(), format: ModelFormat::Wasm, ..Artifact::onnx() }
}

pub(crate) fn cwasm_artifact(target: &Target) -> Artifact {
    Artifact {
        file: format!("{}.cwasm", target.name()),
        format: ModelFormat::Cwasm,
        target: Some(target.name().to_owned()),
        runtime: Some(RUNTIME.to_owned()),
        compatibility: Some(target.compatibility()),
    }
}

/// Loads a module.
pub(crate) fn load(text: &Text) -> Result<Arc<dyn LoadedModel>> {
    engine().load(&wasm_artifact(), &text.wasm())
}

/// Numbers of rows of 3.
pub(crate) fn rows(data: &[f32]) -> Vec<Tensor> {
    vec![Tensor::new(vec![data.len() / 3, 3], data.to_vec()).expect("a tensor")]
}

/// What y = 2x + 1 gives.
pub(crate) fn assert_affine(model: &dyn LoadedModel, data: &[f32]) {
    let outputs = model.run(rows(data)).expect("outputs");
    assert_eq!(outputs.len(), 1);
    assert_eq!(outputs[0].shape(), [data.len() / 3, 3]);
    assert_eq!(outputs[0].data(), data.iter().map(|it| 2.0 * it + 1.0).collect::<Vec<_>>());
}
