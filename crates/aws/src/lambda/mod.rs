//! What the functions share: how they start, what they answer, what they log.
//!
//! A function is a router, an [`EventHandler`] or both. [`run`] tells by the payload what an invocation is:
//!
//! | payload | from | answer |
//! |---|---|---|
//! | HTTP request, version 1.0 or 2.0 | API Gateway, a function URL | the response |
//! | `{"Records": [...]}` of SQS | an event source mapping | `{"batchItemFailures": [...]}`: what to deliver again |
//! | an event of EventBridge | a rule, `cargo lambda invoke` | `null`, or the error, which makes Lambda try again |
//!
//! An event that there is nothing to do about (what it is about is gone, or a rule refuses) counts as handled. Any other
//! failure makes it come again, and at last puts it aside for people.

mod batch;
mod metrics;
#[cfg(feature = "invoke")]
mod other;
mod telemetry;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use lambda_http::request::RequestContext;
use lambda_http::{RequestExt as _, service_fn, tower::ServiceExt as _};
use moola_core::ports::{Clock, EventHandler};
use moola_core::{Error, Result};
use serde::de::DeserializeOwned;
use tracing::Instrument as _;

pub use metrics::Metrics;
#[cfg(feature = "invoke")]
pub use other::OtherFunction;
pub use telemetry::init_tracing;

const REQUEST_ID: &str = "x-request-id";
/// Most bytes of an answer's body as JSON text or base64; with the headers it stays below Lambda's 6,291,556.
const MAX_ANSWER_BYTES: usize = 5_500_000;

/// A function: what it answers over HTTP, and what it does with events.
pub struct Function {
    /// Its name, a dimension of its metrics.
    pub name: &'static str,
    /// Its routes; none for a function of events alone.
    pub router: Option<Router>,
    /// What it does with events; none for a function of HTTP alone.
    pub handler: Option<Arc<dyn EventHandler>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Serves invocations until the environment ends.
///
/// # Errors
/// Where the runtime API cannot be reached.
pub async fn run(function: Function) -> Result<(), lambda_http::Error> {
    let function = Arc::new(function);
    let metrics = Arc::new(Metrics::new(function.name));
    lambda_http::run(service_fn(move |request: lambda_http::Request| {
        let (function, metrics) = (function.clone(), metrics.clone());
        async move { function.invoke(request, &metrics).await }
    }))
    .await
}

impl Function {
    async fn invoke(
        &self,
        request: lambda_http::Request,
        metrics: &Metrics,
    ) -> Result<Response<lambda_http::Body>, lambda_http::Error> {
        let started = Instant::now();
        let context = request.lambda_context_ref().map(|context| context.request_id.clone());
        let invocation_id = context.unwrap_or_default();
        let span = tracing::info_span!("invocation", function = self.name, invocation_id);
        if matches!(request.request_context_ref(), Some(RequestContext::PassThrough)) {
            let outcome = self.on_event(request.body(), metrics).instrument(span.clone()).await;
            metrics.emit_events(self.clock.now_ms(), started.elapsed());
            let answer = outcome.inspect_err(|error| {
                span.in_scope(|| tracing::error!(error = error.chain(), "the event was not handled"));
            })?;
            return Ok(Response::new(lambda_http::Body::Text(answer.to_string())));
        }
        let response = self.on_request(request, &invocation_id).instrument(span).await;
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await?;
        let response = within_limit(Response::from_parts(parts, bytes.into()));
        metrics.emit_request(self.clock.now_ms(), response.status(), started.elapsed());
        Ok(response)
    }

    async fn on_request(&self, request: lambda_http::Request, invocation_id: &str) -> Response<Body> {
        let Some(router) = self.router.clone() else {
            return (StatusCode::NOT_FOUND, "this function has no routes").into_response();
        };
        let (mut parts, body) = request.into_parts();
        // The answer and the log name the invocation, unless the caller named the request.
        if !parts.headers.contains_key(REQUEST_ID)
            && let Ok(value) = HeaderValue::from_str(invocation_id)
        {
            parts.headers.insert(REQUEST_ID, value);
        }
        let body = match body {
            lambda_http::Body::Empty => Body::empty(),
            lambda_http::Body::Text(text) => Body::from(text),
            lambda_http::Body::Binary(bytes) => Body::from(bytes),
            _ => return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response(),
        };
        let is_head = parts.method == Method::HEAD;
        let response = match router.oneshot(Request::from_parts(parts, body)).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        if is_head { response.map(|_| Body::empty()) } else { response }
    }

    async fn on_event(&self, body: &lambda_http::Body, metrics: &Metrics) -> Result<serde_json::Value> {
        let payload = batch::parse(body)?;
        let Some(handler) = &self.handler else {
            return Err(Error::invalid("payload", "an event", "an HTTP request: this function handles no events"));
        };
        batch::handle(&**handler, payload, metrics).await
    }
}

/// The response as Lambda takes it; 413 in its place where Lambda would not take it.
fn within_limit(response: Response<Vec<u8>>) -> Response<lambda_http::Body> {
    let (mut parts, bytes) = response.into_parts();
    let (num_bytes, body) = match String::from_utf8(bytes) {
        Ok(text) => (text.bytes().map(escaped_bytes).sum(), lambda_http::Body::Text(text)),
        Err(error) => (error.as_bytes().len().div_ceil(3) * 4, lambda_http::Body::Binary(error.into_bytes())),
    };
    if num_bytes <= MAX_ANSWER_BYTES {
        return Response::from_parts(parts, body);
    }
    let error = serde_json::json!({
        "error_code": "INVALID_PARAMETER_VALUE",
        "message": format!("the answer has {num_bytes} bytes, expected at most {MAX_ANSWER_BYTES} bytes"),
        "hint": "ask for fewer entries with `limit`",
    });
    parts.status = StatusCode::PAYLOAD_TOO_LARGE;
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, lambda_http::Body::Text(error.to_string()))
}

/// How many bytes a byte of text takes in a string of JSON.
fn escaped_bytes(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

/// Does `hook` when the environment ends: Lambda then sends SIGTERM, and SIGKILL half a second later. It does so only to
/// environments with an extension, so an internal one that wants no events is registered. Call it before [`run`].
pub async fn on_shutdown<F: Future<Output = ()> + Send + 'static>(hook: impl FnOnce() -> F + Send + 'static) {
    use tokio::signal::unix::{SignalKind, signal};
    // Emulators without extensions answer with an error; a signal comes all the same, or never.
    match lambda_extension::Extension::new().with_events(&[]).with_extension_name("moola").register().await {
        Ok(extension) => {
            tokio::spawn(async move {
                if let Err(error) = extension.run().await {
                    tracing::debug!(error = %error, "the extension ended");
                }
            });
        }
        Err(error) => {
            tracing::debug!(error = %error, "no extension: the end of the environment may come without notice")
        }
    }
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("the end of the environment will come without notice");
        return;
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        hook().await;
        std::process::exit(0);
    });
}

/// Reads a setting that is TOML in an environment variable; what is absent has its default.
///
/// # Errors
/// `Invalid`, naming the variable, where it is something else.
pub fn setting<T: DeserializeOwned + Default>(name: &str) -> Result<T> {
    let Ok(text) = std::env::var(name) else { return Ok(T::default()) };
    toml::from_str(&text).map_err(|error| {
        Error::invalid(name, text.lines().next().unwrap_or_default(), "settings as in docs/configuration.md")
            .with_source(error)
    })
}

#[cfg(test)]
mod tests;
