//! From errors of the SDK to those of the ports.

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use moola_core::{Error, ErrorKind};

/// Codes that mean: not now. The SDK has tried most of them again by itself before they come here.
pub(crate) const NOT_NOW: &[&str] = &[
    // Damaged or cut off on the way.
    "BadDigest",
    "IncompleteBody",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "LimitExceededException",
    "OperationAborted",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionConflictException",
    "TransactionInProgressException",
    "XAmzContentChecksumMismatch",
];

/// Codes that mean: not you. Not every service answers with status 403.
const NOT_YOU: &[&str] = &[
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignatureException",
    "InvalidAccessKeyId",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// What an error of the SDK means to a caller that expected none: `Unavailable` where the same call may succeed later
/// (no connection, time-out, throttling, 5xx), `Forbidden` where credentials or the role's permissions do not allow it,
/// else `Internal`.
pub(crate) fn unexpected<E>(what: &str, error: SdkError<E, Response>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.as_service_error().and_then(|e| e.code()).unwrap_or_default().to_owned();
    let status = error.raw_response().map(|response| response.status().as_u16());
    let kind = match &error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => ErrorKind::Unavailable,
        _ if NOT_NOW.contains(&code.as_str()) || status.is_some_and(|s| s >= 500 || s == 429) => ErrorKind::Unavailable,
        _ if NOT_YOU.contains(&code.as_str()) || status == Some(403) => ErrorKind::Forbidden,
        _ => ErrorKind::Internal,
    };
    let message = match (code.as_str(), status) {
        ("", None) => format!("{what} failed"),
        ("", Some(status)) => format!("{what} failed with status {status}"),
        (code, _) => format!("{what} failed with `{code}`"),
    };
    Error::new(kind, message).with_source(error)
}

#[cfg(test)]
mod tests;
