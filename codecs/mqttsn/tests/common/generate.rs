//! Any message that can be.

use bytes::Bytes;
use headgate_mqttsn_codec::{
    Connect, Encapsulation, GwInfo, MAX_NODE_LEN, Message, Publish, Qos, RegAck, Register, ReturnCode,
    SubAck, Subscribe, TopicName, TopicRef, Unsubscribe, WillTopic,
};
use proptest::prelude::*;

pub(crate) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<u8>(), any::<u16>()).prop_map(|(gw_id, duration)| Message::Advertise { gw_id, duration }),
        any::<u8>().prop_map(|radius| Message::SearchGw { radius }),
        (any::<u8>(), bytes(0..20)).prop_map(|(gw_id, address)| Message::GwInfo(GwInfo { gw_id, address })),
        connect(),
        code().prop_map(Message::ConnAck),
        Just(Message::WillTopicReq),
        proptest::option::of(will_topic()).prop_map(Message::WillTopic),
        Just(Message::WillMsgReq),
        bytes(0..600).prop_map(Message::WillMsg),
        (any::<u16>(), any::<u16>(), bytes(1..300)).prop_map(|(topic_id, msg_id, topic)| {
            Message::Register(Register {
                topic_id,
                msg_id,
                topic,
            })
        }),
        ack().prop_map(Message::RegAck),
        publish(),
        ack().prop_map(Message::PubAck),
        any::<u16>().prop_map(Message::PubRec),
        any::<u16>().prop_map(Message::PubRel),
        any::<u16>().prop_map(Message::PubComp),
        (any::<bool>(), qos(), any::<u16>(), topic_name()).prop_map(|(dup, qos, msg_id, topic)| {
            Message::Subscribe(Subscribe {
                dup,
                qos,
                msg_id,
                topic,
            })
        }),
        (qos(), any::<u16>(), any::<u16>(), code()).prop_map(|(qos, topic_id, msg_id, code)| {
            Message::SubAck(SubAck {
                qos,
                topic_id,
                msg_id,
                code,
            })
        }),
        (any::<u16>(), topic_name())
            .prop_map(|(msg_id, topic)| Message::Unsubscribe(Unsubscribe { msg_id, topic })),
        any::<u16>().prop_map(Message::UnsubAck),
        proptest::option::of(bytes(1..30)).prop_map(Message::PingReq),
        Just(Message::PingResp),
        proptest::option::of(any::<u16>()).prop_map(Message::Disconnect),
        proptest::option::of(will_topic()).prop_map(Message::WillTopicUpd),
        code().prop_map(Message::WillTopicResp),
        bytes(0..20).prop_map(Message::WillMsgUpd),
        code().prop_map(Message::WillMsgResp),
    ]
}

pub(crate) fn encapsulation() -> impl Strategy<Value = Encapsulation> {
    (0u8..4, bytes(1..MAX_NODE_LEN + 1)).prop_map(|(radius, node)| Encapsulation { radius, node })
}

fn bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), len).prop_map(Bytes::from)
}

fn qos() -> impl Strategy<Value = Qos> {
    prop_oneof![
        Just(Qos::AtMostOnce),
        Just(Qos::AtLeastOnce),
        Just(Qos::ExactlyOnce)
    ]
}

fn code() -> impl Strategy<Value = ReturnCode> {
    any::<u8>().prop_map(ReturnCode::from_code)
}

fn ack() -> impl Strategy<Value = RegAck> {
    (any::<u16>(), any::<u16>(), code()).prop_map(|(topic_id, msg_id, code)| RegAck {
        topic_id,
        msg_id,
        code,
    })
}

fn connect() -> impl Strategy<Value = Message> {
    (
        any::<bool>(),
        any::<bool>(),
        any::<u8>(),
        any::<u16>(),
        bytes(0..40),
    )
        .prop_map(|(will, clean_session, protocol_id, duration, client_id)| {
            Message::Connect(Connect {
                will,
                clean_session,
                protocol_id,
                duration,
                client_id,
            })
        })
}

fn will_topic() -> impl Strategy<Value = WillTopic> {
    (qos(), any::<bool>(), bytes(1..40)).prop_map(|(qos, retain, topic)| WillTopic { qos, retain, topic })
}

fn topic_ref() -> impl Strategy<Value = TopicRef> {
    prop_oneof![
        any::<u16>().prop_map(TopicRef::Normal),
        any::<u16>().prop_map(TopicRef::Predefined),
        any::<[u8; 2]>().prop_map(TopicRef::Short),
    ]
}

fn topic_name() -> impl Strategy<Value = TopicName> {
    prop_oneof![
        bytes(1..300).prop_map(TopicName::Name),
        any::<u16>().prop_map(TopicName::Predefined),
        any::<[u8; 2]>().prop_map(TopicName::Short),
    ]
}

fn publish() -> impl Strategy<Value = Message> {
    let qos = prop_oneof![Just(Qos::NoConnection), qos()];
    (
        any::<bool>(),
        qos,
        any::<bool>(),
        topic_ref(),
        any::<u16>(),
        bytes(0..600),
    )
        .prop_map(|(dup, qos, retain, topic, msg_id, data)| {
            Message::Publish(Publish {
                dup,
                qos,
                retain,
                topic,
                msg_id,
                data,
            })
        })
}
