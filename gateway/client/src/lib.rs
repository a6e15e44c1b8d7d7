//! A small MQTT client, for the command line and for a daemon that tries a bridge: 3.1, 3.1.1 and 5 over TCP, TLS, WebSocket and Unix sockets.
//!
//! Always true: a future that is dropped while it waits for a packet has lost none, and has not written half of one.

mod client;
mod error;
mod incoming;
mod outgoing;

pub use client::Client;
pub use error::{ClientError, Reason};
pub use incoming::Incoming;
pub use outgoing::Outgoing;
