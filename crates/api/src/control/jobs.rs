//! Jobs: the containers that train.

use axum::extract::State;
use moola_core::ports::{JobDescription, JobFilter, JobId, JobStatus, LogLine};
use serde::{Deserialize, Serialize};

use super::{ControlState, Limit};
use crate::error::ApiResult;
use crate::extract::{Json, Path, Query};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    limit: Option<usize>,
    status: Option<JobStatus>,
}

#[derive(Debug, Serialize)]
pub(super) struct JobList {
    jobs: Vec<JobDescription>,
}

/// Lines that a job printed.
#[derive(Debug, Serialize)]
pub(super) struct LogLines {
    pub(super) lines: Vec<LogLine>,
}

/// Lists jobs.
#[utoipa::path(get, path = "/api/v2/jobs", tag = "jobs", operation_id = "list_jobs",
    params(("limit" = Option<usize>, Query, description = "At most so many"),
        ("status" = Option<String>, Query, description = "Only in this status, such as `RUNNING`")),
    responses((status = 200, description = "Jobs, the newest first")))]
pub(super) async fn list(
    State(state): State<ControlState>,
    Query(params): Query<ListParams>,
) -> ApiResult<Json<JobList>> {
    let filter = JobFilter { status: params.status, limit: Limit { limit: params.limit }.get()? };
    Ok(Json(JobList { jobs: state.app.ports.jobs.list(&filter).await? }))
}

/// Shows a job.
#[utoipa::path(get, path = "/api/v2/jobs/{job}", tag = "jobs", operation_id = "show_job",
    params(("job" = String, Path, description = "Its id")),
    responses((status = 200, description = "The job"), (status = 404, description = "No such job")))]
pub(super) async fn show(
    State(state): State<ControlState>,
    Path(job): Path<String>,
) -> ApiResult<Json<JobDescription>> {
    Ok(Json(state.app.ports.jobs.describe(&JobId(job)).await?))
}

/// Shows what a job printed.
#[utoipa::path(get, path = "/api/v2/jobs/{job}/logs", tag = "jobs", operation_id = "show_job_logs",
    params(("job" = String, Path, description = "Its id"), ("limit" = Option<usize>, Query, description = "Last lines")),
    responses((status = 200, description = "The last lines, the oldest first")))]
pub(super) async fn logs(
    State(state): State<ControlState>,
    Path(job): Path<String>,
    Query(limit): Query<Limit>,
) -> ApiResult<Json<LogLines>> {
    Ok(Json(LogLines { lines: state.app.ports.jobs.logs(&JobId(job), limit.get()?).await? }))
}

/// Cancels a job.
#[utoipa::path(post, path = "/api/v2/jobs/{job}/cancel", tag = "jobs", operation_id = "cancel_job",
    params(("job" = String, Path, description = "Its id")),
    responses((status = 200, description = "The job; it ends soon"), (status = 404, description = "No such job")))]
pub(super) async fn cancel(
    State(state): State<ControlState>,
    Path(job): Path<String>,
) -> ApiResult<Json<JobDescription>> {
    let id = JobId(job);
    state.app.ports.jobs.cancel(&id, "cancelled by the user").await?;
    Ok(Json(state.app.ports.jobs.describe(&id).await?))
}
