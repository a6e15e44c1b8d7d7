//! The broker under load: where it is, and the handshakes with it. They wait, one after the other, before any
//! load begins.

use super::BenchError;
use super::client::{Client, Scratch};
use super::websocket::WebSocket;
use bytes::{Buf, Bytes, BytesMut};
use headgate_mqtt_codec::{
    Connect, Decoder, MAX_PACKET_SIZE, Packet, PacketId, Qos, ReasonCode, Subscribe, SubscribeFilter,
    SubscribeOptions, Utf8, Version, encode,
};
use mio::net::TcpStream;
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// For a connection, and for each answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a session is kept that outlives its connection; longer than any run.
const EXPIRY_SECONDS: u32 = 7_200;

/// Bytes that a handshake reads at a time.
const HANDSHAKE: usize = 4 * 1024;

/// EINPROGRESS
const IN_PROGRESS: i32 = 115;

/// The broker, and as whom we come.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Where.
    pub address: SocketAddr,
    /// TLS around everything, and whose certificate is wanted.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// WebSocket around MQTT, at this path.
    pub websocket: Option<String>,
    /// Protocol version.
    pub version: Version,
    /// User name.
    pub username: Option<Utf8>,
    /// Password.
    pub password: Option<Bytes>,
}

impl Server {
    /// What is around MQTT.
    pub(crate) fn transport(&self) -> &'static str {
        match (&self.tls, &self.websocket) {
            (None, None) => "tcp",
            (Some(_), None) => "tls",
            (None, Some(_)) => "ws",
            (Some(_), Some(_)) => "wss",
        }
    }

    /// A socket that is not connected yet. The loopback has sixteen million addresses with 28,000 ports each:
    /// `number` picks one of 1,000.
    fn socket(&self, number: usize) -> std::io::Result<Socket> {
        let socket = Socket::new(
            Domain::for_address(self.address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        if matches!(self.address.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
            let [third, fourth] = [(number / 250 % 4) as u8, (number % 250) as u8 + 1];
            let source = SocketAddr::from((Ipv4Addr::new(127, 0, third, fourth), 0));
            socket.bind(&source.into())?;
        }
        Ok(socket)
    }

    fn client(&self, socket: Socket) -> Result<Client, BenchError> {
        let tls = self.tls.clone();
        let tls = tls.map(|(config, name)| ClientConnection::new(config, name));
        let websocket = self.websocket.as_ref();
        let websocket = websocket.map(|path| WebSocket::new(&self.address.to_string(), path));
        Ok(Client::new(
            TcpStream::from_std(socket.into()),
            tls.transpose().map_err(BenchError::tls)?,
            websocket,
        ))
    }

    /// The CONNECT of this client, whose session outlives the connection unless it is `clean`.
    pub(crate) fn connect_packet(&self, client_id: &str, clean: bool) -> Vec<u8> {
        let client_id = Utf8::try_from(client_id.to_owned()).unwrap_or_default();
        let mut connect = Connect {
            clean_start: clean,
            username: self.username.clone(),
            password: self.password.clone(),
            ..Connect::new(self.version, client_id)
        };
        connect.properties.session_expiry = (!clean).then_some(EXPIRY_SECONDS);
        let mut out = BytesMut::new();
        encode(&Packet::Connect(Box::new(connect)), self.version, &mut out);
        out.to_vec()
    }

    /// Begins to connect and does not wait.
    pub(crate) fn begin(&self, number: usize) -> Result<Client, BenchError> {
        let socket = self.socket(number)?;
        socket.set_nonblocking(true)?;
        // Whether it succeeds is told when the socket is writable.
        match socket.connect(&self.address.into()) {
            Err(error)
                if error.raw_os_error() != Some(IN_PROGRESS) && error.kind() != ErrorKind::WouldBlock =>
            {
                Err(error.into())
            }
            _ => self.client(socket),
        }
    }

    /// Connects, and waits until TLS and WebSocket have agreed.
    pub(crate) fn open(&self, number: usize) -> Result<Guest, BenchError> {
        let failed = |cause| BenchError::Connect {
            address: self.address.to_string(),
            cause,
        };
        let socket = self.socket(number).map_err(failed)?;
        socket
            .connect_timeout(&self.address.into(), PATIENCE)
            .map_err(failed)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut guest = Guest {
            client: self.client(socket)?,
            scratch: Scratch::new(HANDSHAKE),
            input: BytesMut::new(),
            decoder: Decoder::client(self.version, MAX_PACKET_SIZE),
            version: self.version,
            receive_maximum: u16::MAX,
        };
        guest.client.flush()?;
        while !guest.client.is_open() {
            guest.read()?;
            guest.client.flush()?;
        }
        Ok(guest)
    }

    /// Connects and waits to be let in.
    pub(crate) fn enter(&self, client_id: &str, clean: bool, number: usize) -> Result<Guest, BenchError> {
        let mut guest = self.open(number)?;
        guest.send(&self.connect_packet(client_id, clean))?;
        match guest.recv()? {
            Packet::ConnAck(ack) if ack.code == ReasonCode::Success => {
                if let Some(maximum) = ack.properties.receive_maximum {
                    guest.receive_maximum = maximum.get();
                }
                Ok(guest)
            }
            Packet::ConnAck(ack) => Err(BenchError::Refused(ack.code)),
            other => Err(BenchError::Unexpected(other.packet_type().to_string())),
        }
    }
}

/// A connection on its way in.
pub(crate) struct Guest {
    client: Client,
    scratch: Scratch,
    pub(super) input: BytesMut,
    decoder: Decoder,
    version: Version,
    /// QoS 1 and 2 messages that the broker takes at a time. [MQTT-3.3.4-9]
    pub receive_maximum: u16,
}

impl Guest {
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        self.client.output.extend_from_slice(bytes);
        self.client.flush()
    }

    fn recv(&mut self) -> Result<Packet, BenchError> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.input)? {
                return Ok(packet);
            }
            self.read()?;
        }
    }

    /// More bytes into `input`.
    pub(super) fn read(&mut self) -> Result<(), BenchError> {
        match self.client.read_bytes(&mut self.scratch)? {
            Some(bytes) => self.input.extend_from_slice(bytes),
            None => return Err(std::io::Error::from(ErrorKind::TimedOut).into()),
        }
        Ok(())
    }

    /// Subscribes to one or more filters and waits for the answer.
    pub(crate) fn subscribe(&mut self, filters: Vec<Utf8>, qos: Qos) -> Result<(), BenchError> {
        let wanted = filters.len();
        self.send(&subscribe_packet(filters, qos, self.version))?;
        match self.recv()? {
            Packet::SubAck(ack) => {
                let refused = ack.codes.iter().find(|code| **code as u8 != qos as u8);
                match refused {
                    None if ack.codes.len() == wanted => Ok(()),
                    code => Err(BenchError::NotSubscribed(code.copied().unwrap_or_default())),
                }
            }
            other => Err(BenchError::Unexpected(other.packet_type().to_string())),
        }
    }

    /// Says goodbye, and waits until the broker has closed.
    pub(crate) fn leave(mut self) -> Result<(), BenchError> {
        self.send(&DISCONNECT)?;
        // It may send what it had begun to, and close or reset: gone is gone.
        while let Ok(Some(_)) = self.client.read_bytes(&mut self.scratch) {}
        Ok(())
    }

    /// From now on nobody waits for it.
    pub(crate) fn into_client(mut self) -> Result<Client, BenchError> {
        SockRef::from(&self.client.socket).set_nonblocking(true)?;
        self.client.put_back(self.input.chunk());
        Ok(self.client)
    }
}

/// DISCONNECT, the same in all versions. §3.14
pub(super) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// SUBSCRIBE to these filters.
pub(super) fn subscribe_packet(filters: Vec<Utf8>, qos: Qos, version: Version) -> Vec<u8> {
    let options = SubscribeOptions::qos(qos);
    let filters = filters.into_iter();
    let subscribe = Subscribe {
        packet_id: PacketId::MIN,
        identifier: None,
        user_properties: Vec::new(),
        filters: filters
            .map(|filter| SubscribeFilter { filter, options })
            .collect(),
    };
    let mut out = BytesMut::new();
    encode(&Packet::Subscribe(Box::new(subscribe)), version, &mut out);
    out.to_vec()
}
