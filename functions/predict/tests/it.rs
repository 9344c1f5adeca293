//! The bootstrap of the `predict` function against the Lambda Runtime API, with nothing behind it.

use std::path::Path;
use std::time::Duration;

use moola_tests::runtime_api::Environment;
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_predict");

/// Storage that nobody answers for.
fn nowhere() -> [(&'static str, String); 5] {
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("MOOLA_LOG", "off".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_storage_it_lives_and_says_what_is_wrong() {
    let mut environment = Environment::start(Path::new(PROGRAM), nowhere()).await;
    environment.ready().await;
    assert_eq!(environment.http("GET", "/health", None).await, (200, json!("OK")));
    // The reason is there once all attempts have failed.
    let mut ready = environment.http("GET", "/ready", None).await;
    while ready.1["registry_error"].is_null() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ready = environment.http("GET", "/ready", None).await;
    }
    let (status, body) = ready;
    assert_eq!((status, &body["status"]), (503, &json!("starting")), "{body}");
    assert!(body["registry_error"].as_str().unwrap_or_default().contains("the table failed"), "{body}");
    let request = json!({"model": "m", "input_data": {"ohlc_data": [[[1.0, 1.0, 1.0, 1.0]]]}});
    let (status, body) = environment.http("POST", "/api/v2/inference/predict", Some(&request)).await;
    assert_eq!((status, &body["error_code"]), (503, &json!("TEMPORARILY_UNAVAILABLE")), "{body}");
    let (status, body) = environment.http("POST", "/api/v2/inference/nothing", None).await;
    assert_eq!((status, &body["error_code"]), (404, &json!("ENDPOINT_NOT_FOUND")), "{body}");
    // It handles no events.
    let error = environment.invoke(&json!({"source": "moola"})).await.unwrap_err();
    assert!(error["errorMessage"].as_str().unwrap_or_default().contains("no events"), "{error}");
    assert!(environment.terminate().await, "it ends by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_is_none_is_named() {
    let output = std::process::Command::new(PROGRAM)
        .env_clear()
        .envs(nowhere())
        .env("MOOLA_SETTINGS", "[serving]\nrefresh_ms = \"soon\"")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(text.contains("MOOLA_SETTINGS") && text.contains("refresh_ms"), "{text}");
}
