//! Links: sessions whose other side is another broker. What each keeps beside its session, and what the bus knows of all of them.

use crate::duplicates::Duplicates;
use crate::ledger::{Drops, Ledger, TopicDrops, Waiting, seconds};
use crate::queue::Queued;
use crate::session::Session;
use crate::stats::DropReason;
use bytes::Bytes;
use hashbrown::HashMap;
use headgate_model::link::RESERVED_CLIENT_ID;
use headgate_model::{Instant, Link, Qos, QueueFull, QueueRules, SessionId, Settlement};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a link keeps beside its session.
#[derive(Debug)]
pub(crate) struct LinkState {
    pub rules: Option<QueueRules>,
    pub ledger: Ledger,
    /// What is in the lanes of its queue, by priority. Always true: as many as the lane counts.
    waiting: BTreeMap<u8, Waiting>,
    newer: Newer,
}

/// Topics that may be retained here with something newer than at the other side: it waits, or is under way.
#[derive(Debug, Default)]
struct Newer {
    /// The number of the last delivery of each topic.
    topics: HashMap<Bytes, u64>,
    /// Deliveries below this number may be of any topic: nobody knows what waited before the start, and there may be too many.
    unknown_below: u64,
    /// What is put behind this number was published when the other side had sent what it retains.
    opened: u64,
    /// Something that the other side retains was not retained here, for it may not be newer.
    doubted: bool,
}

/// Topics of which it is known that something newer waits.
const MAX_NEWER: usize = 4_096;

impl Newer {
    fn note(&mut self, topic: &[u8], seq: u64) {
        if self.topics.len() >= MAX_NEWER && !self.topics.contains_key(topic) {
            self.topics.clear();
            self.unknown_below = seq;
        }
        match self.topics.get_mut(topic) {
            Some(last) => *last = seq,
            None => drop(self.topics.insert(Bytes::copy_from_slice(topic), seq)),
        }
    }
}

impl LinkState {
    /// Of a session that may have waited for long.
    fn new(link: Link, session: &Session, now: Instant) -> Self {
        let since = seconds(now);
        let deliveries = &session.deliveries;
        let lanes = deliveries.lanes.iter();
        let waiting = lanes.map(|lane| (lane.priority, Waiting::carried(lane.len(), since)));
        let queued_qos0 = deliveries.queue.qos0();
        let carried = deliveries.queued().entries - queued_qos0 + deliveries.inflight.len();
        Self {
            rules: link.queue,
            ledger: Ledger {
                carried: carried as u64,
                routed_qos0: queued_qos0 as u64,
                ..Ledger::default()
            },
            waiting: waiting.collect(),
            newer: Newer {
                unknown_below: deliveries.next_seq,
                ..Newer::default()
            },
        }
    }

    /// A message that is to be retained is put into the queue under this number. `opening`: the other side was given nothing on this connection.
    pub(crate) fn note_retained(&mut self, topic: &[u8], seq: u64, opening: bool) {
        self.newer.note(topic, seq);
        if opening {
            self.newer.opened = seq + 1;
        }
    }

    /// A copy came for the other side.
    pub(crate) fn routed(&mut self, qos: Qos) {
        match qos {
            Qos::AtMostOnce => self.ledger.routed_qos0 += 1,
            _ => self.ledger.routed += 1,
        }
    }

    /// The other side has said what becomes of a copy.
    pub(crate) fn settled(&mut self, settlement: Settlement) {
        match settlement {
            Settlement::Rejected => self.ledger.rejected += 1,
            Settlement::Done | Settlement::Received => self.ledger.done += 1,
        }
    }

    /// A copy goes to another member of its shared subscription.
    pub(crate) fn handed_on(&mut self, qos: Qos) {
        match qos {
            Qos::AtMostOnce => self.ledger.handed_qos0 += 1,
            _ => self.ledger.handed_on += 1,
        }
    }

    /// A delivery is in the store alone from now on, behind the others of its priority.
    pub(crate) fn push(&mut self, queued: &Queued) {
        let max_age = self.rules.as_ref().map_or(Duration::ZERO, |rules| rules.max_age);
        let lane = self.waiting.entry(queued.priority).or_default();
        let topic = queued.message.topic.as_bytes();
        lane.push(&mut self.ledger.topics, topic, queued.since, max_age);
    }

    /// The same, in front of the others.
    pub(crate) fn put_back(&mut self, queued: &Queued) {
        let lane = self.waiting.entry(queued.priority).or_default();
        let topic = queued.message.topic.as_bytes();
        lane.put_back(&mut self.ledger.topics, topic, queued.since);
    }

    /// The oldest delivery of a lane leaves it; since when it waited.
    pub(crate) fn take(&mut self, priority: u8) -> Option<u32> {
        let lane = self.waiting.get_mut(&priority)?;
        Some(lane.pop(&mut self.ledger.topics)?.1)
    }

    /// [`LinkState::take`] of one that is lost.
    pub(crate) fn lose(&mut self, priority: u8, reason: DropReason) {
        let lane = self.waiting.get_mut(&priority);
        if let Some((row, _)) = lane.and_then(|lane| lane.pop(&mut self.ledger.topics)) {
            self.ledger.drop_of(row, reason, Qos::AtLeastOnce);
        }
    }

    /// The lane turned out to hold no more than `count`: what it did not hold is not there to be read.
    pub(crate) fn correct(&mut self, priority: u8, count: usize) {
        while self.waiting.get(&priority).map_or(0, Waiting::len) > count {
            self.lose(priority, DropReason::Unreadable);
        }
    }

    /// Since when the oldest delivery of a lane waits, at the latest.
    pub(crate) fn oldest_of(&self, priority: u8) -> Option<u32> {
        self.waiting.get(&priority)?.oldest().map(|(_, latest)| latest)
    }

    fn oldest(&self) -> Option<u32> {
        let lanes = self.waiting.values();
        lanes.filter_map(Waiting::oldest).map(|(first, _)| first).min()
    }
}

/// What the bus knows of all links together.
#[derive(Debug)]
pub(crate) struct Links {
    /// Sessions that are links.
    ids: BTreeSet<SessionId>,
    /// Those of them that are the gateway's own bridges.
    own: BTreeSet<SessionId>,
    /// Some queue refuses its publishers when it is full.
    pub refusing: bool,
    /// Copies that came by one link and may come by another.
    pub duplicates: Duplicates,
    /// The gateway's name among those it is linked with.
    pub node: Box<str>,
    /// When operators were last told of a loop.
    pub loop_told: Option<Instant>,
}

impl Links {
    /// `refusing`: queues without rules of their own refuse their publishers when they are full.
    pub(crate) fn new(duplicates: Duplicates, refusing: bool) -> Self {
        Self {
            ids: BTreeSet::new(),
            own: BTreeSet::new(),
            refusing,
            duplicates,
            node: Box::default(),
            loop_told: None,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    #[inline]
    pub(crate) fn contains(&self, session: SessionId) -> bool {
        self.ids.contains(&session)
    }

    /// Whether copies are counted: something can come round only by two links.
    pub(crate) fn count_copies(&self) -> bool {
        self.ids.len() > 1 && !self.duplicates.window().is_zero()
    }

    /// A session has ended.
    pub(crate) fn forget(&mut self, session: SessionId) {
        self.ids.remove(&session);
        self.own.remove(&session);
    }

    /// Whether the gateway said it: itself, or one of its own bridges.
    pub(crate) fn is_gateway(&self, publisher: Option<SessionId>) -> bool {
        publisher.is_none_or(|publisher| self.own.contains(&publisher))
    }

    /// A session is opened as a link, or as none.
    pub(crate) fn admit(&mut self, session: &mut Session, link: Option<Link>, now: Instant) {
        let Some(link) = link else {
            session.link = None;
            self.ids.remove(&session.id);
            return;
        };
        self.ids.insert(session.id);
        if session.client.as_str().starts_with(RESERVED_CLIENT_ID) {
            self.own.insert(session.id);
        }
        let next_seq = session.deliveries.next_seq;
        let refuses = |rules: &QueueRules| rules.when_full == QueueFull::Refuse;
        self.refusing |= link.queue.as_ref().is_some_and(refuses);
        match session.link.as_deref_mut() {
            Some(state) => state.rules = link.queue,
            None => session.link = Some(Box::new(LinkState::new(link, session, now))),
        }
        if let Some(state) = session.link.as_deref_mut() {
            state.newer.opened = next_seq;
        }
    }
}

/// The ledger of one link at one moment. Of QoS 1 and 2, `carried + routed = done + rejected + dropped + handed_on + queued + in_flight`; of QoS 0,
/// `routed_qos0 = handed_qos0 + dropped_qos0 + queued_qos0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkReport {
    /// Whether somebody has its session open.
    pub connected: bool,
    /// QoS 1 and 2: what waited or was under way when the ledger was begun, after a restart above all.
    pub carried: u64,
    /// Copies that came for it.
    pub routed: u64,
    /// The other side has them.
    pub done: u64,
    /// The other side refused them.
    pub rejected: u64,
    /// By reason, in the order of [`DropReason::ALL`].
    pub dropped: Drops,
    /// Copies of shared subscriptions that went to another member.
    pub handed_on: u64,
    /// Copies that wait.
    pub queued: u64,
    /// Copies that are under way.
    pub in_flight: u64,
    /// The same of QoS 0: copies that came for it,
    pub routed_qos0: u64,
    /// were handed over,
    pub handed_qos0: u64,
    /// were dropped,
    pub dropped_qos0: Drops,
    /// or wait.
    pub queued_qos0: u64,
    /// Bytes that wait, of every QoS.
    pub queued_bytes: usize,
    /// How long the oldest of them waits, about.
    pub oldest: Option<Duration>,
    /// Publishers that were refused because the queue was full.
    pub refused: u64,
    /// Messages that came in by the link and were not routed: their path is a loop, or too long;
    pub loops: u64,
    /// or they came by another link too.
    pub duplicates: u64,
    /// What was dropped or not routed, by topic.
    pub topics: Vec<TopicDrops>,
}

impl LinkReport {
    /// Whether nothing is missing in the ledger.
    pub fn balances(&self) -> bool {
        let sum = |drops: &Drops| drops.iter().sum::<u64>();
        let gone = self.done + self.rejected + sum(&self.dropped) + self.handed_on;
        self.carried + self.routed == gone + self.queued + self.in_flight
            && self.routed_qos0 == self.handed_qos0 + sum(&self.dropped_qos0) + self.queued_qos0
    }
}

/// Whether a link's other side is behind with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    No,
    /// Something newer of the topic is on its way.
    Yes,
    /// Something is on its way that may be of the topic.
    Perhaps,
}

impl Session {
    /// Whether something that was retained before this connection still waits for the other side, or is under way.
    pub(crate) fn is_behind(&self, topic: &[u8]) -> Behind {
        let Some(newer) = self.link.as_deref().map(|link| &link.newer) else {
            return Behind::No;
        };
        let last = newer.topics.get(topic).copied();
        let known = last.filter(|seq| *seq < newer.opened);
        if known.is_none() && newer.unknown_below == 0 {
            return Behind::No;
        }
        let kept = |queued: &&Queued| queued.qos > Qos::AtMostOnce && !queued.carried;
        let deliveries = &self.deliveries;
        let in_memory = deliveries
            .inflight
            .iter()
            .chain(deliveries.queue.iter())
            .filter(kept);
        let in_store = deliveries.lanes.iter().map(|lane| lane.from);
        let first = in_memory.map(|queued| queued.seq).chain(in_store).min();
        let first = first.unwrap_or(deliveries.next_seq);
        match known {
            Some(seq) if seq >= first => Behind::Yes,
            _ if first < newer.unknown_below => Behind::Perhaps,
            _ => Behind::No,
        }
    }

    /// Whether its other side is another broker.
    #[inline]
    pub(crate) fn is_link(&self) -> bool {
        self.link.is_some()
    }

    /// Whether it is a link with a queue of its own: the gateway's own bridge.
    pub(crate) fn is_bridge(&self) -> bool {
        self.link.as_deref().is_some_and(|link| link.rules.is_some())
    }

    /// The other side is to be asked again for what it retains when nothing waits for it any more: then [`BusEvent::Drained`] is told.
    ///
    /// [`BusEvent::Drained`]: headgate_model::BusEvent::Drained
    pub(crate) fn doubt(&mut self) {
        if let Some(link) = self.link.as_deref_mut() {
            link.newer.doubted = true;
            let attached = self.attachment.attached_mut();
            attached
                .into_iter()
                .for_each(|attached| attached.tell_drained = true);
        }
    }

    /// Whether that is still to be told.
    pub(crate) fn doubts(&self) -> bool {
        self.link.as_deref().is_some_and(|link| link.newer.doubted)
    }

    /// It is told.
    pub(crate) fn doubt_no_more(&mut self) {
        if let Some(link) = self.link.as_deref_mut() {
            link.newer.doubted = false;
        }
    }

    /// Its ledger, if it is a link.
    pub(crate) fn report(&self, now: Instant) -> Option<LinkReport> {
        let link = self.link.as_deref()?;
        let ledger = &link.ledger;
        let (queue, queued) = (&self.deliveries.queue, self.deliveries.queued());
        let in_memory = queue.iter().map(|queued| queued.since);
        let oldest = in_memory.chain(link.oldest()).min();
        Some(LinkReport {
            connected: self.is_attached(),
            carried: ledger.carried,
            routed: ledger.routed,
            done: ledger.done,
            rejected: ledger.rejected,
            dropped: ledger.dropped,
            handed_on: ledger.handed_on,
            queued: (queued.entries - queue.qos0()) as u64,
            in_flight: self.deliveries.inflight.len() as u64,
            routed_qos0: ledger.routed_qos0,
            handed_qos0: ledger.handed_qos0,
            dropped_qos0: ledger.dropped_qos0,
            queued_qos0: queue.qos0() as u64,
            queued_bytes: queued.bytes,
            oldest: oldest.map(|since| Duration::from_secs(seconds(now).saturating_sub(since).into())),
            refused: ledger.refused,
            loops: ledger.loops,
            duplicates: ledger.duplicates,
            topics: ledger.topics.report(),
        })
    }
}

/// A delivery that gives way in a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// The one that came.
    Incoming,
    /// One in memory, by its place.
    Queued(usize),
    /// The oldest of this priority in the store.
    Stored(u8),
}

impl Session {
    /// Who gives way to one more delivery, and why.
    pub(crate) fn victim(
        &self,
        incoming: &Queued,
        default: &QueueRules,
        now: Instant,
    ) -> (Victim, DropReason) {
        let rules = self.rules(default);
        let full = DropReason::QueueFull;
        let queue = &self.deliveries.queue;
        if incoming.size() > rules.max_bytes {
            return (Victim::Incoming, full);
        }
        if let Some(at) = queue.oldest_qos0() {
            let aged = queue.get(at).is_some_and(|q| is_over(rules, q.since, now));
            return (Victim::Queued(at), if aged { DropReason::Expired } else { full });
        }
        if let Some(victim) = self.aged(rules, now) {
            return (victim, DropReason::Expired);
        }
        if incoming.qos == Qos::AtMostOnce || rules.when_full != QueueFull::DropOldest {
            return (Victim::Incoming, full);
        }
        // The oldest of the least important ones; but what was sent must be sent again. [MQTT-4.4.0-1]
        let lane = self.deliveries.lanes.last().map(|lane| lane.priority);
        let least = lane.into_iter().chain(queue.back().map(|q| q.priority));
        let least = least.min().unwrap_or(0);
        let oldest = queue.iter().position(|q| q.priority == least && !q.sent);
        let victim = oldest.map(Victim::Queued).or(lane.map(Victim::Stored));
        (victim.unwrap_or(Victim::Incoming), full)
    }

    /// A QoS 1 or 2 delivery that has waited for too long.
    pub(crate) fn aged(&self, rules: &QueueRules, now: Instant) -> Option<Victim> {
        if rules.max_age.is_zero() {
            return None;
        }
        let is_aged = |q: &Queued| !q.sent && q.qos > Qos::AtMostOnce && is_over(rules, q.since, now);
        if let Some(at) = self.deliveries.queue.iter().position(is_aged) {
            return Some(Victim::Queued(at));
        }
        let link = self.link.as_deref()?;
        // What a fetch is under way for is looked at when it is here.
        let lanes = self.deliveries.lanes.iter().filter(|lane| lane.asked.is_none());
        let aged = |priority: &u8| {
            link.oldest_of(*priority)
                .is_some_and(|since| is_over(rules, since, now))
        };
        lanes.map(|lane| lane.priority).find(aged).map(Victim::Stored)
    }
}

/// Whether what waits `since` then is over its time.
pub(crate) fn is_over(rules: &QueueRules, since: u32, now: Instant) -> bool {
    !rules.max_age.is_zero() && Instant(u64::from(since) * 1_000) + rules.max_age <= now
}
