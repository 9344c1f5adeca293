//! Splits in the order of time, such that nothing leaks over a border.

#[cfg(test)]
mod tests;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::labels::Labels;

/// The bars that one sample knows of.
///
/// # Invariants
/// `first <= end <= last`; all are indices of bars and belong to the span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// First bar of the window.
    pub first: usize,
    /// Last bar of the window.
    pub end: usize,
    /// Last bar that the label looked at.
    pub last: usize,
}

/// Samples of the windows of `num_bars` bars that end at `ends` and have a label.
#[must_use]
pub fn samples(ends: &[usize], num_bars: usize, labels: &Labels) -> Vec<Sample> {
    let labelled = ends.iter().filter(|&&end| labels.values.get(end).is_some_and(Option::is_some));
    labelled.map(|&end| Sample { first: (end + 1).saturating_sub(num_bars), end, last: labels.last[end] }).collect()
}

/// How samples are split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SplitSpec {
    /// Training, then validation, then test, by shares of the samples.
    Holdout {
        /// Share of the validation samples.
        #[serde(default = "share")]
        validation: f64,
        /// Share of the test samples.
        #[serde(default = "share")]
        test: f64,
        /// Bars left out before a border, beyond those that overlap it.
        #[serde(default)]
        embargo_bars: usize,
    },
    /// Several folds, each tested on the samples that follow those it was trained on.
    WalkForward {
        /// Number of folds.
        #[serde(default = "five")]
        num_folds: usize,
        /// Samples of each test; all samples divided by the number of folds and one where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        test_samples: Option<usize>,
        /// Most samples to train on, the latest ones, which makes the folds roll; all before the test where absent,
        /// which makes them expand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_train_samples: Option<usize>,
        /// Share of the training samples, the latest ones, that are set apart for validation.
        #[serde(default)]
        validation: f64,
        /// Bars left out before a border, beyond those that overlap it.
        #[serde(default)]
        embargo_bars: usize,
    },
}

fn share() -> f64 {
    0.15
}

fn five() -> usize {
    5
}

/// Indices of samples, in the order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Samples to fit on.
    pub train: Vec<usize>,
    /// Samples to choose by.
    pub validation: Vec<usize>,
    /// Samples to judge by.
    pub test: Vec<usize>,
    /// Samples left out because they overlap a border or stand in its embargo.
    pub num_purged: usize,
}

/// Splits samples; one split for a holdout, one per fold for a walk forward.
///
/// No span of a training sample, window and label, touches one of a validation or test sample, and no span of a
/// validation sample touches one of a test sample; `embargo_bars` more bars lie between them.
///
/// # Errors
/// [`Error::Invalid`] where a parameter is out of range, or the samples are not in the order of time;
/// [`Error::TooShort`] where a part would be empty.
pub fn split(samples: &[Sample], spec: &SplitSpec) -> Result<Vec<Split>> {
    if let Some(at) = samples.windows(2).position(|pair| pair[0].end >= pair[1].end || pair[0].first > pair[1].first) {
        return Err(Error::invalid("samples", format!("out of order at {}", at + 1), "windows in the order of time"));
    }
    if let Some(at) = samples.iter().position(|sample| sample.first > sample.end || sample.end > sample.last) {
        return Err(Error::invalid("samples", format!("{:?}", samples[at]), "first <= end <= last"));
    }
    match *spec {
        SplitSpec::Holdout { validation, test, embargo_bars } => {
            check_share("validation", validation)?;
            check_share("test", test)?;
            if validation + test >= 1.0 || test == 0.0 {
                let given = format!("{validation} + {test}");
                return Err(Error::invalid("validation + test", given, "a test above 0, and a sum below 1"));
            }
            let len = samples.len();
            let test_from = len - (test * len as f64).round() as usize;
            let validation_from = test_from - ((validation * len as f64).round() as usize).min(test_from);
            Ok(vec![purge(samples, 0..validation_from, validation_from..test_from, test_from..len, embargo_bars)?])
        }
        SplitSpec::WalkForward { num_folds, test_samples, max_train_samples, validation, embargo_bars } => {
            check_share("validation", validation)?;
            let folds = time_series_split(samples.len(), num_folds, max_train_samples, test_samples, 0)?;
            let purged = folds.into_iter().map(|(train, test)| {
                let validation_from = train.end - (validation * train.len() as f64).round() as usize;
                let (train, validation) = (train.start..validation_from, validation_from..train.end);
                purge(samples, train, validation, test, embargo_bars)
            });
            purged.collect()
        }
    }
}

fn check_share(field: &str, share: f64) -> Result<()> {
    if (0.0..1.0).contains(&share) { Ok(()) } else { Err(Error::invalid(field, share, "a share from 0 to below 1")) }
}

/// Leaves out the samples that touch a later part.
fn purge(
    samples: &[Sample],
    train: Range<usize>,
    validation: Range<usize>,
    test: Range<usize>,
    embargo_bars: usize,
) -> Result<Split> {
    let total = train.len() + validation.len() + test.len();
    // Windows are in order, so the first sample of a part has its first bar.
    let start_of = |part: &[usize]| part.first().map(|&sample| samples[sample].first);
    let before = |part: Range<usize>, border: Option<usize>| -> Vec<usize> {
        part.filter(|&sample| border.is_none_or(|border| samples[sample].last + embargo_bars < border)).collect()
    };
    let wanted_validation = !validation.is_empty();
    let test: Vec<usize> = test.collect();
    let validation = before(validation, start_of(&test));
    let border = start_of(&validation).or(start_of(&test));
    let train = before(train, border);
    for (what, part, needed) in [
        ("training part", &train, true),
        ("validation part", &validation, wanted_validation),
        ("test part", &test, true),
    ] {
        if needed && part.is_empty() {
            let what = format!("{what} after purging {} of {total} samples", total - test.len());
            return Err(Error::TooShort { what, needed: 1, got: 0 });
        }
    }
    let num_purged = total - train.len() - validation.len() - test.len();
    Ok(Split { train, validation, test, num_purged })
}

/// Ranges of training and test samples of each fold, equal to scikit-learn's `TimeSeriesSplit`.
///
/// The tests are the last `num_folds * test_samples` samples; each training range ends `gap` samples before its test.
///
/// # Errors
/// [`Error::Invalid`] where a parameter is zero; [`Error::TooShort`] where the samples do not suffice.
pub fn time_series_split(
    num_samples: usize,
    num_folds: usize,
    max_train_samples: Option<usize>,
    test_samples: Option<usize>,
    gap: usize,
) -> Result<Vec<(Range<usize>, Range<usize>)>> {
    if num_folds == 0 {
        return Err(Error::invalid("num_folds", 0, "at least 1"));
    }
    let test_samples = test_samples.unwrap_or(num_samples / num_folds.saturating_add(1));
    for (field, value) in [("test_samples", Some(test_samples)), ("max_train_samples", max_train_samples)] {
        if value == Some(0) {
            return Err(Error::invalid(field, 0, format!("at least 1, with {num_samples} samples")));
        }
    }
    let needed = num_folds.saturating_mul(test_samples).saturating_add(gap).saturating_add(1);
    if needed > num_samples {
        let what = format!("{num_folds} folds of {test_samples} test samples");
        return Err(Error::TooShort { what, needed, got: num_samples });
    }
    let first_test = num_samples - num_folds * test_samples;
    let folds = (0..num_folds).map(|fold| {
        let test = first_test + fold * test_samples;
        let train_end = test - gap;
        let train_start = max_train_samples.map_or(0, |max| train_end.saturating_sub(max));
        (train_start..train_end, test..test + test_samples)
    });
    Ok(folds.collect())
}
