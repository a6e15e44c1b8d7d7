//! What the store keeps in memory until a checkpoint has written it.

use super::*;
use headgate_model::store::{SessionRecord, StoreSettings, StoredMessage};
use headgate_model::{Message, Topic};
use std::sync::Arc;

const SESSIONS: u64 = 30;

/// A store with sessions, in a process with so little memory that a checkpoint is due after 256 KiB of rows.
fn small() -> (tempfile::TempDir, DiskStore) {
    let folder = tempfile::tempdir().unwrap();
    let settings = DiskSettings {
        durability: Durability::ProcessCrash,
        checkpoint_bytes: 1 << 20,
        ballast_bytes: 1_000,
        ..DiskSettings::default()
    };
    let mut store = DiskStore::open(folder.path().join("store"), settings).unwrap();
    store.load().unwrap();
    let record = SessionRecord {
        client_id: "client".into(),
        username: None,
        expiry: Duration::MAX,
        ends: None,
        unsent_from: None,
        will: None,
        wants_expired: false,
    };
    let session = |n| StoreOp::PutSession(SessionId(n), Box::new(record.clone()));
    store
        .commit(&(0..SESSIONS).map(session).collect::<Vec<_>>())
        .unwrap();
    (folder, store)
}

/// What comes is to survive a power cut: so must all that it rests on, or nothing is promised any more.
#[test]
fn what_was_written_before_is_made_as_safe() {
    let (folder, mut store) = small();
    let with = |survives_power_loss| StoreSettings {
        max_bytes: 0,
        survives_power_loss,
        place: StorePlace::Disk,
        most_in_memory: 0,
    };
    for safe in [true, false, true] {
        store.set_settings(with(safe));
        assert!(store.commit(&identifiers(1, StoreOp::PutReceived)).is_ok());
    }
    store.set_settings(with(false));
    let journal = folder.path().join("store/journal");
    std::fs::rename(&journal, folder.path().join("gone")).unwrap();
    store.set_settings(with(true));
    let error = store.commit(&identifiers(2, StoreOp::PutReceived)).unwrap_err();
    assert!(error.to_string().contains("a sync failed earlier"), "{error}");
}

fn identifiers(session: u64, op: fn(SessionId, u16) -> StoreOp) -> Vec<StoreOp> {
    (0..1_000).map(|n| op(SessionId(session), n)).collect()
}

/// An identifier is 20 bytes of journal and eight times that in memory: rows count by what they take there. Commits that come faster than
/// the tables take rows wait.
#[test]
fn rows_in_memory_have_a_bound() {
    let (_folder, mut store) = small();
    let of_one_commit = 1_000 * 160;
    let mut most = 0;
    for session in 0..SESSIONS {
        store.commit(&identifiers(session, StoreOp::PutReceived)).unwrap();
        most = most.max(store.rows.bytes());
        store.maintain().unwrap();
    }
    assert!(store.since < 1 << 20, "it was not the journal's length");
    assert!(store.stats.checkpoints >= 2, "{:?}", store.stats);
    assert!(most <= (1 << 20) + of_one_commit, "{most} bytes of rows");
    assert!(most > of_one_commit, "{most} bytes of rows");
    let taken: usize = store
        .load()
        .unwrap()
        .sessions
        .iter()
        .map(|s| s.received.len())
        .sum();
    assert_eq!(taken, 30_000);
}

/// A commit does not end before the checkpoint that is being written when too much waits behind it.
#[test]
fn commits_wait_for_the_tables() {
    let (_folder, mut store) = small();
    store.begin_checkpoint().unwrap();
    let mut commits = 0;
    while store.flushing.is_some() {
        store.commit(&identifiers(commits, StoreOp::PutReceived)).unwrap();
        commits += 1;
    }
    assert_eq!(commits, 7, "1 MiB of rows");
    assert_eq!(store.stats.checkpoints, 1, "it was waited for");
}

/// What comes and goes between two checkpoints takes nothing, and is written to no table.
#[test]
fn rows_that_came_and_went_are_not_kept() {
    let (_folder, mut store) = small();
    store.checkpoint_now().unwrap();
    for session in 0..SESSIONS {
        store.commit(&identifiers(session, StoreOp::PutReceived)).unwrap();
        store
            .commit(&identifiers(session, StoreOp::DeleteReceived))
            .unwrap();
    }
    assert_eq!((store.rows.len(), store.rows.bytes()), (0, 0));
    // What a checkpoint holds, or is writing, is noted as gone.
    store.commit(&identifiers(1, StoreOp::PutReceived)).unwrap();
    store.begin_checkpoint().unwrap();
    store.commit(&identifiers(1, StoreOp::DeleteReceived)).unwrap();
    assert_eq!(store.rows.len(), 1_000);
    store.checkpoint_now().unwrap();
    store.commit(&identifiers(2, StoreOp::DeleteReceived)).unwrap();
    assert_eq!(store.rows.len(), 0);
    let received = |image: &StoreImage| image.sessions.iter().all(|s| s.received.is_empty());
    assert!(received(&store.load().unwrap()));
}

/// Pages of queues count by what they take, however few entries each has.
#[test]
fn queues_in_memory_have_a_bound() {
    let (_folder, mut store) = small();
    let message = StoredMessage {
        message: Arc::new(Message::new(Topic::try_from("t").unwrap(), vec![7; 10])),
        expires: None,
    };
    let mut waited = false;
    for seq in 0..200 {
        let mut ops = vec![StoreOp::PutMessage(MessageId(seq), message.clone())];
        for session in 0..SESSIONS {
            for lane in 0..30 {
                let entry = QueueEntry {
                    message: MessageId(seq),
                    qos: Qos::AtLeastOnce,
                    retain: false,
                    lane,
                    size: 10,
                    shared: None,
                    subscription_ids: None,
                };
                ops.push(StoreOp::PutQueued(
                    SessionId(session),
                    100 * u64::from(lane) + seq,
                    entry,
                ));
            }
        }
        let begun = store.flushing.is_some();
        store.commit(&ops).unwrap();
        if begun && store.flushing.is_none() {
            waited = true;
            break;
        }
        if !begun {
            store.maintain().unwrap();
        }
    }
    assert!(waited, "{} bytes of pages", store.queues.dirty_bytes());
    assert_eq!(store.stats.checkpoints, 1);
    assert!(store.open_pages > 0, "they changed meanwhile");
    assert!(!store.has_much_in_memory(1), "so they make no checkpoint due");
}
