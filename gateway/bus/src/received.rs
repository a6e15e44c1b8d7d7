//! QoS 2 packet identifiers of publishers. MQTT 5 §4.3.3

use headgate_model::memory::Charge;
use std::collections::BTreeSet;

/// Packet identifiers that the client has yet to release.
#[derive(Debug, Default)]
pub(crate) struct Received {
    ids: BTreeSet<u16>,
    /// In the ledger of memory.
    charge: Charge,
}

/// What an identifier takes, with what waits for the store of it.
const RECEIVED: usize = 64;

impl Received {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn contains(&self, packet: u16) -> bool {
        self.ids.contains(&packet)
    }

    pub(crate) fn insert(&mut self, packet: u16) {
        self.ids.insert(packet);
        self.charge.set(self.ids.len() * RECEIVED);
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, packet: u16) -> bool {
        let known = self.ids.remove(&packet);
        self.charge.set(self.ids.len() * RECEIVED);
        known
    }
}
