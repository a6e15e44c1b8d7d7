//! The bus as it is driven: threads, mailboxes, commits. What the bus decides is tested without any of this.

#![cfg(feature = "handle")]

use headgate_bus::handle::{Call, Clock, Group, Hub, Port};
use headgate_bus::{Bus, BusSettings, MAX_REQUEST, Notice};
use headgate_model::bus::{NEVER, Outcome, Presence, Refusal};
use headgate_model::message::Properties;
use headgate_model::store::{FetchLimit, Fetched};
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, CloseReason, Entrant, Message, MountPoint, Open, Qos,
    SessionId, SessionKey, Settlement, Store, StoreError, StoreImage, StoreOp, Subscription,
    SubscriptionOptions, Topic,
};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A store that commits when it is let, or fails when it is told to.
#[derive(Default)]
struct Gate {
    permits: Option<Receiver<()>>,
    failing: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
}

impl Store for Gate {
    fn load(&mut self) -> Result<StoreImage, StoreError> {
        Ok(StoreImage::default())
    }

    fn commit(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        if let Some(permits) = &self.permits {
            // The test is over when nobody gives permits any more.
            let _ = permits.recv();
        }
        if self.failing.load(Ordering::SeqCst) {
            return Err(StoreError::Io {
                what: "commit",
                cause: "the disk was told to fail".into(),
            });
        }
        self.committed.fetch_add(ops.len(), Ordering::SeqCst);
        Ok(())
    }

    fn fetch(&mut self, _: SessionId, _: u8, from: u64, _: FetchLimit) -> Result<Fetched, StoreError> {
        Ok(Fetched {
            next: from,
            at_end: true,
            ..Fetched::default()
        })
    }
}

fn hub(store: Gate) -> Hub {
    let clock = Clock::start();
    let bus = Bus::new(BusSettings::default(), clock.epoch(), 1).expect("defaults are good");
    Hub::start(bus, clock, Box::new(store)).expect("threads start")
}

/// Waits for the next event. A hang is a failure: the guard is far above anything that could be slow.
async fn next(port: &Port, events: &mut VecDeque<BusEvent>) -> BusEvent {
    let wait = async {
        while events.is_empty() {
            poll_fn(|cx| port.poll_call(cx)).await;
            port.take_events(events);
        }
        events.pop_front().expect("just looked at")
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("an event comes")
}

fn open(client: &str, expiry: Duration) -> BusCommand {
    BusCommand::Open(Box::new(Open {
        client: Entrant::of_gateway(client.into(), Presence::default()),
        clean_start: false,
        expiry,
        will: None.into(),
        receive_maximum: 10,
        credit: 10,
        forgeable: false,
        wants_expired: false,
        link: None,
    }))
}

fn subscribe(filter: &'static str) -> BusCommand {
    let options = SubscriptionOptions {
        qos: Qos::AtLeastOnce,
        ..SubscriptionOptions::default()
    };
    let subscription = Subscription::parse(&filter.into(), options, &MountPoint::default());
    BusCommand::Subscribe {
        token: AckToken(1),
        subscriptions: vec![Admitted::of_gateway(subscription.expect("a good filter"))],
    }
}

fn publish(topic: &str, qos: Qos) -> BusCommand {
    let message = Message {
        qos,
        ..Message::new(Topic::try_from(topic).expect("a good name"), "x")
    };
    BusCommand::Publish {
        message: Admitted::of_gateway(message),
        ack: (qos > Qos::AtMostOnce).then_some(AckToken(7)),
        dedup: None,
    }
}

/// Who asks is known when it asks; what is retained, delayed or published by a program was asked by nobody.
#[tokio::test]
async fn requests_are_told_with_who_published_them() {
    let hub = hub(Gate::default());
    let requests = hub.requests(Topic::try_from("gate/request").unwrap(), |_| true);
    let client = hub.attach();
    let mut events = VecDeque::new();
    let BusCommand::Open(mut opened) = open("c", Duration::ZERO) else {
        unreachable!()
    };
    opened.client = Entrant::of_gateway(
        "c".into(),
        Presence {
            username: Some("fleet".into()),
            ..Presence::default()
        },
    );
    client.submit(&mut vec![
        BusCommand::Open(opened),
        publish("$delayed/0/gate/request", Qos::AtMostOnce),
        publish("gate/other", Qos::AtMostOnce),
        publish("gate/request", Qos::AtLeastOnce),
    ]);
    assert!(matches!(
        next(&client, &mut events).await,
        BusEvent::Opened { .. }
    ));
    assert_eq!(
        next(&client, &mut events).await,
        BusEvent::Accepted(AckToken(7), Outcome::Matched),
        "somebody has it"
    );
    let message = Message::new(Topic::try_from("gate/request").unwrap(), "of a program");
    let _ = within(hub.publish(Admitted::of_gateway(message))).await;
    // It is told who it was, although it has gone.
    client.submit(&mut vec![close(CloseReason::Normal)]);
    let request = within(requests.next()).await;
    assert_eq!(request.client.as_str(), "c");
    assert_eq!(request.who.username.as_deref(), Some("fleet"));
    assert_eq!((&request.payload[..], request.is_bridge), (&b"x"[..], false));
    client.submit(&mut vec![
        open("c", Duration::ZERO),
        publish("gate/request", Qos::AtMostOnce),
    ]);
    let request = within(requests.next()).await;
    assert_eq!(request.who.username, None, "nothing came in between");

    // The next one who takes them has them alone, and then nobody.
    let others = hub.requests(Topic::try_from("gate/other").unwrap(), |_| true);
    drop(requests);
    client.submit(&mut vec![publish("gate/other", Qos::AtMostOnce)]);
    assert_eq!(&within(others.next()).await.payload[..], b"x");
    client.submit(&mut (0..40).map(|_| publish("gate/other", Qos::AtMostOnce)).collect());
    assert_eq!(others.dropped(), 8, "more than may wait");
    drop(others);
    client.submit(&mut vec![publish("gate/other", Qos::AtLeastOnce)]);
    let told = loop {
        match next(&client, &mut events).await {
            BusEvent::Accepted(_, outcome) => break outcome,
            _ => continue,
        }
    };
    assert_eq!(told, Outcome::NoSubscribers);
}

/// Who is not named takes no place of who is, and waits until all of those are told.
#[tokio::test]
async fn strangers_displace_no_request_of_who_is_named() {
    let hub = hub(Gate::default());
    let at = Topic::try_from("gate/request").unwrap();
    let requests = hub.requests(at, |request| request.client.as_str() == "named");
    let (stranger, named) = (hub.attach(), hub.attach());
    let many = |n| (0..n).map(|_| publish("gate/request", Qos::AtMostOnce));
    stranger.submit(
        &mut [open("stranger", Duration::ZERO)]
            .into_iter()
            .chain(many(100))
            .collect(),
    );
    assert_eq!(requests.dropped(), 96, "they have four places");
    named.submit(
        &mut [open("named", Duration::ZERO)]
            .into_iter()
            .chain(many(32))
            .collect(),
    );
    stranger.submit(&mut many(1).collect());
    assert_eq!(requests.dropped(), 97);
    for n in 0..36 {
        let client = within(requests.next()).await.client;
        assert_eq!(client.as_str() == "named", n < 32, "{n}");
    }
}

/// What is longer than a request may be comes without what was said, so that it can be answered and takes no room.
#[tokio::test]
async fn a_request_that_is_too_long_comes_without_its_words() {
    let hub = hub(Gate::default());
    let requests = hub.requests(Topic::try_from("gate/request").unwrap(), |_| true);
    let client = hub.attach();
    let said = |length: usize| BusCommand::Publish {
        message: Admitted::of_gateway(Message {
            retain: true,
            properties: Some(Box::new(Properties {
                response_topic: Some("mine".into()),
                ..Properties::default()
            })),
            ..Message::new(Topic::try_from("gate/request").unwrap(), vec![b'x'; length])
        }),
        ack: None,
        dedup: None,
    };
    client.submit(&mut vec![
        open("c", Duration::ZERO),
        said(MAX_REQUEST - 4),
        said(MAX_REQUEST),
    ]);
    let request = within(requests.next()).await;
    assert_eq!(
        (request.payload.len(), request.is_too_long),
        (MAX_REQUEST - 4, false)
    );
    assert!(request.retain);
    let request = within(requests.next()).await;
    assert_eq!((request.payload.len(), request.is_too_long), (0, true));
    assert_eq!(request.response_topic.as_deref(), Some(&b"mine"[..]));
}

#[tokio::test]
async fn a_message_goes_from_one_port_to_another() {
    let hub = hub(Gate::default());
    let (a, b) = (hub.attach(), hub.attach());
    let (mut for_a, mut for_b) = (VecDeque::new(), VecDeque::new());
    b.submit(&mut vec![open("b", Duration::ZERO), subscribe("t/#")]);
    assert!(matches!(
        next(&b, &mut for_b).await,
        BusEvent::Opened { present: false, .. }
    ));
    assert!(matches!(next(&b, &mut for_b).await, BusEvent::Subscribed { .. }));
    a.submit(&mut vec![
        open("a", Duration::ZERO),
        publish("t/1", Qos::AtLeastOnce),
    ]);
    assert!(matches!(
        next(&a, &mut for_a).await,
        BusEvent::Opened { present: false, .. }
    ));
    assert_eq!(
        next(&a, &mut for_a).await,
        BusEvent::Accepted(AckToken(7), Outcome::Matched)
    );
    let BusEvent::Delivery(delivery) = next(&b, &mut for_b).await else {
        panic!("a delivery")
    };
    assert_eq!(delivery.message.topic.as_str(), "t/1");
    hub.stop();
}

/// What operators may do with a link from any thread: look into its ledger, empty its queue, and end its session for good.
#[tokio::test]
async fn operators_have_a_hand_on_links() {
    let hub = hub(Gate::default());
    let (device, bridge) = (hub.attach(), hub.attach());
    let mut events = VecDeque::new();
    let BusCommand::Open(mut opening) = open("$bridge/cloud", NEVER) else {
        unreachable!("it opens")
    };
    opening.link = Some(Box::default());
    let opening = BusCommand::Open(opening);
    let close = BusCommand::Close {
        reason: CloseReason::Normal,
        expiry: None,
    };
    // Before it was ever connected: it is defined, with all it wants, in one turn.
    bridge.submit(&mut vec![opening.clone(), subscribe("t"), close]);
    device.submit(&mut vec![
        open("a", Duration::ZERO),
        publish("t", Qos::AtLeastOnce),
    ]);
    while next(&device, &mut events).await != BusEvent::Accepted(AckToken(7), Outcome::Matched) {}
    let report = hub.link_report("$bridge/cloud").expect("it is a link");
    assert_eq!(
        (report.queued, report.connected, report.balances()),
        (1, false, true)
    );
    assert_eq!(hub.link_report("a"), None);
    assert_eq!(hub.flush("$bridge/cloud"), Some(1));
    assert_eq!(
        hub.link_report("$bridge/cloud").map(|report| report.queued),
        Some(0)
    );

    bridge.submit(&mut vec![opening]);
    events.clear();
    assert!(hub.remove_session("$bridge/cloud"));
    while next(&bridge, &mut events).await != BusEvent::Kicked {}
    assert!(!hub.remove_session("$bridge/cloud"));
    assert_eq!(hub.stats().sessions, 1);
    hub.stop();
}

/// The acknowledgement waits for the commit, and a commit that fails refuses.
#[tokio::test]
async fn acknowledgements_wait_for_the_store() {
    let (permit, permits): (Sender<()>, _) = channel();
    let failing = Arc::new(AtomicBool::new(false));
    let hub = hub(Gate {
        permits: Some(permits),
        failing: Arc::clone(&failing),
        ..Gate::default()
    });
    let port = hub.attach();
    let mut events = VecDeque::new();
    port.submit(&mut vec![open("durable", NEVER)]);
    port.take_events(&mut events);
    assert_eq!(events, [], "nothing is promised before it is durable");
    permit.send(()).unwrap();
    assert!(matches!(
        next(&port, &mut events).await,
        BusEvent::Opened { present: false, .. }
    ));
    port.submit(&mut vec![subscribe("t")]);
    permit.send(()).unwrap();
    assert!(matches!(
        next(&port, &mut events).await,
        BusEvent::Subscribed { .. }
    ));

    failing.store(true, Ordering::SeqCst);
    port.submit(&mut vec![publish("t", Qos::AtLeastOnce)]);
    assert!(
        matches!(next(&port, &mut events).await, BusEvent::Delivery(_)),
        "QoS 1 need not wait to be delivered"
    );
    permit.send(()).unwrap();
    assert_eq!(
        next(&port, &mut events).await,
        BusEvent::Refused(AckToken(7), Refusal::StoreFailed)
    );
    assert!(hub.is_failing());
    drop(permit);
    hub.stop();
}

/// What could not be written is not forgotten: the bus goes on with it, so it is written as soon as the store takes it.
#[tokio::test]
async fn a_store_that_recovers_gets_what_it_missed() {
    let (failing, committed) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let hub = hub(Gate {
        failing: Arc::clone(&failing),
        committed: Arc::clone(&committed),
        ..Gate::default()
    });
    let port = hub.attach();
    let mut events = VecDeque::new();
    port.submit(&mut vec![open("durable", NEVER)]);
    assert_eq!(
        next(&port, &mut events).await,
        BusEvent::Kicked,
        "its session cannot be promised"
    );
    assert!(hub.is_failing());
    failing.store(false, Ordering::SeqCst);
    let recovered = async {
        while hub.is_failing() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), recovered)
        .await
        .expect("it is tried again by itself");
    assert!(
        committed.load(Ordering::SeqCst) >= 2,
        "the session as it was opened and as it was left"
    );
    hub.stop();
}

#[tokio::test]
async fn what_is_due_happens_by_itself() {
    let hub = hub(Gate::default());
    let port = hub.attach();
    let mut events = VecDeque::new();
    port.submit(&mut vec![
        open("c", Duration::ZERO),
        subscribe("t"),
        publish("$delayed/1/t", Qos::AtMostOnce),
    ]);
    assert!(matches!(
        next(&port, &mut events).await,
        BusEvent::Opened { present: false, .. }
    ));
    assert!(matches!(
        next(&port, &mut events).await,
        BusEvent::Subscribed { .. }
    ));
    assert!(matches!(next(&port, &mut events).await, BusEvent::Delivery(_)));
    hub.stop();
}

/// A port that is dropped leaves the bus; its place may be taken by another, which hears nothing of the first.
#[tokio::test]
async fn a_dropped_port_is_a_lost_client() {
    let hub = hub(Gate::default());
    let port = hub.attach();
    port.submit(&mut vec![open("c", Duration::ZERO), subscribe("t")]);
    assert_eq!(hub.stats().clients, 1);
    drop(port);
    assert_eq!((hub.stats().clients, hub.stats().sessions), (0, 0));
    let other = hub.attach();
    let mut events = VecDeque::new();
    other.submit(&mut vec![publish("t", Qos::AtMostOnce)]);
    other.take_events(&mut events);
    assert_eq!(events, []);
    hub.stop();
}

/// What waits for the disk has a bound: publishers are stopped, and go on when it has caught up.
#[tokio::test]
async fn a_slow_store_stops_publishers() {
    let (permit, permits): (Sender<()>, _) = channel();
    let hub = hub(Gate {
        permits: Some(permits),
        ..Gate::default()
    });
    let port = hub.attach();
    let retained = |n: usize| BusCommand::Publish {
        message: Admitted::of_gateway(Message {
            retain: true,
            ..Message::new(Topic::try_from(format!("t/{n}").as_str()).unwrap(), "x")
        }),
        ack: None,
        dedup: None,
    };
    port.submit(&mut vec![open("c", Duration::ZERO)]);
    port.submit(&mut (0..20_000).map(retained).collect());
    assert!(!hub.is_caught_up());
    assert_eq!(
        hub.poll_caught_up(&Context::from_waker(Waker::noop())),
        Poll::Pending
    );
    drop(permit);
    tokio::time::timeout(Duration::from_secs(30), poll_fn(|cx| hub.poll_caught_up(cx)))
        .await
        .expect("it catches up");
    hub.stop();
}

#[tokio::test]
async fn a_stop_commits_what_is_left() {
    let committed = Arc::new(AtomicUsize::new(0));
    let hub = hub(Gate {
        committed: Arc::clone(&committed),
        ..Gate::default()
    });
    let port = hub.attach();
    port.submit(&mut vec![open("durable", NEVER), subscribe("t")]);
    hub.stop();
    assert!(
        committed.load(Ordering::SeqCst) >= 2,
        "the session and its subscription"
    );
}

/// Whoever watches gets what happens from then on, in order, and may call the hub; and is told when the hub has stopped.
#[tokio::test]
async fn notices_come_to_every_watcher() {
    let hub = hub(Gate::default());
    let port = hub.attach();
    port.submit(&mut vec![open("early", Duration::ZERO)]);
    let mut watchers = [hub.notices(10), hub.notices(10)];
    let other = hub.attach();
    other.submit(&mut vec![open("c", Duration::ZERO), close(CloseReason::Normal)]);
    for watcher in &mut watchers {
        let Some(Notice::Connected { client, .. }) = watcher.next().await else {
            panic!("it is connected")
        };
        assert_eq!((client.as_str(), hub.stats().clients), ("c", 1));
        let Some(Notice::Disconnected { client, .. }) = watcher.next().await else {
            panic!("it has left")
        };
        assert_eq!(client.as_str(), "c");
    }
    let [mut left, gone] = watchers;
    drop(gone);
    let waiting = tokio::spawn(async move { left.next().await });
    hub.stop();
    assert_eq!(waiting.await.unwrap(), None);
    assert_eq!(hub.dropped_notices(), 0);
}

/// A watcher that is too slow holds nobody up: it loses what it has no room for, and that is counted.
#[tokio::test]
async fn notices_without_room_are_counted() {
    let hub = hub(Gate::default());
    let (mut slow, mut quick) = (hub.notices(3), hub.notices(100));
    let port = hub.attach();
    for _ in 0..5 {
        port.submit(&mut vec![open("c", Duration::ZERO), close(CloseReason::Normal)]);
    }
    assert_eq!(hub.dropped_notices(), 7);
    for _ in 0..3 {
        assert!(slow.next().await.is_some());
    }
    for _ in 0..10 {
        assert!(quick.next().await.is_some());
    }
    // What comes when there is room again is not lost.
    port.submit(&mut vec![open("d", Duration::ZERO)]);
    assert!(matches!(slow.next().await, Some(Notice::Connected { client, .. }) if client.as_str() == "d"));
    // Nobody counts what a watcher does not get that has gone.
    drop(slow);
    for _ in 0..5 {
        port.submit(&mut vec![close(CloseReason::Normal), open("d", Duration::ZERO)]);
    }
    assert_eq!(hub.dropped_notices(), 7);
    hub.stop();
}

fn message(topic: &str, qos: Qos) -> Message {
    Message {
        qos,
        ..Message::new(Topic::try_from(topic).expect("a good name"), "x")
    }
}

/// A hang is a failure, as in [`next`].
async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("it comes back")
}

/// Whoever publishes by way of the hub is answered as a client would be: after the commit, or with the reason why not.
#[tokio::test]
async fn the_hub_answers_when_a_message_is_safe() {
    let (permit, permits): (Sender<()>, _) = channel();
    let (failing, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let hub = hub(Gate {
        permits: Some(permits),
        failing: Arc::clone(&failing),
        committed: Arc::clone(&committed),
    });
    assert_eq!(
        within(hub.publish(Admitted::of_gateway(message("nobody", Qos::AtLeastOnce)))).await,
        Ok(Outcome::NoSubscribers),
        "nothing is to be kept"
    );
    let port = hub.attach();
    let mut events = VecDeque::new();
    for command in [open("durable", NEVER), subscribe("t")] {
        port.submit(&mut vec![command]);
        permit.send(()).unwrap();
        next(&port, &mut events).await;
    }
    let before = committed.load(Ordering::SeqCst);
    port.submit(&mut vec![close(CloseReason::Lost)]);
    permit.send(()).unwrap();
    within(async {
        while committed.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut waiting = Box::pin(hub.publish(Admitted::of_gateway(message("t", Qos::AtLeastOnce))));
    let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(early.is_err(), "the disk has not said yes");
    permit.send(()).unwrap();
    assert_eq!(within(waiting).await, Ok(Outcome::Matched));
    assert_eq!(hub.stats().queued, 1);
    let invalid = within(hub.publish(Admitted::of_gateway(message("$delayed/x/t", Qos::AtLeastOnce)))).await;
    assert_eq!(invalid, Err(Refusal::TopicInvalid));
    failing.store(true, Ordering::SeqCst);
    permit.send(()).unwrap();
    let lost = within(hub.publish(Admitted::of_gateway(message("t", Qos::AtLeastOnce)))).await;
    assert_eq!(lost, Err(Refusal::StoreFailed));
    let full = within(hub.publish(Admitted::of_gateway(message("t", Qos::AtLeastOnce)))).await;
    assert_eq!(full, Err(Refusal::StoreFull), "until it takes commits again");
    drop(permit);
    hub.stop();
}

/// What waits for an answer has a bound, also when whoever asked is gone; and a hub that stops leaves nobody waiting.
#[tokio::test]
async fn as_many_wait_for_the_hub_as_may() {
    let (permit, permits): (Sender<()>, _) = channel();
    let hub = hub(Gate {
        permits: Some(permits),
        ..Gate::default()
    });
    let retained = |n: usize| Message {
        retain: true,
        ..message(&format!("t/{n}"), Qos::AtMostOnce)
    };
    for n in 0..4_095 {
        let mut asked = Box::pin(hub.publish(Admitted::of_gateway(retained(n))));
        let polled = poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx).is_pending())).await;
        assert!(polled, "{n}: it waits for the disk");
    }
    let last = tokio::spawn({
        let (hub, message) = (hub.clone(), retained(4_095));
        async move { hub.publish(Admitted::of_gateway(message)).await }
    });
    within(async {
        while hub.stats().retained < 4_096 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let one_more = within(hub.publish(Admitted::of_gateway(retained(0)))).await;
    assert_eq!(one_more, Err(Refusal::QuotaExceeded));
    drop(permit);
    assert_eq!(within(last).await.unwrap(), Ok(Outcome::NoSubscribers));
    let again = within(hub.publish(Admitted::of_gateway(retained(0)))).await;
    assert_eq!(again, Ok(Outcome::NoSubscribers));
    hub.stop();
    let late = within(hub.publish(Admitted::of_gateway(message("t", Qos::AtMostOnce)))).await;
    assert_eq!(late, Err(Refusal::StoreFailed));
}

fn key(index: u32, generation: u32) -> SessionKey {
    SessionKey { index, generation }
}

fn close(reason: CloseReason) -> BusCommand {
    let expiry = None;
    BusCommand::Close { reason, expiry }
}

/// Waits for the next event of a group. A hang is a failure, as in [`next`].
async fn next_of(group: &Group, events: &mut VecDeque<(SessionKey, BusEvent)>) -> (SessionKey, BusEvent) {
    let wait = async {
        while events.is_empty() {
            poll_fn(|cx| group.poll_call(cx)).await;
            group.take_events(events);
        }
        events.pop_front().expect("just looked at")
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("an event comes")
}

#[tokio::test]
async fn a_group_has_one_mailbox_for_all_its_endpoints() {
    let hub = hub(Gate::default());
    let mut group = hub.group();
    let (a, b) = (key(7, 3), key(0, 0));
    group.submit(&mut vec![
        (a, open("a", Duration::ZERO)),
        (b, open("b", Duration::ZERO)),
        (b, subscribe("t/#")),
        (a, publish("t/1", Qos::AtLeastOnce)),
    ]);
    let mut events = VecDeque::new();
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(next_of(&group, &mut events).await);
    }
    let of = |who: SessionKey| -> Vec<&BusEvent> {
        let events = seen.iter().filter(|(key, _)| *key == who);
        events.map(|(_, event)| event).collect()
    };
    assert!(
        matches!(
            of(a)[..],
            [
                BusEvent::Opened { .. },
                BusEvent::Accepted(AckToken(7), Outcome::Matched)
            ]
        ),
        "{seen:?}"
    );
    assert!(
        matches!(
            of(b)[..],
            [
                BusEvent::Opened { .. },
                BusEvent::Subscribed { .. },
                BusEvent::Delivery(_)
            ]
        ),
        "{seen:?}"
    );
    hub.stop();
}

/// An answer and the settlement of what it answers are in one commit, so no turn ends between the two.
#[test]
fn a_turn_does_not_end_between_an_answer_and_its_settlement() {
    let hub = hub(Gate::default());
    let mut group = hub.group();
    let who = key(0, 0);
    group.submit(&mut vec![(who, open("who", Duration::ZERO))]);
    let settled = || BusCommand::Settle(std::num::NonZeroU16::MIN, Settlement::Done);
    let mut commands = Vec::new();
    for n in 0..100_000 {
        commands.extend([publish("t", Qos::AtMostOnce), settled()].map(|command| (who, command)));
        // Turns end in all places.
        commands.extend((0..n % 7 % 3).map(|_| (who, BusCommand::credit(1))));
    }
    let mut turns = 1;
    while !group.submit_some(&mut commands) {
        assert!(!matches!(commands[0].1, BusCommand::Settle(..)), "turn {turns}");
        turns += 1;
    }
    assert!(turns > 3, "{turns} turns");
    hub.stop();
}

/// What the bus had to say to an endpoint that left is not heard by the next one of its place, nor are the commands of one taken for the other's.
#[tokio::test]
async fn a_place_in_a_group_that_is_used_again_is_another_endpoint() {
    let hub = hub(Gate::default());
    let mut group = hub.group();
    let (old, new) = (key(0, 0), key(0, 1));
    group.submit(&mut vec![
        (old, open("old", Duration::ZERO)),
        (old, subscribe("t")),
        (old, publish("t", Qos::AtLeastOnce)),
    ]);
    group.submit(&mut vec![
        (old, close(CloseReason::Normal)),
        (old, publish("t", Qos::AtLeastOnce)),
        (new, open("new", Duration::ZERO)),
        (old, close(CloseReason::Normal)),
    ]);
    let mut events = VecDeque::new();
    group.take_events(&mut events);
    assert!(
        matches!(events.make_contiguous(), [(to, BusEvent::Opened { present: false, .. })] if *to == new),
        "{events:?}"
    );
    assert_eq!(hub.stats().clients, 1);
    hub.stop();
}

/// Without an Open there is no endpoint, and whoever is not there is not answered.
#[tokio::test]
async fn commands_of_nobody_are_ignored() {
    let hub = hub(Gate::default());
    let mut group = hub.group();
    group.submit(&mut vec![
        (key(5, 0), publish("t", Qos::AtLeastOnce)),
        (key(5, 0), close(CloseReason::Normal)),
    ]);
    let mut events = VecDeque::new();
    group.take_events(&mut events);
    assert_eq!(events, []);
    hub.stop();
}

/// A second Open of a place: the server has forgotten who was there.
#[tokio::test]
async fn who_is_forgotten_is_lost() {
    let hub = hub(Gate::default());
    let mut group = hub.group();
    group.submit(&mut vec![
        (key(0, 0), open("a", Duration::ZERO)),
        (key(0, 1), open("b", Duration::ZERO)),
    ]);
    assert_eq!((hub.stats().clients, hub.stats().sessions), (1, 1));
    hub.stop();
}

/// More than go into one turn.
#[tokio::test]
async fn a_dropped_group_is_lost_with_all_its_clients() {
    let hub = hub(Gate::default());
    let mut group = hub.group();
    let clients = (0..1_000).map(|n| (key(n, 0), open(&format!("c{n}"), Duration::ZERO)));
    group.submit(&mut clients.collect());
    assert_eq!(hub.stats().clients, 1_000);
    drop(group);
    assert_eq!((hub.stats().clients, hub.stats().sessions), (0, 0));
    let mut next = hub.group();
    next.submit(&mut vec![(key(0, 0), publish("t", Qos::AtLeastOnce))]);
    let mut events = VecDeque::new();
    next.take_events(&mut events);
    assert_eq!(events, [], "its places are free, its numbers are not");
    hub.stop();
}

/// A server of many clients sets its alarm anew all the time: the one before is void, however many there were.
#[tokio::test]
async fn an_alarm_rings_once_however_often_it_was_set() {
    let hub = hub(Gate::default());
    let port = hub.attach();
    let soon = hub.clock().now() + Duration::from_millis(100);
    for n in (1..10_000).rev() {
        port.wake_at(soon + Duration::from_secs(n));
    }
    port.wake_at(soon + Duration::from_millis(50));
    port.wake_at(soon);
    let call = tokio::time::timeout(Duration::from_secs(30), poll_fn(|cx| port.poll_call(cx)));
    assert_eq!(call.await.expect("it rings"), Call::Alarm);
    assert!(hub.clock().now() >= soon, "not before its time");
    let again = tokio::time::timeout(Duration::from_millis(200), poll_fn(|cx| port.poll_call(cx)));
    assert!(again.await.is_err(), "the one at 50 ms is void");
    hub.stop();
}

#[tokio::test]
async fn a_group_is_woken_by_its_alarm_and_to_say_goodbye() {
    let hub = hub(Gate::default());
    let group = hub.group();
    group.wake_at(hub.clock().now() + Duration::from_millis(1));
    let call = tokio::time::timeout(Duration::from_secs(30), poll_fn(|cx| group.poll_call(cx)));
    assert_eq!(call.await.expect("it rings"), Call::Alarm);
    let goodbye = poll_fn(|cx| match group.poll_call(cx) {
        Poll::Pending if hub.says_goodbye() => Poll::Ready(()),
        other => other.map(|call| panic!("{call:?}")),
    });
    let waiting = tokio::join!(tokio::time::timeout(Duration::from_secs(30), goodbye), async {
        hub.say_goodbye();
    });
    waiting.0.expect("it is woken");
    hub.stop();
}
