//! The broker at the other end: it keeps its session, acknowledges everything, and checks what comes.

use crate::TOPICS;
use headgate_mqtt_codec::{Ack, AckKind, ConnAck, Packet, PacketId, Publish, Qos, ReasonCode, UnsubAck};
use std::collections::BTreeSet;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Remote {
    has_session: bool,
    /// QoS 2 packet identifiers that were not released. \[MQTT-4.3.3-10\]
    held: BTreeSet<PacketId>,
    pub topics: [Arrivals; TOPICS],
    /// Copies of QoS 1 messages that had come before.
    pub duplicates: u64,
}

/// What came of one topic, whose messages are numbered from 0.
#[derive(Default)]
pub(crate) struct Arrivals {
    pub first: Option<u32>,
    pub next: u32,
    pub count: u64,
}

/// The number of a message, as its payload says it.
pub(crate) fn number(payload: &[u8]) -> u32 {
    let text = std::str::from_utf8(payload).expect("digits");
    text.parse().expect("a number")
}

impl Remote {
    /// The answer to a packet. `resent`: QoS 1 messages that their publishers sent twice, by topic and number.
    pub(crate) fn answer(&mut self, packet: Packet, resent: &BTreeSet<(usize, u32)>) -> Packet {
        match packet {
            Packet::Connect(_) => Packet::ConnAck(Box::new(ConnAck {
                session_present: std::mem::replace(&mut self.has_session, true),
                ..ConnAck::default()
            })),
            Packet::Publish(publish) => {
                let id = publish.packet_id.expect("QoS 1 or 2");
                let kind = match publish.qos {
                    Qos::ExactlyOnce => AckKind::PubRec,
                    _ => AckKind::PubAck,
                };
                if kind == AckKind::PubAck || self.held.insert(id) {
                    self.take(&publish, resent);
                }
                Packet::Ack(Ack::success(kind, id))
            }
            Packet::Ack(ack) if ack.kind == AckKind::PubRel => {
                self.held.remove(&ack.packet_id);
                Packet::Ack(Ack::success(AckKind::PubComp, ack.packet_id))
            }
            // A bridge takes back what it does not subscribe to: somebody may have configured it otherwise before.
            Packet::Unsubscribe(unsubscribe) => Packet::UnsubAck(Box::new(UnsubAck {
                packet_id: unsubscribe.packet_id,
                codes: vec![ReasonCode::Success; unsubscribe.filters.len()],
                reason_string: None,
                user_properties: Vec::new(),
            })),
            Packet::PingReq => Packet::PingResp,
            other => panic!("nobody asked for {other:?}"),
        }
    }

    /// First copies of a topic come in order \[MQTT-4.6.0-2\]; later ones are of QoS 1, and say so \[MQTT-3.3.1-1\] unless they were published twice.
    fn take(&mut self, publish: &Publish, resent: &BTreeSet<(usize, u32)>) {
        let name = publish.topic.to_string();
        let topic = usize::try_from(number(&name.as_bytes()["plant/".len()..])).expect("small");
        let n = number(&publish.payload);
        let arrivals = &mut self.topics[topic];
        if n >= arrivals.next {
            arrivals.first.get_or_insert(n);
            arrivals.next = n + 1;
            arrivals.count += 1;
            return;
        }
        assert_eq!(publish.qos, Qos::AtLeastOnce, "{name} {n} came twice");
        let known = publish.dup || resent.contains(&(topic, n));
        assert!(known, "{name} {n} came out of order, or twice without DUP");
        self.duplicates += 1;
    }
}
