//! From jobs of AWS Batch to those of the port.

use std::collections::BTreeMap;

use aws_sdk_batch::types::JobStatus as BatchStatus;
use aws_sdk_batch::types::{ArrayPropertiesDetail, JobDetail};
use moola_core::ports::{JobDescription, JobId, JobRequest, JobStatus};
use moola_core::{Error, Result};

/// What queues and definitions are called.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) prefix: String,
}

impl Names {
    pub(super) fn queue(&self, queue: &str) -> String {
        format!("{}-{queue}", self.prefix)
    }

    /// Whether a job is in this queue.
    pub(super) fn is_in(&self, detail: &JobDetail, queue: &str) -> bool {
        detail.job_queue().map(resource) == Some(&self.queue(queue))
    }

    pub(super) fn definition(&self, definition: &str, queue: &str) -> String {
        format!("{}-{definition}-{queue}", self.prefix)
    }

    fn without_prefix<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(&self.prefix).and_then(|name| name.strip_prefix('-')).unwrap_or(name)
    }

    /// What the port tells about a job.
    pub(super) fn describe(&self, detail: &JobDetail) -> Result<JobDescription> {
        let id = detail.job_id().ok_or_else(|| Error::internal("AWS Batch told a job without an id"))?;
        let status = status(detail)?;
        let array = parent(detail);
        let attempts = detail.attempts();
        let last_exit_code = attempts.iter().rev().find_map(|attempt| attempt.container()?.exit_code());
        Ok(JobDescription {
            id: JobId(id.to_owned()),
            request: self.request(detail),
            status,
            status_reason: detail.status_reason().map(str::to_owned),
            attempts: u32::try_from(attempts.len()).unwrap_or(u32::MAX)
                + u32::from(has_unlisted_attempt(detail, status)),
            exit_code: detail.container().and_then(|container| container.exit_code()).or(last_exit_code),
            created_ms: detail.created_at().unwrap_or_default(),
            started_ms: detail.started_at().filter(|at| *at > 0),
            stopped_ms: detail.stopped_at().filter(|at| *at > 0 && status.is_final()),
            array_summary: array.map(summary).unwrap_or_default(),
        })
    }

    fn request(&self, detail: &JobDetail) -> JobRequest {
        let container = detail.container();
        let queue = self.without_prefix(resource(detail.job_queue().unwrap_or_default())).to_owned();
        let definition = resource(detail.job_definition().unwrap_or_default());
        let definition = definition.rsplit_once(':').map_or(definition, |(name, _)| name);
        let definition = self.without_prefix(definition);
        let definition = definition.strip_suffix(&queue).and_then(|name| name.strip_suffix('-')).unwrap_or(definition);
        let environment = container.map(|container| container.environment()).unwrap_or_default().iter();
        let tags = detail.tags().into_iter().flatten();
        JobRequest {
            name: detail.job_name().unwrap_or_default().to_owned(),
            definition: definition.to_owned(),
            queue,
            args: container.map(|container| container.command()).unwrap_or_default().to_vec(),
            environment: environment
                .filter_map(|pair| Some((pair.name()?.to_owned(), pair.value().unwrap_or_default().to_owned())))
                .collect(),
            array_size: parent(detail).and_then(|array| u32::try_from(array.size()?).ok()),
            attempts: detail
                .retry_strategy()
                .and_then(|strategy| u32::try_from(strategy.attempts()?).ok())
                .filter(|attempts| *attempts > 0)
                .unwrap_or(1),
            timeout_secs: detail.timeout().and_then(|timeout| u64::try_from(timeout.attempt_duration_seconds()?).ok()),
            tags: tags
                .filter(|(name, _)| *name != "resourceArn" && !name.starts_with("aws:"))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }
    }
}

/// What follows the `/` of an ARN.
fn resource(arn: &str) -> &str {
    arn.split_once('/').map_or(arn, |(_, resource)| resource)
}

/// What an array job, not a child, tells about its children.
fn parent(detail: &JobDetail) -> Option<&ArrayPropertiesDetail> {
    detail.array_properties().filter(|array| array.index().is_none() && array.size().is_some_and(|size| size > 0))
}

fn summary(array: &ArrayPropertiesDetail) -> BTreeMap<String, u32> {
    let counts = array.status_summary().into_iter().flatten();
    counts
        .filter_map(|(status, count)| Some((status.clone(), u32::try_from(*count).ok().filter(|count| *count > 0)?)))
        .collect()
}

/// Where a job stands. `PENDING`, which the port does not know, is said of array jobs whose children run or wait, and of
/// jobs that wait for others.
pub(super) fn status(detail: &JobDetail) -> Result<JobStatus> {
    Ok(match detail.status() {
        Some(BatchStatus::Submitted) => JobStatus::Submitted,
        Some(BatchStatus::Pending | BatchStatus::Runnable) if parent(detail).is_some() => {
            let waits = ["SUBMITTED", "PENDING", "RUNNABLE"];
            let has_started = parent(detail)
                .is_some_and(|array| summary(array).keys().any(|status| !waits.contains(&status.as_str())));
            if has_started { JobStatus::Running } else { JobStatus::Runnable }
        }
        Some(BatchStatus::Pending) => JobStatus::Submitted,
        Some(BatchStatus::Runnable) => JobStatus::Runnable,
        Some(BatchStatus::Starting) => JobStatus::Starting,
        Some(BatchStatus::Running) => JobStatus::Running,
        Some(BatchStatus::Succeeded) => JobStatus::Succeeded,
        Some(BatchStatus::Failed) => JobStatus::Failed,
        other => return Err(Error::internal(format!("AWS Batch told the unknown status {other:?}"))),
    })
}

/// Whether a job whose summary tells `status` may have the status `wanted`: that of array jobs shows only in their details.
pub(super) fn may_be(status: Option<&BatchStatus>, wanted: Option<JobStatus>) -> bool {
    match (status, wanted) {
        (_, None) | (None | Some(BatchStatus::Pending | BatchStatus::Runnable), _) => true,
        (Some(status), Some(wanted)) => status.as_str() == wanted.as_str(),
    }
}

/// Whether an attempt is under way that is not in the list: those in it have ended.
fn has_unlisted_attempt(detail: &JobDetail, status: JobStatus) -> bool {
    matches!(status, JobStatus::Starting | JobStatus::Running)
        && parent(detail).is_none()
        && detail.attempts().last().is_none_or(|attempt| attempt.stopped_at().is_some_and(|at| at > 0))
}

/// The log streams of a job and which attempt printed to each.
pub(super) fn log_streams(detail: &JobDetail) -> Vec<(u32, String)> {
    let mut streams: Vec<(u32, String)> = (1..)
        .zip(detail.attempts())
        .filter_map(|(number, attempt)| Some((number, attempt.container()?.log_stream_name()?.to_owned())))
        .collect();
    // That of the attempt under way, or once more that of the last one.
    let current = detail.container().and_then(|container| container.log_stream_name());
    if let Some(current) = current.filter(|current| streams.iter().all(|(_, stream)| stream != current)) {
        let number = u32::try_from(detail.attempts().len()).unwrap_or(u32::MAX).saturating_add(1);
        streams.push((number, current.to_owned()));
    }
    streams
}
