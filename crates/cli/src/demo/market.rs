//! The bars of the demo: simulated, or of a file with a shock at their end.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use moola_market::read::{self, ReadOptions};
use moola_market::simulate::{Regime, Shift, SimulationConfig, simulate};
use moola_market::validate::{self, Mode, ValidationConfig};
use moola_market::{Bar, Bars, Interval};

use crate::commands::read_input;

/// Factor of the volatility in the changed market.
pub(super) const SHIFT: f64 = 3.0;
const WEEK_MS: i64 = 7 * 86_400_000;

/// Bars in order of time, with what happens when.
#[derive(Debug)]
pub(super) struct Market {
    /// Instrument.
    pub(super) symbol: String,
    /// Length of a bar.
    pub(super) interval: Interval,
    /// All bars.
    pub(super) bars: Bars,
    /// The true regime of each bar, where the market is simulated.
    pub(super) regimes: Option<Vec<Regime>>,
    /// The first training knows the bars before this one.
    pub(super) train_end: usize,
    /// The market changes here.
    pub(super) shift_at: usize,
    /// The second training knows the bars before this one.
    pub(super) known_end: usize,
    /// What the bars are.
    pub(super) source: String,
    /// What the change is.
    pub(super) shift: String,
    /// The file as it was given.
    pub(super) file: Option<Vec<u8>>,
}

/// A market that the project generates itself, whose volatility rises for good towards the end.
pub(super) fn simulated(seed: u64) -> anyhow::Result<Market> {
    let (train_end, shift_at, known_end, num_bars) = (30_000, 34_000, 50_000, 54_000);
    let config = SimulationConfig {
        seed,
        num_bars,
        shift: Some(Shift { at_bar: shift_at, volatility: SHIFT, regime_weights: None }),
        ..SimulationConfig::default()
    };
    let simulation = simulate(&config)?;
    Ok(Market {
        symbol: "SIM".into(),
        interval: config.interval,
        bars: simulation.bars,
        regimes: Some(simulation.regimes),
        train_end,
        shift_at,
        known_end,
        source: format!(
            "{num_bars} simulated {} bars (seed {seed}) of a market with trends, ranges and turbulence",
            config.interval
        ),
        shift: format!("from bar {shift_at} on the simulated volatility is {SHIFT} times as high"),
        file: None,
    })
}

/// Bars of a file; the last 30 % are kept from the training. A synthetic shock follows them: the last bars once more,
/// with every move a multiple of what it was.
pub(super) fn of_file(path: &Path) -> anyhow::Result<Market> {
    let bytes = read_input(path)?;
    let raw = read::read(&bytes, &ReadOptions::default()).with_context(|| format!("`{}`", path.display()))?;
    let clean = validate::clean(raw, &ValidationConfig::default(), Mode::Quarantine);
    let clean = clean.with_context(|| format!("`{}`", path.display()))?;
    let Some(interval) = clean.report.interval else { bail!("`{}` has fewer than two bars", path.display()) };
    let real = clean.bars;
    let num_real = real.len();
    if num_real < 4000 {
        bail!("`{}` has {num_real} good bars, the demo needs at least 4000", path.display());
    }
    let train_end = num_real * 7 / 10;
    let num_known = (num_real / 5).clamp(1200, 14_000);
    let num_unseen = (num_real / 12).clamp(800, 3000);
    let bars = with_shock(&real, num_known + num_unseen, interval)?;
    let name = path.file_name().map_or_else(|| "stdin".into(), |name| name.to_string_lossy().into_owned());
    let symbol: String = name.chars().take_while(|c| c.is_ascii_alphanumeric()).collect::<String>().to_uppercase();
    Ok(Market {
        symbol: if symbol.is_empty() { "FILE".into() } else { symbol },
        interval,
        bars,
        regimes: None,
        train_end,
        shift_at: num_real,
        known_end: num_real + num_known,
        source: format!("{num_real} {interval} bars of {name}"),
        shift: format!(
            "SYNTHETIC: after the last real bar, the last {} real bars follow once more with every move {SHIFT} times as large",
            num_known + num_unseen
        ),
        file: Some(bytes),
    })
}

/// `real`, followed by its last `num_bars` bars whose moves are [`SHIFT`] times as large; times of the week are kept.
fn with_shock(real: &Bars, num_bars: usize, interval: Interval) -> anyhow::Result<Bars> {
    let mut bars = Bars::with_capacity(real.len() + num_bars);
    real.iter().for_each(|bar| bars.push(bar));
    let first = real.len() - num_bars;
    let span_ms = real.time_ms()[real.len() - 1] - real.time_ms()[first] + interval.millis();
    let later_ms = span_ms.div_euclid(WEEK_MS) * WEEK_MS + WEEK_MS;
    let mut close = real.close()[real.len() - 1];
    for index in first..real.len() {
        let bar = real.get(index).context("a bar is missing")?;
        let before = real.close()[index - 1];
        let from = close;
        let moved = |price: f64| from * (price / before).powf(SHIFT);
        close = moved(bar.close);
        bars.push(Bar {
            time_ms: bar.time_ms + later_ms,
            open: moved(bar.open),
            high: moved(bar.high),
            low: moved(bar.low),
            close,
            volume: bar.volume,
        });
    }
    Ok(bars)
}

/// Bars as a file that can be imported.
pub(super) fn to_csv(bars: &Bars) -> anyhow::Result<String> {
    let has_volume = bars.has_volume();
    let mut text = String::from(if has_volume {
        "timestamp,open,high,low,close,volume\n"
    } else {
        "timestamp,open,high,low,close\n"
    });
    for bar in bars.iter() {
        let time = jiff::Timestamp::from_millisecond(bar.time_ms)?;
        write!(text, "{time},{},{},{},{}", bar.open, bar.high, bar.low, bar.close)?;
        if has_volume {
            text.push(',');
            if let Some(volume) = bar.volume {
                write!(text, "{volume}")?;
            }
        }
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shock_is_in_order_and_wider() {
        let calm = simulate(&SimulationConfig { num_bars: 5000, ..SimulationConfig::default() }).expect("bars").bars;
        let bars = with_shock(&calm, 1000, Interval::HOUR).expect("bars");
        assert_eq!(bars.len(), 6000);
        assert!(bars.time_ms().windows(2).all(|pair| pair[0] < pair[1]));
        let index = 5500;
        let (shocked, before) =
            (bars.close()[index] / bars.close()[index - 1], calm.close()[4500] / calm.close()[4499]);
        assert!((shocked.ln() - SHIFT * before.ln()).abs() < 1e-12);
        for bar in bars.iter().skip(5000) {
            assert!(bar.high >= bar.open.max(bar.close) && bar.low <= bar.open.min(bar.close));
        }
        let shift = bars.time_ms()[5500] - calm.time_ms()[4500];
        assert_eq!(shift % WEEK_MS, 0);
    }
}
