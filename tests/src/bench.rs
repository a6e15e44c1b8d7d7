//! The bench: a whole gateway without sockets, threads or `async`, on a virtual clock.
//!
//! Real endpoints, wire codec, bus and store logic; links are buffers, the disk is memory. One connection is driven as
//! `adapters/shell` drives it: frames are taken only while the endpoint is ready, commands reach the bus in order, events reach the
//! endpoint in order. Always true: nothing depends on time of day or chance, so a failure repeats.

use crate::client::Client;
use crate::packets::ToPacket;
use bytes::{Bytes, BytesMut};
use headgate_bus::{Bus, BusOutputs, BusSettings, BusStats, FetchRequest, LinkReport, RulesChange};
use headgate_model::PeerFacts;
use headgate_model::access::{AccessDecision, AccessPolicy, AccessQuery, Answer, Identity, Question};
use headgate_model::{
    Action, BusCommand, BusEvent, CloseReason, Counter, Endpoint, EndpointId, Input, Instant, Message,
    MountPoint, Outputs, RewriteRule, Rewriter, Store, StoreImage, WallTime, Wire,
};
use headgate_mqtt::{MqttEndpoint, MqttSettings, MqttWire, PacketMetric, Sent};
use headgate_mqtt_codec::{Connect, MAX_PACKET_SIZE, Version, encode};
use headgate_store::{Disk, SimStore};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a gateway is set to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of MQTT endpoints.
    pub mqtt: MqttSettings,
    /// Of the bus.
    pub bus: BusSettings,
    /// Of the one listener.
    pub mount: MountPoint,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mqtt: MqttSettings::default(),
            bus: BusSettings {
                // Nearly all clients of tests are anonymous, and get the expiry that they ask for.
                max_anonymous_session_expiry: Duration::ZERO,
                ..BusSettings::default()
            },
            mount: MountPoint::default(),
        }
    }
}

/// Rules of what clients may do; what is not named is allowed.
#[derive(Debug, Default)]
struct Rules {
    named: Mutex<Vec<(Action, String, AccessDecision)>>,
    no_links: AtomicBool,
}

impl AccessPolicy for Rules {
    fn check(&self, query: AccessQuery<'_>) -> AccessDecision {
        let rules = self.named.lock().expect("no test panics in here");
        rules
            .iter()
            .find(|(action, topic, _)| *action == query.action && topic.as_bytes() == query.topic)
            .map_or(AccessDecision::Allow, |(_, _, decision)| *decision)
    }

    fn may_link(&self) -> bool {
        !self.no_links.load(Ordering::Relaxed)
    }
}

type Access = Box<dyn FnMut(&Question) -> Option<Answer>>;

/// A gateway. See the module's documentation.
pub struct Gateway(Rc<RefCell<World>>);

pub(crate) struct World {
    settings: Settings,
    disk: Disk,
    store: SimStore,
    bus: Bus,
    /// Wall time at [`Instant::START`] of this run.
    epoch: WallTime,
    now: Instant,
    links: BTreeMap<u64, Link>,
    next_link: u64,
    withheld: bool,
    rules: Arc<Rules>,
    access: Option<Access>,
    counts: BTreeMap<&'static str, u32>,
}

struct Link {
    endpoint: MqttEndpoint,
    wire: MqttWire,
    out: Outputs<Sent>,
    events: VecDeque<BusEvent>,
    question: Option<Question>,
    reading: BytesMut,
    writing: BytesMut,
    closed: bool,
}

impl Default for Gateway {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl Gateway {
    /// A gateway with an empty disk.
    pub fn new(settings: Settings) -> Self {
        Self(Rc::new(RefCell::new(World::start(
            settings,
            Disk::default(),
            WallTime(1_700_000_000_000),
            1,
        ))))
    }

    /// A gateway with other than default settings.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        Self::new(settings)
    }

    /// A link on which nothing was said yet; the client will read it as `version`.
    pub fn link(&self, version: Version) -> Client {
        let link = self.0.borrow_mut().accept();
        Client::new(Rc::clone(&self.0), link, version, MAX_PACKET_SIZE)
    }

    /// A new link whose client sends this CONNECT, in one write with the packets of `behind`.
    pub fn connect_with(&self, connect: Connect, behind: Vec<headgate_mqtt_codec::Packet>) -> Client {
        let limit = connect
            .properties
            .maximum_packet_size
            .map_or(MAX_PACKET_SIZE, |limit| limit.get());
        let version = connect.version;
        let link = self.0.borrow_mut().accept();
        let mut client = Client::new(Rc::clone(&self.0), link, version, limit);
        let mut bytes = BytesMut::new();
        encode(&connect.to_packet(), version, &mut bytes);
        for packet in &behind {
            encode(packet, version, &mut bytes);
        }
        client.send_bytes(&bytes);
        client.read_connack();
        client
    }

    /// A new link whose client sends this CONNECT. The CONNACK, if it came, is in [`Client::connack`].
    pub fn connect(&self, connect: Connect) -> Client {
        self.connect_with(connect, Vec::new())
    }

    /// A client that is connected with a clean start.
    pub fn client(&self, version: Version, client_id: &str) -> Client {
        self.open(crate::connect(version, client_id))
    }

    /// A client whose CONNECT was accepted.
    pub fn open(&self, connect: Connect) -> Client {
        let client = self.connect(connect);
        let connack = client.connack.as_ref().expect("CONNACK");
        assert!(!connack.code.is_error(), "refused: {}", connack.code);
        client
    }

    /// Lets time pass; everything that is due on the way happens at its time.
    pub fn advance(&self, time: Duration) {
        self.0.borrow_mut().advance(time);
    }

    /// [`Gateway::advance`] by this many seconds.
    pub fn sleep(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }

    /// From now on nothing becomes durable before [`Gateway::commit`].
    pub fn withhold_commits(&self) {
        self.0.borrow_mut().withheld = true;
    }

    /// Makes durable what waits, as one commit, and goes on.
    pub fn commit(&self) {
        let mut world = self.0.borrow_mut();
        world.commit();
        world.run();
    }

    /// The gateway itself publishes a message, as it does below `$SYS/`.
    pub fn tell(&self, message: Message) {
        let mut world = self.0.borrow_mut();
        let now = world.now;
        world.turn(|bus, out| bus.publish(message, now, out));
        world.run();
    }

    /// The power is cut and comes back after `off`: nothing is left but the disk.
    pub fn crash(&self, off: Duration) {
        let mut world = self.0.borrow_mut();
        let epoch = WallTime(WallTime::of(world.now, world.epoch).0 + ms(off));
        let (settings, disk) = (world.settings.clone(), world.disk.clone());
        *world = World::start(settings, disk, epoch, world.next_link);
    }

    /// Other settings of the bus from now on.
    ///
    /// # Panics
    /// If they cannot be.
    pub fn set_bus(&self, change: impl FnOnce(&mut BusSettings)) {
        let mut world = self.0.borrow_mut();
        change(&mut world.settings.bus);
        let settings = world.settings.bus.clone();
        world.bus.set_settings(settings).expect("settings that can be");
    }

    /// Lets commits fail, or succeed again.
    pub fn break_disk(&self, broken: bool) {
        self.0.borrow().disk.set_failing(broken);
    }

    /// Throws a client out.
    pub fn kick(&self, client_id: &str) {
        let mut world = self.0.borrow_mut();
        let now = world.now;
        world.turn(|bus, out| {
            bus.kick(client_id, now, out);
        });
        world.run();
    }

    /// The gateway stops in good order.
    pub fn shut_down(&self) {
        self.0.borrow_mut().step_all(|| Input::Shutdown);
    }

    /// A rule for every client: what it gets when it wants to do this to that topic.
    pub fn rule(&self, action: Action, topic: &str, decision: AccessDecision) {
        let world = self.0.borrow();
        let mut rules = world.rules.named.lock().expect("no test panics in here");
        rules.retain(|(a, t, _)| *a != action || t != topic);
        rules.push((action, topic.to_owned(), decision));
    }

    /// Clients that come from now on name their topics so.
    pub fn name_topics(&self, mount: MountPoint, rewrite: Vec<RewriteRule>) {
        let mut world = self.0.borrow_mut();
        world.settings.mount = mount;
        world.settings.bus.rewrite = rewrite;
    }

    /// The rules have changed: every session gets its own of those that are valid now.
    pub fn renew_rules(&self) {
        let mut world = self.0.borrow_mut();
        let (now, mut next) = (world.now, Some(RulesChange::default()));
        while let Some(change) = next {
            world.turn(|bus, out| next = bus.renew_rules(change, now, out));
        }
        world.run();
    }

    /// From now on nobody may be a link.
    pub fn forbid_links(&self) {
        self.0.borrow().rules.no_links.store(true, Ordering::Relaxed);
    }

    /// Who answers the endpoints' questions from now on; `None` lets a question wait for [`Gateway::answer`].
    pub fn access(&self, access: impl FnMut(&Question) -> Option<Answer> + 'static) {
        self.0.borrow_mut().access = Some(Box::new(access));
    }

    /// From now on every client is who it says it is: its user name names it, and without one it is anonymous.
    pub fn believe_user_names(&self) {
        let rules = Arc::clone(&self.0.borrow().rules);
        self.access(move |question| match question {
            Question::Authenticate(shown) => Some(allowed(&rules, shown.username.clone(), None)),
            Question::Reauthenticate(_)
            | Question::Continue(_)
            | Question::Readmit(_)
            | Question::Identify
            | Question::Authorize(_) => None,
        });
    }

    /// The answer that lets a client in, with the last word of enhanced authentication.
    pub fn allowed(&self, data: Option<&'static str>) -> Answer {
        allowed(&self.0.borrow().rules, None, data)
    }

    /// The answer that lets a client in as this user.
    pub fn allowed_as(&self, username: &str, data: Option<&'static str>) -> Answer {
        allowed(&self.0.borrow().rules, Some(username.into()), data)
    }

    /// Answers the question of the only client that has asked one.
    pub fn answer(&self, answer: Answer) {
        let mut world = self.0.borrow_mut();
        let asking: Vec<u64> = world
            .links
            .iter()
            .filter(|(_, link)| link.question.is_some())
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(asking.len(), 1, "one question is open");
        world.on_link(asking[0], |link, now| {
            link.question = None;
            link.step(Input::Answer(answer), now);
        });
        world.run();
    }

    /// Gauges and counters of the bus.
    pub fn stats(&self) -> BusStats {
        let world = self.0.borrow();
        world.bus.check_gauges();
        world.bus.stats()
    }

    /// The ledger of a link.
    pub fn link_report(&self, client_id: &str) -> Option<LinkReport> {
        let world = self.0.borrow();
        world.bus.link_report(client_id, world.now)
    }

    /// What the endpoints counted.
    pub fn counted<C: Counter>(&self, counter: C) -> u32 {
        let name = C::NAMES[counter.number()];
        self.0.borrow().counts.get(name).copied().unwrap_or(0)
    }

    /// Sessions on the disk.
    pub fn stored_sessions(&self) -> usize {
        self.image().sessions.len()
    }

    /// Operations that are not on their way to the disk yet.
    pub fn pending_ops(&self) -> usize {
        self.0.borrow().bus.pending_ops()
    }

    /// Queue entries, retained and delayed messages on the disk.
    pub fn stored_messages(&self) -> usize {
        let image = self.image();
        let waiting = image.sessions.iter().flat_map(|session| &session.lanes);
        let waiting: u64 = waiting.map(|lane| lane.count).sum();
        let held: usize = image.sessions.iter().map(|session| session.held.len()).sum();
        waiting as usize + held + image.retained.len() + image.delayed.len()
    }

    fn image(&self) -> StoreImage {
        let image = SimStore::open(&self.0.borrow().disk).load();
        image.expect("memory can be read")
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("no test takes that long")
}

fn allowed(rules: &Arc<Rules>, username: Option<Arc<str>>, data: Option<&'static str>) -> Answer {
    Answer::Allowed {
        identity: Identity {
            username,
            policy: Arc::clone(rules) as Arc<dyn AccessPolicy>,
        },
        data: data.map(|data| Bytes::from_static(data.as_bytes())),
    }
}

impl World {
    fn start(settings: Settings, disk: Disk, epoch: WallTime, next_link: u64) -> Self {
        let mut store = SimStore::open(&disk);
        let mut bus = Bus::new(settings.bus.clone(), epoch, 7).expect("a test's settings are possible");
        bus.load(store.load().expect("memory can be read"));
        let mut world = Self {
            settings,
            disk,
            store,
            bus,
            epoch,
            now: Instant::START,
            links: BTreeMap::new(),
            next_link,
            withheld: false,
            rules: Arc::default(),
            access: None,
            counts: BTreeMap::new(),
        };
        world.turn(|bus, out| bus.handle_timeout(Instant::START, out));
        world.run();
        world
    }

    fn accept(&mut self) -> u64 {
        let id = self.next_link;
        self.next_link += 1;
        let Settings { mqtt, bus, mount, .. } = &self.settings;
        let rewriter = Rewriter::compile(&bus.rewrite).expect("good rules");
        let naming = mqtt.naming(mount.clone(), Arc::new(rewriter));
        let facts = PeerFacts {
            peer: "192.0.2.7".into(),
            peer_port: 50_000,
            naming: Arc::new(naming),
            nonce: u128::from(id),
            carries_text_only: false,
            default_qos: None,
        };
        let link = Link {
            endpoint: MqttEndpoint::new(Arc::new(self.settings.mqtt.clone()), facts, self.now),
            wire: MqttWire::new(
                self.settings.mqtt.max_packet_size,
                self.settings.mqtt.max_connect_size,
            ),
            out: Outputs::default(),
            events: VecDeque::new(),
            question: None,
            reading: BytesMut::new(),
            writing: BytesMut::new(),
            closed: false,
        };
        self.links.insert(id, link);
        id
    }

    /// The client of a link writes.
    pub(crate) fn receive(&mut self, link: u64, bytes: &[u8]) {
        if let Some(link) = self.links.get_mut(&link) {
            link.reading.extend_from_slice(bytes);
        }
        self.run();
    }

    /// The client's side of the link is gone.
    pub(crate) fn break_link(&mut self, link: u64) {
        self.on_link(link, |link, now| link.step(Input::Closed, now));
        self.run();
    }

    /// What was written to the client since the last call.
    pub(crate) fn take_written(&mut self, link: u64) -> BytesMut {
        self.links
            .get_mut(&link)
            .map(|link| link.writing.split())
            .unwrap_or_default()
    }

    /// The client is done with a link; while it is open, the gateway does not know.
    pub(crate) fn forget(&mut self, link: u64) {
        if self.is_closed(link) {
            self.links.remove(&link);
        }
    }

    pub(crate) fn is_closed(&self, link: u64) -> bool {
        self.links.get(&link).is_none_or(|link| link.closed)
    }

    /// Everything that can happen now, happens.
    fn run(&mut self) {
        loop {
            let links: Vec<u64> = self.links.keys().copied().collect();
            let busy = links.into_iter().fold(false, |busy, id| self.work(id) | busy);
            if busy || (!self.withheld && self.commit()) {
                continue;
            }
            if self.bus.deadline().is_none_or(|at| at > self.now) {
                return;
            }
            let now = self.now;
            self.turn(|bus, out| bus.handle_timeout(now, out));
        }
    }

    /// As in `adapters/shell`: all whole frames, then the bus, then its events. Whether anything happened.
    fn work(&mut self, id: u64) -> bool {
        let mut busy = false;
        self.answer_question(id);
        self.on_link(id, |link, now| {
            while !link.closed && link.endpoint.ready() {
                let Some(frame) = link.wire.decode(&mut link.reading) else {
                    break;
                };
                busy = true;
                link.step(Input::Frame(frame), now);
            }
        });
        self.answer_question(id);
        self.on_link(id, |link, now| {
            while let Some(event) = link.events.pop_front().filter(|_| !link.closed) {
                busy = true;
                link.step(Input::Bus(event), now);
            }
        });
        busy
    }

    fn answer_question(&mut self, id: u64) {
        let Some(question) = self.links.get_mut(&id).and_then(|link| link.question.take()) else {
            return;
        };
        let answer = match (&mut self.access, &question) {
            (Some(access), _) => access(&question),
            (None, Question::Authenticate(who) | Question::Reauthenticate(who)) => {
                Some(allowed(&self.rules, who.username.clone(), None))
            }
            (None, Question::Identify) => Some(Answer::Identified(None)),
            (None, Question::Continue(_) | Question::Readmit(_)) => Some(allowed(&self.rules, None, None)),
            (None, Question::Authorize(requests)) => {
                Some(Answer::Authorized(vec![AccessDecision::Allow; requests.len()]))
            }
        };
        self.on_link(id, |link, now| match answer {
            Some(answer) => link.step(Input::Answer(answer), now),
            None => link.question = Some(question),
        });
    }

    /// Does something to a link, then hands its commands to the bus; a link that is done leaves the bus.
    fn on_link(&mut self, id: u64, f: impl FnOnce(&mut Link, Instant)) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let was_closed = link.closed;
        f(link, now);
        let mut commands = std::mem::take(&mut link.out.bus);
        if link.closed && !was_closed {
            commands.push(BusCommand::Close {
                reason: CloseReason::Lost,
                expiry: None,
            });
        }
        let counts = &mut self.counts;
        link.out
            .counts
            .drain(|metric, n| *counts.entry(metric.name()).or_default() += n);
        link.out
            .counts
            .drain_own(|number, n| *counts.entry(PacketMetric::NAMES[number]).or_default() += n);
        if !commands.is_empty() {
            self.turn(|bus, out| {
                for command in commands {
                    bus.handle(EndpointId(id), command, now, out);
                }
            });
        }
    }

    fn turn(&mut self, f: impl FnOnce(&mut Bus, &mut BusOutputs)) {
        let mut out = BusOutputs::default();
        f(&mut self.bus, &mut out);
        for (to, event) in out.events {
            if let Some(link) = self.links.get_mut(&to.0).filter(|link| !link.closed) {
                link.events.push_back(event);
            }
        }
    }

    /// One commit for all that waits, then what the bus wants to read. Whether there was anything.
    fn commit(&mut self) -> bool {
        let now = self.now;
        let fetches = self.bus.take_fetches();
        let batch = self.bus.take_batch();
        if let Some((number, ops)) = &batch {
            let result = self.store.commit(ops);
            self.turn(|bus, out| match result {
                Ok(()) => bus.committed(*number, now, out),
                Err(_) => bus.commit_failed(*number, now, out),
            });
        }
        let busy = batch.is_some() || !fetches.is_empty();
        for request in fetches {
            let FetchRequest {
                session,
                lane,
                from,
                limit,
                ..
            } = request;
            let found = self.store.fetch(session, lane, from, limit);
            let found = found.expect("memory can be read");
            self.turn(|bus, out| bus.fetched(request, found, now, out));
        }
        busy
    }

    fn advance(&mut self, time: Duration) {
        let target = self.now + time;
        let mut steps = 0;
        while let Some(at) = self.deadline().filter(|at| *at <= target) {
            self.now = self.now.max(at);
            self.step_all(|| Input::Timeout);
            steps += 1;
            assert!(steps < 100_000, "a deadline that never goes away");
        }
        self.now = target;
    }

    fn deadline(&self) -> Option<Instant> {
        let links = self.links.values().filter(|link| !link.closed);
        links
            .filter_map(|link| link.endpoint.deadline())
            .chain(self.bus.deadline())
            .min()
    }

    fn step_all(&mut self, input: impl Fn() -> Input<headgate_mqtt::Received>) {
        let links: Vec<u64> = self.links.keys().copied().collect();
        for id in links {
            self.on_link(id, |link, now| link.step(input(), now));
        }
        self.run();
    }
}

impl Link {
    fn step(&mut self, input: Input<headgate_mqtt::Received>, now: Instant) {
        if self.closed {
            return;
        }
        self.endpoint.handle(input, now, &mut self.out);
        for frame in self.out.frames.drain(..) {
            self.wire.encode(frame, &mut self.writing);
        }
        if let Some(question) = self.out.question.take() {
            assert!(
                self.question.replace(question).is_none(),
                "one question at a time"
            );
        }
        self.closed |= self.out.close;
    }
}
