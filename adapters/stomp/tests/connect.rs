//! Connecting, and leaving. STOMP 1.2, Connecting; DISCONNECT; ERROR

mod bench;

use bench::Bench;
use headgate_model::access::AuthRefusal;
use std::time::Duration;

/// STOMP 1.2, Protocol Negotiation: the highest common version; without `accept-version` it is 1.0.
#[test]
fn the_version_is_negotiated() {
    for (headers, connected) in [
        ("accept-version:1.0,1.1,1.2\nhost:h", "CONNECTED 1.2"),
        ("accept-version:1.1\nhost:h", "CONNECTED 1.1"),
        ("accept-version:2.0,1.0\nhost:h", "CONNECTED 1.0"),
        ("login:me", "CONNECTED -"),
    ] {
        let mut bench = Bench::new();
        bench.open("a");
        bench.exchange("a", &format!("CONNECT\n{headers}\n\n"), &[connected]);
    }
    let mut bench = Bench::new();
    bench.open("a");
    bench.exchange("a", "STOMP\naccept-version:1.2\nhost:h\n\n", &["CONNECTED 1.2"]);
}

/// STOMP 1.2, Protocol Negotiation: an ERROR that names what is supported, and the end.
#[test]
fn no_common_version_ends_the_connection() {
    let mut bench = Bench::new();
    bench.open("a");
    bench.send("a", "CONNECT\naccept-version:2.0\nhost:h\n\n");
    let error = bench.frames("a").remove(0);
    assert_eq!(error.get("version"), Some("1.0,1.1,1.2"));
    assert!(bench.is_closed("a"));
}

/// STOMP 1.2, CONNECTED Frame.
#[test]
fn connected_says_who_we_are() {
    let mut bench = Bench::new();
    bench.open("a");
    bench.send("a", "CONNECT\naccept-version:1.2\nhost:h\nheart-beat:0,0\n\n");
    let connected = bench.frames("a").remove(0);
    assert!(connected.get("server").unwrap().starts_with("headgate/"));
    assert_eq!(connected.get("heart-beat"), Some("1000,1000"));
    assert_eq!(connected.get("session").unwrap().len(), 32);
}

/// STOMP 1.2, CONNECT or STOMP Frame: `login` and `passcode`.
#[test]
fn login_and_passcode_are_shown_to_the_access_service() {
    let mut bench = Bench::new();
    bench.connect_as(
        "a",
        "accept-version:1.2\nhost:h\nlogin:me\npasscode:a:b\\n\nclient-id:sensor",
    );
    let shown = bench.credentials.remove(0);
    assert_eq!(shown.username.as_deref(), Some("me"));
    assert_eq!(
        shown.password.as_deref(),
        Some(&b"a:b\\n"[..]),
        "CONNECT is not escaped"
    );
    assert_eq!(shown.client_id.as_str(), "sensor");

    bench.refusal = Some(AuthRefusal::BadUserNameOrPassword);
    bench.open("b");
    bench.exchange("b", "CONNECT\nlogin:x\n\n", &["ERROR wrong login or passcode"]);
    assert!(bench.is_closed("b") && !bench.has_session("b"));
}

#[test]
fn connect_comes_first_once_and_in_time() {
    let mut bench = Bench::new();
    bench.open("first");
    bench.exchange(
        "first",
        "SEND\ndestination:a\nreceipt:1\n\n",
        &["ERROR CONNECT comes first"],
    );
    bench.connect("once");
    bench.exchange("once", "CONNECT\nhost:h\n\n", &["ERROR CONNECT comes once"]);
    bench.open("late");
    bench.advance(Duration::from_secs(10));
    assert_eq!(bench.heard("late"), ["ERROR no CONNECT in time"]);
    assert!(
        ["first", "once", "late"]
            .iter()
            .all(|client| bench.is_closed(client))
    );
}

/// STOMP 1.2, ERROR: what no frame is, or only a server sends, ends the connection.
/// What comes from clients of other protocols is told so.
#[test]
fn another_protocol_is_named() {
    for (bytes, name) in [
        (&b"GET /stomp HTTP/1.1\r\n"[..], "HTTP"),
        (b"\x10\x0c\0\x04MQTT\x05\x02\0\0\0", "MQTT"),
        (b"\x16\x03\x01\x02\0", "TLS"),
    ] {
        let mut bench = Bench::new();
        bench.open("a");
        bench.raw("a", bytes);
        let error = format!("ERROR this is a port for STOMP, and what came looks like {name}");
        assert_eq!((bench.heard("a"), bench.is_closed("a")), (vec![error], true));
    }
}

#[test]
fn what_is_no_frame_of_a_client_ends_the_connection() {
    for (bytes, error) in [
        ("GET / HTTP/1.1\r\n", "ERROR no STOMP command"),
        ("MESSAGE\n\n\0", "ERROR only a server sends this frame"),
        (
            "SEND\nreceipt:1\n\n\0",
            "ERROR 1: the header destination is missing",
        ),
        (
            "SEND\na:\\t\n\n\0",
            "ERROR an undefined escape sequence in header 1",
        ),
        (
            "SEND\nreceipt:1\ncontent-length:1073741824\n\n",
            "ERROR 1: a body of more than 1048576 bytes (stomp.max_body_bytes)",
        ),
        // `receipt-id` is that of the frame as far as its head was read. STOMP 1.2, ERROR
        (
            "SEND\nreceipt:a\\cb\ncontent-length:x\n\n",
            "ERROR a:b: content-length is no number",
        ),
        ("SEND\na:b\nreceipt:1\nc\n\n", "ERROR 1: header 3 has no colon"),
        ("SEND\nreceipt:1\na\0", "ERROR 1: a NUL among the headers"),
        (
            "SEND\nreceipt:1\ncontent-length:1\n\nxy",
            "ERROR 1: no NUL behind the 1 bytes of content-length",
        ),
        (
            "BEGIN\nreceipt:1\n\nx",
            "ERROR 1: a body in a frame that has none",
        ),
    ] {
        let mut bench = Bench::new();
        bench.connect("a");
        bench.raw("a", bytes.as_bytes());
        assert_eq!(
            (bench.heard("a"), bench.is_closed("a")),
            (vec![error.to_owned()], true)
        );
    }
}

/// STOMP 1.2, DISCONNECT: its RECEIPT comes when all before it is done.
#[test]
fn disconnect_waits_for_what_was_sent() {
    let mut bench = Bench::new();
    bench.connect("keeper");
    bench.subscribe("keeper", "id:0\ndestination:a\ndurable:true");
    bench.send("keeper", "DISCONNECT\n\n");
    bench.connect("a");
    bench.withheld = true;
    bench.send("a", "SEND\ndestination:a\n\nx");
    bench.exchange("a", "DISCONNECT\nreceipt:77\n\n", &[]);
    bench.withheld = false;
    bench.raw("a", b"");
    assert_eq!(bench.heard("a"), ["RECEIPT 77"]);
    assert!(bench.is_closed("a"));
}

#[test]
fn who_is_thrown_out_is_told_why() {
    let mut bench = Bench::new();
    bench.connect("a");
    bench.kick("a");
    assert_eq!(bench.heard("a"), ["ERROR disconnected by an operator"]);
    bench.connect("a");
    bench.shut_down("a");
    assert_eq!(bench.heard("a"), ["ERROR the gateway stops"]);
    bench.connect_as("old", "accept-version:1.2\nhost:h\nclient-id:same");
    bench.connect_as("new", "accept-version:1.2\nhost:h\nclient-id:same");
    assert_eq!(
        bench.heard("old"),
        ["ERROR another connection has this client-id"]
    );
    assert!(bench.is_closed("old") && !bench.is_closed("new"));
}

/// STOMP 1.2, Heart-beating: the longer of what one can send and the other wants; 0 for none.
#[test]
fn heart_beats_are_sent_when_nothing_else_is() {
    let mut bench = Bench::new();
    bench.connect_as("a", "accept-version:1.2\nhost:h\nheart-beat:0,5000");
    bench.advance_ms(4_499);
    assert_eq!(bench.beats("a"), 0);
    bench.advance_ms(1);
    assert_eq!(bench.beats("a"), 1);
    bench.send("a", "SEND\ndestination:x\nreceipt:1\n\n");
    bench.advance_ms(4_499);
    assert_eq!(bench.beats("a"), 1, "a RECEIPT counts as well");
    bench.connect_as("b", "accept-version:1.2\nhost:h\nheart-beat:0,0");
    bench.connect_as("c", "accept-version:1.2\nhost:h\nheart-beat:0,10");
    let before = bench.beats("c");
    bench.advance_ms(9_000);
    assert_eq!(bench.beats("b"), 0);
    assert_eq!(
        bench.beats("c") - before,
        10,
        "no more often than stomp.heart_beat_send"
    );
}

/// STOMP 1.2, Heart-beating: any byte counts; who is silent for twice its interval is lost.
#[test]
fn a_silent_client_is_lost() {
    let mut bench = Bench::new();
    bench.connect_as("a", "accept-version:1.2\nhost:h\nheart-beat:5000,0");
    bench.advance_ms(9_999);
    bench.raw("a", b"\n");
    bench.advance_ms(9_999);
    bench.raw("a", b"SEND\ndesti");
    bench.advance_ms(9_999);
    bench.raw("a", b"n");
    bench.advance_ms(9_999);
    assert!(!bench.is_closed("a"));
    bench.advance_ms(1);
    assert_eq!(bench.heard("a"), ["ERROR no heart-beat in time"]);
    bench.connect_as("v1.0", "heart-beat:5000,0");
    bench.advance_ms(100_000);
    assert!(!bench.is_closed("v1.0"), "1.0 has no heart-beats");
    bench.open("bad");
    bench.exchange(
        "bad",
        "CONNECT\naccept-version:1.2\nheart-beat:5\n\n",
        &["ERROR heart-beat is not two numbers"],
    );
}

/// A stream has no frames: CONNECT may come in any two pieces, its NUL by itself too.
#[test]
fn connect_may_come_in_pieces() {
    for frame in [
        "CONNECT\naccept-version:1.2\nhost:h\n\n\0",
        "\r\n\nSTOMP\r\naccept-version:1.2\r\nhost:h\r\n\r\n\0",
        "CONNECT\naccept-version:1.2\nhost:h\ncontent-length:0\n\n\0",
        "CONNECT\n\n\0\n",
    ] {
        for at in 1..frame.len() {
            let mut bench = Bench::new();
            bench.open("a");
            bench.raw("a", &frame.as_bytes()[..at]);
            bench.raw("a", &frame.as_bytes()[at..]);
            let heard = bench.heard("a");
            assert!(
                heard[0].starts_with("CONNECTED"),
                "{heard:?} of {frame:?} at {at}"
            );
        }
    }
}
