//! From the end of a job to a version in production.

use moola_core::ports::EventHandler as _;
use moola_core::testkit::Fault;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::invariants;
use crate::platform::{MODEL, Order, Platform, at_every_call, insist, request};

const ORDERS: [Order; 4] = [Order::AsTold, Order::Twice, Order::Reversed, Order::Shuffled(7)];

/// A run ends while version 1 serves: its version replaces it, whatever fails in between.
#[tokio::test]
async fn a_run_becomes_one_version_in_production_whatever_fails() {
    let num_points = at_every_call(async |call, fault| {
        let order = ORDERS[call % ORDERS.len()];
        let mut platform = Platform::with_versions(1).await;
        let run = platform.app.training.start(request()).await.unwrap();
        platform.finish(&run).await;
        platform.faults.plan(call, fault);
        platform.deliver(order).await;
        let has_hit = platform.recover().await;
        platform.deliver(order).await;
        let context = format!("{fault:?} at {call}, {order:?}");
        invariants::check(&platform, &context).await;
        assert_eq!(platform.serving().await, Some(2), "{context} {:#?}", platform.faults.calls());
        // What was delivered comes once more, as it may.
        let state = platform.state().await;
        platform.echo(order).await;
        invariants::check(&platform, &format!("{context}, then everything again")).await;
        assert_eq!(platform.state().await, state, "{context}");
        has_hit
    })
    .await;
    println!("finalisation: {num_points} fault points");
    assert!(num_points >= 60, "{num_points}");
}

/// The same where any call fails by chance, again and again.
#[tokio::test]
async fn a_run_becomes_one_version_in_production_though_calls_fail_by_chance() {
    for seed in 0..40 {
        let mut platform = Platform::with_versions(1).await;
        let run = platform.app.training.start(request()).await.unwrap();
        platform.finish(&run).await;
        platform.faults.plan(usize::MAX, Fault::Before);
        platform.faults.at_random(seed, 0.1);
        platform.deliver(Order::Shuffled(seed)).await;
        platform.recover().await;
        platform.deliver(Order::AsTold).await;
        invariants::check(&platform, &format!("seed {seed}")).await;
        assert_eq!(platform.serving().await, Some(2), "seed {seed}");
    }
}

/// The same where the process dies again and again, also while it takes up what the last one left.
#[tokio::test]
async fn a_run_becomes_one_version_in_production_though_the_process_keeps_dying() {
    let mut num_deaths = 0;
    for seed in 0..40 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut platform = Platform::with_versions(1).await;
        let run = platform.app.training.start(request()).await.unwrap();
        platform.finish(&run).await;
        loop {
            let fault = if rng.random_bool(0.5) { Fault::CrashBefore } else { Fault::CrashAfter };
            // Registering takes nine calls, so a process must live for more.
            platform.faults.plan(rng.random_range(1..16), fault);
            let has_started = platform.restart().await.is_ok();
            if has_started {
                platform.deliver(Order::Shuffled(rng.random())).await;
            }
            if !platform.faults.has_hit() {
                break;
            }
            num_deaths += 1;
            assert!(num_deaths < 10_000, "seed {seed}: no progress");
            platform.faults.revive();
        }
        platform.faults.revive();
        invariants::check(&platform, &format!("seed {seed}")).await;
        assert_eq!(platform.serving().await, Some(2), "seed {seed}");
    }
    println!("finalisation: 40 runs over {num_deaths} deaths");
    assert!(num_deaths >= 100, "{num_deaths}");
}

/// The same event is handled by several functions at once.
#[tokio::test]
async fn a_run_becomes_one_version_though_several_functions_are_told_at_once() {
    for seed in 0..40 {
        let mut platform = Platform::with_versions(1).await;
        let run = platform.app.training.start(request()).await.unwrap();
        platform.finish(&run).await;
        platform.faults.interleave(seed);
        let app = platform.app.clone();
        let events = platform.memory.events.published();
        let last = events.last().unwrap();
        let told = (0..3).map(|_| insist(|| app.handle(last)));
        for outcome in futures::future::join_all(told).await {
            outcome.unwrap();
        }
        platform.deliver(Order::Twice).await;
        invariants::check(&platform, &format!("seed {seed}")).await;
        assert_eq!(platform.serving().await, Some(2), "seed {seed}");
    }
}

/// Two runs end while calls fail by chance: two versions, one of which serves.
#[tokio::test]
async fn two_runs_that_end_at_once_become_two_versions() {
    for seed in 0..20 {
        let mut platform = Platform::with_versions(1).await;
        for _ in 0..2 {
            let run = platform.app.training.start(request()).await.unwrap();
            platform.finish(&run).await;
        }
        platform.faults.interleave(seed);
        platform.faults.at_random(seed, 0.05);
        let app = platform.app.clone();
        let events = platform.memory.events.published();
        let told = events.iter().map(|event| insist(|| app.handle(event)));
        for outcome in futures::future::join_all(told).await {
            outcome.unwrap();
        }
        platform.faults.revive();
        platform.deliver(Order::Shuffled(seed)).await;
        platform.echo(Order::Shuffled(seed)).await;
        invariants::check(&platform, &format!("seed {seed}")).await;
        assert_eq!(platform.memory_app().registry.versions(MODEL).await.unwrap().len(), 3, "seed {seed}");
        assert!(matches!(platform.serving().await, Some(2 | 3)), "seed {seed}");
    }
}
