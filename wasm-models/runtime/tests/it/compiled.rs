//! What the compiler makes of ONNX files, in the host.

use moola_core::ErrorKind;
use moola_core::ports::{CompiledFile, Compiler, Engine, LoadedModel, ModelFormat, Tensor};
use moola_wasm_runtime::{RUNTIME, TARGETS, Target, WasmCompiler};

use crate::support::{compile, dense, engine, fixture_file, onnx};

/// Fixtures with answers of onnxruntime; see tests/fixtures/onnx/README.md.
const FIXTURES: [&str; 10] = [
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
];

/// A dense layer and the fixtures, with their files.
fn models() -> Vec<(&'static str, Vec<CompiledFile>)> {
    let mut models = vec![("dense", compile(&dense()).expect("files"))];
    models.extend(FIXTURES.map(|name| (name, compile(&onnx(name)).unwrap_or_else(|error| panic!("{name}: {error}")))));
    models
}

fn answers(model: &dyn LoadedModel, num_rows: usize) -> Vec<Vec<u32>> {
    let inputs = model.inputs().iter().map(|(_, shape)| {
        let shape = std::iter::once(num_rows).chain(shape.iter().map(|size| size.expect("a fixed size")));
        let shape = shape.collect::<Vec<_>>();
        let data = (0..shape.iter().product()).map(|it| (it as f32 * 0.37).sin());
        Tensor::new(shape.clone(), data.collect()).expect("a tensor")
    });
    let outputs = model.run(inputs.collect()).expect("outputs");
    outputs.into_iter().map(|it| it.into_data().into_iter().map(f32::to_bits).collect()).collect()
}

#[test]
fn every_form_of_a_model_gives_the_same_bits() {
    for (name, files) in models() {
        let formats = files.iter().map(|file| (file.artifact.file.as_str(), file.artifact.format));
        let expected = [
            ("model.wasm", ModelFormat::Wasm),
            ("x86_64-avx2.cwasm", ModelFormat::Cwasm),
            ("aarch64.cwasm", ModelFormat::Cwasm),
        ];
        assert_eq!(formats.collect::<Vec<_>>(), expected);
        let engine = engine();
        let portable = engine.load(&files[0].artifact, &files[0].bytes).expect("a model");
        let artifacts = files.iter().map(|file| file.artifact.clone()).collect::<Vec<_>>();
        let chosen = engine.choose(&artifacts).expect("one of them");
        assert_eq!(chosen.target.as_deref(), Target::host().map(Target::name));
        let bytes = &files.iter().find(|file| file.artifact == *chosen).expect("its file").bytes;
        let native = engine.load(chosen, bytes).expect("a model");
        // Below, at and above what a call of the module takes.
        let all = answers(&*portable, 70);
        for num_rows in [1, 2, 31, 32, 33, 70] {
            let expected = all.iter().map(|it| it[..it.len() / 70 * num_rows].to_vec()).collect::<Vec<_>>();
            assert_eq!(answers(&*portable, num_rows), expected, "{name}, {num_rows} rows");
            assert_eq!(answers(&*native, num_rows), expected, "{name}, {num_rows} rows");
        }
    }
}

/// As tests/fixtures/onnx/README.md has it: 1e-5, relative above 1.
#[test]
fn answers_are_those_of_onnxruntime() {
    for (name, files) in models().into_iter().skip(1) {
        let model = engine().load(&files[0].artifact, &files[0].bytes).expect("a model");
        let cases = serde_json::from_slice::<serde_json::Value>(&fixture_file(&format!("{name}.json"))).expect("JSON");
        let tensor = |item: &serde_json::Value| {
            let numbers =
                |field: &str| item[field].as_array().expect(field).iter().map(|it| it.as_f64().expect("a number"));
            Tensor::new(numbers("shape").map(|it| it as usize).collect(), numbers("data").map(|it| it as f32).collect())
        };
        for case in cases["cases"].as_array().expect("cases") {
            let inputs = model.inputs().iter().map(|(name, _)| tensor(&case["inputs"][name]).expect("a tensor"));
            let outputs = model.run(inputs.collect()).expect("outputs");
            assert_eq!(outputs.len(), case["outputs"].as_object().expect("outputs").len(), "{name}");
            for (output, (port, _)) in outputs.iter().zip(model.outputs()) {
                let expected = tensor(&case["outputs"][port]).expect("a tensor");
                assert_eq!(output.shape(), expected.shape(), "{name}: {port}");
                for (a, b) in output.data().iter().zip(expected.data()) {
                    assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{name}: `{port}` has {a}, expected {b}");
                }
            }
        }
    }
}

#[test]
fn the_same_request_gives_the_same_files() {
    let (first, second) = (WasmCompiler::default(), WasmCompiler::default());
    assert_eq!(first.fingerprint(), second.fingerprint());
    for part in TARGETS.iter().map(|target| target.compatibility()).chain([RUNTIME.to_owned()]) {
        assert!(first.fingerprint().contains(&part), "{}", first.fingerprint());
    }
    for ((name, first), (_, second)) in models().iter().zip(models()) {
        for (a, b) in first.iter().zip(second) {
            assert_eq!(a.artifact, b.artifact);
            assert!(a.bytes == b.bytes, "{name}: {}", a.artifact.file);
        }
    }
}

#[test]
fn what_cannot_be_compiled_is_invalid_and_named() {
    let unknown = dense().windows(4).position(|it| it == b"Relu").expect("its operator");
    let mut renamed = dense();
    renamed[unknown..unknown + 4].copy_from_slice(b"Nope");
    let error = compile(&renamed).expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("`Nope`"), "{error}");
    let whole = dense();
    for len in 0..whole.len() {
        if let Err(error) = compile(&whole[..len]) {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
    }
}
