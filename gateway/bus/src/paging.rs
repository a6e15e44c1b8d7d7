//! Queues that are in the store alone: fetching what can be sent, putting back what cannot, and handing on what a session leaves.
//!
//! The bus asks and the store answers later, on its own thread: nothing here waits for a disk.

use crate::bus::{Bus, BusOutputs};
use crate::index::Slot;
use crate::ledger::seconds;
use crate::pending::EntryRef;
use crate::session::{Queued, Session};
use crate::stats::DropReason;
use headgate_model::store::{FetchLimit, Fetched, LaneImage, SessionRecord, StoredDelivery};
use headgate_model::{Instant, SessionId, StoreOp, WallTime};

/// How much is fetched at once.
const LIMIT: FetchLimit = FetchLimit {
    count: 1_024,
    bytes: 512 << 10,
};

/// When a session ends that has no client any more and is kept for what is to be handed on.
pub(crate) const ESTATE: WallTime = WallTime(0);

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
    /// `None` for what a session left.
    slot: Option<Slot>,
    ticket: u64,
    /// It is read for what has expired.
    sweeps: bool,
}

impl FetchRequest {
    /// A lane is to be read for what has expired.
    pub(crate) fn sweep(session: SessionId, lane: u8, from: u64, slot: Slot, ticket: u64) -> Self {
        Self {
            session,
            lane,
            from,
            limit: LIMIT,
            slot: Some(slot),
            ticket,
            sweeps: true,
        }
    }

    pub(crate) fn ticket(&self) -> u64 {
        self.ticket
    }
}

/// What a session left in the store that is to be handed on: lanes, and where to go on with the first of them.
#[derive(Debug)]
pub(crate) struct Estate {
    lanes: Vec<u8>,
    from: u64,
}

impl Bus {
    /// What is to be read from the store.
    pub fn take_fetches(&mut self) -> Vec<FetchRequest> {
        std::mem::take(&mut self.fetches)
    }

    /// Asks for the next part of a queue when little of it is left in memory.
    pub(crate) fn page_in(&mut self, slot: Slot) {
        let low = self.settings.max_queued_in_memory / 2;
        let session = self.sessions[slot as usize]
            .as_deref_mut()
            .expect("a slot in use holds a session");
        if !session.is_online() || self.flushing.contains_key(&session.id) {
            return;
        }
        let wanted = session.queue.len() <= low || session.next_in_memory().is_none();
        let Some(lane) = session.lanes.first_mut().filter(|lane| lane.asked.is_none()) else {
            return;
        };
        if !wanted {
            return;
        }
        lane.asked = Some(self.next_ticket);
        (lane.added, lane.added_from) = ((0, 0), session.next_seq);
        if lane.batch == self.pending.number {
            self.pending.hurry();
        }
        self.fetches.push(FetchRequest {
            session: session.id,
            lane: lane.priority,
            from: lane.from,
            limit: LIMIT,
            slot: Some(slot),
            ticket: self.next_ticket,
            sweeps: false,
        });
        self.next_ticket += 1;
    }

    /// A client has left: what it was not sent, and is in the store, is not kept in memory.
    pub(crate) fn page_out(&mut self, slot: Slot) {
        let Some(session) = self.sessions[slot as usize].as_deref_mut() else {
            return;
        };
        session.lanes.forget_asked();
        let before = session.held();
        let unsent = session.take_queued(|queued| queued.entry.is_some() && !queued.sent);
        self.memory.change(before, session.held());
        for queued in unsent.iter().rev() {
            let batch = queued.entry.map_or(0, |entry| entry.batch);
            session.lanes.put_back(
                queued.priority,
                queued.seq,
                queued.size(),
                batch,
                queued.message.expires_at,
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
        let Some(slot) = request.slot else {
            return self.estate_fetched(request, found, now, out);
        };
        self.look_at_memory();
        if request.sweeps {
            return self.swept(slot, request, found, now, out);
        }
        let session = self.sessions[slot as usize].as_deref_mut();
        let Some(session) = session.filter(|session| session.id == request.session) else {
            return;
        };
        let Some(lane) = session.lanes.get_mut(request.lane) else {
            return;
        };
        if lane.asked != Some(request.ticket) {
            return; // Its client has gone, and come again perhaps.
        }
        lane.asked = None;
        lane.from = found.next;
        let read: usize = found.deliveries.iter().map(|d| d.entry.size as usize).sum();
        if found.at_end {
            let added = found.deliveries.iter().filter(|d| d.seq >= lane.added_from);
            let (count, bytes) = added.fold((0, 0), |(n, bytes), d| (n + 1, bytes + d.entry.size as usize));
            lane.count = lane.added.0.saturating_sub(count);
            lane.bytes = lane.added.1.saturating_sub(bytes);
        }
        let left = if found.at_end {
            (0, 0)
        } else {
            (found.deliveries.len() + found.lost, read)
        };
        session.lanes.take(request.lane, left.0, left.1);
        let left_in_lane = session.lanes.get_mut(request.lane).map_or(0, |lane| lane.count);
        for delivery in found.deliveries {
            let session = self.session_mut(slot);
            let sent = delivery.seq < session.unsent_from;
            let link = session.link.as_deref_mut();
            let since = link.and_then(|link| link.take(request.lane));
            let mut queued = self.queued(delivery, sent);
            queued.since = since.unwrap_or(seconds(now));
            self.enqueue(slot, queued);
        }
        for _ in 0..found.lost {
            self.counters.drop(DropReason::Unreadable);
        }
        if let Some(link) = self.session_mut(slot).link.as_deref_mut() {
            link.correct(request.lane, left_in_lane);
        }
        self.pump(slot, now, out);
    }

    /// A delivery as the bus handles it.
    pub(crate) fn queued(&self, delivery: StoredDelivery, sent: bool) -> Queued {
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

    /// A session has ended: its part of the store goes. What it had by shared subscriptions is handed on first.
    pub(crate) fn let_go(&mut self, session: &Session) {
        let in_memory = session.queue.iter().chain(&session.inflight);
        let stored = in_memory.filter(|queued| queued.entry.is_some());
        let bytes: usize = stored.map(Queued::size).sum();
        self.stored_bytes = self.stored_bytes.saturating_sub(bytes);
        if !session.recorded {
            return;
        }
        let shares = session.subscriptions.iter().any(|held| held.share.is_some());
        if !shares || session.lanes.is_empty() {
            self.stored_bytes = self.stored_bytes.saturating_sub(session.lanes.bytes());
            self.pending.push(StoreOp::DeleteSession(session.id));
            return;
        }
        let record = SessionRecord {
            ends: Some(ESTATE),
            will: None,
            ..session.record(self.epoch)
        };
        self.pending
            .push(StoreOp::PutSession(session.id, Box::new(record)));
        let lanes = session.lanes.iter().map(|lane| lane.priority).collect();
        self.settle_estate(session.id, Estate { lanes, from: 0 });
    }

    /// An estate that an earlier run did not come to the end of.
    pub(crate) fn load_estate(&mut self, id: SessionId, lanes: Vec<LaneImage>) {
        let lanes = lanes.into_iter().map(|lane| lane.lane).collect();
        self.settle_estate(id, Estate { lanes, from: 0 });
    }

    /// Asks for the next part of what a session left; at the end the session is deleted.
    fn settle_estate(&mut self, id: SessionId, estate: Estate) {
        let Some(lane) = estate.lanes.first() else {
            return self.pending.push(StoreOp::DeleteSession(id));
        };
        self.fetches.push(FetchRequest {
            session: id,
            lane: *lane,
            from: estate.from,
            limit: LIMIT,
            slot: None,
            ticket: 0,
            sweeps: false,
        });
        self.pending.hurry();
        self.estates.insert(id, estate);
    }

    fn estate_fetched(&mut self, request: FetchRequest, found: Fetched, now: Instant, out: &mut BusOutputs) {
        let Some(mut estate) = self.estates.remove(&request.session) else {
            return;
        };
        for delivery in found.deliveries {
            self.pending.delete(request.session, delivery.seq, now);
            self.stored_bytes = self.stored_bytes.saturating_sub(delivery.entry.size as usize);
            let shared = delivery.entry.shared.is_some();
            let queued = self.queued(delivery, false);
            if shared && !queued.message.is_expired(now) {
                self.hand_on(Slot::MAX, vec![queued], now, out);
            } else {
                self.counters.drop(DropReason::SessionEnded);
            }
        }
        estate.from = found.next;
        if found.at_end {
            estate.lanes.remove(0);
            estate.from = 0;
        }
        self.settle_estate(request.session, estate);
    }
}
