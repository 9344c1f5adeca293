mod golden;

use proptest::prelude::*;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::bars::{Bar, Bars};
use crate::error::Error;

const HOUR_MS: i64 = 3_600_000;

/// The bars of a development data file, or `None`, said aloud, where it is not there.
fn read(file: &str) -> Option<Bars> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(file);
    let Ok(mut reader) = csv::Reader::from_path(&path) else {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    };
    let mut bars = Bars::default();
    for record in reader.records() {
        let record = record.unwrap();
        let text = record[0].trim_end_matches('Z');
        let time: jiff::civil::DateTime =
            if text.len() == 10 { format!("{text}T00:00:00").parse().unwrap() } else { text.parse().unwrap() };
        let number = |index: usize| record[index].parse::<f64>();
        bars.push(Bar {
            time_ms: time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_millisecond(),
            open: number(1).unwrap(),
            high: number(2).unwrap(),
            low: number(3).unwrap(),
            close: number(4).unwrap(),
            volume: number(5).ok(),
        });
    }
    Some(bars)
}

/// A seeded random walk of hourly bars with volume.
fn walk(seed: u64, len: usize) -> Bars {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut close = 100.0_f64;
    let mut bars = Bars::default();
    for index in 0..len {
        let mut step = |scale: f64| scale * (rng.random::<f64>() - 0.5);
        let open = close * step(0.002).exp();
        close = open * step(0.02).exp();
        let high = open.max(close) * step(0.01).abs().exp();
        let low = open.min(close) / step(0.01).abs().exp();
        let volume = (10.0 + step(4.0)).exp().round();
        // A weekend every 120 bars.
        let time_ms = (index as i64 + 48 * (index as i64 / 120)) * HOUR_MS;
        bars.push(Bar { time_ms, open, high, low, close, volume: Some(volume) });
    }
    bars
}

fn mapped(bars: &Bars, function: impl Fn(usize, Bar) -> Bar) -> Bars {
    let mut result = Bars::default();
    for (index, bar) in bars.iter().enumerate() {
        result.push(function(index, bar));
    }
    result
}

fn all() -> FeatureSet {
    FeatureSet::builtin("all").unwrap()
}

fn same(left: f64, right: f64) -> bool {
    left.to_bits() == right.to_bits() || (left.is_nan() && right.is_nan())
}

#[track_caller]
fn assert_stream_is_batch(bars: &Bars) {
    let set = all();
    let matrix = compute(&set, bars);
    let mut stream = FeatureStream::new(&set);
    for (row, bar) in bars.iter().enumerate() {
        for (column, &value) in stream.push(&bar).iter().enumerate() {
            let batch = matrix.value(row, column);
            assert!(same(value, batch), "{} at {row}: {value} in stream, {batch} in batch", definitions()[column].name);
            assert!(!value.is_infinite(), "{} at {row} is infinite", definitions()[column].name);
        }
    }
}

#[test]
fn there_are_175_features_with_unique_names() {
    let definitions = definitions();
    assert_eq!(definitions.len(), 175);
    for (index, feature) in definitions.iter().enumerate() {
        assert_eq!(usize::from(feature.id), index + 1, "{}", feature.name);
        assert_eq!(definition(feature.name), Some(feature), "`{}` is named twice", feature.name);
        assert!(feature.lookback < 320, "{}", feature.name);
        assert!(!feature.description.is_empty());
    }
    let sizes = |group| definitions.iter().filter(|feature| feature.group == group).count();
    let expected = [20, 34, 43, 26, 18, 14, 12, 8];
    let groups = [
        Group::Returns,
        Group::Trend,
        Group::Momentum,
        Group::Volatility,
        Group::Volume,
        Group::Memory,
        Group::Candles,
        Group::Calendar,
    ];
    assert_eq!(groups.map(sizes), expected);
    assert!(definition("rsi15").is_none());
}

#[test]
fn needs_follow_from_the_formula() {
    for feature in definitions() {
        // The spreads of Roll and of Corwin and Schultz read prices only.
        let expected = feature.group == Group::Volume && ![139, 140].contains(&feature.id);
        assert_eq!(feature.needs_volume, expected, "{}", feature.name);
        let expected = feature.id == 133 || (168..=174).contains(&feature.id);
        assert_eq!(feature.needs_time, expected, "{}", feature.name);
    }
}

#[test]
fn the_first_value_comes_after_the_lookback() {
    let bars = walk(1, 500);
    let matrix = compute(&all(), &bars);
    for (feature, column) in definitions().iter().zip(matrix.columns()) {
        let missing = column.iter().take_while(|value| value.is_nan()).count();
        assert_eq!(missing, feature.lookback, "{}", feature.name);
        assert!(column[missing..].iter().all(|value| value.is_finite()), "{} has holes", feature.name);
    }
    let lookback = |name| definition(name).unwrap().lookback;
    let expected = [("rsi14", 14), ("macd", 33), ("adx14", 27), ("dev_sma200", 199), ("frac_diff", 281), ("ret60", 60)];
    for (name, bars) in expected {
        assert_eq!(lookback(name), bars, "{name}");
    }
    assert_eq!(lookback("cloud_side"), 77);
    assert_eq!(lookback("vol_regime"), 271);
}

#[test]
fn stream_is_batch_on_a_walk() {
    assert_stream_is_batch(&walk(2, 1_500));
}

#[test]
fn stream_is_batch_on_real_files() {
    for file in ["eurusd_h1.csv", "xauusd_h1.csv", "spy_d1.csv", "btcusd_d1.csv", "vix_d1.csv", "indicator_quotes.csv"]
    {
        if let Some(bars) = read(file) {
            assert_stream_is_batch(&bars);
        }
    }
}
