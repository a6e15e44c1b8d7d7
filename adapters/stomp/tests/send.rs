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
        bench.exchange("writer", &frame, &["ERROR 1: transaction `t` is not open"]);
    }
    assert!(!bench.is_closed("writer"));
    bench.exchange(
        "writer",
        "BEGIN\ntransaction:t\n\n\0BEGIN\ntransaction:t\n\n",
        &["ERROR transaction `t` is open already"],
    );
    for command in ["BEGIN", "COMMIT", "ABORT"] {
        let error = "ERROR 1: the header transaction is missing";
        bench.exchange("writer", &format!("{command}\nreceipt:1\n\n"), &[error]);
    }
    bench.send("writer", "COMMIT\ntransaction:u\n\n");
    assert_eq!(bench.frames("writer")[0].get("transaction"), Some("u"));
    bench.exchange("writer", "COMMIT\ntransaction:t\nreceipt:2\n\n", &["RECEIPT 2"]);
}

/// Rules that are changed hold for what waits for its COMMIT: it is refused as a whole, and what was acknowledged in it is not.
#[test]
fn a_commit_goes_by_the_rules_of_its_time() {
    let mut bench = bench();
    for frame in [
        "BEGIN\ntransaction:t\n\n",
        "SEND\ndestination:a\ntransaction:t\n\n1",
        "SEND\ndestination:later\ntransaction:t\n\n2",
    ] {
        bench.exchange("writer", frame, &[]);
    }
    let denied = AccessDecision::Deny(Default::default());
    bench.rule(Action::Publish, "later", denied);
    bench.send("writer", "COMMIT\ntransaction:t\nreceipt:1\n\n");
    let error = bench.frames("writer").remove(0);
    let why = "transaction `t` is dropped: not authorized to send to `later` any more";
    assert_eq!(error.get("message"), Some(why));
    assert_eq!(
        (error.get("receipt-id"), error.get("transaction")),
        (Some("1"), Some("t"))
    );
    assert_eq!(bench.heard("reader"), [""; 0]);
    assert!(!bench.is_closed("writer"));
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
        &["ERROR 2: transaction `t` is dropped: more than 1000 bytes (stomp.max_transaction_bytes)"],
    );
    bench.exchange(
        "writer",
        "COMMIT\ntransaction:t\n\n",
        &["ERROR transaction `t` is not open"],
    );
    bench.send("writer", "BEGIN\ntransaction:t\n\n");
    bench.advance(Duration::from_secs(60));
    assert_eq!(
        bench.heard("writer"),
        ["ERROR transaction `t` took too long and is dropped"]
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
            heard[0].starts_with(&format!("ERROR 1: `{destination}` is no destination to send to")),
            "{heard:?}"
        );
        assert!(bench.is_closed("writer"));
        let mut bench = bench_with(|_| {});
        let frame = format!("SEND\ndestination:a\nreply-to:{destination}\nreceipt:1\n\nx");
        bench.send("writer", &frame);
        let heard = bench.heard("writer");
        let error = format!("ERROR 1: reply-to `{destination}` is no destination to send to");
        assert!(heard[0].starts_with(&error), "{heard:?}");
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
        &["ERROR 3: not authorized to send to `secret`"],
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

/// There are clients that take white space of Unicode, or control characters, off names: none finds a header of the protocol there.
#[test]
fn no_name_becomes_a_header_of_the_protocol_when_it_is_trimmed() {
    let mut bench = bench();
    let pads = [
        "\u{b}", "\u{1}", "\u{a0}", "\u{feff}", "\u{2028}", "\u{3000}", " ", "\t", "\u{85}",
    ];
    let names = pads
        .iter()
        .flat_map(|pad| [format!("{pad}content-length:3"), format!("ack{pad}:3")]);
    let names = names.collect::<Vec<_>>().join("\n");
    bench.send(
        "writer",
        &format!("SEND\ndestination:a\n{names}\ncol our:red\n\n0123456789"),
    );
    let message = bench.frames("reader").remove(0);
    let names: Vec<_> = message.headers.iter().map(|(name, _)| name.as_str()).collect();
    let own = ["subscription", "message-id", "ack", "destination"];
    assert_eq!(names, [&own[..], &["col our", "content-length"]].concat());
}

/// A header that says yes or no says it in one of two words.
#[test]
fn a_wrong_flag_is_refused() {
    let mut bench = bench();
    bench.exchange(
        "writer",
        "SEND\ndestination:a\nretain:yes\nreceipt:1\n\nx",
        &["ERROR 1: retain is `yes`, allowed are true and false"],
    );
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
        &["ERROR 1: destination `/queue/a` does not begin with /topic/ (stomp.destination_prefix)"],
    );
}
