//! `moola data`.

use std::path::Path;

use moola_core::dataset::{DatasetManifest, DatasetSummary};
use moola_market::validate::{RejectedRow, ValidationReport};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{read_input, show};
use crate::args::{DataCommand, Global, ImportArgs, Mode};
use crate::client::{Call, Client};
use crate::output::{self, Hint as _, Table, line, note};

/// Rejected rows and findings that are printed; `--json` prints all.
const MAX_SHOWN: usize = 20;

#[derive(Deserialize)]
struct Imported {
    dataset: DatasetManifest,
    created: bool,
    report: ValidationReport,
}

#[derive(Deserialize)]
struct Validated {
    accepted: bool,
    report: ValidationReport,
    rejected: Vec<RejectedRow>,
}

#[derive(Deserialize)]
struct Datasets {
    datasets: Vec<DatasetSummary>,
}

#[derive(Deserialize)]
struct Versions {
    versions: Vec<DatasetManifest>,
}

#[derive(Deserialize)]
struct Rejected {
    rejected: Vec<RejectedRow>,
}

/// Runs the command.
pub(super) async fn run(global: &Global, client: &Client, command: DataCommand) -> anyhow::Result<()> {
    match command {
        DataCommand::Import(args) => import(global, client, args).await,
        DataCommand::Validate { file, interval, format } => validate(global, client, &file, interval, format).await,
        DataCommand::List => {
            show(global, client, Call::get(&["datasets"]), |answer: Datasets| {
                let mut table =
                    Table::new(&["dataset", "symbol", "interval", "bars", "from", "to", "versions", "latest"]);
                for dataset in answer.datasets {
                    let latest = dataset.latest;
                    table.row([
                        dataset.name,
                        latest.symbol,
                        latest.interval.to_string(),
                        latest.num_rows.to_string(),
                        output::time(latest.start_ms),
                        output::time(latest.end_ms),
                        dataset.num_versions.to_string(),
                        latest.version,
                    ]);
                }
                table.print()
            })
            .await
        }
        DataCommand::Show { dataset, rejected } => {
            let (name, version) = dataset.split_once('@').unwrap_or((&dataset, "latest"));
            let one = ["datasets", name, "versions", version];
            if rejected {
                let call = Call::get(&["datasets", name, "versions", version, "rejected"]);
                return show(global, client, call, |answer: Rejected| print_rejected(&answer.rejected, usize::MAX))
                    .await;
            }
            let manifest: Value = client.call(Call::get(&one)).await?;
            let report: Value = client.call(Call::get(&["datasets", name, "versions", version, "report"])).await?;
            let versions: Value = client.call(Call::get(&["datasets", name, "versions"])).await?;
            if global.json {
                return output::json(&json!({"dataset": manifest, "report": report, "versions": versions["versions"]}));
            }
            print_dataset(&serde_json::from_value(manifest)?)?;
            line("")?;
            print_report(&serde_json::from_value(report)?)?;
            let versions: Versions = serde_json::from_value(versions)?;
            let mut table = Table::new(&["version", "bars", "from", "to", "parent", "file", "created"]);
            for version in versions.versions {
                table.row([
                    version.version,
                    version.num_rows.to_string(),
                    output::time(version.start_ms),
                    output::time(version.end_ms),
                    version.parent.unwrap_or_else(|| "-".into()),
                    version.source.file_name,
                    output::time(version.created_ms),
                ]);
            }
            line("")?;
            table.print()
        }
    }
}

async fn import(global: &Global, client: &Client, args: ImportArgs) -> anyhow::Result<()> {
    let bytes = read_input(&args.file)?;
    let file_name = args.file.file_name().map_or_else(|| "stdin".into(), |name| name.to_string_lossy().into_owned());
    let call = Call::post(&["datasets"])
        .with("name", &args.name)
        .with("symbol", &args.symbol)
        .with("mode", if args.mode == Mode::Strict { "strict" } else { "quarantine" })
        .with("filename", if file_name == "-" { "stdin".to_owned() } else { file_name })
        .with("append", args.append)
        .with_some("interval", args.interval.as_ref())
        .with_some("format", args.format.as_ref())
        .file(bytes);
    show(global, client, call, |answer: Imported| {
        print_dataset(&answer.dataset)?;
        line("")?;
        print_report(&answer.report)?;
        if !answer.created {
            note(global, "these bars were imported before; no new version was made");
        }
        note(global, format!("next: `moola train --dataset {} --model NAME`", answer.dataset.name));
        Ok(())
    })
    .await
}

async fn validate(
    global: &Global,
    client: &Client,
    file: &Path,
    interval: Option<String>,
    format: Option<String>,
) -> anyhow::Result<()> {
    let call = Call::post(&["datasets", "validate"])
        .with_some("interval", interval)
        .with_some("format", format)
        .file(read_input(file)?);
    let answer: Value = client.call(call).await?;
    let found: Validated = serde_json::from_value(answer.clone())?;
    if global.json {
        output::json(&answer)?;
    } else {
        print_report(&found.report)?;
        if !found.rejected.is_empty() {
            line("")?;
            print_rejected(&found.rejected, MAX_SHOWN)?;
        }
    }
    if found.accepted {
        return Ok(());
    }
    let refused: anyhow::Result<()> =
        Err(anyhow::anyhow!("{} of {} rows break a rule", found.report.num_rejected, found.report.num_rows));
    refused.hint("correct them, or `moola data import --mode quarantine` keeps the good ones")
}

fn print_dataset(dataset: &DatasetManifest) -> anyhow::Result<()> {
    line(format!("dataset  {}", dataset.reference()))?;
    line(format!(
        "bars     {} of {} {}, {} to {}",
        dataset.num_rows,
        dataset.symbol,
        dataset.interval,
        output::time(dataset.start_ms),
        output::time(dataset.end_ms)
    ))?;
    line(format!("columns  {}", dataset.columns.join(", ")))?;
    line(format!("file     {} (sha256 {})", dataset.source.file_name, dataset.source.sha256))?;
    if let Some(parent) = &dataset.parent {
        line(format!("parent   {parent}, {}", serde_json::to_string(&dataset.transformation)?))?;
    }
    Ok(())
}

fn print_report(report: &ValidationReport) -> anyhow::Result<()> {
    line(format!(
        "quality  {} rows: {} accepted, {} rejected, {} warnings; {} gaps ({} bars missing), {} closures",
        report.num_rows,
        report.num_accepted,
        report.num_rejected,
        report.num_warnings,
        report.gaps.count,
        report.gaps.missing_bars,
        report.gaps.num_closures
    ))?;
    if report.rules.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["rule", "severity", "count", "first line"]);
    for (rule, count) in &report.rules {
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        table.row([
            text(serde_json::to_value(rule)?),
            text(serde_json::to_value(count.severity)?),
            count.count.to_string(),
            count.first_line.to_string(),
        ]);
    }
    table.print()
}

fn print_rejected(rejected: &[RejectedRow], max: usize) -> anyhow::Result<()> {
    let mut table = Table::new(&["line", "reason", "row"]);
    for row in rejected.iter().take(max) {
        table.row([row.line.to_string(), row.reason.clone(), row.row.clone()]);
    }
    table.print()?;
    if rejected.len() > max {
        line(format!("and {} more", rejected.len() - max))?;
    }
    Ok(())
}
