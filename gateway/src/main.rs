//! The Headgate gateway.
fn main() {}
