//! From a publish to its deliveries: who gets a message, and at which QoS.

use crate::acks::Needs;
use crate::bus::{Bus, BusOutputs};
use crate::clients::make_room;
use crate::index::{GroupId, Matches};
use crate::pending::BodyRef;
use crate::reading::Readable;
use crate::retention::is_news_of_gateway;
use crate::sessions::Slot;
use crate::settings::{BusSettings, Overlap};
use crate::stats::DropReason;
use crate::turns;
use headgate_model::bus::{Outcome, Refusal};
use headgate_model::memory::{SMALL, Want};
use headgate_model::store::StoredMessage;
use headgate_model::{Instant, Message, Qos, SubscriptionIds, WallTime};
use std::sync::Arc;

/// One copy of a message on its way to one session.
#[derive(Debug)]
pub(crate) struct Target {
    pub slot: Slot,
    pub qos: Qos,
    pub retain: bool,
    pub group: GroupId,
    pub identifiers: Option<Box<SubscriptionIds>>,
}

/// Whom the message goes to that is being routed. Reused from publish to publish.
#[derive(Debug, Default)]
pub(crate) struct Router {
    matches: Matches,
    pub targets: Vec<Target>,
    /// Each session's place among the targets, with the stamp of the message for which that was so.
    marks: Vec<(u32, u32)>,
    stamp: u32,
}

impl Router {
    /// Another message is routed, to sessions with places below `places`.
    fn next_message(&mut self, places: usize) {
        while self.marks.len() < places {
            make_room(&mut self.marks);
            self.marks.resize(places.min(self.marks.capacity()), (0, 0));
        }
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            // After four billion messages the old marks would count again.
            self.marks.fill((0, 0));
            self.stamp = 1;
        }
    }

    /// The copy that goes to this session already.
    fn target_of(&mut self, session: Slot) -> Option<&mut Target> {
        let (stamp, at) = self.marks[session as usize];
        (stamp == self.stamp).then(|| &mut self.targets[at as usize])
    }

    /// The next copy goes to this session.
    fn mark(&mut self, session: Slot) {
        let at = u32::try_from(self.targets.len()).expect("fewer than four billion sessions");
        self.marks[session as usize] = (self.stamp, at);
    }
}

/// What is made of a message at most once, however many sessions keep it: a copy that owns its bytes, and a body in the open batch.
#[derive(Debug, Default)]
pub(crate) struct LastingCopy {
    compact: Option<Arc<Message>>,
    body: Option<BodyRef>,
    /// Who may read it.
    pub readable: Readable,
}

impl LastingCopy {
    /// Of a message that owns its bytes.
    pub(crate) fn of(message: &Arc<Message>) -> Self {
        Self {
            compact: Some(Arc::clone(message)),
            ..Self::default()
        }
    }

    pub(crate) fn compact(&mut self, message: &Message) -> Arc<Message> {
        Arc::clone(self.compact.get_or_insert_with(|| Arc::new(message.compact())))
    }
}

/// Who publishes a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    /// The gateway itself: what it has to say goes on in every state.
    Gateway,
    /// A program by way of the hub. It is refused what a client would be.
    Hub,
    /// The client of a session, or its will.
    Session(Slot),
}

impl Origin {
    pub(crate) fn session(self) -> Option<Slot> {
        match self {
            Self::Session(slot) => Some(slot),
            Self::Gateway | Self::Hub => None,
        }
    }

    fn may_be_refused(self) -> bool {
        !matches!(self, Self::Gateway)
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ingested {
    pub outcome: Outcome,
    /// What the acknowledgement promises.
    pub needs: Needs,
}

impl BusSettings {
    /// The QoS of a copy. \[MQTT-3.8.4-8\]
    pub(crate) fn effective_qos(&self, published: Qos, subscribed: Qos) -> Qos {
        if self.upgrade_qos {
            subscribed
        } else {
            published.min(subscribed)
        }
    }
}

impl Bus {
    /// A message enters the bus: held back, retained and routed as its topic says.
    pub(crate) fn ingest(
        &mut self,
        mut message: Message,
        origin: Origin,
        now: Instant,
        out: &mut BusOutputs,
    ) -> Result<Ingested, Refusal> {
        let from = origin.session();
        if message.topic.as_bytes().starts_with(b"$delayed/") {
            return self.delay(message, from, now);
        }
        let size = message.size();
        let want = if size <= SMALL {
            Want::ToGoOn
        } else {
            Want::ToPublish
        };
        if origin.may_be_refused() && !self.has_memory(want, size) {
            self.counters.drop(DropReason::MemoryFull);
            return Err(Refusal::NoMemory);
        }
        if self.is_state_of_gateway(&message) {
            self.counters.drop(DropReason::NotAuthorized);
            return Err(Refusal::TopicInvalid);
        }
        self.counters.published += 1;
        if message.retain
            && let Some(stopped) = self.stop_superseded(&mut message, from)
        {
            return Ok(stopped);
        }
        let message = message.share();
        let mut copy = LastingCopy::default();
        let circulates = self.find_targets(&message, from);
        let copied = if self.links.is_empty() {
            None
        } else {
            self.copy_of(&message, from, circulates)
        };
        if let Some(stopped) = copied.and_then(|copied| self.stop_copy(copied, from, &message, now)) {
            self.router.targets.clear();
            return Ok(stopped);
        }
        if self.links.refusing && self.some_target_refuses(&message, now, out) {
            self.router.targets.clear();
            self.counters.drop(DropReason::QueueFull);
            return Err(Refusal::QueueFull);
        }
        if self.store.is_full && origin.may_be_refused() && self.wants_store(&message) {
            self.router.targets.clear();
            self.counters.drop(DropReason::StoreFull);
            return Err(Refusal::StoreFull);
        }
        if let Some(copied) = copied {
            self.links.duplicates.count(copied, now);
        }
        let retained = message.retain && self.retain(&message, from, &mut copy, now);
        let outcome = if self.router.targets.is_empty() {
            Outcome::NoSubscribers
        } else {
            Outcome::Matched
        };
        if self.router.targets.is_empty() {
            self.counters.unmatched += 1;
        }
        let mut queued = false;
        let mut targets = std::mem::take(&mut self.router.targets);
        for target in targets.drain(..) {
            queued |= self.deliver(&message, target, &mut copy, now, out);
        }
        self.router.targets = targets;
        let needs = match copy.body {
            _ if retained => Needs::Disk,
            Some(body) if queued => Needs::Entries(body),
            _ => Needs::Nothing,
        };
        Message::recycle(message);
        Ok(Ingested { outcome, needs })
    }

    /// Whether a client would tell the state of one of the gateway's own bridges, whose name it has taken: what the gateway retains below `$SYS/` is its own.
    fn is_state_of_gateway(&self, message: &Message) -> bool {
        let topic = message.topic.as_bytes();
        topic.starts_with(b"$SYS/")
            && !self.links.is_gateway(message.publisher)
            && self
                .retention
                .messages
                .get(topic)
                .is_some_and(|own| self.links.is_gateway(own.message.publisher))
    }

    /// Whether taking this message for `targets` would write something.
    fn wants_store(&self, message: &Message) -> bool {
        let retains = message.retain && !message.payload.is_empty() && !is_news_of_gateway(message);
        retains
            || self
                .router
                .targets
                .iter()
                .any(|target| target.qos > Qos::AtMostOnce && self.sessions[target.slot].is_durable())
    }

    /// Fills `targets` with one copy for each session, or for each subscription if the operator wants that. MQTT 5 §3.3.4. Whether it came by a link
    /// and another link subscribed to it.
    fn find_targets(&mut self, message: &Message, from: Option<Slot>) -> bool {
        let router = &mut self.router;
        let mut matches = std::mem::take(&mut router.matches);
        matches.clear();
        self.index.collect(message.topic.as_bytes(), &mut matches);
        self.work += matches.plain.len() + 4 * matches.groups.len() + turns::NODE * matches.visited;
        router.next_message(self.sessions.places());
        let from_link = !self.links.is_empty() && from.is_some_and(|slot| self.sessions[slot].is_link());
        let transit = self.settings.links.transit;
        let mut circulates = false;
        for entry in &matches.plain {
            if (entry.no_local || from_link) && from == Some(entry.session) {
                continue; // [MQTT-3.8.3-3], and over a link nothing goes back.
            }
            if from_link && self.sessions[entry.session].is_link() {
                circulates = true;
                if !transit {
                    continue;
                }
            }
            let qos = self.settings.effective_qos(message.qos, entry.qos);
            let retain = message.retain && entry.retain_as_published; // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
            if self.settings.overlap == Overlap::OneCopy {
                if let Some(target) = router.target_of(entry.session) {
                    target.qos = target.qos.max(qos);
                    target.retain |= retain;
                    if entry.identifier != 0 {
                        target.identifiers.get_or_insert_default().push(entry.identifier);
                    }
                    continue;
                }
                router.mark(entry.session);
            }
            let identifiers = identifiers(entry.identifier);
            router.targets.push(Target {
                slot: entry.session,
                qos,
                retain,
                group: 0,
                identifiers,
            });
        }
        for group in &matches.groups {
            if let Some(target) = self.choose(*group, message, from.filter(|_| from_link)) {
                circulates |= from_link && self.sessions[target.slot].is_link();
                self.router.targets.push(target);
            }
        }
        self.router.matches = matches;
        circulates
    }

    /// The body of a message in the open batch.
    pub(crate) fn body_of(&mut self, message: &Arc<Message>, copy: &mut LastingCopy) -> BodyRef {
        if let Some(body) = copy.body.filter(|body| self.pending.holds(*body)) {
            return body;
        }
        *copy.body.insert(self.new_body(message))
    }

    pub(crate) fn new_body(&mut self, message: &Arc<Message>) -> BodyRef {
        let id = self.numbers.message();
        let expires = message.expires_at.map(|at| WallTime::of(at, self.epoch));
        let message = Arc::clone(message);
        self.pending.put_message(id, StoredMessage { message, expires })
    }
}

pub(crate) fn identifiers(identifier: u32) -> Option<Box<SubscriptionIds>> {
    (identifier != 0).then(|| Box::new(vec![identifier].into()))
}
