//! Runs single nodes of the IR.

use crate::ir::{DType, Data, Graph, Node, Op, Operand, ValueId};
use crate::testkit::{Running, compile_as_it_is};
use crate::{Options, Variant};

/// An operand of a node: the numbers of its value, the value's shape, whether it is a constant, and the view of it.
pub(super) struct Source {
    data: Data,
    shape: Vec<usize>,
    constant: bool,
    view: Box<dyn Fn(Operand) -> Operand>,
}

impl Source {
    /// All of a value that the caller writes.
    pub(super) fn whole(data: Data, shape: &[usize]) -> Self {
        Self::view(data, shape, |operand| operand)
    }

    /// A view of a value that the caller writes.
    pub(super) fn view(data: Data, shape: &[usize], view: impl Fn(Operand) -> Operand + 'static) -> Self {
        Self { data, shape: shape.to_vec(), constant: false, view: Box::new(view) }
    }

    /// As a constant.
    pub(super) fn constant(self) -> Self {
        Self { constant: true, ..self }
    }
}

/// A graph of one node, and the numbers of its inputs.
pub(super) struct Case {
    pub(super) graph: Graph,
    inputs: Vec<Data>,
}

impl Case {
    pub(super) fn new(op: Op, sources: Vec<Source>, dtype: DType, shape: &[usize]) -> Self {
        let mut graph = Graph::default();
        let mut inputs = Vec::new();
        let mut operands = Vec::new();
        for (index, source) in sources.into_iter().enumerate() {
            let name = format!("x{index}");
            let id = if source.constant {
                graph.add_constant(name, &source.shape, source.data).expect("a constant")
            } else {
                let id = graph.add_value(name, source.data.dtype(), &source.shape).expect("a value");
                graph.inputs.push(id);
                inputs.push(source.data);
                id
            };
            operands.push((source.view)(graph.whole(id)));
        }
        let output: ValueId = graph.add_value("y", dtype, shape).expect("a value");
        graph.nodes.push(Node { name: "node".into(), op, inputs: operands, outputs: vec![Some(output)] });
        graph.outputs.push(("y".into(), output));
        Self { graph, inputs }
    }

    /// What the module gives, and its status.
    pub(super) fn try_run(&self, variant: Variant) -> (i32, Data) {
        let wasm = compile_as_it_is(&self.graph, &Options { variant, ..Options::default() });
        let (status, mut outputs) = Running::new(&wasm).try_run(1, &self.inputs);
        (status, outputs.remove(0))
    }

    /// What the module gives.
    pub(super) fn run(&self, variant: Variant) -> Data {
        let (status, data) = self.try_run(variant);
        assert_eq!(status, 0);
        data
    }

    /// Asserts that the module gives what direct evaluation does: floats within `tolerance` of the largest of them, everything else
    /// exactly, in both variants.
    pub(super) fn check(&self, tolerance: f32, what: &str) {
        let expected = crate::eval::graph(&self.graph, &self.inputs).remove(0);
        for variant in [Variant::Simd128, Variant::RelaxedSimd] {
            let actual = self.run(variant);
            if let (Data::F32(actual), Data::F32(expected), true) = (&actual, &expected, tolerance > 0.0) {
                let scale = expected.iter().filter(|x| x.is_finite()).fold(1e-30f32, |scale, x| scale.max(x.abs()));
                assert_eq!(actual.len(), expected.len(), "{what}");
                for (index, (a, e)) in actual.iter().zip(expected).enumerate() {
                    let close = (a - e).abs() <= tolerance * scale || a == e;
                    assert!(close, "{what}: number {index} is {a}, expected {e} (scale {scale})");
                }
            } else {
                assert_eq!(actual, expected, "{what}");
            }
        }
    }
}

/// The numbers of a float tensor.
pub(super) fn floats(data: &Data) -> &[f32] {
    match data {
        Data::F32(data) => data,
        other => panic!("{other:?}"),
    }
}

/// Numbers from -2 to 2 that repeat late.
pub(super) fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + 11) % 401) as f32 / 100.0 - 2.0).collect()
}

/// Operands of a shape that lie in memory in many ways; `data` makes numbers of a value.
pub(super) fn layouts(shape: &[usize], data: impl Fn(usize) -> Data) -> Vec<(&'static str, Source)> {
    let count = |shape: &[usize]| shape.iter().product::<usize>();
    let whole = || Source::whole(data(count(shape)), shape);
    let mut layouts = vec![("whole", whole()), ("constant", whole().constant())];
    let Some(last) = shape.len().checked_sub(1) else { return layouts };
    let size = shape[last];
    let backwards: Vec<usize> = (0..shape.len()).rev().collect();
    let transposed: Vec<usize> = shape.iter().rev().copied().collect();
    let view = move |x: Operand| x.transposed(&backwards);
    layouts.push(("transposed", Source::view(data(count(shape)), &transposed, view)));
    if size > 0 {
        let reverse = move |x: Operand| x.sliced(last, size - 1, -1, size);
        layouts.push(("reversed", Source::view(data(count(shape)), shape, reverse)));
        let wide: Vec<usize> = [&shape[..last], &[2 * size + 1]].concat();
        let every_second = move |x: Operand| x.sliced(last, 1, 2, size);
        layouts.push(("every second", Source::view(data(count(&wide)), &wide, every_second).constant()));
        let part = move |x: Operand| x.sliced(last, size, 1, size);
        layouts.push(("a part", Source::view(data(count(&wide)), &wide, part)));
    }
    if last > 0 {
        let (swapped, wanted) = ([&shape[..last - 1], &[size, shape[last - 1]]].concat(), shape.to_vec());
        let swap: Vec<usize> = (0..last - 1).chain([last, last - 1]).collect();
        layouts.push(("swapped", Source::view(data(count(&swapped)), &swapped, move |x| x.transposed(&swap))));
        let one = [&[1], &shape[1..]].concat();
        let repeat = move |x: Operand| x.broadcast(&wanted).expect("broadcasts");
        layouts.push(("repeated", Source::view(data(count(&one)), &one, repeat)));
    }
    layouts
}
