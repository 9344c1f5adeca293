//! The engine: loads models for wasmtime.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use moola_core::Result;
use moola_core::ports::{Artifact, Engine, LoadedModel, ModelFormat};
use serde::{Deserialize, Serialize};
use tracing::warn;
use wasmtime::{Enabled, InstanceAllocationStrategy, Module, PoolingAllocationConfig};

use crate::model::WasmModel;
use crate::settings::{self, RUNTIME, Target};
use crate::ticker::{TICK, Ticker};
use crate::{container, invalid};

/// Limits of models and of their calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WasmConfig {
    /// The longest that a call of a module may take, for at most as many rows as it takes at once.
    pub deadline_ms: u64,
    /// The longest that a request may take, with all its rows: no further call begins after that.
    pub request_ms: u64,
    /// The largest memory of a module.
    pub max_memory_bytes: usize,
    /// Where instances come from.
    pub instances: Instances,
}

/// Bytes that a place of the pool keeps between requests.
const KEPT_BYTES: usize = 4 << 20;

/// Where the fresh instance of every request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Instances {
    /// Mapped when it is needed: for one request at a time.
    OnDemand,
    /// Taken from places that are reserved at the start: for a server that answers many requests at once. The number is the
    /// most that can run at once; further requests are refused as `Unavailable`.
    Pooled(u32),
}

impl Default for WasmConfig {
    fn default() -> Self {
        Self { deadline_ms: 1000, request_ms: 10_000, max_memory_bytes: 256 << 20, instances: Instances::OnDemand }
    }
}

/// Runs compiled models with wasmtime.
///
/// Every request gets a fresh instance of its model: nothing is left of what another one did. A module is checked
/// against the interface when it is loaded: it imports nothing, exports exactly what the interface says, and its memory
/// cannot grow.
///
/// # Safety
/// Machine code (`cwasm`) runs as it is. [`Engine::load`] refuses a file that is truncated, altered, or made for another
/// target, version or setting, but whoever can make a file can write a fitting header: the caller must have verified
/// the signature and digest of exactly these bytes, and nobody may change them while they are loaded (do not pass a map
/// of a file that others can write). A copy of them is kept, not the slice.
#[derive(Debug)]
pub struct WasmEngine {
    engine: wasmtime::Engine,
    config: WasmConfig,
    target: Option<&'static Target>,
    /// Runs while models are loaded.
    ticker: Mutex<Weak<Ticker>>,
}

impl WasmEngine {
    /// Makes an engine.
    ///
    /// # Errors
    /// `Invalid` where the configuration asks for what this machine does not give.
    pub fn new(config: WasmConfig) -> Result<Self> {
        let mut settings = settings::config();
        if let Instances::Pooled(count) = config.instances {
            let mut pool = PoolingAllocationConfig::new();
            pool.total_core_instances(count)
                .total_memories(count)
                .total_tables(count)
                .max_memories_per_module(1)
                .max_tables_per_module(1)
                .max_memory_size(config.max_memory_bytes)
                // Memory is cleaned by writing, not by giving pages back: faults cost more than the model otherwise.
                .linear_memory_keep_resident(KEPT_BYTES)
                .pagemap_scan(Enabled::Auto);
            settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
        let engine = wasmtime::Engine::new(&settings)
            .map_err(|error| invalid(format!("the engine cannot be set up for {config:?}: {error:#}")))?;
        Ok(Self { engine, config, target: Target::host(), ticker: Mutex::default() })
    }

    /// An engine with `count` places for instances, or, where the machine has no room for them, one that maps each when it is needed.
    ///
    /// # Errors
    /// Those of [`WasmEngine::new`].
    pub fn pooled(count: u32) -> Result<Self> {
        let pooled = Self::new(WasmConfig { instances: Instances::Pooled(count), ..WasmConfig::default() });
        pooled.or_else(|error| {
            warn!(
                error = error.chain(),
                "no room is reserved for instances of models: each is mapped when it is needed"
            );
            Self::new(WasmConfig::default())
        })
    }

    fn ticker(&self) -> Result<Arc<Ticker>> {
        let mut shared = self.ticker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ticker) = shared.upgrade() {
            return Ok(ticker);
        }
        let ticker = Arc::new(Ticker::start(&self.engine)?);
        *shared = Arc::downgrade(&ticker);
        Ok(ticker)
    }

    fn is_for_here(&self, artifact: &Artifact) -> bool {
        let fits = |target: &Target| {
            artifact.target.as_deref() == Some(target.name())
                && artifact.runtime.as_deref() == Some(RUNTIME)
                && artifact.compatibility.as_deref() == Some(target.compatibility().as_str())
        };
        artifact.format == ModelFormat::Cwasm && self.target.is_some_and(fits)
    }

    fn machine_code(&self, artifact: &Artifact, bytes: &[u8]) -> Result<Module> {
        let Some(target) = self.target.filter(|_| self.is_for_here(artifact)) else {
            let here = self.target.map_or("none".to_owned(), |target| format!("{} with {RUNTIME}", target.name()));
            let (target, runtime) = (&artifact.target, &artifact.runtime);
            return Err(invalid(format!(
                "`{}` is machine code for {target:?} with {runtime:?}, expected {here} with the same settings",
                artifact.file
            )));
        };
        let payload = container::open(target, bytes)?;
        // SAFETY: the caller verified who made the bytes (see the type's contract), the header says that they are whole
        // and for this machine, version and settings, and `deserialize` copies them.
        unsafe { Module::deserialize(&self.engine, payload) }
            .map_err(|error| invalid(format!("`{}` cannot be loaded: {error:#}", artifact.file)))
    }

    #[cfg(feature = "compiler")]
    fn compiled(&self, artifact: &Artifact, bytes: &[u8]) -> Result<Module> {
        crate::compiler::check(bytes)?;
        Module::new(&self.engine, bytes)
            .map_err(|error| invalid(format!("`{}` is not a module that can run: {error:#}", artifact.file)))
    }

    #[cfg(not(feature = "compiler"))]
    fn compiled(&self, artifact: &Artifact, _: &[u8]) -> Result<Module> {
        Err(invalid(format!("`{}` is no machine code, and there is no compiler here", artifact.file)))
    }
}

impl Engine for WasmEngine {
    fn name(&self) -> &'static str {
        "wasm"
    }

    fn choose<'a>(&self, artifacts: &'a [Artifact]) -> Option<&'a Artifact> {
        let code = artifacts.iter().find(|artifact| self.is_for_here(artifact));
        let module = || artifacts.iter().find(|artifact| artifact.format == ModelFormat::Wasm);
        code.or_else(|| cfg!(feature = "compiler").then(module).flatten())
    }

    fn load(&self, artifact: &Artifact, bytes: &[u8]) -> Result<Arc<dyn LoadedModel>> {
        let module = match artifact.format {
            ModelFormat::Cwasm => self.machine_code(artifact, bytes)?,
            ModelFormat::Wasm => self.compiled(artifact, bytes)?,
            ModelFormat::Onnx => {
                return Err(invalid(format!("`{}` is not compiled, expected a compiled model", artifact.file)));
            }
        };
        let ticks = Duration::from_millis(self.config.deadline_ms).as_nanos().div_ceil(TICK.as_nanos());
        // The tick that is under way counts as none.
        let deadline_ticks = u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1);
        Ok(Arc::new(WasmModel::load(&module, &self.config, deadline_ticks, self.ticker()?)?))
    }
}
