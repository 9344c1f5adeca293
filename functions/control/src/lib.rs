//! What the functions of the control plane share: how they are put together.
//!
//! Each function gets the ports that its role may use and no other; see docs/deploy.md for the permissions.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use axum::Router;
use moola_api::control::{ControlLimits, ControlState, EventHistory};
use moola_aws::{BatchJobs, EventBridge, KmsSigner, Services, TrustedKeys};
use moola_core::app::{App, Settings};
use moola_core::builds::Engines;
use moola_core::event_log;
use moola_core::ports::{Engine, Event, EventHandler, Ports};

/// The ports of a function, and what the user turned.
#[derive(Debug)]
pub struct Control {
    services: Services,
    /// The ports, so far.
    pub ports: Ports,
    settings: Settings,
}

impl Control {
    /// Reads the environment: blobs, table, events, verification.
    ///
    /// # Errors
    /// Where a setting or a key is none.
    pub async fn from_env() -> anyhow::Result<Self> {
        moola_aws::lambda::init_tracing();
        let services = Services::from_env();
        let mut ports = services.ports().map_err(explain)?;
        ports.events = Arc::new(EventBridge::new(&services.config, &services.resources.bus));
        let settings = moola_aws::lambda::setting("MOOLA_SETTINGS").map_err(explain)?;
        Ok(Self { services, ports, settings })
    }

    /// Lets the function submit jobs.
    #[must_use]
    pub fn with_jobs(mut self) -> Self {
        let Services { config, resources } = &self.services;
        self.ports.jobs = Arc::new(BatchJobs::new(config, &resources.job_prefix, &resources.job_log_group));
        self
    }

    /// Lets the function sign.
    ///
    /// # Errors
    /// Where a trusted key is none.
    pub fn with_signer(mut self) -> anyhow::Result<Self> {
        let Services { config, resources } = &self.services;
        let trusted = TrustedKeys::from_pem(&resources.trusted_keys).map_err(explain)?;
        self.ports.signer = Arc::new(KmsSigner::new(config, &resources.signing_key, trusted));
        Ok(self)
    }

    /// All services over the ports.
    #[must_use]
    pub fn app(self, engines: impl Into<Engines>) -> App {
        App::new(self.ports, engines, self.settings)
    }
}

fn explain(error: moola_core::Error) -> anyhow::Error {
    anyhow::anyhow!("{}", error.chain())
}

struct History(Ports);

#[async_trait]
impl EventHistory for History {
    async fn recent(&self, limit: usize) -> moola_core::Result<Vec<Event>> {
        event_log::recent(&self.0, limit).await
    }
}

/// The limits of a function of `memory_mb`: a file of bars takes several times its size while it is read.
fn limits(memory_mb: Option<usize>) -> ControlLimits {
    let limits = ControlLimits::default();
    let share = memory_mb.map_or(usize::MAX, |memory_mb| (memory_mb << 20) / 8);
    ControlLimits { max_dataset_bytes: limits.max_dataset_bytes.min(share), ..limits }
}

/// The state of the routes.
#[must_use]
pub fn state(app: &App, engines: Vec<Arc<dyn Engine>>) -> ControlState {
    let history = Arc::new(History(app.ports.clone()));
    let memory_mb = std::env::var("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").ok().and_then(|mb| mb.parse().ok());
    ControlState { app: app.clone(), engines, history, limits: limits(memory_mb) }
}

/// Serves a function of the control plane until its environment ends.
///
/// # Errors
/// Where the runtime API cannot be reached.
pub async fn run(
    name: &'static str,
    app: &App,
    router: Option<Router>,
    handler: Option<Arc<dyn EventHandler>>,
) -> anyhow::Result<()> {
    let router = router.map(|router| moola_api::finish(router, app.ports.ids.clone()));
    let function = moola_aws::lambda::Function { name, router, handler, clock: app.ports.clock.clone() };
    moola_aws::lambda::run(function).await.map_err(|error| anyhow::anyhow!(error)).context("the runtime API")
}

/// Keeps every event in the log before it is handled.
#[derive(Debug)]
pub struct Recorded<T> {
    ports: Ports,
    handler: T,
}

impl<T> Recorded<T> {
    /// Keeps what `handler` is told.
    #[must_use]
    pub fn new(ports: Ports, handler: T) -> Self {
        Self { ports, handler }
    }
}

#[async_trait]
impl<T: EventHandler> EventHandler for Recorded<T> {
    async fn handle(&self, event: &Event) -> moola_core::Result<()> {
        event_log::record(&self.ports, event).await?;
        self.handler.handle(event).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_an_eighth_of_the_memory_at_most() {
        let most = ControlLimits::default();
        assert_eq!(limits(None), most);
        assert_eq!(limits(Some(1 << 20)), most);
        assert_eq!(limits(Some(1024)), ControlLimits { max_dataset_bytes: 128 << 20, ..most });
    }
}
