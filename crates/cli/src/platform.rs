//! The whole platform in one process: embedded adapters, services, routers, reactions.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use axum::Router;
use moola_api::control::{self, ControlApi, ControlLimits, ControlState, EventHistory};
use moola_api::predict::{self, Serving};
use moola_api::{health, openapi};
use moola_core::app::{App, Settings};
use moola_core::builds::Engines;
use moola_core::ports::{Engine, Event, EventFilter, Ids as _};
use moola_core::serving::Predictor;
use moola_core::training::TRAINER;
use moola_local::{CommandTemplate, Local, LocalConfig, LocalEvents};
use moola_onnx::TractEngine;
use moola_wasm_runtime::{WasmCompiler, WasmEngine};
use tracing::warn;
use utoipa::OpenApi as _;

use crate::output::from_core;

/// Name of the queue of the reactions.
const REACTOR: &str = "reactor";
/// Name of the queue that tells serving what changed.
const SERVING: &str = "serving";

/// Instances of compiled models for what judges and loads models beside the threads that predict.
const SPARE_INSTANCES: usize = 32;

/// Everything, opened over one data directory.
#[derive(Debug)]
pub(crate) struct Platform {
    local: Arc<Local>,
    app: App,
    predictor: Arc<Predictor>,
    router: Router,
}

struct History(Arc<LocalEvents>);

#[async_trait]
impl EventHistory for History {
    async fn recent(&self, limit: usize) -> moola_core::Result<Vec<Event>> {
        self.0.history(limit).await
    }
}

/// Compiled models run in places that are reserved at the start, where the machine has room for them.
fn wasm_engine(max_concurrent: usize) -> anyhow::Result<WasmEngine> {
    let num_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = u32::try_from(max_concurrent.max(num_cores) + SPARE_INSTANCES).unwrap_or(u32::MAX);
    WasmEngine::pooled(count).map_err(from_core)
}

impl Platform {
    /// Opens the data directory. Events are handled from here on; jobs and schedules wait for [`Platform::start`].
    pub(crate) async fn open(data_dir: &Path, settings: Settings) -> anyhow::Result<Self> {
        // The trainer is this program itself.
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let trainer = CommandTemplate { program, args: vec!["trainer".into()] };
        let config =
            LocalConfig { definitions: BTreeMap::from([(TRAINER.into(), trainer)]), ..LocalConfig::new(data_dir) };
        let local = Arc::new(Local::open(config).await.map_err(from_core)?);
        let engines: Vec<Arc<dyn Engine>> =
            vec![Arc::new(wasm_engine(settings.serving.max_concurrent)?), Arc::new(TractEngine)];
        let compiler = Some(Arc::new(WasmCompiler::default()) as _);
        let app = App::new(local.ports(), Engines { engines: engines.clone(), compiler }, settings);
        let predictor = Predictor::start(local.ports(), engines.clone(), app.settings.serving.clone());
        let serving = Serving::new(predictor.clone());
        let control = ControlState {
            app: app.clone(),
            engines,
            history: Arc::new(History(local.events.clone())),
            limits: ControlLimits::default(),
        };
        let router = Router::new()
            .merge(control::router(control))
            .merge(predict::router(serving.clone()))
            .merge(health::router(serving))
            .merge(openapi::router(&openapi::document([ControlApi::openapi()])));
        let router = moola_api::finish(router, local.ids.clone());
        local.events.subscribe(REACTOR, EventFilter::all(), Arc::new(app.clone()));
        local.events.subscribe(
            SERVING,
            EventFilter::of("moola", ["Model Version Built", "Stage Changed"]),
            predictor.clone(),
        );
        // What serves is loaded before the first request can come.
        if let Err(error) = predictor.refresh().await {
            warn!(error = error.chain(), "what serves cannot be read yet");
        }
        Ok(Self { local, app, predictor, router })
    }

    /// Starts jobs and schedules, and takes up what a crash interrupted.
    pub(crate) async fn start(&self) -> anyhow::Result<()> {
        self.local.start().await.map_err(from_core)?;
        self.app.start().await.map_err(from_core)
    }

    /// All routes.
    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    /// A new identifier.
    pub(crate) fn new_id(&self) -> String {
        self.local.ids.new_id()
    }

    /// Waits until every event is handled; returns whether that was so in time.
    pub(crate) async fn settle(&self, limit: Duration) -> anyhow::Result<bool> {
        let end = Instant::now() + limit;
        loop {
            let mut num_waiting = 0;
            for name in [REACTOR, SERVING] {
                num_waiting += self.local.events.num_waiting(name).await.map_err(from_core)?;
            }
            if num_waiting == 0 {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops what runs so that it goes on after the next start.
    pub(crate) async fn close(self) {
        if let Err(error) = self.predictor.shutdown().await {
            warn!(error = error.chain(), "some predictions are not in the log");
        }
        self.local.shutdown().await;
    }
}
