//! A platform in memory with small real models.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::Bytes;
use moola_api::predict::{self, Serving};
use moola_api::{finish, health, openapi};
use moola_core::contract::{Lineage, OutputSpec, Task};
use moola_core::inputs;
use moola_core::memory::Memory;
use moola_core::ports::{
    BlobMeta, BlobPage, Blobs, Condition, Item, Key, Ports, PresignMethod, PutMode, Query, QueryPage, Table, Write,
};
use moola_core::registry::{Decision, NewVersion, Registry, Stage};
use moola_core::serving::{Predictor, ServingConfig};
use moola_core::{Error, Result};
use moola_market::Bars;
use moola_market::features::FeatureSet;
use moola_market::simulate::{SimulationConfig, simulate};
use moola_onnx::TractEngine;
use moola_onnx::writer::{Dim, GraphBuilder};
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(crate) const MODEL: &str = "sp500-range";
pub(crate) const WINDOW: usize = 105;

/// Bars of a simulated market.
pub(crate) fn bars(num_bars: usize) -> Bars {
    simulate(&SimulationConfig { num_bars, ..SimulationConfig::default() }).unwrap().bars
}

/// `rows` of open, high, low, close.
pub(crate) fn rows(bars: &Bars, range: std::ops::Range<usize>) -> Vec<[f64; 4]> {
    range.map(|i| [bars.open()[i], bars.high()[i], bars.low()[i], bars.close()[i]]).collect()
}

/// Softmax of a linear function of the last bar and the features; `number` moves the bias, so versions differ.
fn onnx(num_features: usize, number: u32) -> Bytes {
    let mut graph = GraphBuilder::new("linear");
    let bars = graph.input("bars", &[Dim::Batch, Dim::Fixed(WINDOW), Dim::Fixed(4)]);
    let features = graph.input("features", &[Dim::Batch, Dim::Fixed(num_features)]);
    let last = graph.select(bars, 1, WINDOW as i64 - 1);
    let bar_weights = graph.initializer_f32("bar_weights", &[4, 2], &[0.1, -0.1, 0.2, 0.0, -0.3, 0.1, 0.4, -0.2]);
    let weights: Vec<f32> = (0..num_features * 2).map(|i| ((i * 37 % 19) as f32 - 9.0) / 50.0).collect();
    let weights = graph.initializer_f32("weights", &[num_features, 2], &weights);
    let bias = graph.initializer_f32("bias", &[2], &[number as f32 * 0.05, 0.0]);
    let (from_bars, from_features) = (graph.matmul(last, bar_weights), graph.matmul(features, weights));
    let sum = graph.add(from_bars, from_features);
    let logits = graph.add(sum, bias);
    let probabilities = graph.softmax(logits, 1);
    graph.output(probabilities, "probabilities", &[Dim::Batch, Dim::Fixed(2)]);
    graph.finish().unwrap().into()
}

pub(crate) fn new_version(model: &str, feature_set: &str, number: u32) -> NewVersion {
    let set = FeatureSet::builtin(feature_set).unwrap();
    let train = bars(1200);
    let ends: Vec<usize> = (set.history_bars()..1000).step_by(7).collect();
    let plain = inputs::standard(WINDOW, Some(&set));
    NewVersion {
        model: model.into(),
        source: format!("test/{number}"),
        task: Task::Classification,
        inputs: inputs::fit(&plain, Some(&set), WINDOW, &train, &ends, &ends).unwrap(),
        output: OutputSpec { name: "probabilities".into(), shape: vec![2] },
        classes: vec!["consolidation".into(), "expansion".into()],
        window_bars: WINDOW,
        files: BTreeMap::from([("model.onnx".to_owned(), onnx(set.len(), number))]),
        feature_set: Some(set),
        evaluation: None,
        engine: "native".into(),
        lineage: Lineage { dataset: Some("sp500@7".into()), ..Lineage::default() },
        metrics: BTreeMap::new(),
        correlation_id: format!("test-{number}"),
        auto_promote: false,
    }
}

/// Storage that can be told to fail.
#[derive(Debug)]
pub(crate) struct Failing<T> {
    inner: Arc<T>,
    fails: Arc<AtomicBool>,
}

impl<T> Failing<T> {
    fn check(&self) -> Result<()> {
        if self.fails.load(Ordering::SeqCst) { Err(Error::unavailable("the storage was told to fail")) } else { Ok(()) }
    }
}

#[async_trait]
impl<T: Blobs> Blobs for Failing<T> {
    async fn put(&self, key: &str, data: Bytes, mode: PutMode) -> Result<()> {
        self.check()?;
        self.inner.put(key, data, mode).await
    }
    async fn get(&self, key: &str) -> Result<Bytes> {
        self.check()?;
        self.inner.get(key).await
    }
    async fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> Result<Bytes> {
        self.check()?;
        self.inner.get_range(key, range).await
    }
    async fn head(&self, key: &str) -> Result<BlobMeta> {
        self.check()?;
        self.inner.head(key).await
    }
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<BlobPage> {
        self.check()?;
        self.inner.list(prefix, after, limit).await
    }
    async fn delete(&self, key: &str) -> Result<()> {
        self.check()?;
        self.inner.delete(key).await
    }
    async fn presign(&self, key: &str, method: PresignMethod, expires: std::time::Duration) -> Result<String> {
        self.inner.presign(key, method, expires).await
    }
    fn url(&self, key: &str) -> String {
        self.inner.url(key)
    }
}

#[async_trait]
impl<T: Table> Table for Failing<T> {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        self.check()?;
        self.inner.get(key).await
    }
    async fn query(&self, query: &Query) -> Result<QueryPage> {
        self.check()?;
        self.inner.query(query).await
    }
    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        self.check()?;
        self.inner.write(writes).await
    }
}

pub(crate) struct App {
    pub(crate) memory: Memory,
    pub(crate) registry: Registry,
    pub(crate) predictor: Arc<Predictor>,
    pub(crate) router: Router,
    pub(crate) blobs_fail: Arc<AtomicBool>,
    pub(crate) table_fails: Arc<AtomicBool>,
}

impl App {
    /// An empty platform that serves.
    pub(crate) fn new(config: ServingConfig) -> Self {
        Self::over(config, false)
    }

    /// The same, over a table that may fail from the start.
    pub(crate) fn over(config: ServingConfig, table_fails: bool) -> Self {
        let memory = Memory::new();
        let (blobs_fail, table_fails) = (Arc::<AtomicBool>::default(), Arc::new(AtomicBool::new(table_fails)));
        let ports = Ports {
            blobs: Arc::new(Failing { inner: memory.blobs.clone(), fails: blobs_fail.clone() }),
            table: Arc::new(Failing { inner: memory.table.clone(), fails: table_fails.clone() }),
            ..memory.ports()
        };
        let predictor = Predictor::start(ports.clone(), vec![Arc::new(TractEngine)], config);
        let serving = Serving::new(predictor.clone());
        let router = predict::router(serving.clone())
            .merge(health::router(serving))
            .merge(openapi::router(&openapi::document([])));
        let router = finish(router, ports.ids.clone());
        Self { registry: Registry::new(memory.ports()), memory, predictor, router, blobs_fail, table_fails }
    }

    /// A platform with version 1 of [`MODEL`] in production.
    pub(crate) async fn serving(config: ServingConfig) -> Self {
        let app = Self::new(config);
        app.register(new_version(MODEL, "core", 1)).await;
        app.promote(MODEL, 1).await;
        app.predictor.refresh().await.unwrap();
        app
    }

    pub(crate) async fn register(&self, new: NewVersion) -> u32 {
        self.registry.register(new).await.unwrap().version
    }

    /// Records that the gates passed, and moves a version to Production.
    pub(crate) async fn promote(&self, model: &str, version: u32) {
        let routes = self.registry.routes().await.unwrap();
        let serving = routes.into_iter().find(|route| route.model == model).and_then(|route| route.version);
        self.change_record(model, version, |record| {
            record["gates"] = json!({"passed": true, "compared_with": serving, "failed": [], "report": "r",
                "report_sha256": "00", "created_ms": 0});
        })
        .await;
        let decision = Decision { actor: "tester".into(), reason: "test".into(), correlation_id: None };
        self.registry.transition(model, version, Stage::Staging, &decision).await.unwrap();
        self.registry.transition(model, version, Stage::Production, &decision).await.unwrap();
    }

    pub(crate) async fn change_record(&self, model: &str, version: u32, change: impl Fn(&mut Value)) {
        let key = Key::new(format!("model/{model}"), format!("version/{version:010}"));
        let item = self.memory.table.get(&key).await.unwrap().unwrap();
        let mut value = item.value;
        change(&mut value);
        let write = Write::Put { key, value, condition: Condition::Exists };
        self.memory.table.write(vec![write]).await.unwrap();
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        (parts.status, parts.headers, to_bytes(body, 64 << 20).await.unwrap().to_vec())
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> (StatusCode, HeaderMap, Value) {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json").body(body.into()).unwrap();
        let (status, headers, body) = self.send(request).await;
        (status, headers, serde_json::from_slice(&body).unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Vec<u8>) {
        let (status, _, body) = self.send(Request::get(path).body(Body::empty()).unwrap()).await;
        (status, body)
    }

    pub(crate) async fn get_json(&self, path: &str) -> (StatusCode, Value) {
        let (status, body) = self.get(path).await;
        (status, serde_json::from_slice(&body).unwrap())
    }
}

pub(crate) const V2: &str = "/api/v2/inference/predict";

/// A v2 request for one window.
pub(crate) fn one_window() -> Value {
    let bars = bars(400);
    json!({"model_version": MODEL, "input_data": {"ohlc_data": [rows(&bars, 200..200 + WINDOW)]}})
}
