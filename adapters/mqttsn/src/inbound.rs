//! What a client asks for: REGISTER, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PUBREL, WILLTOPICUPD, WILLMSGUPD. §6.4 to §6.7, §6.10

use crate::client::names_topic;
use crate::counters::SnMetric;
use crate::gateway::{Out, SnGateway};
use crate::handshake::{from_wire, to_wire};
use crate::outputs::Send;
use bytes::Bytes;
use headgate_model::access::Wanted;
use headgate_model::bus::Refusal;
use headgate_model::datagram::Address;
use headgate_model::gate::{self, Waiting};
use headgate_model::{
    AckToken, Admitted, Answer, BusCommand, Instant, Message, Metric, Qos, Question, Refused, Subscription,
    SubscriptionOptions, Topic, TopicFilter, Verdict, WillChange,
};
use headgate_mqttsn_codec::{
    self as codec, Message as Packet, Publish, RegAck, Register, ReturnCode, SubAck, Subscribe, TopicName,
    TopicRef, Unsubscribe, WillTopic, is_reserved,
};
use std::collections::VecDeque;

/// Requests of one client under way at once; it should have one. §6.6
const MAX_UNDER_WAY: usize = 16;
/// Messages of one client that wait behind an open question.
const MAX_HELD: usize = 16;

/// There while something of the client's is under way.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// The bus will answer these.
    under_way: Vec<Request>,
    /// The access service will answer this; what the client says meanwhile waits, in order.
    asked: Option<Asked>,
    held: VecDeque<Packet>,
}

/// What an answer must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// At QoS 1 or 2.
    Publish {
        qos: Qos,
        msg_id: u16,
        topic_id: u16,
    },
    Subscribe {
        msg_id: u16,
        topic_id: u16,
        registers: bool,
    },
    Unsubscribe {
        msg_id: u16,
    },
    WillTopic,
    WillMsg,
}

#[derive(Debug)]
enum Asked {
    Publish(Box<Waiting<Message>>, Option<u16>, u16),
    Subscribe(Box<Waiting<Subscription>>, Request),
    WillTopic(Box<Waiting<gate::WillTopic>>),
}

impl Request {
    /// What the bus hands back; `None` for what it answers in order.
    fn token(self) -> Option<AckToken> {
        let (kind, msg_id) = match self {
            Self::Publish {
                qos: Qos::ExactlyOnce,
                msg_id,
                ..
            } => (2, msg_id),
            Self::Publish { msg_id, .. } => (1, msg_id),
            Self::Subscribe { msg_id, .. } => (3, msg_id),
            Self::Unsubscribe { msg_id } => (4, msg_id),
            Self::WillTopic | Self::WillMsg => return None,
        };
        Some(AckToken(kind << 16 | u32::from(msg_id)))
    }
}

impl<A: Address> SnGateway<A> {
    pub(crate) fn on_request(&mut self, index: u32, packet: Packet, now: Instant, out: &mut Out<A>) {
        let inbound = self.client_mut(index).inbound.as_deref_mut();
        match inbound.filter(|inbound| inbound.asked.is_some()) {
            Some(inbound) if inbound.held.len() < MAX_HELD => inbound.held.push_back(packet),
            Some(_) => out.counts.add_own(SnMetric::Dropped),
            None => self.on_request_in_turn(index, packet, now, out),
        }
    }

    fn on_request_in_turn(&mut self, index: u32, packet: Packet, now: Instant, out: &mut Out<A>) {
        match packet {
            Packet::Register(register) => self.on_register(index, register, now, out),
            Packet::Publish(publish) => self.on_publish(index, publish, out),
            Packet::PubRel(msg_id) => self.bus(index, BusCommand::Release(msg_id), out),
            Packet::Subscribe(subscribe) => self.on_subscribe(index, subscribe, out),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(index, unsubscribe, out),
            Packet::WillTopicUpd(will) => self.on_will_topic(index, will, out),
            Packet::WillMsgUpd(payload) => {
                self.change_will(index, WillChange::Payload(payload), Request::WillMsg, out);
            }
            Packet::Disconnect(duration) => self.on_disconnect(index, duration, now, out),
            _ => out.counts.add_own(SnMetric::Dropped),
        }
    }

    /// The clients of its user send more than they may together. What has an answer gets it: congestion, "try again later". The rest is dropped; the client's timer
    /// brings UNSUBSCRIBE again. §5.3.10
    pub(crate) fn refuse_too_fast(&mut self, index: u32, packet: Packet, out: &mut Out<A>) {
        out.counts.add_own(SnMetric::UserTooFast);
        let congested = ReturnCode::Congestion;
        let ack = |topic_id, msg_id| RegAck {
            topic_id,
            msg_id,
            code: congested,
        };
        let answer = match packet {
            Packet::Publish(publish) if from_wire(publish.qos) > Qos::AtMostOnce => {
                let request = Request::Publish {
                    qos: from_wire(publish.qos),
                    msg_id: publish.msg_id,
                    topic_id: 0,
                };
                // The first copy is not refused, and its answer is under way.
                let is_known = self.is_under_way(index, request);
                (!is_known).then(|| Packet::PubAck(ack(raw_id(publish.topic), publish.msg_id)))
            }
            Packet::Register(register) => Some(Packet::RegAck(ack(0, register.msg_id))),
            Packet::Subscribe(subscribe) => {
                let request = Request::Subscribe {
                    msg_id: subscribe.msg_id,
                    topic_id: 0,
                    registers: false,
                };
                let is_known = self.is_under_way(index, request);
                (!is_known).then(|| {
                    Packet::SubAck(SubAck {
                        qos: codec::Qos::AtMostOnce,
                        topic_id: 0,
                        msg_id: subscribe.msg_id,
                        code: congested,
                    })
                })
            }
            Packet::WillTopicUpd(_) => Some(Packet::WillTopicResp(congested)),
            Packet::WillMsgUpd(_) => Some(Packet::WillMsgResp(congested)),
            _ => None,
        };
        // Others are told nothing yet, or that they have to connect.
        if let Some(answer) = answer.filter(|_| self.client(index).is_open()) {
            out.send(&self.client(index).party, &answer);
        }
    }

    /// §6.5
    fn on_register(&mut self, index: u32, register: Register, now: Instant, out: &mut Out<A>) {
        let limit = self.config.settings.max_registrations;
        let topic = Topic::parse(register.topic);
        let (client, names) = self.client_and_names(index);
        let (topic_id, code) = match topic {
            Err(_) => (0, ReturnCode::NotSupported),
            Ok(topic) => match client.topics.assign(&topic, limit, names) {
                None => (0, ReturnCode::Congestion),
                Some(id) => (id, ReturnCode::Accepted),
            },
        };
        let ack = RegAck {
            topic_id,
            msg_id: register.msg_id,
            code,
        };
        out.send(&client.party, &Packet::RegAck(ack));
        if code == ReturnCode::Accepted {
            self.on_id_known(index, topic_id, now, out);
        }
    }

    /// What a client publishes to, by its own name. §5.3.11
    fn topic_of(&self, index: u32, topic: TopicRef) -> Option<Topic> {
        let client = self.client(index);
        match topic {
            TopicRef::Normal(id) | TopicRef::Predefined(id) if is_reserved(id) => None,
            TopicRef::Normal(id) => client.topics.topic(id).map(|name| self.names.get(name).clone()),
            TopicRef::Predefined(id) => self.config.predefined_topic(Some(&client.id), id).cloned(),
            TopicRef::Short(name) => short_topic(name),
        }
    }

    /// §6.6
    fn on_publish(&mut self, index: u32, publish: Publish, out: &mut Out<A>) {
        let qos = from_wire(publish.qos);
        let topic_id = raw_id(publish.topic);
        // An error is told at every QoS; only who has no connection is told nothing.
        let msg_id = (publish.qos != codec::Qos::NoConnection).then_some(publish.msg_id);
        let request = Request::Publish {
            qos,
            msg_id: publish.msg_id,
            topic_id,
        };
        if qos > Qos::AtMostOnce && self.is_under_way(index, request) {
            return; // Sent again while the first copy is on its way to the disk: one answer is for both.
        }
        if self.is_busy(index) {
            return self.refuse_publish(index, msg_id, topic_id, ReturnCode::Congestion, out);
        }
        let Some(topic) = self.topic_of(index, publish.topic) else {
            return self.refuse_publish(index, msg_id, topic_id, ReturnCode::InvalidTopicId, out);
        };
        out.counts.add(match qos {
            Qos::AtMostOnce => Metric::Qos0Received,
            Qos::AtLeastOnce => Metric::Qos1Received,
            Qos::ExactlyOnce => Metric::Qos2Received,
        });
        let message = Message {
            qos,
            retain: publish.retain,
            ..Message::new(topic, publish.data)
        };
        match self.gate(index).publish(message) {
            Verdict::Admitted(message) => self.publish(index, message, msg_id, topic_id, out),
            Verdict::Refused(refused) => self.deny_publish(index, &refused, msg_id, topic_id, out),
            Verdict::Ask(waiting) => {
                let request = waiting.request();
                self.ask_for(index, Asked::Publish(waiting, msg_id, topic_id), request, out);
            }
        }
    }

    fn publish(
        &mut self,
        index: u32,
        message: Admitted<Message>,
        msg_id: Option<u16>,
        topic_id: u16,
        out: &mut Out<A>,
    ) {
        let msg_id = msg_id.filter(|_| message.qos > Qos::AtMostOnce);
        let ack = msg_id.and_then(|msg_id| {
            let qos = message.qos;
            self.start(
                index,
                Request::Publish {
                    qos,
                    msg_id,
                    topic_id,
                },
            )
        });
        let dedup = msg_id.filter(|_| message.qos == Qos::ExactlyOnce);
        self.bus(index, BusCommand::Publish { message, ack, dedup }, out);
    }

    /// A client that may not publish there is told as well as version 1.2 can say it.
    fn deny_publish(
        &mut self,
        index: u32,
        refused: &Refused,
        msg_id: Option<u16>,
        topic_id: u16,
        out: &mut Out<A>,
    ) {
        if refused.name_error().is_some() {
            return self.refuse_publish(index, msg_id, topic_id, ReturnCode::InvalidTopicId, out);
        }
        out.counts.add(Metric::DroppedNotAuthorized);
        self.tell_refused(index, refused, out);
        self.refuse_publish(index, msg_id, topic_id, ReturnCode::NotSupported, out);
    }

    /// §5.4.13: PUBACK says what was wrong, at whatever QoS.
    fn refuse_publish(
        &mut self,
        index: u32,
        msg_id: Option<u16>,
        topic_id: u16,
        code: ReturnCode,
        out: &mut Out<A>,
    ) {
        if let Some(msg_id) = msg_id {
            let ack = RegAck {
                topic_id,
                msg_id,
                code,
            };
            out.send(&self.client(index).party, &Packet::PubAck(ack));
        }
    }

    pub(crate) fn on_accepted(&mut self, index: u32, token: AckToken, now: Instant, out: &mut Out<A>) {
        let Some(Request::Publish {
            qos,
            msg_id,
            topic_id,
        }) = self.finish(index, token)
        else {
            return;
        };
        let answer = if qos == Qos::ExactlyOnce {
            Packet::PubRec(msg_id)
        } else {
            Packet::PubAck(RegAck {
                topic_id,
                msg_id,
                code: ReturnCode::Accepted,
            })
        };
        out.send(&self.client(index).party, &answer);
        self.sleep_again_if_done(index, now, out);
    }

    pub(crate) fn on_refused(
        &mut self,
        index: u32,
        token: AckToken,
        why: Refusal,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let Some(Request::Publish { msg_id, topic_id, .. }) = self.finish(index, token) else {
            return;
        };
        self.tell(
            index,
            || Wanted::Publish(Bytes::new()),
            || why.to_string().into(),
            out,
        );
        self.refuse_publish(index, Some(msg_id), topic_id, ReturnCode::Congestion, out);
        self.sleep_again_if_done(index, now, out);
    }

    /// §6.9
    fn on_subscribe(&mut self, index: u32, subscribe: Subscribe, out: &mut Out<A>) {
        let msg_id = subscribe.msg_id;
        let options = SubscriptionOptions {
            qos: from_wire(subscribe.qos),
            ..SubscriptionOptions::default()
        };
        let asked = Request::Subscribe {
            msg_id,
            topic_id: 0,
            registers: false,
        };
        if self.is_under_way(index, asked) {
            return;
        }
        if self.is_busy(index) {
            return self.suback(index, msg_id, 0, Err(ReturnCode::Congestion), out);
        }
        let Some(filter) = self.filter_of(index, &subscribe.topic) else {
            return self.suback(index, msg_id, 0, Err(ReturnCode::InvalidTopicId), out);
        };
        let verdict = self.gate(index).subscribe(&filter, options);
        let subscription = match &verdict {
            Verdict::Admitted(subscription) => subscription,
            Verdict::Ask(waiting) => waiting.value(),
            Verdict::Refused(refused) => return self.deny_subscribe(index, refused, msg_id, out),
        };
        let Some((topic_id, registers)) =
            self.topic_id_of(index, &subscribe.topic, &subscription.filter.clone())
        else {
            return self.suback(index, msg_id, 0, Err(ReturnCode::Congestion), out);
        };
        let request = Request::Subscribe {
            msg_id,
            topic_id,
            registers,
        };
        match verdict {
            Verdict::Admitted(subscription) => self.subscribe(index, subscription, request, out),
            Verdict::Ask(waiting) => {
                let asked = waiting.request();
                self.ask_for(index, Asked::Subscribe(waiting, request), asked, out);
            }
            Verdict::Refused(_) => unreachable!("returned above"),
        }
    }

    /// The id under which messages of a subscription come, zero for none, and whether the client learns it only now; `None` when it has too many.
    fn topic_id_of(&mut self, index: u32, topic: &TopicName, filter: &TopicFilter) -> Option<(u16, bool)> {
        match topic {
            TopicName::Predefined(id) => Some((*id, false)),
            TopicName::Name(_) if names_topic(filter) => {
                let limit = self.config.settings.max_registrations;
                let topic = Topic::parse(filter.bytes().clone()).expect("a filter without wildcards");
                let topic = self.config.naming.mount.unmount(&topic);
                let (client, names) = self.client_and_names(index);
                Some((client.topics.assign(&topic, limit, names)?, true))
            }
            // Its two characters are its id. §6.7
            TopicName::Short(name) if names_topic(filter) => Some((u16::from_be_bytes(*name), false)),
            // §5.4.16
            TopicName::Name(_) | TopicName::Short(_) => Some((0, false)),
        }
    }

    /// The filter that a client means; `None` for a predefined id that is none.
    fn filter_of(&self, index: u32, topic: &TopicName) -> Option<Bytes> {
        Some(match topic {
            TopicName::Name(name) => name.clone(),
            TopicName::Short(name) => Bytes::copy_from_slice(name),
            TopicName::Predefined(id) => {
                let client = &self.client(index).id;
                self.config.predefined_topic(Some(client), *id)?.bytes().clone()
            }
        })
    }

    fn subscribe(
        &mut self,
        index: u32,
        subscription: Admitted<Subscription>,
        request: Request,
        out: &mut Out<A>,
    ) {
        if let Some(token) = self.start(index, request) {
            let subscriptions = vec![subscription];
            self.bus(index, BusCommand::Subscribe { token, subscriptions }, out);
        }
    }

    pub(crate) fn on_subscribed(
        &mut self,
        index: u32,
        token: AckToken,
        results: &[Result<Qos, Refusal>],
        now: Instant,
        out: &mut Out<A>,
    ) {
        let Some(Request::Subscribe {
            msg_id,
            topic_id,
            registers,
        }) = self.finish(index, token)
        else {
            return;
        };
        if let Some(Err(why)) = results.first() {
            out.counts.add(Metric::SubscribeRefused);
            self.tell(
                index,
                || Wanted::Subscribe(Bytes::new()),
                || why.to_string().into(),
                out,
            );
        }
        let result = match results.first() {
            Some(Ok(qos)) => Ok(*qos),
            Some(Err(Refusal::NotSupported | Refusal::TopicInvalid | Refusal::ExclusiveTaken)) | None => {
                Err(ReturnCode::NotSupported)
            }
            Some(Err(_)) => Err(ReturnCode::Congestion),
        };
        let tells = result.is_ok() && registers;
        self.suback(index, msg_id, topic_id, result, out);
        if tells {
            self.on_id_known(index, topic_id, now, out);
        }
        self.sleep_again_if_done(index, now, out);
    }

    fn deny_subscribe(&mut self, index: u32, refused: &Refused, msg_id: u16, out: &mut Out<A>) {
        if refused.name_error().is_none() {
            out.counts.add(Metric::SubscribeNotAuthorized);
            self.tell_refused(index, refused, out);
        }
        self.suback(index, msg_id, 0, Err(ReturnCode::NotSupported), out);
    }

    fn suback(
        &mut self,
        index: u32,
        msg_id: u16,
        topic_id: u16,
        result: Result<Qos, ReturnCode>,
        out: &mut Out<A>,
    ) {
        let suback = SubAck {
            qos: to_wire(result.unwrap_or_default()),
            topic_id: if result.is_ok() { topic_id } else { 0 },
            msg_id,
            code: result.err().unwrap_or(ReturnCode::Accepted),
        };
        out.send(&self.client(index).party, &Packet::SubAck(suback));
    }

    /// Its answer cannot say no.
    fn on_unsubscribe(&mut self, index: u32, unsubscribe: Unsubscribe, out: &mut Out<A>) {
        let request = Request::Unsubscribe {
            msg_id: unsubscribe.msg_id,
        };
        if self.is_under_way(index, request) {
            return;
        }
        if self.is_busy(index) {
            return out.counts.add_own(SnMetric::Dropped); // It will ask again.
        }
        let filter = self.filter_of(index, &unsubscribe.topic);
        let subscription = filter.and_then(|filter| {
            self.gate(index)
                .unsubscribe(&filter, SubscriptionOptions::default())
                .ok()
        });
        let subscriptions = subscription.into_iter().collect();
        if let Some(token) = self.start(index, request) {
            self.bus(index, BusCommand::Unsubscribe { token, subscriptions }, out);
        }
    }

    pub(crate) fn on_unsubscribed(&mut self, index: u32, token: AckToken, now: Instant, out: &mut Out<A>) {
        if let Some(Request::Unsubscribe { msg_id }) = self.finish(index, token) {
            out.send(&self.client(index).party, &Packet::UnsubAck(msg_id));
            self.sleep_again_if_done(index, now, out);
        }
    }

    /// §6.4
    fn on_will_topic(&mut self, index: u32, will: Option<WillTopic>, out: &mut Out<A>) {
        let Some(will) = will else {
            return self.change_will(index, WillChange::Remove, Request::WillTopic, out);
        };
        let Ok(topic) = Topic::parse(will.topic) else {
            let party = &self.client(index).party;
            return out.send(party, &Packet::WillTopicResp(ReturnCode::NotSupported));
        };
        let place = gate::WillTopic {
            topic: topic.compact(),
            qos: from_wire(will.qos),
            retain: will.retain,
        };
        match self.gate(index).will_topic(place) {
            Verdict::Admitted(place) => {
                self.change_will(index, WillChange::Topic(place), Request::WillTopic, out);
            }
            Verdict::Refused(refused) => self.deny_will_topic(index, &refused, out),
            Verdict::Ask(waiting) => {
                let request = waiting.request();
                self.ask_for(index, Asked::WillTopic(waiting), request, out);
            }
        }
    }

    fn deny_will_topic(&mut self, index: u32, refused: &Refused, out: &mut Out<A>) {
        self.tell_refused(index, refused, out);
        let party = &self.client(index).party;
        out.send(party, &Packet::WillTopicResp(ReturnCode::NotSupported));
    }

    fn change_will(&mut self, index: u32, change: WillChange, request: Request, out: &mut Out<A>) {
        if self.is_busy(index) {
            return out.counts.add_own(SnMetric::Dropped);
        }
        self.start(index, request);
        self.bus(index, BusCommand::ChangeWill(change), out);
    }

    pub(crate) fn on_will_changed(&mut self, index: u32, changed: bool, now: Instant, out: &mut Out<A>) {
        let Some(inbound) = self.client_mut(index).inbound.as_deref_mut() else {
            return;
        };
        let is_will = |request: &Request| request.token().is_none();
        let Some(at) = inbound.under_way.iter().position(is_will) else {
            return;
        };
        let request = inbound.under_way.remove(at);
        self.tidy(index);
        let code = if changed {
            ReturnCode::Accepted
        } else {
            ReturnCode::NotSupported
        };
        let answer = match request {
            Request::WillTopic => Packet::WillTopicResp(code),
            _ => Packet::WillMsgResp(code),
        };
        out.send(&self.client(index).party, &answer);
        self.sleep_again_if_done(index, now, out);
    }

    fn ask_for(
        &mut self,
        index: u32,
        asked: Asked,
        request: headgate_model::AccessRequest,
        out: &mut Out<A>,
    ) {
        let client = self.client_mut(index);
        client.inbound.get_or_insert_default().asked = Some(asked);
        self.ask(index, Question::Authorize(vec![request]), out);
    }

    /// The access service says whether a client may do what it wants; then it is the turn of what came meanwhile.
    pub(crate) fn on_client_answer(&mut self, index: u32, answer: &Answer, now: Instant, out: &mut Out<A>) {
        let inbound = self.client_mut(index).inbound.as_deref_mut();
        let Some(asked) = inbound.and_then(|inbound| inbound.asked.take()) else {
            return;
        };
        let decision = answer.decision(0);
        match asked {
            Asked::Publish(waiting, msg_id, topic_id) => match waiting.decide(decision) {
                Ok(message) => self.publish(index, message, msg_id, topic_id, out),
                Err(refused) => self.deny_publish(index, &refused, msg_id, topic_id, out),
            },
            Asked::Subscribe(waiting, request) => match (waiting.decide(decision), request) {
                (Ok(subscription), request) => self.subscribe(index, subscription, request, out),
                (Err(refused), Request::Subscribe { msg_id, .. }) => {
                    self.deny_subscribe(index, &refused, msg_id, out);
                }
                (Err(_), _) => {}
            },
            Asked::WillTopic(waiting) => match waiting.decide(decision) {
                Ok(place) => self.change_will(index, WillChange::Topic(place), Request::WillTopic, out),
                Err(refused) => self.deny_will_topic(index, &refused, out),
            },
        }
        self.take_held(index, now, out);
        self.sleep_again_if_done(index, now, out);
    }

    /// PUBLISH of a client that sleeps: it waits until the bus has opened its session.
    pub(crate) fn hold_publish(&mut self, index: u32, packet: Packet, out: &mut Out<A>) {
        let wakes = self.config.settings.publish_wakes;
        let inbound = self.client_mut(index).inbound.get_or_insert_default();
        if wakes && inbound.held.len() < MAX_HELD {
            inbound.held.push_back(packet);
        } else {
            out.counts.add_own(SnMetric::Dropped);
        }
    }

    /// What was held back has its turn.
    pub(crate) fn take_held(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        while let Some(packet) = self.next_held(index) {
            self.on_request_in_turn(index, packet, now, out);
        }
        self.tidy(index);
    }

    fn next_held(&mut self, index: u32) -> Option<Packet> {
        let inbound = self.client_mut(index).inbound.as_deref_mut()?;
        if inbound.asked.is_some() {
            return None;
        }
        inbound.held.pop_front()
    }

    fn is_under_way(&self, index: u32, request: Request) -> bool {
        let inbound = self.client(index).inbound.as_deref();
        inbound.is_some_and(|inbound| inbound.under_way.iter().any(|r| r.token() == request.token()))
    }

    fn is_busy(&self, index: u32) -> bool {
        let inbound = self.client(index).inbound.as_deref();
        inbound.is_some_and(|inbound| inbound.under_way.len() >= MAX_UNDER_WAY)
    }

    fn start(&mut self, index: u32, request: Request) -> Option<AckToken> {
        let inbound = self.client_mut(index).inbound.get_or_insert_default();
        inbound.under_way.push(request);
        request.token()
    }

    fn finish(&mut self, index: u32, token: AckToken) -> Option<Request> {
        let inbound = self.client_mut(index).inbound.as_deref_mut()?;
        let at = inbound.under_way.iter().position(|r| r.token() == Some(token))?;
        let request = inbound.under_way.remove(at);
        self.tidy(index);
        Some(request)
    }

    /// An idle client keeps nothing for its requests.
    fn tidy(&mut self, index: u32) {
        let inbound = &mut self.client_mut(index).inbound;
        if inbound
            .as_deref()
            .is_some_and(|i| i.under_way.is_empty() && i.asked.is_none() && i.held.is_empty())
        {
            *inbound = None;
        }
    }
}

/// As PUBACK hands it back.
fn raw_id(topic: TopicRef) -> u16 {
    match topic {
        TopicRef::Normal(id) | TopicRef::Predefined(id) => id,
        TopicRef::Short(name) => u16::from_be_bytes(name),
    }
}

/// §6.7
pub(crate) fn short_topic(name: [u8; 2]) -> Option<Topic> {
    Topic::parse(Bytes::copy_from_slice(&name)).ok()
}
