//! Group H: time and regime. Times are UTC starts of bars.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use super::Group::Calendar;
use super::engine::{CLOSE, Graph, TIME};
use super::ops::{map, scan, window};
use super::volume::DAY_MS;

pub(super) fn define(g: &mut Graph) {
    let [slot] = g.node("HOURSIN", &[TIME], map(|[time]| (TAU * hour(time) / 24.0).sin()));
    g.feature(168, "hour_sin", Calendar, "sine of the time of day", slot);
    let [slot] = g.node("HOURCOS", &[TIME], map(|[time]| (TAU * hour(time) / 24.0).cos()));
    g.feature(169, "hour_cos", Calendar, "cosine of the time of day", slot);
    let [slot] = g.node("WEEKDAYSIN", &[TIME], map(|[time]| (TAU * weekday(time) / 7.0).sin()));
    g.feature(170, "weekday_sin", Calendar, "sine of the day of the week, Monday 0", slot);
    let [slot] = g.node("WEEKDAYCOS", &[TIME], map(|[time]| (TAU * weekday(time) / 7.0).cos()));
    g.feature(171, "weekday_cos", Calendar, "cosine of the day of the week, Monday 0", slot);

    let op = map(|[time]| match hour(time) {
        hour if hour < 7.0 => 0.0,
        hour if hour < 13.0 => 1.0,
        hour if hour < 21.0 => 2.0,
        _ => 3.0,
    });
    let [slot] = g.node("SESSION(7,13,21)", &[TIME], op);
    g.feature(172, "session", Calendar, "0 Asia (0-7 h UTC), 1 London (7-13), 2 New York (13-21), 3 off", slot);

    let op = scan(1, Steps::default(), |steps: &mut Steps, [time]: [f64; 1]| [steps.since_gap(time)]);
    let [slot] = g.node("SINCEGAP(1.5)", &[TIME], op);
    g.feature(173, "bars_since_gap", Calendar, "bars since a step above 1.5 times the most frequent one", slot);

    let [slot] = g.node("MONTHEND", &[TIME], map(|[time]| f64::from(u8::from(is_month_end(time)))));
    g.feature(174, "month_end", Calendar, "1 where no later weekday falls in the month", slot);

    let r = g.log_return(CLOSE, 1);
    let volatility = g.std_dev(r, 20);
    let op = window(252, |[x]| {
        let below = x.iter().filter(|value| **value < x[251]).count();
        (3 * below / 252) as f64
    });
    let [slot] = g.node("TERCILE(252)", &[volatility], op);
    g.feature(
        175,
        "vol_regime",
        Calendar,
        "third of the last 252 bars that the volatility over 20 bars is in: 0, 1, 2",
        slot,
    );
}

/// Hours since midnight.
fn hour(time: f64) -> f64 {
    time.rem_euclid(DAY_MS) / 3_600_000.0
}

/// Days since Monday.
fn weekday(time: f64) -> f64 {
    // 1970-01-01 was a Thursday.
    ((time / DAY_MS).floor() + 3.0).rem_euclid(7.0)
}

/// Whether all later days of the month are Saturdays or Sundays.
fn is_month_end(time: f64) -> bool {
    let day = (time / DAY_MS).floor();
    let month = month(day);
    let mut later = day + 1.0;
    while month == self::month(later) {
        if weekday(later * DAY_MS) < 5.0 {
            return false;
        }
        later += 1.0;
    }
    true
}

/// Month of the year, 1 to 12, from days since 1970-01-01 (Hinnant, `civil_from_days`).
fn month(day: f64) -> i64 {
    let day_of_era = (day as i64 + 719_468).rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    if shifted < 10 { shifted + 3 } else { shifted - 9 }
}

/// Distinct steps that are counted, so that an irregular series does not fill the memory.
const MOST_STEPS: usize = 1024;

/// Steps between bars so far.
#[derive(Debug, Clone, Default)]
struct Steps {
    last: Option<f64>,
    counts: BTreeMap<i64, u32>,
    /// The most frequent step and how often it came; the shorter one of two equally frequent ones.
    modal: Option<(i64, u32)>,
    bars: f64,
}

impl Steps {
    /// Bars since the last gap, or since the first bar where there was none; 0 at the first bar after the gap.
    fn since_gap(&mut self, time: f64) -> f64 {
        let Some(last) = self.last.replace(time) else { return 0.0 };
        let step = (time - last) as i64;
        let is_gap = self.modal.is_some_and(|(modal, _)| step as f64 > 1.5 * modal as f64);
        self.bars = if is_gap { 0.0 } else { self.bars + 1.0 };
        if self.counts.len() == MOST_STEPS && !self.counts.contains_key(&step) {
            return self.bars;
        }
        let count = self.counts.entry(step).or_insert(0);
        *count += 1;
        let better = self.modal.is_none_or(|(modal, most)| *count > most || (*count == most && step < modal));
        if better {
            self.modal = Some((step, *count));
        }
        self.bars
    }
}
