//! What the data looked like at training, kept small enough to store beside the model.

use super::{Observations, distance::shares_of, effective::correlation_time};
use crate::stats::{Result, StatsError, invalid, mean, quantile_sorted, require_rows, require_same_length, variance};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Layout of the stored profile.
pub const PROFILE_VERSION: u32 = 1;

/// How to make a profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileConfig {
    /// Quantile bins of the population stability index. 20 and not the customary 10: a normal column whose spread grows
    /// by half has a PSI of 0.19 over 10 bins, which a threshold of 0.2 never sees, and 0.24 over 20.
    pub num_bins: usize,
    /// Most values kept per column. A longer column is kept as this many evenly spaced quantiles, which moves its
    /// distribution function by at most 1 / (2 `max_sample`).
    pub max_sample: usize,
}

impl Default for ProfileConfig {
    fn default() -> Self {
        Self { num_bins: 20, max_sample: 2000 }
    }
}

/// One column of the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnProfile {
    /// Column name.
    pub name: String,
    /// Finite values seen.
    pub num_values: u64,
    /// Values that were NaN or infinite.
    pub num_missing: u64,
    /// Mean of the finite values.
    pub mean: f64,
    /// Population standard deviation of the finite values.
    pub std: f64,
    /// Smallest finite value.
    pub min: f64,
    /// Largest finite value.
    pub max: f64,
    /// Ascending values, all of them or evenly spaced quantiles.
    pub sample: Vec<f64>,
    /// Ascending inner edges of the bins `(-inf, e0], (e0, e1], ..., (ek, inf)`. A value that holds more than a bin's
    /// share, and each value of a column with few, has a bin of its own.
    pub edges: Vec<f64>,
    /// Share of the finite values in each bin; one more than there are edges.
    pub shares: Vec<f64>,
    /// Effective rows / rows, see [`super::effective_sample_size`]; at most 1.
    pub effective_ratio: f64,
}

/// Predicted classes of the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassProfile {
    /// Rows by predicted class.
    pub counts: Vec<u64>,
    /// Effective rows / rows; at most 1.
    pub effective_ratio: f64,
}

/// What features and predictions looked like at training: `reference.json` of a model version.
///
/// Rows must be in time order, since the effective number of rows depends on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReferenceProfile {
    /// Layout of the stored profile.
    pub version: u32,
    /// Rows seen.
    pub num_rows: u64,
    /// Feature columns.
    pub features: Vec<ColumnProfile>,
    /// Prediction columns, for example the probability of each class.
    pub predictions: Vec<ColumnProfile>,
    /// Predicted classes, for a classifier.
    pub predicted_classes: Option<ClassProfile>,
}

impl ReferenceProfile {
    /// Summarises training data. NaN and infinite values are counted and left out.
    ///
    /// # Shapes
    ///
    /// Every column has the same number of rows, in time order.
    ///
    /// # Errors
    ///
    /// No columns, columns of different lengths or with the same name, a column without a finite value, a predicted
    /// class that is none of `num_classes`, or a bad configuration.
    pub fn build(observations: &Observations<'_>, config: &ProfileConfig) -> Result<Self> {
        if config.num_bins < 2 {
            return Err(invalid("num_bins", config.num_bins, "2 or more"));
        }
        if config.max_sample < 100 {
            return Err(invalid("max_sample", config.max_sample, "100 or more"));
        }
        let num_rows = observations.check()?;
        require_rows("rows", num_rows, 1)?;
        let columns = |columns: &[(String, Vec<f64>)]| {
            columns.iter().map(|(name, values)| ColumnProfile::build(name, values, config)).collect::<Result<Vec<_>>>()
        };
        let predicted_classes = observations.predicted_classes.map(|(classes, num_classes)| ClassProfile {
            counts: class_counts(classes, num_classes),
            effective_ratio: class_effective_ratio(classes, num_classes),
        });
        Ok(Self {
            version: PROFILE_VERSION,
            num_rows: num_rows as u64,
            features: columns(observations.features)?,
            predictions: columns(observations.predictions)?,
            predicted_classes,
        })
    }

    /// Checks that a profile that was read from storage can be used.
    ///
    /// # Errors
    ///
    /// Another version, or a column whose parts do not belong together; the column is named.
    pub fn validate(&self) -> Result<()> {
        if self.version != PROFILE_VERSION {
            return Err(invalid("version", self.version, &format!("{PROFILE_VERSION}")));
        }
        for column in self.features.iter().chain(&self.predictions) {
            column.validate()?;
        }
        if let Some(classes) = &self.predicted_classes {
            require_rows("predicted_classes", classes.counts.len(), 2)?;
            require_rows("predicted_classes counts", usize::from(classes.counts.iter().any(|&count| count > 0)), 1)?;
            check_ratio("predicted_classes", classes.effective_ratio)?;
        }
        Ok(())
    }
}

impl ColumnProfile {
    fn build(name: &str, values: &[f64], config: &ProfileConfig) -> Result<Self> {
        let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        require_rows(name, finite.len(), 1)?;
        let std = variance(&finite, 0).sqrt();
        if !std.is_finite() {
            return Err(invalid(name, "too large", "values whose variance is finite"));
        }
        let mut sorted = finite.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let edges = quantile_edges(&sorted, config.num_bins);
        let shares = shares_of(&sorted, &edges);
        let sample = if sorted.len() <= config.max_sample {
            sorted.clone()
        } else {
            let count = config.max_sample;
            (0..count).map(|k| sorted[(2 * k + 1) * sorted.len() / (2 * count)]).collect()
        };
        let bins: Vec<usize> = finite.iter().map(|&value| bin_of(value, &edges)).collect();
        Ok(Self {
            name: name.to_owned(),
            num_values: finite.len() as u64,
            num_missing: (values.len() - finite.len()) as u64,
            mean: mean(&finite),
            std,
            min: sorted[0],
            max: sorted[sorted.len() - 1],
            sample,
            effective_ratio: effective_ratio(&bins, edges.len() + 1),
            edges,
            shares,
        })
    }

    fn validate(&self) -> Result<()> {
        let ascending = |values: &[f64]| {
            values.iter().all(|value| value.is_finite()) && values.windows(2).all(|pair| pair[0] <= pair[1])
        };
        require_rows(&self.name, self.sample.len().min(self.num_values as usize), 1)?;
        require_same_length(&format!("{}.shares", self.name), self.shares.len(), self.edges.len() + 1)?;
        if !ascending(&self.sample) || !ascending(&self.edges) {
            return Err(invalid(&self.name, "a sample or edges out of order", "finite numbers in ascending order"));
        }
        if self.shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
            return Err(invalid(&format!("{}.shares", self.name), format!("{:?}", self.shares), "0 to 1"));
        }
        check_ratio(&self.name, self.effective_ratio)
    }
}

impl Observations<'_> {
    /// Number of rows, once all columns are known to have as many.
    pub(super) fn check(&self) -> Result<usize> {
        let mut columns = self.features.iter().chain(self.predictions);
        let num_rows = match (columns.next(), self.predicted_classes) {
            (Some((_, values)), _) => values.len(),
            (None, Some((classes, _))) => classes.len(),
            (None, None) => return Err(StatsError::TooFew { name: "columns".to_owned(), found: 0, required: 1 }),
        };
        for columns in [self.features, self.predictions] {
            let mut names = BTreeSet::new();
            for (name, values) in columns {
                require_same_length(name, values.len(), num_rows)?;
                if !names.insert(name) {
                    return Err(invalid("columns", format!("`{name}` twice"), "each name once"));
                }
            }
        }
        if let Some((classes, num_classes)) = self.predicted_classes {
            require_same_length("predicted_classes", classes.len(), num_rows)?;
            if num_classes < 2 {
                return Err(invalid("num_classes", num_classes, "2 or more"));
            }
            if let Some(class) = classes.iter().find(|&&class| class >= num_classes) {
                return Err(invalid("predicted_classes", class, &format!("0 to {}", num_classes - 1)));
            }
        }
        Ok(num_rows)
    }
}

fn check_ratio(name: &str, ratio: f64) -> Result<()> {
    if ratio > 0.0 && ratio <= 1.0 {
        Ok(())
    } else {
        Err(invalid(&format!("{name}.effective_ratio"), ratio, "more than 0 and at most 1"))
    }
}

/// Inner edges at the quantiles; values that hold several quantiles, or all values when there are few, get a bin of
/// their own by a second edge just below.
fn quantile_edges(sorted: &[f64], num_bins: usize) -> Vec<f64> {
    let mut distinct: Vec<f64> = Vec::with_capacity(num_bins + 1);
    for &value in sorted {
        if distinct.last() != Some(&value) {
            distinct.push(value);
            if distinct.len() > num_bins {
                break;
            }
        }
    }
    let mut edges = Vec::new();
    if distinct.len() <= num_bins {
        for value in distinct {
            edges.extend([value.next_down(), value]);
        }
    } else {
        let quantiles: Vec<f64> = (1..num_bins).map(|k| quantile_sorted(sorted, k as f64 / num_bins as f64)).collect();
        for same in quantiles.chunk_by(|a, b| a == b) {
            if same.len() > 1 {
                edges.push(same[0].next_down());
            }
            edges.push(same[0]);
        }
        edges.dedup();
    }
    edges
}

/// Index of the bin `(e(k-1), ek]` that holds `value`. Counts instead of searching: no branches, few edges.
pub(super) fn bin_of(value: f64, edges: &[f64]) -> usize {
    edges.iter().map(|&edge| usize::from(value > edge)).sum()
}

/// Effective rows / rows of a series given by its bins.
///
/// The distribution in a window moves with the level and with the spread of the series (clustered volatility leaves
/// the values themselves uncorrelated), so the shorter of two effective sizes counts: that of the bin index and that
/// of its distance from the middle bin.
pub(super) fn effective_ratio(bins: &[usize], num_bins: usize) -> f64 {
    let middle = (num_bins - 1) as f64 / 2.0;
    let mut series: Vec<f64> = bins.iter().map(|&bin| bin as f64).collect();
    let level = correlation_time(&mut series);
    series.clear();
    series.extend(bins.iter().map(|&bin| (bin as f64 - middle).abs()));
    let spread = correlation_time(&mut series);
    1.0 / level.max(spread)
}

pub(super) fn class_counts(classes: &[usize], num_classes: usize) -> Vec<u64> {
    let mut counts = vec![0; num_classes];
    for &class in classes {
        counts[class] += 1;
    }
    counts
}

/// Smallest effective rows / rows over the indicators of the classes.
pub(super) fn class_effective_ratio(classes: &[usize], num_classes: usize) -> f64 {
    let mut series = Vec::with_capacity(classes.len());
    let longest = (0..num_classes)
        .map(|wanted| {
            series.clear();
            series.extend(classes.iter().map(|&class| f64::from(u8::from(class == wanted))));
            correlation_time(&mut series)
        })
        .fold(1.0, f64::max);
    1.0 / longest
}
