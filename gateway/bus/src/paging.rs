//! Queues that are in the store alone: fetching what can be sent, and putting back what cannot.
//!
//! The bus asks and the store answers later, on its own thread: nothing here waits for a disk.

use crate::bus::{Bus, BusOutputs};
use crate::gauges::Load;
use crate::ledger::seconds;
use crate::pending::EntryRef;
use crate::queue::Queued;
use crate::sessions::{SessionRef, Slot};
use crate::stats::DropReason;
use headgate_model::store::{FetchLimit, Fetched, StoredDelivery};
use headgate_model::{Instant, SessionId};

/// How much is fetched at once.
const LIMIT: FetchLimit = FetchLimit {
    count: 1_024,
    bytes: 512 << 10,
};

/// A question to the store, answered by [`Bus::fetched`]. Everything that [`Bus::take_batch`] gave before must be committed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// Whose queue.
    pub session: SessionId,
    /// Which lane of it.
    pub lane: u8,
    /// From this number on.
    pub from: u64,
    /// How much.
    pub limit: FetchLimit,
    purpose: Purpose,
}

/// What is fetched is for this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To be sent to the client of this session.
    Send { slot: Slot, ticket: u64 },
    /// To find what has expired.
    Sweep { slot: Slot, ticket: u64 },
    /// Somebody asked what waits there.
    Show { slot: Slot },
    /// The session has ended: other members of its shared subscriptions get it.
    Redistribute,
}

impl FetchRequest {
    fn new(session: SessionId, lane: u8, from: u64, purpose: Purpose) -> Self {
        Self {
            session,
            lane,
            from,
            limit: LIMIT,
            purpose,
        }
    }

    /// A lane is to be read for what has expired.
    pub(crate) fn sweep(session: SessionRef, lane: u8, from: u64, ticket: u64) -> Self {
        let SessionRef { slot, id } = session;
        Self::new(id, lane, from, Purpose::Sweep { slot, ticket })
    }

    /// Somebody wants to see what waits in a lane.
    pub(crate) fn show(session: SessionRef, lane: u8, from: u64, count: usize) -> Self {
        let SessionRef { slot, id } = session;
        let limit = FetchLimit { count, ..LIMIT };
        Self {
            limit,
            ..Self::new(id, lane, from, Purpose::Show { slot })
        }
    }

    /// The session, if it is that of a client.
    pub(crate) fn of(&self) -> Option<SessionRef> {
        let id = self.session;
        match self.purpose {
            Purpose::Send { slot, .. } | Purpose::Sweep { slot, .. } | Purpose::Show { slot } => {
                Some(SessionRef { slot, id })
            }
            Purpose::Redistribute => None,
        }
    }

    /// A lane of a session that has ended is to be read.
    pub(crate) fn redistribute(session: SessionId, lane: u8, from: u64) -> Self {
        Self::new(session, lane, from, Purpose::Redistribute)
    }
}

impl Bus {
    /// What is to be read from the store.
    pub fn take_fetches(&mut self) -> Vec<FetchRequest> {
        self.store.take_fetches()
    }

    /// Asks for the next part of a queue when little of it is left in memory.
    pub(crate) fn page_in(&mut self, slot: Slot) {
        let low = self.settings.max_queued_in_memory / 2;
        let session = &mut self.sessions[slot];
        let id = session.id;
        if !session.is_online() || self.flushing.contains_key(&id) {
            return;
        }
        let deliveries = &mut session.deliveries;
        let wanted = deliveries.queue.len() <= low || deliveries.next_in_memory().is_none();
        let next_seq = deliveries.next_seq;
        let Some(lane) = deliveries.lanes.first_mut().filter(|lane| lane.asked.is_none()) else {
            return;
        };
        if !wanted {
            return;
        }
        let ticket = self.numbers.ticket();
        lane.asked = Some(ticket);
        (lane.added, lane.added_from) = (Load::default(), next_seq);
        if lane.batch == self.pending.number {
            self.pending.hurry();
        }
        let purpose = Purpose::Send { slot, ticket };
        self.store
            .ask(FetchRequest::new(id, lane.priority, lane.from, purpose));
    }

    /// A client has left: what it was not sent, and is in the store, is not kept in memory.
    pub(crate) fn page_out(&mut self, slot: Slot) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let deliveries = &mut session.deliveries;
        deliveries.lanes.forget_asked();
        let is_unsent = |queued: &Queued| queued.entry.is_some() && !queued.sent;
        let unsent = deliveries.queue.take(is_unsent, &mut self.gauges);
        for queued in unsent.iter().rev() {
            let batch = queued.entry.map_or(0, |entry| entry.batch);
            deliveries.lanes.put_back(
                queued.priority,
                queued.seq,
                queued.size(),
                batch,
                queued.message.expires_at,
                &mut self.gauges,
            );
            if let Some(link) = session.link.as_deref_mut() {
                link.put_back(queued);
            }
        }
        // Nobody will settle it now.
        self.pending.hurry();
    }

    /// The store's answer.
    pub fn fetched(&mut self, request: FetchRequest, found: Fetched, now: Instant, out: &mut BusOutputs) {
        match request.purpose {
            Purpose::Send { slot, ticket } => {
                self.look_at_memory();
                self.paged_in(slot, ticket, request, found, now, out);
            }
            Purpose::Sweep { slot, ticket } => {
                self.look_at_memory();
                let id = request.session;
                self.swept(SessionRef { slot, id }, ticket, request.lane, found, now, out);
            }
            Purpose::Redistribute => self.redistribute_fetched(request.session, found, now, out),
            Purpose::Show { .. } => {} // For Bus::show_stored.
        }
    }

    fn paged_in(
        &mut self,
        slot: Slot,
        ticket: u64,
        request: FetchRequest,
        found: Fetched,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        let id = request.session;
        let Some(session) = self.sessions.living_mut(SessionRef { slot, id }) else {
            return;
        };
        let lanes = &mut session.deliveries.lanes;
        let Some(lane) = lanes
            .get_mut(request.lane)
            .filter(|lane| lane.asked == Some(ticket))
        else {
            return; // Its client has gone, and come again perhaps.
        };
        lane.asked = None;
        lane.from = found.next;
        if found.at_end {
            // It may have found some of what was put behind since.
            let from = lane.added_from;
            let seen = load_of(found.deliveries.iter().filter(|d| d.seq >= from));
            let left = Load {
                entries: lane.added.entries.saturating_sub(seen.entries),
                bytes: lane.added.bytes.saturating_sub(seen.bytes),
            };
            lanes.set(request.lane, left, &mut self.gauges);
        } else {
            let mut gone = load_of(found.deliveries.iter());
            gone.entries += found.lost;
            lanes.take(request.lane, gone, &mut self.gauges);
        }
        let left_in_lane = lanes.get(request.lane).map_or(0, |lane| lane.len());
        for delivery in found.deliveries {
            let session = &mut self.sessions[slot];
            let sent = delivery.seq < session.deliveries.unsent_from;
            let link = session.link.as_deref_mut();
            let since = link.and_then(|link| link.take(request.lane));
            let mut queued = self.read_queued(delivery, sent);
            queued.since = since.unwrap_or(seconds(now));
            self.enqueue(slot, queued);
        }
        self.note_lost(slot, request.lane, left_in_lane, found.lost);
        // It may have waited under other rules.
        self.hand_on_unreadable(slot, now, out);
        self.pump(slot, now, out);
    }

    /// So many entries of a lane could not be read and are gone; so many are left.
    pub(crate) fn note_lost(&mut self, slot: Slot, priority: u8, left: usize, lost: usize) {
        for _ in 0..lost {
            self.counters.drop(DropReason::Unreadable);
        }
        if let Some(link) = self.sessions[slot].link.as_deref_mut() {
            link.correct(priority, left);
        }
    }

    /// A delivery of the store as the bus handles it.
    pub(crate) fn read_queued(&self, delivery: StoredDelivery, sent: bool) -> Queued {
        let StoredDelivery { seq, entry, message } = delivery;
        let group = entry.shared.and_then(|name| self.index.find_group_by_name(&name));
        Queued {
            message: self.read_back(message),
            subscription_ids: entry.subscription_ids,
            entry: Some(EntryRef::default()),
            seq,
            group: group.unwrap_or(0),
            qos: entry.qos,
            retain: entry.retain,
            sent,
            received: false,
            carried: false,
            priority: entry.lane,
            since: 0,
        }
    }
}

/// As many as they are, and as large as the store's entries say.
fn load_of<'a>(deliveries: impl Iterator<Item = &'a StoredDelivery>) -> Load {
    let mut load = Load::default();
    deliveries.for_each(|delivery| load.add(delivery.entry.size as usize));
    load
}
