//! What a measurement says and hears for each message, in one protocol or another. Handshakes are no part of it.

use super::BenchError;
use super::frame::{Frame, Stamp, Template, receive, scan, settle};
use headgate_mqtt_codec::{Qos, Utf8, Version};

/// One side of the protocol under load.
pub(super) trait Wire {
    /// What came in, as far as it matters.
    type Frame: Copy;

    /// The first frame of `bytes` and its length; `None` while it is not whole.
    fn scan(&self, bytes: &[u8]) -> Result<Option<(Self::Frame, usize)>, BenchError>;

    /// A publisher's message, encoded once: its payload has `payload_len` bytes, at least [`STAMP_LEN`](super::STAMP_LEN).
    fn template(&self, publisher: u32, topic: Utf8, qos: Qos, payload_len: usize) -> Template;

    /// What a receiver answers, to its message with this number, from 0. The stamp, if there is one, of a message that came.
    fn receive(&self, frame: &Self::Frame, number: u64, out: &mut Vec<u8>) -> Option<Option<Stamp>>;

    /// What a publisher answers. The identifier that is free again, and whether its message was taken.
    fn settle(&self, frame: &Self::Frame, out: &mut Vec<u8>) -> Option<(u16, bool)>;
}

/// MQTT.
impl Wire for Version {
    type Frame = Frame;

    #[inline]
    fn scan(&self, bytes: &[u8]) -> Result<Option<(Frame, usize)>, BenchError> {
        match scan(bytes, *self)? {
            Some((Frame::Disconnect(reason), _)) => Err(BenchError::Closed(Some(reason))),
            scanned => Ok(scanned),
        }
    }

    fn template(&self, publisher: u32, topic: Utf8, qos: Qos, payload_len: usize) -> Template {
        Template::new(publisher, topic, qos, payload_len, *self)
    }

    #[inline]
    fn receive(&self, frame: &Frame, _: u64, out: &mut Vec<u8>) -> Option<Option<Stamp>> {
        receive(*frame, out)
    }

    #[inline]
    fn settle(&self, frame: &Frame, out: &mut Vec<u8>) -> Option<(u16, bool)> {
        settle(*frame, out)
    }
}
