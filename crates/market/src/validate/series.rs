//! Rules about the series as a whole, which warn.

use super::{Calendar, Detail, GapSummary, Rule, ValidationConfig, ValidationReport};
use crate::bars::{Bars, Interval};
use crate::error::{Error, Result};

const MS_PER_HOUR: i64 = 3_600_000;
const MS_PER_DAY: i64 = 24 * MS_PER_HOUR;
const MS_PER_WEEK: i64 = 7 * MS_PER_DAY;
/// A time of the week at which fewer bars than this share of the usual number are there is a closure.
const CLOSED_SHARE: f64 = 0.75;
/// Ratios of share splits, as new for old.
const SPLITS: [(f64, &str); 7] =
    [(1.5, "3:2"), (2.0, "2:1"), (3.0, "3:1"), (4.0, "4:1"), (5.0, "5:1"), (10.0, "10:1"), (20.0, "20:1")];
/// Largest distance of a log jump from that of a split.
const SPLIT_TOLERANCE: f64 = 0.03;

/// Checks accepted bars, strictly increasing in time.
pub(super) fn check(
    bars: &Bars,
    lines: &[u64],
    config: &ValidationConfig,
    report: &mut ValidationReport,
) -> Result<()> {
    report.has_volume = bars.has_volume();
    report.start_ms = bars.time_ms().first().copied();
    report.end_ms = bars.time_ms().last().copied();
    report.interval = interval(bars.time_ms(), config.interval)?;
    if let Some(interval) = report.interval {
        gaps(bars.time_ms(), lines, interval, config, report);
    }
    outliers(bars, lines, config, report);
    stale(bars, lines, config, report);
    Ok(())
}

/// The given interval where the bars agree with it, else the commonest step.
fn interval(time_ms: &[i64], given: Option<Interval>) -> Result<Option<Interval>> {
    let Some(step) = modal_step(time_ms) else { return Ok(given) };
    match given {
        None => Ok(u32::try_from((step / 1000).max(1)).ok().and_then(|secs| Interval::from_secs(secs).ok())),
        Some(given) if step < given.millis() / 2 => {
            let found = u32::try_from(step / 1000).ok().and_then(|secs| Interval::from_secs(secs).ok());
            let found = found.map_or_else(|| format!("{step} ms"), |found| format!("`{found}`"));
            Err(Error::invalid("interval", given, format!("{found}, the commonest step between the bars")))
        }
        Some(given) => Ok(Some(given)),
    }
}

/// The commonest step between bars; the shortest of equals.
fn modal_step(time_ms: &[i64]) -> Option<i64> {
    // Few steps are distinct, and mostly the last one comes again.
    let mut counts: Vec<(i64, usize)> = Vec::new();
    let mut last = 0;
    for pair in time_ms.windows(2) {
        let step = pair[1] - pair[0];
        match counts.get_mut(last) {
            Some((known, count)) if *known == step => *count += 1,
            _ => match counts.iter().position(|(known, _)| *known == step) {
                Some(index) => {
                    counts[index].1 += 1;
                    last = index;
                }
                // Irregular series have many steps; the common ones are among the first.
                None if counts.len() < 1000 => {
                    counts.push((step, 1));
                    last = counts.len() - 1;
                }
                None => {}
            },
        }
    }
    counts.into_iter().max_by_key(|&(step, count)| (count, -step)).map(|(step, _)| step)
}

/// Milliseconds since Monday 00:00 UTC.
fn time_of_week(time_ms: i64) -> i64 {
    // 1970-01-01 was a Thursday.
    (time_ms + 3 * MS_PER_DAY).rem_euclid(MS_PER_WEEK)
}

/// The intervals of the week at which the market is open.
struct OpenSlots {
    interval_ms: i64,
    /// Open slots of the week before each slot, and in all.
    before: Vec<usize>,
}

impl OpenSlots {
    /// The slots of the calendar; `None` where the market never closes, or an interval is longer than a closure.
    fn find(time_ms: &[i64], interval_ms: i64, calendar: Calendar) -> Option<Self> {
        let (first, last) = (*time_ms.first()?, *time_ms.last()?);
        if interval_ms >= MS_PER_WEEK {
            return None;
        }
        let num_slots = usize::try_from((MS_PER_WEEK + interval_ms - 1) / interval_ms).ok()?;
        let open: Vec<bool> = match calendar {
            Calendar::Continuous => return None,
            Calendar::Weekdays => {
                let close_ms =
                    if interval_ms >= MS_PER_DAY { 5 * MS_PER_DAY } else { 5 * MS_PER_DAY - 3 * MS_PER_HOUR };
                (0..)
                    .step_by(usize::try_from(interval_ms).ok()?)
                    .take(num_slots)
                    .map(|start| start < close_ms)
                    .collect()
            }
            // Two whole weeks must show it.
            Calendar::Auto if last - first < 2 * MS_PER_WEEK => return None,
            Calendar::Auto => {
                let mut present = vec![0_u32; num_slots];
                for &time in time_ms {
                    present[slot(time, interval_ms)] += 1;
                }
                let mut seen: Vec<u32> = present.iter().copied().filter(|&count| count > 0).collect();
                let middle = seen.len() / 2;
                let usual = f64::from(*seen.select_nth_unstable(middle).1);
                // Half a bar of grace, because the last week may be cut.
                present.into_iter().map(|count| f64::from(count) + 0.5 >= CLOSED_SHARE * usual).collect()
            }
        };
        let before = std::iter::once(0)
            .chain(open.into_iter().scan(0, |sum, open| {
                *sum += usize::from(open);
                Some(*sum)
            }))
            .collect();
        Some(Self { interval_ms, before })
    }

    /// Open slots among the `num_slots` that follow the one of `time_ms`.
    fn count_after(&self, time_ms: i64, num_slots: usize) -> usize {
        let week = self.before.len() - 1;
        let first = slot(time_ms, self.interval_ms) + 1;
        let up_to = |end: usize| end / week * self.before[week] + self.before[end % week];
        up_to(first + num_slots) - up_to(first)
    }
}

fn slot(time_ms: i64, interval_ms: i64) -> usize {
    usize::try_from(time_of_week(time_ms) / interval_ms).unwrap_or(0)
}

fn gaps(time_ms: &[i64], lines: &[u64], interval: Interval, config: &ValidationConfig, report: &mut ValidationReport) {
    let interval_ms = interval.millis();
    let mut slots = None;
    let mut gaps = GapSummary::default();
    for (index, pair) in time_ms.windows(2).enumerate() {
        let step = pair[1] - pair[0];
        if step == interval_ms {
            continue;
        }
        if step * 2 < interval_ms {
            report.add(config, Rule::Spacing, lines[index + 1], || Detail {
                time_ms: Some(pair[1]),
                field: "time".to_owned(),
                value: format!("{step} ms after the bar before it"),
                expected: format!("{interval} after it"),
            });
            continue;
        }
        // Steps are rounded to whole intervals: daily bars of a local midnight are 23 or 25 hours apart twice a year.
        let skipped = usize::try_from((step + interval_ms / 2) / interval_ms - 1).unwrap_or(0);
        if skipped == 0 {
            continue;
        }
        let slots = slots.get_or_insert_with(|| OpenSlots::find(time_ms, interval_ms, config.calendar));
        let missing = slots.as_ref().map_or(skipped, |slots| slots.count_after(pair[0], skipped));
        if missing == 0 {
            gaps.num_closures += 1;
            continue;
        }
        gaps.count += 1;
        gaps.missing_bars += missing;
        gaps.first_after_ms = gaps.first_after_ms.or(Some(pair[0]));
        if missing > gaps.longest_bars {
            gaps.longest_bars = missing;
            gaps.longest_after_ms = Some(pair[0]);
        }
        report.add(config, Rule::Gap, lines[index + 1], || Detail {
            time_ms: Some(pair[1]),
            field: "time".to_owned(),
            value: format!("{missing} bars missing before it"),
            expected: format!("a bar every {interval} while the market is open"),
        });
    }
    report.gaps = gaps;
}

/// Median; reorders `values`.
fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// Median, and median absolute deviation from it. Where more than half of the values are equal, the mean absolute
/// deviation stands in, scaled to agree on normal values (Iglewicz and Hoaglin 1993: 1.2533 / 1.4826 = 0.8453).
fn robust_scale(values: &[f64], scratch: &mut Vec<f64>) -> (f64, f64) {
    scratch.clear();
    scratch.extend_from_slice(values);
    let centre = median(scratch);
    for value in scratch.iter_mut() {
        *value = (*value - centre).abs();
    }
    let mean = scratch.iter().sum::<f64>() / scratch.len() as f64;
    let mad = median(scratch);
    (centre, if mad > 0.0 { mad } else { 0.8453 * mean })
}

fn outliers(bars: &Bars, lines: &[u64], config: &ValidationConfig, report: &mut ValidationReport) {
    let close = bars.close();
    let num_returns = close.len().saturating_sub(1);
    // Below this many the scale means nothing.
    if config.outlier_mads > 0.0 && num_returns >= 20 {
        let returns: Vec<f64> = close.windows(2).map(|pair| (pair[1] / pair[0]).ln()).collect();
        let mut scratch = Vec::with_capacity(num_returns);
        let (centre, scale) = robust_scale(&returns, &mut scratch);
        let blocks = (num_returns / config.outlier_block_bars).max(1);
        for block in 0..blocks {
            let range = block * num_returns / blocks..(block + 1) * num_returns / blocks;
            let limit = scale.max(robust_scale(&returns[range.clone()], &mut scratch).1) * config.outlier_mads;
            for index in range {
                if (returns[index] - centre).abs() > limit {
                    report.add(config, Rule::Outlier, lines[index + 1], || Detail {
                        time_ms: Some(bars.time_ms()[index + 1]),
                        field: "close".to_owned(),
                        value: format!("{} after {}", close[index + 1], close[index]),
                        expected: format!("a log return within {limit:.6} of {centre:.6}"),
                    });
                }
            }
        }
    }
    if config.split_min_jump > 0.0 {
        let open = bars.open().get(1..).unwrap_or_default();
        for index in 0..num_returns {
            // A split changes the price between two bars.
            let ratio = open[index] / close[index];
            if (0.8..1.25).contains(&ratio) {
                continue;
            }
            let jump = ratio.ln();
            let split = SPLITS.iter().find(|(ratio, _)| (jump.abs() - ratio.ln()).abs() < SPLIT_TOLERANCE);
            if let Some((_, name)) = split.filter(|_| jump.abs() >= config.split_min_jump) {
                let reverse = if jump > 0.0 { "reverse " } else { "" };
                report.add(config, Rule::Split, lines[index + 1], || Detail {
                    time_ms: Some(bars.time_ms()[index + 1]),
                    field: "open".to_owned(),
                    value: format!("{} after a close of {}", open[index], close[index]),
                    expected: format!("no jump by the ratio of a {reverse}{name} split, unless prices are adjusted"),
                });
            }
        }
    }
}

fn stale(bars: &Bars, lines: &[u64], config: &ValidationConfig, report: &mut ValidationReport) {
    if config.stale_bars == 0 {
        return;
    }
    let (open, high, low, close) = (bars.open(), bars.high(), bars.low(), bars.close());
    let mut run = 0;
    for index in 0..=bars.len() {
        let flat = index < bars.len() && high[index] == low[index] && open[index] == close[index];
        if flat && (run == 0 || close[index] == close[index - 1]) {
            run += 1;
            continue;
        }
        if run >= config.stale_bars {
            let first = index - run;
            report.add(config, Rule::Stale, lines[first], || Detail {
                time_ms: Some(bars.time_ms()[first]),
                field: "close".to_owned(),
                value: format!("{} in {run} flat bars", close[first]),
                expected: format!("fewer than {} flat bars at one price", config.stale_bars),
            });
        }
        run = usize::from(flat);
    }
}
