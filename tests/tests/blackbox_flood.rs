//! A thousand peers that mean no good or cannot do better, while others work: nobody else loses anything, and the memory stays bounded.

use bytes::BytesMut;
use headgate_mqtt_codec::{
    AckKind, Connect, Disconnect, Packet, PacketId, Qos, Subscribe, SubscribeFilter, SubscribeOptions, Utf8,
    Version, encode,
};
use headgate_tests::blackbox::{Daemon, HANG, Peer, Setup, Transport, allow_connections};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BAD: usize = 1000;
const PAIRS: usize = 10;
const MESSAGES: usize = 200;
const PAYLOAD: usize = 4096;

/// What the gateway may take at most, in bytes. Unoptimised it takes about a third.
const BOUND: u64 = 160 << 20;

#[test]
fn a_thousand_bad_peers_harm_nobody() {
    allow_connections();
    let setup = Setup::new();
    let mut daemon = setup.start();
    let idle = daemon.memory();
    let over = Arc::new(AtomicBool::new(false));
    let attempts = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for n in 0..BAD {
        let peer = Bad {
            kind: Kind::ALL[n % Kind::ALL.len()],
            n,
            ports: Transport::ALL.map(|transport| daemon.port(transport)),
        };
        runtime.spawn(peer.live(Arc::clone(&over), Arc::clone(&attempts)));
    }
    // Every one has been there once before the work begins.
    headgate_tests::blackbox::eventually("the bad peers", || {
        (attempts.load(Ordering::Relaxed) >= BAD as u64).then_some(())
    });
    let peak = work(&daemon);
    over.store(true, Ordering::Relaxed);
    runtime.shutdown_timeout(Duration::from_secs(5));
    assert!(daemon.is_alive(), "{}", setup.log());
    let attempts = attempts.load(Ordering::Relaxed);
    let mib = |bytes: u64| bytes >> 20;
    let told = format!(
        "{attempts} bad connections, {} MiB idle, {} MiB at the peak",
        mib(idle),
        mib(peak)
    );
    assert!(peak < BOUND, "{told}");
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
    say(&told);
}

#[allow(clippy::print_stdout, reason = "a measurement")]
fn say(text: &str) {
    println!("{text}");
}

/// Ten clients publish to ten others at QoS 1; the highest memory of the gateway meanwhile.
fn work(daemon: &Daemon<'_>) -> u64 {
    let port = daemon.port(Transport::Tcp);
    std::thread::scope(|scope| {
        let listeners: Vec<Peer> = (0..PAIRS).map(|n| listener(port, n).unwrap()).collect();
        let mut workers = Vec::new();
        for (n, peer) in listeners.into_iter().enumerate() {
            workers.push(scope.spawn(move || take_all(peer).unwrap()));
            workers.push(scope.spawn(move || publish_all(port, n).unwrap()));
        }
        let mut peak = 0;
        while workers.iter().any(|worker| !worker.is_finished()) {
            peak = peak.max(daemon.memory());
            std::thread::sleep(Duration::from_millis(20));
        }
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        peak
    })
}

fn listener(port: u16, n: usize) -> io::Result<Peer> {
    let (mut peer, _) = Peer::connect(port, &format!("listener{n}"), true, 0)?;
    peer.subscribe(&format!("good/{n}"), Qos::AtLeastOnce)?;
    Ok(peer)
}

fn take_all(mut peer: Peer) -> io::Result<()> {
    let mut seen = BTreeSet::new();
    while seen.len() < MESSAGES {
        if let Packet::Publish(publish) = peer.recv()? {
            peer.ack(AckKind::PubAck, publish.packet_id.expect("QoS 1").get())?;
            assert!(seen.insert(publish.payload), "a live delivery comes once");
        }
    }
    peer.send(&Packet::Disconnect(Disconnect::default()))
}

fn publish_all(port: u16, n: usize) -> io::Result<()> {
    let (mut peer, _) = Peer::connect(port, &format!("publisher{n}"), true, 0)?;
    for message in 0..MESSAGES {
        let id = u16::try_from(message + 1).expect("there are fewer");
        peer.publish(
            &format!("good/{n}"),
            &format!("{message:0>PAYLOAD$}"),
            Some((Qos::AtLeastOnce, id)),
            false,
        )?;
        match peer.recv()? {
            Packet::Ack(ack) if ack.packet_id.get() == id => assert!(!ack.reason.is_error(), "{ack:?}"),
            other => panic!("{other:?} instead of PUBACK"),
        }
    }
    peer.send(&Packet::Disconnect(Disconnect::default()))
}

/// A way to be a burden.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Random bytes, then nothing.
    Garbage,
    /// A good CONNECT, then a packet that is larger than any allowed, sent as long as it is taken.
    Oversized,
    /// A CONNECT, a byte at a time.
    Slow,
    /// A connection and not a word.
    Silent,
    /// A CONNECT and the end of its own side.
    HalfClosed,
    /// Random bytes where TLS is spoken.
    NoTls,
    /// Asks for everything and reads nothing.
    Deaf,
    /// Half a request where WebSocket is spoken.
    HalfRequest,
    /// Good CONNECTs under one name that all of them use.
    Usurper,
    /// A session, then a reset in the middle of a packet.
    Cut,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Garbage,
        Self::Oversized,
        Self::Slow,
        Self::Silent,
        Self::HalfClosed,
        Self::NoTls,
        Self::Deaf,
        Self::HalfRequest,
        Self::Usurper,
        Self::Cut,
    ];
}

struct Bad {
    kind: Kind,
    n: usize,
    /// In the order of [`Transport::ALL`].
    ports: [u16; 4],
}

impl Bad {
    /// Comes back whenever it is thrown out.
    async fn live(self, over: Arc<AtomicBool>, attempts: Arc<AtomicU64>) {
        let mut random = fastrand::Rng::with_seed(self.n as u64);
        while !over.load(Ordering::Relaxed) {
            // However it ends: this is what it is for.
            let _ = tokio::time::timeout(HANG, self.annoy(&mut random, &attempts)).await;
            tokio::time::sleep(Duration::from_millis(random.u64(50..500))).await;
        }
    }

    async fn annoy(&self, random: &mut fastrand::Rng, attempts: &AtomicU64) -> io::Result<()> {
        let [tcp, tls, ws, _] = self.ports;
        let port = match self.kind {
            Kind::NoTls => tls,
            Kind::HalfRequest => ws,
            _ => tcp,
        };
        let connected = TcpStream::connect(("127.0.0.1", port)).await;
        attempts.fetch_add(1, Ordering::Relaxed);
        let mut stream = connected?;
        let length = random.usize(1..2000);
        let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        match self.kind {
            Kind::Garbage | Kind::NoTls => stream.write_all(&noise).await?,
            Kind::Oversized => {
                stream.write_all(&self.connect()).await?;
                stream.write_all(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]).await?;
                for _ in 0..10_000 {
                    stream.write_all(&noise).await?;
                }
            }
            Kind::Slow => {
                for byte in self.connect() {
                    stream.write_all(&[byte]).await?;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            Kind::Silent => {}
            Kind::HalfClosed => {
                stream.write_all(&self.connect()).await?;
                stream.shutdown().await?;
            }
            Kind::Deaf => {
                stream.write_all(&self.connect()).await?;
                stream.write_all(&everything()).await?;
                tokio::time::sleep(HANG).await;
            }
            Kind::HalfRequest => {
                stream
                    .write_all(b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgra")
                    .await?;
            }
            Kind::Usurper => stream.write_all(&connect("everybody")).await?,
            Kind::Cut => {
                stream.write_all(&self.connect()).await?;
                stream.write_all(&[0x32, 0x7F, 0x00]).await?;
                stream.set_zero_linger()?;
                return Ok(());
            }
        }
        // Stays until it is thrown out.
        let mut answer = [0; 512];
        while stream.read(&mut answer).await? > 0 {}
        Ok(())
    }

    fn connect(&self) -> BytesMut {
        connect(&format!("bad{}", self.n))
    }
}

fn connect(id: &str) -> BytesMut {
    let id = Utf8::try_from(id.to_owned()).expect("a short text");
    let mut bytes = BytesMut::new();
    encode(
        &Packet::Connect(Box::new(Connect::new(Version::V5, id))),
        Version::V5,
        &mut bytes,
    );
    bytes
}

fn everything() -> BytesMut {
    let mut bytes = BytesMut::new();
    let subscribe = Subscribe {
        packet_id: PacketId::MIN,
        identifier: None,
        user_properties: Vec::new(),
        filters: vec![SubscribeFilter {
            filter: "#".into(),
            options: SubscribeOptions::qos(Qos::AtLeastOnce),
        }],
    };
    encode(&Packet::Subscribe(Box::new(subscribe)), Version::V5, &mut bytes);
    bytes
}
