//! The same by anybody who can reach a STOMP port, or one of SockJS.

use crate::third::Third;
use crate::{Attack, peak_while, scale, tell};
use headgate_stomp_codec::{Command, Version};
use headgate_tests::blackbox::{Setup, StompPeer, Transport, eventually};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// As in `memory`: a ledger of 10 MiB.
const CEILING: u64 = 56 << 20;

const LISTENERS: &str = "[bus]\nmax_memory_bytes = 10485760\n[store]\nmax_bytes = 40000000\n\
    [[listeners]]\nname = \"stomp\"\nprotocol = \"stomp\"\nbind = \"127.0.0.1:0\"\n\
    [[listeners]]\nname = \"sockjs\"\nprotocol = \"stomp\"\nkind = \"sockjs\"\nbind = \"127.0.0.1:0\"\n";

/// docs/security.md: the ledger of memory holds for STOMP too; and honest clients go on.
#[test]
fn memory_has_a_ceiling_for_stomp() {
    let setup = Setup::with(LISTENERS);
    let mut daemon = setup.start();
    let port = daemon.port_of("stomp");
    let attacks: [Attack; 6] = [
        ("SEND declares a body of 1 GiB", declared),
        ("half a CONNECT with 60 kB of headers", half_connects),
        ("SEND with 60 kB of headers", headers),
        ("half a SEND of 1 MB", half_sends),
        ("transactions of 1 MB", transactions),
        ("subscribers that do not read", deaf),
    ];
    let third = Third::begin(daemon.port(Transport::Tcp));
    let mut highest = 0;
    for (name, attack) in attacks {
        let ((), peak) = peak_while(&daemon, || attack(port));
        highest = highest.max(peak);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        tell(
            name,
            &format!(
                "RSS {:.1} MiB at the peak, {:.1} after",
                mib(peak),
                mib(daemon.memory())
            ),
        );
    }
    assert!(third.is_at_work(), "{}", setup.log());
    third.end();
    assert!(daemon.is_alive(), "{}", setup.log());
    assert!(highest < CEILING, "{highest}");
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

/// Sends bytes after CONNECT, and does not wait. Who is refused may be cut off in the middle.
fn send(port: u16, parts: &[&[u8]]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).expect("a number");
    stream.set_write_timeout(patience).expect("a number");
    let connect = b"CONNECT\naccept-version:1.2\nhost:h\n\n\0";
    if stream.write_all(connect).is_ok() && matches!(stream.read(&mut [0; 512]), Ok(1..)) {
        let _ = parts.iter().try_for_each(|part| stream.write_all(part));
    }
    stream
}

/// Each is told what is wrong, although nothing of the body came.
fn declared(port: u16) {
    for _ in 0..scale(100, 1_000) {
        let mut peer = StompPeer::connect(port, Version::V12, "");
        peer.send("SEND\ndestination:t\ncontent-length:1073741824\n\n");
        let error = peer.recv();
        assert_eq!(error.command, Command::Error);
        let why = error.get("message").expect("it says why");
        assert!(why.contains("stomp.max_body_bytes"), "{why}");
        assert_eq!(peer.next(), None, "it is over");
    }
}

fn half_connects(port: u16) {
    let head = format!(
        "CONNECT\naccept-version:1.2\n{}",
        format!("x:{}\n", "y".repeat(997)).repeat(60)
    );
    let held: Vec<TcpStream> = (0..scale(300, 2_000))
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            let _ = stream.write_all(head.as_bytes());
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    drop(held);
}

/// Headers of all names become properties, which somebody keeps.
fn headers(port: u16) {
    let reader = send(port, &[b"SUBSCRIBE\nid:0\ndestination:t\nack:client\n\n\0"]);
    let lines: String = (0..90).map(|n| format!("{n}:{}\n", "y".repeat(600))).collect();
    let frame = format!("SEND\ndestination:t\nretain:true\n{lines}\nx\0");
    for _ in 0..scale(50, 500) {
        drop(send(
            port,
            &[frame.as_bytes(), frame.as_bytes(), frame.as_bytes()],
        ));
    }
    drop(reader);
}

fn half_sends(port: u16) {
    let body = vec![b'x'; 1_000_000];
    let held: Vec<TcpStream> = (0..scale(100, 300))
        .map(|_| send(port, &[b"SEND\ndestination:t\ncontent-length:1000001\n\n", &body]))
        .collect();
    drop(held);
}

/// As many as there may be, as large as they may be, on many connections; nobody says COMMIT.
fn transactions(port: u16) {
    let body = "x".repeat(60_000);
    let frames: String = (0..16)
        .map(|n| format!("BEGIN\ntransaction:{n}\n\n\0SEND\ndestination:t\ntransaction:{n}\n\n{body}\0"))
        .collect();
    let held: Vec<TcpStream> = (0..scale(100, 300))
        .map(|_| send(port, &[frames.as_bytes()]))
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    drop(held);
}

fn deaf(port: u16) {
    let held: Vec<TcpStream> = (0..scale(51, 201))
        .map(|n| {
            let ack = ["auto", "client", "client-individual"][n % 3];
            let subscribe = format!("SUBSCRIBE\nid:0\ndestination:deaf/{n}\nack:{ack}\n\n\0");
            send(port, &[subscribe.as_bytes()])
        })
        .collect();
    let body = "x".repeat(100_000);
    for round in 0..scale(40, 200) {
        let frames: String = (0..50)
            .map(|n| format!("SEND\ndestination:deaf/{n}\nqos:{}\n\n{body}\0", round % 3))
            .collect();
        drop(send(port, &[frames.as_bytes()]));
    }
    drop(held);
}

/// A frame that comes one byte at a time is taken like any other. STOMP 1.2, Augmented BNF
#[test]
fn one_byte_at_a_time_is_a_frame_too() {
    let setup = Setup::with(LISTENERS);
    let daemon = setup.start();
    let port = daemon.port_of("stomp");
    let mut reader = StompPeer::connect(port, Version::V12, "");
    reader.done("SUBSCRIBE", "id:0\ndestination:t\n", "");
    let third = Third::begin(daemon.port(Transport::Tcp));
    let mut stream = send(port, &[]);
    stream.set_nodelay(true).expect("a socket");
    let length = scale(20_000, 1_000_000);
    let frame = format!(
        "SEND\ndestination:t\ncontent-length:{length}\n\n{}\0",
        "x".repeat(length)
    );
    for byte in frame.as_bytes() {
        stream.write_all(&[*byte]).expect("it is taken");
    }
    assert_eq!(reader.recv().body.len(), length);
    tell(
        "one byte at a time",
        &format!(
            "{length} bytes, worst pause of a third client {:.1} ms",
            third.end().worst.as_secs_f64() * 1e3
        ),
    );
    daemon.stop();
}

/// Asks for something of a SockJS session, and does not wait.
fn request(port: u16, path: &str, length: usize, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a number");
    let head = format!(
        "POST /sockjs/000/{path} HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
    );
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
    stream
}

/// The status of the answer; `None`: there is none.
fn status(mut stream: &TcpStream) -> Option<u16> {
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}

/// docs/security.md: sessions of one address are bounded, whoever begins them and leaves, and end by themselves.
#[test]
fn half_open_sockjs_sessions_are_bounded_and_end() {
    let setup = Setup::with(LISTENERS);
    let daemon = setup.start();
    let port = daemon.port_of("sockjs");
    let open = |n: usize| status(&request(port, &format!("{n}/xhr"), 0, &[]));
    let attempts = scale(1_000, 5_000);
    let (made, peak) = peak_while(&daemon, || {
        (0..attempts).filter(|n| open(*n) == Some(200)).count()
    });
    tell(
        "half-open SockJS sessions",
        &format!(
            "{made} of {attempts} made, RSS {:.1} MiB at the peak",
            peak as f64 / f64::from(1 << 20)
        ),
    );
    // Those that were made first may be over before the last ones come.
    assert!((100..attempts / 2).contains(&made), "{made}");
    assert!(peak < CEILING, "{peak}");
    eventually("sessions to end", || (open(attempts) == Some(200)).then_some(()));
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

/// Who begins a body and does not end it is sent away; nobody else waits for it.
#[test]
fn slow_sockjs_bodies_end_by_themselves() {
    let setup = Setup::with(LISTENERS);
    let daemon = setup.start();
    let port = daemon.port_of("sockjs");
    let third = Third::begin(daemon.port(Transport::Tcp));
    let half = vec![b'x'; 500_000];
    let (slow, peak) = peak_while(&daemon, || {
        let begin = |n: usize| {
            assert_eq!(status(&request(port, &format!("{n}/xhr"), 0, &[])), Some(200));
            request(port, &format!("{n}/xhr_send"), 1_000_000, &half)
        };
        let slow: Vec<TcpStream> = (0..scale(50, 100)).map(begin).collect();
        slow.iter().map(status).collect::<Vec<_>>()
    });
    assert!(
        slow.iter()
            .all(|status| status.is_none_or(|status| status >= 400)),
        "{slow:?}"
    );
    tell(
        "slow SockJS bodies of 1 MB",
        &format!(
            "RSS {:.1} MiB at the peak, {} round trips of a third client",
            peak as f64 / f64::from(1 << 20),
            third.end().rounds
        ),
    );
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}
