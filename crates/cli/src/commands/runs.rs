//! `moola runs` and `moola drift`.

use moola_api::control::RunView;
use moola_core::contract::{Progress, RunOutcome};
use moola_core::monitor::DriftCheck;
use moola_core::stats::DriftReport;
use moola_core::training::{Run, RunStatus};
use serde::Deserialize;

use super::{report, show, split_model};
use crate::args::{DriftCommand, Global, RunsCommand};
use crate::client::{Call, Client};
use crate::output::{self, Hint as _, Table, line, number};

#[derive(Deserialize)]
struct Runs {
    runs: Vec<Run>,
}

/// What a run reported.
#[derive(Deserialize)]
pub(super) struct ProgressList {
    pub(super) progress: Vec<Progress>,
}

/// A status in a word.
pub(super) fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Pending => "pending",
        RunStatus::Running => "running",
        RunStatus::Completed => "completed",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
    }
}

/// Runs the command.
pub(super) async fn run(global: &Global, client: &Client, command: RunsCommand) -> anyhow::Result<()> {
    match command {
        RunsCommand::List { limit } => {
            show(global, client, Call::get(&["training", "jobs"]).with("limit", limit), |answer: Runs| {
                let mut table = Table::new(&[
                    "run", "model", "dataset", "status", "version", "log loss", "baseline", "trigger", "created",
                ]);
                for run in answer.runs {
                    let metric = |names: [&str; 2]| names.iter().find_map(|name| run.metrics.get(*name).copied());
                    table.row([
                        run.run_id.clone(),
                        run.model_name.clone(),
                        run.dataset.clone(),
                        status(run.status).into(),
                        run.model_version.map_or("-".into(), |version| version.to_string()),
                        number(metric(["log_loss", "mse"]), 4),
                        number(metric(["baseline_log_loss", "baseline_mse"]), 4),
                        run.trigger.clone(),
                        output::time(run.created_ms),
                    ]);
                }
                table.print()
            })
            .await
        }
        RunsCommand::Show { run } => {
            let progress: ProgressList = client.call(Call::get(&["training", "jobs", &run, "progress"])).await?;
            show(global, client, Call::get(&["training", "jobs", &run]), |view: RunView| {
                print(&view, &progress.progress)
            })
            .await
        }
    }
}

fn print(view: &RunView, progress: &[Progress]) -> anyhow::Result<()> {
    let RunView { run, spec, result } = view;
    line(format!("run        {} ({})", run.run_id, status(run.status)))?;
    if let Some(reason) = &run.reason {
        line(format!("reason     {reason}"))?;
    }
    line(format!(
        "model      {}",
        run.model_version.map_or(run.model_name.clone(), |v| format!("{}/{v}", run.model_name))
    ))?;
    line(format!("dataset    {} ({} {})", run.dataset, spec.dataset.symbol, spec.dataset.interval))?;
    line(format!("label      {}", serde_json::to_string(&spec.label)?))?;
    line(format!("window     {}", serde_json::to_string(&spec.window)?))?;
    line(format!("sizes      {}", serde_json::to_string(&spec.model)?))?;
    line(format!("optimizer  {}", serde_json::to_string(&spec.optimizer)?))?;
    line(format!("trigger    {}", run.trigger))?;
    line(format!("correlation {}", run.correlation_id))?;
    let epochs = progress.iter().filter_map(|entry| match entry {
        Progress::Epoch(epoch) => Some(epoch),
        Progress::Step(_) => None,
    });
    let mut table = Table::new(&["epoch", "train loss", "validation loss", "validation score", "seconds"]);
    let mut any = false;
    for epoch in epochs {
        any = true;
        table.row([
            epoch.epoch.to_string(),
            number(Some(epoch.train_loss), 5),
            number(Some(epoch.validation_loss), 5),
            number(Some(epoch.validation_score), 4),
            number(Some(epoch.duration_secs), 1),
        ]);
    }
    if any {
        line("")?;
        table.print()?;
    }
    let Some(result) = result else { return Ok(()) };
    line("")?;
    if let RunOutcome::Failed { reason } = &result.outcome {
        return line(format!("failed: {reason}"));
    }
    let [train, validation, test] = result.num_samples;
    line(format!(
        "{train} training, {validation} validation, {test} test windows; best epoch {} of {}; {:.1} s, {:.0} windows/s",
        result.best_epoch, result.epochs, result.duration_secs, result.windows_per_sec
    ))?;
    if let Some(metrics) = &result.metrics {
        report::folds(metrics).print()?;
    }
    result.warnings.iter().try_for_each(|warning| line(format!("warning: {warning}")))
}

#[derive(Deserialize)]
struct CheckView {
    check: DriftCheck,
    report: DriftReport,
}

#[derive(Deserialize)]
struct Checks {
    checks: Vec<DriftCheck>,
}

/// Runs `moola drift`.
pub(super) async fn drift(global: &Global, client: &Client, command: DriftCommand) -> anyhow::Result<()> {
    match command {
        DriftCommand::Check { model, all } => {
            let (name, version) = split_model(&model);
            let call = Call::post(&["drift", name, "check"]).with_some("version", version);
            let shown = show(global, client, call, |view: CheckView| print_check(&view, all)).await;
            match shown {
                Err(error) if error.to_string().contains("logged predictions") => Err(error).hint(
                    "predictions are counted once they are in the log, which takes the `flush_ms` of `[serving.log]` (1 s \
                     by default); `min_rows` of `[monitor.drift]` is how many are needed",
                ),
                shown => shown,
            }
        }
        DriftCommand::List { model, limit } => {
            let call = Call::get(&["drift", model.as_str(), "checks"]).with("limit", limit);
            show(global, client, call, |answer: Checks| {
                let mut table =
                    Table::new(&["check", "version", "rows", "drifted", "share", "worst", "accuracy", "time"]);
                for check in answer.checks {
                    table.row([
                        check.check_id,
                        check.version.to_string(),
                        check.num_rows.to_string(),
                        if check.drifted { "yes" } else { "no" }.into(),
                        number(Some(check.drifted_share), 2),
                        check.worst_columns.join(" "),
                        number(check.accuracy, 4),
                        output::time(check.created_ms),
                    ]);
                }
                table.print()
            })
            .await
        }
    }
}

fn print_check(view: &CheckView, all: bool) -> anyhow::Result<()> {
    let CheckView { check, report } = view;
    let mut table = Table::new(&["column", "drifted", "PSI", "KS", "p adjusted", "mean then", "mean now"]);
    for column in report.columns.iter().chain(&report.predictions).filter(|column| all || column.drifted) {
        let statistics = column.statistics.as_ref();
        table.row([
            column.name.clone(),
            if column.drifted { "yes" } else { "no" }.into(),
            number(statistics.map(|s| s.psi), 3),
            number(statistics.map(|s| s.ks), 3),
            number(statistics.map(|s| s.p_adjusted), 4),
            statistics.map_or("-".into(), |s| format!("{:.4e}", s.mean_reference)),
            statistics.map_or("-".into(), |s| format!("{:.4e}", s.mean_current)),
        ]);
    }
    table.print()?;
    let verdict = if check.drifted { "DRIFT" } else { "no drift" };
    line(format!(
        "\n{verdict}: {} of {} columns drifted ({:.0} %), predictions {}; {} predictions of {}/{}",
        report.num_drifted,
        report.columns.len(),
        100.0 * check.drifted_share,
        if check.prediction_drifted { "drifted" } else { "did not" },
        check.num_rows,
        check.model,
        check.version
    ))?;
    if let Some(accuracy) = check.accuracy {
        line(format!("accuracy where the outcome is known: {accuracy:.4}"))?;
    }
    Ok(())
}
