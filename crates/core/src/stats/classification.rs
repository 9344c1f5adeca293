//! Metrics of a classifier from labels and class probabilities.

use super::{Result, invalid, require_rows, require_same_length};
use serde::{Deserialize, Serialize};

/// Probabilities are clipped to `[LOG_LOSS_CLIP, 1]` before the logarithm (scikit-learn's `log_loss` for doubles).
pub const LOG_LOSS_CLIP: f64 = f64::EPSILON;

/// Bins of the calibration error when the caller has no wish of its own.
pub const DEFAULT_CALIBRATION_BINS: usize = 15;

/// How far a row of probabilities may be from a sum of 1 (a softmax in single precision is within 1e-6).
const SUM_TOLERANCE: f64 = 1e-3;

/// Scores of one class against the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// Class index.
    pub class: usize,
    /// Rows with this label.
    pub num_labels: u64,
    /// Rows predicted as this class.
    pub num_predicted: u64,
    /// True positives / predicted; 0 when never predicted.
    pub precision: f64,
    /// True positives / labels; 0 when there is no such label.
    pub recall: f64,
    /// Harmonic mean of precision and recall; 0 when both are 0.
    pub f1: f64,
}

/// One equal-width bin of confidence, `(lower, upper]`; the first one includes 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
    /// Rows whose confidence lies in the bin.
    pub num_rows: u64,
    /// Mean confidence of those rows; 0 in an empty bin.
    pub mean_confidence: f64,
    /// Share of those rows that were predicted right; 0 in an empty bin.
    pub accuracy: f64,
}

/// Metrics of a classifier on one set of rows.
///
/// The predicted class is the one of highest probability, the lowest index among equals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassificationMetrics {
    /// Rows evaluated.
    pub num_rows: usize,
    /// Classes.
    pub num_classes: usize,
    /// Share of rows predicted right.
    pub accuracy: f64,
    /// Mean recall over the classes that occur in the labels (scikit-learn `balanced_accuracy_score`).
    pub balanced_accuracy: f64,
    /// Mean precision over the classes that occur in labels or predictions.
    pub macro_precision: f64,
    /// Mean recall over the classes that occur in labels or predictions.
    pub macro_recall: f64,
    /// Mean F1 over the classes that occur in labels or predictions (scikit-learn `f1_score(average="macro")`).
    pub macro_f1: f64,
    /// Mean of -ln p(label), p clipped at [`LOG_LOSS_CLIP`].
    pub log_loss: f64,
    /// Mean over rows of the sum over classes of (p - y)^2 (Brier 1950; range 0..2, twice the binary form).
    pub brier: f64,
    /// Expected calibration error: sum over bins of share * |accuracy - confidence| (Guo et al. 2017).
    pub expected_calibration_error: f64,
    /// Matthews correlation, multi-class form (Gorodkin 2004); 0 when it is undefined.
    pub matthews_correlation: f64,
    /// Area under the ROC curve of class 1 against class 0; none unless there are two classes and both occur.
    pub roc_auc: Option<f64>,
    /// Scores by class.
    pub per_class: Vec<ClassScores>,
    /// Rows by `[label][prediction]`.
    pub confusion: Vec<Vec<u64>>,
    /// Calibration by confidence.
    pub reliability: Vec<ReliabilityBin>,
}

/// Evaluates class probabilities against labels.
///
/// # Shapes
///
/// `labels` `[n]`; `probabilities` `[n, num_classes]`, row by row, each row summing to 1 within 0.001.
///
/// # Errors
///
/// No rows, fewer than two classes, no bins, lengths that differ, a label that is no class, or a row that is no
/// distribution.
pub fn evaluate_classification(
    labels: &[usize],
    probabilities: &[f64],
    num_classes: usize,
    num_calibration_bins: usize,
) -> Result<ClassificationMetrics> {
    require_rows("labels", labels.len(), 1)?;
    if num_classes < 2 {
        return Err(invalid("num_classes", num_classes, "2 or more"));
    }
    if num_calibration_bins == 0 {
        return Err(invalid("num_calibration_bins", 0, "1 or more"));
    }
    require_same_length("probabilities", probabilities.len(), labels.len() * num_classes)?;

    let num_rows = labels.len();
    let mut confusion = vec![vec![0_u64; num_classes]; num_classes];
    let mut bins = vec![(0_u64, 0.0, 0_u64); num_calibration_bins];
    let (mut log_loss, mut brier) = (0.0, 0.0);
    for (row, (&label, scores)) in labels.iter().zip(probabilities.chunks_exact(num_classes)).enumerate() {
        if label >= num_classes {
            return Err(invalid("labels", format!("{label} at row {row}"), &format!("0 to {}", num_classes - 1)));
        }
        let sum: f64 = scores.iter().sum();
        let is_distribution = scores.iter().all(|p| (0.0..=1.0 + SUM_TOLERANCE).contains(p));
        if !is_distribution || (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(invalid(
                "probabilities",
                format!("{scores:?} at row {row}"),
                "numbers from 0 to 1 that sum to 1 in each row",
            ));
        }
        let mut predicted = 0;
        for (class, &p) in scores.iter().enumerate() {
            if p > scores[predicted] {
                predicted = class;
            }
            brier += (p - f64::from(u8::from(class == label))).powi(2);
        }
        log_loss -= scores[label].clamp(LOG_LOSS_CLIP, 1.0).ln();
        confusion[label][predicted] += 1;
        let confidence = scores[predicted].min(1.0);
        let index = ((confidence * num_calibration_bins as f64).ceil() as usize).clamp(1, num_calibration_bins) - 1;
        let bin = &mut bins[index];
        bin.0 += 1;
        bin.1 += confidence;
        bin.2 += u64::from(predicted == label);
    }

    let total = num_rows as f64;
    let reliability: Vec<ReliabilityBin> = bins
        .iter()
        .enumerate()
        .map(|(index, &(count, confidence, right))| {
            let divisor = count.max(1) as f64;
            ReliabilityBin {
                lower: index as f64 / num_calibration_bins as f64,
                upper: (index + 1) as f64 / num_calibration_bins as f64,
                num_rows: count,
                mean_confidence: confidence / divisor,
                accuracy: right as f64 / divisor,
            }
        })
        .collect();
    let expected_calibration_error =
        reliability.iter().map(|bin| bin.num_rows as f64 / total * (bin.accuracy - bin.mean_confidence).abs()).sum();

    let per_class: Vec<ClassScores> = (0..num_classes)
        .map(|class| {
            let num_labels = confusion[class].iter().sum::<u64>();
            let num_predicted = confusion.iter().map(|row| row[class]).sum::<u64>();
            let hits = confusion[class][class] as f64;
            let precision = if num_predicted == 0 { 0.0 } else { hits / num_predicted as f64 };
            let recall = if num_labels == 0 { 0.0 } else { hits / num_labels as f64 };
            let f1 =
                if num_labels + num_predicted == 0 { 0.0 } else { 2.0 * hits / (num_labels + num_predicted) as f64 };
            ClassScores { class, num_labels, num_predicted, precision, recall, f1 }
        })
        .collect();
    let macro_mean = |of: fn(&ClassScores) -> f64, seen: fn(&ClassScores) -> bool| {
        let seen: Vec<f64> = per_class.iter().filter(|scores| seen(scores)).map(of).collect();
        super::mean(&seen)
    };
    let occurs = |scores: &ClassScores| scores.num_labels + scores.num_predicted > 0;
    let hits = per_class.iter().map(|scores| confusion[scores.class][scores.class]).sum::<u64>() as f64;

    let (mut cross, mut labels_squared, mut predicted_squared) = (0.0, 0.0, 0.0);
    for scores in &per_class {
        let (t, p) = (scores.num_labels as f64, scores.num_predicted as f64);
        cross += t * p;
        labels_squared += t * t;
        predicted_squared += p * p;
    }
    let spread = ((total * total - predicted_squared) * (total * total - labels_squared)).sqrt();
    let matthews_correlation = if spread > 0.0 { (hits * total - cross) / spread } else { 0.0 };

    let roc_auc = if num_classes == 2 {
        let scores: Vec<f64> = probabilities.chunks_exact(2).map(|row| row[1]).collect();
        let positive: Vec<bool> = labels.iter().map(|&label| label == 1).collect();
        roc_auc(&positive, &scores)?
    } else {
        None
    };

    Ok(ClassificationMetrics {
        num_rows,
        num_classes,
        accuracy: hits / total,
        balanced_accuracy: macro_mean(|scores| scores.recall, |scores| scores.num_labels > 0),
        macro_precision: macro_mean(|scores| scores.precision, occurs),
        macro_recall: macro_mean(|scores| scores.recall, occurs),
        macro_f1: macro_mean(|scores| scores.f1, occurs),
        log_loss: log_loss / total,
        brier: brier / total,
        expected_calibration_error,
        matthews_correlation,
        roc_auc,
        per_class,
        confusion,
        reliability,
    })
}

/// Area under the ROC curve: the chance that a positive row scores above a negative one, equals counting one half.
///
/// By mean ranks (Mann-Whitney). None when only one class occurs.
///
/// # Errors
///
/// Lengths that differ or scores that are not finite.
pub fn roc_auc(positive: &[bool], scores: &[f64]) -> Result<Option<f64>> {
    require_same_length("scores", scores.len(), positive.len())?;
    super::require_finite("scores", scores)?;
    let num_positive = positive.iter().filter(|&&is_positive| is_positive).count() as f64;
    let num_negative = positive.len() as f64 - num_positive;
    if num_positive == 0.0 || num_negative == 0.0 {
        return Ok(None);
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let mut rank_sum = 0.0;
    for group in order.chunk_by(|&a, &b| scores[a] == scores[b]).scan(0_usize, |start, group| {
        let first = *start;
        *start += group.len();
        Some((first, group))
    }) {
        let (first, group) = group;
        let mean_rank = first as f64 + (group.len() as f64 + 1.0) / 2.0;
        rank_sum += mean_rank * group.iter().filter(|&&row| positive[row]).count() as f64;
    }
    Ok(Some((rank_sum - num_positive * (num_positive + 1.0) / 2.0) / (num_positive * num_negative)))
}
