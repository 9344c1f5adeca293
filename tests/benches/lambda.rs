//! The bootstraps of the Lambda functions against a stub of the runtime API, with the emulator behind them:
//! `cargo bench -p moola-tests --bench lambda`, after `cargo build --profile lambda -p <package>` for `moola-control`,
//! `moola-predict` and `moola-predict-native`, one at a time.
//!
//! `MOOLA_BENCH_BOOTSTRAPS` is the folder of the bootstraps, by default `lambda` in the target directory. The model is a
//! SimpleLSTM with weights as before the first epoch: training changes neither its size nor its time. The request waits
//! when the process starts, as it does at a cold start of Lambda.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine as _;
use moola_aws::{DynamoTable, S3Blobs};
use moola_core::contract::{ModelSpec, Task, paths};
use moola_core::ports::{Blobs as _, Query, Table as _};
use moola_tests::bars;
use moola_tests::emulator::Emulator;
use moola_tests::runtime_api::Environment;
use moola_tests::setup::Setup;
use moola_trainer::model::{Metadata, Parameters, Shape, export};
use serde_json::{Value, json};

const FUNCTIONS: [&str; 7] = ["predict", "predict_native", "registry", "training", "compile", "drift", "react"];
const PREDICT: &str = "/api/v2/inference/predict";
const MODEL: &str = "bench";
const WINDOW_BARS: usize = 105;
const NUM_FEATURES: usize = 24;
const HIDDEN_SIZE: usize = 40;
const COLD_STARTS: usize = 30;
const WARM_CALLS: usize = 1000;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let Some(emulator) = Emulator::shared() else { return };
    let bootstraps = Bootstraps::find();
    let config = emulator.sdk_config().await;
    let made = Setup::new(config.clone(), MODEL).make().await.expect("the setup");
    let mut environment = made.environment;
    for (name, value) in [
        ("AWS_ENDPOINT_URL", emulator.endpoint().as_str()),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("MOOLA_SETTINGS", "[gates]\nadvisory = [\"held_out\"]\n"),
    ] {
        environment.insert(name.into(), value.into());
    }

    println!("Size of the bootstraps, bytes");
    for function in FUNCTIONS {
        let size = std::fs::metadata(bootstraps.path(function)).expect("a bootstrap").len();
        println!("{function:<40} {size:>12}");
    }

    println!("\nCold starts, {COLD_STARTS} each, ms: median, most");
    let mut empty = Vec::new();
    for _ in 0..COLD_STARTS {
        let started = bootstraps.start("predict", &environment).await;
        empty.push(ms(started.ready().await));
    }
    row("predict without a model: ready", empty);
    let size = serve_model(&bootstraps, &environment).await;
    let (mut ready, mut first) = (Vec::new(), Vec::new());
    for _ in 0..COLD_STARTS {
        let mut started = bootstraps.start("predict", &environment).await;
        predict(&mut started).await;
        first.push(ms(started.age()));
        ready.push(ms(started.ready().await));
    }
    row(&format!("predict with a model of {size} bytes: ready"), ready);
    row("predict: first prediction answered", first);
    for function in &FUNCTIONS[1..] {
        let (mut ready, mut resident) = (Vec::new(), 0);
        for _ in 0..COLD_STARTS {
            let started = bootstraps.start(function, &environment).await;
            ready.push(ms(started.ready().await));
            resident = memory(&started).0;
        }
        row(&format!("{function}: ready ({resident} KiB resident)"), ready);
    }

    println!("\nWhat the emulator takes to answer, from this process, ms: median, most");
    let (blobs, table) = (S3Blobs::new(&config, MODEL), DynamoTable::new(&config, MODEL));
    for file in [paths::MANIFEST, paths::MODEL_ONNX] {
        let key = paths::model(MODEL, 1, file);
        row(
            &format!("S3 GetObject of {file}"),
            times(COLD_STARTS, async || drop(blobs.get(&key).await.expect("a blob"))).await,
        );
    }
    let routes = Query::prefix("production", "");
    row(
        "DynamoDB Query of what serves",
        times(COLD_STARTS, async || drop(table.query(&routes).await.expect("the routes"))).await,
    );

    println!("\nWarm calls one after the other, {WARM_CALLS} each, ms: median, 99th percentile");
    let mut warm = bootstraps.start("predict", &environment).await;
    predict(&mut warm).await;
    let at_first = memory(&warm);
    let mut predictions = Vec::new();
    let mut health = Vec::new();
    for _ in 0..WARM_CALLS {
        let started = Instant::now();
        predict(&mut warm).await;
        predictions.push(ms(started.elapsed()));
        let started = Instant::now();
        assert_eq!(warm.http("GET", "/health", None).await.0, 200);
        health.push(ms(started.elapsed()));
    }
    println!(
        "{:<56} {:>8.2} {:>8.2}",
        "predictions through the stub",
        at(&mut predictions, 0.5),
        at(&mut predictions, 0.99)
    );
    println!("{:<56} {:>8.2} {:>8.2}", "GET /health through the stub", at(&mut health, 0.5), at(&mut health, 0.99));

    println!("\nMemory of predict, KiB: resident, proportional");
    for (when, (resident, proportional)) in
        [("after the first prediction", at_first), ("after the warm calls", memory(&warm))]
    {
        println!("{when:<56} {resident:>8} {proportional:>8}");
    }
}

/// Registers a model through `compile` and promotes it through `registry`; returns the size of its file.
async fn serve_model(bootstraps: &Bootstraps, environment: &BTreeMap<String, String>) -> usize {
    let spec = ModelSpec { hidden_size: HIDDEN_SIZE, ..ModelSpec::default() };
    let shape = Shape::new(&spec, Task::Classification, WINDOW_BARS, 4, NUM_FEATURES, 2);
    let onnx = export(&shape, &Parameters::new(&shape, 1), (0.0, 1.0), &Metadata::default()).expect("a model");
    let manifest = json!({
        "task": "classification", "inputs": [{"kind": "bars"}, {"kind": "features"}], "classes": ["no", "yes"],
        "window_bars": WINDOW_BARS, "feature_set": "core",
    });
    let model = base64::engine::general_purpose::STANDARD.encode(&onnx);
    let body = json!({ "manifest": manifest, "model_base64": model });
    let version = format!("/api/v2/models/{MODEL}/versions/1");
    let mut compile = bootstraps.start("compile", environment).await;
    expect_ok(compile.http("POST", &format!("/api/v2/models/{MODEL}/versions"), Some(&body)).await);
    expect_ok(compile.http("POST", &format!("{version}/gates"), Some(&Value::Null)).await);
    let mut registry = bootstraps.start("registry", environment).await;
    expect_ok(registry.http("POST", &format!("{version}/deploy"), Some(&json!({ "reason": "bench" }))).await);
    onnx.len()
}

async fn predict(environment: &mut Environment) {
    let series = bars::simulated(7, WINDOW_BARS);
    let body = bars::request(MODEL, &[bars::window(&series, WINDOW_BARS - 1, WINDOW_BARS)]);
    expect_ok(environment.http("POST", PREDICT, Some(&body)).await);
}

fn expect_ok((status, body): (u64, Value)) {
    assert!((200..300).contains(&status), "{status}: {body}");
}

struct Bootstraps(PathBuf);

impl Bootstraps {
    fn find() -> Self {
        let target = || {
            let program = std::env::current_exe().expect("this program");
            // <target>/<profile>/deps/<program>
            program.ancestors().nth(3).expect("the target directory").join("lambda")
        };
        Self(std::env::var_os("MOOLA_BENCH_BOOTSTRAPS").map_or_else(target, PathBuf::from))
    }

    /// `<function>`, or `<function>/bootstrap` as cargo lambda has it.
    fn path(&self, function: &str) -> PathBuf {
        let path = self.0.join(function);
        if path.is_dir() { path.join("bootstrap") } else { path }
    }

    async fn start(&self, function: &str, environment: &BTreeMap<String, String>) -> Environment {
        let path: &Path = &self.path(function);
        Environment::start(path, environment.iter().map(|(name, value)| (name.as_str(), value.clone()))).await
    }
}

async fn times(count: usize, what: impl AsyncFn()) -> Vec<f64> {
    let mut times = Vec::new();
    for _ in 0..count {
        let started = Instant::now();
        what().await;
        times.push(ms(started.elapsed()));
    }
    times
}

fn row(name: &str, mut times_ms: Vec<f64>) {
    println!("{name:<56} {:>8.1} {:>8.1}", at(&mut times_ms, 0.5), at(&mut times_ms, 1.0));
}

fn at(times_ms: &mut [f64], share: f64) -> f64 {
    times_ms.sort_by(f64::total_cmp);
    times_ms[((times_ms.len() - 1) as f64 * share) as usize]
}

fn ms(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Resident and proportional memory in KiB.
fn memory(environment: &Environment) -> (u64, u64) {
    let pid = environment.pid().expect("a running process");
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the memory of the process");
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a field of smaps_rollup");
        line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    };
    (field("Rss:"), field("Pss:"))
}
