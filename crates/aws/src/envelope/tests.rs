use moola_core::ErrorKind;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn event() -> Event {
    Event {
        id: "01k7".into(),
        source: "moola".into(),
        detail_type: "Drift Detected".into(),
        time_ms: 1_767_571_200_123,
        correlation_id: "chain".into(),
        detail: json!({ "version": 1, "model": "sp500" }),
    }
}

/// What EventBridge makes of an entry.
fn delivered(event: &Event, detail: &str) -> Value {
    json!({
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": event.detail_type,
        "source": event.source,
        "account": "111122223333",
        "time": "2026-01-05T00:00:07Z",
        "region": "us-east-1",
        "resources": [],
        "detail": serde_json::from_str::<Value>(detail).unwrap(),
    })
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        id in ".{0,30}",
        source in "[a-z.]{1,20}",
        detail_type in ".{1,20}",
        time_ms: i64,
        correlation_id in ".{0,20}",
        detail in prop::collection::btree_map("[a-ln-z].{0,6}", json_value(), 0..5),
    ) {
        prop_assume!(!id.contains(PLACEHOLDER));
        let event = Event { id, source, detail_type, time_ms, correlation_id, detail: json!(detail) };
        let envelope = delivered(&event, &encode_detail(&event).unwrap());
        prop_assert_eq!(decode_event(&envelope).unwrap(), event);
    }

    #[test]
    fn nothing_that_comes_panics(mut envelope in json_value(), detail in json_value(), reserved in json_value()) {
        let _ = decode_event(&envelope);
        if let Some(fields) = envelope.as_object_mut() {
            fields.extend(delivered(&event(), "{}").as_object().unwrap().clone());
            fields.insert("detail".into(), detail);
            if let Some(detail) = fields["detail"].as_object_mut() {
                detail.insert(RESERVED.into(), reserved);
            }
            let _ = decode_event(&envelope);
        }
    }
}

#[test]
fn details_that_cannot_be_carried_are_refused() {
    for (detail, field) in [(json!(null), "detail"), (json!([1]), "detail"), (json!({ "moola": 1 }), "detail.moola")] {
        let error = encode_detail(&Event { detail, ..event() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().starts_with(&format!("`{field}` is")), "{error}");
    }
}

#[test]
fn what_is_missing_in_the_envelope_is_named() {
    let whole = delivered(&event(), "{}");
    for field in ["id", "source", "detail-type", "time", "detail"] {
        let mut envelope = whole.clone();
        envelope.as_object_mut().unwrap().remove(field);
        let error = decode_event(&envelope).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(&format!("event.{field}")), "{error}");
    }
    let mut envelope = whole;
    envelope["time"] = json!("yesterday");
    assert!(decode_event(&envelope).unwrap_err().to_string().contains("yesterday"));
}

/// The example of the AWS Batch user guide, "Job state change events", with tags.
#[test]
fn events_of_aws_batch_are_read() {
    let mut envelope = json!({
        "version": "0",
        "id": "c8f9c4b5-76e5-d76a-f980-7011e206042b",
        "detail-type": "Batch Job State Change",
        "source": "aws.batch",
        "account": "123456789012",
        "time": "2022-01-11T23:36:40Z",
        "region": "us-east-1",
        "resources": ["arn:aws:batch:us-east-1:123456789012:job/4c7599ae-0a82-49aa-ba5a-4727fcce14a8"],
        "detail": {
            "jobArn": "arn:aws:batch:us-east-1:123456789012:job/4c7599ae-0a82-49aa-ba5a-4727fcce14a8",
            "jobName": "event-test",
            "jobId": "4c7599ae-0a82-49aa-ba5a-4727fcce14a8:3",
            "jobQueue": "arn:aws:batch:us-east-1:123456789012:job-queue/moola-cpu",
            "status": "FAILED",
            "statusReason": "Essential container in task exited",
            "attempts": [],
            "createdAt": 1_641_944_200_058_i64,
            "retryStrategy": { "attempts": 2, "evaluateOnExit": [] },
            "container": { "command": ["sleep", "600"], "environment": [] },
            "tags": { "run_id": "r1", "correlation_id": "drift-7" }
        }
    });
    let event = decode_event(&envelope).unwrap();
    assert_eq!((event.id.as_str(), event.time_ms), ("c8f9c4b5-76e5-d76a-f980-7011e206042b", 1_641_944_200_000));
    assert_eq!((event.source.as_str(), event.detail_type.as_str()), ("aws.batch", "Batch Job State Change"));
    assert_eq!((event.correlation_id.as_str(), &event.detail), ("drift-7", &envelope["detail"]));

    envelope["detail"]["tags"] = json!({});
    assert_eq!(decode_event(&envelope).unwrap().correlation_id, "4c7599ae-0a82-49aa-ba5a-4727fcce14a8");
    envelope["detail"] = json!({ "bucket": "b" });
    assert_eq!(decode_event(&envelope).unwrap().correlation_id, "c8f9c4b5-76e5-d76a-f980-7011e206042b");
}

#[cfg(feature = "events")]
#[test]
fn firings_have_the_id_and_the_time_of_what_was_due() {
    let template = Event { id: "template".into(), time_ms: 0, correlation_id: String::new(), ..event() };
    let input = encode_template("daily", &template).unwrap();
    assert_eq!(decode_template("moola", "Drift Detected", &input).unwrap(), template);

    let filled = input.replace("<aws.scheduler.scheduled-time>", "2026-01-05T18:00:00Z");
    let firing = decode_event(&delivered(&template, &filled)).unwrap();
    assert_eq!((firing.id.as_str(), firing.time_ms), ("daily@2026-01-05T18:00:00Z", 1_767_636_000_000));
    assert_eq!((firing.correlation_id.as_str(), &firing.detail), ("daily@2026-01-05T18:00:00Z", &template.detail));

    let chained = encode_template("daily", &Event { correlation_id: "all".into(), ..template.clone() }).unwrap();
    assert_eq!(decode_event(&delivered(&template, &chained)).unwrap().correlation_id, "all");

    // An emulator fills in nothing: then the envelope says which firing it is.
    let firing = decode_event(&delivered(&template, &input)).unwrap();
    assert_eq!((firing.id.as_str(), firing.time_ms), ("6a7e8feb-b491-4cf7-a9f1-bf3703467718", 1_767_571_207_000));
}
