use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::contract::{InputKind, InputSpec, Lineage, OutputSpec, Task};
use crate::memory::Memory;
use crate::registry::{GateSummary, NewVersion, NoEngine, Stage};
use crate::serving::{ModelReference, Predictor, ServingConfig};
use crate::testkit::{ToyCompiler, ToyEngine};

const WINDOW: usize = 3;

fn new_version(text: &str) -> NewVersion {
    NewVersion {
        model: "m".into(),
        source: format!("upload/{text}"),
        task: Task::Regression,
        inputs: vec![InputSpec {
            name: "bars".into(),
            kind: InputKind::Bars,
            shape: vec![WINDOW, 4],
            scaling: None,
            missing: BTreeMap::new(),
        }],
        output: OutputSpec { name: "prediction".into(), shape: vec![1] },
        classes: Vec::new(),
        window_bars: WINDOW,
        feature_set: None,
        evaluation: None,
        files: BTreeMap::from([(paths::MODEL_ONNX.to_owned(), Bytes::from(text.to_owned()))]),
        engine: NATIVE.into(),
        lineage: Lineage::default(),
        metrics: BTreeMap::new(),
        correlation_id: "c".into(),
        auto_promote: false,
    }
}

fn both() -> Vec<Arc<dyn Engine>> {
    vec![ToyEngine::wasm(WINDOW), ToyEngine::native(WINDOW)]
}

fn builds(memory: &Memory, engines: Vec<Arc<dyn Engine>>, max_slowdown: f64) -> Builds {
    let engines = Engines { engines, compiler: Some(ToyCompiler::new("toy 1")) };
    Builds::new(memory.ports(), engines, BuildConfig { max_slowdown, negligible_us: max_slowdown * 100.0 })
}

fn by_hand() -> Decision {
    Decision { actor: "somebody".into(), reason: "by hand".into(), correlation_id: None }
}

async fn manifest(memory: &Memory, record: &Version) -> BuildManifest {
    let ports = memory.ports();
    record.package(&*ports.blobs, &*ports.signer).await.unwrap().build.unwrap()
}

#[tokio::test]
async fn a_version_is_served_by_what_answers_right_and_fast_enough() {
    use EngineGround::{Benchmark, Differs, Refused};
    let cases = [
        ("0.01", 1e9, WASM, Benchmark, "compiled", 3),
        // Whatever is measured, it is more than nothing.
        ("0.01", 0.0, NATIVE, Benchmark, "times as slow", 0),
        ("0.01 slow", 2.0, NATIVE, Benchmark, "times as slow", 0),
        ("0.01 wrong", 1e9, NATIVE, Differs, "outputs differ", 0),
        ("0.01 refused", 1e9, NATIVE, Refused, "`node `n``", 0),
        ("0.01 panics", 1e9, NATIVE, Refused, "panicked", 0),
    ];
    for (text, max_slowdown, engine, ground, reason, num_files) in cases {
        let memory = Memory::new();
        let record = Registry::new(memory.ports()).register(new_version(text)).await.unwrap();
        let builds = builds(&memory, both(), max_slowdown);
        let record = builds.ensure(record).await.unwrap();
        let build = manifest(&memory, &record).await;
        assert_eq!((build.engine.as_str(), build.ground), (engine, ground), "{text}: {build:?}");
        assert!(build.reason.contains(reason), "{text}: {}", build.reason);
        assert_eq!(build.files.len(), num_files, "{text}");
        assert_eq!(build.benchmark.is_some(), ground == Benchmark, "{text}");
        assert_eq!(builds.load(&record).await.unwrap().0.engine.name(), engine, "{text}");
        let summary = record.build.clone().unwrap();
        assert_eq!((summary.engine, summary.reason), (build.engine, build.reason), "{text}");
        // Again, nothing happens.
        let num_events = memory.events.published().len();
        assert_eq!(builds.ensure(record.clone()).await.unwrap(), record, "{text}");
        assert_eq!(memory.events.published().len(), num_events, "{text}");
        // Only what is merely slow can be forced.
        let forced = builds.build("m", 1, EngineChoice::Wasm, &by_hand()).await;
        match ground {
            Benchmark => assert_eq!(forced.unwrap().build.unwrap().engine, WASM, "{text}"),
            _ => {
                let error = forced.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Refused, "{text}");
                assert!(error.to_string().contains(reason), "{text}: {error}");
                assert_eq!(builds.registry.version("m", 1).await.unwrap(), record, "{text}");
            }
        }
    }
}

#[tokio::test]
async fn without_a_compiler_what_is_there_serves() {
    let memory = Memory::new();
    let registry = Registry::new(memory.ports());
    let record = registry.register(new_version("0.01")).await.unwrap();
    let plain = Builds::new(memory.ports(), both(), BuildConfig::default());
    assert_eq!(plain.ensure(record.clone()).await.unwrap(), record);
    plain.refresh().await.unwrap();
    assert_eq!(plain.load(&record).await.unwrap().0.engine.name(), NATIVE);
    let error = plain.build("m", 1, EngineChoice::Auto, &by_hand()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(plain.build("m", 1, EngineChoice::Native, &by_hand()).await.unwrap().build.unwrap().engine, NATIVE);
}

#[tokio::test]
async fn engines_stand_in_for_others_only_where_that_is_right() {
    let memory = Memory::new();
    let record = Registry::new(memory.ports()).register(new_version("0.01")).await.unwrap();
    let builder = builds(&memory, both(), 1e9);
    let built = builder.ensure(record.clone()).await.unwrap();
    let alone = |engine: Arc<dyn Engine>| Builds::new(memory.ports(), vec![engine], BuildConfig::default());
    // What was compiled is served from its ONNX file by a program without the other engine.
    assert_eq!(alone(ToyEngine::native(WINDOW)).load(&built).await.unwrap().0.engine.name(), NATIVE);
    assert_eq!(alone(ToyEngine::wasm(WINDOW)).load(&built).await.unwrap().0.engine.name(), WASM);
    // What was not compiled, or is not to be served compiled, is not served by the engine of compiled models.
    let native = builder.build("m", 1, EngineChoice::Native, &by_hand()).await.unwrap();
    for record in [&record, &native] {
        let error = alone(ToyEngine::wasm(WINDOW)).load(record).await.unwrap_err();
        assert!(NoEngine::caused(&error) && error.chain().contains("engine `native`"), "{}", error.chain());
    }
    // For another machine there are other files.
    #[derive(Debug)]
    struct Elsewhere;
    impl Engine for Elsewhere {
        fn name(&self) -> &'static str {
            WASM
        }
        fn choose<'a>(&self, _: &'a [crate::ports::Artifact]) -> Option<&'a crate::ports::Artifact> {
            None
        }
        fn load(&self, _: &crate::ports::Artifact, _: &[u8]) -> Result<Arc<dyn LoadedModel>> {
            Err(Error::internal("it chose nothing"))
        }
    }
    let error = alone(Arc::new(Elsewhere)).load(&built).await.unwrap_err();
    let text = error.chain();
    assert!(text.contains("toy.cwasm (toy, toy 1)") && text.contains(std::env::consts::ARCH), "{text}");
    let both: Vec<Arc<dyn Engine>> = vec![Arc::new(Elsewhere), ToyEngine::native(WINDOW)];
    let fallback = Builds::new(memory.ports(), both, BuildConfig::default());
    assert_eq!(fallback.load(&built).await.unwrap().0.engine.name(), NATIVE);
}

/// A build is for good, so a call that was late is tried again; a model that is always late is left to the native engine.
#[tokio::test]
async fn only_a_model_that_is_always_late_is_too_slow() {
    #[derive(Debug)]
    struct Busy(Arc<ToyEngine>, usize);
    #[derive(Debug)]
    struct BusyModel(Arc<dyn LoadedModel>, AtomicUsize);
    impl Engine for Busy {
        fn name(&self) -> &'static str {
            self.0.name()
        }
        fn choose<'a>(&self, artifacts: &'a [crate::ports::Artifact]) -> Option<&'a crate::ports::Artifact> {
            self.0.choose(artifacts)
        }
        fn load(&self, artifact: &crate::ports::Artifact, bytes: &[u8]) -> Result<Arc<dyn LoadedModel>> {
            Ok(Arc::new(BusyModel(self.0.load(artifact, bytes)?, AtomicUsize::new(self.1))))
        }
    }
    impl LoadedModel for BusyModel {
        fn inputs(&self) -> &[(String, Vec<Option<usize>>)] {
            self.0.inputs()
        }
        fn outputs(&self) -> &[(String, Vec<Option<usize>>)] {
            self.0.outputs()
        }
        fn run(&self, inputs: Vec<crate::ports::Tensor>) -> Result<Vec<crate::ports::Tensor>> {
            // A single row is in time.
            let is_late = |left: usize| left.checked_sub(1);
            if inputs[0].num_rows() > 1 && self.1.fetch_update(Relaxed, Relaxed, is_late).is_ok() {
                return Err(Error::unavailable("too late"));
            }
            self.0.run(inputs)
        }
    }
    for (num_late, engine) in [(usize::MAX, NATIVE), (2, WASM)] {
        let memory = Memory::new();
        let record = Registry::new(memory.ports()).register(new_version("0.01")).await.unwrap();
        let engines: [Arc<dyn Engine>; 2] =
            [Arc::new(Busy(ToyEngine::wasm(WINDOW), num_late)), ToyEngine::native(WINDOW)];
        let built = builds(&memory, engines.into(), 1e9).ensure(record).await.unwrap().build.unwrap();
        assert_eq!(built.engine, engine, "{built:?}");
    }
}

#[tokio::test]
async fn damaged_files_of_a_build_are_made_again() {
    let memory = Memory::new();
    let record = Registry::new(memory.ports()).register(new_version("0.01")).await.unwrap();
    let builds = builds(&memory, both(), 1e9);
    let record = builds.ensure(record).await.unwrap();
    let id = &record.build.as_ref().unwrap().reference.id;
    let key = |file: &str| paths::build("m", 1, id, file);
    let blobs = memory.ports().blobs;
    let files = [key("toy.cwasm"), key("other.cwasm"), key("model.wasm")];
    let mut good = Vec::new();
    for file in &files {
        good.push(blobs.get(file).await.unwrap());
    }
    blobs.delete(&files[0]).await.unwrap();
    blobs.put(&files[1], Bytes::from_static(b"compiled 7"), PutMode::Overwrite).await.unwrap();
    assert!(builds.load(&record).await.is_err());
    let again = builds.build("m", 1, EngineChoice::Auto, &by_hand()).await.unwrap();
    assert_eq!(again.build.as_ref().unwrap().reference, record.build.as_ref().unwrap().reference);
    for (file, good) in files.iter().zip(&good) {
        assert_eq!(blobs.get(file).await.unwrap(), good, "{file}");
    }
    assert_eq!(builds.load(&again).await.unwrap().0.engine.name(), WASM);
}

/// Serving follows the build as it follows the version.
#[tokio::test(flavor = "multi_thread")]
async fn serving_follows_the_build() {
    let memory = Memory::new();
    let registry = Registry::new(memory.ports());
    let builder = builds(&memory, both(), 1e9);
    builder.ensure(registry.register(new_version("0.01")).await.unwrap()).await.unwrap();
    let gates = GateSummary {
        passed: true,
        compared_with: None,
        failed: Vec::new(),
        report: "r".into(),
        report_sha256: "00".into(),
        created_ms: 0,
    };
    registry.set_gates("m", 1, gates, Vec::new()).await.unwrap();
    for to in [Stage::Staging, Stage::Production] {
        registry.transition("m", 1, to, &by_hand()).await.unwrap();
    }
    let config = ServingConfig { refresh_ms: 3_600_000, ..ServingConfig::default() };
    let laptop = Predictor::start(memory.ports(), both(), config.clone());
    let function = Predictor::start(memory.ports(), vec![ToyEngine::wasm(WINDOW) as Arc<dyn Engine>], config);
    let by_number = ModelReference { model: "m".into(), reference: "1".into() };
    for (choice, engine) in [(EngineChoice::Auto, WASM), (EngineChoice::Native, NATIVE), (EngineChoice::Wasm, WASM)] {
        let record = builder.build("m", 1, choice, &by_hand()).await.unwrap();
        for predictor in [&laptop, &function] {
            predictor.refresh().await.unwrap();
            assert!(predictor.status().degraded.is_empty());
        }
        let status = laptop.status();
        assert_eq!(status.models[0].engine, engine);
        assert_eq!(status.models[0].build, record.build.map(|build| build.reference.id));
        let status = function.status();
        assert_eq!((status.models.len(), status.elsewhere.len()), if engine == WASM { (1, 0) } else { (0, 1) });
        let found = function.find_for_test(&by_number).await;
        assert_eq!(found.is_ok(), engine == WASM);
        assert!(found.is_ok() || found.is_err_and(|error| NoEngine::caused(&error)));
    }
}
