//! `moola models`.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use moola_api::control::{
    BuildRequest, BuildView, DecisionRequest, DeployRequest, LineageView, ModelView, RegisterRequest, RollbackRequest,
    UploadManifest, VersionView,
};
use moola_core::contract::BuildManifest;
use moola_core::gates::GateReport;
use moola_core::registry::Version;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{read_input, report, show, split_model};
use crate::args::{Global, ModelsCommand};
use crate::client::{Call, Client};
use crate::output::{self, Table, line, usage};

#[derive(Deserialize)]
struct Models {
    models: Vec<ModelView>,
}

#[derive(Deserialize)]
struct Versions {
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Rollback {
    production: Version,
}

/// Both parts of `name/version`.
fn model_and_version(text: &str) -> anyhow::Result<(&str, &str)> {
    match split_model(text) {
        (name, Some(version)) if !name.is_empty() && !version.is_empty() => Ok((name, version)),
        _ => Err(usage(
            format!("the model is `{text}`, expected `name/version`"),
            "the version is a number, `latest`, `staging`, `production` or an alias",
        )),
    }
}

/// Runs the command.
pub(super) async fn run(global: &Global, client: &Client, command: ModelsCommand) -> anyhow::Result<()> {
    match command {
        ModelsCommand::List => {
            show(global, client, Call::get(&["models"]), |answer: Models| list(&answer.models)).await
        }
        ModelsCommand::Show { model } => match split_model(&model) {
            (name, Some(version)) => {
                let call = Call::get(&["models", name, "versions", version]);
                show(global, client, call, |view: VersionView| print_version(&view)).await
            }
            (name, None) => show_model(global, client, name).await,
        },
        ModelsCommand::Register { file, model, manifest } => {
            let text = read_input(&manifest)?;
            let manifest: UploadManifest =
                serde_json::from_slice(&text).with_context(|| format!("the manifest `{}`", manifest.display()))?;
            let request =
                RegisterRequest { manifest, model_base64: Some(BASE64.encode(read_input(&file)?)), model_upload: None };
            let call = Call::post(&["models", &model, "versions"]).json(&request)?;
            show(global, client, call, |version: Version| {
                let name = format!("{}/{}", version.model, version.version);
                line(format!("registered {name}"))?;
                line(format!("next: `moola models gates {name}`, then `moola models promote {name}`"))
            })
            .await
        }
        ModelsCommand::Gates { model, show: only_show } => {
            let (name, version) = model_and_version(&model)?;
            let segments = ["models", name, "versions", version, "gates"];
            let call = if only_show { Call::get(&segments) } else { Call::post(&segments) };
            show(global, client, call, |answer: GateReport| report::gates(&answer)).await
        }
        ModelsCommand::Build { model, engine, reason } => {
            let (name, version) = model_and_version(&model)?;
            let request = BuildRequest { engine: Some(engine), reason };
            let call = Call::post(&["models", name, "versions", version, "build"]).json(&request)?;
            show(global, client, call, |BuildView { version, build_manifest }: BuildView| {
                line(format!("built      {}/{}", version.model, version.version))?;
                build_manifest.as_ref().map_or(Ok(()), print_build)
            })
            .await
        }
        ModelsCommand::Promote { model, staging, reason } => {
            let (name, version) = model_and_version(&model)?;
            let stage = if staging { "Staging" } else { "Production" };
            let request = DeployRequest { stage: Some(stage.into()), reason };
            let call = Call::post(&["models", name, "versions", version, "deploy"]).json(&request)?;
            show(global, client, call, print_moved).await
        }
        ModelsCommand::Rollback { model, reason } => {
            // Named, so that this goes one step back however often it is sent.
            let view: ModelView = client.call(Call::get(&["models", &model])).await?;
            let request = RollbackRequest { version: view.production_version, reason };
            let call = Call::post(&["models", &model, "rollback"]).json(&request)?;
            show(global, client, call, |Rollback { production }: Rollback| {
                line(format!("{}/{} serves again", production.model, production.version))
            })
            .await
        }
        ModelsCommand::Archive { model, reason } => moved(global, client, &model, "archive", reason).await,
        ModelsCommand::Restore { model, reason } => moved(global, client, &model, "restore", reason).await,
        ModelsCommand::Lineage { model } => {
            let (name, version) = model_and_version(&model)?;
            let call = Call::get(&["models", name, "versions", version, "lineage"]);
            show(global, client, call, |view: LineageView| print_lineage(&view)).await
        }
        ModelsCommand::Alias { model, alias, remove } => {
            let (name, version) = split_model(&model);
            let segments = ["models", name, "aliases", alias.as_str()];
            if remove {
                client.bytes(Call::delete(&segments)).await?;
                return if global.json { output::json(&json!({})) } else { line(format!("{alias} is removed")) };
            }
            let (_, version) = version.map_or_else(|| model_and_version(&model), |version| Ok((name, version)))?;
            let found: Version = client.call(Call::get(&["models", name, "versions", version])).await?;
            let call = Call::put(&segments).json(&json!({"version": found.version}))?;
            show(global, client, call, |view: ModelView| list(&[view])).await
        }
    }
}

async fn moved(global: &Global, client: &Client, model: &str, how: &str, reason: Option<String>) -> anyhow::Result<()> {
    let (name, version) = model_and_version(model)?;
    let call = Call::post(&["models", name, "versions", version, how]).json(&DecisionRequest { reason })?;
    show(global, client, call, print_moved).await
}

fn print_moved(version: Version) -> anyhow::Result<()> {
    line(format!("{}/{} is in {}", version.model, version.version, version.stage))
}

fn list(models: &[ModelView]) -> anyhow::Result<()> {
    let mut table = Table::new(&["model", "production", "latest", "aliases", "updated"]);
    let number = |version: Option<u32>| version.map_or("-".into(), |version| version.to_string());
    for view in models {
        let aliases: Vec<String> = view.aliases.iter().map(|(alias, version)| format!("{alias}={version}")).collect();
        table.row([
            view.model.name.clone(),
            number(view.production_version),
            number(view.latest_version),
            aliases.join(" "),
            output::time(view.model.updated_ms),
        ]);
    }
    table.print()
}

async fn show_model(global: &Global, client: &Client, name: &str) -> anyhow::Result<()> {
    let model: Value = client.call(Call::get(&["models", name])).await?;
    let versions: Value = client.call(Call::get(&["models", name, "versions"])).await?;
    if global.json {
        return output::json(&json!({"model": model, "versions": versions["versions"]}));
    }
    list(&[serde_json::from_value(model)?])?;
    let versions: Versions = serde_json::from_value(versions)?;
    let mut table = Table::new(&["version", "stage", "engine", "gates", "metrics", "run", "created"]);
    for version in versions.versions {
        let gates = version.gates.as_ref().map_or("not judged", |gates| if gates.passed { "passed" } else { "FAILED" });
        table.row([
            version.version.to_string(),
            version.stage.to_string(),
            version.build.as_ref().map_or_else(|| "-".into(), |build| build.engine.clone()),
            gates.into(),
            metrics(&version),
            version.lineage.run_id.clone().unwrap_or_else(|| "-".into()),
            output::time(version.created_ms),
        ]);
    }
    line("")?;
    table.print()
}

fn metrics(version: &Version) -> String {
    let shown = ["log_loss", "baseline_log_loss", "accuracy", "baseline_accuracy", "mse", "baseline_mse"];
    let metrics = shown.iter().filter_map(|name| Some(format!("{name} {:.4}", version.metrics.get(*name)?)));
    metrics.collect::<Vec<_>>().join(", ")
}

fn print_version(view: &VersionView) -> anyhow::Result<()> {
    let VersionView { version, manifest, build_manifest } = view;
    line(format!("model      {}/{}", version.model, version.version))?;
    line(format!("stage      {}", version.stage))?;
    line(format!("task       {:?}, classes {}", manifest.task, manifest.classes.join(", ")).to_lowercase())?;
    for input in &manifest.inputs {
        line(format!("input      {} {:?} {:?}", input.name, input.kind, input.shape))?;
    }
    line(format!("window     {} bars ({} with the features' history)", manifest.window_bars, manifest.history_bars))?;
    if let Some(set) = &manifest.feature_set {
        line(format!("features   {} v{}, {} of them", set.name(), set.version(), set.len()))?;
    }
    line(format!("dataset    {}", version.lineage.dataset.as_deref().unwrap_or("-")))?;
    line(format!("run        {}", version.lineage.run_id.as_deref().unwrap_or("-")))?;
    line(format!("manifest   sha256 {} (signature verified)", version.manifest_sha256))?;
    for (name, digest) in &manifest.files {
        line(format!("file       {name} ({} bytes)", digest.size_bytes))?;
    }
    match build_manifest {
        Some(build) => print_build(build)?,
        None => line(format!("engine     {} (not built yet)", manifest.engine))?,
    }
    line(format!("metrics    {}", metrics(version)))?;
    match &version.gates {
        Some(gates) if gates.passed => line("gates      passed"),
        Some(gates) => line(format!("gates      FAILED: {}", gates.failed.join("; "))),
        None => line("gates      not judged yet"),
    }
}

fn print_build(build: &BuildManifest) -> anyhow::Result<()> {
    line(format!("engine     {} ({})", build.engine, build.reason))?;
    line(format!("build      {} by {} (signature verified)", build.build, build.fingerprint))?;
    for file in &build.files {
        let (name, size_bytes) = (&file.artifact.file, file.digest.size_bytes);
        line(format!("compiled   {name} ({size_bytes} bytes) {}", file.artifact.runtime.as_deref().unwrap_or("")))?;
    }
    Ok(())
}

fn print_lineage(view: &LineageView) -> anyhow::Result<()> {
    let version = &view.version;
    if let Some(dataset) = &view.dataset {
        line(format!("file     sha256 {}", dataset.source.sha256))?;
        line(format!("  |      imported as {} {}", dataset.symbol, dataset.interval))?;
        line(format!("dataset  {}@{} ({} bars)", dataset.name, dataset.version, dataset.num_rows))?;
    } else if let Some(sha256) = &version.lineage.source_sha256 {
        line(format!("file     sha256 {sha256}"))?;
    }
    if let Some(run) = &view.run {
        let code = version.lineage.code_version.as_deref().unwrap_or("-");
        line(format!("  |      trained ({}) by code {code}, correlation {}", run.trigger, run.correlation_id))?;
        line(format!("run      {}", run.run_id))?;
    }
    line("  |      registered")?;
    line(format!("version  {}/{}", version.model, version.version))?;
    for entry in view.history.iter().rev() {
        line(format!(
            "  |      {} {} -> {} by {} ({})",
            output::time(entry.time_ms),
            entry.from,
            entry.to,
            entry.actor,
            entry.reason
        ))?;
    }
    line(format!("stage    {}", version.stage))
}
