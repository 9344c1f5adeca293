//! The `drift` function.

fn main() {}
