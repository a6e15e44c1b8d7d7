//! Flights: what is sent together, and again together. RFC 6347 §4.2.4

use crate::outputs::Outputs;
use crate::writer::Writer;
use headgate_dtls_codec::{
    ContentType, Fragment, HANDSHAKE_HEADER, HandshakeType, RECORD_HEADER, write_fragment, write_message,
};

/// Bytes of a fragment's body below which a new datagram is begun.
const SMALL: usize = 32;

/// How long what we send may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// A datagram.
    pub(crate) datagram: usize,
    /// What a record carries.
    pub(crate) record: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Flight(Vec<Part>);

#[derive(Debug)]
enum Part {
    /// A message without protection.
    Message {
        kind: HandshakeType,
        seq: u16,
        body: Vec<u8>,
    },
    /// "From here on under new keys", and the Finished that is.
    Finished { seq: u16, body: [u8; 12] },
}

impl Flight {
    pub(crate) fn message(&mut self, kind: HandshakeType, seq: u16, body: Vec<u8>) {
        self.0.push(Part::Message { kind, seq, body });
    }

    pub(crate) fn finished(seq: u16, body: [u8; 12]) -> Self {
        Self(vec![Part::Finished { seq, body }])
    }

    /// Bytes of memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let bodies = self.0.iter().map(|part| match part {
            Part::Message { body, .. } => body.capacity(),
            Part::Finished { .. } => 0,
        });
        self.0.capacity() * size_of::<Part>() + bodies.sum::<usize>()
    }

    /// The end of a flight.
    pub(crate) fn and_finished(&mut self, seq: u16, body: [u8; 12]) {
        self.0.push(Part::Finished { seq, body });
    }

    /// Sends all of it, in as few datagrams as the sizes allow.
    pub(crate) fn send<A: Copy>(&self, to: A, sizes: Sizes, writer: &mut Writer, out: &mut Outputs<A>) {
        let mut datagram = Vec::new();
        for part in &self.0 {
            match part {
                Part::Message { kind, seq, body } => {
                    let message = Fragment {
                        kind: *kind as u8,
                        length: u32::try_from(body.len()).unwrap_or(u32::MAX),
                        message_seq: *seq,
                        offset: 0,
                        body,
                    };
                    fragments(&message, to, sizes, writer, &mut datagram, out);
                }
                Part::Finished { seq, body } => {
                    let mut message = Vec::with_capacity(HANDSHAKE_HEADER + body.len());
                    write_message(HandshakeType::Finished, *seq, body, &mut message);
                    let len = RECORD_HEADER + 1 + writer.overhead() + message.len();
                    if datagram.len() + len > sizes.datagram {
                        flush(to, &mut datagram, out);
                    }
                    writer.plain(ContentType::ChangeCipherSpec, &[1], &mut datagram);
                    writer.protected(ContentType::Handshake, &message, &mut datagram);
                }
            }
        }
        flush(to, &mut datagram, out);
    }
}

/// Appends a message to a datagram, and as many more as it needs. RFC 6347 §4.2.3
fn fragments<A: Copy>(
    message: &Fragment<'_>,
    to: A,
    sizes: Sizes,
    writer: &mut Writer,
    datagram: &mut Vec<u8>,
    out: &mut Outputs<A>,
) {
    const HEADERS: usize = RECORD_HEADER + HANDSHAKE_HEADER;
    let mut at = 0;
    loop {
        let left = message.body.len() - at;
        let in_record = sizes.record.saturating_sub(HANDSHAKE_HEADER).max(SMALL);
        let in_datagram = sizes.datagram.saturating_sub(datagram.len() + HEADERS);
        if in_datagram < left.clamp(1, SMALL) && !datagram.is_empty() {
            flush(to, datagram, out);
            continue;
        }
        let len = left.min(in_record).min(in_datagram.max(SMALL));
        let fragment = Fragment {
            offset: u32::try_from(at).unwrap_or(u32::MAX),
            body: &message.body[at..at + len],
            ..*message
        };
        let mut payload = Vec::with_capacity(HANDSHAKE_HEADER + len);
        write_fragment(&fragment, &mut payload);
        writer.plain(ContentType::Handshake, &payload, datagram);
        at += len;
        if at == message.body.len() {
            return;
        }
    }
}

fn flush<A: Copy>(to: A, datagram: &mut Vec<u8>, out: &mut Outputs<A>) {
    out.datagram(to, |bytes| bytes.append(datagram));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reassembly::Reassembly;
    use headgate_dtls_codec::{next_fragment, next_record};

    /// RFC 6347 §4.2.3, RFC 6066 §4
    #[test]
    fn a_flight_keeps_to_the_sizes_and_arrives_whole() {
        for (datagram, record) in [(1200, 1 << 14), (200, 1 << 14), (1200, 512), (100, 64)] {
            let mut flight = Flight::default();
            let bodies = [vec![1; 60], vec![2; 3000], vec![], vec![4; 7]];
            for (seq, body) in (0..).zip(&bodies) {
                flight.message(HandshakeType::Certificate, seq, body.clone());
            }
            let (mut writer, mut out) = (Writer::new(5, Box::default()), Outputs::default());
            flight.send((), Sizes { datagram, record }, &mut writer, &mut out);
            let mut all = Reassembly::new(0, 10_000);
            let mut sequence = 5;
            out.drain_datagrams(|(), bytes| {
                assert!(bytes.len() <= datagram);
                let mut rest = bytes;
                while !rest.is_empty() {
                    let (found, behind) = next_record(rest, 0).unwrap();
                    assert_eq!(found.sequence, sequence);
                    sequence += 1;
                    assert!(found.fragment.len() <= record);
                    let (fragment, behind_it) = next_fragment(found.fragment).unwrap();
                    assert!(behind_it.is_empty());
                    all.add(&fragment);
                    rest = behind;
                }
            });
            for body in bodies {
                assert_eq!(all.take().unwrap().body, body);
            }
        }
    }
}
