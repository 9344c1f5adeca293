mod logs;
mod process;
mod records;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use moola_core::ports::{
    Clock, Condition, Events, Ids, JobAttempt, JobDescription, JobFilter, JobId, JobRequest, JobStatus, Jobs, Key,
    LogLine, Query, Table, Write, is_retry_exit_code,
};
use moola_core::{Error, Result};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::process::{End, Spawner};
use self::records::{ACTIVE, JOBS, Record, Records, array_size, child_id, child_index};
use crate::{blocking, lock};

/// The wait before a job's change is written again after the table failed.
const RETRY: Duration = Duration::from_secs(1);
/// So often a job may be running when the platform stops: one that takes the platform down with it must end some day.
const MAX_INTERRUPTIONS: u32 = 100;

/// How a job definition is run here.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandTemplate {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub program: PathBuf,
    /// Its first arguments; those of the request follow.
    #[serde(default)]
    pub args: Vec<String>,
}

/// Settings of [`ProcessJobs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessJobsConfig {
    /// What each definition runs.
    pub definitions: BTreeMap<String, CommandTemplate>,
    /// Most processes at a time.
    pub max_concurrent: usize,
    /// Where what jobs print goes.
    pub log_dir: PathBuf,
    /// What a job gets between SIGTERM and SIGKILL.
    pub grace: Duration,
}

impl ProcessJobsConfig {
    /// One job at a time and 30 s of grace, as in the cloud.
    pub fn new(definitions: BTreeMap<String, CommandTemplate>, log_dir: impl Into<PathBuf>) -> Self {
        Self { definitions, max_concurrent: 1, log_dir: log_dir.into(), grace: Duration::from_secs(30) }
    }
}

/// Jobs as child processes, with their records in a table. Any queue is accepted; all share the places.
///
/// Jobs start in the order in which they were submitted. A child process leads its own process group, which ends with
/// it. It dies with the platform (on Linux, even when that is killed); then [`ProcessJobs::start`] runs it again. Such an
/// attempt has a number and a log of its own, but takes none of the attempts that the request allows; a job that was
/// interrupted more than 100 times has failed. Both outputs of a process go to one log file for each attempt.
///
/// # Environment
/// A child gets what the request says, the variables of AWS Batch, and of this process's environment only `PATH`, `HOME`,
/// `USER`, `TMPDIR`, `TZ`, `LANG`, `LC_*`, `LD_LIBRARY_PATH`, `CUDA_*`, `NVIDIA_*`, `RAYON_NUM_THREADS`, `SSL_CERT_FILE`,
/// `RUST_LOG`, `RUST_BACKTRACE`, `AWS_*` (so that it can read the same buckets) and `MOOLA_*` without those that name a
/// `KEY`, `TOKEN`, `SECRET` or `PASSWORD`.
pub struct ProcessJobs {
    inner: Arc<Inner>,
}

struct Inner {
    records: Records,
    table: Arc<dyn Table>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    config: ProcessJobsConfig,
    spawner: Spawner,
    queue: Mutex<Queue>,
    is_closing: AtomicBool,
}

#[derive(Default)]
struct Queue {
    is_started: bool,
    waiting: VecDeque<JobId>,
    running: BTreeMap<JobId, Running>,
}

struct Running {
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

impl fmt::Debug for ProcessJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessJobs").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl ProcessJobs {
    /// Makes a runner that runs nothing before [`ProcessJobs::start`]. Call it within a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` where no job could run at a time, `Unavailable` where its thread cannot be started.
    pub fn new(
        table: Arc<dyn Table>,
        events: Arc<dyn Events>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        config: ProcessJobsConfig,
    ) -> Result<Self> {
        if config.max_concurrent == 0 {
            return Err(Error::invalid("max_concurrent", 0, "at least 1"));
        }
        let records = Records::new(table.clone(), events, clock.clone(), ids.clone());
        let spawner = Spawner::start()?;
        let is_closing = AtomicBool::new(false);
        let inner = Inner { records, table, clock, ids, config, spawner, queue: Mutex::default(), is_closing };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes up what an earlier platform left and starts to run jobs. An attempt that died with that platform is over,
    /// and the job runs again.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn start(&self) -> Result<()> {
        self.inner.recover().await?;
        lock(&self.inner.queue).is_started = true;
        self.inner.pump();
        Ok(())
    }

    /// A job and those of its attempts that ended.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn describe_attempts(&self, id: &JobId) -> Result<(JobDescription, Vec<JobAttempt>)> {
        let record = self.inner.records.load(id).await?.0;
        Ok((record.description, record.attempts))
    }

    /// Stops running jobs: SIGTERM, then SIGKILL. They, and those that wait, go on with the next platform's
    /// [`ProcessJobs::start`], running ones as a further attempt.
    pub async fn shutdown(&self) {
        self.inner.is_closing.store(true, Ordering::SeqCst);
        let running = std::mem::take(&mut lock(&self.inner.queue).running);
        for one in running.values() {
            one.stop.notify_one();
        }
        for one in running.into_values() {
            // A panic there was reported there.
            let _ = one.task.await;
        }
    }
}

impl Drop for ProcessJobs {
    fn drop(&mut self) {
        self.inner.is_closing.store(true, Ordering::SeqCst);
        for one in lock(&self.inner.queue).running.values() {
            one.task.abort();
        }
    }
}

impl Inner {
    /// Starts waiting jobs while there are places.
    fn pump(self: &Arc<Self>) {
        let mut queue = lock(&self.queue);
        while queue.is_started
            && !self.is_closing.load(Ordering::SeqCst)
            && queue.running.len() < self.config.max_concurrent
            && let Some(id) = queue.waiting.pop_front()
        {
            let stop = Arc::new(Notify::new());
            let task = tokio::spawn({
                let (this, id, stop) = (self.clone(), id.clone(), stop.clone());
                async move {
                    let is_again = this.run_attempt(&id, &stop).await;
                    let mut queue = lock(&this.queue);
                    queue.running.remove(&id);
                    if is_again {
                        queue.waiting.push_back(id);
                    }
                    drop(queue);
                    this.pump();
                }
            });
            queue.running.insert(id, Running { stop, task });
        }
    }

    /// Changes a job that has not ended, however long that takes.
    async fn change(&self, id: &JobId, change: impl Fn(&mut Record) + Send + Sync) -> Option<Record> {
        loop {
            match self.records.change(id, &change).await {
                Ok(record) => return record,
                Err(error) => {
                    tracing::error!(job = id.0, error = error.chain(), "the change of a job was not written");
                    if !error.is_retryable() {
                        return None;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Runs a waiting job once; whether it is to run again.
    async fn run_attempt(&self, id: &JobId, stop: &Notify) -> bool {
        let was_waiting = AtomicBool::new(false);
        let started = self
            .change(id, |record| {
                let job = &mut record.description;
                was_waiting.store(job.status == JobStatus::Runnable, Ordering::SeqCst);
                if job.status == JobStatus::Runnable {
                    job.status = JobStatus::Starting;
                    job.attempts += 1;
                    job.started_ms = Some(self.clock.now_ms());
                }
            })
            .await;
        let Some(record) = started.filter(|_| was_waiting.load(Ordering::SeqCst)) else { return false };
        let job = record.description;
        let end = match self.spawn(&job).await {
            Ok(child) => {
                self.change(id, |record| record.description.status = JobStatus::Running).await;
                let timeout = job.request.timeout_secs.map(Duration::from_secs);
                child.wait(stop, timeout, self.config.grace).await
            }
            Err(error) => End { exit_code: None, stopped: Some(error.chain()), is_asked: false },
        };
        // Who stops the platform may signal its jobs too, which then are faster than it.
        let is_cut_short = end.is_asked || end.stopped.is_none() && end.exit_code.is_some_and(is_retry_exit_code);
        if is_cut_short && self.is_closing.load(Ordering::SeqCst) {
            // The next platform sees that the attempt was cut short.
            return false;
        }
        let ended = self.change(id, |record| self.end(record, &end)).await;
        ended.is_some_and(|record| record.description.status == JobStatus::Runnable)
    }

    fn end(&self, record: &mut Record, end: &End) {
        let now_ms = self.clock.now_ms();
        if end.is_interruption() {
            record.num_interruptions += 1;
        }
        let num_interruptions = record.num_interruptions;
        let job = &mut record.description;
        // A cancellation counts even where the attempt ended by itself meanwhile.
        let stopped = record.cancelled.clone().or_else(|| end.stopped.clone());
        let reason = match (&stopped, end.exit_code) {
            (Some(reason), _) => reason.clone(),
            (None, Some(exit_code)) => format!("container ended with exit code {exit_code}"),
            (None, None) if num_interruptions <= MAX_INTERRUPTIONS => "the platform stopped".to_owned(),
            (None, None) => format!(
                "the platform stopped {num_interruptions} times while the job ran, expected at most {MAX_INTERRUPTIONS} times"
            ),
        };
        job.exit_code = end.exit_code;
        job.status = match end.exit_code {
            _ if stopped.is_some() => JobStatus::Failed,
            Some(0) => JobStatus::Succeeded,
            Some(exit_code) if !is_retry_exit_code(exit_code) => JobStatus::Failed,
            None if num_interruptions <= MAX_INTERRUPTIONS => JobStatus::Runnable,
            Some(_) if job.attempts.saturating_sub(num_interruptions) < job.request.attempts => JobStatus::Runnable,
            _ => JobStatus::Failed,
        };
        if job.status.is_final() {
            job.stopped_ms = Some(now_ms);
        }
        if job.status == JobStatus::Failed {
            job.status_reason = Some(reason.clone());
        }
        let started_ms = job.started_ms.unwrap_or(now_ms);
        record.attempts.push(JobAttempt { started_ms, stopped_ms: now_ms, exit_code: end.exit_code, reason });
    }

    async fn spawn(&self, job: &JobDescription) -> Result<process::Child> {
        let definition = &job.request.definition;
        let template = self.config.definitions.get(definition).ok_or_else(|| self.unknown_definition(definition))?;
        let log = logs::path(&self.config.log_dir, &job.id, job.attempts);
        let command = process::command(template, job, log);
        self.spawner.spawn(command).await
    }

    fn unknown_definition(&self, definition: &str) -> Error {
        let known: Vec<&str> = self.config.definitions.keys().map(String::as_str).collect();
        Error::invalid("definition", definition, format!("one of {known:?}"))
    }

    async fn recover(&self) -> Result<()> {
        let mut active = Vec::new();
        let mut query = Query::prefix(ACTIVE, "");
        loop {
            let page = self.table.query(&query).await?;
            active.extend(page.items.into_iter().map(|item| JobId(item.key.sort)));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        let cut_short = End { exit_code: None, stopped: None, is_asked: false };
        for id in &active {
            let record = self.records.load(id).await?.0;
            self.records.publish_again(&record).await?;
            if array_size(&record.description).is_some()
                || !matches!(record.description.status, JobStatus::Starting | JobStatus::Running)
            {
                continue;
            }
            let orphan = id.clone();
            blocking(move || {
                process::kill_orphans(&orphan);
                Ok(())
            })
            .await?;
            self.records.change(id, |record| self.end(record, &cut_short)).await?;
        }
        let mut waiting = VecDeque::new();
        for id in active.into_iter().filter(|id| child_index(id).is_none()) {
            let job = self.records.load(&id).await?.0.description;
            let Some(size) = array_size(&job).filter(|_| !job.status.is_final()) else {
                if job.status == JobStatus::Runnable {
                    waiting.push_back(id);
                }
                continue;
            };
            let ended = self.records.ended_children(&id).await?;
            waiting.extend((0..size).filter(|index| !ended.contains(index)).map(|index| child_id(&id, index)));
        }
        let mut queue = lock(&self.queue);
        // What was submitted between `new` and `start` is among the active ones.
        let known: std::collections::BTreeSet<JobId> = waiting.iter().cloned().collect();
        let added: Vec<JobId> = queue.waiting.drain(..).filter(|id| !known.contains(id)).collect();
        waiting.extend(added);
        queue.waiting = waiting;
        Ok(())
    }
}

#[async_trait]
impl Jobs for ProcessJobs {
    async fn submit(&self, request: JobRequest) -> Result<JobId> {
        request.check()?;
        if !self.inner.config.definitions.contains_key(&request.definition) {
            return Err(self.inner.unknown_definition(&request.definition));
        }
        let id = JobId(self.inner.ids.new_id());
        let size = request.array_size;
        self.inner.records.create(id.clone(), request).await?;
        {
            let mut queue = lock(&self.inner.queue);
            match size {
                Some(size) => queue.waiting.extend((0..size).map(|index| child_id(&id, index))),
                None => queue.waiting.push_back(id.clone()),
            }
        }
        self.inner.pump();
        Ok(id)
    }

    async fn describe(&self, id: &JobId) -> Result<JobDescription> {
        Ok(self.inner.records.load(id).await?.0.description)
    }

    async fn list(&self, filter: &JobFilter) -> Result<Vec<JobDescription>> {
        let limit = if filter.limit == 0 { 100 } else { filter.limit };
        let mut query = Query { descending: true, limit: limit.min(1_000), ..Query::prefix(JOBS, "") };
        let mut jobs = Vec::new();
        loop {
            let page = self.inner.table.query(&query).await?;
            for item in page.items {
                let job = records::parse(item)?.description;
                if filter.status.is_none_or(|status| status == job.status) {
                    jobs.push(job);
                }
            }
            query.after = page.next;
            if query.after.is_none() || jobs.len() >= limit {
                jobs.truncate(limit);
                return Ok(jobs);
            }
        }
    }

    async fn cancel(&self, id: &JobId, reason: &str) -> Result<()> {
        let job = self.inner.records.load(id).await?.0.description;
        if job.status.is_final() {
            return Ok(());
        }
        let ids: Vec<JobId> = match array_size(&job) {
            Some(size) => {
                self.inner
                    .records
                    .change(id, |record| {
                        record.description.status_reason.get_or_insert_with(|| reason.to_owned());
                    })
                    .await?;
                (0..size).map(|index| child_id(id, index)).collect()
            }
            None => vec![id.clone()],
        };
        for id in &ids {
            let now_ms = self.inner.clock.now_ms();
            self.inner
                .records
                .change(id, |record| {
                    if record.cancelled.is_some() {
                        return;
                    }
                    record.cancelled = Some(reason.to_owned());
                    let job = &mut record.description;
                    if job.status == JobStatus::Runnable {
                        job.status = JobStatus::Failed;
                        job.status_reason = Some(reason.to_owned());
                        job.stopped_ms = Some(now_ms);
                    }
                })
                .await?;
            if let Some(running) = lock(&self.inner.queue).running.get(id) {
                running.stop.notify_one();
            }
        }
        Ok(())
    }

    async fn logs(&self, id: &JobId, limit: usize) -> Result<Vec<LogLine>> {
        let job = self.inner.records.load(id).await?.0.description;
        let log_dir = self.inner.config.log_dir.clone();
        blocking(move || logs::read(&log_dir, &job.id, job.attempts, limit)).await
    }
}
