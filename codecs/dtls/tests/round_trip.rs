//! What was written reads the same; what is broken is refused. RFC 6347, RFC 5246

use headgate_dtls_codec::extension::{self, Extensions};
use headgate_dtls_codec::message::{
    CertificateRequest, ClientKeyExchange, HelloVerifyRequest, ServerKeyExchange, Signed, certificates,
    raw_public_key, write_certificates, write_raw_public_key,
};
use headgate_dtls_codec::{
    Alert, CipherSuite, ClientHello, ContentType, DTLS_1_0, DTLS_1_2, DecodeError, Description, Fragment,
    HandshakeType, KeyExchange, RecordHeader, ServerHello, next_fragment, next_record, write_fragment,
    write_message,
};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};

proptest! {
    /// RFC 6347 §4.1, RFC 9146 §4
    #[test]
    fn a_record_reads_as_it_was_written(
        epoch in any::<u16>(),
        sequence in 0..1u64 << 48,
        cid in vec(any::<u8>(), 1..20),
        fragment in vec(any::<u8>(), 0..200),
        with_cid in any::<bool>(),
    ) {
        let content = if with_cid { ContentType::Tls12Cid } else { ContentType::ApplicationData };
        let header = RecordHeader { content, version: DTLS_1_2, epoch, sequence, cid: &cid };
        let mut bytes = Vec::new();
        header.write(fragment.len(), &mut bytes);
        bytes.extend_from_slice(&fragment);
        bytes.push(7);
        let (record, rest) = next_record(&bytes, cid.len()).unwrap();
        assert_eq!((record.content, record.version, record.epoch), (content, DTLS_1_2, epoch));
        assert_eq!((record.sequence, record.fragment), (sequence, &fragment[..]));
        assert_eq!(record.cid, if with_cid { &cid[..] } else { &[] });
        assert_eq!(rest, [7]);
    }

    /// RFC 6347 §4.2.1, RFC 5246 §7.4.1
    #[test]
    fn hellos_read_as_they_were_written(
        random in any::<[u8; 32]>(),
        session_id in vec(any::<u8>(), 0..=32),
        cookie in vec(any::<u8>(), 0..=255),
        suites in vec(any::<u16>(), 1..20),
        body in vec(any::<u8>(), 0..30),
    ) {
        let suites: Vec<u8> = suites.iter().flat_map(|n| n.to_be_bytes()).collect();
        let mut extensions = Vec::new();
        extension::write(extension::CONNECTION_ID, &body, &mut extensions);
        extension::write(0xABCD, &[], &mut extensions);
        for extensions in [&extensions[..], &[]] {
            let extensions = Extensions::decode(extensions).unwrap();
            let hello = ClientHello {
                version: DTLS_1_2,
                random,
                session_id: &session_id,
                cookie: &cookie,
                suites: &suites,
                compression: &[0],
                extensions,
            };
            let mut bytes = Vec::new();
            hello.encode(&mut bytes);
            assert_eq!(ClientHello::decode(&bytes), Ok(hello));
            let hello = ServerHello { version: DTLS_1_2, random, session_id: &session_id, suite: 0xC0A8, extensions };
            let mut bytes = Vec::new();
            hello.encode(&mut bytes);
            assert_eq!(ServerHello::decode(&bytes), Ok(hello));
        }
    }

    /// RFC 6347 §4.2.3
    #[test]
    fn a_message_in_fragments_reads_as_it_was_written(body in vec(any::<u8>(), 0..300), cut in 1..300usize) {
        let mut bytes = Vec::new();
        let mut offset = 0;
        let parts = if body.is_empty() { vec![&body[..]] } else { body.chunks(cut).collect() };
        for part in parts {
            write_fragment(
                &Fragment {
                    kind: HandshakeType::Certificate as u8,
                    length: body.len() as u32,
                    message_seq: 3,
                    offset,
                    body: part,
                },
                &mut bytes,
            );
            offset += part.len() as u32;
        }
        let (mut rest, mut found) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let (fragment, behind) = next_fragment(rest).unwrap();
            assert_eq!((fragment.offset as usize, fragment.message_seq), (found.len(), 3));
            found.extend_from_slice(fragment.body);
            rest = behind;
        }
        assert_eq!(found, body);
    }

    /// RFC 4279 §2, RFC 5489 §2, RFC 8422 §5.4, §5.7
    #[test]
    fn key_exchanges_read_as_they_were_written(
        identity in vec(any::<u8>(), 0..100),
        point in vec(any::<u8>(), 0..=255),
        signature in vec(any::<u8>(), 0..80),
    ) {
        for exchange in [KeyExchange::Psk, KeyExchange::EcdhePsk, KeyExchange::EcdheEcdsa] {
            let client = ClientKeyExchange {
                identity: exchange.has_psk().then_some(&identity[..]),
                point: exchange.has_ecdhe().then_some(&point[..]),
            };
            let mut bytes = Vec::new();
            client.encode(&mut bytes);
            assert_eq!(ClientKeyExchange::decode(exchange, &bytes), Ok(client));
            let server = ServerKeyExchange {
                hint: exchange.has_psk().then_some(&identity[..]),
                point: exchange.has_ecdhe().then_some((23, &point[..])),
                signed: (exchange == KeyExchange::EcdheEcdsa).then_some(Signed { scheme: 0x0403, signature: &signature }),
            };
            let mut bytes = Vec::new();
            server.encode(&mut bytes);
            assert_eq!(ServerKeyExchange::decode(exchange, &bytes), Ok(server));
        }
    }

    /// RFC 5246 §7.4.2, RFC 7250 §3
    #[test]
    fn certificates_read_as_they_were_written(chain in vec(vec(any::<u8>(), 0..50), 0..4)) {
        let mut bytes = Vec::new();
        write_certificates(chain.iter().map(|der| &der[..]), &mut bytes);
        assert_eq!(certificates(&bytes).unwrap(), chain);
        let key = chain.concat();
        let mut bytes = Vec::new();
        write_raw_public_key(&key, &mut bytes);
        assert_eq!(raw_public_key(&bytes), Ok(&key[..]));
    }
}

/// RFC 6347 §4.2.1, RFC 5246 §7.2, §7.4.4
#[test]
fn small_messages_read_as_they_were_written() {
    let request = HelloVerifyRequest {
        version: DTLS_1_0,
        cookie: &[1, 2, 3],
    };
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    assert_eq!(bytes, [0xFE, 0xFF, 3, 1, 2, 3]);
    assert_eq!(HelloVerifyRequest::decode(&bytes), Ok(request));
    let request = CertificateRequest {
        kinds: &[64],
        schemes: &[4, 3],
        authorities: &[],
    };
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    assert_eq!(CertificateRequest::decode(&bytes), Ok(request));
    let alert = Alert::fatal(Description::DECRYPT_ERROR);
    assert_eq!(alert.encode(), [2, 51]);
    assert_eq!(Alert::decode(&[2, 51]), Ok(alert));
    assert_eq!(alert.description.name(), "decrypt_error");
}

#[test]
fn what_is_broken_is_refused() {
    let record = |bytes: &[u8]| next_record(bytes, 0).map(|_| ());
    // RFC 5246 §6.2.1
    assert_eq!(
        record(&[24, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        Err(DecodeError::ContentType(24))
    );
    assert_eq!(
        record(&[22, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        Err(DecodeError::Version(0x0303))
    );
    assert_eq!(
        record(&[22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        Err(DecodeError::Short("record"))
    );
    // RFC 6347 §4.2.3: a fragment inside its message.
    let mut bytes = Vec::new();
    write_message(HandshakeType::Finished, 0, &[0; 12], &mut bytes);
    bytes[8] = 1;
    assert_eq!(next_fragment(&bytes).map(|_| ()), Err(DecodeError::Beyond));
    // RFC 5246 §7.4.1.4: each extension once.
    let mut twice = Vec::new();
    extension::write(extension::CONNECTION_ID, &[0], &mut twice);
    extension::write(extension::CONNECTION_ID, &[0], &mut twice);
    assert_eq!(Extensions::decode(&twice), Err(DecodeError::Twice(54)));
    assert_eq!(
        extension::list16(&[0, 1, 1]),
        Err(DecodeError::Value("list in an extension"))
    );
}

/// The registry's numbers, by which peers know them.
#[test]
fn suites_have_their_numbers_and_names() {
    assert_eq!(CipherSuite::from_u16(0xC0A8), Some(CipherSuite::PskCcm8));
    assert_eq!(CipherSuite::PskCcm8.name(), "TLS_PSK_WITH_AES_128_CCM_8");
    for suite in CipherSuite::ALL {
        assert_eq!(CipherSuite::from_u16(*suite as u16), Some(*suite));
        assert_eq!(CipherSuite::from_name(suite.name()), Some(*suite));
    }
    assert_eq!(CipherSuite::from_u16(0), None);
}

/// RFC 6066 §3
#[test]
fn the_host_name_is_found_behind_other_names() {
    let body = [0, 11, 9, 0, 1, b'x', 0, 0, 4, b'h', b'o', b's', b't'];
    assert_eq!(extension::host_name(&body), Some("host"));
    assert_eq!(extension::host_name(&body[..7]), None);
}
