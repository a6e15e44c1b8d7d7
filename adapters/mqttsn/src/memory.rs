//! Topic ids of clients that are not here any more. §6.5, §6.10
//!
//! Who comes back without CleanSession may go on with the ids of before: they mean what they meant. Of a client that starts anew it is remembered which id
//! was its last, so that none of them means another topic soon. Of whom everything was forgotten the first id is anywhere, as after a restart.

use crate::topics::{Names, TopicIds};
use hashbrown::HashMap;
use headgate_model::ClientId;
use std::collections::VecDeque;

/// What each of them takes beside its ids and their names.
const EACH: usize = 128;

/// Bounded in bytes; the longest gone is forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    gone: HashMap<ClientId, Remembered>,
    /// In the order in which they went, with those that came back meanwhile among them.
    order: VecDeque<(u64, ClientId)>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Remembered {
    number: u64,
    topics: TopicIds,
    cost: usize,
}

impl Memory {
    /// A client goes. Others may be forgotten for it.
    pub(crate) fn keep(&mut self, client: ClientId, topics: TopicIds, limit: usize, names: &mut Names) {
        if topics.is_unused() {
            return;
        }
        let (number, cost) = (self.next, EACH + topics.cost(names));
        self.next += 1;
        self.bytes += cost;
        self.order.push_back((number, client.clone()));
        let remembered = Remembered { number, topics, cost };
        let before = self.gone.insert(client, remembered);
        if let Some(before) = before {
            self.forget(before, names);
        }
        while self.bytes > limit {
            let Some((number, client)) = self.order.pop_front() else {
                break;
            };
            if self.gone.get(&client).is_some_and(|known| known.number == number) {
                let oldest = self.gone.remove(&client).expect("just looked at");
                self.forget(oldest, names);
            }
        }
        self.tidy();
    }

    /// A client is back.
    pub(crate) fn take(&mut self, client: &ClientId) -> Option<TopicIds> {
        let known = self.gone.remove(client)?;
        self.bytes -= known.cost;
        self.tidy();
        Some(known.topics)
    }

    pub(crate) fn len(&self) -> usize {
        self.gone.len()
    }

    fn forget(&mut self, mut known: Remembered, names: &mut Names) {
        self.bytes -= known.cost;
        known.topics.clear(names);
    }

    /// The order holds at most as many again that came back.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.gone.len() + 16 {
            let gone = &self.gone;
            self.order
                .retain(|(number, client)| gone.get(client).is_some_and(|known| known.number == *number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_model::Topic;

    fn with_one_id(names: &mut Names) -> TopicIds {
        let mut topics = TopicIds::default();
        topics.assign(&Topic::try_from("a").unwrap(), 9, names);
        topics
    }

    /// Bytes are bounded, names are let go of, and who comes back costs nothing for ever.
    #[test]
    fn the_longest_gone_is_forgotten_first() {
        let (mut memory, mut names) = (Memory::default(), Names::default());
        for id in ["c", "d", "e"] {
            let topics = with_one_id(&mut names);
            memory.keep(id.into(), topics, 300, &mut names);
        }
        assert_eq!(memory.len(), 2);
        assert!(memory.take(&"c".into()).is_none());
        for _ in 0..100 {
            let topics = memory.take(&"d".into()).unwrap();
            memory.keep("d".into(), topics, 300, &mut names);
        }
        assert!(memory.order.len() < 30);
        for id in ["d", "e"] {
            memory.take(&id.into()).unwrap().clear(&mut names);
        }
        assert_eq!((memory.bytes, names.len()), (0, 0));
    }
}
