//! The client's side of the protocol: what it is told, it answers; what it is asked for, it does, one thing after the other. §6
//!
//! Always true: one request is under way at a time, as §6.6 wants it; what is not answered is sent again N_retry times, T_retry apart, and then the
//! gateway counts as lost (§6.13); a QoS 2 message is handed over once.

use bytes::Bytes;
use headgate_model::Instant;
use headgate_mqttsn_codec::{
    Connect, Message, MessageType, Publish, Qos, RegAck, Register, ReturnCode, SubAck, Subscribe, TopicName,
    TopicRef, Unsubscribe, WillTopic,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Topic ids that a gateway may tell us; who tells more is told of congestion.
const MAX_NAMES: usize = 4_096;

/// Who the client is, and how patient.
#[derive(Clone, Debug)]
pub(crate) struct ClientSettings {
    /// 1 to 23 characters, for gateways that keep to the specification.
    pub client_id: Bytes,
    /// In seconds; 0 for none.
    pub keep_alive: u16,
    /// Starts anew with every CONNECT.
    pub clean: bool,
    /// What is published when it is lost.
    pub will: Option<Will>,
    /// T_retry in §7.2
    pub retry_interval: Duration,
    /// N_retry in §7.2
    pub retries: u8,
}

/// What is published for a client that is lost. §6.3
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) struct Will {
    pub topic: Bytes,
    pub payload: Bytes,
    pub qos: Qos,
    pub retain: bool,
}

/// A message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) struct Outgoing {
    pub topic: TopicName,
    pub qos: Qos,
    pub retain: bool,
    pub payload: Bytes,
}

/// What a client can be asked for. Each ends in one [`Event`], unless the connection ends first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Ends in [`Event::Connected`].
    Connect,
    /// Ends in [`Event::Published`]; a name without an id is registered first. §6.5, §6.6
    Publish(Outgoing),
    /// Ends in [`Event::Subscribed`]. §6.9
    Subscribe(TopicName, Qos),
    /// Ends in [`Event::Unsubscribed`]. §6.9
    Unsubscribe(TopicName),
    /// For so many seconds; ends in [`Event::Asleep`]. §6.14
    Sleep(u16),
    /// Asks for what came meanwhile; ends in [`Event::Drained`]. §6.14
    Wake,
    /// Ends in [`Event::Left`]. §6.12
    Disconnect,
}

/// What became of a request, or what came by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The gateway let us in.
    Connected,
    /// It has the message; at QoS 0 and −1: the message was sent.
    Published,
    /// Granted at this QoS.
    Subscribed(Qos),
    /// Nothing more will come of it.
    Unsubscribed,
    /// We may switch the radio off.
    Asleep,
    /// That was all there was; we sleep again.
    Drained,
    /// We said goodbye, and were heard.
    Left,
    /// A message came.
    Received(Received),
    /// The gateway does not do what it was asked for, in this message.
    Refused(MessageType, ReturnCode),
    /// It cannot be asked for in this state.
    OutOfPlace(MessageType),
    /// The gateway ended the connection, or does not know us any more.
    Disconnected,
    /// It did not answer this.
    Lost(MessageType),
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) struct Received {
    /// A name, or `predefined:ID` where nothing else is known.
    pub topic: String,
    pub qos: Qos,
    pub retain: bool,
    pub dup: bool,
    pub payload: Bytes,
}

/// What some steps wrote down.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    /// To the gateway, in order.
    pub messages: VecDeque<Message>,
    /// To whoever asked.
    pub events: VecDeque<Event>,
}

/// §6.14, figure 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not connected.
    Disconnected,
    /// Connected; a ping is due then.
    Active {
        /// `None` without keep alive.
        ping_at: Option<Instant>,
    },
    /// The gateway keeps our messages.
    Asleep,
    /// Asleep, and asking for them.
    Awake,
    /// It does not answer.
    Lost,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct SnClient {
    settings: ClientSettings,
    state: State,
    requests: VecDeque<Request>,
    doing: Option<Transaction>,
    last_msg_id: u16,
    /// What topic ids stand for, whoever gave them.
    names: BTreeMap<u16, Bytes>,
    /// QoS 2 messages that came and are not released.
    held: BTreeSet<u16>,
    /// What comes is left to whoever comes next.
    deaf: bool,
}

/// A request that waits for an answer.
#[derive(Debug)]
struct Transaction {
    step: Step,
    /// What was sent, and is sent again.
    message: Message,
    msg_id: u16,
    retries: u8,
    retry_at: Instant,
    /// The gateway answered that it has no room: another try is worth it.
    congested: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Connecting,
    /// Then this is published.
    Registering(Outgoing, IdWasWrong),
    Publishing(Outgoing, IdWasWrong),
    Releasing,
    Subscribing(TopicName),
    Unsubscribing,
    Pinging,
    FallingAsleep,
    Waking,
    Leaving,
}

/// A gateway that does not know the id it just gave will not know the next one either.
type IdWasWrong = bool;

impl SnClient {
    /// A client that is not connected.
    pub(super) fn new(settings: ClientSettings) -> Self {
        Self {
            settings,
            state: State::Disconnected,
            requests: VecDeque::new(),
            doing: None,
            last_msg_id: 0,
            names: BTreeMap::new(),
            held: BTreeSet::new(),
            deaf: false,
        }
    }

    /// What it is.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether a QoS 2 message came whose exchange is not over.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Messages that come from now on are not acknowledged: a gateway that keeps the session keeps them.
    pub(super) fn stop_receiving(&mut self) {
        self.deaf = true;
    }

    /// Asks for something, which is done when all that was asked for before is. Only a goodbye does not wait for the end of being awake.
    pub(super) fn request(&mut self, request: Request, now: Instant, out: &mut Outputs) {
        if request == Request::Disconnect {
            self.doing.take_if(|doing| doing.step == Step::Waking);
        }
        self.requests.push_back(request);
        self.go_on(now, out);
    }

    /// When [`Self::handle_timeout`] is next wanted.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match (&self.doing, self.state) {
            (Some(transaction), _) => Some(transaction.retry_at),
            (None, State::Active { ping_at }) => ping_at,
            (None, _) => None,
        }
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outputs) {
        match &mut self.doing {
            Some(transaction) if transaction.retry_at <= now => self.retry(now, out),
            None if matches!(self.state, State::Active { ping_at: Some(at) } if at <= now) => {
                self.begin(Step::Pinging, Message::PingReq(None), 0, now, out);
            }
            _ => {}
        }
    }

    /// The gateway says something.
    pub(super) fn handle(&mut self, message: Message, now: Instant, out: &mut Outputs) {
        let step = self.doing.as_ref().map(|transaction| transaction.step.clone());
        match message {
            Message::WillTopicReq if step == Some(Step::Connecting) => {
                let will = self.settings.will.clone().map(|will| WillTopic {
                    qos: will.qos,
                    retain: will.retain,
                    topic: will.topic,
                });
                self.say(Message::WillTopic(will), now, out);
            }
            Message::WillMsgReq if step == Some(Step::Connecting) => {
                let will = self.settings.will.clone();
                let payload = will.map_or_else(Bytes::new, |will| will.payload);
                self.say(Message::WillMsg(payload), now, out);
            }
            Message::ConnAck(code) if step == Some(Step::Connecting) => self.on_connack(code, now, out),
            Message::RegAck(ack) => self.on_regack(ack, now, out),
            Message::PubAck(ack) => self.on_puback(ack, now, out),
            Message::PubRec(msg_id) => self.on_pubrec(msg_id, now, out),
            Message::PubComp(msg_id) if step == Some(Step::Releasing) && self.waits_for(msg_id) => {
                self.finish(Event::Published, now, out);
            }
            Message::SubAck(ack) => self.on_suback(ack, now, out),
            Message::UnsubAck(msg_id) if step == Some(Step::Unsubscribing) && self.waits_for(msg_id) => {
                self.finish(Event::Unsubscribed, now, out);
            }
            Message::PingResp => match step {
                Some(Step::Waking) => {
                    self.state = State::Asleep;
                    self.finish(Event::Drained, now, out);
                }
                Some(Step::Pinging) => {
                    self.doing = None;
                    self.go_on(now, out);
                }
                _ => {}
            },
            Message::Disconnect(_) => self.on_disconnect(step.as_ref(), now, out),
            Message::PingReq(_) => self.say(Message::PingResp, now, out),
            Message::Register(_) | Message::Publish(_) | Message::PubRel(_) => {
                self.on_delivery(message, now, out);
            }
            // Late answers, and what is said to everybody.
            _ => {}
        }
    }

    /// Begins what was asked for, as long as nothing has to be waited for.
    fn go_on(&mut self, now: Instant, out: &mut Outputs) {
        while self.doing.is_none()
            && let Some(request) = self.requests.pop_front()
        {
            let active = matches!(self.state, State::Active { .. });
            let asleep = self.state == State::Asleep;
            match request {
                Request::Connect => {
                    let connect = Message::Connect(Connect {
                        will: self.settings.will.is_some(),
                        clean_session: self.settings.clean,
                        protocol_id: 1,
                        duration: self.settings.keep_alive,
                        client_id: self.settings.client_id.clone(),
                    });
                    // A gateway that restarted gives ids anew: one that we remembered could mean something else.
                    self.names.clear();
                    self.begin(Step::Connecting, connect, 0, now, out);
                }
                Request::Publish(publish) if publish.qos == Qos::NoConnection || active => {
                    self.publish(publish, false, now, out);
                }
                Request::Publish(_) => out.events.push_back(Event::OutOfPlace(MessageType::Publish)),
                Request::Subscribe(topic, qos) if active => {
                    let msg_id = self.next_msg_id();
                    let subscribe = Message::Subscribe(Subscribe {
                        dup: false,
                        qos,
                        msg_id,
                        topic: topic.clone(),
                    });
                    self.begin(Step::Subscribing(topic), subscribe, msg_id, now, out);
                }
                Request::Subscribe(..) => out.events.push_back(Event::OutOfPlace(MessageType::Subscribe)),
                Request::Unsubscribe(topic) if active => {
                    let msg_id = self.next_msg_id();
                    let unsubscribe = Message::Unsubscribe(Unsubscribe { msg_id, topic });
                    self.begin(Step::Unsubscribing, unsubscribe, msg_id, now, out);
                }
                Request::Unsubscribe(_) => out.events.push_back(Event::OutOfPlace(MessageType::Unsubscribe)),
                Request::Sleep(seconds) if active || asleep => {
                    let disconnect = Message::Disconnect(Some(seconds));
                    self.begin(Step::FallingAsleep, disconnect, 0, now, out);
                }
                Request::Wake if asleep => {
                    self.state = State::Awake;
                    let ping = Message::PingReq(Some(self.settings.client_id.clone()));
                    self.begin(Step::Waking, ping, 0, now, out);
                }
                Request::Wake => out.events.push_back(Event::OutOfPlace(MessageType::PingReq)),
                Request::Disconnect if active || asleep || self.state == State::Awake => {
                    self.begin(Step::Leaving, Message::Disconnect(None), 0, now, out);
                }
                Request::Sleep(_) | Request::Disconnect => {
                    out.events.push_back(Event::OutOfPlace(MessageType::Disconnect));
                }
            }
        }
    }

    fn begin(&mut self, step: Step, message: Message, msg_id: u16, now: Instant, out: &mut Outputs) {
        self.say(message.clone(), now, out);
        self.doing = Some(Transaction {
            step,
            message,
            msg_id,
            retries: 0,
            retry_at: now + self.settings.retry_interval,
            congested: false,
        });
    }

    fn say(&mut self, message: Message, now: Instant, out: &mut Outputs) {
        out.messages.push_back(message);
        if let State::Active { ping_at } = &mut self.state {
            *ping_at = ping_at_after(self.settings.keep_alive, now);
        }
    }

    /// Nothing came in time. §6.13
    fn retry(&mut self, now: Instant, out: &mut Outputs) {
        let Some(transaction) = &mut self.doing else {
            return;
        };
        if transaction.retries >= self.settings.retries {
            let kind = transaction.message.kind();
            if transaction.congested {
                return self.finish(Event::Refused(kind, ReturnCode::Congestion), now, out);
            }
            return self.end(State::Lost, Event::Lost(kind), out);
        }
        transaction.retries += 1;
        transaction.retry_at = now + self.settings.retry_interval;
        match &mut transaction.message {
            Message::Publish(publish) => publish.dup = true,
            Message::Subscribe(subscribe) => subscribe.dup = true,
            // CONNECT begins all of its exchange again, whichever step of it was lost.
            _ => {}
        }
        let message = transaction.message.clone();
        self.say(message, now, out);
    }

    /// The request is done, and it is the next one's turn.
    fn finish(&mut self, event: Event, now: Instant, out: &mut Outputs) {
        self.doing = None;
        out.events.push_back(event);
        self.go_on(now, out);
    }

    /// The connection is over, and with it everything that was asked for.
    fn end(&mut self, state: State, event: Event, out: &mut Outputs) {
        self.state = state;
        self.doing = None;
        self.requests.clear();
        out.events.push_back(event);
    }

    fn on_connack(&mut self, code: ReturnCode, now: Instant, out: &mut Outputs) {
        if code != ReturnCode::Accepted {
            return self.end(
                State::Disconnected,
                Event::Refused(MessageType::Connect, code),
                out,
            );
        }
        if self.settings.clean {
            self.held.clear();
        }
        let ping_at = ping_at_after(self.settings.keep_alive, now);
        self.state = State::Active { ping_at };
        self.finish(Event::Connected, now, out);
    }

    /// Also when the gateway does not know us, which sounds the same.
    fn on_disconnect(&mut self, step: Option<&Step>, now: Instant, out: &mut Outputs) {
        match step {
            Some(Step::FallingAsleep) => {
                self.state = State::Asleep;
                self.finish(Event::Asleep, now, out);
            }
            Some(Step::Leaving) => self.end(State::Disconnected, Event::Left, out),
            // A late answer to what was said before.
            Some(Step::Connecting) => {}
            _ if matches!(self.state, State::Disconnected | State::Lost | State::Asleep) => {}
            _ => self.end(State::Disconnected, Event::Disconnected, out),
        }
    }

    /// §6.5, §6.6, §6.7
    fn publish(&mut self, outgoing: Outgoing, id_was_wrong: IdWasWrong, now: Instant, out: &mut Outputs) {
        let topic = match &outgoing.topic {
            TopicName::Predefined(id) => TopicRef::Predefined(*id),
            TopicName::Short(name) => TopicRef::Short(*name),
            TopicName::Name(name) => match self.names.iter().find(|(_, known)| *known == name) {
                Some((id, _)) => TopicRef::Normal(*id),
                // There is nobody to give it an id.
                None if outgoing.qos == Qos::NoConnection => {
                    return out.events.push_back(Event::OutOfPlace(MessageType::Register));
                }
                None => {
                    let msg_id = self.next_msg_id();
                    let register = Message::Register(Register {
                        topic_id: 0,
                        msg_id,
                        topic: name.clone(),
                    });
                    let step = Step::Registering(outgoing, id_was_wrong);
                    return self.begin(step, register, msg_id, now, out);
                }
            },
        };
        let acknowledged = matches!(outgoing.qos, Qos::AtLeastOnce | Qos::ExactlyOnce);
        let msg_id = if acknowledged { self.next_msg_id() } else { 0 };
        let publish = Message::Publish(Publish {
            dup: false,
            qos: outgoing.qos,
            retain: outgoing.retain,
            topic,
            msg_id,
            data: outgoing.payload.clone(),
        });
        if acknowledged {
            let step = Step::Publishing(outgoing, id_was_wrong);
            self.begin(step, publish, msg_id, now, out);
        } else {
            self.say(publish, now, out);
            out.events.push_back(Event::Published);
        }
    }

    fn on_regack(&mut self, ack: RegAck, now: Instant, out: &mut Outputs) {
        let awaited = self.waits_for(ack.msg_id);
        // It is sent again in a while, as if nothing had been said.
        if ack.code == ReturnCode::Congestion
            && let Some(doing) = self
                .doing
                .as_mut()
                .filter(|doing| awaited && doing.is_registering())
        {
            doing.congested = true;
            return;
        }
        let Some(Transaction {
            step: Step::Registering(outgoing, id_was_wrong),
            ..
        }) = self
            .doing
            .take_if(|doing| doing.msg_id == ack.msg_id && doing.is_registering())
        else {
            return;
        };
        if ack.code != ReturnCode::Accepted {
            return self.finish(Event::Refused(MessageType::Register, ack.code), now, out);
        }
        if let TopicName::Name(name) = &outgoing.topic {
            self.names.insert(ack.topic_id, name.clone());
        }
        self.publish(outgoing, id_was_wrong, now, out);
        self.go_on(now, out);
    }

    fn on_puback(&mut self, ack: RegAck, now: Instant, out: &mut Outputs) {
        let awaited = self.waits_for(ack.msg_id);
        let Some(Transaction {
            step: Step::Publishing(outgoing, id_was_wrong),
            congested,
            ..
        }) = self.doing.as_mut().filter(|_| awaited)
        else {
            // At QoS 0 only what is wrong is told. §5.4.13
            if ack.code != ReturnCode::Accepted && ack.msg_id == 0 {
                self.names.remove(&ack.topic_id);
                out.events
                    .push_back(Event::Refused(MessageType::Publish, ack.code));
            }
            return;
        };
        match ack.code {
            ReturnCode::Accepted if outgoing.qos == Qos::AtLeastOnce => {
                self.finish(Event::Published, now, out);
            }
            // PUBREC acknowledges it, nothing else.
            ReturnCode::Accepted => {}
            // It is sent again in a while, as if nothing had been said.
            ReturnCode::Congestion => *congested = true,
            ReturnCode::InvalidTopicId if !*id_was_wrong && matches!(outgoing.topic, TopicName::Name(_)) => {
                let outgoing = outgoing.clone();
                self.names.remove(&ack.topic_id);
                self.doing = None;
                self.publish(outgoing, true, now, out);
            }
            code => self.finish(Event::Refused(MessageType::Publish, code), now, out),
        }
    }

    fn on_pubrec(&mut self, msg_id: u16, now: Instant, out: &mut Outputs) {
        let awaited = self.waits_for(msg_id);
        match self.doing.as_ref().map(|transaction| &transaction.step) {
            Some(Step::Publishing(outgoing, _)) if awaited && outgoing.qos == Qos::ExactlyOnce => {
                self.begin(Step::Releasing, Message::PubRel(msg_id), msg_id, now, out);
            }
            // The timer cares for it.
            Some(Step::Releasing) if awaited => {}
            // Of something long done: the gateway may forget it.
            _ => self.say(Message::PubRel(msg_id), now, out),
        }
    }

    fn on_suback(&mut self, ack: SubAck, now: Instant, out: &mut Outputs) {
        let awaited = self.waits_for(ack.msg_id);
        let Some(Transaction {
            step: Step::Subscribing(topic),
            congested,
            ..
        }) = self.doing.as_mut().filter(|_| awaited)
        else {
            return;
        };
        // It is sent again in a while, as if nothing had been said.
        if ack.code == ReturnCode::Congestion {
            *congested = true;
            return;
        }
        if ack.code != ReturnCode::Accepted {
            return self.finish(Event::Refused(MessageType::Subscribe, ack.code), now, out);
        }
        if let TopicName::Name(name) = topic
            && ack.topic_id != 0
        {
            self.names.insert(ack.topic_id, name.clone());
        }
        self.finish(Event::Subscribed(ack.qos), now, out);
    }

    /// What comes at any time that we are not asleep. §6.10
    fn on_delivery(&mut self, message: Message, now: Instant, out: &mut Outputs) {
        if !matches!(self.state, State::Active { .. } | State::Awake) {
            return;
        }
        match message {
            Message::Register(register) => {
                let known = self.names.contains_key(&register.topic_id);
                let code = if known || self.names.len() < MAX_NAMES {
                    self.names.insert(register.topic_id, register.topic);
                    ReturnCode::Accepted
                } else {
                    ReturnCode::Congestion
                };
                let ack = RegAck {
                    topic_id: register.topic_id,
                    msg_id: register.msg_id,
                    code,
                };
                self.say(Message::RegAck(ack), now, out);
            }
            Message::Publish(publish) => self.on_publish(publish, now, out),
            Message::PubRel(msg_id) => {
                self.held.remove(&msg_id);
                self.say(Message::PubComp(msg_id), now, out);
            }
            _ => {}
        }
        // The gateway is there and at work: it need not be asked again yet.
        if let Some(transaction) = &mut self.doing
            && transaction.step == Step::Waking
        {
            transaction.retries = 0;
            transaction.retry_at = now + self.settings.retry_interval;
        }
    }

    fn on_publish(&mut self, publish: Publish, now: Instant, out: &mut Outputs) {
        if self.deaf && !(publish.qos == Qos::ExactlyOnce && self.held.contains(&publish.msg_id)) {
            return;
        }
        let (topic, topic_id) = match publish.topic {
            TopicRef::Normal(id) => (self.names.get(&id).map(text), id),
            TopicRef::Predefined(id) => (Some(format!("predefined:{id}")), id),
            TopicRef::Short(name) => (
                Some(String::from_utf8_lossy(&name).into_owned()),
                u16::from_be_bytes(name),
            ),
        };
        let ack = |code| {
            Message::PubAck(RegAck {
                topic_id,
                msg_id: publish.msg_id,
                code,
            })
        };
        let Some(topic) = topic else {
            return self.say(ack(ReturnCode::InvalidTopicId), now, out);
        };
        let is_new = publish.qos != Qos::ExactlyOnce || self.held.insert(publish.msg_id);
        match publish.qos {
            Qos::AtLeastOnce => self.say(ack(ReturnCode::Accepted), now, out),
            Qos::ExactlyOnce => self.say(Message::PubRec(publish.msg_id), now, out),
            Qos::AtMostOnce | Qos::NoConnection => {}
        }
        if is_new {
            out.events.push_back(Event::Received(Received {
                topic,
                qos: publish.qos,
                retain: publish.retain,
                dup: publish.dup,
                payload: publish.data,
            }));
        }
    }

    fn waits_for(&self, msg_id: u16) -> bool {
        self.doing
            .as_ref()
            .is_some_and(|transaction| transaction.msg_id == msg_id)
    }

    /// Zero names nothing. §5.3.8
    fn next_msg_id(&mut self) -> u16 {
        self.last_msg_id = self.last_msg_id.checked_add(1).unwrap_or(1);
        self.last_msg_id
    }
}

impl Transaction {
    fn is_registering(&self) -> bool {
        matches!(self.step, Step::Registering(..))
    }
}

/// A tenth earlier than the gateway wants to hear us, for the way.
fn ping_at_after(keep_alive: u16, now: Instant) -> Option<Instant> {
    (keep_alive > 0).then(|| now + Duration::from_secs(keep_alive.into()) * 9 / 10)
}

fn text(name: &Bytes) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
