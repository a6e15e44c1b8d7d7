//! The MQTT endpoint: one remote client, versions 3.1, 3.1.1 and 5, without I/O.
//!
//! [`MqttEndpoint`] decides everything the protocol decides for one connection: CONNECT and enhanced authentication, keep alive, packet
//! identifiers, flow control both ways, topic aliases both ways, QoS flows. Sessions, queues and retained messages are the bus's.
//!
//! Always true: an acknowledgement leaves after the bus said that it may; packets are answered in the order they came; after the first
//! error nothing more is taken from the client. \[MQTT-4.13.1-1\]

mod connect;
mod convert;
mod counters;
mod denial;
mod endpoint;
mod ids;
mod inbound;
mod outbound;
mod protocol;
mod settings;
mod subscribe;
mod trace;
mod wire;

pub use counters::PacketMetric;
pub use endpoint::MqttEndpoint;
pub use protocol::Mqtt;
pub use settings::MqttSettings;
pub use wire::{MqttWire, Outgoing, Received, Sent};
