//! Domain, ports, in-memory adapters and conformance kits of moola.
//!
//! Nothing here knows AWS, HTTP or the file system.

pub mod commit;
pub mod contract;
mod error;
pub mod memory;
pub mod names;
pub mod ports;
pub mod registry;
pub mod stats;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use error::{Error, ErrorKind, Result};
