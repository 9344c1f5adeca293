//! Runs: from a request over a job to a version in the registry.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use moola_market::labels::LabelSpec;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::commit::{from_json_bytes, put, to_json_bytes};
use crate::contract::{
    DatasetRef, FORMAT_VERSION, FoldMetrics, Lineage, ModelSpec, OptimizerSpec, Progress, ResourceSpec, RunOutcome,
    RunResult, SplitSpec, TrainingSpec, WindowSpec, paths,
};
use crate::dataset::Datasets;
use crate::error::{Error, ErrorKind, Result};
use crate::names::check_name;
use crate::ports::{
    CORRELATION_TAG, Condition, Event, EventHandler, JOB_EVENT_SOURCE, JOB_EVENT_TYPE, JobDescription, JobFilter,
    JobId, JobRequest, JobStatus, Key, Ports, PutMode, Query,
};
use crate::registry::{NewVersion, Registry, Version};

/// Asks for a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainRequest {
    /// Registered model that the result becomes a version of; created where it does not exist.
    pub model_name: String,
    /// Dataset: `name` for its latest version, or `name@version`.
    pub dataset: String,
    /// What is predicted.
    pub label: LabelSpec,
    /// Which samples.
    #[serde(default)]
    pub window: WindowSpec,
    /// Which of them train, validate and test.
    #[serde(default)]
    pub split: SplitSpec,
    /// Which model.
    #[serde(default)]
    pub model: ModelSpec,
    /// How it is fitted.
    #[serde(default)]
    pub optimizer: OptimizerSpec,
    /// What it may use.
    #[serde(default)]
    pub resources: ResourceSpec,
    /// Seeds every random choice.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Whether the version is promoted to production as soon as it passes the gates.
    #[serde(default)]
    pub auto_promote: bool,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Waits for a place.
    Pending,
    /// Trains.
    Running,
    /// A model was trained and registered.
    Completed,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RunStatus {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// What is known about a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub run_id: String,
    /// Registered model that it is for.
    pub model_name: String,
    /// `name@version` of the dataset.
    pub dataset: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Why, where it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The job that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The version that it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<u32>,
    /// What started it: `request`, `drift`, `schedule`.
    pub trigger: String,
    /// Whether the version is promoted as soon as it passes the gates.
    pub auto_promote: bool,
    /// Main metrics on the test fold, by name.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// Ties it to what caused it.
    pub correlation_id: String,
    /// When it was asked for.
    pub created_ms: i64,
    /// When it was last tried to be handed to the jobs.
    #[serde(default)]
    pub submitting_ms: i64,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
}

/// Limits of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Runs that may wait or run at a time.
    pub max_active_runs: usize,
    /// Least number of bars.
    pub min_bars: usize,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self { max_active_runs: 64, min_bars: 1000 }
    }
}

/// The event that makes training take up what a crash left behind.
pub const MAINTENANCE_DUE: &str = "Maintenance Due";

/// How old a run must be before maintenance takes it up: younger ones are still being submitted.
const SUBMITTING: Duration = Duration::from_secs(120);

/// How long the job of a cancelled run is looked after.
const ENDING_MS: i64 = 24 * 3600 * 1000;

/// Name of the job definition that runs the trainer.
pub const TRAINER: &str = "trainer";

/// Runs of training.
#[derive(Debug, Clone)]
pub struct Training {
    ports: Ports,
    datasets: Datasets,
    registry: Registry,
    config: TrainingConfig,
}

fn run_key(run_id: &str) -> Key {
    Key::new("runs", run_id)
}

impl Training {
    /// The datasets that runs train on.
    pub(crate) fn datasets(&self) -> &Datasets {
        &self.datasets
    }

    /// Makes the service.
    #[must_use]
    pub fn new(ports: Ports, config: TrainingConfig) -> Self {
        let (datasets, registry) = (Datasets::new(ports.clone()), Registry::new(ports.clone()));
        Self { ports, datasets, registry, config }
    }

    /// Starts a run that a user asked for.
    ///
    /// # Errors
    /// `Invalid` with the field, `NotFound` for the dataset, `Refused` where too many runs are active or there are too few
    /// bars.
    pub async fn start(&self, request: TrainRequest) -> Result<Run> {
        let run_id = self.ports.ids.new_id();
        self.start_as(run_id.clone(), request, "request", &run_id).await
    }

    /// Starts a run under an id that the caller chose: starting the same id again returns the run that exists.
    ///
    /// # Errors
    /// As [`Training::start`].
    pub async fn start_as(
        &self,
        run_id: String,
        request: TrainRequest,
        trigger: &str,
        correlation_id: &str,
    ) -> Result<Run> {
        check_name("run_id", &run_id)?;
        check_name("model_name", &request.model_name)?;
        if let Some((run, _)) = self.ports.read::<Run>(&run_key(&run_id)).await? {
            return Ok(run);
        }
        let (name, version) = match request.dataset.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (request.dataset.as_str(), None),
        };
        let dataset = self.datasets.get(name, version).await?;
        if dataset.num_rows < self.config.min_bars as u64 {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "dataset `{}` has {} bars, training needs {}",
                    request.dataset, dataset.num_rows, self.config.min_bars
                ),
            ));
        }
        let active = self.list(usize::MAX).await?.iter().filter(|run| !run.status.is_final()).count();
        if active >= self.config.max_active_runs {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{active} runs are active, at most {} may be", self.config.max_active_runs),
            )
            .with_hint("wait for one to end, or cancel one with `moola jobs cancel`"));
        }
        let spec = TrainingSpec {
            format_version: FORMAT_VERSION,
            run_id: run_id.clone(),
            model_name: request.model_name.clone(),
            dataset: DatasetRef {
                name: dataset.name.clone(),
                version: dataset.version.clone(),
                sha256: dataset.sha256.clone(),
                symbol: dataset.symbol.clone(),
                interval: dataset.interval,
            },
            window: request.window,
            label: request.label,
            split: request.split,
            model: request.model,
            optimizer: request.optimizer,
            resources: request.resources,
            seed: request.seed.unwrap_or(1337),
            correlation_id: Some(correlation_id.to_owned()),
        };
        spec.validate()?;
        if !spec.window.feature_set.is_empty() {
            let set = moola_market::features::FeatureSet::builtin(&spec.window.feature_set)?;
            if set.needs_volume() && !dataset.has_volume {
                return Err(Error::invalid(
                    "window.feature_set",
                    &spec.window.feature_set,
                    format!("a set without volume features, since dataset `{}` has no volume", dataset.name),
                ));
            }
        }
        let now_ms = self.ports.clock.now_ms();
        let run = Run {
            run_id: run_id.clone(),
            model_name: request.model_name,
            dataset: format!("{}@{}", dataset.name, dataset.version),
            status: RunStatus::Pending,
            reason: None,
            job_id: None,
            model_version: None,
            trigger: trigger.into(),
            auto_promote: request.auto_promote,
            metrics: BTreeMap::new(),
            correlation_id: correlation_id.into(),
            created_ms: now_ms,
            submitting_ms: now_ms,
            ended_ms: None,
        };
        let spec_key = paths::run(&run_id, paths::SPEC);
        self.ports.blobs.put(&spec_key, to_json_bytes(&spec)?, PutMode::Overwrite).await?;
        let event = self.ports.event(
            "Run Requested",
            correlation_id,
            json!({"run_id": run_id, "model": run.model_name, "dataset": run.dataset, "trigger": trigger}),
        );
        let write = put(run_key(&run_id), &run, Condition::Absent)?;
        match self.ports.commit(vec![write], vec![event]).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Conflict => return self.get(&run_id).await,
            Err(error) => return Err(error),
        }
        match self.submit(&run).await {
            // It is recorded and will be taken up; who is told otherwise asks for another one.
            Err(error) if error.is_retryable() => {
                warn!(run_id, error = error.chain(), "the run waits for maintenance to be submitted");
                Ok(run)
            }
            done => done,
        }
    }

    /// Takes the right to hand a run to the jobs, which lasts for [`SUBMITTING`]; whether it is there to be had.
    async fn claim(&self, run_id: &str, before_ms: i64) -> Result<bool> {
        let key = run_key(run_id);
        let read = self.ports.read::<Run>(&key).await?;
        let (mut run, revision) = read.ok_or_else(|| Error::not_found("run", run_id))?;
        if run.job_id.is_some() || run.status.is_final() || run.submitting_ms > before_ms {
            return Ok(false);
        }
        run.submitting_ms = self.ports.clock.now_ms();
        match self.ports.table.write(vec![put(key, &run, Condition::Revision(revision))?]).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Hands a run to the jobs; for who recorded it, or has a [`Training::claim`] to it.
    async fn submit(&self, run: &Run) -> Result<Run> {
        let spec_key = paths::run(&run.run_id, paths::SPEC);
        let spec: TrainingSpec = from_json_bytes(&spec_key, &self.ports.blobs.get(&spec_key).await?)?;
        let job = JobRequest {
            name: format!("train-{}", run.run_id.replace('.', "-")),
            definition: TRAINER.into(),
            queue: spec.resources.queue,
            args: vec![self.ports.blobs.url(&spec_key)],
            environment: BTreeMap::new(),
            array_size: None,
            attempts: spec.resources.attempts,
            timeout_secs: spec.resources.timeout_secs,
            tags: BTreeMap::from([
                ("run_id".into(), run.run_id.clone()),
                (CORRELATION_TAG.into(), run.correlation_id.clone()),
            ]),
        };
        let job_id = match self.ports.jobs.submit(job).await {
            Ok(job_id) => job_id,
            Err(error) => {
                if !error.is_retryable() {
                    self.end(&run.run_id, RunStatus::Failed, Some(error.chain())).await?;
                }
                return Err(error);
            }
        };
        info!(run_id = run.run_id, %job_id, "run submitted");
        // An event of the job, or a cancellation, may have been faster; only the id is added.
        let run = self.record_job(&run.run_id, &job_id).await?;
        if run.job_id.as_ref() != Some(&job_id) {
            // An earlier attempt to submit arrived after all.
            self.ports.jobs.cancel(&job_id, "the run has another job").await?;
        } else if run.status == RunStatus::Cancelled {
            self.ports.jobs.cancel(&job_id, "the run was cancelled").await?;
        }
        Ok(run)
    }

    async fn record_job(&self, run_id: &str, job_id: &JobId) -> Result<Run> {
        let record = |run: &mut Run| {
            run.job_id.get_or_insert_with(|| job_id.clone());
        };
        self.update(run_id, record).await
    }

    /// Submits what a crash left between being recorded and being submitted; finishes what ended unnoticed. A run that
    /// cannot be taken up is logged and does not hold up the others; one that was asked for less than `min_age` ago is
    /// left alone.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn resume(&self, min_age: Duration) -> Result<()> {
        let before_ms = self.ports.clock.now_ms() - i64::try_from(min_age.as_millis()).unwrap_or(i64::MAX);
        // Listed once, for the first run that needs them.
        let mut jobs = None;
        for run in self.list(usize::MAX).await? {
            if run.created_ms > before_ms {
                continue;
            }
            let run_id = run.run_id.clone();
            if let Err(error) = self.resume_run(run, before_ms, &mut jobs).await {
                warn!(run_id, error = error.chain(), "the run cannot be taken up");
            }
        }
        Ok(())
    }

    async fn resume_run(&self, run: Run, before_ms: i64, jobs: &mut Option<Vec<JobDescription>>) -> Result<()> {
        match (&run.job_id, run.status) {
            (Some(job_id), RunStatus::Cancelled) => {
                let is_recent = run.ended_ms.is_some_and(|ended_ms| self.ports.clock.now_ms() - ended_ms < ENDING_MS);
                if is_recent && !self.ports.jobs.describe(job_id).await?.status.is_final() {
                    self.ports.jobs.cancel(job_id, "the run was cancelled").await?;
                }
                Ok(())
            }
            (_, status) if status.is_final() => Ok(()),
            (None, _) => {
                // It may have been submitted without that being recorded.
                let jobs = match jobs {
                    Some(jobs) => jobs,
                    None => jobs.insert(self.ports.jobs.list(&JobFilter { status: None, limit: 10_000 }).await?),
                };
                let submitted = jobs.iter().find(|job| job.request.tags.get("run_id") == Some(&run.run_id));
                match submitted {
                    Some(job) => {
                        self.on_job(&run.run_id, Some(&job.id), job.status, job.status_reason.as_deref()).await
                    }
                    None if self.claim(&run.run_id, before_ms).await? => self.submit(&run).await.map(|_| ()),
                    None => Ok(()),
                }
            }
            (Some(job_id), _) => {
                let job = self.ports.jobs.describe(job_id).await?;
                self.on_job(&run.run_id, Some(job_id), job.status, job.status_reason.as_deref()).await
            }
        }
    }

    /// Runs, the newest first.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn list(&self, limit: usize) -> Result<Vec<Run>> {
        let mut query = Query::prefix("runs", "");
        query.descending = true;
        self.ports.read_all(query, limit).await
    }

    /// A run.
    ///
    /// # Errors
    /// `NotFound`; those of the table.
    pub async fn get(&self, run_id: &str) -> Result<Run> {
        let run = self.ports.read::<Run>(&run_key(run_id)).await?;
        run.map(|(run, _)| run)
            .ok_or_else(|| Error::not_found("run", run_id).with_hint("`moola runs list` shows those that exist"))
    }

    /// What a run was told to do.
    ///
    /// # Errors
    /// `NotFound`; those of the blobs.
    pub async fn spec(&self, run_id: &str) -> Result<TrainingSpec> {
        self.get(run_id).await?;
        let key = paths::run(run_id, paths::SPEC);
        from_json_bytes(&key, &self.ports.blobs.get(&key).await?)
    }

    /// How a run ended; `None` where it did not yet.
    ///
    /// # Errors
    /// `NotFound`; those of the blobs.
    pub async fn result(&self, run_id: &str) -> Result<Option<RunResult>> {
        self.get(run_id).await?;
        let key = paths::run(run_id, paths::RESULT);
        match self.ports.blobs.get(&key).await {
            Ok(bytes) => Ok(Some(from_json_bytes(&key, &bytes)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a run reported so far, in order.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`; those of the blobs.
    pub async fn progress(&self, run_id: &str) -> Result<Vec<Progress>> {
        self.get(run_id).await?;
        let prefix = paths::run(run_id, "progress/");
        let mut records = Vec::new();
        let mut after = None;
        loop {
            let page = self.ports.blobs.list(&prefix, after.as_deref(), 1000).await?;
            for blob in page.blobs {
                let bytes = self.ports.blobs.get(&blob.key).await?;
                for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    records.push(from_json_bytes(&blob.key, line)?);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(records),
            }
        }
    }

    /// Cancels a run; what has ended stays as it is. Cancelling again makes sure that the job knows.
    ///
    /// # Errors
    /// `NotFound`; those of the jobs.
    pub async fn cancel(&self, run_id: &str, reason: &str) -> Result<Run> {
        let run = self.end(run_id, RunStatus::Cancelled, Some(reason.to_owned())).await?;
        if run.status == RunStatus::Cancelled
            && let Some(job_id) = &run.job_id
        {
            match self.ports.jobs.cancel(job_id, reason).await {
                // Forgotten long after it ended.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => done?,
            }
        }
        Ok(run)
    }

    /// Takes notice of a `Batch Job State Change`.
    ///
    /// # Errors
    /// Those of the ports and of [`Registry::register`].
    pub async fn on_job_event(&self, detail: &Value) -> Result<()> {
        let Some(run_id) = detail.pointer("/tags/run_id").and_then(Value::as_str) else { return Ok(()) };
        let status = detail.get("status").cloned().unwrap_or_default();
        let status: JobStatus = serde_json::from_value(status)
            .map_err(|e| Error::invalid("detail.status", &detail["status"], "a status of AWS Batch").with_source(e))?;
        let job_id = detail.get("jobId").and_then(Value::as_str).map(|id| JobId(id.to_owned()));
        self.on_job(run_id, job_id.as_ref(), status, detail.get("statusReason").and_then(Value::as_str)).await
    }

    async fn on_job(
        &self,
        run_id: &str,
        job_id: Option<&JobId>,
        status: JobStatus,
        reason: Option<&str>,
    ) -> Result<()> {
        let mut run = match self.get(run_id).await {
            Ok(run) => run,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                warn!(run_id, "a job of a run that is not recorded");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(job_id) = job_id {
            if run.job_id.is_none() {
                // Who submitted it did not come to record it.
                run = self.record_job(run_id, job_id).await?;
            }
            if run.job_id.as_ref() != Some(job_id) {
                warn!(run_id, %job_id, "the run has another job");
                if !status.is_final() {
                    self.ports.jobs.cancel(job_id, "the run has another job").await?;
                }
                return Ok(());
            }
            if run.status == RunStatus::Cancelled && !status.is_final() {
                return self.ports.jobs.cancel(job_id, "the run was cancelled").await;
            }
        }
        if run.status.is_final() {
            return Ok(());
        }
        match status {
            JobStatus::Running | JobStatus::Starting => {
                self.update(run_id, |run| {
                    if run.status == RunStatus::Pending {
                        run.status = RunStatus::Running;
                    }
                })
                .await?;
            }
            JobStatus::Succeeded | JobStatus::Failed => match self.result(run_id).await? {
                Some(RunResult { outcome: RunOutcome::Failed { reason }, .. }) => {
                    self.end(run_id, RunStatus::Failed, Some(reason)).await?;
                }
                // A result is whole: it was written last, however the job ended then.
                Some(result) => self.complete_or_fail(&run, result).await?,
                None if status == JobStatus::Succeeded => {
                    let reason = "the job succeeded without a result".to_owned();
                    self.end(run_id, RunStatus::Failed, Some(reason)).await?;
                }
                None => {
                    self.end(run_id, RunStatus::Failed, reason.map(str::to_owned)).await?;
                }
            },
            JobStatus::Submitted | JobStatus::Runnable => {}
        }
        Ok(())
    }

    /// Makes a version of a finished run. The run fails where what it left cannot become one; whatever else is in the way
    /// may pass, and the result is there to be taken up again.
    async fn complete_or_fail(&self, run: &Run, result: RunResult) -> Result<()> {
        let Err(error) = self.complete(run, result).await else { return Ok(()) };
        if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::NotFound) {
            warn!(run_id = run.run_id, error = error.chain(), "the result became no version");
            self.end(&run.run_id, RunStatus::Failed, Some(error.chain())).await?;
            return Ok(());
        }
        Err(Error::unavailable(format!("the result of run `{}` could not be registered yet", run.run_id))
            .with_source(error))
    }

    /// Makes a version of a finished run.
    async fn complete(&self, run: &Run, result: RunResult) -> Result<Version> {
        let Some(model) = result.model else {
            return Err(Error::corrupt(format!("the result of run `{}` has no model", run.run_id)));
        };
        let spec = self.spec(&run.run_id).await?;
        let mut files = BTreeMap::new();
        for name in [paths::MODEL_ONNX, paths::REFERENCE, paths::METRICS] {
            let bytes = self.ports.blobs.get(&paths::run(&run.run_id, &format!("artifacts/{name}"))).await?;
            files.insert(name.to_owned(), bytes);
        }
        let dataset = self.datasets.get(&spec.dataset.name, Some(&spec.dataset.version)).await?;
        let serving = match self.registry.resolve(&run.model_name, "production").await {
            Ok(version) => Some(version.version),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let output = model.outputs.into_iter().next();
        let output =
            output.ok_or_else(|| Error::corrupt(format!("run `{}` has a model without outputs", run.run_id)))?;
        let metrics = result.metrics.as_ref().map(main_metrics).unwrap_or_default();
        let version = self
            .registry
            .register(NewVersion {
                model: run.model_name.clone(),
                source: format!("run/{}", run.run_id),
                task: model.task,
                inputs: model.inputs,
                output,
                classes: model.classes,
                window_bars: model.window_bars,
                feature_set: model.feature_set,
                evaluation: Some(spec),
                files,
                engine: "native".into(),
                lineage: Lineage {
                    run_id: Some(run.run_id.clone()),
                    dataset: Some(run.dataset.clone()),
                    source_sha256: Some(dataset.source.sha256.clone()),
                    code_version: Some(result.code_version),
                    parent_version: serving,
                    producer: Some("moola-trainer".into()),
                },
                metrics: metrics.clone(),
                correlation_id: run.correlation_id.clone(),
                auto_promote: run.auto_promote,
            })
            .await?;
        self.end_with(&run.run_id, |run| {
            run.status = RunStatus::Completed;
            run.model_version = Some(version.version);
            run.metrics.clone_from(&metrics);
        })
        .await?;
        info!(run_id = run.run_id, model = run.model_name, version = version.version, "run completed");
        Ok(version)
    }

    async fn end(&self, run_id: &str, status: RunStatus, reason: Option<String>) -> Result<Run> {
        self.end_with(run_id, |run| {
            run.status = status;
            run.reason.clone_from(&reason);
        })
        .await
    }

    /// Ends a run and tells of it, in one transaction; what has ended stays as it is.
    async fn end_with(&self, run_id: &str, change: impl Fn(&mut Run) + Send) -> Result<Run> {
        let key = run_key(run_id);
        loop {
            let read = self.ports.read::<Run>(&key).await?;
            let (mut run, revision) = read.ok_or_else(|| Error::not_found("run", run_id))?;
            if run.status.is_final() {
                return Ok(run);
            }
            change(&mut run);
            run.ended_ms = Some(self.ports.clock.now_ms());
            let detail = json!({
                "run_id": run_id, "model": run.model_name, "status": run.status, "reason": run.reason,
                "model_version": run.model_version,
            });
            let event = self.ports.event("Run Ended", &run.correlation_id, detail);
            match self.ports.commit(vec![put(key.clone(), &run, Condition::Revision(revision))?], vec![event]).await {
                Ok(()) => return Ok(run),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn update(&self, run_id: &str, change: impl Fn(&mut Run) + Send) -> Result<Run> {
        let key = run_key(run_id);
        loop {
            let read = self.ports.read::<Run>(&key).await?;
            let (mut run, revision) = read.ok_or_else(|| Error::not_found("run", run_id))?;
            change(&mut run);
            match self.ports.table.write(vec![put(key.clone(), &run, Condition::Revision(revision))?]).await {
                Ok(()) => return Ok(run),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[async_trait]
impl EventHandler for Training {
    async fn handle(&self, event: &Event) -> Result<()> {
        match (event.source.as_str(), event.detail_type.as_str()) {
            (JOB_EVENT_SOURCE, JOB_EVENT_TYPE) => self.on_job_event(&event.detail).await,
            (_, MAINTENANCE_DUE) => {
                let relayed = self.ports.relay_outbox().await;
                self.resume(SUBMITTING).await?;
                relayed.map(|_| ())
            }
            _ => Ok(()),
        }
    }
}

/// The metrics that lists show: those of the model on the test fold, and of the best baseline.
fn main_metrics(metrics: &FoldMetrics) -> BTreeMap<String, f64> {
    let mut main = BTreeMap::new();
    match metrics {
        FoldMetrics::Classification { test, baselines, .. } => {
            main.insert("accuracy".into(), test.accuracy);
            main.insert("macro_f1".into(), test.macro_f1);
            main.insert("log_loss".into(), test.log_loss);
            main.insert("calibration_error".into(), test.expected_calibration_error);
            if let Some(best) = baselines.values().map(|b| b.log_loss).min_by(f64::total_cmp) {
                main.insert("baseline_log_loss".into(), best);
            }
            if let Some(best) = baselines.values().map(|b| b.accuracy).max_by(f64::total_cmp) {
                main.insert("baseline_accuracy".into(), best);
            }
        }
        FoldMetrics::Regression { test, baselines, .. } => {
            main.insert("mse".into(), test.mse);
            main.extend(test.r2.map(|value| ("r2".to_owned(), value)));
            main.extend(test.directional_accuracy.map(|value| ("directional_accuracy".to_owned(), value)));
            if let Some(best) = baselines.values().map(|b| b.mse).min_by(f64::total_cmp) {
                main.insert("baseline_mse".into(), best);
            }
        }
    }
    main.retain(|_, value| value.is_finite());
    main
}

#[cfg(test)]
mod tests;
