//! Events and schedules.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_eventbridge::types::{InputTransformer, Target};
use aws_sdk_sqs::types::QueueAttributeName;
use axum::Router;
use axum::routing::post;
use moola_aws::{EventBridge, Scheduler, decode_event};
use moola_core::ErrorKind;
use moola_core::ports::{Event, EventFilter, EventHandler, Events, Schedule, Schedules};
use moola_core::testkit::{self, EventsUnderTest, Recorder};
use moola_tests::emulator::{Emulator, sdk_config, unique_name};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// What a queue on a rule gets, handed to a handler until it is dropped.
pub(super) struct Subscription(JoinHandle<()>);

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes a rule on `bus` with a queue, and hands what comes there to `handler`, as a function on that queue would.
pub(super) async fn subscribe(
    config: &SdkConfig,
    bus: &str,
    pattern: &str,
    transformer: Option<InputTransformer>,
    handler: Arc<dyn EventHandler>,
) -> Subscription {
    let (sqs, eventbridge) = (aws_sdk_sqs::Client::new(config), aws_sdk_eventbridge::Client::new(config));
    let name = unique_name("subscriber");
    let url = sqs.create_queue().queue_name(&name).send().await.unwrap().queue_url.unwrap();
    let attributes = sqs.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::QueueArn);
    let attributes = attributes.send().await.unwrap().attributes.unwrap();
    eventbridge.put_rule().name(&name).event_bus_name(bus).event_pattern(pattern).send().await.unwrap();
    let target = Target::builder().id("queue").arn(&attributes[&QueueAttributeName::QueueArn]);
    let target = target.set_input_transformer(transformer).build().unwrap();
    eventbridge.put_targets().rule(&name).event_bus_name(bus).targets(target).send().await.unwrap();
    Subscription(tokio::spawn(async move {
        loop {
            let received = sqs.receive_message().queue_url(&url).max_number_of_messages(10).wait_time_seconds(1);
            for message in received.send().await.unwrap().messages.unwrap_or_default() {
                let body: Value = serde_json::from_str(message.body().unwrap()).unwrap();
                let handled = match decode_event(&body) {
                    Ok(event) => handler.handle(&event).await,
                    Err(error) => Err(error),
                };
                let receipt = message.receipt_handle().unwrap();
                if handled.is_err_and(|error| error.is_retryable()) {
                    let again = sqs.change_message_visibility().queue_url(&url).receipt_handle(receipt);
                    again.visibility_timeout(0).send().await.unwrap();
                } else {
                    sqs.delete_message().queue_url(&url).receipt_handle(receipt).send().await.unwrap();
                }
            }
        }
    }))
}

/// A rule's pattern that lets through what `filter` does.
fn pattern(filter: &EventFilter) -> String {
    let mut pattern = json!({ "source": [{ "prefix": "" }] });
    if let Some(source) = &filter.source {
        pattern["source"] = json!([source]);
    }
    if !filter.detail_types.is_empty() {
        pattern["detail-type"] = json!(filter.detail_types);
    }
    pattern.to_string()
}

async fn create_bus(config: &SdkConfig) -> String {
    let bus = unique_name("bus");
    aws_sdk_eventbridge::Client::new(config).create_event_bus().name(&bus).send().await.unwrap();
    bus
}

struct Bus {
    config: SdkConfig,
    name: String,
    subscriptions: Mutex<BTreeMap<String, Subscription>>,
}

#[async_trait]
impl EventsUnderTest for Bus {
    fn events(&self) -> Arc<dyn Events> {
        Arc::new(EventBridge::new(&self.config, &self.name))
    }

    async fn subscribe(&self, name: &str, filter: EventFilter, handler: Arc<dyn EventHandler>) {
        let subscription = subscribe(&self.config, &self.name, &pattern(&filter), None, handler).await;
        self.subscriptions.lock().unwrap().insert(name.to_owned(), subscription);
    }
}

fn event(id: &str) -> Event {
    Event {
        id: id.into(),
        source: "moola".into(),
        detail_type: "Stage Changed".into(),
        time_ms: 1_767_571_200_123,
        correlation_id: "chain".into(),
        detail: json!({ "version": 1 }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn event_bridge() {
    let Some(emulator) = Emulator::shared() else { return };
    testkit::events(async || {
        let config = emulator.sdk_config().await;
        let name = create_bus(&config).await;
        Arc::new(Bus { config, name, subscriptions: Mutex::default() })
    })
    .await;
}

#[tokio::test]
async fn events_that_eventbridge_does_not_carry_are_refused() {
    let Some(emulator) = Emulator::shared() else { return };
    let config = emulator.sdk_config().await;
    let bus = create_bus(&config).await;
    let events = EventBridge::new(&config, &bus);
    let recorder = Recorder::new();
    let _subscription = subscribe(&config, &bus, &pattern(&EventFilter::all()), None, recorder.clone()).await;

    let text = |size: usize| json!({ "text": "x".repeat(size) });
    let big = Event { detail: text(256 * 1_024), ..event("big") };
    let error = events.publish(vec![event("before"), big]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("event `big`"), "{error}");
    let foreign = Event { source: "aws.batch".into(), ..event("foreign") };
    assert_eq!(events.publish(vec![foreign]).await.unwrap_err().kind(), ErrorKind::Forbidden);

    // Each fits, both together do not.
    let halves = ["one", "two"].map(|id| Event { detail: text(200 * 1_024), ..event(id) });
    events.publish(halves.to_vec()).await.unwrap();
    let came = recorder.wait("two large events", |events| events.len() >= 2).await;
    assert_eq!(came, halves, "nothing of a refused call was published");
}

/// Answers `PutEvents`: the first `num_failures` calls take the first entry alone.
async fn failing_event_bridge(num_failures: u32) -> (String, Arc<Mutex<Vec<usize>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let left = Arc::new(AtomicU32::new(num_failures));
    let seen = calls.clone();
    let answer = move |body: String| async move {
        let num_entries = serde_json::from_str::<Value>(&body).unwrap()["Entries"].as_array().unwrap().len();
        seen.lock().unwrap().push(num_entries);
        let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        let results = (0..num_entries).map(|index| match fails && (index > 0 || num_entries == 1) {
            true => json!({ "ErrorCode": "ThrottlingException", "ErrorMessage": "slower" }),
            false => json!({ "EventId": index.to_string() }),
        });
        let results: Vec<Value> = results.collect();
        let num_failed = results.iter().filter(|result| result["ErrorCode"].is_string()).count();
        json!({ "FailedEntryCount": num_failed, "Entries": results }).to_string()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, Router::new().route("/", post(answer))).into_future());
    (endpoint, calls)
}

#[tokio::test]
async fn only_the_entries_that_failed_are_put_again() {
    let (endpoint, calls) = failing_event_bridge(2).await;
    let events = EventBridge::new(&sdk_config(&endpoint).await, "moola");
    events.publish(["a", "b", "c"].map(event).to_vec()).await.unwrap();
    assert_eq!(*calls.lock().unwrap(), [3, 2, 1]);

    let (endpoint, calls) = failing_event_bridge(u32::MAX).await;
    let events = EventBridge::new(&sdk_config(&endpoint).await, "moola");
    let error = events.publish(vec![event("a")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("slower"), "{error}");
    assert_eq!(*calls.lock().unwrap(), [1; 5]);
}

const ROLE: &str = "arn:aws:iam::000000000000:role/moola-scheduler";

async fn scheduler(config: &SdkConfig, bus: &str) -> Arc<Scheduler> {
    let group = unique_name("group");
    aws_sdk_scheduler::Client::new(config).create_schedule_group().name(&group).send().await.unwrap();
    Arc::new(Scheduler::new(config, group, ROLE, bus))
}

#[tokio::test]
async fn schedules_are_kept() {
    let Some(emulator) = Emulator::shared() else { return };
    let config = emulator.sdk_config().await;
    let bus = create_bus(&config).await;
    testkit::schedules(async || scheduler(&config, &bus).await).await;
}

fn drift_check(name: &str, expression: &str) -> Schedule {
    let detail_type = "Drift Check Due".into();
    let event =
        Event { source: "moola.schedule".into(), detail_type, correlation_id: String::new(), ..event("template") };
    Schedule { name: name.into(), expression: expression.parse().unwrap(), enabled: true, event }
}

#[tokio::test]
async fn schedules_that_the_scheduler_cannot_keep_are_refused() {
    let Some(emulator) = Emulator::shared() else { return };
    let config = emulator.sdk_config().await;
    let schedules = scheduler(&config, &create_bus(&config).await).await;
    let error = schedules.put(drift_check("often", "rate(10 seconds)")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("whole minutes"), "{error}");
    assert_eq!(schedules.list().await.unwrap(), []);

    let nowhere = Scheduler::new(&config, "default", ROLE, "no-such-bus");
    assert!(nowhere.put(drift_check("a", "rate(1 day)")).await.is_err(), "the bus does not exist");
}

#[tokio::test]
#[ignore = "the emulator looks every 10 s, and a rate is at least a minute"]
async fn schedules_fire() {
    let Some(emulator) = Emulator::shared() else { return };
    let config = emulator.sdk_config().await;
    let bus = create_bus(&config).await;
    let recorder = Recorder::new();
    // The emulator gives its firings a source and a type of their own.
    let pattern = json!({ "source": ["aws.scheduler", "moola.schedule"] }).to_string();
    let _subscription = subscribe(&config, &bus, &pattern, None, recorder.clone()).await;
    let schedules = scheduler(&config, &bus).await;
    let schedule = drift_check("minutely", "rate(1 minute)");
    schedules.put(schedule.clone()).await.unwrap();
    moola_tests::until("the firing", std::time::Duration::from_secs(150), async || recorder.events().pop()).await;
    schedules.delete("minutely").await.unwrap();
    let fired = recorder.events();
    assert_eq!((fired.len(), &fired[0].detail), (1, &schedule.event.detail));
    assert!(!fired[0].id.is_empty() && fired[0].correlation_id == fired[0].id);
}
