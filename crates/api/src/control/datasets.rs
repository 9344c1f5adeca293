//! Datasets: import, validation, versions.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use moola_core::Error;
use moola_core::dataset::{DatasetManifest, DatasetSummary, Format, ImportRequest};
use moola_market::Interval;
use moola_market::validate::{Mode, RejectedRow, ValidationReport};
use serde::{Deserialize, Serialize};

use super::{ControlState, Limit, NoParams, uploads};
use crate::error::ApiResult;
use crate::extract::{Json, Path, Query};

/// How a file is imported.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportParams {
    /// Name of the dataset.
    pub name: String,
    /// Instrument.
    pub symbol: String,
    /// Length of a bar; found from the bars by default.
    #[serde(default)]
    pub interval: Option<Interval>,
    /// What is done with rows that break a rule.
    #[serde(default)]
    pub mode: Mode,
    /// How the file is written; told by its content by default.
    #[serde(default)]
    pub format: Format,
    /// Name of the file, for the record.
    #[serde(default)]
    pub filename: Option<String>,
    /// Whether the bars are added to those of the latest version.
    #[serde(default)]
    pub append: bool,
    /// The upload that holds the file, in place of the body.
    #[serde(default)]
    pub upload: Option<String>,
}

/// How a file is validated.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidateParams {
    /// Length of a bar; found from the bars by default.
    pub interval: Option<Interval>,
    /// How the file is written; told by its content by default.
    pub format: Format,
    /// The upload that holds the file, in place of the body.
    pub upload: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ImportView {
    dataset: DatasetManifest,
    /// Whether the version is new; the same bars make no second one.
    created: bool,
    report: ValidationReport,
}

#[derive(Debug, Serialize)]
pub(super) struct ValidationView {
    accepted: bool,
    report: ValidationReport,
    rejected: Vec<RejectedRow>,
}

#[derive(Debug, Serialize)]
pub(super) struct DatasetList {
    datasets: Vec<DatasetSummary>,
}

#[derive(Debug, Serialize)]
pub(super) struct VersionList {
    versions: Vec<DatasetManifest>,
}

#[derive(Debug, Serialize)]
pub(super) struct RejectedList {
    rejected: Vec<RejectedRow>,
}

/// Imports a file of bars.
#[utoipa::path(post, path = "/api/v2/datasets", tag = "datasets", operation_id = "import_dataset",
    params(("name" = String, Query, description = "Name of the dataset"), ("symbol" = String, Query, description = "Instrument"),
        ("interval" = Option<String>, Query, description = "Such as `1h`"),
        ("mode" = Option<String>, Query, description = "`strict` (default) or `quarantine`"),
        ("format" = Option<String>, Query, description = "`csv`, `json`, `parquet`"),
        ("filename" = Option<String>, Query, description = "For the record"),
        ("append" = Option<bool>, Query, description = "Adds to the latest version"),
        ("upload" = Option<String>, Query, description = "The upload that holds the file, in place of the body")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The file"),
    responses((status = 201, description = "A new version with its quality report"),
        (status = 200, description = "A version of these bars was there before"),
        (status = 400, description = "The file cannot be read, or a row breaks a rule in strict mode"),
        (status = 404, description = "Nothing was sent to the upload")))]
pub(super) async fn import(
    State(state): State<ControlState>,
    Query(params): Query<ImportParams>,
    request: Request,
) -> ApiResult<(StatusCode, Json<ImportView>)> {
    let bytes = uploads::file(&state, params.upload.as_deref(), request).await?;
    let file_name = params.filename.unwrap_or_else(|| "upload".into());
    let import = ImportRequest {
        interval: params.interval,
        format: params.format,
        mode: params.mode,
        append: params.append,
        ..ImportRequest::new(params.name, params.symbol, file_name, bytes)
    };
    let outcome = state.app.datasets.import(import).await?;
    let status = if outcome.created { StatusCode::CREATED } else { StatusCode::OK };
    let view = ImportView { dataset: outcome.manifest, created: outcome.created, report: outcome.report };
    Ok((status, Json(view)))
}

/// Validates a file of bars and stores nothing.
#[utoipa::path(post, path = "/api/v2/datasets/validate", tag = "datasets", operation_id = "validate_dataset",
    params(("interval" = Option<String>, Query, description = "Such as `1h`"),
        ("format" = Option<String>, Query, description = "`csv`, `json`, `parquet`"),
        ("upload" = Option<String>, Query, description = "The upload that holds the file, in place of the body")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The file"),
    responses((status = 200, description = "What was found, and every row that strict mode would refuse"),
        (status = 400, description = "The file cannot be read")))]
pub(super) async fn validate(
    State(state): State<ControlState>,
    Query(params): Query<ValidateParams>,
    request: Request,
) -> ApiResult<Json<ValidationView>> {
    let bytes = uploads::file(&state, params.upload.as_deref(), request).await?;
    let request = ImportRequest {
        interval: params.interval,
        format: params.format,
        mode: Mode::Quarantine,
        ..ImportRequest::new("validate", "VALIDATE", "upload", bytes)
    };
    let clean = tokio::task::spawn_blocking(move || moola_core::dataset::validate(&request))
        .await
        .map_err(|error| Error::internal("validating a file").with_source(error))??;
    Ok(Json(ValidationView { accepted: clean.rejected.is_empty(), report: clean.report, rejected: clean.rejected }))
}

/// Lists datasets.
#[utoipa::path(get, path = "/api/v2/datasets", tag = "datasets", operation_id = "list_datasets",
    responses((status = 200, description = "All datasets by name, with their latest version")))]
pub(super) async fn list(State(state): State<ControlState>, _query: Query<NoParams>) -> ApiResult<Json<DatasetList>> {
    Ok(Json(DatasetList { datasets: state.app.datasets.list().await? }))
}

/// Shows the latest version of a dataset.
#[utoipa::path(get, path = "/api/v2/datasets/{name}", tag = "datasets", operation_id = "show_dataset",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The latest version"), (status = 404, description = "No such dataset")))]
pub(super) async fn show(
    State(state): State<ControlState>,
    Path(name): Path<String>,
) -> ApiResult<Json<DatasetManifest>> {
    Ok(Json(state.app.datasets.get(&name, None).await?))
}

/// Lists the versions of a dataset.
#[utoipa::path(get, path = "/api/v2/datasets/{name}/versions", tag = "datasets", operation_id = "list_dataset_versions",
    params(("name" = String, Path, description = "Its name"), ("limit" = Option<usize>, Query, description = "At most so many")),
    responses((status = 200, description = "Versions, the newest first"), (status = 404, description = "No such dataset")))]
pub(super) async fn versions(
    State(state): State<ControlState>,
    Path(name): Path<String>,
    Query(limit): Query<Limit>,
) -> ApiResult<Json<VersionList>> {
    Ok(Json(VersionList { versions: state.app.datasets.versions(&name, limit.get()?).await? }))
}

/// Shows a version of a dataset.
#[utoipa::path(get, path = "/api/v2/datasets/{name}/versions/{version}", tag = "datasets", operation_id = "show_dataset_version",
    params(("name" = String, Path, description = "Its name"), ("version" = String, Path, description = "The version, or `latest`")),
    responses((status = 200, description = "The version"), (status = 404, description = "No such version")))]
pub(super) async fn show_version(
    State(state): State<ControlState>,
    Path((name, version)): Path<(String, String)>,
) -> ApiResult<Json<DatasetManifest>> {
    Ok(Json(state.app.datasets.get(&name, Some(&version)).await?))
}

/// Shows what validation found in the file of a version.
#[utoipa::path(get, path = "/api/v2/datasets/{name}/versions/{version}/report", tag = "datasets", operation_id = "show_dataset_report",
    params(("name" = String, Path, description = "Its name"), ("version" = String, Path, description = "The version, or `latest`")),
    responses((status = 200, description = "The whole report"), (status = 404, description = "No such version")))]
pub(super) async fn report(
    State(state): State<ControlState>,
    Path((name, version)): Path<(String, String)>,
) -> ApiResult<Json<ValidationReport>> {
    Ok(Json(state.app.datasets.report(&name, Some(&version)).await?))
}

/// Shows the rows of the file of a version that were rejected.
#[utoipa::path(get, path = "/api/v2/datasets/{name}/versions/{version}/rejected", tag = "datasets", operation_id = "list_rejected_rows",
    params(("name" = String, Path, description = "Its name"), ("version" = String, Path, description = "The version, or `latest`")),
    responses((status = 200, description = "Every rejected row with its line and reason"), (status = 404, description = "No such version")))]
pub(super) async fn rejected(
    State(state): State<ControlState>,
    Path((name, version)): Path<(String, String)>,
) -> ApiResult<Json<RejectedList>> {
    Ok(Json(RejectedList { rejected: state.app.datasets.rejected(&name, Some(&version)).await? }))
}
