mod convert;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_batch::types::{
    ArrayProperties, ContainerOverrides, EvaluateOnExit, JobDetail, JobTimeout, KeyValuePair, KeyValuesPair,
    RetryAction, RetryStrategy,
};
use aws_sdk_cloudwatchlogs::operation::get_log_events::GetLogEventsError;
use moola_core::ports::{JobDescription, JobFilter, JobId, JobRequest, Jobs, LogLine};
use moola_core::{Error, ErrorKind, Result};

use self::convert::Names;
use crate::error::unexpected;

/// The queues that a deployment may have; one of them may be absent.
const QUEUES: [&str; 2] = ["cpu", "gpu"];
/// Most jobs in one answer of `ListJobs` with a filter, and in one call of `DescribeJobs`.
const MAX_JOBS: usize = 100;
/// Most lines in one answer of `GetLogEvents`.
const MAX_LINES: usize = 10_000;
/// Exit codes after which a container is run again: it asked for that (75), or SIGKILL or SIGTERM ended it. AWS Batch takes
/// five rules in all, so other signals end the job.
const RETRIED_EXIT_CODES: [&str; 3] = ["75", "137", "143"];

/// Jobs on AWS Batch, with what they print in CloudWatch Logs.
///
/// The queue `cpu` is called `<prefix>-cpu` there, the definition `trainer` of this queue `<prefix>-trainer-cpu`.
///
/// # What AWS Batch does otherwise
/// - A time limit is at least 60 s; a shorter one is refused.
/// - The end of a Spot instance costs no attempt that another exit code could use: it is one of them.
/// - The environment of a described job has that of its definition in it; tags of AWS are left out.
/// - Jobs are forgotten some days after their end.
#[derive(Debug, Clone)]
pub struct BatchJobs {
    batch: aws_sdk_batch::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    names: Names,
    log_group: String,
}

impl BatchJobs {
    /// Jobs on the queues that start with `prefix`, whose containers print to the log group `log_group`.
    pub fn new(config: &SdkConfig, prefix: impl Into<String>, log_group: impl Into<String>) -> Self {
        Self {
            batch: aws_sdk_batch::Client::new(config),
            logs: aws_sdk_cloudwatchlogs::Client::new(config),
            names: Names { prefix: prefix.into() },
            log_group: log_group.into(),
        }
    }

    /// The jobs that exist, in the order of `ids`.
    async fn details(&self, ids: &[String]) -> Result<Vec<JobDetail>> {
        let mut details = Vec::new();
        for ids in ids.chunks(MAX_JOBS) {
            let output = self.batch.describe_jobs().set_jobs(Some(ids.to_vec())).send().await;
            let mut jobs = output.map_err(|error| unexpected("DescribeJobs", error))?.jobs.unwrap_or_default();
            jobs.sort_by_key(|job| ids.iter().position(|id| Some(id.as_str()) == job.job_id()));
            details.extend(jobs);
        }
        Ok(details)
    }

    async fn detail(&self, id: &JobId) -> Result<JobDetail> {
        let not_found = || Error::not_found("job", id);
        if !is_job_id(&id.0) {
            return Err(not_found());
        }
        // An account has jobs of others, which are none here.
        let is_ours = |job: &JobDetail| QUEUES.iter().any(|queue| self.names.is_in(job, queue));
        let job = self.details(std::slice::from_ref(&id.0)).await?.into_iter().next();
        job.filter(is_ours).ok_or_else(not_found)
    }

    /// The newest jobs of a queue that `filter` lets through, at most `limit`.
    async fn list_queue(&self, queue: &str, filter: &JobFilter, limit: usize) -> Result<Vec<JobDescription>> {
        // With this filter jobs of all states come, the newest first.
        let since = KeyValuesPair::builder().name("AFTER_CREATED_AT").values("0").build();
        let page = i32::try_from(limit.min(MAX_JOBS)).unwrap_or(i32::MAX);
        let mut jobs = Vec::new();
        let mut next = None;
        loop {
            let output = self
                .batch
                .list_jobs()
                .job_queue(self.names.queue(queue))
                .filters(since.clone())
                .max_results(page)
                .set_next_token(next)
                .send()
                .await;
            let output = match output {
                Err(error) if error.as_service_error().is_some_and(|e| e.is_client_exception() && is_absent(e)) => {
                    return Ok(jobs);
                }
                output => output.map_err(|error| unexpected("ListJobs", error))?,
            };
            let summaries = output.job_summary_list.unwrap_or_default();
            let ids: Vec<String> = summaries
                .into_iter()
                .filter(|summary| convert::may_be(summary.status(), filter.status))
                .filter_map(|summary| summary.job_id)
                .collect();
            for detail in self.details(&ids).await? {
                let job = self.names.describe(&detail)?;
                if filter.status.is_none_or(|status| status == job.status) {
                    jobs.push(job);
                }
            }
            next = output.next_token.filter(|token| !token.is_empty());
            if next.is_none() || jobs.len() >= limit {
                jobs.truncate(limit);
                return Ok(jobs);
            }
        }
    }

    /// The last `limit` lines of a log stream, the oldest first.
    async fn tail(&self, stream: &str, limit: usize) -> Result<Vec<String>> {
        let mut pages = Vec::new();
        let mut num_lines = 0;
        let mut token: Option<String> = None;
        while num_lines < limit {
            let output = self
                .logs
                .get_log_events()
                .log_group_name(&self.log_group)
                .log_stream_name(stream)
                .start_from_head(false)
                .limit(i32::try_from((limit - num_lines).min(MAX_LINES)).unwrap_or(i32::MAX))
                .set_next_token(token.clone())
                .send()
                .await;
            let output = match output {
                // Nothing was printed yet.
                Err(error)
                    if error.as_service_error().is_some_and(GetLogEventsError::is_resource_not_found_exception) =>
                {
                    break;
                }
                output => output.map_err(|error| unexpected("GetLogEvents", error))?,
            };
            let page: Vec<String> =
                output.events.unwrap_or_default().into_iter().map(|event| event.message.unwrap_or_default()).collect();
            num_lines += page.len();
            pages.push(page);
            // A page may be empty in the midst; the same token again is the end.
            if output.next_backward_token.is_none() || output.next_backward_token == token {
                break;
            }
            token = output.next_backward_token;
        }
        Ok(pages.into_iter().rev().flatten().collect())
    }
}

/// Whether the message of a `ClientException` says that something does not exist.
fn is_absent(error: &impl aws_smithy_types::error::metadata::ProvideErrorMetadata) -> bool {
    let message = error.message().unwrap_or_default().to_lowercase();
    message.contains("not found") || message.contains("does not exist") || message.contains("not exist")
}

/// Whether this may be a job's id; of a child with the index in its only form.
fn is_job_id(id: &str) -> bool {
    let (parent, index) = match id.split_once(':') {
        Some((parent, index)) => (parent, Some(index)),
        None => (id, None),
    };
    (1..=64).contains(&parent.len())
        && parent.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && index.is_none_or(|index| index.parse::<u16>().is_ok_and(|number| number.to_string() == index))
}

/// Run again where a Spot instance was taken away and after [`RETRIED_EXIT_CODES`]; otherwise the job has failed.
fn retry_strategy(attempts: u32) -> RetryStrategy {
    let again = EvaluateOnExit::builder().action(RetryAction::Retry);
    let rules = RETRIED_EXIT_CODES.iter().map(|code| again.clone().on_exit_code(*code).build());
    let spot = again.clone().on_status_reason("Host EC2*").build();
    let others = EvaluateOnExit::builder().action(RetryAction::Exit).on_reason("*").build();
    RetryStrategy::builder()
        .attempts(i32::try_from(attempts).unwrap_or(i32::MAX))
        .set_evaluate_on_exit(Some(std::iter::once(spot).chain(rules).chain([others]).collect()))
        .build()
}

fn timeout(timeout_secs: Option<u64>) -> Result<Option<JobTimeout>> {
    let Some(secs) = timeout_secs else { return Ok(None) };
    let secs =
        i32::try_from(secs).map_err(|_| Error::invalid("timeout_secs", secs, format!("at most {}", i32::MAX)))?;
    Ok(Some(JobTimeout::builder().attempt_duration_seconds(secs).build()))
}

#[async_trait]
impl Jobs for BatchJobs {
    async fn submit(&self, request: JobRequest) -> Result<JobId> {
        request.check()?;
        let environment =
            request.environment.iter().map(|(name, value)| KeyValuePair::builder().name(name).value(value).build());
        let overrides = ContainerOverrides::builder()
            .set_command(Some(request.args.clone()))
            .set_environment(Some(environment.collect()))
            .build();
        let array = request
            .array_size
            .map(|size| ArrayProperties::builder().size(i32::try_from(size).unwrap_or(i32::MAX)).build());
        let submitted = self
            .batch
            .submit_job()
            .job_name(&request.name)
            .job_queue(self.names.queue(&request.queue))
            .job_definition(self.names.definition(&request.definition, &request.queue))
            .container_overrides(overrides)
            .set_array_properties(array)
            .retry_strategy(retry_strategy(request.attempts))
            .set_timeout(timeout(request.timeout_secs)?)
            .set_tags(Some(request.tags.clone().into_iter().collect()))
            .propagate_tags(true)
            .send()
            .await;
        match submitted {
            Ok(output) => output.job_id.map(JobId).ok_or_else(|| Error::internal("SubmitJob told no id")),
            Err(error) => match error.as_service_error() {
                Some(refusal) if refusal.is_client_exception() => {
                    let message = refusal.meta().message().unwrap_or_default().to_owned();
                    Err(refused(&request, &message).with_source(error))
                }
                _ => Err(unexpected("SubmitJob", error)),
            },
        }
    }

    async fn describe(&self, id: &JobId) -> Result<JobDescription> {
        self.names.describe(&self.detail(id).await?)
    }

    async fn list(&self, filter: &JobFilter) -> Result<Vec<JobDescription>> {
        let limit = if filter.limit == 0 { 100 } else { filter.limit };
        let mut jobs = Vec::new();
        for queue in QUEUES {
            jobs.extend(self.list_queue(queue, filter, limit).await?);
        }
        jobs.sort_by_key(|job| std::cmp::Reverse(job.created_ms));
        jobs.truncate(limit);
        Ok(jobs)
    }

    async fn cancel(&self, id: &JobId, reason: &str) -> Result<()> {
        let detail = self.detail(id).await?;
        let was_cancelled = detail.is_terminated() == Some(true) || detail.is_cancelled() == Some(true);
        if was_cancelled || convert::status(&detail)?.is_final() {
            return Ok(());
        }
        let terminated = self.batch.terminate_job().job_id(&id.0).reason(reason).send().await;
        terminated.map(|_| ()).map_err(|error| unexpected("TerminateJob", error))
    }

    async fn logs(&self, id: &JobId, limit: usize) -> Result<Vec<LogLine>> {
        let detail = self.detail(id).await?;
        let mut lines = Vec::new();
        for (attempt, stream) in convert::log_streams(&detail).into_iter().rev() {
            let texts = self.tail(&stream, limit - lines.len()).await?;
            lines.extend(texts.into_iter().rev().map(|text| LogLine { attempt, text }));
            if lines.len() >= limit {
                break;
            }
        }
        lines.truncate(limit);
        lines.reverse();
        Ok(lines)
    }
}

/// What AWS Batch found wrong with a request, by its message.
fn refused(request: &JobRequest, message: &str) -> Error {
    let text = message.to_lowercase().replace(' ', "");
    if text.contains("jobdefinition") {
        return Error::invalid("definition", &request.definition, "a definition that AWS Batch knows for this queue");
    }
    if text.contains("jobqueue") {
        return Error::invalid("queue", &request.queue, "a queue that AWS Batch knows");
    }
    Error::new(ErrorKind::Invalid, format!("AWS Batch refused the job: {message}"))
}

#[cfg(test)]
mod tests;
