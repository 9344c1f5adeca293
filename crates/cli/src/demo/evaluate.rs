//! What forecasts of unseen bars were worth.

use anyhow::{Context as _, bail};
use moola_core::baselines;
use moola_core::samples::{Sample, SampleSet};
use moola_core::stats::{
    BootstrapConfig, ClassificationMetrics, Interval, PairedComparison, bootstrap_interval, bootstrap_mean,
    evaluate_classification, paired_difference,
};
use moola_market::Bars;
use moola_market::labels::{self, LabelSpec, Labels};

const CALIBRATION_BINS: usize = 10;
/// Probabilities are kept this far from 0 in a log loss, as the gates do.
const CLIP: f64 = 1e-7;

/// One answer of the platform.
#[derive(Debug, Clone)]
pub(super) struct Forecast {
    /// Last bar of the window.
    pub(super) end: usize,
    /// Probabilities of the classes.
    pub(super) probabilities: Vec<f64>,
    /// Time until the answer was there.
    pub(super) latency_ms: f64,
}

/// How well one forecaster did, with 95 % intervals.
#[derive(Debug, Clone)]
pub(super) struct Score {
    /// Who.
    pub(super) name: String,
    /// All metrics.
    pub(super) metrics: ClassificationMetrics,
    /// Accuracy.
    pub(super) accuracy: Interval,
    /// Macro F1.
    pub(super) macro_f1: Interval,
    /// Log loss.
    pub(super) log_loss: Interval,
    /// Expected calibration error.
    pub(super) calibration: Interval,
}

/// Forecasters on the same bars.
#[derive(Debug, Clone)]
pub(super) struct Evaluation {
    /// The models, then the naive baselines.
    pub(super) scores: Vec<Score>,
    /// What the first model was compared with: the baseline of the lowest loss.
    pub(super) best_baseline: String,
    /// Log loss of that baseline less that of the first model: above zero where the model is better.
    pub(super) comparison: PairedComparison,
    /// What happened, by forecast that could be judged.
    pub(super) outcomes: Vec<(usize, usize)>,
}

impl Evaluation {
    /// Whether the first model is better than the best naive baseline beyond chance.
    pub(super) fn beats_baseline(&self) -> bool {
        self.comparison.p_value_greater <= 0.05
    }

    /// The same in a sentence.
    pub(super) fn verdict(&self) -> String {
        let difference = &self.comparison.difference;
        let numbers = format!(
            "its log loss is {:.4} {} (95 % interval of the gain {:.4} to {:.4}, p {:.4})",
            difference.estimate.abs(),
            if difference.estimate >= 0.0 { "lower" } else { "higher" },
            difference.low,
            difference.high,
            self.comparison.p_value_greater
        );
        let name = &self.scores[0].name;
        if self.beats_baseline() {
            format!("{name} beats the best naive baseline, `{}`: {numbers}", self.best_baseline)
        } else {
            format!("{name} does NOT beat the best naive baseline, `{}`: {numbers}", self.best_baseline)
        }
    }
}

/// The truth about a series.
#[derive(Debug)]
pub(super) struct Truth<'a> {
    bars: &'a Bars,
    labels: Labels,
    horizon: usize,
    history_bars: usize,
    stride: usize,
}

impl<'a> Truth<'a> {
    /// Labels all bars. A window ends every `stride` bars.
    pub(super) fn new(bars: &'a Bars, label: &LabelSpec, history_bars: usize, stride: usize) -> anyhow::Result<Self> {
        let labels = labels::compute(label, bars)?;
        Ok(Self { bars, labels, horizon: label.horizon(), history_bars, stride })
    }

    /// What happened after the bar at `index`.
    pub(super) fn class(&self, index: usize) -> Option<usize> {
        self.labels.class(index)
    }

    /// The range that followed the bar at `index`, as a share of its close.
    pub(super) fn range_after(&self, index: usize) -> Option<f64> {
        let after = index + 1..index + 1 + self.horizon;
        let high = self.bars.high().get(after.clone())?.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let low = self.bars.low().get(after)?.iter().copied().fold(f64::INFINITY, f64::min);
        Some((high - low) / self.bars.close()[index])
    }

    /// Scores `models` and the naive baselines, which know the labels before bar `train_end`, on the bars that all
    /// models forecast and whose outcome is known before bar `end`.
    pub(super) fn evaluate(
        &self,
        models: &[(String, &[Forecast])],
        train_end: usize,
        end: usize,
    ) -> anyhow::Result<Evaluation> {
        let Some((_, first)) = models.first() else { bail!("there is no model to evaluate") };
        let classes = self.labels.classes.len();
        let sample = |index: usize| {
            let target = self.labels.values[index]?;
            Some(Sample { end: index, label_end: self.labels.last[index], target })
        };
        // The baselines see a window as often as the model did.
        let judged: Vec<Sample> =
            first.iter().filter_map(|forecast| sample(forecast.end)).filter(|sample| sample.label_end < end).collect();
        let is_judged = |index: usize| judged.binary_search_by_key(&index, |sample| sample.end).is_ok();
        let grid = (self.history_bars - 1..end).step_by(self.stride).filter(|index| !is_judged(*index));
        let mut samples: Vec<Sample> = grid.filter_map(sample).chain(judged.iter().copied()).collect();
        samples.sort_by_key(|sample| sample.end);
        let rows = |keep: &dyn Fn(&Sample) -> bool| {
            (0..samples.len()).filter(|&row| keep(&samples[row])).collect::<Vec<usize>>()
        };
        let train = rows(&|sample| sample.label_end < train_end);
        let test = rows(&|sample| is_judged(sample.end));
        let set = SampleSet {
            classes: self.labels.classes.clone(),
            feature_set: None,
            history_bars: self.history_bars,
            samples,
            train,
            validation: Vec::new(),
            test,
            num_purged: 0,
        };
        let truth: Vec<usize> = judged.iter().map(|sample| sample.target as usize).collect();
        let step = first.windows(2).map(|pair| pair[1].end - pair[0].end).min().unwrap_or(1).max(1);
        let config = bootstrap(truth.len(), self.horizon.div_ceil(step));
        let mut scores = Vec::new();
        let mut first_losses = Vec::new();
        for (name, forecasts) in models {
            let mut probabilities = Vec::with_capacity(judged.len() * classes);
            for sample in &judged {
                let forecast = forecasts.iter().find(|forecast| forecast.end == sample.end);
                let forecast = forecast.with_context(|| format!("{name} made no forecast at bar {}", sample.end))?;
                probabilities.extend_from_slice(&forecast.probabilities);
            }
            if first_losses.is_empty() {
                first_losses = losses(&truth, &probabilities, classes);
            }
            scores.push(score(name, &truth, &probabilities, classes, &config)?);
        }
        let mut best: Option<(String, Vec<f64>)> = None;
        for (name, probabilities) in baselines::forecasts(&set, &set.test, Some(classes)) {
            scores.push(score(&format!("baseline {name}"), &truth, &probabilities, classes, &config)?);
            let losses = losses(&truth, &probabilities, classes);
            let sum = |values: &[f64]| values.iter().sum::<f64>();
            if best.as_ref().is_none_or(|(_, least)| sum(&losses) < sum(least)) {
                best = Some((name, losses));
            }
        }
        let Some((best_baseline, baseline)) = best else { bail!("there is no baseline") };
        let comparison = paired_difference(&baseline, &first_losses, &config)?;
        let outcomes = judged.iter().map(|sample| (sample.end, sample.target as usize)).collect();
        Ok(Evaluation { scores, best_baseline, comparison, outcomes })
    }
}

/// Blocks hold the neighbours whose labels overlap.
fn bootstrap(num_rows: usize, overlap: usize) -> BootstrapConfig {
    let length = (num_rows as f64).cbrt().max(overlap as f64);
    BootstrapConfig { mean_block_length: Some(length), seed: 1337, ..BootstrapConfig::default() }
}

fn losses(truth: &[usize], probabilities: &[f64], classes: usize) -> Vec<f64> {
    let rows = probabilities.chunks(classes).zip(truth);
    rows.map(|(row, class)| -row[*class].clamp(CLIP, 1.0).ln()).collect()
}

fn score(
    name: &str,
    truth: &[usize],
    probabilities: &[f64],
    classes: usize,
    config: &BootstrapConfig,
) -> anyhow::Result<Score> {
    let metrics = evaluate_classification(truth, probabilities, classes, CALIBRATION_BINS)?;
    let resampled = |statistic: &dyn Fn(&ClassificationMetrics) -> f64| {
        bootstrap_interval(truth.len(), config, |rows| {
            let truth: Vec<usize> = rows.iter().map(|&row| truth[row]).collect();
            let rows: Vec<f64> =
                rows.iter().flat_map(|&row| &probabilities[row * classes..(row + 1) * classes]).copied().collect();
            evaluate_classification(&truth, &rows, classes, CALIBRATION_BINS).map_or(f64::NAN, |m| statistic(&m))
        })
    };
    Ok(Score {
        name: name.to_owned(),
        accuracy: resampled(&|m| m.accuracy)?,
        macro_f1: resampled(&|m| m.macro_f1)?,
        log_loss: bootstrap_mean(&losses(truth, probabilities, classes), config)?,
        calibration: resampled(&|m| m.expected_calibration_error)?,
        metrics,
    })
}

/// Returns of a rule between forecasts, with costs: long while the forecast is calm, flat otherwise; and of holding.
#[derive(Debug)]
pub(super) struct Backtest {
    /// Last bars of the windows, one more than returns.
    pub(super) ends: Vec<usize>,
    /// Simple returns of the rule.
    pub(super) rule: Vec<f64>,
    /// Simple returns of holding.
    pub(super) hold: Vec<f64>,
    /// Changes of the position.
    pub(super) num_trades: usize,
}

/// Costs of a change of position from flat to long or back, as a share of its value.
pub(super) const COST: f64 = 0.0001;

/// Trades `forecasts` by the rule: long while the probability of `class` is below `threshold`.
pub(super) fn backtest(bars: &Bars, forecasts: &[Forecast], class: usize, threshold: f64) -> Backtest {
    let mut done =
        Backtest { ends: forecasts.iter().map(|f| f.end).collect(), rule: Vec::new(), hold: Vec::new(), num_trades: 0 };
    let mut position = 0.0;
    for pair in forecasts.windows(2) {
        let wanted = if pair[0].probabilities[class] < threshold { 1.0 } else { 0.0 };
        let is_trade = wanted != position;
        done.num_trades += usize::from(is_trade);
        position = wanted;
        let gain = bars.close()[pair[1].end] / bars.close()[pair[0].end] - 1.0;
        done.rule.push(position * gain - if is_trade { COST } else { 0.0 });
        done.hold.push(gain);
    }
    done
}
