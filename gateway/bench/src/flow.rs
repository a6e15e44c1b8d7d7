//! Who publishes how much when, and what became of it. No socket, no clock: told frames and times, it writes
//! bytes and counts.
//!
//! Always true: a publisher has at most `backlog` messages that some receiver lacks, and at most `window`
//! unacknowledged ones; messages count when they arrive, the first time.

use super::frame::Template;
use super::histogram::{Histogram, Timetable};
use super::network::Traffic;
use super::sequence::{Arrival, Sequence};
use super::wire::Wire;
use super::{Case, Plan};
use headgate_mqtt_codec::{Qos, Utf8, Version};

/// All publishers and receivers of a run.
pub(super) struct Flow<W = Version> {
    wire: W,
    case: Case,
    qos: Qos,
    backlog: u64,
    publishers: Vec<Publisher>,
    receivers: Vec<Receiver>,
    /// Publishers that may have room.
    dirty: Vec<usize>,
    timetable: Option<Timetable>,
    /// Messages of the timetable whose time has come.
    released: u64,
    /// No message with this number or a higher one is published.
    limit: u64,
    sent: u64,
    /// What came in.
    pub tally: Tally,
    /// From when they were sent, or were to be sent, until they came in.
    pub latency: Histogram,
}

/// What came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Messages, each counted once for each receiver.
    pub delivered: u64,
    /// That came again.
    pub duplicates: u64,
    /// That came after a later one.
    pub reordered: u64,
    /// That nobody sent, or not to this receiver.
    pub foreign: u64,
    /// That the broker did not take.
    pub refused: u64,
}

struct Publisher {
    template: Template,
    sent: u64,
    free: Vec<u16>,
    dirty: bool,
}

/// The first publisher it hears, and what came from that one and the following.
struct Receiver {
    first: usize,
    /// Messages that came, again or not.
    count: u64,
    senders: Vec<Sequence>,
}

impl<W: Wire> Flow<W> {
    /// Nothing sent yet; `topics` are those of the publishers, `window` is what the broker allows.
    pub(super) fn new(wire: W, plan: &Plan, topics: impl Fn(usize) -> Utf8, window: usize) -> Self {
        let (publishers, receivers) = parties(plan);
        let publisher = |number: usize| Publisher {
            template: wire.template(number as u32, topics(number), plan.qos, plan.payload),
            sent: 0,
            free: (1..=window.min(usize::from(u16::MAX)) as u16).rev().collect(),
            dirty: false,
        };
        let receiver = |number| {
            let (first, heard) = match plan.case {
                Case::Pairs => (number, 1),
                _ => (0, publishers),
            };
            let senders = (0..heard).map(|_| Sequence::default()).collect();
            Receiver {
                first,
                count: 0,
                senders,
            }
        };
        Self {
            case: plan.case,
            qos: plan.qos,
            backlog: plan.backlog,
            publishers: (0..publishers).map(publisher).collect(),
            wire,
            receivers: (0..receivers).map(receiver).collect(),
            dirty: Vec::new(),
            timetable: None,
            released: 0,
            limit: u64::MAX,
            sent: 0,
            tally: Tally::default(),
            latency: Histogram::new(),
        }
    }

    /// Publishing begins: by this timetable, or as fast as messages arrive; until `limit` were published.
    pub(super) fn start(&mut self, timetable: Option<Timetable>, limit: u64) {
        self.timetable = timetable;
        self.limit = limit;
        if timetable.is_none() {
            (0..self.publishers.len()).for_each(|publisher| self.mark(publisher));
        }
    }

    /// Nothing more is published.
    pub(super) fn stop(&mut self) {
        self.limit = match self.timetable {
            Some(_) => self.released.min(self.limit), // what is late is still owed
            None => self.sent,
        };
    }

    /// Whether all was published that is to be.
    pub(super) fn all_sent(&self) -> bool {
        self.sent >= self.limit
    }

    fn mark(&mut self, publisher: usize) {
        if let Some(p) = self.publishers.get_mut(publisher)
            && !p.dirty
        {
            p.dirty = true;
            self.dirty.push(publisher);
        }
    }

    /// How many of a publisher's messages have come to everybody, or will not come any more.
    fn arrived(&self, publisher: usize) -> u64 {
        match self.case {
            Case::Pairs => self.receivers[publisher].senders[0].next(),
            Case::FanIn => self.receivers[0].senders[publisher].next(),
            _ => self
                .receivers
                .iter()
                .map(|r| r.senders[0].next())
                .min()
                .unwrap_or(0),
        }
    }

    /// A frame that came to a publisher.
    #[inline]
    pub(super) fn acknowledged(&mut self, publisher: usize, frame: W::Frame, out: &mut Vec<u8>) {
        let Some((id, good)) = self.wire.settle(&frame, out) else {
            return;
        };
        self.tally.refused += u64::from(!good);
        self.publishers[publisher].free.push(id);
        self.mark(publisher);
    }

    /// A frame that came to a receiver.
    #[inline]
    pub(super) fn received(&mut self, receiver: usize, frame: W::Frame, now: u64, out: &mut Vec<u8>) {
        let r = &mut self.receivers[receiver];
        let Some(stamp) = self.wire.receive(&frame, r.count, out) else {
            return;
        };
        r.count += 1;
        let sender = stamp.and_then(|stamp| {
            let publisher = stamp.publisher as usize;
            let sequence = r.senders.get_mut(publisher.checked_sub(r.first)?)?;
            let sent = self.publishers.get(publisher)?.sent;
            (stamp.sequence < sent).then_some((publisher, sequence, stamp))
        });
        let Some((publisher, sequence, stamp)) = sender else {
            self.tally.foreign += 1;
            return;
        };
        match sequence.arrive(stamp.sequence) {
            Arrival::New => {}
            Arrival::Late => self.tally.reordered += 1,
            Arrival::Duplicate => {
                self.tally.duplicates += 1;
                return;
            }
        }
        self.tally.delivered += 1;
        self.latency.record(now.saturating_sub(stamp.nanos));
        self.mark(publisher);
    }

    /// Deliveries that did not come, among them those outstanding.
    pub(super) fn lost(&self) -> u64 {
        let gaps: u64 = self
            .receivers
            .iter()
            .flat_map(|r| &r.senders)
            .map(Sequence::missing)
            .sum();
        gaps + self.outstanding()
    }

    fn open(&self) -> impl Iterator<Item = (u64, u64)> {
        self.receivers.iter().flat_map(|r| {
            let sent = self.publishers[r.first..].iter().map(|p| p.sent);
            sent.zip(r.senders.iter().map(Sequence::next))
        })
    }

    /// An open loop is over: what was due and has not come has waited until now, at least.
    pub(super) fn give_up(&mut self, now: u64) {
        let Some(timetable) = self.timetable else { return };
        let count = self.publishers.len() as u64;
        for receiver in &self.receivers {
            for (at, sequence) in receiver.senders.iter().enumerate() {
                let mut number = sequence.next() * count + (receiver.first + at) as u64;
                while number < self.released {
                    self.latency.record(now.saturating_sub(timetable.due(number)));
                    number += count;
                }
            }
        }
    }
}

impl<W: Wire> Traffic for Flow<W> {
    type Wire = W;

    #[inline]
    fn frame(&mut self, client: usize, frame: W::Frame, now: u64, out: &mut Vec<u8>) {
        match client.checked_sub(self.publishers.len()) {
            Some(receiver) => self.received(receiver, frame, now, out),
            None => self.acknowledged(client, frame, out),
        }
    }

    fn release(&mut self, now: u64) {
        let Some(timetable) = self.timetable else { return };
        while self.released < self.limit && timetable.due(self.released) <= now {
            self.mark((self.released % self.publishers.len() as u64) as usize);
            self.released += 1;
        }
    }

    fn next_due(&self) -> Option<u64> {
        let timetable = self.timetable?;
        (self.released < self.limit).then(|| timetable.due(self.released))
    }

    fn next_dirty(&mut self) -> Option<usize> {
        let publisher = self.dirty.pop()?;
        self.publishers[publisher].dirty = false;
        Some(publisher)
    }

    fn fill(&mut self, publisher: usize, now: u64, out: &mut Vec<u8>) {
        let arrived = self.arrived(publisher);
        let count = self.publishers.len() as u64;
        let p = &mut self.publishers[publisher];
        while p.sent - arrived < self.backlog && self.sent < self.limit {
            let mut nanos = now;
            if let Some(timetable) = self.timetable {
                let number = p.sent * count + publisher as u64;
                nanos = timetable.due(number);
                if nanos > now || number >= self.limit {
                    return;
                }
            }
            let mut id = 0;
            if self.qos > Qos::AtMostOnce {
                let Some(free) = p.free.pop() else { return };
                id = free;
            }
            p.template.append(id, p.sent, nanos, out);
            p.sent += 1;
            self.sent += 1;
        }
    }

    fn outstanding(&self) -> u64 {
        self.open().map(|(sent, next)| sent - next).sum()
    }

    fn moved(&self) -> u64 {
        self.tally.delivered
    }
}

/// How many publishers and receivers there are.
pub(super) fn parties(plan: &Plan) -> (usize, usize) {
    match plan.case {
        Case::FanIn => (plan.clients, 1),
        Case::FanOut => (1, plan.clients),
        _ => (plan.clients, plan.clients),
    }
}

/// What a publisher publishes to.
pub(super) fn topic(run: &str, publisher: usize) -> Utf8 {
    Utf8::try_from(format!("bench/{run}/{publisher}")).unwrap_or_default()
}

/// What a receiver subscribes to.
pub(super) fn filter(case: Case, run: &str, receiver: usize) -> Utf8 {
    match case {
        Case::Pairs => topic(run, receiver),
        Case::FanIn => Utf8::try_from(format!("bench/{run}/+")).unwrap_or_default(),
        _ => topic(run, 0),
    }
}

#[cfg(test)]
#[path = "flow_tests.rs"]
pub(super) mod tests;
