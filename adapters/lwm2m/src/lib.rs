//! LwM2M 1.0, 1.1 and parts of 1.2 without I/O: a server, a bootstrap server, and their place on the bus.
//!
//! Clients register, and are then read, written, executed, observed and updated by commands from the bus: JSON as EMQX has it. What they say goes to the bus, and the last value of each
//! resource is retained there. docs/lwm2m.md

mod asking;
mod bootstrap;
mod command;
mod commands;
mod core;
mod counters;
mod denial;
mod device;
mod exchange;
mod firmware;
mod lifetime;
mod login;
mod note;
mod observing;
mod protocol;
mod publishing;
mod registration;
mod report;
mod request;
mod requests;
mod restoring;
mod server;
mod settings;
mod supplies;

pub use bootstrap::{BootstrapClient, BootstrapResource, BootstrapServer, BootstrapSettings};
pub use core::SESSIONS;
pub use counters::Lwm2mMetric;
pub use note::{Note, Observed};
pub use protocol::Lwm2m;
pub use registration::Registration;
pub use server::Lwm2mServer;
pub use settings::{Lwm2mSettings, Topics};
pub use supplies::{Package, Supplies};
