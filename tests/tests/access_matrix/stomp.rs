//! Rows tried by clients of STOMP: at QoS 0 without acknowledgements, otherwise with, so that both kinds of sessions are tried.

use crate::rules::{Door, of_the_table};
use crate::{Action, Detour, PLANT, Seen, mount, rewriting};
use bytes::BytesMut;
use headgate_bus::BusSettings;
use headgate_model::{
    BusCommand, Endpoint, EndpointId, Input, Naming, Open, Outputs, PeerFacts, Qos, Rewriter, SessionKey,
    Wire,
};
use headgate_stomp::{StompEndpoint, StompSettings, StompWire};
use headgate_stomp_codec::{Command, Decoder, Frame, Limits, Version};
use headgate_tests::bus_bench::{BusBench, message, opening};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A QoS, and how a client acknowledges that reads with it.
const QOS: [(Qos, &str); 3] = [
    (Qos::AtMostOnce, "auto"),
    (Qos::AtLeastOnce, "client"),
    (Qos::ExactlyOnce, "client-individual"),
];

const LIMITS: Limits = Limits {
    headers: 100,
    line_bytes: 10_000,
    head_bytes: 100_000,
    body_bytes: 10_000,
};

/// A bus with a watcher, a plant and one client of STOMP at a time.
struct Bench {
    bus: BusBench,
    door: Door,
    user: Option<String>,
    naming: Arc<Naming>,
    client: Option<Client>,
    next_endpoint: u64,
}

struct Client {
    endpoint: StompEndpoint,
    wire: StompWire,
    sessions: BTreeMap<SessionKey, EndpointId>,
    decoder: Decoder,
    heard: Vec<Frame>,
}

impl Bench {
    fn new(door: &Door, user: Option<&str>, detour: Detour) -> Self {
        let settings = BusSettings {
            store_qos0: true,
            ..BusSettings::default()
        };
        let mut bus = BusBench::new("matrix", settings);
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
        Self {
            bus,
            door: door.clone(),
            user: user.map(str::to_owned),
            naming: Arc::new(naming),
            client: None,
            next_endpoint: 1_000_000,
        }
    }

    /// The client connects, and is let in.
    fn connect(&mut self) {
        let settings = Arc::new(StompSettings::default());
        let facts = PeerFacts {
            naming: Arc::clone(&self.naming),
            ..PeerFacts::default()
        };
        let mut decoder = Decoder::new(LIMITS);
        decoder.set_version(Version::V12);
        self.client = Some(Client {
            endpoint: StompEndpoint::new(Arc::clone(&settings), facts, self.bus.now),
            wire: StompWire::new(settings),
            sessions: BTreeMap::new(),
            decoder,
            heard: Vec::new(),
        });
        let login = self
            .user
            .as_ref()
            .map_or(String::new(), |user| format!("login:{user}\n"));
        self.send(&format!(
            "CONNECT\naccept-version:1.2\nhost:h\nclient-id:c\n{login}\n"
        ));
        assert_eq!(self.heard()[0].command, Command::Connected, "everybody is let in");
    }

    fn leave(&mut self) {
        self.step(Input::Closed);
        self.client = None;
    }

    fn send(&mut self, frame: &str) {
        let mut bytes = BytesMut::from(format!("{frame}\0").as_bytes());
        let received = self
            .client
            .as_mut()
            .and_then(|client| client.wire.decode(&mut bytes));
        self.step(Input::Frame(received.expect("a whole frame")));
        self.settle();
    }

    /// What the client was sent since the last look.
    fn heard(&mut self) -> Vec<Frame> {
        self.settle();
        self.client
            .as_mut()
            .map_or(Vec::new(), |client| std::mem::take(&mut client.heard))
    }

    /// Hands over all that the bus says.
    fn settle(&mut self) {
        while let Some((key, event)) = self.next_event() {
            self.step(Input::Bus((key, event)));
        }
    }

    fn next_event(&mut self) -> Option<(SessionKey, headgate_model::BusEvent)> {
        let sessions = &self.client.as_ref()?.sessions;
        let key_of = |to: EndpointId| sessions.iter().find(|(_, endpoint)| **endpoint == to);
        let at = self.bus.events.iter().position(|(to, _)| key_of(*to).is_some())?;
        let key = *key_of(self.bus.events[at].0)?.0;
        Some((key, self.bus.events.remove(at).1))
    }

    fn step(&mut self, input: Input<headgate_stomp::Received, headgate_model::Many>) {
        let Some(client) = &mut self.client else { return };
        let mut out = Outputs::default();
        client.endpoint.handle(input, self.bus.now, &mut out);
        let mut bytes = BytesMut::new();
        out.frames
            .into_iter()
            .for_each(|frame| client.wire.encode(frame, &mut bytes));
        while let Some(frame) = client.decoder.decode(&mut bytes).expect("good frames") {
            client.heard.push(frame);
        }
        for (key, command) in out.bus {
            if matches!(command, BusCommand::Open(_)) {
                self.next_endpoint += 1;
                client.sessions.insert(key, EndpointId(self.next_endpoint));
            }
            let endpoint = client.sessions[&key];
            self.bus
                .turn(|bus, now, out| bus.handle(endpoint, command, now, out));
        }
        if let Some(question) = out.question {
            let answer = self.door.answer(&question);
            self.step(Input::Answer(answer));
        }
    }

    /// Publishes the plant.
    fn work(&mut self, qos: Qos, retain: bool) {
        for topic in PLANT {
            let mut message = message(topic, "1", qos);
            message.retain = retain;
            self.bus.publish("plant", message);
        }
    }

    /// The client subscribes; whether it is refused.
    fn subscribe(&mut self, filter: &str, qos: Qos, headers: &str) -> bool {
        let qos = qos as u8;
        self.send(&format!(
            "SUBSCRIBE\nid:0\ndestination:{filter}\nqos:{qos}\n{headers}receipt:1\n\n"
        ));
        let client = self.client.as_mut().expect("it is connected");
        let is_receipt = |frame: &Frame| frame.command == Command::Receipt;
        let granted = client.heard.iter().any(is_receipt);
        client.heard.retain(|frame| !is_receipt(frame));
        assert!(granted || client.heard[0].command == Command::Error);
        !granted
    }

    /// Names of the messages that the client got.
    fn topics(&mut self) -> Vec<String> {
        let heard = self.heard();
        let messages = heard.iter().filter(|frame| frame.command == Command::Message);
        messages
            .filter_map(|frame| frame.get("destination"))
            .map(str::to_owned)
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
            for ((qos, _), retain) in QOS.into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
                bench.connect();
                let qos = qos as u8;
                bench.send(&format!(
                    "SEND\ndestination:{topic}\nqos:{qos}\nretain:{retain}\n\n1"
                ));
                seen.topics.extend(bench.watched());
                bench.leave();
            }
        }
        Action::Read(filter) => {
            for (qos, ack) in QOS {
                bench.connect();
                seen.refused |= bench.subscribe(filter, qos, &format!("ack:{ack}\n"));
                bench.work(qos, false);
                seen.topics.extend(bench.topics());
                bench.leave();
            }
        }
        Action::ReadLater(filter) => {
            for (qos, ack) in QOS {
                let headers = format!("ack:{ack}\ndurable:true\n");
                bench.connect();
                seen.refused |= bench.subscribe(filter, qos, &headers);
                bench.leave();
                bench.work(qos, false);
                bench.connect();
                bench.subscribe(filter, qos, &headers);
                seen.topics.extend(bench.topics());
                bench.send("UNSUBSCRIBE\nid:0\ndurable:true\n\n");
                bench.leave();
            }
        }
        Action::ReadRetained(filter) => {
            for (qos, ack) in QOS {
                bench.work(qos, true);
                bench.connect();
                seen.refused |= bench.subscribe(filter, qos, &format!("ack:{ack}\n"));
                seen.topics.extend(bench.topics());
                bench.leave();
            }
        }
        Action::Will(..) | Action::WillTopicUpd(_) | Action::WillMsgUpd(_) => {
            unreachable!("there are none in STOMP")
        }
    }
    seen
}
