//! Serving: bars in, predictions out, every one of them logged.
//!
//! A [`Predictor`] holds the version in production of every model, loaded and warm. It looks for changes every
//! [`ServingConfig::refresh_ms`], or at once when told ([`Predictor::notify`]): a promoted version is verified, loaded and
//! warmed beside the one that serves, then takes its place in one step, so no request waits for it or fails because of
//! it. A version that cannot be loaded leaves the last good one serving, and so does a registry that cannot be read.

mod config;
mod explain;
pub mod log;
mod models;
mod pool;
mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Notify;

pub use config::{LogConfig, ServingConfig};
pub use explain::{Attribution, Explanation};
pub use models::{Degraded, Elsewhere, Served, ServedModel};
pub use request::{FieldNames, ModelReference, Sample};

use crate::contract::{ModelManifest, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::inputs;
use crate::ports::{Engine, Event, EventHandler, Ports};
use crate::recent::{self, RecentBars};
use log::{LogStatus, Outcome, PredictionLog, PredictionRecord};
use models::Models;
use pool::Pool;
use request::Prepared;

/// What is asked of a model.
#[derive(Debug, Clone)]
pub struct PredictRequest {
    /// Which model and version.
    pub model: ModelReference,
    /// The windows. Empty to predict on the latest bars of `symbol`.
    pub samples: Vec<Sample>,
    /// Instrument: the bars before (or in place of) the windows are taken from what moola holds of it.
    pub symbol: Option<String>,
    /// The caller's id.
    pub request_id: String,
    /// Free, logged with the predictions.
    pub metadata: Option<Map<String, Value>>,
    /// Whether the first prediction is explained.
    pub explain: bool,
    /// How the fields are called in messages.
    pub fields: FieldNames,
}

/// One prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Names it in the log; outcomes refer to it.
    pub prediction_id: String,
    /// Place of the most probable class; `None` of a regression.
    pub class: Option<usize>,
    /// Probabilities in the order of the classes, or the value.
    pub outputs: Vec<f64>,
}

/// Bars of a symbol that moola held and a prediction used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBars {
    /// Where they come from, `<dataset>@<version>`.
    pub source: String,
    /// Start of the last of them, milliseconds since the epoch.
    pub last_time_ms: i64,
}

/// Where the time of a request went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Finding the model, loading it where it was not loaded.
    pub load: Duration,
    /// Checking the bars and computing the inputs.
    pub features: Duration,
    /// The model itself.
    pub infer: Duration,
    /// All of it, waiting for a free thread included.
    pub total: Duration,
}

/// What a model answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What answered.
    pub served: Arc<Served>,
    /// One for each window.
    pub predictions: Vec<Prediction>,
    /// When, milliseconds since the epoch.
    pub time_ms: i64,
    /// The held bars that were used, if any.
    pub held_bars: Option<HeldBars>,
    /// Why the first prediction is what it is, where asked.
    pub explanation: Option<Explanation>,
    /// Where the time went.
    pub timings: Timings,
}

/// How serving does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServingStatus {
    /// Whether the routes were read and loaded at least once.
    pub is_ready: bool,
    /// What serves in production, by model.
    pub models: Vec<ServedModel>,
    /// Versions that should serve and cannot.
    pub degraded: Vec<Degraded>,
    /// Versions that should serve, by an engine that this program lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<Elsewhere>,
    /// Why the routes could not be read last time, where they could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_error: Option<String>,
    /// Models in memory, those on demand included.
    pub num_loaded: usize,
    /// Bytes of their files.
    pub loaded_bytes: u64,
    /// Requests that compute or wait for a free thread.
    pub num_in_flight: usize,
    /// The prediction log.
    pub log: LogStatus,
    /// When this was, milliseconds since the epoch.
    pub time_ms: i64,
}

/// What serves is old where it was not found for so many intervals of looking,
const OLD_INTERVALS: i64 = 10;
/// and for so long.
const OLD_MS: i64 = 30_000;

/// Serves models.
#[derive(Debug)]
pub struct Predictor {
    ports: Ports,
    config: ServingConfig,
    models: Arc<Models>,
    pool: Pool,
    log: PredictionLog,
    wake: Arc<Notify>,
    /// When a request last waited for what was old, milliseconds since the epoch.
    waited_ms: AtomicI64,
}

impl Predictor {
    /// Starts serving: the models in production are loaded in the background and kept up to date until the predictor is
    /// dropped. Needs a tokio runtime.
    #[must_use]
    pub fn start(ports: Ports, engines: Vec<Arc<dyn Engine>>, config: ServingConfig) -> Arc<Self> {
        let models = Arc::new(Models::new(ports.clone(), engines, &config));
        let wake = Arc::new(Notify::new());
        let predictor = Arc::new(Self {
            log: PredictionLog::start(ports.clone(), config.log.clone()),
            pool: Pool::new(config.max_concurrent, config.max_queued),
            models: models.clone(),
            wake: wake.clone(),
            waited_ms: AtomicI64::new(i64::MIN),
            ports,
            config,
        });
        let weak = Arc::downgrade(&predictor);
        let pause = Duration::from_millis(predictor.config.refresh_ms.max(10));
        tokio::spawn(async move {
            while weak.strong_count() > 0 {
                // What cannot be loaded or read is in the status; the last good versions go on.
                let _ = models.refresh().await;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = wake.notified() => models.forget_failures(),
                }
            }
        });
        predictor
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &ServingConfig {
        &self.config
    }

    /// The prediction log.
    #[must_use]
    pub fn log(&self) -> &PredictionLog {
        &self.log
    }

    /// Looks for changes of what serves, soon.
    pub fn notify(&self) {
        self.wake.notify_one();
    }

    /// Looks for changes of what serves, now; what loads is loaded when it returns.
    ///
    /// # Errors
    /// Those of the table; then the last good versions go on serving.
    pub async fn refresh(&self) -> Result<()> {
        self.models.refresh().await
    }

    /// Looks for changes of what serves where nobody looked for [`ServingConfig::refresh_ms`]: for a process that is
    /// frozen between requests, so that nothing in the background looks. Waits at most `limit`; what takes longer goes on
    /// in the background, and the last good versions serve meanwhile.
    ///
    /// Where nobody found out what serves for ten times that and for 30 s, it waits at most `old_limit`; not again until
    /// as much time has passed, so that a registry that is down holds up few requests.
    pub async fn freshen(&self, limit: Duration, old_limit: Duration) {
        let max_age_ms = i64::try_from(self.config.refresh_ms).unwrap_or(i64::MAX);
        let now_ms = self.ports.clock.now_ms();
        let since_ms = now_ms.saturating_sub(max_age_ms);
        let found_ms = self.models.found_ms().max(self.waited_ms.load(Ordering::Relaxed));
        let is_old = now_ms.saturating_sub(found_ms) > max_age_ms.saturating_mul(OLD_INTERVALS).max(OLD_MS);
        // Who looks now may not have found anything yet.
        if !is_old && self.models.has_looked_since(since_ms) {
            return;
        }
        if is_old {
            self.waited_ms.store(now_ms, Ordering::Relaxed);
        }
        let limit = if is_old { old_limit } else { limit };
        let models = self.models.clone();
        // What fails is in the status.
        let looked = tokio::spawn(async move { models.freshen(since_ms).await });
        let _ = tokio::time::timeout(limit, looked).await;
    }

    #[cfg(test)]
    pub(crate) async fn find_for_test(&self, reference: &ModelReference) -> Result<Arc<Served>> {
        self.models.find(reference).await
    }

    /// How serving does.
    #[must_use]
    pub fn status(&self) -> ServingStatus {
        let mut status = self.models.status();
        status.num_in_flight = self.pool.num_in_flight();
        status.log = self.log.status();
        status.time_ms = self.ports.clock.now_ms();
        status
    }

    /// Writes what is not logged yet; call it before the end.
    ///
    /// # Errors
    /// `Unavailable` where the log could not be written in time.
    pub async fn shutdown(&self) -> Result<()> {
        self.log.flush().await
    }

    /// Predicts.
    ///
    /// # Errors
    /// `Invalid` for a request that does not fit the model, naming the field and its value; `NotFound` for an unknown
    /// model, version or symbol; `Unavailable` where the model cannot be served now, too many requests wait, or the log
    /// cannot take more.
    pub async fn predict(&self, request: PredictRequest) -> Result<Answer> {
        let started = Instant::now();
        let num_rows = request.samples.len().max(1);
        if num_rows > self.config.max_batch_rows {
            let expected = format!("at most {} windows", self.config.max_batch_rows);
            return Err(Error::invalid(&request.fields.name("ohlc_data"), format!("{num_rows} windows"), expected));
        }
        let served = self.models.find(&request.model).await?;
        let load = started.elapsed();
        let held = self.held_bars(&served.manifest, &request).await?;
        let space = self.log.reserve(num_rows).await?;
        let time_ms = self.ports.clock.now_ms();
        let ids: Vec<String> = (0..num_rows).map(|_| self.ports.ids.new_id()).collect();
        let log_inputs = self.config.log.inputs;
        let (mut answer, records) = {
            let served = served.clone();
            self.pool
                .run(move || {
                    let computed = compute(&served.manifest, &served, &request, held.as_ref())?;
                    let timings =
                        Timings { load, features: computed.features, infer: computed.infer, total: started.elapsed() };
                    Ok(answer_with(served, request, computed, held, ids, time_ms, timings, log_inputs))
                })
                .await?
        };
        self.log.append(space, records).await?;
        answer.timings.total = started.elapsed();
        Ok(answer)
    }

    /// Records what happened after predictions; durable when it returns.
    ///
    /// # Errors
    /// `Invalid` for an id that is none, a label that is no class of the model, or both or neither of label and value;
    /// `NotFound` for an unknown model; those of the ports.
    pub async fn record_outcomes(&self, mut outcomes: Vec<Outcome>) -> Result<()> {
        for (index, outcome) in outcomes.iter_mut().enumerate() {
            let field = |name: &str| format!("outcomes[{index}].{name}");
            let (model, version) = log::parse_prediction_id(&outcome.prediction_id).ok_or_else(|| {
                Error::invalid(&field("prediction_id"), &outcome.prediction_id, "an id of a prediction")
            })?;
            let reference = ModelReference { model: model.into(), reference: version.to_string() };
            let served = self.models.find(&reference).await?;
            match (served.manifest.task, &outcome.label, outcome.value) {
                (Task::Classification, Some(label), None) => {
                    if !served.manifest.classes.contains(label) {
                        let expected = format!("one of `{}`", served.manifest.classes.join("`, `"));
                        return Err(Error::invalid(&field("label"), label, expected));
                    }
                }
                (Task::Regression, None, Some(value)) if value.is_finite() => {}
                (Task::Classification, ..) => return Err(Error::invalid(&field("label"), "missing", "a class alone")),
                (Task::Regression, ..) => return Err(Error::invalid(&field("value"), "missing", "a number alone")),
            }
            if outcome.time_ms == 0 {
                outcome.time_ms = self.ports.clock.now_ms();
            }
        }
        log::write_outcomes(&self.ports, &outcomes).await
    }

    /// The latest predictions of a model, the newest first, those not written yet included.
    ///
    /// # Errors
    /// `NotFound` for an unknown model; those of the ports.
    pub async fn predictions(&self, model: &str, since_ms: i64, max_rows: usize) -> Result<Vec<PredictionRecord>> {
        crate::registry::Registry::new(self.ports.clone()).model(model).await?;
        self.log.flush().await?;
        log::read(&self.ports, model, since_ms, max_rows).await
    }

    async fn held_bars(&self, manifest: &ModelManifest, request: &PredictRequest) -> Result<Option<RecentBars>> {
        let Some(symbol) = &request.symbol else { return Ok(None) };
        let needs_bars = request.samples.is_empty()
            || request.samples.iter().any(|sample| sample.num_bars() < manifest.history_bars.max(manifest.window_bars));
        if !needs_bars {
            return Ok(None);
        }
        let dataset = manifest.lineage.dataset.as_deref().and_then(|dataset| dataset.split('@').next());
        recent::read(&self.ports, symbol, dataset).await.map(Some).map_err(|error| match error.kind() {
            ErrorKind::Invalid => Error::new(
                ErrorKind::Invalid,
                error.to_string().replacen("`symbol`", &format!("`{}`", request.fields.name("symbol")), 1),
            ),
            _ => error,
        })
    }
}

#[async_trait]
impl EventHandler for Predictor {
    async fn handle(&self, event: &Event) -> Result<()> {
        if matches!(event.detail_type.as_str(), "Stage Changed" | "Model Version Built") {
            self.notify();
        }
        Ok(())
    }
}

struct Computed {
    prepared: Prepared,
    features_row_major: Vec<f64>,
    outputs: Vec<f64>,
    explanation: Option<Explanation>,
    features: Duration,
    infer: Duration,
}

fn compute(
    manifest: &ModelManifest,
    served: &Served,
    request: &PredictRequest,
    held: Option<&RecentBars>,
) -> Result<Computed> {
    let started = Instant::now();
    let prepared = request::prepare(manifest, request, held)?;
    let encoded = inputs::encode(
        &manifest.inputs,
        manifest.feature_set.as_ref(),
        manifest.window_bars,
        &prepared.bars,
        &prepared.ends,
    )?;
    let features = started.elapsed();
    let started = Instant::now();
    let first_row = request.explain.then(|| explain::first_row(&encoded.tensors)).transpose()?;
    let outputs = served.run(encoded.tensors, prepared.ends.len())?;
    let explanation = match first_row {
        Some(row) => {
            let width = outputs.len() / prepared.ends.len();
            Some(explain::occlusion(served, &row, &encoded.features, &outputs[..width])?)
        }
        None => None,
    };
    Ok(Computed {
        prepared,
        features_row_major: encoded.features,
        outputs,
        explanation,
        features,
        infer: started.elapsed(),
    })
}

#[expect(clippy::too_many_arguments, reason = "the pieces of one answer, put together in one place")]
fn answer_with(
    served: Arc<Served>,
    request: PredictRequest,
    computed: Computed,
    held: Option<RecentBars>,
    ids: Vec<String>,
    time_ms: i64,
    timings: Timings,
    log_inputs: bool,
) -> (Answer, Vec<PredictionRecord>) {
    let manifest = &served.manifest;
    let num_rows = ids.len();
    let width = computed.outputs.len() / num_rows;
    let num_features = computed.features_row_major.len() / num_rows;
    let held_bars =
        held.and_then(|held| Some(HeldBars { source: held.source(), last_time_ms: computed.prepared.last_held_ms? }));
    let mut predictions = Vec::with_capacity(num_rows);
    let mut records = Vec::with_capacity(num_rows);
    for (row, id) in ids.into_iter().enumerate() {
        let outputs = computed.outputs[row * width..(row + 1) * width].to_vec();
        let class = (manifest.task == Task::Classification).then(|| best(&outputs));
        let prediction_id = log::prediction_id(&manifest.model, manifest.version, &id);
        let features = &computed.features_row_major[row * num_features..(row + 1) * num_features];
        records.push(PredictionRecord {
            prediction_id: prediction_id.clone(),
            time_ms,
            model: manifest.model.clone(),
            version: manifest.version,
            request_id: request.request_id.clone(),
            symbol: request.symbol.clone(),
            held_bars: held_bars.clone(),
            bar_time_ms: computed.prepared.has_times.then(|| computed.prepared.end_time_ms(row)),
            ohlc: log_inputs.then(|| computed.prepared.window(row, manifest.window_bars)),
            features: features.iter().map(|value| value.is_finite().then_some(*value)).collect(),
            feature_set_hash: manifest.feature_set.as_ref().map(|set| set.hash().to_owned()),
            outputs: outputs.clone(),
            class: class.and_then(|class| manifest.classes.get(class).cloned()),
            latency_us: u64::try_from(timings.total.as_micros()).unwrap_or(u64::MAX),
            metadata: request.metadata.clone(),
        });
        predictions.push(Prediction { prediction_id, class, outputs });
    }
    let answer = Answer { predictions, time_ms, held_bars, explanation: computed.explanation, timings, served };
    (answer, records)
}

/// Place of the largest number; 0 of none.
fn best(values: &[f64]) -> usize {
    (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]).then(b.cmp(&a))).unwrap_or(0)
}

#[cfg(test)]
mod tests;
