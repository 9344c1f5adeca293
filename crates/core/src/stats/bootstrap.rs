//! Bootstrap intervals and paired comparison for dependent rows.
//!
//! Rows that come from overlapping windows are autocorrelated, so single rows must not be resampled as if they were
//! independent: the stationary bootstrap (Politis and Romano 1994) resamples blocks of geometric length that wrap
//! around the end. A block should be at least as long as the overlap, that is the horizon in rows.

use super::{
    Result, invalid, mean, quantile_sorted, require_finite, require_open_unit, require_rows, require_same_length,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How to resample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BootstrapConfig {
    /// Resamples to draw.
    pub num_resamples: usize,
    /// Mean block length in rows; n^(1/3) when absent. 1 is the ordinary bootstrap of independent rows.
    pub mean_block_length: Option<f64>,
    /// Coverage of the interval.
    pub level: f64,
    /// Seed of the resampling.
    pub seed: u64,
}

impl Default for BootstrapConfig {
    fn default() -> Self {
        Self { num_resamples: 1000, mean_block_length: None, level: 0.95, seed: 0 }
    }
}

impl BootstrapConfig {
    fn check(&self, num_rows: usize) -> Result<f64> {
        require_open_unit("level", self.level)?;
        if self.num_resamples < 10 {
            return Err(invalid("num_resamples", self.num_resamples, "10 or more"));
        }
        let length = self.mean_block_length.unwrap_or_else(|| default_block_length(num_rows));
        if !(length >= 1.0 && length.is_finite()) {
            return Err(invalid("mean_block_length", length, "a finite number of 1 or more"));
        }
        Ok(length)
    }
}

/// An estimate with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The statistic on the data itself.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Coverage, for example 0.95.
    pub level: f64,
}

impl Interval {
    /// Whether `value` lies in the interval, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// Comparison of two scores measured on the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedComparison {
    /// Mean of a - b with its percentile interval.
    pub difference: Interval,
    /// p-value of "the means are equal" against "they differ".
    pub p_value: f64,
    /// p-value of "the mean of a is not above that of b" against "it is above".
    pub p_value_greater: f64,
    /// Rows compared.
    pub num_rows: usize,
    /// Mean block length used, in rows.
    pub mean_block_length: f64,
}

/// Default mean block length n^(1/3), at least 1.
pub fn default_block_length(num_rows: usize) -> f64 {
    (num_rows as f64).cbrt().max(1.0)
}

/// Draws row indices of stationary bootstrap resamples.
struct Resampler {
    random: ChaCha8Rng,
    num_rows: usize,
    /// ln(1 - 1/mean block length); minus infinity for blocks of one row.
    log_continue: f64,
}

impl Resampler {
    fn new(num_rows: usize, mean_block_length: f64, seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), num_rows, log_continue: (-1.0 / mean_block_length).ln_1p() }
    }

    fn fill(&mut self, indices: &mut Vec<usize>) {
        indices.clear();
        while indices.len() < self.num_rows {
            let start = self.random.random_range(0..self.num_rows);
            // Geometric length with mean 1 / (1 - exp(log_continue)); 1 - u is in (0, 1].
            let draw = (1.0 - self.random.random::<f64>()).ln() / self.log_continue;
            let wanted = 1 + draw.min(self.num_rows as f64) as usize;
            let mut left = wanted.min(self.num_rows - indices.len());
            let head = left.min(self.num_rows - start);
            indices.extend(start..start + head);
            left -= head;
            indices.extend(0..left);
        }
    }
}

fn resample(
    num_rows: usize,
    config: &BootstrapConfig,
    block: f64,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> (f64, Vec<f64>) {
    let mut indices: Vec<usize> = (0..num_rows).collect();
    let estimate = statistic(&indices);
    let mut resampler = Resampler::new(num_rows, block, config.seed);
    let draws = (0..config.num_resamples)
        .map(|_| {
            resampler.fill(&mut indices);
            statistic(&indices)
        })
        .collect();
    (estimate, draws)
}

fn percentile_interval(estimate: f64, mut draws: Vec<f64>, level: f64) -> Interval {
    draws.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    Interval { estimate, low: quantile_sorted(&draws, tail), high: quantile_sorted(&draws, 1.0 - tail), level }
}

/// Percentile interval of any statistic of rows, by the stationary bootstrap.
///
/// `statistic` gets row indices (with repeats) and is called once with all rows in order, then once per resample.
/// Resamples on which it is not finite (a ratio without a denominator) are left out.
///
/// # Errors
///
/// Fewer than two rows, a bad configuration, or a statistic that is not finite on the data or on more than half of
/// the resamples.
pub fn bootstrap_interval(
    num_rows: usize,
    config: &BootstrapConfig,
    statistic: impl FnMut(&[usize]) -> f64,
) -> Result<Interval> {
    require_rows("rows", num_rows, 2)?;
    let block = config.check(num_rows)?;
    let (estimate, mut draws) = resample(num_rows, config, block, statistic);
    draws.retain(|draw| draw.is_finite());
    if !estimate.is_finite() || draws.len() * 2 < config.num_resamples {
        return Err(super::undefined("statistic", "it is not finite on the data or on most resamples"));
    }
    Ok(percentile_interval(estimate, draws, config.level))
}

/// Percentile interval of a mean, by the stationary bootstrap.
///
/// # Errors
///
/// Fewer than two values, values that are not finite, or a bad configuration.
pub fn bootstrap_mean(values: &[f64], config: &BootstrapConfig) -> Result<Interval> {
    require_finite("values", values)?;
    bootstrap_interval(values.len(), config, |rows| {
        rows.iter().map(|&row| values[row]).sum::<f64>() / rows.len() as f64
    })
}

/// Compares two scores of the same rows, for example the correctness of two models or their losses.
///
/// The p-values are those of the resampled mean difference moved to zero: (1 + resamples at least as extreme) /
/// (1 + resamples), so they are never 0.
///
/// # Shapes
///
/// `a` and `b` are `[n]`, in time order.
///
/// # Errors
///
/// Fewer than two rows, lengths that differ, values that are not finite, or a bad configuration.
pub fn paired_difference(a: &[f64], b: &[f64], config: &BootstrapConfig) -> Result<PairedComparison> {
    require_same_length("b", b.len(), a.len())?;
    require_rows("a", a.len(), 2)?;
    require_finite("a", a)?;
    require_finite("b", b)?;
    let block = config.check(a.len())?;
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let n = differences.len() as f64;
    let (_, draws) =
        resample(differences.len(), config, block, |rows| rows.iter().map(|&row| differences[row]).sum::<f64>() / n);
    let estimate = mean(&differences);
    // Sums in another order differ in the last digits: without slack, equal resamples of a constant would not count.
    let slack = 1e-12 * differences.iter().map(|d| d.abs()).fold(0.0, f64::max);
    let share = |extreme: &dyn Fn(f64) -> bool| {
        let count = draws.iter().filter(|&&draw| extreme(draw - estimate)).count();
        (1.0 + count as f64) / (1.0 + draws.len() as f64)
    };
    let p_value = share(&|moved| moved.abs() + slack >= estimate.abs());
    let p_value_greater = share(&|moved| moved + slack >= estimate);
    Ok(PairedComparison {
        difference: percentile_interval(estimate, draws, config.level),
        p_value,
        p_value_greater,
        num_rows: differences.len(),
        mean_block_length: block,
    })
}
