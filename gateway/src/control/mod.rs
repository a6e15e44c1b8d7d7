//! The control socket: HTTP and JSON over a Unix-domain socket in the data folder, for the command line on this machine.
//!
//! Who may open the socket may do everything: it is for the gateway's own user alone.

mod client;
mod server;

pub use client::ControlClient;
pub use server::Control;

use std::path::{Path, PathBuf};

/// Where the socket is.
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}
