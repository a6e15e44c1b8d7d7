//! The subscribers of one filter. A fleet may have a million on one: each comes and goes in the same time.

use crate::index::Entry;
use crate::sessions::Slot;
use hashbrown::HashMap;
use std::hash::Hash;
use std::ops::Deref;

/// So many are searched one by one.
const FEW: usize = 32;

/// How a subscriber of one filter is found among the others.
pub(crate) trait MemberName: Copy + Eq + Hash {
    fn of(entry: &Entry) -> Self;
}

/// For those of whom each session has one.
impl MemberName for Slot {
    fn of(entry: &Entry) -> Self {
        entry.session
    }
}

/// For those of whom a session may have several, with different labels.
impl MemberName for (Slot, u32) {
    fn of(entry: &Entry) -> Self {
        (entry.session, entry.label())
    }
}

/// In the order in which they came, but the last takes the place of one that leaves.
///
/// Always true: a name is in here once, and `places`, if there is one, has the place of each.
#[derive(Debug)]
pub(crate) struct Members<N> {
    entries: Vec<Entry>,
    places: Option<Box<HashMap<N, u32>>>,
}

impl<N> Default for Members<N> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            places: None,
        }
    }
}

impl<N> Deref for Members<N> {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.entries
    }
}

impl<N: MemberName> Members<N> {
    /// Adds a subscriber, or gives one that is `known` to be here other options.
    pub(crate) fn put(&mut self, entry: Entry, known: bool) {
        if known && let Some(at) = self.place(N::of(&entry)) {
            self.entries[at] = entry;
            return;
        }
        let at = self.entries.len() as u32;
        self.entries.push(entry);
        if let Some(places) = &mut self.places {
            places.insert(N::of(&entry), at);
        } else if self.entries.len() > FEW {
            let places = (0..).zip(&self.entries).map(|(at, entry)| (N::of(entry), at));
            self.places = Some(Box::new(places.collect()));
        }
    }

    /// Takes a subscriber out. Where it was.
    pub(crate) fn take(&mut self, name: N) -> Option<usize> {
        let at = self.place(name)?;
        self.entries.swap_remove(at);
        if self.entries.len() < FEW / 2 {
            self.places = None;
            self.entries.shrink_to(FEW);
        } else if let Some(places) = &mut self.places {
            places.remove(&name);
            if let Some(moved) = self.entries.get(at) {
                places.insert(N::of(moved), at as u32);
            }
        }
        Some(at)
    }

    fn place(&self, name: N) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&name).map(|at| *at as usize),
            None => self.entries.iter().position(|entry| N::of(entry) == name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_model::SubscriptionOptions;

    fn entry(session: Slot, identifier: u32) -> Entry {
        let options = SubscriptionOptions {
            identifier,
            ..SubscriptionOptions::default()
        };
        Entry::new(session, &options)
    }

    #[test]
    fn each_is_there_once_however_many_come_and_go() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut members, mut model) = (Members::<Slot>::default(), std::collections::BTreeMap::new());
        for round in 0..20_000_u32 {
            // It grows to about a hundred, and shrinks to nothing, by turns.
            let session = random.u32(0..120);
            if random.u32(0..10) < if round / 2_000 % 2 == 0 { 8 } else { 1 } {
                members.put(entry(session, round), model.insert(session, round).is_some());
            } else {
                assert_eq!(members.take(session).is_some(), model.remove(&session).is_some());
            }
            let mut found: Vec<_> = members.iter().map(|e| (e.session, e.identifier)).collect();
            found.sort_unstable();
            assert!(found.into_iter().eq(model.iter().map(|(s, i)| (*s, *i))));
        }
    }
}
