//! Runs of training.

use axum::extract::State;
use axum::http::StatusCode;
use moola_core::contract::{Progress, RunResult, TrainingSpec};
use moola_core::training::{Run, TrainRequest};
use serde::{Deserialize, Serialize};

use super::jobs::LogLines;
use super::{ControlState, Limit};
use crate::error::ApiResult;
use crate::extract::{Json, Path, Query};

#[derive(Debug, Serialize)]
pub(super) struct RunList {
    runs: Vec<Run>,
}

/// A run with what it was told and how it ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunView {
    /// The run.
    pub run: Run,
    /// What it was told.
    pub spec: TrainingSpec,
    /// How it ended; absent while it has not.
    #[serde(default)]
    pub result: Option<RunResult>,
}

#[derive(Debug, Serialize)]
pub(super) struct ProgressList {
    progress: Vec<Progress>,
}

/// Starts a run.
#[utoipa::path(post, path = "/api/v2/training/jobs", tag = "training", operation_id = "start_run",
    request_body(content = serde_json::Value, description = "`model_name`, `dataset`, `label`, and where they differ from the defaults `window`, `split`, `model`, `optimizer`, `resources`, `seed`, `auto_promote`"),
    responses((status = 202, description = "The run"), (status = 400, description = "A field does not fit"),
        (status = 404, description = "No such dataset"), (status = 409, description = "Too many runs, or too few bars")))]
pub(super) async fn start(
    State(state): State<ControlState>,
    Json(request): Json<TrainRequest>,
) -> ApiResult<(StatusCode, Json<Run>)> {
    Ok((StatusCode::ACCEPTED, Json(state.app.training.start(request).await?)))
}

/// Lists runs.
#[utoipa::path(get, path = "/api/v2/training/jobs", tag = "training", operation_id = "list_runs",
    params(("limit" = Option<usize>, Query, description = "At most so many")),
    responses((status = 200, description = "Runs, the newest first")))]
pub(super) async fn list(State(state): State<ControlState>, Query(limit): Query<Limit>) -> ApiResult<Json<RunList>> {
    Ok(Json(RunList { runs: state.app.training.list(limit.get()?).await? }))
}

/// Shows a run.
#[utoipa::path(get, path = "/api/v2/training/jobs/{run}", tag = "training", operation_id = "show_run",
    params(("run" = String, Path, description = "Its id")),
    responses((status = 200, description = "The run, its spec and its result"), (status = 404, description = "No such run")))]
pub(super) async fn show(State(state): State<ControlState>, Path(run): Path<String>) -> ApiResult<Json<RunView>> {
    let training = &state.app.training;
    let (spec, result) = (training.spec(&run).await?, training.result(&run).await?);
    // Read last: a run that is final has its result above.
    Ok(Json(RunView { run: training.get(&run).await?, spec, result }))
}

/// Shows what the job of a run printed.
#[utoipa::path(get, path = "/api/v2/training/jobs/{run}/logs", tag = "training", operation_id = "show_run_logs",
    params(("run" = String, Path, description = "Its id"), ("limit" = Option<usize>, Query, description = "Last lines")),
    responses((status = 200, description = "The last lines, the oldest first"), (status = 404, description = "No such run")))]
pub(super) async fn logs(
    State(state): State<ControlState>,
    Path(run): Path<String>,
    Query(limit): Query<Limit>,
) -> ApiResult<Json<LogLines>> {
    let run = state.app.training.get(&run).await?;
    let lines = match &run.job_id {
        Some(job_id) => state.app.ports.jobs.logs(job_id, limit.get()?).await?,
        None => Vec::new(),
    };
    Ok(Json(LogLines { lines }))
}

/// Shows what a run reported so far.
#[utoipa::path(get, path = "/api/v2/training/jobs/{run}/progress", tag = "training", operation_id = "show_run_progress",
    params(("run" = String, Path, description = "Its id")),
    responses((status = 200, description = "Steps and epochs in order"), (status = 404, description = "No such run")))]
pub(super) async fn progress(
    State(state): State<ControlState>,
    Path(run): Path<String>,
) -> ApiResult<Json<ProgressList>> {
    Ok(Json(ProgressList { progress: state.app.training.progress(&run).await? }))
}

/// Cancels a run.
#[utoipa::path(post, path = "/api/v2/training/jobs/{run}/cancel", tag = "training", operation_id = "cancel_run",
    params(("run" = String, Path, description = "Its id")),
    responses((status = 200, description = "The run; one that has ended stays as it is"), (status = 404, description = "No such run")))]
pub(super) async fn cancel(State(state): State<ControlState>, Path(run): Path<String>) -> ApiResult<Json<Run>> {
    Ok(Json(state.app.training.cancel(&run, "cancelled by the user").await?))
}
