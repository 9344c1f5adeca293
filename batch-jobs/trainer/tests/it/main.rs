//! The trainer as its users run it: the real binary on a real directory.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

mod contract;
mod learning;
mod resume;
