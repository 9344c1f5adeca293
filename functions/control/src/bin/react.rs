//! The `react` function.

fn main() {}
