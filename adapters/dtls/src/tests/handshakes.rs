//! Handshakes that are as they should be, and those that come to nothing.

use super::client::Config;
use super::link::{Bench, Faults};
use super::{credentials, point, signing_key};
use crate::credentials::{Credentials, Shown};
use crate::outputs::{Event, Failure, Reason};
use crate::settings::ServerSettings;
use headgate_dtls_codec::{CipherSuite, Description, KeyExchange};
use std::time::Duration;

fn failures(bench: &Bench) -> Vec<Failure> {
    let failed = bench.events.iter().filter_map(|event| match event {
        Event::Failed { failure, .. } => Some(*failure),
        _ => None,
    });
    failed.collect()
}

/// RFC 4279, RFC 5489, RFC 6655, RFC 7251, RFC 5487, RFC 5289; RFC 7627 and without; RFC 9146 and without.
#[test]
fn every_suite_carries_words_both_ways() {
    for suite in CipherSuite::ALL {
        for extended_master in [true, false] {
            for cid in [None, Some(vec![]), Some(vec![1, 2, 3])] {
                let mut bench = Bench::new(ServerSettings::default());
                let config = Config {
                    cid: cid.clone(),
                    extended_master,
                    ..Config::new(*suite)
                };
                let session = bench.connected(config);
                bench.say(0, b"hello");
                bench.tell(session, b"hello yourself");
                assert_eq!(bench.heard(), [b"hello"], "{suite:?}");
                assert_eq!(bench.clients[0].1.data, [b"hello yourself"]);
                let Some(Event::Opened { peer, .. }) = bench
                    .events
                    .iter()
                    .find(|event| matches!(event, Event::Opened { .. }))
                else {
                    panic!("{:?}", bench.events);
                };
                let has_psk = suite.key_exchange().has_psk();
                assert_eq!(peer.identity.as_deref(), has_psk.then_some(&b"pump-7"[..]));
                assert_eq!((peer.suite, peer.connection_id), (*suite, cid.is_some()));
                assert_eq!(bench.server.handshakes(), 0);
                assert_eq!(failures(&bench), []);
            }
        }
    }
}

/// RFC 5246 §7.4.6, §7.4.8; RFC 7250 §4: what both show is the client's favourite. \[RFC7252-9.1.3.2-1\]
#[test]
fn a_client_shows_a_certificate_or_a_raw_key_that_is_known() {
    for (types, is_raw) in [
        (&[][..], false),
        (&[2], true),
        (&[2, 0], true),
        (&[0, 2], false),
        (&[7, 0], false),
    ] {
        let mut bench = Bench::with(ServerSettings::default(), credentials(true), 1);
        let config = Config {
            certificate: Some(signing_key(2)),
            types,
            ..Config::new(CipherSuite::EcdheEcdsaCcm8)
        };
        bench.connected(config);
        let shown = bench.events.iter().find_map(|event| match event {
            Event::Opened { peer, .. } => peer.shown.clone(),
            _ => None,
        });
        let key = point(&signing_key(2));
        let wanted = match is_raw {
            true => Shown::RawKey(key),
            false => Shown::Certificates(vec![key]),
        };
        assert_eq!(shown, Some(wanted));
    }
}

#[test]
fn a_client_that_shows_nothing_or_something_else_is_refused() {
    let cases = [
        (None, Description::HANDSHAKE_FAILURE),
        (Some(signing_key(3)), Description::UNKNOWN_CA),
    ];
    for (certificate, alert) in cases {
        let mut bench = Bench::with(ServerSettings::default(), credentials(true), 1);
        let config = Config {
            certificate,
            ..Config::new(CipherSuite::EcdheEcdsaCcm8)
        };
        bench.client(1, config);
        bench.run(Duration::from_secs(100));
        assert!(!bench.clients[0].1.connected);
        assert_eq!(failures(&bench)[0], Failure::new(Reason::Certificate, alert));
        assert_eq!(bench.clients[0].1.alerts[0].description, alert);
        assert_eq!((bench.server.sessions(), bench.server.handshakes()), (0, 0));
    }
}

/// RFC 4279 §5.3: the answer to an unknown identity is that to a wrong key.
#[test]
fn an_unknown_identity_cannot_be_told_from_a_wrong_key() {
    let told = |identity: &[u8], key: &[u8]| {
        let mut bench = Bench::new(ServerSettings::default());
        let config = Config {
            identity: identity.to_vec(),
            key: key.to_vec(),
            ..Config::new(CipherSuite::PskCcm8)
        };
        bench.client(1, config);
        bench.run(Duration::from_secs(100));
        assert_eq!(
            failures(&bench),
            [Failure::new(Reason::WrongKey, Description::BAD_RECORD_MAC)]
        );
        assert_eq!((bench.server.sessions(), bench.server.handshakes()), (0, 0));
        assert_eq!(bench.count("failed/wrong_key"), 1);
        let answers = bench.seen.iter().filter(|(to_server, ..)| !to_server);
        answers.map(|(_, _, bytes)| bytes.len()).collect::<Vec<_>>()
    };
    assert_eq!(told(b"pump-7", b"another key"), told(b"pump-8", b"secret key"));
}

/// RFC 6347 §4.2.4
#[test]
fn loss_doubling_and_disorder_delay_a_handshake_and_no_more() {
    let mut resent = 0;
    for seed in 0..200 {
        let suite = CipherSuite::ALL[seed as usize % CipherSuite::ALL.len()];
        let mut bench = Bench::with(ServerSettings::default(), credentials(false), seed);
        bench.faults = Faults {
            lost: 25,
            doubled: 20,
            late: 30,
        };
        bench.key_takes = Duration::from_millis(300 * (seed % 3));
        let config = Config {
            cid: (seed % 2 == 0).then(|| vec![9]),
            datagram: 200,
            seed,
            ..Config::new(suite)
        };
        bench.client(1, config.clone());
        // A client may begin anew when its handshake has come to nothing.
        for round in 1..5 {
            bench.run(Duration::from_secs(60));
            let connected = bench.clients.last().unwrap().1.connected;
            if connected {
                break;
            }
            let config = Config {
                seed: seed + 1000 * round,
                ..config.clone()
            };
            bench.client(1, config);
        }
        assert!(bench.clients.last().unwrap().1.connected, "seed {seed} {suite:?}");
        assert!(bench.count("completed") >= 1);
        assert_eq!(bench.count("failed/wrong_key"), 0, "seed {seed} {suite:?}");
        bench.faults = Faults::default();
        bench.run(Duration::from_secs(1));
        let said = bench.clients.len() - 1;
        bench.say(said, b"after all");
        assert_eq!(bench.heard(), [b"after all"], "seed {seed} {suite:?}");
        resent += bench.count("resent");
    }
    assert!(resent > 100);
}

/// RFC 6347 §4.2.4: without its end the client says again what it said, and gets it.
#[test]
fn the_end_of_a_handshake_is_sent_again() {
    let mut bench = Bench::new(ServerSettings::default());
    bench.client(1, Config::new(CipherSuite::PskCcm8));
    while bench.server.sessions() == 0 {
        bench.run(Duration::from_millis(1));
    }
    bench.faults.lost = 100;
    // What is under way is lost too.
    bench.drop_all();
    bench.run(Duration::from_millis(500));
    bench.faults.lost = 0;
    assert!(!bench.clients[0].1.connected);
    bench.run(Duration::from_secs(2));
    assert!(bench.clients[0].1.connected);
}

/// RFC 6347 §4.1.1.1: who does not answer long datagrams gets shorter ones.
#[test]
fn a_path_that_is_narrow_is_passed_in_the_end() {
    let mut bench = Bench::new(ServerSettings::default());
    bench.widest = 600;
    bench.client(1, Config::new(CipherSuite::EcdheEcdsaCcm8));
    bench.run(Duration::from_secs(30));
    assert!(bench.clients[0].1.connected);
    assert!(bench.count("resent") >= 2);
}

/// A client that offers nothing of ours hears of it, once its address is proved.
#[test]
fn nothing_in_common_is_told() {
    let settings = ServerSettings {
        suites: vec![CipherSuite::PskCcm8],
        ..ServerSettings::default()
    };
    let mut bench = Bench::new(settings);
    bench.client(1, Config::new(CipherSuite::PskGcm));
    // Without encrypt-then-MAC there is no CBC: RFC 7366 §1.
    bench.run(Duration::from_millis(10));
    let failure = Failure::new(Reason::NothingInCommon, Description::HANDSHAKE_FAILURE);
    assert_eq!(failures(&bench), [failure]);
    assert_eq!(bench.clients[0].1.alerts.len(), 1);
    let mut bench = Bench::new(ServerSettings::default());
    let config = Config {
        encrypt_then_mac: false,
        ..Config::new(CipherSuite::PskCbc)
    };
    bench.client(1, config);
    bench.run(Duration::from_millis(10));
    assert_eq!(failures(&bench), [failure]);
}

/// Suites with certificates need the server's key, those with shared keys need some.
#[test]
fn suites_are_offered_as_far_as_there_are_credentials() {
    let none = Credentials::default();
    for (credentials, exchange) in [
        (
            Credentials {
                psk: true,
                ..none.clone()
            },
            KeyExchange::Psk,
        ),
        (
            Credentials {
                psk: false,
                ..credentials(false)
            },
            KeyExchange::EcdheEcdsa,
        ),
    ] {
        let mut bench = Bench::with(ServerSettings::default(), credentials, 1);
        let config = Config {
            suites: vec![CipherSuite::EcdheEcdsaGcm, CipherSuite::PskGcm],
            ..Config::new(CipherSuite::PskGcm)
        };
        bench.connected(config);
        assert_eq!(bench.clients[0].1.agreed.unwrap().key_exchange(), exchange);
    }
    let mut bench = Bench::with(ServerSettings::default(), none, 1);
    bench.client(1, Config::new(CipherSuite::PskGcm));
    bench.run(Duration::from_millis(10));
    assert_eq!(failures(&bench)[0].reason, Reason::NothingInCommon);
}

/// RFC 6066 §4
#[test]
fn a_client_with_little_room_gets_short_records() {
    let mut bench = Bench::new(ServerSettings::default());
    let config = Config {
        max_fragment_length: Some(1),
        ..Config::new(CipherSuite::EcdheEcdsaCcm8)
    };
    let session = bench.connected(config);
    let mut out = crate::Outputs::default();
    assert!(bench.server.send(session, &[0; 512], &mut out).is_ok());
    assert!(bench.server.send(session, &[0; 513], &mut out).is_err());
}
