//! Packets, written in the shortest form their version allows. §3
//!
//! What a version cannot say is left out: before MQTT 5 properties and reasons of acknowledgements.

use std::num::NonZeroU16;

use bytes::BytesMut;

use crate::encode_properties::{Answer, Request, is_empty, section};
use crate::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketType, Publish, SubAck, Subscribe,
    SubscribeOptions, UnsubAck, Unsubscribe, Will,
};
use crate::properties::PublishProperties;
use crate::sink::{Length, Sink, variable_byte_integer_len};
use crate::{PacketId, Qos, ReasonCode, Version};

/// Appends a packet to `out`. A CONNECT is written in its own version, which should be `version`.
///
/// # Panics
/// If a binary field is longer than 65,535 bytes, the whole packet longer than
/// [`MAX_PACKET_SIZE`](crate::MAX_PACKET_SIZE), or an AUTH is to be written before MQTT 5. Packets that were
/// decoded never are; fields from elsewhere are bounded where they come from.
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) {
    if let Packet::Publish(publish) = packet {
        encode_publish(&PublishParts::from(publish), version, out);
        return;
    }
    let remaining = body_len(packet, version);
    fixed_header(first_byte(packet), remaining, out);
    body(packet, version, out);
}

/// The size of the whole packet as [`encode`] writes it: what a peer's Maximum Packet Size counts.
/// [MQTT-3.1.2-24]
pub fn encoded_len(packet: &Packet, version: Version) -> usize {
    whole_len(body_len(packet, version))
}

/// A PUBLISH in borrowed parts: what belongs to the message, and what belongs to one receiver.
#[derive(Debug, Clone, Copy, Default)]
pub struct PublishParts<'a> {
    /// Sent before with this packet identifier.
    pub dup: bool,
    /// Quality of service of this delivery.
    pub qos: Qos,
    /// The RETAIN flag of this delivery.
    pub retain: bool,
    /// Topic name: checked UTF-8, empty only together with an alias.
    pub topic: &'a [u8],
    /// Present exactly when the QoS is 1 or 2.
    pub packet_id: Option<PacketId>,
    /// The message.
    pub payload: &'a [u8],
    /// The properties the message was published with. Its topic alias and subscription identifiers are **not**
    /// written: they meant something on the connection it came from. [MQTT-3.3.2-7]
    pub properties: Option<&'a PublishProperties>,
    /// What is left of the message's lifetime; replaces that of `properties`. [MQTT-3.3.2-6]
    pub message_expiry: Option<u32>,
    /// The alias of the topic on the receiver's connection.
    pub topic_alias: Option<NonZeroU16>,
    /// The subscriptions of the receiver this is for.
    pub subscription_identifiers: &'a [u32],
}

impl<'a> From<&'a Publish> for PublishParts<'a> {
    #[inline]
    fn from(publish: &'a Publish) -> Self {
        let properties = publish.properties.as_deref();
        Self {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            topic: publish.topic.as_bytes(),
            packet_id: publish.packet_id,
            payload: &publish.payload,
            properties,
            message_expiry: None,
            topic_alias: properties.and_then(|p| p.topic_alias),
            subscription_identifiers: properties.map_or(&[], |p| &p.subscription_identifiers),
        }
    }
}

/// Where in the buffer the parts of an encoded PUBLISH are that differ between receivers of one wire layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishOffsets {
    /// The first byte of the packet, which holds DUP and RETAIN.
    pub start: usize,
    /// The two bytes of the packet identifier, if the QoS is 1 or 2.
    pub packet_id: Option<usize>,
}

/// Appends a PUBLISH to `out`. Allocates nothing if `out` has room.
///
/// # Panics
/// As [`encode`]; also if there is a packet identifier at QoS 0 or none above. [MQTT-2.2.1-2]
#[inline]
pub fn encode_publish(parts: &PublishParts<'_>, version: Version, out: &mut BytesMut) -> PublishOffsets {
    assert_eq!(
        parts.packet_id.is_some(),
        parts.qos > Qos::AtMostOnce,
        "a packet identifier goes with QoS 1 and 2"
    );
    let start = out.len();
    let mut length = Length::default();
    publish_body(parts, version, &mut length);
    fixed_header(publish_first_byte(parts), length.get(), out);
    let packet_id = parts.packet_id.map(|_| out.len() + 2 + parts.topic.len());
    publish_body(parts, version, out);
    PublishOffsets { start, packet_id }
}

/// The size of the whole PUBLISH as [`encode_publish`] writes it. [MQTT-3.1.2-24]
pub fn publish_len(parts: &PublishParts<'_>, version: Version) -> usize {
    let mut length = Length::default();
    publish_body(parts, version, &mut length);
    whole_len(length.get())
}

#[inline]
fn fixed_header(first_byte: u8, remaining: u32, out: &mut BytesMut) {
    out.reserve(whole_len(remaining));
    out.u8(first_byte);
    out.variable_byte_integer(remaining);
}

#[inline]
fn whole_len(remaining: u32) -> usize {
    1 + variable_byte_integer_len(remaining) + remaining as usize
}

fn body_len(packet: &Packet, version: Version) -> u32 {
    let mut length = Length::default();
    body(packet, version, &mut length);
    length.get()
}

/// Type and flags. [MQTT-2.1.3-1]
fn first_byte(packet: &Packet) -> u8 {
    let packet_type = packet.packet_type();
    let flags = match packet_type {
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
        _ => 0,
    };
    (packet_type as u8) << 4 | flags
}

#[inline]
fn publish_first_byte(parts: &PublishParts<'_>) -> u8 {
    // [MQTT-3.3.1-2]
    let dup = parts.dup && parts.qos > Qos::AtMostOnce;
    (PacketType::Publish as u8) << 4 | u8::from(dup) << 3 | (parts.qos as u8) << 1 | u8::from(parts.retain)
}

fn body<S: Sink>(packet: &Packet, version: Version, out: &mut S) {
    match packet {
        Packet::Connect(connect) => connect_body(connect, out),
        Packet::ConnAck(ack) => conn_ack_body(ack, version, out),
        Packet::Publish(publish) => publish_body(&PublishParts::from(publish), version, out),
        Packet::Ack(ack) => ack_body(ack, version, out),
        Packet::Subscribe(subscribe) => subscribe_body(subscribe, version, out),
        Packet::SubAck(ack) => sub_ack_body(ack, version, out),
        Packet::Unsubscribe(unsubscribe) => unsubscribe_body(unsubscribe, version, out),
        Packet::UnsubAck(ack) => unsub_ack_body(ack, version, out),
        Packet::PingReq | Packet::PingResp => {}
        Packet::Disconnect(disconnect) => disconnect_body(disconnect, version, out),
        Packet::Auth(auth) => auth_body(auth, version, out),
    }
}

#[inline]
fn publish_body<S: Sink>(parts: &PublishParts<'_>, version: Version, out: &mut S) {
    out.binary(parts.topic);
    if let Some(id) = parts.packet_id {
        out.u16(id.get());
    }
    if version == Version::V5 {
        section(parts, out);
    }
    out.raw(parts.payload);
}

fn connect_body<S: Sink>(connect: &Connect, out: &mut S) {
    let version = connect.version;
    let bridge = connect.bridge && version != Version::V5;
    out.binary(version.protocol_name().as_bytes());
    out.u8(version.level() | u8::from(bridge) << 7);
    out.u8(connect_flags(connect));
    out.u16(connect.keep_alive);
    if version == Version::V5 {
        section(&connect.properties, out);
    }
    out.utf8(&connect.client_id);
    if let Some(will) = &connect.will {
        will_fields(will, version, out);
    }
    if let Some(username) = &connect.username {
        out.utf8(username);
    }
    if let Some(password) = written_password(connect) {
        out.binary(password);
    }
}

/// Before MQTT 5 a password needs a user name. [3.1.1 MQTT-3.1.2-22]
fn written_password(connect: &Connect) -> Option<&[u8]> {
    let allowed = connect.version == Version::V5 || connect.username.is_some();
    connect.password.as_deref().filter(|_| allowed)
}

/// §3.1.2.3
fn connect_flags(connect: &Connect) -> u8 {
    let will = connect.will.as_ref().map_or(0, |will| {
        0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5
    });
    u8::from(connect.clean_start) << 1
        | will
        | u8::from(written_password(connect).is_some()) << 6
        | u8::from(connect.username.is_some()) << 7
}

fn will_fields<S: Sink>(will: &Will, version: Version, out: &mut S) {
    if version == Version::V5 {
        section(&will.properties, out);
    }
    out.utf8(&will.topic);
    out.binary(&will.payload);
}

fn conn_ack_body<S: Sink>(ack: &ConnAck, version: Version, out: &mut S) {
    // [MQTT-3.2.2-6] [3.1.1 MQTT-3.2.2-4]; MQTT 3.1 has no such flag.
    let session_present = ack.session_present && ack.code == ReasonCode::Success && version != Version::V31;
    out.u8(session_present.into());
    if version == Version::V5 {
        out.u8(ack.code as u8);
        section(&ack.properties, out);
    } else {
        out.u8(ack.code.to_return_code());
    }
}

/// §3.4.2.1: a Success without properties is not said, an empty property section neither.
#[inline]
fn ack_body<S: Sink>(ack: &Ack, version: Version, out: &mut S) {
    out.u16(ack.packet_id.get());
    if version != Version::V5 {
        return;
    }
    let properties = ack.properties.as_deref().filter(|p| !is_empty(*p));
    if ack.reason != ReasonCode::Success || properties.is_some() {
        out.u8(ack.reason as u8);
    }
    if let Some(properties) = properties {
        section(properties, out);
    }
}

fn subscribe_body<S: Sink>(subscribe: &Subscribe, version: Version, out: &mut S) {
    out.u16(subscribe.packet_id.get());
    if version == Version::V5 {
        let Subscribe {
            identifier,
            user_properties,
            ..
        } = subscribe;
        section(
            &Request {
                identifier: *identifier,
                user_properties,
            },
            out,
        );
    }
    for entry in &subscribe.filters {
        out.utf8(&entry.filter);
        out.u8(subscribe_options(entry.options, version));
    }
}

fn subscribe_options(options: SubscribeOptions, version: Version) -> u8 {
    let qos = options.qos as u8;
    if version != Version::V5 {
        return qos;
    }
    qos | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | (options.retain_handling as u8) << 4
}

fn sub_ack_body<S: Sink>(ack: &SubAck, version: Version, out: &mut S) {
    let SubAck {
        packet_id,
        codes,
        reason_string,
        user_properties,
    } = ack;
    out.u16(packet_id.get());
    if version == Version::V5 {
        section(
            &Answer {
                reason_string,
                user_properties,
            },
            out,
        );
    }
    for &code in codes {
        // [3.1.1 MQTT-3.9.3-2]: before MQTT 5 there is one failure.
        let code = if code.is_error() && version != Version::V5 {
            ReasonCode::UnspecifiedError
        } else {
            code
        };
        out.u8(code as u8);
    }
}

fn unsubscribe_body<S: Sink>(unsubscribe: &Unsubscribe, version: Version, out: &mut S) {
    let Unsubscribe {
        packet_id,
        user_properties,
        filters,
    } = unsubscribe;
    out.u16(packet_id.get());
    if version == Version::V5 {
        section(
            &Request {
                identifier: None,
                user_properties,
            },
            out,
        );
    }
    for filter in filters {
        out.utf8(filter);
    }
}

fn unsub_ack_body<S: Sink>(ack: &UnsubAck, version: Version, out: &mut S) {
    let UnsubAck {
        packet_id,
        codes,
        reason_string,
        user_properties,
    } = ack;
    out.u16(packet_id.get());
    if version == Version::V5 {
        section(
            &Answer {
                reason_string,
                user_properties,
            },
            out,
        );
        for &code in codes {
            out.u8(code as u8);
        }
    }
}

/// §3.14.2.1, §3.14.2.2.1: what says nothing is left out.
fn disconnect_body<S: Sink>(disconnect: &Disconnect, version: Version, out: &mut S) {
    if version != Version::V5 {
        return;
    }
    let properties = disconnect.properties.as_deref().filter(|p| !is_empty(*p));
    if disconnect.reason != ReasonCode::Success || properties.is_some() {
        out.u8(disconnect.reason as u8);
    }
    if let Some(properties) = properties {
        section(properties, out);
    }
}

/// §3.15.2.1: both may be left out only together.
fn auth_body<S: Sink>(auth: &Auth, version: Version, out: &mut S) {
    assert_eq!(version, Version::V5, "AUTH came with MQTT 5");
    let properties = auth.properties.as_deref().filter(|p| !is_empty(*p));
    if auth.reason == ReasonCode::Success && properties.is_none() {
        return;
    }
    out.u8(auth.reason as u8);
    match properties {
        Some(properties) => section(properties, out),
        None => out.variable_byte_integer(0),
    }
}
