//! Schedules over restarts.

use std::sync::Arc;

use moola_core::memory::{ManualClock, MemoryEvents, MemoryTable, START_MS};
use moola_core::ports::{Clock, Event, Schedule, Schedules};
use moola_local::LocalSchedules;
use serde_json::json;

fn schedule(expression: &str) -> Schedule {
    let event = Event {
        id: String::new(),
        source: "moola.schedule".into(),
        detail_type: "Drift Check Due".into(),
        time_ms: 0,
        correlation_id: String::new(),
        detail: json!({}),
    };
    Schedule { name: "check".into(), expression: expression.parse().unwrap(), enabled: true, event }
}

#[tokio::test]
async fn restarts_fire_what_was_missed_once_and_nothing_twice() {
    let table = Arc::new(MemoryTable::new());
    let events = Arc::new(MemoryEvents::new());
    let clock = Arc::new(ManualClock::new(START_MS));
    let start = async || {
        let schedules = LocalSchedules::new(table.clone(), events.clone(), clock.clone());
        schedules.start();
        schedules.settle().await.unwrap();
        schedules
    };
    start().await.put(schedule("rate(1 hour)")).await.unwrap();
    for (minutes, num_fired) in [(59, 0), (60, 1), (60, 1), (61, 1), (60 * 5 + 30, 2), (60 * 5 + 30, 2), (60 * 6, 3)] {
        clock.set_ms(START_MS + minutes * 60_000);
        drop(start().await);
        assert_eq!(events.published().len(), num_fired, "after {minutes} minutes");
    }
    let fired: Vec<i64> = events.published().iter().map(|event| (event.time_ms - START_MS) / 60_000).collect();
    assert_eq!(fired, [60, 120, 360]);
}

#[tokio::test]
async fn the_task_sleeps_until_the_next_firing() {
    let events = Arc::new(MemoryEvents::new());
    let clock = Arc::new(moola_core::system::SystemClock);
    let schedules = LocalSchedules::new(Arc::new(MemoryTable::new()), events.clone(), clock.clone());
    schedules.start();
    // Without help from `settle`: the task wakes by itself.
    let started_ms = clock.now_ms();
    schedules.put(schedule("rate(1 second)")).await.unwrap();
    while events.published().len() < 2 {
        assert!(clock.now_ms() - started_ms < 30_000, "the schedule does not fire");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(clock.now_ms() - started_ms >= 2_000, "fired too early");
}
