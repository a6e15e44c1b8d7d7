//! Shared subscriptions. MQTT 5 §4.8.2; `$queue/` as in EMQ

use headgate_bus::SharedStrategy;
use headgate_mqtt_codec::{ReasonCode, SubscribeOptions, Version};
use headgate_tests::*;
use std::collections::BTreeSet;
use std::time::Duration;

fn with_strategy(strategy: SharedStrategy) -> Gateway {
    Gateway::with(|s| s.bus.shared_strategy = strategy)
}

/// Three members of a group, and a publisher.
fn group(gw: &Gateway, filter: &str) -> (Vec<Client>, Client) {
    let member = |n| {
        let mut member = gw.client(V5, &format!("m{n}"));
        member.subscribe(filter, AtLeastOnce);
        member
    };
    ((0..3).map(member).collect(), gw.client(V5, "p"))
}

fn counts(members: &mut [Client]) -> Vec<usize> {
    members.iter_mut().map(|member| member.take().len()).collect()
}

/// A durable member with a QoS 2 subscription.
fn durable_member(gw: &Gateway, client_id: &str) -> Client {
    let mut member = gw.open(connect(V5, client_id).resume().expiry(60));
    if !member.session_present() {
        member.subscribe("$share/g/a", ExactlyOnce);
    }
    member
}

/// MQTT 5 §4.8.2: each message goes to one member of each group, and to every other subscriber. Groups that differ in name or filter are
/// different; `$queue/` is one of its own. Clients of every version may be members.
#[test]
fn each_message_goes_to_one_member_of_each_group() {
    for version in ALL {
        let gw = Gateway::default();
        let open = |name: &str, filter: &str| {
            let mut client = gw.client(version, name);
            client.subscribe(filter, AtMostOnce);
            client
        };
        let mut first: Vec<Client> = (0..3)
            .map(|n| open(&format!("one{n}"), "$share/one/a/+"))
            .collect();
        let mut second: Vec<Client> = (0..2)
            .map(|n| open(&format!("two{n}"), "$share/two/a/+"))
            .collect();
        let mut queue: Vec<Client> = (0..2).map(|n| open(&format!("q{n}"), "$queue/a/+")).collect();
        let mut plain = open("plain", "a/+");
        let mut publisher = gw.client(V5, "p");
        for n in 0..30 {
            publisher.say(&format!("a/{n}"), "");
        }
        for group in [&mut first, &mut second, &mut queue] {
            let topics: Vec<String> = group.iter_mut().flat_map(Client::heard).collect();
            let distinct: BTreeSet<_> = topics.iter().collect();
            assert_eq!((topics.len(), distinct.len()), (30, 30));
        }
        assert_eq!(plain.heard().len(), 30);
    }
}

/// [MQTT-4.8.2-3] Each member gets messages at its own level at most.
#[test]
fn members_keep_their_own_qos() {
    let gw = with_strategy(SharedStrategy::RoundRobin);
    let mut publisher = gw.client(V5, "p");
    let mut members = [AtMostOnce, AtLeastOnce, ExactlyOnce].map(|qos| {
        let mut member = gw.client(V5, &format!("m{}", qos as u8));
        member.subscribe("$share/g/a", qos);
        (qos, member)
    });
    for _ in 0..9 {
        publisher.deliver(publish("a", ""), ExactlyOnce);
    }
    for (granted, member) in &mut members {
        let messages = member.take();
        assert_eq!(messages.len(), 3);
        assert!(messages.iter().all(|message| message.qos == *granted));
    }
}

/// Round robin takes turns, sticky stays, by client and by topic always finds the same member again.
#[test]
fn strategies_choose_the_member() {
    let gw = with_strategy(SharedStrategy::RoundRobin);
    let (mut members, mut publisher) = group(&gw, "$share/g/#");
    for n in 0..9 {
        publisher.say(&format!("a/{n}"), "");
    }
    assert_eq!(counts(&mut members), [3, 3, 3]);

    let gw = with_strategy(SharedStrategy::Random);
    let (mut members, mut publisher) = group(&gw, "$share/g/#");
    for n in 0..300 {
        publisher.say(&format!("a/{n}"), "");
    }
    assert!(counts(&mut members).iter().all(|count| *count > 50));

    for strategy in [SharedStrategy::Sticky, SharedStrategy::HashClient] {
        let gw = with_strategy(strategy);
        let (mut members, mut publisher) = group(&gw, "$share/g/#");
        for n in 0..9 {
            publisher.say(&format!("a/{n}"), "");
        }
        let mut found = counts(&mut members);
        found.sort_unstable();
        assert_eq!(found, [0, 0, 9], "{strategy:?}");
    }

    let gw = with_strategy(SharedStrategy::HashTopic);
    let (mut members, mut publisher) = group(&gw, "$share/g/#");
    for n in 0..60 {
        publisher.say(&format!("a/{}", n % 20), "");
    }
    for member in &mut members {
        let topics = member.heard();
        let distinct: BTreeSet<_> = topics.iter().collect();
        assert_eq!(topics.len(), distinct.len() * 3, "a topic stays with its member");
    }
}

/// A sticky member that leaves is replaced by another, which then stays.
#[test]
fn sticky_member_is_replaced_when_it_leaves() {
    let gw = with_strategy(SharedStrategy::Sticky);
    let (mut members, mut publisher) = group(&gw, "$share/g/a");
    publisher.say("a", "");
    let first = counts(&mut members).iter().position(|count| *count == 1).unwrap();
    members.remove(first).leave();
    for _ in 0..5 {
        publisher.say("a", "");
    }
    let mut found = counts(&mut members);
    found.sort_unstable();
    assert_eq!(found, [0, 5]);
}

/// Members that are there come first; with nobody there the message waits for one.
#[test]
fn connected_members_come_first() {
    let gw = Gateway::default();
    let mut here = gw.client(V5, "here");
    here.subscribe("$share/g/a", ExactlyOnce);
    for away in ["away1", "away2"] {
        durable_member(&gw, away).lose();
    }
    let mut publisher = gw.client(V5, "p");
    for _ in 0..10 {
        publisher.deliver(publish("a", ""), AtLeastOnce);
    }
    assert_eq!(here.take().len(), 10);
    here.leave();
    for _ in 0..10 {
        publisher.deliver(publish("a", ""), AtLeastOnce);
    }
    let mut back = [durable_member(&gw, "away1"), durable_member(&gw, "away2")];
    assert_eq!(counts(&mut back).iter().sum::<usize>(), 10);
}

/// MQTT 5 §4.8.2: what a member did not acknowledge goes to another when it leaves, in order. Our reading:
/// docs/interpretations.md#shared-subscription-leaves.
#[test]
fn unacknowledged_qos1_goes_to_another_member() {
    type Leave = fn(&mut Client);
    let leaves: [Leave; 3] = [Client::lose, Client::leave, |client| {
        client.unsubscribe("$share/g/a");
    }];
    for (way, leave) in leaves.into_iter().enumerate() {
        let gw = with_strategy(SharedStrategy::Sticky);
        let one = std::num::NonZeroU16::new(1);
        let mut first = gw.open(
            connect(V5, "first")
                .resume()
                .expiry(60)
                .with(|p| p.receive_maximum = one),
        );
        first.subscribe("$share/g/a", AtLeastOnce);
        let mut publisher = gw.client(V5, "p");
        for payload in ["1", "2", "3"] {
            publisher.deliver(publish("a", payload), AtLeastOnce);
        }
        assert_eq!(first.messages().len(), 1, "the others wait for room");
        let mut second = durable_member(&gw, "second");
        leave(&mut first);
        let expected: &[&str] = if way == 2 {
            &["a=2", "a=3"]
        } else {
            &["a=1", "a=2", "a=3"]
        };
        assert_eq!(second.heard(), expected, "way {way}");
    }
}

/// [MQTT-4.8.2-4] What was begun as QoS 2 is completed with the member it was begun with, with or without PUBREC; nobody else gets it.
#[test]
fn shared_qos2_stays_with_its_member() {
    for received in [false, true] {
        let gw = Gateway::default();
        let mut member = durable_member(&gw, "m");
        gw.client(V5, "p").deliver(publish("a", "x"), ExactlyOnce);
        let sent = member.messages();
        let mut other = durable_member(&gw, "other");
        if received {
            member.send(pubrec(sent[0].number()));
            member.received();
        }
        member.lose();
        gw.sleep(30);
        assert_eq!(other.messages(), []);
        let mut member = durable_member(&gw, "m");
        let expected = if received {
            pubrel(sent[0].number()).to_packet()
        } else {
            sent[0].clone().dup().to_packet()
        };
        assert_eq!(member.received(), [expected]);
    }
}

/// [MQTT-4.8.2-5] If its session ends first, the message goes to nobody.
#[test]
fn shared_qos2_ends_with_the_session() {
    for received in [false, true] {
        let gw = Gateway::default();
        let mut member = durable_member(&gw, "m");
        gw.client(V5, "p").deliver(publish("a", "x"), ExactlyOnce);
        let sent = member.messages();
        if received {
            member.send(pubrec(sent[0].number()));
        }
        let mut other = durable_member(&gw, "other");
        member.lose();
        gw.sleep(60);
        assert_eq!(gw.stats().sessions, 2, "the other and the publisher");
        assert_eq!(other.messages(), []);
        assert_eq!(gw.stored_messages(), 0);
    }
}

/// [MQTT-4.8.2-6] [MQTT-4.4.0-2] A member that refuses a message settles it for the whole group.
#[test]
fn shared_refusal_discards_the_message() {
    let gw = with_strategy(SharedStrategy::RoundRobin);
    let mut members = [durable_member(&gw, "m1"), durable_member(&gw, "m2")];
    let mut publisher = gw.client(V5, "p");
    for qos in [AtLeastOnce, ExactlyOnce] {
        publisher.deliver(publish("a", "x"), qos);
        let mut refused = 0;
        for member in &mut members {
            for message in member.messages() {
                let refusal = match qos {
                    ExactlyOnce => pubrec(message.number()),
                    _ => puback(message.number()),
                };
                member.send(refusal.because(ReasonCode::QuotaExceeded));
                refused += 1;
            }
        }
        assert_eq!(refused, 1);
        for member in &mut members {
            member.lose();
        }
        members = [durable_member(&gw, "m1"), durable_member(&gw, "m2")];
        assert!(members.iter_mut().all(|member| member.received().is_empty()));
    }
    assert_eq!(gw.stored_messages(), 0);
}

/// A shared subscription is part of its session: it is there after a power cut, with its identifier.
#[test]
fn shared_subscription_survives_a_power_cut() {
    let gw = Gateway::default();
    let mut member = gw.open(connect(V5, "m").durable());
    member.subscribe_with("$share/g/a", SubscribeOptions::qos(AtLeastOnce), Some(5));
    gw.crash(Duration::ZERO);
    gw.client(V5, "p").deliver(publish("a", "x"), AtLeastOnce);
    let mut member = gw.open(connect(V5, "m").durable());
    let messages = member.take();
    assert_eq!(
        (messages.len(), messages[0].props().subscription_identifiers),
        (1, vec![5])
    );
}

/// One member is one subscriber: a group with itself alone gets everything, in order.
#[test]
fn group_of_one_gets_everything_in_order() {
    let version: Version = V311;
    let gw = Gateway::default();
    let mut member = gw.client(version, "m");
    member.subscribe("$share/g/a", AtLeastOnce);
    let mut publisher = gw.client(V5, "p");
    for n in 0..50 {
        publisher.deliver(publish("a", &n.to_string()), AtLeastOnce);
    }
    let expected: Vec<String> = (0..50).map(|n| format!("a={n}")).collect();
    assert_eq!(member.heard(), expected);
}
