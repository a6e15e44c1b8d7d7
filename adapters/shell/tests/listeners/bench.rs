//! A listener at work, and what was handed over.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::BytesMut;
use headgate_shell::settings::WebSocketFacts;
use headgate_shell::{
    Connection, ConnectionLimit, Listener, ListenerSettings, ListenerStats, RefuseReason, Stages, Transport,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A guard against hanging, no more.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("a test hangs")
}

pub(crate) struct Bench {
    pub address: Option<SocketAddr>,
    pub stats: Arc<ListenerStats>,
    pub tls: Option<headgate_shell::tls::ServerTls>,
    opened: mpsc::UnboundedReceiver<Connection>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// TCP on a free port of the loopback interface.
pub(crate) fn local() -> ListenerSettings {
    ListenerSettings {
        bind: "127.0.0.1:0".into(),
        facts: WebSocketFacts {
            subprotocols: &["mqtt", "mqttv3.1", "mqttv3.1.1"],
            is_text: false,
        },
        ..ListenerSettings::default()
    }
}

impl Bench {
    pub(crate) fn start(settings: ListenerSettings) -> Self {
        Self::start_sharing(settings, &ConnectionLimit::default())
    }

    pub(crate) fn start_sharing(settings: ListenerSettings, total: &ConnectionLimit) -> Self {
        let listener = Listener::bind(settings, total).unwrap();
        let handle = listener.handle();
        let (address, stats, tls) = (handle.local_addr(), handle.stats(), handle.tls());
        let (sender, opened) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(listener.run(shutdown.clone(), move |connection| {
            let sender = sender.clone();
            Stages::one(async move { drop(sender.send(connection)) })
        }));
        Self {
            address,
            stats,
            tls,
            opened,
            shutdown,
            task,
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.address.unwrap())).await.unwrap()
    }

    /// The next connection that was handed over.
    pub(crate) async fn next(&mut self) -> Connection {
        within(self.opened.recv()).await.expect("the listener runs")
    }

    /// Waits until so many were refused for `reason`.
    pub(crate) async fn refused(&self, reason: RefuseReason, count: u64) {
        within(async {
            while self.stats.refused(reason) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert_eq!(self.stats.refused(reason), count);
    }

    pub(crate) fn nobody_was_let_in(&mut self) {
        assert!(self.opened.try_recv().is_err());
        assert_eq!(self.stats.opened(), 0);
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        within(self.task).await.unwrap();
    }
}

/// The peer has closed: no byte comes, only the end or a reset.
pub(crate) async fn is_closed(stream: &mut (impl AsyncRead + Unpin)) {
    let read = within(stream.read(&mut [0; 16])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

/// Reads exactly `expected`.
pub(crate) async fn receives(transport: &mut Transport, expected: &[u8]) {
    let mut buf = BytesMut::new();
    while buf.len() < expected.len() {
        assert_ne!(
            within(transport.read(&mut buf)).await.unwrap(),
            0,
            "closed early: {buf:?}"
        );
    }
    assert_eq!(buf, expected);
}

pub(crate) async fn sends(transport: &mut Transport, bytes: &[u8]) {
    within(transport.write(&mut bytes.into())).await.unwrap();
}

/// Both directions work.
pub(crate) async fn talk(
    transport: &mut Transport,
    client: &mut (impl AsyncRead + tokio::io::AsyncWrite + Unpin),
) {
    client.write_all(b"ping").await.unwrap();
    client.flush().await.unwrap();
    receives(transport, b"ping").await;
    sends(transport, b"pong").await;
    let mut answer = [0; 4];
    within(client.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"pong");
}

/// Writes to a peer that does not read, until a layer of the transport holds bytes back; returns how many it
/// took. They must get through although the driver only reads from then on: `client` reads them, then answers.
pub(crate) async fn what_is_held_back_gets_through<F>(
    mut transport: Transport,
    client: impl FnOnce(usize) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    const MUCH: usize = 64 * 1024 * 1024;
    let mut out = BytesMut::from(&vec![7; MUCH][..]);
    loop {
        let mut ready = std::pin::pin!(transport.ready(Some(&mut out), None));
        if ready
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
        {
            break;
        }
    }
    assert!(!out.is_empty(), "the system took it all");
    let client = tokio::spawn(client(MUCH - out.len()));
    let mut buf = BytesMut::new();
    let progress = within(transport.ready(None, Some(&mut buf))).await.unwrap();
    assert_eq!((progress.written, &buf[..]), (0, &b"done"[..]));
    within(client).await.unwrap();
}
