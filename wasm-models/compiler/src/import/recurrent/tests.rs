use crate::eval;
use crate::ir::{DType, Data};
use crate::testkit::{Attr, OnnxModel, Running, assert_close};
use crate::{Options, compile};

fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = u64::from(seed) * 2 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

const STEPS: usize = 5;
const FEATURES: usize = 3;
const HIDDEN: usize = 6;

fn model(op: &str, gates: usize, direction: &str, layout: i64) -> Vec<u8> {
    let directions = if direction == "bidirectional" { 2 } else { 1 };
    let shape = if layout == 1 { [None, Some(STEPS), Some(FEATURES)] } else { [Some(STEPS), None, Some(FEATURES)] };
    let constant = |shape: &[usize], seed| Data::F32(noise(shape.iter().product(), seed));
    let (w, r, b) = (
        [directions, gates * HIDDEN, FEATURES],
        [directions, gates * HIDDEN, HIDDEN],
        [directions, 2 * gates * HIDDEN],
    );
    let mut attributes = vec![
        ("hidden_size", Attr::Int(HIDDEN as i64)),
        ("direction", Attr::Text(direction)),
        ("layout", Attr::Int(layout)),
    ];
    if op == "GRU" {
        attributes.push(("linear_before_reset", Attr::Int(1)));
    }
    let outputs: &[&str] = if op == "LSTM" { &["y", "y_h", "y_c"] } else { &["y", "y_h"] };
    // Rows come first in the outputs of layout 1 alone.
    let model = OnnxModel::new(17)
        .input("x", DType::F32, &shape)
        .constant("w", &w, &constant(&w, 1))
        .constant("r", &r, &constant(&r, 2))
        .constant("b", &b, &constant(&b, 3))
        .node(op, &["x", "w", "r", "b"], outputs, &attributes);
    outputs.iter().fold(model, |model, output| model.output(output)).bytes()
}

#[test]
fn layers_of_both_directions_answer_for_any_number_of_rows() {
    for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        for direction in ["forward", "reverse", "bidirectional"] {
            let bytes = model(op, gates, direction, 1);
            let compiled = compile(&bytes, &Options { max_rows: 6, ..Options::default() }).expect("compiles");
            let imported = crate::import::import(&bytes, &Options::default()).expect("imports");
            let (_, single) = imported.graphs.last().expect("a graph");
            let mut running = Running::new(&compiled.wasm);
            let x = noise(6 * STEPS * FEATURES, 9);
            let all = running.run(6, &[Data::F32(x.clone())]);
            for row in 0..6 {
                let part = x[row * STEPS * FEATURES..(row + 1) * STEPS * FEATURES].to_vec();
                let expected = eval::graph(single, &[Data::F32(part)]);
                for (actual, expected) in all.iter().zip(&expected) {
                    let (Data::F32(actual), Data::F32(expected)) = (actual, expected) else { panic!("types") };
                    let len = actual.len() / 6;
                    assert_close(&actual[row * len..(row + 1) * len], expected, 1e-5);
                }
            }
        }
    }
}

/// By hand: one unit, weights 1, no bias, `h = tanh(x + h)`.
#[test]
fn a_unit_by_hand() {
    let bytes = OnnxModel::new(14)
        .input("x", DType::F32, &[Some(3), Some(1), Some(1)])
        .constant("w", &[1, 1, 1], &Data::F32(vec![1.0]))
        .constant("r", &[1, 1, 1], &Data::F32(vec![1.0]))
        .node("RNN", &["x", "w", "r"], &["y"], &[("hidden_size", Attr::Int(1))])
        .output("y")
        .bytes();
    let compiled = compile(&bytes, &Options::default()).expect("compiles");
    let outputs = Running::new(&compiled.wasm).run(1, &[Data::F32(vec![0.5, -1.0, 2.0])]);
    let first = 0.5f32.tanh();
    let second = (first - 1.0).tanh();
    let Data::F32(actual) = &outputs[0] else { panic!("types") };
    assert_close(actual, &[first, second, (second + 2.0).tanh()], 1e-6);
}

#[test]
fn what_does_not_fit_is_named() {
    let bytes = OnnxModel::new(14)
        .input("x", DType::F32, &[Some(3), Some(1), Some(2)])
        .constant("w", &[1, 1, 1], &Data::F32(vec![1.0]))
        .constant("r", &[1, 1, 1], &Data::F32(vec![1.0]))
        .node("RNN", &["x", "w", "r"], &["y"], &[("hidden_size", Attr::Int(1))])
        .output("y")
        .bytes();
    let error = compile(&bytes, &Options::default()).expect_err("a shape that does not fit");
    assert_eq!(error.to_string(), "node `y` (`RNN`): input 1 has shape [1, 1, 1], expected [1, 1, 2]");
}

/// As PyTorch exports `GRU(bias=False)`.
#[test]
fn a_wide_gru_without_bias_adds_none() {
    const WIDE: usize = 20;
    let noise = |shape: &[usize], seed| Data::F32(noise(shape.iter().product(), seed));
    let (w, r) = ([1, 3 * WIDE, 2], [1, 3 * WIDE, WIDE]);
    let attributes = [("hidden_size", Attr::Int(WIDE as i64)), ("linear_before_reset", Attr::Int(1))];
    let bytes = OnnxModel::new(17)
        .input("x", DType::F32, &[Some(3), Some(1), Some(2)])
        .constant("w", &w, &noise(&w, 1))
        .constant("r", &r, &noise(&r, 2))
        .constant("offset", &[1], &Data::F32(vec![100.0]))
        .node("GRU", &["x", "w", "r"], &["", "h"], &attributes)
        .node("Add", &["h", "offset"], &["y"], &[])
        .output("y")
        .bytes();
    let imported = crate::import::import(&bytes, &Options::default()).expect("imports");
    let x = noise(&[3, 1, 2], 7);
    let expected = eval::graph(&imported.graphs[0].1, std::slice::from_ref(&x));
    let actual = Running::new(&compile(&bytes, &Options::default()).expect("compiles").wasm).run(1, &[x]);
    let (Data::F32(actual), Data::F32(expected)) = (&actual[0], &expected[0]) else { panic!("types") };
    assert_close(actual, expected, 1e-6);
}
