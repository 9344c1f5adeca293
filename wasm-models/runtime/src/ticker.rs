//! The clock of deadlines: a thread that advances the epoch of an engine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use moola_core::{Error, Result};
use wasmtime::{Engine, EngineWeak};

/// Time between two epochs: what deadlines are rounded to.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// The thread sleeps after this many ticks without a call.
const IDLE_TICKS: u32 = 100;

/// Advances the epoch every [`TICK`] while calls run; sleeps while none has run for a while, and ends when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Calls that run.
    calls: AtomicU64,
    /// Whether the thread sleeps until it is woken.
    is_asleep: AtomicBool,
    has_ended: Mutex<bool>,
    changed: Condvar,
}

/// A call that runs, with the epoch advancing.
#[derive(Debug)]
pub(crate) struct Call<'a>(&'a Shared);

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// `Unavailable` where the system gives no thread.
    pub(crate) fn start(engine: &Engine) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (engine, its) = (engine.weak(), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("wasm-epoch".to_owned()).spawn(move || its.tick(&engine));
        let thread = thread.map_err(|error| Error::unavailable("no thread for deadlines").with_source(error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Begins a call.
    pub(crate) fn begin(&self) -> Call<'_> {
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.is_asleep.load(Ordering::SeqCst) {
            // The thread holds the lock from saying that it sleeps until it does.
            drop(self.shared.lock());
            self.shared.changed.notify_one();
        }
        Call(&self.shared)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self.shared.lock() = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It panics nowhere.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.has_ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self, engine: &EngineWeak) {
        let mut idle_ticks = 0;
        let mut has_ended = self.lock();
        while !*has_ended {
            if idle_ticks >= IDLE_TICKS {
                self.is_asleep.store(true, Ordering::SeqCst);
                // A call that began before this line is seen here; one that begins after it wakes the thread.
                if self.calls.load(Ordering::SeqCst) == 0 {
                    has_ended = self.changed.wait(has_ended).unwrap_or_else(PoisonError::into_inner);
                }
                self.is_asleep.store(false, Ordering::SeqCst);
                idle_ticks = 0;
                continue;
            }
            has_ended = self.changed.wait_timeout(has_ended, TICK).unwrap_or_else(PoisonError::into_inner).0;
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
            idle_ticks = if self.calls.load(Ordering::SeqCst) == 0 { idle_ticks + 1 } else { 0 };
        }
    }
}
