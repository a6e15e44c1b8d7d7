//! One UDP socket that speaks for a million addresses of the loopback: each datagram goes out from, and is told to have come to, an address of
//! 127/8 of its own. Many at a time, so that the system is called once for all of them. ip(7), sendmmsg(2), recvmmsg(2)
#![allow(
    unsafe_code,
    reason = "the standard library has neither control messages nor calls for many datagrams"
)]

use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

/// Datagrams that are handed to the system, or taken from it, at a time.
const BATCH: usize = 64;

/// The longest datagram that a gateway sends us.
const MAX_DATAGRAM: usize = 2_048;

/// For what comes while we are busy sending.
const BUFFER: usize = 4 << 20;

/// How long [`SnSocket::recv`] waits.
const PATIENCE: Duration = Duration::from_millis(5);

/// Room for one control message with an address, and to spare.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

const _: () = assert!(size_of::<libc::cmsghdr>() + size_of::<libc::in_pktinfo>() <= 64);
const _: () = assert!(align_of::<libc::cmsghdr>() <= align_of::<Control>());

/// Datagrams that wait to be sent, each from its own address.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// Where each begins, and from where it goes.
    datagrams: Vec<(usize, Ipv4Addr)>,
}

impl Outbox {
    /// A datagram from this address.
    pub(super) fn push(&mut self, from: Ipv4Addr, datagram: &[u8]) {
        self.datagrams.push((self.bytes.len(), from));
        self.bytes.extend_from_slice(datagram);
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// None waits any more.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.datagrams.clear();
    }

    /// The one with this number, and from where it goes.
    pub(super) fn datagram(&self, n: usize) -> (Ipv4Addr, &[u8]) {
        let (start, from) = self.datagrams[n];
        let end = self.datagrams.get(n + 1).map_or(self.bytes.len(), |next| next.0);
        (from, &self.bytes[start..end])
    }
}

/// The socket.
pub(super) struct SnSocket {
    socket: Socket,
    gateway: libc::sockaddr_in,
    incoming: Box<[[u8; MAX_DATAGRAM]; BATCH]>,
    control: Box<[Control; BATCH]>,
}

impl SnSocket {
    /// Opens it. Everything goes to this gateway.
    pub(super) fn open(gateway: SocketAddrV4) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // As much as the system allows.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        socket.set_read_timeout(Some(PATIENCE))?;
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, and the option is an int of the length that is told.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_PKTINFO,
                ptr::from_ref(&on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        Ok(Self {
            socket,
            gateway: libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: gateway.port().to_be(),
                sin_addr: in_addr(*gateway.ip()),
                sin_zero: [0; 8],
            },
            incoming: Box::new([[0; MAX_DATAGRAM]; BATCH]),
            control: Box::new([Control([0; 64]); BATCH]),
        })
    }

    /// Sends all that waits.
    pub(super) fn send(&mut self, outbox: &mut Outbox) -> io::Result<()> {
        let mut at = 0;
        while at < outbox.len() {
            match self.send_some(outbox, at) {
                Ok(sent) => at += sent,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The way is full: it will not be for long.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => std::thread::yield_now(),
                Err(error) => return Err(error),
            }
        }
        outbox.clear();
        Ok(())
    }

    fn send_some(&mut self, outbox: &Outbox, start: usize) -> io::Result<usize> {
        let count = BATCH.min(outbox.len() - start);
        // SAFETY: both are plain data, for which all zeros is a value.
        let (mut headers, mut slices): ([libc::mmsghdr; BATCH], [libc::iovec; BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        for n in 0..count {
            let (from, datagram) = outbox.datagram(start + n);
            slices[n] = libc::iovec {
                iov_base: datagram.as_ptr().cast_mut().cast(),
                iov_len: datagram.len(),
            };
            let header = &mut headers[n].msg_hdr;
            header.msg_name = ptr::from_mut(&mut self.gateway).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = &mut slices[n];
            header.msg_iovlen = 1;
            header.msg_control = self.control[n].0.as_mut_ptr().cast();
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: in_addr(from),
                ipi_addr: in_addr(Ipv4Addr::UNSPECIFIED),
            };
            let len = size_of::<libc::in_pktinfo>() as u32;
            // SAFETY: the control buffer is aligned for a header and has room for it and what follows, as the assertions above say.
            unsafe {
                header.msg_controllen = libc::CMSG_SPACE(len) as _;
                let control = libc::CMSG_FIRSTHDR(header);
                (*control).cmsg_level = libc::IPPROTO_IP;
                (*control).cmsg_type = libc::IP_PKTINFO;
                (*control).cmsg_len = libc::CMSG_LEN(len) as _;
                libc::CMSG_DATA(control)
                    .cast::<libc::in_pktinfo>()
                    .write_unaligned(info);
            }
        }
        // SAFETY: the first `count` headers point at slices, addresses and control messages that outlive the call; none of it is written to.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count as libc::c_uint,
                0,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Hands over what came, with the address that it came to; waits a little when nothing is there. How many.
    pub(super) fn recv(&mut self, mut take: impl FnMut(Ipv4Addr, &[u8])) -> io::Result<usize> {
        // SAFETY: both are plain data, for which all zeros is a value.
        let (mut headers, mut slices): ([libc::mmsghdr; BATCH], [libc::iovec; BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        for n in 0..BATCH {
            slices[n] = libc::iovec {
                iov_base: self.incoming[n].as_mut_ptr().cast(),
                iov_len: MAX_DATAGRAM,
            };
            let header = &mut headers[n].msg_hdr;
            header.msg_iov = &mut slices[n];
            header.msg_iovlen = 1;
            header.msg_control = self.control[n].0.as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        // SAFETY: all headers point at buffers of the lengths that are told, which outlive the call.
        let came = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        let Ok(came) = usize::try_from(came) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        };
        for (header, buffer) in headers.iter().zip(self.incoming.iter()).take(came) {
            let len = (header.msg_len as usize).min(MAX_DATAGRAM);
            if let Some(to) = destination(&header.msg_hdr) {
                take(to, &buffer[..len]);
            }
        }
        Ok(came)
    }
}

/// The address that a datagram was sent to.
fn destination(header: &libc::msghdr) -> Option<Ipv4Addr> {
    // SAFETY: the system filled the header in; its control buffer is still there, and is walked by the system's own rules.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = control.as_ref() {
            if (message.cmsg_level, message.cmsg_type) == (libc::IPPROTO_IP, libc::IP_PKTINFO) {
                let info = libc::CMSG_DATA(control)
                    .cast::<libc::in_pktinfo>()
                    .read_unaligned();
                return Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()));
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from_ne_bytes(address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    /// The gateway sees as many addresses as there are sensors; what it answers comes back to the right one. More than one batch.
    #[test]
    fn each_datagram_has_its_own_address() {
        let gateway = UdpSocket::bind("127.0.0.1:0").unwrap();
        gateway.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let SocketAddr::V4(address) = gateway.local_addr().unwrap() else {
            panic!("bound to one")
        };
        let mut socket = SnSocket::open(address).unwrap();
        let mut outbox = Outbox::default();
        let sensors: Vec<Ipv4Addr> = (0..150).map(|n| Ipv4Addr::new(127, 1, n, 255 - n)).collect();
        for (n, sensor) in sensors.iter().enumerate() {
            outbox.push(*sensor, &[n as u8; 3][..n % 4]);
        }
        let sent: Vec<(Ipv4Addr, Vec<u8>)> = (0..outbox.len())
            .map(|n| outbox.datagram(n))
            .map(|(from, datagram)| (from, datagram.to_vec()))
            .collect();
        socket.send(&mut outbox).unwrap();
        assert_eq!(outbox.len(), 0);
        let mut seen = Vec::new();
        for _ in &sensors {
            let mut buffer = [0; 16];
            let (len, from) = gateway.recv_from(&mut buffer).unwrap();
            let SocketAddr::V4(v4) = from else {
                panic!("{from}")
            };
            seen.push((*v4.ip(), buffer[..len].to_vec()));
            gateway.send_to(&v4.ip().octets(), from).unwrap();
        }
        assert_eq!(seen, sent);
        let mut answers = Vec::new();
        while answers.len() < sensors.len() {
            let came = socket
                .recv(|to, datagram| {
                    assert_eq!(datagram, to.octets());
                    answers.push(to);
                })
                .unwrap();
            assert!(came > 0, "the answers were sent before");
        }
        assert_eq!(answers, sensors);
    }
}
