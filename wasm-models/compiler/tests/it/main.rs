//! Tests of the compiler from outside: public node tests, exported models, and files that are broken.
#![allow(clippy::unwrap_used)] // clippy exempts test functions alone, not their helpers

mod cases;
mod exported_tests;
mod fuzz;
mod module;
mod node_tests;
mod protobuf;
mod revision;
