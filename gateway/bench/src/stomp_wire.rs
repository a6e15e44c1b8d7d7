//! The few bytes of STOMP that a measurement touches for each message: a SEND that is encoded once and then only patched, and a scan that looks at nothing
//! else than it needs. Handshakes go through the codec.

use super::BenchError;
use super::frame::{IdAt, STAMP_LEN, Stamp, Template};
use super::wire::Wire;
use bytes::BytesMut;
use clap::ValueEnum;
use headgate_mqtt_codec::{Qos, Utf8};
use headgate_stomp_codec::{Command, Frame, Version, encode};

/// Of this version both sides are.
pub(super) const VERSION: Version = Version::V12;

/// So many messages one cumulative ACK is for.
const TOGETHER: u64 = 10;

/// The longest `ack` of a MESSAGE that is answered.
const ACK_LEN: usize = 120;

/// How receivers acknowledge. STOMP 1.2, SUBSCRIBE ack Header
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AckMode {
    /// Not at all.
    Auto,
    /// Each tenth message with all before it.
    Client,
    /// Each message alone.
    ClientIndividual,
}

impl AckMode {
    /// As the header says it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Client => "client",
            Self::ClientIndividual => "client-individual",
        }
    }
}

/// STOMP 1.2 with receivers that acknowledge so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stomp {
    pub(super) ack: AckMode,
}

/// What came in, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// A MESSAGE with its `ack`; no stamp if it is not one of ours.
    Message(AckName, Option<Stamp>),
    /// A RECEIPT, by its number.
    Receipt(u16),
    /// Anything else.
    Other,
}

/// The `ack` of a MESSAGE as it was on the wire; empty if there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AckName {
    len: u8,
    bytes: [u8; ACK_LEN],
}

impl AckName {
    fn new(name: &[u8]) -> Result<Self, BenchError> {
        let mut bytes = [0; ACK_LEN];
        let place = bytes.get_mut(..name.len()).ok_or(BenchError::Malformed)?;
        place.copy_from_slice(name);
        let len = name.len() as u8;
        Ok(Self { len, bytes })
    }

    fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"ACK\nid:");
        out.extend_from_slice(&self.bytes[..usize::from(self.len)]);
        out.extend_from_slice(b"\n\n\0");
    }
}

/// What stands in front of the number of a RECEIPT: the first header of a SEND.
const SEND_WITH_RECEIPT: &str = "SEND\nreceipt:";

impl Wire for Stomp {
    type Frame = Came;

    #[inline]
    fn scan(&self, bytes: &[u8]) -> Result<Option<(Came, usize)>, BenchError> {
        // Heart-beats.
        let beats = bytes.iter().take_while(|byte| **byte == b'\n').count();
        let bytes = &bytes[beats..];
        let Some(head) = Head::read(bytes)? else {
            return Ok(None);
        };
        let body = match head.content_length {
            Some(len) => bytes.get(head.len..).filter(|rest| rest.len() > len),
            None => Some(&bytes[head.len..]),
        };
        let Some(body) = body else { return Ok(None) };
        let end = head
            .content_length
            .or_else(|| body.iter().position(|byte| *byte == 0));
        let Some(end) = end else { return Ok(None) };
        let came = match head.command {
            b"MESSAGE" => Came::Message(AckName::new(head.ack)?, Stamp::read(&body[..end])),
            b"RECEIPT" => Came::Receipt(number(head.receipt).ok_or(BenchError::Malformed)?),
            b"ERROR" => {
                let text = [head.message, b": ", &body[..end]].concat();
                return Err(BenchError::Complaint(String::from_utf8_lossy(&text).into_owned()));
            }
            _ => Came::Other,
        };
        Ok(Some((came, beats + head.len + end + 1)))
    }

    fn template(&self, publisher: u32, topic: Utf8, qos: Qos, payload_len: usize) -> Template {
        let mut payload = vec![b'.'; payload_len.max(STAMP_LEN)];
        payload[..4].copy_from_slice(&publisher.to_be_bytes());
        let payload_len = payload.len();
        let mut frame = Frame::new(Command::Send);
        let has_receipt = qos > Qos::AtMostOnce;
        if has_receipt {
            frame = frame.with("receipt", "00000");
        }
        let frame = frame.with("destination", topic.to_string()).with_body(payload);
        let mut bytes = BytesMut::new();
        encode(&frame, VERSION, &mut bytes);
        Template {
            id: has_receipt.then_some(IdAt::Digits(SEND_WITH_RECEIPT.len())),
            stamp_at: bytes.len() - 1 - payload_len,
            bytes: bytes[..].into(),
        }
    }

    #[inline]
    fn receive(&self, came: &Came, number: u64, out: &mut Vec<u8>) -> Option<Option<Stamp>> {
        let Came::Message(name, stamp) = came else {
            return None;
        };
        match self.ack {
            AckMode::Client if number % TOGETHER == TOGETHER - 1 => name.append(out),
            AckMode::ClientIndividual => name.append(out),
            AckMode::Auto | AckMode::Client => {}
        }
        Some(*stamp)
    }

    #[inline]
    fn settle(&self, came: &Came, _: &mut Vec<u8>) -> Option<(u16, bool)> {
        match came {
            Came::Receipt(id) => Some((*id, true)),
            _ => None,
        }
    }
}

/// The command of a frame, and the values that matter, as they are on the wire.
#[derive(Default)]
struct Head<'a> {
    command: &'a [u8],
    ack: &'a [u8],
    receipt: &'a [u8],
    message: &'a [u8],
    content_length: Option<usize>,
    /// With the empty line.
    len: usize,
}

impl<'a> Head<'a> {
    /// `None` while it is not whole.
    #[inline]
    fn read(bytes: &'a [u8]) -> Result<Option<Self>, BenchError> {
        let mut head = Self::default();
        loop {
            let rest = &bytes[head.len..];
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                return Ok(None);
            };
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            let is_first = head.len == 0;
            head.len += end + 1;
            match line {
                command if is_first => head.command = command,
                [] => return Ok(Some(head)),
                [b'a', b'c', b'k', b':', name @ ..] => head.ack = name,
                line => {
                    if let Some(id) = line.strip_prefix(b"receipt-id:") {
                        head.receipt = id;
                    } else if let Some(text) = line.strip_prefix(b"message:") {
                        head.message = text;
                    } else if let Some(length) = line.strip_prefix(b"content-length:") {
                        head.content_length = Some(number(length).ok_or(BenchError::Malformed)?);
                    }
                }
            }
        }
    }
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_stomp_codec::{Decoder, Limits};

    const LIMITS: Limits = Limits {
        headers: 10,
        line_bytes: 1_000,
        head_bytes: 10_000,
        body_bytes: 100_000,
    };

    fn decode(bytes: &[u8]) -> Frame {
        let mut decoder = Decoder::new(LIMITS);
        decoder.set_version(VERSION);
        decoder.decode(&mut bytes.into()).unwrap().unwrap()
    }

    const STOMP: Stomp = Stomp {
        ack: AckMode::ClientIndividual,
    };

    #[test]
    fn a_patched_frame_is_the_send_that_the_codec_reads() {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            let topic = Utf8::try_from("plant:7".to_owned()).unwrap();
            let template = STOMP.template(7, topic, qos, 64);
            let mut out = b"before".to_vec();
            template.append(513, 1 << 40, 99, &mut out);
            let send = decode(&out[6..]);
            assert_eq!(
                (send.command, send.get("destination")),
                (Command::Send, Some("plant:7"))
            );
            assert_eq!(send.get("receipt"), (qos == Qos::AtLeastOnce).then_some("00513"));
            assert_eq!(send.body.len(), 64);
            let stamp = Stamp {
                publisher: 7,
                sequence: 1 << 40,
                nanos: 99,
            };
            assert_eq!(Stamp::read(&send.body), Some(stamp));
        }
    }

    #[test]
    fn a_message_is_found_at_every_cut_and_acknowledged_by_its_name() {
        let stamp = Stamp {
            publisher: 1,
            sequence: 2,
            nanos: 3,
        };
        let message = Frame::new(Command::Message)
            .with("ack", "T_1:2")
            .with_body(stamp.to_bytes().to_vec());
        let mut bytes = BytesMut::from("\n\n");
        encode(&message, VERSION, &mut bytes);
        let (came, len) = STOMP.scan(&bytes).unwrap().unwrap();
        assert_eq!(len, bytes.len());
        for cut in 0..len {
            assert_eq!(STOMP.scan(&bytes[..cut]).unwrap(), None);
        }
        let mut out = Vec::new();
        assert_eq!(STOMP.receive(&came, 0, &mut out), Some(Some(stamp)));
        let ack = decode(&out);
        assert_eq!((ack.command, ack.get("id")), (Command::Ack, Some("T_1:2")));
    }

    /// A cumulative ACK is for ten messages.
    #[test]
    fn the_tenth_message_is_acknowledged_for_those_before_it() {
        let client = Stomp { ack: AckMode::Client };
        let came = Came::Message(AckName::new(b"x").unwrap(), None);
        let acks = |number| {
            let mut out = Vec::new();
            client.receive(&came, number, &mut out);
            !out.is_empty()
        };
        let acknowledged: Vec<u64> = (0..30).filter(|number| acks(*number)).collect();
        assert_eq!(acknowledged, [9, 19, 29]);
    }

    /// Bytes from outside end in an error or a frame.
    #[test]
    fn any_bytes_are_scanned_without_panic() {
        let parts: [&[u8]; 8] = [
            b"MESSAGE\n",
            b"ERROR\n",
            b"RECEIPT\n",
            b"receipt-id:x\n",
            b"content-length:",
            b"\n",
            b"\0",
            b"18446744073709551615\n",
        ];
        for seed in 0..20_000_usize {
            let chosen = (0..5).map(|at| parts[seed / 8_usize.pow(at) % 8]);
            let _ = STOMP.scan(&chosen.collect::<Vec<_>>().concat());
        }
    }
}
