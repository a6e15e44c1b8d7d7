//! Durable sessions, queues and retained messages: a journal that every commit is appended to, with sled behind it. See [`DiskStore`].

#![expect(
    clippy::disallowed_methods,
    reason = "waits for the disk, on threads of its own, in real time"
)]

mod checkpoint;
mod compaction;
mod delta;
mod disk;
mod format1;
mod image;
mod journal;
mod lanes;
mod open;
#[cfg(target_os = "linux")]
mod overridden;
mod records;
mod rows;
mod sim;
mod tables;

pub use disk::{DiskSettings, DiskStore, Durability};
pub use sim::{Disk, SimStore};
