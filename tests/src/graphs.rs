//! Small ONNX models, and models put together from others.

use moola_onnx::writer::{Dim, GraphBuilder};
use serde_json::{Value, json};

/// Bars of the windows that the models here take.
pub const WINDOW_BARS: usize = 4;

/// A model that answers every window of [`WINDOW_BARS`] raw bars with the same probabilities.
///
/// # Panics
/// Where it cannot be made.
#[must_use]
pub fn constant(probabilities: &[f32]) -> Vec<u8> {
    let classes = probabilities.len();
    let mut graph = GraphBuilder::new("constant");
    let bars = graph.input("bars", &[Dim::Batch, Dim::Fixed(WINDOW_BARS * 4)]);
    let weights = graph.initializer_f32("weights", &[WINDOW_BARS * 4, classes], &vec![0.0; WINDOW_BARS * 4 * classes]);
    let bias = graph.initializer_f32("bias", &[classes], probabilities);
    let output = graph.gemm(bars, weights, Some(bias), false);
    graph.output(output, "probabilities", &[Dim::Batch, Dim::Fixed(classes)]);
    graph.finish().expect("a graph")
}

/// The manifest of [`constant`] with two classes.
#[must_use]
pub fn constant_manifest() -> Value {
    json!({"task": "classification", "inputs": [{"kind": "raw_bars"}], "classes": ["down", "up"],
        "window_bars": WINDOW_BARS})
}

/// Takes the first `width` of `total` numbers of a row: from the input `bars` to the output `output`.
///
/// # Panics
/// Where it cannot be made.
#[must_use]
pub fn first_numbers(total: usize, width: usize, output: &str) -> Vec<u8> {
    let mut graph = GraphBuilder::new("first");
    let bars = graph.input("bars", &[Dim::Batch, Dim::Fixed(total)]);
    let first = graph.slice(bars, 1, 0, width as i64);
    graph.output(first, output, &[Dim::Batch, Dim::Fixed(width)]);
    graph.finish().expect("a graph")
}

/// Turns the logits `input` into the probabilities `probabilities`.
///
/// # Panics
/// Where it cannot be made.
#[must_use]
pub fn softmax(input: &str, width: usize) -> Vec<u8> {
    let mut graph = GraphBuilder::new("softmax");
    let logits = graph.input(input, &[Dim::Batch, Dim::Fixed(width)]);
    let output = graph.softmax(logits, -1);
    graph.output(output, "probabilities", &[Dim::Batch, Dim::Fixed(width)]);
    graph.finish().expect("a graph")
}

// Field numbers of onnx.proto.
const MODEL_GRAPH: u64 = 7;
const GRAPH_INPUT: u64 = 11;
const GRAPH_OUTPUT: u64 = 12;
const GRAPH_NAME: u64 = 2;

/// Two models in a row: outputs of the first that are named like inputs of the second become them. `header` says which of
/// the two gives the operator sets.
///
/// # Panics
/// Where the bytes are no models.
#[must_use]
pub fn chain(first: &[u8], second: &[u8], header: &[u8]) -> Vec<u8> {
    let graph = |model: &[u8], without: u64| -> Vec<u8> {
        let (_, _, graph) = *fields(model).iter().find(|(number, ..)| *number == MODEL_GRAPH).expect("a graph");
        fields(graph)
            .into_iter()
            .filter(|(number, ..)| *number != without)
            .flat_map(|(_, whole, _)| whole.to_vec())
            .collect()
    };
    let second: Vec<u8> = {
        let graph = graph(second, GRAPH_INPUT);
        fields(&graph)
            .into_iter()
            .filter(|(number, ..)| *number != GRAPH_NAME)
            .flat_map(|(_, whole, _)| whole.to_vec())
            .collect()
    };
    let merged = [graph(first, GRAPH_OUTPUT), second].concat();
    let mut model: Vec<u8> = fields(header)
        .into_iter()
        .filter(|(number, ..)| *number != MODEL_GRAPH)
        .flat_map(|(_, whole, _)| whole.to_vec())
        .collect();
    write_varint(&mut model, MODEL_GRAPH << 3 | 2);
    write_varint(&mut model, merged.len() as u64);
    model.extend(merged);
    model
}

/// Number, whole bytes and content of each field of a message.
fn fields(message: &[u8]) -> Vec<(u64, &[u8], &[u8])> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < message.len() {
        let start = at;
        let tag = varint(message, &mut at);
        let content = match tag & 7 {
            0 => {
                let from = at;
                varint(message, &mut at);
                from
            }
            1 => {
                at += 8;
                at - 8
            }
            2 => {
                let length = varint(message, &mut at) as usize;
                at += length;
                at - length
            }
            5 => {
                at += 4;
                at - 4
            }
            other => panic!("wire type {other}"),
        };
        all.push((tag >> 3, &message[start..at], &message[content..at]));
    }
    all
}

fn varint(message: &[u8], at: &mut usize) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = message[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// `tests/terraform/check.sh` registers that file. `MOOLA_BLESS=1` writes it.
    #[test]
    fn the_model_of_the_terraform_check_is_the_constant_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("terraform/constant.onnx");
        let model = super::constant(&[0.25, 0.75]);
        if std::env::var_os("MOOLA_BLESS").is_some() {
            std::fs::write(&path, &model).expect("the file");
        }
        assert_eq!(std::fs::read(&path).expect("the file"), model);
    }
}
