//! A session: what the bus knows of one client, connected or not. MQTT 5 §4.1.

use crate::attachment::{Attached, Attachment};
use crate::bus::Notice;
use crate::deliveries::{Deliveries, SendLimits};
use crate::gauges::Gauges;
use crate::links::LinkState;
use crate::memory;
use crate::queue::Queued;
use crate::rare::Rare;
use crate::retention::Scans;
use crate::sessions::{SessionRef, Slot};
use crate::settings::BusSettings;
use crate::stats::DropReason;
use crate::subscriptions::Subscriptions;
use headgate_model::bus::{NEVER, Presence};
use headgate_model::store::{SessionRecord, StoredWill};
use headgate_model::{
    ClientId, CloseReason, EndpointId, Instant, Qos, QueueRules, SessionId, Subscription, WallTime, Will,
};
use std::sync::Arc;
use std::time::Duration;

/// When a will is due whose client said goodbye and kept it: never. See [`CloseReason::KeepingWill`](headgate_model::CloseReason).
pub(crate) const NOT_DUE: Instant = Instant(u64::MAX);
/// The same in the store.
pub(crate) const NEVER_DUE: WallTime = WallTime(u64::MAX);

#[derive(Debug)]
pub(crate) struct Session {
    pub id: SessionId,
    pub client: ClientId,
    /// Of its client when it was last here.
    pub presence: Arc<Presence>,
    pub attachment: Attachment,
    /// It outlives its connection, so its state is in the store.
    durable: bool,
    /// It has a record in the store, for its state or for its will alone.
    pub recorded: bool,
    /// It is in the list of sessions with searches to go on with.
    pub scan_listed: bool,
    pub expiry: Duration,
    pub ends_at: Option<Instant>,
    pub will: Option<Box<Will>>,
    pub will_due: Option<Instant>,
    pub subscriptions: Subscriptions,
    pub deliveries: Deliveries,
    /// QoS 2 packet identifiers of this client that are not yet released, and the note of its adapter.
    pub rare: Rare,
    pub scans: Scans,
    /// Its other side is another broker.
    pub link: Option<Box<LinkState>>,
    /// Its client may not read some of what its filters match: see [`crate::reading`].
    pub narrowed: bool,
    /// What expires while it waits is delivered all the same.
    pub wants_expired: bool,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Session>() <= 320, "there is one for each client");

impl Session {
    pub(crate) fn new(id: SessionId, client: ClientId) -> Self {
        Self {
            id,
            client,
            presence: Arc::default(),
            attachment: Attachment::Away { left: 0 },
            durable: false,
            recorded: false,
            scan_listed: false,
            expiry: Duration::ZERO,
            ends_at: None,
            will: None,
            will_due: None,
            subscriptions: Subscriptions::default(),
            deliveries: Deliveries::default(),
            rare: Rare::default(),
            scans: Scans::default(),
            link: None,
            narrowed: false,
            wants_expired: false,
        }
    }

    /// Its name, which stays good when it has ended.
    pub(crate) fn named(&self, slot: Slot) -> SessionRef {
        SessionRef { slot, id: self.id }
    }

    /// What it has of each gauge.
    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            durable: self.durable.into(),
            subscriptions: self.subscriptions.len(),
            durable_subscriptions: if self.durable { self.subscriptions.len() } else { 0 },
            subscription_bytes: self.subscriptions.iter().map(memory::of_subscription).sum(),
            note_bytes: memory::of_note(self.rare.note()),
            ..self.deliveries.gauges()
        }
    }

    #[inline]
    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    /// It outlives its connection from now on.
    pub(crate) fn make_durable(&mut self, gauges: &mut Gauges) {
        if !self.durable {
            gauges.durable += 1;
            gauges.durable_subscriptions += self.subscriptions.len();
            self.durable = true;
        }
    }

    /// Adds a subscription, or puts it in the place of the one with its name.
    pub(crate) fn hold(&mut self, subscription: Subscription, gauges: &mut Gauges) {
        let held = self.subscriptions.len();
        self.subscriptions.insert(subscription, gauges);
        if self.durable {
            gauges.durable_subscriptions += self.subscriptions.len() - held;
        }
    }

    /// The endpoint that has it.
    #[inline]
    pub(crate) fn endpoint(&self) -> Option<EndpointId> {
        self.attachment.attached().map(|attached| attached.endpoint)
    }

    #[inline]
    pub(crate) fn is_attached(&self) -> bool {
        self.attachment.attached().is_some()
    }

    /// Whether its client sleeps, and no endpoint has it.
    #[inline]
    pub(crate) fn is_asleep(&self) -> bool {
        matches!(self.attachment, Attachment::Asleep { .. })
    }

    /// Whether an answer to its endpoint still waits for the store.
    pub(crate) fn answer_waits(&self) -> bool {
        let answers = self
            .attachment
            .attached()
            .and_then(|attached| attached.answers.as_deref());
        answers.is_some_and(|answers| !answers.is_empty())
    }

    /// Whether its endpoint wants to be told when nothing waits any more.
    #[inline]
    pub(crate) fn tells_drained(&self) -> bool {
        self.attachment
            .attached()
            .is_some_and(|attached| attached.tell_drained)
    }

    /// Whether an endpoint takes deliveries now.
    #[inline]
    pub(crate) fn is_online(&self) -> bool {
        self.attachment.attached().is_some_and(Attached::is_online)
    }

    /// Whether anything may be handed to the endpoint now.
    #[inline]
    pub(crate) fn takes(&self, limits: SendLimits) -> bool {
        self.is_online() && self.deliveries.has_credit(limits)
    }

    /// Whether this delivery may be handed to the endpoint now.
    #[inline]
    pub(crate) fn may_send(&self, next: &Queued, limits: SendLimits) -> bool {
        self.is_online() && self.deliveries.may_send(next, limits)
    }

    /// Whether a delivery that cannot go now is to wait in the store alone.
    pub(crate) fn must_page(&self, priority: u8, settings: &BusSettings) -> bool {
        !self.is_online() || self.deliveries.must_page(priority, settings)
    }

    /// How its queue behaves: by rules of its own, or as all do by `default`.
    #[inline]
    pub(crate) fn rules<'a>(&'a self, default: &'a QueueRules) -> &'a QueueRules {
        let own = self.link.as_deref().and_then(|link| link.rules.as_ref());
        own.unwrap_or(default)
    }

    /// Counts a drop in the ledger of a link.
    pub(crate) fn note_drop(&mut self, reason: DropReason, qos: Qos, topic: &[u8]) {
        if let Some(link) = self.link.as_deref_mut() {
            link.ledger.drop(reason, qos, topic);
        }
    }

    /// Counts a QoS 0 delivery in the ledger of a link.
    pub(crate) fn note_handed_qos0(&mut self) {
        if let Some(link) = self.link.as_deref_mut() {
            link.ledger.handed_qos0 += 1;
        }
    }

    /// Whether one more delivery of `size` bytes is over a limit. QoS 0 is in memory, so no rule lets it have more than `default`.
    ///
    /// What only waits for its commit and has room in the receiver's window does not count: it is on its way.
    pub(crate) fn is_full(&self, qos: Qos, size: usize, default: &QueueRules) -> bool {
        let rules = self.rules(default);
        let queue = &self.deliveries.queue;
        let on_the_way = if self.is_online() {
            self.deliveries.room_in_window()
        } else {
            0
        };
        let waiting = self.deliveries.queued();
        if waiting.entries < on_the_way {
            return false;
        }
        let in_memory_is_full =
            || queue.qos0() >= default.max_messages || queue.bytes() + size > default.max_bytes;
        waiting.entries - on_the_way >= rules.max_messages
            || waiting.bytes + size > rules.max_bytes
            || qos == Qos::AtMostOnce && self.link.is_some() && in_memory_is_full()
    }

    /// As it is written to the store.
    pub(crate) fn record(&self, epoch: WallTime) -> SessionRecord {
        let is_gone = !self.is_attached() || self.attachment.is_falling_asleep();
        SessionRecord {
            client_id: self.client.clone(),
            username: self.presence.username.clone(),
            expiry: if self.durable { self.expiry } else { Duration::ZERO },
            ends: self.ends_at.map(|at| WallTime::of(at, epoch)),
            unsent_from: is_gone.then(|| self.deliveries.unsent_from()),
            will: self.will.as_ref().map(|will| StoredWill {
                message: Arc::new(will.message.compact()),
                delay: will.delay,
                message_expiry: will.message_expiry,
                due: self.will_due.map(|at| match at {
                    NOT_DUE => NEVER_DUE,
                    at => WallTime::of(at, epoch),
                }),
            }),
            wants_expired: self.wants_expired,
        }
    }

    /// Whether a delivery that waits is dropped when its message has expired.
    #[inline]
    pub(crate) fn drops_expired(&self, qos: Qos) -> bool {
        !self.wants_expired || qos == Qos::AtMostOnce
    }

    /// Nothing waits for the client and nothing is under way to it.
    pub(crate) fn is_drained(&self) -> bool {
        self.deliveries.is_empty() && self.scans.is_empty()
    }

    /// What operators hear when its client has left.
    pub(crate) fn disconnected(&self, reason: CloseReason) -> Notice {
        Notice::Disconnected {
            client: self.client.clone(),
            presence: Arc::clone(&self.presence),
            reason,
        }
    }

    /// Its client sleeps from now on and may be silent so long. A will keeps the time, for a client that is not known to anybody else when it comes
    /// back; without a will there is nothing but the expiry that it could matter to.
    pub(crate) fn set_patience(&mut self, patience: Option<Duration>, now: Instant) {
        let as_before = self.will.as_ref().map_or(self.expiry, |will| will.delay);
        let patience = patience.unwrap_or(as_before);
        if let Some(will) = &mut self.will {
            will.delay = patience;
            self.will_due = Some(now + patience);
        }
        self.ends_at = (self.expiry != NEVER).then(|| now + self.expiry.max(patience));
    }

    /// When the session ends if its client leaves now.
    pub(crate) fn end_after(&self, now: Instant) -> Option<Instant> {
        (self.expiry != NEVER).then(|| now + self.expiry)
    }
}
