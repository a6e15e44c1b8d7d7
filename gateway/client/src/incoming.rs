//! Messages we receive, each acknowledged as its QoS asks. MQTT 5 §4.3

use super::Client;
use headgate_mqtt_codec::{Ack, AckKind, Packet, PacketId, Publish, Qos, ReasonCode, Version};
use std::collections::HashSet;

/// The flows of a session.
#[derive(Debug, Default)]
pub struct Incoming {
    /// QoS 2 messages seen and not yet released.
    received: HashSet<PacketId>,
}

impl Incoming {
    /// Whether the server is done with everything we have seen.
    pub fn is_done(&self) -> bool {
        self.received.is_empty()
    }

    /// The server has no session any more, and what it sends is new.
    pub fn forget(&mut self) {
        self.received.clear();
    }

    /// The message, if this is one that was not seen before. It is for the caller to [`Incoming::acknowledge`] it.
    pub fn on_packet(&mut self, packet: Packet, version: Version, client: &mut Client) -> Option<Publish> {
        match packet {
            Packet::Publish(publish) => {
                let again = publish.packet_id.is_some_and(|id| self.received.contains(&id));
                if again && publish.qos == Qos::ExactlyOnce {
                    self.acknowledge(&publish, client);
                    return None;
                }
                Some(publish)
            }
            Packet::Ack(ack) if ack.kind == AckKind::PubRel => {
                let known = self.received.remove(&ack.packet_id) || version < Version::V5;
                let reason = if known {
                    ReasonCode::Success
                } else {
                    ReasonCode::PacketIdentifierNotFound
                };
                client.send(&Packet::Ack(Ack::with_reason(
                    AckKind::PubComp,
                    ack.packet_id,
                    reason,
                )));
                None
            }
            _ => None,
        }
    }

    /// The message is where it belongs.
    pub fn acknowledge(&mut self, publish: &Publish, client: &mut Client) {
        let Some(id) = publish.packet_id else { return };
        let kind = match publish.qos {
            Qos::ExactlyOnce => {
                self.received.insert(id);
                AckKind::PubRec
            }
            _ => AckKind::PubAck,
        };
        client.send(&Packet::Ack(Ack::success(kind, id)));
    }
}
