//! Timestamps as data vendors write them.

use serde::{Deserialize, Serialize};

/// Order of the parts of a date that is written with slashes and ends in the year, such as `03/04/2020`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DateOrder {
    /// `31/12/2020`.
    DayFirst,
    /// `12/31/2020`.
    MonthFirst,
}

/// What is accepted as a timestamp, for messages.
pub(crate) const ACCEPTED: &str = "a timestamp such as `2020-01-31T13:00:00Z`, `2020-01-31 13:00:00`, `2020-01-31`, \
                                   `2020.01.31 13:00`, `31.01.2020 13:00`, `20200131 130000` or an integer epoch in s, \
                                   ms, us or ns";

const MS_PER_DAY: i64 = 86_400_000;
/// Largest time that is kept: the year 9999, as far as every reader of our files goes.
const MAX_MS: i64 = 253_402_300_800_000;

/// Reads a timestamp as milliseconds since the epoch.
///
/// Accepted are RFC 3339 with `T` or a space, with or without seconds, fraction and zone; a date alone;
/// `YYYY.MM.DD`, `YYYY/MM/DD`, `DD.MM.YYYY` and (only with `order`) dates with slashes that end in the year;
/// `YYYYMMDD` and `YYYYMMDD HHMMSS`; integers since the epoch, in seconds below 1e11, milliseconds below 1e14,
/// microseconds below 1e17 and nanoseconds above; a fraction of a second is cut to milliseconds. Eight digits are
/// a date and fourteen digits a date and time, never an epoch. A time without a zone is at `utc_offset_secs` east
/// of UTC.
///
/// # Errors
/// The reason, as a phrase.
pub fn parse_timestamp(text: &[u8], utc_offset_secs: i32, order: Option<DateOrder>) -> Result<i64, &'static str> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err("is empty");
    }
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == text.len() && digits != 8 && digits != 14 {
        return number(text).and_then(epoch);
    }
    let negative = text[0] == b'-' && text.len() > 1 && text[1..].iter().all(u8::is_ascii_digit);
    if negative {
        return number(&text[1..]).and_then(|value| epoch(-value));
    }
    let offset_ms = i64::from(utc_offset_secs) * 1000;
    let (days, rest) = date(text, digits, order)?;
    let rest = match rest {
        [] => return bounded(days * MS_PER_DAY - offset_ms),
        [b'T' | b't' | b' ' | b'_', rest @ ..] => rest.trim_ascii_start(),
        // Fourteen digits.
        rest if digits == 14 => rest,
        _ => return Err("has something after the date that is not a time"),
    };
    if rest.is_empty() {
        return Err("ends before the time");
    }
    let (time_ms, zone) = clock(rest)?;
    let zone_ms = match zone.trim_ascii() {
        [] => offset_ms,
        zone => offset(zone)? * 1000,
    };
    bounded(days * MS_PER_DAY + time_ms - zone_ms)
}

fn bounded(ms: i64) -> Result<i64, &'static str> {
    if (-MAX_MS..MAX_MS).contains(&ms) { Ok(ms) } else { Err("is out of range") }
}

fn number(digits: &[u8]) -> Result<i64, &'static str> {
    let mut value: i64 = 0;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return Err("is not a number");
        }
        value = value.checked_mul(10).and_then(|v| v.checked_add(i64::from(byte - b'0'))).ok_or("is out of range")?;
    }
    Ok(value)
}

/// Turns an integer epoch into milliseconds by its magnitude.
///
/// # Errors
/// The reason, as a phrase.
pub(crate) fn epoch(value: i64) -> Result<i64, &'static str> {
    let magnitude = value.unsigned_abs();
    bounded(if magnitude < 100_000_000_000 {
        value * 1000
    } else if magnitude < 100_000_000_000_000 {
        value
    } else if magnitude < 100_000_000_000_000_000 {
        value.div_euclid(1000)
    } else {
        value.div_euclid(1_000_000)
    })
}

/// Days since the epoch, and what follows the date.
fn date(text: &[u8], digits: usize, order: Option<DateOrder>) -> Result<(i64, &[u8]), &'static str> {
    let field = |from: usize, len: usize| text.get(from..from + len).ok_or("is too short").and_then(number);
    match digits {
        8 | 14 => Ok((days(field(0, 4)?, field(4, 2)?, field(6, 2)?)?, &text[8..])),
        4 => {
            let separator = *text.get(4).ok_or("is too short")?;
            if !matches!(separator, b'-' | b'.' | b'/') || text.get(7) != Some(&separator) {
                return Err("is not a date");
            }
            Ok((days(field(0, 4)?, field(5, 2)?, field(8, 2)?)?, &text[10..]))
        }
        1 | 2 => {
            let separator = *text.get(digits).ok_or("is too short")?;
            let second = text[digits + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let year_at = digits + second + 2;
            if !matches!(separator, b'-' | b'.' | b'/') || second == 0 || text.get(year_at - 1) != Some(&separator) {
                return Err("is not a date");
            }
            let (first, second, year) = (field(0, digits)?, field(digits + 1, second)?, field(year_at, 4)?);
            let (day, month) = match (separator, order) {
                (b'.', None) | (_, Some(DateOrder::DayFirst)) => (first, second),
                (_, Some(DateOrder::MonthFirst)) => (second, first),
                (_, None) => return Err("may be day or month first; set `date_order`"),
            };
            Ok((days(year, month, day)?, &text[year_at + 4..]))
        }
        _ => Err("is not a timestamp"),
    }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Result<i64, &'static str> {
    const LENGTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let index = usize::try_from(month - 1).map_err(|_| "has no such month")?;
    let length = LENGTHS.get(index).ok_or("has no such month")? + i64::from(leap && month == 2);
    if !(1..=length).contains(&day) {
        return Err("has no such day");
    }
    // Counted from 1 March, so that the leap day comes last.
    let shifted = year - i64::from(month <= 2);
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Ok(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

/// Milliseconds since midnight, and what follows the time.
fn clock(text: &[u8]) -> Result<(i64, &[u8]), &'static str> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut parts = [0_i64; 3];
    let mut rest;
    if digits == 4 || digits == 6 {
        for (part, pair) in parts.iter_mut().zip(text[..digits].chunks(2)) {
            *part = number(pair)?;
        }
        rest = &text[digits..];
    } else {
        if !(1..=2).contains(&digits) || text.get(digits) != Some(&b':') {
            return Err("has no time such as `13:00` after the date");
        }
        parts[0] = number(&text[..digits])?;
        rest = &text[digits..];
        for part in &mut parts[1..] {
            let [b':', tail @ ..] = rest else { break };
            let pair = tail.get(..2).ok_or("ends inside the time")?;
            *part = number(pair)?;
            rest = &tail[2..];
        }
    }
    let [hours, minutes, secs] = parts;
    if hours > 23 || minutes > 59 || secs > 60 {
        return Err("has no such time of day");
    }
    let mut ms = (hours * 3600 + minutes * 60 + secs) * 1000;
    if let [b'.' | b',', tail @ ..] = rest {
        let fraction = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if fraction == 0 {
            return Err("ends inside the fraction of a second");
        }
        let mut scale = 100;
        for byte in tail.iter().take(fraction.min(3)) {
            ms += i64::from(byte - b'0') * scale;
            scale /= 10;
        }
        rest = &tail[fraction..];
    }
    Ok((ms, rest))
}

/// Seconds east of UTC.
fn offset(zone: &[u8]) -> Result<i64, &'static str> {
    const ERROR: &str = "has a zone other than `Z`, `UTC`, `GMT` or an offset such as `+02:00`";
    let zone = match zone {
        [b'Z' | b'z'] => return Ok(0),
        [b'U', b'T', b'C', rest @ ..] | [b'G', b'M', b'T', rest @ ..] => rest,
        zone => zone,
    };
    let (sign, rest) = match zone {
        [] => return Ok(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return Err(ERROR),
    };
    let (hours, minutes) = match rest {
        [a, b] => ([*a, *b], [b'0', b'0']),
        [a, b, c, d] | [a, b, b':', c, d] => ([*a, *b], [*c, *d]),
        _ => return Err(ERROR),
    };
    let (hours, minutes) = (number(&hours).map_err(|_| ERROR)?, number(&minutes).map_err(|_| ERROR)?);
    if hours > 23 || minutes > 59 { Err(ERROR) } else { Ok(sign * (hours * 3600 + minutes * 60)) }
}
