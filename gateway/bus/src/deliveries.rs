//! What a session has for its client: what waits in memory, what waits in the store alone, what is under way, and how much more may go.
//!
//! Always true: a QoS 1 or 2 delivery is in one of the three places.

use crate::gauges::{Gauges, Load};
use crate::inflight::{Inflight, bytes_of};
use crate::lanes::Lanes;
use crate::queue::{Queue, Queued};
use crate::settings::BusSettings;
use headgate_model::{Message, Qos};

/// Bytes that may wait in memory for a durable session; what comes then waits in the store alone.
const BYTES_IN_MEMORY: usize = 256 << 10;

/// How much may be handed over to one endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendLimits {
    /// The last batch that is durable.
    pub committed: u64,
    /// Bytes that it has not written out.
    pub unread: u32,
    /// Bytes of QoS 1 and 2 that it has not settled.
    pub inflight: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    pub queue: Queue,
    /// What waits in the store alone, behind everything of its priority in `queue`.
    pub lanes: Lanes,
    pub inflight: Inflight,
    /// How many the client takes that it has not acknowledged. MQTT 5 §3.1.2.11.3
    pub receive_maximum: u16,
    /// How many more the endpoint takes.
    pub credit: u32,
    /// Bytes of what was handed over and is not written out.
    unread: u32,
    /// Bytes of the queue's QoS 0 that are counted for a client that sleeps, among those of all sleepers.
    slept: u32,
    pub next_seq: u64,
    /// Deliveries from this number on were never handed over, as far as an earlier run knew.
    pub unsent_from: u64,
    /// The last batch whose commit the session is listed for, to go on sending.
    pub listed_for: u64,
}

impl Deliveries {
    /// All that waits.
    pub(crate) fn queued(&self) -> Load {
        let mut queued = self.queue.load();
        queued += self.lanes.load();
        queued
    }

    /// Nothing waits and nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.lanes.is_empty() && self.inflight.is_empty()
    }

    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            queue: self.queue.load(),
            lanes: self.lanes.load(),
            inflight: self.inflight.load(),
            sleepers: self.slept as usize,
            ..Gauges::default()
        }
    }

    /// A connection begins that takes so much.
    pub(crate) fn begin_connection(&mut self, receive_maximum: u16, credit: u32) {
        self.receive_maximum = receive_maximum;
        self.credit = credit;
    }

    /// The connection is over: what was under way and not received goes back to the front of the queue, in order, to be sent again.
    /// \[MQTT-4.4.0-1\]
    pub(crate) fn end_connection(&mut self, gauges: &mut Gauges) {
        self.unread = 0;
        for queued in self.inflight.take_unreceived(gauges).into_iter().rev() {
            self.queue.push_front(queued, gauges);
        }
    }

    /// The endpoint takes so many more, and has written out so many bytes.
    #[inline]
    pub(crate) fn grant(&mut self, deliveries: u32, bytes: u32) {
        self.credit = self.credit.saturating_add(deliveries);
        self.unread = self.unread.saturating_sub(bytes);
    }

    /// The endpoint has been handed this message.
    #[inline]
    pub(crate) fn spend(&mut self, message: &Message) {
        self.credit -= 1;
        self.unread = self.unread.saturating_add(bytes_of(message.size()));
    }

    /// Whether the endpoint takes anything more. A message may be larger than what is left.
    #[inline]
    pub(crate) fn has_credit(&self, limits: SendLimits) -> bool {
        self.credit > 0 && self.unread < limits.unread
    }

    /// Whether this delivery may be handed to an endpoint that is online.
    ///
    /// What a receiver holds as QoS 2 must be in the store first: after a crash nobody would know what it holds, and under which packet
    /// identifier. What it gets as QoS 1 need not be: at worst it gets it again.
    #[inline]
    pub(crate) fn may_send(&self, next: &Queued, limits: SendLimits) -> bool {
        if !self.has_credit(limits) {
            return false;
        }
        if next.qos == Qos::ExactlyOnce && next.entry.is_some_and(|entry| entry.batch > limits.committed) {
            return false;
        }
        let Some(id) = next.id() else { return true };
        self.inflight.quota_used() < self.receive_maximum
            && self.inflight.bytes() < limits.inflight
            && !self.inflight.holds_name_of(next.seq, id)
    }

    /// The delivery that goes next, unless a part of the queue that is in the store alone goes before it.
    #[inline]
    pub(crate) fn next_in_memory(&self) -> Option<&Queued> {
        let next = self.queue.front()?;
        let lane_first = self
            .lanes
            .iter()
            .next()
            .is_some_and(|lane| lane.priority > next.priority);
        (!lane_first).then_some(next)
    }

    /// Whether a delivery of this priority that cannot go now is to wait in the store alone though its client is there.
    pub(crate) fn must_page(&self, priority: u8, settings: &BusSettings) -> bool {
        self.lanes.precede(priority)
            || self.queue.len() >= settings.max_queued_in_memory
            || self.queue.bytes() >= BYTES_IN_MEMORY
    }

    /// So many could go at once if they were here.
    pub(crate) fn room_in_window(&self) -> usize {
        let window = self.receive_maximum.saturating_sub(self.inflight.quota_used());
        usize::from(window).min(self.credit as usize)
    }

    /// So many bytes of QoS 0 are counted for its client that sleeps.
    pub(crate) fn count_slept(&mut self, bytes: usize, gauges: &mut Gauges) {
        let before = self.slept;
        // More than four billion may wait only if the settings say so; then less of it is counted.
        self.slept = bytes_of(bytes);
        gauges.sleepers = gauges.sleepers + self.slept as usize - before as usize;
    }

    /// From this number on nothing that waits was handed over.
    pub(crate) fn unsent_from(&self) -> u64 {
        let sent = self
            .queue
            .iter()
            .chain(self.inflight.iter())
            .filter(|q| q.id().is_some() && q.sent);
        let behind = sent.map(|q| q.seq + 1).max().unwrap_or(0);
        behind.max(self.unsent_from)
    }
}
