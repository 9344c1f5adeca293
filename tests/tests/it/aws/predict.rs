//! A warm `predict` function while models change, while its registry is broken, and when its environment ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use moola_tests::emulator::Emulator;
use moola_tests::graphs::{constant, constant_manifest};
use moola_tests::proxy::{Fault, Proxy};
use moola_tests::runtime_api::Environment;
use moola_tests::{bars, program, until};
use serde_json::{Value, json};

use super::platform::Platform;
use crate::r#loop::LIMIT;
use crate::serving::{ADVISORY, window};

const REFRESH: Duration = Duration::from_millis(500);
const PREDICT: &str = "/api/v2/inference/predict";

/// The control plane, asked directly.
struct Control {
    compile: Environment,
    registry: Environment,
}

impl Control {
    async fn start(environment: &BTreeMap<String, String>) -> Self {
        Self { compile: start("compile", environment).await, registry: start("registry", environment).await }
    }

    /// Registers the constant model `m`, whose `up` has the probability `share`.
    async fn register(&mut self, share: f32) {
        use base64::Engine as _;
        let onnx = base64::engine::general_purpose::STANDARD.encode(constant(&[1.0 - share, share]));
        let body = json!({ "manifest": constant_manifest(), "model_base64": onnx });
        let (status, answer) = self.compile.http("POST", "/api/v2/models/m/versions", Some(&body)).await;
        assert!((200..300).contains(&status), "{answer}");
    }

    async fn promote(&mut self, version: u32) {
        let path = format!("/api/v2/models/m/versions/{version}");
        let (status, answer) = self.compile.http("POST", &format!("{path}/gates"), Some(&Value::Null)).await;
        assert_eq!(status, 200, "{answer}");
        let reason = json!({ "reason": "test" });
        let (status, answer) = self.registry.http("POST", &format!("{path}/deploy"), Some(&reason)).await;
        assert_eq!(status, 200, "{answer}");
    }
}

async fn start(name: &str, environment: &BTreeMap<String, String>) -> Environment {
    let variables = environment.iter().map(|(name, value)| (name.as_str(), value.clone()));
    let environment = Environment::start(&program(name), variables).await;
    environment.ready().await;
    environment
}

/// Predicts; returns the version that answered and the id of the prediction.
async fn predict(environment: &mut Environment) -> (String, String) {
    let (status, answer) = environment.http("POST", PREDICT, Some(&bars::request("m", &[window()]))).await;
    assert_eq!(status, 200, "{answer}");
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    (text(&answer["model_metadata"]["model_version"]), text(&answer["predictions"][0]["prediction_id"]))
}

async fn status(environment: &mut Environment) -> Value {
    environment.http("GET", "/ready", None).await.1
}

/// The ids of the logged predictions.
async fn logged(environment: &mut Environment) -> Vec<String> {
    let (status, answer) = environment.http("GET", "/api/v2/inference/predictions?model=m&limit=1000", None).await;
    assert_eq!(status, 200, "{answer}");
    let predictions = answer["predictions"].as_array().unwrap();
    predictions.iter().map(|prediction| prediction["prediction_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_function_follows_promotions_and_outlives_its_registry() {
    let Some(emulator) = Emulator::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let platform = Platform::start(emulator, ADVISORY, dir.path(), false).await;
    let mut control = Control::start(&platform.made.environment).await;
    for share in [0.25, 0.75] {
        control.register(share).await;
    }
    control.promote(1).await;

    let proxy = Proxy::start(emulator.address(), &[], 0.0, 1).await;
    let mut variables = platform.made.environment.clone();
    variables.insert("AWS_ENDPOINT_URL".into(), proxy.endpoint());
    // A batch of the log is written when it is full or old; here it is neither before the end.
    let settings = format!("[serving]\nrefresh_ms = {}\n[serving.log]\nflush_ms = 600000\n", REFRESH.as_millis());
    variables.insert("MOOLA_SETTINGS".into(), settings);
    let mut warm = start("predict", &variables).await;
    let mut predictions = Vec::new();
    let mut answers = async |warm: &mut Environment| {
        let (version, id) = predict(warm).await;
        predictions.push(id);
        version
    };
    assert_eq!(answers(&mut warm).await, "1");

    // The first request after the interval is answered by what was promoted.
    control.promote(2).await;
    tokio::time::sleep(REFRESH + Duration::from_millis(100)).await;
    assert_eq!(answers(&mut warm).await, "2");

    // Nothing can be read or written any more: the last good version goes on, and that is said.
    proxy.set(&[Fault::InternalError, Fault::LoseRequest], 1.0);
    control.promote(1).await;
    let broken = Instant::now();
    loop {
        assert_eq!(answers(&mut warm).await, "2");
        let status = status(&mut warm).await;
        if status["status"] == "degraded" {
            assert!(status["registry_error"].is_string(), "{status}");
            break;
        }
        assert!(broken.elapsed() < Duration::from_secs(60), "nobody says that the registry is broken: {status}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    // It is mended: what was decided meanwhile serves.
    proxy.set(&[], 0.0);
    let mended = Instant::now();
    while answers(&mut warm).await != "1" {
        assert!(mended.elapsed() < Duration::from_secs(30), "the promotion does not arrive");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status(&mut warm).await["status"], "ready");

    // The end of the environment writes what was not logged yet.
    assert!(warm.terminate().await, "it ends by itself");
    let mut next = start("predict", &platform.made.environment).await;
    let mut logged = logged(&mut next).await;
    logged.sort();
    predictions.sort();
    assert_eq!(logged, predictions);
    platform.batch.shutdown().await;
}

/// What is not to be served compiled is answered by the other function, through the same API.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_compiled_is_handed_on() {
    let Some(emulator) = Emulator::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let platform = Platform::start(emulator, ADVISORY, dir.path(), true).await;
    let api = &platform.api;
    api.register("m", &constant_manifest(), &constant(&[0.25, 0.75])).await.unwrap().ok();
    api.judged("m", 1).await;
    api.promote("m", 1).await.unwrap().ok();
    let answered_by = async |engine: &str| {
        let found = || async {
            let answer = api.post(PREDICT, &bars::request("m", &[window()])).await;
            (answer.status == 200 && answer.json["model_metadata"]["engine"] == engine).then_some(answer.json)
        };
        until(engine, LIMIT, found).await
    };
    let compiled = answered_by("wasm").await;
    let build = json!({ "engine": "native", "reason": "a test" });
    let built = api.post("/api/v2/models/m/versions/1/build", &build).await.ok();
    assert_eq!(built["build_manifest"]["engine"], "native", "{built}");
    let native = answered_by("native").await;
    let share = |answer: &Value| answer["predictions"][0]["probabilities"]["up"].as_f64().unwrap();
    assert!((share(&native) - share(&compiled)).abs() < 1e-6, "{native} {compiled}");
    // Its answers are those of any function: refusals, and outcomes of what it predicted.
    let message = api.post(PREDICT, &bars::request("m", &[json!([])])).await.refused(400);
    assert!(message.contains("0 bars"), "{message}");
    let id = &native["predictions"][0]["prediction_id"];
    let outcomes = json!({ "outcomes": [{ "prediction_id": id, "label": "up" }] });
    assert_eq!(api.post("/api/v2/inference/outcomes", &outcomes).await.ok()["num_recorded"], 1);
    // Handed on, it is no trouble; without anybody to hand it on to, it is, and that is said.
    let mut variables = platform.made.environment.clone();
    let mut function = start("predict", &variables).await;
    let ready = status(&mut function).await;
    assert_eq!((&ready["status"], &ready["elsewhere"][0]["version"]), (&json!("ready"), &json!(1)), "{ready}");
    variables.remove("MOOLA_PREDICT_NATIVE");
    let mut alone = start("predict", &variables).await;
    assert_eq!(status(&mut alone).await["status"], "degraded");
    let (status, answer) = alone.http("POST", PREDICT, Some(&bars::request("m", &[window()]))).await;
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(status == 503 && message.contains("m/1") && message.contains("engine `native`"), "{answer}");
    platform.batch.shutdown().await;
}
