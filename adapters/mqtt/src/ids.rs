//! What is under way by packet identifier.

use headgate_mqtt_codec::PacketId;
use std::collections::VecDeque;

/// Room that is kept when nothing is under way.
const KEPT: usize = 16;

/// A map by packet identifier, sorted. Peers count identifiers up and acknowledge in order, so that most is done at the two ends; whoever does
/// not makes us move at most half of 65,535 small entries.
///
/// Boxed at the first use: most connections never need one.
#[derive(Debug)]
pub(crate) struct IdMap<T>(Option<Box<VecDeque<(PacketId, T)>>>);

impl<T> Default for IdMap<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> IdMap<T> {
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |ids| ids.len())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|ids| ids.iter()).map(|(_, value)| value)
    }

    pub(crate) fn get(&self, id: PacketId) -> Option<&T> {
        let ids = self.0.as_deref()?;
        find(ids, id).ok().map(|at| &ids[at].1)
    }

    pub(crate) fn get_mut(&mut self, id: PacketId) -> Option<&mut T> {
        let ids = self.0.as_deref_mut()?;
        find(ids, id).ok().map(|at| &mut ids[at].1)
    }

    pub(crate) fn insert(&mut self, id: PacketId, value: T) {
        let ids = self.0.get_or_insert_default();
        if ids.back().is_none_or(|(last, _)| *last < id) {
            return ids.push_back((id, value));
        }
        match find(ids, id) {
            Ok(at) => ids[at].1 = value,
            Err(at) => ids.insert(at, (id, value)),
        }
    }

    pub(crate) fn remove(&mut self, id: PacketId) {
        let Some(ids) = &mut self.0 else { return };
        if let Ok(at) = find(ids, id) {
            ids.remove(at);
        }
        if ids.is_empty() && ids.capacity() > KEPT {
            self.0 = None;
        }
    }
}

fn find<T>(ids: &VecDeque<(PacketId, T)>, id: PacketId) -> Result<usize, usize> {
    match ids.front() {
        Some((first, _)) if *first == id => Ok(0),
        _ => ids.binary_search_by_key(&id, |(id, _)| *id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((1u16..40, any::<Option<u8>>()), 0..200)) {
            let (mut ids, mut map) = (IdMap::default(), BTreeMap::new());
            for (id, value) in steps {
                let id = PacketId::new(id).unwrap();
                match value {
                    Some(value) => {
                        ids.insert(id, value);
                        map.insert(id, value);
                    }
                    None => {
                        ids.remove(id);
                        map.remove(&id);
                    }
                }
                prop_assert_eq!(ids.len(), map.len());
                for id in (1..40).filter_map(PacketId::new) {
                    prop_assert_eq!(ids.get(id), map.get(&id));
                }
            }
        }
    }
}
