//! Settings: flags over environment over `moola.toml` over defaults.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use moola_core::app::Settings;

use crate::args::Global;
use crate::output::Hint as _;

const FILE: &str = "moola.toml";

/// The data directory.
pub(crate) fn data_dir(global: &Global) -> anyhow::Result<PathBuf> {
    if let Some(dir) = &global.data_dir {
        return std::path::absolute(dir).with_context(|| format!("`--data-dir` is `{}`", dir.display()));
    }
    let dir_of = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = dir_of("XDG_DATA_HOME").or_else(|| dir_of("HOME").map(|home| home.join(".local/share")));
    let base = base
        .context("neither `XDG_DATA_HOME` nor `HOME` names a directory")
        .hint("say where with `--data-dir DIR` or `MOOLA_DATA_DIR`")?;
    Ok(base.join("moola"))
}

/// The settings.
pub(crate) fn settings(global: &Global, data_dir: &Path) -> anyhow::Result<Settings> {
    let path = match &global.config {
        Some(path) => path.clone(),
        None => data_dir.join(FILE),
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && global.config.is_none() => {
            return Ok(Settings::default());
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read the settings `{}`", path.display())),
    };
    let settings = toml::from_str(&text).with_context(|| format!("settings `{}`", path.display()));
    settings.hint("docs/configuration.md lists every key with its default")
}

#[cfg(test)]
mod tests;
