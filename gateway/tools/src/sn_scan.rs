//! `headgate sn-scan`: asks for MQTT-SN gateways and listens for those that advertise themselves. §6.1

use super::sn_connection::PORT;
use crate::sn::{SerialTarget, SnError, SnTarget, SnTransport};
use bytes::{Bytes, BytesMut};
use clap::{ArgAction, Args};
use headgate_cli::{Outcome, ValueError, note, runtime, say, say_json};
use headgate_mqttsn_codec::{Message, decode, encode};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::Instant;

/// The question is asked again after this time: it may be lost.
const AGAIN: Duration = Duration::from_secs(1);

/// What is longer is not about gateways.
const MAX_DATAGRAM: usize = 512;

/// Answers that are told; a network has few gateways.
const MAX_FOUND: usize = 10_000;

/// Look for MQTT-SN gateways.
///
/// Asks everybody (SEARCHGW), tells who answers (GWINFO), and who says by itself that it is there (ADVERTISE).
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct SnScanCommand {
    /// Address that reaches everybody on a network.
    #[arg(long, value_name = "ADDRESS", default_value = "255.255.255.255")]
    broadcast: Ipv4Addr,
    /// Group that gateways listen to, such as 225.1.1.1.
    #[arg(long, value_name = "GROUP", conflicts_with = "broadcast", value_parser = group)]
    multicast: Option<Ipv4Addr>,
    /// Ask this gateway alone.
    #[arg(short = 'h', long, value_name = "HOST", conflicts_with_all = ["broadcast", "multicast"])]
    host: Option<String>,
    /// UDP port.
    #[arg(short, long, default_value_t = PORT)]
    port: u16,
    /// Ask at the other end of a serial line: PATH, and after it what differs from `baud=9600,data=8,parity=none,stop=1`.
    #[arg(long, value_name = "LINE", conflicts_with_all = ["broadcast", "multicast", "host", "port"])]
    serial: Option<SerialTarget>,
    /// Frames with flags and check sums on the serial line, instead of messages one after the other.
    #[arg(long, requires = "serial")]
    hdlc: bool,
    /// How many hops the question goes in a wireless network; 0 for all.
    #[arg(long, value_name = "HOPS", default_value_t = 0)]
    radius: u8,
    /// How long to listen: seconds, or a time such as `1m`.
    #[arg(long, value_name = "TIME", default_value_t = 5.0, value_parser = super::publish::seconds)]
    seconds: f64,
    /// Print one JSON object for each answer.
    #[arg(long)]
    json: bool,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// A gateway that was heard of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Found {
    gateway_id: u8,
    /// Who said it.
    address: String,
    #[serde(flatten)]
    how: How,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
enum How {
    /// It answered.
    Answer,
    /// Another client answered in its place.
    Relayed { gateway_address: String },
    /// It said so by itself, and will again.
    Advertise { every_seconds: u16 },
}

impl SnScanCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let found = runtime()?.block_on(async {
            match &self.serial {
                Some(line) => {
                    let line = SnTarget::Serial(line.clone(), self.hdlc);
                    self.scan_line(SnTransport::open(&line).await?).await
                }
                None => self.scan().await,
            }
        })?;
        if found == 0 {
            return Err(SnError::NoGateway {
                seconds: self.seconds,
                hint: self.hint(),
            }
            .into());
        }
        Ok(())
    }

    /// Why a gateway that is there may not have heard a question to everybody.
    fn hint(&self) -> &'static str {
        if self.host.is_some() || self.serial.is_some() {
            return "";
        }
        match self.multicast {
            None => {
                "; one that listens on a single address, as the default one does on 127.0.0.1, does not hear a broadcast: \
                 ask it with -h, or its group with --multicast"
            }
            Some(_) => {
                "; only one with this group in its settings (`[mqttsn.multicast]`) hears it: try without --multicast, or -h"
            }
        }
    }

    async fn scan(&self) -> Result<usize, SnError> {
        let to = match &self.host {
            Some(host) => {
                let host = host.as_str();
                let found = tokio::net::lookup_host((host, self.port)).await;
                let mut found = found.map_err(|cause| SnError::Resolve {
                    host: host.into(),
                    cause,
                })?;
                found
                    .next()
                    .ok_or_else(|| SnError::NoAddress { host: host.into() })?
            }
            None => SocketAddr::from((self.multicast.unwrap_or(self.broadcast), self.port)),
        };
        let asker = asker(to).map_err(|cause| SnError::Send { to, cause })?;
        let listener = match (&self.host, to) {
            (None, SocketAddr::V4(to)) => listener(to, self.multicast.is_some())
                .inspect_err(|error| note(format!("warning: {}", deaf(to, error))))
                .ok(),
            _ => None,
        };
        let mut question = BytesMut::new();
        encode(&Message::SearchGw { radius: self.radius }, &mut question)?;
        let end = Instant::now() + Duration::from_secs_f64(self.seconds);
        let mut ask_at = Instant::now();
        let mut found = BTreeSet::new();
        let mut answers = [[0; MAX_DATAGRAM]; 2];
        let [answer, advertisement] = &mut answers;
        loop {
            let heard = tokio::select! {
                () = tokio::time::sleep_until(end) => return Ok(found.len()),
                () = tokio::time::sleep_until(ask_at) => {
                    ask_at += AGAIN;
                    let sent = asker.send_to(&question, to).await;
                    sent.map_err(|cause| SnError::Send { to, cause })?;
                    continue;
                }
                got = asker.recv_from(answer) => got.map(|(len, from)| (&answer[..len], from)),
                got = hear(listener.as_ref(), advertisement) => {
                    got.map(|(len, from)| (&advertisement[..len], from))
                }
            };
            // Nobody listens at a host that was asked, yet.
            let Ok((datagram, from)) = heard else { continue };
            if let Ok(message) = decode(&Bytes::copy_from_slice(datagram)) {
                self.tell(read(&message, &from.to_string()), &mut found)?;
            }
        }
    }

    /// The same where there is one gateway at most.
    async fn scan_line(&self, mut transport: SnTransport) -> Result<usize, SnError> {
        let place = transport.place().to_owned();
        let question = Message::SearchGw { radius: self.radius };
        let end = Instant::now() + Duration::from_secs_f64(self.seconds);
        let mut ask_at = Instant::now();
        let mut found = BTreeSet::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return Ok(found.len()),
                () = tokio::time::sleep_until(ask_at) => {
                    ask_at += AGAIN;
                    transport.push(&question)?;
                    // A line that takes nothing must not keep us.
                    if let Ok(sent) = tokio::time::timeout_at(end, transport.flush()).await {
                        sent?;
                    }
                }
                message = transport.recv() => self.tell(read(&message?, &place), &mut found)?,
            }
        }
    }

    /// Each gateway is told of once.
    fn tell(&self, gateway: Option<Found>, found: &mut BTreeSet<Found>) -> Result<(), serde_json::Error> {
        let Some(gateway) = gateway else { return Ok(()) };
        if found.len() < MAX_FOUND && found.insert(gateway.clone()) {
            if self.json {
                say_json(serde_json::to_string(&gateway)?);
            } else {
                say(&gateway);
            }
        }
        Ok(())
    }
}

/// That advertisements are not heard, and why. The answers to our question are.
fn deaf(to: SocketAddrV4, error: &io::Error) -> String {
    let port = to.port();
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("UDP port {port} is taken on this machine, probably by a gateway here")
        }
        _ => format!("cannot listen at {to}: {error}"),
    };
    format!("{why}; gateways that answer are told, those that only advertise themselves are not")
}

async fn hear(listener: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    match listener {
        Some(listener) => listener.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}

/// What a message says of a gateway.
fn read(message: &Message, from: &str) -> Option<Found> {
    let (gateway_id, how) = match message {
        Message::GwInfo(info) if info.address.is_empty() => (info.gw_id, How::Answer),
        Message::GwInfo(info) => (
            info.gw_id,
            How::Relayed {
                gateway_address: address(&info.address),
            },
        ),
        Message::Advertise { gw_id, duration } => (
            *gw_id,
            How::Advertise {
                every_seconds: *duration,
            },
        ),
        _ => return None,
    };
    Some(Found {
        gateway_id,
        address: from.to_owned(),
        how,
    })
}

/// §5.3.6 leaves its form to the network; over UDP gateways send four bytes, or six with the port.
fn address(bytes: &[u8]) -> String {
    match *bytes {
        [a, b, c, d] => Ipv4Addr::new(a, b, c, d).to_string(),
        [a, b, c, d, high, low] => {
            SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).to_string()
        }
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            gateway_id, address, ..
        } = self;
        match &self.how {
            How::Answer => write!(f, "gateway {gateway_id} at {address}, answered"),
            How::Relayed { gateway_address } => {
                write!(f, "gateway {gateway_id} at {gateway_address}, says {address}")
            }
            How::Advertise { every_seconds } => {
                write!(
                    f,
                    "gateway {gateway_id} at {address}, advertises itself every {every_seconds} s"
                )
            }
        }
    }
}

/// Gets the answers to itself.
fn asker(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    if to.is_ipv4() {
        socket.set_broadcast(true)?;
        socket.set_multicast_ttl_v4(4)?;
    }
    socket.set_nonblocking(true)?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    socket.bind(&any.parse::<SocketAddr>().expect("an address").into())?;
    UdpSocket::from_std(socket.into())
}

/// Hears what is said to everybody, and nothing else: a gateway on this machine keeps what is said to it.
fn listener(to: SocketAddrV4, multicast: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from(to).into())?;
    if multicast {
        socket.join_multicast_v4(to.ip(), &Ipv4Addr::UNSPECIFIED)?;
    }
    UdpSocket::from_std(socket.into())
}

fn group(text: &str) -> Result<Ipv4Addr, ValueError> {
    let group = text.parse().ok().filter(Ipv4Addr::is_multicast);
    group.ok_or_else(|| ValueError::not_allowed(text, "224.0.0.0 to 239.255.255.255"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn a_port_that_is_taken_is_told_in_words() {
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 1884);
        let told = deaf(to, &io::ErrorKind::AddrInUse.into());
        assert!(
            told.starts_with("UDP port 1884 is taken on this machine"),
            "{told}"
        );
    }

    fn heard(bytes: &[u8]) -> Option<String> {
        let message = decode(&Bytes::copy_from_slice(bytes)).ok()?;
        let found = read(&message, "10.0.0.9:1884")?;
        Some(format!("{found}; {}", serde_json::to_string(&found).unwrap()))
    }

    #[test]
    fn who_is_there_and_how_it_is_known_is_told() {
        assert_eq!(
            heard(&[3, 0x02, 5]).unwrap(),
            r#"gateway 5 at 10.0.0.9:1884, answered; {"gateway_id":5,"address":"10.0.0.9:1884","how":"answer"}"#
        );
        assert_eq!(
            heard(&[5, 0x00, 5, 0x03, 0x84]).unwrap(),
            r#"gateway 5 at 10.0.0.9:1884, advertises itself every 900 s; {"gateway_id":5,"address":"10.0.0.9:1884","how":"advertise","every_seconds":900}"#
        );
        assert_eq!(
            heard(&[9, 0x02, 5, 10, 0, 0, 1, 0x07, 0x5C]).unwrap(),
            r#"gateway 5 at 10.0.0.1:1884, says 10.0.0.9:1884; {"gateway_id":5,"address":"10.0.0.9:1884","how":"relayed","gateway_address":"10.0.0.1:1884"}"#
        );
    }

    /// On a line one is asked for again and again, and told of once.
    #[test]
    fn a_gateway_is_found_at_the_end_of_a_line() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (here, mut there) = tokio::io::duplex(64);
            let command = SnScanCommand {
                broadcast: Ipv4Addr::BROADCAST,
                multicast: None,
                host: None,
                port: PORT,
                serial: None,
                hdlc: false,
                radius: 3,
                seconds: 4.5,
                json: false,
                help: None,
            };
            let gateway = async {
                let mut asked = 0;
                let mut question = [0; 3];
                while there.read_exact(&mut question).await.is_ok() {
                    assert_eq!(question, [3, 0x01, 3]);
                    asked += 1;
                    if asked > 1 {
                        there.write_all(&[3, 0x02, 9]).await.unwrap();
                    }
                }
                asked
            };
            let scan = command.scan_line(SnTransport::serial("line".into(), Box::new(here), false));
            let (found, asked) = tokio::join!(scan, gateway);
            assert_eq!((found.unwrap(), asked), (1, 5));
        });
    }

    /// Our own question comes back to us from a broadcast.
    #[test]
    fn other_datagrams_are_passed_over() {
        for other in [&[3, 0x01, 0][..], &[], &[0xff], &[2, 0x17]] {
            assert_eq!(heard(other), None);
        }
    }

    #[test]
    fn addresses_of_other_networks_are_in_hexadecimal() {
        assert_eq!(address(&[10, 0, 0, 1]), "10.0.0.1");
        assert_eq!(address(&[0xAB, 1]), "ab01");
    }
}
