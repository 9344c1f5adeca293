//! Price bars in columns.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One price bar.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Start of the bar, milliseconds since 1970-01-01T00:00:00Z.
    pub time_ms: i64,
    /// First price.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price.
    pub close: f64,
    /// Traded volume; `None` where the source has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<f64>,
}

/// Price bars of one instrument, in columns of equal length.
///
/// # Invariants
/// All columns have the same length. Nothing else is promised here: a value of this type may hold bars that
/// break every rule of the market, which `validate` names. Missing volume is NaN.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bars {
    time_ms: Vec<i64>,
    open: Vec<f64>,
    high: Vec<f64>,
    low: Vec<f64>,
    close: Vec<f64>,
    volume: Vec<f64>,
    extra: BTreeMap<String, Vec<f64>>,
}

impl Bars {
    /// Makes an empty series with room for `capacity` bars.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            time_ms: Vec::with_capacity(capacity),
            open: Vec::with_capacity(capacity),
            high: Vec::with_capacity(capacity),
            low: Vec::with_capacity(capacity),
            close: Vec::with_capacity(capacity),
            volume: Vec::with_capacity(capacity),
            extra: BTreeMap::new(),
        }
    }

    /// Makes a series from columns; `volume` uses NaN for a missing value.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a column's length differs from that of `time_ms`.
    pub fn from_columns(
        time_ms: Vec<i64>,
        open: Vec<f64>,
        high: Vec<f64>,
        low: Vec<f64>,
        close: Vec<f64>,
        volume: Option<Vec<f64>>,
    ) -> Result<Self> {
        let len = time_ms.len();
        let volume = volume.unwrap_or_else(|| vec![f64::NAN; len]);
        for (name, column) in [("open", &open), ("high", &high), ("low", &low), ("close", &close), ("volume", &volume)]
        {
            if column.len() != len {
                return Err(Error::invalid(name, format!("{} values", column.len()), format!("{len} values")));
            }
        }
        Ok(Self { time_ms, open, high, low, close, volume, extra: BTreeMap::new() })
    }

    /// Appends one bar; extra columns get NaN.
    pub fn push(&mut self, bar: Bar) {
        self.time_ms.push(bar.time_ms);
        self.open.push(bar.open);
        self.high.push(bar.high);
        self.low.push(bar.low);
        self.close.push(bar.close);
        self.volume.push(bar.volume.unwrap_or(f64::NAN));
        for column in self.extra.values_mut() {
            column.push(f64::NAN);
        }
    }

    /// Adds or replaces a user-supplied column, such as `ask_close` or a sentiment score.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the length differs from the number of bars.
    pub fn set_extra(&mut self, name: impl Into<String>, values: Vec<f64>) -> Result<()> {
        let name = name.into();
        if values.len() != self.len() {
            return Err(Error::invalid(name, format!("{} values", values.len()), format!("{} values", self.len())));
        }
        self.extra.insert(name, values);
        Ok(())
    }

    /// Number of bars.
    #[must_use]
    pub fn len(&self) -> usize {
        self.time_ms.len()
    }

    /// Whether there are no bars.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.time_ms.is_empty()
    }

    /// Start times, milliseconds since the epoch.
    #[must_use]
    pub fn time_ms(&self) -> &[i64] {
        &self.time_ms
    }

    /// Opening prices.
    #[must_use]
    pub fn open(&self) -> &[f64] {
        &self.open
    }

    /// Highest prices.
    #[must_use]
    pub fn high(&self) -> &[f64] {
        &self.high
    }

    /// Lowest prices.
    #[must_use]
    pub fn low(&self) -> &[f64] {
        &self.low
    }

    /// Closing prices.
    #[must_use]
    pub fn close(&self) -> &[f64] {
        &self.close
    }

    /// Volumes; NaN where missing.
    #[must_use]
    pub fn volume(&self) -> &[f64] {
        &self.volume
    }

    /// Whether the series carries volume: at least one value is finite and above zero.
    #[must_use]
    pub fn has_volume(&self) -> bool {
        self.volume.iter().any(|v| v.is_finite() && *v > 0.0)
    }

    /// User-supplied columns by name.
    #[must_use]
    pub fn extra(&self) -> &BTreeMap<String, Vec<f64>> {
        &self.extra
    }

    /// The bar at `index`, or `None` past the end.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Bar> {
        let volume = *self.volume.get(index)?;
        Some(Bar {
            time_ms: self.time_ms[index],
            open: self.open[index],
            high: self.high[index],
            low: self.low[index],
            close: self.close[index],
            volume: volume.is_finite().then_some(volume),
        })
    }

    /// The bars one by one.
    pub fn iter(&self) -> impl Iterator<Item = Bar> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// A copy of the bars in `range`, extra columns included.
    ///
    /// # Panics
    /// Where the range reaches past the end.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self {
            time_ms: self.time_ms[range.clone()].to_vec(),
            open: self.open[range.clone()].to_vec(),
            high: self.high[range.clone()].to_vec(),
            low: self.low[range.clone()].to_vec(),
            close: self.close[range.clone()].to_vec(),
            volume: self.volume[range.clone()].to_vec(),
            extra: self.extra.iter().map(|(name, column)| (name.clone(), column[range.clone()].to_vec())).collect(),
        }
    }

    /// The bars at `indices`, in that order, extra columns included.
    ///
    /// # Panics
    /// Where an index is past the end.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let pick = |column: &[f64]| indices.iter().map(|&index| column[index]).collect::<Vec<_>>();
        Self {
            time_ms: indices.iter().map(|&index| self.time_ms[index]).collect(),
            open: pick(&self.open),
            high: pick(&self.high),
            low: pick(&self.low),
            close: pick(&self.close),
            volume: pick(&self.volume),
            extra: self.extra.iter().map(|(name, column)| (name.clone(), pick(column))).collect(),
        }
    }
}

/// Length of a bar.
///
/// Written as a number and a unit: `30s`, `5m`, `1h`, `1d`, `1w`.
///
/// # Invariants
/// At least one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interval {
    secs: u32,
}

const UNITS: [(&str, u32); 5] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

impl Interval {
    /// One hour.
    pub const HOUR: Self = Self { secs: 3_600 };
    /// One day.
    pub const DAY: Self = Self { secs: 86_400 };

    /// Makes an interval of `secs` seconds.
    ///
    /// # Errors
    /// [`Error::Invalid`] where `secs` is zero.
    pub fn from_secs(secs: u32) -> Result<Self> {
        if secs == 0 {
            return Err(Error::invalid("interval", "0s", "at least one second, such as `1m`, `1h` or `1d`"));
        }
        Ok(Self { secs })
    }

    /// Length in seconds.
    #[must_use]
    pub fn secs(self) -> u32 {
        self.secs
    }

    /// Length in milliseconds.
    #[must_use]
    pub fn millis(self) -> i64 {
        i64::from(self.secs) * 1000
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = UNITS.into_iter().find(|(_, size)| self.secs.is_multiple_of(*size)).unwrap_or(("s", 1));
        write!(f, "{}{unit}", self.secs / size)
    }
}

impl FromStr for Interval {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let error = || Error::invalid("interval", text, "a number and a unit, such as `30s`, `5m`, `1h`, `1d` or `1w`");
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let count: u32 = text[..split].parse().map_err(|_| error())?;
        let (_, size) = UNITS.into_iter().find(|(unit, _)| *unit == &text[split..]).ok_or_else(error)?;
        Self::from_secs(count.checked_mul(size).ok_or_else(error)?).map_err(|_| error())
    }
}

impl TryFrom<String> for Interval {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Interval> for String {
    fn from(interval: Interval) -> Self {
        interval.to_string()
    }
}
