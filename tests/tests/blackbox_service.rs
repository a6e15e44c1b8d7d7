//! What systemd hears of the gateway (sd_notify(3)), and how the gateway ends: a socket of ours in the place of the manager's.

use headgate_mqtt_codec::{Packet, Qos, ReasonCode};
use headgate_tests::blackbox::{Daemon, HANG, Message, Peer, Setup, Transport, eventually};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The service manager's end.
struct Manager(UnixDatagram);

impl Manager {
    /// Of the gateway that this will be.
    fn of(setup: &mut Setup) -> Self {
        let path = setup.folder().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(HANG)).unwrap();
        setup.variable("NOTIFY_SOCKET", path.to_str().unwrap());
        Self(socket)
    }

    /// The next notification, by its lines.
    fn hears(&self) -> Vec<String> {
        let mut bytes = [0; 4_096];
        let n = self.0.recv(&mut bytes).expect("the gateway says something");
        let text = std::str::from_utf8(&bytes[..n]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// What comes until this line, and then the notification with it.
    fn until(&self, line: &str) -> (Vec<String>, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let heard = self.hears();
            if heard.iter().any(|other| other == line) {
                return (before, heard);
            }
            before.extend(heard);
        }
    }

    /// Forgets what has come.
    fn forgets(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 4_096]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }
}

fn signal(daemon: &Daemon<'_>, name: &str) {
    let pid = daemon.pid().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap()
            .success()
    );
}

fn is_status(line: &str, words: &str) -> bool {
    line.strip_prefix("STATUS=")
        .is_some_and(|status| status.contains(words))
}

#[test]
fn the_manager_hears_of_the_start_reloads_and_the_end() {
    let mut setup = Setup::new();
    let manager = Manager::of(&mut setup);
    let daemon = setup.start();
    let (before, ready) = manager.until("READY=1");
    assert!(
        before.iter().any(|line| is_status(line, "reading the store")),
        "{before:?}"
    );
    assert!(
        before.iter().any(|line| line.starts_with("EXTEND_TIMEOUT_USEC=")),
        "{before:?}"
    );
    assert!(ready.iter().any(|line| is_status(line, "serving")), "{ready:?}");

    // Without WATCHDOG_USEC nobody waits for a watchdog's food.
    let config = setup.folder().join("headgate.toml");
    let good = std::fs::read_to_string(&config).unwrap();
    for (text, told) in [
        (good.clone(), "read again"),
        (format!("colour = 1\n{good}"), "the old one stays"),
    ] {
        std::fs::write(&config, text).unwrap();
        signal(&daemon, "HUP");
        let (before, reloading) = manager.until("RELOADING=1");
        assert!(!before.iter().any(|line| line == "WATCHDOG=1"), "{before:?}");
        // systemd.service(5), Type=notify-reload: the time is that of the monotonic clock, in microseconds.
        let time = reloading
            .iter()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(time.unwrap().parse::<u64>().unwrap() > 0);
        let (_, ready) = manager.until("READY=1");
        assert!(ready.iter().any(|line| is_status(line, told)), "{ready:?}");
    }
    daemon.stop();
    manager.until("STOPPING=1");
}

/// A disk that hangs: a library in front of the system's, which waits in every sync while a file is there.
fn hanging_disk(setup: &mut Setup) -> PathBuf {
    let (source, library) = (setup.folder().join("disk.c"), setup.folder().join("disk.so"));
    let hangs = setup.folder().join("disk-hangs");
    let text = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stdlib.h>
        #include <unistd.h>
        static int waits(const char *name, int fd) {
            while (access(getenv("DISK_HANGS"), F_OK) == 0) usleep(10000);
            int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
            return real(fd);
        }
        int fsync(int fd) { return waits("fsync", fd); }
        int fdatasync(int fd) { return waits("fdatasync", fd); }
    "#;
    std::fs::write(&source, text).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(built.expect("there is a C compiler").success());
    setup.variable("LD_PRELOAD", library.to_str().unwrap());
    setup.variable("DISK_HANGS", hangs.to_str().unwrap());
    hangs
}

#[test]
fn the_watchdog_is_fed_while_the_store_makes_progress_and_not_while_it_hangs() {
    let mut setup = Setup::new();
    let manager = Manager::of(&mut setup);
    setup.variable("WATCHDOG_USEC", "600000");
    let hangs = hanging_disk(&mut setup);
    let daemon = setup.start();
    manager.until("READY=1");
    let mut peer = Peer::connect(daemon.port(Transport::Tcp), "p", true, 0)
        .unwrap()
        .0;
    let mut keeper = Peer::connect(daemon.port(Transport::Tcp), "keeper", true, 3_600)
        .unwrap()
        .0;
    keeper.subscribe("t/kept", Qos::AtLeastOnce).unwrap();
    keeper.vanish();
    peer.say(&[Message::new("t/kept", 1, "1")]);
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }

    std::fs::write(&hangs, "").unwrap();
    peer.publish("t/kept", "2", Some((Qos::AtLeastOnce, 9)), false)
        .unwrap();
    // What was on its way when the disk began to hang is over; from then on the process lives and says nothing.
    let quiet = Duration::from_secs(3);
    eventually("the watchdog to starve", || {
        manager.forgets();
        manager.0.set_read_timeout(Some(quiet)).unwrap();
        manager.0.recv(&mut [0; 4_096]).is_err().then_some(())
    });
    manager.0.set_read_timeout(Some(HANG)).unwrap();
    let mut other = Peer::connect(daemon.port(Transport::Tcp), "q", true, 0)
        .unwrap()
        .0;
    other.subscribe("t/live", Qos::AtMostOnce).unwrap();
    other.say(&[Message::new("t/live", 0, "the bus itself goes on")]);
    assert_eq!(other.hear().payload, "the bus itself goes on");

    // A disk that answers again is a gateway that makes progress again.
    std::fs::remove_file(&hangs).unwrap();
    assert!(matches!(peer.recv().unwrap(), Packet::Ack(_)));
    manager.until("WATCHDOG=1");
    daemon.stop();
}

/// [MQTT-3.14.4-3]: 0x8B, the server shuts down. What was acknowledged is there after the next start.
#[test]
fn a_graceful_stop_says_goodbye_and_keeps_what_was_acknowledged() {
    let setup = Setup::new();
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let mut keeper = Peer::connect(port, "keeper", true, 3_600).unwrap().0;
    keeper.subscribe("t/#", Qos::ExactlyOnce).unwrap();
    keeper.vanish();
    let mut peer = Peer::connect(port, "p", true, 0).unwrap().0;
    let messages: Vec<Message> = (0..500_u16)
        .map(|n| Message::new("t/x", if n % 2 == 0 { 1 } else { 2 }, &n.to_string()))
        .collect();
    peer.say(&messages);
    signal(&daemon, "TERM");
    let Packet::Disconnect(goodbye) = peer.recv().unwrap() else {
        panic!("not a DISCONNECT");
    };
    assert_eq!(goodbye.reason, ReasonCode::ServerShuttingDown);
    assert!(peer.recv().is_err(), "and then the connection is over");
    let log = setup.log_with(&["gateway has stopped"]);
    assert!(!log.contains("did not close in time"), "{log}");
    drop(daemon);

    let daemon = setup.start();
    let (mut keeper, present) = Peer::connect(daemon.port(Transport::Tcp), "keeper", false, 0).unwrap();
    assert!(present);
    let came: Vec<Message> = messages.iter().map(|_| keeper.hear()).collect();
    assert_eq!(came, messages);
    daemon.stop();
}
