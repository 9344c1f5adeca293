//! The training container.
fn main() {}
