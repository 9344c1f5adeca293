//! Bars as files and as requests.

use std::fmt::Write as _;

use moola_market::Bars;
use moola_market::simulate::{Shift, SimulationConfig, simulate};
use serde_json::{Value, json};

/// Simulated hourly bars.
///
/// # Panics
/// Where they cannot be made.
#[must_use]
pub fn simulated(seed: u64, num_bars: usize) -> Bars {
    simulate(&SimulationConfig { seed, num_bars, ..SimulationConfig::default() }).expect("a simulation").bars
}

/// Simulated hourly bars of a market that is another from the first bar on.
///
/// # Panics
/// Where they cannot be made.
#[must_use]
pub fn shifted(seed: u64, num_bars: usize) -> Bars {
    let shift = Shift { at_bar: 0, volatility: 3.0, regime_weights: Some([0.9, 0.05, 0.05]) };
    let config = SimulationConfig { seed, num_bars, shift: Some(shift), ..SimulationConfig::default() };
    simulate(&config).expect("a simulation").bars
}

/// Bars as CSV, extra columns included.
#[must_use]
pub fn csv(bars: &Bars) -> String {
    let mut text = "timestamp,open,high,low,close,volume".to_owned();
    bars.extra().keys().for_each(|name| text = format!("{text},{name}"));
    for (index, bar) in bars.iter().enumerate() {
        let volume = bar.volume.map_or(String::new(), |volume| volume.to_string());
        // Writing into a string does not fail.
        let _ = write!(text, "\n{},{},{},{},{},{volume}", bar.time_ms, bar.open, bar.high, bar.low, bar.close);
        bars.extra().values().for_each(|column| text = format!("{text},{}", column[index]));
    }
    text + "\n"
}

/// Open, high, low, close of the `num_bars` bars up to `end`.
#[must_use]
pub fn window(bars: &Bars, end: usize, num_bars: usize) -> Value {
    let row = |index: usize| json!([bars.open()[index], bars.high()[index], bars.low()[index], bars.close()[index]]);
    (end + 1 - num_bars..=end).map(row).collect()
}

/// A request for `POST /api/v2/inference/predict`.
#[must_use]
pub fn request(model: &str, windows: &[Value]) -> Value {
    json!({"model_version": model, "input_data": {"ohlc_data": windows}})
}
