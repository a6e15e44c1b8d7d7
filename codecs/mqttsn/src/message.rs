//! The messages. §5.4

use crate::MAX_LEN;
use bytes::Bytes;
use std::fmt;
use std::ops::RangeInclusive;

/// What a message is. §5.2.2
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names of the specification")]
pub enum MessageType {
    Advertise = 0x00,
    SearchGw = 0x01,
    GwInfo = 0x02,
    Connect = 0x04,
    ConnAck = 0x05,
    WillTopicReq = 0x06,
    WillTopic = 0x07,
    WillMsgReq = 0x08,
    WillMsg = 0x09,
    Register = 0x0A,
    RegAck = 0x0B,
    Publish = 0x0C,
    PubAck = 0x0D,
    PubComp = 0x0E,
    PubRec = 0x0F,
    PubRel = 0x10,
    Subscribe = 0x12,
    SubAck = 0x13,
    Unsubscribe = 0x14,
    UnsubAck = 0x15,
    PingReq = 0x16,
    PingResp = 0x17,
    Disconnect = 0x18,
    WillTopicUpd = 0x1A,
    WillTopicResp = 0x1B,
    WillMsgUpd = 0x1C,
    WillMsgResp = 0x1D,
}

impl MessageType {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 27] = [
        Self::Advertise,
        Self::SearchGw,
        Self::GwInfo,
        Self::Connect,
        Self::ConnAck,
        Self::WillTopicReq,
        Self::WillTopic,
        Self::WillMsgReq,
        Self::WillMsg,
        Self::Register,
        Self::RegAck,
        Self::Publish,
        Self::PubAck,
        Self::PubComp,
        Self::PubRec,
        Self::PubRel,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::PingReq,
        Self::PingResp,
        Self::Disconnect,
        Self::WillTopicUpd,
        Self::WillTopicResp,
        Self::WillMsgUpd,
        Self::WillMsgResp,
    ];

    /// The type of a code; `None` for those that are reserved.
    pub fn from_u8(code: u8) -> Option<Self> {
        let at = Self::ALL.binary_search_by_key(&code, |kind| *kind as u8);
        at.ok().map(|at| Self::ALL[at])
    }

    /// How many bytes may stand behind the type, as far as the type alone says.
    pub(crate) fn body_lens(self) -> RangeInclusive<usize> {
        let (least, most) = match self {
            Self::WillTopicReq | Self::WillMsgReq | Self::PingResp => (0, 0),
            Self::SearchGw | Self::ConnAck | Self::WillTopicResp | Self::WillMsgResp => (1, 1),
            Self::PubComp | Self::PubRec | Self::PubRel | Self::UnsubAck => (2, 2),
            Self::Advertise => (3, 3),
            Self::RegAck | Self::PubAck => (5, 5),
            Self::SubAck => (6, 6),
            Self::Disconnect => (0, 2),
            Self::WillTopic | Self::WillMsg | Self::WillTopicUpd | Self::WillMsgUpd | Self::PingReq => {
                (0, MAX_LEN)
            }
            Self::GwInfo => (1, MAX_LEN),
            Self::Connect | Self::Subscribe | Self::Unsubscribe => (4, MAX_LEN),
            Self::Register | Self::Publish => (5, MAX_LEN),
        };
        least..=most
    }

    /// The specification's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Advertise => "ADVERTISE",
            Self::SearchGw => "SEARCHGW",
            Self::GwInfo => "GWINFO",
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::WillTopicReq => "WILLTOPICREQ",
            Self::WillTopic => "WILLTOPIC",
            Self::WillMsgReq => "WILLMSGREQ",
            Self::WillMsg => "WILLMSG",
            Self::Register => "REGISTER",
            Self::RegAck => "REGACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubComp => "PUBCOMP",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::WillTopicUpd => "WILLTOPICUPD",
            Self::WillTopicResp => "WILLTOPICRESP",
            Self::WillMsgUpd => "WILLMSGUPD",
            Self::WillMsgResp => "WILLMSGRESP",
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Quality of service, as the two bits of Flags say it. §5.3.4
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// −1, of a client that has no connection: 0b11. §6.8
    NoConnection,
    /// 0
    AtMostOnce,
    /// 1
    AtLeastOnce,
    /// 2
    ExactlyOnce,
}

/// What became of a request. §5.3.10
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReturnCode {
    /// 0x00
    Accepted,
    /// 0x01, rejected: congestion.
    Congestion,
    /// 0x02, rejected: invalid topic id.
    InvalidTopicId,
    /// 0x03, rejected: not supported.
    NotSupported,
    /// 0x04 to 0xFF are reserved; some gateways use them.
    Reserved(u8),
}

impl ReturnCode {
    /// Its code on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Congestion => 1,
            Self::InvalidTopicId => 2,
            Self::NotSupported => 3,
            Self::Reserved(code) => code,
        }
    }

    /// The meaning of a code.
    pub fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Accepted,
            1 => Self::Congestion,
            2 => Self::InvalidTopicId,
            3 => Self::NotSupported,
            code => Self::Reserved(code),
        }
    }
}

/// Whether no topic may have this id. §5.3.11
pub fn is_reserved(topic_id: u16) -> bool {
    matches!(topic_id, 0x0000 | 0xFFFF)
}

/// The topic of a PUBLISH. §5.3.4 TopicIdType, §6.7
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicRef {
    /// 0b00: an id that was registered.
    Normal(u16),
    /// 0b01: an id that both sides know beforehand.
    Predefined(u16),
    /// 0b10: a name of two bytes.
    Short([u8; 2]),
}

/// The topic of a SUBSCRIBE or UNSUBSCRIBE. §5.4.15
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicName {
    /// 0b00: a name, perhaps with wildcards.
    Name(Bytes),
    /// 0b01: an id that both sides know beforehand.
    Predefined(u16),
    /// 0b10: a name of two bytes.
    Short([u8; 2]),
}

/// GWINFO. §5.4.3
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GwInfo {
    /// Of the gateway.
    pub gw_id: u8,
    /// Its address, when a client answers in its place; otherwise empty.
    pub address: Bytes,
}

/// CONNECT. §5.4.4
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The client wants to be asked for a will.
    pub will: bool,
    /// The client starts anew; its old will goes as well. §6.2
    pub clean_session: bool,
    /// 0x01 for this version.
    pub protocol_id: u8,
    /// Keep alive, in seconds.
    pub duration: u16,
    /// 1 to 23 characters, if the client keeps to the specification.
    pub client_id: Bytes,
}

/// WILLTOPIC and WILLTOPICUPD with something in it. §5.4.7, §5.4.22
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillTopic {
    /// Of the will.
    pub qos: Qos,
    /// Whether the will is retained.
    pub retain: bool,
    /// Where it is published.
    pub topic: Bytes,
}

/// REGISTER. §5.4.10
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// The id that the gateway assigns; 0x0000 from a client.
    pub topic_id: u16,
    /// Names the answer.
    pub msg_id: u16,
    /// The topic's name.
    pub topic: Bytes,
}

/// REGACK, and PUBACK, which has the same shape. §5.4.11, §5.4.13
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegAck {
    /// As in what is answered; the new id in a REGACK of a gateway.
    pub topic_id: u16,
    /// As in what is answered.
    pub msg_id: u16,
    /// What became of it.
    pub code: ReturnCode,
}

/// PUBLISH. §5.4.12
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Sent before.
    pub dup: bool,
    /// Quality of service.
    pub qos: Qos,
    /// To be retained; from a gateway: it was.
    pub retain: bool,
    /// The topic.
    pub topic: TopicRef,
    /// Names the answer; 0x0000 at QoS 0 and −1.
    pub msg_id: u16,
    /// The application's bytes.
    pub data: Bytes,
}

/// SUBSCRIBE. §5.4.15
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Sent before.
    pub dup: bool,
    /// The QoS wished for.
    pub qos: Qos,
    /// Names the answer.
    pub msg_id: u16,
    /// What is subscribed to.
    pub topic: TopicName,
}

/// SUBACK. §5.4.16
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// The QoS granted.
    pub qos: Qos,
    /// The id of the topic; 0x0000 for a filter with wildcards and for a short name.
    pub topic_id: u16,
    /// As in SUBSCRIBE.
    pub msg_id: u16,
    /// What became of it.
    pub code: ReturnCode,
}

/// UNSUBSCRIBE. §5.4.17
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Names the answer.
    pub msg_id: u16,
    /// What is no longer subscribed to.
    pub topic: TopicName,
}

/// Any message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A gateway says that it is there. §5.4.1
    Advertise {
        /// Of the gateway.
        gw_id: u8,
        /// Seconds until the next one.
        duration: u16,
    },
    /// A client looks for a gateway. §5.4.2
    SearchGw {
        /// How far the search goes; 0 to the whole network.
        radius: u8,
    },
    /// §5.4.3
    GwInfo(GwInfo),
    /// §5.4.4
    Connect(Connect),
    /// §5.4.5
    ConnAck(ReturnCode),
    /// §5.4.6
    WillTopicReq,
    /// §5.4.7; `None` is the empty one, which says that there is no will.
    WillTopic(Option<WillTopic>),
    /// §5.4.8
    WillMsgReq,
    /// §5.4.9
    WillMsg(Bytes),
    /// §5.4.10
    Register(Register),
    /// §5.4.11
    RegAck(RegAck),
    /// §5.4.12
    Publish(Publish),
    /// §5.4.13
    PubAck(RegAck),
    /// §5.4.14: the message id.
    PubRec(u16),
    /// §5.4.14: the message id.
    PubRel(u16),
    /// §5.4.14: the message id.
    PubComp(u16),
    /// §5.4.15
    Subscribe(Subscribe),
    /// §5.4.16
    SubAck(SubAck),
    /// §5.4.17
    Unsubscribe(Unsubscribe),
    /// §5.4.18: the message id.
    UnsubAck(u16),
    /// §5.4.19; with its client id from a sleeping client that wakes.
    PingReq(Option<Bytes>),
    /// §5.4.20
    PingResp,
    /// §5.4.21; with a duration from a client that goes to sleep.
    Disconnect(Option<u16>),
    /// §5.4.22; `None` is the empty one, which deletes the will.
    WillTopicUpd(Option<WillTopic>),
    /// §5.4.24
    WillTopicResp(ReturnCode),
    /// §5.4.23
    WillMsgUpd(Bytes),
    /// §5.4.25
    WillMsgResp(ReturnCode),
}

impl Message {
    /// What it is.
    pub fn kind(&self) -> MessageType {
        match self {
            Self::Advertise { .. } => MessageType::Advertise,
            Self::SearchGw { .. } => MessageType::SearchGw,
            Self::GwInfo(_) => MessageType::GwInfo,
            Self::Connect(_) => MessageType::Connect,
            Self::ConnAck(_) => MessageType::ConnAck,
            Self::WillTopicReq => MessageType::WillTopicReq,
            Self::WillTopic(_) => MessageType::WillTopic,
            Self::WillMsgReq => MessageType::WillMsgReq,
            Self::WillMsg(_) => MessageType::WillMsg,
            Self::Register(_) => MessageType::Register,
            Self::RegAck(_) => MessageType::RegAck,
            Self::Publish(_) => MessageType::Publish,
            Self::PubAck(_) => MessageType::PubAck,
            Self::PubRec(_) => MessageType::PubRec,
            Self::PubRel(_) => MessageType::PubRel,
            Self::PubComp(_) => MessageType::PubComp,
            Self::Subscribe(_) => MessageType::Subscribe,
            Self::SubAck(_) => MessageType::SubAck,
            Self::Unsubscribe(_) => MessageType::Unsubscribe,
            Self::UnsubAck(_) => MessageType::UnsubAck,
            Self::PingReq(_) => MessageType::PingReq,
            Self::PingResp => MessageType::PingResp,
            Self::Disconnect(_) => MessageType::Disconnect,
            Self::WillTopicUpd(_) => MessageType::WillTopicUpd,
            Self::WillTopicResp(_) => MessageType::WillTopicResp,
            Self::WillMsgUpd(_) => MessageType::WillMsgUpd,
            Self::WillMsgResp(_) => MessageType::WillMsgResp,
        }
    }
}
