//! The moola command.
fn main() {}
