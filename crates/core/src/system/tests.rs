use std::collections::BTreeSet;

use super::*;
use crate::memory::ManualClock;

#[test]
fn ids_are_unique_and_sort_by_time_even_when_the_clock_goes_back() {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let ids = TimeIds::new(clock.clone()).unwrap();
    let mut made: Vec<String> = (0..1_000).map(|_| ids.new_id()).collect();
    clock.advance_ms(1);
    made.push(ids.new_id());
    clock.set_ms(1_600_000_000_000);
    made.push(ids.new_id());
    assert!(made.is_sorted());
    assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), made.len());
    assert!(
        made.iter()
            .all(|id| id.len() == 26 && id.bytes().all(|byte| b"0123456789abcdefghjkmnpqrstvwxyz".contains(&byte)))
    );
}

#[test]
fn the_encoding_is_that_of_ulid() {
    assert_eq!(encode(u128::MAX), "7zzzzzzzzzzzzzzzzzzzzzzzzz");
    // The example of the ULID specification: the time 1469918176385 is `01ARYZ6S41`.
    assert_eq!(encode(1_469_918_176_385 << 80), "01aryz6s410000000000000000");
}
