//! From drift to a run, and what ends a run early.

use moola_core::ports::{EventHandler as _, JobStatus};
use moola_core::testkit::Fault;
use moola_core::training::RunStatus;

use crate::invariants;
use crate::platform::{MODEL, Order, Platform, at_every_call, bars, insist, request};

/// Version 1 serves, and there are bars that it was not trained on.
pub(crate) async fn stale() -> Platform {
    let platform = Platform::with_versions(1).await;
    platform.app.datasets.import(bars(500)).await.unwrap();
    platform
}

/// Lets the runs that nobody asked for end.
pub(crate) async fn finish_retrains(platform: &mut Platform) -> usize {
    let runs = platform.memory_app().training.list(usize::MAX).await.unwrap();
    let mut num_retrains = 0;
    for run in runs.iter().filter(|run| run.trigger != "request") {
        num_retrains += 1;
        if !run.status.is_final() {
            platform.finish(run).await;
        }
    }
    platform.deliver(Order::AsTold).await;
    num_retrains
}

#[tokio::test]
async fn drift_starts_one_retrain_whatever_fails() {
    let num_points = at_every_call(async |call, fault| {
        let context = format!("{fault:?} at {call}");
        let mut platform = stale().await;
        platform.tell_of_drift(1).await;
        platform.faults.plan(call, fault);
        platform.deliver(Order::AsTold).await;
        let has_hit = platform.recover().await;
        platform.deliver(Order::Twice).await;
        // Runs that nobody handed to the jobs are taken up by maintenance.
        platform.memory.clock.advance_ms(600_000);
        platform.memory_app().start().await.unwrap();
        platform.deliver(Order::AsTold).await;
        assert_eq!(finish_retrains(&mut platform).await, 1, "{context} {:#?}", platform.faults.calls());
        invariants::check(&platform, &context).await;
        assert_eq!(platform.serving().await, Some(2), "{context}");
        assert_eq!(platform.count("Retrain Requested"), 1, "{context}");
        platform.echo(Order::Shuffled(call as u64)).await;
        assert_eq!(finish_retrains(&mut platform).await, 1, "{context}");
        invariants::check(&platform, &context).await;
        has_hit
    })
    .await;
    println!("drift to retrain: {num_points} fault points");
    assert!(num_points >= 24, "{num_points}");
}

#[tokio::test]
async fn drift_told_late_or_again_starts_no_other_retrain() {
    let mut platform = stale().await;
    let first = platform.tell_of_drift(1).await;
    platform.deliver(Order::AsTold).await;
    platform.memory.clock.advance_ms(60_000);
    let skipped = platform.tell_of_drift(1).await;
    platform.deliver(Order::AsTold).await;
    assert_eq!(finish_retrains(&mut platform).await, 1);
    // Long after the cool-down, with bars that no version was trained on.
    platform.memory.clock.advance_ms(10 * 3_600_000);
    platform.app.datasets.import(bars(600)).await.unwrap();
    for event in [first.clone(), skipped] {
        platform.memory.ports().events.publish(vec![event]).await.unwrap();
    }
    platform.deliver(Order::Reversed).await;
    assert_eq!(finish_retrains(&mut platform).await, 1);
    assert_eq!(platform.count("Retrain Requested"), 1);
    assert_eq!(platform.count("Retrain Skipped"), 1);
    // Drift that is found now starts one: a duplicate of the old one did not use up the cool-down.
    platform.tell_of_drift(2).await;
    platform.deliver(Order::AsTold).await;
    assert_eq!(finish_retrains(&mut platform).await, 2);
    // Nor is it said of drift that started a retrain that it was passed over.
    platform.memory.ports().events.publish(vec![first]).await.unwrap();
    platform.deliver(Order::AsTold).await;
    assert_eq!(platform.count("Retrain Skipped"), 1);
    invariants::check(&platform, "late drift").await;
    assert_eq!(platform.serving().await, Some(3));
}

#[tokio::test]
async fn a_run_has_one_job_whatever_fails_while_it_starts() {
    let num_points = at_every_call(async |call, fault| {
        let context = format!("{fault:?} at {call}");
        let mut platform = Platform::with_versions(1).await;
        platform.faults.plan(call, fault);
        let started = platform.app.training.start_as("r".into(), request(), "request", "r").await;
        let has_hit = platform.faults.has_hit();
        if fault == Fault::Before && has_hit && started.is_err() {
            // The client asks again.
            insist(|| platform.app.training.start_as("r".into(), request(), "request", "r")).await.unwrap();
        }
        platform.recover().await;
        platform.deliver(Order::Shuffled(call as u64)).await;
        platform.memory.clock.advance_ms(600_000);
        platform.memory_app().start().await.unwrap();
        platform.deliver(Order::AsTold).await;
        if let Ok(run) = platform.memory_app().training.get("r").await {
            assert_eq!(platform.jobs_of("r").await.len(), 1, "{context} {:#?}", platform.faults.calls());
            platform.finish(&run).await;
            platform.deliver(Order::AsTold).await;
            assert_eq!(platform.serving().await, Some(2), "{context}");
        } else {
            assert!(started.is_err(), "{context}");
        }
        invariants::check(&platform, &context).await;
        has_hit
    })
    .await;
    println!("start of a run: {num_points} fault points");
    assert!(num_points >= 20, "{num_points}");
}

#[tokio::test]
async fn a_cancelled_run_ends_with_its_job_whatever_fails() {
    let num_points = at_every_call(async |call, fault| {
        let context = format!("{fault:?} at {call}");
        let mut platform = Platform::with_versions(1).await;
        let run = platform.app.training.start(request()).await.unwrap();
        platform.faults.plan(call, fault);
        let cancelled = platform.app.training.cancel(&run.run_id, "not wanted").await;
        // No restart that takes it up: asking again is enough.
        platform.faults.revive();
        if cancelled.is_err() {
            insist(|| platform.app.training.cancel(&run.run_id, "not wanted")).await.unwrap();
        }
        assert_eq!(platform.jobs_of(&run.run_id).await[0].status, JobStatus::Failed, "{context}");
        let has_hit = platform.recover().await;
        platform.deliver(Order::Shuffled(call as u64)).await;
        platform.echo(Order::Reversed).await;
        let run = platform.memory_app().training.get(&run.run_id).await.unwrap();
        assert_eq!(run.status, RunStatus::Cancelled, "{context}");
        invariants::check(&platform, &context).await;
        assert_eq!(platform.memory_app().registry.versions(MODEL).await.unwrap().len(), 1, "{context}");
        has_hit
    })
    .await;
    println!("cancelling: {num_points} fault points");
    assert!(num_points >= 12, "{num_points}");
}

/// Cancelled between being recorded and being handed to the jobs: the job ends as soon as anything is heard of it.
#[tokio::test]
async fn a_run_that_is_cancelled_while_it_is_submitted_leaves_no_job() {
    for fault in [Fault::After, Fault::CrashAfter] {
        let mut platform = Platform::with_versions(1).await;
        // Spec, run, event, outbox, then the job.
        platform.faults.plan(5, fault);
        let _ = platform.app.training.start_as("r".into(), request(), "request", "r").await;
        assert!(platform.faults.has_hit());
        assert_eq!(platform.jobs_of("r").await.len(), 1, "{:#?}", platform.faults.calls());
        platform.faults.revive();
        platform.app.training.cancel("r", "not wanted").await.unwrap();
        platform.deliver(Order::AsTold).await;
        assert_eq!(platform.jobs_of("r").await[0].status, JobStatus::Failed, "{fault:?}");
        invariants::check(&platform, &format!("{fault:?}")).await;
    }
}

/// Drift is told to several functions at once, and maintenance is due in several: one run with one job.
#[tokio::test]
async fn functions_that_are_told_at_once_start_one_retrain() {
    for seed in 0..40 {
        let mut platform = stale().await;
        let event = platform.tell_of_drift(1).await;
        platform.faults.interleave(seed);
        platform.faults.at_random(seed, 0.05);
        let app = platform.app.clone();
        let told = (0..3).map(|_| insist(|| app.handle(&event)));
        for outcome in futures::future::join_all(told).await {
            outcome.unwrap();
        }
        // Whether or not the job was submitted, and recorded.
        platform.memory.clock.advance_ms(600_000);
        let maintained = (0..3).map(|_| insist(|| platform.maintain()));
        for outcome in futures::future::join_all(maintained).await {
            outcome.unwrap();
        }
        platform.faults.revive();
        platform.deliver(Order::Twice).await;
        assert_eq!(finish_retrains(&mut platform).await, 1, "seed {seed} {:#?}", platform.faults.calls());
        invariants::check(&platform, &format!("seed {seed}")).await;
        assert_eq!(platform.serving().await, Some(2), "seed {seed}");
    }
}
