//! The real gateway with MQTT-SN devices on serial lines: pseudo terminals, with noise on them, which are pulled and plugged in a hundred times.
//!
//! With check sums (`framing = "hdlc"`) any byte may be damaged or lost. Without (`length`) nobody could tell a damaged payload from another one: there noise
//! falls between frames only, as docs/mqtt-sn.md says, and may swallow frames that follow it.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{
    Daemon, Message, Noise, Peer, Setup, SnFraming, SnLine, Transport, eventually,
};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// A gateway at this line.
fn setup(line: &SnLine, framing: SnFraming) -> Setup {
    Setup::with(&format!(
        "[sys]\ninterval = \"1s\"\n[[mqttsn]]\nname = \"wire\"\nkind = \"serial\"\nframing = \"{}\"\n\
         [mqttsn.serial]\nport = {:?}\nbaud = 115200\nframe_timeout = \"20ms\"\nreopen_interval = \"100ms\"\n\
         [mqttsn.gateway]\nretry_interval = \"250ms\"\n",
        framing.name(),
        line.port(),
    ))
}

fn noise(framing: SnFraming) -> Noise {
    match framing {
        SnFraming::Length => Noise {
            between: 15,
            ..Noise::default()
        },
        SnFraming::Hdlc => Noise {
            between: 10,
            flips: 8,
            losses: 4,
        },
    }
}

/// An MQTT client whose session stays.
fn mqtt(daemon: &Daemon<'_>, id: &str) -> Peer {
    let (peer, _) = Peer::connect(daemon.port(Transport::Tcp), id, false, 3_600).expect("it is let in");
    peer
}

/// Who hears all that devices say.
fn listener(daemon: &Daemon<'_>) -> Peer {
    let mut peer = mqtt(daemon, "listener");
    peer.subscribe("up/#", Qos::ExactlyOnce).expect("it is there");
    peer
}

/// Messages at QoS 1 and 2, by turns.
fn message(topic: &str, n: usize) -> Message {
    Message::new(
        &format!("{topic}/q{}", n % 2 + 1),
        (n % 2 + 1) as u8,
        &n.to_string(),
    )
}

/// All arrived in the order in which they were sent, those of QoS 2 once.
fn check(what: &str, sent: &[Message], received: &[Message]) {
    let mut seen = BTreeSet::new();
    let first = received
        .iter()
        .filter(|message| message.qos == 2 || seen.insert(&message.payload));
    let of = |qos, messages: Vec<&Message>| -> Vec<String> {
        let these = messages.into_iter().filter(|message| message.qos == qos);
        these
            .map(|message| format!("{} {}", message.topic, message.payload))
            .collect()
    };
    let first: Vec<&Message> = first.collect();
    for qos in [1, 2] {
        assert_eq!(
            of(qos, first.clone()),
            of(qos, sent.iter().collect()),
            "{what} at QoS {qos}"
        );
    }
}

/// What comes until all were there.
fn collect(sent: &[Message], mut come: impl FnMut() -> Vec<Message>) -> Vec<Message> {
    let mut missing: BTreeSet<&str> = sent.iter().map(|message| message.payload.as_str()).collect();
    let mut received = Vec::new();
    while !missing.is_empty() {
        let these = come();
        missing.retain(|payload| these.iter().all(|message| message.payload != *payload));
        received.extend(these);
    }
    received
}

/// §6.6, §6.13: whatever was acknowledged arrives, in both directions.
fn nothing_acknowledged_is_lost_by_noise(framing: SnFraming) {
    const MESSAGES: usize = 80;
    let line = SnLine::new(framing, 1);
    let setup = setup(&line, framing);
    let daemon = setup.start();
    let mut listening = listener(&daemon);
    line.noise(noise(framing));
    let mut device = line.device("device", &[]);
    device.connect(false, 60, None);
    device.subscribe("down/#", 2);

    let down: Vec<Message> = (0..MESSAGES).map(|n| message("down", n)).collect();
    let up: Vec<Message> = (0..MESSAGES).map(|n| message("up", n)).collect();
    mqtt(&daemon, "speaker").say(&down);
    up.iter().for_each(|message| device.publish(message));
    let received = collect(&down, || vec![device.recv()]);
    check("down", &down, &received);
    device.publish(&Message::new("up/end", 2, "end"));
    check("up", &up, &listening.until("end"));

    assert!(device.repeated() > 0, "there was noise");
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

#[test]
fn noise_between_messages_loses_nothing_acknowledged() {
    nothing_acknowledged_is_lost_by_noise(SnFraming::Length);
}

#[test]
fn damaged_frames_lose_nothing_acknowledged() {
    nothing_acknowledged_is_lost_by_noise(SnFraming::Hdlc);
}

/// The line is pulled and plugged in a hundred times while both sides publish, on a noisy line; once the gateway is killed meanwhile.
fn a_hundred_times_pulled(framing: SnFraming) {
    const TIMES: usize = 100;
    let line = SnLine::new(framing, 2);
    let setup = setup(&line, framing);
    let daemon = setup.start();
    let listening = listener(&daemon);
    listening.vanish();
    let mut device = line.device("device", &[]);
    device.connect(false, 600, None);
    device.subscribe("down/#", 2);
    line.noise(noise(framing));

    let (acknowledged, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (up, down) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let (daemon, received) = thread::scope(|scope| {
        let mut daemon = daemon;
        let traffic = scope.spawn(|| {
            for n in 0.. {
                let message = message("up", n);
                device.publish(&message);
                up.lock().expect("no panic").push(message);
                acknowledged.store(n + 1, Ordering::SeqCst);
                if over.load(Ordering::SeqCst) {
                    break;
                }
            }
            let all = down.lock().expect("no panic").clone();
            collect(&all, || vec![device.recv()])
        });
        let mut speaker = mqtt(&daemon, "speaker");
        for n in 0..TIMES {
            let before = acknowledged.load(Ordering::SeqCst);
            eventually("the device to go on", || {
                assert!(!traffic.is_finished(), "the device gave up");
                // The first may have been on its way already.
                (acknowledged.load(Ordering::SeqCst) >= before + 2).then_some(())
            });
            let message = message("down", n);
            speaker.say(std::slice::from_ref(&message));
            down.lock().expect("no panic").push(message);
            if n == TIMES / 2 {
                daemon.kill();
                daemon = setup.start();
                speaker = mqtt(&daemon, "speaker");
            } else {
                line.unplug();
                line.plug_in();
            }
        }
        over.store(true, Ordering::SeqCst);
        (daemon, traffic.join().expect("the device does not give up"))
    });
    check("down", &down.into_inner().expect("no panic"), &received);
    device.publish(&Message::new("up/end", 2, "end"));
    let heard = mqtt(&daemon, "listener").until("end");
    check("up", &up.into_inner().expect("no panic"), &heard);
    // Since it was killed: a line that was opened each time, and lost each time.
    let lost = TIMES as u64 / 2 - 1;
    sys(&daemon, &["opened", "lost", "open"], |now| {
        now == [lost + 1, lost, 1]
    });
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

#[test]
fn a_line_is_pulled_a_hundred_times() {
    a_hundred_times_pulled(SnFraming::Length);
}

#[test]
fn a_line_with_check_sums_is_pulled_a_hundred_times() {
    a_hundred_times_pulled(SnFraming::Hdlc);
}

/// §5.5: several nodes share a noisy line; each is a client with topics, messages and sleep of its own.
fn nodes_share_a_line(framing: SnFraming) {
    const NODES: [&[u8]; 4] = [&[1], &[2], &[1, 2], b"a node with a long id"];
    const MESSAGES: usize = 12;
    let line = SnLine::new(framing, 3);
    let setup = setup(&line, framing);
    let daemon = setup.start();
    let mut listening = listener(&daemon);
    line.noise(noise(framing));
    let sent = |direction: &str, n: usize| -> Vec<Message> {
        let topic = format!("{direction}/{n}");
        (0..MESSAGES).map(|n| message(&topic, n)).collect()
    };
    let ready = std::sync::Barrier::new(NODES.len() + 1);
    thread::scope(|scope| {
        for (n, node) in NODES.iter().enumerate() {
            let (line, ready) = (&line, &ready);
            scope.spawn(move || {
                let mut device = line.device(&format!("node{n}"), node);
                device.connect(false, 60, None);
                device.subscribe(&format!("down/{n}/+"), 2);
                if n % 2 == 0 {
                    device.sleep(600);
                }
                ready.wait();
                ready.wait();
                let down = sent("down", n);
                let received = if n % 2 == 0 {
                    collect(&down, || device.wake())
                } else {
                    collect(&down, || vec![device.recv()])
                };
                device.connect(false, 60, None);
                check(&format!("to node {n}"), &down, &received);
                sent("up", n).iter().for_each(|message| device.publish(message));
            });
        }
        ready.wait();
        let down: Vec<Message> = (0..NODES.len()).flat_map(|n| sent("down", n)).collect();
        mqtt(&daemon, "speaker").say(&down);
        ready.wait();
    });
    mqtt(&daemon, "speaker").say(&[Message::new("up/end", 2, "end")]);
    let heard = listening.until("end");
    for n in 0..NODES.len() {
        let these: Vec<Message> = heard
            .iter()
            .filter(|message| message.topic.starts_with(&format!("up/{n}/")))
            .cloned()
            .collect();
        check(&format!("of node {n}"), &sent("up", n), &these);
    }
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

#[test]
fn several_nodes_share_a_line() {
    nodes_share_a_line(SnFraming::Length);
}

#[test]
fn several_nodes_share_a_line_with_check_sums() {
    nodes_share_a_line(SnFraming::Hdlc);
}

/// Waits until counters of the line under `$SYS` are as wanted.
fn sys(daemon: &Daemon<'_>, names: &[&str], wanted: impl Fn(&[u64]) -> bool) {
    let (mut peer, _) = Peer::connect(daemon.port(Transport::Tcp), "", true, 0).expect("it is let in");
    peer.subscribe("$SYS/brokers/+/mqttsn/wire/#", Qos::AtMostOnce)
        .expect("it is there");
    let mut counted: Vec<Option<u64>> = vec![None; names.len()];
    eventually("the counters", || {
        let message = peer.hear();
        let at = names
            .iter()
            .position(|name| message.topic.ends_with(&format!("/wire/{name}")))?;
        counted[at] = message.payload.parse().ok();
        let all: Option<Vec<u64>> = counted.iter().copied().collect();
        all.filter(|all| wanted(all)).map(drop)
    });
}

/// What goes over a line, and what is wrong with it, is counted to the byte.
fn a_line_is_counted(framing: SnFraming) {
    let line = SnLine::new(framing, 4);
    let setup = setup(&line, framing);
    let daemon = setup.start();
    sys(&daemon, &["open"], |now| now == [1]);
    let mut device = line.device("device", &[]);
    device.connect(false, 600, None);
    device.subscribe("a/topic", 1);
    (0..10).for_each(|n| device.publish(&message("up", n)));
    let names = [
        "bytes/received",
        "frames/received",
        "frames/sent",
        "frames/errors",
        "bytes/skipped",
        "resyncs",
        "opened",
        "lost",
        "open",
    ];
    let are = |faults: [u64; 3]| {
        let line = &line;
        move |now: &[u64]| now[..3] == line.traffic() && now[3..] == [&faults[..], &[1, 0, 1]].concat()
    };
    sys(&daemon, &names, are([0, 0, 0]));

    // Not a message; a beginning of one, which a silence ends.
    let (noise, faults): (&[u8], [u64; 3]) = match framing {
        SnFraming::Length => (&[0, 0, 0, 9, 0x0C, 0x20, 1], [0, 7, 1]),
        // A frame with a wrong check sum; a beginning of one, which the next frame ends.
        SnFraming::Hdlc => (b"\x7Enoise\x7E\x05\x0Chalf", [2, 11, 0]),
    };
    line.raw(noise);
    let ended = match framing {
        SnFraming::Length => 7,
        SnFraming::Hdlc => 5,
    };
    sys(&daemon, &["bytes/skipped"], |now| now == [ended]);
    device.publish(&message("up", 10));
    sys(&daemon, &names, are(faults));

    let names = ["opened", "lost", "open"];
    line.unplug();
    sys(&daemon, &names, |now| now == [1, 1, 0]);
    line.plug_in();
    sys(&daemon, &names, |now| now == [2, 1, 1]);
    device.publish(&message("up", 11));
    daemon.stop();
}

#[test]
fn a_line_is_counted_to_the_byte() {
    a_line_is_counted(SnFraming::Length);
}

#[test]
fn a_line_with_check_sums_is_counted_to_the_byte() {
    a_line_is_counted(SnFraming::Hdlc);
}
