//! A sensor that follows the specification, and what it and the backend know of each message. §6.13, §6.14

use super::{Ms, N_RETRY, SnPlan, SnReport, T_RETRY};
use bytes::Bytes;
use fastrand::Rng;
use headgate_model::{AckToken, Admitted, BusCommand, Message as BusMessage, Qos as BusQos, Topic};
use headgate_mqttsn_codec::{
    Connect, Message, Publish, Qos, RegAck, Register, ReturnCode, Subscribe, TopicName, TopicRef, WillTopic,
};
use std::collections::{BTreeMap, BTreeSet};

/// A message as the reference model knows it.
#[derive(Clone, Debug)]
pub(super) struct Sending {
    pub(super) number: u32,
    pub(super) topic: String,
    pub(super) qos: BusQos,
    pub(super) state: SendState,
    pub(super) msg_id: u16,
    /// When its publisher was told that it is safe.
    pub(super) acked: Option<Ms>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendState {
    Waiting,
    Sent,
    /// QoS 2: it was received; PUBREL is next.
    Released,
    Done,
}

/// What somebody has received.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// QoS 2 identifiers that are not released.
    pub(super) held: BTreeSet<u16>,
    pub(super) arrived: Vec<u32>,
}

/// What a sensor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its radio is off.
    Off,
    Connecting,
    Subscribing,
    Registering,
    Publishing,
    /// PUBREL was sent.
    Releasing,
    /// DISCONNECT with a duration was sent.
    GoingToSleep,
    /// PINGREQ was sent.
    Waking,
}

#[derive(Debug)]
pub(super) struct Sensor {
    pub(super) index: usize,
    pub(super) phase: Phase,
    /// It must connect before anything else.
    pub(super) lost: bool,
    pub(super) subscribed: bool,
    /// The gateway knows its will, and has not published it.
    pub(super) has_will: bool,
    /// Of the message that waits for an answer: how often it was sent.
    pub(super) tries: u8,
    pub(super) timer: u64,
    pub(super) last_msg_id: u16,
    /// Of the topic it publishes to, as long as the gateway must know it.
    pub(super) topic_id: Option<u16>,
    /// What the gateway told it.
    pub(super) ids: BTreeMap<u16, String>,
    pub(super) readings: Vec<Sending>,
    /// How many of them are made.
    pub(super) made: usize,
    pub(super) inbox: Inbox,
    /// When it first asked what there is for it, this time.
    pub(super) asked: Ms,
}

/// What a sensor sees of the world, and what it does to it.
pub(super) struct World<'a> {
    pub(super) now: Ms,
    /// How long it sleeps.
    pub(super) sleep: Ms,
    pub(super) wills: bool,
    pub(super) commands: &'a [Sending],
    pub(super) said: Vec<Message>,
    pub(super) wakes_at: Option<Ms>,
    pub(super) report: &'a mut SnReport,
}

impl Sending {
    /// As the backend sends it to the bus.
    pub(super) fn command(&mut self) -> Option<BusCommand> {
        match self.state {
            SendState::Done => None,
            SendState::Released => Some(BusCommand::Release(self.msg_id)),
            SendState::Waiting | SendState::Sent => {
                self.state = SendState::Sent;
                let topic = Topic::try_from(self.topic.as_str()).expect("a good name");
                let message = BusMessage {
                    qos: self.qos,
                    ..BusMessage::new(topic, payload_of(self.number))
                };
                Some(BusCommand::Publish {
                    message: Admitted::of_gateway(message),
                    ack: Some(AckToken(self.number)),
                    dedup: (self.qos == BusQos::ExactlyOnce).then_some(self.msg_id),
                })
            }
        }
    }
}

impl Inbox {
    pub(super) fn receive_once(&mut self, id: u16, number: u32) {
        if self.held.insert(id) {
            self.arrived.push(number);
        }
    }
}

impl Sensor {
    pub(super) fn new(index: usize, plan: &SnPlan, rng: &mut Rng) -> Self {
        let readings = (0..plan.readings).map(|n| Sending {
            number: u32::try_from(index * plan.readings + n).expect("a run is small"),
            topic: format!("data/{index}"),
            qos: if rng.bool() {
                BusQos::AtLeastOnce
            } else {
                BusQos::ExactlyOnce
            },
            state: SendState::Waiting,
            msg_id: 0,
            acked: None,
        });
        Self {
            index,
            phase: Phase::Off,
            lost: true,
            subscribed: false,
            has_will: false,
            tries: 0,
            timer: 0,
            last_msg_id: 0,
            topic_id: None,
            ids: BTreeMap::new(),
            readings: readings.collect(),
            made: 0,
            inbox: Inbox::default(),
            asked: 0,
        }
    }

    pub(super) fn id(&self) -> Bytes {
        format!("sensor-{}", self.index).into()
    }

    pub(super) fn on_timer(&mut self, world: &mut World<'_>) {
        if self.phase == Phase::Off {
            return self.get_up(world);
        }
        if self.tries > N_RETRY {
            // The gateway is lost. It tries again in a while.
            self.lost = true;
            return self.switch_off(world.now + 3 * T_RETRY, world);
        }
        self.say(world);
    }

    pub(super) fn get_up(&mut self, world: &mut World<'_>) {
        let connect = self.lost || !self.subscribed || self.next_reading().is_some();
        self.asked = world.now;
        self.go(if connect { Phase::Connecting } else { Phase::Waking }, world);
    }

    fn go(&mut self, phase: Phase, world: &mut World<'_>) {
        self.phase = phase;
        self.tries = 0;
        self.say(world);
    }

    fn switch_off(&mut self, until: Ms, world: &mut World<'_>) {
        self.phase = Phase::Off;
        world.wakes_at = Some(until);
    }

    /// Says what the phase is about, for the first time or again. §6.13
    fn say(&mut self, world: &mut World<'_>) {
        let again = self.tries > 0;
        self.tries += 1;
        world.wakes_at = Some(world.now + T_RETRY);
        let message = match self.phase {
            Phase::Off => return,
            Phase::Connecting => Message::Connect(Connect {
                will: world.wills,
                clean_session: false,
                protocol_id: 1,
                duration: 120,
                client_id: self.id(),
            }),
            Phase::Subscribing => Message::Subscribe(Subscribe {
                dup: again,
                qos: Qos::ExactlyOnce,
                msg_id: self.msg_id(again),
                topic: TopicName::Name(format!("cmd/{}/+", self.index).into()),
            }),
            Phase::Registering => Message::Register(Register {
                topic_id: 0,
                msg_id: self.msg_id(again),
                topic: format!("data/{}", self.index).into(),
            }),
            Phase::Publishing => {
                let topic_id = self.topic_id.expect("it was registered");
                let at = self.next_reading().expect("there is one");
                // A message keeps its id until it is acknowledged, over connections too.
                let dup = self.readings[at].state == SendState::Sent;
                if !dup {
                    self.readings[at].msg_id = self.msg_id(false);
                }
                let reading = &mut self.readings[at];
                reading.state = SendState::Sent;
                Message::Publish(Publish {
                    dup,
                    qos: match reading.qos {
                        BusQos::ExactlyOnce => Qos::ExactlyOnce,
                        _ => Qos::AtLeastOnce,
                    },
                    retain: false,
                    topic: TopicRef::Normal(topic_id),
                    msg_id: reading.msg_id,
                    data: payload_of(reading.number),
                })
            }
            Phase::Releasing => {
                let at = self.next_reading().expect("there is one");
                Message::PubRel(self.readings[at].msg_id)
            }
            Phase::GoingToSleep => Message::Disconnect(u16::try_from(world.sleep / 1_000).ok()),
            Phase::Waking => Message::PingReq(Some(self.id())),
        };
        world.said.push(message);
    }

    fn msg_id(&mut self, again: bool) -> u16 {
        if !again {
            self.last_msg_id = self.last_msg_id.checked_add(1).unwrap_or(1);
        }
        self.last_msg_id
    }

    /// The oldest reading that is made and not acknowledged.
    fn next_reading(&self) -> Option<usize> {
        self.readings[..self.made]
            .iter()
            .position(|reading| reading.state != SendState::Done)
    }

    /// What an active sensor does next.
    fn next(&mut self, world: &mut World<'_>) {
        let phase = match self.next_reading().map(|at| self.readings[at].state) {
            _ if !self.subscribed => Phase::Subscribing,
            Some(SendState::Released) => Phase::Releasing,
            Some(_) if self.topic_id.is_none() => Phase::Registering,
            Some(_) => Phase::Publishing,
            None => Phase::GoingToSleep,
        };
        self.go(phase, world);
    }

    pub(super) fn on_message(&mut self, message: Message, world: &mut World<'_>) {
        if self.phase == Phase::Off {
            return; // Nobody hears it.
        }
        match (self.phase, message) {
            (Phase::Connecting, Message::ConnAck(ReturnCode::Accepted)) => {
                self.lost = false;
                self.topic_id = None;
                self.next(world);
            }
            (Phase::Connecting, Message::WillTopicReq) => {
                let topic = format!("gone/{}", self.index).into();
                world.said.push(Message::WillTopic(Some(WillTopic {
                    qos: Qos::AtLeastOnce,
                    retain: false,
                    topic,
                })));
            }
            (Phase::Connecting, Message::WillMsgReq) => world.said.push(Message::WillMsg(payload_of(
                u32::try_from(self.index).expect("few sensors"),
            ))),
            (Phase::Subscribing, Message::SubAck(ack)) if ack.msg_id == self.last_msg_id => {
                self.subscribed = ack.code == ReturnCode::Accepted;
                self.next(world);
            }
            (Phase::Registering, Message::RegAck(ack)) if ack.msg_id == self.last_msg_id => {
                self.topic_id = (ack.code == ReturnCode::Accepted).then_some(ack.topic_id);
                self.next(world);
            }
            (Phase::Publishing, Message::PubAck(ack)) => self.on_puback(ack, world),
            (Phase::Publishing, Message::PubRec(msg_id)) => {
                let at = self.next_reading().expect("one is under way");
                let reading = &mut self.readings[at];
                if reading.msg_id == msg_id && reading.qos == BusQos::ExactlyOnce {
                    reading.acked.get_or_insert(world.now);
                    reading.state = SendState::Released;
                    self.next(world);
                }
            }
            (Phase::Releasing, Message::PubComp(msg_id)) => {
                let at = self.next_reading().expect("one is under way");
                if self.readings[at].msg_id == msg_id {
                    self.readings[at].state = SendState::Done;
                    self.next(world);
                }
            }
            (Phase::GoingToSleep, Message::Disconnect(None)) => {
                self.switch_off(world.now + world.sleep, world);
            }
            (Phase::Connecting, Message::Disconnect(None)) => {} // A late answer to what it said before.
            (_, Message::Disconnect(None)) => {
                self.lost = true;
                self.switch_off(world.now + 1_000, world);
            }
            (Phase::Waking, Message::PingResp) => self.on_pingresp(world),
            (_, message) => self.on_delivery(message, world),
        }
    }

    fn on_puback(&mut self, ack: RegAck, world: &mut World<'_>) {
        let at = self.next_reading().expect("one is under way");
        let reading = &mut self.readings[at];
        if reading.msg_id != ack.msg_id {
            return;
        }
        match ack.code {
            ReturnCode::Accepted if reading.qos == BusQos::AtLeastOnce => {
                reading.acked.get_or_insert(world.now);
                reading.state = SendState::Done;
                self.next(world);
            }
            ReturnCode::InvalidTopicId => {
                self.topic_id = None;
                self.next(world);
            }
            _ => {} // Later, perhaps.
        }
    }

    /// §6.10, §6.6: what comes at any time that its radio is on.
    fn on_delivery(&mut self, message: Message, world: &mut World<'_>) {
        match message {
            Message::Register(register) => {
                let name = String::from_utf8_lossy(&register.topic).into_owned();
                self.ids.insert(register.topic_id, name);
                world.said.push(Message::RegAck(RegAck {
                    topic_id: register.topic_id,
                    msg_id: register.msg_id,
                    code: ReturnCode::Accepted,
                }));
            }
            Message::Publish(publish) => self.on_publish(publish, world),
            Message::PubRel(msg_id) => {
                self.inbox.held.remove(&msg_id);
                world.said.push(Message::PubComp(msg_id));
            }
            _ => return,
        }
        if self.phase == Phase::Waking {
            // The gateway is there and at work: it need not be asked again yet.
            self.tries = 1;
            world.wakes_at = Some(world.now + T_RETRY);
        }
    }

    fn on_publish(&mut self, publish: Publish, world: &mut World<'_>) {
        let number = number_of(&publish.data);
        let TopicRef::Normal(topic_id) = publish.topic else {
            return world
                .report
                .faults
                .push(format!("{}: {:?}", self.index, publish.topic));
        };
        let command = &world.commands[number as usize];
        if self.ids.get(&topic_id) != Some(&command.topic) {
            let known = self.ids.get(&topic_id);
            let fault = format!(
                "{}: topic id {topic_id} is {known:?}, not {}",
                self.index, command.topic
            );
            world.report.faults.push(fault);
        }
        let answer = match publish.qos {
            Qos::ExactlyOnce => {
                self.inbox.receive_once(publish.msg_id, number);
                Message::PubRec(publish.msg_id)
            }
            _ => {
                self.inbox.arrived.push(number);
                Message::PubAck(RegAck {
                    topic_id,
                    msg_id: publish.msg_id,
                    code: ReturnCode::Accepted,
                })
            }
        };
        world.said.push(answer);
    }

    /// The gateway says that this was all: everything that was safe when the sensor asked must be here.
    fn on_pingresp(&mut self, world: &mut World<'_>) {
        world.report.wakes += 1;
        let prefix = format!("cmd/{}/", self.index);
        let recent = world
            .commands
            .iter()
            .rev()
            .take(200)
            .filter(|c| c.topic.starts_with(&prefix));
        let due = recent.filter(|command| command.acked.is_some_and(|at| at < self.asked));
        for command in due.filter(|command| self.is_entitled(command)) {
            if !self.inbox.arrived.contains(&command.number) {
                let fault = format!("sensor {} sleeps without command {}", self.index, command.number);
                world.report.faults.push(fault);
            }
        }
        self.switch_off(world.now + world.sleep, world);
    }

    /// Commands count from when the subscription was there, which the sensor knows no earlier than by its SUBACK.
    pub(super) fn is_entitled(&self, command: &Sending) -> bool {
        self.inbox
            .arrived
            .first()
            .is_some_and(|first| *first <= command.number)
    }
}

pub(super) fn payload_of(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

pub(super) fn number_of(payload: &[u8]) -> u32 {
    payload
        .try_into()
        .map(u32::from_be_bytes)
        .expect("payloads are numbers")
}
