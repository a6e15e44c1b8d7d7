//! What adapters keep with their sessions, and what expires while it waits: commands in, events out, and the power that is cut.

use bytes::Bytes;
use headgate_bus::{Bus, BusOutputs, BusSettings, DropReason, QueueFull};
use headgate_model::bus::{NEVER, NOTE_BYTES, Presence};
use headgate_model::datagram::Restored;
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, ClientId, CloseReason, Delivery, EndpointId, Entrant, Instant,
    Message, MountPoint, Open, Qos, Settlement, Store, StoreOp, Subscription, SubscriptionOptions, Topic,
    WallTime,
};
use headgate_store::{Disk, SimStore};
use std::time::Duration;

const ONE: EndpointId = EndpointId(1);
const SENDER: EndpointId = EndpointId(9);
const DAY: Duration = Duration::from_secs(86_400);
const NOTHING: [&str; 0] = [];

/// A bus over a disk in memory. What is to be committed is committed at once, unless it is withheld.
struct Bench {
    disk: Disk,
    store: SimStore,
    bus: Bus,
    now: Instant,
    epoch: WallTime,
    events: Vec<(EndpointId, BusEvent)>,
    /// What was committed.
    ops: Vec<StoreOp>,
    withheld: bool,
    settings: BusSettings,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(set: impl FnOnce(&mut BusSettings)) -> Self {
        let mut settings = BusSettings {
            max_queued_in_memory: 2,
            ..BusSettings::default()
        };
        set(&mut settings);
        Self::start(Disk::default(), WallTime(1_700_000_000_000), settings)
    }

    fn start(disk: Disk, epoch: WallTime, settings: BusSettings) -> Self {
        let mut store = SimStore::open(&disk);
        let mut bus = Bus::new(settings.clone(), epoch, 1).unwrap();
        bus.load(store.load().unwrap());
        bus.check_gauges();
        let mut bench = Self {
            disk,
            store,
            bus,
            now: Instant::START,
            epoch,
            events: Vec::new(),
            ops: Vec::new(),
            withheld: false,
            settings,
        };
        bench.advance(0);
        bench
    }

    /// The power is cut and comes back.
    fn crash(&mut self, off_s: u64) {
        let epoch = WallTime::of(self.now + Duration::from_secs(off_s), self.epoch);
        *self = Self::start(self.disk.clone(), epoch, self.settings.clone());
    }

    fn send(&mut self, from: EndpointId, command: BusCommand) {
        let mut out = BusOutputs::default();
        self.bus.handle(from, command, self.now, &mut out);
        self.bus.check_gauges();
        self.events.extend(out.events);
        self.settle_disk();
    }

    fn settle_disk(&mut self) {
        while !self.withheld && self.bus.commit_due().is_some() {
            let fetches = self.bus.take_fetches();
            let mut out = BusOutputs::default();
            if let Some((number, ops)) = self.bus.take_batch() {
                self.store.commit(&ops).unwrap();
                self.ops.extend(ops);
                self.bus.committed(number, self.now, &mut out);
            }
            for request in fetches {
                let (session, lane) = (request.session, request.lane);
                let found = self.store.fetch(session, lane, request.from, request.limit);
                self.bus.fetched(request, found.unwrap(), self.now, &mut out);
            }
            self.bus.check_gauges();
            self.events.extend(out.events);
        }
    }

    fn advance(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        self.settle_disk();
        while let Some(at) = self.bus.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let mut out = BusOutputs::default();
            self.bus.handle_timeout(self.now, &mut out);
            self.bus.check_gauges();
            self.events.extend(out.events);
            self.settle_disk();
        }
        self.now = until;
    }

    /// Opens a session for an endpoint of that number.
    fn open(&mut self, endpoint: u64, client: &str, expiry: Duration) -> EndpointId {
        let endpoint = EndpointId(endpoint);
        self.send(endpoint, open(client, expiry, false, false));
        endpoint
    }

    fn note(&mut self, from: EndpointId, note: &'static str) {
        self.send(from, BusCommand::SetNote(note.into()));
    }

    fn leave(&mut self, from: EndpointId) {
        let (reason, expiry) = (CloseReason::Normal, None);
        self.send(from, BusCommand::Close { reason, expiry });
    }

    /// Events for an endpoint since the last look.
    fn heard(&mut self, by: EndpointId) -> Vec<BusEvent> {
        let all = std::mem::take(&mut self.events);
        let (his, others) = all.into_iter().partition(|(to, _)| *to == by);
        self.events = others;
        his.into_iter().map(|(_, event)| event).collect()
    }

    /// What is delivered to an endpoint, and whether it has expired; each is acknowledged.
    fn messages(&mut self, by: EndpointId) -> Vec<(String, bool)> {
        let mut found = Vec::new();
        loop {
            let events = self.heard(by).into_iter();
            let deliveries: Vec<Delivery> = events
                .filter_map(|event| match event {
                    BusEvent::Delivery(delivery) => Some(delivery),
                    _ => None,
                })
                .collect();
            if deliveries.is_empty() {
                return found;
            }
            for delivery in deliveries {
                let text = String::from_utf8_lossy(&delivery.message.payload).into_owned();
                found.push((text, delivery.message.is_expired(self.now)));
                self.send(by, BusCommand::credit(1));
                if let Some(id) = delivery.id {
                    self.send(by, BusCommand::Settle(id, Settlement::Done));
                }
            }
        }
    }

    /// Publishes payloads of which each expires after so many seconds, none at 0.
    fn publish(&mut self, qos: Qos, messages: &[(&'static str, u64)]) {
        self.send(SENDER, open("sender", Duration::ZERO, false, true));
        for (payload, expiry) in messages {
            let message = Message {
                qos,
                expires_at: (*expiry > 0).then(|| self.now + Duration::from_secs(*expiry)),
                ..Message::new(Topic::try_from("a").unwrap(), *payload)
            };
            let message = Admitted::of_gateway(message);
            let (ack, dedup) = (None, None);
            self.send(SENDER, BusCommand::Publish { message, ack, dedup });
        }
        self.leave(SENDER);
    }

    fn notes(&self, prefix: &str) -> Vec<Restored> {
        let page = self.bus.notes(prefix, None, 1_000, self.now);
        assert_eq!(page.next, None);
        page.rows
    }

    /// Notes in words: whose, what, and how many seconds the session has left.
    fn told(&self, prefix: &str) -> Vec<(String, String, Option<u64>)> {
        let told = |found: Restored| {
            let note = String::from_utf8_lossy(&found.note).into_owned();
            let left = found.ends_in.map(|left| left.as_secs());
            (found.client_id.as_str().to_owned(), note, left)
        };
        self.notes(prefix).into_iter().map(told).collect()
    }
}

fn open(client: &str, expiry: Duration, wants_expired: bool, clean_start: bool) -> BusCommand {
    let who = Presence {
        username: client.strip_prefix("x/").map(|_| "xena".into()),
        ..Presence::default()
    };
    BusCommand::Open(Box::new(Open {
        client: Entrant::of_gateway(client.into(), who),
        clean_start,
        expiry,
        will: None.into(),
        receive_maximum: 1,
        credit: 1,
        forgeable: false,
        wants_expired,
        link: None,
    }))
}

fn subscribe(filter: &'static str) -> BusCommand {
    let options = SubscriptionOptions {
        qos: Qos::ExactlyOnce,
        ..SubscriptionOptions::default()
    };
    let filter = Bytes::from_static(filter.as_bytes());
    let subscription = Subscription::parse(&filter, options, &MountPoint::default()).unwrap();
    BusCommand::Subscribe {
        token: AckToken(1),
        subscriptions: vec![Admitted::of_gateway(subscription)],
    }
}

fn row(client: &str, note: &str, left: Option<u64>) -> (String, String, Option<u64>) {
    (client.to_owned(), note.to_owned(), left)
}

/// A note survives power cuts with its session, and goes with it: at a clean start, when it ends, when an operator removes it.
#[test]
fn a_note_lives_as_long_as_its_session() {
    let mut bench = Bench::new();
    for (n, client) in (1..).zip(["x/kept", "x/long", "x/short", "x/cleaned", "x/removed", "y/other"]) {
        let expiry = if client == "x/long" { NEVER } else { DAY };
        let endpoint = bench.open(n, client, expiry);
        bench.note(endpoint, "first");
        bench.note(endpoint, "note");
    }
    bench.leave(EndpointId(1));
    bench.advance(100);
    bench.crash(1_000);
    let left = Some(86_400 - 1_100);
    assert_eq!(
        bench.told("y/"),
        [row("y/other", "note", Some(86_400))],
        "it was connected: its time begins now"
    );
    assert_eq!(bench.told("x/kept"), [row("x/kept", "note", left)]);
    assert_eq!(bench.told("x/long"), [row("x/long", "note", None)]);
    let found = bench.notes("x/kept");
    assert_eq!(
        (found[0].username.as_deref(), found[0].attached),
        (Some("xena"), false)
    );

    bench.send(ONE, open("x/cleaned", DAY, false, true));
    bench.leave(ONE);
    let short = bench.open(2, "x/short", Duration::from_secs(50));
    assert!(bench.notes("x/short")[0].attached);
    bench.leave(short);
    let mut out = BusOutputs::default();
    bench.bus.remove_session("x/removed", bench.now, &mut out);
    bench.settle_disk();
    for cut in [false, true] {
        if cut {
            bench.crash(0);
        }
        let clients: Vec<String> = bench.told("x/").into_iter().map(|(client, ..)| client).collect();
        assert_eq!(clients, ["x/kept", "x/long", "x/short"]);
    }
    bench.advance(50);
    assert_eq!(bench.told("x/short"), []);
    bench.advance(200_000);
    assert_eq!(bench.told(""), [row("x/long", "note", None)]);
}

/// An empty note is none. That of a session that ends with its connection is in memory alone.
#[test]
fn a_note_is_taken_back_and_is_not_written_for_who_is_not_kept() {
    let mut bench = Bench::new();
    let (kept, passing) = (
        bench.open(1, "kept", DAY),
        bench.open(2, "passing", Duration::ZERO),
    );
    bench.note(kept, "note");
    bench.note(passing, "note");
    assert_eq!(
        bench.told(""),
        [row("kept", "note", None), row("passing", "note", None)]
    );
    bench.note(kept, "");
    assert_eq!(bench.told(""), [row("passing", "note", None)]);
    let written = |op: &&StoreOp| matches!(op, StoreOp::PutNote(..));
    assert_eq!(bench.ops.iter().filter(written).count(), 2);
    bench.note(kept, "");
    assert_eq!(bench.ops.iter().filter(written).count(), 2, "nothing new");
    bench.crash(0);
    assert_eq!(bench.told(""), []);
}

/// Neither does a note rewrite the record of its session, nor a connection the note.
#[test]
fn a_note_is_written_by_itself() {
    let mut bench = Bench::new();
    let kept = bench.open(1, "kept", DAY);
    bench.ops.clear();
    bench.note(kept, "note");
    assert_eq!(bench.ops.len(), 1);
    assert!(matches!(&bench.ops[0], StoreOp::PutNote(_, note) if note == "note"));
    bench.leave(kept);
    bench.open(2, "kept", DAY);
    assert!(!bench.ops[1..].iter().any(|op| matches!(op, StoreOp::PutNote(..))));
    assert_eq!(bench.told(""), [row("kept", "note", None)]);
}

/// What is answered after a note promises the note too, though it promises nothing else.
#[test]
fn answers_wait_for_the_note_before_them() {
    let mut bench = Bench::new();
    let kept = bench.open(1, "kept", DAY);
    bench.send(kept, subscribe("nobody/publishes/here"));
    bench.heard(kept);
    bench.withheld = true;
    let message = Admitted::of_gateway(Message::new(Topic::try_from("t").unwrap(), "x"));
    let publish = |token| {
        let (ack, dedup) = (Some(AckToken(token)), None);
        let message = message.clone();
        BusCommand::Publish { message, ack, dedup }
    };
    bench.send(kept, publish(1));
    assert_eq!(bench.heard(kept).len(), 1, "nobody has to be waited for");
    bench.note(kept, "note");
    bench.send(kept, publish(2));
    bench.send(kept, subscribe("nobody/publishes/here"));
    assert_eq!(bench.heard(kept), []);
    bench.withheld = false;
    bench.settle_disk();
    let heard = bench.heard(kept);
    assert!(
        matches!(
            &heard[..],
            [BusEvent::Accepted(AckToken(2), _), BusEvent::Subscribed { .. }]
        ),
        "{heard:?}"
    );
    bench.crash(0);
    assert_eq!(bench.told("")[0].1, "note");
}

/// Nothing that is longer than it may be is kept; it is counted. Notes are in the ledger of memory.
#[test]
fn notes_have_a_bound_and_count() {
    let mut bench = Bench::new();
    let kept = bench.open(1, "kept", DAY);
    let before = bench.bus.stats().memory.sessions;
    bench.send(kept, BusCommand::SetNote(vec![1; NOTE_BYTES].into()));
    let with = bench.bus.stats().memory.sessions;
    assert!(with - before >= NOTE_BYTES && with - before < NOTE_BYTES + 500);
    bench.send(kept, BusCommand::SetNote(vec![2; NOTE_BYTES + 1].into()));
    assert_eq!(bench.bus.stats().refused_notes, 1);
    assert_eq!(bench.notes("")[0].note, vec![1; NOTE_BYTES]);
    bench.note(kept, "");
    assert_eq!(bench.bus.stats().memory.sessions, before);
}

/// Pages are in the order of client ids, and hold what begins like the prefix, the prefix itself too. What one page looks at is bounded.
#[test]
fn notes_come_page_by_page() {
    let mut bench = Bench::new();
    for n in 0..6_000 {
        let endpoint = bench.open(n, &format!("p/{n:04}"), DAY);
        if n % 1_000 == 999 {
            bench.note(endpoint, "note");
        }
    }
    for (n, client) in (10_000..).zip(["a", "p/", "p", "q"]) {
        let endpoint = bench.open(n, client, DAY);
        bench.note(endpoint, "note");
    }
    let (mut found, mut after, mut pages) = (Vec::new(), None::<ClientId>, 0);
    loop {
        let page = bench
            .bus
            .notes("p/", after.as_ref().map(ClientId::as_str), 2, bench.now);
        assert!(page.rows.len() <= 2);
        found.extend(page.rows.into_iter().map(|row| row.client_id.as_str().to_owned()));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(
        found,
        ["p/", "p/0999", "p/1999", "p/2999", "p/3999", "p/4999", "p/5999"]
    );
    assert!(pages > 3, "{pages}");
    let long = bench.bus.notes("p/", None, 1_000, bench.now);
    assert_eq!((long.rows.len(), long.next.is_some()), (5, true), "4,096 looks");
}

/// A message that expires while it waits is dropped; a session that wants it gets it, and sees that it has expired: whether it waits in memory or in the
/// store alone, whoever looks at queues, and also when the power is cut.
#[test]
fn what_expires_is_delivered_to_who_wants_it() {
    let messages = [("1", 10), ("2", 500), ("3", 0), ("4", 10), ("5", 10)];
    for (cut, here) in [(false, false), (true, false), (false, true), (true, true)] {
        for wants in [false, true] {
            let mut bench = Bench::new();
            bench.send(ONE, open("kept", DAY, wants, false));
            bench.send(ONE, subscribe("a"));
            bench.heard(ONE);
            if !here {
                bench.leave(ONE);
            }
            // The first one is under way, and not acknowledged, where its client is here.
            bench.publish(Qos::AtLeastOnce, &[("0", 10)]);
            bench.publish(Qos::AtLeastOnce, &messages);
            bench.advance(300); // Sweeps look once a minute.
            if cut {
                bench.crash(0);
                bench.advance(150);
            } else if here {
                bench.leave(ONE);
            }
            bench.heard(ONE);
            bench.send(ONE, open("kept", DAY, wants, false));
            let found = bench.messages(ONE);
            let found: Vec<(&str, bool)> = found.iter().map(|(text, over)| (&**text, *over)).collect();
            let context = format!("cut {cut}, here {here}, wants {wants}");
            let again = if here { vec![("0", true)] } else { Vec::new() };
            let good = vec![("2", false), ("3", false)];
            let late = vec![("1", true), ("2", false), ("3", false), ("4", true), ("5", true)];
            match wants {
                false if here && cut => assert_eq!(found[found.len() - 2..], good, "{context}"),
                false => assert_eq!(found, [again, good].concat(), "{context}"),
                true => assert_eq!(found, [vec![("0", true)], late].concat(), "{context}"),
            }
        }
    }
}

/// Only QoS 1 and 2 are kept beyond their time. A queue that is full makes room all the same, by its policy.
#[test]
fn a_full_queue_makes_room_among_what_has_expired() {
    let mut bench = Bench::with(|settings| {
        settings.max_queued_messages = 3;
        settings.when_full = QueueFull::DropOldest;
        settings.store_qos0 = true;
    });
    bench.send(ONE, open("kept", DAY, true, false));
    bench.send(ONE, subscribe("a"));
    bench.leave(ONE);
    bench.publish(Qos::AtMostOnce, &[("zero", 10)]);
    bench.publish(Qos::AtLeastOnce, &[("1", 10), ("2", 10)]);
    bench.advance(20);
    bench.publish(Qos::AtLeastOnce, &[("3", 10)]);
    assert_eq!(
        bench.bus.stats().dropped[DropReason::Expired as usize],
        1,
        "QoS 0"
    );
    bench.publish(Qos::AtLeastOnce, &[("4", 10)]);
    assert_eq!(bench.bus.stats().dropped[DropReason::QueueFull as usize], 1);
    bench.heard(ONE);
    bench.send(ONE, open("kept", DAY, true, false));
    let late = |text: &str, over| (text.to_owned(), over);
    assert_eq!(
        bench.messages(ONE),
        [late("2", true), late("3", false), late("4", false)]
    );
}

/// Who opens the session without the wish ends it: what has expired by then is dropped.
#[test]
fn the_wish_holds_until_the_session_is_opened_without_it() {
    let mut bench = Bench::new();
    bench.send(ONE, open("kept", DAY, true, false));
    bench.send(ONE, subscribe("a"));
    bench.leave(ONE);
    bench.publish(Qos::AtLeastOnce, &[("1", 10), ("2", 10), ("3", 10)]);
    bench.advance(100);
    bench.heard(ONE);
    bench.send(ONE, open("kept", DAY, false, false));
    let heard: Vec<String> = bench.messages(ONE).into_iter().map(|(text, _)| text).collect();
    assert_eq!(heard, NOTHING);
    bench.leave(ONE);
    assert_eq!(bench.bus.stats().dropped[DropReason::Expired as usize], 3);
    assert_eq!(bench.bus.stats().queued, 0);
}
