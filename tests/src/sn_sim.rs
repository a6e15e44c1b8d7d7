//! The simulation of MQTT-SN: sensors that follow the specification, sleep most of the time and ask again when nothing comes; a real gateway, bus
//! and store logic; links that lose, double and reorder datagrams both ways; gateways that crash and come back.
//!
//! A backend, attached to the bus, gets what sensors measure and sends them commands. What must hold is in `SnSim::verdict` and, each time a sensor is
//! told to sleep again, in `Sensor::on_pingresp` and `SnSim::judge_sleep`: whatever was acknowledged arrives, QoS 2 once, in order, and a sensor is not sent to sleep before it
//! has everything that was acknowledged when it asked. The same seed gives the same run, to the last step.
//!
//! A datagram is under way for 80 to 200 ms. So a copy of a PUBLISH arrives before its QoS 2 flow is over: against one that comes later no
//! protocol helps that uses its identifiers again.

mod sensor;

use bytes::{Bytes, BytesMut};
use core::net::{Ipv4Addr, SocketAddr};
use fastrand::Rng;
use headgate_bus::{Bus, BusOutputs, BusSettings, FetchRequest};
use headgate_model::access::{AccessQuery, Identity};
use headgate_model::bus::Presence;
use headgate_model::{
    AccessDecision, AccessPolicy, AckToken, Admitted, Answer, BusCommand, BusEvent, DatagramServer,
    Destination, EndpointId, Entrant, Instant, MountPoint, Open, Qos as BusQos, SessionKey, Settlement,
    Store, StoreOp, Subscription, SubscriptionOptions, WallTime,
};
use headgate_mqttsn::{SnGateway, SnOutputs, SnSettings};
use headgate_mqttsn_codec::{Message, ReturnCode, decode, encode};
use headgate_store::{Disk, SimStore};
use sensor::{Inbox, SendState, Sending, Sensor, World, number_of};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What happens in a run.
#[derive(Clone, Debug)]
pub struct SnPlan {
    /// Of every choice.
    pub seed: u64,
    /// How many.
    pub sensors: usize,
    /// Seconds that each sleeps at a time.
    pub sleep: u16,
    /// Seconds in which readings and commands are made and links are bad. Then the world is good until all is done.
    pub seconds: u64,
    /// Readings of each sensor in that time.
    pub readings: usize,
    /// Commands to all sensors together in that time.
    pub commands: usize,
    /// Datagrams that are lost, in percent; a third as many are doubled.
    pub loss: u8,
    /// Sensors have wills, and whenever one is told that it sleeps the disk is looked at: a power cut in that moment must leave a sleeper.
    /// Over good links only: the handshake takes longer than a CONNECT is known again as a copy, so that on bad ones PUBLISH is sent for two connections within
    /// a second, and copies of it outlive its flow.
    pub wills: bool,
    /// The gateway crashes after each of these steps,
    pub crash_steps: Vec<usize>,
    /// and in each of these seconds.
    pub crash_seconds: Vec<u64>,
}

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnReport {
    /// Things that happened.
    pub steps: usize,
    /// Datagrams that were sent, either way.
    pub datagrams: usize,
    /// Times that a sensor was told to sleep again.
    pub wakes: usize,
    /// Readings and commands that arrived.
    pub arrived: usize,
    /// What went wrong.
    pub faults: Vec<String>,
}

/// Milliseconds since the world began. A gateway's [`Instant`] begins with the gateway.
type Ms = u64;

const T_RETRY: Ms = 10_000;
const N_RETRY: u8 = 5;
/// How long a datagram is under way.
const UNDER_WAY: std::ops::RangeInclusive<Ms> = 80..=200;
/// In a good world everything must be done in so many sleeps.
const SLEEPS_AFTER: u64 = 4;
const BACKEND: EndpointId = EndpointId(1);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    ToGateway(usize, Bytes),
    ToSensor(usize, Bytes),
    /// A sensor's timer, unless it was set anew.
    Timer(usize, u64),
    Answer(SessionKey),
    Reading(usize),
    Command,
    /// The batch that was on its way to the disk is there.
    Durable(u64),
    Crash,
    Restart,
}

/// Attached to the bus without a link; what it has sent and is not answered it sends again after a crash.
#[derive(Debug, Default)]
struct Backend {
    commands: Vec<Sending>,
    inbox: Inbox,
}

/// One life of the gateway.
struct Life {
    gateway: SnGateway<SocketAddr>,
    out: SnOutputs<SocketAddr>,
    bus: Bus,
    bus_out: BusOutputs,
    store: SimStore,
    began: Ms,
    /// Events on their way to clients.
    events: VecDeque<(EndpointId, BusEvent)>,
    committing: Option<(u64, Vec<StoreOp>)>,
    fetches: VecDeque<FetchRequest>,
}

/// One run. See the module's documentation.
pub struct SnSim {
    plan: SnPlan,
    rng: Rng,
    now: Ms,
    queue: BinaryHeap<Reverse<(Ms, u64, Event)>>,
    next: u64,
    disk: Disk,
    life: Option<Life>,
    /// Distinguishes commits of different lives.
    lives: u64,
    sensors: Vec<Sensor>,
    backend: Backend,
    policy: Arc<AllowAll>,
    /// What the sensor said that was heard last: a DISCONNECT with a duration, if the gateway has not answered since.
    good_night: BTreeSet<usize>,
    /// A PINGREQ is being answered: if at once, the sensor is active.
    pinging: bool,
    /// Turns of the gateway so far.
    turns: usize,
    report: SnReport,
}

#[derive(Debug)]
struct AllowAll;

impl AccessPolicy for AllowAll {
    fn check(&self, _: AccessQuery<'_>) -> AccessDecision {
        AccessDecision::Allow
    }
}

impl SnSim {
    /// A world in which nothing has happened yet.
    pub fn new(plan: SnPlan) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        let sensors = (0..plan.sensors)
            .map(|n| Sensor::new(n, &plan, &mut rng))
            .collect();
        let mut sim = Self {
            sensors,
            rng,
            now: 0,
            queue: BinaryHeap::new(),
            next: 0,
            disk: Disk::default(),
            life: None,
            lives: 0,
            backend: Backend::default(),
            policy: Arc::new(AllowAll),
            good_night: BTreeSet::new(),
            pinging: false,
            turns: 0,
            report: SnReport::default(),
            plan,
        };
        sim.restart();
        let end = sim.plan.seconds * 1_000;
        for n in 0..sim.plan.sensors {
            // They do not all begin in the same second.
            let at = sim.rng.u64(..u64::from(sim.plan.sleep) * 1_000);
            sim.set_timer(n, at);
            for _ in 0..sim.plan.readings {
                let at = sim.rng.u64(..end);
                sim.at(at, Event::Reading(n));
            }
        }
        for _ in 0..sim.plan.commands {
            let at = sim.rng.u64(..end);
            sim.at(at, Event::Command);
        }
        for second in sim.plan.crash_seconds.clone() {
            sim.at(second * 1_000, Event::Crash);
        }
        sim
    }

    /// Runs to the end and says how it was.
    pub fn run(mut self) -> SnReport {
        let quiet = SLEEPS_AFTER * (u64::from(self.plan.sleep) * 1_000 + 8 * T_RETRY);
        let mut end = self.plan.seconds * 1_000 + quiet;
        while self.step(end) {
            if self.plan.crash_steps.contains(&self.report.steps) {
                self.crash();
                end = end.max(self.now + quiet);
            }
            self.report.steps += 1;
        }
        self.verdict();
        self.report
    }

    /// Does the next thing; false when nothing is left to be done before the end.
    fn step(&mut self, end: Ms) -> bool {
        if let Some(life) = &mut self.life {
            if let Some((to, event)) = life.events.pop_front() {
                self.on_bus_event(to, event);
                return true;
            }
            let (now, began) = (self.now, life.began);
            let local = |at: Ms| Instant(at - began);
            if life.committing.is_none() && life.bus.commit_due().is_some_and(|due| due <= local(now)) {
                self.write();
                return true;
            }
            let due = [
                life.gateway.deadline(),
                life.bus.deadline(),
                life.committing.is_none().then(|| life.bus.commit_due()).flatten(),
            ];
            let due = due.into_iter().flatten().min().map(|at| (at.0 + began).max(now));
            let first = self.queue.peek().map(|Reverse((at, ..))| *at);
            if let Some(at) = due.filter(|at| first.is_none_or(|first| *at <= first)) {
                if at > end {
                    return false;
                }
                self.now = at;
                self.turn(|life, now| {
                    life.gateway.handle_timeout(now, &mut life.out);
                    if life.bus.deadline().is_some_and(|at| at <= now) {
                        life.bus.handle_timeout(now, &mut life.bus_out);
                    }
                });
                return true;
            }
        }
        let Some(Reverse((at, _, event))) = self.queue.pop() else {
            return false;
        };
        if at > end {
            return false;
        }
        self.now = at;
        self.happen(event);
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToGateway(n, bytes) => {
                let message = decode(&bytes).expect("sensors send messages");
                if matches!(message, Message::Disconnect(Some(_))) {
                    self.good_night.insert(n);
                } else {
                    self.good_night.remove(&n);
                }
                self.pinging = matches!(message, Message::PingReq(_));
                self.turn(|life, now| {
                    life.gateway
                        .handle_datagram(address(n), bytes, now, &mut life.out);
                });
                self.pinging = false;
            }
            Event::ToSensor(n, bytes) => {
                let message = decode(&bytes).expect("the gateway sends messages");
                self.on_sensor(n, |sensor, world| sensor.on_message(message, world));
            }
            Event::Timer(n, timer) => {
                if self.sensors[n].timer == timer {
                    self.on_sensor(n, Sensor::on_timer);
                }
            }
            Event::Answer(key) => {
                let identity = Identity {
                    username: None,
                    policy: Arc::clone(&self.policy) as Arc<dyn AccessPolicy>,
                };
                let answer = Answer::Allowed { identity, data: None };
                self.turn(|life, now| life.gateway.handle_answer(key, answer, now, &mut life.out));
            }
            Event::Reading(n) => self.sensors[n].made += 1,
            Event::Command => self.command(),
            Event::Durable(life) if life == self.lives => self.durable(),
            Event::Durable(_) => {}
            Event::Crash => self.crash(),
            Event::Restart => self.restart(),
        }
    }

    fn command(&mut self) {
        let number = u32::try_from(self.backend.commands.len()).expect("a run is small");
        let (n, kind) = (self.rng.usize(..self.plan.sensors), self.rng.u8(..3));
        let qos = if self.rng.bool() {
            BusQos::AtLeastOnce
        } else {
            BusQos::ExactlyOnce
        };
        self.backend.commands.push(Sending {
            number,
            topic: format!("cmd/{n}/{kind}"),
            qos,
            state: SendState::Waiting,
            msg_id: u16::try_from(number % 60_000).expect("small") + 1,
            acked: None,
        });
        let from = self.backend.commands.len() - 1;
        self.send_commands(from);
    }

    /// The backend sends what it has not had an answer to.
    fn send_commands(&mut self, from: usize) {
        let again = self.backend.commands[from..]
            .iter_mut()
            .filter_map(Sending::command);
        let commands: Vec<BusCommand> = again.collect();
        self.turn(|life, now| {
            for command in commands {
                life.bus.handle(BACKEND, command, now, &mut life.bus_out);
            }
        });
    }

    fn on_bus_event(&mut self, to: EndpointId, event: BusEvent) {
        if to != BACKEND {
            let key = SessionKey {
                index: to.0 as u32,
                generation: (to.0 >> 32) as u32 & 0x7FFF_FFFF,
            };
            return self.turn(|life, now| life.gateway.handle_bus(key, event, now, &mut life.out));
        }
        let now = self.now;
        let command = match event {
            BusEvent::Opened { .. } => return self.send_commands(0),
            BusEvent::Accepted(token, _) => {
                let sending = &mut self.backend.commands[token.0 as usize];
                sending.acked.get_or_insert(now);
                if sending.qos == BusQos::AtLeastOnce {
                    sending.state = SendState::Done;
                    return;
                }
                sending.state = SendState::Released;
                Some(BusCommand::Release(sending.msg_id))
            }
            BusEvent::Released { packet, .. } => {
                let released =
                    |sending: &&mut Sending| sending.msg_id == packet && sending.state == SendState::Released;
                if let Some(sending) = self.backend.commands.iter_mut().find(released) {
                    sending.state = SendState::Done;
                }
                None
            }
            BusEvent::Delivery(delivery) if delivery.message.topic.as_bytes().starts_with(b"gone/") => {
                let n = number_of(&delivery.message.payload) as usize;
                self.sensors[n].has_will = false;
                self.backend_says(BusCommand::credit(1));
                delivery.id.map(|id| BusCommand::Settle(id, Settlement::Done))
            }
            BusEvent::Delivery(delivery) => {
                let number = number_of(&delivery.message.payload);
                let id = delivery.id.expect("readings are published above QoS 0");
                let settlement = if delivery.qos == BusQos::ExactlyOnce {
                    self.backend.inbox.receive_once(id.get(), number);
                    Settlement::Received
                } else {
                    self.backend.inbox.arrived.push(number);
                    Settlement::Done
                };
                self.backend_says(BusCommand::credit(1));
                Some(BusCommand::Settle(id, settlement))
            }
            BusEvent::Received(id) => {
                self.backend.inbox.held.remove(&id.get());
                Some(BusCommand::Settle(id, Settlement::Done))
            }
            BusEvent::Refused(..) | BusEvent::Kicked | BusEvent::TakenOver => {
                self.report.faults.push(format!("the backend was told {event:?}"));
                None
            }
            _ => None,
        };
        if let Some(command) = command {
            self.backend_says(command);
        }
    }

    fn backend_says(&mut self, command: BusCommand) {
        self.turn(|life, now| life.bus.handle(BACKEND, command, now, &mut life.bus_out));
    }

    /// The open batch is on its way to the disk.
    fn write(&mut self) {
        let Some(life) = &mut self.life else { return };
        life.fetches.extend(life.bus.take_fetches());
        life.committing = Some(life.bus.take_batch().unwrap_or((0, Vec::new())));
        let at = self.now + self.rng.u64(0..20);
        self.at(at, Event::Durable(self.lives));
    }

    fn durable(&mut self) {
        self.turn(|life, now| {
            let Some((number, ops)) = life.committing.take() else {
                return;
            };
            if number > 0 {
                life.store.commit(&ops).expect("memory does not fail");
                life.bus.committed(number, now, &mut life.bus_out);
            }
            for request in std::mem::take(&mut life.fetches) {
                let found = life
                    .store
                    .fetch(request.session, request.lane, request.from, request.limit)
                    .expect("memory can be read");
                life.bus.fetched(request, found, now, &mut life.bus_out);
            }
        });
    }

    /// One turn of the gateway, and what follows at once: the bus takes its commands, the links its datagrams.
    fn turn(&mut self, f: impl FnOnce(&mut Life, Instant)) {
        let Some(life) = &mut self.life else { return };
        let now = Instant(self.now - life.began);
        f(life, now);
        let mut questions = Vec::new();
        let mut datagrams = Vec::new();
        loop {
            for (key, command) in std::mem::take(&mut life.out.bus) {
                let endpoint = EndpointId(1 << 63 | u64::from(key.generation) << 32 | u64::from(key.index));
                life.bus.handle(endpoint, command, now, &mut life.bus_out);
            }
            life.events.extend(life.bus_out.events.drain(..));
            life.bus_out.notices.clear();
            questions.extend(life.out.questions.drain(..).map(|asked| asked.key));
            datagrams.extend(life.out.take_datagrams());
            if life.out.bus.is_empty() {
                break;
            }
        }
        // Each check walks through all sessions: with many of them, it is made now and then.
        self.turns += 1;
        if self.turns.is_multiple_of((self.sensors.len() / 16).max(1)) {
            life.bus.check_gauges();
        }
        life.out.counts.drain(|_, _| {});
        for key in questions {
            let at = self.now + self.rng.u64(0..20);
            self.at(at, Event::Answer(key));
        }
        for (to, bytes) in datagrams {
            let Destination::To(to) = to else { continue };
            let n = usize::from(to.port()) + (usize::from(octet(to)) << 16);
            self.judge_sleep(n, &bytes);
            self.carry(|bytes| Event::ToSensor(n, bytes), bytes);
        }
    }

    /// The gateway tells a sensor that it sleeps. With the power cut now, its mailbox is there, and its will with the hour of its loss. §6.14
    fn judge_sleep(&mut self, n: usize, bytes: &Bytes) {
        let told = match decode(bytes) {
            Ok(Message::ConnAck(ReturnCode::Accepted)) => {
                self.sensors[n].has_will = self.plan.wills;
                false
            }
            Ok(Message::Disconnect(None)) => self.good_night.remove(&n),
            Ok(Message::PingResp) => !self.pinging,
            _ => false,
        };
        if !told || !self.plan.wills {
            return;
        }
        let image = SimStore::open(&self.disk).load().expect("memory can be read");
        let id = self.sensors[n].id();
        let session = image
            .sessions
            .iter()
            .find(|session| session.record.client_id.as_str().as_bytes() == id);
        let due = session.and_then(|session| session.record.will.as_ref()?.due);
        let now = WallTime(1_700_000_000_000 + self.now);
        // It was asked for a moment ago, and a tenth more is tolerated, or half. §7.2
        let sleep = u64::from(self.plan.sleep) * 1_000;
        let latest = now.0 + sleep + sleep / if sleep > 60_000 { 10 } else { 2 };
        let subscribed = session.is_some_and(|session| !session.subscriptions.is_empty());
        // One that was late has lost its will, and only that.
        let in_time = due.map_or(!self.sensors[n].has_will, |due| {
            due.0 <= latest && latest <= due.0 + 1_000
        });
        if !in_time || subscribed != self.sensors[n].subscribed {
            let fault = format!("{n} is told that it sleeps at {now:?}; on the disk it is {session:?}");
            self.report.faults.push(fault);
        }
    }

    fn on_sensor(&mut self, n: usize, f: impl FnOnce(&mut Sensor, &mut World<'_>)) {
        let mut world = World {
            now: self.now,
            sleep: u64::from(self.plan.sleep) * 1_000,
            wills: self.plan.wills,
            commands: &self.backend.commands,
            said: Vec::new(),
            wakes_at: None,
            report: &mut self.report,
        };
        let sensor = &mut self.sensors[n];
        f(sensor, &mut world);
        let World { said, wakes_at, .. } = world;
        if let Some(at) = wakes_at {
            self.set_timer(n, at);
        }
        for message in said {
            let mut bytes = BytesMut::new();
            encode(&message, &mut bytes).expect("sensors say little");
            self.carry(|bytes| Event::ToGateway(n, bytes), bytes.freeze());
        }
    }

    /// A datagram goes over the link: perhaps once, perhaps twice, perhaps not.
    fn carry(&mut self, event: impl Fn(Bytes) -> Event, bytes: Bytes) {
        self.report.datagrams += 1;
        let bad = self.now < self.plan.seconds * 1_000;
        let loss = if bad { self.plan.loss } else { 0 };
        let copies = match self.rng.u8(..100) {
            n if n < loss => 0,
            n if n < loss + loss / 3 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let at = self.now + self.rng.u64(UNDER_WAY);
            self.at(at, event(bytes.clone()));
        }
    }

    fn set_timer(&mut self, n: usize, at: Ms) {
        self.sensors[n].timer += 1;
        let timer = self.sensors[n].timer;
        self.at(at, Event::Timer(n, timer));
    }

    fn at(&mut self, at: Ms, event: Event) {
        self.next += 1;
        self.queue.push(Reverse((at, self.next, event)));
    }

    /// The power is cut. What was on its way to the disk may have come there.
    fn crash(&mut self) {
        let Some(mut life) = self.life.take() else { return };
        self.good_night.clear();
        if let Some((_, ops)) = life.committing.take()
            && self.rng.bool()
        {
            life.store.commit(&ops).expect("memory does not fail");
        }
        let at = self.now + self.rng.u64(0..20_000);
        self.at(at, Event::Restart);
    }

    fn restart(&mut self) {
        self.lives += 1;
        let epoch = WallTime(1_700_000_000_000 + self.now);
        let mut store = SimStore::open(&self.disk);
        let settings = BusSettings {
            max_queued_in_memory: 2,
            ..BusSettings::default()
        };
        let mut bus = Bus::new(settings, epoch, self.plan.seed).expect("possible settings");
        bus.load(store.load().expect("memory can be read"));
        let settings = SnSettings {
            advertise_interval: Duration::ZERO,
            session_expiry: Duration::ZERO,
            retry_interval: Duration::from_millis(T_RETRY),
            retries: N_RETRY,
            ..SnSettings::default()
        };
        let gateway = SnGateway::new(settings, Arc::default(), Instant::START);
        let mut gateway = gateway.expect("possible settings");
        gateway.start_ids_at(self.rng.u16(1..60_000));
        self.life = Some(Life {
            gateway,
            out: SnOutputs::default(),
            bus,
            bus_out: BusOutputs::default(),
            store,
            began: self.now,
            events: VecDeque::new(),
            committing: None,
            fetches: VecDeque::new(),
        });
        self.backend_says(BusCommand::Open(Box::new(Open {
            client: Entrant::of_gateway("backend".into(), Presence::default()),
            clean_start: false,
            expiry: Duration::MAX,
            will: None.into(),
            receive_maximum: 10,
            credit: 10,
            forgeable: false,
            wants_expired: false,
            link: None,
        })));
        let options = SubscriptionOptions {
            qos: BusQos::ExactlyOnce,
            ..SubscriptionOptions::default()
        };
        let subscriptions = [&b"data/+"[..], b"gone/+"].map(|filter| {
            Subscription::parse(&Bytes::from_static(filter), options, &MountPoint::default())
                .expect("a constant")
        });
        self.backend_says(BusCommand::Subscribe {
            token: AckToken(u32::MAX),
            subscriptions: Admitted::each_of_gateway(subscriptions),
        });
    }

    /// What must hold when all is done.
    fn verdict(&mut self) {
        let mut faults = Vec::new();
        let judge = |what: &str, sent: &[Sending], inbox: &Inbox, faults: &mut Vec<String>| {
            let mut times: BTreeMap<u32, usize> = BTreeMap::new();
            let mut last: BTreeMap<(&str, BusQos), u32> = BTreeMap::new();
            let by_number: BTreeMap<u32, &Sending> = sent.iter().map(|s| (s.number, s)).collect();
            for number in &inbox.arrived {
                let Some(sending) = by_number.get(number) else {
                    continue;
                };
                let times = times.entry(*number).or_default();
                *times += 1;
                if *times == 1 {
                    let before = last.insert((&sending.topic, sending.qos), *number);
                    if before.is_some_and(|before| before > *number) {
                        faults.push(format!("{what}: message {number} came after {before:?}"));
                    }
                }
            }
            for sending in sent {
                let times = times.get(&sending.number).copied().unwrap_or(0);
                let right = match sending.qos {
                    BusQos::ExactlyOnce => times == 1,
                    _ => times >= 1,
                };
                if sending.acked.is_none() || sending.state != SendState::Done || !right {
                    faults.push(format!("{what}: arrived {times} times: {sending:?}"));
                }
            }
        };
        for sensor in &self.sensors {
            let n = sensor.index;
            let made = &sensor.readings[..sensor.made];
            judge(
                &format!("readings of {n}"),
                made,
                &self.backend.inbox,
                &mut faults,
            );
            let prefix = format!("cmd/{n}/");
            let commands: Vec<Sending> = self
                .backend
                .commands
                .iter()
                .filter(|command| sensor.subscribed && command.topic.starts_with(&prefix))
                .filter(|command| {
                    sensor.inbox.arrived.contains(&command.number) || sensor.is_entitled(command)
                })
                .cloned()
                .collect();
            judge(&format!("commands to {n}"), &commands, &sensor.inbox, &mut faults);
        }
        if let Some(life) = &self.life {
            let stats = life.bus.stats();
            if (stats.queued, stats.inflight) != (0, 0) {
                faults.push(format!(
                    "left over: {} queued, {} in flight",
                    stats.queued, stats.inflight
                ));
            }
        } else {
            faults.push("the gateway is down".into());
        }
        let arrived = self
            .sensors
            .iter()
            .map(|sensor| sensor.inbox.arrived.len())
            .sum::<usize>();
        self.report.arrived = self.backend.inbox.arrived.len() + arrived;
        self.report.faults.append(&mut faults);
    }
}

fn address(n: usize) -> SocketAddr {
    let (low, high) = (n & 0xFFFF, n >> 16);
    let host = u8::try_from(high).expect("few sensors");
    let port = u16::try_from(low).expect("masked");
    (Ipv4Addr::new(10, 0, 0, host), port).into()
}

fn octet(address: SocketAddr) -> u8 {
    match address {
        SocketAddr::V4(address) => address.ip().octets()[3],
        SocketAddr::V6(_) => 0,
    }
}
