//! What the container promises: files, exit codes, reasons.

use moola_core::contract::{Architecture, FoldMetrics, Progress, RunOutcome, Task};
use moola_core::ports::{Artifact, Engine as _, Tensor};
use moola_core::stats::ReferenceProfile;
use moola_market::labels::LabelSpec;
use moola_onnx::TractEngine;

use crate::support::{Place, bars, files, spec, up_or_down};

#[test]
fn a_run_leaves_what_the_contract_names_and_is_done_once() {
    let place = Place::new(bars(700, 1));
    let spec = spec("r1", &place.sha256, up_or_down());
    let result = place.trained(&spec);
    assert_eq!(result.outcome, RunOutcome::Completed);
    let model = result.model.unwrap();
    assert_eq!((model.task, model.inputs.len(), model.classes.len()), (Task::Classification, 2, 2));
    assert_eq!(result.num_samples.iter().filter(|count| **count > 0).count(), 3);
    assert_eq!((result.epochs, result.attempts), (4, 1));
    assert!(result.windows_per_sec > 0.0 && result.peak_memory_bytes > 1 << 20);
    let Some(FoldMetrics::Classification { baselines, .. }) = &result.metrics else { panic!("no metrics") };
    assert_eq!(baselines.keys().collect::<Vec<_>>(), ["persistence", "prior"]);

    let run = place.run_dir("r1");
    for file in ["model.onnx", "reference.json", "metrics.json", "lineage.json"] {
        assert!(run.join("artifacts").join(file).is_file(), "{file}");
    }
    let reference = std::fs::read(run.join("artifacts/reference.json")).unwrap();
    let reference: ReferenceProfile = serde_json::from_slice(&reference).unwrap();
    reference.validate().unwrap();
    assert_eq!((reference.features.len(), reference.predictions.len()), (24, 2));
    let checkpoints = files(&run.join("checkpoints"));
    assert_eq!(checkpoints.iter().filter(|folder| !files(folder).is_empty()).count(), 2);

    let progress = place.progress("r1");
    let steps: Vec<u64> =
        progress.iter().filter_map(|p| if let Progress::Step(s) = p { Some(s.step) } else { None }).collect();
    assert_eq!(steps, (1..=result.steps).collect::<Vec<_>>());
    let epochs = progress.iter().filter(|record| matches!(record, Progress::Epoch(_))).count();
    assert_eq!(epochs, result.epochs);

    // The model takes any batch, and starting the run again changes nothing.
    let loaded = TractEngine.load(&Artifact::onnx(), &place.model("r1")).unwrap();
    for batch in [1, 7] {
        let bars = Tensor::new(vec![batch, 12, 4], vec![0.1; batch * 48]).unwrap();
        let features = Tensor::new(vec![batch, 24], vec![0.2; batch * 24]).unwrap();
        let outputs = loaded.run(vec![bars, features]).unwrap();
        assert_eq!(outputs[0].shape(), [batch, 2]);
    }
    let before = std::fs::metadata(run.join("result.json")).unwrap().modified().unwrap();
    assert!(place.train(&spec).status.success());
    assert_eq!(before, std::fs::metadata(run.join("result.json")).unwrap().modified().unwrap());
}

#[test]
fn a_regression_and_the_naive_model_are_trained_too() {
    let place = Place::new(bars(700, 2));
    let label = LabelSpec::ForwardReturn { horizon: 1 };
    let mut regression = spec("r1", &place.sha256, label.clone());
    regression.window.feature_set = String::new();
    let result = place.trained(&regression);
    let Some(FoldMetrics::Regression { test, baselines, .. }) = result.metrics else { panic!("no metrics") };
    assert!(test.mse < baselines["mean"].mse, "{} {}", test.mse, baselines["mean"].mse);
    assert_eq!(result.model.unwrap().inputs.len(), 1);

    let mut naive = spec("r2", &place.sha256, label);
    naive.model.architecture = Architecture::Naive;
    let result = place.trained(&naive);
    let Some(FoldMetrics::Regression { test, baselines, .. }) = result.metrics else { panic!("no metrics") };
    assert_eq!(test.mse, baselines["mean"].mse);
    let mut prior = spec("r3", &place.sha256, up_or_down());
    prior.model.architecture = Architecture::Naive;
    place.trained(&prior);
    let loaded = TractEngine.load(&Artifact::onnx(), &place.model("r3")).unwrap();
    let row = loaded.run(vec![Tensor::new(vec![3, 12, 4], vec![0.5; 144]).unwrap()]).unwrap();
    assert_eq!(row[0].shape(), [3, 2]);
    assert!((row[0].data()[..2].iter().sum::<f32>() - 1.0).abs() < 1e-6);
}

#[test]
fn what_cannot_succeed_fails_with_a_reason() {
    let place = Place::new(bars(700, 3));
    let fails = |spec: &moola_core::contract::TrainingSpec, reason: &str| {
        let output = place.train(spec);
        assert_eq!(output.status.code(), Some(1));
        let RunOutcome::Failed { reason: told } = place.result(&spec.run_id).outcome else { panic!("it succeeded") };
        assert!(told.contains(reason), "{told}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(reason));
    };
    let good = spec("r1", &place.sha256, up_or_down());
    fails(&spec("r2", "00", up_or_down()), "has SHA-256");
    let mut other = good.clone();
    other.model.num_heads = 3;
    fails(&other, "`model.num_heads` is `3`");
    let mut other = spec("r3", &place.sha256, up_or_down());
    other.dataset.version = "2".into();
    fails(&other, "datasets/walk/2/bars.parquet");
    let mut other = spec("r4", &place.sha256, up_or_down());
    other.window.max_windows = 60;
    fails(&other, "`samples` is `60");
    std::fs::create_dir_all(place.run_dir("r6")).unwrap();
    std::fs::write(place.run_dir("r6").join("spec.json"), "{\"run_id\": 3}").unwrap();
    assert_eq!(place.command("r6").output().unwrap().status.code(), Some(1));
    let RunOutcome::Failed { reason } = place.result("r6").outcome else { panic!("it succeeded") };
    assert!(reason.contains("no training spec"), "{reason}");
}

#[test]
fn a_wrong_command_line_is_told_apart() {
    let place = Place::new(bars(10, 3));
    let program = env!("CARGO_BIN_EXE_moola-trainer");
    let run = |argument: &str| std::process::Command::new(program).arg(argument).output().unwrap();
    for url in [
        "ftp://bucket/runs/r1/spec.json",
        "s3:///runs/r1/spec.json",
        "s3://bucket/spec.json",
        "runs/r1/spec.json",
        "file:///tmp/spec.json",
        "file:///nowhere-at-all/runs/r1/spec.json",
    ] {
        let output = run(url);
        assert_eq!(output.status.code(), Some(2), "{url}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("`spec` is") && text.contains("file:///<directory>/runs/<run>/spec.json"), "{text}");
    }
    assert_eq!(std::process::Command::new(program).output().unwrap().status.code(), Some(2));
    // A run without a spec cannot succeed.
    assert_eq!(place.command("r9").output().unwrap().status.code(), Some(1));
}
