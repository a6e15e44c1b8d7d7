//! The store on disk, over sled 0.34.
//!
//! One tree, so that one batch is one transaction; see [`crate::rows`] for its rows. sled's own flush is not a sync: it ends in
//! `sync_file_range`, which neither empties the drive's cache nor keeps a file's new length. So every commit ends in an `fdatasync` of our own.
//!
//! Beside the store at `path` stand `path.lock`, `path.mark` (see [`crate::mark`]), `path.unreadable` (rows that could not be read) and
//! `path.damaged-1` and so on (stores that could not be opened).

use crate::image::Scan;
use crate::mark;
use crate::open::{self, failed};
use crate::rows::{self, Key};
use headgate_model::{SessionId, Store, StoreError, StoreImage, StoreOp};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Commits between two marks.
const MARK_EVERY: u64 = 256;

/// What a finished commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut.
    PowerLoss,
    /// A crash of the gateway, not of the machine.
    ProcessCrash,
}

/// The store on disk.
#[derive(Debug)]
pub struct SledStore {
    /// `None` after a failure, until it is opened again.
    db: Option<sled::Db>,
    /// Our own handle on sled's file, to sync it; `None` when a commit need not survive a power cut.
    file: Option<File>,
    path: PathBuf,
    commits: u64,
    /// What opening read.
    image: Option<StoreImage>,
    /// Why nothing can be promised any more before the next start.
    broken: Option<String>,
    /// Dropped last.
    _lock: File,
}

impl SledStore {
    /// Opens the store at `path`, a folder that need not exist. What cannot be read is told in [`StoreImage::damage`].
    pub fn open(path: impl AsRef<Path>, durability: Durability) -> Result<Self, StoreError> {
        let path = std::path::absolute(path).map_err(|e| failed("find the store", e))?;
        let lock = open::lock(&path)?;
        let (db, scan) = open::open(&path)?;
        let file = match durability {
            Durability::PowerLoss => {
                Some(File::open(path.join("db")).map_err(|e| failed("open the store's file", e))?)
            }
            Durability::ProcessCrash => None,
        };
        Ok(Self {
            db: Some(db),
            file,
            path,
            commits: scan.commits,
            image: Some(scan.image),
            broken: None,
            _lock: lock,
        })
    }

    fn write(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        let db = match self.db.take() {
            Some(db) => db,
            None => open::reopen(&self.path, self.commits)?,
        };
        self.write_to(&db, ops)?;
        self.db = Some(db);
        Ok(())
    }

    fn write_to(&mut self, db: &sled::Db, ops: &[StoreOp]) -> Result<(), StoreError> {
        let mut stage = Stage::new(db);
        let staged = ops.iter().try_for_each(|op| stage.take(op));
        let batch = staged.and_then(|()| stage.batch(self.commits + 1));
        let Some(batch) = batch.map_err(|e| failed("read the store", e))? else {
            return Ok(());
        };
        db.apply_batch(batch)
            .map_err(|e| failed("write to the store", e))?;
        db.flush().map_err(|e| failed("flush the store", e))?;
        if let Some(file) = &self.file
            && let Err(error) = file.sync_data()
        {
            // The system may have dropped what it could not write, and would call the next sync a success.
            self.broken = Some(format!("a sync failed earlier: {error}"));
            return Err(failed("sync the store", error));
        }
        self.commits += 1;
        if self.commits.is_multiple_of(MARK_EVERY) {
            self.mark();
        }
        Ok(())
    }

    fn mark(&self) {
        if let Err(error) = mark::write(&self.path, self.commits) {
            tracing::warn!(%error, "the store's mark could not be written");
        }
    }
}

impl Store for SledStore {
    fn load(&mut self) -> Result<StoreImage, StoreError> {
        if let Some(image) = self.image.take() {
            return Ok(image);
        }
        let db = match self.db.take() {
            Some(db) => db,
            None => open::reopen(&self.path, self.commits)?,
        };
        let scan = Scan::read(self.db.insert(db));
        Ok(scan.map_err(|e| failed("read the store", e))?.image)
    }

    fn commit(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        if let Some(cause) = &self.broken {
            return Err(failed("write to the store", cause));
        }
        catch_unwind(AssertUnwindSafe(|| self.write(ops)))
            .unwrap_or_else(|panic| Err(failed("write to the store", open::words(&*panic))))
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        if self.broken.is_none() && !std::thread::panicking() {
            self.mark();
        }
    }
}

/// The rows that a commit changes, each with what it shall be in the end: a later operation wins.
struct Stage<'a> {
    db: &'a sled::Db,
    rows: BTreeMap<Key, Option<Vec<u8>>>,
    /// Whether a session will exist, as far as it was asked.
    sessions: HashMap<SessionId, bool>,
}

impl<'a> Stage<'a> {
    fn new(db: &'a sled::Db) -> Self {
        Self {
            db,
            rows: BTreeMap::new(),
            sessions: HashMap::new(),
        }
    }

    fn take(&mut self, op: &StoreOp) -> sled::Result<()> {
        let (key, body) = match op {
            StoreOp::PutMessage(id, message) => {
                (rows::key(rows::MESSAGE, id.0), Some(rows::write_message(message)))
            }
            StoreOp::DeleteMessage(id) => (rows::key(rows::MESSAGE, id.0), None),
            StoreOp::PutSession(id, record) => {
                self.sessions.insert(*id, true);
                (rows::key(rows::SESSION, id.0), Some(rows::write_session(record)))
            }
            StoreOp::DeleteSession(id) => return self.delete_session(*id),
            StoreOp::PutSubscription(id, subscription) => {
                let key = rows::subscription_key(*id, &subscription.to_text());
                return self.put_for(*id, key, rows::write_subscription(subscription));
            }
            StoreOp::DeleteSubscription(id, text) => (rows::subscription_key(*id, text), None),
            StoreOp::PutQueued(id, seq, entry) => {
                let key = rows::session_key(rows::QUEUED, *id, &seq.to_be_bytes());
                return self.put_for(*id, key, rows::write_queued(entry));
            }
            StoreOp::DeleteQueued(id, seq) => {
                (rows::session_key(rows::QUEUED, *id, &seq.to_be_bytes()), None)
            }
            StoreOp::PutReceived(id, packet) => {
                let key = rows::session_key(rows::RECEIVED, *id, &packet.to_be_bytes());
                return self.put_for(*id, key, Vec::new());
            }
            StoreOp::DeleteReceived(id, packet) => (
                rows::session_key(rows::RECEIVED, *id, &packet.to_be_bytes()),
                None,
            ),
            StoreOp::PutRetained(id) => (rows::key(rows::RETAINED, id.0), Some(Vec::new())),
            StoreOp::DeleteRetained(id) => (rows::key(rows::RETAINED, id.0), None),
            StoreOp::PutDelayed(id, until) => {
                (rows::key(rows::DELAYED, id.0), Some(rows::write_number(until.0)))
            }
            StoreOp::DeleteDelayed(id) => (rows::key(rows::DELAYED, id.0), None),
        };
        self.rows.insert(key, body);
        Ok(())
    }

    /// A row of a session; nothing is kept for one that does not exist.
    fn put_for(&mut self, session: SessionId, key: Key, body: Vec<u8>) -> sled::Result<()> {
        let exists = match self.sessions.get(&session) {
            Some(exists) => *exists,
            None => self.db.contains_key(rows::key(rows::SESSION, session.0))?,
        };
        self.sessions.insert(session, exists);
        if exists {
            self.rows.insert(key, Some(body));
        }
        Ok(())
    }

    /// Everything of the session, whether it is on disk or was put by this very commit.
    fn delete_session(&mut self, id: SessionId) -> sled::Result<()> {
        self.sessions.insert(id, false);
        for table in [rows::SESSION, rows::SUBSCRIPTION, rows::QUEUED, rows::RECEIVED] {
            let prefix = rows::key(table, id.0);
            let staged = self.rows.range_mut(prefix.clone()..);
            staged
                .take_while(|(key, _)| key.starts_with(&prefix))
                .for_each(|(_, body)| *body = None);
            for key in self.db.scan_prefix(&prefix).keys() {
                self.rows.insert(key?.to_vec(), None);
            }
        }
        Ok(())
    }

    /// The transaction; `None` when nothing changes. What is not on disk and shall not be there is not written.
    fn batch(self, commits: u64) -> sled::Result<Option<sled::Batch>> {
        let mut batch = sled::Batch::default();
        let mut changes = false;
        for (key, body) in self.rows {
            let before = self.db.get(&key)?;
            let new = body.map_or_else(Vec::new, |body| rows::cut(&key, &body));
            let old_parts = before
                .as_deref()
                .map_or(0, |value| rows::further_parts(&key, value));
            let kept_parts = u32::try_from(new.len().saturating_sub(1)).expect("cut counts in u32");
            changes |= before.is_some() || !new.is_empty();
            if before.is_some() && new.is_empty() {
                batch.remove(&key[..]);
            }
            for n in kept_parts + 1..=old_parts {
                batch.remove(rows::part_key(&key, n));
            }
            for (key, value) in new {
                batch.insert(key, value);
            }
        }
        for (key, value) in rows::cut(rows::COMMITS_KEY, &rows::write_number(commits)) {
            batch.insert(key, value);
        }
        Ok(changes.then_some(batch))
    }
}
