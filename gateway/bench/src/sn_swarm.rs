//! Many sensors that speak MQTT-SN, each a few bytes: what they send, what must be answered, and what became of it. No socket, no clock.
//!
//! They do the same thing at the same time, a phase; in it each has one exchange, or as many as it is to publish messages. As many exchanges are
//! under way as the window allows, because nothing else tells a sender of datagrams that the other end cannot take more.

use super::histogram::{Histogram, Timetable};
use super::sn_socket::Outbox;
use bytes::{Bytes, BytesMut};
use headgate_mqttsn_codec::{
    Connect, Message, Publish, Qos, RegAck, Register, ReturnCode, Subscribe, TopicName, TopicRef, decode,
    encode,
};
use std::net::Ipv4Addr;

/// The first sensor's address; the others follow.
const FIRST: u32 = u32::from_be_bytes([127, 1, 0, 0]);

/// Sensors that have addresses: a sixteenth of 127/8 is enough for a million.
pub(crate) const MAX_SENSORS: usize = 1 << 20;

/// QoS 0 messages before one ping that tells that they have arrived.
const QOS_0_GROUP: u64 = 16;

/// What every payload of ours begins with: which run, which sensor.
pub(crate) const STAMP_LEN: usize = 12;

/// Names the topic id of no topic. §5.3.11
const NO_TOPIC: u16 = 0;
const NO_SLOT: u32 = u32::MAX;

/// What all sensors do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// CONNECT, CONNACK.
    Connect,
    /// SUBSCRIBE to the own topic, SUBACK.
    Subscribe,
    /// REGISTER of the topic that is published to, REGACK.
    Register,
    /// PUBLISH, PUBACK; at QoS 0 several PUBLISHes and a ping.
    Publish,
    /// DISCONNECT with a duration, DISCONNECT.
    Sleep,
    /// PINGREQ with the client id, what was kept, PINGRESP.
    Wake,
    /// DISCONNECT, DISCONNECT.
    Leave,
}

impl Phase {
    /// As reports call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Subscribe => "subscribe",
            Self::Register => "register",
            Self::Publish => "publish",
            Self::Sleep => "sleep",
            Self::Wake => "wake",
            Self::Leave => "leave",
        }
    }
}

/// Who they are and what they do.
#[derive(Clone, Debug)]
pub(crate) struct SwarmPlan {
    /// How many.
    pub sensors: usize,
    /// Of publishing: 0 or 1.
    pub qos: Qos,
    /// Messages that each publishes.
    pub messages: u64,
    /// Bytes of a payload.
    pub payload: usize,
    /// Datagrams under way at a time.
    pub window: usize,
    /// Messages a second that all publish together; `None` for as many as the window lets through.
    pub rate: Option<f64>,
    /// All publish to one topic.
    pub shared_topic: bool,
    /// Their sessions end with their connections, or with their sleep.
    pub clean: bool,
    /// Seconds.
    pub keep_alive: u16,
    /// Seconds.
    pub sleep: u16,
    /// Each gets one message when it wakes.
    pub buffered: bool,
    /// T_retry, in nanoseconds.
    pub retry_interval: u64,
    /// N_retry.
    pub retries: u8,
    /// Distinguishes this run's messages.
    pub run: u64,
}

/// What happened in a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Exchanges that were completed, or QoS 0 messages that were sent and followed by an answer.
    pub done: u64,
    /// Sensors that got no answer.
    pub failed: u64,
    /// Exchanges that the gateway refused.
    pub refused: u64,
    /// What was sent again because its answer did not come in time.
    pub retries: u64,
    /// Datagrams that were sent.
    pub sent: u64,
    /// Datagrams that came.
    pub received: u64,
    /// Messages to sensors, each once.
    pub delivered: u64,
    /// Messages that had not come when the gateway said that this was all.
    pub lost: u64,
    /// Messages that came again.
    pub duplicates: u64,
    /// Messages that came to the wrong sensor, or are nobody's.
    pub foreign: u64,
    /// Messages that came after the gateway said that this was all.
    pub late: u64,
    /// Datagrams that make no sense.
    pub malformed: u64,
}

/// A sensor while nothing is under way.
#[derive(Clone, Copy, Debug)]
struct Sensor {
    /// Its place among the exchanges.
    slot: u32,
    /// What it publishes to.
    topic_id: u16,
    /// The last it used.
    msg_id: u16,
    /// Copies that came of the message for it.
    copies: u8,
    /// The gateway did not let it in, does not know it any more, or did not answer: it does nothing from then on.
    gone: bool,
}

const _: () = assert!(size_of::<Sensor>() <= 12, "a process has a million of these");

/// An exchange under way.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    sensor: u32,
    /// What it is of the phase, and how many units of it.
    first: u64,
    units: u64,
    /// When it began, or should have.
    since: u64,
    /// When it is sent again.
    retry_at: u64,
    retries: u8,
}

/// The sensors. See the module's documentation.
pub(super) struct Swarm {
    plan: SwarmPlan,
    sensors: Vec<Sensor>,
    phase: Phase,
    /// Units of the phase: begun, and all.
    next: u64,
    total: u64,
    exchanges: Vec<Exchange>,
    timetable: Option<Timetable>,
    /// The earliest time at which something may have to be sent again.
    sweep_at: u64,
    /// What the phase counted.
    pub counts: Counts,
    /// How long exchanges took.
    pub latency: Histogram,
    scratch: BytesMut,
}

impl Swarm {
    /// Sensors that have done nothing.
    pub(super) fn new(plan: SwarmPlan) -> Self {
        let sensor = Sensor {
            slot: NO_SLOT,
            topic_id: NO_TOPIC,
            msg_id: 0,
            copies: 0,
            gone: false,
        };
        Self {
            sensors: vec![sensor; plan.sensors],
            phase: Phase::Connect,
            next: 0,
            total: 0,
            exchanges: Vec::new(),
            timetable: None,
            sweep_at: u64::MAX,
            counts: Counts::default(),
            latency: Histogram::new(),
            scratch: BytesMut::new(),
            plan,
        }
    }

    /// All do this from now on.
    pub(super) fn begin(&mut self, phase: Phase, now: u64) {
        self.phase = phase;
        self.next = 0;
        self.total = match phase {
            Phase::Publish => self.plan.messages * self.plan.sensors as u64,
            _ => self.plan.sensors as u64,
        };
        self.timetable = match phase {
            Phase::Publish => self.plan.rate.map(|rate| Timetable::new(now, rate)),
            _ => None,
        };
        self.counts = Counts::default();
        self.latency.clear();
        self.sensors.iter_mut().for_each(|sensor| sensor.copies = 0);
    }

    /// Whether all have done it.
    pub(super) fn is_done(&self) -> bool {
        self.next == self.total && self.exchanges.is_empty()
    }

    /// How many began, of how many.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.next, self.total)
    }

    /// Sends again what is due, and begins what the window allows.
    pub(super) fn fill(&mut self, now: u64, out: &mut Outbox) {
        if self.sweep_at <= now {
            self.sweep(now, out);
        }
        let (units, cost) = self.group();
        while self.next < self.total && (self.exchanges.len() + 1) * cost <= self.plan.window.max(cost) {
            if units == 1 && self.sensors[self.sensor_of(self.next) as usize].gone {
                self.next += 1;
                continue;
            }
            let units = units.min(self.total - self.next);
            let since = match &self.timetable {
                Some(timetable) => timetable.due(self.next + units - 1),
                None => now,
            };
            let sensor = self.sensor_of(self.next + units - 1);
            // It publishes one message after the other.
            if since > now || self.sensors[sensor as usize].slot != NO_SLOT {
                break;
            }
            self.sensors[sensor as usize].slot = self.exchanges.len() as u32;
            let exchange = Exchange {
                sensor,
                first: self.next,
                units,
                since,
                retry_at: now + self.plan.retry_interval,
                retries: 0,
            };
            self.exchanges.push(exchange);
            self.sweep_at = self.sweep_at.min(exchange.retry_at);
            self.next += units;
            self.say_all(exchange, out);
        }
    }

    /// A datagram came to this address.
    pub(super) fn datagram(&mut self, to: Ipv4Addr, datagram: &[u8], now: u64, out: &mut Outbox) {
        self.counts.received += 1;
        let number = u32::from(to)
            .checked_sub(FIRST)
            .filter(|number| (*number as usize) < self.sensors.len());
        let message = decode(&Bytes::copy_from_slice(datagram));
        let (Some(number), Ok(message)) = (number, message) else {
            self.counts.malformed += 1;
            return;
        };
        match (message, self.phase) {
            (Message::ConnAck(code), Phase::Connect) => {
                self.sensors[number as usize].gone = code != ReturnCode::Accepted;
                self.answered(number, code, now);
            }
            (Message::SubAck(ack), Phase::Subscribe) if self.asked(number, ack.msg_id) => {
                self.answered(number, ack.code, now);
            }
            (Message::RegAck(ack), Phase::Register) if self.asked(number, ack.msg_id) => {
                self.sensors[number as usize].topic_id = ack.topic_id;
                self.answered(number, ack.code, now);
            }
            (Message::PubAck(ack), Phase::Publish) => match self.plan.qos {
                // At QoS 0 only what is wrong is told.
                Qos::AtMostOnce => self.counts.refused += u64::from(ack.code != ReturnCode::Accepted),
                _ if self.asked(number, ack.msg_id) => self.answered(number, ack.code, now),
                _ => {}
            },
            (Message::PingResp, Phase::Publish) => self.answered(number, ReturnCode::Accepted, now),
            (Message::PingResp, Phase::Wake) => self.on_all_came(number, now),
            (Message::Disconnect(_), Phase::Sleep | Phase::Leave) => {
                self.answered(number, ReturnCode::Accepted, now);
            }
            (Message::Disconnect(_), _) => {
                self.sensors[number as usize].gone = true;
                self.answered(number, ReturnCode::NotSupported, now);
            }
            (Message::Register(register), _) => {
                let ack = RegAck {
                    topic_id: register.topic_id,
                    msg_id: register.msg_id,
                    code: ReturnCode::Accepted,
                };
                self.say(number, &Message::RegAck(ack), out);
                self.hear(number, now);
            }
            (Message::Publish(publish), _) => self.on_publish(number, &publish, now, out),
            _ => {}
        }
    }

    /// Units that go together, and the datagrams that they are.
    fn group(&self) -> (u64, usize) {
        match (self.phase, self.plan.qos) {
            (Phase::Publish, Qos::AtMostOnce) => {
                let units = QOS_0_GROUP.min(self.plan.window as u64 / 2).max(1);
                (units, units as usize + 1)
            }
            _ => (1, 1),
        }
    }

    fn sensor_of(&self, unit: u64) -> u32 {
        (unit % self.plan.sensors as u64) as u32
    }

    /// Whether it waits for an answer to this.
    fn asked(&self, number: u32, msg_id: u16) -> bool {
        self.sensors[number as usize].msg_id == msg_id
    }

    /// What was not answered in time.
    fn sweep(&mut self, now: u64, out: &mut Outbox) {
        self.sweep_at = u64::MAX;
        let mut at = 0;
        while at < self.exchanges.len() {
            let exchange = &mut self.exchanges[at];
            if exchange.retry_at <= now {
                if exchange.retries >= self.plan.retries {
                    self.counts.failed += 1;
                    let exchange = self.close(at);
                    self.sensors[exchange.sensor as usize].gone = true;
                    continue;
                }
                exchange.retries += 1;
                exchange.retry_at = now + self.plan.retry_interval;
                self.counts.retries += 1;
                let exchange = *exchange;
                self.say_last(exchange, out);
            }
            self.sweep_at = self.sweep_at.min(self.exchanges[at].retry_at);
            at += 1;
        }
    }

    fn close(&mut self, at: usize) -> Exchange {
        let exchange = self.exchanges.swap_remove(at);
        self.sensors[exchange.sensor as usize].slot = NO_SLOT;
        if let Some(moved) = self.exchanges.get(at) {
            self.sensors[moved.sensor as usize].slot = at as u32;
        }
        exchange
    }

    fn answered(&mut self, number: u32, code: ReturnCode, now: u64) {
        let slot = self.sensors[number as usize].slot;
        if slot == NO_SLOT {
            return; // Answered already: this answers what was sent again.
        }
        let exchange = self.close(slot as usize);
        if code == ReturnCode::Accepted {
            self.counts.done += exchange.units;
            self.latency.record(now.saturating_sub(exchange.since));
        } else {
            self.counts.refused += 1;
        }
    }

    /// The gateway is at work for this one: it need not be asked again yet.
    fn hear(&mut self, number: u32, now: u64) {
        let slot = self.sensors[number as usize].slot;
        if let Some(exchange) = self.exchanges.get_mut(slot as usize) {
            exchange.retry_at = now + self.plan.retry_interval;
        }
    }

    fn on_publish(&mut self, number: u32, publish: &Publish, now: u64, out: &mut Outbox) {
        if publish.qos == Qos::AtLeastOnce {
            let (TopicRef::Normal(topic_id) | TopicRef::Predefined(topic_id)) = publish.topic else {
                self.counts.foreign += 1;
                return;
            };
            let ack = RegAck {
                topic_id,
                msg_id: publish.msg_id,
                code: ReturnCode::Accepted,
            };
            self.say(number, &Message::PubAck(ack), out);
        }
        self.hear(number, now);
        if publish.data.get(..STAMP_LEN) != Some(&stamp(self.plan.run, number)) {
            self.counts.foreign += 1;
            return;
        }
        let sensor = &mut self.sensors[number as usize];
        let awake = self.phase == Phase::Wake && sensor.slot != NO_SLOT;
        if sensor.copies > 0 {
            self.counts.duplicates += 1;
        } else if awake {
            self.counts.delivered += 1;
        } else {
            self.counts.late += 1;
        }
        sensor.copies = sensor.copies.saturating_add(1);
    }

    /// PINGRESP to a sensor that woke.
    fn on_all_came(&mut self, number: u32, now: u64) {
        let sensor = self.sensors[number as usize];
        if sensor.slot != NO_SLOT && self.plan.buffered && sensor.copies == 0 {
            self.counts.lost += 1;
        }
        self.answered(number, ReturnCode::Accepted, now);
    }

    /// Everything of an exchange, for the first time.
    fn say_all(&mut self, exchange: Exchange, out: &mut Outbox) {
        if self.phase == Phase::Publish && self.plan.qos == Qos::AtMostOnce {
            for unit in exchange.first..exchange.first + exchange.units {
                let number = self.sensor_of(unit);
                if !self.sensors[number as usize].gone {
                    let publish = self.publish(number, false);
                    self.say(number, &publish, out);
                }
            }
        } else {
            let sensor = &mut self.sensors[exchange.sensor as usize];
            // Zero names nothing. §5.3.8
            sensor.msg_id = sensor.msg_id.checked_add(1).unwrap_or(1);
        }
        self.say_last(exchange, out);
    }

    /// What is answered, and is sent again if it is not.
    fn say_last(&mut self, exchange: Exchange, out: &mut Outbox) {
        let number = exchange.sensor;
        let msg_id = self.sensors[number as usize].msg_id;
        let message = match self.phase {
            Phase::Connect => Message::Connect(Connect {
                will: false,
                clean_session: self.plan.clean,
                protocol_id: 1,
                duration: self.plan.keep_alive,
                client_id: client_id(number),
            }),
            Phase::Subscribe => Message::Subscribe(Subscribe {
                dup: exchange.retries > 0,
                qos: Qos::AtLeastOnce,
                msg_id,
                topic: TopicName::Name(own_topic(number).into()),
            }),
            Phase::Register => Message::Register(Register {
                topic_id: NO_TOPIC,
                msg_id,
                topic: if self.plan.shared_topic {
                    "sn/data".into()
                } else {
                    format!("sn/{number}/data").into()
                },
            }),
            Phase::Publish if self.plan.qos == Qos::AtMostOnce => Message::PingReq(None),
            Phase::Publish => self.publish(number, exchange.retries > 0),
            Phase::Sleep => Message::Disconnect(Some(self.plan.sleep)),
            Phase::Wake => Message::PingReq(Some(client_id(number))),
            Phase::Leave => Message::Disconnect(None),
        };
        self.say(number, &message, out);
    }

    fn publish(&self, number: u32, dup: bool) -> Message {
        let sensor = &self.sensors[number as usize];
        let mut data = vec![b'.'; self.plan.payload.max(STAMP_LEN)];
        data[..STAMP_LEN].copy_from_slice(&stamp(self.plan.run, number));
        Message::Publish(Publish {
            dup,
            qos: self.plan.qos,
            retain: false,
            topic: TopicRef::Normal(sensor.topic_id),
            msg_id: if self.plan.qos == Qos::AtMostOnce {
                0
            } else {
                sensor.msg_id
            },
            data: data.into(),
        })
    }

    fn say(&mut self, number: u32, message: &Message, out: &mut Outbox) {
        self.scratch.clear();
        encode(message, &mut self.scratch).expect("payloads fit into a datagram");
        out.push(Ipv4Addr::from(FIRST + number), &self.scratch);
        self.counts.sent += 1;
    }
}

/// At the start of every payload.
pub(super) fn stamp(run: u64, number: u32) -> [u8; STAMP_LEN] {
    let mut stamp = [0; STAMP_LEN];
    stamp[..8].copy_from_slice(&run.to_be_bytes());
    stamp[8..].copy_from_slice(&number.to_be_bytes());
    stamp
}

/// What a sensor is subscribed to.
pub(super) fn own_topic(number: u32) -> String {
    format!("sn/{number}/cmd")
}

fn client_id(number: u32) -> Bytes {
    format!("sn-{number}").into()
}

#[cfg(test)]
#[path = "sn_swarm_tests.rs"]
mod tests;
