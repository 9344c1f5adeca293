//! The OpenAPI document.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use utoipa::OpenApi as _;
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};

use crate::{health, predict};

/// The document of the routes of serving and operation, with those of `parts` added.
#[must_use]
pub fn document(parts: impl IntoIterator<Item = OpenApi>) -> OpenApi {
    let info = InfoBuilder::new()
        .title("moola")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("A serverless MLOps platform for market models."))
        .build();
    let mut document = OpenApiBuilder::new().info(info).build();
    for part in [predict::Document::openapi(), health::Document::openapi()].into_iter().chain(parts) {
        document.merge(part);
    }
    document
}

/// `GET /openapi.json`.
pub fn router(document: &OpenApi) -> Router {
    // The document is made of literals; what cannot be written shows in the tests.
    let json: Arc<str> = document.to_json().unwrap_or_else(|error| format!("\"{error}\"")).into();
    let answer = move || {
        let json = json.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], json.to_string()) }
    };
    Router::new().route("/openapi.json", get(answer))
}
