//! Bars, validation, features, windows, labels and splits: pure code shared by training and serving.
//!
//! Nothing here does I/O beyond reading bytes that it is given, knows a clock or an unseeded random source.

mod bars;
mod error;
pub mod features;
pub mod labels;
pub mod read;
pub mod simulate;
pub mod splits;
pub mod validate;
pub mod windows;

pub use bars::{Bar, Bars, Interval};
pub use error::{Error, Result};
