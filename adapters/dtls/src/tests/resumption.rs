//! Sessions that are resumed. RFC 5246 §7.3, RFC 7627 §5.3

use super::client::Config;
use super::link::{Bench, Faults};
use super::{credentials, signing_key};
use crate::outputs::{Event, Outputs};
use crate::settings::ServerSettings;
use headgate_dtls_codec::{Alert, CipherSuite, Description};
use std::time::Duration;

const SUITE: CipherSuite = CipherSuite::EcdheEcdsaCcm8;

fn config() -> Config {
    Config {
        certificate: Some(signing_key(2)),
        ..Config::new(SUITE)
    }
}

/// A bench with a client that was there, and that client as it comes back.
fn known(settings: ServerSettings) -> (Bench, Config) {
    let mut bench = Bench::with(settings, credentials(true), 1);
    bench.connected(config());
    let client = &bench.clients[0].1;
    let resume = Some((client.session.clone(), client.master.clone().unwrap()));
    let again = Config {
        resume,
        seed: 2,
        ..config()
    };
    (bench, again)
}

#[test]
fn a_client_that_comes_back_spares_the_signatures_and_is_who_it_was() {
    for cid in [None, Some(vec![7])] {
        let (mut bench, again) = known(ServerSettings::default());
        bench.seen.clear();
        let session = bench.connected(Config { cid, ..again });
        assert!(bench.clients[1].1.was_resumed);
        let bytes: usize = bench.seen.iter().map(|(_, _, bytes)| bytes.len()).sum();
        assert!(bytes < 900, "{bytes}");
        bench.say(1, b"hello");
        bench.tell(session, b"hello yourself");
        assert_eq!(bench.heard(), [b"hello"]);
        assert_eq!(bench.clients[1].1.data, [b"hello yourself"]);
        let shown = bench.events.iter().filter_map(|event| match event {
            Event::Opened { peer, .. } => Some(peer.shown.clone()),
            _ => None,
        });
        let shown: Vec<_> = shown.collect();
        assert!(shown[0].is_some() && shown[0] == shown[1]);
        assert_eq!((bench.count("completed"), bench.count("resumed")), (2, 1));
    }
}

/// RFC 6347 §4.2.4: the last flight is the client's.
#[test]
fn loss_delays_it_and_no_more() {
    for seed in 0..100 {
        let (mut bench, again) = known(ServerSettings::default());
        bench.faults = Faults {
            lost: 30,
            doubled: 20,
            late: 30,
        };
        bench.client(
            7,
            Config {
                seed: 100 + seed,
                ..again
            },
        );
        bench.run(Duration::from_secs(59));
        bench.faults = Faults::default();
        bench.run(Duration::from_secs(30));
        let client = &bench.clients[1].1;
        assert!(client.connected && client.was_resumed, "seed {seed}");
        bench.say(1, b"after all");
        assert_eq!(bench.heard(), [b"after all"], "seed {seed}");
    }
}

#[test]
fn what_is_not_as_it_was_is_a_full_handshake() {
    let is_resumed = |bench: &mut Bench, config: Config| {
        bench.connected(config);
        bench.clients.last().unwrap().1.was_resumed
    };
    let fresh = ServerSettings::default;
    // RFC 7627 §5.3
    let (mut bench, again) = known(fresh());
    let without = Config {
        extended_master: false,
        ..again
    };
    assert!(!is_resumed(&mut bench, without));
    // Another suite.
    let (mut bench, again) = known(fresh());
    let other = Config {
        suites: vec![CipherSuite::EcdheEcdsaGcm],
        ..again
    };
    assert!(!is_resumed(&mut bench, other));
    // A day later.
    let (mut bench, again) = known(ServerSettings {
        idle_timeout: Duration::from_secs(1_000_000),
        ..fresh()
    });
    bench.run(Duration::from_secs(86_300));
    assert!(is_resumed(&mut bench, again.clone()));
    bench.run(Duration::from_secs(200));
    assert!(!is_resumed(&mut bench, Config { seed: 3, ..again }));
    // Other credentials.
    let (mut bench, again) = known(fresh());
    bench.server.set_credentials(credentials(true));
    assert!(!is_resumed(&mut bench, again));
    // Switched off.
    let (mut bench, again) = known(ServerSettings {
        resumption: false,
        ..fresh()
    });
    assert!(bench.clients[0].1.session.is_empty());
    assert!(!is_resumed(&mut bench, again));
    // RFC 5246 §7.2.2: after a fatal alert.
    let (mut bench, again) = known(fresh());
    let mut out = Outputs::default();
    bench.clients[0]
        .1
        .alert(Alert::fatal(Description::INTERNAL_ERROR), &mut out);
    let address = bench.clients[0].0;
    bench.client_sent(address, out);
    bench.run(Duration::from_millis(10));
    assert!(!is_resumed(&mut bench, again));
}

/// Who does not know the secret gets nowhere with the name.
#[test]
fn the_name_of_a_session_alone_is_of_no_use() {
    let (mut bench, again) = known(ServerSettings::default());
    let (id, _) = again.resume.clone().unwrap();
    let stolen = Config {
        resume: Some((id, zeroize::Zeroizing::new([9; 48]))),
        ..again
    };
    bench.client(7, stolen);
    bench.run(Duration::from_secs(100));
    let thief = &bench.clients[1].1;
    assert!(thief.is_confused && !thief.connected);
    assert_eq!(bench.server.sessions(), 1);
}

/// Sessions with shared keys ask for the key each time.
#[test]
fn sessions_with_shared_keys_are_not_resumed() {
    let mut bench = Bench::new(ServerSettings::default());
    bench.connected(Config::new(CipherSuite::EcdhePskCcm8));
    assert!(bench.clients[0].1.session.is_empty());
}
