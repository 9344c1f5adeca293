//! Jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use moola_aws::BatchJobs;
use moola_core::ErrorKind;
use moola_core::ports::{JobFilter, JobRequest, JobStatus, Jobs};
use moola_core::testkit::{self, JOB_SCRIPT, JobsUnderTest, Recorder};
use moola_local::CommandTemplate;
use moola_tests::batch_service::{BatchService, BatchServiceConfig, event_pattern, input_transformer};
use moola_tests::emulator::{Emulator, sdk_config};
use tempfile::TempDir;

use super::events::subscribe;

const LOG_GROUP: &str = "/aws/batch/job";

fn config(script: &str, dir: &TempDir) -> BatchServiceConfig {
    let args = ["-c", script, "testkit"].map(str::to_owned).to_vec();
    let template = CommandTemplate { program: "/bin/sh".into(), args };
    let names = ["moola-script-cpu", "moola-script-gpu"].map(|name| (name.to_owned(), template.clone()));
    BatchServiceConfig::new(BTreeMap::from(names), dir.path())
}

async fn client(service: &BatchService) -> BatchJobs {
    BatchJobs::new(&sdk_config(&service.endpoint()).await, "moola", LOG_GROUP)
}

fn request(args: &[&str]) -> JobRequest {
    JobRequest {
        name: "job".into(),
        definition: "script".into(),
        queue: "cpu".into(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        environment: BTreeMap::new(),
        array_size: None,
        attempts: 1,
        timeout_secs: None,
        tags: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_jobs() {
    let Some(emulator) = Emulator::shared() else { return };
    testkit::jobs(async || {
        let dir = tempfile::tempdir().unwrap();
        let emulated = emulator.sdk_config().await;
        let service = BatchService::start(config(JOB_SCRIPT, &dir), &emulated).await.unwrap();
        let recorder = Recorder::new();
        let changes = event_pattern();
        let subscription = subscribe(&emulated, "default", &changes, Some(input_transformer()), recorder.clone()).await;
        let jobs = Arc::new(client(&service).await);
        let keep = Box::new((service, subscription, dir));
        JobsUnderTest { jobs, recorder, definition: "script".into(), queue: "cpu".into(), keep }
    })
    .await;
}

async fn ended(jobs: &BatchJobs, request: JobRequest) -> moola_core::ports::JobDescription {
    let id = jobs.submit(request).await.unwrap();
    moola_tests::until("the end of the job", std::time::Duration::from_secs(60), async || {
        let job = jobs.describe(&id).await.unwrap();
        job.status.is_final().then_some(job)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_queues_are_listed_and_one_may_be_absent() {
    let Some(emulator) = Emulator::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let service = BatchService::start(config("exit 0", &dir), &emulator.sdk_config().await).await.unwrap();
    let jobs = client(&service).await;
    let mut ids = Vec::new();
    for queue in ["cpu", "gpu", "cpu"] {
        ids.insert(0, ended(&jobs, JobRequest { queue: queue.into(), ..request(&[]) }).await.id);
    }
    let listed = jobs.list(&JobFilter::default()).await.unwrap();
    assert_eq!(listed.iter().map(|job| &job.id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    assert_eq!(listed[1].request.queue, "gpu");
    service.shutdown().await;

    let dir = tempfile::tempdir().unwrap();
    let alone = BatchServiceConfig { queues: BTreeSet::from(["moola-cpu".into()]), ..config("exit 0", &dir) };
    let service = BatchService::start(alone, &emulator.sdk_config().await).await.unwrap();
    let jobs = client(&service).await;
    assert_eq!(jobs.list(&JobFilter::default()).await.unwrap(), []);
    let id = ended(&jobs, request(&[])).await.id;
    assert_eq!(jobs.list(&JobFilter::default()).await.unwrap()[0].id, id);
    let error = jobs.submit(JobRequest { queue: "gpu".into(), ..request(&[]) }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("`queue` is `gpu`"), "{error}");
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_logs_of_more_than_a_page() {
    let Some(emulator) = Emulator::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "i=0; while [ $i -lt $1 ]; do echo $i; i=$((i+1)); done";
    let service = BatchService::start(config(script, &dir), &emulator.sdk_config().await).await.unwrap();
    let jobs = client(&service).await;
    let job = ended(&jobs, request(&["25000"])).await;
    let lines = jobs.logs(&job.id, 24_000).await.unwrap();
    let expected = (1_000..25_000).map(|number: u32| number.to_string());
    assert!(lines.iter().map(|line| line.text.clone()).eq(expected), "{} lines", lines.len());
    assert_eq!(jobs.logs(&job.id, usize::MAX).await.unwrap().len(), 25_000);

    for _ in 0..110 {
        jobs.submit(request(&["0"])).await.unwrap();
    }
    let num_listed = async |limit: usize| {
        let listed = jobs.list(&JobFilter { status: None, limit }).await.unwrap();
        assert_eq!(listed.iter().map(|job| &job.id).collect::<BTreeSet<_>>().len(), listed.len());
        listed.len()
    };
    assert_eq!([num_listed(0).await, num_listed(105).await, num_listed(500).await], [100, 105, 111]);
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_have_the_environment_of_the_service_and_nobody_is_told() {
    let Some(emulator) = Emulator::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let environment = BTreeMap::from([("WHERE".to_owned(), "http://here with space".to_owned())]);
    let with_environment = BatchServiceConfig { environment, ..config(r#"echo "$WHERE""#, &dir) };
    let service = BatchService::start(with_environment, &emulator.sdk_config().await).await.unwrap();
    let jobs = client(&service).await;
    let job = ended(&jobs, request(&[])).await;
    assert_eq!((job.status, &job.request), (JobStatus::Succeeded, &request(&[])));
    assert_eq!(jobs.logs(&job.id, 1).await.unwrap()[0].text, "http://here with space");
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_end_with_the_service_and_go_on_with_the_next() {
    let Some(emulator) = Emulator::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "echo $$; [ $AWS_BATCH_JOB_ATTEMPT -gt 1 ] || exec sleep 300";
    let service = BatchService::start(config(script, &dir), &emulator.sdk_config().await).await.unwrap();
    let jobs = client(&service).await;
    let id = jobs.submit(request(&[])).await.unwrap();
    let pid = moola_tests::until("the start", std::time::Duration::from_secs(60), async || {
        jobs.logs(&id, 1).await.unwrap().pop().map(|line| line.text)
    })
    .await;
    service.shutdown().await;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    assert!(stat.is_err(), "the container outlived the service");

    let service = BatchService::start(config(script, &dir), &emulator.sdk_config().await).await.unwrap();
    let jobs = client(&service).await;
    moola_tests::until("the end", std::time::Duration::from_secs(60), async || {
        (jobs.describe(&id).await.unwrap().status == JobStatus::Succeeded).then_some(())
    })
    .await;
    service.shutdown().await;
}
