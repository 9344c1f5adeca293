//! Speed of products and convolutions under the settings of the host: `cargo test --release -- --ignored --nocapture kernels::bench`.

use std::time::Instant;

use wasmtime::{Config, Engine, Instance, Module, Store};

use super::matmul::tests::{Lie, operand};
use crate::Options;
use crate::ir::{DType, Expr, Graph, Node, Op, Operand, Packing};
use crate::testkit::compile_graph;

/// Nodes of a module: calling it costs nothing beside them.
const REPEAT: usize = 16;

/// Multiplications of a node, and its graph.
type Case = (String, usize, Graph);

fn repeat(name: &str, terms: usize, mut graph: Graph, op: &Op, inputs: &[Operand], shape: &[usize]) -> Case {
    for turn in 0..REPEAT {
        let id = graph.add_value(format!("y{turn}"), DType::F32, shape).expect("a value");
        graph.nodes.push(Node {
            name: "node".into(),
            op: op.clone(),
            inputs: inputs.to_vec(),
            outputs: vec![Some(id)],
        });
        graph.outputs = vec![("y".into(), id)];
    }
    (name.to_owned(), shape.iter().product::<usize>() * terms, graph)
}

fn product() -> Op {
    Op::MatMul { epilogue: Expr::Result, packing: Packing::None }
}

/// `[m, k]` by constant `[k, n]`.
fn dense(m: usize, k: usize, n: usize) -> Case {
    let mut graph = Graph::default();
    let a = operand(&mut graph, &mut Vec::new(), &[m, k], Lie::Whole, false);
    let b = operand(&mut graph, &mut Vec::new(), &[k, n], Lie::Whole, true);
    repeat(&format!("[{m} x {k}] x [{k} x {n}]"), k, graph, &product(), &[a, b], &[m, n])
}

/// Attention with heads in the last axis: scores, or the mix of values.
fn attention(rows: usize, steps: usize, heads: usize, size: usize, scores: bool) -> Case {
    let mut graph = Graph::default();
    let model = heads * size;
    let split = |operand: Operand, steps: usize| {
        operand.reshaped(&[1, steps, heads, size]).expect("a view").transposed(&[0, 2, 1, 3])
    };
    let wide = operand(&mut graph, &mut Vec::new(), &[steps, model], Lie::Whole, false);
    let wide = split(wide, steps);
    if scores {
        let q = operand(&mut graph, &mut Vec::new(), &[rows, model], Lie::Whole, false);
        let inputs = [split(q, rows), wide.transposed(&[0, 1, 3, 2])];
        repeat(
            &format!("{heads} heads Q K {rows}x{size}x{steps}"),
            size,
            graph,
            &product(),
            &inputs,
            &[1, heads, rows, steps],
        )
    } else {
        let p = operand(&mut graph, &mut Vec::new(), &[1, heads, rows, steps], Lie::Whole, false);
        repeat(
            &format!("{heads} heads P V {rows}x{steps}x{size}"),
            steps,
            graph,
            &product(),
            &[p, wide],
            &[1, heads, rows, size],
        )
    }
}

fn convolution(length: usize, channels: usize, outputs: usize, dilation: usize) -> Case {
    let mut graph = Graph::default();
    let x = operand(&mut graph, &mut Vec::new(), &[1, length, channels], Lie::Whole, false);
    let w = operand(&mut graph, &mut Vec::new(), &[3, channels, outputs], Lie::Whole, true);
    let (stride, before, groups, epilogue) = (1, 2 * dilation, 1, Expr::Result);
    let op = Op::Conv { stride, dilation, before, groups, epilogue, packing: Packing::None };
    let name = format!("conv {length} x {channels} x {outputs}, 3 taps, dilation {dilation}");
    // What is multiplied: positions before `tap * dilation` have fewer taps.
    let terms = channels * (3 * length - 3 * dilation) / length;
    repeat(&name, terms, graph, &op, &[x, w], &[1, length, outputs])
}

/// Nanoseconds of a node (median and least of some hundred), and bytes of its code.
fn measure(graph: &Graph, options: &Options) -> (f64, f64, usize) {
    let wasm = compile_graph(graph, options);
    let weights: usize =
        graph.values.iter().filter_map(|value| value.data.as_ref()).map(|data| data.to_bytes().len()).sum();
    let mut config = Config::new();
    config.wasm_relaxed_simd(true).relaxed_simd_deterministic(false).epoch_interruption(true);
    let engine = Engine::new(&config).expect("an engine");
    let module = Module::new(&engine, &wasm).expect("a module");
    let mut store = Store::new(&engine, ());
    store.set_epoch_deadline(1 << 40);
    let instance = Instance::new(&mut store, &module, &[]).expect("an instance");
    let run = instance.get_typed_func::<i32, i32>(&mut store, "run").expect("run");
    let mut times = Vec::new();
    for _ in 0..400 {
        let start = Instant::now();
        assert_eq!(run.call(&mut store, 1).expect("runs"), 0);
        times.push(start.elapsed().as_nanos() as f64 / REPEAT as f64);
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[0], wasm.len().saturating_sub(weights) / REPEAT)
}

#[test]
#[ignore = "measures"]
fn speed() {
    let cases = [
        dense(1, 64, 256),
        dense(4, 64, 256),
        dense(105, 32, 32),
        dense(105, 64, 256),
        dense(420, 64, 64),
        dense(1, 64, 3),
        attention(105, 105, 4, 16, true),
        attention(105, 105, 4, 16, false),
        attention(1, 105, 4, 16, true),
        attention(1, 105, 4, 16, false),
        convolution(105, 64, 64, 4),
        convolution(105, 32, 32, 1),
        convolution(105, 4, 32, 1),
    ];
    let int8 = Options { int8_weights: true, ..Options::default() };
    let relaxed = Options { variant: crate::Variant::RelaxedSimd, ..Options::default() };
    for (kind, options) in [("simd128", Options::default()), ("relaxed", relaxed), ("int8", int8)] {
        for (name, products, graph) in &cases {
            let (median, least, bytes) = measure(graph, &options);
            let speed = |time: f64| 2.0 * *products as f64 / time;
            println!(
                "{kind:8} {name:40} {median:9.0} ns, least {least:9.0}: {:5.1} and {:5.1} GFLOP/s, {bytes} bytes",
                speed(median),
                speed(least)
            );
        }
    }
}
