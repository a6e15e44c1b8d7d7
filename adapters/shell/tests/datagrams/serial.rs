//! Serial lines: pseudo terminals, behind a name that stays the same when the device is another one.

use crate::bench::{Gate, Porter, Running, run, run_anew, within};
use bytes::{Buf, Bytes, BytesMut};
use headgate_access::PeerAddr;
use headgate_model::{Destination, Framer, FramerCounts};
use headgate_shell::SerialTransport;
use headgate_shell::datagram::DatagramTransport;
use headgate_shell::settings::{Rs485Settings, SerialSettings};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_serial::{SerialPort, SerialStream};

/// Frames are lines.
#[derive(Default)]
struct Lines {
    buffer: BytesMut,
    counts: FramerCounts,
}

impl Framer for Lines {
    fn push(&mut self, bytes: &[u8]) -> usize {
        // Less than the shell reads at once.
        let taken = bytes.len().min(1_000 - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        taken
    }

    fn next_frame(&mut self) -> Option<Bytes> {
        if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let frame = self.buffer.split_to(end).freeze();
            self.buffer.advance(1);
            self.counts.frames += 1;
            return Some(frame);
        }
        if self.buffer.len() == 1_000 {
            self.buffer.clear();
            self.counts.errors += 1;
        }
        None
    }

    fn on_silence(&mut self) -> bool {
        let some = !self.buffer.is_empty();
        self.counts.skipped += self.buffer.len() as u64;
        self.buffer.clear();
        some
    }

    fn encode(&self, frame: &[u8], out: &mut BytesMut) {
        out.extend_from_slice(frame);
        out.extend_from_slice(b"\n");
    }

    fn counts(&self) -> FramerCounts {
        self.counts
    }
}

/// A line whose device can be pulled and plugged in.
struct Line {
    _folder: tempfile::TempDir,
    name: PathBuf,
    device: Option<SerialStream>,
}

impl Line {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("tty");
        Self {
            _folder: folder,
            name,
            device: None,
        }
    }

    fn unplug(&mut self) {
        self.device = None;
        let _ = std::fs::remove_file(&self.name);
    }

    fn plug_in(&mut self) {
        self.unplug();
        let (device, port) = SerialStream::pair().unwrap();
        let path = port.name().unwrap();
        std::os::unix::fs::symlink(Path::new(&path), &self.name).unwrap();
        self.device = Some(device);
    }

    async fn say(&mut self, text: &str) {
        let device = self.device.as_mut().unwrap();
        within(device.write_all(text.as_bytes())).await.unwrap();
    }

    /// The next line. While nobody has the port open, there is nothing to read yet.
    async fn hear(&mut self) -> String {
        let mut line = Vec::new();
        let device = self.device.as_mut().unwrap();
        let whole = async {
            while line.last() != Some(&b'\n') {
                match device.read_u8().await {
                    Ok(byte) => line.push(byte),
                    Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        };
        within(whole).await;
        line.pop();
        String::from_utf8(line).unwrap()
    }

    fn settings(&self) -> SerialSettings {
        SerialSettings {
            port: self.name.to_str().unwrap().into(),
            frame_timeout: Duration::from_millis(20),
            reopen_interval: Duration::from_millis(100),
            ..SerialSettings::default()
        }
    }

    fn serve(&self) -> Running {
        let link = SerialTransport::new("wire", None, self.settings(), Lines::default());
        run(link, Porter::default(), Gate(None))
    }
}

async fn counted(running: &Running, counter: &str, n: u64) {
    let reached = async {
        while running.stats.get(counter).unwrap() < n {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(reached).await;
}

#[tokio::test]
async fn frames_go_out_and_come_in() {
    let mut line = Line::new();
    line.plug_in();
    let running = line.serve();
    line.say("echo one\necho tw").await;
    assert_eq!(line.hear().await, "echo one");
    line.say("o\nopen me\n").await;
    assert_eq!(line.hear().await, "echo two");
    assert_eq!(line.hear().await, "opened");
    line.say("all of you\npublish this\nlater\n").await;
    assert_eq!(line.hear().await, "all of you");
    assert_eq!(line.hear().await, "this");
    assert_eq!(line.hear().await, "later");
    let said: String = (0..1_000).map(|n| format!("echo {n}\n")).collect();
    let mut from = 0;
    while from < said.len() {
        let part = &said[from..said.len().min(from + 500)];
        let whole = &part[..=part.rfind('\n').unwrap()];
        line.say(whole).await;
        for text in whole.lines() {
            assert_eq!(line.hear().await, text);
        }
        from += whole.len();
    }
    assert_eq!(running.stats.get("frames/received"), Some(1_006));
    assert_eq!(running.stats.get("open"), Some(1));

    running.hub.say_goodbye();
    assert_eq!(line.hear().await, "goodbye");
}

/// What does not go on is given up, and does not spoil what comes after it.
#[tokio::test]
async fn a_frame_that_does_not_go_on_is_given_up() {
    let mut line = Line::new();
    line.plug_in();
    let running = line.serve();
    line.say("echo half a fra").await;
    counted(&running, "bytes/skipped", 15).await;
    line.say("echo whole\n").await;
    assert_eq!(line.hear().await, "echo whole");
}

/// A hundred times: the device is pulled, another one comes, and the client goes on where it was. What is sent while there is none is not sent later.
#[tokio::test]
async fn clients_are_kept_when_the_device_is_pulled() {
    let mut line = Line::new();
    line.plug_in();
    let running = line.serve();
    line.say("open me\n").await;
    assert_eq!(line.hear().await, "opened");
    for n in 1..=100 {
        line.say("echo half").await;
        line.unplug();
        counted(&running, "lost", n).await;
        if n % 10 == 0 {
            let text = format!("lost {n}");
            let topic = headgate_model::Topic::try_from("words").unwrap();
            running.hub.publish_now(headgate_model::Message::new(topic, text));
            counted(&running, "frames/unsent", n / 10).await;
        }
        line.plug_in();
        line.say(&format!("publish {n}\n")).await;
        assert_eq!(line.hear().await, n.to_string());
    }
    assert_eq!(running.hub.stats().clients, 1);
    assert_eq!(running.stats.get("opened"), Some(101));
}

/// The line is closed and opened again, and what was counted is counted on.
#[tokio::test]
async fn a_panic_is_survived() {
    let mut line = Line::new();
    line.plug_in();
    let settings = line.settings();
    let mut stats = None;
    let links = move || {
        let link = SerialTransport::new("wire", None, settings.clone(), Lines::default());
        let stats = stats.get_or_insert_with(|| link.stats());
        link.counting_on(Arc::clone(stats))
    };
    let running = run_anew(links, Porter::default(), Gate(None));
    for n in 1..=3 {
        line.say("echo me\n").await;
        assert_eq!(line.hear().await, "echo me");
        line.say("panic\n").await;
        counted(&running, "restarts", n).await;
        counted(&running, "opened", n + 1).await;
    }
    line.say("echo again\n").await;
    assert_eq!(line.hear().await, "echo again");
    let told = ["frames/received", "frames/sent", "opened", "open"].map(|name| running.stats.get(name));
    // A frame that made it panic was handed out, but the count of that is lost with it.
    assert_eq!(told, [Some(4), Some(4), Some(4), Some(1)]);
}

#[tokio::test]
async fn a_line_that_is_not_there_is_waited_for() {
    let mut line = Line::new();
    let running = line.serve();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(running.stats.get("opened"), Some(0));
    line.plug_in();
    line.say("echo at last\n").await;
    assert_eq!(line.hear().await, "echo at last");
}

/// A pseudo terminal has no transceiver: then nobody may believe that the line works.
#[tokio::test]
async fn a_driver_without_rs485_is_not_used_as_if_it_had() {
    let mut line = Line::new();
    line.plug_in();
    let mut settings = line.settings();
    settings.rs485 = Some(Rs485Settings::default());
    let link = SerialTransport::new("wire", None, settings, Lines::default());
    let running = run(link, Porter::default(), Gate(None));
    line.say("echo one\n").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(running.stats.get("opened"), Some(0));
}

/// Nobody reads at the other end: what waits has a bound, and the rest is left where it is.
#[tokio::test]
async fn a_line_that_takes_nothing_is_not_waited_for_in_memory() {
    let line = Line::new();
    let mut link = SerialTransport::new("wire", None, line.settings(), Lines::default());
    link.send(Destination::To(()), b"nobody is there");
    assert!(link.has_room());
    assert_eq!(link.stats().get("frames/unsent"), Some(1));

    let mut line = Line::new();
    line.plug_in();
    let running = line.serve();
    line.say("open me\n").await;
    assert_eq!(line.hear().await, "opened");
    let text = "x".repeat(900);
    let topic = headgate_model::Topic::try_from("words").unwrap();
    for _ in 0..200 {
        let message = headgate_model::Message::new(topic.clone(), text.clone());
        running.hub.publish_now(message);
    }
    for _ in 0..200 {
        assert_eq!(line.hear().await, text, "nothing is lost by waiting");
    }
}

#[tokio::test]
async fn who_is_at_the_wire_is_known() {
    let porter = Porter::default();
    let mut line = Line::new();
    line.plug_in();
    let link = SerialTransport::new("wire", Some("floor/"), line.settings(), Lines::default());
    let _running = run(link, porter.clone(), Gate(None));
    line.say("ask me\n").await;
    assert_eq!(line.hear().await, "answered");
    let seen = porter.seen.lock().unwrap();
    assert_eq!((seen.len(), seen[0].peer), (1, PeerAddr::Serial));
    assert_eq!(seen[0].mount_point.as_deref(), Some("floor/"));
}

#[test]
fn settings_that_cannot_be_are_told() {
    let change = |change: fn(&mut SerialSettings)| {
        let mut settings = SerialSettings::default();
        change(&mut settings);
        let faults = settings.faults().into_iter();
        faults.map(|fault| fault.to_string()).collect::<Vec<_>>()
    };
    assert!(SerialSettings::default().faults().is_empty());
    for (result, told) in [
        (change(|s| s.port = String::new()), "port:"),
        (change(|s| s.baud = 0), "baud: 0 is out of range"),
        (
            change(|s| s.data_bits = 9),
            "data_bits: 9 is out of range, allowed is 5 to 8",
        ),
        (
            change(|s| s.stop_bits = 3),
            "stop_bits: 3 is out of range, allowed is 1 and 2",
        ),
    ] {
        assert!(result.len() == 1 && result[0].starts_with(told), "{result:?}");
    }
    let text =
        "port = '/dev/ttyS1'\nparity = 'even'\nrs485 = { rts_on_send = false, delay_after_send = '1ms' }";
    let read: SerialSettings = toml::from_str(text).unwrap();
    assert_eq!(read.rs485.unwrap().delay_after_send, Duration::from_millis(1));
    assert!(
        toml::from_str::<SerialSettings>("baud = 9600").is_err(),
        "a port is needed"
    );
}
