//! Durable sessions, queues and retained messages.

mod sim;

pub use sim::{Disk, SimStore};
