use super::*;
use crate::memory::Memory;

#[test]
fn references_are_read() {
    let parse = |model, version| ModelReference::parse(model, version).map(|it| (it.model, it.reference));
    let is = |model: &str, reference: &str| (model.to_owned(), reference.to_owned());
    assert_eq!(parse(None, Some("m")).unwrap(), is("m", "production"));
    assert_eq!(parse(None, Some("m/3")).unwrap(), is("m", "3"));
    assert_eq!(parse(Some("m"), None).unwrap(), is("m", "production"));
    assert_eq!(parse(Some("m"), Some("Staging")).unwrap(), is("m", "staging"));
    assert_eq!(parse(Some("m"), Some("m/champion")).unwrap(), is("m", "champion"));
    for (model, version) in
        [(None, None), (Some("m"), Some("n/3")), (None, Some("m/a/b")), (None, Some("")), (Some("M"), None)]
    {
        let error = parse(model, version).expect_err("must not be read");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn ids_tell_model_and_version() {
    let id = log::prediction_id("m.v1-x", 12, "00000000000000000000000007");
    assert_eq!(log::parse_prediction_id(&id), Some(("m.v1-x", 12)));
    for bad in ["", "m", "m.1", "m.1.7", "m.x.00000000000000000000000007", "m.1.0000000000000000000000000/"] {
        assert_eq!(log::parse_prediction_id(bad), None, "{bad}");
    }
}

#[test]
fn of_equal_outputs_the_first_is_best() {
    assert_eq!(best(&[0.2, 0.4, 0.4]), 1);
    assert_eq!(best(&[]), 0);
}

fn record(number: u64, time_ms: i64) -> PredictionRecord {
    PredictionRecord {
        prediction_id: log::prediction_id("m", 1, &format!("{number:026}")),
        time_ms,
        model: "m".into(),
        version: 1,
        request_id: String::new(),
        symbol: None,
        held_bars: None,
        bar_time_ms: None,
        ohlc: None,
        features: vec![Some(0.1), None],
        feature_set_hash: None,
        outputs: vec![0.25, 0.75],
        class: Some("b".into()),
        latency_us: 1,
        metadata: None,
    }
}

#[tokio::test]
async fn the_log_is_read_backwards_over_days() {
    let memory = Memory::new();
    let ports = memory.ports();
    let started_ms = ports.clock.now_ms();
    let log = PredictionLog::start(ports.clone(), LogConfig::default());
    for number in 0..10 {
        let records = vec![record(number, ports.clock.now_ms())];
        log.append(log.reserve(1).await.unwrap(), records).await.unwrap();
        log.flush().await.unwrap();
        memory.clock.advance_ms(9 * 3_600_000);
    }
    let read = |since_ms, max| {
        let ports = ports.clone();
        async move { log::read(&ports, "m", since_ms, max).await.unwrap() }
    };
    let all = read(0, 100).await;
    assert_eq!(all.len(), 10);
    assert!(all.is_sorted_by_key(|record| std::cmp::Reverse(record.time_ms)));
    assert_eq!(all[9], record(0, started_ms));
    assert_eq!(all[0].best_class(), Some(1));
    assert_eq!(read(0, 3).await, all[..3]);
    assert_eq!(read(all[4].time_ms, 100).await, all[..5]);
    assert_eq!(log::read(&ports, "other", 0, 10).await.unwrap(), []);
    assert_eq!(log.status().num_written, 10);

    // The newest of one version are found behind those of another.
    let of_version = |version, max| log::read_version(&ports, "m", version, 0, max);
    let version = all[9].version;
    assert_eq!(of_version(version, 2).await.unwrap(), all[..2]);
    assert_eq!(of_version(version + 1, 2).await.unwrap(), []);
    let old = PredictionRecord { version: version + 1, ..record(11, started_ms) };
    log.append(log.reserve(1).await.unwrap(), vec![old.clone()]).await.unwrap();
    log.flush().await.unwrap();
    assert_eq!(of_version(version + 1, 2).await.unwrap(), [old]);

    let key = "predictions/m/2026-01-05/00/broken.jsonl";
    memory.blobs.damage(key, "{\"half");
    let error = log::read(&ports, "m", 0, 100).await.expect_err("half a line");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(key));
}

#[tokio::test]
async fn what_was_logged_before_the_end_is_written() {
    let ports = Memory::new().ports();
    let log = PredictionLog::start(ports.clone(), LogConfig { flush_ms: 3_600_000, ..LogConfig::default() });
    log.append(log.reserve(1).await.unwrap(), vec![record(1, ports.clock.now_ms())]).await.unwrap();
    drop(log);
    for _ in 0..1000 {
        if log::read(&ports, "m", 0, 10).await.unwrap().len() == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never written");
}

#[tokio::test]
async fn recent_bars_are_those_of_the_newest_version() {
    let ports = Memory::new().ports();
    let bars = |from: i64, count: i64| {
        let mut bars = moola_market::Bars::default();
        for index in from..from + count {
            let bar =
                moola_market::Bar { time_ms: index, open: 1.0, high: 2.0, low: 0.5, close: 1.5, volume: Some(3.0) };
            bars.push(bar);
        }
        bars
    };
    recent::write(&ports, "EUR/USD", "fx", "2", &bars(0, 1000)).await.unwrap();
    // An older version that was written later changes nothing.
    recent::write(&ports, "EUR/USD", "fx", "1", &bars(0, 900)).await.unwrap();
    let held = recent::read(&ports, "EUR/USD", None).await.unwrap();
    assert_eq!(held.source(), "fx@2");
    assert_eq!(held.bars().unwrap(), bars(1000 - recent::MAX_BARS as i64, recent::MAX_BARS as i64));
    assert_eq!(recent::read(&ports, "EUR", None).await.unwrap_err().kind(), ErrorKind::NotFound);
    // In two datasets the model's own is taken, and a guess refused.
    recent::write(&ports, "EUR/USD", "daily", "1", &bars(0, 10)).await.unwrap();
    assert_eq!(recent::read(&ports, "EUR/USD", Some("fx")).await.unwrap().source(), "fx@2");
    let error = recent::read(&ports, "EUR/USD", Some("other")).await.unwrap_err();
    assert!(error.to_string().contains("daily, fx"), "{error}");
}

#[test]
fn held_bars_stand_right_before_bars_of_their_interval() {
    const MINUTE: i64 = 60_000;
    const DAY: i64 = 24 * 60 * MINUTE;
    let fields = FieldNames { root: "input_data", is_batch: false };
    let check = |step: i64, count: i64, gap: i64, held_step: i64| {
        let held: Vec<i64> = (0..50).map(|bar| bar * held_step).collect();
        let times: Vec<i64> = (0..count).map(|bar| held[49] + gap + bar * step).collect();
        request::check_continues(&fields, "EURUSD", 0, &times, &held).map_err(|error| error.to_string())
    };
    for (step, gap) in [(MINUTE, 5 * DAY), (60 * MINUTE, 5 * DAY), (DAY, 10 * DAY), (7 * DAY, 14 * DAY)] {
        assert_eq!(check(step, 20, step, step), Ok(()));
        assert_eq!(check(step, 20, gap, step), Ok(()));
        let error = check(step, 20, gap + 1, step).expect_err("too long a gap");
        let (last, first) = (49 * step, 49 * step + gap + 1);
        let expected =
            format!("`input_data.timestamps[0]` is `{first}`, expected a time at most {gap} ms after {last}");
        assert!(error.starts_with(&expected), "{error}");
    }
    // Days of 23 hours, months of 28 days, and two bars with a weekend between them.
    assert_eq!(check(DAY - 60 * MINUTE, 20, DAY, DAY), Ok(()));
    assert_eq!(check(28 * DAY, 3, 31 * DAY, 31 * DAY), Ok(()));
    assert_eq!(check(2 * DAY, 2, MINUTE, MINUTE), Ok(()));
    for (step, count, held_step) in
        [(5 * MINUTE, 20, MINUTE), (MINUTE, 20, 5 * MINUTE), (MINUTE, 2, 60 * MINUTE), (DAY, 3, 60 * MINUTE)]
    {
        let error = check(step, count, held_step, held_step).expect_err("another interval");
        let expected = format!("`input_data.timestamps` is `bars {step} ms apart`, expected bars {held_step} ms apart");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[tokio::test]
async fn of_many_outcomes_the_newest_are_read() {
    let memory = Memory::new();
    let ports = memory.ports();
    for number in 0..6 {
        let outcome = Outcome {
            prediction_id: log::prediction_id("m", 1, &format!("{number:026}")),
            label: Some("b".into()),
            value: None,
            time_ms: ports.clock.now_ms(),
        };
        log::write_outcomes(&ports, &[outcome]).await.unwrap();
        memory.clock.advance_ms(9 * 3_600_000);
    }
    let all = log::read_outcomes(&ports, "m", 0, 100).await.unwrap();
    assert_eq!(all.len(), 6);
    assert!(all[0].time_ms > all[5].time_ms);
    assert_eq!(log::read_outcomes(&ports, "m", 0, 2).await.unwrap(), all[..2]);
}

/// The thread that decoded it.
struct DecodedOn(std::thread::ThreadId);

impl<'de> serde::Deserialize<'de> for DecodedOn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer)?;
        Ok(Self(std::thread::current().id()))
    }
}

#[tokio::test]
async fn the_log_is_decoded_off_the_threads_of_requests() {
    let ports = Memory::new().ports();
    let log = PredictionLog::start(ports.clone(), LogConfig::default());
    log.append(log.reserve(1).await.unwrap(), vec![record(1, ports.clock.now_ms())]).await.unwrap();
    log.flush().await.unwrap();
    let read = log::read_lines::<DecodedOn>(&ports, "predictions/m/", log::HOURS, 0, 10, |_| i64::MAX, |_| true)
        .await
        .unwrap();
    assert_eq!(read.len(), 1);
    // This test's runtime has one thread, this one.
    assert_ne!(read[0].0, std::thread::current().id());
}
