//! Mutated datagrams for a server with clients, by addresses that are whose they are or not. See [`headgate_fuzz`] for how long, and how to replay a failure.

mod bench;

use bench::{Bench, at};
use bytes::Bytes;
use fastrand::Rng;
use headgate_coap_codec::decode;
use headgate_fuzz::{fuzz, mutate};
use headgate_model::{AccessDecision, Action, Qos};
use std::time::Duration;

const DATAGRAMS: [&[u8]; 10] = [
    b"\x44\x03\x12\x34abcd\xb4mqtt\x05a%2Fb\x43c=1\x03u=2\xff21.5",
    b"\x44\x01\x12\x35abcd\x60\x52ps\x01a\x43c=o",
    b"\x44\x01\x12\x36abcd\x61\x01\x52ps\x01a\x43c=o",
    b"\x54\x02\x12\x37abcd\xb2ps\x01a\x48retain=1\xff21.5",
    b"\x44\x02\x12\x38abcd\xb2ps\x03big\xd1\x03\x08\xff0123456789abcdef",
    b"\x44\x02\x12\x39abcd\xb2ps\x03big\xd1\x03\x10\xff012345678",
    b"\x44\x01\x12\x3aabcd\xb2ps\x03big\xc1\x10",
    b"\x40\x02\x00\x01\xb4mqtt\x0aconnection\x43c=1",
    b"\x40\x01\x00\x02\xbb.well-known\x04core",
    b"\x70\x00\x00\x01",
];

#[derive(Debug)]
enum Happens {
    Datagram(u16, Vec<u8>),
    /// The peer answers what it was sent, or not.
    Answers(u16, u8),
    Publish(usize),
    Time(u64),
    Withheld(bool),
    /// The access service answers nobody meanwhile.
    Silent(bool),
    Kick(&'static str),
    /// The power is cut, and comes back.
    Restart,
}

fn happens(rng: &mut Rng) -> Happens {
    let who = rng.u16(1..4);
    match rng.u8(..20) {
        0..12 => {
            let mut bytes = DATAGRAMS[rng.usize(..DATAGRAMS.len())].to_vec();
            // The message ID is another one, mostly.
            bytes[3] = rng.u8(..);
            for _ in 0..rng.usize(..4) {
                mutate(
                    &mut bytes,
                    &[0xFF, 0x60, 0x61, 0x0D, 0x0E, 0x40, 0x50, 0x60, 0x70],
                    rng,
                );
            }
            Happens::Datagram(who, bytes)
        }
        12..15 => Happens::Answers(who, rng.u8(..)),
        15..17 => Happens::Publish(rng.usize(..3_000)),
        17 => match rng.u8(..4) {
            0 => Happens::Restart,
            _ => Happens::Time(rng.u64(..200_000)),
        },
        18 => match rng.bool() {
            true => Happens::Silent(rng.bool()),
            false => Happens::Kick(["1", "o", "$coap/o/a", "$coap/1/a"][rng.usize(..4)]),
        },
        _ => Happens::Withheld(rng.bool()),
    }
}

#[test]
fn mutated_datagrams_harm_nobody() {
    fuzz(
        |rng| (0..rng.usize(1..40)).map(|_| happens(rng)).collect::<Vec<_>>(),
        |all| {
            let mut bench = Bench::with(|settings| settings.transmission.amplification_limit = 3);
            bench.rule(Action::Publish, "a/b", AccessDecision::Ask);
            bench.rule(Action::Publish, "big", AccessDecision::Deny(Default::default()));
            if all.len() % 2 == 0 {
                bench.disconnect_the_denied();
            }
            // Who answers a ping has proved that it receives.
            let mut answered = [false; 4];
            // Who was there before a restart is pinged, five times at most.
            let mut pings = 0;
            for happening in all {
                match happening {
                    Happens::Datagram(who, bytes) => bench.datagram(at(*who), Bytes::copy_from_slice(bytes)),
                    Happens::Answers(who, kind) => {
                        answered[usize::from(*who)] = true;
                        for message in bench.sent(at(*who)) {
                            let kind = [0x60, 0x70][usize::from(kind & 1)];
                            let [high, low] = message.id.to_be_bytes();
                            bench.datagram(at(*who), Bytes::copy_from_slice(&[kind, 0, high, low]));
                        }
                    }
                    Happens::Publish(bytes) => bench.publish("a", &"x".repeat(*bytes), Qos::AtLeastOnce),
                    Happens::Time(ms) => bench.advance(Duration::from_millis(*ms)),
                    Happens::Withheld(withheld) => bench.withheld = *withheld,
                    Happens::Silent(silent) => bench.silent = *silent,
                    Happens::Kick(client) if bench.has_session(client) => bench.try_kick(client),
                    Happens::Kick(_) => {}
                    Happens::Restart => {
                        bench.restart();
                        (answered, pings) = ([false; 4], 20);
                    }
                }
            }
            for who in 1..4 {
                let (came, went) = bench.traffic.get(&at(who)).copied().unwrap_or_default();
                assert!(
                    answered[usize::from(who)] || went <= 3 * came + pings,
                    "{went} for {came}"
                );
                bench.sent(at(who)).iter().for_each(drop);
            }
            assert!(decode(DATAGRAMS[0]).is_ok());
        },
    );
}
