//! Conversations that no client would have, with the real bus. See [`headgate_fuzz`] for how long, and how to replay a failure.
//!
//! Whatever is said, nothing panics, the bus's sums are right, and a client that says DISCONNECT gets its RECEIPT: no frame waits for ever.

mod bench;

use bench::Bench;
use fastrand::Rng;
use headgate_fuzz::{fuzz, mutate};
use headgate_model::Qos;
use std::time::Duration;

const FRAMES: [&str; 22] = [
    "SEND\ndestination:t\nreceipt:r\n\nx",
    "SEND\ndestination:t\nqos:0\nretain:true\n\nx",
    "SEND\ndestination:t\nqos:2\ntransaction:1\n\nx",
    "SEND\ndestination:t\nmessage-expiry:1\na\\cb:c\nreply-to:u\n\nx",
    "SUBSCRIBE\nid:0\ndestination:t\n\n",
    "SUBSCRIBE\nid:1\ndestination:+\nack:client\nreceipt:r\n\n",
    "SUBSCRIBE\nid:2\ndestination:$share/g/t\nack:client-individual\nprefetch-count:2\nqos:2\n\n",
    "SUBSCRIBE\nid:3\ndestination:t\nack:client\ndurable:true\nqos:2\n\n",
    "SUBSCRIBE\nid:3\ndestination:u\ndurable:true\nreceipt:r\n\n",
    "UNSUBSCRIBE\nid:0\n\n",
    "UNSUBSCRIBE\nid:1\nreceipt:r\n\n",
    "UNSUBSCRIBE\nid:2\n\n",
    "UNSUBSCRIBE\nid:3\n\n",
    "UNSUBSCRIBE\nid:3\ndurable:true\nreceipt:r\n\n",
    "BEGIN\ntransaction:1\n\n",
    "COMMIT\ntransaction:1\nreceipt:r\n\n",
    "ABORT\ntransaction:1\n\n",
    "ACK\nid:1-1\nreceipt:r\n\n",
    "ACK\nid:2-2\n\n",
    "NACK\nid:2-1\nreceipt:r\n\n",
    "ACK\nid:3-1\ntransaction:1\nreceipt:r\n\n",
    "NACK\nid:1-2\ntransaction:1\n\n",
];

/// One thing that happens.
#[derive(Clone, Debug)]
enum Happens {
    Said(Vec<u8>),
    Published(Qos),
    Passed(u64),
    /// Nothing is committed from now on, or everything again.
    Withheld(bool),
    /// Another connection of the same client.
    Again,
}

#[test]
fn no_conversation_leaves_a_frame_waiting() {
    fuzz(
        |rng| (0..rng.usize(1..25)).map(|_| happening(rng)).collect::<Vec<_>>(),
        |happenings| check(happenings),
    );
}

fn happening(rng: &mut Rng) -> Happens {
    match rng.u8(..24) {
        0 | 1 => Happens::Passed(rng.u64(..3_000)),
        8 => Happens::Withheld(rng.bool()),
        kind @ 9..=12 => {
            let frames = (0..kind - 7).map(|_| said(rng));
            Happens::Said(frames.collect::<Vec<_>>().concat())
        }
        2..=5 => Happens::Published(Qos::from_u8(rng.u8(..3)).unwrap_or_default()),
        6 => Happens::Again,
        kind => {
            let mut frame = said(rng);
            if kind == 7 {
                mutate(&mut frame, b"\0\n:\\r0123", rng);
            }
            Happens::Said(frame)
        }
    }
}

/// One frame.
fn said(rng: &mut Rng) -> Vec<u8> {
    let mut frame = FRAMES[rng.usize(..FRAMES.len())].as_bytes().to_vec();
    frame.push(0);
    // Numbers of subscriptions and messages are small.
    if let Some(at) = frame.windows(4).position(|part| part == b"\nid:")
        && frame.get(at + 5) == Some(&b'-')
    {
        (frame[at + 4], frame[at + 6]) = (b'1' + rng.u8(..4), b'1' + rng.u8(..4));
    }
    frame
}

fn check(happenings: &[Happens]) {
    let mut bench = Bench::with(|settings| {
        settings.dead_letter_prefix = "dead/".into();
        settings.max_redeliveries = 1;
    });
    let names = ["a", "b"];
    let mut connections = 0;
    let connect = |bench: &mut Bench, connections: &mut usize| {
        *connections += 1;
        bench.withheld = false;
        let name = names[*connections % 2];
        bench.connect_as(name, "accept-version:1.2\nhost:h\nclient-id:same");
        name
    };
    let mut client = connect(&mut bench, &mut connections);
    for happening in happenings {
        match happening {
            Happens::Said(bytes) => bench.raw(client, bytes),
            Happens::Published(qos) => bench.deliver("t", "y", *qos),
            Happens::Passed(ms) => bench.advance_ms(*ms),
            Happens::Withheld(withheld) => bench.withheld = *withheld,
            Happens::Again => {}
        }
        if bench.is_closed(client) || matches!(happening, Happens::Again) {
            client = connect(&mut bench, &mut connections);
        }
    }
    bench.withheld = false;
    // What a mutation left unfinished is finished first.
    bench.raw(client, b"\0");
    bench.send(client, "DISCONNECT\nreceipt:last\n\n");
    let heard = bench.heard(client);
    assert!(bench.is_closed(client), "{heard:?}");
    assert!(bench.steps < 10_000, "it goes on and on");
    bench.advance(Duration::from_secs(1));
}
