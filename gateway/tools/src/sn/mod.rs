//! A small MQTT-SN 1.2 client for the command line, over UDP and over serial lines.
//!
//! `SnClient` decides what the protocol decides, without I/O; `SnTransport` moves its messages; `SnSession` is the loop around both.
//!
//! Section numbers are those of the specification, version 1.2.

mod client;
mod error;
mod session;
mod target;
mod transport;

pub(crate) use client::{ClientSettings, Event, Outgoing, Received, Request, Will};
pub(crate) use error::SnError;
pub(crate) use session::SnSession;
pub(crate) use target::{SerialTarget, SnTarget};
pub(crate) use transport::SnTransport;
