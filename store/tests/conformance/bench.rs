//! A store that can be closed and opened again, whichever it is, and short words for what is put into it.

use bytes::Bytes;
use headgate_model::store::{MessageId, QueueEntry, SessionRecord, StoredMessage, StoredWill};
use headgate_model::{
    ClientId, Message, MountPoint, Properties, Qos, SessionId, Store, StoreImage, StoreOp, Subscription,
    SubscriptionIds, SubscriptionOptions, Topic, WallTime,
};
use headgate_store::{Disk, Durability, SimStore, SledStore};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What outlives a store.
pub enum Home {
    Sim(Disk),
    Sled(tempfile::TempDir),
}

impl Home {
    pub fn sim() -> Self {
        Self::Sim(Disk::default())
    }

    pub fn sled() -> Self {
        Self::Sled(tempfile::tempdir().unwrap())
    }

    pub fn open(&self) -> Box<dyn Store> {
        match self {
            Self::Sim(disk) => Box::new(SimStore::open(disk)),
            Self::Sled(_) => Box::new(SledStore::open(self.path(), Durability::PowerLoss).unwrap()),
        }
    }

    /// Where the one on disk lies.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Sim(_) => panic!("it has no path"),
            Self::Sled(folder) => folder.path().join("store"),
        }
    }

    /// Opens it, makes the commits and closes it.
    pub fn commit(&self, commits: &[&[StoreOp]]) {
        let mut store = self.open();
        store.load().unwrap();
        for ops in commits {
            store.commit(ops).unwrap();
        }
    }

    /// What is there after it was opened again.
    pub fn image(&self) -> StoreImage {
        sorted(self.open().load().unwrap())
    }
}

/// Subscriptions come in no particular order.
pub fn sorted(mut image: StoreImage) -> StoreImage {
    for session in &mut image.sessions {
        session.subscriptions.sort_by_key(Subscription::to_text);
    }
    image
}

pub fn message(n: u64, payload: usize) -> StoreOp {
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
pub fn session(n: u64, will: Option<usize>) -> StoreOp {
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
    };
    StoreOp::PutSession(SessionId(n), Box::new(record))
}

pub fn subscription(text: &str, qos: Qos) -> Subscription {
    let options = SubscriptionOptions {
        qos,
        no_local: true,
        identifier: text.len() as u32,
        ..SubscriptionOptions::default()
    };
    Subscription::parse(&Bytes::from(text.to_owned()), options, &MountPoint::default()).unwrap()
}

pub fn subscribe(session: u64, text: &str, qos: Qos) -> StoreOp {
    StoreOp::PutSubscription(SessionId(session), Box::new(subscription(text, qos)))
}

pub fn queued(session: u64, seq: u64, message: u64) -> StoreOp {
    let entry = QueueEntry {
        message: MessageId(message),
        qos: Qos::AtLeastOnce,
        retain: seq.is_multiple_of(2),
        received: seq.is_multiple_of(3),
        subscription_ids: seq
            .is_multiple_of(2)
            .then(|| Box::new(SubscriptionIds(vec![1, 268_435_455]))),
    };
    StoreOp::PutQueued(SessionId(session), seq, entry)
}
