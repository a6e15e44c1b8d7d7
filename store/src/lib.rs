//! Durable sessions, queues and retained messages: a journal that every commit is appended to, with sled behind it. See [`DiskStore`]. [`LiveStore`] is the
//! store of a gateway that runs: on the disk or in memory, and from one to the other.

#![expect(
    clippy::disallowed_methods,
    reason = "waits for the disk, on threads of its own, in real time"
)]

mod checkpoint;
mod compaction;
mod delta;
mod disk;
mod folder;
mod format1;
mod image;
mod journal;
mod lanes;
mod live;
mod open;
#[cfg(target_os = "linux")]
mod overridden;
mod records;
mod rows;
mod sim;
mod tables;

pub use disk::{DiskSettings, DiskStore, Durability};
pub use folder::{has_store, is_in_store, remove_store};
pub use live::LiveStore;
pub use sim::{Disk, SimStore};
