//! What a client may read of what its filters match.
//!
//! A subscription is let in by the gate, as a whole. Where its rules deny a part of it, that part is found here, message by message: a filter that meets
//! no such rule costs one look at a flag. Rules are asked again when a session goes on, when its client proves anew who it is, and when they change.

use crate::bus::{Bus, BusOutputs};
use crate::queue::Queued;
use crate::session::Session;
use crate::sessions::Slot;
use crate::turns;
use headgate_model::bus::Presence;
use headgate_model::{AccessPolicy, BusEvent, Instant, Topic};
use std::collections::VecDeque;
use std::sync::Arc;

/// Filters of a session that are held against its rules at once; of one that has more, every message is.
const FILTERS_AT_ONCE: usize = 256;
/// Sessions that get other rules in one turn, which may have to be made for each.
const SESSIONS_AT_ONCE: usize = 32;

/// How far a change of rules has come. First all sessions get their new rules, then what some may read no more goes to others: nobody is asked by rules
/// that are about to go.
#[derive(Clone, Copy, Debug)]
pub enum RulesChange {
    /// Sessions from this place on get the rules.
    Renew(usize),
    /// Sessions from this place on hand on what they may not read.
    HandOn(usize),
}

impl Default for RulesChange {
    fn default() -> Self {
        Self::Renew(0)
    }
}

impl Session {
    /// Whether its client may read what has this topic.
    pub(crate) fn may_read(&self, topic: &Topic) -> bool {
        !self.narrowed || self.presence.rules.may_read(topic)
    }
}

/// What rules say of one message. Many sessions have the same: they are asked once for all that come in a row.
#[derive(Debug, Default)]
pub(crate) struct Readable(Option<(Arc<dyn AccessPolicy>, bool)>);

impl Readable {
    /// Whether the client of this session may read the message, which has this topic.
    pub(crate) fn by(&mut self, session: &Session, topic: &Topic) -> bool {
        let Some(policy) = session.presence.rules.policy().filter(|_| session.narrowed) else {
            return true;
        };
        match &self.0 {
            Some((known, may)) if Arc::ptr_eq(known, policy) => *may,
            _ => {
                let may = session.presence.rules.may_read(topic);
                self.0 = Some((Arc::clone(policy), may));
                may
            }
        }
    }
}

impl Bus {
    /// A session has the rules of its client from now on: those that are valid now, in case they have changed since they were asked for. They are held
    /// against all its subscriptions.
    pub(crate) fn look_at_rules(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) {
        self.take_valid_rules(slot, out);
        self.narrow(slot);
        self.hand_on_unreadable(slot, now, out);
    }

    /// Holds the rules of a session against its subscriptions.
    fn narrow(&mut self, slot: Slot) {
        let session = &self.sessions[slot];
        let (rules, count) = (&session.presence.rules, session.subscriptions.len());
        let narrowed = rules.policy().is_some()
            && (count > FILTERS_AT_ONCE
                || session
                    .subscriptions
                    .iter()
                    .any(|subscription| rules.narrow(&subscription.filter)));
        self.work += turns::SUBSCRIPTION * count.min(FILTERS_AT_ONCE);
        self.sessions[slot].narrowed = narrowed;
    }

    /// What waits for a session by a shared subscription, and its client may not read, goes to members who may. What nobody else may read now stays: when its
    /// turn comes, others are asked once more, see [`Bus::pump`].
    pub(crate) fn hand_on_unreadable(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) {
        let session = &self.sessions[slot];
        let queue = &session.deliveries.queue;
        if !session.narrowed || queue.is_empty() {
            return;
        }
        let enough = self.work + Self::steps_of_a_turn();
        let unreadable =
            |queued: &Queued| queued.may_go_to_another() && !session.may_read(&queued.message.topic);
        let wanted = queue.iter().enumerate().filter(|(_, queued)| unreadable(queued));
        let wanted = wanted.map(|(at, queued)| (at, queued.group, Arc::clone(&queued.message)));
        let mut targets = VecDeque::new();
        for (at, group, message) in wanted.collect::<Vec<_>>() {
            if self.work >= enough {
                break;
            }
            let target = self.choose(group, &message, Some(slot));
            targets.extend(target.map(|target| (at, target)));
        }
        let mut at = 0;
        let mut next = targets.iter().map(|(at, _)| *at).peekable();
        let chosen = |_: &Queued| {
            at += 1;
            next.next_if_eq(&(at - 1)).is_some()
        };
        let queue = &mut self.sessions[slot].deliveries.queue;
        let left = queue.take(chosen, &mut self.gauges);
        for (queued, (_, target)) in left.into_iter().zip(targets) {
            self.hand_on(slot, &queued, target, now, out);
        }
    }

    /// Whether the session had other rules.
    fn take_valid_rules(&mut self, slot: Slot, out: &mut BusOutputs) -> bool {
        self.work += turns::SUBSCRIPTION;
        let session = &mut self.sessions[slot];
        let who = &session.presence;
        let Some(rules) = who.rules.renewed(&session.client, who) else {
            return false;
        };
        session.presence = Arc::new(Presence {
            rules,
            ..(**who).clone()
        });
        if let Some(endpoint) = session.endpoint() {
            let renewed = Arc::clone(&session.presence);
            out.events.push((endpoint, BusEvent::RulesChanged(renewed)));
        }
        true
    }

    /// The rules have changed: one more step on the way to where all sessions have them. How to go on; `None` at the end.
    pub fn renew_rules(
        &mut self,
        change: RulesChange,
        now: Instant,
        out: &mut BusOutputs,
    ) -> Option<RulesChange> {
        let enough = self.work + FILTERS_AT_ONCE * turns::SUBSCRIPTION;
        let places = self.sessions.places();
        let (RulesChange::Renew(from) | RulesChange::HandOn(from)) = change;
        let until = places.min(from + SESSIONS_AT_ONCE);
        let mut next = from;
        while next < until && self.work < enough {
            let slot = Slot::try_from(next).expect("fewer than four billion sessions");
            next += 1;
            self.work += 1;
            if self.sessions.get(slot).is_none() {
                continue;
            }
            match change {
                RulesChange::Renew(_) if self.take_valid_rules(slot, out) => self.narrow(slot),
                RulesChange::Renew(_) => {}
                RulesChange::HandOn(_) => self.hand_on_unreadable(slot, now, out),
            }
        }
        match change {
            RulesChange::Renew(_) if next < places => Some(RulesChange::Renew(next)),
            RulesChange::Renew(_) => Some(RulesChange::HandOn(0)),
            RulesChange::HandOn(_) => (next < places).then_some(RulesChange::HandOn(next)),
        }
    }
}
