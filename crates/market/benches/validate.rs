//! Speed of reading and validating a million bars.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

use std::fmt::Write as _;
use std::hint::black_box;

use divan::counter::ItemsCount;
use moola_market::read::{RawBars, ReadOptions, read_csv, read_json};
use moola_market::validate::{ValidationConfig, validate};
use moola_market::{Bar, Bars};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const NUM_BARS: usize = 1_000_000;

fn main() {
    divan::main();
}

fn bars() -> Bars {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut bars = Bars::with_capacity(NUM_BARS);
    let mut close = 100.0_f64;
    for minute in 0..NUM_BARS {
        let open = close;
        close *= 1.0 + (rng.random::<f64>() - 0.5) * 1e-3;
        let high = open.max(close) * (1.0 + rng.random::<f64>() * 1e-4);
        let low = open.min(close) * (1.0 - rng.random::<f64>() * 1e-4);
        let volume = Some(f64::from(rng.random_range(1_u16..1000)));
        bars.push(Bar { time_ms: 1_500_000_000_000 + minute as i64 * 60_000, open, high, low, close, volume });
    }
    bars
}

#[divan::bench]
fn validate_clean(bencher: divan::Bencher<'_, '_>) {
    let raw = RawBars::from_bars(bars());
    let config = ValidationConfig::default();
    bencher.counter(ItemsCount::new(NUM_BARS)).bench_local(|| validate(black_box(&raw), &config).unwrap());
}

#[divan::bench]
fn validate_one_bad_row_in_a_thousand(bencher: divan::Bencher<'_, '_>) {
    let mut broken = Bars::with_capacity(NUM_BARS);
    for (row, mut bar) in bars().iter().enumerate() {
        if row % 1000 == 0 {
            bar.high = bar.low * 0.5;
        }
        broken.push(bar);
    }
    let raw = RawBars::from_bars(broken);
    let config = ValidationConfig::default();
    bencher.counter(ItemsCount::new(NUM_BARS)).bench_local(|| validate(black_box(&raw), &config).unwrap());
}

#[divan::bench]
fn read_a_csv_file(bencher: divan::Bencher<'_, '_>) {
    let mut text = String::from("timestamp,open,high,low,close,volume\n");
    for bar in bars().iter() {
        let time = jiff::Timestamp::from_millisecond(bar.time_ms).unwrap();
        let volume = bar.volume.unwrap_or(f64::NAN);
        writeln!(text, "{time},{:.5},{:.5},{:.5},{:.5},{volume}", bar.open, bar.high, bar.low, bar.close).unwrap();
    }
    let options = ReadOptions::default();
    bencher.counter(ItemsCount::new(NUM_BARS)).bench_local(|| read_csv(black_box(text.as_bytes()), &options).unwrap());
}

#[divan::bench]
fn read_json_lines(bencher: divan::Bencher<'_, '_>) {
    let mut text = String::new();
    for bar in bars().iter() {
        writeln!(text, "{}", serde_json::to_string(&bar).unwrap()).unwrap();
    }
    let options = ReadOptions::default();
    bencher.counter(ItemsCount::new(NUM_BARS)).bench_local(|| read_json(black_box(text.as_bytes()), &options).unwrap());
}
