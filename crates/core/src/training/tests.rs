use bytes::Bytes;
use moola_market::simulate::{SimulationConfig, simulate};

use super::*;
use crate::dataset::ImportRequest;
use crate::memory::Memory;

async fn memory() -> Memory {
    let memory = Memory::new();
    let bars = simulate(&SimulationConfig { num_bars: 1200, ..SimulationConfig::default() }).unwrap().bars;
    let mut text = "timestamp,open,high,low,close\n".to_owned();
    for bar in bars.iter() {
        text += &format!("{},{},{},{},{}\n", bar.time_ms, bar.open, bar.high, bar.low, bar.close);
    }
    let request = ImportRequest::new("d", "SIM", "d.csv", Bytes::from(text));
    Datasets::new(memory.ports()).import(request).await.unwrap();
    memory
}

fn request() -> TrainRequest {
    serde_json::from_value(json!({
        "model_name": "m", "dataset": "d", "label": {"kind": "expansion", "horizon": 5, "multiple": 1.0}
    }))
    .unwrap()
}

fn endings(memory: &Memory) -> usize {
    memory.events.published().iter().filter(|event| event.detail_type == "Run Ended").count()
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_before_anything_is_kept() {
    let memory = memory().await;
    let training = Training::new(memory.ports(), TrainingConfig::default());
    for (field, value) in [
        ("/resources/queue", json!("a b")),
        ("/resources/timeout_secs", json!(0)),
        ("/resources/attempts", json!(0)),
        ("/label/multiple", json!(-1.0)),
        ("/label/horizon", json!(100_000_000)),
        ("/optimizer/learning_rate", json!(0.0)),
    ] {
        let mut request = serde_json::to_value(request()).unwrap();
        *request.pointer_mut(field).unwrap() = value;
        let error = training.start(serde_json::from_value(request).unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{field}");
        let name = field.rsplit('/').next().unwrap();
        assert!(error.to_string().contains(name), "{field}: {error}");
    }
    assert!(training.list(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_run_whose_job_is_refused_fails_and_holds_up_nothing() {
    // No job definition is known, so every submission is refused.
    let memory = memory().await;
    let training = Training::new(memory.ports(), TrainingConfig::default());
    let error = training.start(request()).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    let runs = training.list(10).await.unwrap();
    assert_eq!((runs.len(), runs[0].status), (1, RunStatus::Failed), "{runs:?}");
    training.resume(Duration::ZERO).await.unwrap();
    assert_eq!(endings(&memory), 1);
}

#[tokio::test]
async fn a_run_ends_once_whatever_is_told_twice() {
    let memory = memory().await;
    memory.jobs.hold(TRAINER);
    let training = Training::new(memory.ports(), TrainingConfig::default());
    let run = training.start(request()).await.unwrap();
    let again = training.start_as(run.run_id.clone(), request(), "request", "c").await.unwrap();
    assert_eq!(again.job_id, run.job_id);
    for status in ["RUNNING", "FAILED", "RUNNING", "SUCCEEDED", "FAILED"] {
        let detail = json!({"status": status, "statusReason": "told", "tags": {"run_id": run.run_id}});
        training.on_job_event(&detail).await.unwrap();
    }
    let run = training.get(&run.run_id).await.unwrap();
    assert_eq!((run.status, run.reason.as_deref()), (RunStatus::Failed, Some("told")));
    assert_eq!(endings(&memory), 1);
    // An event of a job that is none of ours, or of no run at all.
    training.on_job_event(&json!({"status": "FAILED", "tags": {"run_id": "other"}})).await.unwrap();
    training.on_job_event(&json!({"status": "FAILED"})).await.unwrap();
}
