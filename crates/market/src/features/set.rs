//! Named, versioned and hashed lists of features.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::engine::Plan;
use super::{FeatureDefinition, GRAPH, definitions};
use crate::error::{Error, Result};

/// Version of the code that computes features; part of every hash.
///
/// It goes up when a formula gives other values under the same text.
const CODE_VERSION: u32 = 1;

/// Bars that `all` computes a value from: where only the start differs, recursive values agree by then.
const LONG_HISTORY_BARS: usize = 320;
/// Bars in the window that predictions are made from.
const WINDOW_BARS: usize = 105;

/// Features of `core`: without a unit, and computable from a bare window.
const CORE: [&str; 24] = [
    "ret1",
    "ret5",
    "ret20",
    "clv",
    "gap_atr",
    "ret20_z",
    "dev_sma20",
    "ema12_ema26",
    "rsi14",
    "stoch_k14",
    "macd_hist",
    "adx14",
    "er10",
    "natr14",
    "percent_b20",
    "bb_width20",
    "donchian_pos20",
    "std5",
    "std20",
    "std60",
    "std5_std60",
    "parkinson20",
    "ulcer14",
    "chop14",
];

/// A named, versioned and hashed list of features.
///
/// Serialised as `{name, version, history_bars, features, hash}`; reading it back fails where the hash is not that
/// of the features as this code computes them.
///
/// # Invariants
/// At least one feature, none twice; the history holds at least one bar more than the longest warm-up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "FeatureSetText", into = "FeatureSetText")]
pub struct FeatureSet {
    name: String,
    version: u32,
    history_bars: usize,
    features: Vec<&'static FeatureDefinition>,
    hash: String,
    plan: Plan,
}

impl FeatureSet {
    /// Makes a set of the features called `feature_names`, each value computed from `history_bars` bars.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a name that is not a feature; [`Error::Invalid`] for an empty list, a feature named
    /// twice, an empty name, or a history too short for the longest warm-up.
    pub fn new(
        name: impl Into<String>,
        version: u32,
        feature_names: &[impl AsRef<str>],
        history_bars: usize,
    ) -> Result<Self> {
        let name = name.into();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Err(Error::invalid("name", name, "letters, digits, `-`, `_` and `.`"));
        }
        if feature_names.is_empty() {
            return Err(Error::invalid("features", "[]", "at least one feature"));
        }
        let mut seen = HashSet::new();
        let mut positions = Vec::with_capacity(feature_names.len());
        for feature in feature_names {
            let feature = feature.as_ref();
            let position = definitions().iter().position(|definition| definition.name == feature);
            let position = position.ok_or_else(|| unknown("feature", feature, definitions().iter().map(|d| d.name)))?;
            if !seen.insert(position) {
                return Err(Error::invalid("features", feature, "each feature once"));
            }
            positions.push(position);
        }
        let features: Vec<_> = positions.iter().map(|&position| &definitions()[position]).collect();
        if let Some(longest) = features.iter().max_by_key(|feature| feature.lookback)
            && history_bars <= longest.lookback
        {
            let expected = format!("at least {} for `{}`", longest.lookback + 1, longest.name);
            return Err(Error::invalid("history_bars", history_bars, expected));
        }
        let mut text = format!("moola features {CODE_VERSION}\nname {name}\nversion {version}\n");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "history_bars {history_bars}");
        for feature in &features {
            let _ = writeln!(text, "{} {}", feature.name, feature.formula);
        }
        let mut hash = String::with_capacity(64);
        for byte in Sha256::digest(text.as_bytes()) {
            let _ = write!(hash, "{byte:02x}");
        }
        Ok(Self { name, version, history_bars, features, hash, plan: GRAPH.plan(&positions) })
    }

    /// The built-in set called `name`; see [`FeatureSet::builtins`].
    ///
    /// # Errors
    /// [`Error::Unknown`] where there is none.
    pub fn builtin(name: &str) -> Result<Self> {
        match name {
            "all" => Self::new("all", 1, &names(|_| true), LONG_HISTORY_BARS),
            "ohlc-105" => Self::new("ohlc-105", 1, &names(fits_window), WINDOW_BARS),
            "core" => Self::new("core", 1, &CORE, WINDOW_BARS),
            _ => Err(unknown("feature set", name, Self::builtins().iter().copied())),
        }
    }

    /// Names of the built-in sets.
    ///
    /// - `all`: every feature, from 320 bars;
    /// - `ohlc-105`: those that a bare window of 105 bars gives, without volume and times;
    /// - `core`: a small choice of `ohlc-105`.
    #[must_use]
    pub fn builtins() -> &'static [&'static str] {
        &["all", "ohlc-105", "core"]
    }

    /// Name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Version.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The features, in the order of the columns.
    #[must_use]
    pub fn features(&self) -> &[&'static FeatureDefinition] {
        &self.features
    }

    /// Number of features.
    #[must_use]
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Whether there are no features; never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// Bars, the last one included, that a value is computed from by [`super::compute_at`].
    #[must_use]
    pub fn history_bars(&self) -> usize {
        self.history_bars
    }

    /// Whether any feature is missing without volume.
    #[must_use]
    pub fn needs_volume(&self) -> bool {
        self.features.iter().any(|feature| feature.needs_volume)
    }

    /// Whether any feature reads the time of the bar.
    #[must_use]
    pub fn needs_time(&self) -> bool {
        self.features.iter().any(|feature| feature.needs_time)
    }

    /// Hex SHA-256 of the code version, the name, the version, the history, and each feature with its formula.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }
}

impl PartialEq for FeatureSet {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for FeatureSet {}

/// [`FeatureSet`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FeatureSetText {
    name: String,
    version: u32,
    history_bars: usize,
    features: Vec<String>,
    hash: String,
}

impl From<FeatureSet> for FeatureSetText {
    fn from(set: FeatureSet) -> Self {
        Self {
            features: set.features.iter().map(|feature| feature.name.to_owned()).collect(),
            name: set.name,
            version: set.version,
            history_bars: set.history_bars,
            hash: set.hash,
        }
    }
}

impl TryFrom<FeatureSetText> for FeatureSet {
    type Error = Error;

    fn try_from(text: FeatureSetText) -> Result<Self> {
        let set = Self::new(text.name, text.version, &text.features, text.history_bars)?;
        if set.hash != text.hash {
            let expected = format!("`{}`, the hash of these features as this version computes them", set.hash);
            return Err(Error::invalid("hash", text.hash, expected));
        }
        Ok(set)
    }
}

fn names(keep: impl Fn(&FeatureDefinition) -> bool) -> Vec<&'static str> {
    definitions().iter().filter(|definition| keep(definition)).map(|definition| definition.name).collect()
}

fn fits_window(definition: &FeatureDefinition) -> bool {
    !definition.needs_volume && !definition.needs_time && definition.lookback < WINDOW_BARS
}

/// Makes the error for a name that does not exist, with the one that starts most like it.
fn unknown<'a>(what: &'static str, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let common = |other: &str| name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let nearest = known.max_by_key(|other| common(other)).filter(|other| common(other) > 0);
    let hint = nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"));
    Error::Unknown { what, name: name.to_owned(), hint }
}
