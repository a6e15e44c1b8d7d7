//! What a client asks for: REGISTER, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PUBREL, WILLTOPICUPD, WILLMSGUPD. §6.4 to §6.7, §6.10

use crate::client::names_topic;
use crate::denial::why;
use crate::gateway::{Out, SnGateway};
use crate::handshake::{from_wire, to_wire};
use crate::outputs::Send;
use bytes::Bytes;
use headgate_model::access::{Wanted, Wish};
use headgate_model::bus::Refusal;
use headgate_model::datagram::Address;
use headgate_model::{
    AccessDecision, AckToken, Answer, BusCommand, Instant, Message, Metric, Qos, Question, Subscription,
    SubscriptionOptions, Topic, TopicFilter, WillChange,
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
    Publish(Message, Option<u16>, u16),
    Subscribe(Box<Subscription>, Request),
    WillTopic(WillChange),
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
            Some(_) => out.counts.add(Metric::SnDropped),
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
            _ => out.counts.add(Metric::SnDropped),
        }
    }

    /// §6.5
    fn on_register(&mut self, index: u32, register: Register, now: Instant, out: &mut Out<A>) {
        let limit = self.config.settings.max_registrations;
        let topic = Topic::parse(register.topic).and_then(|topic| self.config.mount.mount(topic));
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

    /// The topic on the bus of what a client publishes to. §5.3.11
    fn topic_of(&self, index: u32, topic: TopicRef) -> Option<Topic> {
        let client = self.client(index);
        match topic {
            TopicRef::Normal(id) | TopicRef::Predefined(id) if is_reserved(id) => None,
            TopicRef::Normal(id) => client.topics.topic(id).map(|name| self.names.get(name).clone()),
            TopicRef::Predefined(id) => self.config.predefined_topic(Some(&client.id), id).cloned(),
            TopicRef::Short(name) => self.short_topic(name),
        }
    }

    /// §6.7
    pub(crate) fn short_topic(&self, name: [u8; 2]) -> Option<Topic> {
        let topic = Topic::parse(Bytes::copy_from_slice(&name)).ok()?;
        self.config.mount.mount(topic).ok()
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
        let wish = Wish::publish(message.topic.as_bytes(), qos, message.retain);
        match self.client(index).check(wish) {
            AccessDecision::Allow => self.publish(index, message, msg_id, topic_id, out),
            AccessDecision::Deny(_) => {
                self.deny_publish(index, message.topic.as_bytes(), msg_id, topic_id, out);
            }
            AccessDecision::Ask => {
                let request = wish.into();
                self.ask_for(index, Asked::Publish(message, msg_id, topic_id), request, out);
            }
        }
    }

    fn publish(
        &mut self,
        index: u32,
        message: Message,
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
        topic: &[u8],
        msg_id: Option<u16>,
        topic_id: u16,
        out: &mut Out<A>,
    ) {
        out.counts.add(Metric::DroppedNotAuthorized);
        self.tell_denied(index, wish_to_publish(topic), out);
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
        let subscription = match self.subscription(index, &subscribe.topic, options) {
            Ok(subscription) => subscription,
            Err(code) => return self.suback(index, msg_id, 0, Err(code), out),
        };
        let (topic_id, registers) = match subscribe.topic {
            TopicName::Predefined(id) => (id, false),
            TopicName::Name(_) if names_topic(&subscription.filter) => {
                let limit = self.config.settings.max_registrations;
                let topic =
                    Topic::parse(subscription.filter.bytes().clone()).expect("a filter without wildcards");
                let (client, names) = self.client_and_names(index);
                match client.topics.assign(&topic, limit, names) {
                    Some(id) => (id, true),
                    None => return self.suback(index, msg_id, 0, Err(ReturnCode::Congestion), out),
                }
            }
            // Its two characters are its id. §6.7
            TopicName::Short(name) if names_topic(&subscription.filter) => (u16::from_be_bytes(name), false),
            // §5.4.16
            TopicName::Name(_) | TopicName::Short(_) => (0, false),
        };
        let request = Request::Subscribe {
            msg_id,
            topic_id,
            registers,
        };
        let wish = Wish::subscribe(subscription.filter.as_bytes(), options.qos);
        match self.client(index).check(wish) {
            AccessDecision::Allow => self.subscribe(index, subscription, request, out),
            AccessDecision::Deny(_) => self.deny_subscribe(index, &subscription, msg_id, topic_id, out),
            AccessDecision::Ask => {
                let wish = wish.into();
                self.ask_for(
                    index,
                    Asked::Subscribe(Box::new(subscription), request),
                    wish,
                    out,
                );
            }
        }
    }

    fn subscription(
        &self,
        index: u32,
        topic: &TopicName,
        options: SubscriptionOptions,
    ) -> Result<Subscription, ReturnCode> {
        let parsed = match topic {
            TopicName::Name(name) => Subscription::parse(name, options, &self.config.mount),
            TopicName::Short(name) => {
                Subscription::parse(&Bytes::copy_from_slice(name), options, &self.config.mount)
            }
            TopicName::Predefined(id) => {
                let client = &self.client(index).id;
                let topic = self.config.predefined_topic(Some(client), *id);
                let topic = topic.ok_or(ReturnCode::InvalidTopicId)?;
                TopicFilter::parse(topic.bytes().clone()).map(|filter| Subscription {
                    filter,
                    share: None,
                    local: false,
                    exclusive: false,
                    options,
                })
            }
        };
        parsed.map_err(|_| ReturnCode::NotSupported)
    }

    fn subscribe(&mut self, index: u32, subscription: Subscription, request: Request, out: &mut Out<A>) {
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

    fn deny_subscribe(
        &mut self,
        index: u32,
        subscription: &Subscription,
        msg_id: u16,
        topic_id: u16,
        out: &mut Out<A>,
    ) {
        out.counts.add(Metric::SubscribeNotAuthorized);
        let wish = Wish::subscribe(subscription.filter.as_bytes(), subscription.options.qos);
        self.tell_denied(index, wish, out);
        self.suback(index, msg_id, topic_id, Err(ReturnCode::NotSupported), out);
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
            return out.counts.add(Metric::SnDropped); // It will ask again.
        }
        let subscription = self.subscription(index, &unsubscribe.topic, SubscriptionOptions::default());
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
        let topic = Topic::parse(will.topic).and_then(|topic| self.config.mount.mount(topic));
        let client = self.client(index);
        let Ok(topic) = topic else {
            return out.send(&client.party, &Packet::WillTopicResp(ReturnCode::NotSupported));
        };
        let qos = from_wire(will.qos);
        let change = WillChange::Topic {
            topic: topic.compact(),
            qos,
            retain: will.retain,
        };
        let wish = Wish::publish(topic.as_bytes(), qos, will.retain);
        match client.check(wish) {
            AccessDecision::Allow => self.change_will(index, change, Request::WillTopic, out),
            AccessDecision::Deny(_) => self.deny_will_topic(index, &topic, out),
            AccessDecision::Ask => self.ask_for(index, Asked::WillTopic(change), wish.into(), out),
        }
    }

    fn deny_will_topic(&mut self, index: u32, topic: &Topic, out: &mut Out<A>) {
        let rule = || {
            why(
                Some(&self.client(index).identity),
                wish_to_publish(topic.as_bytes()),
            )
        };
        self.tell(index, || Wanted::Will(topic.bytes().clone()), rule, out);
        let party = &self.client(index).party;
        out.send(party, &Packet::WillTopicResp(ReturnCode::NotSupported));
    }

    fn change_will(&mut self, index: u32, change: WillChange, request: Request, out: &mut Out<A>) {
        if self.is_busy(index) {
            return out.counts.add(Metric::SnDropped);
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
        let allowed = match answer {
            Answer::Authorized(decisions) => decisions.first() == Some(&AccessDecision::Allow),
            _ => false,
        };
        match asked {
            Asked::Publish(message, msg_id, topic_id) if allowed => {
                self.publish(index, message, msg_id, topic_id, out);
            }
            Asked::Publish(message, msg_id, topic_id) => {
                self.deny_publish(index, message.topic.as_bytes(), msg_id, topic_id, out);
            }
            Asked::Subscribe(subscription, request) if allowed => {
                self.subscribe(index, *subscription, request, out);
            }
            Asked::Subscribe(subscription, Request::Subscribe { msg_id, topic_id, .. }) => {
                self.deny_subscribe(index, &subscription, msg_id, topic_id, out);
            }
            Asked::Subscribe(..) => {}
            Asked::WillTopic(change) if allowed => self.change_will(index, change, Request::WillTopic, out),
            Asked::WillTopic(change) => {
                if let WillChange::Topic { topic, .. } = &change {
                    self.deny_will_topic(index, topic, out);
                }
            }
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
            out.counts.add(Metric::SnDropped);
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

/// For the reason why it is denied: rules look at the topic alone.
fn wish_to_publish(topic: &[u8]) -> Wish<'_> {
    Wish::publish(topic, Qos::AtMostOnce, false)
}
