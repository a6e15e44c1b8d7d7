//! Nobody who uses somebody's address can have much sent there. RFC 9000 §8.1 has the rule; MQTT-SN 1.2 has nothing that proves where a client is.
//!
//! Addresses are those of the bench; serial lines have none that could be forged.

mod bench;

use bench::*;
use headgate_model::Qos as BusQos;
use headgate_mqttsn::{PredefinedTopic, SnGateway, SnMetric};
use headgate_mqttsn_codec::{Message, Qos, ReturnCode, TopicRef};
use std::sync::LazyLock;

const ACCEPTED: ReturnCode = ReturnCode::Accepted;
const T_RETRY: u64 = 10;
const N_RETRY: u64 = 5;

static LONG: LazyLock<&str> = LazyLock::new(|| Box::leak("x".repeat(1_300).into_boxed_str()));

/// Sends, and says how many bytes that were.
fn send(sn: &mut Bench, from: At, message: Message) -> usize {
    let len = datagram(from, &message).len();
    sn.send(from, message);
    len
}

fn bytes_to(sn: &mut Bench, at: At) -> usize {
    sn.datagrams(at).iter().map(|(len, _)| len).sum()
}

/// The topic ids and message ids of a gateway that nobody told where to begin.
fn unpredictable(mut sn: Bench) -> Bench {
    sn.gateway = SnGateway::new(sn.settings.clone(), std::sync::Arc::default(), sn.now).unwrap();
    sn.bus.number_unpredictably();
    sn
}

/// The case: CONNECT and five SUBSCRIBE in somebody's name, against many long retained messages, and everything that follows for a day.
#[test]
fn a_forged_address_gets_three_times_what_was_sent_in_its_name() {
    for limit in [3, 1, 0] {
        for (clean, qos) in [
            (true, Qos::AtMostOnce),
            (false, Qos::AtLeastOnce),
            (true, Qos::ExactlyOnce),
        ] {
            let mut sn = unpredictable(Bench::with(|settings| {
                settings.amplification_limit = u8::try_from(limit).unwrap();
            }));
            for n in 0..100 {
                let topic = format!("{n:02}");
                sn.deliver_as(&topic, *LONG, BusQos::ExactlyOnce, true);
            }
            let mut sent = send(&mut sn, DEVICE, connect_as("c", clean, false, 0));
            for (n, filter) in ["#", "+", "#", "+", "#"].into_iter().enumerate() {
                sent += send(&mut sn, DEVICE, subscribe(filter, qos, n as u16 + 1));
            }
            sn.advance(86_399);
            let mut received = bytes_to(&mut sn, DEVICE);
            if limit == 0 {
                let many = if qos == Qos::AtMostOnce { 1_000 } else { 100 };
                assert!(
                    received > many * sent,
                    "it would be worth it: {received} for {sent}"
                );
                continue;
            }
            assert!(received <= limit * sent, "{received} for {sent}");
            // Blind acknowledgements are no proof.
            for id in 0..200 {
                sent += send(&mut sn, DEVICE, regack(id, id, ACCEPTED));
                sent += send(&mut sn, DEVICE, puback(id, id, ACCEPTED));
                sent += send(&mut sn, DEVICE, Message::PubRec(id));
                sent += send(&mut sn, DEVICE, Message::PubComp(id));
            }
            sn.advance(86_399);
            received += bytes_to(&mut sn, DEVICE);
            assert!(received <= limit * sent, "{received} for {sent}");
        }
    }
}

/// The same for whoever is not known, looks for a gateway, or wakes a sleeper in another's name.
#[test]
fn no_answer_is_longer_than_it_may_be() {
    let mut sn = unpredictable(Bench::new());
    sn.connected_durably(OTHER, "sleeper");
    sn.subscribed(OTHER, "a/+", Qos::AtLeastOnce);
    sn.exchange(OTHER, Message::Disconnect(Some(60_000)), &[DISCONNECT]);
    for _ in 0..50 {
        sn.deliver("a/1", *LONG, BusQos::AtLeastOnce);
    }
    for victim in [DEVICE, At(7, Some(b"n"))] {
        let mut sent = 0;
        for message in [
            Message::SearchGw { radius: 0 },
            Message::PingReq(None),
            Message::PubRel(1),
            ping("sleeper"),
            ping("nobody"),
            connect(""),
            connect_as("w", true, true, 0),
        ] {
            sent += send(&mut sn, victim, message);
        }
        sn.advance(3_000);
        let received = bytes_to(&mut sn, victim);
        assert!(received <= 3 * sent, "{received} for {sent}");
    }
}

/// A client that is there hears everything at once: REGISTER goes ahead of what is too long, and REGACK is the proof.
#[test]
fn who_answers_gets_everything() {
    let mut sn = Bench::new();
    for topic in ["t/1", "t/2"] {
        sn.deliver_as(topic, *LONG, BusQos::AtMostOnce, true);
    }
    sn.connected(DEVICE, "sensor-7");
    let id = 1;
    let granted = suback(Qos::AtMostOnce, id, 3, ACCEPTED);
    sn.send(DEVICE, subscribe("t/1", Qos::AtMostOnce, 3));
    assert_eq!(sn.sent(DEVICE), [granted, register_id("t/1", id, 1)]);
    assert_eq!(sn.counted(SnMetric::HeldBack), 1);
    sn.send(DEVICE, regack(id, 1, ACCEPTED));
    let long = sn.sent(DEVICE);
    assert!(matches!(&long[..], [Message::Publish(publish)] if publish.data.len() == LONG.len()));
    // It has proved that it is there: no more of that, also when it connects again.
    sn.send(DEVICE, subscribe("t/2", Qos::AtMostOnce, 4));
    assert_eq!(sn.sent(DEVICE).len(), 2);
    sn.exchange(DEVICE, connect("sensor-7"), &[CONNACK]);
    sn.send(DEVICE, subscribe("t/2", Qos::AtMostOnce, 5));
    assert_eq!(sn.sent(DEVICE).len(), 2);
    // At another address it has to prove it anew.
    sn.exchange(OTHER, connect("sensor-7"), &[CONNACK]);
    sn.send(OTHER, subscribe("t/2", Qos::AtMostOnce, 5));
    assert!(matches!(
        sn.sent(OTHER)[..],
        [Message::SubAck(_), Message::Register(_)]
    ));
}

/// Short messages need no proof, and an acknowledgement of one is one.
#[test]
fn puback_is_a_proof() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "sensor-7");
    let id = sn.subscribed(DEVICE, "t/1", Qos::AtLeastOnce);
    sn.deliver("t/1", "short", BusQos::AtLeastOnce);
    let short = publish_to(id, Qos::AtLeastOnce, 1, "short");
    assert_eq!(sn.sent(DEVICE), [short]);
    sn.send(DEVICE, puback(id, 1, ACCEPTED));
    sn.deliver("t/1", *LONG, BusQos::AtMostOnce);
    assert_eq!(sn.sent(DEVICE).len(), 1);
    assert_eq!(sn.counted(SnMetric::HeldBack), 0);
}

/// A client that takes only predefined ids, and refuses REGISTER, has proved as much by that.
#[test]
fn a_refused_register_is_a_proof_too() {
    let mut sn = Bench::with(|settings| {
        settings.predefined = vec![PredefinedTopic {
            id: 5,
            topic: "t/1".into(),
            client_id: None,
        }];
    });
    sn.connected(DEVICE, "sensor-7");
    sn.subscribed(DEVICE, "t/+", Qos::AtMostOnce);
    sn.deliver("t/1", *LONG, BusQos::AtMostOnce);
    assert_eq!(sn.sent(DEVICE), [register_id("t/1", 1, 1)]);
    sn.send(DEVICE, regack(1, 1, ReturnCode::NotSupported));
    let sent = sn.sent(DEVICE);
    assert!(matches!(&sent[..], [Message::Publish(publish)] if publish.topic == TopicRef::Predefined(5)));
}

/// A client that never answers gets what its own bytes allow, once there are enough of them, and is not lost while it lives.
#[test]
fn what_is_held_back_waits_for_bytes() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "sensor-7");
    let id = sn.subscribed(DEVICE, "t/1", Qos::AtMostOnce);
    sn.deliver("t/1", &LONG[..100], BusQos::AtMostOnce);
    sn.sent(DEVICE);
    let mut pings = 0;
    let long = loop {
        sn.advance(T_RETRY * N_RETRY);
        sn.send(DEVICE, Message::PingReq(None));
        pings += 1;
        assert!(pings < 50, "it never came");
        let long = sn
            .sent(DEVICE)
            .into_iter()
            .find(|message| matches!(message, Message::Publish(_)));
        if let Some(long) = long {
            break long;
        }
    };
    assert_eq!(long, publish_to(id, Qos::AtMostOnce, 0, &LONG[..100]));
    assert_eq!(sn.counted(SnMetric::Lost), 0);
}

/// §6.14 A sleeper that was lost to the gateway by a restart, or is behind another address, wakes as ever.
#[test]
fn a_sleeper_wakes_from_an_address_that_is_new() {
    let mut sn = Bench::new();
    sn.connected_durably(DEVICE, "sensor-7");
    let id = sn.subscribed(DEVICE, "cmd/7", Qos::AtLeastOnce);
    sn.exchange(DEVICE, Message::Disconnect(Some(60)), &[DISCONNECT]);
    for _ in 0..2 {
        sn.deliver("cmd/7", *LONG, BusQos::AtLeastOnce);
    }
    sn.exchange(OTHER, ping("sensor-7"), &[register_id("cmd/7", id, 1)]);
    sn.send(OTHER, regack(id, 1, ACCEPTED));
    assert_eq!(sn.sent(OTHER).len(), 1);
    sn.send(OTHER, puback(id, 1, ACCEPTED));
    assert_eq!(sn.sent(OTHER).len(), 1);
    sn.exchange(OTHER, puback(id, 2, ACCEPTED), &[Message::PingResp]);
}

/// Who guesses is not believed any more, nor when it connects again.
#[test]
fn many_guesses_are_no_proof() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "sensor-7");
    let id = sn.subscribed(DEVICE, "t/1", Qos::AtLeastOnce);
    for guess in 100..108 {
        sn.exchange(DEVICE, puback(id, guess, ACCEPTED), &NOTHING);
    }
    for _ in 0..2 {
        sn.deliver("t/1", "short", BusQos::AtLeastOnce);
        sn.sent(DEVICE);
        for msg_id in 1..4 {
            sn.send(DEVICE, puback(id, msg_id, ACCEPTED));
        }
        sn.deliver("t/1", *LONG, BusQos::AtMostOnce);
        let sent = sn.sent(DEVICE);
        assert!(
            !sent
                .iter()
                .any(|m| matches!(m, Message::Publish(p) if p.data.len() > 100))
        );
        sn.exchange(DEVICE, connect_as("sensor-7", true, false, 60), &[CONNACK]);
        sn.subscribed(DEVICE, "t/1", Qos::AtLeastOnce);
    }
}
