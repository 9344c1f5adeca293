use moola_core::contract::Task;
use moola_core::{Error, Result};
use moola_onnx::writer::{Dim, Direction, GraphBuilder, Value};

use super::{Parameters, Shape};

/// What is said about the model in its file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Entries, in order.
    pub entries: Vec<(String, String)>,
}

/// Name of the graph's output.
#[must_use]
pub fn output_name(task: Task) -> &'static str {
    match task {
        Task::Classification => "probabilities",
        Task::Regression => "prediction",
    }
}

/// Writes the model as ONNX: inputs `bars` and, where it has features, `features`; output `probabilities`
/// `[batch, classes]` or `prediction` `[batch, 1]`. `target` is the mean and the standard deviation of the target of a
/// regression, which become part of the head.
///
/// # Errors
/// `Internal` where the weights do not fit the shape.
pub fn export(shape: &Shape, parameters: &Parameters, target: (f64, f64), metadata: &Metadata) -> Result<Vec<u8>> {
    let (steps, hidden, width) = (shape.window_bars, shape.hidden_size, shape.width());
    let (heads, head_width) = (shape.num_heads, width / shape.num_heads);
    let mut graph = GraphBuilder::new("simple_lstm");
    let bars = graph.input("bars", &[Dim::Batch, Dim::Fixed(steps), Dim::Fixed(shape.num_channels)]);
    let features =
        (shape.num_features > 0).then(|| graph.input("features", &[Dim::Batch, Dim::Fixed(shape.num_features)]));
    let weight = |graph: &mut GraphBuilder, name: &str| {
        let (shape, data) = parameters.get(name);
        graph.initializer_f32(name, shape, data)
    };

    let mut x = graph.transpose(bars, &[1, 0, 2]); // [steps, batch, channels]
    let mut states = x;
    for layer in 0..shape.num_layers {
        let w = weight(&mut graph, &format!("encoder.{layer}.w"));
        let r = weight(&mut graph, &format!("encoder.{layer}.r"));
        // ONNX has a second bias, of the state; ours is one.
        let (_, bias) = parameters.get(&format!("encoder.{layer}.b"));
        let mut both = Vec::with_capacity(2 * bias.len());
        for direction in bias.chunks(4 * hidden) {
            both.extend_from_slice(direction);
            both.resize(both.len() + 4 * hidden, 0.0);
        }
        let b = graph.initializer_f32(&format!("encoder.{layer}.b"), &[2, 8 * hidden], &both);
        let y = graph.lstm(x, w, r, Some(b), hidden, Direction::Bidirectional).y; // [steps, 2, batch, hidden]
        if layer + 1 < shape.num_layers {
            let y = graph.transpose(y, &[0, 2, 1, 3]);
            x = graph.reshape(y, &[steps as i64, -1, width as i64]);
        } else {
            let y = graph.transpose(y, &[2, 0, 1, 3]);
            states = graph.reshape(y, &[-1, steps as i64, width as i64]); // [batch, steps, width]
        }
    }
    let at = |graph: &mut GraphBuilder, step: i64, from: usize| {
        let row = graph.slice(states, 1, step, step + 1);
        let row = graph.slice(row, 2, from as i64, (from + hidden) as i64);
        graph.reshape(row, &[-1, hidden as i64])
    };
    let forward_last = at(&mut graph, steps as i64 - 1, 0);
    let backward_last = at(&mut graph, 0, hidden);
    let last = graph.concat(&[forward_last, backward_last], 1);

    // The scale of the scores is part of the query's weights.
    let scale = 1.0 / (head_width as f32).sqrt();
    let scaled = |graph: &mut GraphBuilder, name: &str| {
        let (shape, data) = parameters.get(name);
        let data: Vec<f32> = data.iter().map(|value| value * scale).collect();
        graph.initializer_f32(name, shape, &data)
    };
    let query_weight = scaled(&mut graph, "attention.query");
    let query_bias = scaled(&mut graph, "attention.query_bias");
    let query = graph.gemm(last, query_weight, Some(query_bias), false);
    let query = graph.reshape(query, &[-1, heads as i64, head_width as i64]);
    let query = graph.transpose(query, &[1, 0, 2]);
    let key = weight(&mut graph, "attention.key");
    let query = graph.matmul(query, key); // [heads, batch, width]
    let query = graph.transpose(query, &[1, 0, 2]);
    let columns = graph.transpose(states, &[0, 2, 1]);
    let scores = graph.matmul(query, columns); // [batch, heads, steps]
    let scores = graph.softmax(scores, -1);
    let gathered = graph.matmul(scores, states); // [batch, heads, width]
    let gathered = graph.transpose(gathered, &[1, 0, 2]);
    let value = weight(&mut graph, "attention.value");
    let gathered = graph.matmul(gathered, value); // [heads, batch, head width]
    let gathered = graph.transpose(gathered, &[1, 0, 2]);
    let gathered = graph.reshape(gathered, &[-1, width as i64]);
    let gathered = dense(&mut graph, parameters, gathered, "attention.output", "attention.output_bias");

    let mut read = graph.add(last, gathered);
    if let Some(features) = features {
        let features = dense(&mut graph, parameters, features, "features.weight", "features.bias");
        let features = graph.relu(features);
        read = graph.concat(&[read, features], 1);
    }
    let output = if shape.task == Task::Classification {
        let logits = dense(&mut graph, parameters, read, "head.weight", "head.bias");
        graph.softmax(logits, -1)
    } else {
        let (mean, std) = target;
        let (sizes, data) = parameters.get("head.weight");
        let data: Vec<f32> = data.iter().map(|value| (f64::from(*value) * std) as f32).collect();
        let w = graph.initializer_f32("head.weight", sizes, &data);
        let (sizes, data) = parameters.get("head.bias");
        let data: Vec<f32> = data.iter().map(|value| (f64::from(*value) * std + mean) as f32).collect();
        let b = graph.initializer_f32("head.bias", sizes, &data);
        graph.gemm(read, w, Some(b), false)
    };
    finish(graph, output, shape, metadata)
}

fn dense(graph: &mut GraphBuilder, parameters: &Parameters, x: Value, weight: &str, bias: &str) -> Value {
    let (shape, data) = parameters.get(weight);
    let w = graph.initializer_f32(weight, shape, data);
    let (shape, data) = parameters.get(bias);
    let b = graph.initializer_f32(bias, shape, data);
    graph.gemm(x, w, Some(b), false)
}

/// Writes the naive model, which answers `outputs` whatever the bars are.
///
/// # Errors
/// `Internal` where the outputs do not fit the shape.
pub fn export_naive(shape: &Shape, outputs: &[f64], metadata: &Metadata) -> Result<Vec<u8>> {
    let size = shape.window_bars * shape.num_channels;
    let mut graph = GraphBuilder::new("naive");
    let bars = graph.input("bars", &[Dim::Batch, Dim::Fixed(shape.window_bars), Dim::Fixed(shape.num_channels)]);
    let flat = graph.reshape(bars, &[-1, size as i64]);
    let zeros = graph.initializer_f32("zeros", &[size, outputs.len()], &vec![0.0; size * outputs.len()]);
    let values: Vec<f32> = outputs.iter().map(|&value| value as f32).collect();
    let values = graph.initializer_f32("outputs", &[outputs.len()], &values);
    let output = graph.gemm(flat, zeros, Some(values), false);
    finish(graph, output, shape, metadata)
}

fn finish(mut graph: GraphBuilder, output: Value, shape: &Shape, metadata: &Metadata) -> Result<Vec<u8>> {
    graph.output(output, output_name(shape.task), &[Dim::Batch, Dim::Fixed(shape.num_outputs)]);
    for (key, value) in &metadata.entries {
        graph.metadata(key, value);
    }
    graph.finish().map_err(|error| Error::internal("writing the model as ONNX").with_source(error))
}
