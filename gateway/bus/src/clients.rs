//! Sessions by client id and by endpoint. Both names are in the sessions: here is only where those are, four bytes for each.

use crate::session::Session;
use crate::sessions::Slot;
use hashbrown::{DefaultHashBuilder, HashTable};
use headgate_model::EndpointId;
use std::hash::BuildHasher;

/// A list that holds something for each client grows by a quarter: doubling would leave half of a large one empty.
pub(crate) fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 4 + 16);
    }
}

pub(crate) type Table = [Option<Box<Session>>];

/// Always true: a slot that is in here holds a session, and no other session has its client id.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    slots: HashTable<Slot>,
    hasher: DefaultHashBuilder,
    /// Bytes of all client ids.
    names: usize,
}

impl Clients {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn find(&self, client: &str, table: &Table) -> Option<Slot> {
        let hash = self.hasher.hash_one(client);
        let is_it = |slot: &Slot| client_of(*slot, table) == client;
        self.slots.find(hash, is_it).copied()
    }

    /// The session of `slot` is there, and is the only one of its client.
    pub(crate) fn insert(&mut self, slot: Slot, table: &Table) {
        let hash = |slot: &Slot| self.hasher.hash_one(client_of(*slot, table));
        self.names += client_of(slot, table).len();
        self.slots.insert_unique(hash(&slot), slot, hash);
    }

    /// The session of `slot` is still there.
    pub(crate) fn remove(&mut self, slot: Slot, table: &Table) {
        let hash = self.hasher.hash_one(client_of(slot, table));
        if let Ok(entry) = self.slots.find_entry(hash, |other| *other == slot) {
            entry.remove();
            self.names -= client_of(slot, table).len();
        }
    }

    /// Bytes of all client ids.
    pub(crate) fn names(&self) -> usize {
        self.names
    }
}

/// Sessions that an endpoint has.
///
/// Always true: a slot that is in here holds a session with an endpoint, and no other session has that endpoint.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    slots: HashTable<Slot>,
    hasher: DefaultHashBuilder,
}

impl Endpoints {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn find(&self, endpoint: EndpointId, table: &Table) -> Option<Slot> {
        let hash = self.hasher.hash_one(endpoint);
        let is_it = |slot: &Slot| endpoint_of(*slot, table) == Some(endpoint);
        self.slots.find(hash, is_it).copied()
    }

    /// The session of `slot` has its endpoint, which no other has.
    pub(crate) fn insert(&mut self, slot: Slot, table: &Table) {
        let hash = |slot: &Slot| {
            self.hasher
                .hash_one(endpoint_of(*slot, table).unwrap_or(EndpointId(0)))
        };
        self.slots.insert_unique(hash(&slot), slot, hash);
    }

    /// The session of this endpoint, which it still has.
    pub(crate) fn remove(&mut self, endpoint: EndpointId, table: &Table) -> Option<Slot> {
        let hash = self.hasher.hash_one(endpoint);
        let is_it = |slot: &Slot| endpoint_of(*slot, table) == Some(endpoint);
        Some(self.slots.find_entry(hash, is_it).ok()?.remove().0)
    }
}

fn endpoint_of(slot: Slot, table: &Table) -> Option<EndpointId> {
    table[slot as usize].as_deref()?.endpoint()
}

pub(crate) fn client_of(slot: Slot, table: &Table) -> &str {
    let session = table[slot as usize].as_deref();
    session.map_or("", |session| session.client.as_str())
}
