//! `headgate pub` and `headgate sub`: what they can be told, and what they say.

use headgate_tests::ALL;
use headgate_tests::blackbox::{Certificates, Daemon, Setup, Transport, free_port, headgate};
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// Arguments that lead to the gateway.
fn way(daemon: &Daemon<'_>, transport: Transport) -> Vec<String> {
    let (port, ca) = (daemon.port(transport), daemon.setup().ca().display().to_string());
    let mut args = match transport {
        Transport::Tcp | Transport::Tls => {
            vec!["-h".into(), "localhost".into(), "-p".into(), port.to_string()]
        }
        Transport::Ws => vec!["--url".into(), format!("ws://localhost:{port}")],
        Transport::Wss => vec!["--url".into(), format!("wss://localhost:{port}/mqtt")],
    };
    if transport.is_secure() {
        args.extend(["--cafile".into(), ca]);
    }
    args
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
fn messages_pass_by_every_way() {
    let setup = Setup::new();
    let daemon = setup.start();
    for way in Transport::ALL.map(|transport| way(&daemon, transport)) {
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
    let setup = Setup::new();
    let daemon = setup.start();
    let way = way(&daemon, Transport::Tcp);
    let file = setup.folder().join("payload");
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
    let setup = Setup::new();
    let daemon = setup.start();
    let way = way(&daemon, Transport::Tcp);
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
    let setup = Setup::new();
    let daemon = setup.start();
    let way = way(&daemon, Transport::Tcp);
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

/// A terminal is told nothing but what can be seen; a pipe gets every byte. util-linux' `script` is the terminal.
#[test]
fn a_message_says_nothing_to_a_terminal() {
    let setup = Setup::new();
    let daemon = setup.start();
    let way = way(&daemon, Transport::Tcp);
    let topic = "r/\u{202e}x";
    let payload = "evil\u{1b}]0;title\u{7}\ttab";
    published(&way, &["-t", topic, "-m", payload, "-r", "-q", "1"], "");
    let args = ["-t", "r/#", "-C", "1", "-v"];
    let output = command("sub", &way, &args).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{topic} {payload}\n")
    );
    let on_terminal = |words: &[&str]| {
        let program = headgate().display().to_string();
        let line: Vec<String> = std::iter::once(program.as_str())
            .chain(words.iter().copied())
            .map(|word| format!("'{word}'"))
            .collect();
        let output = Command::new("script")
            .args(["-qec", &line.join(" "), "/dev/null"])
            .current_dir(setup.folder())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let sub: Vec<&str> = std::iter::once("sub")
        .chain(way.iter().map(String::as_str))
        .chain(args)
        .collect();
    for (words, shown) in [
        (sub, "r/\\u{202e}x evil\\u{1b}]0;title\\u{7}\ttab\r\n"),
        (
            vec!["retained", "show", topic, "--config", "headgate.toml"],
            "evil\\u{1b}]0;title\\u{7}\ttab\r\n",
        ),
    ] {
        assert_eq!(on_terminal(&words), shown);
    }
}

/// A client that acknowledges does not get the last message again.
#[test]
fn what_was_printed_does_not_come_again() {
    let setup = Setup::new();
    let daemon = setup.start();
    let way = way(&daemon, Transport::Tcp);
    let session = ["-i", "again", "-c", "-t", "s", "-q", "2"];
    let run = |count: &str| {
        let output = command("sub", &way, &session)
            .args(["-T", "ready", "-C", count, "-W", "60"])
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
fn sub_comes_back_when_the_gateway_does() {
    let setup = Setup::new();
    let daemon = setup.start();
    let way = way(&daemon, Transport::Tcp);
    let mut sub = Sub::start(&way, &["-t", "b"]);
    let _daemon = daemon.restart();
    // It is back some time; until then nobody listens.
    let line = std::thread::scope(|scope| {
        // What is retained comes again.
        let waiting = scope.spawn(|| std::iter::repeat_with(|| sub.line()).find(|line| line != "ready"));
        while !waiting.is_finished() {
            published(&way, &["-t", "b", "-m", "again"], "");
        }
        waiting.join().unwrap()
    });
    assert_eq!(line.as_deref(), Some("again"));
}

/// Each failure ends with an error that says what is wrong.
#[test]
fn failures_are_told_in_clear_words() {
    let other = Setup::new();
    let folder = tempfile::tempdir().unwrap();
    let own = Certificates::create_self_signed_authority(folder.path());
    let own_ca = own.ca.to_str().unwrap();
    let port = free_port();
    let listener = |name: &str, certificate: &Path, key: &Path| {
        format!(
            "[[listeners]]\nname = \"{name}\"\nkind = \"tls\"\nbind = \"127.0.0.1:{port}\"\ntls = {{ certificate = {certificate:?}, key = {key:?} }}\n"
        )
    };
    let setup = Setup::with(&format!(
        "[auth]\nanonymous = \"nowhere\"\n{}",
        listener("own", &own.certificate, &own.key)
    ));
    let daemon = setup.start();
    let of_a_ca = format!("mqtts://127.0.0.1:{port}");
    let without_tls = format!("mqtt://127.0.0.1:{}", daemon.port(Transport::Tls));
    let tls = format!("mqtts://127.0.0.1:{}", daemon.port(Transport::Tls));
    let tcp = format!("mqtt://127.0.0.1:{}", daemon.port(Transport::Tcp));
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let ws = format!("ws://127.0.0.1:{}", daemon.port(Transport::Tcp));
    let ca = setup.ca().to_str().unwrap();
    let url = |url: &str| vec!["--url".to_owned(), url.to_owned()];
    for (way, args, words) in [
        (url("mqtt://nowhere.invalid"), vec![], "cannot be resolved"),
        (url(&format!("mqtt://{closed}")), vec![], "Connection refused"),
        (
            url(&tls),
            vec!["--cafile", other.ca().to_str().unwrap()],
            "(see --cafile)",
        ),
        (url(&tls), vec!["--cafile", "/does/not/exist"], "/does/not/exist"),
        (url(&tcp), vec!["--tls", "--cafile", ca], "TLS with"),
        (url(&without_tls), vec![], "this port speaks TLS: use --cafile"),
        (url(&without_tls), vec!["-V", "3.1.1"], "this port speaks TLS"),
        (
            url(&of_a_ca),
            vec!["--cafile", own_ca],
            "its certificate is a CA's (CA:TRUE)",
        ),
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

/// A reader that has enough is no fault: `headgate … | head`.
#[test]
fn a_pipe_that_is_closed_ends_a_command_quietly() {
    for words in [
        ["check", "--reference"],
        ["check", "--print"],
        ["check", "--schema"],
    ] {
        let mut child = Command::new(headgate())
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{words:?}: {output:?}"
        );
    }
}
