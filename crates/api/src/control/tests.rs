use super::*;

#[test]
fn limits_are_checked() {
    assert_eq!(Limit { limit: None }.get().ok(), Some(DEFAULT_LIMIT));
    assert_eq!(Limit { limit: Some(7) }.get().ok(), Some(7));
    let error = Limit { limit: Some(0) }.get().expect_err("zero is no limit");
    assert!(error.body().message.contains("`limit` is `0`"), "{}", error.body().message);
    assert!(Limit { limit: Some(MAX_LIMIT + 1) }.get().is_err());
}

#[test]
fn empty_reasons_are_replaced_and_long_ones_refused() {
    let reason = |given: &str| decision(Some(given.into()), "deployed").map(|decision| decision.reason);
    assert_eq!(reason("  "), Ok("deployed".to_owned()));
    assert_eq!(reason("because"), Ok("because".to_owned()));
    assert!(reason(&"x".repeat(MAX_REASON_BYTES)).is_ok());
    let error = reason(&"x".repeat(MAX_REASON_BYTES + 1)).expect_err("too long");
    assert_eq!(error.body().message, "`reason` is `4097 bytes`, expected at most 4096 bytes");
}

#[test]
fn the_document_has_every_route() {
    let document = ControlApi::openapi();
    assert_eq!(document.paths.paths.len(), 37);
    assert!(document.paths.paths.contains_key("/api/v2/models/{model}/versions/{version}/deploy"));
}

#[test]
fn operation_ids_are_unique() {
    let document = crate::openapi::document([ControlApi::openapi()]);
    let document = serde_json::to_value(&document).expect("a document");
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.values().flat_map(|path| path.as_object().expect("operations").values());
    let mut ids: Vec<&str> = operations.map(|it| it["operationId"].as_str().expect("an operation id")).collect();
    let num_operations = ids.len();
    assert!(num_operations > 40, "{num_operations} operations");
    ids.sort_unstable();
    for pair in ids.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
}

#[tokio::test]
async fn unknown_parameters_are_refused() {
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use tower::ServiceExt as _;
    let app = Router::new().route("/api/v2/features", get(features::list));
    for (uri, expected) in [("/api/v2/features", StatusCode::OK), ("/api/v2/features?limit=1", StatusCode::BAD_REQUEST)]
    {
        let answer = app.clone().oneshot(Request::get(uri).body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.expect("infallible").status(), expected, "{uri}");
    }
}
