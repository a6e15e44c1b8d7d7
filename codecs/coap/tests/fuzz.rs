//! Mutated datagrams and streams. See [`headgate_fuzz`] for how long, and how to replay a failure.

use bytes::BytesMut;
use headgate_coap_codec::{Block, decode, decode_stream, encode, encoded_len, number};
use headgate_fuzz::{fuzz, mutate};

const DATAGRAMS: [&[u8]; 6] = [
    b"\x44\x03\x12\x34abcd\xb4mqtt\x05a%2Fb\x43c=1\x03u=2\xff21.5",
    b"\x44\x01\x12\x34abcd\x60\x52ps\x01a\x8112",
    b"\x60\x45\x7d\x34\xd1\x0a\x0e\xff22.3 C",
    b"\x70\x00\x12\x34",
    b"\x40\x02\x00\x01\xb2rd\x48ep=node1\x04lt=9\xd1\x05\x28\xff</1/0>,</3/0>",
    b"\x50\x01\x00\x01\xbb.well-known\x04core\xe0\x01\x00",
];

#[test]
fn mutated_datagrams_never_panic_and_never_disagree() {
    let input = |rng: &mut fastrand::Rng| {
        let mut bytes = DATAGRAMS[rng.usize(..DATAGRAMS.len())].to_vec();
        for _ in 0..rng.usize(..6) {
            mutate(&mut bytes, &[0xFF, 0xD0, 0xE0, 0x0D, 0x0E, 0x40], rng);
        }
        bytes
    };
    fuzz(input, |bytes| {
        if let Ok(message) = decode(bytes) {
            let mut again = BytesMut::new();
            encode(&message, &mut again).expect("it came in a datagram");
            assert_eq!(again.len(), encoded_len(&message));
            assert_eq!(decode(&again), Ok(message.clone()));
            let _ = (
                Block::of(&message.options, number::BLOCK1),
                Block::of(&message.options, number::BLOCK2),
            );
        }
        let mut stream = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = decode_stream(&mut stream, 4_096) {}
    });
}
