//! What the adapters do when the network and the services fail: nothing is lost, and nothing is done twice.

use std::sync::Arc;
use std::time::Duration;

use aws_config::Region;
use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use bytes::Bytes;
use moola_aws::{DynamoTable, S3Blobs};
use moola_core::ErrorKind::{AlreadyExists, Conflict, NotFound, Unavailable};
use moola_core::ports::{Blobs, Condition, Key, PutMode, Query, Table, Write};
use moola_core::testkit;
use moola_tests::emulator::Emulator;
use moola_tests::proxy::{Fault, Proxy};
use serde_json::json;

use super::storage;

/// So many that a suite of thousands of requests meets no unlucky series, with pauses as short as the network is here.
fn patient() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(10).with_initial_backoff(Duration::from_millis(5))
}

/// What asks the emulator itself. Each test has a region of its own: the SDK has one budget for retries in each.
async fn in_region(emulator: &Emulator, region: &'static str) -> SdkConfig {
    emulator.sdk_config().await.to_builder().region(Region::from_static(region)).build()
}

/// What asks through the proxy.
fn through(proxy: &Proxy, direct: &SdkConfig, retry: RetryConfig) -> SdkConfig {
    direct.to_builder().endpoint_url(proxy.endpoint()).retry_config(retry).build()
}

/// Checks that every fault happened: what did not happen proves nothing.
fn met_all(proxy: &Proxy) {
    let met = proxy.num_met();
    for fault in Fault::PASSING {
        assert!(met.get(&fault).is_some_and(|num| *num > 0), "{fault:?} did not happen: {met:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_keep_the_promises_over_a_bad_network() {
    let Some(emulator) = Emulator::shared() else { return };
    let direct = in_region(emulator, "us-east-2").await;
    let proxy = Proxy::start(emulator.address(), &Fault::PASSING, 0.1, 1).await;
    let config = through(&proxy, &direct, patient());
    testkit::blobs(async || Arc::new(S3Blobs::new(&config, storage::bucket(&direct).await))).await;
    met_all(&proxy);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_keeps_the_promises_over_a_bad_network() {
    let Some(emulator) = Emulator::shared() else { return };
    let direct = in_region(emulator, "us-west-1").await;
    let proxy = Proxy::start(emulator.address(), &Fault::PASSING, 0.1, 2).await;
    let config = through(&proxy, &direct, patient());
    testkit::table(async || Arc::new(DynamoTable::new(&config, storage::table(&direct).await))).await;
    met_all(&proxy);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_blobs_arrive_over_a_bad_network() {
    let Some(emulator) = Emulator::shared() else { return };
    let direct = in_region(emulator, "us-west-2").await;
    let proxy = Proxy::start(emulator.address(), &Fault::PASSING, 0.3, 3).await;
    let blobs = S3Blobs::new(&through(&proxy, &direct, patient()), storage::bucket(&direct).await);
    for (number, mode) in [(0, PutMode::Create), (1, PutMode::Overwrite), (2, PutMode::Overwrite)] {
        let data = storage::large(20 << 20, number);
        blobs.put("large", data.clone(), mode).await.unwrap();
        assert!(blobs.get("large").await.unwrap() == data, "a large blob comes back otherwise");
    }
    assert!(proxy.num_met().values().sum::<usize>() > 5, "{:?}", proxy.num_met());
}

/// Few attempts, so that some writes end without an answer.
fn impatient() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_creator_wins_and_is_never_told_that_another_did() {
    let Some(emulator) = Emulator::shared() else { return };
    let direct = in_region(emulator, "eu-west-1").await;
    let faults = [Fault::LoseAnswer, Fault::LoseRequest, Fault::InternalError];
    let proxy = Proxy::start(emulator.address(), &faults, 0.4, 4).await;
    let blobs = Arc::new(S3Blobs::new(&through(&proxy, &direct, impatient()), storage::bucket(&direct).await));
    let (mut num_told, mut num_unknown) = (0, 0);
    for round in 0..20 {
        let key = format!("race/{round}");
        let tasks: Vec<_> = (0..8_u8)
            .map(|writer| {
                let (blobs, key) = (blobs.clone(), key.clone());
                tokio::spawn(async move { blobs.put(&key, vec![writer; 100].into(), PutMode::Create).await })
            })
            .collect();
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.unwrap());
        }
        let winners: Vec<usize> = (0..8).filter(|writer| results[*writer].is_ok()).collect();
        let there = loop {
            match blobs.get(&key).await {
                Ok(data) => break Some(usize::from(data[0])),
                Err(error) if error.kind() == NotFound => break None,
                Err(error) => assert_eq!(error.kind(), Unavailable, "{}", error.chain()),
            }
        };
        assert!(winners.len() <= 1, "several were told that they won: {winners:?}");
        if let Some(winner) = winners.first() {
            assert_eq!(there, Some(*winner), "another's bytes are there");
            num_told += 1;
        }
        for (writer, result) in results.iter().enumerate() {
            let Err(error) = result else { continue };
            match error.kind() {
                AlreadyExists => assert!(there.is_some_and(|it| it != writer), "{writer} met its own bytes"),
                kind => assert_eq!(kind, Unavailable, "{}", error.chain()),
            }
            num_unknown += usize::from(error.kind() == Unavailable);
        }
    }
    assert!(num_told > 0 && num_unknown > 0, "{num_told} winners were told, {num_unknown} know nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_counts_what_was_acknowledged() {
    let Some(emulator) = Emulator::shared() else { return };
    let direct = in_region(emulator, "eu-west-2").await;
    let proxy = Proxy::start(emulator.address(), &Fault::PASSING, 0.3, 5).await;
    let name = storage::table(&direct).await;
    let table = Arc::new(DynamoTable::new(&through(&proxy, &direct, impatient()), &name));
    let key = Key::new("counters", "one");
    let tasks: Vec<_> = (0..6_usize)
        .map(|task| {
            let (table, key) = (table.clone(), key.clone());
            tokio::spawn(async move { count(table, key, task).await })
        })
        .collect();
    let (mut num_sure, mut num_unsure) = (0, 0);
    for task in tasks {
        let (sure, unsure) = task.await.unwrap();
        num_sure += sure;
        num_unsure += unsure;
    }
    let exact = DynamoTable::new(&direct, name);
    let counter = exact.get(&key).await.unwrap().unwrap();
    let count = counter.value.as_u64().unwrap();
    assert_eq!(counter.revision, count, "a write was done twice, or without its condition");
    assert!((num_sure..=num_sure + num_unsure).contains(&count), "{count}, sure {num_sure}, unsure {num_unsure}");
    assert!(num_sure > 0 && num_unsure > 0, "sure {num_sure}, unsure {num_unsure}");
    // Every addition left a note of its own in the same transaction, so it is known which were done.
    let notes = exact.query(&Query::prefix("notes", "")).await.unwrap();
    assert_eq!(notes.items.len() as u64, count);
}

/// Adds one 20 times; returns how many additions were acknowledged, and how many may have happened.
async fn count(table: Arc<impl Table>, key: Key, task: usize) -> (u64, u64) {
    let (mut num_sure, mut num_unsure) = (0, 0);
    for number in 0..20 {
        loop {
            let Ok(item) = table.get(&key).await else { continue };
            let (condition, next) = match &item {
                Some(item) => (Condition::Revision(item.revision), item.value.as_u64().unwrap() + 1),
                None => (Condition::Absent, 1),
            };
            let note = Key::new("notes", format!("{task}-{number}"));
            let writes = vec![
                Write::Put { key: key.clone(), value: json!(next), condition },
                Write::Put { key: note, value: json!(next), condition: Condition::Absent },
            ];
            match table.write(writes).await {
                Ok(()) => num_sure += 1,
                Err(error) if error.kind() == Conflict => continue,
                Err(error) => {
                    assert_eq!(error.kind(), Unavailable, "{}", error.chain());
                    num_unsure += 1;
                }
            }
            break;
        }
    }
    (num_sure, num_unsure)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_good_ends_as_unavailable() {
    let Some(emulator) = Emulator::shared() else { return };
    let direct = in_region(emulator, "eu-west-3").await;
    for fault in Fault::PASSING.into_iter().chain([Fault::Hang]).filter(|fault| *fault != Fault::Delay) {
        let proxy = Proxy::start(emulator.address(), &[fault], 1.0, 6).await;
        let limits = TimeoutConfig::builder().read_timeout(Duration::from_millis(200)).build();
        let config =
            direct.to_builder().endpoint_url(proxy.endpoint()).retry_config(impatient()).timeout_config(limits);
        let config = config.build();
        let (bucket, name) = (storage::bucket(&direct).await, storage::table(&direct).await);
        let data = Bytes::from(vec![1; 1_000]);
        S3Blobs::new(&direct, &bucket).put("a", data.clone(), PutMode::Create).await.unwrap();
        let (blobs, table) = (S3Blobs::new(&config, bucket), DynamoTable::new(&config, name));
        let key = Key::new("p", "s");
        let write = Write::Put { key: key.clone(), value: json!(1), condition: Condition::Absent };
        let calls = async {
            [
                ("put", blobs.put("b", data, PutMode::Create).await.err()),
                ("large put", blobs.put("c", storage::large(17 << 20, 0), PutMode::Create).await.err()),
                ("get", blobs.get("a").await.err()),
                ("range", blobs.get_range("a", 0..10).await.err()),
                ("list", blobs.list("", None, 10).await.err()),
                ("table get", table.get(&key).await.err()),
                ("query", table.query(&Query::prefix("p", "")).await.err()),
                ("write", table.write(vec![write]).await.err()),
            ]
        };
        let results = tokio::time::timeout(Duration::from_secs(300), calls).await;
        for (what, error) in results.unwrap_or_else(|_| panic!("{fault:?} does not end")) {
            let error = error.unwrap_or_else(|| panic!("{what} succeeded with {fault:?}"));
            assert_eq!(error.kind(), Unavailable, "{what} with {fault:?}: {}", error.chain());
        }
    }
}
