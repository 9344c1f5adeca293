//! Compiles models, loads them in both engines and compares.

use std::fmt;
use std::sync::{Arc, LazyLock};

use moola_core::ports::{Artifact, Engine, LoadedModel, ModelFormat, Tensor};
use moola_onnx::TractEngine;
use moola_wasm_compiler::{Options, Variant, compile};
use moola_wasm_runtime::{WasmConfig, WasmEngine};

/// Largest difference, relative to the largest number of the output.
pub(crate) const TOLERANCE: f32 = 1e-5;

static ENGINE: LazyLock<WasmEngine> =
    LazyLock::new(|| WasmEngine::new(WasmConfig { deadline_ms: 60_000, ..WasmConfig::default() }).expect("an engine"));

/// Compiles for up to 9 rows: two blocks and one row more.
pub(crate) fn module(onnx: &[u8], variant: Variant) -> Result<Vec<u8>, String> {
    let options = Options { variant, max_rows: 9, ..Options::default() };
    compile(onnx, &options).map(|compiled| compiled.wasm).map_err(|error| format!("not compiled: {error}"))
}

pub(crate) fn load_module(wasm: &[u8]) -> Result<Arc<dyn LoadedModel>, String> {
    let artifact = Artifact { file: "model.wasm".into(), format: ModelFormat::Wasm, ..Artifact::onnx() };
    ENGINE.load(&artifact, wasm).map_err(|error| format!("not loaded: {error}"))
}

pub(crate) fn load_native(onnx: &[u8]) -> Result<Arc<dyn LoadedModel>, String> {
    TractEngine.load(&Artifact::onnx(), onnx).map_err(|error| format!("tract: {error}"))
}

pub(crate) fn run(model: &dyn LoadedModel, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    model.run(inputs.to_vec()).map_err(|error| error.to_string())
}

/// Row `index` of every tensor.
pub(crate) fn row(tensors: &[Tensor], index: usize) -> Vec<Tensor> {
    let row = |tensor: &Tensor| {
        let mut shape = tensor.shape().to_vec();
        shape[0] = 1;
        let len: usize = shape.iter().product();
        Tensor::new(shape, tensor.data()[index * len..(index + 1) * len].to_vec()).expect("a tensor")
    };
    tensors.iter().map(row).collect()
}

fn scale(numbers: &[f32]) -> f32 {
    numbers.iter().fold(1e-30, |scale: f32, number| scale.max(number.abs()))
}

/// Largest difference, relative to the scale of each output.
pub(crate) fn difference(actual: &[Tensor], expected: &[Tensor]) -> f32 {
    let pairs = actual.iter().zip(expected);
    let worst = |a: &Tensor, e: &Tensor| {
        let pairs = a.data().iter().zip(e.data());
        pairs.fold(0.0, |worst: f32, (a, e)| if (a - e).is_nan() { f32::INFINITY } else { worst.max((a - e).abs()) })
            / scale(e.data())
    };
    pairs.fold(0.0, |most: f32, (a, e)| most.max(worst(a, e)))
}

/// Says where tensors differ by more than `tolerance`, or in their shapes.
pub(crate) fn agree(actual: &[Tensor], expected: &[Tensor], tolerance: f32) -> Result<(), String> {
    let shapes = |tensors: &[Tensor]| tensors.iter().map(|tensor| tensor.shape().to_vec()).collect::<Vec<_>>();
    if shapes(actual) != shapes(expected) {
        return Err(format!("shapes {:?}, expected {:?}", shapes(actual), shapes(expected)));
    }
    let difference = difference(actual, expected);
    if difference <= tolerance { Ok(()) } else { Err(format!("outputs differ by {difference:e} of their scale")) }
}

fn bits(tensors: &[Tensor]) -> Vec<Vec<u32>> {
    tensors.iter().map(|tensor| tensor.data().iter().map(|number| number.to_bits()).collect()).collect()
}

/// Says where tensors differ in a bit.
pub(crate) fn equal_bits(what: &str, actual: &[Tensor], expected: &[Tensor]) -> Result<(), String> {
    if bits(actual) == bits(expected) {
        return Ok(());
    }
    Err(format!("{what}: other bits, {:e} of the scale apart", difference(actual, expected)))
}

/// Everything that holds for a model with an open batch, on `inputs` of up to 9 rows.
pub(crate) fn check(onnx: &[u8], inputs: &[Tensor]) -> Result<(), String> {
    let expected = run(&*load_native(onnx)?, inputs)?;
    check_against(onnx, inputs, &expected, TOLERANCE)
}

/// The same against given answers.
pub(crate) fn check_against(onnx: &[u8], inputs: &[Tensor], expected: &[Tensor], tolerance: f32) -> Result<(), String> {
    let wasm = module(onnx, Variant::Simd128)?;
    if wasm != module(onnx, Variant::Simd128)? {
        return Err("compiled twice to other bytes".into());
    }
    let model = load_module(&wasm)?;
    let actual = run(&*model, inputs)?;
    agree(&actual, expected, tolerance)?;
    for index in 0..inputs[0].num_rows() {
        let alone = run(&*model, &row(inputs, index))?;
        equal_bits(&format!("row {index} alone"), &alone, &row(&actual, index))?;
    }
    let relaxed = load_module(&module(onnx, Variant::RelaxedSimd)?)?;
    agree(&run(&*relaxed, inputs)?, expected, tolerance).map_err(|error| format!("relaxed-simd: {error}"))
}

/// Numbers of a normal-like spread, always the same for a seed.
pub(crate) fn inputs(seed: u64, rows: usize, shapes: &[Vec<usize>]) -> Vec<Tensor> {
    let tensor = |(index, shape): (usize, &Vec<usize>)| {
        let shape: Vec<usize> = std::iter::once(rows).chain(shape.iter().copied()).collect();
        let count = shape.iter().product();
        Tensor::new(shape, moola_tests::models::random(seed + index as u64, count, 2.0)).expect("a tensor")
    };
    shapes.iter().enumerate().map(tensor).collect()
}

/// Panics with the error.
#[track_caller]
pub(crate) fn assert_done(what: impl fmt::Display, outcome: Result<(), String>) {
    if let Err(error) = outcome {
        panic!("{what}: {error}");
    }
}
