//! Moves what little still needs a segment of the journal out of it, so that the segment can go.

use crate::disk::DiskStore;
use crate::journal::Position;
use crate::lanes::{Entry, PageKey};
use crate::records::Record;
use headgate_model::{Store, StoreError};
use std::collections::HashMap;

/// A segment that holds less than this part of its bytes may be emptied.
const SPARSE: f64 = 0.4;
/// Pages of queues looked at in one step.
const PAGES: usize = 8;
/// Bytes of bodies moved in one step.
const BYTES: usize = 1 << 20;

/// The segment that is being emptied.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    segment: Option<u32>,
    pages: Vec<PageKey>,
    /// Bodies that were moved already, for the other entries that need them.
    moved: HashMap<u32, Position>,
}

/// One step. Whether there is more to do at once.
pub(crate) fn step(store: &mut DiskStore) -> Result<bool, StoreError> {
    if store.compaction().segment.is_none() {
        let Some(segment) = sparsest(store) else {
            return Ok(false);
        };
        let pages = store.queues.pages_in(segment);
        *store.compaction() = Compaction {
            segment: Some(segment),
            pages,
            moved: HashMap::new(),
        };
    }
    let mut work = std::mem::take(store.compaction());
    let segment = work.segment.expect("it was just set");
    let mut entries: Vec<(PageKey, Entry)> = Vec::new();
    let mut bytes = 0;
    for _ in 0..PAGES {
        let Some(key) = work.pages.pop() else { break };
        let page = store.queues.entries(key, &mut store.tables);
        let here = page.into_iter().filter(|entry| entry.at.segment == segment);
        entries.extend(here.map(|entry| (key, entry)));
        bytes = entries.iter().map(|(_, entry)| entry.at.len as usize).sum();
        if bytes >= BYTES {
            break;
        }
    }
    let mut bodies: HashMap<u32, Vec<u8>> = HashMap::with_capacity(if bytes > 0 { entries.len() } else { 0 });
    for (_, entry) in &entries {
        if !work.moved.contains_key(&entry.at.offset)
            && !bodies.contains_key(&entry.at.offset)
            && let Ok(body) = store.journal.read(entry.at)
        {
            bodies.insert(entry.at.offset, body);
        }
    }
    if !entries.is_empty() {
        let moved = std::cell::RefCell::new(HashMap::new());
        store.append(|frame| {
            let mut moved = moved.borrow_mut();
            moved.clone_from(&work.moved);
            for (key, entry) in &entries {
                let at = match (moved.get(&entry.at.offset), bodies.get(&entry.at.offset)) {
                    (Some(at), _) => *at,
                    (None, Some(body)) => frame.body(body),
                    (None, None) => {
                        tracing::error!(number = entry.seq, "a queued message cannot be read and is lost");
                        frame.record(&Record::Unqueued(key.session, entry.seq));
                        continue;
                    }
                };
                moved.insert(entry.at.offset, at);
                let entry = Entry { at, ..entry.clone() };
                frame.record(&Record::Queued(key.session, key.lane, entry));
            }
        })?;
        work.moved = moved.into_inner();
    }
    if work.pages.is_empty() {
        return Ok(true); // Perhaps another one.
    }
    *store.compaction() = work;
    Ok(true)
}

/// The segment that is most worth emptying, if all of them are much larger than what they hold or room is short.
fn sparsest(store: &mut DiskStore) -> Option<u32> {
    let passed = store.checkpoint.at.segment;
    let total = store.journal.bytes();
    let live: u64 = store
        .queues
        .references
        .values()
        .map(|references| references.bytes)
        .sum();
    if total <= 2 * live + 4 * store.segment_bytes() && store.has_room() {
        return None;
    }
    let filled = |number: u32, len: u64| {
        let bytes = store
            .queues
            .references
            .get(&number)
            .map_or(0, |references| references.bytes);
        bytes as f64 / len.max(1) as f64
    };
    let sealed = store.journal.segments().range(..passed);
    let needed = sealed.filter(|(number, _)| store.queues.references.contains_key(number));
    needed
        .map(|(number, len)| (*number, filled(*number, *len)))
        .filter(|(_, filled)| *filled < SPARSE)
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(number, _)| number)
}
