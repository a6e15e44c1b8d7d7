//! What protocols without connections are: all clients of one socket or line as one plain struct, which is told what happened and writes down what
//! follows.
//!
//! Always true: a session has one key from [`BusCommand::Open`](crate::BusCommand::Open) to [`BusCommand::Close`](crate::BusCommand::Close), and none gets the same key again.

use crate::access::{Answer, Denials, Question};
use crate::bus::PeerName;
pub use crate::credit::Credit;
use crate::trace::PacketTrace;
use crate::{BusEvent, ClientId, Counts, Instant, Many, SessionKey, Sessions, WallTime};
use bytes::{Bytes, BytesMut};
use core::net::SocketAddr;
use std::fmt::Debug;
use std::hash::Hash;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// An address of the transport: a socket's, or `()` on a line with one peer.
pub trait Address: Copy + Eq + Hash + Debug {
    /// As operators see it: without port, and the port.
    fn presence(&self) -> (PeerName, u16);

    /// The address that is seen so; `None` if it is none of this kind.
    fn of_presence(peer: &str, port: u16) -> Option<Self>;

    /// The same peer, by whichever address of ours the system chooses. Default: ours is no part of it.
    #[must_use]
    fn by_any_of_ours(self) -> Self {
        self
    }

    /// Whether what came from there was for a group, or for everybody, and not for us alone. Default: no, or nobody can tell.
    fn is_by_group(&self) -> bool {
        false
    }

    /// Whether somebody else could send under an address of this kind.
    const FORGEABLE: bool;
}

impl Address for SocketAddr {
    fn presence(&self) -> (PeerName, u16) {
        (self.ip().into(), self.port())
    }

    fn of_presence(peer: &str, port: u16) -> Option<Self> {
        Some(Self::new(peer.parse().ok()?, port))
    }

    const FORGEABLE: bool = true;
}

impl Address for () {
    fn presence(&self) -> (PeerName, u16) {
        ("serial".into(), 0)
    }

    fn of_presence(peer: &str, _: u16) -> Option<Self> {
        (peer == "serial").then_some(())
    }

    const FORGEABLE: bool = false;
}

/// Where the peers of one socket are, in bytes that outlive it: for notes of sessions.
pub trait Places<A>: Debug + Send + Sync {
    /// In bytes; `None` where nobody is found again after a restart, as behind keys that are gone then.
    fn keep(&self, at: A) -> Option<Bytes>;

    /// The place that was kept; `None` for what is none of this socket, but of another one of the same protocol perhaps.
    fn find(&self, kept: &[u8]) -> Option<A>;
}

/// Who gets a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination<A> {
    /// One peer.
    To(A),
    /// Everybody who listens.
    Broadcast,
}

/// A limit of what the clients of one user may send together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserLimit {
    /// Packets a second.
    Packets,
    /// Bytes a second.
    Bytes,
}

impl UserLimit {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Packets => "limits.max_user_packets_per_second",
            Self::Bytes => "limits.max_user_bytes_per_second",
        }
    }
}

/// How fast all clients of a user name together may send. A datagram of one client cannot be left unread while those of others are read: what is too
/// much is refused, by the word that the protocol has for that, or dropped.
pub trait UserRates: Debug + Send + Sync {
    /// Takes a datagram of so many bytes of a client of this user, which counts then.
    ///
    /// # Errors
    ///
    /// The user's datagram clients have sent too much of late. It does not count.
    fn admits(&self, user: &Arc<str>, bytes: usize, now: Instant) -> Result<(), UserLimit>;

    /// Counts a datagram that is taken at any rate.
    fn took(&self, user: &Arc<str>, bytes: usize, now: Instant);
}

/// All clients of one socket or line. No clock, lock or `async`, as [`Endpoint`](crate::Endpoint).
pub trait DatagramServer {
    /// Where clients are.
    type Address: Address;

    /// Names of what it counts beside what all protocols have: those of its [`Counter`](crate::Counter).
    const COUNTERS: &'static [&'static str] = &[];

    /// How the client ids of those sessions begin whose [notes](crate::BusCommand::SetNote) it gets back at its start; none by default.
    const NOTES: Option<&'static str> = None;

    /// The server begins: the name of its listener, and the wall time of [`Instant::START`]. Said once, before anything else. Default: it needs neither.
    fn begin(&mut self, _listener: &str, _epoch: WallTime) {}

    /// Some of the sessions whose client ids begin with [`Self::NOTES`] and that have notes: a page of at most [`Restored::PAGE`], by client id. Said before
    /// anything else, page by page until all were seen, at each start of the server: that of the gateway, and that after a fault. What follows happens
    /// before the next page comes. Notes of sessions that end or come meanwhile may be seen or not.
    fn restore(&mut self, _found: Vec<Restored>, _now: Instant, _out: &mut DatagramOutputs<Self::Address>) {}

    /// There are no more pages, or none at all. Said once, before the first datagram; not without [`Self::NOTES`].
    fn restored(&mut self, _now: Instant, _out: &mut DatagramOutputs<Self::Address>) {}

    /// A datagram came, or a frame of a serial line.
    fn handle_datagram(
        &mut self,
        from: Self::Address,
        datagram: Bytes,
        now: Instant,
        out: &mut DatagramOutputs<Self::Address>,
    );

    /// The bus says something to an endpoint.
    fn handle_bus(
        &mut self,
        key: SessionKey,
        event: BusEvent,
        now: Instant,
        out: &mut DatagramOutputs<Self::Address>,
    );

    /// The access service answers a question.
    fn handle_answer(
        &mut self,
        key: SessionKey,
        answer: Answer,
        now: Instant,
        out: &mut DatagramOutputs<Self::Address>,
    );

    /// Does what is due. Never much at once: when more is due, [`Self::deadline`] says so.
    fn handle_timeout(&mut self, now: Instant, out: &mut DatagramOutputs<Self::Address>);

    /// When [`Self::handle_timeout`] is next wanted; `None` while nothing is pending.
    fn deadline(&self) -> Option<Instant>;

    /// Whether there is more to do than the machine can: then no new client may come in. Default: they come in all the same.
    fn set_overloaded(&mut self, _overloaded: bool) {}

    /// How fast the clients of a user may send; said once, before anything comes. Default: as fast as they like.
    fn set_user_rates(&mut self, _rates: Arc<dyn UserRates>) {}

    /// How places are kept over a restart; said once, before anything comes. Default, and where it is not said: they are not.
    fn set_places(&mut self, _places: Arc<dyn Places<Self::Address>>) {}

    /// The gateway stops: clients that are connected are told, sessions stay as the store has them.
    fn shutdown(&mut self, out: &mut DatagramOutputs<Self::Address>);

    /// Who has this session, for a trace. Default: nobody knows.
    fn party(&self, _key: SessionKey) -> (Option<String>, Option<Self::Address>) {
        (None, None)
    }

    /// What a datagram says that came from there, or goes there, for a trace; its client is told if it is known. Default: nothing is told.
    fn trace(&self, _at: Self::Address, _datagram: &[u8]) -> Option<PacketTrace> {
        None
    }

    /// Tells how many there are of what operators count, under names as in `clients`.
    fn gauges(&self, tell: &mut dyn FnMut(&'static str, usize));
}

/// A session that has a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Whose session it is.
    pub client_id: ClientId,
    /// Who opened it last: its owner. `None` for an anonymous client.
    pub username: Option<Arc<str>>,
    /// What its adapter wrote down.
    pub note: Bytes,
    /// When it ends if nobody opens it; `None` when it does not, or somebody has it.
    pub ends_in: Option<Duration>,
    /// An endpoint has it, of this server or of another.
    pub attached: bool,
}

impl Restored {
    /// How many there are in one page at most.
    pub const PAGE: usize = 1_000;
}

/// A question to the access service. At most one of a client is open at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<A> {
    /// Who gets the answer.
    pub key: SessionKey,
    /// Where it is; `None` for whoever has no connection.
    pub at: Option<A>,
    /// What is asked.
    pub question: Question,
}

/// Everything that follows from some steps of a [`DatagramServer`]. The loop drains it.
#[derive(Debug)]
pub struct DatagramOutputs<A> {
    /// All datagrams, one behind the other.
    bytes: BytesMut,
    datagrams: Vec<(Destination<A>, Range<usize>)>,
    /// To the bus, in order.
    pub bus: Vec<<Many as Sessions>::Command>,
    /// To the access service.
    pub questions: Vec<Asked<A>>,
    /// What to count.
    pub counts: Counts,
    /// What to write to the log.
    pub denials: Denials,
}

impl<A> Default for DatagramOutputs<A> {
    fn default() -> Self {
        Self {
            bytes: BytesMut::new(),
            datagrams: Vec::new(),
            bus: Vec::new(),
            questions: Vec::new(),
            counts: Counts::default(),
            denials: Denials::default(),
        }
    }
}

impl<A: Copy> DatagramOutputs<A> {
    /// Sends what `write` appends as one datagram, unless it fails.
    pub fn datagram<E>(
        &mut self,
        to: Destination<A>,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let from = self.bytes.len();
        let written = write(&mut self.bytes);
        match written {
            Ok(()) => self.datagrams.push((to, from..self.bytes.len())),
            Err(_) => self.bytes.truncate(from),
        }
        written
    }

    /// The datagrams, in order; they are not there any more afterwards.
    pub fn take_datagrams(&mut self) -> Vec<(Destination<A>, Bytes)> {
        let bytes = self.bytes.split().freeze();
        let ranges = self.datagrams.drain(..);
        ranges.map(|(to, range)| (to, bytes.slice(range))).collect()
    }

    /// Hands each datagram to `sink` where it lies, in order, and forgets them; nothing is allocated.
    pub fn drain_datagrams(&mut self, mut sink: impl FnMut(Destination<A>, &[u8])) {
        for (to, range) in self.datagrams.drain(..) {
            sink(to, &self.bytes[range]);
        }
        self.bytes.clear();
    }

    /// How many datagrams wait.
    pub fn datagrams(&self) -> usize {
        self.datagrams.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_that_cannot_be_written_leaves_nothing_behind() {
        let mut out = DatagramOutputs::<()>::default();
        let mut write = |text: &'static str, result| {
            out.datagram(Destination::To(()), |bytes| {
                bytes.extend_from_slice(text.as_bytes());
                result
            })
        };
        assert_eq!(write("one", Ok(())), Ok(()));
        assert_eq!(write("half", Err(())), Err(()));
        assert_eq!(write("two", Ok(())), Ok(()));
        let mut seen = Vec::new();
        out.drain_datagrams(|_, bytes| seen.push(bytes.to_vec()));
        assert_eq!(seen, [b"one", b"two"]);
        assert_eq!(out.datagrams(), 0);
    }
}
