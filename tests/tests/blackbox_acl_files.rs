//! Files of rules of mosquitto: the same file, the same questions, and mosquitto's own answers.

use headgate_tests::blackbox::{Mosquitto, Setup, Transport};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

const RULES: &str = "\
# Anonymous clients
topic read news/#
topic drop/+
user joe
topic readwrite a/#
topic deny a/secret/#
topic write in/%c
topic read $SYS/broker/uptime/#
topic read out/+/x
user ann
topic deny #
topic a/b
pattern readwrite of/%u/#
pattern read cmd/%c
topic read late
pattern deny of/+/deny
pattern deny a/kept
pattern write both/%c/%u
user joe
topic read spaced out/a b
topic x/#
";

/// Who asks: client id and user name.
type Who = (&'static str, Option<&'static str>);

const JOE: Who = ("pump", Some("joe"));
const ANN: Who = ("valve", Some("ann"));
/// A user without a section.
const TIM: Who = ("lamp", Some("tim"));
const ANONYMOUS: Who = ("c", None);
const ODD: Who = ("od+d", Some("joe"));

/// Each is published, by who may do all, and by those above.
const TOPICS: [&str; 33] = [
    "news",
    "news/a/b",
    "drop/a",
    "drop/a/b",
    "a",
    "a/b",
    "a/secret",
    "a/secret/x",
    "a/kept",
    "in/%c",
    "in/pump",
    "out/1/x",
    "out/1/y",
    "of/joe",
    "of/joe/t",
    "of/joe/deny",
    "of/ann/t",
    "of/ann/deny",
    "of/tim/t/u",
    "cmd/pump",
    "cmd/valve",
    "cmd/lamp",
    "cmd/c",
    "late",
    "both/pump/joe",
    "both/lamp/tim",
    "both/c/",
    "spaced out/a b",
    "x",
    "x/y/z",
    "other",
    "of/%u/t",
    "$other/x",
];

fn client(program: &str, port: u16, (id, user): Who) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-i", id]);
    if let Some(user) = user {
        command.args(["-u", user, "-P", "secret"]);
    }
    command
}

/// Topics that a command's subscriber heard until the last one was published.
fn heard(mut subscriber: Command, publish: impl Fn()) -> BTreeSet<String> {
    subscriber.args(["-F", "%t", "-W", "3"]);
    let child = subscriber.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let child = child.expect("mosquitto_sub is there");
    std::thread::sleep(std::time::Duration::from_millis(700));
    publish();
    let output = child.wait_with_output().expect("it ends by itself");
    let text = String::from_utf8(output.stdout).expect("topics are text");
    text.lines().map(str::to_owned).collect()
}

fn publish_all(port: u16, who: Who) {
    for topic in TOPICS {
        let mut command = client("mosquitto_pub", port, who);
        let told = command.args(["-t", topic, "-m", "x", "-q", "0"]).status();
        assert!(told.expect("mosquitto_pub is there").success());
    }
}

const ROOT: Who = ("root", Some("root"));

/// What each may read by `#` and the filters that `#` does not stand for, and what of the topics it may publish.
fn answers(port: u16) -> Vec<(&'static str, Who, BTreeSet<String>)> {
    let all = ["-t", "#", "-t", "$other/#", "-t", "$share/g/cmd/#"];
    let ask = |who: Who| {
        let mut reader = client("mosquitto_sub", port, who);
        reader.args(all);
        let read = heard(reader, || publish_all(port, ROOT));
        let mut witness = client("mosquitto_sub", port, ("witness", Some("root")));
        witness.args(&all[..4]);
        let written = heard(witness, || publish_all(port, who));
        [("read", who, read), ("write", who, written)]
    };
    let askers = [JOE, ANN, TIM, ANONYMOUS, ODD];
    std::thread::scope(|scope| {
        // One after the other: each publishes.
        scope
            .spawn(|| askers.into_iter().flat_map(ask).collect())
            .join()
            .expect("it has asked")
    })
}

/// mosquitto.conf(5), acl_file: five clients read and write 33 topics.
#[test]
fn mosquitto_and_headgate_agree_about_an_acl_file() {
    let rules = format!("{RULES}user root\ntopic #\ntopic $other/#\n");
    let setup = Setup::with(
        "[auth]\nanonymous = \"everywhere\"\nacl_file = { path = \"acl\", format = \"mosquitto\" }\n",
    );
    let acl = setup.folder().join("acl");
    std::fs::write(&acl, rules).unwrap();
    let mosquitto = Mosquitto::start(&format!("acl_file {}", acl.display()));
    for user in ["joe", "ann", "tim", "root"] {
        setup.command(&["users", "add", user, "--password-file", "pw"]).ok();
    }
    let daemon = setup.start();
    let theirs = answers(mosquitto.port());
    let ours = answers(daemon.port(Transport::Tcp));
    let total: usize = theirs.iter().map(|(.., topics)| topics.len()).sum();
    assert!(total > 40, "rules that allow something: {theirs:?}");
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(ours, theirs);
    }
}
