//! MESSAGE: what the client receives. STOMP 1.2, MESSAGE

use crate::counters::StompMetric;
use crate::endpoint::{Out, Phase, StompEndpoint};
use crate::subscriptions::{AckId, AckMode, OWN, Seat, Unsettled};
use crate::wire::{Outgoing, Sent};
use headgate_model::{Delivery, Instant, Metric, Qos, SessionKey};
use std::sync::Arc;

impl StompEndpoint {
    /// A message comes once for a session, and goes to the client once for each of its subscriptions that want it.
    pub(crate) fn on_delivery(
        &mut self,
        session: SessionKey,
        delivery: Delivery,
        now: Instant,
        out: &mut Out,
    ) {
        if !matches!(self.phase, Phase::Open(_)) {
            return; // The client said DISCONNECT: it stays in its session.
        }
        // MQTT 5 §3.3.2.3.3: an expired message is not sent, unless its transmission has begun.
        let expired = delivery.message.is_expired(now) && !delivery.redelivered;
        let ids: &[u32] = delivery.subscription_ids.as_ref().map_or(&[], |ids| &ids[..]);
        if session == OWN {
            if !expired && !self.carries(&delivery) {
                return self.drop_message(session, &delivery, StompMetric::NotTextDropped, out);
            }
            for number in ids.iter().filter(|_| !expired) {
                self.send_message(*number, &delivery, now, out);
            }
            return self.done_with(session, &delivery, out);
        }
        let Some(Seat::Subscription(number)) = self.subscriptions.seat(session) else {
            return;
        };
        let Some(subscription) = self.subscriptions.get(number) else {
            return;
        };
        // A durable subscription may have stood for another filter when this was queued.
        if expired || !ids.contains(&subscription.identifier) {
            return self.done_with(session, &delivery, out);
        }
        if !self.carries(&delivery) {
            let message = Unsettled { delivery, nacks: 0 };
            return self.bury(session, number, message, StompMetric::NotTextDropped, out);
        }
        let waits = subscription.ack != AckMode::Auto;
        let id = self.send_message(number, &delivery, now, out);
        match id.filter(|_| waits) {
            Some(id) => self.subscriptions.hold(id, Unsettled { delivery, nacks: 0 }),
            None => self.done_with(session, &delivery, out),
        }
    }

    /// Whether it can be brought to the client: all of a MESSAGE but its body is UTF-8 in any case.
    fn carries(&self, delivery: &Delivery) -> bool {
        !self.carries_text_only || std::str::from_utf8(&delivery.message.payload).is_ok()
    }

    /// A delivery needs nothing of the client any more: the next one may come.
    pub(crate) fn done_with(&mut self, session: SessionKey, delivery: &Delivery, out: &mut Out) {
        out.grant_credit(session, delivery.message.size());
        self.settle(session, delivery, None, out);
    }

    fn send_message(
        &mut self,
        number: u32,
        delivery: &Delivery,
        now: Instant,
        out: &mut Out,
    ) -> Option<AckId> {
        let version = self.version;
        let unmount = self.naming.mount.hidden(&delivery.message.topic);
        let subscription = self.subscriptions.get_mut(number)?;
        let serial = subscription.next_serial();
        let id = AckId { number, serial };
        let expires_at = delivery.message.expires_at;
        let outgoing = Outgoing {
            version,
            message: Arc::clone(&delivery.message),
            unmount,
            subscription: subscription.id.clone(),
            id,
            wants_ack: subscription.ack != AckMode::Auto,
            retain: delivery.retain,
            redelivered: delivery.redelivered,
            expiry: expires_at
                .map(|at| at.since(now).as_millis().div_ceil(1_000))
                .and_then(|s| s.try_into().ok()),
        };
        out.counts.add_own(StompMetric::MessageSent);
        out.counts.add(match delivery.qos {
            Qos::AtMostOnce => Metric::Qos0Sent,
            Qos::AtLeastOnce => Metric::Qos1Sent,
            Qos::ExactlyOnce => Metric::Qos2Sent,
        });
        if delivery.redelivered {
            out.counts.add_own(StompMetric::MessageRedelivered);
        }
        out.frames.push(Sent::Message(outgoing));
        Some(id)
    }

    /// Sends again what came back by NACK, if its subscription is still there.
    pub(crate) fn send_returning(&mut self, now: Instant, out: &mut Out) {
        while let Some((number, mut unsettled)) = self.subscriptions.take_returning(now) {
            unsettled.delivery.redelivered = true;
            if !self.carries(&unsettled.delivery) {
                // Its dead letter was refused.
                if let Some(session) = self.subscriptions.get(number).map(|of| of.session) {
                    self.bury(session, number, unsettled, StompMetric::NotTextDropped, out);
                }
                continue;
            }
            if let Some(id) = self.send_message(number, &unsettled.delivery, now, out) {
                self.subscriptions.hold(id, unsettled);
            }
        }
    }
}
