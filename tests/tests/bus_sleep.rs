//! What the bus does for clients that sleep: MQTT-SN 1.2 §6.3, §6.4, §6.14. Without endpoints: commands in, events out.

use bytes::Bytes;
use headgate_bus::{Bus, BusOutputs, BusSettings, DropReason, Notice, SleeperSettings};
use headgate_model::bus::NEVER;
use headgate_model::bus::Presence;
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, CloseReason, Delivery, DeliveryId, EndpointId, Entrant,
    Instant, Message, MountPoint, Open, OpenWill, Qos, Settlement, Store, Subscription, SubscriptionOptions,
    Topic, WallTime, Will, WillChange, WillTopic,
};
use headgate_store::{Disk, SimStore};
use std::time::Duration;

const SLEEPER: EndpointId = EndpointId(1);
const WATCHER: EndpointId = EndpointId(2);
const SENDER: EndpointId = EndpointId(3);

/// A bus over a disk in memory. What is to be committed is committed at once, unless it is withheld.
struct Bench {
    disk: Disk,
    store: SimStore,
    bus: Bus,
    now: Instant,
    epoch: WallTime,
    events: Vec<(EndpointId, BusEvent)>,
    notices: Vec<Notice>,
    commits: usize,
    withheld: bool,
}

impl Bench {
    fn new() -> Self {
        Self::start(Disk::default(), WallTime(1_700_000_000_000))
    }

    fn start(disk: Disk, epoch: WallTime) -> Self {
        let mut store = SimStore::open(&disk);
        let settings = BusSettings {
            max_queued_in_memory: 2,
            sleepers: SleeperSettings {
                max_qos0_messages: 3,
                max_qos0_bytes: 1_200,
                max_total_qos0_bytes: 2_000,
                ..SleeperSettings::default()
            },
            ..BusSettings::default()
        };
        let mut bus = Bus::new(settings, epoch, 1).unwrap();
        bus.load(store.load().unwrap());
        let mut bench = Self {
            disk,
            store,
            bus,
            now: Instant::START,
            epoch,
            events: Vec::new(),
            notices: Vec::new(),
            commits: 0,
            withheld: false,
        };
        bench.advance(0);
        bench
    }

    /// The power is cut and comes back.
    fn crash(&mut self, off_s: u64) {
        let epoch = WallTime::of(self.now + Duration::from_secs(off_s), self.epoch);
        *self = Self::start(self.disk.clone(), epoch);
    }

    fn send(&mut self, from: EndpointId, command: BusCommand) {
        let mut out = BusOutputs::default();
        self.bus.handle(from, command, self.now, &mut out);
        self.take(out);
        self.settle_disk();
    }

    fn take(&mut self, out: BusOutputs) {
        self.events.extend(out.events);
        self.notices.extend(out.notices);
    }

    fn settle_disk(&mut self) {
        while !self.withheld && self.bus.commit_due().is_some() {
            let fetches = self.bus.take_fetches();
            let mut out = BusOutputs::default();
            if let Some((number, ops)) = self.bus.take_batch() {
                self.store.commit(&ops).unwrap();
                self.commits += 1;
                self.bus.committed(number, self.now, &mut out);
            }
            for request in fetches {
                let found = self
                    .store
                    .fetch(request.session, request.lane, request.from, request.limit)
                    .unwrap();
                self.bus.fetched(request, found, self.now, &mut out);
            }
            self.take(out);
        }
    }

    fn advance(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        self.settle_disk();
        while let Some(at) = self.bus.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let mut out = BusOutputs::default();
            self.bus.handle_timeout(self.now, &mut out);
            self.take(out);
            self.settle_disk();
        }
        self.now = until;
    }

    /// Events for an endpoint since the last look.
    fn heard(&mut self, by: EndpointId) -> Vec<BusEvent> {
        let all = std::mem::take(&mut self.events);
        let (his, others) = all.into_iter().partition(|(to, _)| *to == by);
        self.events = others;
        his.into_iter().map(|(_, event)| event).collect()
    }

    /// Payloads delivered to an endpoint since the last look; each is acknowledged, and the next one allowed.
    fn messages(&mut self, by: EndpointId) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let deliveries = self.heard(by).into_iter().filter_map(|event| match event {
                BusEvent::Delivery(delivery) => Some(delivery),
                _ => None,
            });
            let deliveries: Vec<Delivery> = deliveries.collect();
            if deliveries.is_empty() {
                return found;
            }
            for delivery in deliveries {
                found.push(text(&delivery.message.payload));
                if let Some(id) = delivery.id {
                    self.send(by, BusCommand::Settle(id, Settlement::Done));
                }
                self.send(by, BusCommand::credit(1));
            }
        }
    }

    /// Opens the sleeper's session; whether it was there, and its expiry.
    fn open(&mut self, clean_start: bool, expiry: Duration, will: OpenWill) -> (bool, Duration) {
        self.heard(SLEEPER);
        self.send(SLEEPER, open("sleeper", clean_start, expiry, will));
        match self.heard(SLEEPER)[..] {
            [BusEvent::Opened { present, expiry }, ..] => (present, expiry),
            ref other => panic!("{other:?}"),
        }
    }

    /// The sleeper is back, and hears these.
    fn back(&mut self, will: OpenWill) -> Vec<String> {
        self.heard(SLEEPER);
        self.send(SLEEPER, open("sleeper", false, NEVER, will));
        self.messages(SLEEPER)
    }

    fn sleep(&mut self, seconds: Option<u64>, expiry: Option<Duration>) {
        let reason = CloseReason::Asleep(seconds.map(Duration::from_secs));
        self.send(SLEEPER, BusCommand::Close { reason, expiry });
    }

    fn watch(&mut self, filter: &'static str) {
        self.send(WATCHER, open("watcher", true, Duration::ZERO, None.into()));
        self.send(WATCHER, subscribe(filter));
        self.heard(WATCHER);
    }

    fn publish(&mut self, topic: &str, payload: &'static str, qos: Qos) {
        self.send(SENDER, open("sender", true, Duration::ZERO, None.into()));
        let message = Message {
            qos,
            ..Message::new(Topic::try_from(topic).unwrap(), payload)
        };
        let ack = (qos > Qos::AtMostOnce).then_some(AckToken(9));
        let dedup = (qos == Qos::ExactlyOnce).then_some(9);
        self.send(
            SENDER,
            BusCommand::Publish {
                message: Admitted::of_gateway(message),
                ack,
                dedup,
            },
        );
        self.send(
            SENDER,
            BusCommand::Close {
                reason: CloseReason::Normal,
                expiry: None,
            },
        );
    }
}

fn open(client: &str, clean_start: bool, expiry: Duration, will: OpenWill) -> BusCommand {
    BusCommand::Open(Box::new(Open {
        client: Entrant::of_gateway(client.into(), Presence::default()),
        clean_start,
        expiry,
        will,
        receive_maximum: 1,
        credit: 1,
        forgeable: false,
        wants_expired: false,
        link: None,
    }))
}

fn subscribe(filter: &'static str) -> BusCommand {
    let options = SubscriptionOptions {
        qos: Qos::ExactlyOnce,
        ..SubscriptionOptions::default()
    };
    BusCommand::Subscribe {
        token: AckToken(1),
        subscriptions: vec![Admitted::of_gateway(
            Subscription::parse(
                &Bytes::from_static(filter.as_bytes()),
                options,
                &MountPoint::default(),
            )
            .unwrap(),
        )],
    }
}

fn will(payload: &'static str) -> OpenWill {
    let message = Message {
        qos: Qos::AtLeastOnce,
        ..Message::new(Topic::try_from("gone").unwrap(), payload)
    };
    OpenWill::from(Some(Admitted::of_gateway(Will {
        message,
        delay: Duration::ZERO,
        message_expiry: None,
    })))
}

fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).into_owned()
}

fn delivered(events: &[BusEvent]) -> Vec<(String, Option<DeliveryId>)> {
    events
        .iter()
        .filter_map(|event| match event {
            BusEvent::Delivery(delivery) => Some((text(&delivery.message.payload), delivery.id)),
            _ => None,
        })
        .collect()
}

const DAY: Duration = Duration::from_secs(86_400);
const NOTHING: [&str; 0] = [];

/// §6.14: `Drained` comes behind the last settlement, however long the queue and whatever its QoS; and once.
#[test]
fn drained_comes_after_everything_was_settled() {
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut bench = Bench::new();
        bench.open(true, DAY, None.into());
        bench.send(SLEEPER, BusCommand::TellWhenDrained);
        assert_eq!(bench.heard(SLEEPER), [BusEvent::Drained], "nothing is there");

        bench.send(SLEEPER, subscribe("a"));
        bench.heard(SLEEPER);
        for payload in ["1", "2", "3", "4", "5"] {
            bench.publish("a", payload, qos);
        }
        bench.send(SLEEPER, BusCommand::TellWhenDrained);
        let mut found = Vec::new();
        loop {
            let events = bench.heard(SLEEPER);
            let drained = events.contains(&BusEvent::Drained);
            found.extend(delivered(&events).into_iter().map(|(payload, _)| payload));
            if drained {
                assert_eq!(events.last(), Some(&BusEvent::Drained), "{qos:?}");
                break;
            }
            assert!(!events.is_empty(), "{qos:?}: stuck after {found:?}");
            for event in events {
                match event {
                    BusEvent::Delivery(delivery) => {
                        bench.send(SLEEPER, BusCommand::credit(1));
                        if let Some(id) = delivery.id {
                            let settlement = match qos {
                                Qos::ExactlyOnce => Settlement::Received,
                                _ => Settlement::Done,
                            };
                            bench.send(SLEEPER, BusCommand::Settle(id, settlement));
                        }
                    }
                    BusEvent::Received(id) => bench.send(SLEEPER, BusCommand::Settle(id, Settlement::Done)),
                    _ => {}
                }
            }
        }
        let expected: &[&str] = &["1", "2", "3", "4", "5"];
        assert_eq!(found, expected, "{qos:?}");
        bench.send(SLEEPER, BusCommand::credit(1));
        bench.publish("a", "6", qos);
        assert_eq!(bench.messages(SLEEPER), ["6"], "{qos:?}");
        assert_eq!(bench.heard(SLEEPER), [], "once");
    }
}

/// Retained messages that a subscription brings are waited for, too.
#[test]
fn drained_comes_after_retained_messages() {
    let mut bench = Bench::new();
    bench.send(SENDER, open("sender", true, Duration::ZERO, None.into()));
    for n in 0..700 {
        let topic = Topic::try_from(format!("r/{n:03}").as_str()).unwrap();
        let message = Message {
            retain: true,
            ..Message::new(topic, "x")
        };
        let (ack, dedup) = (None, None);
        bench.send(
            SENDER,
            BusCommand::Publish {
                message: Admitted::of_gateway(message),
                ack,
                dedup,
            },
        );
    }
    bench.open(true, DAY, None.into());
    bench.send(SLEEPER, BusCommand::credit(10_000));
    bench.send(SLEEPER, subscribe("r/#"));
    bench.send(SLEEPER, BusCommand::TellWhenDrained);
    bench.advance(1);
    let events = bench.heard(SLEEPER);
    assert_eq!(delivered(&events).len(), 700);
    assert_eq!(events.last(), Some(&BusEvent::Drained));
}

/// §6.14: messages for a sleeping client are kept, its will waits; a client that is back in time finds them, in order, and no will goes out.
#[test]
fn a_sleeper_that_is_back_in_time_finds_everything() {
    for cut in [false, true] {
        let mut bench = Bench::new();
        bench.watch("gone");
        bench.open(true, DAY, will("lost"));
        bench.send(SLEEPER, subscribe("a"));
        bench.sleep(Some(60), None);
        for payload in ["1", "2", "3", "4"] {
            bench.publish("a", payload, Qos::AtLeastOnce);
        }
        bench.advance(59);
        if cut {
            bench.crash(0);
            bench.watch("gone");
        }
        let (present, expiry) = bench.open(false, DAY, OpenWill::Awake);
        assert!(present && expiry == DAY);
        // The first one came with the answer, and is not settled.
        bench.sleep(None, None);
        bench.advance(30);
        assert!(bench.open(false, DAY, OpenWill::Awake).0);
        bench.sleep(None, None);
        assert_eq!(bench.messages(WATCHER), NOTHING, "it was back in time");

        // As long as the last time, though nobody said how long that was.
        bench.advance(59);
        assert_eq!(bench.messages(WATCHER), NOTHING);
        bench.advance(1);
        assert_eq!(bench.messages(WATCHER), ["lost"]);
        bench.send(SLEEPER, open("sleeper", false, DAY, OpenWill::Keep));
        assert_eq!(bench.messages(SLEEPER), ["1", "2", "3", "4"]);
    }
}

/// §6.14 figure 4: a client that does not wake in time is lost; the gateway's restart does not change the hour.
#[test]
fn a_sleeper_that_does_not_wake_is_lost() {
    for cut in [false, true] {
        let mut bench = Bench::new();
        bench.watch("gone");
        bench.open(true, DAY, will("lost"));
        bench.sleep(Some(60), None);
        let off = if cut { 10 } else { 0 };
        if cut {
            bench.advance(20);
            bench.crash(off);
            bench.watch("gone");
            bench.advance(29);
        } else {
            bench.advance(59);
        }
        assert_eq!(bench.messages(WATCHER), NOTHING);
        bench.advance(1);
        assert_eq!(bench.messages(WATCHER), ["lost"]);
        bench.advance(100);
        assert_eq!(bench.messages(WATCHER), NOTHING, "once");
        assert!(bench.open(false, DAY, OpenWill::Keep).0, "its session lasts");
    }
}

/// A gateway that stops while a sleeper is awake finds it as it was when it slept: neither will nor session goes before its time.
#[test]
fn a_crash_while_awake_leaves_it_asleep() {
    let mut bench = Bench::new();
    bench.watch("gone");
    // A session that does not outlast its sleep: a clean one.
    bench.open(true, DAY, will("lost"));
    bench.send(SLEEPER, subscribe("a"));
    bench.sleep(Some(60), Some(Duration::from_secs(60)));
    bench.publish("a", "1", Qos::AtLeastOnce);
    bench.advance(30);
    assert_eq!(
        bench.open(false, DAY, OpenWill::Awake),
        (true, Duration::from_secs(60))
    );
    bench.crash(0);
    bench.watch("gone");
    bench.advance(29);
    assert_eq!(bench.messages(WATCHER), NOTHING);
    bench.advance(1);
    assert_eq!(bench.messages(WATCHER), ["lost"]);
    assert!(
        !bench.open(false, DAY, OpenWill::Awake).0,
        "its session has ended"
    );
}

/// §6.2: the session of a client that sleeps ends when it is lost, if it ends with its connection otherwise.
#[test]
fn a_session_ends_with_its_sleep_but_not_before() {
    let mut bench = Bench::new();
    bench.open(true, DAY, None.into());
    bench.sleep(Some(60), Some(Duration::from_secs(1)));
    bench.advance(59);
    assert_eq!(bench.bus.stats().sessions, 1);
    bench.advance(1);
    assert_eq!(bench.bus.stats().sessions, 0);

    bench.open(true, NEVER, None.into());
    bench.sleep(Some(60), None);
    bench.advance(1_000_000);
    assert_eq!(bench.bus.stats().sessions, 1, "this one has no end");
}

/// A sleeper that wakes, finds nothing and sleeps again costs the disk one record; the answer to its waking waits for nothing.
#[test]
fn waking_for_nothing_costs_one_record() {
    let mut bench = Bench::new();
    bench.open(true, DAY, None.into());
    bench.sleep(Some(60), None);
    let before = bench.commits;
    bench.withheld = true;
    assert!(bench.open(false, DAY, OpenWill::Awake).0);
    bench.send(SLEEPER, BusCommand::TellWhenDrained);
    assert_eq!(bench.heard(SLEEPER), [BusEvent::Drained]);
    assert_eq!(bench.bus.pending_ops(), 0);
    bench.sleep(Some(60), None);
    assert_eq!(bench.bus.pending_ops(), 1);
    bench.withheld = false;
    bench.settle_disk();
    assert_eq!(bench.commits, before + 1);
}

/// `Asleep` is a promise: with the power cut in that moment, mailbox, will and the hour of loss are there. It costs one record, the `Close` behind it none.
#[test]
fn who_was_told_that_it_sleeps_sleeps() {
    for cut in [false, true] {
        let mut bench = Bench::new();
        bench.watch("gone");
        bench.open(true, DAY, will("lost"));
        bench.send(SLEEPER, subscribe("a"));
        bench.publish("a", "under way", Qos::AtLeastOnce);
        assert_eq!(delivered(&bench.heard(SLEEPER)).len(), 1);
        bench.withheld = true;
        assert_eq!(bench.bus.pending_ops(), 0);
        let (patience, expiry) = (Some(Duration::from_secs(60)), None);
        bench.send(SLEEPER, BusCommand::FallAsleep { patience, expiry });
        assert_eq!((bench.heard(SLEEPER), bench.bus.pending_ops()), (vec![], 1));
        bench.withheld = false;
        bench.settle_disk();
        assert_eq!(bench.heard(SLEEPER), [BusEvent::Asleep]);
        bench.send(SLEEPER, BusCommand::credit(5));
        bench.publish("a", "meanwhile", Qos::AtLeastOnce);
        assert_eq!(bench.heard(SLEEPER), [], "nothing is delivered to it any more");
        if cut {
            bench.crash(0);
            bench.watch("gone");
        } else {
            bench.advance(5);
            bench.withheld = true;
            bench.sleep(Some(60), None);
            assert_eq!(bench.bus.pending_ops(), 0);
            bench.withheld = false;
            bench.now = bench.now.max(Instant(5_000));
        }
        bench.advance(if cut { 59 } else { 54 });
        assert_eq!(bench.messages(WATCHER), NOTHING);
        bench.advance(1);
        assert_eq!(bench.messages(WATCHER), ["lost"], "in its hour");
        bench.open(false, DAY, OpenWill::Keep);
        bench.heard(SLEEPER);
        bench.send(SLEEPER, BusCommand::credit(1));
        // What was under way is delivered again.
        assert_eq!(bench.bus.stats().inflight + bench.bus.stats().queued, 2);
    }
}

/// A session that ends with its connection has nothing to promise; and whoever leaves otherwise after all has not slept.
#[test]
fn falling_asleep_may_come_to_nothing() {
    let mut bench = Bench::new();
    let (patience, expiry) = (Some(Duration::from_secs(60)), None);
    bench.open(true, Duration::ZERO, None.into());
    bench.send(SLEEPER, BusCommand::FallAsleep { patience, expiry });
    assert_eq!(bench.heard(SLEEPER), [BusEvent::Asleep]);
    bench.sleep(Some(60), None);
    assert_eq!(bench.bus.stats().sessions, 0);

    bench.watch("gone");
    bench.open(true, DAY, will("lost"));
    bench.send(SLEEPER, BusCommand::FallAsleep { patience, expiry });
    bench.notices.clear();
    let reason = CloseReason::KeepingWill;
    bench.send(SLEEPER, BusCommand::Close { reason, expiry });
    assert!(matches!(bench.notices[..], [Notice::Disconnected { .. }]));
    bench.advance(10_000);
    assert_eq!(bench.messages(WATCHER), NOTHING);
}

/// [MQTT-3.3.1-1] What was handed to a sleeper while it was awake is known to have been, after a crash in the middle of it.
#[test]
fn what_was_sent_while_awake_is_sent_again_as_such() {
    let mut bench = Bench::new();
    bench.open(true, DAY, None.into());
    bench.send(SLEEPER, subscribe("a"));
    bench.sleep(Some(60), None);
    bench.publish("a", "1", Qos::ExactlyOnce);
    bench.send(SLEEPER, open("sleeper", false, DAY, OpenWill::Awake));
    let first = delivered(&bench.heard(SLEEPER));
    bench.crash(0);
    bench.send(SLEEPER, open("sleeper", false, DAY, OpenWill::Awake));
    let events = bench.heard(SLEEPER);
    assert_eq!(delivered(&events), first, "under the same identifier");
    let again = events
        .iter()
        .any(|event| matches!(event, BusEvent::Delivery(d) if d.redelivered));
    assert!(again);
}

/// §6.3: a client that says goodbye keeps its will, unpublished, even when its session ends; when it comes back and keeps it, it has it.
#[test]
fn a_will_outlives_a_goodbye() {
    for cut in [false, true] {
        let mut bench = Bench::new();
        bench.watch("gone");
        let leave = |bench: &mut Bench, reason| {
            bench.send(SLEEPER, BusCommand::Close { reason, expiry: None });
        };
        bench.open(true, DAY, will("lost"));
        leave(&mut bench, CloseReason::KeepingWill);
        if cut {
            bench.crash(0);
            bench.watch("gone");
        }
        bench.advance(1_000);
        assert_eq!(bench.messages(WATCHER), NOTHING);
        assert!(bench.open(false, DAY, OpenWill::Keep).0);
        leave(&mut bench, CloseReason::Lost);
        assert_eq!(bench.messages(WATCHER), ["lost"]);

        bench.open(true, DAY, will("lost"));
        leave(&mut bench, CloseReason::KeepingWill);
        if cut {
            bench.crash(0);
            bench.watch("gone");
        }
        bench.advance(86_401);
        assert_eq!(
            (bench.messages(WATCHER), bench.bus.stats().durable_sessions),
            (vec![], 0)
        );
    }
}

/// §6.4: an open session changes topic or message of its will, or drops it; the change is durable before it is answered.
#[test]
fn an_open_session_changes_its_will() {
    let topic = |name| {
        WillChange::Topic(Admitted::of_gateway(WillTopic {
            topic: Topic::try_from(name).unwrap(),
            qos: Qos::AtLeastOnce,
            retain: false,
        }))
    };
    let payload = |text: &'static str| WillChange::Payload(Bytes::from_static(text.as_bytes()));
    type Case = (
        OpenWill,
        Vec<WillChange>,
        &'static [bool],
        &'static [&'static str],
    );
    let cases: [Case; 5] = [
        (will("old"), vec![payload("new")], &[true], &["gone=new"]),
        (will("old"), vec![topic("gone/2")], &[true], &["gone/2=old"]),
        (will("old"), vec![WillChange::Remove], &[true], &[]),
        (None.into(), vec![payload("new")], &[false], &[]),
        (
            None.into(),
            vec![topic("gone"), payload("new")],
            &[true, true],
            &["gone=new"],
        ),
    ];
    for (first, changes, answers, expected) in cases {
        for cut in [false, true] {
            let mut bench = Bench::new();
            bench.watch("gone/#");
            bench.open(true, DAY, first.clone());
            let mut found = Vec::new();
            for change in changes.clone() {
                bench.withheld = true;
                bench.send(SLEEPER, BusCommand::ChangeWill(change));
                let early = bench.heard(SLEEPER);
                assert!(early.is_empty() || early == [BusEvent::WillChanged(false)]);
                bench.withheld = false;
                bench.settle_disk();
                found.extend(early.into_iter().chain(bench.heard(SLEEPER)));
            }
            let answers: Vec<BusEvent> = answers
                .iter()
                .map(|known| BusEvent::WillChanged(*known))
                .collect();
            assert_eq!(found, answers);
            if cut {
                // The watcher must be there before what is due happens: keep its session.
                let mut store = SimStore::open(&bench.disk);
                let image = store.load().unwrap();
                let record = &image
                    .sessions
                    .iter()
                    .find(|s| s.record.client_id.as_str() == "sleeper");
                let stored = record
                    .unwrap()
                    .record
                    .will
                    .as_ref()
                    .map(|will| format!("{}={}", will.message.topic, text(&will.message.payload)));
                assert_eq!(stored.as_slice(), expected);
                continue;
            }
            let reason = CloseReason::Lost;
            bench.send(SLEEPER, BusCommand::Close { reason, expiry: None });
            let published: Vec<String> = bench
                .heard(WATCHER)
                .iter()
                .filter_map(|event| match event {
                    BusEvent::Delivery(d) => {
                        Some(format!("{}={}", d.message.topic, text(&d.message.payload)))
                    }
                    _ => None,
                })
                .collect();
            assert_eq!(published, expected);
        }
    }
}

/// A take-over by a connection that keeps the will does not publish it.
#[test]
fn a_take_over_that_keeps_the_will_publishes_none() {
    let mut bench = Bench::new();
    bench.watch("gone");
    bench.open(true, DAY, will("lost"));
    let other = EndpointId(9);
    bench.send(other, open("sleeper", false, DAY, OpenWill::Keep));
    assert_eq!(bench.heard(SLEEPER), [BusEvent::TakenOver]);
    let reason = CloseReason::TakenOver;
    bench.send(SLEEPER, BusCommand::Close { reason, expiry: None });
    assert!(matches!(
        bench.heard(other)[..],
        [BusEvent::Opened { present: true, .. }]
    ));
    assert_eq!(bench.messages(WATCHER), NOTHING);
    let reason = CloseReason::Lost;
    bench.send(other, BusCommand::Close { reason, expiry: None });
    assert_eq!(bench.messages(WATCHER), ["lost"]);
}

/// Operators see a client that sleeps as connected: a million sensors that wake each minute would tell of nothing else. They hear when it is lost.
#[test]
fn sleeping_and_waking_is_no_news_to_operators() {
    let news = |bench: &Bench| -> Vec<&'static str> {
        let of_sleeper = bench.notices.iter().filter_map(|notice| match notice {
            Notice::Connected { client, .. } => (client.as_str() == "sleeper").then_some("connected"),
            Notice::Disconnected { client, reason, .. } => {
                (client.as_str() == "sleeper").then(|| reason.as_str())
            }
            Notice::TakenOver { .. } | Notice::Loop { .. } => None,
        });
        of_sleeper.collect()
    };
    let mut bench = Bench::new();
    bench.open(true, DAY, will("lost"));
    for _ in 0..3 {
        bench.sleep(Some(60), None);
        bench.advance(30);
        bench.open(false, DAY, OpenWill::Awake);
    }
    assert_eq!(news(&bench), ["connected"]);
    bench.sleep(Some(60), None);
    bench.advance(61);
    assert_eq!(
        news(&bench),
        ["connected", "keepalive_timeout"],
        "its will was due"
    );

    let mut bench = Bench::new();
    bench.open(true, Duration::from_secs(60), None.into());
    bench.sleep(Some(30), None);
    bench.advance(61);
    assert_eq!(
        news(&bench),
        ["connected", "keepalive_timeout"],
        "its session has ended"
    );

    let mut bench = Bench::new();
    bench.open(true, DAY, None.into());
    bench.sleep(Some(60), None);
    bench.open(false, DAY, OpenWill::Keep);
    assert_eq!(news(&bench), ["connected", "connected"], "a CONNECT is news");
}

fn dropped(bench: &Bench, reason: DropReason) -> u64 {
    let at = DropReason::ALL.iter().position(|other| *other == reason);
    bench.bus.stats().dropped[at.expect("one of all")]
}

const HOUR: Option<Duration> = Some(Duration::from_secs(3_600));

/// §6.14 Messages of any QoS wait for a client that sleeps; at QoS 0 in memory, so a power cut loses those and no other.
#[test]
fn qos0_waits_for_a_sleeper() {
    for crash in [false, true] {
        let mut bench = Bench::new();
        bench.open(false, NEVER, None.into());
        bench.send(SLEEPER, subscribe("#"));
        bench.sleep(Some(60), HOUR);
        bench.publish("a", "1", Qos::AtMostOnce);
        bench.publish("a", "2", Qos::AtLeastOnce);
        bench.publish("a", "3", Qos::AtMostOnce);
        if crash {
            bench.crash(1);
        }
        let mut heard = bench.back(OpenWill::Awake);
        heard.sort();
        let expected: &[&str] = if crash { &["2"] } else { &["1", "2", "3"] };
        assert_eq!(heard, expected);
        // It sleeps on; and who is away without sleeping gets nothing at QoS 0, as ever.
        bench.sleep(Some(60), HOUR);
        bench.publish("a", "4", Qos::AtMostOnce);
        assert_eq!(bench.back(None.into()), ["4"]);
        bench.send(
            SLEEPER,
            BusCommand::Close {
                reason: CloseReason::Lost,
                expiry: HOUR,
            },
        );
        bench.publish("a", "5", Qos::AtMostOnce);
        assert_eq!(bench.back(None.into()), [""; 0]);
        assert_eq!(dropped(&bench, DropReason::OfflineQos0), 1);
    }
}

/// 600 bytes: two of them are too many for one sleeper.
const LONG: &str = match std::str::from_utf8(&[b'l'; 600]) {
    Ok(text) => text,
    Err(_) => "",
};

/// Too many, or too long: the oldest goes, and is counted. QoS 1 is not concerned.
#[test]
fn qos0_of_a_sleeper_is_bounded() {
    let mut bench = Bench::new();
    bench.open(false, NEVER, None.into());
    bench.send(SLEEPER, subscribe("#"));
    bench.sleep(Some(60), HOUR);
    bench.publish("a", "first", Qos::AtLeastOnce);
    for payload in ["1", "2", "3", "4", "5"] {
        bench.publish("a", payload, Qos::AtMostOnce);
    }
    assert_eq!(dropped(&bench, DropReason::QueueFull), 2);
    let mut heard = bench.back(OpenWill::Awake);
    heard.sort();
    assert_eq!(heard, ["3", "4", "5", "first"]);

    bench.sleep(Some(60), HOUR);
    for payload in ["6", LONG, LONG] {
        bench.publish("a", payload, Qos::AtMostOnce);
    }
    assert_eq!(
        bench.back(OpenWill::Awake),
        [LONG],
        "two are over the bound in bytes"
    );
}

/// All sleepers together have a bound too, and what is counted goes with waking and with the end of a session.
#[test]
fn qos0_of_all_sleepers_is_bounded() {
    let mut bench = Bench::new();
    let mut losses = Vec::new();
    for _ in 0..3 {
        for (n, id) in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"]
            .into_iter()
            .enumerate()
        {
            let endpoint = EndpointId(100 + n as u64);
            bench.send(endpoint, open(id, true, NEVER, None.into()));
            bench.send(endpoint, subscribe("#"));
            let reason = CloseReason::Asleep(Some(Duration::from_secs(60)));
            bench.send(endpoint, BusCommand::Close { reason, expiry: HOUR });
        }
        let before = dropped(&bench, DropReason::QueueFull);
        bench.publish("x", "1", Qos::AtMostOnce);
        let lost = dropped(&bench, DropReason::QueueFull) - before;
        losses.push(lost);
    }
    assert!((1..12).contains(&losses[0]), "{losses:?}");
    assert_eq!(losses, [losses[0]; 3], "the same each time");
}
