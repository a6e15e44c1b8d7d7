//! A bus alone: commands in, events out, over a disk in memory, on a virtual clock. What is to be committed is committed at once, unless it is withheld.

use bytes::Bytes;
use headgate_bus::{Bus, BusOutputs, BusSettings, LinkReport, Notice};
use headgate_model::bus::{NEVER, Presence, Refusal};
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, CloseReason, Delivery, EndpointId, Entrant, Instant, Link,
    Message, MountPoint, Open, Qos, QueueFull, QueueRules, Settlement, Store, Subscription,
    SubscriptionOptions, Topic, WallTime,
};
use headgate_store::{Disk, SimStore};
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module's documentation. Endpoints are known by the client id of their session.
pub struct BusBench {
    disk: Disk,
    store: SimStore,
    settings: BusSettings,
    node: String,
    epoch: WallTime,
    endpoints: BTreeMap<String, EndpointId>,
    next_endpoint: u64,
    /// Nothing is committed and read until this is false again.
    pub withheld: bool,
    /// The bus.
    pub bus: Bus,
    /// The time.
    pub now: Instant,
    /// What was told and not yet looked at.
    pub events: Vec<(EndpointId, BusEvent)>,
    /// What operators heard.
    pub notices: Vec<Notice>,
}

impl BusBench {
    /// A bus with an empty disk.
    pub fn new(node: &str, settings: BusSettings) -> Self {
        let epoch = WallTime(1_700_000_000_000);
        Self::start(node, settings, Disk::default(), epoch, 1)
    }

    fn start(node: &str, settings: BusSettings, disk: Disk, epoch: WallTime, next_endpoint: u64) -> Self {
        let mut store = SimStore::open(&disk);
        let mut bus = Bus::new(settings.clone(), epoch, 1).expect("a test's settings are possible");
        bus.set_node(node);
        bus.load(store.load().expect("memory can be read"));
        let mut bench = Self {
            disk,
            store,
            settings,
            node: node.to_owned(),
            epoch,
            endpoints: BTreeMap::new(),
            next_endpoint,
            withheld: false,
            bus,
            now: Instant::START,
            events: Vec::new(),
            notices: Vec::new(),
        };
        bench.advance(Duration::ZERO);
        bench
    }

    /// The power is cut and comes back at once.
    pub fn crash(&mut self) {
        let epoch = WallTime::of(self.now, self.epoch);
        let (settings, disk) = (self.settings.clone(), self.disk.clone());
        *self = Self::start(&self.node.clone(), settings, disk, epoch, self.next_endpoint);
    }

    /// The endpoint of a client.
    pub fn endpoint(&self, client: &str) -> EndpointId {
        *self.endpoints.get(client).expect("it was opened")
    }

    /// Opens the session of a client by a new endpoint.
    pub fn open(&mut self, open: Open) {
        let endpoint = EndpointId(self.next_endpoint);
        self.next_endpoint += 1;
        self.endpoints
            .insert(open.client.client_id().as_str().to_owned(), endpoint);
        self.turn(|bus, now, out| bus.handle(endpoint, BusCommand::Open(Box::new(open)), now, out));
    }

    /// A command of the endpoint that has the client's session.
    pub fn send(&mut self, client: &str, command: BusCommand) {
        let endpoint = self.endpoint(client);
        self.turn(|bus, now, out| bus.handle(endpoint, command, now, out));
    }

    /// The client's endpoint leaves.
    pub fn close(&mut self, client: &str, reason: CloseReason) {
        self.send(client, BusCommand::Close { reason, expiry: None });
    }

    /// The client's session ends for good.
    pub fn remove(&mut self, client: &str) {
        self.turn(|bus, now, out| {
            assert!(bus.remove_session(client, now, out), "it is there");
        });
    }

    /// A client with a clean session.
    pub fn connect(&mut self, client: &str) {
        self.open(opening(client, None));
    }

    /// Subscribes at QoS 2.
    pub fn subscribe(&mut self, client: &str, filter: &str) {
        self.send(client, subscription(filter, SubscriptionOptions::default()));
    }

    /// The client publishes; how it is answered, if it is.
    pub fn publish(&mut self, client: &str, message: Message) -> Option<Refusal> {
        let ack = (message.qos > Qos::AtMostOnce).then_some(AckToken(9));
        self.send(
            client,
            BusCommand::Publish {
                message: Admitted::of_gateway(message),
                ack,
                dedup: None,
            },
        );
        let endpoint = self.endpoint(client);
        let answer = self
            .events
            .iter()
            .position(|(to, event)| *to == endpoint && is_answer(event));
        match answer.map(|at| self.events.remove(at).1) {
            Some(BusEvent::Refused(_, why)) => Some(why),
            _ => None,
        }
    }

    /// Does something to the bus, and commits and reads what it wants.
    pub fn turn(&mut self, f: impl FnOnce(&mut Bus, Instant, &mut BusOutputs)) {
        let mut out = BusOutputs::default();
        f(&mut self.bus, self.now, &mut out);
        self.bus.check_gauges();
        self.take(out);
        while !self.withheld && self.bus.commit_due().is_some() {
            let mut out = BusOutputs::default();
            let fetches = self.bus.take_fetches();
            if let Some((number, ops)) = self.bus.take_batch() {
                self.store.commit(&ops).expect("memory can be written");
                self.bus.committed(number, self.now, &mut out);
            }
            for request in fetches {
                let found = self
                    .store
                    .fetch(request.session, request.lane, request.from, request.limit)
                    .expect("memory can be read");
                self.bus.fetched(request, found, self.now, &mut out);
            }
            self.bus.check_gauges();
            self.take(out);
        }
    }

    fn take(&mut self, out: BusOutputs) {
        self.events.extend(out.events);
        self.notices.extend(out.notices);
    }

    /// Lets time pass.
    pub fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.bus.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.turn(|bus, now, out| bus.handle_timeout(now, out));
        }
        self.now = until;
    }

    /// Deliveries to a client since the last look, not acknowledged.
    pub fn deliveries(&mut self, client: &str) -> Vec<Delivery> {
        let endpoint = self.endpoint(client);
        let all = std::mem::take(&mut self.events);
        let mut found = Vec::new();
        for (to, event) in all {
            match event {
                BusEvent::Delivery(delivery) if to == endpoint => found.push(delivery),
                event => self.events.push((to, event)),
            }
        }
        found
    }

    /// As `topic=payload`, what is delivered to a client, which acknowledges it, until nothing more comes.
    pub fn heard(&mut self, client: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            let deliveries = self.deliveries(client);
            if deliveries.is_empty() {
                return heard;
            }
            for delivery in deliveries {
                heard.push(brief(&delivery.message));
                if let Some(id) = delivery.id {
                    self.send(client, BusCommand::Settle(id, Settlement::Done));
                }
                self.send(client, BusCommand::credit(1));
            }
        }
    }

    /// The ledger of a link, which balances.
    #[track_caller]
    pub fn report(&self, client: &str) -> LinkReport {
        let report = self.bus.link_report(client, self.now).expect("it is a link");
        assert!(report.balances(), "{report:#?}");
        report
    }
}

fn is_answer(event: &BusEvent) -> bool {
    matches!(event, BusEvent::Accepted(..) | BusEvent::Refused(..))
}

/// A clean session for an ordinary client; one for ever for a link.
pub fn opening(client: &str, link: Option<Link>) -> Open {
    Open {
        client: Entrant::of_gateway(client.into(), Presence::default()),
        clean_start: link.is_none(),
        expiry: if link.is_some() { NEVER } else { Duration::ZERO },
        will: None.into(),
        receive_maximum: 10,
        credit: 10,
        forgeable: false,
        wants_expired: false,
        link: link.map(Box::new),
    }
}

/// A link with rules that never apply.
pub fn link(change: impl FnOnce(&mut QueueRules)) -> Option<Link> {
    let mut rules = QueueRules {
        max_messages: 1_000_000,
        max_bytes: 1 << 30,
        max_age: Duration::ZERO,
        when_full: QueueFull::DropOldest,
        store_qos0: false,
        priorities: Vec::new(),
    };
    change(&mut rules);
    Some(Link {
        queue: Some(rules),
        ..Link::default()
    })
}

/// SUBSCRIBE at QoS 2, with these other options.
pub fn subscription(filter: &str, options: SubscriptionOptions) -> BusCommand {
    let options = SubscriptionOptions {
        qos: Qos::ExactlyOnce,
        ..options
    };
    let raw = Bytes::copy_from_slice(filter.as_bytes());
    let parsed = Subscription::parse(&raw, options, &MountPoint::default());
    BusCommand::Subscribe {
        token: AckToken(1),
        subscriptions: vec![Admitted::of_gateway(parsed.expect("a test writes good filters"))],
    }
}

/// A message.
pub fn message(topic: &str, payload: &str, qos: Qos) -> Message {
    let topic = Topic::try_from(topic).expect("a test writes good topics");
    Message {
        qos,
        ..Message::new(topic, Bytes::copy_from_slice(payload.as_bytes()))
    }
}

/// As `topic=payload`.
pub fn brief(message: &Message) -> String {
    format!("{}={}", message.topic, String::from_utf8_lossy(&message.payload))
}
