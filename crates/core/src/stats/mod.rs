//! Statistics: metrics, intervals, hypothesis tests and drift.
//!
//! Pure numerics with no input or output. Formulas follow the packages that are named on each item
//! (scikit-learn, scipy, statsmodels, quantstats, empyrical, Evidently), so that a number here can be
//! compared with theirs. Random resampling takes a seed; the same seed gives the same result.

pub mod bootstrap;
pub mod classification;
pub mod drift;
pub mod hypothesis;
pub mod regression;
pub mod trading;

pub use bootstrap::{
    BootstrapConfig, Interval, PairedComparison, bootstrap_interval, bootstrap_mean, paired_difference,
};
pub use classification::{ClassificationMetrics, evaluate_classification};
pub use drift::{DriftConfig, DriftReport, Observations, ProfileConfig, ReferenceProfile, check_drift};
pub use hypothesis::Correction;
pub use regression::{RegressionMetrics, evaluate_regression};
pub use trading::{TradingMetrics, evaluate_returns};

use statrs::function::{beta::checked_beta_reg, erf, gamma::checked_gamma_ur};

/// Says why a statistic could not be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// Fewer values than the statistic needs.
    #[error("`{name}` has {found} values; at least {required} are needed")]
    TooFew {
        /// What was measured.
        name: String,
        /// Values found.
        found: usize,
        /// Values needed.
        required: usize,
    },
    /// Two inputs that must have the same length do not.
    #[error("`{name}` has {found} values, expected {expected}")]
    LengthMismatch {
        /// The input with the wrong length.
        name: String,
        /// Values found.
        found: usize,
        /// Values expected.
        expected: usize,
    },
    /// A value is outside what is accepted.
    #[error("`{name}` is {found}, accepted is {accepted}")]
    Invalid {
        /// The field or input.
        name: String,
        /// The value, as text.
        found: String,
        /// What is accepted.
        accepted: String,
    },
    /// The statistic does not exist for this input, for example a ratio whose denominator is zero.
    #[error("`{name}` is undefined: {reason}")]
    Undefined {
        /// The statistic.
        name: String,
        /// Why.
        reason: String,
    },
    /// Columns of the current data that the reference does not know.
    #[error("unknown columns {}: the reference has no such column", quoted(.names))]
    UnknownColumns {
        /// The columns.
        names: Vec<String>,
    },
    /// Columns of the reference that the current data lacks.
    #[error("missing columns {}: the reference has them", quoted(.names))]
    MissingColumns {
        /// The columns.
        names: Vec<String>,
    },
}

/// Result of a statistic.
pub type Result<T, E = StatsError> = std::result::Result<T, E>;

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

pub(crate) fn invalid(name: &str, found: impl ToString, accepted: &str) -> StatsError {
    StatsError::Invalid { name: name.to_owned(), found: found.to_string(), accepted: accepted.to_owned() }
}

pub(crate) fn undefined(name: &str, reason: &str) -> StatsError {
    StatsError::Undefined { name: name.to_owned(), reason: reason.to_owned() }
}

pub(crate) fn require_rows(name: &str, found: usize, required: usize) -> Result<()> {
    if found < required { Err(StatsError::TooFew { name: name.to_owned(), found, required }) } else { Ok(()) }
}

pub(crate) fn require_same_length(name: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected { Ok(()) } else { Err(StatsError::LengthMismatch { name: name.to_owned(), found, expected }) }
}

pub(crate) fn require_finite(name: &str, values: &[f64]) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(row) => Err(invalid(name, format!("{} at row {row}", values[row]), "finite numbers")),
        None => Ok(()),
    }
}

pub(crate) fn require_open_unit(name: &str, value: f64) -> Result<()> {
    if value > 0.0 && value < 1.0 { Ok(()) } else { Err(invalid(name, value, "more than 0 and less than 1")) }
}

/// Arithmetic mean; NaN for no values.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Variance with `ddof` degrees of freedom taken off; two passes.
pub(crate) fn variance(values: &[f64], ddof: usize) -> f64 {
    let centre = mean(values);
    values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / (values.len() as f64 - ddof as f64)
}

/// Quantile of ascending values with linear interpolation (numpy's default, Hyndman-Fan type 7).
///
/// # Panics
///
/// When `sorted` is empty.
pub(crate) fn quantile_sorted(sorted: &[f64], probability: f64) -> f64 {
    let position = probability.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let lower = position.floor() as usize;
    let upper = (lower + 1).min(sorted.len() - 1);
    sorted[lower] + (sorted[upper] - sorted[lower]) * (position - lower as f64)
}

/// Standard normal distribution function.
pub(crate) fn normal_cdf(z: f64) -> f64 {
    0.5 * erf::erfc(-z / std::f64::consts::SQRT_2)
}

/// Standard normal quantile function.
pub(crate) fn normal_quantile(probability: f64) -> f64 {
    -std::f64::consts::SQRT_2 * erf::erfc_inv(2.0 * probability)
}

/// Two-sided p-value of a standard normal statistic.
pub(crate) fn normal_two_sided(z: f64) -> f64 {
    erf::erfc(z.abs() / std::f64::consts::SQRT_2).min(1.0)
}

/// P(X > x) of the chi-square distribution; NaN outside its domain.
pub(crate) fn chi_square_sf(x: f64, degrees: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    if x.is_infinite() {
        return 0.0;
    }
    checked_gamma_ur(degrees / 2.0, x / 2.0).unwrap_or(f64::NAN)
}

/// Two-sided p-value of Student's t; NaN outside its domain.
pub(crate) fn student_two_sided(t: f64, degrees: f64) -> f64 {
    if t.is_infinite() {
        return 0.0;
    }
    checked_beta_reg(degrees / 2.0, 0.5, degrees / (degrees + t * t)).unwrap_or(f64::NAN)
}

#[cfg(test)]
pub(crate) mod tests;
