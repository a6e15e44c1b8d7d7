//! Topic ids. §6.5, §6.6, §7.3
//!
//! Each client has a table of its own, for each has topics of its own; the names are shared by all, for there are fewer names than clients in most plants.

use hashbrown::{DefaultHashBuilder, HashTable};
use headgate_model::memory::Want;
use headgate_model::{MemoryLimit, Topic};
use headgate_mqttsn_codec::is_reserved;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// A name in [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameId(u32);

/// Every name that some client has an id for, once. Topics are as clients see them: without mount point.
#[derive(Debug, Default)]
pub(crate) struct Names {
    slots: Vec<Option<(Topic, u32)>>,
    free: Vec<u32>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    first: First,
    memory: Arc<MemoryLimit>,
    /// Bytes of all this and of all tables, as the ledger has them.
    bytes: usize,
}

/// Bytes of a name beside its text.
const NAME: usize = 96;

impl Drop for Names {
    fn drop(&mut self) {
        self.memory.change_buffers(self.bytes, 0);
    }
}

/// The first id that a client is given of which nothing is known, and of its messages.
#[derive(Debug)]
enum First {
    /// Nobody can guess it, and it is most likely not what it was before a restart. The keys are the system's, the number counts.
    Random(RandomState, u64),
    Id(u16),
}

impl Default for First {
    fn default() -> Self {
        Self::Random(RandomState::new(), 0)
    }
}

impl Names {
    /// Asks this ledger from now on.
    pub(crate) fn count_in(&mut self, memory: Arc<MemoryLimit>) {
        self.memory.change_buffers(self.bytes, 0);
        memory.change_buffers(0, self.bytes);
        self.memory = memory;
    }

    fn has_room(&self, topic: &Topic) -> bool {
        let more = NAME + size_of::<Entry>() + topic.as_bytes().len();
        self.memory.allows(Want::ToKeep, self.memory.used() + more)
    }

    fn set_bytes(&mut self, bytes: usize) {
        self.memory.change_buffers(self.bytes, bytes);
        self.bytes = bytes;
    }

    /// The first id that each client is given from now on, if nothing is known of ids it had before.
    pub(crate) fn start_ids_at(&mut self, first: u16) {
        self.first = First::Id(first);
    }

    /// What goes before the first id of a client.
    pub(crate) fn before_first_id(&mut self) -> u16 {
        match &mut self.first {
            First::Id(first) => first.saturating_sub(1),
            First::Random(keys, count) => {
                *count += 1;
                // The upper bits are as good as the lower ones.
                (keys.hash_one(*count) >> 49) as u16 // some clients read ids as signed numbers
            }
        }
    }

    pub(crate) fn get(&self, id: NameId) -> &Topic {
        &self.slots[id.0 as usize]
            .as_ref()
            .expect("a name in use is there")
            .0
    }

    pub(crate) fn find(&self, topic: &Topic) -> Option<NameId> {
        let hash = self.hasher.hash_one(topic);
        let same = |at: &u32| self.slots[*at as usize].as_ref().is_some_and(|(t, _)| t == topic);
        self.table.find(hash, same).map(|at| NameId(*at))
    }

    /// One more client has an id for this name.
    fn hold(&mut self, topic: &Topic) -> NameId {
        self.set_bytes(self.bytes + size_of::<Entry>());
        if let Some(id) = self.find(topic) {
            self.slots[id.0 as usize].as_mut().expect("just found").1 += 1;
            return id;
        }
        self.set_bytes(self.bytes + NAME + topic.as_bytes().len());
        // It is kept: it must not keep a datagram alive.
        let named = Some((topic.compact(), 1));
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = named;
                at
            }
            None => {
                self.slots.push(named);
                u32::try_from(self.slots.len() - 1).expect("fewer than four billion names")
            }
        };
        let Self {
            slots, table, hasher, ..
        } = self;
        let rehash = |at: &u32| hasher.hash_one(&slots[*at as usize].as_ref().expect("in the table").0);
        table.insert_unique(hasher.hash_one(topic), at, rehash);
        NameId(at)
    }

    fn let_go(&mut self, id: NameId) {
        let slot = &mut self.slots[id.0 as usize];
        let (topic, holders) = slot.as_mut().expect("a name in use is there");
        *holders -= 1;
        let (holders, len) = (*holders, topic.as_bytes().len());
        let hash = self.hasher.hash_one(&*topic);
        self.set_bytes(self.bytes - size_of::<Entry>());
        if holders > 0 {
            return;
        }
        self.set_bytes(self.bytes - NAME - len);
        if let Ok(entry) = self.table.find_entry(hash, |at| *at == id.0) {
            entry.remove();
        }
        self.slots[id.0 as usize] = None;
        self.free.push(id.0);
    }

    /// Names that are held.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: NameId,
    id: u16,
    /// The client knows it: it asked for it, or accepted it.
    known: bool,
}

/// The ids of one client. An id that was given once is not given for another topic before all others were, whatever became of the first.
#[derive(Debug, Default)]
pub(crate) struct TopicIds {
    /// Ascending by id.
    entries: Vec<Entry>,
    /// The id that was given last; 0 when none was.
    last: u16,
}

impl TopicIds {
    pub(crate) fn topic(&self, id: u16) -> Option<NameId> {
        let at = self.at(id)?;
        Some(self.entries[at].name)
    }

    fn at(&self, id: u16) -> Option<usize> {
        self.entries.binary_search_by_key(&id, |entry| entry.id).ok()
    }

    /// The id of a name, and whether the client knows it.
    pub(crate) fn id_of(&self, name: NameId) -> Option<(u16, bool)> {
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        Some((entry.id, entry.known))
    }

    /// The id of a topic; a new one if it has none. `None` when there are `limit` already, or no memory for more.
    pub(crate) fn assign(&mut self, topic: &Topic, limit: usize, names: &mut Names) -> Option<u16> {
        if let Some((id, _)) = names.find(topic).and_then(|name| self.id_of(name)) {
            return Some(id);
        }
        if self.entries.len() >= limit || !names.has_room(topic) {
            return None;
        }
        if self.last == 0 {
            self.last = names.before_first_id();
        }
        let id = self.free_id()?;
        let entry = Entry {
            name: names.hold(topic),
            id,
            known: false,
        };
        let at = self.entries.partition_point(|entry| entry.id < id);
        self.entries.insert(at, entry);
        self.last = id;
        Some(id)
    }

    /// Ids are given in order, and from the lowest again after the highest.
    fn free_id(&self) -> Option<u16> {
        let in_turn = (1..=u16::MAX).map(|step| self.last.wrapping_add(step));
        in_turn
            .filter(|id| !is_reserved(*id))
            .find(|id| self.at(*id).is_none())
    }

    pub(crate) fn set_known(&mut self, id: u16, known: bool) {
        if let Some(at) = self.at(id) {
            self.entries[at].known = known;
        }
    }

    /// The client may have forgotten what it was told.
    pub(crate) fn forget_known(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.known = false);
    }

    pub(crate) fn remove(&mut self, id: u16, names: &mut Names) {
        if let Some(at) = self.at(id) {
            names.let_go(self.entries.remove(at).name);
        }
    }

    /// Ids mean nothing any more; those of other topics follow behind.
    pub(crate) fn clear(&mut self, names: &mut Names) {
        for entry in std::mem::take(&mut self.entries) {
            names.let_go(entry.name);
        }
    }

    /// Whether there is anything to remember.
    pub(crate) fn is_unused(&self) -> bool {
        self.last == 0
    }

    /// Bytes of the table and its names, those that others share among them.
    pub(crate) fn cost(&self, names: &Names) -> usize {
        let of = |entry: &Entry| size_of::<Entry>() + names.get(entry.name).as_bytes().len();
        self.entries.iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_one() -> Names {
        let mut names = Names::default();
        names.start_ids_at(1);
        names
    }

    fn topic(name: &str) -> Topic {
        Topic::try_from(name).unwrap()
    }

    /// §7.3 Each client has ids of its own; a name is kept once, as long as somebody has an id for it.
    #[test]
    fn ids_belong_to_clients_and_names_to_all() {
        let mut names = from_one();
        let (mut one, mut two) = (TopicIds::default(), TopicIds::default());
        assert_eq!(one.assign(&topic("a"), 9, &mut names), Some(1));
        assert_eq!(one.assign(&topic("b"), 9, &mut names), Some(2));
        assert_eq!(two.assign(&topic("b"), 9, &mut names), Some(1));
        assert_eq!(
            one.assign(&topic("b"), 9, &mut names),
            Some(2),
            "it has one already"
        );
        assert_eq!(names.len(), 2);
        assert_eq!(names.get(one.topic(2).unwrap()), &topic("b"));
        one.clear(&mut names);
        assert_eq!((one.topic(1), names.len()), (None, 1));
        assert_eq!(one.assign(&topic("c"), 9, &mut names), Some(3), "never 1 again");
        one.clear(&mut names);
        two.remove(1, &mut names);
        assert_eq!((names.len(), names.find(&topic("b"))), (0, None));
    }

    #[test]
    fn the_limit_is_for_new_ids() {
        let mut names = from_one();
        let mut ids = TopicIds::default();
        assert_eq!(ids.assign(&topic("a"), 1, &mut names), Some(1));
        assert_eq!(ids.assign(&topic("b"), 1, &mut names), None);
        assert_eq!(ids.assign(&topic("a"), 1, &mut names), Some(1));
        assert_eq!(names.len(), 1);
    }

    /// §5.3.11 0x0000 and 0xFFFF are never given.
    #[test]
    fn reserved_ids_are_never_given() {
        let mut names = from_one();
        let mut ids = TopicIds::default();
        let count = usize::from(u16::MAX) - 1;
        for n in 0..count {
            let id = ids
                .assign(&topic(&n.to_string()), usize::MAX, &mut names)
                .unwrap();
            assert!(!is_reserved(id));
        }
        assert_eq!(ids.assign(&topic("one more"), usize::MAX, &mut names), None);
        ids.remove(7, &mut names);
        assert_eq!(ids.assign(&topic("one more"), usize::MAX, &mut names), Some(7));
    }
}
