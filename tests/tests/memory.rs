//! What a connection keeps in memory while it is idle, and what a message costs in allocations. The allocator of this test program counts.
//!
//! The gateway is put together as the daemon does it; its clients are plain sockets that allocate nothing themselves.
#![allow(
    clippy::print_stdout,
    reason = "the figures are for who runs it with --nocapture"
)]
#![allow(
    unsafe_code,
    reason = "a global allocator cannot be written without; it only counts and hands on"
)]

use headgate_access::AccessService;
use headgate_auth::{Access, AuthSettings};
use headgate_bus::handle::{Clock, Hub};
use headgate_bus::{Bus, BusSettings};
use headgate_model::PeerFacts;
use headgate_mqtt::{MqttEndpoint, MqttSettings, MqttWire};
use headgate_shell::{ConnectionLimit, Connections, Listener, ListenerSettings, Metrics, drive};
use headgate_store::{Disk, SimStore};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);
/// Live allocations by size.
static SIZES: [AtomicI64; 8_192] = [const { AtomicI64::new(0) }; 8_192];

fn count(size: usize, one: i64) {
    LIVE.fetch_add(one * size as i64, Relaxed);
    if let Some(cell) = SIZES.get(size) {
        cell.fetch_add(one, Relaxed);
    }
}

// SAFETY: every call is handed on to the system allocator unchanged; growing is allocating, copying and freeing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        count(layout.size(), 1);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A gateway as `make run` starts it, with a store in memory.
fn gateway(runtime: &tokio::runtime::Runtime) -> SocketAddr {
    let clock = Clock::start();
    let bus = Bus::new(BusSettings::default(), clock.epoch(), 1).expect("default settings are valid");
    let store = Box::new(SimStore::open(&Disk::default()));
    let hub = Hub::start(bus, clock, store).expect("threads can be started");
    let connections = Arc::new(Connections::new(
        hub.clone(),
        &Arc::new(Metrics::default()),
        tokio_util::task::TaskTracker::new(),
    ));
    let access =
        Access::load(&AuthSettings::default(), std::path::Path::new(".")).expect("no file is needed");
    let mqtt = Arc::new(MqttSettings::default());
    let settings = ListenerSettings {
        bind: "127.0.0.1:0".into(),
        ..ListenerSettings::default()
    };
    let _inside = runtime.enter();
    let listener = Listener::bind(settings, &ConnectionLimit::new(None)).expect("a port is free");
    let address = listener.local_addr().expect("it is TCP");
    let facts = PeerFacts {
        peer: "127.0.0.1".into(),
        ..PeerFacts::default()
    };
    runtime.spawn(listener.run(CancellationToken::new(), move |connection| {
        let facts = facts.clone();
        let endpoint = MqttEndpoint::new(Arc::clone(&mqtt), facts, hub.clock().now());
        let wire = MqttWire::new(mqtt.max_packet_size, mqtt.max_connect_size);
        let session = access.session(&connection.info);
        drive(endpoint, wire, connection, session, &connections)
    }));
    address
}

/// A client of MQTT 3.1.1 that is connected.
fn connect(address: SocketAddr, id: [u8; 8]) -> TcpStream {
    let mut client = TcpStream::connect(address).expect("it listens");
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a time above zero");
    let mut packet = *b"\x10\x14\x00\x04MQTT\x04\x02\x00\x3c\x00\x08........";
    packet[14..].copy_from_slice(&id);
    client.write_all(&packet).expect("it takes CONNECT");
    let mut connack = [0; 4];
    client.read_exact(&mut connack).expect("it answers");
    assert_eq!(connack, [0x20, 2, 0, 0]);
    client
}

fn numbered(number: usize) -> [u8; 8] {
    let mut id = *b"c0000000";
    id[2] = b'0' + (number / 1000 % 10) as u8;
    id[3] = b'0' + (number / 100 % 10) as u8;
    id[4] = b'0' + (number / 10 % 10) as u8;
    id[5] = b'0' + (number % 10) as u8;
    id
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.worker_threads(threads).enable_all();
    builder.build().expect("threads can be started")
}

/// Waits until nothing is allocated or freed any more.
fn settle() {
    let mut was = (CALLS.load(Relaxed), LIVE.load(Relaxed));
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let is = (CALLS.load(Relaxed), LIVE.load(Relaxed));
        if is == was {
            return;
        }
        was = is;
    }
}

/// One test after the other: the counters are common.
static ALONE: Mutex<()> = Mutex::new(());

/// docs/performance.md, "What a connection keeps": task, link, endpoint and session, and its places in the tables of the bus.
#[test]
fn an_idle_connection_keeps_little() {
    const N: usize = 1_000;
    // 1,429, and a little of whatever the runtime has under way when it is counted.
    const MOST: i64 = 1_456;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = runtime(2);
    let address = gateway(&runtime);
    let mut clients: Vec<TcpStream> = Vec::with_capacity(2 * N);
    clients.extend((0..N).map(|n| connect(address, numbered(n))));
    settle();
    let before = LIVE.load(Relaxed);
    let sizes: Vec<i64> = SIZES.iter().map(|live| live.load(Relaxed)).collect();
    clients.extend((N..2 * N).map(|n| connect(address, numbered(n))));
    settle();
    let each = (LIVE.load(Relaxed) - before) / N as i64;
    println!("{each} bytes each, of them in allocations of");
    for (size, was) in sizes.iter().enumerate() {
        let more = SIZES[size].load(Relaxed) - was;
        if more >= N as i64 / 2 {
            println!("{size} bytes: {:.1}", more as f64 / N as f64);
        }
    }
    assert!(each <= MOST, "{each} bytes each, at most {MOST}");
}

/// STYLE §12: a message that comes and goes allocates nothing, when pools and tables have found their sizes.
#[test]
fn a_message_of_qos_0_allocates_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = runtime(1);
    let address = gateway(&runtime);
    let mut publisher = connect(address, *b"publishe");
    let mut subscriber = connect(address, *b"subscrib");
    subscriber
        .write_all(b"\x82\x06\x00\x01\x00\x01t\x00")
        .expect("it takes SUBSCRIBE");
    subscriber.read_exact(&mut [0; 5]).expect("it answers");
    let mut ten = |times: usize| {
        for _ in 0..times {
            for _ in 0..10 {
                publisher
                    .write_all(b"\x30\x09\x00\x01tpayloa")
                    .expect("it takes PUBLISH");
            }
            subscriber.read_exact(&mut [0; 110]).expect("all ten come");
        }
    };
    ten(500);
    settle();
    let before = CALLS.load(Relaxed);
    ten(1_000);
    assert_eq!(CALLS.load(Relaxed) - before, 0, "allocations for 10,000 messages");
}
