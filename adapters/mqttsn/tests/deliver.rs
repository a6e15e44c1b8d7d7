//! What clients are sent. MQTT-SN 1.2 §6.6, §6.10, §6.13

mod bench;

use bench::*;
use headgate_model::{CloseReason, Metric, Qos as BusQos};
use headgate_mqttsn::SnMetric;
use headgate_mqttsn_codec::{Message, Publish, Qos, ReturnCode, TopicRef};

const ACCEPTED: ReturnCode = ReturnCode::Accepted;
const T_RETRY: u64 = 10;
const N_RETRY: usize = 5;

fn with_subscriber(filter: &str, qos: Qos) -> (Bench, u16) {
    let mut sn = Bench::with(|settings| settings.amplification_limit = 0);
    sn.exchange(DEVICE, connect_as("c", false, false, 10_000), &[CONNACK]);
    let id = sn.subscribed(DEVICE, filter, qos);
    (sn, id)
}

fn qos1(id: u16, msg_id: u16, payload: &str) -> Message {
    publish_to(id, Qos::AtLeastOnce, msg_id, payload)
}

fn qos2(id: u16, msg_id: u16, payload: &str) -> Message {
    publish_to(id, Qos::ExactlyOnce, msg_id, payload)
}

/// §6.10 A client is told the id of a topic before the first message to it; the order of messages is kept.
#[test]
fn register_comes_before_publish() {
    let (mut sn, _) = with_subscriber("a/+", Qos::AtLeastOnce);
    sn.deliver("a/1", "1", BusQos::AtLeastOnce);
    sn.deliver("a/2", "2", BusQos::AtMostOnce);
    sn.deliver("a/1", "3", BusQos::AtLeastOnce);
    assert_eq!(sn.sent(DEVICE), [register_id("a/1", 1, 1)]);
    sn.exchange(DEVICE, regack(1, 1, ACCEPTED), &[qos1(1, 1, "1")]);
    sn.exchange(DEVICE, puback(1, 1, ACCEPTED), &[register_id("a/2", 2, 2)]);
    let answers = [publish_to(2, Qos::AtMostOnce, 0, "2"), qos1(1, 2, "3")];
    sn.exchange(DEVICE, regack(2, 2, ACCEPTED), &answers);
    sn.exchange(DEVICE, puback(1, 2, ACCEPTED), &NOTHING);
    assert_eq!(sn.bus.stats().inflight, 0);
}

/// §6.10 A client that refuses an id does not get what it is for; the rest goes on. docs/interpretations.md#sn-register-refused
#[test]
fn a_refused_register_costs_one_message() {
    let (mut sn, _) = with_subscriber("a/+", Qos::AtLeastOnce);
    sn.deliver("a/1", "1", BusQos::AtLeastOnce);
    sn.deliver("a/2", "2", BusQos::AtLeastOnce);
    assert_eq!(sn.sent(DEVICE), [register_id("a/1", 1, 1)]);
    sn.exchange(
        DEVICE,
        regack(1, 1, ReturnCode::NotSupported),
        &[register_id("a/2", 2, 2)],
    );
    sn.exchange(DEVICE, regack(2, 2, ACCEPTED), &[qos1(2, 2, "2")]);
    assert_eq!(sn.counted(SnMetric::Rejected), 1);
}

/// §6.13 A message that is not answered is repeated N_retry times, T_retry apart; then the client is lost.
/// Our reading: docs/interpretations.md#sn-gateway-retry.
#[test]
fn unanswered_publish_is_repeated_then_the_client_is_lost() {
    let (mut sn, id) = with_subscriber("a", Qos::AtLeastOnce);
    sn.deliver("a", "x", BusQos::AtLeastOnce);
    assert_eq!(sn.sent(DEVICE), [qos1(id, 1, "x")]);
    for _ in 0..N_RETRY {
        sn.advance(T_RETRY);
        assert_eq!(sn.sent(DEVICE), [dup(qos1(id, 1, "x"))]);
    }
    sn.advance(T_RETRY);
    assert_eq!(sn.sent(DEVICE), NOTHING);
    assert_eq!(sn.closed, [CloseReason::Lost]);
    assert_eq!(sn.counted(SnMetric::Retries), 5);
    // Its session is kept, and the message with it.
    sn.send(DEVICE, durable("c"));
    assert_eq!(sn.sent(DEVICE), [CONNACK, register_id("a", 1, 1)]);
    sn.exchange(DEVICE, regack(1, 1, ACCEPTED), &[dup(qos1(1, 1, "x"))]);
}

/// The same for REGISTER and for PUBREL.
#[test]
fn register_and_pubrel_are_repeated() {
    let (mut sn, _) = with_subscriber("a/+", Qos::ExactlyOnce);
    sn.deliver("a/1", "x", BusQos::ExactlyOnce);
    assert_eq!(sn.sent(DEVICE), [register_id("a/1", 1, 1)]);
    sn.advance(T_RETRY);
    assert_eq!(sn.sent(DEVICE), [register_id("a/1", 1, 1)]);
    sn.exchange(DEVICE, regack(1, 1, ACCEPTED), &[qos2(1, 1, "x")]);
    sn.exchange(DEVICE, Message::PubRec(1), &[Message::PubRel(1)]);
    for _ in 0..N_RETRY {
        sn.advance(T_RETRY);
        assert_eq!(sn.sent(DEVICE), [Message::PubRel(1)]);
    }
    sn.exchange(DEVICE, Message::PubComp(1), &NOTHING);
    assert_eq!(sn.bus.stats().inflight, 0);
    sn.advance(T_RETRY);
    assert_eq!(sn.sent(DEVICE), NOTHING);
}

/// §6.6, QoS 2: PUBREL leaves when it is durable that the client has the message, and a crash does not change what it is about.
#[test]
fn pubrel_waits_for_the_disk() {
    let (mut sn, id) = with_subscriber("a", Qos::ExactlyOnce);
    sn.deliver("a", "x", BusQos::ExactlyOnce);
    assert_eq!(sn.sent(DEVICE), [qos2(id, 1, "x")]);
    sn.withheld = true;
    sn.exchange(DEVICE, Message::PubRec(1), &NOTHING);
    sn.exchange(DEVICE, Message::PubRec(1), &NOTHING);
    sn.withheld = false;
    sn.commit();
    assert_eq!(sn.sent(DEVICE), [Message::PubRel(1)]);
    sn.crash(0);
    sn.send(DEVICE, durable("c"));
    assert_eq!(sn.sent(DEVICE), [CONNACK, Message::PubRel(1)]);
    sn.exchange(DEVICE, Message::PubComp(1), &NOTHING);
    assert_eq!(sn.bus.stats().inflight, 0);
}

/// One message is under way at a time, also when there is a PUBREL of an earlier connection. §6.6
#[test]
fn one_message_is_under_way_at_a_time() {
    let (mut sn, id) = with_subscriber("a", Qos::ExactlyOnce);
    for payload in ["1", "2", "3"] {
        sn.deliver("a", payload, BusQos::ExactlyOnce);
    }
    assert_eq!(sn.sent(DEVICE), [qos2(id, 1, "1")]);
    sn.exchange(DEVICE, Message::PubRec(1), &[Message::PubRel(1)]);
    sn.advance(20);
    sn.sent(DEVICE);
    sn.exchange(DEVICE, durable("c"), &[CONNACK, Message::PubRel(1)]);
    sn.exchange(DEVICE, Message::PubComp(1), &[register_id("a", 1, 1)]);
    sn.exchange(DEVICE, regack(1, 1, ACCEPTED), &[qos2(1, 2, "2")]);
    sn.exchange(DEVICE, Message::PubRec(2), &[Message::PubRel(2)]);
    sn.exchange(DEVICE, Message::PubComp(2), &[qos2(1, 3, "3")]);
}

/// PUBREC for something long done: the client must be let go of it.
#[test]
fn a_late_pubrec_is_answered() {
    let (mut sn, _) = with_subscriber("a", Qos::ExactlyOnce);
    sn.exchange(DEVICE, Message::PubRec(77), &[Message::PubRel(77)]);
    for late in [
        Message::PubComp(77),
        puback(1, 77, ACCEPTED),
        regack(1, 77, ACCEPTED),
    ] {
        sn.exchange(DEVICE, late, &NOTHING);
    }
}

/// §5.4.13 A client that has forgotten an id is told it once more; a second time it is its own fault.
#[test]
fn a_forgotten_topic_id_is_told_again() {
    let (mut sn, id) = with_subscriber("a", Qos::AtLeastOnce);
    let unknown = |msg_id| puback(id, msg_id, ReturnCode::InvalidTopicId);
    sn.deliver("a", "1", BusQos::AtLeastOnce);
    assert_eq!(sn.sent(DEVICE), [qos1(id, 1, "1")]);
    sn.exchange(DEVICE, unknown(1), &[register_id("a", id, 1)]);
    sn.exchange(DEVICE, regack(id, 1, ACCEPTED), &[qos1(id, 1, "1")]);
    sn.exchange(DEVICE, unknown(1), &NOTHING);
    assert_eq!(sn.counted(SnMetric::Rejected), 1);
    // At QoS 0 the message is lost, but the next one is preceded by its id.
    sn.deliver("a", "2", BusQos::AtMostOnce);
    assert_eq!(sn.sent(DEVICE), [register_id("a", id, 2)]);
}

/// A client that connects again and again while a message is under way may forget the id each time: the message is not refused by that.
#[test]
fn an_id_may_be_forgotten_by_each_connection() {
    let (mut sn, id) = with_subscriber("a", Qos::AtLeastOnce);
    let unknown = puback(id, 1, ReturnCode::InvalidTopicId);
    sn.deliver("a", "1", BusQos::AtLeastOnce);
    assert_eq!(sn.sent(DEVICE), [qos1(id, 1, "1")]);
    for n in 1..4 {
        sn.exchange(
            DEVICE,
            unknown.clone(),
            &[register_id("a", id, if n == 1 { 1 } else { 2 })],
        );
        let again = connect_as("c", false, false, 10_000);
        sn.exchange(DEVICE, again, &[CONNACK, register_id("a", id, 1)]);
        sn.exchange(DEVICE, regack(id, 1, ACCEPTED), &[dup(qos1(id, 1, "1"))]);
    }
    sn.exchange(DEVICE, puback(id, 1, ACCEPTED), &NOTHING);
    assert_eq!(sn.counted(SnMetric::Rejected), 0);
}

/// §5.3.10 A client without room gets the message again in a while; one that cannot take it, never.
#[test]
fn puback_says_what_to_do_with_a_message() {
    let (mut sn, id) = with_subscriber("a", Qos::AtLeastOnce);
    sn.deliver("a", "1", BusQos::AtLeastOnce);
    sn.deliver("a", "2", BusQos::AtLeastOnce);
    assert_eq!(sn.sent(DEVICE), [qos1(id, 1, "1")]);
    sn.exchange(DEVICE, puback(id, 1, ReturnCode::Congestion), &NOTHING);
    sn.advance(T_RETRY);
    assert_eq!(sn.sent(DEVICE), [dup(qos1(id, 1, "1"))]);
    let refused = |msg_id| puback(id, msg_id, ReturnCode::NotSupported);
    sn.exchange(DEVICE, refused(1), &[qos1(id, 1, "1")]);
    sn.exchange(DEVICE, refused(1), &[qos1(id, 2, "2")]);
    sn.exchange(DEVICE, refused(2), &NOTHING);
    assert_eq!(sn.counted(SnMetric::Rejected), 2);
}

/// A message that fits into no datagram is counted, and does not stand in the way of others.
#[test]
fn a_message_that_is_too_long_is_rejected() {
    let mut sn = Bench::with(|settings| {
        settings.max_datagram_bytes = 100;
        settings.amplification_limit = 0;
    });
    sn.connected(DEVICE, "c");
    let id = sn.subscribed(DEVICE, "a", Qos::AtLeastOnce);
    sn.deliver("a", &LONG[..93], BusQos::AtLeastOnce);
    let sent = sn.datagrams(DEVICE);
    assert_eq!(sent[0].0, 100);
    sn.exchange(DEVICE, puback(id, 1, ACCEPTED), &NOTHING);
    for qos in [BusQos::AtMostOnce, BusQos::AtLeastOnce, BusQos::ExactlyOnce] {
        sn.deliver("a", &LONG[..94], qos);
    }
    sn.deliver("a", "x", BusQos::AtMostOnce);
    assert_eq!(sn.sent(DEVICE), [publish_to(id, Qos::AtMostOnce, 0, "x")]);
    assert_eq!(
        (sn.counted(Metric::DroppedTooLarge), sn.bus.stats().inflight),
        (3, 0)
    );
}

const LONG: &str =
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// §5.3.4 What the client sees of QoS, RETAIN and the topic.
#[test]
fn flags_are_those_of_the_delivery() {
    let (mut sn, id) = with_subscriber("a", Qos::AtLeastOnce);
    sn.deliver_as("a", "x", BusQos::ExactlyOnce, true);
    assert_eq!(
        sn.sent(DEVICE),
        [qos1(id, 1, "x")],
        "not retained: it was subscribed before"
    );
    sn.exchange(DEVICE, puback(id, 1, ACCEPTED), &NOTHING);
    sn.send(DEVICE, subscribe("a", Qos::ExactlyOnce, 9));
    let retained = Message::Publish(Publish {
        retain: true,
        ..publish(TopicRef::Normal(id), Qos::ExactlyOnce, 2, "x")
    });
    assert_eq!(
        sn.sent(DEVICE),
        [suback(Qos::ExactlyOnce, id, 9, ACCEPTED), retained]
    );
}

/// §6.6 A client may have known ids before it came back: they mean the same, but it is told them again before they are used.
#[test]
fn topic_ids_outlive_a_connection() {
    let (mut sn, id) = with_subscriber("a", Qos::AtMostOnce);
    sn.watch("a");
    sn.advance(20);
    sn.exchange(DEVICE, durable("c"), &[CONNACK]);
    sn.exchange(
        DEVICE,
        publish_to(id, Qos::AtMostOnce, 0, "1"),
        &[register_id("a", id, 1)],
    );
    assert_eq!(sn.watched(), ["a=1"]);
    sn.exchange(
        DEVICE,
        regack(id, 1, ACCEPTED),
        &[publish_to(id, Qos::AtMostOnce, 0, "1")],
    );
    sn.advance(20);
    sn.exchange(DEVICE, connect("c"), &[CONNACK]);
    sn.exchange(
        DEVICE,
        publish_to(id, Qos::AtMostOnce, 0, "2"),
        &[puback(id, 0, ReturnCode::InvalidTopicId)],
    );
}
