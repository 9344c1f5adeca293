use moola_core::ErrorKind::{Conflict, Corrupt, Internal, Unavailable};
use serde_json::json;

use super::*;
use crate::canned::{Answer, Asked, Canned, answer};

async fn table(answering: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> (DynamoTable, Canned) {
    let canned = Canned::new(answering);
    (DynamoTable::new(&canned.config().await, "moola"), canned)
}

fn refusal(status: u16, code: &str) -> Answer {
    answer(status, &json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "no"}).to_string())
}

fn canceled(reasons: &Value) -> Answer {
    let code = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    answer(400, &json!({"__type": code, "Message": "canceled", "CancellationReasons": reasons}).to_string())
}

fn puts() -> Vec<Write> {
    [("a", Condition::Always), ("b", Condition::Revision(3))]
        .map(|(sort, condition)| Write::Put { key: Key::new("p", sort), value: json!(1), condition })
        .to_vec()
}

fn body(asked: &Asked) -> Value {
    serde_json::from_str(&asked.body).unwrap()
}

#[tokio::test]
async fn a_condition_that_does_not_hold_is_a_conflict_that_names_the_item() {
    let item = json!({"pk": {"S": "p"}, "sk": {"S": "b"}, "r": {"N": "4"}, "v": {"S": "1"}});
    let failed = json!({"Code": "ConditionalCheckFailed", "Message": "The conditional request failed", "Item": item});
    // What may pass counts no more where a condition does not hold.
    for other in [json!({"Code": "None"}), json!({"Code": "TransactionConflict", "Message": "ongoing"})] {
        let reasons = json!([other, failed]);
        let (table, canned) = table(move |_, _| canceled(&reasons)).await;
        let error = table.write(puts()).await.unwrap_err();
        assert_eq!(error.kind(), Conflict);
        assert_eq!(error.to_string(), "item `p/b` is in revision 4, expected 3");
        assert_eq!(canned.asked().len(), 1);
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again_as_the_same_transaction() {
    let (table, canned) = table(|number, _| match number {
        0 => canceled(&json!([{"Code": "TransactionConflict"}, {"Code": "None"}])),
        1 => canceled(&json!([{"Code": "None"}, {"Code": "ThrottlingError"}])),
        _ => answer(200, "{}"),
    })
    .await;
    table.write(puts()).await.unwrap();
    let bodies: Vec<Value> = canned.asked().iter().map(body).collect();
    assert_eq!(bodies.len(), 3);
    assert!(bodies.iter().all(|it| it == &bodies[0]), "another request has another token or other writes");
    assert_eq!(bodies[0]["ClientRequestToken"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn other_refusals_are_told_apart() {
    let reasons = json!([{"Code": "ValidationError", "Message": "bad"}, {"Code": "None"}]);
    let (refusing, _) = table(move |_, _| canceled(&reasons)).await;
    assert_eq!(refusing.write(puts()).await.unwrap_err().kind(), Internal);
    let cases = [
        (400, "ProvisionedThroughputExceededException", Unavailable),
        (400, "TransactionInProgressException", Unavailable),
        (500, "InternalServerError", Unavailable),
        (400, "ResourceNotFoundException", Internal),
    ];
    for (status, code, kind) in cases {
        let (table, _) = table(move |_, _| refusal(status, code)).await;
        assert_eq!(table.write(puts()).await.unwrap_err().kind(), kind, "{code}");
        assert_eq!(table.get(&Key::new("p", "s")).await.unwrap_err().kind(), kind, "{code}");
        assert_eq!(table.query(&Query::prefix("p", "")).await.unwrap_err().kind(), kind, "{code}");
    }
}

#[tokio::test]
async fn what_no_moola_wrote_is_corrupt() {
    let key = json!({"pk": {"S": "p"}, "sk": {"S": "s"}});
    for (field, value) in [("r", json!({"N": "1"})), ("v", json!({"S": "{"}))] {
        let mut item = json!({"r": {"N": "1"}, "v": {"S": "1"}});
        item.as_object_mut().unwrap().extend(key.as_object().unwrap().clone());
        item[field] = if field == "v" { value } else { json!({"S": "1"}) };
        let body = json!({"Item": item}).to_string();
        let (table, _) = table(move |_, _| answer(200, &body)).await;
        let error = table.get(&Key::new("p", "s")).await.unwrap_err();
        assert_eq!(error.kind(), Corrupt);
        assert!(error.to_string().contains("`p/s`"), "{error}");
    }
}

#[tokio::test]
async fn checks_of_nothing_are_not_sent() {
    let (table, canned) = table(|_, _| answer(200, "{}")).await;
    let check = |sort: &str, condition| Write::Check { key: Key::new("p", sort), condition };
    table.write(vec![check("a", Condition::Always)]).await.unwrap();
    assert!(canned.asked().is_empty());
    table.write(vec![check("a", Condition::Always), check("b", Condition::Exists)]).await.unwrap();
    assert_eq!(body(&canned.asked()[0])["TransactItems"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn items_expire_by_a_field_of_their_value() {
    let (table, canned) = table(|_, _| answer(200, "{}")).await;
    let values = [
        (json!({"expires_at": 1_800_000_000}), Some("1800000000")),
        (json!({"expires_at": "tomorrow"}), None),
        (json!({"expires_at": 1.5}), None),
        (json!([1]), None),
    ];
    for (value, expected) in values {
        let put = Write::Put { key: Key::new("p", "s"), value, condition: Condition::Always };
        table.write(vec![put]).await.unwrap();
        let update = body(canned.asked().last().unwrap())["TransactItems"][0]["Update"].clone();
        assert_eq!(update["ExpressionAttributeValues"][":e"]["N"].as_str(), expected);
        let expression = update["UpdateExpression"].as_str().unwrap();
        assert_eq!(expression.contains("REMOVE expires_at"), expected.is_none(), "{expression}");
    }
}

#[test]
fn reading_goes_on_only_from_within_what_is_asked_for() {
    let start = |prefix: &str, after: &str, descending| {
        start_key(&Query { after: Some(after.into()), descending, ..Query::prefix("p", prefix) })
    };
    let key = |sort: &str| Some(Some(key_attributes(&Key::new("p", sort))));
    // (prefix, after, ascending, descending)
    let cases = [
        ("", "", Some(None), None),
        ("", "a", key("a"), key("a")),
        ("b", "a", Some(None), None),
        ("b", "c", None, Some(None)),
        ("b", "b", key("b"), key("b")),
        ("b", "ba", key("ba"), key("ba")),
        ("ba", "b", Some(None), None),
        ("b", "", Some(None), None),
    ];
    for (prefix, after, ascending, descending) in cases {
        assert_eq!(start(prefix, after, false), ascending, "prefix `{prefix}`, after `{after}`");
        assert_eq!(start(prefix, after, true), descending, "prefix `{prefix}`, after `{after}`, descending");
    }
    assert_eq!(start_key(&Query::prefix("p", "b")), Some(None));
}
