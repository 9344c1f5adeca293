//! The page of the demo: one file, nothing loaded from elsewhere.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use moola_core::contract::EpochProgress;
use moola_core::gates::GateReport;
use moola_core::ports::Event;
use moola_core::stats::DriftReport;
use moola_market::simulate::Regime;

use super::evaluate::{Backtest, COST, Evaluation, Forecast, Score};
use super::market::Market;
use super::svg::{self, Band, Chart, Series, short};
use crate::output;

const STYLE: &str = r":root{--bg:#fff;--fg:#1b1f24;--dim:#656d76;--line:#d8dee4;--card:#f6f8fa;--c0:#0969da;--c1:#cf5c00;--c2:#1a7f37;--c3:#8250df;--good:#1a7f37;--bad:#cf222e}
@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--dim:#8d96a0;--line:#30363d;--card:#161b22;--c0:#4493f8;--c1:#f0883e;--c2:#3fb950;--c3:#ab7df8;--good:#3fb950;--bad:#f85149}}
*{box-sizing:border-box}body{margin:0 auto;max-width:820px;padding:24px 16px 64px;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 8px;padding-top:12px;border-top:1px solid var(--line)}
p{margin:6px 0}.dim{color:var(--dim)}.good{color:var(--good)}.bad{color:var(--bad)}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;margin:8px 0;width:100%}th{font-weight:600;text-align:left;color:var(--dim)}th,td{padding:3px 10px 3px 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
svg{width:100%;height:auto;display:block}.tick{fill:var(--dim);font-size:10px}.label{fill:var(--dim);font-size:11px}.grid{stroke:var(--line);stroke-width:.6}.axis{stroke:var(--dim)}.mark{stroke:var(--bad);stroke-dasharray:4 3}
polyline{fill:none;stroke-width:1.6}.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}.s4{stroke:var(--dim)}
.f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}.f4{fill:var(--dim)}
.trend{fill:var(--c2);opacity:.10}.turbulent{fill:var(--bad);opacity:.12}.range{fill:none}.shifted{fill:var(--c1);opacity:.12}
.legend{font-size:12px;color:var(--dim)}.legend span{margin-right:14px}.key{display:inline-block;width:14px;height:3px;margin-right:5px!important;vertical-align:middle}.k0{background:var(--c0)}.k1{background:var(--c1)}.k2{background:var(--c2)}.k3{background:var(--c3)}.k4{background:var(--dim)}
code{font:12px ui-monospace,monospace;background:var(--card);padding:1px 4px;border-radius:4px}.facts{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 14px;margin:14px 0}.facts p{margin:3px 0}";

/// A training as the page shows it.
#[derive(Debug)]
pub(super) struct TrainedVersion {
    /// Number of the version.
    pub(super) version: u32,
    /// What started it.
    pub(super) trigger: String,
    /// Where it stands in the end.
    pub(super) stage: String,
    /// Its epochs.
    pub(super) epochs: Vec<EpochProgress>,
    /// How the gates judged it.
    pub(super) gates: GateReport,
    /// Seconds from the request to the registered version.
    pub(super) secs: f64,
}

/// Everything that happened.
#[derive(Debug)]
pub(super) struct Story<'a> {
    pub(super) market: &'a Market,
    pub(super) model: &'a str,
    pub(super) label: &'a str,
    pub(super) facts: &'a [Fact],
    pub(super) versions: &'a [TrainedVersion],
    pub(super) unseen: &'a Evaluation,
    pub(super) unseen_forecasts: &'a [Forecast],
    pub(super) shifted: Option<&'a Evaluation>,
    pub(super) ranges: &'a [(f64, f64)],
    pub(super) backtest: &'a Backtest,
    pub(super) drift_before: Option<&'a DriftReport>,
    pub(super) drift_after: Option<&'a DriftReport>,
    pub(super) psi_threshold: f64,
    pub(super) events: &'a [Event],
    pub(super) correlation_id: &'a str,
    pub(super) latencies_ms: &'a [f64],
    pub(super) total_secs: f64,
}

/// One line of the summary.
#[derive(Debug, Clone)]
pub(super) struct Fact {
    /// What it says.
    pub(super) text: String,
    /// Whether that is good or bad news.
    pub(super) is_good: Option<bool>,
}

fn fact_class(is_good: Option<bool>) -> &'static str {
    match is_good {
        Some(true) => "good",
        Some(false) => "bad",
        None => "",
    }
}

/// Writes the page.
pub(super) fn page(story: &Story<'_>) -> String {
    let Story { market, model, .. } = story;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "moola demo: " (market.symbol) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "moola demo: " (market.symbol) " " (market.interval) }
                p.dim { (market.source) ". " (market.shift) ". The model says whether the range of the bars that follow is an expansion or a consolidation (" code { (story.label) } "). " (format!("{:.0} s in all.", story.total_secs)) }
                div.facts { @for fact in story.facts { p class=(fact_class(fact.is_good)) { (fact.text) } } }
                h2 { "The bars, and what was predicted" }
                (prices(story))
                h2 { "Training" }
                (losses(story))
                h2 { "Unseen bars: the model against naive baselines" }
                p { (story.unseen.verdict()) "." }
                (scores(&story.unseen.scores))
                p.dim { "95 % intervals by a stationary bootstrap whose blocks cover the overlap of the labels. " code { "prior" } " answers with the class frequencies of the training bars, " code { "persistence" } " with those that followed the last known class." }
                (reliability(&story.unseen.scores))
                h2 { "Range that followed, by predicted probability" }
                (range_chart(story))
                h2 { "Equity of a stated rule" }
                (equity(story))
                h2 { "Drift by feature" }
                (drift(story))
                @if let Some(shifted) = story.shifted {
                    h2 { "After the change: bars that neither version saw" }
                    p { (shifted.verdict()) "." }
                    (scores(&shifted.scores))
                }
                h2 { "Versions and gates" }
                (gates(story))
                h2 { "Latency of one prediction over HTTP" }
                (svg::histogram(story.latencies_ms, "milliseconds, features and log included", 40))
                h2 { "What happened" }
                (events(story))
                p.dim { "Model " code { (model) } ". Written by moola " (env!("CARGO_PKG_VERSION")) ". Not advice to trade." }
            }
        }
    };
    page.into_string()
}

fn thin(points: Vec<(f64, f64)>, most: usize) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(most).max(1);
    points.into_iter().step_by(step).collect()
}

fn prices(story: &Story<'_>) -> Markup {
    let market = story.market;
    let close = market.bars.close();
    let line = |from: usize, to: usize| thin((from..to).map(|i| (i as f64, close[i])).collect(), 1200);
    let marks =
        [(market.train_end as f64, "unseen"), (market.shift_at as f64, "changed"), (market.known_end as f64, "unseen")];
    let band = Band { from: market.shift_at as f64, to: market.bars.len() as f64, class: "shifted" };
    let all = Chart {
        x_label: "bar",
        y_label: "close",
        height: 240.0,
        series: &[Series::new("close", 0, line(0, market.bars.len()))],
        bands: &[band],
        marks: &marks,
        y_range: None,
        x_format: short,
    };
    // The last unseen bars before the change, close up.
    let expansion = 1;
    let shown: Vec<&Forecast> = story.unseen_forecasts.iter().rev().take(120).rev().collect();
    let (from, to) = (shown.first().map_or(0, |f| f.end), shown.last().map_or(1, |f| f.end));
    let price = Series::new("close", 0, line(from, to + 1));
    let zoom = Chart {
        x_label: "bar",
        y_label: "close",
        height: 200.0,
        series: &[price],
        bands: &regime_bands(market, from, to),
        marks: &[],
        y_range: None,
        x_format: short,
    };
    let points = shown.iter().map(|f| (f.end as f64, f.probabilities[expansion])).collect();
    let probability = Chart {
        x_label: "bar",
        y_label: "probability",
        height: 160.0,
        series: &[Series::new("predicted probability of an expansion", 1, points)],
        bands: &outcome_bands(story, from, to),
        marks: &[],
        y_range: Some((0.0, 1.0)),
        x_format: short,
    };
    html! {
        (all.draw())
        p.dim { "Training knows the bars before the first mark. The last predictions before the change, close up:" }
        (zoom.draw())
        @if market.regimes.is_some() { p.dim { "Background: the true regime of the simulation (green: trend, red: turbulent, none: range)." } }
        (probability.draw())
        p.dim { "Background: an expansion followed." }
    }
}

fn regime_bands(market: &Market, from: usize, to: usize) -> Vec<Band> {
    let Some(regimes) = &market.regimes else { return Vec::new() };
    let mut bands = Vec::new();
    let mut start = from;
    for index in from..=to.min(regimes.len() - 1) {
        if index == to || regimes[index] != regimes[start] {
            let class = match regimes[start] {
                Regime::Trend => "trend",
                Regime::Range => "range",
                Regime::Turbulent => "turbulent",
            };
            bands.push(Band { from: start as f64, to: index as f64, class });
            start = index;
        }
    }
    bands
}

fn outcome_bands(story: &Story<'_>, from: usize, to: usize) -> Vec<Band> {
    let inside: Vec<_> = story.unseen.outcomes.iter().filter(|(end, _)| (from..=to).contains(end)).collect();
    inside
        .windows(2)
        .filter(|pair| pair[0].1 == 1)
        .map(|pair| Band { from: pair[0].0 as f64, to: pair[1].0 as f64, class: "turbulent" })
        .collect()
}

fn losses(story: &Story<'_>) -> Markup {
    let mut series = Vec::new();
    for (index, version) in story.versions.iter().enumerate() {
        let points = |value: fn(&EpochProgress) -> f64| {
            version.epochs.iter().map(|epoch| (epoch.epoch as f64, value(epoch))).collect::<Vec<_>>()
        };
        series.push(
            Series::new(format!("version {}, training", version.version), index, points(|e| e.train_loss)).dashed(),
        );
        let validation =
            Series::new(format!("version {}, validation", version.version), index, points(|e| e.validation_loss));
        series.push(validation.marked());
    }
    let chart = Chart {
        x_label: "epoch",
        y_label: "loss",
        height: 220.0,
        series: &series,
        bands: &[],
        marks: &[],
        y_range: None,
        x_format: short,
    };
    chart.draw()
}

fn with_interval(interval: &moola_core::stats::Interval) -> String {
    format!("{:.4} ({:.4} to {:.4})", interval.estimate, interval.low, interval.high)
}

fn scores(scores: &[Score]) -> Markup {
    html! {
        div.scroll { table {
            tr { th { "" } th.n { "bars" } th.n { "accuracy" } th.n { "macro F1" } th.n { "log loss" } th.n { "calibration error" } }
            @for score in scores {
                tr {
                    td { (score.name) } td.n { (score.metrics.num_rows) } td.n { (with_interval(&score.accuracy)) }
                    td.n { (with_interval(&score.macro_f1)) } td.n { (with_interval(&score.log_loss)) }
                    td.n { (with_interval(&score.calibration)) }
                }
            }
        } }
    }
}

fn reliability(scores: &[Score]) -> Markup {
    let mut series = vec![Series::new("perfect", 4, vec![(0.5, 0.5), (1.0, 1.0)]).dashed()];
    for (index, score) in scores.iter().enumerate().filter(|(_, score)| !score.name.starts_with("baseline")) {
        let bins = score.metrics.reliability.iter().filter(|bin| bin.num_rows > 0);
        let points = bins.map(|bin| (bin.mean_confidence, bin.accuracy)).collect();
        series.push(Series::new(score.name.clone(), index, points).marked());
    }
    let chart = Chart {
        x_label: "confidence of the predicted class",
        y_label: "share that was right",
        height: 240.0,
        series: &series,
        bands: &[],
        marks: &[],
        y_range: Some((0.0, 1.0)),
        x_format: short,
    };
    chart.draw()
}

fn range_chart(story: &Story<'_>) -> Markup {
    let mut sorted = story.ranges.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let size = sorted.len().div_ceil(10).max(1);
    let mean =
        |values: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| values.iter().map(of).sum::<f64>() / values.len() as f64;
    let points = sorted.chunks(size).map(|part| (mean(part, |v| v.0), 100.0 * mean(part, |v| v.1))).collect();
    let chart = Chart {
        x_label: "predicted probability of an expansion (tenths of the forecasts)",
        y_label: "mean range, % of price",
        height: 220.0,
        series: &[Series::new("range of the bars that followed", 0, points).marked()],
        bands: &[],
        marks: &[],
        y_range: None,
        x_format: short,
    };
    chart.draw()
}

fn equity(story: &Story<'_>) -> Markup {
    let curve = |returns: &[f64]| {
        let mut value = 1.0;
        let grown = returns.iter().map(|gain| {
            value *= 1.0 + gain;
            value
        });
        let grown: Vec<f64> = grown.collect();
        story.backtest.ends.iter().map(|end| *end as f64).zip(std::iter::once(1.0).chain(grown)).collect::<Vec<_>>()
    };
    let series = [
        Series::new("rule, after costs", 0, thin(curve(&story.backtest.rule), 1200)),
        Series::new("buy and hold", 4, thin(curve(&story.backtest.hold), 1200)),
    ];
    let chart = Chart {
        x_label: "bar",
        y_label: "equity",
        height: 220.0,
        series: &series,
        bands: &[],
        marks: &[],
        y_range: None,
        x_format: short,
    };
    html! {
        (chart.draw())
        p.dim {
            "Rule: long while the probability of an expansion is below its share in the training bars, else in cash; "
            (format!("{} changes at {:.2} % of the value each. ", story.backtest.num_trades, 100.0 * COST))
            "The model forecasts the width of moves and not their direction, so the rule shows what avoiding wide moves would have done, and no more."
        }
    }
}

fn drift(story: &Story<'_>) -> Markup {
    let psi = |report: Option<&DriftReport>, name: &str| {
        let column = report?.columns.iter().chain(&report?.predictions).find(|column| column.name == name)?;
        Some(column.statistics.as_ref()?.psi)
    };
    let Some(after) = story.drift_after.or(story.drift_before) else {
        return html! { p { "There was no drift check." } };
    };
    let mut names: Vec<String> = after.columns.iter().map(|column| column.name.clone()).collect();
    names.sort_by(|a, b| psi(Some(after), b).unwrap_or(0.0).total_cmp(&psi(Some(after), a).unwrap_or(0.0)));
    names.truncate(24);
    let values =
        |report: Option<&DriftReport>| names.iter().map(|name| psi(report, name).unwrap_or(f64::NAN)).collect();
    let groups = [
        ("before the change".to_owned(), values(story.drift_before)),
        ("after it".to_owned(), values(story.drift_after)),
    ];
    html! {
        p { "Population stability index of each feature against the training; the columns of the largest change. A column counts as drifted where this and a test that knows how dependent neighbouring bars are both say so." }
        (svg::bars(&names, &groups, story.psi_threshold))
    }
}

fn gates(story: &Story<'_>) -> Markup {
    html! {
        @for version in story.versions {
            p {
                b { (story.model) "/" (version.version) } " (" (version.trigger) ", " (format!("{:.0} s", version.secs)) "): "
                span class=(fact_class(Some(version.gates.passed))) { @if version.gates.passed { "passed" } @else { "failed" } }
                ", now in " (version.stage)
            }
            div.scroll { table {
                tr { th { "gate" } th { "" } th { "result" } }
                @for gate in &version.gates.gates {
                    tr { td { (gate.name) } td class=(fact_class(Some(gate.passed))) { @if gate.passed { "passed" } @else { "failed" } } td { (gate.detail) } }
                }
            } }
        }
    }
}

fn events(story: &Story<'_>) -> Markup {
    html! {
        p.dim { "Events of the correlation id " code { (story.correlation_id) } " are one chain: drift, retraining, gates, promotion." }
        div.scroll { table {
            tr { th { "time" } th { "event" } th { "detail" } th { "chain" } }
            @for event in story.events {
                tr {
                    td.n { (output::time(event.time_ms)) } td { (event.detail_type) } td { (summary(event)) }
                    td { @if event.correlation_id == story.correlation_id { b { "drift" } } @else { "" } }
                }
            }
        } }
    }
}

/// The fields of an event that say most.
fn summary(event: &Event) -> String {
    let fields =
        ["model_version", "run_id", "jobName", "status", "from", "to", "passed", "num_rows", "drifted_share", "reason"];
    let shown = fields.iter().filter_map(|field| {
        let value = event.detail.get(field).filter(|value| !value.is_null())?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(format!("{} {text}", field.replace('_', " ")))
    });
    shown.collect::<Vec<_>>().join(", ")
}
