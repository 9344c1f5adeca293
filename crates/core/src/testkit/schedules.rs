use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::{Recorder, ok, refused};
use crate::error::ErrorKind;
use crate::memory::ManualClock;
use crate::ports::{Clock, Event, Schedule, Schedules};

/// Schedules whose time the suite moves.
#[async_trait]
pub trait SchedulesUnderTest: Send + Sync {
    /// The schedules.
    fn schedules(&self) -> &dyn Schedules;

    /// Their clock.
    fn clock(&self) -> &ManualClock;

    /// What they published.
    fn recorder(&self) -> &Recorder;

    /// Returns when everything that is due by the clock has been delivered.
    async fn settle(&self);
}

fn schedule(name: &str, expression: &str) -> Schedule {
    Schedule {
        name: name.into(),
        expression: expression.parse().unwrap_or_else(|error| panic!("{expression}: {error}")),
        enabled: true,
        event: Event {
            id: "template".into(),
            source: "moola.schedule".into(),
            detail_type: "Drift Check Due".into(),
            time_ms: 0,
            correlation_id: String::new(),
            detail: json!({ "version": 1, "model": name }),
        },
    }
}

/// Checks how [`Schedules`] are kept; `make` makes an empty set.
///
/// # Panics
/// Where a promise is broken.
pub async fn schedules<T: Schedules + 'static>(make: impl AsyncFn() -> Arc<T>) {
    let schedules = make().await;
    assert_eq!(ok(schedules.list().await, "list"), []);
    ok(schedules.delete("nothing").await, "delete of nothing");
    let long = "x".repeat(65);
    for name in ["", " ", "a b", "a/b", "ä", &long] {
        let bad = Schedule { name: name.into(), ..schedule("good", "rate(1 hour)") };
        refused(schedules.put(bad).await, ErrorKind::Invalid, &format!("name {name:?}"));
    }
    for expression in ["cron(61 * * * ? *)", "cron(0 0 * * * *)", "cron(0 0 32 * ? *)", "cron(0 0 ? * 9 *)"] {
        refused(schedules.put(schedule("bad", expression)).await, ErrorKind::Invalid, expression);
    }
    assert_eq!(ok(schedules.list().await, "list"), [], "a refused schedule was kept");

    let daily = schedule("daily", "cron(0 18 ? * MON-FRI *)");
    let often = Schedule { enabled: false, ..schedule("a.b-c_9", "rate(5 minutes)") };
    ok(schedules.put(daily.clone()).await, "put");
    ok(schedules.put(often.clone()).await, "put");
    assert_eq!(ok(schedules.list().await, "list"), [often.clone(), daily]);
    let replaced = schedule("daily", "rate(1 day)");
    ok(schedules.put(replaced.clone()).await, "replace");
    assert_eq!(ok(schedules.list().await, "list"), [often.clone(), replaced]);
    ok(schedules.delete("daily").await, "delete");
    assert_eq!(ok(schedules.list().await, "list"), [often]);
}

/// Checks when [`Schedules`] fire; `make` makes an empty set, whose clock stands anywhere.
///
/// # Panics
/// Where a promise is broken.
pub async fn schedules_fire<T: SchedulesUnderTest>(make: impl AsyncFn() -> Arc<T>) {
    let under_test = make().await;
    let (schedules, clock, recorder) = (under_test.schedules(), under_test.clock(), under_test.recorder());
    // A Monday.
    let start_ms = 1_767_571_200_000;
    clock.set_ms(start_ms);
    under_test.settle().await;
    let move_to = async |secs: i64| {
        clock.set_ms(start_ms + secs * 1_000);
        under_test.settle().await;
        recorder.events()
    };

    let mut rate = schedule("rate", "rate(5 minutes)");
    ok(schedules.put(rate.clone()).await, "put");
    assert_eq!(move_to(299).await.len(), 0, "fired too early");
    let fired = move_to(300).await;
    assert_eq!(fired.len(), 1, "did not fire when due");
    assert_eq!(fired[0].detail, rate.event.detail);
    assert_eq!(fired[0].source, rate.event.source);
    assert_eq!(fired[0].time_ms, clock.now_ms());
    assert!(!fired[0].correlation_id.is_empty());
    assert_eq!(move_to(300).await.len(), 1, "fired twice");
    assert_eq!(move_to(599).await.len(), 1, "fired too early");
    let fired = move_to(600).await;
    assert_eq!(fired.len(), 2, "did not fire again");
    assert_ne!(fired[0].id, fired[1].id, "two firings have one id");
    // Missed firings come as one, and the rhythm stays.
    assert_eq!(move_to(1_750).await.len(), 3);
    assert_eq!(move_to(1_799).await.len(), 3);
    assert_eq!(move_to(1_800).await.len(), 4);

    rate.enabled = false;
    ok(schedules.put(rate.clone()).await, "disable");
    assert_eq!(move_to(3_600).await.len(), 4, "a disabled schedule fired");
    rate.enabled = true;
    ok(schedules.put(rate).await, "enable");
    assert_eq!(move_to(3_899).await.len(), 4, "a rate counts from the put");
    assert_eq!(move_to(3_900).await.len(), 5);
    ok(schedules.delete("rate").await, "delete");
    assert_eq!(move_to(7_200).await.len(), 5, "a deleted schedule fired");

    ok(schedules.put(schedule("cron", "cron(30 18 ? * MON-FRI *)")).await, "put");
    ok(schedules.put(schedule("never", "cron(0 0 30 2 ? *)")).await, "put");
    let half_past_six = 18 * 3_600 + 1_800;
    assert_eq!(move_to(half_past_six - 1).await.len(), 5);
    assert_eq!(move_to(half_past_six).await.len(), 6);
    let day = 86_400;
    // Saturday and Sunday are free.
    assert_eq!(move_to(4 * day + half_past_six).await.len(), 7, "four missed days come as one firing");
    assert_eq!(move_to(7 * day + half_past_six - 1).await.len(), 7, "fired at the weekend");
    assert_eq!(move_to(7 * day + half_past_six).await.len(), 8);
}
