//! Samples of a training spec: which windows, their targets, and which fold they belong to.
//!
//! The trainer and the gates of the registry both call [`build`], so a version is judged on exactly the samples that its
//! training did not touch.

#[cfg(test)]
mod tests;

use moola_market::features::FeatureSet;
use moola_market::splits::{self, Sample as Span, SplitSpec as Splits};
use moola_market::windows::WindowConfig;
use moola_market::{Bars, labels};

use crate::contract::{Task, TrainingSpec};
use crate::error::{Error, Result};

/// Least samples of the training, the validation and the test fold.
pub const MIN_SAMPLES: [usize; 3] = [50, 20, 20];

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Last bar of its window.
    pub end: usize,
    /// Last bar that its label looked at: from this bar on the label is known.
    pub label_end: usize,
    /// What is to be predicted: the index of a class, or a number.
    pub target: f64,
}

/// The samples of a spec.
///
/// # Invariants
/// The samples are in order of time; the folds hold indices of samples in ascending order, are disjoint, and no bar that a
/// sample of one fold was made of, history and label included, is a bar of a sample of another.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleSet {
    /// Names of the classes; empty for a regression.
    pub classes: Vec<String>,
    /// The feature set; `None` where the spec names none.
    pub feature_set: Option<FeatureSet>,
    /// Bars that a sample is made of before its label: the window, or the features' history where that is longer.
    pub history_bars: usize,
    /// The samples.
    pub samples: Vec<Sample>,
    /// Those that train.
    pub train: Vec<usize>,
    /// Those that stop early and choose.
    pub validation: Vec<usize>,
    /// Those that judge.
    pub test: Vec<usize>,
    /// Samples left out because they overlap a border or stand in its embargo.
    pub num_purged: usize,
}

impl SampleSet {
    /// What is predicted.
    #[must_use]
    pub fn task(&self) -> Task {
        if self.classes.is_empty() { Task::Regression } else { Task::Classification }
    }

    /// Last bars of the windows of the samples `rows`.
    ///
    /// # Panics
    /// Where a row is no sample.
    #[must_use]
    pub fn ends(&self, rows: &[usize]) -> Vec<usize> {
        rows.iter().map(|&row| self.samples[row].end).collect()
    }

    /// Targets of the samples `rows`.
    ///
    /// # Panics
    /// Where a row is no sample.
    #[must_use]
    pub fn targets(&self, rows: &[usize]) -> Vec<f64> {
        rows.iter().map(|&row| self.samples[row].target).collect()
    }
}

/// The feature set that a spec names; `None` for an empty name.
///
/// # Errors
/// `NotFound` where there is no such set.
pub fn feature_set(spec: &TrainingSpec) -> Result<Option<FeatureSet>> {
    let name = &spec.window.feature_set;
    if name.is_empty() { Ok(None) } else { Ok(Some(FeatureSet::builtin(name)?)) }
}

/// Makes the samples of `spec` over `bars`.
///
/// A window ends every `window.stride` bars from the first bar that has enough history; those without a label are left
/// out, then all but the `window.max_windows` latest. The folds follow each other in time by the shares of the spec;
/// samples of an earlier fold that overlap a later one are left out.
///
/// # Errors
/// `Invalid` for a bad spec, for fewer samples than [`MIN_SAMPLES`] in a fold, or a class that the training fold lacks;
/// `NotFound` for an unknown feature set or column.
pub fn build(spec: &TrainingSpec, bars: &Bars) -> Result<SampleSet> {
    spec.validate()?;
    let feature_set = feature_set(spec)?;
    let history_bars = feature_set.as_ref().map_or(0, FeatureSet::history_bars).max(spec.window.bars);
    let labels = labels::compute(&spec.label, bars)?;
    let config = WindowConfig { num_bars: history_bars, max_gap_bars: None };
    let ends = config.ends(bars, spec.dataset.interval)?;
    let ends: Vec<usize> = ends.into_iter().step_by(spec.window.stride).collect();
    let mut spans = splits::samples(&ends, history_bars, &labels);
    if spec.window.max_windows > 0 {
        spans.drain(..spans.len().saturating_sub(spec.window.max_windows));
    }
    let least: usize = MIN_SAMPLES.iter().sum();
    if spans.len() < least {
        let given = format!("{} from {} bars", spans.len(), bars.len());
        let expected = format!("at least {least} windows of {history_bars} bars with a label");
        return Err(Error::invalid("samples", given, expected)
            .with_hint("use more bars, a smaller `window.stride`, or a greater `window.max_windows`"));
    }
    let test = (1.0 - spec.split.train - spec.split.validation).max(0.0);
    let split = Splits::Holdout { validation: spec.split.validation, test, embargo_bars: spec.split.embargo_bars };
    let split = splits::split(&spans, &split)?.into_iter().next().unwrap_or_default();
    let folds = [("training", &split.train), ("validation", &split.validation), ("test", &split.test)];
    for ((name, fold), least) in folds.into_iter().zip(MIN_SAMPLES) {
        if fold.len() < least {
            let given = format!("{} of {} ({} purged at the borders)", fold.len(), spans.len(), split.num_purged);
            return Err(Error::invalid(&format!("{name} samples"), given, format!("at least {least}"))
                .with_hint("use more bars, a smaller `window.stride`, or other shares in `split`"));
        }
    }
    let sample = |span: &Span| Sample {
        end: span.end,
        label_end: span.last,
        target: labels.values[span.end].unwrap_or_default(),
    };
    let samples: Vec<Sample> = spans.iter().map(sample).collect();
    for (class, name) in labels.classes.iter().enumerate() {
        if !split.train.iter().any(|&row| samples[row].target as usize == class) {
            let given = format!("absent from the {} training samples", split.train.len());
            return Err(Error::invalid(&format!("class {name}"), given, "at least one training sample of each class"));
        }
    }
    Ok(SampleSet {
        classes: labels.classes,
        feature_set,
        history_bars,
        samples,
        train: split.train,
        validation: split.validation,
        test: split.test,
        num_purged: split.num_purged,
    })
}
