//! A compiled model beside the ONNX file that it was made of: whether it answers the same, and how fast.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::BuildConfig;
use crate::contract::{BatchTimes, Benchmark, EngineChoice, EngineGround, InputKind, ModelManifest};
use crate::error::{Error, Result};
use crate::inputs::{check_model, warm_model};
use crate::ports::{Artifact, CompileRequest, CompiledFile, Compiler, Engine, LoadedModel, Tensor};
use crate::registry::{NATIVE, WASM};

/// Outputs may differ by this share of the output's scale.
const TOLERANCE: f64 = 1e-4;
/// Rows of the inputs that are compared: a block, what is left of blocks, and single rows.
const COMPARED_ROWS: [usize; 4] = [1, 2, 7, 32];
const TIMED_ROWS: [usize; 2] = [1, 32];
const WARM_CALLS: usize = 3;
const TIMED_CALLS: usize = 60;
/// Slow models are timed fewer times, but at least so often.
const LEAST_TIMED_CALLS: usize = 5;
const TIMED_FOR: Duration = Duration::from_millis(400);
/// A call that was late is tried so often.
const ATTEMPTS: usize = 3;

/// What a trial found.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) engine: &'static str,
    pub(super) ground: EngineGround,
    pub(super) reason: String,
    pub(super) benchmark: Option<Benchmark>,
}

impl Outcome {
    pub(super) fn native(ground: EngineGround, reason: impl Into<String>) -> Self {
        Self { engine: NATIVE, ground, reason: reason.into(), benchmark: None }
    }
}

/// What is tried.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) manifest: &'a ModelManifest,
    pub(super) onnx: &'a [u8],
    pub(super) engines: &'a [Arc<dyn Engine>],
    pub(super) choice: EngineChoice,
}

/// Compiles the model, compares the engines on fixed inputs, measures both and chooses.
///
/// # Errors
/// `Invalid` where neither engine can run the model; what may go better another time where it cannot be compiled or loaded now: a
/// build is for good.
pub(super) fn run(
    subject: &Subject<'_>,
    compiler: &dyn Compiler,
    config: &BuildConfig,
) -> Result<(Outcome, Vec<CompiledFile>)> {
    let manifest = subject.manifest;
    let native = subject.load(NATIVE, &[(Artifact::onnx(), subject.onnx)]);
    let compiled = compile(manifest, subject.onnx, compiler).and_then(|files| {
        let named: Vec<(Artifact, &[u8])> =
            files.iter().map(|file| (file.artifact.clone(), file.bytes.as_slice())).collect();
        let loaded = subject.load(WASM, &named)?;
        Ok((loaded, files))
    });
    let native = match native {
        Err(error) if error.is_retryable() => return Err(error),
        native => native,
    };
    let (wasm, files) = match (compiled, &native) {
        (Err(error), _) if error.is_retryable() => return Err(error),
        (Ok(compiled), _) => compiled,
        (Err(refused), Ok(_)) => return Ok((Outcome::native(EngineGround::Refused, refused.chain()), Vec::new())),
        (Err(refused), Err(native)) => {
            let message = format!("no engine runs the model: native: {}", native.chain());
            return Err(Error::new(native.kind(), message).with_source(refused));
        }
    };
    let native = match native {
        Ok(native) => native,
        Err(error) => {
            let reason = format!("the native engine cannot run it: {}", error.chain());
            return Ok((Outcome { engine: WASM, ground: EngineGround::Alone, reason, benchmark: None }, files));
        }
    };
    let max_difference = match patiently(|| greatest_difference(manifest, &*native, &*wasm)) {
        Ok(difference) if difference <= TOLERANCE => difference,
        Ok(difference) => {
            let reason =
                format!("outputs differ by {difference:.1e} of their scale, at most {TOLERANCE:.0e} is accepted");
            return Ok((Outcome::native(EngineGround::Differs, reason), files));
        }
        Err(error) => return Ok((failed(&error), files)),
    };
    let (native, wasm) = match patiently(|| times(manifest, &*native, &*wasm)) {
        Ok(times) => times,
        Err(error) => return Ok((failed(&error), files)),
    };
    let benchmark = Benchmark { max_difference, native, wasm };
    let measured = format!(
        "compiled {:.0} us for a row and {:.0} us for 32, native {:.0} and {:.0}",
        wasm.batch_1_us, wasm.batch_32_us, native.batch_1_us, native.batch_32_us
    );
    let too_slow = benchmark.too_slow(config.max_slowdown, config.negligible_us);
    let (engine, ground, reason) = match (subject.choice, too_slow) {
        (EngineChoice::Auto, Some(slower)) => (NATIVE, EngineGround::Benchmark, format!("{measured}: {slower}")),
        (EngineChoice::Auto, None) => (WASM, EngineGround::Benchmark, measured),
        _ => (WASM, EngineGround::Override, format!("an operator asked for it; {measured}")),
    };
    Ok((Outcome { engine, ground, reason, benchmark: Some(benchmark) }, files))
}

/// The compiled model is wrong, or always too slow for its deadline.
fn failed(error: &Error) -> Outcome {
    let ground = if error.is_retryable() { EngineGround::Refused } else { EngineGround::Differs };
    Outcome::native(ground, error.chain())
}

/// Tries again what may only have been late: a busy machine is no reason for a verdict, but a model that is always too slow is.
fn patiently<T>(work: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 1..ATTEMPTS {
        match work() {
            Err(error) if error.is_retryable() => {}
            done => return done,
        }
    }
    work()
}

/// Compiles the model of a package.
pub(super) fn compile(manifest: &ModelManifest, onnx: &[u8], compiler: &dyn Compiler) -> Result<Vec<CompiledFile>> {
    compiler.compile(&CompileRequest {
        onnx,
        model: &manifest.model,
        version: manifest.version,
        feature_set_hash: manifest.feature_set.as_ref().map(|set| set.hash()),
    })
}

impl Subject<'_> {
    /// Loads the model with an engine as serving does.
    fn load(&self, name: &str, files: &[(Artifact, &[u8])]) -> Result<Arc<dyn LoadedModel>> {
        let engine = self.engines.iter().find(|engine| engine.name() == name);
        let engine = engine.ok_or_else(|| Error::invalid("engine", name, "an engine of this program"))?;
        let artifacts: Vec<Artifact> = files.iter().map(|(artifact, _)| artifact.clone()).collect();
        let chosen = engine.choose(&artifacts).ok_or_else(|| {
            let names: Vec<&str> = artifacts.iter().map(|artifact| artifact.file.as_str()).collect();
            Error::invalid("compiled files", names.join(", "), "one for this machine")
        })?;
        let bytes = files.iter().find(|(artifact, _)| artifact == chosen).map_or(&[][..], |(_, bytes)| *bytes);
        let loaded = engine.load(chosen, bytes)?;
        check_model(self.manifest, &*loaded)?;
        warm_model(self.manifest, &*loaded)?;
        Ok(loaded)
    }
}

/// Inputs of so many rows, always the same: windows as they are encoded, features of several magnitudes, prices.
fn probe(manifest: &ModelManifest, num_rows: usize) -> Result<Vec<Tensor>> {
    let mut rng = ChaCha8Rng::seed_from_u64(num_rows as u64);
    let mut tensors = Vec::with_capacity(manifest.inputs.len());
    for input in &manifest.inputs {
        let row_len: usize = input.shape.iter().product();
        let mut data = Vec::with_capacity(num_rows * row_len);
        for row in 0..num_rows {
            let scale = [1.0, 0.0, 0.05, 4.0][(row + num_rows) % 4];
            let mut price = 100.0_f32;
            for _ in 0..row_len {
                // The sum of three uniforms looks enough like a normal.
                let noise: f32 = (0..3).map(|_| rng.random_range(-1.0_f32..1.0)).sum();
                price *= 1.0 + 0.002 * scale * noise;
                data.push(if input.kind == InputKind::RawBars { price } else { scale * noise });
            }
        }
        let shape = std::iter::once(num_rows).chain(input.shape.iter().copied()).collect();
        tensors.push(Tensor::new(shape, data)?);
    }
    Ok(tensors)
}

/// The greatest difference of an output, as a share of the output's scale.
fn greatest_difference(manifest: &ModelManifest, native: &dyn LoadedModel, wasm: &dyn LoadedModel) -> Result<f64> {
    let mut greatest = 0.0_f64;
    for num_rows in COMPARED_ROWS {
        let inputs = probe(manifest, num_rows)?;
        let expected = native.run(inputs.clone())?;
        let found = wasm.run(inputs)?;
        for ((name, _), expected) in native.outputs().iter().zip(&expected) {
            let place = wasm.outputs().iter().position(|(other, _)| other == name);
            let Some(found) = place.and_then(|place| found.get(place)) else {
                // Only the prediction is needed; others may be left out by an engine.
                if *name == manifest.output.name {
                    return Err(Error::internal(format!("the compiled model has no output `{name}`")));
                }
                continue;
            };
            if found.data().len() != expected.data().len() {
                let (found, expected) = (found.shape(), expected.shape());
                let message = format!("output `{name}` has shape {found:?} compiled, and {expected:?} native");
                return Err(Error::internal(message));
            }
            greatest = greatest.max(difference(expected.data(), found.data()));
        }
    }
    Ok(greatest)
}

/// The greatest difference as a share of the scale of what is expected; infinite where only one of two is a number.
fn difference(expected: &[f32], found: &[f32]) -> f64 {
    let finite = expected.iter().filter(|value| value.is_finite());
    let scale = finite.fold(1e-6_f64, |scale, value| scale.max(f64::from(value.abs())));
    let of = |(expected, found): (&f32, &f32)| {
        if expected == found || (expected.is_nan() && found.is_nan()) {
            return 0.0;
        }
        let difference = (f64::from(*expected) - f64::from(*found)).abs() / scale;
        if difference.is_nan() { f64::INFINITY } else { difference }
    };
    expected.iter().zip(found).map(of).fold(0.0, f64::max)
}

/// Medians of both, called in turn so that what else the machine does slows down both.
fn times(
    manifest: &ModelManifest,
    native: &dyn LoadedModel,
    wasm: &dyn LoadedModel,
) -> Result<(BatchTimes, BatchTimes)> {
    let mut medians = [[0.0; 2]; 2];
    for (batch, num_rows) in TIMED_ROWS.into_iter().enumerate() {
        let inputs = probe(manifest, num_rows)?;
        let mut measured: [Vec<f64>; 2] = Default::default();
        let started = Instant::now();
        for call in 0..WARM_CALLS + TIMED_CALLS {
            if call >= WARM_CALLS + LEAST_TIMED_CALLS && started.elapsed() > TIMED_FOR {
                break;
            }
            for (model, measured) in [native, wasm].into_iter().zip(&mut measured) {
                let inputs = inputs.clone();
                let started = Instant::now();
                model.run(inputs)?;
                if call >= WARM_CALLS {
                    measured.push(started.elapsed().as_secs_f64() * 1e6);
                }
            }
        }
        for (engine, measured) in measured.iter_mut().enumerate() {
            measured.sort_by(f64::total_cmp);
            medians[engine][batch] = measured[measured.len() / 2];
        }
    }
    let [native, wasm] = medians.map(|[batch_1_us, batch_32_us]| BatchTimes { batch_1_us, batch_32_us });
    Ok((native, wasm))
}
