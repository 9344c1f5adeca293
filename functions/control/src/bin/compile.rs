//! The `compile` function.

fn main() {}
