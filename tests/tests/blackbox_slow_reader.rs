//! A client that stops reading while a thousand others publish, and a flood beyond the ceiling of memory: the process lives, others are served, and what was dropped is counted.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Daemon, Message, Peer, Setup, Transport, allow_connections, eventually};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const PUBLISHERS: usize = 1_000;
const EACH: usize = 40;
const PAYLOAD: usize = 2_048;
/// What the process may take beside the ledger of memory: the program, the store, a thousand connections. Unoptimised it takes about half.
const BESIDE: u64 = 128 << 20;

/// The sum of a counter's samples, those with this label alone if one is given.
fn counted(daemon: &Daemon<'_>, name: &str, label: Option<(&str, &str)>) -> u64 {
    let families = daemon.ask(&["metrics", name]);
    let families = families.as_array().cloned().unwrap_or_else(|| vec![families]);
    let samples = families.iter().filter(|family| family["name"] == name);
    let samples = samples.flat_map(|family| family["samples"].as_array().cloned().unwrap_or_default());
    let wanted = samples.filter(|sample| label.is_none_or(|(key, value)| sample["labels"][key] == value));
    wanted
        .filter_map(|sample| sample["value"].as_f64())
        .map(|value| value as u64)
        .sum()
}

/// The highest memory of the gateway while something is done.
fn peak_while<T: Send>(daemon: &Daemon<'_>, work: impl FnOnce() -> T + Send) -> (u64, T) {
    let over = AtomicBool::new(false);
    let peak = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let (over, peak) = (&over, &peak);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(daemon.memory(), Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        // It ends also when this panics.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (peak.load(Ordering::Relaxed), done)
    })
}

/// A thousand clients publish at QoS 1, a few threads speak for all of them; everything is acknowledged.
fn publish_by_a_thousand(port: u16) {
    std::thread::scope(|scope| {
        for part in 0..8 {
            scope.spawn(move || {
                let mine = (part..PUBLISHERS).step_by(8);
                let mut peers: Vec<(usize, Peer)> = mine
                    .map(|n| (n, Peer::connect(port, &format!("p{n}"), true, 0).unwrap().0))
                    .collect();
                for round in 0..EACH {
                    for (n, peer) in &mut peers {
                        let payload = format!("{round:0>PAYLOAD$}");
                        peer.say(&[Message::new(&format!("load/{n}"), 1, &payload)]);
                    }
                }
            });
        }
    });
}

#[test]
fn who_stops_reading_harms_nobody() {
    allow_connections();
    let setup = Setup::with("[bus]\nmax_queued_messages = 1000\nmax_queued_bytes = 4194304\n");
    let mut daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let mut deaf = Peer::connect(port, "deaf", true, 0).unwrap().0;
    deaf.subscribe("load/#", Qos::AtLeastOnce).unwrap();
    // Somebody who reads gets everything, in the order of each publisher.
    let mut reader = Peer::connect(port, "reader", true, 0).unwrap().0;
    reader.subscribe("load/7", Qos::AtLeastOnce).unwrap();
    let before = daemon.memory();
    let (peak, heard) = peak_while(&daemon, || {
        std::thread::scope(|scope| {
            let reads = scope.spawn(move || (0..EACH).map(|_| reader.hear().payload).collect::<Vec<_>>());
            publish_by_a_thousand(port);
            reads.join().unwrap()
        })
    });
    let expected: Vec<String> = (0..EACH).map(|round| format!("{round:0>PAYLOAD$}")).collect();
    assert_eq!(heard, expected);
    // 80 MiB came for the deaf one; its queue has room for 4.
    let held = peak.saturating_sub(before);
    assert!(held < BESIDE, "{} MiB more than before", held >> 20);
    let dropped = counted(
        &daemon,
        "headgate_messages_dropped_total",
        Some(("reason", "queue_full")),
    );
    let all = (PUBLISHERS * EACH) as u64;
    assert!(dropped > all / 2 && dropped < all, "{dropped} of {all}");
    drop(deaf);
    assert!(daemon.is_alive());
    daemon.stop();
}

#[test]
fn a_flood_is_shed_and_the_process_lives() {
    allow_connections();
    let setup = Setup::with(
        "[bus]\nmax_memory_bytes = 67108864\nmax_queued_bytes = 0\nmax_queued_messages = 0\nstore_qos0 = true\n",
    );
    let mut daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let mut deaf: Vec<Peer> = (0..20)
        .map(|n| Peer::connect(port, &format!("deaf{n}"), true, 0).unwrap().0)
        .collect();
    for peer in &mut deaf {
        peer.subscribe("flood/#", Qos::AtMostOnce).unwrap();
    }
    let done = AtomicU64::new(0);
    let (peak, ()) = peak_while(&daemon, || {
        std::thread::scope(|scope| {
            for n in 0..8 {
                let done = &done;
                scope.spawn(move || {
                    let payload = "x".repeat(16 << 10);
                    let messages: Vec<Message> = (0..1_500)
                        .map(|_| Message::new(&format!("flood/{n}"), 0, &payload))
                        .collect();
                    let mut peer = Peer::connect(port, &format!("flood{n}"), true, 0).unwrap().0;
                    for message in &messages {
                        // Who is shed, as one that holds half a packet may be, publishes no more.
                        let sent = peer.publish(&message.topic, &message.payload, None, false);
                        if sent.is_err() {
                            break;
                        }
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
    });
    assert_eq!(done.load(Ordering::Relaxed), 8);
    // The ceiling is for the ledger.
    assert!(peak < (64 << 20) + BESIDE, "{} MiB", peak >> 20);
    let dropped = || {
        counted(&daemon, "headgate_messages_dropped_total", None)
            + counted(&daemon, "headgate_clients_shed_total", None)
    };
    eventually("something to be shed", || (dropped() > 0).then_some(()));
    // Then there is room again.
    drop(deaf);
    let memory = || counted(&daemon, "headgate_memory_bytes", None);
    eventually("memory to be free", || (memory() < 16 << 20).then_some(()));
    let mut after = Peer::connect(port, "after", true, 0).unwrap().0;
    after.subscribe("t/after", Qos::AtLeastOnce).unwrap();
    after.say(&[Message::new("t/after", 0, "served")]);
    assert_eq!(after.hear().payload, "served");
    let status: Value = daemon.ask(&["status"]);
    assert!(status.is_object(), "{status}");
    assert!(daemon.is_alive(), "{}", setup.log());
    daemon.stop();
}
