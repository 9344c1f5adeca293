use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Unique; consumers are idempotent by it.
    pub id: String,
    /// Who says so: `moola`, `aws.batch`, `moola.schedule`.
    pub source: String,
    /// What, in the past tense: `Model Version Registered`, `Drift Detected`.
    pub detail_type: String,
    /// When, milliseconds since the epoch.
    pub time_ms: i64,
    /// Ties a chain of events together: drift, retrain, promotion.
    pub correlation_id: String,
    /// The rest, with a `version` of its shape.
    pub detail: Value,
}

/// Which events a subscriber wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only from this source; `None` for all.
    pub source: Option<String>,
    /// Only of these types; empty for all.
    pub detail_types: Vec<String>,
}

impl EventFilter {
    /// All events.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The events of `source` of the types `detail_types` (none: of all types).
    pub fn of<T: Into<String>>(source: impl Into<String>, detail_types: impl IntoIterator<Item = T>) -> Self {
        Self { source: Some(source.into()), detail_types: detail_types.into_iter().map(Into::into).collect() }
    }

    /// Whether the subscriber wants `event`.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        self.source.as_ref().is_none_or(|source| *source == event.source)
            && (self.detail_types.is_empty() || self.detail_types.contains(&event.detail_type))
    }
}

/// An event that a subscriber could not handle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadEvent {
    /// The subscriber.
    pub subscriber: String,
    /// The event.
    pub event: Event,
    /// The error and its causes.
    pub error: String,
}

/// Told about events.
#[async_trait]
pub trait EventHandler: Send + Sync {
    /// Handles an event that may have been handled before, and may come out of order.
    ///
    /// # Errors
    /// A retryable error brings the event again later; any other is logged and the event put aside as dead.
    async fn handle(&self, event: &Event) -> Result<()>;
}

/// Tells about events.
#[async_trait]
pub trait Events: Send + Sync {
    /// Accepts events; each is delivered at least once to every subscriber from here on, whatever crashes.
    /// An event whose id was accepted before may be delivered again.
    ///
    /// # Errors
    /// `Invalid` where there are none or more than 10, `Unavailable`.
    async fn publish(&self, events: Vec<Event>) -> Result<()>;
}
