//! A small MQTT client for the command line: 3.1, 3.1.1 and 5 over TCP, TLS, WebSocket and Unix sockets.
//!
//! Always true: a future that is dropped while it waits for a packet has lost none, and has not written half of one.

mod error;
mod incoming;
mod link;
mod outgoing;

pub(crate) use error::{ClientError, Reason};
pub(crate) use incoming::Incoming;
pub(crate) use link::Link;
pub(crate) use outgoing::Outgoing;
