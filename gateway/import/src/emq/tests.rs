//! What real folders hold, and what breaks importers, each by its name.

use super::*;
use crate::disk::{Disk, Imported};
use std::path::PathBuf;

const MAIN: &str = "/opt/emq/etc/emq.conf";
const LIST: &str = "/opt/emq/data/loaded_plugins";
const USUAL: &str = "emq_recon.\nemq_modules.\nemq_retainer.\n";

fn import_with(text: &str, others: &[(&str, &str)]) -> Imported {
    let mut disk = Disk::default();
    for (path, text) in others.iter().chain(&[(MAIN, text)]) {
        disk.0.insert(PathBuf::from(path), text.as_bytes().to_vec());
    }
    let target = Target {
        data_dir: "/data".into(),
        datagram_lists: &["mqttsn", "coap", "lwm2m"],
        secrets_dir: "/data/secrets".into(),
        node: "plant-7".into(),
    };
    let import = import(&disk, Path::new("/opt/emq"), None, &target).unwrap();
    let code = |line: &str| line.split('#').next().is_some_and(|code| !code.trim().is_empty());
    let said: usize = others
        .iter()
        .chain(&[(MAIN, text)])
        .filter(|(path, _)| path.ends_with(".conf") && !path.ends_with("acl.conf"))
        .map(|(_, text)| text.lines().filter(|line| code(line)).count())
        .sum();
    let told = import
        .report
        .lines
        .iter()
        .filter(|line| line.file != Path::new(LIST));
    assert_eq!(told.count(), said, "each key is told once");
    Imported::new(import, MAIN)
}

fn read(text: &str) -> Imported {
    import_with(text, &[(LIST, USUAL)])
}

#[test]
fn every_key_is_known_once_and_has_a_fate() {
    let mut names: Vec<&str> = keys().collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for pattern in keys() {
        let key = if pattern.starts_with("listener.$.$") {
            pattern.replacen('$', "tcp", 1).replacen('$', "e", 1)
        } else {
            pattern.to_owned()
        };
        let key = key.replace('$', "1");
        let plugin = match key.split('.').collect::<Vec<_>>()[..] {
            ["auth", "user", ..] => "emq_auth_username",
            ["auth", "client", ..] => "emq_auth_clientid",
            ["retainer", ..] => "emq_retainer",
            ["module", ..] => "emq_modules",
            ["mqtt", "sn", ..] => "emq_sn",
            ["stomp", ..] => "emq_stomp",
            ["coap", ..] => "emq_coap",
            ["lwm2m", ..] => "emq_lwm2m",
            _ => "",
        };
        let line = format!("{key} = 1\n");
        let imported = match plugin {
            "" => read(&format!("listener.tcp.e = 1883\n{line}")),
            plugin => {
                let (file, list) = (
                    format!("/opt/emq/etc/plugins/{plugin}.conf"),
                    format!("{USUAL}{plugin}.\n"),
                );
                import_with("", &[(LIST, &list), (&file, &line)])
            }
        };
        for line in &imported.import.report.lines {
            assert!(
                !line.fate.to_string().contains("no directive of this name"),
                "{line}"
            );
        }
    }
    assert_eq!(read("mqtt.max_clientid_lne = 7\n").not_taken(), [1]);
}

#[test]
fn listeners_have_their_limits_access_rules_and_mount_points() {
    let text = "listener.tcp.external = 1883\nlistener.tcp.external.max_clients = 100\nlistener.tcp.external.access.2 = deny all\n\
                listener.tcp.external.access.1 = allow 10.0.0.0/8\nlistener.tcp.external.mountpoint = ext/\nlistener.tcp.external.rate_limit = 100,10\n\
                listener.tcp.external.proxy_protocol = on\nlistener.tcp.external.proxy_protocol_timeout = 5s\nlistener.tcp.external.acceptors = 16\n\
                listener.tcp.external.zone = external\nlistener.ws.external = 127.0.0.1:8083\nlistener.tcp.in = ::1:11883\nlistener.tcp.in.nodelay = false\n\
                listener.tcp.in.backlog = 512\nlistener.tcp.gone.backlog = 5\nlistener.tcp.external.max_clients = 200\n";
    let imported = read(text);
    for (path, value) in [
        ("listeners.0.name", "tcp-external"),
        ("listeners.0.bind", "0.0.0.0:1883"),
        ("listeners.0.max_connections", "200"),
        ("listeners.0.access", "[\"allow 10.0.0.0/8\", \"deny all\"]"),
        ("listeners.0.mount_point", "ext/"),
        ("listeners.0.max_client_bytes_per_second", "10240"),
        ("listeners.0.client_burst_bytes", "102400"),
        ("listeners.0.proxy_protocol", "true"),
        ("listeners.0.proxy_timeout", "5s"),
        ("listeners.1.bind", "[::1]:11883"),
        ("listeners.1.tcp_nodelay", "false"),
        ("listeners.1.backlog", "512"),
        ("listeners.2.kind", "ws"),
        ("auth.anonymous", "nowhere"),
    ] {
        assert_eq!(imported.at(path), value, "{path}");
    }
    assert_eq!((imported.listeners(), imported.not_taken()), (3, vec![]));
    assert_eq!(
        imported.line(2),
        format!("has no meaning here: {MAIN}:16 overrules it")
    );
    assert!(imported.line(15).contains("there is no listener.tcp.gone"));
    let faulty = read("listener.tcp.e = 1883\nlistener.tcp.e.access.1 = allow everybody\n");
    assert_eq!(
        (faulty.at("listeners.0.access"), faulty.not_taken()),
        ("[\"deny all\"]".into(), vec![2])
    );
}

#[test]
fn tls_files_may_be_in_folders_that_the_package_would_have_filled_in() {
    let files = [
        (LIST, USUAL),
        ("/opt/emq/etc/certs/key.pem", ""),
        ("/opt/emq/etc/certs/cert.pem", ""),
        ("/opt/emq/etc/certs/ca.pem", ""),
    ];
    let text = "listener.ssl.external = 8883\nlistener.ssl.external.keyfile = {{ platform_etc_dir }}/certs/key.pem\n\
                listener.ssl.external.certfile = etc/certs/cert.pem\nlistener.ssl.external.cacertfile = {{platform_etc_dir}}/certs/ca.pem\n\
                listener.ssl.external.verify = verify_peer\nlistener.ssl.external.fail_if_no_peer_cert = true\nlistener.ssl.external.handshake_timeout = 15\n\
                listener.ssl.external.tls_versions = tlsv1.2,tlsv1.1\nlistener.ssl.external.peer_cert_as_username = cn\n";
    let imported = import_with(text, &files);
    for (path, value) in [
        ("listeners.0.kind", "tls"),
        ("listeners.0.tls.key", "/opt/emq/etc/certs/key.pem"),
        ("listeners.0.tls.certificate", "/opt/emq/etc/certs/cert.pem"),
        ("listeners.0.tls.client_ca", "/opt/emq/etc/certs/ca.pem"),
        ("listeners.0.tls.require_client_certificate", "true"),
        ("listeners.0.handshake_timeout", "15s"),
        ("listeners.0.tls.min_version", "1.2"),
        ("auth.listeners.0.name", "tls-external"),
        ("auth.listeners.0.certificate.user_name", "common_name"),
    ] {
        assert_eq!(imported.at(path), value, "{path}");
    }
    assert!(
        imported
            .line(2)
            .contains("the package would have filled in the folder")
    );
    let open = import_with(&text.replace("verify_peer", "verify_none"), &files);
    assert_eq!(open.at("listeners.0.tls.client_ca"), "");
    // A user's password was asked for, too.
    let list = format!("{USUAL}emq_auth_username.\n");
    let mut with_users = files;
    with_users[0] = (LIST, &list);
    let imported = import_with(text, &with_users);
    assert_eq!(
        (imported.at("auth.listeners"), imported.not_taken()),
        (String::new(), vec![9])
    );
}

#[test]
fn what_cannot_be_as_safe_as_it_was_is_left_out() {
    for (more, bad) in [
        ("listener.ssl.e = 8883\n", 1),
        (
            "listener.ssl.e = 8883\nlistener.ssl.e.certfile = c\nlistener.ssl.e.keyfile = k\nlistener.ssl.e.verify = verify_peer\n",
            4,
        ),
        ("listener.tcp.e = 1883\nlistener.tcp.e.mountpoint = %u/\n", 2),
        ("listener.tcp.e = everywhere\n", 1),
    ] {
        let imported = read(more);
        assert_eq!(
            (imported.listeners(), imported.not_taken()),
            (0, vec![bad]),
            "{more}"
        );
    }
}

/// What the gateway has without a configuration is there after an import, too, where its port is free.
#[test]
fn the_web_ui_is_there_and_told_of() {
    let told = |imported: &Imported| imported.import.report.remarks.join("\n");
    let imported =
        read("listener.tcp.external = 1883\nlistener.api.mgmt = 8080\nlistener.api.mgmt.acceptors = 4\n");
    for (key, value) in [
        ("listeners.1.name", "http"),
        ("listeners.1.protocol", "http"),
        ("listeners.1.bind", "127.0.0.1:18083"),
    ] {
        assert_eq!(imported.at(key), value, "{key}");
    }
    assert!(
        told(&imported).contains("listeners.http.bind = \"127.0.0.1:18083\""),
        "{}",
        told(&imported)
    );
    assert_eq!(imported.not_taken(), [2]);
    assert!(
        imported.line(2).contains("protocol = \"http\""),
        "{}",
        imported.line(2)
    );

    let taken = read("listener.tcp.external = 18083\n");
    assert_eq!((taken.count("listeners"), taken.listeners()), (1, 1));
    assert!(
        told(&taken).contains("listeners.tcp-external has their usual port 18083"),
        "{}",
        told(&taken)
    );
}

#[test]
fn the_broker_is_taken() {
    let text = "node.name = emq@10.0.0.7\nmqtt.max_packet_size = 64KB\nmqtt.max_clientid_len = 1024\nmqtt.client.idle_timeout = 30s\n\
                mqtt.session.max_inflight = 0\nmqtt.session.expiry_interval = 1h30m\nmqtt.mqueue.type = priority\nmqtt.mqueue.priority = a/1=10,b=8\n\
                mqtt.mqueue.max_length = infinity\nmqtt.mqueue.store_qos0 = true\nmqtt.broker.sys_interval = 60\nlog.console.level = warning\n\
                mqtt.session.upgrade_qos = on\nmqtt.keepalive_backoff = 0.75\nnode.cookie = hush\n";
    let imported = read(text);
    for (path, value) in [
        ("node", "emq@10.0.0.7"),
        ("mqtt.max_packet_size", "65536"),
        ("mqtt.max_client_id_bytes", "1024"),
        ("mqtt.connect_timeout", "30s"),
        ("bus.max_inflight", "65535"),
        ("mqtt.v3_session_expiry", "1h 30m"),
        ("bus.priorities.0.topic", "a/1"),
        ("bus.priorities.1.priority", "8"),
        ("bus.max_queued_messages", "0"),
        ("bus.store_qos0", "true"),
        ("sys.interval", "60s"),
        ("log.level", "warn"),
        ("bus.upgrade_qos", "true"),
    ] {
        assert_eq!(imported.at(path), value, "{path}");
    }
    assert_eq!(imported.not_taken(), [0; 0]);
    assert!(!format!("{:?}", imported.import.report).contains("hush"));
}

#[test]
fn the_log_goes_where_it_went() {
    let text = "log.console = file\nlog.console.file = log/console.log\nlog.console.size = 100\nlog.console.count = 3\nlog.error.file = log/error.log\n\
                log.error.size = 10485760\nlog.syslog = on\nlog.syslog.facility = local0\nlog.syslog.identity = emq\n";
    let imported = read(text);
    for (path, value) in [
        ("log.stderr", "false"),
        ("log.file.path", "/opt/emq/log/console.log"),
        ("log.file.max_bytes", "4096"),
        ("log.file.keep", "3"),
        ("log.syslog.facility", "local0"),
    ] {
        assert_eq!(imported.at(path), value, "{path}");
    }
    assert_eq!(imported.not_taken(), [5, 9]);
    let usual = read(
        "log.console = console\nlog.error.file = {{ platform_log_dir }}/error.log\nlog.error.size = 10485760\n",
    );
    assert_eq!(
        (usual.at("log.file.path"), usual.at("log.stderr")),
        ("/opt/emq/log/error.log".into(), "true".into())
    );
    assert_eq!(usual.not_taken(), [0; 0]);
}

#[test]
fn old_names_are_understood() {
    let text = "mqtt.listener.tcp = 1883\nmqtt.listener.tcp.max_clients = 7\nmqtt.listener.http = 8083\nmqtt.client_idle_timeout = 30\n\
                mqtt.session.expired_after = 1d\nmqtt.queue.max_length = 100\nmqtt.queue.qos0 = false\nmqtt.pubsub.by_clientid = true\n";
    let imported = read(text);
    for (path, value) in [
        ("listeners.0.name", "tcp-default"),
        ("listeners.0.max_connections", "7"),
        ("listeners.1.kind", "ws"),
        ("mqtt.connect_timeout", "30s"),
        ("mqtt.v3_session_expiry", "1d"),
        ("bus.max_queued_messages", "100"),
        ("bus.store_qos0", "false"),
    ] {
        assert_eq!(imported.at(path), value, "{path}");
    }
    assert_eq!(imported.not_taken(), [0; 0]);
}

#[test]
fn what_no_rule_matches_is_allowed_unless_it_is_denied() {
    let acl = ("/opt/emq/etc/acl.conf", "{deny, all}.\n");
    let file = "mqtt.acl_file = {{ platform_etc_dir }}/acl.conf\nmqtt.allow_anonymous = true\n";
    let with = |more: &str| import_with(&format!("{file}{more}"), &[(LIST, USUAL), acl]);
    let allow = with("mqtt.acl_nomatch = allow\n");
    assert_eq!(
        (allow.at("auth.acl_file.path"), allow.at("auth.acl_file.format")),
        ("/opt/emq/etc/acl.conf".into(), "emq".into())
    );
    assert_eq!(
        (allow.at("auth.acl_file.nomatch"), allow.at("auth.anonymous")),
        ("allow".into(), "everywhere".into())
    );
    assert_eq!(
        with("mqtt.acl_nomatch = deny\n").at("auth.acl_file.nomatch"),
        "deny"
    );
    assert_eq!(
        with("mqtt.acl_nomatch = perhaps\n").at("auth.acl_file.nomatch"),
        "deny"
    );
    assert_eq!(with("").at("auth.acl_file.nomatch"), "allow");
    assert_eq!(
        read("mqtt.allow_anonymous = true\n").at("auth.acl.0.effect"),
        "allow"
    );
}

#[test]
fn a_plugin_on_the_disk_that_is_not_loaded_says_nothing() {
    let files = [
        (LIST, USUAL),
        (
            "/opt/emq/etc/plugins/emq_auth_username.conf",
            "auth.user.1.username = admin\nauth.user.1.password = hunter2\n",
        ),
        (
            "/opt/emq/etc/plugins/emq_auth_mysql.conf",
            "auth.mysql.server = 127.0.0.1:3306\n",
        ),
        ("/opt/emq/etc/plugins/emq_sn.conf", "mqtt.sn.port = 1884\n"),
    ];
    let imported = import_with("mqtt.allow_anonymous = true\n", &files);
    assert_eq!(imported.users(), [""; 0]);
    assert_eq!(
        (
            imported.at("auth.anonymous"),
            imported.at("auth.chain"),
            imported.count("mqttsn") + imported.count("coap")
        ),
        ("everywhere".into(), String::new(), 0)
    );
    assert_eq!(imported.not_taken(), [0; 0]);
    assert!(
        imported
            .fate("auth.mysql.server")
            .contains("emq_auth_mysql is not loaded")
    );
    // Where nobody knows whether it is, nobody comes in.
    let unknown = import_with("mqtt.allow_anonymous = true\n", &files[1..]);
    assert_eq!(
        (unknown.at("auth.anonymous"), unknown.at("auth.chain")),
        ("nowhere".into(), "[]".into())
    );
    assert!(
        unknown
            .import
            .report
            .remarks
            .iter()
            .any(|remark| remark.contains("--loaded-plugins"))
    );
}

#[test]
fn a_plugin_that_decides_and_is_none_of_ours_keeps_the_doors_shut() {
    for plugin in [
        "emq_auth_ldap",
        "emq_auth_http",
        "emq_auth_mysql",
        "emq_auth_pgsql",
        "emq_auth_redis",
        "emq_auth_mongo",
        "emq_auth_jwt",
        "my_plugin",
    ] {
        let list = format!("{USUAL}{plugin}.\n");
        let file = format!("/opt/emq/etc/plugins/{plugin}.conf");
        let imported = import_with(
            "mqtt.allow_anonymous = true\n",
            &[(LIST, &list), (&file, "auth.x.password = hunter2\n")],
        );
        assert_eq!(
            (imported.at("auth.anonymous"), imported.at("auth.chain")),
            ("nowhere".into(), "[]".into()),
            "{plugin}"
        );
        assert_eq!(imported.at("auth.acl.0.effect"), "deny", "{plugin}");
        assert!(imported.fate(plugin).contains("NOT TAKEN"), "{plugin}");
        assert!(!format!("{:?}{}", imported.import.report, imported.import.config).contains("hunter2"));
    }
    let list = format!("{USUAL}emq_dashboard.\nemq_statsd.\n");
    let harmless = import_with("mqtt.allow_anonymous = true\n", &[(LIST, &list)]);
    assert_eq!(
        (harmless.at("auth.anonymous"), harmless.not_taken()),
        ("everywhere".into(), vec![4, 5])
    );
}

#[test]
fn users_and_client_ids_of_plugins_are_taken() {
    let list = format!("{USUAL}emq_auth_username.\nemq_auth_clientid.\n");
    let files = [
        (LIST, list.as_str()),
        (
            "/opt/emq/etc/plugins/emq_auth_username.conf",
            "auth.user.1.username = admin\nauth.user.1.password = public\nauth.user.2.username = joe\n",
        ),
        (
            "/opt/emq/etc/plugins/emq_auth_clientid.conf",
            "auth.client.1.clientid = pump\nauth.client.1.password = hunter2 # x\n",
        ),
    ];
    let imported = import_with("", &files);
    assert_eq!((imported.users(), imported.not_taken()), (vec!["admin"], vec![3]));
    assert_eq!(
        (
            imported.at("auth.client_ids.0.id"),
            imported.at("auth.client_ids.0.password")
        ),
        ("pump".into(), "hunter2".into())
    );
    assert!(imported.import.has_secrets);
    let report = format!("{:?}", imported.import.report);
    assert!(
        !report.contains("hunter2") && !report.contains("public"),
        "{report}"
    );
}

#[test]
fn retained_messages_presence_and_rewriting_depend_on_plugins() {
    let files = [
        (LIST, USUAL),
        (
            "/opt/emq/etc/plugins/emq_retainer.conf",
            "retainer.max_payload_size = 64KB\nretainer.max_message_num = 9\nretainer.expiry_interval = 2h\n",
        ),
        (
            "/opt/emq/etc/plugins/emq_modules.conf",
            "module.presence = on\nmodule.presence.qos = 0\nmodule.subscription = on\nmodule.subscription.1.topic = $client/%c\n\
             module.subscription.1.qos = 1\nmodule.rewrite = on\nmodule.rewrite.rule.1 = x/+ ^x/y/(.+)$ z/y/$1\n",
        ),
    ];
    let imported = import_with("", &files);
    for (path, value) in [
        ("bus.retained.max_payload_bytes", "65536"),
        ("bus.retained.max_count", "9"),
        ("bus.retained.expiry", "2h"),
        ("sys.presence", "true"),
        ("sys.presence_qos", "0"),
        ("bus.auto_subscribe.0.topic", "$client/%c"),
        ("bus.auto_subscribe.0.qos", "1"),
        ("bus.rewrite.0.target", "z/y/$1"),
    ] {
        assert_eq!(imported.at(path), value, "{path}");
    }
    let without = import_with("", &[(LIST, "emq_recon.\n")]);
    assert_eq!(
        (without.at("bus.retained.available"), without.at("sys.presence")),
        ("false".into(), "false".into())
    );
    let mut off = files;
    let text = files[2].1.replace("= on", "= off");
    off[2].1 = &text;
    let off = import_with("", &off);
    assert_eq!(
        (
            off.at("sys.presence"),
            off.at("bus.auto_subscribe"),
            off.at("bus.rewrite")
        ),
        ("false".into(), String::new(), String::new())
    );
}

#[test]
fn the_mqtt_sn_gateway_is_taken() {
    let list = format!("{USUAL}emq_sn.\n");
    let conf = "mqtt.sn.port = 1884\nmqtt.sn.advertise_duration = 900\nmqtt.sn.gateway_id = 2\nmqtt.sn.enable_qos3 = on\n\
                mqtt.sn.predefined.topic.0 = reserved\nmqtt.sn.predefined.topic.1 = /a/b\nmqtt.sn.username = sn\nmqtt.sn.password = hunter2\n";
    let file = "/opt/emq/etc/plugins/emq_sn.conf";
    let imported = import_with("", &[(LIST, &list), (file, conf)]);
    for (path, value) in [
        ("mqttsn.0.bind", "0.0.0.0:1884"),
        ("mqttsn.0.gateway.advertise_interval", "900s"),
        ("mqttsn.0.gateway.gateway_id", "2"),
        ("mqttsn.0.gateway.qos_minus_one.enabled", "true"),
        ("mqttsn.0.gateway.qos_minus_one.username", "sn"),
        ("mqttsn.0.gateway.predefined", "[{ id = 1, topic = \"/a/b\" }]"),
        ("mqttsn.0.gateway.default_username", "sn"),
        ("mqttsn.0.gateway.default_password", "hunter2"),
    ] {
        assert_eq!(imported.at(path), value, "{path}");
    }
    assert!(!format!("{:?}", imported.import.report).contains("hunter2"));
    // Nobody would be told that they are not let in.
    let nameless = import_with("", &[(LIST, &list), (file, "mqtt.sn.enable_qos3 = on\n")]);
    assert_eq!(
        (
            nameless.at("mqttsn.0.gateway.qos_minus_one.enabled"),
            nameless.not_taken()
        ),
        ("false".into(), vec![1])
    );
}

#[test]
fn the_stomp_listener_is_taken_with_its_user() {
    let list = format!("{USUAL}emq_stomp.\n");
    let conf = "stomp.listener = 61613\nstomp.listener.acceptors = 4\nstomp.listener.max_clients = 512\n\
                stomp.default_user.login = guest\nstomp.default_user.passcode = hunter2\nstomp.allow_anonymous = true\n\
                stomp.frame.max_headers = 10\nstomp.frame.max_header_length = 1024\nstomp.frame.max_body_length = 8192\n";
    let file = "/opt/emq/etc/plugins/emq_stomp.conf";
    let imported = import_with("", &[(LIST, &list), (file, conf)]);
    for (path, value) in [
        ("listeners.0.protocol", "stomp"),
        ("listeners.0.bind", "0.0.0.0:61613"),
        ("listeners.0.max_connections", "512"),
        ("auth.listeners.0.name", "stomp"),
        ("auth.listeners.0.users", "[\"guest\"]"),
        ("auth.listeners.0.anonymous", "everywhere"),
        ("auth.listeners.0.unknown_users", "refuse"),
        ("stomp.max_headers", "10"),
        ("stomp.max_header_bytes", "1024"),
        ("stomp.max_body_bytes", "8192"),
    ] {
        assert_eq!(imported.at(path), value, "{path}");
    }
    assert!(imported.not_taken().is_empty());
    assert!(!format!("{:?}{}", imported.import.report, imported.import.config).contains("hunter2"));

    let secure = format!("{conf}stomp.listener.ssl = on\n");
    let half = import_with("", &[(LIST, &list), (file, &secure)]);
    assert_eq!(half.not_taken().len(), 1, "TLS without a certificate is none");
    let files = format!("{secure}stomp.listener.certfile = etc/c.pem\nstomp.listener.keyfile = etc/k.pem\n");
    let whole = import_with("", &[(LIST, &list), (file, &files)]);
    assert_eq!(
        (whole.at("listeners.0.kind"), whole.at("listeners.0.tls.key")),
        ("tls".into(), "/opt/emq/etc/k.pem".into())
    );
}

#[test]
fn the_coap_server_is_taken() {
    let list = format!("{USUAL}emq_coap.\n");
    let file = "/opt/emq/etc/plugins/emq_coap.conf";
    let conf =
        "coap.port = 5683\ncoap.keepalive = 3600\ncoap.enable_stats = off\ncoap.certfile = etc/c.pem\n";
    let imported = import_with("", &[(LIST, &list), (file, conf)]);
    assert_eq!(imported.at("coap.0.bind"), "0.0.0.0:5683");
    assert_eq!(imported.at("coap.0.gateway.keep_alive"), "3600s");
    assert_eq!(imported.not_taken(), [4]);
}

const LWM2M: &str = "/opt/emq/etc/plugins/emq_lwm2m.conf";

fn lwm2m(conf: &str) -> Imported {
    let list = format!("{USUAL}emq_lwm2m.\n");
    import_with("", &[(LIST, &list), (LWM2M, conf)])
}

/// The file as EMQ 2.3 has it: DTLS is told, and that its applications have other words.
#[test]
fn the_lwm2m_server_is_taken() {
    let imported = lwm2m(
        "lwm2m.port = 5783\nlwm2m.keepalive = 120s\nlwm2m.certfile = etc/certs/cert.pem\nlwm2m.keyfile = etc/certs/key.pem\n\
         lwm2m.xml_dir = etc/lwm2m_xml\n",
    );
    assert_eq!(imported.at("lwm2m.0.bind"), "0.0.0.0:5783");
    assert_eq!(imported.at("lwm2m.0.gateway.objects"), "/opt/emq/etc/lwm2m_xml");
    assert_eq!(imported.not_taken(), [3, 4]);
    let told = format!("{:?}", imported.import.report);
    assert!(told.contains("lwm2m/{ep}/command"), "{told}");
    assert_eq!(lwm2m("").at("lwm2m.0.bind"), "0.0.0.0:5783");
    let none = lwm2m("lwm2m.port = many\nlwm2m.xml_dir = x\n");
    assert_eq!((none.count("lwm2m"), none.not_taken()), (0, vec![1]));
}

/// Lifetimes, queue mode and topics as the plugin has them since 3.0.
#[test]
fn the_lwm2m_server_keeps_lifetimes_and_topics() {
    let imported = lwm2m(
        "lwm2m.lifetime_min = 1s\nlwm2m.lifetime_max = 86400s\nlwm2m.qmode_time_window = 22\nlwm2m.auto_observe = /3/0, /3303\n\
         lwm2m.mountpoint = fleet/%e/\nlwm2m.topics.command = dn/#\nlwm2m.topics.response = up/resp\nlwm2m.lb = coaproxy\n",
    );
    for (path, value) in [
        ("min_lifetime", "1s"),
        ("max_lifetime", "86400s"),
        ("awake_window", "22s"),
        ("auto_observe", "[\"/3/0\", \"/3303\"]"),
        ("topics.prefix", "fleet/{ep}"),
        ("topics.command", "dn/#"),
        ("topics.response", "up/resp"),
    ] {
        assert_eq!(imported.at(&format!("lwm2m.0.gateway.{path}")), value, "{path}");
    }
    assert_eq!(imported.not_taken(), [8]);

    let whole = lwm2m(
        "lwm2m.mountpoint =\nlwm2m.topics.command = lwm2m/%e/dn/#\nlwm2m.topics.notify = lwm2m/%e/up/notify\n",
    );
    assert_eq!(whole.at("lwm2m.0.gateway.topics.prefix"), "lwm2m/{ep}");
    assert_eq!(whole.at("lwm2m.0.gateway.topics.notify"), "up/notify");
    assert_eq!(whole.not_taken(), [0; 0]);

    let odd = lwm2m(
        "lwm2m.mountpoint = %a/%e/\nlwm2m.topics.command = dn\nlwm2m.qmode_time_window = 0\nlwm2m.auto_observe = on\nlwm2m.lifetime_max = long\n",
    );
    assert_eq!(odd.not_taken(), [1, 2, 3, 4, 5]);
    let apart = lwm2m("lwm2m.topics.command = a/%e/dn\nlwm2m.topics.response = b/%e/up\n");
    assert_eq!(apart.not_taken(), [2]);
}

/// Whatever is changed in files that hold everything, they are read, what comes out is TOML, and each line is told.
#[test]
fn mutated_files_are_read_without_a_panic() {
    let mut whole = String::new();
    for key in keys() {
        for (name, value) in [
            ("tcp", "127.0.0.1:1883"),
            ("1", "10,20"),
            ("ssl", "{{ platform_etc_dir }}/x"),
            ("2", "on"),
        ] {
            whole += &format!("{} = {value}\n", key.replace('$', name));
        }
    }
    let mutated = |rng: &mut fastrand::Rng| {
        let mut bytes = whole.clone().into_bytes();
        for _ in 0..rng.usize(1..30) {
            headgate_fuzz::mutate(&mut bytes, b"\r\n\t #:,=./0\xff", rng);
        }
        bytes
    };
    let list = format!("{USUAL}emq_auth_username.\nemq_auth_clientid.\nemq_sn.\nemq_lwm2m.\n");
    headgate_fuzz::fuzz(mutated, |bytes| {
        let text = String::from_utf8_lossy(bytes).replace('\u{feff}', "");
        let mut files = vec![(LIST, list.as_str())];
        for plugin in [
            "/opt/emq/etc/plugins/emq_auth_username.conf",
            "/opt/emq/etc/plugins/emq_auth_clientid.conf",
            "/opt/emq/etc/plugins/emq_retainer.conf",
            "/opt/emq/etc/plugins/emq_modules.conf",
            "/opt/emq/etc/plugins/emq_sn.conf",
            LWM2M,
        ] {
            files.push((plugin, &text));
        }
        import_with(&text, &files);
    });
}
