//! Any packet a peer may send, for proptest: every field the version has, in the form the decoder gives it.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use headgate_mqtt_codec::{
    Ack, AckKind, AckProperties, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect,
    ConnectProperties, Disconnect, DisconnectProperties, Packet, PacketId, PacketType, Publish,
    PublishProperties, Qos, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscribeOptions,
    UnsubAck, Unsubscribe, UserProperty, Utf8, Version, Will, WillProperties,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// What a client may send.
pub(crate) fn from_client(version: Version) -> BoxedStrategy<Packet> {
    let mut any_of = vec![
        publish(version, false).boxed(),
        ack(version).boxed(),
        subscribe(version).boxed(),
        unsubscribe(version).boxed(),
        Just(Packet::PingReq).boxed(),
        disconnect(version, true).boxed(),
    ];
    if version == Version::V5 {
        any_of.push(auth().boxed());
    }
    proptest::strategy::Union::new(any_of).boxed()
}

/// What a server may send.
pub(crate) fn from_server(version: Version) -> BoxedStrategy<Packet> {
    let mut any_of = vec![
        conn_ack(version).boxed(),
        publish(version, true).boxed(),
        ack(version).boxed(),
        sub_ack(version).boxed(),
        unsub_ack(version).boxed(),
        Just(Packet::PingResp).boxed(),
    ];
    if version == Version::V5 {
        any_of.push(disconnect(version, false).boxed());
        any_of.push(auth().boxed());
    }
    proptest::strategy::Union::new(any_of).boxed()
}

pub(crate) fn version() -> impl Strategy<Value = Version> {
    select(&crate::common::VERSIONS[..])
}

pub(crate) fn connect(version: Version) -> impl Strategy<Value = Packet> {
    let v5 = version == Version::V5;
    let fields = (
        any::<bool>(),
        any::<bool>(),
        any::<u16>(),
        text(),
        option::of(will(v5)),
    );
    let credentials = (option::of(text()), option::of(binary()));
    (fields, credentials, connect_properties()).prop_map(
        move |((bridge, clean_start, keep_alive, client_id, will), (username, password), properties)| {
            Packet::Connect(Box::new(Connect {
                version,
                bridge: bridge && !v5,
                clean_start,
                keep_alive,
                client_id,
                will,
                password: password.filter(|_| v5 || username.is_some()),
                username,
                properties: if v5 {
                    properties
                } else {
                    ConnectProperties::default()
                },
            }))
        },
    )
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties> {
    let numbers = (
        option::of(any::<u32>()),
        option::of(non_zero_u16()),
        option::of(non_zero_u32()),
        option::of(any::<u16>()),
    );
    let rest = (
        option::of(any::<bool>()),
        option::of(any::<bool>()),
        user_properties(),
        authentication(),
    );
    (numbers, rest).prop_map(
        |((expiry, receive, size, alias), (response, problem, user, (method, data)))| ConnectProperties {
            session_expiry: expiry,
            receive_maximum: receive,
            maximum_packet_size: size,
            topic_alias_maximum: alias,
            request_response_information: response,
            request_problem_information: problem,
            user_properties: user,
            authentication_method: method,
            authentication_data: data,
        },
    )
}

fn will(v5: bool) -> impl Strategy<Value = Will> {
    let properties = (
        option::of(any::<u32>()),
        option::of(any::<bool>()),
        option::of(any::<u32>()),
        option::of(text()),
        option::of(topic()),
        option::of(binary()),
        user_properties(),
    )
        .prop_map(
            |(delay, format, expiry, content, response, correlation, user)| WillProperties {
                delay_interval: delay,
                payload_format: format,
                message_expiry: expiry,
                content_type: content,
                response_topic: response,
                correlation_data: correlation,
                user_properties: user,
            },
        );
    (topic(), binary(), qos(), any::<bool>(), properties).prop_map(
        move |(topic, payload, qos, retain, properties)| Will {
            topic,
            payload,
            qos,
            retain,
            properties: if v5 { properties } else { WillProperties::default() },
        },
    )
}

fn conn_ack(version: Version) -> BoxedStrategy<Packet> {
    if version != Version::V5 {
        return (0u8..=5, any::<bool>())
            .prop_map(move |(code, present)| {
                let session_present = present && code == 0 && version == Version::V311;
                let code = ReasonCode::from_return_code(code).unwrap();
                Packet::ConnAck(Box::new(ConnAck {
                    session_present,
                    code,
                    properties: Default::default(),
                }))
            })
            .boxed();
    }
    (any::<bool>(), reason(PacketType::ConnAck), conn_ack_properties())
        .prop_map(|(present, code, properties)| {
            let session_present = present && code == ReasonCode::Success;
            Packet::ConnAck(Box::new(ConnAck {
                session_present,
                code,
                properties,
            }))
        })
        .boxed()
}

fn conn_ack_properties() -> impl Strategy<Value = ConnAckProperties> {
    let flag = || option::of(any::<bool>());
    let maximum_qos = option::of(select(&[Qos::AtMostOnce, Qos::AtLeastOnce][..]));
    let numbers = (
        option::of(any::<u32>()),
        option::of(non_zero_u16()),
        maximum_qos,
        option::of(non_zero_u32()),
        option::of(any::<u16>()),
    );
    let flags = (flag(), flag(), flag(), flag());
    let texts = (
        option::of(text()),
        option::of(text()),
        option::of(text()),
        option::of(text()),
    );
    let rest = (user_properties(), option::of(any::<u16>()), authentication());
    (numbers, flags, texts, rest).prop_map(|(numbers, flags, texts, (user, keep_alive, (method, data)))| {
        let (session_expiry, receive_maximum, maximum_qos, maximum_packet_size, topic_alias_maximum) =
            numbers;
        ConnAckProperties {
            session_expiry,
            receive_maximum,
            maximum_qos,
            retain_available: flags.0,
            maximum_packet_size,
            assigned_client_identifier: texts.0,
            topic_alias_maximum,
            reason_string: texts.1,
            user_properties: user,
            wildcard_subscription_available: flags.1,
            subscription_identifiers_available: flags.2,
            shared_subscription_available: flags.3,
            server_keep_alive: keep_alive,
            response_information: texts.2,
            server_reference: texts.3,
            authentication_method: method,
            authentication_data: data,
        }
    })
}

pub(crate) fn publish(version: Version, from_server: bool) -> impl Strategy<Value = Packet> {
    let properties = (
        (
            option::of(any::<bool>()),
            option::of(any::<u32>()),
            option::of(non_zero_u16()),
            option::of(topic()),
        ),
        (
            option::of(binary()),
            user_properties(),
            vec(subscription_identifier(), 0..3),
            option::of(text()),
        ),
    )
        .prop_map(
            move |((format, expiry, alias, response), (correlation, user, identifiers, content))| {
                PublishProperties {
                    payload_format: format,
                    message_expiry: expiry,
                    topic_alias: alias,
                    response_topic: response,
                    correlation_data: correlation,
                    user_properties: user,
                    subscription_identifiers: if from_server { identifiers } else { Vec::new() },
                    content_type: content,
                }
            },
        );
    let flags = (any::<bool>(), qos(), any::<bool>());
    let payload = vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    (flags, topic(), packet_id(), payload, option::of(properties)).prop_map(
        move |((dup, qos, retain), topic, id, payload, properties)| {
            Packet::Publish(Publish {
                dup: dup && qos > Qos::AtMostOnce,
                qos,
                retain,
                topic,
                packet_id: Some(id).filter(|_| qos > Qos::AtMostOnce),
                payload,
                properties: properties
                    .filter(|p| version == Version::V5 && *p != PublishProperties::default())
                    .map(Box::new),
            })
        },
    )
}

fn ack(version: Version) -> impl Strategy<Value = Packet> {
    let kind = select(
        &[
            AckKind::PubAck,
            AckKind::PubRec,
            AckKind::PubRel,
            AckKind::PubComp,
        ][..],
    );
    kind.prop_flat_map(|kind| (Just(kind), packet_id(), reason(kind.packet_type()), answer()))
        .prop_map(
            move |(kind, packet_id, reason, (reason_string, user_properties))| {
                if version != Version::V5 {
                    return Packet::Ack(Ack::success(kind, packet_id));
                }
                let properties = AckProperties {
                    reason_string,
                    user_properties,
                };
                let properties = Some(properties)
                    .filter(|p| *p != AckProperties::default())
                    .map(Box::new);
                Packet::Ack(Ack {
                    kind,
                    packet_id,
                    reason,
                    properties,
                })
            },
        )
}

fn subscribe(version: Version) -> impl Strategy<Value = Packet> {
    let handling = select(
        &[
            RetainHandling::SendAtSubscribe,
            RetainHandling::SendIfNew,
            RetainHandling::DoNotSend,
        ][..],
    );
    let options = (qos(), any::<bool>(), any::<bool>(), handling);
    let filter =
        (filter(), options).prop_map(move |(filter, (qos, no_local, retain_as_published, handling))| {
            let options = SubscribeOptions {
                qos,
                no_local,
                retain_as_published,
                retain_handling: handling,
            };
            let options = if version == Version::V5 {
                options
            } else {
                SubscribeOptions::qos(qos)
            };
            SubscribeFilter { filter, options }
        });
    (
        packet_id(),
        option::of(subscription_identifier()),
        user_properties(),
        vec(filter, 1..5),
    )
        .prop_map(move |(packet_id, identifier, user_properties, filters)| {
            let v5 = version == Version::V5;
            let user_properties = if v5 { user_properties } else { Vec::new() };
            let identifier = identifier.filter(|_| v5);
            Packet::Subscribe(Box::new(Subscribe {
                packet_id,
                identifier,
                user_properties,
                filters,
            }))
        })
}

fn sub_ack(version: Version) -> impl Strategy<Value = Packet> {
    (packet_id(), vec(reason(PacketType::SubAck), 1..5), answer()).prop_map(
        move |(packet_id, mut codes, (mut reason_string, mut user_properties))| {
            if version != Version::V5 {
                for code in codes.iter_mut().filter(|code| code.is_error()) {
                    *code = ReasonCode::UnspecifiedError;
                }
                reason_string = None;
                user_properties.clear();
            }
            Packet::SubAck(Box::new(SubAck {
                packet_id,
                codes,
                reason_string,
                user_properties,
            }))
        },
    )
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Packet> {
    (packet_id(), user_properties(), vec(filter(), 1..5)).prop_map(
        move |(packet_id, user_properties, filters)| {
            let user_properties = if version == Version::V5 {
                user_properties
            } else {
                Vec::new()
            };
            Packet::Unsubscribe(Box::new(Unsubscribe {
                packet_id,
                user_properties,
                filters,
            }))
        },
    )
}

fn unsub_ack(version: Version) -> impl Strategy<Value = Packet> {
    (packet_id(), vec(reason(PacketType::UnsubAck), 1..5), answer()).prop_map(
        move |(packet_id, mut codes, (mut reason_string, mut user_properties))| {
            if version != Version::V5 {
                codes.clear();
                reason_string = None;
                user_properties.clear();
            }
            Packet::UnsubAck(Box::new(UnsubAck {
                packet_id,
                codes,
                reason_string,
                user_properties,
            }))
        },
    )
}

fn disconnect(version: Version, from_client: bool) -> impl Strategy<Value = Packet> {
    (
        reason(PacketType::Disconnect),
        option::of(any::<u32>()),
        answer(),
        option::of(text()),
    )
        .prop_map(
            move |(reason, session_expiry, (reason_string, user_properties), server_reference)| {
                if version != Version::V5 {
                    return Packet::Disconnect(Disconnect::default());
                }
                let session_expiry = session_expiry.filter(|_| from_client);
                let properties = DisconnectProperties {
                    session_expiry,
                    reason_string,
                    server_reference,
                    user_properties,
                };
                let properties = Some(properties)
                    .filter(|p| *p != DisconnectProperties::default())
                    .map(Box::new);
                Packet::Disconnect(Disconnect { reason, properties })
            },
        )
}

fn auth() -> impl Strategy<Value = Packet> {
    let properties = (text(), option::of(binary()), answer()).prop_map(
        |(method, data, (reason_string, user_properties))| {
            Box::new(AuthProperties {
                method: Some(method),
                data,
                reason_string,
                user_properties,
            })
        },
    );
    prop_oneof![
        Just(Packet::Auth(Auth::default())),
        (reason(PacketType::Auth), properties).prop_map(|(reason, properties)| Packet::Auth(Auth {
            reason,
            properties: Some(properties)
        })),
    ]
}

fn reason(packet: PacketType) -> impl Strategy<Value = ReasonCode> {
    let allowed: Vec<_> = ReasonCode::ALL
        .iter()
        .copied()
        .filter(|code| code.is_allowed_in(packet))
        .collect();
    select(allowed)
}

fn answer() -> impl Strategy<Value = (Option<Utf8>, Vec<UserProperty>)> {
    (option::of(text()), user_properties())
}

fn authentication() -> impl Strategy<Value = (Option<Utf8>, Option<Bytes>)> {
    option::of((text(), option::of(binary())))
        .prop_map(|both| both.map_or((None, None), |(method, data)| (Some(method), data)))
}

fn user_properties() -> impl Strategy<Value = Vec<UserProperty>> {
    vec((text(), text()), 0..3)
}

fn subscription_identifier() -> impl Strategy<Value = u32> {
    prop_oneof![1u32..=300, 1u32..=268_435_455]
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    non_zero_u16()
}

fn non_zero_u16() -> impl Strategy<Value = NonZeroU16> {
    (1..=u16::MAX).prop_map(|value| NonZeroU16::new(value).unwrap())
}

fn non_zero_u32() -> impl Strategy<Value = NonZeroU32> {
    (1..=u32::MAX).prop_map(|value| NonZeroU32::new(value).unwrap())
}

fn qos() -> impl Strategy<Value = Qos> {
    select(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][..])
}

fn binary() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

/// Any characters but U+0000, also those the specification discourages.
fn text() -> impl Strategy<Value = Utf8> {
    characters(&['\0'], "")
}

fn topic() -> impl Strategy<Value = Utf8> {
    characters(&['\0', '+', '#'], "t")
}

/// Not empty, and no shared subscription, which could not be combined with No Local.
fn filter() -> impl Strategy<Value = Utf8> {
    characters(&['\0'], "f")
}

fn characters(without: &'static [char], start: &'static str) -> impl Strategy<Value = Utf8> {
    vec(any::<char>(), 0..12).prop_map(move |chars| {
        let kept = chars.into_iter().filter(|c| !without.contains(c));
        let text: String = start.chars().chain(kept).collect();
        Utf8::try_from(text).unwrap()
    })
}
