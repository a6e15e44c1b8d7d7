//! Every key of EMQ 2.3's emq.conf and of the plugins that are spoken here, and the names that came before.

/// What is known of a key before its value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The import looks at it.
    Read,
    /// It has no meaning here.
    Nothing(&'static str),
    /// It cannot be taken: why, and what to do.
    Missing(&'static str, &'static str),
}

use Known::{Missing, Nothing, Read};

const CLUSTER: Known = Nothing("gateways are linked by bridges, not clustered");
const VM: Known = Nothing("there is no Erlang virtual machine");
const STATS: Known = Nothing("counters are kept always");
const POOL: Known = Nothing("there are no pools to be sized");
const SOCKET: Known = Nothing("buffers of sockets are the system's affair");
const TLS: Known = Nothing("TLS has one good way here");
const DTLS: Known = Missing(
    "what is said of DTLS is not taken over",
    "Write another [[coap]] for it.",
);
const LWM2M_DTLS: Known = Missing(
    "what is said of DTLS is not taken over",
    "Write another [[lwm2m]] for it; EMQ had it one port higher.",
);
const API: Known = Missing(
    "EMQ's API is on listeners with protocol = \"http\" here, and listeners.http serves this machine alone",
    "For others write its bind, with TLS (kind = \"tls\"), and make administrators or API keys: docs/api.md#compatible-apis.",
);
const OF_API: Known = Nothing("its listener is not taken over");
const SENDING: Known =
    Nothing("a client that does not read has bounded buffers, and is closed when memory is short");

/// Patterns: `$` stands for one part.
pub(super) const KEYS: &[(&str, Known)] = &[
    ("cluster.name", CLUSTER),
    ("cluster.discovery", Read),
    ("cluster.autoheal", CLUSTER),
    ("cluster.autoclean", CLUSTER),
    ("cluster.static.seeds", CLUSTER),
    ("cluster.mcast.$", CLUSTER),
    ("cluster.dns.$", CLUSTER),
    ("cluster.etcd.$", CLUSTER),
    ("cluster.k8s.$", CLUSTER),
    ("cluster.id", CLUSTER),
    ("cluster.multicast", CLUSTER),
    ("node.name", Read),
    ("node.cookie", CLUSTER),
    ("node.proto_dist", CLUSTER),
    ("node.ssl_dist_optfile", CLUSTER),
    ("node.dist_net_ticktime", CLUSTER),
    ("node.dist_listen_min", CLUSTER),
    ("node.dist_listen_max", CLUSTER),
    ("node.dist_buffer_size", CLUSTER),
    ("node.heartbeat", Nothing("systemd restarts the gateway")),
    ("node.smp", VM),
    ("node.kernel_poll", VM),
    ("node.async_threads", VM),
    ("node.process_limit", VM),
    ("node.max_ports", VM),
    ("node.max_ets_tables", VM),
    ("node.fullsweep_after", VM),
    ("node.crash_dump", VM),
    ("sasl", VM),
    ("sysmon.$", VM),
    ("log.dir", Nothing("each file has its own path")),
    ("log.console", Read),
    ("log.console.level", Read),
    ("log.console.file", Read),
    ("log.console.size", Read),
    ("log.console.count", Read),
    ("log.info.file", Read),
    ("log.info.size", Read),
    ("log.info.count", Read),
    ("log.error.file", Read),
    ("log.error.size", Read),
    ("log.error.count", Read),
    ("log.error.redirect", VM),
    (
        "log.error.messages_per_second",
        Nothing("log.max_repeats bounds lines of one kind"),
    ),
    ("log.crash", VM),
    ("log.crash.file", VM),
    ("log.syslog", Read),
    ("log.syslog.identity", Read),
    ("log.syslog.facility", Read),
    ("log.syslog.level", Read),
    ("mqtt.allow_anonymous", Read),
    ("mqtt.acl_nomatch", Read),
    ("mqtt.acl_file", Read),
    (
        "mqtt.cache_acl",
        Nothing("rules are cut down to each client's when it connects, and cost no cache"),
    ),
    ("mqtt.max_clientid_len", Read),
    ("mqtt.max_packet_size", Read),
    ("mqtt.keepalive_backoff", Read),
    ("mqtt.websocket_protocol_header", Read),
    ("mqtt.conn.force_gc_count", VM),
    ("mqtt.client.max_publish_rate", Read),
    ("mqtt.client.idle_timeout", Read),
    ("mqtt.client.enable_stats", STATS),
    ("mqtt.session.max_subscriptions", Read),
    ("mqtt.session.upgrade_qos", Read),
    ("mqtt.session.max_inflight", Read),
    (
        "mqtt.session.retry_interval",
        Nothing("a delivery is repeated on a new connection only"),
    ),
    ("mqtt.session.max_awaiting_rel", Read),
    (
        "mqtt.session.await_rel_timeout",
        Nothing("an identifier that waits for PUBREL waits as long as its session lasts"),
    ),
    ("mqtt.session.enable_stats", STATS),
    ("mqtt.session.collect_interval", STATS),
    ("mqtt.session.expiry_interval", Read),
    ("mqtt.session.ignore_loop_deliver", Read),
    ("mqtt.mqueue.type", Read),
    ("mqtt.mqueue.priority", Read),
    ("mqtt.mqueue.max_length", Read),
    (
        "mqtt.mqueue.low_watermark",
        Nothing("there is no alarm for one queue"),
    ),
    (
        "mqtt.mqueue.high_watermark",
        Nothing("there is no alarm for one queue"),
    ),
    ("mqtt.mqueue.store_qos0", Read),
    ("mqtt.broker.sys_interval", Read),
    ("mqtt.pubsub.$", POOL),
    (
        "mqtt.bridge.max_queue_len",
        Missing(
            "bridges of EMQ are started by its console and stand in no file",
            "Write each bridge: [[bridges]], with queue.max_messages.",
        ),
    ),
    (
        "mqtt.bridge.ping_down_interval",
        Nothing("bridges have keep_alive and stalled_after"),
    ),
    ("mqtt.plugins.etc_dir", Read),
    ("mqtt.plugins.loaded_file", Read),
    ("listener.tcp.$", Read),
    ("listener.ssl.$", Read),
    ("listener.ws.$", Read),
    ("listener.wss.$", Read),
    ("listener.api.$", API),
    ("listener.api.$.$", OF_API),
    ("listener.api.$.access.$", OF_API),
    ("listener.$.$.acceptors", POOL),
    ("listener.$.$.max_clients", Read),
    (
        "listener.$.$.zone",
        Nothing("settings are by listener, not by zone"),
    ),
    ("listener.$.$.mountpoint", Read),
    ("listener.$.$.rate_limit", Read),
    ("listener.$.$.access.$", Read),
    ("listener.$.$.proxy_protocol", Read),
    ("listener.$.$.proxy_protocol_timeout", Read),
    ("listener.$.$.proxy_address_header", Read),
    ("listener.$.$.proxy_port_header", Read),
    ("listener.$.$.peer_cert_as_username", Read),
    ("listener.$.$.backlog", Read),
    ("listener.$.$.send_timeout", SENDING),
    ("listener.$.$.send_timeout_close", SENDING),
    ("listener.$.$.recbuf", SOCKET),
    ("listener.$.$.sndbuf", SOCKET),
    ("listener.$.$.buffer", SOCKET),
    ("listener.$.$.tune_buffer", SOCKET),
    ("listener.$.$.nodelay", Read),
    ("listener.$.$.reuseaddr", Nothing("it is always so")),
    ("listener.$.$.handshake_timeout", Read),
    ("listener.$.$.tls_versions", Read),
    ("listener.$.$.ciphers", Read),
    (
        "listener.$.$.dhfile",
        Nothing("keys are agreed on by elliptic curves alone"),
    ),
    ("listener.$.$.keyfile", Read),
    ("listener.$.$.certfile", Read),
    ("listener.$.$.cacertfile", Read),
    ("listener.$.$.verify", Read),
    ("listener.$.$.fail_if_no_peer_cert", Read),
    ("listener.$.$.secure_renegotiate", TLS),
    ("listener.$.$.reuse_sessions", TLS),
    ("listener.$.$.honor_cipher_order", TLS),
    // emq_auth_username, emq_auth_clientid
    ("auth.user.$.username", Read),
    ("auth.user.$.password", Read),
    ("auth.client.$.clientid", Read),
    ("auth.client.$.password", Read),
    // emq_retainer
    (
        "retainer.storage_type",
        Nothing("retained messages are on the disk"),
    ),
    ("retainer.max_message_num", Read),
    ("retainer.max_payload_size", Read),
    ("retainer.expiry_interval", Read),
    // emq_modules
    ("module.presence", Read),
    ("module.presence.qos", Read),
    ("module.subscription", Read),
    ("module.subscription.$.topic", Read),
    ("module.subscription.$.qos", Read),
    ("module.rewrite", Read),
    ("module.rewrite.rule.$", Read),
    // emq_sn
    ("mqtt.sn.port", Read),
    ("mqtt.sn.advertise_duration", Read),
    ("mqtt.sn.gateway_id", Read),
    ("mqtt.sn.enable_stats", STATS),
    ("mqtt.sn.enable_qos3", Read),
    ("mqtt.sn.predefined.topic.$", Read),
    ("mqtt.sn.username", Read),
    ("mqtt.sn.password", Read),
    // emq_stomp
    ("stomp.listener", Read),
    ("stomp.listener.acceptors", POOL),
    ("stomp.listener.max_clients", Read),
    ("stomp.listener.ssl", Read),
    ("stomp.listener.certfile", Read),
    ("stomp.listener.keyfile", Read),
    ("stomp.listener.cacertfile", Read),
    ("stomp.listener.verify", Read),
    ("stomp.listener.fail_if_no_peer_cert", Read),
    ("stomp.default_user.login", Read),
    ("stomp.default_user.passcode", Read),
    ("stomp.allow_anonymous", Read),
    ("stomp.frame.max_headers", Read),
    ("stomp.frame.max_header_length", Read),
    ("stomp.frame.max_body_length", Read),
    // emq_coap
    ("coap.port", Read),
    ("coap.keepalive", Read),
    ("coap.enable_stats", STATS),
    ("coap.certfile", DTLS),
    ("coap.keyfile", DTLS),
    // emq_lwm2m, and what it has since 3.0
    ("lwm2m.port", Read),
    (
        "lwm2m.keepalive",
        Nothing("how long a device may be silent its lifetime says"),
    ),
    ("lwm2m.certfile", LWM2M_DTLS),
    ("lwm2m.keyfile", LWM2M_DTLS),
    ("lwm2m.xml_dir", Read),
    ("lwm2m.lifetime_min", Read),
    ("lwm2m.lifetime_max", Read),
    ("lwm2m.qmode_time_window", Read),
    ("lwm2m.auto_observe", Read),
    (
        "lwm2m.lb",
        Missing(
            "nothing is known of EMQ's proxy for CoAP",
            "Let devices reach the gateway itself.",
        ),
    ),
    ("lwm2m.mountpoint", Read),
    ("lwm2m.topics.command", Read),
    ("lwm2m.topics.response", Read),
    ("lwm2m.topics.notify", Read),
    ("lwm2m.topics.register", Read),
    ("lwm2m.topics.update", Read),
];

/// Beginnings of names that came before those of today.
const OLD_NAMES: [(&str, &str); 10] = [
    ("mqtt.client_idle_timeout", "mqtt.client.idle_timeout"),
    ("mqtt.session.expired_after", "mqtt.session.expiry_interval"),
    ("mqtt.queue.qos0", "mqtt.mqueue.store_qos0"),
    ("mqtt.queue", "mqtt.mqueue"),
    ("mqtt.listener.tcp", "listener.tcp.default"),
    ("mqtt.listener.ssl", "listener.ssl.default"),
    ("mqtt.listener.https", "listener.wss.default"),
    ("mqtt.listener.http", "listener.ws.default"),
    ("mqtt.listener.wss", "listener.wss.default"),
    ("mqtt.listener.ws", "listener.ws.default"),
];

/// The key of today.
pub(super) fn today(key: &str) -> String {
    let replaced = |(old, today): &(&str, &str)| {
        let rest = key.strip_prefix(old)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{today}{rest}"))
    };
    OLD_NAMES
        .iter()
        .find_map(replaced)
        .unwrap_or_else(|| key.to_owned())
}

pub(super) fn known(key: &str) -> Option<Known> {
    let found = KEYS.iter().find(|(pattern, _)| fits(pattern, key));
    found.map(|(_, known)| *known)
}

fn fits(pattern: &str, key: &str) -> bool {
    let (mut pattern, mut key) = (pattern.split('.'), key.split('.'));
    loop {
        match (pattern.next(), key.next()) {
            (None, None) => return true,
            (Some("$"), Some(_)) => {}
            (Some(part), Some(same)) if part == same => {}
            _ => return false,
        }
    }
}

/// Whether the value is nobody's business.
pub(super) fn is_secret(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or_default();
    ["password", "passwd", "passcode", "secret", "cookie", "token"]
        .iter()
        .any(|word| last.contains(word))
        && last != "password_hash"
}
