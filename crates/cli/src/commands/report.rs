//! Tables of metrics and gates.

use std::collections::BTreeMap;

use moola_core::contract::FoldMetrics;
use moola_core::gates::GateReport;
use moola_core::stats::{ClassificationMetrics, RegressionMetrics};

use crate::output::{Table, line, number};

/// Metrics by name of the forecaster, in a table.
fn metrics_table(
    classification: &[(String, &ClassificationMetrics)],
    regression: &[(String, &RegressionMetrics)],
) -> Table {
    if regression.is_empty() {
        let mut table =
            Table::new(&["", "rows", "accuracy", "balanced", "macro F1", "log loss", "Brier", "calibration error"]);
        for (name, metrics) in classification {
            table.row([
                name.clone(),
                metrics.num_rows.to_string(),
                number(Some(metrics.accuracy), 4),
                number(Some(metrics.balanced_accuracy), 4),
                number(Some(metrics.macro_f1), 4),
                number(Some(metrics.log_loss), 4),
                number(Some(metrics.brier), 4),
                number(Some(metrics.expected_calibration_error), 4),
            ]);
        }
        return table;
    }
    let mut table = Table::new(&["", "MSE", "R2", "directional accuracy"]);
    for (name, metrics) in regression {
        table.row([
            name.clone(),
            format!("{:.4e}", metrics.mse),
            number(metrics.r2, 4),
            number(metrics.directional_accuracy, 4),
        ]);
    }
    table
}

/// The metrics of a run, fold by fold, and of the baselines on the test fold.
pub(super) fn folds(metrics: &FoldMetrics) -> Table {
    fn rows<'a, T>(folds: [(&str, &'a T); 3], baselines: &'a BTreeMap<String, T>) -> Vec<(String, &'a T)> {
        let folds = folds.into_iter().map(|(name, metrics)| (format!("model, {name}"), metrics));
        folds.chain(baselines.iter().map(|(name, metrics)| (format!("baseline {name}, test"), metrics))).collect()
    }
    match metrics {
        FoldMetrics::Classification { train, validation, test, baselines } => {
            let folds = [("train", &**train), ("validation", &**validation), ("test", &**test)];
            metrics_table(&rows(folds, baselines), &[])
        }
        FoldMetrics::Regression { train, validation, test, baselines } => {
            let folds = [("train", &**train), ("validation", &**validation), ("test", &**test)];
            metrics_table(&[], &rows(folds, baselines))
        }
    }
}

/// Prints how the gates judged a version, and what that says.
pub(super) fn gates(report: &GateReport) -> anyhow::Result<()> {
    let classification: Vec<_> = report.classification.iter().map(|(name, metrics)| (name.clone(), metrics)).collect();
    let regression: Vec<_> = report.regression.iter().map(|(name, metrics)| (name.clone(), metrics)).collect();
    if !classification.is_empty() || !regression.is_empty() {
        line(format!(
            "held-out bars of {}, forecast by the candidate and its rivals:",
            report.dataset.as_deref().unwrap_or("-")
        ))?;
        metrics_table(&classification, &regression).print()?;
        line("")?;
    }
    if !report.engine.is_empty() {
        line(format!("judged as the engine `{}` serves it", report.engine))?;
    }
    let mut table = Table::new(&["gate", "", "result"]);
    for gate in &report.gates {
        let verdict = match (gate.passed, gate.required) {
            (true, _) => "passed",
            (false, true) => "FAILED",
            (false, false) => "failed (advisory)",
        };
        table.row([gate.name.clone(), verdict.into(), gate.detail.clone()]);
    }
    table.print()?;
    line("")?;
    line(verdict(report))
}

/// What a report says, in a sentence.
pub(crate) fn verdict(report: &GateReport) -> String {
    let name = format!("{}/{}", report.model, report.version);
    let baseline = report.gates.iter().find(|gate| gate.name == "beats_baseline");
    let beats = match baseline {
        Some(gate) if gate.passed => "It beats the naive baselines on bars that it has not seen.",
        Some(_) => "It does NOT beat the naive baselines on bars that it has not seen: do not rely on it.",
        None => "It was not compared with the naive baselines.",
    };
    let failed: Vec<&str> =
        report.gates.iter().filter(|gate| gate.required && !gate.passed).map(|gate| gate.name.as_str()).collect();
    if failed.is_empty() {
        format!("{name} passed the gates. {beats}")
    } else {
        format!("{name} failed the gates ({}). {beats}", failed.join(", "))
    }
}
