//! The commands that call the API.

pub(crate) mod compile;
mod data;
mod features;
mod jobs;
mod models;
mod predict;
mod report;
mod runs;
pub(crate) mod train;

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use moola_core::ports::Event;
use serde::Deserialize;
use serde_json::Value;

use crate::args::{Command, Global};
use crate::client::{Call, Client};
use crate::output::{self, Table};

pub(crate) use predict::input;
pub(crate) use report::verdict;

/// Runs a command.
pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = match &command {
        Command::Train(_) => Client::connect_to_work(global).await?,
        _ => Client::connect(global).await?,
    };
    let done = dispatch(global, &client, command).await;
    let closed = client.close(global).await;
    done.and(closed)
}

async fn dispatch(global: &Global, client: &Client, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Data(command) => data::run(global, client, command).await,
        Command::Features(command) => features::run(global, client, command).await,
        Command::Train(args) => train::run(global, client, *args).await,
        Command::Runs(command) => runs::run(global, client, command).await,
        Command::Models(command) => models::run(global, client, command).await,
        Command::Predict(args) => predict::run(global, client, args).await,
        Command::Drift(command) => runs::drift(global, client, command).await,
        Command::Jobs(command) => jobs::run(global, client, command).await,
        Command::Events { limit } => events(global, client, limit).await,
        Command::Compile(_) | Command::Up(_) | Command::Demo(_) | Command::Trainer { .. } => {
            anyhow::bail!("this command has no client")
        }
    }
}

/// Calls, prints the answer as it is with `--json`, else hands it to `show`.
async fn show<T: for<'de> Deserialize<'de>>(
    global: &Global,
    client: &Client,
    call: Call,
    show: impl FnOnce(T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let answer: Value = client.call(call).await?;
    if global.json {
        return output::json(&answer);
    }
    show(serde_json::from_value(answer).context("the answer has another shape than this version of moola knows")?)
}

/// Reads a file, or standard input for `-`.
pub(crate) fn read_input(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
        return Ok(bytes);
    }
    std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// `name/version`, or `name` with `version` absent.
pub(crate) fn split_model(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    }
}

async fn events(global: &Global, client: &Client, limit: usize) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Events {
        events: Vec<Event>,
    }
    show(global, client, Call::get(&["events"]).with("limit", limit), |answer: Events| {
        let mut table = Table::new(&["time", "event", "correlation", "detail"]);
        for event in answer.events {
            let mut detail = event.detail;
            if let Some(object) = detail.as_object_mut() {
                object.remove("version");
            }
            let mut detail = detail.to_string();
            if detail.chars().count() > 100 {
                detail = detail.chars().take(97).collect::<String>() + "...";
            }
            table.row([output::time(event.time_ms), event.detail_type, event.correlation_id, detail]);
        }
        table.print()
    })
    .await
}
