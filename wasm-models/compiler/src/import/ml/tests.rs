//! Numbers that are not worked out beside the test are those of onnxruntime 1.31.1, to four digits.

use crate::import::{Imported, import};
use crate::ir::{DType, Data};
use crate::testkit::{Attr, OnnxModel, assert_close};
use crate::{CompileError, Options};

type Attributes<'a> = &'a [(&'a str, Attr<'a>)];

fn model(op: &str, x: (DType, usize), outputs: &[&str], attributes: Attributes<'_>) -> Result<Imported, CompileError> {
    let mut model = OnnxModel::new(17).input("x", x.0, &[None, Some(x.1)]);
    model = model.node(&format!("ml:{op}"), &["x"], outputs, attributes);
    for output in outputs {
        model = model.output(output);
    }
    import(&model.bytes(), &Options::default())
}

/// The outputs of a node with one input of two features, of one row after the other.
fn run(op: &str, rows: &Data, outputs: &[&str], attributes: Attributes<'_>) -> Vec<Vec<Data>> {
    let imported = model(op, (rows.dtype(), 2), outputs, attributes).unwrap_or_else(|error| panic!("{error}"));
    let graph = &imported.graphs[1].1;
    (0..rows.len() / 2).map(|row| crate::eval::graph(graph, &[rows.pick(2 * row..2 * row + 2)])).collect()
}

fn floats(rows: &[Vec<Data>], output: usize) -> Vec<f32> {
    let of_row = |row: &Vec<Data>| match &row[output] {
        Data::F32(data) => data.clone(),
        other => panic!("{} for float32", other.dtype().name()),
    };
    rows.iter().flat_map(of_row).collect()
}

fn ints(rows: &[Vec<Data>], output: usize) -> Vec<i64> {
    let of_row = |row: &Vec<Data>| match &row[output] {
        Data::I64(data) => data.clone(),
        other => panic!("{} for int64", other.dtype().name()),
    };
    rows.iter().flat_map(of_row).collect()
}

fn refuses(op: &str, attributes: Attributes<'_>, part: &str) {
    let error = model(op, (DType::F32, 2), &["y"], attributes).expect_err("an error").to_string();
    assert!(error.contains(part) && error.contains(op), "`{part}` in: {error}");
}

fn rows() -> Data {
    Data::F32(vec![-3.0, 1.0, 0.0, 0.0, 2.0, -4.0, -1.0, -2.0])
}

#[test]
fn rows_are_normalized() {
    for (norm, expected) in [
        ("MAX", [-3.0, 1.0, 0.0, 0.0, 1.0, -2.0, 1.0, 2.0]),
        ("L1", [-0.75, 0.25, 0.0, 0.0, 0.3333, -0.6667, -0.3333, -0.6667]),
        ("L2", [-0.9487, 0.3162, 0.0, 0.0, 0.4472, -0.8944, -0.4472, -0.8944]),
    ] {
        assert_close(&floats(&run("Normalizer", &rows(), &["y"], &[("norm", Attr::Text(norm))]), 0), &expected, 1e-4);
    }
    refuses("Normalizer", &[("norm", Attr::Text("L3"))], "`norm` is `L3`");
}

#[test]
fn features_are_scaled() {
    let attributes = [("offset", Attr::Floats(&[1.0, 2.0])), ("scale", Attr::Floats(&[2.0, -1.0]))];
    let expected = [-8.0, 1.0, -2.0, 2.0, 2.0, 6.0, -4.0, 4.0];
    assert_eq!(floats(&run("Scaler", &rows(), &["y"], &attributes), 0), expected);
    let doubles = Data::F64(vec![-3.0, 1.0]);
    assert_eq!(floats(&run("Scaler", &doubles, &["y"], &attributes), 0), expected[..2]);
    let ints = Data::I64(vec![-3, 1]);
    assert_eq!(floats(&run("Scaler", &ints, &["y"], &attributes), 0), expected[..2]);
    refuses("Scaler", &[("scale", Attr::Floats(&[1.0, 2.0, 3.0]))], "`scale` has 3 entries, expected 1 or 2");
}

#[test]
fn numbers_are_compared_with_a_threshold() {
    let one = run("Binarizer", &Data::F32(vec![0.5, 1.0]), &["y"], &[("threshold", Attr::Float(0.5))]);
    assert_eq!(floats(&one, 0), [0.0, 1.0]);
    let one = run("Binarizer", &Data::I64(vec![0, 7]), &["y"], &[("threshold", Attr::Float(0.5))]);
    assert_eq!(ints(&one, 0), [0, 1]);
}

#[test]
fn missing_values_are_replaced() {
    let nan = f32::NAN;
    let rows = Data::F32(vec![nan, 1.0, 0.0, nan]);
    let attributes = [("imputed_value_floats", Attr::Floats(&[5.0, 6.0])), ("replaced_value_float", Attr::Float(nan))];
    assert_eq!(floats(&run("Imputer", &rows, &["y"], &attributes), 0), [5.0, 1.0, 0.0, 6.0]);
    let attributes = [("imputed_value_floats", Attr::Floats(&[5.0])), ("replaced_value_float", Attr::Float(1.0))];
    let one = floats(&run("Imputer", &rows, &["y"], &attributes), 0);
    assert!(one[0].is_nan() && one[1..3] == [5.0, 0.0] && one[3].is_nan(), "{one:?}");
    let attributes = [("imputed_value_int64s", Attr::Ints(&[5, 6])), ("replaced_value_int64", Attr::Int(-1))];
    assert_eq!(ints(&run("Imputer", &Data::I64(vec![-1, -1, 2, 3]), &["y"], &attributes), 0), [5, 6, 2, 3]);
    refuses("Imputer", &[], "`imputed_value_floats` is missing");
}

#[test]
fn linear_models() {
    let one = |transform: &'static str| {
        let attributes = [
            ("coefficients", Attr::Floats(&[0.1, 0.2])),
            ("intercepts", Attr::Floats(&[0.1])),
            ("classlabels_ints", Attr::Ints(&[10, 20])),
            ("post_transform", Attr::Text(transform)),
        ];
        let answers = run("LinearClassifier", &Data::F32(vec![0.0, 0.0, 2.0, -4.0]), &["label", "y"], &attributes);
        assert_eq!(ints(&answers, 0), [20, 10]);
        floats(&answers, 1)
    };
    assert_close(&one("NONE"), &[0.9, 0.1, 1.5, -0.5], 1e-4);
    assert_close(&one("LOGISTIC"), &[0.475, 0.525, 0.6225, 0.3775], 1e-4);
    assert_close(&one("SOFTMAX"), &[0.9, 0.1, 1.5, -0.5], 1e-4);
    let two = |transform: &'static str| {
        let attributes = [
            ("coefficients", Attr::Floats(&[0.1, 0.2, -0.1, 0.3])),
            ("intercepts", Attr::Floats(&[0.1, 0.2])),
            ("classlabels_ints", Attr::Ints(&[10, 20])),
            ("post_transform", Attr::Text(transform)),
        ];
        let answers = run("LinearClassifier", &Data::F32(vec![0.0, 0.0, 2.0, -4.0]), &["label", "y"], &attributes);
        assert_eq!(ints(&answers, 0), [20, 10]);
        floats(&answers, 1)
    };
    assert_close(&two("NONE"), &[0.1, 0.2, -0.5, -1.2], 1e-4);
    assert_close(&two("LOGISTIC"), &[0.525, 0.5498, 0.3775, 0.2315], 1e-4);
    assert_close(&two("SOFTMAX"), &[0.475, 0.525, 0.6682, 0.3318], 1e-4);
    let attributes = [("coefficients", Attr::Floats(&[1.0, 2.0, 3.0, 4.0])), ("targets", Attr::Int(2))];
    let answers = run("LinearRegressor", &Data::F32(vec![1.0, 10.0]), &["y"], &attributes);
    assert_eq!(floats(&answers, 0), [21.0, 43.0]);
    refuses("LinearRegressor", &[("coefficients", Attr::Floats(&[1.0]))], "`coefficients` has 1 entries");
    refuses("SVMRegressor", &[], "support vector machines are not lowered");
}

#[test]
fn labels_are_mapped() {
    let attributes = [("keys_int64s", Attr::Ints(&[0, 1, 1])), ("values_floats", Attr::Floats(&[0.5, 0.75, 9.0]))];
    assert_eq!(floats(&run("LabelEncoder", &Data::I64(vec![1, 5]), &["y"], &attributes), 0), [0.75, -0.0]);
    let attributes = [
        ("keys_floats", Attr::Floats(&[0.5, f32::NAN])),
        ("values_int64s", Attr::Ints(&[7, 8])),
        ("default_int64", Attr::Int(3)),
    ];
    assert_eq!(
        ints(&run("LabelEncoder", &Data::F32(vec![0.5, f32::NAN, 2.0, 0.5]), &["y"], &attributes), 0),
        [7, 8, 3, 7]
    );
    // Numbers to texts and back.
    let texts = [("keys_int64s", Attr::Ints(&[4, 5, 6])), ("values_strings", Attr::Texts(&["up", "down", "up"]))];
    let back = [("keys_strings", Attr::Texts(&["down", "up"])), ("values_int64s", Attr::Ints(&[-1, 1]))];
    let model = OnnxModel::new(17)
        .input("x", DType::I64, &[None, Some(4)])
        .node("ml:LabelEncoder", &["x"], &["text"], &texts)
        .node("ml:LabelEncoder", &["text"], &["y"], &back)
        .output("text")
        .output("y");
    let imported = import(&model.bytes(), &Options { ..Options::default() }).expect("imports");
    assert_eq!(imported.interface.outputs[0].labels, ["up", "down", "_Unused"]);
    let answers = crate::eval::graph(&imported.graphs[1].1, &[Data::I64(vec![4, 5, 6, 7])]);
    assert_eq!(answers, [Data::I64(vec![0, 1, 0, 2]), Data::I64(vec![1, -1, 1, -1])]);
    refuses(
        "LabelEncoder",
        &[("keys_int64s", Attr::Ints(&[1])), ("values_int64s", Attr::Ints(&[1, 2]))],
        "1 keys and 2 values",
    );
    refuses("LabelEncoder", &back, "the input is no label");
}

#[test]
fn categories_become_columns() {
    let attributes = [("cats_int64s", Attr::Ints(&[1, 3]))];
    let answers = run("OneHotEncoder", &Data::F32(vec![1.0, 2.0, 0.0, 3.0]), &["y"], &attributes);
    assert_eq!(floats(&answers, 0), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    refuses("OneHotEncoder", &[], "`cats_int64s` is empty");
}

#[test]
fn columns_are_extracted() {
    let answer = |places: &[i64]| {
        let model = OnnxModel::new(17)
            .input("x", DType::F32, &[None, Some(4)])
            .constant("places", &[places.len()], &Data::I64(places.to_vec()))
            .node("ml:ArrayFeatureExtractor", &["x", "places"], &["y"], &[])
            .output("y");
        import(&model.bytes(), &Options::default()).map(|imported| {
            crate::eval::graph(&imported.graphs[0].1, &[Data::F32((0..16).map(|x| x as f32).collect())])
        })
    };
    for places in [vec![2], vec![1, 2, 3], vec![3, 1], vec![0, 0, 3]] {
        let expected = (0..4).flat_map(|row| places.iter().map(move |place| (4 * row + place) as f32));
        assert_eq!(answer(&places).expect("imports"), [Data::F32(expected.collect())]);
    }
    for places in [vec![4], vec![-1], vec![]] {
        assert!(answer(&places).is_err(), "{places:?}");
    }
}

#[test]
fn features_stand_side_by_side_and_probabilities_stay_a_tensor() {
    let model = OnnxModel::new(17)
        .input("a", DType::F32, &[None, Some(2)])
        .input("b", DType::I64, &[None, Some(1)])
        .node("ml:FeatureVectorizer", &["a", "b"], &["both"], &[("inputdimensions", Attr::Ints(&[2, 1]))])
        .node("ml:ZipMap", &["both"], &["y"], &[("classlabels_int64s", Attr::Ints(&[0, 1, 2]))])
        .output("y");
    let imported = import(&model.bytes(), &Options::default()).expect("imports");
    let answers = crate::eval::graph(&imported.graphs[1].1, &[Data::F32(vec![1.0, 2.0]), Data::I64(vec![3])]);
    assert_eq!(answers, [Data::F32(vec![1.0, 2.0, 3.0])]);
}

#[test]
fn models_of_scikit_learn_give_the_answers_of_onnxruntime() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/onnx");
    let files = std::fs::read_dir(&folder).expect("the fixtures");
    let mut num_models = 0;
    for path in files.map(|file| file.expect("a file").path()) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("sklearn") || path.extension().is_none_or(|kind| kind != "json") {
            continue;
        }
        let cases: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).expect("cases")).expect("cases in JSON");
        let model = std::fs::read(path.with_extension("onnx")).expect("a model");
        let imported = import(&model, &Options::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let numbers = |tensor: &serde_json::Value| -> Vec<f32> {
            tensor["data"].as_array().expect("data").iter().map(|x| x.as_f64().expect("a number") as f32).collect()
        };
        for case in cases["cases"].as_array().expect("cases") {
            let input = case["inputs"].as_object().expect("inputs").values().next().expect("an input");
            let rows = input["shape"][0].as_u64().expect("rows") as usize;
            let input = numbers(input);
            for (output, expected) in case["outputs"].as_object().expect("outputs") {
                let place = imported.interface.outputs.iter().position(|port| port.name == *output).expect("an output");
                let answers = input
                    .chunks(input.len() / rows)
                    .map(|row| crate::eval::graph(&imported.graphs[1].1, &[Data::F32(row.to_vec())]));
                assert_close(&floats(&answers.collect::<Vec<_>>(), place), &numbers(expected), 1e-5);
            }
        }
        num_models += 1;
    }
    assert!(num_models >= 5, "{num_models} models");
}
