//! What the bus counts.

/// Why a message was not delivered, or not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// The session's queue was full.
    QueueFull,
    /// QoS 0 for a client that is away, and such messages are not stored.
    OfflineQos0,
    /// Its expiry interval passed before it could be sent. \[MQTT-3.3.2-5\]
    Expired,
    /// Delivered, but not retained: a limit of retained messages is reached.
    NotRetained,
    /// The session ended before it could be sent.
    SessionEnded,
    /// The store has no room: its quota is reached, or the disk is full.
    StoreFull,
    /// The store could not read it back.
    Unreadable,
    /// Not routed: it came round a ring of gateways, or came too far. See [`LinkSettings`](crate::LinkSettings).
    Loop,
    /// Not routed: it came by another link before.
    Duplicate,
    /// An operator emptied the queue.
    Flushed,
    /// There is no memory for it: see [`BusSettings::max_memory_bytes`](crate::BusSettings).
    MemoryFull,
    /// A limit of delayed messages is reached.
    DelayedFull,
    /// Not routed: a link brought the retained message of a topic whose newer one still waits to go out by it.
    Superseded,
    /// Its receiver may not read it: a rule denies a part of what its filter matches, or its rules have changed.
    NotAuthorized,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::QueueFull,
        Self::OfflineQos0,
        Self::Expired,
        Self::NotRetained,
        Self::SessionEnded,
        Self::StoreFull,
        Self::Unreadable,
        Self::Loop,
        Self::Duplicate,
        Self::Flushed,
        Self::MemoryFull,
        Self::DelayedFull,
        Self::Superseded,
        Self::NotAuthorized,
    ];

    /// The word for operators.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::OfflineQos0 => "offline_qos0",
            Self::Expired => "expired",
            Self::NotRetained => "not_retained",
            Self::SessionEnded => "session_ended",
            Self::StoreFull => "store_full",
            Self::Unreadable => "unreadable",
            Self::Loop => "loop",
            Self::Duplicate => "duplicate",
            Self::Flushed => "flushed",
            Self::MemoryFull => "memory_full",
            Self::DelayedFull => "delayed_full",
            Self::NotAuthorized => "not_readable",
            Self::Superseded => "superseded",
        }
    }
}

/// What memory is used for, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// The limit; `usize::MAX` for none.
    pub max: usize,
    /// Bodies of messages in queues, on their way, retained, delayed and of wills; one that many hold counts once.
    pub messages: usize,
    /// Of those, retained ones; those below `$SYS/` are not among them.
    pub retained: usize,
    /// Of those, delayed ones.
    pub delayed: usize,
    /// Sessions, with their notes.
    pub sessions: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Places of deliveries in queues and under way.
    pub entries: usize,
    /// Buffers of connections.
    pub buffers: usize,
}

impl MemoryStats {
    /// All together.
    pub fn used(&self) -> usize {
        self.messages + self.sessions + self.subscriptions + self.entries + self.buffers
    }
}

/// Gauges and counters of the bus at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusStats {
    /// Clients connected now.
    pub clients: usize,
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Sessions that outlive their connection.
    pub durable_sessions: usize,
    /// Subscriptions of all sessions.
    pub subscriptions: usize,
    /// Those of sessions that outlive their connection.
    pub durable_subscriptions: usize,
    /// Distinct topic filters.
    pub filters: usize,
    /// Retained messages that count for the limits: all but those below `$SYS/`.
    pub retained: usize,
    /// Those that outlive the process; what the gateway tells of itself does not.
    pub durable_retained: usize,
    /// Delayed messages.
    pub delayed: usize,
    /// Deliveries waiting in all queues.
    pub queued: usize,
    /// Bytes waiting in all queues.
    pub queued_bytes: usize,
    /// The ledger of memory.
    pub memory: MemoryStats,
    /// QoS 1 and 2 deliveries under way.
    pub inflight: usize,
    /// Sessions that ended by their expiry interval.
    pub expired_sessions: u64,
    /// Notes that were too long: the fault of an adapter.
    pub refused_notes: u64,
    /// Messages published to the bus.
    pub published: u64,
    /// Messages that matched no subscription.
    pub unmatched: u64,
    /// Deliveries handed to endpoints.
    pub delivered: u64,
    /// Drops by reason, in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
}
