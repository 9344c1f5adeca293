//! `Batch Job State Change`, as AWS Batch publishes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Event, JobDescription, JobId, JobRequest, JobStatus};

/// Source of the events about jobs.
pub const JOB_EVENT_SOURCE: &str = "aws.batch";
/// Detail type of the events about jobs.
pub const JOB_EVENT_TYPE: &str = "Batch Job State Change";
/// The tag of a job that its events take their correlation id from; without it they carry the job's id.
pub const CORRELATION_TAG: &str = "correlation_id";

/// One ended run of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAttempt {
    /// When it started.
    pub started_ms: i64,
    /// When it ended.
    pub stopped_ms: i64,
    /// Its exit code, 128 plus the number of the signal that ended it; `None` where nobody saw the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it ended.
    pub reason: String,
}

impl JobDescription {
    /// A job that was just submitted.
    #[must_use]
    pub fn new(id: JobId, request: JobRequest, now_ms: i64) -> Self {
        Self {
            id,
            request,
            status: JobStatus::Submitted,
            status_reason: None,
            attempts: 0,
            exit_code: None,
            created_ms: now_ms,
            started_ms: None,
            stopped_ms: None,
            array_summary: BTreeMap::new(),
        }
    }

    /// Counts the change of a child of this array job; whether the own status changed with it.
    #[must_use]
    pub fn move_child(&mut self, before: JobStatus, after: JobStatus, now_ms: i64) -> bool {
        if let Some(count) = self.array_summary.get_mut(before.as_str()) {
            *count -= 1;
        }
        *self.array_summary.entry(after.as_str().to_owned()).or_default() += 1;
        self.array_summary.retain(|_, count| *count > 0);
        let count = |status: JobStatus| self.array_summary.get(status.as_str()).copied().unwrap_or(0);
        let num_failed = count(JobStatus::Failed);
        let status = if Some(num_failed + count(JobStatus::Succeeded)) == self.request.array_size {
            if num_failed == 0 { JobStatus::Succeeded } else { JobStatus::Failed }
        } else {
            JobStatus::Running
        };
        if self.status == status {
            return false;
        }
        self.status = status;
        self.started_ms.get_or_insert(now_ms);
        if status.is_final() {
            self.stopped_ms = Some(now_ms);
            if status == JobStatus::Failed && self.status_reason.is_none() {
                self.status_reason = Some(format!("{num_failed} children failed"));
            }
        }
        true
    }

    /// The event that says where this job stands now; `attempts` are those that ended.
    #[must_use]
    pub fn state_change(&self, event_id: String, time_ms: i64, attempts: &[JobAttempt]) -> Event {
        let id = &self.id.0;
        let mut detail = json!({
            "version": 1,
            "jobId": id,
            "jobName": self.request.name,
            "jobQueue": self.request.queue,
            "jobDefinition": self.request.definition,
            "status": self.status,
            "attempts": attempts.iter().map(|attempt| json!({
                "container": container(attempt.exit_code, &attempt.reason),
                "startedAt": attempt.started_ms,
                "stoppedAt": attempt.stopped_ms,
                "statusReason": attempt.reason,
            })).collect::<Vec<_>>(),
            "createdAt": self.created_ms,
            "retryStrategy": { "attempts": self.request.attempts },
            "container": { "command": self.request.args },
            "tags": self.request.tags,
        });
        let mut set = |name: &str, value: Value| detail[name] = value;
        if let Some(reason) = &self.status_reason {
            set("statusReason", json!(reason));
        }
        if let Some(started_ms) = self.started_ms {
            set("startedAt", json!(started_ms));
        }
        if let Some(stopped_ms) = self.stopped_ms {
            set("stoppedAt", json!(stopped_ms));
        }
        if let Some(timeout_secs) = self.request.timeout_secs {
            set("timeout", json!({ "attemptDurationSeconds": timeout_secs }));
        }
        if let Some((_, index)) = id.split_once(':') {
            set("arrayProperties", json!({ "index": index.parse::<u32>().unwrap_or(0) }));
        } else if let Some(size) = self.request.array_size {
            set("arrayProperties", json!({ "size": size, "statusSummary": self.array_summary }));
        }
        if let Some(exit_code) = self.exit_code {
            detail["container"]["exitCode"] = json!(exit_code);
        }
        let parent = id.split(':').next().unwrap_or(id);
        Event {
            id: event_id,
            source: JOB_EVENT_SOURCE.into(),
            detail_type: JOB_EVENT_TYPE.into(),
            time_ms,
            correlation_id: self.request.tags.get(CORRELATION_TAG).map_or_else(|| parent.to_owned(), Clone::clone),
            detail,
        }
    }
}

fn container(exit_code: Option<i32>, reason: &str) -> Value {
    match exit_code {
        Some(exit_code) => json!({ "exitCode": exit_code }),
        None => json!({ "reason": reason }),
    }
}
