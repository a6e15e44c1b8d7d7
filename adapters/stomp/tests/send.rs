//! SEND, RECEIPT, transactions. STOMP 1.2, SEND; BEGIN; COMMIT; ABORT; RECEIPT

mod bench;

use bench::Bench;
use headgate_model::{AccessDecision, Action};
use std::time::Duration;

/// A reader that keeps what comes, so that a SEND has something to be durable for; and a writer.
fn bench_with(change: impl FnOnce(&mut headgate_stomp::StompSettings)) -> Bench {
    let mut bench = Bench::with(change);
    bench.connect("reader");
    bench.subscribe(
        "reader",
        "id:0\ndestination:#\ndurable:true\nqos:2\nack:client-individual",
    );
    bench.connect("writer");
    bench
}

fn bench() -> Bench {
    bench_with(|_| {})
}

/// STOMP 1.2, RECEIPT: not before the message is durable. At any QoS, and in the order of the frames.
#[test]
fn a_receipt_is_a_promise() {
    for qos in ["qos:0\n", "qos:1\n", "qos:2\n", ""] {
        let mut bench = bench();
        bench.withheld = true;
        bench.exchange(
            "writer",
            &format!("SEND\ndestination:a\nreceipt:1\n{qos}\nx"),
            &[],
        );
        bench.exchange("writer", "BEGIN\ntransaction:t\nreceipt:2\n\n", &[]);
        bench.withheld = false;
        bench.exchange("writer", "ABORT\ntransaction:t\n\n", &["RECEIPT 1", "RECEIPT 2"]);
        assert_eq!(bench.heard("reader"), ["MESSAGE 0 a x"]);
    }
}

/// STOMP 1.2, Header receipt: on any frame but CONNECT.
#[test]
fn every_client_frame_may_have_a_receipt() {
    let mut bench = Bench::new();
    bench.connect("a");
    let mut receipt = |frame: &str| bench.exchange("a", &frame.replace("RC", "receipt:7"), &["RECEIPT 7"]);
    receipt("SEND\ndestination:x\nRC\n\n");
    receipt("SUBSCRIBE\nid:1\ndestination:y\nRC\n\n");
    receipt("SUBSCRIBE\nid:2\ndestination:y\nack:client\nRC\n\n");
    receipt("UNSUBSCRIBE\nid:1\nRC\n\n");
    receipt("UNSUBSCRIBE\nid:2\nRC\n\n");
    receipt("BEGIN\ntransaction:t\nRC\n\n");
    receipt("SEND\ndestination:x\ntransaction:t\nRC\n\n");
    receipt("COMMIT\ntransaction:t\nRC\n\n");
    receipt("BEGIN\ntransaction:t\n\n\0ABORT\ntransaction:t\nRC\n\n");
    receipt("DISCONNECT\nRC\n\n");
}

/// STOMP 1.2, BEGIN: what is sent in a transaction arrives at COMMIT, or not at all. The RECEIPT of COMMIT says that all of it is durable.
#[test]
fn a_transaction_is_published_at_commit() {
    let mut bench = bench();
    for frame in [
        "BEGIN\ntransaction:t\n\n",
        "BEGIN\ntransaction:u\n\n",
        "SEND\ndestination:a\ntransaction:t\n\n1",
        "SEND\ndestination:a\ntransaction:u\n\n2",
        "SEND\ndestination:a\ntransaction:t\n\n3",
        "ABORT\ntransaction:u\n\n",
    ] {
        bench.exchange("writer", frame, &[]);
    }
    assert_eq!(bench.heard("reader"), [""; 0]);
    bench.withheld = true;
    bench.exchange("writer", "COMMIT\ntransaction:t\nreceipt:c\n\n", &[]);
    bench.withheld = false;
    bench.raw("writer", b"\n");
    assert_eq!(bench.heard("writer"), ["RECEIPT c"]);
    assert_eq!(bench.heard("reader"), ["MESSAGE 0 a 1", "MESSAGE 0 a 3"]);
}

/// What concerns a transaction alone does not end the connection.
#[test]
fn an_unknown_transaction_is_told_and_the_connection_goes_on() {
    let mut bench = bench();
    for frame in [
        "SEND\ndestination:a\n",
        "COMMIT\n",
        "ABORT\n",
        "ACK\nid:1-1\n",
        "NACK\nid:1-1\n",
    ] {
        let frame = format!("{frame}transaction:t\nreceipt:1\n\n");
        bench.exchange("writer", &frame, &["ERROR 1: no such transaction"]);
    }
    assert!(!bench.is_closed("writer"));
    bench.exchange(
        "writer",
        "BEGIN\ntransaction:t\n\n\0BEGIN\ntransaction:t\n\n",
        &["ERROR this transaction is open already"],
    );
    assert!(bench.is_closed("writer"));
}

/// A transaction has bounds: in number, bytes and time. Beyond them it is dropped, and counted.
#[test]
fn transactions_are_bounded() {
    let mut bench = bench_with(|settings| {
        settings.max_transactions = 1;
        settings.max_transaction_bytes = 1_000;
    });
    bench.send("writer", "BEGIN\ntransaction:t\n\n");
    bench.exchange(
        "writer",
        "BEGIN\ntransaction:u\nreceipt:1\n\n",
        &["ERROR 1: more than 1 transactions (stomp.max_transactions)"],
    );
    let large = format!(
        "SEND\ndestination:a\ntransaction:t\nreceipt:2\n\n{}",
        "x".repeat(1_000)
    );
    bench.exchange(
        "writer",
        &large,
        &["ERROR 2: the transaction is dropped: more than 1000 bytes (stomp.max_transaction_bytes)"],
    );
    bench.exchange(
        "writer",
        "COMMIT\ntransaction:t\n\n",
        &["ERROR no such transaction"],
    );
    bench.send("writer", "BEGIN\ntransaction:t\n\n");
    bench.advance(Duration::from_secs(60));
    assert_eq!(
        bench.heard("writer"),
        ["ERROR transaction t took too long and is dropped"]
    );
    assert_eq!(bench.counts["stomp/transaction/dropped"], 2);
    assert_eq!(bench.heard("reader"), [""; 0]);
    bench.send("writer", "BEGIN\ntransaction:t\n\n");
    bench.send("writer", "SEND\ndestination:a\ntransaction:t\n\nlost");
    bench.lose("writer");
    assert_eq!(
        bench.heard("reader"),
        [""; 0],
        "a lost connection undoes it as well"
    );
}

/// A destination is a topic name: wildcards are for SUBSCRIBE.
#[test]
fn nothing_is_sent_to_a_wildcard() {
    for destination in ["a/+", "#", ""] {
        let mut bench = bench();
        bench.send(
            "writer",
            &format!("SEND\ndestination:{destination}\nreceipt:1\n\nx"),
        );
        let heard = bench.heard("writer");
        assert!(
            heard[0].starts_with("ERROR 1: no destination to send to"),
            "{heard:?}"
        );
        assert!(bench.is_closed("writer"));
    }
}

#[test]
fn rules_are_asked_before_anything_is_sent() {
    let mut bench = bench();
    bench.rule(
        Action::Publish,
        "secret",
        AccessDecision::Deny(Default::default()),
    );
    bench.rule(Action::Publish, "asked", AccessDecision::Ask);
    bench.questions_wait = true;
    bench.exchange("writer", "SEND\ndestination:asked\nreceipt:1\n\nx", &[]);
    bench.exchange("writer", "SEND\ndestination:a\nreceipt:2\n\ny", &[]);
    bench.answer("writer", AccessDecision::Allow);
    assert_eq!(
        bench.heard("writer"),
        ["RECEIPT 1", "RECEIPT 2"],
        "in the order of the frames"
    );
    bench.exchange(
        "writer",
        "SEND\ndestination:secret\nreceipt:3\n\nx",
        &["ERROR 3: not authorized to send there"],
    );
    assert_eq!(bench.heard("reader"), ["MESSAGE 0 asked x", "MESSAGE 0 a y"]);
}

/// docs/stomp.md, Headers: there and back.
#[test]
fn headers_travel_with_the_message() {
    let mut bench = bench();
    bench.send(
        "writer",
        "SEND\ndestination:a\ncontent-type:text/plain\nreply-to:b\ncorrelation-id:7\nmessage-expiry:60\n\
         colour:red\ncolour:blue\na\\cb:1\\n2\nmessage-id:forged\nsubscription:forged\n\nx",
    );
    let message = bench.frames("reader").remove(0);
    for (name, value) in [
        ("content-type", "text/plain"),
        ("reply-to", "b"),
        ("correlation-id", "7"),
        ("message-expiry", "60"),
        ("colour", "red"),
        ("a:b", "1\n2"),
        ("message-id", "1-1"),
        ("subscription", "0"),
        ("content-length", "1"),
    ] {
        assert_eq!(message.get(name), Some(value), "{name}");
    }
    let colours = message.headers.iter().filter(|(name, _)| &**name == "colour");
    assert_eq!(colours.count(), 1, "of repeated headers the first counts");
}

/// MQTT 5 §3.3.2.3.3
#[test]
fn an_expired_message_is_not_delivered() {
    let mut bench = bench();
    bench.lose("reader");
    bench.send("writer", "SEND\ndestination:a\nmessage-expiry:5\n\nlate");
    bench.send("writer", "SEND\ndestination:a\nmessage-expiry:20\n\nin time");
    bench.advance(Duration::from_secs(10));
    bench.connect("reader");
    bench.send(
        "reader",
        "SUBSCRIBE\nid:0\ndestination:#\ndurable:true\nqos:2\nack:client-individual\n\n",
    );
    let messages = bench.frames("reader");
    assert_eq!(messages.len(), 1);
    assert_eq!(
        (&messages[0].body[..], messages[0].get("message-expiry")),
        (&b"in time"[..], Some("10"))
    );
}

/// `retain:true` keeps the message for later subscriptions, which see that it was retained.
#[test]
fn retained_messages_come_with_the_subscription() {
    let mut bench = Bench::new();
    bench.connect("a");
    bench.send("a", "SUBSCRIBE\nid:early\ndestination:t\n\n");
    bench.exchange(
        "a",
        "SEND\ndestination:t\nretain:true\n\nx",
        &["MESSAGE early t x"],
    );
    bench.exchange(
        "a",
        "SUBSCRIBE\nid:late\ndestination:+\nreceipt:1\n\n",
        &["RECEIPT 1", "MESSAGE late t x retained"],
    );
}

#[test]
fn a_mount_point_is_put_on_and_taken_off() {
    let mut bench = Bench::mounted("plant/");
    bench.connect("a");
    bench.send("a", "SUBSCRIBE\nid:0\ndestination:t\n\n");
    bench.exchange("a", "SEND\ndestination:t\n\nx", &["MESSAGE 0 t x"]);
    bench.deliver("plant/t", "y", headgate_model::Qos::AtMostOnce);
    assert_eq!(bench.heard("a"), ["MESSAGE 0 t y"]);
}

#[test]
fn destinations_may_have_dots_and_a_prefix() {
    let mut bench = Bench::with(|settings| {
        settings.dotted = true;
        settings.destination_prefix = "/topic/".into();
    });
    bench.connect("a");
    bench.send("a", "SUBSCRIBE\nid:0\ndestination:/topic/plant.*.>\n\n");
    bench.deliver("plant/7/valve", "open", headgate_model::Qos::AtLeastOnce);
    assert_eq!(bench.heard("a"), ["MESSAGE 0 /topic/plant.7.valve open"]);
    bench.exchange(
        "a",
        "SEND\ndestination:/queue/a\nreceipt:1\n\n",
        &["ERROR 1: destinations begin with /topic/ here"],
    );
}
