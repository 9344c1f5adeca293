//! Models of the benchmarks, of our family and of others, against tract and against onnxruntime's stored answers.

use moola_core::contract::Task;
use moola_core::ports::Tensor;
use moola_onnx::writer::{Attribute, Dim, Direction, GraphBuilder};
use moola_tests::models::{Export, Model, lstm, simple_lstm, tcn, transformer, trees};
use moola_tests::{Server, bars, fixture};
use moola_wasm_compiler::{Options, Variant, compile};
use serde_json::{Value, json};

use crate::crash::{ended, training};
use crate::r#loop::{LIMIT, SETTINGS};

use super::support::{
    TOLERANCE, agree, assert_done, check, check_against, equal_bits, inputs, load_module, module, run,
};

#[track_caller]
fn check_model(model: &Model) {
    for rows in [1, 4, 9] {
        let inputs = inputs(70 + rows as u64, rows, &model.inputs);
        assert_done(format!("{}, {rows} rows", model.name), check(&model.onnx, &inputs));
    }
}

#[test]
fn recurrent_models_agree_with_tract() {
    check_model(&lstm(32, 1, Direction::Forward));
    check_model(&lstm(7, 1, Direction::Forward));
    check_model(&lstm(16, 1, Direction::Bidirectional));
    check_model(&lstm(9, 2, Direction::Forward));
    check_model(&lstm(6, 3, Direction::Bidirectional));
}

#[test]
fn convolutional_models_agree_with_tract() {
    for export in [Export::Whole, Export::Pruned] {
        check_model(&tcn(32, export));
        check_model(&tcn(5, export));
    }
}

#[test]
fn transformers_agree_with_tract() {
    for export in [Export::Whole, Export::Pruned] {
        check_model(&transformer(32, export));
        check_model(&transformer(12, export));
    }
}

#[test]
fn our_family_agrees_with_tract() {
    for task in [Task::Classification, Task::Regression] {
        check_model(&simple_lstm(32, 1, task));
        check_model(&simple_lstm(6, 2, task));
    }
}

#[test]
fn trees_agree_with_tract() {
    check_model(&trees(200, 6));
    check_model(&trees(3, 2));
}

/// Both exports of a model have the same weights and answer the same; see the builders.
#[test]
fn pruned_exports_answer_as_whole_ones() {
    for (whole, pruned) in [
        (tcn(8, Export::Whole), tcn(8, Export::Pruned)),
        (transformer(8, Export::Whole), transformer(8, Export::Pruned)),
    ] {
        let inputs = inputs(5, 9, &whole.inputs);
        let answers = [&whole, &pruned].map(|model| {
            let wasm = module(&model.onnx, Variant::Simd128).unwrap();
            run(&*load_module(&wasm).unwrap(), &inputs).unwrap()
        });
        assert_done(whole.name, agree(&answers[0], &answers[1], TOLERANCE));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_trainer_made_agrees_with_tract() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), SETTINGS).await;
    let api = server.api();
    api.import("sim", bars::csv(&bars::simulated(3, 1500))).await.unwrap().ok();
    for (name, label, layers) in [
        ("classes", json!({"kind": "expansion", "horizon": 10, "multiple": 0.9}), 2),
        ("returns", json!({"kind": "forward_return", "horizon": 3}), 1),
    ] {
        let mut request = training(name, "sim", 2);
        request["label"] = label;
        request["model"]["num_layers"] = json!(layers);
        let run = api.post("/api/v2/training/jobs", &request).await.ok();
        let ended = ended(api, run["run_id"].as_str().unwrap(), LIMIT).await;
        assert_eq!(ended["status"], "completed", "{ended}");
        let onnx = std::fs::read(dir.path().join(format!("blobs/models/{name}/1/model.onnx"))).unwrap();
        let native = super::support::load_native(&onnx).unwrap();
        let shapes: Vec<Vec<usize>> =
            native.inputs().iter().map(|(_, shape)| shape.iter().map(|size| size.unwrap()).collect()).collect();
        check_model(&Model { name: name.to_owned(), onnx, inputs: shapes });
    }
    server.terminate().await;
}

/// With every step as an output, nothing can be pruned; the answers are the same to the bit.
#[test]
fn demand_pruning_changes_no_bit() {
    for (pruned, all) in [
        (tcn(32, Export::Whole), tcn(32, Export::AllSteps)),
        (transformer(16, Export::Whole), transformer(16, Export::AllSteps)),
    ] {
        for variant in [Variant::Simd128, Variant::RelaxedSimd] {
            let computed = |model: &Model| {
                let options = Options { variant, max_rows: 9, ..Options::default() };
                compile(&model.onnx, &options).unwrap().computed
            };
            let (some, whole) = (computed(&pruned), computed(&all));
            assert!(some.needed * 3 < whole.needed * 2, "{}: {some:?} of {whole:?}", pruned.name);
            let inputs = inputs(8, 9, &pruned.inputs);
            let answers = [&pruned, &all].map(|model| {
                let model = load_module(&module(&model.onnx, variant).unwrap()).unwrap();
                let at = model.outputs().iter().position(|(name, _)| name == "probabilities").unwrap();
                vec![run(&*model, &inputs).unwrap().swap_remove(at)]
            });
            assert_done(&pruned.name, equal_bits("pruned", &answers[0], &answers[1]));
        }
    }
}

fn tensors(ports: &[(String, Vec<Option<usize>>)], items: &Value) -> Vec<Tensor> {
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let tensor = |name: &str| {
        let shape = numbers(&items[name]["shape"]).into_iter().map(|size| size as usize).collect();
        Tensor::new(shape, numbers(&items[name]["data"]).into_iter().map(|number| number as f32).collect()).unwrap()
    };
    ports.iter().map(|(name, _)| tensor(name)).collect()
}

#[test]
fn fixtures_agree_with_onnxruntime() {
    for name in [
        "sklearn_boosting",
        "sklearn_boosting_binary",
        "sklearn_boosting_regressor",
        "sklearn_forest",
        "sklearn_linear",
        "sklearn_logistic",
        "sklearn_logistic_binary",
        "sklearn_mlp",
        "torch_style_lstm",
        "torch_style_mlp",
    ] {
        let onnx = fixture(&format!("onnx/{name}.onnx"));
        let cases: Value = serde_json::from_slice(&fixture(&format!("onnx/{name}.json"))).unwrap();
        let wasm = module(&onnx, Variant::Simd128).unwrap_or_else(|error| panic!("{name}: {error}"));
        let model = load_module(&wasm).unwrap();
        for case in cases["cases"].as_array().unwrap() {
            let inputs = tensors(model.inputs(), &case["inputs"]);
            let outputs = tensors(model.outputs(), &case["outputs"]);
            assert_done(name, check_against(&onnx, &inputs, &outputs, TOLERANCE));
        }
    }
}

#[test]
fn a_refusal_names_the_node() {
    let mut graph = GraphBuilder::new("einsum");
    let x = graph.input("x", &[Dim::Batch, Dim::Fixed(2)]);
    let y = graph.node("Einsum", &[x], 1, &[("equation", Attribute::Str("bi->b".into()))])[0];
    graph.output(y, "y", &[Dim::Batch]);
    let error = module(&graph.finish().unwrap(), Variant::Simd128).unwrap_err();
    assert!(error.contains("`Einsum_0` (`Einsum`)"), "{error}");
}
