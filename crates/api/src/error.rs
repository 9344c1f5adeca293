//! The error of every route, with MLflow's code names.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use moola_core::registry::NoEngine;
use moola_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Result of a route.
pub type ApiResult<T> = Result<T, ApiError>;

const RETRY_AFTER_SECS: u64 = 1;

/// What a refused request is answered with.
///
/// The codes are those of MLflow, so its client's branches work: `INVALID_PARAMETER_VALUE`, `BAD_REQUEST`,
/// `RESOURCE_ALREADY_EXISTS` (400), `UNAUTHENTICATED` (401), `PERMISSION_DENIED` (403), `RESOURCE_DOES_NOT_EXIST`,
/// `ENDPOINT_NOT_FOUND` (404), `RESOURCE_CONFLICT` (409), `RESOURCE_EXHAUSTED` (429), `INTERNAL_ERROR`, `DATA_LOSS`
/// (500), `TEMPORARILY_UNAVAILABLE` (503).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// MLflow's name of what the caller can do.
    #[schema(example = "INVALID_PARAMETER_VALUE")]
    pub error_code: String,
    /// Names the field, the value and what would be accepted.
    #[schema(example = "`input_data.ohlc_data[0][17].high` is `1.2`, expected at least max(open, close, low) = 1.3")]
    pub message: String,
    /// What to do next, where something helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// An error as HTTP tells it: a status and an [`ErrorBody`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
    is_elsewhere: bool,
}

/// Marks a response, as an extension: no engine of this program can answer, but another program may.
#[derive(Debug, Clone, Copy)]
pub struct NotHere;

impl ApiError {
    /// Makes an error.
    pub fn new(status: StatusCode, error_code: &str, message: impl Into<String>) -> Self {
        let body = ErrorBody { error_code: error_code.into(), message: message.into(), hint: None };
        Self { status, body, is_elsewhere: false }
    }

    /// Makes a 400 ``` `{field}` is `{value}`, expected {expected}```.
    pub fn invalid(field: &str, value: impl std::fmt::Display, expected: impl std::fmt::Display) -> Self {
        Error::invalid(field, value, expected).into()
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.body.hint = Some(hint.into());
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What the caller is told.
    #[must_use]
    pub fn body(&self) -> &ErrorBody {
        &self.body
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let (status, code) = match error.kind() {
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST"),
            ErrorKind::AlreadyExists => (StatusCode::BAD_REQUEST, "RESOURCE_ALREADY_EXISTS"),
            ErrorKind::Conflict | ErrorKind::Refused => (StatusCode::CONFLICT, "RESOURCE_CONFLICT"),
            ErrorKind::Invalid => (StatusCode::BAD_REQUEST, "INVALID_PARAMETER_VALUE"),
            ErrorKind::Forbidden => (StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
            ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "TEMPORARILY_UNAVAILABLE"),
            ErrorKind::Corrupt => (StatusCode::INTERNAL_SERVER_ERROR, "DATA_LOSS"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
        };
        let is_elsewhere = NoEngine::caused(&error);
        // The causes of a server's failure are for its log.
        let message = if is_elsewhere {
            error.chain()
        } else if status.is_server_error() {
            tracing::error!(error = error.chain(), code, "a request failed");
            error.to_string()
        } else {
            error.chain()
        };
        let api = Self { is_elsewhere, ..Self::new(status, code, message) };
        match error.hint() {
            Some(hint) => api.with_hint(hint),
            None => api,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry = self.status == StatusCode::SERVICE_UNAVAILABLE || self.status == StatusCode::TOO_MANY_REQUESTS;
        let mut response = (self.status, axum::Json(self.body)).into_response();
        if retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECS));
        }
        if self.is_elsewhere {
            response.extensions_mut().insert(NotHere);
        }
        response
    }
}
