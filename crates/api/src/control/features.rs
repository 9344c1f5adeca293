//! Features: what there is, and their values over a dataset.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use moola_core::Error;
use moola_market::Bars;
use moola_market::features::{self, FeatureDefinition, FeatureMatrix, FeatureSet};
use serde::{Deserialize, Serialize};

use super::{ControlState, NoParams};
use crate::error::ApiResult;
use crate::extract::{Json, Query};

/// Rows of CSV that are written at a time.
const ROWS_PER_CHUNK: usize = 1000;

#[derive(Debug, Serialize)]
struct SetView {
    name: String,
    version: u32,
    hash: String,
    history_bars: usize,
    needs_volume: bool,
    needs_time: bool,
    features: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct FeatureList {
    features: &'static [FeatureDefinition],
    sets: Vec<SetView>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ComputeParams {
    dataset: String,
    #[serde(default)]
    set: Option<String>,
}

/// Lists the features and the sets of them.
#[utoipa::path(get, path = "/api/v2/features", tag = "features", operation_id = "list_features",
    responses((status = 200, description = "Definitions, and the sets that models are trained on")))]
pub(super) async fn list(_query: Query<NoParams>) -> ApiResult<Json<FeatureList>> {
    let mut sets = Vec::new();
    for name in FeatureSet::builtins() {
        let set = FeatureSet::builtin(name).map_err(Error::from)?;
        sets.push(SetView {
            name: set.name().into(),
            version: set.version(),
            hash: set.hash().into(),
            history_bars: set.history_bars(),
            needs_volume: set.needs_volume(),
            needs_time: set.needs_time(),
            features: set.features().iter().map(|feature| feature.name).collect(),
        });
    }
    Ok(Json(FeatureList { features: features::definitions(), sets }))
}

/// Computes a feature set over a dataset.
#[utoipa::path(post, path = "/api/v2/features/compute", tag = "features", operation_id = "compute_features",
    params(("dataset" = String, Query, description = "`name` or `name@version`"), ("set" = Option<String>, Query, description = "`core` by default")),
    responses((status = 200, description = "CSV: the time of each bar and its features, empty where missing", content_type = "text/csv"),
        (status = 404, description = "No such dataset or set")))]
pub(super) async fn compute(
    State(state): State<ControlState>,
    Query(params): Query<ComputeParams>,
) -> ApiResult<Response> {
    let set = FeatureSet::builtin(params.set.as_deref().unwrap_or("core")).map_err(Error::from)?;
    let (name, version) = match params.dataset.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (params.dataset.as_str(), None),
    };
    let bars = state.app.datasets.load_bars(name, version).await?;
    let header = set.features().iter().fold("timestamp".to_owned(), |line, feature| line + "," + feature.name) + "\n";
    let (matrix, bars) = tokio::task::spawn_blocking(move || (features::compute(&set, &bars), bars))
        .await
        .map_err(|error| Error::internal("computing features").with_source(error))?;
    let num_rows = bars.len();
    let chunks = (0..num_rows.div_ceil(ROWS_PER_CHUNK)).map(move |chunk| {
        let rows = chunk * ROWS_PER_CHUNK..num_rows.min((chunk + 1) * ROWS_PER_CHUNK);
        rows_as_csv(&bars, &matrix, rows)
    });
    let chunks = std::iter::once(Ok(Bytes::from(header))).chain(chunks);
    let body = Body::from_stream(futures::stream::iter(chunks));
    Ok(([(header::CONTENT_TYPE, "text/csv")], body).into_response())
}

fn rows_as_csv(bars: &Bars, matrix: &FeatureMatrix, rows: std::ops::Range<usize>) -> Result<Bytes, Error> {
    use std::fmt::Write as _;
    let mut text = String::new();
    for row in rows {
        let time = jiff::Timestamp::from_millisecond(bars.time_ms()[row])
            .map_err(|error| Error::corrupt("the time of a bar").with_source(error))?;
        text.push_str(&time.to_string());
        for column in 0..matrix.num_columns() {
            let value = matrix.value(row, column);
            text.push(',');
            if value.is_finite() {
                // Writing into a string does not fail.
                let _ = write!(text, "{value}");
            }
        }
        text.push('\n');
    }
    Ok(text.into())
}
