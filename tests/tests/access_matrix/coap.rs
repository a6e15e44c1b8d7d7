//! Rows tried by clients of CoAP: they publish by `/ps/{topic}` and observe. What an observer of one topic is told has no name: it is the one that was asked for.

use crate::rules::{Door, of_the_table};
use crate::{Action, Detour, PLANT, Seen, mount, rewriting};
use bytes::{Bytes, BytesMut};
use headgate_bus::BusSettings;
use headgate_coap::{CoapServer, CoapSettings};
use headgate_coap_codec::{Code, Kind, Message, Token, decode, encode, number};
use headgate_model::{
    BusCommand, BusEvent, DatagramOutputs, DatagramServer, EndpointId, Naming, Open, Qos, Rewriter,
    SessionKey,
};
use headgate_tests::bus_bench::{BusBench, message, opening};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

/// So long a client is silent that is gone.
const GONE: Duration = Duration::from_secs(1_000);

/// A bus with a watcher and a plant, and one socket.
struct Bench {
    bus: BusBench,
    server: CoapServer<SocketAddr>,
    out: DatagramOutputs<SocketAddr>,
    door: Door,
    user: Option<String>,
    sessions: BTreeMap<SessionKey, EndpointId>,
    next_endpoint: u64,
    next_id: u16,
    heard: Vec<Message>,
}

fn at() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], 5_683))
}

impl Bench {
    fn new(door: &Door, user: Option<&str>, detour: Detour) -> Self {
        let mut bus = BusBench::new("matrix", BusSettings::default());
        for client in ["watcher", "plant"] {
            bus.open(Open {
                credit: 1_000_000,
                receive_maximum: u16::MAX,
                ..opening(client, None)
            });
        }
        for filter in ["#", "$SYS/#"] {
            bus.subscribe("watcher", filter);
        }
        let naming = Naming {
            mount: mount(detour),
            rewriter: Arc::new(Rewriter::compile(&rewriting(detour)).expect("good rules")),
            ..Naming::default()
        };
        let mut settings = CoapSettings::default();
        settings.transmission.amplification_limit = 0;
        Self {
            bus,
            server: CoapServer::repeating(settings, Arc::new(naming), 1),
            out: DatagramOutputs::default(),
            door: door.clone(),
            user: user.map(str::to_owned),
            sessions: BTreeMap::new(),
            next_endpoint: 1_000_000,
            next_id: 0,
            heard: Vec::new(),
        }
    }

    /// Asks; the code of the answer.
    fn ask(
        &mut self,
        code: Code,
        topic: &str,
        words: &str,
        observe: Option<u32>,
        payload: &'static [u8],
    ) -> Code {
        self.next_id += 1;
        let token = Token::new(&[7]).expect("short");
        let mut request = Message::new(Kind::Confirmable, code, self.next_id, token);
        // As one segment, whatever is in it.
        for segment in ["ps", &topic.replace('%', "%25")] {
            request.options.push(number::URI_PATH, segment.to_owned());
        }
        let user = self.user.iter().map(|user| format!("&u={user}"));
        let words = format!("c=c&{words}{}", user.collect::<String>());
        for word in words.split('&') {
            request.options.push(number::URI_QUERY, word.to_owned());
        }
        if let Some(observe) = observe {
            request.options.push_uint(number::OBSERVE, observe);
        }
        request.payload = Bytes::from_static(payload);
        self.receive(&request);
        let id = self.next_id;
        let answers = |message: &Message| message.kind == Kind::Acknowledgement && message.id == id;
        let answer = self.heard.iter().position(answers).expect("an answer");
        let answer = &self.heard[answer];
        // What is retained at a topic comes with the answer.
        let (code, is_empty) = (answer.code, answer.payload.is_empty());
        self.heard
            .retain(|message| !answers(message) || (observe.is_some() && code.is_success() && !is_empty));
        code
    }

    fn receive(&mut self, message: &Message) {
        let mut bytes = BytesMut::new();
        encode(message, &mut bytes).expect("short");
        let now = self.bus.now;
        self.server
            .handle_datagram(at(), bytes.freeze(), now, &mut self.out);
        self.settle();
    }

    /// Until nothing follows any more. Notifications are acknowledged.
    fn settle(&mut self) {
        loop {
            for (key, command) in std::mem::take(&mut self.out.bus) {
                if matches!(command, BusCommand::Open(_)) {
                    self.next_endpoint += 1;
                    self.sessions.insert(key, EndpointId(self.next_endpoint));
                }
                let endpoint = self.sessions[&key];
                self.bus
                    .turn(|bus, now, out| bus.handle(endpoint, command, now, out));
            }
            let now = self.bus.now;
            for asked in std::mem::take(&mut self.out.questions) {
                let answer = self.door.answer(&asked.question);
                self.server.handle_answer(asked.key, answer, now, &mut self.out);
            }
            for (_, datagram) in self.out.take_datagrams() {
                let message = decode(&datagram).expect("a server writes what can be read");
                if message.kind == Kind::Confirmable && message.code != Code::EMPTY {
                    let mut bytes = BytesMut::new();
                    encode(&Message::empty(Kind::Acknowledgement, message.id), &mut bytes).expect("short");
                    self.server
                        .handle_datagram(at(), bytes.freeze(), now, &mut self.out);
                }
                self.heard.push(message);
            }
            self.out.denials.drain().for_each(drop);
            if let Some((key, event)) = self.next_event() {
                self.server.handle_bus(key, event, now, &mut self.out);
            } else if self.out.bus.is_empty() && self.out.questions.is_empty() && self.out.datagrams() == 0 {
                return;
            }
        }
    }

    fn next_event(&mut self) -> Option<(SessionKey, BusEvent)> {
        let key_of = |to: EndpointId| self.sessions.iter().find(|(_, endpoint)| **endpoint == to);
        let at = self.bus.events.iter().position(|(to, _)| key_of(*to).is_some())?;
        let key = *key_of(self.bus.events[at].0)?.0;
        Some((key, self.bus.events.remove(at).1))
    }

    /// It observes a filter; whether it is refused.
    fn observe(&mut self, filter: &str, qos: Qos) -> bool {
        let code = self.ask(Code::GET, filter, &format!("qos={}", qos as u8), Some(0), b"");
        !code.is_success()
    }

    fn cancel(&mut self, filter: &str) {
        self.ask(Code::GET, filter, "", Some(1), b"");
        self.heard.clear();
    }

    /// It says nothing for so long that it is gone.
    fn leave(&mut self) {
        let end = self.bus.now + GONE;
        while let Some(due) = self.server.deadline().filter(|due| *due <= end) {
            self.bus.advance(due.since(self.bus.now));
            let now = self.bus.now;
            self.server.handle_timeout(now, &mut self.out);
            self.settle();
        }
        self.heard.clear();
    }

    /// Publishes the plant.
    fn work(&mut self, qos: Qos, retain: bool) {
        for topic in PLANT {
            let mut message = message(topic, "1", qos);
            message.retain = retain;
            self.bus.publish("plant", message);
        }
        self.settle();
    }

    /// Names of the messages that the client got.
    fn topics(&mut self, filter: &str) -> Vec<String> {
        self.settle();
        let asked = ["$exclusive/", "$local/"]
            .iter()
            .fold(filter, |rest, prefix| rest.strip_prefix(prefix).unwrap_or(rest));
        let heard = std::mem::take(&mut self.heard).into_iter();
        let content = heard.filter(|message| message.code == Code::CONTENT && !message.payload.is_empty());
        content
            .map(|message| {
                let levels: Vec<_> = message
                    .options
                    .all(number::LOCATION_PATH)
                    .map(|level| String::from_utf8_lossy(level))
                    .collect();
                match levels.is_empty() {
                    true => asked.to_owned(),
                    false => levels.join("/"),
                }
            })
            .collect()
    }

    fn watched(&mut self) -> Vec<String> {
        self.bus.advance(Duration::from_secs(2)); // What is delayed by nothing.
        let deliveries = self.bus.deliveries("watcher");
        deliveries
            .iter()
            .map(|delivery| delivery.message.topic.to_string())
            .collect()
    }
}

pub(crate) fn tries(detour: Detour, action: Action) -> Seen {
    tries_by(&Door::with(of_the_table()), None, detour, action)
}

/// The same by other rules, and perhaps under a user name.
pub(crate) fn tries_by(door: &Door, user: Option<&str>, detour: Detour, action: Action) -> Seen {
    let mut bench = Bench::new(door, user, detour);
    let mut seen = Seen::default();
    match action {
        Action::Publish(topic) => {
            for (qos, retain) in QOS.into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
                let words = format!("qos={}&retain={retain}", qos as u8);
                let code = bench.ask(Code::POST, topic, &words, None, b"1");
                seen.refused |= !code.is_success();
                let watched = bench.watched();
                // A message that is denied is never answered 2.04.
                assert!(watched.is_empty() || code.is_success(), "{topic}: {code}");
                seen.topics.extend(watched);
            }
        }
        Action::Read(filter) => {
            for qos in QOS {
                seen.refused |= bench.observe(filter, qos);
                bench.work(qos, false);
                seen.topics.extend(bench.topics(filter));
                bench.cancel(filter);
            }
        }
        Action::ReadLater(filter) => {
            for qos in &QOS[1..] {
                seen.refused |= bench.observe(filter, *qos);
                bench.leave();
                bench.work(*qos, false);
                bench.observe(filter, *qos);
                seen.topics.extend(bench.topics(filter));
                bench.cancel(filter);
            }
        }
        Action::ReadRetained(filter) => {
            for qos in QOS {
                bench.work(qos, true);
                seen.refused |= bench.observe(filter, qos);
                seen.topics.extend(bench.topics(filter));
                bench.cancel(filter);
            }
        }
        Action::Will(..) | Action::WillTopicUpd(_) | Action::WillMsgUpd(_) => {
            unreachable!("there are none in CoAP")
        }
    }
    seen
}
