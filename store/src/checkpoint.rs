//! Brings the tables up to date, on a thread of its own, while commits go on.
//!
//! What differs from the tables is taken as it is at one place of the journal; meanwhile what changes again is noted again. Rows are
//! written in groups, to the export and to sled; when both are durable, the checkpoint is.

use crate::disk::DiskStore;
use crate::journal::Position;
use crate::lanes::PageKey;
use crate::open::failed;
use crate::rows::{Key, belongs_to_session, numbers};
use crate::tables::{Change, Checkpoint, page_key, write_page};
use headgate_model::StoreError;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Rows written at once.
const GROUP: usize = 256;

/// A row that differs from the tables.
#[derive(Clone, Debug)]
pub(crate) enum Row {
    /// It is gone.
    Gone,
    /// Its body.
    Bytes(Vec<u8>),
    /// Its body: these bytes, then what the journal has there.
    At(Vec<u8>, Position),
}

/// A checkpoint that is being written.
#[derive(Debug)]
pub(crate) struct Flushing {
    pub checkpoint: Checkpoint,
    thread: JoinHandle<io::Result<u64>>,
    rows: Arc<BTreeMap<Key, Row>>,
    dropped: Vec<u64>,
    /// Pages with the version that is written; `None` for those that are gone.
    pages: Vec<(PageKey, Option<u32>)>,
    given_up: Arc<AtomicBool>,
}

impl Flushing {
    /// The rows that it writes.
    pub(crate) fn rows(&self) -> Arc<BTreeMap<Key, Row>> {
        Arc::clone(&self.rows)
    }

    /// Rows and pages that it writes.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() + self.pages.len()
    }

    /// It is not to be finished; see [`end`] for what comes of it.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Begins to write what differs.
pub(crate) fn begin(store: &mut DiskStore, checkpoint: Checkpoint) -> Result<Flushing, StoreError> {
    let rows = Arc::new(store.rows.take());
    let dropped = std::mem::take(&mut store.dropped);
    let mut pages = Vec::new();
    let mut page_rows: Vec<Change> = Vec::new();
    for key in store.queues.dirty.iter().copied().collect::<Vec<_>>() {
        let page = store.queues.snapshot(key);
        page_rows.push((page_key(key), page.map(|(entries, _)| write_page(entries))));
        pages.push((key, page.map(|(_, version)| version)));
    }
    for (key, _) in pages.iter().filter(|(_, version)| version.is_none()) {
        store.queues.dirty.remove(key);
    }

    let given_up = Arc::<AtomicBool>::default();
    let work = Work {
        given_up: Arc::clone(&given_up),
        tables: store.tables.clone(),
        bodies: store.journal.reader(),
        rows: Arc::clone(&rows),
        dropped: dropped.clone(),
        page_rows,
        checkpoint,
    };
    let thread = std::thread::Builder::new()
        .name("store-checkpoint".into())
        .spawn(move || work.run())
        .map_err(|e| failed("begin a checkpoint", e))?;
    Ok(Flushing {
        checkpoint,
        thread,
        rows,
        dropped,
        pages,
        given_up,
    })
}

/// Takes a checkpoint over that is done, waiting for it if it is not. Bytes that it wrote.
pub(crate) fn end(store: &mut DiskStore, flushing: Flushing) -> Result<u64, StoreError> {
    let result = flushing.thread.join();
    let result = result.unwrap_or_else(|panic| Err(io::Error::other(crate::open::words(&*panic))));
    match result.map_err(|error| failed("write a checkpoint", error)) {
        Ok(written) => {
            for (key, version) in flushing.pages {
                if let Some(version) = version {
                    store.queues.stored(key, version);
                }
            }
            Ok(written)
        }
        Err(error) => {
            // It differs as before, where nothing newer does and its session did not end.
            // The thread that had them too has ended.
            for (key, row) in Arc::unwrap_or_clone(flushing.rows) {
                let ended = belongs_to_session(&key)
                    && !numbers(&key).is_ok_and(|(session, _)| store.queues.contains(session));
                if !ended {
                    store.rows.put_back(key, row);
                }
            }
            store.dropped.extend(flushing.dropped);
            store
                .queues
                .dirty
                .extend(flushing.pages.into_iter().map(|(key, _)| key));
            Err(error)
        }
    }
}

struct Work {
    tables: crate::tables::Tables,
    bodies: crate::journal::Reader,
    rows: Arc<BTreeMap<Key, Row>>,
    dropped: Vec<u64>,
    page_rows: Vec<Change>,
    checkpoint: Checkpoint,
    given_up: Arc<AtomicBool>,
}

impl Work {
    /// First the export, until it is durable; then sled, which may be beyond reading if the power is cut while it writes.
    fn run(mut self) -> io::Result<u64> {
        let tables = self.tables.clone();
        let mut written = 0;
        self.each_group(|group| {
            let bytes = |(key, body): &Change| key.len() + body.as_ref().map_or(0, Vec::len);
            written += 2 * group.iter().map(bytes).sum::<usize>() as u64;
            tables.export(group)
        })?;
        tables.finish_export(self.checkpoint)?;
        self.each_group(|group| tables.apply(group))?;
        tables.finish(self.checkpoint)?;
        tables.tidy_export(self.checkpoint)?;
        // About: what sled adds of its own is not known here.
        Ok(written)
    }

    fn each_group(&mut self, mut write: impl FnMut(&[Change]) -> io::Result<()>) -> io::Result<()> {
        let given_up = Arc::clone(&self.given_up);
        let mut write = |group: &[Change]| match given_up.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the gateway stops")),
            false => write(group),
        };
        for session in &self.dropped {
            let keys = self.tables.rows_of(*session)?;
            let changes: Vec<Change> = keys.into_iter().map(|key| (key, None)).collect();
            write(&changes)?;
        }
        let mut group = Vec::with_capacity(GROUP);
        for (key, row) in self.rows.iter() {
            let body = match row {
                Row::Gone => None,
                Row::Bytes(body) => Some(body.clone()),
                Row::At(beginning, at) => match self.bodies.read(*at) {
                    Ok(body) => Some([&beginning[..], &body].concat()),
                    Err(error) => {
                        tracing::error!(row = %crate::rows::name(key), %error, "a message cannot be read and is lost");
                        None
                    }
                },
            };
            group.push((key.clone(), body));
            if group.len() == GROUP {
                write(&group)?;
                group.clear();
            }
        }
        write(&group)?;
        self.page_rows.chunks(GROUP).try_for_each(write)
    }
}
