//! One client, several subscriptions to one filter, told apart by its own identifier, as in STOMP 1.2, SUBSCRIBE: `id`. A message comes once, with the identifiers of
//! all that want it; each has its own retained messages and its own end.

use bytes::Bytes;
use headgate_bus::BusSettings;
use headgate_model::bus::NEVER;
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, CloseReason, MountPoint, Open, Qos, Subscription,
    SubscriptionOptions,
};
use headgate_tests::bus_bench::{BusBench, message, opening, subscription};
use std::time::Duration;

fn one_of_several(identifier: u32) -> SubscriptionOptions {
    SubscriptionOptions {
        identifier,
        by_identifier: true,
        ..SubscriptionOptions::default()
    }
}

fn unsubscribe(filter: &str, options: SubscriptionOptions) -> BusCommand {
    let raw = Bytes::copy_from_slice(filter.as_bytes());
    let parsed = Subscription::parse(&raw, options, &MountPoint::default()).unwrap();
    BusCommand::Unsubscribe {
        token: AckToken(2),
        subscriptions: vec![Admitted::of_gateway(parsed)],
    }
}

/// Payload and sorted identifiers of what a client got.
fn got(bench: &mut BusBench, client: &str) -> Vec<(String, Vec<u32>)> {
    let deliveries = bench.deliveries(client);
    let row = |delivery: headgate_model::Delivery| {
        let mut ids = delivery.subscription_ids.map_or(Vec::new(), |ids| ids.to_vec());
        ids.sort_unstable();
        let text = String::from_utf8_lossy(&delivery.message.payload).into_owned();
        (text, ids)
    };
    deliveries.into_iter().map(row).collect()
}

fn bench(clients: &[&str]) -> BusBench {
    let mut bench = BusBench::new("a", BusSettings::default());
    for client in clients {
        let credit = 1_000;
        bench.open(Open {
            credit,
            ..opening(client, None)
        });
    }
    bench
}

#[test]
fn a_message_comes_once_with_all_identifiers() {
    for filter in ["a/b", "a/+"] {
        let mut bench = bench(&["reader", "writer"]);
        for identifier in [7, 8] {
            bench.send("reader", subscription(filter, one_of_several(identifier)));
        }
        // And one as MQTT has it, which is another again.
        bench.subscribe("reader", filter);
        bench.publish("writer", message("a/b", "1", Qos::AtLeastOnce));
        assert_eq!(got(&mut bench, "reader"), [("1".to_owned(), vec![7, 8])]);
        assert_eq!(bench.bus.subscriptions("reader", None, 10).unwrap().rows.len(), 3);

        bench.send("reader", unsubscribe(filter, one_of_several(7)));
        bench.publish("writer", message("a/b", "2", Qos::AtLeastOnce));
        assert_eq!(got(&mut bench, "reader"), [("2".to_owned(), vec![8])]);

        bench.send("reader", unsubscribe(filter, one_of_several(8)));
        bench.publish("writer", message("a/b", "3", Qos::AtLeastOnce));
        assert_eq!(
            got(&mut bench, "reader"),
            [("3".to_owned(), vec![])],
            "MQTT's is left"
        );
        bench.send("reader", unsubscribe(filter, SubscriptionOptions::default()));
        bench.publish("writer", message("a/b", "4", Qos::AtLeastOnce));
        assert_eq!(got(&mut bench, "reader"), []);
        let stats = bench.bus.stats();
        assert_eq!((stats.subscriptions, stats.filters), (0, 0));
    }
}

/// The identifier of MQTT 5 §3.8.2.1.2 tells nothing apart: subscribing again replaces. \[MQTT-3.8.4-3\]
#[test]
fn an_mqtt_client_has_one_subscription_for_a_filter() {
    let mut bench = bench(&["reader", "writer"]);
    for identifier in [7, 8] {
        let options = SubscriptionOptions {
            identifier,
            ..SubscriptionOptions::default()
        };
        bench.send("reader", subscription("a", options));
    }
    bench.publish("writer", message("a", "1", Qos::AtLeastOnce));
    assert_eq!(got(&mut bench, "reader"), [("1".to_owned(), vec![8])]);
}

/// Who subscribes a second time gets what is retained for that subscription alone.
#[test]
fn each_has_its_own_retained_messages() {
    let mut bench = bench(&["reader", "writer"]);
    let mut retained = message("a", "r", Qos::AtLeastOnce);
    retained.retain = true;
    bench.publish("writer", retained);
    for identifier in [7, 8] {
        bench.send("reader", subscription("a", one_of_several(identifier)));
        assert_eq!(got(&mut bench, "reader"), [("r".to_owned(), vec![identifier])]);
    }
    // Both at once, each with its own search.
    let both = [9, 10].map(|identifier| subscription("a", one_of_several(identifier)));
    let subscriptions = both.into_iter().flat_map(|command| match command {
        BusCommand::Subscribe { subscriptions, .. } => subscriptions,
        other => panic!("{other:?}"),
    });
    let token = AckToken(3);
    let subscriptions = subscriptions.collect();
    bench.send("reader", BusCommand::Subscribe { token, subscriptions });
    bench.advance(Duration::ZERO);
    let mut heard = got(&mut bench, "reader");
    heard.sort();
    assert_eq!(heard, [("r".to_owned(), vec![9]), ("r".to_owned(), vec![10])]);
}

/// Two subscriptions of one client to one queue are two consumers of it; what one has not been sent goes to the other when it ends.
#[test]
fn each_is_a_member_of_a_group() {
    let settings = BusSettings {
        shared_strategy: headgate_bus::SharedStrategy::RoundRobin,
        ..BusSettings::default()
    };
    let mut bench = BusBench::new("a", settings);
    bench.open(Open {
        credit: 0,
        ..opening("reader", None)
    });
    bench.connect("writer");
    for identifier in [7, 8] {
        bench.send("reader", subscription("$queue/jobs", one_of_several(identifier)));
    }
    for n in ["1", "2", "3", "4"] {
        bench.publish("writer", message("jobs", n, Qos::AtLeastOnce));
    }
    bench.send("reader", unsubscribe("$queue/jobs", one_of_several(7)));
    bench.send("reader", BusCommand::credit(10));
    let mut heard = got(&mut bench, "reader");
    heard.sort();
    let all = ["1", "2", "3", "4"].map(|n| (n.to_owned(), vec![8]));
    assert_eq!(heard, all, "none is lost, none comes twice");
}

/// A durable client finds all of them again.
#[test]
fn they_survive_a_power_cut() {
    let mut bench = BusBench::new("a", BusSettings::default());
    let durable = || Open {
        clean_start: false,
        expiry: NEVER,
        ..opening("reader", None)
    };
    bench.open(durable());
    bench.subscribe("reader", "a");
    for identifier in [7, 8, 9] {
        bench.send("reader", subscription("a", one_of_several(identifier)));
    }
    bench.send("reader", unsubscribe("a", one_of_several(8)));
    bench.crash();
    bench.connect("writer");
    bench.publish("writer", message("a", "1", Qos::AtLeastOnce));
    bench.crash();
    bench.open(durable());
    assert_eq!(got(&mut bench, "reader"), [("1".to_owned(), vec![7, 9])]);
    bench.send("reader", unsubscribe("a", one_of_several(9)));
    bench.crash();
    let held = bench.bus.subscriptions("reader", None, 10).unwrap();
    let labels = held.rows.iter().map(|held| held.options.label());
    assert_eq!(labels.collect::<Vec<_>>(), [0, 7]);
}

/// A page ends between two of one filter, and the next one goes on there.
#[test]
fn pages_go_on_between_two_of_one_filter() {
    let mut bench = bench(&["reader"]);
    for identifier in 1..=5 {
        bench.send("reader", subscription("a", one_of_several(identifier)));
    }
    let (mut seen, mut after, mut all) = (Vec::new(), None, None);
    loop {
        let page = bench.bus.subscriptions("reader", after.as_deref(), 2).unwrap();
        seen.extend(page.rows.iter().map(|held| held.options.label()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    seen.clear();
    loop {
        let page = bench.bus.all_subscriptions(all.as_ref(), 2);
        seen.extend(page.rows.iter().map(|row| row.subscription.options.label()));
        all = page.next;
        if all.is_none() {
            break;
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
}

/// An exclusive subscription is the only one of its filter.
#[test]
fn an_exclusive_one_is_alone() {
    let mut bench = bench(&["reader", "other"]);
    for identifier in [7, 8] {
        bench.send("reader", subscription("$exclusive/a", one_of_several(identifier)));
    }
    assert_eq!(bench.bus.subscriptions("reader", None, 10).unwrap().rows.len(), 1);
    bench.send("other", subscription("$exclusive/a", one_of_several(7)));
    let refused = bench.events.iter().any(|(to, event)| {
        *to == bench.endpoint("other")
            && matches!(event, BusEvent::Subscribed { results, .. } if results[0].is_err())
    });
    assert!(refused);
    bench.close("reader", CloseReason::Normal);
    bench.send("other", subscription("$exclusive/a", one_of_several(7)));
    assert_eq!(bench.bus.subscriptions("other", None, 10).unwrap().rows.len(), 1);
}

/// A durable subscription of STOMP is the only one of its session: another destination replaces it, durably, and what is the same finds its retained messages known.
#[test]
fn the_only_subscription_replaces_all_others() {
    let mut bench = BusBench::new("a", BusSettings::default());
    let open = |clean_start| Open {
        clean_start,
        expiry: NEVER,
        credit: 1_000,
        ..opening("reader", None)
    };
    let only = |filter: &str, identifier| match subscription(filter, one_of_several(identifier)) {
        BusCommand::Subscribe {
            token,
            mut subscriptions,
        } => BusCommand::SubscribeOnly {
            token,
            subscription: Box::new(subscriptions.remove(0)),
        },
        other => panic!("{other:?}"),
    };
    bench.open(open(true));
    bench.connect("writer");
    for filter in ["a", "b/#"] {
        bench.subscribe("reader", filter);
    }
    bench.send("reader", only("c", 7));
    for topic in ["a", "b/1", "c"] {
        bench.publish("writer", message(topic, topic, Qos::AtLeastOnce));
    }
    assert_eq!(got(&mut bench, "reader"), [("c".to_owned(), vec![7])]);
    bench.crash();
    bench.open(open(false));
    bench.connect("writer");
    let rows = bench.bus.subscriptions("reader", None, 10).unwrap().rows;
    assert_eq!(rows.len(), 1, "as it was acknowledged");
    bench.send("reader", only("$exclusive/c", 7));
    bench.connect("other");
    bench.subscribe("other", "b");
    bench.send("other", only("$exclusive/c", 1));
    bench.publish("writer", message("b", "still", Qos::AtLeastOnce));
    assert_eq!(
        got(&mut bench, "other"),
        [("still".to_owned(), vec![])],
        "refused, so nothing changed"
    );
}
