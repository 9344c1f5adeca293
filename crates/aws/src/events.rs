use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_smithy_types::DateTime;
use moola_core::ports::checks::check_events;
use moola_core::ports::{Event, Events};
use moola_core::{Error, ErrorKind, Result};

use crate::envelope::encode_detail;
use crate::error::{NOT_NOW, unexpected};

/// Most bytes of an entry, and of all entries of one call together.
const MAX_BYTES: usize = 256 * 1_024;
/// What the time counts in the size of an entry.
const TIME_BYTES: usize = 14;
/// Calls in which an entry may fail before the caller is told.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Events on an EventBridge bus; who wants them has a rule there. See [`crate::decode_event`] for what comes out.
#[derive(Debug, Clone)]
pub struct EventBridge {
    client: Client,
    bus: String,
}

impl EventBridge {
    /// Events on `bus`, a name or an ARN.
    pub fn new(config: &SdkConfig, bus: impl Into<String>) -> Self {
        Self { client: Client::new(config), bus: bus.into() }
    }

    /// An entry and its size, as EventBridge counts it.
    fn entry(&self, event: &Event) -> Result<(PutEventsRequestEntry, usize)> {
        let detail = encode_detail(event)?;
        let size_bytes = TIME_BYTES + event.source.len() + event.detail_type.len() + detail.len();
        if size_bytes > MAX_BYTES {
            let name = format!("event `{}` ({})", event.id, event.detail_type);
            return Err(Error::invalid(&name, format!("{size_bytes} bytes"), format!("at most {MAX_BYTES} bytes")));
        }
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.bus)
            .source(&event.source)
            .detail_type(&event.detail_type)
            .detail(detail)
            .time(DateTime::from_millis(event.time_ms))
            .build();
        Ok((entry, size_bytes))
    }

    /// Puts entries until all are accepted; those that were are not put again.
    async fn put(&self, mut entries: Vec<PutEventsRequestEntry>) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let output = self
                .client
                .put_events()
                .set_entries(Some(entries.clone()))
                .send()
                .await
                .map_err(|error| unexpected("PutEvents", error))?;
            if output.failed_entry_count() == 0 {
                return Ok(());
            }
            let mut failed = Vec::new();
            let mut reason = String::new();
            for (index, entry) in entries.into_iter().enumerate() {
                let result = output.entries().get(index);
                if result.is_some_and(|result| result.error_code().is_none()) {
                    continue;
                }
                let code = result.and_then(|result| result.error_code()).unwrap_or("no result");
                let message = result.and_then(|result| result.error_message()).unwrap_or_default();
                reason = format!("`{code}`: {message}");
                if result.is_some() && !is_retryable(code) {
                    let kind = match code {
                        "NotAuthorizedForSourceException" | "AccessDeniedException" => ErrorKind::Forbidden,
                        "MalformedDetail" | "InvalidArgument" => ErrorKind::Invalid,
                        _ => ErrorKind::Internal,
                    };
                    let detail_type = entry.detail_type().unwrap_or_default();
                    return Err(Error::new(
                        kind,
                        format!("EventBridge refused an event `{detail_type}` with {reason}"),
                    ));
                }
                failed.push(entry);
            }
            if attempt == ATTEMPTS {
                let num_failed = failed.len();
                return Err(Error::unavailable(format!("EventBridge did not take {num_failed} events: {reason}")));
            }
            tracing::debug!(num_failed = failed.len(), reason, "EventBridge did not take all events");
            entries = failed;
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }
}

fn is_retryable(code: &str) -> bool {
    code == "InternalException" || NOT_NOW.contains(&code)
}

#[async_trait]
impl Events for EventBridge {
    async fn publish(&self, events: Vec<Event>) -> Result<()> {
        check_events(events.len())?;
        let entries = events.iter().map(|event| self.entry(event)).collect::<Result<Vec<_>>>()?;
        let mut call = Vec::new();
        let mut call_bytes = 0;
        for (entry, size_bytes) in entries {
            if call_bytes + size_bytes > MAX_BYTES {
                self.put(std::mem::take(&mut call)).await?;
                call_bytes = 0;
            }
            call_bytes += size_bytes;
            call.push(entry);
        }
        self.put(call).await
    }
}
