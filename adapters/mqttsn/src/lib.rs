//! The MQTT-SN 1.2 gateway of one transport, a UDP socket or a serial line, with all its clients, without I/O.
//!
//! [`SnGateway`] decides everything the protocol decides: who is at which address, topic ids, the states of figure 4 (active, asleep, awake,
//! disconnected, lost), retries, QoS flows, wills, discovery. Sessions, mailboxes and wills themselves are the bus's, so that they outlive the gateway.
//!
//! Always true: an acknowledgement leaves after the bus said that it may; PINGRESP leaves after everything that waited for the client was settled; an
//! address that has not proved that it receives is never sent more than so many times the bytes that came from it; a client that sleeps holds no endpoint of the bus.
//!
//! Section numbers are those of the specification, version 1.2. What it leaves open: docs/interpretations.md#sn-gateway-retry and those after it.

mod client;
mod counters;
mod denial;
mod framer;
mod gateway;
mod handshake;
mod inbound;
mod memory;
mod outbound;
mod outputs;
mod party;
mod protocol;
mod publisher;
mod settings;
mod sleep;
mod topics;
mod trace;

pub use counters::SnMetric;
pub use framer::{Framing, SnFramer};
pub use gateway::{SnGateway, SnStats};
pub use outputs::SnOutputs;
pub use protocol::MqttSn;
pub use settings::{PredefinedTopic, QosMinusOneSettings, SnCredentials, SnSettings, SnSettingsError};
