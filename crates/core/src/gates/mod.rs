//! What a version must show before it may serve.
//!
//! The candidate, the version in production and the naive baselines forecast the same samples: the test fold of the
//! candidate's own spec, which none of its training touched. Losses are compared pairwise, sample by sample, with a
//! stationary bootstrap, since neighbouring windows overlap and are not independent.

mod perturb;
mod score;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use moola_market::Bars;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use score::{Evaluation, LatencySummary};

use crate::builds::Builds;
use crate::commit::{from_json_bytes, sha256_hex, to_json_bytes};
use crate::contract::{ModelManifest, TrainingSpec, paths};
use crate::dataset::Datasets;
use crate::error::{Error, Result};
use crate::ports::{Event, EventHandler, LoadedModel, Ports, PutMode};
use crate::react::{is_decided, subject};
use crate::registry::{ChosenModel, EVALUATION, GateSummary, Registry, Stage, VerifiedPackage, Version};
use crate::samples::{self, SampleSet};
use crate::stats::bootstrap::default_block_length;
use crate::stats::{
    BootstrapConfig, ClassificationMetrics, Interval, PairedComparison, RegressionMetrics, paired_difference,
};
use crate::training::MAINTENANCE_DUE;

/// Thresholds of the gates. A threshold that is absent is not checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Least accuracy on the test fold (classification).
    pub min_accuracy: Option<f64>,
    /// Greatest expected calibration error on the test fold (classification).
    pub max_calibration_error: Option<f64>,
    /// Least R2 on the test fold (regression).
    pub min_r2: Option<f64>,
    /// Greatest mean squared error on the test fold (regression).
    pub max_mse: Option<f64>,
    /// The one-sided p-value below which the candidate's loss counts as lower than that of the best naive baseline.
    pub baseline_p_value: f64,
    /// The one-sided p-value below which the candidate counts as worse than the version in production.
    pub production_p_value: f64,
    /// The candidate's mean loss may exceed that of the version in production by this share of it.
    pub production_margin: f64,
    /// The noise test moves every price by a normal with this share of the bar's average range as standard deviation.
    pub noise_level: f64,
    /// The share of bars that the missing-bars test drops.
    pub missing_share: f64,
    /// The mean loss may grow by this share of it under either test.
    pub max_robustness_loss: f64,
    /// Greatest 99th percentile of one prediction, features included.
    pub max_latency_ms: f64,
    /// Greatest size of the model.
    pub max_size_bytes: u64,
    /// Test samples that the robustness tests use: the last ones.
    pub max_robustness_samples: usize,
    /// Gates that are reported but do not block.
    pub advisory: Vec<String>,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            min_accuracy: None,
            max_calibration_error: None,
            min_r2: None,
            max_mse: None,
            baseline_p_value: 0.05,
            production_p_value: 0.05,
            production_margin: 0.02,
            noise_level: 0.05,
            missing_share: 0.02,
            max_robustness_loss: 0.1,
            max_latency_ms: 50.0,
            max_size_bytes: 64 * 1024 * 1024,
            max_robustness_samples: 1000,
            advisory: Vec::new(),
        }
    }
}

/// How one gate judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    /// Its name, such as `beats_baseline`.
    pub name: String,
    /// Whether a failure blocks production.
    pub required: bool,
    /// Whether the value is within the threshold.
    pub passed: bool,
    /// What was measured; `None` where it could not be.
    pub value: Option<f64>,
    /// `>=` or `<=`.
    pub comparison: String,
    /// What it was compared with.
    pub threshold: f64,
    /// The same in words, with by how much it failed.
    pub detail: String,
}

/// How the gates judged a version: `models/<model>/<version>/gates/<id>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// Shape of this document.
    pub format_version: u32,
    /// Registered model.
    pub model: String,
    /// The version that was judged.
    pub version: u32,
    /// The engine that ran it: `native` or `wasm`.
    #[serde(default)]
    pub engine: String,
    /// The build that was judged; none where its ONNX file was.
    #[serde(default)]
    pub build: Option<String>,
    /// The version in production that it was compared with.
    pub compared_with: Option<u32>,
    /// Whether no required gate failed.
    pub passed: bool,
    /// The gates.
    pub gates: Vec<GateResult>,
    /// The dataset, `name@version`, whose test fold was used.
    pub dataset: Option<String>,
    /// Metrics of the candidate, of `production` and of the baselines on the same test samples.
    pub classification: BTreeMap<String, ClassificationMetrics>,
    /// The same, of a regression.
    pub regression: BTreeMap<String, RegressionMetrics>,
    /// Mean loss of the candidate (log loss or squared error) with its interval.
    pub loss: Option<Interval>,
    /// Accuracy of the candidate with its interval.
    pub accuracy: Option<Interval>,
    /// Loss of each rival less that of the candidate: above zero where the candidate is better.
    pub comparisons: BTreeMap<String, PairedComparison>,
    /// Time of one prediction.
    pub latency: Option<LatencySummary>,
    /// When.
    pub created_ms: i64,
}

/// Judges versions.
#[derive(Debug, Clone)]
pub struct Gates {
    ports: Ports,
    datasets: Datasets,
    registry: Registry,
    builds: Builds,
    config: GateConfig,
}

struct Candidate {
    package: VerifiedPackage,
    engine: &'static str,
    size_bytes: usize,
    model: Arc<dyn LoadedModel>,
}

/// The version in production.
struct Incumbent {
    version: u32,
    /// It, or why it cannot be loaded.
    loaded: Result<Candidate>,
}

impl Gates {
    /// Makes the service.
    #[must_use]
    pub fn new(ports: Ports, builds: Builds, config: GateConfig) -> Self {
        let (datasets, registry) = (Datasets::new(ports.clone()), Registry::new(ports.clone()));
        Self { ports, datasets, registry, builds, config }
    }

    /// Builds a version where that is to be done, judges what will be served against the thresholds, the naive baselines
    /// and the version in production, and records the report.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` or `Forbidden` where a package fails its checks; those of the ports. A gate that fails is no
    /// error.
    pub async fn judge(&self, model: &str, version: u32) -> Result<GateReport> {
        let record = self.builds.ensure(self.registry.version(model, version).await?).await?;
        let candidate = self.load(&record).await?;
        let serving = self.registry.routes().await?.into_iter().find(|route| route.model == model);
        let serving = serving.and_then(|route| route.version).filter(|number| *number != version);
        let production = match serving {
            Some(number) => Some(self.incumbent(model, number).await?),
            None => None,
        };
        let evaluation = if candidate.package.manifest.files.contains_key(EVALUATION) {
            let bytes = candidate.package.file(&*self.ports.blobs, EVALUATION).await?;
            let spec: TrainingSpec = from_json_bytes(EVALUATION, &bytes)?;
            let bars = self.datasets.load_bars(&spec.dataset.name, Some(&spec.dataset.version)).await?;
            Some((spec, bars))
        } else {
            None
        };
        let config = self.config.clone();
        let now_ms = self.ports.clock.now_ms();
        let report = tokio::task::spawn_blocking(move || {
            judge(&config, &candidate, production.as_ref(), evaluation.as_ref(), now_ms)
        })
        .await
        .map_err(|e| Error::internal("judging a version").with_source(e))??;
        self.record(&record, &report).await?;
        Ok(report)
    }

    /// Judges a version that was registered, unless it was judged before.
    async fn on_registered(&self, event: &Event) -> Result<()> {
        let (model, version) = subject(&event.detail)?;
        if self.registry.version(model, version).await?.gates.is_none() {
            self.judge(model, version).await?;
        }
        // That another version entered production was perhaps told before this report was there.
        self.judge_overtaken(model).await
    }

    /// Builds what was promoted, where it was not built by the compiler of today, and judges again the versions that wait to
    /// be promoted by themselves, but were compared with what serves no more.
    async fn on_promoted(&self, event: &Event) -> Result<()> {
        let (model, version) = subject(&event.detail)?;
        let built = self.builds.ensure(self.registry.version(model, version).await?).await;
        self.judge_overtaken(model).await?;
        built.map(|_| ())
    }

    async fn judge_overtaken(&self, model: &str) -> Result<()> {
        let route = self.registry.routes().await?.into_iter().find(|route| route.model == model);
        let Some(serving) = route.and_then(|route| route.version) else { return Ok(()) };
        let is_overtaken = |version: &Version| {
            version.auto_promote
                && version.version > serving
                && matches!(version.stage, Stage::None | Stage::Staging)
                && version.gates.as_ref().is_some_and(|gates| gates.passed && gates.compared_with != Some(serving))
        };
        let waiting: Vec<u32> =
            self.registry.versions(model).await?.iter().filter(|it| is_overtaken(it)).map(|it| it.version).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let moves = self.registry.history(model, usize::MAX).await?;
        for version in waiting {
            if !moves.iter().any(|entry| entry.version == version && is_decided(entry)) {
                self.judge(model, version).await?;
            }
        }
        Ok(())
    }

    /// The latest report on a version.
    ///
    /// # Errors
    /// `NotFound` where it was not judged yet, `Corrupt` where the report is not the one that was recorded.
    pub async fn report(&self, model: &str, version: u32) -> Result<GateReport> {
        let record = self.registry.version(model, version).await?;
        let Some(summary) = record.gates else {
            return Err(Error::not_found("gate report of model version", format_args!("{model}/{version}"))
                .with_hint("`moola models gates` makes it"));
        };
        let bytes = self.ports.blobs.get(&summary.report).await?;
        if sha256_hex(&bytes) != summary.report_sha256 {
            return Err(Error::corrupt(format!("blob `{}` is not the report that was recorded", summary.report)));
        }
        from_json_bytes(&summary.report, &bytes)
    }

    async fn record(&self, record: &Version, report: &GateReport) -> Result<()> {
        let bytes = to_json_bytes(report)?;
        let key = paths::model(&record.model, record.version, &format!("gates/{}.json", self.ports.ids.new_id()));
        let summary = GateSummary {
            passed: report.passed,
            compared_with: report.compared_with,
            failed: report
                .gates
                .iter()
                .filter(|gate| gate.required && !gate.passed)
                .map(|gate| format!("{}: {}", gate.name, gate.detail))
                .collect(),
            report: key.clone(),
            report_sha256: sha256_hex(&bytes),
            created_ms: report.created_ms,
        };
        self.ports.blobs.put(&key, bytes, PutMode::Create).await?;
        let failed: Vec<&str> =
            report.gates.iter().filter(|gate| gate.required && !gate.passed).map(|gate| gate.name.as_str()).collect();
        let detail = json!({
            "model": record.model, "model_version": record.version, "passed": report.passed, "failed": failed,
            "compared_with": report.compared_with,
        });
        let event = self.ports.event("Gates Judged", &record.correlation_id, detail);
        self.registry.set_gates(&record.model, record.version, summary, vec![event]).await.map(|_| ())
    }

    /// The version in production. One that cannot be loaded for good (damaged, or made for other features) cannot serve
    /// either, so it must not keep its successors out.
    async fn incumbent(&self, model: &str, version: u32) -> Result<Incumbent> {
        let record = self.registry.version(model, version).await?;
        match self.load(&record).await {
            Err(error) if error.is_retryable() => Err(error),
            loaded => Ok(Incumbent { version, loaded }),
        }
    }

    async fn load(&self, record: &Version) -> Result<Candidate> {
        let (chosen, model) = self.builds.load(record).await?;
        let ChosenModel { package, engine, bytes, .. } = chosen;
        Ok(Candidate { package, engine: engine.name(), size_bytes: bytes.len(), model })
    }
}

/// Collects results.
struct Judge<'a> {
    config: &'a GateConfig,
    gates: Vec<GateResult>,
}

impl Judge<'_> {
    fn gate(&mut self, name: &str, value: f64, comparison: &str, threshold: f64, what: &str) {
        let passed = match comparison {
            ">=" => value >= threshold,
            _ => value <= threshold,
        };
        let miss = (value - threshold).abs();
        let verdict = if passed { String::new() } else { format!(", missed by {miss:.4}") };
        self.push(
            name,
            passed,
            Some(value),
            comparison,
            threshold,
            format!("{what} {value:.4} {comparison} {threshold:.4}{verdict}"),
        );
    }

    fn push(&mut self, name: &str, passed: bool, value: Option<f64>, comparison: &str, threshold: f64, detail: String) {
        let required = !self.config.advisory.iter().any(|advisory| advisory == name);
        let value = value.filter(|value| value.is_finite());
        self.gates.push(GateResult {
            name: name.into(),
            required,
            passed,
            value,
            comparison: comparison.into(),
            threshold,
            detail,
        });
    }
}

#[async_trait]
impl EventHandler for Gates {
    async fn handle(&self, event: &Event) -> Result<()> {
        match (event.source.as_str(), event.detail_type.as_str()) {
            ("moola", "Model Version Registered") => self.on_registered(event).await,
            ("moola", "Stage Changed") if event.detail["to"] == "Production" => self.on_promoted(event).await,
            (_, MAINTENANCE_DUE) => self.builds.refresh().await,
            _ => Ok(()),
        }
    }
}

fn judge(
    config: &GateConfig,
    candidate: &Candidate,
    production: Option<&Incumbent>,
    evaluation: Option<&(TrainingSpec, Bars)>,
    now_ms: i64,
) -> Result<GateReport> {
    let manifest = &candidate.package.manifest;
    let mut judge = Judge { config, gates: Vec::new() };
    let mut report = GateReport {
        format_version: crate::contract::FORMAT_VERSION,
        model: manifest.model.clone(),
        version: manifest.version,
        engine: candidate.engine.into(),
        build: candidate.package.build.as_ref().map(|build| build.build.clone()),
        compared_with: production.map(|incumbent| incumbent.version),
        passed: false,
        gates: Vec::new(),
        dataset: None,
        classification: BTreeMap::new(),
        regression: BTreeMap::new(),
        loss: None,
        accuracy: None,
        comparisons: BTreeMap::new(),
        latency: None,
        created_ms: now_ms,
    };
    judge.gate("size", candidate.size_bytes as f64, "<=", config.max_size_bytes as f64, "model size in bytes");
    match evaluation {
        Some((spec, bars)) => {
            report.dataset = Some(format!("{}@{}", spec.dataset.name, spec.dataset.version));
            let set = samples::build(spec, bars)?;
            judge_samples(&mut judge, &mut report, candidate, production, spec, &set, bars)?;
        }
        None => judge.push(
            "held_out",
            false,
            None,
            ">=",
            0.0,
            "the package names no dataset and label to judge it on (`evaluation`)".into(),
        ),
    }
    report.gates = judge.gates;
    report.passed = report.gates.iter().all(|gate| gate.passed || !gate.required);
    Ok(report)
}

fn judge_samples(
    judge: &mut Judge<'_>,
    report: &mut GateReport,
    candidate: &Candidate,
    production: Option<&Incumbent>,
    spec: &TrainingSpec,
    set: &SampleSet,
    bars: &Bars,
) -> Result<()> {
    let config = judge.config;
    let manifest = &candidate.package.manifest;
    let rival = production.and_then(|incumbent| incumbent.loaded.as_ref().ok());
    let history = rival.map_or(0, |rival| rival.package.manifest.history_bars).max(manifest.history_bars);
    let rows: Vec<usize> = set.test.iter().copied().filter(|&row| set.samples[row].end + 1 >= history).collect();
    let evaluation = Evaluation::new(set, bars, &rows, manifest)?;
    let forecasts = evaluation.forecast(&candidate.package.manifest, &*candidate.model)?;
    let losses = evaluation.losses(&forecasts);
    // Labels of neighbouring samples look at the same bars: a block covers at least a horizon.
    let overlap = spec.label.horizon() as f64 / spec.window.stride as f64;
    let bootstrap = BootstrapConfig {
        seed: 1337,
        mean_block_length: Some(default_block_length(rows.len()).max(overlap)),
        ..BootstrapConfig::default()
    };

    evaluation.metrics("candidate", &forecasts, report)?;
    report.loss = Some(crate::stats::bootstrap_mean(&losses, &bootstrap)?);
    if let Some(hits) = evaluation.hits(&forecasts) {
        report.accuracy = Some(crate::stats::bootstrap_mean(&hits, &bootstrap)?);
    }
    if let Some(metrics) = report.classification.get("candidate") {
        if let Some(threshold) = config.min_accuracy {
            judge.gate("accuracy", metrics.accuracy, ">=", threshold, "accuracy");
        }
        if let Some(threshold) = config.max_calibration_error {
            let value = metrics.expected_calibration_error;
            judge.gate("calibration", value, "<=", threshold, "expected calibration error");
        }
    }
    if let Some(metrics) = report.regression.get("candidate") {
        if let Some(threshold) = config.min_r2 {
            judge.gate("r2", metrics.r2.unwrap_or(f64::NEG_INFINITY), ">=", threshold, "R2");
        }
        if let Some(threshold) = config.max_mse {
            judge.gate("mse", metrics.mse, "<=", threshold, "mean squared error");
        }
    }

    // Against the best naive baseline: the loss must be significantly lower.
    let mut best: Option<(String, Vec<f64>, f64)> = None;
    for (name, forecasts) in crate::baselines::forecasts(set, &rows, evaluation.num_classes()) {
        evaluation.metrics(&name, &forecasts, report)?;
        let losses = evaluation.losses(&forecasts);
        let mean = mean(&losses);
        if best.as_ref().is_none_or(|(_, _, least)| mean < *least) {
            best = Some((name, losses, mean));
        }
    }
    if let Some((name, baseline, _)) = best {
        let comparison = paired_difference(&baseline, &losses, &bootstrap)?;
        let p = comparison.p_value_greater;
        let verdict = if p <= config.baseline_p_value { "lower" } else { "not significantly lower" };
        let detail = format!(
            "mean loss {:.5} is {verdict} than {:.5} of baseline `{name}` (p {p:.4}, needed at most {})",
            mean(&losses),
            mean(&baseline),
            config.baseline_p_value
        );
        judge.push("beats_baseline", p <= config.baseline_p_value, Some(p), "<=", config.baseline_p_value, detail);
        report.comparisons.insert(name, comparison);
    }

    if let Some(incumbent) = production {
        judge_against(judge, report, &evaluation, &losses, manifest, incumbent, &bootstrap)?;
    }

    // Robustness: the same samples after small damage.
    let tail = &rows[rows.len().saturating_sub(config.max_robustness_samples)..];
    let clean = Evaluation::new(set, bars, tail, manifest)?;
    let clean_loss = mean(&clean.losses(&clean.forecast(manifest, &*candidate.model)?));
    let limit = clean_loss * (1.0 + config.max_robustness_loss);
    let noisy = perturb::with_noise(bars, config.noise_level, 1337);
    let noisy = Evaluation::new(set, &noisy, tail, manifest)?;
    let value = mean(&noisy.losses(&noisy.forecast(manifest, &*candidate.model)?));
    judge.gate("robust_to_noise", value, "<=", limit, "mean loss with noise");
    let ends: Vec<usize> = tail.iter().map(|&row| set.samples[row].end).collect();
    let (sparse, moved) = perturb::with_missing_bars(bars, config.missing_share, &ends, 1337);
    let sparse = clean.on_other_bars(&sparse, moved, manifest.history_bars);
    let value = mean(&sparse.losses(&sparse.forecast(manifest, &*candidate.model)?));
    judge.gate("robust_to_missing_bars", value, "<=", limit, "mean loss with missing bars");

    let latency = clean.latency(manifest, &*candidate.model)?;
    judge.gate("latency", latency.p99_ms, "<=", config.max_latency_ms, "99th percentile of a prediction in ms");
    report.latency = Some(latency);
    Ok(())
}

/// Against the version in production: not worse by more than the margin, and not significantly worse.
fn judge_against(
    judge: &mut Judge<'_>,
    report: &mut GateReport,
    evaluation: &Evaluation<'_>,
    losses: &[f64],
    manifest: &ModelManifest,
    incumbent: &Incumbent,
    bootstrap: &BootstrapConfig,
) -> Result<()> {
    const GATE: &str = "not_worse_than_production";
    let config = judge.config;
    let version = incumbent.version;
    let rival = match &incumbent.loaded {
        Ok(rival) => rival,
        Err(error) => {
            let detail =
                format!("version {version} in production cannot be loaded, so nothing compares: {}", error.chain());
            judge.push(GATE, true, None, "<=", 0.0, detail);
            return Ok(());
        }
    };
    let theirs = &rival.package.manifest;
    if theirs.task != manifest.task || theirs.classes != manifest.classes || theirs.label != manifest.label {
        let detail = format!(
            "version {version} in production predicts something else ({:?} of {:?}); archive it, or use another model's name",
            theirs.task, theirs.classes
        );
        judge.push(GATE, false, None, "<=", 0.0, detail);
        return Ok(());
    }
    let forecasts = match evaluation.forecast(theirs, &*rival.model) {
        Ok(forecasts) => forecasts,
        Err(error) => {
            let detail = format!("version {version} in production cannot forecast these samples: {}", error.chain());
            judge.push(GATE, false, None, "<=", 0.0, detail);
            return Ok(());
        }
    };
    evaluation.metrics("production", &forecasts, report)?;
    let rival = evaluation.losses(&forecasts);
    let p_worse = paired_difference(losses, &rival, bootstrap)?.p_value_greater;
    let limit = mean(&rival) * (1.0 + config.production_margin);
    let passed = mean(losses) <= limit && p_worse > config.production_p_value;
    let detail = format!(
        "mean loss {:.5} against {:.5} of version {version} in production (at most {limit:.5}; p of being no worse \
         {p_worse:.4}, needed above {})",
        mean(losses),
        mean(&rival),
        config.production_p_value
    );
    judge.push(GATE, passed, Some(mean(losses)), "<=", limit, detail);
    report.comparisons.insert("production".into(), paired_difference(&rival, losses, bootstrap)?);
    Ok(())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
