//! Speed of the features on 74,439 hourly bars: `eurusd_h1.csv` where it is there, else a random walk.

use divan::Bencher;
use divan::counter::ItemsCount;
use moola_market::features::{FeatureSet, FeatureStream, Group, compute, compute_at_many, definitions};
use moola_market::{Bar, Bars};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

fn main() {
    divan::main();
}

const NUM_BARS: usize = 74_439;

fn bars() -> Bars {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/eurusd_h1.csv");
    read(path).unwrap_or_else(walk)
}

fn read(path: &str) -> Option<Bars> {
    let mut bars = Bars::with_capacity(NUM_BARS);
    for record in csv::Reader::from_path(path).ok()?.records() {
        let record = record.ok()?;
        let price = |index: usize| record[index].parse::<f64>().ok();
        bars.push(Bar {
            time_ms: record[0].parse::<jiff::Timestamp>().ok()?.as_millisecond(),
            open: price(1)?,
            high: price(2)?,
            low: price(3)?,
            close: price(4)?,
            volume: price(5),
        });
    }
    Some(bars)
}

fn walk() -> Bars {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut close = 1.3_f64;
    let mut bars = Bars::with_capacity(NUM_BARS);
    for index in 0..NUM_BARS {
        let open = close;
        close = open * (0.002 * (rng.random::<f64>() - 0.5)).exp();
        let wick = 1.0 + 0.001 * rng.random::<f64>();
        let time_ms = index as i64 * 3_600_000;
        bars.push(Bar {
            time_ms,
            open,
            high: open.max(close) * wick,
            low: open.min(close) / wick,
            close,
            volume: None,
        });
    }
    bars
}

/// The walk with volume, so that no feature is missing.
fn with_volume(bars: &Bars) -> Bars {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut result = Bars::with_capacity(bars.len());
    for bar in bars.iter() {
        result.push(Bar { volume: Some((1_000.0 * rng.random::<f64>()).round() + 1.0), ..bar });
    }
    result
}

/// The features that are a TA-Lib function and at most one division: what the oracle times in TA-Lib itself.
fn ta_lib_set() -> FeatureSet {
    let names: Vec<&str> = definitions()
        .iter()
        .filter(|feature| match feature.group {
            Group::Trend => feature.name != "linreg_r2_20",
            Group::Momentum | Group::Candles => true,
            Group::Returns => ["ret1_simple", "bop", "typ_dev", "wcl_dev", "gap_atr"].contains(&feature.name),
            Group::Volatility => (98..=105).contains(&feature.id) || (119..=122).contains(&feature.id),
            Group::Memory => [151, 153, 154].contains(&feature.id),
            Group::Volume | Group::Calendar => false,
        })
        .map(|feature| feature.name)
        .collect();
    FeatureSet::new("ta-lib", 1, &names, 320).expect("names come from the definitions")
}

fn builtin(name: &str) -> FeatureSet {
    FeatureSet::builtin(name).expect("a built-in set")
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn batch_all(bencher: Bencher) {
    let (bars, set) = (bars(), builtin("all"));
    bencher.counter(ItemsCount::new(bars.len())).bench(|| compute(&set, &bars));
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn batch_all_with_volume(bencher: Bencher) {
    let (bars, set) = (with_volume(&bars()), builtin("all"));
    bencher.counter(ItemsCount::new(bars.len())).bench(|| compute(&set, &bars));
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn batch_ta_lib(bencher: Bencher) {
    let (bars, set) = (bars(), ta_lib_set());
    bencher.counter(ItemsCount::new(bars.len())).bench(|| compute(&set, &bars));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn stream_all(bencher: Bencher) {
    let (bars, set) = (with_volume(&bars()), builtin("all"));
    let bars: Vec<Bar> = bars.iter().take(20_000).collect();
    bencher.counter(ItemsCount::new(bars.len())).bench(|| {
        let mut stream = FeatureStream::new(&set);
        bars.iter().map(|bar| stream.push(bar)[0]).filter(|value| value.is_finite()).count()
    });
}

#[divan::bench(args = ["all", "ohlc-105", "core"], sample_count = 5, sample_size = 1)]
fn at_1000_bars(bencher: Bencher, name: &str) {
    let (bars, set) = (bars(), builtin(name));
    let ends: Vec<usize> = (0..1_000).map(|index| 400 + index * 70).collect();
    bencher.counter(ItemsCount::new(ends.len())).bench(|| compute_at_many(&set, &bars, &ends));
}

/// Each part of the set on its own, to see where the time goes.
#[divan::bench(args = ["returns", "trend", "momentum", "volatility", "volume", "memory", "candles", "calendar"],
    sample_count = 5, sample_size = 1)]
fn batch_group(bencher: Bencher, group: &str) {
    let bars = with_volume(&bars());
    let names: Vec<&str> = definitions()
        .iter()
        .filter(|feature| format!("{:?}", feature.group).to_lowercase() == group)
        .map(|feature| feature.name)
        .collect();
    let set = FeatureSet::new("group", 1, &names, 320).expect("names come from the definitions");
    bencher.counter(ItemsCount::new(bars.len())).bench(|| compute(&set, &bars));
}
