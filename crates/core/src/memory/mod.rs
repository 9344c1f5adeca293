//! In-memory adapters of every port, for tests: nothing survives the process.
//!
//! [`Memory`] is a whole platform in memory. Time stands still until the test moves it, identifiers count up, events
//! wait until [`Memory::settle`], so a test of the domain sees the same thing at every run.

mod blobs;
mod clock;
mod events;
mod jobs;
mod schedules;
mod signer;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use blobs::MemoryBlobs;
pub use clock::{ManualClock, SequentialIds};
pub use events::MemoryEvents;
pub use jobs::{JobContext, MemoryJobs};
pub use schedules::MemorySchedules;
pub use signer::MemorySigner;
pub use table::MemoryTable;

use crate::ports::Ports;

/// When time starts for [`Memory::new`]: 2026-01-05T00:00:00Z, a Monday.
pub const START_MS: i64 = 1_767_571_200_000;

/// All in-memory adapters, wired together.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Blobs.
    pub blobs: Arc<MemoryBlobs>,
    /// Items.
    pub table: Arc<MemoryTable>,
    /// Jobs; publishes to `events`.
    pub jobs: Arc<MemoryJobs>,
    /// Events.
    pub events: Arc<MemoryEvents>,
    /// Schedules; publishes to `events`.
    pub schedules: Arc<MemorySchedules>,
    /// Signer.
    pub signer: Arc<MemorySigner>,
    /// The time.
    pub clock: Arc<ManualClock>,
    /// Identifiers.
    pub ids: Arc<SequentialIds>,
}

impl Memory {
    /// Makes an empty platform whose clock stands at [`START_MS`].
    #[must_use]
    pub fn new() -> Self {
        let clock = Arc::new(ManualClock::new(START_MS));
        let ids = Arc::new(SequentialIds::new());
        let events = Arc::new(MemoryEvents::new());
        Self {
            blobs: Arc::new(MemoryBlobs::new(clock.clone())),
            table: Arc::new(MemoryTable::new()),
            jobs: Arc::new(MemoryJobs::new(events.clone(), clock.clone(), ids.clone())),
            schedules: Arc::new(MemorySchedules::new(events.clone(), clock.clone())),
            signer: Arc::new(MemorySigner::new(b"memory")),
            events,
            clock,
            ids,
        }
    }

    /// The adapters as the domain takes them.
    #[must_use]
    pub fn ports(&self) -> Ports {
        Ports {
            blobs: self.blobs.clone(),
            table: self.table.clone(),
            jobs: self.jobs.clone(),
            events: self.events.clone(),
            schedules: self.schedules.clone(),
            signer: self.signer.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
        }
    }

    /// Waits for running jobs and delivers events until nothing more happens.
    pub async fn settle(&self) {
        loop {
            self.jobs.settle().await;
            if self.events.drain().await == 0 && self.jobs.num_running() == 0 {
                return;
            }
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// The ports of a new [`Memory`], where a test needs no more than that.
#[must_use]
pub fn ports() -> Ports {
    Memory::new().ports()
}

/// Locks; a panic of another holder leaves usable data, since every change is made in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
