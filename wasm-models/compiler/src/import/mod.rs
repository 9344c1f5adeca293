//! Reads ONNX into the IR.
//!
//! The graph is imported with a concrete number of rows, so every shape is known: what ONNX computes of shapes is folded away as
//! constants, and what only moves numbers becomes a view.

mod attributes;
mod blocks;
mod builder;
mod conv;
mod elementwise;
mod linear;
mod ml;
mod movement;
mod normalize;
mod quantize;
mod recurrent;
mod reduce;
mod shape;
mod tensor;
mod trees;
mod types;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use prost::Message as _;

use crate::error::{CompileError, Result};
use crate::ir::{DType, Data, Graph, Operand};
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
    let limits = [
        ("nodes", graph.node.len(), MAX_NODES),
        ("inputs", graph.input.len(), MAX_NODES),
        ("outputs", graph.output.len(), MAX_PORTS),
    ];
    for (what, count, limit) in limits {
        if count > limit {
            return Err(CompileError::model(format!("the model has {count} {what}, expected at most {limit}")));
        }
    }
    if graph.output.is_empty() {
        return Err(CompileError::model("the model has no output"));
    }
    let opsets: HashMap<String, i64> = model
        .opset_import
        .iter()
        .map(|set| (if set.domain == "ai.onnx" { String::new() } else { set.domain.clone() }, set.version))
        .collect();
    let source = Source::new(graph, opsets, inputs(graph, options)?)?;
    let inputs = &source.inputs;
    if inputs.len() > MAX_PORTS {
        return Err(CompileError::model(format!(
            "the model has {} inputs, expected at most {MAX_PORTS}",
            inputs.len()
        )));
    }
    if let Some(name) = options.input_shapes.keys().find(|name| inputs.iter().all(|input| input.name != **name)) {
        return Err(CompileError::model(format!("the options give a shape of `{name}`, which is no input")));
    }
    let is_open = !inputs.is_empty() && inputs.iter().all(|input| input.is_open);
    let other = |input: &&Input| !input.is_open && input.shape.first() != Some(&1);
    if let (Some(open), Some(other)) = (inputs.iter().find(|input| input.is_open), inputs.iter().find(other)) {
        return Err(CompileError::model(format!(
            "input `{}` leaves its first dimension open, but input `{}` has the fixed shape {:?}, \
             expected rows first in all inputs, or shapes in the options",
            open.name, other.name, other.shape
        )));
    }
    // A file that fixes its batch to one answers row by row.
    let (single, labels) = source.import(1)?;
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
        let (block, _) = source.import(ROWS_PER_BLOCK)?;
        blocks::check(&single, &block, ROWS_PER_BLOCK)?;
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
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let declared = graph.input.iter().filter(|input| !constants.contains(input.name.as_str()));
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
    let given = options.input_shapes.get(name);
    let shape = match (&tensor.shape, given) {
        (None, Some(given)) => given.clone(),
        (None, None) => return Err(wrong("has no shape, expected one, or one in the options".into())),
        (Some(shape), Some(given)) => {
            let fits = |dim: &onnx::Dimension, size: &usize| match dim.value {
                Some(onnx::DimensionValue::Size(fixed)) if fixed >= 0 => fixed as usize == *size,
                _ => true,
            };
            if shape.dim.len() != given.len() || !shape.dim.iter().zip(given).all(|(dim, size)| fits(dim, size)) {
                return Err(wrong(format!("has another shape than {given:?}, which the options give")));
            }
            given.clone()
        }
        (Some(shape), None) => {
            let mut sizes = Vec::new();
            for (axis, dim) in shape.dim.iter().enumerate() {
                match &dim.value {
                    Some(onnx::DimensionValue::Size(size)) if *size >= 0 => sizes.push(*size as usize),
                    // Some exporters write -1 for a size that is open.
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
        }
    };
    builder::check_shape(&shape).map_err(wrong)?;
    Ok(Input { name: name.clone(), dtype, shape, is_open })
}

/// Most nodes of a graph, those of chosen branches included: planning takes the square of it.
pub(crate) const MAX_NODES: usize = 10_000;

/// Most inputs, and most outputs.
const MAX_PORTS: usize = 1_000;

type Labels = HashMap<String, Vec<String>>;

/// A graph whose weights are read, for any number of rows.
struct Source<'a> {
    graph: &'a onnx::Graph,
    opsets: HashMap<String, i64>,
    inputs: Vec<Input>,
    /// Names that an output needs.
    used: HashSet<String>,
    weights: Vec<(&'a str, Vec<usize>, Arc<Data>)>,
}

impl<'a> Source<'a> {
    fn new(graph: &'a onnx::Graph, opsets: HashMap<String, i64>, inputs: Vec<Input>) -> Result<Self> {
        let used = used(graph);
        let mut weights = Vec::new();
        for tensor in graph.initializer.iter().filter(|tensor| used.contains(&tensor.name)) {
            let (shape, data) = tensor::read(tensor)?;
            weights.push((tensor.name.as_str(), shape, Arc::new(data)));
        }
        Ok(Self { graph, opsets, inputs, used, weights })
    }

    fn import(&self, rows: usize) -> Result<(Graph, Labels)> {
        let mut builder = Builder::new(self.opsets.clone());
        builder.used.clone_from(&self.used);
        for (name, shape, data) in &self.weights {
            let operand = builder.share(name, shape, data);
            builder.define(name, operand)?;
        }
        for input in &self.inputs {
            let mut shape = input.shape.clone();
            if input.is_open {
                shape[0] = rows;
            }
            let id = builder.graph.add_value(&input.name, input.dtype, &shape)?;
            builder.graph.inputs.push(id);
            builder.define(&input.name, Operand::whole(id, &shape))?;
        }
        import_nodes(&mut builder, &self.graph.node)?;
        for output in &self.graph.output {
            let operand = builder.find(&output.name)?;
            check_declared_type(&builder, output, builder.graph.dtype(&operand))?;
            let id = builder.materialized(&output.name, &operand)?;
            builder.graph.outputs.push((output.name.clone(), id));
        }
        Ok((builder.graph, builder.labels))
    }
}

/// Checks that an output is of the type that the file declares. Labels that are text are numbers here.
fn check_declared_type(builder: &Builder, output: &onnx::ValueInfo, dtype: DType) -> Result<()> {
    let declared = output.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()).map_or(0, |it| it.elem_type);
    if declared == 0 || tensor::dtype(declared) == Some(dtype) || builder.labels.contains_key(&output.name) {
        return Ok(());
    }
    let name = &output.name;
    let kind = tensor::dtype(declared).map_or(format!("of type {declared}"), |dtype| dtype.name().into());
    Err(CompileError::model(format!("output `{name}` is declared {kind}, but it is {}", dtype.name())))
}

/// The names that the outputs of a graph need. A node with subgraphs needs all that they read.
fn used(graph: &onnx::Graph) -> HashSet<String> {
    let writers: HashMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(index, node)| node.output.iter().map(move |name| (name.as_str(), index)))
        .filter(|(name, _)| !name.is_empty())
        .collect();
    let mut is_read = vec![false; graph.node.len()];
    let mut used = HashSet::new();
    let mut open: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    while let Some(name) = open.pop() {
        if !used.insert(name.to_owned()) {
            continue;
        }
        if let Some(&index) = writers.get(name)
            && !std::mem::replace(&mut is_read[index], true)
        {
            read(&graph.node[index], &mut open);
        }
    }
    used.remove("");
    used
}

/// The names that a node reads, those of its subgraphs included.
fn read<'a>(node: &'a onnx::Node, names: &mut Vec<&'a str>) {
    names.extend(node.input.iter().map(String::as_str));
    for graph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
        names.extend(graph.output.iter().map(|output| output.name.as_str()));
        graph.node.iter().for_each(|node| read(node, names));
    }
}

/// Imports those nodes that an output needs.
fn import_nodes(builder: &mut Builder, nodes: &[onnx::Node]) -> Result<()> {
    for node in nodes {
        let Some(last) = node.output.iter().rposition(|name| builder.used.contains(name)) else { continue };
        builder.num_nodes += 1;
        if builder.num_nodes.max(builder.graph.nodes.len()) > MAX_NODES {
            let reason = format!("the model has more than {MAX_NODES} nodes with those of its branches");
            return Err(CompileError::model(reason));
        }
        let call = Call::new(node, builder)?;
        let at = |error: CompileError| error.at(&call.name, &node.op_type);
        let outputs = import_node(builder, &call).map_err(at)?;
        if outputs.len() <= last {
            return Err(call.error(format!("output {} is not lowered", outputs.len())));
        }
        for (name, output) in node.output.iter().zip(outputs).filter(|(name, _)| !name.is_empty()) {
            builder.define(name, output).map_err(at)?;
        }
    }
    Ok(())
}

/// Imports a branch of an `If` whose condition is known.
fn import_branch(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Operand>> {
    let Some(Data::Bool(condition)) = builder.graph.constant(call.input(0)?) else {
        return Err(call.error("the condition is computed, expected a constant"));
    };
    let branch = if condition.first() == Some(&true) { "then_branch" } else { "else_branch" };
    let graph = call.graph(branch).ok_or_else(|| call.error(format!("`{branch}` is missing")))?;
    builder.scoped(|builder| {
        builder.used.extend(used(graph));
        for tensor in graph.initializer.iter().filter(|tensor| !tensor.name.is_empty()) {
            let (shape, data) = tensor::read(tensor)?;
            let operand = builder.share(&tensor.name, &shape, &Arc::new(data));
            builder.define(&tensor.name, operand)?;
        }
        import_nodes(builder, &graph.node)?;
        graph.output.iter().map(|output| builder.find(&output.name)).collect()
    })
}

/// Lowers a node and returns its outputs.
fn import_node(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Operand>> {
    if (call.domain, call.op) == ("", "If") {
        return import_branch(builder, call);
    }
    type Import = fn(&mut Builder, &Call<'_>) -> Result<Option<Vec<Operand>>>;
    let families: &[Import] = match call.domain {
        "" => &[
            elementwise::import,
            shape::import,
            movement::import,
            linear::import,
            reduce::import,
            normalize::import,
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
