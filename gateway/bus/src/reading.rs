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
use std::sync::Arc;

/// Filters of a session that are held against its rules at once; of one that has more, every message is.
const FILTERS_AT_ONCE: usize = 256;
/// Sessions that get other rules in one turn, which may have to be made for each.
const SESSIONS_AT_ONCE: usize = 32;

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
        if narrowed {
            // What others of its groups may read is not lost.
            let unreadable = |bus: &Self, queued: &Queued| {
                let session = &bus.sessions[slot];
                queued.group != 0 && !queued.sent && !session.may_read(&queued.message.topic)
            };
            self.redistribute_queued(slot, Some(slot), unreadable, now, out);
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

    /// The rules have changed: some of the sessions, from this place on, get theirs as they are now. Where to go on; `None` at the end.
    pub fn renew_rules(&mut self, from: usize, now: Instant, out: &mut BusOutputs) -> Option<usize> {
        let enough = self.work + FILTERS_AT_ONCE * turns::SUBSCRIPTION;
        let places = self.sessions.places();
        for place in from..places.min(from + SESSIONS_AT_ONCE) {
            let slot = Slot::try_from(place).expect("fewer than four billion sessions");
            if self.sessions.get_mut(slot).is_some() && self.take_valid_rules(slot, out) {
                self.look_at_rules(slot, now, out);
            }
            if self.work >= enough {
                return Some(place + 1).filter(|next| *next < places);
            }
        }
        Some(from + SESSIONS_AT_ONCE).filter(|next| *next < places)
    }
}
