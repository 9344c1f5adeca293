//! Conformance suites of the ports: every adapter runs them, so that all keep the same promises.
//!
//! Each suite is a function that takes a maker of fresh adapters and panics where a promise is broken.

mod blobs;
mod events;
mod faults;
mod jobs;
mod models;
mod schedules;
mod signer;
mod table;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

pub use blobs::blobs;
pub use events::{EventsUnderTest, events};
pub use faults::{Fault, Faults};
pub use jobs::{JOB_SCRIPT, JobsUnderTest, job_script, jobs};
pub use models::{ToyCompiler, ToyEngine};
pub use schedules::{SchedulesUnderTest, schedules, schedules_fire};
pub use signer::signer;
pub use table::table;

use crate::error::{ErrorKind, Result};
use crate::ports::{Event, EventHandler};

/// The longest that a suite waits for something that must come.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Collects the events that it is told.
#[derive(Debug, Default)]
pub struct Recorder {
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    /// Makes an empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What came so far, in order of arrival.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `is_enough` of what came.
    ///
    /// # Panics
    /// Where that takes more than a minute.
    pub async fn wait(&self, what: &str, is_enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        wait(what, async || Some(self.events()).filter(|events| is_enough(events))).await
    }
}

#[async_trait]
impl EventHandler for Recorder {
    async fn handle(&self, event: &Event) -> Result<()> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
        Ok(())
    }
}

/// Polls until there is an answer.
async fn wait<T>(what: &str, poll: impl AsyncFn() -> Option<T>) -> T {
    let waited = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Some(answer) = poll().await {
                return answer;
            }
            tokio::time::sleep(POLL).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} did not happen within {DEADLINE:?}"))
}

/// Runs the futures at once and returns what they return.
async fn at_once<T, F>(num: usize, make: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..num).map(|index| tokio::spawn(make(index))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap_or_else(|error| panic!("a task panicked: {error}")));
    }
    results
}

/// Unwraps.
#[track_caller]
fn ok<T>(result: Result<T>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {}", error.chain()),
    }
}

/// Checks that a call was refused with `kind`.
#[track_caller]
fn refused<T>(result: Result<T>, kind: ErrorKind, what: &str) {
    match result {
        Ok(_) => panic!("{what}: succeeded, expected {kind:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {}", error.chain()),
    }
}

#[cfg(test)]
mod tests;
