//! What only processes can get wrong.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moola_core::memory::{ManualClock, MemoryEvents, MemoryTable, SequentialIds};
use moola_core::ports::{JobDescription, JobId, JobRequest, JobStatus, Jobs};
use moola_core::system::TimeIds;
use moola_local::{CommandTemplate, Local, LocalConfig, ProcessJobs, ProcessJobsConfig};

fn shell(script: &str) -> BTreeMap<String, CommandTemplate> {
    let args = ["-c", script].map(str::to_owned).to_vec();
    BTreeMap::from([("sleeper".into(), CommandTemplate { program: "/bin/sh".into(), args })])
}

fn request() -> JobRequest {
    JobRequest {
        name: "sleeper".into(),
        definition: "sleeper".into(),
        queue: "cpu".into(),
        args: Vec::new(),
        environment: BTreeMap::new(),
        array_size: None,
        attempts: 1,
        timeout_secs: None,
        tags: BTreeMap::new(),
    }
}

fn is_alive(pid: &str) -> bool {
    // A zombie is dead, whoever has not noticed.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(30), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn lines(jobs: &dyn Jobs, id: &JobId) -> Vec<String> {
    jobs.logs(id, 100).await.unwrap().into_iter().map(|line| line.text).collect()
}

async fn ended(jobs: &dyn Jobs, id: &JobId) -> JobDescription {
    until("the end of the job", async || jobs.describe(id).await.unwrap().status.is_final()).await;
    jobs.describe(id).await.unwrap()
}

fn runner(dir: &Path, script: &str) -> ProcessJobs {
    let mut config = ProcessJobsConfig::new(shell(script), dir);
    config.grace = Duration::from_millis(300);
    let clock = Arc::new(ManualClock::new(1));
    let ids = Arc::new(SequentialIds::new());
    ProcessJobs::new(Arc::new(MemoryTable::new()), Arc::new(MemoryEvents::new()), clock, ids, config).unwrap()
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = runner(dir.path(), "trap '' TERM; echo $$; sh -c 'sleep 300' & echo $!; wait; sleep 300");
    jobs.start().await.unwrap();
    let id = jobs.submit(request()).await.unwrap();
    until("the start", async || lines(&jobs, &id).await.len() == 2).await;
    let pids = lines(&jobs, &id).await;
    assert!(pids.iter().all(|pid| is_alive(pid)), "{pids:?}");
    jobs.cancel(&id, "enough").await.unwrap();
    let job = ended(&jobs, &id).await;
    assert_eq!((job.exit_code, job.status_reason.as_deref()), (Some(137), Some("enough")));
    until("the death of all", async || !pids.iter().any(|pid| is_alive(pid))).await;
}

#[tokio::test]
async fn what_a_job_leaves_behind_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = runner(dir.path(), "sleep 300 & echo $!");
    jobs.start().await.unwrap();
    let id = jobs.submit(request()).await.unwrap();
    assert_eq!(ended(&jobs, &id).await.status, JobStatus::Succeeded);
    let pid = lines(&jobs, &id).await.remove(0);
    until("the death of what was left behind", async || !is_alive(&pid)).await;
}

#[tokio::test]
async fn a_program_that_does_not_exist_fails_the_job_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let program = CommandTemplate { program: "/no/such/program".into(), args: vec![] };
    let config = ProcessJobsConfig::new(BTreeMap::from([("sleeper".into(), program)]), dir.path());
    let (table, events) = (Arc::new(MemoryTable::new()), Arc::new(MemoryEvents::new()));
    let clock = Arc::new(ManualClock::new(1));
    let jobs = ProcessJobs::new(table, events, clock, Arc::new(SequentialIds::new()), config).unwrap();
    jobs.start().await.unwrap();
    let id = jobs.submit(request()).await.unwrap();
    let job = ended(&jobs, &id).await;
    assert_eq!(job.status, JobStatus::Failed);
    assert!(job.status_reason.unwrap().contains("/no/such/program"));
}

#[tokio::test]
async fn jobs_wait_for_a_place_and_for_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = runner(dir.path(), "echo ready; sleep 300");
    let first = jobs.submit(request()).await.unwrap();
    let second = jobs.submit(request()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(jobs.describe(&first).await.unwrap().status, JobStatus::Runnable, "nothing runs before the start");
    jobs.start().await.unwrap();
    until("the start", async || !lines(&jobs, &first).await.is_empty()).await;
    assert_eq!(jobs.describe(&second).await.unwrap().status, JobStatus::Runnable, "there is one place");
    jobs.cancel(&first, "enough").await.unwrap();
    until("the start of the second", async || !lines(&jobs, &second).await.is_empty()).await;
    jobs.cancel(&second, "enough").await.unwrap();
    ended(&jobs, &second).await;
}

/// Stops the platform `num_stops` times while the job runs, and looks at it under the next one, which prints the end.
async fn interrupted(num_stops: u32, script: &str) -> (JobDescription, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let table = Arc::new(MemoryTable::new());
    // Unique on this machine: a start kills what an earlier one left of the same job, which is known by its id.
    let ids = Arc::new(TimeIds::new(Arc::new(ManualClock::new(1))).unwrap());
    let platform = || {
        let config = ProcessJobsConfig::new(shell(script), dir.path());
        let events = Arc::new(MemoryEvents::new());
        ProcessJobs::new(table.clone(), events, Arc::new(ManualClock::new(1)), ids.clone(), config).unwrap()
    };
    let id = platform().submit(request()).await.unwrap();
    for stop in 1..=num_stops {
        let jobs = platform();
        jobs.start().await.unwrap();
        let started = async || jobs.logs(&id, 1).await.unwrap().last().is_some_and(|line| line.attempt == stop);
        until("the start", started).await;
        jobs.shutdown().await;
    }
    let jobs = platform();
    jobs.start().await.unwrap();
    (ended(&jobs, &id).await, lines(&jobs, &id).await)
}

#[tokio::test]
async fn what_the_platform_cuts_short_takes_no_attempt() {
    let script = "echo $AWS_BATCH_JOB_ATTEMPT; [ $AWS_BATCH_JOB_ATTEMPT -gt 4 ] || exec sleep 300";
    let (job, lines) = interrupted(4, script).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Succeeded, 5), "{job:?}");
    assert_eq!(lines, ["1", "2", "3", "4", "5"], "every attempt has a number and a log of its own");
    // Its own failures still do.
    let (job, _) = interrupted(2, "echo; [ $AWS_BATCH_JOB_ATTEMPT -le 2 ] && exec sleep 300; exit 75").await;
    assert_eq!((job.status, job.attempts, job.exit_code), (JobStatus::Failed, 3, Some(75)), "{job:?}");
}

#[tokio::test]
async fn a_job_that_is_always_interrupted_fails_some_day() {
    let (job, _) = interrupted(101, "echo; exec sleep 300").await;
    assert_eq!((job.status, job.attempts), (JobStatus::Failed, 101));
    assert!(job.status_reason.unwrap().contains("stopped 101 times"));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_killed_platform_die_with_it_and_go_on_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples/crash_platform");
    let mut platform = Command::new(program).arg(dir.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut ids = BufReader::new(platform.stdout.take().unwrap()).lines().map(|line| JobId(line.unwrap()));
    let (single, array) = (ids.next().unwrap(), ids.next().unwrap());
    let log = dir.path().join(format!("logs/{single}/1.log"));
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    until("the start of the job", async || read().lines().count() == 2).await;
    let pids: Vec<String> = read().lines().map(str::to_owned).collect();
    assert!(pids.iter().all(|pid| is_alive(pid)));
    platform.kill().unwrap();
    platform.wait().unwrap();
    until("the death of the child", async || !is_alive(&pids[0])).await;

    // The next platform has jobs that end.
    let config = LocalConfig { definitions: shell("echo again"), ..LocalConfig::new(dir.path()) };
    let local = Local::open(config).await.unwrap();
    local.start().await.unwrap();
    until("the death of the child's child", async || !is_alive(&pids[1])).await;
    let job = ended(&*local.jobs, &single).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Succeeded, 2));
    let parent = ended(&*local.jobs, &array).await;
    assert_eq!(parent.status, JobStatus::Succeeded, "{parent:?}");
    assert_eq!(parent.array_summary, BTreeMap::from([("SUCCEEDED".to_owned(), 3)]));
    local.shutdown().await;
}
