//! How versions are built for serving.

use axum::extract::State;
use moola_core::contract::{BuildManifest, EngineChoice};
use moola_core::registry::Version;
use serde::{Deserialize, Serialize};

use super::{ControlState, decision};
use crate::error::ApiResult;
use crate::extract::{Json, Path};

/// Which engine is to serve a version, and why.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BuildRequest {
    /// `auto` (the benchmark chooses, the default), `wasm` or `native`.
    pub engine: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// A version with its build.
#[derive(Debug, Serialize, Deserialize)]
pub struct BuildView {
    /// The record.
    #[serde(flatten)]
    pub version: Version,
    /// The build that serves, its signature verified; the record has its summary as `build`.
    pub build_manifest: Option<BuildManifest>,
}

/// Builds a version for serving: compiles it, compares and measures the engines, and lets the one that is chosen serve.
#[utoipa::path(post, path = "/api/v2/models/{model}/versions/{version}/build", tag = "models", operation_id = "build_model_version",
    params(("model" = String, Path, description = "Its name"), ("version" = String, Path, description = "As to show it")),
    request_body(content = serde_json::Value, description = "`engine` (`auto` by default, `wasm` or `native`), `reason`"),
    responses((status = 200, description = "The version with its build"), (status = 404, description = "No such version"),
        (status = 409, description = "The compiled model is wanted, and there is none that answers as the native engine does")))]
pub(super) async fn build(
    State(state): State<ControlState>,
    Path((model, version)): Path<(String, String)>,
    Json(request): Json<BuildRequest>,
) -> ApiResult<Json<BuildView>> {
    let choice: EngineChoice = request.engine.as_deref().unwrap_or("auto").parse()?;
    let decision = decision(request.reason, "asked for")?;
    let version = state.app.registry.resolve(&model, &version).await?;
    let version = state.app.builds.build(&model, version.version, choice, &decision).await?;
    let ports = &state.app.ports;
    let package = version.package(&*ports.blobs, &*ports.signer).await?;
    Ok(Json(BuildView { version, build_manifest: package.build }))
}
