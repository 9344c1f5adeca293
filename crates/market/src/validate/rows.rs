//! Rules that reject rows.

use super::{Detail, RejectedRow, Rule, ValidationConfig, ValidationReport};
use crate::bars::{Bar, Bars};
use crate::read::RawBars;

/// Checks the rows one by one, then their times; the accepted rows in the order of time, or `None` where that is all
/// of them in the order of the source.
pub(super) fn check(
    raw: &RawBars,
    config: &ValidationConfig,
    report: &mut ValidationReport,
    rejected: &mut Vec<RejectedRow>,
) -> Option<Vec<usize>> {
    let bars = &raw.bars;
    let (time_ms, open, high, low, close, volume) =
        (bars.time_ms(), bars.open(), bars.high(), bars.low(), bars.close(), bars.volume());
    let mut previous = i64::MIN;
    let (mut sorted, mut increasing) = (true, true);
    let mut broken = Vec::new();
    let mut out_of_order = Vec::new();
    for row in 0..bars.len() {
        let (o, h, l, c, v) = (open[row], high[row], low[row], close[row], volume[row]);
        // One chain that a good row passes: NaN fails every comparison, and all prices lie between `l` and `h`.
        let good =
            l > 0.0 && l <= o && l <= c && o <= h && c <= h && h < f64::INFINITY && !(v < 0.0 || v.is_infinite());
        if !good {
            broken.push(row);
        }
        let time = time_ms[row];
        if time <= previous {
            increasing = false;
            if time < previous {
                sorted = false;
                out_of_order.push(row);
            }
        } else {
            previous = time;
        }
    }
    report.sorted = sorted;
    for &row in &out_of_order {
        report.add(config, Rule::Order, raw.lines[row], || Detail {
            time_ms: Some(time_ms[row]),
            field: "time".to_owned(),
            value: time_ms[row].to_string(),
            expected: "a time after that of every row before it; the rows were sorted".to_owned(),
        });
    }
    if broken.is_empty() && increasing {
        return None;
    }
    let mut keep = vec![true; bars.len()];
    for row in broken {
        keep[row] = false;
        let bar = bar_at(bars, row);
        let breaches = breaches(&bar);
        reject(raw, config, report, rejected, row, &bar, breaches);
    }
    let mut accepted: Vec<usize> = (0..bars.len()).filter(|&row| keep[row]).collect();
    if !sorted {
        accepted.sort_by_key(|&row| time_ms[row]);
    }
    if !increasing {
        for group in accepted.chunk_by(|&a, &b| time_ms[a] == time_ms[b]).filter(|group| group.len() > 1) {
            let (first, rest) = (group[0], &group[1..]);
            let same = rest.iter().all(|&row| same_values(bars, first, row));
            let members = if same { rest } else { group };
            let lines = group.iter().map(|&row| raw.lines[row].to_string()).collect::<Vec<_>>().join(", ");
            for &row in members {
                keep[row] = false;
                let (rule, expected) = if same {
                    (Rule::Duplicate, format!("one bar per time; the lines {lines} are equal and the first is kept"))
                } else {
                    (Rule::Conflict, format!("one bar per time; the lines {lines} have different values"))
                };
                let breach = Breach { rule, field: "time", value: time_ms[row].to_string(), expected };
                reject(raw, config, report, rejected, row, &bar_at(bars, row), vec![breach]);
            }
        }
        accepted.retain(|&row| keep[row]);
    }
    Some(accepted)
}

/// The bar as it was read, with a volume that is not finite kept.
fn bar_at(bars: &Bars, row: usize) -> Bar {
    let volume = bars.volume()[row];
    Bar {
        time_ms: bars.time_ms()[row],
        open: bars.open()[row],
        high: bars.high()[row],
        low: bars.low()[row],
        close: bars.close()[row],
        volume: (!volume.is_nan()).then_some(volume),
    }
}

struct Breach {
    rule: Rule,
    field: &'static str,
    value: String,
    expected: String,
}

fn breaches(bar: &Bar) -> Vec<Breach> {
    let Bar { open, high, low, close, volume, .. } = *bar;
    let mut found = Vec::new();
    let mut add = |rule, field, value: f64, expected: String| {
        found.push(Breach { rule, field, value: value.to_string(), expected });
    };
    let prices = [("open", open), ("high", high), ("low", low), ("close", close)];
    for (field, price) in prices {
        if !price.is_finite() {
            add(Rule::Finite, field, price, "a finite price".to_owned());
        } else if price <= 0.0 {
            add(Rule::Positive, field, price, "a price above 0".to_owned());
        }
    }
    // Against the finite prices alone, so that one bad value is not reported three times.
    let others =
        |without: usize| prices.into_iter().enumerate().filter(move |(i, (_, p))| *i != without && p.is_finite());
    if high.is_finite() {
        for (_, (field, price)) in others(1).filter(|(_, (_, price))| *price > high).take(1) {
            add(Rule::HighBound, "high", high, format!("at least max(open, close, low), `{field}` is {price}"));
        }
    }
    if low.is_finite() {
        // A low above the high alone is the breach of the high bound.
        for (_, (field, price)) in others(2).filter(|(i, (_, price))| *i != 1 && *price < low).take(1) {
            add(Rule::LowBound, "low", low, format!("at most min(open, close, high), `{field}` is {price}"));
        }
    }
    if let Some(volume) = volume {
        if !volume.is_finite() {
            add(Rule::Finite, "volume", volume, "a finite volume, or none".to_owned());
        } else if volume < 0.0 {
            add(Rule::Volume, "volume", volume, "at least 0, or none".to_owned());
        }
    }
    found
}

fn reject(
    raw: &RawBars,
    config: &ValidationConfig,
    report: &mut ValidationReport,
    rejected: &mut Vec<RejectedRow>,
    row: usize,
    bar: &Bar,
    breaches: Vec<Breach>,
) {
    let line = raw.lines[row];
    let mut rules: Vec<Rule> = breaches.iter().map(|breach| breach.rule).collect();
    rules.dedup();
    let reason = breaches
        .iter()
        .map(|Breach { field, value, expected, .. }| format!("`{field}` is {value}, expected {expected}"))
        .collect::<Vec<_>>()
        .join("; ");
    for Breach { rule, field, value, expected } in breaches {
        let detail = || Detail { time_ms: Some(bar.time_ms), field: field.to_owned(), value, expected };
        report.add(config, rule, line, detail);
    }
    rejected.push(RejectedRow::of_bar(line, bar, rules, reason));
}

fn same_values(bars: &Bars, a: usize, b: usize) -> bool {
    let same = |column: &[f64]| column[a] == column[b] || column[a].is_nan() && column[b].is_nan();
    same(bars.open())
        && same(bars.high())
        && same(bars.low())
        && same(bars.close())
        && same(bars.volume())
        && bars.extra().values().all(|column| same(column))
}
