//! Embedded adapters: directory, redb, child processes, in-process events and schedules.
//!
//! [`Local::open`] wires them together in one data directory:
//!
//! ```text
//! data/
//!   lock          held by the one platform process that uses the directory
//!   blobs/        one file for each blob, under its key
//!   table.redb    all items: the domain's, and the queues of jobs, events and schedules
//!   keys/         signing.pem (0600), trusted/*.pem (public keys of others)
//!   logs/         what jobs printed: <job>/<attempt>.log, <job>/<index>/<attempt>.log
//! ```

mod blobs;
mod events;
mod jobs;
mod platform;
mod schedules;
mod signer;
mod table;

pub use blobs::DirectoryBlobs;
pub use events::{EventsConfig, LocalEvents};
pub use jobs::{CommandTemplate, ProcessJobs, ProcessJobsConfig};
pub use platform::{Local, LocalConfig};
pub use schedules::LocalSchedules;
pub use signer::KeyFileSigner;
pub use table::RedbTable;

use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use moola_core::{Error, Result};

/// Locks; a panic of another holder leaves usable data, since every change is made in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what blocks off the async runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("work in the background was lost").with_source(error)),
    }
}

fn io_error(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::unavailable(format!("cannot {doing} `{}`", path.display())).with_source(error)
}

/// Makes the entries of a directory durable.
fn sync_dir(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}
