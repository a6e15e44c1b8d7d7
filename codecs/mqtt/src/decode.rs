//! Packet bodies. §3
//!
//! Each function reads the fields in the order of the specification and checks each one where it is read.

use bytes::{Buf, Bytes};

use crate::decode_properties as properties;
use crate::decoder::Side;
use crate::packet::{
    Ack, AckKind, Auth, ConnAck, Connect, Disconnect, Packet, PacketType, Publish, RetainHandling, SubAck,
    Subscribe, SubscribeFilter, SubscribeOptions, UnsubAck, Unsubscribe, Will,
};
use crate::properties::{ConnectProperties, WillProperties};
use crate::reader::Reader;
use crate::{DecodeError, Qos, ReasonCode, Utf8, Version};

/// Topic filters that one packet may have. Each takes many times its bytes on the wire.
pub const MAX_FILTERS: usize = 16_384;

/// Whether one more may come behind `count` of them.
pub(crate) fn no_more_than(limit: usize, count: usize, packet: PacketType) -> Result<(), DecodeError> {
    if count < limit {
        Ok(())
    } else {
        Err(DecodeError::TooMany { packet, limit })
    }
}

/// The lower half of the first byte. [MQTT-2.1.3-1] [3.1.1 MQTT-2.2.2-1] [3.1.1 MQTT-2.2.2-2]
#[inline]
pub(crate) fn check_flags(
    packet: PacketType,
    flags: u8,
    version: Option<Version>,
) -> Result<(), DecodeError> {
    match packet {
        PacketType::Publish => match flags & 0b0110 {
            0b0110 => Err(DecodeError::QosBits(packet)),
            // MQTT 3.1 has no rule about DUP at QoS 0; there it is ignored.
            0 if flags & 0b1000 != 0 && version != Some(Version::V31) => Err(DecodeError::DupAtMostOnce),
            _ => Ok(()),
        },
        // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]: 0010. In MQTT 3.1 these were sent at QoS 1, could be
        // sent again, and were then marked DUP.
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => match flags {
            0b0010 => Ok(()),
            0b1010 if version == Some(Version::V31) => Ok(()),
            _ => Err(DecodeError::HeaderFlags { packet, flags }),
        },
        _ if flags == 0 => Ok(()),
        _ => Err(DecodeError::HeaderFlags { packet, flags }),
    }
}

/// Any body but that of CONNECT.
#[inline]
pub(crate) fn body(
    packet: PacketType,
    flags: u8,
    body: Bytes,
    version: Version,
    side: Side,
) -> Result<Packet, DecodeError> {
    if packet == PacketType::Publish {
        return publish(flags, body, version, side).map(Packet::Publish);
    }
    let mut r = Reader::new(packet, &body);
    let decoded = match packet {
        // Both are taken care of before.
        PacketType::Connect | PacketType::Publish => return Err(DecodeError::SecondConnect),
        PacketType::ConnAck => Packet::ConnAck(Box::new(conn_ack(&mut r, version)?)),
        PacketType::PubAck => Packet::Ack(ack(&mut r, AckKind::PubAck, version)?),
        PacketType::PubRec => Packet::Ack(ack(&mut r, AckKind::PubRec, version)?),
        PacketType::PubRel => Packet::Ack(ack(&mut r, AckKind::PubRel, version)?),
        PacketType::PubComp => Packet::Ack(ack(&mut r, AckKind::PubComp, version)?),
        PacketType::Subscribe => Packet::Subscribe(Box::new(subscribe(&mut r, version)?)),
        PacketType::SubAck => Packet::SubAck(Box::new(sub_ack(&mut r, version)?)),
        PacketType::Unsubscribe => Packet::Unsubscribe(Box::new(unsubscribe(&mut r, version)?)),
        PacketType::UnsubAck => Packet::UnsubAck(Box::new(unsub_ack(&mut r, version)?)),
        PacketType::PingReq => Packet::PingReq,
        PacketType::PingResp => Packet::PingResp,
        PacketType::Disconnect => Packet::Disconnect(disconnect(&mut r, version, side)?),
        PacketType::Auth => Packet::Auth(auth(&mut r)?),
    };
    r.finish()?;
    Ok(decoded)
}

/// §3.3. The hot path: no allocation unless there are properties.
#[inline]
fn publish(flags: u8, mut body: Bytes, version: Version, side: Side) -> Result<Publish, DecodeError> {
    const PUBLISH: PacketType = PacketType::Publish;
    let qos = Qos::from_bits(flags >> 1 & 0b11).ok_or(DecodeError::QosBits(PUBLISH))?;
    let mut r = Reader::new(PUBLISH, &body);
    let topic = r.utf8()?;
    if topic.has_wildcard() {
        return Err(DecodeError::WildcardInTopic(PUBLISH));
    }
    // [MQTT-2.2.1-2] [3.1.1 MQTT-2.3.1-5]
    let packet_id = if qos > Qos::AtMostOnce {
        Some(r.packet_id()?)
    } else {
        None
    };
    let properties = if version == Version::V5 {
        properties::publish(&mut r, side)?
    } else {
        None
    };
    // Whether the alias is known, only the endpoint can tell. §3.3.2.1
    if topic.is_empty() && properties.as_ref().is_none_or(|p| p.topic_alias.is_none()) {
        return Err(DecodeError::EmptyTopic(PUBLISH));
    }
    // The body itself becomes the payload: one shared handle less to count.
    let payload_at = body.len() - r.remaining();
    body.advance(payload_at);
    Ok(Publish {
        dup: flags & 0b1000 != 0 && qos > Qos::AtMostOnce,
        qos,
        retain: flags & 1 != 0,
        topic,
        packet_id,
        payload: body,
        properties,
    })
}

/// §3.1. Tells the version as soon as it is known: an error further on is answered in it.
pub(crate) fn connect(body: &Bytes, learnt: &mut Option<Version>) -> Result<Connect, DecodeError> {
    let mut r = Reader::new(PacketType::Connect, body);
    let (version, bridge) = protocol(&mut r)?;
    *learnt = Some(version);

    let flags = ConnectFlags(r.u8()?);
    flags.check(version)?;
    let keep_alive = r.u16()?;
    let properties = if version == Version::V5 {
        properties::connect(&mut r)?
    } else {
        ConnectProperties::default()
    };
    let client_id = r.utf8()?;
    let will = if flags.will() {
        Some(will(&mut r, flags, version)?)
    } else {
        None
    };
    // MQTT 3.1: "the Remaining Length field from the fixed header takes precedence over the User Name flag",
    // so a flagged user name or password may be missing. Later versions: [MQTT-3.1.2-17] [MQTT-3.1.2-19]
    let missing = |r: &Reader<'_>| version == Version::V31 && r.is_empty();
    let username = if flags.username() && !missing(&r) {
        Some(r.utf8()?)
    } else {
        None
    };
    let password = if flags.password() && !missing(&r) {
        Some(r.binary()?)
    } else {
        None
    };
    r.finish()?;
    Ok(Connect {
        version,
        bridge,
        clean_start: flags.clean_start(),
        keep_alive,
        client_id,
        will,
        username,
        password,
        properties,
    })
}

/// Protocol name and level. [MQTT-3.1.2-1] [MQTT-3.1.2-2]
fn protocol(r: &mut Reader<'_>) -> Result<(Version, bool), DecodeError> {
    let name = r.binary()?;
    if name != "MQTT" && name != "MQIsdp" {
        return Err(DecodeError::UnknownProtocol(name.slice(..name.len().min(16))));
    }
    let level = r.u8()?;
    match (&name[..], level) {
        (b"MQIsdp", 3) => Ok((Version::V31, false)),
        (b"MQIsdp", 0x83) => Ok((Version::V31, true)),
        (b"MQTT", 4) => Ok((Version::V311, false)),
        (b"MQTT", 0x84) => Ok((Version::V311, true)),
        (b"MQTT", 5) => Ok((Version::V5, false)),
        _ => Err(DecodeError::UnsupportedVersion(level)),
    }
}

/// §3.1.2.3
#[derive(Clone, Copy)]
struct ConnectFlags(u8);

impl ConnectFlags {
    fn clean_start(self) -> bool {
        self.0 & 0x02 != 0
    }

    fn will(self) -> bool {
        self.0 & 0x04 != 0
    }

    fn will_qos(self) -> Option<Qos> {
        Qos::from_bits(self.0 >> 3 & 0b11)
    }

    fn will_retain(self) -> bool {
        self.0 & 0x20 != 0
    }

    fn password(self) -> bool {
        self.0 & 0x40 != 0
    }

    fn username(self) -> bool {
        self.0 & 0x80 != 0
    }

    fn check(self, version: Version) -> Result<(), DecodeError> {
        // [MQTT-3.1.2-3] [3.1.1 MQTT-3.1.2-3]; MQTT 3.1 calls the bit unused.
        if self.0 & 0x01 != 0 && version != Version::V31 {
            return Err(DecodeError::ConnectFlags);
        }
        // [MQTT-3.1.2-11] [MQTT-3.1.2-13]; MQTT 3.1 calls the bits unused without a Will.
        if !self.will() && self.0 & 0x38 != 0 && version != Version::V31 {
            return Err(DecodeError::WillFlags(self.0));
        }
        // [3.1.1 MQTT-3.1.2-22]; MQTT 5 allows it.
        if self.password() && !self.username() && version != Version::V5 {
            return Err(DecodeError::PasswordWithoutUserName);
        }
        Ok(())
    }
}

/// [MQTT-3.1.2-9] [MQTT-3.1.2-12]
fn will(r: &mut Reader<'_>, flags: ConnectFlags, version: Version) -> Result<Will, DecodeError> {
    let packet = r.packet();
    let qos = flags.will_qos().ok_or(DecodeError::QosBits(packet))?;
    let properties = if version == Version::V5 {
        properties::will(r)?
    } else {
        WillProperties::default()
    };
    let topic = r.utf8()?;
    if topic.is_empty() {
        return Err(DecodeError::EmptyTopic(packet));
    }
    if topic.has_wildcard() {
        return Err(DecodeError::WildcardInTopic(packet));
    }
    let payload = r.binary()?;
    Ok(Will {
        topic,
        payload,
        qos,
        retain: flags.will_retain(),
        properties,
    })
}

/// §3.2
fn conn_ack(r: &mut Reader<'_>, version: Version) -> Result<ConnAck, DecodeError> {
    let whole = r.remaining();
    let flags = r.u8()?;
    // MQTT 3.1 has no flags there, only an unused byte.
    if flags & !1 != 0 && version != Version::V31 {
        return Err(DecodeError::ConnAckFlags(flags));
    }
    let session_present = flags & 1 != 0 && version != Version::V31;
    let byte = r.u8()?;
    // A server that does not know MQTT 5 refuses it with the two bytes of MQTT 3.1.1; 0x01 is no reason code
    // of a CONNACK, so it cannot be mistaken. [MQTT-3.1.2-2]
    let old_refusal = version == Version::V5 && whole == 2 && byte == 1;
    let code = if version == Version::V5 && !old_refusal {
        allowed(PacketType::ConnAck, byte)?
    } else {
        ReasonCode::from_return_code(byte).ok_or(DecodeError::ReturnCode(byte))?
    };
    if session_present && code != ReasonCode::Success {
        return Err(DecodeError::SessionPresentInRefusal(code));
    }
    let properties = if version == Version::V5 && !old_refusal {
        properties::conn_ack(r)?
    } else {
        Default::default()
    };
    Ok(ConnAck {
        session_present,
        code,
        properties,
    })
}

/// §3.4 to §3.7: in MQTT 5 reason and properties may be left out.
#[inline]
fn ack(r: &mut Reader<'_>, kind: AckKind, version: Version) -> Result<Ack, DecodeError> {
    let packet_id = r.packet_id()?;
    if version != Version::V5 || r.is_empty() {
        return Ok(Ack::success(kind, packet_id));
    }
    let reason = allowed(r.packet(), r.u8()?)?;
    let properties = if r.is_empty() { None } else { properties::ack(r)? };
    Ok(Ack {
        kind,
        packet_id,
        reason,
        properties,
    })
}

/// §3.8
fn subscribe(r: &mut Reader<'_>, version: Version) -> Result<Subscribe, DecodeError> {
    let packet_id = r.packet_id()?;
    let (identifier, user_properties) = if version == Version::V5 {
        properties::subscribe(r)?
    } else {
        (None, Vec::new())
    };
    let mut filters = Vec::new();
    while !r.is_empty() {
        no_more_than(MAX_FILTERS, filters.len(), r.packet())?;
        let filter = topic_filter(r)?;
        let options = subscribe_options(r.u8()?, version)?;
        if options.no_local && filter.as_bytes().starts_with(b"$share/") {
            return Err(DecodeError::NoLocalShared);
        }
        filters.push(SubscribeFilter { filter, options });
    }
    if filters.is_empty() {
        return Err(DecodeError::NoFilters(r.packet()));
    }
    Ok(Subscribe {
        packet_id,
        identifier,
        user_properties,
        filters,
    })
}

/// [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-4.7.3-1]
fn topic_filter(r: &mut Reader<'_>) -> Result<Utf8, DecodeError> {
    let filter = r.utf8()?;
    if filter.is_empty() {
        return Err(DecodeError::EmptyFilter(r.packet()));
    }
    Ok(filter)
}

/// §3.8.3.1; before MQTT 5 only the QoS.
fn subscribe_options(byte: u8, version: Version) -> Result<SubscribeOptions, DecodeError> {
    let reserved = if version == Version::V5 {
        0b1100_0000
    } else {
        0b1111_1100
    };
    if byte & reserved != 0 {
        return Err(DecodeError::SubscribeOptions(byte));
    }
    Ok(SubscribeOptions {
        qos: Qos::from_bits(byte & 0b11).ok_or(DecodeError::SubscribeQos)?,
        no_local: byte & 0b100 != 0,
        retain_as_published: byte & 0b1000 != 0,
        retain_handling: match byte >> 4 & 0b11 {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::RetainHandling),
        },
    })
}

/// §3.9
fn sub_ack(r: &mut Reader<'_>, version: Version) -> Result<SubAck, DecodeError> {
    let packet_id = r.packet_id()?;
    let (reason_string, user_properties) = if version == Version::V5 {
        properties::codes(r)?
    } else {
        (None, Vec::new())
    };
    let codes = reason_codes(r, version)?;
    Ok(SubAck {
        packet_id,
        codes,
        reason_string,
        user_properties,
    })
}

/// One byte for each filter, to the end of the packet.
fn reason_codes(r: &mut Reader<'_>, version: Version) -> Result<Vec<ReasonCode>, DecodeError> {
    let packet = r.packet();
    let mut codes = Vec::with_capacity(r.remaining());
    while !r.is_empty() {
        let byte = r.u8()?;
        // [3.1.1 MQTT-3.9.3-2]; MQTT 3.1 has no failure code, but servers use 0x80 there too.
        if version != Version::V5 && !matches!(byte, 0..=2 | 0x80) {
            return Err(DecodeError::ReasonNotAllowed { packet, code: byte });
        }
        codes.push(allowed(packet, byte)?);
    }
    if codes.is_empty() {
        return Err(DecodeError::NoReasonCodes(packet));
    }
    Ok(codes)
}

/// §3.10
fn unsubscribe(r: &mut Reader<'_>, version: Version) -> Result<Unsubscribe, DecodeError> {
    let packet_id = r.packet_id()?;
    let user_properties = if version == Version::V5 {
        properties::unsubscribe(r)?
    } else {
        Vec::new()
    };
    let mut filters = Vec::new();
    while !r.is_empty() {
        no_more_than(MAX_FILTERS, filters.len(), r.packet())?;
        filters.push(topic_filter(r)?);
    }
    if filters.is_empty() {
        return Err(DecodeError::NoFilters(r.packet()));
    }
    Ok(Unsubscribe {
        packet_id,
        user_properties,
        filters,
    })
}

/// §3.11; before MQTT 5 without a payload.
fn unsub_ack(r: &mut Reader<'_>, version: Version) -> Result<UnsubAck, DecodeError> {
    let packet_id = r.packet_id()?;
    if version != Version::V5 {
        return Ok(UnsubAck {
            packet_id,
            codes: Vec::new(),
            reason_string: None,
            user_properties: Vec::new(),
        });
    }
    let (reason_string, user_properties) = properties::codes(r)?;
    let codes = reason_codes(r, version)?;
    Ok(UnsubAck {
        packet_id,
        codes,
        reason_string,
        user_properties,
    })
}

/// §3.14: reason and properties may be left out; before MQTT 5 there are none.
fn disconnect(r: &mut Reader<'_>, version: Version, side: Side) -> Result<Disconnect, DecodeError> {
    if version != Version::V5 || r.is_empty() {
        return Ok(Disconnect::default());
    }
    let reason = allowed(r.packet(), r.u8()?)?;
    let properties = if r.is_empty() {
        None
    } else {
        properties::disconnect(r, side)?
    };
    Ok(Disconnect { reason, properties })
}

/// §3.15: an empty body means Success without properties.
fn auth(r: &mut Reader<'_>) -> Result<Auth, DecodeError> {
    if r.is_empty() {
        return Ok(Auth::default());
    }
    let reason = allowed(r.packet(), r.u8()?)?;
    let properties = Some(Box::new(properties::auth(r)?));
    Ok(Auth { reason, properties })
}

#[inline]
fn allowed(packet: PacketType, byte: u8) -> Result<ReasonCode, DecodeError> {
    match ReasonCode::from_u8(byte) {
        Some(code) if code.is_allowed_in(packet) => Ok(code),
        _ => Err(DecodeError::ReasonNotAllowed { packet, code: byte }),
    }
}
