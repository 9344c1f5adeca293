use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use moola_core::ports::checks::check_events;
use moola_core::ports::{
    Condition, DeadEvent, Event, EventFilter, EventHandler, Events, Ids, Item, Key, MAX_WRITES, Query, Table, Write,
};
use moola_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::lock;

const LOG: &str = "local/events/log";
const DEAD: &str = "local/events/dead";
/// So many events over the limit stay in the log until they are deleted together.
const LOG_SLACK: usize = 256;

/// Numbers of [`LocalEvents`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsConfig {
    /// Events kept in the log for [`LocalEvents::history`].
    pub max_log_events: usize,
    /// How often a subscriber that answers with a retryable error sees an event before it is put aside.
    pub max_attempts: u32,
    /// Wait before the second attempt; it doubles with each one.
    pub backoff: Duration,
    /// Longest wait between two attempts.
    pub max_backoff: Duration,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            max_log_events: 10_000,
            max_attempts: 20,
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(60),
        }
    }
}

/// Events in this process, with their queues in a table, so that nothing accepted is lost.
///
/// Every subscriber has its own queue, and is told one event after the other in the order in which they were published.
/// An event that it cannot handle is put aside ([`LocalEvents::dead`]) and the next one follows. Queues of subscribers
/// that are not there (yet) after a restart wait for them.
pub struct LocalEvents {
    inner: Arc<Inner>,
}

struct Inner {
    table: Arc<dyn Table>,
    ids: Arc<dyn Ids>,
    config: EventsConfig,
    subscribers: Mutex<BTreeMap<String, Subscriber>>,
    num_logged: AtomicUsize,
}

struct Subscriber {
    filter: EventFilter,
    wake: Arc<Notify>,
    /// `None` after the shutdown.
    task: Option<JoinHandle<()>>,
}

impl fmt::Debug for LocalEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEvents").finish_non_exhaustive()
    }
}

impl LocalEvents {
    /// Opens the bus.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn open(table: Arc<dyn Table>, ids: Arc<dyn Ids>, config: EventsConfig) -> Result<Self> {
        let mut num_logged = 0;
        let mut query = Query::prefix(LOG, "");
        loop {
            let page = table.query(&query).await?;
            num_logged += page.items.len();
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        let subscribers = Mutex::default();
        let inner = Inner { table, ids, config, subscribers, num_logged: AtomicUsize::new(num_logged) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Adds a subscriber, or replaces the one of this name: `handler` is told what waits in the queue of this name, then
    /// what is published from here on. Call it within a tokio runtime.
    pub fn subscribe(&self, name: &str, filter: EventFilter, handler: Arc<dyn EventHandler>) {
        let wake = Arc::new(Notify::new());
        let dispatcher = Dispatcher {
            table: self.inner.table.clone(),
            config: self.inner.config.clone(),
            name: name.to_owned(),
            wake: wake.clone(),
            handler,
        };
        let mut subscribers = lock(&self.inner.subscribers);
        if let Some(task) = subscribers.remove(name).and_then(|replaced| replaced.task) {
            task.abort();
        }
        let task = Some(tokio::spawn(dispatcher.run()));
        subscribers.insert(name.to_owned(), Subscriber { filter, wake, task });
    }

    /// Stops to deliver, in the midst of a handler too. What is published still goes to the queues.
    pub async fn shutdown(&self) {
        let tasks: Vec<_> = lock(&self.inner.subscribers).values_mut().filter_map(|one| one.task.take()).collect();
        for task in tasks {
            task.abort();
            // It ends as cancelled.
            let _ = task.await;
        }
    }

    /// The latest events, the newest first.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn history(&self, limit: usize) -> Result<Vec<Event>> {
        let query = Query { limit, descending: true, ..Query::prefix(LOG, "") };
        self.inner.table.query(&query).await?.items.into_iter().map(parse).collect()
    }

    /// The latest events that a subscriber could not handle, the newest first.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn dead(&self, limit: usize) -> Result<Vec<DeadEvent>> {
        let query = Query { limit, descending: true, ..Query::prefix(DEAD, "") };
        self.inner.table.query(&query).await?.items.into_iter().map(parse).collect()
    }

    /// Number of events that wait for the subscriber `name`, counted up to 1,000.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn num_waiting(&self, name: &str) -> Result<usize> {
        Ok(self.inner.table.query(&Query::prefix(queue(name), "")).await?.items.len())
    }
}

impl Drop for LocalEvents {
    fn drop(&mut self) {
        for subscriber in lock(&self.inner.subscribers).values() {
            if let Some(task) = &subscriber.task {
                task.abort();
            }
        }
    }
}

impl Inner {
    async fn trim_log(&self) -> Result<()> {
        while self.num_logged.load(Ordering::SeqCst) > self.config.max_log_events + LOG_SLACK {
            let surplus = self.num_logged.load(Ordering::SeqCst) - self.config.max_log_events;
            let query = Query { limit: surplus.min(MAX_WRITES), ..Query::prefix(LOG, "") };
            let oldest = self.table.query(&query).await?.items;
            if oldest.is_empty() {
                return Ok(());
            }
            let num_deleted = oldest.len();
            let delete = |item: Item| Write::Delete { key: item.key, condition: Condition::Exists };
            self.table.write(oldest.into_iter().map(delete).collect()).await?;
            self.num_logged.fetch_sub(num_deleted, Ordering::SeqCst);
        }
        Ok(())
    }
}

fn queue(name: &str) -> String {
    format!("local/events/queue/{name}")
}

fn parse<T: DeserializeOwned>(item: Item) -> Result<T> {
    let at = format!("{}/{}", item.key.partition, item.key.sort);
    serde_json::from_value(item.value)
        .map_err(|error| Error::corrupt(format!("item `{at}` is no event")).with_source(error))
}

fn put(key: Key, value: &impl Serialize) -> Result<Write> {
    let value = serde_json::to_value(value)
        .map_err(|error| Error::internal("an event cannot be serialised").with_source(error))?;
    Ok(Write::Put { key, value, condition: Condition::Always })
}

#[async_trait]
impl Events for LocalEvents {
    async fn publish(&self, events: Vec<Event>) -> Result<()> {
        check_events(events.len())?;
        let num_events = events.len();
        let mut writes = Vec::new();
        let mut wake = Vec::new();
        for event in &events {
            let sort = self.inner.ids.new_id();
            writes.push(put(Key::new(LOG, &sort), event)?);
            for (name, subscriber) in lock(&self.inner.subscribers).iter() {
                if subscriber.filter.matches(event) {
                    writes.push(put(Key::new(queue(name), &sort), event)?);
                    wake.push(subscriber.wake.clone());
                }
            }
        }
        while !writes.is_empty() {
            let rest = writes.split_off(writes.len().min(MAX_WRITES));
            self.inner.table.write(std::mem::replace(&mut writes, rest)).await?;
        }
        wake.iter().for_each(|wake| wake.notify_one());
        self.inner.num_logged.fetch_add(num_events, Ordering::SeqCst);
        if let Err(error) = self.inner.trim_log().await {
            // The events are accepted; the log is trimmed another time.
            tracing::warn!(error = error.chain(), "the log of events was not trimmed");
        }
        Ok(())
    }
}

/// Serves the queue of one subscriber.
struct Dispatcher {
    table: Arc<dyn Table>,
    config: EventsConfig,
    name: String,
    wake: Arc<Notify>,
    handler: Arc<dyn EventHandler>,
}

impl Dispatcher {
    async fn run(self) {
        let query = Query { limit: 64, ..Query::prefix(queue(&self.name), "") };
        loop {
            let items = match self.table.query(&query).await {
                Ok(page) => page.items,
                Err(error) => {
                    tracing::error!(subscriber = self.name, error = error.chain(), "a queue of events cannot be read");
                    tokio::time::sleep(self.config.max_backoff).await;
                    continue;
                }
            };
            if items.is_empty() {
                self.wake.notified().await;
            }
            for item in items {
                if let Err(error) = self.deliver(item).await {
                    tracing::error!(subscriber = self.name, error = error.chain(), "an event stays in its queue");
                    tokio::time::sleep(self.config.backoff).await;
                    break;
                }
            }
        }
    }

    /// Hands an event to the subscriber until it is handled or put aside, then takes it from the queue.
    async fn deliver(&self, item: Item) -> Result<()> {
        let key = item.key.clone();
        let taken = Write::Delete { key: key.clone(), condition: Condition::Always };
        let event: Event = parse(item)?;
        let mut backoff = self.config.backoff;
        for attempt in 1.. {
            let handled = AssertUnwindSafe(self.handler.handle(&event)).catch_unwind().await;
            let error = match handled {
                Ok(Ok(())) => break,
                Ok(Err(error)) => error,
                Err(_) => Error::internal("the handler panicked"),
            };
            if error.is_retryable() && attempt < self.config.max_attempts {
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(self.config.max_backoff);
                continue;
            }
            tracing::error!(
                subscriber = self.name,
                event = event.id,
                detail_type = event.detail_type,
                correlation_id = event.correlation_id,
                error = error.chain(),
                "an event was put aside"
            );
            let dead = DeadEvent { subscriber: self.name.clone(), event, error: error.chain() };
            let dead = put(Key::new(DEAD, format!("{}/{}", key.sort, self.name)), &dead)?;
            return self.table.write(vec![dead, taken]).await;
        }
        self.table.write(vec![taken]).await
    }
}
