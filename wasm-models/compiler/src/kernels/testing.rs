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
