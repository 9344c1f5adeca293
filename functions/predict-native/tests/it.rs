//! The bootstrap of the `predict_native` function against the Lambda Runtime API, with nothing behind it.

use std::path::Path;

use moola_tests::runtime_api::Environment;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_what_predict_answers() {
    let nowhere = [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("MOOLA_LOG", "off".to_owned()),
    ];
    let mut environment = Environment::start(Path::new(env!("CARGO_BIN_EXE_predict_native")), nowhere).await;
    environment.ready().await;
    assert_eq!(environment.http("GET", "/health", None).await, (200, json!("OK")));
    let request = json!({"model": "m", "input_data": {"ohlc_data": [[[1.0, 1.0, 1.0, 1.0]]]}});
    let (status, body) = environment.http("POST", "/api/v2/inference/predict", Some(&request)).await;
    assert_eq!((status, &body["error_code"]), (503, &json!("TEMPORARILY_UNAVAILABLE")), "{body}");
    assert!(environment.terminate().await, "it ends by itself");
}
