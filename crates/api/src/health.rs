//! Whether the process lives, is ready, and how it does.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use moola_core::serving::ServingStatus;
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use crate::extract::Json;
use crate::metrics::CONTENT_TYPE;
use crate::predict::Serving;

/// The OpenAPI document of these routes.
#[derive(Debug, Clone, Copy, OpenApi)]
#[openapi(paths(health, ready, metrics))]
pub struct Document;

/// Whether predictions can be asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// `starting`, `ready`, or `degraded`: it serves, but not all that it should.
    pub status: String,
    /// What serves, what should serve and cannot, why, and the state of the prediction log.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub serving: ServingStatus,
}

/// The routes.
pub fn router(state: Serving) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state)
}

/// Says that the process lives.
#[utoipa::path(get, path = "/health", tag = "operation",
    responses((status = 200, description = "It lives", body = String, content_type = "text/plain", example = "OK")))]
async fn health() -> &'static str {
    "OK"
}

/// Says whether predictions can be asked for.
#[utoipa::path(get, path = "/ready", tag = "operation",
    responses(
        (status = 200, description = "They can; `status` says whether all is well", body = Readiness),
        (status = 503, description = "Not yet", body = Readiness),
    ))]
async fn ready(State(state): State<Serving>) -> Response {
    let serving = state.predictor.status();
    let is_ready = serving.is_ready;
    let is_missing = !serving.elsewhere.is_empty() && !state.hands_on;
    let is_degraded = is_missing
        || !serving.degraded.is_empty()
        || serving.registry_error.is_some()
        || serving.log.last_error.is_some();
    let status = match (is_ready, is_degraded) {
        (false, _) => "starting",
        (true, true) => "degraded",
        (true, false) => "ready",
    };
    let code = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Readiness { status: status.into(), serving })).into_response()
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text")))]
async fn metrics(State(state): State<Serving>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], state.metrics.render(&state.predictor.status()))
}
