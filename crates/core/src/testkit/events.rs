use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use serde_json::json;

use super::{Recorder, at_once, ok, refused};
use crate::error::{Error, ErrorKind, Result};
use crate::ports::{Event, EventFilter, EventHandler, Events};

/// A bus and how to subscribe to it. What is published must come without further help.
#[async_trait]
pub trait EventsUnderTest: Send + Sync {
    /// The bus.
    fn events(&self) -> Arc<dyn Events>;

    /// Adds a subscriber.
    async fn subscribe(&self, name: &str, filter: EventFilter, handler: Arc<dyn EventHandler>);
}

/// Checks [`Events`]; `make` makes a bus without subscribers.
///
/// # Panics
/// Where a promise is broken.
pub async fn events<T: EventsUnderTest + 'static>(make: impl AsyncFn() -> Arc<T>) {
    to_every_subscriber(&*make().await).await;
    failures(&*make().await).await;
    many_at_once(&*make().await).await;
}

fn event(id: &str, source: &str, detail_type: &str) -> Event {
    Event {
        id: id.into(),
        source: source.into(),
        detail_type: detail_type.into(),
        time_ms: 1_767_571_200_123,
        correlation_id: format!("chain of {id}"),
        detail: json!({ "version": 1, "id": id, "list": [1, 2.5, null, "ä"], "nested": { "deep": { "er": true } } }),
    }
}

fn ids(events: &[Event]) -> BTreeSet<&str> {
    events.iter().map(|event| event.id.as_str()).collect()
}

async fn to_every_subscriber(bus: &dyn EventsUnderTest) {
    let events = bus.events();
    refused(events.publish(vec![]).await, ErrorKind::Invalid, "no events");
    let eleven = (0..11).map(|index| event(&index.to_string(), "moola", "Drift Detected")).collect();
    refused(events.publish(eleven).await, ErrorKind::Invalid, "too many events");
    ok(events.publish(vec![event("nobody", "moola", "Drift Detected")]).await, "without subscribers");

    let (all, drift, schedule) = (Recorder::new(), Recorder::new(), Recorder::new());
    bus.subscribe("all", EventFilter::all(), all.clone()).await;
    bus.subscribe("drift", EventFilter::of("moola", ["Drift Detected", "Decay Detected"]), drift.clone()).await;
    bus.subscribe("schedule", EventFilter::of("moola.schedule", Vec::<String>::new()), schedule.clone()).await;
    let published = vec![
        event("1", "moola", "Drift Detected"),
        event("2", "moola", "Stage Changed"),
        event("3", "moola.schedule", "Drift Check Due"),
        event("4", "moola.schedule", "Drift Detected"),
        event("5", "moola", "Decay Detected"),
    ];
    ok(events.publish(published.clone()).await, "publish");
    let came = all.wait("the delivery of all events", |events| ids(events).len() == 5).await;
    for event in &published {
        assert!(came.contains(event), "event `{}` came otherwise or not at all", event.id);
    }
    let came = drift.wait("the delivery of events about drift", |events| ids(events).len() >= 2).await;
    assert_eq!(ids(&came), BTreeSet::from(["1", "5"]));
    let came = schedule.wait("the delivery of events of schedules", |events| ids(events).len() >= 2).await;
    assert_eq!(ids(&came), BTreeSet::from(["3", "4"]));
}

/// Fails in the way that an event's id says.
struct Failing {
    attempts: AtomicU32,
    handled: Arc<Recorder>,
}

#[async_trait]
impl EventHandler for Failing {
    async fn handle(&self, event: &Event) -> Result<()> {
        match event.id.as_str() {
            "later" if self.attempts.fetch_add(1, Ordering::SeqCst) < 2 => Err(Error::unavailable("not yet")),
            "never" => Err(Error::internal("cannot be handled")),
            _ => self.handled.handle(event).await,
        }
    }
}

async fn failures(bus: &dyn EventsUnderTest) {
    let (handled, other) = (Recorder::new(), Recorder::new());
    let failing = Arc::new(Failing { attempts: AtomicU32::new(0), handled: handled.clone() });
    bus.subscribe("failing", EventFilter::all(), failing.clone()).await;
    bus.subscribe("other", EventFilter::all(), other.clone()).await;
    let published = ["never", "later", "good"].map(|id| event(id, "moola", "Stage Changed")).to_vec();
    ok(bus.events().publish(published).await, "publish");
    let came = handled.wait("the delivery after failures", |events| ids(events).len() == 2).await;
    assert_eq!(ids(&came), BTreeSet::from(["good", "later"]));
    assert!(failing.attempts.load(Ordering::SeqCst) >= 3, "a retryable failure brought the event again");
    other.wait("the delivery to the other subscriber", |events| ids(events).len() == 3).await;
}

async fn many_at_once(bus: &dyn EventsUnderTest) {
    let recorder = Recorder::new();
    bus.subscribe("many", EventFilter::all(), recorder.clone()).await;
    let results = at_once(16, |index| {
        let events = bus.events();
        async move {
            for round in 0..3 {
                let batch = (0..5)
                    .map(|number| event(&format!("{index}-{round}-{number}"), "moola", "Stage Changed"))
                    .collect();
                events.publish(batch).await?;
            }
            Ok(())
        }
    })
    .await;
    results.into_iter().for_each(|result| ok(result, "publish"));
    recorder.wait("the delivery of 240 events", |events| ids(events).len() == 240).await;
}
