use std::sync::Arc;

use axum::body::Body;
use axum::http::Method;
use moola_core::app::{App, Settings};
use moola_core::memory::Memory;
use moola_core::ports::{Event, PutMode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::control::{ControlLimits, EventHistory, data_router, model_router};

const LIMIT: usize = 1000;
const CSV: &str = "timestamp,open,high,low,close\n1767571200000,1,2,0.5,1.5\n1767574800000,1.5,2,1,1.2\n";

struct NoHistory;

#[async_trait::async_trait]
impl EventHistory for NoHistory {
    async fn recent(&self, _limit: usize) -> moola_core::Result<Vec<Event>> {
        Ok(Vec::new())
    }
}

fn state(memory: &Memory) -> ControlState {
    let app = App::new(memory.ports(), Vec::new(), Settings::default());
    let limits = ControlLimits { max_dataset_bytes: LIMIT, max_model_bytes: LIMIT };
    ControlState { app, engines: Vec::new(), history: Arc::new(NoHistory), limits }
}

async fn call(state: &ControlState, uri: &str, body: impl Into<Body>) -> (u16, Value) {
    let router = data_router(state.clone()).merge(model_router(state.clone()));
    let request = axum::http::Request::builder().method(Method::POST).uri(uri);
    let request = request.header("content-type", "application/json").body(body.into()).expect("a request");
    let answer = router.oneshot(request).await.expect("infallible");
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
    (status, serde_json::from_slice(&body).expect("JSON"))
}

fn tells(answer: &(u16, Value), status: u16, parts: &[&str]) {
    let message = answer.1["message"].as_str().unwrap_or_default();
    assert_eq!(answer.0, status, "{}", answer.1);
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
}

async fn sent(memory: &Memory, upload_id: &str, file: impl Into<Bytes>) {
    memory.ports().blobs.put(&key(upload_id), file.into(), PutMode::Overwrite).await.expect("a place");
}

#[tokio::test]
async fn a_store_without_urls_says_what_to_do_instead() {
    let answer = call(&state(&Memory::new()), "/api/v2/uploads", Body::empty()).await;
    tells(&answer, 409, &["no uploads"]);
    assert!(answer.1["hint"].as_str().is_some_and(|hint| hint.contains("body of the import")), "{}", answer.1);
}

#[tokio::test]
async fn an_upload_stands_for_the_body() {
    let memory = Memory::new();
    let state = state(&memory);
    sent(&memory, "u1", CSV).await;
    let (status, validated) = call(&state, "/api/v2/datasets/validate?upload=u1", Body::empty()).await;
    assert_eq!((status, &validated["accepted"]), (200, &json!(true)), "{validated}");
    let import = "/api/v2/datasets?name=d&symbol=S&interval=1h";
    let (status, imported) = call(&state, &format!("{import}&upload=u1"), Body::empty()).await;
    assert_eq!(status, 201, "{imported}");
    let (status, same) = call(&state, import, CSV).await;
    assert_eq!((status, &same["dataset"]["version"]), (200, &imported["dataset"]["version"]), "{same}");
    tells(&call(&state, &format!("{import}&upload=u1"), CSV).await, 400, &["`body`", "one file"]);
}

#[tokio::test]
async fn uploads_that_cannot_be_used_are_refused_by_name() {
    let memory = Memory::new();
    let state = state(&memory);
    sent(&memory, "large", vec![b'1'; LIMIT + 1]).await;
    sent(&memory, "late", CSV).await;
    memory.clock.advance_ms(USE_MS + 1);
    sent(&memory, "onnx", vec![b'1'; LIMIT * 3 / 4 + 1]).await;
    sent(&memory, "large", vec![b'1'; LIMIT + 1]).await;
    let import = async |id: &str| call(&state, &format!("/api/v2/datasets?name=d&symbol=S&upload={id}"), "").await;
    tells(&import("absent").await, 404, &["`upload` is `absent`", "nothing was sent"]);
    tells(&import("late").await, 404, &["`upload` is `late`", "expired"]);
    tells(&import("large").await, 413, &["`upload` is `large`", "1001 bytes", "at most 1000"]);
    tells(&import("..%2Fmodels").await, 400, &["`upload` is `../models`"]);

    let manifest = json!({"task": "regression", "inputs": [{"kind": "bars"}]});
    let register = async |mut body: Value| {
        body["manifest"] = manifest.clone();
        call(&state, "/api/v2/models/m/versions", body.to_string()).await
    };
    tells(&register(json!({})).await, 400, &["`model_base64` is `absent`", "`model_upload`"]);
    tells(&register(json!({"model_base64": "", "model_upload": "onnx"})).await, 400, &["`model_upload` is `onnx`"]);
    tells(&register(json!({"model_upload": "absent"})).await, 404, &["`model_upload` is `absent`"]);
    tells(&register(json!({"model_upload": "onnx"})).await, 413, &["`model_upload` is `onnx`", "at most 750"]);
}
