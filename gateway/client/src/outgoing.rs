//! Messages we publish, until the server has taken them. MQTT 5 §4.3

use super::ClientError;
use super::client::{Client, words};
use super::error::Reason;
use headgate_mqtt_codec::{
    Ack, AckKind, ConnAck, Packet, PacketId, Publish, Qos, ReasonCode, Version, encoded_len,
};
use std::collections::HashSet;

/// Unacknowledged messages at a time, if the server takes as many.
const WINDOW: usize = 100;

/// Bytes that may wait to be written.
const BACKLOG: usize = 256 * 1024;

/// The flows of one connection.
#[derive(Debug)]
pub struct Outgoing {
    version: Version,
    window: usize,
    max_qos: Qos,
    retain_available: bool,
    max_packet_size: usize,
    max_alias: u16,
    next: u16,
    in_flight: HashSet<PacketId>,
    /// The last message that the server did not want.
    refused: Option<Reason>,
}

impl Outgoing {
    /// Minds what the server said it takes.
    pub fn new(version: Version, connack: &ConnAck) -> Self {
        let said = &connack.properties;
        let window = said
            .receive_maximum
            .map_or(WINDOW, |n| WINDOW.min(n.get().into()));
        let size = said.maximum_packet_size.map_or(usize::MAX, |n| n.get() as usize);
        Self {
            version,
            window,
            max_qos: said.maximum_qos.unwrap_or(Qos::ExactlyOnce),
            retain_available: said.retain_available.unwrap_or(true),
            max_packet_size: size,
            max_alias: said.topic_alias_maximum.unwrap_or(0),
            next: 0,
            in_flight: HashSet::new(),
            refused: None,
        }
    }

    /// Whether another message may be sent now.
    pub fn has_room(&self, client: &Client) -> bool {
        self.in_flight.len() < self.window && client.backlog() < BACKLOG
    }

    /// Whether everything was acknowledged.
    pub fn is_done(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Sends a message, under the next free packet identifier.
    pub fn publish(&mut self, mut publish: Publish, client: &mut Client) -> Result<(), ClientError> {
        if publish.qos > Qos::AtMostOnce {
            publish.packet_id = Some(self.free_id());
        }
        self.check(&publish)?;
        self.in_flight.extend(publish.packet_id);
        client.send(&Packet::Publish(publish));
        Ok(())
    }

    fn free_id(&mut self) -> PacketId {
        loop {
            self.next = self.next.wrapping_add(1);
            let id = PacketId::new(self.next);
            if let Some(id) = id.filter(|id| !self.in_flight.contains(id)) {
                return id;
            }
        }
    }

    /// What the server would close the connection for.
    fn check(&self, publish: &Publish) -> Result<(), ClientError> {
        let lacks = |what: String| Err(ClientError::Lacks(what));
        if publish.qos > self.max_qos {
            return lacks(format!("takes messages up to QoS {} only", self.max_qos as u8));
        }
        if publish.retain && !self.retain_available {
            return lacks("keeps no retained messages".into());
        }
        let alias = publish.properties.as_ref().and_then(|p| p.topic_alias);
        if alias.is_some_and(|alias| alias.get() > self.max_alias) {
            return lacks(format!("takes topic aliases up to {} only", self.max_alias));
        }
        let size = encoded_len(&Packet::Publish(publish.clone()), self.version);
        if size > self.max_packet_size {
            let limit = self.max_packet_size;
            return lacks(format!(
                "takes packets of up to {limit} bytes only, the message makes one of {size}"
            ));
        }
        Ok(())
    }

    /// Takes an acknowledgement; other packets are none of ours.
    pub fn on_packet(&mut self, packet: &Packet, client: &mut Client) {
        let Packet::Ack(ack) = packet else { return };
        match ack.kind {
            AckKind::PubRec if !ack.reason.is_error() => {
                // Also for one that is not known any more: the server waits for it. §4.3.3
                let known = self.in_flight.contains(&ack.packet_id) || self.version < Version::V5;
                let reason = if known {
                    ReasonCode::Success
                } else {
                    ReasonCode::PacketIdentifierNotFound
                };
                client.send(&Packet::Ack(Ack::with_reason(
                    AckKind::PubRel,
                    ack.packet_id,
                    reason,
                )));
            }
            AckKind::PubAck | AckKind::PubRec | AckKind::PubComp => {
                self.in_flight.remove(&ack.packet_id);
                if ack.reason.is_error() {
                    let text = ack.properties.as_ref().and_then(|p| p.reason_string.as_ref());
                    self.refused = Some(Reason {
                        code: ack.reason,
                        text: words(text),
                    });
                }
            }
            AckKind::PubRel => {}
        }
    }

    /// Whether every message was welcome.
    pub fn finish(self) -> Result<(), ClientError> {
        self.refused
            .map_or(Ok(()), |reason| Err(ClientError::MessageRefused(reason)))
    }
}
