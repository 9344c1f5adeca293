//! Models, their versions and what serves.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use moola_core::contract::{BuildManifest, ModelManifest, TrainingSpec};
use moola_core::dataset::DatasetManifest;
use moola_core::gates::GateReport;
use moola_core::registry::{Decision, Model, Move, Route, Stage, Version};
use moola_core::training::Run;
use moola_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

use super::{ControlState, Limit, NoParams, decision};
use crate::error::ApiResult;
use crate::extract::{Json, Path, Query};

/// A model with what serves.
#[derive(Debug, Serialize, Deserialize)]
pub struct ModelView {
    /// The model.
    #[serde(flatten)]
    pub model: Model,
    /// The version in production.
    pub production_version: Option<u32>,
    /// The newest version.
    pub latest_version: Option<u32>,
    /// Aliases with the versions that they name.
    pub aliases: BTreeMap<String, u32>,
}

/// A version with the manifests of its package and its build.
#[derive(Debug, Serialize, Deserialize)]
pub struct VersionView {
    /// The record.
    #[serde(flatten)]
    pub version: Version,
    /// The manifest, its signature verified.
    pub manifest: ModelManifest,
    /// The build that serves, its signature verified; none of a version that was not built.
    #[serde(default)]
    pub build_manifest: Option<BuildManifest>,
}

/// Where a version came from, from the raw file on.
#[derive(Debug, Serialize, Deserialize)]
pub struct LineageView {
    /// The version.
    pub version: Version,
    /// The run that trained it.
    pub run: Option<Run>,
    /// What the run was told.
    pub spec: Option<TrainingSpec>,
    /// The dataset version, with the file that it was imported from.
    pub dataset: Option<DatasetManifest>,
    /// Its changes of stage, the newest first.
    pub history: Vec<Move>,
}

#[derive(Debug, Serialize)]
pub(super) struct ModelList {
    models: Vec<ModelView>,
}

#[derive(Debug, Serialize)]
pub(super) struct VersionList {
    versions: Vec<Version>,
}

#[derive(Debug, Serialize)]
pub(super) struct MoveList {
    history: Vec<Move>,
}

/// Why a stage is changed.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecisionRequest {
    /// Why.
    pub reason: Option<String>,
}

/// Which version is taken back, and why.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackRequest {
    /// The version in production that is meant; asked again about the same one, nothing more happens.
    pub version: Option<u32>,
    /// Why.
    pub reason: Option<String>,
}

/// To which stage a version is deployed, and why.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeployRequest {
    /// `Staging` or `Production`, which is the default.
    pub stage: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AnnotateRequest {
    description: Option<String>,
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AliasRequest {
    version: u32,
}

/// The version that serves after a roll-back.
#[derive(Debug, Serialize)]
pub(super) struct RollbackView {
    /// The version that serves again.
    production: Version,
}

/// A model with what serves by `routes`.
async fn view(state: &ControlState, model: Model, routes: &[Route]) -> moola_core::Result<ModelView> {
    let registry = &state.app.registry;
    let production_version = routes.iter().find(|route| route.model == model.name).and_then(|route| route.version);
    let latest_version = registry.latest(&model.name).await?.map(|version| version.version);
    let aliases = registry.aliases(&model.name).await?;
    Ok(ModelView { model, production_version, latest_version, aliases })
}

/// Lists models.
#[utoipa::path(get, path = "/api/v2/models", tag = "models", operation_id = "list_models",
    responses((status = 200, description = "All models by name, with what serves")))]
pub(super) async fn list(State(state): State<ControlState>, _query: Query<NoParams>) -> ApiResult<Json<ModelList>> {
    let registry = &state.app.registry;
    let routes = registry.routes().await?;
    let mut models = Vec::new();
    for model in registry.models().await? {
        models.push(view(&state, model, &routes).await?);
    }
    Ok(Json(ModelList { models }))
}

/// Shows a model.
#[utoipa::path(get, path = "/api/v2/models/{model}", tag = "models", operation_id = "show_model",
    params(("model" = String, Path, description = "Its name")),
    responses((status = 200, description = "The model"), (status = 404, description = "No such model")))]
pub(super) async fn show(State(state): State<ControlState>, Path(model): Path<String>) -> ApiResult<Json<ModelView>> {
    let registry = &state.app.registry;
    let model = registry.model(&model).await?;
    Ok(Json(view(&state, model, &registry.routes().await?).await?))
}

/// Lists the versions of a model.
#[utoipa::path(get, path = "/api/v2/models/{model}/versions", tag = "models", operation_id = "list_model_versions",
    params(("model" = String, Path, description = "Its name")),
    responses((status = 200, description = "Versions, the newest first"), (status = 404, description = "No such model")))]
pub(super) async fn versions(
    State(state): State<ControlState>,
    Path(model): Path<String>,
) -> ApiResult<Json<VersionList>> {
    Ok(Json(VersionList { versions: state.app.registry.versions(&model).await? }))
}

/// Shows a version.
#[utoipa::path(get, path = "/api/v2/models/{model}/versions/{version}", tag = "models", operation_id = "show_model_version",
    params(("model" = String, Path, description = "Its name"),
        ("version" = String, Path, description = "A number, `latest`, a stage or an alias")),
    responses((status = 200, description = "The version, its manifest and its build"), (status = 404, description = "No such version"),
        (status = 500, description = "The package is not what was signed")))]
pub(super) async fn show_version(
    State(state): State<ControlState>,
    Path((model, version)): Path<(String, String)>,
) -> ApiResult<Json<VersionView>> {
    let version = state.app.registry.resolve(&model, &version).await?;
    let ports = &state.app.ports;
    let package = version.package(&*ports.blobs, &*ports.signer).await?;
    Ok(Json(VersionView { version, manifest: package.manifest, build_manifest: package.build }))
}

/// Replaces the description or the tags of a version.
#[utoipa::path(patch, path = "/api/v2/models/{model}/versions/{version}", tag = "models", operation_id = "annotate_model_version",
    params(("model" = String, Path, description = "Its name"), ("version" = String, Path, description = "As to show it")),
    request_body(content = serde_json::Value, description = "`description`, `tags`"),
    responses((status = 200, description = "The version"), (status = 404, description = "No such version")))]
pub(super) async fn annotate(
    State(state): State<ControlState>,
    Path((model, version)): Path<(String, String)>,
    Json(request): Json<AnnotateRequest>,
) -> ApiResult<Json<Version>> {
    let registry = &state.app.registry;
    let version = registry.resolve(&model, &version).await?.version;
    Ok(Json(registry.annotate(&model, version, request.description, request.tags).await?))
}

/// Lists the changes of stage.
#[utoipa::path(get, path = "/api/v2/models/{model}/history", tag = "models", operation_id = "list_model_history",
    params(("model" = String, Path, description = "Its name"), ("limit" = Option<usize>, Query, description = "At most so many")),
    responses((status = 200, description = "Changes, the newest first"), (status = 404, description = "No such model")))]
pub(super) async fn history(
    State(state): State<ControlState>,
    Path(model): Path<String>,
    Query(limit): Query<Limit>,
) -> ApiResult<Json<MoveList>> {
    Ok(Json(MoveList { history: state.app.registry.history(&model, limit.get()?).await? }))
}

/// Points an alias at a version.
#[utoipa::path(put, path = "/api/v2/models/{model}/aliases/{alias}", tag = "models", operation_id = "set_model_alias",
    params(("model" = String, Path, description = "Its name"), ("alias" = String, Path, description = "Such as `champion`")),
    request_body(content = serde_json::Value, description = "`version`: the number"),
    responses((status = 200, description = "The model"), (status = 404, description = "No such version")))]
pub(super) async fn set_alias(
    State(state): State<ControlState>,
    Path((model, alias)): Path<(String, String)>,
    Json(request): Json<AliasRequest>,
) -> ApiResult<Json<ModelView>> {
    let registry = &state.app.registry;
    registry.set_alias(&model, &alias, Some(request.version)).await?;
    let model = registry.model(&model).await?;
    Ok(Json(view(&state, model, &registry.routes().await?).await?))
}

/// Removes an alias.
#[utoipa::path(delete, path = "/api/v2/models/{model}/aliases/{alias}", tag = "models", operation_id = "delete_model_alias",
    params(("model" = String, Path, description = "Its name"), ("alias" = String, Path, description = "The alias")),
    responses((status = 204, description = "It is not there any more"), (status = 404, description = "No such model")))]
pub(super) async fn delete_alias(
    State(state): State<ControlState>,
    Path((model, alias)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    state.app.registry.model(&model).await?;
    state.app.registry.set_alias(&model, &alias, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows how the gates judged a version.
#[utoipa::path(get, path = "/api/v2/models/{model}/versions/{version}/gates", tag = "models", operation_id = "show_model_gates",
    params(("model" = String, Path, description = "Its name"), ("version" = String, Path, description = "As to show it")),
    responses((status = 200, description = "The latest report"), (status = 404, description = "Not judged yet")))]
pub(super) async fn gates(
    State(state): State<ControlState>,
    Path((model, version)): Path<(String, String)>,
) -> ApiResult<Json<GateReport>> {
    let version = state.app.registry.resolve(&model, &version).await?;
    Ok(Json(state.app.gates.report(&model, version.version).await?))
}

/// Judges a version again, against what serves now.
#[utoipa::path(post, path = "/api/v2/models/{model}/versions/{version}/gates", tag = "models", operation_id = "judge_model_version",
    params(("model" = String, Path, description = "Its name"), ("version" = String, Path, description = "As to show it")),
    responses((status = 200, description = "The report"), (status = 404, description = "No such version")))]
pub(super) async fn judge(
    State(state): State<ControlState>,
    Path((model, version)): Path<(String, String)>,
) -> ApiResult<Json<GateReport>> {
    let version = state.app.registry.resolve(&model, &version).await?;
    Ok(Json(state.app.gates.judge(&model, version.version).await?))
}

/// Shows where a version came from: raw file, dataset, run, version, changes of stage.
#[utoipa::path(get, path = "/api/v2/models/{model}/versions/{version}/lineage", tag = "models", operation_id = "show_model_lineage",
    params(("model" = String, Path, description = "Its name"), ("version" = String, Path, description = "As to show it")),
    responses((status = 200, description = "The lineage"), (status = 404, description = "No such version")))]
pub(super) async fn lineage(
    State(state): State<ControlState>,
    Path((model, version)): Path<(String, String)>,
) -> ApiResult<Json<LineageView>> {
    let app = &state.app;
    let version = app.registry.resolve(&model, &version).await?;
    let (mut run, mut spec, mut dataset) = (None, None, None);
    if let Some(run_id) = &version.lineage.run_id {
        run = Some(app.training.get(run_id).await?);
        spec = Some(app.training.spec(run_id).await?);
    }
    if let Some((name, number)) = version.lineage.dataset.as_deref().and_then(|dataset| dataset.split_once('@')) {
        dataset = Some(app.datasets.get(name, Some(number)).await?);
    }
    let mut history = app.registry.history(&model, usize::MAX).await?;
    history.retain(|entry| entry.version == version.version);
    Ok(Json(LineageView { version, run, spec, dataset, history }))
}

/// Moves a version, step by step where it has to: from None to Production by way of Staging.
async fn move_to(
    state: &ControlState,
    version: Version,
    to: Stage,
    decision: &Decision,
) -> moola_core::Result<Version> {
    let registry = &state.app.registry;
    let by_staging = to == Stage::Production && matches!(version.stage, Stage::None | Stage::Archived);
    let (model, number) = (version.model.clone(), version.version);
    if !by_staging {
        return registry.transition(&model, number, to, decision).await;
    }
    // What the gates refuse in production is refused before anything moves.
    if version.gates.as_ref().is_some_and(|gates| !gates.passed) {
        let failed = version.gates.map(|gates| gates.failed.join("; ")).unwrap_or_default();
        return Err(Error::new(
            ErrorKind::Refused,
            format!("model version `{model}/{number}` failed the gates: {failed}"),
        )
        .with_hint(format!("`moola models gates {model}/{number}` prints the report")));
    }
    registry.transition(&model, number, Stage::Staging, decision).await?;
    registry.transition(&model, number, Stage::Production, decision).await
}

/// Moves a version to Staging or Production.
#[utoipa::path(post, path = "/api/v2/models/{model}/versions/{version}/deploy", tag = "models", operation_id = "deploy_model_version",
    params(("model" = String, Path, description = "Its name"), ("version" = String, Path, description = "As to show it")),
    request_body(content = serde_json::Value, description = "`stage` (`Production` by default, or `Staging`), `reason`"),
    responses((status = 200, description = "The version"), (status = 404, description = "No such version"),
        (status = 409, description = "The gates did not pass, or the move is illegal")))]
pub(super) async fn deploy(
    State(state): State<ControlState>,
    Path((model, version)): Path<(String, String)>,
    Json(request): Json<DeployRequest>,
) -> ApiResult<Json<Version>> {
    let to: Stage = request.stage.as_deref().unwrap_or("Production").parse()?;
    if !matches!(to, Stage::Staging | Stage::Production) {
        return Err(crate::ApiError::invalid("stage", to, "`Staging` or `Production`"));
    }
    let version = state.app.registry.resolve(&model, &version).await?;
    Ok(Json(move_to(&state, version, to, &decision(request.reason, "deployed")?).await?))
}

/// Takes back the version in production.
#[utoipa::path(post, path = "/api/v2/models/{model}/rollback", tag = "models", operation_id = "roll_back_model",
    params(("model" = String, Path, description = "Its name")),
    request_body(content = serde_json::Value, description = "`reason`, and `version`: the one in production that is \
        meant, so that asking again does not go back another step"),
    responses((status = 200, description = "The version that serves now"), (status = 404, description = "No such model"),
        (status = 409, description = "Nothing is in production, or another version")))]
pub(super) async fn rollback(
    State(state): State<ControlState>,
    Path(model): Path<String>,
    Json(request): Json<RollbackRequest>,
) -> ApiResult<Json<RollbackView>> {
    let decision = decision(request.reason, "rolled back")?;
    let production = state.app.registry.rollback(&model, request.version, &decision).await?;
    Ok(Json(RollbackView { production }))
}

async fn transition(
    state: &ControlState,
    (model, version): (String, String),
    to: Stage,
    decision: &Decision,
) -> ApiResult<Json<Version>> {
    let registry = &state.app.registry;
    let version = registry.resolve(&model, &version).await?.version;
    Ok(Json(registry.transition(&model, version, to, decision).await?))
}

/// Archives a version.
#[utoipa::path(post, path = "/api/v2/models/{model}/versions/{version}/archive", tag = "models", operation_id = "archive_model_version",
    params(("model" = String, Path, description = "Its name"), ("version" = String, Path, description = "As to show it")),
    request_body(content = serde_json::Value, description = "`reason`"),
    responses((status = 200, description = "The version"), (status = 409, description = "The move is illegal")))]
pub(super) async fn archive(
    State(state): State<ControlState>,
    Path(path): Path<(String, String)>,
    Json(request): Json<DecisionRequest>,
) -> ApiResult<Json<Version>> {
    transition(&state, path, Stage::Archived, &decision(request.reason, "archived")?).await
}

/// Takes a version out of the archive, to Staging.
#[utoipa::path(post, path = "/api/v2/models/{model}/versions/{version}/restore", tag = "models", operation_id = "restore_model_version",
    params(("model" = String, Path, description = "Its name"), ("version" = String, Path, description = "As to show it")),
    request_body(content = serde_json::Value, description = "`reason`"),
    responses((status = 200, description = "The version"), (status = 409, description = "The move is illegal")))]
pub(super) async fn restore(
    State(state): State<ControlState>,
    Path(path): Path<(String, String)>,
    Json(request): Json<DecisionRequest>,
) -> ApiResult<Json<Version>> {
    transition(&state, path, Stage::Staging, &decision(request.reason, "restored")?).await
}

/// Moves a version one stage down: from Production to Staging, from Staging to None.
#[utoipa::path(post, path = "/api/v2/models/{model}/versions/{version}/demote", tag = "models", operation_id = "demote_model_version",
    params(("model" = String, Path, description = "Its name"), ("version" = String, Path, description = "As to show it")),
    request_body(content = serde_json::Value, description = "`reason`"),
    responses((status = 200, description = "The version"), (status = 409, description = "The move is illegal")))]
pub(super) async fn demote(
    State(state): State<ControlState>,
    Path((model, version)): Path<(String, String)>,
    Json(request): Json<DecisionRequest>,
) -> ApiResult<Json<Version>> {
    let registry = &state.app.registry;
    let version = registry.resolve(&model, &version).await?;
    let to = if version.stage == Stage::Production { Stage::Staging } else { Stage::None };
    Ok(Json(registry.transition(&model, version.version, to, &decision(request.reason, "demoted")?).await?))
}
