//! The broker under load: where it is, and the handshakes with it. They wait, one after the other, before any
//! load begins.

use super::BenchError;
use bytes::{Bytes, BytesMut};
use headgate_mqtt_codec::{
    Connect, Decoder, MAX_PACKET_SIZE, Packet, PacketId, Qos, ReasonCode, Subscribe, SubscribeFilter,
    SubscribeOptions, Utf8, Version, encode,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// For a connection, and for each answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The broker, and as whom we come.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where.
    pub address: SocketAddr,
    /// Protocol version.
    pub version: Version,
    /// User name.
    pub username: Option<Utf8>,
    /// Password.
    pub password: Option<Bytes>,
}

impl Server {
    /// A socket that is not connected yet. The loopback has sixteen million addresses with 28,000 ports each:
    /// `number` picks one of 1,000.
    pub fn socket(&self, number: usize) -> std::io::Result<Socket> {
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

    /// The CONNECT of this client.
    pub fn connect_packet(&self, client_id: &str) -> Vec<u8> {
        let client_id = Utf8::try_from(client_id.to_owned()).unwrap_or_default();
        let connect = Connect {
            username: self.username.clone(),
            password: self.password.clone(),
            ..Connect::new(self.version, client_id)
        };
        let mut out = BytesMut::new();
        encode(&Packet::Connect(Box::new(connect)), self.version, &mut out);
        out.to_vec()
    }

    /// Connects and waits to be let in.
    pub fn enter(&self, client_id: &str, number: usize) -> Result<Guest, BenchError> {
        let failed = |cause| BenchError::Connect {
            address: self.address.to_string(),
            cause,
        };
        let socket = self.socket(number).map_err(failed)?;
        socket
            .connect_timeout(&self.address.into(), PATIENCE)
            .map_err(failed)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut guest = Guest {
            stream,
            input: BytesMut::new(),
            decoder: Decoder::client(self.version, MAX_PACKET_SIZE),
            version: self.version,
            receive_maximum: u16::MAX,
        };
        guest.stream.write_all(&self.connect_packet(client_id))?;
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

/// A connection that the broker let in.
pub struct Guest {
    stream: TcpStream,
    input: BytesMut,
    decoder: Decoder,
    version: Version,
    /// QoS 1 and 2 messages that the broker takes at a time. [MQTT-3.3.4-9]
    pub receive_maximum: u16,
}

impl Guest {
    fn recv(&mut self) -> Result<Packet, BenchError> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.input)? {
                return Ok(packet);
            }
            let mut bytes = [0; 1_024];
            match self.stream.read(&mut bytes)? {
                0 => return Err(BenchError::Closed(None)),
                n => self.input.extend_from_slice(&bytes[..n]),
            }
        }
    }

    /// Subscribes and waits for the answer.
    pub fn subscribe(&mut self, filter: Utf8, qos: Qos) -> Result<(), BenchError> {
        let options = SubscribeOptions::qos(qos);
        let subscribe = Subscribe {
            packet_id: PacketId::MIN,
            identifier: None,
            user_properties: Vec::new(),
            filters: vec![SubscribeFilter { filter, options }],
        };
        let mut out = BytesMut::new();
        encode(&Packet::Subscribe(Box::new(subscribe)), self.version, &mut out);
        self.stream.write_all(&out)?;
        match self.recv()? {
            Packet::SubAck(ack) => match ack.codes.first() {
                Some(code) if (*code as u8) == qos as u8 => Ok(()),
                code => Err(BenchError::NotSubscribed(code.copied().unwrap_or_default())),
            },
            other => Err(BenchError::Unexpected(other.packet_type().to_string())),
        }
    }

    /// From now on nobody waits for it.
    pub fn into_stream(self) -> std::io::Result<TcpStream> {
        self.stream.set_nonblocking(true)?;
        Ok(self.stream)
    }
}
