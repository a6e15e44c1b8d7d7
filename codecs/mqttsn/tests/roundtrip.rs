//! decode∘encode is the identity, and nothing else does harm.

mod common;

use bytes::{Bytes, BytesMut};
use common::{datagram, generate};
use headgate_mqttsn_codec::{
    Encapsulation, MAX_LEN, MAX_NODE_LEN, Message, TooLong, decode, encode, encode_wrapped, encoded_len,
    is_reserved, unwrap_datagram,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_itself(message in generate::message()) {
        let bytes = datagram(None, &message);
        prop_assert_eq!(bytes.len(), encoded_len(&message));
        let (layer, inner) = unwrap_datagram(&bytes).unwrap();
        prop_assert_eq!(layer, None);
        prop_assert_eq!(decode(&inner), Ok(message));
    }

    /// §5.5
    #[test]
    fn a_forwarders_layer_comes_off_again(layer in generate::encapsulation(), message in generate::message()) {
        let bytes = datagram(Some(&layer), &message);
        let (found, inner) = unwrap_datagram(&bytes).unwrap();
        prop_assert_eq!(found, Some(layer));
        prop_assert_eq!(decode(&inner), Ok(message));
    }

    /// One byte more or less is an error, never another message.
    #[test]
    fn a_datagram_is_exactly_one_message(message in generate::message(), byte: u8) {
        let bytes = datagram(None, &message);
        prop_assert!(decode(&bytes.slice(..bytes.len() - 1)).is_err());
        let mut more = BytesMut::from(&bytes[..]);
        more.extend_from_slice(&[byte]);
        prop_assert!(decode(&more.freeze()).is_err());
    }

    #[test]
    fn any_bytes_decode_to_something_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        if let Ok((layer, inner)) = unwrap_datagram(&bytes)
            && let Ok(message) = decode(&inner)
        {
            let again = datagram(layer.as_ref(), &message);
            let (_, inner) = unwrap_datagram(&again).unwrap();
            prop_assert_eq!(decode(&inner), Ok(message));
        }
    }
}

/// §5.2.1 The length field has one byte up to 255 and three from 256 to 65,535.
#[test]
fn lengths_have_one_byte_or_three() {
    for (payload, head) in [
        (0, &[2u8][..]),
        (253, &[255]),
        (254, &[1, 1, 2]),
        (MAX_LEN - 4, &[1, 255, 255]),
    ] {
        let message = Message::WillMsg(Bytes::from(vec![7; payload]));
        let bytes = datagram(None, &message);
        assert_eq!(&bytes[..head.len()], head, "{payload} bytes of payload");
        assert_eq!(decode(&bytes), Ok(message));
    }
    let message = Message::WillMsg(Bytes::from(vec![7; MAX_LEN - 3]));
    let mut out = BytesMut::new();
    assert_eq!(encode(&message, &mut out), Err(TooLong(MAX_LEN + 1)));
    assert!(out.is_empty());
}

/// §5.5 The header of an encapsulation, the node id in it, fits into one byte.
#[test]
fn a_node_id_has_up_to_252_bytes() {
    let layer = |len| Encapsulation {
        radius: 1,
        node: Bytes::from(vec![9; len]),
    };
    let mut out = BytesMut::new();
    encode_wrapped(&layer(MAX_NODE_LEN), &Message::PingResp, &mut out).unwrap();
    assert_eq!(out[0], 255);
    assert_eq!(
        unwrap_datagram(&out.freeze()).unwrap().0,
        Some(layer(MAX_NODE_LEN))
    );
    let mut out = BytesMut::new();
    assert!(encode_wrapped(&layer(MAX_NODE_LEN + 1), &Message::PingResp, &mut out).is_err());
    assert!(out.is_empty());
}

/// §5.3.11
#[test]
fn two_topic_ids_are_reserved() {
    assert!(is_reserved(0x0000) && is_reserved(0xFFFF));
    assert!(!is_reserved(0x0001) && !is_reserved(0xFFFE));
}

/// Payloads are not copied.
#[test]
fn payloads_are_slices_of_the_datagram() {
    let bytes = datagram(None, &Message::WillMsg(Bytes::from_static(b"a last word")));
    let Ok(Message::WillMsg(payload)) = decode(&bytes) else {
        panic!("WILLMSG")
    };
    assert!(bytes.as_ptr_range().contains(&payload.as_ptr()));
}
