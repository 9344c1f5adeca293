//! What happened, for people: every event that passed, newest first.
//!
//! Events are items of the table, `events/<yyyy-mm-dd>` by time, and expire after [`RETENTION_DAYS`] where the table
//! lets items expire.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::commit::put;
use crate::error::{Error, ErrorKind, Result};
use crate::ports::{Condition, Event, Key, Ports, Query};

/// How long events are kept.
pub const RETENTION_DAYS: i64 = 90;
/// How many days are looked through.
const MAX_DAYS: i64 = 30;
const DAY_MS: i64 = 86_400_000;

#[derive(Serialize, Deserialize)]
struct Record {
    event: Event,
    /// Seconds since the epoch.
    expires_at: i64,
}

fn partition(time_ms: i64) -> Result<String> {
    let time = Timestamp::from_millisecond(time_ms)
        .map_err(|error| Error::invalid("time_ms", time_ms, "a time").with_source(error))?;
    Ok(format!("events/{}", time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d")))
}

/// Keeps an event; one that is kept already stays as it is.
///
/// # Errors
/// Those of the table.
pub async fn record(ports: &Ports, event: &Event) -> Result<()> {
    let key = Key::new(partition(event.time_ms)?, format!("{:013}-{}", event.time_ms, event.id));
    let expires_at = event.time_ms / 1000 + RETENTION_DAYS * DAY_MS / 1000;
    let write = put(key, &Record { event: event.clone(), expires_at }, Condition::Absent)?;
    match ports.table.write(vec![write]).await {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        done => done,
    }
}

/// The latest events, the newest first, at most `limit`.
///
/// # Errors
/// Those of the table.
pub async fn recent(ports: &Ports, limit: usize) -> Result<Vec<Event>> {
    let now_ms = ports.clock.now_ms();
    let mut events = Vec::new();
    // Tomorrow too: clocks differ.
    for day in -1..MAX_DAYS {
        let mut query = Query::prefix(partition(now_ms - day * DAY_MS)?, "");
        query.descending = true;
        let records: Vec<Record> = ports.read_all(query, limit - events.len()).await?;
        events.extend(records.into_iter().map(|record| record.event));
        if events.len() >= limit {
            break;
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::memory::Memory;

    #[tokio::test]
    async fn events_come_newest_first_over_the_days_and_once() {
        let memory = Memory::new();
        let ports = memory.ports();
        let now_ms = ports.clock.now_ms();
        for day in [0, 3, 1] {
            let mut event = ports.event("Drift Detected", "chain", json!({"day": day}));
            event.time_ms = now_ms - day * DAY_MS;
            record(&ports, &event).await.unwrap();
            record(&ports, &event).await.unwrap();
        }
        let days =
            |events: &[Event]| events.iter().map(|event| event.detail["day"].as_i64().unwrap()).collect::<Vec<_>>();
        assert_eq!(days(&recent(&ports, 10).await.unwrap()), [0, 1, 3]);
        assert_eq!(days(&recent(&ports, 2).await.unwrap()), [0, 1]);
    }
}
