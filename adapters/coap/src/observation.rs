//! One observation: a client that is notified of what is published at a topic. RFC 7641 §1.2
//!
//! Each is a session on the bus of its own, so that its queue and its window are its own, and what waits for it waits until the client is back and observes the same again.

use crate::Requester;
use bytes::Bytes;
use headgate_coap_codec::{Message, Token};
use headgate_model::{Admitted, Instant, Qos, SessionKey, Subscription};

/// See the module.
#[derive(Debug)]
pub(crate) struct Observation<A> {
    /// Its session on the bus.
    pub seat: SessionKey,
    /// Of the request that began it; notifications have the same. RFC 7641 §3.2
    pub token: Token,
    /// The request that began it, without its payload: by the same one, without Observe, the rest of a long notification is fetched. RFC 7959 §2.6
    pub request: Message,
    /// The filter as the client wrote it.
    pub filter: Bytes,
    pub qos: Qos,
    /// Whether notifications say their topic, for the filter does not.
    pub has_wildcard: bool,
    pub step: Step<A>,
    /// Of the last notification. RFC 7641 §3.4
    pub sequence: u32,
    /// When a notification was last acknowledged, or the observation began.
    pub confirmed: Instant,
}

/// How far an observation is.
#[derive(Debug)]
pub(crate) enum Step<A> {
    /// Its session is being opened; then it subscribes.
    Opening(Requester<A>, Box<Admitted<Subscription>>),
    /// It subscribes. With what it reads then.
    Subscribing(Requester<A>, Box<Admitted<Subscription>>),
    /// The client is notified.
    Active,
}

/// The largest sequence number. RFC 7641 §4.4
const MAX_SEQUENCE: u32 = (1 << 24) - 1;

impl<A> Observation<A> {
    /// The next sequence number. RFC 7641 §4.4
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1) & MAX_SEQUENCE;
        self.sequence
    }
}
