//! The whole loop: bars, training, version, predictions, drift, retrain. And the command line on top of it.

use std::path::Path;
use std::time::Duration;

use moola_market::Bars;
use moola_tests::{Api, Server, bars, run, until};
use serde_json::{Value, json};

use crate::crash::{ended, training};

/// Settings for small models and few predictions.
pub(crate) const SETTINGS: &str = r#"
[gates]
advisory = ["beats_baseline", "not_worse_than_production", "robust_to_noise", "robust_to_missing_bars", "latency"]
[monitor]
max_rows = 150
[monitor.drift]
min_rows = 60
drift_share = 0.2
[drift_schedule]
enabled = false
expression = "rate(1 day)"
[react]
cooldown_secs = 3600
[serving.log]
flush_ms = 100
"#;
pub(crate) const LIMIT: Duration = Duration::from_secs(90);
/// The features' history and the window.
const HISTORY: usize = 105;
const WINDOW: usize = 24;

/// Predicts on `count` windows of `bars`, far apart; the version that answers must be `version`.
async fn predict(api: &Api, bars: &Bars, count: usize, version: u64) {
    let stride = (bars.len() - HISTORY) / count;
    let ends: Vec<usize> = (0..count).map(|place| HISTORY - 1 + place * stride).collect();
    let windows: Vec<Value> = ends.iter().map(|end| bars::window(bars, *end, WINDOW)).collect();
    let history: Vec<Value> = ends.iter().map(|end| bars::window(bars, *end - WINDOW, HISTORY - WINDOW)).collect();
    let mut request = bars::request("m", &windows);
    request["input_data"]["history"] = json!(history);
    let served = || async {
        let answer = api.post("/api/v2/inference/predict", &request).await.ok();
        (answer["model_metadata"]["model_version"] == version.to_string().as_str()).then_some(answer)
    };
    let answer = until("the version", Duration::from_secs(10), served).await;
    assert_eq!(answer["predictions"].as_array().unwrap().len(), count);
}

/// Waits until at least `count` predictions of `version` are logged.
async fn logged(api: &Api, version: u64, count: usize) {
    let all = || async {
        let answer = api.get("/api/v2/inference/predictions?model=m&limit=1000").await.ok();
        let predictions = answer["predictions"].as_array().unwrap();
        let num_logged = predictions.iter().filter(|prediction| prediction["version"] == version).count();
        (num_logged >= count).then_some(())
    };
    until("the log", LIMIT, all).await;
}

async fn check_drift(api: &Api, version: u64, num_logged: usize) -> Value {
    logged(api, version, num_logged).await;
    api.post("/api/v2/drift/m/check", &Value::Null).await.ok()["check"].take()
}

/// The first event of a kind, once there is one.
pub(crate) async fn event(api: &Api, kind: &str, field: &str, value: &Value) -> Value {
    let found = || async {
        let events = api.get("/api/v2/events?limit=10000").await.ok()["events"].take();
        let events = events.as_array().unwrap().clone();
        events.into_iter().rev().find(|event| event["detail_type"] == kind && event["detail"][field] == *value)
    };
    until(kind, LIMIT, found).await
}

pub(crate) async fn in_production(api: &Api, version: u64) {
    let promoted = || async { (api.get("/api/v2/models/m").await.ok()["production_version"] == version).then_some(()) };
    until("the promotion", LIMIT, promoted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_leads_to_a_new_version_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), SETTINGS).await;
    let api = server.api();
    drift_to_retrain(api).await;

    // The command line tells the same with the server and without it.
    let commands: [&[&str]; 6] = [
        &["--json", "models", "list"],
        &["--json", "models", "show", "m"],
        &["--json", "models", "lineage", "m/2"],
        &["--json", "data", "list"],
        &["--json", "runs", "list"],
        &["--json", "drift", "list", "m"],
    ];
    let with: Vec<Value> = commands.iter().map(|args| json_of(dir.path(), args)).collect();
    assert_eq!(with[0], api.get("/api/v2/models").await.ok(), "the command line prints what the API answers");
    server.terminate().await;
    assert!(!dir.path().join("server.json").exists());
    for (args, with) in commands.iter().zip(&with) {
        assert_eq!(json_of(dir.path(), args), *with, "{args:?} without the server");
    }
}

/// Bars, a run, version 1 in production, predictions; another market, drift, and version 2 in production by itself.
pub(crate) async fn drift_to_retrain(api: &Api) {
    let trained_on = bars::simulated(1, 3000);
    api.import("d", bars::csv(&trained_on)).await.unwrap().ok();
    let mut request = training("m", "d", 2);
    request["auto_promote"] = json!(true);
    let started = api.post("/api/v2/training/jobs", &request).await.ok();
    let first = ended(api, started["run_id"].as_str().unwrap(), LIMIT).await;
    assert_eq!((&first["status"], &first["model_version"]), (&json!("completed"), &json!(1)), "{first}");
    in_production(api, 1).await;

    // Too few predictions, then such as training knew: no drift.
    predict(api, &trained_on, 20, 1).await;
    logged(api, 1, 20).await;
    let message = api.post("/api/v2/drift/m/check", &Value::Null).await.refused(409);
    assert!(message.contains("20 logged predictions") && message.contains("60"), "{message}");
    predict(api, &trained_on, 150, 1).await;
    let check = check_drift(api, 1, 170).await;
    assert_eq!((&check["drifted"], &check["num_rows"]), (&json!(false), &json!(150)), "{check}");

    // Another market: drift, and all that follows from it.
    let other = bars::shifted(2, 9000);
    api.import("d", bars::csv(&other)).await.unwrap().ok();
    predict(api, &other, 150, 1).await;
    let check = check_drift(api, 1, 320).await;
    assert_eq!(check["drifted"], true, "{check}");
    eprintln!("drifted: {} of the features, worst {}", check["drifted_share"], check["worst_columns"]);
    let drift = event(api, "Drift Detected", "check_id", &check["check_id"]).await;
    let registered = event(api, "Model Version Registered", "model_version", &json!(2)).await;
    in_production(api, 2).await;
    let chain = &drift["correlation_id"];
    assert!(chain.as_str().is_some_and(|id| !id.is_empty()), "{drift}");
    assert_eq!(registered["correlation_id"], *chain, "{registered}");
    for (kind, field, value) in [
        ("Retrain Requested", "model_version", json!(1)),
        ("Run Requested", "trigger", json!("drift")),
        ("Gates Judged", "model_version", json!(2)),
        ("Stage Changed", "to", json!("Production")),
    ] {
        let found = event_of(api, chain, kind, field, &value).await;
        assert!(found, "no `{kind}` with {field} {value} of the chain {chain}");
    }
    let runs = api.get("/api/v2/training/jobs").await.ok();
    let retrained = runs["runs"].as_array().unwrap().iter().find(|run| run["trigger"] == "drift").unwrap();
    assert_eq!((&retrained["status"], &retrained["correlation_id"]), (&json!("completed"), chain), "{retrained}");
    let lineage = api.get("/api/v2/models/m/versions/2/lineage").await.ok();
    assert_eq!(lineage["version"]["lineage"]["parent_version"], 1, "{lineage}");

    // The market is as it was before; within the cool-down that starts no second retrain.
    predict(api, &trained_on, 150, 2).await;
    let check = check_drift(api, 2, 150).await;
    assert_eq!((&check["drifted"], &check["version"]), (&json!(true), &json!(2)), "{check}");
    let skipped = event(api, "Retrain Skipped", "model_version", &json!(2)).await;
    assert_eq!(skipped["detail"]["reason"], "cool-down");
    let runs = api.get("/api/v2/training/jobs").await.ok();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 2, "{runs}");
}

/// Whether the chain holds such an event.
pub(crate) async fn event_of(api: &Api, chain: &Value, kind: &str, field: &str, value: &Value) -> bool {
    let events = api.get("/api/v2/events?limit=10000").await.ok();
    let fits = |event: &&Value| event["correlation_id"] == *chain && event["detail_type"] == kind;
    events["events"].as_array().unwrap().iter().filter(fits).any(|event| event["detail"][field] == *value)
}

fn json_of(data_dir: &Path, args: &[&str]) -> Value {
    let output = run(data_dir, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{args:?} printed no JSON ({error}): {errors}"))
}
