//! A flood of wrong passwords against the real gateway: it stays small, and whoever has a right one comes in, meanwhile and afterwards.

use bytes::{Bytes, BytesMut};
use headgate_auth::Users;
use headgate_mqtt_codec::{Connect, Decoder, MAX_PACKET_SIZE, Packet, ReasonCode, Utf8, Version, encode};
use headgate_tests::blackbox::{Daemon, HANG, Setup, Transport, eventually};
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const HONEST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// `make attack` has the longer form.
fn flooders() -> usize {
    if std::env::var_os("HEADGATE_ATTACK").is_some() {
        900
    } else {
        600
    }
}
/// What the flood may add: connections that wait, two hashes, and the allocator's slack. Unbounded it was gigabytes.
const MEMORY: u64 = 64 << 20;
/// Threads that the flood may add: those that hash, and the runtime's for files.
const THREADS: u64 = 4;

#[test]
fn a_flood_of_wrong_passwords_keeps_nobody_out() {
    let setup = Setup::with("[auth]\nanonymous = \"nowhere\"\n");
    let mut users = Users::default();
    for name in ["first", "second", "third"] {
        users.set(name, &format!("password of {name}")).unwrap();
    }
    users.save(&setup.folder().join("data/users.json")).unwrap();
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let (memory, threads) = (daemon.memory(), threads(&daemon));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicU64::new(0));
    for n in 0..flooders() {
        runtime.spawn(flood(port, n, Arc::clone(&over), Arc::clone(&refused)));
    }
    let watched = Watch::default();
    eventually("the flood", || {
        watched.look(&daemon);
        (refused.load(Ordering::Relaxed) >= 2 * flooders() as u64).then_some(())
    });

    // Another address waits for its turn only, the first time and when it comes back.
    for name in ["first", "first", "second"] {
        let code = runtime.block_on(log_in(HONEST, port, name, &format!("password of {name}")));
        assert_eq!(code.unwrap(), ReasonCode::Success, "{name}");
        watched.look(&daemon);
    }
    // Who is remembered comes in from the flood's own address.
    let code = runtime.block_on(log_in(ATTACKER, port, "first", "password of first"));
    assert_eq!(code.unwrap(), ReasonCode::Success);
    let code = runtime.block_on(log_in(HONEST, port, "first", "password of second"));
    assert_eq!(code.unwrap(), ReasonCode::BadUserNameOrPassword);

    over.store(true, Ordering::Relaxed);
    runtime.shutdown_timeout(Duration::from_secs(5));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    eventually("one from the flood's address that was not there before", || {
        watched.look(&daemon);
        match runtime.block_on(log_in(ATTACKER, port, "third", "password of third")) {
            Ok(ReasonCode::Success) => Some(()),
            Ok(ReasonCode::ServerBusy) | Err(_) => None,
            Ok(other) => panic!("{other:?}"),
        }
    });
    let peak = watched.memory.load(Ordering::Relaxed);
    let told = format!(
        "{} refused; {} MiB idle, {} MiB at the peak; {threads} threads idle, {} at the peak",
        refused.load(Ordering::Relaxed),
        memory >> 20,
        peak >> 20,
        watched.threads.load(Ordering::Relaxed)
    );
    say(&told);
    assert!(peak < memory + MEMORY, "{told}");
    assert!(
        watched.threads.load(Ordering::Relaxed) <= threads + THREADS,
        "{told}"
    );
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

#[allow(clippy::print_stdout, reason = "a measurement")]
fn say(text: &str) {
    println!("{text}");
}

/// The most that was seen.
#[derive(Default)]
struct Watch {
    memory: AtomicU64,
    threads: AtomicU64,
}

impl Watch {
    fn look(&self, daemon: &Daemon<'_>) {
        self.memory.fetch_max(daemon.memory(), Ordering::Relaxed);
        self.threads.fetch_max(threads(daemon), Ordering::Relaxed);
    }
}

fn threads(daemon: &Daemon<'_>) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|line| line.trim().parse().ok())
        .expect("a process has threads")
}

/// Comes again and again: some wait for the answer, others leave at once or in the middle.
async fn flood(port: u16, n: usize, over: Arc<AtomicBool>, refused: Arc<AtomicU64>) {
    let mut random = fastrand::Rng::with_seed(n as u64);
    let mut round = 0;
    while !over.load(Ordering::Relaxed) {
        round += 1;
        let name = if n.is_multiple_of(2) {
            "third".to_owned()
        } else {
            format!("nobody {n} {round}")
        };
        let patience = match n % 3 {
            0 => Duration::from_millis(random.u64(0..50)),
            _ => HANG,
        };
        let asked = tokio::time::timeout(patience, log_in(ATTACKER, port, &name, "wrong")).await;
        assert!(!matches!(asked, Ok(Ok(ReasonCode::Success))));
        refused.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(random.u64(10..100))).await;
    }
}

/// What CONNACK says.
async fn log_in(from: Ipv4Addr, port: u16, name: &str, password: &str) -> io::Result<ReasonCode> {
    let mut stream = connect_from(from, port).await?;
    let text = |text: &str| Utf8::try_from(text.to_owned()).expect("a short text");
    let mut bytes = BytesMut::new();
    let connect = Connect {
        username: Some(text(name)),
        password: Some(Bytes::from(password.to_owned())),
        ..Connect::new(Version::V5, text(""))
    };
    encode(&Packet::Connect(Box::new(connect)), Version::V5, &mut bytes);
    stream.write_all(&bytes).await?;
    let mut decoder = Decoder::client(Version::V5, MAX_PACKET_SIZE);
    let mut input = BytesMut::new();
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if let Some(packet) = decoder.decode(&mut input).map_err(io::Error::other)? {
            let Packet::ConnAck(connack) = packet else {
                panic!("{packet:?} instead of CONNACK")
            };
            return Ok(connack.code);
        }
    }
}

async fn connect_from(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect((Ipv4Addr::LOCALHOST, port).into()).await
}

/// Whatever a name says, it is one value of one line in the log, and short.
#[test]
fn a_name_writes_no_line_of_its_own() {
    let setup = Setup::with("[auth]\nanonymous = \"nowhere\"\n");
    let daemon = setup.start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let evil = "joe\n2026-11-28T00:00:00.000000Z  INFO headgate::daemon: gateway stops\r\u{1b}[2K";
    for name in [evil, &"x".repeat(60_000)] {
        let code = runtime.block_on(log_in(HONEST, daemon.port(Transport::Tcp), name, "wrong"));
        assert_eq!(code.unwrap(), ReasonCode::BadUserNameOrPassword);
    }
    let log = setup.log_with(&[r#"user="joe\n2026-11-28T00:00:00.000000Z  INFO"#, r#"user="xxx"#]);
    assert!(log.bytes().all(|byte| byte >= b' ' || byte == b'\n'), "{log:?}");
    assert!(log.lines().all(|line| line.len() < 1_000), "{log}");
    assert!(
        !log.lines()
            .any(|line| line.starts_with("2026-11-28T00:00:00.000000Z")),
        "{log}"
    );
}
