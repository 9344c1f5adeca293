//! Predictions over HTTP: no gap while versions change, a clear answer to whatever is wrong.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moola_tests::graphs::{WINDOW_BARS, constant, constant_manifest};
use moola_tests::{Api, Server, bars};
use reqwest::Method;
use serde_json::{Value, json};

const PREDICT: &str = "/api/v2/inference/predict";
pub(crate) const ADVISORY: &str = "[gates]\nadvisory = [\"held_out\"]\n";

/// Starts a platform with two versions of the constant model `m`, whose first is in production.
pub(crate) async fn with_two_versions(data_dir: &Path, settings: &str) -> Server {
    let server = Server::start(data_dir, settings).await;
    let api = server.api();
    for (version, share) in [(1, 0.25), (2, 0.75)] {
        let registered = api.register("m", &constant_manifest(), &constant(&[1.0 - share, share])).await.unwrap();
        assert_eq!(registered.ok()["version"], version);
        api.judged("m", version).await;
    }
    assert_eq!(api.promote("m", 1).await.unwrap().ok()["stage"], "Production");
    served(api, 1).await;
    server
}

pub(crate) fn window() -> Value {
    bars::window(&bars::simulated(1, 50), 40, WINDOW_BARS)
}

/// Waits until a version answers; returns how long that took.
pub(crate) async fn served(api: &Api, version: u64) -> Duration {
    let (started, request) = (Instant::now(), bars::request("m", &[window()]));
    loop {
        let answer = api.post(PREDICT, &request).await;
        if answer.status == 200 && answer.json["model_metadata"]["model_version"] == version.to_string().as_str() {
            return started.elapsed();
        }
        assert!(started.elapsed() < Duration::from_secs(10), "version {version} does not answer: {}", answer.text);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promotions_under_load_fail_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_two_versions(dir.path(), ADVISORY).await;
    let api = server.api();
    let (stop, num_answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (api, stop, num_answered) = (api.clone(), stop.clone(), num_answered.clone());
            let request = bars::request("m", &[window()]);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = api.post(PREDICT, &request).await.ok();
                    let version = answer["model_metadata"]["model_version"].as_str().unwrap();
                    let share = answer["predictions"][0]["probabilities"]["up"].as_f64().unwrap();
                    let expected = if version == "1" { 0.25 } else { 0.75 };
                    assert!((share - expected).abs() < 1e-6, "version {version} answered {share}");
                    num_answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for turn in 0..10 {
        let version = if turn % 2 == 0 { 2 } else { 1 };
        let before = num_answered.load(Ordering::Relaxed);
        let promoted = api.promote("m", version).await.unwrap().ok();
        assert_eq!(promoted["stage"], "Production");
        slowest = slowest.max(served(api, version).await);
        // Some of the load falls on each version.
        while num_answered.load(Ordering::Relaxed) < before + 50
            && !clients.iter().any(tokio::task::JoinHandle::is_finished)
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no request fails");
    }
    let num_answered = num_answered.load(Ordering::Relaxed);
    eprintln!("10 promotions, {num_answered} predictions, the slowest switch took {} ms", slowest.as_millis());
    assert!(num_answered >= 500);
    assert!(slowest < Duration::from_secs(1), "a promoted version answered only after {slowest:?}");
    let ready = api.get("/ready").await.ok();
    assert_eq!(ready["status"], "ready");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_two_versions(dir.path(), ADVISORY).await;
    let api = server.api();
    let good = window();
    // The second bar, with one of its fields replaced.
    let changed = |field: usize, value: Value| {
        let mut window = good.clone();
        window[1][field] = value;
        bars::request("m", &[window])
    };
    let short = json!(good.as_array().unwrap()[1..]);
    let with = |value: Value| json!({"model_version": "m", "input_data": {"ohlc_data": value}});
    let field = "input_data.ohlc_data[0][1]";
    let cases: Vec<(Value, u16, Vec<&str>)> = vec![
        (bars::request("m", &[short]), 400, vec!["input_data.ohlc_data[0]", "3 bars", "exactly 4"]),
        (bars::request("m", &[good.clone(), json!([])]), 400, vec!["input_data.ohlc_data[1]", "0 bars"]),
        (changed(3, Value::Null), 400, vec![field, "null"]),
        (changed(3, json!("NaN")), 400, vec![field, "NaN"]),
        (changed(3, json!(true)), 400, vec![field, "true"]),
        (changed(0, json!(-1.5)), 400, vec![field, ".open", "-1.5", "above 0"]),
        (changed(2, json!(0.0)), 400, vec![".low", "0", "above 0"]),
        (changed(1, json!(0.001)), 400, vec![".high", "0.001", "at least"]),
        (changed(2, json!(1e9)), 400, vec![field, "1000000000"]),
        (with(json!([])), 400, vec!["input_data.ohlc_data", "[]"]),
        (with(json!("bars")), 400, vec!["input_data.ohlc_data", "bars"]),
        (with(json!([[[1.0, 2.0, 0.5]]])), 400, vec!["input_data.ohlc_data[0][0]", "3", "4 numbers"]),
        (with(json!([[[1.0, 2.0, 0.5, 1.0, 7.0]]])), 400, vec!["input_data.ohlc_data[0][0]", "5", "4 numbers"]),
        (json!({"model_version": "m"}), 400, vec!["input_data"]),
        (json!({"model_version": "m", "input_data": {}}), 400, vec!["input_data.ohlc_data", "missing"]),
        (json!({"model_version": "m", "input_data": {"ohlc": []}}), 400, vec!["ohlc"]),
        (json!({"input_data": {"ohlc_data": [good]}}), 400, vec!["model_version", "missing"]),
        (json!({"model_version": 7, "input_data": {"ohlc_data": [good]}}), 400, vec!["model_version", "7"]),
        (bars::request("nobody", std::slice::from_ref(&good)), 404, vec!["nobody"]),
        (bars::request("m/9", std::slice::from_ref(&good)), 404, vec!["m/9"]),
        (bars::request("m/champion", std::slice::from_ref(&good)), 404, vec!["champion"]),
        (bars::request("m/../x", std::slice::from_ref(&good)), 400, vec!["model_version"]),
        (json!({"model_version": "m", "input_data": {"symbol": "NONE"}}), 404, vec!["NONE"]),
        (json!([1, 2]), 400, vec!["[0]", "1", "a string"]),
        (json!("text"), 400, vec!["body"]),
    ];
    for (body, status, parts) in cases {
        let message = api.post(PREDICT, &body).await.refused(status);
        for part in &parts {
            assert!(message.contains(part), "`{part}` is not told by `{message}` of {body}");
        }
    }
    let json_type = Some("application/json");
    let send = async |method, path: &str, content_type, body: &[u8]| {
        api.send(method, path, content_type, body.to_vec()).await.unwrap()
    };
    let good = bars::request("m", &[good]).to_string().into_bytes();
    for (content_type, body, status, part) in [
        (json_type, &b""[..], 400, "body"),
        (json_type, b"{\"model_version\": \"m\", \"input_data\": {\"ohlc_data\": [[[NaN", 400, "NaN"),
        (json_type, &good[..good.len() / 2], 400, "expected JSON"),
        (json_type, b"\xff\xfe{}", 400, "expected JSON"),
        (Some("text/csv"), &good, 415, "text/csv"),
        (None, &good, 415, "Content-Type"),
    ] {
        let message = send(Method::POST, PREDICT, content_type, body).await.refused(status);
        assert!(message.contains(part), "`{part}` is not told by `{message}`");
    }
    let long = [&good[..good.len() - 1], &vec![b' '; 10 << 20], b"}"].concat();
    let message = send(Method::POST, PREDICT, json_type, &long).await.refused(413);
    assert!(message.contains(&long.len().to_string()) && message.contains("8388608"), "{message}");
    let many = bars::request("m", &vec![window(); 1025]);
    let message = api.post(PREDICT, &many).await.refused(400);
    assert!(message.contains("1025") && message.contains("1024"), "{message}");
    let message = send(Method::GET, "/api/v2/nothing", None, b"").await.refused(404);
    assert!(message.contains("/api/v2/nothing"), "{message}");
    let message = send(Method::GET, PREDICT, None, b"").await.refused(405);
    assert!(message.contains("GET"), "{message}");
    send(Method::POST, PREDICT, json_type, &good).await.ok();

    // The other version of the route names its own fields.
    let message = api.post("/api/v1/ml/predict/m", &json!({"features": [[1.0, 2.0, 0.5, 1.0]]})).await.refused(400);
    assert!(message.contains("features.ohlc_data") && message.contains("1 bars"), "{message}");
    let answer = api.post("/api/v1/ml/predict/m", &json!({"features": window(), "requestId": "r-1"})).await.ok();
    assert_eq!((&answer["requestId"], &answer["prediction"]), (&json!("r-1"), &json!("down")));
    let message =
        api.post("/api/v2/inference/outcomes", &json!({"outcomes": [{"prediction_id": "x"}]})).await.refused(400);
    assert!(message.contains("outcomes[0].prediction_id") && message.contains("`x`"), "{message}");
    assert_eq!(api.get("/ready").await.ok()["status"], "ready", "nothing of this harmed the server");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operation_routes_answer() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_two_versions(dir.path(), ADVISORY).await;
    let api = server.api();
    let health = api.get("/health").await;
    assert_eq!((health.status, health.text.as_str()), (200, "OK"));
    let ready = api.get("/ready").await.ok();
    assert_eq!(
        (&ready["status"], &ready["models"][0]["model"], &ready["models"][0]["version"]),
        (&json!("ready"), &json!("m"), &json!(1))
    );
    let metrics = api.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.text.ends_with("# EOF\n"), "OpenMetrics ends so");
    let samples = metrics.text.lines().filter(|line| !line.starts_with('#'));
    let mut num_samples = 0;
    for line in samples {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        assert!(name.starts_with("moola_"), "{line}");
        value.parse::<f64>().unwrap_or_else(|error| panic!("{line}: {error}"));
        num_samples += 1;
    }
    assert!(num_samples > 10, "{}", metrics.text);
    let document = api.get("/openapi.json").await.ok();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    for path in
        [PREDICT, "/api/v1/ml/predict/{model}", "/api/v2/models/{model}/versions", "/api/v2/datasets", "/metrics"]
    {
        assert!(document["paths"][path].is_object(), "{path} is not described");
    }
    server.terminate().await;
}
