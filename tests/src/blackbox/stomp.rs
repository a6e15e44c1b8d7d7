//! STOMP clients that say exactly what a test wants, over a blocking socket or a WebSocket.

use super::HANG;
use bytes::BytesMut;
use headgate_stomp_codec::{Command, Decoder, Frame, Limits, Version};
use std::io::{self, Read, Write};
use std::net::TcpStream;

const LIMITS: Limits = Limits {
    headers: 1_000,
    line_bytes: 100_000,
    head_bytes: 1_000_000,
    body_bytes: 10_000_000,
};

/// A connection that speaks STOMP.
pub struct StompPeer {
    stream: TcpStream,
    input: BytesMut,
    decoder: Decoder,
}

impl StompPeer {
    /// Connects with this version and these other headers of CONNECT, each with its line end.
    ///
    /// # Panics
    /// If it is not let in.
    pub fn connect(port: u16, version: Version, headers: &str) -> Self {
        let mut peer = Self::open(port);
        peer.send(format!(
            "CONNECT\naccept-version:{}\nhost:h\n{headers}\n",
            version.as_str()
        ));
        let connected = peer.recv();
        assert_eq!(connected.command, Command::Connected, "{connected:?}");
        peer.decoder.set_version(version);
        peer
    }

    /// Connects, and says nothing yet.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the gateway listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(HANG)).expect("a socket");
        Self {
            stream,
            input: BytesMut::new(),
            decoder: Decoder::new(LIMITS),
        }
    }

    /// Sends a frame; NUL is added.
    ///
    /// # Panics
    /// If the connection is gone.
    pub fn send(&mut self, frame: impl AsRef<[u8]>) {
        self.try_send(frame).expect("the gateway is there");
    }

    /// The same to a gateway that may be gone.
    pub fn try_send(&mut self, frame: impl AsRef<[u8]>) -> io::Result<()> {
        let bytes = [frame.as_ref(), &[0]].concat();
        self.stream.write_all(&bytes)
    }

    /// Waits for a frame.
    ///
    /// # Panics
    /// If the connection ends before.
    pub fn recv(&mut self) -> Frame {
        self.next().expect("a frame")
    }

    /// Waits for a frame; `None` when the connection ends.
    ///
    /// # Panics
    /// If what comes is no frame.
    #[allow(clippy::should_implement_trait, reason = "it waits")]
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input).expect("good frames") {
                return Some(frame);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// Sends a frame with a receipt, and waits for it.
    ///
    /// # Panics
    /// If something else comes.
    pub fn done(&mut self, command: &str, headers: &str, body: &str) {
        self.send(format!("{command}\n{headers}receipt:done\n\n{body}"));
        let receipt = self.recv();
        assert_eq!(
            (receipt.command, receipt.get("receipt-id")),
            (Command::Receipt, Some("done")),
            "{receipt:?}"
        );
    }
}

/// A WebSocket, as a browser opens one. RFC 6455
pub struct WsPeer {
    stream: TcpStream,
    /// The subprotocol that was agreed on.
    pub subprotocol: String,
}

impl WsPeer {
    /// Opens one at `path`, with these subprotocols.
    ///
    /// # Panics
    /// If it is refused.
    pub fn open(port: u16, path: &str, subprotocols: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the gateway listens");
        stream.set_read_timeout(Some(HANG)).expect("a socket");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {subprotocols}\r\n\r\n"
        );
        stream
            .write_all(request.as_bytes())
            .expect("the gateway is there");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("text");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let subprotocol = head
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        let subprotocol = subprotocol.unwrap_or_default().to_owned();
        Self { stream, subprotocol }
    }

    /// Sends a text frame of at most 125 bytes.
    ///
    /// # Panics
    /// If it is longer, or the connection is gone.
    pub fn send(&mut self, text: &str) {
        let length = u8::try_from(text.len())
            .ok()
            .filter(|length| *length < 126)
            .expect("it is short");
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0]; // A mask of zeros changes nothing.
        frame.extend_from_slice(text.as_bytes());
        self.stream.write_all(&frame).expect("the gateway is there");
    }

    /// Waits for a frame: whether it is text, and its payload.
    ///
    /// # Panics
    /// If the connection ends before.
    pub fn recv(&mut self) -> (bool, Vec<u8>) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).expect("a frame");
        let mut length = usize::from(head[1]);
        if length == 126 {
            let mut long = [0; 2];
            self.stream.read_exact(&mut long).expect("a frame");
            length = usize::from(u16::from_be_bytes(long));
        }
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).expect("a frame");
        (head[0] == 0x81, payload)
    }
}
