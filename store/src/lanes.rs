//! Queues: for each session and lane the entries in order, in pages.
//!
//! Of a page its description is always in memory; its entries are while they are new, and when they are needed. Always true: pages of a lane
//! are in the order of their keys; an entry is in the last page whose key is not above its number; a page that is not in memory is in the
//! tables as it is.

use crate::journal::Position;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Entries of a page. Encoded it shall fit into one row.
pub(crate) const PAGE: usize = 128;

/// One queue entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub seq: u64,
    /// Where its body is.
    pub at: Position,
    pub size: u32,
    pub qos: u8,
    pub retain: bool,
    /// PUBREC came: it does not wait any more.
    pub received: bool,
    pub extra: Option<Box<Extra>>,
}

/// What few entries have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extra {
    pub shared: Option<Arc<str>>,
    pub identifiers: Vec<u32>,
}

/// Names a page: session, lane, and the number of the entry that it began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PageKey {
    pub session: u64,
    pub lane: u8,
    pub first: u64,
}

/// Looks up the entries of a page that is in the tables; `None` when they cannot be read.
pub(crate) trait Pages {
    fn entries(&mut self, key: PageKey) -> Option<Vec<Entry>>;
}

#[derive(Debug)]
pub(crate) struct Page {
    key: u64,
    last: u64,
    count: u32,
    /// Entries that wait, and their sizes.
    waiting: u32,
    bytes: u64,
    /// Entries by the segment of their body, and the bytes of those bodies.
    segments: Vec<(u32, References)>,
    entries: Option<Vec<Entry>>,
    /// Counts the changes.
    version: u32,
    /// It is in the tables, perhaps as it was.
    stored: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Lane {
    pages: VecDeque<Page>,
    pub waiting: u64,
    pub bytes: u64,
}

/// The queue of one session.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub next_seq: u64,
    lanes: BTreeMap<u8, Lane>,
    /// Entries that were received and not released.
    pub held: BTreeMap<u64, u8>,
}

/// Entries that need a segment, and bytes of their bodies; a body that several need counts for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub count: u64,
    pub bytes: u64,
}

/// All queues.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    by_session: HashMap<u64, Queue>,
    /// Pages that differ from the tables.
    pub dirty: BTreeSet<PageKey>,
    /// Pages that were unchanged when they were read, or have been since.
    clean: VecDeque<PageKey>,
    /// Pages that could not be read: their entries are lost.
    pub unreadable: Vec<PageKey>,
    /// Entries whose body is in the segment.
    pub references: BTreeMap<u32, References>,
    pub entries_in_memory: usize,
    pub count: u64,
    /// The export may hold pages that the tables do not: each that goes is to be written as gone.
    pub note_gone: bool,
}

/// Clean pages that stay in memory.
const CLEAN: usize = 64;

impl Queues {
    pub(crate) fn contains(&self, session: u64) -> bool {
        self.by_session.contains_key(&session)
    }

    pub(crate) fn add_session(&mut self, session: u64) {
        self.by_session.entry(session).or_default();
    }

    pub(crate) fn get(&self, session: u64) -> Option<&Queue> {
        self.by_session.get(&session)
    }

    /// A page of the tables, as it was read when the store was opened.
    pub(crate) fn load(&mut self, key: PageKey, entries: Vec<Entry>) {
        let page = Page::new(key.first, entries, true);
        let queue = self.by_session.entry(key.session).or_default();
        for entry in page.entries.iter().flatten().filter(|entry| entry.received) {
            queue.held.insert(entry.seq, key.lane);
        }
        queue.next_seq = queue.next_seq.max(page.last + 1);
        for (segment, n) in &page.segments {
            self.references.entry(*segment).or_default().add(*n);
        }
        self.count += u64::from(page.count);
        let lane = queue.lanes.entry(key.lane).or_default();
        lane.waiting += u64::from(page.waiting);
        lane.bytes += page.bytes;
        // In the order of their keys, as the tables have them.
        lane.pages.push_back(Page {
            entries: None,
            ..page
        });
    }

    /// Puts an entry, also one that is there already.
    pub(crate) fn put(&mut self, session: u64, lane_number: u8, entry: Entry, pages: &mut dyn Pages) {
        let Some(queue) = self.by_session.get_mut(&session) else {
            return;
        };
        queue.next_seq = queue.next_seq.max(entry.seq + 1);
        if entry.received {
            queue.held.insert(entry.seq, lane_number);
        } else {
            queue.held.remove(&entry.seq);
        }
        let lane = queue.lanes.entry(lane_number).or_default();
        let at = lane.pages.partition_point(|page| page.key <= entry.seq);
        let fresh = match at.checked_sub(1).and_then(|at| lane.pages.get(at)) {
            None => true,
            Some(page) => entry.seq > page.last && page.count as usize >= PAGE,
        };
        let at = if fresh {
            lane.pages.insert(at, Page::new(entry.seq, Vec::new(), false));
            at
        } else {
            at - 1
        };
        let key = PageKey {
            session,
            lane: lane_number,
            first: lane.pages[at].key,
        };
        self.open(key, at, pages);
        let lane = self.lane_mut(key);
        let page = &mut lane.pages[at];
        let entries = page.entries.as_mut().expect("it was opened");
        let (at_body, size, waits) = (entry.at, u64::from(entry.size), !entry.received);
        page.last = page.last.max(entry.seq);
        let place = entries.partition_point(|other| other.seq < entry.seq);
        let old = if entries.get(place).is_some_and(|other| other.seq == entry.seq) {
            Some(std::mem::replace(&mut entries[place], entry))
        } else {
            entries.insert(place, entry);
            None
        };
        page.version += 1;
        page.note(at_body);
        page.count += 1;
        page.waiting += u32::from(waits);
        page.bytes += if waits { size } else { 0 };
        lane.waiting += u64::from(waits);
        lane.bytes += if waits { size } else { 0 };
        self.count += 1;
        self.entries_in_memory += 1;
        self.dirty.insert(key);
        self.references
            .entry(at_body.segment)
            .or_default()
            .add(References::of(at_body));
        if let Some(old) = old {
            self.account_removed(key, at, &old);
        }
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, session: u64, seq: u64, pages: &mut dyn Pages) {
        let Some((key, at, place)) = self.find(session, seq, pages) else {
            return;
        };
        let page = &mut self.lane_mut(key).pages[at];
        let old = page.entries.as_mut().expect("it was opened").remove(place);
        page.version += 1;
        if old.received {
            self.queue_mut(session).held.remove(&seq);
        }
        self.dirty.insert(key);
        self.account_removed(key, at, &old);
        self.close_if_empty(key, at);
    }

    /// PUBREC came for an entry.
    pub(crate) fn mark_received(&mut self, session: u64, seq: u64, pages: &mut dyn Pages) {
        let Some((key, at, place)) = self.find(session, seq, pages) else {
            return;
        };
        let lane = self.lane_mut(key);
        let page = &mut lane.pages[at];
        let entry = &mut page.entries.as_mut().expect("it was opened")[place];
        if std::mem::replace(&mut entry.received, true) {
            return;
        }
        let size = u64::from(entry.size);
        page.version += 1;
        page.waiting -= 1;
        page.bytes -= size;
        lane.waiting -= 1;
        lane.bytes -= size;
        self.dirty.insert(key);
        self.queue_mut(session).held.insert(seq, key.lane);
    }

    /// Waiting entries of a lane from a number on, no more than so many, ending with the one that reaches `bytes`. Whether there are more.
    pub(crate) fn waiting(
        &mut self,
        session: u64,
        lane: u8,
        from: u64,
        count: usize,
        bytes: usize,
        pages: &mut dyn Pages,
    ) -> (Vec<Entry>, bool) {
        let mut found = Vec::new();
        let mut sum = 0;
        let Some(pages_of_lane) = self.lane(session, lane).map(|lane| &lane.pages) else {
            return (found, false);
        };
        let mut at = pages_of_lane.partition_point(|page| page.last < from);
        loop {
            let Some(page) = self.lane(session, lane).and_then(|lane| lane.pages.get(at)) else {
                return (found, false);
            };
            let key = PageKey {
                session,
                lane,
                first: page.key,
            };
            if page.waiting > 0 {
                self.open(key, at, pages);
                let entries = self.lane_mut(key).pages[at].entries.as_ref();
                for entry in entries.into_iter().flatten() {
                    if entry.received || entry.seq < from {
                        continue;
                    }
                    if found.len() >= count || sum >= bytes {
                        return (found, true);
                    }
                    sum += entry.size as usize;
                    found.push(entry.clone());
                }
            }
            at += 1;
        }
    }

    /// One entry.
    pub(crate) fn entry(&mut self, session: u64, seq: u64, pages: &mut dyn Pages) -> Option<Entry> {
        self.entry_in(session, seq, pages).map(|(entry, _)| entry)
    }

    /// The same, and its lane.
    pub(crate) fn entry_in(&mut self, session: u64, seq: u64, pages: &mut dyn Pages) -> Option<(Entry, u8)> {
        let (key, at, place) = self.find(session, seq, pages)?;
        let entry = self.lane_mut(key).pages[at].entries.as_ref()?[place].clone();
        Some((entry, key.lane))
    }

    /// The session is gone, with all its entries.
    pub(crate) fn remove_session(&mut self, session: u64) {
        let Some(queue) = self.by_session.remove(&session) else {
            return;
        };
        for page in queue.lanes.values().flat_map(|lane| &lane.pages) {
            for (segment, n) in &page.segments {
                release(&mut self.references, *segment, *n);
            }
            self.count -= u64::from(page.count);
            self.entries_in_memory -= page.entries.as_ref().map_or(0, Vec::len);
        }
        let pages = |first, lane| PageKey { session, lane, first };
        let own: Vec<PageKey> = self
            .dirty
            .range(pages(0, 0)..=pages(u64::MAX, u8::MAX))
            .copied()
            .collect();
        for key in own {
            self.dirty.remove(&key);
        }
    }

    /// Pages with entries whose body is in the segment.
    pub(crate) fn pages_in(&self, segment: u32) -> Vec<PageKey> {
        let mut found = Vec::new();
        for (session, queue) in &self.by_session {
            for (lane, pages) in queue
                .lanes
                .iter()
                .flat_map(|(n, lane)| lane.pages.iter().map(move |p| (n, p)))
            {
                if pages.segments.iter().any(|(number, _)| *number == segment) {
                    found.push(PageKey {
                        session: *session,
                        lane: *lane,
                        first: pages.key,
                    });
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// The entries of a page; none if it is gone.
    pub(crate) fn entries(&mut self, key: PageKey, pages: &mut dyn Pages) -> Vec<Entry> {
        let Some(at) = self.place(key) else {
            return Vec::new();
        };
        self.open(key, at, pages);
        self.lane_mut(key).pages[at].entries.clone().unwrap_or_default()
    }

    /// For a checkpoint: a dirty page's entries and version; `None` when it is gone. From now on it may be in the tables.
    pub(crate) fn snapshot(&mut self, key: PageKey) -> Option<(&[Entry], u32)> {
        let at = self.place(key)?;
        let page = &mut self.lane_mut(key).pages[at];
        page.stored = true;
        let entries = page.entries.as_deref().filter(|entries| !entries.is_empty())?;
        Some((entries, page.version))
    }

    /// The checkpoint holds the page as it was in this version.
    pub(crate) fn stored(&mut self, key: PageKey, version: u32) {
        let Some(at) = self.place(key) else { return };
        if self.lane_mut(key).pages[at].version != version {
            return;
        }
        self.dirty.remove(&key);
        self.clean.push_back(key);
        self.trim(None);
    }

    /// Forgets entries that are in the tables as they are.
    fn trim(&mut self, but: Option<PageKey>) {
        while self.clean.len() > CLEAN {
            let Some(key) = self.clean.pop_front() else { return };
            if self.dirty.contains(&key) || Some(key) == but {
                continue;
            }
            let Some(at) = self.place(key) else { continue };
            let page = &mut self.lane_mut(key).pages[at];
            if page.stored {
                let forgotten = page.entries.take().map_or(0, |entries| entries.len());
                self.entries_in_memory -= forgotten;
            }
        }
    }

    /// About the bytes of memory that pages take which are not in the tables as they are.
    pub(crate) fn dirty_bytes(&self) -> usize {
        let entries = self.entries_in_memory.min(self.dirty.len() * PAGE);
        entries * size_of::<Entry>() + self.dirty.len() * (size_of::<Page>() + size_of::<PageKey>())
    }

    /// Brings a page's entries into memory.
    fn open(&mut self, key: PageKey, at: usize, pages: &mut dyn Pages) {
        let page = &mut self.lane_mut(key).pages[at];
        if page.entries.is_some() {
            return;
        }
        match pages.entries(key) {
            Some(entries) => {
                self.entries_in_memory += entries.len();
                self.lane_mut(key).pages[at].entries = Some(entries);
                self.clean.push_back(key);
                self.trim(Some(key));
            }
            None => self.lose(key, at),
        }
    }

    /// A page cannot be read: it is as if it had been empty.
    fn lose(&mut self, key: PageKey, at: usize) {
        let page = &mut self.lane_mut(key).pages[at];
        let empty = Page::new(page.key, Vec::new(), page.stored);
        let lost = std::mem::replace(
            page,
            Page {
                last: page.last,
                ..empty
            },
        );
        let lane = self.lane_mut(key);
        lane.waiting -= u64::from(lost.waiting);
        lane.bytes -= lost.bytes;
        for (segment, n) in lost.segments {
            release(&mut self.references, segment, n);
        }
        self.count -= u64::from(lost.count);
        self.dirty.insert(key);
        self.unreadable.push(key);
    }

    fn account_removed(&mut self, key: PageKey, at: usize, old: &Entry) {
        let lane = self.lane_mut(key);
        let page = &mut lane.pages[at];
        page.forget(old.at);
        page.count -= 1;
        if !old.received {
            page.waiting -= 1;
            page.bytes -= u64::from(old.size);
            lane.waiting -= 1;
            lane.bytes -= u64::from(old.size);
        }
        release(&mut self.references, old.at.segment, References::of(old.at));
        self.count -= 1;
        self.entries_in_memory -= 1;
    }

    fn close_if_empty(&mut self, key: PageKey, at: usize) {
        let queue = self.queue_mut(key.session);
        let lane = queue.lanes.get_mut(&key.lane).expect("the page is there");
        if lane.pages[at].count > 0 {
            return;
        }
        let page = lane.pages.remove(at).expect("the page is there");
        if lane.pages.is_empty() {
            queue.lanes.remove(&key.lane);
        }
        if !page.stored && !self.note_gone {
            self.dirty.remove(&key);
        }
    }

    /// Where an entry is: its page, that page's place in its lane, and its own in the page, which is in memory then.
    fn find(&mut self, session: u64, seq: u64, pages: &mut dyn Pages) -> Option<(PageKey, usize, usize)> {
        let lanes: Vec<u8> = self.by_session.get(&session)?.lanes.keys().copied().collect();
        lanes.into_iter().find_map(|lane| {
            let in_lane = &self.lane(session, lane)?.pages;
            let at = in_lane.partition_point(|page| page.key <= seq).checked_sub(1)?;
            let page = in_lane.get(at).filter(|page| page.last >= seq)?;
            let key = PageKey {
                session,
                lane,
                first: page.key,
            };
            self.open(key, at, pages);
            let entries = self.lane(session, lane)?.pages[at].entries.as_ref()?;
            let place = entries.binary_search_by_key(&seq, |entry| entry.seq).ok()?;
            Some((key, at, place))
        })
    }

    fn place(&self, key: PageKey) -> Option<usize> {
        let pages = &self.lane(key.session, key.lane)?.pages;
        pages.binary_search_by_key(&key.first, |page| page.key).ok()
    }

    fn lane(&self, session: u64, lane: u8) -> Option<&Lane> {
        self.by_session.get(&session)?.lanes.get(&lane)
    }

    fn lane_mut(&mut self, key: PageKey) -> &mut Lane {
        let lanes = &mut self.queue_mut(key.session).lanes;
        lanes.get_mut(&key.lane).expect("the page's lane is there")
    }

    fn queue_mut(&mut self, session: u64) -> &mut Queue {
        self.by_session
            .get_mut(&session)
            .expect("the page's session is there")
    }
}

fn release(references: &mut BTreeMap<u32, References>, segment: u32, n: References) {
    if let Some(left) = references.get_mut(&segment) {
        left.count -= n.count;
        left.bytes -= n.bytes;
        if left.count == 0 {
            references.remove(&segment);
        }
    }
}

impl Queue {
    /// Lanes in which something waits.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (u8, &Lane)> {
        self.lanes
            .iter()
            .filter(|(_, lane)| lane.waiting > 0)
            .map(|(n, lane)| (*n, lane))
    }
}

impl Page {
    fn new(key: u64, entries: Vec<Entry>, stored: bool) -> Self {
        let mut page = Self {
            key,
            last: entries.last().map_or(key, |entry| entry.seq),
            count: u32::try_from(entries.len()).expect("a page is small"),
            waiting: 0,
            bytes: 0,
            segments: Vec::new(),
            entries: None,
            version: 0,
            stored,
        };
        for entry in &entries {
            page.note(entry.at);
            if !entry.received {
                page.waiting += 1;
                page.bytes += u64::from(entry.size);
            }
        }
        page.entries = Some(entries);
        page
    }

    fn note(&mut self, at: Position) {
        let one = References::of(at);
        match self
            .segments
            .iter_mut()
            .rfind(|(number, _)| *number == at.segment)
        {
            Some((_, references)) => references.add(one),
            None => self.segments.push((at.segment, one)),
        }
    }

    fn forget(&mut self, at: Position) {
        let known = self
            .segments
            .iter()
            .rposition(|(number, _)| *number == at.segment);
        let known = known.expect("it was noted");
        let references = &mut self.segments[known].1;
        references.count -= 1;
        references.bytes -= u64::from(at.len);
        if references.count == 0 {
            self.segments.swap_remove(known);
        }
    }
}

impl References {
    fn of(at: Position) -> Self {
        Self {
            count: 1,
            bytes: at.len.into(),
        }
    }

    fn add(&mut self, more: Self) {
        self.count += more.count;
        self.bytes += more.bytes;
    }
}
