//! What machine code depends on besides the module: the targets, and the settings of wasmtime, the same for making it
//! and for loading it.

use moola_core::{Error, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use wasmtime::{Config, ModuleVersionStrategy, WasmFeatures};

/// The runtime that machine code is for, as manifests name it.
pub const RUNTIME: &str = "wasmtime 48.0.8";

/// A kind of machine that machine code is made for.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    name: &'static str,
    triple: &'static str,
    /// Cranelift's flags that are on; all others are off, whatever the machine has that compiles.
    flags: &'static [&'static str],
}

/// The targets, x86-64 first.
pub static TARGETS: [Target; 2] = [
    Target {
        name: "x86_64-avx2",
        triple: "x86_64-unknown-linux-gnu",
        flags: &[
            "has_sse3",
            "has_ssse3",
            "has_sse41",
            "has_sse42",
            "has_popcnt",
            "has_avx",
            "has_avx2",
            "has_fma",
            "has_bmi1",
            "has_bmi2",
            "has_lzcnt",
        ],
    },
    Target { name: "aarch64", triple: "aarch64-unknown-linux-gnu", flags: &[] },
];

impl Target {
    /// The target of this machine; `None` where it has another system or processor.
    #[must_use]
    pub fn host() -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.is_host())
    }

    /// The target of this name.
    ///
    /// # Errors
    /// `Invalid` where there is none.
    pub fn named(name: &str) -> Result<&'static Self> {
        TARGETS.iter().find(|target| target.name == name).ok_or_else(|| {
            let names = TARGETS.iter().map(Self::name).collect::<Vec<_>>();
            Error::invalid("target", name, format!("one of {names:?}"))
        })
    }

    /// Its name in manifests and file names: `x86_64-avx2`, `aarch64`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The flags of its instruction set, in one line.
    pub(crate) fn flags(&self) -> String {
        self.flags.join(",")
    }

    /// SHA-256, in hex, of everything that decides whether machine code for this target can be loaded: version of
    /// wasmtime, target with its flags, and the settings of the engine.
    #[must_use]
    pub fn compatibility(&self) -> String {
        let parts = serde_json::json!({ "runtime": RUNTIME, "target": self, "settings": SETTINGS });
        hex::encode(Sha256::digest(parts.to_string()))
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn is_host(&self) -> bool {
        use std::arch::is_x86_feature_detected;
        self.name == "x86_64-avx2"
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
    }

    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    fn is_host(&self) -> bool {
        self.name == "aarch64"
    }

    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    fn is_host(&self) -> bool {
        false
    }

    /// Sets an engine up to compile for this target, and for nothing else.
    #[cfg(feature = "compiler")]
    pub(crate) fn compiling(&self) -> Result<Config> {
        let mut config = config();
        config.target(self.triple).map_err(|error| Error::internal(format!("target `{}`: {error:#}", self.name)))?;
        for flag in self.flags {
            // SAFETY: the flags say which instructions the machine has. Code that uses them is loaded only where
            // `is_host` found them.
            unsafe { config.cranelift_flag_enable(flag) };
        }
        Ok(config)
    }
}

/// Settings that machine code depends on.
#[derive(Debug, Serialize)]
struct Settings {
    /// Proposals of WebAssembly that a module may use.
    features: &'static [&'static str],
    memory_reservation_bytes: u64,
    memory_guard_bytes: u64,
    memory_init_cow: bool,
    /// Sparse memories up to this size are still mapped, not copied.
    dense_image_bytes: u64,
    signals_based_traps: bool,
    epoch_interruption: bool,
}

/// Four gibibytes and a guard are reserved for every memory, so that no access needs a check of its bounds; a memory is
/// mapped from an image, page by page, when it is touched.
const SETTINGS: Settings = Settings {
    features: &[
        "FLOATS",
        "MUTABLE_GLOBAL",
        "SATURATING_FLOAT_TO_INT",
        "SIGN_EXTENSION",
        "MULTI_VALUE",
        "BULK_MEMORY",
        "SIMD",
        "RELAXED_SIMD",
    ],
    memory_reservation_bytes: 4 << 30,
    memory_guard_bytes: 32 << 20,
    memory_init_cow: true,
    dense_image_bytes: 256 << 20,
    signals_based_traps: true,
    epoch_interruption: true,
};

/// The settings of every engine of this crate. What is left open here does not depend on the machine or on the
/// features that other crates turn on in wasmtime.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config.wasm_features(WasmFeatures::all(), false);
    for feature in SETTINGS.features {
        if let Some(feature) = WasmFeatures::from_name(feature) {
            config.wasm_features(feature, true);
        }
    }
    config
        .memory_reservation(SETTINGS.memory_reservation_bytes)
        .memory_guard_size(SETTINGS.memory_guard_bytes)
        .memory_may_move(false)
        .guard_before_linear_memory(true)
        .memory_init_cow(SETTINGS.memory_init_cow)
        .memory_guaranteed_dense_image_size(SETTINGS.dense_image_bytes)
        .signals_based_traps(SETTINGS.signals_based_traps)
        .epoch_interruption(SETTINGS.epoch_interruption)
        .consume_fuel(false)
        .relaxed_simd_deterministic(false)
        .concurrency_support(false)
        .table_lazy_init(true)
        // A model's stack is shallow; more is a runaway recursion.
        .max_wasm_stack(256 << 10)
        // Names and positions of a model's instructions help nobody, and cost size.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .native_unwind_info(false)
        .debug_info(false)
        .debug_symbols(false);
    #[cfg(feature = "compiler")]
    config
        .strategy(wasmtime::Strategy::Cranelift)
        .cranelift_opt_level(wasmtime::OptLevel::Speed)
        .cranelift_nan_canonicalization(false)
        .compiler_inlining(wasmtime::Inlining::No);
    // Cannot fail: it is shorter than 256 bytes.
    if let Err(error) = config.module_version(ModuleVersionStrategy::Custom(RUNTIME.to_owned())) {
        tracing::error!("{error:#}");
    }
    config
}

#[cfg(test)]
mod tests;
