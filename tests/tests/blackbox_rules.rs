//! Rules of the configuration hold for what is read, with the real binary and real clients, and change for whoever is connected.

use headgate_tests::V5;
use headgate_tests::blackbox::{Daemon, Job, Listening, Message, Setup, Tool, Transport};
use std::fmt::Write as _;

/// Rules that deny this, and allow all else.
fn rules(denied: &[&str]) -> String {
    let mut rules = String::new();
    for topic in denied {
        let _ = writeln!(
            rules,
            "[[auth.acl]]\neffect = \"deny\"\nclient = \"reader\"\ntopics = [\"{topic}\"]"
        );
    }
    rules + "[[auth.acl]]\neffect = \"allow\"\n"
}

fn job(id: &str) -> Job {
    let job = Job::new(Transport::Tcp, V5);
    Job { id: id.into(), ..job }
}

/// What the reader gets of `deny/x`, `other/x` and `open/x`, published now.
fn heard(daemon: &Daemon<'_>, reader: &mut Listening, round: &str) -> Vec<String> {
    let said = ["deny/x", "other/x", "open/x", "end"].map(|topic| {
        let payload = format!("{round} {topic}");
        Message::new(topic, 1, &payload)
    });
    Tool::Mosquitto.publish(daemon, &job("writer"), &said);
    let came = reader.until(&format!("{round} end"));
    came.into_iter().map(|message| message.topic).collect()
}

/// `deny deny/#` before `allow` all: who subscribes to `#` gets nothing of it, now or retained. Other rules are valid for it with `headgate reload`, both ways
/// and without a reconnect; a file that cannot be leaves it those it has.
#[test]
fn rules_are_changed_under_a_connected_client() {
    let setup = Setup::with(&rules(&["deny/#"]));
    let file = setup.folder().join("headgate.toml");
    let daemon = setup.start();
    let text = std::fs::read_to_string(&file).unwrap();
    let before = rules(&["deny/#"]);
    assert!(text.contains(&before), "{text}");
    let retained = ["deny/kept", "open/kept"].map(|topic| Message {
        retain: true,
        ..Message::new(topic, 1, "kept")
    });
    Tool::Mosquitto.publish(&daemon, &job("writer"), &retained);

    let mut reader = Tool::Mosquitto.listen(&daemon, &job("reader"), &["#"]);
    let first = heard(&daemon, &mut reader, "at first");
    let mut first: Vec<&str> = first.iter().map(String::as_str).collect();
    first.retain(|topic| !topic.starts_with("black/box"));
    assert_eq!(first, ["open/kept", "other/x", "open/x"]);

    let reload = |acl: &str| {
        std::fs::write(&file, text.replace(&before, acl)).unwrap();
        daemon.setup().command(&["reload"])
    };
    reload(&rules(&["other/#"])).expect("good rules");
    assert_eq!(heard(&daemon, &mut reader, "others"), ["deny/x", "open/x"]);
    let (_, error) = reload(&rules(&["other/#/x"])).expect_err("no filter");
    assert!(error.contains("other/#/x"), "{error}");
    assert_eq!(heard(&daemon, &mut reader, "faulty"), ["deny/x", "open/x"]);
    reload(&rules(&[])).expect("good rules");
    assert_eq!(
        heard(&daemon, &mut reader, "none"),
        ["deny/x", "other/x", "open/x"]
    );
    reload(&before).expect("good rules");
    assert_eq!(heard(&daemon, &mut reader, "again"), ["other/x", "open/x"]);
}
