//! The narrow seam between the bus and what keeps its state over restarts.
//!
//! The bus writes [`StoreOp`]s in an order that is meaningful; a [`Store`] makes a batch of them durable as one. After a start the store
//! hands back a [`StoreImage`], from which the bus rebuilds exactly the sessions, retained and delayed messages that were durable. Queues
//! stay in the store: the image says how long they are, and the bus fetches deliveries when there is somebody to send them to.

use crate::{ClientId, Message, Qos, SessionId, Subscription, SubscriptionIds, WallTime};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The name of a message body. Queue entries of one commit share a body by it; retained and delayed messages are known by it for good.
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
    /// User name that opened it last: its owner. `None` when that was an anonymous client.
    pub username: Option<Arc<str>>,
    /// Session expiry interval; zero for a session kept only for its will.
    pub expiry: Duration,
    /// When it ends if nobody comes back; `None` while connected, or when it never ends.
    pub ends: Option<WallTime>,
    /// Queue entries from this number on were never handed over; `None` while connected, for then it changes too often to be kept.
    pub unsent_from: Option<u64>,
    /// Its will, while one is due.
    pub will: Option<StoredWill>,
    /// What expires while it waits is delivered all the same.
    pub wants_expired: bool,
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
    /// Each session's queue is one lane for each priority that occurs; within a lane, numbers are the order.
    pub lane: u8,
    /// Bytes that it counts for in quotas.
    pub size: u32,
    /// The shared subscription it came by, as [`Subscription::to_text`] has it.
    pub shared: Option<Arc<str>>,
    /// Identifiers of the matching subscriptions.
    pub subscription_ids: Option<Box<SubscriptionIds>>,
}

/// One change. Operations of one batch become durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// A body that later operations of the same commit refer to. The store keeps it as long as one of them needs it.
    PutMessage(MessageId, StoredMessage),
    /// A new session, or a change of its record.
    PutSession(SessionId, Box<SessionRecord>),
    /// The session with its note and all its subscriptions, queue entries and received packet identifiers. Its number is not given again.
    DeleteSession(SessionId),
    /// The note of a session that is there; none if it is empty.
    PutNote(SessionId, Bytes),
    /// A new subscription or new options.
    PutSubscription(SessionId, Box<Subscription>),
    /// The subscription with this [`Subscription::stored_name`].
    DeleteSubscription(SessionId, String),
    /// A new queue entry of a session that is there. The number grows by one for each QoS 1 or 2 delivery of the session.
    PutQueued(SessionId, u64, QueueEntry),
    /// QoS 2: PUBREC came for the entry. It is no longer fetched.
    MarkReceived(SessionId, u64),
    /// The entry is settled or dropped.
    DeleteQueued(SessionId, u64),
    /// The first entry of the lane that has this number or a higher one, and is not received, is dropped.
    DropOldest(SessionId, u8, u64),
    /// A QoS 2 packet identifier of the session's client is taken.
    PutReceived(SessionId, u16),
    /// It is free again.
    DeleteReceived(SessionId, u16),
    /// The retained message of its topic.
    PutRetained(MessageId),
    /// There is none any more.
    DeleteRetained(MessageId),
    /// A message held back until then.
    PutDelayed(MessageId, WallTime),
    /// It was published or cancelled.
    DeleteDelayed(MessageId),
    /// Sessions may have all numbers below this one: none of them is given again, for messages are known by the session that published them. It only
    /// grows.
    ReserveSessions(SessionId),
}

/// A queue entry read back, with its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Its number in the session.
    pub seq: u64,
    /// The entry; what its `message` says is not meaningful here.
    pub entry: QueueEntry,
    /// The body.
    pub message: StoredMessage,
}

/// How much one [`Store::fetch`] reads: it ends after the entry that reaches one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchLimit {
    /// Entries.
    pub count: usize,
    /// Bytes, as [`QueueEntry::size`] counts them.
    pub bytes: usize,
}

/// What a fetch found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// In order.
    pub deliveries: Vec<StoredDelivery>,
    /// Where to go on: behind everything that was looked at.
    pub next: u64,
    /// Nothing was left behind them at that moment.
    pub at_end: bool,
    /// Entries whose body could not be read; they are gone.
    pub lost: usize,
}

/// What waits in one lane of a session's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneImage {
    /// Which one.
    pub lane: u8,
    /// Entries that are not received.
    pub count: u64,
    /// Their sizes together.
    pub bytes: u64,
}

/// A session read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionImage {
    /// Its number.
    pub id: SessionId,
    /// Its record.
    pub record: SessionRecord,
    /// Its note; empty when it has none.
    pub note: Bytes,
    /// Its subscriptions, in no particular order.
    pub subscriptions: Vec<Subscription>,
    /// The number that the next queue entry will have, at least.
    pub next_seq: u64,
    /// What waits, by lane, ascending; none is empty.
    pub lanes: Vec<LaneImage>,
    /// QoS 2 deliveries that were received and not released, in order.
    pub held: Vec<StoredDelivery>,
    /// QoS 2 packet identifiers received and not yet released.
    pub received: Vec<u16>,
}

/// Everything that was durable, but for the contents of queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreImage {
    /// Sessions by number, ascending.
    pub sessions: Vec<SessionImage>,
    /// Retained messages, ascending.
    pub retained: Vec<(MessageId, StoredMessage)>,
    /// Delayed messages, ascending, and until when.
    pub delayed: Vec<(MessageId, StoredMessage, WallTime)>,
    /// The last [`StoreOp::ReserveSessions`]; zero if there was none.
    pub next_session: u64,
    /// What could not be read, in words for the operator.
    pub damage: Vec<String>,
}

/// Where a store keeps what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorePlace {
    /// In memory: a restart begins empty.
    #[default]
    Memory,
    /// On the disk.
    Disk,
}

impl StorePlace {
    /// The word for operators.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// What a store has done since it was opened, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Commits that wrote something.
    pub commits: u64,
    /// Payload bytes of the bodies written.
    pub payload_bytes: u64,
    /// Bodies written.
    pub messages: u64,
    /// Bytes written to the journal.
    pub journal_bytes: u64,
    /// Bytes written elsewhere: checkpoints and what belongs to them.
    pub checkpoint_bytes: u64,
    /// Checkpoints finished.
    pub checkpoints: u64,
    /// Bytes of all files now.
    pub disk_bytes: u64,
    /// Queue entries now.
    pub queued: u64,
    /// The longest that one call held the store's thread.
    pub longest: Duration,
    /// Where it is.
    pub place: StorePlace,
    /// It is on its way to the other place.
    pub is_moving: bool,
    /// It is not where it should be, and the last try to get there failed.
    pub move_failed: bool,
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

/// What may change while a store is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Bytes that it may have on the disk; 0 for no limit but the disk's own.
    pub max_bytes: u64,
    /// Whether what is committed survives a power cut, and not only a crash of the process.
    pub survives_power_loss: bool,
    /// Where it should be.
    pub place: StorePlace,
    /// Bytes that it may take in memory: what takes more stays on the disk.
    pub most_in_memory: u64,
}

/// A store is to be in another folder: [`Store::move_to`].
pub struct StoreMove {
    /// Which one. What is there is removed.
    pub folder: PathBuf,
    /// False when nobody wants it any more: it is given up soon.
    pub is_wanted: Arc<AtomicBool>,
    /// Called once, between two commits, when all that is committed is durable there. After `Ok` that is the store, after an error this one is as before.
    pub arrive: Box<dyn FnOnce() -> Result<(), StoreError> + Send>,
    /// What is told at the end.
    pub ended: Ended,
}

/// Who waits for the end of a move. It is told once, whatever happens.
pub struct Ended(Option<Tell>);

type Tell = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

impl Ended {
    /// Told by this.
    pub fn new(tell: impl FnOnce(Result<(), StoreError>) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    /// What came of it. After `Ok` nothing of the store uses the folder of before any more; after an error nothing of it the new one.
    pub fn tell(mut self, result: Result<(), StoreError>) {
        if let Some(tell) = self.0.take() {
            tell(result);
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(Err(StoreError::Io {
                what: "move the store",
                cause: "it was given up".into(),
            }));
        }
    }
}

/// A file of a copy of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name in the folder of the store.
    pub name: String,
    /// How much of it belongs to the copy.
    pub bytes: u64,
}

/// What keeps the state of the bus.
pub trait Store: Send {
    /// Everything that was durable. Called once, before the first commit.
    fn load(&mut self) -> Result<StoreImage, StoreError>;

    /// Makes all of `ops` durable as one, or none of them. Returns when they survive what the store promises, a power cut by default.
    fn commit(&mut self, ops: &[StoreOp]) -> Result<(), StoreError>;

    /// Reads entries of one lane that are not received, in order, from the number `from` on.
    fn fetch(
        &mut self,
        session: SessionId,
        lane: u8,
        from: u64,
        limit: FetchLimit,
    ) -> Result<Fetched, StoreError>;

    /// Does a little of what is due beside the commits: checkpoints, giving back space. Whether there is more to do at once.
    fn maintain(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Puts its files into an empty folder on the same file system: with the first [`SnapshotFile::bytes`] of each, a store can be opened that has all that is committed
    /// now. The files may be links to its own, which grow. It is short work; commits wait for it. `None`: not just now, ask again. Nothing of a store without files.
    fn snapshot(&mut self, _into: &Path) -> Result<Option<Vec<SnapshotFile>>, StoreError> {
        Ok(Some(Vec::new()))
    }

    /// Goes to another folder, while it is used: what is there is copied, and each commit goes there, too, until the copy is whole. While it does,
    /// another one is refused. A store without files is there at once.
    fn move_to(&mut self, to: StoreMove) {
        to.ended.tell((to.arrive)());
    }

    /// Other settings from now on. A store that has none ignores them. Where what was promised before cannot be made as safe, commits fail from now on.
    fn set_settings(&mut self, _settings: StoreSettings) {}

    /// Whether there is room for more, by quota and by the disk. When not, only what frees space should be committed.
    fn has_room(&self) -> bool {
        true
    }

    /// What it has done and what it holds.
    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}
