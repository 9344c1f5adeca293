//! Ports that fail on demand, to test what is left behind.
//!
//! One plan covers all ports of a platform: every call that changes something (put, delete, write, publish, submit, cancel)
//! is counted, whatever port it goes to, so a test can fail each of them in turn.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::memory::{ManualClock, Memory};
use crate::ports::{
    BlobMeta, BlobPage, Blobs, Event, Events, Item, JobDescription, JobFilter, JobId, JobRequest, Jobs, Key, LogLine,
    Ports, PresignMethod, PutMode, Query, QueryPage, Schedule, Schedules, Signature, Signer, Table, Write,
};

/// What goes wrong at one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not done, and says so: throttled, or the connection failed.
    Before,
    /// It is done, but the answer is lost: a timeout.
    After,
    /// The process dies before it is done: no later call is done either, until [`Faults::revive`].
    CrashBefore,
    /// The process dies after it was done.
    CrashAfter,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Before, Self::After, Self::CrashBefore, Self::CrashAfter];
}

#[derive(Debug, Default)]
struct State {
    /// The fault of the mutating call of this number, from 1.
    planned: Option<(usize, Fault)>,
    /// Each call, reads too, fails with this probability.
    random: Option<(ChaCha8Rng, f64)>,
    /// Lets other tasks run before a call, by chance.
    interleaving: Option<ChaCha8Rng>,
    is_dead: bool,
    has_hit: bool,
    num_writes: usize,
    calls: VecDeque<String>,
}

/// The plan of what goes wrong.
#[derive(Debug, Clone)]
pub struct Faults {
    state: Arc<Mutex<State>>,
    clock: Arc<ManualClock>,
}

/// Whether a call may change something.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Read,
    Write,
}

impl Faults {
    /// Wraps the ports of `memory`; nothing fails yet. Every call takes a millisecond of its clock.
    #[must_use]
    pub fn wrap(memory: &Memory) -> (Self, Ports) {
        let faults = Self { state: Arc::default(), clock: memory.clock.clone() };
        let raw = memory.ports();
        let ports = Ports {
            blobs: Arc::new(FaultyBlobs { inner: raw.blobs, faults: faults.clone() }),
            table: Arc::new(FaultyTable { inner: raw.table, faults: faults.clone() }),
            jobs: Arc::new(FaultyJobs { inner: raw.jobs, faults: faults.clone() }),
            events: Arc::new(FaultyEvents { inner: raw.events, faults: faults.clone() }),
            schedules: Arc::new(FaultySchedules { inner: raw.schedules, faults: faults.clone() }),
            signer: Arc::new(FaultySigner { inner: raw.signer, faults: faults.clone() }),
            clock: raw.clock,
            ids: raw.ids,
        };
        (faults, ports)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the `call`-th mutating call from now on, from 1, go wrong.
    pub fn plan(&self, call: usize, fault: Fault) {
        let mut state = self.state();
        *state = State { planned: Some((call, fault)), interleaving: state.interleaving.take(), ..State::default() };
    }

    /// Lets every call from now on, reads too, fail with this probability; half of the mutating ones are done all the same.
    pub fn at_random(&self, seed: u64, probability: f64) {
        self.state().random = Some((ChaCha8Rng::seed_from_u64(seed), probability));
    }

    /// Lets other tasks of the runtime run before a call, by chance.
    pub fn interleave(&self, seed: u64) {
        self.state().interleaving = Some(ChaCha8Rng::seed_from_u64(seed));
    }

    /// Ends all faults: the ports answer again.
    pub fn revive(&self) {
        let mut state = self.state();
        (state.planned, state.random, state.is_dead) = (None, None, false);
    }

    /// Starts the process again where it died, as whoever calls it does.
    pub fn revive_if_dead(&self) {
        if self.is_dead() {
            self.revive();
        }
    }

    /// Whether the process died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    /// Whether the planned call came.
    #[must_use]
    pub fn has_hit(&self) -> bool {
        self.state().has_hit
    }

    /// Mutating calls since [`Faults::plan`].
    #[must_use]
    pub fn num_writes(&self) -> usize {
        self.state().num_writes
    }

    /// The latest mutating calls, the oldest first, to say in a failure what went wrong where.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.iter().cloned().collect()
    }

    /// Before a call: whether its answer is to be lost; an error where it is not to be done.
    async fn enter(&self, kind: Kind, what: impl FnOnce() -> String) -> Result<bool> {
        let num_yields = {
            let mut state = self.state();
            state.interleaving.as_mut().map_or(0, |rng| rng.random_range(0..3))
        };
        for _ in 0..num_yields {
            tokio::task::yield_now().await;
        }
        self.clock.advance_ms(1);
        let mut state = self.state();
        if state.is_dead {
            return Err(Error::unavailable("the process is dead"));
        }
        let mut fault = None;
        if kind == Kind::Write {
            state.num_writes += 1;
            fault = state.planned.filter(|(call, _)| *call == state.num_writes).map(|(_, fault)| fault);
            state.has_hit |= fault.is_some();
            let call = format!("{} {}", state.num_writes, what());
            state.calls.push_back(fault.map_or(call.clone(), |fault| format!("{call} <- {fault:?}")));
            if state.calls.len() > 100 {
                state.calls.pop_front();
            }
        }
        if let Some((rng, probability)) = &mut state.random
            && rng.random_bool(*probability)
        {
            fault = Some(if kind == Kind::Write && rng.random_bool(0.5) { Fault::After } else { Fault::Before });
        }
        state.is_dead = matches!(fault, Some(Fault::CrashBefore | Fault::CrashAfter));
        match fault {
            Some(Fault::Before | Fault::CrashBefore) => Err(Error::unavailable("throttled, by plan")),
            Some(Fault::After | Fault::CrashAfter) => Ok(true),
            None => Ok(false),
        }
    }

    async fn read<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.enter(Kind::Read, String::new).await?;
        call.await
    }

    async fn write<T>(
        &self,
        what: impl FnOnce() -> String + Send,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let is_lost = self.enter(Kind::Write, what).await?;
        let answer = call.await;
        if is_lost { Err(Error::unavailable("the answer was lost, by plan")) } else { answer }
    }
}

macro_rules! faulty {
    ($($name:ident: $port:ident),*) => {$(
        struct $name {
            inner: Arc<dyn $port>,
            faults: Faults,
        }
    )*};
}

faulty!(
    FaultyBlobs: Blobs,
    FaultyTable: Table,
    FaultyJobs: Jobs,
    FaultyEvents: Events,
    FaultySchedules: Schedules,
    FaultySigner: Signer
);

#[async_trait]
impl Blobs for FaultyBlobs {
    async fn put(&self, key: &str, data: Bytes, mode: PutMode) -> Result<()> {
        self.faults.write(|| format!("put blob {key}"), self.inner.put(key, data, mode)).await
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        self.faults.read(self.inner.get(key)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.faults.read(self.inner.get_range(key, range)).await
    }

    async fn head(&self, key: &str) -> Result<BlobMeta> {
        self.faults.read(self.inner.head(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<BlobPage> {
        self.faults.read(self.inner.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.faults.write(|| format!("delete blob {key}"), self.inner.delete(key)).await
    }

    async fn presign(&self, key: &str, method: PresignMethod, expires: Duration) -> Result<String> {
        self.faults.read(self.inner.presign(key, method, expires)).await
    }

    fn url(&self, key: &str) -> String {
        self.inner.url(key)
    }
}

#[async_trait]
impl Table for FaultyTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        self.faults.read(self.inner.get(key)).await
    }

    async fn query(&self, query: &Query) -> Result<QueryPage> {
        self.faults.read(self.inner.query(query)).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        let keys: Vec<String> =
            writes.iter().map(|write| write.key()).map(|k| format!("{}/{}", k.partition, k.sort)).collect();
        self.faults.write(|| format!("write {}", keys.join(", ")), self.inner.write(writes)).await
    }
}

#[async_trait]
impl Jobs for FaultyJobs {
    async fn submit(&self, request: JobRequest) -> Result<JobId> {
        let what = format!("submit {}", request.name);
        self.faults.write(|| what, self.inner.submit(request)).await
    }

    async fn describe(&self, id: &JobId) -> Result<JobDescription> {
        self.faults.read(self.inner.describe(id)).await
    }

    async fn list(&self, filter: &JobFilter) -> Result<Vec<JobDescription>> {
        self.faults.read(self.inner.list(filter)).await
    }

    async fn cancel(&self, id: &JobId, reason: &str) -> Result<()> {
        self.faults.write(|| format!("cancel {id}"), self.inner.cancel(id, reason)).await
    }

    async fn logs(&self, id: &JobId, limit: usize) -> Result<Vec<LogLine>> {
        self.faults.read(self.inner.logs(id, limit)).await
    }
}

#[async_trait]
impl Events for FaultyEvents {
    async fn publish(&self, events: Vec<Event>) -> Result<()> {
        let types: Vec<String> = events.iter().map(|event| event.detail_type.clone()).collect();
        self.faults.write(|| format!("publish {}", types.join(", ")), self.inner.publish(events)).await
    }
}

#[async_trait]
impl Schedules for FaultySchedules {
    async fn put(&self, schedule: Schedule) -> Result<()> {
        let what = format!("put schedule {}", schedule.name);
        self.faults.write(|| what, self.inner.put(schedule)).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.faults.write(|| format!("delete schedule {name}"), self.inner.delete(name)).await
    }

    async fn list(&self) -> Result<Vec<Schedule>> {
        self.faults.read(self.inner.list()).await
    }
}

#[async_trait]
impl Signer for FaultySigner {
    async fn sign(&self, message: &[u8]) -> Result<Signature> {
        self.faults.read(self.inner.sign(message)).await
    }

    async fn public_key(&self) -> Result<String> {
        self.faults.read(self.inner.public_key()).await
    }

    async fn verify(&self, message: &[u8], signature: &Signature) -> Result<()> {
        self.inner.verify(message, signature).await
    }
}
