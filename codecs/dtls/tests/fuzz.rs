//! Any bytes at all are read without panic. See `make fuzz`.

use headgate_dtls_codec::extension::{self, Extensions};
use headgate_dtls_codec::message::{
    CertificateRequest, ClientKeyExchange, HelloVerifyRequest, ServerKeyExchange, Signed, certificates,
    raw_public_key,
};
use headgate_dtls_codec::{
    Alert, ClientHello, ContentType, DTLS_1_2, HandshakeType, KeyExchange, RecordHeader, ServerHello,
    next_fragment, next_record, write_message,
};
use headgate_fuzz::{fuzz, mutate};

#[test]
fn bytes_that_were_changed_are_read_without_panic() {
    let seed = datagram();
    fuzz(
        |rng| {
            let mut bytes = seed.clone();
            for _ in 0..rng.usize(..8) {
                mutate(&mut bytes, &[0, 1, 22, 25, 0xFE, 0xFF], rng);
            }
            bytes
        },
        |bytes| read_all(bytes),
    );
}

/// A ClientHello with extensions.
fn datagram() -> Vec<u8> {
    let mut extensions = Vec::new();
    extension::write(extension::CONNECTION_ID, &[2, 7, 7], &mut extensions);
    extension::write(extension::SUPPORTED_GROUPS, &[0, 2, 0, 23], &mut extensions);
    let hello = ClientHello {
        version: DTLS_1_2,
        random: [7; 32],
        session_id: &[],
        cookie: &[9; 16],
        suites: &[0xC0, 0xA8],
        compression: &[0],
        extensions: Extensions::decode(&extensions).unwrap(),
    };
    let (mut body, mut message, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    hello.encode(&mut body);
    write_message(HandshakeType::ClientHello, 1, &body, &mut message);
    let header = RecordHeader {
        content: ContentType::Handshake,
        version: DTLS_1_2,
        epoch: 0,
        sequence: 1,
        cid: &[],
    };
    header.write(message.len(), &mut bytes);
    bytes.extend_from_slice(&message);
    bytes
}

fn read_all(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok((record, behind)) = next_record(rest, 8) {
        assert!(behind.len() < rest.len());
        rest = behind;
        let mut messages = record.fragment;
        while let Ok((fragment, behind)) = next_fragment(messages) {
            assert!(behind.len() < messages.len());
            messages = behind;
            read_body(fragment.body);
        }
    }
    read_body(bytes);
}

fn read_body(body: &[u8]) {
    if let Ok(hello) = ClientHello::decode(body) {
        let mut again = Vec::new();
        hello.encode(&mut again);
        assert_eq!(ClientHello::decode(&again), Ok(hello));
        for (_, extension) in hello.extensions {
            let _ = (
                extension::list8(extension),
                extension::list16(extension),
                extension::host_name(extension),
            );
        }
    }
    let _ = ServerHello::decode(body);
    let _ = HelloVerifyRequest::decode(body);
    let _ = certificates(body);
    let _ = raw_public_key(body);
    let _ = Signed::decode(body);
    let _ = CertificateRequest::decode(body);
    let _ = Alert::decode(body);
    for exchange in [KeyExchange::Psk, KeyExchange::EcdhePsk, KeyExchange::EcdheEcdsa] {
        let _ = ClientKeyExchange::decode(exchange, body);
        let _ = ServerKeyExchange::decode(exchange, body);
    }
}
