//! What is printed, and how errors are.

use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Global;

/// What the user could do next, beside the error that it is attached to.
#[derive(Debug)]
struct Hinted {
    hint: String,
    is_usage: bool,
    source: anyhow::Error,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Transparent: the error itself is the message.
        self.source.fmt(f)
    }
}

impl std::error::Error for Hinted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The message is that of the source, which is therefore left out.
        self.source.source()
    }
}

/// Attaches hints to errors.
pub(crate) trait Hint<T> {
    /// Says what the user could do next.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T> Hint<T> for anyhow::Result<T> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|source| Hinted { hint: hint.into(), is_usage: false, source }.into())
    }
}

/// An error of usage: exit code 2.
pub(crate) fn usage(message: impl fmt::Display, hint: impl Into<String>) -> anyhow::Error {
    Hinted { hint: hint.into(), is_usage: true, source: anyhow::anyhow!("{message}") }.into()
}

/// Turns an error of the core into one with its hint.
pub(crate) fn from_core(error: moola_core::Error) -> anyhow::Error {
    let hint = error.hint().map(str::to_owned);
    let error = anyhow::Error::new(error);
    match hint {
        Some(hint) => Hinted { hint, is_usage: false, source: error }.into(),
        None => error,
    }
}

/// Prints an error with its causes and hint; returns the exit code.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    let hinted = error.chain().find_map(|cause| cause.downcast_ref::<Hinted>());
    let mut err = std::io::stderr().lock();
    // Nobody is left to tell when this fails.
    let _ = writeln!(err, "error: {error:#}");
    if let Some(hinted) = hinted.filter(|hinted| !hinted.hint.is_empty()) {
        let _ = writeln!(err, "hint: {}", hinted.hint);
    }
    ExitCode::from(if hinted.is_some_and(|hinted| hinted.is_usage) { 2 } else { 1 })
}

/// Prints a line of data.
pub(crate) fn line(text: impl fmt::Display) -> anyhow::Result<()> {
    ignore_closed(writeln!(std::io::stdout().lock(), "{text}"))
}

/// Prints JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// A reader that went away (`| head`) is no failure.
pub(crate) fn ignore_closed(written: std::io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// Tells something beside the result, unless `--quiet`.
pub(crate) fn note(global: &Global, text: impl fmt::Display) {
    if !global.quiet {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}

/// Rows under a header, in columns; numbers to the right.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn print(&self) -> anyhow::Result<()> {
        line(self)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |text: &str| text.chars().count();
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let columns: Vec<(usize, bool)> = (0..self.header.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| cell(row, column));
                let width = cells.clone().map(|text| length(&text)).max().unwrap_or(0).max(length(self.header[column]));
                let is_number = |text: &str| text.trim_end_matches('%').parse::<f64>().is_ok();
                let mut shown = cells.filter(|text| !text.is_empty() && text != "-").peekable();
                (width, shown.peek().is_some() && shown.all(|text| is_number(&text)))
            })
            .collect();
        let header: Vec<String> = self.header.iter().map(|name| name.to_uppercase()).collect();
        for (index, row) in std::iter::once(&header).chain(&self.rows).enumerate() {
            let mut line = String::new();
            for (column, (width, is_number)) in columns.iter().enumerate() {
                let text = cell(row, column);
                let pad = " ".repeat(width - length(&text));
                line += &if *is_number { pad + &text } else { text + &pad };
                line += "  ";
            }
            if index > 0 {
                writeln!(f)?;
            }
            f.write_str(line.trim_end())?;
        }
        Ok(())
    }
}

/// A time for people.
pub(crate) fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => ms.to_string(),
    }
}

/// A number of at most `digits` decimals, `-` where there is none.
pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

/// A bar of progress on a terminal; nothing elsewhere.
pub(crate) fn progress(global: &Global, length: u64, what: &str) -> ProgressBar {
    let is_shown = !global.quiet && !global.no_progress && std::io::stderr().is_terminal();
    let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    if let Ok(style) = ProgressStyle::with_template("{prefix:>12} [{bar:30}] {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests;
