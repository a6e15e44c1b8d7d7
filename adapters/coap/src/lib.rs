//! CoAP (RFC 7252) without I/O: the message layer, block-wise transfers, and publish and subscribe over them.
//!
//! A client of CoAP publishes and observes topics of the bus. It does so by the paths of EMQ 2 (`/mqtt/{topic}`) and of EMQX 5 (`/ps/{topic}`): docs/coap.md.

pub mod blockwise;
mod client;
mod connection;
mod core;
mod counters;
mod denial;
pub mod discovery;
mod exchanges;
mod leisure;
mod messenger;
mod note;
mod observation;
mod observe;
mod protocol;
mod requests;
mod returning;
mod server;
mod settings;
mod trace;
mod transmission;
mod unguessable;
mod uri;

pub use connection::{CoapConnection, CoapWire};
pub use core::szx_allowed;
pub use counters::CoapMetric;
pub use messenger::{Messenger, MessengerCounts, Outcome, Received, Requester};
pub use protocol::{Coap, CoapTcp};
pub use requests::refusal_code;
pub use server::CoapServer;
pub use settings::{CoapSettings, NotifyType, QosRule};
pub use trace::message as trace_message;
pub use transmission::Transmission;
pub use unguessable::Unguessable;
