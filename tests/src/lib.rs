//! The harness of the end-to-end tests: the real `moola` binary, its API, bars and small models.
//!
//! Everything here panics where something is not as expected: it is called by tests alone.

pub mod bars;
pub mod batch_service;
pub mod emulator;
pub mod graphs;
pub mod models;
pub mod proxy;
pub mod runtime_api;
mod server;
pub mod setup;

pub use server::{Answer, Api, Server, moola, program, run};

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The bytes of a file of `tests/fixtures`.
///
/// # Panics
/// Where it cannot be read.
#[must_use]
pub fn fixture(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Asks `what` again and again until it answers.
///
/// # Panics
/// Where it did not in `limit`.
#[track_caller]
pub fn until<T, F: Future<Output = Option<T>>>(
    name: &str,
    limit: Duration,
    mut what: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let (name, caller) = (name.to_owned(), std::panic::Location::caller());
    async move {
        let started = Instant::now();
        loop {
            if let Some(value) = what().await {
                return value;
            }
            assert!(started.elapsed() < limit, "{caller}: {name} did not happen within {} s", limit.as_secs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
