//! The pages are built by `make web`, with Node; when they change, this crate does.

use std::path::Path;

fn main() {
    // Without them Cargo would think that they change all the time.
    let watched = if Path::new("dist").exists() { "dist" } else { "." };
    println!("cargo:rerun-if-changed={watched}");
}
