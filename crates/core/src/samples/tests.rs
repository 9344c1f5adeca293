use moola_market::labels::LabelSpec;
use moola_market::{Bar, Bars, Interval};

use super::*;
use crate::contract::{DatasetRef, ModelSpec, OptimizerSpec, ResourceSpec, SplitSpec, WindowSpec};

fn bars(count: usize) -> Bars {
    let mut bars = Bars::with_capacity(count);
    for index in 0..count {
        let t = index as f64;
        let open = 100.0 + 5.0 * (t / 17.0).sin() + (t / 3.0).cos();
        let close = 100.0 + 5.0 * ((t + 1.0) / 17.0).sin() + ((t + 1.0) / 3.0).cos();
        let wick = 0.3 + 0.2 * (t / 41.0).sin();
        let (high, low) = (open.max(close) + wick, open.min(close) - wick);
        bars.push(Bar { time_ms: index as i64 * 3_600_000, open, high, low, close, volume: None });
    }
    bars
}

fn spec(label: LabelSpec) -> TrainingSpec {
    TrainingSpec {
        format_version: 1,
        run_id: "r1".into(),
        model_name: "m".into(),
        dataset: DatasetRef {
            name: "d".into(),
            version: "1".into(),
            sha256: String::new(),
            symbol: "X".into(),
            interval: Interval::HOUR,
        },
        window: WindowSpec { bars: 20, stride: 1, feature_set: String::new(), max_windows: 0 },
        label,
        split: SplitSpec::default(),
        model: ModelSpec::default(),
        optimizer: OptimizerSpec::default(),
        resources: ResourceSpec::default(),
        seed: 1,
        correlation_id: None,
    }
}

#[test]
fn folds_follow_each_other_and_share_no_bar() {
    let mut spec = spec(LabelSpec::ForwardReturn { horizon: 5 });
    spec.split.embargo_bars = 3;
    let set = build(&spec, &bars(1000)).unwrap();
    assert_eq!(set.task(), Task::Regression);
    assert_eq!(set.samples.len(), 1000 - 19 - 5);
    for (earlier, later) in [(&set.train, &set.validation), (&set.validation, &set.test)] {
        let last = earlier.iter().map(|&row| set.samples[row].label_end).max().unwrap();
        let first = later.iter().map(|&row| set.samples[row].end + 1 - set.history_bars).min().unwrap();
        assert!(last + 3 < first, "{last} {first}");
    }
    assert!(set.num_purged > 0);
    assert_eq!(set.num_purged + set.train.len() + set.validation.len() + set.test.len(), set.samples.len());
    assert_eq!(set, build(&spec, &bars(1000)).unwrap());
}

#[test]
fn stride_most_recent_windows_and_the_history_of_the_features_are_honoured() {
    let mut spec = spec(LabelSpec::Expansion { horizon: 4, multiple: 1.0 });
    spec.window = WindowSpec { bars: 20, stride: 3, feature_set: "core".into(), max_windows: 400 };
    let set = build(&spec, &bars(2000)).unwrap();
    assert_eq!(set.history_bars, 105);
    assert_eq!(set.samples.len(), 400);
    assert!(set.samples.windows(2).all(|pair| pair[1].end - pair[0].end == 3));
    let last = set.samples.last().unwrap();
    assert!(last.label_end < 2000 && last.label_end + 3 >= 2000, "{last:?}");
    assert_eq!(set.classes.len(), 2);
}

#[test]
fn too_few_samples_and_absent_classes_are_named() {
    let error = build(&spec(LabelSpec::ForwardReturn { horizon: 1 }), &bars(60)).unwrap_err().to_string();
    assert!(error.contains("`samples` is `40 from 60 bars`") && error.contains("at least 90"), "{error}");
    let error = build(&spec(LabelSpec::ForwardReturn { horizon: 1 }), &bars(120)).unwrap_err().to_string();
    assert!(error.contains("samples` is") || error.contains("part"), "{error}");
    let label = LabelSpec::Expansion { horizon: 4, multiple: 1000.0 };
    let error = build(&spec(label), &bars(1000)).unwrap_err().to_string();
    assert!(error.contains("`class expansion` is `absent"), "{error}");
    let mut unknown = spec(LabelSpec::ForwardReturn { horizon: 1 });
    unknown.window.feature_set = "cores".into();
    let error = build(&unknown, &bars(1000)).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::NotFound);
}
