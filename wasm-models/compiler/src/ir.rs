//! The typed intermediate representation: static shapes, strided operands, no WebAssembly.
//!
//! A [`Graph`] lists nodes in an order in which each can be computed. A node reads [`Operand`]s, strided views of values, and
//! writes whole values, contiguous and row-major. So what only moves numbers about (Transpose, Reshape, Slice, Expand, Squeeze,
//! Split) is no node at all: it changes the view. What computes element by element is one [`Op::Map`] with an expression.

mod verify;
mod view;

use std::fmt;
use std::sync::Arc;

use crate::error::{CompileError, Result};
pub(crate) use verify::verify;

/// Type of the elements of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// 0 or 1, a byte.
    Bool,
    /// 8-bit signed integer: weights alone.
    I8,
}

impl DType {
    /// Bytes of an element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
            Self::Bool | Self::I8 => 1,
        }
    }

    /// Whether it is `F32` or `F64`.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// Its name in descriptors.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::Bool => "bool",
            Self::I8 => "int8",
        }
    }
}

/// Numbers of a constant, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Of [`DType::F32`].
    F32(Vec<f32>),
    /// Of [`DType::F64`].
    F64(Vec<f64>),
    /// Of [`DType::I32`].
    I32(Vec<i32>),
    /// Of [`DType::I64`].
    I64(Vec<i64>),
    /// Of [`DType::Bool`].
    Bool(Vec<bool>),
    /// Of [`DType::I8`].
    I8(Vec<i8>),
}

impl Data {
    /// The type of the elements.
    #[must_use]
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::I32(_) => DType::I32,
            Self::I64(_) => DType::I64,
            Self::Bool(_) => DType::Bool,
            Self::I8(_) => DType::I8,
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(data) => data.len(),
            Self::F64(data) => data.len(),
            Self::I32(data) => data.len(),
            Self::I64(data) => data.len(),
            Self::Bool(data) => data.len(),
            Self::I8(data) => data.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements at `indices`, in their order.
    #[must_use]
    pub fn pick(&self, indices: impl Iterator<Item = usize>) -> Self {
        match self {
            Self::F32(data) => Self::F32(indices.map(|index| data[index]).collect()),
            Self::F64(data) => Self::F64(indices.map(|index| data[index]).collect()),
            Self::I32(data) => Self::I32(indices.map(|index| data[index]).collect()),
            Self::I64(data) => Self::I64(indices.map(|index| data[index]).collect()),
            Self::Bool(data) => Self::Bool(indices.map(|index| data[index]).collect()),
            Self::I8(data) => Self::I8(indices.map(|index| data[index]).collect()),
        }
    }

    /// The bytes as they lie in memory.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F64(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::I32(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::I64(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Bool(data) => data.iter().map(|x| u8::from(*x)).collect(),
            Self::I8(data) => data.iter().map(|x| x.cast_unsigned()).collect(),
        }
    }
}

/// Names a value of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) usize);

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// A tensor: an input, a constant, or what a node computes.
#[derive(Debug, Clone)]
pub struct Value {
    /// Its name in the ONNX graph, or one derived from it.
    pub name: String,
    /// Type of the elements.
    pub dtype: DType,
    /// Sizes of the dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// The numbers, of a constant.
    pub data: Option<Arc<Data>>,
}

impl Value {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }
}

/// A strided view of a value: element `i` of the view is element `offset + sum(i[a] * strides[a])` of the value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Operand {
    /// What is read.
    pub value: ValueId,
    /// The element that index 0 stands for.
    pub offset: usize,
    /// Sizes of the view.
    pub shape: Vec<usize>,
    /// Elements from one index to the next; 0 where the axis repeats, negative where it runs backwards.
    pub strides: Vec<isize>,
}

/// The strides of a row-major tensor.
#[must_use]
pub fn row_major(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![0; shape.len()];
    let mut step = 1;
    for (stride, size) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step *= (*size).max(1) as isize;
    }
    strides
}

impl Operand {
    /// All of a value.
    #[must_use]
    pub fn whole(value: ValueId, shape: &[usize]) -> Self {
        Self { value, offset: 0, shape: shape.to_vec(), strides: row_major(shape) }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of dimensions.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Whether its elements follow one another in row-major order.
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        let mut step = 1;
        for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
            if *size != 1 && *stride != step {
                return false;
            }
            step *= *size as isize;
        }
        true
    }

    /// The axes in another order: axis `i` of the result is axis `order[i]`.
    #[must_use]
    pub fn transposed(&self, order: &[usize]) -> Self {
        Self {
            value: self.value,
            offset: self.offset,
            shape: order.iter().map(|&axis| self.shape[axis]).collect(),
            strides: order.iter().map(|&axis| self.strides[axis]).collect(),
        }
    }

    /// `count` elements of an axis from `start` on, `step` apart (negative: backwards).
    #[must_use]
    pub fn sliced(&self, axis: usize, start: usize, step: isize, count: usize) -> Self {
        let mut view = self.clone();
        if count > 0 {
            view.offset = view.offset.wrapping_add_signed(self.strides[axis] * start as isize);
        }
        view.strides[axis] *= step;
        view.shape[axis] = count;
        view
    }

    /// With an axis of size 1 before `axis`.
    #[must_use]
    pub fn unsqueezed(&self, axis: usize) -> Self {
        let mut view = self.clone();
        view.shape.insert(axis, 1);
        view.strides.insert(axis, 0);
        view
    }

    /// Without an axis; index 0 of it stays.
    #[must_use]
    pub fn squeezed(&self, axis: usize) -> Self {
        let mut view = self.clone();
        view.shape.remove(axis);
        view.strides.remove(axis);
        view
    }

    /// Repeated to a shape that it broadcasts to (aligned at the last axes), or `None` where it does not.
    #[must_use]
    pub fn broadcast(&self, shape: &[usize]) -> Option<Self> {
        let missing = shape.len().checked_sub(self.rank())?;
        let mut strides = vec![0; missing];
        for ((&size, &stride), &wanted) in self.shape.iter().zip(&self.strides).zip(&shape[missing..]) {
            match size {
                _ if size == wanted => strides.push(stride),
                1 => strides.push(0),
                _ => return None,
            }
        }
        Some(Self { value: self.value, offset: self.offset, shape: shape.to_vec(), strides })
    }

    /// The same elements in another shape, without moving them; `None` where strides cannot say it.
    #[must_use]
    pub fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        if self.len() != shape.iter().product::<usize>() {
            return None;
        }
        if self.is_empty() || self.is_contiguous() {
            return Some(Self { strides: row_major(shape), shape: shape.to_vec(), ..*self });
        }
        // Axes of size 1 say nothing; axes that follow one another are one.
        let mut merged = Vec::<(usize, isize)>::new();
        for (&size, &stride) in self.shape.iter().zip(&self.strides).filter(|(size, _)| **size != 1) {
            match merged.last_mut() {
                Some((total, last)) if *last == stride * size as isize => {
                    *total *= size;
                    *last = stride;
                }
                _ => merged.push((size, stride)),
            }
        }
        let mut strides = vec![0; shape.len()];
        let mut axes = (0..shape.len()).rev().filter(|&axis| shape[axis] != 1).peekable();
        for (total, stride) in merged.into_iter().rev() {
            let (mut rest, mut step) = (total, stride);
            while rest > 1 {
                let axis = axes.next()?;
                if rest % shape[axis] != 0 {
                    return None;
                }
                strides[axis] = step;
                step *= shape[axis] as isize;
                rest /= shape[axis];
            }
        }
        Some(Self { value: self.value, offset: self.offset, shape: shape.to_vec(), strides })
    }

    /// The positions of the view's elements in the value, in row-major order of the view.
    pub fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        let mut index = vec![0; self.rank()];
        let mut at = self.offset as isize;
        let mut left = self.len();
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let here = at as usize;
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= self.strides[axis] * self.shape[axis] as isize;
                index[axis] = 0;
            }
            Some(here)
        })
    }
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Unary {
    Neg,
    Abs,
    Sqrt,
    Reciprocal,
    Exp,
    Log,
    Sin,
    Cos,
    Tanh,
    Sigmoid,
    Erf,
    Floor,
    Ceil,
    /// To the nearest, ties to even.
    Round,
    Sign,
    Relu,
    /// `log(1 + exp(x))`.
    Softplus,
    Not,
    IsNan,
}

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    /// With the sign of the divisor, as Python has it.
    Mod,
    /// With the sign of the dividend, as C has it.
    Rem,
    And,
    Or,
    Xor,
    Equal,
    Less,
    LessOrEqual,
}

impl Binary {
    /// Whether the result is a `Bool` whatever the inputs are.
    #[must_use]
    pub fn compares(self) -> bool {
        matches!(self, Self::Equal | Self::Less | Self::LessOrEqual)
    }
}

/// A number in an expression.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Scalar {
    F32(f32),
    F64(f64),
    I32(i32),
    I64(i64),
    Bool(bool),
}

impl Scalar {
    /// Its type.
    #[must_use]
    pub fn dtype(self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::I32(_) => DType::I32,
            Self::I64(_) => DType::I64,
            Self::Bool(_) => DType::Bool,
        }
    }

    /// A number of a type.
    #[must_use]
    pub fn of(dtype: DType, number: f64) -> Self {
        match dtype {
            DType::F32 => Self::F32(number as f32),
            DType::F64 => Self::F64(number),
            DType::I32 | DType::I8 => Self::I32(number as i32),
            DType::I64 => Self::I64(number as i64),
            DType::Bool => Self::Bool(number != 0.0),
        }
    }
}

/// What is computed for each element.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// The element of an input of the node.
    Input(usize),
    /// In the epilogue of an operation: its own result.
    Result,
    /// A constant.
    Const(Scalar),
    /// A function of one number.
    Unary(Unary, Box<Expr>),
    /// A function of two numbers of one type.
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// The second where the first (a `Bool`) holds, else the third.
    Select(Box<Expr>, Box<Expr>, Box<Expr>),
    /// Another type: floats are cut towards zero and saturate, `Bool` is whether it differs from 0.
    Cast(DType, Box<Expr>),
}

impl Expr {
    /// A function of an expression.
    #[must_use]
    pub fn unary(op: Unary, x: Self) -> Self {
        Self::Unary(op, Box::new(x))
    }

    /// A function of two expressions.
    #[must_use]
    pub fn binary(op: Binary, a: Self, b: Self) -> Self {
        Self::Binary(op, Box::new(a), Box::new(b))
    }

    /// A choice.
    #[must_use]
    pub fn select(condition: Self, yes: Self, no: Self) -> Self {
        Self::Select(Box::new(condition), Box::new(yes), Box::new(no))
    }

    /// A 32-bit float.
    #[must_use]
    pub fn f32(number: f32) -> Self {
        Self::Const(Scalar::F32(number))
    }

    /// The type of the result; `inputs` are the types of the node's inputs, `result` that of [`Expr::Result`].
    #[must_use]
    pub fn dtype(&self, inputs: &[DType], result: DType) -> DType {
        match self {
            Self::Input(index) => inputs[*index],
            Self::Result => result,
            Self::Const(number) => number.dtype(),
            Self::Unary(Unary::Not | Unary::IsNan, _) => DType::Bool,
            Self::Unary(_, x) => x.dtype(inputs, result),
            Self::Binary(op, ..) if op.compares() => DType::Bool,
            Self::Binary(_, x, _) | Self::Select(_, x, _) => x.dtype(inputs, result),
            Self::Cast(dtype, _) => *dtype,
        }
    }

    /// Replaces inputs and result by other expressions.
    #[must_use]
    pub fn map_leaves(&self, leaf: &mut impl FnMut(&Self) -> Self) -> Self {
        match self {
            Self::Input(_) | Self::Result | Self::Const(_) => leaf(self),
            Self::Unary(op, x) => Self::unary(*op, x.map_leaves(leaf)),
            Self::Binary(op, a, b) => Self::binary(*op, a.map_leaves(leaf), b.map_leaves(leaf)),
            Self::Select(c, a, b) => Self::select(c.map_leaves(leaf), a.map_leaves(leaf), b.map_leaves(leaf)),
            Self::Cast(dtype, x) => Self::Cast(*dtype, Box::new(x.map_leaves(leaf))),
        }
    }
}

/// How numbers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Reduction {
    Sum,
    Mean,
    Min,
    Max,
    Prod,
    /// The index of the largest, the first of equals; an `I64`.
    ArgMax,
    /// The index of the smallest, the first of equals; an `I64`.
    ArgMin,
}

/// The activation of a gate of a recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `tanh(x)`.
    Tanh,
    /// `max(x, 0)`.
    Relu,
    /// `alpha * x + beta`.
    Affine(f32, f32),
    /// `max(alpha * x, x)` as ONNX has it: `x` where `x >= 0`, else `alpha * x`.
    LeakyRelu(f32),
    /// `alpha * tanh(beta * x)`.
    ScaledTanh(f32, f32),
    /// `min(max(alpha * x + beta, 0), 1)`.
    HardSigmoid(f32, f32),
    /// `x` where `x >= 0`, else `alpha * (exp(x) - 1)`.
    Elu(f32),
    /// `x / (1 + |x|)`.
    Softsign,
    /// `log(1 + exp(x))`.
    Softplus,
    /// `x` where `x > alpha`, else 0.
    ThresholdedRelu(f32),
}

/// What a recurrent layer computes per step.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// ONNX `LSTM`, gates in the order input, output, forget, cell. Activations: gates, cell, hidden.
    Lstm {
        /// `f` of the gates, `g` of the candidate, `h` of the output.
        activations: [Activation; 3],
        /// The forget gate is 1 minus the input gate.
        input_forget: bool,
    },
    /// ONNX `GRU`, gates in the order update, reset, hidden. Activations: gates, hidden.
    Gru {
        /// `f` of the gates, `g` of the candidate.
        activations: [Activation; 2],
        /// The reset gate is applied after the recurrent product of the candidate and its bias.
        linear_before_reset: bool,
    },
    /// ONNX `RNN`.
    Rnn {
        /// Of the state.
        activation: Activation,
    },
}

impl Cell {
    /// Number of gates: rows of the weights are this times the hidden size.
    #[must_use]
    pub fn gates(&self) -> usize {
        match self {
            Self::Lstm { .. } => 4,
            Self::Gru { .. } => 3,
            Self::Rnn { .. } => 1,
        }
    }
}

/// A tree ensemble of `ai.onnx.ml`, as it was checked by the importer; see `import/trees.rs`. Thresholds, weights and base values are numbers of
/// the input's type.
#[derive(Clone, PartialEq)]
pub struct Trees {
    /// The trees. Node 0 of each is its root.
    pub trees: Vec<Vec<TreeNode>>,
    /// Number of scores of a row.
    pub num_scores: usize,
    /// What is added to each score.
    pub base: Vec<f64>,
    /// How the leaves of all trees become a score.
    pub aggregate: Aggregate,
    /// How the packed table lies in memory, once the ensemble is packed.
    pub table: Option<TreeTable>,
}

impl fmt::Debug for Trees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: usize = self.trees.iter().map(Vec::len).sum();
        write!(f, "{{ {:?} of {} trees, {nodes} nodes", self.aggregate, self.trees.len())?;
        match &self.table {
            Some(table) => write!(f, ", {table:?} }}"),
            None => write!(f, " }}"),
        }
    }
}

/// A node of a tree.
#[derive(Debug, Clone, PartialEq)]
pub enum TreeNode {
    /// A test of a feature.
    Branch {
        /// Column of the input.
        feature: usize,
        /// The test.
        test: Test,
        /// What the feature is compared with.
        threshold: f64,
        /// Whether NaN passes the test. (It passes `NotEqual` in any case.)
        nan_passes: bool,
        /// The child where the test passes; larger than this node's own index. Nodes may share children.
        yes: usize,
        /// The child where it does not; larger than this node's own index.
        no: usize,
    },
    /// Weights for scores, `(score, weight)`: each score at most once, in rising order.
    Leaf(Vec<(usize, f64)>),
}

/// The packed table of a tree ensemble, the second input of its node; see `passes/pack_trees.rs`. Offsets are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeTable {
    /// The form of the nodes.
    pub form: TreeForm,
    /// Weights of each leaf: 1 where a tree counts for one score alone, else one for each score.
    pub leaf_weights: usize,
    /// The trees in the order of the table.
    pub runs: Vec<TreeRun>,
    /// Where the base values lie.
    pub base: usize,
    /// Whether branches read the features a second time with negative infinity for NaN.
    pub maps_nan: bool,
}

/// The form of the nodes of a [`TreeTable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeForm {
    /// All trees filled up to one depth, level by level: children of entry `i` of a level are `2 i` and `2 i + 1` of the next.
    Complete {
        /// Where the levels lie.
        levels: Vec<usize>,
        /// Where the leaves lie.
        leaves: usize,
    },
    /// Nodes with the distance to their children; leaves lead to themselves.
    Linked {
        /// Slot and distance take 2 bytes each instead of 4.
        is_narrow: bool,
        /// Where the chunks lie: for every four trees the number of steps and their roots.
        chunks: usize,
        /// Where the nodes lie.
        nodes: usize,
        /// Where the weights of leaves lie, where there are several.
        leaves: usize,
    },
}

/// Successive scores, each of equally many successive trees; one run of all trees where leaves have a weight for each score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeRun {
    /// Number of scores.
    pub scores: usize,
    /// Trees of each.
    pub trees: usize,
}

/// The test of a branch: feature, operator, threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Test {
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Equal,
    NotEqual,
}

/// How the leaves of all trees become a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// Weights of a matrix product that were packed for its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// As in the graph: any strides.
    None,
    /// Panels of `width` columns, `[panels][k][width]`, the last padded with zeros; the operand's value is the packed constant.
    Panels {
        /// Columns of a panel, a multiple of 4.
        width: usize,
    },
}

/// What a node computes. Inputs are views, outputs whole values.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// An expression, element by element. All inputs have the shape of the output.
    Map(Expr),
    /// A matrix product. Inputs: `[.., m, k]`, `[.., k, n]` with equal leading dimensions; then those of the epilogue, `[.., m, n]` like
    /// the output. The epilogue makes the output of the product ([`Expr::Result`]) and them; its inputs count from the node's first.
    /// Products are added in the order of `k`.
    MatMul {
        /// `Expr::Result` where there is nothing more to do.
        epilogue: Expr,
        /// How the second input lies in memory. Its view then keeps the shape `[k, n]` and has no meaning beyond it.
        packing: Packing,
    },
    /// A convolution along one axis, channels last. Inputs: `[batch, length, in]`, weights `[taps, in / groups, out]`, then those of the epilogue,
    /// shaped like the output `[batch, length', out]`. Output position `t` reads `t * stride + tap * dilation - before`; what lies
    /// outside reads as 0. Products are added in the order of `(tap, in)`.
    Conv {
        /// Distance of output positions.
        stride: usize,
        /// Distance of taps.
        dilation: usize,
        /// Zeros before the first position.
        before: usize,
        /// Groups of channels.
        groups: usize,
        /// As in [`Op::MatMul`].
        epilogue: Expr,
        /// How the weights lie in memory: panels of `[taps * in / groups, out]` (one group alone).
        packing: Packing,
    },
    /// A recurrent layer in one direction. Inputs: projected input `[steps, batch, gates * hidden]` (input weights and all biases that can be
    /// added before the loop are in it), recurrent weights `[hidden, gates * hidden]` (transposed), first state `[batch, hidden]`, and
    /// for an LSTM first cell `[batch, hidden]`; an LSTM's peepholes `[3 * hidden]` (input, output, forget) or, for a GRU with
    /// `linear_before_reset`, the recurrent bias of the candidate `[hidden]`. Outputs: all states `[steps, batch, hidden]`, last state
    /// `[batch, hidden]`, and for an LSTM last cell `[batch, hidden]`; [`Node::outputs`] names those that are used.
    Recurrent {
        /// What is computed per step.
        cell: Cell,
        /// Size of the state.
        hidden: usize,
        /// From the last step to the first. All states stand at their own step.
        reverse: bool,
        /// The pre-activations are limited to `-clip..=clip`.
        clip: Option<f32>,
        /// How the recurrent weights lie in memory.
        packing: Packing,
    },
    /// Reduces the last `axes` dimensions of the input's view. The output has the others.
    Reduce {
        /// How.
        kind: Reduction,
        /// Number of dimensions that go.
        axes: usize,
    },
    /// `exp(x - max) / sum(exp(x - max))` along the last dimension.
    Softmax {
        /// Its logarithm.
        log: bool,
    },
    /// `(x - mean) / sqrt(variance + epsilon)` along the last dimension, variance biased, then times the second input plus the third
    /// (both `[size of the last dimension]`, both optional from the end).
    Normalize {
        /// Is added to the variance.
        epsilon: f32,
    },
    /// Picks entries of dimension `axis` of the first input by the second, an `I64` tensor whose dimensions take the place of `axis`.
    /// Negative indices count from the end. An index out of range makes `run` answer 2.
    Gather {
        /// The dimension.
        axis: usize,
    },
    /// Joins the inputs along `axis`.
    Concat {
        /// The dimension.
        axis: usize,
    },
    /// Puts the input into a larger tensor that is filled with `fill`.
    Pad {
        /// Elements before it, per dimension.
        before: Vec<usize>,
        /// What is around it.
        fill: Scalar,
    },
    /// Scores of a tree ensemble: `[batch, features]` to `[batch, scores]`, both `F32` or both `F64`. The second input is the packed table.
    Trees(Arc<Trees>),
}

/// A computation.
#[derive(Debug, Clone)]
pub struct Node {
    /// The ONNX node that it comes from.
    pub name: String,
    /// What.
    pub op: Op,
    /// From what.
    pub inputs: Vec<Operand>,
    /// What it writes; `None` for an output of [`Op::Recurrent`] that nobody reads.
    pub outputs: Vec<Option<ValueId>>,
}

/// A computation with static shapes.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// All values. Those that nobody reads may stay behind.
    pub values: Vec<Value>,
    /// Values that the caller writes.
    pub inputs: Vec<ValueId>,
    /// In an order in which each can be computed.
    pub nodes: Vec<Node>,
    /// What the caller reads: names, and whole values (each written by a node).
    pub outputs: Vec<(String, ValueId)>,
}

impl Graph {
    /// A value.
    #[must_use]
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// Adds a value.
    ///
    /// # Errors
    /// Where it has more than [`MAX_ELEMENTS`] elements.
    pub fn add_value(&mut self, name: impl Into<String>, dtype: DType, shape: &[usize]) -> Result<ValueId> {
        let name = name.into();
        if num_elements(shape).is_none() {
            return Err(CompileError::model(format!(
                "value `{name}` has shape {shape:?}, expected at most {MAX_ELEMENTS} elements"
            )));
        }
        self.values.push(Value { name, dtype, shape: shape.to_vec(), data: None });
        Ok(ValueId(self.values.len() - 1))
    }

    /// Adds a constant.
    ///
    /// # Errors
    /// Where the data does not fill the shape.
    pub fn add_constant(&mut self, name: impl Into<String>, shape: &[usize], data: Data) -> Result<ValueId> {
        let name = name.into();
        if num_elements(shape) != Some(data.len()) {
            let len = data.len();
            return Err(CompileError::model(format!("constant `{name}` of shape {shape:?} holds {len} elements")));
        }
        let id = self.add_value(name, data.dtype(), shape)?;
        self.values[id.0].data = Some(Arc::new(data));
        Ok(id)
    }

    /// A view of a whole value.
    #[must_use]
    pub fn whole(&self, id: ValueId) -> Operand {
        Operand::whole(id, &self.value(id).shape)
    }

    /// The type of an operand.
    #[must_use]
    pub fn dtype(&self, operand: &Operand) -> DType {
        self.value(operand.value).dtype
    }

    /// The numbers of an operand whose value is constant, in the view's order.
    #[must_use]
    pub fn constant(&self, operand: &Operand) -> Option<Data> {
        let data = self.value(operand.value).data.as_ref()?;
        Some(data.pick(operand.positions()))
    }
}

/// Most elements of a tensor.
pub const MAX_ELEMENTS: usize = 1 << 26;

/// The number of elements of a shape, or `None` where it is more than [`MAX_ELEMENTS`], dimensions of size 0 left out.
#[must_use]
pub fn num_elements(shape: &[usize]) -> Option<usize> {
    let strides = shape.iter().try_fold(1usize, |total, &size| total.checked_mul(size.max(1)));
    strides.filter(|total| *total <= MAX_ELEMENTS).map(|_| shape.iter().product())
}
