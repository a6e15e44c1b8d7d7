//! ACK and NACK. STOMP 1.2, ACK; NACK

mod bench;

use bench::Bench;
use headgate_model::{Message, Qos};
use headgate_stomp::{NackPolicy, StompSettings};
use std::time::Duration;

/// A reader whose subscription outlives it, so that one can see what is settled; with these messages delivered.
fn reading(ack: &str, messages: &[&'static str], change: impl FnOnce(&mut StompSettings)) -> Bench {
    let mut bench = Bench::with(change);
    bench.connect("a");
    bench.subscribe(
        "a",
        &format!("id:0\ndestination:t\ndurable:true\nqos:2\nack:{ack}"),
    );
    for payload in messages {
        bench.deliver("t", payload, Qos::AtLeastOnce);
    }
    assert_eq!(bench.heard("a").len(), messages.len());
    bench
}

fn unsettled(bench: &Bench) -> usize {
    bench.queued("$stomp/a/durable/0")
}

/// STOMP 1.2, SUBSCRIBE ack Header: with `auto` a message is done when it is sent, with `client` all up to the one named, with `client-individual` that alone.
#[test]
fn acknowledgements_mean_what_the_mode_says() {
    for (ack, left) in [("auto", 0), ("client", 1), ("client-individual", 2)] {
        let mut bench = reading(ack, &["1", "2", "3"], |_| {});
        if ack != "auto" {
            assert_eq!(unsettled(&bench), 3);
            bench.ack("a", "2");
        }
        assert_eq!((unsettled(&bench), bench.heard("a").len()), (left, 0), "{ack}");
    }
}

/// STOMP 1.1, ACK: `message-id` and `subscription`; STOMP 1.0: `message-id`; STOMP 1.2: `id`.
#[test]
fn each_version_names_the_message_in_its_way() {
    for (version, headers) in [
        ("1.0", "message-id:ID"),
        ("1.1", "message-id:ID\nsubscription:0"),
        ("1.2", "id:ID"),
    ] {
        let mut bench = Bench::new();
        bench.connect_as("a", &format!("accept-version:{version}\nhost:h\nclient-id:a"));
        bench.subscribe("a", "id:0\ndestination:t\nack:client\ndurable:true");
        bench.deliver("t", "x", Qos::AtLeastOnce);
        let message = bench.frames("a").remove(0);
        assert_eq!(message.get("ack").is_some(), version == "1.2");
        let id = bench.id("a", "x");
        bench.exchange(
            "a",
            &format!("ACK\n{}\nreceipt:1\n\n", headers.replace("ID", &id)),
            &["RECEIPT 1"],
        );
        assert_eq!(unsettled(&bench), 0, "{version}");
    }
}

/// An acknowledgement of nothing is told, and the connection goes on.
#[test]
fn an_unknown_acknowledgement_is_told() {
    let mut bench = reading("client-individual", &["1"], |_| {});
    let unknown = |id: &str| format!("no message `{id}` waits for an acknowledgement");
    for id in ["1-2", "9-1", "x", ""] {
        for command in ["ACK", "NACK"] {
            let error = format!("ERROR 1: {}", unknown(id));
            bench.exchange("a", &format!("{command}\nid:{id}\nreceipt:1\n\n"), &[&error]);
        }
    }
    bench.ack("a", "1");
    bench.ack("a", "1");
    let once = format!("ERROR {}", unknown("1-1"));
    assert_eq!(bench.heard("a"), [once], "once is enough");
    for command in ["ACK", "NACK"] {
        let error = "ERROR 1: the header id is missing";
        bench.exchange("a", &format!("{command}\nreceipt:1\n\n"), &[error]);
    }
    assert!(!bench.is_closed("a"));
    assert_eq!(bench.counts["stomp/ack/missed"], 9);
}

/// With `client`, what was acknowledged with a later message may be acknowledged again.
#[test]
fn a_cumulative_acknowledgement_may_come_late() {
    let mut bench = reading("client", &["1", "2"], |_| {});
    bench.ack("a", "2");
    bench.ack("a", "1");
    assert_eq!(bench.heard("a"), [""; 0]);
}

/// The RECEIPT of an ACK leaves when the message is durably settled: a power cut does not bring it back. At QoS 1 and 2.
#[test]
fn the_receipt_of_an_ack_is_a_promise() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut bench = reading("client-individual", &[], |_| {});
        bench.deliver("t", "x", qos);
        bench.heard("a");
        bench.withheld = true;
        bench.ack_with("a", "ACK", "x", "receipt:1\n");
        assert_eq!(bench.heard("a"), [""; 0]);
        bench.withheld = false;
        bench.raw("a", b"\n");
        assert_eq!(bench.heard("a"), ["RECEIPT 1"]);
        bench.restart();
        bench.connect("a");
        bench.subscribe(
            "a",
            "id:0\ndestination:t\ndurable:true\nqos:2\nack:client-individual",
        );
        assert_eq!(bench.heard("a"), [""; 0]);
        assert_eq!(unsettled(&bench), 0);
    }
}

/// UNSUBSCRIBE directly behind an ACK does not take its RECEIPT away.
#[test]
fn a_receipt_comes_though_the_subscription_ends() {
    for durable in ["", "durable:true\n"] {
        let mut bench = reading("client", &["1", "2"], |_| {});
        let id = bench.id("a", "2");
        let frames = format!("ACK\nid:{id}\nreceipt:1\n\n\0UNSUBSCRIBE\nid:0\n{durable}receipt:2\n\n");
        bench.exchange("a", &frames, &["RECEIPT 1", "RECEIPT 2"]);
        assert_eq!(bench.has_session("$stomp/a/durable/0"), durable.is_empty());
        bench.subscribe("a", "id:0\ndestination:t\ndurable:true\nack:client");
        bench.deliver("t", "3", Qos::AtLeastOnce);
        assert_eq!(bench.heard("a"), ["MESSAGE 0 t 3"]);
    }
}

/// What is not acknowledged when the connection is lost comes again, and says so.
#[test]
fn unacknowledged_messages_come_again() {
    let mut bench = reading("client-individual", &["1", "2"], |_| {});
    bench.ack("a", "1");
    bench.lose("a");
    bench.connect("a");
    bench.subscribe("a", "id:0\ndestination:t\ndurable:true\nack:client-individual");
    assert_eq!(bench.heard("a"), ["MESSAGE 0 t 2 redelivered"]);
}

/// Our reading of STOMP 1.2, NACK: the message comes again after a time that doubles, so many times; then it is a dead letter.
#[test]
fn a_refused_message_comes_again_and_then_is_a_dead_letter() {
    let mut bench = reading("client-individual", &["1"], |settings| {
        settings.max_redeliveries = 2;
        settings.dead_letter_prefix = "dead/".into();
    });
    bench.subscribe("a", "id:dead\ndestination:dead/#");
    bench.nack("a", "1");
    for seconds in [1, 2] {
        bench.advance(Duration::from_millis(seconds * 1_000 - 1));
        assert_eq!(bench.heard("a"), [""; 0]);
        bench.advance_ms(1);
        assert_eq!(bench.heard("a"), ["MESSAGE 0 t 1 redelivered"]);
        assert_eq!(unsettled(&bench), 1);
        bench.nack("a", "1");
    }
    let letters = bench.frames("a");
    let letter = &letters[0];
    assert_eq!((letters.len(), letter.get("destination")), (1, Some("dead/t")));
    for (name, value) in [
        ("headgate-reason", "nack"),
        ("headgate-subscription", "0"),
        ("headgate-deliveries", "3"),
    ] {
        assert_eq!(letter.get(name), Some(value), "{name}");
    }
    assert_eq!(
        (unsettled(&bench), bench.counts["stomp/message/dead_lettered"]),
        (0, 1)
    );
}

/// A dead letter is durable before the message is done with.
#[test]
fn a_message_is_not_lost_on_its_way_to_the_dead() {
    let mut bench = reading("client-individual", &["1"], |settings| {
        settings.nack = NackPolicy::DeadLetter;
        settings.dead_letter_prefix = "dead/".into();
    });
    bench.connect("undertaker");
    bench.subscribe("undertaker", "id:0\ndestination:dead/#\ndurable:true\nack:client");
    bench.withheld = true;
    bench.nack("a", "1");
    assert_eq!(unsettled(&bench), 1);
    bench.restart();
    assert_eq!(
        unsettled(&bench),
        1,
        "the power went before the dead letter was durable"
    );
}

#[test]
fn a_refused_message_may_be_dropped() {
    let mut bench = reading("client", &["1", "2", "3"], |settings| {
        settings.nack = NackPolicy::Drop;
    });
    bench.nack("a", "2");
    assert_eq!(
        (unsettled(&bench), bench.counts["stomp/message/dropped/nack"]),
        (1, 2)
    );
    let mut bench = reading("client", &["1"], |settings| settings.max_redeliveries = 0);
    bench.nack("a", "1");
    assert_eq!(unsettled(&bench), 0, "without dead letters");
}

/// SockJS carries text. What is none is undeliverable, and nothing else suffers. docs/stomp.md
#[test]
fn what_is_no_text_is_undeliverable_over_sockjs() {
    let bytes = |message: &mut Message| message.payload = b"\xFF"[..].into();
    let mut bench = Bench::with(|settings| settings.dead_letter_prefix = "dead/".into());
    bench.connect("undertaker");
    bench.subscribe("undertaker", "id:0\ndestination:dead/#");
    bench.carries_text_only = true;
    bench.connect("a");
    bench.subscribe("a", "id:auto\ndestination:t");
    bench.subscribe("a", "id:acks\ndestination:t\nack:client\ndurable:true");
    bench.subscribe("a", "id:all\ndestination:dead/#\nack:client");
    bench.deliver_with("t", "", Qos::AtLeastOnce, bytes);
    assert_eq!(bench.heard("a"), [""; 0]);
    let dead = bench.frames("undertaker");
    assert!(
        dead.len() == 1 && dead[0].get("destination") == Some("dead/t") && dead[0].body[..] == b"\xFF"[..],
        "{dead:?}"
    );
    assert_eq!(
        (
            bench.counts["stomp/message/dropped/not_text"],
            bench.counts["stomp/message/dead_lettered"]
        ),
        (2, 1),
        "the one without acknowledgements, and the letter itself"
    );
    assert_eq!(unsettled(&bench), 0);
    bench.deliver("t", "text", Qos::AtLeastOnce);
    assert_eq!(bench.heard("a").len(), 2);
}

/// STOMP 1.2, ACK transaction: it counts at COMMIT, and not at all after ABORT.
#[test]
fn acknowledgements_in_a_transaction_count_at_commit() {
    let mut bench = reading("client-individual", &["1", "2"], |settings| {
        settings.nack = NackPolicy::Drop;
    });
    bench.send("a", "BEGIN\ntransaction:t\n\n");
    bench.ack_with("a", "ACK", "1", "transaction:t\n");
    bench.ack_with("a", "NACK", "2", "transaction:t\n");
    assert_eq!(unsettled(&bench), 2);
    bench.send("a", "ABORT\ntransaction:t\n\n");
    assert_eq!(unsettled(&bench), 2);
    bench.send("a", "BEGIN\ntransaction:t\n\n");
    bench.ack_with("a", "ACK", "1", "transaction:t\n");
    bench.ack_with("a", "NACK", "2", "transaction:t\n");
    bench.withheld = true;
    bench.exchange("a", "COMMIT\ntransaction:t\nreceipt:1\n\n", &[]);
    bench.withheld = false;
    bench.raw("a", b"\n");
    assert_eq!(
        (bench.heard("a"), unsettled(&bench)),
        (vec!["RECEIPT 1".to_owned()], 0)
    );
}
