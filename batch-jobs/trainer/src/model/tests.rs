use burn::backend::Flex;
use burn::tensor::activation::softmax;
use moola_core::ports::{Artifact, Engine as _, Tensor};
use moola_onnx::TractEngine;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

fn shape(task: Task, num_layers: usize, num_features: usize) -> Shape {
    Shape {
        task,
        window_bars: 15,
        num_channels: 4,
        num_features,
        num_outputs: if task == Task::Classification { 3 } else { 1 },
        hidden_size: 12,
        num_layers,
        num_heads: 4,
    }
}

fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random::<f32>() * 4.0 - 2.0).collect()
}

#[test]
fn the_exported_model_answers_as_the_trained_one() {
    let shapes = [
        shape(Task::Classification, 1, 6),
        shape(Task::Classification, 3, 0),
        shape(Task::Regression, 2, 5),
        shape(Task::Regression, 1, 0),
    ];
    for shape in shapes {
        let mut parameters = Parameters::new(&shape, 3);
        // Biases that are not zero, weights that saturate some gates.
        parameters.data_mut().iter_mut().zip(random(100_000, 4)).for_each(|(value, noise)| *value += 0.1 * noise);
        let (mean, std) = if shape.task == Task::Regression { (0.5, 3.0) } else { (0.0, 1.0) };
        let onnx = export(&shape, &parameters, (mean, std), &Metadata::default()).unwrap();
        let loaded = TractEngine.load(&Artifact::onnx(), &onnx).unwrap();
        assert_eq!(loaded.outputs()[0].0, output_name(shape.task));
        for rows in [1, 7] {
            let batch = Batch {
                num_rows: rows,
                bars: random(rows * 15 * 4, 5),
                features: random(rows * shape.num_features, 6),
                masks: None,
            };
            let mut inputs = vec![Tensor::new(vec![rows, 15, 4], batch.bars.clone()).unwrap()];
            if shape.num_features > 0 {
                inputs.push(Tensor::new(vec![rows, shape.num_features], batch.features.clone()).unwrap());
            }
            let answer = loaded.run(inputs).unwrap();
            let outputs = forward(&shape, &Weights::<Flex>::new(&parameters, &Default::default()), batch);
            let outputs = if shape.task == Task::Classification { softmax(outputs, 1) } else { outputs };
            let expected: Vec<f32> = numbers(outputs).iter().map(|value| value * std as f32 + mean as f32).collect();
            assert_eq!(answer[0].shape(), [rows, shape.num_outputs]);
            for (a, b) in answer[0].data().iter().zip(&expected) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
            // The rows differ, so the inputs do matter.
            assert!(rows == 1 || (expected[0] - expected[shape.num_outputs]).abs() > 1e-4);
        }
    }
}

#[test]
fn weights_are_drawn_from_the_seed() {
    let shape = shape(Task::Classification, 2, 6);
    let weights = Parameters::new(&shape, 1);
    assert_eq!(weights, Parameters::new(&shape, 1));
    assert_ne!(weights, Parameters::new(&shape, 2));
    let total: usize = weights.names().map(|(_, size)| size).sum();
    assert_eq!(total, weights.data().len());
    let (_, bias) = weights.iter().find(|(name, _)| *name == "encoder.1.b").unwrap();
    assert!(bias[24..36].iter().chain(&bias[72..84]).all(|value| *value == 1.0));
    assert_eq!(bias.iter().sum::<f32>(), 24.0);
}

#[test]
fn the_naive_model_answers_the_same_always() {
    let shape = shape(Task::Classification, 1, 0);
    let onnx = export_naive(&shape, &[0.2, 0.5, 0.3], &Metadata::default()).unwrap();
    let loaded = TractEngine.load(&Artifact::onnx(), &onnx).unwrap();
    let answer = loaded.run(vec![Tensor::new(vec![2, 15, 4], random(120, 1)).unwrap()]).unwrap();
    assert_eq!(answer[0].data(), [0.2, 0.5, 0.3, 0.2, 0.5, 0.3]);
}

/// Needs Python with the packages of `tests/oracle`: `MOOLA_ORACLE_PYTHON=.venv/bin/python cargo test -p moola-trainer`.
#[test]
fn onnxruntime_answers_as_the_trained_model_and_the_checker_accepts_the_file() {
    let Ok(python) = std::env::var("MOOLA_ORACLE_PYTHON") else {
        eprintln!("skipped: MOOLA_ORACLE_PYTHON names no Python with onnx and onnxruntime");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/oracle/onnx_oracle.py");
    let dir = tempfile::tempdir().unwrap();
    for shape in [shape(Task::Classification, 2, 6), shape(Task::Regression, 1, 0)] {
        let parameters = Parameters::new(&shape, 3);
        let onnx = export(&shape, &parameters, (0.0, 1.0), &Metadata::default()).unwrap();
        let cases: Vec<serde_json::Value> = [1, 7]
            .into_iter()
            .map(|rows| {
                let (bars, features) = (random(rows * 60, 5), random(rows * shape.num_features, 6));
                let mut inputs = serde_json::json!({"bars": {"shape": [rows, 15, 4], "data": bars}});
                if shape.num_features > 0 {
                    inputs["features"] = serde_json::json!({"shape": [rows, shape.num_features], "data": features});
                }
                let batch = Batch { num_rows: rows, bars, features, masks: None };
                let outputs = forward(&shape, &Weights::<Flex>::new(&parameters, &Default::default()), batch);
                let outputs = if shape.task == Task::Classification { softmax(outputs, 1) } else { outputs };
                let name = output_name(shape.task);
                let outputs = serde_json::json!({name: {"shape": [rows, shape.num_outputs], "data": numbers(outputs)}});
                serde_json::json!({"inputs": inputs, "outputs": outputs})
            })
            .collect();
        let (model, file) = (dir.path().join("model.onnx"), dir.path().join("cases.json"));
        std::fs::write(&model, onnx).unwrap();
        std::fs::write(&file, serde_json::json!({"cases": cases}).to_string()).unwrap();
        let output = std::process::Command::new(&python).arg(script).arg(&model).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
