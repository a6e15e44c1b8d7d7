//! One connection under load: frames in, bytes out, never waiting.

use super::BenchError;
use super::frame::{Frame, scan};
use headgate_mqtt_codec::Version;
use mio::net::TcpStream;
use std::io::{ErrorKind, Read, Write};

/// A connection. What is not a whole frame yet is kept here; all links read into one buffer.
pub struct Link {
    /// The socket.
    pub stream: TcpStream,
    rest: Vec<u8>,
    /// Bytes that wait to be written.
    pub output: Vec<u8>,
    written: usize,
}

impl Link {
    /// Nothing read, nothing to write.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            rest: Vec::new(),
            output: Vec::new(),
            written: 0,
        }
    }

    /// Hands over all whole frames that are there. `scratch` must have room for the largest frame.
    pub fn read(
        &mut self,
        scratch: &mut [u8],
        version: Version,
        mut take: impl FnMut(Frame, &mut Vec<u8>),
    ) -> Result<(), BenchError> {
        loop {
            let kept = self.rest.len();
            let read = match self.stream.read(&mut scratch[kept..]) {
                Ok(0) => return Err(BenchError::Closed(None)),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            scratch[..kept].copy_from_slice(&self.rest);
            let (mut at, end) = (0, kept + read);
            while let Some((frame, len)) = scan(&scratch[at..end], version)? {
                if let Frame::Disconnect(reason) = frame {
                    return Err(BenchError::Closed(Some(reason)));
                }
                take(frame, &mut self.output);
                at += len;
            }
            self.rest.clear();
            self.rest.extend_from_slice(&scratch[at..end]);
            if self.rest.len() == scratch.len() {
                return Err(BenchError::Malformed); // larger than anything we sent
            }
            if end < scratch.len() {
                return Ok(()); // the socket is empty: its next bytes wake us again
            }
        }
    }

    /// Writes as much as the socket takes; the rest waits until it is writable.
    pub fn flush(&mut self) -> Result<(), BenchError> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => return Err(BenchError::Closed(None)),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.output.drain(..self.written);
                    self.written = 0;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }
}
