//! Windows of bars as a model sees them: cutting, encoding, scaling, annotations.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer, Serialize};

use crate::bars::{Bars, Interval};
use crate::error::{Error, Result};
use crate::read::parse_timestamp;

/// Bars of a window, unless configured otherwise.
pub const WINDOW_BARS: usize = 105;

/// Channels of an encoded bar: open, high, low, close.
pub const NUM_CHANNELS: usize = 4;

/// How windows are cut from a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WindowConfig {
    /// Bars of a window.
    pub num_bars: usize,
    /// Most bars that may be missing between two bars of a window, closures of the market counted; any number where
    /// absent.
    pub max_gap_bars: Option<usize>,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self { num_bars: WINDOW_BARS, max_gap_bars: None }
    }
}

impl WindowConfig {
    /// Indices of the bars at which a window may end: each has enough bars before it, and no gap among them that is
    /// too long.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a window has no bars.
    pub fn ends(&self, bars: &Bars, interval: Interval) -> Result<Vec<usize>> {
        if self.num_bars == 0 {
            return Err(Error::invalid("num_bars", 0, "at least 1"));
        }
        let Some(max_gap_bars) = self.max_gap_bars else {
            return Ok((self.num_bars - 1..bars.len()).collect());
        };
        let max_step_ms = i64::try_from(max_gap_bars + 1).unwrap_or(i64::MAX).saturating_mul(interval.millis());
        let time_ms = bars.time_ms();
        let (mut ends, mut run) = (Vec::new(), 0);
        for end in 0..bars.len() {
            run = if end > 0 && time_ms[end] - time_ms[end - 1] > max_step_ms { 1 } else { run + 1 };
            if run >= self.num_bars {
                ends.push(end);
            }
        }
        Ok(ends)
    }
}

/// Refuses a window of another length.
///
/// # Errors
/// [`Error::Invalid`] with both lengths.
pub fn check_length(num_bars: usize, expected: usize) -> Result<()> {
    if num_bars == expected {
        return Ok(());
    }
    Err(Error::invalid("window", format!("{num_bars} bars"), format!("exactly {expected} bars")))
}

/// Refuses rows of open, high, low, close that are no bars: `row` and field of the first breach are named.
///
/// # Errors
/// [`Error::Invalid`] where a price is not finite or not above zero, the high is not the highest or the low not the
/// lowest.
pub fn check_rows(rows: &[[f64; NUM_CHANNELS]]) -> Result<()> {
    for (index, &[open, high, low, close]) in rows.iter().enumerate() {
        check_prices(index, [open, high, low, close])?;
        if high < open.max(close).max(low) {
            let bound = open.max(close).max(low);
            return Err(Error::invalid(
                format!("row {index} high"),
                high,
                format!("at least {bound}, max(open, close, low)"),
            ));
        }
        if low > open.min(close) {
            let bound = open.min(close);
            return Err(Error::invalid(
                format!("row {index} low"),
                low,
                format!("at most {bound}, min(open, close, high)"),
            ));
        }
    }
    Ok(())
}

fn check_prices(index: usize, row: [f64; NUM_CHANNELS]) -> Result<()> {
    for (name, price) in ["open", "high", "low", "close"].into_iter().zip(row) {
        if !(price > 0.0 && price < f64::INFINITY) {
            return Err(Error::invalid(format!("row {index} {name}"), price, "a finite price above 0"));
        }
    }
    Ok(())
}

/// Encodes one window of rows of open, high, low, close.
///
/// Every price `x` of bar `t` becomes `ln(x / close[t-1])`; the first bar is measured from its own open. So the
/// encoding needs nothing outside the window and does not depend on the price level. Training and serving call this.
///
/// # Shapes
/// Returns `[rows, 4]` in row order, channels open, high, low, close.
///
/// # Errors
/// [`Error::Invalid`] where a price is not finite or not above zero.
pub fn encode_rows(rows: &[[f64; NUM_CHANNELS]]) -> Result<Vec<f32>> {
    let mut out = Vec::with_capacity(rows.len() * NUM_CHANNELS);
    encode_with(rows.len(), |index| rows[index], &mut out)?;
    Ok(out)
}

/// Encodes the window of `num_bars` bars that ends with the bar at index `end`, as [`encode_rows`] does.
///
/// # Shapes
/// Returns `[num_bars, 4]` in row order.
///
/// # Errors
/// [`Error::Invalid`] where a price is not above zero or `end` is past the last bar; [`Error::TooShort`] where fewer
/// bars stand before it.
pub fn encode(bars: &Bars, end: usize, num_bars: usize) -> Result<Vec<f32>> {
    encode_many(bars, &[end], num_bars)
}

/// Encodes several windows, each as [`encode`] does.
///
/// # Shapes
/// Returns `[ends, num_bars, 4]` in row order.
///
/// # Errors
/// As [`encode`].
pub fn encode_many(bars: &Bars, ends: &[usize], num_bars: usize) -> Result<Vec<f32>> {
    let mut out = Vec::with_capacity(ends.len() * num_bars * NUM_CHANNELS);
    let (open, high, low, close) = (bars.open(), bars.high(), bars.low(), bars.close());
    for &end in ends {
        if end >= bars.len() {
            return Err(Error::invalid("end", end, format!("the index of one of {} bars", bars.len())));
        }
        let Some(first) = (end + 1).checked_sub(num_bars) else {
            return Err(Error::TooShort { what: "window".to_owned(), needed: num_bars, got: end + 1 });
        };
        let row = |index| [open[first + index], high[first + index], low[first + index], close[first + index]];
        encode_with(num_bars, row, &mut out)?;
    }
    Ok(out)
}

fn encode_with(len: usize, row: impl Fn(usize) -> [f64; NUM_CHANNELS], out: &mut Vec<f32>) -> Result<()> {
    let mut reference = None;
    for index in 0..len {
        let prices = row(index);
        check_prices(index, prices)?;
        let base = reference.unwrap_or(prices[0]);
        out.extend(prices.map(|price| (price / base).ln() as f32));
        reference = Some(prices[3]);
    }
    Ok(())
}

/// Mean and standard deviation of each column, to bring columns to one scale.
///
/// # Invariants
/// Both have one entry per column; no `std` is zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Mean of each column.
    pub mean: Vec<f64>,
    /// Standard deviation of each column (of the population); 1 where the column is constant.
    pub std: Vec<f64>,
}

impl Scaling {
    /// Fits the scaling to rows of `width` values, in double precision.
    ///
    /// # Shapes
    /// `values` is `[rows, width]` in row order; windows are rows of 4.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there are no rows, the last one is cut, or a value is not finite.
    pub fn fit(values: &[f32], width: usize) -> Result<Self> {
        if width == 0 || values.is_empty() || !values.len().is_multiple_of(width) {
            return Err(Error::invalid(
                "values",
                format!("{} values", values.len()),
                format!("rows of {width} values"),
            ));
        }
        let num_rows = (values.len() / width) as f64;
        let mut mean = vec![0.0; width];
        for row in values.chunks_exact(width) {
            for (sum, value) in mean.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        }
        mean.iter_mut().for_each(|sum| *sum /= num_rows);
        if let Some(column) = mean.iter().position(|mean| !mean.is_finite()) {
            return Err(Error::invalid(format!("column {column}"), "not finite", "finite values"));
        }
        let mut std = vec![0.0; width];
        for row in values.chunks_exact(width) {
            for ((sum, value), mean) in std.iter_mut().zip(row).zip(&mean) {
                *sum += (f64::from(*value) - mean).powi(2);
            }
        }
        for (sum, mean) in std.iter_mut().zip(&mean) {
            let deviation = (*sum / num_rows).sqrt();
            // What rounding of the mean alone leaves is no spread.
            *sum = if deviation <= 1e-12 * mean.abs() { 1.0 } else { deviation };
        }
        Ok(Self { mean, std })
    }

    /// Scales rows in place: `(value - mean) / std`.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the values are no whole number of rows.
    pub fn apply(&self, values: &mut [f32]) -> Result<()> {
        let width = self.mean.len();
        if width == 0 || self.std.len() != width || !values.len().is_multiple_of(width) {
            return Err(Error::invalid(
                "values",
                format!("{} values", values.len()),
                format!("rows of {width} values"),
            ));
        }
        for row in values.chunks_exact_mut(width) {
            for ((value, mean), std) in row.iter_mut().zip(&self.mean).zip(&self.std) {
                *value = ((f64::from(*value) - mean) / std) as f32;
            }
        }
        Ok(())
    }
}

/// What is known about one window, supplied beside the bars.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowAnnotation {
    /// Time of the last bar of the window, in milliseconds since the epoch; read from a timestamp or an epoch.
    #[serde(alias = "end", deserialize_with = "time")]
    pub end_ms: i64,
    /// Class of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How sure the annotator was, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// First bar of the expansion, counted from 0 at the start of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expansion_start: Option<usize>,
    /// Last bar of the expansion, counted from 0 at the start of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expansion_end: Option<usize>,
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Time {
        Epoch(i64),
        Text(String),
    }
    let text = match Time::deserialize(deserializer)? {
        Time::Epoch(epoch) => epoch.to_string(),
        Time::Text(text) => text,
    };
    parse_timestamp(text.as_bytes(), 0, None)
        .map_err(|reason| serde::de::Error::custom(format!("the timestamp `{text}` {reason}")))
}

impl WindowAnnotation {
    fn check(&self, num_bars: usize) -> Result<()> {
        if let Some(confidence) = self.confidence.filter(|confidence| !(0.0..=1.0).contains(confidence)) {
            return Err(Error::invalid("confidence", confidence, "a number from 0 to 1"));
        }
        for (field, bar) in [("expansion_start", self.expansion_start), ("expansion_end", self.expansion_end)] {
            if let Some(bar) = bar.filter(|bar| *bar >= num_bars) {
                return Err(Error::invalid(field, bar, format!("a bar of the window, from 0 to {}", num_bars - 1)));
            }
        }
        match (self.expansion_start, self.expansion_end) {
            (Some(start), Some(end)) if start > end => {
                Err(Error::invalid("expansion_end", end, format!("at least `expansion_start`, {start}")))
            }
            _ => Ok(()),
        }
    }
}

/// Reads annotations of windows of `num_bars` bars from JSON lines.
///
/// # Errors
/// [`Error::Invalid`] for the first line that is no annotation, with its number.
pub fn read_annotations(bytes: &[u8], num_bars: usize) -> Result<Vec<WindowAnnotation>> {
    let lines = bytes.split(|&byte| byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty());
    lines
        .map(|(line, number)| {
            let annotation: WindowAnnotation = serde_json::from_slice(line).map_err(|error| {
                Error::invalid(
                    format!("line {number}"),
                    error,
                    "an annotation such as `{\"end\": \"2020-01-31T13:00:00Z\", \"label\": \"expansion\"}`",
                )
            })?;
            annotation
                .check(num_bars)
                .map_err(|error| Error::invalid(format!("line {number}"), error, "an annotation of the window"))?;
            Ok(annotation)
        })
        .collect()
}
