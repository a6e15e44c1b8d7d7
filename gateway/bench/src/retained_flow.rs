//! Retained messages, and subscribers that each want all of them. No socket, no clock.
//!
//! Always true: as many subscribers as the window allows are being sent messages; each counts a topic once.

use super::Plan;
use super::flow::Tally;
use super::frame::{Frame, STAMP_LEN, Stamp, receive, settle};
use super::histogram::Histogram;
use super::network::Traffic;
use super::server::subscribe_packet;
use super::window::Window;
use bytes::{Bytes, BytesMut};
use headgate_mqtt_codec::{Packet, PacketId, Publish, Qos, Utf8, Version, encode};

/// Messages that are being set or removed at a time.
const WINDOW: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Setting,
    Reading,
    Removing,
}

/// The first client is the publisher's, the others are the subscribers'.
pub(super) struct Shelf {
    run: String,
    topics: u64,
    qos: Qos,
    version: Version,
    payload: usize,
    phase: Phase,
    size: usize,
    window: Window,
    next_topic: u64,
    settled: u64,
    readers: Vec<Reader>,
    next_reader: usize,
    dirty: Vec<usize>,
    /// What came in.
    pub tally: Tally,
    /// From SUBSCRIBE until all was there.
    pub latency: Histogram,
}

#[derive(Default)]
struct Reader {
    since: Option<u64>,
    seen: Vec<u64>,
    count: u64,
}

impl Shelf {
    /// So many topics, none set yet; `run` goes into their names, `window` is what the broker allows.
    pub(super) fn new(plan: &Plan, run: &str, topics: u64, window: usize) -> Self {
        let words = (topics as usize).div_ceil(64);
        let reader = |_| Reader {
            seen: vec![0; words],
            ..Reader::default()
        };
        let size = window.min(WINDOW);
        Self {
            run: run.to_owned(),
            topics,
            qos: plan.qos,
            version: plan.server.version,
            payload: plan.payload.max(STAMP_LEN),
            phase: Phase::Setting,
            size,
            window: Window::new(size),
            next_topic: 0,
            settled: 0,
            readers: (0..plan.clients).map(reader).collect(),
            next_reader: 0,
            dirty: vec![0],
            tally: Tally::default(),
            latency: Histogram::new(),
        }
    }

    /// All is set; now so many subscribers at a time begin.
    pub(super) fn read(&mut self, at_a_time: usize) {
        self.phase = Phase::Reading;
        (0..at_a_time).for_each(|_| self.begin());
    }

    /// The subscribers are gone, and the first client is a new one; every topic is cleared.
    pub(super) fn remove(&mut self) {
        self.phase = Phase::Removing;
        self.window = Window::new(self.size);
        (self.next_topic, self.settled) = (0, 0);
        self.dirty = vec![0];
    }

    /// Retained messages that subscribers did not get.
    pub(super) fn lost(&self) -> u64 {
        let subscribed = self.readers.iter().filter(|reader| reader.since.is_some());
        subscribed.map(|reader| self.topics - reader.count).sum()
    }

    fn begin(&mut self) {
        if self.next_reader < self.readers.len() {
            self.next_reader += 1;
            self.dirty.push(self.next_reader);
        }
    }

    fn publish(&mut self, now: u64, out: &mut Vec<u8>) {
        let mut bytes = BytesMut::new();
        while self.next_topic < self.topics
            && let Some(id) = self.window.open(self.next_topic, now)
        {
            let topic = format!("bench/{}/{}", self.run, self.next_topic);
            let payload = match self.phase {
                Phase::Removing => Bytes::new(),
                _ => self.message(now),
            };
            let publish = Publish {
                // Above QoS 0, for we must know that it was taken.
                qos: self.qos.max(Qos::AtLeastOnce),
                retain: true,
                topic: Utf8::try_from(topic).unwrap_or_default(),
                packet_id: PacketId::new(id),
                payload,
                ..Publish::default()
            };
            bytes.clear();
            encode(&Packet::Publish(publish), self.version, &mut bytes);
            out.extend_from_slice(&bytes);
            self.next_topic += 1;
        }
    }

    fn message(&self, nanos: u64) -> Bytes {
        let stamp = Stamp {
            publisher: 0,
            sequence: self.next_topic,
            nanos,
        };
        let mut payload = vec![b'.'; self.payload];
        payload[..STAMP_LEN].copy_from_slice(&stamp.to_bytes());
        payload.into()
    }

    fn received(&mut self, number: usize, frame: Frame, now: u64, out: &mut Vec<u8>) {
        if frame == Frame::SubAck(false) {
            self.tally.refused += 1;
        }
        let Some(stamp) = receive(frame, out) else { return };
        let reader = &mut self.readers[number];
        let stamp = stamp.filter(|stamp| stamp.publisher == 0 && stamp.sequence < self.topics);
        let (Some(stamp), Some(since)) = (stamp, reader.since) else {
            self.tally.foreign += 1;
            return;
        };
        let (word, bit) = ((stamp.sequence / 64) as usize, 1 << (stamp.sequence % 64));
        if reader.seen[word] & bit != 0 {
            self.tally.duplicates += 1;
            return;
        }
        reader.seen[word] |= bit;
        reader.count += 1;
        self.tally.delivered += 1;
        if reader.count == self.topics {
            self.latency.record(now.saturating_sub(since));
            self.begin();
        }
    }
}

impl Traffic for Shelf {
    type Wire = Version;

    #[inline]
    fn frame(&mut self, client: usize, frame: Frame, now: u64, out: &mut Vec<u8>) {
        if let Some(reader) = client.checked_sub(1) {
            return self.received(reader, frame, now, out);
        }
        let Some((id, good)) = settle(frame, out) else {
            return;
        };
        if self.window.close(id).is_some() {
            self.settled += 1;
            self.tally.refused += u64::from(!good);
            if self.dirty.is_empty() && self.next_topic < self.topics {
                self.dirty.push(0);
            }
        }
    }

    fn next_dirty(&mut self) -> Option<usize> {
        self.dirty.pop()
    }

    fn fill(&mut self, client: usize, now: u64, out: &mut Vec<u8>) {
        let Some(reader) = client.checked_sub(1) else {
            return self.publish(now, out);
        };
        let filter = Utf8::try_from(format!("bench/{}/+", self.run)).unwrap_or_default();
        out.extend_from_slice(&subscribe_packet(vec![filter], self.qos, self.version));
        self.readers[reader].since = Some(now);
    }

    fn outstanding(&self) -> u64 {
        match self.phase {
            Phase::Reading => self.topics * self.readers.len() as u64 - self.tally.delivered,
            _ => self.topics - self.settled,
        }
    }

    fn moved(&self) -> u64 {
        match self.phase {
            Phase::Reading => self.tally.delivered,
            _ => self.settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Case;
    use crate::flow::tests::{plan, scanned};
    use headgate_mqtt_codec::AckKind;

    fn filled(shelf: &mut Shelf) -> Vec<(usize, Vec<Frame>)> {
        let mut frames = Vec::new();
        while let Some(client) = shelf.next_dirty() {
            let mut out = Vec::new();
            shelf.fill(client, 5, &mut out);
            frames.push((client, scanned(&out)));
        }
        frames
    }

    /// Three topics, set; two subscribers, one of them at a time.
    fn set() -> (Shelf, Vec<Frame>) {
        let mut shelf = Shelf::new(&plan(Case::Retained, Qos::AtMostOnce, 2, 0), "r", 3, 2);
        let mut messages = Vec::new();
        while shelf.outstanding() > 0 {
            for (client, frames) in filled(&mut shelf) {
                assert_eq!(client, 0);
                assert!(frames.len() <= 2, "the window is 2");
                for frame in frames {
                    let Frame::Publish(Qos::AtLeastOnce, id, stamp) = frame else {
                        panic!("it must be acknowledged: {frame:?}");
                    };
                    shelf.frame(0, Frame::Ack(AckKind::PubAck, id, true), 6, &mut Vec::new());
                    messages.push(Frame::Publish(Qos::AtMostOnce, 0, stamp));
                }
            }
        }
        assert_eq!(messages.len(), 3);
        shelf.read(1);
        assert_eq!(filled(&mut shelf), [(1, vec![Frame::Other])], "one SUBSCRIBE");
        (shelf, messages)
    }

    fn deliver(shelf: &mut Shelf, client: usize, frames: &[Frame]) {
        for frame in frames {
            shelf.frame(client, *frame, 20, &mut Vec::new());
        }
    }

    #[test]
    fn a_subscriber_that_has_all_makes_room_for_the_next() {
        let (mut shelf, messages) = set();
        deliver(&mut shelf, 1, &[messages[2], messages[0]]);
        assert!(filled(&mut shelf).is_empty());
        assert_eq!((shelf.lost(), shelf.outstanding()), (1, 4));
        deliver(&mut shelf, 1, &messages[1..2]);
        assert_eq!(filled(&mut shelf), [(2, vec![Frame::Other])]);
        deliver(&mut shelf, 2, &messages);
        assert_eq!((shelf.lost(), shelf.outstanding()), (0, 0));
        assert_eq!((shelf.latency.total(), shelf.latency.max()), (2, 15));
    }

    #[test]
    fn loss_and_repeats_are_found_and_any_order_is_fine() {
        let (mut shelf, messages) = set();
        deliver(&mut shelf, 1, &[messages[1], messages[0], messages[1]]);
        let beyond = Stamp {
            publisher: 0,
            sequence: 3,
            nanos: 0,
        };
        deliver(&mut shelf, 1, &[Frame::Publish(Qos::AtMostOnce, 0, Some(beyond))]);
        deliver(&mut shelf, 2, &messages[..1]);
        let expected = Tally {
            delivered: 2,
            duplicates: 1,
            foreign: 2,
            ..Tally::default()
        };
        assert_eq!(shelf.tally, expected, "the second has not subscribed");
        assert_eq!(shelf.lost(), 1);
    }

    #[test]
    fn all_is_removed_in_the_end() {
        let (mut shelf, _) = set();
        shelf.remove();
        let mut removed = 0;
        while shelf.outstanding() > 0 {
            for (_, frames) in filled(&mut shelf) {
                for frame in frames {
                    let Frame::Publish(_, id, None) = frame else {
                        panic!("not empty: {frame:?}")
                    };
                    removed += 1;
                    shelf.frame(0, Frame::Ack(AckKind::PubAck, id, true), 6, &mut Vec::new());
                }
            }
        }
        assert_eq!(removed, 3);
    }
}
