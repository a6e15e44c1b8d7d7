//! A store that can be closed and opened again, whichever it is, and short words for what is put into it.

use bytes::Bytes;
use headgate_model::store::{FetchLimit, MessageId, QueueEntry, SessionRecord, StoredMessage, StoredWill};
use headgate_model::{
    ClientId, Message, MountPoint, Properties, Qos, SessionId, Store, StoreImage, StoreOp, Subscription,
    SubscriptionIds, SubscriptionOptions, Topic, WallTime,
};
use headgate_store::{Disk, DiskSettings, DiskStore, SimStore};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What outlives a store.
pub(crate) enum Home {
    Sim(Disk),
    Disk(tempfile::TempDir, DiskSettings),
}

impl Home {
    pub(crate) fn sim() -> Self {
        Self::Sim(Disk::default())
    }

    pub(crate) fn disk() -> Self {
        Self::Disk(tempfile::tempdir().unwrap(), DiskSettings::default())
    }

    /// A store in which segments end, checkpoints come and segments are emptied all the time.
    pub(crate) fn hurried() -> Self {
        let settings = DiskSettings {
            segment_bytes: 2_000,
            checkpoint_bytes: 3_000,
            ballast_bytes: 1_000,
            ..DiskSettings::default()
        };
        Self::Disk(tempfile::tempdir().unwrap(), settings)
    }

    pub(crate) fn open(&self) -> Box<dyn Store> {
        match self {
            Self::Sim(disk) => Box::new(SimStore::open(disk)),
            Self::Disk(_, settings) => Box::new(DiskStore::open(self.path(), *settings).unwrap()),
        }
    }

    /// Where the one on disk lies.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Sim(_) => panic!("it has no path"),
            Self::Disk(folder, _) => folder.path().join("store"),
        }
    }

    /// Opens it, makes the commits and closes it.
    pub(crate) fn commit(&self, commits: &[&[StoreOp]]) {
        let mut store = self.open();
        store.load().unwrap();
        for ops in commits {
            store.commit(ops).unwrap();
        }
    }

    /// What is there after it was opened again.
    pub(crate) fn image(&self) -> Shown {
        shown(&mut *self.open())
    }
}

/// All that a store holds, queues included.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Shown {
    pub image: StoreImage,
    /// Entries with their messages, by session, lane and number.
    pub queues: BTreeMap<(u64, u8, u64), (QueueEntry, StoredMessage)>,
    pub lost: usize,
}

/// In short: a difference shall be seen.
impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for session in &self.image.sessions {
            let held: Vec<u64> = session.held.iter().map(|held| held.seq).collect();
            let subscriptions = session.subscriptions.len();
            let will = session.record.will.is_some();
            let note = session.note.len();
            writeln!(
                f,
                "session {} will {will} note {note} subscriptions {subscriptions} lanes {:?} held {held:?} received {:?} next {}",
                session.id.0, session.lanes, session.received, session.next_seq
            )?;
        }
        for (key, (entry, stored)) in &self.queues {
            let message = &stored.message;
            writeln!(
                f,
                "{key:?} size {} {} {} bytes",
                entry.size,
                message.topic,
                message.payload.len()
            )?;
        }
        let retained: Vec<u64> = self.image.retained.iter().map(|(id, _)| id.0).collect();
        let delayed: Vec<u64> = self.image.delayed.iter().map(|(id, ..)| id.0).collect();
        write!(
            f,
            "retained {retained:?} delayed {delayed:?} damage {:?} lost {}",
            self.image.damage, self.lost
        )
    }
}

impl Shown {
    /// Numbers of the messages in a session's queue, by their topics.
    pub(crate) fn queue(&self, session: u64) -> Vec<(u64, String)> {
        let own = self.queues.iter().filter(|((id, ..), _)| *id == session);
        own.map(|((_, _, seq), (_, stored))| (*seq, stored.message.topic.to_string()))
            .collect()
    }
}

/// Loads a store and reads all its queues, in small parts.
pub(crate) fn shown(store: &mut dyn Store) -> Shown {
    let mut image = sorted(store.load().unwrap());
    let mut queues = BTreeMap::new();
    let mut lost = 0;
    for session in &mut image.sessions {
        for held in &mut session.held {
            held.entry.message = MessageId(0);
        }
        for lane in &session.lanes {
            let mut from = 0;
            loop {
                let limit = FetchLimit {
                    count: 3,
                    bytes: 20_000,
                };
                let found = store.fetch(session.id, lane.lane, from, limit).unwrap();
                lost += found.lost;
                for mut delivery in found.deliveries {
                    delivery.entry.message = MessageId(0);
                    let key = (session.id.0, lane.lane, delivery.seq);
                    assert!(delivery.seq >= from);
                    queues.insert(key, (delivery.entry, delivery.message));
                }
                from = found.next;
                if found.at_end {
                    break;
                }
            }
        }
        // Numbers that came and went within a commit need not be known.
        let own = queues.range((session.id.0, 0, 0)..=(session.id.0, u8::MAX, u64::MAX));
        let numbers = own
            .map(|((.., seq), _)| *seq)
            .chain(session.held.iter().map(|held| held.seq));
        let next = numbers.max().map_or(0, |last| last + 1);
        assert!(session.next_seq >= next);
        session.next_seq = next;
    }
    Shown { image, queues, lost }
}

/// Subscriptions come in no particular order.
pub(crate) fn sorted(mut image: StoreImage) -> StoreImage {
    for session in &mut image.sessions {
        session.subscriptions.sort_by_key(Subscription::stored_name);
    }
    image
}

pub(crate) fn message(n: u64, payload: usize) -> StoreOp {
    let topic = Topic::try_from(format!("t/{n}").as_str()).unwrap();
    let payload: Vec<u8> = (0..payload).map(|i| (i as u64 * 7 + n) as u8).collect();
    let message = Message {
        qos: Qos::from_u8((n % 3) as u8).unwrap(),
        retain: n.is_multiple_of(2),
        properties: (!n.is_multiple_of(4)).then(|| properties(n)),
        publisher: n.is_multiple_of(5).then_some(SessionId(n)),
        ..Message::new(topic, payload)
    };
    StoreOp::PutMessage(
        MessageId(n),
        StoredMessage {
            message: Arc::new(message),
            expires: n.is_multiple_of(3).then_some(WallTime(n * 1000)),
        },
    )
}

fn properties(n: u64) -> Box<Properties> {
    let text = |what: &str| Bytes::from(format!("{what} {n}"));
    Box::new(Properties {
        payload_is_utf8: n.is_multiple_of(3).then_some(n.is_multiple_of(2)),
        content_type: n.is_multiple_of(2).then(|| text("type")),
        response_topic: n.is_multiple_of(3).then(|| text("answer")),
        correlation_data: Some(Bytes::from_static(b"\x00\xff")),
        user_properties: (0..n % 4)
            .map(|i| (text("name"), Bytes::from(i.to_string())))
            .collect(),
    })
}

/// A session; with a will of that many bytes.
pub(crate) fn session(n: u64, will: Option<usize>) -> StoreOp {
    let will = will.map(|size| StoredWill {
        message: Arc::new(Message::new(Topic::try_from("will").unwrap(), vec![7; size])),
        delay: Duration::from_secs(n),
        message_expiry: n.is_multiple_of(2).then_some(Duration::from_millis(1500)),
        due: n.is_multiple_of(3).then_some(WallTime(n)),
    });
    let record = SessionRecord {
        client_id: ClientId::from(format!("client {n}").as_str()),
        username: n.is_multiple_of(2).then(|| "Ärger".into()),
        expiry: if n.is_multiple_of(2) {
            Duration::MAX
        } else {
            Duration::from_secs(n)
        },
        ends: n.is_multiple_of(3).then_some(WallTime(n)),
        unsent_from: n.is_multiple_of(3).then_some(n),
        will,
        wants_expired: n.is_multiple_of(5),
    };
    StoreOp::PutSession(SessionId(n), Box::new(record))
}

pub(crate) fn subscription(text: &str, qos: Qos) -> Subscription {
    let options = SubscriptionOptions {
        qos,
        no_local: true,
        identifier: text.len() as u32,
        ..SubscriptionOptions::default()
    };
    Subscription::parse(&Bytes::from(text.to_owned()), options, &MountPoint::default()).unwrap()
}

/// A subscription that its client tells apart from others of its filter.
pub(crate) fn one_of_several(text: &str, identifier: u32) -> Subscription {
    let mut subscription = subscription(text, Qos::AtLeastOnce);
    subscription.options.identifier = identifier;
    subscription.options.by_identifier = true;
    subscription
}

pub(crate) fn subscribe(session: u64, text: &str, qos: Qos) -> StoreOp {
    StoreOp::PutSubscription(SessionId(session), Box::new(subscription(text, qos)))
}

pub(crate) fn queued(session: u64, seq: u64, message: u64) -> StoreOp {
    let entry = QueueEntry {
        message: MessageId(message),
        qos: Qos::AtLeastOnce,
        retain: seq.is_multiple_of(2),
        lane: (seq % 7 / 5) as u8,
        size: 100 + message as u32,
        shared: seq.is_multiple_of(5).then(|| "$share/g/t/#".into()),
        subscription_ids: seq
            .is_multiple_of(2)
            .then(|| Box::new(SubscriptionIds::from(vec![1, 268_435_455]))),
    };
    StoreOp::PutQueued(SessionId(session), seq, entry)
}
