//! Everything that happened is told again, twice and backwards: nothing changes.

use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use moola_aws::EventBridge;
use moola_core::ports::{Event, Events as _, JOB_EVENT_SOURCE};
use moola_tests::emulator::Emulator;
use moola_tests::{Api, until};
use serde_json::{Value, json};

use super::platform::Platform;

/// What a user sees of the models, their history and the runs.
async fn state(api: &Api) -> Vec<Value> {
    let mut state = Vec::new();
    for path in [
        "/api/v2/models",
        "/api/v2/models/m",
        "/api/v2/models/m/history",
        "/api/v2/models/m/versions",
        "/api/v2/training/jobs",
        "/api/v2/jobs",
        "/api/v2/drift/m/checks",
    ] {
        state.push(api.get(path).await.ok());
    }
    state
}

async fn num_messages(client: &aws_sdk_sqs::Client, url: &str) -> u64 {
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let answer = client.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.into())).send().await;
    let attributes = answer.unwrap().attributes.unwrap_or_default();
    attributes.values().map(|number| number.parse::<u64>().unwrap()).sum()
}

/// Waits until every function has handled what it was told.
async fn settled(client: &aws_sdk_sqs::Client, platform: &Platform) {
    until("the queues are empty", Duration::from_secs(90), || async {
        let mut waiting = 0;
        for url in platform.made.queues.values() {
            waiting += num_messages(client, url).await;
        }
        (waiting == 0).then_some(())
    })
    .await;
}

/// Tells all events of the log again.
pub(crate) async fn all_events_again_change_nothing(emulator: &Emulator, platform: &Platform) {
    let config = emulator.sdk_config().await;
    let queues = aws_sdk_sqs::Client::new(&config);
    settled(&queues, platform).await;
    let before = state(&platform.api).await;
    let mut answer = platform.api.get("/api/v2/events?limit=10000").await.ok();
    // The newest come first: backwards.
    let events: Vec<Event> = serde_json::from_value(answer["events"].take()).unwrap();
    let kinds: std::collections::BTreeSet<&str> = events.iter().map(|event| event.detail_type.as_str()).collect();
    for kind in
        ["Batch Job State Change", "Model Version Registered", "Gates Judged", "Drift Detected", "Stage Changed"]
    {
        assert!(kinds.contains(kind), "the log has no `{kind}`: {kinds:?}");
    }
    let bus = EventBridge::new(&config, &platform.made.environment["MOOLA_BUS"]);
    for _ in 0..2 {
        for event in &events {
            if event.source == JOB_EVENT_SOURCE {
                // Nobody may publish in the name of AWS Batch: such an event is put where its rule would put it.
                let envelope = json!({
                    "version": "0", "id": event.id, "source": event.source, "detail-type": event.detail_type,
                    "account": "000000000000", "region": "us-east-1", "resources": [], "detail": event.detail,
                    "time": jiff::Timestamp::from_millisecond(event.time_ms).unwrap().to_string(),
                });
                let url = &platform.made.queues["training"];
                queues.send_message().queue_url(url).message_body(envelope.to_string()).send().await.unwrap();
            } else {
                bus.publish(vec![event.clone()]).await.unwrap();
            }
        }
    }
    settled(&queues, platform).await;
    let after = state(&platform.api).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after, "events that came again changed something");
    }
    for url in platform.made.queues.values() {
        assert_eq!(num_messages(&queues, &format!("{url}-dead")).await, 0, "{url}: an event could not be handled");
    }
    eprintln!("{} events were told twice more, backwards", events.len());
}
