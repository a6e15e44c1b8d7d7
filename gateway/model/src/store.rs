//! The narrow seam between the bus and what keeps its state over restarts.
//!
//! The bus writes [`StoreOp`]s in an order that is meaningful; a [`Store`] makes a batch of them durable as one. After a start the store
//! hands back a [`StoreImage`], from which the bus rebuilds exactly the sessions, queues, retained and delayed messages that were durable.

use crate::{ClientId, Message, Qos, SessionId, Subscription, SubscriptionIds, WallTime};
use std::sync::Arc;
use std::time::Duration;

/// A kept message body: written once, referred to by queues and retained entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// A message as it is kept: expiry as wall time, for the start of the next run is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// The message; its `expires_at` is not meaningful here.
    pub message: Arc<Message>,
    /// When it expires.
    pub expires: Option<WallTime>,
}

/// The durable part of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Whose it is.
    pub client_id: ClientId,
    /// User name that opened it last.
    pub username: Option<Arc<str>>,
    /// Session expiry interval; zero for a session kept only for its will.
    pub expiry: Duration,
    /// When it ends if nobody comes back; `None` while connected, or when it never ends.
    pub ends: Option<WallTime>,
    /// Queue entries from this number on were never handed over; `None` while connected, for then it changes too often to be kept.
    pub unsent_from: Option<u64>,
    /// Its will, while one is due.
    pub will: Option<StoredWill>,
}

/// A will as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWill {
    /// What is published.
    pub message: Arc<Message>,
    /// Will delay.
    pub delay: Duration,
    /// Message expiry from the moment of publication.
    pub message_expiry: Option<Duration>,
    /// When it is due; `None` while the client is connected.
    pub due: Option<WallTime>,
}

/// One queued QoS 1 or 2 delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// The body.
    pub message: MessageId,
    /// QoS of the delivery.
    pub qos: Qos,
    /// RETAIN as the receiver shall see it.
    pub retain: bool,
    /// QoS 2: PUBREC came.
    pub received: bool,
    /// Identifiers of the matching subscriptions.
    pub subscription_ids: Option<Box<SubscriptionIds>>,
}

/// One change. Operations of one batch become durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// A body that entries of the same or a later batch refer to.
    PutMessage(MessageId, StoredMessage),
    /// No entry refers to the body any more.
    DeleteMessage(MessageId),
    /// A new session, or a change of its record.
    PutSession(SessionId, Box<SessionRecord>),
    /// The session with all its subscriptions, queue entries and received packet identifiers.
    DeleteSession(SessionId),
    /// A new subscription or new options.
    PutSubscription(SessionId, Box<Subscription>),
    /// The subscription with this [`Subscription::to_text`].
    DeleteSubscription(SessionId, String),
    /// A new queue entry, or a changed one (`received`). The number grows by one for each QoS 1 or 2 delivery of the session.
    PutQueued(SessionId, u64, QueueEntry),
    /// The entry is settled or dropped.
    DeleteQueued(SessionId, u64),
    /// A QoS 2 packet identifier of the session's client is taken.
    PutReceived(SessionId, u16),
    /// It is free again.
    DeleteReceived(SessionId, u16),
    /// The retained message of its topic.
    PutRetained(MessageId),
    /// There is none any more; the body is named by its own `DeleteMessage`.
    DeleteRetained(MessageId),
    /// A message held back until then.
    PutDelayed(MessageId, WallTime),
    /// It was published or cancelled.
    DeleteDelayed(MessageId),
}

/// A session read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionImage {
    /// Its number.
    pub id: SessionId,
    /// Its record.
    pub record: SessionRecord,
    /// Its subscriptions, in no particular order.
    pub subscriptions: Vec<Subscription>,
    /// Its queue, in order.
    pub queue: Vec<(u64, QueueEntry)>,
    /// QoS 2 packet identifiers received and not yet released.
    pub received: Vec<u16>,
}

/// Everything that was durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreImage {
    /// Bodies by number, ascending.
    pub messages: Vec<(MessageId, StoredMessage)>,
    /// Sessions by number, ascending.
    pub sessions: Vec<SessionImage>,
    /// Bodies that are retained messages, ascending.
    pub retained: Vec<MessageId>,
    /// Delayed messages, ascending.
    pub delayed: Vec<(MessageId, WallTime)>,
    /// What could not be read, in words for the operator.
    pub damage: Vec<String>,
}

/// Why the store could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The medium failed, or is full.
    #[error("{what}: {cause}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        cause: String,
    },
    /// Another process holds the store.
    #[error("the store at {0} is in use by another process")]
    InUse(String),
    /// Written by a later version.
    #[error("the store has format {found}, this version reads up to {known}")]
    Newer {
        /// Found in the store.
        found: u32,
        /// Known here.
        known: u32,
    },
}

/// What keeps the state of the bus.
pub trait Store: Send {
    /// Everything that was durable. Called once, before the first commit.
    fn load(&mut self) -> Result<StoreImage, StoreError>;

    /// Makes all of `ops` durable as one, or none of them. Returns when they survive a power cut.
    fn commit(&mut self, ops: &[StoreOp]) -> Result<(), StoreError>;
}
