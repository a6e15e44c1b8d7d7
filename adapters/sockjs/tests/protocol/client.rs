//! A client that sees every byte, and the services of the official test file.

use axum::Router;
use axum::http::request::Parts;
use headgate_sockjs::{Ended, Session, SockJs, SockJsSettings};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Serves below `/sockjs`.
pub(crate) struct Server {
    pub(crate) sockjs: SockJs,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) async fn new<F>(settings: SockJsSettings, service: F) -> Self
    where
        F: Fn(Session, Parts) + Send + Sync + 'static,
    {
        let sockjs = SockJs::new(settings, service).unwrap();
        let router: Router = sockjs.router("/sockjs");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { sockjs, address }
    }

    pub(crate) async fn echo() -> Self {
        Self::new(settings(), echo).await
    }

    /// Closes each session at once.
    pub(crate) async fn close() -> Self {
        Self::new(settings(), |mut session, _| session.close(Ended::GO_AWAY)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &[], body).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let mut connection = self.begin(method, path, fields, body).await;
        let mut answer = connection.head().await;
        let length = answer
            .field("content-length")
            .map(|length| length.parse().unwrap());
        answer.body = match length {
            Some(length) => connection.take(length).await,
            None if answer.field("transfer-encoding").is_some() => connection.all_chunks().await,
            None => String::new(),
        };
        answer
    }

    /// A request whose answer is read piece by piece.
    pub(crate) async fn begin(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Connection {
        let mut head = format!("{method} /sockjs{path} HTTP/1.1\r\nHost: test\r\n");
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        if method == "POST" {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        self.raw(&format!("{head}\r\n{body}")).await
    }

    /// The bytes as they are.
    pub(crate) async fn raw(&self, request: &str) -> Connection {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        Connection(BufReader::new(stream))
    }

    /// A streaming request whose head has been read.
    pub(crate) async fn stream(&self, method: &str, path: &str) -> Connection {
        let mut connection = self.begin(method, path, &[], "").await;
        assert_eq!(connection.head().await.status, 200);
        connection
    }

    /// A session that has been opened by polling; its path.
    pub(crate) async fn opened(&self) -> String {
        let session = session();
        let answer = self.post(&format!("{session}/xhr"), "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "o\n"));
        session
    }
}

/// As the official test file wants them, but patient: a busy machine ends no session.
pub(crate) fn settings() -> SockJsSettings {
    SockJsSettings {
        client_url: "/static/sockjs.js".into(),
        response_limit_bytes: 4096,
        session_timeout: Duration::from_secs(60),
        max_sessions_per_ip: 10_000,
        ..SockJsSettings::default()
    }
}

/// Sends back what it gets.
pub(crate) fn echo(mut session: Session, _: Parts) {
    tokio::spawn(async move {
        while let Some(message) = session.recv().await {
            if session.send(message).await.is_err() {
                return;
            }
        }
    });
}

/// The path of a session that nobody has.
pub(crate) fn session() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("/000/session-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Comes back when it is so; if it never is, the test hangs until its runner gives up.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value.as_str()))
    }
}

pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Status and fields; the body is left unread.
    pub(crate) async fn head(&mut self) -> Answer {
        let status = self.line().await;
        let status = status.split(' ').nth(1).expect("a status line").parse().unwrap();
        let mut fields = Vec::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").expect("a field");
            fields.push((name.to_owned(), value.to_owned()));
        }
        Answer {
            status,
            fields,
            body: String::new(),
        }
    }

    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.0.read_u8().await.expect("a whole line"));
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).unwrap()
    }

    pub(crate) async fn take(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// One chunk as the server wrote it; an empty one ends the answer.
    pub(crate) async fn chunk(&mut self) -> String {
        let length = self.line().await;
        let length = usize::from_str_radix(&length, 16).expect("a chunk's length");
        let chunk = self.take(length).await;
        assert_eq!(self.take(2).await, "\r\n");
        chunk
    }

    pub(crate) async fn all_chunks(&mut self) -> String {
        let mut all = String::new();
        loop {
            match self.chunk().await {
                chunk if chunk.is_empty() => return all,
                chunk => all += &chunk,
            }
        }
    }

    /// What comes until the server closes.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).await.unwrap();
        rest
    }
}
