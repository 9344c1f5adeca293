//! Files that are larger than a request may be: sent to the store by a presigned URL, named in the request that uses them.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use bytes::Bytes;
use jiff::Timestamp;
use moola_core::names::check_name;
use moola_core::ports::PresignMethod;
use moola_core::{Error, ErrorKind};
use serde::Serialize;

use super::{ControlState, NoParams};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Query, read_body};

/// How long a URL can be sent to.
const SENDING: Duration = Duration::from_secs(3600);
/// How long what was sent can be used. The store's life cycle deletes it some time after.
const USE_MS: i64 = 24 * 3600 * 1000;

#[derive(Debug, Serialize)]
pub(super) struct UploadView {
    /// Names the file in the request that uses it.
    upload_id: String,
    /// Where the file is sent to, with PUT.
    url: String,
    /// Until when.
    expires_at: String,
}

fn key(upload_id: &str) -> String {
    format!("uploads/{upload_id}")
}

/// Makes a place for a file that is too large for a request.
#[utoipa::path(post, path = "/api/v2/uploads", tag = "uploads", operation_id = "create_upload",
    responses((status = 201, description = "`upload_id`, the `url` to PUT the file to, and when it expires (`expires_at`). The file can be used for a day"),
        (status = 409, description = "This deployment takes files of any size in the request itself")))]
pub(super) async fn create(
    State(state): State<ControlState>,
    _query: Query<NoParams>,
) -> ApiResult<(StatusCode, Json<UploadView>)> {
    let ports = &state.app.ports;
    let upload_id = ports.ids.new_id();
    let url = match ports.blobs.presign(&key(&upload_id), PresignMethod::Put, SENDING).await {
        Ok(url) => url,
        Err(error) if error.kind() == ErrorKind::Refused => {
            let message = "this deployment has no uploads, since its requests may be as large as the files";
            return Err(Error::new(ErrorKind::Refused, message)
                .with_hint("send the file as the body of the import, or as `model_base64`")
                .into());
        }
        Err(error) => return Err(error.into()),
    };
    let expires_ms = ports.clock.now_ms() + SENDING.as_millis() as i64;
    let expires_at = Timestamp::from_millisecond(expires_ms)
        .map_err(|error| Error::internal("the clock is far from now").with_source(error))?
        .to_string();
    Ok((StatusCode::CREATED, Json(UploadView { upload_id, url, expires_at })))
}

/// Reads what was sent to the upload that the request's `field` names, of at most `limit` bytes.
pub(super) async fn read(state: &ControlState, field: &str, upload_id: &str, limit: usize) -> ApiResult<Bytes> {
    check_name(field, upload_id)?;
    let ports = &state.app.ports;
    let missing = |what: &str| {
        let message = format!("`{field}` is `{upload_id}`, {what}");
        Error::new(ErrorKind::NotFound, message).with_hint("`POST /api/v2/uploads` makes one; PUT the file to its url")
    };
    let key = key(upload_id);
    let not_sent = |error: Error| match error.kind() {
        ErrorKind::NotFound => missing("an upload that nothing was sent to, or that was deleted after a day"),
        _ => error,
    };
    let meta = ports.blobs.head(&key).await.map_err(not_sent)?;
    if ports.clock.now_ms() - meta.modified_ms > USE_MS {
        return Err(missing("an upload that has expired: it was sent more than a day ago").into());
    }
    let too_large = |size: String| {
        let message = format!("`{field}` is `{upload_id}`, an upload of {size} bytes, expected at most {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_PARAMETER_VALUE", message)
    };
    if meta.size_bytes > limit as u64 {
        return Err(too_large(meta.size_bytes.to_string()));
    }
    if meta.size_bytes == 0 {
        return Ok(Bytes::new());
    }
    // Until it expires the URL can be sent to again: the file may be another one by now.
    let bytes = ports.blobs.get_range(&key, 0..(limit as u64).saturating_add(1)).await.map_err(not_sent)?;
    if bytes.len() > limit { Err(too_large(format!("more than {limit}"))) } else { Ok(bytes) }
}

/// The file of a request: its body, or what its parameter `upload` names.
pub(super) async fn file(state: &ControlState, upload: Option<&str>, request: Request) -> ApiResult<Bytes> {
    let body = read_body(request).await?;
    match upload {
        None => Ok(body),
        Some(upload_id) if body.is_empty() => read(state, "upload", upload_id, state.limits.max_dataset_bytes).await,
        Some(_) => {
            let given = format!("{} bytes", body.len());
            Err(ApiError::invalid("body", given, "no body, or no `upload`: a request has one file"))
        }
    }
}

#[cfg(test)]
mod tests;
