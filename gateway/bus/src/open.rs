//! A session is opened: new, resumed, or taken over from the connection that has it. MQTT 5 §3.1.2.4, §3.1.4

use crate::acks::Needs;
use crate::attachment::Attached;
use crate::bus::{Bus, BusOutputs, Notice};
use crate::ledger::seconds;
use crate::memory;
use crate::queue::Queued;
use crate::session::Session;
use crate::sessions::Slot;
use crate::timers::Timer;
use headgate_model::bus::OpenRefusal;
use headgate_model::memory::Want;
use headgate_model::{
    BusEvent, EndpointId, Instant, MountPoint, Open, OpenWill, Qos, StoreOp, Subscription,
    SubscriptionOptions, Will,
};
use std::sync::Arc;
use std::time::Duration;

/// How long a connection that is taken over may take to hand over what its client had sent.
const PATIENCE: Duration = Duration::from_secs(1);

impl Bus {
    /// Opens a session. While another connection has it, this one waits: see [`Bus::leave`]. \[MQTT-3.1.4-3\]
    pub(crate) fn open(&mut self, endpoint: EndpointId, open: Open, now: Instant, out: &mut BusOutputs) {
        let slot = self.sessions.of_client(open.client.client_id().as_str());
        if slot.is_some_and(|slot| !self.may_have(slot, &open, now)) {
            let refused = BusEvent::OpenRefused(OpenRefusal::NotOwner);
            return out.events.push((endpoint, refused));
        }
        if !self.has_room_to_open(slot, &open) {
            let refused = BusEvent::OpenRefused(OpenRefusal::NoRoom);
            return out.events.push((endpoint, refused));
        }
        if !self.user_may_connect(slot, &open) {
            let refused = BusEvent::OpenRefused(OpenRefusal::TooManyOfUser);
            return out.events.push((endpoint, refused));
        }
        let old = slot.and_then(|slot| {
            let session = &mut self.sessions[slot];
            let named = session.named(slot);
            let attached = session.attachment.attached_mut()?;
            Some((named, attached.endpoint, attached.be_taken_over()))
        });
        let Some((old, old_endpoint, is_first)) = old else {
            return self.admit(endpoint, open, now, out);
        };
        if is_first {
            let session = &self.sessions[old.slot];
            out.events.push((old_endpoint, BusEvent::TakenOver));
            out.notices.push(Notice::TakenOver {
                client: session.client.clone(),
                old: Arc::clone(&session.presence),
                new: Arc::clone(open.client.who()),
            });
            self.timers.insert(now + PATIENCE, Timer::TakeOver(old));
        }
        if let Some(earlier) = self.take_overs.wait(endpoint, open) {
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
            || self.has_memory(Want::ToKeep, session + will) && !(self.store.is_full && (is_new || will > 0))
    }

    /// Whether its user may have one connection more. Who takes over one of the same user has none more.
    fn user_may_connect(&self, slot: Option<Slot>, open: &Open) -> bool {
        let max = self.settings.max_connections_per_user;
        let Some(user) = open.client.who().username.as_deref().filter(|_| max > 0) else {
            return true;
        };
        let has_one = slot.map(|slot| &self.sessions[slot]).is_some_and(|session| {
            session.is_attached() && session.presence.username.as_deref() == Some(user)
        });
        has_one || open.will == OpenWill::Awake || self.sessions.of_user(user) < max
    }

    /// Whether the session is its own: what it was sent, and what waits in it, is for the identity that opened it. A session that is over is nobody's.
    fn may_have(&self, slot: Slot, open: &Open, now: Instant) -> bool {
        let session = &self.sessions[slot];
        self.settings.share_sessions
            || session.presence.username == open.client.who().username
            || !session.is_attached() && session.ends_at.is_some_and(|at| at <= now)
    }

    /// Gives a session that nobody has to an endpoint.
    pub(crate) fn admit(&mut self, endpoint: EndpointId, open: Open, now: Instant, out: &mut BusOutputs) {
        let written = self.pending.len();
        let present = self.resumed(&open, now, out);
        let ends_one = self.pending.len() > written;
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
        let session = &mut self.sessions[slot];
        self.links.admit(session, open.link.map(|link| *link), now);
        let wakes = present.is_some() && open.will == OpenWill::Awake;
        if !wakes {
            if expiry > Duration::ZERO {
                session.make_durable(&mut self.gauges);
            }
            session.expiry = expiry;
            if session.wants_expired && !open.wants_expired {
                self.sweep.arm(now); // What has expired by now is not wanted any more.
            }
            session.wants_expired = open.wants_expired;
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
        let receive_maximum = open.receive_maximum.clamp(1, max_inflight);
        session.deliveries.begin_connection(receive_maximum, open.credit);
        session.deliveries.count_slept(0, &mut self.gauges);
        let attached = Attached::new(endpoint, wakes, session.doubts(), seconds(now));
        self.sessions.attach(slot, attached);
        let session = &mut self.sessions[slot];
        if !wakes && (session.is_durable() || session.will.is_some() || session.recorded) {
            session.recorded = true;
            let op = StoreOp::PutSession(session.id, Box::new(session.record(epoch)));
            self.pending.push(op);
        }
        self.look_at_rules(slot, now, out);
        self.auto_subscribe(slot);
        if !wakes {
            out.notices.push(Notice::Connected {
                client: open.client.client_id().clone(),
                presence: Arc::clone(open.client.who()),
            });
        }
        // CONNACK of a session that shall last promises that it does; that of one in the place of another, that the other is gone for good. [MQTT-3.1.2-4]
        let needs = if self.sessions[slot].is_durable() || ends_one {
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
        let slot = self.sessions.of_client(open.client.client_id().as_str())?;
        let over = self.sessions[slot].ends_at.is_some_and(|at| at <= now);
        if open.clean_start || over || !self.sessions[slot].is_durable() {
            self.end_session(slot, now, out);
            return None;
        }
        Some(slot)
    }

    /// The client has been told that it is in: what waits for it may go out.
    pub(crate) fn finish_open(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) {
        let session = &mut self.sessions[slot];
        let Some(attached) = session.attachment.attached_mut() else {
            return;
        };
        attached.opened();
        let endpoint = attached.endpoint;
        // PUBREL for what was received, in order. [MQTT-4.4.0-1] [MQTT-4.6.0-4]
        let received = session.deliveries.inflight.iter().filter_map(Queued::id);
        out.events
            .extend(received.map(|id| (endpoint, BusEvent::Received(id))));
        self.pump(slot, now, out);
    }

    fn new_session(&mut self, open: &Open) -> Slot {
        let id = self.numbers.session();
        let mut session = Session::new(id, open.client.client_id().clone());
        if open.forgeable {
            let first = self.numbers.first_delivery(id);
            (session.deliveries.next_seq, session.deliveries.unsent_from) = (first, first);
        }
        self.sessions.insert(session)
    }

    /// From now on the deliveries of a new session whose client's address could be forged begin with a number that nobody can guess: an acknowledgement proves that it was
    /// received. Simulations, which must repeat, do without.
    pub fn number_unpredictably(&mut self) {
        self.numbers.be_unpredictable();
    }

    /// A new expiry of a session that is open.
    pub(crate) fn changed_expiry(&self, slot: Slot, wished: Option<Duration>) -> Option<Duration> {
        let session = &self.sessions[slot];
        let anonymous = session.presence.username.is_none() && !session.is_bridge();
        wished.map(|wished| self.capped_expiry(wished, anonymous))
    }

    fn capped_expiry(&self, wished: Duration, anonymous: bool) -> Duration {
        let settings = &self.settings;
        let more = anonymous.then_some(settings.max_anonymous_session_expiry);
        let caps = [Some(settings.max_session_expiry), more].into_iter().flatten();
        caps.filter(|cap| !cap.is_zero()).fold(wished, Duration::min)
    }

    fn auto_subscribe(&mut self, slot: Slot) {
        let session = &self.sessions[slot];
        if session.is_link() {
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
                let known = session.subscriptions.get(s.name());
                known.is_none()
            })
            .collect();
        for subscription in wanted {
            // A refusal (a limit, an exclusive topic) leaves the client without it, as if it had asked itself.
            let _ = self.add_subscription(slot, subscription);
        }
    }
}
