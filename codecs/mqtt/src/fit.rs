//! Obeying the peer's Maximum Packet Size. §3.1.2.11.4, §3.2.2.3.6
//!
//! An answer that is too large loses what is for humans: user properties first, then the reason string.

use crate::encode::encoded_len;
use crate::packet::Packet;
use crate::properties::UserProperty;
use crate::{Utf8, Version};

/// Drops user properties, then the reason string, of an answer that would be larger than `limit` bytes.
/// False if it is too large all the same, or is no answer: then it must not be sent. [MQTT-3.1.2-24]
///
/// [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2]
/// [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2]
/// [MQTT-3.14.2-3] [MQTT-3.14.2-4] [MQTT-3.15.2-2] [MQTT-3.15.2-3]
pub fn fit(packet: &mut Packet, version: Version, limit: u32) -> bool {
    let limit = limit as usize;
    if encoded_len(packet, version) <= limit {
        return true;
    }
    match for_humans(packet) {
        Some((_, user_properties)) => user_properties.clear(),
        None => return false,
    }
    if encoded_len(packet, version) <= limit {
        return true;
    }
    if let Some((reason_string, _)) = for_humans(packet) {
        *reason_string = None;
    }
    encoded_len(packet, version) <= limit
}

fn for_humans(packet: &mut Packet) -> Option<(&mut Option<Utf8>, &mut Vec<UserProperty>)> {
    match packet {
        Packet::ConnAck(ack) => Some((
            &mut ack.properties.reason_string,
            &mut ack.properties.user_properties,
        )),
        Packet::Ack(ack) => ack
            .properties
            .as_deref_mut()
            .map(|p| (&mut p.reason_string, &mut p.user_properties)),
        Packet::SubAck(ack) => Some((&mut ack.reason_string, &mut ack.user_properties)),
        Packet::UnsubAck(ack) => Some((&mut ack.reason_string, &mut ack.user_properties)),
        Packet::Disconnect(disconnect) => disconnect
            .properties
            .as_deref_mut()
            .map(|p| (&mut p.reason_string, &mut p.user_properties)),
        Packet::Auth(auth) => auth
            .properties
            .as_deref_mut()
            .map(|p| (&mut p.reason_string, &mut p.user_properties)),
        Packet::Connect(_)
        | Packet::Publish(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::PingReq
        | Packet::PingResp => None,
    }
}
