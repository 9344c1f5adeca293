//! One run, from its spec to its result.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moola_core::commit::{from_json_bytes, sha256_hex, to_json_bytes};
use moola_core::contract::{
    Architecture, FORMAT_VERSION, FoldMetrics, Lineage, OutputSpec, RunOutcome, RunResult, TrainedModel, TrainingSpec,
    paths,
};
use moola_core::ports::{Artifact, Engine as _, Tensor};
use moola_core::{Error, ErrorKind, Result, baselines, columns};
use moola_market::Bars;
use moola_onnx::TractEngine;
use tokio::runtime::Handle;
use tracing::{error, info};

use crate::data::Data;
use crate::display::Display;
use crate::error::{EXIT_DONE, Stop};
use crate::evaluate;
use crate::fit::Fit;
use crate::model::{self, Parameters, Shape};
use crate::progress::ProgressWriter;
use crate::state::{Counters, State};
use crate::storage::Storage;

/// Rows of the comparison of the exported model with the trained one, and the difference that is accepted.
const CHECK_ROWS: usize = 32;
const CHECK_TOLERANCE: f64 = 1e-4;

/// What a run is given besides its spec.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether to show a progress bar instead of lines.
    pub show_bar: bool,
    /// Set when the run should stop after a checkpoint.
    pub stop: Arc<AtomicBool>,
    /// Which attempt of its job this is, from 1; `None` where no job queue counts.
    pub attempt: Option<u32>,
    /// What the result says about where the run took place.
    pub environment: BTreeMap<String, String>,
}

/// Does the run whose spec is at `url`; returns the process's exit code: [`EXIT_DONE`], `EXIT_FAILED`, `EXIT_USAGE` or
/// [`EXIT_RETRY`](moola_core::ports::EXIT_RETRY).
#[must_use]
pub fn run(url: &str, options: &Options, runtime: &Handle) -> i32 {
    let storage = match Storage::open(url, runtime.clone()) {
        Ok(storage) => storage,
        Err(error) if error.is_retryable() => return report(&Stop::Error(error)),
        Err(error) => return report(&Stop::Usage(error)),
    };
    match run_in(&storage, options) {
        Ok(()) => EXIT_DONE,
        Err(stop) => {
            let code = report(&stop);
            if let Stop::Error(error) = stop
                && !error.is_retryable()
                && let Err(error) = record_failure(&storage, options, &error)
            {
                error!(error = error.chain(), "the failure could not be recorded");
            }
            code
        }
    }
}

fn report(stop: &Stop) -> i32 {
    eprintln!("error: {stop}");
    stop.exit_code()
}

fn record_failure(storage: &Storage, options: &Options, error: &Error) -> Result<()> {
    let reason = error.chain();
    let result = RunResult {
        format_version: FORMAT_VERSION,
        run_id: storage.run_id().to_owned(),
        outcome: RunOutcome::Failed { reason },
        model: None,
        metrics: None,
        num_samples: [0; 3],
        epochs: 0,
        best_epoch: 0,
        steps: 0,
        duration_secs: 0.0,
        windows_per_sec: 0.0,
        peak_memory_bytes: peak_memory_bytes(),
        attempts: options.attempt.unwrap_or(1),
        code_version: code_version(),
        environment: options.environment.clone(),
        warnings: Vec::new(),
    };
    storage.put(paths::RESULT, to_json_bytes(&result)?)
}

/// Version of this code.
#[must_use]
pub fn code_version() -> String {
    option_env!("MOOLA_CODE_VERSION").unwrap_or(env!("CARGO_PKG_VERSION")).to_owned()
}

fn run_in(storage: &Storage, options: &Options) -> Result<(), Stop> {
    if storage.get(paths::RESULT)?.is_some() {
        info!(run_id = storage.run_id(), "the run has a result already");
        return Ok(());
    }
    let spec_bytes =
        storage.get(paths::SPEC)?.ok_or_else(|| Error::not_found("spec", paths::run(storage.run_id(), paths::SPEC)))?;
    let spec: TrainingSpec = serde_json::from_slice(&spec_bytes).map_err(|error| {
        Error::new(ErrorKind::Invalid, format!("`{}` is no training spec", paths::SPEC)).with_source(error)
    })?;
    if spec.run_id != storage.run_id() {
        return Err(Error::invalid("run_id", &spec.run_id, format!("`{}`, the run's folder", storage.run_id())).into());
    }
    spec.validate()?;
    let bars = load_bars(storage, &spec)?;
    info!(run_id = spec.run_id, bars = bars.len(), "training starts");
    let naive = spec.model.architecture == Architecture::Naive;
    let data = Data::new(&spec, &bars, !naive)?;
    let shape = data.shape(&spec);
    let trained = if naive {
        naive_model(&spec, &data, &shape)?
    } else {
        train(storage, options, &spec, &spec_bytes, &data, &shape)?
    };
    finish(storage, options, &spec, &data, &shape, trained)
}

fn load_bars(storage: &Storage, spec: &TrainingSpec) -> Result<Bars> {
    let key = paths::dataset(&spec.dataset.name, &spec.dataset.version, "bars.parquet");
    let bytes = storage.get_key(&key)?;
    let found = sha256_hex(&bytes);
    if found != spec.dataset.sha256 {
        let wanted = &spec.dataset.sha256;
        return Err(Error::corrupt(format!("`{key}` has SHA-256 `{found}`, expected `dataset.sha256`, `{wanted}`")));
    }
    columns::from_parquet(bytes)
}

/// A model and what it predicts.
struct Trained {
    onnx: Vec<u8>,
    metrics: FoldMetrics,
    /// Predictions for the training fold.
    train: Vec<f64>,
    counters: Counters,
    warnings: Vec<String>,
}

fn metadata(spec: &TrainingSpec, data: &Data) -> model::Metadata {
    let mut entries = vec![
        ("moola.run_id".to_owned(), spec.run_id.clone()),
        ("moola.code_version".to_owned(), code_version()),
        ("moola.dataset".to_owned(), format!("{}@{}", spec.dataset.name, spec.dataset.version)),
    ];
    if let Some(set) = &data.set.feature_set {
        entries.push(("moola.feature_set".to_owned(), set.name().to_owned()));
        entries.push(("moola.feature_set_sha256".to_owned(), set.hash().to_owned()));
    }
    model::Metadata { entries }
}

fn naive_model(spec: &TrainingSpec, data: &Data, shape: &Shape) -> Result<Trained> {
    let set = &data.set;
    let classes = (!set.classes.is_empty()).then_some(set.classes.len());
    let name = if classes.is_some() { "prior" } else { "mean" };
    let answer = baselines::forecasts(set, &[0], classes).remove(name);
    let answer = answer.ok_or_else(|| Error::internal(format!("there is no baseline `{name}`")))?;
    let predict = |rows: &[usize]| answer.repeat(rows.len());
    let counters = Counters { attempts: 1, ..Default::default() };
    Ok(Trained {
        onnx: model::export_naive(shape, &answer, &metadata(spec, data))?,
        metrics: evaluate::metrics(data, predict)?,
        train: predict(&set.train),
        counters,
        warnings: Vec::new(),
    })
}

fn train(
    storage: &Storage,
    options: &Options,
    spec: &TrainingSpec,
    spec_bytes: &[u8],
    data: &Data,
    shape: &Shape,
) -> Result<Trained, Stop> {
    let spec_sha256 = sha256_hex(spec_bytes);
    let mut parameters = Parameters::new(shape, spec.seed);
    let saved = State::load(storage, &spec_sha256, parameters.data().len())?;
    let mut state = saved.unwrap_or_else(|| State::new(parameters.data().to_vec()));
    state.counters.attempts = (state.counters.attempts + 1).max(options.attempt.unwrap_or(1));
    if state.counters.step > 0 {
        info!(step = state.counters.step, attempt = state.counters.attempts, "training continues from a checkpoint");
    }
    let (step, epoch) = (state.counters.step, state.counters.epoch);
    let mut progress = ProgressWriter::open(storage.clone(), step, epoch)?;
    let steps_per_epoch = data.set.train.len().div_ceil(spec.optimizer.batch_size);
    let display = Display::new(options.show_bar, (steps_per_epoch * spec.optimizer.epochs) as u64, step);
    let fit = Fit { spec, spec_sha256: &spec_sha256, data, shape, storage, stop: &options.stop };
    let outcome = fit.run(&mut state, &mut parameters, &mut progress, &display);
    display.finish();
    outcome?;

    parameters.data_mut().copy_from_slice(&state.best);
    let predict = |rows: &[usize]| evaluate::predictions(shape, &parameters, data, rows);
    let metrics = evaluate::metrics(data, predict)?;
    let train = predict(&data.set.train);
    if options.stop.load(Ordering::Relaxed) {
        return Err(Stop::Interrupted);
    }
    let onnx = model::export(shape, &parameters, data.target, &metadata(spec, data))?;
    let rows = &data.set.validation[..data.set.validation.len().min(CHECK_ROWS)];
    check_export(&onnx, shape, data, rows, &predict(rows))?;
    let warnings = warnings(&state.counters, &metrics);
    Ok(Trained { onnx, metrics, train, counters: state.counters, warnings })
}

/// Runs the exported model on the samples `rows` and compares.
fn check_export(onnx: &[u8], shape: &Shape, data: &Data, rows: &[usize], expected: &[f64]) -> Result<()> {
    let batch = data.batch(rows);
    let mut inputs = vec![Tensor::new(vec![rows.len(), shape.window_bars, shape.num_channels], batch.bars)?];
    if shape.num_features > 0 {
        inputs.push(Tensor::new(vec![rows.len(), shape.num_features], batch.features)?);
    }
    let outputs = TractEngine.load(&Artifact::onnx(), onnx)?.run(inputs)?;
    let output = outputs.first().map(Tensor::data).unwrap_or_default();
    let scale = data.target.1.max(1e-12);
    let worst = output.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs() / scale).fold(0.0, f64::max);
    if output.len() == expected.len() && worst <= CHECK_TOLERANCE {
        return Ok(());
    }
    let what = format!("the exported model differs from the trained one by {worst}, accepted is {CHECK_TOLERANCE}");
    Err(Error::internal(what))
}

fn warnings(counters: &Counters, metrics: &FoldMetrics) -> Vec<String> {
    let mut warnings = Vec::new();
    if counters.num_outliers > 0 {
        warnings.push(format!("{} steps had a gradient far above the usual norm", counters.num_outliers));
    }
    if let Some((first, last)) = counters.epoch_losses
        && last > first
    {
        warnings.push(format!("the training loss grew from {first:.5} in the first epoch to {last:.5} in the last"));
    }
    let (name, loss, best) = match metrics {
        FoldMetrics::Classification { test, baselines, .. } => {
            ("log loss", test.log_loss, baselines.values().map(|naive| naive.log_loss).min_by(f64::total_cmp))
        }
        FoldMetrics::Regression { test, baselines, .. } => {
            ("mean squared error", test.mse, baselines.values().map(|naive| naive.mse).min_by(f64::total_cmp))
        }
    };
    if let Some(best) = best
        && loss >= best
    {
        warnings.push(format!("test {name} {loss:.6} is no better than {best:.6} of the best naive baseline"));
    }
    warnings
}

fn finish(
    storage: &Storage,
    options: &Options,
    spec: &TrainingSpec,
    data: &Data,
    shape: &Shape,
    trained: Trained,
) -> Result<(), Stop> {
    let set = &data.set;
    let Trained { onnx, metrics, train, counters, mut warnings } = trained;
    if set.num_purged > 0 {
        warnings.push(format!("{} samples at the borders of the folds were left out", set.num_purged));
    }
    let lineage = Lineage {
        run_id: Some(spec.run_id.clone()),
        dataset: Some(format!("{}@{}", spec.dataset.name, spec.dataset.version)),
        source_sha256: None,
        code_version: Some(code_version()),
        parent_version: None,
        producer: Some("moola-trainer".to_owned()),
    };
    let artifact = |name: &str| format!("artifacts/{name}");
    storage.put(&artifact(paths::MODEL_ONNX), onnx)?;
    storage.put(&artifact(paths::REFERENCE), to_json_bytes(&evaluate::reference(data, &train)?)?)?;
    storage.put(&artifact(paths::METRICS), to_json_bytes(&metrics)?)?;
    storage.put(&artifact(paths::LINEAGE), to_json_bytes(&lineage)?)?;
    let has_features = shape.num_features > 0;
    let duration_secs = counters.duration_secs;
    let result = RunResult {
        format_version: FORMAT_VERSION,
        run_id: spec.run_id.clone(),
        outcome: RunOutcome::Completed,
        model: Some(TrainedModel {
            task: shape.task,
            inputs: data.inputs.clone(),
            outputs: vec![OutputSpec { name: model::output_name(shape.task).into(), shape: vec![shape.num_outputs] }],
            classes: set.classes.clone(),
            window_bars: shape.window_bars,
            feature_set: set.feature_set.clone().filter(|_| has_features),
        }),
        metrics: Some(metrics),
        num_samples: [set.train.len(), set.validation.len(), set.test.len()],
        epochs: counters.epoch,
        best_epoch: counters.best_epoch,
        steps: counters.step,
        duration_secs,
        windows_per_sec: if duration_secs > 0.0 { counters.num_windows as f64 / duration_secs } else { 0.0 },
        peak_memory_bytes: peak_memory_bytes(),
        attempts: counters.attempts,
        code_version: code_version(),
        environment: options.environment.clone(),
        warnings,
    };
    storage.put(paths::RESULT, to_json_bytes(&result)?)?;
    // What was written can be read: a result that cannot is worth nothing.
    let _: RunResult = from_json_bytes(paths::RESULT, &storage.get(paths::RESULT)?.unwrap_or_default())?;
    info!(run_id = spec.run_id, epochs = counters.epoch, "training ended");
    Ok(())
}

/// Tells the allocator to keep freed memory for the next step of training.
///
/// The lists of a step are megabytes each. Given back to the system and asked for anew they cost a page fault per 4 kB:
/// a quarter of the processor time of a step.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` changes thresholds of the allocator and nothing else.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

/// Largest resident memory of this process so far.
fn peak_memory_bytes() -> u64 {
    // SAFETY: `rusage` is plain numbers, for which zeros are valid, and `getrusage` fills it or leaves it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    u64::try_from(usage.ru_maxrss).unwrap_or(0) * unit
}
