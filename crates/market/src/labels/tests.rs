use proptest::prelude::*;

use super::*;
use crate::bars::Bar;
use crate::read::{ReadOptions, read_csv};
use crate::simulate::{SimulationConfig, simulate};
use crate::validate::tests::shared;

fn bars(seed: u64, num_bars: usize) -> Bars {
    simulate(&SimulationConfig { seed, num_bars, ..SimulationConfig::default() }).unwrap().bars
}

fn barrier(touch: Touch, vertical: Vertical) -> LabelSpec {
    LabelSpec::TripleBarrier { horizon: 10, multiple: 1.0, span: 100, touch, vertical }
}

fn spec(text: &str) -> LabelSpec {
    serde_json::from_str(text).unwrap()
}

#[test]
fn specs_have_defaults_and_refuse_unknown_fields() {
    assert_eq!(spec(r#"{"kind": "triple_barrier"}"#), barrier(Touch::Close, Vertical::Flat));
    assert_eq!(spec(r#"{"kind": "expansion"}"#), LabelSpec::Expansion { horizon: 10, multiple: 1.0 });
    assert_eq!(spec(r#"{"kind": "forward_return"}"#), LabelSpec::ForwardReturn { horizon: 1 });
    assert!(serde_json::from_str::<LabelSpec>(r#"{"kind": "expansion", "horizons": 3}"#).is_err());
    let bars = bars(1, 50);
    for bad in [
        r#"{"kind": "expansion", "horizon": 0}"#,
        r#"{"kind": "expansion", "multiple": -1}"#,
        r#"{"kind": "triple_barrier", "span": 1}"#,
        r#"{"kind": "supplied", "column": "signal"}"#,
    ] {
        assert!(compute(&spec(bad), &bars).is_err(), "{bad}");
    }
}

#[test]
fn spy_triple_barrier_counts_match() {
    let Some(bytes) = shared("spy_d1.csv") else { return };
    let bars = read_csv(&bytes, &ReadOptions::default()).unwrap().bars;
    let labels = compute(&barrier(Touch::Close, Vertical::Flat), &bars).unwrap();
    assert_eq!(labels.class_counts(), [2209, 181, 2741]);
    let by_sign = compute(&barrier(Touch::Close, Vertical::Sign), &bars).unwrap().class_counts();
    assert_eq!(by_sign.iter().sum::<usize>(), 5131);
    assert!(by_sign[1] < 5);
    let touched = compute(&barrier(Touch::HighLow, Vertical::Flat), &bars).unwrap().class_counts();
    assert!(touched[1] < 181, "{touched:?}");
}

#[test]
fn expansion_is_neither_rare_nor_usual_on_real_bars() {
    let Some(bytes) = shared("eurusd_h1.csv") else { return };
    let bars = read_csv(&bytes, &ReadOptions::default()).unwrap().bars;
    let counts = compute(&spec(r#"{"kind": "expansion"}"#), &bars).unwrap().class_counts();
    let share = counts[1] as f64 / counts.iter().sum::<usize>() as f64;
    eprintln!("eurusd: share of expansion {share:.3}");
    assert!((0.2..0.7).contains(&share), "{share}");
}

/// A bar that spans `low..high`, opens and closes at `close`.
fn bar(hour: i64, low: f64, high: f64, close: f64) -> Bar {
    Bar { time_ms: hour * 3_600_000, open: close, high, low, close, volume: None }
}

#[test]
fn expansion_compares_the_range_that_follows() {
    // An ATR of 2 at every bar; the four bars after bar 20 span 100 ± 5: 10 against 2 * sqrt(4) * multiple.
    let mut series = Bars::default();
    for hour in 0..40 {
        let wide = if (21..25).contains(&hour) { 5.0 } else { 1.0 };
        series.push(bar(hour, 100.0 - wide, 100.0 + wide, 100.0));
    }
    let at = |multiple: f64| compute(&LabelSpec::Expansion { horizon: 4, multiple }, &series).unwrap();
    assert_eq!((at(2.49).class(20), at(2.51).class(20)), (Some(1), Some(0)));
    let labels = at(2.0);
    assert_eq!(
        (labels.class(13), labels.class(14), labels.class(35), labels.class(36)),
        (None, Some(0), Some(0), None)
    );
    assert_eq!((labels.last[20], labels.last[36]), (24, 36));
}

#[test]
fn the_stop_comes_first_where_one_bar_touches_both() {
    let mut series = Bars::default();
    for hour in 0..130 {
        let close = if hour % 2 == 0 { 100.0 } else { 100.1 };
        let (low, high) = if hour == 120 { (90.0, 110.0) } else { (close, close) };
        series.push(bar(hour, low, high, close));
    }
    let spec = LabelSpec::TripleBarrier {
        horizon: 5,
        multiple: 3.0,
        span: 100,
        touch: Touch::HighLow,
        vertical: Vertical::Flat,
    };
    let labels = compute(&spec, &series).unwrap();
    assert_eq!((labels.class(118), labels.last[118]), (Some(0), 120));
    assert_eq!((labels.class(110), labels.last[110]), (Some(1), 115));
}

#[test]
fn supplied_labels_are_checked() {
    let mut bars = bars(1, 4);
    bars.set_extra("signal", vec![0.0, f64::NAN, 1.0, 1.0]).unwrap();
    let with = |classes: &[&str], horizon| LabelSpec::Supplied {
        column: "signal".into(),
        classes: classes.iter().map(|name| (*name).to_owned()).collect(),
        horizon,
    };
    let labels = compute(&with(&["no", "yes"], 1), &bars).unwrap();
    assert_eq!(labels.values, [Some(0.0), None, Some(1.0), None]);
    assert_eq!((labels.last, labels.classes.len()), (vec![1, 1, 3, 3], 2));
    assert!(compute(&with(&["no"], 0), &bars).unwrap_err().to_string().contains("`signal`"));
    assert!(compute(&with(&[], 0), &bars).unwrap().class(0).is_none());
}

#[test]
fn the_target_is_that_of_pandas() {
    // pandas: Series([1, 2, 4, 3, 5]).pct_change().ewm(span=3).std(), by hand with weights 1/2^k.
    let found = return_std(&[1.0, 2.0, 4.0, 3.0, 5.0], 3);
    let returns = [1.0, 1.0, -0.25, 2.0 / 3.0];
    for (t, found) in found.into_iter().enumerate().skip(1) {
        let weights: Vec<f64> = (0..t).map(|k| 0.5_f64.powi((t - 1 - k) as i32)).collect();
        let sum: f64 = weights.iter().sum();
        let mean = weights.iter().zip(returns).map(|(w, r)| w * r).sum::<f64>() / sum;
        let variance = weights.iter().zip(returns).map(|(w, r)| w * (r - mean).powi(2)).sum::<f64>() / sum;
        let bias = sum * sum / (sum * sum - weights.iter().map(|w| w * w).sum::<f64>());
        if t == 1 {
            assert!(found.is_nan());
        } else {
            assert!((found - (variance * bias).sqrt()).abs() < 1e-12, "{t}");
        }
    }
}

proptest! {
    /// A label never knows more than it says: on the first bars alone, every label that fits is the same.
    #[test]
    fn labels_do_not_look_past_their_span(seed in 0_u64..1000, cut in 1_usize..260, horizon in 1_usize..20) {
        let all = bars(seed, 260);
        let head = all.slice(0..cut);
        let specs = [
            LabelSpec::Expansion { horizon, multiple: 1.0 },
            LabelSpec::ForwardReturn { horizon },
            LabelSpec::TripleBarrier { horizon, multiple: 1.0, span: 20, touch: Touch::Close, vertical: Vertical::Flat },
            LabelSpec::TripleBarrier { horizon, multiple: 0.5, span: 20, touch: Touch::HighLow, vertical: Vertical::Sign },
        ];
        for spec in specs {
            let (long, short) = (compute(&spec, &all).unwrap(), compute(&spec, &head).unwrap());
            for t in 0..cut {
                prop_assert!(long.last[t] >= t && long.last[t] <= t + horizon);
                if t + horizon < cut {
                    prop_assert_eq!(long.values[t], short.values[t], "{:?} at {}", spec, t);
                    prop_assert_eq!(long.last[t], short.last[t]);
                } else {
                    prop_assert_eq!(short.values[t], None);
                }
            }
            // Bars after the span do not matter even where they are absurd.
            let mut columns = head.iter().collect::<Vec<_>>();
            columns.extend((cut..260).map(|i| bar(1_000_000 + i as i64, 1e-6, 1e9, 1e3)));
            let mut odd = Bars::default();
            columns.into_iter().for_each(|bar| odd.push(bar));
            let odd = compute(&spec, &odd).unwrap();
            for t in (0..cut).filter(|&t| long.last[t] < cut && odd.last[t] < cut) {
                prop_assert_eq!(long.values[t], odd.values[t]);
            }
        }
    }
}
