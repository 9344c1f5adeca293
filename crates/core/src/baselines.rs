//! Naive forecasts: what a model must beat to be worth anything.

use std::collections::BTreeMap;

use crate::samples::{Sample, SampleSet};

/// Forecasts of the naive baselines for the samples `rows`, by name; each is row-major `[rows, classes]` or `[rows]`.
///
/// Everything is estimated on the training fold:
/// - classification: `prior`, the class frequencies; `persistence`, the frequencies given the last label that was known
///   when the forecast was made (add-one smoothing);
/// - regression: `mean`, the mean target; `zero`, no change.
#[must_use]
pub fn forecasts(set: &SampleSet, rows: &[usize], num_classes: Option<usize>) -> BTreeMap<String, Vec<f64>> {
    let Some(num_classes) = num_classes else {
        let targets = set.train.iter().map(|&row| set.samples[row].target);
        let mean = targets.sum::<f64>() / set.train.len().max(1) as f64;
        return BTreeMap::from([
            ("mean".to_owned(), vec![mean; rows.len()]),
            ("zero".to_owned(), vec![0.0; rows.len()]),
        ]);
    };
    let known = last_known(&set.samples);
    let mut prior = vec![1.0; num_classes];
    let mut transitions = vec![1.0; num_classes * num_classes];
    for &row in &set.train {
        let class = set.samples[row].target as usize;
        prior[class] += 1.0;
        if let Some(last) = known[row] {
            transitions[last * num_classes + class] += 1.0;
        }
    }
    normalise(&mut prior);
    transitions.chunks_mut(num_classes).for_each(normalise);
    let persistence = rows.iter().flat_map(|&row| match known[row] {
        Some(last) => transitions[last * num_classes..(last + 1) * num_classes].to_vec(),
        None => prior.clone(),
    });
    BTreeMap::from([("persistence".to_owned(), persistence.collect()), ("prior".to_owned(), prior.repeat(rows.len()))])
}

/// For each sample the class of the latest sample whose label was complete at this sample's last bar.
fn last_known(samples: &[Sample]) -> Vec<Option<usize>> {
    let mut next = 0;
    let mut last = None;
    samples
        .iter()
        .map(|sample| {
            while next < samples.len() && samples[next].label_end <= sample.end {
                last = Some(samples[next].target as usize);
                next += 1;
            }
            last
        })
        .collect()
}

fn normalise(frequencies: &mut [f64]) {
    let sum: f64 = frequencies.iter().sum();
    frequencies.iter_mut().for_each(|f| *f /= sum);
}
