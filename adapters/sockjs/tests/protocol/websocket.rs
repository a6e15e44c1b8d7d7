//! WebSocket, with SockJS frames and raw.

use crate::client::{Server, echo, session, settings, until};
use futures_util::{SinkExt, StreamExt};
use headgate_sockjs::{Ended, Refusal, SockJsSettings};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn connect(server: &Server, path: &str) -> Self {
        let url = format!("ws://{}/sockjs{path}", server.address);
        Self(connect_async(url).await.unwrap().0)
    }

    async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn text(&mut self) -> String {
        match self.0.next().await.unwrap().unwrap() {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// The code and the reason of the Close frame that comes next; then the connection ends.
    async fn close_frame(&mut self) -> (u16, String) {
        let frame = match self.0.next().await.unwrap().unwrap() {
            Message::Close(Some(frame)) => (frame.code.into(), frame.reason.as_str().to_owned()),
            other => panic!("{other:?}"),
        };
        assert!(matches!(self.0.next().await, None | Some(Err(_))));
        frame
    }
}

fn websocket_path() -> String {
    session() + "/websocket"
}

/// `Websocket.test_transport`, `test_empty_frame`; "either single json-encoded messages or an array".
#[tokio::test]
async fn a_websocket_carries_frames_and_lists_of_messages() {
    let server = Server::echo().await;
    let mut socket = Socket::connect(&server, &websocket_path()).await;
    assert_eq!(socket.text().await, "o");
    for empty in ["", "[]"] {
        socket.send(empty).await;
    }
    socket.send("[\"a\"]").await;
    assert_eq!(socket.text().await, "a[\"a\"]");
    socket.send("\"b\"").await;
    assert_eq!(socket.text().await, "a[\"b\"]");
}

/// `Websocket.test_close`
#[tokio::test]
async fn a_close_frame_closes_the_websocket() {
    let server = Server::close().await;
    let mut socket = Socket::connect(&server, &websocket_path()).await;
    assert_eq!(socket.text().await, "o");
    assert_eq!(socket.text().await, "c[3000,\"Go away!\"]");
    assert_eq!(socket.close_frame().await, (1000, String::new()));
    until(|| server.sockjs.sessions() == 0).await;
}

/// `Websocket.test_reuseSessionId`: "It is correct to have two separate sessions sharing the same session_id at the same time."
#[tokio::test]
async fn websockets_share_session_ids() {
    let server = Server::echo().await;
    let path = websocket_path();
    let mut one = Socket::connect(&server, &path).await;
    let mut two = Socket::connect(&server, &path).await;
    for (socket, message) in [(&mut one, "[\"a\"]"), (&mut two, "[\"b\"]")] {
        assert_eq!(socket.text().await, "o");
        socket.send(message).await;
        assert_eq!(socket.text().await, format!("a{message}"));
    }
}

/// `Websocket.test_broken_json`: "the server must abruptly terminate the ws connection." So for all that is no list of messages.
#[tokio::test]
async fn what_is_no_list_of_messages_ends_a_websocket() {
    let small = SockJsSettings {
        max_body_bytes: 100,
        max_messages: 2,
        ..settings()
    };
    let server = Server::new(small, echo).await;
    let large = format!("[\"{}\"]", "x".repeat(200));
    for (message, code, refusal) in [
        (Message::text("[\"a"), 1007, Refusal::Payload),
        (
            Message::text("[\"a\",\"b\",\"c\"]"),
            1009,
            Refusal::TooManyMessages,
        ),
        (Message::text(large), 1009, Refusal::TooLarge),
        (Message::binary(b"[\"a\"]".to_vec()), 1003, Refusal::Binary),
    ] {
        let mut socket = Socket::connect(&server, &websocket_path()).await;
        assert_eq!(socket.text().await, "o");
        socket.0.send(message).await.unwrap();
        assert_eq!(socket.close_frame().await.0, code);
        assert_eq!(server.sockjs.refused(refusal), 1);
    }
    until(|| server.sockjs.sessions() == 0).await;
}

/// `RawWebsocket`: "no open frame, no heartbeats. Only raw WebSocket protocol." Silence is broken by pings, which are WebSocket's own.
#[tokio::test]
async fn a_raw_websocket_has_no_frames() {
    let fast = SockJsSettings {
        heartbeat: Duration::from_millis(20),
        ..settings()
    };
    let server = Server::new(fast, echo).await;
    let mut socket = Socket::connect(&server, "/websocket").await;
    assert!(matches!(socket.0.next().await, Some(Ok(Message::Ping(_)))));
    socket.send("Hello world!\u{ffff}").await;
    loop {
        match socket.0.next().await.unwrap().unwrap() {
            Message::Ping(_) => {}
            Message::Text(text) => break assert_eq!(text.as_str(), "Hello world!\u{ffff}"),
            other => panic!("{other:?}"),
        }
    }

    let server = Server::close().await;
    let mut socket = Socket::connect(&server, "/websocket").await;
    assert_eq!(socket.close_frame().await, (3000, "Go away!".into()));
}

/// `WebsocketHttpErrors`
#[tokio::test]
async fn other_requests_are_no_websockets() {
    let server = Server::echo().await;
    for (fields, text) in [
        (&[][..], "Can \"Upgrade\" only to \"WebSocket\"."),
        (
            &[("Upgrade", "WebSocket"), ("Connection", "close")],
            "\"Connection\" must be \"Upgrade\".",
        ),
        (
            &[("Upgrade", "WebSocket"), ("Connection", "Upgrade")],
            "Not a valid websocket request.",
        ),
    ] {
        for path in ["/0/0/websocket", "/websocket"] {
            let answer = server.ask("GET", path, fields, "").await;
            assert_eq!((answer.status, answer.body.as_str()), (400, text), "{path}");
        }
    }
    assert_eq!(server.sockjs.sessions(), 0);
}

/// `Websocket.test_headersSanity`, with the example's key and answer.
#[tokio::test]
async fn the_handshake_is_that_of_rfc_6455() {
    let server = Server::echo().await;
    let fields = [
        ("Upgrade", "websocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="),
    ];
    let head = server
        .begin("GET", "/0/0/websocket", &fields, "")
        .await
        .head()
        .await;
    assert_eq!(head.status, 101);
    assert_eq!(
        head.field("sec-websocket-accept"),
        Some("HSmrc0sMlYUkAGmm5OPpG2HaGWk=")
    );
    assert_eq!(head.field("content-length"), None);
    assert_eq!(head.field("sec-websocket-extensions"), None);
}

/// RFC 6455 §4.2.2: the server's choice among what the client offers, and nothing else. With SockJS frames it is SockJS that is spoken.
#[tokio::test]
async fn a_raw_websocket_has_the_subprotocols_of_its_application() {
    let with_subprotocols = SockJsSettings {
        subprotocols: &["v12.stomp", "v11.stomp"],
        ..settings()
    };
    let server = Server::new(with_subprotocols, echo).await;
    for (path, offered, chosen) in [
        ("/websocket", "v10.stomp, v11.stomp, v12.stomp", Some("v12.stomp")),
        ("/websocket", "mqtt", None),
        ("/0/0/websocket", "v12.stomp", None),
    ] {
        let fields = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="),
            ("Sec-WebSocket-Protocol", offered),
        ];
        let head = server.begin("GET", path, &fields, "").await.head().await;
        assert_eq!(
            (head.status, head.field("sec-websocket-protocol")),
            (101, chosen),
            "{path} {offered}"
        );
    }
}

/// A client that goes on talking gets the last words all the same.
#[tokio::test]
async fn last_words_get_through_while_the_client_talks() {
    let server = Server::new(settings(), |mut session, _| {
        tokio::spawn(async move {
            session.recv().await;
            session.send("bye").await.unwrap();
            session.close(Ended::GO_AWAY);
        });
    })
    .await;
    for _ in 0..50 {
        let mut socket = Socket::connect(&server, &websocket_path()).await;
        for _ in 0..20 {
            socket.0.feed(Message::text("[\"a\"]")).await.unwrap();
        }
        socket.0.flush().await.unwrap();
        assert_eq!(socket.text().await, "o");
        assert_eq!(socket.text().await, "a[\"bye\"]");
        assert_eq!(socket.text().await, "c[3000,\"Go away!\"]");
    }
}

/// The application learns how the client left.
#[tokio::test]
async fn a_clients_goodbye_is_told_to_the_application() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let tell = Arc::new(tell);
    let server = Server::new(settings(), move |mut session, _| {
        let tell = Arc::clone(&tell);
        tokio::spawn(async move {
            while session.recv().await.is_some() {}
            tell.send(session.ended()).unwrap();
        });
    })
    .await;
    let mut socket = Socket::connect(&server, &websocket_path()).await;
    let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: 4321.into(),
        reason: "done".into(),
    };
    socket.0.close(Some(frame)).await.unwrap();
    assert_eq!(socket.text().await, "o");
    assert_eq!(socket.close_frame().await, (4321, "done".into()));
    assert_eq!(
        told.recv().await.unwrap(),
        Some(Ended {
            code: 4321,
            reason: "done".into()
        })
    );

    let socket = Socket::connect(&server, &websocket_path()).await;
    drop(socket);
    assert_eq!(told.recv().await.unwrap().map(|ended| ended.code), Some(1006));
    until(|| server.sockjs.sessions() == 0).await;
}

/// A client that reads nothing is left, and what waited for it is counted. A message for it waits in the outbox, no more than its bound.
#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off() {
    let settings = SockJsSettings {
        heartbeat: Duration::from_millis(300),
        stall_time: Duration::from_millis(300),
        max_outbox_bytes: 100_000,
        ..settings()
    };
    let (tell, mut told) = mpsc::unbounded_channel();
    let server = Server::new(settings, move |mut session, _| {
        let tell = tell.clone();
        tokio::spawn(async move {
            let ended = loop {
                if let Err(ended) = session.send("x".repeat(10_000)).await {
                    break ended;
                }
            };
            tell.send(ended).unwrap();
        });
    })
    .await;
    let mut socket = Socket::connect(&server, &websocket_path()).await;
    assert_eq!(socket.text().await, "o");
    assert_eq!(told.recv().await.unwrap(), Ended::STALLED);
    assert_eq!(server.sockjs.refused(Refusal::Stalled), 1);
    let undelivered = server.sockjs.refused(Refusal::Undelivered);
    assert!((10..=12).contains(&undelivered), "{undelivered}");
    until(|| server.sockjs.sessions() == 0).await;
    while !matches!(
        socket.0.next().await,
        None | Some(Err(Error::Protocol(_) | Error::Io(_)))
    ) {}
}
