//! What an operator sees of a running gateway by its command line, and does with clients, sessions and retained messages.

use headgate_auth::Users;
use headgate_mqtt_codec::{Packet, Qos, ReasonCode};
use headgate_tests::blackbox::{
    Daemon, HttpClient, Message, Mosquitto, Peer, Setup, SnPeer, Transport, eventually, free_port, headgate,
};
use serde_json::{Value, json};

fn say(daemon: &Daemon<'_>, messages: &[Message]) {
    let (mut peer, _) = Peer::connect(daemon.port(Transport::Tcp), "plant", true, 0).unwrap();
    peer.say(messages);
}

fn connected(daemon: &Daemon<'_>, id: &str, expiry: u32, filter: &str) -> Peer {
    let (mut peer, _) = Peer::connect(daemon.port(Transport::Tcp), id, false, expiry).unwrap();
    peer.subscribe(filter, Qos::ExactlyOnce).unwrap();
    peer
}

/// The values of one key, row by row.
fn each<'v>(rows: &'v Value, key: &str) -> Vec<&'v Value> {
    rows.as_array().unwrap().iter().map(|row| &row[key]).collect()
}

fn refused(setup: &Setup, words: &[&str]) -> String {
    let (_, complaint) = setup.command(words).unwrap_err();
    complaint
}

#[test]
fn clients_are_listed_subscribed_and_disconnected() {
    let sn_port = free_port();
    let setup = Setup::with(&format!(
        "[[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:{sn_port}\"\n"
    ));
    let daemon = setup.start();
    let mut hall = connected(&daemon, "hall/1 ü%", 60, "t/#");
    connected(&daemon, "away", 60, "$share/g/t/#").vanish();
    let mut sensor = SnPeer::new(format!("127.0.0.1:{sn_port}").parse().unwrap(), "sensor");
    sensor.connect(true, 60, None);
    eventually("it to be away", || {
        let away = daemon.ask(&["sessions", "--state", "away"]);
        (each(&away, "client") == ["away"]).then_some(())
    });

    let clients = daemon.ask(&["clients"]);
    assert_eq!(each(&clients, "client"), ["hall/1 ü%", "sensor"]);
    assert_eq!(
        each(&daemon.ask(&["sessions"]), "client"),
        ["away", "hall/1 ü%", "sensor"]
    );
    let protocol = clients[1]["protocol"].as_str().unwrap();
    assert_eq!(
        each(&daemon.ask(&["clients", "--protocol", protocol]), "client"),
        ["sensor"]
    );
    let shown = daemon.ask(&["clients", "show", "hall/1 ü%"]);
    assert_eq!(
        (
            &shown["state"],
            &shown["expiry_seconds"],
            &shown["subscribed_to"][0]["filter"]
        ),
        (&json!("connected"), &json!(60), &json!("t/#"))
    );
    // Programs get seconds since 1970, people a date. RFC 3339
    assert!(shown["connected_at"].is_u64(), "{shown}");
    let said = setup.said(&["clients", "show", "hall/1 ü%"]);
    let connected = said
        .lines()
        .find(|line| line.starts_with("connected at"))
        .unwrap();
    assert!(connected.contains('T') && connected.ends_with('Z'), "{connected}");
    let subscriptions = daemon.ask(&["subscriptions"]);
    assert_eq!(each(&subscriptions, "filter"), ["$share/g/t/#", "t/#"]);
    let topics = daemon.ask(&["topics"]);
    assert_eq!(each(&topics, "subscribers"), [1, 1]);

    // What an operator subscribes for a client it gets, of what is retained too.
    let kept = Message {
        retain: true,
        ..Message::new("other/kept", 1, "kept")
    };
    say(&daemon, &[kept]);
    let granted = daemon.ask(&["clients", "subscribe", "hall/1 ü%", "other/#", "-q", "1"]);
    assert_eq!(granted["qos"], 1);
    assert_eq!(hall.hear().payload, "kept");
    say(&daemon, &[Message::new("other/x", 2, "1")]);
    assert_eq!(hall.hear(), Message::new("other/x", 1, "1"));
    daemon.ask(&["clients", "unsubscribe", "hall/1 ü%", "other/#"]);
    say(
        &daemon,
        &[Message::new("other/x", 1, "2"), Message::new("t/x", 1, "3")],
    );
    assert_eq!(hall.hear().payload, "3");

    daemon.ask(&["clients", "kick", "hall/1 ü%"]);
    assert!(matches!(hall.recv(), Ok(Packet::Disconnect(_))));
    daemon.ask(&["clients", "kick", "sensor"]);
    sensor.expect_goodbye();
    for (words, told) in [
        (&["clients", "kick", "nobody"][..], "`nobody` is not connected"),
        (&["clients", "show", "nobody"], "there is no client `nobody`"),
        (
            &["clients", "subscribe", "away", "a/#/b"],
            "is not a topic filter",
        ),
        (
            &["clients", "subscribe", "away", "a", "-q", "3"],
            "QoS 3 is out of range",
        ),
        (
            &["clients", "unsubscribe", "away", "a"],
            "has no subscription to `a`",
        ),
    ] {
        let complaint = refused(&setup, words);
        assert!(complaint.contains(told), "{words:?}: {complaint}");
    }
}

#[test]
fn a_queue_is_looked_at_and_emptied_and_a_session_removed() {
    let setup = Setup::with("[bus]\nmax_queued_in_memory = 2\n");
    let daemon = setup.start();
    connected(&daemon, "away", 3_600, "t/#").vanish();
    let messages: Vec<Message> = (0..5).map(|n| Message::new("t/x", 1, &n.to_string())).collect();
    say(&daemon, &messages);
    let waiting = daemon.ask(&["sessions", "queue", "away"]);
    assert_eq!(each(&waiting, "topic"), ["t/x"; 5]);
    assert_eq!(daemon.ask(&["sessions", "purge", "away"])["purged"], 5);
    assert_eq!(daemon.ask(&["sessions", "queue", "away"]), json!([]));
    say(&daemon, &[Message::new("t/x", 1, "last")]);
    let (mut back, present) = Peer::connect(daemon.port(Transport::Tcp), "away", false, 3_600).unwrap();
    assert!(present);
    assert_eq!(back.hear().payload, "last");
    back.vanish();
    daemon.ask(&["sessions", "remove", "away"]);
    let daemon = daemon.restart();
    assert_eq!(daemon.ask(&["sessions"]), json!([]), "it is gone for good");
    assert!(refused(&setup, &["sessions", "purge", "away"]).contains("there is no client `away`"));
}

#[test]
fn retained_messages_are_listed_shown_and_removed() {
    let setup = Setup::new();
    let daemon = setup.start();
    let retained = ["a/1", "a/2", "b/ü 1"].map(|topic| Message {
        retain: true,
        ..Message::new(topic, 1, topic)
    });
    say(&daemon, &retained);
    assert_eq!(each(&daemon.ask(&["retained"]), "topic"), ["a/1", "a/2", "b/ü 1"]);
    assert_eq!(
        each(&daemon.ask(&["retained", "--filter", "a/+"]), "topic"),
        ["a/1", "a/2"]
    );
    assert_eq!(daemon.ask(&["retained", "show", "b/ü 1"])["payload"], "b/ü 1");
    daemon.ask(&["retained", "remove", "a/1"]);
    let daemon = daemon.restart();
    assert_eq!(each(&daemon.ask(&["retained"]), "topic"), ["a/2", "b/ü 1"]);
    assert!(refused(&setup, &["retained", "remove", "a/1"]).contains("nothing is retained under `a/1`"));
}

/// The rule with its line, and whom it would concern.
#[test]
fn why_somebody_may_do_something_is_explained() {
    let mosquitto = Mosquitto::start("");
    let setup = Setup::with(&format!(
        "node = \"why\"\n[auth]\nsuperusers = [\"root\"]\n[[auth.acl]]\neffect = \"deny\"\ntopics = [\"t/secret/#\"]\n\
         [[auth.acl]]\neffect = \"allow\"\ntopics = [\"t/#\", \"#\"]\n\
         [firmware.commands]\ntopic = \"t/update\"\nusers = [\"root\"]\n\
         [[auth.listeners]]\nname = \"tcp\"\nacl = [\n{{ effect = \"allow\", topics = [\"own/%c\"] }},\n]\n\
         [[bridges]]\nname = \"up\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\ntopics = [\"t/# out 1\"]\n",
        mosquitto.port()
    ));
    std::fs::create_dir_all(setup.folder().join("data")).unwrap();
    let mut users = Users::default();
    users.set("root", "secret").unwrap();
    users.save(&setup.folder().join("data/users.json")).unwrap();
    let daemon = setup.start();
    let line_of = |text: &str| {
        let config = std::fs::read_to_string(setup.folder().join("headgate.toml")).unwrap();
        let line = config.lines().position(|line| line.contains(text)).unwrap();
        format!("headgate.toml:{}", line + 1)
    };
    let (mut reader, _) = Peer::connect(daemon.port(Transport::Tcp), "reader", true, 0).unwrap();
    reader.subscribe("own/reader", Qos::AtMostOnce).unwrap();
    daemon.ask(&["clients", "subscribe", "reader", "t/+", "-q", "1"]);
    let explain = |words: &[&str]| daemon.ask(&[&["explain", "--client", "c"], words].concat());

    let told = explain(&["--publish", "t/x", "--retain"]);
    assert_eq!(
        (&told["allowed"], &told["by"]),
        (&json!(true), &json!("auth.acl[1]"))
    );
    assert_eq!(told["bridges"], json!(["up"]));
    // Its own rules keep `reader` from it.
    assert_eq!((&told["sessions"], &told["kept_from"]), (&json!(0), &json!(1)));
    // Rules let it, and the settings do not.
    assert_eq!(told["against_command"], json!(null));
    let told = explain(&["--publish", "t/update/request"]);
    assert_eq!(told["allowed"], json!(true));
    let against = told["against_command"].as_str().unwrap();
    assert!(
        against.contains("an anonymous client has no commands"),
        "{against}"
    );
    let told = explain(&["--publish", "t/update/request", "--user", "root"]);
    assert_eq!(told["against_command"], json!(""));
    let told = explain(&["--publish", "t/secret/x"]);
    assert_eq!(
        (&told["allowed"], &told["by"]),
        (&json!(false), &json!("auth.acl[0]"))
    );
    let at = told["at"].as_str().unwrap();
    let line: usize = at.rsplit(':').next().unwrap().parse().unwrap();
    let first: usize = line_of("topics = [\"t/secret/#\"]")
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!((first - 2..=first).contains(&line), "{at}");
    let told = explain(&["--user", "root", "--publish", "t/secret/x"]);
    assert_eq!(
        (&told["allowed"], &told["by"]),
        (&json!(true), &json!("auth.superusers"))
    );
    let told = explain(&["--subscribe", "t/#"]);
    assert_eq!(
        (&told["allowed"], &told["narrowed"]),
        (&json!(true), &json!(true))
    );
    let told = explain(&["--listener", "tcp", "--publish", "own/c"]);
    assert_eq!(
        (&told["allowed"], &told["at"]),
        (&json!(true), &json!(line_of("own/%c")))
    );
    let told = explain(&["--listener", "tcp", "--publish", "own/other"]);
    assert_eq!(told["allowed"], json!(false));
    assert!(
        refused(
            &setup,
            &["explain", "--client", "c", "--listener", "nix", "--publish", "a"]
        )
        .contains("there is no listener `nix`")
    );

    let rules = daemon.ask(&["acl"]);
    assert_eq!(each(&rules, "rule"), ["auth.acl[0]", "auth.acl[1]"]);
    let rules = daemon.ask(&["acl", "--listener", "tcp"]);
    assert_eq!(
        (&rules[0]["rule"], &rules[0]["topics"]),
        (&json!("auth.listeners[0].acl[0]"), &json!(["own/%c"]))
    );

    let listeners = daemon.ask(&["listeners"]);
    let tcp = listeners
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "tcp")
        .unwrap();
    assert_eq!((&tcp["kind"], &tcp["connections"]), (&json!("tcp"), &json!(1)));
    assert!(
        tcp["address"]
            .as_str()
            .unwrap()
            .ends_with(&format!(":{}", daemon.port(Transport::Tcp)))
    );
}

/// The verdict is that of the client as it would be let in: by the name that its log-in gives it, without one, or not at all.
#[test]
fn who_is_not_let_in_may_not_do_anything() {
    let (shut, strict, sn_port) = (free_port(), free_port(), free_port());
    let own = ["ann", "plant", "ghost"]
        .map(|user| format!("[[auth.acl]]\neffect = \"allow\"\nuser = \"{user}\"\ntopics = [\"own/#\"]\n"));
    let setup = Setup::with(&format!(
        "[auth]\nclient_ids = [{{ id = \"pump\", password = \"p\", user = \"plant\" }}]\n\
         certificate = {{ user_name = \"common_name\" }}\n\
         {}\
         [[auth.acl]]\neffect = \"allow\"\ntopics = [\"open/#\"]\n\
         [[auth.listeners]]\nname = \"shut\"\nanonymous = \"nowhere\"\n\
         [[auth.listeners]]\nname = \"strict\"\nunknown_users = \"refuse\"\n\
         [[listeners]]\nname = \"shut\"\nbind = \"127.0.0.1:{shut}\"\n\
         [[listeners]]\nname = \"strict\"\nbind = \"127.0.0.1:{strict}\"\n\
         [[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:{sn_port}\"\n\
         [mqttsn.gateway]\ncredentials = [{{ client_id = \"meter\", username = \"ann\", password = \"secret\" }}]\n",
        own.concat()
    ));
    std::fs::create_dir_all(setup.folder().join("data")).unwrap();
    let mut users = Users::default();
    users.set("ann", "secret").unwrap();
    users.save(&setup.folder().join("data/users.json")).unwrap();
    let daemon = setup.start();
    let explain = |client: &str, words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        let told = daemon.ask(&[&["explain", "--client", client], &words[..]].concat());
        let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
        (told["allowed"] == true, text("user"), text("by"))
    };
    let not_in = "it is not let in: ";
    for (client, words, allowed, user, by) in [
        (
            "c",
            "--user ann --listener tcp --publish own/x",
            true,
            "ann",
            "auth.acl[",
        ),
        // Nobody is `ghost`: a rule for that name helps nobody, and no listener here verifies certificates.
        (
            "c",
            "--user ghost --listener tcp --publish own/x",
            false,
            "",
            "no rule",
        ),
        (
            "c",
            "--user ghost --listener tcp --publish open/x",
            true,
            "",
            "auth.acl[",
        ),
        (
            "c",
            "--user ghost --listener strict --publish open/x",
            false,
            "ghost",
            not_in,
        ),
        (
            "c",
            "--user ghost --listener shut --publish open/x",
            false,
            "ghost",
            not_in,
        ),
        ("c", "--listener shut --publish open/x", false, "", not_in),
        (
            "c",
            "--address 10.0.0.1 --listener tcp --publish open/x",
            false,
            "",
            not_in,
        ),
        (
            "pump",
            "--listener shut --publish own/x",
            true,
            "plant",
            "auth.acl[",
        ),
        (
            "pump",
            "--user ghost --listener tcp --publish own/x",
            true,
            "plant",
            "auth.acl[",
        ),
        (
            "meter",
            "--listener mqttsn/sn --publish own/x",
            true,
            "ann",
            "auth.acl[",
        ),
        (
            "other",
            "--listener mqttsn/sn --publish own/x",
            false,
            "",
            "no rule",
        ),
    ] {
        let told = explain(client, words);
        assert_eq!(
            (told.0, told.1.as_str()),
            (allowed, user),
            "{client} {words}: {told:?}"
        );
        assert!(told.2.starts_with(by), "{client} {words}: {told:?}");
    }
    let said = setup.said(&[
        "explain",
        "--client",
        "c",
        "--user",
        "ghost",
        "--listener",
        "strict",
        "--publish",
        "x",
    ]);
    assert!(said.contains("may not publish to x"), "{said}");
    assert!(
        said.contains("because: it is not let in: nobody is known by this user name (auth.unknown_users)"),
        "{said}"
    );
    let told = refused(&setup, &["clients", "--protocol", "gopher"]);
    assert!(told.contains("coap, lwm2m, mqtt, mqtt-sn, stomp"), "{told}");
    // Who is refused says goodbye all the same.
    let port = sn_port.to_string();
    let sent = std::process::Command::new(headgate())
        .args([
            "sn-pub",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-i",
            "refused",
            "-t",
            "own/x",
            "-q",
            "1",
            "-m",
            "x",
        ])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(
        !sent.status.success() && told.contains("the gateway refused "),
        "{told}"
    );
    let clients = daemon.ask(&["clients"]);
    assert!(
        !each(&clients, "client").contains(&&json!("refused")),
        "{clients}"
    );
    // A listener for datagrams goes by its list, too.
    let told = refused(
        &setup,
        &["explain", "--client", "c", "--listener", "sn", "--publish", "a"],
    );
    assert!(told.contains("that for datagrams is `mqttsn/sn`"), "{told}");

    // Names come from anybody: none speaks to the terminal.
    let evil = "x\u{1b}]0;title\u{7}\u{202e}\u{200b}y";
    let is_tame = |text: &str| {
        text.chars()
            .all(|c| c == '\n' || !c.is_control() && !matches!(c, '\u{202e}' | '\u{200b}'))
    };
    let mut told = vec![
        setup.said(&["explain", "--client", evil, "--user", evil, "--publish", evil]),
        setup.said(&["bans", "add", "--user", evil]),
        setup.said(&["bans", "list", "--json"]),
        setup.said(&["bans", "remove", "--user", evil]),
        refused(&setup, &["bans", "remove", "--user", evil]),
        refused(&setup, &["clients", "kick", evil]),
        refused(
            &setup,
            &["explain", "--client", "c", "--listener", evil, "--publish", "a"],
        ),
    ];
    let file = setup.folder().join("evil.toml");
    std::fs::write(&file, "node = 1\n\"k\\u001b\u{202e}\" = \"v\"\n").unwrap();
    let file = file.to_str().unwrap();
    for command in [["config", "apply", file], ["config", "diff", file]] {
        told.push(refused(&setup, &command));
    }
    for told in told {
        assert!(is_tame(&told), "{told:?}");
    }
}

/// Asked without a listener, a client that is connected is explained by its own: its mount point and its rules. Bans and names that nobody has are told in words.
#[test]
fn a_connected_client_is_explained_by_its_listener() {
    let (sn_port, port) = (free_port(), free_port());
    let rules = |name: &str| {
        format!(
            "[[auth.listeners]]\nname = \"{name}\"\nacl = [\n{{ effect = \"allow\", topics = [\"{name}/#\"] }},\n]\n"
        )
    };
    let setup = Setup::with(&format!(
        "{}{}[[listeners]]\nname = \"hall\"\nbind = \"127.0.0.1:{port}\"\nmount_point = \"hall/\"\n\
         [[mqttsn]]\nname = \"field\"\nbind = \"127.0.0.1:{sn_port}\"\nmount_point = \"field/\"\n",
        rules("hall"),
        rules("field")
    ));
    let daemon = setup.start();
    let _here = Peer::connect(port, "here", true, 0).unwrap().0;
    let mut sensor = SnPeer::new(format!("127.0.0.1:{sn_port}").parse().unwrap(), "sensor");
    sensor.connect(true, 60, None);
    let explain = |words: &[&str]| daemon.ask(&[&["explain", "--client"], words].concat());
    for (client, listener, topic) in [("here", "hall", "hall/x"), ("sensor", "mqttsn/field", "field/x")] {
        let told = explain(&[client, "--publish", "x"]);
        assert_eq!(told["listener"], listener);
        assert_eq!(
            (&told["topic"], &told["allowed"]),
            (&json!(topic), &json!(true)),
            "{told}"
        );
        assert_eq!(told["client_is_known"], true);
        // Said otherwise, it is otherwise.
        let told = explain(&[client, "--listener", "tcp", "--publish", "x"]);
        assert_eq!(told["topic"], "x");
    }

    let told = explain(&["nobody", "--user", "ghost", "--publish", "x"]);
    assert_eq!(
        [&told["client_is_known"], &told["user_is_known"], &told["banned"]],
        [&json!(false), &json!(false), &Value::Null]
    );
    for (kind, who) in [
        ("--client", "here"),
        ("--user", "ghost"),
        ("--address", "127.0.0.0/8"),
    ] {
        daemon.ask(&["bans", "add", kind, who, "--reason", "tests"]);
        let told = explain(&[
            "here",
            "--user",
            "ghost",
            "--address",
            "127.0.0.9",
            "--publish",
            "x",
        ]);
        assert_eq!(told["banned"][kind.trim_start_matches('-')], who, "{told}");
        daemon.ask(&["bans", "remove", kind, who]);
    }
    daemon.ask(&["bans", "add", "--client", "nobody", "--reason", "tests"]);
    let words = setup.said(&[
        "explain",
        "--client",
        "nobody",
        "--user",
        "ghost",
        "--publish",
        "x",
    ]);
    for part in [
        "banned, so it is not let in: client nobody, for ever: tests",
        "nobody has the client id nobody",
        "nobody is known by the user name ghost",
        "may publish to x",
    ] {
        assert!(words.contains(part), "{words}");
    }
}

/// What waits for a start needs no hand on the machine: the same process begins anew, and nothing that was acknowledged is lost.
#[test]
fn a_gateway_begins_anew_when_it_is_told_to() {
    let setup = Setup::new();
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let mut keeper = Peer::connect(port, "keeper", true, 3_600).unwrap().0;
    keeper.subscribe("t/#", Qos::AtLeastOnce).unwrap();
    keeper.vanish();
    let mut publisher = Peer::connect(port, "publisher", true, 0).unwrap().0;
    publisher.say(&[Message::new("t/x", 1, "before")]);
    let mut connected = Peer::connect(port, "connected", true, 0).unwrap().0;
    let control = HttpClient::control(&daemon);
    let run = || control.get("/api/v1/system").json()["run"].clone();
    let before = run();

    let said = setup.said(&["restart"]);
    assert_eq!(said.trim(), "the gateway serves again");
    assert_ne!(run(), before);
    // MQTT 5 §4.13: its clients were told.
    let Packet::Disconnect(goodbye) = connected.recv().unwrap() else {
        panic!("no goodbye");
    };
    assert_eq!(goodbye.reason, ReasonCode::ServerShuttingDown);
    assert!(setup.log().contains("gateway stops, and begins anew"));
    let rows = control.get("/api/v1/listeners").json()["rows"].clone();
    let tcp = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "tcp")
        .unwrap();
    let port = tcp["address"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let (mut keeper, present) = Peer::connect(port, "keeper", false, 3_600).unwrap();
    assert!(present);
    assert_eq!(keeper.hear().payload, "before");

    // Not into something that cannot be started.
    std::fs::write(setup.folder().join("headgate.toml"), "colour = \"red\"\n").unwrap();
    let refused = control.send("POST", "/api/v1/restart", &json!({}));
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("colour"), "{}", refused.text());
    assert_eq!(control.get("/api/v1/status").status, 200);
    daemon.stop();
}
