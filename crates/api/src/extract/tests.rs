use axum::http::Request as HttpRequest;
use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer {
    #[allow(dead_code, reason = "decoding is what is tested")]
    inner: Inner,
}

#[derive(Debug, Deserialize)]
struct Inner {
    #[allow(dead_code, reason = "decoding is what is tested")]
    rows: Vec<Vec<f64>>,
}

fn message(body: &str) -> String {
    let error = parse_json::<Outer>(body.as_bytes()).expect_err(body);
    assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    assert_eq!(error.body().error_code, "INVALID_PARAMETER_VALUE");
    error.body().message.clone()
}

#[test]
fn wrong_json_names_path_and_value() {
    for (body, parts) in [
        (
            r#"{"inner": {"rows": [[1, 2], [3, "x"]]}}"#,
            &["`inner.rows[1][1]`", r#"string "x""#, "expected a number"][..],
        ),
        (r#"{"inner": {"rows": [[1, null]]}}"#, &["`inner.rows[0][1]` is `null`"]),
        (r#"{"inner": {"rows": [[1, NaN]]}}"#, &["`inner.rows[0][1]` is `NaN`", "expected JSON"]),
        (r#"{"inner": {"rows": [[1, 1e999]]}}"#, &["`inner.rows[0][1]` is `1e999`", "out of range"]),
        (r#"{"inner": {"rows": [[1, -Infinity]]}}"#, &["`inner.rows[0][1]` is `-Infinity`"]),
        (r#"{"inner": {"rows": [[1, true]]}}"#, &["`inner.rows[0][1]` is boolean `true`"]),
        (r#"{"inner": {"rows": 5}}"#, &["`inner.rows` is integer `5`", "a list"]),
        (r#"{"inner": {}}"#, &["`inner`", "missing field `rows`"]),
        (r#"{"inner": {"rows": []}, "outer": 1}"#, &["unknown field `outer`"]),
        (r#"{"inner": {"rows": [[1,"#, &["EOF"]),
        ("[]", &["`body`"]),
        ("{", &["`body` is `{`", "expected JSON"]),
        ("", &["`body` is ``, expected a JSON document"]),
        ("{\"inner\": {\"rows\": [[1]]}} x", &["`body` is `x`", "trailing characters"]),
    ] {
        let message = message(body);
        for part in parts {
            assert!(message.contains(part), "{body}: {message}: no {part}");
        }
    }
}

#[test]
fn long_values_are_cut() {
    let body = format!(r#"{{"inner": {{"rows": ["{}"]}}}}"#, "x".repeat(5000));
    assert!(message(&body).len() < 300);
}

#[test]
fn deep_nesting_is_refused() {
    let body = format!(r#"{{"inner": {}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    message(&body);
}

async fn read(body: Body, limit: usize) -> Result<bytes::Bytes, ApiError> {
    let mut request = HttpRequest::builder().body(body).expect("a request");
    request.extensions_mut().insert(BodyLimit(limit));
    read_body(request).await
}

#[tokio::test]
async fn bodies_are_limited_with_and_without_a_declared_length() {
    assert_eq!(read(Body::from(vec![b'x'; 100]), 100).await.expect("fits").len(), 100);
    let error = read(Body::from(vec![b'x'; 101]), 100).await.expect_err("too long");
    assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(error.body().message, "`body` is `101` bytes, expected at most 100 bytes");
    let chunks = futures::stream::iter((0..11).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 10])));
    let error = read(Body::from_stream(chunks), 100).await.expect_err("too long");
    assert_eq!(error.body().message, "`body` is `110` bytes, expected at most 100 bytes");
}

#[tokio::test]
async fn other_content_types_are_refused() {
    for (given, accepted) in [
        (Some("application/json"), true),
        (Some("application/json; charset=utf-8"), true),
        (Some("application/cloudevents+json"), true),
        (Some("text/plain"), false),
        (None, false),
    ] {
        let mut request = HttpRequest::builder();
        if let Some(given) = given {
            request = request.header(header::CONTENT_TYPE, given);
        }
        let request = request.body(Body::from(r#"{"inner": {"rows": []}}"#)).expect("a request");
        let result = Json::<Outer>::from_request(request, &()).await;
        match result {
            Ok(_) => assert!(accepted, "{given:?}"),
            Err(error) => {
                assert!(!accepted, "{given:?}: {error:?}");
                assert_eq!(error.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
            }
        }
    }
}
