//! From CONNECT to the first message, and the end of a connection.

mod bench;

use bench::*;
use headgate_bridge::{BridgeState, EndReason};
use headgate_model::{CloseReason, Instant, Qos as BusQos};
use headgate_mqtt_codec::{
    AckKind, Connect, Packet, Publish, Qos, ReasonCode, RetainHandling, SubAck, Version,
};

fn connect_of(bench: &mut Bench) -> Connect {
    bench.dial();
    match bench.sent().pop() {
        Some(Packet::Connect(connect)) => *connect,
        other => panic!("{other:?}"),
    }
}

/// Bit 0x80 of the protocol level, as mosquitto's `try_private`; MQTT 5 has no such thing.
#[test]
fn a_3_1_1_remote_is_told_that_this_is_a_bridge() {
    let connect = connect_of(&mut Bench::new(V3, &["#"]));
    assert!(connect.bridge);
    assert_eq!(
        (connect.version, connect.client_id),
        (Version::V311, text("up.here"))
    );
    assert_eq!((connect.clean_start, connect.keep_alive), (false, 60));
    assert_eq!(
        (connect.username, connect.password),
        (Some(text("me")), Some("secret".into()))
    );
    assert!(!connect_of(&mut Bench::new(V5, &["#"])).bridge);
    assert!(!connect_of(&mut Bench::with(V3, &["#"], |s| s.try_private = false)).bridge);
}

#[test]
fn a_remote_of_version_5_is_told_what_we_take() {
    let mut bench = Bench::with(V5, &["#"], |s| {
        s.receive_maximum = 7;
        s.max_packet_size = 4_096;
    });
    let properties = connect_of(&mut bench).properties;
    assert_eq!(properties.session_expiry, Some(u32::MAX), "for ever");
    assert_eq!(properties.receive_maximum.map(|n| n.get()), Some(7));
    assert_eq!(properties.maximum_packet_size.map(|n| n.get()), Some(4_096));
    assert_eq!(
        properties.user_properties,
        [(text("headgate-bridge"), text("here"))]
    );
}

#[test]
fn the_bit_is_left_off_after_it_was_refused() {
    let mut bench = Bench::new(V3, &["#"]);
    assert!(connect_of(&mut bench).bridge);
    bench.remote_sends(refused(ReasonCode::UnsupportedProtocolVersion));
    assert_eq!(bench.ended(), Some(EndReason::PrivateRefused));
    assert!(!connect_of(&mut bench).bridge);
    bench.remote_sends(refused(ReasonCode::UnsupportedProtocolVersion));
    assert_eq!(
        bench.ended(),
        Some(EndReason::Refused(ReasonCode::UnsupportedProtocolVersion))
    );
}

/// Some remotes hang up at a protocol level they do not know. It may as well have been the network: bit and no bit take turns until one is let in.
#[test]
fn a_remote_that_hangs_up_at_the_bit_is_tried_without() {
    let mut bench = Bench::new(V3, &["#"]);
    for expected in [true, false, true, false] {
        assert_eq!(connect_of(&mut bench).bridge, expected);
        bench.cut();
    }
    assert!(connect_of(&mut bench).bridge);
    bench.cut();
    assert!(!connect_of(&mut bench).bridge);
    bench.remote_sends(welcome());
    bench.cut();
    assert!(!connect_of(&mut bench).bridge, "without it was let in");
    bench.cut();
    assert!(!connect_of(&mut bench).bridge);
}

#[test]
fn a_refusal_is_told_with_the_reason() {
    let mut bench = Bench::new(V3, &["#"]);
    bench.dial();
    bench.remote_sends(refused(ReasonCode::BadUserNameOrPassword));
    assert!(!bench.is_connected());
    assert_eq!(
        bench.ended(),
        Some(EndReason::Refused(ReasonCode::BadUserNameOrPassword))
    );
    assert_eq!(
        bench.status.last_error(),
        "refused: Bad User Name or Password (0x86)"
    );
    assert!(bench.closed.is_empty(), "the bus knows nothing of it");
}

/// MQTT 5: no local, RETAIN as published, retained messages are sent. Version 3 has none of these.
#[test]
fn what_comes_in_is_subscribed_to_at_the_remote() {
    for (version, v5) in [(V3, false), (V5, true)] {
        let mut bench = Bench::new(version, &["a/# in 1 l/ r/", "b out 1", "c both 2"]);
        bench.dial();
        bench.sent();
        bench.remote_sends(welcome());
        let sent = bench.sent();
        let [Packet::Subscribe(subscribe)] = &sent[..] else {
            panic!("{sent:?}")
        };
        let filters: Vec<_> = subscribe
            .filters
            .iter()
            .map(|f| (f.filter.to_string(), f.options.qos))
            .collect();
        assert_eq!(
            filters,
            [("r/a/#".into(), Qos::AtLeastOnce), ("c".into(), Qos::ExactlyOnce)]
        );
        for filter in &subscribe.filters {
            assert_eq!(
                (filter.options.no_local, filter.options.retain_as_published),
                (v5, v5)
            );
            assert_eq!(filter.options.retain_handling, RetainHandling::SendAtSubscribe);
        }
    }
}

/// What a session holds is not asked for again, so the remote does not send what it retains over what is newer here. In MQTT 5 a gateway that was
/// restarted, and does not know, asks for what is new to the session only. [MQTT-3.3.1-10] [3.1.1 MQTT-3.8.4-3]
#[test]
fn nothing_is_subscribed_anew_that_the_remote_still_has() {
    for (version, v5) in [(V3, false), (V5, true)] {
        let asks = |bench: &mut Bench, connack: headgate_mqtt_codec::ConnAck| {
            bench.dial();
            bench.sent();
            bench.remote_sends(connack);
            let sent = bench.sent();
            sent.into_iter().find_map(|packet| match packet {
                Packet::Subscribe(subscribe) => Some(subscribe.filters[0].options.retain_handling),
                _ => None,
            })
        };
        let mut bench = Bench::new(version, &["c both 1"]);
        bench.connect(welcome());
        bench.cut();
        assert_eq!(asks(&mut bench, welcome_back()), None);
        bench.cut();
        assert_eq!(
            asks(&mut bench, welcome()),
            Some(RetainHandling::SendAtSubscribe),
            "it forgot"
        );
        bench.cut();
        let new = if v5 {
            RetainHandling::SendIfNew
        } else {
            RetainHandling::SendAtSubscribe
        };
        assert_eq!(
            asks(&mut bench, welcome_back()),
            Some(new),
            "it had not answered in the session that it has now"
        );
        bench.cut();
        bench.connect(welcome());
        bench.cut();
        bench.configure(&["c both 1", "d in 1"]);
        assert_eq!(
            asks(&mut bench, welcome_back()),
            Some(new),
            "the topics are others"
        );
    }
}

/// After a crash it is not known of which topics something waits. When that has gone the remote is asked for what it retains, whatever its session holds.
/// [MQTT-3.3.1-9]
#[test]
fn what_may_be_older_than_what_waited_is_asked_for_again() {
    for version in [V3, V5] {
        let mut bench = Bench::new(version, &["c/# both 1"]);
        bench.deliver("c/waits", "x", BusQos::AtLeastOnce);
        bench.crash();
        bench.connect(welcome_back());
        bench.sent();
        bench.remote_sends(Publish {
            retain: true,
            ..publish_at(Qos::AtLeastOnce, 9, "c/theirs", "y")
        });
        assert_eq!(bench.words(), ["puback 9"], "{version:?}");
        bench.remote_sends(puback(1));
        let Some(Packet::Subscribe(subscribe)) = bench.sent().pop() else {
            panic!("{version:?}: it does not ask")
        };
        let handling = subscribe.filters[0].options.retain_handling;
        assert_eq!(handling, RetainHandling::SendAtSubscribe);
        assert_ne!(subscribe.packet_id.get(), 2, "that is the next delivery's");
    }
}

/// A remote that kept nothing of our session may have lost what it retained too: it gets what is retained here, after what waits. One that kept it does
/// not.
#[test]
fn a_remote_that_forgot_everything_is_given_what_is_retained() {
    for version in [V3, V5] {
        let mut bench = Bench::new(version, &["# out 1"]);
        bench.connect(welcome());
        bench.deliver_message(headgate_model::Message {
            retain: true,
            qos: BusQos::AtLeastOnce,
            ..headgate_model::Message::new("a".try_into().unwrap(), "x")
        });
        bench.words();
        bench.remote_sends(puback(1));
        bench.cut();
        bench.connect(welcome_back());
        assert!(!bench.words().iter().any(|word| word.starts_with("publish")));
        bench.cut();
        bench.connect(welcome());
        let words = bench.words();
        assert!(words.iter().any(|word| word.ends_with("a=x retain")), "{words:?}");
    }
}

/// Some remotes take no more than eight filters at once.
#[test]
fn many_filters_go_eight_at_a_time() {
    let lines: Vec<String> = (0..20).map(|n| format!("t{n} in")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut bench = Bench::new(V3, &lines);
    bench.dial();
    bench.remote_sends(welcome());
    assert_eq!(bench.words(), ["connect", "subscribe", "subscribe", "subscribe"]);
}

/// `bridge_attempt_unsubscribe` in mosquitto.conf(5); a session that has just begun has nothing to unsubscribe from.
#[test]
fn topics_that_only_go_out_are_unsubscribed_from_in_an_old_session() {
    let mut bench = Bench::new(V3, &["a out 1 \"\" r/", "b both"]);
    bench.dial();
    bench.remote_sends(welcome_back());
    assert_eq!(bench.words(), ["connect", "subscribe", "unsubscribe"]);
    bench.cut();
    bench.dial();
    bench.remote_sends(welcome());
    assert_eq!(bench.words(), ["connect", "subscribe"]);
    let mut bench = Bench::with(V3, &["a out 1"], |s| s.attempt_unsubscribe = false);
    bench.dial();
    bench.remote_sends(welcome_back());
    assert_eq!(bench.words(), ["connect", "pingreq"]);
}

/// Nothing leaves the queue before the remote has answered; a bridge that asks for nothing asks for PINGRESP.
#[test]
fn connected_means_that_the_remote_has_answered() {
    for lines in [&["a out 1", "b in 1"][..], &["a out 1"]] {
        let mut bench = Bench::new(V3, lines);
        bench.deliver("a", "x", BusQos::AtLeastOnce);
        bench.dial();
        bench.remote_sends(welcome());
        bench.sent.drain(..1);
        assert_eq!(bench.status.state().0, BridgeState::Connecting);
        bench.grant_all();
        assert_eq!(bench.status.state().0, BridgeState::Connected);
        assert_eq!(bench.words(), ["publish 1 qos1 a=x"]);
    }
}

#[test]
fn what_the_remote_refuses_of_subscriptions_is_told_and_not_fatal() {
    let mut bench = Bench::new(V3, &["a in 2", "b in 2", "c in 0"]);
    bench.dial();
    bench.sent();
    bench.remote_sends(welcome());
    let Some(Packet::Subscribe(subscribe)) = bench.sent().pop() else {
        panic!()
    };
    bench.remote_sends(Packet::SubAck(Box::new(SubAck {
        packet_id: subscribe.packet_id,
        codes: vec![
            ReasonCode::UnspecifiedError,
            ReasonCode::GrantedQos1,
            ReasonCode::GRANTED_QOS_0,
        ],
        reason_string: None,
        user_properties: Vec::new(),
    })));
    let refused = bench.status.refused_subscriptions();
    assert_eq!(refused, ["a: Unspecified error (0x80)", "b: QoS 1 instead of 2"]);
    assert_eq!(bench.status.state().0, BridgeState::Connected);
}

/// A Reason String may have 64 KiB (MQTT 5 §3.2.2.3.9), and is for operators to read.
#[test]
fn of_what_a_remote_says_so_much_is_kept_as_somebody_reads() {
    let mut bench = Bench::new(V5, &["a out"]);
    bench.dial();
    let mut connack = refused(ReasonCode::NotAuthorized);
    connack.properties.reason_string = Some(text(&"ä".repeat(30_000)));
    bench.remote_sends(connack);
    let error = bench.status.last_error();
    assert_eq!(error.chars().count(), 501);
    assert!(
        error.starts_with("refused: Not authorized (0x87): ää") && error.ends_with("ä…"),
        "{error}"
    );
    bench.status.set_failure("a", &"ä".repeat(30_000));
    assert_eq!(bench.status.failures()["a"].chars().count(), 501);
}

/// MQTT 5 §3.2.2.3.11: no filter with a wildcard is sent to a server that has none.
#[test]
fn a_remote_without_wildcards_is_not_asked_for_any() {
    let mut bench = Bench::new(V5, &["a/# in 1", "b in 1"]);
    bench.dial();
    bench.sent();
    bench.remote_sends(limited(|p| p.wildcard_subscription_available = Some(false)));
    let Some(Packet::Subscribe(subscribe)) = bench.sent().pop() else {
        panic!()
    };
    assert_eq!(subscribe.filters.len(), 1);
    let refused = bench.status.refused_subscriptions();
    assert_eq!(refused, ["a/#: Wildcard Subscriptions not supported (0xA2)"]);
}

const STATE: &str = "$SYS/broker/connection/up.here/state";

/// `notifications` in mosquitto.conf(5): retained, by will when the connection is lost, to both brokers.
#[test]
fn both_brokers_hear_whether_the_bridge_is_up() {
    let mut bench = Bench::with(V3, &["#"], |s| s.notifications = true);
    bench.watch("$SYS/broker/#");
    let will = connect_of(&mut bench).will.unwrap();
    assert_eq!(
        (will.topic, &*will.payload, will.qos, will.retain),
        (text(STATE), &b"0"[..], Qos::AtLeastOnce, true)
    );
    bench.remote_sends(welcome());
    assert_eq!(
        bench.words(),
        [format!("publish qos0 {STATE}=1 retain"), "pingreq".into()]
    );
    bench.remote_sends(Packet::PingResp);
    let heard = bench.watched();
    assert!(heard.iter().all(|m| m.retain));
    assert_eq!(heard.last().map(|m| &*m.payload), Some(&b"1"[..]));
    bench.cut();
    assert_eq!(bench.heard(), [format!("{STATE}=0")], "the session's own will");
}

#[test]
fn notifications_may_be_local_only_and_elsewhere() {
    let mut bench = Bench::with(V3, &["#"], |s| {
        s.notifications = true;
        s.notifications_local_only = true;
        s.notification_topic = "state/up".into();
    });
    bench.watch("state/up");
    assert_eq!(connect_of(&mut bench).will, None);
    bench.remote_sends(welcome());
    bench.grant_all();
    assert_eq!(bench.heard(), ["state/up=0", "state/up=1"]);
    bench.crash();
    bench.watch("state/up");
    bench.advance(1);
    assert_eq!(
        bench.heard().last().map(String::as_str),
        Some("state/up=0"),
        "the gateway stopped without a word"
    );
}

/// [3.1.1 MQTT-3.14.4-3]: DISCONNECT takes the will back, so the remote is told before.
#[test]
fn a_goodbye_tells_the_remote_before_the_will_is_taken_back() {
    let up = || {
        let mut bench = Bench::with(V3, &["a"], |s| s.notifications = true);
        bench.watch("$SYS/broker/#");
        bench.connect(welcome());
        bench.sent();
        bench.watched();
        bench
    };
    let mut bench = up();
    bench.shut_down();
    assert_eq!(
        bench.words(),
        [format!("publish qos0 {STATE}=0 retain"), "disconnect 0x00".into()]
    );
    assert_eq!(
        (bench.heard(), &bench.closed[..]),
        (vec![format!("{STATE}=0")], &[CloseReason::Shutdown][..])
    );
    assert_eq!(bench.ended(), Some(EndReason::Asked));
    let mut bench = up();
    bench.kick();
    assert_eq!(
        bench.words(),
        [format!("publish qos0 {STATE}=0 retain"), "disconnect 0x00".into()]
    );
    assert_eq!(bench.heard(), [format!("{STATE}=0")]);
    assert!(!bench.is_connected());
}

/// [MQTT-3.1.2-20] [3.1.1 MQTT-3.1.2-23]; [MQTT-3.1.2-21]: the server's keep alive goes before ours.
#[test]
fn a_silent_link_is_pinged() {
    let mut bench = Bench::new(V3, &["a"]);
    bench.connect(welcome());
    bench.advance(59_999);
    assert_eq!(bench.words(), NOTHING);
    bench.advance(1);
    assert_eq!(bench.words(), ["pingreq"]);
    bench.remote_sends(Packet::PingResp);
    bench.advance(60_000);
    assert_eq!(bench.words(), ["pingreq"]);
    let mut bench = Bench::new(V5, &["a"]);
    bench.connect(limited(|p| p.server_keep_alive = Some(10)));
    bench.advance(10_000);
    assert_eq!(bench.words(), ["pingreq"]);
}

#[test]
fn a_remote_that_answers_nothing_is_given_up() {
    let mut bench = Bench::new(V3, &["a"]);
    bench.dial();
    bench.advance(39_999);
    assert!(bench.is_connected());
    bench.advance(1);
    assert_eq!(
        (bench.is_connected(), bench.ended()),
        (false, Some(EndReason::NoAnswer)),
        "no CONNACK"
    );
    bench.dial();
    bench.remote_sends(welcome());
    bench.advance(40_000);
    assert_eq!(
        (bench.is_connected(), bench.ended()),
        (false, Some(EndReason::NoAnswer)),
        "no PINGRESP"
    );
}

/// Stalled is what shows that nothing is acknowledged although the link is there; PINGRESP does not change that.
#[test]
fn a_remote_that_acknowledges_nothing_is_stalled_then_given_up() {
    let mut bench = Bench::with(V3, &["a out 1"], |s| {
        s.keep_alive = std::time::Duration::from_secs(5);
    });
    bench.connect(welcome());
    bench.deliver("a", "x", BusQos::AtLeastOnce);
    bench.advance(19_999);
    assert_eq!(bench.status.state().0, BridgeState::Connected);
    bench.remote_sends(Packet::PingResp);
    bench.advance(1);
    assert_eq!(bench.status.state().0, BridgeState::Stalled);
    bench.remote_sends(puback(1));
    assert_eq!(bench.status.state().0, BridgeState::Connected);
    assert_eq!(bench.status.last_acknowledged(), Some(bench.now));
    bench.deliver("a", "y", BusQos::AtLeastOnce);
    bench.advance(40_000);
    assert_eq!(
        (bench.is_connected(), bench.ended()),
        (false, Some(EndReason::NoAnswer))
    );
    assert_eq!(bench.queued(), 1, "the queue is kept");
}

/// Nobody acknowledges QoS 0: a PINGREQ finds out whether the remote is there, long before the keep alive would.
#[test]
fn a_link_of_qos_0_is_verified_by_pingresp() {
    let mut bench = Bench::new(V3, &["a out 0"]);
    bench.connect(welcome());
    bench.deliver("a", "x", BusQos::AtMostOnce);
    bench.sent();
    bench.advance(20_000);
    assert_eq!(bench.words(), ["pingreq"]);
    bench.advance(20_000);
    assert_eq!(bench.status.state().0, BridgeState::Stalled);
    bench.remote_sends(Packet::PingResp);
    assert_eq!(bench.status.state().0, BridgeState::Connected);
}

#[test]
fn a_remote_that_breaks_the_protocol_is_told_and_left() {
    let mut bench = Bench::new(V5, &["a out 1", "b in 1"]);
    bench.connect(welcome());
    bench.remote_sends(ack(AckKind::PubAck, 9, ReasonCode::Success));
    assert!(
        bench.is_connected(),
        "an acknowledgement of what is not known does no harm"
    );
    bench.remote_sends(Packet::SubAck(Box::new(SubAck {
        packet_id: id(3),
        codes: vec![ReasonCode::Success],
        reason_string: None,
        user_properties: Vec::new(),
    })));
    assert_eq!(bench.words(), ["disconnect 0x82"]);
    assert_eq!(bench.ended(), Some(EndReason::ProtocolError));
    assert_eq!(
        bench.status.last_error(),
        "the remote broke the protocol: SUBACK for nothing"
    );
    bench.connect(welcome());
    bench.remote_sends_bytes(&[0x00, 0x00]);
    assert_eq!(
        (bench.words(), bench.ended()),
        (vec!["disconnect 0x81".into()], Some(EndReason::ProtocolError))
    );
}

#[test]
fn the_reason_of_a_disconnect_is_told() {
    let mut bench = Bench::new(V5, &["a out 1"]);
    bench.connect(welcome());
    let disconnect = headgate_mqtt_codec::Disconnect::with_reason(ReasonCode::ServerShuttingDown);
    bench.remote_sends(Packet::Disconnect(disconnect));
    assert_eq!(
        bench.ended(),
        Some(EndReason::Disconnected(ReasonCode::ServerShuttingDown))
    );
    assert_eq!(bench.closed, [CloseReason::Lost]);
    assert_eq!(bench.now, Instant(1_000));
}

/// Two connections of one bridge: the bus lets the later one have the queue.
#[test]
fn a_connection_whose_session_is_taken_over_goes() {
    let mut bench = Bench::new(V3, &["a out 1"]);
    bench.connect(welcome());
    bench.take_over();
    assert!(!bench.is_connected());
    assert_eq!(
        (&bench.closed[..], bench.ended()),
        (&[CloseReason::TakenOver][..], Some(EndReason::Asked))
    );
}
