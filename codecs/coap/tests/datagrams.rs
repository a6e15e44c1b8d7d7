//! Datagrams and streams: examples of the specifications, and what is refused.

use bytes::{Bytes, BytesMut};
use headgate_coap_codec::{
    Code, DecodeError, Kind, Message, Options, StreamError, Token, decode, decode_stream, encode,
    encode_stream, encoded_len, number,
};
use proptest::prelude::*;

fn encoded(message: &Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(message, &mut bytes).unwrap();
    bytes
}

/// RFC 7252 appendix A, figure 16: a confirmable request with its piggybacked response. \[RFC7252-3-1\]
#[test]
fn the_first_example_of_the_specification() {
    let mut get = Message::new(Kind::Confirmable, Code::GET, 0x7d34, Token::default());
    get.options.push(number::URI_PATH, "temperature");
    let bytes = encoded(&get);
    assert_eq!(&bytes[..], b"\x40\x01\x7d\x34\xbbtemperature");
    assert_eq!(decode(&bytes), Ok(get));

    let mut content = Message::new(Kind::Acknowledgement, Code::CONTENT, 0x7d34, Token::default());
    content.payload = Bytes::from_static(b"22.3 C");
    let bytes = encoded(&content);
    assert_eq!(&bytes[..], b"\x60\x45\x7d\x34\xff22.3 C");
    assert_eq!(decode(&bytes), Ok(content));
}

/// What RFC 7252 calls a message format error, and what is no CoAP at all.
/// \[RFC7252-3-2\] \[RFC7252-3-4\] \[RFC7252-3-5\] \[RFC7252-3.1-2\] \[RFC7252-3.1-3\] \[RFC7252-4.1-2\]
#[test]
fn what_is_no_message() {
    let malformed = |bytes: &[u8]| match decode(bytes) {
        Err(DecodeError::Malformed { kind, id, .. }) => Some((kind, id)),
        _ => None,
    };
    let confirmable = Some((Kind::Confirmable, 0x1234));
    assert_eq!(
        malformed(b"\x49\x01\x12\x34123456789"),
        confirmable,
        "§3: token lengths 9-15 are reserved"
    );
    assert_eq!(
        malformed(b"\x44\x01\x12\x34abc"),
        confirmable,
        "a token that is cut off"
    );
    assert_eq!(
        malformed(b"\x40\x01\x12\x34\xff"),
        confirmable,
        "§3: a marker without a payload"
    );
    assert_eq!(
        malformed(b"\x40\x01\x12\x34\x61\x05\xff"),
        confirmable,
        "the same behind an option"
    );
    assert_eq!(
        malformed(b"\x40\x01\x12\x34\xf0"),
        confirmable,
        "§3.1: a delta of 15"
    );
    assert_eq!(
        malformed(b"\x40\x01\x12\x34\x0f"),
        confirmable,
        "§3.1: a length of 15"
    );
    assert_eq!(
        malformed(b"\x40\x01\x12\x34\x45abc"),
        confirmable,
        "an option that is cut off"
    );
    assert_eq!(
        malformed(b"\x41\x00\x12\x34a"),
        confirmable,
        "§4.1: an Empty message with a token"
    );
    assert_eq!(
        malformed(b"\x60\x00\x12\x34\xffa"),
        Some((Kind::Acknowledgement, 0x1234)),
        "and with a payload"
    );
    assert_eq!(
        malformed(b"\x40\x01\x12\x34\xed\xff\xff\x00\xe0\xff\xff"),
        confirmable,
        "numbers above 65,535"
    );
    for no_coap in [
        &b""[..],
        b"\x40",
        b"\x40\x01\x12",
        b"\x00\x01\x12\x34",
        b"\x80\x01\x12\x34",
    ] {
        assert_eq!(decode(no_coap), Err(DecodeError::NotCoap), "{no_coap:?}");
    }
    assert!(
        decode(b"\x40\x01\x12\x34\x61\xff").is_ok(),
        "0xFF as the value of an option is no marker"
    );
}

/// RFC 7252 §3 \[RFC7252-3-3\]
#[test]
fn a_token_has_eight_bytes_at_most() {
    assert_eq!(Token::new(&[7; 8]).map(|token| token.as_bytes().len()), Some(8));
    assert_eq!(Token::new(&[7; 9]), None);
}

/// RFC 8323 §3.2, figures 5 and 6: the length counts options and payload. \[RFC8323-3.2-1\]
#[test]
fn messages_on_a_connection() {
    let mut get = Message::of_stream(Code::GET, Token::new(b"\x20").unwrap());
    get.options.push(number::URI_PATH, "temperature");
    let mut bytes = BytesMut::new();
    encode_stream(&get, &mut bytes).unwrap();
    assert_eq!(&bytes[..], b"\xc1\x01\x20\xbbtemperature");
    let mut long = Message::of_stream(Code::CONTENT, Token::default());
    for length in [0, 11, 12, 13, 267, 268, 269, 65_803, 65_804, 65_805, 100_000] {
        long.payload = vec![7; length].into();
        encode_stream(&long, &mut bytes).unwrap();
        let first = decode_stream(&mut bytes, 200_000).unwrap().unwrap();
        assert!(first == get || first.payload.len() < length + 1);
        assert_eq!(first.kind, Kind::Confirmable);
        bytes.clear();
        encode_stream(&long, &mut bytes).unwrap();
        assert_eq!(
            decode_stream(&mut bytes, 200_000),
            Ok(Some(long.clone())),
            "{length}"
        );
        assert!(bytes.is_empty());
    }
}

/// A declared gigabyte is refused when its length is read, not when it is there. \[RFC8323-3.2-2\]
#[test]
fn a_long_message_is_refused_at_once() {
    let mut bytes = BytesMut::from(&b"\xf0\x40\x00\x00\x00"[..]);
    assert_eq!(
        decode_stream(&mut bytes, 1_152),
        Err(StreamError::TooLarge {
            size: 6 + 65_805 + (1 << 30),
            limit: 1_152
        })
    );
    let mut bytes = BytesMut::from(&b"\x09"[..]);
    assert!(matches!(
        decode_stream(&mut bytes, 1_152),
        Err(StreamError::Malformed(_))
    ));
}

fn messages() -> impl Strategy<Value = Message> {
    let options = prop::collection::vec((0_u16.., prop::collection::vec(0_u8.., 0..300)), 0..8);
    let token = prop::collection::vec(0_u8.., 0..=8);
    let payload = prop::collection::vec(0_u8.., 0..400);
    (0_u8..4, 1_u8.., 0_u16.., token, options, payload).prop_map(
        |(kind, code, id, token, options, payload)| {
            let kinds = [
                Kind::Confirmable,
                Kind::NonConfirmable,
                Kind::Acknowledgement,
                Kind::Reset,
            ];
            let mut all = Options::default();
            options
                .into_iter()
                .for_each(|(number, value)| all.push(number, value));
            Message {
                options: all,
                payload: payload.into(),
                ..Message::new(
                    kinds[usize::from(kind)],
                    Code(code),
                    id,
                    Token::new(&token).unwrap(),
                )
            }
        },
    )
}

proptest! {
    /// \[RFC7252-3.1-1\] \[RFC7252-5.3.1-5\]
    #[test]
    fn decoding_what_was_encoded_gives_the_same(message in messages()) {
        let bytes = encoded(&message);
        prop_assert_eq!(bytes.len(), encoded_len(&message));
        prop_assert_eq!(decode(&bytes), Ok(message));
    }

    /// \[RFC8323-3.2-1\]
    #[test]
    fn every_split_of_a_stream_gives_the_same(message in messages(), at in 0_usize..2_000) {
        let message = Message { kind: Kind::Confirmable, id: 0, ..message };
        let mut whole = BytesMut::new();
        encode_stream(&message, &mut whole).unwrap();
        encode_stream(&message, &mut whole).unwrap();
        let (mut bytes, rest) = (BytesMut::from(&whole[..at.min(whole.len())]), &whole[at.min(whole.len())..]);
        let mut got = Vec::new();
        while let Some(message) = decode_stream(&mut bytes, 100_000).unwrap() {
            got.push(message);
        }
        bytes.extend_from_slice(rest);
        while let Some(message) = decode_stream(&mut bytes, 100_000).unwrap() {
            got.push(message);
        }
        prop_assert_eq!(got, [message.clone(), message]);
    }
}
