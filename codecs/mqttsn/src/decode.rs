//! Bytes to messages.

use crate::message::{
    Connect, GwInfo, Message, MessageType, Publish, Qos, RegAck, Register, ReturnCode, SubAck, Subscribe,
    TopicName, TopicRef, Unsubscribe, WillTopic,
};
use crate::{DecodeError, MAX_NODE_LEN};
use bytes::Bytes;

/// Type of the encapsulation. §5.5
pub(crate) const FORWARDED: u8 = 0xFE;

/// The outer layer that a forwarder puts around the messages of a wireless node. §5.5
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Encapsulation {
    /// Broadcast radius, 0 to 3; of messages to the node only.
    pub radius: u8,
    /// Names the node among those of its forwarder; no more than [`MAX_NODE_LEN`] bytes.
    pub node: Bytes,
}

/// Length field and type at the start of some bytes. §5.2
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of the whole, the length field included.
    pub len: usize,
    /// Bytes of the length field.
    pub len_bytes: usize,
    pub kind: u8,
}

impl Header {
    /// `None` when there are too few bytes.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        match *bytes {
            [1, high, low, kind, ..] => Some(Self {
                len: u16::from_be_bytes([high, low]).into(),
                len_bytes: 3,
                kind,
            }),
            [1, ..] => None,
            [len, kind, ..] => Some(Self {
                len: len.into(),
                len_bytes: 1,
                kind,
            }),
            _ => None,
        }
    }
}

/// Takes the forwarder's layer off a datagram, if it has one: what is inside is for [`decode`].
pub fn unwrap_datagram(datagram: &Bytes) -> Result<(Option<Encapsulation>, Bytes), DecodeError> {
    match **datagram {
        [len, FORWARDED, ref rest @ ..] if len != 1 => {
            // Length byte, type and Ctrl; the node id has at least one byte, or nothing tells one node from another.
            let missing = 4usize
                .saturating_sub(len.into())
                .max(usize::from(len).saturating_sub(datagram.len()));
            if missing > 0 {
                return Err(DecodeError::Encapsulation { missing });
            }
            let node = datagram.slice(3..usize::from(len));
            debug_assert!(node.len() <= MAX_NODE_LEN);
            let radius = rest[0] & 0b11;
            Ok((
                Some(Encapsulation { radius, node }),
                datagram.slice(usize::from(len)..),
            ))
        }
        _ => Ok((None, datagram.clone())),
    }
}

/// Reads one datagram, which is one message.
pub fn decode(datagram: &Bytes) -> Result<Message, DecodeError> {
    let found = datagram.len();
    let header = Header::read(datagram).ok_or(DecodeError::NoHeader(found))?;
    if header.kind == FORWARDED {
        return Err(DecodeError::Encapsulated);
    }
    if header.len != found {
        return Err(DecodeError::Length {
            told: header.len,
            found,
        });
    }
    let kind = MessageType::from_u8(header.kind).ok_or(DecodeError::UnknownType(header.kind))?;
    let mut fields = Fields {
        kind,
        bytes: datagram,
        at: header.len_bytes + 1,
    };
    let message = fields.message()?;
    match fields.left() {
        0 => Ok(message),
        extra => Err(DecodeError::Trailing { kind, extra }),
    }
}

/// What is left of a message.
struct Fields<'a> {
    kind: MessageType,
    bytes: &'a Bytes,
    at: usize,
}

/// §5.3.4
struct Flags(u8);

impl Fields<'_> {
    fn message(&mut self) -> Result<Message, DecodeError> {
        Ok(match self.kind {
            MessageType::Advertise => Message::Advertise {
                gw_id: self.byte()?,
                duration: self.number()?,
            },
            MessageType::SearchGw => Message::SearchGw { radius: self.byte()? },
            MessageType::GwInfo => Message::GwInfo(GwInfo {
                gw_id: self.byte()?,
                address: self.rest(),
            }),
            MessageType::Connect => self.connect()?,
            MessageType::ConnAck => Message::ConnAck(self.code()?),
            MessageType::WillTopicReq => Message::WillTopicReq,
            MessageType::WillTopic => Message::WillTopic(self.will_topic()?),
            MessageType::WillMsgReq => Message::WillMsgReq,
            MessageType::WillMsg => Message::WillMsg(self.rest()),
            MessageType::Register => Message::Register(Register {
                topic_id: self.number()?,
                msg_id: self.number()?,
                topic: self.name()?,
            }),
            MessageType::RegAck => Message::RegAck(self.ack()?),
            MessageType::Publish => self.publish()?,
            MessageType::PubAck => Message::PubAck(self.ack()?),
            MessageType::PubComp => Message::PubComp(self.number()?),
            MessageType::PubRec => Message::PubRec(self.number()?),
            MessageType::PubRel => Message::PubRel(self.number()?),
            MessageType::Subscribe => self.subscribe()?,
            MessageType::SubAck => Message::SubAck(SubAck {
                qos: self.flags()?.known_qos(self.kind)?,
                topic_id: self.number()?,
                msg_id: self.number()?,
                code: self.code()?,
            }),
            MessageType::Unsubscribe => {
                let flags = self.flags()?;
                Message::Unsubscribe(Unsubscribe {
                    msg_id: self.number()?,
                    topic: self.topic_name(&flags)?,
                })
            }
            MessageType::UnsubAck => Message::UnsubAck(self.number()?),
            MessageType::PingReq => Message::PingReq(self.maybe(|fields| Ok(fields.rest()))?),
            MessageType::PingResp => Message::PingResp,
            MessageType::Disconnect => Message::Disconnect(self.maybe(Self::number)?),
            MessageType::WillTopicUpd => Message::WillTopicUpd(self.will_topic()?),
            MessageType::WillTopicResp => Message::WillTopicResp(self.code()?),
            MessageType::WillMsgUpd => Message::WillMsgUpd(self.rest()),
            MessageType::WillMsgResp => Message::WillMsgResp(self.code()?),
        })
    }

    fn connect(&mut self) -> Result<Message, DecodeError> {
        let flags = self.flags()?;
        Ok(Message::Connect(Connect {
            will: flags.bit(3),
            clean_session: flags.bit(2),
            protocol_id: self.byte()?,
            duration: self.number()?,
            client_id: self.rest(),
        }))
    }

    fn publish(&mut self) -> Result<Message, DecodeError> {
        let flags = self.flags()?;
        let id = self.pair()?;
        let topic = match flags.topic_id_type() {
            0b00 => TopicRef::Normal(u16::from_be_bytes(id)),
            0b01 => TopicRef::Predefined(u16::from_be_bytes(id)),
            0b10 => TopicRef::Short(id),
            _ => return Err(DecodeError::TopicIdType(self.kind)),
        };
        Ok(Message::Publish(Publish {
            dup: flags.bit(7),
            qos: flags.qos(),
            retain: flags.bit(4),
            topic,
            msg_id: self.number()?,
            data: self.rest(),
        }))
    }

    fn subscribe(&mut self) -> Result<Message, DecodeError> {
        let flags = self.flags()?;
        Ok(Message::Subscribe(Subscribe {
            dup: flags.bit(7),
            qos: flags.known_qos(self.kind)?,
            msg_id: self.number()?,
            topic: self.topic_name(&flags)?,
        }))
    }

    fn topic_name(&mut self, flags: &Flags) -> Result<TopicName, DecodeError> {
        match flags.topic_id_type() {
            0b00 => Ok(TopicName::Name(self.name()?)),
            0b01 => Ok(TopicName::Predefined(self.number()?)),
            0b10 => Ok(TopicName::Short(self.pair()?)),
            _ => Err(DecodeError::TopicIdType(self.kind)),
        }
    }

    fn will_topic(&mut self) -> Result<Option<WillTopic>, DecodeError> {
        self.maybe(|fields| {
            let flags = fields.flags()?;
            Ok(WillTopic {
                qos: flags.known_qos(fields.kind)?,
                retain: flags.bit(4),
                topic: fields.name()?,
            })
        })
    }

    fn ack(&mut self) -> Result<RegAck, DecodeError> {
        Ok(RegAck {
            topic_id: self.number()?,
            msg_id: self.number()?,
            code: self.code()?,
        })
    }

    /// What may be left out at the end of a message.
    fn maybe<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.left() == 0 {
            return Ok(None);
        }
        read(self).map(Some)
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn needs(&self, count: usize) -> Result<(), DecodeError> {
        match count.saturating_sub(self.left()) {
            0 => Ok(()),
            missing => Err(DecodeError::Missing {
                kind: self.kind,
                missing,
            }),
        }
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.needs(1)?;
        self.at += 1;
        Ok(self.bytes[self.at - 1])
    }

    fn pair(&mut self) -> Result<[u8; 2], DecodeError> {
        self.needs(2)?;
        self.at += 2;
        Ok([self.bytes[self.at - 2], self.bytes[self.at - 1]])
    }

    fn number(&mut self) -> Result<u16, DecodeError> {
        self.pair().map(u16::from_be_bytes)
    }

    fn flags(&mut self) -> Result<Flags, DecodeError> {
        self.byte().map(Flags)
    }

    fn code(&mut self) -> Result<ReturnCode, DecodeError> {
        self.byte().map(ReturnCode::from_code)
    }

    fn rest(&mut self) -> Bytes {
        let rest = self.bytes.slice(self.at..);
        self.at = self.bytes.len();
        rest
    }

    /// A name has at least one byte.
    fn name(&mut self) -> Result<Bytes, DecodeError> {
        self.needs(1)?;
        Ok(self.rest())
    }
}

impl Flags {
    fn bit(&self, bit: u8) -> bool {
        self.0 >> bit & 1 == 1
    }

    fn qos(&self) -> Qos {
        match self.0 >> 5 & 0b11 {
            0b00 => Qos::AtMostOnce,
            0b01 => Qos::AtLeastOnce,
            0b10 => Qos::ExactlyOnce,
            _ => Qos::NoConnection,
        }
    }

    fn known_qos(&self, kind: MessageType) -> Result<Qos, DecodeError> {
        match self.qos() {
            Qos::NoConnection => Err(DecodeError::Qos(kind)),
            qos => Ok(qos),
        }
    }

    fn topic_id_type(&self) -> u8 {
        self.0 & 0b11
    }
}
