//! Enhanced authentication and re-authentication. MQTT 5 §4.12, §3.15

use bytes::Bytes;
use headgate_model::access::{AuthRefusal, Credentials};
use headgate_model::{Answer, Question};
use headgate_mqtt_codec::{Auth, AuthProperties, Connect, Packet, ReasonCode};
use headgate_tests::*;

const CONTINUE: ReasonCode = ReasonCode::ContinueAuthentication;
const AGAIN: ReasonCode = ReasonCode::ReAuthenticate;

/// A CONNECT with method `m` and this data.
fn hello(data: &'static str) -> Connect {
    connect(V5, "c").with(|p| {
        p.authentication_method = Some(text("m"));
        p.authentication_data = Some(Bytes::from_static(data.as_bytes()));
    })
}

fn says(question: &Question, expected: &str) -> bool {
    let data = match question {
        Question::Authenticate(who) | Question::Reauthenticate(who) => {
            let Credentials { method, data, .. } = &**who;
            assert_eq!(method.as_deref(), Some("m"));
            data
        }
        Question::Continue(data) => data,
        Question::Authorize(_) | Question::Readmit(_) | Question::Identify => panic!("not about access"),
    };
    data.as_deref() == Some(expected.as_bytes())
}

/// A gateway that asks two more questions of those who use method `m`: hello → one, two → three, four → in with `welcome`.
fn demanding() -> Gateway {
    let gw = Gateway::default();
    let welcome = gw.allowed(Some("welcome"));
    gw.access(move |question| {
        Some(if says(question, "hello") {
            Answer::Challenge(Bytes::from_static(b"one"))
        } else if says(question, "two") {
            Answer::Challenge(Bytes::from_static(b"three"))
        } else if says(question, "four") {
            welcome.clone()
        } else {
            Answer::Refused(AuthRefusal::NotAuthorized)
        })
    });
    gw
}

/// [MQTT-4.12.0-2] [MQTT-4.12.0-5] [MQTT-3.15.2-1] [MQTT-3.2.0-1] [MQTT-4.12.0-3]
/// Step by step to CONNACK; every AUTH and the CONNACK name the method.
#[test]
fn enhanced_authentication_runs_to_connack() {
    let gw = demanding();
    let mut client = gw.connect(hello("hello"));
    assert_eq!(client.received(), [auth(CONTINUE, "m", "one").to_packet()]);
    client.send(auth(CONTINUE, "m", "two"));
    assert_eq!(client.received(), [auth(CONTINUE, "m", "three").to_packet()]);
    client.send(auth(CONTINUE, "m", "four"));
    let packets = client.received();
    let [Packet::ConnAck(connack)] = &packets[..] else {
        panic!("{packets:?}")
    };
    assert_eq!(connack.code, ReasonCode::Success);
    assert_eq!(connack.properties.authentication_method, Some(text("m")));
    assert_eq!(
        connack.properties.authentication_data.as_deref(),
        Some(&b"welcome"[..])
    );
}

/// [MQTT-4.12.0-1] [MQTT-3.14.0-1] A method that is not offered here.
#[test]
fn unknown_method_is_refused() {
    let gw = Gateway::default();
    gw.access(|_| Some(Answer::Refused(AuthRefusal::BadMethod)));
    let mut client = gw.connect(hello("hello"));
    assert_eq!(client.code(), Some(ReasonCode::BadAuthenticationMethod));
    assert!(client.is_closed());
    assert_eq!(client.received(), []);
}

/// [MQTT-4.12.0-4] [MQTT-3.14.0-1] The gateway may refuse at any step, by CONNACK.
#[test]
fn enhanced_authentication_is_refused_at_any_step() {
    let gw = demanding();
    assert_eq!(gw.connect(hello("wrong")).code(), Some(ReasonCode::NotAuthorized));
    for steps in [&["wrong"][..], &["two", "wrong"]] {
        let mut client = gw.connect(hello("hello"));
        for step in steps {
            client.received();
            client.send(auth(CONTINUE, "m", step));
        }
        let packets = client.received();
        let [Packet::ConnAck(connack)] = &packets[..] else {
            panic!("{packets:?}")
        };
        assert_eq!(connack.code, ReasonCode::NotAuthorized);
        assert!(client.is_closed());
    }
    assert_eq!(gw.stats().clients, 0);
}

/// [MQTT-3.1.2-30] [MQTT-4.12.0-3] [MQTT-4.12.0-5] [MQTT-3.15.2-1] [MQTT-3.1.4-6] [MQTT-3.14.0-1]
/// Until CONNACK there is nothing but the next step: anything else ends the connection, unprocessed, without DISCONNECT.
#[test]
fn packets_before_connack_of_an_authenticating_client() {
    let no_method = Auth {
        reason: CONTINUE,
        properties: None,
    };
    let wrong: [Packet; 8] = [
        publish("a", "x").to_packet(),
        subscribe(1, &[("a", AtMostOnce)]).to_packet(),
        Packet::PingReq,
        connect(V5, "c").to_packet(),
        auth(AGAIN, "m", "two").to_packet(),
        auth(ReasonCode::Success, "m", "two").to_packet(),
        auth(CONTINUE, "other", "two").to_packet(),
        no_method.to_packet(),
    ];
    for packet in wrong {
        let gw = demanding();
        let mut watcher = gw.link(V5);
        let mut client = gw.connect(hello("hello"));
        client.received();
        client.send(packet.clone());
        assert!(client.is_closed(), "{packet:?}");
        let packets = client.received();
        assert!(
            matches!(&packets[..], [] | [Packet::ConnAck(_)]),
            "CONNACK is allowed, DISCONNECT is not: {packets:?}"
        );
        if let [Packet::ConnAck(connack)] = &packets[..] {
            assert_eq!(connack.code, ReasonCode::ProtocolError, "{packet:?}");
        }
        assert_eq!((gw.stats().clients, gw.stats().published), (0, 0));
        watcher.received();
    }
}

/// [MQTT-3.1.2-30] DISCONNECT is allowed, and ends it quietly.
#[test]
fn authenticating_client_may_leave() {
    let gw = demanding();
    let mut client = gw.connect(hello("hello"));
    client.received();
    client.leave();
    assert!(client.is_closed());
    assert_eq!(client.received(), []);
}

/// A client that does not go on is not waited for for ever; nor is a service that does not answer.
#[test]
fn authentication_has_a_time_limit() {
    let gw = demanding();
    let mut slow = gw.connect(hello("hello"));
    slow.received();
    gw.sleep(9);
    slow.send(auth(CONTINUE, "m", "two"));
    slow.received();
    gw.sleep(9);
    assert!(!slow.is_closed(), "each step has its time");
    gw.sleep(1);
    assert!(slow.is_closed());

    let gw = Gateway::default();
    gw.access(|_| None);
    let mut client = gw.connect(connect(V5, "c"));
    gw.sleep(10);
    assert!(client.is_closed());
    let packets = client.received();
    let [Packet::ConnAck(connack)] = &packets[..] else {
        panic!("{packets:?}")
    };
    assert_eq!(connack.code, ReasonCode::ServerUnavailable);
}

/// [MQTT-4.12.0-6] [MQTT-4.12.0-7] Without a method in CONNECT there is no AUTH, from neither side, and none is named.
#[test]
fn no_auth_without_a_method() {
    for reason in [CONTINUE, AGAIN] {
        let gw = Gateway::default();
        let mut client = gw.open(connect(V5, "c").login("u", "p"));
        assert_eq!(client.told().authentication_method, None);
        client.send(auth(reason, "m", "x"));
        client.assert_refused(ReasonCode::ProtocolError);
    }
}

/// A client that is in, by method `m`.
fn authenticated(gw: &Gateway) -> Client {
    let mut client = gw.connect(hello("hello"));
    client.send(auth(CONTINUE, "m", "two"));
    client.send(auth(CONTINUE, "m", "four"));
    let last = client.received().pop();
    assert!(matches!(last, Some(Packet::ConnAck(_))), "{last:?}");
    client
}

/// [MQTT-4.12.1-1] [MQTT-4.12.0-5] A client proves itself again by the same method, while messages flow both ways; success is AUTH 0x00.
#[test]
fn reauthentication() {
    let gw = demanding();
    let mut client = authenticated(&gw);
    client.subscribe("a", AtMostOnce);
    client.send(auth(AGAIN, "m", "hello"));
    assert_eq!(client.received(), [auth(CONTINUE, "m", "one").to_packet()]);
    client.say("a", "meanwhile");
    assert_eq!(client.heard(), ["a=meanwhile"]);
    client.send(auth(CONTINUE, "m", "two"));
    client.send(auth(CONTINUE, "m", "four"));
    let expected = [
        auth(CONTINUE, "m", "three"),
        auth(ReasonCode::Success, "m", "welcome"),
    ];
    assert_eq!(client.received(), expected.map(ToPacket::to_packet));
    client.send(auth(AGAIN, "m", "hello"));
    assert_eq!(
        client.received(),
        [auth(CONTINUE, "m", "one").to_packet()],
        "and once more"
    );
}

/// [MQTT-4.12.1-1] [MQTT-4.12.0-5] [MQTT-3.15.2-1] Another method, none, or a step out of turn is a Protocol Error.
#[test]
fn reauthentication_out_of_turn_is_a_protocol_error() {
    let none = Auth {
        reason: AGAIN,
        properties: Some(Box::new(AuthProperties::default())),
    };
    for wrong in [
        auth(AGAIN, "other", "hello"),
        auth(CONTINUE, "m", "two"),
        auth(ReasonCode::Success, "m", "hello"),
        none,
    ] {
        let gw = demanding();
        let mut client = authenticated(&gw);
        client.send(wrong.clone());
        client.assert_refused(ReasonCode::ProtocolError);
    }
    let gw = demanding();
    let mut client = authenticated(&gw);
    client.send(auth(AGAIN, "m", "hello"));
    client.send(auth(AGAIN, "m", "hello"));
    client.assert_refused(ReasonCode::ProtocolError);
}

/// [MQTT-4.12.1-2] Who fails to prove itself again is thrown out, and its will goes out.
#[test]
fn failed_reauthentication_ends_the_connection() {
    let gw = demanding();
    let mut client = authenticated(&gw);
    client.send(auth(AGAIN, "m", "hello"));
    client.received();
    client.send(auth(CONTINUE, "m", "wrong"));
    client.assert_refused(ReasonCode::NotAuthorized);
    assert_eq!(gw.stats().clients, 0);
}
