//! What peers hold counts in the ledger of memory, all of it and no longer than they do.

use super::client::Config;
use super::link::Bench;
use super::{credentials, signing_key};
use crate::outputs::Outputs;
use crate::server::DtlsServer;
use crate::settings::ServerSettings;
use headgate_dtls_codec::CipherSuite;
use headgate_model::MemoryLimit;
use std::sync::Arc;
use std::time::Duration;

/// Holds after every step of every test.
pub(super) fn check(server: &DtlsServer<u16>) {
    let handshakes: usize = server
        .handshakes
        .values()
        .map(|handshake| handshake.bytes())
        .sum();
    let sessions: usize = server.sessions.values().map(|session| session.counted).sum();
    assert_eq!(
        server.ledger.bytes(),
        handshakes + sessions + server.memory.bytes()
    );
}

fn config(certificate: bool) -> Config {
    match certificate {
        true => Config {
            certificate: Some(signing_key(2)),
            ..Config::new(CipherSuite::EcdheEcdsaCcm8)
        },
        false => Config::new(CipherSuite::PskCcm8),
    }
}

#[test]
fn handshakes_and_sessions_count_and_nothing_is_left_of_them() {
    let memory = Arc::new(MemoryLimit::default());
    let mut bench = Bench::with(ServerSettings::default(), credentials(false), 1);
    bench.server.count_in(Arc::clone(&memory));
    bench.key_takes = Duration::from_secs(1);
    bench.client(1, config(false));
    bench.run(Duration::from_millis(10));
    assert_eq!(bench.server.handshakes(), 1);
    let handshake = memory.buffers();
    assert!((1_000..10_000).contains(&handshake), "{handshake}");
    bench.run(Duration::from_secs(2));
    assert_eq!((bench.server.handshakes(), bench.server.sessions()), (0, 1));
    let session = memory.buffers();
    assert!((400..handshake).contains(&session), "{session}");

    // What it can be resumed with counts too, and stays when it ends.
    bench.key_takes = Duration::ZERO;
    bench.connected(config(true));
    assert!(memory.buffers() > 2 * session);
    let mut out = Outputs::default();
    bench.server.close_all(&mut out);
    bench.server_sent(out);
    assert!((100..session).contains(&memory.buffers()));
    bench.server.set_credentials(credentials(false));
    assert_eq!(memory.buffers(), 0);

    bench.connected(config(false));
    drop(bench);
    assert_eq!(memory.buffers(), 0);
}

#[test]
fn where_memory_is_full_nothing_begins_and_the_hello_is_sent_again_in_vain_until_there_is_some() {
    let memory = Arc::new(MemoryLimit::new(100 << 10));
    let mut bench = Bench::with(ServerSettings::default(), credentials(false), 1);
    bench.server.count_in(Arc::clone(&memory));
    let session = bench.connected(config(false));
    memory.set_bus(99 << 10);
    bench.client(1, config(false));
    bench.run(Duration::from_millis(2_500));
    assert_eq!((bench.server.handshakes(), bench.count("begun")), (0, 1));
    assert!(bench.count("refused/memory") >= 2, "the client asks again");
    // Who is there goes on.
    bench.say(0, b"hello");
    bench.tell(session, b"hello yourself");
    assert_eq!(bench.heard(), [b"hello"]);

    memory.set_bus(0);
    bench.run(Duration::from_secs(10));
    assert!(bench.clients[1].1.connected);
}

/// From one half on nothing is kept that a full handshake can do without.
#[test]
fn a_session_can_be_resumed_only_while_there_is_memory_to_keep() {
    for (bus, kept) in [(0, true), (60 << 10, false)] {
        let memory = Arc::new(MemoryLimit::new(100 << 10));
        memory.set_bus(bus);
        let mut bench = Bench::with(ServerSettings::default(), credentials(true), 1);
        bench.server.count_in(memory);
        bench.connected(config(true));
        assert_eq!(bench.server.memory.bytes() > 0, kept);
    }
}

/// Fragments that would make a handshake larger than there is memory for are left out; their client sends them again.
#[test]
fn a_handshake_grows_no_further_than_there_is_memory() {
    let memory = Arc::new(MemoryLimit::new(100 << 10));
    let mut bench = Bench::with(ServerSettings::default(), credentials(true), 1);
    bench.server.count_in(Arc::clone(&memory));
    bench.client(1, config(true));
    // The hello, the cookie, the hello with the cookie, the flight.
    while bench.server.handshakes() == 0 {
        bench.run(Duration::from_millis(1));
    }
    memory.set_bus(100 << 10);
    bench.run(Duration::from_millis(500));
    assert_eq!(bench.server.sessions(), 0);
    assert!(bench.count("dropped/no_room") > 0);
    memory.set_bus(0);
    bench.run(Duration::from_secs(10));
    assert!(bench.clients[0].1.connected);
}
