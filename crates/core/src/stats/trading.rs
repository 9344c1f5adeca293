//! Performance and risk of a series of simple returns.
//!
//! Definitions follow quantstats 0.0.86 and empyrical, which agree unless a field says otherwise. Ratios whose
//! denominator is zero are `None`, never infinite, so that the report is valid JSON.

use super::{
    Result, invalid, mean, normal_cdf, normal_quantile, quantile_sorted, require_finite, require_rows, variance,
};
use serde::{Deserialize, Serialize};

/// Daily bars in a year.
pub const TRADING_DAYS_PER_YEAR: f64 = 252.0;

/// Performance and risk of a series of simple returns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TradingMetrics {
    /// Returns evaluated.
    pub num_returns: usize,
    /// Wealth at the end - 1.
    pub total_return: f64,
    /// Compound annual growth: wealth^(P/n) - 1.
    pub cagr: f64,
    /// Standard deviation (ddof 1) * sqrt(P).
    pub annual_volatility: f64,
    /// mean / std (ddof 1) * sqrt(P), no risk-free rate.
    pub sharpe: Option<f64>,
    /// mean / sqrt(mean over all returns of min(r, 0)^2) * sqrt(P).
    pub sortino: Option<f64>,
    /// CAGR / |max drawdown|.
    pub calmar: Option<f64>,
    /// Sum of gains / |sum of losses|, threshold 0. Equal to the profit factor of returns by definition.
    pub omega: Option<f64>,
    /// min(W / cummax(W)) - 1, never positive; W is 1 before the first return.
    pub max_drawdown: f64,
    /// sqrt(sum of squared drawdowns / (n - 1)).
    pub ulcer_index: f64,
    /// 5 % quantile, linear interpolation (empyrical).
    pub var_95_historical: f64,
    /// mean + std (ddof 1) * quantile of the normal at 5 % (quantstats).
    pub var_95_normal: f64,
    /// Mean of the returns at or below the historical VaR (quantstats, `historical`).
    pub cvar_95: f64,
    /// Sum of gains / |sum of losses|.
    pub profit_factor: Option<f64>,
    /// Returns above 0 / returns other than 0.
    pub win_rate: Option<f64>,
    /// |95 % quantile / 5 % quantile|.
    pub tail_ratio: Option<f64>,
    /// Kelly fraction (b p - q) / b, b = mean win / |mean loss|.
    pub kelly: Option<f64>,
    /// Sample skewness, bias-corrected (pandas).
    pub skewness: Option<f64>,
    /// Sample excess kurtosis, bias-corrected (pandas).
    pub excess_kurtosis: Option<f64>,
    /// Probability that the true Sharpe ratio is above 0, see [`probabilistic_sharpe`].
    pub probabilistic_sharpe: Option<f64>,
}

/// Evaluates simple returns; `periods_per_year` is 252 for daily bars.
///
/// # Units
///
/// Returns are fractions: 0.01 is one per cent.
///
/// # Errors
///
/// Fewer than two returns, a return that is not finite or below -1, or a number of periods that is not positive.
pub fn evaluate_returns(returns: &[f64], periods_per_year: f64) -> Result<TradingMetrics> {
    check_returns(returns, 2)?;
    if !(periods_per_year > 0.0 && periods_per_year.is_finite()) {
        return Err(invalid("periods_per_year", periods_per_year, "a positive number"));
    }
    let n = returns.len() as f64;
    let average = mean(returns);
    let deviation = variance(returns, 1).sqrt();
    let annual = periods_per_year.sqrt();
    let downside = (returns.iter().map(|r| r.min(0.0).powi(2)).sum::<f64>() / n).sqrt();
    let (gains, losses): (Vec<f64>, Vec<f64>) = returns.iter().filter(|&&r| r != 0.0).partition(|&&r| r > 0.0);
    let gain_sum: f64 = gains.iter().sum();
    let loss_sum: f64 = losses.iter().map(|r| -r).sum();
    let wealth = equity_curve(returns)?;
    let drawdowns = drawdowns(&wealth);
    let max_drawdown = drawdowns.iter().copied().fold(0.0, f64::min);
    let last = wealth[wealth.len() - 1];
    let cagr = last.powf(periods_per_year / n) - 1.0;
    let mut sorted = returns.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let var_95_historical = quantile_sorted(&sorted, 0.05);
    let tail: Vec<f64> = sorted.iter().copied().take_while(|&r| r <= var_95_historical).collect();
    let omega = ratio(gain_sum, loss_sum);
    let win_rate = ratio(gains.len() as f64, (gains.len() + losses.len()) as f64);
    let kelly = if gains.is_empty() || losses.is_empty() {
        None
    } else {
        let payoff = mean(&gains) / -mean(&losses);
        win_rate.map(|p| (payoff * p - (1.0 - p)) / payoff)
    };
    let moments = standard_moments(returns);
    Ok(TradingMetrics {
        num_returns: returns.len(),
        total_return: last - 1.0,
        cagr,
        annual_volatility: deviation * annual,
        sharpe: ratio(average, deviation).map(|value| value * annual),
        sortino: ratio(average, downside).map(|value| value * annual),
        calmar: ratio(cagr, -max_drawdown),
        omega,
        max_drawdown,
        ulcer_index: (drawdowns.iter().map(|d| d * d).sum::<f64>() / (n - 1.0)).sqrt(),
        var_95_historical,
        var_95_normal: average + deviation * normal_quantile(0.05),
        cvar_95: mean(&tail),
        profit_factor: omega,
        win_rate,
        tail_ratio: ratio(quantile_sorted(&sorted, 0.95), var_95_historical).map(f64::abs),
        kelly,
        skewness: moments
            .filter(|_| returns.len() > 2)
            .map(|(skewness, _)| skewness * (n * (n - 1.0)).sqrt() / (n - 2.0)),
        excess_kurtosis: moments
            .filter(|_| returns.len() > 3)
            .map(|(_, kurtosis)| (n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * (kurtosis - 3.0) + 6.0)),
        probabilistic_sharpe: probabilistic_sharpe(returns, 0.0)?,
    })
}

/// Wealth over time: 1 before the first return, then the running product of 1 + r.
///
/// # Shapes
///
/// `[n]` returns give `[n + 1]` values.
///
/// # Errors
///
/// A return that is not finite or below -1.
pub fn equity_curve(returns: &[f64]) -> Result<Vec<f64>> {
    check_returns(returns, 0)?;
    let mut wealth = Vec::with_capacity(returns.len() + 1);
    let mut value = 1.0;
    wealth.push(value);
    for r in returns {
        value *= 1.0 + r;
        wealth.push(value);
    }
    Ok(wealth)
}

/// Probability that the true Sharpe ratio is above `threshold` (Bailey and Lopez de Prado 2012).
///
/// Phi((SR - threshold) sqrt(n - 1) / sqrt(1 - g3 SR + (g4 - 1)/4 SR^2)); both ratios are per period, not per year,
/// g3 and g4 are the skewness and raw kurtosis. None for constant returns.
///
/// # Errors
///
/// Fewer than two returns, or a return that is not finite or below -1.
pub fn probabilistic_sharpe(returns: &[f64], threshold: f64) -> Result<Option<f64>> {
    check_returns(returns, 2)?;
    let Some((skewness, kurtosis)) = standard_moments(returns) else {
        return Ok(None);
    };
    let n = returns.len() as f64;
    let sharpe = mean(returns) / variance(returns, 1).sqrt();
    let spread = 1.0 - skewness * sharpe + (kurtosis - 1.0) / 4.0 * sharpe * sharpe;
    Ok((spread > 0.0).then(|| normal_cdf((sharpe - threshold) * (n - 1.0).sqrt() / spread.sqrt())))
}

/// Probability that the best of `num_trials` strategies has a true Sharpe ratio above 0 (Bailey and Lopez de Prado 2014).
///
/// [`probabilistic_sharpe`] against the expected maximum of `num_trials` ratios of variance `sharpe_variance`:
/// sqrt(V) ((1 - g) Phi^-1(1 - 1/N) + g Phi^-1(1 - 1/(N e))), g = 0.5772156649.
///
/// # Errors
///
/// As [`probabilistic_sharpe`]; fewer than two trials; a variance that is negative or not finite.
pub fn deflated_sharpe(returns: &[f64], num_trials: usize, sharpe_variance: f64) -> Result<Option<f64>> {
    const EULER_MASCHERONI: f64 = 0.577_215_664_901_532_9;
    if num_trials < 2 {
        return Err(invalid("num_trials", num_trials, "2 or more"));
    }
    if !(sharpe_variance >= 0.0 && sharpe_variance.is_finite()) {
        return Err(invalid("sharpe_variance", sharpe_variance, "a finite number of 0 or more"));
    }
    let n = num_trials as f64;
    let expected_maximum = sharpe_variance.sqrt()
        * ((1.0 - EULER_MASCHERONI) * normal_quantile(1.0 - 1.0 / n)
            + EULER_MASCHERONI * normal_quantile(1.0 - 1.0 / (n * std::f64::consts::E)));
    probabilistic_sharpe(returns, expected_maximum)
}

fn check_returns(returns: &[f64], required: usize) -> Result<()> {
    require_rows("returns", returns.len(), required)?;
    require_finite("returns", returns)?;
    match returns.iter().find(|&&r| r < -1.0) {
        Some(r) => Err(invalid("returns", r, "-1 or more")),
        None => Ok(()),
    }
}

/// W / cummax(W) - 1 after each return.
fn drawdowns(wealth: &[f64]) -> Vec<f64> {
    let mut peak = wealth[0];
    wealth[1..]
        .iter()
        .map(|&value| {
            peak = peak.max(value);
            value / peak - 1.0
        })
        .collect()
}

/// Population skewness and raw kurtosis; none when the values are constant.
fn standard_moments(values: &[f64]) -> Option<(f64, f64)> {
    let centre = mean(values);
    let n = values.len() as f64;
    let moment = |power: i32| values.iter().map(|value| (value - centre).powi(power)).sum::<f64>() / n;
    let second = moment(2);
    // A constant series may leave a rounding residue about its mean.
    (second.sqrt() > f64::EPSILON * centre.abs()).then(|| (moment(3) / second.powf(1.5), moment(4) / (second * second)))
}

fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    let value = numerator / denominator;
    value.is_finite().then_some(value)
}
