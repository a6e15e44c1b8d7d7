//! Sessions in the order of their client ids, five to eight bytes for each: so that a list of them can be had page by page.
//!
//! Always true: no chunk is empty, none holds more than [`CHUNK`], and client ids rise from place to place and from chunk to chunk.

use crate::clients::{Table, client_of};
use crate::sessions::Slot;

/// Slots in one chunk at most. To put one in moves half of them, and a thousandth of that for every chunk behind.
const CHUNK: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ordered(Vec<Vec<Slot>>);

impl Ordered {
    /// The session of `slot` is there, and is the only one of its client.
    pub(crate) fn insert(&mut self, slot: Slot, table: &Table) {
        let (chunk, at) = self.place(client_of(slot, table), table);
        let Some(slots) = self.0.get_mut(chunk) else {
            self.0.push(vec![slot]);
            return;
        };
        if slots.len() < CHUNK {
            slots.insert(at, slot);
            return;
        }
        if at == CHUNK {
            // Client ids that rise fill their chunks.
            self.0.insert(chunk + 1, vec![slot]);
            return;
        }
        let mut behind = slots.split_off(CHUNK / 2);
        if at <= CHUNK / 2 {
            slots.insert(at, slot);
        } else {
            behind.insert(at - CHUNK / 2, slot);
        }
        slots.shrink_to_fit();
        self.0.insert(chunk + 1, behind);
    }

    /// The session of `slot` is still there.
    pub(crate) fn remove(&mut self, slot: Slot, table: &Table) {
        let (chunk, at) = self.place(client_of(slot, table), table);
        let Some(slots) = self.0.get_mut(chunk) else {
            return;
        };
        if slots.get(at) != Some(&slot) {
            return;
        }
        slots.remove(at);
        let len = slots.len();
        let next = self.0.get(chunk + 1).map_or(0, Vec::len);
        if len == 0 {
            self.0.remove(chunk);
        } else if next > 0 && len + next <= CHUNK / 2 {
            let mut next = self.0.remove(chunk + 1);
            self.0[chunk].append(&mut next);
            self.0[chunk].shrink_to_fit();
        }
    }

    /// All behind this client id, or all.
    pub(crate) fn after(&self, client: Option<&str>, table: &Table) -> impl Iterator<Item = Slot> {
        let (chunk, at) = client.map_or((0, 0), |client| self.place(client, table));
        let slots = self.0.iter().skip(chunk).flatten().skip(at).copied();
        let is_it = client.zip(self.0.get(chunk).and_then(|slots| slots.get(at)));
        let known = is_it.is_some_and(|(client, slot)| client_of(*slot, table) == client);
        slots.skip(usize::from(known))
    }

    /// Where this client id is, or would be put.
    fn place(&self, client: &str, table: &Table) -> (usize, usize) {
        let begins_before = |slots: &Vec<Slot>| client_of(slots[0], table) <= client;
        let chunk = self.0.partition_point(begins_before).saturating_sub(1);
        let at = self.0.get(chunk).map_or(0, |slots| {
            slots.partition_point(|slot| client_of(*slot, table) < client)
        });
        (chunk, at)
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
                .all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK)
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
