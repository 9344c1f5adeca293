mod golden;

use proptest::prelude::*;
use rand::SeedableRng as _;
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

fn mapped(bars: &Bars, mut function: impl FnMut(usize, Bar) -> Bar) -> Bars {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Bars of any shape: missing prices, missing volume, zero volume, flat stretches, irregular times.
    #[test]
    fn stream_is_batch_on_any_bars(seed in any::<u64>(), len in 0..700_usize, holes in 0.0..0.3_f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rough = mapped(&walk(seed, len), |index, bar| {
            let mut bar = bar;
            if rng.random::<f64>() < holes {
                match index % 6 {
                    0 => bar.close = f64::NAN,
                    1 => bar.volume = None,
                    2 => bar.volume = Some(0.0),
                    3 => bar.low = -1.0,
                    4 => bar = Bar { high: bar.open, low: bar.open, close: bar.open, ..bar },
                    _ => bar.time_ms += 7 * HOUR_MS,
                }
            }
            bar
        });
        assert_stream_is_batch(&rough);
    }

    /// Prices and volumes of any usable size, in bars that break every rule.
    #[test]
    fn stream_is_batch_on_senseless_prices(
        rows in prop::collection::vec((-30.0..30.0_f64, -30.0..30.0_f64, -30.0..30.0_f64, -30.0..30.0_f64, -9.0..30.0_f64), 400)
    ) {
        let mut bars = Bars::default();
        for (index, (open, high, low, close, volume)) in rows.into_iter().enumerate() {
            let [open, high, low, close, volume] = [open, high, low, close, volume].map(|power| 10.0_f64.powf(power));
            bars.push(Bar { time_ms: index as i64 * HOUR_MS, open, high, low, close, volume: Some(volume) });
        }
        assert_stream_is_batch(&bars);
    }

    #[test]
    fn a_value_at_a_bar_is_the_last_of_its_slice(seed in any::<u64>(), extra in 0..200_usize) {
        let bars = walk(seed, 320 + extra);
        for name in FeatureSet::builtins() {
            let set = FeatureSet::builtin(name).unwrap();
            let ends = [set.history_bars() - 1, bars.len() - 1];
            let values = compute_at_many(&set, &bars, &ends).unwrap();
            for (end, values) in ends.into_iter().zip(values.chunks(set.len())) {
                let slice = compute(&set, &bars.slice(end + 1 - set.history_bars()..end + 1));
                for (column, &value) in values.iter().enumerate() {
                    let last = slice.value(set.history_bars() - 1, column);
                    prop_assert!(same(value, last), "{}: {} and {}", set.features()[column].name, value, last);
                    prop_assert!(value.is_finite());
                }
            }
        }
    }
}

#[test]
fn later_bars_change_nothing() {
    let bars = walk(3, 900);
    let whole = compute(&all(), &bars);
    for len in [0, 1, 2, 21, 105, 321, 640] {
        let part = compute(&all(), &bars.slice(0..len));
        assert_eq!(part.num_rows(), len);
        for (column, feature) in definitions().iter().enumerate() {
            for row in 0..len {
                assert!(same(whole.value(row, column), part.value(row, column)), "{} at {row} of {len}", feature.name);
            }
        }
    }
}

#[test]
fn the_scale_of_prices_changes_nothing() {
    let bars = walk(4, 1_200);
    let scale = 10_000.0;
    let scaled = mapped(&bars, |_, bar| Bar {
        open: bar.open * scale,
        high: bar.high * scale,
        low: bar.low * scale,
        close: bar.close * scale,
        ..bar
    });
    let (plain, scaled) = (compute(&all(), &bars), compute(&all(), &scaled));
    // These are in units of price, by definition: the scale is really another one.
    for name in ["frac_diff", "amihud20", "kyle20"] {
        let column = usize::from(definition(name).unwrap().id) - 1;
        let (plain, scaled) = (plain.value(1_199, column), scaled.value(1_199, column));
        assert!((plain / scaled - 1.0).abs() > 0.1, "{name}: {plain} and {scaled}");
    }
    for (column, feature) in definitions().iter().enumerate() {
        let is_scale_free = feature.group != Group::Volume && feature.name != "frac_diff";
        let largest_change = (0..bars.len())
            .map(|row| (plain.value(row, column), scaled.value(row, column)))
            .filter(|(plain, scaled)| !(plain.is_nan() && scaled.is_nan()))
            .map(|(plain, scaled)| (plain - scaled).abs() / plain.abs().max(1.0))
            .fold(0.0, |largest: f64, change| if change > largest || change.is_nan() { change } else { largest });
        if is_scale_free {
            assert!(largest_change < 1e-7, "{} changes by {largest_change}", feature.name);
        }
    }
}

#[test]
fn flat_bars_give_zero_shares_and_missing_ratios() {
    let flat = |_: usize, bar: Bar| Bar { open: 100.0, high: 100.0, low: 100.0, close: 100.0, ..bar };
    let bars = mapped(&walk(5, 600), flat);
    assert_stream_is_batch(&bars);
    let matrix = compute(&all(), &bars);
    let last = |name: &str| matrix.value(599, usize::from(definition(name).unwrap().id) - 1);
    let zero = [
        "ret1",
        "ret_intra",
        "range_ln",
        "clv",
        "bop",
        "body",
        "wick_up",
        "wick_dn",
        "dev_sma20",
        "dev_ema200",
        "macd",
        "natr14",
        "bb_width20",
        "std20",
        "ewma_vol",
        "parkinson20",
        "garman_klass20",
        "yang_zhang20",
        "ulcer14",
        "max_drawdown60",
        "roll20",
        "corwin_schultz",
        "perm_entropy50",
        "cusum",
        "cdl_engulfing",
        "cdl_hammer",
        "obv_change20",
        "vol_regime",
        "bipower20",
        "vol_of_vol20",
        "amihud20",
        "cloud_side",
    ];
    for name in zero {
        assert_eq!(last(name), 0.0, "{name}");
    }
    let missing = [
        "gap_atr",
        "ret20_z",
        "percent_b20",
        "kc_pos20",
        "donchian_pos20",
        "donchian_pos55",
        "std5_std60",
        "jump_share20",
        "linreg_r2_20",
        "skew20",
        "kurt60",
        "autocorr1_20",
        "autocorr5_60",
        "hurst100",
        "variance_ratio60",
        "z20",
        "z60",
        "kyle20",
    ];
    for name in missing {
        assert!(last(name).is_nan(), "{name} is {}", last(name));
    }
    // Within a longer series too: nothing is left over from the bars before the flat stretch.
    let mixed = mapped(&walk(6, 900), |index, bar| if (300..400).contains(&index) { flat(index, bar) } else { bar });
    assert_stream_is_batch(&mixed);
    let matrix = compute(&all(), &mixed);
    let column = |name: &str| &matrix.column(usize::from(definition(name).unwrap().id) - 1)[361..400];
    for name in ["ret20_z", "percent_b20", "donchian_pos20", "donchian_pos55", "std5_std60", "z20", "skew20", "kurt60"]
    {
        assert!(column(name).iter().all(|value| value.is_nan()), "{name} is {:?}", column(name));
    }
    for name in ["bb_width20", "std20", "ulcer14", "bipower20"] {
        assert!(column(name).iter().all(|value| *value == 0.0), "{name} is {:?}", column(name));
    }
}

#[test]
fn without_volume_only_volume_features_are_missing() {
    let bars = walk(7, 400);
    let plain = compute(&all(), &bars);
    for volume in [None, Some(0.0), Some(f64::NAN), Some(f64::INFINITY), Some(-1.0)] {
        let without = mapped(&bars, |_, bar| Bar { volume, ..bar });
        assert_stream_is_batch(&without);
        let matrix = compute(&all(), &without);
        for (column, feature) in definitions().iter().enumerate() {
            for row in 0..bars.len() {
                let expected = if feature.needs_volume { f64::NAN } else { plain.value(row, column) };
                assert!(same(matrix.value(row, column), expected), "{} at {row} for {volume:?}", feature.name);
            }
        }
    }
}

#[test]
fn volume_features_start_at_the_first_volume() {
    let bars = walk(8, 400);
    let late = mapped(&bars, |index, bar| if index < 50 { Bar { volume: Some(0.0), ..bar } } else { bar });
    let (matrix, rest) = (compute(&all(), &late), compute(&all(), &bars.slice(50..400)));
    for (column, feature) in definitions().iter().enumerate().filter(|(_, feature)| feature.needs_volume) {
        for row in 0..400 {
            let expected = if row < 50 { f64::NAN } else { rest.value(row - 50, column) };
            assert!(same(matrix.value(row, column), expected), "{} at {row}", feature.name);
        }
    }
}

#[test]
fn an_unusable_bar_is_as_if_it_did_not_exist() {
    let bars = walk(9, 500);
    let bad_rows = [0, 100, 101, 300];
    let breaks: [fn(&mut Bar); 5] = [
        |bar| bar.open = f64::NAN,
        |bar| bar.high = f64::INFINITY,
        |bar| bar.low = 0.0,
        |bar| bar.close = -1.0,
        |bar| bar.close = 1e40,
    ];
    for (which, spoil) in breaks.into_iter().enumerate() {
        let spoilt = mapped(&bars, |index, mut bar| {
            if bad_rows.contains(&index) {
                spoil(&mut bar);
            }
            bar
        });
        assert_stream_is_batch(&spoilt);
        let good: Vec<usize> = (0..500).filter(|row| !bad_rows.contains(row)).collect();
        let (matrix, clean) = (compute(&all(), &spoilt), compute(&all(), &bars.select(&good)));
        for (column, feature) in definitions().iter().enumerate() {
            for row in bad_rows {
                assert!(matrix.value(row, column).is_nan(), "{} at {row}, break {which}", feature.name);
            }
            for (clean_row, &row) in good.iter().enumerate() {
                assert!(same(matrix.value(row, column), clean.value(clean_row, column)), "{} at {row}", feature.name);
            }
        }
        let at = compute_at(&all(), &spoilt, 400).unwrap();
        let slice = compute(&all(), &spoilt.slice(81..401));
        assert!(at.iter().enumerate().all(|(column, &value)| same(value, slice.value(319, column))));
        assert!(compute_at(&FeatureSet::builtin("core").unwrap(), &spoilt, 300).unwrap().iter().all(|v| v.is_nan()));
    }
}

#[test]
fn too_few_bars_are_refused() {
    let set = FeatureSet::builtin("core").unwrap();
    let bars = walk(10, 200);
    assert!(compute_at(&set, &bars, 104).is_ok());
    let error = compute_at(&set, &bars, 103).unwrap_err();
    assert_eq!(error, Error::TooShort { what: "feature set `core`".to_owned(), needed: 105, got: 104 });
    let error = compute_at_many(&set, &bars, &[150, 200]).unwrap_err();
    assert_eq!(error.to_string(), "`end` is `200`, expected an index below the number of bars, 200");
}

#[test]
fn built_in_sets_hold_what_they_promise() {
    let set = all();
    assert_eq!((set.len(), set.history_bars(), set.needs_volume(), set.needs_time()), (175, 320, true, true));
    for name in ["ohlc-105", "core"] {
        let set = FeatureSet::builtin(name).unwrap();
        assert_eq!((set.history_bars(), set.needs_volume(), set.needs_time()), (105, false, false));
        assert!(set.features().iter().all(|feature| feature.lookback <= 104));
    }
    let (wide, core) = (FeatureSet::builtin("ohlc-105").unwrap(), FeatureSet::builtin("core").unwrap());
    assert_eq!(core.len(), 24);
    assert!(core.features().iter().all(|feature| wide.features().contains(feature)));
    assert_eq!(FeatureSet::builtins().len(), 3);
    let error = FeatureSet::builtin("cores").unwrap_err();
    assert_eq!(error.to_string(), "feature set `cores` does not exist; did you mean `core`?");
}

#[test]
fn a_set_is_checked() {
    let message = |names: &[&str], bars| FeatureSet::new("mine", 1, names, bars).unwrap_err().to_string();
    assert_eq!(message(&["rsi15"], 105), "feature `rsi15` does not exist; did you mean `rsi14`?");
    assert_eq!(message(&["ret1", "ret1"], 105), "`features` is `ret1`, expected each feature once");
    assert_eq!(message(&[], 105), "`features` is `[]`, expected at least one feature");
    assert_eq!(message(&["ret1", "adx14"], 27), "`history_bars` is `27`, expected at least 28 for `adx14`");
    assert!(FeatureSet::new("a b", 1, &["ret1"], 105).is_err());
}

#[test]
fn the_hash_covers_everything_and_is_verified() {
    let set = FeatureSet::new("mine", 1, &["ret1", "rsi14"], 105).unwrap();
    let others = [
        FeatureSet::new("yours", 1, &["ret1", "rsi14"], 105),
        FeatureSet::new("mine", 2, &["ret1", "rsi14"], 105),
        FeatureSet::new("mine", 1, &["rsi14", "ret1"], 105),
        FeatureSet::new("mine", 1, &["ret1", "rsi2"], 105),
        FeatureSet::new("mine", 1, &["ret1", "rsi14"], 106),
    ];
    for other in others {
        assert_ne!(other.unwrap().hash(), set.hash());
    }
    let text = serde_json::to_string(&set).unwrap();
    assert!(text.starts_with(r#"{"name":"mine","version":1,"history_bars":105,"features":["ret1","rsi14"],"hash":""#));
    let read: FeatureSet = serde_json::from_str(&text).unwrap();
    assert_eq!(read, set);
    assert_eq!(compute_at(&read, &walk(11, 105), 104), compute_at(&set, &walk(11, 105), 104));
    let forged = text.replace("rsi14", "rsi21");
    let error = serde_json::from_str::<FeatureSet>(&forged).unwrap_err().to_string();
    let right = FeatureSet::new("mine", 1, &["ret1", "rsi21"], 105).unwrap();
    assert!(error.contains(set.hash()) && error.contains(right.hash()), "{error}");
}

/// The hash of the built-in sets changes only with a new version of them or of the code.
#[test]
fn the_hash_of_core_is_stable() {
    let expected = "454d0f7bd532a26429be027243e7551782575eb8fd420e0d4b99549b7bd66d47";
    assert_eq!(FeatureSet::builtin("core").unwrap().hash(), expected);
}

#[test]
fn calendar_features_read_the_clock() {
    let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let times = [
        "2024-05-30T05:00:00Z",
        "2024-05-31T06:30:00Z",
        "2024-05-31T07:30:00Z",
        "2024-05-31T08:30:00Z",
        "2024-05-31T13:30:00Z",
        "2024-05-31T21:30:00Z",
        "2024-06-01T00:00:00Z",
    ];
    let mut bars = Bars::default();
    for time in times {
        bars.push(Bar { time_ms: at(time), open: 1.0, high: 1.0, low: 1.0, close: 1.0, volume: None });
    }
    let matrix = compute(&all(), &bars);
    let column = |name: &str| matrix.column(usize::from(definition(name).unwrap().id) - 1);
    assert_eq!(column("session"), [0.0, 0.0, 1.0, 1.0, 2.0, 3.0, 0.0]);
    assert_eq!(column("month_end"), [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
    assert_eq!(&column("bars_since_gap")[1..], [1.0, 2.0, 3.0, 0.0, 0.0, 0.0]);
    // Thursday is day 3, Saturday day 5.
    assert!((column("weekday_sin")[0] - (std::f64::consts::TAU * 3.0 / 7.0).sin()).abs() < 1e-12);
    assert!((column("weekday_cos")[6] - (std::f64::consts::TAU * 5.0 / 7.0).cos()).abs() < 1e-12);
    assert!((column("hour_sin")[1] - (std::f64::consts::TAU * 6.5 / 24.0).sin()).abs() < 1e-12);
    assert_eq!(column("hour_cos")[6], 1.0);
}
