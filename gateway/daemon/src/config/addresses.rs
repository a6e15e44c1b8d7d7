//! Addresses that cannot be listened on at the same time.

use super::Config;
use crate::protocols::{self, Entry};
use headgate_model::Fault;
use headgate_shell::settings::parse_address;
use headgate_shell::{DatagramPlace, ListenerKind};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

/// What somebody listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ListenAddress {
    Tcp(Socket),
    Udp(Socket),
    /// A socket's file, or a serial device.
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Socket {
    address: SocketAddr,
    /// An unspecified IPv6 address takes IPv4 too.
    takes_ipv4: bool,
}

struct User<'a> {
    key: String,
    name: &'a str,
    written: &'a str,
    place: ListenAddress,
}

/// A fault for each that wants what one before it has.
pub(super) fn faults(config: &Config) -> Vec<Fault> {
    let listeners = config.listeners.iter().enumerate().filter_map(|(n, listener)| {
        let place = match listener.kind {
            ListenerKind::Unix => ListenAddress::File(plain(Path::new(&listener.bind))),
            _ => ListenAddress::Tcp(Socket::new(&listener.bind, listener.ipv6_only)?),
        };
        Some(User {
            key: format!("listeners[{n}].bind"),
            name: &listener.name,
            written: &listener.bind,
            place,
        })
    });
    let datagrams: Vec<Entry<'_>> = protocols::datagram_listeners(config).collect();
    let gateways = datagrams.iter().filter_map(|Entry { list, n, listener }| {
        let (key, written, place) = match listener.place()? {
            DatagramPlace::Udp { bind, ipv6_only } => {
                ("bind", bind, ListenAddress::Udp(Socket::new(bind, ipv6_only)?))
            }
            DatagramPlace::Serial(port) => ("serial.port", port, ListenAddress::File(plain(Path::new(port)))),
        };
        Some(User {
            key: format!("{list}[{n}].{key}"),
            name: listener.name(),
            written,
            place,
        })
    });
    let users: Vec<User<'_>> = listeners.chain(gateways).collect();
    let mut faults = Vec::new();
    for (n, user) in users.iter().enumerate() {
        let Some(before) = users[..n]
            .iter()
            .find(|before| before.place.collides(&user.place))
        else {
            continue;
        };
        let (first, second) = (before.name, user.name);
        let what = match (before.written == user.written, &user.place) {
            (true, ListenAddress::File(_)) => format!("`{first}` and `{second}` both want {}", user.written),
            (true, _) => format!("`{first}` and `{second}` both listen on {}", user.written),
            (false, _) => format!(
                "`{second}` wants {}, which `{first}` has with {}",
                user.written, before.written
            ),
        };
        faults.push(Fault::new(user.key.clone(), what));
    }
    faults
}

impl Socket {
    /// `None` for what is no address, and for port 0, where each gets a port of its own.
    fn new(bind: &str, ipv6_only: bool) -> Option<Self> {
        let address = parse_address(bind).ok().filter(|address| address.port() > 0)?;
        Some(Self {
            address,
            takes_ipv4: address.is_ipv6() && address.ip().is_unspecified() && !ipv6_only,
        })
    }

    fn collides(&self, other: &Self) -> bool {
        let covers = |one: &Self, two: &Self| {
            let (ip, other) = (one.address.ip().to_canonical(), two.address.ip().to_canonical());
            let takes_it = ip.is_unspecified() && (ip.is_ipv4() == other.is_ipv4() || one.takes_ipv4);
            takes_it || (ip == other && scope(one) == scope(two))
        };
        self.address.port() == other.address.port() && (covers(self, other) || covers(other, self))
    }
}

/// The interface of a link-local address.
fn scope(socket: &Socket) -> u32 {
    match socket.address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    }
}

impl ListenAddress {
    fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(two)) | (Self::Udp(one), Self::Udp(two)) => one.collides(two),
            (Self::File(one), Self::File(two)) => one == two,
            _ => false,
        }
    }
}

/// The same file under one name: the folder as the system knows it, or at least without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name())
        && let Ok(folder) = folder.canonicalize()
    {
        let path = folder.join(name);
        // A device may have several names.
        return path.canonicalize().unwrap_or(path);
    }
    let mut plain = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(bind: &str) -> ListenAddress {
        ListenAddress::Tcp(Socket::new(bind, false).unwrap())
    }

    /// What the system says of two sockets of one program (Linux, ip(7) and ipv6(7)).
    #[test]
    fn addresses_overlap_as_the_system_sees_it() {
        for (one, two, collide) in [
            ("127.0.0.1:1883", "127.0.0.1:1883", true),
            ("0.0.0.0:1883", "127.0.0.1:1883", true),
            ("0.0.0.0:1883", "127.0.0.1:1884", false),
            ("127.0.0.1:1883", "127.0.0.2:1883", false),
            ("[::]:1883", "0.0.0.0:1883", true),
            ("[::]:1883", "127.0.0.1:1883", true),
            ("[::]:1883", "[::1]:1883", true),
            ("[::1]:1883", "127.0.0.1:1883", false),
            ("[::1]:1883", "0.0.0.0:1883", false),
            ("[::ffff:127.0.0.1]:1883", "127.0.0.1:1883", true),
            ("[fe80::1%1]:1883", "[fe80::1%2]:1883", false),
        ] {
            for (one, two) in [(one, two), (two, one)] {
                assert_eq!(tcp(one).collides(&tcp(two)), collide, "{one} {two}");
            }
        }
        let only = ListenAddress::Tcp(Socket::new("[::]:1883", true).unwrap());
        assert!(!only.collides(&tcp("0.0.0.0:1883")) && only.collides(&tcp("[::1]:1883")));
        let udp = ListenAddress::Udp(Socket::new("127.0.0.1:1883", false).unwrap());
        assert!(!udp.collides(&tcp("127.0.0.1:1883")) && udp.collides(&udp));
        assert_eq!(Socket::new("127.0.0.1:0", false), None);
    }

    #[test]
    fn a_file_has_one_name() {
        let folder = tempfile::tempdir().unwrap();
        let name = |name: &str| plain(&folder.path().join(name));
        std::fs::create_dir(folder.path().join("run")).unwrap();
        std::os::unix::fs::symlink("run", folder.path().join("link")).unwrap();
        assert_eq!(name("run/mqtt.sock"), name("link/../run/./mqtt.sock"));
        assert_eq!(name("run/mqtt.sock"), name("link/mqtt.sock"));
        assert_eq!(name("nowhere/a/../mqtt.sock"), name("nowhere/./mqtt.sock"));
        assert_ne!(name("run/mqtt.sock"), name("run/other.sock"));
    }
}
