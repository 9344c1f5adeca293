use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};

use super::lock;
use crate::error::{Error, Result};
use crate::ports::{
    Clock, Event, Events, Ids, JobAttempt, JobDescription, JobFilter, JobId, JobRequest, JobStatus, Jobs, LogLine,
    is_retry_exit_code,
};

/// What a process gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(30);
const SIGKILL_EXIT_CODE: i32 = 137;
const PANIC_EXIT_CODE: i32 = 134;

type Handler = Arc<dyn Fn(JobContext) -> BoxFuture<'static, i32> + Send + Sync>;

/// What a handler sees of the attempt that it runs.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// The job, of an array job the child.
    pub id: JobId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Which child of an array job.
    pub array_index: Option<u32>,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment, with the variables of AWS Batch.
    pub environment: BTreeMap<String, String>,
    control: Arc<Control>,
    state: Arc<Mutex<State>>,
}

impl JobContext {
    /// Prints a line.
    pub fn log(&self, text: impl Into<String>) {
        let line = LogLine { attempt: self.attempt, text: text.into() };
        if let Some(job) = lock(&self.state).jobs.get_mut(&self.id) {
            job.logs.push(line);
        }
    }

    /// Waits for SIGTERM. A handler that never calls this is ended at once, one that does has 30 s.
    pub async fn terminated(&self) {
        self.control.catches.store(true, Ordering::SeqCst);
        self.control.sigterm.notified().await;
    }
}

#[derive(Debug, Default)]
struct Control {
    cancel: Notify,
    sigterm: Notify,
    catches: AtomicBool,
}

struct Job {
    description: JobDescription,
    attempts: Vec<JobAttempt>,
    logs: Vec<LogLine>,
    control: Arc<Control>,
    cancelled: Option<String>,
}

#[derive(Default)]
struct State {
    handlers: BTreeMap<String, Option<Handler>>,
    jobs: BTreeMap<JobId, Job>,
    /// Submitted jobs, the oldest first; no children.
    order: Vec<JobId>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

/// Jobs that run registered functions in this process, each as a task of the tokio runtime that `submit` is called in.
#[derive(Clone)]
pub struct MemoryJobs {
    state: Arc<Mutex<State>>,
    running: watch::Sender<usize>,
    events: Arc<dyn Events>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl fmt::Debug for MemoryJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryJobs").finish_non_exhaustive()
    }
}

impl MemoryJobs {
    /// Makes a runner that knows no definition.
    #[must_use]
    pub fn new(events: Arc<dyn Events>, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { state: Arc::default(), running: watch::Sender::new(0), events, clock, ids }
    }

    /// Lets jobs of `definition` call `handler`, which answers with an exit code; a panic is a death by signal.
    pub fn register<F, Fut>(&self, definition: impl Into<String>, handler: F)
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = i32> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |context| Box::pin(handler(context)));
        lock(&self.state).handlers.insert(definition.into(), Some(handler));
    }

    /// Lets jobs of `definition` wait until [`MemoryJobs::finish`].
    pub fn hold(&self, definition: impl Into<String>) {
        lock(&self.state).handlers.insert(definition.into(), None);
    }

    /// Runs one attempt of a held job that ends with `exit_code`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where it is not waiting.
    pub async fn finish(&self, id: &JobId, exit_code: i32) -> Result<()> {
        if self.start(id).await.is_none() {
            let status = self.describe(id).await?.status;
            return Err(Error::conflict(format!("job `{id}` is {status:?}, it does not wait")));
        }
        self.end(id, exit_code, None).await;
        Ok(())
    }

    /// Number of jobs that are being run.
    #[must_use]
    pub fn num_running(&self) -> usize {
        *self.running.borrow()
    }

    /// Waits until no job is being run; held jobs do not count.
    pub async fn settle(&self) {
        // The sender lives as long as this, so waiting cannot fail.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// Changes a job that has not ended, and its parent with it, and publishes what changed; `false` where it has ended.
    async fn change(&self, id: &JobId, change: impl FnOnce(&mut Job)) -> bool {
        let mut events = Vec::new();
        {
            let mut state = lock(&self.state);
            let Some(job) = state.jobs.get_mut(id).filter(|job| !job.description.status.is_final()) else {
                return false;
            };
            let before = job.description.status;
            change(job);
            let after = job.description.status;
            if after == before {
                return true;
            }
            events.push(self.event(job));
            if let Some((parent, _)) = id.0.split_once(':')
                && let Some(parent) = state.jobs.get_mut(&JobId(parent.to_owned()))
                && parent.description.move_child(before, after, self.clock.now_ms())
            {
                events.push(self.event(parent));
            }
        }
        if let Err(error) = self.events.publish(events).await {
            tracing::error!(error = error.chain(), "the change of a job was not published");
        }
        true
    }

    fn event(&self, job: &Job) -> Event {
        job.description.state_change(self.ids.new_id(), self.clock.now_ms(), &job.attempts)
    }

    /// Starts an attempt of a waiting job.
    async fn start(&self, id: &JobId) -> Option<JobContext> {
        let mut is_waiting = false;
        self.change(id, |job| {
            is_waiting = job.description.status == JobStatus::Runnable;
            if is_waiting {
                job.description.status = JobStatus::Starting;
                job.description.attempts += 1;
                job.description.started_ms = Some(self.clock.now_ms());
                job.control = Arc::default();
            }
        })
        .await;
        if !is_waiting {
            return None;
        }
        self.change(id, |job| job.description.status = JobStatus::Running).await;
        let state = lock(&self.state);
        let job = state.jobs.get(id)?;
        let JobRequest { args, environment, .. } = job.description.request.clone();
        let array_index = id.0.split_once(':').and_then(|(_, index)| index.parse().ok());
        let mut context = JobContext {
            id: id.clone(),
            attempt: job.description.attempts,
            array_index,
            args,
            environment,
            control: job.control.clone(),
            state: self.state.clone(),
        };
        let mut set = |name: &str, value: String| context.environment.insert(name.into(), value);
        set("AWS_BATCH_JOB_ID", id.0.clone());
        set("AWS_BATCH_JOB_ATTEMPT", context.attempt.to_string());
        if let Some(index) = array_index {
            set("AWS_BATCH_JOB_ARRAY_INDEX", index.to_string());
        }
        Some(context)
    }

    /// Ends an attempt; `stopped` says why it was ended from outside.
    async fn end(&self, id: &JobId, exit_code: i32, stopped: Option<String>) {
        self.change(id, |job| {
            let now_ms = self.clock.now_ms();
            let reason = format!("exit code {exit_code}");
            let started_ms = job.description.started_ms.unwrap_or(now_ms);
            let description = &mut job.description;
            job.attempts.push(JobAttempt { started_ms, stopped_ms: now_ms, exit_code: Some(exit_code), reason });
            description.exit_code = Some(exit_code);
            // A cancellation counts even where the attempt ended by itself meanwhile.
            let stopped = stopped.or_else(|| job.cancelled.clone());
            let may_retry = description.attempts < description.request.attempts;
            description.status = match exit_code {
                _ if stopped.is_some() => JobStatus::Failed,
                0 => JobStatus::Succeeded,
                _ if is_retry_exit_code(exit_code) && may_retry => JobStatus::Runnable,
                _ => JobStatus::Failed,
            };
            if description.status.is_final() {
                description.stopped_ms = Some(now_ms);
                let failure = (exit_code != 0).then(|| format!("container ended with exit code {exit_code}"));
                description.status_reason = stopped.or(failure);
            }
        })
        .await;
    }

    async fn run(&self, id: JobId, handler: Handler) {
        while let Some(context) = self.start(&id).await {
            let control = context.control.clone();
            let timeout = {
                let state = lock(&self.state);
                state.jobs.get(&id).and_then(|job| job.description.request.timeout_secs)
            };
            let mut task = tokio::spawn(handler(context));
            let timed_out = async {
                match timeout {
                    Some(secs) => tokio::time::sleep(Duration::from_secs(secs)).await,
                    None => std::future::pending().await,
                }
            };
            let (result, stopped) = tokio::select! {
                result = &mut task => (Some(result), None),
                () = control.cancel.notified() => {
                    let reason = lock(&self.state).jobs.get(&id).and_then(|job| job.cancelled.clone());
                    (None, reason.or_else(|| Some("cancelled".into())))
                }
                () = timed_out => (None, Some(format!("attempt ran longer than {} s", timeout.unwrap_or(0)))),
            };
            let exit_code = match result {
                Some(result) => result.unwrap_or(PANIC_EXIT_CODE),
                None => {
                    control.sigterm.notify_one();
                    let grace = if control.catches.load(Ordering::SeqCst) { GRACE } else { Duration::ZERO };
                    let ended = tokio::time::timeout(grace, &mut task).await;
                    task.abort();
                    ended.map_or(SIGKILL_EXIT_CODE, |result| result.unwrap_or(PANIC_EXIT_CODE))
                }
            };
            self.end(&id, exit_code, stopped).await;
        }
    }

    fn find<T>(&self, id: &JobId, read: impl FnOnce(&Job) -> T) -> Result<T> {
        lock(&self.state).jobs.get(id).map(read).ok_or_else(|| Error::not_found("job", id))
    }
}

#[async_trait]
impl Jobs for MemoryJobs {
    async fn submit(&self, request: JobRequest) -> Result<JobId> {
        request.check()?;
        let id = JobId(self.ids.new_id());
        let now_ms = self.clock.now_ms();
        let (events, handler) = {
            let mut state = lock(&self.state);
            let handler = state.handlers.get(&request.definition).cloned().ok_or_else(|| {
                let known: Vec<&str> = state.handlers.keys().map(String::as_str).collect();
                Error::invalid("definition", &request.definition, format!("one of {known:?}"))
            })?;
            let mut job = Job {
                description: JobDescription::new(id.clone(), request.clone(), now_ms),
                attempts: Vec::new(),
                logs: Vec::new(),
                control: Arc::default(),
                cancelled: None,
            };
            let mut events = vec![self.event(&job)];
            job.description.status = JobStatus::Runnable;
            for index in 0..request.array_size.unwrap_or(0) {
                let child_id = JobId(format!("{id}:{index}"));
                let mut description = JobDescription::new(child_id.clone(), request.clone(), now_ms);
                description.status = JobStatus::Runnable;
                let child = Job {
                    description,
                    attempts: Vec::new(),
                    logs: Vec::new(),
                    control: Arc::default(),
                    cancelled: None,
                };
                state.jobs.insert(child_id, child);
            }
            if let Some(size) = request.array_size {
                job.description.array_summary.insert(JobStatus::Runnable.as_str().into(), size);
            }
            events.push(self.event(&job));
            state.jobs.insert(id.clone(), job);
            state.order.push(id.clone());
            (events, handler)
        };
        self.events.publish(events).await?;
        let Some(handler) = handler else { return Ok(id) };
        let ids = match request.array_size {
            Some(size) => (0..size).map(|index| JobId(format!("{id}:{index}"))).collect(),
            None => vec![id.clone()],
        };
        self.running.send_modify(|running| *running += ids.len());
        for id in ids {
            let (this, handler) = (self.clone(), handler.clone());
            tokio::spawn(async move {
                this.run(id, handler).await;
                this.running.send_modify(|running| *running -= 1);
            });
        }
        Ok(id)
    }

    async fn describe(&self, id: &JobId) -> Result<JobDescription> {
        self.find(id, |job| job.description.clone())
    }

    async fn list(&self, filter: &JobFilter) -> Result<Vec<JobDescription>> {
        let state = lock(&self.state);
        let jobs = state.order.iter().rev().filter_map(|id| state.jobs.get(id)).map(|job| &job.description);
        let limit = if filter.limit == 0 { 100 } else { filter.limit };
        Ok(jobs.filter(|job| filter.status.is_none_or(|status| status == job.status)).take(limit).cloned().collect())
    }

    async fn cancel(&self, id: &JobId, reason: &str) -> Result<()> {
        let size = self.find(id, |job| job.description.request.array_size.filter(|_| !id.0.contains(':')))?;
        if size.is_some() {
            self.change(id, |job| {
                job.description.status_reason.get_or_insert_with(|| reason.to_owned());
            })
            .await;
        }
        let ids = match size {
            Some(size) => (0..size).map(|index| JobId(format!("{id}:{index}"))).collect(),
            None => vec![id.clone()],
        };
        for id in ids {
            self.change(&id, |job| {
                if job.cancelled.is_some() {
                    return;
                }
                job.cancelled = Some(reason.to_owned());
                if matches!(job.description.status, JobStatus::Submitted | JobStatus::Runnable) {
                    job.description.status = JobStatus::Failed;
                    job.description.status_reason = Some(reason.to_owned());
                    job.description.stopped_ms = Some(self.clock.now_ms());
                } else {
                    job.control.cancel.notify_one();
                }
            })
            .await;
        }
        Ok(())
    }

    async fn logs(&self, id: &JobId, limit: usize) -> Result<Vec<LogLine>> {
        self.find(id, |job| job.logs[job.logs.len().saturating_sub(limit)..].to_vec())
    }
}
