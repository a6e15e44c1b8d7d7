//! `headgate pub` and `headgate sub`, against a broker that is not ours and against ours.

use headgate_tests::ALL;
use headgate_tests::blackbox::{Certificates, Setup, Transport, eventually, headgate, install};
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// mosquitto, with a listener for TCP, TLS and WebSocket each.
struct Mosquitto {
    folder: tempfile::TempDir,
    ports: [u16; 3],
    child: Child,
}

impl Mosquitto {
    fn start() -> Self {
        install();
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::create(folder.path());
        // Ports that were free a moment ago.
        let ports = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = ports.map(|listener| listener.local_addr().unwrap().port());
        let (certificate, key) = (certificates.certificate.display(), certificates.key.display());
        let [tcp, tls, ws] = ports;
        let config = format!(
            "allow_anonymous true\nuser root\nlistener {tcp} 127.0.0.1\nlistener {tls} 127.0.0.1\n\
             certfile {certificate}\nkeyfile {key}\nlistener {ws} 127.0.0.1\nprotocol websockets\n"
        );
        std::fs::write(folder.path().join("mosquitto.conf"), config).unwrap();
        let child = Self::run(folder.path());
        let mosquitto = Self { folder, ports, child };
        mosquitto.wait();
        mosquitto
    }

    fn run(folder: &Path) -> Child {
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(folder.join("mosquitto.conf"));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stderr(Stdio::null()).spawn().unwrap()
    }

    fn wait(&self) {
        for port in self.ports {
            eventually("mosquitto", || TcpStream::connect(("127.0.0.1", port)).ok());
        }
    }

    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::run(self.folder.path());
        self.wait();
    }

    /// Arguments that lead to it by TCP, TLS and WebSocket.
    fn ways(&self) -> [Vec<String>; 3] {
        let [tcp, tls, ws] = self.ports;
        let ca = self.folder.path().join("ca.pem").display().to_string();
        let args = |args: &[&str]| args.iter().map(|&arg| arg.to_owned()).collect();
        [
            args(&["-h", "127.0.0.1", "-p", &tcp.to_string()]),
            args(&["-h", "localhost", "-p", &tls.to_string(), "--cafile", &ca]),
            args(&["--url", &format!("ws://localhost:{ws}/mqtt")]),
        ]
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(name: &str, way: &[String], args: &[&str]) -> Command {
    let mut command = Command::new(headgate());
    command
        .arg(name)
        .args(way)
        .args(args)
        .env_remove("HEADGATE_PASSWORD");
    command
}

fn publish(way: &[String], args: &[&str], input: &str) -> Output {
    let mut child = command("pub", way, args);
    let child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Publishes and must succeed.
fn published(way: &[String], args: &[&str], input: &str) {
    let output = publish(way, args, input);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A running `headgate sub`.
struct Sub {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Sub {
    /// Waits until it is subscribed: until then it is told with a retained message.
    fn start(way: &[String], args: &[&str]) -> Self {
        let ready = ["-t", "ready", "-m", "ready", "-r", "-q", "1"];
        published(way, &ready, "");
        let child = command("sub", way, args)
            .args(["-t", "ready"])
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let output = child.stdout.take().unwrap();
        let mut sub = Self {
            child,
            lines: BufReader::new(output).lines(),
        };
        while !sub.line().contains("ready") {}
        sub
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("another line").unwrap()
    }
}

impl Drop for Sub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn messages_pass_through_a_broker_that_is_not_ours() {
    let mosquitto = Mosquitto::start();
    for way in mosquitto.ways() {
        for version in ALL.map(|version| version.to_string()) {
            let topic = format!("t/{version}/{}", way.len());
            let mut sub = Sub::start(
                &way,
                &["-V", &version, "-t", &topic, "-q", "2", "-F", "%t|%q|%r|%l|%x|%p"],
            );
            for qos in ["0", "1", "2"] {
                published(&way, &["-V", &version, "-t", &topic, "-q", qos, "-m", "é"], "");
                assert_eq!(sub.line(), format!("{topic}|{qos}|0|2|c3a9|é"), "{way:?}");
            }
        }
    }
}

#[test]
fn a_payload_comes_from_wherever_it_is_told() {
    let mosquitto = Mosquitto::start();
    let [way, ..] = mosquitto.ways();
    let file = mosquitto.folder.path().join("payload");
    std::fs::write(&file, "from a file").unwrap();
    let mut sub = Sub::start(&way, &["-t", "p", "-q", "2"]);
    published(&way, &["-t", "p", "-f", file.to_str().unwrap()], "");
    assert_eq!(sub.line(), "from a file");
    published(&way, &["-t", "p", "-s"], "all of it");
    assert_eq!(sub.line(), "all of it");
    published(&way, &["-t", "p", "-n"], "");
    assert_eq!(sub.line(), "");
    let many: Vec<String> = (0..1000).map(|n| format!("line {n}")).collect();
    published(&way, &["-t", "p", "-l", "-q", "2"], &many.join("\n"));
    assert!(many.iter().all(|line| sub.line() == *line));
    published(
        &way,
        &["-t", "p", "-m", "thrice", "--repeat", "3", "--topic-alias", "2"],
        "",
    );
    assert!((0..3).all(|_| sub.line() == "thrice"));
}

#[test]
fn properties_travel() {
    let mosquitto = Mosquitto::start();
    let [way, ..] = mosquitto.ways();
    let mut sub = Sub::start(&way, &["-t", "p", "--json"]);
    let told = [
        "--content-type",
        "text/plain",
        "--response-topic",
        "answer",
        "--correlation-data",
        "7",
    ];
    let more = [
        "--user-property",
        "a=b",
        "--user-property",
        "a=c=d",
        "--expiry",
        "100",
        "-t",
        "p",
        "-m",
        "x",
    ];
    published(&way, &[&told[..], &more[..]].concat(), "");
    let value: serde_json::Value = serde_json::from_str(&sub.line()).unwrap();
    let expected = serde_json::json!({
        "content-type": "text/plain",
        "response-topic": "answer",
        "correlation-data": "7",
        "user-properties": [{ "a": "b" }, { "a": "c=d" }],
        "message-expiry-interval": 100,
    });
    assert_eq!(value["properties"], expected);
}

#[test]
fn sub_prints_what_is_wanted_and_ends_when_it_is_enough() {
    let mosquitto = Mosquitto::start();
    let [way, ..] = mosquitto.ways();
    published(&way, &["-t", "r/1", "-m", "kept", "-r", "-q", "1"], "");
    let run = |args: &[&str]| {
        let output = command("sub", &way, args).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&["-t", "r/#", "-C", "1", "-v"]), (true, "r/1 kept\n".into()));
    assert_eq!(run(&["-t", "r/#", "-C", "1", "-N"]), (true, "kept".into()));
    assert_eq!(
        run(&["-t", "r/#", "-C", "1", "-R", "-W", "0.5"]),
        (false, String::new())
    );
    assert_eq!(
        run(&["-t", "r/#", "-T", "r/1", "-W", "0.5"]),
        (true, String::new())
    );
    assert_eq!(run(&["-U", "r/#"]), (true, String::new()));
}

/// A client that acknowledges does not get the last message again.
#[test]
fn what_was_printed_does_not_come_again() {
    let mosquitto = Mosquitto::start();
    let [way, ..] = mosquitto.ways();
    let session = ["-i", "again", "-c", "-t", "s", "-q", "2"];
    let run = |count: &str| {
        let output = command("sub", &way, &session)
            .args(["-C", count, "-W", "60"])
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let sub = Sub::start(&way, &session);
    drop(sub);
    published(&way, &["-t", "s", "-l", "-q", "2"], "1\n2\n3\n4\n");
    assert_eq!(run("2"), "1\n2\n");
    assert_eq!(run("2"), "3\n4\n");
}

#[test]
fn sub_comes_back_when_the_broker_does() {
    let mut mosquitto = Mosquitto::start();
    let [way, ..] = mosquitto.ways();
    let mut sub = Sub::start(&way, &["-t", "b"]);
    mosquitto.restart();
    // It is back some time; until then nobody listens.
    let line = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| sub.line());
        while !waiting.is_finished() {
            published(&way, &["-t", "b", "-m", "again"], "");
        }
        waiting.join().unwrap()
    });
    assert_eq!(line, "again");
}

/// Each failure ends with an error that says what is wrong.
#[test]
fn failures_are_told_in_clear_words() {
    let mosquitto = Mosquitto::start();
    let setup = Setup::with("[auth]\nanonymous = \"nowhere\"\n");
    let daemon = setup.start();
    let tls = format!("mqtts://127.0.0.1:{}", daemon.port(Transport::Tls));
    let tcp = format!("mqtt://127.0.0.1:{}", daemon.port(Transport::Tcp));
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let ws = format!("ws://127.0.0.1:{}", mosquitto.ports[0]);
    let ca = setup.ca().to_str().unwrap();
    let other_ca = mosquitto.folder.path().join("ca.pem");
    let url = |url: &str| vec!["--url".to_owned(), url.to_owned()];
    for (way, args, words) in [
        (url("mqtt://nowhere.invalid"), vec![], "cannot be resolved"),
        (url(&format!("mqtt://{closed}")), vec![], "Connection refused"),
        (
            url(&tls),
            vec!["--cafile", other_ca.to_str().unwrap()],
            "(see --cafile)",
        ),
        (url(&tls), vec!["--cafile", "/does/not/exist"], "/does/not/exist"),
        (url(&tcp), vec!["--tls", "--cafile", ca], "TLS with"),
        (url(&ws), vec![], "WebSocket with"),
        (url(&tcp), vec![], "refused the connection: Not authorized"),
        (
            url(&tcp),
            vec!["-u", "ann", "-P", "wrong"],
            "refused the connection: ",
        ),
        (url(&tcp), vec!["-V", "3.1.1", "-P", "x"], "needs a user name"),
        (url(&tcp), vec!["-c"], "--id"),
        (url(&tcp), vec!["-V", "4.2"], "3.1, 3.1.1 and 5"),
    ] {
        let output = publish(&way, &[&["-t", "t", "-m", "m"], &args[..]].concat(), "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(words),
            "{way:?} {args:?}: {said}"
        );
    }
    let output = publish(&url(&tcp), &["-t", "a/#", "-m", "m"], "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("a/#"));
}
