use proptest::prelude::*;

use super::super::dump::text;
use super::super::testing::{Net, assert_same, both_directions, convolutions, multiply_adds, recurrent, transformer};
use super::*;
use crate::ir::{DType, Expr, Packing, Reduction, Scalar, Unary};

fn pruned(mut before: Graph) -> (Graph, Graph) {
    simplify::run(&mut before).expect("simplifies");
    let mut after = before.clone();
    run(&mut after).expect("prunes");
    assert_same(&before, &after);
    (before, after)
}

#[test]
fn progressions_join_and_meet() {
    let run = |start, step, count| Run { start, step, count };
    assert_eq!(run(3, 4, 3).union(run(5, 1, 1)), run(3, 2, 5));
    assert_eq!(run(7, 5, 1).union(run(7, 9, 1)), run(7, 1, 1));
    assert_eq!(run(1, 3, 4).inside(2, 6), Some((1, run(2, 3, 2))));
    assert_eq!(run(1, 3, 4).inside(5, 2), None);
    assert_eq!(run(0, 1, 4).inside(4, 2), None);
}

#[test]
fn dilated_convolutions_compute_what_the_last_step_sees() {
    let (before, after) = pruned(convolutions(2, 105, 4));
    let product = 2 * 2 * 4 * 4;
    assert_eq!(multiply_adds(&before), 5 * 105 * product);
    // 16, 8, 4, 2 and 1 steps: a residual needs no other than the convolution that it goes around.
    assert_eq!(multiply_adds(&after), 31 * product, "{}", text(&after));
}

#[test]
fn a_transformer_keeps_keys_and_values_of_all_positions() {
    let (rows, tokens, heads, size) = (2, 7, 2, 4);
    let width = heads * size;
    let (before, after) = pruned(transformer(rows, tokens, heads, size));
    let dense = width * width;
    let layer = |queries: usize| rows * (2 * tokens * dense + 2 * queries * tokens * width + queries * 10 * dense);
    assert_eq!(multiply_adds(&before), 2 * layer(tokens));
    assert_eq!(multiply_adds(&after), layer(tokens) + layer(1), "{}", text(&after));
}

#[test]
fn a_layer_read_at_the_last_step_runs_backwards_for_one() {
    let (steps, batch, hidden) = (9, 2, 3);
    let (before, after) = pruned(both_directions(steps, batch, hidden));
    assert_eq!(multiply_adds(&before), 2 * steps * batch * hidden * hidden);
    assert_eq!(multiply_adds(&after), (steps + 1) * batch * hidden * hidden, "{}", text(&after));
    // All states of neither direction are stored.
    let layers = after.nodes.iter().filter(|node| matches!(node.op, Op::Recurrent { .. }));
    assert!(layers.clone().all(|node| node.outputs[0].is_none() && node.outputs[1].is_some()), "{}", text(&after));
    assert_eq!(layers.count(), 2);
}

#[test]
fn a_product_is_split_where_its_columns_are_needed_at_different_positions() {
    let mut net = Net::default();
    let x = net.input(&[2, 6, 4]);
    let (w, b) = (net.weights(&[4, 12]), net.weights(&[12]));
    let y = net.matmul(&x, &w);
    let y = net.add(&y, &b);
    let [q, k, v] = [0, 4, 8].map(|start| y.sliced(2, start, 1, 4));
    let scores = net.matmul(&q, &k.transposed(&[0, 2, 1]));
    let y = net.matmul(&scores, &v);
    let y = net.copy(&y.sliced(1, 5, 1, 1));
    let (_, after) = pruned(net.outputs(&[&y]));
    let projection = 2 * (6 * 4 * 8 + 4 * 4);
    assert_eq!(multiply_adds(&after), projection + 2 * 2 * 6 * 4, "{}", text(&after));
    // Keys and values are joined again.
    let mut after = after;
    super::super::fuse::run(&mut after).expect("fuses");
    let products = after.nodes.iter().filter(|node| matches!(node.op, Op::MatMul { .. })).count();
    assert_eq!(products, 4, "{}", text(&after));
}

#[test]
fn a_layer_runs_up_to_the_last_step_that_is_read() {
    for (reverse, expected) in [(false, 6), (true, 7)] {
        let mut net = Net::default();
        let (steps, batch, hidden) = (9, 2, 3);
        let x = net.input(&[steps, batch, hidden]);
        let [all, _] = recurrent(&mut net, &x, hidden, reverse);
        let y = net.unary(Unary::Neg, &all.sliced(0, 2, 3, 2));
        let (_, after) = pruned(net.outputs(&[&y]));
        assert_eq!(multiply_adds(&after), expected * batch * hidden * hidden);
    }
    // The last state needs all steps, and takes the place of the state of the last step.
    let mut net = Net::default();
    let x = net.input(&[9, 2, 3]);
    let [all, last] = recurrent(&mut net, &x, 3, false);
    let y = net.add(&all.sliced(0, 8, 1, 1).squeezed(0), &last);
    let (_, after) = pruned(net.outputs(&[&y]));
    assert_eq!(multiply_adds(&after), 9 * 2 * 9);
    assert_eq!(after.nodes[0].outputs[0], None);
}

#[test]
fn strides_and_padding_are_rescaled() {
    let mut net = Net::default();
    let x = net.input(&[1, 20, 2]);
    let x = net.unary(Unary::Exp, &x);
    let w = net.weights(&[3, 2, 4]);
    let op = Op::Conv { stride: 1, dilation: 4, before: 8, groups: 1, epilogue: Expr::Result, packing: Packing::None };
    let y = net.node(op, &[&x, &w], DType::F32, &[1, 20, 4]);
    let y = net.copy(&y.sliced(1, 3, 8, 3));
    let (_, after) = pruned(net.outputs(&[&y]));
    let shown = text(&after);
    assert!(shown.contains("conv(a, b; stride 2, before 2)"), "{shown}");
    assert!(shown.contains("[1, 5, 2] = exp(a) | a = %0 as [1, 5, 2] from 6 by [40, 8, 1]"), "{shown}");
}

#[test]
fn joins_and_padding_drop_what_nobody_reads() {
    let mut net = Net::default();
    let (x, z) = (net.input(&[2, 3]), net.input(&[2, 5]));
    let (x, z) = (net.unary(Unary::Exp, &x), net.unary(Unary::Sin, &z));
    let y = net.node(Op::Concat { axis: 1 }, &[&x, &z], DType::F32, &[2, 8]);
    let y = net.node(Op::Pad { before: vec![1, 2], fill: Scalar::F32(0.5) }, &[&y], DType::F32, &[4, 12]);
    let y = net.copy(&y.sliced(1, 7, 1, 5));
    let (_, after) = pruned(net.outputs(&[&y]));
    assert!(!text(&after).contains("exp") && !text(&after).contains("concat"), "{}", text(&after));
    assert!(text(&after).contains("sin(a) | a = %1 as [2, 3] from 2"), "{}", text(&after));
}

/// A random step that makes a value of another, or of two.
#[derive(Debug, Clone)]
struct Step {
    kind: usize,
    from: prop::sample::Index,
    other: prop::sample::Index,
    a: prop::sample::Index,
    b: prop::sample::Index,
    flag: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = (0usize..17, index(), index(), index(), index(), any::<bool>());
    let step = step.prop_map(|(kind, from, other, a, b, flag)| Step { kind, from, other, a, b, flag });
    prop::collection::vec(step, 1..16)
}

/// A graph of these steps, whose outputs are slices.
fn random_graph(steps: &[Step]) -> Graph {
    let mut net = Net::default();
    let mut known = vec![net.input(&[2, 5, 4]), net.input(&[2, 5, 4])];
    for step in steps {
        // Later ones are likelier: deep graphs.
        let at = known.len() - 1 - step.from.index(known.len().min(3));
        let x = known[at].clone();
        let rank = x.rank();
        if x.len() > 2000 {
            continue;
        }
        let y = match step.kind {
            0 => net.unary([Unary::Tanh, Unary::Relu, Unary::Neg][step.a.index(3)], &x),
            1 | 2 => {
                let same: Vec<_> = known.iter().filter(|other| other.shape == x.shape).cloned().collect();
                net.add(&x, &same[step.other.index(same.len())])
            }
            3 if rank > 0 => {
                let w = net.weights(&[x.shape[rank - 1]]);
                net.binary(crate::ir::Binary::Mul, &x, &w)
            }
            4 if rank > 1 => {
                let mut order: Vec<usize> = (0..rank).collect();
                order.swap(step.a.index(rank), step.b.index(rank));
                x.transposed(&order)
            }
            5 if rank > 1 => {
                let (axis, mut shape) = (step.a.index(rank - 1), x.shape.clone());
                shape[axis] *= shape.remove(axis + 1);
                x.reshaped(&shape).unwrap_or_else(|| net.copy(&x).reshaped(&shape).expect("contiguous"))
            }
            6 | 7 if rank > 0 => {
                let axis = step.a.index(rank);
                let start = step.b.index(x.shape[axis]);
                let (by, count) = if step.flag { (-1, start + 1) } else { (2, (x.shape[axis] - start).div_ceil(2)) };
                x.sliced(axis, start, by, count)
            }
            8 | 9 if rank >= 2 => {
                let w = net.weights(&[x.shape[rank - 1], 3 + step.a.index(3)]);
                net.matmul(&x, &w)
            }
            10 if rank == 3 => {
                let order = [0, 2, 1];
                net.matmul(&x, &x.transposed(&order))
            }
            11 | 12 if rank == 3 => {
                let w = net.weights(&[2, x.shape[2], 3]);
                net.causal(&x, &w, 1 + step.a.index(3))
            }
            13 if rank > 0 => {
                if step.flag {
                    net.softmax(&x)
                } else {
                    net.normalize(&x)
                }
            }
            14 if rank > 1 => net.reduce(Reduction::Sum, &x, 1),
            15 if rank > 0 => {
                let axis = step.a.index(rank);
                let mut shape = x.shape.clone();
                shape[axis] *= 2;
                let z = net.unary(Unary::Abs, &x);
                net.node(Op::Concat { axis }, &[&x, &z], DType::F32, &shape)
            }
            16 if rank > 0 => {
                let mut before = vec![0; rank];
                let (axis, mut shape) = (step.a.index(rank), x.shape.clone());
                before[axis] = step.b.index(3);
                shape[axis] += 2;
                net.node(Op::Pad { before, fill: Scalar::F32(0.25) }, &[&x], DType::F32, &shape)
            }
            _ => continue,
        };
        known.push(y);
    }
    let last = known[known.len() - 1].clone();
    let mut outputs = vec![last.clone()];
    if last.rank() > 0 {
        outputs[0] = last.sliced(0, last.shape[0] - 1, 1, 1);
    }
    if known.len() > 4 {
        outputs.push(known[known.len() - 3].clone());
    }
    net.outputs(&outputs.iter().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_graphs_keep_their_bits(steps in steps()) {
        let mut before = random_graph(&steps);
        let imported = before.clone();
        simplify::run(&mut before).expect("simplifies");
        assert_same(&imported, &before);
        let mut after = before.clone();
        run(&mut after).expect("prunes");
        assert_same(&before, &after);
        prop_assert!(multiply_adds(&after) <= multiply_adds(&before));
    }

    #[test]
    fn random_graphs_keep_their_numbers_through_all_passes(steps in steps()) {
        let before = random_graph(&steps);
        let mut after = before.clone();
        for pass in [simplify::run, run, super::super::fuse::run, super::super::layout::run] {
            pass(&mut after).expect("the pass");
            super::super::testing::assert_close(&before, &after);
        }
    }
}
