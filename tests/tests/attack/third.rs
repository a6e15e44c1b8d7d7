//! A third client that has nothing to do with an attack: it publishes to itself, and notes how long each answer takes.

use headgate_mqtt_codec::{Packet, Qos};
use headgate_tests::blackbox::Peer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// It is at work.
pub(crate) struct Third {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

/// What it saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    /// Round trips.
    pub rounds: u64,
    /// The longest of them.
    pub worst: Duration,
}

impl Third {
    /// Begins; the first round trip is done.
    pub(crate) fn begin(port: u16) -> Self {
        let (mut peer, _) = Peer::connect(port, "third", true, 0).expect("it is let in");
        peer.subscribe("third", Qos::AtMostOnce).expect("it subscribes");
        round(&mut peer);
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut report = Report::default();
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                round(&mut peer);
                report.worst = report.worst.max(start.elapsed());
                report.rounds += 1;
                std::thread::sleep(Duration::from_micros(200));
            }
            report
        });
        Self { over, thread }
    }

    /// As long as nobody has cut it off.
    pub(crate) fn is_at_work(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Ends; everything that it sent has come back.
    pub(crate) fn end(self) -> Report {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("all its messages came back")
    }
}

fn round(peer: &mut Peer) {
    peer.publish("third", "x", None, false)
        .expect("the gateway is there");
    let packet = peer.recv().expect("its own message comes back");
    assert!(matches!(packet, Packet::Publish(_)), "{packet:?}");
}
