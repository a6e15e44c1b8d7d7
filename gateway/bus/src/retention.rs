//! Retaining messages, and finding them again for who subscribes. MQTT 5 §3.3.1.3

use crate::acks::Needs;
use crate::bus::{Bus, BusOutputs};
use crate::retained::{Kind, Owner, Retained, RetainedMessage, Scanned};
use crate::routing::{LastingCopy, Target, identifiers};
use crate::sessions::Slot;
use crate::stats::DropReason;
use bytes::Bytes;
use headgate_model::link::RESERVED_CLIENT_ID;
use headgate_model::memory::Want;
use headgate_model::store::{MessageId, StoredMessage};
use headgate_model::{
    AckToken, BusEvent, EndpointId, Instant, Message, Qos, SessionId, StoreOp, Subscription,
    SubscriptionOptions, TopicFilter,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Retained topics looked at in one turn of one session: a search through a million of them must not hold up live traffic.
const SCAN_BUDGET: usize = 256;
/// Where the gateway says what it has to say of itself.
const SYSTEM: &[u8] = b"$SYS/";
/// States of clients that are retained; a further one is delivered but not retained.
const MAX_STATES: usize = 1_000;
/// Bytes of a state's topic, likewise: the client id is in it.
const MAX_STATE_TOPIC_BYTES: usize = 1_024;
/// Retained messages delivered in one turn of one session.
const SCAN_DELIVERIES: usize = 64;

/// Retained messages, and the searches for them.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    pub messages: Retained,
    /// Sessions whose search goes on at the next turn.
    searching: VecDeque<Slot>,
}

impl Retention {
    /// How many sessions have a search to go on with.
    #[inline]
    pub(crate) fn searching(&self) -> usize {
        self.searching.len()
    }

    /// Whose search goes on next.
    pub(crate) fn next_search(&mut self) -> Option<Slot> {
        self.searching.pop_front()
    }
}

/// A search for retained messages that a new subscription asked for.
#[derive(Debug)]
pub(crate) struct Scan {
    pub options: SubscriptionOptions,
    pub after: Option<Bytes>,
}

/// The searches of a session, one for each subscription at most: who subscribes again before it is over lets it begin anew. Most sessions have none.
#[derive(Debug, Default)]
pub(crate) struct Scans(Option<Box<BTreeMap<ScanName, Scan>>>);

/// The filter and label of the subscription that asked for a search.
type ScanName = (TopicFilter, u32);

impl Scans {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn insert(&mut self, name: ScanName, scan: Scan) {
        self.0.get_or_insert_default().insert(name, scan);
    }

    pub(crate) fn pop_first(&mut self) -> Option<(ScanName, Scan)> {
        let scan = self.0.as_mut()?.pop_first();
        self.0 = self.0.take().filter(|scans| !scans.is_empty());
        scan
    }

    /// What this subscription searched for is not wanted any more.
    pub(crate) fn forget(&mut self, name: &ScanName) {
        if let Some(scans) = &mut self.0 {
            scans.remove(name);
        }
        self.0 = self.0.take().filter(|scans| !scans.is_empty());
    }
}

/// Whether this is the gateway's own news, at QoS 0 below `$SYS/`: it says the same again, and better, a moment after a start. So it is retained in memory
/// alone, and an idle gateway writes nothing to its flash.
pub(crate) fn is_news_of_gateway(message: &Message) -> bool {
    message.publisher.is_none()
        && message.qos == Qos::AtMostOnce
        && message.topic.as_bytes().starts_with(SYSTEM)
}

/// Below `$SYS/` the gate lets a client say its own state alone; all else is of the gateway, or one of its bridges.
fn kind_of(message: &Message, by_gateway: bool) -> Kind {
    match (message.topic.as_bytes().starts_with(SYSTEM), by_gateway) {
        (false, _) => Kind::Plain,
        (true, false) => Kind::State,
        (true, true) => Kind::OfGateway,
    }
}

impl Bus {
    /// Sets or removes the retained message of a topic. Whether something was written for the store.
    pub(crate) fn retain(
        &mut self,
        message: &Arc<Message>,
        from: Option<Slot>,
        copy: &mut LastingCopy,
        now: Instant,
    ) -> bool {
        let topic = message.topic.as_bytes();
        if message.payload.is_empty() {
            return self.drop_retained(topic); // [MQTT-3.3.1-6] [MQTT-3.3.1-7]
        }
        // What a link brings in is not the link's.
        let publisher = from.map(|slot| &self.sessions[slot]);
        let kind = kind_of(message, self.links.is_gateway(message.publisher));
        let owner = publisher.filter(|session| session.link.is_none() && kind == Kind::Plain);
        let owner = owner.map(|session| Owner::of(session.client.as_str()));
        let limits = &self.settings.retained;
        let may_keep = match kind {
            Kind::Plain => self.may_keep(message, owner),
            Kind::State => self.may_keep_state(message),
            Kind::OfGateway => true,
        };
        if !limits.available || !may_keep {
            self.counters.drop(DropReason::NotRetained);
            return false;
        }
        let mut retained = copy.compact(message);
        if retained.expires_at.is_none() && limits.expiry > Duration::ZERO && kind != Kind::OfGateway {
            retained = Arc::new(Message {
                expires_at: Some(now + limits.expiry),
                ..(*retained).clone()
            });
        }
        self.drop_retained(topic);
        let is_durable = !is_news_of_gateway(message);
        let id = is_durable.then(|| {
            // A body of its own when its expiry differs from the message's.
            let body = if retained.expires_at == message.expires_at {
                self.body_of(message, copy)
            } else {
                self.new_body(&retained)
            };
            self.pending.keep(body, StoreOp::PutRetained(body.id));
            body.id
        });
        self.retention.messages.put(RetainedMessage {
            message: retained,
            id,
            owner,
            kind,
        });
        is_durable
    }

    /// Whether there is room for a client's own state.
    fn may_keep_state(&self, message: &Message) -> bool {
        let (topic, known) = (message.topic.as_bytes(), &self.retention.messages);
        topic.len() <= MAX_STATE_TOPIC_BYTES
            && (known.states() < MAX_STATES || known.contains(topic))
            && self.has_memory(Want::ToKeep, message.size())
    }

    /// Whether the limits leave room for a message that they count.
    fn may_keep(&self, message: &Message, owner: Option<Owner>) -> bool {
        let (limits, known) = (&self.settings.retained, &self.retention.messages);
        let topic = message.topic.as_bytes();
        let is_new = !known.contains(topic);
        let has_too_many =
            owner.is_some_and(|owner| known.owned_with(owner, topic) > limits.max_count_per_client);
        message.payload.len() <= limits.max_payload_bytes
            && !(is_new && known.counted() >= limits.max_count)
            && !has_too_many
            && known.bytes_with(message) <= limits.max_bytes
            && self.has_memory(Want::ToKeep, message.size())
    }

    /// What is retained at one topic, for a client that may subscribe to it.
    pub(crate) fn read_retained(
        &mut self,
        from: EndpointId,
        slot: Slot,
        token: AckToken,
        topic: &Subscription,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        let name = topic.filter.as_bytes();
        let retained = self
            .retention
            .messages
            .get(name)
            .filter(|_| !topic.filter.has_wildcard());
        let rules = self.sessions[slot].presence.rules.policy();
        let may_read = rules.is_none_or(|rules| rules.may_read(name));
        let is_over = |message: &Message| message.expires_at.is_some_and(|at| at <= now);
        let message = retained.map(|retained| Arc::clone(&retained.message));
        let message = message.filter(|message| may_read && !is_over(message));
        self.answer(from, BusEvent::Retained(token, message), Needs::Nothing, out);
    }

    fn drop_retained(&mut self, topic: &[u8]) -> bool {
        let old = self.retention.messages.remove(topic);
        let id = old.and_then(|old| old.id);
        id.map(|id| self.pending.push(StoreOp::DeleteRetained(id)))
            .is_some()
    }

    /// The retained message that expires first has expired.
    pub(crate) fn expire_retained(&mut self) {
        let old = self.retention.messages.pop_expired();
        if let Some(id) = old.and_then(|old| old.id) {
            self.pending.push(StoreOp::DeleteRetained(id));
        }
    }

    /// What an earlier run retained.
    pub(crate) fn restore_retained(&mut self, retained: Vec<(MessageId, StoredMessage)>) {
        let publishers = self.sessions.iter();
        let owners = publishers.map(|(_, session)| {
            let client = session.client.as_str();
            let is_bridge = client.starts_with(RESERVED_CLIENT_ID);
            (session.id, (Owner::of(client), is_bridge))
        });
        let owners: HashMap<SessionId, (Owner, bool)> = owners.collect();
        for (id, stored) in retained {
            self.numbers.note_message(id);
            let message = self.read_back(stored);
            self.note_publisher(&message);
            let publisher = message.publisher;
            let known = publisher.and_then(|publisher| owners.get(&publisher).copied());
            let by_gateway = known.map_or(publisher.is_none(), |(_, is_bridge)| is_bridge);
            let kind = kind_of(&message, by_gateway);
            self.retention.messages.put(RetainedMessage {
                message,
                id: Some(id),
                owner: known.map(|(owner, _)| owner).filter(|_| kind == Kind::Plain),
                kind,
            });
        }
    }

    /// Goes one step on with the searches of a session, if it has nothing else to send. When more is to do, the next turn goes on.
    pub(crate) fn scan_retained(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) {
        if self.sessions[slot].scans.is_empty() {
            return;
        }
        let limits = self.send_limits();
        let session = &mut self.sessions[slot];
        if !session.takes(limits) || session.answer_waits() {
            return;
        }
        let (name, scan) = session.scans.pop_first().expect("just looked at");
        let room = SCAN_DELIVERIES.min(session.deliveries.credit as usize);
        let (session_id, is_link) = (session.id, session.link.is_some());
        let split = is_link && !self.settings.links.transit;
        let links = &self.links;
        let mut found = Vec::new();
        let step = self
            .retention
            .messages
            .scan(&name.0, scan.after.as_ref(), SCAN_BUDGET, now, |retained| {
                let publisher = retained.message.publisher;
                if (scan.options.no_local || is_link) && publisher == Some(session_id) {
                    return ControlFlow::Continue(()); // [MQTT-3.8.3-3]
                }
                if split && publisher.is_some_and(|publisher| links.contains(publisher)) {
                    return ControlFlow::Continue(());
                }
                found.push(retained.clone());
                if found.len() == room {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        if let Scanned::Until(topic) = step {
            let after = Some(topic);
            session.scans.insert(name, Scan { after, ..scan });
        }
        if !session.scans.is_empty() && !std::mem::replace(&mut session.scan_listed, true) {
            self.retention.searching.push_back(slot);
        }
        for RetainedMessage { message, .. } in found {
            let qos = message.qos.min(scan.options.qos);
            // RETAIN is set whatever Retain As Published says. [MQTT-3.3.1-8]
            let target = Target {
                slot,
                qos,
                retain: true,
                group: 0,
                identifiers: identifiers(scan.options.identifier),
            };
            self.count_out(slot, &message, now);
            let mut copy = LastingCopy::of(&message);
            self.deliver(&message, target, &mut copy, now, out);
        }
    }
}
