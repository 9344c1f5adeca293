use moola_core::ErrorKind;
use moola_core::ports::{Artifact, Engine, Tensor};
use moola_onnx::writer::{Attribute, Dim, Direction, GraphBuilder, LstmInputs, Value};
use moola_onnx::{TractEngine, inspect};

use crate::{assert_close, numbers, run, tensor};

const TOLERANCE: f32 = 1e-5;

/// Runs a graph of one input `[batch, shape..]` at batches 1 and 3 and compares each row with `expected`.
#[track_caller]
fn check_rows(
    shape: &[usize],
    out: &[usize],
    build: impl Fn(&mut GraphBuilder, Value) -> Value,
    expected: impl Fn(&[f32]) -> Vec<f32>,
) {
    let mut graph = GraphBuilder::new("test");
    let dims = |shape: &[usize]| {
        std::iter::once(Dim::Batch).chain(shape.iter().map(|&size| Dim::Fixed(size))).collect::<Vec<_>>()
    };
    let x = graph.input("x", &dims(shape));
    let y = build(&mut graph, x);
    graph.output(y, "y", &dims(out));
    let model = TractEngine.load(&Artifact::onnx(), &graph.finish().unwrap()).unwrap();
    assert_eq!(model.inputs(), [("x".to_owned(), shape.iter().map(|&size| Some(size)).collect::<Vec<_>>())]);
    assert_eq!(model.outputs(), [("y".to_owned(), out.iter().map(|&size| Some(size)).collect::<Vec<_>>())]);
    let len = shape.iter().product::<usize>();
    for batch in [1, 3, 1] {
        let data = numbers(batch as u64, batch * len);
        let results = model.run(vec![tensor(&[&[batch], shape].concat(), data.clone())]).unwrap();
        assert_eq!(results[0].shape(), [&[batch], out].concat());
        let wanted = data.chunks(len).flat_map(&expected).collect::<Vec<_>>();
        assert_close(results[0].data(), &wanted, TOLERANCE);
    }
}

fn matmul(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f32> {
    let cell = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum::<f32>();
    (0..m * n).map(|index| cell(index / n, index % n)).collect()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn matmul_multiplies_matrices() {
    let w = numbers(9, 12);
    check_rows(
        &[2, 3],
        &[2, 4],
        |g, x| {
            let w = g.initializer_f32("w", &[3, 4], &w);
            g.matmul(x, w)
        },
        |x| matmul(x, &w, 2, 3, 4),
    );
}

#[test]
fn gemm_is_a_dense_layer() {
    let (w, c) = (numbers(9, 12), numbers(10, 4));
    let dense = |x: &[f32]| matmul(x, &w, 1, 3, 4).iter().zip(&c).map(|(y, c)| y + c).collect::<Vec<_>>();
    check_rows(
        &[3],
        &[4],
        |g, x| {
            let (w, c) = (g.initializer_f32("w", &[3, 4], &w), g.initializer_f32("c", &[4], &c));
            g.gemm(x, w, Some(c), false)
        },
        dense,
    );
    let transposed = (0..12).map(|index| w[index % 3 * 4 + index / 3]).collect::<Vec<_>>();
    check_rows(
        &[3],
        &[4],
        |g, x| {
            let (w, c) = (g.initializer_f32("w", &[4, 3], &transposed), g.initializer_f32("c", &[4], &c));
            g.gemm(x, w, Some(c), true)
        },
        dense,
    );
    check_rows(
        &[3],
        &[4],
        |g, x| {
            let w = g.initializer_f32("w", &[3, 4], &w);
            g.gemm(x, w, None, false)
        },
        |x| matmul(x, &w, 1, 3, 4),
    );
}

#[test]
fn arithmetic_broadcasts() {
    type Case = (fn(&mut GraphBuilder, Value, Value) -> Value, fn(f32, f32) -> f32);
    let cases: [Case; 4] = [
        (GraphBuilder::add, |a, b| a + b),
        (GraphBuilder::sub, |a, b| a - b),
        (GraphBuilder::mul, |a, b| a * b),
        (GraphBuilder::div, |a, b| a / b),
    ];
    let c = [1.5, -2.0, 0.25];
    for (build, expected) in cases {
        check_rows(
            &[2, 3],
            &[2, 3],
            |g, x| {
                let c = g.initializer_f32("c", &[3], &c);
                build(g, x, c)
            },
            |x| x.iter().enumerate().map(|(index, x)| expected(*x, c[index % 3])).collect(),
        );
    }
}

#[test]
fn activations_map_each_number() {
    type Case = (fn(&mut GraphBuilder, Value) -> Value, fn(f32) -> f32);
    let cases: [Case; 3] =
        [(GraphBuilder::relu, |x| x.max(0.0)), (GraphBuilder::tanh, f32::tanh), (GraphBuilder::sigmoid, sigmoid)];
    for (build, expected) in cases {
        check_rows(
            &[7],
            &[7],
            |g, x| {
                let eight = g.initializer_f32("eight", &[], &[8.0]);
                let x = g.mul(x, eight);
                build(g, x)
            },
            |x| x.iter().map(|x| expected(8.0 * x)).collect(),
        );
    }
}

#[test]
fn softmax_normalises_along_the_axis() {
    let softmax = |x: &[f32]| {
        let sum = x.iter().map(|x| x.exp()).sum::<f32>();
        x.iter().map(|x| x.exp() / sum).collect::<Vec<_>>()
    };
    check_rows(&[2, 5], &[2, 5], |g, x| g.softmax(x, -1), |x| x.chunks(5).flat_map(softmax).collect());
    check_rows(
        &[2, 5],
        &[2, 5],
        |g, x| g.softmax(x, 1),
        |x| {
            let columns = (0..5).map(|j| softmax(&[x[j], x[5 + j]])).collect::<Vec<_>>();
            (0..10).map(|index| columns[index % 5][index / 5]).collect()
        },
    );
}

#[test]
fn shapes_change() {
    let transposed = |x: &[f32]| (0..6).map(|index| x[index % 2 * 3 + index / 2]).collect::<Vec<_>>();
    check_rows(&[2, 3], &[3, 2], |g, x| g.transpose(x, &[0, 2, 1]), transposed);
    check_rows(&[2, 3], &[6], |g, x| g.reshape(x, &[0, -1]), <[f32]>::to_vec);
    check_rows(&[6], &[3, 2], |g, x| g.reshape(x, &[-1, 3, 2]), <[f32]>::to_vec);
    check_rows(&[3], &[1, 3], |g, x| g.unsqueeze(x, &[1]), <[f32]>::to_vec);
    check_rows(&[1, 3, 1], &[3], |g, x| g.squeeze(x, &[1, 3]), <[f32]>::to_vec);
}

#[test]
fn parts_are_cut_and_joined() {
    check_rows(&[5, 2], &[2, 2], |g, x| g.slice(x, 1, 1, 3), |x| x[2..6].to_vec());
    check_rows(&[5, 2], &[2, 2], |g, x| g.slice(x, 1, -2, i64::MAX), |x| x[6..].to_vec());
    check_rows(&[5, 2], &[2], |g, x| g.select(x, 1, -1), |x| x[8..].to_vec());
    check_rows(
        &[5, 2],
        &[3, 2],
        |g, x| {
            let indices = g.initializer_i64("indices", &[3], &[4, 0, 2]);
            g.gather(x, indices, 1)
        },
        |x| [&x[8..], &x[..2], &x[4..6]].concat(),
    );
    check_rows(
        &[2, 2],
        &[2, 4],
        |g, x| {
            let y = g.relu(x);
            g.concat(&[x, y], -1)
        },
        |x| x.chunks(2).flat_map(|row| [row[0], row[1], row[0].max(0.0), row[1].max(0.0)]).collect(),
    );
}

#[test]
fn means_and_layer_norm() {
    let mean = |x: &[f32]| x.iter().sum::<f32>() / x.len() as f32;
    check_rows(&[2, 3], &[2], |g, x| g.reduce_mean(x, &[2], false), |x| x.chunks(3).map(mean).collect());
    check_rows(
        &[2, 3],
        &[1, 3],
        |g, x| g.reduce_mean(x, &[1], true),
        |x| (0..3).map(|j| (x[j] + x[3 + j]) / 2.0).collect(),
    );
    let (scale, bias) = ([2.0, 0.5, -1.0], [0.1, 0.2, 0.3]);
    check_rows(
        &[2, 3],
        &[2, 3],
        |g, x| {
            let (scale, bias) = (g.initializer_f32("scale", &[3], &scale), g.initializer_f32("bias", &[3], &bias));
            g.layer_norm(x, scale, bias, 1e-3)
        },
        |x| {
            let norm = |row: &[f32]| {
                let mean = mean(row);
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 3.0;
                let norm = row.iter().map(|x| (x - mean) / (variance + 1e-3).sqrt()).collect::<Vec<_>>();
                (0..3).map(|j| norm[j] * scale[j] + bias[j]).collect::<Vec<_>>()
            };
            x.chunks(3).flat_map(norm).collect()
        },
    );
}

#[test]
fn conv1d_slides_filters() {
    let (w, b) = (numbers(3, 4 * 2 * 3), numbers(4, 4));
    for (stride, dilation, pads) in [(1, 1, (0, 0)), (2, 1, (1, 1)), (1, 2, (4, 0))] {
        let steps = (10 + pads.0 + pads.1 - dilation * 2 - 1) / stride + 1;
        check_rows(
            &[2, 10],
            &[4, steps],
            |g, x| {
                let (w, b) = (g.initializer_f32("w", &[4, 2, 3], &w), g.initializer_f32("b", &[4], &b));
                g.conv1d(x, w, Some(b), stride, dilation, pads)
            },
            |x| {
                let at = |channel: usize, step: i64| {
                    if (0..10).contains(&step) { x[channel * 10 + step as usize] } else { 0.0 }
                };
                let cell = |filter: usize, step: usize| {
                    let taps = (0..6).map(|tap| {
                        let (channel, k) = (tap / 3, tap % 3);
                        let position = (step * stride + k * dilation) as i64 - pads.0 as i64;
                        w[filter * 6 + tap] * at(channel, position)
                    });
                    b[filter] + taps.sum::<f32>()
                };
                (0..4 * steps).map(|index| cell(index / steps, index % steps)).collect()
            },
        );
    }
}

/// One direction of an LSTM by the formulas of the ONNX operator: hidden states by step, and the last cell state.
struct Scalar<'a> {
    w: &'a [f32],
    r: &'a [f32],
    b: &'a [f32],
    p: &'a [f32],
    hidden: usize,
    features: usize,
}

impl Scalar<'_> {
    fn run(&self, x: &[f32], h0: &[f32], c0: &[f32], is_backward: bool) -> (Vec<Vec<f32>>, Vec<f32>) {
        let (n, k) = (self.hidden, self.features);
        let steps = x.len() / k;
        let (mut h, mut c) = (h0.to_vec(), c0.to_vec());
        let mut all = vec![Vec::new(); steps];
        let order: Vec<usize> = if is_backward { (0..steps).rev().collect() } else { (0..steps).collect() };
        for t in order {
            let gate = |gate: usize, j: usize| {
                let row = gate * n + j;
                let input = (0..k).map(|i| self.w[row * k + i] * x[t * k + i]).sum::<f32>();
                let state = (0..n).map(|i| self.r[row * n + i] * h[i]).sum::<f32>();
                input + state + self.b[row] + self.b[4 * n + row]
            };
            let peephole = |gate: usize, j: usize| self.p.get(gate * n + j).copied().unwrap_or(0.0);
            let (mut next_h, mut next_c) = (vec![0.0; n], vec![0.0; n]);
            for j in 0..n {
                let i = sigmoid(gate(0, j) + peephole(0, j) * c[j]);
                let f = sigmoid(gate(2, j) + peephole(2, j) * c[j]);
                next_c[j] = f * c[j] + i * gate(3, j).tanh();
                let o = sigmoid(gate(1, j) + peephole(1, j) * next_c[j]);
                next_h[j] = o * next_c[j].tanh();
            }
            (h, c) = (next_h, next_c);
            all[t].clone_from(&h);
        }
        (all, c)
    }
}

const STEPS: usize = 6;
const FEATURES: usize = 3;
const HIDDEN: usize = 5;

/// Input `[batch, steps, features]`; all three outputs with the batch first.
fn lstm_model(direction: Direction, p: &[f32], state: Option<(&[f32], &[f32])>) -> (Vec<u8>, [Vec<f32>; 3]) {
    let d = direction.num_directions();
    let (n, k) = (HIDDEN, FEATURES);
    let weights = [numbers(20, d * 4 * n * k), numbers(21, d * 4 * n * n), numbers(22, d * 8 * n)];
    let mut g = GraphBuilder::new("lstm");
    let x = g.input("x", &[Dim::Batch, Dim::Fixed(STEPS), Dim::Fixed(k)]);
    let x = g.transpose(x, &[1, 0, 2]);
    let w = g.initializer_f32("w", &[d, 4 * n, k], &weights[0]);
    let r = g.initializer_f32("r", &[d, 4 * n, n], &weights[1]);
    let b = g.initializer_f32("b", &[d, 8 * n], &weights[2]);
    let mut inputs = LstmInputs { x, w, r, b: Some(b), initial_h: None, initial_c: None, peepholes: None };
    if !p.is_empty() {
        inputs.peepholes = Some(g.initializer_f32("p", &[d, 3 * n], p));
    }
    if let Some((h0, c0)) = state {
        inputs.initial_h = Some(g.initializer_f32("h0", &[d, 1, n], h0));
        inputs.initial_c = Some(g.initializer_f32("c0", &[d, 1, n], c0));
    }
    let outputs = g.lstm_with(&inputs, n, direction);
    let y = g.transpose(outputs.y, &[2, 0, 1, 3]);
    let (y_h, y_c) = (g.transpose(outputs.y_h, &[1, 0, 2]), g.transpose(outputs.y_c, &[1, 0, 2]));
    g.output(y, "y", &[Dim::Batch, Dim::Fixed(STEPS), Dim::Fixed(d), Dim::Fixed(n)]);
    g.output(y_h, "y_h", &[Dim::Batch, Dim::Fixed(d), Dim::Fixed(n)]);
    g.output(y_c, "y_c", &[Dim::Batch, Dim::Fixed(d), Dim::Fixed(n)]);
    (g.finish().unwrap(), weights)
}

#[track_caller]
fn check_lstm(direction: Direction, p: &[f32], state: Option<(&[f32], &[f32])>, batches: &[usize]) {
    let (n, k) = (HIDDEN, FEATURES);
    let (bytes, [w, r, b]) = lstm_model(direction, p, state);
    let model = TractEngine.load(&Artifact::onnx(), &bytes).unwrap();
    let zeros = vec![0.0; 2 * n];
    let (h0, c0) = state.unwrap_or((&zeros, &zeros));
    // The same batch twice: no state may stay behind.
    for &batch in batches {
        let x = numbers(30 + batch as u64, batch * STEPS * k);
        let results = model.run(vec![tensor(&[batch, STEPS, k], x.clone())]).unwrap();
        let mut expected = [Vec::new(), Vec::new(), Vec::new()];
        for row in x.chunks(STEPS * k) {
            let mut steps = vec![Vec::new(); STEPS];
            for d in 0..direction.num_directions() {
                let scalar = Scalar {
                    w: &w[d * 4 * n * k..],
                    r: &r[d * 4 * n * n..],
                    b: &b[d * 8 * n..],
                    p: p.get(d * 3 * n..).unwrap_or_default(),
                    hidden: n,
                    features: k,
                };
                let (h, c) = scalar.run(row, &h0[d * n..][..n], &c0[d * n..][..n], d == 1);
                expected[1].extend(&h[if d == 1 { 0 } else { STEPS - 1 }]);
                expected[2].extend(c);
                steps.iter_mut().zip(h).for_each(|(all, h)| all.extend(h));
            }
            expected[0].extend(steps.concat());
        }
        for (result, expected) in results.iter().zip(&expected) {
            assert_close(result.data(), expected, TOLERANCE);
        }
    }
}

#[test]
fn lstm_forward_matches_the_formulas() {
    check_lstm(Direction::Forward, &[], None, &[1, 3, 3, 1]);
}

#[test]
fn lstm_bidirectional_matches_the_formulas() {
    check_lstm(Direction::Bidirectional, &[], None, &[1, 3, 3, 1]);
}

#[test]
fn lstm_peepholes_match_the_formulas() {
    check_lstm(Direction::Forward, &numbers(23, 3 * HIDDEN), None, &[1, 3]);
    check_lstm(Direction::Bidirectional, &numbers(23, 6 * HIDDEN), None, &[1, 3]);
}

#[test]
fn lstm_starts_from_a_given_state() {
    let (h, c) = (numbers(24, 2 * HIDDEN), numbers(25, 2 * HIDDEN));
    check_lstm(Direction::Bidirectional, &[], Some((&h, &c)), &[1]);
}

#[test]
fn nodes_without_a_method_can_be_written() {
    check_rows(
        &[4],
        &[4],
        |g, x| g.node("LeakyRelu", &[x], 1, &[("alpha", Attribute::Float(0.3))])[0],
        |x| x.iter().map(|&x| if x < 0.0 { 0.3 * x } else { x }).collect(),
    );
}

#[test]
fn inputs_and_constants_can_be_outputs() {
    let mut graph = GraphBuilder::new("identity");
    let x = graph.input("x", &[Dim::Batch, Dim::Fixed(2)]);
    let y = graph.relu(x);
    graph.output(x, "same", &[Dim::Batch, Dim::Fixed(2)]);
    graph.output(y, "y", &[Dim::Batch, Dim::Fixed(2)]);
    graph.output(y, "again", &[Dim::Batch, Dim::Fixed(2)]);
    let results = run(&graph.finish().unwrap(), vec![tensor(&[2, 2], vec![1.0, -1.0, 2.0, -2.0])]);
    assert_eq!(
        results.iter().map(Tensor::data).collect::<Vec<_>>(),
        [[1.0, -1.0, 2.0, -2.0], [1.0, 0.0, 2.0, 0.0], [1.0, 0.0, 2.0, 0.0]]
    );
}

#[test]
fn bytes_are_deterministic_and_described() {
    let build = || {
        let (bytes, _) = lstm_model(Direction::Forward, &[], None);
        bytes
    };
    assert_eq!(build(), build());
    let mut graph = GraphBuilder::new("g");
    let x = graph.input("x", &[Dim::Batch, Dim::Fixed(2)]);
    let w = graph.initializer_f32("w", &[2, 3], &[0.0; 6]);
    let y = graph.matmul(x, w);
    graph.output(y, "y", &[Dim::Batch, Dim::Fixed(3)]);
    graph.metadata("feature_set", "core");
    let info = inspect(&graph.finish().unwrap()).unwrap();
    assert_eq!((info.opset, info.ir_version, info.num_parameters), (17, 8, 6));
    assert_eq!(info.producer, format!("moola {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(info.inputs[0].shape, [None, Some(2)]);
    assert_eq!(info.outputs[0].name, "y");
    assert_eq!(info.ops.into_iter().collect::<Vec<_>>(), [("MatMul".to_owned(), 1)]);
    assert_eq!(info.metadata["feature_set"], "core");
}

#[test]
fn mistakes_come_out_of_finish() {
    let fails = |build: fn(&mut GraphBuilder)| {
        let mut graph = GraphBuilder::new("g");
        build(&mut graph);
        let error = graph.finish().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.to_string()
    };
    assert!(fails(|_| {}).contains("no output"));
    let short = fails(|g| {
        g.initializer_f32("w", &[2, 2], &[0.0]);
    });
    assert!(short.contains("`w`"), "{short}");
    let twice = fails(|g| {
        g.input("x", &[Dim::Batch]);
        g.input("x", &[Dim::Batch]);
    });
    assert!(twice.contains("`x`"), "{twice}");
    let foreign = fails(|g| {
        let mut other = GraphBuilder::new("other");
        let x = other.input("x", &[Dim::Batch]);
        g.relu(x);
    });
    assert!(foreign.contains("another graph"), "{foreign}");
}
