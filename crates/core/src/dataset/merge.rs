//! Adding bars to those of a version.

use std::collections::BTreeSet;

use moola_market::Bars;
use moola_market::validate::{CleanBars, Finding, Mode, RejectedRow, Rule, RuleCount, Severity};

use super::Transformation;

/// What a merge made.
pub(super) struct Merged {
    pub(super) clean: CleanBars,
    pub(super) transformation: Transformation,
}

/// Adds new bars to `before`. Where both have a bar of one time, that of `before` stays; a new one with other values
/// is a conflict: refused in strict mode, rejected in quarantine mode.
///
/// # Errors
/// [`moola_market::Error::Rejected`] where there are conflicts in strict mode.
pub(super) fn merge(before: &Bars, mut clean: CleanBars, mode: Mode) -> Result<Merged, moola_market::Error> {
    let new = clean.bars;
    let last_ms = before.time_ms().last().copied().unwrap_or(i64::MIN);
    let (mut num_added, mut num_known, mut num_conflicts, mut num_late) = (0, 0, 0, 0);
    // Rows of both in the order of time, those of the new bars counted from the end of the old ones.
    let mut rows = Vec::with_capacity(before.len() + new.len());
    let (mut old_row, mut new_row) = (0, 0);
    while old_row < before.len() || new_row < new.len() {
        let times = (before.time_ms().get(old_row), new.time_ms().get(new_row));
        match times {
            (Some(old_ms), Some(new_ms)) if old_ms == new_ms => {
                if let Some(difference) = difference(before, old_row, &new, new_row) {
                    num_conflicts += 1;
                    let line = clean.lines[new_row];
                    reject(&mut clean.report, &mut clean.rejected, line, &new, new_row, difference);
                } else {
                    num_known += 1;
                }
                rows.push(old_row);
                old_row += 1;
                new_row += 1;
            }
            (Some(old_ms), new_ms) if new_ms.is_none_or(|new_ms| old_ms < new_ms) => {
                rows.push(old_row);
                old_row += 1;
            }
            (_, new_ms) => {
                rows.push(before.len() + new_row);
                num_added += 1;
                num_late += u64::from(new_ms.is_some_and(|new_ms| *new_ms < last_ms));
                new_row += 1;
            }
        }
    }
    if mode == Mode::Strict && num_conflicts > 0 {
        let (report, rejected) = (Box::new(clean.report), clean.rejected);
        return Err(moola_market::Error::Rejected { report, rejected });
    }
    clean.bars = concatenate(before, &new)?.select(&rows);
    Ok(Merged { clean, transformation: Transformation::Append { num_added, num_known, num_conflicts, num_late } })
}

/// The first field in which two bars differ, with both values.
fn difference(a: &Bars, row_a: usize, b: &Bars, row_b: usize) -> Option<(&'static str, f64, f64)> {
    let fields = [
        ("open", a.open()[row_a], b.open()[row_b]),
        ("high", a.high()[row_a], b.high()[row_b]),
        ("low", a.low()[row_a], b.low()[row_b]),
        ("close", a.close()[row_a], b.close()[row_b]),
        ("volume", a.volume()[row_a], b.volume()[row_b]),
    ];
    fields.into_iter().find(|(_, a, b)| a != b && !(a.is_nan() && b.is_nan()))
}

fn reject(
    report: &mut moola_market::validate::ValidationReport,
    rejected: &mut Vec<RejectedRow>,
    line: u64,
    new: &Bars,
    row: usize,
    (field, old_value, new_value): (&'static str, f64, f64),
) {
    let expected = format!("{old_value}, as in the dataset, whose bar is kept");
    let count = report.rules.entry(Rule::Conflict).or_insert(RuleCount {
        severity: Severity::Error,
        count: 0,
        first_line: line,
    });
    count.count += 1;
    report.num_accepted -= 1;
    report.num_rejected += 1;
    let reason = format!("`{field}` is {new_value}, expected {expected}");
    if report.findings.len() < 1000 {
        report.findings.push(Finding {
            rule: Rule::Conflict,
            severity: Severity::Error,
            line,
            time_ms: Some(new.time_ms()[row]),
            field: field.to_owned(),
            value: new_value.to_string(),
            expected,
        });
    } else {
        report.num_findings_left_out += 1;
    }
    let values = [new.open()[row], new.high()[row], new.low()[row], new.close()[row], new.volume()[row]];
    let time_ms = Some(new.time_ms()[row]);
    let row = values.map(|value| if value.is_nan() { String::new() } else { value.to_string() }).join(",");
    rejected.push(RejectedRow { line, rules: vec![Rule::Conflict], reason, time_ms, row });
}

/// The bars of both, one after the other; an extra column that one lacks is missing there.
fn concatenate(a: &Bars, b: &Bars) -> Result<Bars, moola_market::Error> {
    let both = |a: &[f64], b: &[f64]| [a, b].concat();
    let mut out = Bars::from_columns(
        [a.time_ms(), b.time_ms()].concat(),
        both(a.open(), b.open()),
        both(a.high(), b.high()),
        both(a.low(), b.low()),
        both(a.close(), b.close()),
        Some(both(a.volume(), b.volume())),
    )?;
    let names: BTreeSet<&String> = a.extra().keys().chain(b.extra().keys()).collect();
    for name in names {
        let column = |bars: &Bars| bars.extra().get(name).cloned().unwrap_or_else(|| vec![f64::NAN; bars.len()]);
        out.set_extra(name.clone(), both(&column(a), &column(b)))?;
    }
    Ok(out)
}
