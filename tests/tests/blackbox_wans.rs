//! Several ways out: docs/bridges.md. All of 127/8 is this machine's, so that addresses of it stand for networks.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Daemon, HttpClient, Message, Mosquitto, Peer, Setup, Transport, eventually};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What is to be reached by a WAN: it accepts connections while it is open.
struct Door {
    port: u16,
    open: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Door {
    fn opened() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut door = Self { port, open: None };
        door.accept(listener);
        door
    }

    fn open(&mut self) {
        let port = self.port;
        let listener = eventually("the port is free", || TcpListener::bind(("127.0.0.1", port)).ok());
        self.accept(listener);
    }

    fn accept(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let open = Arc::new(AtomicBool::new(true));
        let is_open = Arc::clone(&open);
        let thread = thread::spawn(move || {
            while is_open.load(Ordering::Relaxed) {
                if listener.accept().is_err() {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        self.open = Some((open, thread));
    }

    fn close(&mut self) {
        let (open, thread) = self.open.take().unwrap();
        open.store(false, Ordering::Relaxed);
        thread.join().unwrap();
    }
}

fn wan(name: &str, interface: &str, probe: u16) -> String {
    format!(
        "[[wans]]\nname = \"{name}\"\ninterface = \"{interface}\"\nprobe = [\"127.0.0.1:{probe}\"]\n\
         interval = \"1s\"\nstandby_interval = \"1s\"\ntimeout = \"2s\"\nfailures = 2\nback_after = \"3s\"\n"
    )
}

fn bridge(name: &str, port: u16, more: &str) -> String {
    format!(
        "[[bridges]]\nname = \"{name}\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\ntopics = [\"up/# out 1\"]\n{more}\n"
    )
}

fn publish(daemon: &Daemon<'_>, from: usize, to: usize) {
    let (mut publisher, _) = Peer::connect(daemon.port(Transport::Tcp), "p", true, 0).unwrap();
    let messages: Vec<Message> = (from..to)
        .map(|n| Message::new("up/n", 1, &n.to_string()))
        .collect();
    publisher.say(&messages);
}

fn active(setup: &Setup) -> String {
    let wans = setup.command(&["wans"]).unwrap();
    wans[0]["active"].as_str().unwrap_or_default().to_owned()
}

fn wait_for(setup: &Setup, name: &str) {
    eventually(name, || (active(setup) == name).then_some(()));
}

/// The addresses that a client came from, in this order.
fn ways(mosquitto: &Mosquitto, client: &str) -> Vec<String> {
    let log = mosquitto.log();
    let came = log.lines().filter_map(|line| {
        let (from, who) = line.split_once(" connected from ")?.1.split_once(" as ")?;
        who.starts_with(client)
            .then(|| from.rsplit_once(':').unwrap().0.to_owned())
    });
    came.collect()
}

/// features.md, X12: by priority, with an active probe; back with hysteresis; the queue goes on.
#[test]
fn bridges_leave_by_the_first_wan_that_works_and_their_queues_go_with_them() {
    let mosquitto = Mosquitto::start("");
    let mut doors = [Door::opened(), Door::opened()];
    let setup = Setup::with(&format!(
        "node = \"gate\"\n{}{}{}{}",
        bridge("cloud", mosquitto.port(), ""),
        bridge("own", mosquitto.port(), "wan = false"),
        wan("ethernet", "127.0.7.1", doors[0].port),
        wan("cellular", "127.0.7.2", doors[1].port),
    ));
    let daemon = setup.start();
    wait_for(&setup, "ethernet");
    daemon.until_bridge_is("cloud", "connected");
    daemon.until_bridge_is("own", "connected");
    let (mut subscriber, _) = Peer::connect(mosquitto.port(), "subscriber", true, 0).unwrap();
    subscriber.subscribe("up/#", Qos::AtLeastOnce).unwrap();
    publish(&daemon, 0, 100);

    doors[0].close();
    publish(&daemon, 100, 200);
    wait_for(&setup, "cellular");
    publish(&daemon, 200, 300);
    eventually("the bridge leaves by the other one", || {
        (ways(&mosquitto, "cloud").last()? == "127.0.7.2").then_some(())
    });
    let row = |n: usize| setup.command(&["wans"]).unwrap()[0]["rows"][n].clone();
    let ethernet = row(0);
    assert_eq!(
        (&ethernet["state"], &ethernet["active"]),
        (&"fails".into(), &false.into())
    );
    let error = ethernet["last_error"].as_str().unwrap();
    assert!(error.contains(&format!("127.0.0.1:{}", doors[0].port)), "{error}");
    assert!(setup.said(&["alarms"]).contains("wan_down_ethernet"));
    assert!(setup.said(&["wans"]).contains("cellular"));

    // The gateway dies, and the better one is back in the meantime.
    let daemon = daemon.restart();
    wait_for(&setup, "cellular");
    eventually("it was asked for long enough", || {
        (row(0)["state"] == "fails").then_some(())
    });
    doors[0].open();
    eventually("it is not trusted at once", || {
        (row(0)["state"] == "recovers").then_some(())
    });
    assert_eq!(active(&setup), "cellular");
    publish(&daemon, 300, 400);
    wait_for(&setup, "ethernet");
    daemon.until_bridge_is("cloud", "connected");
    eventually("the bridge comes back", || {
        (ways(&mosquitto, "cloud").last()? == "127.0.7.1").then_some(())
    });
    eventually("the alarm is over", || {
        (!setup.said(&["alarms"]).contains("wan_down")).then_some(())
    });
    publish(&daemon, 400, 500);

    let mut missing: BTreeSet<String> = (0..500).map(|n| n.to_string()).collect();
    while !missing.is_empty() {
        missing.remove(&subscriber.hear().payload);
    }
    // One that does not follow was not disturbed: it came once, and once more after the restart.
    let own = ways(&mosquitto, "own");
    assert_eq!(own, ["127.0.0.1", "127.0.0.1"]);
    let metrics = setup.said(&["metrics"]);
    let is_told = |line: &str| {
        line.contains("wan_active{") && line.contains("\"ethernet\"") && line.trim_end().ends_with(" 1")
    };
    assert!(metrics.lines().any(is_told), "{metrics}");
    daemon.stop();
}

/// Whoever moves the machine's default route goes by the file.
#[test]
fn the_name_of_the_way_out_is_written_down_as_soon_as_it_can_be() {
    let door = Door::opened();
    let setup = Setup::with(&wan("ethernet", "127.0.7.1", door.port));
    let file = setup.folder().join("data/wan");
    let mut data = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut data, 0o700);
    data.recursive(true).create(&file).unwrap();
    let daemon = setup.start();
    wait_for(&setup, "ethernet");
    setup.log_with(&["the name of the way out cannot be written down"]);
    std::fs::remove_dir(&file).unwrap();
    eventually("it is written", || {
        (std::fs::read_to_string(&file).ok()? == "lo\n").then_some(())
    });
    setup.log_with(&["the name of the way out is written down again"]);
    daemon.stop();
}

#[test]
fn what_cannot_be_is_told_with_the_key() {
    let setup = Setup::new();
    let daemon = setup.start();
    let control = HttpClient::control(&daemon);
    let entry = "[[wans]]\nname = \"a\"\ninterface = \"eth0\"\n";
    for (more, key) in [
        ("probe = [\"cloud\"]\n", "wans.probe"),
        ("failures = 0\n", "wans.failures"),
        ("interval = \"0s\"\n", "wans.interval"),
        ("metric = 1\n", "wans.metric"),
        ("[[wans]]\nname = \"b\"\ninterface = \"eth0\"\n", "wans.interface"),
        ("[[wans]]\nname = \"a\"\ninterface = \"eth1\"\n", "wans.name"),
    ] {
        let text = format!("{entry}{more}");
        let checked = control.post(
            "/api/v1/configuration/preview",
            &serde_json::json!({ "toml": text }),
        );
        assert!(checked.text().contains(key), "{more}: {}", checked.text());
    }
    daemon.stop();
}
