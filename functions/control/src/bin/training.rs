//! The `training` function.

fn main() {}
