use proptest::prelude::*;

use crate::ir::{Activation, Cell, DType, Data, Graph, Node, Op, Operand, Packing};
use crate::testkit::{Running, assert_close, compile_as_it_is, compile_graph};
use crate::{Options, Variant, eval};

const CELLS: usize = 7;
const ACTIVATIONS: [Activation; 11] = [
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Relu,
    Activation::Affine(0.5, 0.25),
    Activation::LeakyRelu(0.1),
    Activation::ScaledTanh(0.9, 1.1),
    Activation::HardSigmoid(0.2, 0.5),
    Activation::Elu(0.7),
    Activation::Softsign,
    Activation::Softplus,
    Activation::ThresholdedRelu(0.3),
];

fn cell(kind: usize) -> Cell {
    let usual = [Activation::Sigmoid, Activation::Tanh, Activation::Tanh];
    let gru = [Activation::Sigmoid, Activation::Tanh];
    match kind {
        0 => Cell::Lstm { activations: usual, input_forget: false },
        1 => Cell::Lstm { activations: usual, input_forget: true },
        2 => Cell::Lstm {
            activations: [Activation::HardSigmoid(0.2, 0.5), Activation::Softsign, Activation::ScaledTanh(0.9, 1.1)],
            input_forget: false,
        },
        3 => Cell::Gru { activations: gru, linear_before_reset: false },
        4 => Cell::Gru { activations: gru, linear_before_reset: true },
        5 => Cell::Rnn { activation: Activation::Tanh },
        _ => Cell::Rnn { activation: ACTIVATIONS[kind - 6] },
    }
}

/// Numbers between -1 and 1 that look random.
fn noise(count: usize, seed: usize) -> Vec<f32> {
    let mut state = seed as u64 * 2 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[derive(Debug, Clone)]
struct Case {
    kind: usize,
    steps: usize,
    rows: usize,
    hidden: usize,
    reverse: bool,
    clip: Option<f32>,
    has_extra: bool,
    is_constant: bool,
    is_transposed: bool,
    has_all: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let sizes = (0..CELLS, 1..5usize, 1..7usize, prop_oneof![1..10usize, Just(16), Just(19)]);
    (sizes, any::<[bool; 5]>(), prop::option::of(0.3..2f32)).prop_map(|((kind, steps, rows, hidden), flags, clip)| {
        let [reverse, has_extra, is_constant, is_transposed, has_all] = flags;
        Case { kind, steps, rows, hidden, reverse, clip, has_extra, is_constant, is_transposed, has_all }
    })
}

impl Case {
    /// The graph, with the projected input as `[rows, steps, ..]` where that is asked for; and its inputs.
    fn build(&self) -> (Graph, Vec<Data>) {
        let Self { steps, rows, hidden, .. } = *self;
        let cell = cell(self.kind);
        let columns = cell.gates() * hidden;
        let mut graph = Graph::default();
        let mut data = Vec::new();
        let mut given = |graph: &mut Graph, name: &str, shape: &[usize], scale: f32, is_constant: bool| {
            let numbers = noise(shape.iter().product(), data.len() + 7 * hidden).iter().map(|x| x * scale).collect();
            if is_constant {
                let id = graph.add_constant(name, shape, Data::F32(numbers)).expect("a constant");
                return graph.whole(id);
            }
            let id = graph.add_value(name, DType::F32, shape).expect("a value");
            graph.inputs.push(id);
            data.push(Data::F32(numbers));
            graph.whole(id)
        };
        let x = if self.is_transposed {
            given(&mut graph, "x", &[rows, steps, columns], 2.0, false).transposed(&[1, 0, 2])
        } else {
            given(&mut graph, "x", &[steps, rows, columns], 2.0, false)
        };
        let scale = (hidden as f32).sqrt().recip();
        let w = given(&mut graph, "w", &[columns, hidden], scale, self.is_constant).transposed(&[1, 0]);
        let mut inputs = vec![x, w, given(&mut graph, "h", &[rows, hidden], 1.0, false)];
        let is_lstm = matches!(cell, Cell::Lstm { .. });
        if is_lstm {
            let zero = graph.add_constant("c", &[1], Data::F32(vec![0.5])).expect("a constant");
            inputs.push(Operand { value: zero, offset: 0, shape: vec![rows, hidden], strides: vec![0, 0] });
        }
        let is_apart = matches!(cell, Cell::Gru { linear_before_reset: true, .. });
        if is_apart || (is_lstm && self.has_extra) {
            let len = if is_lstm { 3 * hidden } else { hidden };
            // One number for all columns, or all in order.
            inputs.push(if self.is_transposed {
                let bias = graph.add_constant("extra", &[1], Data::F32(vec![0.4])).expect("a constant");
                Operand { value: bias, offset: 0, shape: vec![len], strides: vec![0] }
            } else {
                given(&mut graph, "extra", &[len], 0.5, true)
            });
        }
        let mut output = |name: &str, shape: &[usize], is_wanted: bool| {
            is_wanted.then(|| {
                let id = graph.add_value(name, DType::F32, shape).expect("a value");
                graph.outputs.push((name.into(), id));
                id
            })
        };
        let mut outputs =
            vec![output("all", &[steps, rows, hidden], self.has_all), output("last", &[rows, hidden], true)];
        if is_lstm {
            outputs.push(output("cell", &[rows, hidden], self.has_extra));
        }
        let op = Op::Recurrent { cell, hidden, reverse: self.reverse, clip: self.clip, packing: Packing::None };
        graph.nodes.push(Node { name: "layer".into(), op, inputs, outputs });
        (graph, data)
    }
}

fn check(case: &Case, options: &Options, tolerance: f32) {
    let (graph, data) = case.build();
    let expected = eval::graph(&graph, &data);
    let wasm = if case.is_constant { compile_graph(&graph, options) } else { compile_as_it_is(&graph, options) };
    for (actual, expected) in Running::new(&wasm).run(1, &data).iter().zip(&expected) {
        let (Data::F32(actual), Data::F32(expected)) = (actual, expected) else { panic!("other types") };
        assert_close(actual, expected, tolerance);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn layers_compute_what_they_should(case in cases()) {
        check(&case, &Options::default(), 1e-5);
    }
}

#[test]
fn every_activation_is_its_function() {
    for kind in 6..6 + ACTIVATIONS.len() {
        let case = Case {
            kind,
            steps: 4,
            rows: 3,
            hidden: 17,
            reverse: false,
            clip: None,
            has_extra: false,
            is_constant: true,
            is_transposed: false,
            has_all: true,
        };
        check(&case, &Options::default(), 1e-5);
    }
}

#[test]
fn fused_arithmetic_computes_the_same_within_the_tolerance() {
    for kind in 0..CELLS {
        let case = Case {
            kind,
            steps: 6,
            rows: 5,
            hidden: 18,
            reverse: false,
            clip: None,
            has_extra: true,
            is_constant: true,
            is_transposed: false,
            has_all: true,
        };
        check(&case, &Options { variant: Variant::RelaxedSimd, ..Options::default() }, 1e-5);
    }
}

#[test]
fn small_weights_in_8_bits_stay_near() {
    for kind in 0..CELLS {
        let case = Case {
            kind,
            steps: 9,
            rows: 3,
            hidden: 24,
            reverse: true,
            clip: None,
            has_extra: false,
            is_constant: true,
            is_transposed: true,
            has_all: true,
        };
        check(&case, &Options { int8_weights: true, ..Options::default() }, 0.03);
        let size = |int8_weights| compile_graph(&case.build().0, &Options { int8_weights, ..Options::default() }).len();
        assert!(size(true) < size(false));
    }
}

#[test]
fn a_row_does_not_depend_on_the_others() {
    for kind in 0..CELLS {
        let case = |rows| Case {
            kind,
            steps: 5,
            rows,
            hidden: 21,
            reverse: false,
            clip: None,
            has_extra: true,
            is_constant: true,
            is_transposed: true,
            has_all: false,
        };
        let (block, data) = case(4).build();
        let (single, _) = case(1).build();
        let all = Running::new(&compile_graph(&block, &Options::default())).run(1, &data);
        let mut alone = Running::new(&compile_graph(&single, &Options::default()));
        for row in 0..4 {
            let part = |data: &Data| {
                let len = data.len() / 4;
                data.pick(row * len..(row + 1) * len)
            };
            let expected: Vec<Data> = all.iter().map(part).collect();
            assert_eq!(alone.run(1, &data.iter().map(part).collect::<Vec<_>>()), expected);
        }
    }
}

/// `cargo test -p moola-wasm-compiler measure_layers -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn measure_layers() {
    for (hidden, rows) in [(32, 1), (64, 1), (128, 1), (32, 4), (64, 4), (128, 4)] {
        let case = Case {
            kind: 0,
            steps: 105,
            rows,
            hidden,
            reverse: false,
            clip: None,
            has_extra: false,
            is_constant: true,
            is_transposed: false,
            has_all: false,
        };
        let (graph, data) = case.build();
        let mut running = Running::new(&compile_graph(&graph, &Options::default()));
        running.run(1, &data);
        let mut times: Vec<_> = (0..300)
            .map(|_| {
                let started = std::time::Instant::now();
                running.call(1);
                started.elapsed()
            })
            .collect();
        times.sort();
        println!("LSTM({hidden}), 105 steps, {rows} rows: {:?}", times[150]);
    }
}
