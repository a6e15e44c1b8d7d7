//! QoS 2 packet identifiers of publishers. MQTT 5 §4.3.3

use headgate_model::memory::Charge;
use std::collections::BTreeSet;

/// Packet identifiers that the client has yet to release. Boxed at the first: most clients never publish at QoS 2.
#[derive(Debug, Default)]
pub(crate) struct Received(Option<Box<Packets>>);

#[derive(Debug, Default)]
struct Packets {
    ids: BTreeSet<u16>,
    /// In the ledger of memory.
    charge: Charge,
}

/// What an identifier takes, with what waits for the store of it.
const RECEIVED: usize = 64;

impl Received {
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |packets| packets.ids.len())
    }

    pub(crate) fn contains(&self, packet: u16) -> bool {
        self.0
            .as_ref()
            .is_some_and(|packets| packets.ids.contains(&packet))
    }

    pub(crate) fn insert(&mut self, packet: u16) {
        let packets = self.0.get_or_insert_default();
        packets.ids.insert(packet);
        packets.charge.set(packets.ids.len() * RECEIVED);
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, packet: u16) -> bool {
        let Some(packets) = &mut self.0 else { return false };
        let known = packets.ids.remove(&packet);
        packets.charge.set(packets.ids.len() * RECEIVED);
        known
    }
}
