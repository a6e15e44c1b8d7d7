//! Wills. MQTT 5 §3.1.2.5, §3.1.3.2; 3.1.1 §3.1.2.5

use bytes::Bytes;
use headgate_mqtt_codec::{Packet, PublishProperties, ReasonCode, WillProperties};
use headgate_tests::*;
use std::time::Duration;

fn watcher(gw: &Gateway) -> Client {
    let mut watcher = gw.open(connect(V5, "watcher").durable());
    watcher.subscribe("gone", ExactlyOnce);
    watcher
}

const NOTHING: [&str; 0] = [];

/// [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.1.2-12] [MQTT-3.14.4-3]
/// [3.1.1 MQTT-3.1.2-8] [3.1.1 MQTT-3.1.2-9] [3.1.1 MQTT-3.1.2-14] [3.1.1 MQTT-3.1.2-10] [3.1.1 MQTT-3.1.2-12] [3.1.1 MQTT-3.14.4-3]
/// The will goes out once, at its QoS, however the connection ends but by DISCONNECT 0x00; and never without will flag.
#[test]
fn will_is_published_on_abnormal_end_only() {
    type End = fn(&Gateway, &mut Client);
    let ends: [(&str, End, bool); 6] = [
        ("link lost", |_, client| client.lose(), true),
        ("keep alive", |gw, _| gw.sleep(15), true),
        (
            "protocol error",
            |_, client| client.send_bytes(&[0xF0, 0xFF, 0xFF, 0xFF, 0xFF]),
            true,
        ),
        ("taken over", |gw, _| drop(gw.client(V311, "c")), true),
        ("thrown out", |gw, _| gw.kick("c"), true),
        ("goodbye", |_, client| client.leave(), false),
    ];
    for version in NUMBERED {
        for (what, end, expected) in ends {
            for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
                let gw = Gateway::default();
                let mut watcher = watcher(&gw);
                let mut client = gw.open(
                    connect(version, "c")
                        .keep_alive(10)
                        .will(will("gone", "c").qos(qos)),
                );
                end(&gw, &mut client);
                assert!(client.is_closed(), "{what}");
                let messages = watcher.take();
                assert_eq!(messages.len(), usize::from(expected), "{version} {what}");
                assert!(
                    messages
                        .iter()
                        .all(|message| message.qos == qos && !message.retain)
                );

                let mut again = gw.open(connect(version, "c").keep_alive(10));
                again.lose();
                assert_eq!(
                    watcher.heard(),
                    NOTHING,
                    "not a second time, and never without a will"
                );
            }
        }
    }
}

/// [MQTT-3.14.4-3] [MQTT-3.1.2-8] MQTT 5: DISCONNECT 0x04 asks for the will, and so does any error code.
#[test]
fn disconnect_with_another_reason_publishes_the_will() {
    for reason in [
        ReasonCode::DisconnectWithWill,
        ReasonCode::UnspecifiedError,
        ReasonCode::ImplementationSpecificError,
    ] {
        let gw = Gateway::default();
        let mut watcher = watcher(&gw);
        let mut client = gw.open(connect(V5, "c").will(will("gone", "c")));
        client.send(disconnect(reason));
        assert_eq!(client.received(), []);
        assert!(client.is_closed());
        assert_eq!(watcher.heard(), ["gone=c"]);
    }
}

/// [MQTT-3.1.2-14] [MQTT-3.1.2-15] [3.1.1 MQTT-3.1.2-16] [3.1.1 MQTT-3.1.2-17]
#[test]
fn will_retain_is_honoured() {
    for version in NUMBERED {
        for retain in [false, true] {
            let gw = Gateway::default();
            let mut last = will("gone", "c");
            last.retain = retain;
            gw.open(connect(version, "c").will(last)).lose();
            let mut late = gw.client(version, "late");
            late.subscribe("gone", AtMostOnce);
            let found = late.messages();
            assert_eq!(found.len(), usize::from(retain));
            assert!(found.iter().all(|message| message.retain));
        }
    }
}

/// [MQTT-3.1.2-8] [MQTT-3.1.3-9] [MQTT-3.1.2-10] The will waits for its delay or for the end of the session, whichever is first; a client
/// that is back before gets no will.
#[test]
fn will_waits_for_its_delay() {
    let with_delay = |delay, expiry| {
        connect(V5, "c")
            .resume()
            .expiry(expiry)
            .will(will("gone", "c").delay(delay))
    };
    for (delay, expiry, at) in [(10, 60, 10), (60, 10, 10), (10, 0, 0), (0, 60, 0), (10, 10, 10)] {
        let gw = Gateway::default();
        let mut watcher = watcher(&gw);
        gw.open(with_delay(delay, expiry)).lose();
        if at > 0 {
            gw.advance(Duration::from_millis(at * 1_000 - 1));
            assert_eq!(watcher.heard(), NOTHING, "delay {delay}, expiry {expiry}");
            gw.advance(Duration::from_millis(1));
        }
        assert_eq!(watcher.heard(), ["gone=c"], "delay {delay}, expiry {expiry}");
        gw.sleep(100);
        assert_eq!(watcher.heard(), NOTHING);
    }

    let gw = Gateway::default();
    let mut watcher = watcher(&gw);
    gw.open(with_delay(10, 60)).lose();
    gw.sleep(9);
    let mut back = gw.open(connect(V5, "c").resume().expiry(60));
    gw.sleep(10);
    back.lose();
    gw.sleep(100);
    assert_eq!(
        watcher.heard(),
        NOTHING,
        "it was back in time, and has no will any more"
    );
}

/// MQTT 5 §3.1.3.2.2: a clean start ends the session, and its will is due at the end of the session.
#[test]
fn clean_start_publishes_a_waiting_will() {
    let gw = Gateway::default();
    let mut watcher = watcher(&gw);
    gw.open(connect(V5, "c").expiry(60).will(will("gone", "c").delay(10)))
        .lose();
    gw.client(V5, "c");
    assert_eq!(watcher.heard(), ["gone=c"]);
}

/// [MQTT-3.1.3-9] [MQTT-3.1.2-8] A take-over that goes on with the session within the delay sends no will; any other does.
#[test]
fn take_over_sends_the_will_unless_the_session_goes_on() {
    for (delay, clean, expected) in [(10, false, 0), (10, true, 1), (0, false, 1), (0, true, 1)] {
        let gw = Gateway::default();
        let mut watcher = watcher(&gw);
        let hello = connect(V5, "c").expiry(60).will(will("gone", "c").delay(delay));
        let _old = gw.open(hello.clone());
        let mut hello = connect(V5, "c").expiry(60);
        hello.clean_start = clean;
        let _new = gw.open(hello);
        gw.sleep(20);
        assert_eq!(watcher.heard().len(), expected, "delay {delay}, clean {clean}");
    }
}

/// [MQTT-3.1.2-8] [MQTT-3.1.2-10] [3.1.1 MQTT-3.1.2-8] A power cut is an abnormal end too: the will is published once the gateway is back,
/// after its delay, and once only.
#[test]
fn will_survives_a_power_cut() {
    for version in NUMBERED {
        let gw = Gateway::default();
        drop(watcher(&gw));
        let _client = gw.open(connect(version, "c").will(will("gone", "c").qos(AtLeastOnce)));
        gw.crash(Duration::from_secs(5));
        assert_eq!(gw.open(connect(V5, "watcher").durable()).heard(), ["gone=c"]);
        gw.crash(Duration::from_secs(5));
        assert_eq!(gw.open(connect(V5, "watcher").durable()).heard(), NOTHING);
    }
    let gw = Gateway::default();
    drop(watcher(&gw));
    gw.open(
        connect(V5, "c")
            .expiry(600)
            .will(will("gone", "c").qos(AtLeastOnce).delay(60)),
    )
    .lose();
    gw.sleep(10);
    gw.crash(Duration::from_secs(20));
    let mut watcher = gw.open(connect(V5, "watcher").durable());
    gw.sleep(29);
    assert_eq!(watcher.heard(), NOTHING);
    gw.sleep(1);
    assert_eq!(watcher.heard(), ["gone=c"], "60 s after the loss");
}

/// MQTT 5 §3.1.2.5: a gateway that stops in good order says so, and keeps the wills for the end of the sessions.
#[test]
fn shutdown_keeps_the_wills() {
    let gw = Gateway::default();
    drop(watcher(&gw));
    let mut client = gw.open(
        connect(V5, "c")
            .expiry(600)
            .will(will("gone", "c").qos(AtLeastOnce).delay(30)),
    );
    gw.shut_down();
    client.assert_refused(ReasonCode::ServerShuttingDown);
    gw.crash(Duration::from_secs(5));
    let mut watcher = gw.open(connect(V5, "watcher").durable());
    assert_eq!(watcher.heard(), NOTHING);
    gw.open(connect(V5, "c").resume().expiry(600)).leave();
    gw.sleep(60);
    assert_eq!(watcher.heard(), NOTHING, "it came back");
}

/// [MQTT-3.1.3-10] [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
/// The will carries its properties, its user properties in their order; its delay is not one of them, and its life begins when it is
/// published. Our reading: docs/interpretations.md#will-expiry.
#[test]
fn will_carries_its_properties() {
    let gw = Gateway::default();
    let mut watcher = watcher(&gw);
    let pairs = [("b", "1"), ("a", "2"), ("b", "1")].map(|(k, v)| (text(k), text(v)));
    let properties = WillProperties {
        delay_interval: Some(10),
        payload_format: Some(true),
        message_expiry: Some(60),
        content_type: Some(text("text/plain")),
        response_topic: Some(text("answers")),
        correlation_data: Some(Bytes::from_static(&[0, 255])),
        user_properties: pairs.clone().into(),
    };
    let last = will("gone", "c").with(|p| *p = properties);
    gw.open(connect(V5, "c").expiry(600).will(last)).lose();
    gw.sleep(10);
    let expected = PublishProperties {
        payload_format: Some(true),
        message_expiry: Some(60),
        content_type: Some(text("text/plain")),
        response_topic: Some(text("answers")),
        correlation_data: Some(Bytes::from_static(&[0, 255])),
        user_properties: pairs.into(),
        ..PublishProperties::default()
    };
    assert_eq!(watcher.take()[0].props(), expected);
}

/// A refused CONNECT leaves no will behind, and takes none from the connection it did not replace.
#[test]
fn refused_connect_has_no_will() {
    let gw = Gateway::default();
    let mut watcher = watcher(&gw);
    let mut client = gw.open(connect(V5, "c").will(will("gone", "first")));
    gw.access(|_| {
        let why = headgate_model::access::AuthRefusal::NotAuthorized;
        Some(headgate_model::Answer::Refused(why))
    });
    gw.connect(connect(V5, "c").will(will("gone", "second")));
    assert_eq!(watcher.heard(), NOTHING);
    client.send(Packet::PingReq);
    assert_eq!(client.received(), [Packet::PingResp]);
    client.lose();
    assert_eq!(watcher.heard(), ["gone=first"]);
}

/// An empty will message is a message. 3.1.1 §3.1.3.3, MQTT 5 §3.1.3.4
#[test]
fn will_may_be_empty() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut watcher = watcher(&gw);
        gw.open(connect(version, "c").will(will("gone", ""))).lose();
        assert_eq!(watcher.heard(), ["gone="]);
    }
}

/// [MQTT-3.1.3-9] [MQTT-3.1.2-8] A new connection begins with its own will and its own delay, also when the power fails right then.
#[test]
fn delay_of_an_earlier_connection_is_forgotten() {
    let gw = Gateway::default();
    drop(watcher(&gw));
    let with_delay = |delay| {
        let last = will("gone", "c").qos(AtLeastOnce).delay(delay);
        connect(V5, "c").resume().expiry(600).will(last)
    };
    gw.open(with_delay(10)).lose();
    gw.sleep(9);
    let _back = gw.open(with_delay(60));
    gw.crash(Duration::ZERO);
    let mut watcher = gw.open(connect(V5, "watcher").durable());
    gw.sleep(59);
    assert_eq!(watcher.heard(), NOTHING);
    gw.sleep(1);
    assert_eq!(watcher.heard(), ["gone=c"]);
}

/// [MQTT-3.1.3-9] The will comes when the session ends, if its delay is not over by then: a session that ended with the gateway has its will at the start.
#[test]
fn a_session_that_ended_with_the_gateway_has_its_will_at_once() {
    let gw = Gateway::default();
    drop(watcher(&gw));
    let last = will("gone", "c").qos(AtLeastOnce).delay(3_600);
    let _client = gw.open(connect(V5, "c").will(last));
    gw.crash(Duration::ZERO);
    let mut watcher = gw.open(connect(V5, "watcher").durable());
    gw.sleep(1);
    assert_eq!(watcher.heard(), ["gone=c"]);
}
