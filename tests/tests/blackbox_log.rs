//! What an operator reads in the log at `info`: who was refused what, where and by which rule; and the end of everything whose beginning is told.

use headgate_auth::Users;
use headgate_tests::blackbox::{
    Daemon, HANG, Message, Mosquitto, Peer, Setup, SnPeer, Transport, headgate, own_address,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

const ACCESS: &str = r##"
[auth]
anonymous = "loopback"
[[auth.acl]]
effect = "deny"
topics = ["secret/#"]
[[auth.acl]]
effect = "allow"
topics = ["#"]
"##;

/// Runs one of our commands; whether it did well does not matter.
fn run(daemon: &Daemon<'_>, transport: Transport, words: &[&str]) {
    let output = Command::new(headgate())
        .args(words)
        .args(["-h", "127.0.0.1", "-p", &daemon.port(transport).to_string()])
        .output();
    output.expect("it runs");
}

/// A line with all of these.
fn expect(setup: &Setup, parts: &[&str]) -> String {
    let until = Instant::now() + HANG;
    loop {
        let log = setup.log();
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains(" INFO ") && parts.iter().all(|part| line.contains(part)));
        if let Some(line) = line {
            return line.to_owned();
        }
        assert!(Instant::now() < until, "no line with {parts:?} in\n{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_the_rules_deny_is_told_with_client_listener_topic_and_rule() {
    let setup = Setup::with(ACCESS);
    let daemon = setup.start();
    let rule = "why=\"auth.acl[0]\"";
    for version in ["3.1.1", "5"] {
        let id = format!("pub-{version}");
        let words = [
            "pub", "-V", version, "-i", &id, "-q", "1", "-t", "secret/a", "-m", "x",
        ];
        run(&daemon, Transport::Tcp, &words);
        let client = format!("client=\"{id}\"");
        expect(
            &setup,
            &[
                "publish refused",
                "listener=tcp",
                &client,
                "peer=127.0.0.1",
                "topic=\"secret/a\"",
                rule,
            ],
        );
    }
    let url = format!("ws://127.0.0.1:{}/mqtt", daemon.port(Transport::Ws));
    let words = ["sub", "-i", "sub", "-t", "secret/#", "--url", &url];
    let output = Command::new(headgate()).args(words).output();
    output.expect("it runs");
    expect(
        &setup,
        &[
            "subscription refused",
            "listener=ws",
            "client=\"sub\"",
            "filter=\"secret/#\"",
            rule,
        ],
    );
    let will = [
        "pub",
        "-i",
        "mourner",
        "-t",
        "a",
        "-m",
        "x",
        "--will-topic",
        "secret/will",
    ];
    run(&daemon, Transport::Tcp, &will);
    expect(
        &setup,
        &[
            "will refused",
            "client=\"mourner\"",
            "topic=\"secret/will\"",
            rule,
        ],
    );
    run(
        &daemon,
        Transport::Tcp,
        &["pub", "-i", "system", "-t", "$SYS/x", "-m", "x"],
    );
    expect(
        &setup,
        &[
            "publish refused",
            "client=\"system\"",
            "topics under $SYS are the gateway's",
        ],
    );
}

#[test]
fn who_is_not_let_in_is_told() {
    let setup = Setup::with(&ACCESS.replace("loopback", "nowhere"));
    let mut users = Users::default();
    users.set("joe", "his").unwrap();
    users.set("ann", "hers").unwrap();
    users.save(&setup.folder().join("data/users.json")).unwrap();
    let daemon = setup.start();
    let connect = |id: &str, more: &[&str]| {
        let words = ["pub", "-i", id, "-t", "a", "-m", "x", "--no-clean"];
        run(&daemon, Transport::Tcp, &[&words, more].concat());
    };
    connect("nobody", &[]);
    let refused = ["client refused", "listener=tcp", "peer=127.0.0.1:"];
    expect(
        &setup,
        &[&refused[..], &["client=\"nobody\"", "auth.anonymous"]].concat(),
    );
    connect("guess", &["-u", "joe", "-P", "wrong"]);
    let line = expect(
        &setup,
        &[
            &refused[..],
            &["client=\"guess\"", "user=\"joe\"", "wrong user name or password"],
        ]
        .concat(),
    );
    assert!(!line.contains("\"wrong\""), "no password in the log: {line}");
    connect("pump", &["-u", "joe", "-P", "his"]);
    connect("pump", &["-u", "ann", "-P", "hers"]);
    expect(
        &setup,
        &[
            "client refused",
            "client=\"pump\"",
            "user=\"ann\"",
            "another user opened the session",
        ],
    );
    connect("$bridge/hall", &["-u", "joe", "-P", "his"]);
    expect(&setup, &["client refused", "client=\"$bridge/hall\"", "(0x85)"]);
}

/// What a client lacks stands in the line; and one that is thrown out later has one, too.
#[test]
fn broken_handshakes_and_broken_rules_are_told() {
    let setup = Setup::with(&format!(
        "{ACCESS}\n[[listeners]]\nname = \"proxied\"\nkind = \"tcp\"\nbind = \"127.0.0.1:0\"\nproxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]\n"
    ));
    let daemon = setup.start();
    // MQTT to the port with TLS.
    let port = daemon.port(Transport::Tls);
    let mut plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
    plain
        .write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a")
        .unwrap();
    let _ = plain.read(&mut [0; 64]);
    expect(
        &setup,
        &[
            "connection refused",
            "listener=tls",
            "reason=\"tls\"",
            "does not speak TLS",
        ],
    );
    // A client that does not know the authority.
    run(&daemon, Transport::Tls, &["pub", "--tls", "-t", "a", "-m", "x"]);
    expect(
        &setup,
        &[
            "connection refused",
            "listener=tls",
            "does not trust the gateway's certificate",
        ],
    );
    // Something that is no MQTT at all.
    let mut http = TcpStream::connect(("127.0.0.1", daemon.port(Transport::Tcp))).unwrap();
    http.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let _ = http.read(&mut [0; 64]);
    expect(&setup, &["client refused", "listener=tcp", "peer=127.0.0.1"]);
    // A line that should be the PROXY protocol's.
    let proxied = daemon.port_of("proxied");
    let mut stranger = TcpStream::connect(("127.0.0.1", proxied)).unwrap();
    let _ = stranger.write_all(b"PROXY TCP4 nonsense\r\n");
    let _ = stranger.read(&mut [0; 64]);
    expect(
        &setup,
        &["connection refused", "listener=proxied", "reason=\"proxy\""],
    );
    // The same client id twice.
    let (mut first, _) = Peer::connect(daemon.port(Transport::Tcp), "twin", true, 0).unwrap();
    let _second = Peer::connect(daemon.port(Transport::Tcp), "twin", true, 0).unwrap();
    assert!(matches!(
        first.recv(),
        Ok(headgate_mqtt_codec::Packet::Disconnect(_))
    ));
    expect(
        &setup,
        &["disconnected by the gateway", "client=\"twin\"", "(0x8E)"],
    );
    expect(
        &setup,
        &[
            "a new connection has this client's session",
            "client=\"twin\"",
            "old=",
        ],
    );
}

#[test]
fn what_mqtt_sn_clients_are_denied_is_told() {
    let address = own_address();
    let setup = Setup::with(&format!(
        "{ACCESS}\n[[mqttsn]]\nname = \"field\"\nbind = \"{address}\"\n"
    ));
    let _daemon = setup.start();
    let mut sensor = SnPeer::new(address, "sensor");
    sensor.connect(true, 60, None);
    sensor.publish(&Message::new("secret/a", 0, "x"));
    expect(
        &setup,
        &[
            "publish refused",
            "listener=field",
            "client=\"sensor\"",
            "topic=\"secret/a\"",
            "auth.acl[0]",
        ],
    );
}

/// By default both would end a process.
#[test]
fn user_signals_end_nothing() {
    let setup = Setup::new();
    let mut daemon = setup.start();
    for name in ["USR1", "USR2"] {
        daemon.signal(name);
        expect(
            &setup,
            &["a signal without a meaning was ignored", &format!("SIG{name}")],
        );
    }
    assert!(daemon.is_alive());
    daemon.stop();
    expect(&setup, &["gateway has stopped"]);
}

#[test]
fn a_bridge_that_is_lost_and_found_is_told_and_shown_as_it_is() {
    let mut mosquitto = Mosquitto::start("");
    let setup = Setup::with(&format!(
        "node = \"log\"\n[[bridges]]\nname = \"hall\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\ntopics = [\"t/# out 1\"]\n\
         uplink.restart_timeout = {{ base = \"1s\", cap = \"1s\" }}\n",
        mosquitto.port()
    ));
    let daemon = setup.start();
    daemon.until_bridge_is("hall", "connected");
    mosquitto.stop();
    daemon.until_bridge("hall", "has an error", |bridge| !bridge["last_error"].is_null());
    mosquitto.run();
    let bridge = daemon.until_bridge_is("hall", "connected");
    assert!(bridge["last_error"].is_null(), "{bridge}");
    let told = |what: &str| {
        let log = setup.log();
        let lines = log
            .lines()
            .filter(|line| line.contains(what) && line.contains("bridge=\"hall\""));
        lines.count()
    };
    eventually("the second connection in the log", || {
        (told("bridge connected") == 2).then_some(())
    });
    assert_eq!(told("bridge lost its remote"), 1, "{}", setup.log());
}
