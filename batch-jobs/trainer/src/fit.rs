//! The training loop.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::backend::{Autodiff, Flex};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};
use moola_core::contract::{EpochProgress, Progress, StepProgress, Task, TrainingSpec};
use moola_core::stats;
use moola_core::{Error, Result};
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tracing::info;

use crate::data::Data;
use crate::display::Display;
use crate::error::{Stop, diverged};
use crate::evaluate;
use crate::model::{Batch, Parameters, Shape, Weights, forward, numbers};
use crate::optimizer;
use crate::progress::ProgressWriter;
use crate::state::State;
use crate::storage::Storage;

type Tracked = Autodiff<Flex>;

/// Steps before a gradient norm can be an outlier, and how many times the mean it must be.
const OUTLIER_AFTER: u64 = 50;
const OUTLIER_FACTOR: f64 = 20.0;

/// Kinds of random choices, each with its own streams of the seed.
const ORDER: u64 = 1 << 62;
const DROPOUT: u64 = 1 << 63;

/// What the loop works with.
#[derive(Debug)]
pub struct Fit<'a> {
    /// What to do.
    pub spec: &'a TrainingSpec,
    /// Digest of the spec, which checkpoints carry.
    pub spec_sha256: &'a str,
    /// The samples.
    pub data: &'a Data,
    /// Sizes of the model.
    pub shape: &'a Shape,
    /// Where checkpoints go.
    pub storage: &'a Storage,
    /// Set when training should stop.
    pub stop: &'a AtomicBool,
}

impl Fit<'_> {
    /// Trains until the last epoch or until validation does not improve; continues where `state` stands.
    ///
    /// # Errors
    /// [`Stop::Interrupted`] after a checkpoint where it was told to stop; an error where the loss or the gradient is no
    /// number, or the storage fails.
    pub fn run(
        &self,
        state: &mut State,
        parameters: &mut Parameters,
        progress: &mut ProgressWriter,
        display: &Display,
    ) -> Result<(), Stop> {
        let spec = &self.spec.optimizer;
        let targets = Targets::new(self.spec, self.data);
        let num_steps = self.data.set.train.len().div_ceil(spec.batch_size);
        let mut started = Instant::now();
        let mut epoch_started = Instant::now();
        parameters.data_mut().copy_from_slice(&state.weights);
        while !state.counters.is_done {
            let order = self.order(state.counters.epoch);
            while state.counters.step_in_epoch < num_steps {
                if self.stop.load(Ordering::Relaxed) {
                    self.checkpoint(state, progress, &mut started)?;
                    return Err(Stop::Interrupted);
                }
                let from = state.counters.step_in_epoch * spec.batch_size;
                let rows = &order[from..(from + spec.batch_size).min(order.len())];
                let record = self.step(state, parameters, &targets, rows)?;
                display.step(&record, num_steps);
                progress.push(state.counters.step, &Progress::Step(record))?;
                if state.counters.step.is_multiple_of(spec.checkpoint_steps as u64) {
                    self.checkpoint(state, progress, &mut started)?;
                }
            }
            let record = self.end_epoch(state, parameters, &targets, epoch_started)?;
            epoch_started = Instant::now();
            display.epoch(&record, spec.epochs);
            info!(
                epoch = record.epoch,
                train_loss = record.train_loss,
                validation_loss = record.validation_loss,
                "epoch done"
            );
            progress.push(state.counters.step, &Progress::Epoch(record))?;
            self.checkpoint(state, progress, &mut started)?;
        }
        Ok(())
    }

    fn checkpoint(&self, state: &mut State, progress: &mut ProgressWriter, started: &mut Instant) -> Result<()> {
        state.counters.duration_secs += started.elapsed().as_secs_f64();
        *started = Instant::now();
        // Progress first: what is before the checkpoint is not written again.
        progress.flush()?;
        state.save(self.storage, self.spec_sha256)
    }

    /// A generator of its own for every epoch and step: nothing of it has to be remembered.
    fn random(&self, stream: u64) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.spec.seed);
        random.set_stream(stream);
        random
    }

    /// The training samples in the order of an epoch.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order = self.data.set.train.clone();
        order.shuffle(&mut self.random(ORDER | epoch as u64));
        order
    }

    fn masks(&self, step: u64, num_rows: usize) -> Option<Vec<f32>> {
        let rate = self.spec.model.dropout;
        if rate <= 0.0 {
            return None;
        }
        let mut random = self.random(DROPOUT | step);
        let kept = (1.0 / (1.0 - rate)) as f32;
        let size = num_rows * self.shape.head_inputs();
        Some((0..size).map(|_| if random.random::<f64>() < rate { 0.0 } else { kept }).collect())
    }

    fn step(
        &self,
        state: &mut State,
        parameters: &mut Parameters,
        targets: &Targets,
        rows: &[usize],
    ) -> Result<StepProgress> {
        let spec = &self.spec.optimizer;
        let (step, epoch) = (state.counters.step + 1, state.counters.epoch + 1);
        let batch = Batch { masks: self.masks(step, rows.len()), ..self.data.batch(rows) };
        let Gradient { loss, weight, mut values } = gradient(self.shape, parameters, batch, targets, rows);
        if !loss.is_finite() {
            return Err(diverged("the loss", loss, step, epoch));
        }
        let norm = optimizer::global_norm(&values);
        if !norm.is_finite() {
            return Err(diverged("the gradient's norm", norm, step, epoch));
        }
        optimizer::clip(&mut values, norm, spec.max_gradient_norm);
        optimizer::adam_step(spec, step, &mut state.weights, &mut state.first, &mut state.second, &values);
        parameters.data_mut().copy_from_slice(&state.weights);
        let counters = &mut state.counters;
        if counters.step > OUTLIER_AFTER && norm > OUTLIER_FACTOR * counters.norm_sum / counters.step as f64 {
            counters.num_outliers += 1;
        }
        counters.norm_sum += norm;
        counters.step = step;
        counters.step_in_epoch += 1;
        counters.loss_sum += loss * weight;
        counters.weight_sum += weight;
        counters.num_windows += rows.len() as u64;
        Ok(StepProgress { step, epoch, loss, gradient_norm: norm, learning_rate: spec.learning_rate })
    }

    fn end_epoch(
        &self,
        state: &mut State,
        parameters: &Parameters,
        targets: &Targets,
        started: Instant,
    ) -> Result<EpochProgress> {
        let rows = &self.data.set.validation;
        let outputs = evaluate::outputs(self.shape, parameters, self.data, rows);
        let validation_loss = targets.loss(&outputs, rows);
        let validation_score = targets.score(&outputs, rows)?;
        let counters = &mut state.counters;
        let train_loss = counters.loss_sum / counters.weight_sum;
        counters.epoch += 1;
        if !validation_loss.is_finite() {
            return Err(diverged("the validation loss", validation_loss, counters.step, counters.epoch));
        }
        counters.epoch_losses = Some((counters.epoch_losses.map_or(train_loss, |(first, _)| first), train_loss));
        if counters.best_loss.is_none_or(|best| validation_loss < best) {
            counters.best_loss = Some(validation_loss);
            counters.best_epoch = counters.epoch;
            counters.epochs_without_gain = 0;
            state.best.copy_from_slice(&state.weights);
        } else {
            counters.epochs_without_gain += 1;
        }
        let spec = &self.spec.optimizer;
        let is_stuck = spec.patience > 0 && counters.epochs_without_gain >= spec.patience;
        counters.is_done = is_stuck || counters.epoch >= spec.epochs;
        (counters.step_in_epoch, counters.loss_sum, counters.weight_sum) = (0, 0.0, 0.0);
        Ok(EpochProgress {
            epoch: counters.epoch,
            train_loss,
            validation_loss,
            validation_score,
            duration_secs: started.elapsed().as_secs_f64(),
        })
    }
}

/// A batch's loss, its weight in a mean, and the gradient of all weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    /// Loss: weighted mean over the samples.
    pub loss: f64,
    /// Weight of the samples.
    pub weight: f64,
    /// Gradient of each weight.
    pub values: Vec<f32>,
}

/// Computes the loss of the samples `rows` and its gradient.
#[must_use]
pub fn gradient(shape: &Shape, parameters: &Parameters, batch: Batch, targets: &Targets, rows: &[usize]) -> Gradient {
    let device = Default::default();
    let weights = Weights::<Tracked>::new(parameters, &device).require_grad();
    let outputs = forward(shape, &weights, batch);
    let (wanted, weight) = targets.tensor(rows);
    let wanted = Tensor::<Tracked, 2>::from_data(TensorData::new(wanted, [rows.len(), shape.num_outputs]), &device);
    let loss = match shape.task {
        Task::Classification => -(log_softmax(outputs, 1) * wanted).sum(),
        Task::Regression => (outputs - wanted).square().mean(),
    };
    let gradients = loss.backward();
    let loss = numbers(loss.inner()).first().copied().map_or(f64::NAN, f64::from);
    Gradient { loss, weight, values: weights.gradients(&gradients) }
}

/// What is to be predicted, as the loss takes it.
#[derive(Debug, Clone)]
pub struct Targets {
    values: Vec<f64>,
    /// Weight of each class; empty for a regression.
    class_weights: Vec<f64>,
    target: (f64, f64),
}

impl Targets {
    /// The targets of all samples of `data`; classes weigh as `spec` says.
    #[must_use]
    pub fn new(spec: &TrainingSpec, data: &Data) -> Self {
        let values: Vec<f64> = data.set.samples.iter().map(|sample| sample.target).collect();
        let num_classes = data.set.classes.len();
        let mut class_weights = vec![1.0; num_classes];
        if spec.optimizer.class_weights {
            let mut counts = vec![0_usize; num_classes];
            data.set.train.iter().for_each(|&row| counts[values[row] as usize] += 1);
            for (weight, count) in class_weights.iter_mut().zip(counts) {
                // Mean 1 over the training samples.
                *weight = data.set.train.len() as f64 / (num_classes * count.max(1)) as f64;
            }
        }
        Self { values, class_weights, target: data.target }
    }

    /// Targets of a classification: the class of each sample, and the weight of each class.
    #[must_use]
    pub fn of_classes(classes: Vec<f64>, class_weights: Vec<f64>) -> Self {
        Self { values: classes, class_weights, target: (0.0, 1.0) }
    }

    fn standardised(&self, row: usize) -> f64 {
        (self.values[row] - self.target.0) / self.target.1
    }

    /// Of a classification the weights of the log probabilities, of a regression the standardised numbers, `[rows,
    /// outputs]`; and the weight of all rows.
    fn tensor(&self, rows: &[usize]) -> (Vec<f32>, f64) {
        if self.class_weights.is_empty() {
            return (rows.iter().map(|&row| self.standardised(row) as f32).collect(), rows.len() as f64);
        }
        let num_classes = self.class_weights.len();
        let weight: f64 = rows.iter().map(|&row| self.class_weights[self.values[row] as usize]).sum();
        let mut wanted = vec![0.0; rows.len() * num_classes];
        for (place, &row) in rows.iter().enumerate() {
            let class = self.values[row] as usize;
            wanted[place * num_classes + class] = (self.class_weights[class] / weight) as f32;
        }
        (wanted, weight)
    }

    /// The loss of outputs (probabilities or standardised numbers) of the samples `rows`.
    fn loss(&self, outputs: &[f64], rows: &[usize]) -> f64 {
        let num_outputs = self.class_weights.len().max(1);
        let (mut sum, mut weights) = (0.0, 0.0);
        for (output, &row) in outputs.chunks_exact(num_outputs).zip(rows) {
            if self.class_weights.is_empty() {
                sum += (output[0] - self.standardised(row)).powi(2);
                weights += 1.0;
            } else {
                let class = self.values[row] as usize;
                // A probability that is no number must not be clipped away.
                let p = if output[class] < 1e-12 { 1e-12 } else { output[class] };
                sum -= self.class_weights[class] * p.ln();
                weights += self.class_weights[class];
            }
        }
        sum / weights
    }

    /// Accuracy, or R2 (0 where it is undefined).
    fn score(&self, outputs: &[f64], rows: &[usize]) -> Result<f64> {
        if outputs.iter().any(|output| !output.is_finite()) {
            return Ok(f64::NAN);
        }
        if self.class_weights.is_empty() {
            let targets: Vec<f64> = rows.iter().map(|&row| self.standardised(row)).collect();
            return Ok(stats::evaluate_regression(&targets, outputs, None)?.r2.unwrap_or(0.0));
        }
        let labels: Vec<usize> = rows.iter().map(|&row| self.values[row] as usize).collect();
        let metrics = stats::evaluate_classification(&labels, outputs, self.class_weights.len(), 10);
        Ok(metrics.map_err(Error::from)?.accuracy)
    }
}
