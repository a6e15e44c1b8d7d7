//! The few bytes of MQTT that a measurement touches for each message: a PUBLISH that is encoded once and then
//! only patched, and a scan that looks at nothing else than it needs. Handshakes go through the codec.

use super::BenchError;
use bytes::BytesMut;
use headgate_mqtt_codec::{AckKind, Packet, PacketId, Publish, Qos, Utf8, Version, encode};

/// Publisher, sequence number and time, big-endian, at the start of every payload.
pub(crate) const STAMP_LEN: usize = 20;

/// What every payload starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Who published it.
    pub publisher: u32,
    /// Counts up for each publisher.
    pub sequence: u64,
    /// When it was, or should have been, sent: nanoseconds since the start.
    pub nanos: u64,
}

impl Stamp {
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let payload = payload.first_chunk::<STAMP_LEN>()?;
        Some(Self {
            publisher: u32::from_be_bytes(*payload.first_chunk()?),
            sequence: u64::from_be_bytes(*payload[4..].first_chunk()?),
            nanos: u64::from_be_bytes(*payload[12..].first_chunk()?),
        })
    }

    /// As it stands in a payload.
    pub(crate) fn to_bytes(self) -> [u8; STAMP_LEN] {
        let mut bytes = [0; STAMP_LEN];
        bytes[..4].copy_from_slice(&self.publisher.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[12..].copy_from_slice(&self.nanos.to_be_bytes());
        bytes
    }
}

/// A message, encoded once.
pub(super) struct Template {
    /// With the publisher's number in its stamp.
    pub(super) bytes: Box<[u8]>,
    /// Where its identifier is, if it has one.
    pub(super) id: Option<IdAt>,
    pub(super) stamp_at: usize,
}

/// Where an identifier is in a message, and how it is written.
#[derive(Clone, Copy)]
pub(super) enum IdAt {
    /// Two bytes, big-endian.
    Bytes(usize),
    /// Five decimal digits.
    Digits(usize),
}

impl Template {
    /// A PUBLISH of this publisher with `payload_len` bytes, at least [`STAMP_LEN`].
    pub(super) fn new(publisher: u32, topic: Utf8, qos: Qos, payload_len: usize, version: Version) -> Self {
        let mut payload = vec![b'.'; payload_len.max(STAMP_LEN)];
        payload[..4].copy_from_slice(&publisher.to_be_bytes());
        let payload_len = payload.len();
        let topic_len = topic.as_bytes().len();
        let mut bytes = BytesMut::new();
        let publish = Publish {
            qos,
            topic,
            packet_id: (qos > Qos::AtMostOnce).then_some(PacketId::MIN),
            payload: payload.into(),
            ..Publish::default()
        };
        encode(&Packet::Publish(publish), version, &mut bytes);
        let header = bytes[1..]
            .iter()
            .position(|byte| byte & 0x80 == 0)
            .map_or(0, |at| at + 2);
        Self {
            id: (qos > Qos::AtMostOnce).then_some(IdAt::Bytes(header + 2 + topic_len)),
            stamp_at: bytes.len() - payload_len,
            bytes: bytes[..].into(),
        }
    }

    /// Appends the message with this identifier, if it has one, sequence number and time.
    #[inline]
    pub(super) fn append(&self, id: u16, sequence: u64, nanos: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let frame = &mut out[start..];
        match self.id {
            Some(IdAt::Bytes(at)) => frame[at..at + 2].copy_from_slice(&id.to_be_bytes()),
            Some(IdAt::Digits(at)) => {
                let mut rest = id;
                for digit in frame[at..at + 5].iter_mut().rev() {
                    *digit = b'0' + (rest % 10) as u8;
                    rest /= 10;
                }
            }
            None => {}
        }
        let stamp = &mut frame[self.stamp_at + 4..self.stamp_at + STAMP_LEN];
        stamp[..8].copy_from_slice(&sequence.to_be_bytes());
        stamp[8..].copy_from_slice(&nanos.to_be_bytes());
    }
}

/// What came in, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A PUBLISH, with its identifier (0 at QoS 0); no stamp if it is not one of ours.
    Publish(Qos, u16, Option<Stamp>),
    /// An acknowledgement, and whether it is good news.
    Ack(AckKind, u16, bool),
    /// CONNACK: whether we are let in, and whether our session was kept.
    ConnAck(bool, bool),
    /// SUBACK, and whether its last code is good news.
    SubAck(bool),
    /// DISCONNECT with its reason.
    Disconnect(u8),
    /// Anything else.
    Other,
}

/// The first frame of `bytes` and its length; `None` while it is not whole.
#[inline]
pub(super) fn scan(bytes: &[u8], version: Version) -> Result<Option<(Frame, usize)>, BenchError> {
    let Some((header, remaining)) = fixed_header(bytes)? else {
        return Ok(None);
    };
    let Some(body) = bytes.get(header..header + remaining) else {
        return Ok(None);
    };
    let frame = match bytes[0] >> 4 {
        2 => match body {
            [flags, code, ..] => Frame::ConnAck(*code == 0, flags & 1 == 1),
            _ => return Err(BenchError::Malformed),
        },
        3 => publish(bytes[0], body, version).ok_or(BenchError::Malformed)?,
        4 => ack(AckKind::PubAck, body)?,
        5 => ack(AckKind::PubRec, body)?,
        6 => ack(AckKind::PubRel, body)?,
        7 => ack(AckKind::PubComp, body)?,
        9 => Frame::SubAck(body.len() > 2 && body[body.len() - 1] < 0x80),
        14 => Frame::Disconnect(body.first().copied().unwrap_or(0)),
        _ => Frame::Other,
    };
    Ok(Some((frame, header + remaining)))
}

/// Its length, and the Remaining Length. §2.1.4
#[inline]
fn fixed_header(bytes: &[u8]) -> Result<Option<(usize, usize)>, BenchError> {
    let mut remaining = 0;
    for at in 1..5 {
        let Some(byte) = bytes.get(at) else {
            return Ok(None);
        };
        remaining |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return Ok(Some((at + 1, remaining)));
        }
    }
    Err(BenchError::Malformed)
}

#[inline]
fn publish(first: u8, body: &[u8], version: Version) -> Option<Frame> {
    let qos = Qos::from_bits(first >> 1 & 3)?;
    let mut rest = body.get(2 + usize::from(u16::from_be_bytes(*body.first_chunk()?))..)?;
    let mut id = 0;
    if qos > Qos::AtMostOnce {
        id = u16::from_be_bytes(*rest.first_chunk()?);
        rest = &rest[2..];
    }
    if version == Version::V5 {
        let end = rest.iter().position(|byte| byte & 0x80 == 0)?;
        let length = rest[..=end]
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
        rest = rest.get(end.checked_add(1)?.checked_add(length)?..)?;
    }
    Some(Frame::Publish(qos, id, Stamp::read(rest)))
}

#[inline]
fn ack(kind: AckKind, body: &[u8]) -> Result<Frame, BenchError> {
    let id = body.first_chunk().ok_or(BenchError::Malformed)?;
    let good = body.get(2).is_none_or(|reason| *reason < 0x80);
    Ok(Frame::Ack(kind, u16::from_be_bytes(*id), good))
}

/// Appends an acknowledgement: good news needs no reason in any version. §3.4.2.1
#[inline]
pub(super) fn append_ack(kind: AckKind, id: u16, out: &mut Vec<u8>) {
    let flags = u8::from(kind == AckKind::PubRel) << 1;
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[(kind.packet_type() as u8) << 4 | flags, 2, high, low]);
}

/// What a receiver answers. The stamp, if there is one, of a message that came.
#[inline]
pub(super) fn receive(frame: Frame, out: &mut Vec<u8>) -> Option<Option<Stamp>> {
    match frame {
        Frame::Publish(qos, id, stamp) => {
            match qos {
                Qos::AtMostOnce => {}
                Qos::AtLeastOnce => append_ack(AckKind::PubAck, id, out),
                Qos::ExactlyOnce => append_ack(AckKind::PubRec, id, out),
            }
            Some(stamp)
        }
        Frame::Ack(AckKind::PubRel, id, _) => {
            append_ack(AckKind::PubComp, id, out);
            None
        }
        _ => None,
    }
}

/// What a publisher answers. The identifier that is free again, and whether its message was taken.
#[inline]
pub(super) fn settle(frame: Frame, out: &mut Vec<u8>) -> Option<(u16, bool)> {
    let Frame::Ack(kind, id, good) = frame else {
        return None;
    };
    if kind == AckKind::PubRec && good {
        append_ack(AckKind::PubRel, id, out);
        return None;
    }
    Some((id, good))
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_mqtt_codec::{Ack, Decoder, MAX_PACKET_SIZE, PublishProperties};

    const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
    const LEVELS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

    fn utf8(text: &str) -> Utf8 {
        Utf8::try_from(text.to_owned()).unwrap()
    }

    fn decode(bytes: &[u8], version: Version) -> Packet {
        let mut decoder = Decoder::client(version, MAX_PACKET_SIZE);
        decoder.decode(&mut bytes.into()).unwrap().unwrap()
    }

    #[test]
    fn a_patched_frame_is_the_publish_that_the_codec_reads() {
        for version in VERSIONS {
            for qos in LEVELS {
                for payload in [0, 20, 64, 127, 128, 16_384] {
                    let template = Template::new(7, utf8("plant/7"), qos, payload, version);
                    let mut out = b"before".to_vec();
                    template.append(513, 1 << 40, 99, &mut out);
                    let Packet::Publish(publish) = decode(&out[6..], version) else {
                        panic!("not a PUBLISH")
                    };
                    assert_eq!((publish.qos, publish.topic.as_str()), (qos, "plant/7"));
                    assert_eq!(
                        publish.packet_id.map_or(0, PacketId::get),
                        if qos == Qos::AtMostOnce { 0 } else { 513 }
                    );
                    assert_eq!(publish.payload.len(), payload.max(STAMP_LEN));
                    let stamp = Stamp {
                        publisher: 7,
                        sequence: 1 << 40,
                        nanos: 99,
                    };
                    assert_eq!(Stamp::read(&publish.payload), Some(stamp));
                    let id = publish.packet_id.map_or(0, PacketId::get);
                    let whole = Some((Frame::Publish(qos, id, Some(stamp)), out.len() - 6));
                    assert_eq!(scan(&out[6..], version).unwrap(), whole);
                    for cut in 6..out.len().min(100) {
                        assert_eq!(scan(&out[6..cut], version).unwrap(), None);
                    }
                }
            }
        }
    }

    #[test]
    fn properties_are_passed_over() {
        let mut bytes = BytesMut::new();
        let mut payload = vec![0; STAMP_LEN];
        payload[11] = 5;
        let properties = PublishProperties {
            content_type: Some(utf8(&"x".repeat(200))),
            ..Default::default()
        };
        let publish = Publish {
            topic: utf8("a"),
            payload: payload.into(),
            properties: Some(Box::new(properties)),
            ..Publish::default()
        };
        encode(&Packet::Publish(publish), Version::V5, &mut bytes);
        let stamp = Stamp {
            publisher: 0,
            sequence: 5,
            nanos: 0,
        };
        let frame = Frame::Publish(Qos::AtMostOnce, 0, Some(stamp));
        assert_eq!(scan(&bytes, Version::V5).unwrap(), Some((frame, bytes.len())));
    }

    #[test]
    fn acknowledgements_are_those_of_the_codec() {
        for kind in [
            AckKind::PubAck,
            AckKind::PubRec,
            AckKind::PubRel,
            AckKind::PubComp,
        ] {
            for version in VERSIONS {
                let mut out = Vec::new();
                append_ack(kind, 258, &mut out);
                let id = PacketId::new(258).unwrap();
                assert_eq!(decode(&out, version), Packet::Ack(Ack::success(kind, id)));
                assert_eq!(
                    scan(&out, version).unwrap(),
                    Some((Frame::Ack(kind, 258, true), 4))
                );
            }
        }
        assert_eq!(
            scan(&[0x40, 3, 0, 9, 0x97], Version::V5).unwrap(),
            Some((Frame::Ack(AckKind::PubAck, 9, false), 5))
        );
    }

    /// Bytes from outside end in an error or a frame.
    #[test]
    fn any_bytes_are_scanned_without_panic() {
        for first in 0..=255 {
            for second in [0, 1, 2, 3, 4, 5, 0x7f, 0x80, 0xff] {
                for third in [0, 1, 2, 0x80, 0xff] {
                    for version in VERSIONS {
                        let bytes = [first, second, third, 1, third, 0xff, second, 0];
                        (0..=8).for_each(|cut| drop(scan(&bytes[..cut], version)));
                    }
                }
            }
        }
    }
}
