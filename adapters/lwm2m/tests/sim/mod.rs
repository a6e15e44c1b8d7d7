//! The simulation of LwM2M: devices that follow the specifications; a real server, bus and store logic; links that lose, double and reorder datagrams; addresses that change; and a gateway
//! whose power is cut at any moment.
//!
//! A backend, attached to the bus, sends commands and hears what is told. What must hold is in `Sim::verdict`: each command that was accepted for a client has one answer, what was answered
//! 2.04 has arrived, what was observed is notified, and nothing is left when all are gone. The same seed gives the same run, to the last step.

mod device;

use bytes::Bytes;
use core::net::SocketAddr;
use device::{Device, Ms, place};
use fastrand::Rng;
use headgate_bus::{Bus, BusOutputs, BusSettings, FetchRequest};
use headgate_coap_codec::decode;
use headgate_lwm2m::{Lwm2mServer, Lwm2mSettings, SESSIONS};
use headgate_model::access::AccessQuery;
use headgate_model::bus::{Outcome, Presence};
use headgate_model::datagram::Asked;
use headgate_model::{
    AccessDecision, AccessPolicy, AckToken, Action, Admitted, Answer, BusCommand, BusEvent, ClientId,
    DatagramOutputs, DatagramServer, Destination, EndpointId, Entrant, Identity, Instant, MountPoint, Naming,
    Open, Qos, Question, SessionKey, Settlement, Store, StoreOp, Subscription, SubscriptionOptions, Topic,
    WallTime,
};
use headgate_store::{Disk, SimStore};
use serde_json::{Value as Json, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

const BACKEND: EndpointId = EndpointId(1);
const EPOCH: u64 = 1_700_000_000_000;
/// Seconds; the gateway is not away so long.
const LIFETIME: u64 = 120;
/// How long the world is good before all must be done: longer than any command waits.
const QUIET: Ms = 600_000;
/// How long it may take until it is durable that a command is settled.
const SETTLED_WITHIN: Ms = 150;

/// What happens in a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Of every choice.
    pub seed: u64,
    pub devices: usize,
    /// Seconds in which commands are given and links are bad. Then the world is good until all is done.
    pub seconds: u64,
    pub commands: usize,
    /// What each device sends by itself.
    pub sends: usize,
    /// Datagrams that are lost, in percent; a third as many are doubled.
    pub loss: u8,
    /// How often each device changes its address, starts anew, leaves, or is away for long.
    pub mishaps: usize,
    /// Addresses must show that they receive.
    pub forged: bool,
    /// The power is cut after each of these steps,
    pub crash_steps: Vec<usize>,
    /// and in each of these seconds.
    pub crash_seconds: Vec<u64>,
}

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub steps: usize,
    /// Answers to commands, and those that say that it was done.
    pub answers: usize,
    pub successes: usize,
    pub notifications: usize,
    pub sends: usize,
    pub observations: usize,
    /// What went wrong.
    pub faults: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    ToServer(SocketAddr, Bytes),
    ToDevice(usize, SocketAddr, Bytes),
    Timer(usize, u64),
    /// The access service answers the question of this number.
    Answer(u64, u64),
    Command,
    Send(usize),
    Mishap(usize),
    Durable(u64),
    Crash,
    Restart,
}

/// One life of the gateway.
struct Life {
    server: Lwm2mServer<SocketAddr>,
    out: DatagramOutputs<SocketAddr>,
    /// Commands to the bus that wait for the next turn.
    commands: VecDeque<(SessionKey, BusCommand)>,
    bus: Bus,
    bus_out: BusOutputs,
    store: SimStore,
    began: Ms,
    events: VecDeque<(EndpointId, BusEvent)>,
    committing: Option<(u64, Vec<StoreOp>)>,
    fetches: VecDeque<FetchRequest>,
    asked: BTreeMap<u64, Asked<SocketAddr>>,
    next_question: u64,
    after: Option<Option<ClientId>>,
}

/// Attached to the bus without a link.
#[derive(Default)]
struct Backend {
    next: u32,
    /// Commands that the bus has taken for somebody.
    accepted: BTreeSet<u32>,
    answers: BTreeMap<u32, Vec<String>>,
    /// Answers that came since the last commit, and before the one that is under way. They count when that is durable: it has that their commands are settled. Until then, 100 ms at most, a
    /// power cut has a command done once more, and its answer told once more. docs/durability.md
    heard: Vec<(Ms, u32, String)>,
    heard_before: Vec<(Ms, u32, String)>,
    arrived: BTreeSet<u32>,
    /// The number of the last notification by device and path.
    notified: BTreeMap<(usize, String), u64>,
    /// What was cancelled by which command. One that was not accepted when the power was cut may have been done all the same: the bus delivers at once.
    cancelled: BTreeMap<u32, (usize, String)>,
    /// What it believes to be observed.
    observed: BTreeSet<(usize, String)>,
}

#[derive(Debug)]
struct Asks;

/// Some topics must be asked for.
impl AccessPolicy for Asks {
    fn check(&self, query: AccessQuery<'_>) -> AccessDecision {
        match query.action {
            Action::Publish if query.topic.starts_with(b"lwm2m/dev2/up") => AccessDecision::Ask,
            _ => AccessDecision::Allow,
        }
    }
}

pub(crate) struct Sim {
    plan: Plan,
    rng: Rng,
    now: Ms,
    end: Ms,
    queue: BinaryHeap<Reverse<(Ms, u64, Event)>>,
    next: u64,
    disk: Disk,
    life: Option<Life>,
    lives: u64,
    devices: Vec<Device>,
    timers: Vec<u64>,
    moves: u16,
    next_send: u32,
    /// All devices are gone for good.
    is_over: bool,
    backend: Backend,
    report: Report,
}

impl Sim {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        let devices: Vec<Device> = (0..plan.devices)
            .map(|n| Device::new(n, &mut rng, LIFETIME))
            .collect();
        let mut sim = Self {
            timers: vec![0; devices.len()],
            devices,
            rng,
            now: 0,
            end: plan.seconds * 1_000 + QUIET,
            queue: BinaryHeap::new(),
            next: 0,
            disk: Disk::default(),
            life: None,
            lives: 0,
            moves: 0,
            next_send: 0,
            is_over: false,
            backend: Backend::default(),
            report: Report::default(),
            plan,
        };
        sim.restart();
        let end = sim.plan.seconds * 1_000;
        for n in 0..sim.plan.devices {
            sim.set_timer(n);
            for _ in 0..sim.plan.sends {
                let at = sim.rng.u64(..end);
                sim.at(at, Event::Send(n));
            }
            for _ in 0..sim.plan.mishaps {
                let at = sim.rng.u64(..end);
                sim.at(at, Event::Mishap(n));
            }
        }
        for _ in 0..sim.plan.commands {
            let at = sim.rng.u64(2_000..end);
            sim.at(at, Event::Command);
        }
        for second in sim.plan.crash_seconds.clone() {
            sim.at(second * 1_000, Event::Crash);
        }
        sim
    }

    /// Runs to the end and says how it was.
    pub(crate) fn run(mut self) -> Report {
        self.go();
        self.verdict();
        // All are gone: nothing is left of them.
        self.is_over = true;
        self.end = self.now + 400_000;
        self.go();
        self.verdict_of_nothing();
        self.report
    }

    fn go(&mut self) {
        while self.step() {
            if self.plan.crash_steps.contains(&self.report.steps) {
                self.crash();
                self.end = self.end.max(self.now + QUIET);
            }
            self.report.steps += 1;
            if let Some(life) = &self.life {
                life.server.check();
            }
        }
    }

    /// Does the next thing; false when nothing is left to be done before the end.
    fn step(&mut self) -> bool {
        if let Some(life) = &mut self.life {
            if !life.commands.is_empty() {
                self.turn(|_, _| {});
                return true;
            }
            if let Some(after) = life.after.take() {
                self.restore(after);
                return true;
            }
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
                life.server.deadline(),
                life.bus.deadline(),
                life.committing.is_none().then(|| life.bus.commit_due()).flatten(),
            ];
            let due = due.into_iter().flatten().min().map(|at| (at.0 + began).max(now));
            let first = self.queue.peek().map(|Reverse((at, ..))| *at);
            if let Some(at) = due.filter(|at| first.is_none_or(|first| *at <= first)) {
                if at > self.end {
                    return false;
                }
                self.now = at;
                self.turn(|life, now| {
                    if life.server.deadline().is_some_and(|at| at <= now) {
                        life.server.handle_timeout(now, &mut life.out);
                    }
                    if life.bus.deadline().is_some_and(|at| at <= now) {
                        life.bus.handle_timeout(now, &mut life.bus_out);
                    }
                });
                return true;
            }
        }
        if self.queue.peek().is_none_or(|Reverse((at, ..))| *at > self.end) {
            return false;
        }
        let Reverse((at, _, event)) = self.queue.pop().expect("just looked at");
        self.now = at;
        self.happen(event);
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToServer(from, bytes) => self.turn(|life, now| {
                life.server.handle_datagram(from, bytes, now, &mut life.out);
            }),
            Event::ToDevice(n, to, bytes) => {
                if self.devices[n].address == to && !self.is_over {
                    let message = decode(&bytes).expect("the server sends messages");
                    let now = self.now;
                    self.on_device(n, |device| device.on_message(message, now));
                }
            }
            Event::Timer(n, timer) => {
                if self.timers[n] == timer && !self.is_over {
                    let now = self.now;
                    self.on_device(n, |device| device.on_time(now));
                }
            }
            Event::Answer(life, question) if life == self.lives => self.answer(question),
            Event::Durable(life) if life == self.lives => self.durable(),
            Event::Answer(..) | Event::Durable(_) => {}
            Event::Command => self.command(),
            Event::Send(n) => {
                self.next_send += 1;
                let number = self.next_send;
                self.on_device(n, |device| device.send(number));
            }
            Event::Mishap(n) => self.mishap(n),
            Event::Crash => self.crash(),
            Event::Restart => self.restart(),
        }
    }

    fn mishap(&mut self, n: usize) {
        let now = self.now;
        match self.rng.u8(..10) {
            // Behind a NAT.
            0..5 => {
                self.moves += 1;
                self.devices[n].address = place(n, self.moves);
            }
            5..8 => self.on_device(n, |device| device.start_anew(now)),
            8 => self.on_device(n, |device| device.leave(now)),
            _ => {
                let until = now + self.rng.u64(10_000..250_000);
                self.on_device(n, |device| device.away_until = until);
            }
        }
    }

    fn command(&mut self) {
        if self.life.is_none() {
            return;
        }
        self.backend.next += 1;
        let number = self.backend.next;
        let n = self.rng.usize(..self.plan.devices);
        let path = format!("/3303/0/{}", 5_700 + self.rng.u16(..3));
        let (kind, mut data) = match self.rng.u8(..10) {
            0..3 => ("read", json!({"path": path})),
            3 => ("write", json!({"path": "/3/0/14", "value": "x"})),
            4 => ("execute", json!({"path": "/3/0/4"})),
            5 => {
                self.backend.cancelled.insert(number, (n, path.clone()));
                ("cancel-observe", json!({"path": path}))
            }
            _ => ("observe", json!({"path": path})),
        };
        if self.rng.u8(..4) == 0 {
            data["expiry"] = self.rng.u64(20..200).into();
        }
        let command = json!({"reqID": number, "msgType": kind, "data": data});
        let topic = format!("lwm2m/dev{n}/dn");
        let message = headgate_model::Message {
            qos: Qos::AtLeastOnce,
            ..headgate_model::Message::new(
                Topic::try_from(topic.as_str()).expect("a topic"),
                serde_json::to_vec(&command).expect("JSON"),
            )
        };
        self.backend_says(BusCommand::Publish {
            message: Admitted::of_gateway(message),
            ack: Some(AckToken(number)),
            dedup: None,
        });
    }

    fn on_bus_event(&mut self, to: EndpointId, event: BusEvent) {
        if to != BACKEND {
            let key = SessionKey {
                index: to.0 as u32,
                generation: (to.0 >> 32) as u32 & 0x7FFF_FFFF,
            };
            return self.turn(|life, now| life.server.handle_bus(key, event, now, &mut life.out));
        }
        match event {
            BusEvent::Accepted(token, Outcome::Matched) => {
                self.backend.accepted.insert(token.0);
            }
            BusEvent::Delivery(delivery) => {
                let topic = String::from_utf8_lossy(delivery.message.topic.as_bytes()).into_owned();
                let payload = delivery.message.payload.clone();
                self.backend.hear(&topic, &payload, self.now, &mut self.report);
                self.backend_says(BusCommand::credit(1));
                if let Some(id) = delivery.id {
                    self.backend_says(BusCommand::Settle(id, Settlement::Done));
                }
            }
            BusEvent::Refused(..) | BusEvent::Kicked | BusEvent::TakenOver => {
                self.report.faults.push(format!("the backend was told {event:?}"));
            }
            _ => {}
        }
    }

    fn backend_says(&mut self, command: BusCommand) {
        self.turn(|life, now| life.bus.handle(BACKEND, command, now, &mut life.bus_out));
    }

    fn write(&mut self) {
        let Some(life) = &mut self.life else { return };
        life.fetches.extend(life.bus.take_fetches());
        life.committing = Some(life.bus.take_batch().unwrap_or((0, Vec::new())));
        let heard = std::mem::take(&mut self.backend.heard);
        self.backend.heard_before.extend(heard);
        let at = self.now + self.rng.u64(0..20);
        self.at(at, Event::Durable(self.lives));
    }

    fn durable(&mut self) {
        self.backend.count();
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

    /// One turn of the gateway, and what follows at once: the bus takes commands, the links datagrams. Now and then a turn of the bus ends before all commands are taken, as when they are much
    /// work; what is published and settled belongs together even then.
    fn turn(&mut self, f: impl FnOnce(&mut Life, Instant)) {
        let Some(life) = &mut self.life else { return };
        let now = Instant(self.now - life.began);
        f(life, now);
        life.commands.extend(life.out.bus.drain(..));
        let mut is_tied = false;
        while let Some((key, command)) = life.commands.pop_front() {
            let settles = matches!(command, BusCommand::Settle(..));
            if !(settles && is_tied) && self.rng.u8(..16) == 0 {
                life.commands.push_front((key, command));
                break;
            }
            is_tied = matches!(command, BusCommand::Publish { .. });
            let endpoint = EndpointId(1 << 63 | u64::from(key.generation) << 32 | u64::from(key.index));
            life.bus.handle(endpoint, command, now, &mut life.bus_out);
        }
        life.events.extend(life.bus_out.events.drain(..));
        life.bus_out.notices.clear();
        life.out.counts.drain(|_, _| {});
        life.out.counts.drain_own(|_, _| {});
        life.out.denials.drain().for_each(drop);
        let questions = std::mem::take(&mut life.out.questions);
        let datagrams = life.out.take_datagrams();
        let mut answers = Vec::new();
        for asked in questions {
            life.next_question += 1;
            answers.push(life.next_question);
            life.asked.insert(life.next_question, asked);
        }
        for question in answers {
            let at = self.now + self.rng.u64(0..200);
            self.at(at, Event::Answer(self.lives, question));
        }
        for (to, bytes) in datagrams {
            let Destination::To(to) = to else { continue };
            let SocketAddr::V4(address) = to else { continue };
            let n = usize::from(address.ip().octets()[3]);
            self.carry(|bytes| Event::ToDevice(n, to, bytes), bytes);
        }
    }

    fn answer(&mut self, question: u64) {
        self.turn(|life, now| {
            let Some(asked) = life.asked.remove(&question) else {
                return;
            };
            let user = |name: &str| {
                let is_named = name.ends_with(['1', '3']);
                is_named.then(|| Arc::<str>::from(format!("user of {name}")))
            };
            let allowed = |username| Answer::Allowed {
                identity: Identity {
                    username,
                    policy: Arc::new(Asks),
                },
                data: None,
            };
            let answer = match &asked.question {
                Question::Authenticate(credentials) => allowed(user(credentials.client_id.as_str())),
                Question::Readmit(known) => allowed(known.owner.clone()),
                Question::Authorize(requests) => {
                    Answer::Authorized(requests.iter().map(|_| AccessDecision::Allow).collect())
                }
                _ => panic!("nobody asks so"),
            };
            life.server.handle_answer(asked.key, answer, now, &mut life.out);
        });
    }

    fn on_device(&mut self, n: usize, f: impl FnOnce(&mut Device)) {
        let device = &mut self.devices[n];
        f(device);
        let (said, from) = (std::mem::take(&mut device.said), device.address);
        for bytes in said {
            self.carry(|bytes| Event::ToServer(from, bytes), bytes);
        }
        self.set_timer(n);
    }

    /// A datagram goes over the link: perhaps once, perhaps twice, perhaps not, and perhaps after others that came later.
    fn carry(&mut self, event: impl Fn(Bytes) -> Event, bytes: Bytes) {
        let bad = self.now < self.plan.seconds * 1_000;
        let loss = if bad { self.plan.loss } else { 0 };
        let copies = match self.rng.u8(..100) {
            n if n < loss => 0,
            n if n < loss + loss / 3 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let at = self.now + self.rng.u64(20..400);
            self.at(at, event(bytes.clone()));
        }
    }

    fn set_timer(&mut self, n: usize) {
        self.timers[n] += 1;
        let at = self.devices[n].due().max(self.now + 1);
        self.at(at, Event::Timer(n, self.timers[n]));
    }

    fn at(&mut self, at: Ms, event: Event) {
        self.next += 1;
        self.queue.push(Reverse((at, self.next, event)));
    }

    /// The power is cut. What was on its way to the disk may have come there.
    fn crash(&mut self) {
        let Some(mut life) = self.life.take() else { return };
        if let Some((_, ops)) = life.committing.take()
            && self.rng.bool()
        {
            life.store.commit(&ops).expect("memory does not fail");
            self.backend.count();
        }
        let heard = std::mem::take(&mut self.backend.heard).into_iter();
        for (at, number, _) in heard.chain(std::mem::take(&mut self.backend.heard_before)) {
            if at + SETTLED_WITHIN < self.now {
                let fault = format!("{number}, answered at {at}, is not settled at {}", self.now);
                self.report.faults.push(fault);
            }
        }
        let at = self.now + self.rng.u64(0..20_000);
        self.at(at, Event::Restart);
    }

    fn restart(&mut self) {
        self.lives += 1;
        let epoch = WallTime(EPOCH + self.now);
        let mut store = SimStore::open(&self.disk);
        let settings = BusSettings {
            max_queued_in_memory: 2,
            ..BusSettings::default()
        };
        let mut bus = Bus::new(settings, epoch, self.plan.seed).expect("possible settings");
        bus.load(store.load().expect("memory can be read"));
        let mut settings = Lwm2mSettings {
            awake_window: Duration::from_secs(10),
            command_expiry: Duration::from_secs(300),
            max_commands: 3,
            max_logins: 2,
            ..Lwm2mSettings::default()
        };
        settings.transmission.amplification_limit = if self.plan.forged { 3 } else { 0 };
        // Far apart: the numbers of each follow one another.
        let seed = self.plan.seed << 40 | self.lives << 24;
        let mut server = Lwm2mServer::repeating(settings, Arc::new(Naming::default()), seed);
        server.begin("lwm2m", epoch);
        self.life = Some(Life {
            server,
            out: DatagramOutputs::default(),
            commands: VecDeque::new(),
            bus,
            bus_out: BusOutputs::default(),
            store,
            began: self.now,
            events: VecDeque::new(),
            committing: None,
            fetches: VecDeque::new(),
            asked: BTreeMap::new(),
            next_question: 0,
            after: Some(None),
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
            qos: Qos::AtLeastOnce,
            ..SubscriptionOptions::default()
        };
        let filter = Bytes::from_static(b"lwm2m/+/up/#");
        let subscription = Subscription::parse(&filter, options, &MountPoint::default()).expect("a constant");
        self.backend_says(BusCommand::Subscribe {
            token: AckToken(u32::MAX),
            subscriptions: Admitted::each_of_gateway([subscription]),
        });
    }

    /// The next page of notes. Datagrams come when there are no more.
    fn restore(&mut self, after: Option<ClientId>) {
        self.turn(|life, now| {
            let page = life
                .bus
                .notes(SESSIONS, after.as_ref().map(ClientId::as_str), 2, now);
            life.server.restore(page.rows, now, &mut life.out);
            match page.next {
                Some(next) => life.after = Some(Some(next)),
                None => life.server.restored(now, &mut life.out),
            }
        });
    }

    /// What must hold when the world was good for long.
    fn verdict(&mut self) {
        let backend = &self.backend;
        let mut faults = Vec::new();
        for number in &backend.accepted {
            let answers = backend
                .answers
                .get(number)
                .map_or(&[][..], |answers| &answers[..]);
            if answers.len() != 1 {
                faults.push(format!("command {number} has the answers {answers:?}"));
            }
        }
        for (number, answers) in &backend.answers {
            if answers.len() > 1 && !backend.accepted.contains(number) {
                faults.push(format!(
                    "command {number}, not accepted, has the answers {answers:?}"
                ));
            }
        }
        for device in &self.devices {
            for number in device.safe.difference(&backend.arrived) {
                faults.push(format!("{number} was answered 2.04 and has not arrived"));
            }
            if !device.is_registered() {
                faults.push(format!("{} is not registered", device.name()));
            }
            for (path, observed) in &device.observations {
                let last = backend.notified.get(&(device.n, path.clone()));
                if last.is_none_or(|last| last + 1 < u64::from(observed.sequence)) {
                    faults.push(format!(
                        "{} {path} at {observed:?}: told is {last:?}",
                        device.name()
                    ));
                }
                self.report.observations += 1;
            }
            self.report.sends += device.safe.len();
        }
        let cancelled = backend.cancelled.iter();
        let doubtful: BTreeSet<_> = cancelled
            .filter(|(number, _)| !backend.accepted.contains(number))
            .map(|(_, observed)| observed)
            .collect();
        for observed in &backend.observed {
            let (n, path) = observed;
            if !doubtful.contains(observed) && !self.devices[*n].observations.contains_key(path) {
                faults.push(format!("{path} of {n} is not observed any more"));
            }
        }
        self.report.answers = backend.answers.len();
        self.report.faults.append(&mut faults);
    }

    fn verdict_of_nothing(&mut self) {
        let Some(life) = &self.life else {
            return self.report.faults.push("the gateway is down".into());
        };
        for (table, entries) in life.server.tables() {
            if entries != 0 {
                self.report.faults.push(format!("{entries} {table} are left"));
            }
        }
        let faults = &mut self.report.faults;
        life.server.gauges(&mut |name, n| {
            if n > 0 && !["peers", "exchanges"].contains(&name) {
                faults.push(format!("{n} {name} are left"));
            }
        });
        let sessions = SimStore::open(&self.disk)
            .load()
            .expect("memory can be read")
            .sessions;
        if sessions.len() != 1 {
            let ids: Vec<_> = sessions
                .iter()
                .map(|session| session.record.client_id.clone())
                .collect();
            faults.push(format!("sessions are left: {ids:?}"));
        }
        life.bus.check_gauges();
    }
}

impl Backend {
    /// What was on its way to the disk is there.
    fn count(&mut self) {
        for (_, number, code) in std::mem::take(&mut self.heard_before) {
            self.answers.entry(number).or_default().push(code);
        }
    }

    fn hear(&mut self, topic: &str, payload: &Bytes, now: Ms, report: &mut Report) {
        let told: Json = serde_json::from_slice(payload).expect("JSON");
        let n: usize = topic.split('/').nth(1).expect("an endpoint")["dev".len()..]
            .parse()
            .expect("its number");
        let kind = told["msgType"].as_str().unwrap_or_default();
        let data = &told["data"];
        match kind {
            "deregister" => self.observed.retain(|(of, _)| *of != n),
            "send" => {
                for entry in data["content"].as_array().expect("values") {
                    let number = entry["value"].as_f64().expect("a number");
                    self.arrived.insert(number as u32);
                }
            }
            "notify" => {
                report.notifications += 1;
                let path = data["reqPath"].as_str().expect("a path").to_owned();
                match told["seqNum"].as_u64() {
                    Some(sequence) => {
                        self.notified.insert((n, path), sequence);
                    }
                    // The answer to a cancellation that nobody waits for any more: it was the last one.
                    None => {
                        self.observed.remove(&(n, path));
                    }
                }
            }
            _ if data.get("code").is_some() => {
                let number = told["reqID"].as_u64().expect("a number") as u32;
                let code = data["code"].as_str().expect("a code").to_owned();
                let key = (n, data["reqPath"].as_str().expect("a path").to_owned());
                let is_success = code.starts_with('2');
                report.successes += usize::from(is_success);
                match kind {
                    "observe" if is_success => {
                        self.observed.insert(key);
                    }
                    "read" | "write" | "execute" => {}
                    // Done or not, who knows: a timeout changes msgType.
                    _ => {
                        self.observed.remove(&key);
                    }
                }
                self.heard.push((now, number, code));
            }
            _ => {}
        }
    }
}
