//! Integration tests of the embedded adapters.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod conformance;
mod crash;
mod events;
mod jobs;
mod platform;
mod schedules;
mod storage;
