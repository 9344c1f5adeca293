//! What the domain needs from its surroundings.
//!
//! Each port is a small trait with an in-memory adapter ([`crate::memory`]) and a conformance suite
//! (`crate::testkit`, feature `testkit`) that every adapter runs. All of them report [`crate::Error`], whose kind says
//! what the caller can do.

mod absent;
mod blobs;
pub mod checks;
mod clock;
mod compiler;
mod cron;
mod engine;
mod events;
mod job_events;
mod jobs;
mod schedules;
mod signer;
mod table;

use std::fmt;
use std::sync::Arc;

pub use absent::Absent;
pub use blobs::{BlobMeta, BlobPage, Blobs, PresignMethod, PutMode};
pub use clock::{Clock, Ids};
pub use compiler::{CompileRequest, CompiledFile, Compiler};
pub use engine::{Artifact, Engine, LoadedModel, ModelFormat, Tensor};
pub use events::{DeadEvent, Event, EventFilter, EventHandler, Events};
pub use job_events::{CORRELATION_TAG, JOB_EVENT_SOURCE, JOB_EVENT_TYPE, JobAttempt};
pub use jobs::{
    EXIT_RETRY, JobDescription, JobFilter, JobId, JobRequest, JobStatus, Jobs, LogLine, is_retry_exit_code,
    is_valid_job_name,
};
pub use schedules::{Schedule, ScheduleExpression, Schedules};
pub use signer::{Signature, Signer};
pub use table::{Condition, Item, Key, MAX_WRITES, Query, QueryPage, Table, Write};

/// All ports, as the domain takes them.
#[derive(Clone)]
pub struct Ports {
    /// Immutable things.
    pub blobs: Arc<dyn Blobs>,
    /// Everything that must win a race.
    pub table: Arc<dyn Table>,
    /// Containers that train and evaluate.
    pub jobs: Arc<dyn Jobs>,
    /// What happened, told to whom it concerns.
    pub events: Arc<dyn Events>,
    /// What happens regularly.
    pub schedules: Arc<dyn Schedules>,
    /// Signs model packages.
    pub signer: Arc<dyn Signer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New identifiers.
    pub ids: Arc<dyn Ids>,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}
