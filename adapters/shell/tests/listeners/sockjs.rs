//! Listeners of the kind `sockjs`: each session is a connection.

use crate::bench::{Bench, local, receives, sends, within};
use crate::pki::{Authority, Files, client, connect_tls, tls_listener};
use futures_util::{SinkExt, StreamExt};
use headgate_access::PeerAddr;
use headgate_shell::settings::SockJsSettings;
use headgate_shell::{
    Connection, ConnectionLimit, Handler, Listener, ListenerKind, ListenerSettings, SockJsRefusal, Stages,
    Transport,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

const LINGER: Duration = Duration::from_secs(10);

fn start(settings: SockJsSettings) -> Bench {
    Bench::start(ListenerSettings {
        kind: ListenerKind::Sockjs,
        sockjs: Some(settings),
        ..local()
    })
}

/// A connection for requests of HTTP/1.1.
struct Client(TcpStream);

impl Client {
    async fn of(bench: &Bench) -> Self {
        Self(bench.connect().await)
    }

    /// Status and body.
    async fn ask(&mut self, method: &str, path: &str, fields: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{fields}\r\n{body}");
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(within(self.0.read_u8()).await.unwrap().into());
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        within(self.0.read_exact(&mut body)).await.unwrap();
        (status, String::from_utf8(body).unwrap())
    }

    async fn post(&mut self, path: &str, body: &str) -> (u16, String) {
        self.ask("POST", path, "", body).await
    }
}

fn peer_of(connection: &Connection) -> String {
    match connection.info.peer {
        PeerAddr::Ip(address) => address.ip().to_string(),
        other => panic!("{other:?}"),
    }
}

/// The way there and back, who is there, and a goodbye that waits until the client has got it.
#[tokio::test]
async fn a_polled_session_is_a_connection() {
    let mut bench = start(SockJsSettings::default());
    let mut client = Client::of(&bench).await;
    assert_eq!(
        client.ask("GET", "/sockjs", "", "").await,
        (200, "Welcome to SockJS!\n".into())
    );
    let fields = "Cookie: a=b\r\nUser-Agent: probe\r\n";
    assert_eq!(
        client.ask("POST", "/sockjs/0/id/xhr", fields, "").await,
        (200, "o\n".into())
    );

    let mut connection = bench.next().await;
    let http = connection.info.http.as_deref().expect("a request was there");
    assert_eq!(
        (http.path.as_str(), http.cookies.as_deref()),
        ("/sockjs/0/id/xhr", Some("a=b"))
    );
    assert_eq!(http.user_agent.as_deref(), Some("probe"));
    assert_eq!(peer_of(&connection), "127.0.0.1");
    assert_eq!(bench.stats.current(), 2, "the session, and what carries it");

    let sent = client
        .ask("POST", "/sockjs/0/id/xhr_send", fields, "[\"CONN\",\"ECT\\n\"]")
        .await;
    assert_eq!(sent.0, 204);
    receives(&mut connection.transport, b"CONNECT\n").await;
    sends(&mut connection.transport, "CONNECTED\u{fc}\n\0".as_bytes()).await;
    let goodbye = tokio::spawn(connection.into_parts().0.close(LINGER));
    for frame in ["a[\"CONNECTED\u{fc}\\n\\u0000\"]\n", "c[3000,\"Go away!\"]\n"] {
        let answer = client.ask("POST", "/sockjs/0/id/xhr", fields, "").await;
        assert_eq!(answer, (200, frame.into()));
    }
    within(goodbye).await.unwrap();
    bench.stop().await;
}

/// What is upgraded keeps its place among the connections.
#[tokio::test]
async fn a_websocket_session_is_a_connection() {
    let mut bench = start(SockJsSettings {
        path: "/a/b".into(),
        ..SockJsSettings::default()
    });
    let (mut socket, _) = client_async("ws://h/a/b/0/id/websocket", bench.connect().await)
        .await
        .unwrap();
    let mut connection = bench.next().await;
    assert_eq!(within(socket.next()).await.unwrap().unwrap(), Message::text("o"));
    socket.send(Message::text("[\"ping\"]")).await.unwrap();
    receives(&mut connection.transport, b"ping").await;
    sends(&mut connection.transport, b"pong").await;
    assert_eq!(
        within(socket.next()).await.unwrap().unwrap(),
        Message::text("a[\"pong\"]")
    );
    assert_eq!(bench.stats.current(), 2);
    drop(socket);
    let mut rest = bytes::BytesMut::new();
    assert_eq!(within(connection.transport.read(&mut rest)).await.unwrap(), 0);
    drop(connection);
    within(async {
        while bench.stats.current() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    bench.stop().await;
}

/// With a certificate it is SockJS over TLS.
#[tokio::test]
async fn sockjs_is_spoken_over_tls() {
    const HOST: &str = "gate.example";
    let ca = Authority::new("ca");
    let files = Files::with(&ca.server(HOST));
    let bench = Bench::start(ListenerSettings {
        kind: ListenerKind::Sockjs,
        ..tls_listener(files.settings())
    });
    let mut stream = connect_tls(&bench, &client(&ca, None), HOST).await.unwrap();
    let request = b"GET /sockjs HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.ends_with(b"\r\n\r\nWelcome to SockJS!\n"));
    bench.stop().await;
}

/// Where there is no room for a session, its client is told.
#[tokio::test]
async fn a_session_counts_against_the_limit_of_the_listener() {
    let mut bench = Bench::start(ListenerSettings {
        kind: ListenerKind::Sockjs,
        max_connections: Some(2),
        ..local()
    });
    let mut client = Client::of(&bench).await;
    client.post("/sockjs/0/one/xhr", "").await;
    let one = bench.next().await;
    assert_eq!(client.post("/sockjs/0/two/xhr", "").await.1, "o\n");
    assert_eq!(
        client.post("/sockjs/0/two/xhr", "").await.1,
        "c[1013,\"Try again later\"]\n"
    );
    drop(one);
    client.post("/sockjs/0/three/xhr", "").await;
    assert!(matches!(bench.next().await.transport, Transport::SockJs(_)));
    bench.stop().await;
}

/// A trusted forwarder speaks for its clients, who are told apart, and kept out, by their own addresses.
#[tokio::test]
async fn a_forwarder_says_who_the_client_is() {
    let trusted = SockJsSettings {
        trusted_forwarders: vec!["127.0.0.0/8".parse().unwrap()],
        ..SockJsSettings::default()
    };
    let mut bench = Bench::start(ListenerSettings {
        kind: ListenerKind::Sockjs,
        access: toml::from_str::<ListenerSettings>(
            "name = 'x'\nbind = ''\naccess = ['deny 192.0.2.66', 'allow all']",
        )
        .unwrap()
        .access,
        sockjs: Some(trusted),
        ..local()
    });
    let mut client = Client::of(&bench).await;
    for address in ["192.0.2.1", "192.0.2.2"] {
        let fields = format!("X-Forwarded-For: 198.51.100.9, {address}\r\n");
        let answer = client.ask("POST", "/sockjs/0/id/xhr", &fields, "").await;
        assert_eq!(answer, (200, "o\n".into()), "a session of its own");
        let connection = bench.next().await;
        assert_eq!(peer_of(&connection), address);
        assert!(connection.info.via.is_some());
    }
    let denied = client
        .ask("POST", "/sockjs/0/id/xhr", "X-Forwarded-For: 192.0.2.66\r\n", "")
        .await;
    assert_eq!(denied.0, 403);
    let wrong = client
        .ask("POST", "/sockjs/0/id/xhr", "X-Forwarded-For: nonsense\r\n", "")
        .await;
    assert_eq!(wrong.0, 400);
    let elsewhere = client.post("/sockjs/0/id/xhr_send", "[]").await;
    assert_eq!(elsewhere.0, 404, "the forwarder itself has no session");
    let refusals = bench.stats.sockjs().expect("SockJS is spoken");
    assert_eq!(refusals.get(SockJsRefusal::UnknownSession), 1);
    bench.stop().await;
}

/// Sessions are the listener's: other settings of it leave them alone.
#[tokio::test]
async fn sessions_stay_over_a_change_of_settings() {
    let settings = ListenerSettings {
        kind: ListenerKind::Sockjs,
        ..local()
    };
    let listener = Listener::bind(settings.clone(), &ConnectionLimit::default()).unwrap();
    let handle = listener.handle();
    let (sender, mut opened) = mpsc::unbounded_channel();
    let handler: Handler = Arc::new(move |connection| {
        let sender = sender.clone();
        Stages::one(async move { drop(sender.send(connection)) })
    });
    let first = Arc::clone(&handler);
    tokio::spawn(listener.run(CancellationToken::new(), move |connection| first(connection)));
    let client = async || Client(TcpStream::connect(handle.local_addr().unwrap()).await.unwrap());

    assert_eq!(client().await.post("/sockjs/0/id/xhr", "").await.1, "o\n");
    let mut connection = within(opened.recv()).await.unwrap();
    let change = ListenerSettings {
        max_connections: Some(100),
        ..settings
    };
    handle.take(handle.prepare(change).unwrap(), handler);
    assert_eq!(
        client().await.post("/sockjs/0/id/xhr_send", "[\"a\"]").await.0,
        204
    );
    receives(&mut connection.transport, b"a").await;
}
