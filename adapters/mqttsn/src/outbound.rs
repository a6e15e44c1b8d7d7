//! What a client is sent: REGISTER and PUBLISH, one at a time, again and again until it answers. §6.6, §6.10, §6.13
//!
//! The bus hands over one delivery for each credit, and gets the next credit when that one is done: so REGISTER and PUBLISH keep the order of the mailbox.

use crate::client::{Client, State};
use crate::counters::SnMetric;
use crate::gateway::{Occupant, Out, SnGateway};
use crate::handshake::to_wire;
use crate::inbound::short_topic;
use crate::outputs::Send;
use bytes::Bytes;
use headgate_model::datagram::Address;
use headgate_model::{
    BusCommand, CloseReason, Delivery, DeliveryId, Instant, Metric, Qos, Settlement, Topic,
};
use headgate_mqttsn_codec::{Message, Publish, RegAck, Register, ReturnCode, TopicRef, encoded_len};
use std::collections::VecDeque;

/// What is under way to a client. There while something is.
#[derive(Debug)]
pub(crate) struct Outbound {
    flow: Flow,
    /// When the client has not answered by then it is sent again; `None` while it is not the client's turn.
    retry_at: Option<Instant>,
    retries: u8,
    /// The client did not know the topic id, and was told it once more.
    told_again: bool,
    /// PUBLISH was last sent with DUP.
    with_dup: bool,
    /// The client refused it with DUP: it is sent without from now on.
    never_dup: bool,
    /// What the flow stands at was sent, perhaps in vain.
    sent: bool,
    /// Bytes of what could not be sent, for its client has not proved that it receives; 0 when all was sent.
    held: usize,
    /// REGISTER that was sent to have that proof, and how often.
    challenge: Option<Challenge>,
    /// One message is under way to a client at a time: these wait for their turn.
    waiting: VecDeque<Wanted>,
}

/// See [`Outbound::challenge`]. Ids that nobody can guess come back in REGACK.
#[derive(Clone, Copy, Debug)]
struct Challenge {
    topic_id: u16,
    msg_id: u16,
    sent: u8,
}

/// How often it is sent for one message. Then there must be room for the message itself: some clients read no REGISTER.
const MAX_CHALLENGES: u8 = 3;

#[derive(Debug)]
enum Flow {
    /// REGISTER was sent; then comes the delivery.
    Registering {
        delivery: Delivery,
        topic_id: u16,
        msg_id: u16,
    },
    /// PUBLISH was sent; PUBACK or PUBREC is awaited.
    Publishing { delivery: Delivery, topic: TopicRef },
    /// PUBREC came; PUBREL waits for the bus to say that this is durable.
    Durable(DeliveryId, IsDelivery),
    /// PUBREL was sent; PUBCOMP is awaited.
    Releasing(DeliveryId, IsDelivery),
}

/// Whether it is a delivery of this connection, which took a credit, and not what is left of one of an earlier connection.
type IsDelivery = bool;

#[derive(Debug)]
enum Wanted {
    Delivery(Delivery),
    /// PUBREL of what was received on an earlier connection.
    Release(DeliveryId),
}

/// A topic as a client knows it.
enum Known {
    As(TopicRef),
    /// It has to be told this id first.
    NotYet(u16),
    /// It has as many as it may have.
    TooMany,
}

impl Outbound {
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// The client connects again, and may have forgotten what it was told: that is no refusal.
    pub(crate) fn forgive(&mut self) {
        self.told_again = false;
    }

    fn id(&self) -> Option<DeliveryId> {
        match &self.flow {
            Flow::Registering { delivery, .. } | Flow::Publishing { delivery, .. } => delivery.id,
            Flow::Durable(id, _) | Flow::Releasing(id, _) => Some(*id),
        }
    }

    /// Whether the client answers what the flow stands at.
    fn is_answered(&self) -> bool {
        !matches!(&self.flow, Flow::Publishing { delivery, .. } if delivery.qos == Qos::AtMostOnce)
    }

    /// Messages at QoS 0 that are here and nowhere else.
    pub(crate) fn waiting_qos0(&self) -> u32 {
        let is_qos0 = |delivery: &Delivery| delivery.qos == Qos::AtMostOnce;
        let under_way = match &self.flow {
            Flow::Registering { delivery, .. } | Flow::Publishing { delivery, .. } => is_qos0(delivery),
            Flow::Durable(..) | Flow::Releasing(..) => false,
        };
        let waiting = self.waiting.iter();
        let waiting =
            waiting.filter(|wanted| matches!(wanted, Wanted::Delivery(delivery) if is_qos0(delivery)));
        u32::from(under_way) + u32::try_from(waiting.count()).unwrap_or(u32::MAX)
    }

    fn is(&self, msg_id: u16) -> bool {
        self.id().map(DeliveryId::get) == Some(msg_id)
    }
}

impl<A: Address> SnGateway<A> {
    pub(crate) fn on_delivery(&mut self, index: u32, delivery: Delivery, now: Instant, out: &mut Out<A>) {
        self.want(index, Wanted::Delivery(delivery), now, out);
    }

    /// It is durable that the client has the message: PUBREL. Also after a new connection.
    pub(crate) fn on_received(&mut self, index: u32, id: DeliveryId, now: Instant, out: &mut Out<A>) {
        let client = self.client_mut(index);
        match client.outbound.as_deref_mut() {
            Some(outbound) if matches!(outbound.flow, Flow::Durable(durable, _) if durable == id) => {
                let Flow::Durable(_, is_delivery) = outbound.flow else {
                    unreachable!("just looked at")
                };
                outbound.flow = Flow::Releasing(id, is_delivery);
                outbound.sent = false;
                self.send_flow(index, false, now, out);
            }
            _ => self.want(index, Wanted::Release(id), now, out),
        }
    }

    fn want(&mut self, index: u32, wanted: Wanted, now: Instant, out: &mut Out<A>) {
        match self.client_mut(index).outbound.as_deref_mut() {
            Some(outbound) => outbound.waiting.push_back(wanted),
            None => self.begin_flow(index, wanted, VecDeque::new(), now, out),
        }
    }

    fn begin_flow(
        &mut self,
        index: u32,
        wanted: Wanted,
        waiting: VecDeque<Wanted>,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let mut next = Some(wanted);
        let mut waiting = waiting;
        while let Some(wanted) = next.take() {
            let flow = match wanted {
                Wanted::Release(id) => Some(Flow::Releasing(id, false)),
                Wanted::Delivery(delivery) => self.flow_of(index, delivery, now, out),
            };
            let Some(flow) = flow else {
                next = waiting.pop_front();
                continue;
            };
            self.client_mut(index).outbound = Some(Box::new(Outbound {
                flow,
                retry_at: None,
                retries: 0,
                told_again: false,
                with_dup: false,
                never_dup: false,
                sent: false,
                held: 0,
                challenge: None,
                waiting,
            }));
            return self.send_flow(index, false, now, out);
        }
    }

    /// What is to be done for a delivery; `None` when nothing is left to do.
    fn flow_of(&mut self, index: u32, delivery: Delivery, now: Instant, out: &mut Out<A>) -> Option<Flow> {
        if delivery.message.is_expired(now) && !delivery.redelivered {
            self.settle(index, delivery.id, Settlement::Done, out);
            return None;
        }
        if self.is_too_large(index, &delivery) {
            out.counts.add(Metric::DroppedTooLarge);
            self.settle(index, delivery.id, Settlement::Rejected, out);
            return None;
        }
        let topic = match self.known_topic(index, &delivery.message.topic) {
            Known::As(topic) => topic,
            Known::NotYet(topic_id) => {
                let msg_id = self.client_mut(index).next_msg_id();
                return Some(Flow::Registering {
                    delivery,
                    topic_id,
                    msg_id,
                });
            }
            Known::TooMany => {
                out.counts.add_own(SnMetric::Rejected);
                self.settle(index, delivery.id, Settlement::Rejected, out);
                return None;
            }
        };
        if delivery.qos == Qos::AtMostOnce && self.send_at_once(index, &delivery, topic, out) {
            return None;
        }
        Some(Flow::Publishing { delivery, topic })
    }

    /// Nobody answers at QoS 0: it is done with when it is sent. Whether it could be.
    fn send_at_once(&self, index: u32, delivery: &Delivery, topic: TopicRef, out: &mut Out<A>) -> bool {
        let party = &self.client(index).party;
        let publish = publish_of(delivery, topic, false);
        if party.credit.is_limited() && !self.may_send(index, party.overhead() + encoded_len(&publish), false)
        {
            return false;
        }
        out.counts.add(Metric::Qos0Sent);
        out.send(party, &publish);
        self.bus(index, BusCommand::credit(1), out);
        true
    }

    fn is_too_large(&self, index: u32, delivery: &Delivery) -> bool {
        let limit = self.config.settings.max_datagram_bytes;
        let around = self.client(index).party.overhead();
        let topic = &delivery.message.topic;
        let name = topic.as_bytes().len() - self.config.naming.mount.hidden(topic);
        let publish = publish_of(delivery, TopicRef::Normal(1), false);
        // REGISTER has a length of three bytes at most, a type, two numbers and the name.
        around + encoded_len(&publish) > limit || around + 8 + name > limit
    }

    /// How the client knows a topic: an id it was told, one it knows beforehand, a short name. §6.6, §6.7
    fn known_topic(&mut self, index: u32, topic: &Topic) -> Known {
        let topic = &self.config.naming.mount.unmount(topic);
        let limit = self.config.settings.max_registrations;
        let client = self.client(index);
        // Who ever had an id for it did not do with what all know: it is told that id again, if it may have forgotten it.
        let told = self.names.find(topic).and_then(|name| client.topics.id_of(name));
        if let Some((id, known)) = told {
            return if known {
                Known::As(TopicRef::Normal(id))
            } else {
                Known::NotYet(id)
            };
        }
        if let Some(id) = self.config.predefined_id(&client.id, topic) {
            return Known::As(TopicRef::Predefined(id));
        }
        if let [a, b] = topic.as_bytes()[..] {
            return Known::As(TopicRef::Short([a, b]));
        }
        let (client, names) = self.client_and_names(index);
        match client.topics.assign(topic, limit, names) {
            Some(id) => Known::NotYet(id),
            None => Known::TooMany,
        }
    }

    /// Sends what the flow stands at, and waits for the answer. At QoS 0 there is none.
    fn send_flow(&mut self, index: u32, again: bool, now: Instant, out: &mut Out<A>) {
        let Some(mut outbound) = self.client_mut(index).outbound.take() else {
            return;
        };
        outbound.retry_at = Some(now + self.config.settings.retry_interval);
        let message = match &outbound.flow {
            Flow::Registering {
                delivery,
                topic_id,
                msg_id,
            } => Some(self.register_of(&delivery.message.topic, *topic_id, *msg_id)),
            Flow::Publishing { delivery, topic } => {
                outbound.with_dup = (again || delivery.redelivered) && !outbound.never_dup;
                Some(publish_of(delivery, *topic, outbound.with_dup))
            }
            Flow::Durable(..) => None,
            Flow::Releasing(id, _) => Some(Message::PubRel(id.get())),
        };
        let Some(message) = message else {
            outbound.retry_at = None;
            self.client_mut(index).outbound = Some(outbound);
            return;
        };
        let party = &self.client(index).party;
        let len = if party.credit.is_limited() {
            party.overhead() + encoded_len(&message)
        } else {
            0
        };
        if !self.may_send(index, len, outbound.is_answered()) {
            if outbound.held == 0 {
                out.counts.add_own(SnMetric::HeldBack);
            }
            outbound.held = len;
            self.challenge(index, &mut outbound, out);
            self.client_mut(index).outbound = Some(outbound);
            return;
        }
        (outbound.held, outbound.sent) = (0, true);
        out.send(party, &message);
        let mut is_done = false;
        if let Flow::Publishing { delivery, .. } = &outbound.flow {
            is_done = delivery.qos == Qos::AtMostOnce;
            out.counts.add(match delivery.qos {
                Qos::AtMostOnce => Metric::Qos0Sent,
                Qos::AtLeastOnce => Metric::Qos1Sent,
                Qos::ExactlyOnce => Metric::Qos2Sent,
            });
        }
        self.client_mut(index).outbound = Some(outbound);
        if is_done {
            self.finish_flow(index, Settlement::Done, now, out);
        }
    }

    fn register_of(&self, topic: &Topic, topic_id: u16, msg_id: u16) -> Message {
        Message::Register(Register {
            topic_id,
            msg_id,
            topic: self.config.naming.mount.unmount(topic).bytes().clone(),
        })
    }

    /// Whether the client's credit is enough for a message of `len` bytes, and for what is still to be answered: SUBACK at most, or PINGRESP behind what is
    /// not acknowledged.
    fn may_send(&self, index: u32, len: usize, is_answered: bool) -> bool {
        let client = self.client(index);
        let reserve = match (&client.inbound, is_answered) {
            (Some(_), _) => 8,
            (None, false) => 2,
            (None, true) => 0,
        };
        client.party.credit.has(len.saturating_add(reserve))
    }

    /// A message is longer than what may be sent to somebody who has not proved to be there. REGISTER is shorter mostly, is no news to a client that knows the
    /// topic, and REGACK hands back two numbers that nobody else knows.
    fn challenge(&mut self, index: u32, outbound: &mut Outbound, out: &mut Out<A>) {
        let Flow::Publishing { delivery, topic } = &outbound.flow else {
            return;
        };
        let limit = self.config.settings.max_registrations;
        let (client, names) = self.client_and_names(index);
        let challenge = match outbound.challenge {
            Some(challenge) => challenge,
            None => {
                let topic_id = match topic {
                    TopicRef::Normal(id) => Some(*id),
                    TopicRef::Predefined(_) | TopicRef::Short(_) => {
                        client.topics.assign(&delivery.message.topic, limit, names)
                    }
                };
                let Some(topic_id) = topic_id else { return };
                let msg_id = client.next_msg_id();
                Challenge {
                    topic_id,
                    msg_id,
                    sent: 0,
                }
            }
        };
        let register = self.register_of(&delivery.message.topic, challenge.topic_id, challenge.msg_id);
        let party = &self.client(index).party;
        let fits = self.may_send(index, party.overhead() + encoded_len(&register), true);
        let sent = challenge.sent + u8::from(fits && challenge.sent < MAX_CHALLENGES);
        if sent > challenge.sent {
            out.send(party, &register);
        }
        outbound.challenge = Some(Challenge { sent, ..challenge });
    }

    /// Something came from the client: what had to wait for that may go out.
    pub(crate) fn send_held(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let Occupant::Client(client) = &self.places[index as usize].slot else {
            return;
        };
        let Some(outbound) = client.outbound.as_deref().filter(|outbound| outbound.held > 0) else {
            return;
        };
        let fits = self.may_send(index, outbound.held, outbound.is_answered());
        let asked = outbound.challenge.is_some_and(|challenge| challenge.sent > 0);
        if fits || !asked {
            self.send_flow(index, false, now, out);
        }
    }

    /// REGACK of a [`Challenge`]. Whether it was one. That a client refuses the id proves as much.
    fn on_challenge_answered(&mut self, index: u32, ack: RegAck, now: Instant, out: &mut Out<A>) -> bool {
        let (client, names) = self.client_and_names(index);
        let Some(outbound) = client.outbound.as_deref_mut() else {
            return false;
        };
        let asked = outbound
            .challenge
            .filter(|challenge| challenge.sent > 0 && challenge.msg_id == ack.msg_id);
        let Some(challenge) = asked else {
            return false;
        };
        if challenge.topic_id == ack.topic_id {
            client.party.credit.prove();
            outbound.challenge = None;
        }
        match (ack.code, &outbound.flow) {
            (ReturnCode::Accepted, _) => client.topics.set_known(challenge.topic_id, true),
            // It goes on with the id that all know.
            (_, Flow::Publishing { topic, .. }) if *topic != TopicRef::Normal(challenge.topic_id) => {
                client.topics.remove(challenge.topic_id, names);
            }
            _ => {}
        }
        self.send_held(index, now, out);
        true
    }

    /// The client has not answered in time. §6.13
    pub(crate) fn on_retry_time(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let limit = self.config.settings.retries;
        let client = self.client_mut(index);
        let state = client.state;
        let Some(outbound) = client.outbound.as_deref_mut() else {
            return;
        };
        if outbound.retry_at.is_none_or(|at| at > now) {
            return;
        }
        // What was never sent is not unanswered; but who is awake is not waited for without end.
        let waits = !outbound.sent && matches!(state, State::Active { .. });
        if outbound.retries < limit || waits {
            outbound.retries += u8::from(!waits);
            out.counts.add_own(SnMetric::Retries);
            return self.send_flow(index, true, now, out);
        }
        match state {
            // It sleeps again as far as we can know. If it is not heard of in time, it is lost.
            State::Awake { heard, .. } => self.fall_asleep(index, heard, now, out),
            _ => self.lose(index, CloseReason::Lost, out),
        }
    }

    /// An acknowledgement of nothing that is under way.
    fn on_wrong_ack(&self, index: u32) {
        self.client(index).party.credit.guessed_wrong();
    }

    pub(crate) fn on_regack(&mut self, index: u32, ack: RegAck, now: Instant, out: &mut Out<A>) {
        let awaited = match self
            .client(index)
            .outbound
            .as_deref()
            .map(|outbound| &outbound.flow)
        {
            Some(Flow::Registering { topic_id, msg_id, .. }) if *msg_id == ack.msg_id => Some(*topic_id),
            _ => None,
        };
        let Some(topic_id) = awaited else {
            if !self.on_challenge_answered(index, ack, now, out) {
                out.counts.add_own(SnMetric::Dropped);
                self.on_wrong_ack(index);
            }
            return;
        };
        let (client, names) = self.client_and_names(index);
        if topic_id == ack.topic_id {
            client.party.credit.prove();
        }
        if ack.code == ReturnCode::Accepted {
            return self.on_id_known(index, topic_id, now, out);
        }
        client.topics.remove(topic_id, names);
        out.counts.add_own(SnMetric::Rejected);
        self.finish_flow(index, Settlement::Rejected, now, out);
    }

    /// The client knows an id: it accepted it, or asked for it, by REGISTER or SUBSCRIBE. A message that waits for that goes out: some clients read no
    /// REGISTER at all.
    pub(crate) fn on_id_known(&mut self, index: u32, topic_id: u16, now: Instant, out: &mut Out<A>) {
        let client = self.client_mut(index);
        client.topics.set_known(topic_id, true);
        let waits = |outbound: &Outbound| matches!(outbound.flow, Flow::Registering { topic_id: id, .. } if id == topic_id);
        if !client.outbound.as_deref().is_some_and(waits) {
            return;
        }
        let outbound = *client.outbound.take().expect("just looked at");
        let Flow::Registering { delivery, .. } = outbound.flow else {
            unreachable!("just looked at")
        };
        let topic = TopicRef::Normal(topic_id);
        client.outbound = Some(Box::new(Outbound {
            flow: Flow::Publishing { delivery, topic },
            retries: 0,
            sent: false,
            ..outbound
        }));
        self.send_flow(index, false, now, out);
    }

    pub(crate) fn on_puback(&mut self, index: u32, ack: RegAck, now: Instant, out: &mut Out<A>) {
        let Client { outbound, party, .. } = self.client_mut(index);
        let Some(Outbound {
            flow: Flow::Publishing { delivery, topic },
            told_again,
            with_dup,
            never_dup,
            ..
        }) = outbound.as_deref_mut().filter(|outbound| outbound.is(ack.msg_id))
        else {
            if ack.code == ReturnCode::InvalidTopicId {
                self.on_id_unknown(index, ack);
            }
            out.counts.add_own(SnMetric::PubackMissed);
            return self.on_wrong_ack(index);
        };
        let (delivery, topic) = (delivery.clone(), *topic);
        if !matches!(topic, TopicRef::Normal(id) if id != ack.topic_id) {
            party.credit.prove();
        }
        match ack.code {
            ReturnCode::Accepted if delivery.qos == Qos::AtLeastOnce => {
                self.finish_flow(index, Settlement::Done, now, out);
            }
            // PUBREC acknowledges it, nothing else.
            ReturnCode::Accepted => out.counts.add_own(SnMetric::PubackMissed),
            // What it does not know when it was told it will not know the third time.
            ReturnCode::InvalidTopicId => {
                let first = !std::mem::replace(told_again, true);
                self.on_topic_unknown(index, delivery, topic, first, now, out);
            }
            // It has no room now: it is sent again in a while, as if it had not answered.
            ReturnCode::Congestion => {}
            // Perhaps it is DUP that it does not support.
            ReturnCode::NotSupported if *with_dup && !*never_dup => {
                *never_dup = true;
                self.send_flow(index, false, now, out);
            }
            _ => {
                out.counts.add_own(SnMetric::Rejected);
                self.finish_flow(index, Settlement::Rejected, now, out);
            }
        }
    }

    /// The client does not know the topic of what is under way to it: it has forgotten the id, or was never given the one that all know. The first time it is
    /// told one of its own, and gets the message again. §6.10
    fn on_topic_unknown(
        &mut self,
        index: u32,
        delivery: Delivery,
        topic: TopicRef,
        first: bool,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let limit = self.config.settings.max_registrations;
        let (client, names) = self.client_and_names(index);
        let topic_id = match topic {
            TopicRef::Normal(id) => Some(id),
            TopicRef::Predefined(_) | TopicRef::Short(_) => {
                client.topics.assign(&delivery.message.topic, limit, names)
            }
        };
        let Some(topic_id) = topic_id.filter(|_| first) else {
            if let TopicRef::Normal(id) = topic {
                client.topics.set_known(id, false);
            }
            out.counts.add_own(SnMetric::Rejected);
            return self.finish_flow(index, Settlement::Rejected, now, out);
        };
        client.topics.set_known(topic_id, false);
        let msg_id = client.next_msg_id();
        let outbound = client.outbound.as_deref_mut().expect("its message is under way");
        outbound.flow = Flow::Registering {
            delivery,
            topic_id,
            msg_id,
        };
        (outbound.retries, outbound.sent) = (0, false);
        self.send_flow(index, false, now, out);
    }

    /// The client did not know the id of a message that is done with, at QoS 0 most likely: the next one is preceded by REGISTER. §6.10
    fn on_id_unknown(&mut self, index: u32, ack: RegAck) {
        let limit = self.config.settings.max_registrations;
        let client = self.client(index);
        let is_normal = client.topics.topic(ack.topic_id).is_some();
        let known_to_all = self
            .config
            .predefined_topic(Some(&client.id), ack.topic_id)
            .cloned();
        let short = || short_topic(ack.topic_id.to_be_bytes()).filter(|_| !is_normal);
        let topic = known_to_all.or_else(short).filter(|_| ack.msg_id == 0);
        let (client, names) = self.client_and_names(index);
        client.topics.set_known(ack.topic_id, false);
        if let Some(topic) = topic {
            client.topics.assign(&topic, limit, names);
        }
    }

    pub(crate) fn on_pubrec(&mut self, index: u32, msg_id: u16, out: &mut Out<A>) {
        let client = self.client_mut(index);
        let Some(outbound) = client
            .outbound
            .as_deref_mut()
            .filter(|outbound| outbound.is(msg_id))
        else {
            // Of something long done: the client must hear that it may forget it.
            out.counts.add_own(SnMetric::PubrecMissed);
            client.party.credit.guessed_wrong();
            let outbound = client.outbound.as_deref();
            if outbound.is_none_or(|outbound| !outbound.waits_for(msg_id)) {
                out.send(&client.party, &Message::PubRel(msg_id));
            }
            return;
        };
        match &outbound.flow {
            Flow::Publishing { delivery, .. } if delivery.qos == Qos::ExactlyOnce => {
                client.party.credit.prove();
                let id = delivery.id.expect("QoS 2 has one");
                outbound.flow = Flow::Durable(id, true);
                (outbound.retry_at, outbound.retries) = (None, 0);
                self.bus(index, BusCommand::Settle(id, Settlement::Received), out);
            }
            // PUBREL was lost, or is on its way; the timer cares for it.
            Flow::Durable(..) | Flow::Releasing(..) => {}
            Flow::Publishing { .. } | Flow::Registering { .. } => out.counts.add_own(SnMetric::PubrecMissed),
        }
    }

    pub(crate) fn on_pubcomp(&mut self, index: u32, msg_id: u16, now: Instant, out: &mut Out<A>) {
        let outbound = self.client(index).outbound.as_deref();
        let releasing = outbound
            .is_some_and(|outbound| outbound.is(msg_id) && matches!(outbound.flow, Flow::Releasing(..)));
        if releasing {
            self.client(index).party.credit.prove();
            self.finish_flow(index, Settlement::Done, now, out);
        } else {
            out.counts.add_own(SnMetric::PubcompMissed);
            self.on_wrong_ack(index);
        }
    }

    /// The flow is over: the bus is told, and the next one begins.
    fn finish_flow(&mut self, index: u32, settlement: Settlement, now: Instant, out: &mut Out<A>) {
        let Some(outbound) = self.client_mut(index).outbound.take() else {
            return;
        };
        let id = outbound.id();
        match outbound.flow {
            Flow::Releasing(id, false) => self.bus(index, BusCommand::Settle(id, Settlement::Done), out),
            _ => self.settle(index, id, settlement, out),
        }
        self.next_flow(index, outbound.waiting, now, out);
    }

    fn next_flow(&mut self, index: u32, mut waiting: VecDeque<Wanted>, now: Instant, out: &mut Out<A>) {
        if let Some(wanted) = waiting.pop_front() {
            self.begin_flow(index, wanted, waiting, now, out);
        }
        self.sleep_again_if_done(index, now, out);
    }

    /// A delivery is done with, and the next one may come.
    fn settle(&mut self, index: u32, id: Option<DeliveryId>, settlement: Settlement, out: &mut Out<A>) {
        if let Some(id) = id {
            self.bus(index, BusCommand::Settle(id, settlement), out);
        }
        self.bus(index, BusCommand::credit(1), out);
    }
}

impl Outbound {
    /// Whether a message with this id is yet to be sent.
    fn waits_for(&self, msg_id: u16) -> bool {
        self.waiting.iter().any(|wanted| match wanted {
            Wanted::Delivery(delivery) => delivery.id.map(DeliveryId::get) == Some(msg_id),
            Wanted::Release(id) => id.get() == msg_id,
        })
    }
}

fn publish_of(delivery: &Delivery, topic: TopicRef, dup: bool) -> Message {
    Message::Publish(Publish {
        dup: dup && delivery.qos > Qos::AtMostOnce,
        qos: to_wire(delivery.qos),
        retain: delivery.retain,
        topic,
        msg_id: delivery.id.map_or(0, DeliveryId::get),
        data: Bytes::clone(&delivery.message.payload),
    })
}
