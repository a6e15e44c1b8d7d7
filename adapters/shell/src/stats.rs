//! What a listener counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use headgate_sockjs::Refusals;

use crate::limit::ConnectionLimit;

/// Why a connection was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefuseReason {
    /// The address rules forbid it.
    Address,
    /// Too many new connections in a short time.
    Rate,
    /// Too many connections at a time: of the listener, of one address, or in total.
    Limit,
    /// No proper PROXY header, or its sender is not trusted.
    Proxy,
    /// The TLS handshake failed.
    Tls,
    /// The WebSocket handshake failed.
    Http,
    /// A handshake took too long.
    Timeout,
    /// The gateway has more to do than it can.
    Overload,
}

impl RefuseReason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Address,
        Self::Rate,
        Self::Limit,
        Self::Proxy,
        Self::Tls,
        Self::Http,
        Self::Timeout,
        Self::Overload,
    ];

    /// The name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Rate => "rate",
            Self::Limit => "limit",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Timeout => "timeout",
            Self::Overload => "overload",
        }
    }
}

/// The counters of one listener. `accepted` = `opened` + refused + those in a handshake now.
#[derive(Debug, Default)]
pub struct ListenerStats {
    accepted: AtomicU64,
    opened: AtomicU64,
    refused: [AtomicU64; RefuseReason::ALL.len()],
    accept_errors: AtomicU64,
    down: AtomicBool,
    sockjs: OnceLock<Arc<Refusals>>,
    limit: ConnectionLimit,
}

impl ListenerStats {
    pub(crate) fn new(limit: ConnectionLimit) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Connections that the system gave us.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that were handed over.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Connections open now, those in a handshake among them.
    pub fn current(&self) -> usize {
        self.limit.current()
    }

    /// Connections refused for `reason`.
    pub fn refused(&self, reason: RefuseReason) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }

    /// Times that the system could not give us a connection (mostly: too many open files).
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// Whether the system gives us no connection now.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// What SockJS refused; `None`: it was never spoken here.
    pub fn sockjs(&self) -> Option<&Refusals> {
        self.sockjs.get().map(|refusals| &**refusals)
    }

    pub(crate) fn count_sockjs(&self) -> Arc<Refusals> {
        Arc::clone(self.sockjs.get_or_init(Arc::default))
    }

    pub(crate) fn count_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self, reason: RefuseReason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_accept_error(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }
}
