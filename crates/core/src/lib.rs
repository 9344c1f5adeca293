//! Domain, ports, in-memory adapters and conformance kits of moola.
//!
//! Nothing here knows AWS, HTTP or the file system.

pub mod baselines;
pub mod commit;
pub mod contract;
mod error;
pub mod inputs;
pub mod memory;
pub mod names;
pub mod ports;
pub mod recent;
pub mod registry;
pub mod samples;
pub mod stats;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use error::{Error, ErrorKind, Result};
