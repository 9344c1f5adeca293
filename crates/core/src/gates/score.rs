//! Forecasts of a model on samples, and their losses.

use std::time::Instant;

use moola_market::Bars;
use serde::{Deserialize, Serialize};

use super::GateReport;
use crate::contract::{ModelManifest, Task};
use crate::error::{Error, Result};
use crate::inputs;
use crate::ports::LoadedModel;
use crate::samples::SampleSet;
use crate::stats::{evaluate_classification, evaluate_regression};

const BATCH: usize = 256;
const CALIBRATION_BINS: usize = 10;
const LATENCY_CALLS: usize = 200;
/// Probabilities are kept this far from 0 in a log loss.
const CLIP: f64 = 1e-7;

/// Time of one prediction, its features included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// Calls measured.
    pub num_calls: usize,
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// Samples with their bars, ready to be forecast.
#[derive(Debug)]
pub struct Evaluation<'a> {
    bars: &'a Bars,
    ends: Vec<usize>,
    targets: Vec<f64>,
    classes: Option<usize>,
}

impl<'a> Evaluation<'a> {
    /// The samples `rows` of `set` over `bars`, for models that predict what `manifest` does.
    ///
    /// # Errors
    /// `Invalid` where there are fewer than 20 samples, or a class is unknown to the model.
    pub fn new(set: &SampleSet, bars: &'a Bars, rows: &[usize], manifest: &ModelManifest) -> Result<Self> {
        if rows.len() < 20 {
            return Err(Error::invalid("test samples", rows.len(), "at least 20"));
        }
        let targets: Vec<f64> = rows.iter().map(|&row| set.samples[row].target).collect();
        let classes = (manifest.task == Task::Classification).then_some(manifest.classes.len());
        if let Some(classes) = classes
            && let Some(target) = targets.iter().find(|target| **target as usize >= classes)
        {
            return Err(Error::invalid("class", target, format!("one of the model's {classes} classes")));
        }
        Ok(Self { bars, ends: rows.iter().map(|&row| set.samples[row].end).collect(), targets, classes })
    }

    /// The same targets over other bars, where the samples end at `ends`; those without enough history are left out.
    pub(super) fn on_other_bars<'b>(&self, bars: &'b Bars, ends: Vec<usize>, history: usize) -> Evaluation<'b> {
        let (ends, targets) = ends
            .into_iter()
            .zip(&self.targets)
            .filter(|(end, _)| end + 1 >= history)
            .map(|(end, target)| (end, *target))
            .unzip();
        Evaluation { bars, ends, targets, classes: self.classes }
    }

    /// Number of classes, of a classification.
    #[must_use]
    pub fn num_classes(&self) -> Option<usize> {
        self.classes
    }

    /// Forecasts, row-major `[samples, classes]` or `[samples]`.
    ///
    /// # Errors
    /// Those of encoding the inputs and of the model; `Invalid` where the outputs are no probabilities.
    pub fn forecast(&self, manifest: &ModelManifest, model: &dyn LoadedModel) -> Result<Vec<f64>> {
        let mut forecasts = Vec::with_capacity(self.ends.len() * self.classes.unwrap_or(1));
        for ends in self.ends.chunks(BATCH) {
            forecasts.extend(self.forecast_at(manifest, model, ends)?);
        }
        Ok(forecasts)
    }

    fn forecast_at(&self, manifest: &ModelManifest, model: &dyn LoadedModel, ends: &[usize]) -> Result<Vec<f64>> {
        let encoded =
            inputs::encode(&manifest.inputs, manifest.feature_set.as_ref(), manifest.window_bars, self.bars, ends)?;
        inputs::read_output(manifest, model, model.run(encoded.tensors)?, ends.len())
    }

    /// Loss of each sample: minus the log of the probability of what happened, or the squared error.
    #[must_use]
    pub fn losses(&self, forecasts: &[f64]) -> Vec<f64> {
        match self.classes {
            Some(classes) => forecasts
                .chunks(classes)
                .zip(&self.targets)
                .map(|(row, target)| -row[*target as usize].clamp(CLIP, 1.0).ln())
                .collect(),
            None => forecasts.iter().zip(&self.targets).map(|(forecast, target)| (forecast - target).powi(2)).collect(),
        }
    }

    /// 1 where the most probable class is what happened, else 0; `None` for a regression.
    #[must_use]
    pub fn hits(&self, forecasts: &[f64]) -> Option<Vec<f64>> {
        let classes = self.classes?;
        let hit = |(row, target): (&[f64], &f64)| {
            let best = (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            f64::from(best == Some(*target as usize))
        };
        Some(forecasts.chunks(classes).zip(&self.targets).map(hit).collect())
    }

    pub(super) fn metrics(&self, name: &str, forecasts: &[f64], report: &mut GateReport) -> Result<()> {
        match self.classes {
            Some(classes) => {
                let labels: Vec<usize> = self.targets.iter().map(|target| *target as usize).collect();
                let metrics = evaluate_classification(&labels, forecasts, classes, CALIBRATION_BINS)?;
                report.classification.insert(name.into(), metrics);
            }
            None => {
                let metrics = evaluate_regression(&self.targets, forecasts, None)?;
                report.regression.insert(name.into(), metrics);
            }
        }
        Ok(())
    }

    /// Times single predictions.
    ///
    /// # Errors
    /// As [`Evaluation::forecast`].
    pub fn latency(&self, manifest: &ModelManifest, model: &dyn LoadedModel) -> Result<LatencySummary> {
        let mut times_ms = Vec::with_capacity(LATENCY_CALLS);
        for call in 0..LATENCY_CALLS + 10 {
            let end = self.ends[call % self.ends.len()];
            let start = Instant::now();
            self.forecast_at(manifest, model, &[end])?;
            if call >= 10 {
                times_ms.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        times_ms.sort_by(f64::total_cmp);
        let at = |share: f64| times_ms[((times_ms.len() - 1) as f64 * share).round() as usize];
        Ok(LatencySummary { num_calls: LATENCY_CALLS, p50_ms: at(0.5), p99_ms: at(0.99) })
    }
}
