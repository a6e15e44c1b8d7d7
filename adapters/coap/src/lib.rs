//! CoAP (RFC 7252) without I/O: the message layer, block-wise transfers, and publish and subscribe over them.

pub mod blockwise;
mod exchanges;
mod messenger;
mod transmission;
mod unguessable;

pub use messenger::{Messenger, MessengerCounts, Outcome, Received, Requester};
pub use transmission::Transmission;
pub use unguessable::Unguessable;
