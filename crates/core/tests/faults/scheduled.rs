//! What schedules start, and candidates that meet.

use moola_core::ports::EventHandler as _;
use moola_core::react::RETRAIN_DUE;
use moola_core::registry::Stage;
use moola_core::training::RunStatus;
use serde_json::json;

use crate::invariants;
use crate::platform::{MODEL, Order, Platform, at_every_call, bars, by_hand, insist, request};
use crate::retrain::{finish_retrains, stale};

#[tokio::test]
async fn a_schedule_starts_one_retrain_whatever_fails() {
    let num_points = at_every_call(async |call, fault| {
        let context = format!("{fault:?} at {call}");
        let mut platform = stale().await;
        let due = platform.fire(RETRAIN_DUE, json!({"model": MODEL})).await;
        platform.faults.plan(call, fault);
        platform.deliver(Order::AsTold).await;
        let has_hit = platform.recover().await;
        platform.deliver(Order::Twice).await;
        // Runs that nobody handed to the jobs are taken up by maintenance.
        platform.memory.clock.advance_ms(600_000);
        platform.memory_app().start().await.unwrap();
        platform.deliver(Order::AsTold).await;
        assert_eq!(finish_retrains(&mut platform).await, 1, "{context} {:#?}", platform.faults.calls());
        platform.echo(Order::Shuffled(call as u64)).await;
        assert_eq!(finish_retrains(&mut platform).await, 1, "{context}");
        invariants::check(&platform, &context).await;
        assert_eq!(platform.serving().await, Some(2), "{context}");
        assert_eq!(platform.count("Retrain Requested"), 1, "{context}");
        // From the firing to the promotion, one chain.
        let runs = platform.memory_app().training.list(1).await.unwrap();
        assert_eq!((runs[0].trigger.as_str(), &runs[0].correlation_id), ("schedule", &due.correlation_id));
        let history = platform.memory_app().registry.history(MODEL, 1).await.unwrap();
        assert_eq!((history[0].version, &history[0].correlation_id), (2, &due.correlation_id), "{context}");
        has_hit
    })
    .await;
    println!("schedule to retrain: {num_points} fault points");
    assert!(num_points >= 24, "{num_points}");
}

#[tokio::test]
async fn a_schedule_retrains_only_on_bars_that_were_not_trained_on() {
    let mut platform = Platform::with_versions(1).await;
    platform.fire(RETRAIN_DUE, json!({"model": MODEL})).await;
    platform.deliver(Order::Twice).await;
    assert_eq!((finish_retrains(&mut platform).await, platform.count("Retrain Skipped")), (0, 1));

    // The cool-down of a retrain, which is under way, does not hold a schedule up; that its bars are the same does.
    platform.app.datasets.import(bars(500)).await.unwrap();
    platform.tell_of_drift(1).await;
    platform.deliver(Order::AsTold).await;
    platform.memory.clock.advance_ms(60_000);
    platform.fire(RETRAIN_DUE, json!({"model": MODEL})).await;
    platform.deliver(Order::AsTold).await;
    assert_eq!(platform.count("Retrain Skipped"), 2);
    platform.app.datasets.import(bars(600)).await.unwrap();
    platform.memory.clock.advance_ms(60_000);
    platform.fire(RETRAIN_DUE, json!({"model": MODEL})).await;
    platform.deliver(Order::AsTold).await;
    assert_eq!((finish_retrains(&mut platform).await, platform.count("Retrain Requested")), (2, 2));
    invariants::check(&platform, "schedules").await;

    // What a schedule started starts a cool-down.
    platform.app.datasets.import(bars(700)).await.unwrap();
    platform.tell_of_drift(2).await;
    platform.deliver(Order::AsTold).await;
    assert_eq!((finish_retrains(&mut platform).await, platform.count("Retrain Skipped")), (2, 3));
}

#[tokio::test]
async fn a_retrain_that_failed_is_tried_again_and_one_that_made_a_version_is_not() {
    let mut platform = stale().await;
    let due = async |platform: &mut Platform| {
        platform.memory.clock.advance_ms(60_000);
        platform.fire(RETRAIN_DUE, json!({"model": MODEL})).await;
        platform.deliver(Order::AsTold).await;
        platform.count("Retrain Requested")
    };
    assert_eq!(due(&mut platform).await, 1);
    let runs = platform.app.training.list(usize::MAX).await.unwrap();
    let run = runs.iter().find(|run| run.trigger == "schedule").unwrap();
    assert_eq!(platform.app.training.cancel(&run.run_id, "not wanted").await.unwrap().status, RunStatus::Cancelled);
    assert_eq!(due(&mut platform).await, 2);
    finish_retrains(&mut platform).await;
    assert_eq!(platform.serving().await, Some(2));
    // A person takes it back: the same run on the same bars would make the same version.
    platform.app.registry.rollback(MODEL, Some(2), &by_hand()).await.unwrap();
    platform.deliver(Order::AsTold).await;
    assert_eq!(due(&mut platform).await, 2);
    invariants::check(&platform, "a retrain that was taken back").await;
}

#[tokio::test]
async fn schedules_of_models_that_do_not_exist_are_mistakes() {
    let mut platform = Platform::with_versions(1).await;
    for detail_type in [RETRAIN_DUE, "Drift Check Due"] {
        platform.memory.clock.advance_ms(1);
        platform.fire(detail_type, json!({"model": "other"})).await;
        platform.memory.clock.advance_ms(1);
        platform.fire(detail_type, json!({"model": 7})).await;
    }
    // Too few predictions of a model that does exist are none.
    platform.memory.clock.advance_ms(1);
    platform.fire("Drift Check Due", json!({"model": MODEL})).await;
    platform.deliver(Order::AsTold).await;
    assert_eq!(platform.dead.len(), 4, "{:?}", platform.dead);
    for (index, said) in [(0, "model `other`"), (1, "detail.model"), (2, "model `other`"), (3, "detail.model")] {
        assert!(platform.dead[index].contains(said), "{:?}", platform.dead);
    }
}

/// Versions 2 and 3 pass the gates against version 1. Version 2 is promoted first; version 3 is judged again, against it.
/// A fault may hold version 2 up until version 3 serves: then it is decided about against version 3.
#[tokio::test]
async fn no_candidate_newer_than_what_serves_is_left_waiting_whatever_fails() {
    let num_points = at_every_call(async |call, fault| {
        let context = format!("{fault:?} at {call}");
        let mut platform = Platform::with_versions(1).await;
        platform.app.datasets.import(bars(500)).await.unwrap();
        let mut runs = Vec::new();
        for _ in 0..2 {
            runs.push(platform.app.training.start(request()).await.unwrap());
        }
        for run in &runs {
            platform.finish(run).await;
        }
        platform.faults.plan(call, fault);
        platform.deliver(Order::AsTold).await;
        let has_hit = platform.recover().await;
        platform.deliver(Order::Twice).await;
        invariants::check(&platform, &context).await;
        let serving = platform.serving().await;
        assert!(matches!(serving, Some(2 | 3)), "{context} {:#}", platform.state().await);
        assert!(has_hit || serving == Some(3), "{context}");
        if serving == Some(2) {
            assert_eq!(platform.stage(3).await, Stage::Archived, "{context} {:#}", platform.state().await);
        }
        platform.echo(Order::Shuffled(call as u64)).await;
        invariants::check(&platform, &context).await;
        assert_eq!(platform.serving().await, serving, "{context}");
        has_hit
    })
    .await;
    println!("candidates that meet: {num_points} fault points");
    assert!(num_points >= 40, "{num_points}");
}

/// The same where the judgement of version 3 is under way while version 2 is promoted.
#[tokio::test]
async fn a_candidate_that_is_judged_while_another_is_promoted_is_judged_again() {
    for seed in 0..40 {
        let mut platform = Platform::with_versions(1).await;
        for _ in 0..2 {
            let run = platform.app.training.start(request()).await.unwrap();
            platform.finish(&run).await;
        }
        platform.faults.interleave(seed);
        let registered = async |platform: &Platform, version: u32| {
            let events = platform.memory.events.published();
            events.into_iter().find(|event| {
                event.detail_type == "Model Version Registered" && event.detail["model_version"] == version
            })
        };
        // Makes the versions, and judges neither.
        let jobs = platform.memory.events.published();
        for event in jobs.iter().filter(|event| event.detail_type == "Batch Job State Change") {
            insist(|| platform.app.training.handle(event)).await.unwrap();
        }
        let second = registered(&platform, 2).await.unwrap();
        let third = registered(&platform, 3).await.unwrap();
        insist(|| platform.app.gates.handle(&second)).await.unwrap();
        let judged = platform.memory.events.published().into_iter().rfind(|event| event.detail_type == "Gates Judged");
        let judged = judged.unwrap();
        let promotion = async {
            insist(|| platform.app.reactor.handle(&judged)).await.unwrap();
            let moved = platform.memory.events.published();
            for event in moved.iter().filter(|event| event.detail["to"] == "Production") {
                insist(|| platform.app.gates.handle(event)).await.unwrap();
            }
        };
        let judgement = insist(|| platform.app.gates.handle(&third));
        let (_, judgement) = futures::join!(promotion, judgement);
        judgement.unwrap();
        platform.faults.revive();
        platform.deliver(Order::AsTold).await;
        invariants::check(&platform, &format!("seed {seed}")).await;
        assert_eq!(platform.serving().await, Some(3), "seed {seed} {:#?}", platform.faults.calls());
        assert_eq!(platform.stage(2).await, Stage::Archived, "seed {seed}");
    }
}
