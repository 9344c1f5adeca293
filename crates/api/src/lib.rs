//! HTTP: routers, wire types, error to status.
//!
//! Every part is a `fn router(state) -> Router`; a binary merges those it serves and hands them to [`finish`], which adds
//! what all of them share. Tests call the result in memory.

#[cfg(feature = "control")]
pub mod control;
pub mod error;
pub mod extract;
pub mod health;
pub mod metrics;
pub mod openapi;
pub mod predict;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use moola_core::ports::Ids;
use tracing::Instrument as _;

pub use error::{ApiError, ApiResult, ErrorBody};

/// The header that carries a request's id, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: the caller's where it sent a fit one, else a new one. An extension of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub String);

/// Adds what all routes share: JSON errors for unknown paths, wrong methods and panics, a request id, a trace.
///
/// Call it last: it covers the routes that `router` has by then.
pub fn finish(router: Router, ids: Arc<dyn Ids>) -> Router {
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(ids, surround))
}

async fn unknown_path(method: Method, uri: Uri) -> ApiError {
    let path = extract::shown(uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "ENDPOINT_NOT_FOUND", format!("endpoint `{method} {path}` does not exist"))
        .with_hint("GET /openapi.json lists those that do")
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let path = extract::shown(uri.path());
    let message = format!("method `{method}` is not accepted by `{path}`; the header `allow` lists those that are");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "ENDPOINT_NOT_FOUND", message)
}

async fn surround(State(ids): State<Arc<dyn Ids>>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_fit = |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let request_id = given.filter(is_fit).map_or_else(|| ids.new_id(), str::to_owned);
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        route = route.as_deref().unwrap_or("-"),
        request_id = request_id.as_str()
    );
    request.extensions_mut().insert(RequestId(request_id.clone()));
    let started = Instant::now();
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let mut response = answer.unwrap_or_else(|panic| span.in_scope(|| panicked(&*panic)));
    span.in_scope(|| {
        tracing::debug!(status = response.status().as_u16(), latency_us = started.elapsed().as_micros(), "answered");
    });
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("-"), "a route panicked");
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "INTERNAL_ERROR",
        "the server failed; the request id finds the reason in its log",
    )
    .into_response()
}

#[cfg(test)]
mod tests;
