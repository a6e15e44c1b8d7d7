//! The codec of one link to a remote, as the shell wants it.

use bytes::BytesMut;
use headgate_model::Wire;
use headgate_mqtt_codec::{DecodeError, Decoder, Packet, Version, encode};

/// What came from the remote.
#[derive(Debug)]
pub enum Received {
    /// A packet.
    Packet(Packet),
    /// Bytes that are none; the last thing that comes.
    Malformed(DecodeError),
}

/// The codec of one link.
#[derive(Debug)]
pub struct BridgeWire {
    decoder: Decoder,
    version: Version,
    /// After malformed bytes nothing more is read. \[MQTT-4.8.0-1\]
    failed: bool,
}

impl BridgeWire {
    /// For a fresh connection. `max_packet_size` in bytes.
    pub fn new(version: Version, max_packet_size: u32) -> Self {
        Self {
            decoder: Decoder::client(version, max_packet_size),
            version,
            failed: false,
        }
    }
}

impl Wire for BridgeWire {
    type In = Received;
    type Out = Packet;

    fn decode(&mut self, bytes: &mut BytesMut) -> Option<Received> {
        if self.failed {
            bytes.clear();
            return None;
        }
        match self.decoder.decode(bytes) {
            Ok(packet) => packet.map(Received::Packet),
            Err(error) => {
                self.failed = true;
                Some(Received::Malformed(error))
            }
        }
    }

    fn encode(&mut self, packet: Packet, bytes: &mut BytesMut) {
        encode(&packet, self.version, bytes);
    }
}
