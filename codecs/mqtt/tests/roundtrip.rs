//! decode∘encode is the identity; a length that is told is the length that is written; however a stream is cut,
//! the same packets come out of it.

mod common;
#[path = "common/generate.rs"]
mod generate;

use bytes::{Bytes, BytesMut};
use common::{client, decode_one, encoded, server};
use headgate_mqtt_codec::{
    DecodeError, Decoder, Packet, PublishParts, Version, encode, encode_publish, encoded_len, publish_len,
};
use proptest::prelude::*;

fn for_server() -> impl Strategy<Value = (Version, Packet)> {
    generate::version().prop_flat_map(|version| (Just(version), generate::from_client(version)))
}

fn for_client() -> impl Strategy<Value = (Version, Packet)> {
    generate::version().prop_flat_map(|version| (Just(version), generate::from_server(version)))
}

/// A whole conversation of one client: CONNECT and what follows.
fn client_stream() -> impl Strategy<Value = (Version, Vec<Packet>)> {
    generate::version().prop_flat_map(|version| {
        let rest = prop::collection::vec(generate::from_client(version), 0..6);
        (Just(version), generate::connect(version), rest)
            .prop_map(|(version, connect, rest)| (version, std::iter::once(connect).chain(rest).collect()))
    })
}

proptest! {
    #[test]
    fn connect_survives(packet in generate::version().prop_flat_map(generate::connect)) {
        let Packet::Connect(connect) = &packet else { unreachable!() };
        let bytes = encoded(&packet, connect.version);
        prop_assert_eq!(encoded_len(&packet, connect.version), bytes.len());
        prop_assert_eq!(decode_one(Decoder::server(common::LIMIT), &bytes), Ok(packet));
    }

    #[test]
    fn what_a_client_sends_survives((version, packet) in for_server()) {
        let bytes = encoded(&packet, version);
        prop_assert_eq!(encoded_len(&packet, version), bytes.len());
        prop_assert_eq!(decode_one(server(version), &bytes), Ok(packet));
    }

    #[test]
    fn what_a_server_sends_survives((version, packet) in for_client()) {
        let bytes = encoded(&packet, version);
        prop_assert_eq!(encoded_len(&packet, version), bytes.len());
        prop_assert_eq!(decode_one(client(version), &bytes), Ok(packet));
    }

    /// A broker that encodes borrowed parts writes the same bytes as one that builds a packet, and knows where
    /// the packet identifier is.
    #[test]
    fn borrowed_parts_are_written_alike((version, packet) in generate::version().prop_flat_map(|version| {
        (Just(version), generate::publish(version, true))
    })) {
        let Packet::Publish(publish) = &packet else { unreachable!() };
        let parts = PublishParts::from(publish);
        let mut out = BytesMut::from(&b"before"[..]);
        let offsets = encode_publish(&parts, version, &mut out);

        prop_assert_eq!(publish_len(&parts, version), out.len() - b"before".len());
        prop_assert_eq!(&out[offsets.start..], &encoded(&packet, version)[..]);
        prop_assert_eq!(offsets.packet_id.is_some(), publish.packet_id.is_some());
        if let (Some(at), Some(id)) = (offsets.packet_id, publish.packet_id) {
            prop_assert_eq!(&out[at..at + 2], &id.get().to_be_bytes()[..]);
        }
    }

    #[test]
    fn every_split_gives_the_same_packets(
        (version, packets) in client_stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let stream = stream_of(&packets, version);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();

        let pieces = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]);
        prop_assert_eq!(decode_pieces(pieces), Ok(packets));
    }

    #[test]
    fn byte_by_byte_gives_the_same_packets((version, packets) in client_stream()) {
        let stream = stream_of(&packets, version);
        prop_assert_eq!(decode_pieces(stream.chunks(1)), Ok(packets));
    }

    /// What is cut off in its middle is waited for, with the right number of bytes as a hint.
    #[test]
    fn a_cut_packet_is_waited_for((version, packet) in for_server(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&packet, version);
        let mut buf = BytesMut::from(&bytes[..cut.index(bytes.len())]);
        let mut decoder = server(version);

        let needed = decoder.needed(&buf);
        prop_assert!(needed > 0 && buf.len() + needed <= bytes.len());
        let before = buf.clone();
        prop_assert_eq!(decoder.decode(&mut buf), Ok(None));
        prop_assert_eq!(buf, before);
        prop_assert_eq!(decoder.needed(&bytes), 0);
    }

    /// Any bytes at all end in packets, in waiting or in an error; what comes out can be encoded again.
    #[test]
    fn any_bytes_decode_without_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        version in generate::version(),
    ) {
        for mut decoder in [Decoder::server(1000), server(version), client(version)] {
            let mut buf = BytesMut::from(&bytes[..]);
            while let Ok(Some(packet)) = decoder.decode(&mut buf) {
                let _ = encoded(&packet, decoder.version().unwrap());
            }
        }
    }

    /// The same, with a fixed header that lets every body through to its own parser.
    #[test]
    fn any_body_decodes_without_panic(
        first in any::<u8>(),
        body in prop::collection::vec(any::<u8>(), 0..120),
        version in generate::version(),
    ) {
        let mut bytes = vec![first, body.len() as u8];
        bytes.extend_from_slice(&body);
        for mut decoder in [Decoder::server(1000), server(version), client(version)] {
            let mut buf = BytesMut::from(&bytes[..]);
            let _ = decoder.decode(&mut buf);
        }
    }
}

fn stream_of(packets: &[Packet], version: Version) -> Bytes {
    let mut out = BytesMut::new();
    for packet in packets {
        encode(packet, version, &mut out);
    }
    out.freeze()
}

fn decode_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Packet>, DecodeError> {
    let mut decoder = Decoder::server(common::LIMIT);
    let mut buf = BytesMut::new();
    let mut packets = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        while let Some(packet) = decoder.decode(&mut buf)? {
            packets.push(packet);
        }
    }
    assert!(buf.is_empty(), "{} bytes are left over", buf.len());
    Ok(packets)
}
