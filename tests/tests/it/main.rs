//! End-to-end tests: the real binary over HTTP, and the gates over models that are good, useless and brittle.
#![allow(clippy::unwrap_used)] // clippy exempts test functions alone, not their helpers

mod aws;
mod crash;
mod engines;
mod foreign;
mod gates;
mod r#loop;
mod serving;
mod wasm;
