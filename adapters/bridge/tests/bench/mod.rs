//! The bench: a real endpoint with its wire, a real bus and store logic, on a virtual clock. The remote is played by the test.
//!
//! What is to be committed is committed at once. What the endpoint sends is encoded, and decoded as a server would.

#![allow(dead_code, reason = "no test uses all of it")]

use bytes::{Bytes, BytesMut};
use headgate_bridge::{
    BridgeEndpoint, BridgePlan, BridgeSettings, BridgeStatus, BridgeVersion, BridgeWire, Credentials,
    EndReason,
};
use headgate_bus::{Bus, BusOutputs, BusSettings};
use headgate_model::bus::Presence;
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, CloseReason, Endpoint, EndpointId, Entrant, Input, Instant,
    Message, MountPoint, Open, Outputs, Qos as BusQos, Settlement, Store, Subscription, SubscriptionOptions,
    Topic, WallTime, Wire,
};
use headgate_mqtt_codec::{
    Ack, AckKind, ConnAck, ConnAckProperties, Decoder, MAX_PACKET_SIZE, Packet, PacketId, Publish, Qos,
    ReasonCode, SubAck, UnsubAck, Utf8, Version, encode,
};
use headgate_store::{Disk, SimStore};
use std::sync::Arc;
use std::time::Duration;

const WATCHER: EndpointId = EndpointId(1);

pub(crate) struct Bench {
    plan: Arc<BridgePlan>,
    pub status: Arc<BridgeStatus>,
    link: Option<Link>,
    next_endpoint: u64,
    out: Outputs<Packet>,
    disk: Disk,
    store: SimStore,
    bus: Bus,
    bus_settings: BusSettings,
    bus_out: BusOutputs,
    pub now: Instant,
    epoch: WallTime,
    pub sent: Vec<Packet>,
    watched: Vec<Message>,
    pub closed: Vec<CloseReason>,
}

struct Link {
    id: EndpointId,
    endpoint: BridgeEndpoint,
    wire: BridgeWire,
    server: Decoder,
}

impl Bench {
    /// A bridge with these topic lines, without notifications.
    pub(crate) fn new(version: BridgeVersion, lines: &[&str]) -> Self {
        Self::with(version, lines, |_| {})
    }

    pub(crate) fn with(
        version: BridgeVersion,
        lines: &[&str],
        change: impl FnOnce(&mut BridgeSettings),
    ) -> Self {
        let mut settings = BridgeSettings {
            name: "up".into(),
            version,
            topics: lines.iter().map(|line| line.parse().unwrap()).collect(),
            notifications: false,
            ..BridgeSettings::default()
        };
        change(&mut settings);
        let bus = BusSettings {
            settle_window: Duration::ZERO,
            ..BusSettings::default()
        };
        Self::start(settings, bus, Disk::default(), WallTime(1_700_000_000_000))
    }

    fn start(settings: BridgeSettings, bus_settings: BusSettings, disk: Disk, epoch: WallTime) -> Self {
        let mut store = SimStore::open(&disk);
        let mut bus = Bus::new(bus_settings.clone(), epoch, 1).unwrap();
        bus.load(store.load().unwrap());
        let mut bench = Self {
            plan: Arc::new(BridgePlan::new(settings, "here").unwrap()),
            status: Arc::default(),
            link: None,
            next_endpoint: 100,
            out: Outputs::default(),
            disk,
            store,
            bus,
            bus_settings,
            bus_out: BusOutputs::default(),
            now: Instant(1_000),
            epoch,
            sent: Vec::new(),
            watched: Vec::new(),
            closed: Vec::new(),
        };
        bench.create_session();
        bench
    }

    /// As the daemon does when the bridge is configured: there is a queue before the first connection.
    fn create_session(&mut self) {
        let commands = [
            BusCommand::Open(Box::new(self.plan.open(1, ""))),
            BusCommand::Subscribe {
                token: AckToken(0),
                subscriptions: Admitted::each_of_gateway(self.plan.subscriptions()),
            },
            BusCommand::Close {
                reason: CloseReason::Lost,
                expiry: None,
            },
        ];
        for command in commands {
            self.command(EndpointId(2), command);
            self.run();
        }
        self.closed.clear();
    }

    /// The power is cut and comes back.
    pub(crate) fn crash(&mut self) {
        let epoch = WallTime::of(self.now, self.epoch);
        let (settings, bus) = (self.plan.settings().clone(), self.bus_settings.clone());
        *self = Self::start(settings, bus, self.disk.clone(), epoch);
    }

    /// An operator changes the topics.
    pub(crate) fn configure(&mut self, lines: &[&str]) {
        let settings = BridgeSettings {
            topics: lines.iter().map(|line| line.parse().unwrap()).collect(),
            ..self.plan.settings().clone()
        };
        self.plan = Arc::new(BridgePlan::new(settings, "here").unwrap());
    }

    /// A connection is made; the endpoint is asked to begin.
    pub(crate) fn dial(&mut self) {
        self.sent.clear();
        let version = self.plan.version();
        let private = self.plan.settings().try_private && self.status.may_be_private();
        let (plan, status) = (Arc::clone(&self.plan), Arc::clone(&self.status));
        let credentials = Credentials::new(Some("me".into()), Some("secret".into()), version).unwrap();
        self.next_endpoint += 1;
        self.link = Some(Link {
            id: EndpointId(self.next_endpoint),
            endpoint: BridgeEndpoint::new(plan, credentials, status, private, self.now),
            wire: BridgeWire::new(version, self.plan.settings().max_packet_size),
            server: Decoder::server(MAX_PACKET_SIZE),
        });
        assert_eq!(self.deadline(), Some(self.now), "it begins at once");
        self.input(Input::Timeout);
    }

    /// A connection is made, and all that is asked is granted.
    pub(crate) fn connect(&mut self, connack: ConnAck) {
        self.dial();
        assert!(matches!(self.sent()[..], [Packet::Connect(_)]));
        self.remote_sends(connack);
        self.grant_all();
    }

    /// The remote grants what it is asked before messages go.
    pub(crate) fn grant_all(&mut self) {
        for packet in std::mem::take(&mut self.sent) {
            match packet {
                Packet::Subscribe(subscribe) => {
                    let code = |qos| ReasonCode::from_u8(qos as u8).unwrap();
                    self.remote_sends(Packet::SubAck(Box::new(SubAck {
                        packet_id: subscribe.packet_id,
                        codes: subscribe.filters.iter().map(|f| code(f.options.qos)).collect(),
                        reason_string: None,
                        user_properties: Vec::new(),
                    })));
                }
                Packet::Unsubscribe(unsubscribe) => {
                    self.remote_sends(Packet::UnsubAck(Box::new(UnsubAck {
                        packet_id: unsubscribe.packet_id,
                        codes: vec![ReasonCode::Success; unsubscribe.filters.len()],
                        reason_string: None,
                        user_properties: Vec::new(),
                    })));
                }
                // The notification, at QoS 0.
                Packet::Publish(Publish { packet_id: None, .. }) => {}
                Packet::PingReq => self.remote_sends(Packet::PingResp),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The remote sends a packet.
    pub(crate) fn remote_sends(&mut self, packet: impl Into<Sends>) {
        let mut bytes = BytesMut::new();
        encode(&packet.into().0, self.plan.version(), &mut bytes);
        self.remote_sends_bytes(&bytes);
    }

    pub(crate) fn remote_sends_bytes(&mut self, bytes: &[u8]) {
        let mut bytes = BytesMut::from(bytes);
        while let Some(link) = &mut self.link {
            assert!(link.endpoint.ready(), "the bench answers at once");
            let Some(frame) = link.wire.decode(&mut bytes) else {
                return;
            };
            self.input(Input::Frame(frame));
        }
    }

    /// The link breaks.
    pub(crate) fn cut(&mut self) {
        self.input(Input::Closed);
    }

    pub(crate) fn shut_down(&mut self) {
        self.input(Input::Shutdown);
    }

    pub(crate) fn kick(&mut self) {
        self.bus.kick("$bridge/up", self.now, &mut self.bus_out);
        self.run();
    }

    /// Another connection wants the session.
    pub(crate) fn take_over(&mut self) {
        let open = BusCommand::Open(Box::new(self.plan.open(1, "")));
        self.command(EndpointId(3), open);
        self.run();
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Why the last connection ended.
    pub(crate) fn ended(&self) -> Option<EndReason> {
        self.status.take_end()
    }

    /// What the remote got since the last look.
    pub(crate) fn sent(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.sent)
    }

    /// The same as short words: `publish 1 qos1 r/a=x dup retain`, `pubrel 1`.
    pub(crate) fn words(&mut self) -> Vec<String> {
        self.sent().iter().map(word).collect()
    }

    /// Lets milliseconds pass; everything that is due on the way happens at its time.
    pub(crate) fn advance(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        loop {
            let due = self.deadline().into_iter().chain(self.bus.deadline()).min();
            let Some(at) = due.filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            if self.deadline().is_some_and(|at| at <= self.now) {
                self.input(Input::Timeout);
                assert!(
                    self.deadline().is_none_or(|at| at > self.now),
                    "a deadline is met"
                );
            }
            self.bus.handle_timeout(self.now, &mut self.bus_out);
            self.run();
        }
        self.now = until;
    }

    /// Somebody here publishes.
    pub(crate) fn deliver(&mut self, topic: &str, payload: &'static str, qos: BusQos) {
        self.deliver_message(Message {
            qos,
            ..Message::new(Topic::try_from(topic).unwrap(), payload)
        });
    }

    pub(crate) fn deliver_message(&mut self, message: Message) {
        self.bus.publish(message, self.now, &mut self.bus_out);
        self.run();
    }

    /// Somebody here watches.
    pub(crate) fn watch(&mut self, filter: &'static str) {
        let open = Open {
            link: None,
            client: Entrant::of_gateway("watcher".into(), Presence::default()),
            clean_start: true,
            expiry: Duration::ZERO,
            will: None.into(),
            receive_maximum: 100,
            credit: u32::MAX,
            forgeable: false,
            wants_expired: false,
        };
        let options = SubscriptionOptions {
            qos: BusQos::ExactlyOnce,
            retain_as_published: true,
            ..SubscriptionOptions::default()
        };
        let filter = Bytes::from_static(filter.as_bytes());
        let subscription = Subscription::parse(&filter, options, &MountPoint::default()).unwrap();
        for command in [
            BusCommand::Open(Box::new(open)),
            BusCommand::Subscribe {
                token: AckToken(0),
                subscriptions: vec![Admitted::of_gateway(subscription)],
            },
        ] {
            self.bus.handle(WATCHER, command, self.now, &mut self.bus_out);
            self.run();
        }
    }

    /// What the watcher got since the last look.
    pub(crate) fn watched(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.watched)
    }

    /// The same as `topic=payload`.
    pub(crate) fn heard(&mut self) -> Vec<String> {
        let text = |m: &Message| format!("{}={}", m.topic, String::from_utf8_lossy(&m.payload));
        self.watched().iter().map(text).collect()
    }

    /// Messages of the queue, those under way among them.
    pub(crate) fn queued(&self) -> usize {
        let stats = self.bus.stats();
        stats.queued + stats.inflight
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.link.as_ref().and_then(|link| link.endpoint.deadline())
    }

    pub(crate) fn break_disk(&mut self, broken: bool) {
        self.disk.set_failing(broken);
    }

    pub(crate) fn set_store_full(&mut self, full: bool) {
        self.bus.set_store_full(full);
    }

    fn input(&mut self, input: Input<headgate_bridge::Received>) {
        if let Some(link) = &mut self.link {
            link.endpoint.handle(input, self.now, &mut self.out);
        }
        self.run();
    }

    /// Until nothing more follows.
    fn run(&mut self) {
        loop {
            let mut busy = self.drain_endpoint();
            for (to, event) in std::mem::take(&mut self.bus_out.events) {
                busy = true;
                self.event(to, event);
                self.drain_endpoint();
            }
            self.bus_out.notices.clear();
            if !busy && !self.work_for_disk() {
                return;
            }
        }
    }

    fn drain_endpoint(&mut self) -> bool {
        let mut busy = false;
        if let Some(link) = &mut self.link {
            let mut bytes = BytesMut::new();
            for packet in self.out.frames.drain(..) {
                link.wire.encode(packet, &mut bytes);
            }
            while let Some(packet) = link.server.decode(&mut bytes).expect("what a server understands") {
                self.sent.push(packet);
            }
            let id = link.id;
            for command in std::mem::take(&mut self.out.bus) {
                busy = true;
                self.command(id, command);
            }
        }
        if std::mem::take(&mut self.out.close) {
            self.link = None;
        }
        busy
    }

    fn command(&mut self, from: EndpointId, command: BusCommand) {
        if let BusCommand::Close { reason, .. } = command {
            self.closed.push(reason);
        }
        self.bus.handle(from, command, self.now, &mut self.bus_out);
    }

    fn event(&mut self, to: EndpointId, event: BusEvent) {
        if to != WATCHER {
            if let Some(link) = self.link.as_mut().filter(|link| link.id == to) {
                link.endpoint.handle(Input::Bus(event), self.now, &mut self.out);
            }
        } else if let BusEvent::Delivery(delivery) = event {
            self.watched.push((*delivery.message).clone());
            if let Some(id) = delivery.id {
                let settle = BusCommand::Settle(id, Settlement::Done);
                self.bus.handle(WATCHER, settle, self.now, &mut self.bus_out);
            }
        }
    }

    fn work_for_disk(&mut self) -> bool {
        let busy = self.bus.commit_due().is_some();
        let fetches = self.bus.take_fetches();
        if let Some((number, ops)) = self.bus.take_batch() {
            match self.store.commit(&ops) {
                Ok(()) => self.bus.committed(number, self.now, &mut self.bus_out),
                Err(_) => self.bus.commit_failed(number, self.now, &mut self.bus_out),
            }
        }
        for request in fetches {
            let found = self
                .store
                .fetch(request.session, request.lane, request.from, request.limit)
                .unwrap();
            self.bus.fetched(request, found, self.now, &mut self.bus_out);
        }
        busy
    }
}

/// What a remote may send, for short calls.
pub(crate) struct Sends(pub Packet);

impl From<Packet> for Sends {
    fn from(packet: Packet) -> Self {
        Self(packet)
    }
}

impl From<ConnAck> for Sends {
    fn from(connack: ConnAck) -> Self {
        Self(Packet::ConnAck(Box::new(connack)))
    }
}

impl From<Publish> for Sends {
    fn from(publish: Publish) -> Self {
        Self(Packet::Publish(publish))
    }
}

fn word(packet: &Packet) -> String {
    match packet {
        Packet::Publish(publish) => {
            let id = publish.packet_id.map_or(String::new(), |id| format!(" {id}"));
            let payload = String::from_utf8_lossy(&publish.payload);
            let dup = if publish.dup { " dup" } else { "" };
            let retain = if publish.retain { " retain" } else { "" };
            format!(
                "publish{id} qos{} {}={payload}{dup}{retain}",
                publish.qos as u8, publish.topic
            )
        }
        Packet::Ack(ack) => {
            let reason = if ack.reason == ReasonCode::Success {
                String::new()
            } else {
                format!(" {:#04x}", ack.reason as u8)
            };
            format!(
                "{} {}{reason}",
                ack.kind.packet_type().to_string().to_lowercase(),
                ack.packet_id
            )
        }
        Packet::Disconnect(disconnect) => format!("disconnect {:#04x}", disconnect.reason as u8),
        other => other.packet_type().to_string().to_lowercase(),
    }
}

pub(crate) const V3: BridgeVersion = BridgeVersion::MqttV311;
pub(crate) const V31: BridgeVersion = BridgeVersion::MqttV31;
pub(crate) const V5: BridgeVersion = BridgeVersion::MqttV50;
pub(crate) const NOTHING: [&str; 0] = [];

/// The remote lets us in; its session is new.
pub(crate) fn welcome() -> ConnAck {
    ConnAck::default()
}

/// The remote lets us in, and has our session.
pub(crate) fn welcome_back() -> ConnAck {
    ConnAck {
        session_present: true,
        ..ConnAck::default()
    }
}

pub(crate) fn refused(code: ReasonCode) -> ConnAck {
    ConnAck {
        code,
        ..ConnAck::default()
    }
}

pub(crate) fn limited(change: impl FnOnce(&mut ConnAckProperties)) -> ConnAck {
    let mut connack = ConnAck::default();
    change(&mut connack.properties);
    connack
}

pub(crate) fn text(text: &str) -> Utf8 {
    Utf8::new(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

pub(crate) fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

pub(crate) fn publish(topic: &str, payload: &'static str) -> Publish {
    Publish {
        topic: text(topic),
        payload: Bytes::from_static(payload.as_bytes()),
        ..Publish::default()
    }
}

pub(crate) fn publish_at(qos: Qos, number: u16, topic: &str, payload: &'static str) -> Publish {
    Publish {
        qos,
        packet_id: Some(id(number)),
        ..publish(topic, payload)
    }
}

pub(crate) fn ack(kind: AckKind, number: u16, reason: ReasonCode) -> Packet {
    Packet::Ack(Ack::with_reason(kind, id(number), reason))
}

pub(crate) fn puback(number: u16) -> Packet {
    ack(AckKind::PubAck, number, ReasonCode::Success)
}

pub(crate) fn pubrec(number: u16) -> Packet {
    ack(AckKind::PubRec, number, ReasonCode::Success)
}

pub(crate) fn pubrel(number: u16) -> Packet {
    ack(AckKind::PubRel, number, ReasonCode::Success)
}

pub(crate) fn pubcomp(number: u16) -> Packet {
    ack(AckKind::PubComp, number, ReasonCode::Success)
}

/// The version that the codec speaks for it.
pub(crate) fn wire_version(version: BridgeVersion) -> Version {
    version.into()
}
