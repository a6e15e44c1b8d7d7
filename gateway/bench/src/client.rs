//! One connection under load: frames in, bytes out, never waiting. TLS and WebSocket, if there are any, are between
//! the frames and the socket.

use super::BenchError;
use super::websocket::WebSocket;
use super::wire::Wire;
use mio::net::TcpStream;
use rustls::ClientConnection;
use std::io::{ErrorKind, Read, Write};

/// TLS bytes that are read at a time: a few of its records.
const RAW: usize = 64 * 1024;

/// Where all clients read into.
pub(crate) struct Scratch {
    raw: Vec<u8>,
    plain: Vec<u8>,
}

impl Scratch {
    /// With room for the largest frame.
    pub(crate) fn new(room: usize) -> Self {
        Self {
            raw: vec![0; RAW.min(room)],
            plain: vec![0; room],
        }
    }
}

/// A connection. What is not a whole frame yet is kept here.
pub(crate) struct Client {
    /// The socket.
    pub socket: TcpStream,
    rest: Vec<u8>,
    /// Bytes that wait to be written.
    pub output: Vec<u8>,
    written: usize,
    tls: Option<Box<ClientConnection>>,
    websocket: Option<Box<WebSocket>>,
    closed: bool,
}

impl Client {
    /// Nothing read; what the layers say first waits to be written.
    pub(crate) fn new(
        socket: TcpStream,
        tls: Option<ClientConnection>,
        websocket: Option<WebSocket>,
    ) -> Self {
        let mut tls = tls.map(Box::new);
        if let Some(tls) = &mut tls {
            tls.set_buffer_limit(None); // what is outstanding is bounded by whoever fills `output`
        }
        Self {
            socket,
            rest: Vec::new(),
            output: Vec::new(),
            written: 0,
            tls,
            websocket: websocket.map(Box::new),
            closed: false,
        }
    }

    /// Whether the layers have agreed with the server's.
    pub(crate) fn is_open(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
            && self
                .websocket
                .as_ref()
                .is_none_or(|websocket| websocket.is_open())
    }

    /// Hands over all whole frames that are there.
    pub(super) fn read<W: Wire>(
        &mut self,
        scratch: &mut Scratch,
        wire: &W,
        mut take: impl FnMut(W::Frame, &mut Vec<u8>),
    ) -> Result<(), BenchError> {
        loop {
            let kept = self.rest.len();
            let Some((end, more)) = self.fetch(scratch, kept)? else {
                return Ok(());
            };
            let bytes = &mut scratch.plain[..];
            bytes[..kept].copy_from_slice(&self.rest);
            let mut at = 0;
            while let Some((frame, len)) = wire.scan(&bytes[at..end])? {
                take(frame, &mut self.output);
                at += len;
            }
            self.rest.clear();
            self.rest.extend_from_slice(&bytes[at..end]);
            if self.rest.len() == bytes.len() {
                return Err(BenchError::Malformed); // larger than anything we sent
            }
            if self.closed {
                return Err(BenchError::Closed(None));
            }
            if !more {
                return Ok(()); // the socket is empty: its next bytes wake us again
            }
        }
    }

    /// Bytes of the protocol, without regard to frames; `None` if there are none now.
    pub(crate) fn read_bytes<'a>(
        &mut self,
        scratch: &'a mut Scratch,
    ) -> Result<Option<&'a [u8]>, BenchError> {
        let Some((end, _)) = self.fetch(scratch, 0)? else {
            return Ok(None);
        };
        if end == 0 && self.closed {
            return Err(BenchError::Closed(None));
        }
        Ok(Some(&scratch.plain[..end]))
    }

    /// What was read by [`Client::read_bytes`] and is no whole frame.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// Reads once, behind the first `start` bytes: where they end, and whether the socket may have more.
    fn fetch(&mut self, scratch: &mut Scratch, start: usize) -> Result<Option<(usize, bool)>, BenchError> {
        let Scratch { raw, plain } = scratch;
        let into = match self.tls {
            Some(_) => &mut raw[..],
            None => &mut plain[start..],
        };
        let read = loop {
            match self.socket.read(into) {
                Ok(0) => return Err(BenchError::Closed(None)),
                Ok(read) => break read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        };
        let more = read == into.len();
        let mut end = start;
        match &mut self.tls {
            None => end += read,
            Some(tls) => {
                let mut fresh = &raw[..read];
                while !fresh.is_empty() {
                    tls.read_tls(&mut fresh)?;
                    let state = tls.process_new_packets().map_err(BenchError::tls)?;
                    let came = state.plaintext_bytes_to_read();
                    if plain.len() < end + came {
                        plain.resize(end + came, 0);
                    }
                    tls.reader().read_exact(&mut plain[end..end + came])?;
                    end += came;
                    if state.peer_has_closed() {
                        self.closed = true;
                        break;
                    }
                }
            }
        }
        if let Some(websocket) = &mut self.websocket {
            end = start + websocket.unwrap(&mut plain[start..end])?;
        }
        Ok(Some((end, more)))
    }

    /// Writes as much as the socket takes; the rest waits until it is writable.
    pub(crate) fn flush(&mut self) -> Result<(), BenchError> {
        let bytes = match &mut self.websocket {
            Some(websocket) => {
                websocket.wrap(&mut self.output);
                &mut websocket.out
            }
            None => &mut self.output,
        };
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes)?;
            bytes.clear();
            while tls.wants_write() {
                match tls.write_tls(&mut self.socket) {
                    Ok(0) => return Err(BenchError::Closed(None)),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            return Ok(());
        }
        while self.written < bytes.len() {
            match self.socket.write(&bytes[self.written..]) {
                Ok(0) => return Err(BenchError::Closed(None)),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    bytes.drain(..self.written);
                    self.written = 0;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.clear();
        self.written = 0;
        Ok(())
    }
}
