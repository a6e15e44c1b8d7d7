//! CONNECT and CONNACK. MQTT 5 §3.1, §3.2; 3.1.1 the same sections

use headgate_model::access::{AuthRefusal, DenyCode};
use headgate_model::{AccessDecision, Action, Answer};
use headgate_mqtt_codec::{Packet, PacketType, Qos, ReasonCode, Version, Will};
use headgate_tests::*;
use std::time::Duration;

/// [MQTT-3.1.0-1] [MQTT-3.14.0-1] [3.1.1 MQTT-3.1.0-1] [3.1.1 MQTT-4.8.0-1]
/// The first packet is CONNECT; anything else is answered by closing, without a word.
#[test]
fn first_packet_must_be_connect() {
    let packets: [Packet; 9] = [
        publish("a", "x").to_packet(),
        puback(1).to_packet(),
        pubrec(1).to_packet(),
        pubrel(1).to_packet(),
        subscribe(1, &[("a", AtMostOnce)]).to_packet(),
        unsubscribe(1, &["a"]).to_packet(),
        Packet::PingReq,
        disconnect(ReasonCode::Success).to_packet(),
        auth(ReasonCode::ContinueAuthentication, "m", "").to_packet(),
    ];
    let gw = Gateway::default();
    for packet in packets {
        for version in NUMBERED {
            if version == V311 && packet.packet_type() == PacketType::Auth {
                continue;
            }
            let mut client = gw.link(version);
            client.send(packet.clone());
            assert!(client.is_closed(), "{packet:?}");
            assert_eq!(client.received(), []);
        }
    }
}

/// [MQTT-3.1.0-2] [MQTT-3.2.0-2] [MQTT-4.13.1-1] [MQTT-4.13.2-1] [3.1.1 MQTT-3.1.0-2] [3.1.1 MQTT-4.8.0-1]
/// A second CONNECT ends the connection as an error: the will goes out, there is no second CONNACK, and nobody else is touched.
#[test]
fn second_connect_is_a_protocol_error() {
    for version in NUMBERED {
        for in_one_write in [false, true] {
            let gw = Gateway::default();
            let mut watcher = gw.client(V5, "watcher");
            watcher.subscribe("gone", AtMostOnce);
            let connect = connect(version, "c").will(will("gone", "c"));
            let mut client = if in_one_write {
                gw.connect_with(connect.clone(), vec![connect.to_packet()])
            } else {
                let mut client = gw.connect(connect.clone());
                client.send(connect);
                client
            };
            assert_eq!(client.code(), Some(ReasonCode::Success));
            client.assert_refused(ReasonCode::ProtocolError);
            assert_eq!(watcher.heard(), ["gone=c"]);
            watcher.send(Packet::PingReq);
            assert_eq!(watcher.received(), [Packet::PingResp]);
        }
    }
}

/// [MQTT-3.1.4-4] [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.0-2] [3.1.1 MQTT-3.1.4-3] [3.1.1 MQTT-3.1.4-4] [3.1.1 MQTT-3.2.0-1]
/// CONNACK comes before everything else, also when more was sent in the same write and messages wait in the session.
#[test]
fn accepted_connect_is_answered_first() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut client = gw.open(connect(version, "c").durable());
        client.subscribe("a", AtLeastOnce);
        client.leave();
        gw.client(V5, "p").deliver(publish("a", "waiting"), AtLeastOnce);

        gw.access(|_| None);
        let mut client = gw.connect_with(
            connect(version, "c").durable(),
            vec![subscribe(1, &[("b", AtMostOnce)]).to_packet(), Packet::PingReq],
        );
        assert_eq!(client.connack, None, "the verdict is not there yet");
        assert_eq!(client.received(), []);

        let verdict = gw.allowed(None);
        gw.answer(verdict);
        let kinds: Vec<_> = client.received().iter().map(Packet::packet_type).collect();
        assert_eq!(kinds[0], PacketType::ConnAck);
        assert_eq!(
            kinds.iter().filter(|kind| **kind == PacketType::ConnAck).count(),
            1
        );
        for kind in [PacketType::SubAck, PacketType::PingResp, PacketType::Publish] {
            assert!(kinds.contains(&kind), "{kind} among {kinds:?}");
        }
    }
}

/// [MQTT-3.2.2-2] [MQTT-3.2.2-3] [3.1.1 MQTT-3.2.2-1] [3.1.1 MQTT-3.2.2-2] [3.1.1 MQTT-3.2.2-3]
#[test]
fn session_present_tells_the_truth() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let first = gw.open(connect(version, "c").durable());
        assert!(!first.session_present(), "none is stored");
        drop(first);
        let again = gw.open(connect(version, "c").durable());
        assert!(again.session_present(), "one is stored");
        let clean = gw.open(connect(version, "c"));
        assert!(!clean.session_present(), "a clean start has none");
        assert_eq!(clean.code(), Some(ReasonCode::Success));
    }
}

/// [MQTT-3.2.2-6] [3.1.1 MQTT-3.2.2-4]
#[test]
fn a_refusal_never_says_session_present() {
    for version in NUMBERED {
        let gw = Gateway::default();
        gw.open(connect(version, "c").durable()).leave();
        gw.access(|_| Some(Answer::Refused(AuthRefusal::NotAuthorized)));
        let client = gw.connect(connect(version, "c").durable());
        assert_eq!(client.code(), Some(ReasonCode::NotAuthorized));
        assert!(!client.session_present());
    }
}

/// [MQTT-3.1.4-2] [MQTT-3.1.4-6] [MQTT-3.2.2-7] [MQTT-3.14.0-1] [MQTT-4.13.2-1] [3.1.1 MQTT-3.1.4-5] [3.1.1 MQTT-3.2.2-5]
/// A refused client is told why and closed; what it sent behind CONNECT reaches nobody, an earlier connection is not disturbed.
#[test]
fn refused_connect_closes_and_ignores_the_rest() {
    let causes = [
        (
            AuthRefusal::BadUserNameOrPassword,
            ReasonCode::BadUserNameOrPassword,
        ),
        (AuthRefusal::NotAuthorized, ReasonCode::NotAuthorized),
        (AuthRefusal::Unavailable, ReasonCode::ServerUnavailable),
    ];
    for version in NUMBERED {
        // 3.1.1 has no words for these. §3.2.2.3
        let (busy, banned) = match version {
            Version::V5 => (ReasonCode::ServerBusy, ReasonCode::Banned),
            _ => (ReasonCode::ServerUnavailable, ReasonCode::NotAuthorized),
        };
        let causes = causes.into_iter();
        for (cause, code) in causes.chain([(AuthRefusal::Busy, busy), (AuthRefusal::Banned, banned)]) {
            let gw = Gateway::default();
            let mut earlier = gw.client(version, "c");
            earlier.subscribe("a", AtMostOnce);
            gw.access(move |_| Some(Answer::Refused(cause)));
            let refused = connect(version, "c").will(will("a", "will"));
            let mut client = gw.connect_with(
                refused,
                vec![
                    publish("a", "x").to_packet(),
                    subscribe(1, &[("a", AtMostOnce)]).to_packet(),
                ],
            );
            assert_eq!(client.code(), Some(code));
            assert!(client.is_closed());
            assert_eq!(client.received(), [], "no DISCONNECT, no second CONNACK");
            assert!(!earlier.is_closed());
            assert_eq!(earlier.heard(), Vec::<String>::new());
        }
    }
}

/// [3.1.1 MQTT-3.2.2-6] A refusal that none of the five return codes names ends without CONNACK; MQTT 5 has a code.
#[test]
fn refusal_without_a_return_code_is_silent() {
    let gw = Gateway::with(|s| s.mqtt.max_qos = 1);
    let wished = |version| connect(version, "c").will(will("gone", "").qos(ExactlyOnce));
    let mut old = gw.connect(wished(V311));
    assert!(old.is_closed());
    assert_eq!((old.code(), old.received()), (None, vec![]));
    assert_eq!(gw.connect(wished(V5)).code(), Some(ReasonCode::QosNotSupported));
}

/// [MQTT-3.1.4-1] [3.1.1 MQTT-3.1.4-1] A malformed CONNECT is answered by CONNACK in MQTT 5, by nothing before, and the link ends.
#[test]
fn malformed_connect_closes_the_link() {
    let reserved_flag_set = |level| {
        let mut bytes = vec![0x10, 0x0d, 0, 4, b'M', b'Q', b'T', b'T', level, 0x03, 0, 0];
        bytes.extend(if level == 5 {
            &[0u8, 0, 1, b'c'][..]
        } else {
            &[0, 1, b'c']
        });
        bytes[1] = u8::try_from(bytes.len() - 2).unwrap();
        bytes
    };
    let gw = Gateway::default();
    let mut old = gw.link(V311);
    old.send_bytes(&reserved_flag_set(4));
    assert!(old.is_closed());
    assert_eq!(old.received_bytes(), b"");

    let mut new = gw.link(V5);
    new.send_bytes(&reserved_flag_set(5));
    assert!(new.is_closed());
    assert_eq!(new.received_bytes(), [0x20, 3, 0, 0x81, 0]);
}

/// [MQTT-3.1.2-1] [MQTT-3.1.2-2] [3.1.1 MQTT-3.1.2-1] [3.1.1 MQTT-3.1.2-2]
/// A wrong protocol name gets no answer; a wrong level is told so in the words of the nearest version we speak.
/// Our reading: docs/interpretations.md#protocol-level.
#[test]
fn unknown_protocol_name_and_level() {
    let gw = Gateway::default();
    let answer = |name: &[u8], level: u8| {
        let mut client = gw.link(V311);
        let mut body = vec![0, u8::try_from(name.len()).unwrap()];
        body.extend(name);
        body.extend([level, 2, 0, 0, 0, 1, b'c']);
        let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        client.send_bytes(&packet);
        assert!(client.is_closed());
        client.received_bytes()
    };
    for name in [&b"MQTt"[..], b"MQTTX", b"", b"HTTP"] {
        assert_eq!(answer(name, 4), b"");
    }
    for level in [0, 3] {
        assert_eq!(answer(b"MQTT", level), [0x20, 2, 0, 1], "level {level}");
    }
    for level in [6, 0x85, 255] {
        assert_eq!(answer(b"MQTT", level), [0x20, 3, 0, 0x84, 0], "level {level}");
    }
}

/// [MQTT-3.1.3-5] [3.1.1 MQTT-3.1.3-5]
#[test]
fn client_ids_of_1_to_23_letters_and_digits_are_accepted() {
    let gw = Gateway::default();
    for version in ALL {
        for client_id in [
            "a",
            "Z",
            "0",
            "0123456789abcdefXYZ0123",
            "ghijklmnopqrstuvwyzABCD",
        ] {
            let client = gw.client(version, client_id);
            assert!(!client.is_closed());
        }
    }
}

/// [MQTT-3.1.3-8] [3.1.1 MQTT-3.1.3-9]
#[test]
fn client_id_that_is_too_long_is_refused() {
    let gw = Gateway::with(|s| s.mqtt.max_client_id_bytes = 23);
    for version in NUMBERED {
        assert_eq!(
            gw.client(version, &"i".repeat(23)).code(),
            Some(ReasonCode::Success)
        );
        let client = gw.connect(connect(version, &"i".repeat(24)));
        assert_eq!(client.code(), Some(ReasonCode::ClientIdentifierNotValid));
        assert!(client.is_closed());
    }
}

/// [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] A client without an id gets one that nobody has, and can come back under it.
#[test]
fn client_id_is_assigned() {
    let gw = Gateway::default();
    let assigned = |client: &Client| {
        let name = client.told().assigned_client_identifier;
        name.expect("it is told").as_str().to_owned()
    };
    let mut durable = gw.open(connect(V5, "").resume().expiry(60));
    let name = assigned(&durable);
    durable.subscribe("a", AtLeastOnce);
    durable.leave();
    let other = gw.client(V5, "");
    assert_ne!(assigned(&other), name, "also not that of a stored session");

    let back = gw.open(connect(V5, &name).resume().expiry(60));
    assert!(back.session_present());
    assert_eq!(back.told().assigned_client_identifier, None);
}

/// [3.1.1 MQTT-3.1.3-6] Two clients without an id do not disturb each other.
#[test]
fn empty_client_ids_are_different_clients() {
    let gw = Gateway::default();
    let mut one = gw.client(V311, "");
    let mut two = gw.client(V311, "");
    assert!(!one.is_closed() && !two.is_closed());
    one.subscribe("one", AtMostOnce);
    two.subscribe("two", AtMostOnce);
    two.say("one", "x");
    assert_eq!((one.heard().len(), two.heard().len()), (1, 0));
}

/// [3.1.1 MQTT-3.1.3-7] [3.1.1 MQTT-3.1.3-8] An empty id asks for a clean session before MQTT 5, and is no id at all in MQTT 3.1.
#[test]
fn empty_client_id_needs_a_clean_session() {
    let gw = Gateway::default();
    for wrong in [
        connect(V311, "").resume(),
        connect(V31, ""),
        connect(V31, "").resume(),
    ] {
        let client = gw.connect(wrong);
        assert_eq!(client.code(), Some(ReasonCode::ClientIdentifierNotValid));
        assert!(client.is_closed());
    }
}

/// [MQTT-3.1.4-3] [3.1.1 MQTT-3.1.4-2] The older of two connections of one client id is closed; MQTT 5 is told 0x8E.
#[test]
fn a_second_connection_takes_the_session_over() {
    for (older, newer) in [(V5, V5), (V311, V311), (V5, V311), (V311, V5)] {
        for clean in [false, true] {
            let gw = Gateway::default();
            let mut old = gw.open(connect(older, "c").durable());
            old.subscribe("a", AtLeastOnce);
            gw.client(V5, "p").deliver(publish("a", "x"), AtLeastOnce);
            let sent = old.messages();

            let hello = if clean {
                connect(newer, "c")
            } else {
                connect(newer, "c").durable()
            };
            let mut new = gw.open(hello);
            old.assert_refused(ReasonCode::SessionTakenOver);
            assert_eq!(new.session_present(), !clean);
            let again = new.messages();
            if clean {
                assert_eq!(again, []);
            } else {
                assert_eq!((again[0].dup, again[0].packet_id), (true, sent[0].packet_id));
            }
        }
    }
}

/// [MQTT-3.2.2-9] [MQTT-3.2.2-10] [MQTT-3.2.2-11] [MQTT-3.2.2-12]
/// A listener that offers less than QoS 2 says so, grants less, and refuses more.
#[test]
fn maximum_qos_is_told_and_kept() {
    let told = |gw: &Gateway| gw.client(V5, "c").told().maximum_qos;
    assert_eq!(told(&Gateway::default()), None);
    for maximum in [AtMostOnce, AtLeastOnce] {
        let gw = Gateway::with(|s| s.mqtt.max_qos = maximum as u8);
        assert_eq!(told(&gw), Some(maximum));
        let mut client = gw.client(V5, "c");
        for wished in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let granted = client.subscribe("a", wished);
            assert_eq!(granted as u8, (wished as u8).min(maximum as u8));
        }
        let above = Qos::from_bits(maximum as u8 + 1).unwrap();
        client.send(publish("a", "x").qos(above, 1));
        client.assert_refused(ReasonCode::QosNotSupported);

        let refused = gw.connect(connect(V5, "c").will(will("a", "x").qos(above)));
        assert_eq!(refused.code(), Some(ReasonCode::QosNotSupported));
        assert!(refused.is_closed());
    }
}

/// [MQTT-3.2.2-13] [MQTT-3.2.2-14]
#[test]
fn retain_that_is_not_available_is_told_and_refused() {
    let gw = Gateway::with(|s| s.mqtt.retain_available = false);
    let mut client = gw.client(V5, "c");
    let properties = &client.told();
    assert_eq!(properties.retain_available, Some(false));
    client.send(publish("a", "x").retain());
    client.assert_refused(ReasonCode::RetainNotSupported);
    let refused = gw.connect(connect(V5, "c").will(will("a", "x").retain()));
    assert_eq!(refused.code(), Some(ReasonCode::RetainNotSupported));
    assert!(refused.is_closed());

    let usual = Gateway::default().client(V5, "c").told();
    assert_eq!(usual.retain_available, None);
}

/// [MQTT-3.1.2-28] Response Information comes on request only, and only if there is any.
#[test]
fn response_information_only_on_request() {
    let gw = Gateway::with(|s| s.mqtt.response_information = "answers/%c".into());
    let told = |gw: &Gateway, wish| {
        let client = gw.open(connect(V5, "c").with(|p| p.request_response_information = wish));
        client.told().response_information
    };
    assert_eq!(told(&gw, None), None);
    assert_eq!(told(&gw, Some(false)), None);
    assert_eq!(told(&gw, Some(true)), Some(text("answers/c")));
    assert_eq!(told(&Gateway::default(), Some(true)), None);
}

/// [MQTT-3.1.4-2] A will that the client may not publish is refused with CONNECT, also when the rule has to be asked for.
/// Our reading: docs/interpretations.md#denied-will.
#[test]
fn will_that_is_not_allowed_refuses_the_connect() {
    let gw = Gateway::default();
    gw.rule(
        Action::Publish,
        "secret",
        AccessDecision::Deny(DenyCode::NotAuthorized),
    );
    gw.rule(Action::Publish, "unclear", AccessDecision::Ask);
    for topic in ["secret", "$SYS/brokers"] {
        let client = gw.connect(connect(V5, "c").will(will(topic, "x")));
        assert_eq!(client.code(), Some(ReasonCode::NotAuthorized), "{topic}");
        assert!(client.is_closed());
    }
    gw.client(V5, "d");
    assert_eq!(
        gw.open(connect(V5, "c").will(will("unclear", "x"))).code(),
        Some(ReasonCode::Success)
    );
}

/// MQTT 5 §3.1.2.11.4 [MQTT-3.14.0-1]: a CONNACK that is larger than the client takes is not sent, and nothing is in its place.
#[test]
fn connack_that_is_too_large_is_not_sent() {
    let gw = Gateway::default();
    let tiny = connect(V5, "").with(|p| p.maximum_packet_size = std::num::NonZeroU32::new(8));
    let mut client = gw.connect(tiny);
    assert!(client.is_closed());
    assert_eq!(
        (client.code(), client.received()),
        (None, vec![]),
        "no DISCONNECT before CONNACK either"
    );
    assert_eq!(gw.stats().clients, 0);
}

/// A client that connects and says nothing is closed; so is one that stops in the middle of CONNECT.
#[test]
fn silent_connection_is_closed() {
    let gw = Gateway::default();
    let mut silent = gw.link(V5);
    let mut half = gw.link(V5);
    half.send_bytes(&[0x10, 0x0e, 0, 4, b'M']);
    gw.advance(Duration::from_millis(9_999));
    assert!(!silent.is_closed() && !half.is_closed());
    gw.advance(Duration::from_millis(1));
    assert!(silent.is_closed() && half.is_closed());
    assert_eq!(
        (silent.received_bytes(), half.received_bytes()),
        (Vec::new(), Vec::new())
    );
}

/// What a client said about itself reaches the one who decides.
#[test]
fn credentials_reach_the_policy() {
    let gw = Gateway::default();
    let verdict = gw.allowed(None);
    gw.access(move |question| {
        let headgate_model::Question::Authenticate(who) = question else {
            return None;
        };
        let right = who.username.as_deref() == Some("user") && who.password.as_deref() == Some(b"secret");
        Some(if right {
            verdict.clone()
        } else {
            Answer::Refused(AuthRefusal::BadUserNameOrPassword)
        })
    });
    for version in ALL {
        let code = |connect| gw.connect(connect).code();
        assert_eq!(
            code(connect(version, "c").login("user", "secret")),
            Some(ReasonCode::Success)
        );
        assert_eq!(
            code(connect(version, "c").login("user", "other")),
            Some(ReasonCode::BadUserNameOrPassword)
        );
        assert_eq!(
            code(connect(version, "c")),
            Some(ReasonCode::BadUserNameOrPassword)
        );
    }
}

/// [MQTT-3.1.2-7] [MQTT-3.1.3-1] [3.1.1 MQTT-3.1.3-1] Fields of the payload are read from their places: each is seen where it belongs.
#[test]
fn connect_payload_fields_stand_in_order() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let verdict = gw.allowed(None);
        gw.access(move |question| {
            let headgate_model::Question::Authenticate(who) = question else {
                return None;
            };
            let fields = (
                who.client_id.as_str(),
                who.username.as_deref(),
                who.password.as_deref(),
            );
            assert!(
                fields.0 != "c" || fields == ("c", Some("name"), Some(&b"word"[..])),
                "{fields:?}"
            );
            Some(verdict.clone())
        });
        let mut watcher = gw.client(V5, "watcher");
        watcher.subscribe("topic", AtMostOnce);
        let will: Will = will("topic", "payload");
        let mut client = gw.open(connect(version, "c").will(will).login("name", "word"));
        client.lose();
        assert_eq!(watcher.heard(), ["topic=payload"]);
    }
}

/// EMQ, mosquitto: a bridge sets bit 0x80 of the level. It is sent RETAIN as published, and not what it published itself.
#[test]
fn bridge_bit_means_no_echo_and_retain_as_published() {
    for version in [V31, V311] {
        let gw = Gateway::default();
        let mut hello = connect(version, "bridge");
        hello.bridge = true;
        let mut bridge = gw.open(hello);
        bridge.subscribe("#", AtMostOnce);
        bridge.say("from/bridge", "x");
        gw.client(V5, "p").send(publish("to/bridge", "y").retain());
        let messages = bridge.messages();
        assert_eq!(messages.len(), 1);
        assert_eq!(
            (messages[0].brief().as_str(), messages[0].retain),
            ("to/bridge=y", true)
        );
    }
}
