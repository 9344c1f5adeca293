//! Models in memory: those in production, and others on demand.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tracing::{info, warn};

use super::log::LogStatus;
use super::{ModelReference, ServingConfig, ServingStatus};
use crate::contract::ModelManifest;
use crate::error::{Error, ErrorKind, Result};
use crate::inputs::{self, check_model, warm_model};
use crate::ports::{Engine, LoadedModel, Ports, Tensor};
use crate::registry::{BuildRef, NoEngine, Registry, Route, Target, choose_model};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// Most models that are loaded at the same time when what serves is read.
const MAX_LOADING: usize = 8;

/// A version in memory, verified and warm.
#[derive(Debug)]
pub struct Served {
    /// What it is.
    pub manifest: ModelManifest,
    /// SHA-256 of the manifest that was verified, in hex.
    pub manifest_sha256: String,
    /// The build that was verified; none where the version has none.
    pub build: Option<BuildRef>,
    /// What runs it: `native` or `wasm`.
    pub engine: &'static str,
    /// Bytes of the file that it was loaded from.
    pub size_bytes: u64,
    model: Arc<dyn LoadedModel>,
}

impl Served {
    fn is(&self, target: &Target) -> bool {
        self.manifest.model == target.model
            && self.manifest.version == target.version
            && self.manifest_sha256 == target.manifest_sha256
            && self.build == target.build
    }

    /// Runs the model and reads the prediction, row-major `[rows, classes]` or `[rows]`.
    pub(super) fn run(&self, tensors: Vec<Tensor>, num_rows: usize) -> Result<Vec<f64>> {
        let outputs = self.model.run(tensors)?;
        // The inputs were made here: whatever does not fit is no fault of the caller.
        inputs::read_output(&self.manifest, &*self.model, outputs, num_rows).map_err(|error| {
            let name = format!("{}/{}", self.manifest.model, self.manifest.version);
            Error::internal(format!("model version `{name}` answered what is no prediction")).with_source(error)
        })
    }
}

/// A version in production, as the status tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedModel {
    /// Registered model.
    pub model: String,
    /// The version.
    pub version: u32,
    /// What runs it: `native` or `wasm`.
    pub engine: String,
    /// The build that serves; absent where the version has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Bytes of the file that it was loaded from.
    pub size_bytes: u64,
    /// When it was registered, milliseconds since the epoch.
    pub created_ms: i64,
}

/// A version that should serve and cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degraded {
    /// Registered model.
    pub model: String,
    /// The version that should serve.
    pub version: u32,
    /// The last good version, which serves instead; `None` where there is none.
    pub serving: Option<u32>,
    /// Why.
    pub reason: String,
}

/// A version that should serve, by an engine that this program lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// Registered model.
    pub model: String,
    /// The version that should serve.
    pub version: u32,
    /// Why it cannot serve here.
    pub reason: String,
}

#[derive(Debug)]
struct Failure {
    target: Target,
    reason: String,
    retry_at: Instant,
    pause: Duration,
}

#[derive(Debug, Default)]
struct Production {
    is_ready: bool,
    routes: HashMap<String, Arc<Served>>,
    /// Versions that serve and for which there is no room here: they are loaded on demand.
    on_demand: HashMap<String, u32>,
    /// What no engine here can serve.
    elsewhere: BTreeMap<String, (Target, String)>,
    failures: BTreeMap<String, Failure>,
    registry_error: Option<String>,
}

type Slot = Arc<OnceCell<Arc<Served>>>;

/// A version on demand.
#[derive(Debug, Default)]
struct Entry {
    slot: Slot,
    /// When it was last used, in ticks of the cache.
    tick: u64,
    /// When the registry was last asked for its build.
    checked_at: Option<Instant>,
}

/// Versions on demand, and what references were last found to mean.
#[derive(Debug, Default)]
struct Cache {
    versions: HashMap<(String, u32), Entry>,
    references: HashMap<(String, String), (u32, Instant)>,
    tick: u64,
}

#[derive(Debug)]
pub(super) struct Models {
    ports: Ports,
    registry: Registry,
    engines: Vec<Arc<dyn Engine>>,
    max_loaded_bytes: u64,
    reference_ttl: Duration,
    production: Mutex<Production>,
    cache: Mutex<Cache>,
    refreshing: tokio::sync::Mutex<()>,
    /// When the routes were last looked for, milliseconds since the epoch.
    looked_ms: AtomicI64,
    /// When the last look began that found the routes.
    found_ms: AtomicI64,
}

/// Locks; every change is made in one step, so a panic of another holder leaves usable data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Models {
    pub(super) fn new(ports: Ports, engines: Vec<Arc<dyn Engine>>, config: &ServingConfig) -> Self {
        Self {
            registry: Registry::new(ports.clone()),
            ports,
            engines,
            max_loaded_bytes: config.max_loaded_bytes,
            reference_ttl: Duration::from_millis(config.refresh_ms),
            production: Mutex::default(),
            cache: Mutex::default(),
            refreshing: tokio::sync::Mutex::new(()),
            looked_ms: AtomicI64::new(i64::MIN),
            found_ms: AtomicI64::new(i64::MIN),
        }
    }

    pub(super) fn status(&self) -> ServingStatus {
        let production = lock(&self.production);
        let mut models: Vec<ServedModel> = production
            .routes
            .values()
            .map(|served| ServedModel {
                model: served.manifest.model.clone(),
                version: served.manifest.version,
                engine: served.engine.into(),
                build: served.build.as_ref().map(|build| build.id.clone()),
                size_bytes: served.size_bytes,
                created_ms: served.manifest.created_ms,
            })
            .collect();
        models.sort_by(|a, b| a.model.cmp(&b.model));
        let degraded = production.failures.iter().map(|(model, failure)| Degraded {
            model: model.clone(),
            version: failure.target.version,
            serving: production.routes.get(model).map(|served| served.manifest.version),
            reason: failure.reason.clone(),
        });
        let elsewhere = production.elsewhere.values().map(|(target, reason)| Elsewhere {
            model: target.model.clone(),
            version: target.version,
            reason: reason.clone(),
        });
        let others = self.on_demand(&production);
        ServingStatus {
            is_ready: production.is_ready,
            num_loaded: models.len() + others.len(),
            loaded_bytes: models.iter().map(|model| model.size_bytes).chain(others).sum(),
            degraded: degraded.collect(),
            elsewhere: elsewhere.collect(),
            models,
            registry_error: production.registry_error.clone(),
            num_in_flight: 0,
            log: LogStatus::default(),
            time_ms: 0,
        }
    }

    /// Bytes of the versions in memory that are not in production.
    fn on_demand(&self, production: &Production) -> Vec<u64> {
        let cache = lock(&self.cache);
        let loaded = cache.versions.values().filter_map(|entry| entry.slot.get());
        let serves = |served: &Served| {
            production
                .routes
                .get(&served.manifest.model)
                .is_some_and(|it| it.manifest.version == served.manifest.version)
        };
        loaded.filter(|served| !serves(served)).map(|served| served.size_bytes).collect()
    }

    /// Makes the next refresh try again what failed.
    pub(super) fn forget_failures(&self) {
        for failure in lock(&self.production).failures.values_mut() {
            failure.retry_at = Instant::now();
        }
    }

    /// Whether the routes were looked for after `since_ms`, with whatever success.
    pub(super) fn has_looked_since(&self, since_ms: i64) -> bool {
        self.looked_ms.load(Ordering::Relaxed) > since_ms
    }

    /// When the last look began that found the routes, milliseconds since the epoch.
    pub(super) fn found_ms(&self) -> i64 {
        self.found_ms.load(Ordering::Relaxed)
    }

    /// Reads the routes and loads what is new.
    pub(super) async fn refresh(&self) -> Result<()> {
        let _one_at_a_time = self.refreshing.lock().await;
        self.look().await
    }

    /// As [`Models::refresh`], unless somebody looked after `since_ms`; waits for whoever is looking now.
    pub(super) async fn freshen(&self, since_ms: i64) -> Result<()> {
        let _one_at_a_time = self.refreshing.lock().await;
        if self.has_looked_since(since_ms) { Ok(()) } else { self.look().await }
    }

    async fn look(&self) -> Result<()> {
        let started_ms = self.ports.clock.now_ms();
        self.looked_ms.store(started_ms, Ordering::Relaxed);
        let routes = match self.registry.routes().await {
            Ok(routes) => routes,
            Err(error) => {
                let mut production = lock(&self.production);
                if production.registry_error.is_none() {
                    warn!(error = error.chain(), "the routes cannot be read; what serves goes on serving");
                }
                production.registry_error = Some(error.chain());
                return Err(error);
            }
        };
        let wanted: Vec<Target> = routes.into_iter().filter_map(target).collect();
        let changed: Vec<Target> = {
            let mut production = lock(&self.production);
            production.registry_error = None;
            let wants = |model: &str| wanted.iter().any(|wanted| wanted.model == model);
            production.routes.retain(|model, _| wants(model));
            production.failures.retain(|_, failure| wanted.contains(&failure.target));
            production.elsewhere.retain(|_, (target, _)| wanted.contains(target));
            wanted.iter().filter(|target| production.must_load(target)).cloned().collect()
        };
        let num_changed = changed.len();
        let outcomes = stream::iter(changed).map(|target| async move {
            if lock(&self.production).is_full(&target.model, self.max_loaded_bytes) {
                return Some((target.model, target.version));
            }
            let loaded = self.load(&target).await;
            lock(&self.production).swap(target, loaded);
            None
        });
        let outcomes: Vec<Option<(String, u32)>> = outcomes.buffer_unordered(MAX_LOADING).collect().await;
        let on_demand: HashMap<String, u32> = outcomes.into_iter().flatten().collect();
        let num_loaded = num_changed - on_demand.len();
        lock(&self.production).finish(on_demand);
        if num_loaded > 0 {
            self.evict(None);
        }
        self.found_ms.store(started_ms, Ordering::Relaxed);
        Ok(())
    }

    /// The version that a reference names, loaded.
    pub(super) async fn find(&self, reference: &ModelReference) -> Result<Arc<Served>> {
        let ModelReference { model, reference } = reference;
        if reference == "production" {
            return self.in_production(model).await;
        }
        let version = match reference.parse::<u32>() {
            Ok(version) => version,
            Err(_) => self.resolve(model, reference).await?,
        };
        self.version(model, version).await
    }

    async fn in_production(&self, model: &str) -> Result<Arc<Served>> {
        let on_demand = {
            let production = lock(&self.production);
            if let Some(served) = production.routes.get(model) {
                return Ok(served.clone());
            }
            if let Some((target, reason)) = production.elsewhere.get(model) {
                return Err(cannot_load(model, target.version).with_source(NoEngine(reason.clone())));
            }
            if let Some(failure) = production.failures.get(model) {
                let version = failure.target.version;
                return Err(cannot_load(model, version).with_source(Error::unavailable(failure.reason.clone())));
            }
            production.on_demand.get(model).copied()
        };
        if let Some(version) = on_demand {
            return self.version(model, version).await;
        }
        // Either there is nothing, which the registry says best, or it was not loaded yet.
        let version = self.registry.resolve(model, "production").await?;
        self.version(model, version.version).await
    }

    async fn resolve(&self, model: &str, reference: &str) -> Result<u32> {
        let key = (model.to_owned(), reference.to_owned());
        let known = lock(&self.cache).references.get(&key).copied();
        if let Some((version, found_at)) = known
            && found_at.elapsed() < self.reference_ttl
        {
            return Ok(version);
        }
        match self.registry.resolve(model, reference).await {
            Ok(version) => {
                lock(&self.cache).references.insert(key, (version.version, Instant::now()));
                Ok(version.version)
            }
            Err(error) => match known {
                Some((version, _)) if error.is_retryable() => Ok(version),
                _ => {
                    lock(&self.cache).references.remove(&key);
                    Err(error)
                }
            },
        }
    }

    /// A version, loaded once however many ask for it at the same time, and again where its build changed.
    async fn version(&self, model: &str, version: u32) -> Result<Arc<Served>> {
        {
            let production = lock(&self.production);
            if let Some(served) = production.routes.get(model).filter(|served| served.manifest.version == version) {
                return Ok(served.clone());
            }
            let elsewhere = production.elsewhere.get(model).filter(|(target, _)| target.version == version);
            if let Some((_, reason)) = elsewhere {
                return Err(cannot_load(model, version).with_source(NoEngine(reason.clone())));
            }
        }
        let key = (model.to_owned(), version);
        let mut slot = self.touch(&key);
        if let Some(served) = slot.get().cloned()
            && self.must_check(&key)
        {
            match self.registry.version(model, version).await {
                Ok(record) if !served.is(&record.target()) => {
                    lock(&self.cache).versions.remove(&key);
                    slot = self.touch(&key);
                }
                // What cannot be asked for now goes on serving.
                _ => {}
            }
        }
        let was_loaded = slot.initialized();
        let loaded = slot
            .get_or_try_init(|| async {
                let record = self.registry.version(model, version).await?;
                self.load(&record.target()).await.map(Arc::new)
            })
            .await;
        match loaded {
            Ok(served) => {
                if !was_loaded {
                    self.evict(Some(&key));
                }
                Ok(served.clone())
            }
            Err(error) => {
                let mut cache = lock(&self.cache);
                if cache.versions.get(&key).is_some_and(|entry| !entry.slot.initialized()) {
                    cache.versions.remove(&key);
                }
                let is_unknown = error.kind() == ErrorKind::NotFound && error.to_string().starts_with("model ");
                let is_bad_name = error.kind() == ErrorKind::Invalid && error.to_string().starts_with("`model`");
                if is_unknown || is_bad_name {
                    return Err(error);
                }
                Err(cannot_load(model, version).with_source(error))
            }
        }
    }

    /// The slot of a version, used now.
    fn touch(&self, key: &(String, u32)) -> Slot {
        let mut cache = lock(&self.cache);
        cache.tick += 1;
        let tick = cache.tick;
        let entry = cache.versions.entry(key.clone()).or_default();
        entry.tick = tick;
        entry.checked_at.get_or_insert_with(Instant::now);
        entry.slot.clone()
    }

    /// Whether the registry was not asked for the version's build for a while; then the caller asks.
    fn must_check(&self, key: &(String, u32)) -> bool {
        let mut cache = lock(&self.cache);
        let Some(entry) = cache.versions.get_mut(key) else { return false };
        let is_old = entry.checked_at.is_none_or(|checked_at| checked_at.elapsed() >= self.reference_ttl);
        if is_old {
            entry.checked_at = Some(Instant::now());
        }
        is_old
    }

    /// Drops the least recently used versions on demand while there are too many bytes; never `keep`.
    fn evict(&self, keep: Option<&(String, u32)>) {
        let in_production = lock(&self.production).loaded_bytes();
        let mut cache = lock(&self.cache);
        loop {
            let loaded = cache.versions.iter().filter_map(|(key, entry)| Some((key, entry.slot.get()?, entry.tick)));
            let bytes: u64 = loaded.clone().map(|(_, served, _)| served.size_bytes).sum();
            if in_production + bytes <= self.max_loaded_bytes {
                return;
            }
            let oldest = loaded.filter(|(key, ..)| Some(*key) != keep).min_by_key(|(.., tick)| *tick);
            let Some(key) = oldest.map(|(key, ..)| key.clone()) else { return };
            info!(model = key.0, version = key.1, "dropped from memory");
            cache.versions.remove(&key);
        }
    }

    async fn load(&self, target: &Target) -> Result<Served> {
        let chosen = choose_model(&self.ports, &self.engines, target).await?;
        let (manifest_sha256, build) = (target.manifest_sha256.clone(), target.build.clone());
        let done = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let loaded = chosen.load()?;
            let manifest = chosen.package.manifest;
            check_model(&manifest, &*loaded)?;
            warm_model(&manifest, &*loaded)?;
            let (engine, file) = (chosen.engine.name(), chosen.artifact.file);
            let took_ms = started.elapsed().as_millis();
            info!(model = manifest.model, version = manifest.version, engine, file, took_ms, "loaded");
            let size_bytes = chosen.bytes.len() as u64;
            Ok(Served { manifest, manifest_sha256, build, engine, size_bytes, model: loaded })
        });
        done.await.map_err(|e| Error::internal("loading a model").with_source(e))?
    }
}

fn cannot_load(model: &str, version: u32) -> Error {
    Error::unavailable(format!("model version `{model}/{version}` cannot be loaded")).with_hint("GET /ready says why")
}

fn target(route: Route) -> Option<Target> {
    let Route { model, version, manifest_sha256, build, .. } = route;
    Some(Target { model, version: version?, manifest_sha256: manifest_sha256?, build })
}

impl Production {
    fn must_load(&self, target: &Target) -> bool {
        let model = &target.model;
        let serves = self.routes.get(model).is_some_and(|served| served.is(target));
        let waits = self.failures.get(model).is_some_and(|failure| failure.retry_at > Instant::now());
        !serves && !waits && !self.elsewhere.contains_key(model)
    }

    fn loaded_bytes(&self) -> u64 {
        self.routes.values().map(|served| served.size_bytes).sum()
    }

    /// Whether there is no room for `model`. A version that takes the place of another always has room.
    fn is_full(&self, model: &str, max_loaded_bytes: u64) -> bool {
        !self.routes.contains_key(model) && self.loaded_bytes() >= max_loaded_bytes
    }

    /// Ends a look that left `on_demand` for the requests to load.
    fn finish(&mut self, on_demand: HashMap<String, u32>) {
        self.failures.retain(|model, _| !on_demand.contains_key(model));
        if on_demand.len() > self.on_demand.len() {
            warn!(num_models = on_demand.len(), "`max_loaded_bytes` is reached; these models are loaded on demand");
        }
        self.on_demand = on_demand;
        self.is_ready = true;
    }

    fn swap(&mut self, target: Target, loaded: Result<Served>) {
        let (model, version) = (target.model.clone(), target.version);
        match loaded {
            Ok(served) => {
                let engine = served.engine;
                let before = self.routes.insert(model.clone(), Arc::new(served));
                self.failures.remove(&model);
                info!(model, version, engine, before = before.map(|served| served.manifest.version), "serves");
            }
            Err(error) if NoEngine::caused(&error) => {
                let reason = error.chain();
                info!(model, version, reason, "serves elsewhere");
                self.routes.remove(&model);
                self.failures.remove(&model);
                self.elsewhere.insert(model, (target, reason));
            }
            Err(error) => {
                let reason = error.chain();
                let before = self.failures.get(&model);
                if before.is_none_or(|before| before.reason != reason) {
                    let serving = self.routes.get(&model).map(|served| served.manifest.version);
                    warn!(model, version, serving, reason, "cannot be served; the last good version goes on");
                }
                let pause = before.map_or(FIRST_RETRY, |before| (before.pause * 2).min(LAST_RETRY));
                let failure = Failure { target, reason, retry_at: Instant::now() + pause, pause };
                self.failures.insert(model, failure);
            }
        }
    }
}
