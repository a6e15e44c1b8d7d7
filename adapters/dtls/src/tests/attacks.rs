//! What others may try, and that it does nothing.

use super::client::Config;
use super::link::Bench;
use crate::outputs::{Event, Reason};
use crate::settings::ServerSettings;
use headgate_dtls_codec::{CipherSuite, ContentType, DTLS_1_2, RecordHeader};
use headgate_fuzz::{fuzz, mutate};
use std::time::Duration;

/// RFC 6347 §4.2.1
#[test]
fn an_address_that_has_proved_nothing_costs_nothing_and_gets_no_more_than_it_sent() {
    let mut bench = Bench::new(ServerSettings::default());
    bench.client(1, Config::new(CipherSuite::PskCcm8));
    bench.run(Duration::from_millis(1));
    let (_, _, hello) = bench.seen[0].clone();
    for from in 10..10_000 {
        let answers = bench.inject(from, &hello);
        let bytes: usize = answers.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes > 0 && bytes <= hello.len(), "{bytes} for {}", hello.len());
    }
    assert_eq!((bench.server.handshakes(), bench.server.sessions()), (0, 0));
    // A cookie is of no use elsewhere.
    bench.run(Duration::from_millis(2));
    let with_cookie = bench.seen.iter().filter(|(to_server, ..)| *to_server);
    let with_cookie = with_cookie.map(|(_, _, bytes)| bytes.clone()).nth(1).unwrap();
    let begun = bench.count("begun");
    let answers = bench.inject(4, &with_cookie);
    assert!(answers[0].1.len() <= with_cookie.len());
    assert_eq!(bench.count("begun"), begun);
}

#[test]
fn what_is_no_record_is_dropped_and_counted() {
    let mut bench = Bench::new(ServerSettings::default());
    for bytes in [&[0xFF][..], &[22, 0xFE, 0xFD], b"GET / HTTP/1.1"] {
        assert_eq!(bench.inject(1, bytes), []);
    }
    assert_eq!(bench.count("malformed"), 3);
}

#[test]
fn the_oldest_handshake_gives_way_and_the_session_that_was_silent_longest() {
    let settings = ServerSettings {
        max_handshakes: 3,
        max_sessions: 2,
        ..ServerSettings::default()
    };
    let mut bench = Bench::new(settings);
    bench.key_takes = Duration::from_secs(1);
    for address in 1..=5 {
        let config = Config {
            seed: address.into(),
            ..Config::new(CipherSuite::PskCcm8)
        };
        bench.client(address, config);
        bench.run(Duration::from_millis(10));
    }
    assert_eq!((bench.server.handshakes(), bench.count("crowded")), (3, 2));
    let crowded = bench.events.iter().filter_map(|event| match event {
        Event::Failed { address, failure, .. } if failure.reason == Reason::Crowded => Some(*address),
        _ => None,
    });
    assert_eq!(crowded.collect::<Vec<_>>(), [1, 2]);
    bench.run(Duration::from_secs(5));
    assert_eq!((bench.server.sessions(), bench.count("sessions/crowded")), (2, 1));
    bench.key_takes = Duration::ZERO;
    // Not the oldest, but the one that is silent.
    let (spoke, silent) = (3, 4);
    bench.say(spoke, b"here");
    bench.run(Duration::from_secs(10));
    bench.connected(Config {
        seed: 99,
        ..Config::new(CipherSuite::PskCcm8)
    });
    bench.say(silent, b"lost");
    bench.say(spoke, b"here");
    bench.say(5, b"new");
    assert_eq!(bench.heard(), [&b"here"[..], b"here", b"new"]);
    assert_eq!(bench.server.sessions(), 2);
}

#[test]
fn no_more_handshakes_begin_in_a_second_than_may() {
    let settings = ServerSettings {
        max_handshakes_per_second: 3,
        ..ServerSettings::default()
    };
    let mut bench = Bench::new(settings);
    for address in 1..=9 {
        let config = Config {
            seed: address.into(),
            ..Config::new(CipherSuite::PskCcm8)
        };
        bench.client(address, config);
    }
    bench.run(Duration::from_millis(900));
    assert_eq!((bench.count("completed"), bench.count("refused/rate")), (3, 6));
    bench.run(Duration::from_secs(20));
    assert_eq!(bench.count("completed"), 9);
}

#[test]
fn what_somebody_else_sends_in_a_clients_name_ends_nothing() {
    let mut bench = Bench::new(ServerSettings::default());
    let session = bench.connected(Config::new(CipherSuite::PskCcm8));
    let address = bench.clients[0].0;
    let record = |content, epoch, payload: &[u8]| {
        let header = RecordHeader {
            content,
            version: DTLS_1_2,
            epoch,
            sequence: 900,
            cid: &[7; crate::CID_LEN],
        };
        let mut bytes = Vec::new();
        header.write(payload.len(), &mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    };
    for content in [
        ContentType::Alert,
        ContentType::Handshake,
        ContentType::ApplicationData,
        ContentType::ChangeCipherSpec,
        ContentType::Tls12Cid,
    ] {
        for epoch in [0, 1, 2] {
            for payload in [&[2, 40][..], &[1, 0], &[1], &[7; 40], &[]] {
                assert_eq!(bench.inject(address, &record(content, epoch, payload)), []);
            }
        }
    }
    bench.say(0, b"still here");
    assert_eq!(bench.heard(), [b"still here"]);
    assert_eq!(bench.server.address(session), Some(address));
    assert!(bench.count("forged") > 0 && bench.count("unprotected") > 0);
    // Whoever sends a record again is not heard again. RFC 6347 §4.1.2.6
    let (_, _, last) = bench.seen.last().cloned().unwrap();
    bench.inject(address, &last);
    assert_eq!((bench.heard().len(), bench.count("replayed")), (1, 1));
}

/// An alert without protection may be anybody's: the handshake goes on, and should nothing come of it, that is told as the reason.
#[test]
fn an_alert_without_protection_is_a_reason_and_no_more() {
    for goes_on in [true, false] {
        let mut bench = Bench::new(ServerSettings::default());
        bench.key_takes = Duration::from_secs(if goes_on { 1 } else { 1000 });
        bench.client(1, Config::new(CipherSuite::PskCcm8));
        bench.run(Duration::from_millis(50));
        let alert = [21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 48];
        assert_eq!(bench.inject(1, &alert), []);
        if !goes_on {
            bench.clients.clear();
            bench.drop_all();
        }
        bench.run(Duration::from_secs(200));
        let (completed, failed) = (bench.count("completed"), bench.count("failed/alert"));
        assert_eq!((completed, failed), if goes_on { (1, 0) } else { (0, 1) });
    }
}

/// Datagrams of handshakes and sessions, changed in some places: nobody panics, and who is there is heard.
#[test]
fn mutated_datagrams_harm_nobody() {
    let mut bench = Bench::new(ServerSettings::default());
    for (n, suite) in (0..).zip(CipherSuite::ALL) {
        let config = Config {
            cid: (n % 2 == 0).then(|| vec![4]),
            datagram: 150,
            seed: n,
            ..Config::new(*suite)
        };
        bench.connected(config);
        bench.say(n as usize, b"hello");
    }
    let seeds: Vec<(u16, Vec<u8>)> = bench
        .seen
        .iter()
        .filter(|(to_server, ..)| *to_server)
        .map(|(_, from, bytes)| (*from, bytes.clone()))
        .collect();
    let bench = std::cell::RefCell::new(bench);
    fuzz(
        |rng| {
            let (from, mut bytes) = seeds[rng.usize(..seeds.len())].clone();
            for _ in 0..rng.usize(1..8) {
                mutate(&mut bytes, &[0, 1, 22, 25, 0xFE, 0xFF], rng);
            }
            (from, bytes)
        },
        |(from, bytes)| {
            let mut bench = bench.borrow_mut();
            bench.now = bench.now + Duration::from_millis(1);
            let answered: usize = bench
                .inject(*from, bytes)
                .iter()
                .map(|(_, bytes)| bytes.len())
                .sum();
            assert!(answered <= 20_000);
            let known = bench.server.sessions();
            assert_eq!(known, CipherSuite::ALL.len(), "a session came or went");
            bench.events.clear();
        },
    );
    let mut bench = bench.into_inner();
    bench.now = bench.now + Duration::from_secs(1);
    for n in 0..CipherSuite::ALL.len() {
        bench.say(n, b"still here");
    }
    assert_eq!(bench.heard().len(), CipherSuite::ALL.len());
}
