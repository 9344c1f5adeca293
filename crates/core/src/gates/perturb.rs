//! Damage that bars may take on their way.

use moola_market::{Bar, Bars};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Moves every price by a normal whose standard deviation is `level` times the mean range of the 14 bars up to it; high
/// and low stay the extremes. Times and volumes stay.
pub(super) fn with_noise(bars: &Bars, level: f64, seed: u64) -> Bars {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut noisy = Bars::with_capacity(bars.len());
    for (index, bar) in bars.iter().enumerate() {
        let recent = index.saturating_sub(13)..=index;
        let width = recent.clone().map(|i| bars.high()[i] - bars.low()[i]).sum::<f64>() / recent.count() as f64;
        let mut moved = |price: f64| (price + level * width * normal(&mut random)).max(price * 0.5);
        let (open, high, low, close) = (moved(bar.open), moved(bar.high), moved(bar.low), moved(bar.close));
        let (high, low) = (high.max(open).max(close).max(low), low.min(open).min(close).min(high));
        noisy.push(Bar { open, high, low, close, ..bar });
    }
    noisy
}

/// Drops each bar with probability `share`, but none at `ends`; returns the bars left and where `ends` are now.
pub(super) fn with_missing_bars(bars: &Bars, share: f64, ends: &[usize], seed: u64) -> (Bars, Vec<usize>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut needed = vec![false; bars.len()];
    ends.iter().for_each(|&end| needed[end] = true);
    let mut kept = Vec::with_capacity(bars.len());
    let mut place = vec![0; bars.len()];
    for index in 0..bars.len() {
        if needed[index] || random.random::<f64>() >= share {
            place[index] = kept.len();
            kept.push(index);
        }
    }
    (bars.select(&kept), ends.iter().map(|&end| place[end]).collect())
}

/// A standard normal by Box and Muller.
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
