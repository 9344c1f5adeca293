//! Trying again where the SDK does not: conflicts that pass, bodies that were cut off.

use std::time::Duration;

use moola_core::{Error, Result};
use rand::TryRng;
use rand::rngs::SysRng;

const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Counts the attempts of one call.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    num_failed: u32,
}

impl Attempts {
    /// How many there are, the first one included.
    pub(crate) const MAX: u32 = 10;

    /// Waits until the next attempt; false where there was the last.
    pub(crate) async fn again(&mut self) -> bool {
        self.num_failed += 1;
        if self.num_failed == Self::MAX {
            return false;
        }
        tokio::time::sleep(pause(self.num_failed, jitter())).await;
        true
    }
}

/// Twice as long after every failure; `jitter` of 0 to 1 keeps those apart who failed together.
fn pause(num_failed: u32, jitter: f64) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << (num_failed - 1).min(16)).min(LONGEST_PAUSE);
    longest.mul_f64(0.25 + 0.75 * jitter)
}

fn jitter() -> f64 {
    // Without random bits the pause is the longest.
    f64::from(SysRng.try_next_u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

/// A name for one write that no other has: 32 hex digits.
pub(crate) fn token() -> Result<String> {
    let mut bytes = [0; 16];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| Error::unavailable("the operating system gives no random bits").with_source(error))?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(1, 1.0), FIRST_PAUSE);
        assert_eq!(pause(2, 1.0), FIRST_PAUSE * 2);
        assert_eq!(pause(3, 0.0), FIRST_PAUSE);
        for num_failed in 1..Attempts::MAX {
            assert!(pause(num_failed + 1, 1.0) >= pause(num_failed, 1.0));
            assert!(pause(num_failed, 1.0) <= LONGEST_PAUSE);
        }
        assert_eq!(pause(u32::MAX, 1.0), LONGEST_PAUSE);
    }

    #[test]
    fn tokens_differ() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 32, "DynamoDB takes 36 characters");
    }
}
