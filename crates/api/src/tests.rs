use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, to_bytes};
use axum::routing::get;
use moola_core::{Error, ErrorKind};
use tower::ServiceExt as _;

use super::*;

#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Ids for Counting {
    fn new_id(&self) -> String {
        format!("id-{}", self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn random_u64(&self) -> u64 {
        4
    }
}

fn app() -> Router {
    let router = Router::new()
        .route("/ok", get(|| async { "fine" }))
        .route("/panic", get(|| async { panic!("boom") as () }))
        .route(
            "/error/{kind}",
            get(|extract::Path(kind): extract::Path<u8>| async move {
                let kinds = [
                    ErrorKind::NotFound,
                    ErrorKind::AlreadyExists,
                    ErrorKind::Conflict,
                    ErrorKind::Invalid,
                    ErrorKind::Forbidden,
                    ErrorKind::Refused,
                    ErrorKind::Unavailable,
                    ErrorKind::Corrupt,
                    ErrorKind::Internal,
                ];
                let source = Error::internal("the secret cause");
                ApiError::from(Error::new(kinds[usize::from(kind)], "what").with_source(source).with_hint("do"))
            }),
        );
    finish(router, Arc::new(Counting::default()))
}

async fn call(request: axum::http::request::Builder) -> (StatusCode, axum::http::HeaderMap, String) {
    let response = app().oneshot(request.body(Body::empty()).expect("a request")).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).expect("text"))
}

async fn get_error(uri: &str) -> (StatusCode, ErrorBody) {
    let (status, headers, body) = call(Request::get(uri)).await;
    assert!(headers.contains_key(REQUEST_ID));
    assert_eq!(headers["content-type"], "application/json");
    (status, serde_json::from_str(&body).expect(&body))
}

#[tokio::test]
async fn kinds_have_a_status_and_a_code() {
    let expected = [
        (404, "RESOURCE_DOES_NOT_EXIST"),
        (400, "RESOURCE_ALREADY_EXISTS"),
        (409, "RESOURCE_CONFLICT"),
        (400, "INVALID_PARAMETER_VALUE"),
        (403, "PERMISSION_DENIED"),
        (409, "RESOURCE_CONFLICT"),
        (503, "TEMPORARILY_UNAVAILABLE"),
        (500, "DATA_LOSS"),
        (500, "INTERNAL_ERROR"),
    ];
    for (kind, (status, code)) in expected.into_iter().enumerate() {
        let (got, body) = get_error(&format!("/error/{kind}")).await;
        assert_eq!((got.as_u16(), body.error_code.as_str()), (status, code));
        assert_eq!(body.hint.as_deref(), Some("do"));
        assert_eq!(body.message.contains("secret"), status < 500, "{}", body.message);
    }
    let (_, headers, _) = call(Request::get("/error/6")).await;
    assert_eq!(headers["retry-after"], "1");
}

#[tokio::test]
async fn what_no_route_takes_has_the_same_shape() {
    let (status, body) = get_error("/nowhere").await;
    assert_eq!((status.as_u16(), body.error_code.as_str()), (404, "ENDPOINT_NOT_FOUND"));
    assert!(body.message.contains("`GET /nowhere`"));
    let (status, headers, body) = call(Request::post("/ok")).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(headers["allow"].to_str().expect("text").contains("GET"));
    assert!(body.contains("`POST`"));
    let (status, body) = get_error("/error/zzz").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.message.contains("zzz"), "{}", body.message);
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let (status, body) = get_error("/panic").await;
    assert_eq!((status.as_u16(), body.error_code.as_str()), (500, "INTERNAL_ERROR"));
    assert!(!body.message.contains("boom"));
}

#[tokio::test]
async fn request_ids_are_kept_or_made() {
    let (_, headers, _) = call(Request::get("/ok").header(REQUEST_ID, "mine-1")).await;
    assert_eq!(headers[REQUEST_ID], "mine-1");
    let (_, headers, _) = call(Request::get("/ok")).await;
    assert_eq!(headers[REQUEST_ID], "id-0");
    let (_, headers, _) = call(Request::get("/ok").header(REQUEST_ID, "x".repeat(129))).await;
    assert_eq!(headers[REQUEST_ID], "id-0");
}
