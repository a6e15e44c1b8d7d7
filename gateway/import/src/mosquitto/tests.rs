//! What real files hold, and what breaks importers, each by its name.

use super::*;
use crate::Fate;
use crate::disk::{Disk, Imported};

/// `secret`, as `mosquitto_passwd` hashes it.
const HASH: &str = "$6$t0i5ITi8siX8eF6z$fpD6jNDvJf3GsGJzp1SvAJf5v2D2AApjCwJPI6OrCD26jVYCAAtucgaO+Jw6DXKilTFXwj0TgWicZFothHg7MA==";

fn import_with(text: &str, others: &[(&str, &str)], version: Version) -> Imported {
    let mut disk = Disk::default();
    for (path, text) in others.iter().chain(&[("/etc/m/m.conf", text)]) {
        disk.0.insert(PathBuf::from(path), text.as_bytes().to_vec());
    }
    let options = Options {
        start_dir: "/start".into(),
        version,
    };
    let target = Target {
        data_dir: "/data".into(),
        datagram_lists: &["mqttsn", "coap"],
        secrets_dir: "/data/secrets".into(),
        node: "plant-7".into(),
    };
    let import = import(&disk, Path::new("/etc/m/m.conf"), &options, &target).unwrap();
    let meaningful =
        |line: &str| !line.trim_start_matches('\u{feff}').trim().is_empty() && !line.trim().starts_with('#');
    let said = text.lines().filter(|line| meaningful(line)).count();
    let told = import
        .report
        .lines
        .iter()
        .filter(|line| line.file == Path::new("/etc/m/m.conf"));
    assert_eq!(
        told.count(),
        said,
        "each directive is told once: {}",
        import.config
    );
    Imported::new(import, "/etc/m/m.conf")
}

fn read(text: &str) -> Imported {
    import_with(text, &[], Version::Two)
}

#[test]
fn every_directive_is_known_once() {
    let mut names: Vec<&str> = directives().collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count > 110, "those of 2.1");
}

/// Nothing that the import says it looks at is left without a word: the report would call it unknown.
#[test]
fn every_directive_has_a_fate() {
    for (name, scope, _) in directives::DIRECTIVES {
        let before = match scope {
            directives::Scope::Bridge if *name != "connection" => "connection b\naddress h\ntopic #\n",
            _ => "listener 1883\ncertfile c\nkeyfile k\nrequire_certificate true\ncafile a\n",
        };
        let value = match *name {
            "listener" => "1884",
            "topic" => "a/#",
            "enable_proxy_protocol" => "2",
            _ => "true",
        };
        let imported = read(&format!("{before}{name} {value}\n"));
        for line in &imported.import.report.lines {
            assert!(
                !line.fate.to_string().contains("no directive of this name"),
                "{line}"
            );
        }
    }
    let imported = read("listener 1883\nmax_conections 7\n");
    assert_eq!(imported.not_taken(), [2]);
    assert!(imported.line(2).contains("no directive of this name"));
}

#[test]
fn without_a_listener_this_machine_alone_is_served() {
    let two = read("persistence true\nmax_connections 5\n");
    assert_eq!(
        (two.at("listeners.0.bind"), two.listeners()),
        ("127.0.0.1:1883".into(), 1)
    );
    assert_eq!(two.at("auth.anonymous"), "loopback");
    assert!(two.line(2).contains("has no meaning"), "{}", two.line(2));

    let one = import_with("persistence true\nmax_connections 5\n", &[], Version::One);
    assert_eq!(one.at("listeners.0.bind"), "[::]:1883");
    assert_eq!(
        (one.at("auth.anonymous"), one.at("listeners.0.max_connections")),
        ("everywhere".into(), "5".into())
    );
}

#[test]
fn a_listener_without_an_address_is_on_every_interface_and_lets_in_nobody_without_a_name() {
    let imported = read(
        "listener 1883\nlistener 1884 10.0.0.7\nlistener 1885 ::1\nlistener 0 /run/m.sock\nlistener 1886 localhost\n",
    );
    let bind = |n: usize| imported.at(&format!("listeners.{n}.bind"));
    let binds = [bind(0), bind(1), bind(2), bind(3), bind(4)];
    assert_eq!(
        binds,
        [
            "[::]:1883",
            "10.0.0.7:1884",
            "[::1]:1885",
            "/run/m.sock",
            "127.0.0.1:1886"
        ]
    );
    assert_eq!(imported.at("listeners.3.kind"), "unix");
    assert_eq!(imported.at("auth.anonymous"), "nowhere");
    // Whoever comes in may do everything.
    assert_eq!(imported.at("auth.acl.0.effect"), "allow");
    assert_eq!(imported.at("auth.grant_subscriptions"), "true");
    assert_eq!(imported.not_taken(), [0; 0]);
    let domains = read("listener 1883\nsocket_domain ipv4\nlistener 1884\nsocket_domain ipv6\n");
    assert_eq!(domains.at("listeners.0.bind"), "0.0.0.0:1883");
    assert_eq!(
        (
            domains.at("listeners.1.bind"),
            domains.at("listeners.1.ipv6_only")
        ),
        ("[::]:1884".into(), "true".into())
    );
}

#[test]
fn port_and_bind_address_of_old_files_are_the_default_listener() {
    let imported =
        read("port 1884\nbind_address 127.0.0.1\nmax_connections 9\nlistener 9001\nprotocol websockets\n");
    assert_eq!(
        (
            imported.at("listeners.0.bind"),
            imported.at("listeners.0.max_connections")
        ),
        ("127.0.0.1:1884".into(), "9".into())
    );
    assert_eq!(
        (imported.at("listeners.1.kind"), imported.at("listeners.1.bind")),
        ("ws".into(), "[::]:9001".into())
    );
    assert_eq!(imported.at("listeners.1.websocket.path"), "*");
    assert_eq!(imported.at("auth.anonymous"), "nowhere");
    // mosquitto 1.x lets everybody in, if there is no file of passwords.
    let one = |text| import_with(text, &[], Version::One).at("auth.anonymous");
    assert_eq!(one("port 1883\n"), "everywhere");
    assert_eq!(one("port 1883\npassword_file p\n"), "nowhere");
    // What stands before the first listener starts the default one beside it.
    let beside = read("max_connections 5\nlistener 8883\n");
    assert_eq!(
        (beside.listeners(), beside.at("listeners.0.bind")),
        (2, "[::]:1883".into())
    );
}

#[test]
fn tls_asks_for_certificates_only_where_it_is_told() {
    let files = [
        ("/c/ca.pem", ""),
        ("/c/s.pem", ""),
        ("/c/s.key", ""),
        ("/start/rev.pem", ""),
    ];
    let tls = "cafile /c/ca.pem\ncertfile /c/s.pem\nkeyfile /c/s.key\n";
    let text = format!(
        "listener 8883\n{tls}listener 8884\n{tls}require_certificate true\nuse_identity_as_username true\ncrlfile rev.pem\ntls_version tlsv1.3\n"
    );
    let imported = import_with(&text, &files, Version::Two);
    assert_eq!(
        (
            imported.at("listeners.0.kind"),
            imported.at("listeners.0.tls.client_ca")
        ),
        ("tls".into(), String::new())
    );
    assert!(imported.line(2).contains("has no meaning"));
    assert_eq!(imported.at("listeners.1.tls.client_ca"), "/c/ca.pem");
    assert_eq!(imported.at("listeners.1.tls.require_client_certificate"), "true");
    assert_eq!(imported.at("listeners.1.tls.crl.0"), "/start/rev.pem");
    assert_eq!(imported.at("listeners.1.tls.min_version"), "1.3");
    // Certificates name clients there, and nobody comes in otherwise.
    assert_eq!(imported.at("auth.listeners.0.name"), "tls-8884");
    assert_eq!(
        imported.at("auth.listeners.0.certificate.user_name"),
        "common_name"
    );
    assert_eq!(imported.at("auth.listeners.0.chain"), "[\"certificate\"]");
    assert_eq!(imported.not_taken(), [0; 0]);

    let subject = text.replace("use_identity", "use_subject");
    let imported = import_with(&subject, &files, Version::Two);
    assert_eq!(imported.at("auth.listeners.0.certificate.user_name"), "subject");
}

#[test]
fn what_cannot_be_as_safe_as_it_was_is_left_out() {
    for (text, bad) in [
        ("listener 8883\npsk_hint h\n", 2),
        ("listener 8883\ncertfile c\n", 2),
        ("listener 8883\ncafile c\n", 2),
        (
            "listener 8883\ncertfile c\nkeyfile k\ncapath p\nrequire_certificate true\n",
            4,
        ),
        ("listener 8883\ncertfile c\nkeyfile k\ntls_engine e\n", 4),
        ("listener 1883\nbind_interface eth0\n", 2),
        ("listener 1883 broker.example\n", 1),
    ] {
        let imported = read(text);
        // That of the web UI alone, and not the default ones.
        assert_eq!(
            (imported.listeners(), imported.count("listeners")),
            (0, 1),
            "{text}"
        );
        assert_eq!(imported.not_taken(), [bad], "{text}");
    }
}

#[test]
fn a_password_file_is_taken_over_user_by_user() {
    let passwords = format!("joe:{HASH}\nann:secret\ntim:{HASH}\n");
    let text = "listener 1883\npassword_file p\nacl_file acl\n";
    let files = [("/start/p", passwords.as_str()), ("/start/acl", "topic #\n")];
    let imported = import_with(text, &files, Version::Two);
    assert_eq!(imported.users(), ["joe", "tim"]);
    // A wrong name is refused also where clients without one are let in, as mosquitto does it.
    assert_eq!(imported.at("auth.unknown_users"), "");
    let both = import_with(&format!("{text}allow_anonymous true\n"), &files, Version::Two);
    let who = (both.at("auth.anonymous"), both.at("auth.unknown_users"));
    assert_eq!(who, ("everywhere".into(), "refuse".into()));
    let one = "per_listener_settings true\nlistener 1883\nallow_anonymous true\npassword_file p\n";
    let one = import_with(one, &files, Version::Two);
    assert_eq!(one.at("auth.listeners.0.unknown_users"), "refuse");
    assert_eq!(imported.not_taken(), [2]);
    assert!(
        imported
            .line(2)
            .contains("2 users in /data/users.json, but not all: line 2: `ann`"),
        "{}",
        imported.line(2)
    );
    assert!(!imported.line(2).contains("secret"));
    assert_eq!(imported.at("auth.acl_file.path"), "/start/acl");
    assert_eq!(
        (imported.at("auth.acl_file.format"), imported.at("auth.acl")),
        ("mosquitto".into(), String::new())
    );
}

#[test]
fn no_acl_file_allows_everything_and_an_empty_one_nothing() {
    let empty = import_with(
        "listener 1883\nacl_file acl\n",
        &[("/start/acl", "\n")],
        Version::Two,
    );
    assert_eq!(
        (empty.at("auth.acl"), empty.at("auth.acl_file.path")),
        (String::new(), "/start/acl".into())
    );
    assert!(empty.line(2).contains("nothing is allowed"));
    assert_eq!(read("listener 1883\n").at("auth.acl.0.effect"), "allow");
    // One that is not there refuses the start, as mosquitto does.
    let missing = read("listener 1883\nacl_file acl\n");
    assert_eq!(missing.at("auth.acl_file.path"), "/start/acl");
    assert!(missing.line(2).contains("there is no such file"));
}

#[test]
fn paths_are_relative_to_the_folder_of_the_start_and_may_be_beside_the_file() {
    let text = "listener 1883\nacl_file acl\n";
    let both = [("/start/acl", ""), ("/etc/m/acl", "")];
    assert_eq!(
        import_with(text, &both, Version::Two).at("auth.acl_file.path"),
        "/start/acl"
    );
    let beside = import_with(text, &both[1..], Version::Two);
    assert_eq!(beside.at("auth.acl_file.path"), "/etc/m/acl");
    assert!(beside.line(2).contains("--start-dir"), "{}", beside.line(2));
}

#[test]
fn comments_behind_values_marks_tabs_and_line_ends_of_all_systems_do_not_matter() {
    let text = "\u{feff}listener\t1883 # all\r\n  allow_anonymous true # yes\r\n\tacl_file  acl # rules\r\n# x\r\n\r\nmax_queued_messages 7 # few\r\n";
    let imported = import_with(text, &[("/start/acl", "")], Version::Two);
    assert_eq!(
        (imported.at("listeners.0.bind"), imported.at("auth.anonymous")),
        ("[::]:1883".into(), "everywhere".into())
    );
    assert_eq!(
        (
            imported.at("auth.acl_file.path"),
            imported.at("bus.max_queued_messages")
        ),
        ("/start/acl".into(), "7".into())
    );
    // A file may have such a name.
    let named = import_with(
        "listener 1883\nacl_file a #b\n",
        &[("/start/a #b", ""), ("/start/a", "")],
        Version::Two,
    );
    assert_eq!(named.at("auth.acl_file.path"), "/start/a #b");
}

#[test]
fn of_repeated_keys_the_last_holds() {
    let imported = read(
        "listener 1883\nallow_anonymous true\nmax_queued_messages 5\nallow_anonymous false\nmax_queued_messages 6\n",
    );
    assert_eq!(
        (
            imported.at("auth.anonymous"),
            imported.at("bus.max_queued_messages")
        ),
        ("nowhere".into(), "6".into())
    );
    assert_eq!(
        imported.line(2),
        "has no meaning here: /etc/m/m.conf:4 overrules it"
    );
    assert_eq!(
        imported.line(3),
        "has no meaning here: /etc/m/m.conf:5 overrules it"
    );
    // What drops what comes, as there.
    assert_eq!(imported.at("bus.when_full"), "drop_newest");
}

#[test]
fn include_dir_is_read_where_it_stands_upper_case_first() {
    let files = [
        ("/start/d/b.conf", "max_queued_messages 4\n"),
        ("/start/d/B.conf", "max_queued_messages 3\n"),
        ("/start/d/a.conf", "max_queued_messages 2\n"),
        (
            "/start/d/00.conf",
            "max_queued_messages 1\nlistener 1884\ninclude_dir e\n",
        ),
        ("/start/d/b.conf.bak", "max_queued_messages 9\n"),
        ("/start/d/c.conf", "max_connections 7\n"),
    ];
    let imported = import_with(
        "listener 1883\ninclude_dir d\nmax_connections 8\n",
        &files,
        Version::Two,
    );
    assert!(
        imported
            .line(2)
            .ends_with("read from /start/d: 00.conf, a.conf, B.conf, b.conf, c.conf"),
        "{}",
        imported.line(2)
    );
    assert_eq!(imported.at("bus.max_queued_messages"), "4");
    // Each file begins at the default listener, which is started by that.
    let limits: Vec<String> = (0..3)
        .map(|n| imported.at(&format!("listeners.{n}.max_connections")))
        .collect();
    assert_eq!(limits, ["7", "8", ""]);
    let report = &imported.import.report;
    let nested = report
        .lines
        .iter()
        .find(|line| line.directive == "include_dir e")
        .unwrap();
    assert!(matches!(nested.fate, Fate::Meaningless { .. }));
    assert_eq!(read("include_dir nowhere\n").not_taken(), [1]);
}

#[test]
fn with_per_listener_settings_access_belongs_to_the_listener_before_it() {
    let (one, two) = (format!("joe:{HASH}\nann:{HASH}\n"), format!("tim:{HASH}\n"));
    let files = [
        ("/start/one", one.as_str()),
        ("/start/two", two.as_str()),
        ("/start/acl", "topic #\n"),
    ];
    let text = "per_listener_settings true\nlistener 1883\npassword_file one\nacl_file acl\nlistener 1884\nallow_anonymous true\nlistener 1885\npassword_file two\n";
    let imported = import_with(text, &files, Version::Two);
    let auth = |n: usize, key: &str| imported.at(&format!("auth.listeners.{n}.{key}"));
    // The web UI is for administrators: the source says of no client that it may use it.
    let web = [auth(3, "name"), auth(3, "anonymous"), auth(3, "chain")];
    assert_eq!(web, ["http", "nowhere", "[]"]);
    let anonymous = [auth(0, "anonymous"), auth(1, "anonymous"), auth(2, "anonymous")];
    assert_eq!(anonymous, ["nowhere", "everywhere", "nowhere"]);
    let known = [auth(0, "users"), auth(1, "users"), auth(2, "users")];
    assert_eq!(known, ["[\"joe\", \"ann\"]", "[]", "[\"tim\"]"]);
    assert_eq!(
        (auth(0, "acl_file.path"), auth(0, "acl")),
        ("/start/acl".into(), String::new())
    );
    assert_eq!(
        (auth(1, "acl.0.effect"), auth(2, "acl.0.effect")),
        ("allow".into(), "allow".into())
    );
    assert_eq!(imported.at("auth.acl"), "");
    assert_eq!(imported.users(), ["ann", "joe", "tim"]);
    // Before the first listener they are of the default one, which is not started beside others.
    let before = read("per_listener_settings true\nallow_anonymous true\nlistener 1883\n");
    assert_eq!(before.at("auth.listeners.0.anonymous"), "nowhere");
    assert!(before.line(2).contains("default listener"));
}

#[test]
fn a_user_with_two_passwords_has_one() {
    let other = HASH.replace("fpD6", "gpD6");
    let (one, two) = (format!("joe:{HASH}\n"), format!("joe:{other}\nann:{HASH}\n"));
    let files = [("/start/one", one.as_str()), ("/start/two", two.as_str())];
    let text =
        "per_listener_settings true\nlistener 1883\npassword_file one\nlistener 1884\npassword_file two\n";
    let imported = import_with(text, &files, Version::Two);
    assert_eq!(imported.not_taken(), [5]);
    assert_eq!(imported.at("auth.listeners.1.users"), "[\"ann\"]");
}

#[test]
fn a_plugin_keeps_its_listeners_shut() {
    for plugin in [
        "plugin /lib/mosquitto_dynamic_security.so\nplugin_opt_config_file /x.json",
        "auth_plugin /lib/auth.so\nauth_opt_mysql_pass hunter2",
        "global_plugin /lib/auth.so\nplugin_opt_password hunter2",
    ] {
        let imported = read(&format!("allow_anonymous true\nlistener 1883\n{plugin}\n"));
        assert_eq!(
            (imported.at("auth.anonymous"), imported.at("auth.chain")),
            ("nowhere".into(), "[]".into())
        );
        assert_eq!(imported.not_taken(), [3, 4], "{plugin}");
        assert_eq!(
            imported.at("auth.acl.0.effect"),
            "deny",
            "it may have decided that, too"
        );
        assert!(imported.line(3).contains("stay shut"));
        assert!(!format!("{:?}", imported.import.report).contains("hunter2"));
    }
    let text = "per_listener_settings true\nlistener 1883\nplugin /lib/auth.so\nlistener 1884\nallow_anonymous true\n";
    let imported = read(text);
    assert_eq!(
        (
            imported.at("auth.listeners.0.chain"),
            imported.at("auth.listeners.0.anonymous")
        ),
        ("[]".into(), "nowhere".into())
    );
    assert_eq!(
        (
            imported.at("auth.listeners.1.chain"),
            imported.at("auth.listeners.1.anonymous")
        ),
        (String::new(), "everywhere".into())
    );
    let named = read(
        "per_listener_settings true\nlistener 8883\ncertfile c\nkeyfile k\nuse_identity_as_username true\nplugin /lib/auth.so\n",
    );
    assert_eq!(named.line(5), "has no meaning here: nobody comes in");
    assert_eq!(named.at("auth.listeners.0.chain"), "[]");
    // It writes the store, and decides nothing.
    let harmless = read("listener 1883\nallow_anonymous true\nplugin /lib/mosquitto_persist_sqlite.so\n");
    assert_eq!(harmless.at("auth.anonymous"), "everywhere");
    let in_its_folder =
        read("listener 1883\nallow_anonymous true\nplugin /mosquitto_persist_sqlite/auth.so\n");
    assert_eq!(in_its_folder.at("auth.chain"), "[]");
    // So does a condition on client ids, which nothing here stands for.
    assert_eq!(
        read("listener 1883\nallow_anonymous true\nclientid_prefixes a-\n").at("auth.chain"),
        "[]"
    );
}

#[test]
fn limits_are_taken() {
    let text = "listener 1883\nmax_inflight_messages 0\nmax_inflight_bytes 10\nmax_queued_bytes 11\nmessage_size_limit 1000\n\
                memory_limit 12\nmax_keepalive 60\nglobal_max_connections -1\nmax_qos 1\nmax_topic_alias 3\nset_tcp_nodelay false\n";
    let imported = read(text);
    for (path, value) in [
        ("bus.max_inflight", "65535"),
        ("bus.max_inflight_bytes", "10"),
        ("bus.max_queued_bytes", "11"),
        ("mqtt.max_packet_size", "66544"),
        ("bus.max_memory_bytes", "12"),
        ("mqtt.max_keep_alive", "60s"),
        ("max_connections", "0"),
        ("mqtt.max_qos", "1"),
        ("mqtt.topic_alias_maximum", "3"),
        ("listeners.0.tcp_nodelay", "false"),
    ] {
        assert_eq!(imported.at(path), value, "{path}");
    }
    assert_eq!(imported.not_taken(), [0; 0]);
    // One number is for all here.
    let differ = read("listener 1883\nmax_qos 1\nlistener 1884\n");
    assert_eq!(
        (differ.not_taken(), differ.at("mqtt.max_qos")),
        (vec![2], String::new())
    );
    let bad = read("listener 1883\nmax_connections many\n");
    assert_eq!(bad.not_taken(), [2]);
}

#[test]
fn what_is_kept_and_logged() {
    let text = "persistence false\nlog_dest file /var/log/m.log\nlog_dest stderr\nlog_type error\nlog_type warning\nautosave_interval 5\n\
                persistent_client_expiration 2m\nlog_dest topic\n";
    let imported = read(text);
    assert_eq!(
        (imported.at("store.durability"), imported.at("log.level")),
        ("memory".into(), "warn".into())
    );
    assert_eq!(imported.at("mqtt.v3_session_expiry"), "2M", "months");
    assert_eq!(read("persistence true\n").at("mqtt.v3_session_expiry"), "0s");
    assert_eq!(
        (imported.at("log.file.path"), imported.at("log.stderr")),
        ("/var/log/m.log".into(), "true".into())
    );
    assert!(imported.line(6).contains("has no meaning"));
    assert_eq!(imported.not_taken(), [8], "the log is not published");
    let others = read("log_dest syslog\nlog_dest file m.log # x\nlog_facility 5\n");
    assert_eq!(
        (others.at("log.stderr"), others.at("log.file.path")),
        ("false".into(), "/start/m.log".into())
    );
    assert_eq!(
        (others.at("log.syslog.address"), others.at("log.syslog.facility")),
        ("unix:/dev/log".into(), "local5".into())
    );
    assert_eq!(
        (
            read("log_dest none\n").at("log.stderr"),
            read("log_dest stdout\n").at("log.stderr")
        ),
        ("false".into(), "true".into())
    );
    let nowhere_else = read("log_dest topic\n");
    assert!(
        !nowhere_else.import.config.contains("stderr"),
        "{}",
        nowhere_else.import.config
    );
}

#[test]
fn bridges_are_taken_with_their_old_names() {
    let text = "connection to/hall\naddress 10.0.0.5 broker:8883 ::1:1884\nclientid gate\nusername joe\npassword  a #b\n\
                topic # out 1 here/ there/ # comment\ntopic cmd/+ in\ntopic bad sideways\nstart_type lazy\nthreshold 5\nrestart_timeout 20\n\
                bridge_cafile ca\nbridge_insecure true\nnotifications false\nkeepalive_interval 30\nlocal_username x\ncleansession true\n";
    let imported = import_with(text, &[("/start/ca", "")], Version::Two);
    for (path, value) in [
        ("node", "plant-7"),
        ("bridges.0.name", "to-hall"),
        (
            "bridges.0.addresses",
            "[\"mqtts://10.0.0.5:1883\", \"mqtts://broker:8883\", \"mqtts://[::1]:1884\"]",
        ),
        ("bridges.0.client_id", "gate"),
        ("bridges.0.login.username", "joe"),
        (
            "bridges.0.login.password_file",
            "/data/secrets/bridge-to-hall.password",
        ),
        ("bridges.0.topics", "[\"# out 1 here/ there/\", \"cmd/+ in\"]"),
        ("bridges.0.uplink.start", "lazy"),
        ("bridges.0.uplink.lazy.threshold", "5"),
        ("bridges.0.uplink.restart_timeout.cap", "20s"),
        ("bridges.0.tls.ca", "/start/ca"),
        ("bridges.0.tls.insecure", ""),
        ("bridges.0.notifications", "false"),
        ("bridges.0.keep_alive", "30s"),
        ("bridges.0.clean_session", "true"),
    ] {
        assert_eq!(imported.at(path), value, "{path}");
    }
    assert_eq!(imported.not_taken(), [8, 13]);
    assert_eq!(
        imported.import.secrets[0].content, "a #b\n",
        "a password may hold anything"
    );
    assert!(!format!("{:?}", imported.import.report).contains("a #b"));
    assert!(!imported.import.config.contains("a #b"));
}

#[test]
fn a_password_with_a_misspelt_name_is_not_shown() {
    let imported = read("connection b\nremote_pasword hunter2\n");
    assert!(!format!("{:?}", imported.import.report).contains("hunter2"));
    assert_eq!(imported.not_taken(), [1, 2]);
}

#[test]
fn a_socket_of_this_machine_has_no_tls() {
    let imported = read("listener 0 /run/m.sock\ncertfile c\nkeyfile k\n");
    assert_eq!(
        (imported.at("listeners.0.kind"), imported.at("listeners.0.tls")),
        ("unix".into(), String::new())
    );
    assert!(imported.line(2).contains("the listener has no TLS"));
}

/// Whatever is changed in a file that holds everything, it is read, what comes out is TOML, and each line is told.
#[test]
fn mutated_files_are_read_without_a_panic() {
    let mut whole = String::new();
    for (name, ..) in directives::DIRECTIVES {
        for value in ["true", "1883 127.0.0.1", "a/# out 1 b/ c/", "/x #y"] {
            whole += &format!("{name} {value}\n");
        }
    }
    let mutated = |rng: &mut fastrand::Rng| {
        let mut bytes = whole.clone().into_bytes();
        for _ in 0..rng.usize(1..30) {
            headgate_fuzz::mutate(&mut bytes, b"\r\n\t #:,$/0\xff", rng);
        }
        bytes
    };
    headgate_fuzz::fuzz(mutated, |bytes| {
        read(&String::from_utf8_lossy(bytes).replace('\u{feff}', ""));
    });
}

/// mosquitto speaks neither: nothing else is listened to than it listened to.
#[test]
fn nothing_is_served_by_default() {
    let imported = read("listener 1883\n");
    assert_eq!([imported.at("mqttsn"), imported.at("coap")], ["[]", "[]"]);
}

#[test]
fn a_bridge_that_would_be_less_safe_is_left_out() {
    let good = "connection b\naddress h\ntopic # out\n";
    for (more, bad) in [
        ("bridge_psk 00\nbridge_identity i\n", 4),
        ("bridge_capath /c\n", 4),
        ("start_type manual\n", 4),
    ] {
        let imported = read(&format!("{good}{more}"));
        assert_eq!(
            (imported.count("bridges"), imported.not_taken()),
            (0, vec![bad]),
            "{more}"
        );
    }
    assert_eq!(read("connection b\ntopic #\n").not_taken(), [1]);
    assert_eq!(
        read("listener 1883\naddress h\n").not_taken(),
        [2],
        "outside of any bridge"
    );
    let system = read(&format!("{good}bridge_capath /etc/ssl/certs/\n"));
    assert_eq!(system.at("bridges.0.addresses"), "[\"mqtts://h:1883\"]");
}
