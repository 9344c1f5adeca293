//! The check of a window of rows against the reference.

use super::{
    Observations,
    distance::{
        bins_p_value, chi_square_homogeneity, js_unchecked, kl_unchecked, ks_and_wasserstein, ks_p_value, psi_limit,
        psi_p_value, psi_unchecked,
    },
    reference::{ColumnProfile, ReferenceProfile, bin_of, class_counts, class_effective_ratio, effective_ratio},
};
use crate::stats::{
    Result, StatsError,
    hypothesis::{Correction, pooled_z},
    invalid, mean, normal_cdf, require_open_unit, require_rows,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// Effective rows per bin from which the bins are tested too: Pearson's statistic is then near enough to chi-square.
pub const MIN_ROWS_PER_BIN: f64 = 5.0;

/// When a difference is drift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DriftConfig {
    /// Smallest population stability index of a drifted column.
    pub psi_threshold: f64,
    /// Level of the tests, after correction.
    pub p_value: f64,
    /// Correction for the number of columns.
    pub correction: Correction,
    /// Fewest rows, and fewest finite values of a column, that are compared.
    pub min_rows: usize,
    /// Share of drifted feature columns from which the data set has drifted.
    pub drift_share: f64,
    /// Rise of the share of missing values (0.05 is five points) above which it is reported, if significant.
    pub max_missing_rise: f64,
    /// Columns named in `worst_columns`.
    pub num_worst: usize,
}

impl Default for DriftConfig {
    fn default() -> Self {
        Self {
            psi_threshold: 0.2,
            p_value: 0.05,
            correction: Correction::Bonferroni,
            min_rows: 100,
            drift_share: 0.5,
            max_missing_rise: 0.05,
            num_worst: 5,
        }
    }
}

impl DriftConfig {
    /// Checks the values.
    ///
    /// # Errors
    ///
    /// Names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        require_open_unit("p_value", self.p_value)?;
        if !(self.psi_threshold >= 0.0 && self.psi_threshold.is_finite()) {
            return Err(invalid("psi_threshold", self.psi_threshold, "a finite number of 0 or more"));
        }
        if self.min_rows < 2 {
            return Err(invalid("min_rows", self.min_rows, "2 or more"));
        }
        if !(self.drift_share > 0.0 && self.drift_share <= 1.0) {
            return Err(invalid("drift_share", self.drift_share, "more than 0 and at most 1"));
        }
        if !(0.0..=1.0).contains(&self.max_missing_rise) {
            return Err(invalid("max_missing_rise", self.max_missing_rise, "0 to 1"));
        }
        Ok(())
    }
}

/// Distances and tests of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnStatistics {
    /// Kolmogorov-Smirnov statistic.
    pub ks: f64,
    /// p-value of the Kolmogorov-Smirnov statistic at the effective sizes.
    pub ks_p_value: f64,
    /// `p_value` after correction for the number of columns.
    pub p_adjusted: f64,
    /// Population stability index over the quantile bins of the reference.
    pub psi: f64,
    /// PSI from which the column counts as drifted at these effective sizes.
    pub psi_threshold: f64,
    /// p-value of Pearson's chi-square over the same bins at the effective sizes; none below [`MIN_ROWS_PER_BIN`]
    /// effective rows per bin.
    pub bins_p_value: Option<f64>,
    /// p-value of the PSI at the effective sizes (Yurdakul). For information: too small by far in the tail when bins
    /// hold few rows, so it decides nothing.
    pub psi_p_value: f64,
    /// Twice the smaller one of `ks_p_value` and `bins_p_value`, at most 1; `ks_p_value` when it is alone.
    pub p_value: f64,
    /// Wasserstein-1 distance in units of the column.
    pub wasserstein: f64,
    /// Wasserstein-1 distance / standard deviation of the reference; none for a constant reference.
    pub wasserstein_normed: Option<f64>,
    /// KL(reference || current) over the same bins, natural logarithm.
    pub kl: f64,
    /// Jensen-Shannon distance over the same bins, natural logarithm.
    pub js: f64,
    /// Mean of the reference.
    pub mean_reference: f64,
    /// Mean of the current values.
    pub mean_current: f64,
    /// Effective rows of the reference.
    pub effective_rows_reference: f64,
    /// Effective rows of the current values.
    pub effective_rows_current: f64,
}

/// Drift of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnDrift {
    /// Column name.
    pub name: String,
    /// Finite values compared.
    pub num_values: usize,
    /// NaN and infinite values left out.
    pub num_dropped: usize,
    /// Share of missing values in the reference.
    pub missing_rate_reference: f64,
    /// Share of missing values now.
    pub missing_rate_current: f64,
    /// Whether the share of missing values rose by more than allowed, and not by chance.
    pub missing_rise: bool,
    /// Distances and tests; none when the column has fewer finite values than `min_rows`.
    pub statistics: Option<ColumnStatistics>,
    /// Whether the distribution drifted.
    pub drifted: bool,
    /// Why, or why not.
    pub reason: String,
}

/// Drift of the predicted classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassDrift {
    /// Rows by predicted class in the reference.
    pub counts_reference: Vec<u64>,
    /// Rows by predicted class now.
    pub counts_current: Vec<u64>,
    /// Chi-square of homogeneity, scaled to effective rows.
    pub chi_square: f64,
    /// Its p-value.
    pub p_value: f64,
    /// The p-value after correction for the number of prediction columns.
    pub p_adjusted: f64,
    /// Population stability index over the classes.
    pub psi: f64,
    /// PSI from which the classes count as drifted at these effective sizes.
    pub psi_threshold: f64,
    /// Jensen-Shannon distance over the classes.
    pub js: f64,
    /// Whether the classes drifted.
    pub drifted: bool,
    /// Why, or why not.
    pub reason: String,
}

/// Result of a drift check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftReport {
    /// Current rows.
    pub num_rows: usize,
    /// Rows of the reference.
    pub num_rows_reference: u64,
    /// Values left out over all columns because they were NaN or infinite.
    pub num_dropped: usize,
    /// Feature columns, in the order of the reference.
    pub columns: Vec<ColumnDrift>,
    /// Feature columns that drifted.
    pub num_drifted: usize,
    /// Drifted / feature columns; 0 without features.
    pub drifted_share: f64,
    /// Whether the share of drifted columns reached `drift_share`.
    pub dataset_drifted: bool,
    /// Largest PSI of a feature column; 0 without features.
    pub max_psi: f64,
    /// Feature columns with the largest differences: drifted ones first, then by PSI.
    pub worst_columns: Vec<String>,
    /// Columns (features and predictions) whose share of missing values rose.
    pub missing_rises: Vec<String>,
    /// Prediction columns, in the order of the reference.
    pub predictions: Vec<ColumnDrift>,
    /// Predicted classes, when both sides have them.
    pub predicted_classes: Option<ClassDrift>,
    /// Whether any prediction column or the predicted classes drifted.
    pub prediction_drifted: bool,
}

/// Compares current rows with the reference; see the [module](super) for when a column has drifted.
///
/// Features and predictions are two families: each is corrected for its own number of tests. Predictions that are not
/// given are not checked; a feature that is not given is an error.
///
/// # Errors
///
/// Fewer rows than `min_rows`, columns that only one side has, columns of different lengths, a predicted class that
/// the reference does not know, an unusable reference or a bad configuration.
pub fn check_drift(
    reference: &ReferenceProfile,
    current: &Observations<'_>,
    config: &DriftConfig,
) -> Result<DriftReport> {
    config.validate()?;
    reference.validate()?;
    let num_rows = current.check()?;
    require_rows("rows", num_rows, config.min_rows)?;

    let mut limits = Limits { alpha: config.p_value, psi_threshold: config.psi_threshold, by_num_bins: HashMap::new() };
    let columns = compare_family(&reference.features, current.features, config, &mut limits)?;
    let columns = judge(columns, None, config)?.0;

    let predictions = if current.predictions.is_empty() {
        Vec::new()
    } else {
        compare_family(&reference.predictions, current.predictions, config, &mut limits)?
    };
    let classes = match (&reference.predicted_classes, current.predicted_classes) {
        (Some(profile), Some((classes, num_classes))) => {
            if num_classes != profile.counts.len() {
                return Err(invalid(
                    "num_classes",
                    num_classes,
                    &format!("{} as in the reference", profile.counts.len()),
                ));
            }
            let counts = class_counts(classes, num_classes);
            let own_ratio = class_effective_ratio(classes, num_classes).min(profile.effective_ratio);
            Some(compare_classes(&profile.counts, &counts, profile.effective_ratio, own_ratio, &mut limits)?)
        }
        (None, Some(_)) => return Err(StatsError::UnknownColumns { names: vec!["predicted_classes".to_owned()] }),
        (_, None) => None,
    };
    let (predictions, predicted_classes) = judge(predictions, classes, config)?;

    let num_drifted = columns.iter().filter(|column| column.drifted).count();
    let drifted_share = if columns.is_empty() { 0.0 } else { num_drifted as f64 / columns.len() as f64 };
    let psi_of = |column: &ColumnDrift| column.statistics.as_ref().map_or(0.0, |statistics| statistics.psi);
    let mut order: Vec<&ColumnDrift> = columns.iter().collect();
    order.sort_by(|a, b| b.drifted.cmp(&a.drifted).then(psi_of(b).total_cmp(&psi_of(a))));
    Ok(DriftReport {
        num_rows,
        num_rows_reference: reference.num_rows,
        num_dropped: columns.iter().chain(&predictions).map(|column| column.num_dropped).sum(),
        num_drifted,
        drifted_share,
        dataset_drifted: drifted_share >= config.drift_share,
        max_psi: columns.iter().map(psi_of).fold(0.0, f64::max),
        worst_columns: order.iter().take(config.num_worst).map(|column| column.name.clone()).collect(),
        missing_rises: columns
            .iter()
            .chain(&predictions)
            .filter(|column| column.missing_rise)
            .map(|column| column.name.clone())
            .collect(),
        prediction_drifted: predictions.iter().any(|column| column.drifted)
            || predicted_classes.as_ref().is_some_and(|classes| classes.drifted),
        columns,
        predictions,
        predicted_classes,
    })
}

/// PSI from which a difference is large.
struct Limits {
    alpha: f64,
    psi_threshold: f64,
    /// Chi-square quantiles: they are dear, and most columns have the same number of bins.
    by_num_bins: HashMap<usize, f64>,
}

impl Limits {
    /// The threshold, but no less than what chance explains.
    fn psi(&mut self, num_bins: usize, num_reference: f64, num_current: f64) -> Result<f64> {
        let quantile = match self.by_num_bins.get(&num_bins) {
            Some(&quantile) => quantile,
            None => {
                let quantile = psi_limit(self.alpha, num_bins, f64::INFINITY, 1.0)?;
                self.by_num_bins.insert(num_bins, quantile);
                quantile
            }
        };
        Ok((quantile * (1.0 / num_reference + 1.0 / num_current)).max(self.psi_threshold))
    }
}

fn compare_family(
    reference: &[ColumnProfile],
    current: &[(String, Vec<f64>)],
    config: &DriftConfig,
    limits: &mut Limits,
) -> Result<Vec<ColumnDrift>> {
    let known: BTreeSet<&str> = reference.iter().map(|column| column.name.as_str()).collect();
    let given: HashMap<&str, &[f64]> =
        current.iter().map(|(name, values)| (name.as_str(), values.as_slice())).collect();
    let unknown: Vec<String> =
        current.iter().map(|(name, _)| name).filter(|name| !known.contains(name.as_str())).cloned().collect();
    if !unknown.is_empty() {
        return Err(StatsError::UnknownColumns { names: unknown });
    }
    let mut missing = Vec::new();
    let mut columns = Vec::with_capacity(reference.len());
    for profile in reference {
        match given.get(profile.name.as_str()) {
            Some(values) => columns.push(compare_column(profile, values, config, limits)?),
            None => missing.push(profile.name.clone()),
        }
    }
    if missing.is_empty() { Ok(columns) } else { Err(StatsError::MissingColumns { names: missing }) }
}

fn compare_column(
    profile: &ColumnProfile,
    values: &[f64],
    config: &DriftConfig,
    limits: &mut Limits,
) -> Result<ColumnDrift> {
    let mut finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let num_values = finite.len();
    let num_dropped = values.len() - num_values;
    let seen = (profile.num_values + profile.num_missing) as f64;
    let missing_rate_reference = profile.num_missing as f64 / seen;
    let missing_rate_current = num_dropped as f64 / values.len() as f64;
    let rise = missing_rate_current - missing_rate_reference;
    let z = pooled_z(
        missing_rate_current,
        values.len() as f64 * profile.effective_ratio,
        missing_rate_reference,
        seen * profile.effective_ratio,
    );
    let missing_rise = rise > config.max_missing_rise && normal_cdf(-z) < config.p_value;

    let statistics = if num_values < config.min_rows {
        None
    } else {
        let num_bins = profile.shares.len();
        let bins: Vec<usize> = finite.iter().map(|&value| bin_of(value, &profile.edges)).collect();
        let total = num_values as f64;
        let shares: Vec<f64> = class_counts(&bins, num_bins).iter().map(|&count| count as f64 / total).collect();
        let own_ratio = effective_ratio(&bins, num_bins).min(profile.effective_ratio);
        let effective_rows_reference = profile.num_values as f64 * profile.effective_ratio;
        let effective_rows_current = total * own_ratio;
        let mean_current = mean(&finite);
        finite.sort_unstable_by(f64::total_cmp);
        let (ks, wasserstein) = ks_and_wasserstein(&profile.sample, &finite);
        let ks_p_value = ks_p_value(ks, effective_rows_reference, effective_rows_current);
        let used_bins = profile.shares.iter().zip(&shares).filter(|&(&p, &q)| p + q > 0.0).count();
        let psi = psi_unchecked(&profile.shares, &shares);
        let limit = limits.psi(used_bins, effective_rows_reference, effective_rows_current)?;
        let rows_per_bin = effective_rows_reference.min(effective_rows_current) / used_bins as f64;
        let bins_p_value = (rows_per_bin >= MIN_ROWS_PER_BIN)
            .then(|| bins_p_value(&profile.shares, &shares, effective_rows_reference, effective_rows_current));
        let p_value = bins_p_value.map_or(ks_p_value, |bins_p_value| (2.0 * ks_p_value.min(bins_p_value)).min(1.0));
        Some(ColumnStatistics {
            ks,
            ks_p_value,
            bins_p_value,
            p_value,
            p_adjusted: p_value,
            psi,
            psi_threshold: limit,
            psi_p_value: psi_p_value(psi, used_bins, effective_rows_reference, effective_rows_current),
            wasserstein,
            wasserstein_normed: (profile.std > 0.0).then(|| wasserstein / profile.std),
            kl: kl_unchecked(&profile.shares, &shares),
            js: js_unchecked(&profile.shares, &shares),
            mean_reference: profile.mean,
            mean_current,
            effective_rows_reference,
            effective_rows_current,
        })
    };
    Ok(ColumnDrift {
        name: profile.name.clone(),
        num_values,
        num_dropped,
        missing_rate_reference,
        missing_rate_current,
        missing_rise,
        statistics,
        drifted: false,
        reason: String::new(),
    })
}

fn compare_classes(
    reference: &[u64],
    current: &[u64],
    ratio_reference: f64,
    ratio_current: f64,
    limits: &mut Limits,
) -> Result<ClassDrift> {
    let shares = |counts: &[u64]| {
        let total = counts.iter().sum::<u64>() as f64;
        counts.iter().map(|&count| count as f64 / total).collect::<Vec<f64>>()
    };
    let (shares_reference, shares_current) = (shares(reference), shares(current));
    let test = chi_square_homogeneity(reference, current, ratio_reference.min(ratio_current))?;
    let effective = |counts: &[u64], ratio: f64| counts.iter().sum::<u64>() as f64 * ratio;
    let used = reference.iter().zip(current).filter(|&(&r, &c)| r + c > 0).count();
    let limit = limits.psi(used, effective(reference, ratio_reference), effective(current, ratio_current))?;
    Ok(ClassDrift {
        counts_reference: reference.to_vec(),
        counts_current: current.to_vec(),
        chi_square: test.statistic,
        p_value: test.p_value,
        p_adjusted: test.p_value,
        psi: psi_unchecked(&shares_reference, &shares_current),
        psi_threshold: limit,
        js: js_unchecked(&shares_reference, &shares_current),
        drifted: false,
        reason: String::new(),
    })
}

/// Corrects the p-values of one family and decides.
fn judge(
    mut columns: Vec<ColumnDrift>,
    mut classes: Option<ClassDrift>,
    config: &DriftConfig,
) -> Result<(Vec<ColumnDrift>, Option<ClassDrift>)> {
    let mut p_values: Vec<f64> =
        columns.iter().filter_map(|column| column.statistics.as_ref().map(|statistics| statistics.p_value)).collect();
    p_values.extend(classes.as_ref().map(|classes| classes.p_value));
    let mut adjusted = config.correction.adjust(&p_values)?.into_iter();
    for column in &mut columns {
        (column.drifted, column.reason) = match &mut column.statistics {
            Some(statistics) => {
                statistics.p_adjusted = adjusted.next().unwrap_or(1.0);
                verdict(statistics.p_adjusted, statistics.psi, statistics.psi_threshold, config)
            }
            None => (false, format!("{} finite values, fewer than {}", column.num_values, config.min_rows)),
        };
        if column.missing_rise {
            column.reason.push_str(&format!(
                "; missing values rose from {:.1} % to {:.1} %",
                100.0 * column.missing_rate_reference,
                100.0 * column.missing_rate_current
            ));
        }
    }
    if let Some(classes) = &mut classes {
        classes.p_adjusted = adjusted.next().unwrap_or(1.0);
        (classes.drifted, classes.reason) = verdict(classes.p_adjusted, classes.psi, classes.psi_threshold, config);
    }
    Ok((columns, classes))
}

fn verdict(p_adjusted: f64, psi: f64, psi_threshold: f64, config: &DriftConfig) -> (bool, String) {
    let significant = p_adjusted < config.p_value;
    let large = psi >= psi_threshold;
    let p = if significant {
        format!("adjusted p {p_adjusted:.2e} is below {}", config.p_value)
    } else {
        format!("adjusted p {p_adjusted:.3} is not below {}", config.p_value)
    };
    let size = if large {
        format!("psi {psi:.3} is at least {psi_threshold:.3}")
    } else {
        format!("psi {psi:.3} is below {psi_threshold:.3}")
    };
    let drifted = significant && large;
    (drifted, format!("{}: {p}; {size}", if drifted { "drifted" } else { "not drifted" }))
}
