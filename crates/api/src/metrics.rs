//! Prometheus metrics of serving.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use moola_core::serving::{Answer, ServingStatus};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// What [`Metrics::render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    model: String,
    version: String,
    status: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: String,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LatencyLabels {
    route: String,
    model: String,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    model: String,
    version: String,
    class: String,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Metrics of the prediction routes. Labels name only models that exist, so their number is bounded.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Histograms<LatencyLabels>,
    features: Histograms<ModelLabels>,
    inference: Histograms<ModelLabels>,
    confidence: Histograms<ModelLabels>,
    predictions: Family<ClassLabels, Counter>,
    model_age: Family<ModelLabels, Gauge>,
    degraded: Family<ModelLabels, Gauge>,
    ready: Gauge,
    in_flight: Gauge,
    models_loaded: Gauge,
    model_bytes: Gauge,
    registry_failing: Gauge,
    log_pending: Gauge,
    log_written: Counter,
    log_failures: Counter,
}

fn latencies() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

fn shares() -> Histogram {
    Histogram::new((1..=10).map(|tenth| f64::from(tenth) / 10.0))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Makes metrics that start at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("moola"),
            requests: Family::default(),
            latency: Family::new_with_constructor(latencies),
            features: Family::new_with_constructor(latencies),
            inference: Family::new_with_constructor(latencies),
            confidence: Family::new_with_constructor(shares),
            predictions: Family::default(),
            model_age: Family::default(),
            degraded: Family::default(),
            ready: Gauge::default(),
            in_flight: Gauge::default(),
            models_loaded: Gauge::default(),
            model_bytes: Gauge::default(),
            registry_failing: Gauge::default(),
            log_pending: Gauge::default(),
            log_written: Counter::default(),
            log_failures: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("requests", "Answered requests", metrics.requests.clone());
        let secs = Unit::Seconds;
        let (latency, features, inference) =
            (metrics.latency.clone(), metrics.features.clone(), metrics.inference.clone());
        registry.register_with_unit("request_duration", "Time of a request", secs.clone(), latency);
        registry.register_with_unit(
            "features_duration",
            "Time of checking bars and computing inputs",
            secs.clone(),
            features,
        );
        registry.register_with_unit("inference_duration", "Time of the model itself", secs.clone(), inference);
        registry.register("confidence", "Probability of the predicted class", metrics.confidence.clone());
        registry.register("predictions", "Predictions by class; `-` of a regression", metrics.predictions.clone());
        registry.register_with_unit(
            "model_age",
            "Time since the version in production was registered",
            secs,
            metrics.model_age.clone(),
        );
        registry.register("degraded", "Versions that should serve and cannot: 1 each", metrics.degraded.clone());
        registry.register("ready", "Whether the models in production were loaded", metrics.ready.clone());
        registry.register(
            "requests_in_flight",
            "Requests that compute or wait for a free thread",
            metrics.in_flight.clone(),
        );
        registry.register("models_loaded", "Models in memory", metrics.models_loaded.clone());
        registry.register_with_unit(
            "models_loaded",
            "Files of the models in memory",
            Unit::Bytes,
            metrics.model_bytes.clone(),
        );
        registry.register(
            "registry_failing",
            "Whether the routes could not be read last time",
            metrics.registry_failing.clone(),
        );
        registry.register(
            "prediction_log_pending",
            "Predictions in memory that are not durable yet",
            metrics.log_pending.clone(),
        );
        registry.register("prediction_log_written", "Predictions written to the log", metrics.log_written.clone());
        registry.register(
            "prediction_log_failures",
            "Attempts to write the log that failed",
            metrics.log_failures.clone(),
        );
        metrics
    }

    /// Counts an answer's predictions.
    pub fn predicted(&self, answer: &Answer) {
        let manifest = &answer.served.manifest;
        let labels = ModelLabels { model: manifest.model.clone(), version: manifest.version.to_string() };
        self.features.get_or_create(&labels).observe(answer.timings.features.as_secs_f64());
        self.inference.get_or_create(&labels).observe(answer.timings.infer.as_secs_f64());
        for prediction in &answer.predictions {
            let class = prediction.class.and_then(|class| manifest.classes.get(class));
            if let Some(confidence) = prediction.class.and_then(|class| prediction.outputs.get(class)) {
                self.confidence.get_or_create(&labels).observe(*confidence);
            }
            let ModelLabels { model, version } = labels.clone();
            let class = class.map_or("-", String::as_str).to_owned();
            self.predictions.get_or_create(&ClassLabels { model, version, class }).inc();
        }
    }

    /// Counts an answered request; `version` is what predicted, if anything did.
    pub fn answered(&self, route: &str, version: Option<(&str, u32)>, status: StatusCode, took: Duration) {
        let (model, version) = match version {
            Some((model, version)) => (model.to_owned(), version.to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let route = route.to_owned();
        let labels = LatencyLabels { route: route.clone(), model: model.clone(), version: version.clone() };
        self.latency.get_or_create(&labels).observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { route, model, version, status: u32::from(status.as_u16()) }).inc();
    }

    /// Everything in the OpenMetrics text format; see [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self, status: &ServingStatus) -> String {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.model_age.clear();
        for served in &status.models {
            let labels = ModelLabels { model: served.model.clone(), version: served.version.to_string() };
            self.model_age.get_or_create(&labels).set((status.time_ms - served.created_ms).max(0) / 1000);
        }
        self.degraded.clear();
        for degraded in &status.degraded {
            let labels = ModelLabels { model: degraded.model.clone(), version: degraded.version.to_string() };
            self.degraded.get_or_create(&labels).set(1);
        }
        self.ready.set(i64::from(status.is_ready));
        self.in_flight.set(signed(status.num_in_flight as u64));
        self.models_loaded.set(signed(status.num_loaded as u64));
        self.model_bytes.set(signed(status.loaded_bytes));
        self.registry_failing.set(i64::from(status.registry_error.is_some()));
        self.log_pending.set(signed(status.log.num_pending));
        let store = |counter: &Counter, value| AtomicU64::store(counter.inner(), value, Ordering::Relaxed);
        store(&self.log_written, status.log.num_written);
        store(&self.log_failures, status.log.num_failures);
        let mut out = String::new();
        if let Err(error) = text::encode(&mut out, &self.registry) {
            // Writing to a string fails only where a metric is defective.
            tracing::error!(%error, "metrics could not be written");
        }
        out
    }
}
