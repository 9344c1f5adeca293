//! Changes of stage that a person asks for, by a client that tries again where it is told to.

use moola_core::ErrorKind;
use moola_core::registry::Stage;

use crate::invariants;
use crate::platform::{MODEL, Order, Platform, at_every_call, by_hand, insist};

/// Asks for a move as a client does: again where it is told to try again, and content where it finds it done.
async fn ask(platform: &Platform, version: u32, to: Stage) {
    let registry = &platform.app.registry;
    let mut is_repeated = false;
    for _ in 0..200 {
        match registry.transition(MODEL, version, to, &by_hand()).await {
            Ok(_) => return,
            Err(error) if error.kind() == ErrorKind::Unavailable => is_repeated = true,
            Err(error) if is_repeated && error.kind() == ErrorKind::Conflict => {
                assert_eq!(platform.stage(version).await, to, "{}", error.chain());
                return;
            }
            Err(error) => panic!("{}", error.chain()),
        }
        if platform.faults.is_dead() {
            platform.faults.revive();
        }
    }
    panic!("unavailable for ever");
}

/// Judges again what served before, so that it may serve again.
async fn judged(platform: &Platform, version: u32) {
    platform.app.gates.judge(MODEL, version).await.unwrap();
}

#[tokio::test]
async fn a_promotion_happens_once_whatever_fails() {
    let num_points = at_every_call(async |call, fault| {
        let context = format!("{fault:?} at {call}");
        let mut platform = Platform::with_versions(2).await;
        ask(&platform, 1, Stage::Staging).await;
        judged(&platform, 1).await;
        platform.deliver(Order::AsTold).await;
        let before = platform.app.registry.history(MODEL, 100).await.unwrap().len();
        platform.faults.plan(call, fault);
        ask(&platform, 1, Stage::Production).await;
        let has_hit = platform.recover().await;
        platform.deliver(Order::Shuffled(call as u64)).await;
        platform.echo(Order::Reversed).await;
        invariants::check(&platform, &context).await;
        assert_eq!(platform.serving().await, Some(1), "{context}");
        assert_eq!(platform.stage(2).await, Stage::Archived, "{context}");
        let after = platform.app.registry.history(MODEL, 100).await.unwrap().len();
        assert_eq!(after, before + 2, "{context}");
        has_hit
    })
    .await;
    println!("promotion by hand: {num_points} fault points");
    assert!(num_points >= 20, "{num_points}");
}

#[tokio::test]
async fn a_rollback_goes_one_step_back_whatever_fails() {
    let num_points = at_every_call(async |call, fault| {
        let context = format!("{fault:?} at {call}");
        let mut platform = Platform::with_versions(3).await;
        platform.faults.plan(call, fault);
        let version = insist(|| async {
            let outcome = platform.app.registry.rollback(MODEL, Some(3), &by_hand()).await;
            if platform.faults.is_dead() {
                platform.faults.revive();
            }
            outcome
        })
        .await
        .unwrap();
        assert_eq!(version.version, 2, "{context}");
        let has_hit = platform.recover().await;
        platform.deliver(Order::Shuffled(call as u64)).await;
        platform.echo(Order::Shuffled(call as u64)).await;
        invariants::check(&platform, &context).await;
        assert_eq!(platform.serving().await, Some(2), "{context}");
        assert_eq!(platform.stage(3).await, Stage::Staging, "{context}");
        has_hit
    })
    .await;
    println!("roll-back: {num_points} fault points");
    assert!(num_points >= 20, "{num_points}");
}

#[tokio::test]
async fn a_demotion_happens_once_whatever_fails() {
    for to in [Stage::Staging, Stage::Archived] {
        let num_points = at_every_call(async |call, fault| {
            let context = format!("{fault:?} at {call}");
            let mut platform = Platform::with_versions(2).await;
            platform.faults.plan(call, fault);
            ask(&platform, 2, to).await;
            let has_hit = platform.recover().await;
            platform.deliver(Order::Twice).await;
            // Late duplicates of what was said when it was registered and judged.
            platform.echo(Order::Shuffled(call as u64)).await;
            invariants::check(&platform, &context).await;
            assert_eq!(platform.serving().await, None, "{context}");
            assert_eq!(platform.stage(2).await, to, "{context}");
            has_hit
        })
        .await;
        println!("demotion to {to}: {num_points} fault points");
        assert!(num_points >= 12, "{num_points}");
    }
}

/// Clients that want different versions in production, over ports that fail by chance: each sees its wish done or refused,
/// and one version serves.
#[tokio::test]
async fn concurrent_promotions_leave_one_version_in_production() {
    for seed in 0..20 {
        let mut platform = Platform::with_versions(4).await;
        for version in 1..=3 {
            ask(&platform, version, Stage::Staging).await;
            judged(&platform, version).await;
        }
        platform.deliver(Order::AsTold).await;
        platform.faults.interleave(seed);
        platform.faults.at_random(seed, 0.1);
        let decision = by_hand();
        let registry = &platform.app.registry;
        let promotions = (1..=3).map(|version| {
            insist(move || async move { registry.transition(MODEL, version, Stage::Production, &by_hand()).await })
        });
        let demotion = insist(|| registry.transition(MODEL, 4, Stage::Archived, &decision));
        let (promotions, demotion) = futures::join!(futures::future::join_all(promotions), demotion);
        for outcome in promotions.iter().chain([&demotion]) {
            if let Err(error) = outcome {
                assert!(matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Refused), "{}", error.chain());
            }
        }
        platform.faults.revive();
        platform.deliver(Order::Shuffled(seed)).await;
        invariants::check(&platform, &format!("seed {seed}")).await;
        let num_done = promotions.iter().filter(|outcome| outcome.is_ok()).count();
        assert!(num_done <= 1, "seed {seed}");
        if num_done == 1 {
            let done = promotions.iter().flatten().next().map(|version| version.version);
            assert_eq!(platform.serving().await, done, "seed {seed}");
        }
    }
}
