//! The prediction log.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use moola_core::serving::log;
use moola_core::serving::{LogConfig, ServingConfig};
use serde_json::{Value, json};

use crate::fixture::{App, MODEL, V2, WINDOW, bars, one_window, rows};

fn with_log(log: LogConfig) -> ServingConfig {
    ServingConfig { log, ..ServingConfig::default() }
}

async fn num_logged(app: &App) -> usize {
    log::read(&app.memory.ports(), MODEL, 0, 100_000).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_write_through_an_answer_is_durable() {
    // It would be written in an hour otherwise.
    let app =
        App::serving(with_log(LogConfig { write_through: true, flush_ms: 3_600_000, ..LogConfig::default() })).await;
    for count in 1..=5 {
        let mut body = one_window();
        body["metadata"] = json!({"n": count});
        let (status, headers, answer) = app.post(V2, body.to_string()).await;
        assert_eq!(status, StatusCode::OK);
        let records = log::read(&app.memory.ports(), MODEL, 0, 100).await.unwrap();
        assert_eq!(records.len(), count);
        let id = answer["predictions"][0]["prediction_id"].as_str().unwrap();
        let record = records.iter().find(|record| record.prediction_id == id).unwrap();
        assert_eq!(record.version, 1);
        assert_eq!(record.request_id, headers["x-request-id"].to_str().unwrap());
        assert_eq!(json!(record.ohlc), body["input_data"]["ohlc_data"][0]);
        let set = moola_market::features::FeatureSet::builtin("core").unwrap();
        assert_eq!(record.feature_set_hash.as_deref(), Some(set.hash()));
        assert_eq!(record.features.len(), set.len());
        assert_eq!(json!(record.class), answer["predictions"][0]["class"]);
        assert_eq!(record.metadata.as_ref().unwrap()["n"], count);
        assert!(record.latency_us > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_written_in_batches_in_the_background() {
    let app = App::serving(with_log(LogConfig { flush_ms: 200, ..LogConfig::default() })).await;
    let bars = bars(400);
    let body =
        json!({"model_version": MODEL, "input_data": {"ohlc_data": vec![rows(&bars, 0..WINDOW); 50]}}).to_string();
    for _ in 0..4 {
        assert_eq!(app.post(V2, body.clone()).await.0, StatusCode::OK);
    }
    let answered = Instant::now();
    while num_logged(&app).await < 200 {
        assert!(answered.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    use moola_core::ports::Blobs as _;
    let blobs = app.memory.blobs.list("predictions/", None, 1000).await.unwrap().blobs;
    assert!(blobs.len() <= 4, "{}", blobs.len());
    assert!(blobs[0].key.starts_with(&format!("predictions/{MODEL}/2026-01-05/00/")), "{}", blobs[0].key);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_store_loses_nothing_and_bounds_memory() {
    let log = LogConfig { flush_ms: 10, max_pending_rows: 8, max_wait_ms: 100, ..LogConfig::default() };
    let app = App::serving(with_log(log)).await;
    app.blobs_fail.store(true, Ordering::SeqCst);
    let mut answered = 0;
    let refused = loop {
        let (status, headers, answer) = app.post(V2, one_window().to_string()).await;
        match status {
            StatusCode::OK => answered += 1,
            _ => break (status, headers, answer),
        }
    };
    assert_eq!(answered, 8);
    assert_eq!(refused.0, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.2);
    assert_eq!(refused.1["retry-after"], "1");
    assert_eq!(app.get_json("/ready").await.1["status"], "degraded");
    assert_eq!(num_logged(&app).await, 0);
    app.blobs_fail.store(false, Ordering::SeqCst);
    app.predictor.shutdown().await.unwrap();
    assert_eq!(num_logged(&app).await, 8);
    assert_eq!(app.post(V2, one_window().to_string()).await.0, StatusCode::OK);
    assert_eq!(app.get_json("/ready").await.1["status"], "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_joined() {
    let app = App::serving(ServingConfig::default()).await;
    let mut predictions = Vec::new();
    for _ in 0..4 {
        let (_, _, answer) = app.post(V2, one_window().to_string()).await;
        predictions.push(answer["predictions"][0].clone());
        app.memory.clock.advance_ms(60_000);
    }
    // A day later, and three hits of four; the first was corrected.
    app.memory.clock.advance_ms(86_400_000);
    let class = predictions[0]["class"].as_str().unwrap();
    let other = if class == "expansion" { "consolidation" } else { "expansion" };
    let outcome =
        |place: usize, label: &str| json!({"prediction_id": predictions[place]["prediction_id"], "label": label});
    let path = "/api/v2/inference/outcomes";
    let body = json!({"outcomes": [outcome(0, other), outcome(1, class), outcome(2, class), outcome(3, other)]});
    let (status, _, answer) = app.post(path, body.to_string()).await;
    assert_eq!((status, &answer["num_recorded"]), (StatusCode::OK, &json!(4)), "{answer}");
    app.memory.clock.advance_ms(1000);
    app.post(path, json!({"outcomes": [outcome(0, class)]}).to_string()).await;
    let (status, listed) = app.get_json(&format!("/api/v2/inference/predictions?model={MODEL}&limit=3")).await;
    assert_eq!(status, StatusCode::OK);
    let listed: Vec<&Value> = listed["predictions"].as_array().unwrap().iter().map(|it| &it["prediction_id"]).collect();
    let newest: Vec<&Value> = predictions.iter().rev().take(3).map(|it| &it["prediction_id"]).collect();
    assert_eq!(listed, newest);
    let ports = app.memory.ports();
    let records = log::read(&ports, MODEL, 0, 100).await.unwrap();
    assert_eq!(log::accuracy(&ports, MODEL, 0, &records).await.unwrap(), Some(0.75));
    assert_eq!(log::accuracy(&ports, MODEL, 0, &[]).await.unwrap(), None);
    // Only what is new enough.
    assert_eq!(log::read(&ports, MODEL, records[1].time_ms, 100).await.unwrap().len(), 2);

    for (body, part) in [
        (json!({"outcomes": []}), "`outcomes` is `[]`"),
        (json!({"outcomes": [{"prediction_id": "x", "label": class}]}), "`outcomes[0].prediction_id` is `x`"),
        (json!({"outcomes": [outcome(0, "up")]}), "`outcomes[0].label` is `up`"),
        (
            json!({"outcomes": [{"prediction_id": predictions[0]["prediction_id"], "value": 1.0}]}),
            "`outcomes[0].label` is `missing`",
        ),
    ] {
        let (status, _, answer) = app.post(path, body.to_string()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(part), "{answer}");
    }
    let (status, answer) = app.get_json("/api/v2/inference/predictions?model=nobody").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");
    let (status, answer) = app.get_json(&format!("/api/v2/inference/predictions?model={MODEL}&limit=0")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
}
