//! The trainer as its users run it: the real binary on a real directory.

mod support;

mod contract;
mod learning;
mod resume;
