//! The 175 production features: one definition of each, computed over a whole series, for one bar, or bar by bar.
//!
//! All three forms give the same bits for the same bars, with NaN for a missing value:
//! - [`compute`] over a whole series,
//! - [`FeatureStream`] one bar at a time,
//! - [`compute_at`] for one bar from a fixed number of bars, which is what training and serving use: a recursive
//!   value such as an exponential average then starts from the same bar in both.
//!
//! # Missing values
//! - Before the warm-up of a feature ([`FeatureDefinition::lookback`]).
//! - A bar is unusable where one of its prices is not a finite number between 1e-30 and 1e30. All its features are
//!   missing, and every other bar is computed as if that bar did not exist.
//! - A bar has volume where its volume is finite, not negative, and it or an earlier bar of the series has a
//!   volume above zero (a feed that only ever says 0 has none). Features that need volume are missing on other
//!   bars, and computed as if those bars did not exist.
//! - Where a volatility or a channel has no width, and wherever a formula gives no finite number. Shares of the
//!   range of a flat bar are 0.

mod calendar;
mod candles;
mod compute;
mod engine;
mod memory;
mod momentum;
mod ops;
mod returns;
mod set;
mod stats;
mod trend;
mod volatility;
mod volume;

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

pub use compute::{FeatureMatrix, FeatureStream, compute, compute_at, compute_at_many};
pub use set::FeatureSet;

/// Kind of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Returns and the shape of a bar.
    Returns,
    /// Trend.
    Trend,
    /// Momentum.
    Momentum,
    /// Volatility and range.
    Volatility,
    /// Volume and liquidity.
    Volume,
    /// Memory and distribution.
    Memory,
    /// Candlestick flags.
    Candles,
    /// Time and regime.
    Calendar,
}

/// One feature: what it is and what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FeatureDefinition {
    /// Number, 1 to 175; never reused.
    pub id: u16,
    /// Name, unique and stable.
    pub name: &'static str,
    /// Kind.
    pub group: Group,
    /// What it measures, in words.
    pub description: &'static str,
    /// The computation with all its parameters, as it enters the hash of a feature set.
    pub formula: String,
    /// Bars before the first value: the index of the first defined value.
    pub lookback: usize,
    /// Whether it is missing without volume.
    pub needs_volume: bool,
    /// Whether it reads the time of the bar.
    pub needs_time: bool,
}

static GRAPH: LazyLock<engine::Graph> = LazyLock::new(|| {
    let mut graph = engine::Graph::new();
    returns::define(&mut graph);
    trend::define(&mut graph);
    momentum::define(&mut graph);
    volatility::define(&mut graph);
    volume::define(&mut graph);
    memory::define(&mut graph);
    candles::define(&mut graph);
    calendar::define(&mut graph);
    graph
});

/// All features, in order of their numbers.
#[must_use]
pub fn definitions() -> &'static [FeatureDefinition] {
    &GRAPH.features
}

/// The feature called `name`.
#[must_use]
pub fn definition(name: &str) -> Option<&'static FeatureDefinition> {
    definitions().iter().find(|definition| definition.name == name)
}
