//! Latency of the native engine: `cargo bench -p moola-onnx`.
#![allow(clippy::unwrap_used)] // as in tests

use std::sync::Arc;

use divan::Bencher;
use moola_core::ports::{Artifact, Engine, LoadedModel, Tensor};
use moola_onnx::TractEngine;
use moola_onnx::writer::{Dim, Direction, GraphBuilder};

const STEPS: usize = 105;
const FEATURES: usize = 4;

fn main() {
    divan::main();
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|index| ((index * 7919 % 1000) as f32 / 1000.0 - 0.5) * 0.2).collect()
}

/// Window `[batch, 105, 4]`, LSTM, dense layer to 3 classes, softmax.
fn lstm(hidden: usize) -> Vec<u8> {
    let mut graph = GraphBuilder::new("lstm");
    let x = graph.input("x", &[Dim::Batch, Dim::Fixed(STEPS), Dim::Fixed(FEATURES)]);
    let w = graph.initializer_f32("w", &[1, 4 * hidden, FEATURES], &numbers(4 * hidden * FEATURES));
    let r = graph.initializer_f32("r", &[1, 4 * hidden, hidden], &numbers(4 * hidden * hidden));
    let b = graph.initializer_f32("b", &[1, 8 * hidden], &numbers(8 * hidden));
    let dense = graph.initializer_f32("dense", &[hidden, 3], &numbers(3 * hidden));
    let x = graph.transpose(x, &[1, 0, 2]);
    let state = graph.lstm(x, w, r, Some(b), hidden, Direction::Forward).y_h;
    let state = graph.squeeze(state, &[0]);
    let logits = graph.gemm(state, dense, None, false);
    let scores = graph.softmax(logits, -1);
    graph.output(scores, "scores", &[Dim::Batch, Dim::Fixed(3)]);
    graph.finish().unwrap()
}

fn load(hidden: usize) -> Arc<dyn LoadedModel> {
    TractEngine.load(&Artifact::onnx(), &lstm(hidden)).unwrap()
}

#[divan::bench(args = [(16, 1), (64, 1), (64, 2), (64, 32), (128, 1), (128, 32)])]
fn lstm_hidden_batch(bencher: Bencher, (hidden, batch): (usize, usize)) {
    let model = load(hidden);
    let x = Tensor::new(vec![batch, STEPS, FEATURES], numbers(batch * STEPS * FEATURES)).unwrap();
    bencher.with_inputs(|| vec![x.clone()]).bench_values(|inputs| model.run(inputs).unwrap());
}

#[divan::bench(args = [16, 64])]
fn load_lstm(bencher: Bencher, hidden: usize) {
    let bytes = lstm(hidden);
    bencher.bench(|| TractEngine.load(&Artifact::onnx(), &bytes).unwrap());
}
