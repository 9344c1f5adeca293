use super::*;
use crate::ports::{Clock, Ids, Signer};

#[test]
fn ids_count_up_and_sort() {
    let ids = SequentialIds::new();
    let made: Vec<String> = (0..12).map(|_| ids.new_id()).collect();
    assert!(made.is_sorted());
    assert!(made.iter().all(|id| id.len() == 26));
    assert_ne!(ids.random_u64(), ids.random_u64());
    // First output of SplitMix64 from seed 0, as in the reference implementation.
    assert_eq!(SequentialIds::new().random_u64(), 0xe220_a839_7b1d_cdaf);
}

#[test]
fn the_clock_moves_only_when_told() {
    let clock = ManualClock::new(START_MS);
    clock.advance_ms(5);
    assert_eq!(clock.now_ms(), START_MS + 5);
    clock.set_ms(7);
    assert_eq!(clock.now_ms(), 7);
}

#[tokio::test]
async fn trust_lets_another_key_verify() {
    let (one, other) = (MemorySigner::new(b"one"), MemorySigner::new(b"other"));
    let signature = one.sign(b"message").await.unwrap();
    assert_eq!(other.verify(b"message", &signature).await.unwrap_err().kind(), crate::ErrorKind::Forbidden);
    other.trust(&one);
    other.verify(b"message", &signature).await.unwrap();
}
