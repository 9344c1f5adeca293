use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::contract::InputKind;
use crate::memory::Memory;

fn new_version(model: &str, source: &str) -> NewVersion {
    NewVersion {
        model: model.into(),
        source: source.into(),
        task: Task::Classification,
        inputs: vec![InputSpec {
            name: "bars".into(),
            kind: InputKind::Bars,
            shape: vec![105, 4],
            scaling: None,
            missing: BTreeMap::new(),
        }],
        output: OutputSpec { name: "probabilities".into(), shape: vec![2] },
        classes: vec!["consolidation".into(), "expansion".into()],
        window_bars: 105,
        feature_set: None,
        evaluation: None,
        files: BTreeMap::from([(paths::MODEL_ONNX.to_owned(), Bytes::from(format!("model of {source}")))]),
        engine: "native".into(),
        lineage: Lineage::default(),
        metrics: BTreeMap::new(),
        correlation_id: source.into(),
        auto_promote: false,
    }
}

fn decision() -> Decision {
    Decision { actor: "tester".into(), reason: "test".into(), correlation_id: None }
}

fn passed(compared_with: Option<u32>) -> GateSummary {
    GateSummary {
        passed: true,
        compared_with,
        failed: Vec::new(),
        report: "models/m/1/gates/1.json".into(),
        report_sha256: "00".into(),
        created_ms: 0,
    }
}

async fn registered(registry: &Registry, count: u32) {
    for number in 1..=count {
        let version = registry.register(new_version("m", &format!("run/{number}"))).await.unwrap();
        assert_eq!(version.version, number);
    }
}

/// Takes a version to Production by the way that a user goes.
async fn promote(registry: &Registry, version: u32) -> Result<Version> {
    let serving = registry.route("m").await?.and_then(|(route, _)| route.version);
    registry.set_gates("m", version, passed(serving), Vec::new()).await?;
    if registry.version("m", version).await?.stage != Stage::Staging {
        registry.transition("m", version, Stage::Staging, &decision()).await?;
    }
    registry.transition("m", version, Stage::Production, &decision()).await
}

async fn serving(registry: &Registry) -> Option<u32> {
    registry.routes().await.unwrap().into_iter().find(|route| route.model == "m").and_then(|route| route.version)
}

#[tokio::test]
async fn a_source_becomes_one_version_however_often_it_is_registered() {
    let memory = Memory::new();
    let registry = Registry::new(memory.ports());
    let calls = (0..16).map(|_| registry.register(new_version("m", "run/a")));
    for outcome in futures::future::join_all(calls).await {
        assert_eq!(outcome.unwrap().version, 1);
    }
    assert_eq!(registry.versions("m").await.unwrap().len(), 1);
    let events = memory.events.published();
    assert_eq!(events.iter().filter(|event| event.detail_type == "Model Version Registered").count(), 1);
}

#[tokio::test]
async fn concurrent_registrations_get_different_numbers() {
    let registry = Registry::new(Memory::new().ports());
    let calls = (0..16).map(|index| {
        let registry = registry.clone();
        async move { registry.register(new_version("m", &format!("run/{index}"))).await.unwrap().version }
    });
    let numbers: BTreeSet<u32> = futures::future::join_all(calls).await.into_iter().collect();
    assert_eq!(numbers, (1..=16).collect());
}

#[tokio::test]
async fn bad_names_are_refused_with_the_name() {
    let registry = Registry::new(Memory::new().ports());
    for name in ["", "Upper", "a/b", "../x", "a..b", "-a", &"a".repeat(64), "ü"] {
        let error = registry.register(new_version(name, "run/a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
        assert!(error.to_string().contains("`model`"), "{error}");
    }
}

#[tokio::test]
async fn of_32_concurrent_promotions_one_wins() {
    let memory = Memory::new();
    let registry = Registry::new(memory.ports());
    registered(&registry, 32).await;
    for number in 1..=32 {
        registry.set_gates("m", number, passed(None), Vec::new()).await.unwrap();
        registry.transition("m", number, Stage::Staging, &decision()).await.unwrap();
    }
    let barrier = Arc::new(tokio::sync::Barrier::new(32));
    let tasks: Vec<_> = (1..=32)
        .map(|number| {
            let (registry, barrier) = (registry.clone(), barrier.clone());
            tokio::spawn(async move {
                // All look at the state before any of them writes.
                let changes = vec![registry.change("m", number, Stage::Production).await.unwrap()];
                barrier.wait().await;
                registry.apply("m", changes, &decision()).await.map(|version| version.version)
            })
        })
        .collect();
    let outcomes = futures::future::join_all(tasks).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().map(|outcome| outcome.unwrap()).partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|outcome| outcome.unwrap_err().kind() == ErrorKind::Conflict));
    let versions = registry.versions("m").await.unwrap();
    let in_production: Vec<u32> =
        versions.iter().filter(|version| version.stage == Stage::Production).map(|version| version.version).collect();
    assert_eq!(in_production.len(), 1);
    assert_eq!(serving(&registry).await, Some(in_production[0]));
}

#[tokio::test]
async fn gates_block_production_and_say_why() {
    let registry = Registry::new(Memory::new().ports());
    registered(&registry, 2).await;
    registry.transition("m", 1, Stage::Staging, &decision()).await.unwrap();
    let error = registry.transition("m", 1, Stage::Production, &decision()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("not judged"), "{error}");

    let failed = GateSummary { passed: false, failed: vec!["accuracy: 0.5 >= 0.6".into()], ..passed(None) };
    registry.set_gates("m", 1, failed, Vec::new()).await.unwrap();
    let error = registry.transition("m", 1, Stage::Production, &decision()).await.unwrap_err();
    assert!(error.to_string().contains("accuracy: 0.5 >= 0.6"), "{error}");

    promote(&registry, 1).await.unwrap();
    // Judged before version 1 served: the comparison is missing.
    registry.set_gates("m", 2, passed(None), Vec::new()).await.unwrap();
    registry.transition("m", 2, Stage::Staging, &decision()).await.unwrap();
    let error = registry.transition("m", 2, Stage::Production, &decision()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("version 1 serves now"), "{error}");
}

#[tokio::test]
async fn rollback_goes_back_step_by_step() {
    let memory = Memory::new();
    let registry = Registry::new(memory.ports());
    registered(&registry, 3).await;
    for number in 1..=3 {
        promote(&registry, number).await.unwrap();
    }
    assert_eq!(registry.rollback("m", None, &decision()).await.unwrap().version, 2);
    assert_eq!(registry.version("m", 3).await.unwrap().stage, Stage::Staging);
    assert_eq!(registry.rollback("m", None, &decision()).await.unwrap().version, 1);
    // Nothing served before version 1: what serves goes on serving.
    let error = registry.rollback("m", None, &decision()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(serving(&registry).await, Some(1));
    // Asked again because the answer was lost: done already. Asked about what does not serve: refused.
    assert_eq!(registry.rollback("m", Some(2), &decision()).await.unwrap().version, 1);
    for other in [3, 9] {
        let error = registry.rollback("m", Some(other), &decision()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    assert_eq!(serving(&registry).await, Some(1));
    // What was rolled back can serve again.
    promote(&registry, 3).await.unwrap();
    assert_eq!(serving(&registry).await, Some(3));
    let history = registry.history("m", 100).await.unwrap();
    assert_eq!((history[0].version, history[0].to), (3, Stage::Production));
}

#[tokio::test]
async fn references_name_versions() {
    let registry = Registry::new(Memory::new().ports());
    registered(&registry, 3).await;
    promote(&registry, 2).await.unwrap();
    registry.transition("m", 3, Stage::Staging, &decision()).await.unwrap();
    registry.set_alias("m", "challenger", Some(1)).await.unwrap();
    for (reference, number) in [("1", 1), ("latest", 3), ("production", 2), ("staging", 3), ("challenger", 1)] {
        assert_eq!(registry.resolve("m", reference).await.unwrap().version, number, "{reference}");
    }
    assert_eq!(registry.aliases("m").await.unwrap(), BTreeMap::from([("challenger".to_owned(), 1)]));
    registry.set_alias("m", "challenger", None).await.unwrap();
    for reference in ["challenger", "9", "nobody"] {
        assert_eq!(registry.resolve("m", reference).await.unwrap_err().kind(), ErrorKind::NotFound, "{reference}");
    }
    for alias in ["production", "latest", "12", "A"] {
        assert_eq!(registry.set_alias("m", alias, Some(1)).await.unwrap_err().kind(), ErrorKind::Invalid, "{alias}");
    }
    assert_eq!(registry.set_alias("m", "x", Some(9)).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_changed_package_is_refused() {
    let memory = Memory::new();
    let ports = memory.ports();
    let registry = Registry::new(ports.clone());
    registered(&registry, 1).await;
    let version = registry.version("m", 1).await.unwrap();
    let engines: Vec<Arc<dyn crate::ports::Engine>> = vec![crate::testkit::ToyEngine::native(105)];
    choose_model(&ports, &engines, &version.target()).await.unwrap();
    for file in [paths::MODEL_ONNX, paths::MANIFEST, paths::SIGNATURE] {
        let key = paths::model("m", 1, file);
        let original = ports.blobs.get(&key).await.unwrap();
        for position in 0..original.len() {
            let mut damaged = original.to_vec();
            damaged[position] ^= 1;
            memory.blobs.damage(&key, damaged);
            let outcome = choose_model(&ports, &engines, &version.target()).await;
            // A flipped bit in white space of the signature document changes nothing that is signed.
            let is_space = file == paths::SIGNATURE && original[position].is_ascii_whitespace();
            assert!(outcome.is_err() || is_space, "{file} byte {position}");
        }
        memory.blobs.damage(&key, original);
    }
    // Signed by a key that is not trusted.
    let other = crate::memory::MemorySigner::new(b"another");
    assert!(version.package(&*ports.blobs, &other).await.is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Register,
    Judge(u32),
    Move(u32, Stage),
    RollBack,
}

fn step() -> impl Strategy<Value = Step> {
    let stage = prop::sample::select(vec![Stage::None, Stage::Staging, Stage::Production, Stage::Archived]);
    prop_oneof![
        1 => Just(Step::Register),
        3 => (1..6u32).prop_map(Step::Judge),
        6 => (1..6u32, stage).prop_map(|(version, stage)| Step::Move(version, stage)),
        1 => Just(Step::RollBack),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked for, in whatever order: one version serves at most, the route names it, and no move is illegal.
    #[test]
    fn the_life_cycle_holds(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let registry = Registry::new(Memory::new().ports());
            registered(&registry, 1).await;
            let mut count = 1;
            for step in steps {
                match step {
                    Step::Register => {
                        count += 1;
                        registered_one(&registry, count).await;
                    }
                    Step::Judge(version) => {
                        let serving = serving(&registry).await;
                        let _ = registry.set_gates("m", version, passed(serving), Vec::new()).await;
                    }
                    Step::Move(version, to) => {
                        let before = registry.version("m", version).await;
                        let outcome = registry.transition("m", version, to, &decision()).await;
                        if let (Ok(before), Ok(after)) = (before, outcome) {
                            assert!(before.stage.successors().contains(&to));
                            assert_eq!(after.stage, to);
                        }
                    }
                    Step::RollBack => {
                        let _ = registry.rollback("m", None, &decision()).await;
                    }
                }
                let versions = registry.versions("m").await.unwrap();
                let live: Vec<u32> =
                    versions.iter().filter(|v| v.stage == Stage::Production).map(|v| v.version).collect();
                assert!(live.len() <= 1, "{live:?}");
                assert_eq!(serving(&registry).await, live.first().copied());
            }
            // The history replays to the stages.
            let mut stages = BTreeMap::new();
            let mut moves = registry.history("m", usize::MAX).await.unwrap();
            moves.reverse();
            for entry in moves {
                let stage = stages.insert(entry.version, entry.to).unwrap_or(Stage::None);
                assert_eq!(stage, entry.from);
            }
            for version in registry.versions("m").await.unwrap() {
                assert_eq!(version.stage, stages.get(&version.version).copied().unwrap_or(Stage::None));
            }
        });
    }
}

async fn registered_one(registry: &Registry, number: u32) {
    registry.register(new_version("m", &format!("run/{number}"))).await.unwrap();
}
