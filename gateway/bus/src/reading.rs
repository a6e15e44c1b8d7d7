//! What a client may read of what its filters match.
//!
//! A subscription is let in by the gate, as a whole. Where its rules deny a part of it, that part is found here, message by message: a filter that meets
//! no such rule costs one look at a flag. Rules are asked again when a session goes on, when its client proves anew who it is, and when they change.

use crate::bus::{Bus, BusOutputs};
use crate::session::Session;
use crate::sessions::Slot;
use headgate_model::bus::Presence;
use headgate_model::{BusEvent, Topic};
use std::sync::Arc;

/// Filters of a session that are held against its rules at once; of one that has more, every message is.
const FILTERS_AT_ONCE: usize = 256;

impl Session {
    /// Whether its client may read what has this topic.
    pub(crate) fn may_read(&self, topic: &Topic) -> bool {
        !self.narrowed || self.presence.rules.may_read(topic)
    }
}

impl Bus {
    /// Holds all subscriptions of a session against the rules of its client.
    pub(crate) fn look_at_rules(&mut self, slot: Slot) {
        let session = &mut self.sessions[slot];
        let rules = &session.presence.rules;
        session.narrowed = rules.policy().is_some()
            && (session.subscriptions.len() > FILTERS_AT_ONCE
                || session
                    .subscriptions
                    .iter()
                    .any(|subscription| rules.narrow(&subscription.filter)));
    }

    /// The rules have changed: some of the sessions, from this place on, get theirs as they are now. Where to go on; `None` at the end.
    pub fn renew_rules(&mut self, from: usize, out: &mut BusOutputs) -> Option<usize> {
        let until = self.sessions.places().min(from + FILTERS_AT_ONCE);
        for slot in from..until {
            let slot = Slot::try_from(slot).expect("fewer than four billion sessions");
            let Some(session) = self.sessions.get_mut(slot) else {
                continue;
            };
            let who = &session.presence;
            let Some(rules) = who.rules.renewed(&session.client, who) else {
                continue;
            };
            session.presence = Arc::new(Presence {
                rules,
                ..(**who).clone()
            });
            if let Some(endpoint) = session.endpoint() {
                let renewed = Arc::clone(&session.presence);
                out.events.push((endpoint, BusEvent::RulesChanged(renewed)));
            }
            self.look_at_rules(slot);
        }
        (until < self.sessions.places()).then_some(until)
    }
}
