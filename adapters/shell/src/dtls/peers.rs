//! What is known of the clients of sessions, and what that takes of the gateway's memory.

use crate::udp::UdpAddress;
use headgate_access::TlsInfo;
use headgate_model::MemoryLimit;
use headgate_model::memory::Held;
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of a client's place in the table.
const PLACE: usize = 48;

/// The clients of one socket, by their sessions.
#[derive(Default)]
pub(super) struct Peers {
    by_session: HashMap<u64, Known>,
    bytes: usize,
    held: Option<Held>,
}

/// A client.
pub(super) struct Known {
    /// Where it was when its session began.
    pub(super) from: UdpAddress,
    pub(super) info: TlsInfo,
}

impl Known {
    fn bytes(&self) -> usize {
        let info = &self.info;
        let texts = [&info.sni, &info.alpn, &info.identity].into_iter().flatten();
        let texts: usize = texts.map(String::capacity).sum();
        let certificate = info.client_cert.as_ref().map_or(0, |shown| {
            let name = shown.common_name.as_ref().map_or(0, String::capacity);
            let others = shown.san.iter().map(|san| size_of::<String>() + san.capacity());
            name + shown.subject.capacity()
                + shown.issuer.capacity()
                + shown.serial.capacity()
                + others.sum::<usize>()
        });
        size_of::<Self>() + PLACE + texts + info.cipher.capacity() + certificate
    }
}

impl Peers {
    pub(super) fn count_in(&mut self, memory: &Arc<MemoryLimit>) {
        self.held = Some(Held::new(Arc::clone(memory)));
        self.tell();
    }

    pub(super) fn get(&self, session: u64) -> Option<&Known> {
        self.by_session.get(&session)
    }

    pub(super) fn insert(&mut self, session: u64, known: Known) {
        self.bytes += known.bytes();
        if let Some(old) = self.by_session.insert(session, known) {
            self.bytes -= old.bytes();
        }
        self.tell();
    }

    pub(super) fn remove(&mut self, session: u64) {
        if let Some(known) = self.by_session.remove(&session) {
            self.bytes -= known.bytes();
            self.tell();
        }
    }

    /// Whether there is room was asked when the handshake began.
    fn tell(&mut self) {
        if let Some(held) = &mut self.held {
            held.set(self.bytes);
        }
    }
}
