//! The tokio shell: listeners, links and the loop that drives an endpoint.
//!
//! What accepts connections is in [`listener`], what it hands over in [`connection`] and [`transport`]; protocols without connections are driven by [`datagram`], over [`udp`] and [`serial`] lines, which [`supervise`] starts anew after a panic.
//! Nothing of this knows a protocol above the byte transport.

#![expect(
    clippy::disallowed_methods,
    reason = "the shell has the clock, so that what it drives needs none"
)]

pub mod access;
mod buffers;
pub mod connection;
pub mod datagram;
mod denials;
pub mod drive;
mod handshake;
pub mod limit;
pub mod listener;
pub mod metrics;
mod proxy;
pub mod serial;
pub mod settings;
mod socket;
mod stages;
pub mod stats;
mod stream;
pub mod supervise;
pub mod tls;
pub mod transport;
pub mod udp;
#[cfg(unix)]
mod unix;
pub mod websocket;

pub use access::{AccessService, AccessSession};
pub use connection::{Connection, ConnectionInfo, ConnectionPermit, PeerAddr};
pub use datagram::{DatagramOffice, DatagramStats};
pub use drive::{Workplace, drive};
pub use limit::ConnectionLimit;
pub use listener::{ListenError, Listener};
pub use metrics::Metrics;
pub use serial::{Framer, FramerCounts, SerialLink};
pub use settings::{ListenerKind, ListenerSettings};
pub use stages::Stages;
pub use stats::{ListenerStats, RefuseReason};
pub use supervise::keep_serving;
pub use transport::{Progress, Transport};
pub use udp::{UdpAddress, UdpLink};
