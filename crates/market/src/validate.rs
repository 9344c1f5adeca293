//! Validation of bars with a report that names every offending row.

mod rows;
mod series;
mod sources;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::sources::{SourceComparison, compare_sources};
use crate::bars::{Bar, Bars, Interval};
use crate::error::{Error, Result};
use crate::read::{BadRow, RawBars};

/// What a bar or a series is checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The row can be read as a bar.
    Parse,
    /// Prices and volume are finite.
    Finite,
    /// Prices are above zero.
    Positive,
    /// `high >= max(open, close, low)`.
    HighBound,
    /// `low <= min(open, close, high)`.
    LowBound,
    /// `volume >= 0`, or absent.
    Volume,
    /// No bar is repeated, value for value; the first one is kept.
    Duplicate,
    /// No two bars have one time and different values; neither can be trusted, so neither is kept.
    Conflict,
    /// The bars of the source stand in the order of time; they are sorted where they do not.
    Order,
    /// Bars are at least one interval apart.
    Spacing,
    /// Bars are one interval apart, but for the market's closures.
    Gap,
    /// No return is far outside the robust scale of the returns.
    Outlier,
    /// No price jumps by the ratio of a share split.
    Split,
    /// Prices move.
    Stale,
    /// Another source shows the same prices.
    Disagreement,
}

/// Whether a finding rejects its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The row is kept.
    Warning,
    /// The row is rejected.
    Error,
}

impl Rule {
    /// Whether a breach rejects its row.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Order
            | Self::Spacing
            | Self::Gap
            | Self::Outlier
            | Self::Split
            | Self::Stale
            | Self::Disagreement => Severity::Warning,
            Self::Parse
            | Self::Finite
            | Self::Positive
            | Self::HighBound
            | Self::LowBound
            | Self::Volume
            | Self::Duplicate
            | Self::Conflict => Severity::Error,
        }
    }
}

/// When the market is closed, so that missing bars are no gap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Calendar {
    /// Learned from the series: the times of the week at which bars are rarely there are closures.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// Never closed.
    #[serde(rename = "24x7")]
    Continuous,
    /// Closed from Friday 21:00 UTC through Sunday; for bars of a day or longer, on Saturday and Sunday.
    #[serde(rename = "weekdays")]
    Weekdays,
}

/// What is done with rows that break a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Any rejected row refuses the whole source.
    #[default]
    Strict,
    /// Good rows are kept, bad rows are returned beside them.
    Quarantine,
}

/// Settings of the validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidationConfig {
    /// Length of a bar; the commonest step between bars where absent.
    pub interval: Option<Interval>,
    /// When the market is closed.
    pub calendar: Calendar,
    /// A log return further than this many median absolute deviations from the median is an outlier; 0 turns the
    /// rule off. The scale is the larger of that of the whole series and that of the block the bar is in.
    pub outlier_mads: f64,
    /// Bars per block of the local scale.
    pub outlier_block_bars: usize,
    /// Smallest absolute log jump that is compared with the ratios of share splits; 0 turns the rule off.
    pub split_min_jump: f64,
    /// Shortest run of flat bars at one price that is stale; 0 turns the rule off.
    pub stale_bars: usize,
    /// Findings that are kept in detail, per rule as well as in total no more than this.
    pub max_findings: usize,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self {
            interval: None,
            calendar: Calendar::Auto,
            outlier_mads: 20.0,
            outlier_block_bars: 500,
            split_min_jump: 0.2,
            stale_bars: 5,
            max_findings: 1000,
        }
    }
}

impl ValidationConfig {
    fn check(&self) -> Result<()> {
        if !(self.outlier_mads >= 0.0 && self.outlier_mads.is_finite()) {
            return Err(Error::invalid("outlier_mads", self.outlier_mads, "a finite number of at least 0"));
        }
        if !(self.split_min_jump >= 0.0 && self.split_min_jump.is_finite()) {
            return Err(Error::invalid("split_min_jump", self.split_min_jump, "a finite number of at least 0"));
        }
        if self.outlier_block_bars < 20 {
            return Err(Error::invalid("outlier_block_bars", self.outlier_block_bars, "at least 20"));
        }
        if self.stale_bars == 1 {
            return Err(Error::invalid("stale_bars", 1, "0, or at least 2"));
        }
        Ok(())
    }
}

/// One breach of one rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Whether the row is rejected.
    pub severity: Severity,
    /// Line in the source, from 1.
    pub line: u64,
    /// Time of the bar; absent where it could not be read.
    pub time_ms: Option<i64>,
    /// The field that breaks the rule.
    pub field: String,
    /// Its value.
    pub value: String,
    /// What would have been accepted.
    pub expected: String,
}

/// How often a rule was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// Whether the rows are rejected.
    pub severity: Severity,
    /// Number of breaches.
    pub count: usize,
    /// Line of the first one.
    pub first_line: u64,
}

/// Bars that are missing between the first and the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapSummary {
    /// Gaps, closures not counted.
    pub count: usize,
    /// Bars missing in them.
    pub missing_bars: usize,
    /// Bars missing in the longest one.
    pub longest_bars: usize,
    /// Time of the last bar before the longest one.
    pub longest_after_ms: Option<i64>,
    /// Time of the last bar before the first one.
    pub first_after_ms: Option<i64>,
    /// Steps longer than the interval that the market's closures explain.
    pub num_closures: usize,
}

/// What validation found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ValidationReport {
    /// Rows of data in the source.
    pub num_rows: usize,
    /// Rows that were accepted.
    pub num_accepted: usize,
    /// Rows that were rejected.
    pub num_rejected: usize,
    /// Findings that reject nothing.
    pub num_warnings: usize,
    /// Whether the source was in the order of time.
    pub sorted: bool,
    /// Whether any accepted bar has volume.
    pub has_volume: bool,
    /// Length of a bar: the one given, or the commonest step; absent with fewer than two bars.
    pub interval: Option<Interval>,
    /// Time of the first accepted bar.
    pub start_ms: Option<i64>,
    /// Time of the last accepted bar.
    pub end_ms: Option<i64>,
    /// Breaches by rule; a rule that held is absent.
    pub rules: BTreeMap<Rule, RuleCount>,
    /// Gaps.
    pub gaps: GapSummary,
    /// The first findings, in the order of the checks.
    pub findings: Vec<Finding>,
    /// Findings beyond those kept in detail.
    pub num_findings_left_out: usize,
}

impl ValidationReport {
    /// Times that `rule` was broken.
    #[must_use]
    pub fn count(&self, rule: Rule) -> usize {
        self.rules.get(&rule).map_or(0, |count| count.count)
    }

    /// Counts a finding, and keeps it while there is room.
    fn add(&mut self, config: &ValidationConfig, rule: Rule, line: u64, detail: impl FnOnce() -> Detail) {
        let severity = rule.severity();
        let entry = self.rules.entry(rule).or_insert(RuleCount { severity, count: 0, first_line: line });
        entry.count += 1;
        if severity == Severity::Warning {
            self.num_warnings += 1;
        }
        if self.findings.len() < config.max_findings {
            let Detail { time_ms, field, value, expected } = detail();
            self.findings.push(Finding { rule, severity, line, time_ms, field, value, expected });
        } else {
            self.num_findings_left_out += 1;
        }
    }
}

/// The part of a finding that is text.
struct Detail {
    time_ms: Option<i64>,
    field: String,
    value: String,
    expected: String,
}

/// A row that was rejected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RejectedRow {
    /// Line in the source, from 1.
    pub line: u64,
    /// Every rule that it breaks.
    pub rules: Vec<Rule>,
    /// The breaches in words.
    pub reason: String,
    /// Time of the bar; absent where the row could not be read.
    pub time_ms: Option<i64>,
    /// The values as they were read: open, high, low, close and volume, or the row as it was written.
    pub row: String,
}

impl RejectedRow {
    fn unread(bad: &BadRow) -> Self {
        Self {
            line: bad.line,
            rules: vec![Rule::Parse],
            reason: format!("`{}` `{}` {}", bad.column, bad.value, bad.reason),
            time_ms: None,
            row: bad.row.clone(),
        }
    }

    fn of_bar(line: u64, bar: &Bar, rules: Vec<Rule>, reason: String) -> Self {
        let volume = bar.volume.map(|volume| volume.to_string()).unwrap_or_default();
        let row = format!("{},{},{},{},{volume}", bar.open, bar.high, bar.low, bar.close);
        Self { line, rules, reason, time_ms: Some(bar.time_ms), row }
    }
}

/// What validation made of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// The report.
    pub report: ValidationReport,
    /// Rows of the source that were accepted, in the order of time.
    pub accepted: Vec<usize>,
    /// Every row that was rejected, in the order of the source.
    pub rejected: Vec<RejectedRow>,
}

/// Bars that passed, with what was found on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct CleanBars {
    /// The accepted bars, strictly increasing in time.
    pub bars: Bars,
    /// Line in the source of each of them.
    pub lines: Vec<u64>,
    /// The report.
    pub report: ValidationReport,
    /// Every row that was rejected.
    pub rejected: Vec<RejectedRow>,
}

/// Checks bars against every [`Rule`] and names each breach.
///
/// Gaps, outliers, splits and staleness are judged on the accepted rows alone, so that a rejected row shows up as a
/// gap too.
///
/// # Errors
/// [`Error::Invalid`] where a setting is out of range, or where the given interval contradicts the bars.
pub fn validate(raw: &RawBars, config: &ValidationConfig) -> Result<Validation> {
    config.check()?;
    let mut report = ValidationReport { num_rows: raw.num_rows - raw.num_other_symbols, ..Default::default() };
    let mut rejected: Vec<RejectedRow> = raw.bad_rows.iter().map(RejectedRow::unread).collect();
    for bad in &raw.bad_rows {
        report.add(config, Rule::Parse, bad.line, || Detail {
            time_ms: None,
            field: bad.column.clone(),
            value: bad.value.clone(),
            expected: bad.reason.clone(),
        });
    }
    let accepted = rows::check(raw, config, &mut report, &mut rejected);
    rejected.sort_by_key(|row| row.line);
    report.num_rejected = rejected.len();
    report.num_accepted = accepted.as_ref().map_or(raw.bars.len(), Vec::len);
    match &accepted {
        None => series::check(&raw.bars, &raw.lines, config, &mut report)?,
        Some(accepted) => {
            let lines: Vec<u64> = accepted.iter().map(|&row| raw.lines[row]).collect();
            series::check(&raw.bars.select(accepted), &lines, config, &mut report)?;
        }
    }
    let accepted = accepted.unwrap_or_else(|| (0..raw.bars.len()).collect());
    Ok(Validation { report, accepted, rejected })
}

/// Checks bars and returns those that passed.
///
/// # Errors
/// [`Error::Rejected`] with the report in strict mode where any row was rejected or none was there; as [`validate`]
/// otherwise.
pub fn clean(raw: RawBars, config: &ValidationConfig, mode: Mode) -> Result<CleanBars> {
    let Validation { report, accepted, rejected } = validate(&raw, config)?;
    if mode == Mode::Strict && !rejected.is_empty() {
        return Err(Error::Rejected { report: Box::new(report), rejected });
    }
    let (bars, lines) = if accepted.len() == raw.bars.len() && report.sorted {
        (raw.bars, raw.lines)
    } else {
        (raw.bars.select(&accepted), accepted.iter().map(|&row| raw.lines[row]).collect())
    };
    Ok(CleanBars { bars, lines, report, rejected })
}
