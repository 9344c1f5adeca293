//! The clock of the machine, and identifiers made of it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rand::rngs::SysRng;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::error::{Error, Result};
use crate::ports::{Clock, Ids};

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Identifiers of 48 bits of time and 80 random bits (the layout of a ULID), in lower-case Crockford base 32. Within one
/// process each is greater than the one before, even where the clock goes back.
pub struct TimeIds {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    last: u128,
    rng: ChaCha20Rng,
}

impl fmt::Debug for TimeIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeIds").finish_non_exhaustive()
    }
}

impl TimeIds {
    /// Makes a source of identifiers; random bits are seeded by the operating system.
    ///
    /// # Errors
    /// `Unavailable` where the operating system gives no random bits.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self> {
        let rng = ChaCha20Rng::try_from_rng(&mut SysRng)
            .map_err(|error| Error::unavailable("the operating system gives no random bits").with_source(error))?;
        Ok(Self { clock, state: Mutex::new(State { last: 0, rng }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ids for TimeIds {
    fn new_id(&self) -> String {
        const RANDOM_BITS: u32 = 80;
        let now_ms = u128::try_from(self.clock.now_ms()).unwrap_or(0) & ((1 << 48) - 1);
        let mut state = self.state();
        let random = u128::from(state.rng.next_u64()) << 16 | u128::from(state.rng.next_u32() & 0xffff);
        let fresh = now_ms << RANDOM_BITS | random;
        let id = if fresh >> RANDOM_BITS > state.last >> RANDOM_BITS { fresh } else { state.last.wrapping_add(1) };
        state.last = id;
        encode(id)
    }

    fn random_u64(&self) -> u64 {
        self.state().rng.next_u64()
    }
}

fn encode(id: u128) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    (0..26).rev().map(|place| char::from(DIGITS[(id >> (5 * place) & 31) as usize])).collect()
}

#[cfg(test)]
mod tests;
