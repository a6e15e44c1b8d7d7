//! Who sends sleeping sensors their messages: one MQTT connection, QoS 1, as many at a time as its window allows. No socket, no clock.

use super::frame::Frame;
use super::network::Traffic;
use super::sn_swarm::{STAMP_LEN, own_topic, stamp};
use super::window::Window;
use bytes::BytesMut;
use headgate_mqtt_codec::{AckKind, Packet, PacketId, Publish, Qos, Utf8, Version, encode};

/// Bytes that are encoded ahead of the socket.
const AHEAD: usize = 64 * 1024;

/// One message for each sensor.
pub(super) struct Backend {
    sensors: u64,
    payload: Vec<u8>,
    run: u64,
    version: Version,
    window: Window,
    next: u64,
    /// Messages that the broker took.
    pub acknowledged: u64,
    /// Messages that it did not take.
    pub refused: u64,
    dirty: bool,
}

impl Backend {
    /// Nothing is sent yet.
    pub(super) fn new(sensors: u64, payload: usize, run: u64, version: Version, window: usize) -> Self {
        Self {
            sensors,
            payload: vec![b'.'; payload.max(STAMP_LEN)],
            run,
            version,
            window: Window::new(window),
            next: 0,
            acknowledged: 0,
            refused: 0,
            dirty: true,
        }
    }
}

impl Traffic for Backend {
    type Wire = Version;

    fn frame(&mut self, _link: usize, frame: Frame, _now: u64, _out: &mut Vec<u8>) {
        if let Frame::Ack(AckKind::PubAck, id, good) = frame
            && self.window.close(id).is_some()
        {
            self.acknowledged += u64::from(good);
            self.refused += u64::from(!good);
            self.dirty = true;
        }
    }

    fn next_dirty(&mut self) -> Option<usize> {
        std::mem::take(&mut self.dirty).then_some(0)
    }

    fn fill(&mut self, _link: usize, now: u64, out: &mut Vec<u8>) {
        let mut bytes = BytesMut::new();
        while self.next < self.sensors && out.len() + bytes.len() < AHEAD {
            let Some(id) = self.window.open(self.next, now) else {
                break;
            };
            let number = u32::try_from(self.next).expect("sensors are counted by u32");
            self.payload[..STAMP_LEN].copy_from_slice(&stamp(self.run, number));
            let publish = Publish {
                qos: Qos::AtLeastOnce,
                topic: Utf8::try_from(own_topic(number)).unwrap_or_default(),
                packet_id: PacketId::new(id),
                payload: self.payload.clone().into(),
                ..Publish::default()
            };
            encode(&Packet::Publish(publish), self.version, &mut bytes);
            self.next += 1;
        }
        out.extend_from_slice(&bytes);
    }

    fn outstanding(&self) -> u64 {
        self.sensors - self.acknowledged - self.refused
    }

    fn moved(&self) -> u64 {
        self.acknowledged + self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_mqtt_codec::{Decoder, MAX_PACKET_SIZE};

    /// Each sensor gets its own message once; no more are under way than the window allows.
    #[test]
    fn each_sensor_is_sent_its_message() {
        let mut backend = Backend::new(10, 20, 7, Version::V311, 3);
        let mut topics = Vec::new();
        while backend.outstanding() > 0 {
            assert_eq!(backend.next_dirty(), Some(0));
            let mut out = Vec::new();
            backend.fill(0, 0, &mut out);
            let mut decoder = Decoder::client(Version::V311, MAX_PACKET_SIZE);
            let mut bytes = BytesMut::from(&out[..]);
            let mut ids = Vec::new();
            while let Some(Packet::Publish(publish)) = decoder.decode(&mut bytes).unwrap() {
                let number = topics.len() as u32;
                assert_eq!(publish.payload[..STAMP_LEN], stamp(7, number));
                topics.push(publish.topic.to_string());
                ids.push(publish.packet_id.unwrap().get());
            }
            assert!((1..=3).contains(&ids.len()));
            for id in ids {
                backend.frame(0, Frame::Ack(AckKind::PubAck, id, id != 2), 0, &mut out);
            }
        }
        let expected: Vec<String> = (0..10).map(own_topic).collect();
        assert_eq!(topics, expected);
        assert_eq!(backend.acknowledged + backend.refused, 10);
        assert!(backend.refused > 0);
    }
}
