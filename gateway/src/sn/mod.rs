//! A small MQTT-SN 1.2 client for the command line, over UDP and over serial lines.
//!
//! `SnClient` decides what the protocol decides, without I/O; `SnLink` moves its messages; `SnSession` is the loop around both.
//!
//! Section numbers are those of the specification, version 1.2.

mod client;
mod error;
mod link;
mod session;
mod target;
#[cfg(test)]
pub mod testbed;

pub use client::{ClientSettings, Event, Outgoing, Received, Request, Will};
pub use error::SnError;
pub use link::SnLink;
pub use session::SnSession;
pub use target::{SerialTarget, SnTarget};
