//! The bootstraps of the control plane against the Lambda Runtime API, with nothing behind them.

use std::path::Path;

use moola_tests::runtime_api::Environment;
use serde_json::{Value, json};

async fn start(program: &str) -> Environment {
    let nowhere = [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("MOOLA_LOG", "off".to_owned()),
    ];
    let environment = Environment::start(Path::new(program), nowhere).await;
    environment.ready().await;
    environment
}

fn event(detail_type: &str) -> Value {
    json!({
        "version": "0", "id": "11111111-1111-1111-1111-111111111111", "source": "moola", "detail-type": detail_type,
        "account": "000000000000", "time": "2026-01-05T00:00:00Z", "region": "us-east-1", "resources": [],
        "detail": {"version": 1, "model": "m", "model_version": 1,
            "moola": {"id": "01", "correlation_id": "chain", "time_ms": 1_767_571_200_000_i64}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_function_has_its_routes_and_no_others() {
    let functions = [
        (env!("CARGO_BIN_EXE_registry"), "/api/v2/models"),
        (env!("CARGO_BIN_EXE_training"), "/api/v2/training/jobs"),
        (env!("CARGO_BIN_EXE_drift"), "/api/v2/drift/m/checks"),
    ];
    for (program, route) in functions {
        let mut environment = start(program).await;
        let (status, body) = environment.http("GET", route, None).await;
        assert_eq!((status, &body["error_code"]), (503, &json!("TEMPORARILY_UNAVAILABLE")), "{program}: {body}");
        let (status, body) = environment.http("GET", "/api/v2/nothing", None).await;
        assert_eq!((status, &body["error_code"]), (404, &json!("ENDPOINT_NOT_FOUND")), "{program}: {body}");
    }
    let mut compile = start(env!("CARGO_BIN_EXE_compile")).await;
    let (status, _) = compile.http("GET", "/api/v2/models", None).await;
    assert_eq!(status, 404);
    let (status, body) = compile.http("POST", "/api/v2/models/m/versions", Some(&json!({}))).await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_handled_now_comes_again() {
    for program in [env!("CARGO_BIN_EXE_react"), env!("CARGO_BIN_EXE_compile"), env!("CARGO_BIN_EXE_drift")] {
        let kind = if program.ends_with("drift") { "Drift Check Due" } else { "Model Version Registered" };
        let mut environment = start(program).await;
        let record = |id: &str, body: String| json!({"messageId": id, "body": body, "eventSource": "aws:sqs"});
        let records = [record("torn", "{".into()), record("one", event(kind).to_string())];
        let answer = environment.invoke(&json!({ "Records": records })).await.unwrap();
        let failures = answer["batchItemFailures"].as_array().unwrap();
        assert_eq!(failures.len(), 2, "{program}: {answer}");
        let error = environment.invoke(&event(kind)).await.unwrap_err();
        assert!(error["errorMessage"].is_string(), "{program}: {error}");
    }
}
