//! A session is left, ends or falls asleep. MQTT 5 §4.1, MQTT-SN 1.2 §6.14

use crate::acks::Needs;
use crate::attachment::{Attached, Attachment, Stage};
use crate::bus::{Bus, BusOutputs};
use crate::deliveries::Deliveries;
use crate::ledger::seconds;
use crate::session::{NOT_DUE, Session};
use crate::sessions::{SessionRef, Slot};
use crate::stats::DropReason;
use crate::timers::Timer;
use crate::turns;
use headgate_model::{BusEvent, CloseReason, EndpointId, Instant, OpenWill, Qos, StoreOp};
use std::time::Duration;

impl Bus {
    /// An endpoint leaves the bus. One that was taken over has by now handed over all that its client sent before, its goodbye included; then the
    /// next connection gets the session.
    pub(crate) fn leave(
        &mut self,
        endpoint: EndpointId,
        reason: CloseReason,
        expiry: Option<Duration>,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        let Some(slot) = self.sessions.detach(endpoint) else {
            // It may have waited for a session that nobody wants any more.
            return self.take_overs.forget(endpoint);
        };
        self.under_way.remove(&endpoint);
        let session = &mut self.sessions[slot];
        let client = session.client.clone();
        let next = self.take_overs.take(&client);
        let goes_on = session.is_durable() && next.as_ref().is_some_and(|(_, open)| !open.clean_start);
        let keeps_will = next
            .as_ref()
            .is_some_and(|(_, open)| !matches!(open.will, OpenWill::Set(_)));
        let mut kept = None;
        // A will that waits is not sent when the session goes on at once.
        if goes_on && (keeps_will || session.will.as_ref().is_some_and(|w| !w.delay.is_zero())) {
            kept = session.will.take().filter(|_| keeps_will);
        }
        self.detach(slot, reason, expiry, now, out);
        if let Some((endpoint, open)) = next {
            if kept.is_some() && self.sessions.of_client(client.as_str()) == Some(slot) {
                self.sessions[slot].will = kept;
            }
            self.admit(endpoint, open, now, out);
        }
    }

    /// The old connection took too long to hand over.
    pub(crate) fn take_over_is_due(&mut self, session: SessionRef, now: Instant, out: &mut BusOutputs) {
        let session = self.sessions.living(session);
        let attached = session.and_then(|session| session.attachment.attached());
        if let Some(Attached {
            endpoint,
            stage: Stage::Leaving { .. },
            ..
        }) = attached
        {
            self.leave(*endpoint, CloseReason::TakenOver, None, now, out);
        }
    }

    /// The client sleeps as soon as this is durable; then its endpoint leaves, and [`Bus::detach`] finds it written.
    pub(crate) fn fall_asleep(
        &mut self,
        from: EndpointId,
        slot: Slot,
        patience: Option<Duration>,
        expiry: Option<Duration>,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        let expiry = self.changed_expiry(slot, expiry);
        let epoch = self.epoch;
        let session = &mut self.sessions[slot];
        session.expiry = expiry.unwrap_or(session.expiry);
        if let Some(attached) = session.attachment.attached_mut() {
            attached.fall_asleep();
        }
        // Otherwise it ends with its endpoint, and there is nothing to promise.
        let lasts = session.is_durable() && !session.expiry.is_zero();
        if lasts {
            session.recorded = true;
            session.set_patience(patience, now);
            let op = StoreOp::PutSession(session.id, Box::new(session.record(epoch)));
            self.pending.push(op);
        }
        let needs = if lasts { Needs::Disk } else { Needs::Nothing };
        self.answer(from, BusEvent::Asleep, needs, out);
    }

    /// The endpoint has gone; the session ends or waits.
    pub(crate) fn detach(
        &mut self,
        slot: Slot,
        reason: CloseReason,
        expiry: Option<Duration>,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        let expiry = self.changed_expiry(slot, expiry);
        let epoch = self.epoch;
        let session = &mut self.sessions[slot];
        let store_qos0 = session.rules(&self.queue_rules).store_qos0;
        let sleeps = matches!(reason, CloseReason::Asleep(_));
        let is_written = sleeps && session.attachment.is_falling_asleep();
        let left = seconds(now);
        session.attachment = if sleeps {
            Attachment::Asleep { left }
        } else {
            Attachment::Away { left }
        };
        session.deliveries.end_connection(&mut self.gauges);
        if let Some(expiry) = expiry {
            session.expiry = expiry;
        }
        if !sleeps {
            out.notices.push(session.disconnected(reason));
        }
        if reason == CloseReason::Shutdown {
            return; // What is in the store is what shall be found at the next start.
        }
        if reason == CloseReason::Normal {
            session.will = None; // [MQTT-3.14.4-3]
        }
        if session.expiry.is_zero() || !session.is_durable() {
            if reason == CloseReason::KeepingWill {
                session.will = None;
            }
            self.end_session(slot, now, out);
            return;
        }
        let keeps_qos0 = store_qos0 || self.settings.sleepers.keeps(session);
        let queue = &mut session.deliveries.queue;
        let qos0 = if keeps_qos0 || queue.qos0() == 0 {
            Vec::new()
        } else {
            queue.take(|queued| queued.qos == Qos::AtMostOnce, &mut self.gauges)
        };
        for queued in &qos0 {
            session.note_drop(
                DropReason::OfflineQos0,
                queued.qos,
                queued.message.topic.as_bytes(),
            );
        }
        if !is_written {
            session.ends_at = session.end_after(now);
            session.will_due = session.will.as_ref().map(|will| now + will.delay);
            match reason {
                CloseReason::KeepingWill => session.will_due = session.will.as_ref().map(|_| NOT_DUE),
                CloseReason::Asleep(patience) => session.set_patience(patience, now),
                _ => {}
            }
            let op = StoreOp::PutSession(session.id, Box::new(session.record(epoch)));
            self.pending.push(op);
        }
        self.set_timers(slot);
        self.trim_sleeper(slot);
        qos0.iter()
            .for_each(|_| self.counters.drop(DropReason::OfflineQos0));
        let session = &self.sessions[slot];
        if session.will_due.is_some_and(|at| at <= now) {
            self.will_is_due(session.named(slot), now, out);
        }
        if reason != CloseReason::TakenOver {
            self.pass_on_shared(slot, now, out); // Otherwise its client is back already.
        }
        self.page_out(slot);
    }

    /// A session that comes back, or ends, must not leave timers behind: one that comes and goes would leave many.
    pub(crate) fn clear_timers(&mut self, slot: Slot) {
        let session = &self.sessions[slot];
        let named = session.named(slot);
        if let Some(at) = session.ends_at {
            self.timers.remove(at, Timer::SessionEnd(named));
        }
        if let Some(at) = session.will_due {
            self.timers.remove(at, Timer::Will(named));
        }
    }

    pub(crate) fn set_timers(&mut self, slot: Slot) {
        let session = &self.sessions[slot];
        let named = session.named(slot);
        if let Some(at) = session.ends_at {
            self.timers.insert(at, Timer::SessionEnd(named));
        }
        if let Some(at) = session.will_due.filter(|at| *at != NOT_DUE) {
            self.timers.insert(at, Timer::Will(named));
        }
    }

    /// Ends a session: its will first, if it is still due \[MQTT-3.1.2-8\]; then everything it held is let go.
    pub(crate) fn end_session(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) {
        self.clear_timers(slot);
        let session = &mut self.sessions[slot];
        let is_due = session.will_due != Some(NOT_DUE);
        if let Some(will) = session.will.take().filter(|_| is_due) {
            self.publish_will(slot, *will, now, out);
        }
        let session = self.sessions.remove(slot);
        self.gauges -= session.gauges();
        self.links.forget(session.id);
        self.work += turns::SUBSCRIPTION / 2 * session.subscriptions.len();
        for held in session.subscriptions.iter() {
            self.index.remove(held.name(), slot);
            if held.exclusive {
                self.index.free_exclusive(&held.filter);
            }
        }
        self.let_go(&session);
        let Deliveries { queue, inflight, .. } = session.deliveries;
        let left = queue.into_entries().into_iter().chain(inflight.into_entries());
        let shared = left.filter(|queued| queued.group != 0).collect();
        self.redistribute(None, shared, now, out);
    }

    pub(crate) fn session_may_end(&mut self, named: SessionRef, now: Instant, out: &mut BusOutputs) {
        let session = self.sessions.living(named);
        let over = |session: &&Session| session.ends_at.is_some_and(|at| at <= now);
        let Some(session) = session.filter(over) else {
            return;
        };
        if session.is_asleep() {
            out.notices.push(session.disconnected(CloseReason::KeepAlive));
        }
        self.counters.expired_sessions += 1;
        self.end_session(named.slot, now, out);
    }
}
