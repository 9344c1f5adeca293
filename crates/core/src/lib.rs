//! Domain, ports, in-memory adapters and conformance kits of moola.
//!
//! Nothing here knows AWS, HTTP or the file system.

#[cfg(feature = "parquet")]
pub mod app;
pub mod baselines;
pub mod builds;
#[cfg(feature = "parquet")]
pub mod columns;
pub mod commit;
pub mod contract;
#[cfg(feature = "parquet")]
pub mod dataset;
mod error;
pub mod event_log;
#[cfg(feature = "parquet")]
pub mod gates;
pub mod inputs;
pub mod memory;
#[cfg(feature = "parquet")]
pub mod monitor;
pub mod names;
pub mod ports;
#[cfg(feature = "parquet")]
pub mod react;
pub mod recent;
pub mod registry;
pub mod samples;
pub mod serving;
pub mod stats;
pub mod system;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
#[cfg(feature = "parquet")]
pub mod training;

pub use error::{Error, ErrorKind, Result};
