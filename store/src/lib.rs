//! Durable sessions, queues and retained messages.

mod image;
mod mark;
mod open;
mod rows;
mod sim;
mod sled;

pub use crate::sled::{Durability, SledStore};
pub use sim::{Disk, SimStore};
