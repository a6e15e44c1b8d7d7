//! The QoS flows of both directions, over connections and power cuts. MQTT 5 §4.3, §4.4, §4.6

use headgate_model::{AccessDecision, Action, access::DenyCode};
use headgate_mqtt::PacketMetric;
use headgate_mqtt_codec::{AckKind, Packet, Publish, ReasonCode, Version};
use headgate_tests::*;
use std::time::Duration;

/// A client with a durable session and a subscription to `a`, and someone who publishes to it.
fn subscriber_and_publisher(gw: &Gateway, version: Version) -> (Client, Client) {
    let mut subscriber = gw.open(connect(version, "c").durable());
    subscriber.subscribe("a", ExactlyOnce);
    (subscriber, gw.client(V5, "p"))
}

fn resume(gw: &Gateway, version: Version) -> Client {
    let client = gw.open(connect(version, "c").durable());
    assert!(client.session_present());
    client
}

fn is_dup(message: &Publish) -> bool {
    message.dup
}

/// [MQTT-4.3.2-5] [3.1.1 MQTT-4.3.2-2] After its PUBACK the same identifier is a new message, whatever its DUP says.
#[test]
fn qos1_repeat_after_puback_is_a_new_message() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let (mut subscriber, _) = subscriber_and_publisher(&gw, V5);
        let mut client = gw.client(version, "q");
        client.send(publish("a", "1").qos(AtLeastOnce, 1));
        client.send(publish("a", "2").qos(AtLeastOnce, 1).dup());
        assert_eq!(client.received(), [puback(1).to_packet(), puback(1).to_packet()]);
        assert_eq!(subscriber.heard(), ["a=1", "a=2"]);
    }
}

/// [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12] [MQTT-2.2.1-5] [3.1.1 MQTT-4.3.3-2] [3.1.1 MQTT-2.3.1-6]
/// Until its PUBREL a QoS 2 identifier is one message, also over a reconnect and a power cut; then it is free for another.
#[test]
fn qos2_is_delivered_onward_once() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let (mut subscriber, _) = subscriber_and_publisher(&gw, V5);
        let mut client = gw.open(connect(version, "q").durable());
        client.send(publish("a", "1").qos(ExactlyOnce, 7));
        client.send(publish("a", "1").qos(ExactlyOnce, 7).dup());
        assert_eq!(client.received(), [pubrec(7).to_packet(), pubrec(7).to_packet()]);
        client.lose();

        let mut client = gw.open(connect(version, "q").durable());
        client.send(publish("a", "1").qos(ExactlyOnce, 7).dup());
        assert_eq!(client.received(), [pubrec(7).to_packet()]);
        assert_eq!(subscriber.heard(), ["a=1"]);

        gw.crash(Duration::ZERO);
        let mut subscriber = resume(&gw, V5);
        let mut client = gw.open(connect(version, "q").durable());
        client.send(publish("a", "1").qos(ExactlyOnce, 7).dup());
        assert_eq!(client.received(), [pubrec(7).to_packet()]);
        client.send(pubrel(7));
        client.send(pubrel(7));
        let again = match version {
            V5 => pubcomp(7).because(ReasonCode::PacketIdentifierNotFound),
            _ => pubcomp(7),
        };
        assert_eq!(client.received(), [pubcomp(7).to_packet(), again.to_packet()]);
        client.send(publish("a", "2").qos(ExactlyOnce, 7));
        assert_eq!(client.received(), [pubrec(7).to_packet()]);
        assert_eq!(subscriber.heard(), ["a=2"]);
    }
}

/// [MQTT-4.3.3-8] [3.1.1 MQTT-4.3.3-2] PUBREC and PUBCOMP wait until what they promise is durable.
#[test]
fn qos2_handshake_of_a_durable_publisher_waits_for_the_commit() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut client = gw.open(connect(version, "q").durable());
        gw.withhold_commits();
        client.send(publish("a", "1").qos(ExactlyOnce, 7));
        assert_eq!(client.received(), []);
        gw.commit();
        client.expect(headgate_mqtt_codec::PacketType::PubRec);
        client.send(pubrel(7));
        assert_eq!(client.received(), []);
        gw.commit();
        assert_eq!(client.received(), [pubcomp(7).to_packet()]);
    }
}

/// [MQTT-4.3.3-9] After a PUBREC of 0x80 and above the identifier is free: what comes under it is a new message.
#[test]
fn refused_qos2_identifier_is_free_again() {
    let gw = Gateway::default();
    let (mut subscriber, _) = subscriber_and_publisher(&gw, V5);
    let mut client = gw.client(V5, "q");
    gw.rule(
        Action::Publish,
        "a",
        AccessDecision::Deny(DenyCode::NotAuthorized),
    );
    client.send(publish("a", "1").qos(ExactlyOnce, 7));
    let refused = pubrec(7).because(ReasonCode::NotAuthorized);
    assert_eq!(client.received(), [refused.to_packet()]);
    gw.rule(Action::Publish, "a", AccessDecision::Allow);
    client.send(publish("a", "2").qos(ExactlyOnce, 7));
    assert_eq!(client.received(), [pubrec(7).to_packet()]);
    assert_eq!(subscriber.heard(), ["a=2"]);
}

/// [MQTT-4.3.3-9] The same when it was the disk that refused: what is sent under the identifier later is not taken for a repeat.
#[test]
fn qos2_identifier_that_the_disk_refused_is_free_again() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let (mut subscriber, _) = subscriber_and_publisher(&gw, V5);
        subscriber.leave();
        let mut client = gw.open(connect(version, "q").durable());
        gw.break_disk(true);
        client.send(publish("a", "1").qos(ExactlyOnce, 7));
        client.received();
        gw.break_disk(false);
        if client.is_closed() {
            client = gw.open(connect(version, "q").durable());
        }
        client.send(publish("a", "2").qos(ExactlyOnce, 7));
        assert_eq!(client.received(), [pubrec(7).to_packet()]);
        gw.crash(Duration::ZERO);
        assert_eq!(resume(&gw, V5).heard(), ["a=2"], "it was acknowledged");
    }
}

/// [MQTT-2.2.1-3] One identifier cannot be two flows at a time: the later one is refused, 0x91; before MQTT 5 the link ends.
/// Our reading: docs/interpretations.md#packet-identifier-in-use.
#[test]
fn identifier_in_use_by_another_qos_is_refused() {
    use ReasonCode::PacketIdentifierInUse;
    for version in NUMBERED {
        let gw = Gateway::default();
        let (mut subscriber, _) = subscriber_and_publisher(&gw, V5);
        let mut client = gw.open(connect(version, "q").durable());
        client.send(publish("a", "1").qos(ExactlyOnce, 7));
        assert_eq!(client.received(), [pubrec(7).to_packet()]);
        client.send(publish("a", "2").qos(AtLeastOnce, 7));
        assert_eq!(subscriber.heard(), ["a=1"]);
        if version == V5 {
            let refused = puback(7).because(PacketIdentifierInUse);
            assert_eq!(client.received(), [refused.to_packet()]);
            client.send(pubrel(7));
            assert_eq!(client.received(), [pubcomp(7).to_packet()]);
        } else {
            client.assert_refused(PacketIdentifierInUse);
        }
    }
}

/// [MQTT-4.3.3-13] The handshake is completed even if the message expired meanwhile.
#[test]
fn qos2_handshake_outlives_the_message() {
    let gw = Gateway::default();
    let mut client = gw.client(V5, "q");
    client.send(
        publish("a", "1")
            .qos(ExactlyOnce, 7)
            .with(|p| p.message_expiry = Some(1)),
    );
    assert_eq!(client.received().len(), 1);
    gw.sleep(2);
    client.send(pubrel(7));
    assert_eq!(client.received(), [pubcomp(7).to_packet()]);
}

/// [MQTT-4.3.1-1] [MQTT-2.2.1-2] [3.1.1 MQTT-4.3.1-1] [3.1.1 MQTT-2.3.1-5] [3.1.1 MQTT-3.3.1-2] QoS 0 goes out once, without identifier.
#[test]
fn qos0_is_sent_once() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let (mut subscriber, mut publisher) = subscriber_and_publisher(&gw, version);
        publisher.say("a", "x");
        let messages = subscriber.messages();
        assert_eq!(messages, [publish("a", "x")]);
        subscriber.lose();
        assert_eq!(resume(&gw, version).messages(), []);
    }
}

/// [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.2-3] [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5]
/// [MQTT-2.2.1-4] [MQTT-2.2.1-5] [3.1.1 MQTT-4.3.2-1] [3.1.1 MQTT-4.3.3-1] [3.1.1 MQTT-2.3.1-4] [3.1.1 MQTT-2.3.1-6]
/// Each message has an identifier of its own, DUP 0, and is settled by its own handshake.
#[test]
fn outgoing_qos_handshakes() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let (mut subscriber, mut publisher) = subscriber_and_publisher(&gw, version);
        for (payload, qos) in [
            ("1", AtLeastOnce),
            ("2", ExactlyOnce),
            ("3", AtLeastOnce),
            ("4", ExactlyOnce),
        ] {
            publisher.deliver(publish("a", payload), qos);
        }
        let messages = subscriber.messages();
        let mut numbers: Vec<u16> = messages.iter().map(PublishExt::number).collect();
        assert!(!messages.iter().any(is_dup));
        assert_eq!(
            messages.iter().map(|m| m.qos as u8).collect::<Vec<_>>(),
            [1, 2, 1, 2]
        );
        assert_eq!(gw.stats().inflight, 4);

        subscriber.send(puback(numbers[0]));
        assert_eq!(gw.stats().inflight, 3);
        subscriber.send(pubrec(numbers[1]));
        assert_eq!(subscriber.received(), [pubrel(numbers[1]).to_packet()]);
        assert_eq!(gw.stats().inflight, 3, "until PUBCOMP");
        subscriber.send(pubrec(numbers[1]));
        assert_eq!(
            subscriber.received(),
            [pubrel(numbers[1]).to_packet()],
            "a repeated PUBREC is answered again"
        );
        subscriber.send(pubcomp(numbers[1]));
        assert_eq!(gw.stats().inflight, 2);

        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 4, "all different");
        assert!(!numbers.contains(&0));
    }
}

/// [MQTT-4.3.3-4] [3.1.1 MQTT-4.3.3-1] PUBREL says that we know that the client has the message: it waits until that is durable.
#[test]
fn pubrel_waits_until_pubrec_is_durable() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let (mut subscriber, mut publisher) = subscriber_and_publisher(&gw, version);
        publisher.deliver(publish("a", "x"), ExactlyOnce);
        let number = subscriber.messages()[0].number();
        gw.withhold_commits();
        subscriber.send(pubrec(number));
        assert_eq!(subscriber.received(), []);
        gw.commit();
        assert_eq!(subscriber.received(), [pubrel(number).to_packet()]);
    }
}

/// [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.6.0-5]
/// [3.1.1 MQTT-4.4.0-1] [3.1.1 MQTT-3.3.1-1] [3.1.1 MQTT-4.3.2-1] [3.1.1 MQTT-4.3.3-1] [3.1.1 MQTT-4.6.0-6] [3.1.1 MQTT-2.3.1-4]
/// What was not acknowledged is sent again on resumption, in order and under the same identifiers, and at no other time; also after a
/// power cut.
#[test]
fn unacknowledged_is_sent_again_on_resumption_only() {
    for version in NUMBERED {
        for cut in [false, true] {
            let gw = Gateway::default();
            let (mut subscriber, mut publisher) = subscriber_and_publisher(&gw, version);
            for (payload, qos) in [
                ("a", AtLeastOnce),
                ("b", ExactlyOnce),
                ("c", ExactlyOnce),
                ("d", AtLeastOnce),
            ] {
                publisher.deliver(publish("a", payload), qos);
            }
            let sent = subscriber.messages();
            subscriber.send(pubrec(sent[2].number()));
            assert_eq!(subscriber.received(), [pubrel(sent[2].number()).to_packet()]);
            gw.sleep(3_600);
            assert_eq!(subscriber.received(), [], "no timer sends anything again");

            if cut {
                gw.crash(Duration::from_secs(1));
            } else {
                subscriber.lose();
            }
            let mut subscriber = resume(&gw, version);
            let expected = [
                pubrel(sent[2].number()).to_packet(),
                sent[0].clone().dup().to_packet(),
                sent[1].clone().dup().to_packet(),
                sent[3].clone().dup().to_packet(),
            ];
            assert_eq!(subscriber.received(), expected);
            subscriber.send(pubcomp(sent[2].number()));
            subscriber.send(pubrec(sent[1].number()));
            assert_eq!(subscriber.received(), [pubrel(sent[1].number()).to_packet()]);

            let mut stranger = gw.open(connect(version, "other").durable());
            assert_eq!(stranger.received(), []);
            let mut clean = gw.open(connect(version, "c"));
            assert_eq!(clean.received(), []);
        }
    }
}

/// [MQTT-4.4.0-2] [MQTT-4.9.0-2] [MQTT-2.2.1-4] A PUBACK or PUBREC of 0x80 and above settles the message for good.
#[test]
fn refused_delivery_is_settled() {
    let gw = Gateway::default();
    let (mut subscriber, mut publisher) = subscriber_and_publisher(&gw, V5);
    publisher.deliver(publish("a", "1"), AtLeastOnce);
    publisher.deliver(publish("a", "2"), ExactlyOnce);
    let sent = subscriber.messages();
    subscriber.send(puback(sent[0].number()).because(ReasonCode::UnspecifiedError));
    subscriber.send(pubrec(sent[1].number()).because(ReasonCode::NotAuthorized));
    assert_eq!(subscriber.received(), [], "no PUBREL");
    assert_eq!(gw.stats().inflight, 0);
    subscriber.lose();
    assert_eq!(resume(&gw, V5).received(), []);
}

/// Acknowledgements that nobody asked for are ignored and counted; those of the wrong kind break the protocol.
/// Our reading: docs/interpretations.md#unknown-acknowledgements.
#[test]
fn unexpected_acknowledgements() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let (mut subscriber, mut publisher) = subscriber_and_publisher(&gw, version);
        subscriber.send(puback(9));
        subscriber.send(pubcomp(9));
        assert_eq!(subscriber.received(), []);
        subscriber.send(pubrec(9));
        let unknown = match version {
            V5 => pubrel(9).because(ReasonCode::PacketIdentifierNotFound),
            _ => pubrel(9),
        };
        assert_eq!(subscriber.received(), [unknown.to_packet()]);
        subscriber.send(pubcomp(9));
        assert!(!subscriber.is_closed());
        let missed = [
            PacketMetric::PubackMissed,
            PacketMetric::PubrecMissed,
            PacketMetric::PubcompMissed,
        ];
        assert_eq!(missed.map(|metric| gw.counted(metric)), [1, 1, 2]);

        publisher.deliver(publish("a", "1"), AtLeastOnce);
        publisher.deliver(publish("a", "2"), ExactlyOnce);
        for wrong in [AckKind::PubRec, AckKind::PubAck, AckKind::PubComp] {
            let sent = subscriber.messages();
            let number = sent[usize::from(wrong != AckKind::PubRec)].number();
            subscriber.send(headgate_mqtt_codec::Ack::success(wrong, id(number)));
            subscriber.assert_refused(ReasonCode::ProtocolError);
            subscriber = resume(&gw, version);
        }
    }
}

/// A refusal of something unknown ends there: no PUBREL follows a PUBREC of 0x80 and above. MQTT 5 §4.3.3
#[test]
fn refusal_of_an_unknown_delivery_is_not_answered() {
    let gw = Gateway::default();
    let mut client = gw.client(V5, "c");
    client.send(pubrec(9).because(ReasonCode::UnspecifiedError));
    assert_eq!(client.received(), []);
}

/// [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1] [3.1.1 MQTT-2.3.1-4] Identifiers go round after 65,535 and pass by the one in use.
#[test]
fn identifiers_wrap_around_those_in_use() {
    let gw = Gateway::default();
    let (mut subscriber, mut publisher) = subscriber_and_publisher(&gw, V5);
    publisher.deliver(publish("a", "held"), AtLeastOnce);
    let held = subscriber.messages()[0].number();
    let mut seen_again = false;
    for round in 0..65_600u32 {
        publisher.send(publish("a", "x").qos(AtLeastOnce, 1));
        let messages = subscriber.messages();
        if messages.is_empty() {
            assert_eq!(round, 65_534, "its turn has come, and it is in use");
            subscriber.send(puback(held));
            assert_eq!(subscriber.messages()[0].number(), held);
            seen_again = true;
            break;
        }
        assert_ne!(messages[0].number(), held);
        subscriber.send(puback(messages[0].number()));
    }
    assert!(seen_again);
}

/// [MQTT-4.6.0-5] [MQTT-4.6.0-6] [3.1.1 MQTT-4.6.0-5] [3.1.1 MQTT-4.6.0-6]
/// Messages of one publisher on one topic at one QoS arrive in their order: live, held back, queued, and sent again.
#[test]
fn messages_keep_their_order() {
    for version in NUMBERED {
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let gw = Gateway::default();
            let (mut subscriber, mut publisher) = subscriber_and_publisher(&gw, version);
            let mut got: Vec<String> = Vec::new();
            for n in 0..300 {
                publisher.deliver(publish("a", &n.to_string()), qos);
                match n {
                    // Breaks off in the middle, comes back later; QoS 0 of that time is lost.
                    100 => {
                        got.extend(subscriber.heard());
                        subscriber.lose();
                    }
                    150 => subscriber = resume(&gw, version),
                    _ => {}
                }
            }
            got.extend(subscriber.heard());
            let numbers: Vec<u32> = got.iter().map(|text| text[2..].parse().unwrap()).collect();
            let expected: Vec<u32> = match qos {
                AtMostOnce => (0..=100).chain(151..300).collect(),
                _ => (0..300).collect(),
            };
            assert_eq!(numbers, expected, "QoS {}", qos as u8);
        }
    }
}

/// [MQTT-4.6.0-5] [3.1.1 MQTT-4.6.0-6] PUBREL goes out in the order of the PUBRECs, whatever the order of the messages.
#[test]
fn pubrel_follows_the_order_of_pubrec() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let (mut subscriber, mut publisher) = subscriber_and_publisher(&gw, version);
        for payload in ["1", "2", "3"] {
            publisher.deliver(publish("a", payload), ExactlyOnce);
        }
        let sent: Vec<u16> = subscriber.messages().iter().map(PublishExt::number).collect();
        gw.withhold_commits();
        for at in [2, 0, 1] {
            subscriber.send(pubrec(sent[at]));
        }
        gw.commit();
        let expected: Vec<Packet> = [2, 0, 1].map(|at| pubrel(sent[at]).to_packet()).into();
        assert_eq!(subscriber.received(), expected);
    }
}

/// [MQTT-4.3.3-7] What was sent once is sent again and completed even after its expiry.
#[test]
fn qos2_does_not_expire_once_it_was_sent() {
    let gw = Gateway::default();
    let (mut subscriber, mut publisher) = subscriber_and_publisher(&gw, V5);
    publisher.deliver(
        publish("a", "x").with(|p| p.message_expiry = Some(5)),
        ExactlyOnce,
    );
    assert_eq!(subscriber.messages().len(), 1);
    subscriber.lose();
    gw.sleep(10);
    let mut subscriber = resume(&gw, V5);
    assert_eq!(subscriber.heard(), ["a=x"]);
    assert_eq!(gw.stats().inflight, 0);
}

/// [MQTT-4.3.3-10] [MQTT-4.3.3-6] [3.1.1 MQTT-4.3.3-1] [3.1.1 MQTT-4.3.3-2] Exactly once: from publisher to subscriber, with a power cut
/// after every step of the handshakes, before or after the commit. Each side does what the specification asks of a client.
#[test]
fn qos2_is_exactly_once_over_a_power_cut_after_every_step() {
    for version in NUMBERED {
        for cut_after in 0..24 {
            for commits in [false, true] {
                let gw = Gateway::default();
                let mut publisher = Flow::new(&gw, version, "p");
                let mut subscriber = Flow::new(&gw, version, "s");
                subscriber.link.subscribe("a", ExactlyOnce);
                if !commits {
                    gw.withhold_commits();
                }
                let mut step = 0;
                let mut cut = |gw: &Gateway, publisher: &mut Flow, subscriber: &mut Flow| {
                    if step == cut_after {
                        gw.crash(Duration::from_secs(1));
                        publisher.reconnect(gw);
                        subscriber.reconnect(gw);
                    } else if !commits && step % 2 == 1 {
                        gw.commit();
                    }
                    step += 1;
                };
                for payload in ["1", "2"] {
                    publisher.outgoing = Some((publish("a", payload).qos(ExactlyOnce, 7), false));
                    publisher.push();
                    for _ in 0..12 {
                        cut(&gw, &mut publisher, &mut subscriber);
                        publisher.turn();
                        subscriber.turn();
                    }
                    assert!(
                        publisher.outgoing.is_none(),
                        "{version} cut {cut_after}: {payload} is not done"
                    );
                }
                let told = format!("MQTT {version}, cut after step {cut_after}, commits {commits}");
                assert_eq!(subscriber.delivered, ["1", "2"], "{told}");
            }
        }
    }
}

/// The client's side of QoS 2, one answer in a turn.
struct Flow {
    name: &'static str,
    version: Version,
    link: Client,
    /// What it publishes, and whether PUBREC came.
    outgoing: Option<(Publish, bool)>,
    /// Identifiers that wait for PUBREL.
    pending: Vec<u16>,
    delivered: Vec<String>,
}

impl Flow {
    fn new(gw: &Gateway, version: Version, name: &'static str) -> Self {
        Self {
            name,
            version,
            link: gw.open(connect(version, name).durable()),
            outgoing: None,
            pending: Vec::new(),
            delivered: Vec::new(),
        }
    }

    fn reconnect(&mut self, gw: &Gateway) {
        self.link = gw.open(connect(self.version, self.name).durable());
        assert!(self.link.session_present());
        if let Some((publish, _)) = &mut self.outgoing {
            publish.dup = true;
        }
        self.push();
    }

    fn push(&mut self) {
        match &self.outgoing {
            Some((publish, false)) => self.link.send(publish.clone()),
            Some((publish, true)) => self.link.send(pubrel(publish.number())),
            None => {}
        }
    }

    fn turn(&mut self) {
        for packet in self.link.received() {
            match packet {
                Packet::Publish(publish) => {
                    if !self.pending.contains(&publish.number()) {
                        self.pending.push(publish.number());
                        self.delivered
                            .push(String::from_utf8(publish.payload.to_vec()).unwrap());
                    }
                    self.link.send(pubrec(publish.number()));
                }
                Packet::Ack(ack) => match ack.kind {
                    AckKind::PubRec => {
                        if let Some((_, received)) = &mut self.outgoing {
                            *received = true;
                        }
                        self.link.send(pubrel(ack.packet_id.get()));
                    }
                    AckKind::PubRel => {
                        self.pending.retain(|number| *number != ack.packet_id.get());
                        self.link.send(pubcomp(ack.packet_id.get()));
                    }
                    AckKind::PubComp => self.outgoing = None,
                    AckKind::PubAck => panic!("no QoS 1 here"),
                },
                other => panic!("{other:?}"),
            }
        }
    }
}
