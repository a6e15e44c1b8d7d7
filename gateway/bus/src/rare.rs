//! What few sessions have, behind one pointer: most clients never publish at QoS 2, and few adapters write notes.

use crate::received::Received;
use bytes::Bytes;

/// See the module. There since one of its parts was first needed.
#[derive(Debug, Default)]
pub(crate) struct Rare(Option<Box<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    received: Received,
    /// Empty when there is none.
    note: Bytes,
}

impl Rare {
    /// QoS 2 packet identifiers of the client that are not yet released.
    pub(crate) fn received(&self) -> usize {
        self.0.as_ref().map_or(0, |parts| parts.received.len())
    }

    pub(crate) fn has_received(&self, packet: u16) -> bool {
        self.0
            .as_ref()
            .is_some_and(|parts| parts.received.contains(packet))
    }

    pub(crate) fn put_received(&mut self, packet: u16) {
        self.0.get_or_insert_default().received.insert(packet);
    }

    /// Whether it was there.
    pub(crate) fn remove_received(&mut self, packet: u16) -> bool {
        self.0.as_mut().is_some_and(|parts| parts.received.remove(packet))
    }

    /// What its adapter must know of the session after a restart: see [`crate::notes`].
    pub(crate) fn note(&self) -> Option<&Bytes> {
        let note = self.0.as_ref().map(|parts| &parts.note);
        note.filter(|note| !note.is_empty())
    }

    pub(crate) fn set_note(&mut self, note: Bytes) {
        if !note.is_empty() || self.0.is_some() {
            self.0.get_or_insert_default().note = note;
        }
    }
}
