//! Handshake messages of their fragments, in order. RFC 6347 §4.2.2, §4.2.3
//!
//! Always true: what waits and what was taken together have no more bytes than the limit, whatever lengths are told.

use headgate_dtls_codec::Fragment;
use std::collections::BTreeMap;

/// Messages ahead of the next one that may wait.
const AHEAD: u16 = 8;
/// What a fragment costs beside its bytes.
const FRAGMENT_COST: usize = 48;

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) seq: u16,
    pub(crate) body: Vec<u8>,
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It waits for others, or is there already.
    Kept,
    /// Its message was there: the peer says again what it said.
    Again,
    /// There is no room for it, or it contradicts another.
    Refused,
}

#[derive(Debug)]
pub(crate) struct Reassembly {
    next: u16,
    partial: BTreeMap<u16, Partial>,
    bytes: usize,
    limit: usize,
}

#[derive(Debug)]
struct Partial {
    kind: u8,
    length: u32,
    /// By where they begin.
    parts: BTreeMap<u32, Vec<u8>>,
}

impl Reassembly {
    /// `next`: the number of the first message that is wanted.
    pub(crate) fn new(next: u16, limit: usize) -> Self {
        Self {
            next,
            partial: BTreeMap::new(),
            bytes: 0,
            limit,
        }
    }

    /// Bytes of what waits.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn add(&mut self, fragment: &Fragment<'_>) -> Taken {
        let ahead = fragment.message_seq.wrapping_sub(self.next);
        if ahead >= u16::MAX / 2 {
            return Taken::Again;
        }
        if ahead >= AHEAD || fragment.length as usize > self.limit {
            return Taken::Refused;
        }
        let partial = self.partial.get(&fragment.message_seq);
        if partial.is_some_and(|known| known.kind != fragment.kind || known.length != fragment.length) {
            return Taken::Refused;
        }
        let known = partial.and_then(|known| known.parts.get(&fragment.offset));
        if known.is_some_and(|known| known.len() >= fragment.body.len()) {
            return Taken::Kept;
        }
        let before = known.map_or(0, |known| known.len() + FRAGMENT_COST);
        let cost = fragment.body.len() + FRAGMENT_COST;
        if self.bytes + cost > self.limit + before {
            return Taken::Refused;
        }
        self.bytes = self.bytes - before + cost;
        let partial = self.partial.entry(fragment.message_seq);
        let partial = partial.or_insert_with(|| Partial {
            kind: fragment.kind,
            length: fragment.length,
            parts: BTreeMap::new(),
        });
        partial.parts.insert(fragment.offset, fragment.body.to_vec());
        Taken::Kept
    }

    /// The next message, if all of it is there.
    pub(crate) fn take(&mut self) -> Option<Message> {
        let body = self.partial.get(&self.next)?.body()?;
        let partial = self.partial.remove(&self.next)?;
        let parts = partial.parts.values();
        self.bytes -= parts.map(|part| part.len() + FRAGMENT_COST).sum::<usize>();
        // What was taken is kept elsewhere: the bound is on all of it together.
        self.limit = self.limit.saturating_sub(body.len());
        let seq = self.next;
        self.next = self.next.wrapping_add(1);
        Some(Message {
            kind: partial.kind,
            seq,
            body,
        })
    }
}

impl Partial {
    fn body(&self) -> Option<Vec<u8>> {
        let mut end = 0;
        for (offset, part) in &self.parts {
            if *offset > end {
                return None;
            }
            end = end.max(offset + part.len() as u32);
        }
        if end < self.length {
            return None;
        }
        let mut body = vec![0; self.length as usize];
        for (offset, part) in &self.parts {
            let offset = *offset as usize;
            body[offset..offset + part.len()].copy_from_slice(part);
        }
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(seq: u16, length: u32, offset: u32, body: &[u8]) -> Fragment<'_> {
        Fragment {
            kind: 16,
            length,
            message_seq: seq,
            offset,
            body,
        }
    }

    /// RFC 6347 §4.2.3: fragments may overlap and come in any order.
    #[test]
    fn overlapping_fragments_in_any_order_are_a_message() {
        let mut all = Reassembly::new(2, 1000);
        assert_eq!(all.add(&fragment(3, 1, 0, &[9])), Taken::Kept);
        assert_eq!(all.add(&fragment(2, 5, 3, &[3, 4])), Taken::Kept);
        assert_eq!(all.take(), None);
        assert_eq!(all.add(&fragment(2, 5, 0, &[0])), Taken::Kept);
        assert_eq!(all.take(), None);
        assert_eq!(all.add(&fragment(2, 5, 0, &[0, 1, 2, 3])), Taken::Kept);
        let message = all.take().unwrap();
        assert_eq!((message.seq, &message.body[..]), (2, &[0, 1, 2, 3, 4][..]));
        assert_eq!(all.take().unwrap().body, [9]);
        assert_eq!(all.bytes, 0);
        assert_eq!(all.add(&fragment(2, 5, 0, &[0])), Taken::Again);
    }

    #[test]
    fn nothing_waits_beyond_the_limit() {
        let mut all = Reassembly::new(0, 200);
        assert_eq!(all.add(&fragment(0, 201, 0, &[0])), Taken::Refused);
        assert_eq!(all.add(&fragment(9, 1, 0, &[0])), Taken::Refused);
        let taken = (0..100).filter(|n| all.add(&fragment(0, 200, 2 * n, &[0])) == Taken::Kept);
        assert_eq!(taken.count(), 200 / (1 + FRAGMENT_COST));
        assert_eq!(all.add(&fragment(0, 7, 0, &[0])), Taken::Refused);
    }

    /// The bound is on all messages of a handshake.
    #[test]
    fn what_was_taken_counts_too() {
        let mut all = Reassembly::new(0, 200);
        assert_eq!(all.add(&fragment(0, 100, 0, &[0; 100])), Taken::Kept);
        assert!(all.take().is_some());
        assert_eq!(all.add(&fragment(1, 101, 0, &[0])), Taken::Refused);
        assert_eq!(all.add(&fragment(1, 50, 0, &[0; 50])), Taken::Kept);
        assert!(all.take().is_some());
    }

    /// A message without a body is one fragment without bytes.
    #[test]
    fn an_empty_message_is_whole() {
        let mut all = Reassembly::new(0, 200);
        all.add(&fragment(0, 0, 0, &[]));
        assert_eq!(all.take().unwrap().body, [0u8; 0]);
    }
}
