//! Distances and tests between two samples of one column.

use crate::stats::{
    Result, chi_square_sf, hypothesis::TestResult, invalid, require_finite, require_rows, require_same_length,
};

/// Largest product of the sample sizes for which [`ks_two_sample`] computes the exact p-value.
pub const KS_EXACT_MAX_PRODUCT: usize = 4_000_000;

/// Share that stands for an empty bin (Evidently `get_binned_data`).
pub const ZERO_FILL: f64 = 1e-4;

/// Distinct values up to which Evidently gives each value its own bin.
const DISTINCT_VALUES_AS_BINS: usize = 20;

/// Two-sample Kolmogorov-Smirnov test, two-sided (scipy `ks_2samp`, method `auto`).
///
/// Exact, as if there were no ties, up to [`KS_EXACT_MAX_PRODUCT`] pairs of values: within 1e-12 of scipy. Beyond,
/// [`ks_p_value`]: within 0.001 of scipy, which is exact to 10,000 values and asymptotic beyond.
///
/// # Errors
///
/// An empty sample or values that are not finite.
pub fn ks_two_sample(a: &[f64], b: &[f64]) -> Result<TestResult> {
    let (a, b) = (sorted("a", a)?, sorted("b", b)?);
    let statistic = ks_statistic(&a, &b);
    let p_value = if a.len().saturating_mul(b.len()) <= KS_EXACT_MAX_PRODUCT {
        ks_p_value_exact(statistic, a.len(), b.len())
    } else {
        ks_p_value(statistic, a.len() as f64, b.len() as f64)
    };
    Ok(TestResult { statistic, p_value })
}

/// Wasserstein-1 distance: the area between the distribution functions (scipy `wasserstein_distance`).
///
/// # Errors
///
/// An empty sample or values that are not finite.
pub fn wasserstein(a: &[f64], b: &[f64]) -> Result<f64> {
    Ok(ks_and_wasserstein(&sorted("a", a)?, &sorted("b", b)?).1)
}

fn sorted(name: &str, values: &[f64]) -> Result<Vec<f64>> {
    require_rows(name, values.len(), 1)?;
    require_finite(name, values)?;
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    Ok(values)
}

fn ks_statistic(a: &[f64], b: &[f64]) -> f64 {
    ks_and_wasserstein(a, b).0
}

/// Largest distance and area between the distribution functions of two ascending samples, by one merge.
pub(crate) fn ks_and_wasserstein(a: &[f64], b: &[f64]) -> (f64, f64) {
    let (step_a, step_b) = (1.0 / a.len() as f64, 1.0 / b.len() as f64);
    let (mut i, mut j) = (0, 0);
    let (mut largest, mut area) = (0.0_f64, 0.0);
    let mut previous = a[0].min(b[0]);
    let mut gap = 0.0_f64;
    while i < a.len() || j < b.len() {
        let value = match (a.get(i), b.get(j)) {
            (Some(&x), Some(&y)) => x.min(y),
            (Some(&x), None) => x,
            (None, Some(&y)) => y,
            (None, None) => break,
        };
        area += gap * (value - previous);
        previous = value;
        while i < a.len() && a[i] == value {
            i += 1;
        }
        while j < b.len() && b[j] == value {
            j += 1;
        }
        gap = (i as f64 * step_a - j as f64 * step_b).abs();
        largest = largest.max(gap);
    }
    (largest.min(1.0), area)
}

/// Exact P(D >= d) over all orders of two samples without ties.
///
/// The chance that a lattice path leaves the band, each cell being the mean of its two predecessors weighted by where
/// the path may come from (Hodges 1958; as R's `psmirnov`): sums of positive terms only, so small values stay exact.
fn ks_p_value_exact(d: f64, num_a: usize, num_b: usize) -> f64 {
    let (m, n) = (num_a as f64, num_b as f64);
    // |i/m - j/n| is a multiple of 1/(m n): half a step of slack makes the comparison exact.
    let limit = d * m * n - 0.5;
    let outside = |i: usize, j: usize| (i as f64 * n - j as f64 * m).abs() >= limit;
    if limit <= 0.0 {
        return 1.0;
    }
    let mut row = vec![0.0_f64; num_b + 1];
    for (j, cell) in row.iter_mut().enumerate().skip(1) {
        *cell = f64::from(u8::from(outside(0, j)));
    }
    for j in 1..=num_b {
        row[j] = row[j].max(row[j - 1]);
    }
    for i in 1..=num_a {
        if outside(i, 0) {
            row[0] = 1.0;
        }
        for j in 1..=num_b {
            row[j] = if outside(i, j) { 1.0 } else { (i as f64 * row[j] + j as f64 * row[j - 1]) / (i + j) as f64 };
        }
    }
    row[num_b].min(1.0)
}

/// Asymptotic P(D >= d); the sizes may be effective ones.
///
/// Kolmogorov's distribution at x + 1 / (6 sqrt(e)) + (x - 1) / (4 e), x = sqrt(e) d, e = n m / (n + m) (Vrbik 2018).
pub fn ks_p_value(d: f64, num_a: f64, num_b: f64) -> f64 {
    let size = num_a * num_b / (num_a + num_b);
    let root = size.sqrt();
    let x = root * d;
    if x <= 0.0 {
        return 1.0;
    }
    kolmogorov_sf(x + 1.0 / (6.0 * root) + (x - 1.0) / (4.0 * size))
}

fn kolmogorov_sf(x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    if x < 1.18 {
        // Jacobi's form converges faster for small arguments.
        let base = (-std::f64::consts::PI.powi(2) / (8.0 * x * x)).exp();
        let sum = base + base.powi(9) + base.powi(25) + base.powi(49);
        return (1.0 - (2.0 * std::f64::consts::PI).sqrt() / x * sum).clamp(0.0, 1.0);
    }
    let base = (-2.0 * x * x).exp();
    (2.0 * (base - base.powi(4) + base.powi(9) - base.powi(16))).clamp(0.0, 1.0)
}

/// Replaces empty bins as Evidently does: by 0.0001, or by a millionth of the smallest share when that is no larger.
fn fill_zeros(shares: &[f64]) -> Vec<f64> {
    let smallest = shares.iter().copied().filter(|&share| share > 0.0).fold(f64::INFINITY, f64::min);
    let fill = if smallest <= ZERO_FILL { smallest / 1e6 } else { ZERO_FILL };
    shares.iter().map(|&share| if share > 0.0 { share } else { fill }).collect()
}

/// Population stability index: sum of (p - q) ln(p / q), empty bins filled with [`ZERO_FILL`].
///
/// # Errors
///
/// No bins, lengths that differ, negative shares or shares that do not sum to 1.
pub fn psi(reference: &[f64], current: &[f64]) -> Result<f64> {
    check_shares(reference, current)?;
    Ok(psi_unchecked(reference, current))
}

pub(crate) fn psi_unchecked(reference: &[f64], current: &[f64]) -> f64 {
    fill_zeros(reference).iter().zip(fill_zeros(current)).map(|(p, q)| (p - q) * (p / q).ln()).sum()
}

/// Kullback-Leibler divergence of the current data from the reference, KL(reference || current), natural logarithm,
/// empty bins filled with [`ZERO_FILL`] (Evidently `kl_div`).
///
/// # Errors
///
/// As [`psi`].
pub fn kl_divergence(reference: &[f64], current: &[f64]) -> Result<f64> {
    check_shares(reference, current)?;
    Ok(kl_unchecked(reference, current))
}

pub(crate) fn kl_unchecked(reference: &[f64], current: &[f64]) -> f64 {
    let (reference, current) = (fill_zeros(reference), fill_zeros(current));
    let (sum_p, sum_q) = (reference.iter().sum::<f64>(), current.iter().sum::<f64>());
    reference.iter().zip(&current).map(|(p, q)| p / sum_p * ((p / sum_p) / (q / sum_q)).ln()).sum::<f64>().max(0.0)
}

/// Jensen-Shannon distance, the root of the divergence with the natural logarithm, empty bins kept (scipy
/// `jensenshannon`); from 0 to sqrt(ln 2).
///
/// # Errors
///
/// As [`psi`].
pub fn jensen_shannon(reference: &[f64], current: &[f64]) -> Result<f64> {
    check_shares(reference, current)?;
    Ok(js_unchecked(reference, current))
}

pub(crate) fn js_unchecked(reference: &[f64], current: &[f64]) -> f64 {
    let part = |p: f64, middle: f64| if p > 0.0 { p * (p / middle).ln() } else { 0.0 };
    let divergence: f64 = reference
        .iter()
        .zip(current)
        .map(|(&p, &q)| {
            let middle = (p + q) / 2.0;
            part(p, middle) + part(q, middle)
        })
        .sum();
    (divergence / 2.0).max(0.0).sqrt()
}

fn check_shares(reference: &[f64], current: &[f64]) -> Result<()> {
    require_rows("reference", reference.len(), 1)?;
    require_same_length("current", current.len(), reference.len())?;
    for (name, shares) in [("reference", reference), ("current", current)] {
        let sum: f64 = shares.iter().sum();
        if shares.iter().any(|share| !(0.0..=1.0 + 1e-9).contains(share)) || (sum - 1.0).abs() > 1e-6 {
            return Err(invalid(name, format!("{shares:?}"), "shares from 0 to 1 that sum to 1"));
        }
    }
    Ok(())
}

/// p-value of a PSI: P(chi2(B - 1) > psi / (1/N + 1/M)) (Yurdakul 2018); sizes may be effective ones.
///
/// 1 with fewer than two bins.
pub fn psi_p_value(psi: f64, num_bins: usize, num_reference: f64, num_current: f64) -> f64 {
    if num_bins < 2 {
        return 1.0;
    }
    chi_square_sf(psi / (1.0 / num_reference + 1.0 / num_current), (num_bins - 1) as f64)
}

/// Largest PSI that chance explains at level `alpha`: chi2(1 - alpha, B - 1) (1/N + 1/M) (Yurdakul 2018).
///
/// 0 with fewer than two bins.
///
/// # Errors
///
/// A level outside (0, 1).
pub fn psi_limit(alpha: f64, num_bins: usize, num_reference: f64, num_current: f64) -> Result<f64> {
    crate::stats::require_open_unit("alpha", alpha)?;
    if num_bins < 2 {
        return Ok(0.0);
    }
    Ok(chi_square_quantile(alpha, (num_bins - 1) as f64) * (1.0 / num_reference + 1.0 / num_current))
}

/// x with P(X > x) = alpha, by bisection: called once per number of bins, and exact to the last digits.
fn chi_square_quantile(alpha: f64, degrees: f64) -> f64 {
    let (mut low, mut high) = (0.0, degrees + 10.0);
    while chi_square_sf(high, degrees) > alpha {
        high *= 2.0;
    }
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if chi_square_sf(middle, degrees) > alpha {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// Shares of two samples over common bins as Evidently makes them: Sturges edges over both samples together when the
/// reference has more than 20 distinct values, else one bin per value. Feed them to [`psi`], [`kl_divergence`] or
/// [`jensen_shannon`] to reproduce its numbers.
///
/// # Errors
///
/// An empty sample or values that are not finite.
pub fn evidently_shares(reference: &[f64], current: &[f64]) -> Result<(Vec<f64>, Vec<f64>)> {
    let (reference, current) = (sorted("reference", reference)?, sorted("current", current)?);
    let mut distinct = reference.clone();
    distinct.dedup();
    let edges = if distinct.len() > DISTINCT_VALUES_AS_BINS {
        let low = reference[0].min(current[0]);
        let high = reference[reference.len() - 1].max(current[current.len() - 1]);
        let num_bins = (((reference.len() + current.len()) as f64).log2() + 1.0).ceil() as usize;
        let width = (high - low) / num_bins as f64;
        // numpy's bins are closed on the left; the edge just below puts an equal value to the right.
        (1..num_bins).map(|k| (low + k as f64 * width).next_down()).collect()
    } else {
        distinct.extend_from_slice(&current);
        distinct.sort_unstable_by(f64::total_cmp);
        distinct.dedup();
        distinct.pop();
        distinct
    };
    Ok((shares_of(&reference, &edges), shares_of(&current, &edges)))
}

/// Shares of ascending values in the bins `(-inf, e0], (e0, e1], ..., (ek, inf)`.
pub(crate) fn shares_of(sorted: &[f64], edges: &[f64]) -> Vec<f64> {
    let total = sorted.len() as f64;
    let mut below = 0;
    let mut shares: Vec<f64> = edges
        .iter()
        .map(|&edge| {
            let upto = below + sorted[below..].partition_point(|&value| value <= edge);
            let share = (upto - below) as f64 / total;
            below = upto;
            share
        })
        .collect();
    shares.push((sorted.len() - below) as f64 / total);
    shares
}

/// Chi-square test of current counts against reference proportions (Evidently `chisquare`; scipy
/// `chisquare(f_obs = current, f_exp = reference * sum(current) / sum(reference))`).
///
/// Takes the reference as exactly known. A value that only the current data has makes the statistic infinite and the
/// p-value 0. Use [`chi_square_homogeneity`] when the reference is a sample of similar size.
///
/// # Errors
///
/// Fewer than two categories, lengths that differ or no counts.
pub fn chi_square_fit(reference: &[u64], current: &[u64]) -> Result<TestResult> {
    let (num_reference, num_current) = check_counts(reference, current)?;
    let mut statistic = 0.0;
    let mut categories = 0_usize;
    for (&r, &c) in reference.iter().zip(current) {
        if r + c == 0 {
            continue;
        }
        categories += 1;
        let expected = r as f64 * num_current / num_reference;
        statistic += (c as f64 - expected).powi(2) / expected;
    }
    let degrees = categories.saturating_sub(1).max(1) as f64;
    Ok(TestResult { statistic, p_value: chi_square_sf(statistic, degrees) })
}

/// Chi-square test that two samples of a category have the same proportions (Pearson, 2 x k table; scipy
/// `chi2_contingency` without correction).
///
/// `effective_ratio` (0 to 1) scales the statistic for rows that are not independent (Rao and Scott 1981); 1 when
/// they are.
///
/// # Errors
///
/// Fewer than two categories, lengths that differ, no counts, or a ratio outside (0, 1].
pub fn chi_square_homogeneity(reference: &[u64], current: &[u64], effective_ratio: f64) -> Result<TestResult> {
    if !(effective_ratio > 0.0 && effective_ratio <= 1.0) {
        return Err(invalid("effective_ratio", effective_ratio, "more than 0 and at most 1"));
    }
    let (num_reference, num_current) = check_counts(reference, current)?;
    let total = num_reference + num_current;
    let mut statistic = 0.0;
    let mut categories = 0_usize;
    for (&r, &c) in reference.iter().zip(current) {
        if r + c == 0 {
            continue;
        }
        categories += 1;
        let both = (r + c) as f64;
        for (count, size) in [(r as f64, num_reference), (c as f64, num_current)] {
            let expected = both * size / total;
            statistic += (count - expected).powi(2) / expected;
        }
    }
    statistic *= effective_ratio;
    let p_value = if categories < 2 { 1.0 } else { chi_square_sf(statistic, (categories - 1) as f64) };
    Ok(TestResult { statistic, p_value })
}

/// p-value of Pearson's chi-square that two sets of shares are of one distribution; sizes may be effective ones. Empty
/// bins of both are left out; 1 with fewer than two bins.
pub(crate) fn bins_p_value(reference: &[f64], current: &[f64], num_reference: f64, num_current: f64) -> f64 {
    let total = num_reference + num_current;
    let (mut statistic, mut num_bins) = (0.0, 0_usize);
    for (p, q) in reference.iter().zip(current) {
        let pooled = (p * num_reference + q * num_current) / total;
        if pooled > 0.0 {
            num_bins += 1;
            statistic += (p - q).powi(2) / pooled;
        }
    }
    if num_bins < 2 {
        return 1.0;
    }
    chi_square_sf(statistic / (1.0 / num_reference + 1.0 / num_current), (num_bins - 1) as f64)
}

fn check_counts(reference: &[u64], current: &[u64]) -> Result<(f64, f64)> {
    require_rows("reference", reference.len(), 2)?;
    require_same_length("current", current.len(), reference.len())?;
    let (num_reference, num_current) = (reference.iter().sum::<u64>(), current.iter().sum::<u64>());
    require_rows("reference counts", usize::from(num_reference > 0), 1)?;
    require_rows("current counts", usize::from(num_current > 0), 1)?;
    Ok((num_reference as f64, num_current as f64))
}
