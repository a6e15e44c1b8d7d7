//! Rules that change while somebody is there, away, asleep or on the way in.

use crate::Detour;
use crate::mqtt::{QOS, gateway, gateway_with, message, topics};
use crate::rules::{Door, allow, deny, only};
use crate::sensor::Bench;
use headgate_auth::{AclAction, AclRule};
use headgate_bus::{AutoSubscription, DropReason};
use headgate_model::Question;
use headgate_mqtt_codec::{Packet, PacketType, ReasonCode, SubscribeOptions};
use headgate_mqttsn_codec as sn;
use headgate_tests::{
    ALL, AtLeastOnce, AtMostOnce, Client, ConnectExt, ExactlyOnce, Gateway, PublishExt, V5, V311, WillExt,
    auth, connect, publish, pubrec, pubrel, will,
};
use std::cell::RefCell;
use std::num::NonZeroU16;
use std::rc::Rc;

fn all() -> Vec<AclRule> {
    vec![allow(&["#"])]
}

/// As if what was allowed under `deny/#` had been a rule of its own that is gone.
fn less() -> Vec<AclRule> {
    vec![deny(&["deny/#"]), allow(&["#"])]
}

/// A gateway that allows all, and its plant.
fn start() -> (Gateway, Door, Client) {
    let door = Door::with(all());
    let gw = gateway(&door);
    let plant = gw.client(V5, "plant");
    (gw, door, plant)
}

fn change(gw: &Gateway, door: &Door, acl: Vec<AclRule>) {
    door.set(acl);
    gw.renew_rules();
}

/// One message to each topic at QoS 1.
fn say(plant: &mut Client, topics: &[&str]) {
    for topic in topics {
        assert!(!plant.deliver(message(topic, false), AtLeastOnce).is_error());
    }
}

/// What is published is refused or taken by the rules that are valid now, and so is a filter; what a filter matches is delivered by them, without a
/// reconnect, both ways.
#[test]
fn who_is_connected_has_the_rules_of_the_moment() {
    for version in ALL {
        let (gw, door, mut plant) = start();
        let mut client = gw.client(version, "c");
        client.subscribe("#", AtLeastOnce);
        plant.subscribe("deny/#", AtMostOnce);
        for (acl, may) in [(all(), true), (less(), false), (all(), true)] {
            change(&gw, &door, acl);
            say(&mut plant, &["deny/x", "open/x"]);
            plant.take();
            let heard: &[&str] = if may { &["deny/x", "open/x"] } else { &["open/x"] };
            assert_eq!(topics(&mut client), heard, "{version:?}");
            let mut other = gw.client(version, "other");
            assert_eq!(
                other.subscribe("deny/x", AtMostOnce).is_error(),
                !may,
                "{version:?}"
            );
            other.say("deny/x", "1");
            assert_eq!(plant.take().len(), usize::from(may), "{version:?}");
            client.take();
            client.say("deny/x", "1");
            assert_eq!(plant.take().len(), usize::from(may), "{version:?}");
            client = gw.client(version, "c");
            client.subscribe("#", AtLeastOnce);
        }
    }
}

/// A durable session keeps its filter, and gets what is still allowed: of what waited while it was away, and of what comes.
#[test]
fn a_removed_rule_is_gone_when_the_session_goes_on() {
    for version in ALL {
        for renewed_while_away in [false, true] {
            let (gw, door, mut plant) = start();
            let mut client = gw.open(connect(version, "c").durable());
            client.subscribe("+/x", AtLeastOnce);
            client.leave();
            say(&mut plant, &["deny/x", "open/x"]);
            door.set(less());
            if renewed_while_away {
                gw.renew_rules();
                say(&mut plant, &["deny/x", "open/x"]);
            }
            let mut client = gw.open(connect(version, "c").durable());
            assert!(version < headgate_tests::V311 || client.session_present());
            let waited = if renewed_while_away { 2 } else { 1 };
            assert_eq!(topics(&mut client), vec!["open/x"; waited], "{version:?}");
            say(&mut plant, &["deny/x", "open/x"]);
            assert_eq!(topics(&mut client), ["open/x"], "{version:?}");
        }
    }
}

/// The filter may be one that is not allowed at all any more.
#[test]
fn a_filter_that_is_allowed_no_more_delivers_nothing() {
    let (gw, door, mut plant) = start();
    let mut client = gw.open(connect(V5, "c").durable());
    client.subscribe("deny/x", AtLeastOnce);
    door.set(less());
    client.lose();
    let mut client = gw.open(connect(V5, "c").durable());
    say(&mut plant, &["deny/x"]);
    assert_eq!(topics(&mut client), [""; 0]);
    change(&gw, &door, all());
    say(&mut plant, &["deny/x"]);
    assert_eq!(topics(&mut client), ["deny/x"]);
}

/// What was sent and not acknowledged is sent again, but not by rules that are gone. What a receiver may hold by QoS 2 goes on. \[MQTT-4.3.3-1\]
#[test]
fn what_was_sent_before_is_not_sent_again_under_other_rules() {
    let (gw, door, mut plant) = start();
    let mut client = gw.open(connect(V311, "c").durable());
    client.subscribe("#", ExactlyOnce);
    say(&mut plant, &["deny/x", "open/x"]);
    assert_eq!(client.messages().len(), 2);
    client.lose();
    door.set(less());
    let mut client = gw.open(connect(V311, "c").durable());
    assert_eq!(topics(&mut client), ["open/x"]);
}

/// A rule that comes in the middle of a QoS 2 flow lets both sides end it. \[MQTT-4.3.3-8\] \[MQTT-4.3.3-11\]
#[test]
fn half_a_flow_of_qos_2_is_ended() {
    let (gw, door, mut plant) = start();
    let mut client = gw.client(V5, "c");
    client.subscribe("#", ExactlyOnce);
    plant.deliver(publish("deny/x", "1"), ExactlyOnce);
    let id = client.messages()[0].number();
    client.send(publish("deny/y", "1").qos(ExactlyOnce, 9));
    let Packet::Ack(received) = client.expect(PacketType::PubRec) else {
        unreachable!()
    };
    assert_eq!(received.reason, ReasonCode::Success);
    client.take();
    change(&gw, &door, less());
    client.send(pubrec(id));
    client.expect(PacketType::PubRel);
    client.send(pubrel(9));
    let Packet::Ack(completed) = client.expect(PacketType::PubComp) else {
        unreachable!()
    };
    assert_eq!(completed.reason, ReasonCode::Success);
}

/// One member of a shared group may not read it all: the other gets that, also what the first was to get before.
#[test]
fn a_shared_message_goes_to_a_member_that_may_read_it() {
    for filter in ["$share/g/#", "$queue/#"] {
        let (gw, door, mut plant) = start();
        let [mut one, mut two] = ["one", "two"].map(|id| {
            let mut client = gw.open(connect(V5, id).durable());
            client.subscribe(filter, AtLeastOnce);
            client
        });
        let mut rules = vec![AclRule {
            client: Some("one".into()),
            ..deny(&["deny/#"])
        }];
        rules.extend(all());
        change(&gw, &door, rules.clone());
        for qos in QOS {
            for _ in 0..4 {
                plant.deliver(publish("deny/x", "1"), qos);
            }
        }
        assert_eq!(
            (topics(&mut one).len(), topics(&mut two).len()),
            (0, 12),
            "{filter}"
        );
        // All were for the first, until the rules changed: what waits in memory behind one that is not acknowledged, and in the store.
        for stays in [true, false] {
            change(&gw, &door, all());
            two.unsubscribe(filter);
            let opened = connect(V5, "one")
                .durable()
                .with(|p| p.receive_maximum = NonZeroU16::new(1));
            let mut one = gw.open(opened.clone());
            say(&mut plant, &["open/first"]);
            assert_eq!(one.messages().len(), 1);
            if !stays {
                one.leave();
            }
            say(&mut plant, &["deny/x", "deny/x"]);
            two.subscribe(filter, AtLeastOnce);
            change(&gw, &door, rules.clone());
            let mut one = if stays { one } else { gw.open(opened) };
            assert_eq!(topics(&mut two), ["deny/x", "deny/x"], "{filter}, stays: {stays}");
            assert!(topics(&mut one).iter().all(|topic| topic == "open/first"));
        }
    }
}

/// Two members of a group, in the order in which they came. The rules say which of them may not read `deny/#`.
fn group() -> (Gateway, Door, Client, [Client; 2]) {
    let (gw, door, plant) = start();
    let members = ["one", "two"].map(|id| {
        let mut client = gw.open(
            connect(V5, id)
                .durable()
                .with(|p| p.receive_maximum = NonZeroU16::new(1)),
        );
        client.subscribe("$share/g/#", AtLeastOnce);
        client
    });
    (gw, door, plant, members)
}

fn denied_to(members: &[&str]) -> Vec<AclRule> {
    let rule = |id: &&str| AclRule {
        client: Some((*id).to_owned()),
        ..deny(&["deny/#"])
    };
    members.iter().map(rule).chain(all()).collect()
}

/// Who may read before and who may read after a change are different members, whichever came first: nobody is asked by rules that are about to go.
#[test]
fn rules_that_change_sides_lose_nothing_of_a_group() {
    for (before, after) in [("one", "two"), ("two", "one")] {
        let (gw, door, mut plant, mut members) = group();
        change(&gw, &door, denied_to(&[before]));
        say(&mut plant, &["deny/x"; 20]);
        change(&gw, &door, denied_to(&[after]));
        let [one, two] = members.each_mut().map(|member| topics(member).len());
        assert_eq!(one + two, 20, "denied to {before}, then to {after}");
        assert_eq!(
            if after == "one" { one } else { two },
            1,
            "what it was sent before"
        );
        assert_eq!(gw.stats().dropped[DropReason::SessionEnded as usize], 0);
    }
}

/// What nobody may read waits for rules by which somebody may, as it does for who has a subscription alone; or for a member who may.
#[test]
fn what_nobody_of_a_group_may_read_now_waits() {
    let (gw, door, mut plant, [mut one, mut two]) = group();
    change(&gw, &door, denied_to(&["two"]));
    say(&mut plant, &["deny/x"; 20]);
    change(&gw, &door, denied_to(&["one", "two"]));
    change(&gw, &door, denied_to(&["two"]));
    assert_eq!((topics(&mut one).len(), topics(&mut two).len()), (20, 0));

    say(&mut plant, &["deny/x"; 20]);
    change(&gw, &door, denied_to(&["one", "two"]));
    let mut three = gw.client(V5, "three");
    three.subscribe("$share/g/#", AtLeastOnce);
    let (ones, threes) = (topics(&mut one).len(), topics(&mut three).len());
    assert_eq!((ones, threes), (1, 19), "one had been sent a message before");
}

/// When its turn comes and still nobody may read it, it is dropped, and counted as what it is.
#[test]
fn what_nobody_may_read_when_its_turn_comes_is_dropped() {
    let (gw, door, mut plant, [mut one, mut two]) = group();
    change(&gw, &door, denied_to(&["two"]));
    say(&mut plant, &["deny/x"; 20]);
    change(&gw, &door, denied_to(&["one", "two"]));
    assert_eq!((topics(&mut one).len(), topics(&mut two).len()), (1, 0));
    let stats = gw.stats();
    assert_eq!(stats.dropped[DropReason::NotAuthorized as usize], 19);
    assert_eq!(stats.dropped[DropReason::SessionEnded as usize], 0);
}

/// What one member was sent and has not acknowledged goes to another at QoS 1, when the first comes back and may not read it any more. \[MQTT-4.8.2-6\]
#[test]
fn what_was_sent_to_a_member_goes_to_another_that_may_read_it() {
    let (gw, door, mut plant, [mut one, mut two]) = group();
    two.leave();
    say(&mut plant, &["deny/x"; 5]);
    assert_eq!(one.messages().len(), 1);
    one.lose();
    door.set(denied_to(&["one"]));
    gw.renew_rules();
    let mut one = gw.open(connect(V5, "one").durable());
    let mut two = gw.open(connect(V5, "two").durable());
    assert_eq!((topics(&mut one).len(), topics(&mut two).len()), (0, 5));
}

/// A delayed message goes nowhere if the rules of its client deny it when its time comes.
#[test]
fn a_delayed_message_is_asked_for_again() {
    for (acl, heard) in [(all(), 1), (less(), 0)] {
        let (gw, door, mut plant) = start();
        plant.subscribe("deny/x", AtMostOnce);
        let mut client = gw.client(V5, "c");
        assert!(
            !client
                .deliver(publish("$delayed/3/deny/x", "1"), AtLeastOnce)
                .is_error()
        );
        change(&gw, &door, acl);
        gw.advance(std::time::Duration::from_secs(4));
        assert_eq!(plant.take().len(), heard);
    }
}

/// A narrowed filter gets its retained messages again when it asks again. MQTT 5 §3.3.1.3
#[test]
fn retained_messages_of_a_narrowed_filter() {
    let (gw, door, mut plant) = start();
    for topic in ["deny/x", "open/x"] {
        plant.deliver(message(topic, true), AtLeastOnce);
    }
    let mut client = gw.client(V5, "c");
    for (acl, heard) in [(less(), vec!["open/x"]), (all(), vec!["deny/x", "open/x"])] {
        change(&gw, &door, acl);
        client.subscribe_with("+/x", SubscribeOptions::qos(AtLeastOnce), None);
        let mut got = topics(&mut client);
        got.sort();
        assert_eq!(got, heard);
    }
}

/// Rules that change while a client comes in are those that it has when it is in.
#[test]
fn rules_that_change_on_the_way_in() {
    // After it was let in, before its session was opened.
    let (gw, door, mut plant) = start();
    plant.subscribe("deny/#", AtMostOnce);
    let old = Rc::new(RefCell::new(None));
    let (kept, asked) = (Rc::clone(&old), door.clone());
    gw.access(move |question: &Question| {
        *kept.borrow_mut() = Some(asked.answer(question));
        None
    });
    let mut client = gw.connect(connect(V5, "c"));
    change(&gw, &door, less());
    gw.answer(old.borrow_mut().take().expect("it asked"));
    client.expect(PacketType::ConnAck);
    client.say("deny/x", "1");
    assert_eq!(topics(&mut plant), [""; 0]);
    client.subscribe("#", AtMostOnce);
    say(&mut plant, &["deny/x", "open/x"]);
    assert_eq!(topics(&mut client), ["open/x"]);

    // After that, before it was told so.
    let (gw, door, mut plant) = start();
    plant.subscribe("deny/#", AtMostOnce);
    gw.withhold_commits();
    let mut client = gw.connect(connect(V5, "c").durable());
    change(&gw, &door, less());
    gw.commit();
    client.expect(PacketType::ConnAck);
    client.say("deny/x", "1");
    assert_eq!(topics(&mut plant), [""; 0]);
}

/// Who proves anew who he is has the rules of then. MQTT 5 §4.12.1
#[test]
fn re_authentication_brings_the_rules_of_the_moment() {
    let (gw, door, mut plant) = start();
    let mut client =
        gw.connect(connect(V5, "c").with(|p| p.authentication_method = Some(headgate_tests::text("M"))));
    client.subscribe("#", AtLeastOnce);
    for (acl, heard) in [(less(), 1), (all(), 2)] {
        door.set(acl);
        client.send(auth(ReasonCode::ReAuthenticate, "M", "me"));
        client.expect(PacketType::Auth);
        say(&mut plant, &["deny/x", "open/x"]);
        assert_eq!(topics(&mut client).len(), heard);
    }
}

/// A will is published by the rules of when that is, as mosquitto does it.
#[test]
fn a_will_that_is_allowed_no_more_goes_nowhere() {
    for version in ALL {
        let (gw, door, mut plant) = start();
        plant.subscribe("#", AtMostOnce);
        plant.subscribe("$SYS/#", AtMostOnce);
        let state = "$SYS/broker/connection/own/state";
        let mut wills = [("c", "deny/w"), ("d", "open/w"), ("own", state)].map(|(id, topic)| {
            let will = will(topic, "0").qos(AtLeastOnce);
            gw.open(connect(version, id).will(will))
        });
        change(&gw, &door, less());
        wills.iter_mut().for_each(Client::lose);
        let mut got = topics(&mut plant);
        got.sort();
        assert_eq!(got, [state, "open/w"], "{version:?}");
    }
}

/// Rules change while a sensor sleeps: what waited, and what comes when it is awake, is by the new ones, and so is what it publishes.
#[test]
fn a_sensor_that_slept_wakes_to_the_rules_of_the_moment() {
    for told in [false, true] {
        let door = Door::with(all());
        let mut bench = Bench::new(&door, Detour::Plain);
        assert!(bench.connect(false, None));
        assert!(bench.subscribe(sn::TopicName::Name("+/x".into()), sn::Qos::AtLeastOnce));
        bench.sleep();
        let readable = ["open/x", "unread/x", "unwritten/x"];
        bench.work(sn::Qos::AtLeastOnce, false);
        door.set(less());
        if told {
            bench.renew_rules();
        }
        bench.wake();
        assert_eq!(bench.heard(), readable, "{told}");
        bench.work(sn::Qos::AtLeastOnce, false);
        bench.wake();
        assert_eq!(bench.heard(), readable, "{told}");
        assert!(bench.connect(false, None));
        bench.published();
        bench.publish(Detour::Plain, "deny/x", sn::Qos::AtLeastOnce, false);
        assert!(bench.published().is_empty(), "{told}");
    }
}

/// The will of a sensor, too.
#[test]
fn the_will_of_a_sensor_that_is_allowed_no_more_goes_nowhere() {
    let door = Door::with(all());
    let mut bench = Bench::new(&door, Detour::Plain);
    assert!(bench.connect(true, Some(("deny/w", "gone"))));
    door.set(less());
    bench.renew_rules();
    bench.lose();
    assert!(bench.published().is_empty());
}

/// Who publishes without a connection has them with the next message. §6.8
#[test]
fn a_sender_without_connection_has_the_rules_of_the_moment() {
    let door = Door::with(all());
    let mut bench = Bench::new(&door, Detour::Plain);
    let no = sn::TopicRef::Short(*b"no");
    for (acl, may) in [
        (all(), true),
        (
            vec![only(AclAction::Publish, deny(&["no"])), allow(&["#"])],
            false,
        ),
        (all(), true),
    ] {
        door.set(acl);
        bench.renew_rules();
        bench.publish_to(2_000, no, sn::Qos::NoConnection, false);
        assert_eq!(bench.published().len(), usize::from(may));
    }
}

/// What waits in a session that another user goes on with, where the operator lets them share, is read by that one's rules.
#[test]
fn a_session_that_is_shared_is_read_by_the_rules_of_who_has_it() {
    let denying = || {
        let mut rules = less();
        rules[0].user = Some("joe".into());
        Door::with(rules)
    };
    let gw = gateway_with(&denying(), |settings| settings.bus.share_sessions = true);
    let mut plant = gw.client(V5, "plant");
    let of = |user: &str| gw.open(connect(V5, "c").durable().login(user, "x"));
    let mut ann = of("ann");
    ann.subscribe("#", AtLeastOnce);
    say(&mut plant, &["deny/x", "open/x"]);
    assert_eq!(ann.messages().len(), 2, "and does not acknowledge them");
    ann.lose();
    say(&mut plant, &["deny/y", "open/y"]);
    let mut joe = of("joe");
    say(&mut plant, &["deny/z", "open/z"]);
    assert_eq!(topics(&mut joe), ["open/x", "open/y", "open/z"]);
    let mut ann = of("ann");
    say(&mut plant, &["deny/z", "open/z"]);
    assert_eq!(
        topics(&mut ann),
        ["deny/z", "open/z"],
        "who takes it over has its own"
    );
    assert!(joe.is_closed());
}

/// What a client is subscribed to without asking is read by its rules, whatever it calls itself.
#[test]
fn an_automatic_subscription_is_read_by_the_rules() {
    for (client, heard) in [("deny", &[][..]), ("$SYS", &[]), ("open", &["open/x"])] {
        let gw = gateway_with(&Door::with(less()), |settings| {
            settings.bus.auto_subscribe = vec![AutoSubscription {
                topic: "%c/#".into(),
                qos: 1,
            }];
        });
        let mut plant = gw.client(V5, "plant");
        let mut client = gw.client(V5, client);
        for topic in ["$SYS/broker/connection/plant/state", "deny/x", "open/x"] {
            plant.deliver(message(topic, true), AtLeastOnce);
        }
        assert_eq!(topics(&mut client), heard);
    }
}
