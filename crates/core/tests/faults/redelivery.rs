//! Events that come twice and out of order.

use moola_core::ports::{Condition, Key, Write};
use moola_core::registry::Stage;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::invariants;
use crate::platform::{MODEL, Order, Platform, bars, by_hand, request};

/// The whole loop: train, promote, new bars, drift, retrain, promote. What was said before is said again in between.
async fn full_loop(order: Order, mut echo: impl FnMut() -> Option<Order>) -> (Platform, Value) {
    let mut platform = Platform::empty().await;
    let run = platform.app.training.start(request()).await.unwrap();
    platform.deliver(order).await;
    platform.finish(&run).await;
    platform.deliver(order).await;
    if let Some(order) = echo() {
        platform.echo(order).await;
    }
    platform.app.registry.set_alias(MODEL, "first", Some(1)).await.unwrap();
    platform.app.datasets.import(bars(500)).await.unwrap();
    platform.tell_of_drift(1).await;
    platform.deliver(order).await;
    if let Some(order) = echo() {
        platform.echo(order).await;
    }
    let runs = platform.app.training.list(10).await.unwrap();
    let retrains: Vec<_> = runs.iter().filter(|run| run.trigger == "drift").collect();
    assert_eq!(retrains.len(), 1, "{order:?}");
    platform.finish(retrains[0]).await;
    platform.deliver(order).await;
    if let Some(order) = echo() {
        platform.echo(order).await;
    }
    let state = platform.state().await;
    (platform, state)
}

#[tokio::test]
async fn events_that_come_twice_and_in_any_order_change_nothing() {
    let (platform, expected) = full_loop(Order::AsTold, || None).await;
    invariants::check(&platform, "in order").await;
    assert_eq!(platform.serving().await, Some(2));
    let num_events = platform.memory.events.published().len();
    let mut orders = vec![Order::Twice, Order::Reversed];
    orders.extend((0..60).map(Order::Shuffled));
    for order in orders {
        let mut rng = ChaCha8Rng::seed_from_u64(match order {
            Order::Shuffled(seed) => seed,
            _ => 0,
        });
        let echo = || rng.random_bool(0.5).then(|| Order::Shuffled(rng.random()));
        let (platform, state) = full_loop(order, echo).await;
        invariants::check(&platform, &format!("{order:?}")).await;
        assert_eq!(state, expected, "{order:?}");
        assert_eq!(platform.count("Gates Judged"), 2, "{order:?}");
        assert_eq!(platform.count("Retrain Requested"), 1, "{order:?}");
    }
    println!("full loop: {num_events} events, in order and in 62 others");
    assert!(num_events >= 20, "{num_events}");
}

/// What a person decided stays, however late an event of before comes again.
#[tokio::test]
async fn late_duplicates_do_not_undo_what_a_person_decided() {
    for seed in 0..10 {
        // Rolled back.
        let mut platform = Platform::with_versions(2).await;
        platform.app.registry.rollback(MODEL, None, &by_hand()).await.unwrap();
        platform.deliver(Order::AsTold).await;
        platform.echo(Order::Shuffled(seed)).await;
        assert_eq!((platform.serving().await, platform.stage(2).await), (Some(1), Stage::Staging), "seed {seed}");
        invariants::check(&platform, "rolled back").await;
        // Sent back to where it came from, then judged once more.
        for to in [Stage::Staging, Stage::None] {
            let mut platform = Platform::with_versions(2).await;
            platform.app.registry.transition(MODEL, 2, Stage::Staging, &by_hand()).await.unwrap();
            if to == Stage::None {
                platform.app.registry.transition(MODEL, 2, to, &by_hand()).await.unwrap();
            }
            platform.app.gates.judge(MODEL, 2).await.unwrap();
            platform.deliver(Order::Twice).await;
            platform.echo(Order::Shuffled(seed)).await;
            assert_eq!((platform.serving().await, platform.stage(2).await), (None, to), "seed {seed}");
            invariants::check(&platform, "sent back").await;
        }
    }
}

/// An item of the outbox that is no event, as another version of the program might leave, keeps no other event back.
#[tokio::test]
async fn one_bad_event_does_not_hold_up_the_others() {
    let platform = Platform::empty().await;
    let ports = platform.memory.ports();
    let event = ports.event("Drift Not Detected", "chain", serde_json::json!({}));
    let put = |sort: &str, value| Write::Put { key: Key::new("outbox", sort), value, condition: Condition::Always };
    let writes = vec![put("0", serde_json::json!("no event")), put(&event.id, serde_json::to_value(&event).unwrap())];
    ports.table.write(writes).await.unwrap();
    platform.app.start().await.unwrap();
    assert_eq!(platform.count("Drift Not Detected"), 1);
    let left = platform.memory.table.items().into_iter().filter(|item| item.key.partition == "outbox");
    assert_eq!(left.map(|item| item.key.sort).collect::<Vec<_>>(), ["0"]);
}
