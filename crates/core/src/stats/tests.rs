//! Golden numbers: scipy 1.17.1, statsmodels 0.15.0 and scikit-learn 1.9.1 on the same inputs, unless a comment says
//! otherwise. Tolerance 1e-12 relative where none is named.

use super::{
    bootstrap::{BootstrapConfig, bootstrap_interval, bootstrap_mean, paired_difference},
    classification::{evaluate_classification, roc_auc},
    hypothesis::{Correction, cohens_d, diebold_mariano, mcnemar, mcnemar_of, two_proportion_z, welch_t_test},
    regression::evaluate_regression,
    trading::{deflated_sharpe, equity_curve, evaluate_returns, probabilistic_sharpe},
    *,
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[track_caller]
pub(crate) fn assert_near(found: f64, expected: f64, tolerance: f64) {
    let error = (found - expected).abs();
    assert!(error <= tolerance * expected.abs().max(1.0), "found {found}, expected {expected}, error {error:e}");
}

/// Sequence that Python reproduces: ((i k + 7) mod 101) / 101 * scale + shift.
pub(crate) fn sequence(n: usize, k: usize, shift: f64, scale: f64) -> Vec<f64> {
    (0..n).map(|i| ((i * k + 7) % 101) as f64 / 101.0 * scale + shift).collect()
}

/// Standard normal deviates with memory: x' = memory x + sqrt(1 - memory^2) e.
pub(crate) fn autoregressive(random: &mut ChaCha8Rng, n: usize, memory: f64) -> Vec<f64> {
    let mut normal = || normal_quantile(random.random_range(1e-12..1.0 - 1e-12));
    let mut level = normal();
    (0..n)
        .map(|_| {
            level = memory * level + (1.0 - memory * memory).sqrt() * normal();
            level
        })
        .collect()
}

fn spy_returns() -> Option<Vec<f64>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/spy_d1.csv");
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("skipped: {path} is not here");
        return None;
    };
    let closes: Vec<f64> = text.lines().skip(1).map(|line| line.split(',').nth(4).unwrap().parse().unwrap()).collect();
    Some(closes.windows(2).map(|pair| pair[1] / pair[0] - 1.0).collect())
}

#[test]
fn classification_matches_scikit_learn() {
    let labels = [0, 1, 2, 2, 1, 0, 1, 2];
    let probabilities = [
        0.7, 0.2, 0.1, 0.1, 0.6, 0.3, 0.2, 0.3, 0.5, 0.5, 0.3, 0.2, 0.3, 0.4, 0.3, 0.4, 0.45, 0.15, 0.05, 0.9, 0.05,
        0.1, 0.2, 0.7,
    ];
    let metrics = evaluate_classification(&labels, &probabilities, 3, 10).unwrap();
    assert_near(metrics.accuracy, 0.75, 1e-12);
    assert_near(metrics.balanced_accuracy, 0.722_222_222_222_222_2, 1e-12);
    assert_near(metrics.macro_f1, 0.719_047_619_047_619_2, 1e-12);
    assert_near(metrics.macro_precision, 0.75, 1e-12);
    assert_near(metrics.log_loss, 0.683_087_823_005_454_7, 1e-12);
    assert_near(metrics.matthews_correlation, 0.634_335_047_416_546_6, 1e-12);
    assert_near(metrics.brier, 0.38, 1e-12);
    assert_eq!(metrics.confusion, [[1, 1, 0], [0, 3, 0], [1, 0, 2]]);
    assert_eq!(metrics.roc_auc, None);
    // By hand, bins of 0.1, right ends included: 0.4 right; {0.5 right, 0.45 wrong, 0.5 wrong}; 0.6 right;
    // {0.7, 0.7} right; 0.9 right. |gaps|: 0.6, |1 - 1.45|, 0.4, 0.6, 0.1.
    assert_near(metrics.expected_calibration_error, (0.6 + 0.45 + 0.4 + 0.6 + 0.1) / 8.0, 1e-12);
    assert_eq!(metrics.reliability.iter().map(|bin| bin.num_rows).collect::<Vec<_>>(), [0, 0, 0, 1, 3, 1, 2, 0, 1, 0]);
    assert_near(metrics.reliability[4].accuracy, 1.0 / 3.0, 1e-12);
    let json = serde_json::to_string(&metrics).unwrap();
    assert_eq!(serde_json::from_str::<ClassificationMetrics>(&json).unwrap(), metrics);
}

#[test]
fn binary_classification_matches_scikit_learn() {
    let labels = [0, 1, 1, 0, 1, 0, 1, 0];
    let scores = [0.1, 0.4, 0.35, 0.4, 0.8, 0.2, 0.4, 0.6];
    let probabilities: Vec<f64> = scores.iter().flat_map(|p| [1.0 - p, *p]).collect();
    let metrics = evaluate_classification(&labels, &probabilities, 2, 15).unwrap();
    assert_near(metrics.roc_auc.unwrap(), 0.6875, 1e-12);
    assert_near(metrics.log_loss, 0.607_645_945_271_672_5, 1e-12);
    assert_near(metrics.brier, 0.438_125, 1e-12);
    assert_eq!(roc_auc(&[true, true], &[0.1, 0.2]).unwrap(), None);
}

#[test]
fn classification_rejects_what_is_no_distribution() {
    let says = |labels: &[usize], probabilities: &[f64]| {
        evaluate_classification(labels, probabilities, 2, 10).unwrap_err().to_string()
    };
    assert_eq!(says(&[2], &[0.5, 0.5]), "`labels` is 2 at row 0, accepted is 0 to 1");
    assert!(says(&[0], &[0.5, 0.6]).starts_with("`probabilities` is [0.5, 0.6] at row 0"));
    assert!(says(&[0], &[f64::NAN, 0.6]).starts_with("`probabilities`"));
    assert!(says(&[0], &[-0.1, 1.1]).starts_with("`probabilities`"));
    assert_eq!(says(&[0, 1], &[0.5, 0.5]), "`probabilities` has 2 values, expected 4");
    assert_eq!(says(&[], &[]), "`labels` has 0 values; at least 1 are needed");
}

#[test]
fn a_sure_and_wrong_prediction_has_a_finite_loss() {
    let metrics = evaluate_classification(&[0], &[0.0, 1.0], 2, 10).unwrap();
    assert_near(metrics.log_loss, -f64::EPSILON.ln(), 1e-12);
    assert_eq!((metrics.brier, metrics.accuracy, metrics.matthews_correlation), (2.0, 0.0, 0.0));
}

#[test]
fn regression_matches_scikit_learn() {
    let targets = [1.0, -2.0, 3.0, 0.0, -1.0];
    let forecasts = [0.5, -1.0, 2.0, 0.3, 0.2];
    let metrics = evaluate_regression(&targets, &forecasts, Some(&[0.0; 5])).unwrap();
    assert_near(metrics.mse, 0.756, 1e-12);
    assert_near(metrics.mae, 0.8, 1e-12);
    assert_near(metrics.r2.unwrap(), 0.744_594_594_594_594_6, 1e-12);
    assert_near(metrics.correlation.unwrap(), 0.959_540_907_772_174, 1e-12);
    // By hand: squared errors 3.78 against 15; three of four moves have the right sign.
    assert_near(metrics.r2_against_baseline.unwrap(), 1.0 - 3.78 / 15.0, 1e-12);
    assert_near(metrics.directional_accuracy.unwrap(), 0.75, 1e-12);
    let flat = evaluate_regression(&[1.0, 1.0], &[1.0, 2.0], Some(&[1.0, 1.0])).unwrap();
    assert_eq!((flat.r2, flat.r2_against_baseline, flat.correlation), (None, None, None));
    assert!(evaluate_regression(&[1.0], &[f64::NAN], None).is_err());
}

/// definitions.md 1f (quantstats 0.0.86, empyrical, vectorbt).
#[test]
fn spy_buy_and_hold_matches_quantstats() {
    let Some(returns) = spy_returns() else { return };
    assert_eq!(returns.len(), 5240);
    let metrics = evaluate_returns(&returns, 252.0).unwrap();
    for (found, expected) in [
        (metrics.sharpe.unwrap(), 0.329_257_617_8),
        (metrics.sortino.unwrap(), 0.462_854_572_2),
        (metrics.max_drawdown, -0.564_736_707_6),
        (metrics.var_95_normal, -0.020_350_950_59),
        (metrics.var_95_historical, -0.019_376_630_53),
        (metrics.cvar_95, -0.030_231_010_32),
        (metrics.profit_factor.unwrap(), 1.065_717_447),
        (metrics.win_rate.unwrap(), 0.542_538_89),
        (metrics.cagr, 0.046_754_611_86),
        (metrics.annual_volatility, 0.198_915_626_7),
        (metrics.calmar.unwrap(), 0.082_790_105_96),
        (metrics.ulcer_index, 0.200_079_479_2),
        (metrics.kelly.unwrap(), 0.033_455_650_6),
        (metrics.tail_ratio.unwrap(), 0.892_552_186),
        (metrics.probabilistic_sharpe.unwrap(), 0.933_225_9),
        (metrics.skewness.unwrap(), 0.007_169_891_89),
        (metrics.excess_kurtosis.unwrap(), 12.005_918_46),
    ] {
        assert_near(found, expected, 1e-7);
    }
    let deflated = deflated_sharpe(&returns, 100, 0.0005).unwrap().unwrap();
    assert_near(deflated, 0.004_761_057, 1e-7);
}

#[test]
fn trading_metrics_by_hand() {
    // Wealth 1, 1.1, 0.99, 0.99, 1.188; mean 0.05; squared deviations 0.0025, 0.0225, 0.0025, 0.0225.
    let returns = [0.1, -0.1, 0.0, 0.2];
    let metrics = evaluate_returns(&returns, 4.0).unwrap();
    let deviation = (0.05_f64 / 3.0).sqrt();
    assert_near(metrics.total_return, 0.188, 1e-12);
    assert_near(metrics.cagr, 0.188, 1e-12);
    assert_near(metrics.sharpe.unwrap(), 0.05 / deviation * 2.0, 1e-12);
    assert_near(metrics.sortino.unwrap(), 0.05 / 0.0025_f64.sqrt() * 2.0, 1e-12);
    assert_near(metrics.max_drawdown, -0.1, 1e-12);
    assert_near(metrics.ulcer_index, (0.02_f64 / 3.0).sqrt(), 1e-12);
    assert_near(metrics.calmar.unwrap(), 1.88, 1e-12);
    assert_near(metrics.omega.unwrap(), 3.0, 1e-12);
    assert_near(metrics.win_rate.unwrap(), 2.0 / 3.0, 1e-12);
    assert_near(metrics.var_95_historical, -0.085, 1e-12);
    assert_near(metrics.cvar_95, -0.1, 1e-12);
    let wealth = equity_curve(&returns).unwrap();
    assert_eq!(wealth.len(), 5);
    assert_near(wealth[4], 1.188, 1e-12);
    // A loss in the first bar counts: the peak is the 1 before it.
    assert_near(evaluate_returns(&[-0.5, 0.1], 252.0).unwrap().max_drawdown, -0.5, 1e-12);
}

#[test]
fn trading_edges() {
    let gains = evaluate_returns(&[0.01, 0.01, 0.01], 252.0).unwrap();
    assert_eq!(
        (gains.profit_factor, gains.sortino, gains.calmar, gains.probabilistic_sharpe),
        (None, None, None, None)
    );
    let ruin = evaluate_returns(&[0.1, -1.0, 0.5], 252.0).unwrap();
    assert_eq!((ruin.max_drawdown, ruin.total_return), (-1.0, -1.0));
    assert!(serde_json::to_string(&gains).is_ok());
    assert_eq!(
        evaluate_returns(&[0.1, -1.5], 252.0).unwrap_err().to_string(),
        "`returns` is -1.5, accepted is -1 or more"
    );
    assert!(evaluate_returns(&[0.1], 252.0).is_err());
    assert!(probabilistic_sharpe(&[0.1, f64::NAN], 0.0).is_err());
}

#[test]
fn bootstrap_interval_of_a_mean_covers_it_under_autocorrelation() {
    // 300 series of 400 rows with memory 0.7, whose mean is 0: blocks keep the coverage that single rows lose.
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let (mut blocks, mut rows) = (0, 0);
    for seed in 0..300 {
        let values = autoregressive(&mut random, 400, 0.7);
        let config = BootstrapConfig { num_resamples: 200, seed, mean_block_length: Some(20.0), ..Default::default() };
        blocks += usize::from(bootstrap_mean(&values, &config).unwrap().contains(0.0));
        let single = BootstrapConfig { mean_block_length: Some(1.0), ..config };
        rows += usize::from(bootstrap_mean(&values, &single).unwrap().contains(0.0));
    }
    eprintln!("coverage of the 95 % interval: blocks {blocks}/300, single rows {rows}/300");
    assert!(blocks >= 262, "blocks cover {blocks} of 300");
    assert!(rows <= 220, "single rows cover {rows} of 300");
}

#[test]
fn bootstrap_is_seeded_and_takes_any_statistic() {
    let values = sequence(500, 37, 0.0, 1.0);
    let config = BootstrapConfig::default();
    let mut sorted = Vec::new();
    let mut median = |rows: &[usize]| {
        sorted.clear();
        sorted.extend(rows.iter().map(|&row| values[row]));
        sorted.sort_unstable_by(f64::total_cmp);
        quantile_sorted(&sorted, 0.5)
    };
    let first = bootstrap_interval(values.len(), &config, &mut median).unwrap();
    assert_eq!(first, bootstrap_interval(values.len(), &config, &mut median).unwrap());
    assert!(first.low <= first.estimate && first.estimate <= first.high && first.low < first.high);
    let of_mean = |seed: u64| bootstrap_mean(&values, &BootstrapConfig { seed, ..config.clone() }).unwrap();
    assert_eq!(of_mean(0), of_mean(0));
    assert_ne!(of_mean(0), of_mean(1));
}

#[test]
fn paired_difference_finds_what_is_there_and_only_that() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let noise = autoregressive(&mut random, 2000, 0.5);
    let base = autoregressive(&mut random, 2000, 0.9);
    let better: Vec<f64> = base.iter().zip(&noise).map(|(b, n)| b + 0.2 + 0.5 * n).collect();
    let config = BootstrapConfig { mean_block_length: Some(10.0), ..Default::default() };
    let found = paired_difference(&better, &base, &config).unwrap();
    assert!(found.p_value < 0.01 && found.p_value_greater < 0.01, "{found:?}");
    assert!(found.difference.low > 0.0 && found.difference.contains(0.2), "{found:?}");
    let reverse = paired_difference(&base, &better, &config).unwrap();
    assert!(reverse.p_value < 0.01 && reverse.p_value_greater > 0.99);
    let same = paired_difference(&base, &base, &config).unwrap();
    assert_eq!((same.p_value, same.p_value_greater, same.difference.estimate), (1.0, 1.0, 0.0));

    // Level of the two-sided test without a difference: 5 % of 300, three standard deviations are 11.
    let mut alarms = 0;
    for seed in 0..300 {
        let noise = autoregressive(&mut random, 500, 0.5);
        let config = BootstrapConfig { num_resamples: 200, seed, mean_block_length: Some(15.0), ..Default::default() };
        alarms += usize::from(paired_difference(&noise, &[0.0; 500], &config).unwrap().p_value < 0.05);
    }
    eprintln!("paired difference: {alarms} of 300 without a difference below 0.05");
    assert!(alarms <= 27, "{alarms} false alarms");
    assert!(alarms >= 3, "{alarms} false alarms: the test has no level");
}

#[test]
fn bootstrap_rejects_bad_settings() {
    let says = |config: BootstrapConfig| bootstrap_mean(&[1.0, 2.0], &config).unwrap_err().to_string();
    let base = BootstrapConfig::default();
    assert_eq!(
        says(BootstrapConfig { level: 1.0, ..base.clone() }),
        "`level` is 1, accepted is more than 0 and less than 1"
    );
    assert!(says(BootstrapConfig { num_resamples: 1, ..base.clone() }).contains("`num_resamples`"));
    assert!(says(BootstrapConfig { mean_block_length: Some(0.5), ..base.clone() }).contains("`mean_block_length`"));
    assert!(bootstrap_interval(10, &base, |_| f64::NAN).is_err());
    assert!(serde_json::from_str::<BootstrapConfig>(r#"{"blocks": 3}"#).is_err());
}

/// definitions.md 1c: SPY returns, forecast 0 against the mean of the last 5, squared loss.
#[test]
fn diebold_mariano_matches_the_spy_vector() {
    let Some(returns) = spy_returns() else { return };
    let (mut zero, mut average) = (Vec::new(), Vec::new());
    for row in 5..returns.len() {
        zero.push(returns[row].powi(2));
        average.push((returns[row] - mean(&returns[row - 5..row])).powi(2));
    }
    assert_eq!(zero.len(), 5235);
    let test = diebold_mariano(&zero, &average, 1).unwrap();
    assert_near(test.dm, -6.927_313_25, 1e-8);
    assert_near(test.hln, -6.926_651_58, 1e-8);
    assert!(test.p_value_hln < 1e-11 && test.mean_difference < 0.0);
}

#[test]
fn diebold_mariano_by_hand_and_at_longer_horizons() {
    // d = 1, 2, 3, 2: mean 2, autocovariances 0.5 and 0.
    let test = diebold_mariano(&[1.0, 2.0, 3.0, 2.0], &[0.0; 4], 1).unwrap();
    assert_near(test.dm, 2.0 / (0.5_f64 / 4.0).sqrt(), 1e-12);
    assert_near(test.hln, test.dm * 0.75_f64.sqrt(), 1e-12);
    // d alternates: the plain sum is negative, Bartlett weights keep the test defined.
    let alternating: Vec<f64> = (0..20).map(|i| f64::from(i % 2) + 0.1).collect();
    assert!(diebold_mariano(&alternating, &[0.0; 20], 2).unwrap().dm.is_finite());
    assert!(diebold_mariano(&[1.1, 1.1, 1.1], &[0.0; 3], 1).is_err());
    assert!(diebold_mariano(&[1.0, 2.0], &[0.0; 2], 2).is_err());
    assert!(diebold_mariano(&[1.0, 2.0], &[0.0; 2], 0).is_err());
}

#[test]
fn mcnemar_matches_statsmodels() {
    let test = mcnemar(9, 21);
    assert_near(test.p_value_exact, 0.042_773_945_257_067_694, 1e-12);
    assert_near(test.chi_square, 4.033_333_333_333_333, 1e-12);
    assert_near(test.p_value_chi_square, 0.044_609_718_024_939_53, 1e-12);
    assert_eq!(mcnemar(21, 9).p_value_exact, test.p_value_exact);
    assert_eq!((mcnemar(0, 0).p_value_exact, mcnemar(5, 5).p_value_exact), (1.0, 1.0));
    let counted = mcnemar_of(&[true, true, false, false], &[true, false, true, false]).unwrap();
    assert_eq!((counted.only_first, counted.only_second), (1, 1));
}

#[test]
fn welch_matches_scipy() {
    let test = welch_t_test(&sequence(40, 37, 0.0, 1.0), &sequence(25, 53, 0.1, 1.3)).unwrap();
    assert_near(test.t, -2.717_961_725_702_787, 1e-12);
    assert_near(test.degrees_of_freedom, 41.402_462_304_260_254, 1e-12);
    assert_near(test.p_value, 0.009_549_762_221_009_048, 1e-12);
    assert!(welch_t_test(&[1.0, 1.0], &[2.0, 2.0]).is_err());
    // By hand: means 2 and 1, population variances 2/3 and 2/3.
    assert_near(cohens_d(&[1.0, 2.0, 3.0], &[0.0, 1.0, 2.0]).unwrap(), 1.0 / (2.0_f64 / 3.0).sqrt(), 1e-12);
}

/// definitions.md 1c.
#[test]
fn two_proportions_match_statsmodels() {
    let test = two_proportion_z((670, 1000), (650, 1000), 0.95).unwrap();
    assert_near(test.z, 0.944_068_64, 1e-8);
    assert_near(test.p_value, 0.345_134_57, 1e-8);
    assert_near(test.low, -0.021_498_975_1, 1e-9);
    assert_near(test.high, 0.061_403_062_7, 1e-9);
    let none = two_proportion_z((0, 10), (0, 20), 0.95).unwrap();
    assert_eq!((none.z, none.p_value), (0.0, 1.0));
    assert!(two_proportion_z((11, 10), (0, 20), 0.95).is_err());
}

#[test]
fn corrections_match_statsmodels() {
    let p_values = [0.01, 0.04, 0.03, 0.005, 0.2];
    for (correction, expected) in [
        (Correction::None, p_values),
        (Correction::Bonferroni, [0.05, 0.2, 0.15, 0.025, 1.0]),
        (Correction::Holm, [0.04, 0.09, 0.09, 0.025, 0.2]),
        (Correction::Bh, [0.025, 0.05, 0.05, 0.025, 0.2]),
    ] {
        for (found, expected) in correction.adjust(&p_values).unwrap().into_iter().zip(expected) {
            assert_near(found, expected, 1e-12);
        }
    }
    assert!(Correction::Bh.adjust(&[0.5, f64::NAN]).is_err());
    assert!(Correction::Bh.adjust(&[]).unwrap().is_empty());
    assert_eq!(serde_json::to_string(&Correction::Bh).unwrap(), "\"bh\"");
}

proptest! {
    #[test]
    fn corrected_p_values_are_ordered(p_values in prop::collection::vec(0.0..=1.0_f64, 0..30)) {
        let adjust = |correction: Correction| correction.adjust(&p_values).unwrap();
        let (bonferroni, holm, bh) = (adjust(Correction::Bonferroni), adjust(Correction::Holm), adjust(Correction::Bh));
        for k in 0..p_values.len() {
            prop_assert!(p_values[k] <= bh[k] + 1e-15 && bh[k] <= holm[k] + 1e-15 && holm[k] <= bonferroni[k] + 1e-15);
        }
    }

    #[test]
    fn auc_of_reversed_scores_is_the_complement(rows in prop::collection::vec((any::<bool>(), 0_u8..6), 2..40)) {
        let positive: Vec<bool> = rows.iter().map(|row| row.0).collect();
        let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.1)).collect();
        let reversed: Vec<f64> = scores.iter().map(|score| -score).collect();
        if let Some(area) = roc_auc(&positive, &scores).unwrap() {
            prop_assert!((0.0..=1.0).contains(&area));
            prop_assert!((area + roc_auc(&positive, &reversed).unwrap().unwrap() - 1.0).abs() < 1e-12);
            // Against the definition: pairs ordered right, equals one half.
            let (mut wins, mut pairs) = (0.0, 0.0);
            for (a, x) in positive.iter().zip(&scores) {
                for (b, y) in positive.iter().zip(&scores) {
                    if *a && !*b {
                        pairs += 1.0;
                        wins += if x > y { 1.0 } else if x == y { 0.5 } else { 0.0 };
                    }
                }
            }
            prop_assert!((area - wins / pairs).abs() < 1e-12);
        }
    }
}
