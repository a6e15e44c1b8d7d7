//! What one client may send at a listener, with the real binary: who is faster is slowed down, loses nothing, and disturbs nobody.

use headgate_auth::Users;
use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Message, Peer, Setup, Transport, eventually, free_port};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One client sends forty messages at once where twenty a second are allowed. Another one, which comes later, is heard before the first is through; and all
/// messages arrive.
#[test]
fn a_fast_client_is_slowed_down_and_loses_nothing() {
    for limit in [
        "max_client_packets_per_second = 20\nclient_burst_packets = 5",
        "max_client_bytes_per_second = 2000\nclient_burst_bytes = 500",
    ] {
        let port = free_port();
        let setup = Setup::with(&format!(
            "[sys]\ninterval = \"1s\"\n[[listeners]]\nname = \"slow\"\nbind = \"127.0.0.1:{port}\"\n{limit}\n"
        ));
        let daemon = setup.start();
        let open = daemon.port(Transport::Tcp);
        let mut reader = Peer::connect(open, "reader", true, 0).unwrap().0;
        reader.subscribe("load/#", Qos::AtMostOnce).unwrap();
        let mut fast = Peer::connect(port, "fast", true, 0).unwrap().0;
        let messages: Vec<Message> = (0..40)
            .map(|n| Message::new("load/fast", 0, &format!("{n:0>80}")))
            .collect();
        fast.say(&messages);
        let mut other = Peer::connect(port, "other", true, 0).unwrap().0;
        other.say(&[Message::new("load/other", 0, "me too")]);
        let came = reader.until(&messages[39].payload);
        let of_fast = came.iter().filter(|message| message.topic == "load/fast");
        assert!(
            of_fast
                .map(|message| &message.payload)
                .eq(messages[..39].iter().map(|message| &message.payload))
        );
        assert_eq!(came.len(), 40, "the other was heard before the last of them");
        // And it is counted.
        reader
            .subscribe("$SYS/brokers/+/metrics/clients/slowed", Qos::AtMostOnce)
            .unwrap();
        let slowed = std::iter::repeat_with(|| reader.hear()).find(|message| message.payload != "0");
        assert!(slowed.unwrap().payload.parse::<u32>().unwrap() > 0);
    }
}

/// Twenty packets a second for all together: two clients send forty each, nothing is lost, and both were slowed. A reload lets them go.
#[test]
fn clients_together_are_slowed_down_and_lose_nothing() {
    let limits = "[limits]\nmax_packets_per_second = 20\nburst_packets = 5\n";
    let setup = Setup::with(&format!("[sys]\ninterval = \"1s\"\n{limits}"));
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let mut reader = Peer::connect(port, "reader", true, 0).unwrap().0;
    reader.subscribe("load/#", Qos::AtMostOnce).unwrap();
    let messages: Vec<Message> = (0..40)
        .map(|n| Message::new("load/x", 0, &n.to_string()))
        .collect();
    let mut clients = ["one", "two"].map(|id| Peer::connect(port, id, true, 0).unwrap().0);
    clients.iter_mut().for_each(|client| client.say(&messages));
    let mut came: Vec<String> = (0..80).map(|_| reader.hear().payload).collect();
    came.sort();
    let mut expected: Vec<String> = messages
        .iter()
        .chain(&messages)
        .map(|m| m.payload.clone())
        .collect();
    expected.sort();
    assert_eq!(came, expected);
    reader
        .subscribe("$SYS/brokers/+/metrics/clients/slowed", Qos::AtMostOnce)
        .unwrap();
    let slowed = std::iter::repeat_with(|| reader.hear()).find(|message| message.payload != "0");
    assert!(slowed.unwrap().payload.parse::<u32>().unwrap() > 0);

    // Twenty thousand would take a thousand seconds.
    let file = setup.folder().join("headgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(limits, "")).unwrap();
    daemon.ask(&["reload"]);
    let many: Vec<Message> = (0..20_000).map(|_| Message::new("load/many", 0, "x")).collect();
    clients[0].say(&many);
    clients[0].say(&[Message::new("load/many", 1, "end")]);
    reader.until("end");
    daemon.stop();
}

/// Sensors of one user send more than it may: what is too much is answered with congestion (MQTT-SN 1.2 §5.3.10), what was accepted arrives, and a sensor of another user
/// notices nothing. A reload lets them go.
#[test]
fn sensors_of_one_user_are_told_of_congestion() {
    let sn_port = free_port();
    let limits = "[limits]\nmax_user_packets_per_second = 1\nuser_burst_packets = 4\n";
    let login = |id: &str, user: &str| {
        format!("{{ client_id = \"{id}\", username = \"{user}\", password = \"secret\" }},\n")
    };
    let logins = login("a1", "a") + &login("a2", "a") + &login("b1", "b");
    let setup = Setup::with(&format!(
        "[sys]\ninterval = \"1s\"\n{limits}[[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:{sn_port}\"\n\
         [mqttsn.gateway]\ncredentials = [\n{logins}]\n"
    ));
    std::fs::create_dir_all(setup.folder().join("data")).unwrap();
    let mut users = Users::default();
    for name in ["a", "b"] {
        users.set(name, "secret").unwrap();
    }
    users.save(&setup.folder().join("data/users.json")).unwrap();
    let daemon = setup.start();
    let mut reader = Peer::connect(daemon.port(Transport::Tcp), "reader", true, 0)
        .unwrap()
        .0;
    reader.subscribe("+", Qos::AtMostOnce).unwrap();
    let [one, two, other] = ["a1", "a2", "b1"].map(|id| sensor(sn_port, id));
    // §5.4.12: QoS 1, a short topic name.
    let publish = |socket: &UdpSocket, n: u8| {
        let sent = [8, 0x0C, 0x22, b's', b'x', 0, n, n];
        socket.send(&sent).unwrap();
        let mut answer = [0; 16];
        let len = socket.recv(&mut answer).expect("an answer");
        assert_eq!((len, answer[1], answer[5]), (7, 0x0D, n), "PUBACK of it");
        answer[6]
    };
    let mut accepted: Vec<u8> = Vec::new();
    for n in 1..=10 {
        for (socket, n) in [(&one, n), (&two, 100 + n)] {
            match publish(socket, n) {
                0 => accepted.push(n),
                code => assert_eq!(code, 1, "congestion"),
            }
        }
    }
    assert!((5..12).contains(&accepted.len()), "{accepted:?}");
    assert_eq!(publish(&other, 99), 0);
    let came: Vec<u8> = (0..=accepted.len())
        .map(|_| reader.hear().payload.as_bytes()[0])
        .collect();
    accepted.push(99);
    assert_eq!(came, accepted);
    reader
        .subscribe(
            "$SYS/brokers/+/metrics/mqttsn/datagrams/user_too_fast",
            Qos::AtMostOnce,
        )
        .unwrap();
    let refused = (21 - accepted.len()).to_string();
    reader.until(&refused);

    let file = setup.folder().join("headgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(limits, "")).unwrap();
    daemon.ask(&["reload"]);
    for n in 1..=100 {
        assert_eq!(publish(&one, n), 0);
    }
    daemon.stop();
}

/// However fast a connection of the same user is, its sensors have the rate of a user; who is refused is told of by a trace and in the log.
#[test]
fn a_fast_connection_leaves_its_users_sensors_their_rate() {
    let sn_port = free_port();
    let login = "{ client_id = \"a1\", username = \"a\", password = \"secret\" }";
    let setup = Setup::with(&format!(
        "[limits]\nmax_user_packets_per_second = 5\nuser_burst_packets = 5\n\
         [[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:{sn_port}\"\n[mqttsn.gateway]\ncredentials = [{login}]\n"
    ));
    std::fs::create_dir_all(setup.folder().join("data")).unwrap();
    let mut users = Users::default();
    users.set("a", "secret").unwrap();
    users.save(&setup.folder().join("data/users.json")).unwrap();
    let daemon = setup.start();
    let mut fast = Peer::connect_as(daemon.port(Transport::Tcp), "fast", "a", "secret").unwrap();
    let flood: Vec<Message> = (0..500).map(|_| Message::new("x", 0, "x")).collect();
    fast.say(&flood);
    let sensor = sensor(sn_port, "a1");
    daemon.ask(&["trace", "start", "sensor", "--client", "a1"]);
    // §5.4.10, §5.4.11: REGISTER and REGACK, whose return code is the last byte.
    let codes: Vec<u8> = (1..=12)
        .map(|n| {
            sensor.send(&[8, 0x0A, 0, 0, 0, n, b't', b'0' + n]).unwrap();
            let mut answer = [0; 16];
            let len = sensor.recv(&mut answer).expect("REGACK");
            answer[len - 1]
        })
        .collect();
    assert_eq!(codes[..5], [0; 5]);
    assert_eq!(codes[11], 1, "congestion");
    let told = |text: &str| text.contains("limits.max_user_packets_per_second");
    eventually("the record", || {
        let records: Vec<serde_json::Value> = setup.command(&["trace", "show", "sensor"]).unwrap();
        let mut all = records.iter();
        let is_it = |record: &serde_json::Value| {
            record["what"] == "refused" && record["text"].as_str().is_some_and(told)
        };
        all.any(is_it).then_some(())
    });
    eventually("the line", || {
        let log = setup.log();
        let mut lines = log.lines().filter(|line| line.contains("client is too fast"));
        lines.any(|line| line.contains("a1") && told(line)).then_some(())
    });
}

/// A sensor that is connected. MQTT-SN 1.2 §5.4.4, §5.4.5
fn sensor(port: u16, id: &str) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let len = u8::try_from(6 + id.len()).unwrap();
    let connect = [&[len, 0x04, 0x04, 0x01, 0, 60], id.as_bytes()].concat();
    socket.send(&connect).unwrap();
    let mut answer = [0; 16];
    let len = socket.recv(&mut answer).expect("an answer");
    assert_eq!(answer[..len], [3, 0x05, 0], "CONNACK");
    socket
}

/// [O08] A gateway that is held up again and again has more to do than it can: who is there stays, nobody new comes in by TCP or MQTT-SN, and operators are told; until it
/// is better.
#[test]
fn an_overloaded_gateway_takes_nobody_new() {
    let sn_port = free_port();
    let setup = Setup::with(&format!(
        "[limits]\nmax_delay = \"300ms\"\n[[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:{sn_port}\"\n"
    ));
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let mut there = Peer::connect(port, "there", true, 0).unwrap().0;
    there.subscribe("t", Qos::AtMostOnce).unwrap();
    let alarm_stands = || {
        let alarms = daemon.ask(&["alarms"]);
        let active = alarms["active"].as_array().cloned().unwrap_or_default();
        active.iter().any(|alarm| alarm["id"] == "overload")
    };
    let is_refused = |name: &str| {
        let listeners = daemon.ask(&["listeners"]);
        let mut all = listeners.as_array().into_iter().flatten();
        all.any(|listener| listener["name"] == name && listener["refused"]["overload"].as_u64() > Some(0))
    };
    let sensor = UdpSocket::bind("127.0.0.1:0").unwrap();
    sensor.connect(("127.0.0.1", sn_port)).unwrap();
    sensor.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // MQTT-SN 1.2 §5.4.4, §5.4.5: the return code is the last byte.
    let sensor_is_told = || {
        sensor.send(b"\x09\x04\x04\x01\x00\x3cnew").unwrap();
        let mut answer = [0; 16];
        sensor.recv(&mut answer).map(|n| answer[n - 1])
    };

    let busy = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while busy.load(Ordering::Relaxed) {
                for (name, ms) in [("STOP", 700), ("CONT", 100)] {
                    daemon.signal(name);
                    std::thread::sleep(Duration::from_millis(ms));
                }
            }
        });
        eventually("the alarm", || alarm_stands().then_some(()));
        eventually("somebody new to be kept out", || {
            Peer::connect(port, "new", true, 0).err()
        });
        eventually("a new sensor to be told", || {
            sensor_is_told().is_ok_and(|code| code == 1).then_some(())
        });
        assert!(is_refused("tcp"));
        there.say(&[Message::new("t", 0, "still here")]);
        assert_eq!(there.hear().payload, "still here");
        busy.store(false, Ordering::Relaxed);
    });
    eventually("it to be better", || Peer::connect(port, "new", true, 0).ok());
    eventually("the sensor to come in", || {
        sensor_is_told().is_ok_and(|code| code == 0).then_some(())
    });
    eventually("the end of the alarm", || (!alarm_stands()).then_some(()));
}
