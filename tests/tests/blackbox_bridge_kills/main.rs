//! The gateway and its remote, Debian's mosquitto, are killed while messages go out and come in, and a relay between them writes down who acknowledged what.
//! \[MQTT-4.3.2\] \[MQTT-4.3.3\] \[MQTT-4.4.0-1\]
//!
//! Whoever acknowledged a message answers for it. mosquitto keeps what it acknowledged in memory and saves it from time to time (`autosave_interval` in
//! mosquitto.conf(5)), so what a killed one had acknowledged may be gone; what it had not must come. `HEADGATE_BRIDGE_KILLS` is the number of rounds, and with it
//! come the figures: `HEADGATE_BRIDGE_KILLS=60 cargo test -p headgate-tests --test blackbox_bridge_kills -- --nocapture`.

#![allow(clippy::print_stdout, reason = "figures of a long run are worth reading")]

mod clients;
mod recorder;
mod steps;

use clients::{Reader, Writer};
use headgate_mqtt_codec::{Qos, Version};
use headgate_tests::blackbox::{Daemon, Message, Mosquitto, Peer, Setup, Transport, eventually};
use recorder::{Recorder, Side};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// Restored from its file, mosquitto 2.0.11 counts what is under way wrongly: it answers PUBLISH with PUBREC and 0x97, which version 3.1.1 cannot carry, drops the message and then the
/// connection. Without a limit there is nothing to count.
const UNLIMITED: &str = "max_inflight_messages 0\nmax_queued_messages 0\n";

/// Rounds if nobody wants more: each of the first ones is of another kind.
const ROUNDS: u64 = 4;
const MESSAGES: usize = 600;
/// Messages of a round of a long run.
const MANY: usize = 6_000;
const UP: &str = "up";
const DOWN: &str = "down";
/// What it is that mosquitto is told to save after each change.
const SAVING: &str = "autosave_on_changes true\nautosave_interval 1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Gateway,
    /// It comes back at once, or only after the next kill.
    Remote {
        late: bool,
    },
}

/// What happens in a round.
#[derive(Debug)]
struct Trial {
    qos: Qos,
    version: Version,
    /// What goes out goes in batches.
    batch: bool,
    /// mosquitto saves each change.
    saving: bool,
    /// At so many acknowledged messages, and so much later.
    kills: Vec<(usize, Duration, Victim)>,
}

impl Trial {
    fn of(seed: u64, messages: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let qos = if seed.is_multiple_of(2) {
            Qos::AtLeastOnce
        } else {
            Qos::ExactlyOnce
        };
        let late = random.bool();
        let victims = match seed % 4 {
            3 => [Victim::Gateway; 3],
            _ => [Victim::Gateway, Victim::Remote { late }, Victim::Gateway],
        };
        let mut at: Vec<usize> = victims.iter().map(|_| random.usize(1..messages)).collect();
        at.sort_unstable();
        let kills = at.into_iter().zip(victims);
        let kills = kills.map(|(at, victim)| (at, Duration::from_micros(random.u64(..5_000)), victim));
        let kills = kills.collect();
        Self {
            qos,
            version: if random.bool() { Version::V311 } else { Version::V5 },
            batch: seed % 4 == 2,
            saving: seed % 6 == 1,
            kills,
        }
    }

    fn kills_remote(&self) -> bool {
        self.kills.iter().any(|(_, _, victim)| *victim != Victim::Gateway)
    }

    fn gateway(&self, port: u16) -> Setup {
        let qos = self.qos as u8;
        let batch = match self.batch {
            true => ", batch = { max_messages = 10, max_wait = \"100ms\" }",
            false => "",
        };
        bridged(
            self.version,
            port,
            &format!(
                "topics = [{{ filter = \"{UP}/#\", direction = \"out\", qos = {qos}{batch} }}, \"{DOWN}/# in {qos}\"]"
            ),
        )
    }
}

fn bridged(version: Version, port: u16, lines: &str) -> Setup {
    let version = if version == Version::V5 {
        "mqttv50"
    } else {
        "mqttv311"
    };
    Setup::with(&format!(
        "node = \"killed\"\n[[bridges]]\nname = \"hall\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\nversion = \"{version}\"\n{lines}\n\
         uplink.restart_timeout = {{ base = \"1s\", cap = \"1s\" }}\n"
    ))
}

/// What was heard of the numbers below `messages`.
#[derive(Debug)]
struct Heard {
    numbers: Vec<usize>,
    missing: Vec<usize>,
    /// Copies beyond the first.
    repeated: usize,
}

impl Heard {
    fn of(numbers: Vec<usize>, messages: usize) -> Self {
        let seen: BTreeSet<usize> = numbers.iter().copied().collect();
        let repeated = numbers.len() - seen.len();
        let missing = (0..messages).filter(|number| !seen.contains(number)).collect();
        Self {
            numbers,
            missing,
            repeated,
        }
    }

    /// \[MQTT-4.6.0-6\] The first copies, by topic.
    fn is_in_order(&self) -> bool {
        let mut last = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut first = self.numbers.iter().filter(|number| seen.insert(**number));
        first.all(|number| {
            last.insert(number % 4, number)
                .is_none_or(|before| before < number)
        })
    }
}

/// The gateway, mosquitto, the gateway again: nothing is lost but what mosquitto had acknowledged. When it was the gateway each time, nothing at all.
#[test]
fn who_acknowledged_a_message_answers_for_it_over_kills_of_both_sides() {
    let wanted = std::env::var("HEADGATE_BRIDGE_KILLS").ok();
    let (seeds, messages) = wanted.map_or((0..ROUNDS, MESSAGES), |text| (seeds(&text), MANY));
    for seed in seeds {
        let trial = Trial::of(seed, messages);
        let (up, down) = play(seed, &trial, messages);
        let missing = [&up, &down].map(|heard| heard.missing.len());
        let repeated = [&up, &down].map(|heard| heard.repeated);
        println!(
            "seed {seed}: lost by the remote, out and in: {missing:?}; repeated: {repeated:?}; {trial:?}"
        );
        assert!(up.is_in_order(), "seed {seed}: {up:?}");
        if !trial.kills_remote() {
            assert_eq!(missing, [0, 0], "seed {seed}");
            assert!(down.is_in_order(), "seed {seed}: {down:?}");
            if trial.qos == Qos::ExactlyOnce {
                assert_eq!(repeated, [0, 0], "seed {seed}");
            }
        }
    }
}

/// `60` for those below it, `59..60` for some.
fn seeds(text: &str) -> Range<u64> {
    let (from, to) = text.split_once("..").unwrap_or(("0", text));
    let number = |text: &str| {
        text.parse()
            .expect("HEADGATE_BRIDGE_KILLS is a number, or two with `..`")
    };
    number(from)..number(to)
}

fn play(seed: u64, trial: &Trial, messages: usize) -> (Heard, Heard) {
    let mut mosquitto = Mosquitto::start(&format!("{UNLIMITED}{}", if trial.saving { SAVING } else { "" }));
    let recorder = Recorder::to(mosquitto.port(), trial.version);
    let setup = trial.gateway(recorder.port());
    let daemon = setup.start();
    daemon.until_bridge_is("hall", "connected");
    let [acknowledged, said, ready, ready_here] = std::array::from_fn(|_| AtomicUsize::new(0));
    let (here, there) = (daemon.port(Transport::Tcp), mosquitto.port());
    let qos = trial.qos;
    let up = Writer {
        port: here,
        prefix: UP,
        qos,
        count: messages,
        acknowledged: &acknowledged,
    };
    let down = Writer {
        port: there,
        prefix: DOWN,
        qos,
        count: messages,
        acknowledged: &said,
    };
    let far = Reader {
        port: there,
        prefix: UP,
        qos,
        last: messages,
        ready: &ready,
    };
    let near = Reader {
        port: here,
        prefix: DOWN,
        qos,
        last: messages,
        ready: &ready_here,
    };
    let (up, down) = std::thread::scope(|scope| {
        let readers = [&far, &near].map(|reader| scope.spawn(|| reader.run()));
        for ready in [&ready, &ready_here] {
            until_ready(ready, 0);
        }
        let writers = [&up, &down].map(|writer| scope.spawn(|| writer.run()));
        // It stays until all is heard.
        let _daemon = kill(daemon, trial, &mut mosquitto, &recorder, [&acknowledged, &ready]);
        for writer in writers {
            writer.join().unwrap();
        }
        let [far, near] = readers;
        end(here, UP, messages, qos);
        let heard = far.join().unwrap();
        // The connection that brought this brings what comes in, too.
        end(there, DOWN, messages, qos);
        (heard, near.join().unwrap())
    });
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
    let killed = recorder.kills();
    let (out, into) = (recorder.account(Side::Gateway), recorder.account(Side::Remote));
    assert_eq!(out.clashes, [], "seed {seed}: identifiers that the remote held");
    let (up, down) = (Heard::of(up, messages), Heard::of(down, messages));
    for number in &up.missing {
        // A remote that lives has what it acknowledged.
        let lives = out.acknowledged.get(number);
        let lost_by_remote = lives.is_some_and(|lives| lives.iter().all(|life| *life < killed));
        assert!(
            lost_by_remote,
            "seed {seed}: {number} is lost\n{}",
            recorder.story(Side::Gateway, *number)
        );
    }
    for number in &down.missing {
        // What the gateway did not acknowledge a remote sends again, if it lives.
        let ours = killed == 0 || into.acknowledged.contains_key(number);
        assert!(
            !ours,
            "seed {seed}: {number} is lost\n{}",
            recorder.story(Side::Remote, *number)
        );
    }
    (up, down)
}

/// Kills whoever's turn it is, and lets them come back.
fn kill<'a>(
    mut daemon: Daemon<'a>,
    trial: &Trial,
    mosquitto: &mut Mosquitto,
    recorder: &Recorder,
    [acknowledged, ready]: [&AtomicUsize; 2],
) -> Daemon<'a> {
    let mut down = None;
    for (at, later, victim) in &trial.kills {
        eventually("acknowledgements", || {
            (acknowledged.load(Ordering::SeqCst) >= *at).then_some(())
        });
        sleep(*later);
        match victim {
            Victim::Gateway => daemon = daemon.restart(),
            Victim::Remote { .. } => {
                recorder.set_open(false);
                mosquitto.kill();
                recorder.remote_killed();
                down = Some(ready.load(Ordering::SeqCst));
            }
        }
        if *victim != (Victim::Remote { late: true })
            && let Some(before) = down.take()
        {
            mosquitto.run();
            // Who has forgotten the subscriber would acknowledge what nobody gets.
            until_ready(ready, before);
            recorder.set_open(true);
        }
    }
    daemon
}

/// Somebody has subscribed once more.
fn until_ready(ready: &AtomicUsize, before: usize) {
    eventually("the subscriber", || {
        (ready.load(Ordering::SeqCst) > before).then_some(())
    });
}

/// The last message.
fn end(port: u16, prefix: &str, number: usize, qos: Qos) {
    let (mut peer, _) = Peer::connect(port, "end", true, 0).unwrap();
    peer.say(&[Message::new(
        &format!("{prefix}/end"),
        qos as u8,
        &number.to_string(),
    )]);
}
