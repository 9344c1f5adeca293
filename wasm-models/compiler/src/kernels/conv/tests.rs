//! Against sums in double precision, over paddings, dilations, strides, groups and layouts.

use proptest::prelude::*;

use super::{Geometry, Segment};
use crate::ir::{Data, Graph, Op, Packing};
use crate::kernels::matmul::tests::{Lie, check, epilogue, expression, operand, output, view};

/// A convolution: batch, length, channels in per group, channels out per group, groups, taps.
#[derive(Debug, Clone, Copy)]
struct Case {
    batch: usize,
    length: usize,
    inputs: usize,
    outputs: usize,
    groups: usize,
    taps: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
    x: Lie,
    w: Lie,
    is_constant: bool,
    extras: usize,
}

const PLAIN: Case = Case {
    batch: 2,
    length: 13,
    inputs: 5,
    outputs: 9,
    groups: 1,
    taps: 3,
    stride: 1,
    dilation: 1,
    before: 0,
    after: 0,
    x: Lie::Whole,
    w: Lie::Whole,
    is_constant: true,
    extras: 1,
};

fn build(case: &Case) -> Option<(Graph, Vec<Data>)> {
    let span = (case.taps - 1) * case.dilation + 1;
    let positions = (case.length + case.before + case.after).checked_sub(span)? / case.stride + 1;
    let (mut graph, mut inputs) = (Graph::default(), Vec::new());
    let (channels, outputs) = (case.groups * case.inputs, case.groups * case.outputs);
    let x = operand(&mut graph, &mut inputs, &[case.batch, case.length, channels], case.x, false);
    let w = operand(&mut graph, &mut inputs, &[case.taps, case.inputs, outputs], case.w, case.is_constant);
    let shape = [case.batch, positions, outputs];
    let mut operands = vec![x, w];
    for _ in 0..case.extras {
        operands.push(operand(&mut graph, &mut inputs, &shape, Lie::Repeated, case.is_constant));
    }
    let Case { stride, dilation, before, groups, .. } = *case;
    let op = Op::Conv { stride, dilation, before, groups, epilogue: epilogue(case.extras), packing: Packing::None };
    output(&mut graph, op, operands, &shape);
    Some((graph, inputs))
}

fn convolution(graph: &Graph, inputs: &[Data], case: &Case) -> Vec<f32> {
    let node = &graph.nodes[0];
    let Op::Conv { epilogue, .. } = &node.op else { panic!("a convolution") };
    let numbers: Vec<Vec<f32>> = node.inputs.iter().map(|input| view(graph, inputs, input)).collect();
    let shape = &graph.value(graph.outputs[0].1).shape;
    let (positions, outputs, channels) = (shape[1], shape[2], case.groups * case.inputs);
    let at = |place: usize| {
        let (batch, position, column) = (place / (positions * outputs), place / outputs % positions, place % outputs);
        let mut sum = 0.0;
        for tap in 0..case.taps {
            let Some(t) = (position * case.stride + tap * case.dilation).checked_sub(case.before) else { continue };
            for i in 0..if t < case.length { case.inputs } else { 0 } {
                let channel = column / case.outputs * case.inputs + i;
                let x = numbers[0][(batch * case.length + t) * channels + channel];
                sum += f64::from(x) * f64::from(numbers[1][(tap * case.inputs + i) * outputs + column]);
            }
        }
        expression(epilogue, sum, &|index| f64::from(numbers[index][place])) as f32
    };
    (0..shape.iter().product()).map(at).collect()
}

fn run(case: Case) {
    let Some((graph, inputs)) = build(&case) else { return };
    check(&graph, &inputs, &convolution(&graph, &inputs, &case));
}

#[test]
fn paddings_dilations_and_strides() {
    for taps in [1, 2, 3, 7] {
        for (before, after) in [(0, 0), (1, 1), (6, 0), (0, 4), (15, 15)] {
            for (dilation, stride) in [(1, 1), (2, 1), (4, 1), (1, 2), (3, 2)] {
                run(Case { taps, before, after, dilation, stride, ..PLAIN });
            }
        }
    }
}

#[test]
fn channels_and_groups() {
    for (inputs, outputs, groups) in [
        (1, 1, 1),
        (1, 8, 1),
        (4, 3, 1),
        (16, 33, 1),
        (3, 4, 2),
        (2, 5, 3),
        (1, 1, 5),
        (1, 1, 8),
        (1, 1, 17),
        (1, 2, 4),
        (8, 1, 2),
    ] {
        for (before, after) in [(0, 0), (2, 2), (8, 0)] {
            for is_constant in [true, false] {
                run(Case { inputs, outputs, groups, before, after, dilation: 2, is_constant, ..PLAIN });
            }
        }
    }
}

#[test]
fn layouts_of_input_and_weights() {
    for x in [Lie::Transposed, Lie::Sparse, Lie::Backwards, Lie::LastBackwards, Lie::Repeated] {
        for w in [Lie::Whole, Lie::Transposed, Lie::Backwards, Lie::Sparse] {
            for (before, groups, is_constant) in [(2, 1, true), (8, 1, false), (0, 3, false), (2, 3, true)] {
                run(Case { x, w, before, groups, is_constant, inputs: 2, outputs: 4, taps: 4, ..PLAIN });
            }
        }
    }
}

#[test]
fn one_position_of_a_batch() {
    for batch in [1, 3, 4, 5] {
        run(Case { batch, length: 9, taps: 3, dilation: 4, ..PLAIN });
        run(Case { batch, length: 1, taps: 3, before: 2, ..PLAIN });
    }
}

#[test]
fn a_causal_convolution_has_a_segment_per_tap() {
    let geometry = Geometry { stride: 1, dilation: 4, before: 8, groups: 1, taps: 3, length: 20, positions: 20 };
    let segment = |start, len, first_tap, taps| Segment { start, len, first_tap, taps };
    let expected = vec![segment(0, 4, 2, 1), segment(4, 4, 1, 2), segment(8, 12, 0, 3)];
    assert_eq!(geometry.segments(), Some(expected));
    assert_eq!(Geometry { taps: 7, dilation: 2, before: 12, ..geometry }.segments(), None);
}

#[test]
fn segments_of_any_geometry_are_those_of_each_position() {
    let mut checked = 0;
    for (taps, length, dilation, stride) in
        (0..4).flat_map(|t| (0..7).flat_map(move |l| (1..5).flat_map(move |d| (1..4).map(move |s| (t, l, d, s)))))
    {
        for (before, positions) in [(0, 9), (1, 4), (5, 20), (12, 30)] {
            let geometry = Geometry { stride, dilation, before, groups: 1, taps, length, positions };
            let Some(segments) = geometry.segments() else { continue };
            let mut next = 0;
            for Segment { start, len, first_tap, taps: count } in segments {
                assert_eq!(start, next);
                next += len;
                for position in start..next {
                    let inside =
                        |tap: &usize| (before..before + length).contains(&(position * stride + tap * dilation));
                    let expected: Vec<usize> = (0..taps).filter(inside).collect();
                    let actual = if count == 0 { vec![] } else { (first_tap..first_tap + count).collect() };
                    assert_eq!(actual, expected, "{geometry:?} at {position}");
                    checked += 1;
                }
            }
            assert_eq!(next, positions);
        }
    }
    assert!(checked > 5000, "{checked}");
}

#[test]
fn a_long_input_has_few_segments() {
    let length = 1 << 50;
    let geometry = Geometry { stride: 1, dilation: 3, before: 3, groups: 1, taps: 2, length, positions: length };
    let segment = |start, len, first_tap, taps| Segment { start, len, first_tap, taps };
    assert_eq!(geometry.segments(), Some(vec![segment(0, 3, 1, 1), segment(3, length - 3, 0, 2)]));
}

#[test]
fn vectors_may_be_read_behind_the_copy() {
    let case = Case { taps: 7, dilation: 2, before: 12, ..PLAIN };
    let (graph, _) = build(&case).expect("it fits");
    let bytes = super::scratch_bytes(&graph, &graph.nodes[0], Packing::Panels { width: 4 });
    assert_eq!(bytes, 4 * case.batch * (case.length + 12) * case.inputs + crate::kernels::SLACK);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_convolution(
        (batch, length, taps) in (1usize..4, 1usize..24, 1usize..6),
        (inputs, outputs, groups) in (1usize..6, 1usize..12, 1usize..4),
        (stride, dilation, before, after) in (1usize..4, 1usize..5, 0usize..12, 0usize..12),
        (is_constant, extras) in (any::<bool>(), 0usize..3),
        x in proptest::sample::select(&[Lie::Whole, Lie::Transposed, Lie::Backwards][..]),
    ) {
        run(Case {
            batch, length, inputs, outputs, groups, taps, stride, dilation, before, after, x, is_constant, extras, w: Lie::Whole,
        });
    }
}
