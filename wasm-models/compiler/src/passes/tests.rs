use super::testing::{Net, numbers, recurrent};
use super::*;
use crate::ir::Data;
use crate::testkit::{Running, compile_as_it_is};

/// The bits that a compiled graph answers with after all passes but those that are skipped.
fn bits(graph: &Graph, skipped: &str) -> Vec<Vec<u8>> {
    let passed = run_some(graph.clone(), |pass| pass != "quantize" && pass != skipped, |_, _| {}).expect("the passes");
    let wasm = compile_as_it_is(&passed, &Options::default());
    let inputs = graph.inputs.iter().enumerate();
    let inputs: Vec<_> = inputs.map(|(seed, id)| Data::F32(numbers(graph.value(*id).len(), seed))).collect();
    Running::new(&wasm).run(1, &inputs).iter().map(Data::to_bytes).collect()
}

/// A dense network of both directions of a recurrent layer, read at the last step.
fn layers(steps: usize, batch: usize, hidden: usize) -> Graph {
    let mut net = Net::default();
    let x = net.input(&[steps, batch, hidden]);
    let [forward, backward] = [false, true].map(|reverse| recurrent(&mut net, &x, hidden, reverse)[0].clone());
    let sum = net.add(&forward, &backward);
    let (w, b) = (net.weights(&[hidden, 7]), net.weights(&[7]));
    let y = net.matmul(&sum, &w);
    let y = net.add(&y, &b);
    net.outputs(&[&y.sliced(0, steps - 1, 1, 1).squeezed(0)])
}

#[test]
fn what_demand_pruning_leaves_answers_with_the_same_bits() {
    for graph in [layers(9, 2, 5), layers(7, 4, 16)] {
        assert_eq!(bits(&graph, "demand"), bits(&graph, ""), "{}", dump::text(&graph));
    }
}
