//! Durable subscriptions: sessions of their own, that wait for their client. docs/stomp.md, Durable subscriptions

mod bench;

use bench::Bench;
use headgate_model::Qos;
use headgate_stomp::StompSettings;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const DURABLE: &str = "id:0\ndestination:t\ndurable:true\nack:client-individual";

#[test]
fn a_durable_subscription_keeps_messages_while_its_client_is_away() {
    for header in ["durable:true", "persistent:true", "activemq.subscriptionName:log"] {
        let mut bench = Bench::new();
        bench.connect("a");
        bench.subscribe("a", &format!("id:0\ndestination:t\n{header}"));
        bench.send("a", "DISCONNECT\n\n");
        bench.deliver("t", "x", Qos::AtLeastOnce);
        bench.restart();
        bench.connect("a");
        bench.exchange(
            "a",
            &format!("SUBSCRIBE\nid:0\ndestination:t\n{header}\nreceipt:1\n\n"),
            &["RECEIPT 1", "MESSAGE 0 t x"],
        );
    }
}

/// The sessions of subscriptions are nobody's by name: whoever connects under such a client-id is sent away.
#[test]
fn a_subscription_s_session_is_nobody_s_by_name() {
    let mut bench = Bench::new();
    bench.connect("a");
    bench.subscribe("a", DURABLE);
    bench.open("b");
    bench.exchange(
        "b",
        "CONNECT\naccept-version:1.2\nhost:h\nclient-id:$stomp/a/durable/0\n\n",
        &["ERROR this client-id is not taken"],
    );
    bench.deliver("t", "x", Qos::AtLeastOnce);
    assert_eq!(bench.heard("a"), ["MESSAGE 0 t x"]);
}

/// It is found by the client's id and its own name, so both are needed.
#[test]
fn a_durable_subscription_needs_a_client_id() {
    let mut bench = Bench::new();
    bench.connect_as("a", "accept-version:1.2\nhost:h");
    bench.exchange(
        "a",
        "SUBSCRIBE\nid:0\ndestination:t\ndurable:true\nreceipt:1\n\n",
        &["ERROR 1: a durable subscription needs a client-id in CONNECT"],
    );
}

/// Another destination replaces it: nothing of the old one comes any more, not even what is queued.
#[test]
fn another_destination_replaces_a_durable_subscription() {
    let mut bench = Bench::new();
    bench.connect("a");
    bench.subscribe("a", DURABLE);
    bench.lose("a");
    bench.deliver("t", "old", Qos::AtLeastOnce);
    bench.connect("a");
    bench.subscribe("a", "id:0\ndestination:u\ndurable:true\nack:client");
    bench.deliver("t", "old", Qos::AtLeastOnce);
    bench.deliver("u", "new", Qos::AtLeastOnce);
    assert_eq!(bench.heard("a"), ["MESSAGE 0 u new"]);
    bench.restart();
    bench.connect("a");
    bench.subscribe("a", "id:0\ndestination:u\ndurable:true\nack:client");
    bench.deliver("t", "old", Qos::AtLeastOnce);
    assert_eq!(bench.heard("a"), ["MESSAGE 0 u new redelivered"]);
}

/// UNSUBSCRIBE with `durable:true` ends it, from any connection of the client; without, it waits.
#[test]
fn unsubscribe_ends_a_durable_subscription_if_it_says_so() {
    let mut bench = Bench::new();
    bench.connect("a");
    bench.subscribe("a", DURABLE);
    bench.exchange("a", "UNSUBSCRIBE\nid:0\nreceipt:1\n\n", &["RECEIPT 1"]);
    assert!(bench.has_session("$stomp/a/durable/0"), "it waits");
    bench.exchange(
        "a",
        "UNSUBSCRIBE\nid:0\ndurable:true\nreceipt:2\n\n",
        &["RECEIPT 2"],
    );
    assert!(
        !bench.has_session("$stomp/a/durable/0"),
        "it was not subscribed here"
    );
    bench.subscribe("a", DURABLE);
    bench.exchange(
        "a",
        "UNSUBSCRIBE\nid:0\ndurable:true\nreceipt:3\n\n",
        &["RECEIPT 3"],
    );
    bench.restart();
    assert!(!bench.has_session("$stomp/a/durable/0"), "durably");
}

/// RECEIPT of its end is a promise like any other: no power cut brings it back.
#[test]
fn the_end_of_a_durable_subscription_is_durable_before_it_is_told() {
    let mut bench = Bench::new();
    bench.connect("a");
    bench.subscribe("a", DURABLE);
    bench.withheld = true;
    bench.send("a", "UNSUBSCRIBE\nid:0\ndurable:true\nreceipt:1\n\n");
    assert_eq!(bench.heard("a"), [""; 0]);
    bench.withheld = false;
    bench.raw("a", b"\n");
    assert_eq!(bench.heard("a"), ["RECEIPT 1"]);
    bench.restart();
    assert!(!bench.has_session("$stomp/a/durable/0"));
}

/// Frames that come all at once are done one after the other.
#[test]
fn a_durable_subscription_is_made_and_ended_without_waiting() {
    let mut bench = Bench::new();
    bench.connect("a");
    let make = format!("SUBSCRIBE\n{DURABLE}\nreceipt:1\n\n");
    let end = "UNSUBSCRIBE\nid:0\ndurable:true\nreceipt:2\n\n";
    let leave = "UNSUBSCRIBE\nid:0\nreceipt:3\n\n";
    bench.exchange(
        "a",
        &[&*make, end, &*make, leave].join("\0"),
        &["RECEIPT 1", "RECEIPT 2", "RECEIPT 1", "RECEIPT 3"],
    );
    bench.deliver("t", "x", Qos::AtLeastOnce);
    bench.subscribe("a", DURABLE);
    assert_eq!(bench.heard("a"), ["MESSAGE 0 t x"]);
}

/// STOMP has no word on whose it is: here it is its user's.
#[test]
fn a_durable_subscription_belongs_to_its_user() {
    let mut bench = Bench::new();
    bench.connect_as("a", "accept-version:1.2\nhost:h\nclient-id:a\nlogin:me");
    bench.subscribe("a", DURABLE);
    bench.lose("a");
    bench.connect_as("thief", "accept-version:1.2\nhost:h\nclient-id:a\nlogin:thief");
    bench.send("thief", &format!("SUBSCRIBE\n{DURABLE}\nreceipt:1\n\n"));
    let heard = bench.heard("thief");
    assert!(
        heard[0].starts_with("ERROR 1: another user opened the session"),
        "{heard:?}"
    );
    bench.connect_as("thief", "accept-version:1.2\nhost:h\nclient-id:a\nlogin:thief");
    bench.send("thief", "UNSUBSCRIBE\nid:0\ndurable:true\nreceipt:1\n\n");
    let heard = bench.heard("thief");
    assert!(
        heard[0].starts_with("ERROR 1: another user opened the session"),
        "{heard:?}"
    );
    assert!(bench.has_session("$stomp/a/durable/0"));
}

/// Names that could be taken for one another are not.
#[test]
fn a_client_id_with_a_slash_is_another_client() {
    let mut bench = Bench::new();
    bench.connect_as("a", "accept-version:1.2\nhost:h\nclient-id:a/durable");
    bench.subscribe("a", "id:x\ndestination:t\ndurable:true");
    assert!(bench.has_session("$stomp/a%2Fdurable/durable/x"));
}

#[test]
fn a_durable_subscription_ends_after_its_time() {
    let mut bench =
        Bench::with(|settings: &mut StompSettings| settings.durable_expiry = Duration::from_secs(60));
    bench.connect("a");
    bench.subscribe("a", DURABLE);
    bench.lose("a");
    bench.advance(Duration::from_secs(59));
    assert!(bench.has_session("$stomp/a/durable/0"));
    bench.advance(Duration::from_secs(2));
    assert!(!bench.has_session("$stomp/a/durable/0"));
}

const MESSAGES: [&str; 5] = ["m0", "m1", "m2", "m3", "m4"];

/// How a reader acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Auto,
    /// What is ACKed is done with all before it: `m1` and `m3` are.
    Client,
    /// All but `m2`.
    Individual,
    /// The same, each in a transaction of its own.
    Transaction,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Auto, Self::Client, Self::Individual, Self::Transaction];

    fn subscription(self) -> String {
        let ack = match self {
            Self::Auto => "auto",
            Self::Client => "client",
            Self::Individual | Self::Transaction => "client-individual",
        };
        format!("id:0\ndestination:t\ndurable:true\nqos:2\nack:{ack}")
    }

    /// Acknowledges what came, if it is to be, with a RECEIPT of its name. What is done with it, if it is all known to have come.
    fn acknowledge(self, bench: &mut Bench, body: &str) -> Vec<String> {
        let before = |last: &str| {
            MESSAGES
                .into_iter()
                .filter(|one| *one <= last)
                .map(str::to_owned)
                .collect()
        };
        let alone = vec![body.to_owned()];
        let receipt = format!("receipt:{body}\n");
        match self {
            // It was written: it is done.
            Self::Auto => alone,
            Self::Client if matches!(body, "m1" | "m3") => {
                bench.ack_with("reader", "ACK", body, &receipt);
                before(body)
            }
            Self::Individual if body != "m2" => {
                bench.ack_with("reader", "ACK", body, &receipt);
                alone
            }
            Self::Transaction if body != "m2" => {
                bench.send("reader", &format!("BEGIN\ntransaction:{body}\n\n"));
                bench.ack_with("reader", "ACK", body, &format!("transaction:{body}\n"));
                bench.send("reader", &format!("COMMIT\ntransaction:{body}\n{receipt}\n"));
                alone
            }
            Self::Client | Self::Individual | Self::Transaction => Vec::new(),
        }
    }
}

/// What a run of [`play`] was promised.
#[derive(Default)]
struct Promises {
    /// SUBSCRIBE has its RECEIPT.
    subscribed: bool,
    /// Messages whose SEND, or COMMIT, has its RECEIPT.
    sent: BTreeSet<String>,
    /// Messages whose ACK, or its COMMIT, has its RECEIPT.
    settled: BTreeSet<String>,
    /// Messages that the reader was done with: they may come again or not.
    acknowledged: BTreeSet<String>,
}

/// A writer sends five messages, the last two in a transaction; a reader acknowledges as its mode has it. The power may go at any moment.
fn play(bench: &mut Bench, mode: Mode) -> Promises {
    let mut promises = Promises::default();
    bench.connect("reader");
    bench.send(
        "reader",
        &format!("SUBSCRIBE\n{}\nreceipt:sub\n\n", mode.subscription()),
    );
    promises.subscribed = bench.heard("reader") == ["RECEIPT sub"];
    bench.connect("writer");
    for round in [&MESSAGES[..1], &MESSAGES[1..2], &MESSAGES[2..3], &MESSAGES[3..]] {
        if let [message] = round {
            let qos = if *message == "m1" { 2 } else { 1 };
            bench.send(
                "writer",
                &format!("SEND\ndestination:t\nqos:{qos}\nreceipt:r\n\n{message}"),
            );
        } else {
            bench.send("writer", "BEGIN\ntransaction:x\n\n");
            for message in round {
                bench.send(
                    "writer",
                    &format!("SEND\ndestination:t\ntransaction:x\n\n{message}"),
                );
            }
            bench.send("writer", "COMMIT\ntransaction:x\nreceipt:r\n\n");
        }
        if bench.heard("writer") == ["RECEIPT r"] {
            promises
                .sent
                .extend(round.iter().map(|message| (*message).to_owned()));
        }
        take(bench, mode, &mut promises);
    }
    promises
}

/// The reader takes what came, and its receipts.
fn take(bench: &mut Bench, mode: Mode, promises: &mut Promises) {
    let mut waiting = BTreeMap::new();
    for frame in bench.frames("reader") {
        let body = String::from_utf8(frame.body.to_vec()).unwrap();
        if bench.is_on() || mode == Mode::Auto {
            let done = mode.acknowledge(bench, &body);
            promises.acknowledged.extend(done.iter().cloned());
            waiting.insert(format!("RECEIPT {body}"), done);
        }
    }
    for line in bench.heard("reader") {
        let done = waiting.remove(&line).unwrap_or_else(|| panic!("{line}"));
        promises.settled.extend(done);
    }
}

/// The power is cut before each step, in each mode. What has its RECEIPT arrives, and what is acknowledged with RECEIPT does not arrive again.
#[test]
fn a_power_cut_at_any_step_breaks_no_promise() {
    for mode in Mode::ALL {
        let mut whole = Bench::new();
        let all = play(&mut whole, mode);
        let settled = if mode == Mode::Auto { 0 } else { 4 };
        assert_eq!(
            (all.subscribed, all.sent.len(), all.settled.len()),
            (true, 5, settled),
            "{mode:?}: nothing goes wrong without power cuts"
        );
        for power in 0..=whole.steps {
            cut_at(power, mode);
        }
    }
}

fn cut_at(power: usize, mode: Mode) {
    let mut bench = Bench::new();
    bench.power = power;
    let promises = play(&mut bench, mode);
    bench.restart();
    let is_there = bench.has_session("$stomp/reader/durable/0");
    assert!(
        is_there || !promises.subscribed,
        "{mode:?}, power cut at {power}: the subscription is lost"
    );
    bench.connect("reader");
    bench.subscribe("reader", &mode.subscription());
    let again = bench.frames("reader");
    let bodies = again
        .iter()
        .map(|frame| String::from_utf8(frame.body.to_vec()).unwrap());
    let again: Vec<String> = bodies.collect();
    let distinct: BTreeSet<_> = again.iter().cloned().collect();
    assert_eq!(
        distinct.len(),
        again.len(),
        "{mode:?}: each comes once, power cut at {power}"
    );
    let twice: Vec<_> = distinct.intersection(&promises.settled).collect();
    assert!(
        twice.is_empty(),
        "{mode:?}, power cut at {power}: {twice:?} were settled"
    );
    let is_owed = |sent: &&String| !distinct.contains(*sent) && !promises.acknowledged.contains(*sent);
    let lost: Vec<_> = promises.sent.iter().filter(is_owed).collect();
    assert!(
        lost.is_empty(),
        "{mode:?}, power cut at {power}: {lost:?} are lost"
    );
}
