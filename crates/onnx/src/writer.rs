//! Writes ONNX models: one graph, opset 17, deterministic bytes.
//!
//! Values are handles into the builder; the methods append nodes in the order of the calls, so the graph is sorted.
//! Mistakes (a tensor whose data does not fill its shape, a name used twice) are kept and come out of
//! [`GraphBuilder::finish`], so that calls chain without `?`. Operators: <https://onnx.ai/onnx/operators/>.
//!
//! ```
//! use moola_onnx::writer::{Dim, GraphBuilder};
//!
//! let mut graph = GraphBuilder::new("linear");
//! let x = graph.input("x", &[Dim::Batch, Dim::Fixed(2)]);
//! let w = graph.initializer_f32("w", &[2, 1], &[0.5, -0.5]);
//! let y = graph.matmul(x, w);
//! graph.output(y, "y", &[Dim::Batch, Dim::Fixed(1)]);
//! let bytes = graph.finish()?;
//! # Ok::<(), moola_core::Error>(())
//! ```

use std::collections::HashSet;

use moola_core::{Error, ErrorKind, Result};
use prost::Message;
use tract_onnx::pb;

/// The version of the default operator set that the writer emits.
pub const OPSET: i64 = 17;
/// The version of the file format that the writer emits.
pub const IR_VERSION: i64 = 8;
/// The operator set of classical models, and the version of it that the writer emits.
pub const ML_DOMAIN: (&str, i64) = ("ai.onnx.ml", 3);
/// The name of the symbolic batch dimension.
pub const BATCH: &str = "batch";

/// A tensor in the graph of one [`GraphBuilder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value(usize);

impl Value {
    /// An optional input that is left out.
    pub const NONE: Self = Self(usize::MAX);
}

/// A dimension of an input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dim {
    /// The symbolic batch size, [`BATCH`].
    Batch,
    /// A fixed size.
    Fixed(usize),
}

/// The value of a node's attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// A number.
    Float(f32),
    /// A text.
    Str(String),
    /// Integers.
    Ints(Vec<i64>),
    /// Numbers.
    Floats(Vec<f32>),
    /// Texts.
    Strings(Vec<String>),
}

/// The directions of a recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// First step to last: one direction.
    Forward,
    /// Both ways: two directions, forward first.
    Bidirectional,
}

impl Direction {
    /// Number of directions: 1 or 2.
    #[must_use]
    pub fn num_directions(self) -> usize {
        match self {
            Self::Forward => 1,
            Self::Bidirectional => 2,
        }
    }
}

/// The inputs of an LSTM; see [`GraphBuilder::lstm`] for the shapes.
#[derive(Debug, Clone, Copy)]
pub struct LstmInputs {
    /// The sequence: `[steps, batch, features]`.
    pub x: Value,
    /// Weights of the input: `[directions, 4 * hidden, features]`, gates in the order input, output, forget, cell.
    pub w: Value,
    /// Weights of the state: `[directions, 4 * hidden, hidden]`, same order.
    pub r: Value,
    /// Biases: `[directions, 8 * hidden]`, the four of the input, then the four of the state.
    pub b: Option<Value>,
    /// First hidden state: `[directions, batch, hidden]`; zero if left out.
    pub initial_h: Option<Value>,
    /// First cell state: `[directions, batch, hidden]`; zero if left out.
    pub initial_c: Option<Value>,
    /// Peepholes: `[directions, 3 * hidden]`, in the order input, output, forget.
    pub peepholes: Option<Value>,
}

/// The outputs of an LSTM. Those that nothing uses are left out of the file.
#[derive(Debug, Clone, Copy)]
pub struct LstmOutputs {
    /// Hidden state at every step: `[steps, directions, batch, hidden]`.
    pub y: Value,
    /// Last hidden state: `[directions, batch, hidden]`. The backward direction's is that of step 0.
    pub y_h: Value,
    /// Last cell state: `[directions, batch, hidden]`.
    pub y_c: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Given,
    Node,
    Output,
}

#[derive(Debug)]
struct Node {
    /// Empty for the default operator set.
    domain: &'static str,
    op_type: String,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    attributes: Vec<pb::AttributeProto>,
}

/// Builds a model node by node.
#[derive(Debug)]
pub struct GraphBuilder {
    name: String,
    values: Vec<(String, Origin)>,
    taken: HashSet<String>,
    inputs: Vec<pb::ValueInfoProto>,
    initializers: Vec<pb::TensorProto>,
    nodes: Vec<Node>,
    outputs: Vec<(Value, Vec<Dim>)>,
    metadata: Vec<(String, String)>,
    error: Option<Error>,
}

impl GraphBuilder {
    /// Starts an empty graph.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            values: Vec::new(),
            taken: HashSet::new(),
            inputs: Vec::new(),
            initializers: Vec::new(),
            nodes: Vec::new(),
            outputs: Vec::new(),
            metadata: Vec::new(),
            error: None,
        }
    }

    fn fail(&mut self, message: String) {
        self.error.get_or_insert_with(|| Error::new(ErrorKind::Invalid, message));
    }

    fn named(&mut self, name: &str, origin: Origin) -> Value {
        if name.is_empty() || !self.taken.insert(name.to_owned()) {
            self.fail(format!("value `{name}` of graph `{}` is empty or taken, expected a fresh name", self.name));
        }
        self.values.push((name.to_owned(), origin));
        Value(self.values.len() - 1)
    }

    /// Declares a float32 input.
    pub fn input(&mut self, name: &str, shape: &[Dim]) -> Value {
        self.inputs.push(value_info(name, shape));
        self.named(name, Origin::Given)
    }

    /// Stores a float32 constant, row-major.
    ///
    /// # Shapes
    /// `data` holds the product of `shape` numbers; an empty `shape` is a scalar.
    pub fn initializer_f32(&mut self, name: &str, shape: &[usize], data: &[f32]) -> Value {
        let raw = data.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.initializer(name, shape, data.len(), pb::tensor_proto::DataType::Float, raw)
    }

    /// Stores an int64 constant, row-major.
    ///
    /// # Shapes
    /// `data` holds the product of `shape` numbers; an empty `shape` is a scalar.
    pub fn initializer_i64(&mut self, name: &str, shape: &[usize], data: &[i64]) -> Value {
        let raw = data.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.initializer(name, shape, data.len(), pb::tensor_proto::DataType::Int64, raw)
    }

    fn initializer(
        &mut self,
        name: &str,
        shape: &[usize],
        len: usize,
        data_type: pb::tensor_proto::DataType,
        raw_data: Vec<u8>,
    ) -> Value {
        if shape.iter().product::<usize>() != len {
            self.fail(format!("constant `{name}` holds {len} numbers, its shape {shape:?} needs another number"));
        }
        self.initializers.push(pb::TensorProto {
            dims: shape.iter().map(|&size| size as i64).collect(),
            data_type: data_type as i32,
            name: name.to_owned(),
            raw_data,
            ..Default::default()
        });
        self.named(name, Origin::Given)
    }

    fn fresh(&mut self, stem: &str) -> String {
        let mut number = self.nodes.len();
        loop {
            let name = format!("{stem}_{number}");
            if !self.taken.contains(&name) {
                return name;
            }
            number += 1;
        }
    }

    fn constant_i64(&mut self, shape: &[usize], data: &[i64]) -> Value {
        let name = self.fresh("const");
        self.initializer_i64(&name, shape, data)
    }

    /// Appends a node of the default operator set and returns its outputs. Trailing inputs that are
    /// [`Value::NONE`] are dropped.
    pub fn node(
        &mut self,
        op_type: &str,
        inputs: &[Value],
        num_outputs: usize,
        attributes: &[(&str, Attribute)],
    ) -> Vec<Value> {
        self.node_of("", op_type, inputs, num_outputs, attributes)
    }

    /// Appends a node of the operator set [`ML_DOMAIN`] and returns its outputs.
    pub fn ml_node(
        &mut self,
        op_type: &str,
        inputs: &[Value],
        num_outputs: usize,
        attributes: &[(&str, Attribute)],
    ) -> Vec<Value> {
        self.node_of(ML_DOMAIN.0, op_type, inputs, num_outputs, attributes)
    }

    fn node_of(
        &mut self,
        domain: &'static str,
        op_type: &str,
        inputs: &[Value],
        num_outputs: usize,
        attributes: &[(&str, Attribute)],
    ) -> Vec<Value> {
        let mut inputs = inputs.to_vec();
        while inputs.last() == Some(&Value::NONE) {
            inputs.pop();
        }
        if let Some(value) = inputs.iter().find(|&&value| value != Value::NONE && value.0 >= self.values.len()) {
            self.fail(format!("value {} of a `{op_type}` node is of another graph, expected one of this", value.0));
        }
        let stem = op_type.to_lowercase();
        let outputs = (0..num_outputs)
            .map(|_| {
                let name = self.fresh(&stem);
                self.named(&name, Origin::Node)
            })
            .collect::<Vec<_>>();
        self.nodes.push(Node {
            domain,
            op_type: op_type.to_owned(),
            inputs,
            outputs: outputs.clone(),
            attributes: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
        });
        outputs
    }

    fn one(&mut self, op_type: &str, inputs: &[Value], attributes: &[(&str, Attribute)]) -> Value {
        self.node(op_type, inputs, 1, attributes)[0]
    }

    /// Multiplies matrices.
    ///
    /// # Shapes
    /// `[.., m, k]` by `[.., k, n]` gives `[.., m, n]`; the leading dimensions broadcast.
    pub fn matmul(&mut self, a: Value, b: Value) -> Value {
        self.one("MatMul", &[a, b], &[])
    }

    /// Computes `a * b + c`, a dense layer; with `trans_b`, `a * bᵀ + c`.
    ///
    /// # Shapes
    /// `a` is `[m, k]`, `b` is `[k, n]` (`[n, k]` with `trans_b`), `c` broadcasts to the result `[m, n]`.
    pub fn gemm(&mut self, a: Value, b: Value, c: Option<Value>, trans_b: bool) -> Value {
        let attributes = [("transB", Attribute::Int(1))];
        self.one("Gemm", &[a, b, c.unwrap_or(Value::NONE)], if trans_b { &attributes } else { &[] })
    }

    /// Adds; the shapes broadcast.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.one("Add", &[a, b], &[])
    }

    /// Subtracts; the shapes broadcast.
    pub fn sub(&mut self, a: Value, b: Value) -> Value {
        self.one("Sub", &[a, b], &[])
    }

    /// Multiplies number by number; the shapes broadcast.
    pub fn mul(&mut self, a: Value, b: Value) -> Value {
        self.one("Mul", &[a, b], &[])
    }

    /// Divides number by number; the shapes broadcast.
    pub fn div(&mut self, a: Value, b: Value) -> Value {
        self.one("Div", &[a, b], &[])
    }

    /// Computes `max(x, 0)`; keeps the shape.
    pub fn relu(&mut self, x: Value) -> Value {
        self.one("Relu", &[x], &[])
    }

    /// Computes `tanh(x)`; keeps the shape.
    pub fn tanh(&mut self, x: Value) -> Value {
        self.one("Tanh", &[x], &[])
    }

    /// Computes `1 / (1 + exp(-x))`; keeps the shape.
    pub fn sigmoid(&mut self, x: Value) -> Value {
        self.one("Sigmoid", &[x], &[])
    }

    /// Normalises `exp(x)` to sum to 1 along `axis` (negative: from the end); keeps the shape.
    pub fn softmax(&mut self, x: Value, axis: i64) -> Value {
        self.one("Softmax", &[x], &[("axis", Attribute::Int(axis))])
    }

    /// Permutes the dimensions.
    ///
    /// # Shapes
    /// Dimension `i` of the result is dimension `perm[i]` of `x`.
    pub fn transpose(&mut self, x: Value, perm: &[i64]) -> Value {
        self.one("Transpose", &[x], &[("perm", Attribute::Ints(perm.to_vec()))])
    }

    /// Gives the same numbers another shape.
    ///
    /// # Shapes
    /// In `shape`, 0 keeps the dimension at its place and one -1 takes what is left.
    pub fn reshape(&mut self, x: Value, shape: &[i64]) -> Value {
        let shape = self.constant_i64(&[shape.len()], shape);
        self.one("Reshape", &[x, shape], &[])
    }

    /// Cuts `start..end` out of dimension `axis`; negative positions count from the end and `i64::MAX` is the end.
    ///
    /// # Shapes
    /// Keeps the rank.
    pub fn slice(&mut self, x: Value, axis: i64, start: i64, end: i64) -> Value {
        let start = self.constant_i64(&[1], &[start]);
        let end = self.constant_i64(&[1], &[end]);
        let axis = self.constant_i64(&[1], &[axis]);
        self.one("Slice", &[x, start, end, axis], &[])
    }

    /// Joins along `axis`.
    ///
    /// # Shapes
    /// The values agree in all dimensions but `axis`.
    pub fn concat(&mut self, values: &[Value], axis: i64) -> Value {
        self.one("Concat", values, &[("axis", Attribute::Int(axis))])
    }

    /// Picks entries of dimension `axis` by the int64 tensor `indices`.
    ///
    /// # Shapes
    /// The dimensions of `indices` take the place of `axis`.
    pub fn gather(&mut self, x: Value, indices: Value, axis: i64) -> Value {
        self.one("Gather", &[x, indices], &[("axis", Attribute::Int(axis))])
    }

    /// Picks one entry of dimension `axis` (negative `index`: from the end), which goes: `Gather` by a scalar.
    ///
    /// # Shapes
    /// The rank falls by one.
    pub fn select(&mut self, x: Value, axis: i64, index: i64) -> Value {
        let index = self.constant_i64(&[], &[index]);
        self.gather(x, index, axis)
    }

    /// Drops dimensions of size 1.
    ///
    /// # Shapes
    /// The rank falls by the number of `axes`.
    pub fn squeeze(&mut self, x: Value, axes: &[i64]) -> Value {
        let axes = self.constant_i64(&[axes.len()], axes);
        self.one("Squeeze", &[x, axes], &[])
    }

    /// Adds dimensions of size 1.
    ///
    /// # Shapes
    /// `axes` are places in the result; the rank grows by their number.
    pub fn unsqueeze(&mut self, x: Value, axes: &[i64]) -> Value {
        let axes = self.constant_i64(&[axes.len()], axes);
        self.one("Unsqueeze", &[x, axes], &[])
    }

    /// Averages over `axes`.
    ///
    /// # Shapes
    /// The axes become 1 with `keep_dims`, else they go.
    pub fn reduce_mean(&mut self, x: Value, axes: &[i64], keep_dims: bool) -> Value {
        let attributes = [("axes", Attribute::Ints(axes.to_vec())), ("keepdims", Attribute::Int(i64::from(keep_dims)))];
        self.one("ReduceMean", &[x], &attributes)
    }

    /// Normalises the last dimension to mean 0 and variance 1 (biased, plus `epsilon`), then scales and shifts.
    ///
    /// # Shapes
    /// Keeps the shape of `x`; `scale` and `bias` are `[size of the last dimension]`.
    pub fn layer_norm(&mut self, x: Value, scale: Value, bias: Value, epsilon: f32) -> Value {
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon))];
        self.one("LayerNormalization", &[x, scale, bias], &attributes)
    }

    /// Runs an LSTM from a zero state, layout 0; gates in the order input, output, forget, cell (`iofc`).
    ///
    /// With σ the sigmoid and ∘ the product number by number, per step (ONNX `LSTM`):
    /// `i, o, f = σ(W x + R h + Wb + Rb)`, `c̃ = tanh(..)`, `c = f ∘ c + i ∘ c̃`, `h = o ∘ tanh(c)`.
    ///
    /// # Shapes
    /// `x` `[steps, batch, features]`, `w` `[directions, 4 * hidden, features]`, `r`
    /// `[directions, 4 * hidden, hidden]`, `b` `[directions, 8 * hidden]`; for the results see [`LstmOutputs`].
    pub fn lstm(
        &mut self,
        x: Value,
        w: Value,
        r: Value,
        b: Option<Value>,
        hidden_size: usize,
        direction: Direction,
    ) -> LstmOutputs {
        let inputs = LstmInputs { x, w, r, b, initial_h: None, initial_c: None, peepholes: None };
        self.lstm_with(&inputs, hidden_size, direction)
    }

    /// Runs an LSTM with a given first state or peepholes.
    ///
    /// # Shapes
    /// As of [`LstmInputs`] and [`LstmOutputs`].
    pub fn lstm_with(&mut self, inputs: &LstmInputs, hidden_size: usize, direction: Direction) -> LstmOutputs {
        let direction = match direction {
            Direction::Forward => "forward",
            Direction::Bidirectional => "bidirectional",
        };
        let optional = |value: Option<Value>| value.unwrap_or(Value::NONE);
        let values = [
            inputs.x,
            inputs.w,
            inputs.r,
            optional(inputs.b),
            Value::NONE, // sequence_lens
            optional(inputs.initial_h),
            optional(inputs.initial_c),
            optional(inputs.peepholes),
        ];
        let attributes =
            [("direction", Attribute::Str(direction.to_owned())), ("hidden_size", Attribute::Int(hidden_size as i64))];
        let outputs = self.node("LSTM", &values, 3, &attributes);
        LstmOutputs { y: outputs[0], y_h: outputs[1], y_c: outputs[2] }
    }

    /// Convolves along the last dimension, with `pads` zeros put before and after.
    ///
    /// # Shapes
    /// `x` `[batch, channels, steps]`, `w` `[filters, channels, width]`, `b` `[filters]`; gives `[batch, filters, n]`
    /// with `n = (steps + pads.0 + pads.1 - dilation * (width - 1) - 1) / stride + 1`.
    pub fn conv1d(
        &mut self,
        x: Value,
        w: Value,
        b: Option<Value>,
        stride: usize,
        dilation: usize,
        pads: (usize, usize),
    ) -> Value {
        let attributes = [
            ("dilations", Attribute::Ints(vec![dilation as i64])),
            ("pads", Attribute::Ints(vec![pads.0 as i64, pads.1 as i64])),
            ("strides", Attribute::Ints(vec![stride as i64])),
        ];
        self.one("Conv", &[x, w, b.unwrap_or(Value::NONE)], &attributes)
    }

    /// Declares `value` as the float32 output `name`.
    pub fn output(&mut self, value: Value, name: &str, shape: &[Dim]) {
        let value = match self.values.get(value.0) {
            Some((_, Origin::Node)) => value,
            Some(_) => self.one("Identity", &[value], &[]),
            None => return self.fail(format!("output `{name}` is a value of another graph, expected one of this")),
        };
        if name.is_empty() || !self.taken.insert(name.to_owned()) {
            self.fail(format!("output `{name}` of graph `{}` is empty or taken, expected a fresh name", self.name));
        }
        self.values[value.0] = (name.to_owned(), Origin::Output);
        self.outputs.push((value, shape.to_vec()));
    }

    /// Adds an entry to the model's metadata.
    pub fn metadata(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.metadata.push((key.into(), value.into()));
    }

    /// Writes the model: the same calls give the same bytes.
    ///
    /// # Errors
    /// `Invalid` with the first mistake made: data that does not fill its shape, a name used twice, a value of
    /// another graph, no output.
    pub fn finish(self) -> Result<Vec<u8>> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.outputs.is_empty() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("graph `{}` has no output, expected at least one", self.name),
            ));
        }
        let used = self
            .nodes
            .iter()
            .flat_map(|node| &node.inputs)
            .chain(self.outputs.iter().map(|(value, _)| value))
            .collect::<HashSet<_>>();
        let name_of = |value: Value| self.values.get(value.0).map(|(name, _)| name.clone()).unwrap_or_default();
        let nodes = self.nodes.iter().enumerate().map(|(index, node)| {
            // The outputs of an LSTM are optional: a run time need not keep those that nothing uses.
            let mut output = node
                .outputs
                .iter()
                .map(
                    |value| {
                        if node.op_type == "LSTM" && !used.contains(value) { String::new() } else { name_of(*value) }
                    },
                )
                .collect::<Vec<_>>();
            while output.last().is_some_and(String::is_empty) {
                output.pop();
            }
            pb::NodeProto {
                input: node.inputs.iter().map(|value| name_of(*value)).collect(),
                output,
                name: format!("{}_{index}", node.op_type),
                op_type: node.op_type.clone(),
                domain: node.domain.to_owned(),
                attribute: node.attributes.clone(),
                ..Default::default()
            }
        });
        let graph = pb::GraphProto {
            node: nodes.collect(),
            name: self.name.clone(),
            output: self.outputs.iter().map(|(value, shape)| value_info(&name_of(*value), shape)).collect(),
            initializer: self.initializers,
            input: self.inputs,
            ..Default::default()
        };
        let mut opset_import = vec![pb::OperatorSetIdProto { domain: String::new(), version: OPSET }];
        if self.nodes.iter().any(|node| node.domain == ML_DOMAIN.0) {
            opset_import.push(pb::OperatorSetIdProto { domain: ML_DOMAIN.0.to_owned(), version: ML_DOMAIN.1 });
        }
        let model = pb::ModelProto {
            ir_version: IR_VERSION,
            opset_import,
            producer_name: "moola".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(graph),
            metadata_props: self
                .metadata
                .into_iter()
                .map(|(key, value)| pb::StringStringEntryProto { key, value })
                .collect(),
            ..Default::default()
        };
        Ok(model.encode_to_vec())
    }
}

fn attribute(name: &str, value: &Attribute) -> pb::AttributeProto {
    use pb::attribute_proto::AttributeType;
    let mut proto = pb::AttributeProto { name: name.to_owned(), ..Default::default() };
    let kind = match value {
        Attribute::Int(number) => {
            proto.i = *number;
            AttributeType::Int
        }
        Attribute::Float(number) => {
            proto.f = *number;
            AttributeType::Float
        }
        Attribute::Str(text) => {
            proto.s = text.clone().into_bytes();
            AttributeType::String
        }
        Attribute::Ints(numbers) => {
            proto.ints.clone_from(numbers);
            AttributeType::Ints
        }
        Attribute::Floats(numbers) => {
            proto.floats.clone_from(numbers);
            AttributeType::Floats
        }
        Attribute::Strings(texts) => {
            proto.strings = texts.iter().map(|text| text.clone().into_bytes()).collect();
            AttributeType::Strings
        }
    };
    proto.set_type(kind);
    proto
}

fn value_info(name: &str, shape: &[Dim]) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension};
    let dim = shape.iter().map(|dim| Dimension {
        value: Some(match dim {
            Dim::Batch => dimension::Value::DimParam(BATCH.to_owned()),
            Dim::Fixed(size) => dimension::Value::DimValue(*size as i64),
        }),
        ..Default::default()
    });
    let tensor = pb::type_proto::Tensor {
        elem_type: pb::tensor_proto::DataType::Float as i32,
        shape: Some(pb::TensorShapeProto { dim: dim.collect() }),
    };
    pb::ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}
