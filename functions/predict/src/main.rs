//! The `predict` function: predictions over HTTP, in Lambda or whatever speaks its runtime API.
//!
//! What serves is loaded before the first request and looked for again by the requests themselves, since between them
//! the process is frozen. A registry that cannot be read leaves it serving the last good versions; `GET /ready` says so.
//! Predictions that are not logged yet are written when the environment ends.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use moola_api::predict::{self, Serving};
use moola_api::{health, openapi};
use moola_aws::Services;
use moola_aws::lambda::{self, Function};
use moola_core::ports::Engine;
use moola_core::serving::{Predictor, ServingConfig};
use moola_onnx::TractEngine;
use serde::Deserialize;
use tracing::warn;

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

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    lambda::init_tracing();
    let ports = Services::from_env().ports().map_err(explain)?;
    let settings: Settings = lambda::setting("MOOLA_SETTINGS").map_err(explain)?;
    let engines: Vec<Arc<dyn Engine>> = vec![Arc::new(TractEngine)];
    let predictor = Predictor::start(ports.clone(), engines, settings.serving);
    predictor.freshen(START, START).await;
    if !predictor.status().is_ready {
        warn!("what serves cannot be read yet");
    }
    let serving = Serving::new(predictor.clone());
    let router = Router::new()
        .merge(predict::router(serving.clone()))
        .merge(health::router(serving))
        .merge(openapi::router(&openapi::document([])))
        .layer(from_fn_with_state(predictor.clone(), freshen));
    lambda::on_shutdown(move || async move {
        if let Err(error) = predictor.shutdown().await {
            warn!(error = error.chain(), "some predictions are not in the log");
        }
    })
    .await;
    let router = moola_api::finish(router, ports.ids);
    let function = Function { name: "predict", router: Some(router), handler: None, clock: ports.clock };
    lambda::run(function).await.map_err(|error| anyhow::anyhow!(error))
}

async fn freshen(State(predictor): State<Arc<Predictor>>, request: Request, next: Next) -> Response {
    predictor.freshen(FRESHEN, FRESHEN_OLD).await;
    next.run(request).await
}

fn explain(error: moola_core::Error) -> anyhow::Error {
    anyhow::anyhow!("{}", error.chain())
}
