//! How long a store takes from memory to the disk and back, and how long commits wait meanwhile:
//! `cargo run --release -p headgate-store --example live [ENTRIES [BYTES]]`.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement, in real time"
)]

use headgate_model::store::{MessageId, QueueEntry, SessionRecord, StorePlace, StoreSettings, StoredMessage};
use headgate_model::{Message, Qos, SessionId, Store, StoreOp, Topic};
use headgate_store::{DiskSettings, LiveStore};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SESSIONS: u64 = 100;

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|arg| arg.parse::<u64>().expect("a number"));
    let entries = args.next().unwrap_or(100_000);
    let bytes = usize::try_from(args.next().unwrap_or(256)).expect("it is small");
    let folder = std::env::temp_dir().join(format!("headgate-live-{}", std::process::id()));
    let mut store =
        LiveStore::open(folder.join("store"), DiskSettings::default(), StorePlace::Memory).expect("it opens");
    store.load().expect("it is empty");
    store
        .commit(&(0..SESSIONS).map(session).collect::<Vec<_>>())
        .expect("it is in memory");
    for n in 0..entries {
        store.commit(&queued(n, bytes)).expect("it is in memory");
    }
    let mut next = entries;
    for place in [StorePlace::Disk, StorePlace::Memory] {
        store.set_settings(StoreSettings {
            max_bytes: 0,
            survives_power_loss: true,
            place,
            most_in_memory: u64::MAX,
        });
        let (begun, mut longest, mut commits, mut steps) = (Instant::now(), Duration::ZERO, 0, 0);
        while store.stats().place != place {
            // A commit comes, and what is due besides is done: as on the store's thread.
            let came = Instant::now();
            store.commit(&queued(next, bytes)).expect("there is room");
            let more = store.maintain().expect("the disk is well");
            longest = longest.max(came.elapsed());
            (next, commits, steps) = (next + 1, commits + 1, steps + 1);
            if !more {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        println!(
            "{entries} entries of {bytes} bytes to {}: {:?} in {steps} steps, longest {longest:?}, {commits} commits meanwhile",
            place.name(),
            begun.elapsed()
        );
    }
    drop(store);
    std::fs::remove_dir_all(folder).expect("it is ours");
}

fn session(n: u64) -> StoreOp {
    let record = SessionRecord {
        client_id: format!("client {n}").as_str().into(),
        username: None,
        expiry: Duration::MAX,
        ends: None,
        unsent_from: None,
        will: None,
        wants_expired: false,
    };
    StoreOp::PutSession(SessionId(n), Box::new(record))
}

fn queued(n: u64, bytes: usize) -> Vec<StoreOp> {
    let topic = Topic::try_from("some/topic").expect("it is one");
    let stored = StoredMessage {
        message: Arc::new(Message::new(topic, vec![7; bytes])),
        expires: None,
    };
    let entry = QueueEntry {
        message: MessageId(n),
        qos: Qos::AtLeastOnce,
        retain: false,
        lane: 0,
        size: u32::try_from(bytes).expect("it is small"),
        shared: None,
        subscription_ids: None,
    };
    vec![
        StoreOp::PutMessage(MessageId(n), stored),
        StoreOp::PutQueued(SessionId(n % SESSIONS), n, entry),
    ]
}
