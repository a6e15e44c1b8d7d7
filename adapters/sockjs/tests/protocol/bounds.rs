//! Bounds, and the side of the application.

use crate::client::{Server, echo, session, settings, until};
use futures_util::{SinkExt, StreamExt};
use headgate_sockjs::{Ended, Memory, Refusal, Session, SessionBytes, SockJsSettings, Transport};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// Sessions that are opened and left cost a place each, as long as they are waited for; then all is as before.
#[tokio::test]
async fn a_thousand_half_open_sessions_are_bounded_and_go() {
    let settings = SockJsSettings {
        session_timeout: Duration::from_secs(2),
        max_sessions: 1_000,
        ..settings()
    };
    let server = Server::new(settings, echo).await;
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..10 {
        let requests =
            (0..120).map(|_| async { server.post(&format!("{}/xhr", session()), "").await.status });
        for status in futures_util::future::join_all(requests).await {
            match status {
                200 => opened += 1,
                503 => refused += 1,
                other => panic!("{other}"),
            }
        }
        assert!(server.sockjs.sessions() <= 1_000);
    }
    assert!(opened >= 1_000);
    assert_eq!(server.sockjs.refused(Refusal::Sessions), refused);
    until(|| server.sockjs.sessions() == 0).await;
    server.opened().await;
}

/// One peer does not get all places; WebSockets have theirs among them.
#[tokio::test]
async fn a_peer_has_so_many_sessions() {
    let few = SockJsSettings {
        max_sessions_per_ip: 2,
        ..settings()
    };
    let server = Server::new(few, echo).await;
    let url = format!("ws://{}/sockjs/websocket", server.address);
    let (socket, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    let path = server.opened().await;
    assert_eq!(server.post(&format!("{}/xhr", session()), "").await.status, 503);
    assert!(tokio_tungstenite::connect_async(&url).await.is_err());
    assert_eq!(server.sockjs.refused(Refusal::SessionsOfPeer), 2);
    assert_eq!(server.post(&format!("{path}/xhr_send"), "[]").await.status, 204);
    drop(socket);
    until(|| server.sockjs.sessions() == 1).await;
    server.opened().await;
}

/// A body has a size, told beforehand or not, a number of messages, and a time.
#[tokio::test]
async fn bodies_are_bounded() {
    let small = SockJsSettings {
        max_body_bytes: 100,
        max_messages: 2,
        ..settings()
    };
    let server = Server::new(small, echo).await;
    let path = server.opened().await;
    let send = format!("{path}/xhr_send");
    let full = format!("[\"{}\"]", "x".repeat(96));
    assert_eq!(server.post(&send, &full).await.status, 204);
    assert_eq!(server.post(&send, &format!(" {full}")).await.status, 413);
    assert_eq!(server.post(&send, "[\"a\",\"b\",\"c\"]").await.status, 413);

    let head = format!("POST /sockjs{send} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut chunked = server.raw(&head).await;
    let chunk = format!("{:x}\r\n{}\r\n", 60, " ".repeat(60));
    chunked.send(format!("{chunk}{chunk}").as_bytes()).await;
    assert_eq!(chunked.head().await.status, 413);

    for (refusal, times) in [(Refusal::TooLarge, 2), (Refusal::TooManyMessages, 1)] {
        assert_eq!(server.sockjs.refused(refusal), times, "{refusal:?}");
    }
}

#[tokio::test]
async fn a_slow_body_is_not_waited_for() {
    let hasty = SockJsSettings {
        body_time: Duration::from_millis(20),
        ..settings()
    };
    let server = Server::new(hasty, echo).await;
    let path = server.opened().await;
    let head =
        format!("POST /sockjs{path}/xhr_send HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut slow = server.raw(&head).await;
    slow.send(b"1\r\n[\r\n").await;
    assert_eq!(slow.head().await.status, 408);
    assert_eq!(server.sockjs.refused(Refusal::SlowBody), 1);
}

/// A service whose sessions the test holds.
async fn held(settings: SockJsSettings) -> (Server, mpsc::UnboundedReceiver<Session>) {
    let (give, given) = mpsc::unbounded_channel();
    let server = Server::new(settings, move |session, _| give.send(session).unwrap()).await;
    (server, given)
}

/// Who sends faster than the application reads waits until there is room.
#[tokio::test]
async fn senders_wait_for_the_application() {
    let small = SockJsSettings {
        max_inbox_bytes: 100,
        ..settings()
    };
    let (server, mut given) = held(small).await;
    let path = server.opened().await;
    let mut held = given.recv().await.unwrap();
    let send = format!("{path}/xhr_send");
    assert_eq!(server.post(&send, "[\"1\",\"2\",\"3\",\"4\"]").await.status, 204);
    let (sent, ()) = tokio::join!(server.post(&send, "[\"5\"]"), async {
        for expected in ["1", "2", "3", "4", "5"] {
            assert_eq!(held.recv().await.as_deref(), Some(expected));
        }
    });
    assert_eq!(sent.status, 204);
}

/// They do not wait for ever. Nothing of a refused body is taken.
#[tokio::test]
async fn a_sender_that_waited_in_vain_is_told() {
    let small = SockJsSettings {
        max_inbox_bytes: 100,
        body_time: Duration::from_millis(200),
        ..settings()
    };
    let (server, mut given) = held(small).await;
    let path = server.opened().await;
    let mut held = given.recv().await.unwrap();
    let send = format!("{path}/xhr_send");
    let full = format!("[\"{}\"]", "x".repeat(100));
    assert_eq!(server.post(&send, &full).await.status, 204);
    assert_eq!(server.post(&send, "[\"a\",\"b\"]").await.status, 503);
    assert_eq!(server.sockjs.refused(Refusal::InboxFull), 1);
    assert_eq!(held.recv().await, Some("x".repeat(100)));
    assert_eq!(server.post(&send, "[\"c\"]").await.status, 204);
    assert_eq!(held.recv().await.as_deref(), Some("c"));
}

/// The application hears what carried the first request, who came, and with which headers.
#[tokio::test]
async fn a_service_gets_the_first_request() {
    let (give, mut given) = mpsc::unbounded_channel();
    let server = Server::new(settings(), move |session, request| {
        give.send((session, request)).unwrap();
    })
    .await;
    let fields = [("Cookie", "token=secret")];
    let mut stream = server
        .begin("GET", &format!("{}/eventsource", session()), &fields, "")
        .await;
    let (mut opened, request) = given.recv().await.unwrap();
    assert_eq!(opened.transport(), Transport::EventSource);
    assert_eq!(
        opened.peer().map(|peer| peer.to_string()).as_deref(),
        Some("127.0.0.1")
    );
    assert_eq!(request.headers["cookie"], "token=secret");

    // A session that is dropped is closed.
    opened.send("bye").await.unwrap();
    drop(opened);
    stream.head().await;
    for frame in [
        "\r\n",
        "data: o\r\n\r\n",
        "data: a[\"bye\"]\r\n\r\n",
        "data: c[3000,\"Go away!\"]\r\n\r\n",
        "",
    ] {
        assert_eq!(stream.chunk().await, frame);
    }
}

/// A stream of bytes: messages one after the other to read; a message for each write, and no character cut.
#[tokio::test]
async fn a_session_is_a_stream_of_bytes() {
    let (server, mut given) = held(settings()).await;
    let path = session();
    let mut stream = server.stream("GET", &format!("{path}/eventsource")).await;
    let mut bytes = SessionBytes::new(given.recv().await.unwrap());
    assert_eq!(
        server
            .post(&format!("{path}/xhr_send"), "[\"ab\",\"\",\"c\u{fc}\"]")
            .await
            .status,
        204
    );
    let mut read = [0; 5];
    bytes.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, "abc\u{fc}".as_bytes());

    let euro = "\u{20ac}".as_bytes();
    bytes.write_all(&[b"x", &euro[..1]].concat()).await.unwrap();
    bytes.write_all(&euro[1..2]).await.unwrap();
    bytes.write_all(&euro[2..]).await.unwrap();
    let refused = bytes.write_all(b"\xff").await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData);
    for expected in ["\r\n", "data: o\r\n\r\n"] {
        assert_eq!(stream.chunk().await, expected);
    }
    let mut got = String::new();
    while !got.contains("c[1007,") {
        got += &stream.chunk().await;
    }
    assert!(got.contains("x") && got.contains('\u{20ac}'), "{got}");
    assert_eq!(bytes.read(&mut read).await.unwrap(), 0);
    assert_eq!(bytes.session().ended(), Some(Ended::new(1007, "Not UTF-8")));
}

/// Counts like a ledger, and says what it is told to say.
#[derive(Debug, Default)]
struct Ledger {
    bytes: AtomicUsize,
    most: AtomicUsize,
    is_scarce: AtomicBool,
}

impl Memory for Ledger {
    fn change(&self, before: usize, now: usize) {
        let change = now.wrapping_sub(before);
        let bytes = self
            .bytes
            .fetch_add(change, Ordering::SeqCst)
            .wrapping_add(change);
        self.most.fetch_max(bytes, Ordering::SeqCst);
    }

    fn is_scarce(&self) -> bool {
        self.is_scarce.load(Ordering::SeqCst)
    }
}

/// Slow bodies keep nobody's small messages out, and a body that came in keeps no place while it waits for room.
#[tokio::test]
async fn slow_bodies_keep_nobody_else_out() {
    let server = Server::new(settings(), echo).await;
    let mut slow = Vec::new();
    for _ in 0..128 {
        let path = server.opened().await;
        let head =
            format!("POST /sockjs{path}/xhr_send HTTP/1.1\r\nHost: test\r\nContent-Length: 9999\r\n\r\n[");
        slow.push(server.raw(&head).await);
    }
    let path = server.opened().await;
    let send = format!("{path}/xhr_send");
    // The address has its share in bodies that are large.
    let large = format!("[\"{}\"]", "x".repeat(5_000));
    // The last of them may still be on its way.
    while server.post(&send, &large).await.status != 503 {}
    assert_eq!(server.sockjs.refused(Refusal::BodiesOfPeer), 1);
    let small = tokio::time::timeout(Duration::from_secs(5), server.post(&send, "[\"a\"]"));
    assert_eq!(small.await.expect("it does not wait").status, 204);
    drop(slow);
    until(|| server.sockjs.refused(Refusal::SlowBody) == 128).await;
    assert_eq!(server.post(&send, &large).await.status, 204);
}

/// Before a client is let in, bodies and WebSocket messages are small; what is sent in pieces too.
#[tokio::test]
async fn a_stranger_may_send_little() {
    let wary = SockJsSettings {
        max_stranger_bytes: Some(1_000),
        ..settings()
    };
    let (server, mut given) = held(wary).await;
    let path = server.opened().await;
    let mut session = given.recv().await.unwrap();
    let send = format!("{path}/xhr_send");
    let large = format!("[\"{}\"]", "x".repeat(1_000));
    assert_eq!(server.post(&send, &large).await.status, 413);
    assert_eq!(server.post(&send, "[\"a\"]").await.status, 204);
    session.let_in();
    assert_eq!(server.post(&send, &large).await.status, 204);
    assert_eq!(session.recv().await.as_deref(), Some("a"));

    let url = format!("ws://{}/sockjs/websocket", server.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    let mut session = given.recv().await.unwrap();
    socket.send(Message::text("x".repeat(100_000))).await.unwrap();
    let Some(Ok(Message::Close(Some(close)))) = socket.next().await else {
        panic!("a Close frame")
    };
    assert_eq!(u16::from(close.code), 1009);
    assert_eq!(session.recv().await, None);

    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    let mut session = given.recv().await.unwrap();
    session.let_in();
    socket.send(Message::text("x".repeat(100_000))).await.unwrap();
    assert_eq!(session.recv().await.map(|message| message.len()), Some(100_000));
}

/// All that a session holds is in the ledger, in either direction and on the way, and is taken out of it.
#[tokio::test]
async fn what_a_session_holds_is_counted_until_it_is_gone() {
    let (server, mut given) = held(settings()).await;
    let ledger = Arc::new(Ledger::default());
    let bytes = || ledger.bytes.load(Ordering::SeqCst);
    let path = server.opened().await;
    let mut session = given.recv().await.unwrap();
    session.count_in(ledger.clone());
    let large = format!("[\"{}\"]", "x".repeat(100_000));
    assert_eq!(server.post(&format!("{path}/xhr_send"), &large).await.status, 204);
    until(|| (100_000..101_000).contains(&bytes())).await;
    session.recv().await.unwrap();
    session.send("\u{1}".repeat(500_000)).await.unwrap();
    assert!((500_000..501_000).contains(&bytes()), "{}", bytes());
    ledger.most.store(0, Ordering::SeqCst);
    let got = server.post(&format!("{path}/xhr"), "").await.body;
    assert!(got.len() > 3_000_000);
    // The message, while it is brought out in pieces that are escaped.
    let most = ledger.most.load(Ordering::SeqCst);
    assert!((500_000..700_000).contains(&most), "{most}");
    until(|| bytes() == 0).await;

    // A WebSocket message that does not end.
    let mut socket = server.raw("GET /sockjs/websocket HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").await;
    let session = given.recv().await.unwrap();
    session.count_in(ledger.clone());
    socket.head().await;
    socket
        .send(
            &[
                &[0x81, 0xff, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0][..],
                &[b'x'; 300_000],
            ]
            .concat(),
        )
        .await;
    until(|| bytes() > 300_000).await;
    ledger.is_scarce.store(true, Ordering::SeqCst);
    socket.send(b"x").await;
    until(|| bytes() == 0).await;
    assert_eq!(server.sockjs.refused(Refusal::Memory), 1);
    assert_eq!(session.ended(), Some(Ended::NO_MEMORY));
}

/// Where memory is scarce, a session that holds much ends; one that holds little goes on.
#[tokio::test]
async fn sessions_that_hold_much_give_way() {
    let (server, mut given) = held(settings()).await;
    let ledger = Arc::new(Ledger::default());
    ledger.is_scarce.store(true, Ordering::SeqCst);
    let path = server.opened().await;
    let mut session = given.recv().await.unwrap();
    session.count_in(ledger.clone());
    let send = format!("{path}/xhr_send");
    assert_eq!(server.post(&send, "[\"a\"]").await.status, 204);
    let large = format!("[\"{}\"]", "x".repeat(100_000));
    assert_eq!(server.post(&send, &large).await.status, 503);
    assert_eq!(session.recv().await.as_deref(), Some("a"));
    assert_eq!(session.recv().await, None);
    assert_eq!(session.ended(), Some(Ended::NO_MEMORY));
    until(|| ledger.bytes.load(Ordering::SeqCst) == 0).await;
}
