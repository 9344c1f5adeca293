//! The three ways to compute a feature set.

use super::GRAPH;
use super::engine::{
    NUM_BASE, NUM_PRICE_BASE, Rows, Step, Track, VOLUME, Workspace, is_usable_price, is_usable_volume,
};
use super::set::FeatureSet;
use crate::bars::{Bar, Bars};
use crate::error::{Error, Result};

/// Features of a series in columns; NaN where missing.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMatrix {
    columns: Vec<Vec<f64>>,
    num_rows: usize,
}

impl FeatureMatrix {
    /// Number of rows: one for each bar.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    /// Number of columns: one for each feature of the set, in its order.
    #[must_use]
    pub fn num_columns(&self) -> usize {
        self.columns.len()
    }

    /// One feature over all bars.
    ///
    /// # Shapes
    /// `[num_rows]`.
    ///
    /// # Panics
    /// Where `index` is not below the number of columns.
    #[must_use]
    pub fn column(&self, index: usize) -> &[f64] {
        &self.columns[index]
    }

    /// All columns.
    #[must_use]
    pub fn columns(&self) -> &[Vec<f64>] {
        &self.columns
    }

    /// One value.
    ///
    /// # Panics
    /// Where the row or the column is past the end.
    #[must_use]
    pub fn value(&self, row: usize, column: usize) -> f64 {
        self.columns[column][row]
    }
}

/// Computes every feature of `set` for every bar, from the first bar on.
///
/// A value never depends on later bars.
#[must_use]
pub fn compute(set: &FeatureSet, bars: &Bars) -> FeatureMatrix {
    let graph = &*GRAPH;
    let mut workspace = Workspace::new(graph);
    let rows = load(&mut workspace, bars, 0..bars.len(), set.plan().uses_volume_track());
    workspace.run(graph, set.plan(), Rows::All);
    let num_rows = bars.len();
    let columns = set
        .plan()
        .targets
        .iter()
        .zip(&set.plan().tracks)
        .map(|(slot, track)| {
            let mut column = std::mem::take(&mut workspace.columns[slot.0]);
            for value in &mut column {
                *value = finite(*value);
            }
            let rows = match track {
                Track::Price => &rows.price,
                Track::Volume => &rows.volume,
            };
            if rows.len() == num_rows {
                return column;
            }
            let mut spread = vec![f64::NAN; num_rows];
            for (&row, value) in rows.iter().zip(column) {
                spread[row] = value;
            }
            spread
        })
        .collect();
    FeatureMatrix { columns, num_rows }
}

/// Computes the features of `set` for the bar at `end` from the last [`FeatureSet::history_bars`] bars up to it.
///
/// This is what [`compute`] gives for the last bar of that slice.
///
/// # Errors
/// [`Error::TooShort`] where fewer bars end at `end`, [`Error::Invalid`] where `end` is past the last bar.
pub fn compute_at(set: &FeatureSet, bars: &Bars, end: usize) -> Result<Vec<f64>> {
    compute_at_many(set, bars, &[end])
}

/// [`compute_at`] for each of `ends`.
///
/// # Shapes
/// Row-major `[ends.len(), set.len()]`.
///
/// # Errors
/// As [`compute_at`], for the first of `ends` that fails.
pub fn compute_at_many(set: &FeatureSet, bars: &Bars, ends: &[usize]) -> Result<Vec<f64>> {
    let graph = &*GRAPH;
    let plan = set.plan();
    let history = set.history_bars();
    for &end in ends {
        if end >= bars.len() {
            return Err(Error::invalid("end", end, format!("an index below the number of bars, {}", bars.len())));
        }
        if end + 1 < history {
            let what = format!("feature set `{}`", set.name());
            return Err(Error::TooShort { what, needed: history, got: end + 1 });
        }
    }
    let mut workspace = Workspace::new(graph);
    let mut values = Vec::with_capacity(ends.len() * set.len());
    for &end in ends {
        let rows = load(&mut workspace, bars, end + 1 - history..end + 1, plan.uses_volume_track());
        workspace.run(graph, plan, Rows::Last);
        for (slot, track) in plan.targets.iter().zip(&plan.tracks) {
            let rows = match track {
                Track::Price => &rows.price,
                Track::Volume => &rows.volume,
            };
            let is_present = rows.last() == Some(&(history - 1));
            let value = workspace.columns[slot.0].last().copied().filter(|_| is_present);
            values.push(value.map_or(f64::NAN, finite));
        }
    }
    Ok(values)
}

/// Which rows of a range are on each track, counted from the start of the range.
struct TrackRows {
    price: Vec<usize>,
    volume: Vec<usize>,
}

/// Fills the base columns with the usable bars of `range`.
fn load(workspace: &mut Workspace, bars: &Bars, range: std::ops::Range<usize>, with_volume: bool) -> TrackRows {
    workspace.clear_base();
    let mut rows = TrackRows { price: Vec::with_capacity(range.len()), volume: Vec::new() };
    let mut intake = Intake::default();
    for (row, index) in range.enumerate() {
        let prices = [bars.open()[index], bars.high()[index], bars.low()[index], bars.close()[index]];
        let accepted = intake.accept(prices, bars.volume()[index]);
        if accepted == Accepted::Nothing {
            continue;
        }
        let [open, high, low, close] = prices;
        let values = [open, high, low, close, bars.time_ms()[index] as f64];
        workspace.push_price(values);
        rows.price.push(row);
        if with_volume && accepted == Accepted::PricesAndVolume {
            workspace.push_volume(values, bars.volume()[index]);
            rows.volume.push(row);
        }
    }
    rows
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepted {
    Nothing,
    Prices,
    PricesAndVolume,
}

/// Decides which bars are usable, in order.
#[derive(Debug, Clone, Default)]
struct Intake {
    seen_volume: bool,
}

impl Intake {
    fn accept(&mut self, [open, high, low, close]: [f64; 4], volume: f64) -> Accepted {
        if !is_usable_price(open, high, low, close) {
            return Accepted::Nothing;
        }
        if !is_usable_volume(volume) {
            return Accepted::Prices;
        }
        self.seen_volume |= volume > 0.0;
        if self.seen_volume { Accepted::PricesAndVolume } else { Accepted::Prices }
    }
}

/// NaN for anything that is not a finite number.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::NAN }
}

/// Most inputs of one node.
const MOST_INPUTS: usize = 8;

/// Features bar by bar: what [`compute`] gives, one row at a time.
pub struct FeatureStream {
    set: FeatureSet,
    steps: Vec<Box<dyn Step>>,
    /// Current value of each column of the graph.
    values: Vec<f64>,
    intake: Intake,
    num_price_bars: usize,
    num_volume_bars: usize,
    row: Vec<f64>,
}

impl std::fmt::Debug for FeatureStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FeatureStream")
            .field("set", &self.set.name())
            .field("num_price_bars", &self.num_price_bars)
            .field("num_volume_bars", &self.num_volume_bars)
            .finish_non_exhaustive()
    }
}

impl FeatureStream {
    /// Starts a stream that has seen no bar.
    #[must_use]
    pub fn new(set: &FeatureSet) -> Self {
        let graph = &*GRAPH;
        Self {
            steps: set.plan().nodes.iter().map(|&node| graph.nodes[node].op.open()).collect(),
            values: vec![f64::NAN; graph.num_slots()],
            intake: Intake::default(),
            num_price_bars: 0,
            num_volume_bars: 0,
            row: vec![f64::NAN; set.len()],
            set: set.clone(),
        }
    }

    /// The feature set.
    #[must_use]
    pub fn set(&self) -> &FeatureSet {
        &self.set
    }

    /// Takes the next bar and gives its features, in the order of the set; NaN where missing.
    pub fn push(&mut self, bar: &Bar) -> &[f64] {
        let volume = bar.volume.unwrap_or(f64::NAN);
        let accepted = self.intake.accept([bar.open, bar.high, bar.low, bar.close], volume);
        let has_prices = accepted != Accepted::Nothing;
        let has_volume = accepted == Accepted::PricesAndVolume;
        let base = [bar.open, bar.high, bar.low, bar.close, bar.time_ms as f64];
        if has_prices {
            self.values[..NUM_PRICE_BASE].copy_from_slice(&base);
            self.num_price_bars += 1;
        }
        if has_volume {
            self.values[NUM_PRICE_BASE..NUM_BASE - 1].copy_from_slice(&base);
            self.values[VOLUME.0] = volume;
            self.num_volume_bars += 1;
        }
        let graph = &*GRAPH;
        for (&index, step) in self.set.plan().nodes.iter().zip(&mut self.steps) {
            let node = &graph.nodes[index];
            let (is_present, num_bars) = match node.track {
                Track::Price => (has_prices, self.num_price_bars),
                Track::Volume => (has_volume, self.num_volume_bars),
            };
            if !is_present || num_bars <= node.first_input {
                continue;
            }
            let mut inputs = [0.0; MOST_INPUTS];
            for (input, slot) in inputs.iter_mut().zip(&node.inputs) {
                *input = self.values[slot.0];
            }
            let outputs = node.first_output..node.first_output + node.num_outputs;
            step.step(&inputs[..node.inputs.len()], &mut self.values[outputs]);
        }
        let targets = self.set.plan().targets.iter().zip(&self.set.plan().tracks);
        for (value, (slot, track)) in self.row.iter_mut().zip(targets) {
            let is_present = match track {
                Track::Price => has_prices,
                Track::Volume => has_volume,
            };
            *value = if is_present { finite(self.values[slot.0]) } else { f64::NAN };
        }
        &self.row
    }
}
