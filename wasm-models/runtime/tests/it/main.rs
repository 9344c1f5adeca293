//! Tests of the host with modules written by hand that follow the interface, and with some that do not.

mod answers;
mod compiled;
mod examples;
mod files;
mod fuzz;
mod hostile;
mod support;
