use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// Computes off the asynchronous threads: so many at once, so many waiting.
#[derive(Debug)]
pub(super) struct Pool {
    slots: Arc<Semaphore>,
    in_flight: Arc<AtomicUsize>,
    max_in_flight: usize,
}

struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub(super) fn new(max_concurrent: usize, max_queued: usize) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let concurrent = if max_concurrent == 0 { cores() } else { max_concurrent };
        Self {
            slots: Arc::new(Semaphore::new(concurrent)),
            in_flight: Arc::default(),
            max_in_flight: concurrent.saturating_add(max_queued),
        }
    }

    pub(super) fn num_in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Runs `work` on a thread that may block.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let num_before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let in_flight = InFlight(self.in_flight.clone());
        if num_before >= self.max_in_flight {
            return Err(Error::unavailable(format!("{num_before} requests are being computed or wait, no more fit")));
        }
        let slot = self.slots.clone().acquire_owned().await.map_err(|e| Error::internal("pool").with_source(e))?;
        let done = tokio::task::spawn_blocking(move || {
            let _guards = (slot, in_flight);
            work()
        });
        done.await.map_err(|e| Error::internal("a prediction failed").with_source(e))?
    }
}
