//! The store on disk: a journal that every commit is appended to, and tables that checkpoints bring up to date behind it.
//!
//! A folder holds `journal/` (see [`crate::journal`]), `tables/` and `export` (see [`crate::tables`]), `ballast` and `lock`. A start opens
//! the tables and replays the journal from their checkpoint on. Replaying over tables that are newer in part gives the same state: every
//! record puts or deletes something by its key, numbers of sessions and messages are not given twice, and the last record wins.
//!
//! Space comes back: a segment of the journal goes when no entry needs it and a checkpoint has passed it. Checkpoints come with every
//! [`DiskSettings::checkpoint_bytes`] of journal; for each segment that was filled, ten seconds after the last commit, or at once when there
//! is no room. What keeps a segment that is nearly empty is moved out of it, as soon as all segments together are twice as large as
//! what they hold and four segments more, or there is no room.

mod ballast;
mod checkpoints;
mod copies;
mod replay;
mod settings;
mod writing;

pub(crate) use copies::{Bodies, Copied};
pub use settings::{DiskSettings, Durability};

use crate::checkpoint::{self, Flushing};
use crate::compaction::Compaction;
use crate::delta::Delta;
use crate::journal::{Journal, Known};
use crate::lanes::{Entry, Queues};
use crate::open::{self, failed};
use crate::records;
use crate::rows;
use crate::tables::{Checkpoint, Opened, Tables};
use ballast::open_tables;
use headgate_model::store::{
    FetchLimit, Fetched, MessageId, QueueEntry, SnapshotFile, StorePlace, StoreSettings, StoreStats,
    StoredDelivery,
};
use headgate_model::{Qos, SessionId, Store, StoreError, StoreImage, StoreOp, SubscriptionIds};
use replay::State;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often something that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Rows that a stop still brings to the tables; sled takes about 100 µs for each.
const MANY_AT_STOP: usize = 10_000;

/// The store on disk.
#[derive(Debug)]
pub struct DiskStore {
    folder: PathBuf,
    /// As it was told, and as they fit the quota.
    told: DiskSettings,
    settings: DiskSettings,
    pub(crate) journal: Journal,
    pub(crate) tables: Tables,
    pub(crate) queues: Queues,
    /// Rows that differ from the tables, and sessions that are gone from them.
    pub(crate) rows: Delta,
    pub(crate) dropped: Vec<u64>,
    pub(crate) checkpoint: Checkpoint,
    /// The export has the same rows as the tables, but for what is being written.
    even: bool,
    /// Bytes of pages that had changed again when the last checkpoint was done: the last page of a queue may do so each time.
    open_pages: usize,
    /// The journal behind the checkpoint is damaged: the next one passes it, so that it is told once.
    leave_behind: bool,
    flushing: Option<Flushing>,
    /// Bytes of journal behind the last checkpoint that was begun.
    since: u64,
    compaction: Compaction,
    /// The ballast is there.
    ballast: bool,
    /// The last checkpoint failed: the tables can be read, and must be opened again before they are written.
    tables_failed: bool,
    last_commit: Instant,
    last_retry: Instant,
    /// Why nothing can be promised any more before the next start.
    broken: Option<String>,
    damage: Vec<String>,
    stats: StoreStats,
    table_bytes: u64,
    /// Dropped last.
    _lock: File,
}

impl DiskStore {
    /// Opens the store in a folder, which need not exist. What cannot be read is told in [`StoreImage::damage`].
    pub fn open(folder: impl AsRef<Path>, settings: DiskSettings) -> Result<Self, StoreError> {
        let folder = std::path::absolute(folder).map_err(|e| failed("find the store", e))?;
        crate::format1::migrate(&folder, settings)?;
        Self::open_format_2(folder, settings)
    }

    pub(crate) fn open_format_2(folder: PathBuf, settings: DiskSettings) -> Result<Self, StoreError> {
        let (told, settings) = (settings, settings.fitted());
        let lock = open::lock(&folder)?;
        let sync = settings.durability == Durability::PowerLoss;
        let (opened, borrowed) = open_tables(&folder, sync, settings.max_bytes)?;
        let Opened {
            mut tables,
            checkpoint,
            upto,
            even,
            mut damage,
        } = opened;
        let mut state = State {
            even,
            ..State::default()
        };
        state.queues.note_gone = !even;
        let bodies = state.read(&tables, &mut damage)?;
        let known = Known {
            from: checkpoint.at,
            upto: upto.max(bodies),
        };
        let (journal, replay) = Journal::open(
            folder.join("journal"),
            sync,
            settings.segment_bytes,
            known,
            |frame| records::read_all(frame, |record| state.apply(record, &mut tables)),
        )?;
        let is_damaged = !replay.damage.is_empty();
        damage.extend(replay.damage);
        let behind = journal.segments().range(checkpoint.at.segment..);
        let since = behind
            .map(|(_, len)| *len)
            .sum::<u64>()
            .saturating_sub(checkpoint.at.offset.into());
        let mut store = Self {
            stats: StoreStats::default(),
            table_bytes: tables.bytes(),
            folder,
            told,
            settings,
            journal,
            tables,
            queues: state.queues,
            rows: state.rows,
            dropped: state.dropped,
            checkpoint,
            even,
            open_pages: 0,
            leave_behind: is_damaged,
            flushing: None,
            since,
            compaction: Compaction::default(),
            ballast: false,
            tables_failed: borrowed,
            last_commit: Instant::now(),
            last_retry: Instant::now(),
            broken: None,
            damage,
            _lock: lock,
        };
        store.report_unreadable();
        store.load_ballast();
        Ok(store)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was committed is promised as much as what will be. What cannot be makes it [unwell](Self::is_well).
    pub(crate) fn set_durability(&mut self, durability: Durability) {
        let sync = durability == Durability::PowerLoss;
        self.told.durability = durability;
        self.settings = self.told.fitted();
        let was_synced = self.journal.sync;
        self.journal.sync = sync;
        self.tables.set_sync(sync);
        if sync && !was_synced {
            // What was acknowledged before was promised less. What comes will be promised more, and rests on it.
            let synced = self.journal.sync_all().and_then(|()| self.tables.sync_all());
            if let Err(error) = synced {
                self.broken = Some(format!("a sync failed earlier: {error}"));
            }
        }
    }

    /// Closes one that is not used any more, with no last words for the disk.
    pub(crate) fn forsake(mut self) {
        if let Some(flushing) = self.flushing.take() {
            flushing.give_up();
            let _ = checkpoint::end(&mut self, flushing);
        }
        self.broken = Some("it is not used any more".into());
    }

    /// One entry with its body; those of the `next` entries will be asked for after it.
    fn read_delivery(&mut self, entry: &Entry, next: &[Entry], lane: u8) -> Option<StoredDelivery> {
        let next = next.iter().map(|entry| entry.at);
        let message = self.journal.with_run(entry.at, next, rows::read_message);
        let message = message
            .map_err(|error| error.to_string())
            .and_then(|message| message.map_err(|error| error.to_string()));
        match message {
            Ok(message) => Some(delivery(entry, lane, message)),
            Err(error) => {
                tracing::error!(number = entry.seq, %error, "a queued message cannot be read and is lost");
                None
            }
        }
    }

    fn report_unreadable(&mut self) {
        for key in std::mem::take(&mut self.queues.unreadable) {
            let (session, first) = (key.session, key.first);
            tracing::error!(session, first, "a part of a queue cannot be read and is lost");
        }
    }

    fn disk_bytes(&self) -> u64 {
        let ballast = if self.ballast {
            self.settings.ballast_bytes
        } else {
            0
        };
        self.journal.bytes() + self.table_bytes + ballast
    }

    fn timed<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let begun = Instant::now();
        let result = work(self);
        self.stats.longest = self.stats.longest.max(begun.elapsed());
        result
    }
}

impl Store for DiskStore {
    fn load(&mut self) -> Result<StoreImage, StoreError> {
        if let Some(flushing) = self.flushing.take() {
            self.end_checkpoint(flushing)?;
        }
        let mut lost = Vec::new();
        let mut image = crate::image::read(self, |store, session, entry, lane| {
            let delivery = store.read_delivery(entry, &[], lane);
            if delivery.is_none() {
                lost.push(StoreOp::DeleteQueued(session, entry.seq));
            }
            delivery
        })?;
        if self.broken.is_none()
            && let Err(error) = self.write(&lost)
        {
            tracing::warn!(%error, "messages that cannot be read could not be taken out; they are told again at the next start");
        }
        let told = std::mem::take(&mut self.damage);
        image.damage.splice(..0, told);
        Ok(image)
    }

    fn commit(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        if let Some(cause) = &self.broken {
            return Err(failed("write to the store", cause));
        }
        self.timed(|store| store.write(ops))
    }

    fn fetch(
        &mut self,
        session: SessionId,
        lane: u8,
        from: u64,
        limit: FetchLimit,
    ) -> Result<Fetched, StoreError> {
        self.timed(|store| {
            let tables = &mut store.tables;
            let (entries, more) =
                store
                    .queues
                    .waiting(session.0, lane, from, limit.count, limit.bytes, tables);
            let mut fetched = Fetched {
                next: entries.last().map_or(from, |entry| entry.seq + 1),
                at_end: !more,
                ..Fetched::default()
            };
            let mut lost = Vec::new();
            for (at, entry) in entries.iter().enumerate() {
                match store.read_delivery(entry, &entries[at + 1..], lane) {
                    Some(delivery) => fetched.deliveries.push(delivery),
                    None => lost.push(StoreOp::DeleteQueued(session, entry.seq)),
                }
            }
            fetched.lost = lost.len();
            store.report_unreadable();
            store.write(&lost)?;
            Ok(fetched)
        })
    }

    fn maintain(&mut self) -> Result<bool, StoreError> {
        if self.broken.is_some() {
            return Ok(false);
        }
        self.timed(|store| {
            store.checkpoint_step()?;
            let mut more = store.free_segments()?;
            if !store.ballast && store.last_retry.elapsed() >= RETRY {
                store.last_retry = Instant::now();
                store.load_ballast();
            }
            more |= match crate::compaction::step(store) {
                Err(error) if !store.has_room() => {
                    tracing::debug!(%error, "no room to empty a segment either");
                    false
                }
                step => step?,
            };
            Ok(more)
        })
    }

    /// Links to the journal and the export, of which the tables can be made anew. Neither is ever changed but at its end.
    fn snapshot(&mut self, into: &Path) -> Result<Option<Vec<SnapshotFile>>, StoreError> {
        if let Some(cause) = &self.broken {
            return Err(failed("copy the store", cause));
        }
        // The export says what belongs to which checkpoint when none is being written.
        if self.flushing.is_some() || self.tables_failed {
            return Ok(None);
        }
        let mut files = Vec::new();
        for (number, len) in self.journal.segments() {
            files.push((format!("journal/{number:010}.log"), *len));
        }
        for name in ["export", "journal-begun"] {
            match std::fs::metadata(self.folder.join(name)) {
                Ok(metadata) => files.push((name.to_owned(), metadata.len())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("copy the store", error)),
            }
        }
        std::fs::create_dir(into.join("journal")).map_err(|e| failed("copy the store", e))?;
        for (name, _) in &files {
            let linked = std::fs::hard_link(self.folder.join(name), into.join(name));
            linked.map_err(|e| failed("copy the store", e))?;
        }
        let files = files
            .into_iter()
            .map(|(name, bytes)| SnapshotFile { name, bytes });
        Ok(Some(files.collect()))
    }

    fn set_settings(&mut self, settings: StoreSettings) {
        self.told.max_bytes = settings.max_bytes;
        self.tables.max_bytes = settings.max_bytes;
        self.set_durability(match settings.survives_power_loss {
            true => Durability::PowerLoss,
            false => Durability::ProcessCrash,
        });
        self.journal.segment_bytes = self.settings.segment_bytes;
    }

    fn has_room(&self) -> bool {
        let limit = self.settings.max_bytes;
        self.ballast && !self.tables_failed && (limit == 0 || self.disk_bytes() < limit)
    }

    fn stats(&self) -> StoreStats {
        StoreStats {
            journal_bytes: self.journal.written,
            disk_bytes: self.disk_bytes(),
            queued: self.queues.count,
            place: StorePlace::Disk,
            ..self.stats
        }
    }
}

impl DiskStore {
    /// Does all that [`Store::maintain`] would do in time, at once, and empties every segment that holds little. `progress` gets the bytes
    /// that the store has on the disk.
    pub fn compact(&mut self, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        self.checkpoint_now()?;
        while self.free_segments()? || crate::compaction::step(self)? {
            progress(self.disk_bytes());
        }
        self.checkpoint_now()?;
        while self.free_segments()? {}
        Ok(())
    }

    pub(crate) fn compaction(&mut self) -> &mut Compaction {
        &mut self.compaction
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.settings.segment_bytes
    }
}

/// The last checkpoint makes the next start quick. Where it would make this stop slow, it is left to that start.
impl Drop for DiskStore {
    fn drop(&mut self) {
        // What was not told yet must be found again.
        if self.broken.is_some() || std::thread::panicking() || !self.damage.is_empty() {
            return;
        }
        if let Some(flushing) = self.flushing.take_if(|flushing| flushing.len() > MANY_AT_STOP) {
            flushing.give_up();
            // What it did not come to differs as before.
            let _ = checkpoint::end(self, flushing);
            return;
        }
        if self.rows.len() + self.queues.dirty.len() > MANY_AT_STOP {
            return;
        }
        if let Err(error) = self.checkpoint_now() {
            tracing::warn!(%error, "the last checkpoint could not be written; the next start replays the journal");
        }
    }
}

fn delivery(entry: &Entry, lane: u8, message: headgate_model::store::StoredMessage) -> StoredDelivery {
    let extra = entry.extra.as_deref().cloned().unwrap_or_default();
    let ids = extra.identifiers;
    StoredDelivery {
        seq: entry.seq,
        entry: QueueEntry {
            message: MessageId(0),
            qos: Qos::from_u8(entry.qos).expect("checked when it was read"),
            retain: entry.retain,
            lane,
            size: entry.size,
            shared: extra.shared,
            subscription_ids: (!ids.is_empty()).then(|| Box::new(SubscriptionIds::from(ids))),
        },
        message,
    }
}

#[cfg(test)]
mod tests;
