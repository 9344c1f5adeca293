//! Changes of state together with the events that tell of them.
//!
//! A change and its events must not come apart in a crash. So the events are written into the outbox, a partition of the
//! table, in the same transaction as the change ([`Ports::commit`]), then published and taken out. What a crash left in
//! the outbox is published by [`Ports::relay_outbox`], at start and before every scheduled drift check. Delivery is at least once.

use serde_json::{Value, json};
use tracing::{error, warn};

use crate::error::{Error, Result};
use crate::ports::{Condition, Event, Key, Ports, Query, Write};

const OUTBOX: &str = "outbox";

impl Ports {
    /// Makes an event of source `moola`; `detail` must be an object, and gets `"version": 1`.
    #[must_use]
    pub fn event(&self, detail_type: &str, correlation_id: &str, mut detail: Value) -> Event {
        if let Some(object) = detail.as_object_mut() {
            object.insert("version".into(), json!(1));
        }
        Event {
            id: self.ids.new_id(),
            source: "moola".into(),
            detail_type: detail_type.into(),
            time_ms: self.clock.now_ms(),
            correlation_id: correlation_id.into(),
            detail,
        }
    }

    /// Applies all writes or none, and makes sure that the events are published if they were applied.
    ///
    /// # Errors
    /// Those of [`crate::ports::Table::write`]. That an event could not be published yet is no error.
    pub async fn commit(&self, mut writes: Vec<Write>, events: Vec<Event>) -> Result<()> {
        for event in &events {
            let value = serde_json::to_value(event).map_err(|e| Error::internal("event").with_source(e))?;
            writes.push(Write::Put { key: Key::new(OUTBOX, &event.id), value, condition: Condition::Always });
        }
        self.table.write(writes).await?;
        for event in events {
            if let Err(error) = self.publish_and_forget(event).await {
                warn!(error = error.chain(), "an event stays in the outbox for now");
            }
        }
        Ok(())
    }

    /// Publishes what is left in the outbox; returns how many events that were. One that can never be published stays there,
    /// is logged, and does not hold up the others.
    ///
    /// # Errors
    /// Those of the table and of the events.
    pub async fn relay_outbox(&self) -> Result<usize> {
        let mut num_events = 0;
        let mut query = Query::prefix(OUTBOX, "");
        loop {
            let page = self.table.query(&query).await?;
            for item in page.items {
                let sort = item.key.sort.clone();
                let published = match decode::<Event>(item.key, item.value) {
                    Ok(event) => self.publish_and_forget(event).await,
                    Err(error) => Err(error),
                };
                match published {
                    Ok(()) => num_events += 1,
                    Err(error) if error.is_retryable() => return Err(error),
                    Err(error) => error!(event_id = sort, error = error.chain(), "an event cannot be published"),
                }
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(num_events),
            }
        }
    }

    async fn publish_and_forget(&self, event: Event) -> Result<()> {
        let key = Key::new(OUTBOX, &event.id);
        self.events.publish(vec![event]).await?;
        self.table.write(vec![Write::Delete { key, condition: Condition::Always }]).await
    }

    /// Reads and decodes an item.
    ///
    /// # Errors
    /// Those of the table; `Corrupt` where the item cannot be decoded.
    pub(crate) async fn read<T: serde::de::DeserializeOwned>(&self, key: &Key) -> Result<Option<(T, u64)>> {
        let Some(item) = self.table.get(key).await? else { return Ok(None) };
        let revision = item.revision;
        Ok(Some((decode(item.key, item.value)?, revision)))
    }

    /// Reads and decodes all items of a partition whose sort key starts with `prefix`.
    ///
    /// # Errors
    /// Those of the table; `Corrupt` where an item cannot be decoded.
    pub(crate) async fn read_all<T: serde::de::DeserializeOwned>(
        &self,
        mut query: Query,
        max: usize,
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        loop {
            query.limit = query.limit.min(max - all.len()).max(1);
            let page = self.table.query(&query).await?;
            for item in page.items {
                all.push(decode(item.key, item.value)?);
            }
            match page.next {
                Some(next) if all.len() < max => query.after = Some(next),
                _ => return Ok(all),
            }
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(key: Key, value: Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|e| Error::corrupt(format!("item `{}` of `{}`", key.sort, key.partition)).with_source(e))
}

/// Makes the write that puts `value`.
///
/// # Errors
/// `Internal` where the value has no JSON form.
pub(crate) fn put<T: serde::Serialize>(key: Key, value: &T, condition: Condition) -> Result<Write> {
    let value = serde_json::to_value(value).map_err(|e| Error::internal("encoding an item").with_source(e))?;
    Ok(Write::Put { key, value, condition })
}

/// The condition under which an item read as `revision` (`None`: absent) may be replaced.
pub(crate) fn unchanged(revision: Option<u64>) -> Condition {
    revision.map_or(Condition::Absent, Condition::Revision)
}

/// Encodes a document for people and programs: JSON, indented, with a newline at the end.
///
/// # Errors
/// `Internal` where the value has no JSON form.
pub fn to_json_bytes<T: serde::Serialize>(value: &T) -> Result<bytes::Bytes> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::internal("encoding JSON").with_source(e))?;
    text.push(b'\n');
    Ok(text.into())
}

/// Decodes a stored document.
///
/// # Errors
/// `Corrupt`, naming the blob.
pub fn from_json_bytes<T: serde::de::DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::corrupt(format!("blob `{key}`")).with_source(e))
}

/// SHA-256 of bytes, in hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}
