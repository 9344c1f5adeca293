//! What must hold whatever went wrong.

use std::collections::BTreeMap;

use moola_core::commit::sha256_hex;
use moola_core::contract::paths;
use moola_core::registry::Stage;
use moola_core::training::RunStatus;

use crate::platform::{MODEL, Platform};

/// Checks the invariants; `context` says what went wrong before.
pub(crate) async fn check(platform: &Platform, context: &str) {
    let context = || format!("{context}\n{:#?}", platform.faults.calls());
    assert!(platform.dead.is_empty(), "{:?} {}", platform.dead, context());
    let app = platform.memory_app();
    let ports = &app.ports;

    // Nothing is left to be told.
    let left: Vec<_> =
        platform.memory.table.items().into_iter().filter(|item| item.key.partition == "outbox").collect();
    assert!(left.is_empty(), "{left:?} {}", context());

    // Every run became one version, and every version comes from one run.
    let versions = app.registry.versions(MODEL).await.unwrap();
    let mut of_run = BTreeMap::new();
    for version in &versions {
        let run_id = version.lineage.run_id.clone().unwrap();
        assert_eq!(of_run.insert(run_id, version.version), None, "two versions of a run {}", context());
    }
    for run in app.training.list(usize::MAX).await.unwrap() {
        assert!(run.status.is_final(), "{run:?} {}", context());
        let version = of_run.remove(&run.run_id);
        if run.status == RunStatus::Completed {
            assert!(version.is_some(), "{run:?} {}", context());
        }
        if run.status != RunStatus::Cancelled {
            assert_eq!(run.model_version, version, "{run:?} {}", context());
        }
        let jobs = platform.jobs_of(&run.run_id).await;
        assert_eq!(jobs.len(), 1, "jobs of a run: {jobs:?} {}", context());
        assert_eq!(Some(&jobs[0].id), run.job_id.as_ref(), "{}", context());
    }
    assert!(of_run.is_empty(), "versions without a run: {of_run:?} {}", context());

    // One version serves at most, and the route names it.
    let live: Vec<u32> =
        versions.iter().filter(|version| version.stage == Stage::Production).map(|version| version.version).collect();
    assert!(live.len() <= 1, "{live:?} {}", context());
    assert_eq!(platform.serving().await, live.first().copied(), "{}", context());
    let route = app.registry.routes().await.unwrap().into_iter().find(|route| route.version.is_some());
    let served = versions.iter().find(|version| version.stage == Stage::Production);
    let named = route.map(|route| (route.manifest_sha256, route.build));
    let expected = served.map(|version| (Some(version.manifest_sha256.clone()), version.target().build));
    assert_eq!(named, expected, "{}", context());

    // The history replays to the stages, and every move was told of.
    let mut stages = BTreeMap::new();
    let moves = app.registry.history(MODEL, usize::MAX).await.unwrap();
    for entry in moves.iter().rev() {
        let before = stages.insert(entry.version, entry.to).unwrap_or(Stage::None);
        assert_eq!(before, entry.from, "{entry:?} {}", context());
    }
    for version in &versions {
        assert_eq!(version.stage, stages.get(&version.version).copied().unwrap_or(Stage::None), "{}", context());
    }
    assert_eq!(platform.count("Stage Changed"), moves.len(), "{}", context());
    assert_eq!(platform.count("Model Version Registered"), versions.len(), "{}", context());
    let runs = app.training.list(usize::MAX).await.unwrap();
    assert_eq!(platform.count("Run Ended"), runs.len(), "{}", context());
    assert_eq!(platform.count("Run Requested"), runs.len(), "{}", context());
    let judged = versions.iter().filter(|version| version.gates.is_some()).count();
    assert!(platform.count("Gates Judged") >= judged, "{}", context());

    // Everything that the registry names is there and is what was signed.
    for version in &versions {
        let package = version.package(&*ports.blobs, &*ports.signer).await;
        let package = package.unwrap_or_else(|error| panic!("{} {}", error.chain(), context()));
        for file in package.manifest.files.keys() {
            let read = package.file(&*ports.blobs, file).await;
            assert!(read.is_ok(), "{file}: {:?} {}", read.err(), context());
        }
        // A version that was judged was built before, and what was built is there.
        assert!(version.build.is_some() || version.gates.is_none(), "{version:?} {}", context());
        if let Some(build) = &package.build {
            for file in &build.files {
                let key = paths::build(MODEL, version.version, &build.build, &file.artifact.file);
                let bytes = ports.blobs.get(&key).await.unwrap();
                assert_eq!(sha256_hex(&bytes), file.digest.sha256, "{key} {}", context());
            }
            let (chosen, _) = app.builds.load(version).await.unwrap();
            assert_eq!(chosen.engine.name(), build.engine, "{}", context());
        }
        if version.gates.is_some() {
            app.gates.report(MODEL, version.version).await.unwrap_or_else(|error| panic!("{error} {}", context()));
        }
    }
    for number in app.registry.aliases(MODEL).await.unwrap().into_values() {
        assert!(versions.iter().any(|version| version.version == number), "{}", context());
    }
}
