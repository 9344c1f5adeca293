//! Integration tests of the ONNX crate.
#![allow(clippy::unwrap_used)] // clippy exempts test functions alone, not their helpers

mod engine;
mod fixtures;
mod malformed;
mod writer;

use moola_core::ports::{Artifact, Engine, Tensor};
use moola_onnx::TractEngine;
use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `count` numbers in -1..1, the same for the same seed.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn tensor(shape: &[usize], data: Vec<f32>) -> Tensor {
    Tensor::new(shape.to_vec(), data).unwrap()
}

fn run(model: &[u8], inputs: Vec<Tensor>) -> Vec<Tensor> {
    TractEngine.load(&Artifact::onnx(), model).unwrap().run(inputs).unwrap()
}

#[track_caller]
fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len());
    for (index, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance * e.abs().max(1.0), "number {index} is {a}, expected {e}");
    }
}
