//! Reads ONNX into the IR.
//!
//! The graph is imported with a concrete number of rows, so every shape is known: what ONNX computes of shapes is folded away as
//! constants, and what only moves numbers becomes a view.

mod attributes;
mod builder;
mod conv;
mod elementwise;
mod linear;
mod ml;
mod quantize;
mod recurrent;
mod reduce;
mod shape;
mod tensor;
mod trees;

use std::collections::HashMap;

use prost::Message as _;

use crate::error::{CompileError, Result};
use crate::ir::{DType, Graph, Operand, num_elements};
use crate::onnx;
use crate::{Options, ROWS_PER_BLOCK};

pub(crate) use attributes::Call;
pub(crate) use builder::Builder;

/// An input or output of the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    /// Of a row where the interface has rows, else of the whole.
    pub(crate) shape: Vec<usize>,
    /// Texts that the numbers of this output index.
    pub(crate) labels: Vec<String>,
}

/// What a caller sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    /// Whether the first dimension of every input and output is the number of rows.
    pub(crate) has_rows: bool,
}

/// A model, once for each number of rows.
#[derive(Debug)]
pub(crate) struct Imported {
    /// Largest number of rows first, 1 last.
    pub(crate) graphs: Vec<(usize, Graph)>,
    pub(crate) interface: Interface,
}

/// Reads a model.
pub(crate) fn import(bytes: &[u8], options: &Options) -> Result<Imported> {
    let model = onnx::Model::decode(bytes).map_err(|error| CompileError::model(format!("no ONNX model: {error}")))?;
    if let Some(function) = model.functions.first() {
        let name = &function.name;
        return Err(CompileError::model(format!(
            "the model defines the function `{name}`, expected built-in operators"
        )));
    }
    let graph = model.graph.as_ref().ok_or_else(|| CompileError::model("the model has no graph"))?;
    let opsets: HashMap<String, i64> = model
        .opset_import
        .iter()
        .map(|set| (if set.domain == "ai.onnx" { String::new() } else { set.domain.clone() }, set.version))
        .collect();
    let inputs = inputs(graph, options)?;
    let is_open = !inputs.is_empty() && inputs.iter().all(|input| input.is_open);
    // A file that fixes its batch to one answers row by row.
    let (single, labels) = import_rows(graph, &opsets, &inputs, 1)?;
    let first_is_one = |shape: &[usize]| shape.first() == Some(&1);
    let is_row_shaped = inputs.iter().all(|input| first_is_one(&input.shape))
        && single.outputs.iter().all(|(_, id)| first_is_one(&single.value(*id).shape));
    let has_rows = !inputs.is_empty() && (is_open || is_row_shaped);
    if is_open && !is_row_shaped {
        return Err(CompileError::model(
            "the inputs leave their first dimension open, but not every output has it as its first, expected the rows first",
        ));
    }
    let port = |name: &str, id: crate::ir::ValueId, labels: Vec<String>| {
        let value = single.value(id);
        let shape = if has_rows { value.shape[1..].to_vec() } else { value.shape.clone() };
        Port { name: name.to_owned(), dtype: value.dtype, shape, labels }
    };
    let interface = Interface {
        inputs: inputs.iter().zip(&single.inputs).map(|(input, id)| port(&input.name, *id, Vec::new())).collect(),
        outputs: single
            .outputs
            .iter()
            .map(|(name, id)| port(name, *id, labels.get(name).cloned().unwrap_or_default()))
            .collect(),
        has_rows,
    };
    let mut graphs = Vec::new();
    if is_open {
        let (block, _) = import_rows(graph, &opsets, &inputs, ROWS_PER_BLOCK)?;
        crate::passes::rows::check(&block, ROWS_PER_BLOCK)?;
        graphs.push((ROWS_PER_BLOCK, block));
    }
    graphs.push((1, single));
    Ok(Imported { graphs, interface })
}

/// An input as the file declares it; an open first dimension stands as 1.
struct Input {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    is_open: bool,
}

fn inputs(graph: &onnx::Graph, options: &Options) -> Result<Vec<Input>> {
    let is_constant = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    let declared = graph.input.iter().filter(|input| !is_constant(&input.name));
    declared.map(|input| declared_input(input, options)).collect()
}

fn declared_input(input: &onnx::ValueInfo, options: &Options) -> Result<Input> {
    let name = &input.name;
    let wrong = |reason: String| CompileError::model(format!("input `{name}` {reason}"));
    let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let tensor = tensor.ok_or_else(|| wrong("is no tensor".into()))?;
    let dtype = tensor::dtype(tensor.elem_type)
        .ok_or_else(|| wrong(format!("has type {}, expected {}", tensor.elem_type, tensor::ACCEPTED)))?;
    let mut is_open = false;
    let shape = if let Some(given) = options.input_shapes.get(name) {
        given.clone()
    } else {
        let shape =
            tensor.shape.as_ref().ok_or_else(|| wrong("has no shape, expected one, or one in the options".into()))?;
        let mut sizes = Vec::new();
        for (axis, dim) in shape.dim.iter().enumerate() {
            match &dim.value {
                Some(onnx::DimensionValue::Size(size)) if *size > 0 => sizes.push(*size as usize),
                _ if axis == 0 => {
                    is_open = true;
                    sizes.push(1);
                }
                other => {
                    let open = match other {
                        Some(onnx::DimensionValue::Symbol(symbol)) => format!("`{symbol}`"),
                        Some(onnx::DimensionValue::Size(size)) => size.to_string(),
                        None => "nothing".into(),
                    };
                    return Err(wrong(format!(
                        "has {open} as dimension {axis}, expected a size (only the first may be open), or a shape in the options"
                    )));
                }
            }
        }
        sizes
    };
    if num_elements(&shape).is_none() {
        return Err(wrong(format!("has shape {shape:?}, expected at most {} elements", crate::ir::MAX_ELEMENTS)));
    }
    Ok(Input { name: name.clone(), dtype, shape, is_open })
}

type Labels = HashMap<String, Vec<String>>;

fn import_rows(
    graph: &onnx::Graph,
    opsets: &HashMap<String, i64>,
    inputs: &[Input],
    rows: usize,
) -> Result<(Graph, Labels)> {
    let mut builder = Builder::new(opsets.clone());
    for tensor in &graph.initializer {
        let (shape, data) = tensor::read(tensor)?;
        let id = builder.graph.add_constant(&tensor.name, &shape, data)?;
        builder.define(&tensor.name, Operand::whole(id, &shape))?;
    }
    for input in inputs {
        let mut shape = input.shape.clone();
        if input.is_open {
            shape[0] = rows;
        }
        let id = builder.graph.add_value(&input.name, input.dtype, &shape)?;
        builder.graph.inputs.push(id);
        builder.define(&input.name, Operand::whole(id, &shape))?;
    }
    for node in &graph.node {
        let call = Call::new(node, &builder)?;
        let outputs = import_node(&mut builder, &call).map_err(|error| error.at(&call.name, &node.op_type))?;
        if outputs.len() < node.output.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1) {
            let reason = format!("output {} is not lowered", outputs.len());
            return Err(CompileError::node(&call.name, reason).at(&call.name, &node.op_type));
        }
        for (name, output) in node.output.iter().zip(outputs).filter(|(name, _)| !name.is_empty()) {
            builder.define(name, output).map_err(|error| error.at(&call.name, &node.op_type))?;
        }
    }
    for output in &graph.output {
        let operand = builder.find(&output.name)?;
        let id = builder.materialized(&output.name, &operand)?;
        builder.graph.outputs.push((output.name.clone(), id));
    }
    Ok((builder.graph, builder.labels))
}

/// Lowers a node and returns its outputs.
fn import_node(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Operand>> {
    type Import = fn(&mut Builder, &Call<'_>) -> Result<Option<Vec<Operand>>>;
    let families: &[Import] = match call.domain {
        "" => &[
            elementwise::import,
            shape::import,
            linear::import,
            reduce::import,
            conv::import,
            recurrent::import,
            quantize::import,
        ],
        "ai.onnx.ml" => &[ml::import, trees::import],
        _ => &[],
    };
    for import in families {
        if let Some(outputs) = import(builder, call)? {
            return Ok(outputs);
        }
    }
    let domain = if call.domain.is_empty() { "ai.onnx" } else { call.domain };
    Err(CompileError::node(&call.name, format!("operator of domain `{domain}` is not lowered")))
}
