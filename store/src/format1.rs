//! Opens what the version before wrote: format 1, a sled database where the store's folder is now, with bodies and queue entries as rows.
//!
//! It is moved to a folder beside, its rows are committed to a new store, and that takes its place when it is whole; cut off in between, the
//! next start goes on. The old one stays, for whoever goes back to the version before.

use crate::disk::{DiskSettings, DiskStore};
use crate::open::failed;
use crate::rows::{self, Reader, RowError};
use headgate_model::store::{MessageId, QueueEntry, StoredMessage};
use headgate_model::{Qos, SessionId, Store, StoreError, StoreOp, SubscriptionIds, WallTime};
use std::collections::BTreeMap;
use std::path::Path;

/// Operations committed at once.
const BATCH: usize = 1_000;

/// Whether the folder is one of format 1, or was when an earlier start was cut off.
fn is_old(path: &Path) -> bool {
    path.join("db").is_file() || (!path.exists() && path.with_extension("format-1").exists())
}

/// Makes a new store of an old one, if that is what is there.
pub(crate) fn migrate(path: &Path, settings: DiskSettings) -> Result<(), StoreError> {
    if !is_old(path) {
        return Ok(());
    }
    let (old, new) = (path.with_extension("format-1"), path.with_extension("new"));
    tracing::info!(store = %path.display(), kept = %old.display(), "the store has format 1 and is brought to the present one");
    let moved =
        |result: std::io::Result<()>| result.map_err(|e| failed("bring the store to the present format", e));
    if path.exists() {
        moved(std::fs::rename(path, &old))?;
    }
    if new.exists() {
        moved(std::fs::remove_dir_all(&new))?;
    }
    let ops = read(&old)?;
    let mut store = DiskStore::open_format_2(new.clone(), settings)?;
    store.load()?;
    for ops in ops {
        store.commit(&ops)?;
    }
    store.compact(&mut |_| {})?;
    drop(store);
    moved(std::fs::rename(&new, path))?;
    moved(
        path.parent()
            .map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all()),
    )
}

/// All rows as operations, a commit each; what cannot be read is told and left behind.
fn read(path: &Path) -> Result<Vec<Vec<StoreOp>>, StoreError> {
    let db = sled::Config::new()
        .path(path)
        .flush_every_ms(None)
        .segment_size(512 << 10)
        .open()
        .map_err(|e| failed("open the store of format 1", e))?;
    let mut bodies = BTreeMap::new();
    let mut commits = vec![Vec::new()];
    for table in [
        b'm',
        rows::SESSION,
        rows::SUBSCRIPTION,
        b'q',
        rows::RECEIVED,
        rows::RETAINED,
        rows::DELAYED,
    ] {
        for row in db.scan_prefix([table]) {
            let (key, value) = row.map_err(|e| failed("read the store of format 1", e))?;
            let body = rows::join(&key, &value, |part| db.get(part).ok()?.map(|row| row.to_vec()));
            match body.and_then(|body| ops(&key, &body, &mut bodies)) {
                Ok(ops) => {
                    if commits.last().is_none_or(|commit| commit.len() >= BATCH) {
                        commits.push(Vec::new());
                    }
                    commits.last_mut().expect("there is one").extend(ops);
                }
                Err(error) => tracing::error!(row = %key.escape_ascii(), %error, "a row of format 1 is lost"),
            }
        }
    }
    Ok(commits)
}

fn ops(key: &[u8], body: &[u8], bodies: &mut BTreeMap<u64, StoredMessage>) -> Result<Vec<StoreOp>, RowError> {
    let number = |at: usize| {
        let bytes = key.get(at..at + 8).ok_or(RowError::Key)?;
        Ok(u64::from_be_bytes(bytes.try_into().expect("eight bytes")))
    };
    let first = number(1)?;
    let session = SessionId(first);
    let with_body = |id: u64, op: StoreOp| {
        let stored = bodies.get(&id).ok_or(RowError::Half(0))?;
        Ok(vec![StoreOp::PutMessage(MessageId(id), stored.clone()), op])
    };
    match key[0] {
        b'm' => {
            bodies.insert(first, rows::read_message(body)?);
            Ok(Vec::new())
        }
        rows::SESSION => Ok(vec![StoreOp::PutSession(
            session,
            Box::new(rows::read_session(body)?),
        )]),
        rows::SUBSCRIPTION => {
            let subscription = rows::read_subscription(body)?;
            Ok(vec![StoreOp::PutSubscription(session, Box::new(subscription))])
        }
        b'q' => {
            let (mut entry, received) = read_queued(body)?;
            let stored = bodies.get(&entry.message.0).ok_or(RowError::Half(0))?;
            entry.size = u32::try_from(stored.message.size()).unwrap_or(u32::MAX);
            let (id, seq) = (entry.message.0, number(9)?);
            let mut ops = with_body(id, StoreOp::PutQueued(session, seq, entry))?;
            ops.extend(received.then_some(StoreOp::MarkReceived(session, seq)));
            Ok(ops)
        }
        rows::RECEIVED => {
            let (_, packet) = rows::numbers(key)?;
            let packet = u16::try_from(packet).map_err(|_| RowError::Key)?;
            Ok(vec![StoreOp::PutReceived(session, packet)])
        }
        rows::RETAINED => with_body(first, StoreOp::PutRetained(MessageId(first))),
        rows::DELAYED => {
            let until = WallTime(rows::read_number(body)?);
            with_body(first, StoreOp::PutDelayed(MessageId(first), until))
        }
        _ => Err(RowError::Key),
    }
}

/// A queue entry, and whether PUBREC had come for it.
fn read_queued(body: &[u8]) -> Result<(QueueEntry, bool), RowError> {
    let mut r = Reader(body);
    let message = MessageId(r.number()?);
    let qos = Qos::from_u8(r.byte()?).ok_or(RowError::Field("QoS"))?;
    let (retain, received) = (r.byte()? == 1, r.byte()? == 1);
    let subscription_ids = r.maybe(|r| {
        let ids =
            (0..r.number()?).map(|_| u32::try_from(r.number()?).map_err(|_| RowError::Field("identifier")));
        Ok(Box::new(SubscriptionIds::from(
            ids.collect::<Result<Vec<_>, _>>()?,
        )))
    })?;
    let entry = QueueEntry {
        message,
        qos,
        retain,
        lane: 0,
        size: 0,
        shared: None,
        subscription_ids,
    };
    Ok((entry, received))
}
