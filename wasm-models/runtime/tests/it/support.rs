//! Modules in text form.

use std::sync::Arc;

use moola_core::Result;
use moola_core::ports::{Artifact, CompileRequest, CompiledFile, Compiler, Engine, LoadedModel, ModelFormat, Tensor};
use moola_wasm_runtime::{RUNTIME, Target, WasmCompiler, WasmConfig, WasmEngine};

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

/// A model of tests/fixtures/onnx.
pub(crate) fn onnx(name: &str) -> Vec<u8> {
    fixture_file(&format!("{name}.onnx"))
}

/// A file of tests/fixtures/onnx.
pub(crate) fn fixture_file(name: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/fixtures/onnx/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("the fixture")
}

/// relu(x W + b), 4 numbers to 3, as ONNX.
pub(crate) fn dense() -> Vec<u8> {
    // Fields of a protobuf message: a number, and a text or message.
    let number = |field: u8, value: u8| vec![field << 3, value];
    let bytes = |field: u8, value: &[u8]| {
        assert!(value.len() < 1 << 14);
        [&[field << 3 | 2, value.len() as u8 | 0x80, (value.len() >> 7) as u8], value].concat()
    };
    let value = |name: &str, size: u8| {
        let dims = [bytes(1, &bytes(2, b"batch")), bytes(1, &number(1, size))].concat();
        let tensor = bytes(1, &[number(1, 1), bytes(2, &dims)].concat());
        [bytes(1, name.as_bytes()), bytes(2, &tensor)].concat()
    };
    let constant = |name: &str, dims: &[u8]| {
        let len = dims.iter().map(|size| usize::from(*size)).product::<usize>();
        let data = (0..len).flat_map(|it| (it as f32 * 0.7).cos().to_le_bytes()).collect::<Vec<_>>();
        let dims = dims.iter().flat_map(|size| number(1, *size)).collect::<Vec<_>>();
        [dims, number(2, 1), bytes(8, name.as_bytes()), bytes(9, &data)].concat()
    };
    let node = |operator: &str, inputs: &[&str], output: &str| {
        let inputs = inputs.iter().flat_map(|input| bytes(1, input.as_bytes())).collect::<Vec<_>>();
        [inputs, bytes(2, output.as_bytes()), bytes(4, operator.as_bytes())].concat()
    };
    let graph = [
        bytes(1, &node("MatMul", &["x", "w"], "product")),
        bytes(1, &node("Add", &["product", "b"], "sum")),
        bytes(1, &node("Relu", &["sum"], "y")),
        bytes(2, b"dense"),
        bytes(5, &constant("w", &[4, 3])),
        bytes(5, &constant("b", &[3])),
        bytes(11, &value("x", 4)),
        bytes(12, &value("y", 3)),
    ];
    [number(1, 8), bytes(7, &graph.concat()), bytes(8, &[bytes(1, b""), number(2, 17)].concat())].concat()
}

/// The files that are compiled of an ONNX file.
pub(crate) fn compile(onnx: &[u8]) -> Result<Vec<CompiledFile>> {
    let request = CompileRequest { onnx, model: "eurusd", version: 3, feature_set_hash: Some("abc") };
    WasmCompiler::default().compile(&request)
}
