//! The simulation: clients that follow the specification to the letter, a real gateway without sockets or threads, and a world that goes wrong.
//!
//! One run is a list of small steps, each chosen by a seeded generator: a packet arrives, a bus event is handled, a batch becomes durable,
//! a link breaks (loudly, or so that the gateway does not notice), the power is cut. Packets of one link keep their order, as TCP has it;
//! links are reordered against each other at will. The same seed gives the same run, to the last step.
//!
//! What must hold is in `Sim::verdict`: every message that was acknowledged arrives at every durable session that it matched, QoS 2 once,
//! in order; no session is forgotten; nothing is left over. Adapters write notes down all the time: after a cut, each session has the last that an
//! acknowledgement promised, or a later one.

use bytes::Bytes;
use fastrand::Rng;
use headgate_bus::{Bus, BusOutputs, BusSettings, FetchRequest};
use headgate_model::PeerFacts;
use headgate_model::access::{AccessQuery, Identity};
use headgate_model::store::FetchLimit;
use headgate_model::{
    AccessDecision, AccessPolicy, AckToken, Answer, BusCommand, BusEvent, CloseReason, Endpoint, EndpointId,
    Input, Instant, Outputs, Store, StoreOp, TopicFilter, WallTime,
};
use headgate_mqtt::{MqttEndpoint, MqttSettings, Received, Sent};
use headgate_mqtt_codec::{
    Ack, AckKind, Connect, Packet, PacketId, Publish, Qos, Subscribe, SubscribeFilter, SubscribeOptions,
    Utf8, Version,
};
use headgate_store::{Disk, SimStore};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

/// What happens in a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of every choice.
    pub seed: u64,
    /// Messages that all publishers send together.
    pub messages: usize,
    /// Links break.
    pub lossy: bool,
    /// Cut the power after each of these steps.
    pub power_cuts: Vec<usize>,
}

/// A message as the reference model knows it.
#[derive(Clone, Debug)]
struct Sending {
    number: u32,
    topic: String,
    qos: Qos,
    retain: bool,
    state: SendState,
    packet_id: Option<PacketId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendState {
    Waiting,
    Sent,
    /// QoS 2: PUBREC came.
    Released,
    Done,
}

/// A client that follows the specification, with a session that it keeps.
#[derive(Debug)]
struct Client {
    id: String,
    version: Version,
    receive_maximum: u16,
    filters: Vec<(TopicFilter, Qos)>,
    link: Option<Link>,
    /// CONNACK came on this link.
    connected: bool,
    /// A CONNACK ever came: from then on the gateway must know the session.
    known: bool,
    /// SUBSCRIBE was sent on this link; SUBACK came, on any.
    subscribing: bool,
    subscribed: bool,
    outgoing: Vec<Sending>,
    /// QoS 2 packet identifiers received and not yet released.
    held: BTreeSet<PacketId>,
    /// What arrived: message number, QoS, in order.
    arrived: Vec<(u32, Qos)>,
}

#[derive(Debug)]
struct Link {
    endpoint: EndpointId,
    up: VecDeque<Packet>,
    down: VecDeque<Packet>,
}

/// The gateway's side of a link.
struct Side {
    endpoint: MqttEndpoint,
    events: VecDeque<BusEvent>,
    answers: VecDeque<Answer>,
    client: usize,
}

/// Notes that are written down before what is to be acknowledged: each is a number, higher than those before.
#[derive(Debug, Default)]
struct Notes {
    last: u64,
    /// The note before what an endpoint waits for with this token, and whose session it is.
    before: BTreeMap<(EndpointId, AckToken), (usize, u64)>,
    /// What an acknowledgement has promised to each client's session.
    promised: BTreeMap<usize, u64>,
}

impl Notes {
    /// A note to be said before this command, if its answer promises anything.
    fn before(&mut self, from: EndpointId, client: usize, command: &BusCommand) -> Option<BusCommand> {
        let token = match command {
            BusCommand::Publish { ack: Some(token), .. } | BusCommand::Subscribe { token, .. } => *token,
            _ => return None,
        };
        self.last += 1;
        self.before.insert((from, token), (client, self.last));
        Some(BusCommand::SetNote(self.last.to_be_bytes().to_vec().into()))
    }

    /// The bus answers.
    fn answered(&mut self, to: EndpointId, event: &BusEvent) {
        let token = match event {
            BusEvent::Accepted(token, _) | BusEvent::Subscribed { token, .. } => *token,
            _ => return,
        };
        if let Some((client, note)) = self.before.remove(&(to, token)) {
            let promised = self.promised.entry(client).or_default();
            *promised = note.max(*promised);
        }
    }
}

/// One run. See the module's documentation.
pub struct Sim {
    rng: Rng,
    plan: Plan,
    settings: Arc<MqttSettings>,
    disk: Disk,
    store: SimStore,
    bus: Bus,
    out: BusOutputs,
    /// A batch that is on its way to the disk, and what is to be read when it is there.
    committing: Option<(u64, Vec<StoreOp>)>,
    fetches: VecDeque<FetchRequest>,
    epoch: WallTime,
    now: Instant,
    sides: BTreeMap<EndpointId, Side>,
    clients: Vec<Client>,
    next_endpoint: u64,
    notes: Notes,
    /// Steps taken.
    pub steps: usize,
    /// What went wrong so far.
    faults: Vec<String>,
}

#[derive(Debug)]
struct AllowAll;

impl AccessPolicy for AllowAll {
    fn check(&self, _: AccessQuery<'_>) -> AccessDecision {
        AccessDecision::Allow
    }
}

/// One thing that may happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Up(usize),
    Down(usize),
    Event(EndpointId),
    Answer(EndpointId),
    /// The open batch is taken, to be written.
    Write,
    /// It is durable.
    Commit,
    Fetch,
    Connect(usize),
    Publish(usize),
    Subscribe(usize),
    Break(usize),
    BreakUnnoticed(usize),
    Time,
}

const TOPICS: [&str; 4] = ["a/1", "a/2", "b/1", "b/2"];
const PUBLISHERS: usize = 2;
const CLIENTS: usize = 4;
/// Queues are read in small parts, so that a run sees many.
const FEW: FetchLimit = FetchLimit {
    count: 2,
    bytes: 1 << 20,
};
/// A run that takes longer will never end.
const MAX_STEPS: usize = 20_000;

impl Sim {
    /// A world in which nothing has happened yet.
    pub fn new(plan: Plan) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        let clients = (0..CLIENTS).map(|n| new_client(n, &plan, &mut rng)).collect();
        let disk = Disk::default();
        let epoch = WallTime(1_700_000_000_000);
        Self {
            settings: Arc::new(MqttSettings {
                v3_session_expiry: Duration::ZERO,
                ..MqttSettings::default()
            }),
            store: SimStore::open(&disk),
            bus: new_bus(epoch, plan.seed),
            out: BusOutputs::default(),
            committing: None,
            fetches: VecDeque::new(),
            epoch,
            now: Instant::START,
            sides: BTreeMap::new(),
            clients,
            next_endpoint: 1,
            notes: Notes::default(),
            steps: 0,
            faults: Vec::new(),
            rng,
            plan,
            disk,
        }
    }

    /// Runs to the end and says what went wrong; nothing, if all is well.
    pub fn run(mut self) -> (usize, Vec<String>) {
        while let Some(step) = self.choose() {
            self.take(step);
            self.bus.check_gauges();
            if self.plan.power_cuts.contains(&self.steps) {
                self.cut_power();
            }
            self.steps += 1;
            if self.steps > MAX_STEPS {
                self.faults.push("the run does not end".into());
                break;
            }
        }
        self.verdict();
        (self.steps, self.faults)
    }

    /// One of the things that can happen now; `None` when all is done and quiet.
    fn choose(&mut self) -> Option<Step> {
        let mut possible = Vec::new();
        for (n, client) in self.clients.iter().enumerate() {
            match &client.link {
                None => possible.push(Step::Connect(n)),
                Some(link) => {
                    let ready = self
                        .sides
                        .get(&link.endpoint)
                        .is_some_and(|side| side.endpoint.ready());
                    if !link.up.is_empty() && ready {
                        possible.push(Step::Up(n));
                    }
                    if !link.down.is_empty() {
                        possible.push(Step::Down(n));
                    }
                    if client.connected
                        && !client.subscribed
                        && !client.subscribing
                        && !client.filters.is_empty()
                    {
                        possible.push(Step::Subscribe(n));
                    }
                    if client.connected && self.may_publish() && client.can_publish() {
                        possible.push(Step::Publish(n));
                    }
                }
            }
        }
        for (id, side) in &self.sides {
            if !side.events.is_empty() {
                possible.push(Step::Event(*id));
            }
            if !side.answers.is_empty() {
                possible.push(Step::Answer(*id));
            }
        }
        if self.committing.is_some() {
            possible.push(Step::Commit);
        } else if self.bus.batch_due().is_some_and(|due| due <= self.now) {
            possible.push(Step::Write);
        } else if !self.fetches.is_empty() {
            possible.push(Step::Fetch);
        }
        if self.bus.deadline().is_some_and(|at| at <= self.now) {
            possible.push(Step::Time);
        }
        if possible.is_empty() {
            // Nothing comes any more that could settle it.
            self.now = self.now.max(self.bus.batch_due()?);
            return Some(Step::Write);
        }
        // Trouble comes while there is work; a gateway that is left alone must become quiet by itself.
        if self.plan.lossy && self.steps < 400 && self.rng.u8(..100) < 4 {
            let n = self.rng.usize(..CLIENTS);
            if self.clients[n].link.is_some() {
                return Some(if self.rng.bool() {
                    Step::Break(n)
                } else {
                    Step::BreakUnnoticed(n)
                });
            }
        }
        Some(possible[self.rng.usize(..possible.len())])
    }

    /// Messages are published once every subscription is acknowledged: then the model knows who must get them.
    fn may_publish(&self) -> bool {
        self.clients
            .iter()
            .all(|client| client.subscribed || client.filters.is_empty())
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Connect(n) => self.connect(n),
            Step::Subscribe(n) => self.subscribe(n),
            Step::Publish(n) => self.publish(n),
            Step::Up(n) => {
                let link = self.clients[n].link.as_mut().expect("chosen");
                let (packet, id) = (link.up.pop_front().expect("chosen"), link.endpoint);
                self.handle(id, Input::Frame(Received::Packet(packet)));
            }
            Step::Down(n) => {
                let link = self.clients[n].link.as_mut().expect("chosen");
                let packet = link.down.pop_front().expect("chosen");
                self.clients[n].on_packet(packet, &mut self.faults);
            }
            Step::Event(id) => {
                let event = self
                    .sides
                    .get_mut(&id)
                    .and_then(|side| side.events.pop_front())
                    .expect("chosen");
                self.handle(id, Input::Bus(event));
            }
            Step::Answer(id) => {
                let answer = self
                    .sides
                    .get_mut(&id)
                    .and_then(|side| side.answers.pop_front())
                    .expect("chosen");
                self.handle(id, Input::Answer(answer));
            }
            Step::Write => {
                self.fetches.extend(self.bus.take_fetches());
                self.committing = self.bus.take_batch();
            }
            Step::Fetch => {
                let request = self.fetches.pop_front().expect("chosen");
                let found = self
                    .store
                    .fetch(request.session, request.lane, request.from, FEW)
                    .expect("memory can be read");
                self.turn(|bus, now, out| bus.fetched(request, found, now, out));
            }
            Step::Commit => {
                let (number, ops) = self.committing.take().expect("chosen");
                self.store.commit(&ops).expect("memory does not fail");
                self.turn(|bus, now, out| bus.committed(number, now, out));
            }
            Step::Break(n) => {
                if let Some(link) = self.clients[n].unlink() {
                    self.handle(link.endpoint, Input::Closed);
                    self.sides.remove(&link.endpoint);
                }
            }
            // The gateway learns of it when the client comes back, or never.
            Step::BreakUnnoticed(n) => drop(self.clients[n].unlink()),
            Step::Time => self.turn(|bus, now, out| bus.handle_timeout(now, out)),
        }
        self.now = self.now + Duration::from_millis(self.rng.u64(..20));
    }

    fn connect(&mut self, n: usize) {
        let id = EndpointId(self.next_endpoint);
        self.next_endpoint += 1;
        let facts = PeerFacts {
            nonce: u128::from(id.0),
            ..PeerFacts::default()
        };
        let endpoint = MqttEndpoint::new(Arc::clone(&self.settings), facts, self.now);
        let side = Side {
            endpoint,
            events: VecDeque::new(),
            answers: VecDeque::new(),
            client: n,
        };
        self.sides.insert(id, side);
        let client = &mut self.clients[n];
        let mut connect = Connect::new(
            client.version,
            Utf8::try_from(client.id.clone()).expect("plain text"),
        );
        connect.clean_start = false;
        if client.version == Version::V5 {
            connect.properties.session_expiry = Some(u32::MAX);
            connect.properties.receive_maximum = NonZeroU16::new(client.receive_maximum);
        }
        let up = VecDeque::from([Packet::Connect(Box::new(connect))]);
        client.link = Some(Link {
            endpoint: id,
            up,
            down: VecDeque::new(),
        });
    }

    fn subscribe(&mut self, n: usize) {
        let client = &mut self.clients[n];
        client.subscribing = true;
        let filter = |(filter, qos): &(TopicFilter, Qos)| SubscribeFilter {
            filter: Utf8::new(filter.bytes().clone()).expect("checked"),
            options: SubscribeOptions::qos(*qos),
        };
        let subscribe = Subscribe {
            packet_id: PacketId::MAX,
            identifier: None,
            user_properties: Vec::new(),
            filters: client.filters.iter().map(filter).collect(),
        };
        client
            .link
            .as_mut()
            .expect("chosen")
            .up
            .push_back(Packet::Subscribe(Box::new(subscribe)));
    }

    fn publish(&mut self, n: usize) {
        let client = &mut self.clients[n];
        let at = client
            .outgoing
            .iter()
            .position(|s| s.state == SendState::Waiting)
            .expect("chosen");
        if client.outgoing[at].qos > Qos::AtMostOnce {
            let used: BTreeSet<u16> = client
                .outgoing
                .iter()
                .filter_map(|s| s.packet_id)
                .map(PacketId::get)
                .collect();
            let free = (1..).find(|id| !used.contains(id)).expect("a window is small");
            client.outgoing[at].packet_id = PacketId::new(free);
        }
        let sending = &mut client.outgoing[at];
        sending.state = if sending.qos == Qos::AtMostOnce {
            SendState::Done
        } else {
            SendState::Sent
        };
        let packet = sending.packet(false);
        client.link.as_mut().expect("chosen").up.push_back(packet);
    }

    /// One step of an endpoint, and all that follows at once: the bus takes its commands, the link its frames.
    fn handle(&mut self, id: EndpointId, input: Input<Received>) {
        let Some(side) = self.sides.get_mut(&id) else {
            return;
        };
        let mut out = Outputs::default();
        side.endpoint.handle(input, self.now, &mut out);
        if out.question.take().is_some() {
            let identity = Identity {
                username: None,
                policy: Arc::new(AllowAll),
            };
            side.answers.push_back(Answer::Allowed { identity, data: None });
        }
        let n = side.client;
        if let Some(link) = self.clients[n].link.as_mut().filter(|link| link.endpoint == id) {
            link.down.extend(out.frames.drain(..).map(into_packet));
        }
        let commands = std::mem::take(&mut out.bus);
        let mut noted = Vec::new();
        for command in commands {
            noted.extend(self.notes.before(id, n, &command));
            noted.push(command);
        }
        self.turn(|bus, now, outputs| noted.into_iter().for_each(|c| bus.handle(id, c, now, outputs)));
        if out.close {
            self.turn(|bus, now, outputs| {
                bus.handle(
                    id,
                    BusCommand::Close {
                        reason: CloseReason::Lost,
                        expiry: None,
                    },
                    now,
                    outputs,
                );
            });
            self.sides.remove(&id);
            if self.clients[n]
                .link
                .as_ref()
                .is_some_and(|link| link.endpoint == id)
            {
                self.clients[n].unlink();
            }
        }
    }

    fn turn(&mut self, f: impl FnOnce(&mut Bus, Instant, &mut BusOutputs)) {
        f(&mut self.bus, self.now, &mut self.out);
        if self.committing.is_none() && self.bus.batch_due().is_none_or(|due| due > self.now) {
            self.fetches.extend(self.bus.take_fetches());
        }
        for (to, event) in self.out.events.drain(..) {
            self.notes.answered(to, &event);
            if let Some(side) = self.sides.get_mut(&to) {
                side.events.push_back(event);
            }
        }
        self.out.notices.clear();
    }

    /// The gateway is gone and comes back with what was durable. Its clock may have stood, or jumped.
    fn cut_power(&mut self) {
        self.sides.clear();
        self.committing = None;
        self.fetches.clear();
        for client in &mut self.clients {
            client.unlink();
        }
        let off = Duration::from_millis(self.rng.u64(..100_000));
        self.epoch = WallTime::of(self.now + off, self.epoch);
        self.now = Instant::START;
        self.store = SimStore::open(&self.disk);
        self.bus = new_bus(self.epoch, self.plan.seed);
        self.bus.load(self.store.load().expect("memory can be read"));
        self.bus.check_gauges();
        self.judge_notes();
    }

    /// Every session has the last note that was promised, or one that was written down later.
    fn judge_notes(&mut self) {
        self.notes.before.clear();
        let page = self.bus.notes("", None, 1_000, self.now);
        for (n, promised) in &self.notes.promised {
            let id = &self.clients[*n].id;
            let found = page.rows.iter().find(|row| row.client_id.as_str() == id);
            let found = found
                .and_then(|row| row.note.first_chunk().copied())
                .map(u64::from_be_bytes);
            if !found.is_some_and(|found| (*promised..=self.notes.last).contains(&found)) {
                self.faults.push(format!(
                    "client {n}: note {promised} was promised, there is {found:?}"
                ));
            }
        }
    }

    /// What must hold when all is quiet.
    fn verdict(&mut self) {
        self.judge_notes();
        let stats = self.bus.stats();
        if (stats.queued, stats.inflight) != (0, 0) {
            self.faults.push(format!(
                "left over: {} queued, {} in flight",
                stats.queued, stats.inflight
            ));
        }
        for (n, publisher) in self.clients.iter().enumerate() {
            for sending in publisher.outgoing.iter().filter(|s| s.state != SendState::Done) {
                self.faults.push(format!(
                    "client {n}: message {} was never acknowledged",
                    sending.number
                ));
            }
        }
        let sent: Vec<&Sending> = self.clients.iter().flat_map(|client| &client.outgoing).collect();
        let mut faults = Vec::new();
        for (n, client) in self.clients.iter().enumerate() {
            for sending in &sent {
                client.judge(n, sending, &mut faults);
            }
            for publisher in &self.clients {
                client.judge_order(n, publisher, &mut faults);
            }
        }
        self.faults.append(&mut faults);
        self.judge_retained();
    }

    /// Each publisher has retained topics of its own: what is retained there is the last one it published.
    fn judge_retained(&mut self) {
        let image = SimStore::open(&self.disk).load().expect("memory can be read");
        let retained: BTreeMap<String, Bytes> = image
            .retained
            .iter()
            .map(|(_, stored)| (stored.message.topic.to_string(), stored.message.payload.clone()))
            .collect();
        let kept = image
            .sessions
            .iter()
            .map(|s| s.held.len() + s.lanes.len())
            .sum::<usize>();
        if kept > 0 {
            self.faults
                .push(format!("{kept} lanes and held deliveries are left in the store"));
        }
        for client in &self.clients {
            let last = client
                .outgoing
                .iter()
                .rfind(|s| s.retain && s.qos > Qos::AtMostOnce);
            let Some(last) = last else { continue };
            if retained.get(&last.topic).map(|payload| number_of(payload)) != Some(last.number) {
                self.faults.push(format!(
                    "retained of {} is not message {}",
                    last.topic, last.number
                ));
            }
        }
    }
}

fn new_bus(epoch: WallTime, seed: u64) -> Bus {
    Bus::new(
        BusSettings {
            max_inflight: 8,
            max_queued_in_memory: 2,
            ..BusSettings::default()
        },
        epoch,
        seed,
    )
    .expect("possible settings")
}

/// The first ones publish; all but the first subscribe.
fn new_client(n: usize, plan: &Plan, rng: &mut Rng) -> Client {
    let mut outgoing = Vec::new();
    if n < PUBLISHERS {
        for number in (0..plan.messages).filter(|number| number % PUBLISHERS == n) {
            let retain = rng.u8(..4) == 0;
            let topic = if retain {
                format!("r/{n}")
            } else {
                TOPICS[rng.usize(..TOPICS.len())].to_owned()
            };
            outgoing.push(Sending {
                number: u32::try_from(number).expect("a run is small"),
                topic,
                // A retained topic is always published with one QoS: only then is there an order among its messages.
                qos: if retain { Qos::AtLeastOnce } else { any_qos(rng) },
                retain,
                state: SendState::Waiting,
                packet_id: None,
            });
        }
    }
    let filters = match n {
        0 => vec![],
        1 => vec![("a/+", any_qos(rng)), ("a/1", any_qos(rng))],
        2 => vec![("#", Qos::ExactlyOnce)],
        _ => vec![("b/#", any_qos(rng)), ("r/+", any_qos(rng))],
    };
    let parse = |text| TopicFilter::try_from(text).expect("a constant");
    Client {
        id: format!("client-{n}"),
        version: if rng.bool() { Version::V5 } else { Version::V311 },
        receive_maximum: rng.u16(1..10),
        filters: filters
            .into_iter()
            .map(|(text, qos)| (parse(text), qos))
            .collect(),
        link: None,
        connected: false,
        known: false,
        subscribing: false,
        subscribed: false,
        outgoing,
        held: BTreeSet::new(),
        arrived: Vec::new(),
    }
}

fn any_qos(rng: &mut Rng) -> Qos {
    Qos::from_bits(rng.u8(..3)).expect("0 to 2")
}

fn number_of(payload: &[u8]) -> u32 {
    payload
        .try_into()
        .map(u32::from_be_bytes)
        .expect("payloads are numbers")
}

fn into_packet(sent: Sent) -> Packet {
    match sent {
        Sent::Packet(packet) => packet,
        Sent::Publish(outgoing) => {
            let delivery = outgoing.delivery;
            Packet::Publish(Publish {
                dup: delivery.redelivered,
                qos: Qos::from_bits(delivery.qos as u8).expect("0 to 2"),
                retain: delivery.retain,
                topic: Utf8::new(delivery.message.topic.bytes().clone()).expect("checked"),
                packet_id: delivery.id,
                payload: delivery.message.payload.clone(),
                properties: None,
            })
        }
    }
}

impl Sending {
    fn packet(&self, dup: bool) -> Packet {
        Packet::Publish(Publish {
            dup,
            qos: self.qos,
            retain: self.retain,
            topic: Utf8::try_from(self.topic.clone()).expect("a constant"),
            packet_id: self.packet_id,
            payload: Bytes::copy_from_slice(&self.number.to_be_bytes()),
            properties: None,
        })
    }
}

impl Client {
    fn can_publish(&self) -> bool {
        let under_way = self
            .outgoing
            .iter()
            .filter(|s| matches!(s.state, SendState::Sent | SendState::Released))
            .count();
        under_way < 4 && self.outgoing.iter().any(|s| s.state == SendState::Waiting)
    }

    fn unlink(&mut self) -> Option<Link> {
        self.connected = false;
        self.subscribing = false;
        self.link.take()
    }

    fn send(&mut self, packet: impl Into<Packet>) {
        if let Some(link) = &mut self.link {
            link.up.push_back(packet.into());
        }
    }

    fn on_packet(&mut self, packet: Packet, faults: &mut Vec<String>) {
        match packet {
            Packet::ConnAck(connack) => {
                self.on_connack(connack.session_present, connack.code.is_error(), faults);
            }
            Packet::SubAck(suback) => {
                self.subscribed = suback.codes.iter().all(|code| !code.is_error());
            }
            Packet::Publish(publish) => self.on_publish(&publish, faults),
            Packet::Ack(ack) => self.on_ack(&ack),
            Packet::Disconnect(disconnect) => {
                // Only a connection that the client gave up is taken over.
                faults.push(format!("{}: DISCONNECT {}", self.id, disconnect.reason));
            }
            other => faults.push(format!("{}: unexpected {other:?}", self.id)),
        }
    }

    fn on_connack(&mut self, present: bool, refused: bool, faults: &mut Vec<String>) {
        if refused {
            return faults.push(format!("{}: refused", self.id));
        }
        if self.known && !present {
            faults.push(format!("{}: the session was forgotten", self.id)); // [MQTT-3.2.2-3]
        }
        self.connected = true;
        self.known = true;
        // What is under way is sent again, in order. [MQTT-4.4.0-1] [MQTT-4.6.0-1]
        let again: Vec<Packet> = self
            .outgoing
            .iter()
            .filter_map(|s| match s.state {
                SendState::Sent => Some(s.packet(true)),
                SendState::Released => Some(Packet::Ack(Ack::success(
                    AckKind::PubRel,
                    s.packet_id.expect("QoS 2 has one"),
                ))),
                SendState::Waiting | SendState::Done => None,
            })
            .collect();
        again.into_iter().for_each(|packet| self.send(packet));
    }

    fn on_publish(&mut self, publish: &Publish, faults: &mut Vec<String>) {
        let number = number_of(&publish.payload);
        match (publish.qos, publish.packet_id) {
            (Qos::ExactlyOnce, Some(id)) => {
                if self.held.insert(id) {
                    self.arrived.push((number, publish.qos));
                } else if !publish.dup {
                    faults.push(format!(
                        "{}: identifier {id} was given again while in use",
                        self.id
                    ));
                }
                self.send(Packet::Ack(Ack::success(AckKind::PubRec, id)));
            }
            (Qos::AtLeastOnce, Some(id)) => {
                self.arrived.push((number, publish.qos));
                self.send(Packet::Ack(Ack::success(AckKind::PubAck, id)));
            }
            _ => self.arrived.push((number, publish.qos)),
        }
    }

    fn on_ack(&mut self, ack: &Ack) {
        if ack.kind == AckKind::PubRel {
            self.held.remove(&ack.packet_id);
            return self.send(Packet::Ack(Ack::success(AckKind::PubComp, ack.packet_id)));
        }
        let Some(sending) = self
            .outgoing
            .iter_mut()
            .find(|s| s.packet_id == Some(ack.packet_id))
        else {
            return;
        };
        match ack.kind {
            AckKind::PubAck | AckKind::PubComp => {
                sending.state = SendState::Done;
                sending.packet_id = None;
            }
            AckKind::PubRec => {
                sending.state = SendState::Released;
                self.send(Packet::Ack(Ack::success(AckKind::PubRel, ack.packet_id)));
            }
            AckKind::PubRel => {}
        }
    }

    /// The QoS at which this client must get a message; `None` if not at all. \[MQTT-3.8.4-8\]
    fn entitled(&self, sending: &Sending) -> Option<Qos> {
        let granted = self
            .filters
            .iter()
            .filter(|(f, _)| f.matches(sending.topic.as_bytes()))
            .map(|(_, qos)| *qos);
        granted.max().map(|qos| qos.min(sending.qos))
    }

    fn judge(&self, n: usize, sending: &Sending, faults: &mut Vec<String>) {
        let number = sending.number;
        let times = self.arrived.iter().filter(|(m, _)| *m == number).count();
        let right = match self.entitled(sending) {
            None => times == 0,
            // What this client gets at QoS 0 may be lost. QoS 0 waits for no disk, so what is published above it may come twice: the
            // publisher sends it again when the gateway was cut off before its acknowledgement.
            Some(Qos::AtMostOnce) => times <= 1 || sending.qos > Qos::AtMostOnce,
            Some(Qos::AtLeastOnce) => times >= 1,
            Some(Qos::ExactlyOnce) => times == 1,
        };
        if !right {
            let qos = self.entitled(sending);
            faults.push(format!(
                "client {n} got message {number} {times} times, entitled to {qos:?}"
            ));
        }
    }

    /// Messages of one publisher, topic and QoS first arrive in the order they were published. \[MQTT-4.6.0-6\]
    fn judge_order(&self, n: usize, publisher: &Self, faults: &mut Vec<String>) {
        let mut last: BTreeMap<(&str, Qos), u32> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (number, _) in &self.arrived {
            let Some(sending) = publisher.outgoing.iter().find(|s| s.number == *number) else {
                continue;
            };
            // There is no order among messages that may be lost and sent again.
            if self.entitled(sending) <= Some(Qos::AtMostOnce) || !seen.insert(*number) {
                continue;
            }
            let before = last.insert((&sending.topic, sending.qos), *number);
            if before.is_some_and(|before| before > *number) {
                faults.push(format!("client {n} got message {number} after {before:?}"));
            }
        }
    }
}
