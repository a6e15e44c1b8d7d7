//! What messages say, for a trace.

use bytes::Bytes;
use headgate_model::trace::PacketTrace;
use headgate_mqttsn_codec::{Message, RegAck, ReturnCode, TopicName, TopicRef};

pub(crate) fn message(message: &Message) -> PacketTrace {
    let kind = message.kind();
    let mut client = None;
    let mut payload = None;
    let says = match message {
        Message::Connect(connect) => {
            client = Some(text(&connect.client_id));
            format!(
                "client={} clean={} will={} duration={}",
                text(&connect.client_id),
                connect.clean_session,
                connect.will,
                connect.duration
            )
        }
        Message::ConnAck(code) | Message::WillTopicResp(code) | Message::WillMsgResp(code) => said(*code),
        Message::WillTopic(Some(will)) | Message::WillTopicUpd(Some(will)) => {
            format!(
                "topic={} qos={:?} retain={}",
                text(&will.topic),
                will.qos,
                will.retain
            )
        }
        Message::WillMsg(bytes) | Message::WillMsgUpd(bytes) => format!("payload={}", bytes.len()),
        Message::Register(register) => format!(
            "topic={} topic_id={} id={}",
            text(&register.topic),
            register.topic_id,
            register.msg_id
        ),
        Message::RegAck(ack) | Message::PubAck(ack) => self::ack(ack),
        Message::Publish(publish) => {
            payload = Some(publish.data.clone());
            format!(
                "topic={} qos={:?} retain={} dup={} id={} payload={}",
                topic(publish.topic),
                publish.qos,
                publish.retain,
                publish.dup,
                publish.msg_id,
                publish.data.len()
            )
        }
        Message::PubRec(id) | Message::PubRel(id) | Message::PubComp(id) | Message::UnsubAck(id) => {
            format!("id={id}")
        }
        Message::Subscribe(subscribe) => format!(
            "topic={} qos={:?} dup={} id={}",
            name(&subscribe.topic),
            subscribe.qos,
            subscribe.dup,
            subscribe.msg_id
        ),
        Message::SubAck(ack) => format!(
            "topic_id={} qos={:?} id={} {}",
            ack.topic_id,
            ack.qos,
            ack.msg_id,
            said(ack.code)
        ),
        Message::Unsubscribe(unsubscribe) => {
            format!("topic={} id={}", name(&unsubscribe.topic), unsubscribe.msg_id)
        }
        Message::PingReq(Some(id)) => {
            client = Some(text(id));
            format!("client={}: a sleeper wakes", text(id))
        }
        Message::Disconnect(Some(duration)) => format!("duration={duration}: goes to sleep"),
        Message::Advertise { gw_id, duration } => format!("gw_id={gw_id} duration={duration}"),
        Message::SearchGw { radius } => format!("radius={radius}"),
        Message::GwInfo(info) => format!("gw_id={}", info.gw_id),
        Message::WillTopicReq
        | Message::WillTopic(None)
        | Message::WillTopicUpd(None)
        | Message::WillMsgReq
        | Message::PingReq(None)
        | Message::PingResp
        | Message::Disconnect(None) => String::new(),
    };
    PacketTrace {
        text: format!("{kind} {says}").trim_end().to_owned(),
        client,
        payload,
    }
}

fn ack(ack: &RegAck) -> String {
    format!("topic_id={} id={} {}", ack.topic_id, ack.msg_id, said(ack.code))
}

/// §5.3.10
fn said(code: ReturnCode) -> String {
    format!("{code:?}")
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn topic(topic: TopicRef) -> String {
    match topic {
        TopicRef::Normal(id) => format!("#{id}"),
        TopicRef::Predefined(id) => format!("predefined#{id}"),
        TopicRef::Short(name) => String::from_utf8_lossy(&name).into_owned(),
    }
}

fn name(topic: &TopicName) -> String {
    match topic {
        TopicName::Name(name) => text(name),
        TopicName::Predefined(id) => format!("predefined#{id}"),
        TopicName::Short(name) => String::from_utf8_lossy(name).into_owned(),
    }
}
