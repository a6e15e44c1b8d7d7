//! Cutting packets off a buffer: sizes, limits and what a server learns from a CONNECT. §2.1, §3.1

mod common;

use bytes::{Bytes, BytesMut};
use common::{LIMIT, client, decode_one, id, server};
use headgate_mqtt_codec::{DecodeError, Decoder, MAX_PACKET_SIZE, Packet, Publish, Qos, ReasonCode, Version};

fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Result<Option<Packet>, DecodeError> {
    decoder.decode(&mut BytesMut::from(bytes))
}

/// A receiver says how large a packet may be; one byte more and the first five bytes are enough to refuse it.
/// [MQTT-3.2.2-15]
#[test]
fn the_limit_counts_the_whole_packet() {
    let packet = b"\x30\x08\x00\x01a\x00long";
    let mut decoder = server(Version::V5);

    decoder.set_max_packet_size(packet.len() as u32);
    assert!(matches!(
        decode(&mut decoder, packet),
        Ok(Some(Packet::Publish(_)))
    ));

    decoder.set_max_packet_size(packet.len() as u32 - 1);
    let error = decode(&mut decoder, &packet[..2]).unwrap_err();
    assert_eq!(error, DecodeError::TooLarge { size: 10, limit: 9 });
    assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);
}

/// A reserved flag is refused before anything else of the packet is there.
/// [MQTT-2.1.3-1] [3.1.1 MQTT-2.2.2-1] [3.1.1 MQTT-2.2.2-2]
#[test]
fn one_byte_is_enough_to_refuse_reserved_flags() {
    for version in [Version::V311, Version::V5] {
        for first in [0x41, 0x51, 0x60, 0x71, 0x80, 0xA0, 0xC1, 0xE1] {
            let error = decode(&mut server(version), &[first]).unwrap_err();
            assert!(
                matches!(error, DecodeError::HeaderFlags { .. }),
                "{first:#04x} in {version}: {error}"
            );
            assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
            assert_eq!(server(version).needed(&[first]), 0);
        }
    }
}

/// Both QoS bits set close the connection. [MQTT-3.3.1-4] [3.1.1 MQTT-3.3.1-4]
#[test]
fn qos_3_is_malformed_whatever_the_other_flags() {
    for version in common::VERSIONS {
        for flags in [0b0110, 0b0111, 0b1110, 0b1111] {
            let error = decode(&mut server(version), &[0x30 | flags]).unwrap_err();
            assert!(matches!(error, DecodeError::QosBits(_)), "{flags:#06b}: {error}");
            assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
        }
    }
}

/// The first packet of a client is CONNECT, and there is no second. [MQTT-3.1.0-1] [MQTT-3.1.0-2]
/// [3.1.1 MQTT-3.1.0-1] [3.1.1 MQTT-3.1.0-2]
#[test]
fn connect_comes_first_and_once() {
    for connect in [
        &b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x01c"[..],
        b"\x10\x0E\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c",
    ] {
        let mut decoder = Decoder::server(LIMIT);
        assert!(matches!(
            decode(&mut decoder.clone(), b"\xC0\x00"),
            Err(DecodeError::ConnectExpected(_))
        ));
        assert!(matches!(
            decode(&mut decoder, connect),
            Ok(Some(Packet::Connect(_)))
        ));
        assert_eq!(decode(&mut decoder, b"\xC0\x00"), Ok(Some(Packet::PingReq)));
        let error = decode(&mut decoder, connect).unwrap_err();
        assert_eq!(error, DecodeError::SecondConnect);
        assert_eq!(error.reason_code(), ReasonCode::ProtocolError);
    }
}

/// Who sends a broken CONNECT is answered in the version it asked for; who speaks no MQTT is not answered.
/// [MQTT-3.1.2-1] [MQTT-3.1.2-2] [MQTT-3.1.4-1] [3.1.1 MQTT-3.1.2-1] [3.1.1 MQTT-3.1.2-2] [3.1.1 MQTT-3.1.4-1]
#[test]
fn a_server_learns_the_version_even_from_a_broken_connect() {
    let cases: [(&[u8], Option<Version>, DecodeError); 5] = [
        (
            b"\x10\x0D\x00\x04MQTT\x04\x03\x00\x00\x00\x01c",
            Some(Version::V311),
            DecodeError::ConnectFlags,
        ),
        (
            b"\x10\x0E\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x01c",
            Some(Version::V5),
            DecodeError::ConnectFlags,
        ),
        (
            b"\x10\x07\x00\x04MQTT\x05",
            Some(Version::V5),
            DecodeError::Truncated,
        ),
        (
            b"\x10\x0D\x00\x04MQTT\x06\x02\x00\x00\x00\x01c",
            None,
            DecodeError::UnsupportedVersion(6),
        ),
        (
            b"\x10\x0D\x00\x04HTTP\x04\x02\x00\x00\x00\x01c",
            None,
            DecodeError::UnknownProtocol("HTTP".into()),
        ),
    ];
    for (bytes, version, expected) in cases {
        let mut decoder = Decoder::server(LIMIT);
        assert_eq!(decode(&mut decoder, bytes), Err(expected));
        assert_eq!(decoder.version(), version);
    }
}

/// A long protocol name does not live on in the error.
#[test]
fn an_unknown_protocol_name_is_cut_to_16_bytes() {
    let mut bytes = vec![0x10, 52, 0, 50];
    bytes.extend_from_slice(&[b'x'; 50]);
    assert_eq!(
        decode(&mut Decoder::server(LIMIT), &bytes),
        Err(DecodeError::UnknownProtocol(Bytes::from_static(&[b'x'; 16])))
    );
}

/// U+FEFF stays where it is, in front or inside; ill-formed text and U+0000 close the connection.
/// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.4-3] [3.1.1 MQTT-1.5.3-1] [3.1.1 MQTT-1.5.3-2] [3.1.1 MQTT-1.5.3-3]
#[test]
fn strings_are_well_formed_and_kept_as_they_are() {
    let text = "\u{feff}a\u{feff}";
    for version in common::VERSIONS {
        let publish = |topic: &[u8]| {
            let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
            let body = [&(topic.len() as u16).to_be_bytes(), topic, properties].concat();
            decode_one(server(version), &[&[0x30, body.len() as u8], &body[..]].concat())
        };
        let Ok(Packet::Publish(kept)) = publish(text.as_bytes()) else {
            panic!("refused in {version}")
        };
        assert_eq!(kept.topic, text);
        for wrong in [
            &b"\xED\xA0\x80"[..],
            b"\xED\xBF\xBF",
            b"\xC0\x80",
            b"\xF5\x80\x80\x80",
            b"a\0",
        ] {
            let error = publish(wrong).unwrap_err();
            assert!(matches!(error, DecodeError::Text(_)), "{wrong:02x?}: {error}");
            assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
        }
    }
}

/// Topic and payload are slices of the buffer that was read, not copies.
#[test]
fn a_publish_shares_the_read_buffer() {
    let mut buf = BytesMut::from(&b"\x32\x0A\x00\x03a/b\x00\x07\x00hi"[..]);
    let memory = buf.as_ptr_range();
    let packet = client(Version::V5).decode(&mut buf).unwrap().unwrap();

    let Packet::Publish(publish) = packet else {
        panic!("{packet:?}")
    };
    assert!(memory.contains(&publish.topic.as_bytes().as_ptr()));
    assert!(memory.contains(&publish.payload.as_ptr()));
    assert_eq!(
        publish,
        Publish {
            qos: Qos::AtLeastOnce,
            topic: "a/b".into(),
            packet_id: Some(id(7)),
            payload: "hi".into(),
            ..Publish::default()
        }
    );
}

/// The hint never asks for more than the packet has, and for what is known to be missing.
#[test]
fn the_hint_tells_what_is_missing() {
    let decoder = server(Version::V311);
    let packet = b"\x30\x05\x00\x03a/b";
    assert_eq!(decoder.needed(b""), 2);
    assert_eq!(decoder.needed(&packet[..1]), 1);
    assert_eq!(decoder.needed(&packet[..2]), 5);
    assert_eq!(decoder.needed(&packet[..4]), 3);
    assert_eq!(decoder.needed(packet), 0);
    assert_eq!(decoder.needed(b"\x30\xFF"), 1);
    assert_eq!(decoder.needed(b"\x00"), 0);
}

/// What takes many times its bytes on the wire is counted: no packet may have more of it than its limit.
#[test]
fn lists_in_a_packet_are_bounded() {
    use headgate_mqtt_codec::{MAX_FILTERS, MAX_USER_PROPERTIES};
    let with_length = |first: u8, body: &[u8]| {
        let mut packet = vec![first];
        let mut left = body.len();
        while left >= 0x80 {
            packet.push((left % 0x80) as u8 | 0x80);
            left /= 0x80;
        }
        packet.push(left as u8);
        packet.extend_from_slice(body);
        packet
    };
    let connect = |count: usize| {
        let properties = with_length(0, &[0x26, 0, 0, 0, 0].repeat(count));
        let mut body = b"\0\x04MQTT\x05\x02\0\x3c".to_vec();
        body.extend_from_slice(&properties[1..]);
        body.extend_from_slice(b"\0\x01c");
        with_length(0x10, &body)
    };
    let subscribe = |count: usize| with_length(0x82, &[&b"\0\x01"[..], &b"\0\x01a\0".repeat(count)].concat());
    let unsubscribe = |count: usize| with_length(0xA2, &[&b"\0\x01"[..], &b"\0\x01a".repeat(count)].concat());
    let check = |version: Option<Version>, allowed: Vec<u8>, refused: Vec<u8>| {
        let new = || {
            let mut decoder = Decoder::server(MAX_PACKET_SIZE);
            version
                .into_iter()
                .for_each(|version| decoder.set_version(version));
            decoder
        };
        let decoded = new().decode(&mut BytesMut::from(&allowed[..]));
        assert!(matches!(decoded, Ok(Some(_))), "{decoded:?}");
        let error = new().decode(&mut BytesMut::from(&refused[..])).unwrap_err();
        assert!(matches!(error, DecodeError::TooMany { .. }), "{error:?}");
        assert_eq!(error.reason_code(), ReasonCode::QuotaExceeded);
    };
    check(
        None,
        connect(MAX_USER_PROPERTIES),
        connect(MAX_USER_PROPERTIES + 1),
    );
    let v3 = Some(Version::V311);
    check(v3, subscribe(MAX_FILTERS), subscribe(MAX_FILTERS + 1));
    check(v3, unsubscribe(MAX_FILTERS), unsubscribe(MAX_FILTERS + 1));
}
