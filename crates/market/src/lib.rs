//! Bars, validation, features, windows, labels and splits: pure code shared by training and serving.
//!
//! Nothing here does I/O beyond reading bytes that it is given, knows a clock or an unseeded random source.

mod bars;
mod error;
pub mod read;
pub mod validate;

pub use bars::{Bar, Bars, Interval};
pub use error::{Error, Result};
