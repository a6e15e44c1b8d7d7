//! WebSocket, the client's side, as far as a measurement needs it: one binary frame around all bytes of a write,
//! and bytes out of whatever frames come. RFC 6455. No socket.
//!
//! Always true: before the server has agreed nothing but the request leaves.

use super::BenchError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The answer to our request may be so long.
const MAX_HEAD: usize = 16 * 1024;

/// The most payload put in one frame.
const MAX_FRAME: usize = 64 * 1024;

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// One connection.
pub(crate) struct WebSocket {
    /// Bytes for the layer below.
    pub out: Vec<u8>,
    opening: Option<Opening>,
    /// Payload of the current frame that is still to come.
    left: u64,
    /// A header, or a control frame, that is not whole yet.
    part: Vec<u8>,
    seed: u64,
}

struct Opening {
    accept: String,
    head: Vec<u8>,
}

impl WebSocket {
    /// The request waits in `out`.
    pub(crate) fn new(host: &str, path: &str) -> Self {
        let key = generate_key();
        // [MQTT-6.0.0-3]
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        let mut seed = [0; 8];
        // Without randomness the masks are known beforehand, which harms no measurement.
        let _ = getrandom::fill(&mut seed);
        Self {
            out: request.into_bytes(),
            opening: Some(Opening {
                accept: derive_accept_key(key.as_bytes()),
                head: Vec::new(),
            }),
            left: 0,
            part: Vec::new(),
            seed: u64::from_le_bytes(seed) | 1,
        }
    }

    /// Whether the server has agreed.
    pub(crate) fn is_open(&self) -> bool {
        self.opening.is_none()
    }

    /// Moves `bytes` in frames to `out`; they stay where they are until the server has agreed.
    pub(crate) fn wrap(&mut self, bytes: &mut Vec<u8>) {
        if !self.is_open() {
            return;
        }
        for chunk in bytes.chunks(MAX_FRAME) {
            self.append(BINARY, chunk);
        }
        bytes.clear();
    }

    fn append(&mut self, opcode: u8, payload: &[u8]) {
        self.out.push(0x80 | opcode);
        match payload.len() {
            len @ 0..126 => self.out.push(0x80 | len as u8),
            len @ 126..=0xffff => {
                self.out.push(0x80 | 126);
                self.out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                self.out.push(0x80 | 127);
                self.out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        // xorshift64: a mask has to differ, no more.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let [a, b, c, d, ..] = self.seed.to_le_bytes();
        self.out.extend_from_slice(&[a, b, c, d]);
        let start = self.out.len();
        self.out.extend_from_slice(payload);
        let mask = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let mut words = self.out[start..].chunks_exact_mut(8);
        for word in &mut words {
            let masked = u64::from_ne_bytes(*word.first_chunk().expect("eight bytes")) ^ mask;
            word.copy_from_slice(&masked.to_ne_bytes());
        }
        let masks = mask.to_ne_bytes();
        words
            .into_remainder()
            .iter_mut()
            .zip(masks)
            .for_each(|(byte, mask)| *byte ^= mask);
    }

    /// Moves the payload in `bytes` to their beginning and says how much it is.
    pub(crate) fn unwrap(&mut self, bytes: &mut [u8]) -> Result<usize, BenchError> {
        let mut from = self.open(bytes)?;
        let mut to = 0;
        while from < bytes.len() {
            if self.left > 0 {
                let left = usize::try_from(self.left).unwrap_or(usize::MAX);
                let count = left.min(bytes.len() - from);
                bytes.copy_within(from..from + count, to);
                (from, to) = (from + count, to + count);
                self.left -= count as u64;
                continue;
            }
            let taken = if self.part.is_empty() {
                match unit(&bytes[from..])? {
                    Some(unit) => {
                        let start = from;
                        from += unit;
                        self.take(start, from, bytes)?;
                        continue;
                    }
                    None => bytes.len() - from,
                }
            } else {
                1 // rarely a header is cut, and then it is short
            };
            self.part.extend_from_slice(&bytes[from..from + taken]);
            from += taken;
            if unit(&self.part)? == Some(self.part.len()) {
                let mut part = std::mem::take(&mut self.part);
                self.take(0, part.len(), &mut part)?;
            }
        }
        Ok(to)
    }

    /// Takes the answer to our request; how many bytes it took.
    fn open(&mut self, bytes: &[u8]) -> Result<usize, BenchError> {
        let Some(opening) = &mut self.opening else {
            return Ok(0);
        };
        let refused = |why: &str| Err(BenchError::WebSocket(why.into()));
        let before = opening.head.len();
        opening.head.extend_from_slice(bytes);
        let Some(end) = opening.head.windows(4).position(|four| four == b"\r\n\r\n") else {
            return if opening.head.len() > MAX_HEAD {
                refused("its answer does not end")
            } else {
                Ok(bytes.len())
            };
        };
        let head = String::from_utf8_lossy(&opening.head[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("101") {
            return refused(status);
        }
        let accepted = lines
            .filter_map(|line| line.split_once(':'))
            .any(|(name, value)| {
                name.eq_ignore_ascii_case("Sec-WebSocket-Accept") && value.trim() == opening.accept
            });
        if !accepted {
            return refused("its answer is to somebody else's request");
        }
        self.opening = None;
        Ok(end + 4 - before)
    }

    /// A whole header of a data frame, or a whole control frame.
    fn take(&mut self, start: usize, end: usize, bytes: &mut [u8]) -> Result<(), BenchError> {
        let (opcode, len, header) = header(&bytes[start..end])?.ok_or(BenchError::Malformed)?;
        match opcode {
            CONTINUATION | BINARY => self.left = len,
            PING => self.append(PONG, &bytes[start + header..end]),
            PONG => {}
            CLOSE => return Err(BenchError::Closed(None)),
            _ => return Err(BenchError::Malformed), // [MQTT-6.0.0-1]
        }
        Ok(())
    }
}

/// Bytes of the header of a data frame, or of a control frame; `None` while it is not whole.
fn unit(bytes: &[u8]) -> Result<Option<usize>, BenchError> {
    let Some((opcode, len, header)) = header(bytes)? else {
        return Ok(None);
    };
    if opcode < CLOSE {
        return Ok(Some(header));
    }
    if len > 125 {
        return Err(BenchError::Malformed); // RFC 6455 §5.5
    }
    let whole = header + len as usize;
    Ok((bytes.len() >= whole).then_some(whole))
}

/// Opcode, payload and bytes of a header. A server does not mask. RFC 6455 §5.1
fn header(bytes: &[u8]) -> Result<Option<(u8, u64, usize)>, BenchError> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(BenchError::Malformed);
    }
    let (len, header) = match second {
        126 => match rest.first_chunk() {
            Some(len) => (u64::from(u16::from_be_bytes(*len)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(len) => (u64::from_be_bytes(*len), 10),
            None => return Ok(None),
        },
        len => (u64::from(*len), 2),
    };
    Ok(Some((first & 0x0f, len, header)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

    fn opened() -> WebSocket {
        let mut socket = WebSocket::new("h", "/mqtt");
        let answer = answer(&socket);
        socket.out.clear();
        assert_eq!(socket.unwrap(&mut answer.into_bytes()).unwrap(), 0);
        assert!(socket.is_open());
        socket
    }

    fn answer(socket: &WebSocket) -> String {
        let accept = &socket.opening.as_ref().unwrap().accept;
        format!("HTTP/1.1 101 Fine\r\nUpgrade: websocket\r\nsec-websocket-accept:{accept}\r\n\r\n")
    }

    /// A frame as a server sends it.
    fn served(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            len if len < 126 => bytes.push(len as u8),
            len => {
                bytes.push(126);
                bytes.extend_from_slice(&(len as u16).to_be_bytes());
            }
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn our_frames_are_those_that_tungstenite_reads() {
        let mut socket = opened();
        for len in [0, 1, 7, 8, 9, 125, 126, 4_000, 65_536] {
            let payload: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            socket.out.clear();
            socket.wrap(&mut payload.clone());
            if len == 0 {
                assert!(socket.out.is_empty(), "nothing is no frame");
                continue;
            }
            let mut cursor = Cursor::new(&socket.out);
            let (header, size) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            assert_eq!((header.opcode, size), (OpCode::Data(Data::Binary), len as u64));
            let mask = header.mask.expect("RFC 6455 §5.3");
            let start = usize::try_from(cursor.position()).unwrap();
            let read = socket.out[start..].iter().zip(mask.iter().cycle());
            assert!(read.map(|(byte, mask)| byte ^ mask).eq(payload));
        }
    }

    #[test]
    fn payload_is_found_however_the_stream_is_cut() {
        let mut stream = served(0x02, b"one ");
        stream.extend(served(0x89, b"are you there"));
        stream.extend(served(0x80, b"message, "));
        stream.extend(served(0x82, &[b'x'; 300]));
        for cut in 0..stream.len() {
            let mut socket = opened();
            let mut payload = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                let mut part = part.to_vec();
                let len = socket.unwrap(&mut part).unwrap();
                payload.extend_from_slice(&part[..len]);
            }
            assert_eq!(payload, [&b"one message, "[..], &[b'x'; 300]].concat(), "{cut}");
            assert_eq!(socket.out[0], 0x8a, "a pong");
        }
    }

    #[test]
    fn nothing_leaves_before_the_server_has_agreed() {
        let mut socket = WebSocket::new("h", "/mqtt");
        let request = socket.out.clone();
        assert!(request.starts_with(b"GET /mqtt HTTP/1.1\r\nHost: h\r\n"));
        let mut packet = b"CONNECT".to_vec();
        socket.wrap(&mut packet);
        assert_eq!((packet.len(), &socket.out), (7, &request));
        let mut bytes = [answer(&socket).as_bytes(), &served(0x82, b"early")].concat();
        let (head, tail) = bytes.split_at_mut(30);
        assert_eq!(socket.unwrap(head).unwrap(), 0);
        let len = socket.unwrap(tail).unwrap();
        assert_eq!(&tail[..len], b"early");
        socket.wrap(&mut packet);
        assert!(packet.is_empty() && socket.out.len() > request.len());
    }

    #[test]
    fn other_answers_are_refused() {
        for answer in [
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "HTTP/1.1 101 Fine\r\nSec-WebSocket-Accept: of another\r\n\r\n",
        ] {
            let mut socket = WebSocket::new("h", "/");
            let error = socket.unwrap(&mut answer.as_bytes().to_vec()).unwrap_err();
            assert!(matches!(error, BenchError::WebSocket(_)));
        }
        for frame in [&[0x81, 0][..], &[0x82, 0x80], &[0xc2, 0], &[0x89, 126, 0, 200]] {
            assert!(opened().unwrap(&mut frame.to_vec()).is_err(), "{frame:?}");
        }
        assert!(matches!(
            opened().unwrap(&mut [0x88, 0]),
            Err(BenchError::Closed(None))
        ));
    }
}
