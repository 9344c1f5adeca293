//! What is left after calls of the ports failed, answers were lost, the process died, or events came twice and out of order.
#![cfg(all(feature = "parquet", feature = "testkit"))]
#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

mod builds;
mod decisions;
mod finalisation;
mod imports;
mod invariants;
mod platform;
mod redelivery;
mod retrain;
mod scheduled;
