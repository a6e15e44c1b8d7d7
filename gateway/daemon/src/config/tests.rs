use super::*;

fn load(text: &str) -> Result<Config, String> {
    load_with(text, &[])
}

fn load_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("headgate.toml");
    std::fs::write(&path, text).unwrap();
    let environment = environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::load(Some(&path), environment).map_err(|error| {
        error
            .to_string()
            .replace(&format!("{}/", folder.path().display()), "")
    })
}

#[test]
fn without_a_file_only_loopback_is_served() {
    let config = Config::load(None, []).unwrap();
    assert_eq!(config, Config::default());
    assert!(
        config
            .listeners
            .iter()
            .all(|listener| listener.bind.starts_with("127.0.0.1:"))
    );
    let mqttsn = config.mqttsn.iter().map(|gateway| gateway.bind.as_deref());
    assert_eq!(mqttsn.collect::<Vec<_>>(), [Some("127.0.0.1:1884")]);
    let coap = config.coap.iter().map(|server| server.bind.as_deref());
    assert_eq!(coap.collect::<Vec<_>>(), [Some("127.0.0.1:5683")]);
    assert_eq!(load("").unwrap(), config, "an empty file changes nothing");
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_a_suggestion() {
    let error = load("node = \"a\"\n\n[mqtt]\nmax_qso = 1\n").unwrap_err();
    assert!(
        error.starts_with(
            "headgate.toml:4:1: mqtt.max_qso: unknown key `max_qso` (did you mean `max_qos`?), expected one of `"
        ),
        "{error}"
    );
}

#[test]
fn a_wrong_value_is_refused_with_its_place_and_what_is_allowed() {
    let error = load("[bus]\nwhen_full = \"drop_all\"\n").unwrap_err();
    assert!(
        error.starts_with("headgate.toml:2:13: bus.when_full: unknown variant `drop_all`"),
        "{error}"
    );
    assert!(error.contains("`drop_oldest`"), "{error}");
    let error = load("[mqtt]\nmax_qos = 3\n").unwrap_err();
    assert_eq!(
        error,
        "headgate.toml:2:1: mqtt.max_qos: 3 is out of range, allowed is 0 to 2"
    );
    let error = load("[[bus.rewrite]]\nsource = \"a/#/b\"\npattern = \"x\"\ntarget = \"y\"\n").unwrap_err();
    assert!(error.contains("rewrite.source"), "{error}");
}

/// `check --print` and the log may be seen by whoever must not know a password.
#[test]
fn a_password_is_never_shown() {
    let text = "[[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:0\"\n[mqttsn.gateway]\ndefault_password = \"dumb\"\n\
                    [mqttsn.gateway.qos_minus_one]\npassword = \"dumb\"\n\
                    [[mqttsn.gateway.credentials]]\nclient_id = \"c\"\nusername = \"u\"\npassword = \"dumb\"\n";
    let config = load(text).unwrap();
    let shown = [
        toml::to_string(&config).unwrap(),
        serde_json::to_string(&config).unwrap(),
        format!("{config:?}"),
    ];
    for shown in shown {
        assert!(!shown.contains("dumb") && shown.contains("(hidden)"), "{shown}");
    }
    // Nor where it is no text.
    let error = load(&text.replace("\"dumb\"", "271828")).unwrap_err();
    assert!(error.contains("a secret is a text, in quotes"), "{error}");
    assert!(!error.contains("271828"), "{error}");
    // And it stays what it is when something else comes from the environment.
    let config = load_with(text, &[("HEADGATE__NODE", "edge-7")]).unwrap();
    assert_eq!(config.mqttsn[0].gateway.credentials[0].password.reveal(), "dumb");
}

/// As in `listeners.access`.
#[test]
fn a_rule_is_for_a_network_or_one_address() {
    for (address, told) in [
        ("10.0.0.0/8", None),
        ("10.0.0.7", None),
        ("10.0.0", Some("`10.0.0` is no address")),
    ] {
        let rule = format!("[[auth.acl]]\neffect = \"deny\"\naddress = \"{address}\"\ntopics = [\"#\"]\n");
        let error = load(&rule).err();
        assert_eq!(error.is_some(), told.is_some(), "{error:?}");
        assert!(error.is_none_or(|error| told.is_some_and(|told| error.contains(told))));
    }
}

#[test]
fn http_goes_over_plain_connections_and_has_no_topics() {
    let listener = "[[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n";
    load(listener).unwrap();
    for (wrong, told) in [
        (
            "kind = \"ws\"",
            "headgate.toml:5:1: listeners.kind: `http`: HTTP is spoken plainly",
        ),
        (
            "mount_point = \"a/\"",
            "headgate.toml:5:1: listeners.mount_point: `http`: HTTP has no topics",
        ),
    ] {
        let error = load(&format!("{listener}{wrong}\n")).unwrap_err();
        assert!(error.starts_with(told), "{error}");
    }
}

/// MQTT says a QoS with every message; STOMP has a header for it that may be missing.
#[test]
fn a_listener_may_have_a_qos_for_what_says_none() {
    let listener = "[[listeners]]\nname = \"l\"\nbind = \"127.0.0.1:0\"\n";
    let with = |rest: &str| load(&format!("{listener}{rest}\n"));
    with("protocol = \"stomp\"\ndefault_qos = 0").unwrap();
    let error = with("protocol = \"stomp\"\ndefault_qos = 3").unwrap_err();
    let told = "headgate.toml:5:1: listeners.default_qos: `l`: 3 is out of range, allowed is 0 to 2";
    assert!(error.starts_with(told), "{error}");
    let error = with("default_qos = 0").unwrap_err();
    assert!(
        error.contains("listeners.default_qos: `l`: clients of `mqtt` always say"),
        "{error}"
    );
}

/// MQTT is no text, and a section that is wrong is told with its key.
#[test]
fn sockjs_carries_text_and_has_a_base() {
    let listener = "[[listeners]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nkind = \"sockjs\"\n";
    for protocol in ["mqtt", "http"] {
        let error = load(&format!("{listener}protocol = \"{protocol}\"\n")).unwrap_err();
        let told = format!("listeners.kind: `web`: SockJS carries text, and `{protocol}` is none");
        assert!(error.contains(&told), "{error}");
    }
    for (wrong, told) in [
        ("path = \"/\"", "listeners.sockjs.path: `web`: `/` is no base"),
        (
            "path = \"/a/{b}\"",
            "listeners.sockjs.path: `web`: `/a/{b}` is no base",
        ),
        (
            "heartbeat = \"0s\"",
            "listeners.sockjs.heartbeat: `web`: it is zero",
        ),
        (
            "client_url = \"x\"",
            "listeners.sockjs.client_url: `web`: `x` is no URL of a script",
        ),
    ] {
        let error = load(&format!("{listener}sockjs = {{ {wrong} }}\n")).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
}

/// Topics that would never be met, or mean something else.
#[test]
fn wrong_topics_of_update_commands_are_refused() {
    for (wrong, told) in [
        ("fleet/+", "`fleet/+`: "),
        ("fleet/{client}", "the only placeholder is {node}"),
        ("fleet/", "must not begin or end with `/`"),
        ("$SYS/update", "has a meaning of its own"),
        ("$delayed/5/update", "has a meaning of its own"),
    ] {
        let error = load(&format!("[firmware.commands]\ntopic = \"{wrong}\"\n")).unwrap_err();
        assert!(
            error.starts_with("headgate.toml:2:1: firmware.commands.topic: ") && error.contains(told),
            "{error}"
        );
    }
    for right in ["fleet/{node}/update", "$update"] {
        load(&format!(
            "[firmware.commands]\ntopic = \"{right}\"\nusers = [\"fleet\"]\n"
        ))
        .unwrap();
    }
}

/// The web UI is looked for where its port may be thought to stand.
#[test]
fn where_http_listens_is_told() {
    let error = load("[[listeners]]\nname = \"web\"\nkind = \"http\"\nbind = \"127.0.0.1:0\"\n").unwrap_err();
    assert!(
        error.contains("protocol = \"http\"") && !error.contains("did you mean"),
        "{error}"
    );
    let error = load("[http]\nbind = \"127.0.0.1:0\"\n").unwrap_err();
    assert!(
        error.contains("unknown key `bind`") && error.contains("`[[listeners]]`"),
        "{error}"
    );
}

#[test]
fn a_wrong_mqttsn_gateway_is_refused() {
    for (wrong, told) in [
        ("kind = \"udp\"", "`sn`: bind is missing"),
        ("kind = \"serial\"", "`sn`: serial is missing"),
        (
            "kind = \"serial\"\nserial = { port = \"/dev/ttyS1\", baud = 0 }",
            "serial.baud: `sn`: 0 is out of range",
        ),
        (
            "bind = \"0.0.0.0:1884\"\nserial = { port = \"/dev/ttyS1\" }",
            "serial is set, but kind is `udp`",
        ),
        (
            "kind = \"serial\"\nserial = { port = \"/dev/ttyS1\", parity = \"evn\" }",
            "did you mean `even`?",
        ),
        (
            "bind = \"0.0.0.0:1884\"\nmount_point = \"a/+\"",
            "mount_point: `sn`: `a/+`",
        ),
        (
            "bind = \"0.0.0.0:1884\"\ngateway = { max_registrations = 0 }",
            "gateway.max_registrations: `sn`: 0 is out of range, allowed is 1 to 65535",
        ),
        (
            "bind = \"0.0.0.0:1884\"\ngateway = { retrys = 1 }",
            "did you mean `retries`?",
        ),
        (
            "bind = \"0.0.0.0:1884\"\ngateway.qos_minus_one.enabled = true",
            "gateway.qos_minus_one.username: `sn`: without one it is an anonymous client",
        ),
    ] {
        let error = load(&format!("[[mqttsn]]\nname = \"sn\"\n{wrong}\n")).unwrap_err();
        assert!(error.contains("headgate.toml"), "{error}");
        assert!(error.contains(told), "{error}");
    }
    let sn = "[[mqttsn]]\nname = \"sn\"\nbind = \"0.0.0.0:0\"\n";
    let error = load(&format!("{sn}{sn}")).unwrap_err();
    assert!(error.ends_with("mqttsn.name: `sn` stands twice"), "{error}");
    assert_eq!(load("mqttsn = []").unwrap().mqttsn, []);
    // Whose QoS −1 is taken, as far as one can see.
    for right in [
        "bind = \"127.0.0.1:0\"\ngateway.qos_minus_one.enabled = true",
        "bind = \"0.0.0.0:0\"\ngateway.qos_minus_one = { enabled = true, username = \"u\" }",
        "bind = \"0.0.0.0:0\"\ngateway.qos_minus_one.enabled = true\n[auth]\nanonymous = \"everywhere\"",
    ] {
        load(&format!("[[mqttsn]]\nname = \"sn\"\n{right}\n")).unwrap();
    }
}

#[test]
fn a_wrong_bridge_is_refused() {
    let bridge = "node = \"edge\"\n[[bridges]]\nname = \"up\"\n";
    for (wrong, told) in [
        (
            "",
            "headgate.toml:2:1: bridges.addresses: `up`: at least one is wanted",
        ),
        (
            "addresses = [\"broker\"]",
            "bridges.addresses: `up`: `broker`: a URL begins with",
        ),
        (
            "addresses = [\"mqtt://broker\"]\ntopics = [\"# sideways 1\"]",
            "sideways",
        ),
        (
            "addresses = [\"mqtt://broker\"]\nkeep_alive = \"1s\"",
            "keep_alive: `up`: 1s is out of range, allowed is 5s to 65535s",
        ),
        (
            "addresses = [\"mqtt://broker\"]\nproxi = \"http://x\"",
            "headgate.toml:5:1: bridges.proxi: unknown key `proxi`",
        ),
        (
            "addresses = [\"mqtt://broker\"]\nlogin = { password = \"a\", password_file = \"b\" }",
            "bridges.login: `up`: one of password,",
        ),
    ] {
        let error = load(&format!("{bridge}{wrong}\n")).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
    let good = "[[bridges]]\nname = \"up\"\naddresses = [\"mqtt://broker\"]\n";
    let error = load(good).unwrap_err();
    assert!(error.contains("needs a name of its own"), "{error}");
    let error = load(&format!("node = \"edge\"\n{good}{good}")).unwrap_err();
    assert!(error.ends_with("bridges.name: `up` stands twice"), "{error}");
    assert!(load(&format!("node = \"edge\"\n{good}")).is_ok());
}

#[test]
fn the_environment_overrides_the_file() {
    let config = load_with(
        "[mqtt]\nmax_qos = 2\n",
        &[("HEADGATE__MQTT__MAX_QOS", "1"), ("HEADGATE__NODE", "edge-7")],
    );
    let config = config.unwrap();
    assert_eq!((config.mqtt.max_qos, config.node.as_str()), (1, "edge-7"));
    let error = load_with("", &[("HEADGATE__MQTT__MAX_QSO", "1")]).unwrap_err();
    assert!(
        error.contains("HEADGATE__MQTT__MAX_QSO") && error.contains("did you mean `max_qos`?"),
        "{error}"
    );
}

/// A listener speaks what is registered.
#[test]
fn a_protocol_that_nobody_speaks_is_told_with_those_that_are() {
    let listener = |protocol: &str| {
        load(&format!(
            "[[listeners]]\nname = \"x\"\nprotocol = \"{protocol}\"\nbind = \"127.0.0.1:0\"\n"
        ))
    };
    assert!(listener("mqtt").is_ok() && listener("stomp").is_ok());
    let error = listener("gopher").unwrap_err();
    assert!(
        error.contains(":3:1: listeners.protocol: `x`: `gopher` is not spoken here, allowed is mqtt"),
        "{error}"
    );
}

/// One line for each setting, and of a secret only that it changed.
#[test]
fn what_changed_is_listed() {
    let sn = |name: &str, password: &str, more: &str| {
        format!(
            "[[mqttsn]]\nname = \"{name}\"\nbind = \"127.0.0.1:0\"\ngateway.default_password = \"{password}\"\n\
                 gateway.credentials = [{{ client_id = \"c\", username = \"u\", password = \"{password}\" }}]\n{more}"
        )
    };
    let old = load(&format!("[mqtt]\nmax_qos = 2\n{}", sn("sn", "dumb", ""))).unwrap();
    let long = "long/".repeat(40);
    let rule = "[[auth.acl]]\neffect = \"allow\"\n";
    let text = format!(
        "node = \"edge\"\n[mqtt]\nmax_qos = 1\nresponse_information = \"{long}\"\n{}{rule}",
        sn("sn", "silly", "")
    );
    let changes = old.changes(&load(&text).unwrap());
    for change in [
        "mqtt.max_qos: 2 → 1",
        "node: \"headgate@127.0.0.1\" → \"edge\"",
        "mqttsn[sn].gateway.default_password: changed (hidden)",
        "mqttsn[sn].gateway.credentials[0].password: changed (hidden)",
    ] {
        assert!(changes.contains(&change.to_owned()), "{change}: {changes:#?}");
    }
    let told = changes.join("\n");
    assert!(told.contains("auth.acl"), "{told}");
    let moved = load(&format!("data_dir = \"elsewhere\"\n{text}")).unwrap();
    let told_of_move = old.changes(&moved).join("\n");
    assert!(
        told_of_move.contains("data_dir: \"headgate-data\" → \"elsewhere\""),
        "{told_of_move}"
    );
    assert!(!told.contains("dumb") && !told.contains("silly"), "{told}");
    assert!(
        told.contains("mqtt.response_information: \"\" → \"long/")
            && told.contains("… and ")
            && changes.iter().all(|change| change.len() < 200),
        "{told}"
    );
    assert!(old.changes(&old).is_empty());
    // An entry that came or went is told by its name.
    let two = load(&format!("{}{}", sn("sn", "dumb", ""), sn("new", "dumb", ""))).unwrap();
    assert_eq!(old.changes(&two), ["mqttsn: an entry is new: new"]);
    assert_eq!(two.changes(&old), ["mqttsn: an entry is gone: new"]);
    let many: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    assert_eq!(at_most(&many).last().unwrap(), "and 5 more settings");
    assert_eq!(at_most(&many[..20]).len(), 20);
}

/// Faults of the types in all sections, and of the values in what is left: each once, at its line, and nothing that only follows from another.
#[test]
fn all_faults_are_told_at_once() {
    let text = "node = 5\n\
             [log]\nlevel = \"inof\"\nformat = \"xml\"\n\
             [mqtt]\nmax_qso = 1\nmax_packet_size = 1\nconnect_timeout = \"0s\"\nmax_connect_size = \"big\"\n\
             [[listeners]]\nname = \"a\"\nbind = \"127.0.0.1:1883\"\n\
             [[listeners]]\nname = \"gone\"\n\
             [[listeners]]\nname = \"b\"\nbind = \"0.0.0.0:1883\"\nhandshake_timeout = \"0s\"\nmount_point = \"a/+\"\n\
             [[listeners]]\nname = \"c\"\nkind = \"tls\"\nbind = \"127.0.0.1:8883\"\ntls = { certificat = \"c.pem\", key = \"k.pem\" }\n";
    let error = load(text).unwrap_err();
    let told: Vec<&str> = error.lines().collect();
    let expected = [
        ":1:8: node: invalid type: integer `5`, expected a string",
        ":3:1: log.level: `inof`: allowed is",
        ":4:10: log.format: unknown variant `xml`",
        ":6:1: mqtt.max_qso: unknown key `max_qso`",
        ":7:1: mqtt.max_packet_size: 1 is out of range, allowed is 64 and more",
        ":8:1: mqtt.connect_timeout: 0s is out of range, allowed is 1ms and more",
        ":9:20: mqtt.max_connect_size: invalid type: string \"big\", allowed is a number from 0 to 4294967295",
        ":13:1: listeners: `gone`: missing key `bind`",
        ":17:1: listeners.bind: `b` wants 0.0.0.0:1883, which `a` has with 127.0.0.1:1883",
        ":18:1: listeners.handshake_timeout: `b`: 0s is out of range",
        ":19:1: listeners.mount_point: `b`: `a/+`",
        ":24:9: listeners.tls.certificat: unknown key `certificat`",
        ":24:7: listeners.tls: `c`: missing key `certificate`",
    ];
    for expected in expected {
        let line = format!("headgate.toml{expected}");
        assert!(
            told.iter().any(|told| told.starts_with(&line)),
            "{expected}\n{error}"
        );
    }
    assert_eq!(told.len(), expected.len(), "{error}");
    load("[log]\nlevel = \"info,headgate_shell=debug\"\n").unwrap();
}

#[test]
fn all_faults_of_lists_and_bridges_are_told_at_once() {
    let text = "[bus]\nmax_inflight = 0\n\
             rewrite = [\n{ source = \"a\", pattern = \"(\", target = \"b\" },\n{ source = \"a/#/b\", pattern = \"x\", target = \"b\" },\n]\n\
             [bus.links]\nmax_hops = 0\n\
             [auth.passwords]\nat_once = 0\nmax_waiting = 0\n\
             [[auth.acl]]\neffect = \"allow\"\ntopics = [\"a\",\n\"b+\",\n\"#/c\"]\n\
             [[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:1884\"\n\
             [mqttsn.gateway]\nmax_handshakes = 0\nretry_interval = \"0s\"\npredefined = [\n{ id = 0, topic = \"a\" },\n{ id = 1, topic = \"a/#\" },\n]\n\
             [[mqttsn]]\nname = \"again\"\nbind = \"0.0.0.0:1884\"\n\
             [[bridges]]\nname = \"up\"\naddresses = [\"mqtt://a\",\n\"broker\",\n\"ftp://b\"]\nkeep_alive = \"1s\"\nmax_qos = 3\n\
             topics = [\"a out 1\",\n\"b/#/c out 1\",\n{ filter = \"c\", throttle = { per_minute = 0 } }]\n\
             login = { password = \"x\", password_file = \"y\" }\n";
    let error = load(text).unwrap_err();
    let told: Vec<&str> = error.lines().collect();
    let expected = [
        ": node: it is still `headgate@127.0.0.1`",
        ":2:1: bus.max_inflight: 0 is out of range",
        ":4:17: bus.rewrite.pattern: `(` is not a regular expression",
        ":5:3: bus.rewrite.source: `a/#/b` is not a topic filter",
        ":8:1: bus.links.max_hops: 0",
        ":10:1: auth.passwords.at_once: 0 is out of range, allowed is 1 to 64",
        ":11:1: auth.passwords.max_waiting: 0",
        ":15:1: auth.acl.topics: `b+` is not",
        ":16:1: auth.acl.topics: `#/c` is not",
        ":21:1: mqttsn.gateway.max_handshakes: `sn`: 0",
        ":22:1: mqttsn.gateway.retry_interval: `sn`: 0s is out of range, allowed is 1ms and more",
        ":24:3: mqttsn.gateway.predefined.id: `sn`: 0 is reserved",
        ":25:11: mqttsn.gateway.predefined.topic: `sn`: `a/#` is not",
        ":29:1: mqttsn.bind: `again` wants 0.0.0.0:1884, which `sn` has with 127.0.0.1:1884",
        ":33:1: bridges.addresses: `up`: `broker`",
        ":34:1: bridges.addresses: `up`: `ftp://b`",
        ":35:1: bridges.keep_alive: `up`: 1s",
        ":36:1: bridges.max_qos: `up`: 3",
        ":38:1: bridges.topics: `up`: `b/#/c`",
        ":39:1: bridges.topics: `up`: throttle",
        ":40:1: bridges.login: `up`: one of",
    ];
    for expected in expected {
        let line = format!("headgate.toml{expected}");
        assert!(
            told.iter().any(|told| told.starts_with(&line)),
            "{expected}\n{error}"
        );
    }
}

#[test]
fn a_fault_of_a_variable_is_told_with_its_name() {
    let variables = [
        ("HEADGATE__MQTT__MAX_QOS", "3"),
        ("HEADGATE__MQTT__RECEIVE_MAXIMUM", "many"),
        ("HEADGATE__NODE__X", "1"),
        ("HEADGATE__BUS__LINKS__MAX_HOPS", "0"),
        (
            "HEADGATE__LISTENERS",
            "[{ name = \"a\", bind = \"x\" }, { name = 5 }]",
        ),
    ];
    let error = load_with("node = \"a\"\n[bus.links]\nmax_hops = 1\n", &variables).unwrap_err();
    let told: Vec<&str> = error.lines().collect();
    let expected = [
        "HEADGATE__MQTT__MAX_QOS: mqtt.max_qos: 3 is out of range",
        "HEADGATE__MQTT__RECEIVE_MAXIMUM: mqtt.receive_maximum: invalid type",
        "HEADGATE__NODE__X: `node` is not a section",
        "HEADGATE__BUS__LINKS__MAX_HOPS: bus.links.max_hops: 0 is out of range",
        "HEADGATE__LISTENERS: listeners.bind: `a`: `x` is no address",
        "HEADGATE__LISTENERS: listeners.name: invalid type",
    ];
    for expected in expected {
        let line = format!("environment variable {expected}");
        assert!(
            told.iter().any(|told| told.starts_with(&line)),
            "{expected}\n{error}"
        );
    }
}

/// A limit of 0 is no limit, or is refused: it never means that nothing passes.
#[test]
fn zero_is_no_limit_or_is_refused() {
    let listener = "[[listeners]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n";
    let sn = "[[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:0\"\n";
    for good in [
            format!("max_connections = 0\n{listener}max_connections = 0\nmax_connections_per_ip = 0\nmax_connect_rate = 0\nbacklog = 0\n"),
            format!("{listener}kind = \"ws\"\nwebsocket = {{ max_message_bytes = 0 }}\n"),
            "[mqtt]\nmax_client_id_bytes = 0\nmax_topic_bytes = 0\nmax_topic_levels = 0\nmax_keep_alive = \"0s\"\n".into(),
            format!("{sn}receive_buffer_bytes = 0\ngateway = {{ max_clients = 0, max_remembered_bytes = 0, qos_minus_one.rate = 0 }}\n"),
            "[log]\nmax_repeats = 0\n[store]\nmax_bytes = 0\n[sys]\ninterval = \"0s\"\n[auth.passwords]\nremember = \"0s\"\n".into(),
        ] {
            load(&good).unwrap();
        }
    for (wrong, key) in [
            (format!("{listener}connect_burst = 0\n"), "listeners.connect_burst"),
            (format!("{listener}proxy_timeout = \"0s\"\n"), "listeners.proxy_timeout"),
            (
                format!("{listener}kind = \"ws\"\nwebsocket = {{ max_header_bytes = 0 }}\n"),
                "listeners.websocket.max_header_bytes",
            ),
            ("[mqtt]\nmax_connect_size = 0\n".into(), "mqtt.max_connect_size"),
            ("[mqtt]\nreceive_maximum = 0\n".into(), "mqtt.receive_maximum"),
            // In whole seconds it would be 0, which is no limit.
            ("[mqtt]\nmax_keep_alive = \"500ms\"\n".into(), "mqtt.max_keep_alive"),
            (format!("{sn}gateway = {{ max_silence = \"0s\" }}\n"), "mqttsn.gateway.max_silence"),
            (format!("{sn}gateway = {{ connect_timeout = \"0s\" }}\n"), "mqttsn.gateway.connect_timeout"),
            (format!("{sn}gateway = {{ qos_minus_one.burst = 0 }}\n"), "mqttsn.gateway.qos_minus_one.burst"),
            (
                "[[mqttsn]]\nname = \"sn\"\nkind = \"serial\"\nserial = { port = \"/dev/x\", frame_timeout = \"0s\" }\n".into(),
                "mqttsn.serial.frame_timeout",
            ),
        ] {
            let error = load(&wrong).unwrap_err();
            assert!(error.contains(&format!("{key}: ")) && error.contains("out of range, allowed is"), "{error}");
        }
}

#[test]
fn what_is_written_can_be_read_again() {
    let text = toml::to_string(&Config::default()).unwrap();
    assert_eq!(load(&text).unwrap(), Config::default());
}

/// Keys and values are whatever somebody wrote: a fault is one line, and says nothing to the terminal.
#[test]
fn a_fault_says_nothing_to_the_terminal() {
    let text = "\"k\\u001b\\n\u{202e}\" = 1\nlog = { level = \"x\\u001b\u{200b}\" }\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("headgate.toml");
    std::fs::write(&path, text).unwrap();
    let error = Config::load(Some(&path), []).unwrap_err().to_string();
    assert!(error.contains(r"k\u{1b}\n\u{202e}"), "{error}");
    for line in error.lines() {
        assert!(line.chars().all(headgate_cli::is_visible), "{error:?}");
    }
}

/// Anybody may have put a pipe there, and whoever opens one waits for somebody to write: POSIX, `open`, `O_NONBLOCK`.
#[test]
fn a_configuration_that_is_a_pipe_is_refused_and_not_waited_for() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("headgate.toml");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let told = [
        Config::load(Some(&path), []).map(drop),
        Config::data_dir_to_ask(Some(&path), []).map(drop),
        Config::load_to_start(Some(&path), []).map(drop),
        text_if_any(&path).map(drop),
    ];
    for error in told.map(Result::unwrap_err) {
        assert!(
            error.to_string().ends_with("headgate.toml: it is no file"),
            "{error}"
        );
    }
}

/// A word that is no module would be taken for one, and nothing would be told.
#[test]
fn a_level_is_set_for_modules_that_there_are() {
    for good in [
        "info,headgate_shell::listener=debug",
        "headgate=trace",
        "headgate_bus=debug",
        "warn,headgate_store=off",
        "info,hyper=debug",
        "info",
    ] {
        assert!(load(&format!("[log]\nlevel = \"{good}\"\n")).is_ok(), "{good}");
    }
    for (bad, near) in [
        ("headgate_shel", "headgate_shell"),
        ("headgate_shell::listner", "headgate_shell::listener"),
    ] {
        let error = load(&format!("[log]\nlevel = \"info,{bad}=debug\"\n")).unwrap_err();
        let told = format!("no module `{bad}` writes to the log (did you mean `{near}`?)");
        assert!(error.contains(&told), "{error}");
    }
}

/// A command that asks a running gateway finds it by a file that is no TOML, and is told of the fault.
#[test]
fn the_data_folder_of_a_broken_file_is_what_its_line_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("headgate.toml");
    let ask = |text: &str, environment: &[(&str, &str)]| {
        std::fs::write(&path, text).unwrap();
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::data_dir_to_ask(Some(&path), environment)
    };
    for (text, expected) in [
        ("data_dir = \"there\"\na = = 1\n", "there"),
        ("a = = 1\n  data_dir = 'there' # where else\n", "there"),
        ("data_dir = \"there\"\n[sys]\n[sys]\n", "there"),
        ("a = = 1\n# data_dir = \"there\"\n", "headgate-data"),
        ("[sys]\ndata_dir = \"there\"\na = = 1\n", "headgate-data"),
    ] {
        let (data_dir, told) = ask(text, &[]).unwrap();
        assert_eq!((data_dir, told.len()), (expected.into(), 1), "{text} {told:?}");
    }
    let variable = [("HEADGATE__DATA_DIR", "elsewhere")];
    assert_eq!(
        ask("data_dir = \"there\"\na = = 1\n", &variable).unwrap().0,
        Path::new("elsewhere")
    );
    // In the data folder of a gateway it is that folder's own.
    std::fs::create_dir(folder.path().join("store")).unwrap();
    assert_eq!(ask("a = = 1\n", &[]).unwrap().0, folder.path());
    for unclear in ["data_dir = \"a\"\ndata_dir = \"b\"\n", "a = = 1\ndata_dir = 5\n"] {
        assert!(ask(unclear, &[]).is_err(), "{unclear}");
    }
}
