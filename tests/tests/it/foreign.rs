//! Models that scikit-learn wrote, or PyTorch would have, from file to prediction.
//!
//! The fixtures take 6 numbers, or windows of 20 bars of 4 numbers, that are no prices. So each is put behind a node that
//! takes the first 6 prices of two bars, as an exporter of a whole pipeline would write it, and the prices are chosen so
//! that the standardisation of the manifest turns them into the fixture's inputs. Where a fixture answers logits, a softmax
//! follows it.

use moola_tests::graphs::{chain, constant, constant_manifest, first_numbers, softmax};
use moola_tests::{Server, bars, fixture};
use serde_json::{Value, json};

/// Open, high, low, close are this plus the fixture's number: far enough apart that any number makes a bar.
const LEVELS: [f64; 4] = [100.0, 120.0, 80.0, 100.0];

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The only entry of an object, and its name.
fn only(value: &Value) -> (&str, &Value) {
    let object = value.as_object().unwrap();
    assert_eq!(object.len(), 1);
    object.iter().map(|(name, value)| (name.as_str(), value)).next().unwrap()
}

/// Bars whose standardised prices begin with `numbers`.
fn prices(numbers: &[f64], num_bars: usize) -> Value {
    let number = |index: usize| numbers.get(index).copied().unwrap_or(0.0);
    (0..num_bars).map(|bar| (0..4).map(|field| LEVELS[field] + number(bar * 4 + field)).collect::<Value>()).collect()
}

fn classes(count: usize) -> Vec<String> {
    (0..count).map(|class| format!("class {class}")).collect()
}

fn manifest(task: &str, classes: &[String], window_bars: usize) -> Value {
    let scaling = json!({"mean": LEVELS, "std": [1.0, 1.0, 1.0, 1.0]});
    json!({"task": task, "inputs": [{"kind": "raw_bars", "scaling": scaling}], "classes": classes,
        "window_bars": window_bars, "producer": "fixture"})
}

/// Registers a fixture and compares its predictions with onnxruntime's answers.
async fn check(server: &Server, name: &str) {
    let api = server.api();
    let cases: Value = serde_json::from_slice(&fixture(&format!("onnx/{name}.json"))).unwrap();
    let onnx = fixture(&format!("onnx/{name}.onnx"));
    let (input, given) = only(&cases["cases"][0]["inputs"]);
    let (output, answered) = only(&cases["cases"][0]["outputs"]);
    let width = answered["shape"][1].as_u64().unwrap() as usize;
    let size = given["data"].as_array().unwrap().len();
    let is_windows = given["shape"].as_array().unwrap().len() == 3;
    let window_bars = if is_windows { given["shape"][1].as_u64().unwrap() as usize } else { 2 };
    let mut model = onnx.clone();
    if !is_windows {
        model = chain(&first_numbers(window_bars * 4, size, input), &model, &onnx);
    }
    let is_logits = name.ends_with("lstm");
    if is_logits {
        model = chain(&model, &softmax(output, width), &onnx);
    }
    let task = if width == 1 { "regression" } else { "classification" };
    let classes = if width == 1 { Vec::new() } else { classes(width) };
    let registered = api.register(name, &manifest(task, &classes, window_bars), &model).await.unwrap();
    assert_eq!(registered.status, 201, "{name}: {}", registered.text);
    let mut worst = 0.0_f64;
    for case in cases["cases"].as_array().unwrap() {
        let rows = numbers(&only(&case["inputs"]).1["data"]);
        let windows: Vec<Value> = rows.chunks(size).map(|row| prices(row, window_bars)).collect();
        let answer = api.post("/api/v2/inference/predict", &bars::request(&format!("{name}/1"), &windows)).await.ok();
        assert_eq!(answer["model_metadata"]["model_version"], "1");
        let predictions = answer["predictions"].as_array().unwrap();
        let expected = numbers(&only(&case["outputs"]).1["data"]);
        assert_eq!(predictions.len() * width, expected.len());
        for (prediction, expected) in predictions.iter().zip(expected.chunks(width)) {
            let mut expected = expected.to_vec();
            if is_logits {
                let sum: f64 = expected.iter().map(|logit| logit.exp()).sum();
                expected.iter_mut().for_each(|logit| *logit = logit.exp() / sum);
            }
            let value = |class: usize| match task {
                "regression" => prediction["value"].as_f64().unwrap(),
                _ => prediction["probabilities"][&classes[class]].as_f64().unwrap(),
            };
            for (class, expected) in expected.iter().enumerate() {
                worst = worst.max((value(class) - expected).abs() / expected.abs().max(1.0));
            }
            if task == "classification" {
                let best = (0..width).max_by(|a, b| expected[*a].total_cmp(&expected[*b])).unwrap();
                assert_eq!(prediction["class"], classes[best]);
            }
        }
    }
    eprintln!("{name}: largest difference {worst:.2e}");
    // Prices around 100 carry 7 digits as float32, so that the numbers are off by up to 4e-6 before the model.
    assert!(worst < 1e-4, "{name} is off by {worst}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fixtures_predict_what_onnxruntime_does() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "").await;
    for name in [
        "sklearn_logistic",
        "sklearn_logistic_binary",
        "sklearn_linear",
        "sklearn_mlp",
        "sklearn_forest",
        "sklearn_boosting",
        "sklearn_boosting_binary",
        "sklearn_boosting_regressor",
        "torch_style_mlp",
        "torch_style_lstm",
    ] {
        check(&server, name).await;
    }
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_served_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "").await;
    let api = server.api();
    let refused = async |manifest: &Value, onnx: &[u8]| api.register("m", manifest, onnx).await.unwrap().refused(400);
    #[track_caller]
    fn tells(message: &str, parts: &[&str]) {
        parts.iter().for_each(|part| assert!(message.contains(part), "`{part}` is not told by: {message}"));
    }

    let good = constant(&[0.4, 0.6]);
    let manifest = constant_manifest();
    let zipmap = fixture("onnx/sklearn_logistic_zipmap.onnx");
    let zipmap = chain(&first_numbers(16, 6, "X"), &zipmap, &zipmap);
    tells(&refused(&manifest, &zipmap).await, &["ZipMap"]);
    let answer = api.register("m", &manifest, &zipmap).await.unwrap();
    assert!(answer.json["hint"].as_str().unwrap_or_default().to_lowercase().contains("zipmap"), "{}", answer.text);
    refused(&manifest, b"this is no model").await;
    refused(&manifest, b"").await;
    for length in [1, good.len() / 2, good.len() - 1] {
        refused(&manifest, &good[..length]).await;
    }
    // A fixture as it is: 6 numbers are no window.
    tells(&refused(&manifest, &fixture("onnx/sklearn_logistic.onnx")).await, &["X", "[6]", "raw_bars"]);

    let with = |field: &str, value: Value| {
        let mut changed = manifest.clone();
        changed[field] = value;
        changed
    };
    tells(&refused(&with("classes", json!(["a", "b", "c"])), &good).await, &["manifest.output", "[3]", "[2]"]);
    tells(&refused(&with("classes", json!(["a"])), &good).await, &["manifest.classes", "at least two"]);
    tells(&refused(&with("window_bars", json!(5)), &good).await, &["bars", "[16]", "[20]"]);
    tells(&refused(&with("window_bars", json!(1)), &good).await, &["manifest.window_bars", "`1`"]);
    tells(&refused(&with("output", json!("logits")), &good).await, &["manifest.output", "logits", "probabilities"]);
    tells(&refused(&with("task", json!("regression")), &good).await, &["manifest.classes"]);
    tells(&refused(&with("inputs", json!([])), &good).await, &["manifest.inputs", "bars"]);
    tells(&refused(&with("inputs", json!([{"kind": "features"}])), &good).await, &["manifest.feature_set", "absent"]);
    tells(
        &refused(&with("inputs", json!([{"kind": "candles"}])), &good).await,
        &["manifest.inputs[0].kind", "candles"],
    );
    tells(&refused(&with("surprise", json!(1)), &good).await, &["surprise"]);
    let body = json!({"manifest": manifest, "model_base64": "%%%"});
    tells(&api.post("/api/v2/models/m/versions", &body).await.refused(400), &["model_base64"]);
    let bad_scaling = json!([{"kind": "raw_bars", "scaling": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}}]);
    tells(
        &refused(&with("inputs", bad_scaling), &good).await,
        &["manifest.inputs[0].scaling", "3 means", "4 for flat bars"],
    );
    let bad_scaling =
        json!([{"kind": "raw_bars", "scaling": {"mean": [0.0, 0.0, 0.0, 0.0], "std": [1.0, 0.0, 1.0, 1.0]}}]);
    tells(&refused(&with("inputs", bad_scaling), &good).await, &["manifest.inputs[0].scaling", "std 0 at 1"]);
    // Logits, as torch exports them: no prediction would be one.
    let logits = fixture("onnx/torch_style_lstm.onnx");
    let answer = api.register("m", &self::manifest("classification", &classes(2), 20), &logits).await.unwrap();
    assert!(answer.json["hint"].as_str().unwrap_or_default().contains("softmax"), "{}", answer.text);
    tells(&answer.refused(400), &["output", "probabilities"]);
    assert_eq!(api.register("bad name!", &manifest, &good).await.unwrap().status, 400);

    let models = api.get("/api/v2/models").await.ok();
    assert_eq!(models["models"], json!([]), "what was refused left nothing behind");
    assert_eq!(api.register("m", &manifest, &good).await.unwrap().ok()["version"], 1);
    assert_eq!(
        api.register("m", &manifest, &good).await.unwrap().ok()["version"],
        1,
        "the same file twice is one version"
    );
    server.terminate().await;
}
