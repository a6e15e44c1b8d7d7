//! The hub over a real store: what waits for a client is shown wherever it waits.

use bytes::Bytes;
use headgate_bus::handle::{Clock, Hub, Port};
use headgate_bus::{Bus, BusSettings, MAX_PAGE, Page, StoredCursor, TopicPriority};
use headgate_model::bus::Presence;
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, CloseReason, Entrant, Message, MountPoint, Open, Qos,
    Subscription, SubscriptionOptions, Topic,
};
use headgate_store::{Disk, SimStore};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::Duration;

fn hub() -> Hub {
    let clock = Clock::start();
    let settings = BusSettings {
        priorities: vec![TopicPriority {
            topic: "t/high/#".into(),
            priority: 9,
        }],
        max_queued_messages: 10_000,
        ..BusSettings::default()
    };
    let bus = Bus::new(settings, clock.epoch(), 1).expect("good settings");
    let store = Box::new(SimStore::open(&Disk::default()));
    Hub::start(bus, clock, store).expect("threads start")
}

/// Does what a client wants and waits for the answer. A hang is a failure: the guard is far above anything that could be slow.
async fn ask(port: &Port, command: BusCommand) {
    port.submit(&mut vec![command]);
    let mut events = VecDeque::new();
    let answered = |event: &BusEvent| matches!(event, BusEvent::Opened { .. } | BusEvent::Subscribed { .. });
    let wait = async {
        while !events.iter().any(answered) {
            poll_fn(|cx| port.poll_call(cx)).await;
            port.take_events(&mut events);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("it is answered");
}

fn open(credit: u32) -> BusCommand {
    BusCommand::Open(Box::new(Open {
        client: Entrant::of_gateway("c".into(), Presence::default()),
        clean_start: false,
        expiry: Duration::from_secs(1_000),
        will: None.into(),
        receive_maximum: 10,
        credit,
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
    let filter = Bytes::from_static(filter.as_bytes());
    let parsed = Subscription::parse(&filter, options, &MountPoint::default());
    BusCommand::Subscribe {
        token: AckToken(1),
        subscriptions: vec![Admitted::of_gateway(parsed.expect("a good filter"))],
    }
}

fn message(topic: String) -> Message {
    Message {
        qos: Qos::AtLeastOnce,
        ..Message::new(Topic::try_from(topic.as_str()).expect("a good name"), "x")
    }
}

/// Topics of all that waits in the store alone, page by page.
async fn stored(hub: &Hub, limit: usize) -> Vec<String> {
    let (mut topics, mut after) = (Vec::new(), None::<StoredCursor>);
    loop {
        let Page { rows, next } = hub
            .stored_queue("c", after, limit)
            .await
            .expect("the store works");
        assert!(rows.len() <= limit && rows.iter().all(|row| !row.inflight && !row.sent));
        topics.extend(rows.iter().map(|row| row.message.topic.to_string()));
        after = next;
        if after.is_none() {
            return topics;
        }
    }
}

#[tokio::test]
async fn what_waits_in_the_store_is_shown_page_by_page() {
    let hub = hub();
    assert_eq!(hub.queue("c", 0, 10), None);
    assert_eq!(stored(&hub, 10).await, [""; 0]);
    let port = hub.attach();
    ask(&port, open(1)).await;
    ask(&port, subscribe("t/#")).await;
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for n in 0..300 {
        let (low_topic, high_topic) = (format!("t/low/{n}"), format!("t/high/{n}"));
        hub.publish_now(message(low_topic.clone()));
        hub.publish_now(message(high_topic.clone()));
        low.push(low_topic);
        high.push(high_topic);
    }
    let sent = low.remove(0);
    let reason = CloseReason::Lost;
    port.submit(&mut vec![BusCommand::Close { reason, expiry: None }]);
    let in_memory = hub.queue("c", 0, MAX_PAGE).expect("it lasts");
    let rows = in_memory.page.rows.iter();
    let shown: Vec<_> = rows
        .map(|row| (row.message.topic.to_string(), row.sent))
        .collect();
    assert_eq!(shown, [(sent, true)], "it must be sent again");
    assert_eq!(in_memory.stored, 599);
    let expected = [high, low].concat();
    for limit in [7, 250, MAX_PAGE] {
        assert_eq!(stored(&hub, limit).await, expected);
    }
    // Nothing was taken by looking.
    let info = hub.session("c").expect("it lasts");
    assert_eq!((info.client.queued, info.stored), (600, 599));
    hub.stop();
    assert!(hub.stored_queue("c", None, 1).await.is_err());
}

/// Several messages are answered one by one and in their order, though there are more than wait at a time.
#[tokio::test]
async fn messages_that_are_published_together_keep_their_order() {
    let hub = hub();
    let port = hub.attach();
    ask(&port, open(1_000)).await;
    ask(&port, subscribe("t/#")).await;
    let topics: Vec<String> = (0..600).map(|n| format!("t/{n}")).collect();
    let wrong = message("$delayed/never/t".into());
    let mut messages: Vec<Message> = topics.iter().map(|topic| message(topic.clone())).collect();
    messages.insert(300, wrong);
    let answers = hub
        .publish_each(messages.into_iter().map(Admitted::of_gateway))
        .await;
    assert_eq!(answers.len(), 601);
    assert!(
        answers[300].is_err(),
        "what is wrong with one is told of that one"
    );
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 600);
    let (mut waiting, mut after) = (Vec::new(), Some(0));
    while let Some(from) = after {
        let queue = hub.queue("c", from, MAX_PAGE).expect("it has a session");
        waiting.extend(queue.page.rows.iter().map(|row| row.message.topic.to_string()));
        after = queue.page.next;
    }
    waiting.extend(stored(&hub, MAX_PAGE).await);
    assert_eq!(waiting, topics);
}

#[tokio::test]
async fn a_filter_is_there_while_somebody_has_it() {
    let hub = hub();
    let port = hub.attach();
    ask(&port, open(1)).await;
    ask(&port, subscribe("$share/g/t/+")).await;
    let has =
        |filter: &str| hub.has_filter(&headgate_model::TopicFilter::try_from(filter).expect("a filter"));
    assert!(has("t/+"));
    assert!(
        !has("t/1") && !has("t/#"),
        "this very filter is meant, not what it matches"
    );
    hub.remove_session("c");
    assert!(!has("t/+"));
}
