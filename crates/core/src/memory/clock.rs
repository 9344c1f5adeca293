use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::ports::{Clock, Ids};

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Makes a clock that stands at `now_ms`.
    #[must_use]
    pub fn new(now_ms: i64) -> Self {
        Self(AtomicI64::new(now_ms))
    }

    /// Sets it.
    pub fn set_ms(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }

    /// Moves it on.
    pub fn advance_ms(&self, by_ms: i64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Identifiers that count up from 1: `00000000000000000000000001`, ...; the "random" bits are a fixed sequence.
#[derive(Debug, Default)]
pub struct SequentialIds {
    next: AtomicU64,
    state: AtomicU64,
}

impl SequentialIds {
    /// Starts at 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Ids for SequentialIds {
    fn new_id(&self) -> String {
        format!("{:026}", self.next.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn random_u64(&self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.state.fetch_add(GAMMA, Ordering::SeqCst).wrapping_add(GAMMA);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
