use std::collections::BTreeMap;

use moola_market::Bar;

use super::*;

fn bars(count: usize) -> Bars {
    let mut bars = Bars::with_capacity(count);
    for index in 0..count {
        let t = index as f64;
        let open = 100.0 + 5.0 * (t / 17.0).sin() + (t / 3.0).cos();
        let close = 100.0 + 5.0 * ((t + 1.0) / 17.0).sin() + ((t + 1.0) / 3.0).cos();
        let (high, low) = (open.max(close) + 0.5, open.min(close) - 0.5);
        bars.push(Bar { time_ms: index as i64 * 3_600_000, open, high, low, close, volume: None });
    }
    bars
}

#[test]
fn scaling_knows_the_training_windows_alone() {
    let set = FeatureSet::builtin("core").unwrap();
    let plain = standard(105, Some(&set));
    let calm = bars(400);
    let train: Vec<usize> = (104..250).collect();
    let all: Vec<usize> = (104..400).collect();
    let fitted = fit(&plain, Some(&set), 105, &calm, &train, &all).unwrap();
    // Bars after the training windows do not move it.
    let mut wild = calm.slice(0..250);
    for bar in calm.slice(250..400).iter() {
        wild.push(Bar {
            open: bar.open * 9.0,
            high: bar.high * 11.0,
            low: bar.low * 5.0,
            close: bar.close * 7.0,
            ..bar
        });
    }
    assert_eq!(fitted, fit(&plain, Some(&set), 105, &wild, &train, &all).unwrap());

    let encoded = encode(&fitted, Some(&set), 105, &calm, &train).unwrap();
    assert_eq!(encoded.tensors[0].shape(), [146, 105, 4]);
    assert_eq!(encoded.tensors[1].shape(), [146, 24]);
    assert_eq!(encoded.features.len(), 146 * 24);
    // These bars open where the last one closed, so the first channel is 0 throughout.
    for channel in 1..4 {
        let values: Vec<f64> =
            encoded.tensors[0].data().iter().skip(channel).step_by(4).map(|v| f64::from(*v)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
    }
}

#[test]
fn one_window_is_encoded_as_among_many_and_from_its_history_alone() {
    let set = FeatureSet::builtin("core").unwrap();
    let all = bars(300);
    let ends: Vec<usize> = (104..300).collect();
    let inputs = fit(&standard(105, Some(&set)), Some(&set), 105, &all, &ends, &ends).unwrap();
    let many = encode(&inputs, Some(&set), 105, &all, &ends).unwrap();
    for end in [104, 200, 299] {
        let window = all.slice(end - 104..end + 1);
        let one = encode(&inputs, Some(&set), 105, &window, &[104]).unwrap();
        for (one, many) in one.tensors.iter().zip(&many.tensors) {
            let size = one.data().len();
            let row = end - 104;
            assert_eq!(one.data(), &many.data()[row * size..(row + 1) * size]);
        }
    }
}

#[test]
fn a_missing_feature_needs_a_stand_in() {
    let set = FeatureSet::new("vol", 1, &["ret1", "volume_z20"], 105);
    let Ok(set) = set else {
        let name = features::definitions().iter().find(|d| d.needs_volume).unwrap().name;
        return missing_volume(&FeatureSet::new("vol", 1, &["ret1", name], 320).unwrap());
    };
    missing_volume(&set);
}

fn missing_volume(set: &FeatureSet) {
    let mut inputs = standard(105, Some(set));
    let bars = bars(400);
    let error = encode(&inputs, Some(set), 105, &bars, &[399]).unwrap_err().to_string();
    assert!(error.contains("missing at bar 399"), "{error}");
    let name = set.features()[1].name;
    inputs[1].missing = BTreeMap::from([(name.to_owned(), 2.5)]);
    let encoded = encode(&inputs, Some(set), 105, &bars, &[399]).unwrap();
    assert_eq!(encoded.tensors[1].data()[1], 2.5);
    assert!(encoded.features[1].is_nan());
    // Without a value in training there is nothing to stand in.
    let error = fit(&standard(105, Some(set)), Some(set), 105, &bars, &[390, 391], &[399]).unwrap_err().to_string();
    assert!(error.contains(name), "{error}");
}

#[test]
fn raw_bars_are_prices_and_shapes_are_checked() {
    let bars = bars(50);
    let raw = InputSpec {
        name: "x".into(),
        kind: InputKind::RawBars,
        shape: vec![12],
        scaling: None,
        missing: BTreeMap::new(),
    };
    let encoded = encode(std::slice::from_ref(&raw), None, 3, &bars, &[10]).unwrap();
    assert_eq!(encoded.tensors[0].data()[11], bars.close()[10] as f32);
    assert_eq!(encoded.tensors[0].data()[0], bars.open()[8] as f32);
    let wrong = InputSpec { shape: vec![13], ..raw };
    let error = encode(&[wrong], None, 3, &bars, &[10]).unwrap_err().to_string();
    assert!(error.contains("`inputs.x.shape` is `[13]`, expected a shape of 12 numbers"), "{error}");
    assert!(encode(&standard(105, None), None, 105, &bars, &[10]).is_err());
    assert!(encode(&standard(105, None), None, 105, &bars, &[]).is_err());
}
