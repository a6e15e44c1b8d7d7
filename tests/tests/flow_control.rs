//! Receive Maximum both ways, and the largest packet. MQTT 5 §4.9, §3.1.2.11.3, §3.1.2.11.4, §3.2.2.3.3, §3.2.2.3.6

use headgate_model::{AccessDecision, Action, Metric, access::DenyCode};
use headgate_mqtt_codec::{Connect, Packet, PacketType, Publish, ReasonCode, encoded_len};
use headgate_tests::*;
use std::num::{NonZeroU16, NonZeroU32};

fn receives(maximum: u16) -> Connect {
    connect(V5, "c")
        .durable()
        .with(|p| p.receive_maximum = NonZeroU16::new(maximum))
}

fn takes(bytes: usize) -> Connect {
    let limit = u32::try_from(bytes).ok().and_then(NonZeroU32::new);
    connect(V5, "c").durable().with(|p| p.maximum_packet_size = limit)
}

/// [MQTT-3.3.4-7] One publish too many under way ends the connection. PUBREC gives no room back, PUBACK, PUBCOMP and a refusal do; QoS 0
/// and repeats do not count.
#[test]
fn receive_maximum_of_the_server_is_enforced() {
    let gw = Gateway::with(|s| s.mqtt.receive_maximum = 2);
    let mut keeper = gw.open(connect(V5, "keeper").durable());
    keeper.subscribe("a", ExactlyOnce);
    keeper.leave();
    gw.rule(
        Action::Publish,
        "denied",
        AccessDecision::Deny(DenyCode::NotAuthorized),
    );
    let mut client = gw.client(V5, "c");
    let told = client.told().receive_maximum;
    assert_eq!(told, NonZeroU16::new(2));

    for n in 1..=10 {
        client.send(publish("a", "x").qos(AtLeastOnce, n));
        client.send(publish("denied", "x").qos(ExactlyOnce, n));
    }
    client.send(publish("a", "x").qos(ExactlyOnce, 1));
    client.send(publish("a", "x").qos(ExactlyOnce, 2));
    client.send(publish("a", "x").qos(ExactlyOnce, 2).dup());
    client.say("a", "x");
    client.send(pubrel(1));
    client.send(publish("a", "x").qos(ExactlyOnce, 3));
    client.received();
    assert!(!client.is_closed());
    client.send(publish("a", "x").qos(AtLeastOnce, 4));
    client.assert_refused(ReasonCode::ReceiveMaximumExceeded);

    let mut client = gw.client(V5, "c");
    gw.withhold_commits();
    for n in 1..=3 {
        client.send(publish("a", "x").qos(AtLeastOnce, n));
    }
    client.assert_refused(ReasonCode::ReceiveMaximumExceeded);
}

/// Before MQTT 5 there is no Receive Maximum to keep to.
#[test]
fn older_clients_have_no_receive_maximum() {
    let gw = Gateway::with(|s| s.mqtt.receive_maximum = 2);
    let mut client = gw.client(V311, "c");
    for n in 1..=10 {
        client.send(publish("a", "x").qos(ExactlyOnce, n));
    }
    assert_eq!(client.received().len(), 10);
}

/// [MQTT-3.3.4-9] [MQTT-3.3.4-10] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
/// No more than its Receive Maximum is under way to a client. With the quota used up everything else goes on; PUBACK, PUBCOMP and a
/// refusal give one back each. Every connection starts anew.
#[test]
fn receive_maximum_of_the_client_is_kept() {
    let gw = Gateway::default();
    let mut client = gw.open(receives(2));
    client.subscribe("a", ExactlyOnce);
    client.subscribe("zero", AtMostOnce);
    let mut publisher = gw.client(V5, "p");
    for (payload, qos) in [
        ("1", AtLeastOnce),
        ("2", ExactlyOnce),
        ("3", AtLeastOnce),
        ("4", ExactlyOnce),
        ("5", AtLeastOnce),
        ("6", AtLeastOnce),
    ] {
        publisher.deliver(publish("a", payload), qos);
    }
    let sent = client.messages();
    assert_eq!(
        sent.iter().map(PublishExt::brief).collect::<Vec<_>>(),
        ["a=1", "a=2"]
    );

    client.send(Packet::PingReq);
    client.send(subscribe(1, &[("b", AtMostOnce)]));
    client.send(publish("c", "x").qos(AtLeastOnce, 1));
    let kinds: Vec<_> = client.received().iter().map(Packet::packet_type).collect();
    for kind in [PacketType::PingResp, PacketType::SubAck, PacketType::PubAck] {
        assert!(kinds.contains(&kind), "{kind}");
    }
    client.send(pubrec(sent[1].number()));
    assert_eq!(
        client.received(),
        [pubrel(sent[1].number()).to_packet()],
        "PUBREC gives nothing back"
    );
    client.send(pubcomp(sent[1].number()));
    let third = client.messages();
    assert_eq!(third[0].brief(), "a=3");
    client.send(pubcomp(sent[1].number()));
    assert_eq!(client.messages(), [], "a repeated PUBCOMP gives nothing more");
    client.send(puback(sent[0].number()));
    let fourth = client.messages();
    assert_eq!(fourth[0].brief(), "a=4");
    client.send(pubrec(fourth[0].number()).because(ReasonCode::NotAuthorized));
    assert_eq!(client.messages()[0].brief(), "a=5");

    client.lose();
    let mut narrow = gw.open(receives(1));
    let again = narrow.messages();
    assert_eq!((again.len(), again[0].brief().as_str()), (1, "a=3"));
    narrow.lose();
    let mut wide = gw.open(connect(V5, "c").durable());
    assert_eq!(wide.messages().len(), 3, "absent is 65,535");
}

/// [MQTT-4.9.0-1] What was received before takes no place in the quota of the next connection: only its PUBREL is sent again.
#[test]
fn quota_is_not_carried_over() {
    let gw = Gateway::default();
    let mut client = gw.open(receives(1));
    client.subscribe("a", ExactlyOnce);
    let mut publisher = gw.client(V5, "p");
    publisher.deliver(publish("a", "1"), ExactlyOnce);
    publisher.deliver(publish("a", "2"), ExactlyOnce);
    let first = client.messages();
    client.send(pubrec(first[0].number()));
    client.received();
    client.lose();
    let mut client = gw.open(receives(1));
    let packets = client.received();
    assert_eq!(packets[0], pubrel(first[0].number()).to_packet());
    assert!(
        matches!(&packets[1..], [Packet::Publish(second)] if second.brief() == "a=2"),
        "{packets:?}"
    );
}

/// The operator's own limit holds for clients that ask for more, and for those that cannot ask.
#[test]
fn inflight_window_of_the_operator_is_kept() {
    let gw = Gateway::with(|s| s.bus.max_inflight = 3);
    for version in NUMBERED {
        let mut client = gw.client(version, "c");
        client.subscribe("a", AtLeastOnce);
        let mut publisher = gw.client(V5, "p");
        for n in 0..10 {
            publisher.deliver(publish("a", &n.to_string()), AtLeastOnce);
        }
        let under_way = client.messages();
        assert_eq!(under_way.len(), 3);
        for message in under_way {
            client.send(puback(message.number()));
        }
        assert_eq!(client.heard().len(), 7);
    }
}

/// [MQTT-3.1.2-24] [MQTT-3.1.2-25] A message that is one byte too large counts as delivered: nothing is held up by it, and it does not
/// come back. Its properties count.
#[test]
fn max_packet_size_of_the_client_is_kept() {
    for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        let fits = publish("a", "0123456789").qos(qos, 1);
        let limit = encoded_len(&with_properties(fits.clone()).to_packet(), V5);
        let gw = Gateway::default();
        let mut client = gw.open(takes(limit).with(|p| p.receive_maximum = NonZeroU16::new(1)));
        client.subscribe("a", ExactlyOnce);
        let mut publisher = gw.client(V5, "p");
        publisher.deliver(with_properties(publish("a", "0123456789")), qos);
        for _ in 0..3 {
            publisher.deliver(with_properties(publish("a", "0123456789a")), qos);
        }
        publisher.deliver(publish("a", "small"), qos);
        assert_eq!(client.heard(), ["a=0123456789", "a=small"]);
        assert_eq!(gw.stats().inflight, 0);
        assert_eq!(gw.counted(Metric::DroppedTooLarge), 3);
        client.lose();
        assert_eq!(gw.open(connect(V5, "c").durable()).messages(), []);
    }
}

fn with_properties(publish: Publish) -> Publish {
    publish.with(|p| p.content_type = Some(text("text/plain")))
}

/// [MQTT-3.1.2-25] A message fits if it fits without a topic alias: the alias is our wish, not the publisher's.
#[test]
fn topic_alias_does_not_make_a_message_too_large() {
    let limit = encoded_len(&publish("a", "0123456789").to_packet(), V5);
    let gw = Gateway::default();
    let mut client = gw.open(takes(limit).with(|p| p.topic_alias_maximum = Some(10)));
    client.subscribe("a", AtMostOnce);
    let mut publisher = gw.client(V5, "p");
    publisher.say("a", "0123456789");
    publisher.say("a", "x");
    publisher.say("a", "0123456789");
    let payloads: Vec<usize> = client.messages().iter().map(|m| m.payload.len()).collect();
    assert_eq!(payloads, [10, 1, 10]);
}

/// [MQTT-3.1.2-24] Not only messages: an answer that the client does not take ends the connection, for it waits for it.
/// Our reading: docs/interpretations.md#answer-too-large.
#[test]
fn answer_that_is_too_large_ends_the_connection() {
    let gw = Gateway::default();
    let mut small = gw.open(takes(20));
    small.send(subscribe(1, &[("a", AtMostOnce); 20]));
    small.assert_refused(ReasonCode::PacketTooLarge);
    let mut small = gw.open(takes(20));
    small.send(unsubscribe(1, &["a"; 20]));
    small.assert_refused(ReasonCode::PacketTooLarge);
    let mut small = gw.open(takes(20));
    small.send(subscribe(1, &[("a", AtMostOnce); 10]));
    small.expect(PacketType::SubAck);
    small.send(Packet::PingReq);
    assert_eq!(small.received(), [Packet::PingResp]);
}

/// [MQTT-3.1.2-29] [MQTT-3.14.2-3] Reason strings are for humans: they give way to the client's wish and to its packet size.
#[test]
fn reason_strings_give_way() {
    let gw = Gateway::default();
    let reason_of = |hello: Connect| {
        let mut client = gw.open(hello);
        client.send(Packet::Publish(
            publish("a", "x").with(|p| p.topic_alias = NonZeroU16::new(9_999)),
        ));
        match client.received().pop() {
            Some(Packet::Disconnect(disconnect)) => {
                assert_eq!(disconnect.reason, ReasonCode::TopicAliasInvalid);
                disconnect.properties.and_then(|p| p.reason_string)
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(reason_of(connect(V5, "c")).is_some());
    assert!(reason_of(takes(24)).is_none());
    assert!(reason_of(connect(V5, "c").with(|p| p.request_problem_information = Some(false))).is_none());
}

/// [MQTT-3.1.2-29] Where the client wants no problem information, none stands in any acknowledgement; messages keep what their publisher
/// gave them.
#[test]
fn no_problem_information_in_acknowledgements() {
    let gw = Gateway::default();
    gw.rule(
        Action::Publish,
        "denied",
        AccessDecision::Deny(DenyCode::NotAuthorized),
    );
    gw.rule(
        Action::Subscribe,
        "denied",
        AccessDecision::Deny(DenyCode::NotAuthorized),
    );
    let mut client = gw.open(connect(V5, "c").with(|p| p.request_problem_information = Some(false)));
    client.send(publish("denied", "x").qos(AtLeastOnce, 1));
    client.send(publish("denied", "x").qos(ExactlyOnce, 2));
    client.send(pubrel(9));
    client.send(pubrec(9));
    client.send(subscribe(3, &[("denied", AtMostOnce), ("a", AtMostOnce)]));
    client.send(unsubscribe(4, &["unknown"]));
    let packets = client.received();
    assert_eq!(packets.len(), 6);
    for packet in packets {
        match packet {
            Packet::Ack(ack) => assert_eq!(ack.properties, None),
            Packet::SubAck(ack) => assert_eq!((ack.reason_string, ack.user_properties.len()), (None, 0)),
            Packet::UnsubAck(ack) => assert_eq!((ack.reason_string, ack.user_properties.len()), (None, 0)),
            other => panic!("{other:?}"),
        }
    }
    client.say("a", "plain");
    let pair = (text("k"), text("v"));
    client.send(publish("a", "x").with(|p| p.user_properties = vec![pair.clone()]));
    assert_eq!(client.messages()[1].props().user_properties, [pair]);
}

/// [MQTT-3.2.2-15] A packet above the server's limit is refused as soon as its size is known.
#[test]
fn too_large_packet_is_refused_before_it_is_read() {
    for version in NUMBERED {
        let gw = Gateway::with(|s| s.mqtt.max_packet_size = 100);
        let mut client = gw.client(version, "c");
        let told = client.told().maximum_packet_size;
        assert_eq!(told, NonZeroU32::new(100).filter(|_| version == V5));
        client.send_bytes(&[0x30, 98]);
        assert!(!client.is_closed());
        let mut client = gw.client(version, "c");
        client.send_bytes(&[0x30, 99]);
        client.assert_refused(ReasonCode::PacketTooLarge);
    }
}

/// A client that does not read holds up nobody but itself: what it may get at once has a bound, and so has its queue.
#[test]
fn stalled_client_is_bounded() {
    let gw = Gateway::with(|s| s.bus.max_queued_messages = 100);
    let mut client = gw.open(receives(10));
    client.subscribe("a", AtLeastOnce);
    let mut publisher = gw.client(V5, "p");
    for n in 0..500 {
        assert_eq!(
            publisher.deliver(publish("a", &n.to_string()), AtLeastOnce),
            ReasonCode::Success
        );
    }
    assert_eq!((gw.stats().inflight, gw.stats().queued), (10, 100));
    let numbers: Vec<String> = client.heard();
    assert_eq!(
        (numbers.len(), numbers[0].as_str(), numbers[109].as_str()),
        (110, "a=0", "a=499")
    );
}
