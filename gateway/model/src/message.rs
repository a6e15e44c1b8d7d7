//! Messages and their deliveries.

use crate::memory::Charge;
use crate::{Instant, Topic};
use bytes::Bytes;
use std::cell::RefCell;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Quality of service. MQTT 5 §4.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// At most once: no acknowledgement.
    #[default]
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl Qos {
    /// The level of a number.
    pub fn from_u8(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// A number for a session, stable for its life and never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// An application message. Immutable once it is on the bus; shared by routing, queues and retained messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was published to, mount point included.
    pub topic: Topic,
    /// The application's bytes.
    pub payload: Bytes,
    /// The publisher's quality of service.
    pub qos: Qos,
    /// Whether the publisher asked for it to be retained.
    pub retain: bool,
    /// From then on it is not delivered any more. MQTT 5 §3.3.2.3.3.
    pub expires_at: Option<Instant>,
    /// The rarer properties.
    pub properties: Option<Box<Properties>>,
    /// The session that published it; `None` for the gateway itself.
    pub publisher: Option<SessionId>,
    /// Its bytes in the ledger of memory, once it is shared or kept.
    pub charge: Charge,
}

const _: () = assert!(size_of::<Message>() <= 112, "every routed message allocates one");

/// Allocations of messages that nobody carries any more, without their content: each thread has some at hand, the rest is common, for many a
/// message is made by one thread and ends in another.
type Spare = Vec<Arc<Message>>;

thread_local! {
    static AT_HAND: RefCell<Spare> = const { RefCell::new(Vec::new()) };
}

static COMMON: Mutex<Spare> = Mutex::new(Vec::new());

/// How many go from one store to the other at a time; a thread has at most twice as many at hand.
const HANDFUL: usize = 64;
const MAX_COMMON: usize = 1_024;

impl Message {
    /// Shares a message with all who carry it, in the place of one that was [recycled](Message::recycle) if there is any.
    pub fn share(mut self) -> Arc<Self> {
        self.charge();
        let Some(mut shared) = take_spare() else {
            return Arc::new(self);
        };
        match Arc::get_mut(&mut shared) {
            Some(place) => *place = self,
            None => return Arc::new(self),
        }
        shared
    }

    /// Drops one's part in a message. The last one leaves the place to another message, so that a message that comes and goes allocates nothing.
    pub fn recycle(mut shared: Arc<Self>) {
        if let Some(place) = Arc::get_mut(&mut shared) {
            *place = Self::new(Topic::blank(), Bytes::new());
            keep_spare(shared);
        }
    }

    /// Counts it in the ledger of memory from now on.
    pub fn charge(&mut self) {
        self.charge.set(self.size());
    }

    /// A plain message at QoS 0.
    pub fn new(topic: Topic, payload: impl Into<Bytes>) -> Self {
        Self {
            topic,
            payload: payload.into(),
            qos: Qos::AtMostOnce,
            retain: false,
            expires_at: None,
            properties: None,
            publisher: None,
            charge: Charge::default(),
        }
    }

    /// Whether it must not be delivered any more.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// A copy that owns exactly its own bytes: what is kept for long must not keep a read buffer alive.
    #[must_use]
    pub fn compact(&self) -> Self {
        let mut copy = Self {
            topic: self.topic.compact(),
            payload: Bytes::copy_from_slice(&self.payload),
            qos: self.qos,
            retain: self.retain,
            expires_at: self.expires_at,
            properties: self.properties.as_ref().map(|p| Box::new(p.compact())),
            publisher: self.publisher,
            charge: Charge::default(),
        };
        copy.charge();
        copy
    }

    /// Bytes it occupies, for limits.
    pub fn size(&self) -> usize {
        let properties = self.properties.as_ref().map_or(0, |p| p.size());
        size_of::<Self>() + self.topic.as_bytes().len() + self.payload.len() + properties
    }
}

fn take_spare() -> Option<Arc<Message>> {
    AT_HAND.with_borrow_mut(|at_hand| {
        if at_hand.is_empty() {
            let mut common = COMMON.lock().unwrap_or_else(PoisonError::into_inner);
            let from = common.len().saturating_sub(HANDFUL);
            at_hand.extend(common.drain(from..));
        }
        at_hand.pop()
    })
}

fn keep_spare(spare: Arc<Message>) {
    AT_HAND.with_borrow_mut(|at_hand| {
        at_hand.push(spare);
        if at_hand.len() >= 2 * HANDFUL {
            let mut common = COMMON.lock().unwrap_or_else(PoisonError::into_inner);
            let room = MAX_COMMON - common.len().min(MAX_COMMON);
            common.extend(at_hand.drain(HANDFUL..).take(room));
        }
    });
}

/// Properties of MQTT 5 that travel with a message unchanged. MQTT 5 §3.3.2.3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Whether the payload is UTF-8 text; `None` when not said.
    pub payload_is_utf8: Option<bool>,
    /// MIME type or the like.
    pub content_type: Option<Bytes>,
    /// Where an answer is expected.
    pub response_topic: Option<Bytes>,
    /// What an answer must carry back.
    pub correlation_data: Option<Bytes>,
    /// Name and value pairs, in the publisher's order. \[MQTT-3.3.2-18\]
    pub user_properties: Vec<(Bytes, Bytes)>,
}

impl Properties {
    fn compact(&self) -> Self {
        let copy = |b: &Bytes| Bytes::copy_from_slice(b);
        Self {
            payload_is_utf8: self.payload_is_utf8,
            content_type: self.content_type.as_ref().map(copy),
            response_topic: self.response_topic.as_ref().map(copy),
            correlation_data: self.correlation_data.as_ref().map(copy),
            user_properties: self
                .user_properties
                .iter()
                .map(|(k, v)| (copy(k), copy(v)))
                .collect(),
        }
    }

    fn size(&self) -> usize {
        let len = |b: &Option<Bytes>| b.as_ref().map_or(0, Bytes::len);
        size_of::<Self>()
            + len(&self.content_type)
            + len(&self.response_topic)
            + len(&self.correlation_data)
            + self
                .user_properties
                .iter()
                .map(|(k, v)| k.len() + v.len() + 64)
                .sum::<usize>()
    }
}

/// The name of one QoS 1 or 2 delivery inside its session, unique among those not yet done.
///
/// It is the delivery's sequence number in the session modulo 65,535, plus one, so that it is the same after a crash without ever
/// being written: MQTT uses it as Packet Identifier and resends under the same one. \[MQTT-4.4.0-1\]
pub type DeliveryId = NonZeroU16;

/// Identifiers of all the subscriptions that one delivery answers. \[MQTT-3.3.4-3\] \[MQTT-3.3.4-4\]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionIds {
    ids: Vec<u32>,
    charge: Charge,
}

impl SubscriptionIds {
    /// Beyond so many they count in the ledger of memory.
    const FEW: usize = 8;

    /// Adds one more.
    pub fn push(&mut self, id: u32) {
        self.ids.push(id);
        if self.ids.len() > Self::FEW {
            self.charge.set(self.ids.capacity() * size_of::<u32>());
        }
    }
}

impl From<Vec<u32>> for SubscriptionIds {
    fn from(ids: Vec<u32>) -> Self {
        let charge = Charge::default();
        let mut all = Self { ids, charge };
        if all.ids.len() > Self::FEW {
            all.charge.set(all.ids.capacity() * size_of::<u32>());
        }
        all
    }
}

impl std::ops::Deref for SubscriptionIds {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.ids
    }
}

/// One message to one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What is delivered.
    pub message: Arc<Message>,
    /// `None` for QoS 0.
    pub id: Option<DeliveryId>,
    /// The lower of publication and subscription. \[MQTT-3.8.4-8\]
    pub qos: Qos,
    /// The RETAIN flag that the receiver shall see. MQTT 5 §3.3.1.3.
    pub retain: bool,
    /// It may have been sent before. \[MQTT-3.3.1-1\]
    pub redelivered: bool,
    /// Identifiers of the matching subscriptions, when they have any.
    pub subscription_ids: Option<Box<SubscriptionIds>>,
}

const _: () = assert!(size_of::<Delivery>() <= 24, "an outbox holds thousands of these");

/// The message that the gateway publishes when a client is lost. MQTT 5 §3.1.2.5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// What is published.
    pub message: Message,
    /// How long after the loss; the end of the session comes first. MQTT 5 §3.1.3.2.2.
    pub delay: Duration,
    /// Message expiry, counted from when the will is published. MQTT 5 §3.1.3.2.4.
    pub message_expiry: Option<Duration>,
}
