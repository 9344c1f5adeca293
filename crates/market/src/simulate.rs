//! A market whose regimes are known, to test models and drift detectors on.

#[cfg(test)]
mod tests;

use std::f64::consts::TAU;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::bars::{Bar, Bars, Interval};
use crate::error::{Error, Result};

/// State of the simulated market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Regime {
    /// A drift up or down that lasts.
    Trend,
    /// Prices return to a level, and the volatility falls the longer it lasts.
    Range,
    /// High volatility with jumps.
    Turbulent,
}

const REGIMES: [Regime; 3] = [Regime::Trend, Regime::Range, Regime::Turbulent];

/// A change of the market from some bar on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shift {
    /// First bar of the changed market.
    pub at_bar: usize,
    /// Factor of the volatility.
    #[serde(default = "default_shift_volatility")]
    pub volatility: f64,
    /// Shares of time in trend, range and turbulence from then on; unchanged where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regime_weights: Option<[f64; 3]>,
}

fn default_shift_volatility() -> f64 {
    2.5
}

/// Settings of the simulation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulationConfig {
    /// Seed; the same settings give the same bars.
    pub seed: u64,
    /// Number of bars.
    pub num_bars: usize,
    /// Time of the first bar, in milliseconds since the epoch.
    pub start_ms: i64,
    /// Length of a bar.
    pub interval: Interval,
    /// Whether there are no bars on Saturday and Sunday (UTC); bars longer than a day are never skipped.
    pub skip_weekends: bool,
    /// Price before the first bar.
    pub initial_price: f64,
    /// Usual standard deviation of the log return of a bar.
    pub volatility: f64,
    /// Shares of time in trend, range and turbulence, up to a common factor.
    pub regime_weights: [f64; 3],
    /// Mean number of bars that a regime lasts.
    pub regime_bars: [f64; 3],
    /// A change of the market.
    pub shift: Option<Shift>,
}

impl Default for SimulationConfig {
    fn default() -> Self {
        Self {
            seed: 1337,
            num_bars: 10_000,
            // Monday 2018-01-01.
            start_ms: 1_514_764_800_000,
            interval: Interval::HOUR,
            skip_weekends: true,
            initial_price: 100.0,
            volatility: 0.002,
            regime_weights: [0.35, 0.45, 0.2],
            regime_bars: [40.0, 30.0, 25.0],
            shift: None,
        }
    }
}

impl SimulationConfig {
    fn check(&self) -> Result<()> {
        let positive = |field: &str, value: f64| {
            if value > 0.0 && value.is_finite() {
                Ok(())
            } else {
                Err(Error::invalid(field, value, "a finite number above 0"))
            }
        };
        positive("initial_price", self.initial_price)?;
        positive("volatility", self.volatility)?;
        if self.num_bars > 100_000_000 {
            return Err(Error::invalid("num_bars", self.num_bars, "at most 100,000,000"));
        }
        if self.start_ms.unsigned_abs() > 100_000_000_000_000 {
            return Err(Error::invalid("start_ms", self.start_ms, "a time within 3,000 years of 1970"));
        }
        if self.volatility > 0.1 {
            return Err(Error::invalid("volatility", self.volatility, "at most 0.1 per bar"));
        }
        for bars in self.regime_bars {
            positive("regime_bars", bars)?;
        }
        let mut weights = vec![self.regime_weights];
        if let Some(shift) = &self.shift {
            positive("shift.volatility", shift.volatility)?;
            weights.extend(shift.regime_weights);
        }
        for weights in weights {
            if !(weights.iter().all(|weight| *weight >= 0.0 && weight.is_finite()) && weights.iter().sum::<f64>() > 0.0)
            {
                let expected = "numbers of at least 0, and one above 0";
                return Err(Error::invalid("regime_weights", format!("{weights:?}"), expected));
            }
        }
        Ok(())
    }
}

/// A simulated series.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// The bars.
    pub bars: Bars,
    /// The true regime of each bar.
    pub regimes: Vec<Regime>,
}

/// Moves of the price inside a bar.
const STEPS: usize = 16;
/// Persistence of the variance: GARCH(1, 1), a usual fit to hourly and daily returns.
const ARCH: f64 = 0.08;
const GARCH: f64 = 0.77;
/// Volatility of each regime, as a factor of the usual one.
const REGIME_VOLATILITY: [f64; 3] = [1.0, 0.9, 1.7];
/// Drift of a trend per bar, as a factor of its volatility.
const DRIFT: f64 = 0.15;
/// Pull of a range towards its level per bar.
const PULL: f64 = 0.03;
/// Volatility of a range that has lasted long, as a factor of that at its start.
const MOST_COMPRESSED: f64 = 0.35;
/// Growth of the variance when a range that has lasted long ends.
const BREAKOUT: f64 = 20.0;

/// Volatility of a range after `age` of its usual `num_bars` bars, as a factor of that at its start.
fn compression(age: u32, num_bars: f64) -> f64 {
    MOST_COMPRESSED + (1.0 - MOST_COMPRESSED) * (-3.0 * f64::from(age) / num_bars).exp()
}

/// Chance that a regime ends after `age` bars, with a mean of `num_bars`. Trends and turbulence end at any time alike;
/// ranges last about equally long each time (Weibull's distribution of shape 8, gamma(9/8) = 0.9417), so that the
/// narrowest bars come shortly before the breakout.
fn hazard(regime: Regime, age: u32, num_bars: f64) -> f64 {
    match regime {
        Regime::Trend | Regime::Turbulent => 1.0 / num_bars,
        Regime::Range => {
            let scale = num_bars / 0.9417;
            8.0 / scale * (f64::from(age) / scale).powi(7)
        }
    }
}

/// Simulates a market.
///
/// Regimes follow a semi-Markov chain. Within them the variance follows a GARCH(1, 1) towards the level of the regime, so
/// volatility clusters; a range compresses the longer it lasts and the move out of it is faster; turbulent markets
/// jump. Highs and lows come from steps inside the bar, volume follows the volatility and the time of day.
///
/// # Errors
/// [`Error::Invalid`] where a setting is out of range.
pub fn simulate(config: &SimulationConfig) -> Result<Simulation> {
    config.check()?;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut bars = Bars::with_capacity(config.num_bars);
    let mut regimes = Vec::with_capacity(config.num_bars);
    let mut weights = config.regime_weights;
    let mut volatility = config.volatility;
    let mut regime = choose(&mut rng, &weights, None);
    let (mut age, mut drift) = (0_u32, 0.0);
    let mut log_price = config.initial_price.ln();
    let mut level = log_price;
    // Variance of a bar, as a factor of the usual one.
    let mut variance = 1.0_f64;
    let mut time_ms = config.start_ms;
    let skip_weekends = config.skip_weekends && config.interval <= Interval::DAY;
    for index in 0..config.num_bars {
        // 1970-01-01 was a Thursday.
        while skip_weekends && (time_ms.div_euclid(86_400_000) + 3).rem_euclid(7) >= 5 {
            time_ms += config.interval.millis();
        }
        if let Some(shift) = config.shift.as_ref().filter(|shift| shift.at_bar == index) {
            volatility = config.volatility * shift.volatility;
            weights = shift.regime_weights.unwrap_or(weights);
            regime = choose(&mut rng, &weights, None);
        }
        let hazard = hazard(REGIMES[regime], age, config.regime_bars[regime]);
        if rng.random::<f64>() < hazard {
            let next = choose(&mut rng, &weights, Some(&config.regime_bars));
            if REGIMES[regime] == Regime::Range {
                // The longer prices were held, the faster they leave, be it for another range.
                variance *=
                    1.0 + BREAKOUT * (1.0 - compression(age, config.regime_bars[regime])) / (1.0 - MOST_COMPRESSED);
            }
            regime = next;
            age = 0;
            level = log_price;
            drift = if rng.random::<f64>() < 0.5 { DRIFT } else { -DRIFT };
        }
        let kind = REGIMES[regime];
        let held = if kind == Regime::Range { compression(age, config.regime_bars[regime]) } else { 1.0 };
        let target = (REGIME_VOLATILITY[regime] * held).powi(2);
        let sigma = volatility * variance.sqrt();
        let open = log_price;
        let (mut high, mut low) = (open, open);
        let step_sigma = sigma / (STEPS as f64).sqrt();
        for _ in 0..STEPS {
            log_price += step_sigma * normal(&mut rng)
                + match kind {
                    Regime::Trend => drift * sigma / STEPS as f64,
                    Regime::Range => PULL * (level - log_price) / STEPS as f64,
                    Regime::Turbulent if rng.random::<f64>() < 0.02 / STEPS as f64 => 2.5 * sigma * normal(&mut rng),
                    Regime::Turbulent => 0.0,
                };
            high = high.max(log_price);
            low = low.min(log_price);
        }
        let shock = ((log_price - open) / volatility).powi(2);
        variance = (ARCH * shock + GARCH * variance + (1.0 - ARCH - GARCH) * target).clamp(0.02, 60.0);
        age += 1;
        let day_ms = time_ms.rem_euclid(86_400_000) as f64 / 86_400_000.0;
        // Busiest at 14:00 UTC, quietest at 02:00.
        let busy = if config.interval.secs() < 86_400 { 1.0 + 0.6 * (TAU * (day_ms - 14.0 / 24.0)).cos() } else { 1.0 };
        let volume = (1000.0 * busy * (sigma / config.volatility) * (0.25 * normal(&mut rng)).exp()).round();
        bars.push(Bar {
            time_ms,
            open: open.exp(),
            high: high.exp(),
            low: low.exp(),
            close: log_price.exp(),
            volume: Some(volume.max(1.0)),
        });
        regimes.push(kind);
        time_ms += config.interval.millis();
    }
    Ok(Simulation { bars, regimes })
}

/// Draws a regime. Within the chain, the chance of a regime is its share of time divided by the time it lasts, so
/// that the shares come out as given; it may be the same again.
fn choose(rng: &mut ChaCha8Rng, weights: &[f64; 3], regime_bars: Option<&[f64; 3]>) -> usize {
    let chances: Vec<f64> = (0..3).map(|i| regime_bars.map_or(weights[i], |bars| weights[i] / bars[i])).collect();
    let mut draw = rng.random::<f64>() * chances.iter().sum::<f64>();
    for (index, chance) in chances.iter().enumerate() {
        draw -= chance;
        if draw < 0.0 {
            return index;
        }
    }
    // Rounding alone comes here.
    chances.iter().rposition(|chance| *chance > 0.0).unwrap_or(0)
}

/// A draw from the standard normal distribution (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (TAU * rng.random::<f64>()).cos()
}
