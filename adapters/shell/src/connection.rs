//! One accepted connection: bytes in, bytes out, and who is there.

use headgate_access::{ConnectionInfo, PeerAddr};
use std::sync::{Arc, OnceLock};
use tokio::io::DuplexStream;

use crate::limit::{AddressSlot, ConnectionSlot};
use crate::shared_rate::SharedRates;
use crate::throttle::ClientRate;
use crate::transport::Transport;

/// One accepted connection, past all handshakes.
#[derive(Debug)]
pub struct Connection {
    /// Bytes in, bytes out.
    pub transport: Transport,
    /// Who is there.
    pub info: ConnectionInfo,
    permit: ConnectionPermit,
    broken_by: Option<BrokenBy>,
}

/// What broke a connection that we opened, where the system or TLS says it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct BrokenBy(Arc<OnceLock<String>>);

impl BrokenBy {
    /// What it was, once that is known.
    pub fn cause(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    pub(crate) fn tell(&self, error: &std::io::Error) {
        self.0.get_or_init(|| error.to_string());
    }
}

/// Counts a connection against the limits until it is dropped.
#[derive(Debug, Default)]
pub struct ConnectionPermit {
    pub(crate) on_listener: Option<ConnectionSlot>,
    pub(crate) in_all: Option<ConnectionSlot>,
    pub(crate) from_address: Option<AddressSlot>,
}

impl ConnectionPermit {
    /// The listener's name; `None` for a connection that came by none.
    pub fn listener(&self) -> Option<&str> {
        self.on_listener.as_ref().map(ConnectionSlot::name)
    }

    /// The listener is no more, and its connections have to go.
    pub(crate) fn is_over(&self) -> bool {
        self.on_listener.as_ref().is_some_and(ConnectionSlot::is_closed)
    }

    /// How fast the client may send.
    pub(crate) fn rate(&self) -> ClientRate {
        self.on_listener
            .as_ref()
            .map(ConnectionSlot::rate)
            .unwrap_or_default()
    }

    /// How fast all clients may send, and those of one user.
    pub(crate) fn shared_rates(&self) -> Option<Arc<SharedRates>> {
        self.in_all.as_ref().map(ConnectionSlot::shared_rates)
    }
}

impl Connection {
    pub(crate) fn new(transport: Transport, info: ConnectionInfo, permit: ConnectionPermit) -> Self {
        Self {
            transport,
            info,
            permit,
            broken_by: None,
        }
    }

    /// One that we opened, for whom `name` names. It counts against no limit.
    pub fn outgoing(name: &str, transport: Transport) -> Self {
        let info = ConnectionInfo::new(name.into(), PeerAddr::Memory);
        Self::new(transport, info, ConnectionPermit::default())
    }

    /// What will have broken it, when it ends.
    pub fn broken_by(&mut self) -> BrokenBy {
        self.broken_by.get_or_insert_default().clone()
    }

    pub(crate) fn tells_what_broke_it(&self) -> Option<BrokenBy> {
        self.broken_by.clone()
    }

    /// A connection in memory and its other end, for tests.
    pub fn memory(listener: &str, capacity: usize) -> (Self, DuplexStream) {
        let (transport, other_end) = Transport::memory(capacity);
        let info = ConnectionInfo::new(listener.into(), PeerAddr::Memory);
        (Self::new(transport, info, ConnectionPermit::default()), other_end)
    }

    /// Takes it apart. Keep the permit as long as the transport.
    pub fn into_parts(self) -> (Transport, ConnectionInfo, ConnectionPermit) {
        (self.transport, self.info, self.permit)
    }
}
