//! Group F: memory and distribution.
//!
//! Sources: Hurst 1951 (rescaled range); Lo and MacKinlay 1988 (variance ratio); Lopez de Prado 2018 (fractional
//! differences, CUSUM filter); Bandt and Pompe 2002 (permutation entropy).

use super::Group::Memory;
use super::engine::{CLOSE, Graph};
use super::ops::{map, scan, ta, window};
use super::stats;

/// Order of the fractional difference.
const DIFFERENCE_ORDER: f64 = 0.4;
/// Weights below this are cut off.
const DIFFERENCE_CUT: f64 = 1e-4;

pub(super) fn define(g: &mut Graph) {
    let r = g.log_return(CLOSE, 1);

    let [slot] = g.node("SKEW(20)", &[r], window(20, |[r]| stats::skewness(r)));
    g.feature(142, "skew20", Memory, "skewness of log returns over 20 bars", slot);

    let [slot] = g.node("KURT(60)", &[r], window(60, |[r]| stats::excess_kurtosis(r)));
    g.feature(143, "kurt60", Memory, "excess kurtosis of log returns over 60 bars", slot);

    let [slot] = g.node("AUTOCORR(1,20)", &[r], window(20, |[r]| stats::correlation(&r[1..], &r[..19])));
    g.feature(144, "autocorr1_20", Memory, "autocorrelation of log returns at lag 1 within 20 bars", slot);

    let [slot] = g.node("AUTOCORR(5,60)", &[r], window(60, |[r]| stats::correlation(&r[5..], &r[..55])));
    g.feature(145, "autocorr5_60", Memory, "autocorrelation of log returns at lag 5 within 60 bars", slot);

    let [slot] = g.node("HURST(100)", &[r], window(100, |[r]| hurst(r)));
    g.feature(146, "hurst100", Memory, "Hurst exponent from rescaled ranges of 100 returns", slot);

    let [slot] = g.node("VARIANCERATIO(2,60)", &[r], window(60, |[r]| variance_ratio(r)));
    g.feature(147, "variance_ratio60", Memory, "variance of 2-bar over 1-bar returns within 60 bars, unbiased", slot);

    let weights: &'static [f64] = fractional_weights().leak();
    let [ln_close] = g.node("ln(C)", &[CLOSE], map(|[c]| c.ln()));
    let op = window(weights.len(), |[x]| stats::dot(weights, x));
    let [slot] = g.node("FRACDIFF(0.4,1e-4)", &[ln_close], op);
    g.feature(148, "frac_diff", Memory, "fractional difference of log close, order 0.4", slot);

    for (id, name, n, description) in [
        (149, "z20", 20, "close less its mean in standard deviations, 20 bars"),
        (150, "z60", 60, "close less its mean in standard deviations, 60 bars"),
    ] {
        let [slot] = g.node(&format!("Z({n})"), &[CLOSE], window(n, |[c]| stats::z_score(c)));
        g.feature(id, name, Memory, description, slot);
    }

    let op = ta!(percentrank percentrank_open percentrank_lookback PercentrankStream; x; 100; y);
    let [slot] = g.node("PERCENTRANK(100)", &[CLOSE], op);
    g.feature(151, "percent_rank100", Memory, "percent of the previous 100 closes below this one", slot);

    let [slot] = g.node("PERMENTROPY(3,50)", &[CLOSE], window(50, |[c]| permutation_entropy(c)));
    g.feature(152, "perm_entropy50", Memory, "permutation entropy of order 3 of 50 closes, 0 to 1", slot);

    let op = ta!(ht_dcperiod ht_dcperiod_open ht_dcperiod_lookback HtDcperiodStream; x; ; y);
    let [slot] = g.node("HT_DCPERIOD", &[CLOSE], op);
    g.feature(153, "ht_dcperiod", Memory, "dominant cycle period in bars", slot);

    let op = ta!(ht_trendmode ht_trendmode_open ht_trendmode_lookback HtTrendmodeStream; x; ; + flag);
    let [slot] = g.node("HT_TRENDMODE", &[CLOSE], op);
    g.feature(154, "ht_trendmode", Memory, "1 in a trend, 0 in a cycle", slot);

    let threshold = g.std_dev(r, 20);
    let op = scan(0, (0.0, 0.0), |(up, down): &mut (f64, f64), [r, threshold]: [f64; 2]| {
        *up = (*up + r).max(0.0);
        *down = (*down + r).min(0.0);
        if *up > threshold {
            *up = 0.0;
            [1.0]
        } else if *down < -threshold {
            *down = 0.0;
            [-1.0]
        } else {
            [0.0]
        }
    });
    let [slot] = g.node("CUSUM", &[r, threshold], op);
    g.feature(155, "cusum", Memory, "CUSUM event at the volatility over 20 bars: 1 up, -1 down, 0 none", slot);
}

/// Slope of log rescaled range on log length, over 1, 2, 4 .. pieces of at least 8 returns that end at the last one.
fn hurst(returns: &[f64]) -> f64 {
    let (mut n, mut sum_x, mut sum_y, mut sum_xx, mut sum_xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let mut pieces = 1;
    while pieces <= 32 && returns.len() / pieces >= 8 {
        let len = returns.len() / pieces;
        let total: f64 = returns[returns.len() - len * pieces..].chunks_exact(len).map(rescaled_range).sum();
        let (x, y) = ((len as f64).ln(), (total / pieces as f64).ln());
        n += 1.0;
        sum_x += x;
        sum_y += y;
        sum_xx += x * x;
        sum_xy += x * y;
        pieces *= 2;
    }
    (n * sum_xy - sum_x * sum_y) / (n * sum_xx - sum_x * sum_x)
}

/// Range of the running sum of deviations over the standard deviation; 0 where that is 0.
fn rescaled_range(values: &[f64]) -> f64 {
    let mean = stats::mean(values);
    let (mut running, mut squares) = (0.0, 0.0);
    let (mut highest, mut lowest) = (f64::MIN, f64::MAX);
    for value in values {
        let deviation = value - mean;
        running += deviation;
        squares += deviation * deviation;
        highest = running.max(highest);
        lowest = running.min(lowest);
    }
    let std_dev = (squares / values.len() as f64).sqrt();
    if std_dev > 0.0 { (highest - lowest) / std_dev } else { 0.0 }
}

/// Unbiased variance ratio for q = 2 (Lo and MacKinlay 1988, overlapping returns).
fn variance_ratio(returns: &[f64]) -> f64 {
    let (n, q) = (returns.len() as f64, 2.0);
    let mean = stats::mean(returns);
    let pairs: f64 = returns.windows(2).map(|pair| (pair[0] + pair[1] - q * mean).powi(2)).sum();
    let divisor = q * (n - q + 1.0) * (1.0 - q / n);
    pairs / divisor / stats::variance(returns)
}

/// Weights of `(1 - B)^d`, oldest first, cut where they fall below the limit.
pub(super) fn fractional_weights() -> Vec<f64> {
    let mut weights = vec![1.0];
    loop {
        let k = weights.len() as f64;
        let next = -weights[weights.len() - 1] * (DIFFERENCE_ORDER - k + 1.0) / k;
        if next.abs() < DIFFERENCE_CUT {
            weights.reverse();
            return weights;
        }
        weights.push(next);
    }
}

/// Entropy of the orders of three successive values, over that of equal shares; equal values count as rising.
fn permutation_entropy(values: &[f64]) -> f64 {
    let mut counts = [0_u32; 8];
    for triple in values.windows(3) {
        let pattern = usize::from(triple[0] > triple[1])
            | usize::from(triple[1] > triple[2]) << 1
            | usize::from(triple[0] > triple[2]) << 2;
        counts[pattern] += 1;
    }
    let total = (values.len() - 2) as f64;
    let entropy: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|&count| {
            let share = f64::from(count) / total;
            -share * share.ln()
        })
        .sum();
    entropy.max(0.0) / 6.0_f64.ln()
}
