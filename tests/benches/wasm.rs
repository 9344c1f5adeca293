//! Compiled models against other engines, one thread each: `cargo bench --workspace --bench wasm`.
//!
//! Every engine gets the same ONNX file, which already holds only what its outputs need. Compiled modules run in wasmtime as
//! machine code for this machine, in a fresh instance per call from a pool, with epoch checks. With `MOOLA_BENCH_PYTHON` (a Python with
//! onnxruntime and numpy; `cargo xtask bench` makes one), onnxruntime answers the same inputs with one thread. Times are
//! medians; batch 1 and 32.
//!
//! The TCN has 5 residual layers of one causal convolution of width 3 each, dilated by 1 to 16; the Transformer 2 layers, 4 heads,
//! inner width 4d, ReLU, normalised after each half. Windows of 105 bars of 4 numbers. See `moola_tests::models`.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moola_core::contract::Task;
use moola_core::ports::{Artifact, Engine as _, LoadedModel, ModelFormat, Tensor};
use moola_onnx::TractEngine;
use moola_onnx::writer::Direction;
use moola_tests::models::{Export, Model, lstm, random, simple_lstm, tcn, transformer, trees};
use moola_wasm_compiler::{Options, Variant, compile};
use moola_wasm_runtime::{Instances, RUNTIME, Target, WasmConfig, WasmEngine, precompile};
use serde_json::{Value, json};
use wasmtime::{Config, Engine, Instance, Memory, Module, Store, TypedFunc};

const BATCHES: [usize; 2] = [1, 32];
/// Time for each median.
const MEASURED: Duration = Duration::from_millis(600);

fn main() {
    let models = [
        lstm(32, 1, Direction::Forward),
        lstm(64, 1, Direction::Forward),
        lstm(64, 1, Direction::Bidirectional),
        lstm(128, 2, Direction::Forward),
        tcn(32, Export::Pruned),
        tcn(64, Export::Pruned),
        transformer(32, Export::Pruned),
        transformer(64, Export::Pruned),
        simple_lstm(32, 1, Task::Classification),
        trees(200, 6),
        tcn(32, Export::Whole),
        transformer(32, Export::Whole),
    ];
    let filter = std::env::args().nth(1).filter(|arg| !arg.starts_with("--"));
    let models: Vec<_> =
        models.into_iter().filter(|model| filter.as_ref().is_none_or(|text| model.name.contains(text))).collect();
    let Some(target) = Target::host() else { return println!("SKIPPED: there is no target for this machine") };
    println!(
        "medians in microseconds, one thread; {RUNTIME} for {}; `-` where an engine does not take the model",
        target.name()
    );
    let onnxruntime = onnxruntime(&models);
    println!(
        "{:<26} {:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>11} {:>9} {:>9}",
        "model", "batch", "simd128", "relaxed", "no epochs", "call only", "tract", "onnxruntime", "/ tract", "/ ort"
    );
    let built: Vec<_> = models.iter().map(|model| (model, Built::new(model, target))).collect();
    for (index, (model, built)) in built.iter().enumerate() {
        for (column, batch) in BATCHES.into_iter().enumerate() {
            row(model, built, batch, onnxruntime.as_ref().map(|times| times[index][column]));
        }
    }
    println!(
        "\n{:<26} {:>9} {:>9} {:>9} {:>9} {:>11} {:>12} {:>12}",
        "model", "onnx B", "weights B", "wasm B", "cwasm B", "compile ms", "codegen ms", "instance us"
    );
    for (model, built) in &built {
        built.sizes(model);
    }
}

/// A model in its compiled forms; the error where it is refused.
struct Built {
    simd128: Result<Compiled, String>,
    relaxed: Result<Compiled, String>,
    native: Option<Arc<dyn LoadedModel>>,
}

struct Compiled {
    wasm: Vec<u8>,
    cwasm_bytes: usize,
    weight_bytes: usize,
    compile: Duration,
    precompile: Duration,
    loaded: Arc<dyn LoadedModel>,
}

impl Built {
    fn new(model: &Model, target: &'static Target) -> Self {
        let compiled = |variant| {
            let started = Instant::now();
            let compiled = compile(&model.onnx, &Options { variant, ..Options::default() });
            let compiled = compiled.map_err(|error| error.to_string())?;
            let compile = started.elapsed();
            let started = Instant::now();
            let code = precompile(&compiled.wasm, target).map_err(|error| error.to_string())?;
            let precompile = started.elapsed();
            let engine = WasmEngine::new(WasmConfig {
                deadline_ms: 10_000,
                instances: Instances::Pooled(4),
                ..WasmConfig::default()
            });
            let artifact = Artifact {
                file: format!("{}.cwasm", target.name()),
                format: ModelFormat::Cwasm,
                target: Some(target.name().to_owned()),
                runtime: Some(RUNTIME.to_owned()),
                compatibility: Some(target.compatibility()),
            };
            let loaded = engine.and_then(|engine| engine.load(&artifact, &code)).map_err(|error| error.to_string())?;
            let weight_bytes = compiled.constant_bytes;
            Ok(Compiled { wasm: compiled.wasm, cwasm_bytes: code.len(), weight_bytes, compile, precompile, loaded })
        };
        let native = TractEngine.load(&Artifact::onnx(), &model.onnx);
        if let Err(error) = &native {
            println!("{}: tract: {error}", model.name);
        }
        let built =
            Self { simd128: compiled(Variant::Simd128), relaxed: compiled(Variant::RelaxedSimd), native: native.ok() };
        if let Err(error) = &built.simd128 {
            println!("{}: {error}", model.name);
        }
        built
    }

    fn sizes(&self, model: &Model) {
        let Ok(Compiled { wasm, cwasm_bytes, weight_bytes, compile, precompile, .. }) = &self.simd128 else { return };
        println!(
            "{:<26} {:>9} {:>9} {:>9} {:>9} {:>11.1} {:>12.1} {:>12}",
            model.name,
            model.onnx.len(),
            weight_bytes,
            wasm.len(),
            cwasm_bytes,
            compile.as_secs_f64() * 1e3,
            precompile.as_secs_f64() * 1e3,
            micros(Raw::new(wasm, true).ok().map(|raw| raw.instantiate())),
        );
    }
}

fn row(model: &Model, built: &Built, batch: usize, onnxruntime: Option<f64>) {
    let tensors = inputs(model, batch);
    let time = |loaded: &dyn LoadedModel| {
        median(|| {
            loaded.run(tensors.clone()).expect("an answer");
        })
    };
    let of = |compiled: &Result<Compiled, String>| compiled.as_ref().ok().map(|it| time(&*it.loaded));
    // Without the host around it, in one instance: what epoch checks cost.
    let raw = |epochs| {
        built.simd128.as_ref().ok().and_then(|it| Raw::new(&it.wasm, epochs).ok()).map(|raw| raw.call(&tensors))
    };
    let (simd128, relaxed, call_only, no_epochs) = (of(&built.simd128), of(&built.relaxed), raw(true), raw(false));
    let native = built.native.as_ref().map(|native| time(&**native));
    let ratio = |other: Option<f64>| match (simd128, other) {
        (Some(ours), Some(other)) => format!("{:.2}", ours / other),
        _ => "-".into(),
    };
    println!(
        "{:<26} {:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>11} {:>9} {:>9}",
        model.name,
        batch,
        micros(simd128),
        micros(relaxed),
        micros(no_epochs),
        micros(call_only),
        micros(native),
        micros(onnxruntime),
        ratio(native),
        ratio(onnxruntime)
    );
}

fn inputs(model: &Model, batch: usize) -> Vec<Tensor> {
    let tensor = |(index, shape): (usize, &Vec<usize>)| {
        let shape: Vec<usize> = std::iter::once(batch).chain(shape.iter().copied()).collect();
        let data = random(index as u64 + 50, shape.iter().product(), 1.0);
        Tensor::new(shape, data).expect("a tensor")
    };
    model.inputs.iter().enumerate().map(tensor).collect()
}

fn micros(time: Option<f64>) -> String {
    time.map_or("-".into(), |time| if time < 10.0 { format!("{time:.2}") } else { format!("{time:.1}") })
}

/// Median in microseconds of as many calls as the time allows, at least 10; short ones are measured together.
fn median(mut call: impl FnMut()) -> f64 {
    let started = Instant::now();
    (0..3).for_each(|_| call());
    let together =
        (Duration::from_micros(20).as_nanos() / (started.elapsed().as_nanos() / 3).max(1)).clamp(1, 1000) as u32;
    let mut times = Vec::new();
    let started = Instant::now();
    while times.len() < 10 || started.elapsed() < MEASURED {
        let begun = Instant::now();
        (0..together).for_each(|_| call());
        times.push(begun.elapsed().as_secs_f64() * 1e6 / f64::from(together));
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A module in wasmtime without our host: one instance, or instances alone.
struct Raw {
    engine: Engine,
    module: Module,
    has_epochs: bool,
}

impl Raw {
    fn new(wasm: &[u8], has_epochs: bool) -> Result<Self, wasmtime::Error> {
        let mut config = Config::new();
        config.epoch_interruption(has_epochs).wasm_relaxed_simd(true);
        let engine = Engine::new(&config)?;
        let module = Module::new(&engine, wasm)?;
        Ok(Self { engine, module, has_epochs })
    }

    fn instance(&self) -> (Store<()>, Instance) {
        let mut store = Store::new(&self.engine, ());
        if self.has_epochs {
            store.set_epoch_deadline(1);
        }
        let instance = Instance::new(&mut store, &self.module, &[]).expect("an instance");
        (store, instance)
    }

    fn instantiate(&self) -> f64 {
        median(|| drop(self.instance()))
    }

    fn call(&self, tensors: &[Tensor]) -> f64 {
        let (mut store, instance) = self.instance();
        let mut global =
            |name: &str| instance.get_global(&mut store, name).expect(name).get(&mut store).unwrap_i32() as usize;
        let (at, len) = (global("descriptor"), global("descriptor_len"));
        let memory: Memory = instance.get_memory(&mut store, "memory").expect("the memory");
        let descriptor: Value = serde_json::from_slice(&memory.data(&store)[at..at + len]).expect("JSON");
        for (port, tensor) in descriptor["inputs"].as_array().expect("inputs").iter().zip(tensors) {
            let bytes: Vec<u8> = tensor.data().iter().flat_map(|number| number.to_le_bytes()).collect();
            memory.write(&mut store, port["offset"].as_u64().expect("an offset") as usize, &bytes).expect("inside");
        }
        let run: TypedFunc<i32, i32> = instance.get_typed_func(&mut store, "run").expect("run");
        let rows = tensors[0].num_rows() as i32;
        median(|| assert_eq!(run.call(&mut store, rows).expect("no trap"), 0))
    }
}

const SCRIPT: &str = r#"
import json, sys, time
import numpy as np, onnxruntime
request = json.load(open(sys.argv[1]))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
answers = []
for model in request["models"]:
    session = onnxruntime.InferenceSession(model["file"], options, providers=["CPUExecutionProvider"])
    names = [it.name for it in session.get_inputs()]
    row = []
    for batch in request["batches"]:
        rng = np.random.default_rng(1)
        feed = {n: rng.uniform(-1, 1, [batch, *s]).astype(np.float32) for n, s in zip(names, model["inputs"])}
        for _ in range(5):
            session.run(None, feed)
        times, began = [], time.perf_counter()
        while len(times) < 10 or time.perf_counter() - began < request["seconds"]:
            start = time.perf_counter()
            session.run(None, feed)
            times.append(time.perf_counter() - start)
        row.append(sorted(times)[len(times) // 2] * 1e6)
    answers.append(row)
print(json.dumps({"version": onnxruntime.__version__, "times": answers}))
"#;

/// Medians of onnxruntime, by model and batch.
fn onnxruntime(models: &[Model]) -> Option<Vec<Vec<f64>>> {
    let Ok(python) = std::env::var("MOOLA_BENCH_PYTHON") else {
        println!("SKIPPED: onnxruntime; MOOLA_BENCH_PYTHON names no Python that has it");
        return None;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let files = models.iter().enumerate().map(|(index, model)| {
        let file = dir.path().join(format!("{index}.onnx"));
        std::fs::write(&file, &model.onnx).expect("a file");
        json!({"file": file, "inputs": model.inputs})
    });
    let request = json!({"models": files.collect::<Vec<_>>(), "batches": BATCHES, "seconds": MEASURED.as_secs_f64()});
    let path = dir.path().join("request.json");
    std::fs::write(&path, request.to_string()).expect("a file");
    let output = Command::new(&python).args(["-c", SCRIPT]).arg(&path).stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|error| panic!("`{python}`: {error}"));
    assert!(output.status.success(), "onnxruntime failed");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    println!("onnxruntime {}", answer["version"].as_str().unwrap_or("?"));
    let _ = std::io::stdout().flush();
    serde_json::from_value(answer["times"].clone()).ok()
}
