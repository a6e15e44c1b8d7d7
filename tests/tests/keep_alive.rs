//! Keep alive and PINGREQ. MQTT 5 §3.1.2.10, §3.2.2.3.14, §3.12

use headgate_model::{AccessDecision, Action, Answer};
use headgate_mqtt_codec::{Packet, ReasonCode};
use headgate_tests::*;
use std::time::Duration;

const JUST_BEFORE: Duration = Duration::from_millis(14_999);
const ONE_MS: Duration = Duration::from_millis(1);

/// [MQTT-3.1.2-22] [MQTT-3.2.2-22] [3.1.1 MQTT-3.1.2-24]
/// One and a half times the keep alive without a whole packet, to the millisecond: the connection is lost, and the will goes out. Any
/// packet begins the time anew; half a packet does not, and neither does what we send.
/// Our reading: docs/interpretations.md#keep-alive.
#[test]
fn silent_client_is_closed_after_one_and_a_half_keep_alives() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut watcher = gw.client(V5, "w");
        watcher.subscribe("gone", AtMostOnce);
        let mut client = gw.open(connect(version, "c").keep_alive(10).will(will("gone", "c")));
        client.subscribe("a", AtMostOnce);
        for packet in [
            Packet::PingReq,
            publish("x", "").to_packet(),
            puback(9).to_packet(),
        ] {
            gw.advance(JUST_BEFORE);
            client.send(packet);
        }
        client.received();
        gw.sleep(14);
        watcher.say("a", "from us");
        client.send_bytes(&[0x30, 10, 0]);
        gw.advance(Duration::from_millis(999));
        assert!(!client.is_closed());
        assert_eq!(watcher.messages(), []);
        gw.advance(ONE_MS);
        let from_us = client.expect(headgate_mqtt_codec::PacketType::Publish);
        assert_eq!(from_us, publish("a", "from us").to_packet());
        client.assert_refused(ReasonCode::KeepAliveTimeout);
        assert_eq!(watcher.heard(), ["gone=c"]);
    }
}

/// [MQTT-3.1.2-22] [3.1.1 MQTT-3.1.2-24] Zero switches it off.
#[test]
fn keep_alive_of_zero_is_none() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut client = gw.open(connect(version, "c").keep_alive(0));
        gw.sleep(30 * 86_400);
        client.send(Packet::PingReq);
        assert_eq!(client.received(), [Packet::PingResp]);
    }
}

/// [MQTT-3.1.2-22] The operator's limit is told to MQTT 5 clients as Server Keep Alive, and counts. Others cannot be told.
#[test]
fn server_keep_alive_is_told_and_counts() {
    let gw = Gateway::with(|s| s.mqtt.max_keep_alive = Duration::from_secs(10));
    for (wished, told) in [(60, Some(10)), (0, Some(10)), (10, None), (5, None)] {
        let client = gw.open(connect(V5, "c").keep_alive(wished));
        assert_eq!(client.told().server_keep_alive, told, "{wished} s");
        let patience = 1_500 * u64::from(told.unwrap_or(wished));
        gw.advance(Duration::from_millis(patience - 1));
        assert!(!client.is_closed());
        gw.advance(ONE_MS);
        assert!(client.is_closed());
    }
    let old = gw.open(connect(V311, "o").keep_alive(60));
    gw.sleep(89);
    assert!(!old.is_closed());
    gw.sleep(1);
    assert!(old.is_closed());
}

/// [MQTT-3.12.4-1] [3.1.1 MQTT-3.12.4-1] PINGREQ is answered at once, also while acknowledgements wait.
#[test]
fn pingreq_is_answered() {
    for version in ALL {
        let gw = Gateway::default();
        let mut client = gw.open(connect(version, "c").durable());
        gw.withhold_commits();
        client.send(publish("a", "x").qos(ExactlyOnce, 1));
        client.send(Packet::PingReq);
        client.send(Packet::PingReq);
        assert_eq!(client.received(), [Packet::PingResp, Packet::PingResp]);
    }
}

/// PINGREQ has no flags and no body. §3.12.1, §3.12.2
#[test]
fn pingreq_has_nothing_in_it() {
    for version in NUMBERED {
        for wrong in [&[0xC1, 0][..], &[0xC2, 0], &[0xC0, 1, 0]] {
            let mut client = Gateway::default().client(version, "c");
            client.send_bytes(wrong);
            client.assert_refused(ReasonCode::MalformedPacket);
        }
    }
}

/// Time that the gateway itself takes to find out what is allowed is not the client's silence: its packets lie unread meanwhile.
#[test]
fn unanswered_question_does_not_count_as_silence() {
    let gw = Gateway::default();
    gw.rule(Action::Publish, "asked", AccessDecision::Ask);
    let mut client = gw.open(connect(V5, "c").keep_alive(10));
    gw.access(|_| None);
    client.send(publish("asked", "x").qos(AtLeastOnce, 1));
    for _ in 0..5 {
        gw.sleep(10);
        client.send(Packet::PingReq);
    }
    assert!(!client.is_closed());
    gw.answer(Answer::Authorized(vec![AccessDecision::Allow]));
    assert_eq!(client.received().len(), 6);
    gw.advance(JUST_BEFORE);
    assert!(!client.is_closed());
    gw.advance(ONE_MS);
    client.assert_refused(ReasonCode::KeepAliveTimeout);
}
