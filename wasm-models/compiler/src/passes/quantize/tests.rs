use crate::ir::{DType, Data, Expr, Graph, Node, Op, Packing, Unary};
use crate::kernels::matmul::tests::{epilogue, numbers};
use crate::testkit::{Running, assert_close, compile_graph};
use crate::{Options, Variant};

/// `relu(x w)` with `w` constant.
fn layer(m: usize, k: usize, n: usize, weights: &[f32]) -> Graph {
    let mut graph = Graph::default();
    let x = graph.add_value("x", DType::F32, &[m, k]).expect("a value");
    graph.inputs.push(x);
    let w = graph.add_constant("w", &[k, n], Data::F32(weights.to_vec())).expect("a constant");
    let y = graph.add_value("y", DType::F32, &[m, n]).expect("a value");
    let op = Op::MatMul { epilogue: Expr::unary(Unary::Relu, epilogue(0)), packing: Packing::None };
    let inputs = vec![graph.whole(x), graph.whole(w)];
    graph.nodes.push(Node { name: "node".into(), op, inputs, outputs: vec![Some(y)] });
    graph.outputs.push(("y".into(), y));
    graph
}

fn run(graph: &Graph, options: &Options, x: &[f32]) -> (usize, Vec<f32>) {
    let wasm = compile_graph(graph, options);
    match &Running::new(&wasm).run(1, &[Data::F32(x.to_vec())])[0] {
        Data::F32(y) => (wasm.len(), y.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sum_is_off_by_half_a_scale_times_the_sum_of_inputs_at_most() {
    for (m, k, n) in [(1, 64, 33), (4, 37, 8), (5, 130, 3), (3, 64, 256)] {
        let weights: Vec<f32> = numbers(3, k * n).iter().enumerate().map(|(i, w)| w * (1 + i % n) as f32).collect();
        let x = numbers(4, m * k);
        let graph = layer(m, k, n, &weights);
        for variant in [Variant::Simd128, Variant::RelaxedSimd] {
            let int8 = Options { int8_weights: true, variant, ..Options::default() };
            let (_, exact) = run(&graph, &Options::default(), &x);
            let (_, rounded) = run(&graph, &int8, &x);
            assert_ne!(exact, rounded);
            for (place, (a, b)) in exact.iter().zip(&rounded).enumerate() {
                let (row, column) = (place / n, place % n);
                let largest = (0..k).map(|i| weights[i * n + column].abs()).fold(0.0, f32::max);
                let bound = largest / 127.0 / 2.0 * x[row * k..][..k].iter().map(|x| x.abs()).sum::<f32>();
                assert!((a - b).abs() <= bound * 1.001 + 1e-5, "{a} and {b} differ by more than {bound}");
            }
        }
    }
}

#[test]
fn whole_numbers_up_to_127_stay_exact_and_take_a_quarter() {
    let (m, k, n) = (4, 256, 256);
    let weights: Vec<f32> = (0..k * n).map(|i| if i < n { 127.0 } else { (i * 31 % 255) as f32 - 127.0 }).collect();
    let x = numbers(5, m * k);
    let graph = layer(m, k, n, &weights);
    let (size, exact) = run(&graph, &Options::default(), &x);
    let (small, rounded) = run(&graph, &Options { int8_weights: true, ..Options::default() }, &x);
    assert_close(&rounded, &exact, 1e-6);
    assert!(small < k * n + 4 * n + 8192 && size > 4 * k * n, "{small} and {size} bytes");
}

#[test]
fn small_zero_and_infinite_weights() {
    // Too small to gain, so exact.
    let x = numbers(6, 15);
    let graph = layer(1, 15, 17, &numbers(7, 15 * 17));
    let int8 = Options { int8_weights: true, ..Options::default() };
    assert_eq!(run(&graph, &int8, &x).1, run(&graph, &Options::default(), &x).1);
    let graph = layer(1, 15, 20, &[0.0; 300]);
    assert_eq!(run(&graph, &int8, &x).1, [0.0; 20]);
    let mut weights = numbers(8, 300);
    weights[7] = f32::INFINITY;
    let mut graph = layer(1, 15, 20, &weights);
    super::run(&mut graph).expect("passes");
    assert_eq!(graph.nodes[0].inputs.len(), 2);
}
