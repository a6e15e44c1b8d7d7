//! Simulation, conformance and black-box tests of Headgate.
//!
//! [`Gateway`] is the bench of the conformance tests: real endpoints, codec, bus and store logic on a virtual clock. [`clauses`] is the
//! matrix of which numbered statement of MQTT has which test. [`sim`] is the simulation: many lives of a small plant, with mishaps;
//! [`sn_sim`] is the one of MQTT-SN: sensors that sleep, over links that lose, double and reorder.
//! [`sn_testbed`] is an MQTT-SN gateway for tests of what speaks to one.
//! [`bus_bench`] is a bus alone, for what needs no endpoint. [`blackbox`] runs the real program, with clients that are not ours.
//! [`workspace`] finds sources and documents.

mod bench;
pub mod blackbox;
pub mod bus_bench;
pub mod clauses;
mod client;
mod packets;
pub mod sim;
pub mod sn_sim;
pub mod sn_testbed;
pub mod workspace;

pub use bench::{Gateway, Settings};
pub use client::Client;
pub use headgate_mqtt_codec::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
pub use headgate_mqtt_codec::Version::{V5, V31, V311};
pub use packets::*;

/// The versions whose statements are numbered.
pub const NUMBERED: [headgate_mqtt_codec::Version; 2] = [V311, V5];

/// Every version there is.
pub const ALL: [headgate_mqtt_codec::Version; 3] = [V31, V311, V5];
