//! The trainer on S3, stopped and killed: it goes on from its last checkpoint there, and ends as if nothing had happened.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moola_aws::S3Blobs;
use moola_core::contract::{Progress, RunOutcome, RunResult};
use moola_core::dataset::{Datasets, ImportRequest};
use moola_core::memory::Memory;
use moola_core::ports::{Blobs, Ports};
use moola_core::training::{TRAINER, Training, TrainingConfig};
use moola_tests::emulator::{Emulator, unique_name};
use moola_tests::{bars, program, until};
use serde_json::json;
use tokio::process::{Child, Command};

use super::platform::{Platform, standard_environment};
use crate::crash::{ended, training};

const RUN: &str = "r1";
const LIMIT: Duration = Duration::from_secs(120);
const EPOCHS: usize = 40;

/// A bucket with a run that nobody has started yet.
struct Place {
    ports: Ports,
}

impl Place {
    async fn new(emulator: &Emulator) -> Self {
        let config = emulator.sdk_config().await;
        let bucket = unique_name("resume");
        let client =
            aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build());
        client.create_bucket().bucket(&bucket).send().await.unwrap();
        let memory = Memory::new();
        memory.jobs.hold(TRAINER);
        let ports = Ports { blobs: Arc::new(S3Blobs::new(&config, bucket)), ..memory.ports() };
        let file = Bytes::from(bars::csv(&bars::simulated(1, 2000)));
        Datasets::new(ports.clone()).import(ImportRequest::new("d", "d", "d.csv", file)).await.unwrap();
        let request = serde_json::from_value(training("m", "d", EPOCHS)).unwrap();
        let training = Training::new(ports.clone(), TrainingConfig::default());
        training.start_as(RUN.into(), request, "request", RUN).await.unwrap();
        Self { ports }
    }

    fn start(&self, emulator: &Emulator) -> Child {
        let mut command = Command::new(program("moola-trainer"));
        command.arg(self.ports.blobs.url(&format!("runs/{RUN}/spec.json"))).envs(standard_environment(emulator));
        for name in ["AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT", "AWS_BATCH_JOB_ARRAY_INDEX"] {
            command.env_remove(name);
        }
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap()
    }

    async fn file(&self, name: &str) -> Bytes {
        self.ports.blobs.get(&format!("runs/{RUN}/{name}")).await.unwrap()
    }

    async fn result(&self) -> RunResult {
        serde_json::from_slice(&self.file("result.json").await).unwrap()
    }

    /// Waits for a checkpoint later than the step `after`; its step.
    async fn checkpoint(&self, after: u64) -> u64 {
        until("a checkpoint", LIMIT, async || checkpoint(&*self.ports.blobs, RUN).await.filter(|step| *step > after))
            .await
    }

    /// What was reported of the steps, in order.
    async fn losses(&self) -> Vec<(u64, f64)> {
        let page = self.ports.blobs.list(&format!("runs/{RUN}/progress/"), None, 1000).await.unwrap();
        assert_eq!(page.next, None);
        let mut losses = Vec::new();
        for blob in page.blobs {
            let text = self.ports.blobs.get(&blob.key).await.unwrap();
            for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                if let Progress::Step(step) = serde_json::from_slice(line).unwrap() {
                    losses.push((step.step, step.loss));
                }
            }
        }
        losses
    }
}

/// The step of the latest whole checkpoint of a run.
async fn checkpoint(blobs: &dyn Blobs, run_id: &str) -> Option<u64> {
    let prefix = format!("runs/{run_id}/checkpoints/");
    let page = blobs.list(&prefix, None, 1000).await.unwrap();
    let steps = page.blobs.iter().filter_map(|blob| {
        let step = blob.key.strip_prefix(&prefix)?.strip_suffix("/manifest.json")?;
        Some(step.parse().unwrap())
    });
    steps.max()
}

fn send(signal: &str, id: u32) {
    let sent = std::process::Command::new("kill").args([signal, &id.to_string()]).status().unwrap();
    assert!(sent.success(), "{signal} to {id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_goes_on_from_its_checkpoint_in_s3() {
    let Some(emulator) = Emulator::shared() else { return };
    let undisturbed = Place::new(emulator).await;
    assert!(undisturbed.start(emulator).wait().await.unwrap().success());

    // A reclaim that is announced: a checkpoint, and the wish to be run again.
    let place = Place::new(emulator).await;
    let mut first = place.start(emulator);
    place.checkpoint(0).await;
    send("-TERM", first.id().expect("the trainer ended before it was asked to"));
    assert_eq!(first.wait().await.unwrap().code(), Some(75));
    assert!(place.ports.blobs.head(&format!("runs/{RUN}/result.json")).await.is_err(), "there is a result already");

    // One that is not. Without the environment of a job, attempts are counted in the checkpoints alone.
    let stopped_at = checkpoint(&*place.ports.blobs, RUN).await.unwrap();
    let mut second = place.start(emulator);
    let killed_after = place.checkpoint(stopped_at + 100).await;
    send("-KILL", second.id().expect("the trainer ended before it was killed"));
    assert_eq!(second.wait().await.unwrap().signal(), Some(9));

    assert!(place.start(emulator).wait().await.unwrap().success());
    let (result, expected) = (place.result().await, undisturbed.result().await);
    assert_eq!((&result.outcome, result.attempts, expected.attempts), (&RunOutcome::Completed, 3, 1));
    assert!(killed_after < result.steps, "killed after step {killed_after} of {}", result.steps);
    assert_eq!(result.metrics, expected.metrics);
    for name in ["artifacts/model.onnx", "artifacts/reference.json"] {
        assert!(place.file(name).await == undisturbed.file(name).await, "`{name}` differs");
    }
    let losses = place.losses().await;
    assert!(losses.iter().map(|(step, _)| *step).eq(1..=result.steps), "a step is missing or told twice");
    assert_eq!(losses, undisturbed.losses().await);
    eprintln!("stopped at step {stopped_at}, killed after step {killed_after} of {}", result.steps);
}

/// The process that trains `run_id`: a child of this one, told by its command line.
fn trainer_of(run_id: &str) -> Option<u32> {
    let spec = format!("/runs/{run_id}/spec.json");
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let line = String::from_utf8(std::fs::read(entry.path().join("cmdline")).ok()?).ok()?;
        let arguments: Vec<&str> = line.split_terminator('\0').collect();
        let is_trainer = Path::new(arguments.first()?).ends_with("moola-trainer");
        (is_trainer && arguments.last()?.ends_with(&spec)).then_some(id)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_instance_is_reclaimed_becomes_a_version() {
    let Some(emulator) = Emulator::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let platform = Platform::start(emulator, "", dir.path(), true).await;
    let api = &platform.api;
    let blobs = S3Blobs::new(&emulator.sdk_config().await, &platform.made.environment["MOOLA_BUCKET"]);
    api.import("d", bars::csv(&bars::simulated(1, 2000))).await.unwrap().ok();
    let started = api.post("/api/v2/training/jobs", &training("m", "d", EPOCHS)).await.ok();
    let run_id = started["run_id"].as_str().unwrap();
    until("a checkpoint", LIMIT, async || checkpoint(&blobs, run_id).await).await;
    send("-KILL", trainer_of(run_id).expect("the run ended before it was killed"));

    let run = ended(api, run_id, LIMIT).await;
    assert_eq!((&run["status"], &run["model_version"]), (&json!("completed"), &json!(1)), "{run}");
    let view = api.get(&format!("/api/v2/training/jobs/{run_id}")).await.ok();
    assert_eq!((&view["result"]["attempts"], &view["result"]["epochs"]), (&json!(2), &json!(EPOCHS)), "{view}");
    let job = api.get(&format!("/api/v2/jobs/{}", run["job_id"].as_str().unwrap())).await.ok();
    assert_eq!((&job["status"], &job["attempts"]), (&json!("SUCCEEDED"), &json!(2)), "{job}");
    let versions = api.get("/api/v2/models/m/versions").await.ok();
    assert_eq!(versions["versions"].as_array().unwrap().len(), 1, "{versions}");
    platform.batch.shutdown().await;
}
