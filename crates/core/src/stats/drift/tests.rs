//! Golden numbers: scipy 1.17.1 on the sequences of [`sequence`], Evidently's binning (`get_binned_data`) for the
//! shares. Simulations are seeded; the rates that they measure are printed.

use super::*;
use crate::stats::{
    StatsError,
    hypothesis::Correction,
    tests::{assert_near, autoregressive, sequence},
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

type Columns = Vec<(String, Vec<f64>)>;

fn named(columns: impl IntoIterator<Item = Vec<f64>>) -> Columns {
    columns.into_iter().enumerate().map(|(k, values)| (format!("c{k}"), values)).collect()
}

fn profile(columns: &Columns) -> ReferenceProfile {
    ReferenceProfile::build(&Observations::of_features(columns), &ProfileConfig::default()).unwrap()
}

fn check(reference: &ReferenceProfile, columns: &Columns) -> DriftReport {
    check_drift(reference, &Observations::of_features(columns), &DriftConfig::default()).unwrap()
}

#[test]
fn ks_and_wasserstein_match_scipy() {
    // (n, m, shift, scale, D, p of ks_2samp with method auto and asymp, wasserstein_distance)
    for (n, m, shift, scale, statistic, p_value, asymptotic, distance) in [
        (20, 20, 0.1, 1.0, 0.2, 0.831_969_610_796_326_3, 0.748_719_04, 0.154_950_495_049_504_95),
        (30, 17, 0.2, 1.0, 0.3, 0.221_215_517_838_921_85, 0.225_239_058_817, 0.221_432_731_508_447_5),
        (
            300,
            200,
            0.05,
            1.0,
            0.066_666_666_666_666_67,
            0.643_402_464_284_777_2,
            0.635_757_955_037,
            0.053_877_887_788_777_9,
        ),
        (
            900,
            700,
            0.02,
            1.1,
            0.108_253_968_253_968_26,
            0.000_178_908_910_326_085_8,
            0.000_178_176_478_33,
            0.069_750_589_344_648_81,
        ),
    ] {
        let (a, b) = (sequence(n, 37, 0.0, 1.0), sequence(m, 53, shift, scale));
        let test = ks_two_sample(&a, &b).unwrap();
        assert_near(test.statistic, statistic, 1e-12);
        assert!((test.p_value / p_value - 1.0).abs() < 1e-10, "{n} {m}: {} {p_value}", test.p_value);
        assert_near(wasserstein(&a, &b).unwrap(), distance, 1e-12);
        // scipy rounds the effective size to a whole number.
        assert!((ks_p_value(statistic, n as f64, m as f64) - asymptotic).abs() < 0.01, "{n} {m}");
    }
    // Beyond the exact limit: scipy's exact p is 0.39903, its asymptotic one 0.39851.
    let (a, b) = (sequence(5000, 37, 0.0, 1.0), sequence(3000, 53, 0.01, 1.0));
    let test = ks_two_sample(&a, &b).unwrap();
    assert_near(test.statistic, 0.0206, 1e-12);
    assert_near(test.p_value, 0.399_033_372_232_719_1, 1e-3);
    assert!(ks_two_sample(&[], &a).is_err());
    assert!(ks_two_sample(&[f64::NAN], &a).is_err());
}

#[test]
fn binned_distances_match_evidently() {
    let (a, b) = (sequence(300, 37, 0.0, 1.0), sequence(200, 53, 0.05, 1.0));
    let (p, q) = evidently_shares(&a, &b).unwrap();
    assert_eq!(p.len(), 10);
    assert_near(p[3], 0.106_666_666_666_666_67, 1e-12);
    assert_near(q[0], 0.055, 1e-12);
    assert_near(psi(&p, &q).unwrap(), 0.082_616_427_523_089_34, 1e-12);
    assert_near(kl_divergence(&p, &q).unwrap(), 0.041_554_726_863_379_78, 1e-12);
    assert_near(jensen_shannon(&p, &q).unwrap(), 0.100_766_761_599_043_81, 1e-12);
    // Few values: one bin each, also for one that only the current data has.
    let (p, q) = evidently_shares(&[0.0, 0.0, 1.0, 1.0], &[0.0, 1.0, 2.0, 2.0]).unwrap();
    assert_eq!((p, q), (vec![0.5, 0.5, 0.0], vec![0.25, 0.25, 0.5]));
    // An empty bin counts as 0.0001: by hand.
    let by_hand = 2.0 * 0.25 * 2.0_f64.ln() + (1e-4 - 0.5) * (1e-4_f64 / 0.5).ln();
    assert_near(psi(&[0.5, 0.5, 0.0], &[0.25, 0.25, 0.5]).unwrap(), by_hand, 1e-12);
    assert!(psi(&[0.5, 0.4], &[0.5, 0.5]).is_err());
}

#[test]
fn chi_square_and_psi_limit_match_scipy() {
    let fit = chi_square_fit(&[300, 400, 300], &[30, 50, 20]).unwrap();
    assert_near(fit.statistic, 5.833_333_333_333_333, 1e-12);
    assert_near(fit.p_value, 0.054_113_766_222_818_22, 1e-12);
    let both = chi_square_homogeneity(&[300, 400, 300], &[30, 50, 20], 1.0).unwrap();
    assert_near(both.statistic, 5.347_222_222_222_22, 1e-12);
    assert_near(both.p_value, 0.069_002_598_814_829_55, 1e-12);
    assert_near(psi_limit(0.05, 10, 1000.0, 500.0).unwrap(), 0.050_756_932_813_861_344, 1e-12);
    assert_near(psi_p_value(0.05, 10, 1000.0, 500.0), 0.054_199_121_015_039_75, 1e-12);
    assert_eq!(chi_square_fit(&[10, 0], &[5, 5]).unwrap().p_value, 0.0);
}

#[test]
fn effective_size_of_autoregressive_rows_is_near_theory() {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    // n (1 - memory) / (1 + memory); the tolerance is what one series of this length allows.
    for (memory, tolerance) in [(0.0, 0.1), (0.5, 0.15), (0.9, 0.25), (0.99, 0.5)] {
        let found = effective_sample_size(&autoregressive(&mut random, 50_000, memory)).unwrap() / 50_000.0;
        let expected = (1.0 - memory) / (1.0 + memory);
        assert!((found / expected - 1.0).abs() < tolerance, "memory {memory}: {found}, theory {expected}");
    }
    assert_eq!(effective_sample_size(&[3.0; 10]).unwrap(), 10.0);
    // Alternating rows know more about their mean than independent ones; n is the most that is claimed.
    let alternating: Vec<f64> = (0..1000).map(|i| f64::from(i % 2)).collect();
    assert_eq!(effective_sample_size(&alternating).unwrap(), 1000.0);
}

#[test]
fn profile_keeps_quantiles_and_survives_json() {
    let columns = named([
        (0..50_000).map(f64::from).collect::<Vec<_>>(),
        (0..50_000).map(|i| f64::from(u8::from(i % 20 != 0))).collect(),
        vec![3.5; 50_000],
        (0..50_000).map(|i| if i % 10 == 0 { f64::NAN } else { f64::from(i % 7) }).collect(),
    ]);
    let profile = profile(&columns);
    let [ramp, binary, constant, gaps] = profile.features.as_slice() else { panic!("four columns") };
    assert_eq!(ramp.sample.len(), 2000);
    assert_eq!((ramp.num_values, ramp.min, ramp.max), (50_000, 0.0, 49_999.0));
    assert!(ramp.shares.iter().all(|share| (share - 0.05).abs() < 1e-3));
    // A ramp is one long memory.
    assert!(ramp.effective_ratio < 0.001, "{}", ramp.effective_ratio);
    // Each value of a binary column has a bin of its own, between, below and above are empty.
    assert_eq!(binary.shares, [0.0, 0.05, 0.0, 0.95, 0.0]);
    assert_eq!(constant.shares, [0.0, 1.0, 0.0]);
    assert_eq!((constant.std, constant.effective_ratio), (0.0, 1.0));
    assert_eq!((gaps.num_missing, gaps.num_values), (5_000, 45_000));
    let json = serde_json::to_string(&profile).unwrap();
    assert_eq!(serde_json::from_str::<ReferenceProfile>(&json).unwrap(), profile);
    for (values, name) in
        [(vec![f64::NAN; 5], "all missing"), (vec![], "empty"), (vec![1e200, -1e200], "too large to square")]
    {
        assert!(
            ReferenceProfile::build(&Observations::of_features(&named([values])), &Default::default()).is_err(),
            "{name}"
        );
    }
}

#[test]
fn a_value_that_holds_many_rows_has_its_own_bin() {
    // 60 % zeros among continuous values: the same data does not drift, a change of the zeros' share does.
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let with_zeros = |random: &mut ChaCha8Rng, n: usize, zeros: usize| -> Vec<f64> {
        let noise = autoregressive(random, n, 0.0);
        noise.into_iter().enumerate().map(|(i, x)| if (i * 7919) % 100 < zeros { 0.0 } else { x }).collect()
    };
    let reference = profile(&named([with_zeros(&mut random, 20_000, 60)]));
    assert!(
        reference.features[0].shares.iter().any(|share| (share - 0.6).abs() < 0.01),
        "{:?}",
        reference.features[0].shares
    );
    assert!(check(&reference, &named([with_zeros(&mut random, 5_000, 60)])).num_drifted == 0);
    assert_eq!(check(&reference, &named([with_zeros(&mut random, 5_000, 20)])).num_drifted, 1);
}

#[test]
fn unchanged_data_raises_no_more_alarms_than_stated() {
    let mut random = ChaCha8Rng::seed_from_u64(17);
    for (memory, num_rows) in [(0.0, 100), (0.0, 200), (0.0, 500), (0.5, 300), (0.9, 2000), (0.97, 1000)] {
        let (mut windows, mut column_alarms, mut window_alarms, mut dataset_alarms) = (0, 0, 0, 0);
        let (mut tested, mut below_level) = (0, 0);
        for _ in 0..2 {
            let reference = profile(&named((0..100).map(|_| autoregressive(&mut random, 10_000, memory))));
            for _ in 0..20 {
                let report = check(&reference, &named((0..100).map(|_| autoregressive(&mut random, num_rows, memory))));
                windows += 1;
                column_alarms += report.num_drifted;
                window_alarms += usize::from(report.num_drifted > 0);
                dataset_alarms += usize::from(report.dataset_drifted);
                for column in &report.columns {
                    tested += 1;
                    below_level += usize::from(column.statistics.as_ref().unwrap().p_value < 0.05);
                }
            }
        }
        eprintln!(
            "no shift, memory {memory}, {num_rows} rows: {below_level} of {tested} plain p below 0.05; {column_alarms} column alarms, \
             {window_alarms} of {windows} windows with any, {dataset_alarms} data set alarms"
        );
        assert!(window_alarms * 20 <= windows, "more than 5 % of windows raise an alarm");
        assert_eq!(dataset_alarms, 0);
        // The test itself keeps its level before any correction: 5 %, with three standard deviations of the count.
        let allowed = 0.05 * f64::from(tested) + 3.0 * (f64::from(tested) * 0.05 * 0.95).sqrt();
        assert!(f64::from(below_level as u32) <= allowed, "{below_level} of {tested} p-values below 0.05");
    }
}

#[test]
fn clustered_volatility_is_not_taken_for_drift() {
    // Uncorrelated returns whose volatility has memory: the plain test sees drift, the effective size does not.
    let mut random = ChaCha8Rng::seed_from_u64(23);
    let returns = |random: &mut ChaCha8Rng, n: usize| -> Vec<f64> {
        let volatility = autoregressive(random, n, 0.98);
        autoregressive(random, n, 0.0).iter().zip(volatility).map(|(e, v)| e * (0.5 * v).exp()).collect()
    };
    let reference = profile(&named((0..20).map(|_| returns(&mut random, 10_000))));
    let (mut plain, mut effective, mut tested, mut alarms) = (0, 0, 0, 0);
    for _ in 0..10 {
        let report = check(&reference, &named((0..20).map(|_| returns(&mut random, 500))));
        alarms += report.num_drifted;
        for column in &report.columns {
            let statistics = column.statistics.as_ref().unwrap();
            tested += 1;
            plain += usize::from(ks_p_value(statistics.ks, 10_000.0, 500.0) < 0.05);
            effective += usize::from(statistics.p_value < 0.05);
        }
    }
    eprintln!(
        "clustered volatility: p below 0.05 in {plain} of {tested} plain, {effective} effective; {alarms} column alarms"
    );
    assert!(plain > tested / 10, "the plain test sees no drift, so this test shows nothing: {plain}");
    assert!(effective * 20 <= tested, "{effective} of {tested}");
    assert_eq!(alarms, 0);
}

#[test]
fn known_shifts_are_found() {
    let mut random = ChaCha8Rng::seed_from_u64(29);
    type Shift = fn(f64) -> f64;
    let shifts: [(&str, Shift); 2] = [("mean + 0.5 sd", |x| x + 0.5), ("scale x 1.5", |x| 1.5 * x)];
    for (memory, num_rows) in [(0.0, 300), (0.0, 1000), (0.0, 2000), (0.0, 5000), (0.9, 5000)] {
        let reference = profile(&named((0..20).map(|_| autoregressive(&mut random, 20_000, memory))));
        for (name, shift) in shifts {
            let (mut found, mut windows) = (0, 0);
            for _ in 0..10 {
                let current = named(
                    (0..20).map(|_| autoregressive(&mut random, num_rows, memory).into_iter().map(shift).collect()),
                );
                let report = check(&reference, &current);
                windows += 1;
                found += report.num_drifted;
                assert!(report.dataset_drifted, "{name}, memory {memory}, {num_rows} rows: {:?}", report.worst_columns);
            }
            eprintln!("{name}, memory {memory}, {num_rows} rows: {found} of {} columns found", windows * 20);
            if memory == 0.0 {
                assert!(found * 100 > 95 * windows * 20, "{name}, memory {memory}: {found} of {}", windows * 20);
            }
        }
    }
}

#[test]
fn only_the_columns_that_moved_are_named() {
    let mut random = ChaCha8Rng::seed_from_u64(31);
    let reference = profile(&named((0..10).map(|_| autoregressive(&mut random, 20_000, 0.0))));
    let mut current = named((0..10).map(|_| autoregressive(&mut random, 3_000, 0.0)));
    current[7].1.iter_mut().for_each(|x| *x += 1.0);
    current[3].1.iter_mut().for_each(|x| *x *= 2.0);
    // A shift of a tenth of a standard deviation is significant in 3,000 rows, and small.
    current[5].1.iter_mut().for_each(|x| *x += 0.15);
    let report = check(&reference, &current);
    assert_eq!((report.num_drifted, report.drifted_share, report.dataset_drifted), (2, 0.2, false));
    assert_eq!(report.worst_columns[..2], ["c7", "c3"]);
    let small = &report.columns[5];
    assert!(!small.drifted && small.statistics.as_ref().unwrap().p_adjusted < 0.05, "{small:?}");
    assert!(small.reason.contains("psi") && small.reason.starts_with("not drifted"), "{}", small.reason);
    assert_near(report.columns[7].statistics.as_ref().unwrap().wasserstein_normed.unwrap(), 1.0, 0.1);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<DriftReport>(&json).unwrap(), report);
}

#[test]
fn predictions_are_judged_apart_from_features() {
    let mut random = ChaCha8Rng::seed_from_u64(37);
    let features = named([autoregressive(&mut random, 10_000, 0.0)]);
    let scores: Columns = vec![("up".to_owned(), sequence(10_000, 37, 0.0, 1.0))];
    let classes: Vec<usize> = scores[0].1.iter().map(|&p| usize::from(p > 0.5)).collect();
    let training = Observations { features: &features, predictions: &scores, predicted_classes: Some((&classes, 2)) };
    let reference = ReferenceProfile::build(&training, &ProfileConfig::default()).unwrap();

    let features_now = named([autoregressive(&mut random, 1_000, 0.0)]);
    let scores_now: Columns = vec![("up".to_owned(), sequence(1_000, 53, 0.4, 0.6))];
    let classes_now: Vec<usize> = scores_now[0].1.iter().map(|&p| usize::from(p > 0.5)).collect();
    let now =
        Observations { features: &features_now, predictions: &scores_now, predicted_classes: Some((&classes_now, 2)) };
    let report = check_drift(&reference, &now, &DriftConfig::default()).unwrap();
    assert!(report.prediction_drifted && !report.dataset_drifted && report.num_drifted == 0, "{report:?}");
    assert!(report.predictions[0].drifted && report.predicted_classes.as_ref().unwrap().drifted);

    let same = Observations {
        features: &features_now,
        predictions: &[("up".to_owned(), sequence(1_000, 53, 0.0, 1.0))],
        predicted_classes: Some((&classes[..1_000], 2)),
    };
    let report = check_drift(&reference, &same, &DriftConfig::default()).unwrap();
    assert!(!report.prediction_drifted, "{report:?}");
    // Features alone: predictions are not checked.
    let alone = check(&reference, &features_now);
    assert!(alone.predictions.is_empty() && alone.predicted_classes.is_none());
}

#[test]
fn missing_values_are_dropped_counted_and_their_rise_reported() {
    let mut random = ChaCha8Rng::seed_from_u64(41);
    let reference = profile(&named((0..3).map(|_| autoregressive(&mut random, 5_000, 0.0))));
    let mut current = named((0..3).map(|_| autoregressive(&mut random, 1_000, 0.0)));
    current[0].1.iter_mut().step_by(5).for_each(|x| *x = f64::NAN);
    current[1].1.iter_mut().for_each(|x| *x = f64::INFINITY);
    current[2].1[0] = f64::NEG_INFINITY;
    let report = check(&reference, &current);
    assert_eq!(report.num_dropped, 200 + 1_000 + 1);
    assert_eq!(report.missing_rises, ["c0", "c1"]);
    assert_eq!(report.num_drifted, 0);
    assert_eq!(report.columns[0].missing_rate_current, 0.2);
    assert!(report.columns[1].statistics.is_none());
    assert!(report.columns[1].reason.contains("0 finite values, fewer than 100"), "{}", report.columns[1].reason);
    assert!(report.columns[1].reason.contains("rose from 0.0 % to 100.0 %"), "{}", report.columns[1].reason);
}

#[test]
fn errors_name_the_columns() {
    let reference = profile(&named((0..3).map(|k| sequence(500, 37 + k, 0.0, 1.0))));
    let says = |columns: &Columns| {
        check_drift(&reference, &Observations::of_features(columns), &DriftConfig::default()).unwrap_err().to_string()
    };
    let rows = |n: usize| sequence(n, 37, 0.0, 1.0);
    assert_eq!(says(&named([rows(99), rows(99), rows(99)])), "`rows` has 99 values; at least 100 are needed");
    assert_eq!(says(&named([rows(100)])), "missing columns `c1`, `c2`: the reference has them");
    assert_eq!(
        says(&named([rows(100), rows(100), rows(100), rows(100)])),
        "unknown columns `c3`: the reference has no such column"
    );
    assert_eq!(says(&named([rows(100), rows(101), rows(100)])), "`c1` has 101 values, expected 100");
    assert!(says(&vec![("c0".to_owned(), rows(100)), ("c0".to_owned(), rows(100))]).contains("`c0` twice"));
    let columns = named((0..3).map(|_| rows(100)));
    let classes = vec![0; 100];
    let unknown = Observations { predicted_classes: Some((&classes, 2)), ..Observations::of_features(&columns) };
    assert!(matches!(
        check_drift(&reference, &unknown, &DriftConfig::default()),
        Err(StatsError::UnknownColumns { .. })
    ));
    let mut broken = reference.clone();
    broken.features[1].sample.clear();
    let result = check_drift(&broken, &Observations::of_features(&columns), &DriftConfig::default());
    assert!(result.unwrap_err().to_string().contains("`c1`"));
}

#[test]
fn configuration_is_checked() {
    let config: DriftConfig = serde_json::from_str(r#"{"correction": "bh", "psi_threshold": 0.1}"#).unwrap();
    assert_eq!((config.correction, config.psi_threshold, config.min_rows), (Correction::Bh, 0.1, 100));
    assert!(serde_json::from_str::<DriftConfig>(r#"{"threshold": 0.1}"#).is_err());
    for config in [
        DriftConfig { p_value: 0.0, ..Default::default() },
        DriftConfig { psi_threshold: f64::NAN, ..Default::default() },
        DriftConfig { drift_share: 0.0, ..Default::default() },
        DriftConfig { min_rows: 0, ..Default::default() },
        DriftConfig { max_missing_rise: 2.0, ..Default::default() },
    ] {
        assert!(config.validate().is_err(), "{config:?}");
    }
}

proptest! {
    #[test]
    fn distances_are_symmetric_and_zero_for_equals(
        a in prop::collection::vec(-5_i32..5, 1..40),
        b in prop::collection::vec(-5_i32..5, 1..40),
    ) {
        let (a, b): (Vec<f64>, Vec<f64>) = (a.into_iter().map(f64::from).collect(), b.into_iter().map(f64::from).collect());
        let (forward, back) = (ks_two_sample(&a, &b).unwrap(), ks_two_sample(&b, &a).unwrap());
        prop_assert!((forward.statistic - back.statistic).abs() < 1e-12 && (forward.p_value - back.p_value).abs() < 1e-9);
        prop_assert!((0.0..=1.0).contains(&forward.statistic) && (0.0..=1.0).contains(&forward.p_value));
        prop_assert_eq!(ks_two_sample(&a, &a).unwrap().p_value, 1.0);
        prop_assert!((wasserstein(&a, &b).unwrap() - wasserstein(&b, &a).unwrap()).abs() < 1e-9);
        // Against the definition: the largest gap over all values.
        let share = |values: &[f64], x: f64| values.iter().filter(|&&v| v <= x).count() as f64 / values.len() as f64;
        let largest = a.iter().chain(&b).map(|&x| (share(&a, x) - share(&b, x)).abs()).fold(0.0, f64::max);
        prop_assert!((largest - forward.statistic).abs() < 1e-12);
        let (p, q) = evidently_shares(&a, &b).unwrap();
        prop_assert!((jensen_shannon(&p, &q).unwrap() - jensen_shannon(&q, &p).unwrap()).abs() < 1e-12);
        prop_assert!(psi(&p, &q).unwrap() >= 0.0 && kl_divergence(&p, &q).unwrap() >= 0.0);
    }

    #[test]
    fn check_takes_any_numbers(values in prop::collection::vec(prop::num::f64::ANY, 100..200)) {
        let columns = named([values]);
        let Ok(reference) =
            ReferenceProfile::build(&Observations::of_features(&columns), &ProfileConfig::default()) else { return Ok(()) };
        let result = check_drift(&reference, &Observations::of_features(&columns), &DriftConfig::default());
        if let Ok(report) = result {
            prop_assert_eq!(report.num_drifted, 0);
        }
    }
}
