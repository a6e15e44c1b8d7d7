//! The STOMP endpoint: one remote client, versions 1.0, 1.1 and 1.2, without I/O.
//!
//! [`StompEndpoint`] decides everything the protocol decides for one connection: CONNECT, heart-beats, receipts, transactions, subscriptions and their
//! acknowledgements. Sessions, queues and retained messages are the bus's. docs/stomp.md says how STOMP's words and MQTT's stand for each other.
//!
//! A connection has a session for itself, with all subscriptions that need no acknowledgement. A subscription whose messages the client acknowledges, or that
//! outlives the connection, has a session of its own: its window and its queue are its alone.
//!
//! Always true: a RECEIPT leaves after what it promises is done, and in the order of the frames that asked for it; after an ERROR that ends the connection
//! nothing more is taken from the client.

mod acks;
mod connect;
mod counters;
mod deliveries;
mod denial;
mod endpoint;
mod frames;
mod headers;
mod heartbeat;
mod names;
mod protocol;
mod receipts;
mod send;
mod settings;
mod subscribe;
mod subscriptions;
mod trace;
mod transactions;
mod wire;

pub use counters::StompMetric;
pub use endpoint::StompEndpoint;
pub use protocol::Stomp;
pub use settings::{NackPolicy, StompSettings};
pub use wire::{Outgoing, Received, Sent, StompWire};
