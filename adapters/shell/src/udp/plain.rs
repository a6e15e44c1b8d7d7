//! Datagrams one by one, for systems without the calls of Linux. The system chooses the address that we answer from.

use super::{Origin, Packet, mapped};
use socket2::Socket;
use std::io;
use tokio::net::UdpSocket;

const LONGEST: usize = 65_535;

/// Room for what is received.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    len: usize,
    origin: Option<Origin>,
}

/// Nothing has to be asked of the system.
pub(super) fn configure(_: &Socket, _v6: bool) -> io::Result<()> {
    Ok(())
}

/// As much room for datagrams that wait as wanted, if the system allows it.
pub(super) fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    socket.set_recv_buffer_size(bytes)
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; LONGEST],
            len: 0,
            origin: None,
        }
    }

    /// Takes one datagram.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let (len, peer) = socket.try_recv_from(&mut self.bytes)?;
        self.len = len;
        self.origin = Some(Origin { peer, local: None });
        Ok(1)
    }

    /// The datagram.
    pub(super) fn get(&self, _: usize) -> Option<(Origin, &[u8])> {
        self.origin.map(|origin| (origin, &self.bytes[..self.len]))
    }

    /// The system does not say.
    pub(super) fn dropped(&self) -> Option<u32> {
        None
    }
}

/// Sends the first of these. An error is that of the first one.
pub(super) fn send<'a>(
    socket: &UdpSocket,
    v6: bool,
    mut packets: impl Iterator<Item = Packet<'a>>,
) -> io::Result<usize> {
    let Some(packet) = packets.next() else {
        return Ok(0);
    };
    let to = if v6 { mapped(packet.to) } else { packet.to };
    socket.try_send_to(packet.bytes, to).map(|_| 1)
}
