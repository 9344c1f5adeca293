//! How a version is built: by an operator, by another compiler, by several at once, over files that somebody altered.

use std::sync::Arc;

use bytes::Bytes;
use moola_core::ErrorKind;
use moola_core::builds::{BuildConfig, Builds, Engines};
use moola_core::contract::{EngineChoice, paths};
use moola_core::ports::{Engine, PutMode};
use moola_core::registry::{Stage, Version, choose_model};
use moola_core::testkit::{ToyCompiler, ToyEngine};

use crate::invariants;
use crate::platform::{MODEL, Order, Platform, WINDOW, at_every_call, by_hand, insist};

async fn record(platform: &Platform, version: u32) -> Version {
    platform.memory_app().registry.version(MODEL, version).await.unwrap()
}

async fn engine(platform: &Platform) -> (String, EngineChoice) {
    let build = record(platform, 1).await.build.unwrap();
    (build.engine, build.choice)
}

/// An operator's wish is done in full or not at all, and once, whatever fails.
#[tokio::test]
async fn an_operator_chooses_the_engine_whatever_fails() {
    let num_points = at_every_call(async |call, fault| {
        let context = format!("{fault:?} at {call}");
        let mut platform = Platform::with_versions(1).await;
        assert_eq!(engine(&platform).await, ("wasm".into(), EngineChoice::Auto));
        platform.faults.plan(call, fault);
        for choice in [EngineChoice::Native, EngineChoice::Wasm] {
            let wish = || async {
                platform.faults.revive_if_dead();
                platform.app.builds.build(MODEL, 1, choice, &by_hand()).await
            };
            insist(wish).await.unwrap();
        }
        let has_hit = platform.recover().await;
        platform.deliver(Order::Shuffled(call as u64)).await;
        platform.echo(Order::Reversed).await;
        invariants::check(&platform, &context).await;
        assert_eq!(engine(&platform).await, ("wasm".into(), EngineChoice::Wasm), "{context}");
        assert_eq!(record(&platform, 1).await.build.unwrap().decision.as_deref(), Some("by hand"), "{context}");
        // At registering, and twice by the operator.
        assert_eq!(platform.count("Model Version Built"), 3, "{context} {:#?}", platform.faults.calls());
        has_hit
    })
    .await;
    println!("builds by hand: {num_points} fault points");
    assert!(num_points >= 40, "{num_points}");
}

/// Another compiler builds what serves anew; what an operator chose stays.
#[tokio::test]
async fn a_stale_build_is_made_anew_whatever_fails() {
    let num_points = at_every_call(async |call, fault| {
        let context = format!("{fault:?} at {call}");
        let mut platform = Platform::with_versions(2).await;
        platform.app.builds.build(MODEL, 1, EngineChoice::Native, &by_hand()).await.unwrap();
        let before = record(&platform, 2).await.build.unwrap();
        platform.fingerprint = "toy 2";
        platform.restart().await.unwrap();
        platform.faults.plan(call, fault);
        // What fails is logged, and done at the next time.
        let _ = platform.maintain().await;
        let has_hit = platform.recover().await;
        platform.maintain().await.unwrap();
        platform.deliver(Order::Shuffled(call as u64)).await;
        invariants::check(&platform, &context).await;
        let after = record(&platform, 2).await.build.unwrap();
        assert_ne!(after.reference, before.reference, "{context}");
        assert_eq!((after.fingerprint.as_str(), after.engine.as_str()), ("toy 2", "wasm"), "{context}");
        assert_eq!(engine(&platform).await, ("native".into(), EngineChoice::Native), "{context}");
        assert_eq!(platform.count("Model Version Built"), 4, "{context}");
        // An old version that is promoted again is built as well, unless an operator chose.
        platform.app.registry.rollback(MODEL, None, &by_hand()).await.unwrap();
        platform.deliver(Order::AsTold).await;
        assert_eq!(engine(&platform).await, ("native".into(), EngineChoice::Native), "{context}");
        has_hit
    })
    .await;
    println!("stale builds: {num_points} fault points");
    assert!(num_points >= 24, "{num_points}");
}

/// Builds, promotions and roll-backs at once: the route always names the build of the version that it names.
#[tokio::test]
async fn several_build_one_version_at_once() {
    for seed in 0..60 {
        let mut platform = Platform::with_versions(2).await;
        platform.fingerprint = "toy 2";
        platform.restart().await.unwrap();
        platform.faults.interleave(seed);
        let builds = &platform.app.builds;
        let wish = |choice| insist(move || async move { builds.build(MODEL, 2, choice, &by_hand()).await });
        let upkeep = || insist(|| builds.refresh());
        let move_away = async {
            let _ = platform.app.registry.rollback(MODEL, None, &by_hand()).await;
            let _ = platform.app.registry.transition(MODEL, 2, Stage::Production, &by_hand()).await;
        };
        let (auto, native, wasm, first, second, ()) = futures::join!(
            wish(EngineChoice::Auto),
            wish(EngineChoice::Native),
            wish(EngineChoice::Wasm),
            upkeep(),
            upkeep(),
            move_away
        );
        for built in [auto, native, wasm] {
            built.unwrap();
        }
        first.unwrap();
        second.unwrap();
        platform.deliver(Order::Shuffled(seed)).await;
        invariants::check(&platform, &format!("seed {seed}")).await;
        // Upkeep never undoes what an operator asked for.
        let build = record(&platform, 2).await.build.unwrap();
        assert_eq!(build.actor, "somebody", "seed {seed}: {build:?}");
    }
}

/// Whatever of a build was altered, nothing of it is loaded.
#[tokio::test]
async fn altered_builds_are_refused_before_an_engine_sees_them() {
    let platform = Platform::with_versions(2).await;
    let record = record(&platform, 2).await;
    let id = record.build.clone().unwrap().reference.id;
    let ports = platform.memory.ports();
    let key = |file: &str| paths::build(MODEL, 2, &id, file);
    let other = platform.memory_app().registry.version(MODEL, 1).await.unwrap().build.unwrap().reference.id;
    let of_other = async |file: &str| ports.blobs.get(&paths::build(MODEL, 1, &other, file)).await.unwrap();
    let flip = async |file: &str, place: usize| {
        let mut bytes = ports.blobs.get(&key(file)).await.unwrap().to_vec();
        bytes[place] ^= 1;
        Bytes::from(bytes)
    };
    let signature = {
        let stranger = moola_core::memory::MemorySigner::new(b"a stranger");
        let bytes = ports.blobs.get(&key(paths::BUILD)).await.unwrap();
        let signature = moola_core::ports::Signer::sign(&stranger, &bytes).await.unwrap();
        let sha256 = moola_core::commit::sha256_hex(&bytes);
        Bytes::from(serde_json::to_vec(&serde_json::json!({"build_sha256": sha256, "signature": signature})).unwrap())
    };
    let altered = [
        ("toy.cwasm", flip("toy.cwasm", 3).await),
        ("toy.cwasm", Bytes::from_static(b"compiled 7")),
        ("toy.cwasm", of_other("toy.cwasm").await.slice(1..)),
        (paths::BUILD, flip(paths::BUILD, 40).await),
        // Signed in good order, but of another version.
        (paths::BUILD, of_other(paths::BUILD).await),
        (paths::SIGNATURE, of_other(paths::SIGNATURE).await),
        (paths::SIGNATURE, signature),
        (paths::SIGNATURE, Bytes::from_static(b"{}")),
    ];
    for (file, bytes) in altered {
        let wasm = ToyEngine::wasm(WINDOW);
        let engines: Vec<Arc<dyn Engine>> = vec![wasm.clone(), ToyEngine::native(WINDOW)];
        let good = ports.blobs.get(&key(file)).await.unwrap();
        assert_ne!(good, bytes, "{file}");
        ports.blobs.put(&key(file), bytes, PutMode::Overwrite).await.unwrap();
        let error = choose_model(&ports, &engines, &record.target()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Forbidden), "{file}: {}", error.chain());
        let builds = Builds::new(ports.clone(), engines, BuildConfig::default());
        assert_eq!(builds.load(&record).await.unwrap_err().kind(), error.kind(), "{file}");
        assert_eq!(wasm.loads(), Vec::<String>::new(), "{file}");
        ports.blobs.put(&key(file), good, PutMode::Overwrite).await.unwrap();
    }
    // A whole build of another version under this one's name, with its own good signature.
    for file in [paths::BUILD, paths::SIGNATURE] {
        ports.blobs.put(&key(file), of_other(file).await, PutMode::Overwrite).await.unwrap();
    }
    let engines: Vec<Arc<dyn Engine>> = vec![ToyEngine::wasm(WINDOW), ToyEngine::native(WINDOW)];
    let error = choose_model(&ports, &engines, &record.target()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.chain());
}

/// The id of a build can be foretold: what somebody laid there before is neither run nor signed.
#[tokio::test]
async fn files_that_lie_there_before_are_not_adopted() {
    let platform = Platform::with_versions(1).await;
    // What the next compiler's build will be called, found out on a twin of this platform.
    let twin = Platform::with_versions(1).await;
    let engines = |wasm: &Arc<ToyEngine>| Engines {
        engines: vec![wasm.clone(), ToyEngine::native(WINDOW)],
        compiler: Some(ToyCompiler::new("toy 2")),
    };
    let build = async |platform: &Platform, wasm: &Arc<ToyEngine>| {
        let config = BuildConfig { max_slowdown: 1e9, ..BuildConfig::default() };
        let builds = Builds::new(platform.memory.ports(), engines(wasm), config);
        builds.build(MODEL, 1, EngineChoice::Wasm, &by_hand()).await
    };
    let shape = |record: &Version| record.manifest_sha256.clone();
    assert_eq!(shape(&record(&platform, 1).await), shape(&record(&twin, 1).await), "the twins are alike");
    let made = build(&twin, &ToyEngine::wasm(WINDOW)).await.unwrap().build.unwrap().reference;
    let ports = platform.memory.ports();
    let before = record(&platform, 1).await;
    for file in ["toy.cwasm", "model.wasm", paths::BUILD] {
        let key = paths::build(MODEL, 1, &made.id, file);
        let honest = twin.memory.ports().blobs.get(&key).await.unwrap();
        let forged = if file == paths::BUILD {
            String::from_utf8_lossy(&honest).replace("\"size_bytes\": 3", "\"size_bytes\": 4").into()
        } else {
            Bytes::from_static(b"compiled 7")
        };
        assert_ne!(forged, honest);
        ports.blobs.put(&key, forged, PutMode::Overwrite).await.unwrap();
        let wasm = ToyEngine::wasm(WINDOW);
        let error = build(&platform, &wasm).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{file}: {}", error.chain());
        assert!(error.to_string().contains(&key), "{error}");
        assert!(wasm.loads().iter().all(|bytes| !bytes.contains('7')), "{:?}", wasm.loads());
        let signature = ports.blobs.get(&paths::build(MODEL, 1, &made.id, paths::SIGNATURE)).await;
        assert_eq!(signature.unwrap_err().kind(), ErrorKind::NotFound, "{file}");
        assert_eq!(record(&platform, 1).await, before, "{file}");
        ports.blobs.delete(&key).await.unwrap();
    }
    build(&platform, &ToyEngine::wasm(WINDOW)).await.unwrap();
}
