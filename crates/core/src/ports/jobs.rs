use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Exit code of a container that asks to be run again (a checkpoint was written).
pub const EXIT_RETRY: i32 = 75;

/// Identifies a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub String);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a job stands; the names are those of AWS Batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobStatus {
    /// Accepted; AWS Batch also says `PENDING` of jobs that wait for others.
    #[serde(alias = "PENDING")]
    Submitted,
    /// Waits for a place.
    Runnable,
    /// A container is being started.
    Starting,
    /// A container runs.
    Running,
    /// Ended with exit code 0.
    Succeeded,
    /// Ended otherwise, was cancelled or ran out of time or attempts.
    Failed,
}

impl JobStatus {
    /// Its name in AWS Batch.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "SUBMITTED",
            Self::Runnable => "RUNNABLE",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
        }
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// What to run.
///
/// The container gets `args` as arguments and in its environment, besides `environment`: `AWS_BATCH_JOB_ID`,
/// `AWS_BATCH_JOB_ATTEMPT` (1, 2, ...) and, in an array job, `AWS_BATCH_JOB_ARRAY_INDEX` (0, 1, ...).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// Letters, digits, `-` and `_`, at most 128; starts with a letter or digit. See [`is_valid_job_name`].
    pub name: String,
    /// Which container: a name that the adapter knows, such as `trainer`.
    pub definition: String,
    /// Which queue, such as `cpu` or `gpu`.
    pub queue: String,
    /// Arguments of the container.
    pub args: Vec<String>,
    /// Environment of the container.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Number of children, 2 to 10,000; `None` for a single job.
    #[serde(default)]
    pub array_size: Option<u32>,
    /// How often it may run, 1 to 10: it is run again after exit code [`EXIT_RETRY`] or a death by signal
    /// ([`is_retry_exit_code`]).
    pub attempts: u32,
    /// An attempt is ended after this long: SIGTERM, then SIGKILL 30 s later; then the job has failed, whatever attempts
    /// are left.
    #[serde(default)]
    pub timeout_secs: Option<u64>,
    /// Free labels.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// What is known about a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobDescription {
    /// Its id.
    pub id: JobId,
    /// What was asked for.
    pub request: JobRequest,
    /// Where it stands. Of an array job: succeeded when all children have, failed when all have ended and one failed.
    pub status: JobStatus,
    /// Why, where there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// Attempts started so far.
    pub attempts: u32,
    /// Exit code of the last attempt that ended; 128 plus its number where a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// When it was submitted.
    pub created_ms: i64,
    /// When the last attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_ms: Option<i64>,
    /// Children by status, of an array job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub array_summary: BTreeMap<String, u32>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only in this state.
    pub status: Option<JobStatus>,
    /// At most this many; zero means 100.
    pub limit: usize,
}

/// One line that a container printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Which attempt printed it, from 1.
    pub attempt: u32,
    /// The line, without its end.
    pub text: String,
}

/// Runs containers.
///
/// Every change of a job's status is published as an event `Batch Job State Change` of source `aws.batch`, with the
/// fields of that event in AWS (`jobId`, `jobName`, `status`, `statusReason`, `attempts`, `container.exitCode`, `tags`).
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Accepts a job; it survives a restart of the platform from here on.
    ///
    /// # Errors
    /// `Invalid`, naming the field (an unknown definition too); `Refused` where a limit is reached; `Unavailable`.
    async fn submit(&self, request: JobRequest) -> Result<JobId>;

    /// What is known about a job; children of an array job have ids `{id}:{index}`.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    async fn describe(&self, id: &JobId) -> Result<JobDescription>;

    /// Jobs, the newest first; of an array job only the parent.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn list(&self, filter: &JobFilter) -> Result<Vec<JobDescription>>;

    /// Ends a job: SIGTERM, then SIGKILL 30 s later; it becomes `FAILED` with `reason`. Of a job that has ended, or was
    /// cancelled before, nothing changes.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    async fn cancel(&self, id: &JobId, reason: &str) -> Result<()>;

    /// What the job printed, at most its last `limit` lines, the oldest first. Nothing of the parent of an array job:
    /// its children print.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    async fn logs(&self, id: &JobId, limit: usize) -> Result<Vec<LogLine>>;
}

/// Whether a container that ended with this code is run again: it asked for that, or a signal ended it, which shows as 128
/// plus the signal's number.
#[must_use]
pub fn is_retry_exit_code(exit_code: i32) -> bool {
    exit_code == EXIT_RETRY || (129..=192).contains(&exit_code)
}

/// Whether AWS Batch would take this as a job's name.
#[must_use]
pub fn is_valid_job_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}
