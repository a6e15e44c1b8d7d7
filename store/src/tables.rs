//! The tables: sled, brought up to date by checkpoints; and the export, a second copy of its rows in a file of our own.
//!
//! sled 0.34 opens some damaged files empty without a word and panics on others. So the rows are also appended to the export, each group
//! with a checksum: tables that do not open, or are behind what the export knows, are set aside and made anew from it. sled's flush is not a
//! sync either: it ends in `sync_file_range`, so an `fdatasync` of our own follows.

use crate::journal::Boundary;
use crate::lanes::{Entry, PageKey, Pages};
use crate::open::{self, failed};
use crate::rows::{self, Key, Reader, RowError, Writer};
use headgate_model::{SessionId, StoreError};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Rows that one batch of sled, and one group of the export, holds.
const GROUP: usize = 256;
/// A frame of the export begins with this, the length and the CRC-32.
const MAGIC: &[u8; 4] = b"HGx1";
/// What the export may hold that is of no use before it is written anew.
const SLACK: u64 = 8 << 20;
/// What sled's file may hold that is of no use before its rows are written to a new one.
const SHRINK: u64 = 32 << 20;

/// A row and its new body; `None` when it is gone.
pub(crate) type Change = (Key, Option<Vec<u8>>);

/// How far the tables are: what the journal says behind this place is not in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub number: u64,
    pub at: Boundary,
}

/// The tables, open.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    db: sled::Db,
    folder: PathBuf,
    /// Of all who write the same tables.
    sync: Arc<AtomicBool>,
    /// Bytes that the whole store may have; 0 for no limit.
    pub(crate) max_bytes: u64,
    /// About how many bytes the rows have.
    live: Arc<AtomicU64>,
    /// The rows are the export's, in memory: the disk had no room to open the tables.
    borrowed: bool,
}

/// What opening found.
pub(crate) struct Opened {
    pub tables: Tables,
    pub checkpoint: Checkpoint,
    /// The furthest place in the journal that a checkpoint of either copy names.
    pub upto: Boundary,
    /// The export has the same rows as the tables.
    pub even: bool,
    pub damage: Vec<String>,
}

impl Tables {
    /// Opens the tables in `folder`, or makes them anew from the export. Their names are durable then.
    pub(crate) fn open(folder: &Path, sync: bool, max_bytes: u64) -> Result<Opened, StoreError> {
        let opened = Self::open_or_make(folder, sync, max_bytes)?;
        let synced = opened
            .tables
            .open_export()
            .and_then(|_| File::open(folder.join("tables"))?.sync_all())
            .and_then(|()| File::open(folder)?.sync_all());
        synced.map_err(|e| failed("sync the store's folder", e))?;
        Ok(opened)
    }

    fn open_or_make(folder: &Path, sync: bool, max_bytes: u64) -> Result<Opened, StoreError> {
        let mut export = Export::read(folder, |_, _| {});
        let mut damage = std::mem::take(&mut export.damage);
        let path = folder.join("tables");
        put_back(folder).map_err(|e| failed("put the tables back", e))?;
        let there = path.exists();
        let opened = open::open(&path);
        let (db, cause) = match opened {
            Ok(db) => {
                let found = checkpoint_of(&db);
                match (found, export.checkpoint) {
                    (Some(found), expected) if found.number + 1 >= expected.map_or(0, |e| e.number) => {
                        let mut tables = Self::of(db, folder, sync, max_bytes);
                        tables.mend(&mut damage)?;
                        tables.shrink(found)?;
                        let short = expected.is_none_or(|e| e.number < found.number);
                        let rewrite = !damage.is_empty() || export.torn || short;
                        if rewrite {
                            tables
                                .rewrite_export(found)
                                .map_err(|e| failed("write the export", e))?;
                        }
                        return Ok(Opened {
                            tables,
                            checkpoint: found,
                            upto: expected.map_or(found.at, |expected| expected.at.max(found.at)),
                            even: rewrite || expected == Some(found) && !export.unfinished,
                            damage,
                        });
                    }
                    (None, None) if !there => (Some(db), None),
                    (None, None) => (Some(db), Some("they hold no checkpoint".to_owned())),
                    (found, _) => {
                        let found = found.map_or(0, |found| found.number);
                        (
                            Some(db),
                            Some(format!("they were behind the export, at checkpoint {found}")),
                        )
                    }
                }
            }
            Err(open::Trouble::Bad(cause)) => (None, Some(cause)),
            Err(trouble) => return Err(trouble.told(&path)),
        };
        let db = match (db, cause) {
            (Some(db), None) => db,
            (db, cause) => {
                drop(db);
                let cause = cause.unwrap_or_default();
                let aside = open::set_aside(&path, &cause)?;
                // Without a journal there was never a commit: the first start of all was cut off.
                let journal = std::fs::read_dir(folder.join("journal"));
                let is_new = journal.map_or(true, |mut segments| segments.next().is_none());
                if (is_new || export.checkpoint.is_some()) && damage.is_empty() {
                    // A power cut in the middle of a checkpoint may do that: nothing is lost.
                    match there {
                        true => {
                            tracing::warn!(%cause, "the tables could not be used; they are made anew from the export");
                        }
                        false => tracing::info!("the tables of a copied store are made from its export"),
                    }
                    std::fs::remove_dir_all(aside).map_err(|e| failed("remove the damaged tables", e))?;
                } else {
                    damage.push(format!(
                        "the tables were damaged ({cause}); they were set aside as {} and made anew from what could be read of the export",
                        aside.display()
                    ));
                }
                open::open(&path).map_err(|trouble| trouble.told(&path))?
            }
        };
        let tables = Self::of(db, folder, sync, max_bytes);
        let checkpoint = export.checkpoint.unwrap_or_default();
        let mut filled = Ok(());
        Export::read(folder, |key, body| {
            if filled.is_ok() {
                filled = tables.apply(&[(key, body)]);
            }
        });
        filled
            .and_then(|()| tables.finish(checkpoint))
            .and_then(|()| tables.rewrite_export(checkpoint))
            .map_err(|e| failed("make the tables anew", e))?;
        Ok(Opened {
            tables,
            checkpoint,
            upto: checkpoint.at,
            even: true,
            damage,
        })
    }

    /// Opens the tables again after they failed: sled 0.34 writes nothing any more then, also when a full disk has room again. Tables that were never open
    /// get the rows that were borrowed for them.
    pub(crate) fn reopen(&mut self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let path = self.folder.join("tables");
        if self.borrowed {
            let db = open::open(&path).map_err(|trouble| trouble.told(&path))?;
            let tables = Self::of(
                db,
                &self.folder,
                self.sync.load(Ordering::Relaxed),
                self.max_bytes,
            );
            self.give_to(&tables, checkpoint)
                .map_err(|e| failed("bring the tables up to date", e))?;
            *self = tables;
            return Ok(());
        }
        let unused = std::mem::replace(
            &mut self.db,
            temporary().map_err(|e| failed("close the tables", e))?,
        );
        drop(unused);
        self.db = open::open(&path).map_err(|trouble| trouble.told(&path))?;
        Ok(())
    }

    /// Makes all rows the same as these, durably.
    fn give_to(&self, tables: &Self, checkpoint: Checkpoint) -> io::Result<()> {
        for row in tables.rows() {
            let (key, _) = row?;
            if self.db.get(&key)?.is_none() {
                tables.apply(&[(key, None)])?;
            }
        }
        for row in self.rows() {
            let (key, body) = row?;
            if let Ok(body) = body {
                tables.apply(&[(key, Some(body))])?;
            }
        }
        tables
            .live
            .store(self.live.load(Ordering::Relaxed), Ordering::Relaxed);
        tables.finish(checkpoint)
    }

    /// Rows that cannot be read are taken from the export; what is not there either is taken out.
    fn mend(&self, damage: &mut Vec<String>) -> Result<(), StoreError> {
        let mut bad: BTreeMap<Key, (RowError, Option<Vec<u8>>)> = BTreeMap::new();
        let mut live = 0;
        for row in self.rows() {
            let (key, body) = row.map_err(|e| failed("read the tables", e))?;
            match body {
                Ok(body) => live += key.len() + body.len(),
                Err(error) => drop(bad.insert(key, (error, None))),
            }
        }
        self.live.store(live as u64, Ordering::Relaxed);
        if bad.is_empty() {
            return Ok(());
        }
        Export::read(&self.folder, |key, body| {
            if let Some((_, copy)) = bad.get_mut(&key) {
                *copy = body;
            }
        });
        let mut changes = Vec::new();
        for (key, (error, copy)) in bad {
            let fate = if copy.is_some() {
                "taken from the export"
            } else {
                "lost"
            };
            damage.push(format!("{}: {error}; {fate}", rows::name(&key)));
            changes.push((key, copy));
        }
        let mended = self.apply(&changes).and_then(|()| self.flush());
        mended.map_err(|e| failed("mend the tables", e))
    }

    fn of(db: sled::Db, folder: &Path, sync: bool, max_bytes: u64) -> Self {
        Self {
            db,
            folder: folder.to_owned(),
            sync: Arc::new(sync.into()),
            max_bytes,
            live: Arc::default(),
            borrowed: false,
        }
    }

    /// The rows of the export, in memory, where the disk has no room to open the tables: enough to read, until [`Tables::reopen`]. `None` when the export is
    /// not whole.
    pub(crate) fn borrow_export(folder: &Path, sync: bool, max_bytes: u64) -> Option<Opened> {
        let mut tables = Self::of(temporary().ok()?, folder, sync, max_bytes);
        tables.borrowed = true;
        let mut filled = Ok(());
        let export = Export::read(folder, |key, body| {
            if filled.is_ok() {
                filled = tables.apply(&[(key, body)]);
            }
        });
        filled.ok()?;
        let checkpoint = export.checkpoint.filter(|_| export.damage.is_empty())?;
        Some(Opened {
            tables,
            checkpoint,
            upto: checkpoint.at,
            even: false,
            damage: Vec::new(),
        })
    }

    /// sled never gives space back. When its file is much larger than its rows, they are written to a new one.
    fn shrink(&mut self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let size = self.db.size_on_disk().map_err(|e| failed("read the tables", e))?;
        if size < self.at_most(SHRINK, 4) + 4 * self.live.load(Ordering::Relaxed) {
            return Ok(());
        }
        let path = |name: &str| self.folder.join(name);
        let _ = std::fs::remove_dir_all(path("tables.new")); // Left by a start that was cut off.
        let new = open::open(&path("tables.new")).map_err(|trouble| trouble.told(&self.folder))?;
        let copied = self.copy_to(&new, checkpoint);
        drop(new);
        copied.map_err(|e| failed("write smaller tables", e))?;
        let unused = std::mem::replace(
            &mut self.db,
            temporary().map_err(|e| failed("close the tables", e))?,
        );
        drop(unused);
        let swapped = std::fs::rename(path("tables"), path("tables.old"))
            .and_then(|()| std::fs::rename(path("tables.new"), path("tables")))
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .and_then(|()| std::fs::remove_dir_all(path("tables.old")));
        swapped.map_err(|e| failed("put smaller tables in place", e))?;
        self.db = open::open(&path("tables")).map_err(|trouble| trouble.told(&self.folder))?;
        Ok(())
    }

    fn copy_to(&self, new: &sled::Db, checkpoint: Checkpoint) -> io::Result<()> {
        let target = Self::of(new.clone(), &self.folder, false, self.max_bytes);
        for row in self.rows() {
            let (key, body) = row?;
            target.apply(&[(key, body.ok())])?;
        }
        target.finish(checkpoint)?;
        File::open(self.folder.join("tables.new/db"))?.sync_all()?;
        File::open(self.folder.join("tables.new"))?.sync_all()
    }

    /// Writes rows; they are durable after [`Tables::finish`].
    pub(crate) fn apply(&self, changes: &[Change]) -> io::Result<()> {
        for group in changes.chunks(GROUP) {
            let mut batch = sled::Batch::default();
            for (key, body) in group {
                let old = self.db.get(key)?;
                let old_bytes = old.as_ref().map_or(0, |value| key.len() + value.len());
                let old_parts = old.map_or(0, |value| rows::further_parts(key, &value));
                let new_bytes = body
                    .as_ref()
                    .map_or(0, |body| key.len() + body.len().min(rows::ROW));
                let more = new_bytes as i64 - old_bytes as i64;
                let live = self.live.load(Ordering::Relaxed);
                self.live
                    .store(live.saturating_add_signed(more), Ordering::Relaxed);
                let new = body.as_ref().map_or_else(Vec::new, |body| rows::cut(key, body));
                let kept = u32::try_from(new.len().saturating_sub(1)).expect("cut counts in u32");
                if new.is_empty() {
                    batch.remove(&key[..]);
                }
                for n in kept + 1..=old_parts {
                    batch.remove(rows::part_key(key, n));
                }
                for (key, value) in new {
                    batch.insert(key, value);
                }
            }
            self.db.apply_batch(batch)?;
        }
        Ok(())
    }

    /// All rows of a session.
    pub(crate) fn rows_of(&self, session: u64) -> io::Result<Vec<Key>> {
        let mut keys = vec![rows::key(rows::SESSION, session)];
        for table in [rows::NOTE, rows::SUBSCRIPTION, rows::QUEUED, rows::RECEIVED] {
            for key in self.db.scan_prefix(rows::key(table, session)).keys() {
                keys.push(key?.to_vec());
            }
        }
        Ok(keys)
    }

    /// Makes everything applied durable, then says that the checkpoint is there.
    pub(crate) fn finish(&self, checkpoint: Checkpoint) -> io::Result<()> {
        self.flush()?;
        self.apply(&[(rows::CHECKPOINT_KEY.to_vec(), Some(write_checkpoint(checkpoint)))])?;
        self.flush()
    }

    /// Whether what is written from now on survives a power cut.
    pub(crate) fn set_sync(&self, sync: bool) {
        self.sync.store(sync, Ordering::Relaxed);
    }

    /// Makes all of it durable that was written without that.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.flush()?;
        self.open_export()?.sync_all()
    }

    fn flush(&self) -> io::Result<()> {
        self.db.flush()?;
        if self.sync.load(Ordering::Relaxed) {
            File::open(self.folder.join("tables/db"))?.sync_data()?;
        }
        Ok(())
    }

    /// Appends the same rows to the export.
    pub(crate) fn export(&self, changes: &[Change]) -> io::Result<()> {
        append_export(&mut self.open_export()?, changes, None)
    }

    /// The checkpoint whose rows were exported is finished there.
    pub(crate) fn finish_export(&self, checkpoint: Checkpoint) -> io::Result<()> {
        let mut file = self.open_export()?;
        // The drive must not have the end without what comes before it.
        if self.sync.load(Ordering::Relaxed) {
            file.sync_all()?;
        }
        append_export(&mut file, &[], Some(checkpoint))?;
        if self.sync.load(Ordering::Relaxed) {
            file.sync_all()?;
        }
        Ok(())
    }

    /// So many bytes, or the part of a quota.
    fn at_most(&self, bytes: u64, part: u64) -> u64 {
        match self.max_bytes {
            0 => bytes,
            max => bytes.min(max / part),
        }
    }

    /// Writes the export anew when much of it is of no use any more.
    pub(crate) fn tidy_export(&self, checkpoint: Checkpoint) -> io::Result<()> {
        let len = self.open_export()?.metadata()?.len();
        if len > self.at_most(SLACK, 16) + 2 * self.live.load(Ordering::Relaxed) {
            self.rewrite_export(checkpoint)?;
        }
        Ok(())
    }

    fn open_export(&self) -> io::Result<File> {
        let path = self.folder.join("export");
        OpenOptions::new().append(true).create(true).open(path)
    }

    fn rewrite_export(&self, checkpoint: Checkpoint) -> io::Result<()> {
        let new = self.folder.join("export.new");
        let mut file = File::create(&new)?;
        let mut group = Vec::new();
        for row in self.rows() {
            let (key, body) = row?;
            if let Ok(body) = body {
                group.push((key, Some(body)));
            }
            if group.len() == GROUP {
                append_export(&mut file, &group, None)?;
                group.clear();
            }
        }
        append_export(&mut file, &group, Some(checkpoint))?;
        file.sync_all()?;
        std::fs::rename(new, self.folder.join("export"))?;
        File::open(&self.folder)?.sync_all()
    }

    /// Every row with its body, in the order of keys; a row that cannot be read with the reason.
    pub(crate) fn rows(&self) -> impl Iterator<Item = io::Result<(Key, Result<Vec<u8>, RowError>)>> + '_ {
        self.rows_in(&[])
    }

    /// The rows whose keys begin so.
    pub(crate) fn rows_in(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = io::Result<(Key, Result<Vec<u8>, RowError>)>> + '_ {
        self.db.scan_prefix(prefix).filter_map(|row| match row {
            Ok((key, _)) if matches!(key.first(), Some(&rows::PART)) || key.starts_with(b"x") => None,
            Ok((key, value)) => Some(Ok((key.to_vec(), self.join(&key, &value)))),
            Err(error) => Some(Err(error.into())),
        })
    }

    fn join(&self, key: &[u8], value: &[u8]) -> Result<Vec<u8>, RowError> {
        rows::join(key, value, |part| self.db.get(part).ok()?.map(|row| row.to_vec()))
    }

    /// The body of a row.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Result<Vec<u8>, RowError>> {
        let value = self.db.get(key).ok()??;
        Some(self.join(key, &value))
    }

    /// Whether there is such a row, or that is not known.
    pub(crate) fn may_hold(&self, key: &[u8]) -> bool {
        self.db.contains_key(key).unwrap_or(true)
    }

    /// Bytes of sled's files and of the export.
    pub(crate) fn bytes(&self) -> u64 {
        let export = std::fs::metadata(self.folder.join("export")).map_or(0, |data| data.len());
        self.db.size_on_disk().unwrap_or(0) + export
    }
}

impl Pages for Tables {
    fn entries(&mut self, key: PageKey) -> Option<Vec<Entry>> {
        let body = self.get(&page_key(key))?.ok()?;
        read_page(&body).ok()
    }
}

/// The key of a page's row.
pub(crate) fn page_key(key: PageKey) -> Key {
    let rest = [&[key.lane][..], &key.first.to_be_bytes()].concat();
    rows::session_key(rows::QUEUED, SessionId(key.session), &rest)
}

/// A page's row.
pub(crate) fn write_page(entries: &[Entry]) -> Vec<u8> {
    let mut w = Writer::default();
    let mut last = 0;
    for entry in entries {
        w.varint(entry.seq.wrapping_sub(last))
            .position(entry.at)
            .entry(entry);
        last = entry.seq;
    }
    w.0
}

/// Reads a page's row. Its entries are in order.
pub(crate) fn read_page(body: &[u8]) -> Result<Vec<Entry>, RowError> {
    let mut r = Reader(body);
    let mut entries: Vec<Entry> = Vec::new();
    while !r.0.is_empty() {
        let last = entries.last().map(|entry| entry.seq);
        let seq = last
            .unwrap_or(0)
            .checked_add(r.varint()?)
            .ok_or(RowError::Field("number"))?;
        if last.is_some_and(|last| seq <= last) || seq == u64::MAX {
            return Err(RowError::Field("order"));
        }
        let at = r.position()?;
        entries.push(r.entry(seq, at)?);
    }
    Ok(entries)
}

fn write_checkpoint(checkpoint: Checkpoint) -> Vec<u8> {
    let mut w = Writer::default();
    w.number(checkpoint.number)
        .number(checkpoint.at.segment.into())
        .number(checkpoint.at.offset.into());
    w.0
}

fn read_checkpoint(body: &[u8]) -> Result<Checkpoint, RowError> {
    let mut r = Reader(body);
    let number = r.number()?;
    let mut small = || u32::try_from(r.number()?).map_err(|_| RowError::Field("place"));
    Ok(Checkpoint {
        number,
        at: Boundary {
            segment: small()?,
            offset: small()?,
        },
    })
}

fn checkpoint_of(db: &sled::Db) -> Option<Checkpoint> {
    let value = db.get(rows::CHECKPOINT_KEY).ok()??;
    let body = rows::join(rows::CHECKPOINT_KEY, &value, |_| None).ok()?;
    read_checkpoint(&body).ok()
}

/// A database that is nowhere: it takes the place of one that is to be closed.
fn temporary() -> sled::Result<sled::Db> {
    sled::Config::new().temporary(true).cache_capacity(1 << 20).open()
}

/// A start that was cut off while it put smaller tables in place.
fn put_back(folder: &Path) -> io::Result<()> {
    let (tables, old) = (folder.join("tables"), folder.join("tables.old"));
    match (tables.exists(), old.exists()) {
        (false, true) => std::fs::rename(old, tables),
        (true, true) => std::fs::remove_dir_all(old),
        _ => Ok(()),
    }
}

/// What reading the export met.
#[derive(Debug, Default)]
struct Export {
    /// Something behind the last finished checkpoint is not whole: it was cut off while it was written.
    torn: bool,
    /// There are rows behind the last finished checkpoint.
    unfinished: bool,
    /// What could not be read since the last finished checkpoint. If another one follows, it is damage.
    doubts: Vec<String>,
    checkpoint: Option<Checkpoint>,
    damage: Vec<String>,
}

impl Export {
    /// Reads what can be read, and hands on each row in the order in which they were written. A torn end is none: the checkpoint it belonged to
    /// was not finished.
    fn read(folder: &Path, mut row: impl FnMut(Key, Option<Vec<u8>>)) -> Self {
        let mut export = Self::default();
        let file = match File::open(folder.join("export")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return export,
            Err(error) => {
                export.damage.push(format!("the export cannot be read: {error}"));
                return export;
            }
        };
        let mut file = io::BufReader::new(file);
        let (mut bytes, mut begin) = (Vec::new(), 0_u64);
        loop {
            // A group at a time; only behind a bad one all the rest.
            match next_group(&mut file, &mut bytes) {
                Ok(true) => {}
                Ok(false) => {
                    export.torn |= !export.doubts.is_empty();
                    return export;
                }
                Err(error) => {
                    export.damage.push(format!("the export cannot be read: {error}"));
                    return export;
                }
            }
            let mut at = 0;
            while at < bytes.len() {
                if let Some(end) = export.group(&bytes, at, &mut row) {
                    at = end;
                    continue;
                }
                if let Err(error) = file.read_to_end(&mut bytes) {
                    export.damage.push(format!("the export cannot be read: {error}"));
                }
                let next = memchr::memmem::find_iter(&bytes[at + 1..], MAGIC).map(|n| at + 1 + n);
                let next = { next }.find(|n| whole(&bytes, *n).is_some());
                let Some(next) = next else {
                    export.torn = true;
                    return export;
                };
                let words = format!(
                    "the export: {} bytes from {} on cannot be read",
                    next - at,
                    begin + at as u64
                );
                export.doubts.push(words);
                at = next;
            }
            begin += bytes.len() as u64;
        }
    }

    fn group(
        &mut self,
        bytes: &[u8],
        at: usize,
        row: &mut impl FnMut(Key, Option<Vec<u8>>),
    ) -> Option<usize> {
        let (body, end) = whole(bytes, at)?;
        let mut r = Reader(body);
        let checkpoint = r.maybe(Reader::vec).ok()?;
        while !r.0.is_empty() {
            let key = r.vec().ok()?;
            row(key, r.maybe(Reader::vec).ok()?);
            self.unfinished = true;
        }
        if let Some(checkpoint) = checkpoint {
            self.checkpoint = read_checkpoint(&checkpoint).ok();
            self.damage.append(&mut self.doubts);
            self.unfinished = false;
        }
        Some(end)
    }
}

/// The bytes of the next group, whole or not. Whether there were any.
fn next_group(file: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    bytes.clear();
    file.by_ref().take(12).read_to_end(bytes)?;
    if let Some(len) = bytes.get(4..8) {
        let len = u32::from_be_bytes(len.try_into().expect("four bytes"));
        file.by_ref().take(len.into()).read_to_end(bytes)?;
    }
    Ok(!bytes.is_empty())
}

fn whole(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let head = bytes.get(at..at.checked_add(12)?)?;
    let number =
        |range: std::ops::Range<usize>| u32::from_be_bytes(head[range].try_into().expect("four bytes"));
    let end = (at + 12).checked_add(number(4..8) as usize)?;
    let body = bytes.get(at + 12..end)?;
    (&head[..4] == MAGIC && crc32fast::hash(body) == number(8..12)).then_some((body, end))
}

/// Writes rows in groups, and behind the last that the checkpoint is finished.
fn append_export(file: &mut File, changes: &[Change], checkpoint: Option<Checkpoint>) -> io::Result<()> {
    for group in changes.chunks(GROUP) {
        file.write_all(&export_group(group, None))?;
    }
    match checkpoint {
        Some(checkpoint) => file.write_all(&export_group(&[], Some(checkpoint))),
        None => Ok(()),
    }
}

fn export_group(changes: &[Change], checkpoint: Option<Checkpoint>) -> Vec<u8> {
    let mut w = Writer(vec![0; 12]);
    w.maybe(checkpoint, |w, checkpoint| w.bytes(&write_checkpoint(checkpoint)));
    for (key, body) in changes {
        w.bytes(key).maybe(body.as_ref(), |w, body| w.bytes(body));
    }
    let mut group = w.0;
    let len = u32::try_from(group.len() - 12).expect("a group is small");
    let sum = crc32fast::hash(&group[12..]);
    group[..4].copy_from_slice(MAGIC);
    group[4..8].copy_from_slice(&len.to_be_bytes());
    group[8..12].copy_from_slice(&sum.to_be_bytes());
    group
}
