//! What the functions that predict share: predictions over HTTP, in Lambda or whatever speaks its runtime API.
//!
//! What serves is loaded before the first request and looked for again by the requests themselves, since between them
//! the process is frozen. A registry that cannot be read leaves it serving the last good versions; `GET /ready` says so.
//! Predictions that are not logged yet are written when the environment ends.
//!
//! `predict` runs compiled models, and hands on to `predict_native` what is not compiled; see ADR 0017.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use moola_api::error::{ApiError, NotHere};
use moola_api::predict::{self, Serving};
use moola_api::{health, openapi};
use moola_aws::Services;
use moola_aws::lambda::{self, Function, OtherFunction};
use moola_core::ports::Engine;
use moola_core::serving::{Predictor, ServingConfig};
use serde::Deserialize;
use tracing::{debug, warn};

/// How long the start waits for the models; Lambda gives it ten seconds in all.
const START: Duration = Duration::from_secs(5);
/// How long a request waits for news of what serves.
const FRESHEN: Duration = Duration::from_millis(300);
/// How long it waits where the news are old, as after a long freeze.
const FRESHEN_OLD: Duration = Duration::from_secs(3);

/// What concerns this function of the platform's settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Settings {
    serving: ServingConfig,
}

/// Serves the function `name` with `engines` until its environment ends. What none of them can run is handed on to the function
/// that the variable `hand_on` names, where there is one.
///
/// # Errors
/// Where a setting or a key is none, or the runtime API cannot be reached.
pub async fn run(name: &'static str, engines: Vec<Arc<dyn Engine>>, hand_on: Option<&str>) -> anyhow::Result<()> {
    let services = Services::from_env();
    let ports = services.ports().map_err(explain)?;
    let settings: Settings = lambda::setting("MOOLA_SETTINGS").map_err(explain)?;
    let other = hand_on.and_then(|variable| std::env::var(variable).ok()).filter(|name| !name.trim().is_empty());
    let other = other.map(|name| Arc::new(OtherFunction::new(&services.config, name)));
    let predictor = Predictor::start(ports.clone(), engines, settings.serving);
    predictor.freshen(START, START).await;
    if !predictor.status().is_ready {
        warn!("what serves cannot be read yet");
    }
    let serving = Serving::new(predictor.clone()).handing_on(other.is_some());
    let mut router = Router::new()
        .merge(predict::router(serving.clone()))
        .merge(health::router(serving))
        .merge(openapi::router(&openapi::document([])))
        .layer(from_fn_with_state(predictor.clone(), freshen));
    if let Some(other) = other {
        router = router.layer(from_fn_with_state(other, hand_on_to));
    }
    lambda::on_shutdown(move || async move {
        if let Err(error) = predictor.shutdown().await {
            warn!(error = error.chain(), "some predictions are not in the log");
        }
    })
    .await;
    let router = moola_api::finish(router, ports.ids);
    let function = Function { name, router: Some(router), handler: None, clock: ports.clock };
    lambda::run(function).await.map_err(|error| anyhow::anyhow!(error))
}

async fn freshen(State(predictor): State<Arc<Predictor>>, request: Request, next: Next) -> Response {
    predictor.freshen(FRESHEN, FRESHEN_OLD).await;
    next.run(request).await
}

/// Asks the other function what no engine here can answer.
async fn hand_on_to(State(other): State<Arc<OtherFunction>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    // Lambda handed it over whole.
    let body = match to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => return ApiError::from(unreadable(error)).into_response(),
    };
    let response = next.run(Request::from_parts(parts.clone(), Body::from(body.clone()))).await;
    if response.extensions().get::<NotHere>().is_none() {
        return response;
    }
    debug!(path = parts.uri.path(), "handed on");
    match other.call(axum::http::Request::from_parts(parts, body)).await {
        Ok(answer) => answer.map(Body::from),
        Err(error) => ApiError::from(error).into_response(),
    }
}

fn unreadable(error: axum::Error) -> moola_core::Error {
    moola_core::Error::internal("reading a body").with_source(error)
}

fn explain(error: moola_core::Error) -> anyhow::Error {
    anyhow::anyhow!("{}", error.chain())
}
