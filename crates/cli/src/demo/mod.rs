//! `moola demo`: the whole loop once, over HTTP, with honest numbers.
//!
//! Import, train, gates, promote, predict bars that the training never saw, judge the predictions against naive baselines,
//! look for drift, change the market, look again, retrain by itself, gates, promote by itself while requests go on, judge
//! again. Every step is a call of the API of a platform that this process runs.

mod evaluate;
mod market;
mod page;
mod svg;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use moola_api::control::{RunView, VersionView};
use moola_api::predict::PredictAnswerV2;
use moola_core::app::Settings;
use moola_core::contract::{EpochProgress, Progress};
use moola_core::gates::GateReport;
use moola_core::monitor::DriftCheck;
use moola_core::ports::Event;
use moola_core::registry::{Stage, Version};
use moola_core::stats::{DriftReport, evaluate_returns};
use moola_core::training::{Run, RunStatus, TrainRequest};
use moola_market::labels::LabelSpec;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{DemoArgs, Global};
use crate::client::{Call, Client};
use crate::commands::{self, train};
use crate::output::{self, note};
use crate::server::Server;
use evaluate::{Backtest, Evaluation, Forecast, Truth, backtest};
use market::Market;
use page::{Fact, Story, TrainedVersion};

const DATASET: &str = "demo";
const MODEL: &str = "demo";
const FEATURES: &str = "core";
const WINDOW: usize = 105;
/// Windows of a training, the latest ones.
const MAX_WINDOWS: usize = 11_000;
const EPOCHS: usize = 6;
/// Predictions of each part, and those that a drift check looks at.
const NUM_FORECASTS: usize = 1000;
const EXPANSION: usize = 1;

/// The demo while it goes on.
struct Demo<'a> {
    global: &'a Global,
    client: Client,
    url: String,
    market: Market,
    label: LabelSpec,
    history_bars: usize,
    stride: usize,
    seed: u64,
    facts: Vec<Fact>,
    latencies_ms: Vec<f64>,
}

/// Runs the demo.
pub(crate) async fn run(global: &Global, args: DemoArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let market = match &args.data {
        Some(path) => market::of_file(path)?,
        None => market::simulated(args.seed)?,
    };
    let (temporary, data_dir) = match &global.data_dir {
        Some(dir) => (None, dir.clone()),
        None => {
            let dir =
                tempfile::Builder::new().prefix("moola-demo-").tempdir().context("cannot make a data directory")?;
            let path = dir.path().to_owned();
            (Some(dir), path)
        }
    };
    let mut settings = Settings::default();
    // The demo asks for the checks, and looks at one part of the predictions in each.
    settings.drift_schedule.enabled = false;
    settings.monitor.max_rows = NUM_FORECASTS;
    settings.serving.log.flush_ms = 100;
    let psi_threshold = settings.monitor.drift.psi_threshold;
    let server = Server::start(&data_dir, settings, ([127, 0, 0, 1], 0).into()).await?;
    let history_bars = moola_market::features::FeatureSet::builtin(FEATURES)?.history_bars().max(WINDOW);
    let stride = if market.train_end >= 20_000 { 2 } else { 1 };
    let mut demo = Demo {
        global,
        client: Client::remote(server.url())?,
        url: server.url().to_owned(),
        market,
        label: LabelSpec::Expansion { horizon: 10, multiple: 1.0 },
        history_bars,
        stride,
        seed: args.seed,
        facts: Vec::new(),
        latencies_ms: Vec::new(),
    };
    let out = std::path::absolute(&args.out)?;
    let done = demo.go(&out, psi_threshold, started).await;
    server.stop().await?;
    if let Some(temporary) = temporary {
        if args.keep {
            let kept = temporary.keep();
            note(global, format!("the data is kept: `moola --data-dir {} models show {MODEL}`", kept.display()));
        } else if let Err(error) = temporary.close() {
            note(global, format!("the data directory was not removed: {error}"));
        }
    }
    done
}

#[derive(Deserialize)]
struct CheckView {
    check: DriftCheck,
    report: DriftReport,
}

#[derive(Deserialize)]
struct Runs {
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Events {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct ProgressList {
    progress: Vec<Progress>,
}

/// A run that became a version.
struct Trained {
    run: Run,
    version: Version,
    gates: GateReport,
    epochs: Vec<EpochProgress>,
    secs: f64,
}

impl Demo<'_> {
    /// Prints a line: for people on standard output, beside JSON on standard error.
    fn say(&self, text: impl std::fmt::Display) {
        if self.global.json || self.global.quiet {
            note(self.global, text);
        } else if let Err(error) = output::line(text) {
            note(self.global, error);
        }
    }

    fn fact(&mut self, is_good: Option<bool>, text: String) {
        self.say(format!("   {text}"));
        self.facts.push(Fact { text, is_good });
    }

    async fn go(&mut self, out: &Path, psi_threshold: f64, started: Instant) -> anyhow::Result<()> {
        self.say(format!("1. import: {}", self.market.source));
        self.say(format!("   {}", self.market.shift));
        if let Some(file) = &self.market.file {
            let call = Call::post(&["datasets"]).with("name", "demo-source").with("symbol", &self.market.symbol);
            let call = call.with("mode", "quarantine").with("filename", "source").file(file.clone());
            let answer: Value = self.client.call(call).await?;
            let quality = &answer["report"];
            self.say(format!(
                "   the file: {} rows, {} rejected and kept in quarantine, {} warnings",
                quality["num_rows"], quality["num_rejected"], quality["num_warnings"]
            ));
        }
        let dataset = self.import(self.market.train_end).await?;
        self.say(format!("   dataset {dataset}: the first {} bars; all later bars stay unseen", self.market.train_end));

        self.say("2. train a BiLSTM with attention on them");
        let first = self.train().await?;
        let version = first.version.version;
        self.tell_run(&first).await?;

        self.say("3. gates, then promotion");
        let in_production = self.promote(&first).await?;
        let reference = if in_production { "production".to_owned() } else { version.to_string() };

        self.say("4. predict bars that the training never saw, one window at a time over HTTP");
        let (train_end, shift_at, known_end, num_bars) =
            (self.market.train_end, self.market.shift_at, self.market.known_end, self.market.bars.len());
        let horizon = self.label.horizon();
        let unseen = self.forecast(&reference, train_end..shift_at - horizon).await?;
        let bars = self.market.bars.clone();
        let truth = Truth::new(&bars, &self.label, self.history_bars, self.stride)?;
        let evaluation = truth.evaluate(&[(format!("version {version}"), &unseen)], train_end, shift_at)?;
        self.tell(&evaluation);
        let verdict = format!("On {} unseen bars, {}.", evaluation.outcomes.len(), evaluation.verdict());
        self.fact(Some(evaluation.beats_baseline()), verdict);
        let ranges: Vec<(f64, f64)> = unseen
            .iter()
            .filter_map(|forecast| Some((forecast.probabilities[EXPANSION], truth.range_after(forecast.end)?)))
            .collect();
        let prior = self.prior(&truth);
        let traded = backtest(&bars, &unseen, EXPANSION, prior);
        self.tell_trades(&traded, &unseen)?;

        self.say("5. drift check on these predictions");
        let before = self.check_drift(&reference).await?;
        if let Some(view) = &before {
            let text = drift_text("Before the change", view);
            self.fact(Some(!view.check.drifted), text);
        }

        self.say(format!("6. the market changes: {}", self.market.shift));
        let dataset = self.import(known_end).await?;
        self.say(format!("   dataset {dataset}: the first {known_end} bars, those of the changed market included"));
        let changed = self.forecast(&reference, shift_at + WINDOW..known_end - horizon).await?;
        let evaluated = truth.evaluate(&[(format!("version {version}"), &changed)], train_end, known_end)?;
        self.say(format!("   after the change: {}", evaluated.verdict()));
        let after = self.check_drift(&reference).await?;
        let drifted = after.as_ref().is_some_and(|view| view.check.drifted);
        if let Some(view) = &after {
            let text = drift_text("After the change", view);
            self.fact(Some(view.check.drifted), text);
        }

        let mut versions = vec![first];
        let mut compared = None;
        if drifted {
            self.say("7. drift starts a retraining by itself; requests go on meanwhile");
            let second = self.retrain(&reference).await?;
            if let Some(second) = second {
                self.say("8. bars that neither version saw");
                let number = second.version.version;
                versions.push(second);
                let part = known_end..num_bars - horizon;
                let old = self.forecast(&version.to_string(), part.clone()).await?;
                let new = self.forecast(&number.to_string(), part).await?;
                let both = [(format!("version {number}"), &new[..]), (format!("version {version}"), &old[..])];
                let evaluation = truth.evaluate(&both, known_end, num_bars)?;
                self.tell(&evaluation);
                let verdict = format!(
                    "After the change, on {} bars that no version saw, {}.",
                    evaluation.outcomes.len(),
                    evaluation.verdict()
                );
                self.fact(Some(evaluation.beats_baseline()), verdict);
                compared = Some(evaluation);
            }
        } else {
            self.fact(None, "Without drift there is no retraining.".into());
        }

        let mut events = self.client.call::<Events>(Call::get(&["events"]).with("limit", 200)).await?.events;
        events.reverse();
        let correlation_id = events.iter().rev().find(|event| event.detail_type == "Drift Detected");
        let correlation_id = correlation_id.map_or_else(String::new, |event| event.correlation_id.clone());
        let mut shown = Vec::new();
        for trained in versions {
            let segments = ["models", MODEL, "versions", &trained.version.version.to_string()];
            let view: VersionView = self.client.call(Call::get(&segments)).await?;
            shown.push(TrainedVersion {
                version: trained.version.version,
                trigger: trained.run.trigger,
                stage: view.version.stage.to_string(),
                epochs: trained.epochs,
                gates: trained.gates,
                secs: trained.secs,
            });
        }
        let total_secs = started.elapsed().as_secs_f64();
        let label = serde_json::to_string(&self.label)?;
        let html = page::page(&Story {
            market: &self.market,
            model: MODEL,
            label: &label,
            facts: &self.facts,
            versions: &shown,
            unseen: &evaluation,
            unseen_forecasts: &unseen,
            shifted: compared.as_ref(),
            ranges: &ranges,
            backtest: &traded,
            drift_before: before.as_ref().map(|view| &view.report),
            drift_after: after.as_ref().map(|view| &view.report),
            psi_threshold,
            events: &events,
            correlation_id: &correlation_id,
            latencies_ms: &self.latencies_ms,
            total_secs,
        });
        let path = write_page(out, &html)?;
        self.say(format!("\ndone in {total_secs:.0} s. The page: {}", path.display()));
        if self.global.json {
            let scores = |evaluation: &Evaluation| {
                let scores = evaluation.scores.iter().map(|score| {
                    let values = json!({
                        "accuracy": score.accuracy, "macro_f1": score.macro_f1, "log_loss": score.log_loss,
                        "calibration_error": score.calibration, "num_rows": score.metrics.num_rows,
                    });
                    (score.name.clone(), values)
                });
                json!({
                    "scores": scores.collect::<serde_json::Map<_, _>>(), "best_baseline": evaluation.best_baseline,
                    "comparison": evaluation.comparison, "beats_baseline": evaluation.beats_baseline(),
                })
            };
            output::json(&json!({
                "page": path, "total_secs": total_secs, "unseen": scores(&evaluation),
                "after_change": compared.as_ref().map(scores),
                "drift_before": before.as_ref().map(|view| &view.check),
                "drift_after": after.as_ref().map(|view| &view.check),
                "versions": shown.iter().map(|version| json!({
                    "version": version.version, "trigger": version.trigger, "stage": version.stage,
                    "gates_passed": version.gates.passed, "secs": version.secs,
                })).collect::<Vec<_>>(),
                "facts": self.facts.iter().map(|fact| &fact.text).collect::<Vec<_>>(),
            }))?;
        }
        Ok(())
    }

    /// Imports the first `num_bars` bars as a version of the dataset.
    async fn import(&self, num_bars: usize) -> anyhow::Result<String> {
        let csv = market::to_csv(&self.market.bars.slice(0..num_bars))?;
        let call = Call::post(&["datasets"])
            .with("name", DATASET)
            .with("symbol", &self.market.symbol)
            .with("interval", self.market.interval)
            .with("filename", format!("first-{num_bars}.csv"))
            .with("mode", "quarantine")
            .file(csv);
        let answer: Value = self.client.call(call).await?;
        let text = |field: &str| answer["dataset"][field].as_str().unwrap_or("-").to_owned();
        Ok(format!("{}@{}", text("name"), text("version")))
    }

    async fn train(&self) -> anyhow::Result<Trained> {
        let request: TrainRequest = serde_json::from_value(json!({
            "model_name": MODEL, "dataset": DATASET, "label": self.label, "seed": self.seed,
            "window": {"bars": WINDOW, "stride": self.stride, "feature_set": FEATURES, "max_windows": MAX_WINDOWS},
            "model": {"hidden_size": 32}, "optimizer": {"epochs": EPOCHS, "batch_size": 64, "learning_rate": 0.002, "patience": 3},
        }))?;
        let started = Instant::now();
        let run: Run = self.client.call(Call::post(&["training", "jobs"]).json(&request)?).await?;
        self.finish(run, started).await
    }

    /// Waits for a run, its version and the gates.
    async fn finish(&self, run: Run, started: Instant) -> anyhow::Result<Trained> {
        let run = train::follow(self.global, &self.client, run).await?;
        if run.status != RunStatus::Completed {
            let reason = run.reason.as_deref().unwrap_or("no reason is known");
            bail!("run `{}` did not complete: {reason}", run.run_id);
        }
        let secs = started.elapsed().as_secs_f64();
        let (version, gates) = train::judged(&self.client, &run).await?;
        let progress = Call::get(&["training", "jobs", &run.run_id, "progress"]);
        let progress = self.client.call::<ProgressList>(progress).await?.progress;
        let epochs = progress.into_iter().filter_map(|entry| match entry {
            Progress::Epoch(epoch) => Some(epoch),
            Progress::Step(_) => None,
        });
        Ok(Trained { epochs: epochs.collect(), run, version, gates, secs })
    }

    async fn tell_run(&self, trained: &Trained) -> anyhow::Result<()> {
        let call = Call::get(&["training", "jobs", &trained.run.run_id]);
        let view: RunView = self.client.call(call).await?;
        if let Some(result) = view.result {
            let [train, validation, test] = result.num_samples;
            self.say(format!(
                "   {train} training, {validation} validation, {test} test windows; best epoch {} of {}; {:.0} s, {:.0} windows/s",
                result.best_epoch, result.epochs, result.duration_secs, result.windows_per_sec
            ));
        }
        Ok(())
    }

    fn tell_gates(&self, gates: &GateReport) {
        for gate in &gates.gates {
            let verdict = if gate.passed { "passed" } else { "FAILED" };
            self.say(format!("   {verdict:<7} {:<26} {}", gate.name, gate.detail));
        }
    }

    /// Promotes a version if it passed the gates; returns whether it is in production.
    async fn promote(&mut self, trained: &Trained) -> anyhow::Result<bool> {
        self.tell_gates(&trained.gates);
        let number = trained.version.version;
        if !trained.gates.passed {
            let text = commands::verdict(&trained.gates);
            self.fact(Some(false), format!("{text} It is not promoted; the demo goes on with it by its number."));
            return Ok(false);
        }
        let call = Call::post(&["models", MODEL, "versions", &number.to_string(), "deploy"]);
        let version: Version = self.client.call(call.json(&json!({"reason": "first version of the demo"}))?).await?;
        self.fact(Some(true), format!("{MODEL}/{number} passed every gate and is in {}.", version.stage));
        Ok(version.stage == Stage::Production)
    }

    /// Predicts about [`NUM_FORECASTS`] windows that end in `part`.
    async fn forecast(&mut self, reference: &str, part: std::ops::Range<usize>) -> anyhow::Result<Vec<Forecast>> {
        let step = (part.len() / NUM_FORECASTS).max(1);
        let ends: Vec<usize> = part.step_by(step).collect();
        let bar = output::progress(self.global, ends.len() as u64, "predictions");
        let started = Instant::now();
        let mut forecasts = Vec::with_capacity(ends.len());
        for end in ends {
            forecasts.push(predict(&self.client, &self.market, &self.label, self.history_bars, reference, end).await?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let mut latencies: Vec<f64> = forecasts.iter().map(|forecast| forecast.latency_ms).collect();
        self.latencies_ms.extend_from_slice(&latencies);
        latencies.sort_by(f64::total_cmp);
        let at =
            |share: f64| latencies.get(((latencies.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(0.0);
        self.say(format!(
            "   {} predictions in {:.1} s: {:.1} ms in the middle, {:.1} ms at the 99th percentile",
            forecasts.len(),
            started.elapsed().as_secs_f64(),
            at(0.5),
            at(0.99)
        ));
        // The log is written a moment after the answer; a drift check reads it.
        tokio::time::sleep(Duration::from_millis(400)).await;
        Ok(forecasts)
    }

    fn tell(&self, evaluation: &Evaluation) {
        let mut table = output::Table::new(&["", "accuracy", "macro F1", "log loss", "calibration error"]);
        for score in &evaluation.scores {
            let cell = |interval: &moola_core::stats::Interval| {
                format!("{:.4} ({:.4}..{:.4})", interval.estimate, interval.low, interval.high)
            };
            table.row([
                score.name.clone(),
                cell(&score.accuracy),
                cell(&score.macro_f1),
                cell(&score.log_loss),
                cell(&score.calibration),
            ]);
        }
        for line in table.to_string().lines() {
            self.say(format!("   {line}"));
        }
    }

    /// Share of expansions in the training bars.
    fn prior(&self, truth: &Truth<'_>) -> f64 {
        let known = (0..self.market.train_end - self.label.horizon()).filter_map(|index| truth.class(index));
        let (mut num, mut all) = (0_usize, 0_usize);
        for class in known {
            num += usize::from(class == EXPANSION);
            all += 1;
        }
        num as f64 / all.max(1) as f64
    }

    fn tell_trades(&mut self, traded: &Backtest, forecasts: &[Forecast]) -> anyhow::Result<()> {
        let (Some(first), Some(last)) = (forecasts.first(), forecasts.last()) else { return Ok(()) };
        let time_ms = self.market.bars.time_ms();
        let years = (time_ms[last.end] - time_ms[first.end]) as f64 / (365.25 * 86_400_000.0);
        let per_year = traded.rule.len() as f64 / years.max(1e-6);
        let (rule, hold) = (evaluate_returns(&traded.rule, per_year)?, evaluate_returns(&traded.hold, per_year)?);
        let text = format!(
            "Rule (in the market only while no expansion is expected, {:.2} % a change): {:+.1} % with a drawdown of {:.1} %; buy and hold {:+.1} % with {:.1} %.",
            100.0 * evaluate::COST,
            100.0 * rule.total_return,
            100.0 * rule.max_drawdown.abs(),
            100.0 * hold.total_return,
            100.0 * hold.max_drawdown.abs()
        );
        self.fact(None, text);
        Ok(())
    }

    async fn check_drift(&mut self, reference: &str) -> anyhow::Result<Option<CheckView>> {
        let call = Call::post(&["drift", MODEL, "check"]).with("version", reference);
        match self.client.call::<CheckView>(call).await {
            Ok(view) => Ok(Some(view)),
            Err(error) => {
                self.fact(Some(false), format!("No drift check: {error:#}."));
                Ok(None)
            }
        }
    }

    /// Waits for the retraining that drift started, while requests go on.
    async fn retrain(&mut self, reference: &str) -> anyhow::Result<Option<Trained>> {
        let started = Instant::now();
        let done = Arc::new(AtomicBool::new(false));
        let prober = tokio::spawn(probe(
            Client::remote(&self.url)?,
            done.clone(),
            reference.to_owned(),
            ProbeInput::new(&self.market, &self.label, self.history_bars),
        ));
        let waited = self.wait_for_retrain(started).await;
        // A moment for the new version to answer.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        done.store(true, Ordering::Relaxed);
        let probed = prober.await.context("the requests meanwhile")?;
        let trained = waited?;
        self.tell_run(&trained).await?;
        self.tell_gates(&trained.gates);
        let number = trained.version.version;
        let promoted = trained.version.stage == Stage::Production;
        if promoted {
            let versions: Vec<String> = probed.versions.iter().map(u32::to_string).collect();
            let text = format!(
                "Drift started a retraining by itself: {MODEL}/{number} passed the gates and is in production after {:.0} s. {} requests meanwhile, {} failed; answered by version {}.",
                started.elapsed().as_secs_f64(),
                probed.num_requests,
                probed.num_failed,
                versions.join(", then ")
            );
            self.fact(Some(probed.num_failed == 0 && probed.versions.last() == Some(&number)), text);
        } else {
            let text = commands::verdict(&trained.gates);
            self.fact(
                Some(false),
                format!(
                    "The retrained version was not promoted. {text} {} requests meanwhile, {} failed.",
                    probed.num_requests, probed.num_failed
                ),
            );
        }
        Ok(Some(trained))
    }

    async fn wait_for_retrain(&self, started: Instant) -> anyhow::Result<Trained> {
        let limit = Duration::from_secs(30);
        loop {
            let runs: Runs = self.client.call(Call::get(&["training", "jobs"]).with("limit", 10)).await?;
            if let Some(run) = runs.runs.into_iter().find(|run| run.trigger == "drift") {
                return self.finish(run, started).await;
            }
            if started.elapsed() > limit {
                bail!("drift was detected, but no retraining began in {} s", limit.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What the requests of a prober met.
struct Probed {
    num_requests: usize,
    num_failed: usize,
    /// Versions in the order in which they began to answer.
    versions: Vec<u32>,
}

struct ProbeInput {
    body: Value,
}

impl ProbeInput {
    fn new(market: &Market, label: &LabelSpec, history_bars: usize) -> Self {
        let end = market.known_end - label.horizon();
        Self { body: commands::input(&market.bars, end, WINDOW, history_bars) }
    }
}

/// Predicts again and again until `done`.
async fn probe(client: Client, done: Arc<AtomicBool>, reference: String, input: ProbeInput) -> Probed {
    let mut probed = Probed { num_requests: 0, num_failed: 0, versions: Vec::new() };
    let body = json!({"model": MODEL, "model_version": reference, "input_data": input.body});
    while !done.load(Ordering::Relaxed) {
        probed.num_requests += 1;
        let answer = match Call::post(&["inference", "predict"]).json(&body) {
            Ok(call) => client.call::<PredictAnswerV2>(call).await,
            Err(error) => Err(error),
        };
        match answer.ok().and_then(|answer| answer.model_metadata.model_version.parse().ok()) {
            Some(version) if probed.versions.last() == Some(&version) => {}
            Some(version) => probed.versions.push(version),
            None => probed.num_failed += 1,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    probed
}

async fn predict(
    client: &Client,
    market: &Market,
    label: &LabelSpec,
    history_bars: usize,
    reference: &str,
    end: usize,
) -> anyhow::Result<Forecast> {
    let input = commands::input(&market.bars, end, WINDOW, history_bars);
    let call = Call::post(&["inference", "predict"])
        .json(&json!({"model": MODEL, "model_version": reference, "input_data": input}))?;
    let started = Instant::now();
    let answer: PredictAnswerV2 = client.call(call).await?;
    let latency_ms = started.elapsed().as_secs_f64() * 1e3;
    let prediction = answer.predictions.into_iter().next().context("an answer without a prediction")?;
    let by_class = prediction.probabilities.context("a prediction without probabilities")?;
    let probabilities = label.classes().iter().map(|class| by_class.get(class).copied()).collect::<Option<Vec<f64>>>();
    Ok(Forecast { end, probabilities: probabilities.context("a prediction without all classes")?, latency_ms })
}

fn drift_text(when: &str, view: &CheckView) -> String {
    let CheckView { check, report } = view;
    let verdict = if check.drifted { "drift" } else { "no drift" };
    let worst = if check.drifted { format!(", most in {}", check.worst_columns.join(", ")) } else { String::new() };
    format!(
        "{when}: {verdict} in {} predictions; {} of {} features drifted{worst}; the predictions {}.",
        check.num_rows,
        report.num_drifted,
        report.columns.len(),
        if check.prediction_drifted { "drifted" } else { "did not" }
    )
}

fn write_page(out: &Path, html: &str) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make `{}`", out.display()))?;
    let path = out.join("index.html");
    std::fs::write(&path, html).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}
