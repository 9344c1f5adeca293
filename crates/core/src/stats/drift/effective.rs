//! Effective number of independent rows in an autocorrelated series.

use crate::stats::{Result, mean, require_finite, require_rows};

/// Pairs of lags examined before the series is averaged in twos and looked at again.
const MAX_PAIRS: usize = 16;

/// Shortest series that is still averaged in twos.
const MIN_COARSE_LENGTH: usize = 256;

/// Effective sample size n / (1 + 2 sum of autocorrelations), at most n.
///
/// The sum stops at Geyer's (1992) initial monotone positive sequence: pairs of neighbouring autocorrelations are added
/// while they are positive, each no larger than the one before. If 16 pairs are not enough, the series is averaged in
/// twos (which leaves the variance of its mean as it was) and looked at again, so the cost is O(n) for any memory.
/// A constant series has no autocorrelation: n.
///
/// # Errors
///
/// No values or values that are not finite.
pub fn effective_sample_size(values: &[f64]) -> Result<f64> {
    require_rows("values", values.len(), 1)?;
    require_finite("values", values)?;
    let mut values = values.to_vec();
    Ok(values.len() as f64 / correlation_time(&mut values))
}

/// 1 + 2 sum of autocorrelations, at least 1. Uses `values` as working space.
pub(crate) fn correlation_time(values: &mut Vec<f64>) -> f64 {
    let length = values.len() as f64;
    let centre = mean(values);
    values.iter_mut().for_each(|value| *value -= centre);
    let first_variance = dot(values, values) / length;
    if values.len() < 4 || first_variance <= (f64::EPSILON * centre).powi(2) {
        return 1.0;
    }
    loop {
        let size = values.len() as f64;
        let variance = dot(values, values) / size;
        let (time, stopped) = initial_sequence(values, variance);
        if stopped || values.len() < MIN_COARSE_LENGTH {
            return (time * variance / size * length / first_variance).max(1.0);
        }
        let half = values.len() / 2;
        for k in 0..half {
            values[k] = 0.5 * (values[2 * k] + values[2 * k + 1]);
        }
        values.truncate(half);
    }
}

/// Sum over the initial sequence of centred values and whether it ended within the pairs allowed.
fn initial_sequence(values: &[f64], variance: f64) -> (f64, bool) {
    if variance <= 0.0 {
        return (0.0, true);
    }
    let scale = 1.0 / (variance * values.len() as f64);
    let correlation = |lag: usize| {
        if lag >= values.len() { 0.0 } else { dot(&values[..values.len() - lag], &values[lag..]) * scale }
    };
    let mut previous = f64::INFINITY;
    let mut sum = 0.0;
    for pair in 0..MAX_PAIRS {
        let value = correlation(2 * pair) + correlation(2 * pair + 1);
        if value <= 0.0 {
            return (2.0 * sum - 1.0, true);
        }
        previous = value.min(previous);
        sum += previous;
    }
    (2.0 * sum - 1.0, false)
}

/// Inner product with eight running sums, which the compiler can keep in vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (chunks_a, chunks_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = chunks_a.remainder().iter().zip(chunks_b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in chunks_a.zip(chunks_b) {
        for k in 0..8 {
            sums[k] += x[k] * y[k];
        }
    }
    sums.iter().sum::<f64>() + rest
}
