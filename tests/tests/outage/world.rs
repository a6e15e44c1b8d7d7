//! The world of an outage: a real bus, store logic, bridge endpoint and uplink, on a virtual clock; publishers and a remote that keep to MQTT.

use crate::publisher::Publisher;
use crate::remote::Remote;
use crate::{BURST_EVERY, TOPICS};
use headgate_bridge::{
    BridgeEndpoint, BridgePlan, BridgeSettings, BridgeStatus, Credentials, EndReason, QueueSettings,
    Received, Uplink, UplinkAction, UplinkInput,
};
use headgate_bus::{Bus, BusOutputs, BusSettings, DropReason, LinkReport};
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, CloseReason, Endpoint, EndpointId, Input, Instant, Outputs,
    Qos, Store, WallTime,
};
use headgate_mqtt_codec::Packet;
use headgate_store::{Disk, SimStore};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

const LINK: &str = "$bridge/up";

/// What the power cut finds half done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The open batch is not written.
    BeforeWrite,
    /// It is written, and nobody was told.
    AfterWrite,
    /// Nothing: all is written and answered.
    Quiet,
}

/// See the module's documentation.
pub(crate) struct World {
    plan: Arc<BridgePlan>,
    status: Arc<BridgeStatus>,
    disk: Disk,
    store: SimStore,
    bus: Bus,
    bus_out: BusOutputs,
    now: Instant,
    epoch: WallTime,
    uplink: Uplink,
    actions: Vec<UplinkAction>,
    link: Option<(EndpointId, BridgeEndpoint)>,
    out: Outputs<Packet>,
    to_remote: VecDeque<Packet>,
    pub remote: Remote,
    /// The remote can be reached.
    pub reachable: bool,
    publishers: [Publisher; 2],
    resent: BTreeSet<(usize, u32)>,
    pub published: [u32; TOPICS],
    rng: fastrand::Rng,
    next_endpoint: u64,
    pub dials: u64,
    pub connections: u64,
    /// By reason, over all runs of the gateway.
    pub dropped: [u64; DropReason::ALL.len()],
}

impl World {
    pub(crate) fn new(seed: u64, queue: QueueSettings) -> Self {
        let settings = BridgeSettings {
            name: "up".into(),
            topics: vec!["plant/# out 2".parse().expect("a topic line")],
            notifications: false,
            queue,
            ..BridgeSettings::default()
        };
        let (disk, epoch) = (Disk::default(), WallTime(1_800_000_000_000));
        let mut world = Self {
            plan: Arc::new(BridgePlan::new(settings.clone(), "here").expect("a plan")),
            status: Arc::default(),
            store: SimStore::open(&disk),
            disk,
            bus: new_bus(epoch),
            bus_out: BusOutputs::default(),
            now: Instant::START,
            epoch,
            uplink: Uplink::new(settings.uplink, 1, false, seed).expect("one address"),
            actions: Vec::new(),
            link: None,
            out: Outputs::default(),
            to_remote: VecDeque::new(),
            remote: Remote::default(),
            reachable: false,
            publishers: [Publisher::new(0), Publisher::new(1)],
            resent: BTreeSet::new(),
            published: [0; TOPICS],
            rng: fastrand::Rng::with_seed(seed),
            next_endpoint: 100,
            dials: 0,
            connections: 0,
            dropped: [0; DropReason::ALL.len()],
        };
        world.start();
        world
    }

    /// As the daemon starts: what was durable is loaded, the bridge has its queue, the uplink begins; the publishers are back.
    fn start(&mut self) {
        self.bus.load(self.store.load().expect("memory can be read"));
        let create = [
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
        for command in create {
            self.command(EndpointId(50), command);
            self.settle();
        }
        self.tell_uplink(UplinkInput::Started);
        for at in 0..self.publishers.len() {
            let (endpoint, open) = (self.publishers[at].endpoint, self.publishers[at].open());
            self.command(endpoint, open);
            self.settle();
            for command in self.publishers[at].resend(&mut self.resent) {
                self.command(endpoint, command);
            }
            self.settle();
        }
    }

    /// A burst of messages; in the middle of it, perhaps, a power cut. Half of the burst is answered before.
    pub(crate) fn burst(&mut self, messages: u32, cut: Option<Cut>) {
        for n in 0..messages {
            if n == messages / 2 {
                self.settle();
            }
            let topic = self.rng.usize(..TOPICS);
            let qos = [Qos::AtLeastOnce, Qos::ExactlyOnce][self.rng.usize(..2)];
            let publisher = &mut self.publishers[topic % 2];
            let (endpoint, command) = (
                publisher.endpoint,
                publisher.publish(topic, self.published[topic], qos),
            );
            self.published[topic] += 1;
            self.command(endpoint, command);
        }
        match cut {
            Some(cut) => self.cut_power(cut),
            None => self.settle(),
        }
        self.report();
    }

    /// The ledger of this run says at its end what the next one must begin with, while nothing is under way to the remote.
    fn cut_power(&mut self, cut: Cut) {
        let before = self.report();
        let written = match cut {
            Cut::BeforeWrite => None,
            Cut::AfterWrite => {
                if let Some((_, ops)) = self.bus.take_batch() {
                    self.store.commit(&ops).expect("memory can be written");
                }
                Some(before)
            }
            Cut::Quiet => {
                self.settle();
                Some(self.report())
            }
        };
        let report = self.report();
        for (total, dropped) in self.dropped.iter_mut().zip(report.dropped) {
            *total += dropped;
        }
        let offline = self.link.is_none();
        self.epoch = WallTime::of(self.now, self.epoch);
        self.now = Instant::START;
        self.store = SimStore::open(&self.disk);
        self.bus = new_bus(self.epoch);
        self.bus_out = BusOutputs::default();
        (self.link, self.out, self.status) = (None, Outputs::default(), Arc::default());
        self.to_remote.clear();
        let uplink = self.plan.settings().uplink.clone();
        self.uplink = Uplink::new(uplink, 1, false, self.rng.u64(..)).expect("one address");
        self.start();
        if let Some(written) = written.filter(|_| offline) {
            assert_eq!(
                self.report().carried,
                written.queued + written.in_flight,
                "{cut:?}"
            );
        }
    }

    /// The link breaks; what is on its way to the remote is lost, and the answer to one packet that it had taken.
    pub(crate) fn break_link(&mut self) {
        if let Some(packet) = self.to_remote.pop_front() {
            self.remote.answer(packet, &self.resent);
        }
        self.to_remote.clear();
        self.input(Input::Closed);
        self.report();
    }

    /// Time until the next burst; the remote takes so many packets meanwhile.
    pub(crate) fn pass(&mut self, mut packets: usize) {
        let until = self.now + BURST_EVERY;
        loop {
            while let Some(packet) = self.to_remote.pop_front_if(|_| packets > 0) {
                packets -= 1;
                let answer = self.remote.answer(packet, &self.resent);
                self.input(Input::Frame(Received::Packet(answer)));
            }
            let endpoint = self.link.as_ref().and_then(|(_, endpoint)| endpoint.deadline());
            let due = [endpoint, self.uplink.deadline(), self.bus.deadline()];
            let Some(at) = due.into_iter().flatten().min().filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            if endpoint.is_some_and(|at| at <= self.now) {
                self.input(Input::Timeout);
            }
            if self.uplink.deadline().is_some_and(|at| at <= self.now) {
                self.tell_uplink(UplinkInput::Timeout);
            }
            self.bus.handle_timeout(self.now, &mut self.bus_out);
            self.settle();
        }
        self.now = until;
        self.report();
    }

    /// Everything arrived, or is counted as dropped.
    pub(crate) fn is_drained(&self) -> bool {
        let report = self.report();
        self.publishers.iter().all(Publisher::is_done) && report.queued + report.in_flight == 0
    }

    /// The ledger, which balances.
    pub(crate) fn report(&self) -> LinkReport {
        let report = self.bus.link_report(LINK, self.now).expect("it is a link");
        assert!(report.balances(), "{report:#?}");
        let gone = report.done + report.rejected + report.dropped.iter().sum::<u64>();
        assert_eq!(
            report.carried + report.routed,
            gone + report.queued + report.in_flight
        );
        report
    }

    fn command(&mut self, from: EndpointId, command: BusCommand) {
        self.bus.handle(from, command, self.now, &mut self.bus_out);
    }

    fn input(&mut self, input: Input<Received>) {
        if let Some((_, endpoint)) = &mut self.link {
            endpoint.handle(input, self.now, &mut self.out);
        }
        self.settle();
    }

    fn tell_uplink(&mut self, input: UplinkInput) {
        let wall = WallTime::of(self.now, self.epoch);
        self.uplink.handle(input, self.now, wall, &mut self.actions);
        for action in std::mem::take(&mut self.actions) {
            match action {
                UplinkAction::Dial(_) => self.dial(),
                UplinkAction::SetState(state) => self.status.set_state(state, self.now),
                other => panic!("no reason for {other:?}"),
            }
        }
        self.settle();
    }

    fn dial(&mut self) {
        self.dials += 1;
        if !self.reachable {
            return self.tell_uplink(UplinkInput::Dialed(false));
        }
        self.connections += 1;
        self.next_endpoint += 1;
        let (plan, status) = (Arc::clone(&self.plan), Arc::clone(&self.status));
        let credentials = Credentials::new(None, None, plan.version()).expect("none");
        let private = plan.settings().try_private && status.may_be_private();
        let endpoint = BridgeEndpoint::new(plan, credentials, status, private, self.now);
        self.link = Some((EndpointId(self.next_endpoint), endpoint));
        self.tell_uplink(UplinkInput::Dialed(true));
    }

    /// Until nothing more follows: commands, events, and the disk.
    fn settle(&mut self) {
        loop {
            self.pump();
            if self.bus.commit_due().is_none() {
                break;
            }
            let fetches = self.bus.take_fetches();
            if let Some((batch, ops)) = self.bus.take_batch() {
                self.store.commit(&ops).expect("memory can be written");
                self.bus.committed(batch, self.now, &mut self.bus_out);
            }
            for request in fetches {
                let (session, lane, from) = (request.session, request.lane, request.from);
                let found = self.store.fetch(session, lane, from, request.limit);
                let found = found.expect("memory can be read");
                self.bus.fetched(request, found, self.now, &mut self.bus_out);
            }
        }
    }

    fn pump(&mut self) {
        loop {
            self.drain_endpoint();
            if self.bus_out.events.is_empty() {
                return;
            }
            for (to, event) in std::mem::take(&mut self.bus_out.events) {
                self.event(to, event);
            }
            self.bus_out.notices.clear();
        }
    }

    fn drain_endpoint(&mut self) {
        let Some((id, _)) = self.link else { return };
        self.to_remote.extend(self.out.frames.drain(..));
        for command in std::mem::take(&mut self.out.bus) {
            self.command(id, command);
        }
        if std::mem::take(&mut self.out.close) {
            self.link = None;
            self.to_remote.clear();
            let reason = self.status.take_end().unwrap_or(EndReason::Lost);
            self.tell_uplink(UplinkInput::Ended(reason));
        }
    }

    fn event(&mut self, to: EndpointId, event: BusEvent) {
        if let Some((_, endpoint)) = self.link.as_mut().filter(|(id, _)| *id == to) {
            endpoint.handle(Input::Bus(event), self.now, &mut self.out);
            self.drain_endpoint();
        } else if let Some(publisher) = self.publishers.iter_mut().find(|p| p.endpoint == to)
            && let Some(command) = publisher.on_event(event)
        {
            self.command(to, command);
        }
    }
}

fn new_bus(epoch: WallTime) -> Bus {
    let settings = BusSettings {
        max_total_queued_bytes: 0,
        ..BusSettings::default()
    };
    Bus::new(settings, epoch, 1).expect("possible settings")
}
