//! Sleeping clients. MQTT-SN 1.2 §6.14

mod bench;

use bench::*;
use headgate_model::access::AuthRefusal;
use headgate_model::{CloseReason, Qos as BusQos};
use headgate_mqttsn::SnMetric;
use headgate_mqttsn_codec::{Message, Qos, ReturnCode};

const ACCEPTED: ReturnCode = ReturnCode::Accepted;
const PINGRESP: Message = Message::PingResp;

fn sleep(seconds: u16) -> Message {
    Message::Disconnect(Some(seconds))
}

fn qos1(id: u16, msg_id: u16, payload: &str) -> Message {
    publish_to(id, Qos::AtLeastOnce, msg_id, payload)
}

/// A client that sleeps for a minute at a time, subscribed to `a`, with a will to `gone`.
fn with_sleeper(clean: bool) -> (Bench, u16) {
    let mut sn = Bench::new();
    sn.watch("gone");
    sn.exchange(
        DEVICE,
        connect_as("c", clean, true, 300),
        &[Message::WillTopicReq],
    );
    sn.exchange(DEVICE, will_topic("gone"), &[Message::WillMsgReq]);
    sn.exchange(DEVICE, will_msg("c"), &[CONNACK]);
    let id = sn.subscribed(DEVICE, "a", Qos::ExactlyOnce);
    sn.exchange(DEVICE, sleep(60), &[DISCONNECT]);
    assert_eq!(sn.endpoints(), 0, "who sleeps holds nothing on the bus");
    (sn, id)
}

/// Figure 4: the buffer is drained in order, and PINGRESP comes after the last acknowledgement; for clean sessions as for others.
#[test]
fn pingresp_comes_after_the_last_acknowledgement() {
    for clean in [false, true] {
        let (mut sn, id) = with_sleeper(clean);
        sn.exchange(DEVICE, ping("c"), &[PINGRESP]);
        for payload in ["1", "2"] {
            sn.deliver("a", payload, BusQos::AtLeastOnce);
        }
        sn.deliver("a", "3", BusQos::ExactlyOnce);
        assert_eq!(sn.sent(DEVICE), NOTHING);
        sn.advance(50);
        sn.exchange(DEVICE, ping("c"), &[qos1(id, 1, "1")]);
        sn.exchange(DEVICE, ping("c"), &NOTHING);
        sn.exchange(DEVICE, Message::PingReq(None), &NOTHING);
        sn.exchange(DEVICE, puback(id, 1, ACCEPTED), &[qos1(id, 2, "2")]);
        sn.deliver("a", "4", BusQos::AtLeastOnce);
        sn.exchange(
            DEVICE,
            puback(id, 2, ACCEPTED),
            &[publish_to(id, Qos::ExactlyOnce, 3, "3")],
        );
        sn.exchange(DEVICE, Message::PubRec(3), &[Message::PubRel(3)]);
        sn.exchange(DEVICE, Message::PubComp(3), &[qos1(id, 4, "4")]);
        sn.exchange(DEVICE, puback(id, 4, ACCEPTED), &[PINGRESP]);
        sn.advance(89);
        assert_eq!((sn.watched(), sn.endpoints()), (vec![], 0));
    }
}

/// DISCONNECT and PINGRESP promise what a power cut would show: so they wait for the disk. Meanwhile nothing is sent, and what comes goes to the mailbox.
#[test]
fn a_client_sleeps_when_that_is_durable() {
    let (mut sn, id) = with_sleeper(false);
    sn.exchange(DEVICE, connect_as("c", false, false, 300), &[CONNACK]);
    for n in [1, 2] {
        sn.withheld = true;
        sn.exchange(DEVICE, sleep(60), &NOTHING);
        sn.exchange(DEVICE, sleep(60), &NOTHING);
        sn.exchange(DEVICE, ping("c"), &NOTHING);
        sn.deliver("a", "x", BusQos::AtLeastOnce);
        sn.release_disk();
        assert_eq!((sn.sent(DEVICE), sn.endpoints()), (vec![DISCONNECT], 0));

        // It has connected anew since it was told.
        sn.exchange(DEVICE, ping("c"), &[register_id("a", id, 1)]);
        sn.exchange(DEVICE, regack(id, 1, ACCEPTED), &[qos1(id, n, "x")]);
        sn.withheld = true;
        sn.exchange(DEVICE, puback(id, n, ACCEPTED), &NOTHING);
        sn.release_disk();
        assert_eq!((sn.sent(DEVICE), sn.endpoints()), (vec![PINGRESP], 0));
        sn.exchange(DEVICE, connect_as("c", false, false, 300), &[CONNACK]);
    }

    // Never answered: the power is cut before. It asks again, and is not told that all is well by somebody who does not know.
    sn.withheld = true;
    sn.exchange(DEVICE, sleep(60), &NOTHING);
    sn.crash(1);
    sn.exchange(DEVICE, sleep(60), &NOTHING);
    sn.exchange(DEVICE, ping("c"), &[PINGRESP]);
}

/// A client that is thrown out while it falls asleep is not told what it would take for a yes.
#[test]
fn a_client_that_is_thrown_out_does_not_hear_that_it_sleeps() {
    let (mut sn, _) = with_sleeper(false);
    sn.exchange(DEVICE, connect_as("c", false, false, 300), &[CONNACK]);
    sn.withheld = true;
    sn.exchange(DEVICE, sleep(60), &NOTHING);
    sn.kick("c");
    sn.release_disk();
    assert_eq!((sn.sent(DEVICE), sn.endpoints()), (vec![], 0));
}

/// A sleeper is told the id of a topic that it does not know, before the message. §6.10
#[test]
fn register_comes_before_publish_for_sleepers_too() {
    let (mut sn, _) = with_sleeper(false);
    sn.exchange(DEVICE, durable("c"), &[CONNACK]);
    sn.subscribed(DEVICE, "b/#", Qos::AtLeastOnce);
    sn.exchange(DEVICE, sleep(60), &[DISCONNECT]);
    sn.deliver("b/1", "1", BusQos::AtLeastOnce);
    sn.deliver("b/2", "2", BusQos::AtLeastOnce);
    sn.exchange(DEVICE, ping("c"), &[register_id("b/1", 2, 1)]);
    sn.exchange(DEVICE, regack(2, 1, ACCEPTED), &[qos1(2, 1, "1")]);
    sn.exchange(DEVICE, puback(2, 1, ACCEPTED), &[register_id("b/2", 3, 2)]);
    // Refused, it is not in the way of PINGRESP.
    sn.exchange(DEVICE, regack(3, 2, ReturnCode::NotSupported), &[PINGRESP]);
}

/// A sleeper that does not wake in time is lost: its will is published, and it is not known any more. §7.2
#[test]
fn a_missed_wake_is_the_loss_of_the_client() {
    for clean in [false, true] {
        let (mut sn, _) = with_sleeper(clean);
        sn.advance_ms(89_999);
        assert_eq!(sn.watched(), UNHEARD);
        sn.advance_ms(1);
        assert_eq!(sn.watched(), ["gone=c"]);
        assert_eq!((sn.gateway.stats().clients, sn.counted(SnMetric::Lost)), (0, 1));
        assert_eq!(sn.bus.stats().sessions, if clean { 1 } else { 2 });
        // Who has a session may still come for it.
        let answer = if clean { DISCONNECT } else { PINGRESP };
        sn.exchange(DEVICE, ping("c"), &[answer]);
    }
}

/// A wake starts the time anew; another DISCONNECT with a duration changes it, said while asleep or awake.
#[test]
fn sleep_is_as_long_as_was_said_last() {
    let (mut sn, id) = with_sleeper(false);
    for _ in 0..10 {
        sn.advance(80);
        sn.exchange(DEVICE, ping("c"), &[PINGRESP]);
    }
    sn.exchange(DEVICE, sleep(1_000), &[DISCONNECT]);
    sn.advance(1_099);
    assert_eq!(sn.watched(), UNHEARD);
    sn.deliver("a", "1", BusQos::AtLeastOnce);
    sn.exchange(DEVICE, ping("c"), &[qos1(id, 1, "1")]);
    // It goes before it has everything: the message stays for the next time.
    sn.exchange(DEVICE, sleep(10), &[DISCONNECT]);
    sn.advance(14);
    sn.exchange(DEVICE, ping("c"), &[dup(qos1(id, 1, "1"))]);
    sn.exchange(DEVICE, puback(id, 1, ACCEPTED), &[PINGRESP]);
    sn.advance(15);
    assert_eq!(sn.watched(), ["gone=c"]);
}

/// What was under way when the client fell asleep waits for it, and is sent again as such. §6.14
#[test]
fn what_is_under_way_goes_back() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "c");
    let id = sn.subscribed(DEVICE, "a", Qos::AtLeastOnce);
    sn.deliver("a", "1", BusQos::AtLeastOnce);
    sn.deliver("a", "2", BusQos::AtLeastOnce);
    assert_eq!(sn.sent(DEVICE), [qos1(id, 1, "1")]);
    sn.exchange(DEVICE, sleep(60), &[DISCONNECT]);
    sn.advance(60);
    assert_eq!(sn.sent(DEVICE), NOTHING, "nobody speaks to a sleeper");
    sn.exchange(DEVICE, puback(id, 1, ACCEPTED), &NOTHING);
    sn.exchange(DEVICE, ping("c"), &[dup(qos1(id, 1, "1"))]);
    sn.exchange(DEVICE, puback(id, 1, ACCEPTED), &[qos1(id, 2, "2")]);
    sn.exchange(DEVICE, puback(id, 2, ACCEPTED), &[PINGRESP]);
}

/// An awake client that does not answer is taken to be asleep again; the time runs from when it was last heard of.
/// Our reading: docs/interpretations.md#sn-awake-gone.
#[test]
fn an_awake_client_that_falls_silent_sleeps_on() {
    let (mut sn, id) = with_sleeper(false);
    sn.deliver("a", "1", BusQos::AtLeastOnce);
    sn.exchange(DEVICE, ping("c"), &[qos1(id, 1, "1")]);
    sn.advance(60);
    assert_eq!(sn.sent(DEVICE).len(), 5);
    assert_eq!(sn.endpoints(), 0);
    sn.advance(29);
    assert_eq!(sn.watched(), UNHEARD);
    sn.exchange(DEVICE, ping("c"), &[dup(qos1(id, 1, "1"))]);
    sn.advance(90);
    assert_eq!(sn.watched(), ["gone=c"]);
    assert_eq!(sn.gateway.stats().clients, 0);
}

/// Figure 4: CONNECT makes it active, with what was buffered; DISCONNECT without a duration disconnected, without a will.
#[test]
fn a_sleeper_connects_or_says_goodbye() {
    let (mut sn, id) = with_sleeper(false);
    sn.deliver("a", "1", BusQos::AtLeastOnce);
    sn.exchange(DEVICE, durable("c"), &[CONNACK, register_id("a", id, 1)]);
    sn.exchange(DEVICE, regack(id, 1, ACCEPTED), &[qos1(id, 1, "1")]);
    sn.exchange(DEVICE, puback(id, 1, ACCEPTED), &NOTHING);
    sn.exchange(DEVICE, Message::PingReq(None), &[PINGRESP]);

    for clean in [false, true] {
        let (mut sn, _) = with_sleeper(clean);
        sn.exchange(DEVICE, DISCONNECT, &[DISCONNECT]);
        sn.advance(1_000);
        assert_eq!(sn.watched(), UNHEARD);
        assert_eq!(sn.bus.stats().sessions, if clean { 1 } else { 2 });
    }
}

/// Only an active client may ask for more; it is told so, and sleeps on. docs/interpretations.md#sn-asleep-request
#[test]
fn a_sleeper_that_asks_for_something_is_told_to_connect() {
    let (mut sn, id) = with_sleeper(false);
    for message in [
        qos1(id, 1, "x"),
        register("b", 1),
        subscribe("b", Qos::AtMostOnce, 1),
    ] {
        sn.exchange(DEVICE, message, &[DISCONNECT]);
    }
    sn.exchange(DEVICE, ping("c"), &[PINGRESP]);
    // Awake, it may publish, and has its answer before PINGRESP.
    sn.deliver("a", "1", BusQos::AtLeastOnce);
    sn.exchange(DEVICE, ping("c"), &[qos1(id, 1, "1")]);
    sn.withheld = true;
    sn.exchange(DEVICE, qos1(id, 9, "2"), &NOTHING);
    sn.exchange(DEVICE, puback(id, 1, ACCEPTED), &[qos1(id, 2, "2")]);
    sn.exchange(DEVICE, puback(id, 2, ACCEPTED), &[puback(id, 9, ACCEPTED)]);
    sn.release_disk();
    assert_eq!(sn.sent(DEVICE), [PINGRESP]);
}

/// `publish_wakes`: PUBLISH of a sleeper counts as being awake: it gets what waits for it, then PINGRESP.
#[test]
fn publish_may_wake_a_sleeper() {
    let mut sn = Bench::with(|settings| settings.publish_wakes = true);
    sn.watch("b");
    sn.connected_durably(DEVICE, "c");
    let (id, b) = (
        sn.subscribed(DEVICE, "a", Qos::AtLeastOnce),
        sn.registered(DEVICE, "b"),
    );
    sn.exchange(DEVICE, sleep(60), &[DISCONNECT]);
    sn.deliver("a", "1", BusQos::AtLeastOnce);
    sn.advance(50);
    sn.exchange(
        DEVICE,
        publish_to(b, Qos::AtMostOnce, 0, "x"),
        &[qos1(id, 1, "1")],
    );
    sn.exchange(DEVICE, qos1(b, 9, "y"), &[puback(b, 9, ACCEPTED)]);
    assert_eq!(sn.watched(), ["b=x", "b=y"]);
    sn.exchange(DEVICE, puback(id, 1, ACCEPTED), &[PINGRESP]);
    // It sleeps again from then on.
    sn.advance(80);
    sn.exchange(DEVICE, ping("c"), &[PINGRESP]);
}

/// The mailbox survives the gateway: a sleeper finds it by its client id, whatever it said before. Wills keep their time.
#[test]
fn a_mailbox_survives_the_gateway() {
    for clean in [false, true] {
        let (mut sn, _) = with_sleeper(clean);
        for payload in ["1", "2"] {
            sn.deliver("a", payload, BusQos::AtLeastOnce);
        }
        sn.advance(40);
        sn.crash(20);
        sn.watch("gone");
        sn.advance(20);
        sn.exchange(DEVICE, ping("c"), &[register_id("a", 1, 1)]);
        sn.exchange(DEVICE, regack(1, 1, ACCEPTED), &[qos1(1, 1, "1")]);
        sn.exchange(DEVICE, puback(1, 1, ACCEPTED), &[qos1(1, 2, "2")]);
        sn.exchange(DEVICE, puback(1, 2, ACCEPTED), &[PINGRESP]);
        // It sleeps as long as before, though nobody has told this gateway for how long.
        sn.advance(89);
        assert_eq!(sn.watched(), UNHEARD, "clean {clean}");
        sn.advance(1);
        assert_eq!(sn.watched(), ["gone=c"], "clean {clean}");
    }
}

/// A client that nobody remembers has to connect.
#[test]
fn a_wake_of_nobody_is_answered_with_disconnect() {
    let mut sn = Bench::new();
    sn.exchange(DEVICE, ping("nobody"), &[DISCONNECT]);
    assert_eq!(sn.bus.stats().sessions, 0);
    assert_eq!((sn.endpoints(), sn.gateway.stats().clients), (0, 0));
    sn.refusal = Some(AuthRefusal::BadUserNameOrPassword);
    sn.exchange(DEVICE, ping("nobody"), &[DISCONNECT]);
    assert_eq!(
        sn.closed,
        [CloseReason::Normal],
        "who is refused gets no endpoint"
    );
}

/// A client that slept in a clean session and comes back by CONNECT has a new one. §6.2
#[test]
fn a_clean_session_is_new_at_each_connect() {
    let (mut sn, _) = with_sleeper(true);
    sn.deliver("a", "1", BusQos::AtLeastOnce);
    sn.exchange(DEVICE, connect("c"), &[CONNACK]);
    sn.deliver("a", "2", BusQos::AtLeastOnce);
    assert_eq!((sn.sent(DEVICE), sn.bus.stats().queued), (vec![], 0));
}
