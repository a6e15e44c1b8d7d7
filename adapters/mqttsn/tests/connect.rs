//! CONNECT, wills, keep alive, and who is let in. MQTT-SN 1.2 §6.2 to §6.4, §6.11, §6.12, §7.2

mod bench;

use bench::*;
use bytes::Bytes;
use headgate_model::DatagramServer;
use headgate_model::access::AuthRefusal;
use headgate_model::{AccessDecision, Action, CloseReason, Metric, Qos as BusQos};
use headgate_mqttsn::SnCredentials;
use headgate_mqttsn::SnMetric;
use headgate_mqttsn_codec::{Connect, Message, Qos, ReturnCode};

const NOT_SUPPORTED: Message = Message::ConnAck(ReturnCode::NotSupported);
const CONGESTION: Message = Message::ConnAck(ReturnCode::Congestion);

/// §5.4.4 Another version, or an id that cannot be, is told apart from what might work later.
#[test]
fn what_cannot_connect_is_told_so() {
    let mut sn = Bench::new();
    let with = |protocol_id, client_id: &'static [u8]| {
        Message::Connect(Connect {
            will: false,
            clean_session: true,
            protocol_id,
            duration: 60,
            client_id: Bytes::from_static(client_id),
        })
    };
    let long: &'static [u8] = &[b'x'; 129];
    for refused in [
        with(2, b"a"),
        with(1, b""),
        with(1, b"\xff"),
        with(1, b"a\0"),
        with(1, b"$bridge/cloud"), // the gateway's own
        with(1, long),
    ] {
        sn.exchange(DEVICE, refused, &[NOT_SUPPORTED]);
    }
    sn.exchange(DEVICE, with(1, &long[1..]), &[CONNACK]);
    assert_eq!(sn.counted(Metric::ConnectRefused), 6);
    assert_eq!(sn.gateway.stats().clients, 1);
}

/// §6.2, §6.3 The will is asked for step by step, and every step may have to be repeated.
#[test]
fn a_will_is_asked_for() {
    let mut sn = Bench::new();
    sn.watch("gone");
    let hello = connect_as("c", true, true, 60);
    sn.exchange(DEVICE, hello.clone(), &[Message::WillTopicReq]);
    sn.exchange(DEVICE, hello.clone(), &[Message::WillTopicReq]);
    sn.exchange(DEVICE, will_topic("gone"), &[Message::WillMsgReq]);
    sn.exchange(DEVICE, hello, &[Message::WillMsgReq]);
    sn.exchange(DEVICE, will_topic("gone"), &[Message::WillMsgReq]);
    sn.exchange(DEVICE, will_msg("c"), &[CONNACK]);
    sn.exchange(DEVICE, will_msg("c"), &NOTHING);
    sn.advance(90);
    assert_eq!(sn.watched(), ["gone=c"]);
    assert_eq!(sn.closed, [CloseReason::KeepAlive]);
    assert_eq!(sn.counted(SnMetric::Lost), 1);
}

/// §5.4.7 An empty WILLTOPIC: no will after all.
#[test]
fn an_empty_will_topic_is_no_will() {
    let mut sn = Bench::new();
    sn.watch("#");
    sn.exchange(DEVICE, connect_as("c", true, true, 60), &[Message::WillTopicReq]);
    sn.exchange(DEVICE, Message::WillTopic(None), &[CONNACK]);
    sn.advance(90);
    assert_eq!(sn.watched(), UNHEARD);
}

/// docs/interpretations.md#sn-denied: a will that may not be published is refused with the CONNECT.
#[test]
fn a_will_must_be_allowed() {
    for (topic, decision) in [
        ("secret", Some(AccessDecision::Deny(Default::default()))),
        ("$SYS/x", None),
        ("a/#", None),
    ] {
        let mut sn = Bench::new();
        if let Some(decision) = decision {
            sn.rule(Action::Publish, topic, decision);
        }
        sn.exchange(DEVICE, connect_as("c", true, true, 60), &[Message::WillTopicReq]);
        sn.send(DEVICE, will_topic(topic));
        sn.send(DEVICE, will_msg("c"));
        assert!(sn.sent(DEVICE).contains(&NOT_SUPPORTED), "{topic}");
        assert_eq!(sn.gateway.stats().clients + sn.gateway.stats().handshakes, 0);
    }
    let mut sn = Bench::new();
    sn.rule(Action::Publish, "gone", AccessDecision::Ask);
    sn.exchange(DEVICE, connect_as("c", true, true, 60), &[Message::WillTopicReq]);
    sn.exchange(DEVICE, will_topic("gone"), &[Message::WillMsgReq]);
    sn.exchange(DEVICE, will_msg("c"), &[CONNACK]);
}

/// §6.3 the table of CleanSession and Will: what is kept of an earlier will.
#[test]
fn a_will_is_kept_replaced_or_cleared() {
    type Case = (bool, Option<&'static str>, &'static [&'static str]);
    let cases: [Case; 4] = [
        (false, None, &["gone=old"]),
        (false, Some("new"), &["gone=new"]),
        (true, None, &[]),
        (true, Some("new"), &["gone=new"]),
    ];
    for (clean, new, expected) in cases {
        for goodbye in [false, true] {
            let mut sn = Bench::new();
            sn.watch("gone");
            sn.exchange(DEVICE, connect_as("c", false, true, 60), &[Message::WillTopicReq]);
            sn.exchange(DEVICE, will_topic("gone"), &[Message::WillMsgReq]);
            sn.exchange(DEVICE, will_msg("old"), &[CONNACK]);
            if goodbye {
                sn.exchange(DEVICE, DISCONNECT, &[DISCONNECT]);
            }
            sn.advance(20);
            sn.send(DEVICE, connect_as("c", clean, new.is_some(), 60));
            if let Some(new) = new {
                sn.exchange(
                    DEVICE,
                    will_topic("gone"),
                    &[Message::WillTopicReq, Message::WillMsgReq],
                );
                sn.send(DEVICE, will_msg(new));
            }
            assert_eq!(sn.sent(DEVICE), [CONNACK]);
            assert_eq!(sn.watched(), UNHEARD, "it was not lost");
            sn.advance(90);
            assert_eq!(sn.watched(), expected, "clean {clean}, goodbye {goodbye}");
        }
    }
}

/// §7.2, §6.11: half as long again below a minute, a tenth above; every message counts.
#[test]
fn silence_has_a_limit() {
    for (keep_alive, limit_s) in [(10, 15), (60, 90), (100, 110), (1_000, 1_100)] {
        let mut sn = Bench::new();
        sn.exchange(DEVICE, connect_as("c", true, false, keep_alive), &[CONNACK]);
        sn.advance(limit_s - 1);
        sn.exchange(DEVICE, Message::PingReq(None), &[Message::PingResp]);
        sn.advance_ms(limit_s * 1_000 - 1);
        assert_eq!(sn.gateway.stats().clients, 1, "{keep_alive}");
        sn.advance_ms(1);
        assert_eq!(sn.gateway.stats().clients, 0, "{keep_alive}");
        sn.exchange(DEVICE, Message::PingReq(None), &[DISCONNECT]);
    }
    let mut sn = Bench::new();
    sn.exchange(DEVICE, connect_as("c", true, false, 0), &[CONNACK]);
    sn.advance(86_399);
    assert_eq!(
        sn.gateway.stats().clients,
        1,
        "docs/interpretations.md#sn-no-keep-alive"
    );
    sn.advance(1);
    assert_eq!(sn.gateway.stats().clients, 0);
}

/// MQTT-SN 1.2 has no user names: the settings have, for each client or for all.
#[test]
fn credentials_come_from_the_settings() {
    let mut sn = Bench::with(|settings| {
        settings.default_username = "all".into();
        settings.default_password = "word".into();
        settings.credentials = vec![SnCredentials {
            client_id: "pump".into(),
            username: "pumps".into(),
            password: "secret".into(),
        }];
    });
    sn.connected(DEVICE, "pump");
    sn.connected(OTHER, "valve");
    let shown: Vec<_> = sn
        .credentials
        .iter()
        .map(|c| {
            (
                c.client_id.as_str(),
                c.username.as_deref().unwrap(),
                c.password.as_deref().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [("pump", "pumps", &b"secret"[..]), ("valve", "all", b"word")]
    );
    let mut sn = Bench::new();
    sn.connected(DEVICE, "pump");
    assert_eq!(
        (&sn.credentials[0].username, &sn.credentials[0].password),
        (&None, &None)
    );
}

/// docs/interpretations.md#sn-denied
#[test]
fn who_is_refused_is_told_so() {
    for (why, answer) in [
        (AuthRefusal::BadUserNameOrPassword, NOT_SUPPORTED),
        (AuthRefusal::NotAuthorized, NOT_SUPPORTED),
        (AuthRefusal::Unavailable, CONGESTION),
        (AuthRefusal::Busy, CONGESTION),
    ] {
        let mut sn = Bench::new();
        sn.refusal = Some(why);
        sn.exchange(DEVICE, connect("c"), &[answer]);
        sn.exchange(DEVICE, Message::PingReq(None), &[DISCONNECT]);
        assert_eq!(sn.endpoints(), 0);
    }
}

/// A client that asks again while it is being looked at changes nothing; nobody waits for ever.
#[test]
fn a_slow_access_service_is_waited_for() {
    let mut sn = Bench::new();
    sn.questions_wait = true;
    for _ in 0..5 {
        sn.exchange(DEVICE, connect("c"), &NOTHING);
        sn.advance(10);
    }
    assert_eq!(sn.credentials.len(), 1);
    let allowed = sn.allowed();
    sn.answer(allowed);
    assert_eq!(sn.sent(DEVICE), [CONNACK]);

    sn.exchange(OTHER, connect("d"), &NOTHING);
    sn.advance(60);
    assert_eq!(sn.sent(OTHER), [CONGESTION]);
    let late = sn.allowed();
    sn.answer(late);
    assert_eq!(sn.sent(OTHER), NOTHING);
    assert_eq!(sn.gateway.stats().clients, 1, "the first one");
}

/// Whoever asks in ever other names has one question open at a time.
#[test]
fn a_peer_has_one_question_open() {
    let mut sn = Bench::new();
    sn.questions_wait = true;
    for id in ["a", "b", "c"] {
        sn.exchange(DEVICE, connect(id), &NOTHING);
        sn.exchange(DEVICE, ping(id), &NOTHING);
    }
    assert_eq!((sn.credentials.len(), sn.counted(SnMetric::Dropped)), (1, 5));
}

/// A client that never sends its will keeps no place.
#[test]
fn a_handshake_ends() {
    let mut sn = Bench::new();
    sn.exchange(DEVICE, connect_as("c", true, true, 60), &[Message::WillTopicReq]);
    sn.advance(60);
    assert_eq!((sn.gateway.stats().handshakes, sn.sent(DEVICE)), (0, vec![]));
}

/// A CONNECT that was doubled on its way is answered, and no more: until the client has said something else it has nothing that it could lose.
#[test]
fn a_copy_of_connect_changes_nothing() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "c");
    sn.exchange(DEVICE, connect("c"), &[CONNACK]);
    assert_eq!((sn.credentials.len(), sn.closed.len()), (1, 0));
    sn.advance(6);
    sn.exchange(DEVICE, connect("c"), &[CONNACK]);
    assert_eq!(
        (sn.credentials.len(), sn.closed.len()),
        (2, 1),
        "later it is another one"
    );
}

/// §6.2 CleanSession: who starts anew has no subscriptions and knows no ids, however soon it comes again.
#[test]
fn a_clean_session_is_clean_at_once() {
    let mut sn = Bench::new();
    sn.watch("#");
    sn.connected(DEVICE, "c");
    let id = sn.subscribed(DEVICE, "a", Qos::AtMostOnce);
    sn.exchange(DEVICE, connect("c"), &[CONNACK]);
    sn.deliver("a", "1", BusQos::AtMostOnce);
    assert_eq!(sn.sent(DEVICE), NOTHING);
    let unknown = puback(id, 7, ReturnCode::InvalidTopicId);
    sn.exchange(DEVICE, publish_to(id, Qos::AtLeastOnce, 7, "x"), &[unknown]);
    assert_eq!(sn.watched(), ["a=1"]);
    assert_eq!(sn.endpoints(), 1);
}

/// §6.3 A changed Will flag is another CONNECT, however soon it comes; and who has a will is asked for it each time.
#[test]
fn a_changed_will_flag_is_heeded_at_once() {
    let mut sn = Bench::new();
    sn.watch("gone");
    sn.connected(DEVICE, "c");
    for payload in ["1", "2"] {
        let with_will = connect_as("c", true, true, 60);
        sn.exchange(DEVICE, with_will, &[Message::WillTopicReq]);
        sn.exchange(DEVICE, will_topic("gone"), &[Message::WillMsgReq]);
        sn.exchange(DEVICE, will_msg(payload), &[CONNACK]);
    }
    sn.advance(90);
    assert_eq!(sn.watched(), ["gone=2"]);
    sn.exchange(DEVICE, connect_as("c", true, true, 60), &[Message::WillTopicReq]);
    sn.exchange(DEVICE, will_topic("gone"), &[Message::WillMsgReq]);
    sn.exchange(DEVICE, will_msg("3"), &[CONNACK]);
    sn.connected(DEVICE, "c");
    sn.advance(90);
    assert_eq!(sn.watched(), UNHEARD, "it has no will any more");
}

/// §6.14 Whoever is said to be where a client is connected disturbs it only if it is known: by the gateway, or by the bus.
#[test]
fn a_ping_in_another_name_disturbs_nobody() {
    let mut sn = Bench::new();
    sn.watch("gone");
    sn.exchange(DEVICE, connect_as("c", false, true, 60), &[Message::WillTopicReq]);
    sn.exchange(DEVICE, will_topic("gone"), &[Message::WillMsgReq]);
    sn.exchange(DEVICE, will_msg("c"), &[CONNACK]);
    let long = "x".repeat(200);
    for id in ["nobody", "$bridge/x", long.as_str()] {
        sn.exchange(DEVICE, ping(id), &NOTHING);
    }
    sn.refusal = Some(AuthRefusal::NotAuthorized);
    sn.exchange(DEVICE, ping("nobody"), &NOTHING);
    sn.refusal = None;
    assert_eq!((sn.watched(), sn.endpoints()), (vec![], 1));
    sn.exchange(DEVICE, Message::PingReq(None), &[Message::PingResp]);

    // One that the bus knows takes the place: there is one client at an address.
    sn.connected_durably(OTHER, "d");
    sn.exchange(OTHER, Message::Disconnect(Some(600)), &[DISCONNECT]);
    sn.crash(1);
    sn.watch("gone");
    sn.connected_durably(DEVICE, "c");
    sn.questions_wait = true;
    sn.exchange(DEVICE, ping("d"), &NOTHING);
    let allowed = sn.allowed();
    sn.answer(allowed);
    assert_eq!(sn.sent(DEVICE), [Message::PingResp]);
    assert_eq!(
        (sn.watched(), sn.gateway.stats().clients),
        (vec!["gone=c".to_owned()], 1)
    );
}

/// Limits: who comes when there is no room is told that it may try later. §5.3.10
#[test]
fn there_is_room_for_so_many() {
    let mut sn = Bench::with(|settings| settings.max_clients = 2);
    sn.connected(DEVICE, "a");
    sn.connected(OTHER, "b");
    sn.exchange(At(3, None), connect("c"), &[CONGESTION]);
    sn.exchange(At(3, None), ping("c"), &[DISCONNECT]);
    sn.advance(20);
    sn.exchange(OTHER, connect("b"), &[CONNACK]);

    // 0 is no limit.
    let mut sn = Bench::with(|settings| (settings.max_clients, settings.max_remembered_bytes) = (0, 0));
    sn.connected(DEVICE, "a");
    sn.connected(OTHER, "b");

    let mut sn = Bench::with(|settings| settings.max_handshakes = 1);
    sn.questions_wait = true;
    sn.exchange(DEVICE, connect("a"), &NOTHING);
    sn.exchange(OTHER, connect("b"), &[CONGESTION]);
}

/// There is more to do than the machine can: whoever is not there yet is told so, who is there stays, and may come back.
#[test]
fn an_overloaded_gateway_takes_nobody_new() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "a");
    sn.gateway.set_overloaded(true);
    sn.exchange(OTHER, connect("b"), &[CONGESTION]);
    sn.exchange(DEVICE, ping("a"), &[Message::PingResp]);
    sn.advance(20);
    sn.exchange(DEVICE, connect("a"), &[CONNACK]);
    sn.gateway.set_overloaded(false);
    sn.exchange(OTHER, connect("b"), &[CONNACK]);
}

/// §6.14: a sender that is not known is told that it is not connected; never when it only says goodbye or good night, and never a gateway.
#[test]
fn who_is_not_known_is_told_so() {
    let mut sn = Bench::new();
    for message in [
        Message::PingReq(None),
        register("a", 1),
        subscribe("a", Qos::AtMostOnce, 1),
        publish_to(1, Qos::AtLeastOnce, 1, "x"),
        publish_to(1, Qos::AtMostOnce, 0, "x"),
        Message::PubRel(1),
        Message::PubComp(1),
        Message::WillMsgUpd(Bytes::new()),
        will_msg("x"),
    ] {
        sn.exchange(DEVICE, message, &[DISCONNECT]);
    }
    assert_eq!(sn.counted(SnMetric::UnknownSender), 9);
    for message in [
        DISCONNECT,
        // It would take the answer for the promise that it may sleep.
        Message::Disconnect(Some(60)),
        CONNACK,
        Message::PingResp,
        Message::WillTopicReq,
        Message::WillMsgReq,
        Message::UnsubAck(1),
        Message::Advertise {
            gw_id: 1,
            duration: 1,
        },
    ] {
        sn.exchange(DEVICE, message, &NOTHING);
    }
    assert_eq!(sn.endpoints(), 0);
}

/// §6.12 A goodbye is answered, also when it has to be said twice; no will.
#[test]
fn a_goodbye_is_answered() {
    let mut sn = Bench::new();
    sn.watch("gone");
    sn.exchange(DEVICE, connect_as("c", true, true, 60), &[Message::WillTopicReq]);
    sn.exchange(DEVICE, will_topic("gone"), &[Message::WillMsgReq]);
    sn.exchange(DEVICE, will_msg("c"), &[CONNACK]);
    sn.exchange(DEVICE, DISCONNECT, &[DISCONNECT]);
    sn.exchange(DEVICE, DISCONNECT, &[DISCONNECT]);
    assert_eq!(
        (sn.endpoints(), sn.bus.stats().sessions),
        (0, 1),
        "the watcher's is left"
    );
    sn.exchange(DEVICE, Message::PingReq(None), &[DISCONNECT]);
    sn.advance(60);
    assert_eq!(sn.gateway.stats().clients, 0);
    sn.exchange(DEVICE, DISCONNECT, &NOTHING);
    assert_eq!(sn.watched(), UNHEARD);
}

/// An operator throws a client out, or another transport takes its session over: it is told.
#[test]
fn who_is_thrown_out_is_told() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "c");
    sn.kick("c");
    assert_eq!(sn.sent(DEVICE), [DISCONNECT]);
    assert_eq!((sn.endpoints(), sn.gateway.stats().clients), (0, 0));
}

/// §6.2: without CleanSession subscriptions are there again; the client need not have been away.
#[test]
fn a_session_is_kept_or_not() {
    for (clean, expected) in [(false, 1), (true, 0)] {
        let mut sn = Bench::new();
        sn.exchange(DEVICE, connect_as("c", clean, false, 60), &[CONNACK]);
        sn.subscribed(DEVICE, "a/+", Qos::AtLeastOnce);
        sn.exchange(DEVICE, DISCONNECT, &[DISCONNECT]);
        sn.deliver("a/1", "1", BusQos::AtLeastOnce);
        sn.exchange(DEVICE, Message::PingReq(None), &[DISCONNECT]);
        sn.send(DEVICE, durable("c"));
        let sent = sn.sent(DEVICE);
        assert_eq!(sent[0], CONNACK);
        assert_eq!(sent.len(), 1 + expected, "{sent:?}");
    }
}

/// The gateway stops: those that are connected are told; those that sleep are not waked.
#[test]
fn a_shutdown_is_told() {
    let mut sn = Bench::new();
    sn.connected_durably(DEVICE, "a");
    sn.connected_durably(OTHER, "b");
    sn.exchange(OTHER, Message::Disconnect(Some(60)), &[DISCONNECT]);
    let mut out = Default::default();
    sn.gateway.shutdown(&mut out);
    let datagrams: usize = out.datagrams();
    assert_eq!((datagrams, out.bus.len()), (1, 1));
    assert_eq!(sn.gateway.deadline(), None);
}

/// A session belongs to the identity that opened it, whatever it speaks: a sensor that says its client id gets nothing, and disturbs nobody.
#[test]
fn the_session_of_another_user_is_not_a_sensors() {
    let mut sn = Bench::new();
    sn.watch_as("c", Some("alice"), "secret");
    for clean in [true, false] {
        let hello = connect_as("c", clean, false, 60);
        sn.exchange(DEVICE, hello, &[NOT_SUPPORTED]);
    }
    sn.exchange(
        DEVICE,
        Message::PingReq(Some(Bytes::from_static(b"c"))),
        &[Message::Disconnect(None)],
    );
    sn.deliver("secret", "x", BusQos::AtLeastOnce);
    assert_eq!(
        (sn.watched(), sn.sent(DEVICE)),
        (vec!["secret=x".to_owned()], vec![])
    );
    assert_eq!(sn.gateway.stats().clients, 0);
}
