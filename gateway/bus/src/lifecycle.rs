//! The life of sessions: opened, taken over, left, ended, read back after a start; and the wills that go with it. MQTT 5 §4.1.

use crate::bus::{Bus, BusOutputs, Delayed, Needs, Notice, Timer};
use crate::clients::make_room;
use crate::index::{Entry, GroupId, Slot};
use crate::memory;
use crate::paging::ESTATE;
use crate::retained::Kept;
use crate::session::{DELIVERY_IDS, Held, NEVER_DUE, NOT_DUE, Queued, Session, Sleep};
use crate::stats::DropReason;
use crate::turns;
use bytes::Bytes;
use hashbrown::HashMap;
use headgate_model::bus::{NEVER, OpenRefusal, Presence};
use headgate_model::gate::is_of_gateway;
use headgate_model::memory::Want;
use headgate_model::store::{SessionImage, StoredMessage};
use headgate_model::{
    BusEvent, CloseReason, EndpointId, Instant, Message, MountPoint, Open, OpenWill, Qos, SessionId,
    StoreImage, StoreOp, Subscription, SubscriptionOptions, Will, WillChange, WillTopic,
};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// How long a connection that is taken over may take to hand over what its client had sent.
const HAND_OVER: Duration = Duration::from_secs(1);

impl Bus {
    /// Opens a session. While another connection has it, this one waits: see [`Bus::leave`]. \[MQTT-3.1.4-3\]
    pub(crate) fn open(&mut self, endpoint: EndpointId, open: Open, now: Instant, out: &mut BusOutputs) {
        let slot = self
            .by_client
            .find(open.client.client_id().as_str(), &self.sessions);
        if slot.is_some_and(|slot| !self.may_have(slot, &open, now)) {
            let refused = BusEvent::OpenRefused(OpenRefusal::NotOwner);
            return out.events.push((endpoint, refused));
        }
        if !self.has_room_to_open(slot, &open) {
            let refused = BusEvent::OpenRefused(OpenRefusal::NoRoom);
            return out.events.push((endpoint, refused));
        }
        let held = slot.and_then(|slot| Some((slot, self.session(slot).endpoint?)));
        let Some((slot, old)) = held else {
            return self.admit(endpoint, open, now, out);
        };
        let session = self.session_mut(slot);
        let id = session.id;
        if !std::mem::replace(&mut session.leaving, true) {
            out.events.push((old, BusEvent::TakenOver));
            out.notices.push(Notice::TakenOver {
                client: session.client.clone(),
                old: Arc::clone(&session.presence),
                new: Arc::clone(open.client.who()),
            });
            self.timers.insert((now + HAND_OVER, Timer::HandOver(slot, id)));
        }
        let client = open.client.client_id().clone();
        self.waits_for.insert(endpoint, client.clone());
        if let Some((earlier, _)) = self.succeeding.insert(client, (endpoint, open)) {
            self.waits_for.remove(&earlier);
            out.events.push((earlier, BusEvent::TakenOver));
        }
    }

    /// Whether there is memory for a session that is not there yet, and for the will, and room in the store for what must be there. The gateway's own
    /// sessions are always opened.
    fn has_room_to_open(&self, slot: Option<Slot>, open: &Open) -> bool {
        let will = match &open.will {
            OpenWill::Set(Some(will)) => will.message.size(),
            OpenWill::Set(None) | OpenWill::Keep | OpenWill::Awake => 0,
        };
        let session = slot.map_or_else(|| memory::of_session(open.client.client_id()), |_| 0);
        let is_own = open.link.as_ref().is_some_and(|link| link.queue.is_some());
        let is_new = slot.is_none() && !open.expiry.is_zero();
        is_own
            || self.has_memory(Want::ToKeep, session + will) && !(self.store_is_full && (is_new || will > 0))
    }

    /// Whether the session is its own: what it was sent, and what waits in it, is for the identity that opened it. A session that is over is nobody's.
    fn may_have(&self, slot: Slot, open: &Open, now: Instant) -> bool {
        let session = self.session(slot);
        self.settings.share_sessions
            || session.presence.username == open.client.who().username
            || session.endpoint.is_none() && session.ends_at.is_some_and(|at| at <= now)
    }

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
        let Some(slot) = self.endpoints.remove(endpoint, &self.sessions) else {
            // It may have waited for a session that nobody wants any more.
            if let Some(client) = self.waits_for.remove(&endpoint) {
                self.succeeding.remove(&client);
            }
            return;
        };
        self.under_way.remove(&endpoint);
        let session = self.session_mut(slot);
        session.answers = None;
        let client = session.client.clone();
        let next = self.succeeding.remove(&client);
        let session = self.session_mut(slot);
        let goes_on = session.durable && next.as_ref().is_some_and(|(_, open)| !open.clean_start);
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
            self.waits_for.remove(&endpoint);
            if kept.is_some() && self.by_client.find(client.as_str(), &self.sessions) == Some(slot) {
                self.session_mut(slot).will = kept;
            }
            self.admit(endpoint, open, now, out);
        }
    }

    /// The old connection took too long to hand over.
    pub(crate) fn hand_over(&mut self, slot: Slot, id: SessionId, now: Instant, out: &mut BusOutputs) {
        let session = self.sessions[slot as usize].as_deref();
        let leaving = session.filter(|session| session.id == id && session.leaving);
        if let Some(old) = leaving.and_then(|session| session.endpoint) {
            self.leave(old, CloseReason::TakenOver, None, now, out);
        }
    }

    /// Gives a session that nobody has to an endpoint.
    fn admit(&mut self, endpoint: EndpointId, open: Open, now: Instant, out: &mut BusOutputs) {
        let written = self.pending.len();
        let present = self.resumed(&open, now, out);
        let slot = match present {
            Some(slot) => slot,
            None => self.new_session(&open),
        };
        let defined = open.link.as_ref().is_some_and(|link| link.queue.is_some());
        let expiry = if defined {
            open.expiry
        } else {
            self.capped_expiry(open.expiry, open.client.who().username.is_none())
        };
        let epoch = self.epoch;
        let window = open.link.as_ref().map_or(0, |link| link.window);
        let max_inflight = self.settings.max_inflight.max(window);
        self.clear_timers(slot);
        let session = self.sessions[slot as usize]
            .as_deref_mut()
            .expect("a slot in use holds a session");
        self.links.admit(session, open.link.map(|link| *link), now);
        session.endpoint = Some(endpoint);
        session.opening = true;
        session.tell_drained = session.doubts();
        session.awake = present.is_some() && open.will == OpenWill::Awake;
        if !session.awake {
            session.durable |= expiry > Duration::ZERO;
            session.expiry = expiry;
            session.ends_at = None;
            session.will_due = None; // It came back in time. [MQTT-3.1.3-9]
        }
        let expiry = session.expiry;
        match open.will {
            OpenWill::Set(will) => {
                session.will = will.map(|will| {
                    let will = will.into_inner();
                    let message = will.message.compact(); // It stays for long.
                    Box::new(Will { message, ..will })
                });
            }
            OpenWill::Keep => session
                .will
                .iter_mut()
                .for_each(|will| will.delay = Duration::ZERO),
            OpenWill::Awake => {}
        }
        session.presence = Arc::clone(open.client.who());
        session.receive_maximum = open.receive_maximum.clamp(1, max_inflight);
        session.credit = open.credit;
        session.sleep = Sleep::No;
        self.slept_bytes -= std::mem::take(&mut session.slept_bytes) as usize;
        let wakes = session.awake;
        if !session.awake && (session.durable || session.will.is_some() || session.recorded) {
            session.recorded = true;
            let op = StoreOp::PutSession(session.id, Box::new(session.record(epoch)));
            self.pending.push(op);
        }
        self.look_at_rules(slot);
        self.endpoints.insert(slot, &self.sessions);
        self.auto_subscribe(slot);
        if !wakes {
            out.notices.push(Notice::Connected {
                client: open.client.client_id().clone(),
                presence: Arc::clone(open.client.who()),
            });
        }
        // CONNACK of a session that shall last promises that it does.
        let needs = if self.session(slot).durable {
            self.disk_if_more_than(written)
        } else {
            Needs::Nothing
        };
        if self.answer(
            endpoint,
            BusEvent::Opened {
                present: present.is_some(),
                expiry,
            },
            needs,
            out,
        ) {
            self.finish_open(slot, now, out);
        }
    }

    /// The session to go on with, if there is one; what must not be resumed is ended. \[MQTT-3.1.2-4\]
    fn resumed(&mut self, open: &Open, now: Instant, out: &mut BusOutputs) -> Option<Slot> {
        let slot = self
            .by_client
            .find(open.client.client_id().as_str(), &self.sessions)?;
        let over = self.session(slot).ends_at.is_some_and(|at| at <= now);
        if open.clean_start || over || !self.session(slot).durable {
            self.end_session(slot, now, out);
            return None;
        }
        Some(slot)
    }

    /// The client has been told that it is in: what waits for it may go out.
    pub(crate) fn finish_open(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) {
        let session = self.session_mut(slot);
        session.opening = false;
        let endpoint = session.endpoint.expect("an endpoint opened it");
        // PUBREL for what was received, in order. [MQTT-4.4.0-1] [MQTT-4.6.0-4]
        let received = session.inflight.iter().filter_map(Queued::id);
        out.events
            .extend(received.map(|id| (endpoint, BusEvent::Received(id))));
        self.pump(slot, now, out);
    }

    fn new_session(&mut self, open: &Open) -> Slot {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let mut session = Session::new(id, open.client.client_id().clone());
        let keys = self.first_numbers.as_ref();
        if let Some(keys) = keys.filter(|_| open.forgeable) {
            // In the lower half: some clients read identifiers as signed numbers.
            session.next_seq = keys.hash_one(id) % (DELIVERY_IDS / 2);
            session.unsent_from = session.next_seq;
        }
        self.place(session)
    }

    /// From now on the deliveries of a new MQTT-SN session begin with a number that nobody can guess: where an address can be forged, an acknowledgement
    /// proves that it was received. Simulations, which must repeat, do without.
    pub fn number_unpredictably(&mut self) {
        self.first_numbers = Some(RandomState::new());
    }

    fn place(&mut self, session: Session) -> Slot {
        let slot = match self.free_slots.pop() {
            Some(slot) => {
                self.sessions[slot as usize] = Some(Box::new(session));
                slot
            }
            None => {
                make_room(&mut self.sessions);
                make_room(&mut self.marks);
                self.sessions.push(Some(Box::new(session)));
                self.marks.push((0, 0));
                Slot::try_from(self.sessions.len() - 1).expect("fewer than four billion sessions")
            }
        };
        self.by_client.insert(slot, &self.sessions);
        slot
    }

    /// A new expiry of a session that is open.
    fn changed_expiry(&self, slot: Slot, wished: Option<Duration>) -> Option<Duration> {
        let session = self.session(slot);
        let own = session.link.as_deref().is_some_and(|link| link.rules.is_some());
        let anonymous = session.presence.username.is_none() && !own;
        wished.map(|wished| self.capped_expiry(wished, anonymous))
    }

    fn capped_expiry(&self, wished: Duration, anonymous: bool) -> Duration {
        let settings = &self.settings;
        let more = anonymous.then_some(settings.max_anonymous_session_expiry);
        let caps = [Some(settings.max_session_expiry), more].into_iter().flatten();
        caps.filter(|cap| !cap.is_zero()).fold(wished, Duration::min)
    }

    fn auto_subscribe(&mut self, slot: Slot) {
        let session = self.session(slot);
        if session.link.is_some() {
            return; // What another broker wants to have is agreed with it.
        }
        let username = session.presence.username.clone().unwrap_or_default();
        let wanted: Vec<Subscription> = self
            .settings
            .auto_subscribe
            .iter()
            .filter_map(|auto| {
                let topic = auto
                    .topic
                    .replace("%c", session.client.as_str())
                    .replace("%u", &username);
                let qos = Qos::from_u8(auto.qos).expect("checked when the bus was made");
                let options = SubscriptionOptions {
                    qos,
                    ..SubscriptionOptions::default()
                };
                // A client id that holds a wildcard must not widen the subscription: then there is none.
                let wildcards = |text: &str| text.matches(['+', '#']).count();
                if wildcards(&topic) != wildcards(&auto.topic) {
                    return None;
                }
                Subscription::parse(&topic.into(), options, &MountPoint::default()).ok()
            })
            .filter(|s| {
                let known = session.subscriptions.get(&s.filter, s.share.as_ref());
                known.is_none()
            })
            .collect();
        for subscription in wanted {
            // A refusal (a limit, an exclusive topic) leaves the client without it, as if it had asked itself.
            let _ = self.add_subscription(slot, subscription);
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
        let session = self.session_mut(slot);
        session.expiry = expiry.unwrap_or(session.expiry);
        session.sleep = Sleep::Falling;
        session.tell_drained = false;
        // Otherwise it ends with its endpoint, and there is nothing to promise.
        let lasts = session.durable && !session.expiry.is_zero();
        if lasts {
            (session.recorded, session.awake) = (true, false);
            session.fall_asleep(patience, now);
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
        let session = self.sessions[slot as usize]
            .as_deref_mut()
            .expect("a slot in use holds a session");
        let store_qos0 = session.rules(&self.queue_rules).store_qos0;
        session.endpoint = None;
        session.opening = false;
        session.leaving = false;
        session.unread = 0;
        let before = session.held();
        session.take_back_inflight();
        self.memory.change(before, session.held());
        if let Some(expiry) = expiry {
            session.expiry = expiry;
        }
        let sleep = match reason {
            CloseReason::Asleep(_) => Sleep::Asleep,
            _ => Sleep::No,
        };
        let before = std::mem::replace(&mut session.sleep, sleep);
        let is_written = (before, sleep) == (Sleep::Falling, Sleep::Asleep);
        if sleep == Sleep::No {
            out.notices.push(session.disconnected(reason));
        }
        session.tell_drained = false;
        session.awake = false;
        if reason == CloseReason::Shutdown {
            return; // What is in the store is what shall be found at the next start.
        }
        if reason == CloseReason::Normal {
            session.will = None; // [MQTT-3.14.4-3]
        }
        if session.expiry.is_zero() || !session.durable {
            if reason == CloseReason::KeepingWill {
                session.will = None;
            }
            self.end_session(slot, now, out);
            return;
        }
        let keeps_qos0 = store_qos0 || self.settings.sleepers.keeps(session);
        let qos0 = if keeps_qos0 || session.queued_qos0 == 0 {
            Vec::new()
        } else {
            let before = session.held();
            let gone = session.take_queued(|queued| queued.qos == Qos::AtMostOnce);
            self.memory.change(before, session.held());
            gone
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
                CloseReason::Asleep(patience) => session.fall_asleep(patience, now),
                _ => {}
            }
            let op = StoreOp::PutSession(session.id, Box::new(session.record(epoch)));
            self.pending.push(op);
        }
        self.set_timers(slot);
        self.trim_sleeper(slot);
        qos0.iter()
            .for_each(|_| self.counters.drop(DropReason::OfflineQos0));
        if self.session(slot).will_due.is_some_and(|at| at <= now) {
            let id = self.session(slot).id;
            self.will_is_due(slot, id, now, out);
        }
        if reason != CloseReason::TakenOver {
            self.pass_on_shared(slot, now, out); // Otherwise its client is back already.
        }
        self.page_out(slot);
    }

    /// A session that comes back, or ends, must not leave timers behind: one that comes and goes would leave many.
    fn clear_timers(&mut self, slot: Slot) {
        let session = self.session(slot);
        let (id, ends_at, will_due) = (session.id, session.ends_at, session.will_due);
        if let Some(at) = ends_at {
            self.timers.remove(&(at, Timer::SessionEnd(slot, id)));
        }
        if let Some(at) = will_due {
            self.timers.remove(&(at, Timer::Will(slot, id)));
        }
    }

    fn set_timers(&mut self, slot: Slot) {
        let session = self.session(slot);
        let (id, ends_at, will_due) = (session.id, session.ends_at, session.will_due);
        self.timers
            .extend(ends_at.map(|at| (at, Timer::SessionEnd(slot, id))));
        let will_due = will_due.filter(|at| *at != NOT_DUE);
        self.timers.extend(will_due.map(|at| (at, Timer::Will(slot, id))));
    }

    /// A client that leaves keeps its session: what came by shared subscriptions goes to members that are there. MQTT 5 §4.8.2.
    fn pass_on_shared(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) {
        let is_there = |bus: &Self, member: &Entry| {
            member.session != slot && bus.session(member.session).endpoint.is_some()
        };
        // A group may have many members, and many messages may be of one group.
        let mut known = HashMap::new();
        let mut others = |bus: &Self, group: GroupId| {
            *known.entry(group).or_insert_with(|| {
                let group = bus.index.group(group);
                group.is_some_and(|group| group.members.iter().any(|member| is_there(bus, member)))
            })
        };
        let movable = |bus: &Self, queued: &Queued| {
            queued.group != 0 && !(queued.qos == Qos::ExactlyOnce && queued.sent) && others(bus, queued.group)
        };
        self.hand_on_queued(slot, movable, now, out);
    }

    /// Ends a session: its will first, if it is still due \[MQTT-3.1.2-8\]; then everything it held is let go.
    pub(crate) fn end_session(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) {
        self.clear_timers(slot);
        let session = self.session_mut(slot);
        let is_due = session.will_due != Some(NOT_DUE);
        if let Some(will) = session.will.take().filter(|_| is_due) {
            self.publish_will(slot, *will, now, out);
        }
        self.by_client.remove(slot, &self.sessions);
        let session = self.sessions[slot as usize]
            .take()
            .expect("a slot in use holds a session");
        self.free_slots.push(slot);
        self.slept_bytes -= session.slept_bytes as usize;
        self.links.ids.remove(&session.id);
        self.work += turns::SUBSCRIPTION / 2 * session.subscriptions.len();
        self.memory.change(session.held(), Held::default());
        for held in session.subscriptions.iter() {
            self.memory.subscriptions -= memory::of_subscription(held);
            self.index.remove(&held.filter, held.share.as_ref(), slot);
            if held.exclusive {
                self.exclusive.remove(&held.filter);
            }
        }
        self.let_go(&session);
        let queued = session.queue.into_iter().chain(session.inflight);
        let shared = queued.filter(|queued| queued.group != 0).collect();
        self.hand_on(slot, shared, now, out);
    }

    pub(crate) fn session_may_end(&mut self, slot: Slot, id: SessionId, now: Instant, out: &mut BusOutputs) {
        let Some(session) = self.sessions[slot as usize].as_deref() else {
            return;
        };
        if session.id == id && session.ends_at.is_some_and(|at| at <= now) {
            if session.sleep == Sleep::Asleep {
                out.notices.push(session.disconnected(CloseReason::KeepAlive));
            }
            self.counters.expired_sessions += 1;
            self.end_session(slot, now, out);
        }
    }

    pub(crate) fn will_is_due(&mut self, slot: Slot, id: SessionId, now: Instant, out: &mut BusOutputs) {
        let epoch = self.epoch;
        let Some(session) = self.sessions[slot as usize].as_deref_mut() else {
            return;
        };
        if session.id != id || session.will_due.is_none_or(|at| at > now) {
            return;
        }
        session.will_due = None;
        if std::mem::replace(&mut session.sleep, Sleep::No) == Sleep::Asleep {
            out.notices.push(session.disconnected(CloseReason::KeepAlive));
        }
        let Some(will) = session.will.take() else { return };
        let op = StoreOp::PutSession(session.id, Box::new(session.record(epoch)));
        self.pending.push(op);
        self.publish_will(slot, *will, now, out);
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
        if size > 0 && (self.store_is_full || !self.has_memory(Want::ToKeep, size)) {
            self.counters.drop(DropReason::MemoryFull);
            self.answer(from, BusEvent::WillChanged(false), Needs::Nothing, out);
            return;
        }
        let epoch = self.epoch;
        let session = self.session_mut(slot);
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
            (session.recorded, session.awake) = (true, false);
            let op = StoreOp::PutSession(session.id, Box::new(session.record(epoch)));
            self.pending.push(op);
        }
        let needs = if written { Needs::Disk } else { Needs::Nothing };
        self.answer(from, BusEvent::WillChanged(changed), needs, out);
    }

    fn publish_will(&mut self, slot: Slot, will: Will, now: Instant, out: &mut BusOutputs) {
        let message = Message {
            expires_at: will.message_expiry.map(|interval| now + interval),
            publisher: Some(self.session(slot).id),
            ..will.message
        };
        // There is nobody to tell of a refusal; drops are counted where they happen.
        let _ = self.ingest(message, Some(slot), now, out);
    }

    /// Rebuilds everything from what was durable. Called once, on an empty bus, before the first command. What is over by now ends at the
    /// first [`Bus::handle_timeout`].
    pub fn load(&mut self, image: StoreImage) {
        self.reserved_sessions = image.next_session;
        self.next_session = self.next_session.max(image.next_session);
        for session in image.sessions {
            self.load_session(session);
        }
        for (id, stored) in image.retained {
            self.next_message = self.next_message.max(id.0 + 1);
            let message = self.read_back(stored);
            self.note_publisher(&message);
            if let Some(at) = message.expires_at {
                self.timers
                    .insert((at, Timer::RetainedExpiry(message.topic.bytes().clone())));
            }
            self.retained.put(Kept { message, id });
        }
        let sessions = (0..).zip(&self.sessions);
        let places = sessions.filter_map(|(slot, session)| Some((session.as_ref()?.id, slot)));
        let places: HashMap<_, Slot> = places.collect();
        for (id, stored, due) in image.delayed {
            self.next_message = self.next_message.max(id.0 + 1);
            let message = self.read_back(stored);
            self.note_publisher(&message);
            self.timers
                .insert((due.to_instant(self.epoch), Timer::Delayed(id)));
            self.delayed_bytes += message.size();
            let from = message.publisher.and_then(|id| places.get(&id).copied());
            self.delayed.insert(id, Delayed { message, from });
        }
    }

    /// The number of whoever published it is given: a store of an earlier version does not say how far they went.
    fn note_publisher(&mut self, message: &Message) {
        let publisher = message.publisher.map_or(0, |session| session.0);
        self.next_session = self.next_session.max(publisher + 1);
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

    fn load_session(&mut self, image: SessionImage) {
        let SessionImage {
            id,
            record,
            subscriptions,
            next_seq,
            lanes,
            held,
            received,
        } = image;
        self.next_session = self.next_session.max(id.0 + 1);
        for lane in &lanes {
            self.stored_bytes += usize::try_from(lane.bytes).unwrap_or(usize::MAX);
        }
        if record.ends == Some(ESTATE) {
            return self.load_estate(id, lanes);
        }
        let mut session = Session::new(id, record.client_id.clone());
        if record.username.is_some() {
            session.presence = Arc::new(Presence {
                username: record.username.clone(),
                ..Presence::default()
            });
        }
        session.recorded = true;
        session.durable = !record.expiry.is_zero();
        session.expiry = record.expiry;
        received
            .into_iter()
            .for_each(|packet| session.received.insert(packet));
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
        session.next_seq = next_seq;
        // In doubt it was handed over: DUP is allowed to be wrong that way round.
        session.unsent_from = record.unsent_from.unwrap_or(next_seq);
        for lane in lanes {
            session.lanes.load(lane);
        }
        for delivery in held {
            self.stored_bytes += delivery.entry.size as usize;
            let mut queued = self.queued(delivery, true);
            (queued.received, queued.carried) = (true, true);
            let before = session.held();
            session.push_inflight(queued);
            self.memory.change(before, session.held());
        }
        if record.unsent_from.is_none() {
            // Connected when the gateway stopped, away from now on: the next restart must not let its time begin anew.
            let op = StoreOp::PutSession(id, Box::new(session.record(self.epoch)));
            self.pending.push(op);
        }
        let slot = self.place(session);
        for subscription in subscriptions {
            self.index.insert(
                &subscription.filter,
                subscription.share.as_ref(),
                Entry::new(slot, &subscription.options),
                false,
            );
            if subscription.exclusive {
                self.exclusive.insert(subscription.filter.clone(), slot);
            }
            self.memory.subscriptions += memory::of_subscription(&subscription);
            self.session_mut(slot).subscriptions.insert(subscription);
        }
        self.set_timers(slot);
    }
}
