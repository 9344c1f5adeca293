//! Drift of what a version sees and says, against what it was trained on.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use crate::commit::{from_json_bytes, put, to_json_bytes};
use crate::contract::{ModelManifest, Task, paths};
use crate::error::{Error, ErrorKind, Result};
use crate::ports::{Condition, Event, EventHandler, Key, Ports, PutMode, Query, Write};
use crate::registry::{Registry, Route, Version};
use crate::serving::log::{self, PredictionRecord};
use crate::stats::{DriftConfig, DriftReport, Observations, ReferenceProfile, check_drift};

/// The event that makes the monitor look at what is in production: at `detail.model`, or without it at every model.
pub const DRIFT_CHECK_DUE: &str = "Drift Check Due";

/// How drift is looked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorConfig {
    /// Thresholds.
    pub drift: DriftConfig,
    /// How far back logged predictions are looked at.
    pub window_secs: u64,
    /// At most so many predictions, the most recent ones.
    pub max_rows: usize,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self { drift: DriftConfig::default(), window_secs: 24 * 3600, max_rows: 5000 }
    }
}

/// The outcome of a drift check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftCheck {
    /// Its id.
    pub check_id: String,
    /// Registered model.
    pub model: String,
    /// The version.
    pub version: u32,
    /// Predictions looked at.
    pub num_rows: usize,
    /// Whether drift was found, in features or in predictions.
    pub drifted: bool,
    /// Share of the features that drifted.
    pub drifted_share: f64,
    /// The features that drifted most.
    pub worst_columns: Vec<String>,
    /// Whether the predictions drifted.
    pub prediction_drifted: bool,
    /// Accuracy on the predictions whose outcome is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The blob that holds the whole report.
    pub report: String,
    /// When.
    pub created_ms: i64,
}

/// Most events that are published at once.
const MAX_EVENTS: usize = 10;
/// How long it is remembered that a check that was due was done: longer than a bus delivers an event again.
const DONE_SECS: i64 = 14 * 24 * 3600;

/// A check that was due and was done.
#[derive(Debug, Serialize)]
struct Done {
    /// Seconds since the epoch.
    expires_at: i64,
}

/// Looks for drift.
#[derive(Debug, Clone)]
pub struct Monitor {
    ports: Ports,
    registry: Registry,
    config: MonitorConfig,
}

impl Monitor {
    /// Makes the service.
    #[must_use]
    pub fn new(ports: Ports, config: MonitorConfig) -> Self {
        let registry = Registry::new(ports.clone());
        Self { ports, registry, config }
    }

    /// Compares the logged predictions of a version (a number, an alias, `production`) with its training. Where drift is
    /// found, `Drift Detected` is published.
    ///
    /// # Errors
    /// `NotFound`; `Refused` where too few predictions were logged, or the version has no reference.
    pub async fn check(&self, model: &str, reference: &str, correlation_id: &str) -> Result<(DriftCheck, DriftReport)> {
        self.check_with(model, reference, correlation_id, Vec::new()).await
    }

    /// Checks, and applies `writes` with the check or not at all.
    async fn check_with(
        &self,
        model: &str,
        reference: &str,
        correlation_id: &str,
        mut writes: Vec<Write>,
    ) -> Result<(DriftCheck, DriftReport)> {
        let version = self.registry.resolve(model, reference).await?;
        let now_ms = self.ports.clock.now_ms();
        let since_ms = now_ms - i64::try_from(self.config.window_secs).unwrap_or(i64::MAX / 2000) * 1000;
        // Older predictions are of other versions.
        let since_ms = since_ms.max(version.created_ms);
        let max_rows = self.config.max_rows;
        let records = log::read_version(&self.ports, model, version.version, since_ms, max_rows).await?;
        let (manifest, profile) = self.reference(&version).await?;
        if records.len() < self.config.drift.min_rows {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "model version `{model}/{}` has {} logged predictions in the last {} s, a drift check needs {}",
                    version.version,
                    records.len(),
                    self.config.window_secs,
                    self.config.drift.min_rows
                ),
            ));
        }
        let accuracy = log::accuracy(&self.ports, model, since_ms, &records).await?;
        let num_rows = records.len();
        let config = self.config.drift.clone();
        let report = tokio::task::spawn_blocking(move || compare(&manifest, &profile, &records, &config))
            .await
            .map_err(|e| Error::internal("checking drift").with_source(e))??;
        let check_id = self.ports.ids.new_id();
        let key = format!("drift/{model}/{check_id}.json");
        self.ports.blobs.put(&key, to_json_bytes(&report)?, PutMode::Create).await?;
        let check = DriftCheck {
            check_id: check_id.clone(),
            model: model.into(),
            version: version.version,
            num_rows,
            drifted: report.dataset_drifted || report.prediction_drifted,
            drifted_share: report.drifted_share,
            worst_columns: report.worst_columns.clone(),
            prediction_drifted: report.prediction_drifted,
            accuracy,
            report: key,
            created_ms: now_ms,
        };
        let detail = json!({
            "model": model, "model_version": version.version, "check_id": check_id, "num_rows": num_rows,
            "drifted_share": check.drifted_share, "worst_columns": check.worst_columns,
            "prediction_drifted": check.prediction_drifted,
        });
        let kind = if check.drifted { "Drift Detected" } else { "Drift Not Detected" };
        let event = self.ports.event(kind, correlation_id, detail);
        writes.push(put(Key::new(format!("drift/{model}"), &check_id), &check, Condition::Absent)?);
        self.ports.commit(writes, vec![event]).await?;
        Ok((check, report))
    }

    /// Makes a check due of every model that has a version in production: each is an event of its own, so that many models
    /// take no longer than one, and the trouble of one is not that of the others.
    async fn fan_out(&self, due: &Event) -> Result<()> {
        let models = self.registry.routes().await?.into_iter().filter(|route| route.version.is_some());
        let events: Vec<Event> = models
            .map(|Route { model, .. }| Event {
                id: format!("{}-{model}", due.id),
                correlation_id: format!("{}-{model}", due.correlation_id),
                detail: json!({"version": 1, "model": model}),
                ..due.clone()
            })
            .collect();
        for events in events.chunks(MAX_EVENTS) {
            self.ports.events.publish(events.to_vec()).await?;
        }
        Ok(())
    }

    /// Checks the version in production of a model, once for each `due`; where there is none, or too few predictions of
    /// it, there is no check.
    async fn check_serving(&self, model: &str, due: &Event) -> Result<()> {
        let key = Key::new(format!("drift-due/{model}"), &due.id);
        if self.ports.table.get(&key).await?.is_some() {
            return Ok(());
        }
        let done = Done { expires_at: self.ports.clock.now_ms() / 1000 + DONE_SECS };
        let done = put(key.clone(), &done, Condition::Absent)?;
        match self.check_with(model, "production", &due.correlation_id, vec![done]).await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::Refused | ErrorKind::NotFound) => {
                info!(model, reason = error.chain(), "no drift check");
                Ok(())
            }
            // Told twice at the same time: the other one was faster.
            Err(error) if error.kind() == ErrorKind::Conflict && self.ports.table.get(&key).await?.is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn on_due(&self, event: &Event) -> Result<()> {
        match &event.detail["model"] {
            Value::Null => self.fan_out(event).await,
            Value::String(model) => {
                // A schedule of a model that does not exist is a mistake, which somebody should hear of.
                self.registry.model(model).await?;
                self.check_serving(model, event).await
            }
            other => Err(Error::invalid("detail.model", other, "the name of a model, or none for all of them")),
        }
    }

    /// Checks of a model, the newest first.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn checks(&self, model: &str, limit: usize) -> Result<Vec<DriftCheck>> {
        self.registry.model(model).await?;
        let mut query = Query::prefix(format!("drift/{model}"), "");
        query.descending = true;
        self.ports.read_all(query, limit).await
    }

    /// The whole report of a check.
    ///
    /// # Errors
    /// `NotFound`; those of the blobs.
    pub async fn report(&self, model: &str, check_id: &str) -> Result<DriftReport> {
        let read = self.ports.read::<DriftCheck>(&Key::new(format!("drift/{model}"), check_id)).await?;
        let (check, _) = read.ok_or_else(|| Error::not_found("drift check", check_id))?;
        from_json_bytes(&check.report, &self.ports.blobs.get(&check.report).await?)
    }

    async fn reference(&self, version: &Version) -> Result<(ModelManifest, ReferenceProfile)> {
        let package = version.package(&*self.ports.blobs, &*self.ports.signer).await?;
        if !package.manifest.files.contains_key(paths::REFERENCE) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "model version `{}/{}` has no `reference.json`, so drift cannot be told",
                    version.model, version.version
                ),
            ));
        }
        let bytes = package.file(&*self.ports.blobs, paths::REFERENCE).await?;
        let profile: ReferenceProfile = from_json_bytes(paths::REFERENCE, &bytes)?;
        profile.validate()?;
        Ok((package.manifest, profile))
    }
}

#[async_trait]
impl EventHandler for Monitor {
    async fn handle(&self, event: &Event) -> Result<()> {
        match event.detail_type.as_str() {
            DRIFT_CHECK_DUE => self.on_due(event).await,
            _ => Ok(()),
        }
    }
}

/// Compares logged predictions with the reference, in the reference's columns: the feature set's names for the features,
/// the classes' names (or `prediction`) for the predictions.
fn compare(
    manifest: &ModelManifest,
    profile: &ReferenceProfile,
    records: &[PredictionRecord],
    config: &DriftConfig,
) -> Result<DriftReport> {
    // Oldest first: the order of time is what tells how much neighbours depend on one another.
    let mut records: Vec<&PredictionRecord> = records.iter().collect();
    records.sort_by_key(|record| record.time_ms);
    let names: Vec<String> = manifest
        .feature_set
        .as_ref()
        .map(|set| set.features().iter().map(|feature| feature.name.to_owned()).collect())
        .unwrap_or_default();
    let features = names.into_iter().enumerate().map(|(index, name)| {
        let value = |record: &&PredictionRecord| record.features.get(index).copied().flatten().unwrap_or(f64::NAN);
        (name, records.iter().map(value).collect())
    });
    let features: Vec<(String, Vec<f64>)> = features.collect();
    let (predictions, classes) = match manifest.task {
        Task::Classification => {
            let columns = manifest.classes.iter().enumerate().map(|(index, name)| {
                let value = |record: &&PredictionRecord| record.outputs.get(index).copied().unwrap_or(f64::NAN);
                (name.clone(), records.iter().map(value).collect())
            });
            let predicted: Vec<usize> = records.iter().map(|record| record.best_class().unwrap_or(0)).collect();
            (columns.collect::<Vec<_>>(), Some((predicted, manifest.classes.len())))
        }
        Task::Regression => {
            let values = records.iter().map(|record| record.outputs.first().copied().unwrap_or(f64::NAN)).collect();
            (vec![("prediction".to_owned(), values)], None)
        }
    };
    let observations = Observations {
        features: &features,
        predictions: &predictions,
        predicted_classes: classes.as_ref().map(|(predicted, count)| (predicted.as_slice(), *count)),
    };
    Ok(check_drift(profile, &observations, config)?)
}

/// Main numbers of a report by column, for lists and pictures.
#[must_use]
pub fn psi_by_column(report: &DriftReport) -> BTreeMap<String, f64> {
    let psi = |column: &crate::stats::drift::ColumnDrift| Some((column.name.clone(), column.statistics.as_ref()?.psi));
    report.columns.iter().filter_map(psi).collect()
}
