//! Predictions of a trained model, and what they are worth.

use std::collections::BTreeMap;

use burn::backend::Flex;
use burn::tensor::activation::softmax;
use moola_core::contract::{FoldMetrics, Task};
use moola_core::stats::{
    ClassificationMetrics, Observations, ProfileConfig, ReferenceProfile, RegressionMetrics, evaluate_classification,
    evaluate_regression,
};
use moola_core::{Result, baselines};

use crate::data::Data;
use crate::model::{Parameters, Shape, Weights, forward, numbers};

/// Samples of one forward pass.
const BATCH_ROWS: usize = 256;
const CALIBRATION_BINS: usize = 10;

/// Outputs for the samples `rows`, `[rows, outputs]`: probabilities, or standardised numbers.
#[must_use]
pub(crate) fn outputs(shape: &Shape, parameters: &Parameters, data: &Data, rows: &[usize]) -> Vec<f64> {
    let weights = Weights::<Flex>::new(parameters, &Default::default());
    let mut all = Vec::with_capacity(rows.len() * shape.num_outputs);
    for rows in rows.chunks(BATCH_ROWS) {
        let outputs = forward(shape, &weights, data.batch(rows));
        let outputs = if shape.task == Task::Classification { softmax(outputs, 1) } else { outputs };
        all.extend(numbers(outputs).into_iter().map(f64::from));
    }
    all
}

/// Predictions for the samples `rows` as the exported model gives them.
#[must_use]
pub fn predictions(shape: &Shape, parameters: &Parameters, data: &Data, rows: &[usize]) -> Vec<f64> {
    let mut all = outputs(shape, parameters, data, rows);
    if shape.task == Task::Regression {
        let (mean, std) = data.target;
        all.iter_mut().for_each(|value| *value = *value * std + mean);
    }
    all
}

/// Metrics of a model that predicts `predict(rows)`, and of the baselines, on every fold.
///
/// # Errors
/// `Invalid` where predictions are no probabilities or not finite.
pub(crate) fn metrics(data: &Data, predict: impl Fn(&[usize]) -> Vec<f64>) -> Result<FoldMetrics> {
    let set = &data.set;
    let num_classes = set.classes.len();
    let naive = baselines::forecasts(set, &set.test, (num_classes > 0).then_some(num_classes));
    if num_classes == 0 {
        let evaluate = |rows: &[usize], forecasts: &[f64]| -> Result<RegressionMetrics> {
            Ok(evaluate_regression(&set.targets(rows), forecasts, None)?)
        };
        let naive = naive.into_iter().map(|(name, forecasts)| Ok((name, evaluate(&set.test, &forecasts)?)));
        return Ok(FoldMetrics::Regression {
            train: Box::new(evaluate(&set.train, &predict(&set.train))?),
            validation: Box::new(evaluate(&set.validation, &predict(&set.validation))?),
            test: Box::new(evaluate(&set.test, &predict(&set.test))?),
            baselines: naive.collect::<Result<BTreeMap<_, _>>>()?,
        });
    }
    let evaluate = |rows: &[usize], forecasts: &[f64]| -> Result<ClassificationMetrics> {
        let labels: Vec<usize> = set.targets(rows).into_iter().map(|target| target as usize).collect();
        Ok(evaluate_classification(&labels, forecasts, num_classes, CALIBRATION_BINS)?)
    };
    let naive = naive.into_iter().map(|(name, forecasts)| Ok((name, evaluate(&set.test, &forecasts)?)));
    Ok(FoldMetrics::Classification {
        train: Box::new(evaluate(&set.train, &predict(&set.train))?),
        validation: Box::new(evaluate(&set.validation, &predict(&set.validation))?),
        test: Box::new(evaluate(&set.test, &predict(&set.test))?),
        baselines: naive.collect::<Result<BTreeMap<_, _>>>()?,
    })
}

/// What features and predictions looked like on the training fold, for drift checks.
///
/// # Errors
/// `Invalid` where a column has no finite value.
pub(crate) fn reference(data: &Data, predictions: &[f64]) -> Result<ReferenceProfile> {
    let set = &data.set;
    let width = data.raw_features.len() / set.samples.len().max(1);
    let features: Vec<(String, Vec<f64>)> = set
        .feature_set
        .iter()
        .filter(|_| width > 0)
        .flat_map(|features| features.features().iter().enumerate())
        .map(|(column, feature)| {
            let values = set.train.iter().map(|row| data.raw_features[row * width + column]).collect();
            (feature.name.to_owned(), values)
        })
        .collect();
    let num_classes = set.classes.len();
    let names = if num_classes == 0 { vec!["prediction".to_owned()] } else { set.classes.clone() };
    let columns: Vec<(String, Vec<f64>)> = names
        .into_iter()
        .enumerate()
        .map(|(column, name)| (name, predictions.iter().skip(column).step_by(num_classes.max(1)).copied().collect()))
        .collect();
    let best = |row: &[f64]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a))).unwrap_or(0);
    let classes: Vec<usize> = predictions.chunks(num_classes.max(1)).map(best).collect();
    let observations = Observations {
        features: &features,
        predictions: &columns,
        predicted_classes: (num_classes > 0).then_some((classes.as_slice(), num_classes)),
    };
    Ok(ReferenceProfile::build(&observations, &ProfileConfig::default())?)
}
