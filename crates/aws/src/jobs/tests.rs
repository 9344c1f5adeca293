use std::collections::{BTreeMap, HashMap};

use aws_sdk_batch::types::{
    ArrayPropertiesDetail, AttemptContainerDetail, AttemptDetail, ContainerDetail, JobStatus as BatchStatus,
};
use moola_core::ports::JobStatus;

use super::*;
use crate::canned::{Canned, answer};

fn names() -> Names {
    Names { prefix: "acme-moola".into() }
}

/// The job of the AWS Batch user guide, in a deployment's names.
fn detail(status: BatchStatus) -> aws_sdk_batch::types::builders::JobDetailBuilder {
    let container = ContainerDetail::builder()
        .command("s3://acme/runs/r1/spec.json")
        .environment(KeyValuePair::builder().name("COLOUR").value("blue").build());
    JobDetail::builder()
        .job_id("4c7599ae-0a82-49aa-ba5a-4727fcce14a8")
        .job_name("train-sp500")
        .job_queue("arn:aws:batch:us-east-1:123456789012:job-queue/acme-moola-gpu")
        .job_definition("arn:aws:batch:us-east-1:123456789012:job-definition/acme-moola-trainer-gpu:7")
        .status(status)
        .created_at(1_641_944_200_058)
        .retry_strategy(retry_strategy(3))
        .timeout(JobTimeout::builder().attempt_duration_seconds(60).build())
        .container(container.build())
        .tags("run_id", "r1")
        .tags("resourceArn", "arn:aws:batch:us-east-1:123456789012:job/4c7599ae")
        .tags("aws:batch:job-definition", "d")
}

fn attempt(exit_code: i32, stream: &str) -> AttemptDetail {
    let container = AttemptContainerDetail::builder().exit_code(exit_code).log_stream_name(stream).build();
    AttemptDetail::builder().container(container).started_at(1).stopped_at(2).build()
}

fn array(index: Option<i32>, summary: &[(&str, i32)]) -> ArrayPropertiesDetail {
    let summary: HashMap<String, i32> = summary.iter().map(|(status, count)| ((*status).to_owned(), *count)).collect();
    let array = ArrayPropertiesDetail::builder().set_status_summary(Some(summary)).set_index(index);
    if index.is_none() { array.size(4).build() } else { array.build() }
}

#[test]
fn the_request_is_read_back() {
    let job = names().describe(&detail(BatchStatus::Runnable).build()).unwrap();
    let expected = JobRequest {
        name: "train-sp500".into(),
        definition: "trainer".into(),
        queue: "gpu".into(),
        args: vec!["s3://acme/runs/r1/spec.json".into()],
        environment: BTreeMap::from([("COLOUR".into(), "blue".into())]),
        array_size: None,
        attempts: 3,
        timeout_secs: Some(60),
        tags: BTreeMap::from([("run_id".into(), "r1".into())]),
    };
    assert_eq!(job.request, expected);
    assert_eq!((job.status, job.attempts, job.exit_code), (JobStatus::Runnable, 0, None));
    assert_eq!((job.created_ms, job.started_ms, job.stopped_ms), (1_641_944_200_058, None, None));
}

#[test]
fn attempts_count_the_one_under_way() {
    let running = detail(BatchStatus::Running).started_at(5);
    assert_eq!(names().describe(&running.clone().build()).unwrap().attempts, 1);
    let second = running.attempts(attempt(75, "s/default/1"));
    let job = names().describe(&second.clone().build()).unwrap();
    assert_eq!((job.attempts, job.exit_code, job.stopped_ms), (2, Some(75), None));
    let current = ContainerDetail::builder().log_stream_name("s/default/2").build();
    let streams = convert::log_streams(&second.clone().container(current.clone()).build());
    assert_eq!(streams, [(1, "s/default/1".to_owned()), (2, "s/default/2".to_owned())]);

    let ended = second.status(BatchStatus::Succeeded).attempts(attempt(0, "s/default/2")).stopped_at(9);
    let ended = ended.container(current).build();
    let job = names().describe(&ended).unwrap();
    assert_eq!((job.attempts, job.exit_code, job.stopped_ms), (2, Some(0), Some(9)));
    assert_eq!(convert::log_streams(&ended).len(), 2);
}

#[test]
fn array_jobs_are_pending_while_their_children_run() {
    let status = |array: ArrayPropertiesDetail, status: BatchStatus| {
        names().describe(&detail(status).array_properties(array).build()).unwrap()
    };
    let waiting = status(array(None, &[("RUNNABLE", 4), ("FAILED", 0)]), BatchStatus::Pending);
    assert_eq!((waiting.status, waiting.request.array_size), (JobStatus::Runnable, Some(4)));
    assert_eq!(waiting.array_summary, BTreeMap::from([("RUNNABLE".to_owned(), 4)]));
    let running = status(array(None, &[("RUNNABLE", 3), ("SUCCEEDED", 1)]), BatchStatus::Pending);
    assert_eq!((running.status, running.attempts), (JobStatus::Running, 0));
    assert_eq!(status(array(Some(2), &[]), BatchStatus::Pending).status, JobStatus::Submitted);
    assert_eq!(status(array(Some(2), &[]), BatchStatus::Running).attempts, 1);
}

#[test]
fn ids_that_no_job_has_are_known() {
    for id in ["4c7599ae-0a82-49aa-ba5a-4727fcce14a8", "01k7:0", "01k7:9999"] {
        assert!(is_job_id(id), "{id}");
    }
    for id in ["", ":", "a:", "a:00", "a:-1", "a:1:1", "../x", "a b", &"a".repeat(65)] {
        assert!(!is_job_id(id), "{id}");
    }
}

#[test]
fn what_aws_batch_finds_wrong_is_named() {
    let request = names().describe(&detail(BatchStatus::Runnable).build()).unwrap().request;
    for (message, said) in [
        ("JobDefinition acme-moola-trainer-gpu not found", "`definition` is `trainer`"),
        ("Job queue acme-moola-gpu does not exist", "`queue` is `gpu`"),
        ("timeout must be at least 60 seconds", "at least 60 seconds"),
    ] {
        let error = refused(&request, message);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(said), "{error}");
    }
    assert!(timeout(Some(u64::MAX)).is_err());
}

#[tokio::test]
async fn jobs_of_other_queues_are_none() {
    let id = JobId("4c7599ae-0a82-49aa-ba5a-4727fcce14a8".into());
    for (queue, is_ours) in [("acme-moola-gpu", true), ("acme-moola-gpu-2", false), ("payroll", false)] {
        let job = serde_json::json!({"jobs": [{"jobId": &id.0, "jobName": "n", "status": "SUCCEEDED", "startedAt": 1,
            "jobQueue": format!("arn:aws:batch:us-east-1:123456789012:job-queue/{queue}"), "jobDefinition": "d"}]});
        let canned = Canned::new(move |_, _| answer(200, &job.to_string()));
        let jobs = BatchJobs::new(&canned.config().await, "acme-moola", "/aws/batch/job");
        let outcomes =
            [jobs.describe(&id).await.map(drop), jobs.cancel(&id, "test").await, jobs.logs(&id, 10).await.map(drop)];
        for outcome in outcomes {
            let kind = outcome.map_err(|error| error.kind());
            assert_eq!(kind, if is_ours { Ok(()) } else { Err(ErrorKind::NotFound) }, "{queue}");
        }
        assert!(canned.lines().iter().all(|line| line.contains("/v1/describejobs")), "{:?}", canned.lines());
    }
}
