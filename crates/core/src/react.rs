//! What happens by itself: a version that passed its gates is promoted, drift or a schedule starts a retrain.
//!
//! Every reaction may come twice or out of order, so every one can be repeated: a version is promoted once, and never
//! after a person decided about it; a retrain's run id is made of the event's id.
//!
//! Drift waits for the cool-down of the last retrain. A schedule does not, since somebody chose its times; it starts a
//! cool-down all the same, and is passed over only where another retrain was started after it was due.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::commit::{put, sha256_hex, unchanged};
use crate::contract::TrainingSpec;
use crate::error::{Error, ErrorKind, Result};
use crate::names::check_name;
use crate::ports::{Condition, Event, EventHandler, Key, Ports, Write};
use crate::registry::{Decision, Move, Registry, Stage};
use crate::training::{RunStatus, TrainRequest, Training};

/// The event that makes the reactor retrain `detail.model`.
pub const RETRAIN_DUE: &str = "Retrain Due";

/// Who decides where no person did.
const ACTOR: &str = "moola";

/// What happens by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReactConfig {
    /// Whether drift starts a retrain.
    pub retrain_on_drift: bool,
    /// For so long after a retrain of a model, drift starts no other.
    pub cooldown_secs: u64,
}

impl Default for ReactConfig {
    fn default() -> Self {
        Self { retrain_on_drift: true, cooldown_secs: 6 * 3600 }
    }
}

/// Reacts to what the gates and the monitor found.
#[derive(Debug, Clone)]
pub struct Reactor {
    ports: Ports,
    registry: Registry,
    training: Training,
    config: ReactConfig,
}

/// When a model was last retrained by itself.
#[derive(Debug, Serialize, Deserialize)]
struct Cooldown {
    event_id: String,
    started_ms: i64,
    /// Which version's training was repeated.
    #[serde(default)]
    version: Option<u32>,
    /// `name@version` of the dataset.
    #[serde(default)]
    dataset: Option<String>,
}

/// The model and the version that an event is about.
///
/// # Errors
/// `Invalid` where the detail does not name them.
pub(crate) fn subject(detail: &Value) -> Result<(&str, u32)> {
    let (model, version) = (&detail["model"], &detail["model_version"]);
    let name = model.as_str().ok_or_else(|| Error::invalid("detail.model", model, "a text"))?;
    let number = version.as_u64().and_then(|number| u32::try_from(number).ok());
    Ok((name, number.ok_or_else(|| Error::invalid("detail.model_version", version, "a version number"))?))
}

/// Whether a move of a version leaves nothing to be done about it by itself: a person made it, or it serves or did.
pub(crate) fn is_decided(entry: &Move) -> bool {
    entry.actor != ACTOR || entry.to == Stage::Production
}

impl Reactor {
    /// Makes the reactor.
    #[must_use]
    pub fn new(ports: Ports, training: Training, config: ReactConfig) -> Self {
        let registry = Registry::new(ports.clone());
        Self { ports, registry, training, config }
    }

    /// Promotes a version that passed its gates, where that was asked for and nobody decided otherwise.
    async fn on_judged(&self, event: &Event) -> Result<()> {
        let (model, version) = subject(&event.detail)?;
        let record = self.registry.version(model, version).await?;
        if !record.auto_promote {
            return Ok(());
        }
        if !record.gates.is_some_and(|gates| gates.passed) {
            info!(model, version, "not promoted: a gate failed");
            return Ok(());
        }
        let moves = self.registry.history(model, usize::MAX).await?;
        if moves.iter().any(|entry| entry.version == version && is_decided(entry)) {
            return Ok(());
        }
        let decision = Decision {
            actor: ACTOR.into(),
            reason: "passed the gates".into(),
            correlation_id: Some(event.correlation_id.clone()),
        };
        for (from, to) in [(Stage::None, Stage::Staging), (Stage::Staging, Stage::Production)] {
            if self.registry.version(model, version).await?.stage != from {
                continue;
            }
            match self.registry.transition(model, version, to, &decision).await {
                Ok(_) => {}
                // Another version was faster: it stands.
                Err(error) if error.kind() == ErrorKind::Refused => {
                    warn!(model, version, reason = error.chain(), "not promoted");
                    return Ok(());
                }
                // Somebody changed something meanwhile, a tag or the stage: what holds now is looked at anew.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    let message = format!("model version `{model}/{version}` changed while it was promoted");
                    return Err(Error::unavailable(message).with_source(error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn on_drift(&self, event: &Event) -> Result<()> {
        let (model, version) = subject(&event.detail)?;
        if !self.config.retrain_on_drift {
            return Ok(());
        }
        let cooldown_ms = i64::try_from(self.config.cooldown_secs).unwrap_or(i64::MAX / 2000) * 1000;
        self.retrain(event, model, Some(version), "drift", cooldown_ms).await
    }

    async fn on_retrain_due(&self, event: &Event) -> Result<()> {
        let model = &event.detail["model"];
        let name = model.as_str().ok_or_else(|| Error::invalid("detail.model", model, "the name of a model"))?;
        self.registry.model(name).await?;
        self.retrain(event, name, None, "schedule", 0).await
    }

    /// Starts the training of a version (by default the one in production) again, on the newest version of its dataset.
    async fn retrain(
        &self,
        event: &Event,
        model: &str,
        version: Option<u32>,
        trigger: &str,
        cooldown_ms: i64,
    ) -> Result<()> {
        let retrain_id = retrain_id(&event.id);
        match self.training.get(&retrain_id).await {
            // Told before.
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let reference = version.map_or("production".to_owned(), |number| number.to_string());
        let record = match self.registry.resolve(model, &reference).await {
            Ok(record) => record,
            Err(error) if version.is_none() && error.kind() == ErrorKind::NotFound => {
                return self.skip(event, json!({"model": model, "reason": "nothing in production"})).await;
            }
            Err(error) => return Err(error),
        };
        let version = record.version;
        let key = Key::new("cooldown", model);
        let last = self.ports.read::<Cooldown>(&key).await?;
        let revision = match &last {
            // This event's own, before a crash.
            Some((last, _)) if last.event_id == event.id => None,
            // When the event happened counts, not when it was told: a late duplicate of what was skipped is skipped too.
            Some((last, _)) if event.time_ms - last.started_ms < cooldown_ms => {
                info!(model, version, "no retrain: the last one is too recent");
                let detail = json!({"model": model, "model_version": version, "reason": "cool-down",
                    "last_started_ms": last.started_ms, "cooldown_secs": cooldown_ms / 1000});
                return self.skip(event, detail).await;
            }
            Some((_, revision)) => Some(Some(*revision)),
            None => Some(None),
        };
        let Some(run_id) = &record.lineage.run_id else {
            warn!(model, version, "a version that was not trained here: nothing to retrain");
            let detail = json!({"model": model, "model_version": version, "reason": "not trained here"});
            return self.skip(event, detail).await;
        };
        let spec = self.training.spec(run_id).await?;
        let newest = self.training.datasets().get(&spec.dataset.name, None).await?;
        if newest.version == spec.dataset.version {
            info!(model, version, "no retrain: there are no bars that it was not trained on");
            let detail = json!({"model": model, "model_version": version, "reason": "no newer version of the dataset",
                "dataset": newest.reference()});
            return self.skip(event, detail).await;
        }
        let dataset = Some(newest.reference());
        if let Some((last, _)) = &last
            && revision.is_some()
            && (last.version, &last.dataset) == (Some(version), &dataset)
            && self.is_of_use(&last.event_id).await?
        {
            info!(model, version, "no retrain: the last one was on the same bars");
            let detail = json!({"model": model, "model_version": version, "reason": "retrained on these bars before",
                "dataset": dataset});
            return self.skip(event, detail).await;
        }
        if let Some(revision) = revision {
            let started_ms = self.ports.clock.now_ms();
            let claim = Cooldown { event_id: event.id.clone(), started_ms, version: Some(version), dataset };
            let requested = self.ports.event(
                "Retrain Requested",
                &event.correlation_id,
                json!({"model": model, "model_version": version, "trigger": trigger}),
            );
            match self.ports.commit(vec![put(key.clone(), &claim, unchanged(revision))?], vec![requested]).await {
                Ok(()) => {}
                // Another event about the same model was faster.
                Err(error) if error.kind() == ErrorKind::Conflict => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        match self.training.start_as(retrain_id, retrain_request(spec), trigger, &event.correlation_id).await {
            Ok(run) => {
                info!(model, run_id = run.run_id, "retrain started");
                Ok(())
            }
            Err(error) => {
                if !error.is_retryable() {
                    // What cannot start uses up no cool-down.
                    if let Some((claim, revision)) = self.ports.read::<Cooldown>(&key).await?
                        && claim.event_id == event.id
                    {
                        let release = Write::Delete { key, condition: Condition::Revision(revision) };
                        self.ports.table.write(vec![release]).await?;
                    }
                }
                if error.kind() == ErrorKind::Refused {
                    warn!(model, version, reason = error.chain(), "no retrain");
                    let detail = json!({"model": model, "model_version": version, "reason": error.chain()});
                    return self.skip(event, detail).await;
                }
                Err(error)
            }
        }
    }

    /// Whether the retrain that an event started is under way or made a version: the same once more would make its twin.
    async fn is_of_use(&self, event_id: &str) -> Result<bool> {
        match self.training.get(&retrain_id(event_id)).await {
            Ok(run) => Ok(!matches!(run.status, RunStatus::Failed | RunStatus::Cancelled)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn skip(&self, event: &Event, detail: Value) -> Result<()> {
        let mut skipped = self.ports.event("Retrain Skipped", &event.correlation_id, detail);
        // Told twice, it is skipped twice: one event all the same.
        skipped.id = format!("skipped-{}", event.id);
        self.ports.events.publish(vec![skipped]).await
    }
}

/// The id of the run that an event starts; ids that are no names, as those of schedules' firings, are hashed.
fn retrain_id(event_id: &str) -> String {
    let id = format!("retrain-{event_id}");
    match check_name("run_id", &id) {
        Ok(()) => id,
        Err(_) => format!("retrain-{}", &sha256_hex(event_id.as_bytes())[..32]),
    }
}

/// The same training on the newest version of the dataset.
fn retrain_request(spec: TrainingSpec) -> TrainRequest {
    TrainRequest {
        model_name: spec.model_name,
        dataset: spec.dataset.name,
        label: spec.label,
        window: spec.window,
        split: spec.split,
        model: spec.model,
        optimizer: spec.optimizer,
        resources: spec.resources,
        seed: Some(spec.seed),
        auto_promote: true,
    }
}

#[async_trait]
impl EventHandler for Reactor {
    async fn handle(&self, event: &Event) -> Result<()> {
        match (event.source.as_str(), event.detail_type.as_str()) {
            ("moola", "Gates Judged") => self.on_judged(event).await,
            ("moola", "Drift Detected") => self.on_drift(event).await,
            (_, RETRAIN_DUE) => self.on_retrain_due(event).await,
            _ => Ok(()),
        }
    }
}
