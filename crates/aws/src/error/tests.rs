use std::fmt;

use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::ErrorMetadata;

use super::*;

#[derive(Debug)]
struct Refusal(ErrorMetadata);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refusal")
    }
}

impl std::error::Error for Refusal {}

impl ProvideErrorMetadata for Refusal {
    fn meta(&self) -> &ErrorMetadata {
        &self.0
    }
}

fn answered(status: u16, code: Option<&str>) -> Error {
    let mut metadata = ErrorMetadata::builder();
    if let Some(code) = code {
        metadata = metadata.code(code);
    }
    let response = Response::new(StatusCode::try_from(status).unwrap(), SdkBody::empty());
    unexpected("get of `a`", SdkError::service_error(Refusal(metadata.build()), response))
}

#[test]
fn what_may_pass_is_unavailable() {
    let codes = [
        (400, "ProvisionedThroughputExceededException"),
        (400, "ThrottlingException"),
        (400, "RequestTimeout"),
        (400, "TransactionInProgressException"),
        (400, "BadDigest"),
        (500, "InternalServerError"),
        (503, "SlowDown"),
        // An error within a success, as CompleteMultipartUpload answers.
        (200, "InternalError"),
    ];
    for (status, code) in codes {
        assert_eq!(answered(status, Some(code)).kind(), ErrorKind::Unavailable, "{status} {code}");
    }
    for status in [429, 500, 502, 503, 504] {
        assert_eq!(answered(status, None).kind(), ErrorKind::Unavailable, "{status}");
    }
    let no_answer: [SdkError<Refusal, Response>; 3] = [
        SdkError::timeout_error("late"),
        SdkError::dispatch_failure(ConnectorError::io("reset".into())),
        SdkError::response_error("cut off", Response::new(StatusCode::try_from(200).unwrap(), SdkBody::empty())),
    ];
    for error in no_answer {
        let error = unexpected("get of `a`", error);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    }
}

#[test]
fn what_is_not_allowed_is_forbidden() {
    let codes = [(400, "AccessDeniedException"), (400, "UnrecognizedClientException"), (403, "SignatureDoesNotMatch")];
    for (status, code) in codes {
        assert_eq!(answered(status, Some(code)).kind(), ErrorKind::Forbidden, "{status} {code}");
    }
    assert_eq!(answered(403, None).kind(), ErrorKind::Forbidden, "HEAD has no body to tell a code");
}

#[test]
fn the_rest_is_a_defect_and_names_the_code() {
    for code in ["ValidationException", "ResourceNotFoundException", "NoSuchBucket"] {
        let error = answered(400, Some(code));
        assert_eq!(error.kind(), ErrorKind::Internal, "{code}");
        assert_eq!(error.to_string(), format!("get of `a` failed with `{code}`"));
    }
    assert_eq!(answered(418, None).to_string(), "get of `a` failed with status 418");
}
