use super::*;

#[test]
fn columns_line_up() {
    let mut table = Table::new(&["name", "rows"]);
    table.row(["eurusd".into(), "7".into()]);
    table.row(["spy".into(), "1200".into()]);
    assert_eq!(table.to_string(), "NAME    ROWS\neurusd     7\nspy     1200");
}

#[test]
fn hints_leave_the_message_alone() {
    let error: anyhow::Result<()> = Err(anyhow::anyhow!("inner").context("outer"));
    let error = error.hint("do this").expect_err("an error");
    assert_eq!(format!("{error:#}"), "outer: inner");
    let found = error.chain().find_map(|cause| cause.downcast_ref::<Hinted>());
    assert_eq!(found.map(|hinted| hinted.hint.as_str()), Some("do this"));
    let error = from_core(moola_core::Error::not_found("model", "x").with_hint("look"));
    assert_eq!(format!("{error:#}"), "model `x` does not exist");
}
