//! Which engine serves: compiled models where they answer the same, ONNX files where an operator wants them.

use std::path::{Path, PathBuf};

use moola_tests::graphs::{constant, constant_manifest};
use moola_tests::{Api, Server, bars, run, until};
use serde_json::{Value, json};

use crate::r#loop::LIMIT;
use crate::serving::{ADVISORY, served, window};

const PREDICT: &str = "/api/v2/inference/predict";

/// The engine that answers, and the probability of `up`.
async fn answer(api: &Api) -> (String, f64) {
    let answer = api.post(PREDICT, &bars::request("m", &[window()])).await.ok();
    let engine = answer["model_metadata"]["engine"].as_str().unwrap().to_owned();
    (engine, answer["predictions"][0]["probabilities"]["up"].as_f64().unwrap())
}

/// Waits until `engine` answers; returns what.
async fn answered_by(api: &Api, engine: &str) -> f64 {
    let found = || async {
        let (found, share) = answer(api).await;
        (found == engine).then_some(share)
    };
    until(engine, LIMIT, found).await
}

async fn show(api: &Api) -> Value {
    api.get("/api/v2/models/m/versions/1").await.ok()
}

fn build(data_dir: &Path, engine: &str) -> Value {
    let args = ["--json", "models", "build", "m/1", "--engine", engine, "--reason", "a test"];
    let output = run(data_dir, &args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The machine code that serves here.
fn machine_code(data_dir: &Path, view: &Value) -> PathBuf {
    let build = view["build"]["id"].as_str().unwrap();
    let folder = data_dir.join("blobs/models/m/1/builds").join(build);
    let target = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x86_64" };
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files = files.map(|file| file.unwrap().path());
    let is_it = |path: &PathBuf| path.to_string_lossy().ends_with(".cwasm") && path.to_string_lossy().contains(target);
    files.find(is_it).unwrap_or_else(|| panic!("no machine code in {}", folder.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_compiled_judged_and_served_and_an_operator_can_change_that() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), ADVISORY).await;
    let api = server.api();
    api.register("m", &constant_manifest(), &constant(&[0.25, 0.75])).await.unwrap().ok();
    api.judged("m", 1).await;
    let view = show(api).await;
    assert_eq!((&view["build"]["engine"], &view["build"]["choice"]), (&json!("wasm"), &json!("auto")), "{view}");
    let manifest = &view["build_manifest"];
    assert_eq!((&manifest["engine"], &manifest["ground"]), (&json!("wasm"), &json!("benchmark")), "{manifest}");
    assert!(manifest["benchmark"]["max_difference"].as_f64().unwrap() < 1e-4, "{manifest}");
    let report = api.get("/api/v2/models/m/versions/1/gates").await.ok();
    assert_eq!((&report["engine"], &report["build"]), (&json!("wasm"), &view["build"]["id"]), "{report}");
    api.promote("m", 1).await.unwrap().ok();
    served(api, 1).await;
    let compiled = answered_by(api, "wasm").await;
    assert!((compiled - 0.75).abs() < 1e-6, "{compiled}");
    let ready = api.get("/ready").await.ok();
    assert_eq!((&ready["models"][0]["engine"], &ready["models"][0]["build"]), (&json!("wasm"), &view["build"]["id"]));

    // An operator's wish is followed at once, and is told of.
    let native = build(dir.path(), "native");
    assert_eq!(native["build_manifest"]["ground"], "override", "{native}");
    assert_eq!(native["build"]["decision"], "a test", "{native}");
    let share = answered_by(api, "native").await;
    assert!((share - compiled).abs() < 1e-6, "{share} native, {compiled} compiled");
    let wasm = build(dir.path(), "wasm");
    assert_eq!(answered_by(api, "wasm").await, compiled);
    let events = api.get("/api/v2/events?limit=1000").await.ok();
    let told =
        events["events"].as_array().unwrap().iter().filter(|event| event["detail_type"] == "Model Version Built");
    let mut engines: Vec<&str> = told.map(|event| event["detail"]["engine"].as_str().unwrap()).collect();
    engines.sort_unstable();
    assert_eq!(engines, ["native", "wasm", "wasm"]);
    let message = api.post("/api/v2/models/m/versions/1/build", &json!({"engine": "gpu"})).await.refused(400);
    assert!(message.contains("`engine`") && message.contains("gpu") && message.contains("`auto`"), "{message}");
    server.terminate().await;

    // Machine code that somebody altered is not run, and what is wrong is said.
    let path = machine_code(dir.path(), &wasm);
    let good = std::fs::read(&path).unwrap();
    let mut altered = good.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    std::fs::write(&path, altered).unwrap();
    let server = Server::start(dir.path(), ADVISORY).await;
    let message = server.api().post(PREDICT, &bars::request("m", &[window()])).await.refused(503);
    assert!(message.contains("m/1"), "{message}");
    let ready = server.api().get("/ready").await.ok();
    let reason = ready["degraded"][0]["reason"].as_str().unwrap();
    assert!(reason.contains(path.file_name().unwrap().to_str().unwrap()) && reason.contains("digest"), "{reason}");
    server.terminate().await;
    std::fs::write(&path, good).unwrap();
    let server = Server::start(dir.path(), ADVISORY).await;
    assert_eq!(answered_by(server.api(), "wasm").await, compiled);
    server.terminate().await;
}
