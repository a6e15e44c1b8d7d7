//! Lines for a syslog server: RFC 5424, over UDP (RFC 5426), TCP (RFC 6587 §3.4.1, each message with its length in front) or a Unix-domain socket.

use super::destination::Sink;
use super::line::Line;
use crate::config::SyslogSettings;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::time::Duration;
use tracing::Level;

/// How long connecting or writing may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The port of syslog, over UDP and, by habit, over TCP.
const PORT: u16 = 514;

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SyslogAddress {
    /// `udp://HOST[:PORT]`
    Udp(String, u16),
    /// `tcp://HOST[:PORT]`
    Tcp(String, u16),
    /// `unix:PATH`
    Unix(PathBuf),
}

impl SyslogAddress {
    /// `None` for what is no address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Self::Unix(path.into()));
        }
        let (scheme, place) = text.split_once("://")?;
        let (host, port) = match place.rsplit_once(':') {
            // An IPv6 address without a port ends in a bracket.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (place, PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        match scheme {
            _ if host.is_empty() => None,
            "udp" => Some(Self::Udp(host, port)),
            "tcp" => Some(Self::Tcp(host, port)),
            _ => None,
        }
    }
}

/// See the module.
pub(super) struct SyslogSink {
    settings: SyslogSettings,
    host: String,
    open: Option<Open>,
}

enum Open {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Datagram(UnixDatagram),
    Stream(UnixStream),
}

impl SyslogSink {
    /// Connects with the first line.
    pub(super) fn new(settings: SyslogSettings) -> Self {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let is_printable = |c: char| c.is_ascii_graphic();
        let host = match host.chars().all(is_printable) && !host.is_empty() {
            true => host.chars().take(255).collect(),
            false => "-".to_owned(),
        };
        Self {
            settings,
            host,
            open: None,
        }
    }

    fn connect(&self) -> io::Result<Open> {
        let address = SyslogAddress::parse(&self.settings.address);
        match address.ok_or(ErrorKind::AddrNotAvailable)? {
            SyslogAddress::Udp(host, port) => {
                let to = resolve(&host, port)?;
                let any: SocketAddr = match to.is_ipv4() {
                    true => ([0; 4], 0).into(),
                    false => ([0_u16; 8], 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(to)?;
                Ok(Open::Udp(socket))
            }
            SyslogAddress::Tcp(host, port) => {
                let stream = TcpStream::connect_timeout(&resolve(&host, port)?, PATIENCE)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Open::Tcp(stream))
            }
            SyslogAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                match socket.connect(&path) {
                    Ok(()) => Ok(Open::Datagram(socket)),
                    // It takes streams.
                    Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => {
                        let stream = UnixStream::connect(path)?;
                        stream.set_write_timeout(Some(PATIENCE))?;
                        Ok(Open::Stream(stream))
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }
}

fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let found = (host, port).to_socket_addrs()?.next();
    found.ok_or_else(|| ErrorKind::AddrNotAvailable.into())
}

impl Sink for SyslogSink {
    fn write(&mut self, line: &Line) -> io::Result<()> {
        let message = message(line, self.settings.facility as u8, &self.host);
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.connect()?,
        };
        match &mut open {
            Open::Udp(socket) => drop(sent(socket.send(message.as_bytes()))?),
            Open::Datagram(socket) => drop(sent(socket.send(message.as_bytes()))?),
            Open::Tcp(stream) => counted(stream, &message)?,
            Open::Stream(stream) => counted(stream, &message)?,
        }
        self.open = Some(open);
        Ok(())
    }
}

/// A datagram that is too long will not be shorter the next time.
fn sent(result: io::Result<usize>) -> io::Result<usize> {
    result.map_err(|error| match error.raw_os_error() {
        Some(libc::EMSGSIZE) => io::Error::new(ErrorKind::InvalidInput, error),
        _ => error,
    })
}

fn counted(stream: &mut impl Write, message: &str) -> io::Result<()> {
    stream.write_all(format!("{} {message}", message.len()).as_bytes())
}

/// RFC 5424 §6: `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG`.
fn message(line: &Line, facility: u8, host: &str) -> String {
    let priority = facility * 8 + severity(line.level);
    let stamp = line.stamp();
    let process = std::process::id();
    format!(
        "<{priority}>1 {stamp} {host} headgate {process} - - {}: {}",
        line.target,
        line.message()
    )
}

/// RFC 5424 §6.2.1, table 2.
pub(super) fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Facility;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn addresses_are_read() {
        let udp = |host: &str, port| Some(SyslogAddress::Udp(host.into(), port));
        assert_eq!(SyslogAddress::parse("udp://10.0.0.1"), udp("10.0.0.1", 514));
        assert_eq!(SyslogAddress::parse("udp://[fd00::1]:1514"), udp("fd00::1", 1514));
        assert_eq!(SyslogAddress::parse("udp://[fd00::1]"), udp("fd00::1", 514));
        assert_eq!(
            SyslogAddress::parse("tcp://logs.example:601"),
            Some(SyslogAddress::Tcp("logs.example".into(), 601))
        );
        assert_eq!(
            SyslogAddress::parse("unix:/dev/log"),
            Some(SyslogAddress::Unix("/dev/log".into()))
        );
        for wrong in ["", "logs.example", "http://a", "udp://", "tcp://a:b", "unix:"] {
            assert_eq!(SyslogAddress::parse(wrong), None, "{wrong}");
        }
    }

    fn sink(address: String) -> SyslogSink {
        SyslogSink::new(SyslogSettings {
            address,
            facility: Facility::Local3,
        })
    }

    /// Facility local3 is 19, warning is 4: 19 · 8 + 4.
    #[test]
    fn a_line_is_one_datagram_over_udp() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sink = sink(format!("udp://{}", server.local_addr().unwrap()));
        sink.write(&Line::of_loss(7)).unwrap();
        let mut bytes = [0; 2_048];
        let n = server.recv(&mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..n]).unwrap();
        let fields: Vec<&str> = text.splitn(8, ' ').collect();
        assert_eq!((fields[0], fields[3]), ("<156>1", "headgate"), "{text}");
        assert!(
            fields[1].ends_with('Z') && fields[7].ends_with(" lost=7"),
            "{text}"
        );
    }

    #[test]
    fn over_tcp_each_line_has_its_length_in_front_and_another_server_is_found() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let mut sink = sink(format!("tcp://{address}"));
        sink.write(&Line::of_loss(1)).unwrap();
        sink.write(&Line::of_loss(2)).unwrap();
        let (mut stream, _) = server.accept().unwrap();
        sink.open = None;
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let mut rest = &*text;
        for n in 1..=2 {
            let (length, behind) = rest.split_once(' ').unwrap();
            let (line, next) = behind.split_at(length.parse().unwrap());
            assert!(line.ends_with(&format!("lost={n}")), "{line}");
            rest = next;
        }
        assert_eq!(rest, "");
        drop(server);
        assert!(sink.write(&Line::of_loss(3)).is_err());
        let _server = TcpListener::bind(address).unwrap();
        sink.write(&Line::of_loss(3)).unwrap();
    }
}
