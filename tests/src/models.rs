//! ONNX models with random weights, of the kinds that the benchmarks compare: windows of [`STEPS`] bars of [`CHANNELS`] numbers
//! in, probabilities of [`CLASSES`] classes out, [`Dim::Batch`] open.

use moola_core::contract::Task;
use moola_onnx::writer::{Attribute, Dim, Direction, GraphBuilder, Value};
use moola_trainer::model::{Metadata, Parameters, Shape, export};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Bars of a window.
pub const STEPS: usize = 105;
/// Numbers of a bar.
pub const CHANNELS: usize = 4;
/// Classes of the answer.
pub const CLASSES: usize = 3;
/// Numbers that trees look at.
pub const TREE_FEATURES: usize = 24;

/// A model, and what it takes.
#[derive(Debug, Clone)]
pub struct Model {
    /// Such as `LSTM(32)`.
    pub name: String,
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// Shapes of the inputs without the batch.
    pub inputs: Vec<Vec<usize>>,
}

/// How much of the graph the exporter left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    /// Every step is computed, and the last one taken.
    Whole,
    /// Only what the last step depends on.
    Pruned,
    /// As the whole, and every step is an output too, so that nothing can be left out.
    AllSteps,
}

/// Numbers in ±`limit`, always the same for a seed.
#[must_use]
pub fn random(seed: u64, count: usize, limit: f32) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| (random.random::<f32>() * 2.0 - 1.0) * limit).collect()
}

/// Builds a graph; names and seeds of the weights follow from their number.
struct Writer {
    graph: GraphBuilder,
    weights: u64,
    constants: u64,
}

impl Writer {
    fn new(name: &str) -> Self {
        Self { graph: GraphBuilder::new(name), weights: 0, constants: 0 }
    }

    fn window(&mut self) -> Value {
        self.graph.input("bars", &[Dim::Batch, Dim::Fixed(STEPS), Dim::Fixed(CHANNELS)])
    }

    /// Weights in ±1/√fan_in.
    fn weight(&mut self, shape: &[usize], fan_in: usize) -> Value {
        self.weights += 1;
        let data = random(self.weights, shape.iter().product(), 1.0 / (fan_in as f32).sqrt());
        self.graph.initializer_f32(&format!("w{}", self.weights), shape, &data)
    }

    fn dense(&mut self, x: Value, inputs: usize, outputs: usize) -> Value {
        let (w, b) = (self.weight(&[inputs, outputs], inputs), self.weight(&[outputs], inputs));
        let product = self.graph.matmul(x, w);
        self.graph.add(product, b)
    }

    /// `[batch, width]` to the probabilities, and the file.
    fn finish(mut self, x: Value, width: usize, name: &str) -> Model {
        let (w, b) = (self.weight(&[width, CLASSES], width), self.weight(&[CLASSES], width));
        let logits = self.graph.gemm(x, w, Some(b), false);
        let output = self.graph.softmax(logits, -1);
        self.graph.output(output, "probabilities", &[Dim::Batch, Dim::Fixed(CLASSES)]);
        let onnx = self.graph.finish().expect("a graph");
        Model { name: name.to_owned(), onnx, inputs: vec![vec![STEPS, CHANNELS]] }
    }

    /// Every `step`th entry of the last axis from `start` on.
    fn every(&mut self, x: Value, start: i64, step: i64) -> Value {
        self.constants += 1;
        let name = self.constants;
        let mut constant = |what: &str, number| self.graph.initializer_i64(&format!("{what}{name}"), &[1], &[number]);
        let inputs =
            [x, constant("start", start), constant("end", i64::MAX), constant("axis", 2), constant("step", step)];
        self.graph.node("Slice", &inputs, 1, &[])[0]
    }
}

/// Layers of LSTM, the last state of the last one, a dense layer.
#[must_use]
pub fn lstm(hidden: usize, layers: usize, direction: Direction) -> Model {
    let directions = direction.num_directions();
    let prefix = if directions == 2 { "Bi" } else { "" };
    let name = if layers == 1 { format!("{prefix}LSTM({hidden})") } else { format!("{layers}x{prefix}LSTM({hidden})") };
    let mut writer = Writer::new("lstm");
    let bars = writer.window();
    let mut x = writer.graph.transpose(bars, &[1, 0, 2]);
    let width = directions * hidden;
    let mut inputs = CHANNELS;
    for layer in 1..=layers {
        let w = writer.weight(&[directions, 4 * hidden, inputs], hidden);
        let r = writer.weight(&[directions, 4 * hidden, hidden], hidden);
        let b = writer.weight(&[directions, 8 * hidden], hidden);
        let outputs = writer.graph.lstm(x, w, r, Some(b), hidden, direction);
        x = if layer == layers {
            let state = writer.graph.transpose(outputs.y_h, &[1, 0, 2]);
            writer.graph.reshape(state, &[-1, width as i64])
        } else {
            let y = writer.graph.transpose(outputs.y, &[0, 2, 1, 3]);
            writer.graph.reshape(y, &[STEPS as i64, -1, width as i64])
        };
        inputs = width;
    }
    writer.finish(x, width, &name)
}

/// Five residual layers of causal convolutions, each of width 3, dilated by 1, 2, 4, 8 and 16; the last step; a dense layer.
///
/// The pruned export computes the 31, 15, 7, 3 and 1 steps that the last one depends on: every second step of those before, so
/// that the convolutions have stride 2 and no dilation.
#[must_use]
pub fn tcn(channels: usize, export: Export) -> Model {
    const LAYERS: u32 = 5;
    let mut writer = Writer::new("tcn");
    let bars = writer.window();
    let mut x = writer.graph.transpose(bars, &[0, 2, 1]); // [batch, channels, steps]
    if export == Export::Pruned {
        x = writer.graph.slice(x, 2, -63, i64::MAX);
    }
    let mut inputs = CHANNELS;
    for layer in 0..LAYERS {
        let (w, b) = (writer.weight(&[channels, inputs, 3], 3 * inputs), writer.weight(&[channels], 3 * inputs));
        let dilation = 1 << layer;
        let (convolved, same) = match export {
            Export::Whole | Export::AllSteps => (writer.graph.conv1d(x, w, Some(b), 1, dilation, (2 * dilation, 0)), x),
            Export::Pruned => (writer.graph.conv1d(x, w, Some(b), 2, 1, (0, 0)), writer.every(x, 2, 2)),
        };
        let convolved = writer.graph.relu(convolved);
        let same = if inputs == channels {
            same
        } else {
            let w = writer.weight(&[channels, inputs, 1], inputs);
            writer.graph.conv1d(same, w, None, 1, 1, (0, 0))
        };
        x = writer.graph.add(convolved, same);
        inputs = channels;
    }
    if export == Export::AllSteps {
        writer.graph.output(x, "steps", &[Dim::Batch, Dim::Fixed(channels), Dim::Fixed(STEPS)]);
    }
    let last = writer.graph.select(x, 2, -1);
    let suffix = if export == Export::Whole { ", whole" } else { "" };
    writer.finish(last, channels, &format!("TCN({channels}x5){suffix}"))
}

/// A Transformer encoder: two layers, 4 heads, normalised after each half, four times as wide inside, ReLU; the last step; a
/// dense layer. The pruned export computes only the last step in the second layer.
#[must_use]
pub fn transformer(width: usize, export: Export) -> Model {
    const LAYERS: usize = 2;
    const HEADS: usize = 4;
    let head = width / HEADS;
    let mut writer = Writer::new("transformer");
    let bars = writer.window();
    let mut x = writer.dense(bars, CHANNELS, width);
    let position = writer.weight(&[STEPS, width], 1);
    x = writer.graph.add(x, position);
    for layer in 1..=LAYERS {
        let queried = match export {
            Export::Pruned if layer == LAYERS => writer.graph.slice(x, 1, -1, i64::MAX),
            _ => x,
        };
        let mut split = |x, perm: &[i64]| {
            let projected = writer.dense(x, width, width);
            let heads = writer.graph.reshape(projected, &[0, -1, HEADS as i64, head as i64]);
            writer.graph.transpose(heads, perm)
        };
        let query = split(queried, &[0, 2, 1, 3]);
        let key = split(x, &[0, 2, 3, 1]);
        let value = split(x, &[0, 2, 1, 3]);
        let scores = writer.graph.matmul(query, key);
        let root = writer.graph.initializer_f32(&format!("root{layer}"), &[], &[(head as f32).sqrt()]);
        let scores = writer.graph.div(scores, root);
        let scores = writer.graph.softmax(scores, -1);
        let gathered = writer.graph.matmul(scores, value);
        let gathered = writer.graph.transpose(gathered, &[0, 2, 1, 3]);
        let gathered = writer.graph.reshape(gathered, &[0, -1, width as i64]);
        let gathered = writer.dense(gathered, width, width);
        let sum = writer.graph.add(queried, gathered);
        let normal = normalized(&mut writer, sum, width);
        let inner = writer.dense(normal, width, 4 * width);
        let inner = writer.graph.relu(inner);
        let inner = writer.dense(inner, 4 * width, width);
        let sum = writer.graph.add(normal, inner);
        x = normalized(&mut writer, sum, width);
    }
    if export == Export::AllSteps {
        writer.graph.output(x, "steps", &[Dim::Batch, Dim::Fixed(STEPS), Dim::Fixed(width)]);
    }
    let last = writer.graph.select(x, 1, -1);
    let suffix = if export == Export::Whole { ", whole" } else { "" };
    writer.finish(last, width, &format!("Transformer(d{width}){suffix}"))
}

fn normalized(writer: &mut Writer, x: Value, width: usize) -> Value {
    let (scale, shift) = (writer.weight(&[width], 1), writer.weight(&[width], 1));
    writer.graph.layer_norm(x, scale, shift, 1e-5)
}

/// Our own family, with weights as training begins with them.
#[must_use]
pub fn simple_lstm(hidden: usize, layers: usize, task: Task) -> Model {
    let num_features = 24;
    let shape = Shape {
        task,
        window_bars: STEPS,
        num_channels: CHANNELS,
        num_features,
        num_outputs: if task == Task::Regression { 1 } else { CLASSES },
        hidden_size: hidden,
        num_layers: layers,
        num_heads: 4,
    };
    let mut parameters = Parameters::new(&shape, 3);
    let noise = random(4, parameters.data().len(), 0.1);
    parameters.data_mut().iter_mut().zip(noise).for_each(|(value, noise)| *value += noise);
    let target = if task == Task::Regression { (0.5, 3.0) } else { (0.0, 1.0) };
    let onnx = export(&shape, &parameters, target, &Metadata::default()).expect("a graph");
    let name = if layers == 1 { format!("SimpleLSTM({hidden})") } else { format!("{layers}xSimpleLSTM({hidden})") };
    Model { name, onnx, inputs: vec![vec![STEPS, CHANNELS], vec![num_features]] }
}

/// A sum of complete regression trees over [`TREE_FEATURES`] numbers.
#[must_use]
pub fn trees(count: usize, depth: u32) -> Model {
    let (inner, all) = ((1usize << depth) - 1, (1usize << (depth + 1)) - 1);
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut ints: [Vec<i64>; 5] = Default::default();
    let [tree_ids, node_ids, features, yes, no] = &mut ints;
    let (mut values, mut modes, mut leaf_trees, mut leaf_nodes, mut weights) = (vec![], vec![], vec![], vec![], vec![]);
    for tree in 0..count {
        for node in 0..all {
            let is_leaf = node >= inner;
            tree_ids.push(tree as i64);
            node_ids.push(node as i64);
            features.push(if is_leaf { 0 } else { random.random_range(0..TREE_FEATURES as i64) });
            values.push(if is_leaf { 0.0 } else { random.random::<f32>() * 2.0 - 1.0 });
            modes.push(if is_leaf { "LEAF" } else { "BRANCH_LEQ" }.to_owned());
            yes.push(if is_leaf { 0 } else { 2 * node as i64 + 1 });
            no.push(if is_leaf { 0 } else { 2 * node as i64 + 2 });
            if is_leaf {
                leaf_trees.push(tree as i64);
                leaf_nodes.push(node as i64);
                weights.push(random.random::<f32>() * 0.2 - 0.1);
            }
        }
    }
    let num_leaves = weights.len();
    let [tree_ids, node_ids, features, yes, no] = ints;
    let attributes = [
        ("n_targets", Attribute::Int(1)),
        ("nodes_treeids", Attribute::Ints(tree_ids)),
        ("nodes_nodeids", Attribute::Ints(node_ids)),
        ("nodes_featureids", Attribute::Ints(features)),
        ("nodes_values", Attribute::Floats(values)),
        ("nodes_modes", Attribute::Strings(modes)),
        ("nodes_truenodeids", Attribute::Ints(yes)),
        ("nodes_falsenodeids", Attribute::Ints(no)),
        ("target_treeids", Attribute::Ints(leaf_trees)),
        ("target_nodeids", Attribute::Ints(leaf_nodes)),
        ("target_ids", Attribute::Ints(vec![0; num_leaves])),
        ("target_weights", Attribute::Floats(weights)),
    ];
    let mut graph = GraphBuilder::new("trees");
    let x = graph.input("x", &[Dim::Batch, Dim::Fixed(TREE_FEATURES)]);
    let output = graph.ml_node("TreeEnsembleRegressor", &[x], 1, &attributes)[0];
    graph.output(output, "prediction", &[Dim::Batch, Dim::Fixed(1)]);
    let onnx = graph.finish().expect("a graph");
    Model { name: format!("{count} trees, depth {depth}"), onnx, inputs: vec![vec![TREE_FEATURES]] }
}
