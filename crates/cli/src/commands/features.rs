//! `moola features`.

use anyhow::Context as _;
use serde::Deserialize;

use super::show;
use crate::args::{FeaturesCommand, Global};
use crate::client::{Call, Client};
use crate::output::{Table, ignore_closed, line, note, usage};

#[derive(Deserialize)]
struct Features {
    features: Vec<Feature>,
    sets: Vec<Set>,
}

#[derive(Deserialize)]
struct Feature {
    id: u16,
    name: String,
    group: String,
    lookback: usize,
    needs_volume: bool,
    description: String,
}

#[derive(Deserialize)]
struct Set {
    name: String,
    version: u32,
    history_bars: usize,
    features: Vec<String>,
}

/// Runs the command.
pub(super) async fn run(global: &Global, client: &Client, command: FeaturesCommand) -> anyhow::Result<()> {
    match command {
        FeaturesCommand::List { set } => {
            show(global, client, Call::get(&["features"]), |mut answer: Features| {
                if let Some(name) = &set {
                    let names: Vec<&str> = answer.sets.iter().map(|set| set.name.as_str()).collect();
                    let Some(set) = answer.sets.iter().find(|set| set.name == *name) else {
                        return Err(usage(format!("`--set` is `{name}`, expected one of {}", names.join(", ")), ""));
                    };
                    answer.features.retain(|feature| set.features.contains(&feature.name));
                }
                let mut table = Table::new(&["id", "name", "group", "lookback", "volume", "description"]);
                for feature in &answer.features {
                    table.row([
                        feature.id.to_string(),
                        feature.name.clone(),
                        feature.group.clone(),
                        feature.lookback.to_string(),
                        if feature.needs_volume { "needed".into() } else { String::new() },
                        feature.description.clone(),
                    ]);
                }
                table.print()?;
                if set.is_none() {
                    let mut sets = Table::new(&["set", "version", "features", "history bars"]);
                    for set in &answer.sets {
                        sets.row([
                            set.name.clone(),
                            set.version.to_string(),
                            set.features.len().to_string(),
                            set.history_bars.to_string(),
                        ]);
                    }
                    line("")?;
                    sets.print()?;
                }
                Ok(())
            })
            .await
        }
        FeaturesCommand::Compute { .. } if global.json => {
            Err(usage("`--json` is set, expected CSV: the only format of `features compute`", "leave `--json` out"))
        }
        FeaturesCommand::Compute { dataset, set, out } => {
            let call = Call::post(&["features", "compute"]).with("dataset", &dataset).with("set", &set);
            let bytes = client.bytes(call).await?;
            match out {
                Some(path) => {
                    std::fs::write(&path, &bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
                    note(global, format!("{} bytes written to {}", bytes.len(), path.display()));
                    Ok(())
                }
                None => {
                    use std::io::Write as _;
                    ignore_closed(std::io::stdout().lock().write_all(&bytes))
                }
            }
        }
    }
}
