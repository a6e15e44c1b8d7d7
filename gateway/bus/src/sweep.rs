//! Messages that expire while they wait in the store alone: they hold places, and nobody looks at them. MQTT 5 §3.3.2.3.3
//!
//! A lane knows the earliest expiry of what it holds. When that is over, the lane is read through and what has expired is dropped: once a minute at the
//! latest, and at once when its queue is full. What was sent before stays, for the receiver may hold its packet identifier \[MQTT-4.4.0-1\], and so do
//! queues of links, whose ledgers know their messages by order; those expire when they would be sent. Sessions that want what has expired are left alone.

use crate::bus::{Bus, BusOutputs};
use crate::gauges::Load;
use crate::lanes::NO_EXPIRY;
use crate::paging::FetchRequest;
use crate::session::Session;
use crate::sessions::{SessionRef, Slot};
use crate::stats::DropReason;
use headgate_model::store::Fetched;
use headgate_model::{Instant, StoreOp};
use std::time::Duration;

/// How often sessions are looked through.
const INTERVAL: Duration = Duration::from_secs(60);
/// Lanes that are being read at a time when nobody is in a hurry, and the pause until the next one.
const UNDER_WAY: usize = 256;
const PAUSE: Duration = Duration::from_millis(50);
/// Sessions looked at in one turn.
const AT_ONCE: usize = 1_024;

/// How far the round through all sessions is.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// When it goes on, and from which session on.
    next: Option<(Instant, Slot)>,
    /// In this round there was something that expires.
    finds: bool,
    /// Lanes that are being read.
    reading: usize,
}

impl Sweep {
    /// Something that expires waits in the store alone: somebody must look.
    pub(crate) fn arm(&mut self, now: Instant) {
        self.next.get_or_insert((now + INTERVAL, 0));
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }
}

impl Bus {
    /// Looks at some sessions.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let Some((_, from)) = self.sweep.next.take() else {
            return;
        };
        let end = self.sessions.places().min(from as usize + AT_ONCE);
        let end = Slot::try_from(end).expect("fewer than four billion sessions");
        self.sweep.finds &= from > 0;
        for slot in from..end {
            if self.sweep.reading >= UNDER_WAY {
                self.sweep.next = Some((now + PAUSE, slot));
                return;
            }
            let expires = |session: &Session| {
                if session.wants_expired {
                    return false;
                }
                let mut lanes = session.deliveries.lanes.iter();
                lanes.any(|lane| lane.expires < NO_EXPIRY)
            };
            if self.sessions.get(slot).is_some_and(expires) {
                self.sweep.finds = true;
                self.begin_sweep(slot, now);
            }
        }
        if (end as usize) < self.sessions.places() {
            self.sweep.next = Some((now, end));
        } else if self.sweep.finds {
            self.sweep.arm(now);
        }
    }

    /// Has the lanes of a queue read through that may hold something expired. Whether that is under way.
    pub(crate) fn begin_sweep(&mut self, slot: Slot, now: Instant) -> bool {
        let session = &mut self.sessions[slot];
        if session.is_link() || session.wants_expired || self.flushing.contains_key(&session.id) {
            return false;
        }
        let named = session.named(slot);
        let mut under_way = false;
        for lane in session.deliveries.lanes.iter_mut() {
            under_way |= lane.sweeping.is_some();
            if lane.expires > now || lane.sweeping.is_some() || lane.asked.is_some() {
                continue;
            }
            let ticket = self.numbers.ticket();
            lane.sweeping = Some((ticket, NO_EXPIRY));
            lane.expires = NO_EXPIRY;
            if lane.batch == self.pending.number {
                self.pending.hurry();
            }
            self.store
                .ask(FetchRequest::sweep(named, lane.priority, lane.from, ticket));
            self.sweep.reading += 1;
            under_way = true;
        }
        under_way
    }

    /// A part of a lane was read: what has expired goes.
    pub(crate) fn swept(
        &mut self,
        named: SessionRef,
        ticket: u64,
        priority: u8,
        found: Fetched,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        self.sweep.reading -= 1;
        let epoch = self.epoch;
        let Some(session) = self.sessions.living_mut(named) else {
            return;
        };
        let unsent_from = session.deliveries.unsent_from;
        let lanes = &mut session.deliveries.lanes;
        let Some(lane) = lanes.get_mut(priority) else {
            return;
        };
        let Some((_, mut earliest)) = lane.sweeping.filter(|(known, _)| *known == ticket) else {
            return;
        };
        if lane.asked.is_some() {
            // Its client is here, and gets what is good.
            (lane.sweeping, lane.expires) = (None, now);
            return;
        }
        let from = lane.from;
        let mut gone = Load::default();
        for delivery in found.deliveries.iter().filter(|delivery| delivery.seq >= from) {
            let expires = delivery.message.expires.map(|wall| wall.to_instant(epoch));
            match expires {
                Some(at) if delivery.seq >= unsent_from && at <= now => {
                    self.pending.push(StoreOp::DeleteQueued(named.id, delivery.seq));
                    gone.add(delivery.entry.size as usize);
                }
                Some(at) if delivery.seq >= unsent_from => earliest = earliest.min(at),
                Some(_) | None => {}
            }
        }
        if gone.entries > 0 {
            lane.batch = self.pending.number;
        }
        if found.at_end {
            (lane.sweeping, lane.expires) = (None, lane.expires.min(earliest));
        } else {
            lane.sweeping = Some((ticket, earliest));
            self.sweep.reading += 1;
            self.store
                .ask(FetchRequest::sweep(named, priority, found.next, ticket));
        }
        lanes.take(priority, gone, &mut self.gauges);
        self.store.free(gone.bytes);
        for _ in 0..gone.entries {
            self.counters.drop(DropReason::Expired);
        }
        self.work += found.deliveries.len();
        if self.sessions[named.slot].tells_drained() {
            self.pump(named.slot, now, out);
        }
    }
}
