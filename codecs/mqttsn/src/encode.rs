//! Messages to bytes.

use crate::decode::FORWARDED;
use crate::message::{Message, Qos, RegAck, TopicName, TopicRef, WillTopic};
use crate::{Encapsulation, MAX_LEN, MAX_NODE_LEN, TooLong};
use bytes::{BufMut, BytesMut};

/// Bytes of the message on the wire.
pub fn encoded_len(message: &Message) -> usize {
    let short = 2 + body_len(message);
    if short > u8::MAX.into() { short + 2 } else { short }
}

/// Appends a message to `out`; nothing when it is too long.
pub fn encode(message: &Message, out: &mut BytesMut) -> Result<(), TooLong> {
    let len = encoded_len(message);
    let told = u16::try_from(len).map_err(|_| TooLong(len))?;
    out.reserve(len);
    match u8::try_from(told) {
        Ok(told) => out.put_u8(told),
        Err(_) => {
            out.put_u8(1);
            out.put_u16(told);
        }
    }
    out.put_u8(message.kind() as u8);
    put_body(message, out);
    Ok(())
}

/// [`encode`], inside the layer for a forwarder. A node id that is too long counts as a message that is.
pub fn encode_wrapped(
    encapsulation: &Encapsulation,
    message: &Message,
    out: &mut BytesMut,
) -> Result<(), TooLong> {
    let node = &encapsulation.node;
    if node.len() > MAX_NODE_LEN {
        return Err(TooLong(node.len()));
    }
    let len = encoded_len(message);
    if len > MAX_LEN {
        return Err(TooLong(len));
    }
    out.put_u8(u8::try_from(3 + node.len()).expect("just looked at"));
    out.put_u8(FORWARDED);
    out.put_u8(encapsulation.radius & 0b11);
    out.put_slice(node);
    encode(message, out)
}

fn body_len(message: &Message) -> usize {
    let will = |will: &Option<WillTopic>| will.as_ref().map_or(0, |will| 1 + will.topic.len());
    match message {
        Message::WillTopicReq | Message::WillMsgReq | Message::PingResp => 0,
        Message::SearchGw { .. }
        | Message::ConnAck(_)
        | Message::WillTopicResp(_)
        | Message::WillMsgResp(_) => 1,
        Message::PubRec(_) | Message::PubRel(_) | Message::PubComp(_) | Message::UnsubAck(_) => 2,
        Message::Advertise { .. } => 3,
        Message::RegAck(_) | Message::PubAck(_) => 5,
        Message::SubAck(_) => 6,
        Message::GwInfo(info) => 1 + info.address.len(),
        Message::Connect(connect) => 4 + connect.client_id.len(),
        Message::WillTopic(topic) | Message::WillTopicUpd(topic) => will(topic),
        Message::WillMsg(bytes) | Message::WillMsgUpd(bytes) => bytes.len(),
        Message::Register(register) => 4 + register.topic.len(),
        Message::Publish(publish) => 5 + publish.data.len(),
        Message::Subscribe(subscribe) => 3 + name_len(&subscribe.topic),
        Message::Unsubscribe(unsubscribe) => 3 + name_len(&unsubscribe.topic),
        Message::PingReq(client_id) => client_id.as_ref().map_or(0, |id| id.len()),
        Message::Disconnect(duration) => duration.map_or(0, |_| 2),
    }
}

fn name_len(topic: &TopicName) -> usize {
    match topic {
        TopicName::Name(name) => name.len(),
        TopicName::Predefined(_) | TopicName::Short(_) => 2,
    }
}

fn put_body(message: &Message, out: &mut BytesMut) {
    match message {
        Message::Advertise { gw_id, duration } => {
            out.put_u8(*gw_id);
            out.put_u16(*duration);
        }
        Message::SearchGw { radius } => out.put_u8(*radius),
        Message::GwInfo(info) => {
            out.put_u8(info.gw_id);
            out.put_slice(&info.address);
        }
        Message::Connect(connect) => {
            out.put_u8(bit(3, connect.will) | bit(2, connect.clean_session));
            out.put_u8(connect.protocol_id);
            out.put_u16(connect.duration);
            out.put_slice(&connect.client_id);
        }
        Message::ConnAck(code) | Message::WillTopicResp(code) | Message::WillMsgResp(code) => {
            out.put_u8(code.code());
        }
        Message::WillTopicReq | Message::WillMsgReq | Message::PingResp => {}
        Message::WillTopic(will) | Message::WillTopicUpd(will) => {
            if let Some(will) = will {
                out.put_u8(qos_bits(will.qos) | bit(4, will.retain));
                out.put_slice(&will.topic);
            }
        }
        Message::WillMsg(bytes) | Message::WillMsgUpd(bytes) => out.put_slice(bytes),
        Message::Register(register) => {
            out.put_u16(register.topic_id);
            out.put_u16(register.msg_id);
            out.put_slice(&register.topic);
        }
        Message::RegAck(ack) | Message::PubAck(ack) => put_ack(ack, out),
        Message::Publish(publish) => {
            let (kind, id) = match publish.topic {
                TopicRef::Normal(id) => (0b00, id.to_be_bytes()),
                TopicRef::Predefined(id) => (0b01, id.to_be_bytes()),
                TopicRef::Short(name) => (0b10, name),
            };
            out.put_u8(bit(7, publish.dup) | qos_bits(publish.qos) | bit(4, publish.retain) | kind);
            out.put_slice(&id);
            out.put_u16(publish.msg_id);
            out.put_slice(&publish.data);
        }
        Message::PubRec(id) | Message::PubRel(id) | Message::PubComp(id) | Message::UnsubAck(id) => {
            out.put_u16(*id);
        }
        Message::Subscribe(subscribe) => {
            let flags = bit(7, subscribe.dup) | qos_bits(subscribe.qos);
            put_named(flags, subscribe.msg_id, &subscribe.topic, out);
        }
        Message::SubAck(suback) => {
            out.put_u8(qos_bits(suback.qos));
            out.put_u16(suback.topic_id);
            out.put_u16(suback.msg_id);
            out.put_u8(suback.code.code());
        }
        Message::Unsubscribe(unsubscribe) => put_named(0, unsubscribe.msg_id, &unsubscribe.topic, out),
        Message::PingReq(client_id) => out.put_slice(client_id.as_deref().unwrap_or_default()),
        Message::Disconnect(duration) => duration.iter().for_each(|duration| out.put_u16(*duration)),
    }
}

fn put_ack(ack: &RegAck, out: &mut BytesMut) {
    out.put_u16(ack.topic_id);
    out.put_u16(ack.msg_id);
    out.put_u8(ack.code.code());
}

fn put_named(flags: u8, msg_id: u16, topic: &TopicName, out: &mut BytesMut) {
    let (kind, id) = match topic {
        TopicName::Name(_) => (0b00, [0; 2]),
        TopicName::Predefined(id) => (0b01, id.to_be_bytes()),
        TopicName::Short(name) => (0b10, *name),
    };
    out.put_u8(flags | kind);
    out.put_u16(msg_id);
    match topic {
        TopicName::Name(name) => out.put_slice(name),
        TopicName::Predefined(_) | TopicName::Short(_) => out.put_slice(&id),
    }
}

fn bit(bit: u8, set: bool) -> u8 {
    u8::from(set) << bit
}

fn qos_bits(qos: Qos) -> u8 {
    match qos {
        Qos::AtMostOnce => 0,
        Qos::AtLeastOnce => 0b01 << 5,
        Qos::ExactlyOnce => 0b10 << 5,
        Qos::NoConnection => 0b11 << 5,
    }
}
