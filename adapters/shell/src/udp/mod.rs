//! A UDP socket for many clients: datagrams in batches, answered from the address that they came to; multicast.
//!
//! Always true: whatever the system says of one datagram, the others go on; what is refused is counted.

#[cfg(target_os = "linux")]
mod mmsg;
#[cfg(any(not(target_os = "linux"), test))]
#[cfg_attr(target_os = "linux", allow(dead_code, reason = "tested here, used elsewhere"))]
mod plain;

#[cfg(target_os = "linux")]
use mmsg as system;
#[cfg(not(target_os = "linux"))]
use plain as system;

use crate::datagram::{DatagramStats, DatagramTransport};
use crate::listener::ListenError;
use crate::settings::{MulticastSettings, UdpSettings};
use crate::socket::{canonical, parse_address};
use bytes::{Buf, Bytes, BytesMut};
use headgate_access::{AddressRules, ConnectionInfo, PeerAddr};
use headgate_model::Destination;
use headgate_model::bus::PeerName;
use headgate_model::datagram::{Address, Places};
use parking_lot::RwLock;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::Sleep;

/// Addresses of ours that are told apart; from others the system chooses what we answer from.
const MAX_LOCALS: usize = 256;
/// In place of the number of our address: that of a group, or of everybody. What came there is answered from the address that the system chooses.
const GROUP: u16 = u16::MAX;
/// Unsent bytes from which on nothing more is taken.
const HIGH_WATER: usize = 256 << 10;
/// How long the socket rests when the system cannot give us datagrams.
const PAUSE: Duration = Duration::from_millis(100);

/// Where a client is, and which address of ours it speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UdpAddress {
    /// IPv4 is mapped.
    ip: Ipv6Addr,
    /// Of a link-local address.
    scope: u32,
    port: u16,
    /// The number of our address; 0 for the one that the system chooses, [`GROUP`] for none of ours.
    local: u16,
}

const _: () = assert!(size_of::<UdpAddress>() == 24, "there is one for each client");

impl UdpAddress {
    fn new(peer: SocketAddr, local: u16) -> Self {
        let (ip, scope) = match peer {
            SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
        };
        Self {
            ip,
            scope,
            port: peer.port(),
            local,
        }
    }

    /// Where the client is. Never IPv4-mapped IPv6.
    pub fn peer(&self) -> SocketAddr {
        canonical(SocketAddrV6::new(self.ip, self.port, 0, self.scope).into())
    }
}

impl Address for UdpAddress {
    const FORGEABLE: bool = true;

    fn presence(&self) -> (PeerName, u16) {
        self.peer().presence()
    }

    fn of_presence(peer: &str, port: u16) -> Option<Self> {
        Some(Self::new(SocketAddr::of_presence(peer, port)?, 0))
    }

    fn by_any_of_ours(self) -> Self {
        Self { local: 0, ..self }
    }

    fn is_by_group(&self) -> bool {
        self.local == GROUP
    }
}

/// Addresses of ours that were spoken to, or are remembered of a time before a restart. Their numbers begin with 1.
#[derive(Debug, Default)]
struct Locals(RwLock<Vec<IpAddr>>);

impl Locals {
    /// The number of an address; 0 if there are too many.
    fn number(&self, ip: IpAddr) -> u16 {
        let known = self.0.read().iter().position(|known| *known == ip);
        let index = known.or_else(|| {
            let mut all = self.0.write();
            (all.len() < MAX_LOCALS).then(|| {
                all.push(ip);
                all.len() - 1
            })
        });
        index.map_or(0, |index| u16::try_from(index + 1).unwrap_or(0))
    }

    /// The address of a number; `None` for that which the system chooses.
    fn of(&self, number: u16) -> Option<IpAddr> {
        let index = usize::from(number.checked_sub(1)?);
        self.0.read().get(index).copied()
    }
}

/// Version of the form in which places are kept.
const KEPT: u8 = 1;

/// Places of one socket, kept with the name of its listener: version, the name behind its length, address, scope and port of the peer, and the address of ours if
/// it is known.
#[derive(Debug)]
struct UdpPlaces {
    name: Arc<str>,
    locals: Arc<Locals>,
    /// The socket has all addresses of ours.
    is_for_all: bool,
    /// Who may speak to it.
    access: AddressRules,
}

impl Places<UdpAddress> for UdpPlaces {
    fn keep(&self, at: UdpAddress) -> Option<Bytes> {
        let mut kept = vec![KEPT];
        kept.extend_from_slice(&u16::try_from(self.name.len()).ok()?.to_be_bytes());
        kept.extend_from_slice(self.name.as_bytes());
        kept.extend_from_slice(&at.ip.octets());
        kept.extend_from_slice(&at.scope.to_be_bytes());
        kept.extend_from_slice(&at.port.to_be_bytes());
        let local = self.locals.of(at.local).map(|ip| match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        });
        kept.extend(local.iter().flat_map(Ipv6Addr::octets));
        Some(kept.into())
    }

    fn find(&self, kept: &[u8]) -> Option<UdpAddress> {
        let (&[KEPT, a, b], rest) = kept.split_first_chunk()? else {
            return None;
        };
        let (name, rest) = rest.split_at_checked(u16::from_be_bytes([a, b]).into())?;
        if name != self.name.as_bytes() {
            return None;
        }
        let (ip, rest) = rest.split_first_chunk::<16>()?;
        let (scope, rest) = rest.split_first_chunk()?;
        let (port, local) = rest.split_first_chunk()?;
        let ip = Ipv6Addr::from(*ip);
        if !self.access.allow(ip.to_canonical()) {
            return None;
        }
        let local = match <[u8; 16]>::try_from(local) {
            Ok(local) if self.is_for_all => self.locals.number(Ipv6Addr::from(local).to_canonical()),
            Ok(_) => 0,
            Err(_) if local.is_empty() => 0,
            Err(_) => return None,
        };
        Some(UdpAddress {
            ip,
            scope: u32::from_be_bytes(*scope),
            port: u16::from_be_bytes(*port),
            local,
        })
    }
}

/// Whose datagram it is.
#[derive(Clone, Copy, Debug)]
struct Origin {
    peer: SocketAddr,
    local: Option<Local>,
}

/// An address of ours that a datagram came to, and the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Local {
    ip: IpAddr,
    interface: u32,
    /// It is the address of a group, or of everybody.
    is_group: bool,
}

/// A datagram on its way out.
#[derive(Clone, Copy, Debug)]
struct Packet<'a> {
    to: SocketAddr,
    from: Option<IpAddr>,
    /// 0 for the one that the system chooses.
    interface: u32,
    bytes: &'a [u8],
}

/// A bound socket.
pub struct UdpTransport {
    name: Arc<str>,
    mount_point: Option<Arc<str>>,
    socket: UdpSocket,
    address: SocketAddr,
    access: AddressRules,
    multicast: Option<MulticastSettings>,
    /// Where what is for everybody goes, and through which interface.
    broadcast_to: Vec<(SocketAddr, u32)>,
    inbox: system::Inbox,
    outbox: Outbox,
    /// Addresses of ours that clients speak to; the first has number 1.
    locals: Arc<Locals>,
    stats: Arc<DatagramStats>,
    /// Datagrams that earlier sockets had no room for.
    unread_before: u64,
    pause: Option<Pin<Box<Sleep>>>,
    /// The last try to receive failed.
    deaf: bool,
}

/// Datagrams that the system has not taken yet.
#[derive(Default)]
struct Outbox {
    bytes: BytesMut,
    queue: VecDeque<Queued>,
}

struct Queued {
    to: SocketAddr,
    from: Option<IpAddr>,
    interface: u32,
    len: usize,
}

/// What is counted, in the order of [`COUNTERS`].
#[derive(Clone, Copy)]
enum Counter {
    Received,
    Sent,
    BytesReceived,
    BytesSent,
    Refused,
    Unread,
    Unsent,
    Errors,
}

pub(crate) const COUNTERS: &[&str] = &[
    "datagrams/received",
    "datagrams/sent",
    "bytes/received",
    "bytes/sent",
    "datagrams/refused",
    "datagrams/unread",
    "datagrams/unsent",
    "errors",
];

impl UdpTransport {
    /// Binds the socket; datagrams wait in the system until it is served. Needs a tokio runtime around it.
    pub fn bind(name: &str, mount_point: Option<&str>, settings: &UdpSettings) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind {
            listener: name.to_owned(),
            address: settings.bind.clone(),
            source,
        };
        let (socket, broadcast_to) = open(settings).map_err(failed)?;
        tell_of_small_room(name, &socket, settings).map_err(failed)?;
        let socket = UdpSocket::from_std(socket.into()).map_err(failed)?;
        Ok(Self {
            name: name.into(),
            mount_point: mount_point.map(Into::into),
            address: socket.local_addr().map_err(failed)?,
            socket,
            access: settings.access.clone(),
            multicast: settings.multicast.clone(),
            broadcast_to,
            inbox: system::Inbox::new(),
            outbox: Outbox::default(),
            locals: Arc::default(),
            stats: Arc::new(DatagramStats::new(COUNTERS)),
            unread_before: 0,
            pause: None,
            deaf: false,
        })
    }

    /// Counts under these names, which begin with [`COUNTERS`].
    pub(crate) fn counting_as(mut self, names: &'static [&'static str]) -> Self {
        self.stats = Arc::new(DatagramStats::new(names));
        self
    }

    /// Goes on with what an earlier socket has counted.
    #[must_use]
    pub fn counting_on(mut self, stats: Arc<DatagramStats>) -> Self {
        self.unread_before = stats.get(COUNTERS[Counter::Unread as usize]).unwrap_or(0);
        self.stats = stats;
        self
    }

    /// Takes over other settings for a socket that stays where it is. What the system does not take stays as it was, and is told.
    pub(crate) fn renew(&mut self, settings: &UdpSettings) {
        self.access = settings.access.clone();
        let socket = socket2::SockRef::from(&self.socket);
        let renewed = || {
            if settings.receive_buffer_bytes > 0 {
                system::set_receive_buffer(&socket, settings.receive_buffer_bytes)?;
                tell_of_small_room(&self.name, &socket, settings)?;
            }
            if self.multicast != settings.multicast {
                self.multicast.iter().for_each(|old| leave(&socket, old));
            }
            let interfaces = match &settings.multicast {
                Some(new) if self.multicast.as_ref() != Some(new) => join(&socket, new, self.address)?,
                Some(new) => interface_numbers(new)?,
                None => Vec::new(),
            };
            Ok::<_, io::Error>(broadcast_to(settings, self.address.port(), &interfaces))
        };
        match renewed() {
            Ok(broadcast_to) => self.broadcast_to = broadcast_to,
            Err(error) => {
                tracing::warn!(listener = %self.name, %error, "the socket does not take all of its settings");
            }
        }
        self.multicast = settings.multicast.clone();
    }

    /// The address with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What it counts; lives on when the socket is closed.
    pub fn stats(&self) -> Arc<DatagramStats> {
        Arc::clone(&self.stats)
    }

    fn count(&self, counter: Counter, n: usize) {
        self.stats.add(counter as usize, n as u64);
    }

    /// The number of an address of ours, so that it has two bytes for each client.
    fn number(&mut self, local: Option<Local>) -> u16 {
        match local {
            Some(local) if local.is_group => GROUP,
            Some(local) if self.address.ip().is_unspecified() => self.locals.number(local.ip),
            _ => 0,
        }
    }

    fn receive(&mut self, sink: &mut dyn FnMut(UdpAddress, Bytes)) -> io::Result<()> {
        let got = self.inbox.receive(&self.socket)?;
        let (mut received, mut refused, mut bytes_received) = (0, 0, 0);
        for n in 0..got {
            let Some((origin, _)) = self.inbox.get(n) else {
                continue;
            };
            let peer = canonical(origin.peer);
            if !self.access.allow(peer.ip()) {
                refused += 1;
                continue;
            }
            let local = self.number(origin.local);
            let Some((_, bytes)) = self.inbox.get(n) else {
                continue;
            };
            received += 1;
            bytes_received += bytes.len();
            // Messages live for long; the room is used again at once.
            sink(UdpAddress::new(peer, local), Bytes::copy_from_slice(bytes));
        }
        self.count(Counter::Received, received);
        self.count(Counter::BytesReceived, bytes_received);
        self.count(Counter::Refused, refused);
        if let Some(dropped) = self.inbox.dropped() {
            let unread = self.unread_before + u64::from(dropped);
            self.stats.set(Counter::Unread as usize, unread);
        }
        Ok(())
    }

    fn push(&mut self, to: SocketAddr, from: Option<IpAddr>, interface: u32, bytes: &[u8]) {
        self.outbox.bytes.extend_from_slice(bytes);
        self.outbox.queue.push_back(Queued {
            to,
            from,
            interface,
            len: bytes.len(),
        });
    }
}

impl DatagramTransport for UdpTransport {
    type Address = UdpAddress;

    fn poll_receive(&mut self, cx: &mut Context<'_>, sink: &mut dyn FnMut(UdpAddress, Bytes)) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        loop {
            let ready = ready!(self.socket.poll_recv_ready(cx));
            match ready.and_then(|()| self.receive(sink)) {
                Ok(()) => {
                    if std::mem::take(&mut self.deaf) {
                        self.stats.set_down(false);
                        tracing::info!(listener = %self.name, "datagrams are received again");
                    }
                    return Poll::Ready(());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Of a datagram of ours that somebody did not want.
                Err(error) if is_of_a_peer(&error) => self.count(Counter::Errors, 1),
                Err(error) => {
                    self.count(Counter::Errors, 1);
                    if !std::mem::replace(&mut self.deaf, true) {
                        self.stats.set_down(true);
                        tracing::warn!(listener = %self.name, %error, "cannot receive datagrams for now");
                    }
                    let pause = self.pause.insert(Box::pin(tokio::time::sleep(PAUSE)));
                    ready!(pause.as_mut().poll(cx));
                    self.pause = None;
                }
            }
        }
    }

    fn send(&mut self, to: Destination<UdpAddress>, bytes: &[u8]) {
        match to {
            Destination::To(address) => {
                let from = self.locals.of(address.local);
                self.push(address.peer(), from, 0, bytes);
            }
            Destination::Broadcast => {
                for n in 0..self.broadcast_to.len() {
                    let (to, interface) = self.broadcast_to[n];
                    self.push(to, None, interface, bytes);
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.outbox.bytes.len() < HIGH_WATER
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let v6 = self.address.is_ipv6();
        while !self.outbox.queue.is_empty() {
            let sent = match ready!(self.socket.poll_send_ready(cx)) {
                Ok(()) => system::send(&self.socket, v6, self.outbox.packets()),
                Err(error) => Err(error),
            };
            match sent {
                Ok(count) => {
                    let bytes = self.outbox.drop_first(count);
                    self.count(Counter::Sent, count);
                    self.count(Counter::BytesSent, bytes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // No way there, or too long for it: the peer will ask again, or not.
                Err(error) => {
                    let to = self.outbox.queue[0].to;
                    tracing::debug!(listener = %self.name, %to, %error, "datagram not sent");
                    self.outbox.drop_first(1);
                    self.count(Counter::Unsent, 1);
                }
            }
        }
        Poll::Ready(())
    }

    fn info(&self, at: Option<UdpAddress>) -> ConnectionInfo {
        // Who has no address is as far away as anybody may be that can reach us.
        let peer = at.map_or(self.address, |at| at.peer());
        let local = at.and_then(|at| self.locals.of(at.local));
        let local = local.map(|ip| SocketAddr::new(ip, self.address.port()));
        ConnectionInfo {
            local: Some(local.unwrap_or(self.address)),
            mount_point: self.mount_point.clone(),
            forgeable: UdpAddress::FORGEABLE,
            ..ConnectionInfo::new(Arc::clone(&self.name), PeerAddr::Ip(canonical(peer)))
        }
    }

    fn places(&self) -> Option<Arc<dyn Places<UdpAddress>>> {
        Some(Arc::new(UdpPlaces {
            name: Arc::clone(&self.name),
            locals: Arc::clone(&self.locals),
            is_for_all: self.address.ip().is_unspecified(),
            access: self.access.clone(),
        }))
    }

    fn stats(&self) -> &Arc<DatagramStats> {
        &self.stats
    }

    fn describe(&self) -> (&str, String) {
        (&self.name, self.address.to_string())
    }
}

impl Outbox {
    fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        let mut rest = &self.bytes[..];
        self.queue.iter().map(move |queued| {
            let (bytes, behind) = rest.split_at(queued.len);
            rest = behind;
            Packet {
                to: queued.to,
                from: queued.from,
                interface: queued.interface,
                bytes,
            }
        })
    }

    /// How many bytes those had.
    fn drop_first(&mut self, count: usize) -> usize {
        let bytes = self.queue.drain(..count).map(|queued| queued.len).sum();
        self.bytes.advance(bytes);
        bytes
    }
}

/// The socket, and where what is for everybody goes.
fn open(settings: &UdpSettings) -> io::Result<(Socket, Vec<(SocketAddr, u32)>)> {
    let address = parse_address(&settings.bind)?;
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(settings.ipv6_only)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_broadcast(true)?;
    if settings.receive_buffer_bytes > 0 {
        system::set_receive_buffer(&socket, settings.receive_buffer_bytes)?;
    }
    system::configure(&socket, address.is_ipv6())?;
    socket.bind(&address.into())?;
    let port = socket.local_addr()?.as_socket().map_or(0, |bound| bound.port());
    let interfaces = match &settings.multicast {
        Some(multicast) => join(&socket, multicast, address)?,
        None => Vec::new(),
    };
    Ok((socket, broadcast_to(settings, port, &interfaces)))
}

/// Where what is for everybody goes, and through which interface.
fn broadcast_to(settings: &UdpSettings, port: u16, interfaces: &[u32]) -> Vec<(SocketAddr, u32)> {
    let to = settings.broadcast_to.or_else(|| {
        let multicast = settings.multicast.as_ref()?;
        Some(SocketAddr::new(multicast.group, port))
    });
    match to {
        None => Vec::new(),
        Some(to) if to.ip().is_multicast() && !interfaces.is_empty() => {
            interfaces.iter().map(|interface| (to, *interface)).collect()
        }
        Some(to) => vec![(to, 0)],
    }
}

fn tell_of_small_room(name: &str, socket: &Socket, settings: &UdpSettings) -> io::Result<()> {
    let (wanted, got) = (settings.receive_buffer_bytes, socket.recv_buffer_size()?);
    if got < wanted {
        tracing::info!(
            listener = name,
            wanted,
            got,
            "the system gives a smaller receive buffer than receive_buffer_bytes asks for"
        );
    }
    Ok(())
}

/// Whether the system gives us such a socket. Where somebody has the port already, all but the port is tried.
pub(crate) fn try_open(settings: &UdpSettings) -> io::Result<()> {
    let without_port = |error: io::Error| {
        let mut address = parse_address(&settings.bind)?;
        if error.kind() != ErrorKind::AddrInUse || address.port() == 0 {
            return Err(error);
        }
        address.set_port(0);
        let bind = address.to_string();
        open(&UdpSettings {
            bind,
            ..settings.clone()
        })
    };
    open(settings).or_else(without_port).map(drop)
}

fn interface_numbers(settings: &MulticastSettings) -> io::Result<Vec<u32>> {
    settings
        .interfaces
        .iter()
        .map(|name| interface_number(name))
        .collect()
}

/// The one that the system chooses, where none is named.
fn or_any(interfaces: &[u32]) -> &[u32] {
    match interfaces {
        [] => &[0],
        named => named,
    }
}

/// Leaves the group. One that was not joined, for its interface is gone, is left by that.
fn leave(socket: &Socket, settings: &MulticastSettings) {
    let interfaces = interface_numbers(settings).unwrap_or_default();
    for interface in or_any(&interfaces) {
        let _ = match settings.group {
            IpAddr::V4(group) => {
                socket.leave_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(*interface))
            }
            IpAddr::V6(group) => socket.leave_multicast_v6(&group, *interface),
        };
    }
}

/// Joins the group; the numbers of the interfaces on which it is joined.
fn join(socket: &Socket, settings: &MulticastSettings, bind: SocketAddr) -> io::Result<Vec<u32>> {
    let wrong = |what: &str| io::Error::new(ErrorKind::InvalidInput, what.to_owned());
    if !settings.group.is_multicast() {
        return Err(wrong("multicast.group is no multicast address"));
    }
    if !bind.ip().is_unspecified() || bind.is_ipv4() != settings.group.is_ipv4() {
        return Err(wrong(
            "for a multicast group the socket must be bound to 0.0.0.0, or to [::] for one of IPv6",
        ));
    }
    let interfaces = interface_numbers(settings)?;
    let all = or_any(&interfaces);
    match settings.group {
        IpAddr::V4(group) => {
            for interface in all {
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(*interface))?;
            }
            socket.set_multicast_ttl_v4(settings.hops.into())?;
            // Not what other programs of this machine have joined.
            #[cfg(target_os = "linux")]
            socket.set_multicast_all_v4(false)?;
        }
        IpAddr::V6(group) => {
            for interface in all {
                socket.join_multicast_v6(&group, *interface)?;
            }
            socket.set_multicast_hops_v6(settings.hops.into())?;
            #[cfg(target_os = "linux")]
            socket.set_multicast_all_v6(false)?;
        }
    }
    Ok(interfaces)
}

/// The system's resolver knows the names of interfaces: it is asked for a link-local address with that scope.
pub(crate) fn interface_number(name: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match parse_address(&format!("[fe80::1%{name}]:1")) {
        Ok(SocketAddr::V6(address)) if address.scope_id() != 0 => Ok(address.scope_id()),
        _ => Err(io::Error::new(
            ErrorKind::NotFound,
            format!("there is no interface `{name}`"),
        )),
    }
}

fn is_of_a_peer(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | Interrupted
    )
}

/// As an IPv6 socket wants it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        v6 => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place is found again by another socket of the same listener, with the address of ours that was spoken to; by that of another listener not.
    #[test]
    fn places_are_found_again_after_a_restart() {
        let places = |name: &str, is_for_all| UdpPlaces {
            name: name.into(),
            locals: Arc::default(),
            is_for_all,
            access: AddressRules::default(),
        };
        let (before, after) = (places("coap", true), places("coap", true));
        let local: IpAddr = "192.0.2.9".parse().unwrap();
        before.locals.number("192.0.2.8".parse().unwrap());
        for (peer, local) in [
            ("192.0.2.1:5683", Some(local)),
            ("[fe80::1%3]:4", Some("fe80::2".parse().unwrap())),
            ("[2001:db8::1]:65535", None),
        ] {
            let peer: SocketAddr = peer.parse().unwrap();
            let number = local.map_or(0, |ip| before.locals.number(ip));
            let kept = before.keep(UdpAddress::new(peer, number)).unwrap();
            let found = after.find(&kept).unwrap();
            assert_eq!((found.peer(), after.locals.of(found.local)), (peer, local));
            assert_eq!(places("other", true).find(&kept), None);
            assert_eq!(places("coap", false).find(&kept).unwrap().local, 0);
            let nobody = UdpPlaces {
                access: AddressRules(vec!["deny all".parse().unwrap()]),
                ..places("coap", true)
            };
            assert_eq!(nobody.find(&kept), None);
            for end in 0..kept.len() {
                let cut = after.find(&kept[..end]);
                assert!(cut.is_none_or(|cut| cut.local == 0 && end + 16 == kept.len()));
            }
        }
    }

    #[test]
    fn an_address_is_what_it_was() {
        for text in ["192.0.2.7:1884", "[2001:db8::7]:1", "[fe80::1%3]:65535"] {
            let peer = parse_address(text).unwrap();
            assert_eq!(UdpAddress::new(peer, 0).peer(), peer);
        }
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:1884".parse().unwrap();
        let address = UdpAddress::new(mapped, 0);
        assert_eq!(address.peer(), "192.0.2.7:1884".parse().unwrap());
        assert_eq!(address, UdpAddress::new(address.peer(), 0));
        assert_ne!(
            address,
            UdpAddress::new(address.peer(), 1),
            "it speaks to another of ours"
        );
    }

    /// What other systems than Linux use does the same, but for the address that is answered from.
    #[tokio::test]
    async fn datagrams_go_out_and_come_in_one_by_one() {
        let socket = UdpSocket::bind("[::]:0").await.unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut outbox = Outbox::default();
        for text in ["one", "two"] {
            outbox.bytes.extend_from_slice(text.as_bytes());
            outbox.queue.push_back(Queued {
                to: peer.local_addr().unwrap(),
                from: None,
                interface: 0,
                len: text.len(),
            });
        }
        while !outbox.queue.is_empty() {
            socket.writable().await.unwrap();
            let sent = plain::send(&socket, true, outbox.packets()).unwrap();
            outbox.drop_first(sent);
        }
        let mut bytes = [0; 16];
        for text in ["one", "two"] {
            let (len, from) = peer.recv_from(&mut bytes).await.unwrap();
            assert_eq!(&bytes[..len], text.as_bytes());
            peer.send_to(&bytes[..len], from).await.unwrap();
        }
        let mut inbox = plain::Inbox::new();
        for text in ["one", "two"] {
            loop {
                socket.readable().await.unwrap();
                match inbox.receive(&socket) {
                    Ok(got) => break assert_eq!(got, 1),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            let (origin, bytes) = inbox.get(0).unwrap();
            assert_eq!(bytes, text.as_bytes());
            assert_eq!(canonical(origin.peer), peer.local_addr().unwrap());
        }
    }
}
