//! Sessions in the order of their client ids, some seven bytes for each: so that a list of them can be had page by page.
//!
//! Always true: no chunk is empty, none holds more than [`CHUNK`], and client ids rise from place to place and from chunk to chunk.

use crate::clients::{Table, client_of};
use crate::sessions::Slot;
use headgate_model::ClientId;

/// Slots in one chunk at most. A few cache lines, for each slot that is compared costs two more.
const CHUNK: usize = 128;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ordered(Vec<Chunk>);

/// Sessions that follow each other.
#[derive(Debug)]
struct Chunk {
    /// None of the chunk comes before this client id, and none of an earlier chunk behind it. Its own session may have ended.
    from: ClientId,
    slots: Vec<Slot>,
}

impl Ordered {
    /// The session of `slot` is there, and is the only one of its client.
    pub(crate) fn insert(&mut self, slot: Slot, table: &Table) {
        let client = client_of(slot, table);
        let (place, at) = self.place(client, table);
        let alone = || Chunk {
            from: client.into(),
            slots: vec![slot],
        };
        let Some(chunk) = self.0.get_mut(place) else {
            return self.0.push(alone());
        };
        let slots = &mut chunk.slots;
        if slots.len() < CHUNK {
            return slots.insert(at, slot);
        }
        if at == CHUNK {
            // Client ids that rise fill their chunks.
            return self.0.insert(place + 1, alone());
        }
        let mut behind = slots.split_off(CHUNK / 2);
        let from = client_of(behind[0], table).into();
        if at <= CHUNK / 2 {
            slots.insert(at, slot);
        } else {
            behind.insert(at - CHUNK / 2, slot);
        }
        self.0.insert(place + 1, Chunk { from, slots: behind });
    }

    /// The session of `slot` is still there.
    pub(crate) fn remove(&mut self, slot: Slot, table: &Table) {
        let (place, at) = self.place(client_of(slot, table), table);
        let Some(chunk) = self.0.get_mut(place) else {
            return;
        };
        if chunk.slots.get(at) != Some(&slot) {
            return;
        }
        chunk.slots.remove(at);
        let len = chunk.slots.len();
        let next = self.0.get(place + 1).map_or(0, |next| next.slots.len());
        if len == 0 {
            self.0.remove(place);
        } else if next > 0 && len + next <= CHUNK / 2 {
            let mut next = self.0.remove(place + 1);
            self.0[place].slots.append(&mut next.slots);
        }
    }

    /// All behind this client id, or all.
    pub(crate) fn after(&self, client: Option<&str>, table: &Table) -> impl Iterator<Item = Slot> {
        let (place, at) = client.map_or((0, 0), |client| self.place(client, table));
        let chunks = self.0.iter().skip(place);
        let slots = chunks.flat_map(|chunk| &chunk.slots).skip(at).copied();
        let first = self.0.get(place).and_then(|chunk| chunk.slots.get(at));
        let is_first = |client| first.is_some_and(|slot| client_of(*slot, table) == client);
        slots.skip(usize::from(client.is_some_and(is_first)))
    }

    /// Where this client id is, or would be put.
    fn place(&self, client: &str, table: &Table) -> (usize, usize) {
        let behind = self.0.partition_point(|chunk| chunk.from.as_str() <= client);
        let place = behind.saturating_sub(1);
        let at = self.0.get(place).map_or(0, |chunk| {
            let comes_before = |slot: &Slot| client_of(*slot, table) < client;
            chunk.slots.partition_point(comes_before)
        });
        (place, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Session;
    use headgate_model::SessionId;
    use std::collections::BTreeMap;

    fn holds(ordered: &Ordered, table: &Table, model: &BTreeMap<String, Slot>) {
        assert!(
            ordered
                .0
                .iter()
                .all(|chunk| !chunk.slots.is_empty() && chunk.slots.len() <= CHUNK)
        );
        assert!(ordered.after(None, table).eq(model.values().copied()));
    }

    #[test]
    fn clients_that_come_and_go_are_in_order() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut ordered, mut model) = (Ordered::default(), BTreeMap::new());
        let mut table: Vec<Option<Box<Session>>> = Vec::new();
        for round in 0..12_000_u32 {
            let name = format!("c{}", random.u32(0..6_000));
            let grows = round / 3_000 % 2 == 0;
            if let Some(slot) = model.get(&name).copied().filter(|_| !grows) {
                ordered.remove(slot, &table);
                model.remove(&name);
            } else if grows && !model.contains_key(&name) {
                let session = Session::new(SessionId(round.into()), name.as_str().into());
                table.push(Some(Box::new(session)));
                let slot = table.len() as Slot - 1;
                ordered.insert(slot, &table);
                model.insert(name, slot);
            }
            if round % 500 == 0 {
                holds(&ordered, &table, &model);
            }
        }
        holds(&ordered, &table, &model);
        for _ in 0..200 {
            let name = format!("c{}", random.u32(0..6_000));
            let behind = model.range(name.clone()..).filter(|(known, _)| **known != name);
            let expected: Vec<Slot> = behind.take(5).map(|(_, slot)| *slot).collect();
            let found: Vec<Slot> = ordered.after(Some(&name), &table).take(5).collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    /// A fleet whose names rise takes no more room than one whose names are drawn.
    #[test]
    fn client_ids_that_rise_fill_their_chunks() {
        let mut ordered = Ordered::default();
        let mut table: Vec<Option<Box<Session>>> = Vec::new();
        for n in 0..5_000 {
            let session = Session::new(SessionId(n), format!("c{n:08}").as_str().into());
            table.push(Some(Box::new(session)));
            ordered.insert(n as Slot, &table);
        }
        assert_eq!(ordered.0.len(), 5_000_usize.div_ceil(CHUNK));
    }
}
