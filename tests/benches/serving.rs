//! Prediction over HTTP with the real binary: `cargo bench -p moola-tests`, after `cargo build --release -p moola-cli`.
//!
//! Trains a small SimpleLSTM, promotes it and asks for single windows at several concurrencies. Client and server share the
//! machine. With `MOOLA_BENCH_PYTHON` (a Python with fastapi, uvicorn, onnxruntime and numpy), the same ONNX file is
//! served by a usual Python stack in the same run; that server computes no features, which is in its favour.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use moola_tests::{Server, bars, until};
use serde_json::{Value, json};

const PREDICT: &str = "/api/v2/inference/predict";
const SETTINGS: &str =
    "[gates]\nadvisory = [\"beats_baseline\", \"latency\", \"robust_to_noise\", \"robust_to_missing_bars\"]\n";
const WINDOW_BARS: usize = 105;
const MEASURED: Duration = Duration::from_secs(5);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let dir = tempfile::tempdir().expect("a directory");
    let series = bars::simulated(7, 6000);
    let server = Server::start(dir.path(), SETTINGS).await;
    let api = server.api();
    api.import("bench", bars::csv(&series)).await.expect("an import").ok();
    let request = json!({
        "model_name": "bench", "dataset": "bench", "auto_promote": true,
        "label": {"kind": "expansion", "horizon": 24, "multiple": 1.0},
        "window": {"stride": 4}, "model": {"hidden_size": 32}, "optimizer": {"epochs": 1},
    });
    api.post("/api/v2/training/jobs", &request).await.ok();
    until("the first version in production", Duration::from_secs(120), || async {
        let answer = api.get("/api/v2/models/bench").await;
        answer.json["production_version"].as_u64()
    })
    .await;
    println!("SimpleLSTM(32), windows of 105 bars, 24 features, one window per request, {} s each", MEASURED.as_secs());
    println!("{:<34} {:>11} {:>9} {:>9} {:>12}", "server", "concurrency", "p50 ms", "p99 ms", "requests/s");
    let body = bars::request("bench", &[bars::window(&series, 5000, WINDOW_BARS)]);
    for concurrency in [1, 8, 64] {
        row("moola", concurrency, &format!("{}{PREDICT}", url(dir.path())), &body).await;
    }
    let resident = peak_memory(pid(dir.path()));
    server.kill9();

    let mut starts = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        let server = Server::start(dir.path(), SETTINGS).await;
        until("the first answer", Duration::from_secs(10), || async {
            (server.api().post(PREDICT, &body).await.status == 200).then_some(())
        })
        .await;
        starts.push(started.elapsed().as_secs_f64() * 1e3);
        server.terminate().await;
    }
    starts.sort_by(f64::total_cmp);
    println!("process start to first prediction: {:.0} ms (median of 5, polled every 50 ms)", starts[2]);
    println!("peak resident memory of the server: {:.0} MiB", resident as f64 / 1024.0);

    if let Ok(python) = std::env::var("MOOLA_BENCH_PYTHON") {
        let model = dir.path().join("blobs/models/bench/1/model.onnx");
        let (mut rival, url) = python_server(&python, &model).await;
        for concurrency in [1, 8, 64] {
            row("fastapi + onnxruntime, no features", concurrency, &url, &body).await;
        }
        println!("peak resident memory of the Python server: {:.0} MiB", peak_memory(rival.id()) as f64 / 1024.0);
        // It has ended where this fails.
        let _ = rival.kill();
    }
}

async fn row(name: &str, concurrency: usize, url: &str, body: &Value) {
    load(concurrency, url, body, Duration::from_secs(1)).await;
    let mut times_ms = load(concurrency, url, body, MEASURED).await;
    times_ms.sort_by(f64::total_cmp);
    let at = |share: f64| times_ms[((times_ms.len() - 1) as f64 * share) as usize];
    let rate = times_ms.len() as f64 / MEASURED.as_secs_f64();
    println!("{name:<34} {concurrency:>11} {:>9.2} {:>9.2} {rate:>12.0}", at(0.5), at(0.99));
}

/// Asks for `duration` with so many clients; returns the time of every answer.
async fn load(concurrency: usize, url: &str, body: &Value, duration: Duration) -> Vec<f64> {
    let (client, stop) = (reqwest::Client::new(), Arc::new(AtomicBool::new(false)));
    let body = body.to_string();
    let clients: Vec<_> = (0..concurrency)
        .map(|_| {
            let (client, url, body, stop) = (client.clone(), url.to_owned(), body.clone(), stop.clone());
            tokio::spawn(async move {
                let mut times_ms = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    let request = client.post(&url).header("content-type", "application/json").body(body.clone());
                    let answer = request.send().await.expect("an answer");
                    assert!(answer.status().is_success(), "{}", answer.status());
                    answer.bytes().await.expect("a body");
                    times_ms.push(started.elapsed().as_secs_f64() * 1e3);
                }
                times_ms
            })
        })
        .collect();
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.expect("a client"));
    }
    all
}

async fn python_server(python: &str, model: &Path) -> (Child, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/python_serving.py");
    let port = "18423";
    let child =
        Command::new(python).arg(script).arg(model).arg(port).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.expect("the Python server");
    let health = format!("http://127.0.0.1:{port}/health");
    until("the Python server", Duration::from_secs(30), || async { reqwest::get(&health).await.ok() }).await;
    (child, format!("http://127.0.0.1:{port}/predict"))
}

fn server_file(data_dir: &Path) -> Value {
    let text = std::fs::read(data_dir.join("server.json")).expect("server.json");
    serde_json::from_slice(&text).expect("JSON")
}

fn url(data_dir: &Path) -> String {
    server_file(data_dir)["url"].as_str().expect("a URL").to_owned()
}

fn pid(data_dir: &Path) -> u32 {
    server_file(data_dir)["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
}

/// Largest resident memory of a process in KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
