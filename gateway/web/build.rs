//! The pages are built by `make web`, with Node; when they change, this crate does.

fn main() {
    println!("cargo:rerun-if-changed=dist");
}
