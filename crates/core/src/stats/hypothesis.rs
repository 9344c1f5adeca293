//! Hypothesis tests and corrections for multiple comparison.

use super::{
    Result, chi_square_sf, invalid, mean, normal_quantile, normal_two_sided, require_finite, require_open_unit,
    require_rows, require_same_length, student_two_sided, undefined, variance,
};
use serde::{Deserialize, Serialize};
use statrs::function::beta::checked_beta_reg;

/// A statistic with its two-sided p-value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// The statistic.
    pub statistic: f64,
    /// Two-sided p-value.
    pub p_value: f64,
}

/// Diebold-Mariano test of equal forecast accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DieboldMariano {
    /// Mean of loss a - loss b: negative when a is better.
    pub mean_difference: f64,
    /// The statistic of 1995, normal under equal accuracy.
    pub dm: f64,
    /// Its two-sided p-value.
    pub p_value: f64,
    /// The statistic with the small-sample correction of Harvey, Leybourne and Newbold (1997).
    pub hln: f64,
    /// Its two-sided p-value, Student's t with T - 1 degrees of freedom. The one to use.
    pub p_value_hln: f64,
}

/// Tests whether two forecasts have the same expected loss (Diebold and Mariano 1995).
///
/// The variance of the mean difference uses autocovariances up to `horizon` - 1 with equal weights. With a horizon
/// above 1 that sum may fail to be positive; Bartlett weights (Newey and West 1987) are then used, which cannot.
///
/// # Shapes
///
/// `loss_a` and `loss_b` are `[n]`, in time order, on the same rows.
///
/// # Errors
///
/// Fewer than two rows or no more rows than the horizon, lengths that differ, values that are not finite, a horizon
/// of 0, or losses whose difference is constant.
pub fn diebold_mariano(loss_a: &[f64], loss_b: &[f64], horizon: usize) -> Result<DieboldMariano> {
    if horizon == 0 {
        return Err(invalid("horizon", 0, "1 or more"));
    }
    require_same_length("loss_b", loss_b.len(), loss_a.len())?;
    require_rows("loss_a", loss_a.len(), horizon.saturating_add(1))?;
    require_finite("loss_a", loss_a)?;
    require_finite("loss_b", loss_b)?;
    let differences: Vec<f64> = loss_a.iter().zip(loss_b).map(|(a, b)| a - b).collect();
    let n = differences.len() as f64;
    let centre = mean(&differences);
    let covariance = |lag: usize| {
        differences.iter().zip(&differences[lag..]).map(|(x, y)| (x - centre) * (y - centre)).sum::<f64>() / n
    };
    let base = covariance(0);
    let lags: Vec<f64> = (1..horizon).map(covariance).collect();
    let mut long_run = base + 2.0 * lags.iter().sum::<f64>();
    if long_run <= 0.0 {
        let weight = |lag: usize| 1.0 - (lag + 1) as f64 / horizon as f64;
        long_run = base + 2.0 * lags.iter().enumerate().map(|(lag, value)| weight(lag) * value).sum::<f64>();
    }
    // A constant difference leaves only rounding.
    if base.sqrt() <= 1e-14 * centre.abs() || long_run <= 0.0 {
        return Err(undefined("diebold_mariano", "the losses differ by a constant"));
    }
    let dm = centre / (long_run / n).sqrt();
    let h = horizon as f64;
    let hln = dm * ((n + 1.0 - 2.0 * h + h * (h - 1.0) / n) / n).max(0.0).sqrt();
    Ok(DieboldMariano {
        mean_difference: centre,
        dm,
        p_value: normal_two_sided(dm),
        hln,
        p_value_hln: student_two_sided(hln, n - 1.0),
    })
}

/// McNemar's test of two classifiers on the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Rows that only the first classifier has right.
    pub only_first: u64,
    /// Rows that only the second classifier has right.
    pub only_second: u64,
    /// Exact binomial two-sided p-value.
    pub p_value_exact: f64,
    /// (|b - c| - 1)^2 / (b + c), the continuity-corrected statistic; 0 without discordant rows.
    pub chi_square: f64,
    /// Its p-value, one degree of freedom.
    pub p_value_chi_square: f64,
}

/// Tests whether two classifiers are right equally often (McNemar 1947, as statsmodels `mcnemar`).
///
/// Assumes independent rows; use [`super::paired_difference`] for overlapping windows.
pub fn mcnemar(only_first: u64, only_second: u64) -> McNemar {
    let (b, c) = (only_first as f64, only_second as f64);
    let discordant = b + c;
    if discordant == 0.0 {
        return McNemar { only_first, only_second, p_value_exact: 1.0, chi_square: 0.0, p_value_chi_square: 1.0 };
    }
    // P(X <= k) of the binomial(n, 1/2) is the regularised incomplete beta I_{1/2}(n - k, k + 1).
    let fewer = b.min(c);
    let tail = checked_beta_reg(discordant - fewer, fewer + 1.0, 0.5).unwrap_or(f64::NAN);
    let chi_square = ((b - c).abs() - 1.0).powi(2) / discordant;
    McNemar {
        only_first,
        only_second,
        p_value_exact: (2.0 * tail).min(1.0),
        chi_square,
        p_value_chi_square: chi_square_sf(chi_square, 1.0),
    }
}

/// [`mcnemar`] from the correctness of each row.
///
/// # Errors
///
/// Lengths that differ.
pub fn mcnemar_of(first_right: &[bool], second_right: &[bool]) -> Result<McNemar> {
    require_same_length("second_right", second_right.len(), first_right.len())?;
    let count =
        |first: bool| first_right.iter().zip(second_right).filter(|&(&a, &b)| a == first && b != first).count() as u64;
    Ok(mcnemar(count(true), count(false)))
}

/// Welch's t-test of two means.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WelchTest {
    /// Mean of a - mean of b.
    pub mean_difference: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// The statistic.
    pub t: f64,
    /// Welch-Satterthwaite degrees of freedom.
    pub degrees_of_freedom: f64,
    /// Two-sided p-value.
    pub p_value: f64,
}

/// Tests whether two independent samples have the same mean, variances free (Welch 1947; scipy
/// `ttest_ind(equal_var=False)`).
///
/// # Errors
///
/// Fewer than two values in a sample, values that are not finite, or two constant samples.
pub fn welch_t_test(a: &[f64], b: &[f64]) -> Result<WelchTest> {
    require_rows("a", a.len(), 2)?;
    require_rows("b", b.len(), 2)?;
    require_finite("a", a)?;
    require_finite("b", b)?;
    let (num_a, num_b) = (a.len() as f64, b.len() as f64);
    let (part_a, part_b) = (variance(a, 1) / num_a, variance(b, 1) / num_b);
    let total = part_a + part_b;
    if total <= 0.0 {
        return Err(undefined("welch_t_test", "both samples are constant"));
    }
    let mean_difference = mean(a) - mean(b);
    let standard_error = total.sqrt();
    let t = mean_difference / standard_error;
    let degrees_of_freedom = total * total / (part_a * part_a / (num_a - 1.0) + part_b * part_b / (num_b - 1.0));
    let p_value = student_two_sided(t, degrees_of_freedom);
    Ok(WelchTest { mean_difference, standard_error, t, degrees_of_freedom, p_value })
}

/// Effect size of two samples, (mean a - mean b) / sqrt((var a + var b) / 2) with population variances.
///
/// # Errors
///
/// An empty sample, values that are not finite, or two constant samples.
pub fn cohens_d(a: &[f64], b: &[f64]) -> Result<f64> {
    require_rows("a", a.len(), 1)?;
    require_rows("b", b.len(), 1)?;
    require_finite("a", a)?;
    require_finite("b", b)?;
    let spread = ((variance(a, 0) + variance(b, 0)) / 2.0).sqrt();
    if spread > 0.0 {
        Ok((mean(a) - mean(b)) / spread)
    } else {
        Err(undefined("cohens_d", "both samples are constant"))
    }
}

/// Test of two proportions, with an interval for their difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ProportionTest {
    /// p_a - p_b.
    pub difference: f64,
    /// Pooled z statistic; 0 when both proportions are 0 or both are 1.
    pub z: f64,
    /// Two-sided p-value; 1 when both proportions are 0 or both are 1.
    pub p_value: f64,
    /// Lower end of Newcombe's interval.
    pub low: f64,
    /// Upper end of Newcombe's interval.
    pub high: f64,
}

/// Pooled two-proportion z-test with Newcombe's hybrid score interval (1998, method 10; statsmodels
/// `proportions_ztest` and `confint_proportions_2indep(method="newcomb")`).
///
/// # Errors
///
/// An empty sample, more successes than trials, or a level outside (0, 1).
pub fn two_proportion_z(a: (u64, u64), b: (u64, u64), level: f64) -> Result<ProportionTest> {
    require_open_unit("level", level)?;
    for (name, (successes, trials)) in [("a", a), ("b", b)] {
        require_rows(name, usize::try_from(trials).unwrap_or(usize::MAX), 1)?;
        if successes > trials {
            return Err(invalid(name, format!("{successes} of {trials}"), "no more successes than trials"));
        }
    }
    let (num_a, num_b) = (a.1 as f64, b.1 as f64);
    let (rate_a, rate_b) = (a.0 as f64 / num_a, b.0 as f64 / num_b);
    let difference = rate_a - rate_b;
    let z = pooled_z(rate_a, num_a, rate_b, num_b);
    let quantile = normal_quantile(0.5 + level / 2.0);
    let (low_a, high_a) = wilson(rate_a, num_a, quantile);
    let (low_b, high_b) = wilson(rate_b, num_b, quantile);
    Ok(ProportionTest {
        difference,
        z,
        p_value: normal_two_sided(z),
        low: difference - (rate_a - low_a).hypot(high_b - rate_b),
        high: difference + (high_a - rate_a).hypot(rate_b - low_b),
    })
}

/// Pooled z of two rates; sizes may be effective ones. 0 when nothing varies.
pub(crate) fn pooled_z(rate_a: f64, num_a: f64, rate_b: f64, num_b: f64) -> f64 {
    let pooled = (rate_a * num_a + rate_b * num_b) / (num_a + num_b);
    let error = (pooled * (1.0 - pooled) * (1.0 / num_a + 1.0 / num_b)).sqrt();
    if error > 0.0 { (rate_a - rate_b) / error } else { 0.0 }
}

fn wilson(rate: f64, n: f64, quantile: f64) -> (f64, f64) {
    let square = quantile * quantile;
    let centre = (rate + square / (2.0 * n)) / (1.0 + square / n);
    let half = quantile * (rate * (1.0 - rate) / n + square / (4.0 * n * n)).sqrt() / (1.0 + square / n);
    (centre - half, centre + half)
}

/// Correction of p-values for the number of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Correction {
    /// No correction: each test has the level on its own.
    None,
    /// Bonferroni: min(1, m p). Bounds the chance of any false alarm.
    #[default]
    Bonferroni,
    /// Holm's step-down (1979): as Bonferroni, with more power.
    Holm,
    /// Benjamini-Hochberg (1995): bounds the expected share of false alarms among the alarms.
    Bh,
}

impl Correction {
    /// Adjusts p-values; compare the results with the level itself. Same order as given (statsmodels `multipletests`).
    ///
    /// # Errors
    ///
    /// A p-value outside 0 to 1.
    pub fn adjust(self, p_values: &[f64]) -> Result<Vec<f64>> {
        if let Some(p) = p_values.iter().find(|p| !(0.0..=1.0).contains(*p)) {
            return Err(invalid("p_values", p, "0 to 1"));
        }
        let count = p_values.len();
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
        let mut adjusted = p_values.to_vec();
        match self {
            Self::None => {}
            Self::Bonferroni => adjusted.iter_mut().for_each(|p| *p = (*p * count as f64).min(1.0)),
            Self::Holm => {
                let mut largest = 0.0_f64;
                for (rank, &index) in order.iter().enumerate() {
                    largest = largest.max(p_values[index] * (count - rank) as f64).min(1.0);
                    adjusted[index] = largest;
                }
            }
            Self::Bh => {
                let mut smallest = 1.0_f64;
                for (rank, &index) in order.iter().enumerate().rev() {
                    smallest = smallest.min(p_values[index] * count as f64 / (rank + 1) as f64);
                    adjusted[index] = smallest;
                }
            }
        }
        Ok(adjusted)
    }
}
