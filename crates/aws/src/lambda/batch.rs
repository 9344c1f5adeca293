//! Events as they come: alone, or in the messages of a queue.

use moola_core::ports::EventHandler;
use moola_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{Instrument as _, error, info_span, warn};

use super::Metrics;
use crate::envelope::decode_event;

/// Messages that are handled at a time.
const CONCURRENT: usize = 4;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    message_id: String,
    body: String,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attributes {
    approximate_receive_count: Option<String>,
}

#[derive(Debug)]
pub(super) enum Payload {
    Queue(Vec<Message>),
    Event(Value),
}

/// Reads a payload that is no HTTP request.
pub(super) fn parse(body: &lambda_http::Body) -> Result<Payload> {
    let invalid = |e| Error::invalid("payload", "no JSON", "an event of SQS or EventBridge").with_source(e);
    let mut payload: Value = serde_json::from_slice(body.as_ref()).map_err(invalid)?;
    match payload.get_mut("Records") {
        Some(records) => Ok(Payload::Queue(serde_json::from_value(records.take()).map_err(invalid)?)),
        None => Ok(Payload::Event(payload)),
    }
}

/// Handles what came. Of a queue's messages the answer names those that must come again.
pub(super) async fn handle(handler: &dyn EventHandler, payload: Payload, metrics: &Metrics) -> Result<Value> {
    match payload {
        Payload::Event(event) => handle_one(handler, &event, metrics).await.map(|()| Value::Null),
        Payload::Queue(messages) => {
            use futures::StreamExt as _;
            let failures = futures::stream::iter(messages)
                .map(|message| async move {
                    let failed = handle_message(handler, &message, metrics).await.is_err();
                    failed.then(|| json!({ "itemIdentifier": message.message_id }))
                })
                .buffered(CONCURRENT)
                .filter_map(async |failure| failure)
                .collect::<Vec<Value>>()
                .await;
            Ok(json!({ "batchItemFailures": failures }))
        }
    }
}

async fn handle_message(handler: &dyn EventHandler, message: &Message, metrics: &Metrics) -> Result<()> {
    let received = message.attributes.approximate_receive_count.as_deref().unwrap_or("1");
    let span = info_span!("message", message_id = message.message_id, received);
    async {
        let event: Value = serde_json::from_str(&message.body).map_err(|e| {
            error!(error = %e, "a message is no JSON");
            metrics.count_event(false);
            // The queue gives up on it and keeps it for people.
            Error::invalid("body", "no JSON", "an event of EventBridge").with_source(e)
        })?;
        handle_one(handler, &event, metrics).await
    }
    .instrument(span)
    .await
}

/// Handles an event.
///
/// # Errors
/// Where it must come again. That is every error but those that another attempt cannot mend: what it is about does not
/// exist (any more), or a rule refuses.
async fn handle_one(handler: &dyn EventHandler, event: &Value, metrics: &Metrics) -> Result<()> {
    let event = decode_event(event).inspect_err(|error| {
        error!(error = error.chain(), "this is no event");
        metrics.count_event(false);
    })?;
    let span = info_span!(
        "event",
        event_id = event.id,
        detail_type = event.detail_type,
        correlation_id = event.correlation_id
    );
    async {
        match handler.handle(&event).await {
            Ok(()) => {
                metrics.count_event(true);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Refused) => {
                warn!(error = error.chain(), "there is nothing to do about this event");
                metrics.count_event(true);
                Ok(())
            }
            Err(error) => {
                error!(error = error.chain(), retryable = error.is_retryable(), "the event was not handled");
                metrics.count_event(false);
                Err(error)
            }
        }
    }
    .instrument(span)
    .await
}

#[cfg(test)]
mod tests;
