//! Statistics of one window, each evaluated afresh from its values.
//!
//! # Panics
//! None: the windows have fixed lengths of at least two.

/// Sum, in a fixed order of additions.
pub(super) fn sum(values: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    let chunks = values.chunks_exact(4);
    let rest: f64 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + rest
}

/// Sum of `function` over the values, in the same order of additions as [`sum`].
pub(super) fn sum_of(values: &[f64], function: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; 4];
    let chunks = values.chunks_exact(4);
    let rest: f64 = chunks.remainder().iter().map(|&value| function(value)).sum();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += function(value);
        }
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + rest
}

/// Arithmetic mean; exact where all values are equal.
pub(super) fn mean(values: &[f64]) -> f64 {
    if is_constant(values) { values[0] } else { sum(values) / values.len() as f64 }
}

/// Whether all values are the same.
pub(super) fn is_constant(values: &[f64]) -> bool {
    values.iter().all(|value| *value == values[0])
}

/// Variance with `n - 1` degrees of freedom, in two passes; exactly 0 where all values are equal.
pub(super) fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    sum_of(values, |value| (value - mean) * (value - mean)) / (values.len() - 1) as f64
}

/// Standard deviation with `n - 1` degrees of freedom.
pub(super) fn std_dev(values: &[f64]) -> f64 {
    variance(values).sqrt()
}

/// The last value less the mean, in standard deviations; NaN where all values are equal.
pub(super) fn z_score(values: &[f64]) -> f64 {
    (values[values.len() - 1] - mean(values)) / std_dev(values)
}

/// Covariance with `n - 1` degrees of freedom.
pub(super) fn covariance(x: &[f64], y: &[f64]) -> f64 {
    let (mean_x, mean_y) = (mean(x), mean(y));
    let products: f64 = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    products / (x.len() - 1) as f64
}

/// Pearson correlation; NaN where either side is constant.
pub(super) fn correlation(x: &[f64], y: &[f64]) -> f64 {
    covariance(x, y) / (variance(x) * variance(y)).sqrt()
}

/// Slope of the least-squares line of `y` on `x`; NaN where `x` is constant.
pub(super) fn slope(x: &[f64], y: &[f64]) -> f64 {
    covariance(x, y) / variance(x)
}

/// Sample skewness, adjusted for bias: `n / ((n-1)(n-2)) sum(((x - mean) / s)^3)`.
pub(super) fn skewness(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let (mean, std_dev) = (mean(values), std_dev(values));
    sum_of(values, |value| ((value - mean) / std_dev).powi(3)) * n / ((n - 1.0) * (n - 2.0))
}

/// Sample excess kurtosis, adjusted for bias:
/// `n(n+1) / ((n-1)(n-2)(n-3)) sum(((x - mean) / s)^4) - 3 (n-1)^2 / ((n-2)(n-3))`.
pub(super) fn excess_kurtosis(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let (mean, std_dev) = (mean(values), std_dev(values));
    let fourth = sum_of(values, |value| ((value - mean) / std_dev).powi(4));
    fourth * n * (n + 1.0) / ((n - 1.0) * (n - 2.0) * (n - 3.0)) - 3.0 * (n - 1.0).powi(2) / ((n - 2.0) * (n - 3.0))
}

/// Sum of products, in the same order of additions as [`sum`].
pub(super) fn dot(x: &[f64], y: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    let (x_chunks, y_chunks) = (x.chunks_exact(4), y.chunks_exact(4));
    let rest: f64 = x_chunks.remainder().iter().zip(y_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in x_chunks.zip(y_chunks) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + rest
}
