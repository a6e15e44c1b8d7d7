//! What packets say, for a trace: kind, topic, QoS, flags, identifiers, reason codes. No passwords, no authentication data.

use crate::wire::Outgoing;
use headgate_model::trace::PacketTrace;
use headgate_mqtt_codec::{Connect, Packet, Publish, ReasonCode, SubscribeFilter};
use std::fmt::Write;

/// Filters that are told of one packet.
const MOST_FILTERS: usize = 16;

pub(crate) fn packet(packet: &Packet) -> PacketTrace {
    match packet {
        Packet::Connect(connect) => self::connect(connect),
        Packet::Publish(publish) => self::publish(publish),
        Packet::ConnAck(connack) => PacketTrace::new(format!(
            "CONNACK {} session_present={}",
            connack.code, connack.session_present
        )),
        Packet::Ack(ack) => PacketTrace::new(format!(
            "{} id={} {}",
            ack.kind.packet_type(),
            ack.packet_id,
            ack.reason
        )),
        Packet::Subscribe(subscribe) => {
            let mut text = format!("SUBSCRIBE id={}", subscribe.packet_id);
            for SubscribeFilter { filter, options } in subscribe.filters.iter().take(MOST_FILTERS) {
                let _ = write!(text, " {} (qos={})", filter.as_str(), options.qos as u8);
            }
            PacketTrace::new(text)
        }
        Packet::Unsubscribe(unsubscribe) => {
            let mut text = format!("UNSUBSCRIBE id={}", unsubscribe.packet_id);
            for filter in unsubscribe.filters.iter().take(MOST_FILTERS) {
                let _ = write!(text, " {}", filter.as_str());
            }
            PacketTrace::new(text)
        }
        Packet::SubAck(suback) => codes("SUBACK", suback.packet_id.get(), &suback.codes),
        Packet::UnsubAck(unsuback) => codes("UNSUBACK", unsuback.packet_id.get(), &unsuback.codes),
        Packet::PingReq => PacketTrace::new("PINGREQ"),
        Packet::PingResp => PacketTrace::new("PINGRESP"),
        Packet::Disconnect(disconnect) => PacketTrace::new(format!("DISCONNECT {}", disconnect.reason)),
        Packet::Auth(auth) => PacketTrace::new(format!("AUTH {}", auth.reason)),
    }
}

/// A message on its way out, as the client will see it but for its alias.
pub(crate) fn outgoing(outgoing: &Outgoing) -> PacketTrace {
    let (delivery, message) = (&outgoing.delivery, &outgoing.delivery.message);
    let topic = message.topic.as_str();
    let topic = topic.get(usize::from(outgoing.unmount)..).unwrap_or(topic);
    let id = delivery.id.map_or(0, std::num::NonZeroU16::get);
    PacketTrace {
        text: format!(
            "PUBLISH topic={topic} qos={} retain={} dup={} id={id} payload={}",
            delivery.qos as u8,
            delivery.retain,
            delivery.redelivered,
            message.payload.len()
        ),
        client: None,
        payload: Some(message.payload.clone()),
    }
}

fn connect(connect: &Connect) -> PacketTrace {
    let will = connect.will.as_ref();
    let client = connect.client_id.as_str();
    PacketTrace {
        text: format!(
            "CONNECT version={:?} client={client} user={} password={} clean={} keep_alive={} will={}",
            connect.version,
            connect.username.as_ref().map_or("(none)", |user| user.as_str()),
            if connect.password.is_some() {
                "(given)"
            } else {
                "(none)"
            },
            connect.clean_start,
            connect.keep_alive,
            will.map_or("(none)", |will| will.topic.as_str())
        ),
        client: (!client.is_empty()).then(|| client.to_owned()),
        payload: None,
    }
}

fn publish(publish: &Publish) -> PacketTrace {
    let id = publish.packet_id.map_or(0, std::num::NonZeroU16::get);
    PacketTrace {
        text: format!(
            "PUBLISH topic={} qos={} retain={} dup={} id={id} payload={}",
            publish.topic.as_str(),
            publish.qos as u8,
            publish.retain,
            publish.dup,
            publish.payload.len()
        ),
        client: None,
        payload: Some(publish.payload.clone()),
    }
}

fn codes(kind: &str, id: u16, codes: &[ReasonCode]) -> PacketTrace {
    let told: Vec<String> = codes.iter().take(MOST_FILTERS).map(ToString::to_string).collect();
    PacketTrace::new(format!("{kind} id={id} {}", told.join(" ")))
}
