//! The graph that all features are drawn from: each intermediate value is one node, computed once and shared.
//!
//! A node is defined once, as an [`Op`], and the op has two drivers: [`Op::batch`] over columns and
//! [`Op::open`] for one bar at a time. Both give the same bits.

use std::collections::HashMap;

use super::{FeatureDefinition, Group};

/// Which bars a value is computed over.
///
/// A price value advances on every usable bar, a volume value only on bars that also have volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Track {
    Price,
    Volume,
}

/// A column of the graph: a base column or one output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Slot(pub(super) usize);

pub(super) const OPEN: Slot = Slot(0);
pub(super) const HIGH: Slot = Slot(1);
pub(super) const LOW: Slot = Slot(2);
pub(super) const CLOSE: Slot = Slot(3);
/// Start of the bar, milliseconds since the epoch (exact in an `f64`).
pub(super) const TIME: Slot = Slot(4);
/// The same five on the volume track, from 5 on in the same order, and then the volume.
pub(super) const VOLUME_HIGH: Slot = Slot(6);
pub(super) const VOLUME_LOW: Slot = Slot(7);
pub(super) const VOLUME_CLOSE: Slot = Slot(8);
pub(super) const VOLUME_TIME: Slot = Slot(9);
pub(super) const VOLUME: Slot = Slot(10);
/// Number of base columns.
pub(super) const NUM_BASE: usize = 11;
/// Number of base columns on the price track.
pub(super) const NUM_PRICE_BASE: usize = 5;
const BASE_NAMES: [&str; NUM_BASE] = ["O", "H", "L", "C", "T", "O", "H", "L", "C", "T", "V"];

/// Prices and volumes outside this range make a bar unusable, so that products and squares stay finite.
const SMALLEST: f64 = 1e-30;
const LARGEST: f64 = 1e30;

/// Whether a bar can be computed with: all four prices are finite and positive.
pub(super) fn is_usable_price(open: f64, high: f64, low: f64, close: f64) -> bool {
    [open, high, low, close].iter().all(|price| (SMALLEST..=LARGEST).contains(price))
}

/// Whether a volume can be computed with: finite and not negative.
pub(super) fn is_usable_volume(volume: f64) -> bool {
    (0.0..=LARGEST).contains(&volume)
}

/// How one or more values are computed from others.
pub(super) trait Op: Send + Sync {
    /// Inputs consumed before the first output.
    fn lookback(&self) -> usize;

    /// How far back an output reads, or `None` where it depends on every input since the start.
    fn reach(&self) -> Option<usize>;

    /// Writes `inputs.len() - lookback` values to the start of each output.
    fn batch(&self, inputs: &[&[f64]], outputs: &mut [&mut [f64]]);

    /// Starts the bar by bar form.
    fn open(&self) -> Box<dyn Step>;
}

/// The bar by bar form of an [`Op`].
pub(super) trait Step: Send {
    /// Takes the next value of each input and writes each output; NaN during the lookback.
    fn step(&mut self, inputs: &[f64], outputs: &mut [f64]);
}

pub(super) struct Node {
    pub(super) inputs: Vec<Slot>,
    pub(super) first_output: usize,
    pub(super) num_outputs: usize,
    /// Index of the first bar at which all inputs are defined.
    pub(super) first_input: usize,
    pub(super) track: Track,
    pub(super) op: Box<dyn Op>,
}

struct SlotInfo {
    /// Index of the first defined value on the track.
    start: usize,
    track: Track,
    /// Canonical text of the whole expression.
    expression: String,
}

/// All nodes in an order in which each comes after its inputs, and the features drawn from them.
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    slots: Vec<SlotInfo>,
    by_expression: HashMap<String, usize>,
    pub(super) features: Vec<FeatureDefinition>,
    pub(super) feature_slots: Vec<Slot>,
}

impl Graph {
    pub(super) fn new() -> Self {
        let slots = (0..NUM_BASE)
            .map(|index| SlotInfo {
                start: 0,
                track: if index < NUM_PRICE_BASE { Track::Price } else { Track::Volume },
                expression: BASE_NAMES[index].to_owned(),
            })
            .collect();
        Self {
            nodes: Vec::new(),
            slots,
            by_expression: HashMap::new(),
            features: Vec::new(),
            feature_slots: Vec::new(),
        }
    }

    /// Adds a node, or finds the one with the same text and inputs.
    ///
    /// `text` names the computation with all its parameters; it becomes part of the hash of every feature set
    /// that uses it.
    ///
    /// # Panics
    /// Where there is no input, or inputs of both tracks: a mistake in a definition, which any test finds.
    pub(super) fn node<const M: usize>(&mut self, text: &str, inputs: &[Slot], op: impl Op + 'static) -> [Slot; M] {
        let track = self.slots[inputs[0].0].track;
        assert!(inputs.iter().all(|slot| self.slots[slot.0].track == track), "`{text}` mixes tracks");
        let arguments: Vec<&str> = inputs.iter().map(|slot| self.slots[slot.0].expression.as_str()).collect();
        let expression = format!("{text}[{}]", arguments.join(","));
        let key = format!("{track:?} {expression}");
        let first_output = match self.by_expression.get(&key) {
            Some(&first_output) => first_output,
            None => {
                let first_output = self.slots.len();
                let first_input = inputs.iter().map(|slot| self.slots[slot.0].start).max().unwrap_or(0);
                for index in 0..M {
                    self.slots.push(SlotInfo {
                        start: first_input + op.lookback(),
                        track,
                        expression: if M == 1 { expression.clone() } else { format!("{expression}.{index}") },
                    });
                }
                self.nodes.push(Node {
                    inputs: inputs.to_vec(),
                    first_output,
                    num_outputs: M,
                    first_input,
                    track,
                    op: Box::new(op),
                });
                self.by_expression.insert(key, first_output);
                first_output
            }
        };
        std::array::from_fn(|index| Slot(first_output + index))
    }

    /// Makes `slot` a feature. Features come in order of `id`.
    pub(super) fn feature(&mut self, id: u16, name: &'static str, group: Group, description: &'static str, slot: Slot) {
        let base = self.base_columns(slot);
        let info = &self.slots[slot.0];
        self.features.push(FeatureDefinition {
            id,
            name,
            group,
            description,
            formula: info.expression.clone(),
            lookback: info.start,
            needs_volume: base[VOLUME.0],
            needs_time: base[TIME.0] || base[VOLUME_TIME.0],
        });
        self.feature_slots.push(slot);
    }

    /// Which base columns `slot` depends on.
    fn base_columns(&self, slot: Slot) -> [bool; NUM_BASE] {
        let mut used = [false; NUM_BASE];
        for (index, reached) in self.reached(&[slot]).into_iter().enumerate().take(NUM_BASE) {
            used[index] = reached;
        }
        used
    }

    /// Which slots are needed for `targets`.
    fn reached(&self, targets: &[Slot]) -> Vec<bool> {
        let mut reached = vec![false; self.slots.len()];
        for slot in targets {
            reached[slot.0] = true;
        }
        for node in self.nodes.iter().rev() {
            if (node.first_output..node.first_output + node.num_outputs).any(|slot| reached[slot]) {
                for input in &node.inputs {
                    reached[input.0] = true;
                }
            }
        }
        reached
    }

    /// What to compute for the features at `positions`.
    pub(super) fn plan(&self, positions: &[usize]) -> Plan {
        let targets: Vec<Slot> = positions.iter().map(|&position| self.feature_slots[position]).collect();
        let reached = self.reached(&targets);
        let nodes: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| {
                let node = &self.nodes[node];
                (node.first_output..node.first_output + node.num_outputs).any(|slot| reached[slot])
            })
            .collect();
        let mut needed = vec![0_usize; self.slots.len()];
        for slot in &targets {
            needed[slot.0] = 1;
        }
        for &index in nodes.iter().rev() {
            let node = &self.nodes[index];
            let outputs =
                needed[node.first_output..node.first_output + node.num_outputs].iter().copied().max().unwrap_or(0);
            let inputs = node.op.reach().map_or(usize::MAX, |reach| outputs.saturating_add(reach));
            for input in &node.inputs {
                needed[input.0] = needed[input.0].max(inputs);
            }
        }
        let tracks = targets.iter().map(|slot| self.slots[slot.0].track).collect();
        Plan { nodes, targets, tracks, needed }
    }

    /// Number of columns, base ones included.
    pub(super) fn num_slots(&self) -> usize {
        self.slots.len()
    }
}

/// What to compute for some features.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Nodes in order of computation.
    pub(super) nodes: Vec<usize>,
    /// The column of each feature.
    pub(super) targets: Vec<Slot>,
    /// The track of each feature.
    pub(super) tracks: Vec<Track>,
    /// How many trailing values of each column the last row needs.
    needed: Vec<usize>,
}

impl Plan {
    /// Whether any feature is on the volume track.
    pub(super) fn uses_volume_track(&self) -> bool {
        self.tracks.contains(&Track::Volume)
    }
}

/// Which rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    All,
    Last,
}

/// Columns under computation; kept between calls so that the memory is used again.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) columns: Vec<Vec<f64>>,
}

impl Workspace {
    pub(super) fn new(graph: &Graph) -> Self {
        Self { columns: vec![Vec::new(); graph.num_slots()] }
    }

    /// Number of bars on `track`.
    pub(super) fn num_bars(&self, track: Track) -> usize {
        match track {
            Track::Price => self.columns[CLOSE.0].len(),
            Track::Volume => self.columns[VOLUME_CLOSE.0].len(),
        }
    }

    pub(super) fn clear_base(&mut self) {
        for column in &mut self.columns[..NUM_BASE] {
            column.clear();
        }
    }

    /// Adds a usable bar to the price track.
    pub(super) fn push_price(&mut self, values: [f64; NUM_PRICE_BASE]) {
        for (column, value) in self.columns[..NUM_PRICE_BASE].iter_mut().zip(values) {
            column.push(value);
        }
    }

    /// Adds a usable bar to the volume track.
    pub(super) fn push_volume(&mut self, values: [f64; NUM_PRICE_BASE], volume: f64) {
        for (column, value) in self.columns[NUM_PRICE_BASE..].iter_mut().zip(values) {
            column.push(value);
        }
        self.columns[VOLUME.0].push(volume);
    }

    /// Computes every node of `plan` from the base columns.
    ///
    /// With [`Rows::Last`] only the last value of each feature is right; columns of windowed values are then
    /// computed no further back than that value reads.
    pub(super) fn run(&mut self, graph: &Graph, plan: &Plan, rows: Rows) {
        let mut outputs: Vec<Vec<f64>> = Vec::new();
        for &index in &plan.nodes {
            let node = &graph.nodes[index];
            let num_bars = self.num_bars(node.track);
            let slots = node.first_output..node.first_output + node.num_outputs;
            outputs.extend(self.columns[slots.clone()].iter_mut().map(std::mem::take));
            let needed = match rows {
                Rows::All => usize::MAX,
                Rows::Last => plan.needed[slots.clone()].iter().copied().max().unwrap_or(0),
            };
            let begin = match node.op.reach() {
                Some(reach) => node.first_input.max(num_bars.saturating_sub(needed.saturating_add(reach))),
                None => node.first_input,
            };
            let defined = begin.saturating_add(node.op.lookback());
            for output in &mut outputs {
                output.resize(num_bars, f64::NAN);
                output[..defined.min(num_bars)].fill(f64::NAN);
            }
            if defined < num_bars {
                let inputs: Vec<&[f64]> = node.inputs.iter().map(|slot| &self.columns[slot.0][begin..]).collect();
                let mut views: Vec<&mut [f64]> = outputs.iter_mut().map(|output| &mut output[defined..]).collect();
                node.op.batch(&inputs, &mut views);
            }
            for (slot, output) in slots.zip(outputs.drain(..)) {
                self.columns[slot] = output;
            }
        }
    }
}
