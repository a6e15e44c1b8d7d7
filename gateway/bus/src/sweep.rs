//! Messages that expire while they wait in the store alone: they hold places, and nobody looks at them. MQTT 5 §3.3.2.3.3
//!
//! A lane knows the earliest expiry of what it holds. When that is over, the lane is read through and what has expired is dropped: once a minute at the
//! latest, and at once when its queue is full. What was sent before stays, for the receiver may hold its packet identifier \[MQTT-4.4.0-1\], and so do
//! queues of links, whose ledgers know their messages by order; those expire when they would be sent.

use crate::bus::{Bus, BusOutputs, Timer};
use crate::index::Slot;
use crate::lanes::NO_EXPIRY;
use crate::paging::FetchRequest;
use crate::stats::DropReason;
use headgate_model::store::Fetched;
use headgate_model::{Instant, StoreOp};
use std::time::Duration;

/// How often sessions are looked through.
const SWEEP: Duration = Duration::from_secs(60);
/// Lanes that are being read at a time when nobody is in a hurry, and the pause until the next one.
const UNDER_WAY: usize = 256;
const PAUSE: Duration = Duration::from_millis(50);
/// Sessions looked at in one turn.
const AT_ONCE: usize = 1_024;

impl Bus {
    /// Something that expires waits in the store alone: somebody must look.
    pub(crate) fn arm_sweep(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.sweep_is_armed, true) {
            self.timers.insert((now + SWEEP, Timer::Sweep(0)));
        }
    }

    /// Looks at some sessions, from this one on.
    pub(crate) fn sweep(&mut self, from: Slot, now: Instant) {
        let end = self.sessions.len().min(from as usize + AT_ONCE);
        self.sweep_finds &= from > 0;
        for slot in from as usize..end {
            let slot = Slot::try_from(slot).expect("fewer than four billion sessions");
            if self.sweeps >= UNDER_WAY {
                self.timers.insert((now + PAUSE, Timer::Sweep(slot)));
                return;
            }
            if let Some(session) = self.sessions[slot as usize].as_deref() {
                self.sweep_finds |= session.lanes.iter().any(|lane| lane.expires < NO_EXPIRY);
                self.begin_sweep(slot, now);
            }
        }
        if end < self.sessions.len() {
            let next = Slot::try_from(end).expect("fewer than four billion sessions");
            self.timers.insert((now, Timer::Sweep(next)));
        } else {
            self.sweep_is_armed = false;
            if self.sweep_finds {
                self.arm_sweep(now);
            }
        }
    }

    /// Has the lanes of a queue read through that may hold something expired. Whether that is under way.
    pub(crate) fn begin_sweep(&mut self, slot: Slot, now: Instant) -> bool {
        let session = self.sessions[slot as usize]
            .as_deref_mut()
            .expect("a slot in use holds a session");
        if session.link.is_some() || self.flushing.contains_key(&session.id) {
            return false;
        }
        let mut under_way = false;
        for lane in session.lanes.iter_mut() {
            under_way |= lane.sweeping.is_some();
            if lane.expires > now || lane.sweeping.is_some() || lane.asked.is_some() {
                continue;
            }
            lane.sweeping = Some((self.next_ticket, NO_EXPIRY));
            lane.expires = NO_EXPIRY;
            if lane.batch == self.pending.number {
                self.pending.hurry();
            }
            let (id, priority, from) = (session.id, lane.priority, lane.from);
            self.fetches
                .push(FetchRequest::sweep(id, priority, from, slot, self.next_ticket));
            self.next_ticket += 1;
            self.sweeps += 1;
            under_way = true;
        }
        under_way
    }

    /// A part of a lane was read: what has expired goes.
    pub(crate) fn swept(
        &mut self,
        slot: Slot,
        request: FetchRequest,
        found: Fetched,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        self.sweeps -= 1;
        let epoch = self.epoch;
        let Some(session) = self.sessions[slot as usize]
            .as_deref_mut()
            .filter(|session| session.id == request.session)
        else {
            return;
        };
        let unsent_from = session.unsent_from;
        let id = session.id;
        let Some(lane) = session.lanes.get_mut(request.lane) else {
            return;
        };
        let Some((ticket, mut earliest)) = lane.sweeping.filter(|(ticket, _)| *ticket == request.ticket())
        else {
            return;
        };
        if lane.asked.is_some() {
            // Its client is here, and gets what is good.
            (lane.sweeping, lane.expires) = (None, now);
            return;
        }
        let from = lane.from;
        let (mut count, mut bytes) = (0, 0);
        for delivery in found.deliveries.iter().filter(|delivery| delivery.seq >= from) {
            let expires = delivery.message.expires.map(|wall| wall.to_instant(epoch));
            match expires {
                Some(at) if delivery.seq >= unsent_from && at <= now => {
                    self.pending.push(StoreOp::DeleteQueued(id, delivery.seq));
                    count += 1;
                    bytes += delivery.entry.size as usize;
                }
                Some(at) if delivery.seq >= unsent_from => earliest = earliest.min(at),
                Some(_) | None => {}
            }
        }
        if count > 0 {
            lane.batch = self.pending.number;
        }
        if found.at_end {
            (lane.sweeping, lane.expires) = (None, lane.expires.min(earliest));
        } else {
            lane.sweeping = Some((ticket, earliest));
            self.sweeps += 1;
            self.fetches
                .push(FetchRequest::sweep(id, request.lane, found.next, slot, ticket));
        }
        session.lanes.take(request.lane, count, bytes);
        self.stored_bytes = self.stored_bytes.saturating_sub(bytes);
        for _ in 0..count {
            self.counters.drop(DropReason::Expired);
        }
        self.work += found.deliveries.len();
        if self.session(slot).tell_drained {
            self.pump(slot, now, out);
        }
    }
}
