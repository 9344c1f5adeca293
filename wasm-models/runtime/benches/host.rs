//! Measures the host: loading, a fresh instance per request, epoch checks, and a process from its start to its first answer.
//!
//! The models are those of tests/fixtures/onnx, and modules that read some weights once. Medians, one thread.

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use moola_core::ports::{Artifact, CompileRequest, Compiler, Engine, LoadedModel, ModelFormat, Tensor};
use moola_wasm_runtime::{Instances, RUNTIME, Target, WasmCompiler, WasmConfig, WasmEngine, precompile};

const FIXTURES: [&str; 4] = ["torch_style_mlp", "torch_style_lstm", "sklearn_mlp", "sklearn_forest"];

fn main() {
    let Some(target) = Target::host() else { return println!("there is no target for this machine") };
    let args = std::env::args().collect::<Vec<_>>();
    if let [_, command, file] = args.as_slice()
        && command == "first-answer"
    {
        return first_answer(target, file);
    }
    println!(
        "{:<24} {:>9} {:>9} {:>10} {:>10} {:>10} {:>10} {:>8} {:>12}",
        "model", "cwasm kB", "load us", "on demand", "pooled", "kept", "no epochs", "epochs", "start ms"
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/onnx");
    for name in FIXTURES {
        let onnx = std::fs::read(folder.join(format!("{name}.onnx"))).expect("the fixture");
        let request = CompileRequest { onnx: &onnx, model: name, version: 1, feature_set_hash: None };
        match WasmCompiler::default().compile(&request) {
            Ok(mut files) => measure(target, name, &files.swap_remove(0).bytes),
            Err(error) => println!("{name}: {error}"),
        }
    }
    for weights in [0, 18 << 10, 290 << 10, 1 << 20, 4 << 20] {
        measure(target, &format!("{} kB, each read once", weights >> 10), &reader(weights));
    }
    println!(
        "on demand, pooled: a request in a fresh instance, us; kept: the call alone, in an instance that is used again"
    );
}

fn measure(target: &'static Target, name: &str, wasm: &[u8]) {
    let code = precompile(wasm, target).expect("machine code");
    let artifact = artifact(target);
    let engine = |instances| WasmEngine::new(WasmConfig { instances, ..WasmConfig::default() }).expect("an engine");
    let (on_demand, pooled) = (engine(Instances::OnDemand), engine(Instances::Pooled(16)));
    let load = median(200, || drop(black_box(on_demand.load(&artifact, &code).expect("a model"))));
    let request = |engine: &WasmEngine| {
        let model = engine.load(&artifact, &code).expect("a model");
        let inputs = inputs(&*model);
        median(2000, || drop(black_box(model.run(inputs.clone()).expect("outputs"))))
    };
    let (on_demand, pooled) = (request(&on_demand), request(&pooled));
    let (without, with) = (kept(wasm, false), kept(wasm, true));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &code).expect("to write it");
    let start = median(40, || {
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        let output = child.arg("first-answer").arg(file.path()).output().expect("to run it");
        assert_eq!(output.stdout, b"ok", "{}", String::from_utf8_lossy(&output.stderr));
    });
    println!(
        "{name:<24} {:>9.1} {:>9.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>7.1}% {:>12.2}",
        code.len() as f64 / 1e3,
        micros(load),
        micros(on_demand),
        micros(pooled),
        micros(with),
        micros(without),
        100.0 * (with.as_secs_f64() / without.as_secs_f64() - 1.0),
        micros(start) / 1e3
    );
}

/// The child: reads machine code, answers one row, ends.
fn first_answer(target: &'static Target, file: &str) {
    let code = std::fs::read(file).expect("the file");
    let engine = WasmEngine::new(WasmConfig::default()).expect("an engine");
    let model = engine.load(&artifact(target), &code).expect("a model");
    black_box(model.run(inputs(&*model)).expect("outputs"));
    print!("ok");
}

/// A call of one row in an instance that is used again, with wasmtime alone.
fn kept(wasm: &[u8], epochs: bool) -> Duration {
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(epochs).memory_may_move(false);
    let engine = wasmtime::Engine::new(&config).expect("an engine");
    let module = wasmtime::Module::new(&engine, wasm).expect("a module");
    let mut store = wasmtime::Store::new(&engine, ());
    if epochs {
        store.set_epoch_deadline(u64::MAX / 2);
    }
    let instance = wasmtime::Instance::new(&mut store, &module, &[]).expect("an instance");
    let run = instance.get_typed_func::<i32, i32>(&mut store, "run").expect("`run`");
    median(4000, || assert_eq!(run.call(&mut store, 1).expect("no trap"), 0))
}

fn artifact(target: &Target) -> Artifact {
    Artifact {
        file: "model.cwasm".to_owned(),
        format: ModelFormat::Cwasm,
        target: Some(target.name().to_owned()),
        runtime: Some(RUNTIME.to_owned()),
        compatibility: Some(target.compatibility()),
    }
}

fn inputs(model: &dyn LoadedModel) -> Vec<Tensor> {
    let inputs = model.inputs().iter().map(|(_, shape)| {
        let shape = std::iter::once(1).chain(shape.iter().map(|size| size.unwrap_or(1))).collect::<Vec<_>>();
        let data = (0..shape.iter().product()).map(|it| (it as f32 * 0.37).sin()).collect();
        Tensor::new(shape, data).expect("a tensor")
    });
    inputs.collect()
}

/// A module that sums its weights, four vectors of four at a time.
fn reader(weights: usize) -> Vec<u8> {
    let pages = weights.div_ceil(1 << 16) + 2;
    let descriptor = r#"{"abi": 1, "max_rows": 1,
      "inputs": [{"name": "x", "type": "float32", "shape": [null, 1], "offset": 1024, "row_bytes": 4}],
      "outputs": [{"name": "y", "type": "float32", "shape": [null, 1], "offset": 2048, "row_bytes": 4}]}"#;
    let text = |bytes: &mut dyn Iterator<Item = u8>| bytes.map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let sums = (0..4).map(|index| {
        format!(
            "(local.set {} (f32x4.add (local.get {}) (v128.load offset={} (local.get $at))))",
            index + 2,
            index + 2,
            65536 + 16 * index
        )
    });
    let module = format!(
        r#"(module (memory (export "memory") {pages} {pages})
          (global (export "abi") i32 (i32.const 1)) (global (export "descriptor") i32 (i32.const 16))
          (global (export "descriptor_len") i32 (i32.const {}))
          (data (i32.const 16) "{}") (data (i32.const 65536) "{}")
          (func (export "run") (param i32) (result i32) (local $at i32) (local v128 v128 v128 v128)
            (loop $next {}
              (local.set $at (i32.add (local.get $at) (i32.const 64)))
              (br_if $next (i32.lt_u (local.get $at) (i32.const {weights}))))
            (f32.store (i32.const 2048) (f32x4.extract_lane 0
              (f32x4.add (f32x4.add (local.get 2) (local.get 3)) (f32x4.add (local.get 4) (local.get 5)))))
            (i32.const 0)))"#,
        descriptor.len(),
        text(&mut descriptor.bytes()),
        text(&mut (0..weights).map(|at| (at * 7 % 251) as u8 & 0x3f)),
        sums.collect::<String>(),
    );
    wat::parse_str(module).expect("a module")
}

fn median(count: usize, mut work: impl FnMut()) -> Duration {
    for _ in 0..count / 10 {
        work();
    }
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        work();
        times.push(start.elapsed());
    }
    times.sort();
    times[count / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
