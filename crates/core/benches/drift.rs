//! Drift check of one window (150 features, 5,000 current rows, a reference of 100,000 rows) and the bootstrap.

use divan::Bencher;
use moola_core::stats::{
    BootstrapConfig, DriftConfig, Observations, ProfileConfig, ReferenceProfile, bootstrap_mean, check_drift,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const NUM_FEATURES: usize = 150;

fn main() {
    divan::main();
}

/// Autoregressive columns: the memory is what the effective sample size has to look at.
fn columns(num_rows: usize, memory: f64, seed: u64) -> Vec<(String, Vec<f64>)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..NUM_FEATURES)
        .map(|column| {
            let mut level = 0.0;
            let values = (0..num_rows)
                .map(|_| {
                    // Sum of three uniforms: near normal, and cheap.
                    let noise: f64 = (0..3).map(|_| random.random::<f64>() - 0.5).sum::<f64>() * 2.0;
                    level = memory * level + noise * (1.0 - memory * memory).sqrt();
                    level
                })
                .collect();
            (format!("feature_{column}"), values)
        })
        .collect()
}

#[divan::bench(args = [0.0, 0.9, 0.99], sample_count = 10)]
fn check_150_features_5000_rows(bencher: Bencher<'_, '_>, memory: f64) {
    let training = columns(100_000, memory, 1);
    let reference = ReferenceProfile::build(&Observations::of_features(&training), &ProfileConfig::default())
        .expect("the training data is usable");
    drop(training);
    let current = columns(5_000, memory, 2);
    let config = DriftConfig::default();
    bencher.bench_local(|| check_drift(&reference, &Observations::of_features(&current), &config));
}

#[divan::bench(sample_count = 2)]
fn build_reference_150_features_100000_rows(bencher: Bencher<'_, '_>) {
    let training = columns(100_000, 0.9, 1);
    bencher.bench_local(|| ReferenceProfile::build(&Observations::of_features(&training), &ProfileConfig::default()));
}

#[divan::bench(sample_count = 10)]
fn bootstrap_mean_1000_resamples_5000_rows(bencher: Bencher<'_, '_>) {
    let values: Vec<f64> = (0..5_000_u32).map(|row| f64::from(row * 37 % 101)).collect();
    let config = BootstrapConfig::default();
    bencher.bench_local(|| bootstrap_mean(&values, &config));
}
