use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{Recorder, ok, refused, wait};
use crate::error::ErrorKind;
use crate::memory::JobContext;
use crate::ports::{
    CORRELATION_TAG, EXIT_RETRY, Event, JOB_EVENT_SOURCE, JOB_EVENT_TYPE, JobDescription, JobFilter, JobId, JobRequest,
    JobStatus, Jobs,
};

/// What the jobs of the suite do, for `/bin/sh -c SCRIPT testkit ARGS...`.
pub const JOB_SCRIPT: &str = r#"
case "$1" in
exit) exit "$2" ;;
print) shift; for line in "$@"; do echo "$line"; done ;;
env) shift; for name in "$@"; do eval "echo \"$name=\${$name-}\""; done ;;
retry) echo "attempt $AWS_BATCH_JOB_ATTEMPT"; [ "$AWS_BATCH_JOB_ATTEMPT" -ge "$2" ] || exit 75 ;;
kill) [ "$AWS_BATCH_JOB_ATTEMPT" -ge "$2" ] || kill -9 $$ ;;
sleep) echo ready; exec sleep "$2" ;;
checkpoint) trap 'echo checkpoint; exit 75' TERM; echo ready; while :; do sleep 0.05; done ;;
index) [ "$AWS_BATCH_JOB_ARRAY_INDEX" != "$2" ] || exit 3 ;;
*) exit 2 ;;
esac
"#;

/// [`JOB_SCRIPT`] for [`crate::memory::MemoryJobs`].
pub async fn job_script(context: JobContext) -> i32 {
    let argument = |index: usize| context.args.get(index).map_or("", String::as_str);
    let number = |index: usize| argument(index).parse::<u32>().unwrap_or(0);
    match argument(0) {
        "exit" => number(1) as i32,
        "print" => {
            context.args[1..].iter().for_each(|line| context.log(line));
            0
        }
        "env" => {
            for name in &context.args[1..] {
                context.log(format!("{name}={}", context.environment.get(name).map_or("", String::as_str)));
            }
            0
        }
        "retry" => {
            context.log(format!("attempt {}", context.attempt));
            if context.attempt >= number(1) { 0 } else { EXIT_RETRY }
        }
        "kill" if context.attempt < number(1) => 137,
        "kill" => 0,
        "sleep" => {
            context.log("ready");
            tokio::time::sleep(Duration::from_secs(number(1).into())).await;
            0
        }
        "checkpoint" => {
            let terminated = context.terminated();
            context.log("ready");
            terminated.await;
            context.log("checkpoint");
            EXIT_RETRY
        }
        "index" => {
            if context.array_index == Some(number(1)) {
                3
            } else {
                0
            }
        }
        _ => 2,
    }
}

/// A job runner and what the suite needs to know of it.
pub struct JobsUnderTest {
    /// The runner; it runs at least two jobs at a time.
    pub jobs: Arc<dyn Jobs>,
    /// Is told the events that the runner publishes.
    pub recorder: Arc<Recorder>,
    /// The definition that runs [`JOB_SCRIPT`].
    pub definition: String,
    /// A queue.
    pub queue: String,
    /// Kept for as long as the suite runs.
    pub keep: Box<dyn std::any::Any + Send + Sync>,
}

impl JobsUnderTest {
    fn request(&self, args: &[&str]) -> JobRequest {
        JobRequest {
            name: "conformance-1".into(),
            definition: self.definition.clone(),
            queue: self.queue.clone(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            environment: BTreeMap::new(),
            array_size: None,
            attempts: 1,
            timeout_secs: None,
            tags: BTreeMap::from([("purpose".into(), "test".into())]),
        }
    }

    async fn submit(&self, request: JobRequest) -> JobId {
        ok(self.jobs.submit(request).await, "submit")
    }

    async fn ended(&self, id: &JobId) -> JobDescription {
        wait(&format!("the end of job `{id}`"), async || {
            let job = ok(self.jobs.describe(id).await, "describe");
            job.status.is_final().then_some(job)
        })
        .await
    }

    async fn run(&self, request: JobRequest) -> JobDescription {
        let id = self.submit(request).await;
        self.ended(&id).await
    }

    async fn lines(&self, id: &JobId) -> Vec<(u32, String)> {
        ok(self.jobs.logs(id, 1_000).await, "logs").into_iter().map(|line| (line.attempt, line.text)).collect()
    }

    async fn wait_for_line(&self, id: &JobId, text: &str) {
        wait(&format!("the line `{text}` of job `{id}`"), async || {
            self.lines(id).await.iter().any(|(_, line)| line == text).then_some(())
        })
        .await;
    }

    /// The statuses that the events about `id` tell, up to the last one, without repetitions.
    async fn told(&self, id: &JobId) -> Vec<Event> {
        let about = |events: &[Event]| -> Vec<Event> {
            let mut seen = BTreeSet::new();
            let about = events.iter().filter(|event| event.detail["jobId"] == json!(id.0));
            about.filter(|event| seen.insert(event.id.clone())).cloned().collect()
        };
        let is_last = |event: &Event| event.detail["status"] == "SUCCEEDED" || event.detail["status"] == "FAILED";
        let events = self.recorder.wait("the last event about a job", |events| about(events).iter().any(is_last)).await;
        about(&events)
    }
}

/// The statuses that events tell; not every runner tells the first one, which is no change.
fn statuses(events: &[Event]) -> Vec<&str> {
    let statuses = events.iter().map(|event| event.detail["status"].as_str().unwrap_or(""));
    statuses.filter(|status| *status != "SUBMITTED").collect()
}

/// Checks [`Jobs`]; `make` makes a runner without jobs.
///
/// # Panics
/// Where a promise is broken.
pub async fn jobs(make: impl AsyncFn() -> JobsUnderTest) {
    let runner = make().await;
    bad_requests(&runner).await;
    success(&runner).await;
    environment(&runner).await;
    failure_and_retries(&runner).await;
    timeouts(&runner).await;
    cancellations(&runner).await;
    arrays(&runner).await;
    listing(&make().await).await;
}

async fn bad_requests(runner: &JobsUnderTest) {
    let good = runner.request(&["exit", "0"]);
    let bad = [
        ("name", JobRequest { name: "-a".into(), ..good.clone() }),
        ("name", JobRequest { name: String::new(), ..good.clone() }),
        ("name", JobRequest { name: "a b".into(), ..good.clone() }),
        ("name", JobRequest { name: "a".repeat(129), ..good.clone() }),
        ("definition", JobRequest { definition: "unknown".into(), ..good.clone() }),
        ("queue", JobRequest { queue: String::new(), ..good.clone() }),
        ("attempts", JobRequest { attempts: 0, ..good.clone() }),
        ("attempts", JobRequest { attempts: 11, ..good.clone() }),
        ("array_size", JobRequest { array_size: Some(1), ..good.clone() }),
        ("array_size", JobRequest { array_size: Some(10_001), ..good.clone() }),
        ("timeout_secs", JobRequest { timeout_secs: Some(0), ..good.clone() }),
        (
            "environment",
            JobRequest { environment: BTreeMap::from([("AWS_BATCH_JOB_ID".into(), "1".into())]), ..good.clone() },
        ),
    ];
    for (field, request) in bad {
        let error = runner.jobs.submit(request).await.expect_err(field);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{field}: {error}");
        assert!(error.to_string().contains(field), "`{field}` is not named: {error}");
    }
    for id in ["unknown", "", "../x", "unknown:0"] {
        let id = JobId(id.into());
        refused(runner.jobs.describe(&id).await, ErrorKind::NotFound, "describe");
        refused(runner.jobs.cancel(&id, "reason").await, ErrorKind::NotFound, "cancel");
        refused(runner.jobs.logs(&id, 10).await, ErrorKind::NotFound, "logs");
    }
}

async fn success(runner: &JobsUnderTest) {
    let mut request = runner.request(&["print", "one", "two  words", "", "ä"]);
    request.tags.insert(CORRELATION_TAG.into(), "chain-7".into());
    let job = runner.run(request.clone()).await;
    assert_eq!(job.status, JobStatus::Succeeded, "{job:?}");
    assert_eq!((job.attempts, job.exit_code), (1, Some(0)));
    assert_eq!(job.request, request);
    let (started_ms, stopped_ms) = (job.started_ms.expect("started"), job.stopped_ms.expect("stopped"));
    assert!(job.created_ms <= started_ms && started_ms <= stopped_ms, "{job:?}");
    let lines = |texts: &[&str]| -> Vec<(u32, String)> { texts.iter().map(|&text| (1, text.to_owned())).collect() };
    assert_eq!(runner.lines(&job.id).await, lines(&["one", "two  words", "", "ä"]));
    let last = ok(runner.jobs.logs(&job.id, 2).await, "logs");
    assert_eq!(last.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["", "ä"]);
    ok(runner.jobs.cancel(&job.id, "too late").await, "cancel of an ended job");
    assert_eq!(ok(runner.jobs.describe(&job.id).await, "describe"), job, "a late cancellation changed something");

    let events = runner.told(&job.id).await;
    assert_eq!(statuses(&events), ["RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]);
    for event in &events {
        assert_eq!((event.source.as_str(), event.detail_type.as_str()), (JOB_EVENT_SOURCE, JOB_EVENT_TYPE));
        assert_eq!(event.correlation_id, "chain-7");
        assert_eq!(event.detail["jobName"], "conformance-1");
        assert_eq!(event.detail["tags"]["purpose"], "test");
    }
    let last = &events.last().expect("the last event").detail;
    assert_eq!(last["container"]["exitCode"], 0);
    assert_eq!(last["attempts"][0]["container"]["exitCode"], 0);
}

async fn environment(runner: &JobsUnderTest) {
    let mut request =
        runner.request(&["env", "AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT", "AWS_BATCH_JOB_ARRAY_INDEX", "COLOUR"]);
    request.environment.insert("COLOUR".into(), "deep \"blue\" $HOME".into());
    let job = runner.run(request).await;
    let expected = [
        format!("AWS_BATCH_JOB_ID={}", job.id),
        "AWS_BATCH_JOB_ATTEMPT=1".into(),
        "AWS_BATCH_JOB_ARRAY_INDEX=".into(),
        "COLOUR=deep \"blue\" $HOME".into(),
    ];
    assert_eq!(runner.lines(&job.id).await, expected.map(|line| (1, line)));
}

async fn failure_and_retries(runner: &JobsUnderTest) {
    let job = runner.run(JobRequest { attempts: 3, ..runner.request(&["exit", "3"]) }).await;
    assert_eq!((job.status, job.attempts, job.exit_code), (JobStatus::Failed, 1, Some(3)), "exit 3 is not run again");
    assert!(job.status_reason.is_some());
    let events = runner.told(&job.id).await;
    assert_eq!(events.last().map(|event| &event.detail["container"]["exitCode"]), Some(&json!(3)));
    assert!(events.last().is_some_and(|event| event.detail["statusReason"].is_string()));

    let job = runner.run(JobRequest { attempts: 3, ..runner.request(&["retry", "3"]) }).await;
    assert_eq!((job.status, job.attempts, job.exit_code), (JobStatus::Succeeded, 3, Some(0)));
    let expected: Vec<(u32, String)> = (1..=3).map(|attempt| (attempt, format!("attempt {attempt}"))).collect();
    assert_eq!(runner.lines(&job.id).await, expected);
    let events = runner.told(&job.id).await;
    let expected = [
        "RUNNABLE",
        "STARTING",
        "RUNNING",
        "RUNNABLE",
        "STARTING",
        "RUNNING",
        "RUNNABLE",
        "STARTING",
        "RUNNING",
        "SUCCEEDED",
    ];
    assert_eq!(statuses(&events), expected);
    let attempts = events.last().and_then(|event| event.detail["attempts"].as_array().cloned()).unwrap_or_default();
    let codes: Vec<_> = attempts.iter().map(|attempt| attempt["container"]["exitCode"].clone()).collect();
    assert_eq!(codes, [75, 75, 0]);

    let job = runner.run(JobRequest { attempts: 2, ..runner.request(&["retry", "9"]) }).await;
    assert_eq!((job.status, job.attempts, job.exit_code), (JobStatus::Failed, 2, Some(EXIT_RETRY)));

    let job = runner.run(JobRequest { attempts: 2, ..runner.request(&["kill", "2"]) }).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Succeeded, 2), "a death by signal is run again");
    let job = runner.run(runner.request(&["kill", "2"])).await;
    assert_eq!((job.status, job.attempts, job.exit_code), (JobStatus::Failed, 1, Some(137)));
}

async fn timeouts(runner: &JobsUnderTest) {
    let job = runner.run(JobRequest { timeout_secs: Some(1), attempts: 3, ..runner.request(&["sleep", "300"]) }).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Failed, 1), "{job:?}");
    assert!(job.status_reason.is_some_and(|reason| reason.contains("1 s")));
    let job = runner.run(JobRequest { timeout_secs: Some(30), ..runner.request(&["exit", "0"]) }).await;
    assert_eq!(job.status, JobStatus::Succeeded);
}

async fn cancellations(runner: &JobsUnderTest) {
    for (verb, exit_code) in [("sleep", None), ("checkpoint", Some(EXIT_RETRY))] {
        let id = runner.submit(JobRequest { attempts: 5, ..runner.request(&[verb, "300"]) }).await;
        runner.wait_for_line(&id, "ready").await;
        // It may print before its start is recorded.
        let job = wait("the start of a job", async || {
            let job = ok(runner.jobs.describe(&id).await, "describe");
            (job.status == JobStatus::Running).then_some(job)
        })
        .await;
        assert_eq!(job.stopped_ms, None);
        ok(runner.jobs.cancel(&id, "enough of it").await, "cancel");
        ok(runner.jobs.cancel(&id, "a second reason").await, "second cancel");
        let job = runner.ended(&id).await;
        assert_eq!((job.status, job.attempts), (JobStatus::Failed, 1), "{verb}");
        assert_eq!(job.status_reason.as_deref(), Some("enough of it"), "{verb}");
        if exit_code.is_some() {
            assert_eq!(job.exit_code, exit_code, "{verb} was not asked to end before it was killed");
            runner.wait_for_line(&id, "checkpoint").await;
        }
        let events = runner.told(&id).await;
        assert_eq!(events.last().map(|event| &event.detail["statusReason"]), Some(&json!("enough of it")));
    }
}

async fn arrays(runner: &JobsUnderTest) {
    let request = JobRequest { array_size: Some(4), ..runner.request(&["env", "AWS_BATCH_JOB_ARRAY_INDEX"]) };
    let parent = runner.run(request).await;
    assert_eq!(parent.status, JobStatus::Succeeded, "{parent:?}");
    assert_eq!(parent.array_summary, BTreeMap::from([("SUCCEEDED".to_owned(), 4)]));
    assert_eq!(runner.lines(&parent.id).await, [], "the parent prints nothing");
    for index in 0..4 {
        let id = JobId(format!("{}:{index}", parent.id));
        let child = ok(runner.jobs.describe(&id).await, "describe");
        assert_eq!((&child.id, child.status), (&id, JobStatus::Succeeded));
        assert_eq!(runner.lines(&id).await, [(1, format!("AWS_BATCH_JOB_ARRAY_INDEX={index}"))]);
        let told = runner.told(&id).await;
        assert_eq!(told.last().map(|event| &event.detail["arrayProperties"]["index"]), Some(&json!(index)));
    }
    for index in ["4", "x", "", "00", "0:0"] {
        let id = JobId(format!("{}:{index}", parent.id));
        refused(runner.jobs.describe(&id).await, ErrorKind::NotFound, &id.0);
    }
    let told = runner.told(&parent.id).await;
    assert_eq!(
        told.last().map(|event| &event.detail["arrayProperties"]["statusSummary"]["SUCCEEDED"]),
        Some(&json!(4))
    );

    let parent = runner.run(JobRequest { array_size: Some(3), ..runner.request(&["index", "1"]) }).await;
    assert_eq!(parent.status, JobStatus::Failed);
    assert_eq!(parent.array_summary, BTreeMap::from([("FAILED".to_owned(), 1), ("SUCCEEDED".to_owned(), 2)]));
    let failed = ok(runner.jobs.describe(&JobId(format!("{}:1", parent.id))).await, "describe");
    assert_eq!((failed.status, failed.exit_code), (JobStatus::Failed, Some(3)));

    let id = runner.submit(JobRequest { array_size: Some(20), ..runner.request(&["sleep", "300"]) }).await;
    runner.wait_for_line(&JobId(format!("{id}:0")), "ready").await;
    assert_eq!(ok(runner.jobs.describe(&id).await, "describe").status, JobStatus::Running);
    ok(runner.jobs.cancel(&id, "all of it").await, "cancel of an array job");
    let parent = runner.ended(&id).await;
    assert_eq!((parent.status, parent.status_reason.as_deref()), (JobStatus::Failed, Some("all of it")));
    assert_eq!(parent.array_summary, BTreeMap::from([("FAILED".to_owned(), 20)]));
}

async fn listing(runner: &JobsUnderTest) {
    assert_eq!(ok(runner.jobs.list(&JobFilter::default()).await, "list"), []);
    let mut ids = Vec::new();
    for index in 0..6 {
        let code = if index % 3 == 0 { "1" } else { "0" };
        let array_size = (index == 5).then_some(2);
        let job = runner.run(JobRequest { array_size, ..runner.request(&["exit", code]) }).await;
        ids.insert(0, job.id);
    }
    let list = async |status: Option<JobStatus>, limit: usize| -> Vec<JobId> {
        let jobs = ok(runner.jobs.list(&JobFilter { status, limit }).await, "list");
        jobs.into_iter().map(|job| job.id).collect()
    };
    assert_eq!(list(None, 0).await, ids);
    assert_eq!(list(None, 2).await, ids[..2]);
    assert_eq!(list(Some(JobStatus::Failed), 0).await, [ids[2].clone(), ids[5].clone()]);
    assert_eq!(list(Some(JobStatus::Failed), 1).await, [ids[2].clone()]);
    assert_eq!(list(Some(JobStatus::Running), 0).await, []);
}
