//! A stand-in for AWS Batch and the log streams of its containers, since no emulator runs containers.
//!
//! It answers Batch's API (`SubmitJob`, `DescribeJobs`, `ListJobs`, `TerminateJob`, `CancelJob`) and CloudWatch Logs'
//! `GetLogEvents`, runs each job as a process by [`moola_local::ProcessJobs`], and publishes what Batch publishes.
//!
//! PutEvents takes no events of `aws.*`, neither in AWS nor in the emulator. So they are published with [`SOURCE`], and a
//! rule with [`event_pattern`] and [`input_transformer`] delivers them as those of Batch.
//!
//! # What AWS does otherwise
//! - A time limit is at least 60 s, and its reason is `Job attempt duration exceeded timeout`.
//! - Empty lines may be missing in a log stream.
//! - Jobs are identified by UUIDs.

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_eventbridge::types::{InputTransformer, PutEventsRequestEntry};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use moola_core::ports::{Clock, Event, Events, Ids, JOB_EVENT_TYPE, JobFilter, JobId, JobStatus, Jobs, Table};
use moola_core::system::{SystemClock, TimeIds};
use moola_core::{Error, ErrorKind, Result};
use moola_local::{CommandTemplate, ProcessJobs, ProcessJobsConfig, RedbTable};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::wire::Refusal;

/// The source of the state changes on the emulator's default bus.
pub const SOURCE: &str = "emulated.aws.batch";
/// Log group of the containers.
const LOG_GROUP: &str = "/aws/batch/job";
/// Most jobs that are looked through for a list.
const MAX_LISTED: usize = 100_000;
const MAX_LINES: usize = 10_000;

/// The pattern of a rule, on the default bus, for the changes of jobs.
#[must_use]
pub fn event_pattern() -> String {
    json!({ "source": [SOURCE], "detail-type": [JOB_EVENT_TYPE] }).to_string()
}

/// Makes of them, in a target of that rule, the events that Batch would have published.
#[must_use]
pub fn input_transformer() -> InputTransformer {
    let template = r#"{"version":"0","id":<id>,"detail-type":<type>,"source":"aws.batch","account":<account>,"time":<time>,"region":<region>,"resources":<resources>,"detail":<detail>}"#;
    let mut transformer = InputTransformer::builder().input_template(template).input_paths_map("type", "$.detail-type");
    for field in ["id", "account", "time", "region", "resources", "detail"] {
        transformer = transformer.input_paths_map(field, format!("$.{field}"));
    }
    transformer.build().expect("a template was given")
}

/// What a [`BatchService`] runs.
#[derive(Debug, Clone)]
pub struct BatchServiceConfig {
    /// What each job definition, by its name in Batch such as `moola-trainer-cpu`, runs.
    pub definitions: BTreeMap<String, CommandTemplate>,
    /// The job queues.
    pub queues: BTreeSet<String>,
    /// Environment of the containers that no job tells about: where the emulator is, credentials.
    pub environment: BTreeMap<String, String>,
    /// Most jobs that run at a time.
    pub max_concurrent: usize,
    /// Where records and logs are kept; a service that is started there again goes on with the jobs.
    pub data_dir: PathBuf,
}

impl BatchServiceConfig {
    /// Two jobs at a time on the queues `moola-cpu` and `moola-gpu`.
    pub fn new(definitions: BTreeMap<String, CommandTemplate>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            definitions,
            queues: ["moola-cpu", "moola-gpu"].map(str::to_owned).into(),
            environment: BTreeMap::new(),
            max_concurrent: 2,
            data_dir: data_dir.into(),
        }
    }

    /// The command of a container: `env` hands it the environment that is not the job's.
    fn command(&self, template: &CommandTemplate) -> CommandTemplate {
        let variables = self.environment.iter().map(|(name, value)| format!("{name}={value}"));
        let program = template.program.to_string_lossy().into_owned();
        let args = variables.chain([program]).chain(template.args.iter().cloned()).collect();
        CommandTemplate { program: "env".into(), args }
    }
}

/// The running stand-in; its jobs end with it.
pub struct BatchService {
    address: SocketAddr,
    service: Arc<Service>,
    /// The server runs until this is dropped.
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

struct Service {
    jobs: ProcessJobs,
    queues: BTreeSet<String>,
    definitions: BTreeSet<String>,
    terminated: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for BatchService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchService").field("address", &self.address).finish_non_exhaustive()
    }
}

impl BatchService {
    /// Starts the service on a free port of 127.0.0.1; `emulator` says where EventBridge is.
    ///
    /// # Errors
    /// Where the data cannot be opened or no port be had.
    pub async fn start(config: BatchServiceConfig, emulator: &SdkConfig) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&config.data_dir)?;
        let table: Arc<dyn Table> = Arc::new(RedbTable::open(config.data_dir.join("batch.redb"))?);
        let events = Arc::new(StateChanges { client: aws_sdk_eventbridge::Client::new(emulator) });
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids: Arc<dyn Ids> = Arc::new(TimeIds::new(clock.clone())?);
        let definitions: BTreeMap<String, CommandTemplate> =
            config.definitions.iter().map(|(name, template)| (name.clone(), config.command(template))).collect();
        let service = Service {
            queues: config.queues,
            definitions: definitions.keys().cloned().collect(),
            terminated: Mutex::default(),
            jobs: ProcessJobs::new(
                table,
                events,
                clock,
                ids,
                ProcessJobsConfig {
                    max_concurrent: config.max_concurrent,
                    ..ProcessJobsConfig::new(definitions, config.data_dir.join("logs"))
                },
            )?,
        };
        service.jobs.start().await?;
        let service = Arc::new(service);
        let router = Router::new()
            .route("/v1/submitjob", post(submit_job))
            .route("/v1/describejobs", post(describe_jobs))
            .route("/v1/listjobs", post(list_jobs))
            .route("/v1/terminatejob", post(terminate_job))
            .route("/v1/canceljob", post(cancel_job))
            .route("/", post(logs))
            .with_state(service.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let stopped = async move { drop(stopped.await) };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
                eprintln!("the stand-in for AWS Batch ended: {error}");
            }
        });
        Ok(Self { address, service, stop, server })
    }

    /// What `AWS_ENDPOINT_URL_BATCH` and `AWS_ENDPOINT_URL_CLOUDWATCH_LOGS` should be.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends the running jobs, which go on where a service is started on the same data, and the server.
    pub async fn shutdown(self) {
        self.service.jobs.shutdown().await;
        drop(self.stop);
        // A panic there was reported there.
        let _ = self.server.await;
    }
}

/// Publishes the changes of jobs on the default bus.
struct StateChanges {
    client: aws_sdk_eventbridge::Client,
}

#[async_trait]
impl Events for StateChanges {
    async fn publish(&self, events: Vec<Event>) -> Result<()> {
        let mut entries = Vec::new();
        for event in &events {
            let Some(detail) = wire::state_change(&event.detail) else { continue };
            let entry = PutEventsRequestEntry::builder()
                .source(SOURCE)
                .detail_type(&event.detail_type)
                .resources(detail["jobArn"].as_str().unwrap_or_default())
                .detail(detail.to_string());
            entries.push(entry.build());
        }
        if entries.is_empty() {
            return Ok(());
        }
        let output = self.client.put_events().set_entries(Some(entries)).send().await;
        let output = output.map_err(|error| Error::unavailable("PutEvents failed").with_source(error))?;
        match output.failed_entry_count() {
            0 => Ok(()),
            _ => Err(Error::unavailable(format!("PutEvents failed: {:?}", output.entries()))),
        }
    }
}

type Answer = std::result::Result<Value, Refusal>;

impl Service {
    /// A job as Batch describes it; `None` where there is none.
    async fn describe(&self, id: &str) -> std::result::Result<Option<Value>, Refusal> {
        match self.jobs.describe_attempts(&JobId(id.to_owned())).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
            Ok((job, attempts)) => {
                let mut detail = wire::detail(job.state_change(String::new(), 0, &attempts).detail);
                detail["container"]["environment"] = wire::pairs(&job.request.environment);
                detail["isTerminated"] =
                    json!(self.terminated.lock().unwrap_or_else(PoisonError::into_inner).contains(id));
                Ok(Some(detail))
            }
        }
    }

    async fn submit(&self, body: &Value) -> Answer {
        let request = wire::request(body)?;
        for (kind, name, known) in
            [("JobQueue", &request.queue, &self.queues), ("JobDefinition", &request.definition, &self.definitions)]
        {
            if !known.contains(name) {
                return Err(Refusal::client(format!("{kind} {name} not found")));
            }
        }
        let name = request.name.clone();
        let id = self.jobs.submit(request).await?;
        Ok(json!({ "jobId": id, "jobName": name, "jobArn": wire::arn("job", &id.0) }))
    }

    async fn describe_all(&self, body: &Value) -> Answer {
        let ids: Vec<&str> = body["jobs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !(1..=100).contains(&ids.len()) {
            return Err(Refusal::client("jobs must have 1 to 100 items"));
        }
        let mut jobs = Vec::new();
        for id in ids {
            jobs.extend(self.describe(id).await?);
        }
        Ok(json!({ "jobs": jobs }))
    }

    /// With the filter `AFTER_CREATED_AT` jobs of all states, the newest first; else those of one state.
    async fn list(&self, body: &Value) -> Answer {
        let queue = wire::text(body, "jobQueue")?;
        if !self.queues.contains(queue) {
            return Err(Refusal::client(format!("JobQueue {queue} not found")));
        }
        let filter = body["filters"].as_array().and_then(|filters| filters.first());
        let (after_ms, status, most) = match filter {
            Some(filter) if filter["name"] == "AFTER_CREATED_AT" => {
                let after_ms = filter["values"][0].as_str().and_then(|value| value.parse::<i64>().ok());
                (Some(after_ms.ok_or_else(|| Refusal::client("the filter's value is no number"))?), None, 100)
            }
            Some(filter) => return Err(Refusal::client(format!("the stand-in knows no filter {}", filter["name"]))),
            None => (None, Some(body["jobStatus"].as_str().unwrap_or("RUNNING")), 1_000),
        };
        let start: usize = match body["nextToken"].as_str() {
            Some(token) => token.parse().map_err(|_| Refusal::client("the nextToken is not valid"))?,
            None => 0,
        };
        let num = wire::number(&body["maxResults"]).map_or(most, |num| num.min(most));
        let jobs = self.jobs.list(&JobFilter { status: None, limit: MAX_LISTED }).await?;
        let mut summaries = Vec::new();
        for job in jobs.iter().filter(|job| job.request.queue == queue) {
            let detail = wire::detail(job.state_change(String::new(), 0, &[]).detail);
            let is_wanted = after_ms.is_none_or(|ms| job.created_ms > ms);
            if is_wanted && status.is_none_or(|status| detail["status"] == status) {
                summaries.push(wire::summary(&detail));
            }
        }
        let end = start.saturating_add(num).min(summaries.len());
        let page = summaries.get(start..end).unwrap_or_default();
        let next = (end < summaries.len()).then(|| end.to_string());
        Ok(json!({ "jobSummaryList": page, "nextToken": next }))
    }

    /// Ends a job, whatever state it is in.
    async fn terminate(&self, body: &Value) -> Answer {
        let (id, reason) = (wire::text(body, "jobId")?, wire::text(body, "reason")?);
        self.jobs.cancel(&JobId(id.to_owned()), reason).await?;
        self.terminated.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        Ok(json!({}))
    }

    /// Ends a job that has not started.
    async fn cancel(&self, body: &Value) -> Answer {
        let id = JobId(wire::text(body, "jobId")?.to_owned());
        let status = self.jobs.describe(&id).await?.status;
        if matches!(status, JobStatus::Submitted | JobStatus::Runnable) {
            return self.terminate(body).await;
        }
        Ok(json!({}))
    }

    async fn log_events(&self, body: &Value) -> Answer {
        let absent = || Refusal::new("ResourceNotFoundException", "The specified log stream does not exist.");
        if body["logGroupName"] != LOG_GROUP {
            return Err(Refusal::new("ResourceNotFoundException", "The specified log group does not exist."));
        }
        let (id, attempt) = wire::log_stream_parts(wire::text(body, "logStreamName")?).ok_or_else(absent)?;
        let job = self.jobs.describe(&id).await.map_err(|_| absent())?;
        if !(1..=job.attempts).contains(&attempt) {
            return Err(absent());
        }
        let lines = self.jobs.logs(&id, usize::MAX).await?;
        let events: Vec<Value> = lines
            .into_iter()
            .filter(|line| line.attempt == attempt)
            .map(|line| json!({ "timestamp": job.created_ms, "ingestionTime": job.created_ms, "message": line.text }))
            .collect();
        wire::page(body, &events, MAX_LINES)
    }
}

fn answer(answer: Answer) -> Response {
    answer.map_or_else(Refusal::into_response, |value| wire::response(200, None, &value))
}

/// The routes differ in the method of [`Service`] that answers.
macro_rules! route {
    ($name:ident, $method:ident) => {
        async fn $name(State(service): State<Arc<Service>>, body: Bytes) -> Response {
            let answered = match serde_json::from_slice(&body) {
                Ok(body) => service.$method(&body).await,
                Err(error) => Err(Refusal::client(format!("the body is no JSON: {error}"))),
            };
            answer(answered)
        }
    };
}

route!(submit_job, submit);
route!(describe_jobs, describe_all);
route!(list_jobs, list);
route!(terminate_job, terminate);
route!(cancel_job, cancel);
route!(get_log_events, log_events);

async fn logs(state: State<Arc<Service>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    if target == "Logs_20140328.GetLogEvents" {
        return get_log_events(state, body).await;
    }
    Refusal::new("UnknownOperationException", format!("the stand-in knows no `{target}`")).into_response()
}
