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

use crate::checkpoint::{self, Flushing, Row};
use crate::compaction::Compaction;
use crate::delta::Delta;
use crate::journal::{Boundary, Journal, JournalError, Known, Position};
use crate::lanes::{Entry, Extra, Queues};
use crate::open::{self, failed};
use crate::records::{self, Record};
use crate::rows::{self, Key};
use crate::tables::{Checkpoint, Opened, Tables, read_page};
use headgate_model::store::{
    FetchLimit, Fetched, MessageId, QueueEntry, SnapshotFile, StoreSettings, StoreStats, StoredDelivery,
};
use headgate_model::{Qos, SessionId, Store, StoreError, StoreImage, StoreOp, SubscriptionIds};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a finished commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut.
    PowerLoss,
    /// A crash of the gateway, not of the machine.
    ProcessCrash,
}

/// How the store works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSettings {
    /// What a finished commit survives.
    pub durability: Durability,
    /// Bytes that it may have on the disk before [`Store::has_room`] says no; 0 for no limit but the disk's own.
    pub max_bytes: u64,
    /// Bytes of a segment of the journal; the frame that reaches them is its last.
    pub segment_bytes: u64,
    /// Bytes of journal between two checkpoints.
    pub checkpoint_bytes: u64,
    /// Bytes kept back on the disk, so that it can still delete when the disk is full.
    pub ballast_bytes: u64,
}

impl Default for DiskSettings {
    fn default() -> Self {
        Self {
            durability: Durability::PowerLoss,
            max_bytes: 0,
            segment_bytes: 8 << 20,
            checkpoint_bytes: 32 << 20,
            ballast_bytes: 4 << 20,
        }
    }
}

impl DiskSettings {
    /// With segments and checkpoints that are small parts of a quota, for they are what it takes to get space back.
    fn fitted(self) -> Self {
        let part = |bytes: u64, part: u64| match self.max_bytes {
            0 => bytes,
            max => bytes.min((max / part).max(LEAST_SEGMENT)),
        };
        Self {
            segment_bytes: part(self.segment_bytes, 16),
            checkpoint_bytes: part(self.checkpoint_bytes, 8),
            ..self
        }
    }
}

/// A quota does not make segments smaller than this.
const LEAST_SEGMENT: u64 = 64 << 10;
/// After so long without a commit what is left is checkpointed, so that space comes back.
const IDLE: Duration = Duration::from_secs(10);
/// How often something that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Rows that a stop still brings to the tables; sled takes about 100 µs for each.
const MANY_AT_STOP: usize = 10_000;
/// Queue entries in memory that make a checkpoint due.
const MANY: usize = 100_000;
/// Bytes of memory for queue entries that make a checkpoint due are [`DiskSettings::checkpoint_bytes`], within these bounds; for rows, which take sled
/// longer, a quarter of it.
const LEAST_MEMORY: u64 = 1 << 20;
const MOST_MEMORY: u64 = 16 << 20;
/// How many times that may wait while a checkpoint is being written.
const WAITS: usize = 4;
/// Segments removed at once.
const REMOVED_AT_ONCE: usize = 1;

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

    /// Writes what `fill` writes as one frame, makes it durable, and changes the state accordingly.
    pub(crate) fn append(&mut self, fill: impl Fn(&mut Frame<'_>)) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            let begun = self.journal.begin().map(|_| ());
            let written = begun.and_then(|()| {
                let (buffer, at) = self.journal.frame();
                fill(&mut Frame {
                    segment: at.segment,
                    offset: at.offset,
                    buffer,
                });
                self.journal.commit().map_err(|error| match error {
                    JournalError::Write(error) => failed("write to the journal", error),
                    JournalError::Sync(error) => {
                        self.broken = Some(format!("a sync failed earlier: {error}"));
                        failed("sync the journal", error)
                    }
                })
            });
            match written {
                Ok(()) => break,
                // With the ballast gone there may be room for what deletes.
                Err(_) if self.ballast && tries == 0 && self.broken.is_none() => self.drop_ballast(),
                Err(error) => return Err(error),
            }
            tries += 1;
        }
        let (buffer, _) = self.journal.frame();
        let frame = std::mem::take(buffer);
        self.since += frame.len() as u64;
        let mut state = State {
            queues: std::mem::take(&mut self.queues),
            rows: std::mem::take(&mut self.rows),
            dropped: std::mem::take(&mut self.dropped),
            writing: self.flushing.as_ref().map(Flushing::rows),
            even: self.even,
        };
        let applied = records::read_all(&frame[crate::journal::FRAME..], |record| {
            state.apply(record, &mut self.tables);
        });
        (self.queues, self.rows, self.dropped) = (state.queues, state.rows, state.dropped);
        self.journal.give_back(frame);
        self.report_unreadable();
        applied.map_err(|e| failed("understand what was written", e))
    }

    fn write(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        let resolved = self.resolve(ops);
        let ops = resolved.as_deref().unwrap_or(ops);
        let plan = Plan::of(ops);
        if plan.is_empty(ops) {
            return Ok(());
        }
        self.append(|frame| plan.write(ops, frame))?;
        self.wait_when_behind();
        for op in ops {
            if let StoreOp::PutMessage(id, stored) = op
                && plan.writes(*id)
            {
                self.stats.messages += 1;
                self.stats.payload_bytes += stored.message.payload.len() as u64;
            }
        }
        self.stats.commits += 1;
        self.last_commit = Instant::now();
        Ok(())
    }

    /// The operations with every [`StoreOp::DropOldest`] replaced by what it deletes: the journal must name it, for when it is replayed
    /// another entry may be the oldest. `None` when there are none.
    fn resolve(&mut self, ops: &[StoreOp]) -> Option<Vec<StoreOp>> {
        if !ops.iter().any(|op| matches!(op, StoreOp::DropOldest(..))) {
            return None;
        }
        let mut gone: HashSet<(SessionId, u64)> = HashSet::new();
        let mut put: HashMap<(SessionId, u8), Vec<u64>> = HashMap::new();
        // Where the last search with the same words ended.
        let mut ended: HashMap<(SessionId, u8, u64), u64> = HashMap::new();
        let mut resolved = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                StoreOp::DropOldest(session, lane, first) => {
                    let from = ended.get(&(*session, *lane, *first)).copied().unwrap_or(*first);
                    let new = put.get(&(*session, *lane)).map_or(&[][..], Vec::as_slice);
                    if let Some(seq) = self.oldest(*session, *lane, from, new, &gone) {
                        ended.insert((*session, *lane, *first), seq + 1);
                        gone.insert((*session, seq));
                        resolved.push(StoreOp::DeleteQueued(*session, seq));
                    }
                    continue;
                }
                StoreOp::PutQueued(session, seq, entry) => {
                    put.entry((*session, entry.lane)).or_default().push(*seq);
                }
                StoreOp::DeleteQueued(session, seq) | StoreOp::MarkReceived(session, seq) => {
                    gone.insert((*session, *seq));
                }
                _ => {}
            }
            resolved.push(op.clone());
        }
        Some(resolved)
    }

    /// The first waiting entry of a lane from a number on, or of those that this commit puts `new`, that is not `gone`.
    fn oldest(
        &mut self,
        session: SessionId,
        lane: u8,
        mut from: u64,
        new: &[u64],
        gone: &HashSet<(SessionId, u64)>,
    ) -> Option<u64> {
        let first = from;
        loop {
            let tables = &mut self.tables;
            let (found, _) = self.queues.waiting(session.0, lane, from, 1, usize::MAX, tables);
            match found.first() {
                Some(entry) if gone.contains(&(session, entry.seq)) => from = entry.seq + 1,
                Some(entry) => return Some(entry.seq),
                None => break,
            }
        }
        let mut new = new.iter().copied();
        new.find(|seq| *seq >= first && !gone.contains(&(session, *seq)))
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

    /// A checkpoint in the background: begun when it is due, taken over when it is done.
    fn checkpoint_step(&mut self) -> Result<(), StoreError> {
        if self.flushing.as_ref().is_some_and(Flushing::is_done) {
            let flushing = self.flushing.take().expect("just looked at");
            self.end_checkpoint(flushing)?;
        }
        // What was not told yet must be found again.
        let leave_behind = self.leave_behind && self.damage.is_empty();
        let many = self.since >= self.settings.checkpoint_bytes
            || self.has_much_in_memory(1)
            || self.queues.entries_in_memory >= MANY;
        let no_room = !self.has_room();
        if no_room && self.flushing.is_none() {
            self.leave_segment();
        }
        let filled = self.has_filled();
        let wanted = no_room || self.last_commit.elapsed() >= IDLE;
        if self.tables_failed && self.ballast {
            self.reopen_tables()?;
        }
        // With nothing that differs, a checkpoint still lets segments go.
        let due = leave_behind || many && (filled || self.differs()) || wanted && filled;
        if self.flushing.is_none() && due && !self.tables_failed {
            self.begin_checkpoint()?;
        }
        Ok(())
    }

    /// What is not in the tables since the last checkpoint takes so many times the memory that makes a checkpoint due.
    fn has_much_in_memory(&self, times: usize) -> bool {
        let most = self.settings.checkpoint_bytes.clamp(LEAST_MEMORY, MOST_MEMORY) as usize;
        let rows = self.rows.bytes() + self.dropped.len() * size_of::<u64>();
        let pages = self.queues.dirty_bytes().saturating_sub(self.open_pages);
        rows >= times * most / 4 || pages >= times * most
    }

    /// Rows may come faster than the tables take them. When much more is waiting than makes a checkpoint due, the commit does not end before
    /// the one that is being written is there.
    fn wait_when_behind(&mut self) {
        if !self.has_much_in_memory(WAITS) {
            return;
        }
        if let Some(flushing) = self.flushing.take()
            && let Err(error) = self.end_checkpoint(flushing)
        {
            tracing::warn!(%error, "a checkpoint failed; it is tried again");
        }
    }

    /// A segment was filled since the last checkpoint.
    fn has_filled(&self) -> bool {
        let behind = self.journal.segments().range(self.checkpoint.at.segment..);
        behind.count() > 1
    }

    /// Begins a new segment when the one that is written to holds much that is of no use: only what is not written to any more can go.
    /// What must be written before the next time keeps this from coming too often.
    fn leave_segment(&mut self) {
        let end = self.journal.end();
        let used = self
            .queues
            .references
            .get(&end.segment)
            .map_or(0, |references| references.bytes);
        if u64::from(end.offset).saturating_sub(used) < (self.settings.segment_bytes / 8).max(used) {
            return;
        }
        if let Err(error) = self.journal.roll() {
            tracing::debug!(%error, "no room for a new segment either");
        }
    }

    /// There is something that the tables do not have.
    fn differs(&self) -> bool {
        !(self.rows.is_empty() && self.dropped.is_empty() && self.queues.dirty.is_empty())
    }

    fn reopen_tables(&mut self) -> Result<(), StoreError> {
        if let Err(error) = self.tables.reopen(self.checkpoint) {
            self.broken = Some(format!("the tables could not be opened again: {error}"));
            return Err(error);
        }
        self.tables_failed = false;
        Ok(())
    }

    fn begin_checkpoint(&mut self) -> Result<(), StoreError> {
        let next = Checkpoint {
            number: self.checkpoint.number + 1,
            at: self.journal.end(),
        };
        self.since = 0;
        self.leave_behind = false;
        self.flushing = Some(checkpoint::begin(self, next)?);
        Ok(())
    }

    fn end_checkpoint(&mut self, flushing: Flushing) -> Result<(), StoreError> {
        let next = flushing.checkpoint;
        let written = checkpoint::end(self, flushing).inspect_err(|_| {
            // Tried again when there is room.
            self.since = self.settings.checkpoint_bytes;
            self.leave_behind = true;
            self.tables_failed = true;
            (self.even, self.queues.note_gone) = (false, true);
            self.drop_ballast();
        })?;
        self.checkpoint = next;
        (self.even, self.queues.note_gone) = (true, false);
        self.open_pages = self.queues.dirty_bytes();
        self.stats.checkpoints += 1;
        self.stats.checkpoint_bytes += written;
        self.table_bytes = self.tables.bytes();
        Ok(())
    }

    /// Removes segments that nothing needs. Whether there are more.
    fn free_segments(&mut self) -> Result<bool, StoreError> {
        let passed = self.journal.segments().range(..self.checkpoint.at.segment);
        let free = passed.map(|(number, _)| *number);
        let mut free = free.filter(|number| !self.queues.references.contains_key(number));
        let some: Vec<u32> = free.by_ref().take(REMOVED_AT_ONCE).collect();
        let more = free.next().is_some();
        for number in some {
            self.journal
                .remove(number)
                .map_err(|e| failed("remove a segment of the journal", e))?;
        }
        Ok(more)
    }

    fn ballast_path(&self) -> PathBuf {
        ballast(&self.folder)
    }

    /// Puts the ballast there if there is room for it.
    fn load_ballast(&mut self) {
        let (path, bytes) = (self.ballast_path(), self.settings.ballast_bytes);
        self.ballast = std::fs::metadata(&path).is_ok_and(|data| data.len() == bytes);
        if self.ballast {
            return;
        }
        let written = File::create(&path).and_then(|mut file| {
            io::copy(&mut io::Read::take(io::repeat(0xA5), bytes), &mut file)?;
            file.sync_all()
        });
        self.ballast = written.is_ok();
        if written.is_err() {
            let _ = std::fs::remove_file(path); // It is only in the way.
        }
    }

    fn drop_ballast(&mut self) {
        tracing::error!("the disk is full: only what frees space is written until there is room again");
        self.ballast = false;
        self.last_retry = Instant::now();
        let _ = std::fs::remove_file(self.ballast_path()); // If not, the next try fails as the last one did.
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

    /// Brings the tables up to date, and waits for it.
    pub(crate) fn checkpoint_now(&mut self) -> Result<(), StoreError> {
        if let Some(flushing) = self.flushing.take() {
            self.end_checkpoint(flushing)?;
        }
        if self.tables_failed {
            self.reopen_tables()?;
        }
        if !self.differs() && !self.leave_behind && !self.has_filled() {
            return Ok(());
        }
        self.begin_checkpoint()?;
        match self.flushing.take() {
            Some(flushing) => self.end_checkpoint(flushing),
            None => Ok(()),
        }
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
        let sync = settings.survives_power_loss;
        self.told.max_bytes = settings.max_bytes;
        self.told.durability = match sync {
            true => Durability::PowerLoss,
            false => Durability::ProcessCrash,
        };
        self.settings = self.told.fitted();
        self.journal.segment_bytes = self.settings.segment_bytes;
        self.tables.max_bytes = settings.max_bytes;
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

    fn has_room(&self) -> bool {
        let limit = self.settings.max_bytes;
        self.ballast && !self.tables_failed && (limit == 0 || self.disk_bytes() < limit)
    }

    fn stats(&self) -> StoreStats {
        StoreStats {
            journal_bytes: self.journal.written,
            disk_bytes: self.disk_bytes(),
            queued: self.queues.count,
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

fn ballast(folder: &Path) -> PathBuf {
    folder.join("ballast")
}

/// Opens the tables, on a full disk too: with the ballast's room, or else with the export's rows for the time being. The latter is said by the second.
fn open_tables(folder: &Path, sync: bool, max_bytes: u64) -> Result<(Opened, bool), StoreError> {
    let error = match Tables::open(folder, sync, max_bytes) {
        Ok(opened) => return Ok((opened, false)),
        Err(error) => error,
    };
    if !open::is_full(&folder.join("tables")) {
        return Err(error);
    }
    tracing::error!(%error, "the disk is full: what is there can be read, and only what frees space is written until there is room again");
    if std::fs::remove_file(ballast(folder)).is_ok()
        && let Ok(opened) = Tables::open(folder, sync, max_bytes)
    {
        return Ok((opened, false));
    }
    let opened = Tables::borrow_export(folder, sync, max_bytes).ok_or(error)?;
    Ok((opened, true))
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

/// What the journal says, in memory.
#[derive(Debug, Default)]
struct State {
    queues: Queues,
    rows: Delta,
    dropped: Vec<u64>,
    /// Rows that a checkpoint is writing.
    writing: Option<Arc<BTreeMap<Key, Row>>>,
    /// The export has the same rows as the tables, but for those.
    even: bool,
}

impl State {
    /// No copy has the row, nor will have it: when it goes, there is nothing to be written.
    fn is_new(&self, key: &[u8], tables: &Tables) -> bool {
        let written = self.writing.as_ref().is_some_and(|rows| rows.contains_key(key));
        self.even && !written && !tables.may_hold(key)
    }

    /// The tables' sessions and pages. The furthest place of the journal where they say that a body ends.
    fn read(&mut self, tables: &Tables, damage: &mut Vec<String>) -> Result<Boundary, StoreError> {
        let mut upto = Boundary::default();
        for row in tables.rows_in(&[rows::SESSION]) {
            let (key, _) = row.map_err(|e| failed("read the tables", e))?;
            if let Ok((id, _)) = rows::numbers(&key) {
                self.queues.add_session(id);
            }
        }
        for row in tables.rows_in(&[rows::QUEUED]) {
            let (key, body) = row.map_err(|e| failed("read the tables", e))?;
            let Ok(body) = body else { continue };
            let page = rows::page_of(&key).and_then(|page| Ok((page, read_page(&body)?)));
            let entries = page.iter().flat_map(|(_, entries)| entries);
            upto = entries.map(|entry| entry.at.end()).fold(upto, Boundary::max);
            match page {
                Ok((page, entries)) if self.queues.contains(page.session) => self.queues.load(page, entries),
                Ok((page, _)) => self.dropped.push(page.session),
                Err(error) => damage.push(format!("{}: {error}; lost", rows::name(&key))),
            }
        }
        self.dropped.dedup();
        Ok(upto)
    }

    fn apply(&mut self, record: Record, tables: &mut Tables) {
        match record {
            Record::Row(key, body) => {
                let Ok((id, _)) = rows::numbers(&key) else { return };
                match key[0] {
                    rows::SESSION => self.queues.add_session(id),
                    rows::SUBSCRIPTION | rows::RECEIVED if !self.queues.contains(id) => return,
                    _ => {}
                }
                self.rows.insert(key, Row::Bytes(body));
            }
            Record::NoRow(key) if self.is_new(&key, tables) => self.rows.remove(&key),
            Record::NoRow(key) => self.rows.insert(key, Row::Gone),
            Record::RowAt(key, beginning, at) => self.rows.insert(key, Row::At(beginning, at)),
            Record::NoSession(id) => {
                self.queues.remove_session(id);
                for table in [rows::SESSION, rows::SUBSCRIPTION, rows::RECEIVED] {
                    self.rows.remove_all(&rows::key(table, id));
                }
                if !self.is_new(&rows::key(rows::SESSION, id), tables) {
                    self.dropped.push(id);
                }
            }
            Record::Body => {}
            Record::Queued(session, lane, entry) => self.queues.put(session, lane, entry, tables),
            Record::Received(session, seq) => self.queues.mark_received(session, seq, tables),
            Record::Unqueued(session, seq) => self.queues.remove(session, seq, tables),
        }
    }
}

/// A frame that is being made.
pub(crate) struct Frame<'a> {
    segment: u32,
    offset: u32,
    pub buffer: &'a mut Vec<u8>,
}

impl Frame<'_> {
    /// Writes a body; where it will be.
    pub(crate) fn body(&mut self, body: &[u8]) -> Position {
        let range = records::write_body(self.buffer, body);
        // A frame that does not fit is refused as a whole.
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Position {
            segment: self.segment,
            offset: self.offset.saturating_add(number(range.start)),
            len: number(range.len()),
        }
    }

    pub(crate) fn record(&mut self, record: &Record) {
        records::write(self.buffer, record);
    }
}

/// What of a commit need not be written: what it puts and deletes again, and bodies that nothing needs then.
#[derive(Debug, Default)]
struct Plan {
    cancels: bool,
    entries: HashSet<(SessionId, u64)>,
    kept: HashSet<MessageId>,
    needed: HashSet<MessageId>,
}

impl Plan {
    fn of(ops: &[StoreOp]) -> Self {
        let deletes = |op: &StoreOp| {
            matches!(
                op,
                StoreOp::DeleteQueued(..) | StoreOp::DeleteRetained(_) | StoreOp::DeleteDelayed(_)
            )
        };
        let mut plan = Self {
            cancels: ops.iter().any(deletes),
            ..Self::default()
        };
        if !plan.cancels {
            return plan;
        }
        let mut put = HashSet::new();
        let mut kept = HashSet::new();
        for op in ops {
            match op {
                StoreOp::PutQueued(session, seq, _) => {
                    put.insert((*session, *seq));
                    plan.entries.remove(&(*session, *seq));
                }
                StoreOp::DeleteQueued(session, seq) if put.contains(&(*session, *seq)) => {
                    plan.entries.insert((*session, *seq));
                }
                StoreOp::PutRetained(id) | StoreOp::PutDelayed(id, _) => {
                    kept.insert(*id);
                    plan.kept.remove(id);
                }
                StoreOp::DeleteRetained(id) | StoreOp::DeleteDelayed(id) if kept.contains(id) => {
                    plan.kept.insert(*id);
                }
                _ => {}
            }
        }
        for op in ops {
            let needed = match op {
                StoreOp::PutQueued(session, seq, entry) if !plan.entries.contains(&(*session, *seq)) => {
                    entry.message
                }
                StoreOp::PutRetained(id) | StoreOp::PutDelayed(id, _) if !plan.kept.contains(id) => *id,
                _ => continue,
            };
            plan.needed.insert(needed);
        }
        plan
    }

    fn writes(&self, body: MessageId) -> bool {
        !self.cancels || self.needed.contains(&body)
    }

    fn skips(&self, op: &StoreOp) -> bool {
        self.cancels
            && match op {
                StoreOp::PutMessage(id, _) => !self.needed.contains(id),
                StoreOp::PutQueued(session, seq, _)
                | StoreOp::DeleteQueued(session, seq)
                | StoreOp::MarkReceived(session, seq) => self.entries.contains(&(*session, *seq)),
                StoreOp::PutRetained(id) | StoreOp::PutDelayed(id, _) => self.kept.contains(id),
                _ => false,
            }
    }

    fn is_empty(&self, ops: &[StoreOp]) -> bool {
        ops.iter().all(|op| self.skips(op))
    }

    fn write(&self, ops: &[StoreOp], frame: &mut Frame<'_>) {
        let mut bodies: HashMap<MessageId, Position> = HashMap::new();
        let mut last = None;
        for op in ops.iter().filter(|op| !self.skips(op)) {
            let at = |id: &MessageId| match last {
                Some((last, at)) if last == *id => at,
                _ => bodies[id],
            };
            let record = match op {
                StoreOp::PutMessage(id, message) => {
                    let at = frame.body(&rows::write_message(message));
                    bodies.insert(*id, at);
                    last = Some((*id, at));
                    continue;
                }
                StoreOp::PutSession(id, record) => {
                    Record::Row(rows::key(rows::SESSION, id.0), rows::write_session(record))
                }
                StoreOp::DeleteSession(id) => Record::NoSession(id.0),
                StoreOp::PutSubscription(id, subscription) => Record::Row(
                    rows::subscription_key(*id, &subscription.stored_name()),
                    rows::write_subscription(subscription),
                ),
                StoreOp::DeleteSubscription(id, text) => Record::NoRow(rows::subscription_key(*id, text)),
                StoreOp::PutQueued(id, seq, entry) => {
                    Record::Queued(id.0, entry.lane, new_entry(*seq, at(&entry.message), entry))
                }
                StoreOp::MarkReceived(id, seq) => Record::Received(id.0, *seq),
                StoreOp::DeleteQueued(id, seq) => Record::Unqueued(id.0, *seq),
                StoreOp::DropOldest(..) => unreachable!("it was resolved"),
                StoreOp::PutReceived(id, packet) => Record::Row(rows::received_key(*id, *packet), Vec::new()),
                StoreOp::DeleteReceived(id, packet) => Record::NoRow(rows::received_key(*id, *packet)),
                StoreOp::PutRetained(id) => {
                    Record::RowAt(rows::key(rows::RETAINED, id.0), Vec::new(), at(id))
                }
                StoreOp::DeleteRetained(id) => Record::NoRow(rows::key(rows::RETAINED, id.0)),
                StoreOp::PutDelayed(id, due) => {
                    Record::RowAt(rows::key(rows::DELAYED, id.0), rows::write_number(due.0), at(id))
                }
                StoreOp::DeleteDelayed(id) => Record::NoRow(rows::key(rows::DELAYED, id.0)),
                StoreOp::ReserveSessions(id) => {
                    Record::Row(rows::key(rows::NUMBERS, 0), rows::write_number(id.0))
                }
            };
            frame.record(&record);
        }
    }
}

fn new_entry(seq: u64, at: Position, entry: &QueueEntry) -> Entry {
    let ids = entry.subscription_ids.as_deref();
    let extra = (ids.is_some() || entry.shared.is_some()).then(|| {
        Box::new(Extra {
            shared: entry.shared.clone(),
            identifiers: ids.map(|ids| ids.to_vec()).unwrap_or_default(),
        })
    });
    Entry {
        seq,
        at,
        size: entry.size,
        qos: entry.qos as u8,
        retain: entry.retain,
        received: false,
        extra,
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
