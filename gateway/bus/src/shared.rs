//! Shared subscriptions: who of their members gets a message, and what becomes of it when that one leaves. MQTT 5 §4.8.2.

use crate::bus::{Bus, BusOutputs};
use crate::index::{Entry, GroupId};
use crate::paging::FetchRequest;
use crate::queue::Queued;
use crate::reading::Readable;
use crate::routing::{LastingCopy, Target, identifiers};
use crate::session::Session;
use crate::sessions::Slot;
use crate::settings::SharedStrategy;
use crate::stats::DropReason;
use hashbrown::HashMap;
use headgate_model::store::{Fetched, LaneImage, SessionRecord};
use headgate_model::{Instant, Message, SessionId, StoreOp, WallTime};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// Members drawn by lot before all are looked at in a row.
const DRAWS: usize = 8;

/// In the store, when a session ends that has no client any more and is kept for what is to be redistributed.
pub(crate) const REDISTRIBUTED: WallTime = WallTime(0);

/// What a session that has ended left in the store, and is to go to other members: its lanes, and where to go on with the first of them.
#[derive(Debug)]
pub(crate) struct Redistribution {
    lanes: Vec<u8>,
    from: u64,
}

/// What came by shared subscriptions to sessions whose clients may not read it, and has left their queues.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    pub waiting: VecDeque<(Slot, Queued)>,
    under_way: bool,
}

impl Bus {
    /// One member of a shared subscription, connected ones first. MQTT 5 §4.8.2. Mostly the first one that is looked at.
    pub(crate) fn choose(&mut self, id: GroupId, message: &Message, except: Option<Slot>) -> Option<Target> {
        let publisher = message.publisher.map_or(0, |p| p.0);
        let drawn: [u64; DRAWS] = std::array::from_fn(|_| self.rng.u64(..));
        let group = self.index.group(id)?;
        let (members, cursor) = (&group.members, group.cursor as usize);
        let split = !self.settings.links.transit
            && message
                .publisher
                .is_some_and(|publisher| self.links.contains(publisher));
        let readable = RefCell::new(Readable::default());
        let eligible = |at: &usize| {
            let slot = members[*at].session;
            let session = &self.sessions[slot];
            Some(slot) != except
                && !(split && session.is_link())
                && readable.borrow_mut().by(session, &message.topic)
        };
        let online = |at: &usize| eligible(at) && self.sessions[members[*at].session].is_attached();
        let count = members.len();
        let within = |number: u64| usize::try_from(number % count as u64).expect("less than a count");
        let hash = |key: &[u8]| within(BuildHasherDefault::<DefaultHasher>::default().hash_one(key));
        let start = match self.settings.shared_strategy {
            SharedStrategy::Random => {
                let found = drawn.into_iter().map(within).find(online);
                found.unwrap_or_else(|| within(drawn[0]))
            }
            SharedStrategy::RoundRobin => cursor % count,
            SharedStrategy::Sticky => cursor.checked_sub(1).unwrap_or_else(|| within(drawn[0])),
            SharedStrategy::HashClient => hash(&publisher.to_be_bytes()),
            SharedStrategy::HashTopic => hash(message.topic.as_bytes()),
        };
        let mut away = None;
        let mut looked_at = 0;
        let there = (start..count).chain(0..start).find(|at| {
            looked_at += 1;
            let eligible = eligible(at);
            if eligible && away.is_none() {
                away = Some(*at);
            }
            eligible && self.sessions[members[*at].session].is_attached()
        });
        let chosen = there.or(away);
        let member = chosen.map(|chosen| members[chosen]);
        self.work += looked_at;
        let (chosen, member) = (chosen?, member?);
        if let Some(group) = self.index.group_mut(id) {
            group.cursor = u32::try_from(chosen + 1).unwrap_or(0);
        }
        Some(Target {
            slot: member.session,
            qos: self.settings.effective_qos(message.qos, member.qos),
            retain: message.retain && member.retain_as_published,
            group: id,
            identifiers: identifiers(member.identifier),
        })
    }

    /// A client leaves that keeps its session: what came by shared subscriptions goes to members that are there.
    pub(crate) fn pass_on_shared(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) {
        let is_there =
            |bus: &Self, member: &Entry| member.session != slot && bus.sessions[member.session].is_attached();
        // A group may have many members, and many messages may be of one group.
        let mut known = HashMap::new();
        let mut others = |bus: &Self, group: GroupId| {
            *known.entry(group).or_insert_with(|| {
                let group = bus.index.group(group);
                group.is_some_and(|group| group.members.iter().any(|member| is_there(bus, member)))
            })
        };
        let movable = |bus: &Self, queued: &Queued| queued.may_go_to_another() && others(bus, queued.group);
        self.redistribute_queued(slot, Some(slot), movable, now, out);
    }

    /// [`Bus::redistribute`] for what is queued and `chosen`.
    pub(crate) fn redistribute_queued(
        &mut self,
        slot: Slot,
        except: Option<Slot>,
        mut chosen: impl FnMut(&Self, &Queued) -> bool,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        let queue = &self.sessions[slot].deliveries.queue;
        let marks: Vec<bool> = queue.iter().map(|queued| chosen(self, queued)).collect();
        if !marks.contains(&true) {
            return;
        }
        let mut marks = marks.into_iter();
        let session = &mut self.sessions[slot];
        let queue = &mut session.deliveries.queue;
        let left = queue.take(|_| marks.next() == Some(true), &mut self.gauges);
        if let Some(link) = session.link.as_deref_mut() {
            left.iter().for_each(|queued| link.handed_on(queued.qos));
        }
        for queued in &left {
            self.delete_entry(slot, queued, now);
        }
        self.redistribute(except, left, now, out);
    }

    /// A delivery leaves its session for another one. Its entry goes even if its batch is open: a publisher may wait for it, and is answered when the message
    /// is safe elsewhere.
    fn delete_entry(&mut self, slot: Slot, queued: &Queued, now: Instant) {
        if queued.entry.is_some() {
            self.pending.delete(self.sessions[slot].id, queued.seq, now);
            self.store.free(queued.size());
        }
    }

    /// Another member of its group gets a delivery that has left the queue of a session.
    pub(crate) fn hand_on(
        &mut self,
        slot: Slot,
        queued: &Queued,
        to: Target,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        if let Some(link) = self.sessions[slot].link.as_deref_mut() {
            link.handed_on(queued.qos);
        }
        self.delete_entry(slot, queued, now);
        let mut copy = LastingCopy::of(&queued.message);
        self.deliver(&queued.message, to, &mut copy, now, out);
    }

    /// What came to the head of a queue, and its client may not read, goes to another member of its group, or nowhere. Not in the middle of a delivery, or
    /// members that hand on to one another would nest.
    pub(crate) fn hand_on_strays(&mut self, now: Instant, out: &mut BusOutputs) {
        if std::mem::replace(&mut self.strays.under_way, true) {
            return;
        }
        while let Some((slot, queued)) = self.strays.waiting.pop_front() {
            match self.choose(queued.group, &queued.message, Some(slot)) {
                Some(target) => self.hand_on(slot, &queued, target, now, out),
                None => self.drop_queued(slot, queued, DropReason::NotAuthorized, now, out),
            }
        }
        self.strays.under_way = false;
    }

    /// Gives what came to a session by shared subscriptions, and was not acknowledged, to other members than `except`.
    pub(crate) fn redistribute(
        &mut self,
        except: Option<Slot>,
        left: Vec<Queued>,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        for queued in left {
            let next = if queued.may_go_to_another() {
                self.choose(queued.group, &queued.message, except)
            } else {
                None
            };
            match next {
                Some(target) => {
                    let mut copy = LastingCopy::of(&queued.message);
                    self.deliver(&queued.message, target, &mut copy, now, out);
                }
                None => self.counters.drop(DropReason::SessionEnded),
            }
        }
    }

    /// A session has ended: its part of the store goes. What it had by shared subscriptions is redistributed first.
    pub(crate) fn let_go(&mut self, session: &Session) {
        let deliveries = &session.deliveries;
        let in_memory = deliveries.queue.iter().chain(deliveries.inflight.iter());
        let stored = in_memory.filter(|queued| queued.entry.is_some());
        self.store.free(stored.map(Queued::size).sum());
        if !session.recorded {
            return;
        }
        let shares = session.subscriptions.iter().any(|held| held.share.is_some());
        if !shares || deliveries.lanes.is_empty() {
            self.store.free(deliveries.lanes.load().bytes);
            self.pending.push(StoreOp::DeleteSession(session.id));
            return;
        }
        let record = SessionRecord {
            ends: Some(REDISTRIBUTED),
            will: None,
            ..session.record(self.epoch)
        };
        self.pending
            .push(StoreOp::PutSession(session.id, Box::new(record)));
        let lanes = deliveries.lanes.iter().map(|lane| lane.priority).collect();
        self.go_on_redistributing(session.id, Redistribution { lanes, from: 0 });
    }

    /// A redistribution that an earlier run did not come to the end of.
    pub(crate) fn restore_redistribution(&mut self, id: SessionId, lanes: Vec<LaneImage>) {
        let lanes = lanes.into_iter().map(|lane| lane.lane).collect();
        self.go_on_redistributing(id, Redistribution { lanes, from: 0 });
    }

    /// Asks for the next part of what a session left; at the end the session is deleted.
    fn go_on_redistributing(&mut self, id: SessionId, left: Redistribution) {
        let Some(lane) = left.lanes.first() else {
            return self.pending.push(StoreOp::DeleteSession(id));
        };
        self.store.ask(FetchRequest::redistribute(id, *lane, left.from));
        self.pending.hurry();
        self.redistributing.insert(id, left);
    }

    pub(crate) fn redistribute_fetched(
        &mut self,
        id: SessionId,
        found: Fetched,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        let Some(mut left) = self.redistributing.remove(&id) else {
            return;
        };
        for delivery in found.deliveries {
            self.pending.delete(id, delivery.seq, now);
            self.store.free(delivery.entry.size as usize);
            let shared = delivery.entry.shared.is_some();
            let queued = self.read_queued(delivery, false);
            if shared && !queued.message.is_expired(now) {
                self.redistribute(None, vec![queued], now, out);
            } else {
                self.counters.drop(DropReason::SessionEnded);
            }
        }
        left.from = found.next;
        if found.at_end {
            left.lanes.remove(0);
            left.from = 0;
        }
        self.go_on_redistributing(id, left);
    }
}
