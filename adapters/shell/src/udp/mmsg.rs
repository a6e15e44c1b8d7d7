//! Many datagrams with one system call, and the address of ours that each came to: `recvmmsg`, `sendmmsg` and `IP_PKTINFO` of Linux.
//!
//! Always true: what the system wrote is looked at only as far as it says that it wrote; a control message is read only if it is as long as what is read.

#![allow(
    unsafe_code,
    reason = "neither the standard library nor socket2 has these calls; each block says why it is sound"
)]
#![allow(
    clippy::unnecessary_cast,
    reason = "the same fields are wider or narrower with other C libraries"
)]

use super::{Local, Origin, Packet, mapped};
use socket2::{SockAddr, SockAddrStorage, Socket};
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Datagrams with one call, at most.
const BATCH: usize = 32;

/// Bytes that a datagram can have.
const LONGEST: usize = 65_535;

/// Room for the control messages of one datagram: an address of ours, and the count of what was dropped.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 96]);

/// Room for what is received. Memory is used only as far as datagrams are long.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    lens: [usize; BATCH],
    origins: [Option<Origin>; BATCH],
    dropped: Option<u32>,
}

/// Lets the system tell to which of our addresses a datagram came, and how many it had to drop.
pub(super) fn configure(socket: &Socket, v6: bool) -> io::Result<()> {
    // So that datagrams dropped for want of room are seen.
    set_option(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    if v6 {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    } else {
        set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    }
}

/// As much room for datagrams that wait as wanted, even beyond what the system allows everybody, if we may.
pub(super) fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    let wanted = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, wanted).is_ok() {
        return Ok(());
    }
    socket.set_recv_buffer_size(bytes)
}

fn set_option(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let value = std::ptr::from_ref(&value).cast();
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as the socket is borrowed, and `value` points to `len` bytes.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value, len) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; BATCH * LONGEST],
            lens: [0; BATCH],
            origins: [None; BATCH],
            dropped: None,
        }
    }

    /// Takes what is there, up to [`BATCH`] datagrams. How many.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        socket.try_io(Interest::READABLE, || self.receive_now(socket))
    }

    fn receive_now(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        // SAFETY: all four are plain data for which zeros are a value.
        let mut names: [libc::sockaddr_storage; BATCH] = unsafe { zeroed() };
        let mut controls = [Control([0; 96]); BATCH];
        // SAFETY: as above.
        let mut vectors: [libc::iovec; BATCH] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        for (n, room) in self.bytes.chunks_exact_mut(LONGEST).enumerate() {
            vectors[n].iov_base = room.as_mut_ptr().cast();
            vectors[n].iov_len = room.len();
            let header = &mut headers[n].msg_hdr;
            header.msg_name = std::ptr::from_mut(&mut names[n]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[n];
            header.msg_iovlen = 1;
            header.msg_control = controls[n].0.as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        // SAFETY: every header points to one name, one vector and one block of control messages with the lengths given, all of which live until the
        // call returns and are used by nobody else meanwhile.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        for (n, header) in headers[..got].iter().enumerate() {
            self.lens[n] = (header.msg_len as usize).min(LONGEST);
            let (local, dropped) = controls_of(&header.msg_hdr);
            if dropped.is_some() {
                self.dropped = dropped;
            }
            let peer = address_of(&names[n], header.msg_hdr.msg_namelen);
            self.origins[n] = peer.map(|peer| Origin { peer, local });
        }
        Ok(got)
    }

    /// A datagram of the last batch; `None` if the system does not say whose it is.
    pub(super) fn get(&self, n: usize) -> Option<(Origin, &[u8])> {
        let bytes = &self.bytes[n * LONGEST..][..self.lens[n]];
        self.origins[n].map(|origin| (origin, bytes))
    }

    /// How many datagrams the system has dropped so far for want of room, if it has said.
    pub(super) fn dropped(&self) -> Option<u32> {
        self.dropped
    }
}

fn address_of(name: &libc::sockaddr_storage, len: libc::socklen_t) -> Option<SocketAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: both are the system's `sockaddr_storage`.
    unsafe { *storage.view_as::<libc::sockaddr_storage>() = *name };
    // SAFETY: the system has written an address of this length.
    unsafe { SockAddr::new(storage, len) }.as_socket()
}

/// Which address of ours a datagram came to, and what was dropped.
fn controls_of(header: &libc::msghdr) -> (Option<Local>, Option<u32>) {
    let (mut local, mut dropped) = (None, None);
    // SAFETY: `header` describes control messages that the system wrote, in memory that lives.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: the macros give null or a pointer to a whole header inside the control messages.
    while let Some(message) = unsafe { next.as_ref() } {
        // SAFETY: `next` is a header inside the control messages.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: it takes a number and gives one.
        let head = unsafe { libc::CMSG_LEN(0) } as usize;
        let len = (message.cmsg_len as usize).saturating_sub(head);
        match (message.cmsg_level, message.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if len >= size_of::<libc::in_pktinfo>() => {
                // SAFETY: there are enough bytes, and any are a value.
                let info: libc::in_pktinfo = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                let ip = IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)));
                // Where to answer from is another address only if the datagram was for several: a group, everybody, all of one network.
                let (to, ours) = (info.ipi_addr.s_addr, info.ipi_spec_dst.s_addr);
                local = Some(Local {
                    ip,
                    interface: info.ipi_ifindex as u32,
                    is_group: is_for_several(ip) || ours != 0 && ours != to,
                });
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if len >= size_of::<libc::in6_pktinfo>() => {
                // SAFETY: there are enough bytes, and any are a value.
                let info: libc::in6_pktinfo = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                let ip = IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)).to_canonical();
                local = Some(Local {
                    ip,
                    interface: info.ipi6_ifindex as u32,
                    is_group: is_for_several(ip),
                });
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) if len >= size_of::<u32>() => {
                // SAFETY: there are enough bytes, and any are a value.
                dropped = Some(unsafe { data.cast::<u32>().read_unaligned() });
            }
            _ => {}
        }
        // SAFETY: `next` is a header inside the control messages of `header`.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    (local, dropped)
}

/// Whether the address alone says that it is a group's, or everybody's.
fn is_for_several(ip: IpAddr) -> bool {
    ip.is_multicast() || matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}

/// Sends the first of these, up to [`BATCH`]. How many the system took; an error is that of the first one.
pub(super) fn send<'a>(
    socket: &UdpSocket,
    v6: bool,
    packets: impl Iterator<Item = Packet<'a>>,
) -> io::Result<usize> {
    socket.try_io(Interest::WRITABLE, || send_now(socket, v6, packets))
}

fn send_now<'a>(
    socket: &UdpSocket,
    v6: bool,
    packets: impl Iterator<Item = Packet<'a>>,
) -> io::Result<usize> {
    let mut names: [Option<SockAddr>; BATCH] = [const { None }; BATCH];
    let mut controls = [Control([0; 96]); BATCH];
    // SAFETY: both are plain data for which zeros are a value.
    let mut vectors: [libc::iovec; BATCH] = unsafe { zeroed() };
    // SAFETY: as above.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    let mut count = 0;
    for (n, packet) in packets.take(BATCH).enumerate() {
        let to = if v6 { mapped(packet.to) } else { packet.to };
        let name = names[n].insert(SockAddr::from(to));
        // The system only reads what it sends.
        vectors[n].iov_base = packet.bytes.as_ptr().cast_mut().cast();
        vectors[n].iov_len = packet.bytes.len();
        let header = &mut headers[n].msg_hdr;
        header.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_namelen = name.len();
        header.msg_iov = &raw mut vectors[n];
        header.msg_iovlen = 1;
        if packet.from.is_some() || packet.interface != 0 {
            header.msg_control = controls[n].0.as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>() as _;
            let len = tell_source(header, v6, packet.from, packet.interface);
            header.msg_controllen = len as _;
        }
        count = n + 1;
    }
    // SAFETY: `count` headers point to names, vectors and control messages that live until the call returns, and to bytes that are borrowed by `packets`
    // for at least as long as this function runs.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT as _,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Writes the control message that says from which of our addresses, and through which interface, a datagram goes. How many bytes it has.
fn tell_source(header: &libc::msghdr, v6: bool, from: Option<IpAddr>, interface: u32) -> usize {
    if v6 {
        let ip = match from {
            Some(IpAddr::V4(ip)) => ip.to_ipv6_mapped(),
            Some(IpAddr::V6(ip)) => ip,
            None => Ipv6Addr::UNSPECIFIED,
        };
        let info = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
            ipi6_ifindex: interface,
        };
        put(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
    } else {
        let ip = match from {
            Some(IpAddr::V4(ip)) => ip,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let info = libc::in_pktinfo {
            ipi_ifindex: interface as libc::c_int,
            ipi_spec_dst: libc::in_addr {
                s_addr: u32::from(ip).to_be(),
            },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        put(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
    }
}

/// Writes the one control message of `header`, whose room is a whole [`Control`].
fn put<T>(header: &libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    let len = size_of::<T>() as libc::c_uint;
    // SAFETY: they take a number and give one.
    let (space, whole) = unsafe { (libc::CMSG_SPACE(len) as usize, libc::CMSG_LEN(len)) };
    assert!(space <= size_of::<Control>(), "a control message fits");
    // SAFETY: `header` has room for a control message of this size, so the first header is there and so is what follows it; the room is aligned for it.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        (*first).cmsg_level = level;
        (*first).cmsg_type = kind;
        (*first).cmsg_len = whole as _;
        libc::CMSG_DATA(first).cast::<T>().write_unaligned(value);
    }
    space
}
