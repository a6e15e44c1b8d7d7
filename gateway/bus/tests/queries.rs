//! Questions about the bus: pages in a fixed order, whatever comes and goes between two of them.

use bytes::Bytes;
use headgate_bus::{
    Bus, BusOutputs, BusSettings, ClientState, DropReason, MAX_PAGE, SubscriptionCursor, TopicPriority,
};
use headgate_model::bus::Presence;
use headgate_model::store::Fetched;
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, ClientId, CloseReason, EndpointId, Entrant, Instant, Message,
    MountPoint, Open, OpenWill, Qos, Subscription, SubscriptionOptions, Topic, TopicFilter, WallTime, Will,
};
use std::time::Duration;

const NOW: Instant = Instant(1_000);

struct World {
    bus: Bus,
    out: BusOutputs,
    endpoints: u64,
}

impl World {
    fn new(settings: BusSettings) -> Self {
        Self {
            bus: Bus::new(settings, WallTime(0), 1).expect("good settings"),
            out: BusOutputs::default(),
            endpoints: 0,
        }
    }

    /// Opens a session that takes `credit` deliveries at once, and makes it durable.
    fn open(&mut self, client: &str, expiry: u64, credit: u32) -> EndpointId {
        self.endpoints += 1;
        let endpoint = EndpointId(self.endpoints);
        let open = Open {
            client: Entrant::of_gateway(client.into(), Presence::default()),
            clean_start: false,
            expiry: Duration::from_secs(expiry),
            will: None.into(),
            receive_maximum: 10,
            credit,
            forgeable: false,
            wants_expired: false,
            link: None,
        };
        self.send(endpoint, BusCommand::Open(Box::new(open)));
        self.commit();
        endpoint
    }

    /// A session like that of [`World::open`], without the checks that take long with many.
    fn open_one_of_many(&mut self, client: &str) -> EndpointId {
        self.endpoints += 1;
        let endpoint = EndpointId(self.endpoints);
        let open = Open {
            client: Entrant::of_gateway(client.into(), Presence::default()),
            clean_start: true,
            expiry: Duration::ZERO,
            will: None.into(),
            receive_maximum: 10,
            credit: 1,
            forgeable: false,
            wants_expired: false,
            link: None,
        };
        let open = BusCommand::Open(Box::new(open));
        self.bus.handle(endpoint, open, NOW, &mut self.out);
        endpoint
    }

    fn send(&mut self, endpoint: EndpointId, command: BusCommand) {
        self.bus.handle(endpoint, command, NOW, &mut self.out);
        self.bus.check_gauges();
    }

    fn commit(&mut self) {
        while let Some((batch, _)) = self.bus.take_batch() {
            self.bus.committed(batch, NOW, &mut self.out);
        }
    }

    fn subscribe(&mut self, endpoint: EndpointId, filters: &[&str]) {
        let subscriptions = Admitted::each_of_gateway(filters.iter().map(|text| subscription(text)));
        let token = AckToken(1);
        self.send(endpoint, BusCommand::Subscribe { token, subscriptions });
        self.commit();
    }

    fn publish(&mut self, topic: &str, qos: Qos, retain: bool) {
        let message = Message {
            qos,
            retain,
            ..Message::new(topic_of(topic), "x")
        };
        self.bus.publish(message, NOW, &mut self.out);
        self.bus.check_gauges();
    }

    fn leave(&mut self, endpoint: EndpointId, reason: CloseReason) {
        let expiry = None;
        self.send(endpoint, BusCommand::Close { reason, expiry });
    }

    /// All pages of the list of clients.
    fn clients(&self, limit: usize) -> Vec<ClientId> {
        let (mut all, mut after) = (Vec::new(), None::<ClientId>);
        loop {
            let page = self.bus.clients(after.as_ref().map(ClientId::as_str), limit);
            assert!(page.rows.len() <= limit);
            all.extend(page.rows.into_iter().map(|row| row.client));
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }
}

fn topic_of(topic: &str) -> Topic {
    Topic::try_from(topic).expect("a good name")
}

fn subscription(text: &str) -> Subscription {
    let options = SubscriptionOptions {
        qos: Qos::AtLeastOnce,
        ..SubscriptionOptions::default()
    };
    let text = Bytes::copy_from_slice(text.as_bytes());
    Subscription::parse(&text, options, &MountPoint::default()).expect("a good filter")
}

#[test]
fn clients_come_page_by_page_by_client_id() {
    let mut world = World::new(BusSettings::default());
    let names: Vec<String> = (0..1_200).map(|n| format!("c{:04}", n * 7 % 1_200)).collect();
    for name in &names {
        world.open(name, 0, 1);
    }
    let mut sorted = names.clone();
    sorted.sort_unstable();
    for limit in [1, 7, 600, MAX_PAGE] {
        let found = world.clients(limit);
        assert!(
            found
                .iter()
                .map(ClientId::as_str)
                .eq(sorted.iter().map(String::as_str))
        );
    }
    // More than a page may hold is not handed out, and a page of none makes no sense.
    assert_eq!(world.bus.clients(None, usize::MAX).rows.len(), MAX_PAGE);
    assert_eq!(world.bus.clients(None, 0).rows.len(), 1);
    // A cursor is good though its client is gone, or never was.
    assert_eq!(
        world.bus.clients(Some("c0010x"), 1).rows[0].client.as_str(),
        "c0011"
    );
    assert!(world.bus.remove_session("c0010", NOW, &mut world.out));
    assert_eq!(
        world.bus.clients(Some("c0010"), 1).rows[0].client.as_str(),
        "c0011"
    );
    let last = world.bus.clients(Some("c1198"), 5);
    assert_eq!((last.rows.len(), last.next), (1, None));
    assert_eq!(world.bus.clients(Some("d"), 5).rows, []);
}

#[test]
fn a_client_that_stays_is_seen_once_whoever_comes_and_goes() {
    let mut world = World::new(BusSettings::default());
    for n in 0..100 {
        world.open(&format!("stays-{n:02}"), 0, 1);
    }
    let (mut seen, mut after) = (Vec::new(), None::<ClientId>);
    for round in 0.. {
        let page = world.bus.clients(after.as_ref().map(ClientId::as_str), 10);
        let stays = page
            .rows
            .iter()
            .filter(|row| row.client.as_str().starts_with("stays"));
        seen.extend(stays.map(|row| row.client.clone()));
        after = page.next;
        let name = format!("stays-{:02}x", round * 13 % 100);
        let guest = world.open(&format!("guest-{name}"), 0, 1);
        world.open(&format!("a-{name}"), 0, 1);
        if round % 2 == 0 {
            world.leave(guest, CloseReason::Normal);
        }
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 100);
    assert!(seen.is_sorted_by(|a, b| a.as_str() < b.as_str()));
}

#[test]
fn a_list_of_clients_says_how_each_is_connected() {
    let mut world = World::new(BusSettings::default());
    let away = world.open("away", 100, 1);
    world.leave(away, CloseReason::Lost);
    let asleep = world.open("asleep", 100, 1);
    world.leave(asleep, CloseReason::Asleep(None));
    world.open("online", 0, 1);
    let falling = world.open("falling", 100, 1);
    let (patience, expiry) = (None, None);
    world.send(falling, BusCommand::FallAsleep { patience, expiry });
    let leaving = world.open("leaving", 0, 1);
    world.open("leaving", 0, 1);
    assert!(world.out.events.contains(&(leaving, BusEvent::TakenOver)));
    world.endpoints += 1;
    let open = Open {
        client: Entrant::of_gateway("opening".into(), Presence::default()),
        clean_start: true,
        expiry: Duration::from_secs(100),
        will: None.into(),
        receive_maximum: 10,
        credit: 1,
        forgeable: false,
        wants_expired: false,
        link: None,
    };
    world.send(
        EndpointId(world.endpoints),
        BusCommand::Open(Box::new(open.clone())),
    );
    let states = |world: &World| {
        let rows = world.bus.clients(None, 100).rows;
        let states = rows
            .into_iter()
            .map(|row| (row.client.as_str().to_owned(), row.state));
        states.collect::<Vec<_>>()
    };
    let expected = [
        ("asleep", ClientState::Asleep),
        ("away", ClientState::Away),
        ("falling", ClientState::FallingAsleep),
        ("leaving", ClientState::Leaving),
        ("online", ClientState::Online),
        ("opening", ClientState::Opening),
    ];
    assert_eq!(
        states(&world),
        expected.map(|(name, state)| (name.to_owned(), state))
    );
    let wakes = Open {
        client: Entrant::of_gateway("asleep".into(), Presence::default()),
        clean_start: false,
        will: OpenWill::Awake,
        ..open
    };
    world.send(EndpointId(99), BusCommand::Open(Box::new(wakes)));
    assert_eq!(states(&world)[0], ("asleep".to_owned(), ClientState::Awake));
}

#[test]
fn all_is_told_of_one_session() {
    let mut world = World::new(BusSettings::default());
    assert_eq!(world.bus.session_info("c"), None);
    let endpoint = world.open("c", 100, 1);
    world.subscribe(endpoint, &["t/#", "u"]);
    for n in 0..3 {
        world.publish(&format!("t/{n}"), Qos::AtLeastOnce, false);
    }
    let info = world.bus.session_info("c").expect("it is there");
    assert_eq!(
        (
            info.client.queued,
            info.client.inflight,
            info.client.subscriptions
        ),
        (2, 1, 2)
    );
    assert_eq!(
        (info.expiry, info.ends_at, info.receive_maximum),
        (Duration::from_secs(100), None, 10)
    );
    assert!(info.client.durable && !info.is_link && info.queued_bytes > 0 && info.inflight_bytes > 0);
    assert_eq!((info.stored, info.will), (0, None));
    world.leave(endpoint, CloseReason::Lost);
    let info = world.bus.session_info("c").expect("it lasts");
    assert_eq!(info.ends_at, Some(NOW + Duration::from_secs(100)));
    // What was sent stays in memory, for it must be sent again; the rest is in the store alone.
    assert_eq!((info.client.queued, info.stored, info.inflight_bytes), (3, 2, 0));
    assert!(info.stored_bytes > 0 && info.stored_bytes < info.queued_bytes);
}

#[test]
fn a_will_is_told() {
    let mut world = World::new(BusSettings::default());
    let will = Will {
        message: Message::new(topic_of("lost"), "x"),
        delay: Duration::from_secs(3),
        message_expiry: None,
    };
    let open = Open {
        client: Entrant::of_gateway("c".into(), Presence::default()),
        clean_start: true,
        expiry: Duration::ZERO,
        will: OpenWill::Set(Some(Box::new(Admitted::of_gateway(will)))),
        receive_maximum: 10,
        credit: 1,
        forgeable: false,
        wants_expired: false,
        link: None,
    };
    world.send(EndpointId(1), BusCommand::Open(Box::new(open)));
    let told = world
        .bus
        .session_info("c")
        .and_then(|info| info.will)
        .expect("it has one");
    assert_eq!(
        (told.message.topic.as_str(), told.delay),
        ("lost", Duration::from_secs(3))
    );
}

#[test]
fn subscriptions_of_a_client_come_page_by_page() {
    let mut world = World::new(BusSettings::default());
    let endpoint = world.open("c", 0, 1);
    world.subscribe(
        endpoint,
        &[
            "b",
            "a/+",
            "$share/g/a/+",
            "$queue/a/+",
            "$share/f/a/+",
            "c/#",
            "$exclusive/d",
        ],
    );
    let mut texts = Vec::new();
    let mut after = None::<String>;
    loop {
        let page = world
            .bus
            .subscriptions("c", after.as_deref(), 2)
            .expect("it is there");
        texts.extend(page.rows.iter().map(Subscription::to_text));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected = [
        "a/+",
        "$share/f/a/+",
        "$share/g/a/+",
        "$queue/a/+",
        "b",
        "c/#",
        "$exclusive/d",
    ];
    assert_eq!(texts, expected);
    // A cursor is good though its subscription is gone, or never was.
    let behind = |after| {
        let page = world.bus.subscriptions("c", Some(after), 1).expect("it is there");
        page.rows.first().map(Subscription::to_text)
    };
    assert_eq!(behind("$share/ff/a/+").as_deref(), Some("$share/g/a/+"));
    assert_eq!(behind("zzz"), None);
    assert_eq!(world.bus.subscriptions("nobody", None, 1), None);
}

#[test]
fn subscriptions_of_all_clients_come_by_client_and_filter() {
    let mut world = World::new(BusSettings::default());
    let filters = ["a", "b/+", "c/#"];
    let mut expected = Vec::new();
    // Far more clients without a subscription than one page looks at.
    for n in 0..9_000 {
        let name = format!("c{n:04}");
        let endpoint = world.open_one_of_many(&name);
        if n % 3_000 == 1 {
            world.subscribe(endpoint, &filters);
            expected.extend(filters.map(|filter| (name.clone(), filter.to_owned())));
        }
    }
    for limit in [1, 2, 3, 100] {
        let (mut found, mut after, mut pages) = (Vec::new(), None::<SubscriptionCursor>, 0);
        loop {
            let page = world.bus.all_subscriptions(after.as_ref(), limit);
            assert!(page.rows.len() <= limit);
            let rows = page.rows.iter();
            found.extend(rows.map(|row| (row.client.as_str().to_owned(), row.subscription.to_text())));
            (after, pages) = (page.next, pages + 1);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected);
        assert!(pages >= 3, "a page looks at 4,096 clients at most");
    }
}

#[test]
fn retained_messages_come_page_by_page_by_topic() {
    let mut world = World::new(BusSettings::default());
    for n in 0..5_000 {
        let message = Message {
            retain: true,
            ..Message::new(topic_of(&format!("t/{:04}/{}", n, n % 1_000)), "x")
        };
        world.bus.publish(message, NOW, &mut world.out);
    }
    for (filter, count) in [("#", 5_000), ("t/+/999", 5), ("t/0007/#", 1), ("u/#", 0)] {
        let filter = TopicFilter::try_from(filter).expect("a good filter");
        for limit in [3, 1_000] {
            let (mut found, mut after) = (Vec::new(), None::<Topic>);
            loop {
                let page = world.bus.retained(&filter, after.as_ref(), limit, NOW);
                assert!(page.rows.len() <= limit);
                found.extend(page.rows.into_iter().map(|message| message.topic.clone()));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found.len(), count);
            assert!(found.is_sorted());
        }
    }
}

#[test]
fn a_queue_comes_page_by_page_and_what_is_under_way_first() {
    let priority = |topic: &str, priority| TopicPriority {
        topic: topic.into(),
        priority,
    };
    let mut world = World::new(BusSettings {
        priorities: vec![priority("t/high", 9)],
        ..BusSettings::default()
    });
    assert_eq!(world.bus.queue("c", 0, 10), None);
    let endpoint = world.open("c", 100, 2);
    world.subscribe(endpoint, &["t/#"]);
    for topic in ["t/1", "t/2", "t/3", "t/4", "t/high"] {
        world.publish(topic, Qos::AtLeastOnce, false);
    }
    let mut topics = Vec::new();
    let mut after = Some(0);
    while let Some(behind) = after {
        let page = world.bus.queue("c", behind, 2).expect("it is there").page;
        topics.extend(
            page.rows
                .iter()
                .map(|row| (row.message.topic.to_string(), row.inflight)),
        );
        after = page.next;
    }
    let expected = [
        ("t/1", true),
        ("t/2", true),
        ("t/high", false),
        ("t/3", false),
        ("t/4", false),
    ];
    assert_eq!(
        topics,
        expected.map(|(topic, inflight)| (topic.to_owned(), inflight))
    );
    world.leave(endpoint, CloseReason::Lost);
    let queue = world.bus.queue("c", 0, 10).expect("it lasts");
    let sent: Vec<_> = queue
        .page
        .rows
        .iter()
        .map(|row| (row.sent, row.inflight))
        .collect();
    assert_eq!((sent, queue.stored), (vec![(true, false); 2], 3));
}

/// What the store could not read is gone, whoever asked for it.
#[test]
fn what_a_look_into_the_store_loses_is_counted() {
    let mut world = World::new(BusSettings::default());
    assert_eq!(world.bus.ask_for_stored("c", None, 10), None);
    let endpoint = world.open("c", 100, 0);
    world.subscribe(endpoint, &["t"]);
    world.leave(endpoint, CloseReason::Lost);
    for _ in 0..3 {
        world.publish("t", Qos::AtLeastOnce, false);
    }
    world.commit();
    let asked = world.bus.ask_for_stored("c", None, 10).expect("three wait");
    assert_eq!((asked.lane, asked.from, asked.limit.count), (0, 0, 10));
    let found = Fetched {
        next: 1,
        lost: 1,
        ..Fetched::default()
    };
    let page = world.bus.show_stored(asked, found);
    world.bus.check_gauges();
    assert_eq!(page.rows, []);
    assert_eq!(world.bus.queue("c", 0, 10).map(|queue| queue.stored), Some(2));
    assert_eq!(world.bus.stats().dropped[DropReason::Unreadable as usize], 1);
    let asked = world.bus.ask_for_stored("c", page.next, 10);
    assert_eq!(asked.map(|asked| asked.from), Some(1));
    // Whose session has ended in the meantime has no more pages.
    let asked = asked.expect("two wait");
    assert!(world.bus.remove_session("c", NOW, &mut world.out));
    assert_eq!(world.bus.show_stored(asked, Fetched::default()).next, None);
}
