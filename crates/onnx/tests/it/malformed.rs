//! Files that are not what they should be: refused, never a panic.

use moola_core::ErrorKind;
use moola_core::ports::{Artifact, Engine};
use moola_onnx::{TractEngine, check, inspect};
use proptest::prelude::*;
use prost::Message;
use tract_onnx::pb;

use crate::fixtures::read;

const FIXTURES: [&str; 5] = [
    "torch_style_mlp.onnx",
    "torch_style_lstm.onnx",
    "sklearn_logistic.onnx",
    "sklearn_mlp.onnx",
    "sklearn_boosting_regressor.onnx",
];

/// Loads and runs; only the absence of panics and the kind of the error count.
fn try_all(bytes: &[u8]) {
    if let Err(error) = inspect(bytes) {
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    match TractEngine.load(&Artifact::onnx(), bytes) {
        Ok(model) => {
            let inputs = model.inputs().iter().map(|(_, shape)| {
                let shape = std::iter::once(1).chain(shape.iter().map(|size| size.unwrap_or(1))).collect::<Vec<_>>();
                crate::tensor(&shape, vec![0.5; shape.iter().product()])
            });
            let inputs = inputs.collect::<Vec<_>>();
            // A flipped weight or size may load and fail or answer nonsense: it may not panic.
            drop(model.run(inputs));
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{error}"),
    }
}

fn edited(name: &str, edit: impl Fn(&mut pb::ModelProto)) -> moola_core::Error {
    let mut model = pb::ModelProto::decode(&*read(name)).unwrap();
    edit(&mut model);
    let bytes = model.encode_to_vec();
    let error = TractEngine.load(&Artifact::onnx(), &bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(check(&bytes).unwrap_err().to_string(), error.to_string());
    error
}

fn graph(model: &mut pb::ModelProto) -> &mut pb::GraphProto {
    model.graph.as_mut().unwrap()
}

fn input_type(model: &mut pb::ModelProto) -> &mut pb::type_proto::Tensor {
    let kind = graph(model).input[0].r#type.as_mut().unwrap();
    let pb::type_proto::Value::TensorType(tensor) = kind.value.as_mut().unwrap();
    tensor
}

#[test]
fn emptiness_and_text_are_refused() {
    for bytes in [&b""[..], b"not a model", b"\x00", &[0xff; 64]] {
        assert_eq!(inspect(bytes).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(TractEngine.load(&Artifact::onnx(), bytes).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn external_data_is_refused() {
    let error = edited("torch_style_mlp.onnx", |model| {
        let tensor = &mut graph(model).initializer[0];
        tensor.raw_data.clear();
        tensor.data_location = Some(pb::tensor_proto::DataLocation::External as i32);
        tensor.external_data =
            vec![pb::StringStringEntryProto { key: "location".to_owned(), value: "../../../../etc/passwd".to_owned() }];
    });
    assert!(error.to_string().contains("`net.0.weight` keeps its data in another file"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn inputs_that_are_no_float32_are_refused() {
    for (kind, name) in [(pb::tensor_proto::DataType::Double, "double"), (pb::tensor_proto::DataType::Int64, "int64")] {
        let error = edited("torch_style_mlp.onnx", |model| input_type(model).elem_type = kind as i32);
        let expected = format!("input `input` is of type `{name}`, expected `float` (float32)");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn structure_is_checked() {
    let name = "torch_style_mlp.onnx";
    let says = |text: &str, edit: fn(&mut pb::ModelProto)| {
        let error = edited(name, edit);
        assert!(error.to_string().contains(text), "{error}");
    };
    says("`opset` is `11`", |model| model.opset_import[0].version = 11);
    says("`opset` is `0`", |model| model.opset_import.clear());
    says("tensor `net.0.weight` has shape", |model| graph(model).initializer[0].dims = vec![1 << 40, 1 << 40]);
    says("tensor `net.0.weight` has shape", |model| graph(model).initializer[0].dims = vec![-1, 6]);
    says("holds 384 bytes", |model| graph(model).initializer[0].dims = vec![16, 7]);
    says("is computed by no node", |model| graph(model).output[0].name = "elsewhere".to_owned());
    says("expected a value that is defined before it", |model| graph(model).node.reverse());
    says("is defined twice", |model| {
        let node = graph(model).node[0].clone();
        graph(model).node.push(node);
    });
    says("has no shape", |model| input_type(model).shape = None);
    says("has no input", |model| graph(model).input.clear());
    says("defines function", |model| model.functions.push(pb::FunctionProto::default()));
}

#[test]
fn trees_that_lead_outside_are_refused() {
    let says = |text: &str, name: &'static str, value: i64| {
        let error = edited("sklearn_boosting_regressor.onnx", |model| {
            let attributes = &mut graph(model).node[0].attribute;
            attributes.iter_mut().find(|it| it.name == name).unwrap().ints[0] = value;
        });
        assert!(error.to_string().contains(text), "{error}");
    };
    says("a branch that leaves its tree", "nodes_truenodeids", 1 << 20);
    says("a branch that leaves its tree", "nodes_falsenodeids", 0);
    says("tree nodes out of order", "nodes_nodeids", 3);
    says("unknown class or target", "target_ids", 1);
    says("unknown class or target", "target_ids", -1);
}

#[test]
fn truncated_models_are_refused() {
    for name in FIXTURES {
        let bytes = read(name);
        for len in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            try_all(&bytes[..len]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        try_all(&bytes);
    }

    #[test]
    fn flipped_bits_never_panic(
        fixture in 0..FIXTURES.len(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4),
    ) {
        let mut bytes = read(FIXTURES[fixture]);
        for (place, bit) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
        }
        try_all(&bytes);
    }
}
