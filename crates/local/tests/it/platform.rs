//! Everything together in one data directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use moola_core::ErrorKind;
use moola_core::ports::{EventFilter, JobRequest, JobStatus, PutMode};
use moola_core::testkit::Recorder;
use moola_local::{CommandTemplate, Local, LocalConfig};

fn config(dir: &std::path::Path) -> LocalConfig {
    let args = ["-c", "echo $1; sleep $2", "job"].map(str::to_owned).to_vec();
    let definitions = BTreeMap::from([("echo".into(), CommandTemplate { program: "sh".into(), args })]);
    LocalConfig { definitions, max_concurrent_jobs: 2, ..LocalConfig::new(dir.join("data")) }
}

fn request(args: &[&str]) -> JobRequest {
    JobRequest {
        name: "echo".into(),
        definition: "echo".into(),
        queue: "cpu".into(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        environment: BTreeMap::new(),
        array_size: None,
        attempts: 1,
        timeout_secs: None,
        tags: BTreeMap::new(),
    }
}

/// Opens a directory that this process had open. A child that another test forks at this moment shares the lock until it
/// runs its own program, so it may take a little.
async fn reopen(data_dir: &Path) -> Local {
    for _ in 0..1000 {
        match Local::open(config(data_dir)).await {
            Ok(local) => return local,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the directory stays in use");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_has_one_platform_and_survives_it() {
    let dir = tempfile::tempdir().unwrap();
    let (quick, slow) = {
        let local = Local::open(config(dir.path())).await.unwrap();
        let error = Local::open(config(dir.path())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.hint().unwrap().contains("another moola process"));

        let recorder = Recorder::new();
        local.events.subscribe("recorder", EventFilter::of("aws.batch", ["Batch Job State Change"]), recorder.clone());
        local.start().await.unwrap();
        let ports = local.ports();
        ports.blobs.put("a/b", b"kept".as_slice().into(), PutMode::Create).await.unwrap();
        let quick = ports.jobs.submit(request(&["hello", "0"])).await.unwrap();
        recorder.wait("the end", |events| events.iter().any(|event| event.detail["status"] == "SUCCEEDED")).await;
        assert_eq!(ports.jobs.logs(&quick, 10).await.unwrap()[0].text, "hello");
        let slow = ports.jobs.submit(request(&["slow", "300"])).await.unwrap();
        while ports.jobs.logs(&slow, 1).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        local.shutdown().await;
        assert_eq!(ports.jobs.describe(&slow).await.unwrap().status, JobStatus::Running);
        (quick, slow)
    };
    let local = reopen(dir.path()).await;
    let ports = local.ports();
    assert_eq!(&ports.blobs.get("a/b").await.unwrap()[..], b"kept");
    assert_eq!(ports.jobs.describe(&quick).await.unwrap().status, JobStatus::Succeeded);
    local.start().await.unwrap();
    while ports.jobs.logs(&slow, 2).await.unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let job = ports.jobs.describe(&slow).await.unwrap();
    assert_eq!(job.attempts, 2, "the interrupted job runs again");
    ports.jobs.cancel(&slow, "done").await.unwrap();
    while !ports.jobs.describe(&slow).await.unwrap().status.is_final() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
