use std::fmt;

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64;
}

/// Makes identifiers.
pub trait Ids: Send + Sync + fmt::Debug {
    /// A new identifier: unique, 26 characters of `0-9a-z`, later ones sort after earlier ones (to the millisecond).
    fn new_id(&self) -> String;

    /// Fresh random bits, for seeds.
    fn random_u64(&self) -> u64;
}
