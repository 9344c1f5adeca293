//! The `registry` function.

fn main() {}
