//! Helpers the integration tests share; each of them uses a part.
#![allow(dead_code, reason = "compiled into each test binary, which uses a part")]

pub(crate) mod corpus;

use bytes::{Bytes, BytesMut};
use headgate_mqtt_codec::{DecodeError, Decoder, Packet, PacketId, Version, encode};

/// Large enough for every packet of these tests.
pub(crate) const LIMIT: u32 = 1 << 20;

pub(crate) const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A server's decoder after a CONNECT in this version.
pub(crate) fn server(version: Version) -> Decoder {
    let mut decoder = Decoder::server(LIMIT);
    decoder.set_version(version);
    decoder
}

/// A client's decoder in this version.
pub(crate) fn client(version: Version) -> Decoder {
    Decoder::client(version, LIMIT)
}

/// Decodes bytes that are exactly one packet.
pub(crate) fn decode_one(mut decoder: Decoder, bytes: &[u8]) -> Result<Packet, DecodeError> {
    let mut buf = BytesMut::from(bytes);
    let packet = decoder.decode(&mut buf)?.expect("a whole packet");
    assert!(buf.is_empty(), "{} bytes are left over", buf.len());
    Ok(packet)
}

/// What a packet looks like on the wire.
pub(crate) fn encoded(packet: &Packet, version: Version) -> Bytes {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out);
    out.freeze()
}

pub(crate) fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("tests use identifiers above zero")
}
