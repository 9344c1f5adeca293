//! Domain, ports, in-memory adapters and conformance kits of moola.
//!
//! Nothing here knows AWS, HTTP or the file system.

pub mod contract;
mod error;
pub mod ports;
pub mod stats;

pub use error::{Error, ErrorKind, Result};
