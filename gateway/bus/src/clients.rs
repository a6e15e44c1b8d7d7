//! Sessions by client id. The ids are in the sessions: here is only where those are, four bytes for each.

use crate::index::Slot;
use crate::session::Session;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

type Sessions = [Option<Box<Session>>];

/// Always true: a slot that is in here holds a session, and no other session has its client id.
#[derive(Debug, Default)]
pub struct Clients {
    slots: HashTable<Slot>,
    hasher: DefaultHashBuilder,
}

impl Clients {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn find(&self, client: &str, sessions: &Sessions) -> Option<Slot> {
        let hash = self.hasher.hash_one(client);
        let is_it = |slot: &Slot| client_of(*slot, sessions) == client;
        self.slots.find(hash, is_it).copied()
    }

    /// The session of `slot` is there, and is the only one of its client.
    pub fn insert(&mut self, slot: Slot, sessions: &Sessions) {
        let hash = |slot: &Slot| self.hasher.hash_one(client_of(*slot, sessions));
        self.slots.insert_unique(hash(&slot), slot, hash);
    }

    /// The session of `slot` is still there.
    pub fn remove(&mut self, slot: Slot, sessions: &Sessions) {
        let hash = self.hasher.hash_one(client_of(slot, sessions));
        if let Ok(entry) = self.slots.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
    }
}

fn client_of(slot: Slot, sessions: &Sessions) -> &str {
    let session = sessions[slot as usize].as_deref();
    session.map_or("", |session| session.client.as_str())
}
