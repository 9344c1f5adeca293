//! Integration tests of the embedded adapters.

mod conformance;
mod crash;
mod events;
mod jobs;
mod platform;
mod schedules;
mod storage;
