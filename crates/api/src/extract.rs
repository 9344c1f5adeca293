//! What routes take from a request; whatever does not fit becomes an [`ApiError`] that names the field and the value.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// Most bytes of a body where the router sets no other limit.
pub const DEFAULT_BODY_BYTES: usize = 8 << 20;
/// So much of a body over the limit is read and thrown away: a client that writes before it reads then gets the answer
/// instead of a closed connection.
const MAX_DRAINED_BYTES: usize = 64 << 20;
/// Most characters of a wrong value that a message repeats.
const MAX_SHOWN_CHARS: usize = 60;

/// Most bytes of a request's body; set it as an extension of the router (`axum::Extension`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimit(pub usize);

/// A JSON body, in a request or an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let bytes = read_body(request).await?;
        parse_json(&bytes).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

pub(crate) fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if essence == "application/json" || essence.starts_with("application/") && essence.ends_with("+json") {
        return Ok(());
    }
    let message = format!("`Content-Type` is `{}`, expected `application/json`", shown(given));
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "INVALID_PARAMETER_VALUE", message))
}

/// Reads a whole body.
///
/// # Errors
/// 413 over the [`BodyLimit`], 400 where the connection breaks.
pub async fn read_body(request: Request) -> Result<bytes::Bytes, ApiError> {
    let limit = request.extensions().get::<BodyLimit>().map_or(DEFAULT_BODY_BYTES, |limit| limit.0);
    let length = request.headers().get(header::CONTENT_LENGTH);
    let declared = length.and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<usize>().ok());
    let fits = declared.is_none_or(|declared| declared <= limit);
    let mut body = BytesMut::with_capacity(if fits { declared.unwrap_or(0) } else { 0 });
    let mut num_bytes = 0;
    let mut chunks = Body::into_data_stream(request.into_body());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            ApiError::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", format!("`body` ended early: {error}"))
        })?;
        num_bytes += chunk.len();
        if fits && num_bytes <= limit {
            body.extend_from_slice(&chunk);
        } else if num_bytes > MAX_DRAINED_BYTES {
            break;
        }
    }
    if fits && num_bytes <= limit {
        return Ok(body.freeze());
    }
    let num_bytes = declared.unwrap_or(num_bytes).max(num_bytes);
    let message = format!("`body` is `{num_bytes}` bytes, expected at most {limit} bytes");
    Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_PARAMETER_VALUE", message))
}

/// Decodes JSON.
///
/// # Errors
/// 400, naming the path of the field and its value.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // The path costs time, so it is kept only once something is known to be wrong.
    serde_json::from_slice(bytes).map_err(|error| {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let (path, error) = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
            Ok(_) => (String::new(), error),
            Err(error) => (error.path().to_string(), error.into_inner()),
        };
        json_error(bytes, &path, &error)
    })
}

fn json_error(bytes: &[u8], path: &str, error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    let at = format!("at line {} column {}", error.line(), error.column());
    let field = match path.trim_end_matches(".?") {
        "" | "." | "?" => "body".to_owned(),
        path if path.starts_with('[') => format!("body{path}"),
        path => path.to_owned(),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return ApiError::invalid("body", "", "a JSON document");
    }
    let message = match error.classify() {
        serde_json::error::Category::Data => {
            let is_wrong = ["invalid type: ", "invalid value: ", "invalid length "];
            match is_wrong.iter().find_map(|start| text.strip_prefix(start)) {
                Some(rest) => {
                    let (value, expected) = rest.split_once(", expected ").unwrap_or((rest, "another value"));
                    format!("`{field}` is {}, expected {} ({at})", quoted(value), plain(expected))
                }
                None => format!("`{field}`: {text} ({at})"),
            }
        }
        _ => format!("`{field}` is `{}`, expected JSON: {text} ({at})", token_at(bytes, error.line(), error.column())),
    };
    ApiError::new(StatusCode::BAD_REQUEST, "INVALID_PARAMETER_VALUE", message)
}

/// serde's words for what it expected, without Rust's names of types.
fn plain(expected: &str) -> &str {
    match expected {
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number in range",
        "a sequence" => "a list",
        "a map" => "an object",
        "a boolean" => "true or false",
        other => other,
    }
}

/// serde's words for a value (``string "abc"``, ``floating point `1.5` ``, `null`) as this project writes them.
fn quoted(value: &str) -> String {
    if value.contains('`') { shown(value) } else { format!("`{}`", shown(value)) }
}

/// The text around the place where a parser gave up.
fn token_at(bytes: &[u8], line: usize, column: usize) -> String {
    let start: usize = bytes.split(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(|line| line.len() + 1).sum();
    let at = (start + column.saturating_sub(1)).min(bytes.len());
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b",:[]{}".contains(byte);
    let from = bytes[..at].iter().rposition(ends).map_or(0, |position| position + 1);
    let to = bytes[at..].iter().position(ends).map_or(bytes.len(), |position| at + position);
    let token = &bytes[from..to.max(from)];
    if token.is_empty() {
        shown(&String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 1)]))
    } else {
        shown(&String::from_utf8_lossy(token))
    }
}

/// At most [`MAX_SHOWN_CHARS`] characters of a value, for a message.
#[must_use]
pub fn shown(value: &str) -> String {
    let mut chars = value.chars();
    let mut text: String = chars.by_ref().take(MAX_SHOWN_CHARS).collect();
    if chars.next().is_some() {
        text.push_str("...");
    }
    text
}

/// The query of a request's address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|error| {
            let given = parts.uri.query().unwrap_or("");
            let reason = error.body_text();
            let reason = reason.trim_start_matches("Failed to deserialize query string: ");
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "INVALID_PARAMETER_VALUE",
                format!("`query` is `{}`, which does not fit: {reason}", shown(given)),
            )
        })
    }
}

/// The variable parts of a request's path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|error| {
            let reason = error.body_text();
            let reason = reason.trim_start_matches("Invalid URL: ");
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "INVALID_PARAMETER_VALUE",
                format!("`path` is `{}`, which does not fit: {reason}", shown(parts.uri.path())),
            )
        })
    }
}

#[cfg(test)]
mod tests;
