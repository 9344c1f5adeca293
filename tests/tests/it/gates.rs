//! The gates, on models whose worth is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use moola_core::builds::{BuildConfig, Builds};
use moola_core::commit::sha256_hex;
use moola_core::contract::{
    DatasetRef, FORMAT_VERSION, InputKind, InputSpec, Lineage, ModelSpec, OptimizerSpec, OutputSpec, ResourceSpec,
    SplitSpec, Task, TrainingSpec, WindowSpec, paths,
};
use moola_core::dataset::{Datasets, ImportRequest};
use moola_core::gates::{GateConfig, GateReport, GateResult, Gates};
use moola_core::memory::Memory;
use moola_core::ports::{Blobs as _, Engine, PutMode};
use moola_core::registry::{Decision, NewVersion, Registry, Stage, Version};
use moola_core::{ErrorKind, inputs, samples};
use moola_market::Bars;
use moola_market::features::FeatureSet;
use moola_market::labels::LabelSpec;
use moola_onnx::TractEngine;
use moola_onnx::writer::{Dim, GraphBuilder};
use moola_tests::bars::{csv, simulated};

const MODEL: &str = "m";
const CLASSES: usize = 2;

/// A platform in memory that holds one dataset.
struct World {
    memory: Memory,
    registry: Registry,
    bars: Bars,
    spec: TrainingSpec,
}

/// A model before it is registered.
struct Candidate {
    inputs: Vec<InputSpec>,
    feature_set: Option<FeatureSet>,
    onnx: Vec<u8>,
    evaluation: Option<TrainingSpec>,
}

impl World {
    async fn new(bars: Bars, label: LabelSpec, feature_set: &str, window_bars: usize) -> Self {
        let memory = Memory::new();
        let datasets = Datasets::new(memory.ports());
        let request = ImportRequest::new("d", "D", "d.csv", csv(&bars));
        let dataset = datasets.import(request).await.unwrap().manifest;
        let spec = TrainingSpec {
            format_version: FORMAT_VERSION,
            run_id: "upload".into(),
            model_name: MODEL.into(),
            dataset: DatasetRef {
                name: dataset.name,
                version: dataset.version,
                sha256: dataset.sha256,
                symbol: dataset.symbol,
                interval: dataset.interval,
            },
            window: WindowSpec { bars: window_bars, stride: 2, feature_set: feature_set.into(), max_windows: 0 },
            label,
            split: SplitSpec::default(),
            model: ModelSpec::default(),
            optimizer: OptimizerSpec::default(),
            resources: ResourceSpec::default(),
            seed: 1,
            correlation_id: None,
        };
        let bars = datasets.load_bars("d", None).await.unwrap();
        Self { registry: Registry::new(memory.ports()), memory, bars, spec }
    }

    /// Which windows expand: what volatility clustering lets a model foresee.
    async fn expansion() -> Self {
        Self::new(simulated(7, 6000), LabelSpec::Expansion { horizon: 10, multiple: 0.9 }, "core", 105).await
    }

    fn gates(&self, config: GateConfig) -> Gates {
        let engines: Vec<Arc<dyn Engine>> = vec![Arc::new(TractEngine)];
        let builds = Builds::new(self.memory.ports(), engines, BuildConfig::default());
        Gates::new(self.memory.ports(), builds, config)
    }

    async fn register(&self, candidate: Candidate) -> u32 {
        let digest = sha256_hex(&candidate.onnx);
        let source = format!("upload/{digest}/{:?}", candidate.evaluation.as_ref().map(|spec| spec.seed));
        let new = NewVersion {
            model: MODEL.into(),
            source,
            task: Task::Classification,
            inputs: candidate.inputs,
            output: OutputSpec { name: "probabilities".into(), shape: vec![CLASSES] },
            classes: vec!["a".into(), "b".into()],
            window_bars: self.spec.window.bars,
            feature_set: candidate.feature_set,
            evaluation: candidate.evaluation,
            files: BTreeMap::from([(paths::MODEL_ONNX.to_owned(), Bytes::from(candidate.onnx))]),
            engine: "native".into(),
            lineage: Lineage::default(),
            metrics: BTreeMap::new(),
            correlation_id: "c".into(),
            auto_promote: false,
        };
        self.registry.register(new).await.unwrap().version
    }

    async fn promote(&self, version: u32, to: Stage) -> moola_core::Result<Version> {
        let decision = Decision { actor: "test".into(), reason: "test".into(), correlation_id: None };
        self.registry.transition(MODEL, version, to, &decision).await
    }

    /// Always the class frequencies of the training fold.
    fn constant(&self) -> Candidate {
        let set = samples::build(&self.spec, &self.bars).unwrap();
        let targets = set.targets(&set.train);
        let share = (targets.iter().sum::<f64>() / targets.len() as f64) as f32;
        let features = set.feature_set.as_ref().unwrap().len();
        let input = inputs::standard(self.spec.window.bars, set.feature_set.as_ref()).remove(1);
        let mut input = inputs::fit(
            &[input],
            set.feature_set.as_ref(),
            self.spec.window.bars,
            &self.bars,
            &set.ends(&set.train),
            &set.ends(&set.train),
        )
        .unwrap();
        input[0].scaling = None;
        Candidate {
            onnx: linear(features, &vec![0.0; features], (share / (1.0 - share)).ln()),
            inputs: input,
            feature_set: set.feature_set,
            evaluation: Some(self.spec.clone()),
        }
    }

    /// A logistic regression on the engineered features, fitted on the training fold by gradient descent.
    fn logistic(&self) -> Candidate {
        let set = samples::build(&self.spec, &self.bars).unwrap();
        let feature_set = set.feature_set.as_ref();
        let input = inputs::standard(self.spec.window.bars, feature_set).remove(1);
        let all: Vec<usize> = set.samples.iter().map(|sample| sample.end).collect();
        let train = set.ends(&set.train);
        let inputs = inputs::fit(&[input], feature_set, self.spec.window.bars, &self.bars, &train, &all).unwrap();
        let encoded = inputs::encode(&inputs, feature_set, self.spec.window.bars, &self.bars, &train).unwrap();
        let width = feature_set.unwrap().len();
        let rows: Vec<&[f32]> = encoded.tensors[0].data().chunks(width).collect();
        let targets = set.targets(&set.train);
        let (mut weights, mut bias) = (vec![0.0_f64; width], 0.0_f64);
        for _ in 0..300 {
            let (mut slope, mut offset) = (vec![0.0; width], 0.0);
            for (row, target) in rows.iter().zip(&targets) {
                let logit = bias + row.iter().zip(&weights).map(|(x, w)| f64::from(*x) * w).sum::<f64>();
                let error = 1.0 / (1.0 + (-logit).exp()) - target;
                offset += error;
                slope.iter_mut().zip(*row).for_each(|(slope, x)| *slope += error * f64::from(*x));
            }
            let rate = 0.5 / rows.len() as f64;
            bias -= rate * offset;
            weights.iter_mut().zip(&slope).for_each(|(w, slope)| *w -= rate * (slope + 1e-2 * *w));
        }
        let weights: Vec<f32> = weights.iter().map(|w| *w as f32).collect();
        Candidate {
            onnx: linear(width, &weights, bias as f32),
            inputs,
            feature_set: set.feature_set,
            evaluation: Some(self.spec.clone()),
        }
    }
}

/// The probability of the second class is the logistic of a linear function of the input.
fn linear(width: usize, weights: &[f32], bias: f32) -> Vec<u8> {
    let mut graph = GraphBuilder::new("linear");
    let x = graph.input("x", &[Dim::Batch, Dim::Fixed(width)]);
    let columns: Vec<f32> = weights.iter().flat_map(|weight| [0.0, *weight]).collect();
    let weights = graph.initializer_f32("weights", &[width, CLASSES], &columns);
    let bias = graph.initializer_f32("bias", &[CLASSES], &[0.0, bias]);
    let logits = graph.gemm(x, weights, Some(bias), false);
    let output = graph.softmax(logits, -1);
    graph.output(output, "probabilities", &[Dim::Batch, Dim::Fixed(CLASSES)]);
    graph.finish().unwrap()
}

#[track_caller]
fn gate<'a>(report: &'a GateReport, name: &str) -> &'a GateResult {
    let found = report.gates.iter().find(|gate| gate.name == name);
    found.unwrap_or_else(|| panic!("no gate `{name}` among {:#?}", report.gates))
}

fn failed(report: &GateReport) -> Vec<&str> {
    report.gates.iter().filter(|gate| !gate.passed).map(|gate| gate.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_must_beat_the_baselines_and_what_serves() {
    let world = World::expansion().await;
    // How long a prediction takes depends on what else the machine does; that gate has its own test.
    let gates = world.gates(GateConfig { advisory: vec!["latency".into()], ..GateConfig::default() });

    let constant = world.register(world.constant()).await;
    let report = gates.judge(MODEL, constant).await.unwrap();
    assert!(!report.passed);
    let result = gate(&report, "beats_baseline");
    assert!(!result.passed && result.required && result.value.unwrap() > 0.05, "{result:?}");
    let candidate = report.classification["candidate"].log_loss;
    let best = report.classification.iter().filter(|(name, _)| *name != "candidate");
    let (name, best) = best.min_by(|a, b| a.1.log_loss.total_cmp(&b.1.log_loss)).unwrap();
    for part in [format!("{candidate:.5}"), format!("{:.5}", best.log_loss), name.clone(), "0.05".into()] {
        assert!(result.detail.contains(&part), "`{part}` is not told by `{}`", result.detail);
    }
    let summary = world.registry.version(MODEL, constant).await.unwrap().gates.unwrap();
    assert!(!summary.passed && summary.failed.iter().any(|text| text.contains("beats_baseline")), "{summary:?}");
    world.promote(constant, Stage::Staging).await.unwrap();
    let refused = world.promote(constant, Stage::Production).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("beats_baseline"), "{refused}");

    let logistic = world.register(world.logistic()).await;
    let report = gates.judge(MODEL, logistic).await.unwrap();
    assert!(report.passed, "{:#?}", report.gates);
    assert!(gate(&report, "beats_baseline").passed);
    assert!(report.classification["candidate"].log_loss < best.log_loss);
    eprintln!("{}", gate(&report, "beats_baseline").detail);
    world.promote(logistic, Stage::Staging).await.unwrap();
    world.promote(logistic, Stage::Production).await.unwrap();

    let report = gates.judge(MODEL, constant).await.unwrap();
    assert_eq!(report.compared_with, Some(logistic));
    let result = gate(&report, "not_worse_than_production");
    assert!(!result.passed && result.required, "{result:?}");
    assert!(result.detail.contains(&format!("version {logistic} in production")), "{}", result.detail);
    assert!(result.value.unwrap() > result.threshold);
    assert!(report.comparisons["production"].p_value_greater > 0.95, "the constant one is worse");

    // What forecasts the same is not worse.
    let evaluation = Some(TrainingSpec { seed: 2, ..world.spec.clone() });
    let same = world.register(Candidate { evaluation, ..world.logistic() }).await;
    assert_ne!(same, logistic);
    let report = gates.judge(MODEL, same).await.unwrap();
    assert_eq!(report.compared_with, Some(logistic));
    assert!(report.passed, "{:#?}", report.gates);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_judged_on_held_out_samples_fails() {
    let world = World::expansion().await;
    let version = world.register(Candidate { evaluation: None, ..world.logistic() }).await;
    let report = world.gates(GateConfig::default()).judge(MODEL, version).await.unwrap();
    assert!(!report.passed && failed(&report) == ["held_out"], "{:?}", report.gates);
    let advisory = GateConfig { advisory: vec!["held_out".into()], ..GateConfig::default() };
    let report = world.gates(advisory).judge(MODEL, version).await.unwrap();
    assert!(report.passed && !gate(&report, "held_out").required && !gate(&report, "held_out").passed);
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_are_told_with_numbers_and_reports_cannot_be_changed() {
    let world = World::expansion().await;
    let candidate = world.logistic();
    let size_bytes = candidate.onnx.len();
    let version = world.register(candidate).await;
    let config =
        GateConfig { max_latency_ms: 0.0, max_size_bytes: 0, min_accuracy: Some(1.0), ..GateConfig::default() };
    let report = world.gates(config.clone()).judge(MODEL, version).await.unwrap();
    assert_eq!(failed(&report), ["size", "accuracy", "latency"]);
    assert_eq!(gate(&report, "size").value, Some(size_bytes as f64));
    assert!(gate(&report, "size").detail.contains(&format!("missed by {size_bytes}")), "{:?}", report.gates);
    let latency = gate(&report, "latency");
    assert!(latency.value.unwrap() > 0.0 && latency.value.unwrap() == report.latency.unwrap().p99_ms, "{latency:?}");
    let advisory = ["size", "accuracy", "latency"].map(String::from).to_vec();
    let gates = world.gates(GateConfig { advisory, ..config });
    let report = gates.judge(MODEL, version).await.unwrap();
    assert!(report.passed && failed(&report) == ["size", "accuracy", "latency"], "advisory gates do not block");

    let summary = world.registry.version(MODEL, version).await.unwrap().gates.unwrap();
    let bytes = world.memory.blobs.get(&summary.report).await.unwrap();
    assert_eq!(sha256_hex(&bytes), summary.report_sha256);
    assert_eq!(gates.report(MODEL, version).await.unwrap(), report);
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let forged = text.replacen("\"passed\": false", "\"passed\": true", 1);
    assert_ne!(text, forged);
    world.memory.blobs.put(&summary.report, forged.into(), PutMode::Overwrite).await.unwrap();
    assert_eq!(gates.report(MODEL, version).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// The label is whether the third last bar of the window rose, so a model that multiplies that one bar's body by a huge
/// number is right about every clean window, and sure of itself where a price is a little off or a bar is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_brittle_model_fails_the_robustness_gates() {
    const WINDOW: usize = 8;
    let mut bars = simulated(3, 3000);
    let rose = |index: usize| f64::from(u8::from(bars.close()[index] > bars.open()[index]));
    let label: Vec<f64> = (0..bars.len()).map(|index| if index < 2 { 0.0 } else { rose(index - 2) }).collect();
    bars.set_extra("rose", label).unwrap();
    let spec = LabelSpec::Supplied { column: "rose".into(), classes: vec!["a".into(), "b".into()], horizon: 1 };
    let world = World::new(bars, spec, "", WINDOW).await;
    let candidate = |strength: f32| {
        let mut weights = vec![0.0; WINDOW * 4];
        // Open and close of the third last bar.
        weights[(WINDOW - 3) * 4] = -strength;
        weights[(WINDOW - 3) * 4 + 3] = strength;
        let input = InputSpec {
            name: "x".into(),
            kind: InputKind::RawBars,
            shape: vec![WINDOW * 4],
            scaling: None,
            missing: BTreeMap::new(),
        };
        let onnx = linear(WINDOW * 4, &weights, 0.0);
        Candidate { inputs: vec![input], feature_set: None, onnx, evaluation: Some(world.spec.clone()) }
    };
    let gates = world.gates(GateConfig { advisory: vec!["latency".into()], ..GateConfig::default() });
    let brittle = world.register(candidate(1e4)).await;
    let report = gates.judge(MODEL, brittle).await.unwrap();
    assert!(gate(&report, "beats_baseline").passed, "{:#?}", report.gates);
    for name in ["robust_to_noise", "robust_to_missing_bars"] {
        let result = gate(&report, name);
        assert!(!result.passed && result.required && result.detail.contains("missed by"), "{result:?}");
        assert!(result.value.unwrap() > 2.0 * result.threshold, "{result:?}");
    }
    assert!(!report.passed);
    // The same idea, less sure of itself, loses little.
    let calm = world.register(candidate(0.5)).await;
    let report = gates.judge(MODEL, calm).await.unwrap();
    assert!(report.passed, "{:#?}", report.gates);
}
