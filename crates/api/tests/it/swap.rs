//! Changes of what serves, under load and under damage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use moola_core::commit::{sha256_hex, to_json_bytes};
use moola_core::contract::PackageSignature;
use moola_core::ports::{Blobs as _, Signer as _};
use moola_core::serving::{LogConfig, ServingConfig};
use serde_json::{Value, json};

use crate::fixture::{App, MODEL, V2, new_version, one_window};

const CLIENTS: usize = 64;
const PROMOTIONS: u32 = 20;

/// 64 clients ask without a pause while 20 versions are promoted: no request fails, no answer mixes versions, and every
/// version answers within a second of its promotion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotions_under_load_fail_no_request() {
    let app = Arc::new(App::serving(ServingConfig::default()).await);
    for number in 2..=PROMOTIONS + 1 {
        app.register(new_version(MODEL, "core", number)).await;
    }
    let body = Arc::new(one_window().to_string());
    let (stop, newest, num_requests) =
        (Arc::<AtomicBool>::default(), Arc::new(AtomicU32::new(1)), Arc::<AtomicU64>::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (app, body, stop, newest, num_requests) =
                (app.clone(), body.clone(), stop.clone(), newest.clone(), num_requests.clone());
            tokio::spawn(async move {
                let mut seen = BTreeMap::<u32, Value>::new();
                while !stop.load(Ordering::SeqCst) {
                    let (status, _, answer) = app.post(V2, body.as_str().to_owned()).await;
                    assert_eq!(status, StatusCode::OK, "{answer}");
                    let version = answer["model_metadata"]["model_version"].as_str().unwrap().parse().unwrap();
                    let probabilities = answer["predictions"][0]["probabilities"].clone();
                    let before = seen.insert(version, probabilities.clone());
                    assert!(before.is_none_or(|before| before == probabilities), "version {version} said two things");
                    newest.fetch_max(version, Ordering::SeqCst);
                    num_requests.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                seen
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for version in 2..=PROMOTIONS + 1 {
        app.promote(MODEL, version).await;
        let promoted = Instant::now();
        while newest.load(Ordering::SeqCst) < version {
            assert!(promoted.elapsed() < Duration::from_secs(10), "version {version} never answered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        slowest = slowest.max(promoted.elapsed());
    }
    stop.store(true, Ordering::SeqCst);
    let mut all = BTreeMap::<u32, Value>::new();
    for client in clients {
        for (version, probabilities) in client.await.unwrap() {
            let before = all.insert(version, probabilities.clone());
            assert!(before.is_none_or(|before| before == probabilities));
        }
    }
    eprintln!("{} requests, slowest promotion {slowest:?}", num_requests.load(Ordering::SeqCst));
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let different: std::collections::BTreeSet<String> = all.values().map(Value::to_string).collect();
    assert_eq!(different.len(), all.len());
    // Every answer is in the log.
    app.predictor.shutdown().await.unwrap();
    assert_eq!(app.predictor.status().log.num_written, num_requests.load(Ordering::SeqCst));
}

async fn serving_version(app: &App) -> Value {
    let (status, _, answer) = app.post(V2, one_window().to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer["model_metadata"]["model_version"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_package_leaves_the_last_good_version_serving() {
    let app = App::serving(ServingConfig::default()).await;
    app.register(new_version(MODEL, "core", 2)).await;
    let key = format!("models/{MODEL}/2/model.onnx");
    let good = app.memory.blobs.get(&key).await.unwrap();
    let mut bad = good.to_vec();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    app.memory.blobs.damage(&key, bad);
    app.promote(MODEL, 2).await;
    app.predictor.refresh().await.unwrap();
    assert_eq!(serving_version(&app).await, "1");
    let (status, ready) = app.get_json("/ready").await;
    assert_eq!((status, &ready["status"]), (StatusCode::OK, &json!("degraded")));
    assert_eq!(ready["degraded"][0]["version"], 2);
    assert_eq!(ready["degraded"][0]["serving"], 1);
    assert!(ready["degraded"][0]["reason"].as_str().unwrap().contains("digest"), "{ready}");
    // Asked for by number it is refused, not served.
    let mut body = one_window();
    body["model_version"] = json!(format!("{MODEL}/2"));
    let (status, _, answer) = app.post(V2, body.to_string()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");

    app.memory.blobs.damage(&key, good);
    app.predictor.notify();
    let restored = Instant::now();
    while serving_version(&app).await != "2" {
        assert!(restored.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(app.get_json("/ready").await.1["status"], "ready");
}

/// A package that was signed in good order, but for features that this program computes otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn another_feature_hash_is_refused() {
    let app = App::serving(ServingConfig::default()).await;
    app.register(new_version(MODEL, "core", 2)).await;
    let key = format!("models/{MODEL}/2/manifest.json");
    let mut manifest: Value = serde_json::from_slice(&app.memory.blobs.get(&key).await.unwrap()).unwrap();
    manifest["feature_set"]["hash"] = json!("0".repeat(64));
    let bytes = to_json_bytes(&manifest).unwrap();
    let manifest_sha256 = sha256_hex(&bytes);
    let signature = app.memory.signer.sign(&bytes).await.unwrap();
    let signature = PackageSignature { manifest_sha256: manifest_sha256.clone(), signature };
    app.memory.blobs.damage(&key, bytes);
    app.memory.blobs.damage(&format!("models/{MODEL}/2/signature.json"), to_json_bytes(&signature).unwrap());
    app.change_record(MODEL, 2, |record| record["manifest_sha256"] = json!(manifest_sha256)).await;
    app.promote(MODEL, 2).await;
    app.predictor.refresh().await.unwrap();
    assert_eq!(serving_version(&app).await, "1");
    let (_, ready) = app.get_json("/ready").await;
    let reason = ready["degraded"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("hash") && reason.contains(&"0".repeat(64)), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_storage_leaves_the_models_serving() {
    let config = ServingConfig { log: LogConfig { flush_ms: 10, ..LogConfig::default() }, ..ServingConfig::default() };
    let app = App::serving(config).await;
    app.table_fails.store(true, Ordering::SeqCst);
    assert!(app.predictor.refresh().await.is_err());
    assert_eq!(serving_version(&app).await, "1");
    assert_eq!(app.get_json("/ready").await.1["status"], "degraded");
    app.table_fails.store(false, Ordering::SeqCst);
    app.predictor.refresh().await.unwrap();
    assert_eq!(app.get_json("/ready").await.1["status"], "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_back_and_an_end_are_followed() {
    let app = App::serving(ServingConfig::default()).await;
    app.register(new_version(MODEL, "core", 2)).await;
    app.promote(MODEL, 2).await;
    app.predictor.refresh().await.unwrap();
    assert_eq!(serving_version(&app).await, "2");
    let decision = moola_core::registry::Decision { actor: "t".into(), reason: "t".into(), correlation_id: None };
    app.registry.rollback(MODEL, None, &decision).await.unwrap();
    app.predictor.refresh().await.unwrap();
    assert_eq!(serving_version(&app).await, "1");
    app.registry.transition(MODEL, 1, moola_core::registry::Stage::Archived, &decision).await.unwrap();
    app.predictor.refresh().await.unwrap();
    let (status, _, answer) = app.post(V2, one_window().to_string()).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");
}
