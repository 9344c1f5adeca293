//! Events in EventBridge's envelope.
//!
//! EventBridge gives every event an id of its own and keeps times to the second. So an event of moola carries what must
//! not change in its detail, in a reserved field that is taken out again:
//!
//! ```json
//! {"version": 1, "model": "sp500", "moola": {"id": "01k...", "correlation_id": "drift-7", "time_ms": 1767571200123}}
//! ```
//!
//! Firings of EventBridge Scheduler carry `"moola": {"id": "<schedule>@<time>", "scheduled": "<time>", ...}`, in which the
//! Scheduler writes the time that was due: the same however often it tries, so that a repetition is recognised by its id.

use jiff::Timestamp;
use moola_core::ports::{CORRELATION_TAG, Event};
use moola_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The field of an event's detail that belongs to the envelope.
const RESERVED: &str = "moola";
/// What starts a word that EventBridge Scheduler replaces.
const PLACEHOLDER: &str = "<aws.scheduler.";

/// What the reserved field holds.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Reserved {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ms: Option<i64>,
    /// Of a firing: when it was due.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled: Option<String>,
    /// Of a firing: what its schedule was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<Template>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Template {
    id: String,
    time_ms: i64,
}

/// The detail under which EventBridge carries `event`, as JSON text.
///
/// # Errors
/// `Invalid` where its detail is no object, or has a field `moola` already.
pub fn encode_detail(event: &Event) -> Result<String> {
    let reserved = Reserved {
        id: Some(event.id.clone()),
        correlation_id: Some(event.correlation_id.clone()),
        time_ms: Some(event.time_ms),
        ..Reserved::default()
    };
    encode(&event.detail, &reserved)
}

/// Reads what EventBridge delivers: an event of moola, a firing of a schedule or an event of an AWS service.
///
/// An event without the reserved field keeps the envelope's id and time; it belongs to the chain that its detail's tag
/// `correlation_id` names, else to its detail's `jobId` (of a child the parent's), else to itself.
///
/// # Errors
/// `Invalid`, naming the field.
pub fn decode_event(envelope: &Value) -> Result<Event> {
    let text = |field: &str| {
        let value = envelope.get(field).unwrap_or(&Value::Null);
        value.as_str().map(str::to_owned).ok_or_else(|| Error::invalid(&format!("event.{field}"), value, "text"))
    };
    let mut detail = object("event.detail", envelope.get("detail").unwrap_or(&Value::Null))?.clone();
    let (source, detail_type, own_id) = (text("source")?, text("detail-type")?, text("id")?);
    let own_time_ms = || {
        let time = text("time")?;
        time_ms(&time).ok_or_else(|| Error::invalid("event.time", &time, "a time such as `2026-01-05T00:00:00Z`"))
    };
    let Some(reserved) = detail.remove(RESERVED) else {
        let detail = Value::Object(detail);
        let tag = detail.pointer(&format!("/tags/{CORRELATION_TAG}")).and_then(Value::as_str);
        let job = detail.get("jobId").and_then(Value::as_str).and_then(|id| id.split(':').next());
        let correlation_id = tag.or(job).filter(|id| !id.is_empty()).unwrap_or(&own_id).to_owned();
        return Ok(Event { id: own_id, source, detail_type, time_ms: own_time_ms()?, correlation_id, detail });
    };
    let reserved = read_reserved(reserved)?;
    let id = reserved.id.filter(|id| !id.contains(PLACEHOLDER)).unwrap_or(own_id);
    let time_ms = match reserved.time_ms.or_else(|| reserved.scheduled.as_deref().and_then(time_ms)) {
        Some(time_ms) => time_ms,
        None => own_time_ms()?,
    };
    let correlation_id = match (reserved.correlation_id, reserved.template) {
        (Some(correlation_id), None) => correlation_id,
        (Some(correlation_id), Some(_)) if !correlation_id.is_empty() => correlation_id,
        _ => id.clone(),
    };
    Ok(Event { id, source, detail_type, time_ms, correlation_id, detail: Value::Object(detail) })
}

/// What EventBridge Scheduler publishes as the detail of the firings of the schedule `name`.
#[cfg(feature = "events")]
pub(crate) fn encode_template(name: &str, event: &Event) -> Result<String> {
    let reserved = Reserved {
        id: Some(format!("{name}@{PLACEHOLDER}scheduled-time>")),
        correlation_id: Some(event.correlation_id.clone()),
        time_ms: None,
        scheduled: Some(format!("{PLACEHOLDER}scheduled-time>")),
        template: Some(Template { id: event.id.clone(), time_ms: event.time_ms }),
    };
    encode(&event.detail, &reserved)
}

/// The event that [`encode_template`] was given.
#[cfg(feature = "events")]
pub(crate) fn decode_template(source: &str, detail_type: &str, input: &str) -> Result<Event> {
    let value: Value = serde_json::from_str(input)
        .map_err(|error| Error::invalid("input", input, "the detail of an event").with_source(error))?;
    let mut detail = object("input", &value)?.clone();
    let reserved = read_reserved(detail.remove(RESERVED).unwrap_or_default())?;
    let template = reserved.template.ok_or_else(|| Error::invalid("input", input, "`moola.template`"))?;
    Ok(Event {
        id: template.id,
        source: source.to_owned(),
        detail_type: detail_type.to_owned(),
        time_ms: template.time_ms,
        correlation_id: reserved.correlation_id.unwrap_or_default(),
        detail: Value::Object(detail),
    })
}

fn encode(detail: &Value, reserved: &Reserved) -> Result<String> {
    let mut detail = object("detail", detail)?.clone();
    let reserved = serde_json::to_value(reserved)
        .map_err(|error| Error::internal("an event cannot be serialised").with_source(error))?;
    if let Some(value) = detail.insert(RESERVED.to_owned(), reserved) {
        return Err(Error::invalid("detail.moola", value, "no such field: it is reserved"));
    }
    Ok(Value::Object(detail).to_string())
}

fn object<'a>(field: &str, value: &'a Value) -> Result<&'a Map<String, Value>> {
    value.as_object().ok_or_else(|| Error::invalid(field, value, "an object"))
}

fn read_reserved(value: Value) -> Result<Reserved> {
    Reserved::deserialize(&value).map_err(|error| {
        let expected = "an object of `id`, `correlation_id`, `time_ms`, `scheduled`";
        Error::invalid("detail.moola", &value, expected).with_source(error)
    })
}

fn time_ms(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests;
