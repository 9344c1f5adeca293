use super::*;
use crate::labels::{LabelSpec, compute};
use crate::read::RawBars;
use crate::validate::{Calendar, Rule, ValidationConfig, validate};

fn run(config: SimulationConfig) -> Simulation {
    simulate(&config).unwrap()
}

fn returns(bars: &Bars) -> Vec<f64> {
    bars.close().windows(2).map(|pair| (pair[1] / pair[0]).ln()).collect()
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.into_iter().collect();
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn the_same_seed_gives_the_same_bars() {
    let config = SimulationConfig { num_bars: 500, ..SimulationConfig::default() };
    assert_eq!(run(config.clone()), run(config.clone()));
    assert_ne!(run(config.clone()), run(SimulationConfig { seed: 1, ..config }));
}

#[test]
fn bars_obey_every_rule() {
    let raw = RawBars::from_bars(run(SimulationConfig::default()).bars);
    let config = ValidationConfig { calendar: Calendar::Auto, ..ValidationConfig::default() };
    let report = validate(&raw, &config).unwrap().report;
    assert_eq!((report.num_rejected, report.count(Rule::Gap), report.has_volume), (0, 0, true));
    assert!(report.gaps.num_closures > 50);
}

#[test]
fn regimes_come_in_their_shares_and_differ() {
    let market = run(SimulationConfig { num_bars: 100_000, ..SimulationConfig::default() });
    let returns = returns(&market.bars);
    let spread = |regime| {
        let squares = returns.iter().zip(&market.regimes[1..]).filter(|(_, of)| **of == regime).map(|(r, _)| r * r);
        mean(squares).sqrt()
    };
    for (regime, share) in REGIMES.into_iter().zip([0.35, 0.45, 0.2]) {
        let found = market.regimes.iter().filter(|of| **of == regime).count() as f64 / 100_000.0;
        assert!((found - share).abs() < 0.07, "{regime:?}: {found}");
    }
    assert!(spread(Regime::Turbulent) > 1.2 * spread(Regime::Trend));
    assert!(spread(Regime::Trend) > 1.05 * spread(Regime::Range));
}

#[test]
fn returns_have_fat_tails_and_volatility_clusters() {
    let returns = returns(&run(SimulationConfig { num_bars: 50_000, ..SimulationConfig::default() }).bars);
    let centre = mean(returns.iter().copied());
    let variance = mean(returns.iter().map(|r| (r - centre).powi(2)));
    let kurtosis = mean(returns.iter().map(|r| (r - centre).powi(4))) / variance.powi(2);
    assert!(kurtosis > 4.0, "{kurtosis}");
    let sizes: Vec<f64> = returns.iter().map(|r| r.abs()).collect();
    let (centre, lag) = (mean(sizes.iter().copied()), 5);
    let variance = mean(sizes.iter().map(|s| (s - centre).powi(2)));
    let covariance = mean(sizes.windows(lag + 1).map(|w| (w[0] - centre) * (w[lag] - centre)));
    assert!(covariance / variance > 0.1, "{}", covariance / variance);
}

#[test]
fn a_shift_changes_the_market_from_its_bar_on() {
    let plain = SimulationConfig { num_bars: 20_000, ..SimulationConfig::default() };
    let shift = Shift { at_bar: 10_000, volatility: 2.5, regime_weights: Some([0.1, 0.2, 0.7]) };
    let (before, after) = (run(plain.clone()), run(SimulationConfig { shift: Some(shift), ..plain }));
    assert_eq!(before.bars.slice(0..10_000), after.bars.slice(0..10_000));
    let spread = |bars: Bars| mean(returns(&bars).iter().map(|r| r * r)).sqrt();
    let ratio = spread(after.bars.slice(10_000..20_000)) / spread(before.bars.slice(0..10_000));
    assert!(ratio > 2.5, "{ratio}");
    let turbulent = after.regimes[10_000..].iter().filter(|of| **of == Regime::Turbulent).count();
    assert!(turbulent > 4_500, "{turbulent}");
}

/// The label that models are shown is predictable from the past, but far from certain.
#[test]
fn expansion_is_learnable_to_a_moderate_degree() {
    let bars = run(SimulationConfig { num_bars: 50_000, ..SimulationConfig::default() }).bars;
    let labels = compute(&LabelSpec::Expansion { horizon: 10, multiple: 1.0 }, &bars).unwrap();
    let ranges: Vec<f64> = bars.iter().map(|bar| (bar.high / bar.low).ln()).collect();
    // How narrow the last 14 bars are against the last 200: compression comes before expansion.
    let scored: Vec<(f64, bool)> = (200..bars.len())
        .step_by(10)
        .filter_map(|t| {
            let class = labels.class(t)?;
            let recent = mean(ranges[t - 13..=t].iter().copied());
            Some((mean(ranges[t - 199..=t].iter().copied()) / recent, class == 1))
        })
        .collect();
    let share = scored.iter().filter(|(_, expansion)| *expansion).count() as f64 / scored.len() as f64;
    assert!((0.25..0.75).contains(&share), "share of expansion {share}");
    let (mut wins, mut pairs) = (0.0, 0.0);
    for (a, _) in scored.iter().filter(|(_, expansion)| *expansion) {
        for (b, _) in scored.iter().filter(|(_, expansion)| !*expansion) {
            wins += if a > b {
                1.0
            } else if a == b {
                0.5
            } else {
                0.0
            };
            pairs += 1.0;
        }
    }
    let auc = wins / pairs;
    eprintln!("share of expansion {share:.3}, area under the curve of compression alone {auc:.3}");
    assert!((0.58..0.85).contains(&auc), "{auc}");
}

#[test]
fn settings_out_of_range_are_refused() {
    let plain = SimulationConfig { num_bars: 10, ..SimulationConfig::default() };
    for config in [
        SimulationConfig { volatility: 0.0, ..plain.clone() },
        SimulationConfig { volatility: 0.5, ..plain.clone() },
        SimulationConfig { initial_price: f64::NAN, ..plain.clone() },
        SimulationConfig { regime_weights: [0.0; 3], ..plain.clone() },
        SimulationConfig { regime_bars: [0.0, 1.0, 1.0], ..plain.clone() },
        SimulationConfig { start_ms: i64::MAX, ..plain.clone() },
        SimulationConfig { shift: Some(Shift { at_bar: 1, volatility: -1.0, regime_weights: None }), ..plain.clone() },
    ] {
        assert!(simulate(&config).is_err(), "{config:?}");
    }
    let weekly = SimulationConfig { interval: "1w".parse().unwrap(), start_ms: 2 * 86_400_000, ..plain };
    assert_eq!(run(weekly).bars.len(), 10);
}
