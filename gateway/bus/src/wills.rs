//! Wills: sent when their time has come, and changed while their session is open. MQTT 5 §3.1.2.5, MQTT-SN 1.2 §6.4

use crate::acks::Needs;
use crate::attachment::Attachment;
use crate::bus::{Bus, BusOutputs};
use crate::ledger::seconds;
use crate::routing::Origin;
use crate::session::Session;
use crate::sessions::{SessionRef, Slot};
use crate::stats::DropReason;
use bytes::Bytes;
use headgate_model::gate::is_of_gateway;
use headgate_model::memory::Want;
use headgate_model::{
    BusEvent, CloseReason, EndpointId, Instant, Message, StoreOp, Will, WillChange, WillTopic,
};
use std::time::Duration;

impl Bus {
    pub(crate) fn will_is_due(&mut self, named: SessionRef, now: Instant, out: &mut BusOutputs) {
        let epoch = self.epoch;
        let session = self.sessions.living_mut(named);
        let is_due = |session: &&mut Session| session.will_due.is_some_and(|at| at <= now);
        let Some(session) = session.filter(is_due) else {
            return;
        };
        session.will_due = None;
        if session.is_asleep() {
            session.attachment = Attachment::Away { left: seconds(now) };
            out.notices.push(session.disconnected(CloseReason::KeepAlive));
        }
        let Some(will) = session.will.take() else { return };
        let op = StoreOp::PutSession(session.id, Box::new(session.record(epoch)));
        self.pending.push(op);
        self.publish_will(named.slot, *will, now, out);
    }

    /// An open session changes its will. MQTT-SN 1.2 §6.4
    pub(crate) fn change_will(
        &mut self,
        from: EndpointId,
        slot: Slot,
        change: WillChange,
        out: &mut BusOutputs,
    ) {
        let size = match &change {
            WillChange::Remove => 0,
            WillChange::Topic(place) => place.topic.as_bytes().len(),
            WillChange::Payload(payload) => payload.len(),
        };
        if size > 0 && (self.store.is_full || !self.has_memory(Want::ToKeep, size)) {
            self.counters.drop(DropReason::MemoryFull);
            self.answer(from, BusEvent::WillChanged(false), Needs::Nothing, out);
            return;
        }
        let epoch = self.epoch;
        let session = &mut self.sessions[slot];
        let known = session.will.is_some();
        let changed = match change {
            WillChange::Remove => {
                session.will = None;
                true
            }
            WillChange::Topic(place) => {
                let WillTopic { topic, qos, retain } = place.into_inner();
                let old = session.will.take().map(|will| *will);
                let payload = old.as_ref().map(|will| will.message.payload.clone());
                let message = Message::new(topic, payload.unwrap_or_default());
                session.will = Some(Box::new(Will {
                    message: Message {
                        qos,
                        retain,
                        ..message
                    }
                    .compact(),
                    delay: old.as_ref().map_or(Duration::ZERO, |will| will.delay),
                    message_expiry: old.and_then(|will| will.message_expiry),
                }));
                true
            }
            // What a client may say of itself under $SYS came through the gate as a whole.
            WillChange::Payload(_)
                if session
                    .will
                    .as_ref()
                    .is_some_and(|will| is_of_gateway(&will.message)) =>
            {
                false
            }
            WillChange::Payload(payload) => {
                if let Some(will) = &mut session.will {
                    will.message.payload = Bytes::copy_from_slice(&payload);
                    will.message.charge();
                }
                known
            }
        };
        let written = changed && (known || session.will.is_some());
        if written {
            session.recorded = true;
            if let Some(attached) = session.attachment.attached_mut() {
                attached.note_written();
            }
            let op = StoreOp::PutSession(session.id, Box::new(session.record(epoch)));
            self.pending.push(op);
        }
        let needs = if written { Needs::Disk } else { Needs::Nothing };
        self.answer(from, BusEvent::WillChanged(changed), needs, out);
    }

    /// A will that the rules of its client allow no more goes nowhere.
    pub(crate) fn publish_will(&mut self, slot: Slot, will: Will, now: Instant, out: &mut BusOutputs) {
        let rules = &self.sessions[slot].presence.rules;
        if !is_of_gateway(&will.message) && !rules.may_still_publish(&will.message) {
            self.counters.drop(DropReason::NotAuthorized);
            return;
        }
        let mut message = Message {
            expires_at: will.message_expiry.map(|interval| now + interval),
            publisher: Some(self.sessions[slot].id),
            ..will.message
        };
        self.stamp(&mut message, false, now);
        // There is nobody to tell of a refusal; drops are counted where they happen.
        let _ = self.ingest(message, Origin::Session(slot), now, out);
    }
}
