//! What the in-process bus does beyond the port.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use moola_core::memory::{MemoryTable, SequentialIds};
use moola_core::ports::{Event, EventFilter, EventHandler, Events};
use moola_core::testkit::Recorder;
use moola_core::{Error, Result};
use moola_local::{EventsConfig, LocalEvents};
use serde_json::json;

fn event(id: &str) -> Event {
    Event {
        id: id.into(),
        source: "moola".into(),
        detail_type: "Stage Changed".into(),
        time_ms: 1,
        correlation_id: "chain".into(),
        detail: json!({}),
    }
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.id.as_str()).collect()
}

struct Broken(AtomicU32);

#[async_trait]
impl EventHandler for Broken {
    async fn handle(&self, event: &Event) -> Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match event.id.as_str() {
            "panic" => panic!("as expected"),
            "down" => Err(Error::unavailable("still down")),
            _ => Err(Error::internal("broken").with_source(Error::corrupt("the cause"))),
        }
    }
}

#[tokio::test]
async fn what_cannot_be_handled_is_put_aside_with_its_cause() {
    let config = EventsConfig { max_attempts: 3, backoff: Duration::from_millis(1), ..EventsConfig::default() };
    let events = LocalEvents::open(Arc::new(MemoryTable::new()), Arc::new(SequentialIds::new()), config).await.unwrap();
    let broken = Arc::new(Broken(AtomicU32::new(0)));
    events.subscribe("broken", EventFilter::all(), broken.clone());
    events.publish(["panic", "down", "bad"].map(event).to_vec()).await.unwrap();
    while events.num_waiting("broken").await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(broken.0.load(Ordering::SeqCst), 1 + 3 + 1, "only what is retryable comes again, and not for ever");
    let dead = events.dead(10).await.unwrap();
    let found: Vec<(&str, &str)> = dead.iter().map(|dead| (dead.event.id.as_str(), dead.error.as_str())).collect();
    assert_eq!(found, [("bad", "broken: the cause"), ("down", "still down"), ("panic", "the handler panicked")]);
    assert!(dead.iter().all(|dead| dead.subscriber == "broken"));
}

/// Never answers.
struct Stuck(Arc<Recorder>);

#[async_trait]
impl EventHandler for Stuck {
    async fn handle(&self, event: &Event) -> Result<()> {
        self.0.handle(event).await?;
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_was_not_handled_comes_again_after_a_restart_in_order() {
    let table = Arc::new(MemoryTable::new());
    let ids = Arc::new(SequentialIds::new());
    let open = async || LocalEvents::open(table.clone(), ids.clone(), EventsConfig::default()).await.unwrap();
    let seen = Recorder::new();
    {
        let events = open().await;
        events.subscribe("slow", EventFilter::all(), Arc::new(Stuck(seen.clone())));
        events.publish(vec![event("1"), event("2")]).await.unwrap();
        events.publish(vec![event("3")]).await.unwrap();
        seen.wait("the first delivery", |events| !events.is_empty()).await;
    }
    let events = open().await;
    let again = Recorder::new();
    events.subscribe("slow", EventFilter::all(), again.clone());
    let came = again.wait("the deliveries after the restart", |events| events.len() == 3).await;
    assert_eq!(names(&came), ["1", "2", "3"]);
    assert_eq!(names(&seen.events()), ["1"], "the replaced subscriber was told more");
}

#[tokio::test]
async fn the_log_is_newest_first_and_bounded() {
    let table = Arc::new(MemoryTable::new());
    let config = EventsConfig { max_log_events: 10, ..EventsConfig::default() };
    let ids = Arc::new(SequentialIds::new());
    for _ in 0..2 {
        let events = LocalEvents::open(table.clone(), ids.clone(), config.clone()).await.unwrap();
        for batch in 0..40 {
            events.publish((0..10).map(|index| event(&format!("{}", batch * 10 + index))).collect()).await.unwrap();
        }
        assert_eq!(names(&events.history(3).await.unwrap()), ["399", "398", "397"]);
        let num_logged = events.history(1_000).await.unwrap().len();
        assert!((10..=266).contains(&num_logged), "{num_logged} events in the log");
    }
}
