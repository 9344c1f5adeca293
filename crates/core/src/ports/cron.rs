//! When a schedule fires.
//!
//! The fields of `cron(...)` mean what EventBridge documents ("Cron expressions reference"): minute, hour, day of month,
//! month, day of week (1 is Sunday), year; `L`, `W` and `#` among the days; exactly one of the two days is `?`.

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

use super::{Event, Schedule, ScheduleExpression};
use crate::error::{Error, Result};

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const LAST_YEAR: i16 = 2199;

impl ScheduleExpression {
    /// Checks the fields of a cron expression.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Rate { .. } => Ok(()),
            Self::Cron { fields } => Cron::parse(fields).map(|_| ()),
        }
    }

    /// The first time after `after_ms` at which this fires; a rate counts from `anchor_ms`. `None` where there is none
    /// before the year 2200.
    ///
    /// # Errors
    /// `Invalid` for bad fields.
    pub fn next_after(&self, anchor_ms: i64, after_ms: i64) -> Result<Option<i64>> {
        match self {
            Self::Rate { secs } => {
                let period = i64::try_from(*secs).ok().and_then(|secs| secs.checked_mul(1_000));
                let Some(period) = period.filter(|period| *period > 0) else { return Ok(None) };
                let num_periods = after_ms.saturating_sub(anchor_ms).div_euclid(period).max(0).saturating_add(1);
                Ok(num_periods.checked_mul(period).and_then(|span| anchor_ms.checked_add(span)))
            }
            Self::Cron { fields } => Ok(Cron::parse(fields)?.next_after(after_ms)),
        }
    }
}

impl Schedule {
    /// The event of the firing that was due at `due_ms`: its id is `{name}@{due_ms}`, so that a firing that is published
    /// twice (a crash came between) is recognised; an empty correlation id becomes the event's id.
    #[must_use]
    pub fn firing(&self, due_ms: i64) -> Event {
        let mut event = self.event.clone();
        event.id = format!("{}@{due_ms}", self.name);
        event.time_ms = due_ms;
        if event.correlation_id.is_empty() {
            event.correlation_id.clone_from(&event.id);
        }
        event
    }
}

/// Allowed values of a field, one bit each.
type Bits = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Special {
    LastDay,
    LastWorkday,
    Workday(i8),
    /// The last such weekday of the month.
    LastWeekday(i8),
    /// The n-th such weekday of the month.
    NthWeekday(i8, i8),
}

#[derive(Debug)]
struct Cron {
    minutes: Bits,
    hours: Bits,
    days: Bits,
    months: Bits,
    weekdays: Bits,
    specials: Vec<Special>,
    years: Vec<i16>,
}

struct Field<'a> {
    name: &'a str,
    min: i16,
    max: i16,
    names: &'a [&'a str],
}

impl Field<'_> {
    fn error(&self, part: &str, hint: &str) -> Error {
        let expected = format!("{} to {}, `,`, `-`, `*`, `/`{hint}", self.min, self.max);
        Error::invalid(&format!("{} of cron", self.name), part, expected)
    }

    fn number(&self, text: &str) -> Option<i16> {
        let upper = text.to_ascii_uppercase();
        if let Some(index) = self.names.iter().position(|name| *name == upper) {
            return i16::try_from(index + 1).ok();
        }
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        text.parse().ok().filter(|number| (self.min..=self.max).contains(number))
    }

    /// The numbers that one part (between commas) stands for.
    fn part(&self, part: &str) -> Option<Vec<i16>> {
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => (span, Some(step.parse::<u16>().ok().filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let (first, last) = if span == "*" {
            (self.min, self.max)
        } else if let Some((first, last)) = span.split_once('-') {
            (self.number(first)?, self.number(last)?)
        } else {
            let first = self.number(span)?;
            (first, if step.is_some() { self.max } else { first })
        };
        (first <= last).then(|| (first..=last).step_by(usize::from(step.unwrap_or(1))).collect())
    }

    fn bits(&self, text: &str) -> Result<Bits> {
        let mut bits = 0;
        for part in text.split(',') {
            let numbers = self.part(part).ok_or_else(|| self.error(part, ""))?;
            bits |= numbers.into_iter().fold(0, |bits, number| bits | 1 << number);
        }
        Ok(bits)
    }
}

impl Cron {
    fn parse(text: &str) -> Result<Self> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays, years] = fields[..] else {
            return Err(Error::invalid("cron", text, "six fields: minute, hour, day, month, day of week, year"));
        };
        if (days == "?") == (weekdays == "?") {
            return Err(Error::invalid("cron", text, "`?` in exactly one of day of month and day of week"));
        }
        let day_field = Field { name: "day of month", min: 1, max: 31, names: &[] };
        let weekday_field = Field { name: "day of week", min: 1, max: 7, names: &DAYS };
        let year_field = Field { name: "year", min: 1970, max: LAST_YEAR, names: &[] };
        let mut cron = Self {
            minutes: Field { name: "minute", min: 0, max: 59, names: &[] }.bits(minutes)?,
            hours: Field { name: "hour", min: 0, max: 23, names: &[] }.bits(hours)?,
            days: 0,
            months: Field { name: "month", min: 1, max: 12, names: &MONTHS }.bits(months)?,
            weekdays: 0,
            specials: Vec::new(),
            years: Vec::new(),
        };
        for part in days.split(',').filter(|_| days != "?") {
            let upper = part.to_ascii_uppercase();
            let special = match upper.as_str() {
                "L" => Some(Special::LastDay),
                "LW" => Some(Special::LastWorkday),
                _ => upper
                    .strip_suffix('W')
                    .and_then(|day| day_field.number(day))
                    .and_then(|day| i8::try_from(day).ok())
                    .map(Special::Workday),
            };
            match special {
                Some(special) => cron.specials.push(special),
                None => cron.days |= day_field.bits(part).map_err(|_| day_field.error(part, ", `L`, `W`"))?,
            }
        }
        for part in weekdays.split(',').filter(|_| weekdays != "?") {
            let upper = part.to_ascii_uppercase();
            let day = |text: &str| weekday_field.number(text).and_then(|day| i8::try_from(day).ok());
            let special = if let Some((weekday, nth)) = upper.split_once('#') {
                let nth = nth.parse().ok().filter(|nth| (1..=5).contains(nth));
                let weekday = day(weekday).zip(nth).ok_or_else(|| weekday_field.error(part, ", `L`, `#`"))?;
                Some(Special::NthWeekday(weekday.0, weekday.1))
            } else {
                upper.strip_suffix('L').and_then(day).map(Special::LastWeekday)
            };
            match special {
                Some(special) => cron.specials.push(special),
                None if upper == "L" => cron.weekdays |= 1 << 7,
                None => {
                    cron.weekdays |= weekday_field.bits(part).map_err(|_| weekday_field.error(part, ", `L`, `#`"))?;
                }
            }
        }
        for part in years.split(',') {
            cron.years.extend(year_field.part(part).ok_or_else(|| year_field.error(part, ""))?);
        }
        cron.years.sort_unstable();
        Ok(cron)
    }

    fn next_after(&self, after_ms: i64) -> Option<i64> {
        // The first whole minute after `after_ms`.
        let start_ms = after_ms.max(-60_000).div_euclid(60_000).checked_add(1)?.checked_mul(60_000)?;
        let start = Timestamp::from_millisecond(start_ms).ok()?.to_zoned(TimeZone::UTC).datetime();
        let mut date = start.date();
        let mut earliest = i64::from(start.hour()) * 60 + i64::from(start.minute());
        while date.year() <= LAST_YEAR {
            if self.years.binary_search(&date.year()).is_err() {
                let index = self.years.partition_point(|year| *year < date.year());
                date = Date::new(*self.years.get(index)?, 1, 1).ok()?;
                earliest = 0;
                continue;
            }
            if self.months & (1 << date.month()) == 0 {
                date = date.last_of_month().tomorrow().ok()?;
                earliest = 0;
                continue;
            }
            if self.matches_day(date)
                && let Some(minute) = (earliest..24 * 60)
                    .find(|minute| self.hours & (1 << (minute / 60)) != 0 && self.minutes & (1 << (minute % 60)) != 0)
            {
                let midnight = date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
                return Some(midnight + minute * 60_000);
            }
            date = date.tomorrow().ok()?;
            earliest = 0;
        }
        None
    }

    fn matches_day(&self, date: Date) -> bool {
        let weekday = weekday_number(date.weekday());
        self.days & (1 << date.day()) != 0
            || self.weekdays & (1 << weekday) != 0
            || self.specials.iter().any(|special| match *special {
                Special::LastDay => date.day() == date.days_in_month(),
                Special::LastWorkday => date.day() == nearest_workday(date, date.days_in_month()),
                Special::Workday(day) => day <= date.days_in_month() && date.day() == nearest_workday(date, day),
                Special::LastWeekday(wanted) => weekday == wanted && date.day() + 7 > date.days_in_month(),
                Special::NthWeekday(wanted, nth) => weekday == wanted && (date.day() - 1) / 7 + 1 == nth,
            })
    }
}

/// 1 is Sunday.
fn weekday_number(weekday: Weekday) -> i8 {
    weekday.to_sunday_one_offset()
}

/// The workday (Monday to Friday) nearest to `day` in the month of `date`, never in another month.
fn nearest_workday(date: Date, day: i8) -> i8 {
    let Ok(target) = Date::new(date.year(), date.month(), day) else { return 0 };
    match target.weekday() {
        Weekday::Saturday if day == 1 => day + 2,
        Weekday::Saturday => day - 1,
        Weekday::Sunday if day == date.days_in_month() => day - 2,
        Weekday::Sunday => day + 1,
        _ => day,
    }
}

#[cfg(test)]
mod tests;
