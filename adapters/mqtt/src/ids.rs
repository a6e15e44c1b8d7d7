//! What is under way by packet identifier.

use headgate_mqtt_codec::PacketId;
use std::collections::VecDeque;

/// Room that is kept when nothing is under way.
const KEPT: usize = 16;

/// A map by packet identifier, sorted. Peers count identifiers up and acknowledge in order, so that most is done at the two ends; whoever does
/// not makes us move at most half of 65,535 small entries.
#[derive(Debug)]
pub(crate) struct IdMap<T>(VecDeque<(PacketId, T)>);

impl<T> Default for IdMap<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> IdMap<T> {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, id: PacketId) -> Option<&T> {
        self.find(id).ok().map(|at| &self.0[at].1)
    }

    pub fn get_mut(&mut self, id: PacketId) -> Option<&mut T> {
        self.find(id).ok().map(|at| &mut self.0[at].1)
    }

    pub fn insert(&mut self, id: PacketId, value: T) {
        if self.0.back().is_none_or(|(last, _)| *last < id) {
            return self.0.push_back((id, value));
        }
        match self.find(id) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (id, value)),
        }
    }

    pub fn remove(&mut self, id: PacketId) {
        if let Ok(at) = self.find(id) {
            self.0.remove(at);
        }
        if self.0.is_empty() && self.0.capacity() > KEPT {
            self.0 = VecDeque::new();
        }
    }

    fn find(&self, id: PacketId) -> Result<usize, usize> {
        match self.0.front() {
            Some((first, _)) if *first == id => Ok(0),
            _ => self.0.binary_search_by_key(&id, |(id, _)| *id),
        }
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
