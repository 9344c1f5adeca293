//! Models of scikit-learn and in the style of PyTorch against onnxruntime's answers: `tests/fixtures/onnx`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use moola_core::ErrorKind;
use moola_core::ports::{Artifact, Engine, Tensor};
use moola_onnx::{TractEngine, check, inspect};
use serde::Deserialize;

use crate::{assert_close, tensor};

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    inputs: BTreeMap<String, Item>,
    outputs: BTreeMap<String, Item>,
}

#[derive(Deserialize)]
struct Item {
    shape: Vec<usize>,
    data: Vec<f32>,
}

pub(crate) fn read(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/onnx");
    std::fs::read(folder.join(name)).unwrap()
}

#[track_caller]
fn check_fixture(name: &str, op: &str) {
    let bytes = read(&format!("{name}.onnx"));
    let info = check(&bytes).unwrap();
    assert!(info.ops.contains_key(op), "{:?}", info.ops);
    let model = TractEngine.load(&Artifact::onnx(), &bytes).unwrap();
    let cases: Cases = serde_json::from_slice(&read(&format!("{name}.json"))).unwrap();
    assert_eq!(cases.cases.len(), 2);
    for case in &cases.cases {
        let inputs = model.inputs().iter().map(|(name, _)| {
            let item = &case.inputs[name];
            tensor(&item.shape, item.data.clone())
        });
        let results = model.run(inputs.collect()).unwrap();
        assert_eq!(results.len(), case.outputs.len());
        for (result, (name, shape)) in results.iter().zip(model.outputs()) {
            let expected = &case.outputs[name];
            assert_eq!(result.shape(), expected.shape, "output `{name}`");
            assert_eq!(shape.len() + 1, expected.shape.len(), "output `{name}`");
            assert_close(result.data(), &expected.data, 1e-5);
        }
    }
}

#[test]
fn sklearn_linear_models() {
    check_fixture("sklearn_logistic", "LinearClassifier");
    check_fixture("sklearn_logistic_binary", "LinearClassifier");
    check_fixture("sklearn_linear", "LinearRegressor");
}

#[test]
fn sklearn_pipeline_of_scaler_and_mlp() {
    check_fixture("sklearn_mlp", "Scaler");
}

#[test]
fn sklearn_tree_ensembles() {
    check_fixture("sklearn_forest", "TreeEnsembleClassifier");
    check_fixture("sklearn_boosting", "TreeEnsembleClassifier");
    check_fixture("sklearn_boosting_binary", "TreeEnsembleClassifier");
    check_fixture("sklearn_boosting_regressor", "TreeEnsembleRegressor");
}

#[test]
fn torch_style_models() {
    check_fixture("torch_style_mlp", "Gemm");
    check_fixture("torch_style_lstm", "LSTM");
}

#[test]
fn labels_are_not_exposed() {
    let bytes = read("sklearn_logistic.onnx");
    let info = inspect(&bytes).unwrap();
    assert_eq!(info.outputs[0].data_type, "int64");
    let model = TractEngine.load(&Artifact::onnx(), &bytes).unwrap();
    assert_eq!(model.outputs(), [("probabilities".to_owned(), vec![Some(3)])]);
    let rows = model.run(vec![Tensor::new(vec![2, 6], vec![0.5; 12]).unwrap()]).unwrap();
    assert_close(&[rows[0].data()[..3].iter().sum()], &[1.0], 1e-6);
}

#[test]
fn zip_map_is_refused_with_a_hint() {
    let bytes = read("sklearn_logistic_zipmap.onnx");
    assert_eq!(inspect(&bytes).unwrap().outputs[1].data_type, "other");
    let error = TractEngine.load(&Artifact::onnx(), &bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("ZipMap"), "{error}");
    assert!(error.hint().unwrap().contains("zipmap=False"));
}
