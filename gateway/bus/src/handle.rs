//! How the bus is driven: connection tasks call it in place, under one short lock, with all commands of a wake-up at once.
//!
//! Three parties take the lock: tasks that submit commands, a thread that does what is due (`timers`), and a thread that commits the open batch to the
//! store when it is due, reads for the bus what it asks for, and reports (`commits`). Encoding, system calls and the disk are outside. Events go to a
//! mailbox per endpoint, or to one for a whole [`Group`] of them, whose task is woken after the lock is released. docs/ARCHITECTURE.md has the
//! measurement by which this was chosen over one thread that owns the bus.

#![expect(
    clippy::disallowed_methods,
    reason = "drives the bus: the clock and its threads are here, so that the bus needs none"
)]

mod beat;
mod clock;
mod commits;
mod group;
mod hub;
mod mailbox;
mod notices;
mod place;
mod port;
mod promise;
mod publishing;
mod queries;
mod requests;
mod snapshots;
mod timers;

pub use clock::Clock;
pub use group::Group;
pub use hub::Hub;
pub use mailbox::Call;
pub use notices::Notices;
pub use place::{Attach, Place};
pub use port::Port;
pub use requests::Requests;
