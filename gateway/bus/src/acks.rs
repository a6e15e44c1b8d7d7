//! Acknowledgements that wait until what they promise is safe, and deliveries that wait until their entry is.
//!
//! Always true: an answer never overtakes an earlier one to the same endpoint. \[MQTT-4.6.0-2\]

use crate::bus::{Bus, BusOutputs};
use crate::pending::{AckRef, BodyRef};
use crate::publish::HUB;
use crate::sessions::{SessionRef, Sessions, Slot};
use headgate_model::bus::Refusal;
use headgate_model::{BusEvent, CloseReason, EndpointId, Instant};
use std::collections::{BTreeMap, VecDeque};

/// Who waits for which batch.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    /// Number of the last batch that is durable.
    committed: u64,
    /// Endpoints with answers that wait.
    endpoints: BTreeMap<u64, Vec<EndpointId>>,
    /// Sessions that have deliveries to send.
    sessions: BTreeMap<u64, Vec<SessionRef>>,
    /// Answers to [`HUB`] that wait.
    hub: Option<Box<Answers>>,
}

/// Answers to one endpoint that wait, in order.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    waiting: VecDeque<PendingAnswer>,
    /// Serial number of the first of them.
    first: u64,
    /// The last batch for which the endpoint is listed.
    listed_for: u64,
}

/// An answer that waits until what it promises is safe.
#[derive(Debug)]
struct PendingAnswer {
    /// None for what is not answered, but may not be overtaken.
    event: Option<BusEvent>,
    /// The QoS 2 identifier that the answer accepts.
    dedup: Option<u16>,
    /// It is safe when this batch is durable,
    batch: u64,
    /// or when all of so many queue entries are settled.
    unsettled: u32,
}

/// What an answer waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Needs {
    Nothing,
    /// Everything written so far is durable.
    Disk,
    /// Durable, or settled: the queue entries of this body.
    Entries(BodyRef),
}

/// More than can ever be settled.
const DISK_ONLY: u32 = u32::MAX;

impl Acks {
    /// Number of the last batch that is durable, or has failed.
    #[inline]
    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    fn commit(&mut self, batch: u64) {
        self.committed = self.committed.max(batch);
    }

    fn take_endpoints(&mut self, batch: u64) -> impl Iterator<Item = EndpointId> + use<> {
        take_up_to(&mut self.endpoints, batch)
    }

    fn take_sessions(&mut self, batch: u64) -> impl Iterator<Item = SessionRef> + use<> {
        take_up_to(&mut self.sessions, batch)
    }
}

fn take_up_to<T>(lists: &mut BTreeMap<u64, Vec<T>>, batch: u64) -> impl Iterator<Item = T> + use<T> {
    let later = lists.split_off(&(batch + 1));
    std::mem::replace(lists, later).into_values().flatten()
}

impl Answers {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn push(&mut self, answer: PendingAnswer) {
        if self.waiting.capacity() == 0 {
            self.waiting.reserve_exact(1); // And not four: for most there is one, once.
        }
        self.waiting.push_back(answer);
    }

    /// The serial number of the next one.
    fn next(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    /// Takes the first one, if nothing it waits for comes after this batch.
    fn pop(&mut self, batch: u64) -> Option<PendingAnswer> {
        let answer = self
            .waiting
            .pop_front_if(|answer| answer.unsettled == 0 || answer.batch <= batch)?;
        self.first += 1;
        Some(answer)
    }

    /// One of the queue entries that an answer waits for is settled. Whether it is the first one and waits for nothing any more.
    fn settle(&mut self, serial: u64) -> bool {
        let at = serial.checked_sub(self.first).map(usize::try_from);
        let Some(Ok(at)) = at else { return false };
        let Some(answer) = self.waiting.get_mut(at) else {
            return false;
        };
        if answer.unsettled != DISK_ONLY {
            answer.unsettled -= 1;
        }
        answer.unsettled == 0 && at == 0
    }
}

/// Where answers to this endpoint wait.
fn answers_of<'a>(
    endpoint: EndpointId,
    sessions: &'a mut Sessions,
    hub: &'a mut Option<Box<Answers>>,
) -> Option<&'a mut Option<Box<Answers>>> {
    if endpoint == HUB {
        return Some(hub);
    }
    let slot = sessions.of_endpoint(endpoint)?;
    let attached = sessions[slot].attachment.attached_mut()?;
    Some(&mut attached.answers)
}

impl Bus {
    /// All batches up to this one are durable: what waited for them is answered.
    pub fn committed(&mut self, batch: u64, now: Instant, out: &mut BusOutputs) {
        self.acks.commit(batch);
        self.look_at_memory();
        for endpoint in self.acks.take_endpoints(batch) {
            self.release_answers(endpoint, now, out);
        }
        self.pump_committed(batch, now, out);
        self.go_on_flushing(now, out);
    }

    /// The batches up to this one could not be made durable: nothing they hold is promised. Publishers are refused; whoever waited for
    /// something else is thrown out, to come back and ask again.
    pub fn commit_failed(&mut self, batch: u64, now: Instant, out: &mut BusOutputs) {
        self.acks.commit(batch);
        self.links.duplicates.clear();
        self.numbers.forget_reservation(); // It may have been in there.
        for to in self.acks.take_endpoints(batch) {
            while let Some(answer) = self.answers_mut(to).and_then(|answers| answers.pop(batch)) {
                self.answer_failed(to, answer, now, out);
            }
        }
        self.pump_committed(batch, now, out);
        self.go_on_flushing(now, out);
    }

    fn answers_mut(&mut self, endpoint: EndpointId) -> Option<&mut Answers> {
        answers_of(endpoint, &mut self.sessions, &mut self.acks.hub)?.as_deref_mut()
    }

    /// Sends the answers of an endpoint that wait for nothing any more.
    fn release_answers(&mut self, to: EndpointId, now: Instant, out: &mut BusOutputs) {
        let committed = self.acks.committed();
        while let Some(answer) = self.answers_mut(to).and_then(|answers| answers.pop(committed)) {
            let opened = matches!(answer.event, Some(BusEvent::Opened { .. }));
            out.events.extend(answer.event.map(|event| (to, event)));
            let Some(slot) = self.sessions.of_endpoint(to) else {
                continue;
            };
            if opened {
                // Most clients need no other for long. It was the first, so no queue entry knows an answer by its number.
                let attached = self.sessions[slot].attachment.attached_mut();
                let answers = attached.map(|attached| &mut attached.answers);
                answers.and_then(|answers| answers.take_if(|answers| answers.is_empty()));
                self.finish_open(slot, now, out);
            } else if !self.sessions[slot].scans.is_empty() {
                self.pump(slot, now, out);
            }
        }
    }

    /// One of the queue entries that an answer waits for is settled.
    pub(crate) fn entry_settled(&mut self, ack: AckRef, now: Instant, out: &mut BusOutputs) {
        let answers = self.answers_mut(ack.endpoint);
        if answers.is_some_and(|answers| answers.settle(ack.serial)) {
            self.release_answers(ack.endpoint, now, out);
        }
    }

    fn answer_failed(&mut self, to: EndpointId, answer: PendingAnswer, now: Instant, out: &mut BusOutputs) {
        let PendingAnswer {
            event,
            dedup,
            unsettled,
            ..
        } = answer;
        match event {
            event if unsettled == 0 => out.events.extend(event.map(|event| (to, event))),
            Some(BusEvent::Accepted(token, _)) => {
                // What the publisher sends under this identifier from now on is a new message. [MQTT-4.3.3-9]
                if let Some((packet, slot)) = dedup.zip(self.sessions.of_endpoint(to)) {
                    self.sessions[slot].rare.remove_received(packet);
                }
                out.events
                    .push((to, BusEvent::Refused(token, Refusal::StoreFailed)));
            }
            _ => {
                out.events.push((to, BusEvent::Kicked));
                self.leave(to, CloseReason::Kicked, None, now, out);
            }
        }
    }

    /// Lists the session to go on when the open batch is durable.
    pub(crate) fn wait_for_commit(&mut self, slot: Slot) {
        let batch = self.pending.number;
        let session = &mut self.sessions[slot];
        if session.deliveries.listed_for != batch {
            session.deliveries.listed_for = batch;
            let session = session.named(slot);
            self.acks.sessions.entry(batch).or_default().push(session);
        }
    }

    fn pump_committed(&mut self, batch: u64, now: Instant, out: &mut BusOutputs) {
        for session in self.acks.take_sessions(batch) {
            if self.sessions.living(session).is_some() {
                self.pump(session.slot, now, out);
            }
        }
    }

    /// Answers an endpoint: now, or when what it `needs` is safe; never before an earlier answer. Whether it was now.
    pub(crate) fn answer(
        &mut self,
        to: EndpointId,
        event: BusEvent,
        needs: Needs,
        out: &mut BusOutputs,
    ) -> bool {
        self.answer_publish(to, Some(event), None, needs, out)
    }

    /// What is answered to this endpoint from now on is answered when everything written so far is durable.
    pub(crate) fn hold_answers(&mut self, to: EndpointId, out: &mut BusOutputs) {
        self.answer_publish(to, None, None, Needs::Disk, out);
    }

    /// [`Bus::answer`] that accepts a QoS 2 publish of this identifier.
    pub(crate) fn answer_publish(
        &mut self,
        to: EndpointId,
        event: Option<BusEvent>,
        dedup: Option<u16>,
        needs: Needs,
        out: &mut BusOutputs,
    ) -> bool {
        let Some(answers) = answers_of(to, &mut self.sessions, &mut self.acks.hub) else {
            return false;
        };
        let unsettled = match needs {
            Needs::Nothing => 0,
            Needs::Disk => {
                self.pending.hurry();
                DISK_ONLY
            }
            Needs::Entries(body) => {
                let serial = answers.get_or_insert_default().next();
                self.pending.set_ack(body, AckRef { endpoint: to, serial })
            }
        };
        let batch = self.pending.last();
        let safe = unsettled == 0 || batch <= self.acks.committed;
        if safe && answers.as_deref().is_none_or(Answers::is_empty) {
            out.events.extend(event.map(|event| (to, event)));
            return true;
        }
        let answers = answers.get_or_insert_default();
        answers.push(PendingAnswer {
            event,
            dedup,
            batch,
            unsettled: if safe { 0 } else { unsettled },
        });
        if !safe && answers.listed_for < batch {
            answers.listed_for = batch;
            self.acks.endpoints.entry(batch).or_default().push(to);
        }
        false
    }

    /// What an answer needs that promises what was written since the open batch had `written` operations.
    pub(crate) fn disk_if_more_than(&self, written: usize) -> Needs {
        if self.pending.len() > written {
            Needs::Disk
        } else {
            Needs::Nothing
        }
    }
}
