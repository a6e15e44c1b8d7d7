//! Every line of the corpus, as it says.

mod common;

use bytes::Bytes;
use common::{corpus, datagram};
use headgate_mqttsn_codec::{MessageType, decode, unwrap_datagram};
use std::collections::BTreeSet;

#[test]
fn the_corpus_is_read_as_it_says() {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for line in corpus::lines() {
        let bytes = Bytes::from(line.bytes.clone());
        let read = unwrap_datagram(&bytes).and_then(|(layer, inner)| Ok((layer, decode(&inner)?)));
        let found = match &read {
            Ok((_, message)) => message.kind().name().to_owned(),
            Err(error) => {
                let name = format!("{error:?}");
                name.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
            }
        };
        if found != line.expected || read.is_ok() != line.allowed {
            faults.push(format!("{}: {read:?}, expected {}", line.at, line.expected));
        }
        if let Ok((layer, message)) = read {
            seen.insert(message.kind());
            // A length that could be shorter is the one thing that does not come back as it was.
            let same = datagram(layer.as_ref(), &message) == bytes || line.bytes.starts_with(&[1]);
            if !same {
                faults.push(format!("{}: does not encode to itself", line.at));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(seen, BTreeSet::from(MessageType::ALL), "each type has a line");
}

/// §5.2.2 Codes and types belong together one to one.
#[test]
fn types_are_their_codes() {
    let known = (0..=u8::MAX).filter_map(MessageType::from_u8).collect::<Vec<_>>();
    assert_eq!(known, MessageType::ALL);
    for kind in MessageType::ALL {
        assert_eq!(MessageType::from_u8(kind as u8), Some(kind));
    }
}
