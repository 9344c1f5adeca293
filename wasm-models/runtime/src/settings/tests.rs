use std::hash::{Hash, Hasher};

use super::*;

#[test]
fn the_runtime_is_the_one_that_is_linked() {
    let lock = include_str!("../../../../Cargo.lock");
    let version = RUNTIME.strip_prefix("wasmtime ").expect("name and version");
    assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{version}\"\n")));
}

#[test]
fn every_feature_has_a_name_that_wasmtime_knows() {
    for feature in SETTINGS.features {
        assert!(WasmFeatures::from_name(feature).is_some(), "{feature}");
    }
}

/// FNV-1a: the same in every process and version of Rust.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What wasmtime itself says of the settings, beside the hash of this crate: where one changes, so must the other. It is
/// the same whatever features other crates turn on in wasmtime.
#[test]
fn the_hash_covers_what_wasmtime_was_told() {
    let hashes = TARGETS.each_ref().map(|target| {
        let engine = wasmtime::Engine::new(&target.compiling().expect("settings")).expect("an engine");
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        (target.name(), format!("{:016x}", hasher.finish()), target.compatibility()[..16].to_owned())
    });
    let expected =
        [("x86_64-avx2", "582439e92621c1d0", "8a7abb6bd090c5b6"), ("aarch64", "4c3836fd1451dce3", "4342a1c8a4580787")];
    assert_eq!(hashes.each_ref().map(|(name, theirs, ours)| (*name, theirs.as_str(), ours.as_str())), expected);
}
