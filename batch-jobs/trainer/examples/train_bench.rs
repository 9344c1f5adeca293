//! Prints windows per second of training steps (forward, backward, clipping, AdamW) by size.
//!
//! `cargo run --release -p moola-trainer --example train_bench [steps]`

use std::time::Instant;

use moola_core::contract::{ModelSpec, OptimizerSpec, Task};
use moola_trainer::fit::{Targets, gradient};
use moola_trainer::model::{Batch, Parameters, Shape};
use moola_trainer::optimizer;

fn main() {
    moola_trainer::keep_freed_memory();
    let steps: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(8);
    println!("BiLSTM + attention, windows of 105 bars, windows/s");
    println!("{:>8} {:>10} {:>10} {:>10}", "hidden", "batch 32", "batch 128", "batch 256");
    for hidden_size in [32, 64, 128] {
        let speeds = [32, 128, 256].map(|batch| windows_per_sec(hidden_size, batch, steps));
        println!("{hidden_size:>8} {:>10.0} {:>10.0} {:>10.0}", speeds[0], speeds[1], speeds[2]);
    }
}

fn windows_per_sec(hidden_size: usize, num_rows: usize, steps: usize) -> f64 {
    let spec = ModelSpec { hidden_size, ..ModelSpec::default() };
    let shape = Shape::new(&spec, Task::Classification, 105, 4, 24, 3);
    let mut parameters = Parameters::new(&shape, 1);
    let optimizer_spec = OptimizerSpec::default();
    let (mut first, mut second) = (vec![0.0; parameters.data().len()], vec![0.0; parameters.data().len()]);
    let numbers = |count: usize| (0..count).map(|index| (index as f32 * 0.37).sin()).collect::<Vec<f32>>();
    let batch = Batch { num_rows, bars: numbers(num_rows * 105 * 4), features: numbers(num_rows * 24), masks: None };
    let rows: Vec<usize> = (0..num_rows).collect();
    let targets = Targets::of_classes(rows.iter().map(|row| (row % 3) as f64).collect(), vec![1.0; 3]);
    let mut best = f64::INFINITY;
    for step in 0..steps as u64 {
        let started = Instant::now();
        let mut result = gradient(&shape, &parameters, batch.clone(), &targets, &rows);
        let norm = optimizer::global_norm(&result.values);
        optimizer::clip(&mut result.values, norm, 1.0);
        let weights = parameters.data_mut();
        optimizer::adam_step(&optimizer_spec, step + 1, weights, &mut first, &mut second, &result.values);
        if step > 0 {
            best = best.min(started.elapsed().as_secs_f64());
        }
    }
    num_rows as f64 / best
}
