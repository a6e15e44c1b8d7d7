//! SUBSCRIBE, UNSUBSCRIBE and MESSAGE. STOMP 1.2, SUBSCRIBE; UNSUBSCRIBE; MESSAGE

mod bench;

use bench::{Bench, properties};
use headgate_model::{AccessDecision, Action, Qos};

/// STOMP 1.2, SUBSCRIBE id Header: several to one destination, each with MESSAGEs of its own, and its own end.
#[test]
fn each_subscription_gets_its_own_message() {
    let mut bench = Bench::new();
    bench.connect("a");
    for id in ["one", "two"] {
        bench.subscribe("a", &format!("id:{id}\ndestination:t"));
    }
    bench.subscribe("a", "id:three\ndestination:t\nack:client");
    bench.deliver("t", "x", Qos::AtLeastOnce);
    let mut heard = bench.heard("a");
    heard.sort();
    assert_eq!(heard, ["MESSAGE one t x", "MESSAGE three t x", "MESSAGE two t x"]);
    bench.send("a", "UNSUBSCRIBE\nid:one\n\n");
    bench.deliver("t", "y", Qos::AtLeastOnce);
    let mut heard = bench.heard("a");
    heard.sort();
    assert_eq!(heard, ["MESSAGE three t y", "MESSAGE two t y"]);
}

/// STOMP 1.0, SUBSCRIBE: the id is optional, and then it ends by its destination and its messages name none.
#[test]
fn version_1_0_may_do_without_an_id() {
    let mut bench = Bench::new();
    bench.connect_as("a", "login:x");
    bench.send("a", "SUBSCRIBE\ndestination: t\n\n");
    bench.deliver("t", "x", Qos::AtLeastOnce);
    assert_eq!(bench.heard("a"), ["MESSAGE - t x"]);
    bench.exchange("a", "UNSUBSCRIBE\ndestination: t\nreceipt:1\n\n", &["RECEIPT 1"]);
    bench.deliver("t", "y", Qos::AtLeastOnce);
    assert_eq!(bench.heard("a"), [""; 0]);
    bench.connect("b");
    bench.exchange(
        "b",
        "SUBSCRIBE\ndestination:t\n\n",
        &["ERROR the header id is missing"],
    );
}

/// Wildcards are those of MQTT, and MESSAGE says the real topic.
#[test]
fn a_wildcard_delivers_the_real_topic() {
    let mut bench = Bench::new();
    bench.connect("a");
    bench.subscribe("a", "id:0\ndestination:/plant/+/valve");
    bench.deliver("/plant/7/valve", "open", Qos::AtMostOnce);
    assert_eq!(bench.heard("a"), ["MESSAGE 0 /plant/7/valve open"]);
}

/// `default_qos` of the listener goes before `stomp.send_qos` and `stomp.subscribe_qos`, and the header before both.
#[test]
fn a_listener_says_the_qos_of_what_says_none() {
    let mut bench = Bench::new();
    bench.default_qos = Some(Qos::AtMostOnce);
    bench.connect("a");
    bench.subscribe("a", "id:0\ndestination:t\nqos:2");
    bench.send("a", "SEND\ndestination:t\n\n0\0SEND\ndestination:t\nqos:1\n\n1");
    assert_eq!(bench.heard("a"), ["MESSAGE 0 t 0", "MESSAGE 0 t 1"]);
    assert_eq!(
        (bench.metrics["Qos0Received"], bench.metrics["Qos1Received"]),
        (1, 1)
    );
}

/// What a client wants that cannot be is told, and ends the connection. STOMP 1.2, ERROR
#[test]
fn a_bad_subscription_is_refused() {
    for (headers, why) in [
        (
            "id:0\ndestination:a/#/b",
            "`a/#/b` is no destination to subscribe to: misplaced `#` at byte 2",
        ),
        (
            "id:0\ndestination:secret",
            "not authorized to subscribe to `secret`",
        ),
        (
            "id:known\ndestination:a",
            "the subscription `known` is there already",
        ),
        (
            "id:0\ndestination:a\nack:sometimes",
            "ack is `sometimes`, allowed are auto, client and client-individual",
        ),
        ("id:0\ndestination:a\nqos:3", "qos is `3`, allowed are 0, 1 and 2"),
        (
            "id:0\ndestination:a\nprefetch-count:0",
            "prefetch-count is a number from 1 to 65535",
        ),
        ("id:0", "the header destination is missing"),
        (
            "id:0\ndestination:a\ndurable:yes",
            "durable is `yes`, allowed are true and false",
        ),
        (
            "id:0\ndestination:a\npersistent:1",
            "persistent is `1`, allowed are true and false",
        ),
        (
            "id:third\ndestination:a",
            "more than 2 subscriptions (stomp.max_subscriptions)",
        ),
    ] {
        let mut bench = Bench::with(|settings| settings.max_subscriptions = 2);
        bench.rule(
            Action::Subscribe,
            "secret",
            AccessDecision::Deny(Default::default()),
        );
        bench.connect("a");
        bench.subscribe("a", "id:known\ndestination:a");
        if headers.contains("third") {
            bench.subscribe("a", "id:second\ndestination:a");
        }
        bench.exchange(
            "a",
            &format!("SUBSCRIBE\n{headers}\nreceipt:1\n\n"),
            &[&format!("ERROR 1: {why}")],
        );
        assert!(bench.is_closed("a"));
    }
    let mut bench = Bench::new();
    bench.connect("a");
    bench.exchange(
        "a",
        "UNSUBSCRIBE\nid:7\n\n",
        &["ERROR there is no subscription `7`"],
    );
}

#[test]
fn a_rule_may_have_to_be_asked() {
    let mut bench = Bench::new();
    bench.rule(Action::Subscribe, "t", AccessDecision::Ask);
    bench.connect("a");
    bench.questions_wait = true;
    bench.exchange("a", "SUBSCRIBE\nid:0\ndestination:t\nreceipt:1\n\n", &[]);
    bench.answer("a", AccessDecision::Allow);
    assert_eq!(bench.heard("a"), ["RECEIPT 1"]);
}

/// Members of a group share the messages. MQTT 5 §4.8.2
#[test]
fn a_subscription_may_be_shared() {
    for ack in ["auto", "client-individual"] {
        let mut bench = Bench::new();
        for client in ["a", "b"] {
            bench.connect(client);
            bench.subscribe(client, &format!("id:0\ndestination:$share/g/t\nack:{ack}"));
        }
        for payload in ["1", "2", "3", "4"] {
            bench.deliver("t", payload, Qos::AtLeastOnce);
        }
        let heard = bench.heard("a").len() + bench.heard("b").len();
        assert_eq!(heard, 4, "{ack}");
    }
}

/// What a member has not acknowledged goes to the others when it is gone, and says that it may have been seen.
#[test]
fn unacknowledged_messages_go_to_the_other_members() {
    for unsubscribes in [true, false] {
        let mut bench = Bench::new();
        bench.connect("a");
        bench.subscribe("a", "id:0\ndestination:$queue/t\nack:client-individual");
        for payload in ["1", "2"] {
            bench.deliver("t", payload, Qos::AtLeastOnce);
        }
        assert_eq!(bench.heard("a").len(), 2);
        bench.ack("a", "1");
        bench.connect("b");
        bench.subscribe("b", "id:0\ndestination:$queue/t\nack:client-individual");
        match unsubscribes {
            true => bench.send("a", "UNSUBSCRIBE\nid:0\n\n"),
            false => bench.lose("a"),
        }
        let heard = bench.heard("b");
        assert!(
            heard.len() == 1 && heard[0].starts_with("MESSAGE 0 t 2"),
            "{heard:?}"
        );
    }
}

/// `$SYS` and others: what is the gateway's cannot be published, `$local/` stands for this gateway alone.
#[test]
fn prefixes_of_filters_work() {
    let mut bench = Bench::new();
    bench.connect("a");
    bench.subscribe("a", "id:0\ndestination:$local/t");
    bench.deliver("t", "x", Qos::AtLeastOnce);
    assert_eq!(bench.heard("a"), ["MESSAGE 0 t x"]);
}

/// docs/stomp.md, Headers: what MQTT clients send. What looks like a header of the protocol is not taken for one.
#[test]
fn user_properties_of_mqtt_are_headers() {
    let mut bench = Bench::new();
    bench.connect("a");
    bench.subscribe("a", "id:0\ndestination:t");
    bench.deliver_with("t", "x", Qos::AtMostOnce, |message| {
        message.properties = properties(&[("unit", "°C\n"), ("subscription", "forged")]);
    });
    let message = bench.frames("a").remove(0);
    assert_eq!(
        (message.get("unit"), message.get("subscription")),
        (Some("°C\n"), Some("0"))
    );
    assert_eq!(message.get("ack"), None, "there is nothing to acknowledge");
}

/// STOMP 1.2, SUBSCRIBE ack Header. A client that acknowledges has no more under way than it wants, and other subscriptions do not wait for it.
#[test]
fn prefetch_bounds_what_is_under_way() {
    let mut bench = Bench::new();
    bench.connect("a");
    bench.subscribe(
        "a",
        "id:slow\ndestination:t\nack:client-individual\nprefetch-count:2",
    );
    bench.subscribe("a", "id:fast\ndestination:u");
    for qos in [Qos::AtLeastOnce, Qos::AtMostOnce, Qos::ExactlyOnce] {
        bench.deliver("t", "x", qos);
    }
    bench.deliver("u", "y", Qos::AtLeastOnce);
    let heard = bench.heard("a");
    assert_eq!(
        heard
            .iter()
            .filter(|line| line.starts_with("MESSAGE slow"))
            .count(),
        2
    );
    assert!(heard.contains(&"MESSAGE fast u y".to_owned()));
    bench.send("a", "ACK\nid:1-1\n\n");
    assert_eq!(bench.heard("a"), ["MESSAGE slow t x"]);
}
