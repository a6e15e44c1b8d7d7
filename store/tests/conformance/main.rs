//! One suite for both homes of the store, and what only the one on disk can suffer.

#![expect(clippy::disallowed_methods, reason = "waits for the store thread")]

mod bench;
mod damage;
mod format;
mod live;
mod lost_end;
mod moves;
mod operations;
mod random;
mod snapshot;
