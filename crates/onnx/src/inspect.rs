//! What an ONNX file contains, and whether it can be served.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use moola_core::{Error, ErrorKind, Result};
use prost::Message;
use serde::{Deserialize, Serialize};
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

use crate::lower::LOWERED;

/// Size of the largest file that is read.
pub const MAX_MODEL_BYTES: usize = 256 << 20;
/// Number of elements of the largest tensor.
pub const MAX_ELEMENTS: usize = 1 << 26;
/// Versions of the default operator set that can be served.
pub const OPSETS: RangeInclusive<i64> = 17..=23;
const MAX_NODES: usize = 50_000;
/// Largest integer attribute (a kernel width, a padding) of the default domain.
const MAX_ATTRIBUTE: u64 = 1 << 20;

/// An input or output as the file declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its element type in the words of ONNX (`float`, `int64` ...), `other` for sequences and maps.
    pub data_type: String,
    /// Its shape with the batch; `None` where a size is open. Empty where the file declares none.
    pub shape: Vec<Option<usize>>,
}

/// What an ONNX file contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The inputs, without constants.
    pub inputs: Vec<TensorInfo>,
    /// The outputs.
    pub outputs: Vec<TensorInfo>,
    /// Version of the default operator set; 0 where there is none.
    pub opset: i64,
    /// Version of the file format.
    pub ir_version: i64,
    /// Who wrote it, with the version.
    pub producer: String,
    /// Number of nodes by operator, those of nested graphs included.
    pub ops: BTreeMap<String, usize>,
    /// Number of floating-point numbers among the constants.
    pub num_parameters: u64,
    /// Size of the file.
    pub size_bytes: u64,
    /// The metadata of the file.
    pub metadata: BTreeMap<String, String>,
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

fn decode(bytes: &[u8]) -> Result<(pb::ModelProto, pb::GraphProto)> {
    if bytes.len() > MAX_MODEL_BYTES {
        return Err(invalid(format!("the model has {} bytes, expected at most {MAX_MODEL_BYTES}", bytes.len())));
    }
    let mut model = pb::ModelProto::decode(bytes)
        .map_err(|error| invalid("the bytes are no ONNX model, expected protobuf `ModelProto`").with_source(error))?;
    match model.graph.take() {
        Some(graph) => Ok((model, graph)),
        None => Err(invalid("the bytes are no ONNX model, expected a `ModelProto` with a graph")),
    }
}

/// Reads what a file contains. Accepts models that cannot be served.
///
/// # Errors
/// `Invalid` where the bytes are no ONNX model or exceed [`MAX_MODEL_BYTES`].
pub fn inspect(bytes: &[u8]) -> Result<ModelInfo> {
    let (model, graph) = decode(bytes)?;
    Ok(info_of(&model, &graph, bytes.len()))
}

/// Reads what a file contains and checks that it can be served: float32 inputs with the batch first, operators that
/// the native engine has, constants inside the file, sorted nodes, bounded sizes.
///
/// # Errors
/// `Invalid`, naming the input, node or tensor that is in the way.
pub fn check(bytes: &[u8]) -> Result<ModelInfo> {
    Ok(checked(bytes)?.0)
}

/// A model that passed the checks.
pub(crate) fn checked(bytes: &[u8]) -> Result<(ModelInfo, pb::ModelProto)> {
    let (mut model, graph) = decode(bytes)?;
    let info = info_of(&model, &graph, bytes.len());
    if !OPSETS.contains(&info.opset) {
        let expected = format!("{} to {}", OPSETS.start(), OPSETS.end());
        return Err(Error::invalid("opset", info.opset, expected).with_hint("export with `opset_version=17`"));
    }
    if let Some(function) = model.functions.first() {
        let name = function.name.clone().unwrap_or_default();
        return Err(invalid(format!("the model defines function `{name}`, expected operators alone")));
    }
    check_inputs(&info)?;
    let mut num_nodes = 0;
    check_graph(&graph, &HashSet::new(), &mut num_nodes, 0)?;
    check_outputs(&info)?;
    model.graph = Some(graph);
    Ok((info, model))
}

fn info_of(model: &pb::ModelProto, graph: &pb::GraphProto, size_bytes: usize) -> ModelInfo {
    let constants = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect::<HashSet<_>>();
    let mut ops = BTreeMap::new();
    count_ops(graph, &mut ops);
    let floats = [DataType::Float, DataType::Double, DataType::Float16, DataType::Bfloat16];
    let num_parameters = graph
        .initializer
        .iter()
        .filter(|tensor| floats.iter().any(|kind| *kind as i32 == tensor.data_type))
        .filter_map(|tensor| num_elements(&tensor.dims))
        .fold(0u64, |sum, number| sum.saturating_add(number as u64));
    ModelInfo {
        inputs: graph.input.iter().filter(|input| !constants.contains(input.name.as_str())).map(tensor_info).collect(),
        outputs: graph.output.iter().map(tensor_info).collect(),
        opset: default_opset(model),
        ir_version: model.ir_version,
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_owned(),
        ops,
        num_parameters,
        size_bytes: size_bytes as u64,
        metadata: model.metadata_props.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect(),
    }
}

fn default_opset(model: &pb::ModelProto) -> i64 {
    let import = model.opset_import.iter().find(|import| matches!(import.domain.as_str(), "" | "ai.onnx"));
    import.map_or(0, |import| import.version)
}

fn count_ops(graph: &pb::GraphProto, ops: &mut BTreeMap<String, usize>) {
    for node in &graph.node {
        *ops.entry(node.op_type.clone()).or_default() += 1;
        for nested in nested_graphs(node) {
            count_ops(nested, ops);
        }
    }
}

fn nested_graphs(node: &pb::NodeProto) -> impl Iterator<Item = &pb::GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

fn tensor_info(value: &pb::ValueInfoProto) -> TensorInfo {
    let tensor = value.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let Some(pb::type_proto::Value::TensorType(tensor)) = tensor else {
        return TensorInfo { name: value.name.clone(), data_type: "other".to_owned(), shape: Vec::new() };
    };
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim);
    let shape = dims.map(|dim| match &dim.value {
        Some(pb::tensor_shape_proto::dimension::Value::DimValue(size)) if *size > 0 => usize::try_from(*size).ok(),
        _ => None,
    });
    let data_type = DataType::try_from(tensor.elem_type).map_or("other", |kind| kind.as_str_name());
    TensorInfo { name: value.name.clone(), data_type: data_type.to_lowercase(), shape: shape.collect() }
}

/// Number of elements, `None` where a size is negative or the product is above [`MAX_ELEMENTS`].
fn num_elements(dims: &[i64]) -> Option<usize> {
    let product = dims.iter().try_fold(1usize, |product, &size| product.checked_mul(usize::try_from(size).ok()?))?;
    (product <= MAX_ELEMENTS).then_some(product)
}

fn check_inputs(info: &ModelInfo) -> Result<()> {
    if info.inputs.is_empty() {
        return Err(invalid("the model has no input, expected at least one"));
    }
    for input in &info.inputs {
        let name = &input.name;
        if input.data_type != "float" {
            return Err(invalid(format!(
                "input `{name}` is of type `{}`, expected `float` (float32)",
                input.data_type
            )));
        }
        let Some((batch, rest)) = input.shape.split_first() else {
            return Err(invalid(format!("input `{name}` has no shape, expected one that begins with the batch")));
        };
        if let Some(size) = batch.filter(|size| *size != 1) {
            return Err(invalid(format!("input `{name}` has a fixed batch of {size}, expected a dynamic batch or 1"))
                .with_hint("export with the first dimension dynamic (`dynamic_axes`, or `dynamic_shapes`)"));
        }
        let fixed = rest.iter().map(|size| size.unwrap_or(1) as i64).collect::<Vec<_>>();
        if num_elements(&fixed).is_none() {
            return Err(invalid(format!("input `{name}` has shape {rest:?}, expected at most {MAX_ELEMENTS} numbers")));
        }
    }
    Ok(())
}

fn check_outputs(info: &ModelInfo) -> Result<()> {
    if let Some(output) = info.outputs.iter().find(|output| output.data_type == "other") {
        return Err(zip_map(format!("output `{}` is a sequence or map, expected a tensor", output.name)));
    }
    if !info.outputs.iter().any(is_exposed) {
        return Err(invalid("the model has no output of type `float` or `double`, expected at least one"));
    }
    Ok(())
}

/// Whether callers get to see an output: labels and the like stay inside.
pub(crate) fn is_exposed(output: &TensorInfo) -> bool {
    matches!(output.data_type.as_str(), "float" | "double")
}

fn zip_map(message: String) -> Error {
    invalid(message).with_hint("export with `zipmap=False` (skl2onnx: `options={\"zipmap\": False}`)")
}

/// Operators that tract registers.
static OPERATORS: LazyLock<HashSet<String>> =
    LazyLock::new(|| tract_onnx::onnx().op_register.0.keys().cloned().collect());

fn check_graph(graph: &pb::GraphProto, outer: &HashSet<&str>, num_nodes: &mut usize, depth: usize) -> Result<()> {
    if let Some(sparse) = graph.sparse_initializer.first() {
        let name = sparse.values.as_ref().map_or("", |values| values.name.as_str());
        return Err(invalid(format!("constant `{name}` is sparse, expected a dense tensor")));
    }
    let mut known = outer.clone();
    let mut integers = HashMap::new();
    for tensor in &graph.initializer {
        check_tensor(&tensor.name, tensor)?;
        known.insert(&tensor.name);
        integers.insert(tensor.name.as_str(), tensor);
    }
    known.extend(graph.input.iter().map(|input| input.name.as_str()));
    let mut produced = HashSet::new();
    for node in &graph.node {
        *num_nodes += 1;
        if *num_nodes > MAX_NODES {
            return Err(invalid(format!("the model has more than {MAX_NODES} nodes, expected at most that")));
        }
        check_node(node, &known, num_nodes, depth)?;
        check_generator(node, &integers)?;
        if node.op_type == "Constant"
            && let (Some(tensor), Some(name)) =
                (node.attribute.iter().find_map(|attribute| attribute.t.as_ref()), node.output.first())
        {
            integers.insert(name, tensor);
        }
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if !produced.insert(output.as_str()) || (depth == 0 && known.contains(output.as_str())) {
                return Err(invalid(format!("value `{output}` is defined twice, expected once")));
            }
            known.insert(output);
        }
    }
    match graph.output.iter().find(|output| !known.contains(output.name.as_str())) {
        Some(output) => Err(invalid(format!("output `{}` is computed by no node", output.name))),
        None => Ok(()),
    }
}

pub(crate) fn node_name(node: &pb::NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name }
}

fn check_node(node: &pb::NodeProto, known: &HashSet<&str>, num_nodes: &mut usize, depth: usize) -> Result<()> {
    let (name, op_type) = (node_name(node), &node.op_type);
    let domain = if node.domain.is_empty() { "ai.onnx" } else { &node.domain };
    if op_type == "ZipMap" {
        return Err(zip_map(format!("node `{name}` is a `ZipMap`, which makes a sequence of maps, expected tensors")));
    }
    let is_lowered = depth == 0 && domain == "ai.onnx.ml" && LOWERED.contains(&op_type.as_str());
    if !(is_lowered || matches!(domain, "ai.onnx" | "ai.onnx.ml" | "com.microsoft") && OPERATORS.contains(op_type)) {
        return Err(invalid(format!(
            "node `{name}` uses operator `{op_type}` of domain `{domain}`, which the native engine lacks"
        )));
    }
    if let Some(input) = node.input.iter().find(|input| !input.is_empty() && !known.contains(input.as_str())) {
        return Err(invalid(format!("node `{name}` reads `{input}`, expected a value that is defined before it")));
    }
    if node.output.iter().all(String::is_empty) {
        return Err(invalid(format!("node `{name}` (`{op_type}`) has no output, expected at least one")));
    }
    for attribute in &node.attribute {
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            check_tensor(name, tensor)?;
        }
        let mut numbers = attribute.ints.iter().chain([&attribute.i]);
        if domain == "ai.onnx"
            && op_type != "Constant"
            && let Some(number) = numbers.find(|number| number.unsigned_abs() > MAX_ATTRIBUTE)
        {
            let attribute = &attribute.name;
            return Err(invalid(format!(
                "attribute `{attribute}` of node `{name}` is `{number}`, expected at most {MAX_ATTRIBUTE}"
            )));
        }
    }
    for nested in nested_graphs(node) {
        check_graph(nested, known, num_nodes, depth + 1)?;
    }
    match op_type.as_str() {
        "TreeEnsembleClassifier" => check_trees(node, "class"),
        "TreeEnsembleRegressor" => check_trees(node, "target"),
        _ => Ok(()),
    }
}

/// Checks that every walk through the trees ends inside them: tract (0.23) follows the numbers of the file unchecked.
fn check_trees(node: &pb::NodeProto, leaves: &str) -> Result<()> {
    let ints = |name: &str| {
        let attribute = node.attribute.iter().find(|it| it.name == name);
        attribute.map(|it| it.ints.as_slice()).unwrap_or_default()
    };
    let wrong = |what: &str| invalid(format!("node `{}` (`{}`) has {what}", node_name(node), node.op_type));
    let (trees, nodes) = (ints("nodes_treeids"), ints("nodes_nodeids"));
    let (yes, no) = (ints("nodes_truenodeids"), ints("nodes_falsenodeids"));
    let modes = node.attribute.iter().find(|it| it.name == "nodes_modes").map(|it| it.strings.as_slice());
    let modes = modes.unwrap_or_default();
    if trees.is_empty() || [nodes.len(), yes.len(), no.len(), modes.len()].iter().any(|len| *len != trees.len()) {
        return Err(wrong("node attributes of different lengths, expected one entry per tree node in each"));
    }
    let mut num_nodes = HashMap::<i64, i64>::new();
    for (tree, id) in trees.iter().zip(nodes) {
        let count = num_nodes.entry(*tree).or_default();
        if id != count {
            return Err(wrong("tree nodes out of order, expected the node ids 0, 1, 2 .. in each tree"));
        }
        *count += 1;
    }
    for (index, (tree, id)) in trees.iter().zip(nodes).enumerate() {
        let inside = id + 1..num_nodes[tree];
        if modes[index] != b"LEAF" && !(inside.contains(&yes[index]) && inside.contains(&no[index])) {
            return Err(wrong("a branch that leaves its tree, expected children that come after their parent"));
        }
    }
    let labels = node.attribute.iter().find(|it| it.name == "classlabels_strings").map_or(0, |it| it.strings.len());
    let num_scores = match leaves {
        "class" => ints("classlabels_int64s").len().max(labels) as i64,
        _ => node.attribute.iter().find(|it| it.name == "n_targets").map_or(0, |it| it.i),
    };
    if ints(&format!("{leaves}_ids")).iter().any(|id| !(0..num_scores).contains(id)) {
        return Err(wrong("a leaf for an unknown class or target, expected one of those that it declares"));
    }
    Ok(())
}

fn check_tensor(owner: &str, tensor: &pb::TensorProto) -> Result<()> {
    if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
        return Err(invalid(format!("tensor `{owner}` keeps its data in another file, expected it inside the model"))
            .with_hint("save as one file (`onnx.save_model(..., save_as_external_data=False)`)"));
    }
    let dims = &tensor.dims;
    let Some(number) = num_elements(dims) else {
        return Err(invalid(format!("tensor `{owner}` has shape {dims:?}, expected at most {MAX_ELEMENTS} elements")));
    };
    let kind = DataType::try_from(tensor.data_type)
        .map_err(|error| invalid(format!("tensor `{owner}` has an unknown type")).with_source(error))?;
    let width = match kind {
        DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        DataType::Float16 | DataType::Int16 | DataType::Uint16 => 2,
        DataType::Int8 | DataType::Uint8 | DataType::Bool => 1,
        DataType::String if tensor.raw_data.is_empty() => return Ok(()),
        _ => {
            let kind = kind.as_str_name().to_lowercase();
            return Err(invalid(format!("tensor `{owner}` is of type `{kind}`, which the native engine lacks")));
        }
    };
    if !tensor.raw_data.is_empty() && tensor.raw_data.len() != number * width {
        let len = tensor.raw_data.len();
        return Err(invalid(format!(
            "tensor `{owner}` holds {len} bytes, its shape {dims:?} needs {}",
            number * width
        )));
    }
    Ok(())
}

/// Refuses operators that would make a huge tensor from a small constant.
fn check_generator(node: &pb::NodeProto, constants: &HashMap<&str, &pb::TensorProto>) -> Result<()> {
    if !matches!(node.op_type.as_str(), "ConstantOfShape" | "Expand" | "Tile" | "Range" | "Pad" | "OneHot" | "Resize") {
        return Ok(());
    }
    for input in &node.input {
        let Some(tensor) = constants.get(input.as_str()).filter(|tensor| tensor.data_type == DataType::Int64 as i32)
        else {
            continue;
        };
        let raw = tensor.raw_data.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap_or_default()));
        let sizes = raw.chain(tensor.int64_data.iter().copied()).map(|size| size.unsigned_abs().max(1) as usize);
        let product = sizes.fold(1usize, usize::saturating_mul);
        if product > MAX_ELEMENTS {
            let (name, op_type) = (node_name(node), &node.op_type);
            return Err(invalid(format!(
                "node `{name}` (`{op_type}`) makes a tensor of more than {MAX_ELEMENTS} elements, expected at most that"
            )));
        }
    }
    Ok(())
}
