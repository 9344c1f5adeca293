use proptest::prelude::*;

use super::*;
use crate::bars::Bar;
use crate::simulate::{SimulationConfig, simulate};

fn bars(num_bars: usize) -> Bars {
    simulate(&SimulationConfig { num_bars, ..SimulationConfig::default() }).unwrap().bars
}

fn rows(bars: &Bars, range: std::ops::Range<usize>) -> Vec<[f64; 4]> {
    range.map(|i| [bars.open()[i], bars.high()[i], bars.low()[i], bars.close()[i]]).collect()
}

#[test]
fn a_window_is_encoded_by_hand() {
    let found = encode_rows(&[[100.0, 110.0, 95.0, 105.0], [105.0, 105.0, 84.0, 84.0]]).unwrap();
    let expected = [0.0, 1.1, 0.95, 1.05].map(|x: f64| if x == 0.0 { 0.0 } else { x.ln() as f32 });
    assert_eq!(found[..4], expected);
    assert_eq!(found[4..], [0.0, 0.0, (0.8_f64).ln() as f32, (0.8_f64).ln() as f32]);
}

#[test]
fn serving_and_training_encode_alike() {
    let bars = bars(300);
    let many = encode_many(&bars, &[104, 200], WINDOW_BARS).unwrap();
    assert_eq!(many.len(), 2 * WINDOW_BARS * NUM_CHANNELS);
    assert_eq!(many[..420], encode_rows(&rows(&bars, 0..105)).unwrap());
    assert_eq!(many[420..], encode(&bars, 200, WINDOW_BARS).unwrap());
    assert_eq!(many[420..], encode_rows(&rows(&bars, 96..201)).unwrap());
}

#[test]
fn another_length_is_refused_with_both_lengths() {
    assert!(check_length(105, WINDOW_BARS).is_ok());
    let error = check_length(104, WINDOW_BARS).unwrap_err().to_string();
    assert_eq!(error, "`window` is `104 bars`, expected exactly 105 bars");
    assert!(matches!(encode(&bars(200), 103, 105), Err(Error::TooShort { needed: 105, got: 104, .. })));
    assert!(encode(&bars(200), 200, 105).is_err());
}

#[test]
fn prices_that_are_none_are_refused_with_their_place() {
    let good = [100.0, 110.0, 95.0, 105.0];
    for (bad, place) in [
        ([100.0, 110.0, 0.0, 105.0], "row 1 low"),
        ([f64::NAN, 110.0, 95.0, 105.0], "row 1 open"),
        ([100.0, f64::INFINITY, 95.0, 105.0], "row 1 high"),
    ] {
        for error in [encode_rows(&[good, bad]).unwrap_err(), check_rows(&[good, bad]).unwrap_err()] {
            assert!(error.to_string().contains(place), "{error}");
        }
    }
    assert!(check_rows(&[good, [100.0, 104.0, 95.0, 105.0]]).unwrap_err().to_string().contains("row 1 high"));
    assert!(check_rows(&[good, [100.0, 110.0, 101.0, 105.0]]).unwrap_err().to_string().contains("row 1 low"));
    assert!(check_rows(&[good, good]).is_ok());
}

#[test]
fn windows_avoid_gaps_only_when_told() {
    let mut with_gap = Bars::default();
    for (i, bar) in bars(50).iter().enumerate() {
        let time_ms = (i as i64 + if i >= 20 { 3 } else { 0 }) * 3_600_000;
        with_gap.push(Bar { time_ms, ..bar });
    }
    let ends = |max_gap_bars| WindowConfig { num_bars: 10, max_gap_bars }.ends(&with_gap, Interval::HOUR).unwrap();
    assert_eq!(ends(None), (9..50).collect::<Vec<_>>());
    assert_eq!(ends(Some(3)), (9..50).collect::<Vec<_>>());
    assert_eq!(ends(Some(2)), (9..20).chain(29..50).collect::<Vec<_>>());
    assert!(WindowConfig { num_bars: 0, max_gap_bars: None }.ends(&with_gap, Interval::HOUR).is_err());
    assert!(WindowConfig { num_bars: 51, max_gap_bars: None }.ends(&with_gap, Interval::HOUR).unwrap().is_empty());
}

#[test]
fn scaling_brings_columns_to_mean_0_and_std_1() {
    let values: Vec<f32> = (0..400).flat_map(|i| [i as f32 * 0.5, 0.1, -(i as f32).sin()]).collect();
    let scaling = Scaling::fit(&values, 3).unwrap();
    assert_eq!(scaling.mean[0], 99.75);
    assert!((scaling.std[0] - 0.5 * ((400.0_f64 * 400.0 - 1.0) / 12.0).sqrt()).abs() < 1e-9);
    assert_eq!(scaling.std[1], 1.0);
    let mut scaled = values.clone();
    scaling.apply(&mut scaled).unwrap();
    let again = Scaling::fit(&scaled, 3).unwrap();
    for column in [0, 2] {
        assert!(again.mean[column].abs() < 1e-6 && (again.std[column] - 1.0).abs() < 1e-6);
    }
    assert!(Scaling::fit(&values[1..], 3).is_err() && Scaling::fit(&[], 3).is_err());
    assert!(Scaling::fit(&[1.0, f32::NAN], 1).is_err());
    assert!(scaling.apply(&mut [0.0]).is_err());
}

#[test]
fn annotations_are_read_and_checked() {
    let text = "{\"end\": \"2020-01-31T13:00:00Z\", \"label\": \"expansion\", \"confidence\": 0.9, \"expansion_start\": 30, \
                \"expansion_end\": 75}\n\n{\"end_ms\": 1580475600000}\n";
    let found = read_annotations(text.as_bytes(), WINDOW_BARS).unwrap();
    assert_eq!(found[0].end_ms, found[1].end_ms);
    assert_eq!((found[0].expansion_start, found[0].expansion_end), (Some(30), Some(75)));
    let json = serde_json::to_string(&found[0]).unwrap();
    assert_eq!(read_annotations(json.as_bytes(), WINDOW_BARS).unwrap()[0], found[0]);
    for (bad, word) in [
        ("{\"end\": 1, \"confidence\": 1.5}", "confidence"),
        ("{\"end\": 1, \"expansion_end\": 105}", "expansion_end"),
        ("{\"end\": 1, \"expansion_start\": 9, \"expansion_end\": 8}", "expansion_end"),
        ("{\"end\": 1, \"lable\": \"x\"}", "lable"),
        ("{\"end\": \"soon\"}", "soon"),
    ] {
        let error =
            read_annotations(format!("{{\"end\": 1}}\n{bad}\n").as_bytes(), WINDOW_BARS).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains(word), "{error}");
    }
}

proptest! {
    /// The encoding does not know the price level, nor anything outside the window.
    #[test]
    fn encoding_is_relative_and_local(seed in 0_u64..50, scale in 0.01_f64..100.0, end in 104_usize..150) {
        let bars = simulate(&SimulationConfig { seed, num_bars: 150, ..SimulationConfig::default() }).unwrap().bars;
        let window = encode(&bars, end, WINDOW_BARS).unwrap();
        let local = encode(&bars.slice(end - 104..end + 1), 104, WINDOW_BARS).unwrap();
        prop_assert_eq!(&window, &local);
        let scaled: Vec<_> = rows(&bars, end - 104..end + 1).into_iter().map(|row| row.map(|x| x * scale)).collect();
        for (a, b) in window.iter().zip(encode_rows(&scaled).unwrap()) {
            prop_assert!((a - b).abs() < 1e-6);
        }
    }
}
