use std::sync::Mutex;

use async_trait::async_trait;
use moola_core::ports::Event;

use super::*;
use crate::envelope::encode_detail;

/// Fails as the event's id says.
#[derive(Default)]
struct Handler(Mutex<Vec<String>>);

#[async_trait]
impl EventHandler for Handler {
    async fn handle(&self, event: &Event) -> Result<()> {
        self.0.lock().unwrap().push(event.id.clone());
        match event.id.as_str() {
            "later" => Err(Error::unavailable("not yet")),
            "defect" => Err(Error::internal("a defect")),
            "gone" => Err(Error::not_found("model", "m")),
            _ => Ok(()),
        }
    }
}

fn envelope(id: &str) -> Value {
    let event = Event {
        id: id.into(),
        source: "moola".into(),
        detail_type: "Drift Detected".into(),
        time_ms: 1_767_571_200_123,
        correlation_id: "chain".into(),
        detail: json!({"version": 1}),
    };
    let detail: Value = serde_json::from_str(&encode_detail(&event).unwrap()).unwrap();
    json!({"id": "x", "source": "moola", "detail-type": "Drift Detected", "time": "2026-01-05T00:00:00Z", "detail": detail})
}

fn queue(bodies: &[(&str, String)]) -> lambda_http::Body {
    let records: Vec<Value> = bodies
        .iter()
        .map(|(id, body)| json!({"messageId": id, "body": body, "eventSource": "aws:sqs", "attributes": {"ApproximateReceiveCount": "2"}}))
        .collect();
    lambda_http::Body::Text(json!({ "Records": records }).to_string())
}

#[tokio::test]
async fn a_queue_gets_back_what_must_come_again() {
    let (handler, metrics) = (Handler::default(), Metrics::new("test"));
    let ids = ["good", "later", "gone", "defect"];
    let mut bodies: Vec<(&str, String)> = ids.iter().map(|id| (*id, envelope(id).to_string())).collect();
    bodies.push(("torn", "{".into()));
    bodies.push(("no event", "{}".into()));
    let answer = handle(&handler, parse(&queue(&bodies)).unwrap(), &metrics).await.unwrap();
    let failures: Vec<&str> = answer["batchItemFailures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| failure["itemIdentifier"].as_str().unwrap())
        .collect();
    assert_eq!(failures, ["later", "defect", "torn", "no event"]);
    let mut handled = handler.0.lock().unwrap().clone();
    handled.sort();
    assert_eq!(handled, ["defect", "gone", "good", "later"]);
}

#[tokio::test]
async fn a_single_event_that_must_come_again_is_an_error() {
    let (handler, metrics) = (Handler::default(), Metrics::new("test"));
    let one = async |event: Value| {
        let body = lambda_http::Body::Text(event.to_string());
        handle(&handler, parse(&body)?, &metrics).await
    };
    assert_eq!(one(envelope("good")).await.unwrap(), Value::Null);
    assert_eq!(one(envelope("gone")).await.unwrap(), Value::Null);
    assert!(one(envelope("later")).await.unwrap_err().is_retryable());
    assert_eq!(one(json!({"Records": 7})).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(one(json!([])).await.unwrap_err().kind(), ErrorKind::Invalid);
}
