//! Predictions over HTTP.
//!
//! | route | what |
//! |---|---|
//! | `POST /api/v2/inference/predict` | windows in a batch, or the latest bars of a symbol |
//! | `POST /api/v1/ml/predict/{model}` | one window, optionally explained |
//! | `POST /api/v2/inference/outcomes` | what happened after predictions |
//! | `GET /api/v2/inference/predictions` | the log, the newest first |

mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use moola_core::serving::{Answer, FieldNames, ModelReference, PredictRequest, Predictor, Timings};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::{IntoParams, OpenApi};

pub use wire::{
    Explained, Explanation, Features, InputData, LoggedPredictions, ModelInfo, ModelMetadata, Outcomes,
    OutcomesRecorded, PredictAnswerV1, PredictAnswerV2, PredictBodyV1, PredictBodyV2, PredictedValue, PredictionV2,
};

use crate::RequestId;
use crate::error::{ApiError, ApiResult, ErrorBody, NotHere};
use crate::extract::{self, BodyLimit, Json, Path, Query};
use crate::metrics::Metrics;

/// Bodies from this size on are decoded on a thread that may block.
const LARGE_BODY_BYTES: usize = 128 << 10;
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const V1_ROUTE: &str = "/api/v1/ml/predict/{model}";
const V2_ROUTE: &str = "/api/v2/inference/predict";
const MAX_LISTED: usize = 1000;

/// What the routes of serving share.
#[derive(Debug, Clone)]
pub struct Serving {
    /// Predicts.
    pub predictor: Arc<Predictor>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Whether another program answers for what no engine here can run.
    pub hands_on: bool,
}

impl Serving {
    /// Makes it, with metrics that start at zero.
    #[must_use]
    pub fn new(predictor: Arc<Predictor>) -> Self {
        Self { predictor, metrics: Arc::new(Metrics::new()), hands_on: false }
    }

    /// The same, where another program may answer for what no engine here can run.
    #[must_use]
    pub fn handing_on(self, hands_on: bool) -> Self {
        Self { hands_on, ..self }
    }
}

/// The OpenAPI document of these routes.
#[derive(Debug, Clone, Copy, OpenApi)]
#[openapi(paths(predict_v2, predict_v1, record_outcomes, list_predictions), components(schemas(ErrorBody)))]
pub struct Document;

/// The routes.
pub fn router(state: Serving) -> Router {
    let limit = BodyLimit(state.predictor.config().max_body_bytes);
    Router::new()
        .route(V2_ROUTE, post(predict_v2))
        .route(V1_ROUTE, post(predict_v1))
        .route("/api/v2/inference/outcomes", post(record_outcomes))
        .route("/api/v2/inference/predictions", get(list_predictions))
        .layer(Extension(limit))
        .with_state(state)
}

/// Predicts for one or many windows, or for the latest bars of a symbol.
#[utoipa::path(
    post,
    path = "/api/v2/inference/predict",
    tag = "inference",
    request_body = PredictBodyV2,
    responses(
        (status = 200, description = "A prediction for each window", body = PredictAnswerV2,
            headers(("server-timing" = String, description = "Milliseconds of parse, load, features, infer and total"))),
        (status = 400, description = "A field does not fit; the message names it and its value", body = ErrorBody),
        (status = 404, description = "No such model, version or symbol", body = ErrorBody),
        (status = 413, description = "The body is too long", body = ErrorBody),
        (status = 415, description = "The body is not JSON", body = ErrorBody),
        (status = 503, description = "Not now; `retry-after` says when", body = ErrorBody),
    )
)]
async fn predict_v2(State(state): State<Serving>, request: Request) -> Response {
    let mut call = Call::new(&state, V2_ROUTE, &request);
    let answer = async {
        let body: PredictBodyV2 = call.body(request).await?;
        let request = body.into_request(call.request_id.clone())?;
        let answer = call.predict(request).await?;
        Ok(Json(PredictAnswerV2::new(&answer)?).into_response())
    };
    let answer = answer.await;
    call.finish(answer)
}

/// Predicts for one window, optionally with an explanation.
#[utoipa::path(
    post,
    path = "/api/v1/ml/predict/{model}",
    tag = "inference",
    params(("model" = String, Path, description = "A registered model; its version in production answers")),
    request_body = PredictBodyV1,
    responses(
        (status = 200, description = "The prediction", body = PredictAnswerV1,
            headers(("server-timing" = String, description = "Milliseconds of parse, load, features, infer and total"))),
        (status = 400, description = "A field does not fit; the message names it and its value", body = ErrorBody),
        (status = 404, description = "No such model, version or symbol", body = ErrorBody),
        (status = 413, description = "The body is too long", body = ErrorBody),
        (status = 415, description = "The body is not JSON", body = ErrorBody),
        (status = 503, description = "Not now; `retry-after` says when", body = ErrorBody),
    )
)]
async fn predict_v1(State(state): State<Serving>, Path(model): Path<String>, request: Request) -> Response {
    let mut call = Call::new(&state, V1_ROUTE, &request);
    let answer = async {
        let body: PredictBodyV1 = call.body(request).await?;
        let request = body.into_request(&model, call.request_id.clone())?;
        let request_id = request.request_id.clone();
        let answer = call.predict(request).await?;
        Ok(Json(PredictAnswerV1::new(&answer, request_id)?).into_response())
    };
    let answer = answer.await;
    call.finish(answer)
}

/// Records what happened after predictions; durable when answered.
#[utoipa::path(
    post,
    path = "/api/v2/inference/outcomes",
    tag = "inference",
    request_body = Outcomes,
    responses(
        (status = 200, description = "Recorded", body = OutcomesRecorded),
        (status = 400, description = "A field does not fit; the message names it and its value", body = ErrorBody),
        (status = 404, description = "No such model", body = ErrorBody),
    )
)]
async fn record_outcomes(
    State(state): State<Serving>,
    Json(body): Json<Outcomes>,
) -> ApiResult<Json<OutcomesRecorded>> {
    let outcomes = body.into_outcomes()?;
    let num_recorded = outcomes.len();
    state.predictor.record_outcomes(outcomes).await?;
    Ok(Json(OutcomesRecorded { num_recorded }))
}

/// Which logged predictions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// A registered model.
    model: String,
    /// Only those since then, milliseconds since the epoch.
    #[serde(default)]
    since_ms: i64,
    /// At most so many, up to 1000; 100 where absent.
    #[serde(default = "default_limit")]
    limit: usize,
}

fn default_limit() -> usize {
    100
}

/// Lists logged predictions of a model, the newest first.
#[utoipa::path(
    get,
    path = "/api/v2/inference/predictions",
    tag = "inference",
    params(ListQuery),
    responses(
        (status = 200, description = "The predictions", body = LoggedPredictions),
        (status = 400, description = "A parameter does not fit", body = ErrorBody),
        (status = 404, description = "No such model", body = ErrorBody),
    )
)]
async fn list_predictions(
    State(state): State<Serving>,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<LoggedPredictions>> {
    if query.limit == 0 || query.limit > MAX_LISTED {
        return Err(ApiError::invalid("limit", query.limit, format!("1 to {MAX_LISTED}")));
    }
    let predictions = state.predictor.predictions(&query.model, query.since_ms, query.limit).await?;
    Ok(Json(LoggedPredictions { predictions }))
}

/// One call while it is answered.
struct Call<'a> {
    state: &'a Serving,
    route: &'static str,
    request_id: String,
    started: Instant,
    parse: Duration,
    timings: Option<Timings>,
    version: Option<(String, u32)>,
}

impl<'a> Call<'a> {
    fn new(state: &'a Serving, route: &'static str, request: &Request) -> Self {
        let request_id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        Self { state, route, request_id, started: Instant::now(), parse: Duration::ZERO, timings: None, version: None }
    }

    async fn body<T: DeserializeOwned + Send + 'static>(&mut self, request: Request) -> ApiResult<T> {
        extract::check_content_type(request.headers())?;
        let bytes = extract::read_body(request).await?;
        let started = Instant::now();
        let body = if bytes.len() < LARGE_BODY_BYTES {
            extract::parse_json(&bytes)
        } else {
            tokio::task::spawn_blocking(move || extract::parse_json(&bytes))
                .await
                .map_err(|e| moola_core::Error::internal("decoding a body").with_source(e))?
        };
        self.parse = started.elapsed();
        body
    }

    async fn predict(&mut self, request: PredictRequest) -> ApiResult<Answer> {
        let answer = self.state.predictor.predict(request).await?;
        let manifest = &answer.served.manifest;
        self.timings = Some(answer.timings);
        self.version = Some((manifest.model.clone(), manifest.version));
        self.state.metrics.predicted(&answer);
        Ok(answer)
    }

    fn finish(self, answer: ApiResult<Response>) -> Response {
        let mut response = answer.unwrap_or_else(IntoResponse::into_response);
        let total = self.started.elapsed();
        let version = self.version.as_ref().map(|(model, version)| (model.as_str(), *version));
        // What is handed on is answered, and counted, elsewhere.
        if !(self.state.hands_on && response.extensions().get::<NotHere>().is_some()) {
            self.state.metrics.answered(self.route, version, response.status(), total);
        }
        let timings = self.timings.unwrap_or_default();
        let spent = [
            ("parse", self.parse),
            ("load", timings.load),
            ("features", timings.features),
            ("infer", timings.infer),
            ("total", total),
        ];
        let spent = spent.map(|(name, time)| format!("{name};dur={:.3}", time.as_secs_f64() * 1e3));
        if let Ok(value) = HeaderValue::from_str(&spent.join(", ")) {
            response.headers_mut().insert(SERVER_TIMING, value);
        }
        response
    }
}

const V2_FIELDS: FieldNames = FieldNames { root: "input_data", is_batch: true };
const V1_FIELDS: FieldNames = FieldNames { root: "features", is_batch: false };

fn reference(model: Option<&str>, model_version: Option<&str>) -> ApiResult<ModelReference> {
    Ok(ModelReference::parse(model, model_version)?)
}
