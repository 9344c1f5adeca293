//! Labels: what a model is to predict at the end of a window.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::bars::Bars;
use crate::error::{Error, Result};

/// Bars of the average true range that the expansion label is measured in.
const ATR_BARS: i32 = 14;

/// Prices at which a barrier counts as touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Touch {
    /// Closes alone.
    #[default]
    Close,
    /// Highs and lows; where one bar touches both barriers, the lower one is taken to have come first.
    HighLow,
}

/// What the label is where no horizontal barrier was touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vertical {
    /// `flat`.
    #[default]
    Flat,
    /// By the sign of the return over the horizon; `flat` where it is zero.
    Sign,
}

/// How labels are made.
///
/// Every label of bar `t` uses bars up to `t` for its scale and bars after `t` for its outcome, and is absent where
/// the horizon reaches past the last bar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LabelSpec {
    /// A column that came with the bars; NaN is no label.
    Supplied {
        /// Name of the column.
        column: String,
        /// Names of the classes, of which the column holds the index; a regression where empty.
        #[serde(default)]
        classes: Vec<String>,
        /// Bars after `t` that the label knows of; nothing can find this out from the column.
        #[serde(default)]
        horizon: usize,
    },
    /// `expansion` where the range that follows is wide against the range of bars so far, else `consolidation`:
    /// `max(high) - min(low)` over `t+1 ..= t+horizon`, against `multiple * ATR14(t) * sqrt(horizon)`, since the
    /// range of a random walk grows with the square root of time.
    Expansion {
        /// Bars after `t`.
        #[serde(default = "default_horizon")]
        horizon: usize,
        /// Multiple of the average true range.
        #[serde(default = "one")]
        multiple: f64,
    },
    /// `down`, `flat` or `up` by the barrier that the price touches first, at
    /// `close[t] * (1 ± multiple * target[t])`, within `horizon` bars. The target is the exponentially weighted
    /// standard deviation of simple returns (as `pandas.Series.ewm(span).std()`); labels begin at bar `span`.
    /// (López de Prado 2018, 3.4.)
    TripleBarrier {
        /// Bars until the vertical barrier.
        #[serde(default = "default_horizon")]
        horizon: usize,
        /// Multiple of the target.
        #[serde(default = "one")]
        multiple: f64,
        /// Span of the target in bars.
        #[serde(default = "default_span")]
        span: usize,
        /// Prices that touch.
        #[serde(default)]
        touch: Touch,
        /// The label at the vertical barrier.
        #[serde(default)]
        vertical: Vertical,
    },
    /// `ln(close[t + horizon] / close[t])`, a regression.
    ForwardReturn {
        /// Bars after `t`.
        #[serde(default = "one_bar")]
        horizon: usize,
    },
}

fn default_horizon() -> usize {
    10
}

fn default_span() -> usize {
    100
}

fn one() -> f64 {
    1.0
}

fn one_bar() -> usize {
    1
}

/// Labels of a series.
///
/// # Invariants
/// `values` and `last` have one entry per bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// Names of the classes; empty for a regression.
    pub classes: Vec<String>,
    /// Label of each bar: the index of a class, or a number to be predicted; `None` where there is none.
    pub values: Vec<Option<f64>>,
    /// Index of the last bar that the label of each bar looked at, that bar included; a bar without a label looks at
    /// itself.
    pub last: Vec<usize>,
}

impl Labels {
    /// The class of the bar at `index`; `None` without a label, or for a regression.
    #[must_use]
    pub fn class(&self, index: usize) -> Option<usize> {
        let value = self.values.get(index).copied().flatten()?;
        (!self.classes.is_empty()).then_some(value as usize)
    }

    /// How many bars have each class.
    #[must_use]
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for class in (0..self.values.len()).filter_map(|index| self.class(index)) {
            counts[class] += 1;
        }
        counts
    }
}

impl LabelSpec {
    /// Names of the classes; empty for a regression.
    #[must_use]
    pub fn classes(&self) -> Vec<String> {
        let names: &[&str] = match self {
            Self::Supplied { classes, .. } => return classes.clone(),
            Self::Expansion { .. } => &["consolidation", "expansion"],
            Self::TripleBarrier { .. } => &["down", "flat", "up"],
            Self::ForwardReturn { .. } => &[],
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Most bars after its own that a label looks at.
    #[must_use]
    pub fn horizon(&self) -> usize {
        match self {
            Self::Supplied { horizon, .. }
            | Self::Expansion { horizon, .. }
            | Self::TripleBarrier { horizon, .. }
            | Self::ForwardReturn { horizon } => *horizon,
        }
    }

    /// Checks the parameters; [`compute`] does so too.
    ///
    /// # Errors
    /// [`Error::Invalid`] where one is out of range.
    pub fn check(&self) -> Result<()> {
        if self.horizon() == 0 && !matches!(self, Self::Supplied { .. }) {
            return Err(Error::invalid("horizon", 0, "at least 1 bar"));
        }
        match self {
            Self::Expansion { multiple, .. } | Self::TripleBarrier { multiple, .. }
                if !(*multiple > 0.0 && multiple.is_finite()) =>
            {
                Err(Error::invalid("multiple", multiple, "a finite number above 0"))
            }
            Self::TripleBarrier { span, .. } if *span < 2 => Err(Error::invalid("span", span, "at least 2 bars")),
            _ => Ok(()),
        }
    }
}

/// Makes the labels of a series.
///
/// # Errors
/// [`Error::Invalid`] where a parameter is out of range or a supplied class has no name; [`Error::Unknown`] where the
/// supplied column does not exist.
pub fn compute(spec: &LabelSpec, bars: &Bars) -> Result<Labels> {
    spec.check()?;
    let len = bars.len();
    let mut labels = Labels { classes: spec.classes(), values: vec![None; len], last: (0..len).collect() };
    let mut set = |t: usize, value: f64, last: usize| {
        labels.values[t] = Some(value);
        labels.last[t] = last;
    };
    let num_labels = len.saturating_sub(spec.horizon());
    match spec {
        LabelSpec::Supplied { column, classes, horizon } => {
            let values = bars.extra().get(column).ok_or_else(|| {
                let known: Vec<&str> = bars.extra().keys().map(String::as_str).collect();
                Error::Unknown {
                    what: "column",
                    name: column.clone(),
                    hint: format!("; there are `{}`", known.join("`, `")),
                }
            })?;
            for (t, &value) in values.iter().enumerate().take(num_labels).filter(|(_, value)| !value.is_nan()) {
                if !classes.is_empty() && !(0..classes.len()).any(|class| class as f64 == value) {
                    let expected = format!("the index of a class, from 0 to {}", classes.len() - 1);
                    return Err(Error::invalid(column, value, expected));
                }
                set(t, value, t + horizon);
            }
        }
        LabelSpec::Expansion { horizon, multiple } => {
            let atr = atr(bars)?;
            let scale = multiple * (*horizon as f64).sqrt();
            for t in (ATR_BARS as usize..num_labels).filter(|&t| atr[t] > 0.0) {
                let after = t + 1..=t + horizon;
                let high = bars.high()[after.clone()].iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let low = bars.low()[after].iter().copied().fold(f64::INFINITY, f64::min);
                set(t, f64::from(u8::from(high - low > scale * atr[t])), t + horizon);
            }
        }
        LabelSpec::TripleBarrier { horizon, multiple, span, touch, vertical } => {
            let target = return_std(bars.close(), *span);
            let (high, low, close) = (bars.high(), bars.low(), bars.close());
            let (above, below) = match touch {
                Touch::Close => (close, close),
                Touch::HighLow => (high, low),
            };
            for t in (*span..num_labels).filter(|&t| target[t] > 0.0) {
                let width = multiple * target[t];
                let (upper, lower) = (close[t] * (1.0 + width), close[t] * (1.0 - width));
                let touched = (t + 1..=t + horizon).find_map(|s| {
                    if below[s] <= lower { Some((0.0, s)) } else { (above[s] >= upper).then_some((2.0, s)) }
                });
                let end = t + horizon;
                let (value, last) = touched.unwrap_or_else(|| match vertical {
                    Vertical::Sign if close[end] < close[t] => (0.0, end),
                    Vertical::Sign if close[end] > close[t] => (2.0, end),
                    _ => (1.0, end),
                });
                set(t, value, last);
            }
        }
        LabelSpec::ForwardReturn { horizon } => {
            let close = bars.close();
            for t in 0..num_labels {
                set(t, (close[t + horizon] / close[t]).ln(), t + horizon);
            }
        }
    }
    Ok(labels)
}

/// Average true range by Wilder, NaN before its first value, as TA-Lib's `ATR`.
fn atr(bars: &Bars) -> Result<Vec<f64>> {
    let mut out = vec![f64::NAN; bars.len()];
    let lookback = ATR_BARS as usize;
    if bars.len() <= lookback {
        return Ok(out);
    }
    ta_lib::Core::new()
        .atr(0, bars.len() - 1, bars.high(), bars.low(), bars.close(), ATR_BARS, &mut out)
        .map_err(|error| Error::invalid("bars", format!("{error:?}"), "bars with an average true range"))?;
    // The values are written from the start.
    out.rotate_right(lookback);
    out[..lookback].fill(f64::NAN);
    Ok(out)
}

/// Exponentially weighted standard deviation of simple returns with bias correction, the recursion of pandas'
/// `ewmcov` with `adjust=True`; NaN before the second return.
fn return_std(close: &[f64], span: usize) -> Vec<f64> {
    let decay = 1.0 - 2.0 / (span as f64 + 1.0);
    let mut out = vec![f64::NAN; close.len()];
    let (mut mean, mut variance) = (0.0, 0.0);
    let (mut weight, mut sum_weights, mut sum_squares) = (0.0, 0.0, 0.0);
    for t in 1..close.len() {
        let value = close[t] / close[t - 1] - 1.0;
        weight *= decay;
        sum_weights = sum_weights * decay + 1.0;
        sum_squares = sum_squares * decay * decay + 1.0;
        let old_mean = mean;
        mean = (weight * old_mean + value) / (weight + 1.0);
        variance = (weight * (variance + (old_mean - mean).powi(2)) + (value - mean).powi(2)) / (weight + 1.0);
        weight += 1.0;
        let correction = sum_weights * sum_weights - sum_squares;
        if t > 1 && correction > 0.0 {
            out[t] = (sum_weights * sum_weights / correction * variance).sqrt();
        }
    }
    out
}
