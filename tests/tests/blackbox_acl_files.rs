//! Files of rules and passwords of mosquitto: the same files, the same questions, and mosquitto's own answers.

use headgate_tests::blackbox::{Mosquitto, Setup, Transport, eventually};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const RULES: &str = "\
# Anonymous clients
topic read news/#
topic drop/+
user joe
topic read ready
topic read end
topic readwrite a/#
topic deny a/secret/#
topic write in/%c
topic read $SYS/broker/uptime/#
topic read out/+/x
user ann
topic deny a/#
topic a/b
pattern readwrite of/%u/#
pattern read cmd/%c
pattern read ready
pattern read end
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
    command.args(["-V", "mqttv5", "-q", "1"]);
    if let Some(user) = user {
        command.args(["-u", user, "-P", "secret"]);
    }
    command
}

/// Each is acknowledged before the next; those that are refused too.
fn publish(port: u16, who: Who, topics: &[&str]) {
    for topic in topics {
        let mut command = client("mosquitto_pub", port, who);
        let told = command.args(["-t", topic, "-m", "x"]).output();
        told.expect("mosquitto_pub is there");
    }
}

/// Topics that a reader gets by these filters of what a writer publishes.
fn heard(port: u16, reader: Who, filters: &[&str], writer: Who) -> BTreeSet<String> {
    let mut command = client("mosquitto_sub", port, reader);
    command.args(["-F", "%t"]);
    for filter in filters {
        command.args(["-t", filter]);
    }
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("mosquitto_sub is there");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut topics = lines.map(|line| line.expect("topics are text"));
    let is_ready = topics.find(|topic| topic == "ready");
    assert!(
        is_ready.is_some(),
        "{reader:?} does not hear that it is subscribed"
    );
    publish(port, writer, &TOPICS);
    publish(port, ROOT, &["end"]);
    let heard = topics.take_while(|topic| topic != "end").collect();
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    heard
}

const ROOT: Who = ("root", Some("root"));
const WITNESS: Who = ("witness", Some("root"));

/// What each may read, by `#` and by the filters that `#` does not stand for, and what of the topics it may publish.
fn answers(port: u16) -> Vec<(&'static str, Who, BTreeSet<String>)> {
    let mut ready = client("mosquitto_pub", port, ROOT);
    let told = ready.args(["-t", "ready", "-m", "x", "-r"]).status();
    assert!(told.expect("mosquitto_pub is there").success());
    let filters = ["#", "$other/#", "$share/g/cmd/#"];
    let asked = |who: Who| {
        let read = heard(port, who, &filters, ROOT);
        let written = heard(port, WITNESS, &filters[..2], who);
        [("read", who, read), ("write", who, written)]
    };
    [JOE, ANN, TIM, ANONYMOUS, ODD]
        .into_iter()
        .flat_map(asked)
        .collect()
}

/// mosquitto.conf(5), acl_file and password_file: five clients read and write 33 topics, with the hashes of `mosquitto_passwd`, which are ours in the end.
#[test]
fn mosquitto_and_headgate_agree_about_its_files() {
    let rules = format!("{RULES}user root\ntopic #\ntopic $other/#\n");
    let setup = Setup::with(
        "[auth]\nanonymous = \"everywhere\"\nacl_file = { path = \"acl\", format = \"mosquitto\" }\n",
    );
    let acl = setup.folder().join("acl");
    std::fs::write(&acl, &rules).unwrap();
    let passwords = setup.folder().join("passwords");
    for (user, how) in [
        ("joe", "sha512"),
        ("ann", "sha512-pbkdf2"),
        ("tim", "sha512"),
        ("root", "sha512-pbkdf2"),
    ] {
        let mut command = Command::new("mosquitto_passwd");
        command
            .args(["-H", how, "-b"])
            .arg(&passwords)
            .args([user, "secret"]);
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(&passwords)
            .unwrap();
        assert!(command.status().expect("mosquitto_passwd is there").success());
    }
    let mosquitto = Mosquitto::start(&format!(
        "acl_file {}\npassword_file {}",
        acl.display(),
        passwords.display()
    ));
    let daemon = setup.start();
    let import = ["users", "import", "--format", "mosquitto", "passwords"];
    let imported = setup.command(&import).expect("four users");
    assert_eq!(imported, [json!({ "added": 4, "replaced": 0, "kept": 0 })]);
    let port = daemon.port(Transport::Tcp);
    // Until the file is looked at again, they are unknown, and come in without a name.
    eventually("a wrong password to be refused", || {
        let mut wrong = client("mosquitto_pub", port, ("c", Some("ann")));
        let told = wrong.args(["-P", "secre", "-t", "a/b", "-m", "x"]).output();
        let is_refused = !told.expect("mosquitto_pub is there").status.success();
        is_refused.then_some(())
    });
    let theirs = answers(mosquitto.port());
    let ours = answers(port);
    let total: usize = theirs.iter().map(|(.., topics)| topics.len()).sum();
    assert!(total > 40, "rules that allow something: {theirs:?}");
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "ours and mosquitto's");
    }

    let users = setup.folder().join("data/users.json");
    eventually("every hash to be renewed", || {
        let text = std::fs::read_to_string(&users).expect("users");
        (text.matches("$argon2id$").count() == 4 && !text.contains("foreign")).then_some(())
    });
    let again = setup.command(&import).expect("four users");
    assert_eq!(again, [json!({ "added": 0, "replaced": 0, "kept": 4 })]);

    publish(port, ("other", Some("joe")), &["a/secret/x"]);
    let denies = rules.lines().position(|line| line == "topic deny a/secret/#");
    let why = format!("why=\"auth.acl_file acl:{}\"", denies.expect("it is there") + 1);
    setup.log_with(&[&why]);
    std::fs::write(&acl, format!("{rules}topic reed a\n")).unwrap();
    let (_, error) = setup.command(&["reload"]).expect_err("a faulty file");
    let line = rules.lines().count() + 1;
    let told = format!(
        "auth.acl_file: acl:{line}:7: `reed` is no access, allowed is read, write, readwrite and deny"
    );
    assert!(error.contains(&told), "{error}");
    assert_eq!(
        heard(port, WITNESS, &["#"], TIM),
        ours[5].2,
        "the rules of before"
    );
    std::fs::write(&acl, format!("{rules}user tim\ntopic other\n")).unwrap();
    setup.command(&["reload"]).expect("a good file");
    assert!(heard(port, WITNESS, &["#"], TIM).contains("other"));
}
