//! A whole platform in memory whose ports fail on demand, with a bus that delivers at least once.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use moola_core::app::{App, Settings};
use moola_core::builds::{BuildConfig, Engines};
use moola_core::contract::{
    FORMAT_VERSION, InputKind, InputSpec, OutputSpec, RunOutcome, RunResult, Task, TrainedModel,
};
use moola_core::dataset::{Datasets, ImportRequest};
use moola_core::gates::GateConfig;
use moola_core::memory::Memory;
use moola_core::ports::{Engine, Event, EventHandler as _, Ports, PutMode};
use moola_core::react::ReactConfig;
use moola_core::registry::{Decision, Stage};
use moola_core::stats::drift::ProfileConfig;
use moola_core::stats::{Observations, ReferenceProfile};
use moola_core::testkit::{Fault, Faults, ToyCompiler, ToyEngine};
use moola_core::training::{Run, TRAINER, TrainRequest, TrainingConfig};
use moola_core::{ErrorKind, Result};
use moola_market::simulate::{SimulationConfig, simulate};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

pub(crate) const MODEL: &str = "m";
const DATASET: &str = "d";
pub(crate) const WINDOW: usize = 10;

/// In which order a bus delivers what waits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    AsTold,
    Twice,
    Reversed,
    Shuffled(u64),
}

impl Order {
    fn apply(self, mut waiting: Vec<usize>) -> Vec<usize> {
        match self {
            Self::AsTold => {}
            Self::Twice => waiting = waiting.into_iter().flat_map(|index| [index, index]).collect(),
            Self::Reversed => waiting.reverse(),
            Self::Shuffled(seed) => {
                waiting.extend(waiting.clone());
                waiting.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            }
        }
        waiting
    }
}

pub(crate) struct Platform {
    pub(crate) memory: Memory,
    pub(crate) faults: Faults,
    pub(crate) app: App,
    pub(crate) ports: Ports,
    /// Of the compiler that the next process has.
    pub(crate) fingerprint: &'static str,
    /// Places in the list of published events.
    acknowledged: BTreeSet<usize>,
    pub(crate) dead: Vec<String>,
}

fn settings() -> Settings {
    // Whether a model is good is not the matter here; the time that a prediction takes on a busy machine neither.
    let advisory = ["beats_baseline", "robust_to_noise", "robust_to_missing_bars", "latency"];
    Settings {
        training: TrainingConfig { min_bars: 300, ..TrainingConfig::default() },
        // Toy models are too fast to be timed: a compiled one always serves.
        build: BuildConfig { max_slowdown: 1e9, ..BuildConfig::default() },
        gates: GateConfig { advisory: advisory.map(str::to_owned).to_vec(), ..GateConfig::default() },
        react: ReactConfig { retrain_on_drift: true, cooldown_secs: 3600 },
        ..Settings::default()
    }
}

fn app(ports: &Ports, fingerprint: &str) -> App {
    let engines: Vec<Arc<dyn Engine>> = vec![ToyEngine::wasm(WINDOW), ToyEngine::native(WINDOW)];
    let engines = Engines { engines, compiler: Some(ToyCompiler::new(fingerprint)) };
    App::new(ports.clone(), engines, settings())
}

/// Bars of the dataset, as a file; `num_bars` of the same market.
pub(crate) fn bars(num_bars: usize) -> ImportRequest {
    let bars = simulate(&SimulationConfig { num_bars, ..SimulationConfig::default() }).unwrap().bars;
    let mut text = "timestamp,open,high,low,close\n".to_owned();
    for bar in bars.iter() {
        text += &format!("{},{},{},{},{}\n", bar.time_ms, bar.open, bar.high, bar.low, bar.close);
    }
    ImportRequest::new(DATASET, "SIM", "d.csv", Bytes::from(text))
}

pub(crate) fn request() -> TrainRequest {
    serde_json::from_value(json!({
        "model_name": MODEL, "dataset": DATASET, "label": {"kind": "forward_return", "horizon": 2},
        "window": {"bars": WINDOW, "feature_set": ""}, "auto_promote": true
    }))
    .unwrap()
}

pub(crate) fn by_hand() -> Decision {
    Decision { actor: "somebody".into(), reason: "by hand".into(), correlation_id: None }
}

/// Repeats a call as a client does that was told to try again later.
pub(crate) async fn insist<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    for _ in 0..200 {
        match call().await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            done => return done,
        }
    }
    panic!("unavailable for ever");
}

impl Platform {
    /// A platform with a dataset and nothing else.
    pub(crate) async fn empty() -> Self {
        let memory = Memory::new();
        memory.jobs.hold(TRAINER);
        let (faults, ports) = Faults::wrap(&memory);
        Datasets::new(ports.clone()).import(bars(400)).await.unwrap();
        let fingerprint = "toy 1";
        let app = app(&ports, fingerprint);
        app.start().await.unwrap();
        Self { memory, faults, app, ports, fingerprint, acknowledged: BTreeSet::new(), dead: Vec::new() }
    }

    /// A platform on which `count` runs became versions, the last of which serves.
    pub(crate) async fn with_versions(count: u32) -> Self {
        let mut platform = Self::empty().await;
        for number in 1..=count {
            let run = platform.app.training.start(request()).await.unwrap();
            platform.finish(&run).await;
            platform.deliver(Order::AsTold).await;
            assert_eq!(platform.serving().await, Some(number));
        }
        platform
    }

    /// Ends all faults; whether the planned one came. Then a new process starts over what the old one left.
    pub(crate) async fn recover(&mut self) -> bool {
        let has_hit = self.faults.has_hit();
        self.faults.revive();
        if has_hit {
            self.restart().await.unwrap();
        }
        has_hit
    }

    /// Starts a new process over what the old one left.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.app = app(&self.ports, self.fingerprint);
        self.app.start().await
    }

    /// Does what the container of a run does, and ends it. Containers do not go through the faulty ports.
    pub(crate) async fn finish(&self, run: &Run) {
        let blobs = self.memory.ports().blobs;
        let put = async |file: &str, bytes: Vec<u8>| {
            let key = format!("runs/{}/{file}", run.run_id);
            blobs.put(&key, Bytes::from(bytes), PutMode::Overwrite).await.unwrap();
        };
        let predictions = vec![("prediction".to_owned(), (0..200).map(|row| f64::from(row % 17)).collect())];
        let observed = Observations { features: &[], predictions: &predictions, predicted_classes: None };
        let reference = ReferenceProfile::build(&observed, &ProfileConfig::default()).unwrap();
        put("artifacts/model.onnx", b"0.01".to_vec()).await;
        put("artifacts/reference.json", serde_json::to_vec(&reference).unwrap()).await;
        put("artifacts/metrics.json", b"{}".to_vec()).await;
        let result = RunResult {
            format_version: FORMAT_VERSION,
            run_id: run.run_id.clone(),
            outcome: RunOutcome::Completed,
            model: Some(TrainedModel {
                task: Task::Regression,
                inputs: vec![InputSpec {
                    name: "bars".into(),
                    kind: InputKind::Bars,
                    shape: vec![WINDOW, 4],
                    scaling: None,
                    missing: BTreeMap::new(),
                }],
                outputs: vec![OutputSpec { name: "prediction".into(), shape: vec![1] }],
                classes: Vec::new(),
                window_bars: WINDOW,
                feature_set: None,
            }),
            metrics: None,
            num_samples: [100, 20, 20],
            epochs: 1,
            best_epoch: 1,
            steps: 1,
            duration_secs: 1.0,
            windows_per_sec: 1.0,
            peak_memory_bytes: 1,
            attempts: 1,
            code_version: "test".into(),
            environment: BTreeMap::new(),
            warnings: Vec::new(),
        };
        put("result.json", serde_json::to_vec(&result).unwrap()).await;
        for job in self.jobs_of(&run.run_id).await {
            self.memory.jobs.finish(&job.id, 0).await.unwrap();
        }
    }

    pub(crate) async fn jobs_of(&self, run_id: &str) -> Vec<moola_core::ports::JobDescription> {
        let jobs = self.memory.ports().jobs.list(&Default::default()).await.unwrap();
        jobs.into_iter().filter(|job| job.request.tags.get("run_id").is_some_and(|id| id == run_id)).collect()
    }

    /// Delivers what was not acknowledged, until nothing waits or the process is dead. When nothing waits, maintenance is
    /// due.
    pub(crate) async fn deliver(&mut self, order: Order) {
        for _ in 0..500 {
            let num_events = self.memory.events.published().len();
            let waiting: Vec<usize> = (0..num_events).filter(|index| !self.acknowledged.contains(index)).collect();
            if waiting.is_empty() {
                if self.memory.table.items().iter().all(|item| item.key.partition != "outbox") {
                    return;
                }
                self.memory.clock.advance_ms(300_000);
                // What it cannot do is due again.
                let _ = self.maintain().await;
            }
            for index in order.apply(waiting) {
                self.handle(index).await;
                if self.faults.is_dead() {
                    return;
                }
            }
        }
        panic!("the platform does not come to rest: {:#?}", self.faults.calls());
    }

    /// Delivers everything that was ever published once more.
    pub(crate) async fn echo(&mut self, order: Order) {
        for index in order.apply((0..self.memory.events.published().len()).collect()) {
            self.handle(index).await;
        }
        self.deliver(order).await;
    }

    async fn handle(&mut self, index: usize) {
        let event = self.memory.events.published()[index].clone();
        match self.app.handle(&event).await {
            Ok(()) => drop(self.acknowledged.insert(index)),
            Err(error) if error.is_retryable() => {}
            Err(error) => {
                self.dead.push(format!("{}: {}", event.detail_type, error.chain()));
                self.acknowledged.insert(index);
            }
        }
    }

    /// What a schedule asks for every five minutes.
    pub(crate) async fn maintain(&self) -> Result<()> {
        let event = Event {
            id: "maintenance".into(),
            source: "moola.schedule".into(),
            detail_type: moola_core::training::MAINTENANCE_DUE.into(),
            time_ms: 0,
            correlation_id: "maintenance".into(),
            detail: json!({}),
        };
        self.app.handle(&event).await
    }

    /// Publishes what the monitor publishes when it finds drift, with the id of the event.
    pub(crate) async fn tell_of_drift(&self, version: u32) -> Event {
        let detail = json!({"model": MODEL, "model_version": version});
        let event = self.memory.ports().event("Drift Detected", "chain", detail);
        self.memory.ports().events.publish(vec![event.clone()]).await.unwrap();
        event
    }

    /// Publishes what a schedule publishes.
    pub(crate) async fn fire(&self, detail_type: &str, detail: Value) -> Event {
        let mut event = self.memory.ports().event(detail_type, "", detail);
        event.source = "moola.schedule".into();
        event.id = format!("nightly@{}", event.time_ms);
        event.correlation_id.clone_from(&event.id);
        self.memory.ports().events.publish(vec![event.clone()]).await.unwrap();
        event
    }

    pub(crate) async fn serving(&self) -> Option<u32> {
        let routes = self.memory_app().registry.routes().await.unwrap();
        routes.into_iter().find(|route| route.model == MODEL).and_then(|route| route.version)
    }

    pub(crate) async fn stage(&self, version: u32) -> Stage {
        self.memory_app().registry.version(MODEL, version).await.unwrap().stage
    }

    /// The services over ports that never fail.
    pub(crate) fn memory_app(&self) -> App {
        app(&self.memory.ports(), self.fingerprint)
    }

    /// How often an event of this type was published, counted by id.
    pub(crate) fn count(&self, detail_type: &str) -> usize {
        let events = self.memory.events.published();
        let ids: BTreeSet<&str> =
            events.iter().filter(|event| event.detail_type == detail_type).map(|event| event.id.as_str()).collect();
        ids.len()
    }

    /// What a user sees, without ids and times.
    pub(crate) async fn state(&self) -> Value {
        let app = self.memory_app();
        let mut runs = app.training.list(usize::MAX).await.unwrap();
        runs.sort_by_key(|run| run.model_version);
        let runs: Vec<Value> = runs
            .iter()
            .map(|run| json!([run.status, run.model_version, run.trigger, run.dataset, run.reason, run.auto_promote]))
            .collect();
        let versions: Vec<Value> = app
            .registry
            .versions(MODEL)
            .await
            .unwrap_or_default()
            .iter()
            .map(|version| {
                let gates = version.gates.as_ref().map(|gates| (gates.passed, gates.compared_with));
                let build = version.build.as_ref().map(|build| (&build.engine, build.choice, &build.fingerprint));
                json!([
                    version.version,
                    version.stage,
                    gates,
                    build,
                    version.lineage.parent_version,
                    version.lineage.dataset
                ])
            })
            .collect();
        let history: Vec<Value> = app
            .registry
            .history(MODEL, usize::MAX)
            .await
            .unwrap_or_default()
            .iter()
            .map(|entry| json!([entry.version, entry.from, entry.to, entry.replaced, entry.actor]))
            .collect();
        let aliases = app.registry.aliases(MODEL).await.unwrap_or_default();
        json!({"runs": runs, "versions": versions, "history": history, "aliases": aliases, "serving": self.serving().await})
    }
}

/// Runs a scenario with every fault at its first mutating call, its second, and so on until it ends before that call; how
/// many fault points there were.
pub(crate) async fn at_every_call<F: Future<Output = bool>>(scenario: impl Fn(usize, Fault) -> F) -> usize {
    let mut num_points = 0;
    for fault in Fault::ALL {
        let mut call = 1;
        while scenario(call, fault).await {
            call += 1;
            num_points += 1;
            assert!(call < 1000, "the scenario never ends");
        }
    }
    num_points
}
