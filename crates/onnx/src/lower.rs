//! Rewrites nodes that tract (0.23) lacks into ones that it has.

use moola_core::Result;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use crate::inspect::{invalid, node_name};

/// Operators of `ai.onnx.ml` that [`lower_ml`] rewrites.
pub(crate) const LOWERED: [&str; 2] = ["Scaler", "TreeEnsembleRegressor"];

/// Rewrites the operators of [`LOWERED`] in the main graph.
///
/// - `Scaler`: `(x - offset) * scale`.
/// - `TreeEnsembleRegressor`: the scores of a `TreeEnsembleClassifier` with a class per target. Two classes more keep
///   tract from completing the scores of a binary classifier; they are cut off again.
///
/// The one base value of a binary `TreeEnsembleClassifier` is completed.
pub(crate) fn lower_ml(model: &mut pb::ModelProto) -> Result<()> {
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let mut nodes = Vec::with_capacity(graph.node.len());
    for (index, node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
        let prefix = format!("moola.ml.{index}");
        match (node.op_type.as_str(), node.input.first(), node.output.first()) {
            ("Scaler", Some(x), Some(y)) => {
                for name in ["offset", "scale"] {
                    let numbers = floats(&node, name);
                    if numbers.is_empty() {
                        let node = node_name(&node);
                        return Err(invalid(format!("attribute `{name}` of node `{node}` is empty, expected numbers")));
                    }
                    graph.initializer.push(pb::TensorProto {
                        dims: vec![numbers.len() as i64],
                        data_type: DataType::Float as i32,
                        name: format!("{prefix}.{name}"),
                        float_data: numbers,
                        ..Default::default()
                    });
                }
                let centred = format!("{prefix}.centred");
                nodes.push(new_node("Sub", vec![x.clone(), format!("{prefix}.offset")], &centred));
                nodes.push(new_node("Mul", vec![centred, format!("{prefix}.scale")], y));
            }
            ("TreeEnsembleRegressor", Some(x), Some(y)) => {
                let num_targets = int(&node, "n_targets").filter(|number| (1..=1024).contains(number));
                let text = |name: &str| node.attribute.iter().find(|it| it.name == name).map(|it| it.s.as_slice());
                let is_sum = matches!(text("aggregate_function"), None | Some(b"SUM"));
                let is_plain = matches!(text("post_transform"), None | Some(b"NONE"));
                let (Some(num_targets), true, true) = (num_targets, is_sum, is_plain) else {
                    let name = node_name(&node);
                    return Err(invalid(format!(
                        "node `{name}` (`TreeEnsembleRegressor`) has an aggregate, transform or number of targets that \
                         the native engine lacks, expected `SUM`, `NONE` and 1 to 1024"
                    )));
                };
                let scores = format!("{prefix}.scores");
                nodes.push(classifier_of(&node, x, &prefix, &scores, num_targets));
                for (name, number) in [("start", 0), ("end", num_targets), ("axis", 1)] {
                    graph.initializer.push(size_tensor(format!("{prefix}.{name}"), number));
                }
                let inputs = ["start", "end", "axis"].iter().map(|name| format!("{prefix}.{name}"));
                nodes.push(new_node("Slice", [scores].into_iter().chain(inputs).collect(), y));
            }
            ("TreeEnsembleClassifier", ..) => nodes.push(complete_base_values(node)),
            _ => nodes.push(node),
        }
    }
    graph.node = nodes;
    Ok(())
}

/// Completes the one base value of a binary classifier: tract wants one per class, and reads the first.
fn complete_base_values(mut node: pb::NodeProto) -> pb::NodeProto {
    let count =
        |name: &str| node.attribute.iter().find(|it| it.name == name).map_or(0, |it| it.ints.len() + it.strings.len());
    let num_classes = count("classlabels_int64s").max(count("classlabels_strings"));
    for attribute in node.attribute.iter_mut().filter(|it| it.name == "base_values") {
        if num_classes == 2 && attribute.floats.len() == 1 {
            attribute.floats.push(0.0);
        }
    }
    node
}

fn classifier_of(node: &pb::NodeProto, x: &str, prefix: &str, scores: &str, num_targets: i64) -> pb::NodeProto {
    let num_classes = num_targets + 2;
    let mut classifier = new_node("TreeEnsembleClassifier", vec![x.to_owned()], scores);
    classifier.domain = "ai.onnx.ml".to_owned();
    classifier.output = vec![format!("{prefix}.label"), scores.to_owned()];
    for attribute in &node.attribute {
        let mut attribute = attribute.clone();
        match attribute.name.as_str() {
            "n_targets" | "aggregate_function" => continue,
            "base_values" => attribute.floats.resize(num_classes as usize, 0.0),
            _ => {}
        }
        if let Some(name) = attribute.name.strip_prefix("target_") {
            attribute.name = format!("class_{name}");
        }
        classifier.attribute.push(attribute);
    }
    let mut labels = pb::AttributeProto {
        name: "classlabels_int64s".to_owned(),
        ints: (0..num_classes).collect(),
        ..Default::default()
    };
    labels.set_type(AttributeType::Ints);
    classifier.attribute.push(labels);
    classifier
}

fn floats(node: &pb::NodeProto, name: &str) -> Vec<f32> {
    node.attribute.iter().find(|it| it.name == name).map(|it| it.floats.clone()).unwrap_or_default()
}

fn int(node: &pb::NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|it| it.name == name).map(|it| it.i)
}

fn size_tensor(name: String, size: i64) -> pb::TensorProto {
    pb::TensorProto {
        dims: vec![1],
        data_type: DataType::Int64 as i32,
        name,
        int64_data: vec![size],
        ..Default::default()
    }
}

fn new_node(op_type: &str, inputs: Vec<String>, output: &str) -> pb::NodeProto {
    pb::NodeProto {
        op_type: op_type.to_owned(),
        name: output.to_owned(),
        input: inputs,
        output: vec![output.to_owned()],
        ..Default::default()
    }
}
