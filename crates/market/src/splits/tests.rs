use proptest::prelude::*;

use super::*;
use crate::labels::{LabelSpec, compute};
use crate::simulate::{SimulationConfig, simulate};

fn overlapping(num_samples: usize, num_bars: usize, horizon: usize) -> Vec<Sample> {
    (0..num_samples).map(|i| Sample { first: i, end: i + num_bars - 1, last: i + num_bars - 1 + horizon }).collect()
}

#[test]
fn folds_equal_those_of_scikit_learn() {
    let folds = time_series_split(20, 3, None, None, 2).unwrap();
    assert_eq!(folds, [(0..3, 5..10), (0..8, 10..15), (0..13, 15..20)]);
    let rolling = time_series_split(20, 3, Some(4), Some(2), 0).unwrap();
    assert_eq!(rolling, [(10..14, 14..16), (12..16, 16..18), (14..18, 18..20)]);
    assert!(time_series_split(4, 5, None, None, 0).is_err());
    assert!(time_series_split(10, 5, None, Some(2), 0).is_err());
    assert!(time_series_split(10, 0, None, None, 0).is_err());
    assert!(time_series_split(10, usize::MAX, None, Some(2), 0).is_err());
}

#[test]
fn a_holdout_leaves_out_what_overlaps_its_borders() {
    // Windows of 10 bars with labels of 5: 14 bars are shared by neighbours that are 1..=14 samples apart.
    let samples = overlapping(200, 10, 5);
    let spec = SplitSpec::Holdout { validation: 0.2, test: 0.2, embargo_bars: 3 };
    let found = split(&samples, &spec).unwrap().remove(0);
    assert_eq!((found.train.len(), found.validation.len(), found.test.len()), (120 - 17, 40 - 17, 40));
    assert_eq!((found.num_purged, found.test[0], found.validation[0], found.train[0]), (34, 160, 120, 0));
    let none = SplitSpec::Holdout { validation: 0.0, test: 0.2, embargo_bars: 0 };
    assert!(split(&samples, &none).unwrap()[0].validation.is_empty());
}

#[test]
fn what_cannot_be_split_is_refused() {
    let samples = overlapping(50, 10, 5);
    for spec in [
        SplitSpec::Holdout { validation: 0.5, test: 0.5, embargo_bars: 0 },
        SplitSpec::Holdout { validation: -0.1, test: 0.5, embargo_bars: 0 },
        SplitSpec::Holdout { validation: f64::NAN, test: 0.5, embargo_bars: 0 },
        SplitSpec::Holdout { validation: 0.2, test: 0.0, embargo_bars: 0 },
        SplitSpec::Holdout { validation: 0.2, test: 0.2, embargo_bars: 1000 },
    ] {
        assert!(split(&samples, &spec).is_err(), "{spec:?}");
    }
    let spec = SplitSpec::Holdout { validation: 0.2, test: 0.2, embargo_bars: 0 };
    assert!(split(&[], &spec).is_err());
    let mut unordered = overlapping(200, 10, 5);
    unordered.swap(3, 4);
    assert!(split(&unordered, &spec).is_err());
}

#[test]
fn samples_are_the_windows_with_a_label() {
    let bars = simulate(&SimulationConfig { num_bars: 130, ..SimulationConfig::default() }).unwrap().bars;
    let labels = compute(&LabelSpec::ForwardReturn { horizon: 5 }, &bars).unwrap();
    let ends: Vec<usize> = (104..130).collect();
    let found = samples(&ends, 105, &labels);
    assert_eq!(found.len(), 21);
    assert_eq!(found[20], Sample { first: 20, end: 124, last: 129 });
}

proptest! {
    /// No span of a part touches a span of a later part, whatever the windows, labels and gaps.
    #[test]
    fn nothing_leaks_over_a_border(
        steps in proptest::collection::vec((1_usize..4, 0_usize..12), 30..200),
        num_bars in 1_usize..15, embargo_bars in 0_usize..8, validation in 0.0_f64..0.4,
        num_folds in 1_usize..5, max_train_samples in proptest::option::of(5_usize..60), walk in any::<bool>(),
    ) {
        let mut end = num_bars;
        let samples: Vec<Sample> = steps.into_iter().map(|(step, horizon)| {
            end += step;
            Sample { first: end + 1 - num_bars, end, last: end + horizon }
        }).collect();
        let spec = if walk {
            SplitSpec::WalkForward { num_folds, test_samples: None, max_train_samples, validation, embargo_bars }
        } else {
            SplitSpec::Holdout { validation, test: 0.2, embargo_bars }
        };
        // Too short a series is refused, which is no leak.
        let Ok(splits) = split(&samples, &spec) else { return Ok(()) };
        for Split { train, validation, test, num_purged } in splits {
            let parts = [&train, &validation, &test];
            for (earlier, later) in [(0, 1), (0, 2), (1, 2)] {
                for &a in parts[earlier] {
                    for &b in parts[later] {
                        prop_assert!(samples[a].last + embargo_bars < samples[b].first);
                    }
                }
            }
            prop_assert!(!train.is_empty() && !test.is_empty());
            prop_assert!(max_train_samples.is_none_or(|max| !walk || train.len() + validation.len() <= max));
            prop_assert!(train.len() + validation.len() + test.len() + num_purged <= samples.len());
        }
    }
}
