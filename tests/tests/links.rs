//! Sessions whose other side is another broker: their queues have rules of their own, and every drop is counted by reason and topic.

use headgate_bus::{AutoSubscription, BusSettings, DropReason};
use headgate_model::bus::{NEVER, Outcome, Refusal};
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, CloseReason, Message, Qos, QueueFull, QueueRules,
    SubscriptionOptions, TopicFilter,
};
use headgate_tests::bus_bench::{BusBench, link, message, opening, subscription};
use std::time::Duration;

const LINK: &str = "$bridge/cloud";
const NOTHING: [&str; 0] = [];

/// A bus with a link that wants everything and is away, and a client that publishes.
fn away(change: impl FnOnce(&mut QueueRules)) -> BusBench {
    with(BusSettings::default(), change)
}

fn with(settings: BusSettings, change: impl FnOnce(&mut QueueRules)) -> BusBench {
    let mut bench = BusBench::new("a", settings);
    bench.connect("sensor");
    bench.open(opening(LINK, link(change)));
    bench.subscribe(LINK, "#");
    bench.close(LINK, CloseReason::Normal);
    bench.events.clear();
    bench
}

fn back(bench: &mut BusBench, change: impl FnOnce(&mut QueueRules)) -> Vec<String> {
    bench.open(opening(LINK, link(change)));
    bench.heard(LINK)
}

fn say(bench: &mut BusBench, topic: &str, payloads: &[&str], qos: Qos) -> Vec<Option<Refusal>> {
    let say = |payload: &&str| bench.publish("sensor", message(topic, payload, qos));
    payloads.iter().map(say).collect()
}

fn dropped(bench: &BusBench, reason: DropReason) -> u64 {
    let report = bench.report(LINK);
    let by_topic: u64 = report.topics.iter().map(|row| row.dropped[reason as usize]).sum();
    let by_reason = report.dropped[reason as usize] + report.dropped_qos0[reason as usize];
    assert_eq!(by_topic, by_reason);
    by_reason
}

/// A session that is opened and left exists: it collects before its first connection, and over a restart.
#[test]
fn a_defined_link_collects_before_it_was_ever_connected() {
    let mut bench = away(|_| {});
    say(&mut bench, "t", &["1", "2"], Qos::AtLeastOnce);
    bench.crash();
    bench.connect("sensor");
    bench.open(opening(LINK, link(|_| {})));
    bench.close(LINK, CloseReason::Normal);
    say(&mut bench, "t", &["3"], Qos::ExactlyOnce);
    bench.events.clear();
    assert_eq!(back(&mut bench, |_| {}), ["t=1", "t=2", "t=3"]);
    let report = bench.report(LINK);
    assert_eq!((report.carried, report.routed, report.done), (2, 1, 3));
}

const OTHER: &str = "broker-2";

/// A bus with two links, one of which comes from outside, and somebody durable who wants everything and is away.
fn two_links() -> BusBench {
    let mut bench = BusBench::new("a", BusSettings::default());
    bench.open(opening("archive", link(|_| {})));
    bench.subscribe("archive", "#");
    bench.close("archive", CloseReason::Normal);
    for name in [LINK, OTHER] {
        bench.open(opening(name, link(|_| {})));
        bench.subscribe(name, "#");
    }
    bench.events.clear();
    bench
}

fn retained(topic: &str, payload: &str, qos: Qos) -> Message {
    Message {
        retain: true,
        ..message(topic, payload, qos)
    }
}

/// What was accepted at QoS 1 with RETAIN is kept, though a copy of it that promised less came before by another link, and survives a crash.
#[test]
fn a_copy_that_promises_less_swallows_none_that_promises_more() {
    for first in [
        message("t", "x", Qos::AtMostOnce),
        retained("t", "x", Qos::AtMostOnce),
        message("t", "x", Qos::AtLeastOnce),
    ] {
        let mut bench = two_links();
        bench.publish(OTHER, first.clone());
        assert_eq!(bench.publish(LINK, retained("t", "x", Qos::AtLeastOnce)), None);
        bench.crash();
        bench.open(opening("archive", link(|_| {})));
        let heard = bench.heard("archive");
        assert_eq!(heard.last().map(String::as_str), Some("t=x"), "{first:?}");
        bench.connect("late");
        bench.subscribe("late", "t");
        let kept = bench.deliveries("late");
        assert_eq!(kept.len(), 1, "{first:?}");
        assert_eq!(
            (kept[0].qos, kept[0].retain),
            (Qos::AtLeastOnce, true),
            "{first:?}"
        );
    }
}

/// A copy that promises no more is none: it is answered as the first was, and not before that one is safe.
#[test]
fn a_suppressed_copy_is_acknowledged_as_what_the_first_one_was() {
    let mut bench = two_links();
    bench.withheld = true;
    let say = |message| BusCommand::Publish {
        message: Admitted::of_gateway(message),
        ack: Some(AckToken(9)),
        dedup: None,
    };
    let endpoints = [LINK, OTHER].map(|name| bench.endpoint(name));
    bench.send(LINK, say(retained("t", "x", Qos::ExactlyOnce)));
    bench.send(OTHER, say(retained("t", "x", Qos::AtLeastOnce)));
    let answered = |bench: &BusBench| {
        let answers = bench
            .events
            .iter()
            .filter(|(_, event)| matches!(event, BusEvent::Accepted(..)));
        answers.map(|(to, _)| *to).collect::<Vec<_>>()
    };
    assert_eq!(answered(&bench), []);
    bench.withheld = false;
    bench.turn(|_, _, _| {});
    assert_eq!(answered(&bench), endpoints);
    assert_eq!(bench.report(OTHER).duplicates, 1);

    // Nobody else subscribed: 0x10 for both. MQTT 5 §3.4.2.1
    let mut settings = BusSettings::default();
    settings.links.transit = false;
    let mut bench = BusBench::new("a", settings);
    for name in [LINK, OTHER] {
        bench.open(opening(name, link(|_| {})));
        bench.subscribe(name, "#");
    }
    for name in [LINK, OTHER] {
        bench.send(name, say(retained("t", "x", Qos::AtLeastOnce)));
    }
    let unmatched = BusEvent::Accepted(AckToken(9), Outcome::NoSubscribers);
    let count = bench
        .events
        .iter()
        .filter(|(_, event)| *event == unmatched)
        .count();
    assert_eq!((count, bench.report(OTHER).duplicates), (2, 1));
}

/// What a failed commit held was promised to nobody: a copy that comes after it is not one of something that is safe.
#[test]
fn nothing_counts_as_known_that_the_store_did_not_take() {
    let mut bench = two_links();
    bench.withheld = true;
    bench.publish(LINK, message("t", "x", Qos::AtLeastOnce));
    let (batch, _) = bench.bus.take_batch().expect("it waits for the store");
    bench.turn(|bus, now, out| bus.commit_failed(batch, now, out));
    bench.withheld = false;
    assert_eq!(bench.publish(OTHER, message("t", "x", Qos::AtLeastOnce)), None);
    bench.crash();
    bench.open(opening("archive", link(|_| {})));
    assert_eq!(bench.heard("archive"), ["t=x"]);
}

/// A number of a session is not given twice, over crashes either: who comes after one is not taken for whoever published a retained message before
/// it, and No Local keeps nothing of others back. [MQTT-3.8.3-3]
#[test]
fn nobody_is_taken_for_a_publisher_of_an_earlier_run() {
    let no_local = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::default()
    };
    let mut bench = BusBench::new("a", BusSettings::default());
    for n in 0..3 {
        bench.connect(&format!("sensor-{n}"));
        let kept = retained(&format!("t/{n}"), "x", Qos::AtLeastOnce);
        assert_eq!(bench.publish(&format!("sensor-{n}"), kept), None);
    }
    for _ in 0..2 {
        bench.crash();
        for n in 0..3 {
            let (plain, link_name) = (format!("plain-{n}"), format!("$bridge/{n}"));
            bench.connect(&plain);
            bench.send(&plain, subscription("t/+", no_local));
            bench.open(opening(&link_name, link(|_| {})));
            bench.subscribe(&link_name, "t/+");
            for name in [plain, link_name] {
                assert_eq!(bench.heard(&name).len(), 3, "{name}");
            }
        }
    }
}

/// Nor are numbers used again that only messages know which wait in queues, or that nothing in the store knows.
#[test]
fn numbers_of_sessions_only_grow() {
    let mut bench = BusBench::new("a", BusSettings::default());
    let mut last = 0;
    for round in 0..3 {
        for n in 0..3 {
            let name = format!("c-{round}-{n}");
            bench.connect(&name);
            let watcher = format!("w-{round}-{n}");
            bench.connect(&watcher);
            bench.subscribe(&watcher, "t");
            bench.publish(&name, message("t", "x", Qos::AtMostOnce));
            let publisher = bench.deliveries(&watcher)[0].message.publisher.expect("a client");
            assert!(publisher.0 > last, "{publisher:?} {last}");
            last = publisher.0;
        }
        // Something is written, as it is for every message that outlives its publisher.
        bench.publish(&format!("c-{round}-2"), retained("kept", "x", Qos::AtLeastOnce));
        bench.publish(&format!("c-{round}-2"), retained("kept", "", Qos::AtLeastOnce));
        bench.crash();
    }
}

/// Publishes a retained message that must be taken.
fn keep(bench: &mut BusBench, who: &str, topic: &str, payload: &str) {
    let message = retained(topic, payload, Qos::AtLeastOnce);
    assert_eq!(bench.publish(who, message), None);
}

/// What the bus retains, as a newcomer hears it.
fn kept(bench: &mut BusBench) -> Vec<String> {
    bench.connect("late");
    bench.subscribe("late", "#");
    let mut kept = bench.heard("late");
    bench.close("late", CloseReason::Normal);
    kept.sort_unstable();
    kept
}

fn is_told_to_ask(bench: &BusBench) -> bool {
    bench.events.iter().any(|(_, event)| *event == BusEvent::Drained)
}

/// Without credit nothing is handed over yet.
fn back_without_credit(bench: &mut BusBench) {
    let mut open = opening(LINK, link(|_| {}));
    open.credit = 0;
    bench.open(open);
}

/// What is retained at the other side does not overwrite what was changed or cleared here while it was away: both end with what is newer.
#[test]
fn what_waits_to_go_out_is_not_overwritten_by_what_comes_in() {
    let mut bench = away(|_| {});
    bench.connect("watcher");
    keep(&mut bench, "sensor", "changed", "new");
    keep(&mut bench, "sensor", "cleared", "old");
    keep(&mut bench, "sensor", "cleared", "");
    back_without_credit(&mut bench);
    keep(&mut bench, "sensor", "late", "new");
    for topic in ["changed", "cleared", "late"] {
        keep(&mut bench, LINK, topic, "stale");
    }
    keep(&mut bench, LINK, "other", "theirs");
    bench.send(LINK, BusCommand::credit(10));
    let gone = bench.heard(LINK);
    assert_eq!(gone, ["changed=new", "cleared=old", "cleared=", "late=new"]);
    assert_eq!(kept(&mut bench), ["changed=new", "late=new", "other=theirs"]);
    assert_eq!(bench.bus.stats().dropped[DropReason::Superseded as usize], 3);
    assert!(!is_told_to_ask(&bench), "it was known what is newer");
    // Nothing waits any more: the other side has the last word.
    keep(&mut bench, LINK, "changed", "theirs");
    assert_eq!(kept(&mut bench), ["changed=theirs", "late=new", "other=theirs"]);
}

/// After a crash it is not known of which topics something waits. What the other side retains is not retained here until all that has gone, also where
/// nothing is retained here, for it may have been cleared; whoever is subscribed gets it. Then the bridge asks for it again.
#[test]
fn what_may_be_older_than_what_waited_over_a_crash_is_asked_for_again() {
    let mut bench = away(|_| {});
    keep(&mut bench, "sensor", "changed", "new");
    keep(&mut bench, "sensor", "cleared", "old");
    keep(&mut bench, "sensor", "cleared", "");
    bench.crash();
    bench.connect("watcher");
    bench.subscribe("watcher", "#");
    bench.heard("watcher");
    for connection in 0..2 {
        back_without_credit(&mut bench);
        for (topic, payload) in [("changed", "stale"), ("cleared", "stale"), ("other", "theirs")] {
            keep(&mut bench, LINK, topic, payload);
        }
        assert_eq!(bench.heard("watcher"), ["cleared=stale", "other=theirs"]);
        assert_eq!(kept(&mut bench), ["changed=new"]);
        if connection == 0 {
            bench.close(LINK, CloseReason::Lost);
        }
    }
    assert!(!is_told_to_ask(&bench));
    bench.send(LINK, BusCommand::credit(10));
    assert_eq!(bench.heard(LINK), ["changed=new", "cleared=old", "cleared="]);
    assert!(is_told_to_ask(&bench));
    keep(&mut bench, LINK, "changed", "new");
    keep(&mut bench, LINK, "other", "theirs");
    assert_eq!(kept(&mut bench), ["changed=new", "other=theirs"]);
}

/// A remote that goes on with a session sends again all that it has under way before it releases any of it [MQTT-4.4.0-1]: a bridge that refused a part
/// would get the same on every connection.
#[test]
fn a_bridge_takes_all_that_its_remote_has_under_way() {
    let mut bench = BusBench::new("a", BusSettings::default());
    bench.open(opening(LINK, link(|_| {})));
    bench.connect("client");
    let most = BusSettings::default().max_awaiting_release;
    let refused = |bench: &mut BusBench, who: &str| {
        for number in 1..=u16::try_from(most + 1).unwrap() {
            let publish = BusCommand::Publish {
                message: Admitted::of_gateway(message("t", "x", Qos::ExactlyOnce)),
                ack: Some(AckToken(number.into())),
                dedup: Some(number),
            };
            bench.send(who, publish);
        }
        let events = std::mem::take(&mut bench.events);
        let refused = events
            .iter()
            .filter(|(_, event)| matches!(event, BusEvent::Refused(..)));
        refused.count()
    };
    assert_eq!(refused(&mut bench, LINK), 0);
    assert_eq!(refused(&mut bench, "client"), 1);
}

/// No limit of session expiry ends what an operator defined.
#[test]
fn a_defined_link_outlives_the_longest_session() {
    let settings = BusSettings {
        max_session_expiry: Duration::from_secs(60),
        ..BusSettings::default()
    };
    let mut bench = with(settings, |_| {});
    say(&mut bench, "t", &["1"], Qos::AtLeastOnce);
    bench.advance(Duration::from_secs(3_600));
    bench.open(opening(LINK, link(|_| {})));
    let opened = BusEvent::Opened {
        present: true,
        expiry: NEVER,
    };
    assert_eq!(bench.events[0].1, opened);
    assert_eq!(bench.heard(LINK), ["t=1"]);
}

/// What every client gets is not sent to another broker.
#[test]
fn a_link_gets_no_subscription_that_it_did_not_ask_for() {
    let auto = AutoSubscription {
        topic: "$news/%c".into(),
        qos: 1,
    };
    let settings = BusSettings {
        auto_subscribe: vec![auto],
        ..BusSettings::default()
    };
    let bench = with(settings, |_| {});
    assert_eq!(
        bench.bus.stats().subscriptions,
        2,
        "the sensor's, and the link's own"
    );
}

/// The link's limit and policy stand in the place of the bus's.
#[test]
fn a_link_has_a_limit_and_a_policy_of_its_own() {
    for (when_full, kept) in [
        (QueueFull::DropOldest, ["t=3", "t=4"]),
        (QueueFull::DropNewest, ["t=1", "t=2"]),
        (QueueFull::Refuse, ["t=1", "t=2"]),
    ] {
        let rules = |rules: &mut QueueRules| {
            rules.max_messages = 2;
            rules.when_full = when_full;
        };
        let mut bench = away(rules);
        bench.connect("other");
        bench.subscribe("other", "#");
        let answers = say(&mut bench, "t", &["1", "2", "3", "4"], Qos::AtLeastOnce);
        let report = bench.report(LINK);
        if when_full == QueueFull::Refuse {
            let refused = Some(Refusal::QueueFull);
            assert_eq!(answers, [None, None, refused, refused]);
            assert_eq!((report.refused, report.routed), (2, 2));
            assert_eq!(
                bench.heard("other"),
                ["t=1", "t=2"],
                "nobody gets what is refused"
            );
        } else {
            assert_eq!(answers, [None; 4]);
            assert_eq!((report.queued, report.routed), (2, 4));
            assert_eq!(dropped(&bench, DropReason::QueueFull), 2);
            assert_eq!(bench.heard("other").len(), 4);
        }
        assert_eq!(back(&mut bench, rules), kept, "{when_full:?}");
    }
}

#[test]
fn a_link_has_a_limit_of_bytes_of_its_own() {
    let rules = |rules: &mut QueueRules| rules.max_bytes = 10_000;
    let mut bench = away(rules);
    let long = "x".repeat(4_000);
    say(&mut bench, "t", &[&long, &long, "last"], Qos::AtLeastOnce);
    assert_eq!(bench.report(LINK).queued, 3);
    say(&mut bench, "u", &[&long], Qos::AtLeastOnce);
    assert_eq!(dropped(&bench, DropReason::QueueFull), 1);
    assert!(bench.report(LINK).queued_bytes <= 10_000);
    assert_eq!(back(&mut bench, rules).len(), 3);
}

/// Every drop is counted by its topic, also of what waits in the store alone.
#[test]
fn drops_are_counted_by_topic() {
    let mut bench = away(|rules| rules.max_messages = 2);
    for topic in ["a", "b", "a", "c", "a"] {
        say(&mut bench, topic, &["x"], Qos::AtLeastOnce);
    }
    say(&mut bench, "d", &["x"], Qos::AtMostOnce);
    let rows = bench.report(LINK).topics;
    let count = |topic: &str, reason| {
        let row = rows.iter().find(|row| row.topic == topic);
        row.map_or(0, |row| row.dropped[reason as usize])
    };
    let full = ["a", "b", "c", "d"].map(|topic| count(topic, DropReason::QueueFull));
    assert_eq!(full, [2, 1, 0, 0]);
    assert_eq!(count("d", DropReason::OfflineQos0), 1);
}

/// QoS 0 is queued if the link's rules say so, in memory; and it gives way first.
#[test]
fn qos_0_is_queued_if_the_link_wants_it() {
    let mut bench = away(|_| {});
    say(&mut bench, "t", &["0"], Qos::AtMostOnce);
    assert_eq!(dropped(&bench, DropReason::OfflineQos0), 1);
    assert_eq!(back(&mut bench, |_| {}), NOTHING);

    let rules = |rules: &mut QueueRules| {
        rules.store_qos0 = true;
        rules.max_messages = 2;
    };
    let mut bench = away(rules);
    say(&mut bench, "t", &["0"], Qos::AtMostOnce);
    say(&mut bench, "t", &["1", "2"], Qos::AtLeastOnce);
    assert_eq!(bench.report(LINK).dropped_qos0[DropReason::QueueFull as usize], 1);
    bench.connect("sensor");
    assert_eq!(back(&mut bench, rules), ["t=1", "t=2"]);

    // What is in memory has the bus's bound, however much the link may have on the disk.
    let settings = BusSettings {
        max_queued_messages: 3,
        ..BusSettings::default()
    };
    let rules = |rules: &mut QueueRules| rules.store_qos0 = true;
    let mut bench = with(settings, rules);
    say(&mut bench, "t", &["1", "2", "3", "4", "5"], Qos::AtMostOnce);
    assert_eq!(back(&mut bench, rules), ["t=3", "t=4", "t=5"]);
    let report = bench.report(LINK);
    assert_eq!((report.routed_qos0, report.handed_qos0), (5, 3));
}

#[test]
fn a_link_has_priorities_of_its_own() {
    let rules = |rules: &mut QueueRules| {
        rules.priorities = vec![(TopicFilter::try_from("alarm/#").unwrap(), 9)];
    };
    let mut bench = away(rules);
    say(&mut bench, "t", &["1"], Qos::AtLeastOnce);
    say(&mut bench, "alarm/fire", &["2"], Qos::AtLeastOnce);
    assert_eq!(back(&mut bench, rules), ["alarm/fire=2", "t=1"]);
}

const MINUTE: Duration = Duration::from_secs(60);

/// What waited longer than `max_age` is dropped when it would be sent; others who have the message are not concerned.
#[test]
fn what_is_too_old_is_not_sent() {
    let rules = |rules: &mut QueueRules| rules.max_age = 10 * MINUTE;
    let mut bench = away(rules);
    bench.open(opening("archive", link(|_| {})));
    bench.subscribe("archive", "#");
    bench.close("archive", CloseReason::Lost);
    say(&mut bench, "t", &["1"], Qos::AtLeastOnce);
    bench.advance(6 * MINUTE);
    say(&mut bench, "t", &["2"], Qos::AtLeastOnce);
    assert!(bench.report(LINK).oldest >= Some(6 * MINUTE));
    bench.advance(5 * MINUTE);
    assert_eq!(back(&mut bench, rules), ["t=2"]);
    assert_eq!(dropped(&bench, DropReason::Expired), 1);
    bench.open(opening("archive", link(|_| {})));
    assert_eq!(bench.heard("archive"), ["t=1", "t=2"]);
}

/// Nor does it keep what is new from being queued, whatever the policy says.
#[test]
fn what_is_too_old_makes_room() {
    for when_full in [QueueFull::DropOldest, QueueFull::DropNewest, QueueFull::Refuse] {
        let rules = |rules: &mut QueueRules| {
            rules.max_age = 10 * MINUTE;
            rules.max_messages = 2;
            rules.when_full = when_full;
        };
        let mut bench = away(rules);
        say(&mut bench, "t", &["1", "2"], Qos::AtLeastOnce);
        bench.advance(11 * MINUTE);
        let answers = say(&mut bench, "t", &["3", "4"], Qos::AtLeastOnce);
        assert_eq!(answers, [None, None]);
        assert_eq!(dropped(&bench, DropReason::Expired), 2, "{when_full:?}");
        assert_eq!(dropped(&bench, DropReason::QueueFull), 0, "{when_full:?}");
        assert_eq!(back(&mut bench, rules), ["t=3", "t=4"]);
    }
}

/// After a restart nobody knows how long the queue waited: it counts anew, so nothing is dropped too early.
#[test]
fn ages_count_anew_after_a_restart() {
    let rules = |rules: &mut QueueRules| rules.max_age = 10 * MINUTE;
    let mut bench = away(rules);
    say(&mut bench, "t", &["1"], Qos::AtLeastOnce);
    bench.advance(9 * MINUTE);
    bench.crash();
    bench.open(opening(LINK, link(rules)));
    bench.close(LINK, CloseReason::Normal);
    bench.events.clear();
    bench.advance(9 * MINUTE);
    assert_eq!(back(&mut bench, rules), ["t=1"]);
}

/// Rules may change from one connection to the next; a session may cease to be a link.
#[test]
fn rules_are_those_of_the_last_opening() {
    let mut bench = away(|rules| rules.max_messages = 1);
    say(&mut bench, "t", &["1", "2"], Qos::AtLeastOnce);
    bench.open(opening(LINK, link(|_| {})));
    bench.close(LINK, CloseReason::Normal);
    say(&mut bench, "t", &["3", "4"], Qos::AtLeastOnce);
    bench.events.clear();
    assert_eq!(back(&mut bench, |_| {}), ["t=2", "t=3", "t=4"]);
    bench.close(LINK, CloseReason::Normal);
    let mut plain = opening(LINK, link(|_| {}));
    plain.link = None;
    bench.open(plain);
    assert_eq!(bench.bus.link_report(LINK, bench.now), None);
}

/// A delayed message was acknowledged: when there is no room for it at its time, it waits, and everybody gets it then.
#[test]
fn a_delayed_message_waits_for_a_queue_that_refuses() {
    let rules = |rules: &mut QueueRules| {
        rules.max_messages = 1;
        rules.when_full = QueueFull::Refuse;
    };
    let mut bench = away(rules);
    bench.connect("other");
    bench.subscribe("other", "#");
    assert_eq!(
        say(&mut bench, "$delayed/5/t", &["late"], Qos::AtLeastOnce),
        [None]
    );
    assert_eq!(say(&mut bench, "t", &["1"], Qos::AtLeastOnce), [None]);
    bench.advance(Duration::from_secs(60));
    assert_eq!(bench.heard("other"), ["t=1"]);
    assert_eq!(back(&mut bench, rules), ["t=1"]);
    bench.advance(Duration::from_secs(2));
    let late = ["t=late"];
    assert_eq!(
        (bench.heard(LINK), bench.heard("other")),
        (late.map(String::from).into(), late.map(String::from).into())
    );
}
