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
