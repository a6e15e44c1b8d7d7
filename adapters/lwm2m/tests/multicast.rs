//! Requests that come to a group. RFC 7252 §8

use bytes::BytesMut;
use headgate_coap_codec::{Code, Kind, Message, Token, decode, encode, number};
use headgate_lwm2m::{Lwm2mServer, Lwm2mSettings};
use headgate_model::bus::PeerName;
use headgate_model::datagram::Address;
use headgate_model::{DatagramOutputs, DatagramServer, Instant, Naming};
use std::sync::Arc;
use std::time::Duration;

/// Somebody who speaks to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ByGroup;

impl Address for ByGroup {
    const FORGEABLE: bool = true;

    fn presence(&self) -> (PeerName, u16) {
        ("192.0.2.1".into(), 5_683)
    }

    fn of_presence(_: &str, _: u16) -> Option<Self> {
        None
    }

    fn is_by_group(&self) -> bool {
        true
    }
}

/// What is said within an hour. Nobody is asked anything, and the bus hears nothing.
fn said_to(code: Code, path: &[&'static str], query: &[&'static str]) -> Vec<Message> {
    let mut message = Message::new(Kind::NonConfirmable, code, 7, Token::default());
    for segment in path {
        message.options.push(number::URI_PATH, *segment);
    }
    for word in query {
        message.options.push(number::URI_QUERY, *word);
    }
    let mut bytes = BytesMut::new();
    encode(&message, &mut bytes).unwrap();
    let mut server = Lwm2mServer::repeating(Lwm2mSettings::default(), Arc::new(Naming::default()), 1);
    let mut out = DatagramOutputs::default();
    let now = Instant(1_000);
    server.handle_datagram(ByGroup, bytes.freeze(), now, &mut out);
    assert_eq!(out.datagrams(), 0, "not at once");
    while let Some(due) = server
        .deadline()
        .filter(|due| *due <= now + Duration::from_secs(3_600))
    {
        server.handle_timeout(due, &mut out);
    }
    assert!(out.bus.is_empty() && out.questions.is_empty());
    let sent = out.take_datagrams().into_iter();
    sent.map(|(_, bytes)| decode(&bytes).unwrap()).collect()
}

/// §8.2, RFC 6690 §4.1 \[RFC7252-8.2-1\] \[RFC7252-8.2-3\]
#[test]
fn a_group_is_told_where_clients_register() {
    let core = [".well-known", "core"];
    let said = said_to(Code::GET, &core, &["rt=core.rd*"]);
    let [answer] = &said[..] else { panic!("{said:?}") };
    assert_eq!((answer.kind, answer.code), (Kind::NonConfirmable, Code::CONTENT));
    assert_eq!(answer.payload, "</rd>;rt=\"core.rd\"");
    assert!(said_to(Code::GET, &core, &["rt=other"]).is_empty());
}

/// §8.2, §11.3: nobody registers by a group, and no error is told there. \[RFC7252-8-1\] \[RFC7252-11.3-2\]
#[test]
fn nobody_registers_by_a_group() {
    for (code, path, query) in [
        (Code::POST, &["rd"][..], &["ep=dev", "lt=60"][..]),
        (Code::POST, &["rd"], &[]),
        (Code::POST, &["rd", "1"], &[]),
        (Code::POST, &["bs"], &["ep=dev"]),
        (Code::POST, &["dp"], &[]),
        (Code::GET, &["nothing"], &[]),
    ] {
        assert!(said_to(code, path, query).is_empty(), "{code} {path:?}");
    }
}
