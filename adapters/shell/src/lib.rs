//! The tokio shell: listeners, links and the loop that drives an endpoint.
//!
//! What accepts connections is in [`listener`], what it hands over in [`connection`] and [`transport`]; protocols without connections are driven by [`datagram`], over [`udp`] and [`serial`] lines, which [`supervise`] starts anew after a panic.
//! Nothing of this knows a protocol above the byte transport.

#![expect(
    clippy::disallowed_methods,
    reason = "the shell has the clock, so that what it drives needs none"
)]

mod buffers;
pub mod connection;
pub mod datagram;
pub mod datagram_listener;
mod denials;
pub mod drive;
pub mod dtls;
mod handshake;
pub mod http;
pub mod limit;
pub mod listener;
pub mod metrics;
mod origin;
pub mod protocols;
mod proxy;
mod seat;
pub mod serial;
pub mod settings;
mod shared_rate;
mod socket;
mod sockjs;
pub mod spans;
mod stages;
pub mod stats;
mod stream;
pub mod supervise;
mod throttle;
pub mod tls;
pub mod trace;
pub mod transport;
pub mod udp;
#[cfg(unix)]
mod unix;
pub mod websocket;

pub use connection::{BrokenBy, Connection, ConnectionPermit};
pub use datagram::DatagramStats;
pub use datagram_listener::{
    BoundListener, DatagramHandle, DatagramListener, DatagramPlace, ListenerFor, SettingsOf,
};
pub use drive::{Connections, drive};
pub use dtls::{DtlsAddress, DtlsError, DtlsTransport};
pub use headgate_sockjs::{Refusal as SockJsRefusal, Refusals as SockJsRefusals};
pub use http::{Caller, Http, Patience};
pub use limit::ConnectionLimit;
pub use listener::{Handler, ListenError, Listener, ListenerHandle, PreparedChange};
pub use metrics::{Metrics, OwnMetrics};
pub use protocols::{Protocols, Serving};
pub use serial::SerialTransport;
pub use settings::{ListenerKind, ListenerSettings};
pub use spans::{Span, SpanKind, SpanOutcome, SpanSettings};
pub use stages::Stages;
pub use stats::{ListenerStats, RefuseReason};
pub use supervise::keep_serving;
pub use throttle::ClientRate;
pub use trace::Tracer;
pub use transport::{Progress, Transport};
pub use udp::{UdpAddress, UdpTransport};
