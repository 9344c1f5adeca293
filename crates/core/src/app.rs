//! All services over one set of ports.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::builds::{BuildConfig, Builds, Engines};
use crate::dataset::Datasets;
use crate::error::Result;
use crate::gates::{GateConfig, Gates};
use crate::monitor::{DRIFT_CHECK_DUE, Monitor, MonitorConfig};
use crate::ports::{Event, EventHandler, Ports, Schedule, ScheduleExpression};
use crate::react::{ReactConfig, Reactor};
use crate::registry::Registry;
use crate::serving::ServingConfig;
use crate::training::{MAINTENANCE_DUE, Training, TrainingConfig};

/// What a user may turn: the tables of `moola.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Limits of training.
    pub training: TrainingConfig,
    /// How the engine of a version is chosen.
    pub build: BuildConfig,
    /// Thresholds of the gates.
    pub gates: GateConfig,
    /// Drift.
    pub monitor: MonitorConfig,
    /// When drift is looked for; absent for never.
    pub drift_schedule: DriftSchedule,
    /// What happens by itself.
    pub react: ReactConfig,
    /// Serving and the prediction log.
    pub serving: ServingConfig,
}

/// When drift is looked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DriftSchedule {
    /// Whether it is looked for by itself.
    pub enabled: bool,
    /// When.
    pub expression: ScheduleExpression,
}

impl Default for DriftSchedule {
    fn default() -> Self {
        Self { enabled: true, expression: ScheduleExpression::Rate { secs: 300 } }
    }
}

/// The control plane: every service, without a transport.
#[derive(Debug, Clone)]
pub struct App {
    /// The ports.
    pub ports: Ports,
    /// Datasets.
    pub datasets: Datasets,
    /// Models and versions.
    pub registry: Registry,
    /// Runs.
    pub training: Training,
    /// What is made of a version so that it can serve.
    pub builds: Builds,
    /// What a version must show.
    pub gates: Gates,
    /// Drift.
    pub monitor: Monitor,
    /// What happens by itself.
    pub reactor: Reactor,
    /// What the user turned.
    pub settings: Arc<Settings>,
}

impl App {
    /// Makes all services.
    #[must_use]
    pub fn new(ports: Ports, engines: impl Into<Engines>, settings: Settings) -> Self {
        let training = Training::new(ports.clone(), settings.training.clone());
        let builds = Builds::new(ports.clone(), engines, settings.build.clone());
        let gates = Gates::new(ports.clone(), builds.clone(), settings.gates.clone());
        let monitor = Monitor::new(ports.clone(), settings.monitor.clone());
        let reactor = Reactor::new(ports.clone(), training.clone(), settings.react.clone());
        Self {
            datasets: Datasets::new(ports.clone()),
            registry: Registry::new(ports.clone()),
            training,
            builds,
            gates,
            monitor,
            reactor,
            settings: Arc::new(settings),
            ports,
        }
    }

    /// Takes up what a crash interrupted, and sets the schedules; call it at start.
    ///
    /// # Errors
    /// Those of the ports.
    pub async fn start(&self) -> Result<()> {
        self.ports.relay_outbox().await?;
        self.training.resume(Duration::ZERO).await?;
        let drift = &self.settings.drift_schedule;
        let known = self.ports.schedules.list().await?;
        for schedule in [
            schedule("drift-check", DRIFT_CHECK_DUE, drift.expression.clone(), drift.enabled),
            schedule("maintenance", MAINTENANCE_DUE, ScheduleExpression::Rate { secs: 300 }, true),
        ] {
            if !known.contains(&schedule) {
                self.ports.schedules.put(schedule).await?;
            }
        }
        Ok(())
    }
}

fn schedule(name: &str, detail_type: &str, expression: ScheduleExpression, enabled: bool) -> Schedule {
    let event = Event {
        id: String::new(),
        source: "moola.schedule".into(),
        detail_type: detail_type.into(),
        time_ms: 0,
        correlation_id: String::new(),
        detail: json!({"version": 1}),
    };
    Schedule { name: name.into(), expression, enabled, event }
}

/// All reactions in one: each service takes the events that concern it.
#[async_trait]
impl EventHandler for App {
    async fn handle(&self, event: &Event) -> Result<()> {
        let services: [&dyn EventHandler; 4] = [&self.training, &self.gates, &self.monitor, &self.reactor];
        for service in services {
            service.handle(event).await?;
        }
        Ok(())
    }
}
