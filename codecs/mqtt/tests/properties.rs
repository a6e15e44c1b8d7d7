//! Which property may stand in which packet: table 2-4 of MQTT 5, line by line; and which reason code: table 2-6.

mod common;

use common::{client, decode_one, server};
use headgate_mqtt_codec::{DecodeError, Decoder, PacketType, PropertyId, ReasonCode, Version};

use PacketType as T;
use PropertyId as Id;

/// Where properties can stand. PUBLISH and DISCONNECT differ by who sends them.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Of(PacketType),
    Will,
    PublishFromServer,
    DisconnectFromServer,
}

const PLACES: [Place; 16] = [
    Place::Of(T::Connect),
    Place::Will,
    Place::Of(T::ConnAck),
    Place::Of(T::Publish),
    Place::PublishFromServer,
    Place::Of(T::PubAck),
    Place::Of(T::PubRec),
    Place::Of(T::PubRel),
    Place::Of(T::PubComp),
    Place::Of(T::Subscribe),
    Place::Of(T::SubAck),
    Place::Of(T::Unsubscribe),
    Place::Of(T::UnsubAck),
    Place::Of(T::Disconnect),
    Place::DisconnectFromServer,
    Place::Of(T::Auth),
];

/// The table's last column; with [MQTT-3.3.4-6] and [MQTT-3.14.2-2], which tell the two sides apart.
fn allowed(property: PropertyId) -> Vec<Place> {
    use Place::{DisconnectFromServer, Of, PublishFromServer, Will};
    match property {
        Id::PayloadFormatIndicator
        | Id::MessageExpiryInterval
        | Id::ContentType
        | Id::ResponseTopic
        | Id::CorrelationData => vec![Of(T::Publish), PublishFromServer, Will],
        Id::SubscriptionIdentifier => vec![PublishFromServer, Of(T::Subscribe)],
        Id::SessionExpiryInterval => vec![Of(T::Connect), Of(T::ConnAck), Of(T::Disconnect)],
        Id::AssignedClientIdentifier
        | Id::ServerKeepAlive
        | Id::ResponseInformation
        | Id::MaximumQos
        | Id::RetainAvailable
        | Id::WildcardSubscriptionAvailable
        | Id::SubscriptionIdentifierAvailable
        | Id::SharedSubscriptionAvailable => vec![Of(T::ConnAck)],
        Id::AuthenticationMethod | Id::AuthenticationData => {
            vec![Of(T::Connect), Of(T::ConnAck), Of(T::Auth)]
        }
        Id::RequestProblemInformation | Id::RequestResponseInformation => vec![Of(T::Connect)],
        Id::WillDelayInterval => vec![Will],
        Id::ServerReference => vec![Of(T::ConnAck), Of(T::Disconnect), DisconnectFromServer],
        Id::ReasonString => vec![
            Of(T::ConnAck),
            Of(T::PubAck),
            Of(T::PubRec),
            Of(T::PubRel),
            Of(T::PubComp),
            Of(T::SubAck),
            Of(T::UnsubAck),
            Of(T::Disconnect),
            DisconnectFromServer,
            Of(T::Auth),
        ],
        Id::ReceiveMaximum | Id::TopicAliasMaximum | Id::MaximumPacketSize => {
            vec![Of(T::Connect), Of(T::ConnAck)]
        }
        Id::TopicAlias => vec![Of(T::Publish), PublishFromServer],
        Id::UserProperty => PLACES.to_vec(),
    }
}

/// A value every property of this type may have.
fn value(property: PropertyId) -> &'static [u8] {
    match property {
        Id::PayloadFormatIndicator
        | Id::RequestProblemInformation
        | Id::RequestResponseInformation
        | Id::MaximumQos
        | Id::RetainAvailable
        | Id::WildcardSubscriptionAvailable
        | Id::SubscriptionIdentifierAvailable
        | Id::SharedSubscriptionAvailable
        | Id::SubscriptionIdentifier => b"\x01",
        Id::ServerKeepAlive | Id::ReceiveMaximum | Id::TopicAliasMaximum | Id::TopicAlias => b"\x00\x01",
        Id::MessageExpiryInterval
        | Id::SessionExpiryInterval
        | Id::WillDelayInterval
        | Id::MaximumPacketSize => b"\x00\x00\x00\x01",
        Id::UserProperty => b"\x00\x01k\x00\x01v",
        _ => b"\x00\x01t",
    }
}

/// A packet with this property section, valid but for it.
fn packet(place: Place, section: &[u8]) -> (Decoder, Vec<u8>) {
    let length = [u8::try_from(section.len()).expect("short")];
    let section = [&length[..], section].concat();
    let (first, before, after): (u8, &[u8], &[u8]) = match place {
        Place::Of(T::Connect) => (0x10, b"\x00\x04MQTT\x05\x02\x00\x00", b"\x00\x01c"),
        Place::Will => (
            0x10,
            b"\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01c",
            b"\x00\x01w\x00\x00",
        ),
        Place::Of(T::ConnAck) => (0x20, b"\x00\x00", b""),
        Place::Of(T::Publish) | Place::PublishFromServer => (0x30, b"\x00\x01a", b"payload"),
        Place::Of(T::Subscribe) => (0x82, b"\x00\x01", b"\x00\x01a\x00"),
        Place::Of(T::Unsubscribe) => (0xA2, b"\x00\x01", b"\x00\x01a"),
        Place::Of(packet @ (T::SubAck | T::UnsubAck)) => ((packet as u8) << 4, b"\x00\x01", b"\x00"),
        Place::Of(T::PubRel) => (0x62, b"\x00\x01\x00", b""),
        Place::Of(packet @ (T::PubAck | T::PubRec | T::PubComp)) => {
            ((packet as u8) << 4, b"\x00\x01\x00", b"")
        }
        Place::Of(T::Disconnect) | Place::DisconnectFromServer => (0xE0, b"\x00", b""),
        Place::Of(T::Auth) => (0xF0, b"\x18", b""),
        Place::Of(other) => panic!("{other} has no properties"),
    };
    let body = [before, &section, after].concat();
    let bytes = [&[first, body.len() as u8], &body[..]].concat();
    let decoder = match place {
        Place::Of(T::Connect) | Place::Will => Decoder::server(common::LIMIT),
        Place::Of(T::ConnAck | T::SubAck | T::UnsubAck)
        | Place::PublishFromServer
        | Place::DisconnectFromServer => client(Version::V5),
        Place::Of(_) => server(Version::V5),
    };
    (decoder, bytes)
}

/// What the property needs beside itself.
fn with_company(place: Place, property: PropertyId) -> Vec<u8> {
    let mut section = vec![property as u8];
    section.extend_from_slice(value(property));
    let needs_method = property == Id::AuthenticationData || place == Place::Of(T::Auth);
    if needs_method && property != Id::AuthenticationMethod {
        section.extend_from_slice(b"\x15\x00\x01m");
    }
    section
}

/// A property that is not valid for its packet makes it malformed, §2.2.2.2; one that only the other side may send is a Protocol Error.
/// [MQTT-3.3.4-6] [MQTT-3.14.2-2]
#[test]
fn each_property_stands_where_the_table_says() {
    assert_eq!(PropertyId::ALL.len(), 27);
    for &property in PropertyId::ALL {
        for place in PLACES {
            let (decoder, bytes) = packet(place, &with_company(place, property));
            let decoded = decode_one(decoder, &bytes);
            if allowed(property).contains(&place) {
                assert!(decoded.is_ok(), "{property} in {place:?}: {decoded:?}");
            } else {
                let error = decoded.unwrap_err();
                assert!(
                    matches!(error, DecodeError::PropertyNotAllowed { .. }),
                    "{property} in {place:?}: {error}"
                );
                let of_other_side = matches!(
                    (property, place),
                    (Id::SubscriptionIdentifier, Place::Of(T::Publish))
                        | (Id::SessionExpiryInterval, Place::DisconnectFromServer)
                );
                let expected = if of_other_side {
                    ReasonCode::ProtocolError
                } else {
                    ReasonCode::MalformedPacket
                };
                assert_eq!(error.reason_code(), expected);
            }
        }
    }
}

/// Only User Property, and Subscription Identifier from a server, may come more than once. §2.2.2.2
#[test]
fn a_property_comes_once() {
    for &property in PropertyId::ALL {
        for place in allowed(property) {
            let once = with_company(place, property);
            let twice = [&[property as u8], value(property), &once[..]].concat();
            let (decoder, bytes) = packet(place, &twice);
            let decoded = decode_one(decoder, &bytes);
            let may_repeat = property == Id::UserProperty
                || (property == Id::SubscriptionIdentifier && place == Place::PublishFromServer);
            if may_repeat {
                assert!(decoded.is_ok(), "{property} in {place:?}: {decoded:?}");
            } else {
                assert_eq!(
                    decoded,
                    Err(DecodeError::DuplicateProperty(property)),
                    "in {place:?}"
                );
            }
        }
    }
}

/// All the numbers between and beyond the 27 are unknown everywhere. §2.2.2.2
#[test]
fn unknown_identifiers_are_malformed() {
    for value in (0..=0x7Fu8).filter(|&value| PropertyId::from_u32(value.into()).is_none()) {
        for place in PLACES {
            let (decoder, bytes) = packet(place, &[value, 0]);
            let error = decode_one(decoder, &bytes).unwrap_err();
            assert_eq!(error, DecodeError::UnknownProperty(value.into()), "in {place:?}");
            assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
        }
    }
}

/// A property that is cut off by its section's end is malformed, wherever it is cut. §2.2.2.1
#[test]
fn a_property_ends_within_its_section() {
    for &property in PropertyId::ALL {
        for place in allowed(property) {
            let whole = [&[property as u8], value(property)].concat();
            for cut in 1..whole.len() {
                let (decoder, bytes) = packet(place, &whole[..cut]);
                assert_eq!(
                    decode_one(decoder, &bytes),
                    Err(DecodeError::Truncated),
                    "{property} in {place:?}"
                );
            }
        }
    }
}

/// Table 2-6: each packet takes the codes of its column and no other. [MQTT-3.2.2-8] [MQTT-3.4.2-1]
/// [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2] [MQTT-3.14.2-1] [MQTT-3.15.2-1]
#[test]
fn each_packet_takes_its_own_reason_codes() {
    let publish: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    let columns: [(PacketType, &[u8]); 9] = [
        (
            T::ConnAck,
            &[
                0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95,
                0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
            ],
        ),
        (T::PubAck, publish),
        (T::PubRec, publish),
        (T::PubRel, &[0x00, 0x92]),
        (T::PubComp, &[0x00, 0x92]),
        (
            T::SubAck,
            &[
                0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
            ],
        ),
        (T::UnsubAck, &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]),
        (
            T::Disconnect,
            &[
                0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93,
                0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
            ],
        ),
        (T::Auth, &[0x00, 0x18, 0x19]),
    ];
    for (packet, allowed) in columns {
        for byte in 0..=u8::MAX {
            let (decoder, bytes) = with_reason(packet, byte);
            let decoded = decode_one(decoder, &bytes);
            if allowed.contains(&byte) {
                assert!(decoded.is_ok(), "0x{byte:02X} in {packet}: {decoded:?}");
            } else {
                assert_eq!(decoded, Err(DecodeError::ReasonNotAllowed { packet, code: byte }));
            }
        }
    }
}

fn with_reason(packet: PacketType, code: u8) -> (Decoder, Vec<u8>) {
    let first = (packet as u8) << 4;
    match packet {
        T::ConnAck => (client(Version::V5), vec![first, 3, 0, code, 0]),
        T::SubAck | T::UnsubAck => (client(Version::V5), vec![first, 4, 0, 1, 0, code]),
        T::PubRel => (server(Version::V5), vec![first | 2, 3, 0, 1, code]),
        T::Disconnect => (server(Version::V5), vec![first, 1, code]),
        T::Auth => (server(Version::V5), vec![first, 6, code, 4, 0x15, 0, 1, b'm']),
        _ => (server(Version::V5), vec![first, 3, 0, 1, code]),
    }
}
