//! The bus after a start: rebuilt from what was durable.

use crate::bus::Bus;
use crate::index::Entry;
use crate::session::{NEVER_DUE, NOT_DUE, Session};
use crate::shared::REDISTRIBUTED;
use headgate_model::bus::{NEVER, Presence};
use headgate_model::store::{SessionImage, StoredMessage};
use headgate_model::{Instant, Message, StoreImage, StoreOp, Will};
use std::sync::Arc;

impl Bus {
    /// Rebuilds everything from what was durable. Called once, on an empty bus, before the first command. What is over by now ends at the
    /// first [`Bus::handle_timeout`].
    pub fn load(&mut self, image: StoreImage) {
        self.numbers.restore(image.next_session);
        for session in image.sessions {
            self.restore_session(session);
        }
        self.restore_retained(image.retained);
        self.restore_delayed(image.delayed);
    }

    /// The number of whoever published it is given: a store of an earlier version does not say how far they went.
    pub(crate) fn note_publisher(&mut self, message: &Message) {
        if let Some(session) = message.publisher {
            self.numbers.note_session(session);
        }
    }

    /// A message of the store, with its expiry as the bus counts time.
    pub(crate) fn read_back(&self, stored: StoredMessage) -> Arc<Message> {
        let mut message = stored.message;
        let expires_at = stored.expires.map(|wall| wall.to_instant(self.epoch));
        if message.expires_at != expires_at {
            Arc::make_mut(&mut message).expires_at = expires_at;
        }
        if let Some(message) = Arc::get_mut(&mut message) {
            message.charge();
        }
        message
    }

    fn restore_session(&mut self, image: SessionImage) {
        let SessionImage {
            id,
            record,
            note,
            subscriptions,
            next_seq,
            lanes,
            held,
            received,
        } = image;
        self.numbers.note_session(id);
        for lane in &lanes {
            self.store.add(usize::try_from(lane.bytes).unwrap_or(usize::MAX));
        }
        if record.ends == Some(REDISTRIBUTED) {
            return self.restore_redistribution(id, lanes);
        }
        let mut session = Session::new(id, record.client_id.clone());
        if record.username.is_some() {
            session.presence = Arc::new(Presence {
                username: record.username.clone(),
                ..Presence::default()
            });
        }
        session.recorded = true;
        if !record.expiry.is_zero() {
            session.make_durable(&mut self.gauges);
        }
        session.expiry = record.expiry;
        session.wants_expired = record.wants_expired;
        session.put_note(&note, &mut self.gauges);
        received
            .into_iter()
            .for_each(|packet| session.rare.put_received(packet));
        session.ends_at = match record.ends {
            Some(wall) => Some(wall.to_instant(self.epoch)),
            // Connected when the gateway stopped: its time begins now. One that was kept for its will alone ends now.
            None if record.expiry == NEVER => None,
            None => Some(Instant::START + record.expiry),
        };
        if let Some(will) = record.will {
            session.will_due = Some(match will.due {
                // It was connected. The will comes when its session ends, if not before. [MQTT-3.1.3-9]
                None if record.expiry.is_zero() => Instant::START,
                None => Instant::START + will.delay,
                Some(NEVER_DUE) => NOT_DUE,
                Some(wall) => wall.to_instant(self.epoch),
            });
            let message = Arc::unwrap_or_clone(will.message);
            session.will = Some(Box::new(Will {
                message,
                delay: will.delay,
                message_expiry: will.message_expiry,
            }));
        }
        // What was handed over and settled has left no entry, but its number is not given again.
        let next_seq = next_seq.max(record.unsent_from.unwrap_or(0));
        let deliveries = &mut session.deliveries;
        deliveries.next_seq = next_seq;
        // In doubt it was handed over: DUP is allowed to be wrong that way round.
        deliveries.unsent_from = record.unsent_from.unwrap_or(next_seq);
        for lane in lanes {
            deliveries.lanes.restore(lane, &mut self.gauges);
        }
        for delivery in held {
            self.store.add(delivery.entry.size as usize);
            let mut queued = self.read_queued(delivery, true);
            (queued.received, queued.carried) = (true, true);
            deliveries.inflight.push(queued, &mut self.gauges);
        }
        if record.unsent_from.is_none() {
            // Connected when the gateway stopped, away from now on: the next restart must not let its time begin anew.
            let op = StoreOp::PutSession(id, Box::new(session.record(self.epoch)));
            self.pending.push(op);
        }
        let slot = self.sessions.insert(session);
        for subscription in subscriptions {
            self.index.insert(
                &subscription.filter,
                subscription.share.as_ref(),
                Entry::new(slot, &subscription.options),
                false,
            );
            if subscription.exclusive {
                self.index.hold_exclusively(&subscription.filter, slot);
            }
            self.sessions[slot].hold(subscription, &mut self.gauges);
        }
        self.set_timers(slot);
    }
}
