//! What is written: the shortest legal form, what a version cannot say left out, and nothing the peer's Maximum
//! Packet Size forbids. §3

mod common;

use bytes::{Bytes, BytesMut};
use common::{VERSIONS, decode_one, encoded, id, server};
use headgate_mqtt_codec::{
    Ack, AckKind, AckProperties, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect, Disconnect,
    DisconnectProperties, Packet, Publish, PublishParts, PublishProperties, Qos, ReasonCode, SubAck,
    Subscribe, SubscribeFilter, SubscribeOptions, UnsubAck, Unsubscribe, UserProperty, Utf8, Version, Will,
    encode_publish, encoded_len, fit,
};

fn user_properties() -> Vec<UserProperty> {
    vec![("name".into(), "value".into())]
}

fn subscribe() -> Packet {
    let filters = vec![SubscribeFilter {
        filter: "a".into(),
        options: SubscribeOptions::qos(Qos::AtLeastOnce),
    }];
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: id(1),
        identifier: None,
        user_properties: vec![],
        filters,
    }))
}

fn unsubscribe() -> Packet {
    Packet::Unsubscribe(Box::new(Unsubscribe {
        packet_id: id(1),
        user_properties: vec![],
        filters: vec!["a".into()],
    }))
}

/// Reserved flags have the values of the table. [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
/// [3.1.1 MQTT-2.2.2-1] [3.1.1 MQTT-3.6.1-1] [3.1.1 MQTT-3.8.1-1] [3.1.1 MQTT-3.10.1-1]
#[test]
fn first_bytes() {
    let ack = |kind| Packet::Ack(Ack::success(kind, id(1)));
    let firsts = [
        (
            Packet::Connect(Box::new(Connect::new(Version::V5, "c".into()))),
            0x10,
        ),
        (Packet::ConnAck(Box::default()), 0x20),
        (ack(AckKind::PubAck), 0x40),
        (ack(AckKind::PubRec), 0x50),
        (ack(AckKind::PubRel), 0x62),
        (ack(AckKind::PubComp), 0x70),
        (subscribe(), 0x82),
        (unsubscribe(), 0xA2),
        (Packet::PingReq, 0xC0),
        (Packet::PingResp, 0xD0),
        (Packet::Disconnect(Disconnect::default()), 0xE0),
    ];
    for (packet, first) in firsts {
        for version in VERSIONS {
            assert_eq!(
                encoded(&packet, version)[0],
                first,
                "{} in {version}",
                packet.packet_type()
            );
        }
    }
    assert_eq!(encoded(&Packet::Auth(Auth::default()), Version::V5)[0], 0xF0);
}

/// The worked example of the specification: name, level, flags, keep alive, then client identifier, Will, user
/// name and password in this order. [MQTT-3.1.3-1] [3.1.1 MQTT-3.1.3-1]
#[test]
fn connect_fields_stand_in_order() {
    let mut connect = Connect::new(Version::V311, "id".into());
    connect.keep_alive = 10;
    connect.will = Some(Will {
        topic: "wt".into(),
        payload: "wp".into(),
        qos: Qos::AtLeastOnce,
        ..Will::default()
    });
    connect.username = Some("u".into());
    connect.password = Some("p".into());
    let packet = |connect: &Connect| encoded(&Packet::Connect(Box::new(connect.clone())), connect.version);

    assert_eq!(
        packet(&connect),
        &b"\x10\x1C\x00\x04MQTT\x04\xCE\x00\x0A\x00\x02id\x00\x02wt\x00\x02wp\x00\x01u\x00\x01p"[..]
    );
    connect.version = Version::V5;
    assert_eq!(
        packet(&connect),
        &b"\x10\x1E\x00\x04MQTT\x05\xCE\x00\x0A\x00\x00\x02id\x00\x00\x02wt\x00\x02wp\x00\x01u\x00\x01p"[..]
    );
    connect.version = Version::V31;
    assert_eq!(
        packet(&connect),
        &b"\x10\x1E\x00\x06MQIsdp\x03\xCE\x00\x0A\x00\x02id\x00\x02wt\x00\x02wp\x00\x01u\x00\x01p"[..]
    );
}

/// Flags say what follows, and nothing else. [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-16]
/// [MQTT-3.1.2-18] [3.1.1 MQTT-3.1.2-3] [3.1.1 MQTT-3.1.2-13] [3.1.1 MQTT-3.1.2-15] [3.1.1 MQTT-3.1.2-18]
/// [3.1.1 MQTT-3.1.2-20] [3.1.1 MQTT-3.1.2-22]
#[test]
fn connect_flags_say_what_follows() {
    for version in VERSIONS {
        let mut connect = Connect::new(version, Utf8::default());
        connect.clean_start = false;
        let flags = |connect: &Connect| {
            encoded(&Packet::Connect(Box::new(connect.clone())), version)
                [2 + 2 + version.protocol_name().len() + 1]
        };
        assert_eq!(flags(&connect), 0);
        connect.clean_start = true;
        assert_eq!(flags(&connect), 0x02);
        connect.password = Some("p".into());
        assert_eq!(flags(&connect), if version == Version::V5 { 0x42 } else { 0x02 });
        connect.username = Some("u".into());
        assert_eq!(flags(&connect), 0xC2);
    }
}

/// A bridge names itself by bit 0x80 of the level; MQTT 5 has other means.
#[test]
fn the_bridge_bit_is_for_old_versions() {
    for (version, level) in [(Version::V31, 0x83), (Version::V311, 0x84), (Version::V5, 5)] {
        let mut connect = Connect::new(version, "b".into());
        connect.bridge = true;
        let bytes = encoded(&Packet::Connect(Box::new(connect)), version);
        assert_eq!(bytes[4 + version.protocol_name().len()], level);
    }
}

/// Table 1-1: where a variable byte integer gets one byte longer. [MQTT-1.5.5-1]
#[test]
fn lengths_are_written_in_as_few_bytes_as_possible() {
    for (remaining, width) in [
        (127, 1),
        (128, 2),
        (16_383, 2),
        (16_384, 3),
        (2_097_151, 3),
        (2_097_152, 4),
    ] {
        let payload = vec![0; remaining - 3];
        let mut out = BytesMut::new();
        let parts = PublishParts {
            topic: b"a",
            payload: &payload,
            ..PublishParts::default()
        };
        encode_publish(&parts, Version::V311, &mut out);
        assert_eq!(out.len(), 1 + width + remaining);
    }
}

/// No properties are a zero, where they cannot be left out. [MQTT-2.2.2-1]
#[test]
fn an_empty_property_section_is_a_zero() {
    let publish = Packet::Publish(Publish {
        topic: "a".into(),
        ..Publish::default()
    });
    assert_eq!(encoded(&publish, Version::V5), &b"\x30\x04\x00\x01a\x00"[..]);
    assert_eq!(encoded(&publish, Version::V311), &b"\x30\x03\x00\x01a"[..]);
    assert_eq!(
        encoded(&subscribe(), Version::V5),
        &b"\x82\x07\x00\x01\x00\x00\x01a\x01"[..]
    );
    assert_eq!(
        encoded(&unsubscribe(), Version::V5),
        &b"\xA2\x06\x00\x01\x00\x00\x01a"[..]
    );
    assert_eq!(
        encoded(&Packet::ConnAck(Box::default()), Version::V5),
        &b"\x20\x03\x00\x00\x00"[..]
    );
}

/// §3.4.2.1, §3.14.2.1, §3.15.2.1: what says nothing is left out.
#[test]
fn answers_are_as_short_as_they_can_be() {
    let ack = |reason| Packet::Ack(Ack::with_reason(AckKind::PubRec, id(9), reason));
    assert_eq!(
        encoded(&ack(ReasonCode::Success), Version::V5),
        &b"\x50\x02\x00\x09"[..]
    );
    assert_eq!(
        encoded(&ack(ReasonCode::QuotaExceeded), Version::V5),
        &b"\x50\x03\x00\x09\x97"[..]
    );
    assert_eq!(
        encoded(&ack(ReasonCode::QuotaExceeded), Version::V311),
        &b"\x50\x02\x00\x09"[..]
    );

    let disconnect = |reason| Packet::Disconnect(Disconnect::with_reason(reason));
    assert_eq!(
        encoded(&disconnect(ReasonCode::Success), Version::V5),
        &b"\xE0\x00"[..]
    );
    assert_eq!(
        encoded(&disconnect(ReasonCode::ServerBusy), Version::V5),
        &b"\xE0\x01\x89"[..]
    );
    assert_eq!(
        encoded(&disconnect(ReasonCode::ServerBusy), Version::V31),
        &b"\xE0\x00"[..]
    );

    let auth = |reason| {
        Packet::Auth(Auth {
            reason,
            properties: None,
        })
    };
    assert_eq!(encoded(&auth(ReasonCode::Success), Version::V5), &b"\xF0\x00"[..]);
    assert_eq!(
        encoded(&auth(ReasonCode::ContinueAuthentication), Version::V5),
        &b"\xF0\x02\x18\x00"[..]
    );

    let empty = Ack {
        properties: Some(Box::default()),
        ..Ack::success(AckKind::PubAck, id(9))
    };
    assert_eq!(
        encoded(&Packet::Ack(empty), Version::V5),
        &b"\x40\x02\x00\x09"[..]
    );
}

/// DUP is not set on what is never sent again. [MQTT-3.3.1-2] [3.1.1 MQTT-3.3.1-2]
#[test]
fn dup_is_written_above_qos_0_only() {
    for version in VERSIONS {
        for (qos, packet_id, first) in [
            (Qos::AtMostOnce, None, 0x31),
            (Qos::AtLeastOnce, Some(id(1)), 0x3B),
            (Qos::ExactlyOnce, Some(id(1)), 0x3D),
        ] {
            let publish = Publish {
                dup: true,
                qos,
                retain: true,
                topic: "a".into(),
                packet_id,
                ..Publish::default()
            };
            assert_eq!(encoded(&Packet::Publish(publish), version)[0], first);
        }
    }
}

/// [MQTT-2.2.1-2] [3.1.1 MQTT-2.3.1-5]
#[test]
#[should_panic(expected = "a packet identifier goes with QoS 1 and 2")]
fn qos_0_never_gets_a_packet_identifier() {
    let parts = PublishParts {
        topic: b"a",
        packet_id: Some(id(1)),
        ..PublishParts::default()
    };
    encode_publish(&parts, Version::V5, &mut BytesMut::new());
}

/// A refusal has no session. [MQTT-3.2.2-1] [MQTT-3.2.2-6] [3.1.1 MQTT-3.2.2-4]
#[test]
fn session_present_goes_with_success_only() {
    let ack = |code| {
        Packet::ConnAck(Box::new(ConnAck {
            session_present: true,
            code,
            ..ConnAck::default()
        }))
    };
    assert_eq!(
        encoded(&ack(ReasonCode::Success), Version::V5),
        &b"\x20\x03\x01\x00\x00"[..]
    );
    assert_eq!(
        encoded(&ack(ReasonCode::Banned), Version::V5),
        &b"\x20\x03\x00\x8A\x00"[..]
    );
    assert_eq!(
        encoded(&ack(ReasonCode::Success), Version::V311),
        &b"\x20\x02\x01\x00"[..]
    );
    assert_eq!(
        encoded(&ack(ReasonCode::Banned), Version::V311),
        &b"\x20\x02\x00\x05"[..]
    );
    assert_eq!(
        encoded(&ack(ReasonCode::Success), Version::V31),
        &b"\x20\x02\x00\x00"[..]
    );
}

/// 3.1.1 §3.2.2.3: six return codes have to say everything; what they say is understood again.
#[test]
fn refusals_before_mqtt_5_use_return_codes() {
    for &reason in ReasonCode::ALL.iter().filter(|reason| reason.is_error()) {
        let code = reason.to_return_code();
        assert!((1..=5).contains(&code), "{reason} is told as {code}");
    }
    for code in 0..=5 {
        assert_eq!(
            ReasonCode::from_return_code(code).map(ReasonCode::to_return_code),
            Some(code)
        );
    }
    assert!((6..=u8::MAX).all(|code| ReasonCode::from_return_code(code).is_none()));
}

/// Before MQTT 5 a SUBACK has one failure. [3.1.1 MQTT-3.9.3-2]
#[test]
fn a_suback_before_mqtt_5_has_one_failure() {
    let ack = Packet::SubAck(Box::new(SubAck {
        packet_id: id(1),
        codes: vec![
            ReasonCode::GRANTED_QOS_0,
            ReasonCode::GrantedQos2,
            ReasonCode::NotAuthorized,
        ],
        reason_string: Some("no".into()),
        user_properties: user_properties(),
    }));
    assert_eq!(encoded(&ack, Version::V311), &b"\x90\x05\x00\x01\x00\x02\x80"[..]);
}

/// What the sender's alias and the sender's subscriptions meant, they meant on its own connection; a lifetime is
/// what is left of it. [MQTT-3.3.2-6] [MQTT-3.3.2-7]
#[test]
fn forwarding_writes_the_receivers_own_values() {
    let received = PublishProperties {
        message_expiry: Some(60),
        topic_alias: Some(id(3)),
        subscription_identifiers: vec![4],
        content_type: Some("t".into()),
        ..PublishProperties::default()
    };
    let forward = |change: fn(&mut PublishParts<'_>)| {
        let mut parts = PublishParts {
            topic: b"a",
            properties: Some(&received),
            ..PublishParts::default()
        };
        change(&mut parts);
        let mut out = BytesMut::new();
        encode_publish(&parts, Version::V5, &mut out);
        let Ok(Packet::Publish(publish)) = decode_one(common::client(Version::V5), &out) else {
            panic!("{out:?}")
        };
        *publish.properties.expect("it has some")
    };
    let plain = PublishProperties {
        topic_alias: None,
        subscription_identifiers: vec![],
        ..received.clone()
    };

    assert_eq!(forward(|_| ()), plain);
    assert_eq!(
        forward(|parts| {
            parts.message_expiry = Some(5);
            parts.topic_alias = Some(id(9));
            parts.subscription_identifiers = &[7, 8];
        }),
        PublishProperties {
            message_expiry: Some(5),
            topic_alias: Some(id(9)),
            subscription_identifiers: vec![7, 8],
            ..plain
        }
    );
}

/// One encoded PUBLISH serves many receivers: only the identifier and the first byte are changed.
#[test]
fn an_encoded_publish_is_changed_in_place() {
    let mut parts = PublishParts {
        qos: Qos::AtLeastOnce,
        topic: b"a/b",
        packet_id: Some(id(1)),
        payload: b"x",
        ..PublishParts::default()
    };
    for version in VERSIONS {
        let mut out = BytesMut::from(&b"..."[..]);
        let offsets = encode_publish(&parts, version, &mut out);
        let at = offsets.packet_id.expect("QoS 1");
        out[at..at + 2].copy_from_slice(&500u16.to_be_bytes());
        out[offsets.start] |= 0x08;

        let (packet_id, dup) = (
            parts.packet_id.replace(id(500)),
            std::mem::replace(&mut parts.dup, true),
        );
        let mut expected = BytesMut::new();
        encode_publish(&parts, version, &mut expected);
        assert_eq!(&out[offsets.start..], &expected[..]);
        (parts.packet_id, parts.dup) = (packet_id, dup);
    }
}

/// Every answer that can carry something for humans.
fn answers() -> Vec<Packet> {
    let reason_string: Option<Utf8> = Some("because".into());
    let ack = |kind| {
        let properties = AckProperties {
            reason_string: Some("because".into()),
            user_properties: user_properties(),
        };
        Packet::Ack(Ack {
            properties: Some(Box::new(properties)),
            ..Ack::success(kind, id(1))
        })
    };
    vec![
        Packet::ConnAck(Box::new(ConnAck {
            properties: ConnAckProperties {
                reason_string: reason_string.clone(),
                user_properties: user_properties(),
                ..ConnAckProperties::default()
            },
            ..ConnAck::default()
        })),
        ack(AckKind::PubAck),
        ack(AckKind::PubRec),
        ack(AckKind::PubRel),
        ack(AckKind::PubComp),
        Packet::SubAck(Box::new(SubAck {
            packet_id: id(1),
            codes: vec![ReasonCode::GrantedQos1],
            reason_string: reason_string.clone(),
            user_properties: user_properties(),
        })),
        Packet::UnsubAck(Box::new(UnsubAck {
            packet_id: id(1),
            codes: vec![ReasonCode::Success],
            reason_string: reason_string.clone(),
            user_properties: user_properties(),
        })),
        Packet::Disconnect(Disconnect {
            reason: ReasonCode::ServerBusy,
            properties: Some(Box::new(DisconnectProperties {
                reason_string: reason_string.clone(),
                user_properties: user_properties(),
                ..DisconnectProperties::default()
            })),
        }),
        Packet::Auth(Auth {
            reason: ReasonCode::ContinueAuthentication,
            properties: Some(Box::new(AuthProperties {
                method: Some("m".into()),
                data: None,
                reason_string,
                user_properties: user_properties(),
            })),
        }),
    ]
}

/// User properties, then the reason string, are not sent if they would make an answer larger than the receiver
/// takes; the answer itself is. [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2]
/// [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2]
/// [MQTT-3.11.2-1] [MQTT-3.11.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4] [MQTT-3.15.2-2] [MQTT-3.15.2-3]
#[test]
fn an_answer_that_is_too_large_loses_what_is_for_humans() {
    let user_properties_len = 1 + 2 + 4 + 2 + 5;
    for whole in answers() {
        let name = whole.packet_type();
        let len = encoded_len(&whole, Version::V5);

        let mut packet = whole.clone();
        assert!(fit(&mut packet, Version::V5, len as u32));
        assert_eq!(packet, whole, "{name} fits as it is");

        assert!(fit(&mut packet, Version::V5, len as u32 - 1));
        assert_eq!(
            encoded_len(&packet, Version::V5),
            len - user_properties_len,
            "{name} keeps its reason string"
        );

        assert!(fit(
            &mut packet,
            Version::V5,
            (len - user_properties_len) as u32 - 1
        ));
        let bare = encoded_len(&packet, Version::V5);
        assert!(bare <= len - user_properties_len - 10, "{name} keeps nothing");

        assert!(
            !fit(&mut packet, Version::V5, bare as u32 - 1),
            "{name} cannot be smaller"
        );
    }
}

/// A message is not shortened: it is sent whole or not at all. [MQTT-3.1.2-24]
#[test]
fn a_publish_that_is_too_large_is_not_sent() {
    let properties = Some(Box::new(PublishProperties {
        user_properties: user_properties(),
        ..Default::default()
    }));
    let mut packet = Packet::Publish(Publish {
        topic: "a".into(),
        properties,
        ..Publish::default()
    });
    let whole = packet.clone();
    let len = encoded_len(&packet, Version::V5) as u32;

    assert!(fit(&mut packet, Version::V5, len));
    assert!(!fit(&mut packet, Version::V5, len - 1));
    assert_eq!(packet, whole);
}

/// User properties and topic filters come out in the order they went in. §3.3.2.3.7, §3.8.3
#[test]
fn order_is_kept() {
    let pair = |name: &'static str, value: &'static str| -> UserProperty { (name.into(), value.into()) };
    let user_properties = vec![pair("b", "1"), pair("a", "2"), pair("b", "1")];
    let filters: Vec<Utf8> = vec!["z".into(), "a".into(), "z".into()];
    let packet = Packet::Unsubscribe(Box::new(Unsubscribe {
        packet_id: id(1),
        user_properties,
        filters,
    }));
    assert_eq!(
        decode_one(server(Version::V5), &encoded(&packet, Version::V5)),
        Ok(packet)
    );
}

/// What cannot be a string is never made one, so it is never written.
#[test]
fn strings_are_checked_when_they_are_made() {
    assert!(Utf8::new(Bytes::from(vec![b'a'; 65_535])).is_ok());
    assert!(Utf8::new(Bytes::from(vec![b'a'; 65_536])).is_err());
    assert!(Utf8::try_from(String::from("a\0")).is_err());
    assert!(Utf8::new(Bytes::from_static(b"\xFF")).is_err());
}
