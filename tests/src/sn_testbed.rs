//! A real MQTT-SN gateway with its bus in memory, for tests of what speaks to it: time is handed in, the disk is at once, and a backend on the bus
//! keeps what is published and publishes what it is told to.

use bytes::{Bytes, BytesMut};
use headgate_bus::{Bus, BusOutputs, BusSettings, RulesChange};
use headgate_model::access::{AccessQuery, DenyCode, Identity};
use headgate_model::bus::Presence;
use headgate_model::{
    AccessDecision, AccessPolicy, AckToken, Admitted, Answer, BusCommand, BusEvent, DatagramServer,
    Destination, EndpointId, Entrant, Instant, Message, MountPoint, Naming, Open, Qos, Question, SessionKey,
    Settlement, Store, Subscription, SubscriptionOptions, Topic, WallTime,
};
use headgate_mqtt_codec as mqtt;
use headgate_mqttsn::{PredefinedTopic, SnGateway, SnOutputs, SnSettings};
use headgate_mqttsn_codec::{Connect, encode};
use headgate_store::{Disk, SimStore};
use std::collections::{BTreeSet, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const BACKEND: EndpointId = EndpointId(1);

/// Topics beginning so are nobody's.
pub const FORBIDDEN: &str = "secret/";

/// The gateway.
pub struct Testbed {
    gateway: SnGateway<SocketAddr>,
    out: SnOutputs<SocketAddr>,
    bus: Bus,
    bus_out: BusOutputs,
    store: SimStore,
    events: VecDeque<(EndpointId, BusEvent)>,
    datagrams: Vec<(SocketAddr, Bytes)>,
    held: BTreeSet<u16>,
    next_token: u32,
    access: Box<dyn FnMut(&Question) -> Answer + Send>,
    /// Topic and payload of everything that was published, in order.
    pub published: Vec<(String, Bytes)>,
}

#[derive(Debug)]
struct Most;

impl AccessPolicy for Most {
    fn check(&self, query: AccessQuery<'_>) -> AccessDecision {
        if query.topic.starts_with(FORBIDDEN.as_bytes()) {
            AccessDecision::Deny(DenyCode::NotAuthorized)
        } else {
            AccessDecision::Allow
        }
    }
}

/// With short times, QoS −1 and the predefined topic 7.
pub fn settings() -> SnSettings {
    let mut settings = SnSettings {
        advertise_interval: Duration::ZERO,
        predefined: vec![PredefinedTopic {
            id: 7,
            topic: "known/seven".into(),
            client_id: None,
        }],
        ..SnSettings::default()
    };
    settings.qos_minus_one.enabled = true;
    settings
}

/// Lets everybody in.
fn allow_most(_: &Question) -> Answer {
    let policy = Arc::new(Most);
    let identity = Identity {
        username: None,
        policy,
    };
    Answer::Allowed { identity, data: None }
}

impl Testbed {
    /// A gateway without clients.
    pub fn new(settings: SnSettings) -> Self {
        Self::with(settings, Arc::default(), allow_most)
    }

    /// A gateway whose clients name topics so, and are let in by `access`.
    pub fn with(
        settings: SnSettings,
        naming: Arc<Naming>,
        access: impl FnMut(&Question) -> Answer + Send + 'static,
    ) -> Self {
        let bus = Bus::new(BusSettings::default(), WallTime(1_700_000_000_000), 1);
        let mut gateway = SnGateway::new(settings, naming, Instant::START).unwrap();
        gateway.start_ids_at(1);
        let mut testbed = Self {
            gateway,
            out: SnOutputs::default(),
            bus: bus.unwrap(),
            bus_out: BusOutputs::default(),
            store: SimStore::open(&Disk::default()),
            events: VecDeque::new(),
            datagrams: Vec::new(),
            held: BTreeSet::new(),
            next_token: 0,
            access: Box::new(access),
            published: Vec::new(),
        };
        let open = Open {
            client: Entrant::of_gateway("backend".into(), Presence::default()),
            clean_start: false,
            expiry: Duration::MAX,
            will: None.into(),
            receive_maximum: 100,
            credit: 100,
            forgeable: false,
            wants_expired: false,
            link: None,
        };
        let options = SubscriptionOptions {
            qos: Qos::ExactlyOnce,
            no_local: true,
            ..SubscriptionOptions::default()
        };
        let all = ["#", "$SYS/#"].map(|filter| {
            let all = Subscription::parse(&Bytes::from(filter), options, &MountPoint::default());
            all.expect("a good filter")
        });
        for command in [
            BusCommand::Open(Box::new(open)),
            BusCommand::Subscribe {
                token: AckToken(u32::MAX),
                subscriptions: Admitted::each_of_gateway(all),
            },
        ] {
            testbed.backend_says(command, Instant::START);
        }
        testbed
    }

    /// One with room for a single client, which has come already.
    pub fn full(settings: SnSettings) -> Self {
        let mut testbed = Self::new(SnSettings {
            max_clients: 1,
            ..settings
        });
        let connect = headgate_mqttsn_codec::Message::Connect(Connect {
            will: false,
            clean_session: true,
            protocol_id: 1,
            duration: u16::MAX,
            client_id: "first".into(),
        });
        let mut bytes = BytesMut::new();
        encode(&connect, &mut bytes).unwrap();
        let elsewhere = SocketAddr::from(([127, 0, 0, 9], 9));
        testbed.datagram(elsewhere, bytes.freeze(), Instant::START);
        assert_eq!(testbed.take().len(), 1);
        testbed
    }

    /// A datagram comes.
    pub fn datagram(&mut self, from: SocketAddr, bytes: Bytes, now: Instant) {
        self.gateway.handle_datagram(from, bytes, now, &mut self.out);
        self.settle_down(now);
    }

    /// The backend publishes.
    pub fn publish(&mut self, topic: &str, qos: Qos, payload: Bytes, now: Instant) {
        let message = Message {
            qos,
            ..Message::new(Topic::try_from(topic).unwrap(), payload)
        };
        self.publish_message(message, now);
    }

    /// The backend publishes this message.
    pub fn publish_message(&mut self, message: Message, now: Instant) {
        self.next_token += 1;
        let dedup = (message.qos == Qos::ExactlyOnce).then(|| u16::try_from(self.next_token).unwrap());
        let ack = (message.qos > Qos::AtMostOnce).then_some(AckToken(self.next_token));
        self.backend_says(
            BusCommand::Publish {
                message: Admitted::of_gateway(message),
                ack,
                dedup,
            },
            now,
        );
        if let Some(packet) = dedup {
            self.backend_says(BusCommand::Release(packet), now);
        }
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.gateway
            .deadline()
            .into_iter()
            .chain(self.bus.deadline())
            .min()
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Instant) {
        self.gateway.handle_timeout(now, &mut self.out);
        if self.bus.deadline().is_some_and(|at| at <= now) {
            self.bus.handle_timeout(now, &mut self.bus_out);
        }
        self.settle_down(now);
    }

    /// The rules have changed: every session gets its own of those that are valid now.
    pub fn renew_rules(&mut self, now: Instant) {
        let mut next = Some(RulesChange::default());
        while let Some(change) = next {
            next = self.bus.renew_rules(change, now, &mut self.bus_out);
        }
        self.settle_down(now);
    }

    /// What the gateway sent.
    pub fn take(&mut self) -> Vec<(SocketAddr, Bytes)> {
        std::mem::take(&mut self.datagrams)
    }

    fn backend_says(&mut self, command: BusCommand, now: Instant) {
        self.bus.handle(BACKEND, command, now, &mut self.bus_out);
        self.settle_down(now);
    }

    /// Until nothing follows any more.
    fn settle_down(&mut self, now: Instant) {
        loop {
            for (key, command) in std::mem::take(&mut self.out.bus) {
                self.bus.handle(endpoint(key), command, now, &mut self.bus_out);
            }
            for asked in std::mem::take(&mut self.out.questions) {
                let answer = (self.access)(&asked.question);
                self.gateway.handle_answer(asked.key, answer, now, &mut self.out);
            }
            for (to, bytes) in self.out.take_datagrams() {
                if let Destination::To(to) = to {
                    self.datagrams.push((to, bytes));
                }
            }
            self.out.counts.drain(|_, _| {});
            self.bus_out.notices.clear();
            self.events.extend(self.bus_out.events.drain(..));
            if let Some((to, event)) = self.events.pop_front() {
                self.on_event(to, event, now);
                continue;
            }
            if !self.out.bus.is_empty() || !self.out.questions.is_empty() {
                continue;
            }
            let fetches = self.bus.take_fetches();
            let batch = self.bus.commit_due().and_then(|_| self.bus.take_batch());
            if fetches.is_empty() && batch.is_none() {
                return;
            }
            if let Some((number, ops)) = batch {
                self.store.commit(&ops).unwrap();
                self.bus.committed(number, now, &mut self.bus_out);
            }
            for request in fetches {
                let found = self
                    .store
                    .fetch(request.session, request.lane, request.from, request.limit);
                self.bus.fetched(request, found.unwrap(), now, &mut self.bus_out);
            }
        }
    }

    fn on_event(&mut self, to: EndpointId, event: BusEvent, now: Instant) {
        if to != BACKEND {
            let key = SessionKey {
                index: to.0 as u32,
                generation: (to.0 >> 32) as u32 & 0x7FFF_FFFF,
            };
            return self.gateway.handle_bus(key, event, now, &mut self.out);
        }
        let settle = match event {
            BusEvent::Delivery(delivery) => {
                let once = delivery.qos == Qos::ExactlyOnce;
                if !once || self.held.insert(delivery.id.map_or(0, |id| id.get())) {
                    let topic = String::from_utf8_lossy(delivery.message.topic.as_bytes()).into_owned();
                    self.published
                        .push((topic, Bytes::clone(&delivery.message.payload)));
                }
                let settlement = if once {
                    Settlement::Received
                } else {
                    Settlement::Done
                };
                let credit = BusCommand::credit(1);
                self.bus.handle(BACKEND, credit, now, &mut self.bus_out);
                delivery.id.map(|id| BusCommand::Settle(id, settlement))
            }
            BusEvent::Received(id) => {
                self.held.remove(&id.get());
                Some(BusCommand::Settle(id, Settlement::Done))
            }
            _ => None,
        };
        if let Some(command) = settle {
            self.bus.handle(BACKEND, command, now, &mut self.bus_out);
        }
    }
}

fn endpoint(key: SessionKey) -> EndpointId {
    EndpointId(1 << 63 | u64::from(key.generation) << 32 | u64::from(key.index))
}

/// A gateway at real sockets, which ends with the process.
#[derive(Clone)]
pub struct Served {
    /// Where it speaks MQTT-SN.
    pub address: SocketAddrV4,
    /// Where it takes QoS 1 messages by MQTT 3.1.1, and nothing else.
    pub mqtt: SocketAddr,
    testbed: Arc<Mutex<Testbed>>,
    began: std::time::Instant,
}

impl Served {
    /// Opens the sockets.
    pub fn start(settings: SnSettings) -> Self {
        Self::serving(Testbed::new(settings))
    }

    /// Opens the sockets of a gateway that is there already.
    pub fn serving(testbed: Testbed) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else {
            panic!("bound to one")
        };
        let served = Self {
            address,
            mqtt: listener.local_addr().unwrap(),
            testbed: Arc::new(Mutex::new(testbed)),
            began: std::time::Instant::now(),
        };
        let (sn, mqtt) = (served.clone(), served.clone());
        std::thread::spawn(move || sn.serve_sn(&socket));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                mqtt.serve_mqtt(&mut stream.unwrap());
            }
        });
        served
    }

    /// The gateway, and what time it is there.
    pub fn with<T>(&self, f: impl FnOnce(&mut Testbed, Instant) -> T) -> T {
        let now = Instant(u64::try_from(self.began.elapsed().as_millis()).unwrap());
        f(&mut self.testbed.lock().unwrap(), now)
    }

    fn serve_sn(&self, socket: &UdpSocket) {
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let mut buffer = [0; 2_048];
        loop {
            let came = socket.recv_from(&mut buffer).ok();
            let said = self.with(|testbed, now| {
                if let Some((len, from)) = came {
                    testbed.datagram(from, Bytes::copy_from_slice(&buffer[..len]), now);
                }
                if testbed.deadline().is_some_and(|at| at <= now) {
                    testbed.timeout(now);
                }
                testbed.take()
            });
            for (to, datagram) in said {
                // Whoever left does not take it.
                let _ = socket.send_to(&datagram, to);
            }
        }
    }

    fn serve_mqtt(&self, stream: &mut TcpStream) {
        let mut decoder = mqtt::Decoder::server(mqtt::MAX_PACKET_SIZE);
        let (mut input, mut chunk) = (BytesMut::new(), [0; 4_096]);
        while let Ok(len @ 1..) = stream.read(&mut chunk) {
            input.extend_from_slice(&chunk[..len]);
            let mut output = BytesMut::new();
            while let Some(packet) = decoder.decode(&mut input).unwrap() {
                let answer = match packet {
                    mqtt::Packet::Connect(_) => mqtt::Packet::ConnAck(Box::default()),
                    mqtt::Packet::Publish(publish) => {
                        let topic = publish.topic.as_str();
                        self.with(|testbed, now| {
                            testbed.publish(topic, Qos::AtLeastOnce, publish.payload.clone(), now);
                        });
                        let id = publish.packet_id.unwrap();
                        mqtt::Packet::Ack(mqtt::Ack::success(mqtt::AckKind::PubAck, id))
                    }
                    _ => continue,
                };
                mqtt::encode(&answer, mqtt::Version::V311, &mut output);
            }
            stream.write_all(&output).unwrap();
        }
    }
}
