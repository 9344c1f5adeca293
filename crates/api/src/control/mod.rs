//! The control plane: datasets, features, training, jobs, models, drift, events.
//!
//! Every route calls one service of [`App`]; nothing is decided here.

mod builds;
mod datasets;
mod drift;
mod features;
mod jobs;
mod models;
mod training;
mod upload;
mod uploads;

use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::State;
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use moola_core::app::App;
use moola_core::ports::{Engine, Event};
use moola_core::registry::Decision;
use serde::{Deserialize, Serialize};
use utoipa::OpenApi;

use crate::error::ApiResult;
use crate::extract::{BodyLimit, Json, Query};

pub use builds::{BuildRequest, BuildView};
pub use datasets::{ImportParams, ValidateParams};
pub use models::{DecisionRequest, DeployRequest, LineageView, ModelView, RollbackRequest, VersionView};
pub use training::RunView;
pub use upload::{RegisterRequest, UploadEvaluation, UploadInput, UploadManifest};

/// Where what happened can be read again.
#[async_trait]
pub trait EventHistory: Send + Sync {
    /// The latest events, the newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn recent(&self, limit: usize) -> moola_core::Result<Vec<Event>>;
}

/// Most bytes of bodies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlLimits {
    /// Of a file of bars.
    pub max_dataset_bytes: usize,
    /// Of a model that is registered, in base64.
    pub max_model_bytes: usize,
}

impl Default for ControlLimits {
    fn default() -> Self {
        Self { max_dataset_bytes: 1 << 30, max_model_bytes: 96 << 20 }
    }
}

/// What the routes work with.
#[derive(Clone)]
pub struct ControlState {
    /// The services.
    pub app: App,
    /// The engines that models from elsewhere are checked with.
    pub engines: Vec<Arc<dyn Engine>>,
    /// What happened.
    pub history: Arc<dyn EventHistory>,
    /// Limits.
    pub limits: ControlLimits,
}

impl std::fmt::Debug for ControlState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlState").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Most entries that a list has by itself.
const DEFAULT_LIMIT: usize = 100;
/// Most entries that a list can have.
const MAX_LIMIT: usize = 10_000;

/// How many entries of a list.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: Option<usize>,
}

impl Limit {
    fn get(self) -> ApiResult<usize> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if (1..=MAX_LIMIT).contains(&limit) {
            return Ok(limit);
        }
        Err(crate::ApiError::invalid("limit", limit, format!("a number from 1 to {MAX_LIMIT}")))
    }
}

/// A query of no parameters.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

/// Who decides, until callers have names of their own.
const ACTOR: &str = "api";
/// Most bytes of a reason; it is kept in the history and told with events.
const MAX_REASON_BYTES: usize = 4096;

fn decision(reason: Option<String>, otherwise: &str) -> ApiResult<Decision> {
    if let Some(reason) = reason.as_ref().filter(|reason| reason.len() > MAX_REASON_BYTES) {
        let given = format!("{} bytes", reason.len());
        return Err(crate::ApiError::invalid("reason", given, format!("at most {MAX_REASON_BYTES} bytes")));
    }
    let reason = reason.filter(|reason| !reason.trim().is_empty()).unwrap_or_else(|| otherwise.to_owned());
    Ok(Decision { actor: ACTOR.into(), reason, correlation_id: None })
}

/// All routes of the control plane.
pub fn router(state: ControlState) -> Router {
    Router::new()
        .merge(data_router(state.clone()))
        .merge(registry_router(state.clone()))
        .merge(model_router(state.clone()))
        .merge(drift_router(state))
}

/// Datasets, uploads, features, training and jobs.
pub fn data_router(state: ControlState) -> Router {
    let datasets = Router::new()
        .route("/api/v2/datasets", get(datasets::list).post(datasets::import))
        .route("/api/v2/datasets/validate", post(datasets::validate))
        .route("/api/v2/datasets/{name}", get(datasets::show))
        .route("/api/v2/datasets/{name}/versions", get(datasets::versions))
        .route("/api/v2/datasets/{name}/versions/{version}", get(datasets::show_version))
        .route("/api/v2/datasets/{name}/versions/{version}/report", get(datasets::report))
        .route("/api/v2/datasets/{name}/versions/{version}/rejected", get(datasets::rejected))
        .layer(Extension(BodyLimit(state.limits.max_dataset_bytes)));
    Router::new()
        .merge(datasets)
        .route("/api/v2/uploads", post(uploads::create))
        .route("/api/v2/features", get(features::list))
        .route("/api/v2/features/compute", post(features::compute))
        .route("/api/v2/training/jobs", get(training::list).post(training::start))
        .route("/api/v2/training/jobs/{run}", get(training::show))
        .route("/api/v2/training/jobs/{run}/logs", get(training::logs))
        .route("/api/v2/training/jobs/{run}/progress", get(training::progress))
        .route("/api/v2/training/jobs/{run}/cancel", post(training::cancel))
        .route("/api/v2/jobs", get(jobs::list))
        .route("/api/v2/jobs/{job}", get(jobs::show))
        .route("/api/v2/jobs/{job}/logs", get(jobs::logs))
        .route("/api/v2/jobs/{job}/cancel", post(jobs::cancel))
        .with_state(state)
}

/// Models, versions, aliases, stages, events: what needs no engine.
pub fn registry_router(state: ControlState) -> Router {
    Router::new()
        .route("/api/v2/models", get(models::list))
        .route("/api/v2/models/{model}", get(models::show))
        .route("/api/v2/models/{model}/history", get(models::history))
        .route("/api/v2/models/{model}/rollback", post(models::rollback))
        .route("/api/v2/models/{model}/aliases/{alias}", put(models::set_alias).delete(models::delete_alias))
        .route("/api/v2/models/{model}/versions", get(models::versions))
        .route("/api/v2/models/{model}/versions/{version}", get(models::show_version).patch(models::annotate))
        .route("/api/v2/models/{model}/versions/{version}/gates", get(models::gates))
        .route("/api/v2/models/{model}/versions/{version}/lineage", get(models::lineage))
        .route("/api/v2/models/{model}/versions/{version}/deploy", post(models::deploy))
        .route("/api/v2/models/{model}/versions/{version}/archive", post(models::archive))
        .route("/api/v2/models/{model}/versions/{version}/restore", post(models::restore))
        .route("/api/v2/models/{model}/versions/{version}/demote", post(models::demote))
        .route("/api/v2/events", get(events))
        .with_state(state)
}

/// What runs models: registering one from elsewhere, builds, the gates.
pub fn model_router(state: ControlState) -> Router {
    let uploads = Router::new()
        .route("/api/v2/models/{model}/versions", post(upload::register))
        .layer(Extension(BodyLimit(state.limits.max_model_bytes)));
    Router::new()
        .merge(uploads)
        .route("/api/v2/models/{model}/versions/{version}/gates", post(models::judge))
        .route("/api/v2/models/{model}/versions/{version}/build", post(builds::build))
        .with_state(state)
}

/// Drift checks.
pub fn drift_router(state: ControlState) -> Router {
    Router::new()
        .route("/api/v2/drift/{model}/check", post(drift::check))
        .route("/api/v2/drift/{model}/checks", get(drift::list))
        .route("/api/v2/drift/{model}/checks/{check}", get(drift::show))
        .with_state(state)
}

/// A list of events.
#[derive(Debug, Serialize)]
struct EventList {
    events: Vec<Event>,
}

/// The latest events.
#[utoipa::path(get, path = "/api/v2/events", tag = "events", operation_id = "list_events",
    params(("limit" = Option<usize>, Query, description = "At most so many")),
    responses((status = 200, description = "The latest events, the newest first")))]
async fn events(State(state): State<ControlState>, Query(limit): Query<Limit>) -> ApiResult<Json<EventList>> {
    Ok(Json(EventList { events: state.history.recent(limit.get()?).await? }))
}

/// Describes the routes of the control plane.
#[derive(Debug, OpenApi)]
#[openapi(paths(
    datasets::list,
    datasets::import,
    datasets::validate,
    datasets::show,
    datasets::versions,
    datasets::show_version,
    datasets::report,
    datasets::rejected,
    features::list,
    features::compute,
    training::start,
    training::list,
    training::show,
    training::logs,
    training::progress,
    training::cancel,
    jobs::list,
    jobs::show,
    jobs::logs,
    jobs::cancel,
    models::list,
    models::show,
    models::versions,
    models::history,
    models::rollback,
    models::set_alias,
    models::delete_alias,
    models::show_version,
    models::annotate,
    models::gates,
    models::judge,
    models::lineage,
    models::deploy,
    models::archive,
    models::restore,
    models::demote,
    builds::build,
    upload::register,
    uploads::create,
    drift::check,
    drift::list,
    drift::show,
    events
))]
pub struct ControlApi;

#[cfg(test)]
mod tests;
