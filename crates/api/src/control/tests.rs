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
fn empty_reasons_are_replaced() {
    assert_eq!(decision(Some("  ".into()), "deployed").reason, "deployed");
    assert_eq!(decision(Some("because".into()), "deployed").reason, "because");
}

#[test]
fn the_document_has_every_route() {
    let document = ControlApi::openapi();
    assert_eq!(document.paths.paths.len(), 35);
    assert!(document.paths.paths.contains_key("/api/v2/models/{model}/versions/{version}/deploy"));
}
