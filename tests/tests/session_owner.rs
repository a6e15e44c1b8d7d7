//! A session has an owner: the identity that opened it. Another one gets nothing of it, and cannot end it. docs/security.md

use headgate_mqtt_codec::{Packet, ReasonCode, Version};
use headgate_tests::*;
use std::time::Duration;

const NOTHING: [&str; 0] = [];

/// A gateway that knows clients by their user names.
fn gateway(share: bool) -> Gateway {
    let gw = Gateway::with(|settings| settings.bus.share_sessions = share);
    gw.believe_user_names();
    gw
}

fn as_user(version: Version, user: &str) -> headgate_mqtt_codec::Connect {
    let hello = connect(version, "pump");
    if user.is_empty() {
        hello
    } else {
        hello.login(user, "secret")
    }
}

/// A durable session of `owner` with a subscription and a message that waits.
fn with_session(gw: &Gateway, version: Version, owner: &str) {
    let mut client = gw.open(as_user(version, owner).durable());
    client.subscribe("secret/#", AtLeastOnce);
    client.lose();
    gw.client(V5, "publisher")
        .deliver(publish("secret/1", "x"), AtLeastOnce);
}

/// MQTT 5 §3.2.2.2: 0x85; 3.1.1 §3.2.2.3: 2.
#[test]
fn another_identity_gets_nothing_of_a_session_that_waits() {
    for version in ALL {
        for cut in [false, true] {
            for (owner, other) in [("alice", "bob"), ("alice", ""), ("", "bob")] {
                let gw = gateway(false);
                with_session(&gw, version, owner);
                if cut {
                    gw.crash(Duration::from_secs(60));
                    gw.believe_user_names();
                }
                for hello in [as_user(version, other).durable(), as_user(version, other)] {
                    let mut thief = gw.connect(hello);
                    assert_eq!(thief.code(), Some(ReasonCode::ClientIdentifierNotValid));
                    assert_eq!(thief.heard(), NOTHING, "{owner} {other}");
                }
                let mut back = gw.open(as_user(version, owner).durable());
                assert!(version == V31 || back.session_present(), "{owner} {other}");
                assert_eq!(back.heard(), ["secret/1=x"], "{owner} {other}");
            }
        }
    }
}

/// A take-over throws the older connection out \[MQTT-3.1.4-3\]: that is its owner's right alone.
#[test]
fn another_identity_throws_nobody_out() {
    for (owner, other) in [("alice", "bob"), ("alice", ""), ("", "bob")] {
        let gw = gateway(false);
        let mut client = gw.open(as_user(V5, owner));
        client.subscribe("a", AtMostOnce);
        for hello in [as_user(V5, other), as_user(V5, other).durable()] {
            assert_eq!(
                gw.connect(hello).code(),
                Some(ReasonCode::ClientIdentifierNotValid)
            );
        }
        gw.client(V5, "publisher").say("a", "1");
        assert_eq!(client.heard(), ["a=1"]);
        assert!(!client.is_closed());
        let same = gw.open(as_user(V5, owner));
        assert!(client.is_closed() && !same.is_closed());
    }
}

/// What is over is nobody's, even before its timer rang.
#[test]
fn a_session_that_is_over_is_free() {
    let gw = gateway(false);
    let mut client = gw.open(as_user(V5, "alice").resume().expiry(60));
    client.lose();
    gw.sleep(60);
    assert!(!gw.open(as_user(V5, "bob").durable()).session_present());
}

/// Sites whose clients share identities say so.
#[test]
fn sessions_are_shared_where_the_operator_says_so() {
    let gw = gateway(true);
    with_session(&gw, V5, "alice");
    let mut other = gw.open(as_user(V5, "bob").durable());
    assert_eq!(
        (other.session_present(), other.heard()),
        (true, vec!["secret/1=x".to_owned()])
    );
}

/// MQTT 5 §4.12.1: who proves itself again as somebody else does not go on with the session. \[MQTT-4.12.1-2\]
#[test]
fn reauthentication_does_not_change_the_owner() {
    for (user, refused) in [("alice", false), ("bob", true)] {
        let gw = Gateway::default();
        gw.access(|_| None);
        let mut client = gw.connect(connect(V5, "pump").with(|p| p.authentication_method = Some(text("m"))));
        gw.answer(gw.allowed_as("alice", None));
        assert!(matches!(client.received()[..], [Packet::ConnAck(_)]));
        client.send(auth(ReasonCode::ReAuthenticate, "m", "again"));
        gw.answer(gw.allowed_as(user, None));
        match refused {
            true => client.assert_refused(ReasonCode::NotAuthorized),
            false => assert!(matches!(client.received()[..], [Packet::Auth(_)])),
        }
    }
}
