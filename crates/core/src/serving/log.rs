//! The prediction log: JSON lines in blobs, written in batches off the path of the request.
//!
//! | blob | what |
//! |---|---|
//! | `predictions/<model>/<yyyy-mm-dd>/<hh>/<id>.jsonl` | [`PredictionRecord`] per line |
//! | `outcomes/<model>/<yyyy-mm-dd>/<id>.jsonl` | [`Outcome`] per line |
//!
//! Days and hours are those of the records' times, in UTC. A batch that could not be written is kept and tried again,
//! under the same key; meanwhile memory is bounded: requests wait for room, then are refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::{HeldBars, LogConfig, best};
use crate::error::{Error, ErrorKind, Result};
use crate::ports::{Ports, PutMode};

const DAY_MS: i64 = 86_400_000;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long [`PredictionLog::flush`] waits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(20);
const CONCURRENT_READS: usize = 16;
/// Most outcomes that [`accuracy`] reads.
const MAX_OUTCOMES: usize = 100_000;

/// One logged prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictionRecord {
    /// Its id; outcomes refer to it.
    pub prediction_id: String,
    /// When it was made, milliseconds since the epoch.
    pub time_ms: i64,
    /// Registered model.
    pub model: String,
    /// The version that made it.
    pub version: u32,
    /// The request that asked for it.
    pub request_id: String,
    /// Instrument, where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// The bars that moola added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_bars: Option<HeldBars>,
    /// Start of the window's last bar, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bar_time_ms: Option<i64>,
    /// Open, high, low, close of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ohlc: Option<Vec<[f64; 4]>>,
    /// Engineered features before scaling, in the order of the feature set; `None` where missing.
    #[serde(default)]
    pub features: Vec<Option<f64>>,
    /// Hash of the feature set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_set_hash: Option<String>,
    /// Probabilities in the order of the classes, or the value.
    pub outputs: Vec<f64>,
    /// The most probable class; `None` of a regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Time until the model had answered.
    pub latency_us: u64,
    /// What the caller added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

impl PredictionRecord {
    /// Place of the most probable class; `None` of a regression.
    #[must_use]
    pub fn best_class(&self) -> Option<usize> {
        self.class.is_some().then(|| best(&self.outputs))
    }
}

/// What happened after a prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The prediction.
    pub prediction_id: String,
    /// The class that came true, of a classification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The value that came true, of a regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// When it was recorded, milliseconds since the epoch.
    #[serde(default)]
    pub time_ms: i64,
}

/// How the log does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Records in memory that are not durable yet.
    pub num_pending: u64,
    /// Records written since the start.
    pub num_written: u64,
    /// Attempts to write that failed.
    pub num_failures: u64,
    /// Why the last attempt failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Makes the id of a prediction; it tells the model and the version.
#[must_use]
pub fn prediction_id(model: &str, version: u32, id: &str) -> String {
    format!("{model}.{version}.{id}")
}

/// The model and the version that an id of a prediction tells.
#[must_use]
pub fn parse_prediction_id(prediction_id: &str) -> Option<(&str, u32)> {
    let mut parts = prediction_id.rsplitn(3, '.');
    let (id, version, model) = (parts.next()?, parts.next()?, parts.next()?);
    let is_id = id.len() == 26 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    is_id.then_some((model, version.parse().ok()?))
}

/// Room in the log for the records of a request.
pub(super) type Space = OwnedSemaphorePermit;

enum Message {
    Records { records: Vec<PredictionRecord>, space: Space, written: Option<oneshot::Sender<()>> },
    Flush(oneshot::Sender<()>),
}

#[derive(Debug, Default)]
struct Counters {
    num_pending: AtomicU64,
    num_written: AtomicU64,
    num_failures: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// Writes predictions, in the background.
#[derive(Debug)]
pub struct PredictionLog {
    config: LogConfig,
    room: Arc<Semaphore>,
    sender: mpsc::UnboundedSender<Message>,
    counters: Arc<Counters>,
}

impl PredictionLog {
    /// Starts it. Needs a tokio runtime.
    #[must_use]
    pub fn start(ports: Ports, config: LogConfig) -> Self {
        // The semaphore bounds what is in the channel.
        let (sender, receiver) = mpsc::unbounded_channel();
        let counters = Arc::<Counters>::default();
        tokio::spawn(Writer { ports, config: config.clone(), counters: counters.clone() }.run(receiver));
        Self { room: Arc::new(Semaphore::new(config.max_pending_rows)), config, sender, counters }
    }

    /// Waits for room for `num_rows` records.
    ///
    /// # Errors
    /// `Unavailable` where there is none in time.
    pub(super) async fn reserve(&self, num_rows: usize) -> Result<Space> {
        // More than there ever can be: such a request takes all the room.
        let rows = u32::try_from(num_rows.min(self.config.max_pending_rows)).unwrap_or(u32::MAX);
        let wait = Duration::from_millis(self.config.max_wait_ms);
        match timeout(wait, self.room.clone().acquire_many_owned(rows)).await {
            Ok(Ok(space)) => Ok(space),
            Ok(Err(_)) => Err(Error::unavailable("the prediction log is closed")),
            Err(_) => Err(Error::unavailable(format!(
                "the prediction log has no room for {num_rows} records: it could not be written for a while"
            ))),
        }
    }

    /// Logs records; they are durable when this returns only with [`LogConfig::write_through`].
    pub(super) async fn append(&self, space: Space, records: Vec<PredictionRecord>) -> Result<()> {
        let closed = || Error::unavailable("the prediction log is closed");
        self.counters.num_pending.fetch_add(records.len() as u64, Ordering::Relaxed);
        let (written, is_written) = oneshot::channel();
        let written = self.config.write_through.then_some(written);
        self.sender.send(Message::Records { records, space, written }).map_err(|_| closed())?;
        if self.config.write_through {
            is_written.await.map_err(|_| closed())?;
        }
        Ok(())
    }

    /// Waits until everything that was logged is durable.
    ///
    /// # Errors
    /// `Unavailable` where that takes too long.
    pub async fn flush(&self) -> Result<()> {
        let (done, is_done) = oneshot::channel();
        let closed = || Error::unavailable("the prediction log is closed");
        self.sender.send(Message::Flush(done)).map_err(|_| closed())?;
        match timeout(FLUSH_TIMEOUT, is_done).await {
            Ok(done) => done.map_err(|_| closed()),
            Err(_) => Err(Error::unavailable(format!(
                "{} predictions could not be logged within {} s",
                self.status().num_pending,
                FLUSH_TIMEOUT.as_secs()
            ))),
        }
    }

    /// How it does.
    #[must_use]
    pub fn status(&self) -> LogStatus {
        LogStatus {
            num_pending: self.counters.num_pending.load(Ordering::Relaxed),
            num_written: self.counters.num_written.load(Ordering::Relaxed),
            num_failures: self.counters.num_failures.load(Ordering::Relaxed),
            last_error: self.counters.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

struct Writer {
    ports: Ports,
    config: LogConfig,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Batch {
    records: Vec<PredictionRecord>,
    spaces: Vec<Space>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Batch {
    /// Returns whether somebody waits for it.
    fn add(&mut self, message: Message) -> bool {
        match message {
            Message::Records { records, space, written } => {
                self.records.extend(records);
                self.spaces.push(space);
                self.waiting.extend(written);
            }
            Message::Flush(done) => self.waiting.push(done),
        }
        !self.waiting.is_empty()
    }
}

impl Writer {
    async fn run(self, mut receiver: mpsc::UnboundedReceiver<Message>) {
        while let Some(first) = receiver.recv().await {
            let deadline = Instant::now() + Duration::from_millis(self.config.flush_ms);
            let mut batch = Batch::default();
            let mut is_urgent = batch.add(first);
            while batch.records.len() < self.config.max_batch_rows {
                let next = if is_urgent {
                    // Only what is there already.
                    receiver.try_recv().ok()
                } else {
                    timeout_at(deadline, receiver.recv()).await.ok().flatten()
                };
                match next {
                    Some(message) => is_urgent |= batch.add(message),
                    None => break,
                }
            }
            self.write(batch).await;
        }
    }

    async fn write(&self, batch: Batch) {
        let Batch { records, spaces, waiting } = batch;
        let count = records.len() as u64;
        let ports = self.ports.clone();
        // Writing megabytes of JSON would hold up the requests of this thread.
        match tokio::task::spawn_blocking(move || files(&ports, &records)).await {
            Ok(Ok(files)) => {
                for (key, data) in files {
                    self.put(&key, data).await;
                }
                self.counters.num_written.fetch_add(count, Ordering::Relaxed);
            }
            Ok(Err(error)) => self.failed("encoding predictions", &error),
            Err(error) => self.failed("encoding predictions", &Error::internal("panicked").with_source(error)),
        }
        self.counters.num_pending.fetch_sub(count, Ordering::Relaxed);
        drop(spaces);
        for written in waiting {
            // Whoever waited may be gone.
            let _ = written.send(());
        }
    }

    /// Writes one blob, trying until it is done.
    async fn put(&self, key: &str, data: Bytes) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.ports.blobs.put(key, data.clone(), PutMode::Overwrite).await {
                Ok(()) => {
                    *self.counters.last_error.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    return;
                }
                Err(error) => self.failed(key, &error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    fn failed(&self, what: &str, error: &Error) {
        self.counters.num_failures.fetch_add(1, Ordering::Relaxed);
        let reason = error.chain();
        tracing::error!(what, reason, "the prediction log could not be written");
        *self.counters.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

fn day(time_ms: i64) -> Result<String> {
    let time = Timestamp::from_millisecond(time_ms).map_err(|e| Error::internal("a time").with_source(e))?;
    Ok(time.strftime("%Y-%m-%d").to_string())
}

/// The blobs that `records` become: one for each model and hour.
fn files(ports: &Ports, records: &[PredictionRecord]) -> Result<Vec<(String, Bytes)>> {
    let mut files = BTreeMap::<String, Vec<u8>>::new();
    for record in records {
        let hour = record.time_ms.rem_euclid(DAY_MS) / 3_600_000;
        let folder = format!("predictions/{}/{}/{hour:02}", record.model, day(record.time_ms)?);
        add_line(files.entry(folder).or_default(), record)?;
    }
    let name = |(folder, lines): (String, Vec<u8>)| (format!("{folder}/{}.jsonl", ports.ids.new_id()), lines.into());
    Ok(files.into_iter().map(name).collect())
}

fn add_line<T: Serialize>(lines: &mut Vec<u8>, value: &T) -> Result<()> {
    serde_json::to_writer(&mut *lines, value).map_err(|e| Error::internal("encoding a record").with_source(e))?;
    lines.push(b'\n');
    Ok(())
}

pub(super) async fn write_outcomes(ports: &Ports, outcomes: &[Outcome]) -> Result<()> {
    let mut files = BTreeMap::<String, Vec<u8>>::new();
    for outcome in outcomes {
        let model = parse_prediction_id(&outcome.prediction_id).map_or("", |(model, _)| model);
        add_line(files.entry(format!("outcomes/{model}/{}", day(outcome.time_ms)?)).or_default(), outcome)?;
    }
    for (folder, lines) in files {
        let key = format!("{folder}/{}.jsonl", ports.ids.new_id());
        ports.blobs.put(&key, lines.into(), PutMode::Create).await?;
    }
    Ok(())
}

/// The predictions of a model since a time, the newest first, at most `max_rows`.
///
/// # Errors
/// `Corrupt` for a line that is no record; those of the blobs.
pub async fn read(ports: &Ports, model: &str, since_ms: i64, max_rows: usize) -> Result<Vec<PredictionRecord>> {
    let prefix = format!("predictions/{model}/");
    read_lines::<PredictionRecord>(ports, &prefix, HOURS, since_ms, max_rows, |record| record.time_ms, |_| true).await
}

/// The predictions of one version of a model since a time, the newest first, at most `max_rows`, however many those of
/// other versions are.
///
/// # Errors
/// As [`read`].
pub async fn read_version(
    ports: &Ports,
    model: &str,
    version: u32,
    since_ms: i64,
    max_rows: usize,
) -> Result<Vec<PredictionRecord>> {
    let prefix = format!("predictions/{model}/");
    let is_wanted = |record: &PredictionRecord| record.version == version;
    read_lines::<PredictionRecord>(ports, &prefix, HOURS, since_ms, max_rows, |record| record.time_ms, is_wanted).await
}

/// The outcomes of a model since a time, the newest first, at most `max_rows`.
///
/// # Errors
/// `Corrupt` for a line that is no outcome; those of the blobs.
pub async fn read_outcomes(ports: &Ports, model: &str, since_ms: i64, max_rows: usize) -> Result<Vec<Outcome>> {
    let prefix = format!("outcomes/{model}/");
    read_lines::<Outcome>(ports, &prefix, &[""], since_ms, max_rows, |outcome| outcome.time_ms, |_| true).await
}

/// Folders of a day in the log of predictions, the latest first.
pub(super) const HOURS: &[&str] = &[
    "23/", "22/", "21/", "20/", "19/", "18/", "17/", "16/", "15/", "14/", "13/", "12/", "11/", "10/", "09/", "08/",
    "07/", "06/", "05/", "04/", "03/", "02/", "01/", "00/",
];
/// Most blobs that are read for one answer; what is older is left out then.
const MAX_BLOBS: usize = 20_000;

/// Reads day by day, and in a day folder by folder, backwards, until there are `max_rows` that are wanted.
pub(super) async fn read_lines<T: DeserializeOwned + Send + 'static>(
    ports: &Ports,
    prefix: &str,
    folders: &[&str],
    since_ms: i64,
    max_rows: usize,
    time_ms: fn(&T) -> i64,
    is_wanted: impl Fn(&T) -> bool,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    let mut num_blobs = 0;
    let Some(first) = ports.blobs.list(prefix, None, 1).await?.blobs.into_iter().next() else { return Ok(all) };
    let first_day = first.key[prefix.len()..].split('/').next().unwrap_or("").to_owned();
    let since_ms = since_ms.max(0);
    let since_day = day(since_ms)?.max(first_day);
    // Clocks of several machines differ a little.
    let mut at_ms = ports.clock.now_ms() + DAY_MS;
    while all.len() < max_rows && at_ms >= 0 {
        let today = day(at_ms)?;
        at_ms -= DAY_MS;
        if today < since_day {
            break;
        }
        for folder in folders {
            if all.len() >= max_rows || num_blobs >= MAX_BLOBS {
                break;
            }
            let mut keys = keys(ports, &format!("{prefix}{today}/{folder}")).await?;
            keys.reverse();
            keys.truncate(MAX_BLOBS - num_blobs);
            num_blobs += keys.len();
            let mut blobs = futures::stream::iter(keys)
                .map(|key| async move { ports.blobs.get(&key).await.map(|data| (key, data)) })
                .buffered(CONCURRENT_READS);
            while let Some((key, data)) = blobs.try_next().await? {
                // Reading megabytes of JSON would hold up the requests of this thread.
                let decoded = tokio::task::spawn_blocking(move || decode_lines::<T>(&key, &data)).await;
                let records = decoded.map_err(|e| Error::internal("decoding a blob of the log").with_source(e))??;
                all.extend(records.into_iter().filter(|record| time_ms(record) >= since_ms && is_wanted(record)));
                if all.len() >= max_rows {
                    break;
                }
            }
        }
        if num_blobs >= MAX_BLOBS {
            tracing::warn!(prefix, num_blobs, "what is older is left out");
            break;
        }
    }
    all.sort_by_key(|record| std::cmp::Reverse(time_ms(record)));
    all.truncate(max_rows);
    Ok(all)
}

fn decode_lines<T: DeserializeOwned>(key: &str, data: &[u8]) -> Result<Vec<T>> {
    let lines = data.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.is_empty());
    let decode = |(line, number): (&[u8], u64)| {
        serde_json::from_slice(line)
            .map_err(|e| Error::new(ErrorKind::Corrupt, format!("blob `{key}` line {number}")).with_source(e))
    };
    lines.map(decode).collect()
}

async fn keys(ports: &Ports, prefix: &str) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    let mut after = None;
    loop {
        let page = ports.blobs.list(prefix, after.as_deref(), 1000).await?;
        keys.extend(page.blobs.into_iter().map(|blob| blob.key));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(keys),
        }
    }
}

/// Share of the classifications among `records` whose known outcome is what was predicted; `None` where no outcome is
/// known. Where several outcomes were recorded for a prediction, the latest holds. Only the newest 100,000 outcomes count.
///
/// # Errors
/// Those of [`read_outcomes`].
pub async fn accuracy(ports: &Ports, model: &str, since_ms: i64, records: &[PredictionRecord]) -> Result<Option<f64>> {
    let outcomes = read_outcomes(ports, model, since_ms, MAX_OUTCOMES).await?;
    let mut labels = HashMap::<&str, &str>::new();
    // The newest come first.
    for outcome in outcomes.iter().rev() {
        if let Some(label) = &outcome.label {
            labels.insert(&outcome.prediction_id, label);
        }
    }
    let hits: Vec<bool> = records
        .iter()
        .filter_map(|record| Some(labels.get(record.prediction_id.as_str())? == record.class.as_ref()?))
        .collect();
    if hits.is_empty() {
        return Ok(None);
    }
    Ok(Some(hits.iter().filter(|hit| **hit).count() as f64 / hits.len() as f64))
}
