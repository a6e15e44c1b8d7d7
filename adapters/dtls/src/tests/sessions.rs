//! What happens to sessions.

use super::client::Config;
use super::link::Bench;
use crate::outputs::{CloseReason, Event, Outputs};
use crate::settings::ServerSettings;
use headgate_dtls_codec::{Alert, CipherSuite, Description};
use std::time::Duration;

fn closed(bench: &Bench) -> Vec<(u64, CloseReason)> {
    let closed = bench.events.iter().filter_map(|event| match event {
        Event::Closed { session, reason } => Some((*session, *reason)),
        _ => None,
    });
    closed.collect()
}

fn config() -> Config {
    Config::new(CipherSuite::PskCcm8)
}

fn with_cid() -> Config {
    Config {
        cid: Some(vec![]),
        ..config()
    }
}

/// RFC 5246 §7.2.1
#[test]
fn goodbye_is_answered_and_said() {
    let mut bench = Bench::new(ServerSettings::default());
    let session = bench.connected(config());
    let mut out = Outputs::default();
    let bye = Alert::warning(Description::CLOSE_NOTIFY);
    bench.clients[0].1.alert(bye, &mut out);
    let address = bench.clients[0].0;
    bench.client_sent(address, out);
    bench.run(Duration::from_millis(10));
    assert_eq!(
        closed(&bench),
        [(session, CloseReason::ByClient(Description::CLOSE_NOTIFY))]
    );
    assert_eq!(bench.clients[0].1.alerts, [bye]);

    let session = bench.connected(config());
    let mut out = Outputs::default();
    bench.server.close_all(&mut out);
    bench.server_sent(out);
    bench.run(Duration::from_millis(10));
    assert_eq!(bench.clients[1].1.alerts, [bye]);
    assert!(bench.server.send(session, b"", &mut Outputs::default()).is_err());
    assert_eq!(bench.server.sessions(), 0);
}

#[test]
fn a_silent_session_ends_and_one_that_speaks_does_not() {
    let settings = ServerSettings {
        idle_timeout: Duration::from_secs(100),
        ..ServerSettings::default()
    };
    let mut bench = Bench::new(settings);
    let silent = bench.connected(config());
    bench.connected(config());
    bench.run(Duration::from_secs(60));
    bench.say(1, b"here");
    bench.run(Duration::from_secs(60));
    assert_eq!(closed(&bench), [(silent, CloseReason::Idle)]);
    assert_eq!((bench.server.sessions(), bench.count("sessions/idle")), (1, 1));
    bench.run(Duration::from_secs(60));
    assert_eq!(bench.server.sessions(), 0);
    assert_eq!(bench.server.deadline(), None);
}

/// RFC 6347 §4.2.8
#[test]
fn a_new_handshake_replaces_a_session_when_it_is_complete() {
    for (first, second) in [
        (config(), config()),
        (with_cid(), with_cid()),
        (config(), with_cid()),
    ] {
        let mut bench = Bench::new(ServerSettings::default());
        let old = bench.connected(first);
        let address = bench.clients[0].0;
        // Of a handshake that never ends the session takes no notice.
        let config = Config {
            key: b"wrong".to_vec(),
            seed: 5,
            ..second.clone()
        };
        bench.client(address, config);
        bench.run(Duration::from_millis(10));
        bench.say(0, b"still here");
        bench.clients.pop();
        bench.tell(old, b"and so am I");
        assert_eq!(bench.clients[0].1.data, [b"and so am I"]);
        assert_eq!((bench.heard().len(), closed(&bench).len()), (1, 0));
        bench.client(address, Config { seed: 6, ..second });
        bench.run(Duration::from_millis(10));
        assert!(bench.clients[1].1.connected);
        assert_eq!(closed(&bench), [(old, CloseReason::Replaced)]);
        bench.say(1, b"anew");
        assert_eq!(bench.heard()[1], b"anew");
        assert_eq!(bench.server.sessions(), 1);
    }
}

/// RFC 9146 §6
#[test]
fn a_client_with_a_connection_id_is_found_at_another_address() {
    let mut bench = Bench::new(ServerSettings::default());
    let session = bench.connected(with_cid());
    let old = bench.written(0, b"before");
    bench.clients[0].0 = 77;
    bench.say(0, b"from elsewhere");
    assert_eq!(bench.server.address(session), Some(77));
    bench.tell(session, b"found you");
    assert_eq!(bench.clients[0].1.data, [b"found you"]);
    // What was sent before came late, and is no reason to go back.
    bench.inject(1000, &old);
    assert_eq!(bench.server.address(session), Some(77));
    assert_eq!(bench.heard(), [&b"from elsewhere"[..], b"before"]);
    // The same record again, or a changed one, moves nobody.
    let next = bench.written(0, b"next");
    let mut forged = next.clone();
    *forged.last_mut().unwrap() ^= 1;
    bench.inject(5, &forged);
    assert_eq!(bench.server.address(session), Some(77));
    bench.inject(6, &next);
    assert_eq!(bench.server.address(session), Some(6));
    bench.inject(7, &next);
    assert_eq!(bench.server.address(session), Some(6));
    assert_eq!((bench.count("forged"), bench.count("replayed")), (1, 1));
}

/// Without a Connection ID an address is all that a session is known by.
#[test]
fn a_client_without_a_connection_id_is_lost_at_another_address() {
    let mut bench = Bench::new(ServerSettings::default());
    let session = bench.connected(config());
    bench.clients[0].0 = 77;
    bench.say(0, b"from elsewhere");
    assert_eq!(bench.heard().len(), 0);
    assert_eq!(bench.count("no_session"), 1);
    assert_eq!(bench.server.address(session), Some(1000));
}

/// A client comes to where another without a Connection ID was: both are heard.
#[test]
fn two_clients_may_come_from_one_address() {
    let mut bench = Bench::new(ServerSettings::default());
    let one = bench.connected(config());
    let two = bench.connected(with_cid());
    bench.clients[1].0 = bench.clients[0].0;
    bench.say(1, b"two");
    bench.say(0, b"one");
    assert_eq!(bench.heard(), [b"two", b"one"]);
    assert_eq!(bench.server.address(one), bench.server.address(two));
}

/// Switched off, nobody gets a Connection ID.
#[test]
fn connection_ids_can_be_switched_off() {
    let settings = ServerSettings {
        connection_id: false,
        ..ServerSettings::default()
    };
    let mut bench = Bench::new(settings);
    bench.connected(with_cid());
    bench.say(0, b"hello");
    assert_eq!(bench.heard(), [b"hello"]);
    bench.clients[0].0 = 77;
    bench.say(0, b"hello");
    assert_eq!(bench.heard().len(), 1);
}

/// There may be ten thousand of them, most of which sleep.
#[test]
fn a_session_is_small() {
    let size = size_of::<crate::session::Session<[u64; 3]>>();
    assert!(size <= 400, "{size} bytes");
}
