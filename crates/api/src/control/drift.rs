//! Drift checks.

use axum::extract::State;
use moola_core::monitor::DriftCheck;
use moola_core::stats::DriftReport;
use serde::{Deserialize, Serialize};

use super::{ControlState, Limit};
use crate::error::ApiResult;
use crate::extract::{Json, Path, Query};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckParams {
    version: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct CheckView {
    check: DriftCheck,
    report: DriftReport,
}

#[derive(Debug, Serialize)]
pub(super) struct CheckList {
    checks: Vec<DriftCheck>,
}

/// Looks for drift now.
#[utoipa::path(post, path = "/api/v2/drift/{model}/check", tag = "drift", operation_id = "check_drift",
    params(("model" = String, Path, description = "Its name"),
        ("version" = Option<String>, Query, description = "A number, an alias or a stage; `production` by default")),
    responses((status = 200, description = "The check and its whole report"), (status = 404, description = "No such model"),
        (status = 409, description = "Too few logged predictions")))]
pub(super) async fn check(
    State(state): State<ControlState>,
    Path(model): Path<String>,
    Query(params): Query<CheckParams>,
) -> ApiResult<Json<CheckView>> {
    let correlation_id = state.app.ports.ids.new_id();
    let version = params.version.as_deref().unwrap_or("production");
    let (check, report) = state.app.monitor.check(&model, version, &correlation_id).await?;
    Ok(Json(CheckView { check, report }))
}

/// Lists drift checks.
#[utoipa::path(get, path = "/api/v2/drift/{model}/checks", tag = "drift", operation_id = "list_drift_checks",
    params(("model" = String, Path, description = "Its name"), ("limit" = Option<usize>, Query, description = "At most so many")),
    responses((status = 200, description = "Checks, the newest first"), (status = 404, description = "No such model")))]
pub(super) async fn list(
    State(state): State<ControlState>,
    Path(model): Path<String>,
    Query(limit): Query<Limit>,
) -> ApiResult<Json<CheckList>> {
    Ok(Json(CheckList { checks: state.app.monitor.checks(&model, limit.get()?).await? }))
}

/// Shows the report of a drift check.
#[utoipa::path(get, path = "/api/v2/drift/{model}/checks/{check}", tag = "drift", operation_id = "show_drift_check",
    params(("model" = String, Path, description = "Its name"), ("check" = String, Path, description = "Id of the check")),
    responses((status = 200, description = "The whole report"), (status = 404, description = "No such check")))]
pub(super) async fn show(
    State(state): State<ControlState>,
    Path((model, check)): Path<(String, String)>,
) -> ApiResult<Json<DriftReport>> {
    Ok(Json(state.app.monitor.report(&model, &check).await?))
}
