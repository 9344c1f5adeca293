//! Serving over HTTP, in memory: real models, run by tract.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

mod fixture;
mod freshness;
mod log;
mod predict;
mod swap;
