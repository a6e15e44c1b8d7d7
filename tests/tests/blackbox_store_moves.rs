//! The store goes from memory to the disk and back while clients are connected and publish: none of them notices, and what is promised is kept.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Daemon, Message, Peer, Setup, Transport, eventually, headgate};
use serde_json::{Value, json};

const EXPIRY: u32 = 3600;
/// Messages that wait before the store goes anywhere.
const WAITING: usize = 500;

fn apply(daemon: &Daemon<'_>, text: &str) {
    std::fs::write(daemon.setup().folder().join("new.toml"), text).unwrap();
    daemon.ask(&["config", "apply", "new.toml"]);
}

/// The configuration of now, with another durability.
fn with(setup: &Setup, durability: &str) -> String {
    let text = std::fs::read_to_string(setup.folder().join("headgate.toml")).unwrap();
    let is_other = |line: &&str| !line.starts_with("durability = ");
    let text = text.lines().filter(is_other).collect::<Vec<_>>().join("\n");
    text.replace("[store]", &format!("[store]\ndurability = \"{durability}\"")) + "\n"
}

fn store(daemon: &Daemon<'_>) -> Value {
    daemon.ask(&["status"])["store"].clone()
}

fn message(n: usize) -> Message {
    Message::new("move/x", 1, &format!("{n}"))
}

/// Publishes, one acknowledged message after the other, until the store is there; the number of the next one.
fn publish_until_it_is(daemon: &Daemon<'_>, writer: &mut Peer, place: &str, first: usize) -> usize {
    let mut next = first;
    eventually("the store to arrive", || {
        for _ in 0..50 {
            writer.say(&[message(next)]);
            next += 1;
        }
        let store = store(daemon);
        (store["place"] == place && store["moving"] == false).then_some(next)
    })
}

/// All that waits, in order.
fn heard(reader: &mut Peer, count: usize) -> Vec<String> {
    (0..count).map(|_| reader.hear().payload).collect()
}

#[test]
fn the_store_goes_to_the_disk_and_back_under_clients_that_publish() {
    let setup = Setup::with("[store]\ndurability = \"memory\"\n");
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let (mut reader, _) = Peer::connect(port, "reader", false, EXPIRY).unwrap();
    reader.subscribe("move/#", Qos::AtLeastOnce).unwrap();
    reader.vanish();
    let (mut writer, _) = Peer::connect(port, "writer", false, EXPIRY).unwrap();
    let kept = Message {
        retain: true,
        ..Message::new("kept/x", 1, "retained in memory")
    };
    writer.say(&[kept]);
    writer.say(&(0..WAITING).map(message).collect::<Vec<_>>());
    assert_eq!(
        (&store(&daemon)["place"], &store(&daemon)["moving"]),
        (&json!("memory"), &json!(false))
    );
    assert!(!setup.folder().join("data/alarms.json").exists());

    apply(&daemon, &with(&setup, "power-loss"));
    let there = publish_until_it_is(&daemon, &mut writer, "disk", WAITING);
    let last = there + 100;
    writer.say(&(there..last).map(message).collect::<Vec<_>>());
    let daemon = daemon.restart_as_it_is();
    let port = daemon.port(Transport::Tcp);
    let (mut reader, present) = Peer::connect(port, "reader", false, EXPIRY).unwrap();
    assert!(present, "the session is there: {}", setup.log());
    let expected: Vec<String> = (0..last).map(|n| n.to_string()).collect();
    assert_eq!(heard(&mut reader, last), expected);
    reader.subscribe("kept/#", Qos::AtLeastOnce).unwrap();
    assert_eq!(reader.hear().payload, "retained in memory");
    reader.vanish();

    // And back: what waits on the disk is in memory then, in its order.
    let (mut writer, _) = Peer::connect(port, "writer", false, EXPIRY).unwrap();
    writer.say(&(last..last + WAITING).map(message).collect::<Vec<_>>());
    apply(&daemon, &with(&setup, "memory"));
    let end = publish_until_it_is(&daemon, &mut writer, "memory", last + WAITING);
    let (mut reader, present) = Peer::connect(port, "reader", false, EXPIRY).unwrap();
    assert!(present);
    let expected: Vec<String> = (last..end).map(|n| n.to_string()).collect();
    assert_eq!(heard(&mut reader, end - last), expected);
    writer.say(&[message(end)]);
    assert_eq!(reader.hear().payload, end.to_string());
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

/// What cannot be done is told by an alarm as long as it stands, and costs nothing.
#[test]
fn a_store_that_finds_no_room_on_the_disk_stays_in_memory_and_says_so() {
    let setup = Setup::with("[store]\ndurability = \"memory\"\nmax_bytes = 1048576\n");
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let (mut reader, _) = Peer::connect(port, "reader", false, EXPIRY).unwrap();
    reader.subscribe("move/#", Qos::AtLeastOnce).unwrap();
    reader.vanish();
    let (mut writer, _) = Peer::connect(port, "writer", false, EXPIRY).unwrap();
    let large = |n: usize| Message::new("move/x", 1, &format!("{n} {}", "x".repeat(20_000)));
    writer.say(&(0..100).map(large).collect::<Vec<_>>());
    apply(&daemon, &with(&setup, "power-loss"));
    let has_alarm = || {
        let alarms = daemon.ask(&["status"])["alarms"].clone();
        alarms
            .as_array()
            .unwrap()
            .iter()
            .any(|alarm| alarm["id"] == "store_not_moved")
    };
    eventually("the alarm", || has_alarm().then_some(()));
    assert_eq!(store(&daemon)["place"], "memory");
    writer.say(&[large(100)]);
    apply(&daemon, &with(&setup, "memory"));
    eventually("the end of the alarm", || (!has_alarm()).then_some(()));
    let (mut reader, present) = Peer::connect(port, "reader", false, EXPIRY).unwrap();
    assert!(present);
    assert_eq!(heard(&mut reader, 101).len(), 101);
}

/// Where the store is in memory, no lock of a store keeps a second gateway away.
#[test]
fn a_second_gateway_gets_no_data_folder_that_one_has() {
    let setup = Setup::with("[store]\ndurability = \"memory\"\n");
    let daemon = setup.start();
    std::fs::write(
        setup.folder().join("second.toml"),
        with(&setup, "power-loss").replace("bind = \"127.0.0.1:", "bind = \"127.0.0.2:"),
    )
    .unwrap();
    let second = std::process::Command::new(headgate())
        .args(["run", "--config", "second.toml"])
        .current_dir(setup.folder())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(
        !second.status.success() && told.contains("a gateway runs with this data folder"),
        "{told}"
    );
    assert_eq!(store(&daemon)["place"], "memory");
}
