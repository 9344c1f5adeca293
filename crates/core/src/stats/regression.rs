//! Metrics of a forecast of numbers.

use super::{Result, mean, require_finite, require_rows, require_same_length};
use serde::{Deserialize, Serialize};

/// Metrics of a forecast on one set of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegressionMetrics {
    /// Rows evaluated.
    pub num_rows: usize,
    /// Mean squared error.
    pub mse: f64,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Mean of forecast - target.
    pub bias: f64,
    /// 1 - sum of squared errors / sum of squares about the mean of these targets; none for constant targets.
    pub r2: Option<f64>,
    /// 1 - sum of squared errors / that of the baseline forecast (Campbell-Thompson 2008); none without a baseline
    /// or when the baseline has no error.
    pub r2_against_baseline: Option<f64>,
    /// Share of rows where forecast and target have the same sign, among rows whose target is not 0; a forecast of
    /// 0 counts as wrong. None when every target is 0.
    pub directional_accuracy: Option<f64>,
    /// Pearson correlation of forecast and target; none when either is constant.
    pub correlation: Option<f64>,
}

/// Evaluates a forecast, against a baseline forecast too when one is given.
///
/// # Shapes
///
/// `targets`, `forecasts` and `baseline` are all `[n]`.
///
/// # Errors
///
/// No rows, lengths that differ, or values that are not finite.
pub fn evaluate_regression(targets: &[f64], forecasts: &[f64], baseline: Option<&[f64]>) -> Result<RegressionMetrics> {
    require_rows("targets", targets.len(), 1)?;
    require_same_length("forecasts", forecasts.len(), targets.len())?;
    require_finite("targets", targets)?;
    require_finite("forecasts", forecasts)?;
    let squared_error =
        |forecasts: &[f64]| targets.iter().zip(forecasts).map(|(target, forecast)| (forecast - target).powi(2)).sum();
    let baseline_error: Option<f64> = match baseline {
        Some(baseline) => {
            require_same_length("baseline", baseline.len(), targets.len())?;
            require_finite("baseline", baseline)?;
            Some(squared_error(baseline))
        }
        None => None,
    };
    let num_rows = targets.len() as f64;
    let error: f64 = squared_error(forecasts);
    let centre = mean(targets);
    let spread: f64 = targets.iter().map(|target| (target - centre).powi(2)).sum();
    let mse = error / num_rows;
    let (mut moved, mut right) = (0_u64, 0_u64);
    for (target, forecast) in targets.iter().zip(forecasts) {
        if *target != 0.0 {
            moved += 1;
            right += u64::from(*forecast != 0.0 && (*target > 0.0) == (*forecast > 0.0));
        }
    }
    Ok(RegressionMetrics {
        num_rows: targets.len(),
        mse,
        rmse: mse.sqrt(),
        mae: targets.iter().zip(forecasts).map(|(target, forecast)| (forecast - target).abs()).sum::<f64>() / num_rows,
        bias: mean(forecasts) - centre,
        r2: (spread > 0.0).then(|| 1.0 - error / spread),
        r2_against_baseline: baseline_error.filter(|&base| base > 0.0).map(|base| 1.0 - error / base),
        directional_accuracy: (moved > 0).then(|| right as f64 / moved as f64),
        correlation: correlation(targets, forecasts),
    })
}

/// Pearson correlation; none when the lengths differ, there are fewer than two rows or either side is constant.
pub fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() || a.len() < 2 {
        return None;
    }
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut cross, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        cross += (x - mean_a) * (y - mean_b);
        square_a += (x - mean_a).powi(2);
        square_b += (y - mean_b).powi(2);
    }
    let spread = (square_a * square_b).sqrt();
    (spread > 0.0).then(|| (cross / spread).clamp(-1.0, 1.0))
}
