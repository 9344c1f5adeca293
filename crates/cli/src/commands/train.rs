//! `moola train`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use moola_api::control::RunView;
use moola_core::contract::Progress;
use moola_core::gates::GateReport;
use moola_core::registry::{Stage, Version};
use moola_core::training::{Run, RunStatus, TrainRequest};
use serde_json::{Map, Value, json};

use super::runs::ProgressList;
use super::{read_input, report};
use crate::args::{Global, Label, TrainArgs};
use crate::client::{Call, Client};
use crate::output::{self, Hint as _, line, note, usage};

/// How often a run is looked at.
const POLL: Duration = Duration::from_millis(300);

/// Runs the command.
pub(super) async fn run(global: &Global, client: &Client, args: TrainArgs) -> anyhow::Result<()> {
    if args.detach && !client.is_remote() {
        return Err(usage(
            "`--detach` needs a running platform, and there is none",
            "start one with `moola up`, or leave `--detach` out and wait",
        ));
    }
    let request = request(&args)?;
    let mut signals = crate::server::Signals::new()?;
    let run: Run = client.call(Call::post(&["training", "jobs"]).json(&request)?).await?;
    if args.detach {
        if global.json {
            return output::json(&run);
        }
        line(format!("run {} is started", run.run_id))?;
        return line(format!("next: `moola runs show {0}`, `moola jobs logs {0}`", run.run_id));
    }
    note(global, format!("run {} trains `{}` on {}", run.run_id, run.model_name, run.dataset));
    let run_id = run.run_id.clone();
    tokio::select! {
        done = attend(global, client, run) => done,
        signal = signals.wait() => {
            // Stopping takes the time of a checkpoint; who does not want to wait for that need not.
            tokio::spawn(async move {
                signals.wait().await;
                std::process::exit(1);
            });
            left(&run_id, signal, client.is_remote())
        }
    }
}

/// Fails with what becomes of a run that is waited for no longer.
fn left(run_id: &str, signal: &str, is_remote: bool) -> anyhow::Result<()> {
    let (becomes, hint) = if is_remote {
        ("the run goes on", format!("`moola runs show {run_id}` shows it, `moola jobs cancel {run_id}` drops it"))
    } else {
        (
            "the run is stopped",
            format!(
                "it resumes with `moola up` or the next command that runs jobs; `moola jobs cancel {run_id}` drops it"
            ),
        )
    };
    Err(anyhow::anyhow!("run `{run_id}` is waited for no longer ({signal}): {becomes}")).hint(hint)
}

/// Waits for a run and shows what became of it.
async fn attend(global: &Global, client: &Client, run: Run) -> anyhow::Result<()> {
    let run = follow(global, client, run).await?;
    let view: RunView = client.call(Call::get(&["training", "jobs", &run.run_id])).await?;
    if run.status != RunStatus::Completed {
        let reason = run.reason.as_deref().unwrap_or("no reason is known");
        let failed: anyhow::Result<()> = Err(anyhow::anyhow!("run `{}` did not complete: {reason}", run.run_id));
        return failed.hint(format!("`moola jobs logs {}` shows what it printed", run.run_id));
    }
    let (version, gates) = judged(client, &run).await?;
    if global.json {
        return output::json(&json!({"run": view, "version": version, "gates": gates}));
    }
    if let Some(result) = &view.result {
        let [train, validation, test] = result.num_samples;
        line(format!(
            "{train} training, {validation} validation, {test} test windows; best epoch {} of {}; {:.1} s, {:.0} windows/s",
            result.best_epoch, result.epochs, result.duration_secs, result.windows_per_sec
        ))?;
        if let Some(metrics) = &result.metrics {
            report::folds(metrics).print()?;
        }
        for warning in &result.warnings {
            line(format!("warning: {warning}"))?;
        }
    }
    line("")?;
    report::gates(&gates)?;
    let name = format!("{}/{}", version.model, version.version);
    match (version.stage, gates.passed) {
        (Stage::Production, _) => {
            line(format!("{name} is in production. next: `moola predict {} FILE`", version.model))
        }
        (_, true) => line(format!("next: `moola models promote {name}`")),
        (_, false) => line(format!(
            "next: another label, more bars or other features; `moola predict {name} FILE` tries it all the same"
        )),
    }
}

/// The request that the flags make of the file or the defaults.
fn request(args: &TrainArgs) -> anyhow::Result<TrainRequest> {
    let mut request = match &args.spec {
        Some(path) => serde_json::from_slice::<Map<String, Value>>(&read_input(path)?)
            .with_context(|| format!("the request `{}`", path.display()))?,
        None => Map::new(),
    };
    fn set(request: &mut Map<String, Value>, field: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            request.insert(field.into(), value.into());
        }
    }
    set(&mut request, "dataset", args.dataset.clone());
    set(&mut request, "model_name", args.model.clone());
    set(&mut request, "seed", args.seed);
    set(&mut request, "auto_promote", args.promote.then_some(true));
    let mut part = |name: &str, fields: Vec<(&str, Option<Value>)>| -> anyhow::Result<()> {
        let fields: BTreeMap<&str, Value> =
            fields.into_iter().filter_map(|(field, value)| Some((field, value?))).collect();
        if fields.is_empty() {
            return Ok(());
        }
        let part = request.entry(name).or_insert_with(|| json!({}));
        let part = part.as_object_mut().with_context(|| format!("`{name}` of the request is no object"))?;
        part.extend(fields.into_iter().map(|(field, value)| (field.to_owned(), value)));
        Ok(())
    };
    let number = |value: Option<usize>| value.map(Value::from);
    let real = |value: Option<f64>| value.map(Value::from);
    let text = |value: &Option<String>| value.clone().map(Value::from);
    let label = args.label.or(args.spec.is_none().then_some(Label::Expansion)).map(|label| match label {
        Label::Expansion => json!("expansion"),
        Label::TripleBarrier => json!("triple_barrier"),
        Label::ForwardReturn => json!("forward_return"),
    });
    part("label", vec![("kind", label), ("horizon", number(args.horizon)), ("multiple", real(args.multiple))])?;
    part(
        "window",
        vec![
            ("bars", number(args.window)),
            ("stride", number(args.stride)),
            ("feature_set", text(&args.features)),
            ("max_windows", number(args.max_windows)),
        ],
    )?;
    part(
        "model",
        vec![
            ("architecture", text(&args.architecture)),
            ("hidden_size", number(args.hidden_size)),
            ("num_layers", number(args.layers)),
            ("num_heads", number(args.heads)),
            ("dropout", real(args.dropout)),
        ],
    )?;
    part(
        "optimizer",
        vec![
            ("epochs", number(args.epochs)),
            ("batch_size", number(args.batch_size)),
            ("learning_rate", real(args.learning_rate)),
            ("patience", number(args.patience)),
        ],
    )?;
    serde_json::from_value(Value::Object(request)).map_err(|error| usage(format!("the request: {error}"), ""))
}

/// Waits for the end of a run and shows how it goes.
pub(crate) async fn follow(global: &Global, client: &Client, mut run: Run) -> anyhow::Result<Run> {
    let view: RunView = client.call(Call::get(&["training", "jobs", &run.run_id])).await?;
    let epochs = view.spec.optimizer.epochs as u64;
    let bar = output::progress(global, epochs, "epochs");
    let mut num_shown = 0;
    loop {
        let status = ["training", "jobs", run.run_id.as_str()];
        let view: RunView = client.call(Call::get(&status)).await?;
        let progress = client.call::<ProgressList>(Call::get(&["training", "jobs", &run.run_id, "progress"])).await;
        let progress = progress.map(|answer| answer.progress).unwrap_or_default();
        let done: Vec<_> = progress
            .iter()
            .filter_map(|entry| match entry {
                Progress::Epoch(epoch) => Some(epoch),
                Progress::Step(_) => None,
            })
            .collect();
        for epoch in done.iter().skip(num_shown) {
            let text = format!(
                "epoch {:>3}: train loss {:.5}, validation loss {:.5}, score {:.4} ({:.1} s)",
                epoch.epoch, epoch.train_loss, epoch.validation_loss, epoch.validation_score, epoch.duration_secs
            );
            bar.suspend(|| note(global, text));
        }
        num_shown = num_shown.max(done.len());
        bar.set_position(done.last().map_or(0, |epoch| epoch.epoch as u64));
        if let Some(Progress::Step(step)) = progress.last() {
            bar.set_message(format!("step {}, loss {:.4}", step.step, step.loss));
        }
        run = view.run;
        if run.status.is_final() {
            bar.finish_and_clear();
            return Ok(run);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The version that a run became, once the gates have judged it and, where it was asked for, it is promoted.
pub(crate) async fn judged(client: &Client, run: &Run) -> anyhow::Result<(Version, GateReport)> {
    let Some(number) = run.model_version else { bail!("run `{}` completed without a version", run.run_id) };
    let number = number.to_string();
    let segments = ["models", run.model_name.as_str(), "versions", number.as_str()];
    let mut num_looks = 0;
    loop {
        let version: Version = client.call(Call::get(&segments)).await?;
        if let Some(gates) = &version.gates {
            // The promotion follows the report in no time; where somebody else was faster, it never does.
            let is_done = !run.auto_promote || !gates.passed || version.stage == Stage::Production;
            if is_done || num_looks > 20 {
                let gates = client.call(Call::get(&["models", &run.model_name, "versions", &number, "gates"])).await?;
                return Ok((version, gates));
            }
            num_looks += 1;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Runs the training container in this process; the exit code is the container's.
pub(crate) fn run_trainer(spec_url: &str) -> anyhow::Result<i32> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let stop = Arc::new(AtomicBool::new(false));
    {
        let stop = stop.clone();
        let _guard = runtime.enter();
        let mut signals = crate::server::Signals::new()?;
        runtime.spawn(async move {
            loop {
                signals.wait().await;
                stop.store(true, Ordering::Relaxed);
            }
        });
    }
    let environment = BTreeMap::from([
        ("operating_system".to_owned(), std::env::consts::OS.to_owned()),
        ("processor".to_owned(), std::env::consts::ARCH.to_owned()),
        ("backend".to_owned(), "burn flex".to_owned()),
    ]);
    let attempt = std::env::var("AWS_BATCH_JOB_ATTEMPT").ok().and_then(|attempt| attempt.parse().ok());
    let options = moola_trainer::Options { show_bar: false, stop, attempt, environment };
    Ok(moola_trainer::run(spec_url, &options, runtime.handle()))
}
