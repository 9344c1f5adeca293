use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use moola_core::ports::{Clock, Condition, Events, Item, Key, Query, Schedule, Schedules, Table, Write};
use moola_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::lock;

const PARTITION: &str = "local/schedules";
/// The longest sleep, so that a clock that was set or a computer that slept is noticed.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// The wait after the table or the bus failed.
const RETRY: Duration = Duration::from_secs(5);

/// Schedules in this process, kept in a table.
///
/// A firing's event has the id `{name}@{due}`, so a firing that a crash repeats is recognised by its id. Firings that
/// were missed while the platform was down come as one, the first of them, when it is up again. While no schedule is
/// enabled nothing wakes up.
pub struct LocalSchedules {
    inner: Arc<Inner>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    table: Arc<dyn Table>,
    events: Arc<dyn Events>,
    clock: Arc<dyn Clock>,
    changed: Notify,
    /// Held while firing, so that a firing is published once.
    firing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    schedule: Schedule,
    /// When it was put: a rate counts from here.
    anchor_ms: i64,
    /// Up to when firings are done.
    done_ms: i64,
}

impl fmt::Debug for LocalSchedules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSchedules").finish_non_exhaustive()
    }
}

impl LocalSchedules {
    /// Makes schedules that do not fire before [`LocalSchedules::start`].
    #[must_use]
    pub fn new(table: Arc<dyn Table>, events: Arc<dyn Events>, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner: Arc::new(Inner {
                table,
                events,
                clock,
                changed: Notify::new(),
                firing: tokio::sync::Mutex::default(),
            }),
            task: Mutex::default(),
        }
    }

    /// Starts to fire. Call it within a tokio runtime, after those who want the events have subscribed.
    pub fn start(&self) {
        let mut task = lock(&self.task);
        if task.is_none() {
            *task = Some(tokio::spawn(self.inner.clone().run()));
        }
    }

    /// Stops to fire.
    pub async fn shutdown(&self) {
        let task = lock(&self.task).take();
        if let Some(task) = task {
            task.abort();
            // It ends as cancelled.
            let _ = task.await;
        }
    }

    /// Fires what is due by the clock now; for a clock that was set. Whatever the task fires meanwhile is not fired again.
    ///
    /// # Errors
    /// Those of the table and of the events.
    pub async fn settle(&self) -> Result<()> {
        self.inner.fire_due().await?;
        self.inner.changed.notify_one();
        Ok(())
    }
}

impl Drop for LocalSchedules {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

fn key(name: &str) -> Result<Key> {
    let key = Key::new(PARTITION, name);
    key.check()?;
    Ok(key)
}

fn entry(item: &Item) -> Result<Entry> {
    Entry::deserialize(&item.value).map_err(|error| {
        Error::corrupt(format!("item `{PARTITION}/{}` is no schedule", item.key.sort)).with_source(error)
    })
}

fn value(entry: &Entry) -> Result<serde_json::Value> {
    serde_json::to_value(entry).map_err(|error| Error::internal("a schedule cannot be serialised").with_source(error))
}

impl Inner {
    async fn items(&self) -> Result<Vec<Item>> {
        let mut query = Query::prefix(PARTITION, "");
        let mut items = Vec::new();
        loop {
            let page = self.table.query(&query).await?;
            items.extend(page.items);
            query.after = page.next;
            if query.after.is_none() {
                return Ok(items);
            }
        }
    }

    async fn run(self: Arc<Self>) {
        loop {
            let wait = match self.fire_due().await {
                Ok(None) => None,
                Ok(Some(next_ms)) => {
                    let wait_ms = u64::try_from(next_ms - self.clock.now_ms()).unwrap_or(0);
                    Some(Duration::from_millis(wait_ms).min(MAX_SLEEP))
                }
                Err(error) => {
                    tracing::error!(error = error.chain(), "schedules could not fire");
                    Some(RETRY)
                }
            };
            match wait {
                None => self.changed.notified().await,
                // Past the time, or changed meanwhile: either way look again.
                Some(wait) => drop(tokio::time::timeout(wait, self.changed.notified()).await),
            }
        }
    }

    /// Fires what is due; when the next firing is due.
    async fn fire_due(&self) -> Result<Option<i64>> {
        let _firing = self.firing.lock().await;
        let mut next_ms: Option<i64> = None;
        for item in self.items().await? {
            let mut entry = entry(&item)?;
            if !entry.schedule.enabled {
                continue;
            }
            let expression = entry.schedule.expression.clone();
            let Some(due_ms) = expression.next_after(entry.anchor_ms, entry.done_ms)? else { continue };
            let now_ms = self.clock.now_ms();
            if due_ms > now_ms {
                next_ms = Some(next_ms.map_or(due_ms, |next_ms| next_ms.min(due_ms)));
                continue;
            }
            self.events.publish(vec![entry.schedule.firing(due_ms)]).await?;
            entry.done_ms = now_ms;
            let condition = Condition::Revision(item.revision);
            let write = Write::Put { key: item.key, value: value(&entry)?, condition };
            match self.table.write(vec![write]).await {
                // Replaced or deleted meanwhile: look at it anew.
                Err(error) if error.kind() == ErrorKind::Conflict => return Ok(Some(now_ms)),
                result => result?,
            }
            if let Some(due_ms) = expression.next_after(entry.anchor_ms, now_ms)? {
                next_ms = Some(next_ms.map_or(due_ms, |next_ms| next_ms.min(due_ms)));
            }
        }
        Ok(next_ms)
    }
}

#[async_trait]
impl Schedules for LocalSchedules {
    async fn put(&self, schedule: Schedule) -> Result<()> {
        schedule.check()?;
        let now_ms = self.inner.clock.now_ms();
        let key = key(&schedule.name)?;
        let entry = Entry { schedule, anchor_ms: now_ms, done_ms: now_ms };
        let write = Write::Put { key, value: value(&entry)?, condition: Condition::Always };
        self.inner.table.write(vec![write]).await?;
        self.inner.changed.notify_one();
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        // A name that nothing can have names nothing.
        let Ok(key) = key(name) else { return Ok(()) };
        self.inner.table.write(vec![Write::Delete { key, condition: Condition::Always }]).await?;
        self.inner.changed.notify_one();
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Schedule>> {
        self.inner.items().await?.iter().map(|item| Ok(entry(item)?.schedule)).collect()
    }
}
