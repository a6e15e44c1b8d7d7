//! Requests to the gateway itself: messages at one topic that are told with who published them, as no delivery says it.
//!
//! Always true: only what a client publishes now is a request. What is retained, delayed, a will, or published by a program of the gateway is none, whoever
//! caused it: nobody answers for it when it comes.

use crate::bus::Bus;
use crate::sessions::Slot;
use bytes::Bytes;
use headgate_model::bus::Presence;
use headgate_model::{ClientId, Message, Topic};
use std::sync::Arc;

/// Bytes that a request may have with what its answer must carry; what is longer comes without.
pub const MAX_REQUEST: usize = 8 << 10;

/// What a client published at the topic of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who.
    pub client: ClientId,
    /// The rest of what is known of it, with its rules.
    pub who: Arc<Presence>,
    /// It came by a bridge of the gateway's own; then `client` is the bridge's session.
    pub is_bridge: bool,
    /// It asked for it to be retained.
    pub retain: bool,
    /// What was said; empty if it was too long.
    pub payload: Bytes,
    /// It was longer than [`MAX_REQUEST`].
    pub is_too_long: bool,
    /// Where the answer is wanted. MQTT 5 §3.3.2.3.5
    pub response_topic: Option<Bytes>,
    /// What the answer must carry. MQTT 5 §3.3.2.3.6
    pub correlation_data: Option<Bytes>,
}

impl Bus {
    /// What clients publish there is told in [`BusOutputs::requests`](crate::BusOutputs::requests) from now on, and goes to who subscribed all the same.
    pub fn take_requests(&mut self, at: Option<Topic>) {
        self.requested = at;
        self.set_looks_closer();
    }

    /// The request that a message is, if it is one: with bytes of its own, for it may wait.
    pub(crate) fn request_in(&self, slot: Slot, message: &Message) -> Option<Box<Request>> {
        let at = self.requested.as_ref()?;
        (message.topic == *at).then(|| self.request_of(slot, message))
    }

    fn request_of(&self, slot: Slot, message: &Message) -> Box<Request> {
        let session = &self.sessions[slot];
        let properties = message.properties.as_deref();
        let own = |bytes: Option<&Bytes>| bytes.map(|bytes| Bytes::copy_from_slice(bytes));
        let response_topic = properties.and_then(|known| known.response_topic.as_ref());
        let correlation_data = properties.and_then(|known| known.correlation_data.as_ref());
        let long = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len);
        let around = long(response_topic) + long(correlation_data);
        let is_too_long = around + message.payload.len() > MAX_REQUEST;
        let fits = around <= MAX_REQUEST;
        Box::new(Request {
            client: session.client.clone(),
            who: Arc::clone(&session.presence),
            is_bridge: session.is_bridge(),
            retain: message.retain,
            payload: own((!is_too_long).then_some(&message.payload)).unwrap_or_default(),
            is_too_long,
            response_topic: own(response_topic.filter(|_| fits)),
            correlation_data: own(correlation_data.filter(|_| fits)),
        })
    }
}
