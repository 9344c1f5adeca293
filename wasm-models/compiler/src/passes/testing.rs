//! For tests of passes: builds graphs, runs them with `eval`, counts.

use crate::eval;
use crate::ir::{self, Binary, DType, Data, Expr, Graph, Node, Op, Operand, Packing, Reduction, ValueId};

/// Builds a graph node by node.
#[derive(Default)]
pub(crate) struct Net {
    pub(crate) graph: Graph,
}

impl Net {
    pub(crate) fn input(&mut self, shape: &[usize]) -> Operand {
        let id = self.graph.add_value(format!("x{}", self.graph.inputs.len()), DType::F32, shape).expect("small");
        self.graph.inputs.push(id);
        self.graph.whole(id)
    }

    /// A constant of numbers that look random.
    pub(crate) fn weights(&mut self, shape: &[usize]) -> Operand {
        let seed = self.graph.values.len();
        self.constant(shape, numbers(shape.iter().product(), seed))
    }

    pub(crate) fn constant(&mut self, shape: &[usize], data: Vec<f32>) -> Operand {
        let id = self.graph.add_constant("w", shape, Data::F32(data)).expect("as many as the shape has");
        self.graph.whole(id)
    }

    pub(crate) fn node(&mut self, op: Op, inputs: &[&Operand], dtype: DType, shape: &[usize]) -> Operand {
        let name = format!("node{}", self.graph.nodes.len());
        let id = self.graph.add_value(&name, dtype, shape).expect("small");
        let inputs = inputs.iter().map(|input| (*input).clone()).collect();
        self.graph.nodes.push(Node { name, op, inputs, outputs: vec![Some(id)] });
        self.graph.whole(id)
    }

    /// An expression over operands that broadcast to the first's shape.
    pub(crate) fn map(&mut self, expr: Expr, inputs: &[&Operand]) -> Operand {
        let shape = inputs[0].shape.clone();
        let inputs: Vec<Operand> = inputs.iter().map(|input| input.broadcast(&shape).expect("broadcasts")).collect();
        self.node(Op::Map(expr), &inputs.iter().collect::<Vec<_>>(), DType::F32, &shape)
    }

    pub(crate) fn binary(&mut self, op: Binary, a: &Operand, b: &Operand) -> Operand {
        self.map(Expr::binary(op, Expr::Input(0), Expr::Input(1)), &[a, b])
    }

    pub(crate) fn add(&mut self, a: &Operand, b: &Operand) -> Operand {
        self.binary(Binary::Add, a, b)
    }

    pub(crate) fn unary(&mut self, op: ir::Unary, x: &Operand) -> Operand {
        self.map(Expr::unary(op, Expr::Input(0)), &[x])
    }

    pub(crate) fn copy(&mut self, x: &Operand) -> Operand {
        self.map(Expr::Input(0), &[x])
    }

    /// `b` is broadcast over the leading dimensions of `a`.
    pub(crate) fn matmul(&mut self, a: &Operand, b: &Operand) -> Operand {
        let batch = &a.shape[..a.rank() - 2];
        let b = b.broadcast(&[batch, &b.shape[b.rank() - 2..]].concat()).expect("broadcasts");
        let shape = [batch, &[a.shape[a.rank() - 2], b.shape[b.rank() - 1]]].concat();
        self.node(Op::MatMul { epilogue: Expr::Result, packing: Packing::None }, &[a, &b], DType::F32, &shape)
    }

    /// A causal convolution of `[batch, length, channels]`.
    pub(crate) fn causal(&mut self, x: &Operand, w: &Operand, dilation: usize) -> Operand {
        let before = (w.shape[0] - 1) * dilation;
        let groups = x.shape[2] / w.shape[1];
        let op = Op::Conv { stride: 1, dilation, before, groups, epilogue: Expr::Result, packing: Packing::None };
        self.node(op, &[x, w], DType::F32, &[x.shape[0], x.shape[1], w.shape[2]])
    }

    pub(crate) fn reduce(&mut self, kind: Reduction, x: &Operand, axes: usize) -> Operand {
        self.node(Op::Reduce { kind, axes }, &[x], DType::F32, &x.shape[..x.rank() - axes])
    }

    pub(crate) fn softmax(&mut self, x: &Operand) -> Operand {
        self.node(Op::Softmax { log: false }, &[x], DType::F32, &x.shape)
    }

    pub(crate) fn normalize(&mut self, x: &Operand) -> Operand {
        self.node(Op::Normalize { epsilon: 1e-5 }, &[x], DType::F32, &x.shape)
    }

    /// The graph with these outputs, copied where they are views.
    pub(crate) fn outputs(mut self, outputs: &[&Operand]) -> Graph {
        for (index, output) in outputs.iter().enumerate() {
            let value = self.graph.value(output.value);
            let is_written = self.graph.nodes.iter().any(|node| node.outputs.contains(&Some(output.value)));
            let is_output = self.graph.outputs.iter().any(|(_, id)| *id == output.value);
            let is_whole = is_written && !is_output && value.shape == output.shape && output.is_contiguous();
            let id = if is_whole { output.value } else { self.copy(output).value };
            self.graph.outputs.push((format!("y{index}"), id));
        }
        ir::verify(&self.graph, "building").expect("a valid graph");
        self.graph
    }
}

/// Numbers between -1 and 1 that look random.
pub(crate) fn numbers(len: usize, seed: usize) -> Vec<f32> {
    let mut state = seed as u32 ^ 0x9e37_79b9;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// The outputs of a graph of floats for inputs that look random.
pub(crate) fn answers(graph: &Graph) -> Vec<Data> {
    let input = |(seed, id): (usize, &ValueId)| Data::F32(numbers(graph.value(*id).len(), 1000 + seed));
    eval::graph(graph, &graph.inputs.iter().enumerate().map(input).collect::<Vec<_>>())
}

/// Asserts that two graphs give the same bits.
pub(crate) fn assert_same(before: &Graph, after: &Graph) {
    ir::verify(after, "the pass").expect("a valid graph");
    let bits = |graph: &Graph| answers(graph).iter().map(Data::to_bytes).collect::<Vec<_>>();
    assert_eq!(bits(before), bits(after), "{}\n{}", super::dump::text(before), super::dump::text(after));
}

/// Asserts that two graphs agree but for rounding.
pub(crate) fn assert_close(before: &Graph, after: &Graph) {
    ir::verify(after, "the pass").expect("a valid graph");
    for (a, b) in answers(before).iter().zip(&answers(after)) {
        match (a, b) {
            (Data::F32(a), Data::F32(b)) => crate::testkit::assert_close(b, a, 1e-5),
            _ => assert_eq!(a, b),
        }
    }
}

/// Products that are added up in matrix products, convolutions and recurrent layers.
pub(crate) fn multiply_adds(graph: &Graph) -> usize {
    let of = |node: &Node| {
        let len = |index: usize| node.outputs[index].map_or(0, |id| graph.value(id).len());
        match &node.op {
            Op::MatMul { .. } => len(0) * node.inputs[0].shape.last().expect("two dimensions"),
            Op::Conv { .. } => len(0) * node.inputs[1].shape[0] * node.inputs[1].shape[1],
            Op::Recurrent { hidden, .. } => node.inputs[0].len() * hidden,
            _ => 0,
        }
    };
    graph.nodes.iter().map(of).sum()
}

/// Five residual blocks of causal convolutions with dilations up to 16, read at the last step.
pub(crate) fn convolutions(rows: usize, length: usize, channels: usize) -> Graph {
    let mut net = Net::default();
    let mut y = net.input(&[rows, length, channels]);
    for dilation in [1, 2, 4, 8, 16] {
        let w = net.weights(&[2, channels, channels]);
        let conv = net.causal(&y, &w, dilation);
        let conv = net.unary(ir::Unary::Relu, &conv);
        y = net.add(&conv, &y);
    }
    net.outputs(&[&y.sliced(1, length - 1, 1, 1).squeezed(1)])
}

/// Two layers of attention and a dense network, read at the last position; the shapes are those of PyTorch's export.
pub(crate) fn transformer(rows: usize, tokens: usize, heads: usize, size: usize) -> Graph {
    let width = heads * size;
    let mut net = Net::default();
    let mut x = net.input(&[rows, tokens, width]);
    for _ in 0..2 {
        let normal = net.normalize(&x);
        let flat = normal.reshaped(&[rows * tokens, width]).expect("contiguous");
        let mut parts = Vec::new();
        for _ in 0..3 {
            let w = net.weights(&[width, width]);
            let y = net.matmul(&flat, &w);
            let y = y.reshaped(&[rows, tokens, heads, size]).expect("contiguous").transposed(&[0, 2, 1, 3]);
            parts.push(net.copy(&y).reshaped(&[rows * heads, tokens, size]).expect("contiguous"));
        }
        let scores = net.matmul(&parts[0], &parts[1].transposed(&[0, 2, 1]));
        let scores = net.softmax(&scores);
        let y = net.matmul(&scores, &parts[2]);
        let y = y.reshaped(&[rows, heads, tokens, size]).expect("contiguous").transposed(&[0, 2, 1, 3]);
        let y = net.copy(&y).reshaped(&[rows * tokens, width]).expect("contiguous");
        let w = net.weights(&[width, width]);
        let y = net.matmul(&y, &w).reshaped(&[rows, tokens, width]).expect("contiguous");
        let y = net.add(&y, &x);
        let normal = net.normalize(&y);
        let (w, v) = (net.weights(&[width, 4 * width]), net.weights(&[4 * width, width]));
        let z = net.matmul(&normal, &w);
        let z = net.unary(ir::Unary::Relu, &z);
        let z = net.matmul(&z, &v);
        x = net.add(&z, &y);
    }
    net.outputs(&[&x.sliced(1, tokens - 1, 1, 1).squeezed(1)])
}

/// All states and the last one of a recurrent layer of `[steps, batch, hidden]`.
pub(crate) fn recurrent(net: &mut Net, x: &Operand, hidden: usize, reverse: bool) -> [Operand; 2] {
    let (steps, batch) = (x.shape[0], x.shape[1]);
    let w = net.weights(&[hidden, hidden]);
    let zeros = net.constant(&[1, 1], vec![0.0]).broadcast(&[batch, hidden]).expect("one");
    let cell = ir::Cell::Rnn { activation: ir::Activation::Tanh };
    let op = Op::Recurrent { cell, hidden, reverse, clip: None, packing: Packing::None };
    let all = net.node(op, &[x, &w, &zeros], DType::F32, &[steps, batch, hidden]);
    let last = net.graph.add_value("last", DType::F32, &[batch, hidden]).expect("small");
    net.graph.nodes.last_mut().expect("a node").outputs.push(Some(last));
    [all, net.graph.whole(last)]
}

/// A recurrent layer in both directions, read at the last step.
pub(crate) fn both_directions(steps: usize, batch: usize, hidden: usize) -> Graph {
    let mut net = Net::default();
    let x = net.input(&[steps, batch, hidden]);
    let ends = [false, true].map(|reverse| recurrent(&mut net, &x, hidden, reverse)[0].clone());
    let joined = net.node(Op::Concat { axis: 2 }, &[&ends[0], &ends[1]], DType::F32, &[steps, batch, 2 * hidden]);
    net.outputs(&[&joined.sliced(0, steps - 1, 1, 1).squeezed(0)])
}
